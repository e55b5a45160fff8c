package descopehttp_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

const refreshPath = "/v1/auth/refresh"

// past lets a session expire, but not its refresh token.
const past = 11 * time.Minute

func TestWhichCredential(t *testing.T) {
	k := newKit(t)
	k.srv.AddUser(descopetest.User{LoginID: "bob"})
	a, b := k.srv.SignIn(ada), k.srv.SignIn("bob")
	aID := subjectOf(t, k, a.Session)
	bID := subjectOf(t, k, b.Session)
	project := k.srv.ProjectID()

	for _, tt := range []struct {
		name          string
		authorization []string
		cookie        string
		subject       string // or code of the problem
	}{
		{"bearer", []string{"Bearer " + a.Session}, "", aID},
		{"bearer, scheme in lower case", []string{"bearer " + a.Session}, "", aID},
		{"bearer, more spaces", []string{"Bearer   " + a.Session}, "", aID},
		{"bearer beside somebody else's cookie", []string{"Bearer " + a.Session}, sessionCookie + "=" + b.Session, aID},
		{"bad bearer beside a good cookie", []string{"Bearer " + a.Session + "x"}, sessionCookie + "=" + b.Session, "invalid_token"},
		{"cookie", nil, sessionCookie + "=" + a.Session, aID},
		{"quoted cookie", nil, sessionCookie + `="` + a.Session + `"`, aID},
		{"project id, cookie", []string{"Bearer " + project}, sessionCookie + "=" + a.Session, aID},
		{"project id and refresh token, cookie", []string{"Bearer " + project + ":" + a.Refresh}, sessionCookie + "=" + b.Session, bID},
		{"project id, no cookie", []string{"Bearer " + project}, "", "no_session"},
		{"another project's id", []string{"Bearer P2otherotherotherotherotherother"}, sessionCookie + "=" + a.Session, "foreign_project"},
		{"longer than our id", []string{"Bearer " + project + "x"}, sessionCookie + "=" + a.Session, "foreign_project"},
		{"id in another case", []string{"Bearer " + strings.ToLower(project)}, sessionCookie + "=" + a.Session, "foreign_project"},
		{"opaque bearer", []string{"Bearer abc"}, sessionCookie + "=" + a.Session, "foreign_project"},
		{"empty bearer", []string{"Bearer "}, sessionCookie + "=" + a.Session, "foreign_project"},
		{"basic, for a proxy in front", []string{"Basic YTpi"}, sessionCookie + "=" + a.Session, aID},
		{"DPoP", []string{"DPoP " + a.Session}, sessionCookie + "=" + a.Session, "invalid_token"},
		{"two headers", []string{"Bearer " + a.Session, "Bearer " + a.Session}, "", "invalid_token"},
		{"two headers, one of the project", []string{"Bearer " + project, "Bearer " + a.Session}, "", "invalid_token"},
		{"plain cookie name", nil, "DS=" + a.Session, "no_session"},
		{"cookie name in another case", nil, "__host-ds=" + a.Session, "no_session"},
		{"forged cookie beside a good one", nil, sessionCookie + "=" + a.Session + "x; " + sessionCookie + "=" + a.Session, aID},
		{"good cookie, then a forged one", nil, sessionCookie + "=" + a.Session + "; " + sessionCookie + "=" + b.Session + "x", aID},
		{"four empty cookies, then a good one", nil, strings.Repeat(sessionCookie+"=; ", 4) + sessionCookie + "=" + a.Session, aID},
		{"a quote", nil, sessionCookie + `="`, "invalid_token"},
		{"a quote before", nil, sessionCookie + `="` + a.Session + "x", "invalid_token"},
		{"a quote after", nil, sessionCookie + "=x" + a.Session + `"`, "invalid_token"},
		{"fifth cookie", nil, strings.Repeat(sessionCookie+"=x; ", 4) + sessionCookie + "=" + a.Session, "invalid_token"},
		{"two users", nil, sessionCookie + "=" + a.Session + "; " + sessionCookie + "=" + b.Session, "conflicting_cookies"},
		{"session of one, refresh of another", nil, sessionCookie + "=" + a.Session + "; " + refreshCookie + "=" + b.Refresh, "conflicting_cookies"},
		{"good session, forged refresh token", nil, sessionCookie + "=" + a.Session + "; " + refreshCookie + "=" + b.Refresh[:len(b.Refresh)-8] + "AAAAAAAA", aID},
		{"good session, session token as refresh cookie", nil, sessionCookie + "=" + a.Session + "; " + refreshCookie + "=" + b.Session, aID},
		{"two refresh tokens of two users", nil, refreshCookie + "=" + a.Refresh + "; " + refreshCookie + "=" + b.Refresh, "conflicting_cookies"},
		{"refresh token as session cookie", nil, sessionCookie + "=" + a.Refresh, "invalid_token"},
		{"session token as refresh cookie", nil, refreshCookie + "=" + a.Session, "no_session"},
		{"nothing", nil, "", "no_session"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := new(spy)
			r := get("/")
			r.Header["Authorization"] = tt.authorization
			if tt.cookie != "" {
				r.Header.Set("Cookie", tt.cookie)
			}
			res := serve(k.RequireSession(next), r)
			if !strings.HasPrefix(tt.subject, "U") {
				requireProblem(t, res, http.StatusUnauthorized, tt.subject)
				assert.NotEmpty(t, res.Header.Get("WWW-Authenticate"))
				assert.Zero(t, next.calls)
				return
			}
			require.Equal(t, http.StatusOK, res.StatusCode)
			s, ok := descopehttp.SessionFromContext(next.last().Context())
			require.True(t, ok)
			assert.Equal(t, tt.subject, s.Subject())
			assert.Empty(t, res.Cookies())
		})
	}
	assert.Zero(t, k.srv.Requests(refreshPath))
}

func subjectOf(t *testing.T, k *kit, session string) string {
	t.Helper()
	s, err := k.VerifyToken(t.Context(), session)
	require.NoError(t, err)
	return s.Subject()
}

func TestConflictingCookiesAreDeleted(t *testing.T) {
	k := newKit(t)
	k.srv.AddUser(descopetest.User{LoginID: "bob"})
	r := withCookies(get("/"), k.srv.SignIn(ada).Session, k.srv.SignIn("bob").Refresh)
	cookies := cookiesOf(serve(k.RequireSession(new(spy)), r))
	for _, name := range []string{sessionCookie, refreshCookie} {
		require.Contains(t, cookies, name)
		assert.Negative(t, cookies[name].MaxAge)
	}
	assert.Empty(t, serve(k.LoadSession(new(spy)), r).Cookies(), "LoadSession deletes nothing")
}

// An expired session token opens nothing, but it still says whose browser this
// is: a refresh token that somebody planted beside it must not sign the owner in
// as somebody else.
func TestExpiredSessionStillNamesItsUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: "mallory"})
		session := k.srv.SignIn(ada).Session
		elapse(past)
		require.NoError(t, k.Ready(t.Context()))
		res := serve(k.RequireSession(new(spy)), withCookies(get("/"), session, k.srv.SignIn("mallory").Refresh))
		requireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		assert.Zero(t, k.srv.Requests(refreshPath))
	})
}

// A cookie that a neighbour's project left under the same name must not strand
// the owner of the refresh token.
func TestUnusableSessionCookieIsRenewed(t *testing.T) {
	h := newHostile(t)
	tokens := h.srv.SignIn(ada)
	for name, session := range map[string]string{
		"none":             "",
		"garbage":          "garbage",
		"another project":  h.with(map[string]any{"iss": "P2otherotherotherotherotherother", "sub": "U2x"}),
		"forged, of other": h.with(map[string]any{"sub": "U2x"}) + "x",
		"expired":          h.with(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"unknown key":      h.header(`{"alg":"RS256","kid":"SKinvented"}`),
		"a refresh token":  tokens.Refresh,
	} {
		next := new(spy)
		res := serve(h.RequireSession(next), withCookies(get("/"), session, tokens.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode, name)
		assert.Equal(t, 1, next.calls, name)
		assert.Contains(t, cookiesOf(res), sessionCookie, name)
	}
}

// The handler behind a renewal runs once, after the new cookies were set, and
// sees the new session token and no refresh token.
func TestRenewalBeforeNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = true })
		tokens := k.srv.SignIn(ada)
		elapse(past)

		var seen *http.Request
		var set []string
		h := k.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen, set = r, w.Header().Values("Set-Cookie")
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			http.Error(w, "gone", http.StatusNotFound) // http.Error drops Cache-Control
		}))
		r := withCookies(get("/"), tokens.Session, tokens.Refresh)
		r.Header.Set("Cookie", "a=1; "+r.Header.Get("Cookie")+"; b=2")
		before := r.Header.Get("Cookie")
		res := serve(h, r)

		require.Equal(t, http.StatusNotFound, res.StatusCode)
		assert.Len(t, set, 2)
		cookies := cookiesOf(res)
		session, refresh := cookies[sessionCookie], cookies[refreshCookie]
		require.NotNil(t, session)
		require.NotNil(t, refresh)
		assert.NotEqual(t, tokens.Session, session.Value)
		assert.NotEqual(t, tokens.Refresh, refresh.Value)
		assert.Equal(t, session.MaxAge, refresh.MaxAge)
		assert.Equal(t, int((28*24*time.Hour-past)/time.Second), session.MaxAge, "as long as the refresh token")
		for _, c := range cookies {
			assert.True(t, c.HttpOnly)
			assert.True(t, c.Secure)
			assert.Equal(t, "/", c.Path)
			assert.Empty(t, c.Domain)
			assert.Equal(t, http.SameSiteLaxMode, c.SameSite)
		}
		assert.Equal(t, "no-store", res.Header.Get("CDN-Cache-Control"))
		assert.Equal(t, "no-store", res.Header.Get("Surrogate-Control"))
		assert.Contains(t, res.Header.Values("Vary"), "Cookie")

		assert.Equal(t, "a=1; b=2; "+sessionCookie+"="+session.Value, seen.Header.Get("Cookie"))
		assert.Equal(t, before, r.Header.Get("Cookie"), "the caller's request is left as it was")
		s, ok := descopehttp.SessionFromContext(seen.Context())
		require.True(t, ok)
		assert.Equal(t, session.Value, s.Token())
	})
}

func TestHundredAtOnceRefreshOnce(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			tokens := k.srv.SignIn(ada)
			elapse(past)
			require.NoError(t, k.Ready(t.Context()))
			k.srv.Fail(refreshPath, descopetest.Fault{Delay: 100 * time.Millisecond})
			next := new(spy)
			h := k.RequireSession(next)
			values := make(chan string, 100)
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					res := serve(h, withCookies(get("/"), tokens.Session, tokens.Refresh))
					assert.Equal(t, http.StatusOK, res.StatusCode)
					values <- cookiesOf(res)[sessionCookie].Value
				})
			}
			wg.Wait()
			close(values)
			distinct := make(map[string]bool)
			for v := range values {
				distinct[v] = true
			}
			assert.Len(t, distinct, 1)
			assert.Equal(t, 100, next.calls)
			assert.Equal(t, 1, k.srv.Requests(refreshPath))
		})
	}
}

// The client that began a refresh may hang up; the others still get the result.
func TestRefreshOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = true })
		tokens := k.srv.SignIn(ada)
		elapse(past)
		require.NoError(t, k.Ready(t.Context()))
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: 2 * time.Second})
		h := k.RequireSession(new(spy))
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				r := withCookies(get("/"), tokens.Session, tokens.Refresh)
				want := http.StatusOK
				if i == 0 {
					ctx, cancel := contextWithTimeout(r, time.Second)
					defer cancel()
					r, want = r.WithContext(ctx), http.StatusServiceUnavailable
				} else {
					elapse(time.Millisecond)
				}
				assert.Equal(t, want, serve(h, r).StatusCode)
			})
		}
		wg.Wait()
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

func TestNestedMiddlewareRefreshesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = true })
		for name, wrap := range map[string]func(http.Handler) http.Handler{
			"Require in RequireSession": func(h http.Handler) http.Handler { return k.RequireSession(k.Require()(h)) },
			"Require in LoadSession":    func(h http.Handler) http.Handler { return k.LoadSession(k.Require()(h)) },
			"LoadSession in Require":    func(h http.Handler) http.Handler { return k.Require()(k.LoadSession(h)) },
			"three deep":                func(h http.Handler) http.Handler { return k.RequireSession(k.RequireSession(k.RequireSession(h))) },
		} {
			tokens := k.srv.SignIn(ada)
			elapse(past)
			before := k.srv.Requests(refreshPath)
			next := new(spy)
			res := serve(wrap(next), withCookies(get("/"), tokens.Session, tokens.Refresh))
			require.Equal(t, http.StatusOK, res.StatusCode, name)
			assert.Equal(t, 1, k.srv.Requests(refreshPath)-before, name)
			s, ok := descopehttp.SessionFromContext(next.last().Context())
			require.True(t, ok, name)
			assert.Equal(t, cookiesOf(res)[sessionCookie].Value, s.Token(), "%s: the inner one sees the new session", name)
			assert.Len(t, res.Cookies(), 2, name)
		}
	})
}

// What a handler or another middleware put into the context can be read, and
// opens nothing.
func TestSessionsOfOthersOpenNothing(t *testing.T) {
	k, other := newKit(t), newKit(t)
	made, err := descopehttp.NewSession(map[string]any{"sub": "U2made", "roles": []string{"admin"}})
	require.NoError(t, err)
	r := get("/")
	r = r.WithContext(descopehttp.ContextWithSession(r.Context(), made))
	s, ok := descopehttp.SessionFromContext(r.Context())
	require.True(t, ok)
	assert.Equal(t, "U2made", s.Subject())
	next := new(spy)
	requireProblem(t, serve(k.RequireSession(next), r), http.StatusUnauthorized, "no_session")

	// A session of another Auth, even of the same project, is not ours either:
	// it may be configured to accept more.
	outer := other.RequireSession(k.RequireSession(next))
	requireProblem(t, serve(outer, withCookies(get("/"), other.srv.SignIn(ada).Session, "")), http.StatusUnauthorized, "invalid_token")
	assert.Zero(t, next.calls)
}

func TestGuards(t *testing.T) {
	k := newKit(t)
	token := k.srv.SignIn(ada).Session
	allow := func(*http.Request, *descopehttp.Session) error { return nil }
	deny := func(*http.Request, *descopehttp.Session) error { return errors.New("secret reason") }
	forbid := func(*http.Request, *descopehttp.Session) error { return descopehttp.ErrForbidden }
	next := new(spy)
	assert.Equal(t, http.StatusOK, serve(k.Require(allow, allow)(next), withBearer(get("/"), token)).StatusCode)
	for _, guards := range [][]descopehttp.Guard{{deny}, {allow, deny}, {forbid, allow}} {
		p := requireProblem(t, serve(k.Require(guards...)(next), withBearer(get("/"), token)), http.StatusForbidden, "forbidden")
		assert.NotContains(t, p.Detail, "secret")
		// An outer middleware does not open what a guard closes.
		requireProblem(t, serve(k.RequireSession(k.Require(guards...)(next)), withBearer(get("/"), token)), http.StatusForbidden, "forbidden")
	}
	requireProblem(t, serve(k.Require(allow)(next), get("/")), http.StatusUnauthorized, "no_session")
	assert.Equal(t, 1, next.calls)
}

func TestCrossOrigin(t *testing.T) {
	k := newKit(t, func(c *descopehttp.Config) { c.TrustedOrigins = []string{"https://app.example"} })
	tokens := k.srv.SignIn(ada)
	const own, foreign, trusted = "http://example.com", "https://evil.example", "https://app.example"
	for _, tt := range []struct {
		name                 string
		method, site, origin string
		upgrade              string
		ok                   bool
	}{
		{"GET from anywhere", "GET", "cross-site", foreign, "", true},
		{"HEAD from anywhere", "HEAD", "cross-site", "", "", true},
		{"OPTIONS from anywhere", "OPTIONS", "cross-site", foreign, "", true},
		{"POST of this site", "POST", "same-origin", own, "", true},
		{"POST typed by the user", "POST", "none", "", "", true},
		{"POST of another site", "POST", "cross-site", foreign, "", false},
		{"POST of a subdomain", "POST", "same-site", "http://evil.example.com", "", false},
		{"POST of a trusted origin", "POST", "cross-site", trusted, "", true},
		{"PUT of another site", "PUT", "cross-site", foreign, "", false},
		{"PATCH of another site", "PATCH", "cross-site", foreign, "", false},
		{"DELETE of another site", "DELETE", "cross-site", foreign, "", false},
		{"unknown method of another site", "PROPFIND", "cross-site", foreign, "", false},
		{"CONNECT of another site", "CONNECT", "cross-site", foreign, "", false},
		{"old browser, this site", "POST", "", own, "", true},
		{"old browser, another site", "POST", "", foreign, "", false},
		{"old browser, opaque origin", "POST", "", "null", "", false},
		{"no browser", "POST", "", "", "", true},
		{"WebSocket of this site", "GET", "same-origin", own, "websocket", true},
		{"WebSocket of another site", "GET", "cross-site", foreign, "websocket", false},
		{"WebSocket of another site, old browser", "GET", "", foreign, "websocket", false},
		{"WebSocket of a trusted origin", "GET", "cross-site", trusted, "websocket", true},
		{"other upgrade of another site", "GET", "cross-site", foreign, "h2c", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			request := func() *http.Request {
				r := httptest.NewRequest(tt.method, "http://example.com/", nil)
				r.Host = "example.com"
				for name, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Origin": tt.origin, "Upgrade": tt.upgrade} {
					if value != "" {
						r.Header.Set(name, value)
					}
				}
				return r
			}
			next := new(spy)
			res := serve(k.RequireSession(next), withCookies(request(), tokens.Session, tokens.Refresh))
			if tt.ok {
				assert.Equal(t, http.StatusOK, res.StatusCode)
			} else {
				requireProblem(t, res, http.StatusForbidden, "cross_origin")
				assert.Zero(t, next.calls)
				assert.Empty(t, res.Cookies())
			}
			// A browser adds no Authorization header for another site.
			res = serve(k.RequireSession(next), withBearer(request(), tokens.Session))
			assert.Equal(t, http.StatusOK, res.StatusCode)
			// LoadSession goes on as if nobody were signed in.
			loaded := new(spy)
			serve(k.LoadSession(loaded), withCookies(request(), tokens.Session, tokens.Refresh))
			require.Equal(t, 1, loaded.calls)
			_, ok := descopehttp.SessionFromContext(loaded.last().Context())
			assert.Equal(t, tt.ok, ok)
			if !tt.ok {
				assert.ErrorIs(t, descopehttp.SessionError(loaded.last().Context()), descopehttp.ErrCrossOrigin)
			}
		})
	}
	assert.Zero(t, k.srv.Requests(refreshPath))
}

// A refused cross-origin request must not spend the refresh token either.
func TestCrossOriginRefreshesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		tokens := k.srv.SignIn(ada)
		elapse(past)
		for _, h := range []http.Handler{k.RequireSession(new(spy)), k.LoadSession(new(spy))} {
			r := withCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			assert.Empty(t, serve(h, r).Cookies())
		}
		assert.Zero(t, k.srv.Requests(""))
	})
}

func TestUpgradeStartsNoRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		tokens := k.srv.SignIn(ada)
		r := withCookies(get("/"), tokens.Session, tokens.Refresh)
		r.Header.Set("Upgrade", "websocket")
		h := k.RequireSession(new(spy))
		assert.Equal(t, http.StatusOK, serve(h, r).StatusCode)
		elapse(past)
		requireProblem(t, serve(h, r), http.StatusUnauthorized, "session_expired")
		// Over HTTP/2 it is a CONNECT (RFC 8441).
		requireProblem(t, serve(h, withCookies(httptest.NewRequest(http.MethodConnect, "/", nil), tokens.Session, tokens.Refresh)), http.StatusUnauthorized, "session_expired")
		assert.Zero(t, k.srv.Requests(refreshPath))
		// Where the route says so, it does.
		res := serve(k.RefreshUpgrades(h), r)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Contains(t, cookiesOf(res), sessionCookie)
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// A session that is about to end and cannot be renewed serves to its end.
func TestLastMomentsWithoutARefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		session := k.srv.SignIn(ada).Session
		elapse(10*time.Minute - 2*time.Second)
		for _, refresh := range []string{"", "a.b.c"} {
			for range 2 {
				res := serve(k.RequireSession(new(spy)), withCookies(get("/"), session, refresh))
				assert.Equal(t, http.StatusOK, res.StatusCode, "refresh cookie %q", refresh)
				assert.Empty(t, res.Cookies())
			}
		}
		assert.Zero(t, k.srv.Requests(refreshPath))
	})
}

func TestLoadSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		tokens := k.srv.SignIn(ada)
		next := new(spy)
		h := k.LoadSession(next)
		load := func(r *http.Request) (*http.Response, bool, error) {
			res := serve(h, r)
			ctx := next.last().Context()
			_, ok := descopehttp.SessionFromContext(ctx)
			return res, ok, descopehttp.SessionError(ctx)
		}
		_, ok, err := load(get("/"))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrNoSession)
		_, ok, err = load(withCookies(get("/"), tokens.Session, tokens.Refresh))
		assert.True(t, ok)
		assert.NoError(t, err)
		_, ok, err = load(withBearer(get("/"), tokens.Session+"x"))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrInvalidToken)

		elapse(past)
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Minute, Times: 2})
		began := time.Now()
		res, ok, err := load(withCookies(get("/"), tokens.Session, tokens.Refresh))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrUnavailable)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
		assert.Equal(t, time.Second, time.Since(began), "a page that can do without does not wait long")
		calls := next.calls
		res = serve(h, withCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh))
		requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, calls, next.calls)

		require.NoError(t, k.Wait(t.Context()))
		k.srv.Reset()
		elapse(time.Minute)
		res, ok, err = load(withCookies(get("/"), tokens.Session, tokens.Refresh))
		assert.True(t, ok)
		assert.NoError(t, err)
		assert.Contains(t, cookiesOf(res), sessionCookie)

		k.srv.LogOut(ada)
		elapse(past)
		res, ok, err = load(withCookies(get("/"), tokens.Session, tokens.Refresh))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrSessionEnded)
		assert.Empty(t, res.Cookies(), "LoadSession deletes nothing")
	})
}

func TestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  descopetest.Fault
		status int
		code   string
	}{
		"E061005":       {descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`}, 401, "session_ended"},
		"E064001":       {descopetest.Fault{Status: 400, Body: `{"errorCode":"E064001"}`}, 401, "session_ended"},
		"another 4xx":   {descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`}, 401, "refresh_refused"},
		"404 JSON":      {descopetest.Fault{Status: 404, Body: `{"errorCode":"E011001"}`}, 401, "refresh_refused"},
		"403 HTML":      {descopetest.Fault{Status: 403, Body: `<html>E061005</html>`}, 503, "unavailable"},
		"401 no code":   {descopetest.Fault{Status: 401, Body: `{"error":"E061005"}`}, 503, "unavailable"},
		"401 odd code":  {descopetest.Fault{Status: 401, Body: `{"errorCode":"expired"}`}, 503, "unavailable"},
		"500 with code": {descopetest.Fault{Status: 500, Body: `{"errorCode":"E061005"}`}, 503, "unavailable"},
		"429":           {descopetest.Fault{Status: 429, Body: `{"errorCode":"E130429"}`, Header: http.Header{"Retry-After": {"7"}}}, 503, "unavailable"},
		"200 empty":     {descopetest.Fault{Status: 200, Body: `{}`}, 503, "unavailable"},
		"200 no JSON":   {descopetest.Fault{Status: 200, Body: `ok`}, 503, "unavailable"},
		"204":           {descopetest.Fault{Status: 204}, 503, "unavailable"},
		"redirect":      {descopetest.Fault{Status: 307, Header: http.Header{"Location": {"/elsewhere"}}}, 503, "unavailable"},
		"dropped":       {descopetest.Fault{Drop: true}, 503, "unavailable"},
		"lost answer":   {descopetest.Fault{Drop: true, After: true}, 503, "unavailable"},
		"cut":           {descopetest.Fault{Truncate: 30}, 503, "unavailable"},
		"silent":        {descopetest.Fault{Delay: time.Minute}, 503, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				tokens := k.srv.SignIn(ada)
				elapse(past)
				require.NoError(t, k.Ready(t.Context()))
				k.srv.Fail(refreshPath, tt.fault)
				next := new(spy)
				h := k.RequireSession(next)
				began := time.Now()
				res := serve(h, withCookies(get("/"), tokens.Session, tokens.Refresh))
				requireProblem(t, res, tt.status, tt.code)
				assert.LessOrEqual(t, time.Since(began), 5*time.Second)
				assert.Empty(t, res.Cookies(), "cookies are kept")
				assert.Zero(t, next.calls)
				assert.Equal(t, 1, k.srv.Requests(refreshPath), "never repeated")
				if tt.status == http.StatusServiceUnavailable {
					assert.NotEmpty(t, res.Header.Get("Retry-After"))
				}
				require.NoError(t, k.Wait(t.Context()))

				if tt.code != "session_ended" { // mended, everybody is in again
					elapse(time.Minute)
					assert.Equal(t, http.StatusOK, serve(h, withCookies(get("/"), tokens.Session, tokens.Refresh)).StatusCode)
				}
			})
		})
	}
}

// A refresh token whose own time has passed can never work again.
func TestExpiredRefreshTokenIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.RefreshTTL = time.Hour })
		tokens := k.srv.SignIn(ada)
		elapse(2 * time.Hour)
		r := withCookies(get("/"), tokens.Session, tokens.Refresh)
		res := serve(k.RequireSession(new(spy)), r)
		requireProblem(t, res, http.StatusUnauthorized, "session_expired")
		cookies := cookiesOf(res)
		assert.Negative(t, cookies[sessionCookie].MaxAge)
		assert.Negative(t, cookies[refreshCookie].MaxAge)
		assert.Zero(t, k.srv.Requests(refreshPath))
		assert.Empty(t, serve(k.LoadSession(new(spy)), r).Cookies())

		// With nothing else it is what there is to say, and beside a session cookie
		// that is none, that is.
		requireProblem(t, serve(k.RequireSession(new(spy)), withCookies(get("/"), "", tokens.Refresh)), http.StatusUnauthorized, "session_expired")
		requireProblem(t, serve(k.RequireSession(new(spy)), withCookies(get("/"), "a.b.c", tokens.Refresh)), http.StatusUnauthorized, "invalid_token")
		requireProblem(t, serve(k.RequireSession(new(spy)), withCookies(get("/"), "", "a.b.c")), http.StatusUnauthorized, "no_session")
	})
}

// A session cookie that has expired and was signed by nobody names nobody: it must
// not sign the owner of the refresh token out.
func TestForgedExpiredSessionNamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: "mallory"})
		session := k.srv.SignIn("mallory").Session
		forged := session[:len(session)-8] + "AAAAAAAA"
		elapse(past)
		res := serve(k.RequireSession(new(spy)), withCookies(get("/"), forged, k.srv.SignIn(ada).Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		res = serve(k.RequireSession(new(spy)), withCookies(get("/"), session, k.srv.SignIn(ada).Refresh))
		requireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
	})
}

// Refresh tokens live for weeks, keys for days: one that has left the key set
// does not speak against a refresh token, but a bad signature does.
func TestRefreshTokenOfAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.KeysKept = 1 })
		tokens := k.srv.SignIn(ada)
		elapse(past)
		h := k.RequireSession(new(spy))

		require.NoError(t, k.Ready(t.Context()))
		forged := tokens.Refresh[:len(tokens.Refresh)-8] + "AAAAAAAA"
		requireProblem(t, serve(h, withCookies(get("/"), "", forged)), http.StatusUnauthorized, "no_session")
		assert.Zero(t, k.srv.Requests(refreshPath))

		k.srv.RotateKeys() // the old key is retired once the new set is seen
		elapse(2 * time.Hour)
		require.Equal(t, http.StatusOK, serve(h, withBearer(get("/"), k.srv.SignIn(ada).Session)).StatusCode)
		requireProblem(t, serve(h, withCookies(get("/"), "", forged)), http.StatusUnauthorized, "no_session")
		assert.Zero(t, k.srv.Requests(refreshPath))
		assert.Equal(t, http.StatusOK, serve(h, withCookies(get("/"), "", tokens.Refresh)).StatusCode)

		// Another replica never held that key. Descope is asked.
		other := kitFor(t, k.srv)
		require.NoError(t, other.Ready(t.Context()))
		before := k.srv.Requests(refreshPath)
		assert.Equal(t, http.StatusOK, serve(other.RequireSession(new(spy)), withCookies(get("/"), "", tokens.Refresh)).StatusCode)
		assert.Equal(t, 1, k.srv.Requests(refreshPath)-before)
	})
}

func TestTransportThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		tokens := k.srv.SignIn(ada)
		elapse(past)
		a := kitFor(t, k.srv, func(c *descopehttp.Config) {
			inner := c.HTTPClient.Transport
			c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == refreshPath {
					panic("secret " + r.Header.Get("Authorization"))
				}
				return inner.RoundTrip(r)
			})}
		})
		res := serve(a.RequireSession(new(spy)), withCookies(get("/"), tokens.Session, tokens.Refresh))
		requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.NotContains(t, a.logs.String(), "secret")
	})
}

// LoadSession waits a second at the most, for a Bearer too.
func TestLoadSessionWithABearerAndSlowKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		tokens := k.srv.SignIn(ada)
		k.srv.Fail(keysPath, descopetest.Fault{Delay: time.Hour, Times: -1})
		next := new(spy)
		began := time.Now()
		serve(k.LoadSession(next), withBearer(get("/"), tokens.Session))
		assert.Equal(t, loadBudget, time.Since(began))
		assert.Equal(t, 1, next.calls)
		require.NoError(t, k.Wait(t.Context()))
	})
}

// The answer to a refresh must be about the user who refreshed.
func TestAnswerAboutAnotherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: "bob"})
		tokens, other := k.srv.SignIn(ada), k.srv.SignIn("bob")
		elapse(past)
		fresh := k.srv.SignIn("bob")
		next := new(spy)
		for _, body := range []string{
			`{"sessionJwt":"` + fresh.Session + `","refreshJwt":""}`,
			`{"sessionJwt":"` + fresh.Session + `","refreshJwt":"` + other.Refresh + `"}`,
			`{"sessionJwt":"` + k.srv.SignIn(ada).Session + `","refreshJwt":"` + other.Refresh + `"}`,
		} {
			k.srv.Fail(refreshPath, descopetest.Fault{Status: 200, Body: body})
			res := serve(k.RequireSession(next), withCookies(get("/"), tokens.Session, tokens.Refresh))
			requireProblem(t, res, http.StatusUnauthorized, "other_user")
			assert.Empty(t, res.Cookies())
		}
		assert.Zero(t, next.calls)
		assert.Equal(t, 3, k.srv.Requests(refreshPath), "none of them is kept")
		assert.Contains(t, k.logs.String(), "another user")
		assert.Equal(t, http.StatusOK, serve(k.RequireSession(next), withCookies(get("/"), tokens.Session, tokens.Refresh)).StatusCode)
	})
}

// Whatever Descope answers passes the same checks as what a client presents.
func TestAnswersAreVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostile(t)
		tokens := h.srv.SignIn(ada)
		elapse(past)
		for name, body := range map[string]string{
			"expired session":          `{"sessionJwt":"` + tokens.Session + `"}`,
			"refresh token as session": `{"sessionJwt":"` + tokens.Refresh + `"}`,
			"session as refresh token": `{"sessionJwt":"` + h.with(nil) + `","refreshJwt":"` + h.with(nil) + `"}`,
			"forged session":           `{"sessionJwt":"` + h.with(nil) + `x"}`,
			"no session":               `{"sessionJwt":"","refreshJwt":"` + tokens.Refresh + `"}`,
			"sessionJwt twice":         `{"sessionJwt":"` + h.with(nil) + `","sessionJwt":"` + h.with(nil) + `"}`,
			"wrong type":               `{"sessionJwt":7}`,
			"an array":                 `[]`,
		} {
			h.srv.Fail(refreshPath, descopetest.Fault{Status: 200, Body: body})
			res := serve(h.RequireSession(new(spy)), withCookies(get("/"), tokens.Session, tokens.Refresh))
			requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.Empty(t, res.Cookies(), name)
		}
	})
}

// What is not renewed is passed on as it came.
func TestValidRequestIsLeftAsItIs(t *testing.T) {
	k := newKit(t)
	tokens := k.srv.SignIn(ada)
	for range 2 {
		r := withCookies(get("/"), tokens.Session, tokens.Refresh)
		r.Header.Set("Cookie", "a=1;"+r.Header.Get("Cookie")+";;b=2")
		header := r.Header.Clone()
		next := new(spy)
		require.Equal(t, http.StatusOK, serve(k.RequireSession(next), r).StatusCode)
		assert.Equal(t, header, next.last().Header)
	}
}

// Authenticate gives a session or an error, never both and never neither, and writes
// no answer.
func TestAuthenticate(t *testing.T) {
	k := newKit(t)
	k.srv.AddUser(descopetest.User{LoginID: "bob"})
	tokens, bobs := k.srv.SignIn(ada), k.srv.SignIn("bob")
	crossSite := withCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh)
	crossSite.Header.Set("Sec-Fetch-Site", "cross-site")
	for _, tt := range []struct {
		r    *http.Request
		want error
	}{
		{get("/"), descopehttp.ErrNoSession},
		{withBearer(get("/"), tokens.Refresh), descopehttp.ErrInvalidToken},
		{withCookies(get("/"), "a.b.c", ""), descopehttp.ErrInvalidToken},
		{withCookies(get("/"), tokens.Session, bobs.Refresh), descopehttp.ErrInvalidToken},
		{crossSite, descopehttp.ErrCrossOrigin},
		{withBearer(get("/"), tokens.Session), nil},
		{withCookies(get("/"), tokens.Session, tokens.Refresh), nil},
	} {
		w := httptest.NewRecorder()
		s, err := k.Authenticate(w, tt.r)
		assert.Zero(t, w.Body.Len())
		if tt.want != nil {
			assert.ErrorIs(t, err, tt.want)
			assert.Nil(t, s)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, tokens.Session, s.Token())
	}
}

func TestErrorHandler(t *testing.T) {
	var got error
	k := newKit(t, func(c *descopehttp.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			got = err
			w.WriteHeader(http.StatusTeapot)
		}
	})
	next := new(spy)
	res := serve(k.RequireSession(next), get("/"))
	assert.Equal(t, http.StatusTeapot, res.StatusCode)
	assert.ErrorIs(t, got, descopehttp.ErrNoSession)
	assert.Zero(t, next.calls)
	assert.Empty(t, res.Header.Get("Retry-After"))
	k.srv.Fail(keysPath, descopetest.Fault{Status: 500, Times: -1})
	res = serve(k.RequireSession(next), withBearer(get("/"), k.srv.SignIn(ada).Session))
	assert.ErrorIs(t, got, descopehttp.ErrUnavailable)
	assert.NotEmpty(t, res.Header.Get("Retry-After"), "is there already")
	res = serve(k.Handler(), get("/v1/auth/me"))
	requireProblem(t, res, http.StatusUnauthorized, "no_refresh_token")
}

func TestWriteErrorOfSomethingElse(t *testing.T) {
	k := newKit(t)
	w := httptest.NewRecorder()
	k.WriteError(w, get("/"), errors.New("secret"))
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	assert.NotContains(t, string(body), "secret")
	w = httptest.NewRecorder()
	k.WriteError(w, get("/"), errors.New("secret"))
	requireProblem(t, w.Result(), http.StatusInternalServerError, "internal")
}

// With InBody, cookies are neither read nor written.
func TestInBodyIgnoresCookies(t *testing.T) {
	k := newKit(t, func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody })
	tokens := k.srv.SignIn(ada)
	r := withCookies(get("/"), tokens.Session, tokens.Refresh)
	r.Header.Set("Cookie", r.Header.Get("Cookie")+"; DS="+tokens.Session+"; DSR="+tokens.Refresh+"; ="+tokens.Session)
	requireProblem(t, serve(k.RequireSession(new(spy)), r), http.StatusUnauthorized, "no_session")
	res := serve(k.Handler(), withCookies(get("/v1/auth/me"), "", tokens.Refresh))
	requireProblem(t, res, http.StatusUnauthorized, "no_refresh_token")
	assert.Equal(t, http.StatusOK, serve(k.RequireSession(new(spy)), withBearer(get("/"), tokens.Session)).StatusCode)
	// So no origin is judged either.
	r = withCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	requireProblem(t, serve(k.RequireSession(new(spy)), r), http.StatusUnauthorized, "no_session")
}

// With SessionInBody a session cookie is no credential, but the refresh cookie
// still signs a page navigation in.
func TestSessionInBody(t *testing.T) {
	k := newKit(t, func(c *descopehttp.Config) { c.Tokens = descopehttp.SessionInBody })
	tokens := k.srv.SignIn(ada)
	requireProblem(t, serve(k.RequireSession(new(spy)), withCookies(get("/"), tokens.Session, "")), http.StatusUnauthorized, "no_session")
	nameless := get("/")
	nameless.Header.Set("Cookie", "="+tokens.Session)
	requireProblem(t, serve(k.RequireSession(new(spy)), nameless), http.StatusUnauthorized, "no_session")
	res := serve(k.RequireSession(new(spy)), withCookies(get("/"), "", tokens.Refresh))
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.NotContains(t, cookiesOf(res), sessionCookie)
}

// Nor can one by itself turn the browser of an expired session into another's, even
// if it is genuine; and two of two users are nobody's, in whatever order they come.
func TestPlantedRefreshTokensOfUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newKit(t).srv
		srv.Configure(func(s *descopetest.Settings) { s.KeysKept = 1 })
		srv.AddUser(descopetest.User{LoginID: "mallory"})
		own, planted := srv.SignIn(ada).Refresh, srv.SignIn("mallory").Refresh
		srv.RotateKeys()
		session := srv.SignIn(ada).Session
		k := kitFor(t, srv) // has never held the key of the refresh tokens
		require.NoError(t, k.Ready(t.Context()))
		elapse(past)
		present := func(session string, refreshes ...string) (*http.Response, *spy) {
			var pairs []string
			if session != "" {
				pairs = append(pairs, sessionCookie+"="+session)
			}
			for _, refresh := range refreshes {
				pairs = append(pairs, refreshCookie+"="+refresh)
			}
			r := get("/")
			r.Header.Set("Cookie", strings.Join(pairs, "; "))
			next := new(spy)
			return serve(k.RequireSession(next), r), next
		}
		res, _ := present(session, planted)
		requireProblem(t, res, http.StatusUnauthorized, "session_expired")
		for _, pair := range [][]string{{planted, own}, {own, planted}, {own, own, planted}} {
			res, _ := present("", pair...)
			requireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		}
		require.Zero(t, srv.Requests(refreshPath))
		for _, pair := range [][]string{{planted, own}, {own, planted}} {
			elapse(time.Second)
			res, next := present(session, pair...)
			require.Equal(t, http.StatusOK, res.StatusCode)
			s, ok := descopehttp.SessionFromContext(next.last().Context())
			require.True(t, ok)
			require.Equal(t, srv.SessionClaims(ada)["sub"], s.Subject())
		}
	})
}

// A planted refresh token that cannot be verified here, because its key was never
// held, counts for nothing beside one that can: neither does it turn the cookies
// into those of two users, nor is it spent in place of the owner's.
func TestPlantedRefreshTokenOfUnknownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostile(t)
		tokens := h.srv.SignIn(ada)
		subject := subjectOf(t, h.kit, tokens.Session)
		elapse(past)
		for _, sub := range []string{subject, "U2mallory"} {
			planted := signRaw(t, h.rsa, `{"alg":"RS256","kid":"SKinvented"}`, claimsJSON(t, h.claims(map[string]any{
				"drn": "DSR", "sub": sub, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})))
			for _, order := range []string{planted + "; " + refreshCookie + "=" + tokens.Refresh, tokens.Refresh + "; " + refreshCookie + "=" + planted} {
				r := get("/")
				r.Header.Set("Cookie", sessionCookie+"="+tokens.Session+"; "+refreshCookie+"="+order)
				assert.Equal(t, http.StatusOK, serve(h.RequireSession(new(spy)), r).StatusCode)
			}
		}
	})
}
