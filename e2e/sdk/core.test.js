// @descope/core-js-sdk, the client under all of Descope's browser clients,
// against the emulator and against mounts of the kit. Both must look the same
// to it, but where the kit is stricter.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';

import {
  addUser, assertRefused, assertTokenAnswer, assertUser, claimsOf, Client, codeOf, control, emulator, env, example,
  headerOf, newLoginId, startKit, tampered, wrongCode,
} from './support.js';

const kits = await Promise.all(['body', 'session-in-body', 'cookies'].map((tokens) => startKit(tokens)));
after(() => kits.forEach((kit) => kit.stop()));

for (const target of [emulator, example, ...kits]) {
  test(target.name, async (t) => {
    await t.test('sign up, use, sign out', () => life(target));
    await t.test('a new authenticator', () => newAuthenticator(target));
    await t.test('refusals of sign-ups and sign-ins', () => refusedSignIns(target));
    await t.test('refusals of refresh tokens', () => refusedTokens(target));
    await t.test('a dead refresh token in store', () => deadTokenInStore(target));
    await t.test('sign out everywhere', () => signOutEverywhere(target));
    await t.test('a spent refresh token', () => spentToken(target));
    await t.test('tenants', () => tenants(target));
    await t.test('keys rotate', () => rotation(target));
  });
}

/** A new user, with the authenticator's key. The kit limits how many one network signs up. */
async function newUser() {
  const loginId = newLoginId();
  return { loginId, key: (await new Client(emulator).signUp(loginId)).key };
}

async function life(target) {
  const loginId = newLoginId();
  const c = new Client(target);

  const enrolment = await c.signUp(loginId, { name: 'Ann', email: loginId });
  assert.match(enrolment.key, /^[A-Z2-7]{32}$/);
  const url = new URL(enrolment.provisioningURL);
  assert.equal(url.protocol, 'otpauth:');
  assert.equal(url.searchParams.get('secret'), enrolment.key);
  assert.equal(Buffer.from(enrolment.image, 'base64').subarray(1, 4).toString(), 'PNG');
  assert.equal(await c.subject(), undefined);

  const first = await c.signIn(loginId, enrolment.key);
  assertTokenAnswer(first, target);
  assert.equal(first.firstSeen, true);
  assert.equal(first.user.TOTP, true);
  assert.deepEqual(first.user.loginIds, [loginId]);
  assert.equal(await c.subject(), first.user.userId);

  // What was issued, wherever it is now.
  const session = claimsOf(c.sessionToken);
  assert.equal(headerOf(c.sessionToken).alg, env.alg);
  assert.deepEqual([session.drn, session.sub, session.amr], ['DS', first.user.userId, ['totp']]);
  assert.match(session.rexp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.equal(Date.parse(session.rexp) / 1000, claimsOf(c.refreshToken).exp);
  assert.equal(claimsOf(c.refreshToken).drn, 'DSR');
  if (!target.sessionInCookie) assert.equal(c.sdk.isJwtExpired(c.session), false);

  const again = new Client(target);
  assert.equal((await again.signIn(loginId, enrolment.key)).firstSeen, false);

  for (let n = 0; n < 2; n++) {
    const before = c.refreshToken;
    const renewed = await c.renew();
    assertTokenAnswer(renewed, target);
    assert.equal(renewed.user.userId, first.user.userId);
    assert.equal(c.refreshToken !== before, env.rotate);
    assert.equal(await c.subject(), first.user.userId);
  }
  const tried = c.keep(await c.sdk.refresh(c.refresh, { dcs: 't', dcr: 't' }, undefined, true));
  assert.ok(tried.sessionExpiration > Date.now() / 1000);

  const me = await c.sdk.me(c.refresh);
  assert.equal(me.ok, true);
  assertUser(me.data);
  assert.deepEqual([me.data.name, me.data.email], ['Ann', loginId]);
  const history = await c.sdk.history(c.refresh);
  assert.equal(history.ok, true);
  assert.ok(Array.isArray(history.data) && history.data.length >= 2);
  assert.equal(history.data[0].userId, first.user.userId);
  assert.equal(typeof history.data[0].loginTime, 'number');
  const mine = await c.sdk.myTenants(true, c.refresh);
  assert.deepEqual(mine.data, { tenants: [] });

  const stolen = c.clone();
  const out = await c.sdk.logout(c.refresh);
  assert.equal(out.ok, true);
  assert.equal(typeof out.data, 'object');
  if (target.refreshInCookie) assert.equal(c.browser.cookies.size, 0, 'cookies are deleted');
  await assertNothingWorks(c, loginId);
  await assertNothingWorks(stolen, loginId);
  assert.equal((await again.renew()).user.userId, first.user.userId, 'the other session goes on');

  if (target.kit) {
    assert.equal((await c.sdk.logout(c.refresh)).ok, true, 'twice is no error');
  }
  const hidden = target.sessionInCookie && target.refreshInCookie;
  assert.equal(c.browser.tokensShown || again.browser.tokensShown, !hidden);
}

/** Requires every call that needs a session to be refused for want of one. */
async function assertNothingWorks(c, loginId) {
  const calls = {
    refresh: await c.sdk.refresh(c.refresh),
    me: await c.sdk.me(c.refresh),
    history: await c.sdk.history(c.refresh),
    myTenants: await c.sdk.myTenants(true, c.refresh),
    selectTenant: await c.sdk.selectTenant('acme', c.refresh),
    update: await c.sdk.totp.update(loginId, c.refresh),
  };
  for (const [name, res] of Object.entries(calls)) {
    assert.equal(res.ok, false, name);
    assert.equal(res.code, 401, name);
    assert.match(res.error.errorCode, /^E06(1004|1005|4001)$/, name);
  }
  const tried = await c.sdk.refresh(c.refresh, undefined, undefined, true);
  assert.deepEqual([tried.ok, tried.data], [true, {}]);
}

async function newAuthenticator(target) {
  const { loginId, key } = await newUser();
  const other = await newUser();
  const c = new Client(target);
  await c.signIn(loginId, key);
  await new Client(target).signIn(other.loginId, other.key);
  if (target.stepUpForUpdate) {
    assertRefused(await c.sdk.totp.update(loginId, c.refresh), 401, 'E061004', 'update without a step-up');
    c.keep(await c.sdk.totp.verify(loginId, codeOf(key), { stepup: true }, c.refresh));
  }

  const foreign = await c.sdk.totp.update(other.loginId, c.refresh);
  assertRefused(foreign, target.kit ? 403 : 401, 'E061004', 'update of another user');
  await new Client(target).signIn(other.loginId, other.key);

  const updated = await c.sdk.totp.update(loginId, c.refresh);
  assert.equal(updated.ok, true, JSON.stringify(updated.error));
  assert.notEqual(updated.data.key, key);
  await new Client(target).signIn(loginId, key); // until the new one is verified

  await c.signIn(loginId, updated.data.key);
  assert.equal((await c.renew()).user.TOTP, true);
  const old = await new Client(target).sdk.totp.verify(loginId, codeOf(key));
  assertRefused(old, 401, 'E061102', 'code of the old key');
}

async function refusedSignIns(target) {
  const loginId = newLoginId();
  const c = new Client(target);
  const { key } = await c.signUp(loginId);

  assertRefused(await c.sdk.totp.verify(loginId, wrongCode(key)), 401, 'E061102', 'wrong code');
  const unknown = await c.sdk.totp.verify(newLoginId(), '123456');
  if (target.kit) assertRefused(unknown, 401, 'E061102', 'unknown user, who looks like a wrong code');
  else assertRefused(unknown, 400, 'E062108', 'unknown user');
  assert.equal(await c.subject(), undefined);

  await c.signIn(loginId, key);
  assertRefused(await new Client(target).sdk.totp.signUp(loginId), 400, 'E062107', 'existing user');
}

async function refusedTokens(target) {
  const { loginId, key } = await newUser();
  const c = new Client(target);
  await c.signIn(loginId, key);

  const bad = { ...tampered(c.refreshToken), 'session token': c.sessionToken };
  for (const [what, token] of Object.entries(bad)) {
    const forger = new Client(target);
    forger.refreshToken = token;
    for (const [name, res] of Object.entries({
      refresh: await forger.sdk.refresh(forger.refresh),
      me: await forger.sdk.me(forger.refresh),
      update: await forger.sdk.totp.update(loginId, forger.refresh),
    })) {
      assert.equal(res.code, 401, `${name} with ${what}`);
      assert.match(res.error.errorCode, /^E06100[45]$/, `${name} with ${what}`);
    }
    const tried = await forger.sdk.refresh(forger.refresh, undefined, undefined, true);
    assert.deepEqual([tried.code, tried.data], [200, {}], what);
  }
  for (const [what, session] of Object.entries({ ...tampered(c.sessionToken), 'refresh token': c.refreshToken })) {
    const forger = new Client(target);
    if (target.sessionInCookie && target.kit) forger.browser.cookies.set('DS', session);
    else forger.session = session;
    assert.equal(await forger.subject(), undefined, `session of ${what}`);
  }
  const foreign = await c.sdk.httpClient.post('/v1/auth/refresh', {}, {
    headers: { Authorization: `Bearer P2somebodyelses000000000000A:${c.refreshToken}` },
  });
  assert.equal(foreign.status, 401);
  assert.equal((await foreign.json()).errorCode, 'E061004');

  assert.equal((await c.renew()).user.loginIds[0], loginId, 'none of it harms the owner');
}

// Descope's browser clients send the refresh token that they have stored with
// every call, a sign-in too.
async function deadTokenInStore(target) {
  const { loginId, key } = await newUser();
  const c = new Client(target);
  await c.signIn(loginId, key);
  const stale = c.clone();
  assert.equal((await c.sdk.logout(c.refresh)).ok, true);
  assert.equal((await stale.sdk.refresh(stale.refresh)).ok, false);

  const inHeader = stale.refreshToken;
  const forged = Object.values(tampered(inHeader))[0];
  for (const dead of [inHeader, forged, 'a.b.c']) {
    const res = await stale.sdk.totp.verify(loginId, codeOf(key), undefined, dead);
    const data = stale.keep(res);
    assert.deepEqual(data.user.loginIds, [loginId]);
    assert.equal(await stale.subject(), data.user.userId);
    await stale.renew();
  }
  const other = newLoginId();
  const res = await stale.sdk.httpClient.post('/v1/auth/totp/signup', { loginId: other }, { token: inHeader });
  assert.equal(res.status, 200, 'sign-up');
}

async function signOutEverywhere(target) {
  const { loginId, key } = await newUser();
  const [a, b] = [new Client(target), new Client(target)];
  await a.signIn(loginId, key);
  await b.signIn(loginId, key);
  const stolen = a.clone();

  const out = await a.sdk.logoutAll(a.refresh);
  assert.equal(out.ok, true, JSON.stringify(out.error));
  assert.equal(typeof out.data, 'object');
  for (const c of [a, b, stolen]) await assertNothingWorks(c, loginId);

  await a.signIn(loginId, key);
  await a.renew();
}

// With rotation a refresh token works once. The kit remembers what it became,
// because the answer may have been lost on its way.
async function spentToken(target) {
  const { loginId, key } = await newUser();
  const c = new Client(target);
  const { user } = await c.signIn(loginId, key);
  const late = c.clone();
  await c.renew();

  const res = await late.sdk.refresh(late.refresh);
  if (target.kit || !env.rotate) {
    assert.equal(late.keep(res).user.userId, user.userId);
  } else {
    assertRefused(res, 401, 'E064001', 'spent token');
  }
  if (!target.kit) return;
  const race = await Promise.all(Array.from({ length: 8 }, () => c.clone()).map((one) => one.renew()));
  race.forEach((data) => assert.equal(data.user.userId, user.userId));
}

async function tenants(target) {
  const loginId = await addUser({
    roles: ['reader'],
    tenants: { acme: { name: 'Acme', roles: ['admin'], permissions: ['write'] }, other: { name: 'Other' } },
  });
  const c = new Client(target);
  const first = await c.enter(loginId);
  assert.deepEqual(first.user.roleNames, ['reader']);
  assert.deepEqual(first.user.userTenants.map((x) => x.tenantId), ['acme', 'other']);
  const some = await c.sdk.myTenants(['acme'], c.refresh);
  assert.deepEqual(some.data.tenants.map((x) => [x.id, x.name]), [['acme', 'Acme']]);

  const selected = await c.sdk.selectTenant('acme', c.refresh);
  assertTokenAnswer(c.keep(selected), target);
  const claims = claimsOf(c.sessionToken);
  assert.equal(claims.dct, 'acme');
  if (!target.sessionInCookie) {
    assert.equal(c.sdk.getCurrentTenant(c.session), 'acme');
    assert.deepEqual(c.sdk.getTenants(c.session), ['acme', 'other']);
    assert.deepEqual(c.sdk.getJwtRoles(c.session), ['reader']);
    assert.deepEqual(c.sdk.getJwtRoles(c.session, 'acme'), ['admin']);
    assert.deepEqual(c.sdk.getJwtPermissions(c.session, 'acme'), ['write']);
  }
  assert.deepEqual((await c.sdk.myTenants(true, c.refresh)).data.tenants.map((x) => x.id), ['acme']);
  await c.renew();
  assert.equal(claimsOf(c.sessionToken).dct, 'acme', 'it stays');

  const foreign = await c.sdk.selectTenant('elsewhere', c.refresh);
  assertRefused(foreign, 400, target.kit ? 'E011003' : 'E011004', 'foreign tenant');
}

async function rotation(target) {
  const { loginId, key } = await newUser();
  const c = new Client(target);
  const { user } = await c.signIn(loginId, key);
  await control('rotate-keys', {});
  assert.equal(await c.subject(), user.userId, 'the old key still counts');
  // The kit asks for keys once a second at most, and others here rotate them, too.
  // Until it has the new one it cannot tell; what was spent is not lost.
  let res = await c.sdk.refresh(c.refresh);
  for (let n = 0; target.kit && n < 50 && res.code === 502; n++) {
    await setTimeout(100);
    res = await c.sdk.refresh(c.refresh);
  }
  c.keep(res);
  assert.equal(await c.subject(), user.userId);
}
