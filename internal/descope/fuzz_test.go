package descope_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// answered are the flows whose answers are fuzzed, "" for the middleware. Their order is
// part of the corpus.
var answered = []string{
	"", kittest.RefreshPath, kittest.TryRefreshPath, kittest.VerifyPath, kittest.MePath, kittest.SelectPath, kittest.SignUpPath, kittest.LogoutPath,
}

// answers are where the fuzzing of answers starts.
var answers = []string{
	`{"sessionJwt":"{{S}}","refreshJwt":""}`, `{"sessionJwt":"{{S}}","refreshJwt":"{{Q}}","user":{"TOTP":true},"sessionExpiration":1}`, `{"sessionJwt":"{{X}}","refreshJwt":"{{Y}}"}`,
	`{"sessionJwt":"{{S}}","refreshJwt":"{{Y}}"}`, `{"sessionJwt":"{{R}}","refreshJwt":"{{S}}"}`, `{"sessionJwt":"{{E}}"}`, `{"sessionJwt":"","refreshJwt":"{{Q}}"}`, `{"sessionJwt":"{{S}}","refreshJwt":"{{F}}"}`,
	`{"sessionJwt":"{{S}}","sessionJwt":"{{X}}"}`, `{"sessionJwt":"{{S}}","SessionJwt":"{{X}}","refreshJwt":"{{R}}"}`, `{"sessionJwt":"{{S}}x"}`, `{"sessionJwt":7}`, `{"errorCode":"E061005"}`, `{"errorCode":"E064001"}`, `{"errorCode":"E061004"}`,
	`{"errorCode":"E130429"}`, `{"errorCode":"E061102"}`, `{"errorCode":"E011003"}`, `{"errorCode":"E062107"}`, `{"errorCode":7}`, `{}`, `[]`, `null`, ``, `<html>`, `{"sessionJwt":`, "{\"sessionJwt\":\"{{S}}\",\"x\":\"\xff\"}",
	`{"sessionJwt":"{{S}}","refreshJwt":"{{U}}"}`, `{"cookieName":"DSX","sessionCookieName":"DSY","sessionJwt":""}`, `{"x":"{{S}}"}`,
}

// askFor has a kit ask Descope by way of a flow.
func askFor(a *descopehttp.Auth, path string, tokens kittest.FuzzTokens, next http.Handler) *http.Response {
	switch path {
	case "":
		return kittest.Serve(a.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens["{{E}}"], tokens["{{R}}"]))
	case "/v1/auth/me":
		return kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Get(path), "", tokens["{{R}}"]))
	case kittest.VerifyPath, kittest.SignUpPath:
		return kittest.Serve(a.Handler(), kittest.Post(path, `{"loginId":"ada@example.com","code":"123456"}`))
	case "/v1/auth/tenant/select":
		return kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Post(path, `{"tenant":"T1"}`), "", tokens["{{R}}"]))
	default:
		return kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Post(path, `{}`), "", tokens["{{R}}"]))
	}
}

// requireOwnHeader checks that a header holds nothing but what is the kit's to say.
func requireOwnHeader(t *testing.T, header http.Header) {
	t.Helper()
	require.Empty(t, header.Get("X-Upstream"))
	for name := range header {
		require.Contains(t, []string{"Cache-Control", "cache-control", "Cdn-Cache-Control", "cdn-cache-control", "Surrogate-Control", "surrogate-control", "Vary", "Content-Type", "Content-Length", "X-Content-Type-Options", "Www-Authenticate", "Retry-After", "Set-Cookie", "X-Spy"}, name)
	}
	if after := header.Get("Retry-After"); after != "" {
		seconds, err := strconv.Atoi(after)
		require.NoError(t, err)
		require.Positive(t, seconds)
		require.LessOrEqual(t, seconds, 600)
	}
}

// requireOneUser checks that cookies are under the kit's policy, and of one user whose
// tokens pass.
func requireOneUser(t *testing.T, cookies map[string]*http.Cookie, users map[string]string) {
	t.Helper()
	for name, c := range cookies {
		require.Contains(t, []string{kittest.SessionCookie, kittest.RefreshCookie}, name)
		require.Empty(t, c.Domain)
		if c.Value != "" {
			require.Contains(t, users, c.Value)
		}
	}
	if s, r := cookies[kittest.SessionCookie], cookies[kittest.RefreshCookie]; s != nil && r != nil {
		require.Equal(t, users[s.Value], users[r.Value])
	}
}

// Whatever Descope answers, nobody is signed in with tokens that do not pass the
// checks or are another user's, nothing of the answer's header gets through, and
// no script sees a token that belongs into a cookie.
//
// Rule: answers: against an answer with tokens of another user, of another project, or expired:
// tokens are verified before they are handed on, and must be the same user's.
// Rule: answers: against headers of an answer that reach the browser: dropped but for
// Retry-After.
// Rule: flows: tokens in cookies are emptied in the body.
// Rule: renewing: the tokens of an answer pass all checks, and are those of the user who
// refreshed.
func FuzzDescopeAnswer(f *testing.F) {
	for i, body := range answers {
		for path := range answered {
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
		path := answered[int(which)%len(answered)]
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
		res := askFor(a, path, tokens, next)
		require.NoError(t, a.Wait(t.Context()))

		require.Contains(t, []int{200, 400, 401, 429, 502, 503, 504}, res.StatusCode)
		requireOwnHeader(t, res.Header)
		cookies := kittest.CookiesOf(res)
		requireOneUser(t, cookies, users)
		for _, c := range cookies {
			if c.Value != "" {
				require.Equal(t, 200, res.StatusCode)
				if path != kittest.VerifyPath {
					require.Equal(t, kittest.FuzzAda, users[c.Value])
				}
			}
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
