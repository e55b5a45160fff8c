package descopehttp_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/netip"
	"strings"
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

func TestThousandWrongCodesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own, other = "192.0.2.7", "198.51.100.1"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(24 * time.Hour)

		k.Project.Reset()
		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Delay: time.Second, Times: -1})
		var wg sync.WaitGroup
		var refused, limited atomic.Int64
		for range 1000 {
			wg.Go(func() {
				res := kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
				switch res.StatusCode {
				case http.StatusUnauthorized:
					refused.Add(1)
				case http.StatusTooManyRequests:
					limited.Add(1)
					assert.LessOrEqual(t, kittest.RequireLimited(t, res), 10*time.Minute)
				default:
					assert.Fail(t, "unexpected", "status %d", res.StatusCode)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 10, refused.Load())
		assert.EqualValues(t, 990, limited.Load())
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath), "ten reach Descope")

		res := kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada))
		assert.Equal(t, http.StatusOK, res.StatusCode, "the user is not locked out on a network of yesterday")

		// The window opens again when Retry-After said so, and not before.
		k.Project.Reset()
		wait := kittest.RequireLimited(t, kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada)))
		kittest.Elapse(wait - 2*time.Second)
		kittest.RequireLimited(t, kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada)))
		kittest.Elapse(2 * time.Second)
		kittest.RequireProblem(t, kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada)), http.StatusUnauthorized, "invalid_code")
		assert.Equal(t, 1, k.Project.Requests(kittest.VerifyPath))
	})
}

// From any number of strangers' networks together fifty a day go through, and
// none of it stops the user on a network of their own.
func TestFiftyGuessesADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		for day := range 3 {
			kittest.Elapse(time.Minute) // a code works once
			k.Project.Reset()
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					for range 6 {
						kittest.Guess(k, fmt.Sprintf("203.0.%d.%d", i/250, i%250+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
					}
				})
			}
			wg.Wait()
			assert.Equal(t, 50, k.Project.Requests(kittest.VerifyPath), "day %d", day)
			wait := kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", kittest.Ada, k.Project.Code(kittest.Ada)))
			assert.InDelta(t, 24*time.Hour, wait, float64(time.Minute))
			assert.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode, "day %d", day)
			kittest.Elapse(24*time.Hour - time.Minute)
		}
		// Another user is not concerned.
		k.Project.AddUser(descopetest.User{LoginID: "bob"})
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "203.0.113.9", "bob", k.Project.Code("bob")).StatusCode)
	})
}

// A network that the user once signed in from has ten guesses for itself, no more.
func TestKnownNetworkIsLimitedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(time.Minute)
		k.Project.Reset()
		for range 30 {
			kittest.Guess(k, own, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
		// After 90 days without a sign-in it is a network like any other.
		kittest.Elapse(91 * 24 * time.Hour)
		for i := range 60 {
			kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		kittest.RequireLimited(t, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)))
	})
}

// However a login id is spelled, the count is one.
func TestSpellingsShareACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		spellings := []string{
			kittest.Ada, "ADA@example.com", "Ada@Example.COM", " " + kittest.Ada, kittest.Ada + "  ", "\u00a0" + kittest.Ada + "\u3000",
			"\uff41\uff44\uff41@example.com", "ada\uff20example.com", "\u24d0da@example.com", "A\uff24a@EXAMPLE.com",
		}
		for i := range 40 {
			kittest.Guess(k, "203.0.113.9", spellings[i%len(spellings)], "000000")
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
		for _, spelling := range spellings {
			kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", spelling, "000000"))
		}
		// Composed and decomposed are one, too; another name is another.
		k.Project.Reset()
		for i := range 20 {
			kittest.Guess(k, "203.0.113.9", []string{"ren\u00e9", "rene\u0301"}[i%2], "000000")
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
		kittest.Guess(k, "203.0.113.9", "rene", "000000")
		assert.Equal(t, 11, k.Project.Requests(kittest.VerifyPath))
	})
}

// A right code and "cannot tell" give the guess back.
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

// To whoever guesses, a user and nobody look alike: before the limit and beyond.
func TestUnknownUsersLookAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) {
			s.UnknownUser = descopetest.Failure{Status: 400, Code: "E062108", Description: "User not found"}
			s.WrongCode = descopetest.Failure{Status: 401, Code: "E061102", Description: "Invalid code"}
		})
		answer := func(loginID string) (int, http.Header, string) {
			res := kittest.Guess(k, "203.0.113.9", loginID, kittest.WrongCode(k, loginID))
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			return res.StatusCode, res.Header, string(body)
		}
		for i := range 15 {
			status, header, body := answer(kittest.Ada)
			otherStatus, otherHeader, otherBody := answer("nobody@example.com")
			require.Equal(t, status, otherStatus, i)
			require.Equal(t, header, otherHeader, i)
			require.Equal(t, body, otherBody, i)
		}
	})
}

// A step-up is a guess like any other.
func TestStepUpIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		for range 30 {
			body := `{"loginId":"` + kittest.Ada + `","code":"` + kittest.WrongCode(k, kittest.Ada) + `","loginOptions":{"stepup":true}}`
			b.Do(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, body)))
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
	})
}

// countingStore is an AttemptStore as its contract has it.
type countingStore struct {
	mu     sync.Mutex
	counts map[string]*count
	broken error
	delay  time.Duration
	calls  int
}

type count struct {
	n     int
	until time.Time
}

func newCountingStore() *countingStore { return &countingStore{counts: make(map[string]*count)} }

func (s *countingStore) set(broken error, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.delay = broken, delay
}

func (s *countingStore) Add(ctx context.Context, key string, delta int, window time.Duration) (int, time.Duration, error) {
	s.mu.Lock()
	delay, broken := s.delay, s.broken
	s.calls++
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil || broken != nil {
		return 0, 0, errors.Join(err, broken)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[key]
	if c == nil || !time.Now().Before(c.until) {
		c = &count{until: time.Now().Add(window)}
	}
	if c.n = max(c.n+delta, 0); c.n > 0 {
		s.counts[key] = c
	} else {
		delete(s.counts, key)
		return 0, 0, nil
	}
	return c.n, time.Until(c.until), nil
}

func TestAttemptStoreIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCountingStore()
		share := func(c *descopehttp.Config) { c.AttemptStore = store }
		first := kittest.New(t, share)
		second := kittest.For(t, first.Project, share)
		for i := range 40 {
			kittest.Guess([]*kittest.Kit{first, second}[i%2], "203.0.113.9", kittest.Ada, "000000")
		}
		assert.Equal(t, 10, first.Project.Requests(kittest.VerifyPath), "for both replicas together")
		for key := range store.counts {
			assert.Len(t, key, 32, "a hash")
			assert.NotContains(t, key, "ada")
		}
		// What one replica knows of a network, the other does.
		require.Equal(t, http.StatusOK, kittest.Guess(first, "192.0.2.7", kittest.Ada, first.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(time.Minute)
		for i := range 60 {
			kittest.Guess(first, fmt.Sprintf("198.51.100.%d", i+1), kittest.Ada, "000000")
		}
		assert.Equal(t, http.StatusOK, kittest.Guess(second, "192.0.2.7", kittest.Ada, first.Project.Code(kittest.Ada)).StatusCode)
	})
}

// While the store is away, or slow, each replica counts by itself, and says so.
func TestAttemptStoreAway(t *testing.T) {
	for name, tt := range map[string]struct {
		err   error
		delay time.Duration
	}{
		"errors": {errors.New("secret address"), 0},
		"slow":   {nil, 300 * time.Millisecond},
		"silent": {nil, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newCountingStore()
				k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store })
				store.set(tt.err, tt.delay)
				began := time.Now()
				for range 20 {
					kittest.Guess(k, "203.0.113.9", kittest.Ada, "000000")
				}
				assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
				assert.LessOrEqual(t, time.Since(began), 20*4*250*time.Millisecond)
				assert.Positive(t, store.calls)
				assert.Contains(t, k.Logs.String(), "attempt store is not available")
				assert.NotContains(t, k.Logs.String(), "secret")
				assert.LessOrEqual(t, strings.Count(k.Logs.String(), "attempt store"), 2, "once a minute")
				store.set(nil, 0)
				require.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
				assert.NotEmpty(t, store.counts, "in use again")
			})
		})
	}
}

// What the store counted is given back in the store, and what memory counted while
// it was away in memory: it must not come off another count.
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

// Guesses that are under way when their window ends are not given back in the
// next one: who can have them fail would guess twice as often.
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

// Only what Descope said no to stays counted. A call that ends before it, such as
// a step-up with a token that was logged out, is no guess: without this, one such
// token would fill the memory of counts at no cost.
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

// A right code that is somebody else's than the token beside it is a guess, too.
func TestCodeOfAnotherUserIsAGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: "bob"})
		b := kittest.SignIn(k, kittest.Ada)
		tokens := k.Project.SignIn("bob")
		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 200, Times: -1,
			Body: `{"sessionJwt":"` + tokens.Session + `","refreshJwt":"` + tokens.Refresh + `"}`})
		for range 10 {
			res := b.Copied().Do(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`)))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "other_user")
		}
		kittest.RequireLimited(t, b.Copied().Do(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`))))
	})
}

// A network that the user signed in from has fifty guesses a day as well, of its own.
func TestFiftyGuessesADayFromAKnownNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(time.Minute)
		k.Project.Reset()
		for range 24 * 6 {
			for range 11 {
				kittest.Guess(k, own, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
			}
			kittest.Elapse(10*time.Minute - time.Second)
		}
		assert.Equal(t, 50, k.Project.Requests(kittest.VerifyPath))
		// Strangers have theirs, and the user theirs elsewhere.
		for i := range 60 {
			kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		assert.Equal(t, 100, k.Project.Requests(kittest.VerifyPath))
	})
}

// A network is known for ninety days after the last sign-in, not the first.
func TestNetworkStaysKnown(t *testing.T) {
	for name, store := range map[string]func() descopehttp.AttemptStore{
		"memory": func() descopehttp.AttemptStore { return nil },
		"store":  func() descopehttp.AttemptStore { return newCountingStore() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store() })
				const own = "192.0.2.7"
				for range 6 {
					require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
					kittest.Elapse(89 * 24 * time.Hour)
					for i := range 60 {
						kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
					}
					kittest.RequireLimited(t, kittest.Guess(k, "198.51.100.1", kittest.Ada, k.Project.Code(kittest.Ada)))
				}
				kittest.Elapse(91 * 24 * time.Hour)
				for i := range 60 {
					kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
				}
				kittest.RequireLimited(t, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)))
			})
		})
	}
}

// While the store is away, the replica that somebody signed in on knows their
// network.
func TestKnownNetworkWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCountingStore()
		k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store })
		require.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(time.Minute)
		store.set(errors.New("away"), 0)
		for i := range 60 {
			kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.99", kittest.Ada, k.Project.Code(kittest.Ada)))
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)

		// A store that hangs holds a sign-in up for no longer than it must.
		kittest.Elapse(time.Minute)
		store.set(nil, time.Hour)
		began := time.Now()
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		assert.Equal(t, time.Second, time.Since(began), "known, two counts, a sign-in")
		kittest.Elapse(time.Minute)
		store.set(nil, 0)
		calls := store.calls
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		assert.Equal(t, 6, store.calls-calls, "and two given back")
	})
}

// A guess that is refused here counts for nothing: when those under way end without
// an answer, all ten are left.
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
func TestSignUpsThatWereNotSentAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		signUp := func(i int) *http.Response {
			return kittest.Serve(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.SignUpPath, fmt.Sprintf(`{"loginId":"user%d"}`, i))))
		}
		for i := range 200 {
			kittest.Guess(k, "198.51.100.1", fmt.Sprint("stranger", i), "000000")
		}
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

func TestSignUpsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		n := 0
		signUp := func(network string) *http.Response {
			n++
			return kittest.Serve(k.Handler(), kittest.From(network, kittest.Post(kittest.SignUpPath, fmt.Sprintf(`{"loginId":"user%d"}`, n))))
		}
		for range 10 {
			require.Equal(t, http.StatusOK, signUp("203.0.113.9").StatusCode)
		}
		wait := kittest.RequireLimited(t, signUp("203.0.113.9"))
		assert.Equal(t, 10*time.Minute, wait)
		assert.Equal(t, 10, k.Project.Requests(kittest.SignUpPath))
		assert.Equal(t, http.StatusOK, signUp("203.0.113.10").StatusCode)
		kittest.Elapse(wait)
		assert.Equal(t, http.StatusOK, signUp("203.0.113.9").StatusCode)
	})
}

// What counts as one network, and where its address comes from.
func TestNetworks(t *testing.T) {
	forwarded := func(r *http.Request) netip.Addr {
		addr, _ := netip.ParseAddr(r.Header.Get("X-Real-Ip"))
		return addr
	}
	for _, tt := range []struct {
		name     string
		clientIP func(*http.Request) netip.Addr
		a, b     string // addresses, or values of X-Real-Ip
		same     bool
	}{
		{"one address", nil, "203.0.113.9", "203.0.113.9", true},
		{"neighbours", nil, "203.0.113.9", "203.0.113.10", false},
		{"IPv4 in IPv6", nil, "203.0.113.9", "::ffff:203.0.113.9", true},
		{"one /64", nil, "2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true},
		{"two /64", nil, "2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"a zone", nil, "fe80::1%eth0", "fe80::1%eth1", true},
		{"ClientIP, one", forwarded, "203.0.113.9", "203.0.113.9", true},
		{"ClientIP, two", forwarded, "203.0.113.9", "203.0.113.10", false},
		{"ClientIP that does not know", forwarded, "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, func(c *descopehttp.Config) { c.ClientIP = tt.clientIP })
				for i := range 40 {
					r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000"}`)
					addr := []string{tt.a, tt.b}[i%2]
					if tt.clientIP != nil {
						r.Header.Set("X-Real-Ip", addr)
					} else {
						kittest.From(addr, r)
						// Anybody can write these, so by default nobody reads them.
						for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip"} {
							r.Header.Set(name, fmt.Sprintf("198.51.100.%d", i))
						}
					}
					kittest.Serve(k.Handler(), r)
				}
				assert.Equal(t, map[bool]int{true: 10, false: 20}[tt.same], k.Project.Requests(kittest.VerifyPath))
			})
		})
	}
	t.Run("no address", func(t *testing.T) {
		k := kittest.New(t)
		for range 40 {
			r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000"}`)
			r.RemoteAddr = "@"
			kittest.Serve(k.Handler(), r)
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
	})
}

// When Descope asks for fewer calls, that class waits as long as it says, but not
// for longer than a minute.
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

// A 429 pauses the class whose call was answered with it and no other, whichever
// flow brought it about. What clients send while it lasts makes it no longer.
func TestUpstreamLimitPausesItsClassOnly(t *testing.T) {
	const pause = 30 * time.Second
	users := 0
	newcomer := func(k *kittest.Kit) *kittest.Browser { // whose tokens nothing is known of
		users++
		loginID := fmt.Sprint("user", users)
		k.Project.AddUser(descopetest.User{LoginID: loginID})
		return kittest.SignIn(k, loginID)
	}
	session := func(k *kittest.Kit) int {
		b := newcomer(k)
		b.Session = ""
		return b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode
	}
	account := func(k *kittest.Kit) int {
		return newcomer(k).Do(k.Handler(), kittest.Get(kittest.MePath)).StatusCode
	}
	anonymous := func(k *kittest.Kit) int {
		return kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode
	}
	signUp := func(k *kittest.Kit) int {
		return kittest.Serve(k.Handler(), kittest.From("192.0.2.8", kittest.Post(kittest.SignUpPath, `{"loginId":"new@example.com"}`))).StatusCode
	}
	classes := map[string]struct {
		uses func(*kittest.Kit) int
		busy int // what it answers in a pause
	}{
		"session": {session, 503}, "account": {account, 502}, "anonymous": {anonymous, 429},
	}
	for name, tt := range map[string]struct {
		path  string
		call  func(*kittest.Kit) int
		class string
	}{
		"a code":    {kittest.VerifyPath, anonymous, "anonymous"},
		"a sign-up": {kittest.SignUpPath, signUp, "anonymous"},
		"a step-up": {kittest.VerifyPath, func(k *kittest.Kit) int {
			return newcomer(k).Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000","loginOptions":{"stepup":true}}`)).StatusCode
		}, "anonymous"},
		"me": {"/v1/auth/me", account, "account"},
		"a tenant": {"/v1/auth/tenant/select", func(k *kittest.Kit) int {
			return newcomer(k).Do(k.Handler(), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`)).StatusCode
		}, "account"},
		"my tenants": {"/v1/auth/me/tenants", func(k *kittest.Kit) int {
			return newcomer(k).Do(k.Handler(), kittest.Post(kittest.TenantsPath, `{"dct":true}`)).StatusCode
		}, "account"},
		"a refresh": {kittest.RefreshPath, session, "session"},
		"a logout": {"/v1/auth/logout", func(k *kittest.Kit) int {
			return newcomer(k).Do(k.Handler(), kittest.Post(kittest.LogoutPath, "{}")).StatusCode
		}, "session"},
		"logout of all": {"/v1/auth/logoutall", func(k *kittest.Kit) int {
			return newcomer(k).Do(k.Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode
		}, "session"},
		"an explicit call": {kittest.RefreshPath, func(k *kittest.Kit) int {
			return newcomer(k).Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode
		}, "session"},
	} {
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

// A client that sends tokens of keys that are not held is told to come back a few
// times, because the key may be new. Then it is refused.
func TestPendingKeysPerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		handler := h.RequireSession(new(kittest.Spy))
		n := 0
		invented := func(network string) int {
			n++
			token := h.Header(fmt.Sprintf(`{"alg":"RS256","kid":"SK%d"}`, n))
			return kittest.Serve(handler, kittest.From(network, kittest.WithBearer(kittest.Get("/"), token))).StatusCode
		}
		require.NoError(t, h.Ready(t.Context()))
		kittest.Elapse(time.Second)
		counts := func(network string) map[int]int {
			statuses := make(map[int]int)
			for range 50 {
				statuses[invented(network)]++
			}
			return statuses
		}
		want := map[int]int{503: 8, 401: 42}
		assert.Equal(t, want, counts("203.0.113.9"))
		assert.Equal(t, want, counts("203.0.113.10"))
		assert.Equal(t, map[int]int{401: 50}, counts("203.0.113.9"))
		kittest.Elapse(5 * time.Second)
		statuses := counts("203.0.113.9")
		assert.LessOrEqual(t, statuses[503], 8)
		assert.Equal(t, 50, statuses[503]+statuses[401])
		assert.Equal(t, 2, h.Project.Requests(kittest.KeysPath))
	})
}

// countHashes counts the signature checks until the test ends: golang-jwt makes
// one hash for each.
func countHashes(t *testing.T) *atomic.Int64 {
	var n atomic.Int64
	crypto.RegisterHash(crypto.SHA256, func() hash.Hash {
		n.Add(1)
		return sha256.New()
	})
	t.Cleanup(func() { crypto.RegisterHash(crypto.SHA256, sha256.New) })
	return &n
}

// Of the cookies of one name a few are judged, however many are sent.
func TestCookieBomb(t *testing.T) {
	h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = -1 })
	require.NoError(t, h.Ready(t.Context()))
	tokens := h.Project.SignIn(kittest.Ada)
	forge := func(token string) string { return token[:len(token)-8] + "AAAAAAAA" }
	expired := h.With(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})
	many := func(name, value string, n int) string {
		return strings.TrimSuffix(strings.Repeat(name+"="+value+"; ", n), "; ")
	}
	mixed := many(kittest.SessionCookie, forge(tokens.Session), 900) + "; " + many(kittest.RefreshCookie, forge(tokens.Refresh), 900)
	checks := countHashes(t)
	for name, tt := range map[string]struct {
		lines []string
		most  int64
	}{
		"forged sessions":             {[]string{many(kittest.SessionCookie, forge(tokens.Session), 1800)}, 4},
		"forged sessions, own kid":    {[]string{many(kittest.SessionCookie, forge(h.With(nil)), 1800)}, 4},
		"forged, expired":             {[]string{many(kittest.SessionCookie, forge(expired), 1800)}, 4},
		"expired":                     {[]string{many(kittest.SessionCookie, expired, 1800)}, 4},
		"forged refresh tokens":       {[]string{many(kittest.RefreshCookie, forge(tokens.Refresh), 1800)}, 4},
		"both":                        {[]string{mixed}, 8},
		"a line for each":             {strings.Split(mixed, "; "), 8},
		"quoted":                      {[]string{many(kittest.SessionCookie, `"`+forge(tokens.Session)+`"`, 1800)}, 4},
		"good ones":                   {[]string{many(kittest.SessionCookie, tokens.Session, 1800)}, 4},
		"in the Authorization header": {nil, 1},
	} {
		r := kittest.Get("/")
		r.Header["Cookie"] = tt.lines
		if tt.lines == nil {
			r.Header.Set("Cookie", mixed)
			kittest.WithBearer(r, forge(tokens.Session))
		}
		checks.Store(0)
		res := kittest.Serve(h.RequireSession(new(kittest.Spy)), r)
		if name == "good ones" {
			assert.Equal(t, http.StatusOK, res.StatusCode)
		} else {
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, name)
		}
		assert.LessOrEqual(t, checks.Load(), tt.most, name)
		assert.Positive(t, checks.Load(), "%s: nothing was counted", name)
	}
	assert.Zero(t, h.Project.Requests(kittest.RefreshPath))
	// The flows judge the same cookies.
	r := kittest.Get(kittest.MePath)
	r.Header.Set("Cookie", mixed)
	checks.Store(0)
	kittest.RequireProblem(t, kittest.Serve(h.Handler(), r), http.StatusUnauthorized, "no_refresh_token")
	assert.LessOrEqual(t, checks.Load(), int64(8))
}

// A slow client takes its own time, and not Descope's: the end of that counts as an
// outage, and stops everybody.
func TestSlowBodiesAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.SignUpPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})
		for i := range 6 {
			body := io.MultiReader(strings.NewReader(fmt.Sprintf(`{"loginId":"u%d"`, i)), kittest.Reader(func([]byte) (int, error) {
				kittest.Elapse(9 * time.Second)
				return 0, io.EOF
			}), strings.NewReader("}"))
			r := kittest.Post(kittest.SignUpPath, "")
			r.Body = io.NopCloser(body)
			assert.Equal(t, http.StatusOK, kittest.Serve(k.Handler(), r).StatusCode)
		}
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
	})
}

// Who hangs up in an outage says nothing about it.
func TestHangingUpDoesNotOpenTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.MePath, descopetest.Fault{Delay: time.Minute, Times: -1})
		for range 5 {
			r := kittest.Get(kittest.MePath)
			ctx, hangUp := context.WithCancel(r.Context())
			time.AfterFunc(time.Second, hangUp)
			b.Do(k.Handler(), r.WithContext(ctx))
			b.Do(k.Handler(), kittest.Get(kittest.MePath))
		}
		began := time.Now()
		b.Do(k.Handler(), kittest.Get(kittest.MePath))
		assert.Less(t, time.Since(began), time.Second, "fails fast")
	})
}

// panickingAttempts is an AttemptStore that its author has not finished.
type panickingAttempts struct{}

func (panickingAttempts) Add(context.Context, string, int, time.Duration) (int, time.Duration, error) {
	panic("secret of the store")
}

// A store that panics is one that is away.
func TestAttemptStoreThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = panickingAttempts{} })
		require.NoError(t, k.Ready(t.Context()))
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		assert.Contains(t, k.Logs.String(), "attempt store is not available")
		assert.NotContains(t, k.Logs.String(), "secret")
	})
}
