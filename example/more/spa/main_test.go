package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

const (
	ada     = "ada@example.com"
	origin  = "http://127.0.0.1:5173"
	verify  = "/auth/v1/auth/totp/verify"
	refresh = "/v1/auth/refresh"
)

// A visitor is a browser that a page of some origin makes call the server.
type visitor struct {
	t       *testing.T
	project *descopetest.Server
	url     string
	client  http.Client
}

func open(t *testing.T) *visitor {
	t.Helper()
	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	project.AddUser(descopetest.User{LoginID: ada})
	api, err := newAPI(descopehttp.Config{ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client()})
	require.NoError(t, err)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{t: t, project: project, url: server.URL, client: http.Client{Jar: jar}}
}

type answer struct {
	*http.Response
	json map[string]any
}

func (v *visitor) send(method, path, origin, body string, header ...string) answer {
	v.t.Helper()
	r, err := http.NewRequest(method, v.url+path, strings.NewReader(body))
	require.NoError(v.t, err)
	r.Header.Set("Origin", origin)
	r.Header.Set("Sec-Fetch-Site", "same-site")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := v.client.Do(r)
	require.NoError(v.t, err)
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	a := answer{Response: res}
	if len(content) > 0 {
		require.NoError(v.t, json.Unmarshal(content, &a.json), "%s", content)
	}
	return a
}

func (v *visitor) signIn() {
	v.t.Helper()
	a := v.send("POST", verify, origin, `{"loginId":"`+ada+`","code":"`+v.project.Code(ada)+`"}`)
	require.Equal(v.t, http.StatusOK, a.StatusCode, a.json)
	assert.Empty(v.t, a.json["sessionJwt"], "a script sees no token")
	assert.Empty(v.t, a.json["refreshJwt"], "a script sees no token")
}

// comeBack gives the browser what is left of a sign-in when its session is over.
func (v *visitor) comeBack() {
	v.t.Helper()
	u, err := url.Parse(v.url)
	require.NoError(v.t, err)
	v.client.Jar.SetCookies(u, []*http.Cookie{{Name: "DSR", Path: "/", Value: v.project.SignIn(ada).Refresh}})
}

// assertReadable says that a browser lets the page read the answer.
func assertReadable(t *testing.T, a answer) {
	t.Helper()
	assert.Equal(t, origin, a.Header.Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "true", a.Header.Get("Access-Control-Allow-Credentials"))
}

func TestPreflightNeedsNoSession(t *testing.T) {
	v := open(t)
	for _, path := range []string{verify, "/api/orders"} {
		a := v.send("OPTIONS", path, origin, "", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
		assert.Equal(t, http.StatusNoContent, a.StatusCode, path)
		assertReadable(t, a)
		assert.Equal(t, "content-type", a.Header.Get("Access-Control-Allow-Headers"))
		assert.Equal(t, "POST", a.Header.Get("Access-Control-Allow-Methods"))

		a = v.send("OPTIONS", path, "https://evil.example", "", "Access-Control-Request-Method", "POST")
		assert.Empty(t, a.Header.Get("Access-Control-Allow-Origin"), path)
	}
}

func TestPageSignsInAndOrders(t *testing.T) {
	v := open(t)
	a := v.send("GET", "/api/hello", origin, "")
	assert.Equal(t, http.StatusUnauthorized, a.StatusCode)
	assert.Equal(t, "no_session", a.json["code"])
	assertReadable(t, a)

	v.signIn()
	a = v.send("GET", "/api/hello", origin, "")
	assert.Equal(t, http.StatusOK, a.StatusCode)
	assert.NotEmpty(t, a.json["subject"])
	assertReadable(t, a)

	a = v.send("POST", "/api/orders", origin, `{"item":"tea"}`)
	assert.Equal(t, http.StatusUnauthorized, a.StatusCode)
	assert.Equal(t, "step_up_required", a.json["code"])
	assertReadable(t, a)

	a = v.send("POST", verify, origin, `{"loginId":"`+ada+`","code":"`+v.project.Code(ada)+`","loginOptions":{"stepup":true}}`)
	require.Equal(t, http.StatusOK, a.StatusCode, a.json)
	a = v.send("POST", "/api/orders", origin, `{"item":"tea"}`)
	assert.Equal(t, http.StatusCreated, a.StatusCode)
	assert.Equal(t, "tea", a.json["ordered"])
}

func TestOtherOriginsAreRefused(t *testing.T) {
	v := open(t)
	v.signIn()
	for _, origin := range []string{"https://evil.example", "http://127.0.0.1:9999"} {
		a := v.send("POST", "/api/orders", origin, `{"item":"tea"}`)
		assert.Equal(t, http.StatusForbidden, a.StatusCode, origin)
		assert.Equal(t, "cross_origin", a.json["code"])
		assert.Empty(t, a.Header.Get("Access-Control-Allow-Origin"))
	}
}

func TestSessionIsRenewedOnTheWay(t *testing.T) {
	v := open(t)
	v.comeBack()
	a := v.send("GET", "/api/hello", origin, "")
	assert.Equal(t, http.StatusOK, a.StatusCode)
	assert.NotEmpty(t, a.Cookies())
	assert.Equal(t, 1, v.project.Requests(refresh))
}

// While Descope is away the page can read how long to wait, and stays signed in.
func TestOutageSignsNobodyOut(t *testing.T) {
	v := open(t)
	v.comeBack()
	v.project.Fail(refresh, descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
	a := v.send("GET", "/api/hello", origin, "")
	assert.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
	assert.NotEmpty(t, a.Header.Get("Retry-After"))
	assert.Contains(t, a.Header.Get("Access-Control-Expose-Headers"), "Retry-After")
	assert.Empty(t, a.Cookies(), "cookies are kept")
	assertReadable(t, a)
}
