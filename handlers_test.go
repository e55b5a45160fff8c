package descopehttp_test

import (
	"bytes"
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
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

const (
	signUpPath     = "/v1/auth/totp/signup"
	verifyPath     = "/v1/auth/totp/verify"
	updatePath     = "/v1/auth/totp/update"
	tryRefreshPath = "/v1/auth/try-refresh"
	logoutPath     = "/v1/auth/logout"
	logoutAllPath  = "/v1/auth/logoutall"
	mePath         = "/v1/auth/me"
	historyPath    = "/v1/auth/me/history"
	tenantsPath    = "/v1/auth/me/tenants"
	selectPath     = "/v1/auth/tenant/select"
)

const bob = "bob@example.com"

// codeStep is the life of a code; after it, the next one is another.
const codeStep = 31 * time.Second

// A wiretap stands between a kit and its project: it notes what is sent to
// Descope, and may answer in its place.
type wiretap struct {
	inner  http.RoundTripper
	answer func(*http.Request) *http.Response // may be nil, and may return nil
	edit   func(path string, body []byte) []byte

	mu   sync.Mutex
	sent []sentCall
}

// A sentCall is a request to Descope; those for keys are not noted.
type sentCall struct {
	method, path, authorization, body string
	header                            http.Header
}

func (w *wiretap) config(c *descopehttp.Config) {
	w.inner = c.HTTPClient.Transport
	c.HTTPClient = &http.Client{Transport: w}
}

func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Path, keysPath) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.mu.Lock()
		w.sent = append(w.sent, sentCall{r.Method, r.URL.Path, r.Header.Get("Authorization"), string(body), r.Header})
		w.mu.Unlock()
	}
	w.mu.Lock()
	answer := w.answer
	w.mu.Unlock()
	if answer != nil {
		if res := answer(r); res != nil {
			res.Request = r
			return res, nil
		}
	}
	res, err := w.inner.RoundTrip(r)
	if err != nil || w.edit == nil {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	body = w.edit(r.URL.Path, body)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return res, nil
}

// answerWith has answer take the place of Descope from now on; calls may be under way.
func (w *wiretap) answerWith(answer func(*http.Request) *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// calls returns what was sent, in order.
func (w *wiretap) calls() []sentCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]sentCall(nil), w.sent...)
}

// paths returns where calls went, in order.
func (w *wiretap) paths() []string {
	var paths []string
	for _, c := range w.calls() {
		paths = append(paths, c.path)
	}
	return paths
}

// only returns the one call that was made to path.
func (w *wiretap) only(t testing.TB, path string) sentCall {
	t.Helper()
	var found []sentCall
	for _, c := range w.calls() {
		if c.path == path {
			found = append(found, c)
		}
	}
	require.Len(t, found, 1, path)
	return found[0]
}

func (w *wiretap) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = nil
}

// jsonAnswer is an answer of Descope.
func jsonAnswer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(strings.NewReader(body)),
	}
}

// flowPost is what a script sends to a flow.
func flowPost(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// inHeader adds the Authorization header of Descope's own clients.
func inHeader(r *http.Request, parts ...string) *http.Request {
	return withBearer(r, strings.Join(parts, ":"))
}

// bodyOf returns the body, which can be read again afterwards.
func bodyOf(t testing.TB, res *http.Response) []byte {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	res.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// requireOK checks that a flow has answered 200 with a JSON object that nobody
// may keep, and returns it.
func requireOK(t testing.TB, res *http.Response) map[string]any {
	t.Helper()
	body := bodyOf(t, res)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", body)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	var object map[string]any
	require.NoError(t, json.Unmarshal(body, &object), "%s", body)
	return object
}

// claimsOf decodes the claims of a token without judging it.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3, "not a token: %q", token)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(payload, &claims))
	return claims
}

func expiryOf(t testing.TB, token string) time.Time {
	t.Helper()
	exp, ok := claimsOf(t, token)["exp"].(float64)
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
	*kit
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

func newApp(k *kit, delivery descopehttp.Delivery, prefix string, strip bool) *app {
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
	return &app{kit: k, delivery: delivery, handler: mux, flows: prefix}
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
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		in := httptest.NewRequest(r.Method, r.URL.String(), r.Body)
		in.Header = r.Header.Clone()
		res := serve(a.handler, in.WithContext(r.Context()))
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
	bodyOf(v.t, res)
	require.NoError(v.t, stream.Close())
	v.checkCookies(res)
	return res
}

// flow calls a flow the way Descope's clients do: the project's id and, where
// the client holds it, the refresh token.
func (v *visitor) flow(method, path, body string) *http.Response {
	v.t.Helper()
	authorization := v.srv.ProjectID()
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
		require.NoError(v.t, json.Unmarshal(bodyOf(v.t, res), &view))
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
	body := requireOK(v.t, res)
	session, _ := body["sessionJwt"].(string)
	refresh, _ := body["refreshJwt"].(string)
	set := cookiesOf(res)
	switch v.delivery {
	case descopehttp.InCookies:
		assert.Equal(v.t, "", body["sessionJwt"])
		assert.Equal(v.t, "", body["refreshJwt"])
		assert.Contains(v.t, set, sessionCookie)
		assert.Equal(v.t, withRefresh, set[refreshCookie] != nil)
		if withRefresh {
			assert.Equal(v.t, set[refreshCookie].MaxAge, set[sessionCookie].MaxAge)
		}
	case descopehttp.SessionInBody:
		assert.Equal(v.t, "", body["refreshJwt"])
		assert.Equal(v.t, withRefresh, set[refreshCookie] != nil)
		v.session = session
	case descopehttp.InBody:
		assert.Equal(v.t, withRefresh, refresh != "")
		v.session = session
		if refresh != "" {
			v.refresh = refresh
		}
	}
	assert.Equal(v.t, "DS", claimsOf(v.t, v.currentSession())["drn"])
	assert.Equal(v.t, "DSR", claimsOf(v.t, v.currentRefresh())["drn"])
	assert.EqualValues(v.t, expiryOf(v.t, v.currentSession()).Unix(), body["sessionExpiration"], "clients plan the next refresh by it")
	raw := string(bodyOf(v.t, res))
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
	answer := requireOK(v.t, v.flow(http.MethodPost, signUpPath, `{"loginId":"`+loginID+`","user":{"name":"New"}}`))
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

	v.take(v.flow(http.MethodPost, verifyPath, `{"loginId":"`+loginID+`","code":"`+codeFor(v.t, key)+`"}`), true)
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
			k := newKit(t, tt.edit)
			a := newApp(k, descopehttp.InCookies, tt.prefix, tt.strip)
			server := tt.server(a.handler)
			t.Cleanup(server.Close)
			v := a.visitWith(t, server.URL, server.Client())

			res, _ := v.page()
			requireProblem(t, res, http.StatusUnauthorized, "no_session")
			answer := requireOK(t, v.flow(http.MethodPost, signUpPath, `{"loginId":"new@example.com"}`))
			key, _ := answer["key"].(string)
			requireOK(t, v.flow(http.MethodPost, verifyPath, `{"loginId":"new@example.com","code":"`+codeFor(t, key)+`"}`))
			res, view := v.page()
			require.Equal(t, http.StatusOK, res.StatusCode)
			user := view.Subject
			require.NotEmpty(t, user)
			assert.Empty(t, res.Cookies(), "nothing is set anew while the session is good")

			claims := k.srv.SessionClaims("new@example.com")
			claims["exp"] = time.Now().Add(-time.Minute).Unix()
			old := k.srv.Sign(nil, claims)
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
			requireOK(t, v.flow(http.MethodPost, logoutPath, `{}`))
			assert.Empty(t, v.client.Jar.Cookies(v.base))
			res, _ = v.page()
			requireProblem(t, res, http.StatusUnauthorized, "no_session")
			v.refresh = refresh
			requireProblem(t, v.flow(http.MethodPost, refreshPath, `{}`), http.StatusUnauthorized, "session_ended")
			assert.False(t, k.srv.Honours(refresh))
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
							k := newKit(t, func(c *descopehttp.Config) { c.Tokens = delivery })
							k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.TokensInCookies = rotate, cookies })
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
	requireProblem(t, res, http.StatusUnauthorized, "no_session")

	key := v.signUp("new@example.com")
	res, view := v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)
	user := view.Subject
	require.NotEmpty(t, user)
	assert.Empty(t, res.Cookies())

	// The session expires. Cookies are renewed on the way to the page; a client
	// that holds its token itself is told, and refreshes.
	elapse(past)
	firstSession, firstRefresh := v.currentSession(), v.currentRefresh()
	if v.delivery != descopehttp.InCookies {
		res, _ = v.page()
		requireProblem(t, res, http.StatusUnauthorized, "session_expired")
		assert.Empty(t, res.Cookies())
		v.take(v.flow(http.MethodPost, refreshPath, `{}`), rotate)
	}
	res, view = v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, user, view.Subject)
	assert.NotEqual(t, firstSession, v.currentSession())
	if v.delivery == descopehttp.InCookies {
		assert.Equal(t, rotate, cookiesOf(res)[refreshCookie] != nil)
		assert.Equal(t, len(res.Cookies()), view.SetCookies, "all are set before the page runs")
		assert.NotZero(t, view.SetCookies)
		assert.Equal(t, v.cookie("DS"), view.Session, "the page sees the new session")
		assert.NotContains(t, view.Cookies, refreshCookie, "the page must not spend the refresh token again")
		res, view = v.page()
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Zero(t, view.SetCookies)
	}
	assert.Equal(t, rotate, firstRefresh != v.currentRefresh())
	assert.Equal(t, !rotate, v.srv.Honours(firstRefresh))
	assert.True(t, v.srv.Honours(v.currentRefresh()))

	// The same at the client's own request.
	elapse(past)
	v.take(v.flow(http.MethodPost, refreshPath, ``), rotate) // Descope's Go client sends no body
	elapse(past)
	v.take(v.flow(http.MethodPost, tryRefreshPath+"?dcs=t&dcr=t", `{"externalToken":""}`), rotate)
	res, _ = v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)

	res = v.flow(http.MethodGet, mePath, "")
	me := requireOK(t, res)
	assert.Equal(t, user, me["userId"])
	assert.Equal(t, []any{"new@example.com"}, me["loginIds"])
	assert.Contains(t, string(bodyOf(t, res)), `"TOTP":true`)

	last := v.currentRefresh()
	requireOK(t, v.flow(http.MethodPost, logoutPath, `{}`))
	assert.Empty(t, v.client.Jar.Cookies(v.base))
	assert.False(t, v.srv.Honours(last))
	v.session, v.refresh = "", ""
	res, _ = v.page()
	requireProblem(t, res, http.StatusUnauthorized, "no_session")
	v.refresh = last
	requireProblem(t, v.flow(http.MethodPost, refreshPath, `{}`), http.StatusUnauthorized, "session_ended")
	v.refresh = ""

	// And in again.
	elapse(codeStep)
	v.take(v.flow(http.MethodPost, verifyPath, `{"loginId":"new@example.com","code":"`+codeFor(t, key)+`","loginOptions":{}}`), true)
	res, view = v.page()
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, user, view.Subject)
}

// Where the configuration says otherwise, cookies follow it, and they never
// outlive the refresh token.
func TestSignInCookies(t *testing.T) {
	const month = 28 * 24 * time.Hour
	for _, tt := range []struct {
		name             string
		cookies          descopehttp.Cookies
		session, refresh string
		sameSite         http.SameSite
		ttl              time.Duration
	}{
		{"default", descopehttp.Cookies{}, sessionCookie, refreshCookie, http.SameSiteLaxMode, month},
		{"refresh token shorter than the session", descopehttp.Cookies{}, sessionCookie, refreshCookie, http.SameSiteLaxMode, 5 * time.Minute},
		{"plain names", descopehttp.Cookies{PlainNames: true}, "DS", "DSR", http.SameSiteLaxMode, month},
		{"domain", descopehttp.Cookies{Domain: "example.com"}, "DS", "DSR", http.SameSiteLaxMode, month},
		{"insecure", descopehttp.Cookies{InsecureHTTP: true}, "DS", "DSR", http.SameSiteLaxMode, month},
		{"strict", descopehttp.Cookies{SameSite: http.SameSiteStrictMode}, sessionCookie, refreshCookie, http.SameSiteStrictMode, month},
		{"none", descopehttp.Cookies{SameSite: http.SameSiteNoneMode}, sessionCookie, refreshCookie, http.SameSiteNoneMode, month},
	} {
		for _, inCookies := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, project's cookies=%v", tt.name, inCookies), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := newKit(t, func(c *descopehttp.Config) { c.Cookies = tt.cookies })
					k.srv.Configure(func(s *descopetest.Settings) { s.RefreshTTL, s.TokensInCookies = tt.ttl, inCookies })
					res := serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
					body := requireOK(t, res)
					assert.Equal(t, []any{"", ""}, []any{body["sessionJwt"], body["refreshJwt"]}, "no script sees them")
					require.Len(t, res.Cookies(), 2)
					for name, drn := range map[string]string{tt.session: "DS", tt.refresh: "DSR"} {
						c := cookiesOf(res)[name]
						require.NotNil(t, c, name)
						assert.Equal(t, drn, claimsOf(t, c.Value)["drn"])
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
func TestFlowsRefuseTwoUsers(t *testing.T) {
	k := newKit(t)
	k.srv.AddUser(descopetest.User{LoginID: bob})
	adas, bobs := k.srv.SignIn(ada), k.srv.SignIn(bob)
	require.NoError(t, k.Ready(t.Context()))
	k.srv.Reset()
	for _, r := range []*http.Request{
		get(mePath), flowPost(refreshPath, ""), flowPost(updatePath, `{"loginId":"`+ada+`"}`), flowPost(selectPath, `{"tenant":"T1"}`),
		flowPost(verifyPath, `{"loginId":"`+ada+`","code":"000000","loginOptions":{"mfa":true}}`),
	} {
		res := serve(k.Handler(), withCookies(r, adas.Session, bobs.Refresh))
		requireProblem(t, res, http.StatusUnauthorized, "conflicting_cookies")
		assert.Len(t, cookiesOf(res), 2)
		for _, c := range res.Cookies() {
			assert.Negative(t, c.MaxAge)
		}
	}
	assert.Zero(t, k.srv.Requests(""))
}

// A refresh cookie whose time has passed is the end of a session, and goes; beside a
// good one it is nothing.
func TestFlowsWithAnExpiredRefreshCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.RefreshTTL = time.Hour })
		old := k.srv.SignIn(ada).Refresh
		elapse(2 * time.Hour)
		good := k.srv.SignIn(ada).Refresh
		for _, r := range []*http.Request{get(mePath), flowPost(refreshPath, "")} {
			res := serve(k.Handler(), withCookies(r, "", old))
			requireProblem(t, res, http.StatusUnauthorized, "session_expired")
			assert.Len(t, cookiesOf(res), 2)
			for _, c := range res.Cookies() {
				assert.Negative(t, c.MaxAge)
			}
			r.Header.Set("Cookie", refreshCookie+"="+old+"; "+refreshCookie+"="+good)
			assert.Equal(t, http.StatusOK, serve(k.Handler(), r).StatusCode)
		}
	})
}

// A session token that no browser stores must not leave the former one in place.
func TestSessionTokenTooLargeForACookie(t *testing.T) {
	k := newKit(t)
	k.srv.Configure(func(s *descopetest.Settings) {
		s.EditClaims = func(kind string, claims map[string]any) {
			if kind == "DS" {
				claims["big"] = strings.Repeat("x", 4096)
			}
		}
	})
	res := serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
	requireOK(t, res)
	requireDeleted(t, res, sessionCookie)
	assert.Positive(t, cookiesOf(res)[refreshCookie].MaxAge)
	assert.Contains(t, k.logs.String(), "too large for a cookie")
}

// The same of the refresh token: a browser would drop it without a word, and
// the user be signed out ten minutes later for no reason that anybody can see.
func TestRefreshTokenTooLargeForACookie(t *testing.T) {
	k := newKit(t)
	k.srv.Configure(func(s *descopetest.Settings) {
		s.EditClaims = func(kind string, claims map[string]any) {
			if kind == "DSR" {
				claims["big"] = strings.Repeat("x", 4096)
			}
		}
	})
	serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
	assert.Contains(t, k.logs.String(), "too large for a cookie")
}

// Members that this package has never heard of reach the client as they came.
func TestAnswersKeepWhatIsUnknown(t *testing.T) {
	tap := &wiretap{edit: func(path string, body []byte) []byte {
		if !strings.HasPrefix(path, "/v1/") {
			return body
		}
		return bytes.Replace(body, []byte("{"), []byte(`{"zz":12345678901234567890,"new":{"b":[1.50,null],"a":"\u00e9"},`), 1)
	}}
	k := newKit(t, tap.config)
	tokens := k.srv.SignIn(ada)
	for path, body := range map[string]string{
		signUpPath:     `{"loginId":"new"}`,
		verifyPath:     `{"loginId":"` + ada + `","code":"` + k.srv.Code(ada) + `"}`,
		updatePath:     `{"loginId":"` + ada + `"}`,
		refreshPath:    `{}`,
		tryRefreshPath: `{}`,
		mePath:         "",
		tenantsPath:    `{}`,
	} {
		r := flowPost(path, body)
		if path == mePath {
			r = get(path)
		}
		res := serve(k.Handler(), withCookies(r, tokens.Session, tokens.Refresh))
		answer := requireOK(t, res)
		raw := string(bodyOf(t, res))
		assert.True(t, strings.HasPrefix(raw, `{"zz":12345678901234567890,"new":{`), "%s: %s", path, raw)
		assert.Contains(t, raw, `1.50`, path)
		assert.Equal(t, map[string]any{"b": []any{1.5, nil}, "a": "é"}, answer["new"], path)
	}
}

// Of Descope's headers none is the client's business; its cookies would go past
// the policy, and its caching rules are about other answers.
func TestHeadersOfDescopeStayHere(t *testing.T) {
	tap := new(wiretap)
	k := newKit(t, tap.config)
	tokens := k.srv.SignIn(ada)
	answers := map[string]string{mePath: `{"userId":"U"}`, refreshPath: `{"sessionJwt":"` + tokens.Session + `","refreshJwt":""}`}
	tap.answerWith(func(r *http.Request) *http.Response {
		body, ok := answers[r.URL.Path]
		if !ok {
			return nil
		}
		res := jsonAnswer(http.StatusOK, body)
		res.Header["Set-Cookie"] = []string{"tracker=1; Path=/", "DTD=x", "DSR="}
		res.Header.Set("X-Upstream", "1")
		res.Header.Set("Access-Control-Allow-Origin", "*")
		res.Header.Set("Cache-Control", "public, max-age=60")
		res.Header.Set("Retry-After", "7")
		return res
	})
	for _, r := range []*http.Request{get(mePath), flowPost(refreshPath, "")} {
		res := serve(k.Handler(), withCookies(r, "", tokens.Refresh))
		requireOK(t, res)
		for _, name := range []string{"X-Upstream", "Access-Control-Allow-Origin", "Retry-After"} {
			assert.Empty(t, res.Header.Get(name), name)
		}
		for name := range cookiesOf(res) {
			assert.Equal(t, sessionCookie, name)
		}
	}
}

// Projects may name their cookies; the answer then says how.
func TestProjectsOwnCookieNames(t *testing.T) {
	tap := new(wiretap)
	k := newKit(t, tap.config)
	presented, next := k.srv.SignIn(ada), k.srv.SignIn(ada)
	tap.answerWith(func(r *http.Request) *http.Response {
		if r.URL.Path != refreshPath {
			return nil
		}
		res := jsonAnswer(http.StatusOK, `{"sessionJwt":"","refreshJwt":"","cookieName":"shopR","sessionCookieName":"shopS"}`)
		res.Header["Set-Cookie"] = []string{"DS=planted", "DSR=planted", "shopS=" + next.Session + "; HttpOnly", "shopR=" + next.Refresh}
		return res
	})
	res := serve(k.Handler(), withCookies(flowPost(refreshPath, ""), "", presented.Refresh))
	requireOK(t, res)
	cookies := cookiesOf(res)
	require.Len(t, cookies, 2)
	assert.Equal(t, next.Session, cookies[sessionCookie].Value)
	assert.Equal(t, next.Refresh, cookies[refreshCookie].Value)
}

func TestUpdateGivesANewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		v := newApp(k, descopehttp.InCookies, "/auth", true).visit(t)
		oldKey := v.signUp("new@example.com")
		verify := func(key string) *http.Response {
			elapse(codeStep) // a code works once
			return v.flow(http.MethodPost, verifyPath, `{"loginId":"new@example.com","code":"`+codeFor(t, key)+`"}`)
		}

		answer := requireOK(t, v.flow(http.MethodPost, updatePath, `{"loginId":"new@example.com"}`))
		newKey, _ := answer["key"].(string)
		require.NotEmpty(t, newKey)
		assert.NotEqual(t, oldKey, newKey)
		assert.NotEmpty(t, answer["image"])
		assert.NotEmpty(t, answer["provisioningURL"])

		v.take(verify(oldKey), true)
		v.take(verify(newKey), true)
		requireProblem(t, verify(oldKey), http.StatusUnauthorized, "invalid_code")
		v.take(verify(newKey), true)
	})
}

// A new key for somebody else would be a way into their account, and whether
// Descope compares is not documented; this project does not.
func TestUpdateOfSomebodyElse(t *testing.T) {
	tap := new(wiretap)
	k := newKit(t, tap.config)
	k.srv.AddUser(descopetest.User{LoginID: bob})
	tokens := k.srv.SignIn(ada)
	for _, loginID := range []string{bob, ada + " ", "unknown@example.com", ada + "," + bob} {
		res := serve(k.Handler(), withCookies(flowPost(updatePath, `{"loginId":"`+loginID+`"}`), tokens.Session, tokens.Refresh))
		requireProblem(t, res, http.StatusForbidden, "foreign_login_id")
	}
	assert.NotContains(t, tap.paths(), updatePath)

	// What is sent is spelled as Descope spells it.
	res := serve(k.Handler(), withCookies(flowPost(updatePath, `{"loginId":"ADA@example.com"}`), tokens.Session, tokens.Refresh))
	requireOK(t, res)
	assert.Equal(t, `{"loginId":"`+ada+`"}`, tap.only(t, updatePath).body)
}

// A step-up in a session that was ended elsewhere is no wrong code.
func TestSecondFactorOfAnEndedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		k.srv.LogOut(ada)
		res := b.do(k.Handler(), post(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`","loginOptions":{"stepup":true}}`))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
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
				tap := new(wiretap)
				k := newKit(t, tap.config)
				project, tokens := k.srv.ProjectID(), k.srv.SignIn(ada)
				request := func() *http.Request {
					return flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`","loginOptions":`+tt.options+`}`)
				}
				requireProblem(t, serve(k.Handler(), request()), http.StatusUnauthorized, "no_refresh_token")
				requireProblem(t, serve(k.Handler(), inHeader(request(), project, tokens.Session)),
					http.StatusUnauthorized, "invalid_refresh_token")
				assert.Empty(t, tap.paths(), "no code is spent")

				for way, prepare := range map[string]func(*http.Request) *http.Request{
					"cookie": func(r *http.Request) *http.Request { return withCookies(r, tokens.Session, tokens.Refresh) },
					"header": func(r *http.Request) *http.Request { return inHeader(r, project, tokens.Refresh) },
				} {
					elapse(codeStep)
					tokens = k.srv.SignIn(ada)
					tap.forget()
					res := serve(k.Handler(), prepare(request()))
					requireOK(t, res)
					claims := claimsOf(t, cookiesOf(res)[sessionCookie].Value)
					assert.Equal(t, tt.stepUp, claims["su"] == true, way)
					assert.Equal(t, tt.amr, claims["amr"], way)
					assert.Equal(t, "Bearer "+project+":"+tokens.Refresh, tap.only(t, verifyPath).authorization, way)
				}
			})
		})
	}
}

// A step-up with somebody else's code would add their proof to this session.
// Descope refuses that, as far as anybody knows; here it does not.
func TestSecondFactorOfAnotherUser(t *testing.T) {
	tap := new(wiretap)
	k := newKit(t, tap.config)
	k.srv.AddUser(descopetest.User{LoginID: bob})
	adas, bobs := k.srv.SignIn(ada), k.srv.SignIn(bob)
	for _, tt := range []struct{ name, session, refresh, options string }{
		{"both are another's, stepup", bobs.Session, bobs.Refresh, `{"stepup":true}`},
		{"both are another's, mfa", bobs.Session, bobs.Refresh, `{"mfa":true}`},
		{"session is another's, no new refresh token", bobs.Session, "", `{"stepup":true}`},
		{"refresh token is another's", adas.Session, bobs.Refresh, `{"stepup":true}`},
		{"of two users, plain sign-in", adas.Session, bobs.Refresh, `{}`},
	} {
		tap.answerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != verifyPath {
				return nil
			}
			return jsonAnswer(http.StatusOK, `{"sessionJwt":"`+tt.session+`","refreshJwt":"`+tt.refresh+`"}`)
		})
		body := `{"loginId":"` + bob + `","code":"123456","loginOptions":` + tt.options + `}`
		res := serve(k.Handler(), withCookies(flowPost(verifyPath, body), adas.Session, adas.Refresh))
		requireProblem(t, res, http.StatusUnauthorized, "other_user")
		assert.Empty(t, res.Cookies(), tt.name)
	}
}

// That refusal is about one step-up. It must not cost the session that it was
// tried with.
func TestRefusedSecondFactorLeavesTheSessionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := new(wiretap)
		k := newKit(t, tap.config)
		k.srv.AddUser(descopetest.User{LoginID: bob})
		adas := k.srv.SignIn(ada)
		elapse(past)
		bobs := k.srv.SignIn(bob)
		tap.answerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != verifyPath {
				return nil
			}
			return jsonAnswer(http.StatusOK, `{"sessionJwt":"`+bobs.Session+`","refreshJwt":"`+bobs.Refresh+`"}`)
		})
		body := `{"loginId":"` + bob + `","code":"123456","loginOptions":{"stepup":true}}`
		res := serve(k.Handler(), withCookies(flowPost(verifyPath, body), "", adas.Refresh))
		requireProblem(t, res, http.StatusUnauthorized, "other_user")

		next := new(spy)
		res = serve(k.RequireSession(next), withCookies(get("/"), adas.Session, adas.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode, "%s", bodyOf(t, res))
		assert.Equal(t, 1, next.calls)
	})
}

// A second factor belongs to the tokens that it brought. Whoever else holds the
// refresh token from before, such as a thief, must not get it by being late.
func TestSecondFactorIsNotLentToTheTokenBefore(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		for _, presented := range []bool{false, true} {
			t.Run(fmt.Sprintf("rotate=%v, presented=%v", rotate, presented), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := newKit(t)
					k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
					before := k.srv.SignIn(ada)
					body := `{"loginId":"` + ada + `","code":"` + k.srv.Code(ada) + `","loginOptions":{"mfa":true}}`
					res := serve(k.Handler(), withCookies(flowPost(verifyPath, body), before.Session, before.Refresh))
					requireOK(t, res)
					cookies := cookiesOf(res)
					require.Equal(t, []any{"totp", "mfa"}, claimsOf(t, cookies[sessionCookie].Value)["amr"])
					if presented {
						next := new(spy)
						serve(k.RequireSession(next), withCookies(get("/"), cookies[sessionCookie].Value, cookies[refreshCookie].Value))
						require.Equal(t, 1, next.calls)
					}

					elapse(time.Second)
					next := new(spy)
					for _, h := range []http.Handler{k.RequireSession(next), k.Handler()} {
						res := serve(h, withCookies(flowPost(refreshPath, ``), "", before.Refresh))
						for _, c := range res.Cookies() {
							if c.Value != "" {
								assert.NotContains(t, claimsOf(t, c.Value)["amr"], "mfa", c.Name)
							}
						}
					}
					if next.calls > 0 {
						s, _ := descopehttp.SessionFromContext(next.last().Context())
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
	tap := new(wiretap)
	h := newHostile(t, tap.config)
	h.srv.AddUser(descopetest.User{LoginID: bob})
	revoked := h.srv.SignIn(bob).Refresh
	h.srv.LogOut(bob)
	project := h.srv.ProjectID()
	clients := 0
	for name, token := range map[string]string{
		"somebody else's, revoked": revoked,
		"expired":                  h.with(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Hour).Unix()}),
		"garbage":                  "a.b.c",
		"a session token":          h.srv.SignIn(ada).Session,
	} {
		for way, prepare := range map[string]func(*http.Request) *http.Request{
			"header":           func(r *http.Request) *http.Request { return inHeader(r, project, token) },
			"header, with key": func(r *http.Request) *http.Request { return inHeader(r, project, token, "K2key") },
			"cookie":           func(r *http.Request) *http.Request { return withCookies(r, "x", token) },
		} {
			for i, options := range []string{``, `,"loginOptions":{"stepup":false,"mfa":false}`} {
				about := fmt.Sprintf("%s, %s, %q", name, way, options)
				tap.forget()
				clients++
				prepare := func(r *http.Request) *http.Request {
					r.RemoteAddr = fmt.Sprintf("10.0.0.%d:1234", clients) // sign-ups from one are limited
					return prepare(r)
				}
				loginID := strings.ReplaceAll(fmt.Sprintf("%s-%s-%d@example.com", name, way, i), " ", "")
				res := serve(h.Handler(), prepare(flowPost(signUpPath, `{"loginId":"`+loginID+`"}`)))
				requireOK(t, res)
				assert.Empty(t, res.Cookies(), about)
				assert.Equal(t, "Bearer "+project, tap.only(t, signUpPath).authorization, about)

				res = serve(h.Handler(), prepare(flowPost(verifyPath, `{"loginId":"`+loginID+`","code":"`+h.srv.Code(loginID)+`"`+options+`}`)))
				requireOK(t, res)
				assert.Equal(t, "Bearer "+project, tap.only(t, verifyPath).authorization, about)
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
			"customClaims":{"plan":"gold","who":"` + ada + `"},"tenantId":"T2ours","ssoAppId":"ours"}`,
			map[string]any{"plan": "gold", "who": ada}},
		"removes": {func(_ *http.Request, _ string, options map[string]any) error {
			clear(options)
			return nil
		}, ``, nil},
	} {
		tap := new(wiretap)
		k := newKit(t, tap.config, func(c *descopehttp.Config) { c.LoginOptions = tt.hook })
		code := k.srv.Code(ada)
		r := flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+code+`","loginOptions":`+all+`}`)
		r.Header.Set("X-Plan", "gold")
		res := serve(k.Handler(), r)
		requireOK(t, res)
		want := `{"loginId":"` + ada + `","code":"` + code + `"}`
		if tt.options != "" {
			want = want[:len(want)-1] + `,"loginOptions":` + tt.options + `}`
		}
		assert.JSONEq(t, want, tap.only(t, verifyPath).body, name)
		assert.Equal(t, tt.nsec, claimsOf(t, cookiesOf(res)[sessionCookie].Value)["nsec"], name)
	}
}

func TestLoginOptionsCanAskForAStepUp(t *testing.T) {
	tap := new(wiretap)
	k := newKit(t, tap.config, func(c *descopehttp.Config) {
		c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
			options["stepup"] = true
			return nil
		}
	})
	body := `{"loginId":"` + ada + `","code":"` + k.srv.Code(ada) + `"}`
	requireProblem(t, serve(k.Handler(), flowPost(verifyPath, body)), http.StatusUnauthorized, "no_refresh_token")
	assert.Empty(t, tap.paths())
	tokens := k.srv.SignIn(ada)
	res := serve(k.Handler(), withCookies(flowPost(verifyPath, body), tokens.Session, tokens.Refresh))
	requireOK(t, res)
	assert.Equal(t, true, claimsOf(t, cookiesOf(res)[sessionCookie].Value)["su"])
}

func TestLoginOptionsRefuses(t *testing.T) {
	tap := new(wiretap)
	k := newKit(t, tap.config, func(c *descopehttp.Config) {
		c.LoginOptions = func(*http.Request, string, map[string]any) error {
			return errors.New("blocked because of secret-reason")
		}
	})
	res := serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
	assert.NotContains(t, string(bodyOf(t, res)), "secret-reason")
	requireProblem(t, res, http.StatusForbidden, "forbidden")
	assert.Empty(t, tap.paths())
}

// Options that do not encode are a mistake on this side, not the client's.
func TestLoginOptionsThatDoNotEncode(t *testing.T) {
	tap := new(wiretap)
	k := newKit(t, tap.config, func(c *descopehttp.Config) {
		c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
			options["customClaims"] = make(chan int)
			return nil
		}
	})
	res := serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
	requireProblem(t, res, http.StatusInternalServerError, "internal")
	assert.Empty(t, tap.paths())
}

// Whoever tries login ids must not learn from the answers which of them exist.
func TestWrongCodeAndUnknownUserLookAlike(t *testing.T) {
	k := newKit(t)
	k.srv.Configure(func(s *descopetest.Settings) {
		s.WrongCode = descopetest.Failure{Status: 400, Code: "E061102", Description: "a"}
		s.ReplayedCode = descopetest.Failure{Status: 401, Code: "E061104", Description: "b"}
		s.UnknownUser = descopetest.Failure{Status: 404, Code: "E062108", Description: "c"}
	})
	code := k.srv.Code(ada)
	requireOK(t, serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+ada+`","code":"`+code+`"}`)))
	requireOK(t, serve(k.Handler(), flowPost(signUpPath, `{"loginId":"pending@example.com"}`)))

	first := serve(k.Handler(), flowPost(verifyPath, `{"loginId":"unknown@example.com","code":"000000"}`))
	want := string(bodyOf(t, first))
	requireProblem(t, first, http.StatusUnauthorized, "invalid_code")
	for name, body := range map[string]string{
		"wrong code":            `{"loginId":"` + ada + `","code":"` + otherCode(code) + `"}`,
		"replayed code":         `{"loginId":"` + ada + `","code":"` + code + `"}`,
		"code of another shape": `{"loginId":"` + ada + `","code":"12345678"}`,
		"pending user":          `{"loginId":"pending@example.com","code":"` + otherCode(k.srv.Code("pending@example.com")) + `"}`,
	} {
		res := serve(k.Handler(), flowPost(verifyPath, body))
		assert.Equal(t, first.StatusCode, res.StatusCode, name)
		assert.Equal(t, want, string(bodyOf(t, res)), name)
		assert.Equal(t, first.Header, res.Header, name)
	}
}

// otherCode returns a code that is wrong in this step and, all but certainly, in
// the two beside it.
func otherCode(code string) string {
	return strings.Map(func(r rune) rune { return '0' + (r-'0'+5)%10 }, code)
}

// What the Authorization header of a flow may be.
func TestFlowAuthorization(t *testing.T) {
	h := newHostile(t)
	h.srv.AddUser(descopetest.User{LoginID: bob})
	project := h.srv.ProjectID()
	adas, bobs := h.srv.SignIn(ada), h.srv.SignIn(bob)
	dead := h.with(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Minute).Unix()})
	forged := adas.Refresh[:len(adas.Refresh)-6] + "AAAAAA"
	require.NoError(t, h.Ready(t.Context()))

	for _, tt := range []struct {
		name          string
		authorization []string
		cookie        string // a refresh token
		want          string // login id of whom it is about, or code of the problem
	}{
		{"nothing", nil, "", "no_refresh_token"},
		{"cookie", nil, adas.Refresh, ada},
		{"project", []string{"Bearer " + project}, "", "no_refresh_token"},
		{"project, cookie", []string{"Bearer " + project}, adas.Refresh, ada},
		{"project and a colon, cookie", []string{"Bearer " + project + ":"}, adas.Refresh, ada},
		{"project and token", []string{"Bearer " + project + ":" + adas.Refresh}, "", ada},
		{"scheme in lower case", []string{"bearer " + project + ":" + adas.Refresh}, "", ada},
		{"project, token and key", []string{"Bearer " + project + ":" + adas.Refresh + ":K2key"}, "", ada},
		{"project and key", []string{"Bearer " + project + ":K2key"}, "", "no_refresh_token"},
		{"project and key, cookie", []string{"Bearer " + project + ":K2key"}, adas.Refresh, ada},
		{"the header beats the cookie", []string{"Bearer " + project + ":" + bobs.Refresh}, adas.Refresh, bob},
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
		{"basic, for a proxy in front", []string{"Basic YTpi"}, adas.Refresh, ada},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []*http.Request{get(mePath), flowPost(refreshPath, "")} {
				h.srv.Reset()
				r.Header["Authorization"] = tt.authorization
				res := serve(h.Handler(), withCookies(r, "", tt.cookie))
				if !strings.Contains(tt.want, "@") {
					requireProblem(t, res, http.StatusUnauthorized, tt.want)
					assert.NotEmpty(t, res.Header.Get("WWW-Authenticate"))
					assert.Zero(t, h.srv.Requests(""), "it is judged before Descope hears of it")
					continue
				}
				user := requireOK(t, res)
				if r.URL.Path == refreshPath {
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
					tap := new(wiretap)
					k := newKit(t, tap.config, func(c *descopehttp.Config) { c.AuthManagementKey = descopehttp.NewSecret(ours) })
					k.srv.AddUser(descopetest.User{LoginID: bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
					k.srv.Configure(func(s *descopetest.Settings) { s.AuthManagementKey = ours })
					project, refresh := k.srv.ProjectID(), k.srv.SignIn(bob).Refresh
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
						tap.forget()
						require.Equal(t, http.StatusOK, serve(k.Handler(), withBearer(r, join(refresh, theirs))).StatusCode)
						require.NotEmpty(t, tap.calls())
						for _, c := range tap.calls() {
							assert.Equal(t, "Bearer "+join(refresh, ours), c.authorization, c.path)
							assert.NotContains(t, fmt.Sprint(c.header)+c.body, "K2theirs")
						}
					}
					call(flowPost(signUpPath, `{"loginId":"new"}`), "")
					call(flowPost(verifyPath, `{"loginId":"new","code":"`+k.srv.Code("new")+`"}`), "")
					call(flowPost(verifyPath, `{"loginId":"`+bob+`","code":"`+k.srv.Code(bob)+`","loginOptions":{"mfa":true}}`), k.srv.SignIn(bob).Refresh)
					call(flowPost(refreshPath, ``), refresh)
					call(get(mePath), refresh)
					call(get(historyPath), refresh)
					call(flowPost(tenantsPath, `{}`), refresh)
					call(flowPost(updatePath, `{"loginId":"`+bob+`"}`), refresh)
					call(flowPost(selectPath, `{"tenant":"T2"}`), k.srv.SignIn(bob).Refresh)
					call(flowPost(logoutPath, `{}`), k.srv.SignIn(bob).Refresh)
				})
			})
		}
	}
}

func TestTryRefreshWithoutASession(t *testing.T) {
	h := newHostile(t)
	h.srv.AddUser(descopetest.User{LoginID: bob})
	project := h.srv.ProjectID()
	revoked := h.srv.SignIn(bob).Refresh
	h.srv.LogOut(bob)
	expired := h.with(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Minute).Unix()})
	for name, r := range map[string]*http.Request{
		"nothing":               flowPost(tryRefreshPath, `{}`),
		"no body":               flowPost(tryRefreshPath, ``),
		"project":               inHeader(flowPost(tryRefreshPath, `{}`), project),
		"garbage in the header": inHeader(flowPost(tryRefreshPath, `{}`), project, "a.b.c"),
		"garbage in the cookie": withCookies(flowPost(tryRefreshPath, `{}`), "", "garbage"),
		"session, no refresh":   withCookies(flowPost(tryRefreshPath, `{}`), h.srv.SignIn(ada).Session, ""),
		"expired, header":       inHeader(flowPost(tryRefreshPath, `{}`), project, expired),
		"expired, cookie":       withCookies(flowPost(tryRefreshPath, `{}`), "", expired),
		"revoked, header":       inHeader(flowPost(tryRefreshPath, `{}`), project, revoked),
		"revoked, cookie":       withCookies(flowPost(tryRefreshPath, `{}`), "", revoked),
	} {
		res := serve(h.Handler(), r)
		requireOK(t, res)
		assert.Equal(t, "{}", string(bodyOf(t, res)), name)
		for _, c := range res.Cookies() {
			assert.Empty(t, c.Value, name)
		}
	}
}

func requireDeleted(t testing.TB, res *http.Response, names ...string) {
	t.Helper()
	cookies := cookiesOf(res)
	for _, name := range names {
		require.Contains(t, cookies, name)
		assert.Negative(t, cookies[name].MaxAge, name)
		assert.Empty(t, cookies[name].Value, name)
		assert.Equal(t, "/", cookies[name].Path, "else it deletes another one")
		assert.True(t, cookies[name].Secure, "without it a browser ignores the deletion of a __Host- cookie")
	}
}

func TestLogout(t *testing.T) {
	h := newHostile(t)
	h.srv.AddUser(descopetest.User{LoginID: bob})
	project := h.srv.ProjectID()
	revoked := h.srv.SignIn(bob)
	h.srv.LogOut(bob)
	good, kept := h.srv.SignIn(ada), h.srv.SignIn(ada)
	expired := h.with(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Minute).Unix()})
	for _, r := range []*http.Request{
		withCookies(flowPost(logoutPath, `{}`), good.Session, good.Refresh),
		withCookies(flowPost(logoutPath, `{}`), good.Session, good.Refresh), // again
		inHeader(flowPost(logoutPath, ``), project, good.Refresh),
		flowPost(logoutPath, `{}`),
		httptest.NewRequest(http.MethodPost, logoutPath, nil), // no type either
		inHeader(flowPost(logoutPath, ``), project),
		inHeader(flowPost(logoutPath, `{}`), project, "a.b.c"),
		inHeader(flowPost(logoutPath, `{}`), project, revoked.Refresh),
		withCookies(flowPost(logoutPath, `{}`), "garbage", "garbage"),
		withCookies(flowPost(logoutPath, `{}`), "", expired),
		withCookies(flowPost(logoutPath, `{}`), revoked.Session, revoked.Refresh),
		withCookies(flowPost(logoutPath, `{}`), kept.Session, revoked.Refresh), // two users
	} {
		res := serve(h.Handler(), r)
		requireOK(t, res)
		requireDeleted(t, res, sessionCookie, refreshCookie)
	}
	assert.False(t, h.srv.Honours(good.Refresh))
	assert.True(t, h.srv.Honours(kept.Refresh), "a logout ends one session")
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
		k := newKit(t)
		k.srv.Fail(logoutPath, fault)
		tokens := k.srv.SignIn(ada)
		res := serve(k.Handler(), withCookies(flowPost(logoutPath, `{}`), tokens.Session, tokens.Refresh))
		if name == "refusal" {
			assert.NotEqual(t, http.StatusOK, res.StatusCode)
		} else {
			assert.Equal(t, http.StatusBadGateway, res.StatusCode, name)
		}
		requireDeleted(t, res, sessionCookie, refreshCookie)
	}
}

func TestLogoutAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: bob})
		bobs := k.srv.SignIn(bob)
		phone, laptop := k.srv.SignIn(ada), k.srv.SignIn(ada)

		requireProblem(t, serve(k.Handler(), flowPost(logoutAllPath, `{}`)), http.StatusUnauthorized, "no_refresh_token")
		requireProblem(t, serve(k.Handler(), inHeader(flowPost(logoutAllPath, `{}`), k.srv.ProjectID(), "a.b.c")),
			http.StatusUnauthorized, "invalid_refresh_token")
		assert.True(t, k.srv.Honours(phone.Refresh))

		// While Descope is away nothing has been ended, and the cookies are what
		// it can be tried again with.
		k.srv.Fail(logoutAllPath, descopetest.Fault{Status: 500})
		res := serve(k.Handler(), withCookies(flowPost(logoutAllPath, `{}`), phone.Session, phone.Refresh))
		requireProblem(t, res, http.StatusBadGateway, "unavailable")
		assert.Empty(t, res.Cookies())

		res = serve(k.Handler(), withCookies(flowPost(logoutAllPath, `{}`), phone.Session, phone.Refresh))
		requireOK(t, res)
		requireDeleted(t, res, sessionCookie, refreshCookie)
		elapse(past)
		for _, tokens := range []descopetest.Tokens{phone, laptop} {
			assert.False(t, k.srv.Honours(tokens.Refresh))
			next := new(spy)
			res := serve(k.RequireSession(next), withCookies(get("/"), tokens.Session, tokens.Refresh))
			requireProblem(t, res, http.StatusUnauthorized, "session_ended")
			assert.Zero(t, next.calls)
		}
		assert.True(t, k.srv.Honours(bobs.Refresh))
	})
}

// A body that two readers could take for two is refused in every flow that reads one.
func TestAmbiguousBodies(t *testing.T) {
	k := newKit(t)
	tokens := k.srv.SignIn(ada)
	require.NoError(t, k.Ready(t.Context()))
	k.srv.Reset()
	for path, body := range map[string]string{
		signUpPath:            `{"loginId":"` + ada + `","loginId":"bob"}`,
		verifyPath:            `{"loginId":"` + ada + `","code":"000000","code":"000001"}`,
		updatePath:            `{"loginId":"` + ada + `","loginId":"bob"}`,
		selectPath:            `{"tenant":"T1","tenant":"T2"}`,
		"/v1/auth/me/tenants": `{"dct":true,"dct":false}`,
	} {
		res := serve(k.Handler(), withCookies(flowPost(path, body), tokens.Session, tokens.Refresh))
		requireProblem(t, res, http.StatusBadRequest, "malformed_body")
	}
	assert.Zero(t, k.srv.Requests(""))
}

// A flow is answered within nine seconds.
func TestFlowsEndInTime(t *testing.T) {
	for path, body := range map[string]string{mePath: "", signUpPath: `{"loginId":"new"}`, verifyPath: `{"loginId":"` + ada + `","code":"000000"}`, logoutPath: "{}"} {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			tokens := k.srv.SignIn(ada)
			require.NoError(t, k.Ready(t.Context()))
			k.srv.Fail(path, descopetest.Fault{Delay: time.Hour})
			r := get(path)
			if body != "" {
				r = flowPost(path, body)
			}
			began := time.Now()
			res := serve(k.Handler(), withCookies(r, "", tokens.Refresh))
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
		prepare func(*kit, descopetest.Tokens)
		session bool // there is none
		gone    bool
	}{
		"no token":          {session: true, gone: true},
		"refused for good":  {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`, Times: -1}, gone: true},
		"revoked":           {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"E064001"}`, Times: -1}, gone: true},
		"refused otherwise": {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`, Times: -1}},
		"asks to wait":      {fault: descopetest.Fault{Status: 429, Body: `{"errorCode":"E061005"}`, Times: -1}},
		"away":              {fault: descopetest.Fault{Drop: true, Times: -1}},
		"logged out here": {prepare: func(k *kit, tokens descopetest.Tokens) {
			serve(k.Handler(), withCookies(flowPost(logoutPath, `{}`), "", tokens.Refresh))
		}, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				tokens := k.srv.SignIn(ada)
				require.NoError(t, k.Ready(t.Context()))
				if tt.prepare != nil {
					tt.prepare(k, tokens)
				}
				if tt.fault.Times != 0 {
					k.srv.Fail(logoutAllPath, tt.fault)
				}
				r := withCookies(flowPost(logoutAllPath, `{}`), tokens.Session, tokens.Refresh)
				if tt.session {
					r = withCookies(flowPost(logoutAllPath, `{}`), tokens.Session, "")
				}
				res := serve(k.Handler(), r)
				require.NotEqual(t, http.StatusOK, res.StatusCode)
				if tt.gone {
					requireDeleted(t, res, sessionCookie, refreshCookie)
				} else {
					assert.Empty(t, res.Cookies())
				}
			})
		})
	}
}

// A client that brings its refresh token in the header gets it as a cookie as well,
// from where the middleware renews.
func TestRefreshTokenInTheHeaderBecomesACookie(t *testing.T) {
	k := newKit(t)
	tokens := k.srv.SignIn(ada)
	res := serve(k.Handler(), inHeader(flowPost(refreshPath, "{}"), k.srv.ProjectID(), tokens.Refresh))
	requireOK(t, res)
	require.Contains(t, cookiesOf(res), refreshCookie)
	assert.Equal(t, tokens.Refresh, cookiesOf(res)[refreshCookie].Value)
	res = serve(k.Handler(), withCookies(flowPost(refreshPath, "{}"), "", tokens.Refresh))
	requireOK(t, res)
	assert.NotContains(t, cookiesOf(res), refreshCookie, "it is there already")

	// With rotation it is the new one that counts.
	k.srv.Configure(rotating)
	tokens = k.srv.SignIn(ada)
	res = serve(k.Handler(), inHeader(flowPost(refreshPath, "{}"), k.srv.ProjectID(), tokens.Refresh))
	requireOK(t, res)
	require.Contains(t, cookiesOf(res), refreshCookie)
	assert.NotEqual(t, tokens.Refresh, cookiesOf(res)[refreshCookie].Value)
}

func TestMe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: bob, Name: "Bob", Tenant: "T2a", Tenants: map[string]descopetest.Tenant{
			"T2a": {Name: "Acme", Roles: []string{"owner"}}, "T2b": {Name: "Bolt"},
		}})
		tokens := k.srv.SignIn(bob)
		cookies := func(r *http.Request) *http.Request { return withCookies(r, tokens.Session, tokens.Refresh) }

		res := serve(k.Handler(), cookies(get(mePath)))
		me := requireOK(t, res)
		assert.Equal(t, []any{bob}, me["loginIds"])
		assert.Equal(t, subjectOf(t, k, tokens.Session), me["userId"])
		assert.Empty(t, res.Cookies())

		res = serve(k.Handler(), cookies(get(historyPath)))
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
		assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
		var history []map[string]any
		require.NoError(t, json.Unmarshal(bodyOf(t, res), &history), "an array, as Descope's clients expect")
		require.NotEmpty(t, history)
		assert.Equal(t, me["userId"], history[0]["userId"])

		for body, names := range map[string][]string{
			`{"dct":true}`:           {"Acme"},
			`{"ids":["T2b"]}`:        {"Bolt"},
			`{}`:                     {"Acme", "Bolt"},
			`{"dct":false,"ids":[]}`: {"Acme", "Bolt"},
		} {
			answer := requireOK(t, serve(k.Handler(), cookies(flowPost(tenantsPath, body))))
			tenants, _ := answer["tenants"].([]any)
			var got []string
			for _, tenant := range tenants {
				object, _ := tenant.(map[string]any)
				got = append(got, fmt.Sprint(object["name"]))
			}
			assert.Equal(t, names, got, body)
		}

		// An expired session is no reason against these: they take the refresh token.
		elapse(past)
		requireOK(t, serve(k.Handler(), cookies(get(mePath))))
	})
}

func TestSelectTenant(t *testing.T) {
	for _, delivery := range []descopehttp.Delivery{descopehttp.InCookies, descopehttp.SessionInBody, descopehttp.InBody} {
		for _, rotate := range []bool{false, true} {
			t.Run(fmt.Sprintf("delivery=%d, rotate=%v", delivery, rotate), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := newKit(t, func(c *descopehttp.Config) { c.Tokens = delivery })
					k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
					k.srv.AddUser(descopetest.User{LoginID: bob, Tenants: map[string]descopetest.Tenant{"T2a": {}, "T2b": {}}})
					v := newApp(k, delivery, "/auth", false).visit(t)
					v.take(v.flow(http.MethodPost, verifyPath, `{"loginId":"`+bob+`","code":"`+k.srv.Code(bob)+`"}`), true)
					user := subjectOf(t, k, v.currentSession())

					v.take(v.flow(http.MethodPost, selectPath, `{"tenant":"T2b"}`), true)
					s, err := k.VerifyToken(t.Context(), v.currentSession())
					require.NoError(t, err)
					assert.Equal(t, "T2b", s.Tenant())
					res, view := v.page()
					require.Equal(t, http.StatusOK, res.StatusCode)
					assert.Equal(t, user, view.Subject)

					// The tenant stays selected when the session is renewed.
					elapse(past)
					v.take(v.flow(http.MethodPost, refreshPath, `{}`), rotate)
					assert.Equal(t, "T2b", claimsOf(t, v.currentSession())["dct"])

					res = v.flow(http.MethodPost, selectPath, `{"tenant":"T2stranger"}`)
					requireProblem(t, res, http.StatusBadRequest, "refused")
					assert.Empty(t, res.Cookies())
				})
			})
		}
	}
}

func TestPaths(t *testing.T) {
	k := newKit(t)
	tokens := k.srv.SignIn(ada)
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
		{whole, "/v2/keys/" + k.srv.ProjectID(), false},
		{whole, "/auth-v1/auth/me", false},
		{stripped, "/auth", false},
		{stripped, "/auth/", false},
	} {
		r := withCookies(get("/"), tokens.Session, tokens.Refresh)
		u, err := url.Parse("http://app.example" + tt.path)
		require.NoError(t, err)
		r.URL = u
		res := serve(tt.handler, r)
		if tt.ok {
			assert.Equal(t, []any{ada}, requireOK(t, res)["loginIds"], tt.path)
		} else {
			requireProblem(t, res, http.StatusNotFound, "not_found")
		}
	}
}

func TestSingleHandlers(t *testing.T) {
	k := newKit(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/join", k.TOTPSignUp)
	mux.HandleFunc("/enter", k.TOTPVerify)
	mux.HandleFunc("/new-key", k.TOTPUpdate)
	mux.HandleFunc("/renew", k.Refresh)
	mux.HandleFunc("/leave", k.Logout)
	mux.HandleFunc("/leave-all", k.LogoutAll)
	mux.HandleFunc("/who", k.Me)
	requireOK(t, serve(mux, flowPost("/join", `{"loginId":"new"}`)))
	res := serve(mux, flowPost("/enter", `{"loginId":"new","code":"`+k.srv.Code("new")+`"}`))
	requireOK(t, res)
	cookies := cookiesOf(res)
	session, refresh := cookies[sessionCookie].Value, cookies[refreshCookie].Value
	for _, r := range []*http.Request{
		flowPost("/new-key", `{"loginId":"new"}`), flowPost("/renew", `{}`), get("/who"), flowPost("/leave", `{}`),
	} {
		requireOK(t, serve(mux, withCookies(r, session, refresh)))
	}
	tokens := k.srv.SignIn(ada)
	requireOK(t, serve(mux, withCookies(flowPost("/leave-all", ``), tokens.Session, tokens.Refresh)))

	for path, method := range map[string]string{
		"/join": "POST", "/enter": "POST", "/new-key": "POST", "/renew": "POST", "/leave": "POST", "/leave-all": "POST", "/who": "GET",
	} {
		res := serve(mux, httptest.NewRequest(http.MethodDelete, path, nil))
		requireProblem(t, res, http.StatusMethodNotAllowed, "method_not_allowed")
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
		{"duplicate loginId", signUpPath, `{"loginId":"a","loginId":"b"}`, "", "malformed_body"},
		{"duplicate, escaped", signUpPath, `{"loginId":"a","login\u0049d":"b"}`, "", "malformed_body"},
		{"duplicate in the user", signUpPath, `{"loginId":"a","user":{"email":"a","email":"b"}}`, "", "malformed_body"},
		{"duplicate in what is dropped", signUpPath, `{"loginId":"a","x":{"y":1,"y":2}}`, "", "malformed_body"},
		{"other cases", signUpPath, `{"loginId":"a","LoginId":"b","LOGINID":"c","loginid":"d"}`, `{"loginId":"a"}`, ""},
		{"other case only", signUpPath, `{"LoginId":"b"}`, "", "missing_field"},
		{"unknown members", signUpPath,
			`{"loginId":"a","ssoAppId":"x","admin":true,"user":{"name":"N","roles":["admin"],"customAttributes":{"a":1},"loginId":"b"}}`,
			`{"loginId":"a","user":{"name":"N"}}`, ""},
		{"all of the profile", signUpPath,
			`{"loginId":"a","user":{"name":"1","email":"2","phone":"3","givenName":"4","middleName":"5","familyName":"6"}}`,
			`{"loginId":"a","user":{"name":"1","email":"2","phone":"3","givenName":"4","middleName":"5","familyName":"6"}}`, ""},
		{"null for a member", signUpPath, `{"loginId":"a","user":null}`, `{"loginId":"a"}`, ""},
		{"empty user", signUpPath, `{"loginId":"a","user":{}}`, `{"loginId":"a"}`, ""},
		{"long s in a name", verifyPath, `{"loginId":"CARL","code":"CODE","loginOptionſ":{"stepup":true}}`, `{"loginId":"CARL","code":"CODE"}`, ""},
		{"options in other cases", verifyPath,
			`{"loginId":"CARL","code":"CODE","LoginOptions":{"mfa":true},"loginOptions":{"CustomClaims":{"a":1},"StepUp":true}}`,
			`{"loginId":"CARL","code":"CODE"}`, ""},
		{"duplicate option", verifyPath, `{"loginId":"CARL","code":"CODE","loginOptions":{"mfa":false,"mfa":true}}`, "", "malformed_body"},
		{"duplicate template option", verifyPath,
			`{"loginId":"CARL","code":"CODE","loginOptions":{"templateOptions":{"a":"1","a":"2"}}}`, "", "malformed_body"},
		{"update in two cases", updatePath, `{"loginId":"CARL","LOGINID":"` + ada + `"}`, `{"loginId":"CARL"}`, ""},
		{"tenant in two cases", selectPath, `{"tenant":"T2","Tenant":"T3","tenantId":"T4"}`, `{"tenant":"T2"}`, ""},
		{"tenants", tenantsPath, `{"dct":true,"DCT":false,"x":1}`, `{"dct":true}`, ""},
		{"refresh", refreshPath, `{"externalToken":"x","a":1,"a":2}`, `{}`, ""},
		{"logout", logoutPath, `{"logoutType":["x"]}`, `{}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := new(wiretap)
			k := newKit(t, tap.config)
			k.srv.AddUser(descopetest.User{LoginID: "carl", Tenants: map[string]descopetest.Tenant{"T2": {}}})
			refresh := k.srv.SignIn("carl").Refresh
			fill := strings.NewReplacer("CARL", "carl", "CODE", k.srv.Code("carl"))
			r := withCookies(flowPost(tt.path, fill.Replace(tt.body)), "", refresh)
			// As a browser would, on behalf of a page that sets these.
			r.Header.Set("X-Forwarded-For", "10.0.0.1")
			r.Header.Set("X-Descope-Project-Id", "P2theirs")
			res := serve(k.Handler(), r)
			if tt.problem != "" {
				requireProblem(t, res, http.StatusBadRequest, tt.problem)
				assert.Empty(t, tap.paths())
				return
			}
			requireOK(t, res)
			sent := tap.only(t, tt.path)
			assert.Equal(t, fill.Replace(tt.sent), sent.body)
			assert.Equal(t, "application/json", sent.header.Get("Content-Type"))
			assert.NotEmpty(t, sent.header.Get("User-Agent"), "Descope's edge turns away clients without one")
			for _, name := range []string{"Cookie", "X-Forwarded-For"} {
				assert.Empty(t, sent.header.Get(name), name)
			}
			assert.NotEqual(t, "P2theirs", sent.header.Get("X-Descope-Project-Id"))
		})
	}
}

// Descope's clients parse every body, of errors too, and a redirect or a cached
// answer breaks them.
func TestEveryAnswerIsJSON(t *testing.T) {
	bodies := map[string]string{
		signUpPath: `{"loginId":"new"}`, verifyPath: `{"loginId":"` + bob + `","code":"000000"}`, updatePath: `{"loginId":"` + bob + `"}`,
		refreshPath: ``, tryRefreshPath: ``, logoutPath: ``, logoutAllPath: `{}`, tenantsPath: `{}`, selectPath: `{"tenant":"T2"}`,
		mePath: ``, historyPath: ``, "/v1/auth/nothing": `{}`, "/": ``,
	}
	k := newKit(t)
	k.srv.AddUser(descopetest.User{LoginID: bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
	for path, body := range bodies {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "X"} {
			for name, prepare := range map[string]func(*http.Request) *http.Request{
				"nobody":        func(r *http.Request) *http.Request { return r },
				"signed in":     func(r *http.Request) *http.Request { return withCookies(r, "", k.srv.SignIn(bob).Refresh) },
				"other project": func(r *http.Request) *http.Request { return inHeader(r, "P2other") },
			} {
				r := flowPost(path, body)
				r.Method = method
				res := serve(k.Handler(), prepare(r))
				about := fmt.Sprintf("%s %s, %s: %d", method, path, name, res.StatusCode)
				assert.Contains(t, []string{"application/json", "application/problem+json"}, res.Header.Get("Content-Type"), about)
				assert.Equal(t, "no-store", res.Header.Get("Cache-Control"), about)
				assert.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"), about)
				assert.True(t, json.Valid(bodyOf(t, res)), about)
				assert.NotEqual(t, 3, res.StatusCode/100, about)
				assert.Less(t, res.StatusCode, 500, about)
				assert.Empty(t, res.Header.Get("Location"), about)
			}
		}
	}
}
