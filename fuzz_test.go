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
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Whatever is sent to a flow, what reaches Descope is one plain JSON object with
// the members that are allowed, and is about whom the request is about in the
// eyes of every reader.
func FuzzRequestBody(f *testing.F) {
	paths := []string{kittest.VerifyPath, kittest.SignUpPath, "/v1/auth/totp/update", kittest.RefreshPath, "/v1/auth/logout", "/v1/auth/me/tenants", "/v1/auth/tenant/select"}
	for i, body := range []string{
		`{"loginId":"ada@example.com","code":"123456"}`, `{"loginId":"ada@example.com","code":"123456","loginOptions":{"stepup":true,"customClaims":{"a":1},"tenantId":"T"}}`,
		`{"loginId":"ada@example.com","loginId":"bob","code":"123456"}`, `{"loginId":"ada@example.com","LoginId":"bob","code":"123456"}`, `{"loginid":"bob","code":"1"}`, `{"loginId":7}`, `{"loginId":" "}`,
		`{"loginId":"ada@example.com","user":{"name":"Ada","email":"a","loginId":"bob","tenantId":"T"},"ssoAppId":"x"}`, `{"loginId":"ADA@example.com"}`, `{"tenant":"T1"}`, `{"dct":true,"ids":["a"]}`, `{"ids":["a","b"]}`,
		`{}`, `[]`, `null`, ``, `{`, `{"loginId":"\ud800","code":"123456"}`, "{\"loginId\":\"\xff\",\"code\":\"123456\"}", `{"loginId":"a","code":"１２３４５６"}`, `{"loginId":"a\u0000","code":"123456"}`,
		`{"loginId":"ada@example.com","code":"123456","loginOptions":{"templateOptions":{"a":"b"},"locale":"de","revokeOtherSessions":true,"mfa":false}}`, `{"loginId":"ada@example.com","code":"123456"} {}`,
		`{"loginId":"` + strings.Repeat("x", 257) + `","code":"123456"}`, `{"x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`,
	} {
		for path := range paths {
			f.Add(byte(path), i%3 == 0, body)
		}
	}
	allowed := map[string][]string{
		paths[0]: {"loginId", "code", "loginOptions"}, paths[1]: {"loginId", "user"}, paths[2]: {"loginId"},
		paths[3]: {}, paths[4]: {}, paths[5]: {"dct", "ids"}, paths[6]: {"tenant"},
	}
	options := []string{"stepup", "mfa", "locale", "templateOptions", "revokeOtherSessions"}
	tokens := kittest.NewFuzzTokens(f)

	f.Fuzz(func(t *testing.T, which byte, signedIn bool, body string) {
		path := paths[int(which)%len(paths)]
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

		forwarded, ok := sent[path]
		if !ok {
			return
		}
		out, err := kittest.StrictObject(forwarded)
		require.NoError(t, err)
		require.LessOrEqual(t, len(forwarded), 128<<10)
		for name := range out {
			require.Contains(t, allowed[path], name)
		}
		if path == kittest.RefreshPath || path == kittest.LogoutPath {
			return // without a body, or with any
		}
		in, err := kittest.StrictObject([]byte(body))
		require.NoError(t, err, "ambiguous, and sent on")
		if id, there := out["loginId"]; there {
			if path == paths[2] {
				require.Equal(t, "ada@example.com", id)
				require.True(t, strings.EqualFold(in["loginId"].(string), id.(string)))
			} else {
				require.Equal(t, in["loginId"], id)
			}
			require.LessOrEqual(t, len(id.(string)), 256)
		}
		if code, there := out["code"]; there {
			require.Equal(t, in["code"], code)
			require.Regexp(t, `^[0-9]{4,10}$`, code)
		}
		if chosen, there := out["loginOptions"]; there {
			for name := range chosen.(map[string]any) {
				require.Contains(t, options, name)
			}
		}
		if path == paths[6] {
			require.Equal(t, in["tenant"], out["tenant"])
		}
	})
}

// ordinaryCookies is a Cookie header as browsers write it.
var ordinaryCookies = regexp.MustCompile(`^[A-Za-z0-9_-]+=[!#-+\--:<-~]*(; [A-Za-z0-9_-]+=[!#-+\--:<-~]*)*$`)

// Whatever the two headers hold, the session is that of a token in them: of the
// Bearer token if there is one, and of cookies only if all that count name one
// user.
func FuzzHeaders(f *testing.F) {
	for _, cookie := range []string{
		"", "__Host-DS={{S}}", "__Host-DS={{S}}; __Host-DSR={{R}}", "__Host-DSR={{R}}", "__Host-DS={{E}}; __Host-DSR={{R}}", "__Host-DS={{S}}; __Host-DS={{X}}", "__Host-DS={{S}}; __Host-DSR={{Y}}", "__Host-DS={{E}}; __Host-DSR={{Y}}",
		"DS={{S}}", "__host-ds={{S}}", "__Host-DS =\"{{S}}\"", "__Host-DS=\"{{S}}\"", "a=b;__Host-DSR={{R}};;=;", "__Host-DS={{R}}; __Host-DSR={{S}}", "__Host-DSR={{U}}", "__Host-DSR={{U}}; __Host-DSR={{R}}",
		"__Host-DS=x; __Host-DS=x; __Host-DS=x; __Host-DS=x; __Host-DS={{S}}", "__Host-DS={{S}}\x00", "__Host-DS", "__Host-DS=", "__Host-DS={{F}}; __Host-DSR={{F}}", "__Host-DSR={{R}}, __Host-DSR={{Y}}", "__Host-DS={{T}}; __Host-DS={{S}}",
	} {
		for _, authorization := range []string{"", "Bearer {{S}}", "Bearer {{X}}", "bearer  {{S}} ", "Bearer {{R}}", "Bearer {{P}}", "Bearer {{P}}:{{R}}", "Bearer {{P}}:{{Y}}:key", "Basic x", "Bearer", "Bearer x", "Bearer {{S}},{{X}}", "DPoP {{S}}", "Bearer\t{{S}}", "{{S}}"} {
			f.Add(cookie, authorization, "", false)
		}
		f.Add(cookie, "Bearer {{S}}", "Bearer {{X}}", true)
	}
	tokens := kittest.NewFuzzTokens(f)
	users := map[string]string{"{{S}}": kittest.FuzzAda, "{{T}}": kittest.FuzzAda, "{{R}}": kittest.FuzzAda, "{{Q}}": kittest.FuzzAda, "{{E}}": kittest.FuzzAda, "{{X}}": kittest.FuzzBob, "{{Y}}": kittest.FuzzBob}

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
		named := make(map[string]bool)
		for placeholder, user := range users {
			if strings.Contains(tokens.Expand(cookie), tokens[placeholder]) {
				named[user] = true
			}
		}
		require.Contains(t, slices.Collect(maps.Keys(named)), s.Subject(), "nobody's cookie")
		if !ordinaryCookies.MatchString(header.Get("Cookie")) {
			return
		}
		// Of an ordinary header every reader makes the same.
		counted := make(map[string]bool)
		for name, good := range map[string][]string{kittest.SessionCookie: {"{{S}}", "{{T}}", "{{E}}", "{{X}}"}, kittest.RefreshCookie: {"{{R}}", "{{Q}}", "{{Y}}"}} {
			n := 0
			for _, c := range r.CookiesNamed(name) {
				if c.Value == "" || n == 4 {
					continue
				}
				n++
				for _, placeholder := range good {
					if c.Value == tokens[placeholder] {
						counted[users[placeholder]] = true
					}
				}
			}
		}
		require.Equal(t, map[string]bool{s.Subject(): true}, counted)
		seen := next.Last()
		if len(res.Cookies()) > 0 {
			require.Empty(t, seen.CookiesNamed(kittest.RefreshCookie))
			require.Len(t, seen.CookiesNamed(kittest.SessionCookie), 1)
		}
	})
}
