package descopehttp_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A badRequest is one that a client gets wrong, and what it is told.
type badRequest struct {
	name   string
	r      *http.Request
	status int
	code   string
	field  string
}

func signUpWith(body string) *http.Request { return kittest.Post(kittest.SignUpPath, body) }
func verifyWith(body string) *http.Request { return kittest.Post(kittest.VerifyPath, body) }
func codeOf(code string) *http.Request     { return verifyWith(`{"loginId":"a","code":` + code + `}`) }

// badTypes say that the body is something else than JSON.
func badTypes() []badRequest {
	typedAs := func(contentType string) *http.Request {
		r := signUpWith(`{"loginId":"a"}`)
		if r.Header.Set("Content-Type", contentType); contentType == "" {
			r.Header.Del("Content-Type")
		}
		return r
	}
	return []badRequest{
		{"no type", typedAs(""), 415, "unsupported_media_type", ""},
		{"a form", typedAs("application/x-www-form-urlencoded"), 415, "unsupported_media_type", ""},
		{"text", typedAs("text/plain"), 415, "unsupported_media_type", ""},
		{"text with JSON in it", typedAs("text/plain; application/json"), 415, "unsupported_media_type", ""},
		{"a longer type", typedAs("application/jsonp"), 415, "unsupported_media_type", ""},
		{"another JSON", typedAs("application/problem+json"), 415, "unsupported_media_type", ""},
		{"malformed type", typedAs("application/json; ="), 415, "unsupported_media_type", ""},
		{"two types", typedAs("application/json, text/plain"), 415, "unsupported_media_type", ""},
	}
}

// badBodies cannot be read, or not in one way only.
func badBodies(tokens descopetest.Tokens) []badRequest {
	broken := signUpWith(`{"loginId":"a"`)
	broken.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"loginId":"a"}`), kittest.Reader(func([]byte) (int, error) {
		return 0, io.ErrUnexpectedEOF
	})))
	signedIn := func(path, body string) *http.Request { return kittest.SignedInPost(tokens, path, body) }
	return []badRequest{
		{"too large", signUpWith(`{"loginId":"a","x":"` + strings.Repeat("x", 64<<10) + `"}`), 413, "body_too_large", ""},
		{"too large by spaces", signUpWith(`{"loginId":"a"}` + strings.Repeat(" ", 64<<10)), 413, "body_too_large", ""},

		{"empty", signUpWith(""), 400, "malformed_body", ""},
		{"spaces", signUpWith("  "), 400, "malformed_body", ""},
		{"not JSON", signUpWith("loginId=a"), 400, "malformed_body", ""},
		{"cut", signUpWith(`{"loginId":"a"`), 400, "malformed_body", ""},
		{"connection lost", broken, 400, "malformed_body", ""},
		{"trailing garbage", signUpWith(`{"loginId":"a"}x`), 400, "malformed_body", ""},
		{"two documents", signUpWith(`{"loginId":"a"}{"loginId":"b"}`), 400, "malformed_body", ""},
		{"NUL at the end", signUpWith("{\"loginId\":\"a\"}\x00"), 400, "malformed_body", ""},
		{"byte order mark", signUpWith("\ufeff{\"loginId\":\"a\"}"), 400, "malformed_body", ""},
		{"comment", signUpWith(`{"loginId":"a"/**/}`), 400, "malformed_body", ""},
		{"array", signUpWith(`[{"loginId":"a"}]`), 400, "malformed_body", ""},
		{"null", signUpWith(`null`), 400, "malformed_body", ""},
		{"string", signUpWith(`"loginId"`), 400, "malformed_body", ""},
		{"invalid UTF-8", signUpWith("{\"loginId\":\"a\xff\"}"), 400, "malformed_body", ""},
		{"lone surrogate", signUpWith(`{"loginId":"\ud800"}`), 400, "malformed_body", ""},
		{"deep", signUpWith(`{"loginId":"a","x":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`), 400, "malformed_body", ""},
		{"loginId a number", signUpWith(`{"loginId":7}`), 400, "malformed_body", ""},
		{"loginId a list", signUpWith(`{"loginId":["a"]}`), 400, "malformed_body", ""},
		{"user a string", signUpWith(`{"loginId":"a","user":"b"}`), 400, "malformed_body", ""},
		{"name a number", signUpWith(`{"loginId":"a","user":{"name":1}}`), 400, "malformed_body", ""},
		{"code a number", codeOf(`123456`), 400, "malformed_body", ""},
		{"options a string", verifyWith(`{"loginId":"a","code":"123456","loginOptions":"stepup"}`), 400, "malformed_body", ""},
		{"stepup a string", verifyWith(`{"loginId":"a","code":"123456","loginOptions":{"stepup":"true"}}`), 400, "malformed_body", ""},
		{"template options of numbers", verifyWith(`{"loginId":"a","code":"123456","loginOptions":{"templateOptions":{"a":1}}}`), 400, "malformed_body", ""},
		{"ids a string", signedIn(kittest.TenantsPath, `{"ids":"T2"}`), 400, "malformed_body", ""},
		{"tenant a number", signedIn(kittest.SelectPath, `{"tenant":2}`), 400, "malformed_body", ""},
	}
}

// badFields are in a body that can be read.
func badFields(tokens descopetest.Tokens) []badRequest {
	signedIn := func(path, body string) *http.Request { return kittest.SignedInPost(tokens, path, body) }
	return []badRequest{
		{"no loginId", signUpWith(`{}`), 400, "missing_field", "loginId"},
		{"empty loginId", signUpWith(`{"loginId":""}`), 400, "missing_field", "loginId"},
		{"blank loginId", signUpWith(`{"loginId":" \u00a0"}`), 400, "missing_field", "loginId"},
		{"null loginId", signUpWith(`{"loginId":null}`), 400, "missing_field", "loginId"},
		{"no loginId to verify", verifyWith(`{"code":"123456"}`), 400, "missing_field", "loginId"},
		{"no loginId to update", signedIn(kittest.UpdatePath, `{}`), 400, "missing_field", "loginId"},
		{"no code", verifyWith(`{"loginId":"a"}`), 400, "missing_field", "code"},
		{"empty code", codeOf(`""`), 400, "missing_field", "code"},
		{"no tenant", signedIn(kittest.SelectPath, `{}`), 400, "missing_field", "tenant"},
		{"long loginId", signUpWith(`{"loginId":"` + strings.Repeat("x", 257) + `"}`), 400, "invalid_field", "loginId"},
		{"long loginId in bytes", signUpWith(`{"loginId":"` + strings.Repeat("é", 129) + `"}`), 400, "invalid_field", "loginId"},
		{"line break in loginId", signUpWith(`{"loginId":"a\nb"}`), 400, "invalid_field", "loginId"},
		{"NUL in loginId", signUpWith(`{"loginId":"a\u0000"}`), 400, "invalid_field", "loginId"},
		{"letters in the code", codeOf(`"12a456"`), 400, "invalid_field", "code"},
		{"sign in the code", codeOf(`"+12345"`), 400, "invalid_field", "code"},
		{"short code", codeOf(`"123"`), 400, "invalid_field", "code"},
		{"long code", codeOf(`"12345678901"`), 400, "invalid_field", "code"},
		{"NUL in the code", codeOf(`"12345\u0000"`), 400, "invalid_field", "code"},
		{"dct and ids", signedIn(kittest.TenantsPath, `{"dct":true,"ids":["T2"]}`), 400, "invalid_field", "ids"},
	}
}

// badCalls are wrong whatever their body is.
func badCalls(project string, tokens descopetest.Tokens) []badRequest {
	method := func(m, path string) *http.Request {
		return kittest.WithCookies(httptest.NewRequest(m, path, nil), "", tokens.Refresh)
	}
	crossSite := kittest.Post(kittest.LogoutPath, `{}`)
	crossSite.Header.Set("Sec-Fetch-Site", "cross-site")
	return []badRequest{
		{"unknown path", kittest.Post("/v1/auth/otp/verify/email", `{}`), 404, "not_found", ""},
		{"wrong method", method(http.MethodGet, kittest.SignUpPath), 405, "method_not_allowed", ""},
		{"preflight", method(http.MethodOptions, kittest.VerifyPath), 405, "method_not_allowed", ""},
		{"POST for GET", method(http.MethodPost, kittest.MePath), 405, "method_not_allowed", ""},
		{"HEAD for GET", method(http.MethodHead, kittest.MePath), 405, "method_not_allowed", ""},
		{"another project", kittest.InHeader(signUpWith(`{"loginId":"a"}`), "P2otherotherotherotherotherother"), 401, "foreign_project", ""},
		{"another project, logout", kittest.InHeader(kittest.Post(kittest.LogoutPath, `{}`), "P2otherotherotherotherotherother"), 401, "foreign_project", ""},
		{"no refresh token, update", kittest.Post(kittest.UpdatePath, `{"loginId":"a"}`), 401, "no_refresh_token", ""},
		{"no refresh token, refresh", kittest.Post(kittest.RefreshPath, ``), 401, "no_refresh_token", ""},
		{"no refresh token, logoutall", kittest.Post(kittest.LogoutAllPath, ``), 401, "no_refresh_token", ""},
		{"no refresh token, me", kittest.Get(kittest.MePath), 401, "no_refresh_token", ""},
		{"no refresh token, history", kittest.Get(kittest.HistoryPath), 401, "no_refresh_token", ""},
		{"no refresh token, tenants", kittest.Post(kittest.TenantsPath, `{}`), 401, "no_refresh_token", ""},
		{"no refresh token, select", kittest.InHeader(kittest.Post(kittest.SelectPath, `{"tenant":"T2"}`), project), 401, "no_refresh_token", ""},
		{"cross-site", crossSite, 403, "cross_origin", ""},
	}
}

// What a client gets wrong it is told, and Descope never hears of it.
//
// Rule: flows: each flow has its method; a refresh token where one is needed; JSON, 64 KiB, one
// object, unique names; `loginId`: not empty, 256 bytes, no control characters; `code`: digits.
func TestBadInput(t *testing.T) {
	tap := new(kittest.Wiretap)
	h := kittest.NewHostile(t, tap.Config)
	project, tokens := h.Project.ProjectID(), h.Project.SignIn(kittest.Ada)
	require.NoError(t, h.Ready(t.Context()))
	for _, tt := range slices.Concat(badTypes(), badBodies(tokens), badFields(tokens), badCalls(project, tokens)) {
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

// A body that two readers could take for two is refused in every flow that reads one.
//
// Rule: flows: a body with a name twice is refused, in each flow.
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

// A body that two readers read differently would be judged as one user's and
// taken by Descope as another's. What reaches Descope is what was judged.
//
// Rule: cookies: against a body judged as one user and taken by Descope as another: what was
// judged is encoded anew; names twice or in another case are refused.
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
