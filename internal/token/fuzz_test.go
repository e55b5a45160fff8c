package token_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

func noAnswer(*http.Request, []byte) (int, http.Header, string) {
	return http.StatusServiceUnavailable, http.Header{}, ""
}

// Whatever a token is, it is judged without a panic, the same way wherever it
// comes from, and one that is accepted stands up to a second, independent check.
//
// Rule: tokens: against `exp` that is 0, missing, a string, or too large; `crit`; names twice
// or in another case; two JSON values; broken UTF-8: a strict decoder and rules of our own;
// golang-jwt's parser is not used.
// Rule: tokens: against a verdict that depends on the way a token came: one judgement for
// Bearer, cookie, VerifyToken and flows.
// Rule: tokens: header and claims: one JSON object, unique names, valid UTF-8.
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
