package descopehttp_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
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
func TestCookieVariants(t *testing.T) {
	for name, tt := range cookieVariants {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, tt.edit)
			res := guess(k, "192.0.2.7", ada, k.srv.Code(ada))
			require.Equal(t, http.StatusOK, res.StatusCode)
			set := cookiesOf(res)
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
			assert.Len(t, set, len(names))

			// A browser that has them, and with a Domain also those from before it
			// was configured, and cookies that are not ours.
			var before []*http.Cookie
			for _, name := range names {
				if tt.domain != "" {
					before = append(before, &http.Cookie{Name: name, Value: "old", Path: "/"})
				}
			}
			jar, u := jarOf(t, before, res.Cookies(), []*http.Cookie{{Name: "theme", Value: "dark", Path: "/"}})
			r := post("/v1/auth/logout", "{}")
			for _, c := range jar.Cookies(u) {
				r.AddCookie(c)
			}
			res = serve(k.Handler(), r)
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
			if tt.domain != "" {
				want *= 2
			}
			assert.Len(t, res.Cookies(), want)
			if want > 0 {
				assert.Contains(t, res.Header.Values("Vary"), "Cookie")
			}
		})
	}
}

// Every place that deletes cookies deletes them in all variants.
func TestDeletionsByTheMiddleware(t *testing.T) {
	for name, tt := range cookieVariants {
		if tt.refresh == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, tt.edit)
				k.srv.AddUser(descopetest.User{LoginID: "bob"})
				k.srv.Configure(func(s *descopetest.Settings) { s.RefreshTTL = time.Hour })
				tokens, other := k.srv.SignIn(ada), k.srv.SignIn("bob")
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
				scopes := 1
				if tt.domain != "" {
					scopes = 2
				}
				deleted := scopes
				if tt.session != "" {
					deleted *= 2
				}
				check := func(why string, res *http.Response) {
					t.Helper()
					assert.Equal(t, http.StatusUnauthorized, res.StatusCode, why)
					assert.Len(t, res.Cookies(), deleted, why)
					for _, c := range res.Cookies() {
						assert.Negative(t, c.MaxAge, why)
					}
				}
				h := k.RequireSession(new(spy))
				require.NoError(t, k.Ready(t.Context()))
				check("conflict", serve(h, cookies(get("/"), tokens.Session, tokens.Refresh, other.Refresh)))
				check("conflict in a flow", serve(k.Handler(), cookies(get("/v1/auth/me"), tokens.Session, tokens.Refresh, other.Refresh)))
				elapse(past)
				k.srv.LogOut(ada)
				assert.Empty(t, serve(h, cookies(get("/"), tokens.Session, tokens.Refresh)).Cookies(), "the first refusal")
				elapse(11 * time.Second)
				check("refused twice", serve(h, cookies(get("/"), tokens.Session, tokens.Refresh)))
				check("refused twice, in a flow", serve(k.Handler(), cookies(post(refreshPath, "{}"), tokens.Session, tokens.Refresh)))
				elapse(time.Hour)
				check("expired", serve(h, cookies(get("/"), tokens.Session, tokens.Refresh)))
				check("expired, in a flow", serve(k.Handler(), cookies(get("/v1/auth/me"), tokens.Session, tokens.Refresh)))
			})
		})
	}
}

// A session token that no browser would store is not set: the old cookie is
// deleted, so that it does not stay in its place, and the refresh cookie renews
// the session as often as needed.
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
				k := newKit(t)
				b := signIn(k, ada)
				// Make the token as long as asked for, to the byte where base64 allows.
				padding := 0
				k.srv.Configure(func(s *descopetest.Settings) {
					s.EditClaims = func(kind string, claims map[string]any) {
						if kind == "DS" {
							claims["pad"] = strings.Repeat("x", padding)
						}
					}
				})
				padding = (tt.size - len(sessionCookie) - len(k.srv.SignIn(ada).Session)) * 3 / 4
				for len(sessionCookie)+len(k.srv.SignIn(ada).Session) < tt.size-1 {
					padding++
				}
				elapse(past)
				res := b.do(k.RequireSession(new(spy)), get("/"))
				require.Equal(t, http.StatusOK, res.StatusCode)
				c := cookiesOf(res)[sessionCookie]
				require.NotNil(t, c)
				if tt.set {
					assert.LessOrEqual(t, len(c.Name)+len(c.Value), 4096)
					assert.Greater(t, len(c.Name)+len(c.Value), 4092)
					assert.NotContains(t, k.logs.String(), "too large")
					return
				}
				assert.Negative(t, c.MaxAge)
				assert.Empty(t, c.Value)
				assert.Contains(t, k.logs.String(), "JWT template")
				assert.NotContains(t, k.logs.String(), "xxxx")
				calls := k.srv.Requests(refreshPath)
				for range 5 {
					assert.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
					elapse(time.Second)
				}
				assert.Equal(t, calls, k.srv.Requests(refreshPath), "not one refresh for each request")
				elapse(past)
				assert.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)

				res = guess(k, "192.0.2.7", ada, k.srv.Code(ada))
				require.Equal(t, http.StatusOK, res.StatusCode)
				assert.Negative(t, cookiesOf(res)[sessionCookie].MaxAge, "on a sign-in as well")
				assert.Positive(t, cookiesOf(res)[refreshCookie].MaxAge)
			})
		})
	}
}

// A refresh cookie that somebody planted beside the owner's must not take its
// place: of two that claim the same user, the one that is genuine is used.
func TestPlantedRefreshCookie(t *testing.T) {
	for _, first := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHostile(t, func(c *descopehttp.Config) { c.Cookies.PlainNames = true })
			tokens := h.srv.SignIn(ada)
			subject := subjectOf(t, h.kit, tokens.Session)
			elapse(past)
			require.NoError(t, h.Ready(t.Context()))
			planted := segment(`{"alg":"RS256","kid":"SKinvented"}`) + "." + segment(claimsJSON(t, h.claims(map[string]any{
				"drn": "DSR", "sub": subject, "iat": time.Now().Add(time.Hour).Unix(), "exp": time.Now().Add(1000 * time.Hour).Unix(),
			}))) + "." + segment("forged")
			pairs := []string{"DSR=" + planted, "DSR=" + tokens.Refresh}
			if !first {
				pairs[0], pairs[1] = pairs[1], pairs[0]
			}
			r := get("/")
			r.Header.Set("Cookie", "DS="+tokens.Session+"; "+strings.Join(pairs, "; "))
			assert.Equal(t, http.StatusOK, serve(h.RequireSession(new(spy)), r).StatusCode)
		})
	}
}

// Of several sessions of one user the one that lasts longest counts, and of several
// refresh tokens the newest, in whatever order they come.
func TestBestOfSeveralCookies(t *testing.T) {
	h := newHostile(t)
	ends := func(d time.Duration) string { return h.with(map[string]any{"exp": time.Now().Add(d).Unix()}) }
	short, long, longest := ends(3*time.Minute), ends(5*time.Minute), ends(9*time.Minute)
	for _, order := range [][3]string{{short, long, longest}, {longest, long, short}, {long, longest, short}} {
		next := new(spy)
		r := get("/")
		r.Header.Set("Cookie", sessionCookie+"="+strings.Join(order[:], "; "+sessionCookie+"="))
		require.Equal(t, http.StatusOK, serve(h.RequireSession(next), r).StatusCode)
		s, ok := descopehttp.SessionFromContext(next.last().Context())
		require.True(t, ok)
		assert.Equal(t, longest, s.Token())
	}

	h.drn = "DSR"
	issued := func(ago time.Duration) string {
		return h.with(map[string]any{"iat": time.Now().Add(-ago).Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	}
	old, newer, newest := issued(3*time.Hour), issued(2*time.Hour), issued(time.Hour)
	for _, order := range [][3]string{{old, newer, newest}, {newest, newer, old}, {newer, newest, old}} {
		var sent string
		k := kitFor(t, h.srv, func(c *descopehttp.Config) {
			inner := c.HTTPClient.Transport
			c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == refreshPath {
					sent = r.Header.Get("Authorization")
				}
				return inner.RoundTrip(r)
			})}
		})
		require.NoError(t, k.Ready(t.Context()))
		r := get("/")
		r.Header.Set("Cookie", refreshCookie+"="+strings.Join(order[:], "; "+refreshCookie+"="))
		serve(k.RequireSession(new(spy)), r)
		assert.Equal(t, "Bearer "+h.srv.ProjectID()+":"+newest, sent)
	}
}

// The next handler finds the new session and no refresh token, however the names
// of the cookies were written.
func TestRenewedRequestCarriesNoRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, spelling := range []string{
			"%s=%s", " %s=%s", "%s =%s", "%s\t=%s", "%s=\"%s\"", "%s= %s", "%s=%s ",
		} {
			k := newKit(t)
			k.srv.Configure(rotating)
			tokens := k.srv.SignIn(ada)
			elapse(past)
			pair := func(name, value string) string {
				return strings.Replace(strings.Replace(spelling, "%s", name, 1), "%s", value, 1)
			}
			r := get("/")
			r.Header["Cookie"] = []string{
				"a=1; " + pair(sessionCookie, tokens.Session) + "; b=2",
				pair(refreshCookie, tokens.Refresh) + ";" + refreshCookie + "=" + tokens.Refresh,
			}
			next := new(spy)
			res := serve(k.RequireSession(next), r)
			require.Equal(t, http.StatusOK, res.StatusCode, "%q", spelling)
			seen := next.last()
			assert.Empty(t, seen.CookiesNamed(refreshCookie), "%q", spelling)
			sessions := seen.CookiesNamed(sessionCookie)
			if assert.Len(t, sessions, 1, "%q", spelling) {
				assert.Equal(t, cookiesOf(res)[sessionCookie].Value, sessions[0].Value)
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
func TestExpiredSessionNamesItsUserAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: "mallory"})
		session := k.srv.SignIn(ada).Session
		elapse(past)
		next := new(spy)
		res := serve(k.RequireSession(next), withCookies(get("/"), session, k.srv.SignIn("mallory").Refresh))
		requireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		assert.Zero(t, next.calls)
		assert.Zero(t, k.srv.Requests(refreshPath))
	})
}

// Nor may the order of two refresh cookies decide who somebody is, because no
// keys are held that could tell the planted one.
func TestTwoUsersConflictAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: "mallory"})
		own, planted := k.srv.SignIn(ada).Refresh, k.srv.SignIn("mallory").Refresh
		for _, pair := range [][2]string{{own, planted}, {planted, own}} {
			k := kitFor(t, k.srv)
			r := get("/")
			r.Header.Set("Cookie", refreshCookie+"="+pair[0]+"; "+refreshCookie+"="+pair[1])
			next := new(spy)
			requireProblem(t, serve(k.RequireSession(next), r), http.StatusUnauthorized, "conflicting_cookies")
			assert.Zero(t, next.calls)
		}
		assert.Zero(t, k.srv.Requests(refreshPath))
	})
}
