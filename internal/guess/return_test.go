package guess_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A right code and "cannot tell" give the guess back.
//
// Rule: guessing: against guesses given back that were none of a failure (hanging up, a fault
// timed to the end of a window, a store that comes and goes): given back where and in the
// window they were counted, and only what Descope said no to stays.
// Rule: guessing: a guess is given back on success and "cannot tell".
// Rule: guessing: a guess is given back where and in the window it was counted.
func TestGuessesAreGivenBack(t *testing.T) {
	for name, fault := range map[string]*descopetest.Fault{
		"success":     nil,
		"500":         {Status: 500},
		"no JSON":     {Status: 403, Body: "<html>"},
		"no tokens":   {Status: 200, Body: "{}"},
		"odd answer":  {Status: 200, Body: "[]"},
		"lost answer": {Drop: true, After: true, Times: 4},
		"silent":      {Delay: time.Minute, Times: 4},
		"asks to wait": {Status: 429, Body: `{"errorCode":"E130429"}`,
			Header: http.Header{"Retry-After": {"60"}}},
	} {
		giveBack := func(t *testing.T, store descopehttp.AttemptStore) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store })
				k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
				const network = "203.0.113.9"
				tries := 60
				if fault != nil {
					f := *fault
					if f.Times == 0 {
						f.Times = -1
					} else {
						tries = f.Times
					}
					k.Project.Fail(kittest.VerifyPath, f)
				}
				for range tries {
					kittest.Elapse(100 * time.Millisecond)
					res := kittest.Guess(k, network, kittest.Ada, k.Project.Code(kittest.Ada))
					if fault == nil {
						require.Equal(t, http.StatusOK, res.StatusCode)
					} else {
						require.Contains(t, []int{429, 502, 504}, res.StatusCode)
					}
				}
				k.Project.Reset()
				kittest.Elapse(2 * time.Minute)
				for range 20 {
					kittest.Guess(k, network, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
				}
				assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath), "all ten are left, and no more")
				if fault != nil {
					return
				}
				for i := range 200 {
					kittest.Guess(k, fmt.Sprintf("198.51.100.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
				}
				assert.Equal(t, 10+50, k.Project.Requests(kittest.VerifyPath), "of the day, too")
			})
		}
		t.Run(name+", memory", func(t *testing.T) { giveBack(t, nil) })
		t.Run(name+", store", func(t *testing.T) { giveBack(t, newCountingStore()) })
	}
}

// Whoever hangs up has guessed all the same.
//
// Rule: guessing: against guesses given back that were none of a failure (hanging up, a fault
// timed to the end of a window, a store that comes and goes): given back where and in the
// window they were counted, and only what Descope said no to stays.
func TestHangingUpGivesNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCountingStore()
		for _, attemptStore := range []descopehttp.AttemptStore{nil, store} {
			k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = attemptStore })
			k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Delay: time.Second, Times: -1})
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					r := kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000"}`))
					ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
					defer cancel()
					kittest.Serve(k.Handler(), r.WithContext(ctx))
				})
			}
			wg.Wait()
			assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
			kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", kittest.Ada, "000000"))
		}
	})
}

// Guesses that are under way when their window ends are not given back in the
// next one: who can have them fail would guess twice as often.
//
// Rule: guessing: against guesses given back that were none of a failure (hanging up, a fault
// timed to the end of a window, a store that comes and goes): given back where and in the
// window they were counted, and only what Descope said no to stays.
// Rule: guessing: a guess is given back where and in the window it was counted.
func TestGuessesAreGivenBackInTheirWindow(t *testing.T) {
	for name, store := range map[string]func() descopehttp.AttemptStore{
		"memory": func() descopehttp.AttemptStore { return nil },
		"store":  func() descopehttp.AttemptStore { return newCountingStore() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store() })
				const network = "203.0.113.9"
				kittest.RequireProblem(t, kittest.Guess(k, network, kittest.Ada, "000000"), http.StatusUnauthorized, "invalid_code")
				kittest.Elapse(10*time.Minute - time.Second)
				k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 500, Delay: 3 * time.Second, Times: 9})
				var wg sync.WaitGroup
				for range 9 {
					wg.Go(func() {
						assert.Equal(t, http.StatusBadGateway, kittest.Guess(k, network, kittest.Ada, "000000").StatusCode)
					})
				}
				kittest.Elapse(2 * time.Second)
				for range 10 {
					kittest.RequireProblem(t, kittest.Guess(k, network, kittest.Ada, "000000"), http.StatusUnauthorized, "invalid_code")
				}
				wg.Wait()
				kittest.RequireLimited(t, kittest.Guess(k, network, kittest.Ada, "000000"))
			})
		})
	}
}

// What the store counted is given back in the store, and what memory counted while
// it was away in memory: it must not come off another count.
//
// Rule: guessing: against guesses given back that were none of a failure (hanging up, a fault
// timed to the end of a window, a store that comes and goes): given back where and in the
// window they were counted, and only what Descope said no to stays.
func TestGuessesAreGivenBackWhereTheyWereCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCountingStore()
		k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store })
		const network = "203.0.113.9"
		for range 10 {
			kittest.RequireProblem(t, kittest.Guess(k, network, kittest.Ada, "000000"), http.StatusUnauthorized, "invalid_code")
		}
		kittest.RequireLimited(t, kittest.Guess(k, network, kittest.Ada, "000000"))
		for range 5 {
			store.set(errors.New("away"), 0)
			k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 500, Delay: 2 * time.Second})
			done := make(chan int)
			go func() { done <- kittest.Guess(k, network, kittest.Ada, "000000").StatusCode }()
			kittest.Elapse(time.Second)
			store.set(nil, 0)
			require.Equal(t, http.StatusBadGateway, <-done)
			kittest.RequireLimited(t, kittest.Guess(k, network, kittest.Ada, "000000"))
		}
	})
}

// Only what Descope said no to stays counted. A call that ends before it, such as
// a step-up with a token that was logged out, is no guess: without this, one such
// token would fill the memory of counts at no cost.
//
// Rule: guessing: against invented login ids and addresses, to have a count forgotten: no count
// makes room for another: there is room for all that the budget lets through, and what never
// got to Descope leaves nothing.
func TestWhatDescopeNeverSawIsNoGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		thief := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.LogoutPath, "{}")).StatusCode)
		k.Project.Reset()
		for range 100 {
			res := thief.Copied().Do(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`)))
			require.Equal(t, http.StatusUnauthorized, res.StatusCode)
		}
		require.Zero(t, k.Project.Requests(kittest.VerifyPath))
		for range 10 {
			kittest.RequireProblem(t, kittest.Guess(k, "203.0.113.9", "bob", "000000"), http.StatusUnauthorized, "invalid_code")
		}
		kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", "bob", "000000"))
	})
}

// A guess that is refused here counts for nothing: when those under way end without
// an answer, all ten are left.
//
// Rule: guessing: against guesses given back that were none of a failure (hanging up, a fault
// timed to the end of a window, a store that comes and goes): given back where and in the
// window they were counted, and only what Descope said no to stays.
// Rule: guessing: a refused guess does not count.
func TestRefusedGuessesDoNotCount(t *testing.T) {
	for name, store := range map[string]func() descopehttp.AttemptStore{
		"memory": func() descopehttp.AttemptStore { return nil },
		"store":  func() descopehttp.AttemptStore { return newCountingStore() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store() })
				const network = "203.0.113.9"
				k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 500, Delay: 2 * time.Second, Times: 10})
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						assert.Equal(t, http.StatusBadGateway, kittest.Guess(k, network, kittest.Ada, "000000").StatusCode)
					})
				}
				kittest.Elapse(time.Second)
				for range 30 {
					kittest.RequireLimited(t, kittest.Guess(k, network, kittest.Ada, "000000"))
				}
				wg.Wait()
				for range 10 {
					kittest.RequireProblem(t, kittest.Guess(k, network, kittest.Ada, "000000"), http.StatusUnauthorized, "invalid_code")
				}
				kittest.RequireLimited(t, kittest.Guess(k, network, kittest.Ada, "000000"))
			})
		})
	}
}

// A sign-up that was not sent to Descope, because strangers had used up the budget,
// is not counted.
//
// Rule: guessing: against floods of sign-ups: 60 in ten minutes from one network.
func TestSignUpsThatWereNotSentAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Limits.SignUpsPerNetwork = 10 })
		signUp := func(i int) *http.Response {
			return kittest.Serve(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.SignUpPath, fmt.Sprintf(`{"loginId":"user%d"}`, i))))
		}
		var strangers sync.WaitGroup
		defer strangers.Wait()
		for i := range 200 { // more than get a turn
			strangers.Go(func() { kittest.Guess(k, fmt.Sprintf("198.51.100.%d", i), fmt.Sprint("stranger", i), "000000") })
		}
		synctest.Wait()
		for i := range 50 {
			kittest.RequireLimited(t, signUp(i))
		}
		require.Zero(t, k.Project.Requests(kittest.SignUpPath))
		kittest.Elapse(10 * time.Second)
		for i := range 10 {
			require.Equal(t, http.StatusOK, signUp(i).StatusCode)
		}
		kittest.RequireLimited(t, signUp(10))
		// One that Descope was asked for and did not answer may have come about.
		kittest.Elapse(10 * time.Minute)
		k.Project.Fail(kittest.SignUpPath, descopetest.Fault{Status: 500, Times: 10})
		for i := range 10 {
			require.Equal(t, http.StatusBadGateway, signUp(20+i).StatusCode)
		}
		kittest.RequireLimited(t, signUp(30))
	})
}
