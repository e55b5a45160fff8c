package e2e

import (
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A small application under a prefix that the router cuts off, with a sign-in without a
// script's help but for one call.
type smallSite struct {
	project *descopetest.Server
	h       http.Handler
	url     string
}

func newSmallSite(t *testing.T, host string) *smallSite {
	needBrowser(t)
	s := &smallSite{project: descopetest.NewServer()}
	s.project.Configure(func(c *descopetest.Settings) { c.AllowCodeReuse = true })
	for _, id := range []string{kittest.Ada, kittest.Bob} {
		s.project.AddUser(descopetest.User{LoginID: id})
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.h.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	s.url = "http://" + net.JoinHostPort(host, port)
	return s
}

func (s *smallSite) use(t *testing.T, c descopehttp.Cookies) *kittest.Kit {
	k := kittest.For(t, s.project, func(cfg *descopehttp.Config) { cfg.Cookies, cfg.LoginURL = c, "/signin" })
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := descopehttp.SessionFromContext(r.Context())
		w.Header().Set("Last-Modified", time.Now().Add(-240*time.Hour).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<p>user %s at %s</p><form method="post" action="/app/comments"><button>Send</button></form>`, session.Subject(), html.EscapeString(r.URL.RequestURI()))
	})
	mux := http.NewServeMux()
	mux.Handle("/auth/", k.Handler())
	mux.Handle("/app/", http.StripPrefix("/app", k.RequireSession(page)))
	mux.HandleFunc("/signin", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<p>sign in, then %s</p>", html.EscapeString(descopehttp.ReturnTo(r)))
	})
	mux.HandleFunc("/favicon.ico", http.NotFound)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "home") })
	s.h = mux
	return k
}

func (s *smallSite) post(b *tab, path, body string) int {
	b.t.Helper()
	return evaluate[int](b, `fetch(%s, { method: "POST", headers: { "Content-Type": "application/json" }, body: %s }).then((r) => r.status)`, "/auth"+path, body)
}

func (s *smallSite) signIn(b *tab, id string) {
	b.t.Helper()
	require.Equal(b.t, http.StatusOK, s.post(b, kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, id, s.project.Code(id))))
}

func (s *smallSite) subject(t *testing.T, id string) string {
	return kittest.SubjectOf(t, kittest.For(t, s.project), s.project.SignIn(id).Session)
}

// The browser's cache shows no page of one user to the next, the way back is the browser's
// own address, and a form that is sent too late leads to the page with the form.
func TestBrowserKeepsUsersApart(t *testing.T) {
	s := newSmallSite(t, "127.0.0.1")
	s.use(t, descopehttp.Cookies{InsecureHTTP: true})
	b := newBrowser(t)
	b.open(s.url + "/")
	s.signIn(b, kittest.Ada)
	b.open(s.url + `/app/statement?q=a\b`)
	b.sees("user " + s.subject(t, kittest.Ada))

	require.Equal(t, http.StatusOK, s.post(b, kittest.LogoutPath, "{}"))
	b.open(s.url + `/app/statement?q=a\b`)
	b.sees(`sign in, then /app/statement?q=a\b`)

	s.signIn(b, kittest.Bob)
	b.open(s.url + `/app/statement?q=a\b`)
	b.sees("user " + s.subject(t, kittest.Bob))
	assert.NotContains(t, b.text(), s.subject(t, kittest.Ada))

	require.Equal(t, http.StatusOK, s.post(b, kittest.LogoutPath, "{}"))
	b.click("Send")
	b.at("/signin")
	b.sees(`sign in, then /app/statement?q=a\b`)
}

// A browser's own jar: cookies of a Domain that was configured once end with a logout, and
// keep nobody from signing in. Chromium takes *.localhost for loopback.
func TestBrowserForgetsFormerDomains(t *testing.T) {
	s := newSmallSite(t, "app.own.localhost")
	wide, narrow := descopehttp.Cookies{Domain: "own.localhost", InsecureHTTP: true}, descopehttp.Cookies{InsecureHTTP: true}
	b := newBrowser(t)
	s.use(t, wide)
	b.open(s.url + "/")
	s.signIn(b, kittest.Ada)
	b.open(s.url + "/app/a")
	b.sees("user " + s.subject(t, kittest.Ada))

	s.use(t, narrow)
	require.Equal(t, http.StatusOK, s.post(b, kittest.LogoutPath, "{}"))
	b.open(s.url + "/app/b")
	b.sees("sign in")

	s.use(t, wide)
	s.signIn(b, kittest.Ada)
	s.use(t, narrow)
	s.signIn(b, kittest.Bob)
	b.open(s.url + "/app/c")
	b.sees("user " + s.subject(t, kittest.Bob))
	assert.Len(t, b.cookies(), 2)
}

// Over plain http, off loopback, Chromium says nothing of where a request comes from but in
// Origin, and drops Secure cookies.
func TestBrowserOverPlainHTTP(t *testing.T) {
	s := newSmallSite(t, "app.example")
	k := s.use(t, descopehttp.Cookies{})
	b := newBrowser(t)
	b.open(s.url + "/")
	s.signIn(b, kittest.Ada)
	assert.Empty(t, b.cookies())
	assert.Contains(t, k.Logs.String(), "event=cookie_dropped")

	s.use(t, descopehttp.Cookies{InsecureHTTP: true})
	var heard atomic.Int64
	inner := s.h
	s.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Sec-Fetch-") {
				heard.Add(1)
			}
		}
		inner.ServeHTTP(w, r)
	})
	b.open(s.url + "/app/a")
	b.at("/signin")
	s.signIn(b, kittest.Ada)
	b.open(s.url + "/app/a")
	b.sees("user " + s.subject(t, kittest.Ada))
	assert.Zero(t, heard.Load())

	b.open(strings.Replace(s.url, "app.", "evil.", 1) + "/")
	evaluate[string](b, `fetch(%s, { method: "POST", mode: "no-cors", credentials: "include", body: "x" }).then((r) => r.type)`, s.url+"/auth"+kittest.LogoutPath)
	assert.EqualValues(t, http.StatusForbidden, b.status("/auth"+kittest.LogoutPath))
}
