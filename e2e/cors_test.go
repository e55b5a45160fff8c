package e2e

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// onAnotherPort is what docs/browser.md prints.
func onAnotherPort(config *descopehttp.Config, mux *http.ServeMux) *http.Server {
	frontEnd := "http://localhost:5173"
	config.TrustedOrigins = []string{frontEnd}

	cors := func(next http.Handler) http.Handler { // or a library's
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Add("Vary", "Origin")
			if r.Header.Get("Origin") == frontEnd {
				h.Set("Access-Control-Allow-Origin", frontEnd) // never "*" with credentials
				h.Set("Access-Control-Allow-Credentials", "true")
				h.Set("Access-Control-Expose-Headers", "Retry-After") // or the page cannot read it
				if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
					h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
					h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization")
					w.WriteHeader(http.StatusNoContent)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}
	server := &http.Server{Handler: cors(mux)} // around everything
	return server
}

// fromAFile is what docs/native.md prints.
func fromAFile(_ *descopehttp.Config, mux *http.ServeMux) *http.Server {
	cors := func(next http.Handler) http.Handler { // or a library's
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", "*") // without cookies; with them see browser.md
			h.Set("Access-Control-Expose-Headers", "Retry-After")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
				h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization")
				w.WriteHeader(http.StatusNoContent)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	server := &http.Server{Handler: cors(mux)} // around everything
	return server
}

// requirePrinted holds the two above to what a page prints.
func requirePrinted(t *testing.T, page string) {
	t.Helper()
	source, err := os.ReadFile("cors_test.go")
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join("testdata", "docs", page))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "\n```go\n")
	code, _, found := strings.Cut(rest, "\n```\n")
	require.True(t, found)
	indented := strings.ReplaceAll("\t"+strings.ReplaceAll(code, "\n", "\n\t"), "\n\t\n", "\n\n")
	require.Contains(t, string(source), "{\n"+indented+"\n\treturn server\n", page)
}

// An api is a server that a page of another origin calls.
type api struct {
	*tab
	project     *descopetest.Server
	url         string
	credentials string // of the page's fetch
}

// startAPI serves the flows, and /app/ to who is signed in.
func startAPI(t *testing.T, config descopehttp.Config, around func(*descopehttp.Config, *http.ServeMux) *http.Server) *api {
	t.Helper()
	b := newBrowser(t)
	mux := http.NewServeMux()
	server := around(&config, mux)
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.Tokens, c.Cookies, c.TrustedOrigins = config.Tokens, config.Cookies, config.TrustedOrigins
	})
	mux.Handle("/auth/", k.Handler())
	mux.Handle("/app/", k.RequireSession(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	srv := httptest.NewServer(server.Handler)
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	return &api{b, k.Project, "http://localhost:" + port, "same-origin"}
}

// seen is what a script sees of an answer.
type seen struct {
	Status      int // 0: fetch has failed
	Retry       bool
	SessionJWT  string
	RefreshJWT  string
	Code, Error string
}

// fetch has a script call the server, with a token and a JSON body, or "" for none.
func (a *api) fetch(method, path, token, body string) seen {
	a.t.Helper()
	return evaluate[seen](a.tab, `(async (url, method, credentials, token, body) => {
		const headers = { ...(token && { Authorization: "Bearer " + token }), ...(body && { "Content-Type": "application/json" }) };
		const empty = { Status: 0, Retry: false, SessionJWT: "", RefreshJWT: "", Code: "", Error: "" };
		try {
			const answer = await fetch(url, { method, credentials, headers, body: body || undefined });
			const { sessionJwt, refreshJwt, code } = await answer.json().catch(() => ({}));
			return { ...empty, Status: answer.status, Retry: answer.headers.has("Retry-After"), SessionJWT: sessionJwt ?? "", RefreshJWT: refreshJwt ?? "", Code: code ?? "" };
		} catch (e) { return { ...empty, Error: e.name }; }
	})(%s, %s, %s, %s, %s)`, a.url+path, method, a.credentials, token, body)
}

func (a *api) signIn() seen {
	a.t.Helper()
	return a.fetch("POST", "/auth"+kittest.VerifyPath, "", `{"loginId":"`+kittest.Ada+`","code":"`+a.project.Code(kittest.Ada)+`"}`)
}

// A page on another port signs in and calls what is protected, preflights and all, and can
// read how long to wait; one that is not named can do nothing of it.
func TestBrowserOnAnotherPort(t *testing.T) {
	requirePrinted(t, "browser.md")
	a := startAPI(t, descopehttp.Config{Cookies: descopehttp.Cookies{InsecureHTTP: true}}, onAnotherPort)
	a.credentials = "include"
	listener, err := net.Listen("tcp", "127.0.0.1:5173")
	if err != nil {
		kittest.Missing(t, "needs the port that the page names: %v", err)
	}
	page := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go page.Serve(listener)
	t.Cleanup(func() { page.Close() })

	a.open("http://localhost:5173")
	assert.Equal(t, "no_session", a.fetch("PUT", "/app/order", "", "{}").Code)
	assert.Equal(t, http.StatusOK, a.signIn().Status)
	assert.Equal(t, http.StatusOK, a.fetch("GET", "/app/", "", "").Status)
	assert.Equal(t, http.StatusOK, a.fetch("PUT", "/app/order", "", "{}").Status)
	a.project.Fail(kittest.MePath, descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
	away := a.fetch("GET", "/auth"+kittest.MePath, "", "")
	assert.Equal(t, "unavailable", away.Code)
	assert.True(t, away.Retry)

	a.open("http://127.0.0.1:5173")
	assert.Equal(t, "TypeError", a.fetch("GET", "/app/", "", "").Error)
	assert.Equal(t, "TypeError", a.signIn().Error)
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		blocked := len(a.complaints) == 2
		if blocked {
			a.complaints = nil // of CORS, as they should be
		}
		return blocked
	}, patience, interval)
}

// A page from a file signs in where tokens travel in the body, and nowhere else.
func TestBrowserFromAFile(t *testing.T) {
	requirePrinted(t, "native.md")
	page := filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, os.WriteFile(page, []byte("<!DOCTYPE html><title>From a file</title>"), 0o644))

	a := startAPI(t, descopehttp.Config{Tokens: descopehttp.InBody}, fromAFile)
	a.open("file://" + page)
	in := a.signIn()
	require.Equal(t, http.StatusOK, in.Status, in)
	assert.Equal(t, http.StatusOK, a.fetch("PUT", "/app/order", in.SessionJWT, "{}").Status)
	assert.Equal(t, "no_session", a.fetch("GET", "/app/", "", "").Code)
	refreshed := a.fetch("POST", "/auth"+kittest.RefreshPath, in.RefreshJWT, "")
	assert.Equal(t, http.StatusOK, a.fetch("GET", "/app/", refreshed.SessionJWT, "").Status)
	assert.Equal(t, http.StatusOK, a.fetch("GET", "/auth"+kittest.MePath, in.RefreshJWT, "").Status)
	assert.Equal(t, http.StatusOK, a.fetch("POST", "/auth"+kittest.LogoutPath, in.RefreshJWT, "").Status)
	assert.Equal(t, "session_ended", a.fetch("POST", "/auth"+kittest.RefreshPath, in.RefreshJWT, "").Code)

	a = startAPI(t, descopehttp.Config{Cookies: descopehttp.Cookies{InsecureHTTP: true}}, fromAFile)
	a.open("file://" + page)
	assert.Equal(t, "cross_origin", a.signIn().Code)
}
