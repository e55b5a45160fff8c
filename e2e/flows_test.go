package e2e

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A phone is an authenticator app with one key in it.
type phone struct{ key *otp.Key }

// scan points the phone's camera at the QR code on the page. Like a camera it looks until
// it can read: the page may still be moving.
func scan(b *tab) phone {
	b.t.Helper()
	until[bool](b, `document.querySelector("#qr")?.checkVisibility() && document.querySelector("#qr").naturalWidth > 0`)
	var text string
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		picture, err := run(b, chromedp.Screenshot(chromedp.CSS("#qr")))
		require.NoError(c, err)
		text, err = readQR(picture)
		require.NoError(c, err, "the QR code on the page cannot be read")
	}, patience, 50*time.Millisecond)
	key, err := otp.NewKeyFromURL(text)
	require.NoError(b.t, err)
	return phone{key}
}

// readQR returns the text of a QR code in a PNG picture.
func readQR(picture []byte) (string, error) {
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		return "", err
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", err
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		return "", err
	}
	return result.GetText(), nil
}

// code is what the phone shows now.
func (p phone) code(t *testing.T) string {
	t.Helper()
	code, err := totp.GenerateCode(p.key.Secret(), time.Now())
	require.NoError(t, err)
	return code
}

// From the printed address to the account page, with a phone and nothing but
// what the pages say.
func TestSignUpWithAPhone(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url)
	b.click("Sign up")
	b.fill("Login ID", "grace@example.com")
	b.enter()
	p := scan(b)
	assert.Equal(t, "grace@example.com", p.key.AccountName())
	b.fill("Code", p.code(t))
	b.enter()
	b.at("/account")
	b.sees("grace@example.com")

	t.Logf("%d inputs from the printed address to the account page", b.inputs)
	assert.LessOrEqual(t, b.inputs, 6)
}

// Without a phone, the demo plays one: it shows the code, how long it lives, and
// types it in.
func TestDemoShowsTheCode(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url + "/signin")
	b.fill("Login ID", kittest.Ada)
	code := until[string](b, `document.querySelector("#demo-row").checkVisibility() && document.querySelector("#demo-code").innerText`)
	assert.Regexp(t, `^\d{3} \d{3}$`, code)
	left := until[int](b, `document.querySelector("#demo-life").value`)
	assert.LessOrEqual(t, left, 30)
	until[bool](b, `document.querySelector("#demo-life").value !== %s`, left) // it counts down
	b.click("Use this code")
	b.enter()
	b.at("/account")
	b.sees(kittest.Ada)
	b.sees("admin, editor")
}

// Whoever uses only the keyboard meets the fields in order, and nothing traps
// the focus.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	b.open(s.url + "/signin")
	b.at("/signin")
	const focused = `(() => { const e = document.activeElement; return e.id || e.innerText?.trim() || e.tagName })()`
	require.Equal(t, "login-id", evaluate[string](b, focused), "the first field has the focus")
	var met []string
	for range 4 {
		b.press(kb.Tab)
		met = append(met, evaluate[string](b, focused))
	}
	assert.Equal(t, []string{"code", "Sign in", "Sign up"}, met[:3])

	b.open(s.url + "/")
	b.at("/")
	b.press(kb.Tab)
	assert.Equal(t, "Skip to the content", evaluate[string](b, focused))
	b.enter()
	assert.Equal(t, "main", evaluate[string](b, focused))

	b.open(s.url + "/signin")
	b.at("/signin")
	b.do(chromedp.KeyEvent(kittest.Ada))
	b.press(kb.Tab)
	b.do(chromedp.KeyEvent(s.project.Code(kittest.Ada)))
	b.enter()
	b.at("/account")
}

// The key can be copied, without the spaces that make it readable.
func TestCopyKey(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	b.call(func(ctx context.Context) error {
		// To read what was copied; to write it, the click is enough.
		_, err := chromedp.CallBrowser(ctx, browser.SetPermission, browser.SetPermissionParams{
			BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
			Permission:       &browser.PermissionDescriptor{Name: "clipboard-read"},
			Setting:          browser.PermissionSettingGranted,
		})
		return err
	})
	b.open(s.url + "/signup")
	b.fill("Login ID", "grace@example.com")
	b.enter()
	p := scan(b)
	shown := evaluate[string](b, `document.querySelector("#key").innerText`)
	assert.Regexp(t, `^([A-Z2-7]{4} )+[A-Z2-7]{1,4}$`, shown)
	assert.Equal(t, p.key.Secret(), strings.ReplaceAll(shown, " ", ""))
	b.click("Copy the key")
	b.sees("Copied.")
	assert.Equal(t, p.key.Secret(), evaluate[string](b, `navigator.clipboard.readText()`))
	assert.Equal(t, p.key.URL(), evaluate[string](b, `document.querySelector("#otpauth").href`))
}

// Whatever waits says so, to eyes and ears, and cannot be sent twice.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	s.project.Fail(kittest.VerifyPath, descopetest.Fault{Delay: time.Second})
	b.open(s.url + "/signin")
	b.fill("Login ID", kittest.Ada)
	b.fill("Code", s.project.Code(kittest.Ada))
	b.enter()
	until[bool](b, `document.querySelector("button[type=submit]:disabled")?.innerText === "Signing in…" && document.querySelector("[role=status]#status").innerText === "Signing in…"`)
	b.press(kb.Enter)
	b.at("/account")
	b.sees(kittest.Ada)
	assert.Equal(t, 1, s.project.Requests(kittest.VerifyPath))
}

func TestWrongCode(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	b.open(s.url + "/signin")
	b.fill("Login ID", kittest.Ada)
	b.fill("Code", wrongCode(s.project.Code(kittest.Ada)))
	b.enter()
	b.sees("That code does not fit this login ID.")
	assert.Equal(t, "code true", evaluate[string](b, `document.activeElement.id + " " + document.activeElement.ariaInvalid`), "the field to mend")
	assert.Equal(t, "alert", evaluate[string](b, `document.querySelector("#verify-error").role`))
	assert.Empty(t, b.cookies())

	// An unknown user is told the same.
	b.fill("Login ID", "nobody@example.com")
	b.fill("Code", "123456")
	b.enter()
	b.sees("That code does not fit this login ID.")

	b.fill("Login ID", kittest.Ada)
	b.fill("Code", s.project.Code(kittest.Ada))
	b.enter()
	b.at("/account")
}

func wrongCode(right string) string {
	if right == "000000" {
		return "111111"
	}
	return "000000"
}

// Too many tries: the page says how long to wait, and meanwhile the right code
// does not help either.
func TestTooManyTries(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	b.open(s.url + "/signin")
	b.fill("Login ID", kittest.Ada)
	b.fill("Code", wrongCode(s.project.Code(kittest.Ada)))
	refused := evaluate[[]int](b, `(async () => {
		const statuses = [];
		for (let i = 0; i < 10; i++) {
			const r = await fetch("/auth/v1/auth/totp/verify", { method: "POST", headers: { "Content-Type": "application/json" },
				body: JSON.stringify({ loginId: %s, code: %s }) });
			statuses.push(r.status);
		}
		return statuses;
	})()`, kittest.Ada, wrongCode(s.project.Code(kittest.Ada)))
	assert.Equal(t, slices.Repeat([]int{http.StatusUnauthorized}, 10), refused)
	b.enter()
	b.sees("Too many attempts. Try again in 10 minutes.")
	b.fill("Code", s.project.Code(kittest.Ada))
	b.enter()
	until[bool](b, `document.querySelector("#verify-error").innerText.startsWith("Too many attempts.")`)
	assert.Empty(t, b.cookies())
	assert.Equal(t, 10, s.project.Requests(kittest.VerifyPath), "Descope is not asked again")
}

// Descope itself may find that it is asked too often.
func TestDescopeIsBusy(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	s.project.Fail(kittest.VerifyPath, descopetest.Fault{
		Status: http.StatusTooManyRequests,
		Header: http.Header{"Retry-After": {"90"}},
		Body:   `{"errorCode":"E130429","errorDescription":"Rate limit exceeded"}`,
	})
	b.open(s.url + "/signin")
	b.fill("Login ID", kittest.Ada)
	b.fill("Code", "123456")
	b.enter()
	b.sees("Too many attempts. Try again in")
	assert.Regexp(t, `Try again in (8\d|90) seconds`, b.text())
}

// A session that ends while the page is open is renewed without a trace, and by
// one call.
func TestSilentRenewal(t *testing.T) {
	t.Parallel()
	s := startSite(t, shortFirst(15*time.Second))
	b := newBrowser(t)
	s.signIn(b)
	before := b.cookies()
	evaluate[bool](b, `window.sameDocument = true`)
	b.sees("once without you noticing")
	until[bool](b, `/^(9:|10:)/.test(document.querySelector("#left").innerText)`)
	assert.True(t, evaluate[bool](b, `window.sameDocument === true`), "the page was not loaded anew")
	assert.Equal(t, 1, s.project.Requests(kittest.RefreshPath))
	after := b.cookies()
	assert.NotEqual(t, before["DS"].Value, after["DS"].Value)
	assert.NotEqual(t, before["DSR"].Value, after["DSR"].Value)
}

// Two tabs whose session ends at the same moment, with rotation: both go on, and
// the refresh token is spent once.
func TestTwoTabsAtExpiry(t *testing.T) {
	t.Parallel()
	s := startSite(t, shortFirst(25*time.Second))
	first := newBrowser(t)
	s.signIn(first)
	second := first.another()
	second.open(s.url + "/account")
	second.sees(kittest.Ada)

	for _, b := range []*tab{first, second} {
		b.sees("once without you noticing")
		b.open(s.url + "/account")
		b.sees(kittest.Ada)
	}
	assert.Equal(t, 1, s.project.Requests(kittest.RefreshPath))
	assert.True(t, s.project.Honours(first.cookies()["DSR"].Value), "the browser holds the refresh token that is in force")
}

// Descope is away for a while: the pages say so, come back by themselves, and
// nobody has to sign in.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := startSite(t, func(s *descopetest.Settings) { s.SessionTTL = 2 * time.Second })
	b := newBrowser(t)
	s.signIn(b)
	leaver := newBrowser(t)
	s.signIn(leaver)
	s.project.Fail("", descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
	b.sees("Descope cannot be reached. You are still signed in; trying again.")
	b.sees(kittest.Ada)
	b.click("Sign out everywhere") // which cannot be done now
	b.sees("Nothing has changed.")
	assert.Len(t, b.cookies(), 2)
	leaver.click("Sign out")
	leaver.sees("You are signed out in this browser. Descope could not be told.")
	assert.Empty(t, leaver.cookies())

	other := b.another()
	other.open(s.url + "/account")
	other.sees("You are still signed in.")
	assert.EqualValues(t, http.StatusServiceUnavailable, other.status("/account"))
	third := b.another()
	third.open(s.url + "/")
	third.sees("If you were, you still are.")

	// A sign-in says what is the matter, too.
	stranger := newBrowser(t)
	stranger.open(s.url + "/signin")
	stranger.fill("Login ID", kittest.Ada)
	stranger.fill("Code", "123456")
	stranger.enter()
	stranger.sees("Descope, which signs people in here, cannot be reached just now.")

	s.project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 10 * time.Minute })
	s.project.Reset()
	b.sees("without you noticing")
	until[bool](b, `document.querySelector("#notice").innerText === ""`)
	other.sees("This session") // it has loaded itself anew
	other.sees(kittest.Ada)
}

// A page that wants a step-up: the browser is sent to where a code is asked for
// and back, the page closes again with the step-up, and what was typed
// meanwhile survives another code.
func TestStepUp(t *testing.T) {
	t.Parallel()
	s := startSite(t, func(s *descopetest.Settings) { s.StepUpTTL = 10 * time.Second })
	b := newBrowser(t)
	s.signIn(b)
	b.click("Change the payout account")
	b.at("/signin")
	b.sees("Confirm that it is you")
	b.sees(kittest.Ada)
	b.fill("Code", wrongCode(s.project.Code(kittest.Ada)))
	b.enter()
	b.sees("That code does not fit this login ID.")
	b.fill("Code", s.project.Code(kittest.Ada))
	b.enter()
	b.at("/payout")
	b.sees("Confirmed for another")
	b.fill("Account number", "de89 3704 0044 0532 0130 00")
	b.enter()
	b.sees("Saved.")
	require.Equal(t, "DE89370400440532013000", evaluate[string](b, `document.querySelector("#payout").value`))

	until[bool](b, `!document.querySelector("#confirmed").checkVisibility()`) // it has run out
	b.fill("Account number", "GB33BUKB20201555555555")
	b.click("Save")
	b.sees("Your last code was too long ago.")
	other := b.another()
	other.open(s.url + "/payout")
	other.at("/signin")
	other.sees("Confirm that it is you")
	b.fill("Code", s.project.Code(kittest.Ada))
	b.click("Confirm")
	b.sees("Saved.")
	until[bool](b, `document.querySelector("#payout").value === "GB33BUKB20201555555555"`)
	b.sees("Confirmed for another")

	until[bool](b, `!document.querySelector("#confirmed").checkVisibility()`)
	b.fill("Account number", "no")
	b.enter()
	b.sees("Your last code was too long ago.")
	b.fill("Code", s.project.Code(kittest.Ada))
	b.click("Confirm")
	b.sees("An account number has 4 to 34 letters and digits.") // where it can be mended
	b.fill("Account number", "GB33BUKB20201555555555")
	b.enter()
	b.sees("Saved.")
	b.open(s.url + "/account")
	b.sees("This session")
}

func TestReplaceAuthenticator(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	s.signIn(b)
	old := s.project.Code(kittest.Ada)
	b.click("Replace the authenticator")
	b.at("/signin")
	b.fill("Code", old)
	b.click("Confirm")
	b.at("/authenticator")
	b.click("Make a new key")
	p := scan(b)
	b.fill("Code", wrongCode(p.code(t)))
	b.enter()
	b.sees("That code does not fit")
	b.fill("Code", p.code(t))
	b.enter()
	b.sees("The new authenticator is in use. The old one no longer works.")
	b.click("Back to your account")
	b.at("/account")
	b.click("Sign out")
	b.at("/signin")
	b.sees("You are signed out.")

	b.fill("Login ID", kittest.Ada)
	b.fill("Code", old)
	b.enter()
	b.sees("That code does not fit this login ID.")
	b.fill("Code", p.code(t))
	b.enter()
	b.at("/account")
}

// A step-up that runs out before the new key is asked for: the page asks again.
func TestReplaceAuthenticatorTooLate(t *testing.T) {
	t.Parallel()
	s := startSite(t, func(s *descopetest.Settings) { s.StepUpTTL = 6 * time.Second })
	b := newBrowser(t)
	s.signIn(b)
	b.click("Replace the authenticator")
	b.fill("Code", s.project.Code(kittest.Ada))
	b.click("Confirm")
	b.at("/authenticator")
	// The kit takes a session for as long as clocks may differ, 5 s more.
	until[bool](b, `fetch("/api/session").then((r) => r.json()).then((s) => { window.late = !s.stepUp }) && window.late`)
	b.click("Make a new key")
	b.at("/signin")
	b.sees("Confirm that it is you")
}

// Signing out in one tab is seen in the other, at once.
func TestSignOutIsSeenInOtherTabs(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	first := newBrowser(t)
	s.signIn(first)
	second := first.another()
	second.open(s.url + "/account")
	second.sees(kittest.Ada)
	first.click("Sign out")
	first.at("/signin")
	first.sees("You are signed out.")
	second.sees("You signed out in another window.")
	assert.NotContains(t, second.text(), kittest.Ada)
	assert.Empty(t, first.cookies())
}

// A session that is ended elsewhere, from another browser: with the end of its
// session token this one notices, and says what happened.
func TestSignOutEverywhere(t *testing.T) {
	t.Parallel()
	s := startSite(t, func(s *descopetest.Settings) { s.SessionTTL = 3 * time.Second })
	here, there := newBrowser(t), newBrowser(t)
	s.signIn(here)
	s.signIn(there)
	here.click("Sign out everywhere")
	here.at("/signin")
	here.sees("on all other devices")
	there.sees("The session was ended elsewhere")
	there.click("Sign in")
	there.at("/signin")
	assert.NotContains(t, there.text(), kittest.Ada)
}

// What the back button brings up after a sign-out says nothing of anybody.
func TestBackAfterSignOut(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	b.open(s.url + "/")
	s.signIn(b)
	b.click("Change the payout account")
	b.fill("Code", s.project.Code(kittest.Ada))
	b.enter()
	b.at("/payout")
	b.fill("Account number", "DE89370400440532013000")
	b.enter()
	b.sees("Saved.")
	b.click("Back to your account")
	b.at("/account")
	b.sees(kittest.Ada)
	b.click("Sign out")
	b.at("/signin")
	b.sees("You are signed out.")

	const readable = `document.body ? document.body.innerText + " " + [...document.querySelectorAll("input")]
		.filter((e) => e.checkVisibility()).map((e) => e.value).join(" ") : ""`
	for range 6 {
		b.back()
		until[bool](b, `(() => {
			const text = `+readable+`;
			if (%s.some((secret) => text.includes(secret))) throw new Error("there it is: " + text);
			return !["/account", "/payout"].includes(location.pathname) && document.readyState === "complete";
		})()`, []string{kittest.Ada, "Lovelace", "DE89370400440532013000"})
	}
}

// Another origin cannot make the browser act for its user: not from another port
// of the same host, whose requests carry the cookies, nor from another site.
func TestCrossOriginPost(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	s.signIn(b)
	b.click("Change the payout account")
	b.fill("Code", s.project.Code(kittest.Ada))
	b.enter()
	b.at("/payout")
	verified := s.project.Requests(kittest.VerifyPath)

	attacks := []struct{ action, body string }{
		{"/auth/v1/auth/logout", `{}`},
		{"/auth/v1/auth/logoutall", `{}`},
		{"/auth/v1/auth/totp/verify", `{"loginId":"` + kittest.Ada + `","code":"123456"}`},
		{"/payout", `{"account":"EVIL0000"}`},
	}
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for i, attack := range attacks {
			// The usual trick: a form in text/plain whose field makes JSON.
			fmt.Fprintf(w, `<form method="post" enctype="text/plain" action="%s%s"><input type="hidden" name="%s" value=""><button>Win %d</button></form>`,
				s.url, attack.action, html.EscapeString(attack.body), i)
		}
	}))
	t.Cleanup(evil.Close)
	for _, origin := range []string{evil.URL, strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)} {
		for i, attack := range attacks {
			b.open(origin)
			b.click(fmt.Sprintf("Win %d", i))
			b.at(attack.action)
			assert.EqualValues(t, http.StatusForbidden, b.status(attack.action), "%s %s", origin, attack.action)
			b.sees("cross_origin")

			// What a script may send without asking; it does not get to see the answer.
			b.open(origin)
			b.at("/")
			evaluate[bool](b, `fetch(%s, { method: "POST", mode: "no-cors", credentials: "include", body: %s }).then(() => true, () => true)`,
				s.url+attack.action, attack.body)
		}
	}
	assert.Equal(t, 0, s.project.Requests(kittest.LogoutPath)+s.project.Requests(kittest.LogoutAllPath))
	assert.Equal(t, verified, s.project.Requests(kittest.VerifyPath))
	b.open(s.url + "/payout")
	b.at("/payout")
	b.sees("Your payout account")
	assert.Empty(t, evaluate[string](b, `document.querySelector("#payout").value`))
}

// Markup that somebody smuggled into a page could do nothing: the browser runs
// no inline script and no inline style, and no string becomes markup.
func TestContentSecurityPolicy(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url + "/signin")
	b.at("/signin")
	evaluate[bool](b, `(() => {
		const done = window.done = [], refused = window.refused = [];
		document.addEventListener("securitypolicyviolation", (e) => refused.push(e.effectiveDirective));
		const add = (tag, attributes, text) => {
			const e = document.createElement(tag);
			for (const name in attributes) e.setAttribute(name, attributes[name]);
			e.append(text);
			document.body.append(e);
			return e;
		};
		const attempts = {
			script: () => add("script", {}, "done.push('script')"),
			handler: () => add("button", { onclick: "done.push('handler')" }, "x").click(),
			address: () => add("a", { href: "javascript:done.push('address')" }, "x").click(),
			style: () => { if (getComputedStyle(add("p", { style: "color: rgb(1, 2, 3)" }, "x")).color === "rgb(1, 2, 3)") done.push("style"); },
			sheet: () => { add("style", {}, "h1 { color: rgb(1, 2, 3) }"); if (getComputedStyle(document.querySelector("h1")).color === "rgb(1, 2, 3)") done.push("sheet"); },
			markup: () => { document.body.insertAdjacentHTML("beforeend", "<i></i>"); done.push("markup"); },
			evaluation: () => setTimeout("done.push('evaluation')"),
		};
		for (const name in attempts) try { attempts[name](); } catch {}
		return true;
	})()`)
	until[bool](b, `done.length > 0 || refused.length >= 7`)
	assert.Empty(t, evaluate[[]string](b, `done`))
	t.Log(evaluate[[]string](b, `refused`))
	assert.Equal(t, "#document", evaluate[string](b, `document.nodeName`), "the page is still there")
	b.mu.Lock()
	defer b.mu.Unlock()
	assert.GreaterOrEqual(t, len(b.complaints), 5, "the browser says so")
	b.complaints = nil
}

// The cookies as the browser holds them.
func TestCookies(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	s.signIn(b)
	cookies := b.cookies()
	require.Len(t, cookies, 2)
	// Plain names and no Secure: the example is on plain http, on loopback.
	for _, name := range []string{"DS", "DSR"} {
		c := cookies[name]
		require.NotNil(t, c, name)
		assert.True(t, c.HTTPOnly, name)
		assert.Equal(t, network.CookieSameSiteLax, c.SameSite, name)
		assert.Equal(t, "/", c.Path, name)
		assert.Equal(t, "127.0.0.1", c.Domain, name)
		assert.False(t, c.Secure, name)
		assert.False(t, c.Session, name)
		expires := time.Unix(int64(c.Expires), 0)
		assert.WithinDuration(t, time.Now().Add(28*24*time.Hour), expires, time.Minute, name)
	}
	assert.Empty(t, evaluate[string](b, `document.cookie`), "no script sees them")
	assert.Zero(t, evaluate[int](b, `localStorage.length + sessionStorage.length`), "nor is anything kept elsewhere")
}
