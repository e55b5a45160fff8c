// The pages work without this. It sends a code with its sixth digit, counts down where one
// has to wait, keeps what was typed into forms across a sign-in, and shows nothing that is
// as old as the browser's memory. It never sees a token; those are in HttpOnly cookies.
"use strict";
{
  const script = document.currentScript;
  const user = script.dataset.user; // undefined where it cannot be told, "" for nobody
  const one = (selector, from = document) => from.querySelector(selector);
  const each = (selector, work) => document.querySelectorAll(selector).forEach(work);

  // ---- what is shown is about who is signed in now

  // anew opens the address of the page again. A form that was sent is not sent twice.
  const anew = () => location.replace(location.href.split("#")[0]);

  addEventListener("pageshow", (event) => event.persisted && anew());

  // Other tabs of this browser share the cookies. A page with something typed into it, and
  // the answer to a form, stay.
  if (user !== undefined) {
    const tabs = new BroadcastChannel("signed-in");
    tabs.onmessage = ({ data }) => {
      const typed = [...document.querySelectorAll("input, textarea")].some((field) => field.value !== field.defaultValue);
      if (data !== user && script.dataset.method === "GET" && (user || !typed)) anew();
    };
    tabs.postMessage(user);
  }

  // ---- forms

  // A form is sent once, and says so.
  addEventListener("submit", (event) => {
    const form = event.target, button = event.submitter ?? one("[type=submit]", form);
    if (event.defaultPrevented) return;
    if (form.dataset.sent) return event.preventDefault();
    keep(form);
    if (!button?.dataset.busy) return;
    const label = button.textContent;
    form.dataset.sent = "yes";
    button.setAttribute("aria-disabled", "true");
    button.textContent = button.dataset.busy;
    setTimeout(() => {
      delete form.dataset.sent;
      button.removeAttribute("aria-disabled");
      button.textContent = label;
    }, 15000); // there was no answer
  });

  // Six digits are a whole code. Only what adds to the field sends it, and the same code
  // is sent once: whoever corrects a digit is not interrupted.
  each("input[autocomplete=one-time-code]", (field) => {
    let sent;
    field.addEventListener("input", (event) => {
      const code = field.value.replace(/[\s-]/g, "");
      if (!/^\p{Nd}{6}$/u.test(code) || code === sent || event.inputType?.startsWith("delete")) return;
      if (!field.form.checkValidity() || one("[type=submit]", field.form).disabled) return;
      sent = code;
      field.form.requestSubmit();
    });
  });

  // ---- waiting

  const clock = (s) => (s < 60 ? `${s} s` : `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`);

  // An element with data-wait counts these seconds down in its data-text, and ends with
  // data-done. data-then is what happens then; with "hold", the form waits as well.
  each("[data-wait]", (element) => {
    const { wait, text, done, then } = element.dataset;
    const end = performance.now() + wait * 1000;
    const button = then === "hold" && element.closest("form")?.querySelector("[type=submit]");
    if (button) button.disabled = true;
    const ticking = setInterval(tick, 250);
    tick();
    function tick() {
      const left = Math.ceil((end - performance.now()) / 1000);
      if (left > 0) return void (element.textContent = text.replace("{time}", clock(left)));
      clearInterval(ticking);
      if (then === "reload") return anew();
      element.setAttribute("role", "status"); // said once, when it is over
      setTimeout(() => (element.textContent = done));
      if (!button) return;
      button.disabled = false;
      one("input:not([type=hidden]):not([readonly]):invalid", button.form)?.focus();
    }
  });

  // ---- what was typed, across a sign-in

  let storage; // none where the browser keeps nothing
  try { storage = sessionStorage; } catch {}
  const signIns = ["signin", "signup"].map((page) => new URL(page, script.src).pathname);
  const here = () => location.pathname;
  const fields = (form) => [...form.elements].filter((field) => field.name && field.matches(
    "select, textarea, input:not([type=hidden], [type=password], [type=file], [type=submit], [autocomplete=one-time-code], [name=code])"));

  // keep keeps the fields of a form with data-keep. Its value, such as the id of the user,
  // says for whom.
  function keep(form) {
    if (!("keep" in form.dataset)) return;
    const values = fields(form).map((field) => [field.name, /^(checkbox|radio)$/.test(field.type) ? field.checked : field.value]);
    storage?.setItem("kept", JSON.stringify({ path: here(), id: form.id, whose: form.dataset.keep, values }));
  }

  // putBack puts them back on the way from a sign-in. On any other way the form was taken.
  function putBack() {
    const kept = JSON.parse(storage?.getItem("kept") ?? null);
    if (!kept || signIns.includes(here())) return;
    storage.removeItem("kept");
    const from = document.referrer && new URL(document.referrer);
    if (!from || from.origin !== location.origin || !signIns.includes(from.pathname) || kept.path !== here()) return;
    const form = [...document.forms].find((form) => form.dataset.keep === kept.whose && form.id === kept.id);
    if (!form) return;
    fields(form).forEach((field, i) => {
      const [name, value] = kept.values[i] ?? [];
      if (name !== field.name) return;
      if (typeof value === "boolean") field.checked = value;
      else field.value = value;
    });
  }
  putBack();

  // ---- small things

  each("time[data-local]", (element) => {
    const date = new Date(element.dateTime);
    element.textContent = date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  });
  each("[data-script]", (element) => (element.hidden = false));
  each("button[data-copy]", (button) => button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent.replace(/\s/g, ""));
      one("[role=status]", button.parentElement).textContent = button.dataset.done;
    } catch {
      getSelection().selectAllChildren(source);
    }
  }));
}
