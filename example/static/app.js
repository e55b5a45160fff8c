// The browser's half of the flows: it sends forms as JSON to the kit's handlers
// and says in words what came of it. It never sees a token; those are in
// HttpOnly cookies.
"use strict";

const $ = (id) => document.getElementById(id);

// ---- calls

// A Problem is an answer that is an error. Its code is that of the kit's problem
// document, or "offline" if there was no answer.
class Problem extends Error {
  constructor(code, status = 0, field = "", wait = 0) {
    super(code);
    Object.assign(this, { code, status, field, wait });
  }
}

// send calls this server and returns its JSON. It rejects with a Problem.
async function send(method, path, body) {
  const request = { method, signal: AbortSignal.timeout(20_000) };
  if (body) {
    request.headers = { "Content-Type": "application/json" };
    request.body = JSON.stringify(body);
  }
  let response, answer;
  try {
    response = await fetch(path, request);
    answer = await response.json();
  } catch {
    throw new Problem("offline", response?.status);
  }
  if (!response.ok) {
    const wait = Number(response.headers.get("Retry-After")) || 0;
    throw new Problem(answer.code, response.status, answer.field, wait);
  }
  return answer;
}

const signUp = (loginId, name) =>
  send("POST", "/auth/v1/auth/totp/signup", name ? { loginId, user: { name } } : { loginId });
const verify = (loginId, code) => send("POST", "/auth/v1/auth/totp/verify", { loginId, code }).then(tellTabs);
// stepUp is verify by somebody who is signed in: the session that there is gets
// what the guards of some pages ask for, for a while.
const stepUp = (loginId, code) =>
  send("POST", "/auth/v1/auth/totp/verify", { loginId, code, loginOptions: { stepup: true } }).then(tellTabs);
const update = (loginId) => send("POST", "/auth/v1/auth/totp/update", { loginId });
const me = () => send("GET", "/auth/v1/auth/me");
const logout = () => send("POST", "/auth/v1/auth/logout", {}).finally(tellTabs);
const logoutAll = () => send("POST", "/auth/v1/auth/logoutall", {}).then(tellTabs);
const session = () => send("GET", "/api/session");
const savePayout = (account) => send("POST", "/payout", { account });

// Other tabs of this browser share the cookies: they are told to look again.
const tabs = new BroadcastChannel("session");
function tellTabs(answer) {
  tabs.postMessage("changed");
  return answer;
}

// ---- words

const words = {
  session_ended: "The session was ended elsewhere: on another device, or by an administrator.",
  no_session: "You signed out in another window.",
  no_refresh_token: "You signed out in another window.",
  session_expired: "Your session has run out.",
  invalid_token: "Your session is not valid here.",
  invalid_refresh_token: "Your session is not valid here.",
  foreign_project: "Your session belongs to another project.",
  login_page_protected: "The sign-in page asks for a session itself. Whoever runs this site has to mend that.",
  conflicting_cookies: "This browser held sessions of more than one user. To be safe, none of them was used.",
  stale_token: "This page is older than what your browser has by now. Load it again.",
  other_user: "This browser held sessions of more than one user. To be safe, none of them was used.",
  step_up_required: "This needs a code that you have typed just now.",
  mfa_required: "This needs a second way of signing in.",
  invalid_code: "That code does not fit this login ID. Codes change every 30 seconds and work once: wait for the next one, and check that the clock of your phone is right.",
  user_exists: "Somebody has signed up with this login ID already. If that was you, sign in instead.",
  too_many_requests: "Too many attempts.",
  unavailable: "Descope, which signs people in here, cannot be reached just now. Nothing has changed.",
  refresh_refused: "Your session could not be renewed just now.",
  missing_field: "Please fill this in.",
  invalid_field: "This is not a value that can be used here.",
  malformed_body: "The server did not understand what this page sent. Reload the page.",
  unsupported_media_type: "The server did not understand what this page sent. Reload the page.",
  body_too_large: "That is too long. Please shorten it.",
  cross_origin: "This page and the server do not belong together. Open the page anew from its own address.",
  foreign_login_id: "This login ID is not yours.",
  forbidden: "You may not do this.",
  missing_role: "You may not do this: it needs a role that you do not have.",
  missing_permission: "You may not do this: it needs a permission that you do not have.",
  refused: "Descope did not accept this.",
  not_found: "The server does not know this call. Reload the page.",
  method_not_allowed: "The server does not know this call. Reload the page.",
  internal: "Something went wrong on the server. Try again.",
  offline: "The server cannot be reached. Check your connection and try again.",
};

const fieldWords = {
  loginId: { missing_field: "Please type your login ID.", invalid_field: "A login ID has at most 256 characters, all of them printable." },
  code: { missing_field: "Please type the code that your app shows.", invalid_field: "A code is made of digits only, usually six." },
  account: { invalid_field: "An account number has 4 to 34 letters and digits." },
};

function inWords(problem) {
  const text = fieldWords[problem.field]?.[problem.code] ?? words[problem.code] ?? words.internal;
  return problem.wait ? `${text} Try again in ${duration(problem.wait)}.` : text;
}

function duration(seconds) {
  if (seconds === 1) return "a second";
  return seconds < 120 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
}

function clock(ms) {
  const seconds = Math.ceil(ms / 1000);
  const part = (n) => String(n % 60).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return (hours ? `${hours}:${part(Math.floor(seconds / 60))}` : Math.floor(seconds / 60)) + ":" + part(seconds);
}

// ---- waiting, and what comes of it

// whileBusy runs work while button says that it waits. A Problem ends up in
// error, an element with role "alert", and the focus where it can be mended.
async function whileBusy(button, error, work) {
  if (button.disabled) return;
  const label = button.textContent;
  error.textContent = "";
  button.disabled = true;
  button.textContent = $("status").textContent = button.dataset.busy;
  let problem;
  try {
    await work();
  } catch (e) {
    if (!(e instanceof Problem)) throw e;
    problem = e;
  } finally {
    button.disabled = false;
    button.textContent = label;
    $("status").textContent = "";
  }
  if (problem) {
    error.textContent = inWords(problem);
    const field = markField(button.form, problem);
    (field ?? button).focus();
    field?.select();
  }
}

// markField marks the field that a problem is about, and returns it.
function markField(form, problem) {
  const field = form?.elements[{ invalid_code: "code", user_exists: "loginId" }[problem.code] || problem.field || "-"];
  field?.setAttribute("aria-invalid", "true");
  field?.addEventListener("input", () => field.removeAttribute("aria-invalid"), { once: true });
  return field;
}

// onSubmit has work do what form is for, with its fields.
function onSubmit(form, work) {
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    whileBusy(button, form.querySelector("[role=alert]"), () => work(Object.fromEntries(new FormData(form))));
  });
}

// leave goes to another page. What was typed here does not come back with the
// back button. It does not resolve, so that the button keeps saying that it waits.
function leave(path) {
  for (const form of document.forms) form.reset();
  location.assign(path);
  return new Promise(() => {});
}

// Apps show codes as two groups of three.
const withoutSpaces = (code) => code.replace(/\s/g, "");

// ---- a new key, and the code that proves it was added

// authenticator returns how to show a new key. onVerified runs once a code of it
// was right.
function authenticator(onVerified) {
  let loginId;
  onSubmit($("verify-form"), async ({ code }) => {
    await verify(loginId, withoutSpaces(code));
    await onVerified();
  });
  $("copy")?.addEventListener("click", copyKey);
  return (id, key) => {
    loginId = id;
    $("qr").src = "data:image/png;base64," + key.image;
    $("key").textContent = key.key.match(/.{1,4}/g).join(" ");
    $("otpauth").href = key.provisioningURL.startsWith("otpauth://") ? key.provisioningURL : "#";
    $("copied").textContent = "";
    $("verify-form").reset();
    $("authenticator").hidden = false;
    $("authenticator-title").focus();
    demo.watch(id);
  };
}

async function copyKey() {
  try {
    await navigator.clipboard.writeText(withoutSpaces($("key").textContent));
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("key"));
    $("copied").textContent = "Selected: copy it with your keyboard or the menu.";
  }
}

// ---- the demo's help

// demoHelp shows the code that is valid now. Only the demo has that box.
function demoHelp() {
  if (!$("demo")) return { watch() {} };
  let loginId = "", until = Infinity, asked = 0;
  async function ask() {
    const turn = ++asked;
    until = Infinity;
    const response = loginId && await fetch("/demo/code?loginId=" + encodeURIComponent(loginId)).catch(() => null);
    const answer = response?.ok ? await response.json() : null;
    if (turn !== asked) return; // somebody typed on
    if (answer) {
      until = Date.now() + answer.secondsLeft * 1000;
      $("demo-code").textContent = answer.code.replace(/^(...)/, "$1 ");
    }
    $("demo-row").hidden = !answer;
    tick();
  }
  function tick() {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (left <= 0) return ask();
    if (until === Infinity) return;
    $("demo-life").value = left;
    $("demo-left").textContent = `${left} s left`;
  }
  // fill types text into a field.
  function fill(field, text) {
    field.value = text;
    field.dispatchEvent(new Event("input"));
    field.focus();
  }
  $("demo-use").addEventListener("click", () => fill($("code"), withoutSpaces($("demo-code").textContent)));
  $("demo-user")?.addEventListener("click", () => fill($("login-id"), $("demo-user").textContent));
  setInterval(tick, 1000);
  return { watch(id) { loginId = id; ask(); } };
}

const demo = demoHelp();

// ---- pages

function signUpPage() {
  const show = authenticator(() => leave("/account"));
  onSubmit($("signup-form"), async ({ loginId, name }) => {
    const key = await signUp(loginId, name);
    $("signup-form").hidden = true;
    $("step").textContent = `Step 2 of 2, for ${loginId}`;
    show(loginId, key);
  });
}

function signInPage() {
  onSubmit($("signin-form"), async ({ loginId, code }) => {
    await verify(loginId, withoutSpaces(code));
    await leave($("signin-form").dataset.returnTo);
  });
  let typing;
  const typed = () => {
    clearTimeout(typing);
    typing = setTimeout(() => demo.watch($("login-id").value), 300);
  };
  $("login-id").addEventListener("input", typed);
  typed();
}

// privatePage keeps a page of somebody who is signed in true to their session:
// it renews the session when it ends, says so while that cannot be told, and
// takes everything off the page once it is over. A page can add what it does
// with the answer (onSession) and every second (onTick).
function privatePage({ onSession = () => {}, onTick = () => {} } = {}) {
  const page = $("private");
  const skew = Date.now() - Date.parse(page.dataset.now); // of this clock to the server's
  let expiry = Date.parse(page.dataset.expiry);
  let retryAt = 0;
  let failing = false, checking = false, leaving = false;

  // check asks whether the session goes on. The question itself renews it.
  async function check() {
    if (checking || leaving) return;
    checking = true;
    try {
      const now = await session();
      if (leaving) return;
      if (now.subject !== page.dataset.subject || now.tenant !== page.dataset.tenant) return location.reload();
      const until = Date.parse(now.expiry);
      onSession(now, until > expiry);
      expiry = until;
      failing = false;
      retryAt = Date.now() + 2000;
      notice("");
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (leaving) return;
      if (problem.status === 401) return ended(inWords(problem));
      failing = true;
      retryAt = Date.now() + (problem.wait || 5) * 1000;
      notice(problem.code === "unavailable" ? "Descope cannot be reached. You are still signed in; trying again."
        : problem.code === "offline" ? "This server cannot be reached. Trying again." : inWords(problem));
    } finally {
      checking = false;
    }
    tick();
  }

  function tick() {
    const left = expiry - (Date.now() - skew);
    onTick(left, failing);
    if ((left <= 0 || failing) && Date.now() >= retryAt) check();
  }

  function notice(text) {
    if ($("notice").textContent !== text) $("notice").textContent = text;
  }

  function ended(text) {
    leaving = true;
    clearInterval(ticking);
    page.remove(); // what it said is about somebody who is gone
    $("ended").hidden = false;
    $("ended-text").textContent = text;
    $("ended-title").focus();
  }

  // orEnded does work, and takes a 401 for the end of the session unless it is
  // about a code.
  async function orEnded(work) {
    try {
      return await work();
    } catch (problem) {
      if (problem.status !== 401 || ["invalid_code", "step_up_required", "mfa_required"].includes(problem.code)) throw problem;
      ended(inWords(problem));
      return new Promise(() => {});
    }
  }

  // signOut ends sessions with call and leaves. A sign-out that could not be
  // told to Descope has still deleted the cookies of this browser.
  async function signOut(call, reason) {
    leaving = true;
    try {
      await orEnded(call);
    } catch (problem) {
      if (call === logout && problem.code === "unavailable") {
        return ended("You are signed out in this browser. Descope could not be told.");
      }
      leaving = false;
      throw problem;
    }
    await leave("/signin?reason=" + reason);
  }

  // user asks once who is signed in, and says so on the page.
  let asked;
  async function user() {
    asked ??= orEnded(me).catch((problem) => {
      asked = undefined;
      throw problem;
    });
    const { name, loginIds: [loginId] } = await asked;
    if ($("who")) $("who").textContent = name ? `${loginId} (${name})` : loginId;
    return loginId;
  }

  tabs.addEventListener("message", check);
  document.addEventListener("visibilitychange", () => document.hidden || check());
  const ticking = setInterval(tick, 1000);
  tick();
  user().catch(() => { if ($("who")) $("who").textContent = "cannot be told just now"; });
  return { check, orEnded, signOut, user };
}

function accountPage() {
  let renewals = 0;
  const { signOut } = privatePage({
    onSession(now, renewed) {
      $("roles").textContent = now.roles.join(", ") || "none";
      $("step-up").textContent = now.stepUp ? "yes, until this session ends" : "no";
      localTime($("ends"), new Date(now.expiry));
      if (renewed) renewals++;
      if (renewals) {
        $("renewed").firstElementChild.textContent = renewals === 1 ? "once" : `${renewals} times`;
        $("renewed-words").textContent = " without you noticing";
      }
    },
    onTick(left, failing) {
      $("left").textContent = left > 0 ? clock(left) : failing ? "waiting…" : "renewing…";
    },
  });
  $("logout").addEventListener("click", (event) =>
    whileBusy(event.target, $("signout-error"), () => signOut(logout, "out")));
  $("logout-all").addEventListener("click", (event) =>
    whileBusy(event.target, $("signout-error"), () => signOut(logoutAll, "everywhere")));
}

// confirmForm asks somebody who is signed in for a new code. onConfirmed runs
// once it was right.
function confirmForm({ orEnded, user }, onConfirmed) {
  onSubmit($("confirm-form"), async ({ code }) => {
    const loginId = await user();
    await orEnded(() => stepUp(loginId, withoutSpaces(code)));
    await onConfirmed();
  });
  user().then(demo.watch, () => {});
}

// stepUpPage is where the server sends a browser that opens a page for which the
// session is not enough.
function stepUpPage() {
  confirmForm(privatePage(), () => leave($("step-up-page").dataset.returnTo));
}

// payoutPage saves what is typed. Its step-up may have ended meanwhile: it then
// asks for a code in place, and saves again.
function payoutPage() {
  const page = privatePage({
    onSession(now) {
      $("confirmed").hidden = !now.stepUp;
    },
    onTick(left) {
      $("left").textContent = clock(Math.max(left, 0));
    },
  });
  // show shows one of the two forms.
  function show(id) {
    for (const other of ["payout-form", "confirm"]) $(other).hidden = other !== id;
  }
  onSubmit($("payout-form"), async ({ account }) => {
    $("saved").textContent = "";
    try {
      const saved = await page.orEnded(() => savePayout(account));
      $("payout").value = saved.account;
      $("saved").textContent = "Saved.";
      $("saved").focus();
    } catch (problem) {
      if (problem.code !== "step_up_required") throw problem;
      $("pending").textContent = account;
      show("confirm");
      $("confirm-title").focus();
    }
  });
  confirmForm(page, () => {
    $("confirm-form").reset();
    show("payout-form");
    page.check(); // the session is another one
    $("payout-form").requestSubmit();
  });
}

function authenticatorPage() {
  const { orEnded, user } = privatePage();
  const show = authenticator(() => {
    $("authenticator").hidden = true;
    $("replaced").hidden = false;
    $("replaced-text").focus();
  });
  $("replace").addEventListener("click", (event) => whileBusy(event.target, $("replace-error"), async () => {
    const loginId = await user();
    let key;
    try {
      key = await orEnded(() => update(loginId));
    } catch (problem) {
      if (problem.code === "step_up_required") return leave("/authenticator"); // which asks for it
      throw problem;
    }
    $("replace-section").hidden = true;
    show(loginId, key);
  }));
}

// awayPage waits until there is an answer again, and then opens the page anew.
function awayPage() {
  setInterval(async () => {
    const problem = await session().catch((problem) => problem);
    if (problem.status !== 503 && problem.code !== "offline") location.reload();
  }, 5000);
}

function localTime(element, date) {
  element.dateTime = date.toISOString();
  element.textContent = date.toLocaleString(undefined, { dateStyle: "long", timeStyle: "medium" });
}

document.querySelectorAll("time").forEach((element) => localTime(element, new Date(element.dateTime)));
if ($("signup-form")) signUpPage();
if ($("signin-form")) signInPage();
if ($("step-up-page")) stepUpPage();
if ($("logout")) accountPage();
if ($("payout-form")) payoutPage();
if ($("replace")) authenticatorPage();
if ($("away")) awayPage();

// A page that comes back from the browser's memory is as old as it left. Until
// it is loaded anew it shows nothing of anybody.
addEventListener("pagehide", () => $("private")?.setAttribute("hidden", ""));
addEventListener("pageshow", (event) => event.persisted && location.reload());
