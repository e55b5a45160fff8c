// What the tests share: the authenticator app, a browser's cookies, and the
// programs around it. The Go test beside this file starts those and says in the
// environment where they are.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import crypto from 'node:crypto';
import readline from 'node:readline';

import coreSdk from '@descope/core-js-sdk';

export const env = {
  emulator: process.env.EMULATOR, // URL
  example: process.env.EXAMPLE, // URL
  kitserver: process.env.KITSERVER, // program
  projectId: process.env.PROJECT_ID,
  alg: process.env.ALG,
  rotate: process.env.ROTATE === 'true',
  cookies: process.env.TOKENS === 'cookies', // what the emulator does with tokens
  keyFile: process.env.KEY_FILE, // the emulator's signing key
  kid: process.env.KID,
};

/** A login id that no other test has. */
export const newLoginId = () => `${crypto.randomUUID()}@example.com`;

// --- the emulator's control API

export async function control(name, body) {
  const res = await fetch(`${env.emulator}/_emulator/${name}`, {
    method: body === undefined ? 'GET' : 'POST',
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await res.json();
  assert.equal(res.status, 200, JSON.stringify(answer));
  return answer;
}

/** A new user, whose codes the emulator tells. */
export async function addUser(user = {}) {
  const loginId = newLoginId();
  await control('users', { loginId, ...user });
  return loginId;
}

/** The code that is valid now. */
export const codeNow = async (loginId) => (await control(`code?loginId=${encodeURIComponent(loginId)}`)).code;

/** How many requests to path the emulator has seen. */
export const seen = async (path) => (await control('requests'))[path] ?? 0;

// --- the authenticator app, RFC 6238

function base32(text) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let bits = '';
  for (const c of text) bits += alphabet.indexOf(c).toString(2).padStart(5, '0');
  return Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
}

function codeOfStep(key, step) {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = crypto.createHmac('sha1', base32(key)).update(counter).digest();
  const at = mac[mac.length - 1] & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1e6).padStart(6, '0');
}

const step = () => Math.floor(Date.now() / 30_000);

/** The code that the app shows now. */
export const codeOf = (key) => codeOfStep(key, step());

/** A code that no app with one of the keys shows about now. */
export function wrongCode(...keys) {
  const right = new Set();
  for (const key of keys) for (let d = -3; d <= 3; d++) right.add(codeOfStep(key, step() + d));
  let code = 0;
  while (right.has(String(code).padStart(6, '0'))) code++;
  return String(code).padStart(6, '0');
}

// --- tokens

export const headerOf = (token) => JSON.parse(Buffer.from(token.split('.')[0], 'base64url'));
export const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

/** Other tokens that a forger might make of one. */
export function tampered(token) {
  const [header, payload, signature] = token.split('.');
  const encode = (o) => Buffer.from(JSON.stringify(o)).toString('base64url');
  const other = signature[10] === 'A' ? 'B' : 'A';
  return {
    'other signature': `${header}.${payload}.${signature.slice(0, 10)}${other}${signature.slice(11)}`,
    'other claims': `${header}.${encode({ ...claimsOf(token), sub: 'U2someoneelse00000000000000A' })}.${signature}`,
    'no signature': `${encode({ ...headerOf(token), alg: 'none' })}.${payload}.`,
  };
}

/** The emulator's own signature, by the key that it was started with. */
export function sign(key, claims) {
  const encode = (o) => Buffer.from(JSON.stringify(o)).toString('base64url');
  const input = `${encode({ alg: env.alg, kid: env.kid, typ: 'JWT' })}.${encode(claims)}`;
  const signature = crypto.sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}

// --- a browser

const tokenPattern = /eyJ[\w-]*\.eyJ[\w-]*\.[\w-]*/;

/**
 * The cookies of one browser and a fetch that uses them. As in a browser,
 * scripts, here the SDK, cannot see Set-Cookie.
 */
export class Browser {
  cookies = new Map();
  tokensShown = false; // whether a script could have read a token

  fetch = async (url, options = {}) => {
    const headers = new Headers(options.headers);
    if (options.credentials === 'include' && this.cookies.size > 0) {
      headers.set('Cookie', [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; '));
    }
    const res = await fetch(url, { ...options, headers });
    const lines = res.headers.getSetCookie();
    if (options.credentials === 'include') lines.forEach((line) => this.#store(line, url));
    const body = await res.text();
    this.tokensShown ||= tokenPattern.test(body);
    const visible = new Headers(res.headers);
    visible.delete('Set-Cookie');
    return new Response([204, 304].includes(res.status) ? null : body, { status: res.status, headers: visible });
  };

  #store(line, url) {
    const [pair, ...rest] = line.split('; ');
    const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
    const attributes = Object.fromEntries(rest.map((a) => [a.split('=')[0].toLowerCase(), a.split('=')[1] ?? true]));
    assert.equal(attributes.httponly, true, `${name} can be read by scripts`);
    assert.match(attributes.samesite, String(url).startsWith(env.emulator) ? /^None$/ : /^(Lax|Strict)$/);
    assert.equal(attributes.path, '/');
    if (Number(attributes['max-age']) <= 0 || value === '') this.cookies.delete(name);
    else this.cookies.set(name, value);
  }
}

/** One user's browser or app: an SDK, and what it keeps between calls. */
export class Client {
  constructor(target) {
    this.target = target;
    this.browser = new Browser();
    this.sdk = coreSdk({ projectId: env.projectId, baseUrl: target.baseUrl, fetch: this.browser.fetch });
    this.session = undefined; // as the SDK sees them: not at all in cookies
    this.refresh = undefined;
  }

  /** Keeps the tokens of an answer, which must be a success. */
  keep(res) {
    assert.equal(res.ok, true, JSON.stringify(res.error));
    this.session = res.data.sessionJwt || this.session;
    this.refresh = res.data.refreshJwt || this.refresh;
    return res.data;
  }

  async signUp(loginId, user) {
    const res = await this.sdk.totp.signUp(loginId, user);
    assert.equal(res.ok, true, JSON.stringify(res.error));
    return res.data;
  }

  async signIn(loginId, key) {
    return this.keep(await this.sdk.totp.verify(loginId, codeOf(key)));
  }

  /** Signs somebody in whose key the test does not have. */
  async enter(loginId) {
    return this.keep(await this.sdk.totp.verify(loginId, await codeNow(loginId)));
  }

  async renew() {
    return this.keep(await this.sdk.refresh(this.refresh));
  }

  /** The refresh token in force, wherever it is. */
  get refreshToken() {
    return this.refresh ?? this.browser.cookies.get('DSR');
  }

  set refreshToken(token) {
    if (this.target.refreshInCookie) this.browser.cookies.set('DSR', token);
    else this.refresh = token;
  }

  /** The session token, likewise. */
  get sessionToken() {
    return this.session ?? this.browser.cookies.get('DS');
  }

  /** A second client with the same tokens, as a thief would have. */
  clone() {
    const c = new Client(this.target);
    Object.assign(c, { session: this.session, refresh: this.refresh });
    c.browser.cookies = new Map(this.browser.cookies);
    return c;
  }

  /** The subject of the session, as the target sees it; undefined without one. */
  subject() {
    return this.target.subject(this);
  }
}

// --- where an SDK can be pointed

/** The emulator, which stands for Descope. */
export const emulator = {
  name: 'emulator',
  kit: false,
  baseUrl: env.emulator,
  sessionInCookie: env.cookies,
  refreshInCookie: env.cookies,
  async subject(client) {
    const res = await client.sdk.httpClient.post('/v1/auth/validate', {}, { token: client.sessionToken });
    return res.ok ? (await res.json()).sub : undefined;
  },
};

/** The kit with pages around it, in the example. */
export const example = {
  name: 'example',
  kit: true,
  baseUrl: `${env.example}/account`,
  sessionInCookie: true,
  refreshInCookie: true,
  stepUpForUpdate: true,
  subject: (client) => protectedPath(client, `${env.example}/orders`, async (res) => (await res.text()).match(/<code>(U\w+)<\/code>/)[1]),
};

async function protectedPath(client, url, read = async (res) => (await res.json()).subject) {
  const headers = client.session ? { Authorization: `Bearer ${client.session}` } : {};
  const res = await client.browser.fetch(url, { headers, credentials: client.session ? 'omit' : 'include' });
  if (res.ok) return read(res);
  assert.equal(res.status, 401);
  return undefined;
}

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill()));

/** A kit of our own that delivers tokens in "cookies", "session-in-body" or "body". */
export async function startKit(tokens, upstream = env.emulator) {
  const args = ['-project', env.projectId, '-base-url', upstream, '-tokens', tokens];
  const child = spawn(env.kitserver, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  running.add(child);
  const lines = readline.createInterface({ input: child.stdout });
  const line = await new Promise((resolve, reject) => {
    lines.once('line', resolve);
    child.once('error', reject);
    child.once('exit', () => reject(new Error('kitserver ended')));
  });
  lines.close();
  // A test that fails does not stop its kit; that must not keep this process.
  for (const handle of [child, child.stdin, child.stdout]) handle.unref();
  const url = line.replace('listening on ', '');
  return {
    name: `kit, tokens in ${tokens}`,
    kit: true,
    baseUrl: `${url}/auth`,
    sessionInCookie: tokens === 'cookies',
    refreshInCookie: tokens !== 'body',
    subject: (client) => protectedPath(client, `${url}/session`),
    stop: () => {
      running.delete(child);
      child.kill();
    },
  };
}

// --- what an answer should be

/** Requires a refusal, with what Descope's clients read of one. */
export function assertRefused(res, status, errorCode, what) {
  assert.equal(res.ok, false, what);
  assert.equal(res.code, status, `${what}: ${JSON.stringify(res.error)}`);
  assert.equal(res.error.errorCode, errorCode, what);
  assert.ok(res.error.errorDescription, what);
  assert.ok(res.error.errorMessage, what);
}

/** Requires the members that Descope's clients read of tokens that are answered. */
export function assertTokenAnswer(data, target) {
  const now = Date.now() / 1000;
  assert.ok(data.sessionExpiration > now && data.sessionExpiration <= now + 601, data.sessionExpiration);
  assert.ok(data.cookieExpiration > now + 86_400, data.cookieExpiration);
  assert.ok(data.cookieMaxAge > 86_400, data.cookieMaxAge);
  assert.equal(data.cookiePath, '/');
  assert.equal(typeof data.firstSeen, 'boolean');
  if (target.sessionInCookie) assert.equal(data.sessionJwt, '');
  else assert.equal(claimsOf(data.sessionJwt).exp, data.sessionExpiration);
  if (target.refreshInCookie) assert.equal(data.refreshJwt, '');
  assertUser(data.user);
}

/** Requires the members of a user whose spelling Descope's clients depend on. */
export function assertUser(user) {
  assert.deepEqual(
    ['TOTP', 'SAML', 'OAuth', 'SCIM', 'OIDC'].filter((name) => !(name in user)),
    [],
  );
  for (const name of ['loginIds', 'roleNames', 'userTenants', 'ssoAppIds', 'permissions', 'externalIds']) {
    assert.ok(Array.isArray(user[name]), name);
  }
  assert.match(user.userId, /^U[0-9A-Za-z]{27}$/);
  assert.equal(user.status, 'enabled');
  assert.equal(typeof user.createdTime, 'number');
}
