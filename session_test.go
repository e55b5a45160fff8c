package descopehttp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// codeStep is the life of a code; after it, the next one is another.
const codeStep = 31 * time.Second

func expiryOf(t testing.TB, token string) time.Time {
	t.Helper()
	exp, ok := kittest.ClaimsOf(t, token)["exp"].(float64)
	require.True(t, ok)
	return time.Unix(int64(exp), 0)
}

// codeFor computes a code as an authenticator app does.
func codeFor(t testing.TB, key string) string {
	t.Helper()
	code, err := totp.GenerateCode(key, time.Now())
	require.NoError(t, err)
	return code
}

// An app is what a user of the kit builds: the flows under a prefix and a page
// that needs a session.
type app struct {
	*kittest.Kit
	delivery descopehttp.Delivery
	handler  http.Handler
	flows    string // the prefix of the flows
}

// visit returns a visitor who reaches the application without a socket, so that
// it works in a synctest bubble.
func (a *app) visit(t testing.TB) *visitor {
	transport := kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
		in := httptest.NewRequest(r.Method, r.URL.String(), r.Body)
		in.Header = r.Header.Clone()
		res := kittest.Serve(a.handler, in.WithContext(r.Context()))
		res.Request = r
		return res, nil
	})
	return a.visitWith(t, "https://app.example", &http.Client{Transport: transport})
}

func (a *app) visitWith(t testing.TB, base string, client *http.Client) *visitor {
	t.Helper()
	u, err := url.Parse(base)
	require.NoError(t, err)
	client.Jar, err = cookiejar.New(nil)
	require.NoError(t, err)
	client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		return errors.New("redirected to " + r.URL.String())
	}
	return &visitor{app: a, t: t, client: client, base: u}
}

const pagePath = "/app/page"

// A pageView is what the page says of its own request.
type pageView struct {
	Subject    string
	SetCookies int      // cookies that the answer sets already when the page begins
	Cookies    []string // names of the cookies that the page sees
	Session    string   // the session cookie that the page sees
}

func newApp(k *kittest.Kit, delivery descopehttp.Delivery, prefix string, strip bool) *app {
	mux := http.NewServeMux()
	flows := k.Handler()
	if strip {
		flows = http.StripPrefix(prefix, flows)
	}
	mux.Handle(prefix+"/", flows)
	mux.Handle("/app/", k.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := descopehttp.SessionFromContext(r.Context())
		view := pageView{Subject: s.Subject(), SetCookies: len(w.Header()["Set-Cookie"])}
		for _, c := range r.Cookies() {
			view.Cookies = append(view.Cookies, c.Name)
			if strings.HasSuffix(c.Name, "DS") {
				view.Session = c.Value
			}
		}
		_ = json.NewEncoder(w).Encode(view)
	})))
	return &app{Kit: k, delivery: delivery, handler: mux, flows: prefix}
}

// A visitor is a browser, or a native client, that begins with nothing. It keeps
// cookies as a browser does and tokens as its delivery says.
type visitor struct {
	*app
	t      testing.TB
	client *http.Client
	base   *url.URL

	session, refresh string // what bodies brought
}

// send sends what a page of the same origin would.
func (v *visitor) send(method, path, authorization, body string) *http.Response {
	v.t.Helper()
	r, err := http.NewRequest(method, v.base.String()+path, strings.NewReader(body))
	require.NoError(v.t, err)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", v.base.String())
	}
	if authorization != "" {
		r.Header.Set("Authorization", "Bearer "+authorization)
	}
	res, err := v.client.Do(r)
	require.NoError(v.t, err)
	stream := res.Body
	kittest.BodyOf(v.t, res)
	require.NoError(v.t, stream.Close())
	v.checkCookies(res)
	return res
}

// flow calls a flow the way Descope's clients do: the project's id and, where
// the client holds it, the refresh token.
func (v *visitor) flow(method, path, body string) *http.Response {
	v.t.Helper()
	authorization := v.Project.ProjectID()
	if v.refresh != "" {
		authorization += ":" + v.refresh
	}
	res := v.send(method, v.flows+path, authorization, body)
	require.Equal(v.t, "no-store", res.Header.Get("Cache-Control"))
	return res
}

func (v *visitor) page() (*http.Response, pageView) {
	v.t.Helper()
	res := v.send(http.MethodGet, pagePath, v.session, "")
	var view pageView
	if res.StatusCode == http.StatusOK {
		require.NoError(v.t, json.Unmarshal(kittest.BodyOf(v.t, res), &view))
	}
	return res, view
}

// cookie returns the value of the cookie DS or DSR, whatever the policy's name
// for it.
func (v *visitor) cookie(name string) string {
	for _, c := range v.client.Jar.Cookies(v.base) {
		if strings.TrimPrefix(c.Name, "__Host-") == name {
			return c.Value
		}
	}
	return ""
}

// currentSession and currentRefresh return the tokens, wherever this visitor
// holds them.
func (v *visitor) currentSession() string {
	if v.delivery == descopehttp.InCookies {
		return v.cookie("DS")
	}
	return v.session
}

func (v *visitor) currentRefresh() string {
	if v.delivery == descopehttp.InBody {
		return v.refresh
	}
	return v.cookie("DSR")
}

// checkCookies holds every cookie that reaches the browser to the policy. The
// jar holds them by now.
func (v *visitor) checkCookies(res *http.Response) {
	v.t.Helper()
	secure, prefix := v.base.Scheme == "https", ""
	if secure {
		prefix = "__Host-"
	}
	allowed := map[descopehttp.Delivery][]string{
		descopehttp.InCookies:     {prefix + "DS", prefix + "DSR"},
		descopehttp.SessionInBody: {prefix + "DSR"},
		descopehttp.InBody:        {},
	}[v.delivery]
	for _, c := range res.Cookies() {
		assert.Contains(v.t, allowed, c.Name)
		assert.True(v.t, c.HttpOnly, c.Name)
		assert.Equal(v.t, secure, c.Secure, c.Name)
		assert.Equal(v.t, http.SameSiteLaxMode, c.SameSite, c.Name)
		assert.Equal(v.t, "/", c.Path, c.Name)
		assert.Empty(v.t, c.Domain, c.Name)
		assert.NotZero(v.t, c.MaxAge, "%s would end with the browser", c.Name)
		assert.Equal(v.t, "no-store", res.Header.Get("Cache-Control"))
		assert.Contains(v.t, res.Header.Values("Vary"), "Cookie, Authorization")
		if c.MaxAge > 0 {
			left := time.Until(expiryOf(v.t, v.cookie("DSR")))
			assert.LessOrEqual(v.t, c.MaxAge, int((left+time.Second)/time.Second), "%s outlives the refresh token", c.Name)
			assert.GreaterOrEqual(v.t, c.MaxAge, int((left-30*time.Second)/time.Second), "%s ends before the refresh token", c.Name)
		}
	}
}

// take takes the tokens out of an answer as this kind of client does, and checks
// that they are where the delivery says and nowhere else. withRefresh tells
// whether the answer must bring a refresh token.
func (v *visitor) take(res *http.Response, withRefresh bool) {
	v.t.Helper()
	body := kittest.RequireOK(v.t, res)
	session, _ := body["sessionJwt"].(string)
	refresh, _ := body["refreshJwt"].(string)
	set := kittest.CookiesOf(res)
	switch v.delivery {
	case descopehttp.InCookies:
		assert.Equal(v.t, "", body["sessionJwt"])
		assert.Equal(v.t, "", body["refreshJwt"])
		assert.Contains(v.t, set, kittest.SessionCookie)
		assert.Equal(v.t, withRefresh, set[kittest.RefreshCookie] != nil)
		if withRefresh {
			assert.Equal(v.t, set[kittest.RefreshCookie].MaxAge, set[kittest.SessionCookie].MaxAge)
		}
	case descopehttp.SessionInBody:
		assert.Equal(v.t, "", body["refreshJwt"])
		assert.Equal(v.t, withRefresh, set[kittest.RefreshCookie] != nil)
		v.session = session
	case descopehttp.InBody:
		assert.Equal(v.t, withRefresh, refresh != "")
		v.session = session
		if refresh != "" {
			v.refresh = refresh
		}
	}
	assert.Equal(v.t, "DS", kittest.ClaimsOf(v.t, v.currentSession())["drn"])
	assert.Equal(v.t, "DSR", kittest.ClaimsOf(v.t, v.currentRefresh())["drn"])
	assert.EqualValues(v.t, expiryOf(v.t, v.currentSession()).Unix(), body["sessionExpiration"], "clients plan the next refresh by it")
	raw := string(kittest.BodyOf(v.t, res))
	for _, name := range []string{"TOTP", "SAML", "OAuth", "SCIM", "OIDC"} {
		assert.Contains(v.t, raw, `"`+name+`":`, "clients read the user's members in this case")
	}
	for _, c := range v.client.Jar.Cookies(v.base) {
		assert.NotContains(v.t, raw, c.Value, "scripts must not see what an HttpOnly cookie holds")
	}
}

// signUp signs up and verifies the first code, computed from the key as an
// authenticator app does, and returns the key.
func (v *visitor) signUp(loginID string) (key string) {
	v.t.Helper()
	answer := kittest.RequireOK(v.t, v.flow(http.MethodPost, kittest.SignUpPath, `{"loginId":"`+loginID+`","user":{"name":"New"}}`))
	key, _ = answer["key"].(string)
	require.NotEmpty(v.t, key)
	provisioning, _ := answer["provisioningURL"].(string)
	fromURL, err := otp.NewKeyFromURL(provisioning)
	require.NoError(v.t, err)
	assert.Equal(v.t, key, fromURL.Secret())
	encoded, _ := answer["image"].(string)
	image, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(v.t, err)
	_, err = png.Decode(bytes.NewReader(image))
	require.NoError(v.t, err)

	v.take(v.flow(http.MethodPost, kittest.VerifyPath, `{"loginId":"`+loginID+`","code":"`+codeFor(v.t, key)+`"}`), true)
	return key
}

// From an empty cookie jar to the logout, over real connections. The session
// "expires" by being exchanged for one that has, so that nothing has to wait.
func TestSessionLifeOverHTTP(t *testing.T) {
	insecure := func(c *descopehttp.Config) { c.Cookies.InsecureHTTP = true }
	secure := func(*descopehttp.Config) {}
	for _, tt := range []struct {
		name, prefix string
		strip        bool
		server       func(http.Handler) *httptest.Server
		edit         func(*descopehttp.Config)
	}{
		{"TLS, prefix stripped", "/auth", true, httptest.NewTLSServer, secure},
		{"TLS, prefix kept", "/api/2/auth", false, httptest.NewTLSServer, secure},
		{"TLS, at the root", "", false, httptest.NewTLSServer, secure},
		{"plain, prefix stripped", "/auth", true, httptest.NewServer, insecure},
		{"plain, prefix kept", "/api/2/auth", false, httptest.NewServer, insecure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := kittest.New(t, tt.edit)
			a := newApp(k, descopehttp.InCookies, tt.prefix, tt.strip)
			server := tt.server(a.handler)
			t.Cleanup(server.Close)
			v := a.visitWith(t, server.URL, server.Client())

			res, _ := v.page()
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_session")
			answer := kittest.RequireOK(t, v.flow(http.MethodPost, kittest.SignUpPath, `{"loginId":"new@example.com"}`))
			key, _ := answer["key"].(string)
			kittest.RequireOK(t, v.flow(http.MethodPost, kittest.VerifyPath, `{"loginId":"new@example.com","code":"`+codeFor(t, key)+`"}`))
			res, view := v.page()
			require.Equal(t, http.StatusOK, res.StatusCode)
			user := view.Subject
			require.NotEmpty(t, user)
			assert.Empty(t, res.Cookies(), "nothing is set anew while the session is good")

			claims := k.Project.SessionClaims("new@example.com")
			claims["exp"] = time.Now().Add(-time.Minute).Unix()
			old := k.Project.Sign(nil, claims)
			for _, c := range v.client.Jar.Cookies(v.base) {
				if strings.HasSuffix(c.Name, "DS") {
					v.client.Jar.SetCookies(v.base, []*http.Cookie{{Name: c.Name, Value: old, Path: "/", Secure: v.base.Scheme == "https"}})
				}
			}
			require.Equal(t, old, v.cookie("DS"))
			res, view = v.page()
			require.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, user, view.Subject)
			assert.NotZero(t, view.SetCookies, "cookies are set before the page runs")
			assert.NotEqual(t, old, v.cookie("DS"))
			assert.Equal(t, v.cookie("DS"), view.Session, "the page sees the new session")

			refresh := v.cookie("DSR")
			kittest.RequireOK(t, v.flow(http.MethodPost, kittest.LogoutPath, `{}`))
			assert.Empty(t, v.client.Jar.Cookies(v.base))
			res, _ = v.page()
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_session")
			v.refresh = refresh
			kittest.RequireProblem(t, v.flow(http.MethodPost, kittest.RefreshPath, `{}`), http.StatusUnauthorized, "session_ended")
			assert.False(t, k.Project.Honours(refresh))
		})
	}
}

// The whole life of a session, for every way in which a project can deliver and
// rotate tokens and every way in which the kit hands them on.
func TestSessionLife(t *testing.T) {
	for name, delivery := range map[string]descopehttp.Delivery{
		"InCookies": descopehttp.InCookies, "SessionInBody": descopehttp.SessionInBody, "InBody": descopehttp.InBody,
	} {
		for _, rotate := range []bool{false, true} {
			for _, cookies := range []bool{false, true} {
				for _, strip := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, rotate=%v, cookies=%v, strip=%v", name, rotate, cookies, strip), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							k := kittest.New(t, func(c *descopehttp.Config) { c.Tokens = delivery })
							k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.TokensInCookies = rotate, cookies })
							lifeOfASession(newApp(k, delivery, "/deep/auth", strip).visit(t), rotate)
							require.NoError(t, k.Wait(t.Context()))
						})
					})
				}
			}
		}
	}
}

func lifeOfASession(v *visitor, rotate bool) {
	t := v.t
	res, _ := v.page()
	kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_session")

	key := v.signUp("new@example.com")
	res, view := v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)
	user := view.Subject
	require.NotEmpty(t, user)
	assert.Empty(t, res.Cookies())

	// The session expires. Cookies are renewed on the way to the page; a client
	// that holds its token itself is told, and refreshes.
	kittest.Elapse(kittest.Past)
	firstSession, firstRefresh := v.currentSession(), v.currentRefresh()
	if v.delivery != descopehttp.InCookies {
		res, _ = v.page()
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_expired")
		assert.Empty(t, res.Cookies())
		v.take(v.flow(http.MethodPost, kittest.RefreshPath, `{}`), rotate)
	}
	res, view = v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, user, view.Subject)
	assert.NotEqual(t, firstSession, v.currentSession())
	if v.delivery == descopehttp.InCookies {
		assert.Equal(t, rotate, kittest.CookiesOf(res)[kittest.RefreshCookie] != nil)
		assert.Equal(t, len(res.Cookies()), view.SetCookies, "all are set before the page runs")
		assert.NotZero(t, view.SetCookies)
		assert.Equal(t, v.cookie("DS"), view.Session, "the page sees the new session")
		assert.NotContains(t, view.Cookies, kittest.RefreshCookie, "the page must not spend the refresh token again")
		res, view = v.page()
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Zero(t, view.SetCookies)
	}
	assert.Equal(t, rotate, firstRefresh != v.currentRefresh())
	assert.Equal(t, !rotate, v.Project.Honours(firstRefresh))
	assert.True(t, v.Project.Honours(v.currentRefresh()))

	// The same at the client's own request.
	kittest.Elapse(kittest.Past)
	v.take(v.flow(http.MethodPost, kittest.RefreshPath, ``), rotate) // Descope's Go client sends no body
	kittest.Elapse(kittest.Past)
	v.take(v.flow(http.MethodPost, kittest.TryRefreshPath+"?dcs=t&dcr=t", `{"externalToken":""}`), rotate)
	res, _ = v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)

	res = v.flow(http.MethodGet, kittest.MePath, "")
	me := kittest.RequireOK(t, res)
	assert.Equal(t, user, me["userId"])
	assert.Equal(t, []any{"new@example.com"}, me["loginIds"])
	assert.Contains(t, string(kittest.BodyOf(t, res)), `"TOTP":true`)

	last := v.currentRefresh()
	kittest.RequireOK(t, v.flow(http.MethodPost, kittest.LogoutPath, `{}`))
	assert.Empty(t, v.client.Jar.Cookies(v.base))
	assert.False(t, v.Project.Honours(last))
	v.session, v.refresh = "", ""
	res, _ = v.page()
	kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_session")
	v.refresh = last
	kittest.RequireProblem(t, v.flow(http.MethodPost, kittest.RefreshPath, `{}`), http.StatusUnauthorized, "session_ended")
	v.refresh = ""

	// And in again.
	kittest.Elapse(codeStep)
	v.take(v.flow(http.MethodPost, kittest.VerifyPath, `{"loginId":"new@example.com","code":"`+codeFor(t, key)+`","loginOptions":{}}`), true)
	res, view = v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, user, view.Subject)
}

// A stream of events ends with its session, and goes on after a renewal: over a
// real connection, with sessions of two seconds.
func TestServerSentEventsEndWithTheSession(t *testing.T) {
	t.Parallel() // it waits for a session to end, in real time
	k := kittest.New(t, func(c *descopehttp.Config) { c.Leeway = -1 })
	k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.RotateRefresh = 2*time.Second, true })
	events := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := descopehttp.SessionFromContext(r.Context())
		ctx, cancel := context.WithDeadline(r.Context(), s.Expiry())
		defer cancel()
		fmt.Fprintf(w, "data: %s\n\n", s.Subject())
		_ = http.NewResponseController(w).Flush()
		<-ctx.Done()
	})
	srv := httptest.NewServer(k.RequireSession(events))
	defer srv.Close()

	b := kittest.SignIn(k, kittest.Ada)
	first := b.Session
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		res, err := srv.Client().Do(kittest.WithCookies(r, b.Session, b.Refresh))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		b.Keep(res)
		lines := 0
		for scanner := bufio.NewScanner(res.Body); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), "data: U2") {
				lines++
			}
		}
		require.NoError(t, res.Body.Close())
		assert.Equal(t, 1, lines, "the stream began, and ended by itself")
	}
	assert.NotEqual(t, first, b.Session, "the second connection renewed the session")
	assert.NotZero(t, k.Project.Requests(kittest.RefreshPath))
}

func TestTryRefreshWithoutASession(t *testing.T) {
	h := kittest.NewHostile(t)
	h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	project := h.Project.ProjectID()
	revoked := h.Project.SignIn(kittest.Bob).Refresh
	h.Project.LogOut(kittest.Bob)
	expired := h.With(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Minute).Unix()})
	for name, r := range map[string]*http.Request{
		"nothing":               kittest.Post(kittest.TryRefreshPath, `{}`),
		"no body":               kittest.Post(kittest.TryRefreshPath, ``),
		"project":               kittest.InHeader(kittest.Post(kittest.TryRefreshPath, `{}`), project),
		"garbage in the header": kittest.InHeader(kittest.Post(kittest.TryRefreshPath, `{}`), project, "a.b.c"),
		"garbage in the cookie": kittest.WithCookies(kittest.Post(kittest.TryRefreshPath, `{}`), "", "garbage"),
		"session, no refresh":   kittest.WithCookies(kittest.Post(kittest.TryRefreshPath, `{}`), h.Project.SignIn(kittest.Ada).Session, ""),
		"expired, header":       kittest.InHeader(kittest.Post(kittest.TryRefreshPath, `{}`), project, expired),
		"expired, cookie":       kittest.WithCookies(kittest.Post(kittest.TryRefreshPath, `{}`), "", expired),
		"revoked, header":       kittest.InHeader(kittest.Post(kittest.TryRefreshPath, `{}`), project, revoked),
		"revoked, cookie":       kittest.WithCookies(kittest.Post(kittest.TryRefreshPath, `{}`), "", revoked),
	} {
		res := kittest.Serve(h.Handler(), r)
		kittest.RequireOK(t, res)
		assert.Equal(t, "{}", string(kittest.BodyOf(t, res)), name)
		for _, c := range res.Cookies() {
			assert.Empty(t, c.Value, name)
		}
	}
}

func TestLogout(t *testing.T) {
	h := kittest.NewHostile(t)
	h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	project := h.Project.ProjectID()
	revoked := h.Project.SignIn(kittest.Bob)
	h.Project.LogOut(kittest.Bob)
	good, kept := h.Project.SignIn(kittest.Ada), h.Project.SignIn(kittest.Ada)
	expired := h.With(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Minute).Unix()})
	for _, r := range []*http.Request{
		kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), good.Session, good.Refresh),
		kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), good.Session, good.Refresh), // again
		kittest.InHeader(kittest.Post(kittest.LogoutPath, ``), project, good.Refresh),
		kittest.Post(kittest.LogoutPath, `{}`),
		httptest.NewRequest(http.MethodPost, kittest.LogoutPath, nil), // no type either
		kittest.InHeader(kittest.Post(kittest.LogoutPath, ``), project),
		kittest.InHeader(kittest.Post(kittest.LogoutPath, `{}`), project, "a.b.c"),
		kittest.InHeader(kittest.Post(kittest.LogoutPath, `{}`), project, revoked.Refresh),
		kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), "garbage", "garbage"),
		kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), "", expired),
		kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), revoked.Session, revoked.Refresh),
		kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), kept.Session, revoked.Refresh), // two users
	} {
		res := kittest.Serve(h.Handler(), r)
		kittest.RequireOK(t, res)
		kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
	}
	assert.False(t, h.Project.Honours(good.Refresh))
	assert.True(t, h.Project.Honours(kept.Refresh), "a logout ends one session")
}

// Descope's absence or refusal does not keep anybody signed in on this machine.
func TestLogoutWhileDescopeIsAway(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"500":     {Status: 500},
		"dropped": {Drop: true},
		"429":     {Status: 429, Body: `{"errorCode":"E130429"}`},
		"HTML":    {Status: 200, Body: "<html>"},
		"refusal": {Status: 401, Body: `{"errorCode":"E061004"}`},
	} {
		k := kittest.New(t)
		k.Project.Fail(kittest.LogoutPath, fault)
		tokens := k.Project.SignIn(kittest.Ada)
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), tokens.Session, tokens.Refresh))
		if name == "refusal" {
			assert.NotEqual(t, http.StatusOK, res.StatusCode)
		} else {
			assert.Equal(t, http.StatusBadGateway, res.StatusCode, name)
		}
		kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
	}
}

func TestLogoutAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
		bobs := k.Project.SignIn(kittest.Bob)
		phone, laptop := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Ada)

		kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.Post(kittest.LogoutAllPath, `{}`)), http.StatusUnauthorized, "no_refresh_token")
		kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.InHeader(kittest.Post(kittest.LogoutAllPath, `{}`), k.Project.ProjectID(), "a.b.c")),
			http.StatusUnauthorized, "invalid_refresh_token")
		assert.True(t, k.Project.Honours(phone.Refresh))

		// While Descope is away nothing has been ended, and the cookies are what
		// it can be tried again with.
		k.Project.Fail(kittest.LogoutAllPath, descopetest.Fault{Status: 500})
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.LogoutAllPath, `{}`), phone.Session, phone.Refresh))
		kittest.RequireProblem(t, res, http.StatusBadGateway, "unavailable")
		assert.Empty(t, res.Cookies())

		res = kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.LogoutAllPath, `{}`), phone.Session, phone.Refresh))
		kittest.RequireOK(t, res)
		kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
		kittest.Elapse(kittest.Past)
		for _, tokens := range []descopetest.Tokens{phone, laptop} {
			assert.False(t, k.Project.Honours(tokens.Refresh))
			next := new(kittest.Spy)
			res := kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
			assert.Zero(t, next.Calls)
		}
		assert.True(t, k.Project.Honours(bobs.Refresh))
	})
}

// LogoutAll deletes the cookies when there is nothing left to end, and keeps them
// when it cannot tell.
func TestLogoutAllCookies(t *testing.T) {
	for name, tt := range map[string]struct {
		fault   descopetest.Fault
		prepare func(*kittest.Kit, descopetest.Tokens)
		session bool // there is none
		gone    bool
		twice   bool // it takes two answers
	}{
		"no token":          {session: true, gone: true},
		"refused for good":  {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`, Times: -1}, gone: true, twice: true},
		"revoked":           {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"E064001"}`, Times: -1}, gone: true},
		"refused otherwise": {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`, Times: -1}},
		"asks to wait":      {fault: descopetest.Fault{Status: 429, Body: `{"errorCode":"E061005"}`, Times: -1}},
		"away":              {fault: descopetest.Fault{Drop: true, Times: -1}},
		"logged out here": {prepare: func(k *kittest.Kit, tokens descopetest.Tokens) {
			kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.LogoutPath, `{}`), "", tokens.Refresh))
		}, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				tokens := k.Project.SignIn(kittest.Ada)
				require.NoError(t, k.Ready(t.Context()))
				if tt.prepare != nil {
					tt.prepare(k, tokens)
				}
				if tt.fault.Times != 0 {
					k.Project.Fail(kittest.LogoutAllPath, tt.fault)
					k.Project.Fail(kittest.RefreshPath, tt.fault) // which is asked whether it is over
				}
				r := kittest.WithCookies(kittest.Post(kittest.LogoutAllPath, `{}`), tokens.Session, tokens.Refresh)
				if tt.session {
					r = kittest.WithCookies(kittest.Post(kittest.LogoutAllPath, `{}`), tokens.Session, "")
				}
				again := r.Clone(t.Context())
				again.Body = io.NopCloser(strings.NewReader("{}"))
				res := kittest.Serve(k.Handler(), r)
				require.NotEqual(t, http.StatusOK, res.StatusCode)
				if tt.twice {
					assert.Empty(t, res.Cookies())
					kittest.Elapse(10 * time.Second)
					res = kittest.Serve(k.Handler(), again)
				}
				if tt.gone {
					kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
				} else {
					assert.Empty(t, res.Cookies())
				}
			})
		})
	}
}

func TestMe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: kittest.Bob, Name: "Bob", Tenant: "T2a", Tenants: map[string]descopetest.Tenant{
			"T2a": {Name: "Acme", Roles: []string{"owner"}}, "T2b": {Name: "Bolt"},
		}})
		tokens := k.Project.SignIn(kittest.Bob)
		cookies := func(r *http.Request) *http.Request { return kittest.WithCookies(r, tokens.Session, tokens.Refresh) }

		res := kittest.Serve(k.Handler(), cookies(kittest.Get(kittest.MePath)))
		me := kittest.RequireOK(t, res)
		assert.Equal(t, []any{kittest.Bob}, me["loginIds"])
		assert.Equal(t, kittest.SubjectOf(t, k, tokens.Session), me["userId"])
		assert.Empty(t, res.Cookies())

		res = kittest.Serve(k.Handler(), cookies(kittest.Get(kittest.HistoryPath)))
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
		assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
		var history []map[string]any
		require.NoError(t, json.Unmarshal(kittest.BodyOf(t, res), &history), "an array, as Descope's clients expect")
		require.NotEmpty(t, history)
		assert.Equal(t, me["userId"], history[0]["userId"])

		for body, names := range map[string][]string{
			`{"dct":true}`:           {"Acme"},
			`{"ids":["T2b"]}`:        {"Bolt"},
			`{}`:                     {"Acme", "Bolt"},
			`{"dct":false,"ids":[]}`: {"Acme", "Bolt"},
		} {
			answer := kittest.RequireOK(t, kittest.Serve(k.Handler(), cookies(kittest.Post(kittest.TenantsPath, body))))
			tenants, _ := answer["tenants"].([]any)
			var got []string
			for _, tenant := range tenants {
				object, _ := tenant.(map[string]any)
				got = append(got, fmt.Sprint(object["name"]))
			}
			assert.Equal(t, names, got, body)
		}

		// An expired session is no reason against these: they take the refresh token.
		kittest.Elapse(kittest.Past)
		kittest.RequireOK(t, kittest.Serve(k.Handler(), cookies(kittest.Get(kittest.MePath))))
	})
}

func TestSelectTenant(t *testing.T) {
	for _, delivery := range []descopehttp.Delivery{descopehttp.InCookies, descopehttp.SessionInBody, descopehttp.InBody} {
		for _, rotate := range []bool{false, true} {
			t.Run(fmt.Sprintf("delivery=%d, rotate=%v", delivery, rotate), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := kittest.New(t, func(c *descopehttp.Config) { c.Tokens = delivery })
					k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
					k.Project.AddUser(descopetest.User{LoginID: kittest.Bob, Tenants: map[string]descopetest.Tenant{"T2a": {}, "T2b": {}}})
					v := newApp(k, delivery, "/auth", false).visit(t)
					v.take(v.flow(http.MethodPost, kittest.VerifyPath, `{"loginId":"`+kittest.Bob+`","code":"`+k.Project.Code(kittest.Bob)+`"}`), true)
					user := kittest.SubjectOf(t, k, v.currentSession())

					v.take(v.flow(http.MethodPost, kittest.SelectPath, `{"tenant":"T2b"}`), true)
					s, err := k.VerifyToken(t.Context(), v.currentSession())
					require.NoError(t, err)
					assert.Equal(t, "T2b", s.Tenant())
					res, view := v.page()
					require.Equal(t, http.StatusOK, res.StatusCode)
					assert.Equal(t, user, view.Subject)

					// The tenant stays selected when the session is renewed.
					kittest.Elapse(kittest.Past)
					v.take(v.flow(http.MethodPost, kittest.RefreshPath, `{}`), rotate)
					assert.Equal(t, "T2b", kittest.ClaimsOf(t, v.currentSession())["dct"])

					res = v.flow(http.MethodPost, kittest.SelectPath, `{"tenant":"T2stranger"}`)
					kittest.RequireProblem(t, res, http.StatusBadRequest, "refused")
					assert.Empty(t, res.Cookies())
				})
			})
		}
	}
}
