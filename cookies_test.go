package descopehttp_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// jarOf returns a cookie jar that holds what the answers set for app.example.com.
func jarOf(t testing.TB, answers ...[]*http.Cookie) (*cookiejar.Jar, *url.URL) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	u, err := url.Parse("https://app.example.com/some/page")
	require.NoError(t, err)
	for _, cookies := range answers {
		jar.SetCookies(u, cookies)
	}
	return jar, u
}

var cookieVariants = map[string]struct {
	edit             func(*descopehttp.Config)
	session, refresh string // names, "" where none is used
	domain           string
	insecure         bool
	sameSite         http.SameSite
}{
	"default":         {func(*descopehttp.Config) {}, "__Host-DS", "__Host-DSR", "", false, http.SameSiteLaxMode},
	"strict":          {func(c *descopehttp.Config) { c.Cookies.SameSite = http.SameSiteStrictMode }, "__Host-DS", "__Host-DSR", "", false, http.SameSiteStrictMode},
	"none":            {func(c *descopehttp.Config) { c.Cookies.SameSite = http.SameSiteNoneMode }, "__Host-DS", "__Host-DSR", "", false, http.SameSiteNoneMode},
	"default mode":    {func(c *descopehttp.Config) { c.Cookies.SameSite = http.SameSiteDefaultMode }, "__Host-DS", "__Host-DSR", "", false, http.SameSiteLaxMode},
	"plain names":     {func(c *descopehttp.Config) { c.Cookies.PlainNames = true }, "DS", "DSR", "", false, http.SameSiteLaxMode},
	"domain":          {func(c *descopehttp.Config) { c.Cookies.Domain = "example.com" }, "DS", "DSR", "example.com", false, http.SameSiteLaxMode},
	"leading dot":     {func(c *descopehttp.Config) { c.Cookies.Domain = ".example.com" }, "DS", "DSR", "example.com", false, http.SameSiteLaxMode},
	"insecure":        {func(c *descopehttp.Config) { c.Cookies.InsecureHTTP = true }, "DS", "DSR", "", true, http.SameSiteLaxMode},
	"session in body": {func(c *descopehttp.Config) { c.Tokens = descopehttp.SessionInBody }, "", "__Host-DSR", "", false, http.SameSiteLaxMode},
	"in body":         {func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody }, "", "", "", false, 0},
}

// What is set is scoped as configured, and what is deleted goes from a browser,
// whichever of the two scopes it was set for.
//
// Rule: cookies: against a subdomain that plants cookies: `__Host-` names by default.
// Rule: cookies: against cookies that outlive a sign-out: deleted in every scope in which they
// were set, by an earlier configuration too.
// Rule: cookies: cookies: __Host-, Secure, HttpOnly, Lax; deleted with and without Domain.
func TestCookieVariants(t *testing.T) {
	for name, tt := range cookieVariants {
		t.Run(name, func(t *testing.T) {
			k := kittest.New(t, tt.edit)
			res := kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada))
			require.Equal(t, http.StatusOK, res.StatusCode)
			set := kittest.CookiesOf(res)
			var names []string
			for _, name := range []string{tt.session, tt.refresh} {
				if name == "" {
					continue
				}
				names = append(names, name)
				require.Contains(t, set, name)
				c := set[name]
				assert.Equal(t, "/", c.Path)
				assert.Equal(t, tt.domain, c.Domain)
				assert.Equal(t, !tt.insecure, c.Secure)
				assert.True(t, c.HttpOnly)
				assert.Equal(t, tt.sameSite, c.SameSite)
				assert.InDelta(t, 28*24*time.Hour/time.Second, c.MaxAge, 2, "both as long as the refresh token")
			}
			plain := strings.HasPrefix(tt.refresh, "DS")
			if plain && !tt.insecure {
				names = append(names, "__Host-DSU")
			}
			assert.Len(t, set, len(names))

			// A browser that has them, and with a Domain also those from before it
			// was configured, and cookies that are not ours.
			var before []*http.Cookie
			for _, name := range names {
				if tt.domain != "" && name != "__Host-DSU" {
					before = append(before, &http.Cookie{Name: name, Value: "old", Path: "/"})
				}
			}
			jar, u := jarOf(t, before, res.Cookies(), []*http.Cookie{{Name: "theme", Value: "dark", Path: "/"}})
			r := kittest.Post(kittest.LogoutPath, "{}")
			for _, c := range jar.Cookies(u) {
				r.AddCookie(c)
			}
			res = kittest.Serve(k.Handler(), r)
			require.Equal(t, http.StatusOK, res.StatusCode)
			for _, c := range res.Cookies() {
				assert.Contains(t, names, c.Name)
				assert.Empty(t, c.Value)
				assert.Negative(t, c.MaxAge)
				assert.Equal(t, "/", c.Path)
				assert.Equal(t, !tt.insecure, c.Secure, "a browser ignores the deletion of a __Host- cookie without Secure")
			}
			if !tt.insecure {
				jar.SetCookies(u, res.Cookies())
				left := jar.Cookies(u)
				require.Len(t, left, 1)
				assert.Equal(t, "theme", left[0].Name)
			}
			want := len(names)
			switch {
			case plain && tt.insecure:
				want *= 2 // for the host alone and for its domain
			case plain:
				want += 2
			}
			assert.Len(t, res.Cookies(), want)
			if want > 0 {
				assert.Contains(t, res.Header.Values("Vary"), "Cookie, Authorization")
			}
		})
	}
}

// Every place that deletes cookies deletes them in all variants.
//
// Rule: cookies: against cookies that outlive a sign-out: deleted in every scope in which they
// were set, by an earlier configuration too.
func TestDeletionsByTheMiddleware(t *testing.T) {
	for name, tt := range cookieVariants {
		if tt.refresh == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, tt.edit)
				k.Project.AddUser(descopetest.User{LoginID: "bob"})
				k.Project.Configure(func(s *descopetest.Settings) { s.RefreshTTL = time.Hour })
				tokens, other := k.Project.SignIn(kittest.Ada), k.Project.SignIn("bob")
				cookies := func(r *http.Request, session string, refreshes ...string) *http.Request {
					var pairs []string
					if tt.session != "" && session != "" {
						pairs = append(pairs, tt.session+"="+session)
					}
					for _, refresh := range refreshes {
						pairs = append(pairs, tt.refresh+"="+refresh)
					}
					r.Header.Set("Cookie", strings.Join(pairs, "; "))
					return r
				}
				deleted := 1
				if tt.session != "" {
					deleted = 2
				}
				if strings.HasPrefix(tt.refresh, "DS") {
					deleted *= 2 // for the host alone and for its domain
					if !tt.insecure {
						deleted++ // the marker
					}
				}
				check := func(why string, res *http.Response) {
					t.Helper()
					assert.Equal(t, http.StatusUnauthorized, res.StatusCode, why)
					assert.Len(t, res.Cookies(), deleted, why)
					for _, c := range res.Cookies() {
						assert.Negative(t, c.MaxAge, why)
					}
				}
				h := k.RequireSession(new(kittest.Spy))
				require.NoError(t, k.Ready(t.Context()))
				check("conflict", kittest.Serve(h, cookies(kittest.Get("/"), tokens.Session, tokens.Refresh, other.Refresh)))
				check("conflict in a flow", kittest.Serve(k.Handler(), cookies(kittest.Get(kittest.MePath), tokens.Session, tokens.Refresh, other.Refresh)))
				kittest.Elapse(kittest.Past)
				k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`, Times: -1})
				assert.Empty(t, kittest.Serve(h, cookies(kittest.Get("/"), tokens.Session, tokens.Refresh)).Cookies(), "the first refusal")
				kittest.Elapse(11 * time.Second)
				check("refused twice", kittest.Serve(h, cookies(kittest.Get("/"), tokens.Session, tokens.Refresh)))
				check("refused twice, in a flow", kittest.Serve(k.Handler(), cookies(kittest.Post(kittest.RefreshPath, "{}"), tokens.Session, tokens.Refresh)))
				kittest.Elapse(time.Hour)
				check("expired", kittest.Serve(h, cookies(kittest.Get("/"), tokens.Session, tokens.Refresh)))
				check("expired, in a flow", kittest.Serve(k.Handler(), cookies(kittest.Get(kittest.MePath), tokens.Session, tokens.Refresh)))
			})
		})
	}
}

// A session token that no browser would store is not set: the old cookie is
// deleted, so that it does not stay in its place, and the refresh cookie renews
// the session as often as needed.
//
// Rule: cookies: a token over 4,096 bytes is not set.
func TestLargeSessionToken(t *testing.T) {
	for name, tt := range map[string]struct {
		size int // of name and value
		set  bool
	}{
		"at the limit": {4096, true},
		"beyond":       {4100, false},
		"far beyond":   {12_000, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				b := kittest.SignIn(k, kittest.Ada)
				// Make the token as long as asked for, to the byte where base64 allows.
				padding := 0
				k.Project.Configure(func(s *descopetest.Settings) {
					s.EditClaims = func(kind string, claims map[string]any) {
						if kind == "DS" {
							claims["pad"] = strings.Repeat("x", padding)
						}
					}
				})
				padding = (tt.size - len(kittest.SessionCookie) - len(k.Project.SignIn(kittest.Ada).Session)) * 3 / 4
				for len(kittest.SessionCookie)+len(k.Project.SignIn(kittest.Ada).Session) < tt.size-1 {
					padding++
				}
				kittest.Elapse(kittest.Past)
				res := b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
				require.Equal(t, http.StatusOK, res.StatusCode)
				c := kittest.CookiesOf(res)[kittest.SessionCookie]
				require.NotNil(t, c)
				if tt.set {
					assert.LessOrEqual(t, len(c.Name)+len(c.Value), 4096)
					assert.Greater(t, len(c.Name)+len(c.Value), 4092)
					assert.NotContains(t, k.Logs.String(), "too large")
					return
				}
				assert.Negative(t, c.MaxAge)
				assert.Empty(t, c.Value)
				assert.Contains(t, k.Logs.String(), "JWT template")
				assert.NotContains(t, k.Logs.String(), "xxxx")
				calls := k.Project.Requests(kittest.RefreshPath)
				for range 5 {
					assert.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
					kittest.Elapse(time.Second)
				}
				assert.Equal(t, calls, k.Project.Requests(kittest.RefreshPath), "not one refresh for each request")
				kittest.Elapse(kittest.Past)
				assert.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)

				res = kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada))
				require.Equal(t, http.StatusOK, res.StatusCode)
				assert.Negative(t, kittest.CookiesOf(res)[kittest.SessionCookie].MaxAge, "on a sign-in as well")
				assert.Positive(t, kittest.CookiesOf(res)[kittest.RefreshCookie].MaxAge)
			})
		})
	}
}

// A refresh cookie that somebody planted beside the owner's must not take its
// place: of two that claim the same user, the one that is genuine is used.
//
// Rule: cookies: against a planted cookie that turns one user into another: all cookies that
// count must name one user.
// Rule: cookies: what cannot be verified does not speak against what can.
func TestPlantedRefreshCookie(t *testing.T) {
	for _, first := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.Cookies.PlainNames = true })
			tokens := h.Project.SignIn(kittest.Ada)
			subject := kittest.SubjectOf(t, h.Kit, tokens.Session)
			kittest.Elapse(kittest.Past)
			require.NoError(t, h.Ready(t.Context()))
			planted := kittest.Segment(`{"alg":"RS256","kid":"SKinvented"}`) + "." + kittest.Segment(kittest.ClaimsJSON(t, h.Claims(map[string]any{
				"drn": "DSR", "sub": subject, "iat": time.Now().Add(time.Hour).Unix(), "exp": time.Now().Add(1000 * time.Hour).Unix(),
			}))) + "." + kittest.Segment("forged")
			pairs := []string{"DSR=" + planted, "DSR=" + tokens.Refresh}
			if !first {
				pairs[0], pairs[1] = pairs[1], pairs[0]
			}
			r := kittest.Get("/")
			r.Header.Set("Cookie", "DS="+tokens.Session+"; "+strings.Join(pairs, "; "))
			assert.Equal(t, http.StatusOK, kittest.Serve(h.RequireSession(new(kittest.Spy)), r).StatusCode)
		})
	}
}

// Of several sessions of one user the one that lasts longest counts, and of several
// refresh tokens the newest, in whatever order they come.
func TestBestOfSeveralCookies(t *testing.T) {
	h := kittest.NewHostile(t)
	ends := func(d time.Duration) string { return h.With(map[string]any{"exp": time.Now().Add(d).Unix()}) }
	short, long, longest := ends(3*time.Minute), ends(5*time.Minute), ends(9*time.Minute)
	for _, order := range [][3]string{{short, long, longest}, {longest, long, short}, {long, longest, short}} {
		next := new(kittest.Spy)
		r := kittest.Get("/")
		r.Header.Set("Cookie", kittest.SessionCookie+"="+strings.Join(order[:], "; "+kittest.SessionCookie+"="))
		require.Equal(t, http.StatusOK, kittest.Serve(h.RequireSession(next), r).StatusCode)
		s, ok := descopehttp.SessionFromContext(next.Last().Context())
		require.True(t, ok)
		assert.Equal(t, longest, s.Token())
	}

	h.DRN = "DSR"
	issued := func(ago time.Duration) string {
		return h.With(map[string]any{"iat": time.Now().Add(-ago).Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	}
	old, newer, newest := issued(3*time.Hour), issued(2*time.Hour), issued(time.Hour)
	for _, order := range [][3]string{{old, newer, newest}, {newest, newer, old}, {newer, newest, old}} {
		var sent string
		k := kittest.For(t, h.Project, func(c *descopehttp.Config) {
			inner := c.HTTPClient.Transport
			c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == kittest.RefreshPath {
					sent = r.Header.Get("Authorization")
				}
				return inner.RoundTrip(r)
			})}
		})
		require.NoError(t, k.Ready(t.Context()))
		r := kittest.Get("/")
		r.Header.Set("Cookie", kittest.RefreshCookie+"="+strings.Join(order[:], "; "+kittest.RefreshCookie+"="))
		kittest.Serve(k.RequireSession(new(kittest.Spy)), r)
		assert.Equal(t, "Bearer "+h.Project.ProjectID()+":"+newest, sent)
	}
}

// The next handler finds the new session and no refresh token, however the names
// of the cookies were written.
//
// Rule: cookies: the refresh token is out of the next handler's sight.
func TestRenewedRequestCarriesNoRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, spelling := range []string{
			"%s=%s", " %s=%s", "%s =%s", "%s\t=%s", "%s=\"%s\"", "%s= %s", "%s=%s ",
		} {
			k := kittest.New(t)
			k.Project.Configure(kittest.Rotating)
			tokens := k.Project.SignIn(kittest.Ada)
			kittest.Elapse(kittest.Past)
			pair := func(name, value string) string {
				return strings.Replace(strings.Replace(spelling, "%s", name, 1), "%s", value, 1)
			}
			r := kittest.Get("/")
			r.Header["Cookie"] = []string{
				"a=1; " + pair(kittest.SessionCookie, tokens.Session) + "; b=2",
				pair(kittest.RefreshCookie, tokens.Refresh) + ";" + kittest.RefreshCookie + "=" + tokens.Refresh,
			}
			next := new(kittest.Spy)
			res := kittest.Serve(k.RequireSession(next), r)
			require.Equal(t, http.StatusOK, res.StatusCode, "%q", spelling)
			seen := next.Last()
			assert.Empty(t, seen.CookiesNamed(kittest.RefreshCookie), "%q", spelling)
			sessions := seen.CookiesNamed(kittest.SessionCookie)
			if assert.Len(t, sessions, 1, "%q", spelling) {
				assert.Equal(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value, sessions[0].Value)
			}
			assert.NotContains(t, strings.Join(seen.Header["Cookie"], ";"), tokens.Refresh, "%q", spelling)
			assert.Len(t, seen.CookiesNamed("a"), 1)
			assert.Len(t, seen.CookiesNamed("b"), 1)
		}
	})
}

// An expired session still says whose browser this is, also to a server that has
// just been started and holds no keys yet: a planted refresh cookie must not sign
// its owner in as somebody else.
//
// Rule: cookies: an expired session names its user.
func TestExpiredSessionNamesItsUserAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: "mallory"})
		session := k.Project.SignIn(kittest.Ada).Session
		kittest.Elapse(kittest.Past)
		next := new(kittest.Spy)
		res := kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), session, k.Project.SignIn("mallory").Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		assert.Zero(t, next.Calls)
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
	})
}

// Nor may the order of two refresh cookies decide who somebody is, because no
// keys are held that could tell the planted one.
//
// Rule: cookies: against a planted cookie that turns one user into another: all cookies that
// count must name one user.
func TestTwoUsersConflictAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: "mallory"})
		own, planted := k.Project.SignIn(kittest.Ada).Refresh, k.Project.SignIn("mallory").Refresh
		for _, pair := range [][2]string{{own, planted}, {planted, own}} {
			k := kittest.For(t, k.Project)
			r := kittest.Get("/")
			r.Header.Set("Cookie", kittest.RefreshCookie+"="+pair[0]+"; "+kittest.RefreshCookie+"="+pair[1])
			next := new(kittest.Spy)
			kittest.RequireProblem(t, kittest.Serve(k.RequireSession(next), r), http.StatusUnauthorized, "conflicting_cookies")
			assert.Zero(t, next.Calls)
		}
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
	})
}

// countHashes counts the signature checks until the test ends: golang-jwt makes
// one hash for each.
func countHashes(t *testing.T) *atomic.Int64 {
	var n atomic.Int64
	crypto.RegisterHash(crypto.SHA256, func() hash.Hash {
		n.Add(1)
		return sha256.New()
	})
	t.Cleanup(func() { crypto.RegisterHash(crypto.SHA256, sha256.New) })
	return &n
}

// Of the cookies of one name a few are judged, however many are sent.
//
// Rule: cookies: against a thousand cookies, to have a thousand signatures checked: of each
// name 16 are looked at and 4 verified.
// Rule: cookies: four cookies of a name at most.
func TestCookieBomb(t *testing.T) {
	h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = -1 })
	require.NoError(t, h.Ready(t.Context()))
	tokens := h.Project.SignIn(kittest.Ada)
	forge := func(token string) string { return token[:len(token)-8] + "AAAAAAAA" }
	expired := h.With(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})
	many := func(name, value string, n int) string {
		return strings.TrimSuffix(strings.Repeat(name+"="+value+"; ", n), "; ")
	}
	mixed := many(kittest.SessionCookie, forge(tokens.Session), 900) + "; " + many(kittest.RefreshCookie, forge(tokens.Refresh), 900)
	checks := countHashes(t)
	for name, tt := range map[string]struct {
		lines []string
		most  int64
	}{
		"forged sessions":             {[]string{many(kittest.SessionCookie, forge(tokens.Session), 1800)}, 4},
		"forged sessions, own kid":    {[]string{many(kittest.SessionCookie, forge(h.With(nil)), 1800)}, 4},
		"forged, expired":             {[]string{many(kittest.SessionCookie, forge(expired), 1800)}, 4},
		"expired":                     {[]string{many(kittest.SessionCookie, expired, 1800)}, 4},
		"forged refresh tokens":       {[]string{many(kittest.RefreshCookie, forge(tokens.Refresh), 1800)}, 4},
		"both":                        {[]string{mixed}, 8},
		"a line for each":             {strings.Split(mixed, "; "), 8},
		"quoted":                      {[]string{many(kittest.SessionCookie, `"`+forge(tokens.Session)+`"`, 1800)}, 4},
		"good ones":                   {[]string{many(kittest.SessionCookie, tokens.Session, 1800)}, 4},
		"in the Authorization header": {nil, 1},
	} {
		r := kittest.Get("/")
		r.Header["Cookie"] = tt.lines
		if tt.lines == nil {
			r.Header.Set("Cookie", mixed)
			kittest.WithBearer(r, forge(tokens.Session))
		}
		checks.Store(0)
		res := kittest.Serve(h.RequireSession(new(kittest.Spy)), r)
		if name == "good ones" {
			assert.Equal(t, http.StatusOK, res.StatusCode)
		} else {
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, name)
		}
		assert.LessOrEqual(t, checks.Load(), tt.most, name)
		assert.Positive(t, checks.Load(), "%s: nothing was counted", name)
	}
	assert.Zero(t, h.Project.Requests(kittest.RefreshPath))
	// The flows judge the same cookies.
	r := kittest.Get(kittest.MePath)
	r.Header.Set("Cookie", mixed)
	checks.Store(0)
	kittest.RequireProblem(t, kittest.Serve(h.Handler(), r), http.StatusUnauthorized, "no_refresh_token")
	assert.LessOrEqual(t, checks.Load(), int64(8))
}

// Where the configuration says otherwise, cookies follow it, and they never
// outlive the refresh token.
//
// Rule: cookies: against a cache that keeps an answer with cookies: `no-store` that no handler
// can take away, and `Vary`.
// Rule: flows: tokens in cookies are emptied in the body.
func TestSignInCookies(t *testing.T) {
	const month = 28 * 24 * time.Hour
	for _, tt := range []struct {
		name             string
		cookies          descopehttp.Cookies
		session, refresh string
		sameSite         http.SameSite
		ttl              time.Duration
	}{
		{"default", descopehttp.Cookies{}, kittest.SessionCookie, kittest.RefreshCookie, http.SameSiteLaxMode, month},
		{"refresh token shorter than the session", descopehttp.Cookies{}, kittest.SessionCookie, kittest.RefreshCookie, http.SameSiteLaxMode, 5 * time.Minute},
		{"plain names", descopehttp.Cookies{PlainNames: true}, "DS", "DSR", http.SameSiteLaxMode, month},
		{"domain", descopehttp.Cookies{Domain: "example.com"}, "DS", "DSR", http.SameSiteLaxMode, month},
		{"insecure", descopehttp.Cookies{InsecureHTTP: true}, "DS", "DSR", http.SameSiteLaxMode, month},
		{"strict", descopehttp.Cookies{SameSite: http.SameSiteStrictMode}, kittest.SessionCookie, kittest.RefreshCookie, http.SameSiteStrictMode, month},
		{"none", descopehttp.Cookies{SameSite: http.SameSiteNoneMode}, kittest.SessionCookie, kittest.RefreshCookie, http.SameSiteNoneMode, month},
	} {
		for _, inCookies := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, project's cookies=%v", tt.name, inCookies), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := kittest.New(t, func(c *descopehttp.Config) { c.Cookies = tt.cookies })
					k.Project.Configure(func(s *descopetest.Settings) { s.RefreshTTL, s.TokensInCookies = tt.ttl, inCookies })
					res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
					body := kittest.RequireOK(t, res)
					assert.Equal(t, []any{"", ""}, []any{body["sessionJwt"], body["refreshJwt"]}, "no script sees them")
					count := 2
					if tt.cookies.PlainNames || tt.cookies.Domain != "" {
						count++ // the marker
						assert.NotNil(t, kittest.CookiesOf(res)["__Host-DSU"])
					}
					require.Len(t, res.Cookies(), count)
					for name, drn := range map[string]string{tt.session: "DS", tt.refresh: "DSR"} {
						c := kittest.CookiesOf(res)[name]
						require.NotNil(t, c, name)
						assert.Equal(t, drn, kittest.ClaimsOf(t, c.Value)["drn"])
						assert.Equal(t, int(tt.ttl/time.Second), c.MaxAge, name)
						assert.Equal(t, tt.cookies.Domain, c.Domain, name)
						assert.Equal(t, "/", c.Path, name)
						assert.Equal(t, tt.sameSite, c.SameSite, name)
						assert.Equal(t, !tt.cookies.InsecureHTTP, c.Secure, name)
						assert.True(t, c.HttpOnly, name)
					}
				})
			})
		}
	}
}

// Cookies of two users are nobody's in the flows as well.
//
// Rule: cookies: against a planted cookie that turns one user into another: all cookies that
// count must name one user.
// Rule: cookies: all cookies that count name one user.
func TestFlowsRefuseTwoUsers(t *testing.T) {
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	adas, bobs := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Bob)
	require.NoError(t, k.Ready(t.Context()))
	k.Project.Reset()
	for _, r := range []*http.Request{
		kittest.Get(kittest.MePath), kittest.Post(kittest.RefreshPath, ""), kittest.Post(kittest.UpdatePath, `{"loginId":"`+kittest.Ada+`"}`), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`),
		kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000","loginOptions":{"mfa":true}}`),
	} {
		res := kittest.Serve(k.Handler(), kittest.WithCookies(r, adas.Session, bobs.Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		assert.Len(t, kittest.CookiesOf(res), 2)
		for _, c := range res.Cookies() {
			assert.Negative(t, c.MaxAge)
		}
	}
	assert.Zero(t, k.Project.Requests(""))
}

// A refresh cookie whose time has passed is the end of a session, and goes; beside a
// good one it is nothing.
func TestFlowsWithAnExpiredRefreshCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.RefreshTTL = time.Hour })
		old := k.Project.SignIn(kittest.Ada).Refresh
		kittest.Elapse(2 * time.Hour)
		good := k.Project.SignIn(kittest.Ada).Refresh
		for _, r := range []*http.Request{kittest.Get(kittest.MePath), kittest.Post(kittest.RefreshPath, "")} {
			res := kittest.Serve(k.Handler(), kittest.WithCookies(r, "", old))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_expired")
			assert.Len(t, kittest.CookiesOf(res), 2)
			for _, c := range res.Cookies() {
				assert.Negative(t, c.MaxAge)
			}
			r.Header.Set("Cookie", kittest.RefreshCookie+"="+old+"; "+kittest.RefreshCookie+"="+good)
			assert.Equal(t, http.StatusOK, kittest.Serve(k.Handler(), r).StatusCode)
		}
	})
}

// A session token that no browser stores must not leave the former one in place.
func TestSessionTokenTooLargeForACookie(t *testing.T) {
	k := kittest.New(t)
	k.Project.Configure(func(s *descopetest.Settings) {
		s.EditClaims = func(kind string, claims map[string]any) {
			if kind == "DS" {
				claims["big"] = strings.Repeat("x", 4096)
			}
		}
	})
	res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
	kittest.RequireOK(t, res)
	kittest.RequireDeleted(t, res, kittest.SessionCookie)
	assert.Positive(t, kittest.CookiesOf(res)[kittest.RefreshCookie].MaxAge)
	assert.Contains(t, k.Logs.String(), "too large for a cookie")
}

// The same of the refresh token: a browser would drop it without a word, and
// the user be signed out ten minutes later for no reason that anybody can see.
func TestRefreshTokenTooLargeForACookie(t *testing.T) {
	k := kittest.New(t)
	k.Project.Configure(func(s *descopetest.Settings) {
		s.EditClaims = func(kind string, claims map[string]any) {
			if kind == "DSR" {
				claims["big"] = strings.Repeat("x", 4096)
			}
		}
	})
	kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
	assert.Contains(t, k.Logs.String(), "too large for a cookie")
}

// Projects may name their cookies; the answer then says how.
func TestProjectsOwnCookieNames(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config)
	presented, next := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Ada)
	tap.AnswerWith(func(r *http.Request) *http.Response {
		if r.URL.Path != kittest.RefreshPath {
			return nil
		}
		res := kittest.JSONAnswer(http.StatusOK, `{"sessionJwt":"","refreshJwt":"","cookieName":"shopR","sessionCookieName":"shopS"}`)
		res.Header["Set-Cookie"] = []string{"DS=planted", "DSR=planted", "shopS=" + next.Session + "; HttpOnly", "shopR=" + next.Refresh}
		return res
	})
	res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, ""), "", presented.Refresh))
	kittest.RequireOK(t, res)
	cookies := kittest.CookiesOf(res)
	require.Len(t, cookies, 2)
	assert.Equal(t, next.Session, cookies[kittest.SessionCookie].Value)
	assert.Equal(t, next.Refresh, cookies[kittest.RefreshCookie].Value)
}

// A client that brings its refresh token in the header gets it as a cookie as well,
// from where the middleware renews.
func TestRefreshTokenInTheHeaderBecomesACookie(t *testing.T) {
	k := kittest.New(t)
	tokens := k.Project.SignIn(kittest.Ada)
	res := kittest.Serve(k.Handler(), kittest.InHeader(kittest.Post(kittest.RefreshPath, "{}"), k.Project.ProjectID(), tokens.Refresh))
	kittest.RequireOK(t, res)
	require.Contains(t, kittest.CookiesOf(res), kittest.RefreshCookie)
	assert.Equal(t, tokens.Refresh, kittest.CookiesOf(res)[kittest.RefreshCookie].Value)
	res = kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, "{}"), "", tokens.Refresh))
	kittest.RequireOK(t, res)
	assert.NotContains(t, kittest.CookiesOf(res), kittest.RefreshCookie, "it is there already")

	// With rotation it is the new one that counts.
	k.Project.Configure(kittest.Rotating)
	tokens = k.Project.SignIn(kittest.Ada)
	res = kittest.Serve(k.Handler(), kittest.InHeader(kittest.Post(kittest.RefreshPath, "{}"), k.Project.ProjectID(), tokens.Refresh))
	kittest.RequireOK(t, res)
	require.Contains(t, kittest.CookiesOf(res), kittest.RefreshCookie)
	assert.NotEqual(t, tokens.Refresh, kittest.CookiesOf(res)[kittest.RefreshCookie].Value)
}

// browserAt returns a browser that finds h at every https address.
func browserAt(t *testing.T, h *http.Handler) *http.Client {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*h).ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	c := srv.Client()
	c.Jar = jar
	tr := c.Transport.(*http.Transport)
	tr.TLSClientConfig.InsecureSkipVerify = true // a certificate of any name will do
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	return c
}

// scopes is one browser in front of applications with other cookie policies.
type scopes struct {
	t       *testing.T
	project *descopetest.Server
	h       http.Handler
	*http.Client
}

func newScopes(t *testing.T) *scopes {
	s := &scopes{t: t, project: kittest.New(t).Project}
	s.project.AddUser(descopetest.User{LoginID: kittest.Bob})
	s.project.Configure(func(c *descopetest.Settings) { c.AllowCodeReuse = true })
	s.Client = browserAt(t, &s.h)
	return s
}

// use starts the application anew with other cookies.
func (s *scopes) use(c descopehttp.Cookies) {
	k := kittest.For(s.t, s.project, func(cfg *descopehttp.Config) { cfg.Cookies = c })
	mux := http.NewServeMux()
	mux.Handle("/auth/", k.Handler())
	mux.Handle("/", k.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := descopehttp.SessionFromContext(r.Context())
		io.WriteString(w, session.Subject())
	})))
	s.h = mux
}

func (s *scopes) post(host, path, body string) *http.Response {
	s.t.Helper()
	res, err := s.Post("https://"+host+"/auth"+path, "application/json", strings.NewReader(body))
	require.NoError(s.t, err)
	res.Body.Close()
	return res
}

func (s *scopes) signIn(host, loginID string) *http.Response {
	s.t.Helper()
	res := s.post(host, kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, loginID, s.project.Code(loginID)))
	require.Equal(s.t, http.StatusOK, res.StatusCode)
	return res
}

// visits returns the status of a page, and whom it greets.
func (s *scopes) visits(host string) (int, string) {
	s.t.Helper()
	res, err := s.Get("https://" + host + "/")
	require.NoError(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	return res.StatusCode, string(body)
}

func (s *scopes) plant(host, domain, name, value string) {
	u := &url.URL{Scheme: "https", Host: host, Path: "/"}
	s.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/", Domain: domain}})
}

func (s *scopes) subject(loginID string) string {
	return kittest.SubjectOf(s.t, kittest.For(s.t, s.project), s.project.SignIn(loginID).Session)
}

const appHost, deepHost = "app.own.example", "a.b.c.d.own.example"

// Cookies that an earlier configuration has set for a wider scope end with a logout, and
// keep nobody from signing in.
//
// Rule: cookies: against cookies that outlive a sign-out: deleted in every scope in which they
// were set, by an earlier configuration too.
func TestFormerCookieScopes(t *testing.T) {
	plain := descopehttp.Cookies{PlainNames: true}
	for name, tt := range map[string]struct {
		host          string
		before, after descopehttp.Cookies
	}{
		"Domain taken away":   {appHost, descopehttp.Cookies{Domain: "own.example"}, plain},
		"Domain narrowed":     {deepHost, descopehttp.Cookies{Domain: "own.example"}, descopehttp.Cookies{Domain: "c.d.own.example"}},
		"Domain widened":      {deepHost, descopehttp.Cookies{Domain: "c.d.own.example"}, descopehttp.Cookies{Domain: "own.example"}},
		"Domain added":        {appHost, plain, descopehttp.Cookies{Domain: "own.example"}},
		"the host itself":     {appHost, descopehttp.Cookies{Domain: appHost}, plain},
		"nothing has changed": {appHost, descopehttp.Cookies{Domain: "own.example"}, descopehttp.Cookies{Domain: "own.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScopes(t)
			s.use(tt.before)
			s.signIn(tt.host, kittest.Ada)
			s.use(tt.after)
			status, _ := s.visits(tt.host)
			require.Equal(t, http.StatusOK, status)
			s.post(tt.host, kittest.LogoutPath, "{}")
			status, _ = s.visits(tt.host)
			assert.Equal(t, http.StatusUnauthorized, status, "after a logout")

			s.use(tt.before)
			s.signIn(tt.host, kittest.Ada)
			s.use(tt.after)
			s.signIn(tt.host, kittest.Bob)
			status, user := s.visits(tt.host)
			assert.Equal(t, http.StatusOK, status, "another user has signed in")
			assert.Equal(t, s.subject(kittest.Bob), user)
			assert.Len(t, s.Jar.Cookies(&url.URL{Scheme: "https", Host: tt.host, Path: "/"}), 3, "of each name one is left")
		})
	}
}

// A neighbour's sessions on the parent domain are not ours to delete.
func TestNeighboursSessionsLive(t *testing.T) {
	s := newScopes(t)
	s.use(descopehttp.Cookies{PlainNames: true})
	s.plant(appHost, "own.example", "DS", kittest.New(t).Project.SignIn(kittest.Ada).Session+"x")
	s.plant(appHost, "own.example", "DSR", "anything")
	for _, answer := range []*http.Response{s.post(appHost, kittest.LogoutPath, "{}"), s.signIn(appHost, kittest.Ada)} {
		for _, c := range answer.Cookies() {
			assert.Empty(t, c.Domain, c.Name)
		}
	}
	assert.Len(t, s.Jar.Cookies(&url.URL{Scheme: "https", Host: "other.own.example", Path: "/"}), 2)
	status, user := s.visits(appHost)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, s.subject(kittest.Ada), user)
}

// Hosts that have no domain get no cookies for one.
func TestScopesOfOddHosts(t *testing.T) {
	var said kittest.LogBuffer // where net/http says that it drops an attribute
	defer log.SetOutput(log.Writer())
	log.SetOutput(&said)
	for host, want := range map[string]int{
		"own.example:8443": 1, "OWN.example": 1, "127.0.0.1:80": 0, "[::1]:80": 0, "::1": 0, "localhost": 0, "own.example.": 0,
		"a;b.own.example": 0, "ä.own.example": 0, "a..example": 0, "0x7f.1": 0, "a b.example": 0, "a;b.example": 0, "": 0, ":80": 0, "x.1": 0,
		"a.b.c.d.e.f.g.example": 5, strings.Repeat("a.", 100) + "example": 5,
		strings.Repeat("a.", 123) + "example": 5, strings.Repeat("a.", 124) + "example": 0, strings.Repeat("a_.", 10_000) + "example": 0, // whose parents are megabytes
		"my_app.own.example": 1, "app-.own.example": 1, strings.Repeat("x", 64) + ".own.example": 1, // no domains of cookies, but hosts
	} {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Cookies.PlainNames = true })
		r := kittest.Post(kittest.LogoutPath, "{}")
		r.Host = host
		tokens := k.Project.SignIn(kittest.Ada)
		r.Header.Set("Cookie", "DS="+tokens.Session+"; DSR="+tokens.Refresh)
		domains, size := make(map[string]bool), 0
		for _, c := range kittest.Serve(k.Handler(), r).Cookies() {
			if size += len(c.Raw); c.Domain != "" {
				domains[c.Domain] = true
			}
		}
		assert.Len(t, domains, want, host)
		assert.Less(t, size, 6<<10, host)
	}
	assert.NotContains(t, said.String(), "Cookie.Domain")
}

// However many names and however long the host, deletions leave room for the rest of the
// header.
func TestScopesAreBounded(t *testing.T) {
	k := kittest.New(t, names("a b c __Host-s", "e f g __Host-r"))
	tokens := k.Project.SignIn(kittest.Ada)
	srv := httptest.NewServer(k.Handler())
	defer srv.Close()
	r, err := http.NewRequest(http.MethodPost, srv.URL+kittest.LogoutPath, nil)
	require.NoError(t, err)
	r.Host = strings.Repeat(strings.Repeat("x", 60)+".", 4) + "example"
	r.Header.Set("Cookie", "c="+tokens.Session+"; g="+tokens.Refresh)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	size, scoped := 0, 0
	for _, c := range res.Cookies() {
		if c.Domain != "" {
			size, scoped = size+len(c.Raw), scoped+1
			assert.NotContains(t, c.Name, "__Host-", "which has no domain")
		}
	}
	assert.LessOrEqual(t, size, 4<<10)
	assert.Greater(t, size, 3<<10)
	assert.Len(t, res.Cookies(), scoped+8+1, "all go for the host itself, and the marker")
}

// Of cookies of two users those count that the marker names, which no neighbour can plant:
// not the newest, and not those of who signed in here once.
//
// Rule: cookies: against a neighbour host that plants another user's cookies under plain names:
// where the cookies name two users, the one counts that `__Host-DSU` names.
func TestMarkerSettlesAConflict(t *testing.T) {
	s := newScopes(t)
	s.use(descopehttp.Cookies{PlainNames: true})
	s.signIn(appHost, kittest.Ada)
	attacker := s.project.SignIn(kittest.Bob)
	s.plant(appHost, "own.example", "DS", attacker.Session)
	s.plant(appHost, "own.example", "DSR", attacker.Refresh)
	status, user := s.visits(appHost)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, s.subject(kittest.Ada), user)

	// A planted pair alone is no conflict, and makes no marker when it is renewed.
	s.post(appHost, kittest.LogoutPath, "{}")
	s.plant(appHost, "own.example", "DSR", attacker.Refresh)
	status, user = s.visits(appHost)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, s.subject(kittest.Bob), user)
	for _, c := range s.Jar.Cookies(&url.URL{Scheme: "https", Host: appHost, Path: "/"}) {
		assert.NotEqual(t, "__Host-DSU", c.Name)
	}

	// Without a marker, and with one that names neither, nobody is let in.
	for _, marker := range []string{"", "__Host-DSU=anything; "} {
		r, err := http.NewRequest(http.MethodGet, "https://"+appHost+"/", nil)
		require.NoError(t, err)
		r.Header.Set("Cookie", marker+"DS="+s.project.SignIn(kittest.Ada).Session+"; DSR="+attacker.Refresh)
		w := httptest.NewRecorder()
		s.h.ServeHTTP(w, r)
		kittest.RequireProblem(t, w.Result(), http.StatusUnauthorized, "conflicting_cookies")
	}
}

// So many of the other user's that they alone would be judged make nobody somebody else
// either. A neighbour can put them first, by a longer path.
func TestMarkerFindsItsUserAmongMany(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Cookies.PlainNames = true })
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	ada := k.Project.SignIn(kittest.Ada)
	sum := sha256.Sum256([]byte(k.Project.ProjectID() + "\x00" + kittest.SubjectOf(t, k, ada.Session)))
	next := new(kittest.Spy)
	var planted strings.Builder
	for range 12 {
		bob := k.Project.SignIn(kittest.Bob)
		fmt.Fprintf(&planted, "DS=%s; DSR=%s; ", bob.Session, bob.Refresh)
	}
	for _, own := range []string{"DS=" + ada.Session + "; DSR=" + ada.Refresh, "DSR=" + ada.Refresh} {
		res := onWire(t, k.RequireSession(next), http.MethodGet, "/", "Cookie", planted.String()+own+"; __Host-DSU="+base64.RawURLEncoding.EncodeToString(sum[:16]))
		require.Equal(t, http.StatusOK, res.StatusCode)
		session, ok := descopehttp.SessionFromContext(next.Last().Context())
		require.True(t, ok)
		assert.Equal(t, kittest.SubjectOf(t, k, ada.Session), session.Subject())

		res = onWire(t, k.RequireSession(next), http.MethodGet, "/", "Cookie", planted.String()+own)
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies") // nothing says whose browser it is
	}
	res := onWire(t, k.RequireSession(next), http.MethodGet, "/", "Cookie", planted.String())
	assert.Equal(t, http.StatusOK, res.StatusCode, "many of one user")
}

// Nor can those that a neighbour makes up for the marker's user keep out one whose name it
// cannot plant.
func TestHostedNamesComeBeforeTheMarkersUser(t *testing.T) {
	k := kittest.New(t, names("__Host-s DS", "__Host-r DSR"))
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	ada, bob := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Bob)
	forged := ada.Session[:len(ada.Session)-6] + "AAAAAA"
	sum := sha256.Sum256([]byte(k.Project.ProjectID() + "\x00" + kittest.SubjectOf(t, k, ada.Session)))
	cookies := strings.Repeat("DS="+forged+"; ", 4) + "__Host-s=" + bob.Session + "; __Host-DSU=" + base64.RawURLEncoding.EncodeToString(sum[:16])
	next := new(kittest.Spy)
	require.Equal(t, http.StatusOK, onWire(t, k.RequireSession(next), http.MethodGet, "/", "Cookie", cookies).StatusCode)
	session, ok := descopehttp.SessionFromContext(next.Last().Context())
	require.True(t, ok)
	assert.Equal(t, kittest.SubjectOf(t, k, bob.Session), session.Subject())
}

// The marker lives as long as the refresh token, with each new one; but a renewal makes none,
// because what is renewed may have been planted.
func TestMarkerLivesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Cookies.PlainNames = true })
		k.Project.Configure(kittest.Rotating)
		jar, u := jarOf(t, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).Cookies())
		renew := func() map[string]*http.Cookie {
			kittest.Elapse(kittest.Past)
			r := kittest.Get("/")
			for _, c := range jar.Cookies(u) {
				r.AddCookie(c)
			}
			res := kittest.Serve(k.RequireSession(new(kittest.Spy)), r)
			require.Equal(t, http.StatusOK, res.StatusCode)
			jar.SetCookies(u, res.Cookies())
			require.Contains(t, kittest.CookiesOf(res), "DSR")
			return kittest.CookiesOf(res)
		}
		sum := sha256.Sum256([]byte(k.Project.ProjectID() + "\x00" + kittest.SubjectOf(t, k, k.Project.SignIn(kittest.Ada).Session)))
		for range 2 {
			set := renew()
			c := set["__Host-DSU"]
			require.NotNil(t, c)
			assert.Equal(t, base64.RawURLEncoding.EncodeToString(sum[:16]), c.Value)
			assert.Equal(t, set["DSR"].MaxAge, c.MaxAge)
			assert.True(t, c.HttpOnly && c.Secure && c.Path == "/" && c.Domain == "")
		}
		jar.SetCookies(u, []*http.Cookie{{Name: "__Host-DSU", Path: "/", Secure: true, MaxAge: -1}})
		assert.NotContains(t, renew(), "__Host-DSU")
	})
}

// Junk before the good cookie does not keep its owner out.
//
// Rule: cookies: against a thousand cookies, to have a thousand signatures checked: of each
// name 16 are looked at and 4 verified.
func TestJunkDoesNotCount(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Cookies.PlainNames = true })
	mux := http.NewServeMux()
	mux.Handle("/auth/", k.Handler())
	mux.Handle("/", k.RequireSession(new(kittest.Spy)))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	ask := func(method, path, cookies string) *http.Response {
		r, err := http.NewRequest(method, srv.URL+path, nil)
		require.NoError(t, err)
		r.Host = appHost
		r.Header.Set("Cookie", cookies)
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		res.Body.Close()
		return res
	}
	foreign := kittest.New(t).Project.SignIn(kittest.Ada).Session
	for _, name := range []string{"DS", "DSR"} {
		for junk, want := range map[int]int{6: http.StatusOK, 15: http.StatusOK, 16: http.StatusUnauthorized} {
			tokens := k.Project.SignIn(kittest.Ada)
			good := map[string]string{"DS": tokens.Session, "DSR": tokens.Refresh}[name]
			cookies := strings.Repeat(name+"=junk."+foreign[:20]+".x; ", junk) + name + "=" + good
			assert.Equal(t, want, ask(http.MethodGet, "/", cookies).StatusCode, "%d before %s", junk, name)
			// A sign-out finds what is this project's by the same rule.
			scoped := slices.ContainsFunc(ask(http.MethodPost, "/auth"+kittest.LogoutPath, cookies).Cookies(), func(c *http.Cookie) bool { return c.Domain != "" })
			assert.Equal(t, want == http.StatusOK, scoped, "%d before %s", junk, name)
		}
	}
}

// Cookies that no browser keeps are named in the log, once, and not one line a request.
func TestCookiesThatNobodyKeeps(t *testing.T) {
	for name, tt := range map[string]struct {
		header   []string
		insecure bool // Cookies.InsecureHTTP
		host     string
		warned   bool
	}{
		"Origin":            {[]string{"Origin", "http://app.example"}, false, "app.example", true},
		"Origin, https":     {[]string{"Origin", "https://app.example", "X-Forwarded-Proto", "http"}, false, "app.example", false},
		"Origin, loopback":  {[]string{"Origin", "http://127.0.0.1:8080"}, false, "127.0.0.1:8080", false},
		"Origin, localhost": {[]string{"Origin", "http://localhost:8080"}, false, "localhost:8080", false},
		"a proxy":           {[]string{"X-Forwarded-Proto", "http"}, false, "app.example:80", true},
		"a proxy, https":    {[]string{"X-Forwarded-Proto", "https"}, false, "app.example", false},
		"a proxy, loopback": {[]string{"X-Forwarded-Proto", "http"}, false, "[::1]:80", false},
		"loopback, no port": {[]string{"X-Forwarded-Proto", "http"}, false, "[::1]", false},
		"*.localhost":       {[]string{"Origin", "http://shop.localhost:8080"}, false, "shop.localhost:8080", false}, // Chromium keeps them
		"Shop.LOCALHOST":    {[]string{"X-Forwarded-Proto", "http"}, false, "Shop.LOCALHOST", false},
		"no localhost":      {[]string{"Origin", "http://notlocalhost"}, false, "notlocalhost", true},
		"two proxies":       {[]string{"X-Forwarded-Proto", "HTTP, https"}, false, "app.example", true},
		"https at the edge": {[]string{"X-Forwarded-Proto", "https, http"}, false, "app.example", false},
		"nobody tells":      {nil, false, "app.example", false},
		"not Secure":        {[]string{"Origin", "http://app.example"}, true, "app.example", false},
	} {
		t.Run(name, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) { c.Cookies.InsecureHTTP = tt.insecure })
			k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
			srv := httptest.NewServer(k.Handler())
			defer srv.Close()
			for range 3 {
				r, err := http.NewRequest(http.MethodPost, srv.URL+kittest.VerifyPath, strings.NewReader(`{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
				require.NoError(t, err)
				r.Host = tt.host
				r.Header.Set("Content-Type", "application/json")
				for i := 0; i < len(tt.header); i += 2 {
					r.Header.Set(tt.header[i], tt.header[i+1])
				}
				res, err := http.DefaultClient.Do(r)
				require.NoError(t, err)
				res.Body.Close()
				require.Equal(t, http.StatusOK, res.StatusCode)
			}
			want := 0
			if tt.warned {
				want = 1
			}
			assert.Equal(t, want, strings.Count(k.Logs.String(), "InsecureHTTP"))
		})
	}

	t.Run("https from a page over http", func(t *testing.T) {
		k := kittest.New(t)
		srv := httptest.NewTLSServer(k.Handler())
		defer srv.Close()
		r, err := http.NewRequest(http.MethodPost, srv.URL+kittest.VerifyPath, strings.NewReader(`{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
		require.NoError(t, err)
		r.Host = "app.example"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", "http://app.example")
		res, err := srv.Client().Do(r)
		require.NoError(t, err)
		res.Body.Close()
		require.Len(t, res.Cookies(), 2)
		assert.NotContains(t, k.Logs.String(), "InsecureHTTP")
	})

	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) {
			s.AllowCodeReuse = true
			s.EditClaims = func(_ string, claims map[string]any) { claims["pad"] = strings.Repeat("x", 5000) }
		})
		signIn := func() {
			require.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		}
		for range 3 {
			signIn()
		}
		assert.Equal(t, 1, strings.Count(k.Logs.String(), "too large"))
		kittest.Elapse(time.Minute)
		signIn()
		assert.Equal(t, 2, strings.Count(k.Logs.String(), "too large"))
	})
}

// names is an edit that names the cookies.
func names(session, refresh string) func(*descopehttp.Config) {
	return func(c *descopehttp.Config) {
		c.Cookies.SessionNames, c.Cookies.RefreshNames = strings.Fields(session), strings.Fields(refresh)
	}
}

// A new name in front signs nobody out, with and without rotation, and what was there
// before is gone with the first renewal; with a logout and a sign-in too.
//
// Rule: cookies: cookies of former names go at a sign-in, a renewal and a logout; partitioned
// ones in both forms.
func TestRenamedCookies(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after    func(*descopehttp.Config)
		session, refresh string // names afterwards
		former           []string
	}{
		"own names":       {names("", ""), names("shop __Host-DS", "shopR __Host-DSR"), "shop", "shopR", []string{"__Host-DS", "__Host-DSR"}},
		"back to default": {names("shop", "shopR"), names("__Host-DS shop", "__Host-DSR shopR"), "__Host-DS", "__Host-DSR", []string{"shop", "shopR"}},
		"from an SDK's":   {func(c *descopehttp.Config) { c.Cookies.PlainNames = true }, names("__Host-s DS", "__Host-r DSR"), "__Host-s", "__Host-r", []string{"DS", "DSR"}},
		"refresh alone":   {names("", ""), names("", "__Host-r __Host-DSR"), "__Host-DS", "__Host-r", []string{"__Host-DSR"}},
		"two former":      {names("b", "bR"), names("c b a", "cR bR aR"), "c", "cR", []string{"a", "b", "aR", "bR"}},
		"another order":   {names("a b", "aR bR"), names("b a", "bR aR"), "b", "bR", []string{"a", "aR"}},
	} {
		for _, rotating := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rotating=%v", name, rotating), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					before := kittest.New(t, tt.before)
					before.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.AllowCodeReuse = rotating, true })
					after := kittest.For(t, before.Project, tt.after)
					signIn := func(k *kittest.Kit) []*http.Cookie {
						res := kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada))
						require.Equal(t, http.StatusOK, res.StatusCode)
						return res.Cookies()
					}
					onlyNew := func(jar http.CookieJar, u *url.URL, why string) {
						var left []string
						for _, c := range jar.Cookies(u) {
							if c.Name != "__Host-DSU" {
								left = append(left, c.Name)
							}
						}
						assert.ElementsMatch(t, []string{tt.session, tt.refresh}, left, why)
					}
					visit := func(jar http.CookieJar, u *url.URL, r *http.Request, h http.Handler) *http.Response {
						for _, c := range jar.Cookies(u) {
							r.AddCookie(c)
						}
						res := kittest.Serve(h, r)
						jar.SetCookies(u, res.Cookies())
						return res
					}
					h := after.RequireSession(new(kittest.Spy))

					jar, u := jarOf(t, signIn(before))
					assert.Equal(t, http.StatusOK, visit(jar, u, kittest.Get("/"), h).StatusCode, "at once")
					kittest.Elapse(kittest.Past)
					assert.Equal(t, http.StatusOK, visit(jar, u, kittest.Get("/"), h).StatusCode, "after a renewal")
					onlyNew(jar, u, "after a renewal")
					kittest.Elapse(kittest.Past)
					assert.Equal(t, http.StatusOK, visit(jar, u, kittest.Get("/"), h).StatusCode, "after another")
					assert.Equal(t, 2, after.Project.Requests(kittest.RefreshPath), "one each")

					jar, u = jarOf(t, signIn(before))
					assert.Equal(t, http.StatusOK, visit(jar, u, kittest.Post(kittest.RefreshPath, "{}"), after.Handler()).StatusCode)
					onlyNew(jar, u, "after a refresh by the page")

					jar, u = jarOf(t, signIn(before))
					require.Equal(t, http.StatusOK, visit(jar, u, kittest.Post(kittest.LogoutPath, "{}"), after.Handler()).StatusCode)
					assert.Empty(t, jar.Cookies(u), "after a logout")

					jar, u = jarOf(t, signIn(before), signIn(after))
					onlyNew(jar, u, "after a sign-in")
				})
			})
		}
	}
}

// Two projects on one host keep out of each other's way, each with names of its own.
func TestTwoProjectsOnOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, blog := kittest.New(t, names("shop", "shopR")), kittest.New(t, names("blog", "blogR"))
		jar, u := jarOf(t)
		visit := func(k *kittest.Kit, r *http.Request, h http.Handler) *http.Response {
			for _, c := range jar.Cookies(u) {
				r.AddCookie(c)
			}
			res := kittest.Serve(h, r)
			jar.SetCookies(u, res.Cookies())
			return res
		}
		both := []*kittest.Kit{shop, blog}
		for _, k := range both {
			r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`)
			require.Equal(t, http.StatusOK, visit(k, r, k.Handler()).StatusCode)
		}
		for range 3 {
			kittest.Elapse(kittest.Past)
			for _, k := range both {
				assert.Equal(t, http.StatusOK, visit(k, kittest.Get("/"), k.RequireSession(new(kittest.Spy))).StatusCode)
			}
		}
		require.Equal(t, http.StatusOK, visit(shop, kittest.Post(kittest.LogoutPath, "{}"), shop.Handler()).StatusCode)
		assert.Equal(t, http.StatusUnauthorized, visit(shop, kittest.Get("/"), shop.RequireSession(new(kittest.Spy))).StatusCode)
		assert.Equal(t, http.StatusOK, visit(blog, kittest.Get("/"), blog.RequireSession(new(kittest.Spy))).StatusCode)
	})
}

// A token is of the kind that its drn says, whatever name it comes under and however it is
// presented: none passes for the other kind.
//
// Rule: cookies: a `drn` among the configured names is of their kind, and no token passes for
// the other kind.
func TestKindsAreNeverConfused(t *testing.T) {
	h := kittest.NewHostile(t, names("shop __Host-DS DS", "shopR __Host-DSR DSR"))
	bearer := func(r *http.Request, token string) *http.Request { return kittest.WithBearer(r, token) }
	cookie := func(name string) func(*http.Request, string) *http.Request {
		return func(r *http.Request, token string) *http.Request {
			r.Header.Set("Cookie", name+"="+token)
			return r
		}
	}
	sessions, refreshes := []string{"shop", "__Host-DS", "DS"}, []string{"shopR", "__Host-DSR", "DSR"}
	kinds := make(map[string]string)
	for _, drn := range sessions {
		kinds[drn] = "session"
	}
	for _, drn := range refreshes {
		kinds[drn] = "refresh"
	}
	for _, drn := range []string{"", "ds", "DSr", "Shop", "SHOPR", "DS ", "shop\x00", "__Host-shop", "__Host-DSU", "DTD", "*"} {
		kinds[drn] = "none"
	}
	for drn, kind := range kinds {
		token := h.With(map[string]any{"drn": drn, "exp": time.Now().Add(time.Hour).Unix()})
		opens := func(present func(*http.Request, string) *http.Request) bool {
			return kittest.Serve(h.RequireSession(new(kittest.Spy)), present(kittest.Get("/"), token)).StatusCode == http.StatusOK
		}
		// Whether it is taken for a refresh token shows in what Descope is asked.
		refreshed := func(present func(*http.Request, string) *http.Request, path string, handler http.Handler) bool {
			h.Project.Reset()
			kittest.Serve(handler, present(kittest.Post(path, "{}"), token))
			return h.Project.Requests(kittest.RefreshPath) > 0
		}
		assert.Equal(t, kind == "session", opens(bearer), "bearer, %q", drn)
		_, err := h.VerifyToken(t.Context(), token)
		assert.Equal(t, kind == "session", err == nil, "VerifyToken, %q", drn)
		for _, name := range sessions {
			assert.Equal(t, kind == "session", opens(cookie(name)), "%q in %s", drn, name)
			assert.False(t, refreshed(cookie(name), kittest.RefreshPath, h.Handler()), "%q in %s", drn, name)
		}
		for _, name := range refreshes {
			assert.False(t, opens(cookie(name)), "%q in %s", drn, name) // Descope knows no such token
			asked := refreshed(cookie(name), kittest.RefreshPath, h.Handler())
			if kind != "refresh" {
				assert.False(t, asked, "%q in %s", drn, name)
			}
		}
	}
	// Each refresh drn by itself, in a kit that has not been told no yet.
	for _, drn := range refreshes {
		for _, name := range refreshes {
			h := kittest.NewHostile(t, names("shop __Host-DS DS", "shopR __Host-DSR DSR"))
			require.NoError(t, h.Ready(t.Context()))
			token := h.With(map[string]any{"drn": drn, "exp": time.Now().Add(time.Hour).Unix()})
			kittest.Serve(h.Handler(), cookie(name)(kittest.Post(kittest.RefreshPath, "{}"), token))
			assert.Equal(t, 1, h.Project.Requests(kittest.RefreshPath), "%q in %s", drn, name)
		}
		h := kittest.NewHostile(t, names("shop", "shopR __Host-DSR"))
		token := h.With(map[string]any{"drn": drn, "exp": time.Now().Add(time.Hour).Unix()})
		kittest.Serve(h.Handler(), bearer(kittest.Post(kittest.RefreshPath, "{}"), token))
		assert.Equal(t, 1, h.Project.Requests(kittest.RefreshPath), "%q alone in the header", drn)
	}
	// Names that nobody configured say nothing.
	plain := kittest.NewHostile(t)
	for _, drn := range []string{"shop", "shopR", "__Host-DS", "__Host-DSR"} {
		_, err := plain.VerifyToken(t.Context(), plain.With(map[string]any{"drn": drn}))
		assert.ErrorIs(t, err, descopehttp.ErrInvalidToken, drn)
	}
}

// In a project whose tokens go by names of their own all works as with Descope's names.
func TestTokensWithNamesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, names("shop", "shopR"))
		k.Project.Configure(func(s *descopetest.Settings) {
			s.RotateRefresh = true
			s.EditClaims = func(kind string, claims map[string]any) {
				claims["drn"] = map[string]string{"DS": "shop", "DSR": "shopR"}[kind]
			}
		})
		jar, u := jarOf(t)
		visit := func(r *http.Request, h http.Handler) *http.Response {
			for _, c := range jar.Cookies(u) {
				r.AddCookie(c)
			}
			res := kittest.Serve(h, r)
			jar.SetCookies(u, res.Cookies())
			return res
		}
		r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`)
		kittest.RequireOK(t, visit(r, k.Handler()))
		assert.Equal(t, http.StatusOK, visit(kittest.Get("/"), k.RequireSession(new(kittest.Spy))).StatusCode)
	})
}

// Projects that deliver tokens in cookies do so under the names that are configured, also
// where the answer does not announce them.
func TestDescopesCookiesUnderConfiguredNames(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config, names("__Host-a shopS", "__Host-b shopR"))
	presented, next := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Ada)
	for body, lines := range map[string][]string{
		`{}`: {"other=" + next.Refresh, "shopS=" + next.Session, "shopR=" + next.Refresh},
		`{"cookieName":"x","sessionCookieName":"y"}`: {"shopS=planted", "shopR=planted", "DS=planted", "y=" + next.Session, "x=" + next.Refresh},
		`{"cookieName":"","sessionCookieName":""}`:   {"DS=" + next.Session, "DSR=" + next.Refresh},
	} {
		tap.AnswerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != kittest.RefreshPath {
				return nil
			}
			res := kittest.JSONAnswer(http.StatusOK, body)
			res.Header["Set-Cookie"] = lines
			return res
		})
		other := kittest.For(t, k.Project, tap.Config, names("__Host-a shopS", "__Host-b shopR"))
		r := kittest.Post(kittest.RefreshPath, "")
		r.Header.Set("Cookie", "__Host-b="+presented.Refresh)
		res := kittest.Serve(other.Handler(), r)
		kittest.RequireOK(t, res)
		assert.Equal(t, next.Session, kittest.CookiesOf(res)["__Host-a"].Value, body)
		assert.Equal(t, next.Refresh, kittest.CookiesOf(res)["__Host-b"].Value, body)
	}
}

// What a neighbour host plants under a plain name counts for nothing beside a good value
// under a name that it cannot plant, and crowds none out.
//
// Rule: cookies: values under __Host- names before all others, which count where none of those
// opens anything.
func TestPlantedBesideHosted(t *testing.T) {
	for name, tt := range map[string]struct {
		own, planted string // of {S}, {R} of Ada and of Bob
		want         string // whose session, or "" for none
	}{
		"session":                     {"__Host-DS={S}; __Host-DSR={R}", "DS={S}", kittest.Ada},
		"refresh":                     {"__Host-DS={S}; __Host-DSR={R}", "DSR={R}", kittest.Ada},
		"both":                        {"__Host-DS={S}; __Host-DSR={R}", "DS={S}; DSR={R}", kittest.Ada},
		"a session alone":             {"__Host-DS={S}", "DSR={R}", kittest.Ada},
		"a refresh token alone":       {"__Host-DSR={R}", "DS={S}; DSR={R}", kittest.Ada},
		"twenty sessions":             {"__Host-DS={S}; __Host-DSR={R}", strings.Repeat("DS={S}; ", 20) + "DSR={R}", kittest.Ada},
		"twenty refresh tokens":       {"__Host-DSR={R}", strings.Repeat("DSR={R}; ", 20) + "DS={S}", kittest.Ada},
		"nothing of one's own":        {"", "DS={S}; DSR={R}", kittest.Bob}, // as with plain names alone
		"of one's own what is no use": {"__Host-DS=junk; __Host-DSR=junk", "DS={S}", kittest.Bob},
	} {
		for _, first := range []bool{true, false} {
			k := kittest.New(t, names("__Host-DS DS", "__Host-DSR DSR"))
			k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
			require.NoError(t, k.Ready(t.Context()))
			fill := func(loginID, line string) string {
				tokens := k.Project.SignIn(loginID)
				return strings.NewReplacer("{S}", tokens.Session, "{R}", tokens.Refresh).Replace(line)
			}
			own, planted := fill(kittest.Ada, tt.own), fill(kittest.Bob, tt.planted)
			line := own + "; " + planted
			if first {
				line = planted + "; " + own
			}
			next := new(kittest.Spy)
			for range 3 { // the third time from the cache
				r := kittest.Get("/")
				r.Header.Set("Cookie", line)
				require.Equal(t, http.StatusOK, kittest.Serve(k.RequireSession(next), r).StatusCode, name)
				session, ok := descopehttp.SessionFromContext(next.Last().Context())
				require.True(t, ok)
				assert.Equal(t, kittest.SubjectOf(t, k, k.Project.SignIn(tt.want).Session), session.Subject(), "%s, first=%v", name, first)
			}
		}
	}
}

// A partitioned cookie and one that is not are two to a browser: both are set and deleted
// in their own form, or else a logout leaves one, and the old one stays beside the new.
//
// Rule: cookies: cookies of former names go at a sign-in, a renewal and a logout; partitioned
// ones in both forms.
func TestPartitionedCookies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		partitioned := func(c *descopehttp.Config) {
			c.Cookies.SameSite, c.Cookies.Partitioned = http.SameSiteNoneMode, true
		}
		k := kittest.New(t, partitioned)
		lines := func(res *http.Response) (set, deleted map[string][]bool) { // name → in which forms, in order
			set, deleted = make(map[string][]bool), make(map[string][]bool)
			for _, c := range res.Cookies() {
				assert.True(t, c.Secure)
				assert.Equal(t, http.SameSiteNoneMode, c.SameSite)
				if c.MaxAge < 0 {
					assert.Empty(t, set[c.Name], "a deletion after the cookie, for browsers that know one form only")
					deleted[c.Name] = append(deleted[c.Name], c.Partitioned)
				} else {
					set[c.Name] = append(set[c.Name], c.Partitioned)
				}
			}
			return set, deleted
		}
		two := func(forms ...bool) map[string][]bool {
			return map[string][]bool{kittest.SessionCookie: forms, kittest.RefreshCookie: forms}
		}
		res := kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada))
		set, deleted := lines(res)
		assert.Equal(t, two(true), set)
		assert.Equal(t, two(false), deleted)

		// Without rotation the refresh token moves with its session.
		b := kittest.SignIn(k, kittest.Ada)
		kittest.Elapse(kittest.Past)
		set, deleted = lines(b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")))
		assert.Equal(t, two(true), set)
		assert.Equal(t, two(false), deleted)

		set, deleted = lines(kittest.Logout(k, b))
		assert.Empty(t, set)
		assert.Equal(t, two(false, true), deleted)
	})
}

// Those of a wider scope, and the marker, are two to a browser as well.
func TestPartitionedCookiesOfAWiderScope(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.Cookies = descopehttp.Cookies{PlainNames: true, SameSite: http.SameSiteNoneMode, Partitioned: true}
	})
	k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	srv := httptest.NewServer(k.Handler())
	defer srv.Close()
	for path, set := range map[string]int{kittest.VerifyPath: 3, kittest.LogoutPath: 0} {
		r, err := http.NewRequest(http.MethodPost, srv.URL+path, strings.NewReader(`{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
		require.NoError(t, err)
		r.Host = appHost
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Cookie", "DS="+k.Project.SignIn(kittest.Ada).Session)
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusOK, res.StatusCode)
		deleted := make(map[string]bool)
		for i, c := range res.Cookies() {
			if c.MaxAge < 0 {
				deleted[fmt.Sprint(c.Name, " ", c.Domain, " ", c.Partitioned)] = true
				assert.True(t, set == 0 || i < len(res.Cookies())-1, "%s: before the new ones", path)
			} else {
				set--
			}
		}
		assert.Zero(t, set, path)
		for _, domain := range []string{"", "own.example", appHost} {
			for _, name := range []string{"DS", "DSR"} {
				assert.True(t, deleted[name+" "+domain+" false"], "%s: %s of %q", path, name, domain)
				assert.True(t, domain == "" && path == kittest.VerifyPath || deleted[name+" "+domain+" true"], "%s: %s of %q, partitioned", path, name, domain)
			}
		}
		assert.True(t, deleted["__Host-DSU  false"], path)
	}
}
