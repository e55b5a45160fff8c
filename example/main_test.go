package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

const (
	grace      = "grace@example.com"
	pathSignUp = "/auth/v1/auth/totp/signup"
	pathVerify = "/auth/v1/auth/totp/verify"
	pathUpdate = "/auth/v1/auth/totp/update"
)

func noEnv(string) string { return "" }

// start runs the example on a free port.
func start(t *testing.T, args ...string) *kittest.Program {
	t.Helper()
	args = append([]string{"-addr", "127.0.0.1:0"}, args...)
	return kittest.Start(t, func(ctx context.Context, stdout, stderr io.Writer) int {
		return run(ctx, args, noEnv, stdout, stderr)
	})
}

// browser is a client with cookies that follows no redirects.
type browser struct {
	t    *testing.T
	base string
	http http.Client
}

func newBrowser(t *testing.T, p *kittest.Program) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t: t, base: p.URL, http: http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       kittest.Patience,
	}}
}

// openUntil opens a page until it answers with status.
func (b *browser) openUntil(path string, status int) reply {
	b.t.Helper()
	deadline := time.After(kittest.Patience)
	for {
		r := b.open(path)
		if r.StatusCode == status {
			return r
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			require.Fail(b.t, "still not the wanted status", "%s: %s", path, r.Status)
		}
	}
}

type reply struct {
	*http.Response
	body string
}

func (b *browser) do(method, path, accept, body string) reply {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Accept", accept)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := b.http.Do(req)
	require.NoError(b.t, err)
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return reply{res, string(content)}
}

// open asks for a page as the address bar does, call as a script does.
func (b *browser) open(path string) reply {
	return b.do(http.MethodGet, path, "text/html,*/*;q=0.8", "")
}
func (b *browser) call(path string) reply { return b.do(http.MethodGet, path, "*/*", "") }

func (b *browser) post(path string, body any) reply {
	b.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(b.t, err)
	return b.do(http.MethodPost, path, "*/*", string(encoded))
}

func (b *browser) cookie(name string) string {
	u, err := url.Parse(b.base)
	require.NoError(b.t, err)
	for _, c := range b.http.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// forgetSession drops the session cookie, so that the next request has to renew.
func (b *browser) forgetSession() {
	u, err := url.Parse(b.base)
	require.NoError(b.t, err)
	b.http.Jar.SetCookies(u, []*http.Cookie{{Name: "DS", Path: "/", MaxAge: -1}})
	require.Empty(b.t, b.cookie("DS"))
}

// decode reads the JSON of an answer with the wanted status.
func decode[T any](t *testing.T, r reply, status int) (v T) {
	t.Helper()
	require.Equal(t, status, r.StatusCode, r.body)
	require.NoError(t, json.Unmarshal([]byte(r.body), &v), r.body)
	return v
}

type newKey struct {
	ProvisioningURL, Image, Key string
}

type problem struct {
	Code, Field string
}

type facts struct {
	Subject, Tenant, Expiry string
	Roles                   []string
}

// codeOf is the authenticator app.
func codeOf(t *testing.T, key string) string {
	t.Helper()
	code, err := totp.GenerateCode(key, time.Now())
	require.NoError(t, err)
	return code
}

func (b *browser) signUp(loginID string) {
	b.t.Helper()
	key := decode[newKey](b.t, b.post(pathSignUp, map[string]string{"loginId": loginID}), http.StatusOK)
	b.verify(loginID, codeOf(b.t, key.Key))
}

func (b *browser) verify(loginID, code string) {
	b.t.Helper()
	r := b.post(pathVerify, map[string]string{"loginId": loginID, "code": code})
	require.Equal(b.t, http.StatusOK, r.StatusCode, r.body)
}

// stepUp verifies a code for more than a session.
func (b *browser) stepUp(loginID, code string) {
	b.t.Helper()
	r := b.post(pathVerify, map[string]any{"loginId": loginID, "code": code, "loginOptions": map[string]bool{"stepup": true}})
	require.Equal(b.t, http.StatusOK, r.StatusCode, r.body)
}

// The whole life of a session, over a real connection and as a browser with
// cookies sees it.
func TestSignUpToSignOut(t *testing.T) {
	t.Parallel()
	p := start(t, "-session-ttl", "2s")
	b := newBrowser(t, p)

	key := decode[newKey](t, b.post(pathSignUp, map[string]string{"loginId": grace}), http.StatusOK)
	assert.True(t, strings.HasPrefix(key.ProvisioningURL, "otpauth://totp/"), key.ProvisioningURL)
	image, err := base64.StdEncoding.DecodeString(key.Image)
	require.NoError(t, err)
	_, err = png.Decode(bytes.NewReader(image))
	require.NoError(t, err)
	assert.Empty(t, b.cookie("DSR"), "nobody is signed in before the first code")

	r := b.post(pathVerify, map[string]string{"loginId": grace, "code": codeOf(t, key.Key)})
	tokens := decode[struct{ SessionJWT, RefreshJWT string }](t, r, http.StatusOK)
	assert.Zero(t, tokens, "scripts see no token")

	page := b.open("/account")
	require.Equal(t, http.StatusOK, page.StatusCode, page.body)
	first := decode[facts](t, b.call("/api/session"), http.StatusOK)
	assert.Contains(t, page.body, first.Subject)
	assert.Equal(t, []string{}, first.Roles)
	assert.Empty(t, first.Tenant)
	_, err = time.Parse(time.RFC3339, first.Expiry)
	require.NoError(t, err)

	t.Run("the session renews itself", func(t *testing.T) {
		old := b.cookie("DS")
		deadline := time.After(kittest.Patience)
		for b.cookie("DS") == old {
			now := decode[facts](t, b.call("/api/session"), http.StatusOK)
			require.Equal(t, first.Subject, now.Subject)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-deadline:
				require.Fail(t, "no new cookies")
			}
		}
		page := b.open("/account")
		require.Equal(t, http.StatusOK, page.StatusCode)
		now := decode[facts](t, b.call("/api/session"), http.StatusOK)
		assert.Greater(t, now.Expiry, first.Expiry)
	})

	t.Run("sign-out ends it", func(t *testing.T) {
		require.Equal(t, http.StatusOK, b.post("/auth/v1/auth/logout", struct{}{}).StatusCode)
		assert.Empty(t, b.cookie("DS")+b.cookie("DSR"))
		r := b.call("/api/session")
		answer := decode[problem](t, r, http.StatusUnauthorized)
		assert.Equal(t, "no_session", answer.Code)
	})
}

func TestReplaceAuthenticator(t *testing.T) {
	b := newBrowser(t, start(t, "-code-reuse"))
	old := decode[newKey](t, b.post(pathSignUp, map[string]string{"loginId": grace}), http.StatusOK)
	b.verify(grace, codeOf(t, old.Key))

	r := b.post(pathUpdate, map[string]string{"loginId": grace})
	answer := decode[problem](t, r, http.StatusUnauthorized)
	require.Equal(t, "step_up_required", answer.Code, "a session alone gives no new key")
	b.stepUp(grace, codeOf(t, old.Key))

	fresh := decode[newKey](t, b.post(pathUpdate, map[string]string{"loginId": grace}), http.StatusOK)
	require.NotEqual(t, old.Key, fresh.Key)
	r = b.post(pathUpdate, map[string]string{"loginId": demoUser})
	assert.Equal(t, http.StatusForbidden, r.StatusCode, "nobody gets a key for somebody else")

	b.verify(grace, codeOf(t, fresh.Key))
	require.Equal(t, http.StatusOK, b.open("/account").StatusCode)

	r = b.post(pathVerify, map[string]string{"loginId": grace, "code": codeOf(t, old.Key)})
	assert.Equal(t, http.StatusUnauthorized, r.StatusCode, "the old key no longer works")
}

// The page that wants a step-up sends a browser to where it gets one, is open
// for as long as the step-up lasts, and closed again after it.
func TestStepUp(t *testing.T) {
	t.Parallel()
	project, b := startRemote(t)
	project.Configure(func(s *descopetest.Settings) {
		s.SessionTTL = time.Minute
		s.StepUpTTL = time.Second
		s.AllowCodeReuse = true
	})
	save := func(account string) reply { return b.post("/payout", map[string]string{"account": account}) }
	const ask = "/signin?acr_values=stepup&return_to=%2Fpayout"

	page := b.open("/payout")
	require.Equal(t, http.StatusSeeOther, page.StatusCode)
	require.Equal(t, ask, page.Header.Get("Location"))
	asks := b.open(ask)
	require.Equal(t, http.StatusOK, asks.StatusCode)
	assert.Contains(t, asks.body, "Confirm that it is you")
	assert.Contains(t, asks.body, `data-return-to="/payout"`)

	refused := save("DE89 3704 0044 0532 0130 00")
	assert.Equal(t, "step_up_required", decode[problem](t, refused, http.StatusUnauthorized).Code)
	assert.Contains(t, refused.Header.Get("WWW-Authenticate"), `acr_values="stepup"`)

	b.stepUp(grace, project.Code(grace))
	require.Equal(t, http.StatusOK, b.open("/payout").StatusCode)
	assert.Equal(t, "/payout", b.open(ask).Header.Get("Location"), "it does not ask twice")
	saved := decode[struct{ Account string }](t, save("de89 3704 0044 0532 0130 00"), http.StatusOK)
	assert.Equal(t, "DE89370400440532013000", saved.Account)
	assert.Contains(t, b.open("/payout").body, `value="DE89370400440532013000"`)
	for _, account := range []string{"", "no", "<script>", strings.Repeat("1", 35), strings.Repeat(" ", 5000)} {
		wrong := decode[problem](t, save(account), http.StatusBadRequest)
		assert.Equal(t, problem{Code: "invalid_field", Field: "account"}, wrong)
	}

	closed := b.openUntil("/payout", http.StatusSeeOther)
	assert.Equal(t, ask, closed.Header.Get("Location"))
	assert.Equal(t, http.StatusUnauthorized, save("GB33BUKB20201555555555").StatusCode)
	assert.Equal(t, http.StatusOK, b.open("/account").StatusCode, "the session itself goes on")

	b.stepUp(grace, project.Code(grace))
	assert.Contains(t, b.open("/payout").body, `value="DE89370400440532013000"`, "what was refused was not saved")
}

func TestSignOutEverywhere(t *testing.T) {
	p := start(t, "-code-reuse")
	here, there := newBrowser(t, p), newBrowser(t, p)
	for _, b := range []*browser{here, there} {
		code := decode[demoCode](t, b.call("/demo/code?loginId="+demoUser), http.StatusOK)
		b.verify(demoUser, code.Code)
	}
	require.Equal(t, http.StatusOK, here.post("/auth/v1/auth/logoutall", struct{}{}).StatusCode)

	there.forgetSession()
	answer := decode[problem](t, there.call("/api/session"), http.StatusUnauthorized)
	assert.Equal(t, "session_ended", answer.Code)
}

// The pages that can be had without signing in, and what they say of it.
func TestPages(t *testing.T) {
	p := start(t)
	b := newBrowser(t, p)

	t.Run("signed out", func(t *testing.T) {
		for path, want := range map[string]string{
			"/":                       "Sign in with a code",
			"/signup":                 `autocomplete="username"`,
			"/signin":                 `autocomplete="one-time-code"`,
			"/signin?reason=out":      "You are signed out.",
			"/signin?reason=<script>": "<h1>Sign in</h1>",
		} {
			r := b.open(path)
			require.Equal(t, http.StatusOK, r.StatusCode, path)
			assert.Contains(t, r.body, want, path)
			assert.Equal(t, "text/html; charset=utf-8", r.Header.Get("Content-Type"), path)
			assert.NotContains(t, r.body, `href="/account"`, path)
		}
		r := b.open("/account")
		assert.Equal(t, http.StatusSeeOther, r.StatusCode)
		assert.Equal(t, "/signin?return_to=%2Faccount", r.Header.Get("Location"))
		assert.Contains(t, b.open("/signin?return_to=%2Fpayout").body, `data-return-to="/payout"`)
		assert.Contains(t, b.open("/signin?return_to=%2F%2Fevil.example").body, `data-return-to="/account"`)

		r = b.call("/account")
		assert.Equal(t, http.StatusUnauthorized, r.StatusCode, "a program is not sent to a page")
		assert.Equal(t, "application/problem+json", r.Header.Get("Content-Type"))

		assert.Equal(t, http.StatusNotFound, b.open("/nowhere").StatusCode)
	})

	t.Run("signed in", func(t *testing.T) {
		code := decode[demoCode](t, b.call("/demo/code?loginId="+demoUser), http.StatusOK)
		assert.GreaterOrEqual(t, code.SecondsLeft, int64(1))
		assert.LessOrEqual(t, code.SecondsLeft, int64(30))
		b.verify(demoUser, code.Code)

		assert.Contains(t, b.open("/").body, "You are signed in")
		r := b.open("/signin")
		assert.Equal(t, http.StatusSeeOther, r.StatusCode)
		assert.Equal(t, "/account", r.Header.Get("Location"))
		r = b.open("/signin?return_to=%2Fnowhere")
		assert.Equal(t, "/nowhere", r.Header.Get("Location"))
		assert.Contains(t, b.open("/account").body, "admin, editor")
		assert.Equal(t, []string{"admin", "editor"}, decode[facts](t, b.call("/api/session"), http.StatusOK).Roles)
	})
}

func TestSecurityHeaders(t *testing.T) {
	b := newBrowser(t, start(t))
	b.signUp(grace)
	for _, path := range []string{"/", "/signup", "/signin", "/account", "/nowhere", "/api/session", "/static/app.js", "/demo/code?loginId=" + grace} {
		h := b.open(path).Header
		csp := h.Get("Content-Security-Policy")
		assert.Contains(t, csp, "default-src 'none'", path)
		assert.Contains(t, csp, "frame-ancestors 'none'", path)
		assert.NotContains(t, csp, "unsafe", path)
		assert.Equal(t, "DENY", h.Get("X-Frame-Options"), path)
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		assert.Equal(t, "no-referrer", h.Get("Referrer-Policy"), path)
		assert.Equal(t, "same-origin", h.Get("Cross-Origin-Opener-Policy"), path)
		assert.NotEmpty(t, h.Get("Permissions-Policy"), path)
		if !strings.HasPrefix(path, "/static/") {
			assert.Equal(t, "no-store", h.Get("Cache-Control"), path)
		}
	}
	for _, path := range []string{"/", "/signup", "/account"} {
		body := b.open(path).body
		assert.NotContains(t, body, "<style", path)
		assert.NotContains(t, body, "style=", path)
		assert.NotContains(t, body, "<script>", path)
	}
}

func TestStaticFiles(t *testing.T) {
	b := newBrowser(t, start(t))
	r := b.call("/static/style.css")
	require.Equal(t, http.StatusOK, r.StatusCode)
	assert.Contains(t, r.Header.Get("Content-Type"), "text/css")

	req, err := http.NewRequest(http.MethodGet, b.base+"/static/style.css", nil)
	require.NoError(t, err)
	req.Header.Set("If-None-Match", r.Header.Get("ETag"))
	again, err := b.http.Do(req)
	require.NoError(t, err)
	defer again.Body.Close()
	assert.Equal(t, http.StatusNotModified, again.StatusCode)

	for _, path := range []string{"/static/", "/static/nothing", "/static/../main.go", "/templates/home.html"} {
		assert.NotEqual(t, http.StatusOK, b.call(path).StatusCode, path)
	}
}

// Whatever the kit answers, the pages have words for it.
func TestWordsForEveryProblem(t *testing.T) {
	source, err := os.ReadFile("../internal/problem/table.go")
	require.NoError(t, err)
	script, err := files.ReadFile("static/app.js")
	require.NoError(t, err)
	codes := regexp.MustCompile(`\bCode: "(\w+)"`).FindAllSubmatch(source, -1)
	require.NotEmpty(t, codes)
	for _, code := range codes {
		assert.Contains(t, string(script), "\n  "+string(code[1])+": ", "no words for it")
	}
}

// A Descope that is not in the same process and can be away.
type remoteProject struct {
	*descopetest.Server
	away atomic.Bool
}

func (p *remoteProject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.away.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.Server.ServeHTTP(w, r)
}

// startRemote runs the program against a project of its own whose sessions are
// as short as can be, and signs somebody up.
func startRemote(t *testing.T) (*remoteProject, *browser) {
	project := &remoteProject{Server: descopetest.NewServer()}
	project.Configure(func(s *descopetest.Settings) { s.SessionTTL = time.Second })
	server := httptest.NewServer(project)
	t.Cleanup(server.Close)
	b := newBrowser(t, start(t, "-project", project.ProjectID(), "-base-url", server.URL))
	b.signUp(grace)
	return project, b
}

func TestWithProject(t *testing.T) {
	_, b := startRemote(t)
	require.Equal(t, http.StatusOK, b.open("/account").StatusCode)
	assert.Equal(t, http.StatusNotFound, b.call("/demo/code?loginId="+grace).StatusCode)
	for _, path := range []string{"/", "/signup", "/account"} {
		assert.NotContains(t, b.open(path).body, "Demo", path)
	}
}

// Whoever is signed in while Descope is away stays so, and is told so.
func TestDescopeAway(t *testing.T) {
	t.Parallel()
	project, b := startRemote(t)
	project.away.Store(true)
	page := b.openUntil("/account", http.StatusServiceUnavailable)
	assert.Contains(t, page.body, "You are still signed in")
	assert.Equal(t, "no-store", page.Header.Get("Cache-Control"))
	seconds, err := strconv.Atoi(page.Header.Get("Retry-After"))
	require.NoError(t, err)
	assert.Positive(t, seconds)

	answer := decode[problem](t, b.call("/api/session"), http.StatusServiceUnavailable)
	assert.Equal(t, "unavailable", answer.Code)
	assert.Contains(t, b.open("/").body, "cannot be reached")
	assert.NotEmpty(t, b.cookie("DSR"))

	project.away.Store(false)
	b.openUntil("/account", http.StatusOK)
}

func TestEndedElsewhere(t *testing.T) {
	t.Parallel()
	project, b := startRemote(t)
	project.LogOut(grace)
	deadline := time.Now().Add(kittest.Patience)
	for !strings.Contains(b.open("/signin").body, "ended elsewhere") {
		require.True(t, time.Now().Before(deadline), "the page does not say so")
	}
	login := b.openUntil("/account", http.StatusSeeOther).Header.Get("Location")
	assert.Equal(t, "/signin?return_to=%2Faccount", login)
}

func TestUsage(t *testing.T) {
	const project = "P2descopetest00000000000000A"
	tests := map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"unknown flag":             {args: []string{"-nope"}, want: "-nope"},
		"argument":                 {args: []string{"now"}, want: `"now"`},
		"no duration":              {args: []string{"-session-ttl", "soon"}, want: "-session-ttl"},
		"session too short":        {args: []string{"-session-ttl", "1s"}, want: "-session-ttl"},
		"session of a fraction":    {args: []string{"-session-ttl", "2500ms"}, want: "-session-ttl"},
		"session ttl of a project": {args: []string{"-project", project, "-session-ttl", "5m"}, want: "-session-ttl"},
		"address without a port":   {args: []string{"-addr", "127.0.0.1"}, want: "-addr"},
		"impossible port":          {args: []string{"-addr", "127.0.0.1:99999"}, want: "-addr"},
		"malformed project":        {args: []string{"-project", "demo"}, want: "ProjectID"},
		"base URL without project": {args: []string{"-base-url", "https://auth.example.com"}, want: "-project"},
		"plain http base URL":      {args: []string{"-project", project, "-base-url", "http://auth.example.com"}, want: "BaseURL"},
		"project of the env":       {env: map[string]string{"DESCOPE_PROJECT_ID": "demo"}, want: "ProjectID"},
		"base URL of the env":      {env: map[string]string{"DESCOPE_PROJECT_ID": project, "DESCOPE_BASE_URL": "ftp://x"}, want: "BaseURL"},
		"key without project":      {env: map[string]string{"DESCOPE_AUTH_MANAGEMENT_KEY": "s3cret"}, want: "DESCOPE_AUTH_MANAGEMENT_KEY"},
		"malformed key":            {env: map[string]string{"DESCOPE_PROJECT_ID": project, "DESCOPE_AUTH_MANAGEMENT_KEY": "s3 cret"}, want: "AuthManagementKey"},
		"flag before env": {args: []string{"-project", "flag"},
			env: map[string]string{"DESCOPE_PROJECT_ID": project, "DESCOPE_BASE_URL": "https://auth.example.com"}, want: "ProjectID"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			getenv := func(name string) string { return test.env[name] }
			code := run(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, test.args...), getenv, &stdout, &stderr)
			assert.Equal(t, exitUsage, code)
			assert.Empty(t, stdout.String())
			assert.Contains(t, stderr.String(), test.want)
			assert.NotContains(t, stderr.String(), "cret")
		})
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitOK, run(t.Context(), []string{"-h"}, noEnv, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "-session-ttl")
}

func TestAddressInUse(t *testing.T) {
	p := start(t)
	var stdout, stderr bytes.Buffer
	args := []string{"-addr", strings.TrimPrefix(p.URL, "http://")}
	assert.Equal(t, exitError, run(t.Context(), args, noEnv, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "example: -addr: ")
	assert.Contains(t, stderr.String(), "in use")
}

// Off loopback there must be TLS in front, and the cookies are made for it.
func TestCookiesAreSecureOffLoopback(t *testing.T) {
	for addr, insecure := range map[string]bool{"127.0.0.1:0": true, "[::1]:0": true, "localhost:0": true, ":0": false, "192.0.2.1:0": false} {
		set, err := parseSettings([]string{"-addr", addr}, noEnv, io.Discard)
		require.NoError(t, err)
		site, err := newSite(set, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		app := site.handler()

		code := site.demo.project.Code(demoUser)
		r := httptest.NewRequest(http.MethodPost, pathVerify, strings.NewReader(`{"loginId":"`+demoUser+`","code":"`+code+`"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		cookies := w.Result().Cookies()
		require.Len(t, cookies, 2)
		for _, c := range cookies {
			assert.Equal(t, !insecure, c.Secure, addr)
			assert.Equal(t, !insecure, strings.HasPrefix(c.Name, "__Host-"), addr)
			assert.True(t, c.HttpOnly, addr)
		}
	}
}

// A request under way when the program is told to stop is still answered.
func TestShutdown(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	project := descopetest.NewServer()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/totp/signup") {
			close(reached)
			<-goOn
		}
		project.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p := start(t, "-project", project.ProjectID(), "-base-url", server.URL)

	answered := make(chan int, 1)
	go func() {
		client := http.Client{Timeout: kittest.Patience}
		res, err := client.Post(p.URL+pathSignUp, "application/json", strings.NewReader(`{"loginId":"`+grace+`"}`))
		if err != nil {
			answered <- 0
			return
		}
		res.Body.Close()
		answered <- res.StatusCode
	}()
	select {
	case <-reached:
	case code := <-answered:
		require.Fail(t, "answered too early", code)
	}
	p.Stop()
	close(goOn)
	assert.Equal(t, http.StatusOK, <-answered)
	assert.Equal(t, exitOK, p.WaitExit(t))
	assert.Equal(t, "listening on "+p.URL+"\n", p.Stdout.String(), "one line, and nothing else")
}
