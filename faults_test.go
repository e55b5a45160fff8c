package descopehttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// What a client gets wrong it is told, and Descope never hears of it.
func TestBadInput(t *testing.T) {
	tap := new(kittest.Wiretap)
	h := kittest.NewHostile(t, tap.Config)
	project, tokens := h.Project.ProjectID(), h.Project.SignIn(kittest.Ada)
	require.NoError(t, h.Ready(t.Context()))
	typed := func(contentType string) *http.Request {
		r := kittest.Post(kittest.SignUpPath, `{"loginId":"a"}`)
		if r.Header.Set("Content-Type", contentType); contentType == "" {
			r.Header.Del("Content-Type")
		}
		return r
	}
	verify := func(body string) *http.Request { return kittest.Post(kittest.VerifyPath, body) }
	code := func(code string) *http.Request { return verify(`{"loginId":"a","code":` + code + `}`) }
	signedIn := func(path, body string) *http.Request { return kittest.SignedInPost(tokens, path, body) }
	broken := kittest.Post(kittest.SignUpPath, `{"loginId":"a"`)
	broken.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"loginId":"a"}`), kittest.Reader(func([]byte) (int, error) {
		return 0, io.ErrUnexpectedEOF
	})))
	method := func(m, path string) *http.Request {
		return kittest.WithCookies(httptest.NewRequest(m, path, nil), "", tokens.Refresh)
	}
	crossSite := kittest.Post(kittest.LogoutPath, `{}`)
	crossSite.Header.Set("Sec-Fetch-Site", "cross-site")

	for _, tt := range []struct {
		name   string
		r      *http.Request
		status int
		code   string
		field  string
	}{
		{"no type", typed(""), 415, "unsupported_media_type", ""},
		{"a form", typed("application/x-www-form-urlencoded"), 415, "unsupported_media_type", ""},
		{"text", typed("text/plain"), 415, "unsupported_media_type", ""},
		{"text with JSON in it", typed("text/plain; application/json"), 415, "unsupported_media_type", ""},
		{"a longer type", typed("application/jsonp"), 415, "unsupported_media_type", ""},
		{"another JSON", typed("application/problem+json"), 415, "unsupported_media_type", ""},
		{"malformed type", typed("application/json; ="), 415, "unsupported_media_type", ""},
		{"two types", typed("application/json, text/plain"), 415, "unsupported_media_type", ""},

		{"too large", kittest.Post(kittest.SignUpPath, `{"loginId":"a","x":"`+strings.Repeat("x", 64<<10)+`"}`), 413, "body_too_large", ""},
		{"too large by spaces", kittest.Post(kittest.SignUpPath, `{"loginId":"a"}`+strings.Repeat(" ", 64<<10)), 413, "body_too_large", ""},

		{"empty", kittest.Post(kittest.SignUpPath, ""), 400, "malformed_body", ""},
		{"spaces", kittest.Post(kittest.SignUpPath, "  "), 400, "malformed_body", ""},
		{"not JSON", kittest.Post(kittest.SignUpPath, "loginId=a"), 400, "malformed_body", ""},
		{"cut", kittest.Post(kittest.SignUpPath, `{"loginId":"a"`), 400, "malformed_body", ""},
		{"connection lost", broken, 400, "malformed_body", ""},
		{"trailing garbage", kittest.Post(kittest.SignUpPath, `{"loginId":"a"}x`), 400, "malformed_body", ""},
		{"two documents", kittest.Post(kittest.SignUpPath, `{"loginId":"a"}{"loginId":"b"}`), 400, "malformed_body", ""},
		{"NUL at the end", kittest.Post(kittest.SignUpPath, "{\"loginId\":\"a\"}\x00"), 400, "malformed_body", ""},
		{"byte order mark", kittest.Post(kittest.SignUpPath, "\ufeff{\"loginId\":\"a\"}"), 400, "malformed_body", ""},
		{"comment", kittest.Post(kittest.SignUpPath, `{"loginId":"a"/**/}`), 400, "malformed_body", ""},
		{"array", kittest.Post(kittest.SignUpPath, `[{"loginId":"a"}]`), 400, "malformed_body", ""},
		{"null", kittest.Post(kittest.SignUpPath, `null`), 400, "malformed_body", ""},
		{"string", kittest.Post(kittest.SignUpPath, `"loginId"`), 400, "malformed_body", ""},
		{"invalid UTF-8", kittest.Post(kittest.SignUpPath, "{\"loginId\":\"a\xff\"}"), 400, "malformed_body", ""},
		{"lone surrogate", kittest.Post(kittest.SignUpPath, `{"loginId":"\ud800"}`), 400, "malformed_body", ""},
		{"deep", kittest.Post(kittest.SignUpPath, `{"loginId":"a","x":`+strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000)+`}`), 400, "malformed_body", ""},
		{"loginId a number", kittest.Post(kittest.SignUpPath, `{"loginId":7}`), 400, "malformed_body", ""},
		{"loginId a list", kittest.Post(kittest.SignUpPath, `{"loginId":["a"]}`), 400, "malformed_body", ""},
		{"user a string", kittest.Post(kittest.SignUpPath, `{"loginId":"a","user":"b"}`), 400, "malformed_body", ""},
		{"name a number", kittest.Post(kittest.SignUpPath, `{"loginId":"a","user":{"name":1}}`), 400, "malformed_body", ""},
		{"code a number", code(`123456`), 400, "malformed_body", ""},
		{"options a string", verify(`{"loginId":"a","code":"123456","loginOptions":"stepup"}`), 400, "malformed_body", ""},
		{"stepup a string", verify(`{"loginId":"a","code":"123456","loginOptions":{"stepup":"true"}}`), 400, "malformed_body", ""},
		{"template options of numbers", verify(`{"loginId":"a","code":"123456","loginOptions":{"templateOptions":{"a":1}}}`), 400, "malformed_body", ""},
		{"ids a string", signedIn(kittest.TenantsPath, `{"ids":"T2"}`), 400, "malformed_body", ""},
		{"tenant a number", signedIn(kittest.SelectPath, `{"tenant":2}`), 400, "malformed_body", ""},

		{"no loginId", kittest.Post(kittest.SignUpPath, `{}`), 400, "missing_field", "loginId"},
		{"empty loginId", kittest.Post(kittest.SignUpPath, `{"loginId":""}`), 400, "missing_field", "loginId"},
		{"blank loginId", kittest.Post(kittest.SignUpPath, `{"loginId":" \u00a0"}`), 400, "missing_field", "loginId"},
		{"null loginId", kittest.Post(kittest.SignUpPath, `{"loginId":null}`), 400, "missing_field", "loginId"},
		{"no loginId to verify", verify(`{"code":"123456"}`), 400, "missing_field", "loginId"},
		{"no loginId to update", signedIn(kittest.UpdatePath, `{}`), 400, "missing_field", "loginId"},
		{"no code", verify(`{"loginId":"a"}`), 400, "missing_field", "code"},
		{"empty code", code(`""`), 400, "missing_field", "code"},
		{"no tenant", signedIn(kittest.SelectPath, `{}`), 400, "missing_field", "tenant"},
		{"long loginId", kittest.Post(kittest.SignUpPath, `{"loginId":"`+strings.Repeat("x", 257)+`"}`), 400, "invalid_field", "loginId"},
		{"long loginId in bytes", kittest.Post(kittest.SignUpPath, `{"loginId":"`+strings.Repeat("é", 129)+`"}`), 400, "invalid_field", "loginId"},
		{"line break in loginId", kittest.Post(kittest.SignUpPath, `{"loginId":"a\nb"}`), 400, "invalid_field", "loginId"},
		{"NUL in loginId", kittest.Post(kittest.SignUpPath, `{"loginId":"a\u0000"}`), 400, "invalid_field", "loginId"},
		{"letters in the code", code(`"12a456"`), 400, "invalid_field", "code"},
		{"space in the code", code(`"123 456"`), 400, "invalid_field", "code"},
		{"sign in the code", code(`"-12345"`), 400, "invalid_field", "code"},
		{"other digits", code(`"１２３４５６"`), 400, "invalid_field", "code"},
		{"short code", code(`"123"`), 400, "invalid_field", "code"},
		{"long code", code(`"12345678901"`), 400, "invalid_field", "code"},
		{"NUL in the code", code(`"12345\u0000"`), 400, "invalid_field", "code"},
		{"dct and ids", signedIn(kittest.TenantsPath, `{"dct":true,"ids":["T2"]}`), 400, "invalid_field", "ids"},

		{"unknown path", kittest.Post("/v1/auth/otp/verify/email", `{}`), 404, "not_found", ""},
		{"wrong method", method(http.MethodGet, kittest.SignUpPath), 405, "method_not_allowed", ""},
		{"preflight", method(http.MethodOptions, kittest.VerifyPath), 405, "method_not_allowed", ""},
		{"POST for GET", method(http.MethodPost, kittest.MePath), 405, "method_not_allowed", ""},
		{"HEAD for GET", method(http.MethodHead, kittest.MePath), 405, "method_not_allowed", ""},
		{"another project", kittest.InHeader(kittest.Post(kittest.SignUpPath, `{"loginId":"a"}`), "P2otherotherotherotherotherother"), 401, "foreign_project", ""},
		{"another project, logout", kittest.InHeader(kittest.Post(kittest.LogoutPath, `{}`), "P2otherotherotherotherotherother"), 401, "foreign_project", ""},
		{"no refresh token, update", kittest.Post(kittest.UpdatePath, `{"loginId":"a"}`), 401, "no_refresh_token", ""},
		{"no refresh token, refresh", kittest.Post(kittest.RefreshPath, ``), 401, "no_refresh_token", ""},
		{"no refresh token, logoutall", kittest.Post(kittest.LogoutAllPath, ``), 401, "no_refresh_token", ""},
		{"no refresh token, me", kittest.Get(kittest.MePath), 401, "no_refresh_token", ""},
		{"no refresh token, history", kittest.Get(kittest.HistoryPath), 401, "no_refresh_token", ""},
		{"no refresh token, tenants", kittest.Post(kittest.TenantsPath, `{}`), 401, "no_refresh_token", ""},
		{"no refresh token, select", kittest.InHeader(kittest.Post(kittest.SelectPath, `{"tenant":"T2"}`), project), 401, "no_refresh_token", ""},
		{"cross-site", crossSite, 403, "cross_origin", ""},
	} {
		res := kittest.Serve(h.Handler(), tt.r)
		about := fmt.Sprintf("%s: %d %s", tt.name, res.StatusCode, kittest.BodyOf(t, res))
		p := kittest.RequireProblem(t, res, tt.status, tt.code)
		assert.Equal(t, tt.field, p.Field, about)
		if tt.field != "" {
			assert.Contains(t, p.Detail, tt.field, about)
			assert.Contains(t, p.ErrorMessage, tt.field, "Descope's clients show this one: %s", about)
		}
		if tt.status == http.StatusMethodNotAllowed {
			want := http.MethodPost
			if tt.r.URL.Path == kittest.MePath {
				want = http.MethodGet
			}
			assert.Equal(t, want, res.Header.Get("Allow"), about)
		}
		if tt.status == http.StatusUnauthorized {
			assert.NotEmpty(t, res.Header.Get("WWW-Authenticate"), about)
		}
		assert.Empty(t, tap.Paths(), about)
		for _, c := range res.Cookies() {
			assert.Empty(t, c.Value, about)
		}
	}
}

// The limits themselves are still good.
func TestInputAtTheLimits(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"64 KiB":            kittest.Post(kittest.SignUpPath, `{"loginId":"a"`+strings.Repeat(" ", 64<<10-15)+`}`),
		"256 bytes":         kittest.Post(kittest.SignUpPath, `{"loginId":"`+strings.Repeat("x", 256)+`"}`),
		"spaces around":     kittest.Post(kittest.SignUpPath, " \r\n\t{ \"loginId\" : \"a\" }\r\n"),
		"charset":           kittest.Post(kittest.SignUpPath, `{"loginId":"a"}`),
		"type in upper":     kittest.Post(kittest.SignUpPath, `{"loginId":"a"}`),
		"unknown parameter": kittest.Post(kittest.SignUpPath, `{"loginId":"a"}`),
	} {
		switch name {
		case "charset":
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
		case "type in upper":
			r.Header.Set("Content-Type", "Application/JSON")
		case "unknown parameter":
			r.Header.Set("Content-Type", "application/json;v=1")
		}
		k := kittest.New(t)
		assert.Equal(t, http.StatusOK, kittest.Serve(k.Handler(), r).StatusCode, name)
	}
}

// Another site's page can send a POST with this user's cookies, and a sign-in of
// its own. Neither may have any effect, and not even a cookie may be deleted.
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
		assert.Contains(t, k.Logs.String(), "faults_test.go", "and where")
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

// A sign-up without a key is no sign-up: the page would show an empty QR code.
func TestAnswerWithoutAKey(t *testing.T) {
	for _, body := range []string{`{}`, `[]`, `{"key":"","image":"","provisioningURL":""}`} {
		for _, c := range kittest.Flows {
			if c.Path != kittest.SignUpPath && c.Path != kittest.UpdatePath {
				continue
			}
			k := kittest.NewForFlows(t, new(kittest.Wiretap))
			tokens := k.Project.SignIn(kittest.Bob)
			k.Project.Fail(c.Path, descopetest.Fault{Body: body})
			res := kittest.Serve(k.Handler(), c.Request(k, tokens))
			assert.Equal(t, http.StatusBadGateway, res.StatusCode, "%s: %s", c.Path, body)
		}
	}
}

// A record without login ids says nothing about whose they are: that is
// "cannot tell", not a refusal.
func TestUpdateWithoutLoginIDs(t *testing.T) {
	for _, body := range []string{`{}`, `{"errorCode":"E061005"}`, `{"loginIds":null}`} {
		tap := new(kittest.Wiretap)
		k := kittest.NewForFlows(t, tap)
		tokens := k.Project.SignIn(kittest.Bob)
		k.Project.Fail(kittest.MePath, descopetest.Fault{Body: body})
		res := kittest.Serve(k.Handler(), kittest.SignedInPost(tokens, kittest.UpdatePath, `{"loginId":"`+kittest.Bob+`"}`))
		assert.Equal(t, http.StatusBadGateway, res.StatusCode, body)
		assert.NotContains(t, tap.Paths(), kittest.UpdatePath)
	}
}
