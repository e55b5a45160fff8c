package descope_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// An upstreamFault is one way in which Descope can fail.
type upstreamFault struct {
	fault      descopetest.Fault
	answer     func(*http.Request) *http.Response // in place of fault
	status     int                                // 502, unless said otherwise
	tokensOnly bool                               // a fault only where tokens are expected
	empty      bool                               // no fault of a logout, in which nothing is expected
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

var upstreamFaults = map[string]upstreamFault{
	"garbage":             {fault: descopetest.Fault{Body: "\x00\xff{"}},
	"HTML":                {fault: descopetest.Fault{Body: "<html>welcome to the hotel</html>"}},
	"half of JSON":        {fault: descopetest.Fault{Body: `{"sessionJwt":"`}},
	"a string":            {fault: descopetest.Fault{Body: `"ok"`}},
	"null":                {fault: descopetest.Fault{Body: `null`}},
	"two documents":       {fault: descopetest.Fault{Body: `{}{}`}},
	"duplicate names":     {fault: descopetest.Fault{Body: `{"sessionJwt":"","sessionJwt":"a.b.c"}`}, tokensOnly: true},
	"empty body":          {fault: descopetest.Fault{Status: 200}, empty: true},
	"204":                 {fault: descopetest.Fault{Status: 204}, empty: true},
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

// Whatever Descope does wrong, a flow says so in time, in JSON, with a status
// that no client takes for a verdict, and everything is as it was before.
//
// Rule: answers: against an answer of a proxy in between (HTML, a redirect, a huge body, one
// that never ends): "Cannot tell"; bounded in size and time, no redirects, never repeated.
// Rule: renewing: against an outage that reads as "not signed in": "Cannot tell" is 503, 502 or
// 504, with the cookies untouched; failures fail fast, and one call tries.
func TestFlowsWhileDescopeFails(t *testing.T) {
	for name, fault := range upstreamFaults {
		for _, c := range kittest.Flows {
			if fault.tokensOnly && !c.Tokens || fault.empty && strings.Contains(c.Path, "logout") {
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
//
// Rule: answers: against an answer of a proxy in between (HTML, a redirect, a huge body, one
// that never ends): "Cannot tell"; bounded in size and time, no redirects, never repeated.
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
//
// Rule: answers: against an answer of a proxy in between (HTML, a redirect, a huge body, one
// that never ends): "Cannot tell"; bounded in size and time, no redirects, never repeated.
// Rule: renewing: against an outage that reads as "not signed in": "Cannot tell" is 503, 502 or
// 504, with the cookies untouched; failures fail fast, and one call tries.
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
//
// Rule: renewing: against an outage that reads as "not signed in": "Cannot tell" is 503, 502 or
// 504, with the cookies untouched; failures fail fast, and one call tries.
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
//
// Rule: renewing: against an outage that reads as "not signed in": "Cannot tell" is 503, 502 or
// 504, with the cookies untouched; failures fail fast, and one call tries.
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
			{Status: 429, Body: `{"errorCode":"E130429"}`},
			{Status: 451, Body: "<html>"},
		} {
			about := fmt.Sprintf("%s, %d %s", c.Path, fault.Status, fault.Body)
			k := kittest.NewForFlows(t, new(kittest.Wiretap))
			tokens := k.Project.SignIn(kittest.Bob)
			fault.Times = -1
			k.Project.Fail(c.Upstream, fault)
			res := kittest.Serve(k.Handler(), c.Request(k, tokens))
			assert.Contains(t, []int{502, 504}, res.StatusCode, about)
			assert.Empty(t, res.Cookies(), about)
		}
		for _, code := range []string{"E061005", "E064001"} {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.NewForFlows(t, new(kittest.Wiretap))
				tokens := k.Project.SignIn(kittest.Bob)
				refuse := func() *http.Response {
					k.Project.Fail(c.Upstream, descopetest.Fault{Status: 401, Body: `{"errorCode":"` + code + `"}`})
					if c.Upstream != kittest.RefreshPath { // which is asked whether it is over
						k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"` + code + `"}`})
					}
					return kittest.Serve(k.Handler(), c.Request(k, tokens))
				}
				res := refuse()
				if code == "E061005" {
					// Which may be a fault of Descope's own: two make a refusal.
					kittest.RequireProblem(t, res, http.StatusBadGateway, "refresh_refused")
					assert.Equal(t, "10", res.Header.Get("Retry-After"))
					kittest.Elapse(10 * time.Second)
					res = refuse()
				}
				if c.Path == kittest.TryRefreshPath {
					kittest.RequireOK(t, res)
				} else {
					kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
				}
			})
		}
	}
}

// Whoever hangs up leaves nothing behind for longer than a call may take. A guess
// at a code goes on without its client: else hanging up would take it back.
//
// Rule: renewing: a refresh outlives the request it was begun for; each waiter leaves on its
// own.
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
			assert.LessOrEqual(t, time.Since(began), 40*time.Second, c.Path)
		})
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

// signIn tries to sign somebody in with the right code.
func signIn(k *kittest.Kit, loginID string) *http.Response {
	return kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, loginID, k.Project.Code(loginID))))
}

// What Descope says of one user by a 429 of another code than the limit's is nobody else's.
//
// Rule: renewing: against one user's lock or refusal at Descope that closes sign-in for all:
// only E130429, or a 429 without a code of Descope, is a rate limit.
func TestOnlyTheRateLimitClosesTheGate(t *testing.T) {
	for body, closes := range map[string]bool{
		`{"errorCode":"E061103"}`: false, `{"errorCode":"E069999"}`: false, `{"errorCode":"E130429"}`: true, ``: true, `<html>`: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
			k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 429, Body: body})
			kittest.RequireProblem(t, signIn(k, kittest.Ada), http.StatusTooManyRequests, "too_many_requests")
			want := http.StatusOK
			if closes {
				want = http.StatusTooManyRequests
			}
			assert.Equal(t, want, signIn(k, kittest.Bob).StatusCode, body)
		})
	}
}

// Nobody is told "wrong code" for what an operator has to mend, no guess is spent, and the
// first line says where to look.
//
// Rule: renewing: against an answer about the configuration that uses up guesses, or an unknown
// word for a wrong code that makes them free: the guess or the sign-up is given back, unless
// others sign in meanwhile; for a step-up too.
func TestConfigurationIsNoWrongCode(t *testing.T) {
	for name, tt := range map[string]struct {
		fault descopetest.Fault
		field string
	}{
		"management key": {descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`}, "Config.AuthManagementKey"},
		"project":        {descopetest.Fault{Status: 404, Body: `{"errorCode":"E011001"}`}, "Config.ProjectID"},
		"TOTP disabled":  {descopetest.Fault{Status: 403, Body: `{"errorCode":"E069999"}`}, "console"},
		"unknown":        {descopetest.Fault{Status: 400, Body: `{"errorCode":"E112102"}`}, "console"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				tt.fault.Times = -1
				k.Project.Fail(kittest.VerifyPath, tt.fault)
				for range 15 { // more than there are guesses
					kittest.RequireProblem(t, signIn(k, kittest.Ada), http.StatusBadGateway, "unavailable")
				}
				assert.Equal(t, 1, strings.Count(k.Logs.String(), "level=ERROR"))
				assert.Contains(t, k.Logs.String(), tt.field)
				k.Project.Reset()
				assert.Equal(t, http.StatusOK, signIn(k, kittest.Ada).StatusCode)
			})
		})
	}
}

// The same with a project that is really another, locked by a key, or without TOTP: the first
// request has the operator told within a second where to look, whoever tries as often as they
// like.
//
// Rule: renewing: against an answer about the configuration that uses up guesses, or an unknown
// word for a wrong code that makes them free: the guess or the sign-up is given back, unless
// others sign in meanwhile; for a step-up too.
func TestMisconfigured(t *testing.T) {
	for name, tt := range map[string]struct {
		config  func(*descopehttp.Config)
		project func(*descopetest.Settings)
		field   string
	}{
		"project id":    {config: func(c *descopehttp.Config) { c.ProjectID = kittest.ProjectID }, field: "Config.ProjectID"},
		"no key":        {project: func(s *descopetest.Settings) { s.AuthManagementKey = "K2" }, field: "Config.AuthManagementKey"},
		"wrong key":     {func(c *descopehttp.Config) { c.AuthManagementKey = descopehttp.NewSecret("K1") }, func(s *descopetest.Settings) { s.AuthManagementKey = "K2" }, "Config.AuthManagementKey"},
		"TOTP disabled": {project: func(s *descopetest.Settings) { s.TOTPDisabled = true }, field: "is TOTP enabled in Descope's console?"},
		"404 of another code": {project: func(s *descopetest.Settings) {
			s.TOTPDisabled, s.DisabledTOTP = true, descopetest.Failure{Status: 404, Code: "E113001"}
		}, field: "Config.ProjectID"},
	} {
		for _, path := range []string{kittest.VerifyPath, kittest.SignUpPath} {
			t.Run(name+", "+path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := kittest.New(t, func(c *descopehttp.Config) {
						if tt.config != nil {
							tt.config(c)
						}
					})
					if tt.project != nil {
						k.Project.Configure(tt.project)
					}
					for range 70 { // more than there are guesses, and sign-ups
						r := kittest.Post(path, `{"loginId":"new@example.com"}`)
						if path == kittest.VerifyPath {
							r = kittest.Post(path, fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Ada, k.Project.Code(kittest.Ada)))
						}
						kittest.RequireProblem(t, kittest.Serve(k.Handler(), r), http.StatusBadGateway, "unavailable")
						line, _, _ := strings.Cut(k.Logs.String(), "\n")
						require.Contains(t, line, "level=ERROR")
						require.Contains(t, line, tt.field)
						kittest.Elapse(time.Second)
					}
					assert.Equal(t, 2, strings.Count(k.Logs.String(), "level=ERROR"), "one a minute")
				})
			})
		}
	}
}

// A code that is not known here may be Descope's word for a wrong one: it counts while
// others sign in.
//
// Rule: renewing: against an answer about the configuration that uses up guesses, or an unknown
// word for a wrong code that makes them free: the guess or the sign-up is given back, unless
// others sign in meanwhile; for a step-up too.
func TestUnknownCodesAreNoFreeGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
		k.Project.Configure(func(s *descopetest.Settings) {
			s.WrongCode = descopetest.Failure{Status: 401, Code: "E069999"}
		})
		guess := func() int {
			return kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":"0000000"}`, kittest.Ada))).StatusCode
		}
		assert.Equal(t, http.StatusBadGateway, guess())
		kittest.Elapse(time.Second)
		require.Equal(t, http.StatusOK, signIn(k, kittest.Bob).StatusCode)
		kittest.Elapse(time.Second)
		for range 10 {
			assert.Equal(t, http.StatusBadGateway, guess())
		}
		assert.Equal(t, http.StatusTooManyRequests, guess())
	})
}

// Who knows more than the kit says so.
func TestWrongCodeByConfig(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.WrongCode = func(status int, code string) bool { return status == 403 && code == "E069999" }
	})
	k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 403, Body: `{"errorCode":"E069999"}`})
	kittest.RequireProblem(t, signIn(k, kittest.Ada), http.StatusUnauthorized, "invalid_code")
}

func TestReadySaysThatThereIsNoProject(t *testing.T) {
	k := kittest.New(t)
	k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 404, Body: `{"errorCode":"E011001"}`})
	assert.ErrorContains(t, k.Ready(t.Context()), "Descope knows no project")
	assert.Contains(t, k.Logs.String(), "Config.ProjectID")
}

// A sign-in that Descope refuses with a code that may be the configuration's ends when
// other calls are answered, and only then; the browser's client is never stuck with it.
//
// Rule: renewing: against a changed management key, a proxy's page or an unknown error code
// that signs everybody out: only codes known to end a session do, and others of Descope's that
// do not speak of the request once another call is answered.
// Rule: renewing: only known codes end a session, and other codes of Descope that do not speak
// of the request once another call is answered; what each answer comes to stands in
// internal/descope/testdata/answers.txt; the rest is logged once a minute.
func TestRefusedWithAnotherCode(t *testing.T) {
	for _, status := range []int{401, 403} {
		for _, code := range []string{"E061004", "E061002", "E061301", "E062504", "E069999"} {
			for _, others := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					about := fmt.Sprintf("%d %s, others answered: %v", status, code, others)
					k := kittest.New(t)
					k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
					b := kittest.SignIn(k, kittest.Ada)
					page := k.RequireSession(new(kittest.Spy))
					kittest.Elapse(kittest.Past)
					k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: status, Body: `{"errorCode":"` + code + `"}`, Times: -1})
					res := b.Do(page, kittest.Get("/"))
					assert.Equal(t, 401, res.StatusCode, about)
					assert.Empty(t, res.Cookies(), about)
					kittest.RequireProblem(t, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")), http.StatusBadGateway, "refresh_refused")
					assert.Equal(t, 1, strings.Count(k.Logs.String(), "level=ERROR"), about)
					assert.Contains(t, k.Logs.String(), "AuthManagementKey", about)
					kittest.Elapse(5 * time.Second)
					if others {
						require.Equal(t, http.StatusOK, signIn(k, kittest.Bob).StatusCode)
						kittest.Elapse(6 * time.Second)
						res := b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}"))
						kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
						assert.NotEmpty(t, res.Cookies(), about)
						return
					}
					kittest.Elapse(30 * time.Second)
					kittest.RequireProblem(t, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")), http.StatusBadGateway, "refresh_refused")
					kittest.Elapse(30 * time.Second)
					res = b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}"))
					kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
					assert.Empty(t, res.Cookies(), about)
					res = b.Do(page, kittest.Get("/"))
					assert.Equal(t, 401, res.StatusCode, about)
					assert.Empty(t, res.Cookies(), about)
					k.Project.Reset() // an operator has mended it
					kittest.Elapse(time.Minute)
					assert.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode, about)
				})
			}
		}
	}
}

// A code that is not about who calls is no sign-in's end while every refresh gets it:
// Descope's trouble with refreshing is told from the user's by a refresh that is answered.
func TestEveryRefreshIsRefused(t *testing.T) {
	for _, others := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
			b, bob := kittest.SignIn(k, kittest.Ada), kittest.SignIn(k, kittest.Bob)
			page := k.RequireSession(new(kittest.Spy))
			kittest.Elapse(kittest.Past)
			refused := descopetest.Fault{Status: 400, Body: `{"errorCode":"E112102"}`, Times: -1}
			k.Project.Fail(kittest.RefreshPath, refused)
			assert.Equal(t, 401, b.Do(page, kittest.Get("/")).StatusCode)
			kittest.Elapse(6 * time.Second)
			require.Equal(t, http.StatusOK, signIn(k, kittest.Bob).StatusCode)
			if others {
				k.Project.Reset()
				require.Equal(t, http.StatusOK, bob.Do(page, kittest.Get("/")).StatusCode)
				k.Project.Fail(kittest.RefreshPath, refused)
			}
			kittest.Elapse(6 * time.Second)
			assert.Equal(t, others, len(b.Do(page, kittest.Get("/")).Cookies()) > 0)
		})
	}
}

// A logout has nothing left to do where Descope refuses the token for a reason of its own.
func TestLogoutOfARefusedToken(t *testing.T) {
	for body, want := range map[string]int{
		`{"errorCode":"E061002"}`: 200, `{"errorCode":"E069999"}`: 200, `{"errorCode":"E061005"}`: 200, `{"errorCode":"E062108"}`: 200,
		`{"errorCode":"E061004"}`: 502, // it may be the management key
		`{"errorCode":"E112102"}`: 400, `<html>`: 502,
	} {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		k.Project.Fail("/v1/auth/logout", descopetest.Fault{Status: 401, Body: body})
		res := b.Do(k.Handler(), kittest.Post("/v1/auth/logout", "{}"))
		assert.Equal(t, want, res.StatusCode, body)
		assert.NotEmpty(t, res.Cookies(), body)
	}
	k := kittest.New(t)
	b := kittest.SignIn(k, kittest.Ada)
	require.Equal(t, http.StatusOK, signIn(k, kittest.Ada).StatusCode) // so it is not
	k.Project.Fail("/v1/auth/logout", descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})
	kittest.RequireOK(t, b.Do(k.Handler(), kittest.Post("/v1/auth/logout", "{}")))
}

// Every 2xx is a success, and an envelope that is not strict JSON is read all the same:
// the call has spent a token, or a code.
func TestSuccessIsTakenLeniently(t *testing.T) {
	for name, edit := range map[string]func(res *http.Response, body string) string{
		"201": func(res *http.Response, body string) string { res.StatusCode = 201; return body },
		"202": func(res *http.Response, body string) string { res.StatusCode = 202; return body },
		"a cut emoji": func(_ *http.Response, body string) string {
			return strings.Replace(body, `{`, "{\"cut\":\"\xf0\x9f\x98\",", 1)
		},
		"a name twice": func(_ *http.Response, body string) string {
			return strings.Replace(body, `{`, `{"sessionJwt":"first","firstSeen":true,`, 1)
		},
	} {
		k := kittest.New(t, func(c *descopehttp.Config) {
			inner := c.HTTPClient.Transport
			c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
				res, err := inner.RoundTrip(r)
				if err == nil && res.StatusCode == http.StatusOK {
					content, _ := io.ReadAll(res.Body)
					res.Body = io.NopCloser(strings.NewReader(edit(res, string(content))))
				}
				return res, err
			})}
		})
		k.Project.Configure(kittest.Rotating)
		res := signIn(k, kittest.Ada)
		body, _ := io.ReadAll(res.Body)
		assert.Equal(t, http.StatusOK, res.StatusCode, name)
		assert.NotContains(t, string(body), "first\"", name)
		refresh := kittest.CookiesOf(res)[kittest.RefreshCookie]
		if assert.NotNil(t, refresh, name) {
			again := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, "{}"), "", refresh.Value))
			assert.Equal(t, http.StatusOK, again.StatusCode, name)
		}
	}
}

func TestEmptyAnswers(t *testing.T) {
	for path, want := range map[string]int{"/v1/auth/logout": 200, "/v1/auth/logoutall": 200, kittest.MePath: 502} {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		k.Project.Fail(path, descopetest.Fault{Status: 204})
		r := kittest.Post(path, "{}")
		if path == kittest.MePath {
			r = kittest.Get(path)
		}
		assert.Equal(t, want, b.Do(k.Handler(), r).StatusCode, path)
	}
}

// What stands in the way, or speaks of the request, never ends a session, also while
// Descope answers everybody else.
//
// Rule: renewing: against a changed management key, a proxy's page or an unknown error code
// that signs everybody out: only codes known to end a session do, and others of Descope's that
// do not speak of the request once another call is answered.
func TestNoVerdictNeverEndsASession(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"429 HTML":               {Status: 429, Body: "<html><body>Please try again later</body></html>"},
		"408 HTML":               {Status: 408, Body: "<html><body>Please try again later</body></html>"},
		"429 of somebody":        {Status: 429, Body: `{"errcode":"M_UNKNOWN","error":"Server is unavailable"}`},
		"422, a code of its own": {Status: 422, Body: `{"errorCode":"E011003"}`},
		"403 of a firewall":      {Status: 403, Body: "<html>blocked</html>"},
		"401 of a proxy":         {Status: 401, Body: `{"error":"invalid_client"}`},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
			b := kittest.SignIn(k, kittest.Ada)
			kittest.Elapse(kittest.Past)
			fault.Times = -1
			k.Project.Fail(kittest.RefreshPath, fault)
			for range 5 {
				res := b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}"))
				assert.Contains(t, []int{502, 504}, res.StatusCode, name)
				assert.Empty(t, res.Cookies(), name)
				kittest.Elapse(31 * time.Second)
				assert.Equal(t, http.StatusOK, signIn(k, kittest.Bob).StatusCode, name)
			}
			k.Project.Reset()
			kittest.Elapse(time.Minute)
			kittest.RequireOK(t, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")))
		})
	}
}

// A 401 of another call that may be about the configuration as well is no reason to
// refresh, and neither is a wrong code.
func TestNoLoopOfRefreshes(t *testing.T) {
	k := kittest.New(t)
	b := kittest.SignIn(k, kittest.Ada)
	k.Project.Fail(kittest.MePath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E069999"}`, Times: -1})
	kittest.RequireProblem(t, b.Do(k.Handler(), kittest.Get(kittest.MePath)), http.StatusBadGateway, "refresh_refused")
	assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
	assert.Equal(t, 1, k.Project.Requests(kittest.MePath))

	wrong := kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":"0000000"}`, kittest.Ada))
	kittest.RequireProblem(t, b.Do(k.Handler(), wrong), http.StatusUnauthorized, "invalid_code")
	assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
}
