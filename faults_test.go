package descopehttp_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// An upstreamFault is one way in which Descope can fail.
type upstreamFault struct {
	fault      descopetest.Fault
	answer     func(*http.Request) *http.Response // in place of fault
	status     int                                // 502, unless said otherwise
	tokensOnly bool                               // a fault only where tokens are expected
}

var upstreamFaults = map[string]upstreamFault{
	"garbage":             {fault: descopetest.Fault{Body: "\x00\xff{"}},
	"HTML":                {fault: descopetest.Fault{Body: "<html>welcome to the hotel</html>"}},
	"half of JSON":        {fault: descopetest.Fault{Body: `{"sessionJwt":"`}},
	"a string":            {fault: descopetest.Fault{Body: `"ok"`}},
	"null":                {fault: descopetest.Fault{Body: `null`}},
	"two documents":       {fault: descopetest.Fault{Body: `{}{}`}},
	"duplicate names":     {fault: descopetest.Fault{Body: `{"sessionJwt":"","sessionJwt":"a.b.c"}`}},
	"empty body":          {fault: descopetest.Fault{Status: 200}},
	"204":                 {fault: descopetest.Fault{Status: 204}},
	"redirect":            {fault: descopetest.Fault{Status: 307, Header: http.Header{"Location": {"https://evil.example/"}}}},
	"redirect, JSON":      {fault: descopetest.Fault{Status: 302, Header: http.Header{"Location": {"/v2/x"}}, Body: `{}`}},
	"dropped":             {fault: descopetest.Fault{Drop: true}},
	"lost answer":         {fault: descopetest.Fault{Drop: true, After: true}},
	"cut":                 {fault: descopetest.Fault{Truncate: 20}},
	"silent":              {fault: descopetest.Fault{Delay: time.Minute}, status: http.StatusGatewayTimeout},
	"stalled body":        {answer: stalledBody, status: http.StatusGatewayTimeout},
	"100 MB":              {answer: func(*http.Request) *http.Response { return endless(100 << 20) }},
	"panic":               {answer: func(*http.Request) *http.Response { panic("marker-of-the-transport") }},
	"500 JSON":            {fault: descopetest.Fault{Status: 500, Body: `{"errorCode":"E061005"}`}},
	"502 HTML":            {fault: descopetest.Fault{Status: 502, Body: "<html>"}},
	"503":                 {fault: descopetest.Fault{Status: 503, Header: http.Header{"Retry-After": {"3"}}}},
	"520":                 {fault: descopetest.Fault{Status: 520, Body: "<html>"}},
	"401 without a code":  {fault: descopetest.Fault{Status: 401, Body: `{"message":"no"}`}},
	"401 empty":           {fault: descopetest.Fault{Status: 401}},
	"401 of somebody":     {fault: descopetest.Fault{Status: 401, Body: `{"errorCode":"invalid_token"}`}},
	"403 HTML":            {fault: descopetest.Fault{Status: 403, Body: "<html>blocked</html>"}},
	"404 JSON":            {fault: descopetest.Fault{Status: 404, Body: `{"message":"no such route"}`}},
	"404 array":           {fault: descopetest.Fault{Status: 404, Body: `[{"errorCode":"E061005"}]`}},
	"429":                 {fault: descopetest.Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}, Body: `{"errorCode":"E130429"}`}},
	"429 HTML":            {fault: descopetest.Fault{Status: 429, Body: "<html>"}},
	"200 {}":              {fault: descopetest.Fault{Body: `{}`}, tokensOnly: true},
	"200 empty tokens":    {fault: descopetest.Fault{Body: `{"sessionJwt":"","refreshJwt":"","user":{}}`}, tokensOnly: true},
	"200 an array":        {fault: descopetest.Fault{Body: `[]`}, tokensOnly: true},
	"200 numbers":         {fault: descopetest.Fault{Body: `{"sessionJwt":1,"refreshJwt":2}`}, tokensOnly: true},
	"200, tokens garbage": {fault: descopetest.Fault{Body: `{"sessionJwt":"a.b.c","refreshJwt":"a.b.c"}`}, tokensOnly: true},
	"200 with an error":   {fault: descopetest.Fault{Body: `{"errorCode":"E061005","errorDescription":"x"}`}, tokensOnly: true},
}

// endless is a JSON string of n bytes.
func endless(n int) *http.Response {
	return kittest.ReadingAnswer(func(p []byte) (int, error) {
		if n -= len(p); n < 0 {
			return 0, io.EOF
		}
		for i := range p {
			p[i] = '"'
		}
		return len(p), nil
	})
}

// stalledBody sends a header and then nothing more.
func stalledBody(r *http.Request) *http.Response {
	return kittest.ReadingAnswer(func([]byte) (int, error) {
		<-r.Context().Done()
		return 0, r.Context().Err()
	})
}

// inject makes the next call to path fail.
func (f upstreamFault) inject(k *kittest.Kit, tap *kittest.Wiretap, path string) {
	if f.answer == nil {
		k.Project.Fail(path, f.fault)
		return
	}
	done := false
	tap.AnswerWith(func(r *http.Request) *http.Response {
		if r.URL.Path != path || done {
			return nil
		}
		done = true
		return f.answer(r)
	})
}

// Whatever Descope does wrong, a flow says so in time, in JSON, with a status
// that no client takes for a verdict, and everything is as it was before.
func TestFlowsWhileDescopeFails(t *testing.T) {
	for name, fault := range upstreamFaults {
		for _, c := range kittest.Flows {
			if fault.tokensOnly && !c.Tokens {
				continue
			}
			t.Run(name+", "+c.Path, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					defer kittest.Settle()
					tap := new(kittest.Wiretap)
					k := kittest.NewForFlows(t, tap)
					tokens := k.Project.SignIn(kittest.Bob)
					require.NoError(t, k.Ready(t.Context()))
					fault.inject(k, tap, c.Upstream)

					began := time.Now()
					res := kittest.Serve(k.Handler(), c.Request(k, tokens))
					assert.LessOrEqual(t, time.Since(began), 10*time.Second)
					limited := fault.fault.Status == http.StatusTooManyRequests
					switch {
					case limited && c.Anonymous():
						kittest.RequireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
					case fault.status != 0:
						kittest.RequireProblem(t, res, fault.status, "unavailable")
					default:
						kittest.RequireProblem(t, res, http.StatusBadGateway, "unavailable")
					}
					if limited {
						want := fault.fault.Header.Get("Retry-After")
						if want == "" {
							want = "5"
						}
						assert.Equal(t, want, res.Header.Get("Retry-After"))
					}
					if c.Path == kittest.LogoutPath {
						kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
					} else {
						assert.Empty(t, res.Cookies(), "cookies are left as they are")
					}
					assert.NotContains(t, k.Logs.String(), "marker-of-the-transport")
					require.NoError(t, k.Wait(t.Context()))

					// When Descope is back, the same client gets what it wanted.
					kittest.Elapse(time.Minute)
					if name == "200, tokens garbage" {
						return // the token was spent for these
					}
					res = kittest.Serve(k.Handler(), c.Request(k, tokens))
					if c.Path == kittest.LogoutAllPath && (fault.fault.After || fault.fault.Truncate > 0) {
						kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended") // as it had asked
						return
					}
					assert.Equal(t, http.StatusOK, res.StatusCode, "%s", kittest.BodyOf(t, res))
					require.NoError(t, k.Wait(t.Context()))
				})
			})
		}
	}
}

// An answer that is too large is not read to its end.
func TestHugeAnswerIsNotRead(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.NewForFlows(t, tap)
	tokens := k.Project.SignIn(kittest.Bob)
	read := 0
	tap.AnswerWith(func(r *http.Request) *http.Response {
		if r.URL.Path != kittest.MePath {
			return nil
		}
		return kittest.ReadingAnswer(func(p []byte) (int, error) {
			read += len(p)
			return len(p), nil
		})
	})
	kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Get(kittest.MePath), "", tokens.Refresh)), http.StatusBadGateway, "unavailable")
	assert.Less(t, read, 4<<20)
}

// Behind the middleware "cannot tell" is a 503 that says when to come back, and
// the cookies stay.
func TestMiddlewareWhileDescopeFails(t *testing.T) {
	for name, fault := range upstreamFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				defer kittest.Settle()
				tap := new(kittest.Wiretap)
				k := kittest.NewForFlows(t, tap)
				tokens := k.Project.SignIn(kittest.Bob)
				kittest.Elapse(kittest.Past)
				require.NoError(t, k.Ready(t.Context()))
				fault.inject(k, tap, kittest.RefreshPath)

				next := new(kittest.Spy)
				began := time.Now()
				res := kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
				assert.LessOrEqual(t, time.Since(began), 5*time.Second)
				kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
				assert.Regexp(t, `^[1-9][0-9]*$`, res.Header.Get("Retry-After"))
				assert.Empty(t, res.Cookies())
				assert.Zero(t, next.Calls)
				require.NoError(t, k.Wait(t.Context()))
				if name == "200, tokens garbage" {
					return
				}

				kittest.Elapse(time.Minute)
				res = kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
				assert.Equal(t, http.StatusOK, res.StatusCode)
				assert.Equal(t, 1, next.Calls)
			})
		})
	}
}

// A page that can do without a session does; one that acts on its absence does
// not.
func TestLoadSessionWhileDescopeFails(t *testing.T) {
	for name, fault := range upstreamFaults {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			t.Run(name+", "+method, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					defer kittest.Settle()
					tap := new(kittest.Wiretap)
					k := kittest.NewForFlows(t, tap)
					tokens := k.Project.SignIn(kittest.Bob)
					kittest.Elapse(kittest.Past)
					require.NoError(t, k.Ready(t.Context()))
					fault.inject(k, tap, kittest.RefreshPath)

					next := new(kittest.Spy)
					began := time.Now()
					res := kittest.Serve(k.LoadSession(next), kittest.WithCookies(httptest.NewRequest(method, "/", nil), tokens.Session, tokens.Refresh))
					assert.LessOrEqual(t, time.Since(began), time.Second)
					assert.Empty(t, res.Cookies())
					if method == http.MethodPost {
						kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
						assert.NotEmpty(t, res.Header.Get("Retry-After"))
						assert.Zero(t, next.Calls)
					} else {
						assert.Equal(t, http.StatusOK, res.StatusCode)
						require.Equal(t, 1, next.Calls)
						assert.ErrorIs(t, descopehttp.SessionError(next.Last().Context()), descopehttp.ErrUnavailable)
						_, ok := descopehttp.SessionFromContext(next.Last().Context())
						assert.False(t, ok)
					}
					require.NoError(t, k.Wait(t.Context()))
				})
			})
		}
	}
}

// Descope's browser clients forget their tokens on any 4xx of these, so only a
// refusal that is known to end the session may be one.
func TestSessionCallsAnswerNo4xxForDescopesTrouble(t *testing.T) {
	for _, c := range kittest.Flows {
		switch c.Path {
		case kittest.RefreshPath, kittest.TryRefreshPath, kittest.MePath, kittest.TenantsPath, kittest.HistoryPath:
		default:
			continue
		}
		for _, fault := range []descopetest.Fault{
			{Status: 400, Body: `{"errorCode":"E011001"}`},
			{Status: 400, Body: `{"errorCode":"E011003"}`},
			{Status: 400, Body: `{"errorCode":"E062108"}`},
			{Status: 401, Body: `{"errorCode":"E061004"}`}, // the management key has changed
			{Status: 401, Body: `{"errorCode":"E999999"}`},
			{Status: 401, Body: `{"errorCode":"e061005"}`},
			{Status: 401, Body: `{"ErrorCode":"E061005"}`},
			{Status: 403, Body: `{"errorCode":"E061301"}`},
			{Status: 404, Body: `{"errorCode":"E063302"}`},
			{Status: 409, Body: `{"errorCode":"E062107"}`},
			{Status: 418, Body: `{"errorCode":"E061102"}`},
			{Status: 429, Body: `{"errorCode":"E061103"}`},
			{Status: 429, Body: `{"errorCode":"E061005"}`},
			{Status: 451, Body: "<html>"},
		} {
			about := fmt.Sprintf("%s, %d %s", c.Path, fault.Status, fault.Body)
			k := kittest.NewForFlows(t, new(kittest.Wiretap))
			tokens := k.Project.SignIn(kittest.Bob)
			k.Project.Fail(c.Upstream, fault)
			res := kittest.Serve(k.Handler(), c.Request(k, tokens))
			assert.Contains(t, []int{502, 504}, res.StatusCode, about)
			assert.Empty(t, res.Cookies(), about)
		}
		for _, code := range []string{"E061005", "E064001"} {
			k := kittest.NewForFlows(t, new(kittest.Wiretap))
			tokens := k.Project.SignIn(kittest.Bob)
			k.Project.Fail(c.Upstream, descopetest.Fault{Status: 401, Body: `{"errorCode":"` + code + `"}`})
			res := kittest.Serve(k.Handler(), c.Request(k, tokens))
			if c.Path == kittest.TryRefreshPath {
				kittest.RequireOK(t, res)
			} else {
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
			}
		}
	}
}

// A limit of Descope's is a 429 to those who sign in for as long as it lasts, and
// what they do does not slow down those who have.
func TestRateLimitOfDescope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.NewForFlows(t, new(kittest.Wiretap))
		tokens := k.Project.SignIn(kittest.Bob)
		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 429, Header: http.Header{"Retry-After": {"30"}}, Body: `{"errorCode":"E130429"}`})
		verify := func() *http.Response {
			return kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Bob+`","code":"`+k.Project.Code(kittest.Bob)+`"}`))
		}
		res := verify()
		kittest.RequireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
		assert.Equal(t, "30", res.Header.Get("Retry-After"))

		kittest.Elapse(10 * time.Second)
		for _, r := range []*http.Request{kittest.SignedInPost(tokens, kittest.RefreshPath, ``), kittest.WithCookies(kittest.Get(kittest.MePath), "", tokens.Refresh)} {
			kittest.RequireOK(t, kittest.Serve(k.Handler(), r))
		}
		res = verify()
		kittest.RequireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
		assert.Equal(t, "20", res.Header.Get("Retry-After"))
		assert.Equal(t, 1, k.Project.Requests(kittest.VerifyPath), "Descope has asked to be left alone")

		kittest.Elapse(20 * time.Second)
		kittest.RequireOK(t, verify())
	})
}

// Without keys the tokens of an answer cannot be judged, and none is handed on.
func TestFlowsWithoutKeys(t *testing.T) {
	for _, c := range kittest.Flows {
		if !c.Tokens {
			continue
		}
		for name, fault := range map[string]descopetest.Fault{
			"500": {Status: 500, Times: -1}, "silent": {Delay: time.Minute, Times: -1}, "empty set": {Body: `{"keys":[]}`, Times: -1},
		} {
			t.Run(name+", "+c.Path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					defer kittest.Settle()
					k := kittest.NewForFlows(t, new(kittest.Wiretap))
					tokens := k.Project.SignIn(kittest.Bob)
					k.Project.Fail(kittest.KeysPath, fault)
					began := time.Now()
					res := kittest.Serve(k.Handler(), c.Request(k, tokens))
					assert.LessOrEqual(t, time.Since(began), 10*time.Second)
					assert.Contains(t, []int{502, 504}, res.StatusCode)
					kittest.RequireProblem(t, res, res.StatusCode, "unavailable")
					assert.Empty(t, res.Cookies())
					require.NoError(t, k.Wait(t.Context()))
				})
			})
		}
	}
}

// Whether there was a step-up cannot be told without keys, which is no reason to
// ask for another one. Flows that need none do not wait for it.
func TestStepUpForUpdateWithoutKeys(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"500": {Status: 500, Times: -1}, "silent": {Delay: time.Minute, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer kittest.Settle()
				k := kittest.NewForFlows(t, new(kittest.Wiretap), func(c *descopehttp.Config) { c.StepUpForUpdate = true })
				tokens := k.Project.StepUp(kittest.Bob)
				k.Project.Fail(kittest.KeysPath, fault)
				res := kittest.Serve(k.Handler(), kittest.SignedInPost(tokens, kittest.UpdatePath, `{"loginId":"`+kittest.Bob+`"}`))
				assert.Contains(t, []int{502, 504}, res.StatusCode, "%s", kittest.BodyOf(t, res))

				kittest.Elapse(time.Minute)
				began := time.Now()
				kittest.RequireOK(t, kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Get(kittest.MePath), tokens.Session, tokens.Refresh)))
				assert.Zero(t, time.Since(began))
				require.NoError(t, k.Wait(t.Context()))
			})
		})
	}
}

// Whoever hangs up leaves nothing behind for longer than a call may take. A guess
// at a code goes on without its client: else hanging up would take it back.
func TestClientHangsUp(t *testing.T) {
	for _, c := range kittest.Flows {
		synctest.Test(t, func(t *testing.T) {
			defer kittest.Settle()
			k := kittest.NewForFlows(t, new(kittest.Wiretap))
			tokens := k.Project.SignIn(kittest.Bob)
			require.NoError(t, k.Ready(t.Context()))
			k.Project.Fail(c.Upstream, descopetest.Fault{Delay: time.Minute})
			r := c.Request(k, tokens)
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			began := time.Now()
			res := kittest.Serve(k.Handler(), r.WithContext(ctx))
			switch c.Upstream {
			case kittest.VerifyPath, kittest.LogoutPath, kittest.LogoutAllPath: // what they do has to be done
			default:
				assert.Equal(t, time.Second, time.Since(began), c.Path)
			}
			assert.Contains(t, []int{502, 504}, res.StatusCode, c.Path)
			require.NoError(t, k.Wait(t.Context()))
			assert.LessOrEqual(t, time.Since(began), 10*time.Second, c.Path)
		})
	}
}

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

// A transport goes on working while the body of its answer is read. A panic in
// there is an answer that did not come, and the next call is made all the same.
func TestPanicInTheBodyOfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := new(kittest.Wiretap)
		k := kittest.NewForFlows(t, tap)
		tokens := k.Project.SignIn(kittest.Bob)
		me := func() *http.Response {
			return kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Get(kittest.MePath), "", tokens.Refresh))
		}
		panics := upstreamFault{answer: func(*http.Request) *http.Response {
			return kittest.ReadingAnswer(func([]byte) (int, error) { panic("marker-of-the-transport") })
		}}
		panics.inject(k, tap, kittest.MePath)
		res := me()
		assert.Equal(t, http.StatusBadGateway, res.StatusCode, "%s", kittest.BodyOf(t, res))

		// An outage, and a panic when Descope is tried again.
		k.Project.Fail(kittest.MePath, descopetest.Fault{Status: 500, Times: 5})
		for range 5 {
			me()
		}
		kittest.Elapse(10 * time.Second)
		panics.inject(k, tap, kittest.MePath)
		me()
		kittest.Elapse(time.Hour)
		assert.Equal(t, http.StatusOK, me().StatusCode)
		assert.NotContains(t, k.Logs.String(), "marker-of-the-transport")
	})
}

// The same while keys are fetched, in a goroutine where nobody else recovers. It
// would end the process, so the test has one of its own.
func TestPanicWhileKeysAreFetched(t *testing.T) {
	const variable = "DESCOPEHTTP_TEST_PANIC"
	if os.Getenv(variable) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPanicWhileKeysAreFetched$")
		cmd.Env = append(os.Environ(), variable+"=1")
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "the process has ended")
		assert.NotContains(t, string(out), "marker-of-the-transport")
		return
	}
	for name, answer := range map[string]func(*http.Request) *http.Response{
		"transport": func(*http.Request) *http.Response { panic("marker-of-the-transport") },
		"body": func(*http.Request) *http.Response {
			return kittest.ReadingAnswer(func([]byte) (int, error) { panic("marker-of-the-transport") })
		},
	} {
		tap := &kittest.Wiretap{Answer: answer}
		k := kittest.New(t, tap.Config)
		assert.ErrorIs(t, k.Ready(t.Context()), descopehttp.ErrUnavailable, name)
		assert.NotContains(t, k.Logs.String(), "marker-of-the-transport")
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

// problemCase provokes one problem document. Its name is that of the golden file.
type problemCase struct {
	name, code string
	provoke    func(t *testing.T) *http.Response
}

func flowProblem(r func(*kittest.Kit) *http.Request) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := kittest.NewForFlows(t, new(kittest.Wiretap))
		return kittest.Serve(k.Handler(), r(k))
	}
}

func pageProblem(prepare func(*kittest.Hostile) *http.Request) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		h := kittest.NewHostile(t)
		h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
		return kittest.Serve(h.RequireSession(new(kittest.Spy)), prepare(h))
	}
}

func upstreamProblem(path string, f descopetest.Fault) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := kittest.NewForFlows(t, new(kittest.Wiretap))
		tokens := k.Project.SignIn(kittest.Bob)
		k.Project.Fail(path, f)
		for _, c := range kittest.Flows {
			if c.Path == path {
				return kittest.Serve(k.Handler(), c.Request(k, tokens))
			}
		}
		panic("no such flow")
	}
}

func refreshProblem(f descopetest.Fault) func(*testing.T) *http.Response {
	return pageProblem(func(h *kittest.Hostile) *http.Request {
		h.Project.Fail(kittest.RefreshPath, f)
		return kittest.WithCookies(kittest.Get("/"), "", h.Project.SignIn(kittest.Ada).Refresh)
	})
}

func guardProblem(guard descopehttp.Guard) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := kittest.New(t)
		return kittest.Serve(k.Require(guard)(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session))
	}
}

var problemCases = []problemCase{
	{"no_session", "no_session", pageProblem(func(*kittest.Hostile) *http.Request { return kittest.Get("/") })},
	{"invalid_token", "invalid_token", pageProblem(func(*kittest.Hostile) *http.Request { return kittest.WithBearer(kittest.Get("/"), "a.b.c") })},
	{"session_expired", "session_expired", pageProblem(func(h *kittest.Hostile) *http.Request {
		return kittest.WithBearer(kittest.Get("/"), h.With(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}))
	})},
	{"session_ended", "session_ended", refreshProblem(descopetest.Fault{Status: 401, Body: `{"errorCode":"E064001"}`})},
	{"conflicting_cookies", "conflicting_cookies", pageProblem(func(h *kittest.Hostile) *http.Request {
		return kittest.WithCookies(kittest.Get("/"), h.Project.SignIn(kittest.Ada).Session, h.Project.SignIn(kittest.Bob).Refresh)
	})},
	{"foreign_project", "foreign_project", pageProblem(func(*kittest.Hostile) *http.Request { return kittest.WithBearer(kittest.Get("/"), "P2other") })},
	{"no_refresh_token", "no_refresh_token", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Get(kittest.MePath) })},
	{"invalid_refresh_token", "invalid_refresh_token", flowProblem(func(k *kittest.Kit) *http.Request {
		return kittest.InHeader(kittest.Get(kittest.MePath), k.Project.ProjectID(), "a.b.c")
	})},
	{"invalid_code", "invalid_code", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.VerifyPath, `{"loginId":"unknown","code":"000000"}`)
	})},
	{"cross_origin", "cross_origin", flowProblem(func(*kittest.Kit) *http.Request {
		r := kittest.Post(kittest.LogoutPath, `{}`)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		return r
	})},
	{"forbidden", "forbidden", guardProblem(func(*http.Request, *descopehttp.Session) error { return errors.New("secret reason") })},
	{"missing_role", "missing_role", guardProblem(descopehttp.Role("secret role"))},
	{"missing_permission", "missing_permission", guardProblem(descopehttp.Permission("secret permission"))},
	{"step_up_required", "step_up_required", guardProblem(descopehttp.StepUp())},
	{"mfa_required", "mfa_required", guardProblem(descopehttp.MFA())},
	{"foreign_login_id", "foreign_login_id", flowProblem(func(k *kittest.Kit) *http.Request {
		return kittest.SignedInPost(k.Project.SignIn(kittest.Bob), kittest.UpdatePath, `{"loginId":"`+kittest.Ada+`"}`)
	})},
	{"refresh_refused", "refresh_refused", refreshProblem(descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})},
	{"refresh_refused_in_a_flow", "refresh_refused", upstreamProblem(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})},
	{"other_user", "other_user", func(t *testing.T) *http.Response {
		tap := new(kittest.Wiretap)
		k := kittest.NewForFlows(t, tap)
		adas, bobs := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Bob)
		tap.AnswerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != kittest.RefreshPath {
				return nil
			}
			return kittest.JSONAnswer(http.StatusOK, `{"sessionJwt":"`+adas.Session+`","refreshJwt":""}`)
		})
		return kittest.Serve(k.Handler(), kittest.SignedInPost(bobs, kittest.RefreshPath, ``))
	}},
	{"unavailable", "unavailable", refreshProblem(descopetest.Fault{Status: 500})},
	{"unavailable_in_a_flow", "unavailable", upstreamProblem(kittest.RefreshPath, descopetest.Fault{Status: 500})},
	{"unavailable_in_time", "unavailable", func(t *testing.T) (res *http.Response) {
		synctest.Test(t, func(t *testing.T) {
			res = upstreamProblem(kittest.MePath, descopetest.Fault{Delay: time.Minute})(t)
		})
		return res
	}},
	{"too_many_requests", "too_many_requests", upstreamProblem(kittest.VerifyPath, descopetest.Fault{Status: 429})},
	{"unsupported_media_type", "unsupported_media_type", flowProblem(func(*kittest.Kit) *http.Request {
		return httptest.NewRequest(http.MethodPost, kittest.SignUpPath, strings.NewReader(`{}`))
	})},
	{"body_too_large", "body_too_large", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.SignUpPath, `{"x":"`+strings.Repeat("x", 64<<10)+`"}`)
	})},
	{"malformed_body", "malformed_body", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Post(kittest.SignUpPath, `{`) })},
	{"missing_field", "missing_field", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Post(kittest.SignUpPath, `{}`) })},
	{"invalid_field", "invalid_field", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.VerifyPath, `{"loginId":"a","code":"<b>"}`)
	})},
	{"refused", "refused", upstreamProblem(kittest.SelectPath, descopetest.Fault{Status: 400, Body: `{"errorCode":"E011004","errorDescription":"x"}`})},
	{"user_exists", "user_exists", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.SignUpPath, `{"loginId":"`+kittest.Bob+`"}`)
	})},
	{"not_found", "not_found", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Get("/v1/auth/<script>") })},
	{"method_not_allowed", "method_not_allowed", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Get(kittest.SignUpPath) })},
	{"internal", "internal", func(t *testing.T) *http.Response {
		k := kittest.New(t)
		w := httptest.NewRecorder()
		k.WriteError(w, kittest.Get("/"), errors.New("secret reason"))
		return w.Result()
	}},
}

// Clients read these documents, so their bytes are part of the interface.
func TestProblemDocuments(t *testing.T) {
	for _, c := range problemCases {
		t.Run(c.name, func(t *testing.T) {
			res := c.provoke(t)
			body := kittest.BodyOf(t, res)
			kittest.RequireProblem(t, res, res.StatusCode, c.code)
			path := filepath.Join("testdata", "problem", c.name+".json")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, append(body, '\n'), 0o644))
			}
			golden, err := os.ReadFile(path)
			require.NoError(t, err, "run go test -run TestProblemDocuments -update .")
			assert.Equal(t, string(golden), string(body)+"\n")
		})
	}
}

// Every problem that the table knows has its document, and no document is left
// over.
func TestProblemDocumentsAreComplete(t *testing.T) {
	source, err := os.ReadFile("internal/problem/table.go")
	require.NoError(t, err)
	covered, files := make(map[string]bool), make(map[string]bool)
	for _, c := range problemCases {
		covered[c.code] = true
		files[c.name+".json"] = true
	}
	codes := regexp.MustCompile(`\bCode: "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	require.Greater(t, len(codes), 20)
	for _, code := range codes {
		assert.True(t, covered[code[1]], "no golden document for %s", code[1])
	}
	entries, err := os.ReadDir(filepath.Join("testdata", "problem"))
	require.NoError(t, err)
	for _, e := range entries {
		assert.True(t, files[e.Name()], "%s belongs to no case", e.Name())
	}
}
