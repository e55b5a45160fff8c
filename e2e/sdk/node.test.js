// @descope/node-sdk against the emulator: the server's half, which checks tokens
// with the project's key set.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';

import nodeSdk from '@descope/node-sdk';

import {
  addUser, assertRefused, assertUser, claimsOf, codeNow, codeOf, control, env, headerOf, newLoginId, sign, tampered,
  wrongCode,
} from './support.js';

const newSdk = (options) => nodeSdk({ projectId: env.projectId, baseUrl: env.emulator, ...options });

/** The tokens of an answer, which in cookies only the node client can see. */
function tokensOf(res) {
  assert.equal(res.ok, true, JSON.stringify(res.error));
  assert.equal(res.data.sessionJwt === '', env.cookies);
  const cookies = res.data.cookies.join(', ');
  const session = res.data.sessionJwt || /(?:^|, )DS=([^;]*)/.exec(cookies)[1];
  return { session, refresh: res.data.refreshJwt };
}

async function signUp(sdk, loginId = newLoginId()) {
  const { data } = await sdk.totp.signUp(loginId, { name: 'Ann' });
  const res = await sdk.totp.verify(loginId, codeOf(data.key));
  return { loginId, key: data.key, res, ...tokensOf(res) };
}

test('sign up, validate, refresh, sign out', async () => {
  const sdk = newSdk();
  const { loginId, key, res, session, refresh } = await signUp(sdk);
  assert.equal(res.data.firstSeen, true);
  assert.match(res.data.cookies.join(), /DSR=[^;]+;/);
  assertUser(res.data.user);

  const valid = await sdk.validateSession(session);
  assert.equal(valid.jwt, session);
  assert.equal(valid.token.sub, res.data.user.userId);
  assert.equal(valid.token.iss, env.projectId);

  const renewed = await sdk.refreshSession(refresh);
  assert.equal(renewed.token.drn, 'DS');
  assert.equal(renewed.token.sub, valid.token.sub);
  assert.equal(Boolean(renewed.refreshJwt), env.rotate);
  await sdk.validateSession(renewed.jwt);
  const current = renewed.refreshJwt || refresh;

  // A valid session is not renewed, an expired one is.
  const same = await sdk.validateAndRefreshSession(renewed.jwt, current);
  assert.equal(same.jwt, renewed.jwt);
  const past = Math.floor(Date.now() / 1000) - 60;
  const expired = sign(fs.readFileSync(env.keyFile), { ...claimsOf(session), iat: past - 600, exp: past });
  await assert.rejects(sdk.validateSession(expired), /exp/);
  const both = await sdk.validateAndRefreshSession(expired, current);
  assert.equal(both.token.sub, valid.token.sub);
  assert.ok(both.token.exp > Date.now() / 1000);
  const last = both.refreshJwt || current;

  const me = await sdk.me(last);
  assert.equal(me.ok, true);
  assertUser(me.data);
  assert.deepEqual(me.data.loginIds, [loginId]);
  const history = await sdk.history(last);
  assert.equal(history.data[0].userId, valid.token.sub);

  const updated = await sdk.totp.update(loginId, last);
  assert.equal(updated.ok, true, JSON.stringify(updated.error));
  tokensOf(await sdk.totp.verify(loginId, codeOf(updated.data.key)));
  assertRefused(await sdk.totp.verify(loginId, codeOf(key)), 401, 'E061102', 'the old key');

  const out = await sdk.logout(last);
  assert.equal(out.ok, true);
  assertRefused(await sdk.refresh(last), 401, 'E064001', 'refresh after logout');
  assertRefused(await sdk.me(last), 401, 'E064001', 'me after logout');
  await assert.rejects(sdk.refreshSession(last), /Token revoked/);
  await assert.rejects(sdk.validateAndRefreshSession(expired, last), /Token revoked/);
  await sdk.validateSession(both.jwt); // lives on, as documented
});

test('refusals', async () => {
  const sdk = newSdk();
  const { loginId, key, session, refresh } = await signUp(sdk);
  const other = await signUp(sdk);
  assertRefused(await sdk.totp.verify(loginId, wrongCode(key)), 401, 'E061102', 'wrong code');
  assertRefused(await sdk.totp.verify(newLoginId(), '123456'), 400, 'E062108', 'unknown user');
  assertRefused(await sdk.totp.signUp(loginId), 400, 'E062107', 'existing user');
  assertRefused(await sdk.totp.update(other.loginId, refresh), 401, 'E061004', 'foreign loginId');
  assertRefused(await sdk.refresh(session), 401, 'E061005', 'session for a refresh token');
  assertRefused(await sdk.refresh(), 401, 'E061005', 'no refresh token');

  for (const [what, token] of Object.entries(tampered(session))) {
    await assert.rejects(sdk.validateSession(token), what);
    await assert.rejects(sdk.validateAndRefreshSession(token, ''), what);
    const renewed = await sdk.validateAndRefreshSession(token, other.refresh);
    other.refresh = renewed.refreshJwt || other.refresh;
  }
  for (const [what, token] of Object.entries(tampered(refresh))) {
    await assert.rejects(sdk.refreshSession(token), what);
    assertRefused(await sdk.refresh(token), 401, 'E061005', what);
  }
  const stranger = newSdk({ projectId: 'P2somebodyelses000000000000A' });
  assertRefused(await stranger.refresh(refresh), 401, 'E061004', 'foreign project');
  await assert.rejects(stranger.validateSession(session));
  await assert.rejects(newSdk().validateSession(sign(fs.readFileSync(env.keyFile), { ...claimsOf(session), iss: 'P2other' })), /iss/);
});

test('sign out everywhere', async () => {
  const sdk = newSdk();
  const { loginId, key, refresh } = await signUp(sdk);
  const second = tokensOf(await sdk.totp.verify(loginId, codeOf(key)));
  assert.notEqual(second.refresh, refresh);
  assert.equal((await sdk.logoutAll(refresh)).ok, true);
  for (const token of [refresh, second.refresh]) {
    assertRefused(await sdk.refresh(token), 401, 'E064001', 'refresh after logoutAll');
  }
  tokensOf(await sdk.totp.verify(loginId, codeOf(key), undefined, refresh)); // with a dead token along
});

test('keys', async () => {
  const sdk = newSdk();
  const before = await signUp(sdk);
  await sdk.validateSession(before.session);
  await control('rotate-keys', {});
  const after = await signUp(sdk);
  assert.notEqual(headerOf(after.session).kid, headerOf(before.session).kid);
  assert.equal(headerOf(after.session).alg, env.alg);
  await sdk.validateSession(after.session);
  await newSdk().validateSession(before.session);

  const claims = { ...claimsOf(before.session), roles: ['of', 'my', 'choice'] };
  const own = await newSdk().validateSession(sign(fs.readFileSync(env.keyFile), claims));
  assert.equal(newSdk().validateRoles(own, ['choice']), true);
});

test('roles, permissions and tenants', async () => {
  const sdk = newSdk();
  const loginId = await addUser({
    roles: ['reader'], permissions: ['see'], tenant: 'acme',
    tenants: { acme: { name: 'Acme', roles: ['admin'], permissions: ['write'] } },
  });
  const { session } = tokensOf(await sdk.totp.verify(loginId, await codeNow(loginId)));
  const info = await sdk.validateSession(session);
  assert.equal(sdk.validateRoles(info, ['reader']), true);
  assert.equal(sdk.validateRoles(info, ['admin']), false);
  assert.equal(sdk.validatePermissions(info, ['see']), true);
  assert.equal(sdk.validateTenantRoles(info, 'acme', ['admin']), true);
  assert.equal(sdk.validateTenantPermissions(info, 'acme', ['write']), true);
  assert.equal(sdk.validateTenantRoles(info, 'other', ['admin']), false);
});

test('step-up and a second factor', async () => {
  const sdk = newSdk();
  const { loginId, key, refresh } = await signUp(sdk);
  const up = tokensOf(await sdk.totp.verify(loginId, codeOf(key), { stepup: true, customClaims: { amount: 5 } }, refresh));
  const claims = (await sdk.validateSession(up.session)).token;
  assert.equal(claims.su, true);
  assert.deepEqual(claims.nsec, { amount: 5 });
  const mfa = tokensOf(await sdk.totp.verify(loginId, codeOf(key), { mfa: true }, refresh));
  assert.deepEqual((await sdk.validateSession(mfa.session)).token.amr, ['totp', 'mfa']);
  assertRefused(await sdk.totp.verify(loginId, codeOf(key), { stepup: true }), 401, 'E061005', 'step-up of nobody');
});
