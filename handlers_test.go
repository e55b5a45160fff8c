package descopehttp_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
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
		assert.Contains(v.t, res.Header.Values("Vary"), "Cookie")
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

func TestUpdateGivesANewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		v := newApp(k, descopehttp.InCookies, "/auth", true).visit(t)
		oldKey := v.signUp("new@example.com")
		verify := func(key string) *http.Response {
			kittest.Elapse(codeStep) // a code works once
			return v.flow(http.MethodPost, kittest.VerifyPath, `{"loginId":"new@example.com","code":"`+codeFor(t, key)+`"}`)
		}

		answer := kittest.RequireOK(t, v.flow(http.MethodPost, kittest.UpdatePath, `{"loginId":"new@example.com"}`))
		newKey, _ := answer["key"].(string)
		require.NotEmpty(t, newKey)
		assert.NotEqual(t, oldKey, newKey)
		assert.NotEmpty(t, answer["image"])
		assert.NotEmpty(t, answer["provisioningURL"])

		v.take(verify(oldKey), true)
		v.take(verify(newKey), true)
		kittest.RequireProblem(t, verify(oldKey), http.StatusUnauthorized, "invalid_code")
		v.take(verify(newKey), true)
	})
}

// A new key for somebody else would be a way into their account, and whether
// Descope compares is not documented; this project does not.
func TestUpdateOfSomebodyElse(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config)
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	tokens := k.Project.SignIn(kittest.Ada)
	for _, loginID := range []string{kittest.Bob, kittest.Ada + " ", "unknown@example.com", kittest.Ada + "," + kittest.Bob} {
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.UpdatePath, `{"loginId":"`+loginID+`"}`), tokens.Session, tokens.Refresh))
		kittest.RequireProblem(t, res, http.StatusForbidden, "foreign_login_id")
	}
	assert.NotContains(t, tap.Paths(), kittest.UpdatePath)

	// What is sent is spelled as Descope spells it.
	res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.UpdatePath, `{"loginId":"ADA@example.com"}`), tokens.Session, tokens.Refresh))
	kittest.RequireOK(t, res)
	assert.Equal(t, `{"loginId":"`+kittest.Ada+`"}`, tap.Only(t, kittest.UpdatePath).Body)
}

// A step-up in a session that was ended elsewhere is no wrong code.
func TestSecondFactorOfAnEndedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		k.Project.LogOut(kittest.Ada)
		res := b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`","loginOptions":{"stepup":true}}`))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
	})
}

func TestSecondFactor(t *testing.T) {
	for _, tt := range []struct {
		name, options string
		stepUp        bool
		amr           []any
	}{
		{"stepup", `{"stepup":true}`, true, []any{"totp"}},
		{"mfa", `{"mfa":true}`, false, []any{"totp", "mfa"}},
		{"both", `{"mfa":true,"stepup":true}`, true, []any{"totp", "mfa"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tap := new(kittest.Wiretap)
				k := kittest.New(t, tap.Config)
				project, tokens := k.Project.ProjectID(), k.Project.SignIn(kittest.Ada)
				request := func() *http.Request {
					return kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`","loginOptions":`+tt.options+`}`)
				}
				kittest.RequireProblem(t, kittest.Serve(k.Handler(), request()), http.StatusUnauthorized, "no_refresh_token")
				kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.InHeader(request(), project, tokens.Session)),
					http.StatusUnauthorized, "invalid_refresh_token")
				assert.Empty(t, tap.Paths(), "no code is spent")

				for way, prepare := range map[string]func(*http.Request) *http.Request{
					"cookie": func(r *http.Request) *http.Request { return kittest.WithCookies(r, tokens.Session, tokens.Refresh) },
					"header": func(r *http.Request) *http.Request { return kittest.InHeader(r, project, tokens.Refresh) },
				} {
					kittest.Elapse(codeStep)
					tokens = k.Project.SignIn(kittest.Ada)
					tap.Forget()
					res := kittest.Serve(k.Handler(), prepare(request()))
					kittest.RequireOK(t, res)
					claims := kittest.ClaimsOf(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value)
					assert.Equal(t, tt.stepUp, claims["su"] == true, way)
					assert.Equal(t, tt.amr, claims["amr"], way)
					assert.Equal(t, "Bearer "+project+":"+tokens.Refresh, tap.Only(t, kittest.VerifyPath).Authorization, way)
				}
			})
		})
	}
}

// A step-up with somebody else's code would add their proof to this session.
// Descope refuses that, as far as anybody knows; here it does not.
func TestSecondFactorOfAnotherUser(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config)
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	adas, bobs := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Bob)
	for _, tt := range []struct{ name, session, refresh, options string }{
		{"both are another's, stepup", bobs.Session, bobs.Refresh, `{"stepup":true}`},
		{"both are another's, mfa", bobs.Session, bobs.Refresh, `{"mfa":true}`},
		{"session is another's, no new refresh token", bobs.Session, "", `{"stepup":true}`},
		{"refresh token is another's", adas.Session, bobs.Refresh, `{"stepup":true}`},
		{"of two users, plain sign-in", adas.Session, bobs.Refresh, `{}`},
	} {
		tap.AnswerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != kittest.VerifyPath {
				return nil
			}
			return kittest.JSONAnswer(http.StatusOK, `{"sessionJwt":"`+tt.session+`","refreshJwt":"`+tt.refresh+`"}`)
		})
		body := `{"loginId":"` + kittest.Bob + `","code":"123456","loginOptions":` + tt.options + `}`
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), adas.Session, adas.Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "other_user")
		assert.Empty(t, res.Cookies(), tt.name)
	}
}

// That refusal is about one step-up. It must not cost the session that it was
// tried with.
func TestRefusedSecondFactorLeavesTheSessionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := new(kittest.Wiretap)
		k := kittest.New(t, tap.Config)
		k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
		adas := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)
		bobs := k.Project.SignIn(kittest.Bob)
		tap.AnswerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != kittest.VerifyPath {
				return nil
			}
			return kittest.JSONAnswer(http.StatusOK, `{"sessionJwt":"`+bobs.Session+`","refreshJwt":"`+bobs.Refresh+`"}`)
		})
		body := `{"loginId":"` + kittest.Bob + `","code":"123456","loginOptions":{"stepup":true}}`
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), "", adas.Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "other_user")

		next := new(kittest.Spy)
		res = kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), adas.Session, adas.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode, "%s", kittest.BodyOf(t, res))
		assert.Equal(t, 1, next.Calls)
	})
}

// A second factor belongs to the tokens that it brought. Whoever else holds the
// refresh token from before, such as a thief, must not get it by being late.
func TestSecondFactorIsNotLentToTheTokenBefore(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		for _, presented := range []bool{false, true} {
			t.Run(fmt.Sprintf("rotate=%v, presented=%v", rotate, presented), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := kittest.New(t)
					k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
					before := k.Project.SignIn(kittest.Ada)
					body := `{"loginId":"` + kittest.Ada + `","code":"` + k.Project.Code(kittest.Ada) + `","loginOptions":{"mfa":true}}`
					res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), before.Session, before.Refresh))
					kittest.RequireOK(t, res)
					cookies := kittest.CookiesOf(res)
					require.Equal(t, []any{"totp", "mfa"}, kittest.ClaimsOf(t, cookies[kittest.SessionCookie].Value)["amr"])
					if presented {
						next := new(kittest.Spy)
						kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), cookies[kittest.SessionCookie].Value, cookies[kittest.RefreshCookie].Value))
						require.Equal(t, 1, next.Calls)
					}

					kittest.Elapse(time.Second)
					next := new(kittest.Spy)
					for _, h := range []http.Handler{k.RequireSession(next), k.Handler()} {
						res := kittest.Serve(h, kittest.WithCookies(kittest.Post(kittest.RefreshPath, ``), "", before.Refresh))
						for _, c := range res.Cookies() {
							if c.Value != "" {
								assert.NotContains(t, kittest.ClaimsOf(t, c.Value)["amr"], "mfa", c.Name)
							}
						}
					}
					if next.Calls > 0 {
						s, _ := descopehttp.SessionFromContext(next.Last().Context())
						assert.NotContains(t, s.AuthMethods(), "mfa", "a page behind the MFA guard would open")
					}
				})
			})
		}
	}
}

// Descope's browser client sends the refresh token it has stored with every
// call. For signing in it does not matter, so a dead one must not be in the way.
func TestStaleRefreshTokenDoesNotHinderSigningIn(t *testing.T) {
	tap := new(kittest.Wiretap)
	h := kittest.NewHostile(t, tap.Config)
	h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	revoked := h.Project.SignIn(kittest.Bob).Refresh
	h.Project.LogOut(kittest.Bob)
	project := h.Project.ProjectID()
	clients := 0
	for name, token := range map[string]string{
		"somebody else's, revoked": revoked,
		"expired":                  h.With(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Hour).Unix()}),
		"garbage":                  "a.b.c",
		"a session token":          h.Project.SignIn(kittest.Ada).Session,
	} {
		for way, prepare := range map[string]func(*http.Request) *http.Request{
			"header":           func(r *http.Request) *http.Request { return kittest.InHeader(r, project, token) },
			"header, with key": func(r *http.Request) *http.Request { return kittest.InHeader(r, project, token, "K2key") },
			"cookie":           func(r *http.Request) *http.Request { return kittest.WithCookies(r, "x", token) },
		} {
			for i, options := range []string{``, `,"loginOptions":{"stepup":false,"mfa":false}`} {
				about := fmt.Sprintf("%s, %s, %q", name, way, options)
				tap.Forget()
				clients++
				prepare := func(r *http.Request) *http.Request {
					r.RemoteAddr = fmt.Sprintf("10.0.0.%d:1234", clients) // sign-ups from one are limited
					return prepare(r)
				}
				loginID := strings.ReplaceAll(fmt.Sprintf("%s-%s-%d@example.com", name, way, i), " ", "")
				res := kittest.Serve(h.Handler(), prepare(kittest.Post(kittest.SignUpPath, `{"loginId":"`+loginID+`"}`)))
				kittest.RequireOK(t, res)
				assert.Empty(t, res.Cookies(), about)
				assert.Equal(t, "Bearer "+project, tap.Only(t, kittest.SignUpPath).Authorization, about)

				res = kittest.Serve(h.Handler(), prepare(kittest.Post(kittest.VerifyPath, `{"loginId":"`+loginID+`","code":"`+h.Project.Code(loginID)+`"`+options+`}`)))
				kittest.RequireOK(t, res)
				assert.Equal(t, "Bearer "+project, tap.Only(t, kittest.VerifyPath).Authorization, about)
			}
		}
	}
}

func TestLoginOptions(t *testing.T) {
	const all = `{"stepup":false,"mfa":false,"locale":"de","templateOptions":{"a":"b"},"revokeOtherSessions":true,` +
		`"customClaims":{"admin":true},"ssoAppId":"app","tenantId":"T2","templateId":"t","pkceChallenge":"p",` +
		`"revokeOtherSessionsTypes":["x"],"jwt":"j","selectedTenant":"T2"}`
	for name, tt := range map[string]struct {
		hook    func(*http.Request, string, map[string]any) error
		options string // what reaches Descope
		nsec    any
	}{
		"none": {nil, `{"locale":"de","templateOptions":{"a":"b"},"revokeOtherSessions":true}`, nil},
		"adds": {func(r *http.Request, loginID string, options map[string]any) error {
			options["customClaims"] = map[string]any{"plan": r.Header.Get("X-Plan"), "who": loginID}
			options["tenantId"], options["ssoAppId"] = "T2ours", "ours"
			return nil
		}, `{"locale":"de","templateOptions":{"a":"b"},"revokeOtherSessions":true,
			"customClaims":{"plan":"gold","who":"` + kittest.Ada + `"},"tenantId":"T2ours","ssoAppId":"ours"}`,
			map[string]any{"plan": "gold", "who": kittest.Ada}},
		"removes": {func(_ *http.Request, _ string, options map[string]any) error {
			clear(options)
			return nil
		}, ``, nil},
	} {
		tap := new(kittest.Wiretap)
		k := kittest.New(t, tap.Config, func(c *descopehttp.Config) { c.LoginOptions = tt.hook })
		code := k.Project.Code(kittest.Ada)
		r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+code+`","loginOptions":`+all+`}`)
		r.Header.Set("X-Plan", "gold")
		res := kittest.Serve(k.Handler(), r)
		kittest.RequireOK(t, res)
		want := `{"loginId":"` + kittest.Ada + `","code":"` + code + `"}`
		if tt.options != "" {
			want = want[:len(want)-1] + `,"loginOptions":` + tt.options + `}`
		}
		assert.JSONEq(t, want, tap.Only(t, kittest.VerifyPath).Body, name)
		assert.Equal(t, tt.nsec, kittest.ClaimsOf(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value)["nsec"], name)
	}
}

func TestLoginOptionsCanAskForAStepUp(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config, func(c *descopehttp.Config) {
		c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
			options["stepup"] = true
			return nil
		}
	})
	body := `{"loginId":"` + kittest.Ada + `","code":"` + k.Project.Code(kittest.Ada) + `"}`
	kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, body)), http.StatusUnauthorized, "no_refresh_token")
	assert.Empty(t, tap.Paths())
	tokens := k.Project.SignIn(kittest.Ada)
	res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), tokens.Session, tokens.Refresh))
	kittest.RequireOK(t, res)
	assert.Equal(t, true, kittest.ClaimsOf(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value)["su"])
}

func TestLoginOptionsRefuses(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config, func(c *descopehttp.Config) {
		c.LoginOptions = func(*http.Request, string, map[string]any) error {
			return errors.New("blocked because of secret-reason")
		}
	})
	res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
	assert.NotContains(t, string(kittest.BodyOf(t, res)), "secret-reason")
	kittest.RequireProblem(t, res, http.StatusForbidden, "forbidden")
	assert.Empty(t, tap.Paths())
}

// Options that do not encode are a mistake on this side, not the client's.
func TestLoginOptionsThatDoNotEncode(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config, func(c *descopehttp.Config) {
		c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
			options["customClaims"] = make(chan int)
			return nil
		}
	})
	res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
	kittest.RequireProblem(t, res, http.StatusInternalServerError, "internal")
	assert.Empty(t, tap.Paths())
}

// Whoever tries login ids must not learn from the answers which of them exist.
func TestWrongCodeAndUnknownUserLookAlike(t *testing.T) {
	k := kittest.New(t)
	k.Project.Configure(func(s *descopetest.Settings) {
		s.WrongCode = descopetest.Failure{Status: 400, Code: "E061102", Description: "a"}
		s.ReplayedCode = descopetest.Failure{Status: 401, Code: "E061104", Description: "b"}
		s.UnknownUser = descopetest.Failure{Status: 404, Code: "E062108", Description: "c"}
	})
	code := k.Project.Code(kittest.Ada)
	kittest.RequireOK(t, kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+code+`"}`)))
	kittest.RequireOK(t, kittest.Serve(k.Handler(), kittest.Post(kittest.SignUpPath, `{"loginId":"pending@example.com"}`)))

	first := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"unknown@example.com","code":"000000"}`))
	want := string(kittest.BodyOf(t, first))
	kittest.RequireProblem(t, first, http.StatusUnauthorized, "invalid_code")
	for name, body := range map[string]string{
		"wrong code":            `{"loginId":"` + kittest.Ada + `","code":"` + kittest.OtherCode(code) + `"}`,
		"replayed code":         `{"loginId":"` + kittest.Ada + `","code":"` + code + `"}`,
		"code of another shape": `{"loginId":"` + kittest.Ada + `","code":"12345678"}`,
		"pending user":          `{"loginId":"pending@example.com","code":"` + kittest.OtherCode(k.Project.Code("pending@example.com")) + `"}`,
	} {
		res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, body))
		assert.Equal(t, first.StatusCode, res.StatusCode, name)
		assert.Equal(t, want, string(kittest.BodyOf(t, res)), name)
		assert.Equal(t, first.Header, res.Header, name)
	}
}

// What the Authorization header of a flow may be.
func TestFlowAuthorization(t *testing.T) {
	h := kittest.NewHostile(t)
	h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	project := h.Project.ProjectID()
	adas, bobs := h.Project.SignIn(kittest.Ada), h.Project.SignIn(kittest.Bob)
	dead := h.With(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Minute).Unix()})
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
		{"refresh token as bearer", []string{"Bearer " + adas.Refresh}, adas.Refresh, "foreign_project"},
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

// A body that two readers could take for two is refused in every flow that reads one.
func TestAmbiguousBodies(t *testing.T) {
	k := kittest.New(t)
	tokens := k.Project.SignIn(kittest.Ada)
	require.NoError(t, k.Ready(t.Context()))
	k.Project.Reset()
	for path, body := range map[string]string{
		kittest.SignUpPath:    `{"loginId":"` + kittest.Ada + `","loginId":"bob"}`,
		kittest.VerifyPath:    `{"loginId":"` + kittest.Ada + `","code":"000000","code":"000001"}`,
		kittest.UpdatePath:    `{"loginId":"` + kittest.Ada + `","loginId":"bob"}`,
		kittest.SelectPath:    `{"tenant":"T1","tenant":"T2"}`,
		"/v1/auth/me/tenants": `{"dct":true,"dct":false}`,
	} {
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(path, body), tokens.Session, tokens.Refresh))
		kittest.RequireProblem(t, res, http.StatusBadRequest, "malformed_body")
	}
	assert.Zero(t, k.Project.Requests(""))
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

// LogoutAll deletes the cookies when there is nothing left to end, and keeps them
// when it cannot tell.
func TestLogoutAllCookies(t *testing.T) {
	for name, tt := range map[string]struct {
		fault   descopetest.Fault
		prepare func(*kittest.Kit, descopetest.Tokens)
		session bool // there is none
		gone    bool
	}{
		"no token":          {session: true, gone: true},
		"refused for good":  {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`, Times: -1}, gone: true},
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
				}
				r := kittest.WithCookies(kittest.Post(kittest.LogoutAllPath, `{}`), tokens.Session, tokens.Refresh)
				if tt.session {
					r = kittest.WithCookies(kittest.Post(kittest.LogoutAllPath, `{}`), tokens.Session, "")
				}
				res := kittest.Serve(k.Handler(), r)
				require.NotEqual(t, http.StatusOK, res.StatusCode)
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
	mux.HandleFunc("/join", k.TOTPSignUp)
	mux.HandleFunc("/enter", k.TOTPVerify)
	mux.HandleFunc("/new-key", k.TOTPUpdate)
	mux.HandleFunc("/renew", k.Refresh)
	mux.HandleFunc("/leave", k.Logout)
	mux.HandleFunc("/leave-all", k.LogoutAll)
	mux.HandleFunc("/who", k.Me)
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

// A body that two readers read differently would be judged as one user's and
// taken by Descope as another's. What reaches Descope is what was judged.
func TestOnlyWhatWasJudgedIsSent(t *testing.T) {
	for _, tt := range []struct {
		name, path, body string
		sent             string // "" if nothing
		problem          string
	}{
		{"duplicate loginId", kittest.SignUpPath, `{"loginId":"a","loginId":"b"}`, "", "malformed_body"},
		{"duplicate, escaped", kittest.SignUpPath, `{"loginId":"a","login\u0049d":"b"}`, "", "malformed_body"},
		{"duplicate in the user", kittest.SignUpPath, `{"loginId":"a","user":{"email":"a","email":"b"}}`, "", "malformed_body"},
		{"duplicate in what is dropped", kittest.SignUpPath, `{"loginId":"a","x":{"y":1,"y":2}}`, "", "malformed_body"},
		{"other cases", kittest.SignUpPath, `{"loginId":"a","LoginId":"b","LOGINID":"c","loginid":"d"}`, `{"loginId":"a"}`, ""},
		{"other case only", kittest.SignUpPath, `{"LoginId":"b"}`, "", "missing_field"},
		{"unknown members", kittest.SignUpPath,
			`{"loginId":"a","ssoAppId":"x","admin":true,"user":{"name":"N","roles":["admin"],"customAttributes":{"a":1},"loginId":"b"}}`,
			`{"loginId":"a","user":{"name":"N"}}`, ""},
		{"all of the profile", kittest.SignUpPath,
			`{"loginId":"a","user":{"name":"1","email":"2","phone":"3","givenName":"4","middleName":"5","familyName":"6"}}`,
			`{"loginId":"a","user":{"name":"1","email":"2","phone":"3","givenName":"4","middleName":"5","familyName":"6"}}`, ""},
		{"null for a member", kittest.SignUpPath, `{"loginId":"a","user":null}`, `{"loginId":"a"}`, ""},
		{"empty user", kittest.SignUpPath, `{"loginId":"a","user":{}}`, `{"loginId":"a"}`, ""},
		{"long s in a name", kittest.VerifyPath, `{"loginId":"CARL","code":"CODE","loginOptionſ":{"stepup":true}}`, `{"loginId":"CARL","code":"CODE"}`, ""},
		{"options in other cases", kittest.VerifyPath,
			`{"loginId":"CARL","code":"CODE","LoginOptions":{"mfa":true},"loginOptions":{"CustomClaims":{"a":1},"StepUp":true}}`,
			`{"loginId":"CARL","code":"CODE"}`, ""},
		{"duplicate option", kittest.VerifyPath, `{"loginId":"CARL","code":"CODE","loginOptions":{"mfa":false,"mfa":true}}`, "", "malformed_body"},
		{"duplicate template option", kittest.VerifyPath,
			`{"loginId":"CARL","code":"CODE","loginOptions":{"templateOptions":{"a":"1","a":"2"}}}`, "", "malformed_body"},
		{"update in two cases", kittest.UpdatePath, `{"loginId":"CARL","LOGINID":"` + kittest.Ada + `"}`, `{"loginId":"CARL"}`, ""},
		{"tenant in two cases", kittest.SelectPath, `{"tenant":"T2","Tenant":"T3","tenantId":"T4"}`, `{"tenant":"T2"}`, ""},
		{"tenants", kittest.TenantsPath, `{"dct":true,"DCT":false,"x":1}`, `{"dct":true}`, ""},
		{"refresh", kittest.RefreshPath, `{"externalToken":"x","a":1,"a":2}`, `{}`, ""},
		{"logout", kittest.LogoutPath, `{"logoutType":["x"]}`, `{}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := new(kittest.Wiretap)
			k := kittest.New(t, tap.Config)
			k.Project.AddUser(descopetest.User{LoginID: "carl", Tenants: map[string]descopetest.Tenant{"T2": {}}})
			refresh := k.Project.SignIn("carl").Refresh
			fill := strings.NewReplacer("CARL", "carl", "CODE", k.Project.Code("carl"))
			r := kittest.WithCookies(kittest.Post(tt.path, fill.Replace(tt.body)), "", refresh)
			// As a browser would, on behalf of a page that sets these.
			r.Header.Set("X-Forwarded-For", "10.0.0.1")
			r.Header.Set("X-Descope-Project-Id", "P2theirs")
			res := kittest.Serve(k.Handler(), r)
			if tt.problem != "" {
				kittest.RequireProblem(t, res, http.StatusBadRequest, tt.problem)
				assert.Empty(t, tap.Paths())
				return
			}
			kittest.RequireOK(t, res)
			sent := tap.Only(t, tt.path)
			assert.Equal(t, fill.Replace(tt.sent), sent.Body)
			assert.Equal(t, "application/json", sent.Header.Get("Content-Type"))
			assert.NotEmpty(t, sent.Header.Get("User-Agent"), "Descope's edge turns away clients without one")
			for _, name := range []string{"Cookie", "X-Forwarded-For"} {
				assert.Empty(t, sent.Header.Get(name), name)
			}
			assert.NotEqual(t, "P2theirs", sent.Header.Get("X-Descope-Project-Id"))
		})
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
