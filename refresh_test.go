package descopehttp_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
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
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Rule: renewing: against parallel requests that spend a rotating refresh token twice, which
// signs the losers out: one call for each token at a time, for whoever waits, on one replica or
// on all that share a `RefreshStore`.
// Rule: renewing: one call for a token at a time, whoever waits.
func TestTwoHundredAtOnce(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 100 * time.Millisecond})
			h := k.RequireSession(new(kittest.Spy))
			var mu sync.Mutex
			sessions, refreshes := make(map[string]int), make(map[string]int)
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					kittest.Elapse(time.Duration(i) * time.Millisecond) // some during the call, some after it
					res := b.Copied().Do(h, kittest.Get("/"))
					assert.Equal(t, http.StatusOK, res.StatusCode)
					mu.Lock()
					defer mu.Unlock()
					for name, c := range kittest.CookiesOf(res) {
						map[string]map[string]int{kittest.SessionCookie: sessions, kittest.RefreshCookie: refreshes}[name][c.Value]++
					}
				})
			}
			wg.Wait()
			assert.Len(t, sessions, 1)
			if rotate {
				assert.Len(t, refreshes, 1)
			} else {
				assert.Empty(t, refreshes, "the refresh token has not changed")
			}
			assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		})
	}
}

// Rule: renewing: against a request that arrives after its token was spent: a spent token leads
// to its newest successor for a minute, here and on other replicas.
// Rule: renewing: a spent token leads to the newest successor, for a minute.
func TestLateRequestGetsTheSuccessor(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		for _, late := range []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second, 59 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				k, b := kittest.NewRotating(t)
				k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
				h := k.RequireSession(new(kittest.Spy))
				old := b.Copied()
				require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
				kittest.Elapse(late)
				require.Equal(t, http.StatusOK, old.Do(h, kittest.Get("/")).StatusCode, late)
				assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
				assert.Equal(t, b.Session, old.Session)
				assert.Equal(t, b.Refresh, old.Refresh)
			})
		}
	}
}

// R1 → R2 → R3, where R2 has been seen: whoever still has R2 gets R3, and whoever has R1 is
// served, and gets nothing newer.
//
// Rule: renewing: against a request that arrives after its token was spent: a spent token leads
// to its newest successor for a minute, here and on other replicas.
// Rule: renewing: a spent token leads to the newest successor, for a minute.
// Rule: renewing: what memory holds ends with its session and its key.
func TestLateRequestGetsTheNewestSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 20 * time.Second })
		h := k.RequireSession(new(kittest.Spy))
		first := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(30 * time.Second)
		second := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		require.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
		require.Equal(t, http.StatusOK, second.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, b.Refresh, second.Refresh)
		assert.Equal(t, b.Session, second.Session)
		res := first.Do(h, kittest.Get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode, "served")
		assert.Empty(t, res.Cookies(), "what is newer than R2, which has been seen, is for the holder of R2")
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
	})
}

// Once the successor has been seen in use, a late request is served without
// cookies: its answer must not overwrite newer ones, nor hand a thief the chain.
//
// Rule: renewing: against a thief of a spent token: no cookies once the successor has been seen
// in use; a step-up never comes from memory; after the minute the token is refused from memory,
// and Descope, which may end a sign-in for it, is not asked.
// Rule: renewing: no cookies once the successor was presented, by session or refresh token.
func TestPresentedSuccessorIsNotHandedOutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		next := new(kittest.Spy)
		h := k.RequireSession(next)
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(5 * time.Second)

		res := kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), old.Session, old.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
		requireUncached(t, res)
		seen := next.Last()
		assert.Equal(t, kittest.SessionCookie+"="+b.Session, seen.Header.Get("Cookie"), "the handler sees the session and no refresh token")

		res = kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, "{}"), old.Session, old.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
		requireUncached(t, res)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// requireUncached checks that no handler could have taken away what keeps an answer out of
// caches.
func requireUncached(t *testing.T, res *http.Response) {
	t.Helper()
	for _, name := range []string{"cache-control", "cdn-cache-control", "surrogate-control"} {
		require.Equal(t, []string{"no-store"}, res.Header[name])
	}
}

// Or by another flow than a refresh.
//
// Rule: renewing: no cookies once the successor was presented, by session or refresh token.
func TestPresentedRefreshTokenInAnotherFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		kittest.Elapse(time.Second)
		without := &kittest.Browser{Refresh: b.Refresh}
		require.Equal(t, http.StatusOK, without.Do(k.Handler(), kittest.Get(kittest.MePath)).StatusCode)
		res := old.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}

// The same for a call that may mint tokens: a thief of the old token is not handed the
// new one by way of it.
//
// Rule: renewing: no cookies once the successor was presented, by session or refresh token.
func TestPresentedSuccessorIsNotHandedOutByAMintingCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(kittest.Rotating)
		k.Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := kittest.SignIn(k, "eve")
		kittest.Elapse(kittest.Past)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(kittest.Spy))
		thief := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		res := thief.Do(k.Handler(), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`))
		kittest.RequireProblem(t, res, http.StatusConflict, "stale_token")
		assert.Empty(t, res.Cookies())
		assert.Zero(t, k.Project.Requests(kittest.SelectPath), "nothing is spent for who has been overtaken")
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		assert.True(t, k.Project.Honours(b.Refresh), "its owner goes on")
	})
}

// A client that keeps no session token, or sends none to a flow, shows by the refresh
// token that it has the answer.
//
// Rule: renewing: no cookies once the successor was presented, by session or refresh token.
func TestPresentedRefreshTokenIsNotHandedOutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		h := k.RequireSession(new(kittest.Spy))
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(10 * time.Second)
		without := &kittest.Browser{Refresh: b.Refresh}
		require.Equal(t, http.StatusOK, without.Do(h, kittest.Get("/")).StatusCode)
		res := old.Do(h, kittest.Get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}

// A successor that nobody has presented may never have arrived. It is kept for
// as long as its session lives.
//
// Rule: renewing: against a client that hangs up during its renewal, or an answer that is lost
// on the way to it: the call goes on, and what nobody has presented is kept as long as its
// session lives.
// Rule: renewing: a successor that nobody has presented is kept as long as its session lives,
// and a minute after it was handed out or spent.
func TestUnpresentedSuccessorIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		h := k.RequireSession(new(kittest.Spy))
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(9 * time.Minute)
		assert.Equal(t, http.StatusOK, old.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, b.Refresh, old.Refresh)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// When a client that missed the answer is handed it late, its other requests with
// the old token may still be on their way, and the session may end meanwhile.
//
// Rule: renewing: against a client that hangs up during its renewal, or an answer that is lost
// on the way to it: the call goes on, and what nobody has presented is kept as long as its
// session lives.
// Rule: renewing: a successor that nobody has presented is kept as long as its session lives,
// and a minute after it was handed out or spent.
func TestSuccessorHandedOutLateIsKeptAnotherMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		h := k.RequireSession(new(kittest.Spy))
		old, lost := b.Copied(), b.Copied()
		require.Equal(t, http.StatusOK, lost.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(9*time.Minute + 55*time.Second)
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(20 * time.Second)
		assert.Equal(t, http.StatusOK, old.Do(k.Handler(), kittest.Get(kittest.MePath)).StatusCode)
		assert.Equal(t, http.StatusOK, old.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
	})
}

// The same when what comes of the successor arrives after the last moment for which it
// was kept. Times in tokens are whole seconds, so its session ends a little earlier.
//
// Rule: renewing: a successor that nobody has presented is kept as long as its session lives,
// and a minute after it was handed out or spent.
func TestSuccessorIsSpentAtTheEndOfItsLife(t *testing.T) {
	const life = 10 * time.Minute
	for _, late := range []time.Duration{3 * time.Second, 59 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.Leeway = -1 })
			h := k.RequireSession(new(kittest.Spy))
			old, lost := b.Copied(), b.Copied()
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 700 * time.Millisecond})
			require.Equal(t, http.StatusOK, lost.Do(h, kittest.Get("/")).StatusCode)
			kittest.Elapse(life - 400*time.Millisecond)
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 4 * time.Second})
			require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
			kittest.Elapse(late)
			assert.Equal(t, http.StatusOK, old.Do(h, kittest.Get("/")).StatusCode)
			assert.Equal(t, b.Refresh, old.Refresh)
			assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
		})
	}
}

// After the window Descope decides, and its first refusal keeps the cookies.
//
// Rule: renewing: against a thief of a spent token: no cookies once the successor has been seen
// in use; a step-up never comes from memory; after the minute the token is refused from memory,
// and Descope, which may end a sign-in for it, is not asked.
// Rule: renewing: a spent token leads to the newest successor, for a minute.
func TestSpentTokenAfterItsMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		h := k.RequireSession(new(kittest.Spy))
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(61 * time.Second)
		res := old.Do(h, kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath), "Descope, which may end the sign-in for it, is not asked")
	})
}

// Without rotation the token stays good, and after the window it is refreshed
// again.
//
// Rule: renewing: an unrotated token ends the way.
func TestUnrotatedTokenIsRefreshedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		h := k.RequireSession(new(kittest.Spy))
		for i := range 4 {
			kittest.Elapse(kittest.Past)
			require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
			require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
			assert.Equal(t, i+1, k.Project.Requests(kittest.RefreshPath))
		}
	})
}

// Descope's answer is kept before it is verified: a key that is not there yet, a
// key endpoint that is away or a wrong clock delays it, and nothing is spent
// twice.
//
// Rule: renewing: against an answer of Descope that cannot be verified yet (its key is not
// published, the key endpoint is away, the clock is wrong): it is kept before it is verified,
// and verified again with the next request; nothing is spent twice.
// Rule: renewing: an answer is remembered before it is verified, and shared.
func TestAnswerIsKeptBeforeItIsVerified(t *testing.T) {
	for name, trouble := range map[string]func(k *kittest.Kit){
		"key appears late": func(k *kittest.Kit) {
			k.Project.Configure(func(s *descopetest.Settings) { s.KeyDelay = 8 * time.Second })
			k.Project.RotateKeys()
		},
		"key endpoint away": func(k *kittest.Kit) {
			k.Project.RotateKeys()
			k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
		},
		"key endpoint slow": func(k *kittest.Kit) {
			k.Project.RotateKeys()
			k.Project.Fail(kittest.KeysPath, descopetest.Fault{Delay: 6 * time.Second, Times: -1})
		},
		"clock behind": func(k *kittest.Kit) {
			k.Project.Configure(func(s *descopetest.Settings) {
				s.EditClaims = func(kind string, claims map[string]any) {
					claims["nbf"] = time.Now().Add(20 * time.Second).Unix()
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, b := kittest.NewRotating(t)
				kittest.Elapse(10 * time.Second)
				trouble(k)
				h := k.RequireSession(new(kittest.Spy))
				old := b.Copied()
				res := b.Do(h, kittest.Get("/"))
				kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
				assert.Empty(t, res.Cookies())
				assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
				k.Project.Reset()
				kittest.Elapse(30 * time.Second)
				assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
				assert.Equal(t, http.StatusOK, old.Do(h, kittest.Get("/")).StatusCode)
				assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
				assert.Equal(t, b.Refresh, old.Refresh)
			})
		})
	}
}

// The session in an answer may expire before its key is to be had. The refresh
// token beside it is good all the same, and the next refresh goes on from there.
//
// Rule: renewing: against an answer of Descope that cannot be verified yet (its key is not
// published, the key endpoint is away, the clock is wrong): it is kept before it is verified,
// and verified again with the next request; nothing is spent twice.
// Rule: renewing: an answer is remembered before it is verified, and shared.
func TestAnswerThatExpiresBeforeItIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 20 * time.Second })
		kittest.Elapse(10 * time.Second)
		k.Project.RotateKeys()
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
		h := k.RequireSession(new(kittest.Spy))
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		k.Project.Reset()
		kittest.Elapse(40 * time.Second)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		assert.True(t, k.Project.Honours(b.Refresh))
	})
}

// Without rotation nothing was spent for an answer whose key never comes. When its
// session has expired, another one is asked for.
//
// Rule: renewing: an answer that nobody can verify is given up with its session, if nothing was
// spent.
func TestAnswerThatIsNeverVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.KeyDelay = 20*time.Second, time.Hour })
		b := kittest.SignIn(k, kittest.Ada)
		kittest.Elapse(kittest.Past)
		k.Project.RotateKeys()
		h := k.RequireSession(new(kittest.Spy))
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		k.Project.Configure(func(s *descopetest.Settings) { s.KeyDelay = 0 })
		k.Project.RotateKeys()
		kittest.Elapse(15 * time.Second)
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath), "the session may still be good")
		kittest.Elapse(10 * time.Second)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
	})
}

// A key that signs Descope's answer a moment after the set was fetched is worth
// waiting for the next fetch.
//
// Rule: renewing: against an answer of Descope that cannot be verified yet (its key is not
// published, the key endpoint is away, the clock is wrong): it is kept before it is verified,
// and verified again with the next request; nothing is spent twice.
// Rule: renewing: a kid in Descope's own answer may be fetched past the interval.
func TestKeyRotatedJustAfterAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.RotateKeys()
		kittest.Elapse(time.Millisecond)
		began := time.Now()
		assert.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.LessOrEqual(t, time.Since(began), time.Second)
		assert.Equal(t, 2, k.Project.Requests(kittest.KeysPath))
	})
}

// With a clock far ahead every session seems expired. That is no reason to spend
// one refresh token after another.
//
// Rule: renewing: against an answer of Descope that cannot be verified yet (its key is not
// published, the key endpoint is away, the clock is wrong): it is kept before it is verified,
// and verified again with the next request; nothing is spent twice.
func TestClockFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Configure(func(s *descopetest.Settings) {
			s.EditClaims = func(kind string, claims map[string]any) {
				if kind == "DS" {
					claims["iat"] = time.Now().Add(-time.Hour).Unix()
					claims["exp"] = time.Now().Add(-50 * time.Minute).Unix()
				}
			}
		})
		h := k.RequireSession(new(kittest.Spy))
		for range 9 {
			kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
			kittest.Elapse(time.Minute)
		}
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		assert.Contains(t, k.Logs.String(), "is the clock right")
	})
}

// Descope spends the token, and its answer is lost on the wire. There is no
// blind retry; the cookies stay, and what comes next is Descope's to say: with
// rotation it refuses the spent token, without it all is well.
//
// Rule: renewing: against an answer that is lost between Descope and here: no call is repeated
// blindly; 503 and the cookies stay.
func TestLostAnswer(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, After: true})
			h := k.RequireSession(new(kittest.Spy))
			res := b.Do(h, kittest.Get("/"))
			kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.Empty(t, res.Cookies())
			assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
			kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
			assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath), "a page that polls does not ask each time")
			kittest.Elapse(time.Second)
			res = b.Do(h, kittest.Get("/"))
			assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
			if !rotate {
				assert.Equal(t, http.StatusOK, res.StatusCode)
				return
			}
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		})
	}
}

// The first refusal keeps the cookies, the second one ten seconds later deletes
// them, and Descope is not asked again in between.
//
// Rule: renewing: against the deletion of a dead cookie that wipes a newer sign-in in another
// tab: the first refusal keeps the cookies, and one ten seconds later deletes them.
// Rule: renewing: Descope's E064001 is final at once; E061005 is asked about again ten seconds
// later, in flows as a 502 with Retry-After until then; only what is final deletes cookies, and
// it is remembered for a minute.
func TestRefusalIsConfirmedBeforeCookiesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`, Times: -1})
		h := k.RequireSession(new(kittest.Spy))
		for _, wait := range []time.Duration{0, time.Second, 8 * time.Second} {
			kittest.Elapse(wait)
			res := b.Do(h, kittest.Get("/"))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "refresh_refused")
			assert.Empty(t, res.Cookies())
		}
		kittest.Elapse(time.Second)
		assert.Empty(t, kittest.Serve(k.LoadSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), b.Session, b.Refresh)).Cookies(), "LoadSession deletes nothing")
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusUnauthorized, "session_ended")
		assert.Empty(t, b.Session)
		assert.Empty(t, b.Refresh)
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath), "ten seconds apart")
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusUnauthorized, "no_session")
	})
}

// A polls with a dead cookie while B signs in; A's refusal arrives last. The
// cookies of the new sign-in are still there.
//
// Rule: renewing: against the deletion of a dead cookie that wipes a newer sign-in in another
// tab: the first refusal keeps the cookies, and one ten seconds later deletes them.
// Rule: renewing: Descope's E064001 is final at once; E061005 is asked about again ten seconds
// later, in flows as a 502 with Retry-After until then; only what is final deletes cookies, and
// it is remembered for a minute.
func TestLateRefusalKeepsANewerSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 3 * time.Second, Status: 401, Body: `{"errorCode":"E061005"}`})
		h := k.RequireSession(new(kittest.Spy))
		polled := make(chan *http.Response)
		stale := b.Copied()
		go func() {
			polled <- kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), stale.Session, stale.Refresh))
		}()
		kittest.Elapse(time.Second)
		res := b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
		require.Equal(t, http.StatusOK, res.StatusCode)
		signedIn := b.Copied()
		late := <-polled
		kittest.RequireProblem(t, late, http.StatusUnauthorized, "refresh_refused")
		b.Keep(late)
		assert.Equal(t, signedIn.Refresh, b.Refresh)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
	})
}

// Nothing but a known code in Descope's own JSON deletes cookies, however often
// it comes; when it is mended, everybody is in again.
//
// Rule: renewing: against a changed management key, a proxy's page or an unknown error code
// that signs everybody out: only codes known to end a session do, and others of Descope's that
// do not speak of the request once another call is answered.
// Rule: renewing: a 200 without a session is "cannot tell".
// Rule: renewing: only known codes end a session, and other codes of Descope that do not speak
// of the request once another call is answered; what each answer comes to stands in
// internal/descope/testdata/answers.txt; the rest is logged once a minute.
func TestOtherRefusalsNeverDelete(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"403 HTML":     {Status: 403, Body: "<html>"},
		"404":          {Status: 404, Body: `{"errorCode":"E011001"}`},
		"E061004":      {Status: 401, Body: `{"errorCode":"E061004"}`},
		"400":          {Status: 400, Body: `{"errorCode":"E011003"}`},
		"200 {}":       {Status: 200, Body: `{}`},
		"unknown code": {Status: 401, Body: `{"errorCode":"E069999"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, b := kittest.NewRotating(t)
				fault.Times = -1
				k.Project.Fail(kittest.RefreshPath, fault)
				h := k.RequireSession(new(kittest.Spy))
				for range 10 {
					res := b.Do(h, kittest.Get("/"))
					assert.Contains(t, []int{401, 503}, res.StatusCode)
					assert.Empty(t, res.Cookies())
					kittest.Elapse(7 * time.Second)
				}
				assert.NotContains(t, k.Logs.String(), "is the clock right", "an operator is not led astray")
				k.Project.Reset()
				kittest.Elapse(30 * time.Second) // until Descope is asked again
				assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
			})
		})
	}
}

// Without keys an answer could not be judged, and the refresh token would be spent for
// it.
//
// Rule: renewing: no refresh is begun without keys.
func TestNoRefreshWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(kittest.Rotating)
		b := kittest.SignIn(k, kittest.Ada)
		kittest.Elapse(kittest.Past)
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
		h := k.RequireSession(new(kittest.Spy))
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		kittest.RequireProblem(t, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")), http.StatusBadGateway, "unavailable")
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
		k.Project.Reset()
		kittest.Elapse(5 * time.Second)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
	})
}

// Rule: renewing: against a changed management key, a proxy's page or an unknown error code
// that signs everybody out: only codes known to end a session do, and others of Descope's that
// do not speak of the request once another call is answered.
// Rule: renewing: only known codes end a session, and other codes of Descope that do not speak
// of the request once another call is answered; what each answer comes to stands in
// internal/descope/testdata/answers.txt; the rest is logged once a minute.
func TestOddRefusalIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`, Times: -1})
		h := k.RequireSession(new(kittest.Spy))
		for range 30 {
			b.Do(h, kittest.Get("/"))
			kittest.Elapse(3 * time.Second)
		}
		assert.Equal(t, 2, strings.Count(k.Logs.String(), "level=ERROR"))
	})
}

// A refresh token that was issued a moment ago and comes without a session gets
// the session it came with: a browser that cannot keep a large session cookie
// must not refresh on every request.
//
// Rule: renewing: a new refresh token without a session gets the session it came with, for a
// minute.
func TestFreshRefreshTokenWithoutSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		h := k.RequireSession(new(kittest.Spy))
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		for range 5 {
			kittest.Elapse(10 * time.Second)
			res := kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), "", b.Refresh))
			require.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, b.Session, kittest.CookiesOf(res)[kittest.SessionCookie].Value)
			assert.NotContains(t, kittest.CookiesOf(res), kittest.RefreshCookie)
		}
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		kittest.Elapse(61 * time.Second)
		require.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), "", b.Refresh)).StatusCode)
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
	})
}

// A client that asks for a refresh in so many words gets one.
//
// Rule: renewing: an unrotated token ends the way.
// Rule: renewing: whoever asks for a refresh in so many words gets a new one while their token
// is in force, one a second.
func TestExplicitRefreshIsNotServedFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		for i := range 3 {
			kittest.Elapse(2 * time.Second)
			before := b.Session
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
			assert.NotEqual(t, before, b.Session)
			assert.Equal(t, i+1, k.Project.Requests(kittest.RefreshPath))
		}
	})
}

// A refresh outlives the client that it was begun for, and Wait waits for it.
//
// Rule: renewing: a refresh outlives the request it was begun for; each waiter leaves on its
// own.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 2 * time.Second})
		r := kittest.Get("/")
		gone, cancel := context.WithTimeout(r.Context(), time.Millisecond)
		defer cancel()
		old := b.Copied()
		b.Do(k.RequireSession(new(kittest.Spy)), r.WithContext(gone))
		began := time.Now()
		impatient, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, k.Wait(impatient), context.DeadlineExceeded)
		require.NoError(t, k.Wait(t.Context()))
		assert.Equal(t, 2*time.Second, time.Since(began).Round(100*time.Millisecond))
		assert.Equal(t, http.StatusOK, old.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// Mounted refresh and try-refresh share a call under way with the middleware.
//
// Rule: renewing: against parallel requests that spend a rotating refresh token twice, which
// signs the losers out: one call for each token at a time, for whoever waits, on one replica or
// on all that share a `RefreshStore`.
// Rule: renewing: one call for a token at a time, whoever waits.
func TestHandlersShareTheFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second})
		app := k.RequireSession(new(kittest.Spy))
		var wg sync.WaitGroup
		for _, do := range []func() *http.Response{
			func() *http.Response { return b.Copied().Do(app, kittest.Get("/")) },
			func() *http.Response { return b.Copied().Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")) },
			func() *http.Response { return b.Copied().Do(k.Handler(), kittest.Post(kittest.TryRefreshPath, "{}")) },
			func() *http.Response { return b.Copied().Do(k.Handler(), kittest.Get(kittest.MePath)) },
		} {
			wg.Go(func() { assert.Equal(t, http.StatusOK, do().StatusCode) })
		}
		wg.Wait()
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		assert.Zero(t, k.Project.Requests(kittest.TryRefreshPath))
	})
}

// Every other call that carries a refresh token uses the newest.
//
// Rule: renewing: calls that spend nothing wait for what is under way and follow the successor,
// refused ones too.
func TestEveryCallFollowsTheSuccessor(t *testing.T) {
	for name, request := range map[string]func(k *kittest.Kit) *http.Request{
		"me":      func(*kittest.Kit) *http.Request { return kittest.Get(kittest.MePath) },
		"history": func(*kittest.Kit) *http.Request { return kittest.Get(kittest.HistoryPath) },
		"tenants": func(*kittest.Kit) *http.Request { return kittest.Post(kittest.TenantsPath, `{"dct":true}`) },
		"update": func(*kittest.Kit) *http.Request {
			return kittest.Post(kittest.UpdatePath, `{"loginId":"`+kittest.Ada+`"}`)
		},
		"select": func(*kittest.Kit) *http.Request { return kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`) },
		"step-up": func(k *kittest.Kit) *http.Request {
			return kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`","loginOptions":{"stepup":true}}`)
		},
		"refresh": func(*kittest.Kit) *http.Request { return kittest.Post(kittest.RefreshPath, "{}") },
	} {
		for _, during := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				k.Project.Configure(kittest.Rotating)
				k.Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
				k.Project.RotateKeys()
				b := kittest.SignIn(k, kittest.Ada)
				if name == "select" {
					b = kittest.SignIn(k, "eve")
				}
				kittest.Elapse(kittest.Past)
				require.NoError(t, k.Ready(t.Context()))
				old := b.Copied()
				k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second})
				var wg sync.WaitGroup
				wg.Go(func() {
					assert.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
				})
				if during {
					kittest.Elapse(100 * time.Millisecond)
				} else {
					wg.Wait()
				}
				res := old.Do(k.Handler(), request(k))
				wg.Wait()
				assert.Equal(t, http.StatusOK, res.StatusCode, "%s, during %v", name, during)
				assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
			})
		}
	}
}

// What may mint tokens runs alone: two of them would spend one token twice. Whoever
// waited for one looks again before it begins.
//
// Rule: renewing: one call for a token at a time, whoever waits.
func TestMintingCallsRunOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(kittest.Rotating)
		k.Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}, "T2": {}}})
		b := kittest.SignIn(k, "eve")
		kittest.Elapse(kittest.Past)
		require.NoError(t, k.Ready(t.Context()))
		var at atomic.Int64
		counting := kittest.For(t, k.Project, func(c *descopehttp.Config) {
			inner := c.HTTPClient.Transport
			c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPost {
					assert.EqualValues(t, 1, at.Add(1), "another call is under way")
					defer at.Add(-1)
				}
				return inner.RoundTrip(r)
			})}
		})
		require.NoError(t, counting.Ready(t.Context()))
		for _, path := range []string{kittest.RefreshPath, kittest.SelectPath} {
			k.Project.Fail(path, descopetest.Fault{Delay: 500 * time.Millisecond, Times: -1})
		}
		var wg sync.WaitGroup
		for _, r := range []*http.Request{
			kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`), kittest.Post(kittest.RefreshPath, "{}"), kittest.Post(kittest.SelectPath, `{"tenant":"T2"}`), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`),
		} {
			wg.Go(func() { assert.Equal(t, http.StatusOK, b.Copied().Do(counting.Handler(), r).StatusCode) })
		}
		wg.Wait()
		assert.Equal(t, 3, k.Project.Requests(kittest.SelectPath))
	})
}

// What was spent for an answer that cannot be verified yet is not presented, whatever
// is asked: Descope might end the whole sign-in for it.
//
// Rule: renewing: what is known to be spent is not presented: after any number of successors,
// or for an answer that is not verified yet.
func TestUnverifiedSuccessorAndOtherCalls(t *testing.T) {
	for name, request := range map[string]func(k *kittest.Kit) *http.Request{
		"select": func(*kittest.Kit) *http.Request { return kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`) },
		"step-up": func(k *kittest.Kit) *http.Request {
			return kittest.Post(kittest.VerifyPath, `{"loginId":"eve","code":"`+k.Project.Code("eve")+`","loginOptions":{"stepup":true}}`)
		},
		"me": func(*kittest.Kit) *http.Request { return kittest.Get(kittest.MePath) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				k.Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
				k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.ReuseRevokesFamily = true, true })
				b := kittest.SignIn(k, "eve")
				kittest.Elapse(kittest.Past)
				require.NoError(t, k.Ready(t.Context()))
				kittest.Elapse(10 * time.Second)
				k.Project.RotateKeys()
				k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
				h := k.RequireSession(new(kittest.Spy))
				kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
				kittest.RequireProblem(t, b.Copied().Do(k.Handler(), request(k)), http.StatusBadGateway, "unavailable")
				k.Project.Reset()
				kittest.Elapse(30 * time.Second)
				assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
				assert.True(t, k.Project.Honours(b.Refresh))
			})
		})
	}
}

// Tokens have whole seconds. Whoever asks for a refresh again and again gets one a
// second, and does not use up everybody's calls.
//
// Rule: renewing: whoever asks for a refresh in so many words gets a new one while their token
// is in force, one a second.
func TestExplicitRefreshOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		for range 100 {
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		}
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		kittest.Elapse(time.Second)
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
	})
}

// More calls at once than successors are followed: what is known to be spent is not
// presented, for which Descope might end the whole sign-in.
//
// Rule: renewing: what is known to be spent is not presented: after any number of successors,
// or for an answer that is not verified yet.
func TestManyMintingCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Limits.AccountCalls = 100 })
		k.Project.Configure(kittest.Rotating)
		k.Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := kittest.SignIn(k, "eve")
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.SelectPath, descopetest.Fault{Delay: 50 * time.Millisecond, Times: -1})
		var mu sync.Mutex
		got := make(map[int]int)
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				res := b.Copied().Do(k.Handler(), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`))
				mu.Lock()
				defer mu.Unlock()
				got[res.StatusCode]++
			})
		}
		wg.Wait()
		assert.Equal(t, map[int]int{http.StatusOK: 40}, got)
		assert.Equal(t, 40, k.Project.Requests(kittest.SelectPath))
	})
}

// A call that Descope refuses, because its token was spent meanwhile, goes on from
// there and does not begin anew.
//
// Rule: renewing: what is known to be spent is not presented: after any number of successors,
// or for an answer that is not verified yet.
func TestCallAfterManyRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(kittest.Rotating)
		b := kittest.SignIn(k, kittest.Ada)
		old := b.Copied()
		for range 200 {
			kittest.Elapse(time.Second)
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		}
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		kittest.RequireOK(t, late.Do(k.Handler(), kittest.Get(kittest.MePath)))
		kittest.RequireProblem(t, old.Do(k.Handler(), kittest.Get(kittest.MePath)), http.StatusUnauthorized, "session_ended")
		assert.Equal(t, 1, k.Project.Requests(kittest.MePath), "with the newest token")
	})
}

// A step-up is for the request that asked for it, never from memory.
//
// Rule: renewing: against a thief of a spent token: no cookies once the successor has been seen
// in use; a step-up never comes from memory; after the minute the token is refused from memory,
// and Descope, which may end a sign-in for it, is not asked.
// Rule: renewing: the tokens of a second factor are not remembered for others.
func TestStepUpNeverComesFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(kittest.Rotating)
		b := kittest.SignIn(k, kittest.Ada)
		old := b.Copied()
		res := b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`","loginOptions":{"stepup":true}}`))
		require.Equal(t, http.StatusOK, res.StatusCode)
		s, err := k.VerifyToken(t.Context(), b.Session)
		require.NoError(t, err)
		require.True(t, s.StepUp())

		for _, other := range []*kittest.Browser{{Refresh: old.Refresh}, {Refresh: b.Refresh}} {
			next := new(kittest.Spy)
			require.Equal(t, http.StatusOK, other.Do(k.RequireSession(next), kittest.Get("/")).StatusCode)
			s, ok := descopehttp.SessionFromContext(next.Last().Context())
			require.True(t, ok)
			assert.False(t, s.StepUp())
		}
	})
}

// Rule: renewing: against a refresh under way that brings back a session that was logged out: a
// logout is remembered under its token, waits for the refresh under way and revokes what that
// brought, here and on other replicas.
// Rule: logout: a tombstone under the token and all that came of it.
// Rule: logout: a refresh under way is waited for, hands out nothing, and revokes what it
// brought; if it cannot, the logout says so; a logout is done though its client hangs up, and
// twice is as good as once; a logout is not held up by the budget for unknown tokens if the
// token is known here; a sign-in takes its token out of what was logged out; a logout ends the
// token it came with, and what a step-up or a tenant's session brought beside it, however many
// successors lie between; a logout that is done needs no second call.
func TestLogoutWins(t *testing.T) {
	t.Run("before a refresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			old := b.Copied()
			assert.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
			assert.Empty(t, b.Refresh)
			kittest.RequireLoggedOut(t, k, old.Refresh)
			assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
		})
	})
	t.Run("during a refresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			var brought string
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second})
			old := b.Copied()
			var wg sync.WaitGroup
			wg.Go(func() {
				res := kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), old.Session, old.Refresh))
				assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
				for _, c := range res.Cookies() {
					brought += c.Value
				}
			})
			kittest.Elapse(500 * time.Millisecond)
			assert.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
			wg.Wait()
			assert.Empty(t, brought)
			kittest.RequireLoggedOut(t, k, old.Refresh)
			assert.Equal(t, 2, k.Project.Requests(kittest.LogoutPath), "the flight revokes what it brought")
		})
	})
	t.Run("after a refresh, with the new token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			old := b.Copied()
			require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
			renewed := b.Copied()
			assert.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
			kittest.RequireLoggedOut(t, k, old.Refresh, renewed.Refresh)
		})
	})
	t.Run("after a refresh, with the old token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			old := b.Copied()
			require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
			renewed := b.Copied()
			assert.Equal(t, http.StatusOK, kittest.Logout(k, old.Copied()).StatusCode)
			kittest.RequireLoggedOut(t, k, old.Refresh, renewed.Refresh)
		})
	})
	t.Run("twice, and without a session", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			old := b.Copied()
			for _, b := range []*kittest.Browser{b, old, {}} {
				res := kittest.Logout(k, b)
				assert.Equal(t, http.StatusOK, res.StatusCode)
				assert.Len(t, res.Cookies(), 2)
			}
		})
	})
	t.Run("though the client hangs up", func(t *testing.T) {
		for _, path := range []string{kittest.LogoutPath, kittest.LogoutAllPath} {
			synctest.Test(t, func(t *testing.T) {
				k, b := kittest.NewRotating(t)
				k.Project.Fail(path, descopetest.Fault{Delay: time.Second})
				r := kittest.WithCookies(kittest.Post(path, "{}"), b.Session, b.Refresh)
				ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
				defer cancel()
				kittest.Serve(k.Handler(), r.WithContext(ctx))
				kittest.RequireLoggedOut(t, k, b.Refresh)
			})
		}
	})
	t.Run("during a refresh, and Descope does not hear of it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second})
			k.Project.Fail(kittest.LogoutPath, descopetest.Fault{Status: 503})
			var wg sync.WaitGroup
			wg.Go(func() {
				res := b.Copied().Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
			})
			kittest.Elapse(500 * time.Millisecond)
			kittest.RequireProblem(t, kittest.Logout(k, b), http.StatusBadGateway, "unavailable")
			wg.Wait()
		})
	})
	t.Run("during a refresh, with a token whose key was never held here", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.KeysKept, s.KeyEndsRefresh = true, 1, false })
			b := kittest.SignIn(k, kittest.Ada)
			k.Project.RotateKeys()
			require.NoError(t, k.Ready(t.Context()))
			kittest.Elapse(kittest.Past)
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 150 * time.Millisecond})
			page, click := b.Copied(), b.Copied()
			var wg sync.WaitGroup
			wg.Go(func() {
				res := page.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
				assert.Empty(t, res.Cookies())
			})
			kittest.Elapse(50 * time.Millisecond)
			assert.Equal(t, http.StatusOK, kittest.Logout(k, click).StatusCode)
			wg.Wait()
		})
	})
	t.Run("after a call that minted a token, with the one from before", func(t *testing.T) {
		for _, path := range []string{kittest.VerifyPath, kittest.SelectPath} {
			for _, rotate := range []bool{false, true} {
				for _, refreshed := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						k := kittest.New(t)
						k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
						k.Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
						b := kittest.SignIn(k, "eve")
						require.NoError(t, k.Ready(t.Context()))
						kittest.Elapse(kittest.Past)
						page, click, old := b.Copied(), b.Copied(), b.Copied()
						body := map[string]string{
							kittest.VerifyPath: `{"loginId":"eve","code":"` + k.Project.Code("eve") + `","loginOptions":{"stepup":true}}`,
							kittest.SelectPath: `{"tenant":"T1"}`,
						}[path]
						require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(path, body)).StatusCode)
						if refreshed {
							require.Equal(t, http.StatusOK, page.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
						}
						require.Equal(t, http.StatusOK, kittest.Logout(k, click).StatusCode)
						for name, refresh := range map[string]string{"before": old.Refresh, "minted": b.Refresh, "renewed": page.Refresh} {
							assert.False(t, k.Project.Honours(refresh), "%s, %s, rotation %v, refreshed %v", name, path, rotate, refreshed)
						}
					})
				}
			}
		}
	})
	t.Run("after more refreshes than are followed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.Configure(kittest.Rotating)
			b := kittest.SignIn(k, kittest.Ada)
			old := b.Copied()
			for range 40 {
				kittest.Elapse(time.Second)
				require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
			}
			require.Equal(t, http.StatusOK, kittest.Logout(k, old).StatusCode)
			kittest.RequireLoggedOut(t, k, b.Refresh)
		})
	})
	t.Run("as often as somebody likes, for one call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			b := kittest.SignIn(k, kittest.Ada)
			for range 600 {
				require.Equal(t, http.StatusOK, kittest.Logout(k, b.Copied()).StatusCode)
			}
			assert.Equal(t, 1, k.Project.Requests(kittest.LogoutPath))
		})
	})
	t.Run("until the next sign-in, which may bring the same token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			again := k.Project.SignIn(kittest.Ada)
			b := &kittest.Browser{Refresh: again.Refresh}
			require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
			k.Project.Fail(kittest.LogoutPath, descopetest.Fault{Status: 200, Body: "{}"}) // within the same second
			require.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
			k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 200, Body: `{"sessionJwt":"` + again.Session + `","refreshJwt":"` + again.Refresh + `"}`})
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"123456"}`)).StatusCode)
			assert.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
			require.True(t, k.Project.Honours(b.Refresh))
			assert.Equal(t, http.StatusOK, kittest.Logout(k, b.Copied()).StatusCode)
			assert.False(t, k.Project.Honours(b.Refresh))
		})
	})
	t.Run("while Descope is away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := kittest.NewRotating(t)
			old := b.Copied()
			k.Project.Fail("", descopetest.Fault{Status: 503, Times: -1})
			kittest.RequireProblem(t, kittest.Logout(k, b), http.StatusBadGateway, "unavailable")
			assert.Empty(t, b.Refresh, "the cookies go all the same")
			k.Project.Reset()
			kittest.Elapse(time.Minute)
			res := kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", old.Refresh))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		})
	})
}

// Descope did not hear of a logout. What is kept leads nobody on, not even when the
// logout is forgotten.
//
// Rule: logout: a tombstone under the token and all that came of it.
func TestLinkOfALogoutLeadsNobodyOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.SessionTTL = true, time.Hour })
		b := kittest.SignIn(k, kittest.Ada)
		kittest.Elapse(time.Hour + 6*time.Second)
		late, lost := b.Copied(), b.Copied()
		h := k.RequireSession(new(kittest.Spy))
		require.Equal(t, http.StatusOK, lost.Do(h, kittest.Get("/")).StatusCode)
		k.Project.Fail(kittest.LogoutPath, descopetest.Fault{Status: 503})
		kittest.RequireProblem(t, kittest.Logout(k, b), http.StatusBadGateway, "unavailable")
		kittest.Elapse(11 * time.Minute)
		res := late.Do(h, kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Len(t, res.Cookies(), 2, "Descope says that it was logged out")
	})
}

// A successor that nobody has presented is kept for longer than a logout is
// remembered, and serves nobody all the same.
//
// Rule: renewing: against a refresh under way that brings back a session that was logged out: a
// logout is remembered under its token, waits for the refresh under way and revokes what that
// brought, here and on other replicas.
// Rule: logout: a tombstone under the token and all that came of it.
func TestLogoutOutlivesWhatIsKept(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		for _, withNewest := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.SessionTTL = rotate, time.Hour })
				b := kittest.SignIn(k, kittest.Ada)
				kittest.Elapse(time.Hour + 6*time.Second)
				late, lost := b.Copied(), b.Copied()
				h := k.RequireSession(new(kittest.Spy))
				require.Equal(t, http.StatusOK, lost.Do(h, kittest.Get("/")).StatusCode)
				if withNewest {
					b.Refresh = lost.Refresh
				}
				require.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
				kittest.Elapse(11 * time.Minute)
				res := late.Do(h, kittest.Get("/"))
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
				assert.Len(t, res.Cookies(), 2, "Descope says that it was logged out")
			})
		}
	}
}

// Rule: logout: a logout everywhere: what is remembered of the user serves nobody, what is
// under way is thrown away, a sign-in under way is refused and revoked, a newer one that spent
// nothing is not.
func TestLogoutAllDropsWhatIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		other := kittest.SignIn(k, kittest.Ada)
		assert.Equal(t, http.StatusOK, other.Do(k.Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode)
		kittest.Elapse(time.Second)
		kittest.RequireLoggedOut(t, k, old.Refresh, b.Refresh)
	})
}

// A refresh that is under way on one device while another signs out everywhere
// must not bring a session.
//
// Rule: renewing: against a refresh under way that brings back a session that was logged out: a
// logout is remembered under its token, waits for the refresh under way and revokes what that
// brought, here and on other replicas.
// Rule: logout: a logout everywhere: what is remembered of the user serves nobody, what is
// under way is thrown away, a sign-in under way is refused and revoked, a newer one that spent
// nothing is not.
func TestLogoutAllDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
		other := kittest.SignIn(k, kittest.Ada)
		var wg sync.WaitGroup
		wg.Go(func() {
			res := b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		})
		kittest.Elapse(time.Second)
		assert.Equal(t, http.StatusOK, other.Do(k.Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode)
		wg.Wait()
	})
}

// While a logout everywhere is under way, somebody signs in and their token is renewed.
// Whatever Descope did first: what was spent is not presented again.
//
// Rule: logout: a logout everywhere: what is remembered of the user serves nobody, what is
// under way is thrown away, a sign-in under way is refused and revoked, a newer one that spent
// nothing is not.
func TestLogoutAllDoesNotForgetWhatWasSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, other := kittest.NewRotating(t)
		k.Project.Fail(kittest.LogoutAllPath, descopetest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, other.Do(k.Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode)
		})
		kittest.Elapse(100 * time.Millisecond)
		b := kittest.SignIn(k, kittest.Ada)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		wg.Wait()
		res := late.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath), "with the newest token")
	})
}

// Without rotation nothing is spent, and Descope can be asked: it may have dealt with
// the logout before the sign-in.
//
// Rule: logout: a logout everywhere: what is remembered of the user serves nobody, what is
// under way is thrown away, a sign-in under way is refused and revoked, a newer one that spent
// nothing is not.
func TestLogoutAllAndANewerSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		other := kittest.SignIn(k, kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.LogoutAllPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, other.Do(k.Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode)
		})
		kittest.Elapse(time.Second)
		b := kittest.SignIn(k, kittest.Ada)
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		wg.Wait()
		kittest.Elapse(time.Second)
		assert.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
	})
}

// Neither must a sign-in that was under way, whichever of the two Descope dealt
// with first.
//
// Rule: renewing: against a refresh under way that brings back a session that was logged out: a
// logout is remembered under its token, waits for the refresh under way and revokes what that
// brought, here and on other replicas.
// Rule: logout: a logout everywhere: what is remembered of the user serves nobody, what is
// under way is thrown away, a sign-in under way is refused and revoked, a newer one that spent
// nothing is not.
func TestLogoutAllDuringASignIn(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"signed in before": {Delay: 2 * time.Second, After: true},
		"signed in after":  {Delay: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				other := kittest.SignIn(k, kittest.Ada)
				k.Project.Fail(kittest.VerifyPath, fault)
				var wg sync.WaitGroup
				wg.Go(func() {
					res := new(kittest.Browser).Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
					assert.Empty(t, res.Cookies())
					kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
				})
				kittest.Elapse(time.Second)
				assert.Equal(t, http.StatusOK, other.Do(k.Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode)
				wg.Wait()
				assert.Equal(t, 1, k.Project.Requests(kittest.LogoutPath), "what the sign-in brought is revoked")
				again := new(kittest.Browser)
				kittest.Elapse(30 * time.Second) // to the next code
				again.Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
				assert.Equal(t, http.StatusOK, again.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
			})
		})
	}
}

// While Descope is away, requests fail at once after a few have waited, and one
// call at a time tries whether it is back.
// A page that polls has Descope asked after a second, and then half as often each time, or
// when Descope says.
func TestPollingInAnOutage(t *testing.T) {
	for retryAfter, want := range map[string][]time.Duration{
		"":  {0, time.Second, 3 * time.Second, 7 * time.Second},
		"4": {0, 4 * time.Second, 8 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var calls kittest.CallTimes
			k := kittest.New(t, calls.Config)
			b := kittest.SignIn(k, kittest.Ada)
			kittest.Elapse(kittest.Past)
			require.NoError(t, k.Ready(t.Context()))
			fault := descopetest.Fault{Status: 500, Times: -1}
			if retryAfter != "" {
				fault.Header = http.Header{"Retry-After": {retryAfter}}
			}
			k.Project.Fail(kittest.RefreshPath, fault)
			began := time.Now()
			for range 90 {
				assert.Equal(t, http.StatusServiceUnavailable, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
				kittest.Elapse(100 * time.Millisecond)
			}
			var after []time.Duration
			for _, at := range calls.Calls[kittest.RefreshPath] {
				after = append(after, at.Sub(began))
			}
			assert.Equal(t, want, after)
		})
	}
}

// Rule: renewing: against an outage that reads as "not signed in": "Cannot tell" is 503, 502 or
// 504, with the cookies untouched; failures fail fast, and one call tries.
// Rule: renewing: a call that spends a token has 30 seconds, whoever waits; keys and store have
// 4.5 before it; 128 such calls are in the air at most.
func TestOutageFailsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _ := kittest.NewRotating(t)
		var users []*kittest.Browser
		for range 20 {
			users = append(users, kittest.SignIn(k, kittest.Ada))
			kittest.Elapse(time.Second)
		}
		kittest.Elapse(kittest.Past)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Hour, Times: -1})
		h := k.RequireSession(new(kittest.Spy))
		began := time.Now()
		for _, b := range users[:5] {
			kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		}
		assert.Equal(t, 25*time.Second, time.Since(began))
		synctest.Wait() // the fifth failure is counted in the instant in which its request leaves
		calls := k.Project.Requests(kittest.RefreshPath)
		began = time.Now()
		for _, b := range users[5:] {
			res := b.Do(h, kittest.Get("/"))
			kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.NotEmpty(t, res.Header.Get("Retry-After"))
		}
		assert.Zero(t, time.Since(began))
		assert.Equal(t, calls, k.Project.Requests(kittest.RefreshPath))

		kittest.Elapse(3 * time.Second)
		var wg sync.WaitGroup
		for _, b := range users[5:] {
			wg.Go(func() {
				kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
			})
		}
		wg.Wait()
		assert.Equal(t, calls+1, k.Project.Requests(kittest.RefreshPath), "one probe")

		require.NoError(t, k.Wait(t.Context()))
		k.Project.Reset()
		kittest.Elapse(3 * time.Second)
		for _, b := range users {
			assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		}
	})
}

// What a client can provoke does not count as an outage, and what anybody can
// flood stops nobody's session from being renewed.
//
// Rule: guessing: against a flood of sign-ins, to keep others from renewing: four classes of
// calls with a budget each.
func TestFloodOfOneClassStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 503, Times: -1})
		for range 10 {
			kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"x","code":"000000"}`))
		}
		assert.LessOrEqual(t, k.Project.Requests(kittest.VerifyPath), 5)
		assert.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)

		k.Project.Reset()
		kittest.Elapse(time.Minute)
		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 403, Body: "<html>", Times: 20})
		for range 20 {
			kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"x' OR 1=1","code":"000000"}`))
		}
		assert.Equal(t, 20, k.Project.Requests(kittest.VerifyPath))
	})
}

// A session is renewed shortly before it ends. The request that begins the call
// waits, others are served by the session that they have.
//
// Rule: renewing: a session is renewed ahead of its end: tried every ten seconds, nobody else
// waits, not what cannot carry cookies, not a step-up.
func TestRenewingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(kittest.Rotating)
		b := kittest.SignIn(k, kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(10*time.Minute - 31*time.Second)
		assert.Empty(t, b.Do(h, kittest.Get("/")).Cookies())
		kittest.Elapse(2 * time.Second)

		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second})
		old := b.Copied()
		var wg sync.WaitGroup
		wg.Go(func() {
			began := time.Now()
			assert.Len(t, b.Do(h, kittest.Get("/")).Cookies(), 2)
			assert.Equal(t, time.Second, time.Since(began))
		})
		kittest.Elapse(time.Millisecond)
		began := time.Now()
		for range 10 {
			res := old.Copied().Do(h, kittest.Get("/"))
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Empty(t, res.Cookies())
		}
		assert.Zero(t, time.Since(began))
		wg.Wait()
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))

		// Those who did not get the new cookies find them when the old end.
		kittest.Elapse(time.Minute)
		assert.Equal(t, http.StatusOK, old.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, b.Refresh, old.Refresh)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// Without rotation the same token leads to the session that is about to end.
//
// Rule: renewing: a session is renewed ahead of its end: tried every ten seconds, nobody else
// waits, not what cannot carry cookies, not a step-up.
func TestRenewingAheadOfARenewedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		kittest.Elapse(kittest.Past)
		h := k.RequireSession(new(kittest.Spy))
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(10*time.Minute - 20*time.Second)
		assert.NotEmpty(t, b.Do(h, kittest.Get("/")).Cookies())
	})
}

// A refresh that a client has asked for is under way: the page does not wait for it.
//
// Rule: renewing: a session is renewed ahead of its end: tried every ten seconds, nobody else
// waits, not what cannot carry cookies, not a step-up.
func TestNotRenewedAheadDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(kittest.Rotating)
		b := kittest.SignIn(k, kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		kittest.Elapse(10*time.Minute - 20*time.Second)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second})
		page := b.Copied()
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		})
		kittest.Elapse(time.Millisecond)
		began := time.Now()
		assert.Equal(t, http.StatusOK, page.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Zero(t, time.Since(began))
		wg.Wait()
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// Rule: renewing: a session is renewed ahead of its end: tried every ten seconds, nobody else
// waits, not what cannot carry cookies, not a step-up.
func TestRenewingAheadThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(10*time.Minute - 20*time.Second)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 500, Times: -1})
		for range 5 {
			res := b.Do(h, kittest.Get("/"))
			assert.Equal(t, http.StatusOK, res.StatusCode, "the old session still serves")
			assert.Empty(t, res.Cookies())
		}
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		for range 9 {
			kittest.Elapse(time.Second)
			assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		}
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath), "once in ten seconds")
		kittest.Elapse(time.Second)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath))
	})
}

// Rule: renewing: a session is renewed ahead of its end: tried every ten seconds, nobody else
// waits, not what cannot carry cookies, not a step-up.
func TestNotRenewedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		plain, stepUp := k.Project.SignIn(kittest.Ada), k.Project.StepUp(kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(10*time.Minute - 10*time.Second)
		upgrade := kittest.WithCookies(kittest.Get("/"), plain.Session, plain.Refresh)
		upgrade.Header.Set("Connection", "Upgrade")
		upgrade.Header.Set("Upgrade", "websocket")
		for name, r := range map[string]*http.Request{
			"bearer":           kittest.WithBearer(kittest.Get("/"), plain.Session),
			"upgrade":          upgrade,
			"step-up":          kittest.WithCookies(kittest.Get("/"), stepUp.Session, stepUp.Refresh),
			"no refresh token": kittest.WithCookies(kittest.Get("/"), plain.Session, ""),
		} {
			res := kittest.Serve(h, r)
			assert.Equal(t, http.StatusOK, res.StatusCode, name)
			assert.Empty(t, res.Cookies(), name)
		}
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
	})
}

// However many sessions end at once and however long Descope takes: what spends tokens
// is in the air 128 times at most, and who waits for a place is served.
//
// Rule: renewing: a call that spends a token has 30 seconds, whoever waits; keys and store have
// 4.5 before it; 128 such calls are in the air at most.
func TestCallsInTheAir(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls kittest.CallTimes
		k := kittest.New(t, calls.Config, func(c *descopehttp.Config) { c.Limits.SessionCalls = 1000 })
		k.Project.Configure(kittest.Rotating)
		browsers := crowd(k, "user", 300)
		require.NoError(t, k.Ready(t.Context()))
		kittest.Elapse(kittest.Past)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second, Times: -1})
		h := k.RequireSession(new(kittest.Spy))
		var all sync.WaitGroup
		for _, b := range browsers {
			all.Go(func() { assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode) })
		}
		all.Wait()
		assert.Equal(t, 128, calls.Most(kittest.RefreshPath, time.Second))
	})
}

// newEarly returns a kit that has seen Descope renew a session, and a browser that has
// just been signed in.
func newEarly(t *testing.T, settings func(*descopetest.Settings), edits ...func(*descopehttp.Config)) (*kittest.Kit, *kittest.Browser) {
	k := kittest.New(t, edits...)
	k.Project.Configure(settings)
	b := kittest.SignIn(k, kittest.Ada)
	kittest.Elapse(kittest.Past)
	require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
	k.Project.Reset()
	return k, b
}

func early(e descopehttp.EarlyRenewal) func(*descopehttp.Config) {
	return func(c *descopehttp.Config) { c.Limits.EarlyRenewal = e }
}

// Where Descope does not rotate refresh tokens, or the site wants it, a session is renewed
// before half of it is over.
//
// Rule: renewing: a session is renewed early only while there is room, and with rotation only
// if `Limits.EarlyRenewal` says so: a successor that was not delivered is in one process's
// memory.
func TestEarlyRenewal(t *testing.T) {
	ending := func(s *descopetest.Settings) { s.RefreshTTL = 21 * time.Minute }
	for name, c := range map[string]struct {
		settings func(*descopetest.Settings)
		early    descopehttp.EarlyRenewal
		calls    int
	}{
		"without rotation":             {func(*descopetest.Settings) {}, descopehttp.EarlyWithoutRotation, 1},
		"with rotation":                {kittest.Rotating, descopehttp.EarlyWithoutRotation, 0},
		"with rotation, wanted":        {kittest.Rotating, descopehttp.EarlyAlways, 1},
		"not wanted":                   {func(*descopetest.Settings) {}, descopehttp.EarlyNever, 0},
		"it ends as the refresh token": {ending, descopehttp.EarlyAlways, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, b := newEarly(t, c.settings, early(c.early))
				h := k.RequireSession(new(kittest.Spy))
				kittest.Elapse(4*time.Minute - time.Second)
				assert.Empty(t, b.Do(h, kittest.Get("/")).Cookies(), "two fifths are not over")
				kittest.Elapse(32 * time.Second)
				for range 3 {
					require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
				}
				assert.Equal(t, c.calls, k.Project.Requests(kittest.RefreshPath))
				s, err := k.VerifyToken(t.Context(), b.Session)
				require.NoError(t, err)
				assert.Equal(t, c.calls == 1, s.TimeLeft() > 9*time.Minute)
			})
		})
	}
}

// crowd signs in n users at once.
func crowd(k *kittest.Kit, name string, n int) (browsers []*kittest.Browser) {
	for i := range n {
		login := fmt.Sprintf("%s%d@example.com", name, i)
		k.Project.AddUser(descopetest.User{LoginID: login})
		browsers = append(browsers, kittest.SignIn(k, login))
	}
	return browsers
}

// proveGrant has Descope answer more calls than it grants anybody, and then lets a session's
// life pass.
func proveGrant(t *testing.T, k *kittest.Kit) {
	others := crowd(k, "other", 102)
	for i, b := range others {
		if i == len(others)-1 {
			kittest.Elapse(10 * time.Minute)
		}
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
	}
	kittest.Elapse(time.Minute)
	k.Project.Reset()
}

// Sessions that began together are not renewed together, and those who cannot wait have
// what they need.
//
// Rule: renewing: a session is renewed early only while there is room, and with rotation only
// if `Limits.EarlyRenewal` says so: a successor that was not delivered is in one process's
// memory.
func TestEarlyRenewalsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _ := newEarly(t, func(*descopetest.Settings) {}, early(descopehttp.EarlyAlways))
		h := k.RequireSession(new(kittest.Spy))
		proveGrant(t, k)
		browsers := crowd(k, "user", 300)
		kittest.Elapse(4 * time.Minute)
		most, all := 0, 0
		for range 31 {
			for _, b := range browsers {
				b.Do(h, kittest.Get("/"))
			}
			most, all = max(most, k.Project.Requests(kittest.RefreshPath)-all), k.Project.Requests(kittest.RefreshPath)
			kittest.Elapse(time.Second)
		}
		assert.Equal(t, len(browsers), all)
		assert.Less(t, most, len(browsers)/10)
	})
}

// Nobody knows what Descope grants, before it is shown: what is done early stays below the
// least. What Descope then grants less of is no longer done early.
//
// Rule: renewing: a session is renewed early only while there is room, and with rotation only
// if `Limits.EarlyRenewal` says so: a successor that was not delivered is in one process's
// memory.
func TestEarlyRenewalsBeforeTheGrantIsKnown(t *testing.T) {
	for name, prove := range map[string]bool{"unknown": false, "known": true, "known to be less": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls kittest.CallTimes
				k, b := newEarly(t, func(*descopetest.Settings) {}, early(descopehttp.EarlyAlways), calls.Config)
				h := k.RequireSession(new(kittest.Spy))
				if prove {
					proveGrant(t, k)
				}
				if name == "known to be less" {
					k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 429, Body: `{"errorCode":"E130429"}`})
					kittest.RequireProblem(t, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")), http.StatusBadGateway, "unavailable")
				}
				browsers := crowd(k, "user", 200)
				kittest.Elapse(4*time.Minute + 30*time.Second)
				calls.Reset()
				for range 60 {
					for _, b := range browsers {
						require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
					}
					kittest.Elapse(time.Second)
				}
				n := calls.Most(kittest.RefreshPath, time.Minute)
				switch name {
				case "unknown":
					assert.InDelta(t, 62, n, 2)
				case "known":
					assert.Equal(t, 200, n)
				default:
					assert.Zero(t, n)
				}
			})
		})
	}
}

// To a clock that is ahead of Descope's each session is old when it comes. That is no reason
// to renew it again and again.
func TestEarlyRenewalsAndAClockThatIsAhead(t *testing.T) {
	for _, rotating := range []bool{false, true} {
		t.Run(fmt.Sprintf("rotating=%v", rotating), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ahead = 5 * time.Minute
				k, b := newEarly(t, func(s *descopetest.Settings) {
					s.RotateRefresh = rotating
					s.EditClaims = func(kind string, claims map[string]any) {
						claims["iat"] = time.Now().Add(-ahead).Unix()
						if kind == "DS" {
							claims["exp"] = time.Now().Add(10*time.Minute - ahead).Unix()
						}
					}
				}, early(descopehttp.EarlyAlways))
				h := k.RequireSession(new(kittest.Spy))
				for range 3600 {
					kittest.Elapse(time.Second)
					require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
				}
				most := 15 // one in four minutes
				if rotating {
					most = 60 // what came of a token that has been shown is remembered for a minute
				}
				assert.LessOrEqual(t, k.Project.Requests(kittest.RefreshPath), most)
			})
		})
	}
}

// Each time that Descope asks for fewer calls, those who cannot wait are refused. So what is
// done early does not begin again when the rate has come back.
func TestNoEarlyRenewalsForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newEarly(t, func(s *descopetest.Settings) { s.SessionTTL = time.Hour }, early(descopehttp.EarlyAlways))
		h := k.RequireSession(new(kittest.Spy))
		proveGrant(t, k)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: http.StatusTooManyRequests, Body: `{"errorCode":"E130429"}`})
		kittest.RequireProblem(t, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")), http.StatusBadGateway, "unavailable")
		other := kittest.SignIn(k, kittest.Ada)
		day := func(hours int, calls int) {
			for range hours * 60 { // the rate is felt up by what is answered
				kittest.Elapse(time.Minute)
				other.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}"))
			}
			b = kittest.SignIn(k, kittest.Ada)
			kittest.Elapse(30 * time.Minute)
			k.Project.Reset()
			require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
			assert.Equal(t, calls, k.Project.Requests(kittest.RefreshPath), hours)
		}
		day(1, 0)
		day(20, 0)
		day(3, 1)
	})
}

// An outage of half of a session's life goes unseen by whoever was active before it.
//
// Rule: renewing: a session is renewed early only while there is room, and with rotation only
// if `Limits.EarlyRenewal` says so: a successor that was not delivered is in one process's
// memory.
func TestOutageThatNobodySees(t *testing.T) {
	for _, c := range []struct {
		early  descopehttp.EarlyRenewal
		unseen bool
	}{{descopehttp.EarlyWithoutRotation, true}, {descopehttp.EarlyNever, false}} {
		synctest.Test(t, func(t *testing.T) {
			k, _ := newEarly(t, func(*descopetest.Settings) {}, early(c.early))
			h := k.RequireSession(new(kittest.Spy))
			answers := map[int]int{}
			minutes := func(n int, browsers []*kittest.Browser) {
				for range n * 6 {
					for _, b := range browsers {
						answers[b.Do(h, kittest.Get("/")).StatusCode]++
					}
					kittest.Elapse(10 * time.Second)
				}
			}
			var browsers []*kittest.Browser
			for i := range 20 { // over the life of a session
				login := fmt.Sprintf("user%d@example.com", i)
				k.Project.AddUser(descopetest.User{LoginID: login})
				browsers = append(browsers, kittest.SignIn(k, login))
				minutes(1, browsers)
			}
			k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, Times: -1})
			minutes(5, browsers)
			k.Project.Reset()
			minutes(15, browsers)
			assert.Equal(t, c.unseen, answers[http.StatusServiceUnavailable] == 0, answers)
			assert.Zero(t, answers[http.StatusUnauthorized])
		})
	}
}

// Who has a session does not wait long for the next. It is there for a later request.
//
// Rule: renewing: a session is renewed early only while there is room, and with rotation only
// if `Limits.EarlyRenewal` says so: a successor that was not delivered is in one process's
// memory.
func TestEarlyRenewalThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newEarly(t, kittest.Rotating, early(descopehttp.EarlyAlways))
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(5 * time.Minute)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 4 * time.Second})
		began := time.Now()
		assert.Empty(t, b.Do(h, kittest.Get("/")).Cookies())
		assert.Equal(t, time.Second, time.Since(began))
		assert.Empty(t, b.Do(h, kittest.Get("/")).Cookies())
		assert.Equal(t, time.Second, time.Since(began))
		kittest.Elapse(4 * time.Second)
		assert.Len(t, b.Do(h, kittest.Get("/")).Cookies(), 2)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		kittest.Elapse(5 * time.Minute)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
	})
}

// What a refresh token was spent for early is handed out though there is no room for another
// call: until then it is in one process's memory alone.
func TestEarlyRenewalIsHandedOutWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newEarly(t, kittest.Rotating, early(descopehttp.EarlyAlways))
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(5 * time.Minute)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 4 * time.Second})
		spent := b.Refresh
		for range 7 {
			b.Do(h, kittest.Get("/")) // begins the call, or finds it in the air
			kittest.Elapse(time.Second)
			for range 2 {
				kittest.Serve(k.Handler(), kittest.SignedInPost(k.Project.SignIn(kittest.Ada), kittest.RefreshPath, "{}"))
			}
		}
		assert.NotEqual(t, spent, b.Refresh)
		assert.Equal(t, 1+7*2, k.Project.Requests(kittest.RefreshPath))
	})
}

// What could wait leaves to others what there is.
//
// Rule: renewing: a session is renewed early only while there is room, and with rotation only
// if `Limits.EarlyRenewal` says so: a successor that was not delivered is in one process's
// memory.
func TestEarlyRenewalLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newEarly(t, func(*descopetest.Settings) {}, early(descopehttp.EarlyAlways), func(c *descopehttp.Config) { c.Limits.SessionCalls = 2 })
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(5 * time.Minute)
		for range 4 { // of six
			require.Equal(t, http.StatusOK, kittest.Serve(k.Handler(), kittest.SignedInPost(k.Project.SignIn(kittest.Ada), kittest.RefreshPath, "{}")).StatusCode)
		}
		assert.Empty(t, b.Do(h, kittest.Get("/")).Cookies())
		kittest.Elapse(2 * time.Second)
		assert.NotEmpty(t, b.Do(h, kittest.Get("/")).Cookies())
	})
}

// A session that the store holds is the one that is to be renewed.
//
// Rule: renewing: a session is renewed early only while there is room, and with rotation only
// if `Limits.EarlyRenewal` says so: a successor that was not delivered is in one process's
// memory.
func TestEarlyRenewalOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := kittest.NewReplicas(t, 2, early(descopehttp.EarlyAlways))
		replicas[0].Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = false })
		b := kittest.SignIn(replicas[0], kittest.Ada)
		kittest.Elapse(kittest.Past)
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		replicas[0].Project.Reset()
		kittest.Elapse(5 * time.Minute)
		behind := b.Copied()
		assert.NotEmpty(t, b.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")).Cookies())
		assert.NotEmpty(t, behind.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).Cookies())
		assert.Equal(t, b.Session, behind.Session)
		assert.Equal(t, 1, replicas[0].Project.Requests(kittest.RefreshPath))
	})
}

// A session in memory whose key was revoked since is not handed out.
//
// Rule: renewing: what memory holds ends with its session and its key.
func TestRevokedKeyAndMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t)
		h := k.RequireSession(new(kittest.Spy))
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		k.Project.RevokeKeys()
		kittest.Elapse(6 * time.Second)
		require.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session)).StatusCode)
		res := kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), old.Session, old.Refresh))
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}

// inactivity makes Descope end the sign-ins of users who are not active: an answer that
// signs somebody in says until when a refresh has to come, and one that comes later is
// refused.
type inactivity struct {
	kittest.Wiretap
	limit time.Duration
	says  string // in place of limit, if it is set

	mu   sync.Mutex
	last time.Time
}

func (i *inactivity) config(c *descopehttp.Config) {
	if i.last.IsZero() {
		i.last = time.Now()
	}
	i.Answer = func(r *http.Request) *http.Response {
		i.mu.Lock()
		defer i.mu.Unlock()
		if r.URL.Path == kittest.RefreshPath && i.limit > 0 && time.Since(i.last) > i.limit {
			return kittest.JSONAnswer(http.StatusUnauthorized, `{"errorCode":"E061005","errorDescription":"inactive"}`)
		}
		if r.URL.Path == kittest.RefreshPath || r.URL.Path == kittest.VerifyPath {
			i.last = time.Now()
		}
		return nil
	}
	i.Edit = func(_ string, body []byte) []byte {
		says := cmp.Or(i.says, strconv.Itoa(int(i.limit/time.Second)))
		return bytes.Replace(body, []byte(`"nextRefreshSeconds":0`), []byte(`"nextRefreshSeconds":`+says), 1)
	}
	i.Config(c)
}

// Where Descope ends the sign-in of who is not active, whoever is active stays signed in,
// though the session lives on: also where another replica was told, where none is
// remembered, and after a restart.
func TestActiveUsersStaySignedIn(t *testing.T) {
	const limit = 10 * time.Minute
	for _, rotating := range []bool{false, true} {
		for name, tt := range map[string]struct {
			limit    time.Duration
			replicas int
			restarts bool // each lives for eight minutes, and then another begins
			edit     func(*descopehttp.Config)
			most     int // refreshes in two hours
		}{
			"one":          {limit: limit, replicas: 1, most: 20},
			"no cache":     {limit: limit, replicas: 1, edit: func(c *descopehttp.Config) { c.MaxCachedSessions = -1 }, most: 20},
			"replicas":     {limit: limit, replicas: 3, edit: shareStore(), most: 20},
			"no store":     {limit: limit, replicas: 3, most: 20},
			"restarts":     {limit: limit, replicas: 1, restarts: true, most: 20},
			"longer":       {limit: 40 * time.Minute, replicas: 2, edit: shareStore(), most: 9}, // one finds out
			"no end":       {limit: 0, replicas: 1, most: 4},
			"no end, more": {limit: 0, replicas: 2, edit: shareStore(), most: 5},
		} {
			t.Run(fmt.Sprintf("%s, rotating=%v", name, rotating), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					upstream := &inactivity{limit: tt.limit}
					edits := []func(*descopehttp.Config){upstream.config}
					if tt.edit != nil {
						edits = append(edits, tt.edit)
					}
					k := kittest.New(t, edits...)
					k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.RotateRefresh = time.Hour, rotating })
					kits := []*kittest.Kit{k}
					for len(kits) < tt.replicas {
						kits = append(kits, kittest.For(t, k.Project, edits...))
					}
					var b kittest.Browser
					b.Keep(kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)))
					began := time.Now()
					for i := 0; time.Since(began) < 2*time.Hour; i++ {
						kittest.Elapse(4 * time.Minute)
						if tt.restarts && i%2 == 1 {
							kits[0] = kittest.For(t, k.Project, edits...)
						}
						res := b.Do(kits[i%len(kits)].RequireSession(new(kittest.Spy)), kittest.Get("/"))
						require.Equal(t, http.StatusOK, res.StatusCode, "after %v", time.Since(began))
					}
					assert.LessOrEqual(t, k.Project.Requests(kittest.RefreshPath), tt.most)
				})
			})
		}
	}
}

func shareStore() func(*descopehttp.Config) {
	store := kittest.NewMemoryStore()
	return func(c *descopehttp.Config) { c.RefreshStore = store }
}

// What another replica was told comes along with its answer.
func TestInactivityIsToldThroughTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream, share := &inactivity{limit: 10 * time.Minute}, shareStore()
		k := kittest.New(t, upstream.config, share)
		other := kittest.For(t, k.Project, upstream.config, share)
		var b kittest.Browser
		b.Keep(kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)))
		require.NoError(t, other.Ready(t.Context()))
		kittest.Elapse(5 * time.Minute)
		late := b.Copied() // the answer will be lost
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))

		h := other.RequireSession(new(kittest.Spy))
		kittest.Elapse(4*time.Minute + 45*time.Second)
		require.Equal(t, http.StatusOK, late.Do(h, kittest.Get("/")).StatusCode)
		require.Equal(t, b.Session, late.Session, "by way of the store")
		require.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		kittest.Elapse(30 * time.Second)
		require.Equal(t, http.StatusOK, late.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath), "half of the time has passed since the answer")
	})
}

// A session that lasts does not have a request wait long, though a refresh has to come.
func TestInactivityWhileDescopeTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := &inactivity{limit: 10 * time.Minute}
		k := kittest.New(t, upstream.config)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.RotateRefresh = time.Hour, true })
		var b kittest.Browser
		b.Keep(kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)))
		kittest.Elapse(5 * time.Minute)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 4 * time.Second})
		h, began := k.RequireSession(new(kittest.Spy)), time.Now()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, time.Second, time.Since(began))
		kittest.Elapse(4 * time.Second)
		assert.Len(t, b.Do(h, kittest.Get("/")).Cookies(), 2, "it is there for the next")
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// A step-up is not given up early, but is before the sign-in is lost.
func TestStepUpOfAnInactiveUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := &inactivity{limit: 10 * time.Minute}
		k := kittest.New(t, upstream.config)
		k.Project.Configure(func(s *descopetest.Settings) { s.StepUpTTL = 10 * time.Minute })
		var told kittest.Browser
		told.Keep(kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)))
		tokens := k.Project.StepUp(kittest.Ada)
		b := kittest.Browser{Session: tokens.Session, Refresh: tokens.Refresh}
		h := k.Require(descopehttp.StepUp())(new(kittest.Spy))
		kittest.Elapse(9*time.Minute + 29*time.Second)
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
		kittest.Elapse(2 * time.Second)
		b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
		kittest.Elapse(9 * time.Minute)
		assert.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
	})
}

// Times that look odd from here never make every request a refresh.
func TestInactivityAndOddTimes(t *testing.T) {
	for name, tt := range map[string]struct {
		behind time.Duration // Descope's clock
		says   string
		most   int // refreshes in an hour with a request a second
	}{
		"clock ahead": {6 * time.Minute, "600", 60},
		"far ahead":   {50 * time.Minute, "600", 60},
		"in no time":  {0, "1", 130},
		"below it":    {0, "-600", 2},
		"a fraction":  {0, "0.001", 130},
		"huge":        {0, "1e300", 2},
		"a string":    {0, `"600"`, 12},
		"no number":   {0, `{"x":1}`, 2},
		"null":        {0, `null`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				upstream := &inactivity{says: tt.says}
				k := kittest.New(t, upstream.config)
				k.Project.Configure(func(s *descopetest.Settings) {
					s.SessionTTL, s.RotateRefresh = 2*time.Hour, true
					s.EditClaims = func(_ string, claims map[string]any) {
						claims["iat"] = time.Now().Add(-tt.behind).Unix()
					}
				})
				var b kittest.Browser
				b.Keep(kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)))
				require.NotEmpty(t, b.Session)
				h := k.RequireSession(new(kittest.Spy))
				for range 3600 {
					kittest.Elapse(time.Second)
					require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
				}
				assert.LessOrEqual(t, k.Project.Requests(kittest.RefreshPath), tt.most)
			})
		})
	}
}

// To a clock that is ahead every session is old when it comes, on each replica: that must not
// make every request a refresh where requests go to one after the other.
func TestReplicasWithAClockThatIsAhead(t *testing.T) {
	const ahead = 6 * time.Minute
	for name, tt := range map[string]struct {
		says  string
		early descopehttp.EarlyRenewal
		ttl   time.Duration
	}{
		"inactivity": {"600", descopehttp.EarlyNever, 2 * time.Hour},
		"early":      {"0", descopehttp.EarlyAlways, 14 * time.Minute},
	} {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stored=%v", name, stored), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					upstream := &inactivity{says: tt.says}
					edits := []func(*descopehttp.Config){upstream.config, early(tt.early)}
					if stored {
						edits = append(edits, shareStore())
					}
					k := kittest.New(t, edits...)
					k.Project.Configure(func(s *descopetest.Settings) {
						s.RotateRefresh = true
						s.EditClaims = func(kind string, claims map[string]any) {
							claims["iat"] = time.Now().Add(-ahead).Unix()
							if kind == "DS" {
								claims["exp"] = time.Now().Add(tt.ttl - ahead).Unix()
							}
						}
					})
					kits := []*kittest.Kit{k, kittest.For(t, k.Project, edits...)}
					var b kittest.Browser
					b.Keep(kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)))
					const seconds = 600
					for i := range seconds {
						kittest.Elapse(time.Second)
						require.Equal(t, http.StatusOK, b.Do(kits[i%2].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
					}
					assert.Less(t, k.Project.Requests(kittest.RefreshPath), seconds/10)
				})
			})
		}
	}
}

// Descope locks a user for a while after wrong codes, which anybody can try: that ends nobody's
// sign-in, unlike a refusal of the token.
//
// Rule: renewing: against wrong codes that have Descope lock a user, and sign them out: what is
// said of attempts passes: no cookie is deleted for it.
func TestTooManyAttemptsEndNoSignIn(t *testing.T) {
	for _, refusal := range []descopetest.Failure{{Status: 429, Code: "E061103"}, {Status: 400, Code: "E061103"}, {Status: 429, Code: "E069999"}} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
			b, other := kittest.SignIn(k, kittest.Ada), kittest.SignIn(k, kittest.Bob)
			kittest.Elapse(kittest.Past)
			k.Project.Refuse(kittest.Ada, refusal)
			for range 3 {
				b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
				other.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}"))
				kittest.Elapse(11 * time.Second)
			}
			assert.NotEmpty(t, b.Refresh, refusal)
		})
	}
}
