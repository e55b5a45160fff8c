package descopehttp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func TestPaths(t *testing.T) {
	k := kittest.New(t)
	tokens := k.Project.SignIn(kittest.Ada)
	whole, stripped := k.Handler(), http.StripPrefix("/auth", k.Handler())
	for _, tt := range []struct {
		handler http.Handler
		path    string
		ok      bool
	}{
		{whole, "/v1/auth/me", true},
		{whole, "//v1/auth/me", true}, // Descope's Go client, if its base URL ends in a slash
		{whole, "///v1/auth/me", true},
		{whole, "/auth/v1/auth/me", true},
		{whole, "/auth//v1/auth/me", true},
		{whole, "/v1/auth/v1/auth/me", true}, // mounted under a path that looks like a flow's
		{whole, "/a/b/c/v1/auth/me?x=/v1/auth/nothing", true},
		{whole, "/v1/auth/%6de", true},
		{stripped, "/auth/v1/auth/me", true},
		{stripped, "/auth//v1/auth/me", true},
		{whole, "/", false},
		{whole, "/v1/auth", false},
		{whole, "/v1/auth/", false},
		{whole, "/v1/auth/me/", false},
		{whole, "/v1/auth/me/x", false},
		{whole, "/v1/auth/ME", false},
		{whole, "/v1/auth/validate", false},
		{whole, "/v1/auth/me/../me", false},
		{whole, "/v1/auth//me", false},
		{whole, "/v1/mgmt/user", false},
		{whole, "/v2/keys/" + k.Project.ProjectID(), false},
		{whole, "/auth-v1/auth/me", false},
		{stripped, "/auth", false},
		{stripped, "/auth/", false},
	} {
		r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
		u, err := url.Parse("http://app.example" + tt.path)
		require.NoError(t, err)
		r.URL = u
		res := kittest.Serve(tt.handler, r)
		if tt.ok {
			assert.Equal(t, []any{kittest.Ada}, kittest.RequireOK(t, res)["loginIds"], tt.path)
		} else {
			kittest.RequireProblem(t, res, http.StatusNotFound, "not_found")
		}
	}
}

func TestSingleHandlers(t *testing.T) {
	k := kittest.New(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/join", k.ServeSignUp)
	mux.HandleFunc("/enter", k.ServeVerify)
	mux.HandleFunc("/new-key", k.ServeUpdate)
	mux.HandleFunc("/renew", k.ServeRefresh)
	mux.HandleFunc("/leave", k.ServeLogout)
	mux.HandleFunc("/leave-all", k.ServeLogoutAll)
	mux.HandleFunc("/who", k.ServeMe)
	kittest.RequireOK(t, kittest.Serve(mux, kittest.Post("/join", `{"loginId":"new"}`)))
	res := kittest.Serve(mux, kittest.Post("/enter", `{"loginId":"new","code":"`+k.Project.Code("new")+`"}`))
	kittest.RequireOK(t, res)
	cookies := kittest.CookiesOf(res)
	session, refresh := cookies[kittest.SessionCookie].Value, cookies[kittest.RefreshCookie].Value
	for _, r := range []*http.Request{
		kittest.Post("/new-key", `{"loginId":"new"}`), kittest.Post("/renew", `{}`), kittest.Get("/who"), kittest.Post("/leave", `{}`),
	} {
		kittest.RequireOK(t, kittest.Serve(mux, kittest.WithCookies(r, session, refresh)))
	}
	tokens := k.Project.SignIn(kittest.Ada)
	kittest.RequireOK(t, kittest.Serve(mux, kittest.WithCookies(kittest.Post("/leave-all", ``), tokens.Session, tokens.Refresh)))

	for path, method := range map[string]string{
		"/join": "POST", "/enter": "POST", "/new-key": "POST", "/renew": "POST", "/leave": "POST", "/leave-all": "POST", "/who": "GET",
	} {
		res := kittest.Serve(mux, httptest.NewRequest(http.MethodDelete, path, nil))
		kittest.RequireProblem(t, res, http.StatusMethodNotAllowed, "method_not_allowed")
		assert.Equal(t, method, res.Header.Get("Allow"))
	}
}

// Descope's clients parse every body, of errors too, and a redirect or a cached
// answer breaks them.
func TestEveryAnswerIsJSON(t *testing.T) {
	bodies := map[string]string{
		kittest.SignUpPath: `{"loginId":"new"}`, kittest.VerifyPath: `{"loginId":"` + kittest.Bob + `","code":"000000"}`, kittest.UpdatePath: `{"loginId":"` + kittest.Bob + `"}`,
		kittest.RefreshPath: ``, kittest.TryRefreshPath: ``, kittest.LogoutPath: ``, kittest.LogoutAllPath: `{}`, kittest.TenantsPath: `{}`, kittest.SelectPath: `{"tenant":"T2"}`,
		kittest.MePath: ``, kittest.HistoryPath: ``, "/v1/auth/nothing": `{}`, "/": ``,
	}
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
	for path, body := range bodies {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "X"} {
			for name, prepare := range map[string]func(*http.Request) *http.Request{
				"nobody": func(r *http.Request) *http.Request { return r },
				"signed in": func(r *http.Request) *http.Request {
					return kittest.WithCookies(r, "", k.Project.SignIn(kittest.Bob).Refresh)
				},
				"other project": func(r *http.Request) *http.Request { return kittest.InHeader(r, "P2other") },
			} {
				r := kittest.Post(path, body)
				r.Method = method
				res := kittest.Serve(k.Handler(), prepare(r))
				about := fmt.Sprintf("%s %s, %s: %d", method, path, name, res.StatusCode)
				assert.Contains(t, []string{"application/json", "application/problem+json"}, res.Header.Get("Content-Type"), about)
				assert.Equal(t, "no-store", res.Header.Get("Cache-Control"), about)
				assert.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"), about)
				assert.True(t, json.Valid(kittest.BodyOf(t, res)), about)
				assert.NotEqual(t, 3, res.StatusCode/100, about)
				assert.Less(t, res.StatusCode, 500, about)
				assert.Empty(t, res.Header.Get("Location"), about)
			}
		}
	}
}

// A flow is answered within nine seconds.
func TestFlowsEndInTime(t *testing.T) {
	for path, body := range map[string]string{kittest.MePath: "", kittest.SignUpPath: `{"loginId":"new"}`, kittest.VerifyPath: `{"loginId":"` + kittest.Ada + `","code":"000000"}`, kittest.LogoutPath: "{}"} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			tokens := k.Project.SignIn(kittest.Ada)
			require.NoError(t, k.Ready(t.Context()))
			k.Project.Fail(path, descopetest.Fault{Delay: time.Hour})
			r := kittest.Get(path)
			if body != "" {
				r = kittest.Post(path, body)
			}
			began := time.Now()
			res := kittest.Serve(k.Handler(), kittest.WithCookies(r, "", tokens.Refresh))
			assert.Equal(t, http.StatusGatewayTimeout, res.StatusCode, path)
			assert.Equal(t, 9*time.Second, time.Since(began), path)
		})
	}
}

// What the Authorization header of a flow may be.
//
// Rule: flows: Bearer names the project, or is a refresh token alone.
func TestFlowAuthorization(t *testing.T) {
	h := kittest.NewHostile(t)
	h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	project := h.Project.ProjectID()
	adas, bobs := h.Project.SignIn(kittest.Ada), h.Project.SignIn(kittest.Bob)
	dead := h.With(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Minute).Unix()})
	foreign := h.With(map[string]any{"drn": "DSR", "iss": "P2otherotherotherotherotherother"})
	forged := adas.Refresh[:len(adas.Refresh)-6] + "AAAAAA"
	require.NoError(t, h.Ready(t.Context()))

	for _, tt := range []struct {
		name          string
		authorization []string
		cookie        string // a refresh token
		want          string // login id of whom it is about, or code of the problem
	}{
		{"nothing", nil, "", "no_refresh_token"},
		{"cookie", nil, adas.Refresh, kittest.Ada},
		{"project", []string{"Bearer " + project}, "", "no_refresh_token"},
		{"project, cookie", []string{"Bearer " + project}, adas.Refresh, kittest.Ada},
		{"project and a colon, cookie", []string{"Bearer " + project + ":"}, adas.Refresh, kittest.Ada},
		{"project and token", []string{"Bearer " + project + ":" + adas.Refresh}, "", kittest.Ada},
		{"scheme in lower case", []string{"bearer " + project + ":" + adas.Refresh}, "", kittest.Ada},
		{"project, token and key", []string{"Bearer " + project + ":" + adas.Refresh + ":K2key"}, "", kittest.Ada},
		{"project and key", []string{"Bearer " + project + ":K2key"}, "", "no_refresh_token"},
		{"project and key, cookie", []string{"Bearer " + project + ":K2key"}, adas.Refresh, kittest.Ada},
		{"the header beats the cookie", []string{"Bearer " + project + ":" + bobs.Refresh}, adas.Refresh, kittest.Bob},
		{"dead token in the header, good cookie", []string{"Bearer " + project + ":" + dead}, adas.Refresh, "invalid_refresh_token"},
		{"forged token", []string{"Bearer " + project + ":" + forged}, "", "invalid_refresh_token"},
		{"forged cookie", nil, forged, "no_refresh_token"},
		{"session token for the refresh token", []string{"Bearer " + project + ":" + adas.Session}, "", "invalid_refresh_token"},
		{"session token in the refresh cookie", nil, adas.Session, "no_refresh_token"},
		{"session token as bearer", []string{"Bearer " + adas.Session}, adas.Refresh, "foreign_project"},
		{"refresh token as bearer", []string{"Bearer " + adas.Refresh}, adas.Refresh, kittest.Ada},
		{"dead token alone, good cookie", []string{"Bearer " + dead}, adas.Refresh, "invalid_refresh_token"},
		{"forged token alone, good cookie", []string{"Bearer " + forged}, adas.Refresh, "invalid_refresh_token"},
		{"another project's token alone, good cookie", []string{"Bearer " + foreign}, adas.Refresh, "invalid_refresh_token"},
		{"another project's token", []string{"Bearer " + project + ":" + foreign}, "", "invalid_refresh_token"},
		{"another project", []string{"Bearer P2otherotherotherotherotherother:" + adas.Refresh}, adas.Refresh, "foreign_project"},
		{"our id and more", []string{"Bearer " + project + "x:" + adas.Refresh}, adas.Refresh, "foreign_project"},
		{"id in another case", []string{"Bearer " + strings.ToLower(project)}, adas.Refresh, "foreign_project"},
		{"four parts", []string{"Bearer " + project + ":" + adas.Refresh + ":K2key:x"}, "", "foreign_project"},
		{"empty bearer", []string{"Bearer "}, adas.Refresh, "foreign_project"},
		{"two headers", []string{"Bearer " + project, "Bearer " + project + ":" + adas.Refresh}, "", "invalid_token"},
		{"DPoP", []string{"DPoP " + project + ":" + adas.Refresh}, adas.Refresh, "invalid_token"},
		{"basic, for a proxy in front", []string{"Basic YTpi"}, adas.Refresh, kittest.Ada},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []*http.Request{kittest.Get(kittest.MePath), kittest.Post(kittest.RefreshPath, "")} {
				h.Project.Reset()
				r.Header["Authorization"] = tt.authorization
				res := kittest.Serve(h.Handler(), kittest.WithCookies(r, "", tt.cookie))
				if !strings.Contains(tt.want, "@") {
					kittest.RequireProblem(t, res, http.StatusUnauthorized, tt.want)
					assert.NotEmpty(t, res.Header.Get("WWW-Authenticate"))
					assert.Zero(t, h.Project.Requests(""), "it is judged before Descope hears of it")
					continue
				}
				user := kittest.RequireOK(t, res)
				if r.URL.Path == kittest.RefreshPath {
					user, _ = user["user"].(map[string]any)
				}
				assert.Equal(t, []any{tt.want}, user["loginIds"])
			}
		})
	}
}

// A client's management key is a mistake of its own; ours goes along with every
// call.
//
// Rule: cookies: against a client that brings a management key: dropped; ours is added.
func TestManagementKey(t *testing.T) {
	for _, ours := range []string{"", "K2ours"} {
		for _, theirs := range []string{"", "K2theirs", "K2theirs.with.dots"} {
			t.Run(fmt.Sprintf("ours=%q, theirs=%q", ours, theirs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tap := new(kittest.Wiretap)
					k := kittest.New(t, tap.Config, func(c *descopehttp.Config) { c.AuthManagementKey = descopehttp.NewSecret(ours) })
					k.Project.AddUser(descopetest.User{LoginID: kittest.Bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
					k.Project.Configure(func(s *descopetest.Settings) { s.AuthManagementKey = ours })
					project, refresh := k.Project.ProjectID(), k.Project.SignIn(kittest.Bob).Refresh
					call := func(r *http.Request, refresh string) {
						t.Helper()
						join := func(parts ...string) string {
							s := project
							for _, part := range parts {
								if part != "" {
									s += ":" + part
								}
							}
							return s
						}
						tap.Forget()
						require.Equal(t, http.StatusOK, kittest.Serve(k.Handler(), kittest.WithBearer(r, join(refresh, theirs))).StatusCode)
						require.NotEmpty(t, tap.Calls())
						for _, c := range tap.Calls() {
							assert.Equal(t, "Bearer "+join(refresh, ours), c.Authorization, c.Path)
							assert.NotContains(t, fmt.Sprint(c.Header)+c.Body, "K2theirs")
						}
					}
					call(kittest.Post(kittest.SignUpPath, `{"loginId":"new"}`), "")
					call(kittest.Post(kittest.VerifyPath, `{"loginId":"new","code":"`+k.Project.Code("new")+`"}`), "")
					call(kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Bob+`","code":"`+k.Project.Code(kittest.Bob)+`","loginOptions":{"mfa":true}}`), k.Project.SignIn(kittest.Bob).Refresh)
					call(kittest.Post(kittest.RefreshPath, ``), refresh)
					call(kittest.Get(kittest.MePath), refresh)
					call(kittest.Get(kittest.HistoryPath), refresh)
					call(kittest.Post(kittest.TenantsPath, `{}`), refresh)
					call(kittest.Post(kittest.UpdatePath, `{"loginId":"`+kittest.Bob+`"}`), refresh)
					call(kittest.Post(kittest.SelectPath, `{"tenant":"T2"}`), k.Project.SignIn(kittest.Bob).Refresh)
					call(kittest.Post(kittest.LogoutPath, `{}`), k.Project.SignIn(kittest.Bob).Refresh)
				})
			})
		}
	}
}

// Members that this package has never heard of reach the client as they came.
func TestAnswersKeepWhatIsUnknown(t *testing.T) {
	tap := &kittest.Wiretap{Edit: func(path string, body []byte) []byte {
		if !strings.HasPrefix(path, "/v1/") {
			return body
		}
		return bytes.Replace(body, []byte("{"), []byte(`{"zz":12345678901234567890,"new":{"b":[1.50,null],"a":"\u00e9"},`), 1)
	}}
	k := kittest.New(t, tap.Config)
	tokens := k.Project.SignIn(kittest.Ada)
	for path, body := range map[string]string{
		kittest.SignUpPath:     `{"loginId":"new"}`,
		kittest.VerifyPath:     `{"loginId":"` + kittest.Ada + `","code":"` + k.Project.Code(kittest.Ada) + `"}`,
		kittest.UpdatePath:     `{"loginId":"` + kittest.Ada + `"}`,
		kittest.RefreshPath:    `{}`,
		kittest.TryRefreshPath: `{}`,
		kittest.MePath:         "",
		kittest.TenantsPath:    `{}`,
	} {
		r := kittest.Post(path, body)
		if path == kittest.MePath {
			r = kittest.Get(path)
		}
		res := kittest.Serve(k.Handler(), kittest.WithCookies(r, tokens.Session, tokens.Refresh))
		answer := kittest.RequireOK(t, res)
		raw := string(kittest.BodyOf(t, res))
		assert.True(t, strings.HasPrefix(raw, `{"zz":12345678901234567890,"new":{`), "%s: %s", path, raw)
		assert.Contains(t, raw, `1.50`, path)
		assert.Equal(t, map[string]any{"b": []any{1.5, nil}, "a": "é"}, answer["new"], path)
	}
}

// Of Descope's headers none is the client's business; its cookies would go past
// the policy, and its caching rules are about other answers.
//
// Rule: answers: against headers of an answer that reach the browser: dropped but for
// Retry-After.
func TestHeadersOfDescopeStayHere(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config)
	tokens := k.Project.SignIn(kittest.Ada)
	answers := map[string]string{kittest.MePath: `{"userId":"U"}`, kittest.RefreshPath: `{"sessionJwt":"` + tokens.Session + `","refreshJwt":""}`}
	tap.AnswerWith(func(r *http.Request) *http.Response {
		body, ok := answers[r.URL.Path]
		if !ok {
			return nil
		}
		res := kittest.JSONAnswer(http.StatusOK, body)
		res.Header["Set-Cookie"] = []string{"tracker=1; Path=/", "DTD=x", "DSR="}
		res.Header.Set("X-Upstream", "1")
		res.Header.Set("Access-Control-Allow-Origin", "*")
		res.Header.Set("Cache-Control", "public, max-age=60")
		res.Header.Set("Retry-After", "7")
		return res
	})
	for _, r := range []*http.Request{kittest.Get(kittest.MePath), kittest.Post(kittest.RefreshPath, "")} {
		res := kittest.Serve(k.Handler(), kittest.WithCookies(r, "", tokens.Refresh))
		kittest.RequireOK(t, res)
		for _, name := range []string{"X-Upstream", "Access-Control-Allow-Origin", "Retry-After"} {
			assert.Empty(t, res.Header.Get(name), name)
		}
		for name := range kittest.CookiesOf(res) {
			assert.Equal(t, kittest.SessionCookie, name)
		}
	}
}

// Another site's page can send a POST with this user's cookies, and a sign-in of
// its own. Neither may have any effect, and not even a cookie may be deleted.
//
// Rule: cookies: against a request that another site's page sends with this user's cookies:
// `http.CrossOriginProtection` before anything else, for every flow and every unsafe method.
// Rule: flows: cross-origin flows: 403.
func TestCrossOriginFlows(t *testing.T) {
	const trusted = "https://partner.example"
	headers := []struct {
		name, site, origin string
		ok                 bool
	}{
		{"cross-site", "cross-site", "https://evil.example", false},
		{"cross-site without an origin", "cross-site", "", false},
		{"subdomain", "same-site", "https://evil.app.example", false},
		{"unknown value", "something", "", false},
		{"old browser", "", "https://evil.example", false},
		{"old browser, opaque", "", "null", false},
		{"old browser, other port", "", "https://app.example:8443", false},
		{"old browser, a name that begins alike", "", "https://app.example.evil.example", false},
		{"another origin of the partner's", "cross-site", trusted + ":8443", false},
		{"same origin", "same-origin", "https://app.example", true},
		{"typed", "none", "", true},
		{"old browser, same origin", "", "https://app.example", true},
		{"partner", "cross-site", trusted, true},
		{"no browser", "", "", true},
	}
	for _, c := range kittest.Flows {
		for _, tt := range headers {
			tap := new(kittest.Wiretap)
			k := kittest.NewForFlows(t, tap, func(c *descopehttp.Config) { c.TrustedOrigins = []string{trusted} })
			for _, credential := range []string{"cookie", "header"} {
				tokens := k.Project.SignIn(kittest.Bob)
				r := c.Request(k, tokens)
				r.Host = "app.example"
				if credential == "header" {
					r.Header.Del("Cookie")
					kittest.InHeader(r, k.Project.ProjectID(), tokens.Refresh)
				}
				for name, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Origin": tt.origin} {
					if value != "" {
						r.Header.Set(name, value)
					}
				}
				about := fmt.Sprintf("%s, %s, %s", c.Path, tt.name, credential)
				res := kittest.Serve(k.Handler(), r)
				if !tt.ok && r.Method != http.MethodGet {
					kittest.RequireProblem(t, res, http.StatusForbidden, "cross_origin")
					assert.Empty(t, res.Cookies(), about)
					assert.Empty(t, tap.Paths(), about)
					continue
				}
				assert.Equal(t, http.StatusOK, res.StatusCode, about)
				if c.Upstream == kittest.VerifyPath {
					break // a code works once
				}
			}
		}
	}
}

// What a user plugged in may panic, with anything in its text.
func TestPanicInAFlow(t *testing.T) {
	for name, value := range map[string]any{
		"string": "secret-in-panic", "error": errors.New("secret-in-panic"), "struct": struct{ A string }{"secret-in-panic"},
		"runtime error": nil,
	} {
		tap := new(kittest.Wiretap)
		k := kittest.NewForFlows(t, tap, func(c *descopehttp.Config) {
			c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
				if name == "runtime error" {
					_ = options["secret-in-panic"].(func())
				}
				panic(value)
			}
		})
		tokens := k.Project.SignIn(kittest.Bob)
		for _, c := range kittest.Flows {
			if c.Upstream != kittest.VerifyPath {
				continue
			}
			res := kittest.Serve(k.Handler(), c.Request(k, tokens))
			assert.NotContains(t, string(kittest.BodyOf(t, res)), "secret-in-panic", name)
			kittest.RequireProblem(t, res, http.StatusInternalServerError, "internal")
			assert.Empty(t, res.Cookies(), name)
		}
		assert.Empty(t, tap.Paths(), name)
		assert.Contains(t, k.Logs.String(), "panicked", "an operator has to know")
		assert.Contains(t, k.Logs.String(), "routes_test.go", "and where")
		assert.NotContains(t, k.Logs.String(), "secret-in-panic", name)
	}
}

// http.ErrAbortHandler is how a handler asks the server to drop the connection.
func TestAbortInAFlow(t *testing.T) {
	k := kittest.NewForFlows(t, new(kittest.Wiretap), func(c *descopehttp.Config) {
		c.LoginOptions = func(*http.Request, string, map[string]any) error { panic(http.ErrAbortHandler) }
	})
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
		kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Bob+`","code":"123456"}`))
	})
}

// Native pages, from a file or in a web view, have no origin: without cookies that is no
// matter. The flows take the refresh token alone, over real HTTP.
func TestNativePages(t *testing.T) {
	for delivery, ok := range map[descopehttp.Delivery]bool{descopehttp.InBody: true, descopehttp.InCookies: false, descopehttp.SessionInBody: false} {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Tokens = delivery })
		k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
		call := func(method, path, body string, header ...string) *http.Response {
			header = append(header, "Content-Type", "application/json")
			srv := httptest.NewServer(k.Handler())
			defer srv.Close()
			r, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
			require.NoError(t, err)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			res.Body = io.NopCloser(bytes.NewReader(kittest.BodyOf(t, res)))
			return res
		}
		signIn := `{"loginId":"` + kittest.Ada + `","code":"` + k.Project.Code(kittest.Ada) + `"}`
		for _, from := range [][]string{{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}, {"Origin", "file://"}, {"Origin", "capacitor://localhost"}} {
			res := call(http.MethodPost, kittest.VerifyPath, signIn, from...)
			if !ok {
				kittest.RequireProblem(t, res, http.StatusForbidden, "cross_origin")
				assert.Regexp(t, `level=WARN .*TrustedOrigins" event=cross_origin`, k.Logs.String())
				assert.Equal(t, 1, strings.Count(k.Logs.String(), "event=cross_origin"), "once a minute")
				continue
			}
			assert.NotEmpty(t, kittest.RequireOK(t, res)["refreshJwt"], from)
			assert.Empty(t, res.Cookies())
		}

		tokens := k.Project.SignIn(kittest.Ada)
		if ok {
			cookies := fmt.Sprintf("%[1]s=%[3]s; DS=%[3]s; %[2]s=%[4]s; DSR=%[4]s", kittest.SessionCookie, kittest.RefreshCookie, tokens.Session, tokens.Refresh)
			kittest.RequireProblem(t, call(http.MethodPost, kittest.RefreshPath, "", "Cookie", cookies, "Origin", "null"), http.StatusUnauthorized, "no_refresh_token")
		}
		bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
		kittest.RequireOK(t, call(http.MethodGet, kittest.MePath, "", bearer(tokens.Refresh)...))
		kittest.RequireOK(t, call(http.MethodPost, kittest.RefreshPath, "", bearer(tokens.Refresh)...))
		for _, wrong := range []string{tokens.Session, tokens.Refresh + ":x", "x.y.z", kittest.New(t).Project.SignIn(kittest.Ada).Session} {
			kittest.RequireProblem(t, call(http.MethodPost, kittest.LogoutPath, "{}", bearer(wrong)...), http.StatusUnauthorized, "foreign_project")
		}
		kittest.RequireProblem(t, call(http.MethodGet, kittest.MePath, "", bearer(tokens.Refresh[:len(tokens.Refresh)-8]+"AAAAAAAA")...), http.StatusUnauthorized, "invalid_refresh_token")
		kittest.RequireOK(t, call(http.MethodPost, kittest.LogoutPath, "{}", bearer(tokens.Refresh)...))
		assert.False(t, k.Project.Honours(tokens.Refresh))
	}
}

// Descope puts a backend SDK into another class of limits than it does an unknown client,
// and its edge turns away who does not say who it is.
func TestEveryCallSaysWhoWeAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		paths := make(map[string]bool)
		tap := &kittest.Wiretap{Answer: func(r *http.Request) *http.Response {
			mu.Lock()
			defer mu.Unlock()
			paths[r.URL.Path] = true
			assert.Equal(t, "descopehttp", r.Header.Get("X-Descope-SDK-Name"), r.URL.Path)
			assert.Regexp(t, `^\d+\.\d+\.\d+$`, r.Header.Get("X-Descope-SDK-Version"), r.URL.Path)
			assert.Equal(t, "descopehttp/"+r.Header.Get("X-Descope-SDK-Version"), r.Header.Get("User-Agent"), r.URL.Path)
			return nil
		}}
		k := kittest.New(t, tap.Config)
		kittest.RequireOK(t, kittest.Serve(k.Handler(), kittest.Post(kittest.SignUpPath, `{"loginId":"new@example.com"}`)))
		var b kittest.Browser
		b.Keep(kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)))
		for _, r := range []*http.Request{kittest.Post(kittest.RefreshPath, ""), kittest.Get(kittest.MePath), kittest.Post(kittest.LogoutPath, "")} {
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), r).StatusCode, r.URL.Path)
		}
		for _, path := range []string{kittest.SignUpPath, kittest.VerifyPath, kittest.RefreshPath, kittest.MePath, kittest.LogoutPath, kittest.KeysPath + "/" + k.Project.ProjectID()} {
			assert.True(t, paths[path], path)
		}
	})
}
