package e2e

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"image"
	"image/draw"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
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
	if text, err := decodeQR(img, nil); err == nil {
		return text, nil
	}
	// The search for a code at an angle misses one in a few hundred, for good. The reader of
	// clean pictures misses none, but takes the frame around one for a part of it.
	const frame = 6
	inner := image.NewRGBA(image.Rect(0, 0, img.Bounds().Dx()-2*frame, img.Bounds().Dy()-2*frame))
	draw.Draw(inner, inner.Bounds(), img, img.Bounds().Min.Add(image.Pt(frame, frame)), draw.Src)
	return decodeQR(inner, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true})
}

func decodeQR(img image.Image, hints map[gozxing.DecodeHintType]any) (string, error) {
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", err
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, hints)
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
	b.open(s.url + "/account/signup")
	b.fill("Login ID", "grace@example.com")
	b.enter()
	p := scan(b)
	shown := evaluate[string](b, `document.querySelector("#key").innerText`)
	assert.Regexp(t, `^([A-Z2-7]{4} )+[A-Z2-7]{1,4}$`, shown)
	assert.Equal(t, p.key.Secret(), strings.ReplaceAll(shown, " ", ""))
	b.click("Copy the key")
	b.sees("Copied.")
	assert.Equal(t, p.key.Secret(), evaluate[string](b, `navigator.clipboard.readText()`))
	assert.Equal(t, p.key.URL(), evaluate[string](b, `document.querySelector(".app a").href`))
}

func wrongCode(right string) string {
	if right == "000000" {
		return "111111"
	}
	return "000000"
}

// Whatever waits says so, and cannot be sent twice.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	s.project.Fail(kittest.VerifyPath, descopetest.Fault{Delay: 2 * time.Second})
	b.open(s.url + "/account/signin")
	b.fill("Login ID", kittest.Ada)
	// The page is about to be replaced: it notes itself what it shows, and tries once more.
	evaluate[bool](b, `(addEventListener("submit", ({ target }) => setTimeout(() => {
		const button = target.querySelector("[type=submit]");
		sessionStorage.setItem("shown", button.ariaDisabled + " " + button.innerText);
		target.requestSubmit();
	}), { once: true }), true)`)
	b.fill("Code", s.project.Code(kittest.Ada))
	b.at("/account/")
	b.sees("Ada Lovelace")
	assert.Equal(t, "true Signing in…", evaluate[string](b, `sessionStorage.getItem("shown")`))
	assert.Equal(t, 1, s.project.Requests(kittest.VerifyPath))
}

// A session that ends while a page is open is renewed by whatever the page asks for next, and
// by one call, of two tabs as of one.
func TestTwoTabsAtExpiry(t *testing.T) {
	t.Parallel()
	s := startSite(t, shortFirst(25*time.Second))
	first := newBrowser(t)
	s.signIn(first)
	second := first.another()
	for _, b := range []*tab{first, second} {
		b.open(s.url + "/account/")
		b.sees("Ada Lovelace")
	}
	before := first.cookies()
	require.Zero(t, s.project.Requests(kittest.RefreshPath))
	for _, b := range []*tab{first, second} {
		evaluate[bool](b, `(window.statuses = new Set(), window.asking = setInterval(async () => statuses.add((await fetch("/orders")).status), 200), true)`)
	}
	require.Eventually(t, func() bool { return s.project.Requests(kittest.RefreshPath) > 0 }, patience, interval)
	for _, b := range []*tab{first, second} {
		assert.Equal(t, []int{http.StatusOK}, evaluate[[]int](b, `[...statuses]`))
		b.open(s.url + "/account/")
		b.sees("Ada Lovelace")
	}
	assert.Equal(t, 1, s.project.Requests(kittest.RefreshPath))
	after := first.cookies()
	assert.NotEqual(t, before["DS"].Value, after["DS"].Value)
	assert.NotEqual(t, before["DSR"].Value, after["DSR"].Value)
	assert.True(t, s.project.Honours(after["DSR"].Value), "the browser holds the refresh token that is in force")
}

// Descope is away for a while: the pages say so, come back by themselves, and
// nobody has to sign in.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b, leaver, stranger := newBrowser(t), newBrowser(t), newBrowser(t)
	s.signIn(b)
	s.signIn(leaver)
	refresh := s.project.SignIn(kittest.Ada).Refresh
	s.project.Fail("", descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})

	b.open(s.url + "/orders")
	b.sees("Punched cards") // the session is good for a while
	b.open(s.url + "/account/")
	b.sees("You are still signed in.")
	b.click("Sign out everywhere") // which cannot be done now
	b.sees("Nothing has changed.")
	assert.Len(t, b.cookies(), 2)
	leaver.click("Sign out")
	leaver.at("/account/signed-out")
	leaver.sees("The sign-in service could not be told")
	assert.Empty(t, leaver.cookies())
	stranger.open(s.url + "/account/signin")
	stranger.fill("Login ID", kittest.Ada)
	stranger.fill("Code", "123456")
	stranger.sees("cannot be reached just now")

	b.setCookies(s.url, map[string]string{"DS": "", "DSR": refresh}) // a session that has to be renewed
	b.open(s.url + "/")
	b.sees("If you were, you still are.")
	b.open(s.url + "/orders")
	b.sees("You are still signed in, and nothing is lost.")
	assert.EqualValues(t, http.StatusServiceUnavailable, b.status("/orders"))
	assert.Len(t, b.cookies(), 1)
	s.project.Reset()
	b.sees("Punched cards") // it has loaded itself anew
}

// A session that is ended elsewhere, from another browser: with the end of its
// session token this one notices, and is told so.
func TestSignOutEverywhere(t *testing.T) {
	t.Parallel()
	s := startSite(t, func(s *descopetest.Settings) { s.SessionTTL = 5 * time.Second })
	here, there := newBrowser(t), newBrowser(t)
	s.signIn(here)
	s.signIn(there)
	here.click("Sign out everywhere")
	here.at("/account/signed-out")
	here.sees("Here and on all other devices.")
	until[bool](there, `fetch("/orders").then((r) => { window.ended = r.status === 401 }) && window.ended`)
	assert.Empty(t, there.cookies())
	there.open(s.url + "/account/")
	there.at("/account/signin")
	assert.NotContains(t, there.text(), "Ada")
}

// What the back button brings up after a sign-out says nothing of anybody.
func TestBackAfterSignOut(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	b.open(s.url + "/")
	s.signIn(b)
	for _, page := range []string{"/orders", "/payout"} {
		b.open(s.url + page)
		b.at(page)
	}
	subject := until[string](b, `[...document.querySelectorAll("code")].map((e) => e.innerText).find((text) => text.startsWith("U"))`)
	b.click("Sign out")
	b.at("/account/signed-out")
	for range 5 {
		b.back()
		until[bool](b, `(() => {
			const text = document.body?.innerText ?? "";
			if (%s.some((secret) => text.includes(secret))) throw new Error("there it is: " + text);
			return !["/account/", "/orders", "/payout"].includes(location.pathname) && document.readyState === "complete";
		})()`, []string{kittest.Ada, "Lovelace", subject, "DE89", "Punched"})
	}
}

// Another origin cannot make the browser act for its user: not from another port
// of the same host, whose requests carry the cookies, nor from another site.
func TestCrossOriginPost(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	b := newBrowser(t)
	s.signIn(b)
	verified := s.project.Requests(kittest.VerifyPath)

	// The usual trick for JSON: a form in text/plain.
	const form, trick = "application/x-www-form-urlencoded", "text/plain"
	attacks := []struct{ action, encoding, name, value string }{
		{"/account/signout", form, "a", "b"},
		{"/account/signout-everywhere", form, "a", "b"},
		{"/account/signin", form, "code", "123456"},
		{"/account/signup", form, "loginId", "eve@example.com"},
		{"/account/authenticator", form, "a", "b"},
		{"/account/v1/auth/logout", trick, `{}`, ""},
		{"/account/v1/auth/logoutall", trick, `{}`, ""},
		{"/account/v1/auth/totp/verify", trick, `{"loginId":"` + kittest.Ada + `","code":"123456"}`, ""},
		{"/payout", form, "account", "EVIL0000"},
	}
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for i, attack := range attacks {
			fmt.Fprintf(w, `<form method="post" enctype="%s" action="%s%s"><input type="hidden" name="%s" value="%s"><button>Win %d</button></form>`,
				attack.encoding, s.url, attack.action, html.EscapeString(attack.name), attack.value, i)
		}
	}))
	t.Cleanup(evil.Close)
	for _, origin := range []string{evil.URL, strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)} {
		for i, attack := range attacks {
			b.open(origin)
			b.click(fmt.Sprintf("Win %d", i))
			b.at(attack.action)
			assert.EqualValues(t, http.StatusForbidden, b.status(attack.action), "%s %s", origin, attack.action)

			// What a script may send without asking; it does not get to see the answer.
			b.open(origin)
			b.at("/")
			evaluate[bool](b, `fetch(%s, { method: "POST", mode: "no-cors", credentials: "include", headers: { "Content-Type": %s }, body: %s }).then(() => true, () => true)`,
				s.url+attack.action, attack.encoding, attack.name+"="+attack.value)
		}
	}
	for _, path := range []string{kittest.LogoutPath, kittest.LogoutAllPath, kittest.SignUpPath, kittest.UpdatePath} {
		assert.Zero(t, s.project.Requests(path), path)
	}
	assert.Equal(t, verified, s.project.Requests(kittest.VerifyPath))
	b.open(s.url + "/orders")
	b.sees("Punched cards")
}

// Markup that somebody smuggled into a page could do nothing: the browser runs
// no inline script and no inline style, and no string becomes markup.
func TestContentSecurityPolicy(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url + "/account/signin")
	b.at("/account/signin")
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
