// Descope's browser clients delete their tokens on any 4xx of these calls. So
// whatever happens to Descope, the kit must answer none: a 4xx would sign people
// out by our trouble. Nor may it answer what the clients repeat for ten seconds.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';

import { addUser, Client, codeNow, control, emulator, seen, startKit } from './support.js';

const calls = {
  '/v1/auth/refresh': (c) => c.sdk.refresh(c.refresh),
  '/v1/auth/try-refresh': (c) => c.sdk.refresh(c.refresh, undefined, undefined, true),
  '/v1/auth/me': (c) => c.sdk.me(c.refresh),
  '/v1/auth/me/tenants': (c) => c.sdk.myTenants(true, c.refresh),
  '/v1/auth/me/history': (c) => c.sdk.history(c.refresh),
};

// The kit asks Descope for a refresh in both cases.
const upstream = (path) => path.replace('try-refresh', 'refresh');

const faults = {
  'rate limit': { status: 429, body: '{"errorCode":"E130429","errorDescription":"rate limit","errorMessage":"slow down"}' },
  'rate limit at the edge': { status: 429, body: 'error code: 1015' },
  'server error': { status: 500, body: '{"errorCode":"E000000"}' },
  'bad gateway': { status: 502, body: '<html>' },
  'unavailable': { status: 503 },
  'gateway timeout': { status: 504 },
  'edge error': { status: 520, body: 'error code: 520' },
  'firewall': { status: 403, body: '<html>Attention Required!</html>' },
  'login page of a network': { status: 200, body: '<html>Welcome to our hotel</html>' },
  'redirect': { status: 302 },
  'wrong path': { status: 404, body: 'not found' },
  '401 of a proxy': { status: 401, body: '{"error":"unauthorized"}' },
  'management key changed': { status: 401, body: '{"errorCode":"E061004","errorMessage":"Unauthorized request"}' },
  'odd refusal': { status: 400, body: '{"errorCode":"E011003","errorMessage":"Request is invalid"}' },
  'no JSON': { status: 200, body: '{"sessionJwt":' },
  'connection lost': { drop: true, times: -1 },
};

// Go's HTTP client repeats a GET whose connection was lost, which harms nothing.
const attempts = (path, fault) => (fault.drop && !path.endsWith('refresh') && !path.endsWith('tenants') ? [1, 2] : [1]);

const clientOn = (target, token) => {
  const c = new Client(target);
  c.refreshToken = token;
  return c;
};

/** A user of the emulator, signed in. */
async function newUser() {
  const loginId = await addUser();
  const c = new Client(emulator);
  await c.enter(loginId);
  return { loginId, token: c.refreshToken };
}

function assertKeepsTokens(res, what) {
  assert.equal(res.ok, false, what);
  assert.ok([500, 502, 504].includes(res.code), `${what}: ${res.code} ${JSON.stringify(res.error)}`);
  assert.equal(res.response.retries, undefined, what);
  assert.ok(res.error.errorCode && res.error.errorMessage, what);
}

for (const tokens of ['body', 'cookies']) {
  for (const [path, call] of Object.entries(calls)) {
    test(`${path}, tokens in ${tokens}`, async (t) => {
      for (const [name, fault] of Object.entries(faults)) {
        await t.test(name, async () => {
          const { token } = await newUser();
          const kit = await startKit(tokens); // each fault finds a kit that knows of no other
          const c = clientOn(kit, token);
          await control('reset', {});
          await control('fail', { path: upstream(path), ...fault });
          const before = [...c.browser.cookies];
          assertKeepsTokens(await call(c), name);
          if (!fault.drop) { // net/http itself may repeat a call on a connection that was closed
            assert.ok(attempts(path, fault).includes(await seen(upstream(path))), 'no call is repeated');
          }
          assert.deepEqual([...c.browser.cookies], before, 'cookies stay');
          kit.stop();
          await control('reset', {});
          const late = clientOn(emulator, token);
          assert.equal((await late.sdk.refresh(late.refresh)).ok, true, 'and so does the session');
        });
      }
    });
  }
}

test('Descope hangs', async () => {
  const tries = Object.entries(calls).flatMap(([path, call]) => ['body', 'cookies'].map((tokens) => ({ path, call, tokens })));
  for (const path of Object.keys(calls)) await control('fail', { path: upstream(path), delayMs: 60_000, times: 4 });
  await Promise.all(tries.map(async ({ path, call, tokens }) => {
    const { token } = await newUser();
    const kit = await startKit(tokens);
    const began = Date.now();
    assertKeepsTokens(await call(clientOn(kit, token)), path);
    assert.ok(Date.now() - began < 45_000, path); // before Descope would have answered
    kit.stop();
  }));
  await control('reset', {});
});

test('Descope cannot be reached at all', async () => {
  const { token } = await newUser();
  for (const tokens of ['body', 'cookies']) {
    const kit = await startKit(tokens, 'http://127.0.0.1:1');
    for (const [path, call] of Object.entries(calls)) {
      for (let n = 0; n < 7; n++) assertKeepsTokens(await call(clientOn(kit, token)), path);
    }
    kit.stop();
  }
});

// Whatever code it is said with: once others are answered it is the user's own, and the
// client hears of it, instead of being left with tokens that are dead.
test('one user is refused', async () => {
  const refusals = [{ status: 403, body: '{"errorCode":"E062504"}' }, { status: 400, body: '{"errorCode":"E112102"}' }];
  const refused = [];
  for (const tokens of ['body', 'cookies']) {
    for (const fault of refusals) {
      const kit = await startKit(tokens);
      const c = clientOn(kit, (await newUser()).token);
      await control('fail', { path: '/v1/auth/refresh', ...fault });
      const what = `${tokens}, ${fault.body}`;
      assertKeepsTokens(await c.sdk.refresh(c.refresh), what);
      const other = clientOn(kit, (await newUser()).token);
      assert.equal((await other.sdk.refresh(other.refresh)).ok, true, what);
      refused.push({ kit, c, fault, what });
    }
  }
  await setTimeout(10_500); // until the second question
  for (const { kit, c, fault, what } of refused) {
    await control('fail', { path: '/v1/auth/refresh', ...fault });
    const res = await c.sdk.refresh(c.refresh);
    assert.deepEqual([res.ok, res.code], [false, 401], what);
    assert.equal(c.browser.cookies.size, 0, `${what}: no cookie is left`);
    kit.stop();
  }
  await control('reset', {});
});

test('keys cannot be fetched', async () => {
  for (const tokens of ['body', 'cookies']) {
    const { token } = await newUser();
    const kit = await startKit(tokens);
    await control('fail', { path: '/v2/keys', status: 503, times: -1 });
    for (const path of ['/v1/auth/refresh', '/v1/auth/try-refresh']) {
      assertKeepsTokens(await calls[path](clientOn(kit, token)), path);
    }
    kit.stop();
    await control('reset', {});
  }
});

test('keys have rotated, and the kit has not seen it yet', async () => {
  for (const tokens of ['body', 'cookies']) {
    const { token } = await newUser();
    const kit = await startKit(tokens);
    const c = clientOn(kit, token);
    c.keep(await c.sdk.refresh(c.refresh));
    await control('rotate-keys', {});
    const fresh = clientOn(kit, (await newUser()).token);
    // At once it may not tell, for want of the new key; soon it can.
    for (const [path, call] of Object.entries(calls)) {
      let res = await call(fresh);
      for (let n = 0; n < 100 && !res.ok; n++) {
        assertKeepsTokens(res, path);
        await setTimeout(100);
        res = await call(fresh);
      }
      assert.equal(res.ok, true, `${path}: ${JSON.stringify(res.error)}`);
      if (path.endsWith('refresh')) fresh.keep(res);
    }
    kit.stop();
  }
});

test('a rate limit on sign-in is told', async () => {
  const { loginId } = await newUser();
  const kit = await startKit('cookies');
  await control('fail', { path: '/v1/auth/totp/verify', ...faults['rate limit'] });
  const res = await new Client(kit).sdk.totp.verify(loginId, await codeNow(loginId));
  assert.equal(res.code, 429);
  assert.equal(res.error.errorCode, 'E130429');
  assert.ok(res.error.retryAfter > 0);
  kit.stop();
});

test('a refusal is one', async () => {
  for (const tokens of ['body', 'cookies']) {
    const { token } = await newUser();
    await new Client(emulator).sdk.logout(token);
    const kit = await startKit(tokens);
    for (const path of Object.keys(calls)) {
      const res = await calls[path](clientOn(kit, token));
      if (path === '/v1/auth/try-refresh') assert.deepEqual([res.code, res.data], [200, {}]);
      else assert.equal(res.code, 401, path);
    }
    kit.stop();
  }
});
