package descopehttp_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// flowPaths are the flows that take a body. Their order is part of the corpus.
var flowPaths = []string{
	kittest.VerifyPath, kittest.SignUpPath, kittest.UpdatePath, kittest.RefreshPath, kittest.LogoutPath, kittest.TenantsPath, kittest.SelectPath,
}

// flowMembers are what each may send on.
var flowMembers = map[string][]string{
	kittest.VerifyPath: {"loginId", "code", "loginOptions"}, kittest.SignUpPath: {"loginId", "user"}, kittest.UpdatePath: {"loginId"},
	kittest.RefreshPath: {}, kittest.LogoutPath: {}, kittest.TenantsPath: {"dct", "ids"}, kittest.SelectPath: {"tenant"},
}

var loginOptions = []string{"stepup", "mfa", "locale", "templateOptions", "revokeOtherSessions"}

// flowBodies are where the fuzzing of bodies starts.
var flowBodies = []string{
	`{"loginId":"ada@example.com","code":"123456"}`, `{"loginId":"ada@example.com","code":"123456","loginOptions":{"stepup":true,"customClaims":{"a":1},"tenantId":"T"}}`,
	`{"loginId":"ada@example.com","loginId":"bob","code":"123456"}`, `{"loginId":"ada@example.com","LoginId":"bob","code":"123456"}`, `{"loginid":"bob","code":"1"}`, `{"loginId":7}`, `{"loginId":" "}`,
	`{"loginId":"ada@example.com","user":{"name":"Ada","email":"a","loginId":"bob","tenantId":"T"},"ssoAppId":"x"}`, `{"loginId":"ADA@example.com"}`, `{"tenant":"T1"}`, `{"dct":true,"ids":["a"]}`, `{"ids":["a","b"]}`,
	`{}`, `[]`, `null`, ``, `{`, `{"loginId":"\ud800","code":"123456"}`, "{\"loginId\":\"\xff\",\"code\":\"123456\"}", `{"loginId":"a","code":"１２３４５６"}`, `{"loginId":"a\u0000","code":"123456"}`,
	`{"loginId":"ada@example.com","code":"123456","loginOptions":{"templateOptions":{"a":"b"},"locale":"de","revokeOtherSessions":true,"mfa":false}}`, `{"loginId":"ada@example.com","code":"123456"} {}`,
	`{"code":"123456","loginOptions":{"stepup":true}}`, `{"loginId":" ","code":"123456","loginOptions":{"mfa":true}}`,
	`{"loginId":"` + strings.Repeat("x", 257) + `","code":"123456"}`, `{"x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`,
}

// Whatever is sent to a flow, what reaches Descope is one plain JSON object with
// the members that are allowed, and is about whom the request is about in the
// eyes of every reader.
//
// Rule: cookies: against a body judged as one user and taken by Descope as another: what was
// judged is encoded anew; names twice or in another case are refused.
// Rule: cookies: against a client that chooses its own claims, tenant or application: an
// allow-list of login options.
func FuzzRequestBody(f *testing.F) {
	for i, body := range flowBodies {
		for path := range flowPaths {
			f.Add(byte(path), i%3 == 0, body)
		}
	}
	tokens := kittest.NewFuzzTokens(f)

	f.Fuzz(func(t *testing.T, which byte, signedIn bool, body string) {
		path := flowPaths[int(which)%len(flowPaths)]
		sent := make(map[string][]byte)
		a := kittest.NewOver(t, func(r *http.Request, body []byte) (int, http.Header, string) {
			sent[r.URL.Path] = body
			switch r.URL.Path {
			case "/v1/auth/me":
				return 200, http.Header{}, `{"loginIds":["ada@example.com"]}`
			case kittest.VerifyPath:
				return 401, http.Header{}, `{"errorCode":"E061102"}`
			}
			return 200, http.Header{}, `{"key":"k","tenants":[]}`
		}, func(c *descopehttp.Config) { c.MaxCachedSessions = -1 })
		r := kittest.Post(path, body)
		if signedIn {
			kittest.WithCookies(r, "", tokens["{{R}}"])
		}
		res := kittest.Serve(a.Handler(), r)
		require.NotEqual(t, 500, res.StatusCode)
		require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
		content, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.True(t, json.Valid(content), "%q", content)

		if forwarded, ok := sent[path]; ok {
			requireAsJudged(t, path, []byte(body), forwarded)
		}
	})
}

// requireAsJudged checks that what reaches Descope says what the client's body says,
// and no more than it may.
func requireAsJudged(t *testing.T, path string, body, forwarded []byte) {
	t.Helper()
	out, err := kittest.StrictObject(forwarded)
	require.NoError(t, err)
	require.LessOrEqual(t, len(forwarded), 128<<10)
	for name := range out {
		require.Contains(t, flowMembers[path], name)
	}
	if path == kittest.RefreshPath || path == kittest.LogoutPath {
		return // without a body, or with any
	}
	in, err := kittest.StrictObject(body)
	require.NoError(t, err, "ambiguous, and sent on")
	if id, there := out["loginId"]; there {
		given, _ := in["loginId"].(string)
		switch given = descope.CleanLoginID(given); {
		case given == "": // of a step-up: the user's own
			require.Equal(t, kittest.VerifyPath, path)
			require.Equal(t, "ada@example.com", id)
		case path == kittest.UpdatePath:
			require.Equal(t, "ada@example.com", id)
			require.True(t, strings.EqualFold(given, id.(string)))
		default:
			require.Equal(t, given, id)
		}
		require.LessOrEqual(t, len(id.(string)), 256)
	}
	if code, there := out["code"]; there {
		require.Equal(t, descope.CleanCode(in["code"].(string)), code)
		require.Regexp(t, `^[0-9]{4,10}$`, code)
	}
	if chosen, there := out["loginOptions"]; there {
		for name := range chosen.(map[string]any) {
			require.Contains(t, loginOptions, name)
		}
	}
	if path == kittest.SelectPath {
		require.Equal(t, in["tenant"], out["tenant"])
	}
}

// ordinaryCookies is a Cookie header as browsers write it.
var ordinaryCookies = regexp.MustCompile(`^[A-Za-z0-9_-]+=[!#-+\--:<-~]*(; [A-Za-z0-9_-]+=[!#-+\--:<-~]*)*$`)

// cookieHeaders and authorizations are where the fuzzing of headers starts.
var (
	cookieHeaders = []string{
		"", "__Host-DS={{S}}", "__Host-DS={{S}}; __Host-DSR={{R}}", "__Host-DSR={{R}}", "__Host-DS={{E}}; __Host-DSR={{R}}", "__Host-DS={{S}}; __Host-DS={{X}}", "__Host-DS={{S}}; __Host-DSR={{Y}}", "__Host-DS={{E}}; __Host-DSR={{Y}}",
		"DS={{S}}", "__host-ds={{S}}", "__Host-DS =\"{{S}}\"", "__Host-DS=\"{{S}}\"", "a=b;__Host-DSR={{R}};;=;", "__Host-DS={{R}}; __Host-DSR={{S}}", "__Host-DSR={{U}}", "__Host-DSR={{U}}; __Host-DSR={{R}}",
		"__Host-DS=x; __Host-DS=x; __Host-DS=x; __Host-DS=x; __Host-DS={{S}}", "__Host-DS={{S}}\x00", "__Host-DS", "__Host-DS=", "__Host-DS={{F}}; __Host-DSR={{F}}", "__Host-DSR={{R}}, __Host-DSR={{Y}}", "__Host-DS={{T}}; __Host-DS={{S}}",
	}
	authorizations = []string{
		"", "Bearer {{S}}", "Bearer {{X}}", "bearer  {{S}} ", "Bearer {{R}}", "Bearer {{P}}", "Bearer {{P}}:{{R}}", "Bearer {{P}}:{{Y}}:key", "Basic x", "Bearer", "Bearer x", "Bearer {{S}},{{X}}", "DPoP {{S}}", "Bearer\t{{S}}", "{{S}}",
	}
)

// tokenUsers tells whose a token is, by placeholder.
var tokenUsers = map[string]string{"{{S}}": kittest.FuzzAda, "{{T}}": kittest.FuzzAda, "{{R}}": kittest.FuzzAda, "{{Q}}": kittest.FuzzAda, "{{E}}": kittest.FuzzAda, "{{X}}": kittest.FuzzBob, "{{Y}}": kittest.FuzzBob}

// Whatever the two headers hold, the session is that of a token in them: of the
// Bearer token if there is one, and of cookies only if all that count name one
// user.
//
// Rule: cookies: against two credentials in one request, each for another reader: a bearer
// token is judged and cookies are not looked at; two Authorization headers are refused.
// Rule: cookies: a bearer token is judged, cookies are not looked at.
// Rule: cookies: all cookies that count name one user.
func FuzzHeaders(f *testing.F) {
	for _, cookie := range cookieHeaders {
		for _, authorization := range authorizations {
			f.Add(cookie, authorization, "", false)
		}
		f.Add(cookie, "Bearer {{S}}", "Bearer {{X}}", true)
	}
	tokens := kittest.NewFuzzTokens(f)

	f.Fuzz(func(t *testing.T, cookie, authorization, second string, two bool) {
		a := kittest.NewOver(t, func(r *http.Request, _ []byte) (int, http.Header, string) {
			switch r.Header.Get("Authorization") {
			case "Bearer " + kittest.ProjectID + ":" + tokens["{{R}}"]:
				return 200, http.Header{}, `{"sessionJwt":"` + tokens["{{T}}"] + `","refreshJwt":"` + tokens["{{Q}}"] + `"}`
			case "Bearer " + kittest.ProjectID + ":" + tokens["{{Y}}"]:
				return 200, http.Header{}, `{"sessionJwt":"` + tokens["{{X}}"] + `","refreshJwt":""}`
			}
			return 401, http.Header{}, `{"errorCode":"E061005"}`
		})
		require.NoError(t, a.Ready(t.Context()))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if cookie != "" {
			r.Header["Cookie"] = []string{tokens.Expand(cookie)}
		}
		if authorization != "" {
			r.Header["Authorization"] = []string{tokens.Expand(authorization)}
		}
		if two {
			r.Header["Authorization"] = append(r.Header["Authorization"], tokens.Expand(second))
		}
		header := r.Header.Clone()
		next := new(kittest.Spy)
		res := kittest.Serve(a.RequireSession(next), r)
		require.NoError(t, a.Wait(t.Context()))
		require.Equal(t, header, r.Header, "the request is left as it came")
		require.Contains(t, []int{200, 401, 503}, res.StatusCode)
		require.Equal(t, res.StatusCode == 200, next.Calls == 1)
		if res.StatusCode != 200 {
			for _, c := range res.Cookies() {
				require.Empty(t, c.Value)
			}
			return
		}
		s, ok := descopehttp.SessionFromContext(next.Last().Context())
		require.True(t, ok)
		require.NoError(t, kittest.StrictSession(s.Token(), time.Now()))

		lines := header["Authorization"]
		require.LessOrEqual(t, len(lines), 1)
		scheme, value, _ := strings.Cut(strings.ReplaceAll(strings.Join(lines, ""), "\t", " "), " ")
		value = strings.Trim(value, " ")
		if strings.EqualFold(scheme, "Bearer") && !strings.HasPrefix(value+":", kittest.ProjectID+":") {
			require.Equal(t, value, s.Token())
			require.Empty(t, res.Cookies())
			return
		}
		require.False(t, strings.EqualFold(scheme, "DPoP"))
		require.Contains(t, usersNamedIn(tokens.Expand(cookie), tokens), s.Subject(), "nobody's cookie")
		if !ordinaryCookies.MatchString(header.Get("Cookie")) || len(r.CookiesNamed(kittest.SessionCookie)) > 4 || len(r.CookiesNamed(kittest.RefreshCookie)) > 4 {
			return // of more than four those count that have the shape of a token
		}
		require.Equal(t, []string{s.Subject()}, usersThatCount(r, tokens))
		seen := next.Last()
		if len(res.Cookies()) > 0 {
			require.Empty(t, seen.CookiesNamed(kittest.RefreshCookie))
			require.Len(t, seen.CookiesNamed(kittest.SessionCookie), 1)
		}
	})
}

// usersNamedIn returns whose tokens are anywhere in a Cookie header.
func usersNamedIn(header string, tokens kittest.FuzzTokens) []string {
	named := make(map[string]bool)
	for placeholder, user := range tokenUsers {
		if strings.Contains(header, tokens[placeholder]) {
			named[user] = true
		}
	}
	return slices.Collect(maps.Keys(named))
}

// usersThatCount returns whose the good cookies are, in an ordinary header of which
// every reader makes the same.
func usersThatCount(r *http.Request, tokens kittest.FuzzTokens) []string {
	counted := make(map[string]bool)
	for name, good := range map[string][]string{kittest.SessionCookie: {"{{S}}", "{{T}}", "{{E}}", "{{X}}"}, kittest.RefreshCookie: {"{{R}}", "{{Q}}", "{{Y}}"}} {
		for _, c := range r.CookiesNamed(name) {
			for _, placeholder := range good {
				if c.Value == tokens[placeholder] {
					counted[tokenUsers[placeholder]] = true
				}
			}
		}
	}
	return slices.Collect(maps.Keys(counted))
}
