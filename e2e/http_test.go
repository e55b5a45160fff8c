package e2e

import (
	"fmt"
	"html"
	"io"
	"maps"
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
	h       atomic.Pointer[http.Handler]
	url     string
}

func newSmallSite(t *testing.T, host string) *smallSite {
	needBrowser(t)
	s := &smallSite{project: descopetest.NewServer()}
	s.project.Configure(func(c *descopetest.Settings) { c.AllowCodeReuse = true })
	for _, id := range []string{kittest.Ada, kittest.Bob} {
		s.project.AddUser(descopetest.User{LoginID: id})
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.h.Load()).ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	s.url = "http://" + net.JoinHostPort(host, port)
	return s
}

// serve has a handler answer from now on.
func (s *smallSite) serve(h http.Handler) { s.h.Store(&h) }

func (s *smallSite) use(t *testing.T, c descopehttp.Cookies) *kittest.Kit {
	k := kittest.For(t, s.project, func(cfg *descopehttp.Config) { cfg.Cookies, cfg.LoginURL = c, "/signin" })
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := descopehttp.SessionFromContext(r.Context())
		w.Header().Set("Last-Modified", time.Now().Add(-240*time.Hour).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<p>user %s at %s with %d cookies</p><form method="post" action="/app/comments"><button>Send</button></form>`, session.Subject(), html.EscapeString(r.URL.RequestURI()), len(r.Cookies()))
	})
	mux := http.NewServeMux()
	mux.Handle("/auth/", k.Handler())
	mux.Handle("/app/", http.StripPrefix("/app", k.RequireSession(page)))
	mux.HandleFunc("/signin", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<p>sign in, then %s</p>", html.EscapeString(descopehttp.ReturnTo(r)))
	})
	mux.HandleFunc("/quiet", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Referrer-Policy", "no-referrer")
		io.WriteString(w, "quiet")
	})
	mux.HandleFunc("/favicon.ico", http.NotFound)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "home") })
	s.serve(mux)
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
	b.sees("with 2 cookies")

	// The other way round. To a browser, unlike Go's jar, those for the host alone are others.
	s.use(t, wide)
	s.signIn(b, kittest.Ada)
	b.open(s.url + "/app/d")
	b.sees("user " + s.subject(t, kittest.Ada))
	b.sees("with 2 cookies")
}

// Chromium takes *.localhost for loopback, where it keeps Secure cookies over http too.
const secureHost, neighbour = "app.own.localhost", "evil.own.localhost"

// What a neighbour host plants turns nobody into somebody else, and locks nobody out: the
// marker, which it cannot plant, says whose browser this is. A logout ends all of it.
func TestBrowserSettlesAConflict(t *testing.T) {
	s := newSmallSite(t, secureHost)
	s.use(t, descopehttp.Cookies{PlainNames: true})
	b := newBrowser(t)
	b.open(s.url + "/")
	s.signIn(b, kittest.Ada)
	require.Contains(t, b.cookies(), "__Host-DSU")

	bobs := s.project.SignIn(kittest.Bob)
	b.open(strings.Replace(s.url, secureHost, neighbour, 1) + "/")
	for name, value := range map[string]string{"DS": bobs.Session, "DSR": bobs.Refresh, "__Host-DSU": "planted"} {
		evaluate[string](b, `document.cookie = %s`, name+"="+value+"; Domain=own.localhost; Path=/; Secure")
	}
	assert.Len(t, b.cookies(), 2, "the marker is not the neighbour's to plant")
	b.open(s.url + "/app/a")
	b.sees("user " + s.subject(t, kittest.Ada))

	require.Equal(t, http.StatusOK, s.post(b, kittest.LogoutPath, "{}"))
	assert.Empty(t, b.cookies())
	b.open(s.url + "/app/b")
	b.sees("sign in")
}

// Cookies from before they were partitioned, and of a wider scope, are others to a browser:
// a logout ends them, and who signs in next is not taken for two.
func TestBrowserForgetsFormerForms(t *testing.T) {
	s := newSmallSite(t, secureHost)
	before := descopehttp.Cookies{Domain: "own.localhost", SameSite: http.SameSiteNoneMode}
	after := descopehttp.Cookies{PlainNames: true, SameSite: http.SameSiteNoneMode, Partitioned: true}
	b := newBrowser(t)
	s.use(t, before)
	b.open(s.url + "/")
	s.signIn(b, kittest.Ada)
	s.use(t, after)
	require.Equal(t, http.StatusOK, s.post(b, kittest.LogoutPath, "{}"))
	assert.Empty(t, b.cookies())

	s.use(t, before)
	s.signIn(b, kittest.Ada)
	s.use(t, after)
	s.signIn(b, kittest.Bob)
	b.open(s.url + "/app/a")
	b.sees("user " + s.subject(t, kittest.Bob))
	b.sees("with 3 cookies")
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
	inner := *s.h.Load()
	s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Sec-Fetch-") {
				heard.Add(1)
			}
		}
		inner.ServeHTTP(w, r)
	}))
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

// An asked is how a request of the browser was answered.
type asked struct {
	path, location string
	status         int
	header         http.Header // of the request
}

// watched has every answer told.
func (s *smallSite) watched() <-chan asked {
	answers, h := make(chan asked, 100), *s.h.Load()
	s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w)
		answers <- asked{r.URL.Path, answer.Header().Get("Location"), answer.Code, r.Header}
	}))
	return answers
}

// What Chromium itself writes into its requests tells pages from what shows none.
func TestBrowserPageViews(t *testing.T) {
	s := newSmallSite(t, "127.0.0.1")
	s.use(t, descopehttp.Cookies{InsecureHTTP: true})
	answers := s.watched()
	b := newBrowser(t)
	b.open(s.url + "/")
	answerTo := func(path string) asked {
		t.Helper()
		deadline := time.NewTimer(patience)
		defer deadline.Stop()
		for {
			select {
			case a := <-answers:
				if a.path == path {
					return a
				}
			case <-deadline.C:
				require.FailNow(t, "it was not asked for", path)
			}
		}
	}
	for name, script := range map[string]string{
		"download": `Object.assign(document.createElement("a"), { href: %s, download: "x" }).click()`,
		"prefetch": `document.head.append(Object.assign(document.createElement("link"), { rel: "prefetch", href: %s }))`,
		"ahead": `document.head.append(Object.assign(document.createElement("script"), { type: "speculationrules",
			textContent: JSON.stringify({ prefetch: [{ source: "list", urls: [%s], eagerness: "immediate" }] }) }))`,
		"fetch":   `fetch(%s, { headers: { Accept: "text/html" } })`,
		"picture": `new Image().src = %s`,
		"htmx":    `fetch(%s, { headers: { "HX-Request": "true", "HX-Current-URL": location.href } })`,
	} {
		evaluate[bool](b, `(`+script+`, true)`, "/app/"+name)
		a := answerTo("/app/" + name)
		assert.Equal(t, http.StatusUnauthorized, a.status, "%s: %v", name, a.header)
		assert.Empty(t, a.location, name)
	}
	b.at("/")
	assert.Equal(t, "/signin?return_to=%2F", evaluate[string](b, `fetch("/app/x", { method: "DELETE", headers: { "HX-Request": "true", "HX-Current-URL": location.href } }).then((r) => r.headers.get("HX-Redirect"))`))

	// A form is a page view, with files and without; where its page keeps its address to
	// itself, nothing leads back.
	for _, form := range []struct{ name, page, enctype, want string }{
		{"plain", "/?x=1", "application/x-www-form-urlencoded", "/?x=1"},
		{"file", "/?x=2", "multipart/form-data", "/?x=2"},
		{"of the login page", "/signin?return_to=%2Fapp%2Forders", "text/plain", "/app/orders"},
		{"no referrer", "/quiet", "application/x-www-form-urlencoded", "/"},
	} {
		b.open(s.url + form.page)
		evaluate[bool](b, `(() => {
			const form = document.createElement("form");
			Object.assign(form, { method: "post", enctype: %s, action: "/app/comments" });
			document.body.append(form);
			form.submit();
			return true;
		})()`, form.enctype)
		b.sees("sign in, then " + form.want)
		b.at("/signin")
		assert.Equal(t, http.StatusSeeOther, answerTo("/app/comments").status, form.name)
	}
}

// A login page behind the middleware says so, and does not go round for ever.
func TestBrowserAtAGuardedLoginPage(t *testing.T) {
	s := newSmallSite(t, "127.0.0.1")
	for login, path := range map[string]string{"/einlaß": "/einla%C3%9F", "/signin": "/signin/"} {
		k := kittest.For(t, s.project, func(cfg *descopehttp.Config) { cfg.LoginURL = login })
		mux := http.NewServeMux()
		mux.Handle("/", k.RequireSession(http.NotFoundHandler()))
		mux.Handle("/signin/", k.RequireSession(http.NotFoundHandler()))
		s.serve(mux)
		b := newBrowser(t)
		b.open(s.url + "/orders")
		b.sees("login_page_protected")
		b.at(path)
	}
}
