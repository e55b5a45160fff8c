package descope_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// When Descope asks for fewer calls, that class waits as long as it says, but not
// for longer than a minute.
//
// Rule: guessing: against a 429 of Descope, provoked to stop others: it pauses its own class
// only, for a minute at most.
// Rule: guessing: a 429 pauses, a minute at most.
func TestUpstreamLimitPausesForAMinuteAtMost(t *testing.T) {
	for retryAfter, pause := range map[string]time.Duration{"7": 7 * time.Second, "": 5 * time.Second, "86400": time.Minute, "-1": 5 * time.Second, "soon": 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			header := http.Header{}
			if retryAfter != "" {
				header.Set("Retry-After", retryAfter)
			}
			k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 429, Body: `{"errorCode":"E130429"}`, Header: header})
			kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", kittest.Ada, k.Project.Code(kittest.Ada)))
			kittest.Elapse(pause - time.Second)
			kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", kittest.Ada, k.Project.Code(kittest.Ada)))
			assert.Equal(t, 1, k.Project.Requests(kittest.VerifyPath), "Retry-After %q", retryAfter)
			kittest.Elapse(time.Second)
			assert.Equal(t, http.StatusOK, kittest.Guess(k, "203.0.113.9", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode, "Retry-After %q", retryAfter)
		})
	}
}

var newcomers sync.Mutex

// newcomer returns a browser whose tokens nothing is known of.
func newcomer(k *kittest.Kit) *kittest.Browser {
	newcomers.Lock()
	defer newcomers.Unlock()
	for n := 1; ; n++ {
		if loginID := fmt.Sprint("user", n); !k.Project.HasUser(loginID) {
			k.Project.AddUser(descopetest.User{LoginID: loginID})
			return kittest.SignIn(k, loginID)
		}
	}
}

// posting is a newcomer's call of a flow.
func posting(path, body string) func(*kittest.Kit) int {
	return func(k *kittest.Kit) int {
		return newcomer(k).Do(k.Handler(), kittest.Post(path, body)).StatusCode
	}
}

func renew(k *kittest.Kit) int {
	b := newcomer(k)
	b.Session = ""
	return b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode
}

func askMe(k *kittest.Kit) int {
	return newcomer(k).Do(k.Handler(), kittest.Get(kittest.MePath)).StatusCode
}

func enter(k *kittest.Kit) int {
	return kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode
}

func stepUp(k *kittest.Kit) int {
	body := `{"loginId":"` + kittest.Ada + `","code":"` + k.Project.Code(kittest.Ada) + `","loginOptions":{"stepup":true}}`
	return kittest.SignIn(k, kittest.Ada).Do(k.Handler(), kittest.From("192.0.2.7", kittest.Post(kittest.VerifyPath, body))).StatusCode
}

func signUp(k *kittest.Kit) int {
	return kittest.Serve(k.Handler(), kittest.From("192.0.2.8", kittest.Post(kittest.SignUpPath, `{"loginId":"new@example.com"}`))).StatusCode
}

// classes are all, each with a call of it and what that answers in a pause.
var classes = map[string]struct {
	uses func(*kittest.Kit) int
	busy int
}{
	"session": {renew, 503}, "account": {askMe, 502}, "second factor": {stepUp, 429}, "anonymous": {enter, 429},
}

// limitedCalls are calls that Descope may answer with a 429.
var limitedCalls = map[string]struct {
	path  string
	call  func(*kittest.Kit) int
	class string
}{
	"a code":           {kittest.VerifyPath, enter, "anonymous"},
	"a sign-up":        {kittest.SignUpPath, signUp, "anonymous"},
	"a step-up":        {kittest.VerifyPath, posting(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000","loginOptions":{"stepup":true}}`), "second factor"},
	"me":               {"/v1/auth/me", askMe, "account"},
	"a tenant":         {"/v1/auth/tenant/select", posting(kittest.SelectPath, `{"tenant":"T1"}`), "account"},
	"my tenants":       {"/v1/auth/me/tenants", posting(kittest.TenantsPath, `{"dct":true}`), "account"},
	"a refresh":        {kittest.RefreshPath, renew, "session"},
	"a logout":         {"/v1/auth/logout", posting(kittest.LogoutPath, "{}"), "session"},
	"logout of all":    {"/v1/auth/logoutall", posting(kittest.LogoutAllPath, "{}"), "session"},
	"an explicit call": {kittest.RefreshPath, posting(kittest.RefreshPath, "{}"), "session"},
}

// A 429 pauses the class whose call was answered with it and no other, whichever
// flow brought it about. What clients send while it lasts makes it no longer.
//
// Rule: guessing: against a 429 of Descope, provoked to stop others: it pauses its own class
// only, for a minute at most.
func TestUpstreamLimitPausesItsClassOnly(t *testing.T) {
	const pause = 30 * time.Second
	for name, tt := range limitedCalls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
				require.NoError(t, k.Ready(t.Context()))
				k.Project.Fail(tt.path, descopetest.Fault{Status: 429, Body: `{"errorCode":"E130429"}`, Header: http.Header{"Retry-After": {"30"}}})
				began := time.Now()
				require.Contains(t, []int{429, 502, 503}, tt.call(k))
				for time.Since(began) < pause {
					for class, c := range classes {
						want := http.StatusOK
						if class == tt.class {
							want = c.busy
						}
						assert.Equal(t, want, c.uses(k), "%s after %v", class, time.Since(began))
					}
					kittest.Elapse(5 * time.Second)
				}
				for class, c := range classes {
					assert.Equal(t, 200, c.uses(k), "%s, when it is over", class)
				}
			})
		})
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

// crowd has people do something, one every half second, and returns how many of them were
// not answered 200.
func crowd(people int, visit func(i int) int) (failed int) {
	for i := range people {
		if visit(i) != http.StatusOK {
			failed++
		}
		kittest.Elapse(500 * time.Millisecond)
	}
	return failed
}

// Whoever asks for more than a fair share is sent away, and nobody else: renewals,
// questions about the account, step-ups and sign-ins of others go on.
//
// Rule: guessing: against one user, or one network, that takes a whole class from the others:
// each has a share; whoever is over it waits for the others once half of the class is gone.
// Rule: guessing: shares of a class, by the user of a verified token or by network.
func TestNobodySuffersForAnother(t *testing.T) {
	for name, tt := range map[string]struct {
		attack func(*kittest.Kit) (again func() int)
		every  time.Duration
		ways   int
	}{
		"explicit refreshes": {func(k *kittest.Kit) func() int {
			b := kittest.SignIn(k, kittest.Ada)
			return func() int { return b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode }
		}, 50 * time.Millisecond, 6},
		"me, sixty times a second": {func(k *kittest.Kit) func() int {
			b := kittest.SignIn(k, kittest.Ada)
			return func() int { return b.Do(k.Handler(), kittest.Get(kittest.MePath)).StatusCode }
		}, time.Second / 60, 1},
		"wrong codes from one address": {func(k *kittest.Kit) func() int {
			n := 0
			return func() int {
				n++
				return kittest.Guess(k, "203.0.113.66", fmt.Sprint("nobody", n), "000000").StatusCode
			}
		}, time.Second / 25, 1},
		"wrong second factors": {func(k *kittest.Kit) func() int {
			b := kittest.SignIn(k, kittest.Ada)
			return func() int {
				body := `{"loginId":"` + kittest.Ada + `","code":"000000","loginOptions":{"stepup":true}}`
				return b.Do(k.Handler(), kittest.From("203.0.113.66", kittest.Post(kittest.VerifyPath, body))).StatusCode
			}
		}, time.Second / 25, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				k.Project.Configure(func(s *descopetest.Settings) {
					s.RotateRefresh, s.AllowCodeReuse, s.Alg = true, true, "ES256"
				})
				require.NoError(t, k.Ready(t.Context()))
				k.Project.Fail("", descopetest.Fault{Delay: 30 * time.Millisecond, Times: -1})
				var attack sync.WaitGroup
				stop := make(chan struct{})
				var sentAway atomic.Int32
				for range tt.ways {
					again := tt.attack(k)
					attack.Go(func() {
						for {
							select {
							case <-stop:
								return
							case <-time.After(tt.every):
								if again() != http.StatusOK {
									sentAway.Add(1)
								}
							}
						}
					})
				}
				kittest.Elapse(20 * time.Second)
				someone := func(i int) string { return fmt.Sprintf("someone%d@example.com", i) }
				for i := range 60 {
					k.Project.AddUser(descopetest.User{LoginID: someone(i)})
				}
				assert.Zero(t, crowd(60, func(int) int { return renew(k) }), "renewals")
				assert.Zero(t, crowd(40, func(int) int { return askMe(k) }), "me")
				assert.Zero(t, crowd(30, func(i int) int {
					return kittest.Guess(k, "192.0.2.9", someone(i), k.Project.Code(someone(i))).StatusCode
				}), "sign-ins")
				assert.Zero(t, crowd(20, func(i int) int {
					body := `{"loginId":"` + someone(i) + `","code":"` + k.Project.Code(someone(i)) + `","loginOptions":{"stepup":true}}`
					return kittest.SignIn(k, someone(i)).Do(k.Handler(), kittest.From("192.0.2.9", kittest.Post(kittest.VerifyPath, body))).StatusCode
				}), "step-ups")
				close(stop)
				attack.Wait()
				t.Logf("%d calls of the one were sent away", sentAway.Load())
			})
		})
	}
}

// A site says how much it needs: 200 renewals a second go through for ten minutes.
//
// Rule: guessing: budget of a class, and a turn in three seconds.
func TestRaisedLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Limits.SessionCalls = 200 })
		k.Project.Configure(func(s *descopetest.Settings) { s.Alg = "ES256" })
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 30 * time.Millisecond, Times: -1})
		const users, calls = 500, 200 * 20 // 20 s; the budget is as full at their end as after ten minutes
		logins := make([]string, users)
		for i := range logins {
			logins[i] = fmt.Sprintf("user%d@example.com", i)
			k.Project.AddUser(descopetest.User{LoginID: logins[i]})
		}
		page := k.RequireSession(new(kittest.Spy))
		var all sync.WaitGroup
		var failed atomic.Int32
		for i := range calls {
			r := kittest.WithCookies(kittest.Get("/"), "", k.Project.SignIn(logins[i%users]).Refresh)
			all.Go(func() {
				if kittest.Serve(page, r).StatusCode != http.StatusOK {
					failed.Add(1)
				}
			})
			kittest.Elapse(5 * time.Millisecond)
		}
		all.Wait()
		assert.Zero(t, failed.Load())
		assert.Equal(t, calls, k.Project.Requests(kittest.RefreshPath))
	})
}
