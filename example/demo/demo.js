// The demo's half in the browser: an authenticator app beside the fields for a code, and the
// panel on the account page.
"use strict";
{
  const id = (name) => document.getElementById(name);
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const demo = (what, loginId, method = "GET") => fetch(`/demo/${what}?${new URLSearchParams({ loginId })}`, { method, cache: "no-store" });

  // every does work again and again, a second after it was done.
  const every = async (work) => { for (;;) { await work(); await sleep(1000); } };

  if (id("app")) {
    const field = id("code"), form = field.form, { loginId, username } = form.elements;
    const codeOf = async (who) => { const r = await demo("code", who); return r.ok ? r.json() : null; };

    // Descope takes each code once, so the one that this tab has sent is not offered again.
    const isUsed = (code) => sessionStorage.getItem("used") === code;
    form.addEventListener("submit", () => sessionStorage.setItem("used", field.value));
    const use = (code) => { field.value = code; form.requestSubmit(); };

    let waiting = false;
    every(async () => {
      const who = (loginId ?? username).value.trim();
      const shown = who && await codeOf(who);
      id("app-shows").hidden = !shown;
      if (!shown) return;
      const { code, secondsLeft } = shown, used = isUsed(code);
      if (waiting && !used) return use(code);
      id("app-login-id").textContent = who;
      id("app-code").textContent = code.replace(/(...)/, "$1 ");
      id("app-left").textContent = used ? `Used. The next one comes in ${secondsLeft} s.` : `for ${secondsLeft} s`;
      id("app-use").disabled = used;
      id("app-use").onclick = () => use(code);
    });
    id("ada")?.addEventListener("click", async (event) => {
      loginId.value = event.target.dataset.loginId;
      const { code } = await codeOf(loginId.value);
      if (!isUsed(code)) return use(code);
      waiting = true;
      id("ada-waits").textContent = "Each code works once: with her next one.";
    });
  }

  if (id("panel")) {
    const me = id("panel").dataset.loginId, buttons = id("panel").querySelectorAll("button");
    const refresh = "/v1/auth/refresh", keys = "/v2/keys";
    const words = {
      [refresh]: "asked for a renewal", [keys]: "fetched the keys", "/v1/auth/me": "asked who is signed in",
      "/v1/auth/me/history": "asked for recent sign-ins", "/v1/auth/totp/verify": "had a code verified",
    };
    let expiry = Date.parse(id("panel").dataset.expiry), answered = 0, renewals = 0, calls = 0, known;
    let away, over = false, busy = false;
    const notes = new Set(); // what there is to log, after the calls that led to it

    const say = (text) => { id("result").textContent = text; };
    const log = (text) => {
      const line = document.createElement("li"), time = document.createElement("time");
      time.textContent = new Date().toLocaleTimeString();
      line.append(time, " ", text);
      id("log").prepend(line);
      if (id("log").children.length > 8) id("log").lastChild.remove();
    };

    // ask asks for a page that wants a session, and reads there how long the session is good for.
    const ask = async () => {
      const r = await fetch("/orders", { cache: "no-store" });
      if (r.ok) {
        const until = Date.parse((await r.text()).match(/<time datetime="([^"]+)"/)[1]);
        answered++;
        if (until > expiry) renewals++;
        expiry = Math.max(until, expiry);
      } else if (r.status === 503) {
        if (away) away.held++;
        notes.add("could not tell: 503, and the cookies are kept");
      } else if ((await r.json()).code === "refresh_refused") {
        notes.add("was refused a renewal, and asks once more before it believes that");
      } else {
        ended();
      }
      return r.status;
    };
    const ended = () => {
      if (over) return;
      over = true;
      notes.add("was refused a renewal, and deleted the cookies");
      const again = document.createElement("a");
      again.href = "signin";
      again.textContent = "Sign in again";
      id("result").replaceChildren("Descope does not renew the session any more: you are signed out here, too. ", again, ".");
      buttons.forEach((button) => { button.disabled = true; });
    };

    // news returns how often Descope was asked for each path since the last time, and logs it.
    const news = async () => {
      const counts = await (await demo("requests")).json(), since = {};
      for (const path in counts) {
        const before = known?.[path] ?? 0;
        since[path] = counts[path] - (before > counts[path] ? 0 : before); // the project counts anew after an outage
        if (!known || !since[path]) continue;
        calls += since[path];
        log((words[path] ?? path) + (since[path] > 1 ? `, ${since[path]} times` : "") + (away ? ": no answer" : ""));
      }
      notes.forEach(log);
      notes.clear();
      known = counts;
      return (path) => since[path] ?? 0;
    };
    const show = () => {
      const left = Math.max(Math.ceil((expiry - Date.now()) / 1000), 0);
      id("left").textContent = over ? "ended" : `${left} s`;
      Object.entries({ answered, renewals, calls }).forEach(([name, n]) => { id(name).textContent = n; });
    };
    const look = async () => { await ask(); await news(); show(); };
    const count = (n, one, many) => (n === 1 ? `one ${one}` : `${n} ${many}`);

    const actions = {
      async expire() {
        await news();
        await demo("expire", me, "POST");
        const began = performance.now();
        const statuses = await Promise.all(Array.from({ length: 200 }, ask));
        const took = Math.round(performance.now() - began), since = await news();
        const tally = Object.entries(Object.groupBy(statuses, String)).map(([status, all]) => `${all.length} × ${status}`);
        say(`200 requests at once, and the session had expired: ${tally.join(", ")}, ${count(since(refresh), "refresh", "refreshes")}, in ${took} ms.`);
      },
      async away() {
        await demo("expire", me, "POST"); // so that a whole session lies ahead
        await look();
        const before = answered;
        away = { held: 0 };
        await demo("away", me, "POST");
        say("Descope is away. You stay signed in: try the pages.");
        for (const end = Date.now() + 20500; Date.now() < end;) { await look(); await sleep(1000); }
        const { held } = away;
        away = undefined;
        say(`Descope was away for 20 s. ${count(answered - before, "request was", "requests were")} answered meanwhile: the kit has the keys, and checks sessions itself.`
          + (held ? ` ${held} got 503, for want of a renewal. Nobody was signed out.` : ""));
      },
      async rotate() {
        await news();
        await demo("rotate", me, "POST");
        const old = await ask();
        await demo("expire", me, "POST");
        const renewed = await ask(), since = await news();
        say(`Descope signs with a new key. The session at hand: ${old}. The next one, signed with the new key: ${renewed}, after ${count(since(keys), "fetch", "fetches")} of the keys.`);
      },
      async elsewhere() {
        await demo("elsewhere", me, "POST");
        say("You have signed out everywhere, on another device. The session here was checked without Descope, and goes on until it has to be renewed.");
      },
    };
    buttons.forEach((button) => button.addEventListener("click", async () => {
      if (busy || over) return;
      busy = true;
      buttons.forEach((other) => { other.disabled = true; });
      await actions[button.id]();
      buttons.forEach((other) => { other.disabled = over; });
      busy = false;
      show();
    }));
    every(async () => { if (!busy && !over) await look(); });
    setInterval(show, 250);
  }
}
