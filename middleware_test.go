package descopehttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Rule: cookies: against two credentials in one request, each for another reader: a bearer
// token is judged and cookies are not looked at; two Authorization headers are refused.
// Rule: cookies: against a planted cookie that turns one user into another: all cookies that
// count must name one user.
// Rule: cookies: against a planted cookie that locks the owner out: cookies that fail the
// checks are ignored.
// Rule: cookies: two Authorization headers: 401; a bearer value that is neither a token nor the
// project: 401; DPoP: 401.
// Rule: cookies: a bearer token is judged, cookies are not looked at.
// Rule: cookies: four cookies of a name at most.
// Rule: cookies: all cookies that count name one user.
func TestWhichCredential(t *testing.T) {
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: "bob"})
	a, b := k.Project.SignIn(kittest.Ada), k.Project.SignIn("bob")
	aID := kittest.SubjectOf(t, k, a.Session)
	bID := kittest.SubjectOf(t, k, b.Session)
	project := k.Project.ProjectID()

	for _, tt := range []struct {
		name          string
		authorization []string
		cookie        string
		subject       string // or code of the problem
	}{
		{"bearer", []string{"Bearer " + a.Session}, "", aID},
		{"bearer, scheme in lower case", []string{"bearer " + a.Session}, "", aID},
		{"bearer, more spaces", []string{"Bearer   " + a.Session}, "", aID},
		{"bearer beside somebody else's cookie", []string{"Bearer " + a.Session}, kittest.SessionCookie + "=" + b.Session, aID},
		{"bad bearer beside a good cookie", []string{"Bearer " + a.Session + "x"}, kittest.SessionCookie + "=" + b.Session, "invalid_token"},
		{"cookie", nil, kittest.SessionCookie + "=" + a.Session, aID},
		{"quoted cookie", nil, kittest.SessionCookie + `="` + a.Session + `"`, aID},
		{"project id, cookie", []string{"Bearer " + project}, kittest.SessionCookie + "=" + a.Session, aID},
		{"project id and refresh token, cookie", []string{"Bearer " + project + ":" + a.Refresh}, kittest.SessionCookie + "=" + b.Session, bID},
		{"project id, no cookie", []string{"Bearer " + project}, "", "no_session"},
		{"another project's id", []string{"Bearer P2otherotherotherotherotherother"}, kittest.SessionCookie + "=" + a.Session, "foreign_project"},
		{"longer than our id", []string{"Bearer " + project + "x"}, kittest.SessionCookie + "=" + a.Session, "foreign_project"},
		{"id in another case", []string{"Bearer " + strings.ToLower(project)}, kittest.SessionCookie + "=" + a.Session, "foreign_project"},
		{"opaque bearer", []string{"Bearer abc"}, kittest.SessionCookie + "=" + a.Session, "foreign_project"},
		{"empty bearer", []string{"Bearer "}, kittest.SessionCookie + "=" + a.Session, "foreign_project"},
		{"basic, for a proxy in front", []string{"Basic YTpi"}, kittest.SessionCookie + "=" + a.Session, aID},
		{"DPoP", []string{"DPoP " + a.Session}, kittest.SessionCookie + "=" + a.Session, "invalid_token"},
		{"two headers", []string{"Bearer " + a.Session, "Bearer " + a.Session}, "", "invalid_token"},
		{"two headers, one of the project", []string{"Bearer " + project, "Bearer " + a.Session}, "", "invalid_token"},
		{"plain cookie name", nil, "DS=" + a.Session, "no_session"},
		{"cookie name in another case", nil, "__host-ds=" + a.Session, "no_session"},
		{"forged cookie beside a good one", nil, kittest.SessionCookie + "=" + a.Session + "x; " + kittest.SessionCookie + "=" + a.Session, aID},
		{"good cookie, then a forged one", nil, kittest.SessionCookie + "=" + a.Session + "; " + kittest.SessionCookie + "=" + b.Session + "x", aID},
		{"four empty cookies, then a good one", nil, strings.Repeat(kittest.SessionCookie+"=; ", 4) + kittest.SessionCookie + "=" + a.Session, aID},
		{"a quote", nil, kittest.SessionCookie + `="`, "invalid_token"},
		{"a quote before", nil, kittest.SessionCookie + `="` + a.Session + "x", "invalid_token"},
		{"a quote after", nil, kittest.SessionCookie + "=x" + a.Session + `"`, "invalid_token"},
		{"fifth cookie of that shape", nil, strings.Repeat(kittest.SessionCookie+"="+a.Session[:len(a.Session)-8]+"AAAAAAAA; ", 4) + kittest.SessionCookie + "=" + a.Session, "invalid_token"},
		{"fifth cookie, after junk", nil, strings.Repeat(kittest.SessionCookie+"=x; ", 4) + kittest.SessionCookie + "=" + a.Session, aID},
		{"two users", nil, kittest.SessionCookie + "=" + a.Session + "; " + kittest.SessionCookie + "=" + b.Session, "conflicting_cookies"},
		{"session of one, refresh of another", nil, kittest.SessionCookie + "=" + a.Session + "; " + kittest.RefreshCookie + "=" + b.Refresh, "conflicting_cookies"},
		{"good session, forged refresh token", nil, kittest.SessionCookie + "=" + a.Session + "; " + kittest.RefreshCookie + "=" + b.Refresh[:len(b.Refresh)-8] + "AAAAAAAA", aID},
		{"good session, session token as refresh cookie", nil, kittest.SessionCookie + "=" + a.Session + "; " + kittest.RefreshCookie + "=" + b.Session, aID},
		{"two refresh tokens of two users", nil, kittest.RefreshCookie + "=" + a.Refresh + "; " + kittest.RefreshCookie + "=" + b.Refresh, "conflicting_cookies"},
		{"refresh token as session cookie", nil, kittest.SessionCookie + "=" + a.Refresh, "invalid_token"},
		{"session token as refresh cookie", nil, kittest.RefreshCookie + "=" + a.Session, "no_session"},
		{"nothing", nil, "", "no_session"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := new(kittest.Spy)
			r := kittest.Get("/")
			r.Header["Authorization"] = tt.authorization
			if tt.cookie != "" {
				r.Header.Set("Cookie", tt.cookie)
			}
			res := kittest.Serve(k.RequireSession(next), r)
			if !strings.HasPrefix(tt.subject, "U") {
				kittest.RequireProblem(t, res, http.StatusUnauthorized, tt.subject)
				assert.NotEmpty(t, res.Header.Get("WWW-Authenticate"))
				assert.Zero(t, next.Calls)
				return
			}
			require.Equal(t, http.StatusOK, res.StatusCode)
			s, ok := descopehttp.SessionFromContext(next.Last().Context())
			require.True(t, ok)
			assert.Equal(t, tt.subject, s.Subject())
			assert.Empty(t, res.Cookies())
		})
	}
	assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
}

// Rule: cookies: all cookies that count name one user.
func TestConflictingCookiesAreDeleted(t *testing.T) {
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: "bob"})
	r := kittest.WithCookies(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session, k.Project.SignIn("bob").Refresh)
	cookies := kittest.CookiesOf(kittest.Serve(k.RequireSession(new(kittest.Spy)), r))
	for _, name := range []string{kittest.SessionCookie, kittest.RefreshCookie} {
		require.Contains(t, cookies, name)
		assert.Negative(t, cookies[name].MaxAge)
	}
	assert.Empty(t, kittest.Serve(k.LoadSession(new(kittest.Spy)), r).Cookies(), "LoadSession deletes nothing")
}

// An expired session token opens nothing, but it still says whose browser this
// is: a refresh token that somebody planted beside it must not sign the owner in
// as somebody else.
//
// Rule: cookies: against a planted cookie that turns one user into another: all cookies that
// count must name one user.
// Rule: cookies: an expired session names its user.
func TestExpiredSessionStillNamesItsUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: "mallory"})
		session := k.Project.SignIn(kittest.Ada).Session
		kittest.Elapse(kittest.Past)
		require.NoError(t, k.Ready(t.Context()))
		res := kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), session, k.Project.SignIn("mallory").Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
	})
}

// A cookie that a neighbour's project left under the same name must not strand
// the owner of the refresh token.
//
// Rule: cookies: against a planted cookie that locks the owner out: cookies that fail the
// checks are ignored.
func TestUnusableSessionCookieIsRenewed(t *testing.T) {
	h := kittest.NewHostile(t)
	tokens := h.Project.SignIn(kittest.Ada)
	for name, session := range map[string]string{
		"none":             "",
		"garbage":          "garbage",
		"another project":  h.With(map[string]any{"iss": "P2otherotherotherotherotherother", "sub": "U2x"}),
		"forged, of other": h.With(map[string]any{"sub": "U2x"}) + "x",
		"expired":          h.With(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"unknown key":      h.Header(`{"alg":"RS256","kid":"SKinvented"}`),
		"a refresh token":  tokens.Refresh,
	} {
		next := new(kittest.Spy)
		res := kittest.Serve(h.RequireSession(next), kittest.WithCookies(kittest.Get("/"), session, tokens.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode, name)
		assert.Equal(t, 1, next.Calls, name)
		assert.Contains(t, kittest.CookiesOf(res), kittest.SessionCookie, name)
	}
}

// The handler behind a renewal runs once, after the new cookies were set, and
// sees the new session token and no refresh token.
//
// Rule: cookies: against a cache that keeps an answer with cookies: `no-store` that no handler
// can take away, and `Vary`.
// Rule: cookies: answers with cookies are not cached.
func TestRenewalBeforeNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = true })
		tokens := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)

		var seen *http.Request
		var set []string
		h := k.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen, set = r, w.Header().Values("Set-Cookie")
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			http.Error(w, "gone", http.StatusNotFound) // http.Error drops Cache-Control
		}))
		r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
		r.Header.Set("Cookie", "a=1; "+r.Header.Get("Cookie")+"; b=2")
		before := r.Header.Get("Cookie")
		res := kittest.Serve(h, r)

		require.Equal(t, http.StatusNotFound, res.StatusCode)
		assert.Len(t, set, 2)
		cookies := kittest.CookiesOf(res)
		session, refresh := cookies[kittest.SessionCookie], cookies[kittest.RefreshCookie]
		require.NotNil(t, session)
		require.NotNil(t, refresh)
		assert.NotEqual(t, tokens.Session, session.Value)
		assert.NotEqual(t, tokens.Refresh, refresh.Value)
		assert.Equal(t, session.MaxAge, refresh.MaxAge)
		assert.Equal(t, int((28*24*time.Hour-kittest.Past)/time.Second), session.MaxAge, "as long as the refresh token")
		for _, c := range cookies {
			assert.True(t, c.HttpOnly)
			assert.True(t, c.Secure)
			assert.Equal(t, "/", c.Path)
			assert.Empty(t, c.Domain)
			assert.Equal(t, http.SameSiteLaxMode, c.SameSite)
		}
		requireUncached(t, res)
		assert.Contains(t, res.Header.Values("Vary"), "Cookie, Authorization")

		assert.Equal(t, "a=1; b=2; "+kittest.SessionCookie+"="+session.Value, seen.Header.Get("Cookie"))
		assert.Equal(t, before, r.Header.Get("Cookie"), "the caller's request is left as it was")
		s, ok := descopehttp.SessionFromContext(seen.Context())
		require.True(t, ok)
		assert.Equal(t, session.Value, s.Token())
	})
}

func TestHundredAtOnceRefreshOnce(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			tokens := k.Project.SignIn(kittest.Ada)
			kittest.Elapse(kittest.Past)
			require.NoError(t, k.Ready(t.Context()))
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 100 * time.Millisecond})
			next := new(kittest.Spy)
			h := k.RequireSession(next)
			values := make(chan string, 100)
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					res := kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
					assert.Equal(t, http.StatusOK, res.StatusCode)
					values <- kittest.CookiesOf(res)[kittest.SessionCookie].Value
				})
			}
			wg.Wait()
			close(values)
			distinct := make(map[string]bool)
			for v := range values {
				distinct[v] = true
			}
			assert.Len(t, distinct, 1)
			assert.Equal(t, 100, next.Calls)
			assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		})
	}
}

// The client that began a refresh may hang up; the others still get the result.
func TestRefreshOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = true })
		tokens := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 2 * time.Second})
		h := k.RequireSession(new(kittest.Spy))
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
				want := http.StatusOK
				if i == 0 {
					ctx, cancel := context.WithTimeout(r.Context(), time.Second)
					defer cancel()
					r, want = r.WithContext(ctx), http.StatusServiceUnavailable
				} else {
					kittest.Elapse(time.Millisecond)
				}
				assert.Equal(t, want, kittest.Serve(h, r).StatusCode)
			})
		}
		wg.Wait()
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

func TestNestedMiddlewareRefreshesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = true })
		for name, wrap := range map[string]func(http.Handler) http.Handler{
			"Require in RequireSession": func(h http.Handler) http.Handler { return k.RequireSession(k.Require()(h)) },
			"Require in LoadSession":    func(h http.Handler) http.Handler { return k.LoadSession(k.Require()(h)) },
			"LoadSession in Require":    func(h http.Handler) http.Handler { return k.Require()(k.LoadSession(h)) },
			"three deep":                func(h http.Handler) http.Handler { return k.RequireSession(k.RequireSession(k.RequireSession(h))) },
		} {
			tokens := k.Project.SignIn(kittest.Ada)
			kittest.Elapse(kittest.Past)
			before := k.Project.Requests(kittest.RefreshPath)
			next := new(kittest.Spy)
			res := kittest.Serve(wrap(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
			require.Equal(t, http.StatusOK, res.StatusCode, name)
			assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath)-before, name)
			s, ok := descopehttp.SessionFromContext(next.Last().Context())
			require.True(t, ok, name)
			assert.Equal(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value, s.Token(), "%s: the inner one sees the new session", name)
			assert.Len(t, res.Cookies(), 2, name)
		}
	})
}

// What a handler or another middleware put into the context can be read, and
// opens nothing.
//
// Rule: cookies: against middleware in the wrong order, nested, or with somebody else's
// context: every middleware authenticates by itself.
// Rule: guards: a session of another Auth or of a test opens nothing.
func TestSessionsOfOthersOpenNothing(t *testing.T) {
	k, other := kittest.New(t), kittest.New(t)
	made, err := descopehttp.NewSession(map[string]any{"sub": "U2made", "roles": []string{"admin"}})
	require.NoError(t, err)
	r := kittest.Get("/")
	r = r.WithContext(descopehttp.ContextWithSession(r.Context(), made))
	s, ok := descopehttp.SessionFromContext(r.Context())
	require.True(t, ok)
	assert.Equal(t, "U2made", s.Subject())
	next := new(kittest.Spy)
	kittest.RequireProblem(t, kittest.Serve(k.RequireSession(next), r), http.StatusUnauthorized, "no_session")

	// A session of another Auth, even of the same project, is not ours either:
	// it may be configured to accept more.
	outer := other.RequireSession(k.RequireSession(next))
	kittest.RequireProblem(t, kittest.Serve(outer, kittest.WithCookies(kittest.Get("/"), other.Project.SignIn(kittest.Ada).Session, "")), http.StatusUnauthorized, "invalid_token")
	assert.Zero(t, next.Calls)
}

// Rule: guards: every guard must agree.
func TestGuards(t *testing.T) {
	k := kittest.New(t)
	token := k.Project.SignIn(kittest.Ada).Session
	allow := func(*http.Request, *descopehttp.Session) error { return nil }
	deny := func(*http.Request, *descopehttp.Session) error { return errors.New("secret reason") }
	forbid := func(*http.Request, *descopehttp.Session) error { return descopehttp.ErrForbidden }
	next := new(kittest.Spy)
	assert.Equal(t, http.StatusOK, kittest.Serve(k.Require(allow, allow)(next), kittest.WithBearer(kittest.Get("/"), token)).StatusCode)
	for _, guards := range [][]descopehttp.Guard{{deny}, {allow, deny}, {forbid, allow}} {
		p := kittest.RequireProblem(t, kittest.Serve(k.Require(guards...)(next), kittest.WithBearer(kittest.Get("/"), token)), http.StatusForbidden, "forbidden")
		assert.NotContains(t, p.Detail, "secret")
		// An outer middleware does not open what a guard closes.
		kittest.RequireProblem(t, kittest.Serve(k.RequireSession(k.Require(guards...)(next)), kittest.WithBearer(kittest.Get("/"), token)), http.StatusForbidden, "forbidden")
	}
	kittest.RequireProblem(t, kittest.Serve(k.Require(allow)(next), kittest.Get("/")), http.StatusUnauthorized, "no_session")
	assert.Equal(t, 1, next.Calls)
}

// Rule: cookies: against a request that another site's page sends with this user's cookies:
// `http.CrossOriginProtection` before anything else, for every flow and every unsafe method.
// Rule: cookies: against a WebSocket that another site's page opens: an upgrade is judged as if
// it were a POST.
// Rule: cookies: cross-origin requests with cookies: 403; upgrades as if POST.
func TestCrossOrigin(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.TrustedOrigins = []string{"https://app.example"} })
	tokens := k.Project.SignIn(kittest.Ada)
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
		{"an offer beside a GET of another site", "GET", "cross-site", foreign, "h2c", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			request := func() *http.Request {
				r := httptest.NewRequest(tt.method, "http://example.com/", nil)
				r.Host = "example.com"
				for name, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Origin": tt.origin, "Upgrade": tt.upgrade, "Connection": "upgrade"} {
					if value != "" {
						r.Header.Set(name, value)
					}
				}
				return r
			}
			next := new(kittest.Spy)
			res := kittest.Serve(k.RequireSession(next), kittest.WithCookies(request(), tokens.Session, tokens.Refresh))
			if tt.ok {
				assert.Equal(t, http.StatusOK, res.StatusCode)
			} else {
				kittest.RequireProblem(t, res, http.StatusForbidden, "cross_origin")
				assert.Zero(t, next.Calls)
				assert.Empty(t, res.Cookies())
			}
			// A browser adds no Authorization header for another site.
			res = kittest.Serve(k.RequireSession(next), kittest.WithBearer(request(), tokens.Session))
			assert.Equal(t, http.StatusOK, res.StatusCode)
			// LoadSession goes on as if nobody were signed in.
			loaded := new(kittest.Spy)
			kittest.Serve(k.LoadSession(loaded), kittest.WithCookies(request(), tokens.Session, tokens.Refresh))
			require.Equal(t, 1, loaded.Calls)
			_, ok := descopehttp.SessionFromContext(loaded.Last().Context())
			assert.Equal(t, tt.ok, ok)
			if !tt.ok {
				assert.ErrorIs(t, descopehttp.SessionError(loaded.Last().Context()), descopehttp.ErrCrossOrigin)
			}
		})
	}
	assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
}

// A refused cross-origin request must not spend the refresh token either.
//
// Rule: cookies: against a request that another site's page sends with this user's cookies:
// `http.CrossOriginProtection` before anything else, for every flow and every unsafe method.
// Rule: cookies: cross-origin requests with cookies: 403; upgrades as if POST.
func TestCrossOriginRefreshesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		tokens := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)
		for _, h := range []http.Handler{k.RequireSession(new(kittest.Spy)), k.LoadSession(new(kittest.Spy))} {
			r := kittest.WithCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			assert.Empty(t, kittest.Serve(h, r).Cookies())
		}
		assert.Zero(t, k.Project.Requests(""))
	})
}

// Rule: cookies: an upgrade does not refresh.
func TestUpgradeStartsNoRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		tokens := k.Project.SignIn(kittest.Ada)
		r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
		r.Header.Set("Connection", "keep-alive, Upgrade")
		r.Header.Set("Upgrade", "websocket")
		h := k.RequireSession(new(kittest.Spy))
		assert.Equal(t, http.StatusOK, kittest.Serve(h, r).StatusCode)
		kittest.Elapse(kittest.Past)
		kittest.RequireProblem(t, kittest.Serve(h, r), http.StatusUnauthorized, "session_expired")
		// Over HTTP/2 it is a CONNECT (RFC 8441).
		kittest.RequireProblem(t, kittest.Serve(h, kittest.WithCookies(httptest.NewRequest(http.MethodConnect, "/", nil), tokens.Session, tokens.Refresh)), http.StatusUnauthorized, "session_expired")
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
		// Where the route says so, it does.
		res := kittest.Serve(k.RefreshUpgrades(h), r)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Contains(t, kittest.CookiesOf(res), kittest.SessionCookie)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// A session that is about to end and cannot be renewed serves to its end.
func TestLastMomentsWithoutARefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		session := k.Project.SignIn(kittest.Ada).Session
		kittest.Elapse(10*time.Minute - 2*time.Second)
		for _, refresh := range []string{"", "a.b.c"} {
			for range 2 {
				res := kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), session, refresh))
				assert.Equal(t, http.StatusOK, res.StatusCode, "refresh cookie %q", refresh)
				assert.Empty(t, res.Cookies())
			}
		}
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
	})
}

func TestLoadSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		tokens := k.Project.SignIn(kittest.Ada)
		next := new(kittest.Spy)
		h := k.LoadSession(next)
		load := func(r *http.Request) (*http.Response, bool, error) {
			res := kittest.Serve(h, r)
			ctx := next.Last().Context()
			_, ok := descopehttp.SessionFromContext(ctx)
			return res, ok, descopehttp.SessionError(ctx)
		}
		_, ok, err := load(kittest.Get("/"))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrNoSession)
		_, ok, err = load(kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
		assert.True(t, ok)
		assert.NoError(t, err)
		_, ok, err = load(kittest.WithBearer(kittest.Get("/"), tokens.Session+"x"))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrInvalidToken)

		kittest.Elapse(kittest.Past)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Minute, Times: 2})
		began := time.Now()
		res, ok, err := load(kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrUnavailable)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
		assert.Equal(t, time.Second, time.Since(began), "a page that can do without does not wait long")
		calls := next.Calls
		res = kittest.Serve(h, kittest.WithCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh))
		kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, calls, next.Calls)

		require.NoError(t, k.Wait(t.Context()))
		k.Project.Reset()
		kittest.Elapse(time.Minute)
		res, ok, err = load(kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
		assert.True(t, ok)
		assert.NoError(t, err)
		assert.Contains(t, kittest.CookiesOf(res), kittest.SessionCookie)

		k.Project.LogOut(kittest.Ada)
		kittest.Elapse(kittest.Past)
		res, ok, err = load(kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
		assert.False(t, ok)
		assert.ErrorIs(t, err, descopehttp.ErrSessionEnded)
		assert.Empty(t, res.Cookies(), "LoadSession deletes nothing")
	})
}

// Rule: answers: against an answer of a proxy in between (HTML, a redirect, a huge body, one
// that never ends): "Cannot tell"; bounded in size and time, no redirects, never repeated.
func TestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  descopetest.Fault
		status int
		code   string
	}{
		"E061005":       {descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`}, 401, "refresh_refused"},
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
				k := kittest.New(t)
				tokens := k.Project.SignIn(kittest.Ada)
				kittest.Elapse(kittest.Past)
				require.NoError(t, k.Ready(t.Context()))
				k.Project.Fail(kittest.RefreshPath, tt.fault)
				next := new(kittest.Spy)
				h := k.RequireSession(next)
				began := time.Now()
				res := kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
				kittest.RequireProblem(t, res, tt.status, tt.code)
				assert.LessOrEqual(t, time.Since(began), 5*time.Second)
				if tt.code != "session_ended" {
					assert.Empty(t, res.Cookies(), "cookies are kept")
				}
				assert.Zero(t, next.Calls)
				assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath), "never repeated")
				if tt.status == http.StatusServiceUnavailable {
					assert.NotEmpty(t, res.Header.Get("Retry-After"))
				}
				require.NoError(t, k.Wait(t.Context()))

				if tt.code != "session_ended" { // mended, everybody is in again
					kittest.Elapse(time.Minute)
					assert.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)).StatusCode)
				}
			})
		})
	}
}

// A refresh token whose own time has passed can never work again.
func TestExpiredRefreshTokenIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.RefreshTTL = time.Hour })
		tokens := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(2 * time.Hour)
		r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
		res := kittest.Serve(k.RequireSession(new(kittest.Spy)), r)
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_expired")
		cookies := kittest.CookiesOf(res)
		assert.Negative(t, cookies[kittest.SessionCookie].MaxAge)
		assert.Negative(t, cookies[kittest.RefreshCookie].MaxAge)
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
		assert.Empty(t, kittest.Serve(k.LoadSession(new(kittest.Spy)), r).Cookies())

		// With nothing else it is what there is to say, and beside a session cookie
		// that is none, that is.
		kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", tokens.Refresh)), http.StatusUnauthorized, "session_expired")
		kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "a.b.c", tokens.Refresh)), http.StatusUnauthorized, "invalid_token")
		kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", "a.b.c")), http.StatusUnauthorized, "no_session")
	})
}

// A session cookie that has expired and was signed by nobody names nobody: it must
// not sign the owner of the refresh token out.
func TestForgedExpiredSessionNamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: "mallory"})
		session := k.Project.SignIn("mallory").Session
		forged := session[:len(session)-8] + "AAAAAAAA"
		kittest.Elapse(kittest.Past)
		res := kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), forged, k.Project.SignIn(kittest.Ada).Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		res = kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), session, k.Project.SignIn(kittest.Ada).Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
	})
}

// Refresh tokens live for weeks, keys for days: one that has left the key set
// does not speak against a refresh token, but a bad signature does.
//
// Rule: keys: against refresh tokens of invented kids, to have Descope asked for each: retired
// keys as a filter, 5 calls a second for the rest once keys are held, and for renewals and
// logouts always; tokens that Descope took before are exempt.
// Rule: keys: retired keys refuse bad signatures, bounded.
func TestRefreshTokenOfAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.KeysKept, s.KeyEndsRefresh = 1, false })
		tokens := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)
		h := k.RequireSession(new(kittest.Spy))

		require.NoError(t, k.Ready(t.Context()))
		forged := tokens.Refresh[:len(tokens.Refresh)-8] + "AAAAAAAA"
		kittest.RequireProblem(t, kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), "", forged)), http.StatusUnauthorized, "no_session")
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))

		k.Project.RotateKeys() // the old key is retired once the new set is seen
		kittest.Elapse(2 * time.Hour)
		require.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session)).StatusCode)
		kittest.RequireProblem(t, kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), "", forged)), http.StatusUnauthorized, "no_session")
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
		assert.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), "", tokens.Refresh)).StatusCode)

		// Another replica never held that key. Descope is asked.
		other := kittest.For(t, k.Project)
		require.NoError(t, other.Ready(t.Context()))
		before := k.Project.Requests(kittest.RefreshPath)
		assert.Equal(t, http.StatusOK, kittest.Serve(other.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", tokens.Refresh)).StatusCode)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath)-before)
	})
}

func TestTransportThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		tokens := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)
		a := kittest.For(t, k.Project, func(c *descopehttp.Config) {
			inner := c.HTTPClient.Transport
			c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == kittest.RefreshPath {
					panic("secret " + r.Header.Get("Authorization"))
				}
				return inner.RoundTrip(r)
			})}
		})
		res := kittest.Serve(a.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
		kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.NotContains(t, a.Logs.String(), "secret")
	})
}

// LoadSession waits a second at the most, for a Bearer too.
func TestLoadSessionWithABearerAndSlowKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		tokens := k.Project.SignIn(kittest.Ada)
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Delay: time.Hour, Times: -1})
		next := new(kittest.Spy)
		began := time.Now()
		kittest.Serve(k.LoadSession(next), kittest.WithBearer(kittest.Get("/"), tokens.Session))
		assert.Equal(t, kittest.LoadBudget, time.Since(began))
		assert.Equal(t, 1, next.Calls)
		require.NoError(t, k.Wait(t.Context()))
	})
}

// The answer to a refresh must be about the user who refreshed.
//
// Rule: answers: against an answer with tokens of another user, of another project, or expired:
// tokens are verified before they are handed on, and must be the same user's.
// Rule: renewing: the tokens of an answer pass all checks, and are those of the user who
// refreshed.
func TestAnswerAboutAnotherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: "bob"})
		tokens, other := k.Project.SignIn(kittest.Ada), k.Project.SignIn("bob")
		kittest.Elapse(kittest.Past)
		fresh := k.Project.SignIn("bob")
		next := new(kittest.Spy)
		for _, body := range []string{
			`{"sessionJwt":"` + fresh.Session + `","refreshJwt":""}`,
			`{"sessionJwt":"` + fresh.Session + `","refreshJwt":"` + other.Refresh + `"}`,
			`{"sessionJwt":"` + k.Project.SignIn(kittest.Ada).Session + `","refreshJwt":"` + other.Refresh + `"}`,
		} {
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 200, Body: body})
			res := kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "other_user")
			assert.Empty(t, res.Cookies())
		}
		assert.Zero(t, next.Calls)
		assert.Equal(t, 3, k.Project.Requests(kittest.RefreshPath), "none of them is kept")
		assert.Contains(t, k.Logs.String(), "another user")
		assert.Equal(t, http.StatusOK, kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)).StatusCode)
	})
}

// Whatever Descope answers passes the same checks as what a client presents.
//
// Rule: answers: against an answer with tokens of another user, of another project, or expired:
// tokens are verified before they are handed on, and must be the same user's.
// Rule: renewing: the tokens of an answer pass all checks, and are those of the user who
// refreshed.
func TestAnswersAreVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		tokens := h.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)
		for name, body := range map[string]string{
			"expired session":          `{"sessionJwt":"` + tokens.Session + `"}`,
			"refresh token as session": `{"sessionJwt":"` + tokens.Refresh + `"}`,
			"session as refresh token": `{"sessionJwt":"` + h.With(nil) + `","refreshJwt":"` + h.With(nil) + `"}`,
			"forged session":           `{"sessionJwt":"` + h.With(nil) + `x"}`,
			"no session":               `{"sessionJwt":"","refreshJwt":"` + tokens.Refresh + `"}`,
			"wrong type":               `{"sessionJwt":7}`,
			"an array":                 `[]`,
		} {
			h.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 200, Body: body})
			res := kittest.Serve(h.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
			kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.Empty(t, res.Cookies(), name)
			kittest.Elapse(time.Minute) // else the next is answered from memory
		}
	})
}

// What is not renewed is passed on as it came.
func TestValidRequestIsLeftAsItIs(t *testing.T) {
	k := kittest.New(t)
	tokens := k.Project.SignIn(kittest.Ada)
	for range 2 {
		r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
		r.Header.Set("Cookie", "a=1;"+r.Header.Get("Cookie")+";;b=2")
		header := r.Header.Clone()
		next := new(kittest.Spy)
		require.Equal(t, http.StatusOK, kittest.Serve(k.RequireSession(next), r).StatusCode)
		assert.Equal(t, header, next.Last().Header)
	}
}

// Authenticate gives a session or an error, never both and never neither, and writes
// no answer.
func TestAuthenticate(t *testing.T) {
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: "bob"})
	tokens, bobs := k.Project.SignIn(kittest.Ada), k.Project.SignIn("bob")
	crossSite := kittest.WithCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh)
	crossSite.Header.Set("Sec-Fetch-Site", "cross-site")
	for _, tt := range []struct {
		r    *http.Request
		want error
	}{
		{kittest.Get("/"), descopehttp.ErrNoSession},
		{kittest.WithBearer(kittest.Get("/"), tokens.Refresh), descopehttp.ErrInvalidToken},
		{kittest.WithCookies(kittest.Get("/"), "a.b.c", ""), descopehttp.ErrInvalidToken},
		{kittest.WithCookies(kittest.Get("/"), tokens.Session, bobs.Refresh), descopehttp.ErrInvalidToken},
		{crossSite, descopehttp.ErrCrossOrigin},
		{kittest.WithBearer(kittest.Get("/"), tokens.Session), nil},
		{kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh), nil},
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
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			got = err
			w.WriteHeader(http.StatusTeapot)
		}
	})
	next := new(kittest.Spy)
	res := kittest.Serve(k.RequireSession(next), kittest.Get("/"))
	assert.Equal(t, http.StatusTeapot, res.StatusCode)
	assert.ErrorIs(t, got, descopehttp.ErrNoSession)
	assert.Zero(t, next.Calls)
	assert.Empty(t, res.Header.Get("Retry-After"))
	k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
	res = kittest.Serve(k.RequireSession(next), kittest.WithBearer(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session))
	assert.ErrorIs(t, got, descopehttp.ErrUnavailable)
	assert.NotEmpty(t, res.Header.Get("Retry-After"), "is there already")
	res = kittest.Serve(k.Handler(), kittest.Get(kittest.MePath))
	kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_refresh_token")
}

// Rule: guards: an error that is none of ours is a bare 500.
func TestWriteErrorOfSomethingElse(t *testing.T) {
	k := kittest.New(t)
	w := httptest.NewRecorder()
	k.WriteError(w, kittest.Get("/"), errors.New("secret"))
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	assert.NotContains(t, string(body), "secret")
	w = httptest.NewRecorder()
	k.WriteError(w, kittest.Get("/"), errors.New("secret"))
	kittest.RequireProblem(t, w.Result(), http.StatusInternalServerError, "internal")
}

// With InBody, cookies are neither read nor written.
//
// Rule: cookies: InBody reads no cookies.
func TestInBodyIgnoresCookies(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody })
	tokens := k.Project.SignIn(kittest.Ada)
	r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
	r.Header.Set("Cookie", r.Header.Get("Cookie")+"; DS="+tokens.Session+"; DSR="+tokens.Refresh+"; ="+tokens.Session)
	kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), r), http.StatusUnauthorized, "no_session")
	res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Get(kittest.MePath), "", tokens.Refresh))
	kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_refresh_token")
	assert.Equal(t, http.StatusOK, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), tokens.Session)).StatusCode)
	// So no origin is judged either.
	r = kittest.WithCookies(httptest.NewRequest(http.MethodPost, "/", nil), tokens.Session, tokens.Refresh)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), r), http.StatusUnauthorized, "no_session")
}

// With SessionInBody a session cookie is no credential, but the refresh cookie
// still signs a page navigation in.
func TestSessionInBody(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Tokens = descopehttp.SessionInBody })
	tokens := k.Project.SignIn(kittest.Ada)
	kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), tokens.Session, "")), http.StatusUnauthorized, "no_session")
	nameless := kittest.Get("/")
	nameless.Header.Set("Cookie", "="+tokens.Session)
	kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), nameless), http.StatusUnauthorized, "no_session")
	res := kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", tokens.Refresh))
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.NotContains(t, kittest.CookiesOf(res), kittest.SessionCookie)
}

// Nor can one by itself turn the browser of an expired session into another's, even
// if it is genuine; and two of two users are nobody's, in whatever order they come.
//
// Rule: cookies: against a planted cookie that turns one user into another: all cookies that
// count must name one user.
// Rule: cookies: what cannot be verified does not speak against what can.
func TestPlantedRefreshTokensOfUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := kittest.New(t).Project
		srv.Configure(func(s *descopetest.Settings) { s.KeysKept, s.KeyEndsRefresh = 1, false })
		srv.AddUser(descopetest.User{LoginID: "mallory"})
		own, planted := srv.SignIn(kittest.Ada).Refresh, srv.SignIn("mallory").Refresh
		srv.RotateKeys()
		session := srv.SignIn(kittest.Ada).Session
		k := kittest.For(t, srv) // has never held the key of the refresh tokens
		require.NoError(t, k.Ready(t.Context()))
		kittest.Elapse(kittest.Past)
		present := func(session string, refreshes ...string) (*http.Response, *kittest.Spy) {
			var pairs []string
			if session != "" {
				pairs = append(pairs, kittest.SessionCookie+"="+session)
			}
			for _, refresh := range refreshes {
				pairs = append(pairs, kittest.RefreshCookie+"="+refresh)
			}
			r := kittest.Get("/")
			r.Header.Set("Cookie", strings.Join(pairs, "; "))
			next := new(kittest.Spy)
			return kittest.Serve(k.RequireSession(next), r), next
		}
		res, _ := present(session, planted)
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_expired")
		for _, pair := range [][]string{{planted, own}, {own, planted}, {own, own, planted}} {
			res, _ := present("", pair...)
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		}
		require.Zero(t, srv.Requests(kittest.RefreshPath))
		for _, pair := range [][]string{{planted, own}, {own, planted}} {
			kittest.Elapse(time.Second)
			res, next := present(session, pair...)
			require.Equal(t, http.StatusOK, res.StatusCode)
			s, ok := descopehttp.SessionFromContext(next.Last().Context())
			require.True(t, ok)
			require.Equal(t, srv.SessionClaims(kittest.Ada)["sub"], s.Subject())
		}
	})
}

// A planted refresh token that cannot be verified here, because its key was never
// held, counts for nothing beside one that can: neither does it turn the cookies
// into those of two users, nor is it spent in place of the owner's.
//
// Rule: cookies: against a planted cookie that turns one user into another: all cookies that
// count must name one user.
// Rule: cookies: what cannot be verified does not speak against what can.
func TestPlantedRefreshTokenOfUnknownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		tokens := h.Project.SignIn(kittest.Ada)
		subject := kittest.SubjectOf(t, h.Kit, tokens.Session)
		kittest.Elapse(kittest.Past)
		for _, sub := range []string{subject, "U2mallory"} {
			planted := kittest.SignRaw(t, h.RSA, `{"alg":"RS256","kid":"SKinvented"}`, kittest.ClaimsJSON(t, h.Claims(map[string]any{
				"drn": "DSR", "sub": sub, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})))
			for _, order := range []string{planted + "; " + kittest.RefreshCookie + "=" + tokens.Refresh, tokens.Refresh + "; " + kittest.RefreshCookie + "=" + planted} {
				r := kittest.Get("/")
				r.Header.Set("Cookie", kittest.SessionCookie+"="+tokens.Session+"; "+kittest.RefreshCookie+"="+order)
				assert.Equal(t, http.StatusOK, kittest.Serve(h.RequireSession(new(kittest.Spy)), r).StatusCode)
			}
		}
	})
}

// An answer that depends on a cookie says so, over real HTTP: what a browser or a proxy
// keeps of one user must not be shown to the next, nor a refusal to who has signed in.
//
// Rule: cookies: against a page of one user that a browser or a proxy shows to the next: `Vary:
// Cookie, Authorization` and `private` on all that was judged.
// Rule: cookies: against a cache that keeps an answer with cookies: `no-store` that no handler
// can take away, and `Vary`.
func TestAnswersSayThatTheyDependOnTheUser(t *testing.T) {
	files := http.FileServerFS(fstest.MapFS{"statement": {Data: []byte("ada's"), ModTime: time.Now().Add(-24 * time.Hour)}})
	shared := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Set("CDN-Cache-Control", "max-age=60")
		w.Header().Del("Surrogate-Control")
		w.Header().Del("Vary")
	})
	refuse := func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusTeapot) }
	k := kittest.New(t)
	custom := kittest.For(t, k.Project, func(c *descopehttp.Config) { c.ErrorHandler = refuse })
	native := kittest.For(t, k.Project, func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody })
	varies := func(by string, h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Vary", by)
			h.ServeHTTP(w, r)
		})
	}
	decided := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := k.Authenticate(w, r); err != nil {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	shareThen := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shared(w, r)
			h.ServeHTTP(w, r)
		})
	}
	const both = "Cookie, Authorization"
	session := k.Project.SignIn(kittest.Ada).Session
	dead := kittest.Expired(k.Project, kittest.Ada, "DSR")
	for _, tt := range []struct {
		name, cookie, bearer string
		h                    http.Handler
		status               int
		vary, cache          []string
	}{
		{"signed in", "__Host-DS=" + session, "", k.RequireSession(files), 200, []string{both}, []string{"private"}},
		{"bearer", "", session, k.RequireSession(files), 200, []string{both}, []string{"private"}},
		{"refused", "", "", k.RequireSession(files), 401, []string{both}, []string{"no-store"}},
		{"refused by a guard", "", session, k.Require(descopehttp.Role("none"))(files), 403, []string{both}, []string{"no-store"}},
		{"refused by an ErrorHandler", "", "", custom.RequireSession(files), 418, []string{both}, []string{"no-store"}},
		{"anonymous", "", "", k.LoadSession(files), 200, []string{both}, []string{"private"}},
		{"greeted", "__Host-DS=" + session, "", k.LoadSession(files), 200, []string{both}, []string{"private"}},
		{"a cookie that is no token", "__Host-DS=junk", "", k.LoadSession(files), 200, []string{both}, []string{"private"}},
		{"a header that is no token", "__Host-DS=" + session, "junk", k.RequireSession(files), 401, []string{both}, []string{"no-store"}},
		{"a dead session", "__Host-DSR=" + dead, "", k.LoadSession(files), 200, []string{both}, []string{"private"}},
		{"nested", "__Host-DS=" + session, "", k.LoadSession(k.RequireSession(files)), 200, []string{both}, []string{"private"}},
		{"after an outer word", "__Host-DS=" + session, "", shareThen(k.RequireSession(files)), 200, []string{both}, []string{"public, max-age=60"}},
		{"nested, after the handler's word", "__Host-DS=" + session, "", k.LoadSession(shareThen(k.RequireSession(files))), 200, nil, []string{"public, max-age=60"}},
		{"Authenticate, after the handler's word", "__Host-DS=" + session, "", k.LoadSession(shareThen(decided)), 200, nil, []string{"public, max-age=60"}},
		{"beside others", "", session, varies("Accept-Encoding", k.RequireSession(files)), 200, []string{"Accept-Encoding", both}, []string{"private"}},
		{"Authenticate", "", session, decided, 200, []string{both}, []string{"private"}},
		{"Authenticate, nobody", "", "", decided, 418, []string{both}, []string{"private"}},
		{"in the body", "", session, native.RequireSession(files), 200, []string{"Authorization"}, []string{"private"}},
		{"the handler's word", "__Host-DS=" + session, "", k.RequireSession(shared), 200, nil, []string{"public, max-age=60"}},
		{"everything is different anyway", "__Host-DS=" + session, "", varies("*", k.RequireSession(files)), 200, []string{"*", both}, []string{"private"}},
		{"renewed, whatever the handler says", "__Host-DSR=" + k.Project.SignIn(kittest.Ada).Refresh, "", k.RequireSession(shared), 200, nil, []string{"public, max-age=60", "no-store"}},
		{"a dead session in an ErrorHandler", "__Host-DSR=" + dead, "", custom.RequireSession(files), 418, []string{both}, []string{"no-store", "no-store"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(tt.h)
			defer srv.Close()
			r, err := http.NewRequest(http.MethodGet, srv.URL+"/statement", nil)
			require.NoError(t, err)
			if tt.cookie != "" {
				r.Header.Set("Cookie", tt.cookie)
			}
			if tt.bearer != "" {
				kittest.WithBearer(r, tt.bearer)
			}
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			defer res.Body.Close()
			assert.Equal(t, tt.status, res.StatusCode)
			assert.Equal(t, tt.vary, res.Header["Vary"])
			assert.ElementsMatch(t, tt.cache, res.Header["Cache-Control"])
			if slices.Contains(tt.cache, "no-store") && tt.status == http.StatusOK || len(tt.cache) > 1 {
				assert.Contains(t, res.Header["Cdn-Cache-Control"], "no-store")
				assert.Contains(t, res.Header["Surrogate-Control"], "no-store")
			}
		})
	}
}

// Nor does a cache keep what was refused while Descope was away, or a session that is handed
// out without cookies because the browser has newer ones; over HTTP/2, too.
//
// Rule: cookies: against a cache that keeps an answer with cookies: `no-store` that no handler
// can take away, and `Vary`.
func TestLateAndUnknownAnswersAreNotCached(t *testing.T) {
	k := kittest.New(t)
	k.Project.Configure(kittest.Rotating)
	srv := httptest.NewUnstartedServer(k.LoadSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, s-maxage=60")
		_, ok := descopehttp.SessionFromContext(r.Context())
		fmt.Fprint(w, ok)
	})))
	srv.EnableHTTP2 = true // where names are in lower case
	srv.StartTLS()
	defer srv.Close()
	ask := func(method, cookie string) *http.Response {
		r, err := http.NewRequest(method, srv.URL, nil)
		require.NoError(t, err)
		r.Header.Set("Cookie", cookie)
		res, err := srv.Client().Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		assert.Equal(t, 2, res.ProtoMajor)
		assert.Equal(t, []string{"Cookie, Authorization"}, res.Header["Vary"])
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		if res.StatusCode == http.StatusOK {
			assert.Equal(t, "true", string(body))
		}
		return res
	}
	old := kittest.RefreshCookie + "=" + k.Project.SignIn(kittest.Ada).Refresh
	renewed := ask(http.MethodGet, old)
	require.Len(t, renewed.Cookies(), 2)
	ask(http.MethodGet, kittest.SessionCookie+"="+kittest.CookiesOf(renewed)[kittest.SessionCookie].Value)
	late := ask(http.MethodGet, old)
	assert.Empty(t, late.Cookies())
	for _, res := range []*http.Response{renewed, late} {
		assert.ElementsMatch(t, []string{"public, s-maxage=60", "no-store"}, res.Header["Cache-Control"])
		assert.Equal(t, []string{"no-store", "no-store"}, res.Header["Cdn-Cache-Control"])
	}

	k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 500, Times: -1})
	away := ask(http.MethodPost, kittest.RefreshCookie+"="+k.Project.SignIn(kittest.Ada).Refresh)
	assert.Equal(t, http.StatusServiceUnavailable, away.StatusCode)
	assert.Equal(t, []string{"no-store"}, away.Header["Cache-Control"])
}

// What a handler has read of a request is given back to whoever holds it from before: files
// of uploads are removed, also after a panic and after a refusal by a guard, and a logger
// outside finds the pattern. The session and its context stay inside.
func TestWhatWasReadIsGivenBack(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	k := kittest.New(t)
	read := func(r *http.Request) { assert.NoError(t, r.ParseMultipartForm(1)) }
	page := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { read(r) })
	byHand := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if parts, err := r.MultipartReader(); assert.NoError(t, err) {
			r.MultipartForm, err = parts.ReadForm(1)
			assert.NoError(t, err)
		}
	})
	panics := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { read(r); panic(http.ErrAbortHandler) })
	guard := func(r *http.Request, _ *descopehttp.Session) error { read(r); return descopehttp.ErrForbidden }
	for name, tt := range map[string]struct {
		h  http.Handler
		as bool // somebody
	}{
		"RequireSession":      {k.RequireSession(page), true},
		"LoadSession":         {k.LoadSession(page), true},
		"LoadSession, nobody": {k.LoadSession(page), false},
		"nested":              {k.LoadSession(k.RequireSession(page)), true},
		"Require in Require":  {k.Require()(k.Require()(page)), true},
		"RefreshUpgrades":     {k.RefreshUpgrades(k.RequireSession(page)), true},
		"read by hand":        {k.RequireSession(byHand), true},
		"panic":               {k.RequireSession(panics), true},
		"guard":               {k.Require(guard)(page), true},
	} {
		for _, outside := range []func(http.Handler) http.Handler{k.LoadSession, func(h http.Handler) http.Handler { return h }} {
			t.Run(name, func(t *testing.T) {
				mux := http.NewServeMux()
				mux.Handle("POST /upload/{id}", tt.h)
				seen := sendUpload(t, k, outside(mux), tt.as)
				assert.Equal(t, "POST /upload/{id}", seen.Pattern)
				require.NotNil(t, seen.MultipartForm)
				assert.Equal(t, []string{"hello"}, seen.MultipartForm.Value["note"])
				if name != "read by hand" {
					assert.Equal(t, "7", seen.Form.Get("n"))
					assert.Equal(t, "hello", seen.PostForm.Get("note"))
				}
				_, ok := descopehttp.SessionFromContext(seen.Context())
				assert.False(t, ok)
				left, err := filepath.Glob(filepath.Join(os.TempDir(), "multipart-*"))
				require.NoError(t, err)
				assert.Empty(t, left)
			})
		}
	}
}

// sendUpload sends a file over real HTTP, and returns the request as whoever is outside of
// the handler finds it then.
func sendUpload(t *testing.T, k *kittest.Kit, h http.Handler, signedIn bool) *http.Request {
	t.Helper()
	outside := make(chan *http.Request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover(); outside <- r }() // net/http itself cleans up after no panic
		h.ServeHTTP(w, r)
	}))
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	require.NoError(t, m.WriteField("note", "hello"))
	f, err := m.CreateFormFile("f", "photo.jpg")
	require.NoError(t, err)
	_, _ = f.Write(make([]byte, 11<<20))
	require.NoError(t, m.Close())
	r, err := http.NewRequest(http.MethodPost, srv.URL+"/upload/7?n=7", &body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", m.FormDataContentType())
	if signedIn {
		kittest.WithBearer(r, k.Project.SignIn(kittest.Ada).Session)
	}
	if res, err := http.DefaultClient.Do(r); err == nil {
		res.Body.Close()
	}
	srv.Close()
	return <-outside
}
