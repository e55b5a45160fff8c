package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

const (
	mount      = "/account"
	linesLimit = 150 // of main.go and demo.go together
)

// program is the example's process, but for the process.
func program(args ...string) func(context.Context, io.Writer, io.Writer) int {
	return func(ctx context.Context, stdout, stderr io.Writer) int {
		if err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), stdout); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		return 0
	}
}

// startDemo runs the example without a Descope.
func startDemo(t *testing.T, args ...string) *browser {
	t.Helper()
	t.Setenv("DESCOPE_PROJECT_ID", "")
	return newBrowser(t, kittest.Start(t, program(args...)).URL)
}

// startOn runs it with a Descope of its own.
func startOn(t *testing.T, descope http.Handler, projectID string, args ...string) (*browser, *kittest.Program) {
	t.Helper()
	server := httptest.NewServer(descope)
	t.Cleanup(server.Close)
	t.Setenv("DESCOPE_PROJECT_ID", projectID)
	t.Setenv("DESCOPE_BASE_URL", server.URL)
	p := kittest.Start(t, program(args...))
	return newBrowser(t, p.URL), p
}

// A browser has cookies, and follows no redirects.
type browser struct {
	t    *testing.T
	base string
	http http.Client
}

func newBrowser(t *testing.T, base string) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t, base, http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       kittest.Patience,
	}}
}

type reply struct {
	*http.Response
	body string
}

// send sends a request with header fields given as name, value, …; one named Host is the Host.
func (b *browser) send(method, path, body string, header ...string) reply {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base+path, strings.NewReader(body))
	require.NoError(b.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := b.http.Do(req)
	require.NoError(b.t, err)
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return reply{res, string(content)}
}

// open opens a page, as the address bar does.
func (b *browser) open(path string) reply {
	b.t.Helper()
	return b.send(http.MethodGet, path, "", "Accept", "text/html,*/*;q=0.8")
}

// code is what the demo's authenticator app shows.
func (b *browser) code(loginID string) string {
	b.t.Helper()
	r := b.send(http.MethodGet, "/demo/code?loginId="+loginID, "")
	require.Equal(b.t, http.StatusOK, r.StatusCode, r.body)
	var shown struct {
		Code        string
		SecondsLeft int
	}
	require.NoError(b.t, json.Unmarshal([]byte(r.body), &shown))
	assert.Greater(b.t, shown.SecondsLeft, 0)
	assert.LessOrEqual(b.t, shown.SecondsLeft, 30)
	return shown.Code
}

func (b *browser) signIn(loginID, code string) {
	b.t.Helper()
	r := b.send(http.MethodPost, mount+"/signin", url.Values{"loginId": {loginID}, "code": {code}}.Encode(),
		"Content-Type", "application/x-www-form-urlencoded")
	require.Equal(b.t, http.StatusSeeOther, r.StatusCode, r.body)
}

func (b *browser) requests(path string) int {
	b.t.Helper()
	r := b.send(http.MethodGet, "/demo/requests", "")
	counts := map[string]int{}
	require.NoError(b.t, json.Unmarshal([]byte(r.body), &counts), r.body)
	return counts[path]
}

// Who gets to see which page, and that the line of Go shown beside it is the one.
func TestPages(t *testing.T) {
	b := startDemo(t)
	assert.Equal(t, http.StatusOK, b.open("/").StatusCode)
	assert.Contains(t, b.open("/").body, "Sign in with a code")
	for _, path := range []string{"/orders", "/admin", "/payout"} {
		r := b.open(path)
		assert.Equal(t, http.StatusSeeOther, r.StatusCode, path)
		assert.Contains(t, r.Header.Get("Location"), "/account/signin?", path)
		assert.Contains(t, r.Header.Get("Location"), "return_to="+url.QueryEscape(path), path)
		assert.Equal(t, http.StatusUnauthorized, b.send(http.MethodGet, path, "").StatusCode, "%s: a program is not sent to a page", path)
	}
	b.signIn(kittest.Ada, b.code(kittest.Ada))
	for path, title := range map[string]string{"/": "Welcome back", "/orders": "Your orders", "/admin": "All orders", "/payout": "Payout account", "/account/": "Ada Lovelace"} {
		r := b.open(path)
		assert.Equal(t, http.StatusOK, r.StatusCode, path)
		assert.Contains(t, r.body, title, path)
		assert.Equal(t, "no-store", r.Header.Get("Cache-Control"), path)
		csp := r.Header.Get("Content-Security-Policy")
		assert.Contains(t, csp, "default-src 'none'", path)
		assert.NotContains(t, csp, "unsafe", path)
		assert.NotRegexp(t, `<style|style=|<script>|<script [^>]*>[^<]| on\w+=`, r.body, path)
	}

	other := newBrowser(t, b.base)
	key := other.send(http.MethodPost, mount+kittest.SignUpPath, `{"loginId":"grace@example.com"}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusOK, key.StatusCode, key.body)
	other.signIn("grace@example.com", other.code("grace@example.com"))
	assert.Equal(t, http.StatusOK, other.open("/orders").StatusCode)
	r := other.open("/admin")
	assert.Equal(t, http.StatusForbidden, r.StatusCode)
	assert.Contains(t, r.body, `href="/account/">Your account<`, "where it says who she is")
}

func TestLines(t *testing.T) {
	main, err := os.ReadFile("main.go")
	require.NoError(t, err)
	demo, err := os.ReadFile("demo.go")
	require.NoError(t, err)
	assert.LessOrEqual(t, strings.Count(string(main)+string(demo), "\n"), linesLimit)

	page, err := os.ReadFile("page.html")
	require.NoError(t, err)
	shown := regexp.MustCompile(`{{define "\w+-line"}}(.*){{end}}`).FindAllSubmatch(page, -1)
	require.Len(t, shown, 3)
	for _, line := range shown {
		assert.Contains(t, string(main), "\n\t"+string(line[1])+"\n", "the page shows a line that is not in main.go")
	}
}

// 200 requests at the same time, each with the one session that has expired.
func TestExpire(t *testing.T) {
	b := startDemo(t)
	b.signIn(kittest.Ada, b.code(kittest.Ada))
	before := b.requests(kittest.RefreshPath)
	require.Equal(t, http.StatusOK, b.send(http.MethodPost, "/demo/expire?loginId="+kittest.Ada, "").StatusCode)
	u, err := url.Parse(b.base)
	require.NoError(t, err)
	cookies := b.http.Jar.Cookies(u)
	require.Len(t, cookies, 2)

	var all sync.WaitGroup
	statuses := make([]int, 200)
	for i := range statuses {
		all.Go(func() {
			req, _ := http.NewRequest(http.MethodGet, b.base+"/orders", nil) // never an error
			for _, c := range cookies {
				req.AddCookie(c)
			}
			res, err := http.DefaultClient.Do(req)
			if assert.NoError(t, err) {
				statuses[i] = res.StatusCode
				res.Body.Close()
			}
		})
	}
	all.Wait()
	for _, status := range statuses {
		assert.Equal(t, http.StatusOK, status)
	}
	assert.Equal(t, before+1, b.requests(kittest.RefreshPath))
}

// What a page elsewhere could do, if its name led here or if it sent forms.
func TestDemoAnswersOwnPagesOnly(t *testing.T) {
	b := startDemo(t)
	b.signIn(kittest.Ada, b.code(kittest.Ada))
	u, err := url.Parse(b.base)
	require.NoError(t, err)
	for host, want := range map[string]int{
		u.Host:                      http.StatusOK,
		"localhost:" + u.Port():     http.StatusOK,
		"[::1]:" + u.Port():         http.StatusOK,
		"localhost":                 http.StatusOK, // on port 80
		"127.0.0.1":                 http.StatusOK,
		"[::1]":                     http.StatusOK,
		"evil.example:" + u.Port():  http.StatusMisdirectedRequest,
		"evil.example":              http.StatusMisdirectedRequest,
		"127.0.0.1.evil.example:80": http.StatusMisdirectedRequest,
		"localhost.evil.example:80": http.StatusMisdirectedRequest,
		"192.0.2.1:" + u.Port():     http.StatusMisdirectedRequest,
	} {
		for _, what := range []string{"GET code", "GET requests", "GET demo.js", "POST expire", "POST rotate"} {
			method, name, _ := strings.Cut(what, " ")
			r := b.send(method, "/demo/"+name+"?loginId="+kittest.Ada, "", "Host", host)
			assert.Equal(t, want, r.StatusCode, "%s for %s", what, host)
			if want != http.StatusOK {
				assert.Less(t, len(r.body), 100, host)
				assert.Zero(t, len(r.Cookies()), host)
			}
		}
	}
	for _, name := range []string{"expire", "away", "rotate", "elsewhere"} {
		path := "/demo/" + name + "?loginId=" + kittest.Ada
		assert.Equal(t, http.StatusNotFound, b.send(http.MethodGet, path, "").StatusCode, name)
		for _, header := range [][]string{
			{"Origin", "https://evil.example"},
			{"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"},
			{"Sec-Fetch-Site", "cross-site"},
		} {
			r := b.send(http.MethodPost, path, "", header...)
			assert.Equal(t, http.StatusForbidden, r.StatusCode, "%s %v", name, header)
			assert.Zero(t, len(r.Cookies()), name)
		}
		assert.NotEqual(t, http.StatusInternalServerError, b.send(http.MethodPost, "/demo/"+name+"?loginId=nobody", "").StatusCode)
	}
	assert.Equal(t, http.StatusNotFound, b.send(http.MethodGet, "/demo/code?loginId=nobody", "").StatusCode)
}

// With Descope itself nobody is told a code, and no page speaks of the demo.
func TestWithProject(t *testing.T) {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada"})
	b, _ := startOn(t, project, project.ProjectID())
	b.signIn(kittest.Ada, project.Code(kittest.Ada))
	for _, path := range []string{"/", "/account/", "/account/signup"} {
		r := b.open(path)
		assert.Equal(t, http.StatusOK, r.StatusCode, path)
		assert.NotContains(t, r.body, "demo", path)
	}
	for _, path := range []string{"/demo/code?loginId=" + kittest.Ada, "/demo/demo.js", "/demo/requests"} {
		assert.Equal(t, http.StatusNotFound, b.send(http.MethodGet, path, "").StatusCode, path)
	}
}

// Whoever is signed in while Descope is away stays so, and the first page says so.
func TestDescopeAway(t *testing.T) {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: kittest.Ada})
	b, _ := startOn(t, project, project.ProjectID())
	u, err := url.Parse(b.base)
	require.NoError(t, err)
	b.http.Jar.SetCookies(u, []*http.Cookie{{Name: "DSR", Value: project.SignIn(kittest.Ada).Refresh, Path: "/"}})
	project.Fail("", descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
	r := b.open("/")
	assert.Equal(t, http.StatusOK, r.StatusCode)
	assert.Contains(t, r.body, "If you were, you still are.")
	assert.NotContains(t, r.body, "data-user", "other tabs are not told that nobody is signed in")
	assert.Equal(t, http.StatusServiceUnavailable, b.open("/orders").StatusCode)
}

// Other machines can write any Host: where they can connect, nobody is told a code.
func TestNoPanelOffLoopback(t *testing.T) {
	b := startDemo(t, "-addr", "0.0.0.0:0")
	u, err := url.Parse(b.base)
	require.NoError(t, err)
	b.base = "http://127.0.0.1:" + u.Port()
	for _, what := range []string{"GET code", "GET requests", "GET demo.js", "POST expire", "POST rotate"} {
		method, name, _ := strings.Cut(what, " ")
		r := b.send(method, "/demo/"+name+"?loginId="+kittest.Ada, "", "Host", "localhost:"+u.Port())
		assert.Equal(t, http.StatusNotFound, r.StatusCode, what)
	}
	assert.NotContains(t, b.open("/account/signin").body, "/demo/", "no page asks for it")
}

// Off loopback there must be TLS in front, and the cookies are made for it.
func TestCookiesAreSecureOffLoopback(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		t.Run(addr, func(t *testing.T) {
			project := descopetest.NewServer()
			project.AddUser(descopetest.User{LoginID: kittest.Ada})
			b, _ := startOn(t, project, project.ProjectID(), "-addr", addr)
			u, err := url.Parse(b.base)
			require.NoError(t, err)
			b.base = "http://127.0.0.1:" + u.Port()
			r := b.send(http.MethodPost, mount+kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+project.Code(kittest.Ada)+`"}`, "Content-Type", "application/json")
			require.Equal(t, http.StatusOK, r.StatusCode, r.body)
			require.Len(t, r.Cookies(), 2)
			for _, c := range r.Cookies() {
				assert.Equal(t, addr != "127.0.0.1:0", c.Secure, c.Name)
				assert.True(t, c.HttpOnly, c.Name)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	b := startDemo(t)
	err := run(t.Context(), []string{"-addr", strings.TrimPrefix(b.base, "http://")}, io.Discard)
	assert.ErrorContains(t, err, "in use")
	t.Setenv("DESCOPE_PROJECT_ID", "demo")
	t.Setenv("DESCOPE_AUTH_MANAGEMENT_KEY", "s3 cret")
	err = run(t.Context(), []string{"-addr", "127.0.0.1:0"}, io.Discard)
	assert.ErrorContains(t, err, "ProjectID")
	assert.ErrorContains(t, err, "AuthManagementKey")
	assert.NotContains(t, err.Error(), "cret")
}

// A request under way when the program is told to stop is still answered.
func TestShutdown(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	project := descopetest.NewServer()
	b, p := startOn(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == kittest.SignUpPath {
			close(reached)
			<-goOn
		}
		project.ServeHTTP(w, r)
	}), project.ProjectID())
	answered := make(chan int, 1)
	go func() {
		res, err := b.http.Post(p.URL+mount+kittest.SignUpPath, "application/json", strings.NewReader(`{"loginId":"grace@example.com"}`))
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
	assert.Zero(t, p.WaitExit(t))
	assert.Equal(t, "listening on "+p.URL+"\n", p.Stdout.String(), "one line, and nothing else")
}
