package descopehttp_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/netip"
	"strconv"
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
)

const (
	guessPath = "/v1/auth/totp/verify"
	enrolPath = "/v1/auth/totp/signup"
)

// from sets the address of the connection that a request comes over.
func from(network string, r *http.Request) *http.Request {
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(network), 4711).String()
	return r
}

// guess is a sign-in with a code from a network.
func guess(k *kit, network, loginID, code string) *http.Response {
	body, err := json.Marshal(map[string]string{"loginId": loginID, "code": code})
	if err != nil {
		panic(err)
	}
	return serve(k.Handler(), from(network, post(guessPath, string(body))))
}

// wrongCode returns a code that is not the one of now.
func wrongCode(k *kit, loginID string) string {
	if k.srv.HasUser(loginID) && k.srv.Code(loginID) == "000000" {
		return "111111"
	}
	return "000000"
}

// requireLimited checks that the answer is a 429 that says when to come back,
// and returns when.
func requireLimited(t testing.TB, res *http.Response) time.Duration {
	t.Helper()
	requireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
	require.Empty(t, res.Cookies())
	return time.Duration(seconds) * time.Second
}

func TestThousandWrongCodesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		const own, other = "192.0.2.7", "198.51.100.1"
		require.Equal(t, http.StatusOK, guess(k, own, ada, k.srv.Code(ada)).StatusCode)
		elapse(24 * time.Hour)

		k.srv.Reset()
		k.srv.Fail(guessPath, descopetest.Fault{Delay: time.Second, Times: -1})
		var wg sync.WaitGroup
		var refused, limited atomic.Int64
		for range 1000 {
			wg.Go(func() {
				res := guess(k, other, ada, wrongCode(k, ada))
				switch res.StatusCode {
				case http.StatusUnauthorized:
					refused.Add(1)
				case http.StatusTooManyRequests:
					limited.Add(1)
					assert.LessOrEqual(t, requireLimited(t, res), 10*time.Minute)
				default:
					assert.Fail(t, "unexpected", "status %d", res.StatusCode)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 10, refused.Load())
		assert.EqualValues(t, 990, limited.Load())
		assert.Equal(t, 10, k.srv.Requests(guessPath), "ten reach Descope")

		res := guess(k, own, ada, k.srv.Code(ada))
		assert.Equal(t, http.StatusOK, res.StatusCode, "the user is not locked out on a network of yesterday")

		// The window opens again when Retry-After said so, and not before.
		k.srv.Reset()
		wait := requireLimited(t, guess(k, other, ada, wrongCode(k, ada)))
		elapse(wait - 2*time.Second)
		requireLimited(t, guess(k, other, ada, wrongCode(k, ada)))
		elapse(2 * time.Second)
		requireProblem(t, guess(k, other, ada, wrongCode(k, ada)), http.StatusUnauthorized, "invalid_code")
		assert.Equal(t, 1, k.srv.Requests(guessPath))
	})
}

// From any number of strangers' networks together fifty a day go through, and
// none of it stops the user on a network of their own.
func TestFiftyGuessesADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, guess(k, own, ada, k.srv.Code(ada)).StatusCode)
		for day := range 3 {
			elapse(time.Minute) // a code works once
			k.srv.Reset()
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					for range 6 {
						guess(k, fmt.Sprintf("203.0.%d.%d", i/250, i%250+1), ada, wrongCode(k, ada))
					}
				})
			}
			wg.Wait()
			assert.Equal(t, 50, k.srv.Requests(guessPath), "day %d", day)
			wait := requireLimited(t, guess(k, "203.0.113.9", ada, k.srv.Code(ada)))
			assert.InDelta(t, 24*time.Hour, wait, float64(time.Minute))
			assert.Equal(t, http.StatusOK, guess(k, own, ada, k.srv.Code(ada)).StatusCode, "day %d", day)
			elapse(24*time.Hour - time.Minute)
		}
		// Another user is not concerned.
		k.srv.AddUser(descopetest.User{LoginID: "bob"})
		assert.Equal(t, http.StatusOK, guess(k, "203.0.113.9", "bob", k.srv.Code("bob")).StatusCode)
	})
}

// A network that the user once signed in from has ten guesses for itself, no more.
func TestKnownNetworkIsLimitedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, guess(k, own, ada, k.srv.Code(ada)).StatusCode)
		elapse(time.Minute)
		k.srv.Reset()
		for range 30 {
			guess(k, own, ada, wrongCode(k, ada))
		}
		assert.Equal(t, 10, k.srv.Requests(guessPath))
		// After 90 days without a sign-in it is a network like any other.
		elapse(91 * 24 * time.Hour)
		for i := range 60 {
			guess(k, fmt.Sprintf("203.0.113.%d", i+1), ada, wrongCode(k, ada))
		}
		requireLimited(t, guess(k, own, ada, k.srv.Code(ada)))
	})
}

// However a login id is spelled, the count is one.
func TestSpellingsShareACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		spellings := []string{
			ada, "ADA@example.com", "Ada@Example.COM", " " + ada, ada + "  ", "\u00a0" + ada + "\u3000",
			"\uff41\uff44\uff41@example.com", "ada\uff20example.com", "\u24d0da@example.com", "A\uff24a@EXAMPLE.com",
		}
		for i := range 40 {
			guess(k, "203.0.113.9", spellings[i%len(spellings)], "000000")
		}
		assert.Equal(t, 10, k.srv.Requests(guessPath))
		for _, spelling := range spellings {
			requireLimited(t, guess(k, "203.0.113.9", spelling, "000000"))
		}
		// Composed and decomposed are one, too; another name is another.
		k.srv.Reset()
		for i := range 20 {
			guess(k, "203.0.113.9", []string{"ren\u00e9", "rene\u0301"}[i%2], "000000")
		}
		assert.Equal(t, 10, k.srv.Requests(guessPath))
		guess(k, "203.0.113.9", "rene", "000000")
		assert.Equal(t, 11, k.srv.Requests(guessPath))
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
				k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = store })
				k.srv.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
				const network = "203.0.113.9"
				tries := 60
				if fault != nil {
					f := *fault
					if f.Times == 0 {
						f.Times = -1
					} else {
						tries = f.Times
					}
					k.srv.Fail(guessPath, f)
				}
				for range tries {
					res := guess(k, network, ada, k.srv.Code(ada))
					if fault == nil {
						require.Equal(t, http.StatusOK, res.StatusCode)
					} else {
						require.Contains(t, []int{429, 502, 504}, res.StatusCode)
					}
				}
				k.srv.Reset()
				elapse(2 * time.Minute)
				for range 20 {
					guess(k, network, ada, wrongCode(k, ada))
				}
				assert.Equal(t, 10, k.srv.Requests(guessPath), "all ten are left, and no more")
				if fault != nil {
					return
				}
				for i := range 200 {
					guess(k, fmt.Sprintf("198.51.100.%d", i+1), ada, wrongCode(k, ada))
				}
				assert.Equal(t, 10+50, k.srv.Requests(guessPath), "of the day, too")
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
			k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = attemptStore })
			k.srv.Fail(guessPath, descopetest.Fault{Delay: time.Second, Times: -1})
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					r := from("203.0.113.9", post(guessPath, `{"loginId":"`+ada+`","code":"000000"}`))
					ctx, cancel := contextWithTimeout(r, time.Millisecond)
					defer cancel()
					serve(k.Handler(), r.WithContext(ctx))
				})
			}
			wg.Wait()
			assert.Equal(t, 10, k.srv.Requests(guessPath))
			requireLimited(t, guess(k, "203.0.113.9", ada, "000000"))
		}
	})
}

// To whoever guesses, a user and nobody look alike: before the limit and beyond.
func TestUnknownUsersLookAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) {
			s.UnknownUser = descopetest.Failure{Status: 400, Code: "E062108", Description: "User not found"}
			s.WrongCode = descopetest.Failure{Status: 401, Code: "E061102", Description: "Invalid code"}
		})
		answer := func(loginID string) (int, http.Header, string) {
			res := guess(k, "203.0.113.9", loginID, wrongCode(k, loginID))
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			return res.StatusCode, res.Header, string(body)
		}
		for i := range 15 {
			status, header, body := answer(ada)
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
		k := newKit(t)
		b := signIn(k, ada)
		for range 30 {
			body := `{"loginId":"` + ada + `","code":"` + wrongCode(k, ada) + `","loginOptions":{"stepup":true}}`
			b.do(k.Handler(), from("203.0.113.9", post(guessPath, body)))
		}
		assert.Equal(t, 10, k.srv.Requests(guessPath))
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
		first := newKit(t, share)
		second := kitFor(t, first.srv, share)
		for i := range 40 {
			guess([]*kit{first, second}[i%2], "203.0.113.9", ada, "000000")
		}
		assert.Equal(t, 10, first.srv.Requests(guessPath), "for both replicas together")
		for key := range store.counts {
			assert.Len(t, key, 32, "a hash")
			assert.NotContains(t, key, "ada")
		}
		// What one replica knows of a network, the other does.
		require.Equal(t, http.StatusOK, guess(first, "192.0.2.7", ada, first.srv.Code(ada)).StatusCode)
		elapse(time.Minute)
		for i := range 60 {
			guess(first, fmt.Sprintf("198.51.100.%d", i+1), ada, "000000")
		}
		assert.Equal(t, http.StatusOK, guess(second, "192.0.2.7", ada, first.srv.Code(ada)).StatusCode)
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
				k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = store })
				store.set(tt.err, tt.delay)
				began := time.Now()
				for range 20 {
					guess(k, "203.0.113.9", ada, "000000")
				}
				assert.Equal(t, 10, k.srv.Requests(guessPath))
				assert.LessOrEqual(t, time.Since(began), 20*4*250*time.Millisecond)
				assert.Positive(t, store.calls)
				assert.Contains(t, k.logs.String(), "attempt store is not available")
				assert.NotContains(t, k.logs.String(), "secret")
				assert.LessOrEqual(t, strings.Count(k.logs.String(), "attempt store"), 2, "once a minute")
				store.set(nil, 0)
				require.Equal(t, http.StatusOK, guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode)
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
		k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = store })
		const network = "203.0.113.9"
		for range 10 {
			requireProblem(t, guess(k, network, ada, "000000"), http.StatusUnauthorized, "invalid_code")
		}
		requireLimited(t, guess(k, network, ada, "000000"))
		for range 5 {
			store.set(errors.New("away"), 0)
			k.srv.Fail(guessPath, descopetest.Fault{Status: 500, Delay: 2 * time.Second})
			done := make(chan int)
			go func() { done <- guess(k, network, ada, "000000").StatusCode }()
			elapse(time.Second)
			store.set(nil, 0)
			require.Equal(t, http.StatusBadGateway, <-done)
			requireLimited(t, guess(k, network, ada, "000000"))
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
				k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = store() })
				const network = "203.0.113.9"
				requireProblem(t, guess(k, network, ada, "000000"), http.StatusUnauthorized, "invalid_code")
				elapse(10*time.Minute - time.Second)
				k.srv.Fail(guessPath, descopetest.Fault{Status: 500, Delay: 3 * time.Second, Times: 9})
				var wg sync.WaitGroup
				for range 9 {
					wg.Go(func() { assert.Equal(t, http.StatusBadGateway, guess(k, network, ada, "000000").StatusCode) })
				}
				elapse(2 * time.Second)
				for range 10 {
					requireProblem(t, guess(k, network, ada, "000000"), http.StatusUnauthorized, "invalid_code")
				}
				wg.Wait()
				requireLimited(t, guess(k, network, ada, "000000"))
			})
		})
	}
}

// Only what Descope said no to stays counted. A call that ends before it, such as
// a step-up with a token that was logged out, is no guess: without this, one such
// token would fill the memory of counts at no cost.
func TestWhatDescopeNeverSawIsNoGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		thief := b.copied()
		require.Equal(t, http.StatusOK, b.do(k.Handler(), post("/v1/auth/logout", "{}")).StatusCode)
		k.srv.Reset()
		for range 100 {
			res := thief.copied().do(k.Handler(), from("203.0.113.9", post(guessPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`)))
			require.Equal(t, http.StatusUnauthorized, res.StatusCode)
		}
		require.Zero(t, k.srv.Requests(guessPath))
		for range 10 {
			requireProblem(t, guess(k, "203.0.113.9", "bob", "000000"), http.StatusUnauthorized, "invalid_code")
		}
		requireLimited(t, guess(k, "203.0.113.9", "bob", "000000"))
	})
}

// A right code that is somebody else's than the token beside it is a guess, too.
func TestCodeOfAnotherUserIsAGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.AddUser(descopetest.User{LoginID: "bob"})
		b := signIn(k, ada)
		tokens := k.srv.SignIn("bob")
		k.srv.Fail(guessPath, descopetest.Fault{Status: 200, Times: -1,
			Body: `{"sessionJwt":"` + tokens.Session + `","refreshJwt":"` + tokens.Refresh + `"}`})
		for range 10 {
			res := b.copied().do(k.Handler(), from("203.0.113.9", post(guessPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`)))
			requireProblem(t, res, http.StatusUnauthorized, "other_user")
		}
		requireLimited(t, b.copied().do(k.Handler(), from("203.0.113.9", post(guessPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`))))
	})
}

// A network that the user signed in from has fifty guesses a day as well, of its own.
func TestFiftyGuessesADayFromAKnownNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, guess(k, own, ada, k.srv.Code(ada)).StatusCode)
		elapse(time.Minute)
		k.srv.Reset()
		for range 24 * 6 {
			for range 11 {
				guess(k, own, ada, wrongCode(k, ada))
			}
			elapse(10*time.Minute - time.Second)
		}
		assert.Equal(t, 50, k.srv.Requests(guessPath))
		// Strangers have theirs, and the user theirs elsewhere.
		for i := range 60 {
			guess(k, fmt.Sprintf("203.0.113.%d", i+1), ada, wrongCode(k, ada))
		}
		assert.Equal(t, 100, k.srv.Requests(guessPath))
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
				k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = store() })
				const own = "192.0.2.7"
				for range 6 {
					require.Equal(t, http.StatusOK, guess(k, own, ada, k.srv.Code(ada)).StatusCode)
					elapse(89 * 24 * time.Hour)
					for i := range 60 {
						guess(k, fmt.Sprintf("203.0.113.%d", i+1), ada, wrongCode(k, ada))
					}
					requireLimited(t, guess(k, "198.51.100.1", ada, k.srv.Code(ada)))
				}
				elapse(91 * 24 * time.Hour)
				for i := range 60 {
					guess(k, fmt.Sprintf("203.0.113.%d", i+1), ada, wrongCode(k, ada))
				}
				requireLimited(t, guess(k, own, ada, k.srv.Code(ada)))
			})
		})
	}
}

// While the store is away, the replica that somebody signed in on knows their
// network.
func TestKnownNetworkWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCountingStore()
		k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = store })
		require.Equal(t, http.StatusOK, guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode)
		elapse(time.Minute)
		store.set(errors.New("away"), 0)
		for i := range 60 {
			guess(k, fmt.Sprintf("203.0.113.%d", i+1), ada, wrongCode(k, ada))
		}
		requireLimited(t, guess(k, "203.0.113.99", ada, k.srv.Code(ada)))
		assert.Equal(t, http.StatusOK, guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode)

		// A store that hangs holds a sign-in up for no longer than it must.
		elapse(time.Minute)
		store.set(nil, time.Hour)
		began := time.Now()
		assert.Equal(t, http.StatusOK, guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode)
		assert.Equal(t, time.Second, time.Since(began), "known, two counts, a sign-in")
		elapse(time.Minute)
		store.set(nil, 0)
		calls := store.calls
		assert.Equal(t, http.StatusOK, guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode)
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
				k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = store() })
				const network = "203.0.113.9"
				k.srv.Fail(guessPath, descopetest.Fault{Status: 500, Delay: 2 * time.Second, Times: 10})
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() { assert.Equal(t, http.StatusBadGateway, guess(k, network, ada, "000000").StatusCode) })
				}
				elapse(time.Second)
				for range 30 {
					requireLimited(t, guess(k, network, ada, "000000"))
				}
				wg.Wait()
				for range 10 {
					requireProblem(t, guess(k, network, ada, "000000"), http.StatusUnauthorized, "invalid_code")
				}
				requireLimited(t, guess(k, network, ada, "000000"))
			})
		})
	}
}

// A sign-up that was not sent to Descope, because strangers had used up the budget,
// is not counted.
func TestSignUpsThatWereNotSentAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		signUp := func(i int) *http.Response {
			return serve(k.Handler(), from("203.0.113.9", post(enrolPath, fmt.Sprintf(`{"loginId":"user%d"}`, i))))
		}
		for i := range 200 {
			guess(k, "198.51.100.1", fmt.Sprint("stranger", i), "000000")
		}
		for i := range 50 {
			requireLimited(t, signUp(i))
		}
		require.Zero(t, k.srv.Requests(enrolPath))
		elapse(10 * time.Second)
		for i := range 10 {
			require.Equal(t, http.StatusOK, signUp(i).StatusCode)
		}
		requireLimited(t, signUp(10))
		// One that Descope was asked for and did not answer may have come about.
		elapse(10 * time.Minute)
		k.srv.Fail(enrolPath, descopetest.Fault{Status: 500, Times: 10})
		for i := range 10 {
			require.Equal(t, http.StatusBadGateway, signUp(20+i).StatusCode)
		}
		requireLimited(t, signUp(30))
	})
}

func TestSignUpsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		n := 0
		signUp := func(network string) *http.Response {
			n++
			return serve(k.Handler(), from(network, post(enrolPath, fmt.Sprintf(`{"loginId":"user%d"}`, n))))
		}
		for range 10 {
			require.Equal(t, http.StatusOK, signUp("203.0.113.9").StatusCode)
		}
		wait := requireLimited(t, signUp("203.0.113.9"))
		assert.Equal(t, 10*time.Minute, wait)
		assert.Equal(t, 10, k.srv.Requests(enrolPath))
		assert.Equal(t, http.StatusOK, signUp("203.0.113.10").StatusCode)
		elapse(wait)
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
				k := newKit(t, func(c *descopehttp.Config) { c.ClientIP = tt.clientIP })
				for i := range 40 {
					r := post(guessPath, `{"loginId":"`+ada+`","code":"000000"}`)
					addr := []string{tt.a, tt.b}[i%2]
					if tt.clientIP != nil {
						r.Header.Set("X-Real-Ip", addr)
					} else {
						from(addr, r)
						// Anybody can write these, so by default nobody reads them.
						for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip"} {
							r.Header.Set(name, fmt.Sprintf("198.51.100.%d", i))
						}
					}
					serve(k.Handler(), r)
				}
				assert.Equal(t, map[bool]int{true: 10, false: 20}[tt.same], k.srv.Requests(guessPath))
			})
		})
	}
	t.Run("no address", func(t *testing.T) {
		k := newKit(t)
		for range 40 {
			r := post(guessPath, `{"loginId":"`+ada+`","code":"000000"}`)
			r.RemoteAddr = "@"
			serve(k.Handler(), r)
		}
		assert.Equal(t, 10, k.srv.Requests(guessPath))
	})
}

// When Descope asks for fewer calls, that class waits as long as it says, but not
// for longer than a minute.
func TestUpstreamLimitPausesForAMinuteAtMost(t *testing.T) {
	for retryAfter, pause := range map[string]time.Duration{"7": 7 * time.Second, "": 5 * time.Second, "86400": time.Minute, "-1": 5 * time.Second, "soon": 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			header := http.Header{}
			if retryAfter != "" {
				header.Set("Retry-After", retryAfter)
			}
			k.srv.Fail(guessPath, descopetest.Fault{Status: 429, Body: `{"errorCode":"E130429"}`, Header: header})
			requireLimited(t, guess(k, "203.0.113.9", ada, k.srv.Code(ada)))
			elapse(pause - time.Second)
			requireLimited(t, guess(k, "203.0.113.9", ada, k.srv.Code(ada)))
			assert.Equal(t, 1, k.srv.Requests(guessPath), "Retry-After %q", retryAfter)
			elapse(time.Second)
			assert.Equal(t, http.StatusOK, guess(k, "203.0.113.9", ada, k.srv.Code(ada)).StatusCode, "Retry-After %q", retryAfter)
		})
	}
}

// A 429 pauses the class whose call was answered with it and no other, whichever
// flow brought it about. What clients send while it lasts makes it no longer.
func TestUpstreamLimitPausesItsClassOnly(t *testing.T) {
	const pause = 30 * time.Second
	users := 0
	newcomer := func(k *kit) *browser { // whose tokens nothing is known of
		users++
		loginID := fmt.Sprint("user", users)
		k.srv.AddUser(descopetest.User{LoginID: loginID})
		return signIn(k, loginID)
	}
	session := func(k *kit) int {
		b := newcomer(k)
		b.session = ""
		return b.do(k.RequireSession(new(spy)), get("/")).StatusCode
	}
	account := func(k *kit) int {
		return newcomer(k).do(k.Handler(), get("/v1/auth/me")).StatusCode
	}
	anonymous := func(k *kit) int {
		return guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode
	}
	signUp := func(k *kit) int {
		return serve(k.Handler(), from("192.0.2.8", post(enrolPath, `{"loginId":"new@example.com"}`))).StatusCode
	}
	classes := map[string]struct {
		uses func(*kit) int
		busy int // what it answers in a pause
	}{
		"session": {session, 503}, "account": {account, 502}, "anonymous": {anonymous, 429},
	}
	for name, tt := range map[string]struct {
		path  string
		call  func(*kit) int
		class string
	}{
		"a code":    {guessPath, anonymous, "anonymous"},
		"a sign-up": {enrolPath, signUp, "anonymous"},
		"a step-up": {guessPath, func(k *kit) int {
			return newcomer(k).do(k.Handler(), post(guessPath, `{"loginId":"`+ada+`","code":"000000","loginOptions":{"stepup":true}}`)).StatusCode
		}, "anonymous"},
		"me": {"/v1/auth/me", account, "account"},
		"a tenant": {"/v1/auth/tenant/select", func(k *kit) int {
			return newcomer(k).do(k.Handler(), post("/v1/auth/tenant/select", `{"tenant":"T1"}`)).StatusCode
		}, "account"},
		"my tenants": {"/v1/auth/me/tenants", func(k *kit) int {
			return newcomer(k).do(k.Handler(), post("/v1/auth/me/tenants", `{"dct":true}`)).StatusCode
		}, "account"},
		"a refresh":        {refreshPath, session, "session"},
		"a logout":         {"/v1/auth/logout", func(k *kit) int { return newcomer(k).do(k.Handler(), post("/v1/auth/logout", "{}")).StatusCode }, "session"},
		"logout of all":    {"/v1/auth/logoutall", func(k *kit) int { return newcomer(k).do(k.Handler(), post("/v1/auth/logoutall", "{}")).StatusCode }, "session"},
		"an explicit call": {refreshPath, func(k *kit) int { return newcomer(k).do(k.Handler(), post(refreshPath, "{}")).StatusCode }, "session"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				k.srv.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
				require.NoError(t, k.Ready(t.Context()))
				k.srv.Fail(tt.path, descopetest.Fault{Status: 429, Body: `{"errorCode":"E130429"}`, Header: http.Header{"Retry-After": {"30"}}})
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
					elapse(5 * time.Second)
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
		h := newHostile(t)
		handler := h.RequireSession(new(spy))
		n := 0
		invented := func(network string) int {
			n++
			token := h.header(fmt.Sprintf(`{"alg":"RS256","kid":"SK%d"}`, n))
			return serve(handler, from(network, withBearer(get("/"), token))).StatusCode
		}
		require.NoError(t, h.Ready(t.Context()))
		elapse(time.Second)
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
		elapse(5 * time.Second)
		statuses := counts("203.0.113.9")
		assert.LessOrEqual(t, statuses[503], 8)
		assert.Equal(t, 50, statuses[503]+statuses[401])
		assert.Equal(t, 2, h.srv.Requests(keysPath))
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
	h := newHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = -1 })
	require.NoError(t, h.Ready(t.Context()))
	tokens := h.srv.SignIn(ada)
	forge := func(token string) string { return token[:len(token)-8] + "AAAAAAAA" }
	expired := h.with(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})
	many := func(name, value string, n int) string {
		return strings.TrimSuffix(strings.Repeat(name+"="+value+"; ", n), "; ")
	}
	mixed := many(sessionCookie, forge(tokens.Session), 900) + "; " + many(refreshCookie, forge(tokens.Refresh), 900)
	checks := countHashes(t)
	for name, tt := range map[string]struct {
		lines []string
		most  int64
	}{
		"forged sessions":             {[]string{many(sessionCookie, forge(tokens.Session), 1800)}, 4},
		"forged sessions, own kid":    {[]string{many(sessionCookie, forge(h.with(nil)), 1800)}, 4},
		"forged, expired":             {[]string{many(sessionCookie, forge(expired), 1800)}, 4},
		"expired":                     {[]string{many(sessionCookie, expired, 1800)}, 4},
		"forged refresh tokens":       {[]string{many(refreshCookie, forge(tokens.Refresh), 1800)}, 4},
		"both":                        {[]string{mixed}, 8},
		"a line for each":             {strings.Split(mixed, "; "), 8},
		"quoted":                      {[]string{many(sessionCookie, `"`+forge(tokens.Session)+`"`, 1800)}, 4},
		"good ones":                   {[]string{many(sessionCookie, tokens.Session, 1800)}, 4},
		"in the Authorization header": {nil, 1},
	} {
		r := get("/")
		r.Header["Cookie"] = tt.lines
		if tt.lines == nil {
			r.Header.Set("Cookie", mixed)
			withBearer(r, forge(tokens.Session))
		}
		checks.Store(0)
		res := serve(h.RequireSession(new(spy)), r)
		if name == "good ones" {
			assert.Equal(t, http.StatusOK, res.StatusCode)
		} else {
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, name)
		}
		assert.LessOrEqual(t, checks.Load(), tt.most, name)
		assert.Positive(t, checks.Load(), "%s: nothing was counted", name)
	}
	assert.Zero(t, h.srv.Requests(refreshPath))
	// The flows judge the same cookies.
	r := get("/v1/auth/me")
	r.Header.Set("Cookie", mixed)
	checks.Store(0)
	requireProblem(t, serve(h.Handler(), r), http.StatusUnauthorized, "no_refresh_token")
	assert.LessOrEqual(t, checks.Load(), int64(8))
}

// A slow client takes its own time, and not Descope's: the end of that counts as an
// outage, and stops everybody.
func TestSlowBodiesAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		require.NoError(t, k.Ready(t.Context()))
		k.srv.Fail(enrolPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})
		for i := range 6 {
			body := io.MultiReader(strings.NewReader(fmt.Sprintf(`{"loginId":"u%d"`, i)), readFunc(func([]byte) (int, error) {
				elapse(9 * time.Second)
				return 0, io.EOF
			}), strings.NewReader("}"))
			r := post(enrolPath, "")
			r.Body = io.NopCloser(body)
			assert.Equal(t, http.StatusOK, serve(k.Handler(), r).StatusCode)
		}
		assert.Equal(t, http.StatusOK, guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode)
	})
}

// Who hangs up in an outage says nothing about it.
func TestHangingUpDoesNotOpenTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		require.NoError(t, k.Ready(t.Context()))
		k.srv.Fail("/v1/auth/me", descopetest.Fault{Delay: time.Minute, Times: -1})
		for range 5 {
			r := get("/v1/auth/me")
			ctx, hangUp := context.WithCancel(r.Context())
			time.AfterFunc(time.Second, hangUp)
			b.do(k.Handler(), r.WithContext(ctx))
			b.do(k.Handler(), get("/v1/auth/me"))
		}
		began := time.Now()
		b.do(k.Handler(), get("/v1/auth/me"))
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
		k := newKit(t, func(c *descopehttp.Config) { c.AttemptStore = panickingAttempts{} })
		require.NoError(t, k.Ready(t.Context()))
		assert.Equal(t, http.StatusOK, guess(k, "192.0.2.7", ada, k.srv.Code(ada)).StatusCode)
		assert.Contains(t, k.logs.String(), "attempt store is not available")
		assert.NotContains(t, k.logs.String(), "secret")
	})
}
