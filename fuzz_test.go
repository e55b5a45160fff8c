package descopehttp_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func noAnswer(*http.Request, []byte) (int, http.Header, string) {
	return http.StatusServiceUnavailable, http.Header{}, ""
}

// Whatever a token is, it is judged without a panic, the same way wherever it
// comes from, and one that is accepted stands up to a second, independent check.
func FuzzToken(f *testing.F) {
	const es256, rs256 = `{"alg":"ES256","kid":"` + kittest.ECKid + `"}`, `{"alg":"RS256","kid":"` + kittest.RSAKid + `","typ":"JWT"}`
	good := fmt.Sprintf(`{"iss":%q,"sub":"U2ada","drn":"DS","exp":%d}`, kittest.ProjectID, kittest.FarAhead)
	f.Add(byte(0), es256, good)
	f.Add(byte(1), rs256, good)
	for _, header := range []string{
		`{"alg":"ES256","kid":"` + kittest.ECKid + `","crit":["exp"]}`, `{"alg":"ES256","ALG":"none","kid":"` + kittest.ECKid + `"}`, `{"alg":"none","kid":"` + kittest.ECKid + `"}`,
		`{"alg":"ES256","alg":"ES256","kid":"` + kittest.ECKid + `"}`, `{"\u0061lg":"ES256","kid":"` + kittest.ECKid + `"}`, `{"alg":"ES256"}`, `{"alg":"ES256","kid":7}`,
		`{"alg":"ES256","kid":"` + kittest.ECKid + `","jwk":{"kty":"EC"}}`, `[` + es256 + `]`, es256 + " ", es256 + "//", `{"alg":"RS256","kid":"` + kittest.ECKid + `"}`,
	} {
		f.Add(byte(0), header, good)
	}
	for _, edit := range [][2]string{
		{`"drn":"DS"`, `"drn":"DSR"`}, {`"exp":`, `"exp":0,"x":`}, {`"exp":`, `"EXP":1,"exp":`}, {`"exp":4102444800`, `"exp":"4102444800"`}, {`"exp":4102444800`, `"exp":4.1024448e9`},
		{`4102444800`, `253402300799.5`}, {`4102444800`, `1e400`}, {`4102444800`, `-1`}, {`"sub":"U2ada"`, `"sub":"U2ada","sub":"U2bob"`}, {`"sub":"U2ada"`, `"sub":"U2ada","\u0073ub":"U2bob"`},
		{`"sub":"U2ada"`, `"sub":7`}, {`"sub":"U2ada"`, `"sub":""`}, {`"sub"`, `"cnf":null,"sub"`}, {`"sub"`, `"i\u017fs":1,"sub"`}, {`"sub"`, `"aud":["a",7],"sub"`}, {`"sub"`, `"aud":"a","sub"`},
		{`"sub"`, `"nbf":1e400,"sub"`}, {`"sub"`, `"iat":"1","sub"`}, {`"sub"`, `"x":"\ud800","sub"`}, {`"sub"`, `"x":"\ud83d\ude00","sub"`}, {`"sub"`, "\"x\":\"\xff\",\"sub\""}, {`"sub"`, `"x":{"a":1,"a":2},"sub"`},
		{`"sub"`, `"x":[[[[{}]]]],"sub"`}, {`"` + kittest.ProjectID + `"`, `"https://api.descope.com/v1/apps/` + kittest.ProjectID + `/T2"`}, {`"` + kittest.ProjectID + `"`, `"https://x/` + kittest.ProjectID + `/a/b"`}, {`"` + kittest.ProjectID + `"`, `"//x/` + kittest.ProjectID + `"`},
	} {
		f.Add(byte(0), es256, strings.Replace(good, edit[0], edit[1], 1))
	}
	for _, raw := range []string{
		"{{S}}", "{{R}}", "{{E}}", "{{S}}.", ".{{S}}", "{{S}}=", "{{S}}\n", " {{S}}", "{{S}}.{{S}}", "a.b.c", "..", "", "{{U}}", "{{S}}A", `"{{S}}"`, strings.Repeat("A", 17000) + "..",
	} {
		f.Add(byte(2), raw, "")
	}
	for _, signatures := range vectorsBySet(f) {
		for _, jws := range signatures[:min(len(signatures), 20)] {
			f.Add(byte(2), jws, "")
		}
	}
	tokens := kittest.NewFuzzTokens(f)
	rsa, ec := kittest.Keys()
	a := kittest.NewOver(f, noAnswer)
	require.NoError(f, a.Ready(f.Context()))

	f.Fuzz(func(t *testing.T, how byte, first, second string) {
		var token string
		switch how % 3 {
		case 0:
			token = kittest.SignRaw(t, ec, first, second)
		case 1:
			token = kittest.SignRaw(t, rsa, first, second)
		default:
			token = tokens.Expand(first)
		}
		s, err := a.VerifyToken(t.Context(), token)
		if err == nil {
			require.NoError(t, kittest.StrictSession(token, time.Now()))
			require.Equal(t, token, s.Token())
			require.NotEmpty(t, s.Subject())
			s.Roles("")
			s.Permissions("T1")
			s.AuthMethods()
		}
		if !kittest.ThreeParts.MatchString(token) {
			require.Error(t, err)
			return
		}
		next := new(kittest.Spy)
		bearer := kittest.Serve(a.RequireSession(next), kittest.WithBearer(kittest.Get("/"), token))
		cookie := kittest.Serve(a.RequireSession(next), kittest.WithCookies(kittest.Get("/"), token, ""))
		again, err2 := a.VerifyToken(t.Context(), token)
		if err == nil {
			require.NoError(t, err2)
			require.Equal(t, s.Subject(), again.Subject())
			require.Equal(t, 200, bearer.StatusCode)
			require.Equal(t, 200, cookie.StatusCode)
			require.Equal(t, 2, next.Calls)
		} else {
			require.Error(t, err2)
			require.Contains(t, []int{401, 503}, bearer.StatusCode)
			require.Contains(t, []int{401, 503}, cookie.StatusCode)
			require.Zero(t, next.Calls)
		}
	})
}

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

// Whatever Descope answers, nobody is signed in with tokens that do not pass the
// checks or are another user's, nothing of the answer's header gets through, and
// no script sees a token that belongs into a cookie.
func FuzzDescopeAnswer(f *testing.F) {
	paths := []string{"", kittest.RefreshPath, "/v1/auth/try-refresh", kittest.VerifyPath, "/v1/auth/me", "/v1/auth/tenant/select", kittest.SignUpPath, "/v1/auth/logout"}
	for i, body := range []string{
		`{"sessionJwt":"{{S}}","refreshJwt":""}`, `{"sessionJwt":"{{S}}","refreshJwt":"{{Q}}","user":{"TOTP":true},"sessionExpiration":1}`, `{"sessionJwt":"{{X}}","refreshJwt":"{{Y}}"}`,
		`{"sessionJwt":"{{S}}","refreshJwt":"{{Y}}"}`, `{"sessionJwt":"{{R}}","refreshJwt":"{{S}}"}`, `{"sessionJwt":"{{E}}"}`, `{"sessionJwt":"","refreshJwt":"{{Q}}"}`, `{"sessionJwt":"{{S}}","refreshJwt":"{{F}}"}`,
		`{"sessionJwt":"{{S}}","sessionJwt":"{{X}}"}`, `{"sessionJwt":"{{S}}","SessionJwt":"{{X}}","refreshJwt":"{{R}}"}`, `{"sessionJwt":"{{S}}x"}`, `{"sessionJwt":7}`, `{"errorCode":"E061005"}`, `{"errorCode":"E064001"}`, `{"errorCode":"E061004"}`,
		`{"errorCode":"E130429"}`, `{"errorCode":"E061102"}`, `{"errorCode":"E011003"}`, `{"errorCode":"E062107"}`, `{"errorCode":7}`, `{}`, `[]`, `null`, ``, `<html>`, `{"sessionJwt":`, "{\"sessionJwt\":\"{{S}}\",\"x\":\"\xff\"}",
		`{"sessionJwt":"{{S}}","refreshJwt":"{{U}}"}`, `{"cookieName":"DSX","sessionCookieName":"DSY","sessionJwt":""}`, `{"x":"{{S}}"}`,
	} {
		for path := range paths {
			status := []uint16{200, 401, 400, 429, 500, 503, 204, 302}[i%8]
			f.Add(byte(path), status, body, "", "")
			f.Add(byte(path), uint16(200), body, "", "")
		}
	}
	f.Add(byte(1), uint16(200), `{}`, "DS={{S}}; Path=/; Domain=evil.example", "DSR={{Q}}; HttpOnly")
	f.Add(byte(0), uint16(200), `{"cookieName":"DSR"}`, "DS={{X}}", "DSR={{R}}; Max-Age=0")
	f.Add(byte(3), uint16(200), `{"cookieName":"a","sessionCookieName":"b"}`, "b={{X}}", "a={{Y}}")
	f.Add(byte(0), uint16(429), `{"errorCode":"E130429"}`, "Retry-After: 7", "")
	f.Add(byte(3), uint16(429), `{"errorCode":"E061103"}`, "Retry-After: 99999999999999999999", "Retry-After: -5")
	tokens := kittest.NewFuzzTokens(f)
	users := map[string]string{
		tokens["{{S}}"]: kittest.FuzzAda, tokens["{{T}}"]: kittest.FuzzAda, tokens["{{R}}"]: kittest.FuzzAda, tokens["{{Q}}"]: kittest.FuzzAda, tokens["{{X}}"]: kittest.FuzzBob, tokens["{{Y}}"]: kittest.FuzzBob,
	}

	f.Fuzz(func(t *testing.T, which byte, status uint16, body, header1, header2 string) {
		path := paths[int(which)%len(paths)]
		header := http.Header{"X-Upstream": {"secret"}, "Content-Type": {"application/json"}}
		for _, line := range []string{header1, header2} {
			if name, value, ok := strings.Cut(line, ": "); ok && name == "Retry-After" {
				header.Add(name, value)
			} else if line != "" {
				header.Add("Set-Cookie", tokens.Expand(line))
			}
		}
		a := kittest.NewOver(t, func(*http.Request, []byte) (int, http.Header, string) {
			return 200 + int(status)%400, header, tokens.Expand(body)
		})
		next := new(kittest.Spy)
		var res *http.Response
		switch path {
		case "":
			res = kittest.Serve(a.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens["{{E}}"], tokens["{{R}}"]))
		case "/v1/auth/me":
			res = kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Get(path), "", tokens["{{R}}"]))
		case kittest.VerifyPath, kittest.SignUpPath:
			res = kittest.Serve(a.Handler(), kittest.Post(path, `{"loginId":"ada@example.com","code":"123456"}`))
		case "/v1/auth/tenant/select":
			res = kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Post(path, `{"tenant":"T1"}`), "", tokens["{{R}}"]))
		default:
			res = kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Post(path, `{}`), "", tokens["{{R}}"]))
		}
		require.NoError(t, a.Wait(t.Context()))

		require.Contains(t, []int{200, 400, 401, 429, 502, 503, 504}, res.StatusCode)
		require.Empty(t, res.Header.Get("X-Upstream"))
		for name := range res.Header {
			require.Contains(t, []string{"Cache-Control", "Cdn-Cache-Control", "Surrogate-Control", "Vary", "Content-Type", "Content-Length", "X-Content-Type-Options", "Www-Authenticate", "Retry-After", "Set-Cookie", "X-Spy"}, name)
		}
		if after := res.Header.Get("Retry-After"); after != "" {
			seconds, err := strconv.Atoi(after)
			require.NoError(t, err)
			require.Positive(t, seconds)
			require.LessOrEqual(t, seconds, 600)
		}
		cookies := kittest.CookiesOf(res)
		for name, c := range cookies {
			require.Contains(t, []string{kittest.SessionCookie, kittest.RefreshCookie}, name)
			require.Empty(t, c.Domain)
			if c.Value != "" {
				require.Equal(t, 200, res.StatusCode)
				require.Contains(t, users, c.Value)
				if path != kittest.VerifyPath {
					require.Equal(t, kittest.FuzzAda, users[c.Value])
				}
			}
		}
		if s, r := cookies[kittest.SessionCookie], cookies[kittest.RefreshCookie]; s != nil && r != nil {
			require.Equal(t, users[s.Value], users[r.Value])
		}
		if next.Calls > 0 {
			require.Equal(t, "", path)
			s, ok := descopehttp.SessionFromContext(next.Last().Context())
			require.True(t, ok)
			require.Equal(t, kittest.FuzzAda, s.Subject())
			require.NoError(t, kittest.StrictSession(s.Token(), time.Now()))
			return
		}
		content, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.True(t, json.Valid(content), "%q", content)
		if res.StatusCode == 200 && len(cookies) > 0 {
			var seen map[string]any // by their exact names, as scripts read them
			require.NoError(t, json.Unmarshal(content, &seen))
			require.Empty(t, seen["sessionJwt"])
			require.Empty(t, seen["refreshJwt"])
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
