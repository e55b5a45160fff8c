// Details of the wire that Descope's clients depend on without saying so.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { addUser, Client, emulator, env, example, startKit } from './support.js';

const kit = await startKit('body');
after(() => kit.stop());

async function send(target, method, path, { token, body, headers } = {}) {
  const res = await fetch(target.baseUrl + path, {
    method,
    body,
    headers: { Authorization: `Bearer ${env.projectId}${token ? `:${token}` : ''}`, 'Content-Type': 'application/json', ...headers },
    redirect: 'manual',
  });
  const text = await res.text();
  return { status: res.status, text, data: JSON.parse(text), headers: res.headers };
}

async function signedIn(target) {
  const c = new Client(target);
  await c.enter(await addUser());
  return c;
}

test('key set', async () => {
  for (const path of [`/v2/keys/${env.projectId}`, `/${env.projectId}/.well-known/jwks.json`]) {
    const res = await fetch(env.emulator + path);
    assert.equal(res.status, 200);
    const { keys } = await res.json();
    assert.ok(keys.length > 0);
    for (const key of keys) {
      assert.deepEqual([key.alg, key.use, key.kty], [env.alg, 'sig', env.alg === 'RS256' ? 'RSA' : 'EC']);
      assert.ok(key.kid);
    }
  }
});

for (const target of [emulator, example, kit]) {
  test(target.name, async (t) => {
    await t.test('errors are JSON with an errorCode', async () => {
      for (const [method, path, options, status] of [
        ['POST', '/v1/auth/refresh', { body: '{}' }, 401],
        ['GET', '/v1/auth/me', {}, 401],
        ['POST', '/v1/auth/totp/verify', { body: '{}' }, 400],
        ['POST', '/v1/auth/totp/verify', { body: '{' }, 400],
        ['POST', '/v1/auth/totp/signup', { body: '{"loginId":""}' }, 400],
        ['GET', '/v1/auth/refresh', {}, 405],
        ['POST', '/v1/auth/unheard-of', { body: '{}' }, 404],
        ['POST', '/v1/auth/refresh', { body: '{}', headers: { Authorization: 'Bearer P2somebodyelses000000000000A' } }, 401],
      ]) {
        const res = await send(target, method, path, options);
        assert.equal(res.status, status, `${method} ${path}: ${res.text}`);
        assert.match(res.data.errorCode, /^E\d{6}$/);
        assert.ok(res.data.errorDescription && res.data.errorMessage);
        assert.match(res.headers.get('Content-Type'), /^application\/(problem\+)?json/);
      }
    });

    await t.test('bodies may be empty or hold more than is known', async () => {
      for (const body of [undefined, '', '{}', '{"fpData":{"x":1},"externalToken":""}']) {
        const paths = ['/v1/auth/refresh', '/v1/auth/refresh?dcs=t&dcr=f', '/v1/auth/try-refresh', '/v1/auth/logout'];
        // Descope's Go client, after a base URL that ends in a slash. Around the
        // kit here is a ServeMux, which redirects that.
        if (!target.kit) paths.push('//v1/auth/refresh');
        for (const path of paths) {
          const c = await signedIn(target);
          const cookies = [...c.browser.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
          const res = await send(target, 'POST', path, { token: c.refresh, body, headers: cookies ? { Cookie: cookies } : {} });
          assert.equal(res.status, 200, `${path} with ${body}: ${res.text}`);
          assert.equal(typeof res.data, 'object');
          assert.equal('sessionExpiration' in res.data && res.data.sessionExpiration > 0, !path.endsWith('logout'));
        }
      }
    });

    await t.test('try-refresh of nobody is an empty object', async () => {
      for (const token of [undefined, 'a.b.c']) {
        const res = await send(target, 'POST', '/v1/auth/try-refresh', { token, body: '{}' });
        assert.deepEqual([res.status, res.text.trim()], [200, '{}']);
      }
    });

    await t.test('the parts of the Authorization header', async () => {
      const c = await signedIn(target);
      const token = c.refreshToken;
      for (const value of [`Bearer ${env.projectId}:${token}`, `bearer ${env.projectId}:${token}`, `Bearer ${env.projectId}:${token}:K2key`]) {
        const res = await send(target, 'GET', '/v1/auth/me', { headers: { Authorization: value } });
        assert.equal(res.status, 200, `${value}: ${res.text}`);
      }
    });
  });
}
