package e2e

import (
	"context"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/pages"
)

const maxMountedWeight = 40_000 // bytes of a page and all that it loads, but for the QR code

// A mounted is an application with package pages in it: a page for admins, and one with a
// form that wants a step-up.
type mounted struct {
	url     string
	project *descopetest.Server
	held    chan struct{} // where scripts wait; nil if they do not
	saved   atomic.Pointer[string]
}

func mountPages(t *testing.T, o pages.Options, configure func(*descopetest.Settings)) *mounted {
	t.Helper()
	needBrowser(t)
	m := &mounted{project: descopetest.NewServer()}
	m.project.Configure(func(s *descopetest.Settings) {
		s.AllowCodeReuse = true
		if configure != nil {
			configure(s)
		}
	})
	auth, p := pagesOf(t, m.project, o, "")
	mux := http.NewServeMux()
	mux.Handle("/account/", p)
	mux.Handle("/admin", auth.Require(descopehttp.Role("admin"))(new(kittest.Spy)))
	mux.Handle("/mfa", auth.Require(descopehttp.MFA())(new(kittest.Spy)))
	mux.Handle("/payout", auth.Require(descopehttp.StepUpWithin(time.Hour))(http.HandlerFunc(m.payout)))
	mux.Handle("/profile", auth.RequireSession(http.HandlerFunc(m.profile)))
	mux.Handle("POST /profile", auth.Require(descopehttp.StepUp())(http.HandlerFunc(m.profile)))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!DOCTYPE html><title>Home</title>Home") })
	mux.HandleFunc("/favicon.ico", http.NotFound)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.held != nil && strings.HasSuffix(r.URL.Path, ".js") {
			select {
			case <-m.held:
			case <-r.Context().Done():
				return
			}
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	m.url = srv.URL
	return m
}

// pagesOf returns the pages of a project behind a proxy that cuts prefix off. The log of a test
// that fails is shown.
func pagesOf(t *testing.T, project *descopetest.Server, o pages.Options, prefix string) (*descopehttp.Auth, *pages.Pages) {
	t.Helper()
	logs := new(kittest.LogBuffer)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs.String())
		}
	})
	auth, p, err := pages.New(descopehttp.Config{
		ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client(),
		Cookies: descopehttp.Cookies{InsecureHTTP: true}, PathPrefix: prefix,
		Logger: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, o)
	require.NoError(t, err)
	return auth, p
}

func (m *mounted) payout(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprint(w, `<!DOCTYPE html><title>Payout</title><p>Your payout account</p>`)
}

// profile has a form whose fields are kept.
func (m *mounted) profile(w http.ResponseWriter, r *http.Request) {
	s, _ := descopehttp.SessionFromContext(r.Context())
	if r.Method == http.MethodPost {
		saved := r.PostFormValue("motto")
		m.saved.Store(&saved)
		http.Redirect(w, r, "/profile", http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, `<!DOCTYPE html><title>Profile</title><script src="/account/app.js" defer></script>
		<form method="post" data-keep="%s"><label for="motto">Motto</label><input id="motto" name="motto">
		<label for="pin">Pin</label><input id="pin" name="code"><button>Save</button></form>`, html.EscapeString(s.Subject()))
}

// login signs somebody in on the page, and returns the code that it took.
func (m *mounted) login(b *tab, loginID string) string {
	b.t.Helper()
	b.open(m.url + "/account/signin")
	b.fill("Login ID", loginID)
	code := m.project.Code(loginID)
	b.fill("Code", code)
	b.sendForm()
	b.at("/account/")
	return code
}

// sendForm presses the button of a form with a code, unless the sixth digit has sent it.
func (b *tab) sendForm() {
	b.t.Helper()
	evaluate[bool](b, `(() => {
		const form = document.querySelector("main [name=code]")?.form;
		if (form && !form.dataset.sent) form.querySelector("[type=submit]").click();
		return true;
	})()`)
}

// withoutScripts switches the scripts of pages off, but not the test's own.
func (b *tab) withoutScripts() {
	b.t.Helper()
	b.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}

// signUpToSignOut is what everybody does with the pages, by button and key.
func signUpToSignOut(b *tab, m *mounted) {
	t := b.t
	const grace = "grace@example.com"
	b.open(m.url + "/account/")
	b.at("/account/signin")
	b.click("Sign up")
	b.at("/account/signup")
	b.fill("Login ID", grace)
	b.fill("Name", "Grace Hopper")
	b.enter()
	p := scan(b)
	b.fill("Code", "000000")
	b.enter()
	b.sees("That code does not fit the new key.")
	assert.Equal(t, p.key.Secret(), scan(b).key.Secret(), "the same key again")
	b.fill("Code", p.code(t))
	b.enter()
	b.at("/account/")
	b.sees("Grace Hopper")

	b.click("Sign out")
	b.at("/account/signed-out")
	b.sees("You are signed out")
	b.open(m.url + "/profile")
	b.at("/account/signin")
	b.fill("Login ID", grace)
	b.fill("Code", p.code(t))
	b.enter()
	b.at("/profile")

	b.open(m.url + "/account/")
	b.click("Replace")
	b.at("/account/signin")
	b.sees("Confirm that it is you")
	b.sees(grace)
	b.fill("Code", p.code(t))
	b.enter()
	b.at("/account/authenticator")
	b.click("Make a new key")
	fresh := scan(b)
	require.NotEqual(t, p.key.Secret(), fresh.key.Secret())
	b.fill("Code", fresh.code(t))
	b.enter()
	b.at("/account/")
	b.sees("The new authenticator is in use.")

	b.click("Sign out everywhere")
	b.at("/account/signed-out")
	b.sees("Here and on all other devices.")
}

func TestMountedWithoutScripts(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{}, nil)
	b := newBrowser(t)
	b.withoutScripts()
	signUpToSignOut(b, m)
}

// Only what is at work now can be pressed: a page whose script is late is a page without.
func TestMountedScriptHeldBack(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{}, nil)
	m.held = make(chan struct{})
	b := newBrowser(t)
	b.open2(m.url + "/account/signup")
	b.fillNow("loginId", "grace@example.com")
	b.submitNow()
	until[bool](b, `document.querySelector("#qr")?.naturalWidth > 0`)
	p := m.project.Code("grace@example.com")
	b.fillNow("code", p)
	b.submitNow()
	until[bool](b, `location.pathname === "/account/" && document.body?.innerText.includes("Recent sign-ins")`)
	close(m.held)
	b.at("/account/")
}

// fillNow and submitNow act on a page that is still loading.
func (b *tab) fillNow(name, text string) {
	b.t.Helper()
	until[bool](b, `document.getElementsByName(%s)[0]?.checkVisibility()`, name)
	evaluate[bool](b, `(document.getElementsByName(%s)[0].value = %s, true)`, name, text)
}

func (b *tab) submitNow() {
	b.t.Helper()
	evaluate[bool](b, `(document.querySelector("main form [type=submit]").click(), true)`)
}

// open2 goes to an address and does not wait for all of the page.
func (b *tab) open2(address string) {
	b.t.Helper()
	evaluate[bool](b, `(location.href = %s, true)`, address)
}

// unfold opens what is folded in.
func (b *tab) unfold() {
	b.t.Helper()
	evaluate[bool](b, `(document.querySelector("summary").click(), document.querySelector("details").open)`)
}

var mountedSizes = []size{
	{"wide", 1280, 900, false},
	{"phone", 390, 844, true},
}

// inspect looks at the page as it is now, as gallery.look does for the example.
func (g *gallery) inspect(name string) {
	t := g.t
	t.Helper()
	until[bool](g.tab, `document.readyState === "complete"`)
	g.mu.Lock()
	weight := g.weight
	g.mu.Unlock()
	weight -= evaluate[float64](g.tab, `2 * 4 / 3 * (document.querySelector("#qr")?.src.length ?? 0) * 3 / 4`) // the picture, and the form's copy
	t.Logf("%-30s %5.1f kB", name, weight/1000)
	assert.LessOrEqual(t, weight, float64(maxMountedWeight), name)
	for _, scheme := range []string{"light", "dark"} {
		g.prefer("prefers-color-scheme", scheme)
		for _, size := range mountedSizes {
			g.resize(size.width, size.height, size.phone)
			view := fmt.Sprintf("%s-%s-%s", name, size.name, scheme)
			assert.True(t, evaluate[bool](g.tab, `document.documentElement.scrollWidth <= innerWidth`), "%s is wider than the window", view)
			assert.Empty(t, evaluate[[]string](g.tab, sticksOut), "%s: outside its box", view)
			switch {
			case scheme == "light":
				g.checkAccessibility(view, `{}`)
			case !size.phone:
				g.checkAccessibility(view, `{ runOnly: ["color-contrast"] }`)
			}
			g.shoot(view)
		}
	}
	// 400 % of 1280 (WCAG 1.4.10)
	g.resize(320, 256, true)
	assert.True(t, evaluate[bool](g.tab, `document.documentElement.scrollWidth <= innerWidth`), "%s is wider than 320 pixels", name)
	g.resize(1280, 900, false)
}

// The pages, one by one.
func TestMountedPages(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	m := mountPages(t, pages.Options{Name: "Lovelace & Co."}, nil)
	m.project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada Lovelace"})
	account := m.url + "/account/"

	g.open(account + "signin")
	g.inspect("signin")
	g.fill("Login ID", kittest.Ada)
	g.fill("Code", "000000")
	g.sendForm()
	g.sees("That code does not fit")
	g.inspect("signin-wrong-code")
	g.open(account + "signup")
	g.inspect("signup")
	g.fill("Login ID", kittest.Ada)
	g.enter()
	g.sees("Somebody has signed up")
	g.inspect("signup-exists")
	g.open(account + "signup")
	g.fill("Login ID", "grace@example.com")
	g.enter()
	scan(g.tab)
	g.inspect("key")
	g.fill("Code", "000000")
	g.sendForm()
	g.sees("does not fit the new key")
	g.inspect("key-wrong-code")
	g.open(account + "nowhere/at/all")
	g.inspect("notfound")

	m.login(g.tab, kittest.Ada)
	g.inspect("account")
	g.unfold()
	g.inspect("account-details")
	g.open(m.url + "/admin")
	g.sees("You may not open this")
	g.inspect("refused")
	g.open(account + "signup")
	g.inspect("signup-signed-in")
	g.open(account + "authenticator")
	g.at("/account/signin")
	g.inspect("confirm")
	g.fill("Code", "000000")
	g.sendForm()
	g.sees("That code was not accepted")
	g.inspect("confirm-wrong-code")
	g.fill("Code", m.project.Code(kittest.Ada))
	g.sendForm()
	g.at("/account/authenticator")
	g.inspect("authenticator")
	g.click("Make a new key")
	scan(g.tab)
	g.inspect("authenticator-key")
	g.fill("Code", m.project.Code(kittest.Ada))
	g.sendForm()
	g.at("/account/")
	g.sees("is in use")
	g.inspect("account-replaced")
	g.click("Sign out")
	g.at("/account/signed-out")
	g.inspect("signed-out")

	g.open(account + "signin")
	evaluate[int](g.tab, `(async () => {
		let answer;
		for (let i = 0; i < 11; i++) answer = await fetch("", { method: "POST", body: new URLSearchParams({ loginId: "limited@example.com", code: "000000" }) });
		return answer.status;
	})()`)
	g.fill("Login ID", "limited@example.com")
	g.fill("Code", "000000")
	g.sendForm()
	g.sees("Too many attempts.")
	g.inspect("signin-limited")
}

// What Descope's absence, and a second factor that adds none, look like.
func TestMountedTroubles(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	m := mountPages(t, pages.Options{Name: "Lovelace & Co.", LostPhone: "/lost"}, func(s *descopetest.Settings) {
		s.EditClaims = func(_ string, claims map[string]any) { claims["amr"] = []string{"totp"} }
	})
	m.project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada Lovelace"})
	account := m.url + "/account/"
	m.login(g.tab, kittest.Ada)
	g.open(m.url + "/mfa")
	g.at("/account/signin")
	g.fill("Code", m.project.Code(kittest.Ada))
	g.sendForm()
	g.sees("This needs another way of signing in")
	g.inspect("factor")

	refresh := m.project.SignIn(kittest.Ada).Refresh
	m.project.Fail("", descopetest.Fault{Status: http.StatusInternalServerError, Times: -1})
	g.open(account)
	g.sees("Your details cannot be loaded")
	g.inspect("account-away")
	g.setCookies(m.url, map[string]string{"DS": "", "DSR": refresh})
	g.open(account)
	g.sees("Trying again in")
	g.inspect("away")
	g.open(account + "signin")
	g.sees("cannot be reached just now")
	g.inspect("signin-away")
	m.project.Reset()
	g.open(account)
	g.sees("Ada Lovelace") // by itself, once it is there again
}

// setCookies gives the browser other cookies, "" for none.
func (b *tab) setCookies(address string, values map[string]string) {
	b.t.Helper()
	for name, value := range values {
		b.call(func(ctx context.Context) error {
			expires := time.Now().Add(time.Hour)
			if value == "" {
				expires = time.Unix(1, 0)
			}
			_, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{
				Name: name, Value: value, URL: address, Path: "/", HTTPOnly: new(true), Expires: cdp.TimeSinceEpoch(expires.Unix()),
			})
			return err
		})
	}
}

// The sixth digit sends the code, and correcting one does not.
func TestMountedSixthDigit(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{}, nil)
	m.project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada"})
	b := newBrowser(t)
	b.open(m.url + "/account/signin")
	b.at("/account/signin")
	b.sees("The sixth sends the code.")
	code := m.project.Code(kittest.Ada)
	b.fill("Code", code)
	assert.Equal(t, "/account/signin", evaluate[string](b, `location.pathname`), "there is no login id yet")
	b.fill("Login ID", kittest.Ada)
	b.fill("Code", code[:3]+" "+code[3:])
	b.at("/account/")

	b.open(m.url + "/account/authenticator")
	b.at("/account/signin")
	until[bool](b, `document.activeElement.id === "code" && (document.activeElement.value = "1234567") !== ""`)
	b.press(kb.Backspace)
	until[bool](b, `document.activeElement.value === "123456" && !document.activeElement.form.dataset.sent`)
	b.press(kb.Backspace)
	b.press("7")
	b.sees("That code was not accepted.")
}

// A limit counts down, holds the button, and lets go by itself.
func TestMountedCountdown(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{}, nil)
	m.project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada"})
	b := newBrowser(t)
	m.project.Fail(kittest.VerifyPath, descopetest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3"}}})
	b.open(m.url + "/account/signin")
	b.fill("Login ID", kittest.Ada)
	b.fill("Code", "000000")
	until[bool](b, `/Try again in [1-3] s\./.test(document.body?.innerText) && document.querySelector("main [type=submit]")?.disabled`)
	b.sees("You can try again now.")
	until[bool](b, `!document.querySelector("main [type=submit]").disabled && document.activeElement.id === "code"`)
	b.fill("Code", m.project.Code(kittest.Ada))
	b.at("/account/")
}

// A used code is refused: the page says when the next one comes.
func TestMountedNextCode(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{}, func(s *descopetest.Settings) { s.AllowCodeReuse = false })
	m.project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada"})
	b := newBrowser(t)
	used := m.login(b, kittest.Ada)
	b.open(m.url + "/payout")
	b.sees("Your payout account") // the code was typed a moment ago
	b.open(m.url + "/account/authenticator")
	b.at("/account/signin")
	b.fill("Code", used)
	b.sees("That code was not accepted.")
	until[bool](b, `/It comes in \d+ s\.|Your app shows a new code now\./.test(document.body?.innerText)`)
	b.sees("Your app shows a new code now.")
	b.fill("Code", m.project.Code(kittest.Ada))
	b.at("/account/authenticator")
}

// What was typed into a form is there again after the sign-in that came between, but for
// codes, and for nobody else.
func TestMountedKeepsForms(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{}, nil)
	for _, id := range []string{kittest.Ada, kittest.Bob} {
		m.project.AddUser(descopetest.User{LoginID: id, Name: id})
	}
	b := newBrowser(t)
	m.login(b, kittest.Ada)
	b.open(m.url + "/profile")
	b.fill("Motto", "Poetical science")
	b.fill("Pin", "1234")
	b.click("Save")
	b.at("/account/signin")
	b.fill("Code", m.project.Code(kittest.Ada))
	b.at("/profile")
	assert.Equal(t, "Poetical science", until[string](b, `document.querySelector("#motto")?.value`))
	assert.Empty(t, evaluate[string](b, `document.querySelector("#pin").value`))
	b.click("Save")
	b.at("/profile")
	until[bool](b, `document.querySelector("#motto")?.value === ""`)
	assert.Equal(t, "Poetical science", *m.saved.Load())

	b.fill("Motto", "hers alone")
	b.setCookies(m.url, map[string]string{"DS": "", "DSR": ""})
	b.click("Save")
	b.at("/account/signin")
	b.fill("Login ID", kittest.Bob)
	b.fill("Code", m.project.Code(kittest.Bob))
	b.at("/profile")
	assert.Empty(t, evaluate[string](b, `document.querySelector("#motto").value`))
}

// Other tabs, and the back button, show nothing of somebody who is gone.
func TestMountedOtherTabs(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{}, nil)
	m.project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada Lovelace"})
	b := newBrowser(t)
	m.login(b, kittest.Ada)
	other := b.another()
	other.open(m.url + "/account/")
	other.sees("Ada Lovelace")
	b.click("Sign out")
	b.at("/account/signed-out")
	other.at("/account/signin")
	b.back()
	b.at("/account/signin")
	assert.NotContains(t, b.text(), "Ada")
	m.login(b, kittest.Ada)
	other.at("/account/")
}

// Whoever uses only the keyboard meets the fields in order, and gets past the bar.
func TestMountedKeyboard(t *testing.T) {
	t.Parallel()
	m := mountPages(t, pages.Options{Name: "Shop"}, nil)
	b := newBrowser(t)
	b.open(m.url + "/account/signin")
	b.at("/account/signin")
	const focused = `(() => { const e = document.activeElement; return e.id || e.innerText?.trim() || e.tagName })()`
	require.Equal(t, "loginId", evaluate[string](b, focused), "the first field has the focus")
	var met []string
	for range 3 {
		b.press(kb.Tab)
		met = append(met, evaluate[string](b, focused))
	}
	assert.Equal(t, []string{"code", "Sign in", "Sign up"}, met)

	b.open(m.url + "/account/nowhere")
	b.at("/account/nowhere")
	b.press(kb.Tab)
	require.Equal(t, "Skip to the content", evaluate[string](b, focused))
	b.enter()
	require.Equal(t, "main", evaluate[string](b, focused))
	b.press(kb.Tab)
	require.Equal(t, "Home", evaluate[string](b, focused))
}

// What the browser colours, and what is printed, has all that is needed.
func TestMountedOtherMedia(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	m := mountPages(t, pages.Options{Name: "Shop"}, nil)
	media := func(media, feature string) {
		g.call(func(ctx context.Context) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Media: media, Features: []*emulation.MediaFeature{{Name: "forced-colors", Value: feature}},
			})
			return err
		})
	}
	g.open(m.url + "/account/signup")
	g.fill("Login ID", "grace@example.com")
	g.enter()
	key := scan(g.tab)
	media("", "active")
	assert.Equal(t, key.key.Secret(), scan(g.tab).key.Secret(), "it can still be scanned")
	assert.NotEqual(t, "0px", evaluate[string](g.tab, `getComputedStyle(document.querySelector("main [type=submit]")).borderTopWidth`))
	g.shoot("key-forced-colours")
	media("print", "none")
	assert.Equal(t, key.key.Secret(), scan(g.tab).key.Secret())
	assert.False(t, evaluate[bool](g.tab, `[...document.querySelectorAll("nav, button")].some((e) => e.checkVisibility())`))
	g.shoot("key-print")
	media("", "none")
}

// hardIDs are login ids that break lines, fonts and directions.
var hardIDs = map[string]string{
	"52":      "wolfeschlegelsteinhausenbergerdorff.x@hausen.example",
	"200":     strings.Repeat("abcdefghi0", 19) + "@b.example",
	"unicode": "用户名字测试很长的登录名称没有空格也没有断行的地方一二三四五六七八九十@例え.テスト",
	"rtl":     "مستخدم.طويل.جدا.بدون.مسافات.للاختبار@مثال.إختبار",
}

func TestMountedHardLoginIDs(t *testing.T) {
	t.Parallel()
	for name, loginID := range hardIDs {
		t.Run(name, func(t *testing.T) {
			g := newGallery(t)
			m := mountPages(t, pages.Options{Name: "Lovelace & Co."}, nil)
			account := m.url + "/account/"
			g.open(account + "signin")
			g.fill("Login ID", loginID)
			g.fill("Code", "000000")
			g.sendForm()
			g.sees("That code does not fit")
			g.inspect("id-" + name + "-signin-wrong-code")
			g.open(account + "signup")
			g.fill("Login ID", loginID)
			g.enter()
			scan(g.tab)
			g.inspect("id-" + name + "-key")
			g.fill("Code", m.project.Code(loginID))
			g.sendForm()
			g.at("/account/")
			g.unfold()
			g.inspect("id-" + name + "-account")
			g.open(account + "authenticator")
			g.at("/account/signin")
			g.inspect("id-" + name + "-confirm")
		})
	}
}
