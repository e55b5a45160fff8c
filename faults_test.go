package descopehttp_test

import (
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
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// A flowCase is a good request to one flow.
type flowCase struct {
	path     string
	upstream string // the call that decides about the answer
	request  func(*kit, descopetest.Tokens) *http.Request
	tokens   bool // its answer carries tokens
}

var flowCases = []flowCase{
	{signUpPath, signUpPath, func(*kit, descopetest.Tokens) *http.Request {
		return flowPost(signUpPath, `{"loginId":"new@example.com"}`)
	}, false},
	{verifyPath, verifyPath, func(k *kit, _ descopetest.Tokens) *http.Request {
		return flowPost(verifyPath, `{"loginId":"`+bob+`","code":"`+k.srv.Code(bob)+`"}`)
	}, true},
	{"step-up", verifyPath, func(k *kit, t descopetest.Tokens) *http.Request {
		return signedInPost(t, verifyPath, `{"loginId":"`+bob+`","code":"`+k.srv.Code(bob)+`","loginOptions":{"stepup":true}}`)
	}, true},
	{updatePath, updatePath, func(_ *kit, t descopetest.Tokens) *http.Request {
		return signedInPost(t, updatePath, `{"loginId":"`+bob+`"}`)
	}, false},
	{"whose update", mePath, func(_ *kit, t descopetest.Tokens) *http.Request {
		return signedInPost(t, updatePath, `{"loginId":"`+bob+`"}`)
	}, false},
	{refreshPath, refreshPath, func(_ *kit, t descopetest.Tokens) *http.Request { return signedInPost(t, refreshPath, ``) }, true},
	{tryRefreshPath, refreshPath, func(_ *kit, t descopetest.Tokens) *http.Request { return signedInPost(t, tryRefreshPath, ``) }, true},
	{logoutPath, logoutPath, func(_ *kit, t descopetest.Tokens) *http.Request { return signedInPost(t, logoutPath, `{}`) }, false},
	{logoutAllPath, logoutAllPath, func(_ *kit, t descopetest.Tokens) *http.Request { return signedInPost(t, logoutAllPath, `{}`) }, false},
	{mePath, mePath, func(_ *kit, t descopetest.Tokens) *http.Request {
		return withCookies(get(mePath), t.Session, t.Refresh)
	}, false},
	{historyPath, historyPath, func(_ *kit, t descopetest.Tokens) *http.Request {
		return withCookies(get(historyPath), t.Session, t.Refresh)
	}, false},
	{tenantsPath, tenantsPath, func(_ *kit, t descopetest.Tokens) *http.Request { return signedInPost(t, tenantsPath, `{}`) }, false},
	{selectPath, selectPath, func(_ *kit, t descopetest.Tokens) *http.Request {
		return signedInPost(t, selectPath, `{"tenant":"T2"}`)
	}, true},
}

func signedInPost(t descopetest.Tokens, path, body string) *http.Request {
	return withCookies(flowPost(path, body), t.Session, t.Refresh)
}

// anonymous reports whether anybody can call the flow. Only there a limit of
// Descope's is the client's to know.
func (c flowCase) anonymous() bool { return c.upstream == signUpPath || c.upstream == verifyPath }

// newFaultKit returns a kit with a user who has a tenant to select. There are
// hundreds of them, so the project has keys that are quick to make and to use.
func newFaultKit(t testing.TB, tap *wiretap, edits ...func(*descopehttp.Config)) *kit {
	k := newKit(t, append([]func(*descopehttp.Config){tap.config}, edits...)...)
	k.srv.Configure(func(s *descopetest.Settings) { s.Alg = "ES256" })
	k.srv.AddUser(descopetest.User{LoginID: bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
	return k
}

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

// readingAnswer is a 200 whose body is read by f.
func readingAnswer(f readFunc) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(f)}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// endless is a JSON string of n bytes.
func endless(n int) *http.Response {
	return readingAnswer(func(p []byte) (int, error) {
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
	return readingAnswer(func([]byte) (int, error) {
		<-r.Context().Done()
		return 0, r.Context().Err()
	})
}

// inject makes the next call to path fail.
func (f upstreamFault) inject(k *kit, tap *wiretap, path string) {
	if f.answer == nil {
		k.srv.Fail(path, f.fault)
		return
	}
	done := false
	tap.answerWith(func(r *http.Request) *http.Response {
		if r.URL.Path != path || done {
			return nil
		}
		done = true
		return f.answer(r)
	})
}

// settle ends a bubble, of a test that has failed too: what is bounded in time
// ends, and what is not makes synctest panic.
func settle() { elapse(time.Minute) }

// Whatever Descope does wrong, a flow says so in time, in JSON, with a status
// that no client takes for a verdict, and everything is as it was before.
func TestFlowsWhileDescopeFails(t *testing.T) {
	for name, fault := range upstreamFaults {
		for _, c := range flowCases {
			if fault.tokensOnly && !c.tokens {
				continue
			}
			t.Run(name+", "+c.path, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					defer settle()
					tap := new(wiretap)
					k := newFaultKit(t, tap)
					tokens := k.srv.SignIn(bob)
					require.NoError(t, k.Ready(t.Context()))
					fault.inject(k, tap, c.upstream)

					began := time.Now()
					res := serve(k.Handler(), c.request(k, tokens))
					assert.LessOrEqual(t, time.Since(began), 10*time.Second)
					limited := fault.fault.Status == http.StatusTooManyRequests
					switch {
					case limited && c.anonymous():
						requireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
					case fault.status != 0:
						requireProblem(t, res, fault.status, "unavailable")
					default:
						requireProblem(t, res, http.StatusBadGateway, "unavailable")
					}
					if limited {
						want := fault.fault.Header.Get("Retry-After")
						if want == "" {
							want = "5"
						}
						assert.Equal(t, want, res.Header.Get("Retry-After"))
					}
					if c.path == logoutPath {
						requireDeleted(t, res, sessionCookie, refreshCookie)
					} else {
						assert.Empty(t, res.Cookies(), "cookies are left as they are")
					}
					assert.NotContains(t, k.logs.String(), "marker-of-the-transport")
					require.NoError(t, k.Wait(t.Context()))

					// When Descope is back, the same client gets what it wanted.
					elapse(time.Minute)
					if name == "200, tokens garbage" {
						return // the token was spent for these
					}
					res = serve(k.Handler(), c.request(k, tokens))
					if c.path == logoutAllPath && (fault.fault.After || fault.fault.Truncate > 0) {
						requireProblem(t, res, http.StatusUnauthorized, "session_ended") // as it had asked
						return
					}
					assert.Equal(t, http.StatusOK, res.StatusCode, "%s", bodyOf(t, res))
					require.NoError(t, k.Wait(t.Context()))
				})
			})
		}
	}
}

// An answer that is too large is not read to its end.
func TestHugeAnswerIsNotRead(t *testing.T) {
	tap := new(wiretap)
	k := newFaultKit(t, tap)
	tokens := k.srv.SignIn(bob)
	read := 0
	tap.answerWith(func(r *http.Request) *http.Response {
		if r.URL.Path != mePath {
			return nil
		}
		return readingAnswer(func(p []byte) (int, error) {
			read += len(p)
			return len(p), nil
		})
	})
	requireProblem(t, serve(k.Handler(), withCookies(get(mePath), "", tokens.Refresh)), http.StatusBadGateway, "unavailable")
	assert.Less(t, read, 4<<20)
}

// Behind the middleware "cannot tell" is a 503 that says when to come back, and
// the cookies stay.
func TestMiddlewareWhileDescopeFails(t *testing.T) {
	for name, fault := range upstreamFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				defer settle()
				tap := new(wiretap)
				k := newFaultKit(t, tap)
				tokens := k.srv.SignIn(bob)
				elapse(past)
				require.NoError(t, k.Ready(t.Context()))
				fault.inject(k, tap, refreshPath)

				next := new(spy)
				began := time.Now()
				res := serve(k.RequireSession(next), withCookies(get("/"), tokens.Session, tokens.Refresh))
				assert.LessOrEqual(t, time.Since(began), 5*time.Second)
				requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
				assert.Regexp(t, `^[1-9][0-9]*$`, res.Header.Get("Retry-After"))
				assert.Empty(t, res.Cookies())
				assert.Zero(t, next.calls)
				require.NoError(t, k.Wait(t.Context()))
				if name == "200, tokens garbage" {
					return
				}

				elapse(time.Minute)
				res = serve(k.RequireSession(next), withCookies(get("/"), tokens.Session, tokens.Refresh))
				assert.Equal(t, http.StatusOK, res.StatusCode)
				assert.Equal(t, 1, next.calls)
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
					defer settle()
					tap := new(wiretap)
					k := newFaultKit(t, tap)
					tokens := k.srv.SignIn(bob)
					elapse(past)
					require.NoError(t, k.Ready(t.Context()))
					fault.inject(k, tap, refreshPath)

					next := new(spy)
					began := time.Now()
					res := serve(k.LoadSession(next), withCookies(httptest.NewRequest(method, "/", nil), tokens.Session, tokens.Refresh))
					assert.LessOrEqual(t, time.Since(began), time.Second)
					assert.Empty(t, res.Cookies())
					if method == http.MethodPost {
						requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
						assert.NotEmpty(t, res.Header.Get("Retry-After"))
						assert.Zero(t, next.calls)
					} else {
						assert.Equal(t, http.StatusOK, res.StatusCode)
						require.Equal(t, 1, next.calls)
						assert.ErrorIs(t, descopehttp.SessionError(next.last().Context()), descopehttp.ErrUnavailable)
						_, ok := descopehttp.SessionFromContext(next.last().Context())
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
	for _, c := range flowCases {
		switch c.path {
		case refreshPath, tryRefreshPath, mePath, tenantsPath, historyPath:
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
			about := fmt.Sprintf("%s, %d %s", c.path, fault.Status, fault.Body)
			k := newFaultKit(t, new(wiretap))
			tokens := k.srv.SignIn(bob)
			k.srv.Fail(c.upstream, fault)
			res := serve(k.Handler(), c.request(k, tokens))
			assert.Contains(t, []int{502, 504}, res.StatusCode, about)
			assert.Empty(t, res.Cookies(), about)
		}
		for _, code := range []string{"E061005", "E064001"} {
			k := newFaultKit(t, new(wiretap))
			tokens := k.srv.SignIn(bob)
			k.srv.Fail(c.upstream, descopetest.Fault{Status: 401, Body: `{"errorCode":"` + code + `"}`})
			res := serve(k.Handler(), c.request(k, tokens))
			if c.path == tryRefreshPath {
				requireOK(t, res)
			} else {
				requireProblem(t, res, http.StatusUnauthorized, "session_ended")
			}
		}
	}
}

// A limit of Descope's is a 429 to those who sign in for as long as it lasts, and
// what they do does not slow down those who have.
func TestRateLimitOfDescope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFaultKit(t, new(wiretap))
		tokens := k.srv.SignIn(bob)
		k.srv.Fail(verifyPath, descopetest.Fault{Status: 429, Header: http.Header{"Retry-After": {"30"}}, Body: `{"errorCode":"E130429"}`})
		verify := func() *http.Response {
			return serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+bob+`","code":"`+k.srv.Code(bob)+`"}`))
		}
		res := verify()
		requireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
		assert.Equal(t, "30", res.Header.Get("Retry-After"))

		elapse(10 * time.Second)
		for _, r := range []*http.Request{signedInPost(tokens, refreshPath, ``), withCookies(get(mePath), "", tokens.Refresh)} {
			requireOK(t, serve(k.Handler(), r))
		}
		res = verify()
		requireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
		assert.Equal(t, "20", res.Header.Get("Retry-After"))
		assert.Equal(t, 1, k.srv.Requests(verifyPath), "Descope has asked to be left alone")

		elapse(20 * time.Second)
		requireOK(t, verify())
	})
}

// Without keys the tokens of an answer cannot be judged, and none is handed on.
func TestFlowsWithoutKeys(t *testing.T) {
	for _, c := range flowCases {
		if !c.tokens {
			continue
		}
		for name, fault := range map[string]descopetest.Fault{
			"500": {Status: 500, Times: -1}, "silent": {Delay: time.Minute, Times: -1}, "empty set": {Body: `{"keys":[]}`, Times: -1},
		} {
			t.Run(name+", "+c.path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					defer settle()
					k := newFaultKit(t, new(wiretap))
					tokens := k.srv.SignIn(bob)
					k.srv.Fail(keysPath, fault)
					began := time.Now()
					res := serve(k.Handler(), c.request(k, tokens))
					assert.LessOrEqual(t, time.Since(began), 10*time.Second)
					assert.Contains(t, []int{502, 504}, res.StatusCode)
					requireProblem(t, res, res.StatusCode, "unavailable")
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
				defer settle()
				k := newFaultKit(t, new(wiretap), func(c *descopehttp.Config) { c.StepUpForUpdate = true })
				tokens := k.srv.StepUp(bob)
				k.srv.Fail(keysPath, fault)
				res := serve(k.Handler(), signedInPost(tokens, updatePath, `{"loginId":"`+bob+`"}`))
				assert.Contains(t, []int{502, 504}, res.StatusCode, "%s", bodyOf(t, res))

				elapse(time.Minute)
				began := time.Now()
				requireOK(t, serve(k.Handler(), withCookies(get(mePath), tokens.Session, tokens.Refresh)))
				assert.Zero(t, time.Since(began))
				require.NoError(t, k.Wait(t.Context()))
			})
		})
	}
}

// Whoever hangs up leaves nothing behind for longer than a call may take. A guess
// at a code goes on without its client: else hanging up would take it back.
func TestClientHangsUp(t *testing.T) {
	for _, c := range flowCases {
		synctest.Test(t, func(t *testing.T) {
			defer settle()
			k := newFaultKit(t, new(wiretap))
			tokens := k.srv.SignIn(bob)
			require.NoError(t, k.Ready(t.Context()))
			k.srv.Fail(c.upstream, descopetest.Fault{Delay: time.Minute})
			r := c.request(k, tokens)
			ctx, cancel := contextWithTimeout(r, time.Second)
			defer cancel()
			began := time.Now()
			res := serve(k.Handler(), r.WithContext(ctx))
			switch c.upstream {
			case verifyPath, logoutPath, logoutAllPath: // what they do has to be done
			default:
				assert.Equal(t, time.Second, time.Since(began), c.path)
			}
			assert.Contains(t, []int{502, 504}, res.StatusCode, c.path)
			require.NoError(t, k.Wait(t.Context()))
			assert.LessOrEqual(t, time.Since(began), 10*time.Second, c.path)
		})
	}
}

// What a client gets wrong it is told, and Descope never hears of it.
func TestBadInput(t *testing.T) {
	tap := new(wiretap)
	h := newHostile(t, tap.config)
	project, tokens := h.srv.ProjectID(), h.srv.SignIn(ada)
	require.NoError(t, h.Ready(t.Context()))
	typed := func(contentType string) *http.Request {
		r := flowPost(signUpPath, `{"loginId":"a"}`)
		if r.Header.Set("Content-Type", contentType); contentType == "" {
			r.Header.Del("Content-Type")
		}
		return r
	}
	verify := func(body string) *http.Request { return flowPost(verifyPath, body) }
	code := func(code string) *http.Request { return verify(`{"loginId":"a","code":` + code + `}`) }
	signedIn := func(path, body string) *http.Request { return signedInPost(tokens, path, body) }
	broken := flowPost(signUpPath, `{"loginId":"a"`)
	broken.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"loginId":"a"}`), readFunc(func([]byte) (int, error) {
		return 0, io.ErrUnexpectedEOF
	})))
	method := func(m, path string) *http.Request {
		return withCookies(httptest.NewRequest(m, path, nil), "", tokens.Refresh)
	}
	crossSite := flowPost(logoutPath, `{}`)
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

		{"too large", flowPost(signUpPath, `{"loginId":"a","x":"`+strings.Repeat("x", 64<<10)+`"}`), 413, "body_too_large", ""},
		{"too large by spaces", flowPost(signUpPath, `{"loginId":"a"}`+strings.Repeat(" ", 64<<10)), 413, "body_too_large", ""},

		{"empty", flowPost(signUpPath, ""), 400, "malformed_body", ""},
		{"spaces", flowPost(signUpPath, "  "), 400, "malformed_body", ""},
		{"not JSON", flowPost(signUpPath, "loginId=a"), 400, "malformed_body", ""},
		{"cut", flowPost(signUpPath, `{"loginId":"a"`), 400, "malformed_body", ""},
		{"connection lost", broken, 400, "malformed_body", ""},
		{"trailing garbage", flowPost(signUpPath, `{"loginId":"a"}x`), 400, "malformed_body", ""},
		{"two documents", flowPost(signUpPath, `{"loginId":"a"}{"loginId":"b"}`), 400, "malformed_body", ""},
		{"NUL at the end", flowPost(signUpPath, "{\"loginId\":\"a\"}\x00"), 400, "malformed_body", ""},
		{"byte order mark", flowPost(signUpPath, "\ufeff{\"loginId\":\"a\"}"), 400, "malformed_body", ""},
		{"comment", flowPost(signUpPath, `{"loginId":"a"/**/}`), 400, "malformed_body", ""},
		{"array", flowPost(signUpPath, `[{"loginId":"a"}]`), 400, "malformed_body", ""},
		{"null", flowPost(signUpPath, `null`), 400, "malformed_body", ""},
		{"string", flowPost(signUpPath, `"loginId"`), 400, "malformed_body", ""},
		{"invalid UTF-8", flowPost(signUpPath, "{\"loginId\":\"a\xff\"}"), 400, "malformed_body", ""},
		{"lone surrogate", flowPost(signUpPath, `{"loginId":"\ud800"}`), 400, "malformed_body", ""},
		{"deep", flowPost(signUpPath, `{"loginId":"a","x":`+strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000)+`}`), 400, "malformed_body", ""},
		{"loginId a number", flowPost(signUpPath, `{"loginId":7}`), 400, "malformed_body", ""},
		{"loginId a list", flowPost(signUpPath, `{"loginId":["a"]}`), 400, "malformed_body", ""},
		{"user a string", flowPost(signUpPath, `{"loginId":"a","user":"b"}`), 400, "malformed_body", ""},
		{"name a number", flowPost(signUpPath, `{"loginId":"a","user":{"name":1}}`), 400, "malformed_body", ""},
		{"code a number", code(`123456`), 400, "malformed_body", ""},
		{"options a string", verify(`{"loginId":"a","code":"123456","loginOptions":"stepup"}`), 400, "malformed_body", ""},
		{"stepup a string", verify(`{"loginId":"a","code":"123456","loginOptions":{"stepup":"true"}}`), 400, "malformed_body", ""},
		{"template options of numbers", verify(`{"loginId":"a","code":"123456","loginOptions":{"templateOptions":{"a":1}}}`), 400, "malformed_body", ""},
		{"ids a string", signedIn(tenantsPath, `{"ids":"T2"}`), 400, "malformed_body", ""},
		{"tenant a number", signedIn(selectPath, `{"tenant":2}`), 400, "malformed_body", ""},

		{"no loginId", flowPost(signUpPath, `{}`), 400, "missing_field", "loginId"},
		{"empty loginId", flowPost(signUpPath, `{"loginId":""}`), 400, "missing_field", "loginId"},
		{"blank loginId", flowPost(signUpPath, `{"loginId":" \u00a0"}`), 400, "missing_field", "loginId"},
		{"null loginId", flowPost(signUpPath, `{"loginId":null}`), 400, "missing_field", "loginId"},
		{"no loginId to verify", verify(`{"code":"123456"}`), 400, "missing_field", "loginId"},
		{"no loginId to update", signedIn(updatePath, `{}`), 400, "missing_field", "loginId"},
		{"no code", verify(`{"loginId":"a"}`), 400, "missing_field", "code"},
		{"empty code", code(`""`), 400, "missing_field", "code"},
		{"no tenant", signedIn(selectPath, `{}`), 400, "missing_field", "tenant"},
		{"long loginId", flowPost(signUpPath, `{"loginId":"`+strings.Repeat("x", 257)+`"}`), 400, "invalid_field", "loginId"},
		{"long loginId in bytes", flowPost(signUpPath, `{"loginId":"`+strings.Repeat("é", 129)+`"}`), 400, "invalid_field", "loginId"},
		{"line break in loginId", flowPost(signUpPath, `{"loginId":"a\nb"}`), 400, "invalid_field", "loginId"},
		{"NUL in loginId", flowPost(signUpPath, `{"loginId":"a\u0000"}`), 400, "invalid_field", "loginId"},
		{"letters in the code", code(`"12a456"`), 400, "invalid_field", "code"},
		{"space in the code", code(`"123 456"`), 400, "invalid_field", "code"},
		{"sign in the code", code(`"-12345"`), 400, "invalid_field", "code"},
		{"other digits", code(`"１２３４５６"`), 400, "invalid_field", "code"},
		{"short code", code(`"123"`), 400, "invalid_field", "code"},
		{"long code", code(`"12345678901"`), 400, "invalid_field", "code"},
		{"NUL in the code", code(`"12345\u0000"`), 400, "invalid_field", "code"},
		{"dct and ids", signedIn(tenantsPath, `{"dct":true,"ids":["T2"]}`), 400, "invalid_field", "ids"},

		{"unknown path", flowPost("/v1/auth/otp/verify/email", `{}`), 404, "not_found", ""},
		{"wrong method", method(http.MethodGet, signUpPath), 405, "method_not_allowed", ""},
		{"preflight", method(http.MethodOptions, verifyPath), 405, "method_not_allowed", ""},
		{"POST for GET", method(http.MethodPost, mePath), 405, "method_not_allowed", ""},
		{"HEAD for GET", method(http.MethodHead, mePath), 405, "method_not_allowed", ""},
		{"another project", inHeader(flowPost(signUpPath, `{"loginId":"a"}`), "P2otherotherotherotherotherother"), 401, "foreign_project", ""},
		{"another project, logout", inHeader(flowPost(logoutPath, `{}`), "P2otherotherotherotherotherother"), 401, "foreign_project", ""},
		{"no refresh token, update", flowPost(updatePath, `{"loginId":"a"}`), 401, "no_refresh_token", ""},
		{"no refresh token, refresh", flowPost(refreshPath, ``), 401, "no_refresh_token", ""},
		{"no refresh token, logoutall", flowPost(logoutAllPath, ``), 401, "no_refresh_token", ""},
		{"no refresh token, me", get(mePath), 401, "no_refresh_token", ""},
		{"no refresh token, history", get(historyPath), 401, "no_refresh_token", ""},
		{"no refresh token, tenants", flowPost(tenantsPath, `{}`), 401, "no_refresh_token", ""},
		{"no refresh token, select", inHeader(flowPost(selectPath, `{"tenant":"T2"}`), project), 401, "no_refresh_token", ""},
		{"cross-site", crossSite, 403, "cross_origin", ""},
	} {
		res := serve(h.Handler(), tt.r)
		about := fmt.Sprintf("%s: %d %s", tt.name, res.StatusCode, bodyOf(t, res))
		p := requireProblem(t, res, tt.status, tt.code)
		assert.Equal(t, tt.field, p.Field, about)
		if tt.field != "" {
			assert.Contains(t, p.Detail, tt.field, about)
			assert.Contains(t, p.ErrorMessage, tt.field, "Descope's clients show this one: %s", about)
		}
		if tt.status == http.StatusMethodNotAllowed {
			want := http.MethodPost
			if tt.r.URL.Path == mePath {
				want = http.MethodGet
			}
			assert.Equal(t, want, res.Header.Get("Allow"), about)
		}
		if tt.status == http.StatusUnauthorized {
			assert.NotEmpty(t, res.Header.Get("WWW-Authenticate"), about)
		}
		assert.Empty(t, tap.paths(), about)
		for _, c := range res.Cookies() {
			assert.Empty(t, c.Value, about)
		}
	}
}

// The limits themselves are still good.
func TestInputAtTheLimits(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"64 KiB":            flowPost(signUpPath, `{"loginId":"a"`+strings.Repeat(" ", 64<<10-15)+`}`),
		"256 bytes":         flowPost(signUpPath, `{"loginId":"`+strings.Repeat("x", 256)+`"}`),
		"spaces around":     flowPost(signUpPath, " \r\n\t{ \"loginId\" : \"a\" }\r\n"),
		"charset":           flowPost(signUpPath, `{"loginId":"a"}`),
		"type in upper":     flowPost(signUpPath, `{"loginId":"a"}`),
		"unknown parameter": flowPost(signUpPath, `{"loginId":"a"}`),
	} {
		switch name {
		case "charset":
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
		case "type in upper":
			r.Header.Set("Content-Type", "Application/JSON")
		case "unknown parameter":
			r.Header.Set("Content-Type", "application/json;v=1")
		}
		k := newKit(t)
		assert.Equal(t, http.StatusOK, serve(k.Handler(), r).StatusCode, name)
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
	for _, c := range flowCases {
		for _, tt := range headers {
			tap := new(wiretap)
			k := newFaultKit(t, tap, func(c *descopehttp.Config) { c.TrustedOrigins = []string{trusted} })
			for _, credential := range []string{"cookie", "header"} {
				tokens := k.srv.SignIn(bob)
				r := c.request(k, tokens)
				r.Host = "app.example"
				if credential == "header" {
					r.Header.Del("Cookie")
					inHeader(r, k.srv.ProjectID(), tokens.Refresh)
				}
				for name, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Origin": tt.origin} {
					if value != "" {
						r.Header.Set(name, value)
					}
				}
				about := fmt.Sprintf("%s, %s, %s", c.path, tt.name, credential)
				res := serve(k.Handler(), r)
				if !tt.ok && r.Method != http.MethodGet {
					requireProblem(t, res, http.StatusForbidden, "cross_origin")
					assert.Empty(t, res.Cookies(), about)
					assert.Empty(t, tap.paths(), about)
					continue
				}
				assert.Equal(t, http.StatusOK, res.StatusCode, about)
				if c.upstream == verifyPath {
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
		tap := new(wiretap)
		k := newFaultKit(t, tap, func(c *descopehttp.Config) {
			c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
				if name == "runtime error" {
					_ = options["secret-in-panic"].(func())
				}
				panic(value)
			}
		})
		tokens := k.srv.SignIn(bob)
		for _, c := range flowCases {
			if c.upstream != verifyPath {
				continue
			}
			res := serve(k.Handler(), c.request(k, tokens))
			assert.NotContains(t, string(bodyOf(t, res)), "secret-in-panic", name)
			requireProblem(t, res, http.StatusInternalServerError, "internal")
			assert.Empty(t, res.Cookies(), name)
		}
		assert.Empty(t, tap.paths(), name)
		assert.Contains(t, k.logs.String(), "panicked", "an operator has to know")
		assert.Contains(t, k.logs.String(), "faults_test.go", "and where")
		assert.NotContains(t, k.logs.String(), "secret-in-panic", name)
	}
}

// A transport goes on working while the body of its answer is read. A panic in
// there is an answer that did not come, and the next call is made all the same.
func TestPanicInTheBodyOfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := new(wiretap)
		k := newFaultKit(t, tap)
		tokens := k.srv.SignIn(bob)
		me := func() *http.Response { return serve(k.Handler(), withCookies(get(mePath), "", tokens.Refresh)) }
		panics := upstreamFault{answer: func(*http.Request) *http.Response {
			return readingAnswer(func([]byte) (int, error) { panic("marker-of-the-transport") })
		}}
		panics.inject(k, tap, mePath)
		res := me()
		assert.Equal(t, http.StatusBadGateway, res.StatusCode, "%s", bodyOf(t, res))

		// An outage, and a panic when Descope is tried again.
		k.srv.Fail(mePath, descopetest.Fault{Status: 500, Times: 5})
		for range 5 {
			me()
		}
		elapse(10 * time.Second)
		panics.inject(k, tap, mePath)
		me()
		elapse(time.Hour)
		assert.Equal(t, http.StatusOK, me().StatusCode)
		assert.NotContains(t, k.logs.String(), "marker-of-the-transport")
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
			return readingAnswer(func([]byte) (int, error) { panic("marker-of-the-transport") })
		},
	} {
		tap := &wiretap{answer: answer}
		k := newKit(t, tap.config)
		assert.ErrorIs(t, k.Ready(t.Context()), descopehttp.ErrUnavailable, name)
		assert.NotContains(t, k.logs.String(), "marker-of-the-transport")
	}
}

// http.ErrAbortHandler is how a handler asks the server to drop the connection.
func TestAbortInAFlow(t *testing.T) {
	k := newFaultKit(t, new(wiretap), func(c *descopehttp.Config) {
		c.LoginOptions = func(*http.Request, string, map[string]any) error { panic(http.ErrAbortHandler) }
	})
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
		serve(k.Handler(), flowPost(verifyPath, `{"loginId":"`+bob+`","code":"123456"}`))
	})
}

// A sign-up without a key is no sign-up: the page would show an empty QR code.
func TestAnswerWithoutAKey(t *testing.T) {
	for _, body := range []string{`{}`, `[]`, `{"key":"","image":"","provisioningURL":""}`} {
		for _, c := range flowCases {
			if c.path != signUpPath && c.path != updatePath {
				continue
			}
			k := newFaultKit(t, new(wiretap))
			tokens := k.srv.SignIn(bob)
			k.srv.Fail(c.path, descopetest.Fault{Body: body})
			res := serve(k.Handler(), c.request(k, tokens))
			assert.Equal(t, http.StatusBadGateway, res.StatusCode, "%s: %s", c.path, body)
		}
	}
}

// A record without login ids says nothing about whose they are: that is
// "cannot tell", not a refusal.
func TestUpdateWithoutLoginIDs(t *testing.T) {
	for _, body := range []string{`{}`, `{"errorCode":"E061005"}`, `{"loginIds":null}`} {
		tap := new(wiretap)
		k := newFaultKit(t, tap)
		tokens := k.srv.SignIn(bob)
		k.srv.Fail(mePath, descopetest.Fault{Body: body})
		res := serve(k.Handler(), signedInPost(tokens, updatePath, `{"loginId":"`+bob+`"}`))
		assert.Equal(t, http.StatusBadGateway, res.StatusCode, body)
		assert.NotContains(t, tap.paths(), updatePath)
	}
}

// problemCase provokes one problem document. Its name is that of the golden file.
type problemCase struct {
	name, code string
	provoke    func(t *testing.T) *http.Response
}

func flowProblem(r func(*kit) *http.Request) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := newFaultKit(t, new(wiretap))
		return serve(k.Handler(), r(k))
	}
}

func pageProblem(prepare func(*hostile) *http.Request) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		h := newHostile(t)
		h.srv.AddUser(descopetest.User{LoginID: bob})
		return serve(h.RequireSession(new(spy)), prepare(h))
	}
}

func upstreamProblem(path string, f descopetest.Fault) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := newFaultKit(t, new(wiretap))
		tokens := k.srv.SignIn(bob)
		k.srv.Fail(path, f)
		for _, c := range flowCases {
			if c.path == path {
				return serve(k.Handler(), c.request(k, tokens))
			}
		}
		panic("no such flow")
	}
}

func refreshProblem(f descopetest.Fault) func(*testing.T) *http.Response {
	return pageProblem(func(h *hostile) *http.Request {
		h.srv.Fail(refreshPath, f)
		return withCookies(get("/"), "", h.srv.SignIn(ada).Refresh)
	})
}

func guardProblem(guard descopehttp.Guard) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := newKit(t)
		return serve(k.Require(guard)(new(spy)), withBearer(get("/"), k.srv.SignIn(ada).Session))
	}
}

var problemCases = []problemCase{
	{"no_session", "no_session", pageProblem(func(*hostile) *http.Request { return get("/") })},
	{"invalid_token", "invalid_token", pageProblem(func(*hostile) *http.Request { return withBearer(get("/"), "a.b.c") })},
	{"session_expired", "session_expired", pageProblem(func(h *hostile) *http.Request {
		return withBearer(get("/"), h.with(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}))
	})},
	{"session_ended", "session_ended", refreshProblem(descopetest.Fault{Status: 401, Body: `{"errorCode":"E064001"}`})},
	{"conflicting_cookies", "conflicting_cookies", pageProblem(func(h *hostile) *http.Request {
		return withCookies(get("/"), h.srv.SignIn(ada).Session, h.srv.SignIn(bob).Refresh)
	})},
	{"foreign_project", "foreign_project", pageProblem(func(*hostile) *http.Request { return withBearer(get("/"), "P2other") })},
	{"no_refresh_token", "no_refresh_token", flowProblem(func(*kit) *http.Request { return get(mePath) })},
	{"invalid_refresh_token", "invalid_refresh_token", flowProblem(func(k *kit) *http.Request {
		return inHeader(get(mePath), k.srv.ProjectID(), "a.b.c")
	})},
	{"invalid_code", "invalid_code", flowProblem(func(*kit) *http.Request {
		return flowPost(verifyPath, `{"loginId":"unknown","code":"000000"}`)
	})},
	{"cross_origin", "cross_origin", flowProblem(func(*kit) *http.Request {
		r := flowPost(logoutPath, `{}`)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		return r
	})},
	{"forbidden", "forbidden", guardProblem(func(*http.Request, *descopehttp.Session) error { return errors.New("secret reason") })},
	{"missing_role", "missing_role", guardProblem(descopehttp.Role("secret role"))},
	{"missing_permission", "missing_permission", guardProblem(descopehttp.Permission("secret permission"))},
	{"step_up_required", "step_up_required", guardProblem(descopehttp.StepUp())},
	{"mfa_required", "mfa_required", guardProblem(descopehttp.MFA())},
	{"foreign_login_id", "foreign_login_id", flowProblem(func(k *kit) *http.Request {
		return signedInPost(k.srv.SignIn(bob), updatePath, `{"loginId":"`+ada+`"}`)
	})},
	{"refresh_refused", "refresh_refused", refreshProblem(descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})},
	{"refresh_refused_in_a_flow", "refresh_refused", upstreamProblem(refreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})},
	{"other_user", "other_user", func(t *testing.T) *http.Response {
		tap := new(wiretap)
		k := newFaultKit(t, tap)
		adas, bobs := k.srv.SignIn(ada), k.srv.SignIn(bob)
		tap.answerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != refreshPath {
				return nil
			}
			return jsonAnswer(http.StatusOK, `{"sessionJwt":"`+adas.Session+`","refreshJwt":""}`)
		})
		return serve(k.Handler(), signedInPost(bobs, refreshPath, ``))
	}},
	{"unavailable", "unavailable", refreshProblem(descopetest.Fault{Status: 500})},
	{"unavailable_in_a_flow", "unavailable", upstreamProblem(refreshPath, descopetest.Fault{Status: 500})},
	{"unavailable_in_time", "unavailable", func(t *testing.T) (res *http.Response) {
		synctest.Test(t, func(t *testing.T) {
			res = upstreamProblem(mePath, descopetest.Fault{Delay: time.Minute})(t)
		})
		return res
	}},
	{"too_many_requests", "too_many_requests", upstreamProblem(verifyPath, descopetest.Fault{Status: 429})},
	{"unsupported_media_type", "unsupported_media_type", flowProblem(func(*kit) *http.Request {
		return httptest.NewRequest(http.MethodPost, signUpPath, strings.NewReader(`{}`))
	})},
	{"body_too_large", "body_too_large", flowProblem(func(*kit) *http.Request {
		return flowPost(signUpPath, `{"x":"`+strings.Repeat("x", 64<<10)+`"}`)
	})},
	{"malformed_body", "malformed_body", flowProblem(func(*kit) *http.Request { return flowPost(signUpPath, `{`) })},
	{"missing_field", "missing_field", flowProblem(func(*kit) *http.Request { return flowPost(signUpPath, `{}`) })},
	{"invalid_field", "invalid_field", flowProblem(func(*kit) *http.Request {
		return flowPost(verifyPath, `{"loginId":"a","code":"<b>"}`)
	})},
	{"refused", "refused", upstreamProblem(selectPath, descopetest.Fault{Status: 400, Body: `{"errorCode":"E011004","errorDescription":"x"}`})},
	{"user_exists", "user_exists", flowProblem(func(*kit) *http.Request { return flowPost(signUpPath, `{"loginId":"`+bob+`"}`) })},
	{"not_found", "not_found", flowProblem(func(*kit) *http.Request { return get("/v1/auth/<script>") })},
	{"method_not_allowed", "method_not_allowed", flowProblem(func(*kit) *http.Request { return get(signUpPath) })},
	{"internal", "internal", func(t *testing.T) *http.Response {
		k := newKit(t)
		w := httptest.NewRecorder()
		k.WriteError(w, get("/"), errors.New("secret reason"))
		return w.Result()
	}},
}

// Clients read these documents, so their bytes are part of the interface.
func TestProblemDocuments(t *testing.T) {
	for _, c := range problemCases {
		t.Run(c.name, func(t *testing.T) {
			res := c.provoke(t)
			body := bodyOf(t, res)
			requireProblem(t, res, res.StatusCode, c.code)
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
