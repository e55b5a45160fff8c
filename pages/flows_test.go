package pages_test

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// guarded mounts pages of the application beside those of the package.
func guarded(s *site) {
	s.mux.Handle("/account/", s.pages)
	s.mux.Handle("/orders", s.auth.RequireSession(new(kittest.Spy)))
	s.mux.Handle("/admin", s.auth.Require(descopehttp.Role("admin"))(new(kittest.Spy)))
	s.mux.Handle("/payout", s.auth.Require(descopehttp.StepUp())(new(kittest.Spy)))
	s.mux.Handle("/mfa", s.auth.Require(descopehttp.MFA())(new(kittest.Spy)))
	s.mux.Handle("/fresh", s.auth.Require(descopehttp.StepUpWithin(time.Hour))(new(kittest.Spy)))
}

// Sign up, sign in, step up, replace and sign out, with plain forms.
func TestSignUpToSignOut(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded})
	b := newBrowser(t, s)

	page := b.follow(b.open("/account/"))
	says(t, page, "<h1>Sign in</h1>")
	page = b.submit(b.open("/account/signup"), url.Values{"loginId": {grace}, "name": {"Grace Hopper"}})
	require.Equal(t, http.StatusOK, page.StatusCode, page.body)
	says(t, page, "otpauth://totp/")
	require.Empty(t, b.cookie("DSR"), "nobody is signed in before the first code")
	page = b.submit(page, url.Values{"code": {s.project.Code(grace)}})
	assert.Equal(t, "./", location(t, page).String())
	page = b.follow(page)
	says(t, page, "<h1><bdi>Grace Hopper</bdi></h1>")
	says(t, page, "Recent sign-ins")
	says(t, page, "192.0.2.1")

	page = b.open("/payout")
	assert.Equal(t, "/account/signin?acr_values=stepup&return_to=%2Fpayout", location(t, page).String())
	page = b.follow(page)
	says(t, page, "Confirm that it is you")
	assert.Regexp(t, `name="username" value="`+grace+`" autocomplete="username"`, page.body)
	omits(t, page, `name="loginId"`)
	page = b.submit(page, url.Values{"code": {s.project.Code(grace)}})
	assert.Equal(t, "/payout", location(t, page).String())
	assert.Equal(t, "ok", b.follow(page).body)

	before := s.project.Code(grace)
	page = b.submit(b.open("/account/authenticator"), nil)
	says(t, page, "otpauth://totp/")
	require.NotEqual(t, before, s.project.Code(grace), "of the new key")
	page = b.submit(page, url.Values{"code": {s.project.Code(grace)}})
	assert.Equal(t, "./?notice=replaced", location(t, page).String())
	says(t, b.follow(page), "The new authenticator is in use.")

	page = b.send(http.MethodPost, "/account/signout", url.Values{})
	assert.Equal(t, "./signed-out", location(t, page).String())
	assert.Empty(t, b.cookie("DS")+b.cookie("DSR"))
	page = b.follow(page)
	says(t, page, "You are signed out")
	omits(t, page, `class="notice"`, "it is no warning")
	assert.Equal(t, "./signin", location(t, b.open("/account/")).String())
	assert.NotContains(t, s.logs.String(), grace)
	assert.NotContains(t, s.logs.String(), "otpauth")
}

// What fails is answered with the page that has the form, and its true status.
func TestFailedForms(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 257)
	for name, c := range map[string]struct {
		page   string
		fields url.Values
		status int
		says   string
		focus  string
	}{
		"wrong code":          {"signin", url.Values{"loginId": {ada}, "code": {"000000"}}, 401, "That code does not fit this login ID.", "code"},
		"unknown user":        {"signin", url.Values{"loginId": {"nobody"}, "code": {"000000"}}, 401, "That code does not fit this login ID.", "code"},
		"no login id":         {"signin", url.Values{"loginId": {" "}, "code": {"000000"}}, 400, "Type your login ID.", "loginId"},
		"no code":             {"signin", url.Values{"loginId": {ada}, "code": {""}}, 400, "Type the code that your app shows.", "code"},
		"code of letters":     {"signin", url.Values{"loginId": {ada}, "code": {"abcdef"}}, 400, "A code is made of digits", "code"},
		"long login id":       {"signin", url.Values{"loginId": {long}, "code": {"000000"}}, 400, "at most 256 characters", "loginId"},
		"known user":          {"signup", url.Values{"loginId": {ada}}, 400, "Somebody has signed up with this login ID", "loginId"},
		"sign-up without one": {"signup", url.Values{"loginId": {""}}, 400, "Type your login ID.", "loginId"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, edits{})
			b := newBrowser(t, s)
			page := b.submit(b.open("/account/"+c.page), c.fields)
			require.Equal(t, c.status, page.StatusCode)
			says(t, page, c.says)
			says(t, page, "<title>Error: ")
			says(t, page, `value="`+strings.TrimSpace(c.fields.Get("loginId"))+`"`, "what was typed is still there")
			requireFocus(t, page, c.focus)
			assert.Equal(t, c.status == 401, page.Header.Get("WWW-Authenticate") != "")
			if code := c.fields.Get("code"); code != "" {
				omits(t, page, code, "a code is typed anew")
			}
		})
	}
}

var (
	autofocus   = regexp.MustCompile(`<[^>]* autofocus\b[^>]*>`)
	describedBy = regexp.MustCompile(`aria-describedby="([^"]*)"`)
)

// requireFocus checks that one element has the focus, and that the error is said once: with the
// field that it is about, or by itself.
func requireFocus(t *testing.T, page *shown, id string) {
	t.Helper()
	focused := autofocus.FindAllString(page.body, -1)
	require.Len(t, focused, 1)
	require.Contains(t, focused[0], ` id="`+id+`"`)
	omits(t, page, `role="alert"`)
	if strings.Contains(page.body, ` id="error"`) && id != "error" {
		assert.Regexp(t, `aria-describedby="error[ "]`, focused[0])
		assert.Contains(t, focused[0], `aria-invalid="true"`)
	}
	for _, list := range describedBy.FindAllStringSubmatch(page.body, -1) {
		for id := range strings.FieldsSeq(list[1]) {
			says(t, page, ` id="`+id+`"`)
		}
	}
}

func TestHintsAboutALoginID(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{})
	b := newBrowser(t, s)
	const capitals, space = "You typed capital letters", "A space at the end was left out."
	try := func(loginID string) string {
		page := b.submit(b.open("/account/signin"), url.Values{"loginId": {loginID}, "code": {"000000"}})
		require.Equal(t, http.StatusUnauthorized, page.StatusCode)
		return page.body
	}
	body := try("nobody")
	assert.NotContains(t, body, capitals)
	assert.NotContains(t, body, space)
	assert.Contains(t, try("Nobody"), capitals)
	assert.Contains(t, try("nobody "), space)
	page := b.submit(b.open("/account/signup"), url.Values{"loginId": {"Grace "}})
	says(t, page, "just as it stands here")
	says(t, page, `<bdi class="id">Grace</bdi>`)

	b.follow(b.submit(page, url.Values{"code": {s.project.Code("Grace")}}))
	page = b.follow(b.submit(b.follow(b.open("/account/authenticator")), url.Values{"code": {s.project.Code("Grace")}}))
	page = b.submit(page, nil)
	says(t, page, `<bdi class="id">Grace</bdi>`)
	omits(t, page, "You typed capital letters", "nobody typed anything")
	omits(t, page, "Use another login ID")
}

// What completion and pasting leave around a login id is not part of it, on any page.
func TestPastedLoginIDs(t *testing.T) {
	t.Parallel()
	for _, around := range []string{"\u00a0", "\u200b", "\ufeff", "\u2068"} {
		s := newSite(t, edits{})
		b := newBrowser(t, s)
		page := b.submit(b.open("/account/signup"), url.Values{"loginId": {around + grace + around}})
		require.Equal(t, http.StatusOK, page.StatusCode)
		page = b.submit(page, url.Values{"code": {"12"}})
		require.Equal(t, http.StatusBadRequest, page.StatusCode)
		page = b.submit(page, url.Values{"code": {s.project.Code(grace)}})
		require.Equal(t, "./", location(t, page).String(), "%q", around)

		b = newBrowser(t, s)
		page = b.submit(b.open("/account/signin"), url.Values{"loginId": {around + ada + around}, "code": {around + s.project.Code(ada)}})
		require.Equal(t, "./", location(t, page).String(), "%q", around)
	}
}

func TestTooManyAttempts(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{config: func(c *descopehttp.Config) { c.Limits.GuessesPerLogin = 1 }})
	b := newBrowser(t, s)
	fields := url.Values{"loginId": {ada}, "code": {"000000"}}
	require.Equal(t, http.StatusUnauthorized, b.submit(b.open("/account/signin"), fields).StatusCode)
	page := b.submit(b.open("/account/signin"), fields)
	require.Equal(t, http.StatusTooManyRequests, page.StatusCode)
	wait := regexp.MustCompile(`data-wait="(\d+)" data-text="Try again in {time}\."[^>]* data-then="hold">Try again in \d+ (minutes|seconds)\.<`).FindStringSubmatch(page.body)
	require.NotNil(t, wait, page.body)
	assert.Equal(t, page.Header.Get("Retry-After"), wait[1])
	requireFocus(t, page, "error")
}

func TestForms(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{})
	for _, name := range []string{"signin", "signup", "authenticator"} {
		b := newBrowser(t, s)
		page := b.send(http.MethodPost, "/account/"+name, url.Values{"loginId": {ada}}, "Content-Type", "text/plain")
		assert.Equal(t, http.StatusUnsupportedMediaType, page.StatusCode, name)
		page = b.send(http.MethodPost, "/account/"+name, url.Values{"qr": {strings.Repeat("x", 200<<10)}})
		assert.Equal(t, http.StatusRequestEntityTooLarge, page.StatusCode, name)
		says(t, page, "That is too long.")
		page = b.send(http.MethodPost, "/account/"+name, url.Values{"loginId": {ada, grace}, "code": {s.project.Code(ada)}})
		assert.Equal(t, http.StatusBadRequest, page.StatusCode, name)
		says(t, page, "The server did not understand what this page sent.")
		omits(t, page, ada)
		assert.Empty(t, page.Cookies(), name)
		page = b.send(http.MethodPut, "/account/"+name, nil)
		assert.Equal(t, http.StatusMethodNotAllowed, page.StatusCode, name)
		assert.Equal(t, "GET, HEAD, POST", page.Header.Get("Allow"))
	}
	b := newBrowser(t, s)
	for _, name := range []string{"", "signed-out"} {
		page := b.send(http.MethodPost, "/account/"+name, url.Values{})
		assert.Equal(t, http.StatusMethodNotAllowed, page.StatusCode, name)
		assert.Equal(t, "GET, HEAD", page.Header.Get("Allow"), name)
	}
	for _, name := range []string{"signout", "signout-everywhere"} {
		assert.Equal(t, "./", location(t, b.open("/account/"+name)).String())
	}
	head := b.send(http.MethodHead, "/account/signin", nil)
	assert.Equal(t, http.StatusOK, head.StatusCode)
	assert.Empty(t, head.body)
}

// A form of another site does nothing, and what it has sent is not shown.
func TestOtherSitesForms(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{})
	b := newBrowser(t, s)
	b.signIn(s, ada)
	key := b.filled(b.submit(b.open("/account/signup"), url.Values{"loginId": {"mallory"}}), url.Values{"code": {"123456"}})
	for name, form := range map[string]url.Values{
		"signin":                    {"loginId": {ada}, "code": {s.project.Code(ada)}},
		"signin?acr_values=stepup":  {"code": {s.project.Code(ada)}},
		"signup":                    {"loginId": {"mallory"}},
		"signup?with=key":           key,
		"authenticator":             {},
		"authenticator?with=key":    key,
		"signout":                   {},
		"signout-everywhere":        {},
		"signout-everywhere?x=also": {},
	} {
		page := b.send(http.MethodPost, "/account/"+name, form, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
		assert.Equal(t, http.StatusForbidden, page.StatusCode, name)
		says(t, page, "You may not open this", name)
		omits(t, page, "otpauth", name)
		omits(t, page, "data:image", name)
		omits(t, page, "mallory", name)
	}
	assert.Equal(t, http.StatusOK, b.open("/account/").StatusCode, "still signed in")
}

// A wrong code shows the same key again, and nothing that is not a key.
func TestKeyIsShownAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{config: func(c *descopehttp.Config) { c.Limits.GuessesPerLogin = 20 }})
	b := newBrowser(t, s)
	page := b.submit(b.open("/account/signup"), url.Values{"loginId": {grace}})
	require.Equal(t, http.StatusOK, page.StatusCode)
	requireFocus(t, page, "code")
	form := b.filled(page, url.Values{"code": {"000000"}})
	link := regexp.MustCompile(`href="otpauth://totp/[^"]*secret=([A-Z2-7]+)`).FindStringSubmatch(page.body)
	require.NotNil(t, link)
	image := regexp.MustCompile(`src="(data:image/png;base64,[^"]+)"`).FindStringSubmatch(page.body)
	require.NotNil(t, image)
	picture, err := base64.StdEncoding.DecodeString(form.Get("qr"))
	require.NoError(t, err)
	again := b.send(http.MethodPost, "/account/signup", form)
	require.Equal(t, http.StatusUnauthorized, again.StatusCode)
	says(t, again, link[0])
	says(t, again, image[0])
	assert.Contains(t, strings.ReplaceAll(again.body, " ", ""), ">"+link[1]+"</code>")
	says(t, again, "That code does not fit the new key.")
	requireFocus(t, again, "code")
	assert.Equal(t, form, b.filled(again, url.Values{"code": {"000000"}}), "and once more")

	for name, edit := range map[string]url.Values{
		"script":          {"url": {"javascript:alert(1)"}},
		"other host":      {"url": {"otpauth://hotp/a?secret=B"}},
		"web":             {"url": {"https://totp/a?secret=B"}},
		"no secret":       {"url": {"otpauth://totp/a"}},
		"long":            {"url": {form.Get("url") + "&x=" + strings.Repeat("x", 1<<10)}},
		"none":            {"url": {""}, "qr": {""}},
		"no picture":      {"qr": {"AAAA"}},
		"not base64":      {"qr": {"*" + form.Get("qr")}},
		"markup":          {"qr": {`"><script>`}},
		"another picture": {"qr": {"R0lGODlhAQABAAAAACwAAAAAAQABAAA="}},
		"large picture":   {"qr": {base64.StdEncoding.EncodeToString(append(picture, make([]byte, 32<<10)...))}},
	} {
		tampered := maps.Clone(form)
		maps.Copy(tampered, edit)
		page := b.send(http.MethodPost, "/account/signup", tampered)
		require.Equal(t, http.StatusUnauthorized, page.StatusCode, name)
		says(t, page, "The key is not shown again.", name)
		omits(t, page, "data:image", name)
		omits(t, page, "javascript:", name)
		omits(t, page, "otpauth:", name)
	}
	page = b.send(http.MethodPost, "/account/signup", with(form, "code", s.project.Code(grace)))
	assert.Equal(t, "./", location(t, page).String(), "a code of it is good all the same")
}

// The way back survives every link, and leads nowhere else.
func TestWayBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded})
	b := newBrowser(t, s)
	page := b.follow(b.open("/orders?sort=new"))
	require.Equal(t, "/account/signin", page.Request.URL.Path)
	links := regexp.MustCompile(`href="(\./sign(?:in|up)[^"]*)"`)
	const kept = "?return_to=%2forders%3fsort%3dnew"
	for _, name := range []string{"signup", "signin", "signup"} {
		found := links.FindAllStringSubmatch(page.body, -1)
		require.NotEmpty(t, found)
		for _, link := range found {
			assert.True(t, strings.HasSuffix(link[1], kept), link[1])
		}
		page = b.open("./" + name + kept)
	}
	page = b.submit(page, url.Values{"loginId": {ada}})
	require.Equal(t, http.StatusBadRequest, page.StatusCode)
	page = b.submit(page, url.Values{"loginId": {grace}})
	for _, link := range links.FindAllStringSubmatch(page.body, -1) {
		assert.True(t, strings.HasSuffix(link[1], kept), link[1])
	}
	page = b.submit(page, url.Values{"code": {"000000"}})
	page = b.submit(page, url.Values{"code": {s.project.Code(grace)}})
	assert.Equal(t, "/orders?sort=new", location(t, page).String())
	assert.Equal(t, "/orders", location(t, b.open("/account/signin?return_to=/orders")).String(), "who is signed in goes on")
	assert.Equal(t, "/", location(t, b.open("/account/signin?return_to=/")).String())
	for _, evil := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", "", "orders"} {
		page := b.open("/account/signin?return_to=" + url.QueryEscape(evil))
		assert.Equal(t, "./", location(t, page).String(), evil)
	}
}

// Descope refuses a code that was used: the page says so before and after, and for how long.
func TestStepUpWithAUsedCode(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded})
	s.project.Configure(func(set *descopetest.Settings) { set.AllowCodeReuse = false })
	b := newBrowser(t, s)
	used := s.project.Code(ada)
	b.signIn(s, ada)
	assert.Equal(t, "ok", b.open("/fresh").body, "it was typed a moment ago")
	page := b.submit(b.follow(b.open("/payout")), url.Values{"code": {used}})
	require.Equal(t, http.StatusUnauthorized, page.StatusCode)
	says(t, page, "That code was not accepted.")
	assert.Regexp(t, `Each code works once\..*data-wait="([1-9]|[12][0-9]|30)" data-text="It comes in {time}\."`, strings.ReplaceAll(page.body, "\n", " "))
	says(t, page, `name="username" value="`+ada+`"`)
	requireFocus(t, page, "code")
	says(t, page, ">Sign out<", "it knows who is signed in")
}

func TestStepUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded})
	b := newBrowser(t, s)
	b.signIn(s, ada)
	ask := b.follow(b.open("/payout"))

	t.Run("without me", func(t *testing.T) {
		s.project.Fail(kittest.MePath, descopetest.Fault{Status: http.StatusInternalServerError, Times: 2})
		page := b.open("/account/signin?acr_values=stepup&return_to=/payout")
		assert.Equal(t, http.StatusOK, page.StatusCode)
		says(t, page, "Confirm that it is you")
		s.project.Reset()
	})
	t.Run("while Descope is away", func(t *testing.T) {
		s.project.Fail(kittest.VerifyPath, descopetest.Fault{Status: http.StatusInternalServerError, Times: -1})
		b.at, _ = b.at.Parse(ask.Request.URL.String())
		page := b.submit(ask, url.Values{"code": {s.project.Code(ada)}})
		assert.Equal(t, http.StatusServiceUnavailable, page.StatusCode)
		says(t, page, "cannot be reached just now")
		assert.NotEmpty(t, page.Header.Get("Retry-After"))
		s.project.Reset()
	})
	t.Run("the session has ended", func(t *testing.T) {
		s.project.LogOut(ada)
		page := b.send(http.MethodPost, "/account/signin?acr_values=stepup&return_to=/payout", url.Values{"code": {s.project.Code(ada)}})
		assert.Equal(t, "./signin?notice=ended&return_to=%2Fpayout", location(t, page).String())
	})
	t.Run("nobody is signed in", func(t *testing.T) {
		b := newBrowser(t, s)
		page := b.open("/account/signin?acr_values=stepup&return_to=/payout")
		says(t, page, `name="loginId"`)
		page = b.submit(page, url.Values{"loginId": {ada}, "code": {s.project.Code(ada)}})
		assert.Equal(t, "/payout", location(t, page).String())
	})
	t.Run("asks again", func(t *testing.T) {
		b := newBrowser(t, s)
		b.signIn(s, ada)
		b.submit(b.follow(b.open("/payout")), url.Values{"code": {s.project.Code(ada)}})
		says(t, b.open("/account/signin?acr_values=stepup&return_to=/payout"), "Confirm that it is you", "or a guard that is not content would send browsers in circles")
	})
}

// A second factor that adds none is told, once.
func TestMFA(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded})
	b := newBrowser(t, s)
	b.signIn(s, ada)
	page := b.submit(b.follow(b.open("/mfa")), url.Values{"code": {s.project.Code(ada)}})
	assert.Equal(t, "ok", b.follow(page).body)

	s = newSite(t, edits{mount: guarded})
	s.project.Configure(func(set *descopetest.Settings) {
		set.EditClaims = func(_ string, claims map[string]any) { claims["amr"] = []string{"totp"} }
	})
	b = newBrowser(t, s)
	b.signIn(s, ada)
	page = b.submit(b.follow(b.open("/mfa")), url.Values{"code": {s.project.Code(ada)}})
	assert.Equal(t, http.StatusForbidden, page.StatusCode)
	says(t, page, "This needs another way of signing in")
}

// with returns a copy with one field changed.
func with(form url.Values, name, value string) url.Values {
	changed := maps.Clone(form)
	changed.Set(name, value)
	return changed
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{})
	here, there := newBrowser(t, s), newBrowser(t, s)
	here.signIn(s, ada)
	there.signIn(s, ada)

	s.project.Fail("", descopetest.Fault{Drop: true, Times: -1})
	page := here.send(http.MethodPost, "/account/signout-everywhere", url.Values{})
	assert.Equal(t, http.StatusServiceUnavailable, page.StatusCode)
	says(t, page, "Nothing has changed.")
	requireFocus(t, page, "error")
	assert.NotEmpty(t, here.cookie("DSR"), "so that it can be tried again")
	page = there.send(http.MethodPost, "/account/signout", url.Values{})
	assert.Equal(t, "./signed-out?notice=untold", location(t, page).String())
	assert.Empty(t, there.cookie("DS")+there.cookie("DSR"), "this browser is done with it")
	says(t, there.follow(page), "a little later")
	s.project.Reset()

	require.Eventually(t, func() bool {
		page = here.send(http.MethodPost, "/account/signout-everywhere", url.Values{})
		return page.StatusCode == http.StatusSeeOther
	}, kittest.Patience, 50*time.Millisecond)
	assert.Equal(t, "./signed-out?notice=everywhere", location(t, page).String())
	says(t, here.follow(page), "on all other devices")
	assert.Equal(t, "./signin?notice=ended", location(t, here.send(http.MethodPost, "/account/signout-everywhere", url.Values{})).String())

	here.signIn(s, ada)
	assert.Equal(t, "./", location(t, here.open("/account/signed-out?notice=everywhere")).String(), "who is signed in is not told otherwise")
}

// A session that was ended elsewhere is said to be, and nothing else that a link says is.
func TestEndedElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{})
	b := newBrowser(t, s)
	b.signIn(s, ada)
	tokens := s.project.SignIn(ada)
	s.project.LogOut(ada)
	page := b.open("/account/")
	require.Equal(t, http.StatusOK, page.StatusCode, "its token is good for a while still")
	says(t, page, "This session was ended elsewhere.")
	omits(t, page, "You are still signed in.")
	page = b.follow(b.open("/account/authenticator"))
	says(t, page, "Confirm that it is you")
	says(t, page, "This session was ended elsewhere.", "or a right code would be refused without a reason")
	requireFocus(t, page, "error")

	b.hold("", tokens.Refresh)
	page = b.open("/account/")
	assert.Equal(t, "./signin?notice=ended", location(t, page).String())
	assert.Empty(t, b.cookie("DSR"))
	says(t, b.follow(page), "Your session has ended.")
	omits(t, b.open("/account/signin?notice=replaced"), "new authenticator")
}

// The code that finishes a replacement is a sign-in: nobody becomes somebody else by it.
func TestReplacementOfSomebodyElse(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{})
	s.project.AddUser(descopetest.User{LoginID: "bob"})
	b := newBrowser(t, s)
	b.signIn(s, ada)
	page := b.follow(b.submit(b.follow(b.open("/account/authenticator")), url.Values{"code": {s.project.Code(ada)}}))
	page = b.submit(page, nil)
	form := b.filled(page, url.Values{"code": {s.project.Code(ada)}})
	require.Equal(t, ada, form.Get("loginId"))
	session, refresh := b.cookie("DS"), b.cookie("DSR")

	bobs := with(with(form, "loginId", "bob"), "code", s.project.Code("bob"))
	guesses := s.project.RequestCounts()[kittest.VerifyPath]
	page = b.send(http.MethodPost, "/account/authenticator", bobs)
	assert.Equal(t, http.StatusForbidden, page.StatusCode)
	says(t, page, "This login ID is not yours.")
	omits(t, page, "otpauth")
	assert.Empty(t, page.Cookies())
	assert.Equal(t, session+refresh, b.cookie("DS")+b.cookie("DSR"), "she is still who she was")
	assert.Equal(t, guesses, s.project.RequestCounts()[kittest.VerifyPath], "and nobody has guessed")

	t.Run("nobody is signed in", func(t *testing.T) {
		page := newBrowser(t, s).send(http.MethodPost, "/account/authenticator", bobs)
		assert.Equal(t, "./signin?notice=ended", location(t, page).String())
		assert.Empty(t, page.Cookies())
	})
	t.Run("it cannot be told whose it is", func(t *testing.T) {
		s.project.Fail(kittest.MePath, descopetest.Fault{Status: http.StatusInternalServerError, Times: -1})
		page := b.send(http.MethodPost, "/account/authenticator", form)
		assert.Equal(t, http.StatusServiceUnavailable, page.StatusCode)
		says(t, page, "data:image/png", "the key is shown again")
		page = b.send(http.MethodPost, "/account/authenticator", form, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
		assert.Equal(t, http.StatusForbidden, page.StatusCode)
		omits(t, page, "data:image", "but not another site's")
		s.project.Reset()
	})
	page = b.send(http.MethodPost, "/account/authenticator", form)
	assert.Equal(t, "./?notice=replaced", location(t, page).String())
}
