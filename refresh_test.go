package descopehttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
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

// A browser keeps the two cookies the way a browser does.
type browser struct {
	mu               sync.Mutex
	session, refresh string
}

func signIn(k *kit, loginID string) *browser {
	tokens := k.srv.SignIn(loginID)
	return &browser{session: tokens.Session, refresh: tokens.Refresh}
}

// do sends a request with the cookies as they are now and keeps what the answer
// sets.
func (b *browser) do(h http.Handler, r *http.Request) *http.Response {
	b.mu.Lock()
	session, refresh := b.session, b.refresh
	b.mu.Unlock()
	res := serve(h, withCookies(r, session, refresh))
	b.keep(res)
	return res
}

func (b *browser) keep(res *http.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, c := range cookiesOf(res) {
		value := c.Value
		if c.MaxAge < 0 {
			value = ""
		}
		switch name {
		case sessionCookie:
			b.session = value
		case refreshCookie:
			b.refresh = value
		}
	}
}

// copied returns a browser that does not see what this one keeps from now on: a
// request of it that is already under way.
func (b *browser) copied() *browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &browser{session: b.session, refresh: b.refresh}
}

func post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

func rotating(s *descopetest.Settings) { s.RotateRefresh = true }

// newRotating returns a kit over a project that rotates refresh tokens, and a
// browser whose session has just expired.
func newRotating(t *testing.T, edits ...func(*descopehttp.Config)) (*kit, *browser) {
	k := newKit(t, edits...)
	k.srv.Configure(rotating)
	b := signIn(k, ada)
	elapse(past)
	require.NoError(t, k.Ready(t.Context()))
	return k, b
}

func TestTwoHundredAtOnce(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			k.srv.Fail(refreshPath, descopetest.Fault{Delay: 100 * time.Millisecond})
			h := k.RequireSession(new(spy))
			var mu sync.Mutex
			sessions, refreshes := make(map[string]int), make(map[string]int)
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					elapse(time.Duration(i) * time.Millisecond) // some during the call, some after it
					res := b.copied().do(h, get("/"))
					assert.Equal(t, http.StatusOK, res.StatusCode)
					mu.Lock()
					defer mu.Unlock()
					for name, c := range cookiesOf(res) {
						map[string]map[string]int{sessionCookie: sessions, refreshCookie: refreshes}[name][c.Value]++
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
			assert.Equal(t, 1, k.srv.Requests(refreshPath))
		})
	}
}

func TestLateRequestGetsTheSuccessor(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		for _, late := range []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second, 59 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				k, b := newRotating(t)
				k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
				h := k.RequireSession(new(spy))
				old := b.copied()
				require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
				elapse(late)
				require.Equal(t, http.StatusOK, old.do(h, get("/")).StatusCode, late)
				assert.Equal(t, 1, k.srv.Requests(refreshPath))
				assert.Equal(t, b.session, old.session)
				assert.Equal(t, b.refresh, old.refresh)
			})
		}
	}
}

// R1 → R2 → R3: whoever still has R1 gets R3.
func TestLateRequestGetsTheNewestSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = 20 * time.Second })
		h := k.RequireSession(new(spy))
		first := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		elapse(30 * time.Second)
		second := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		require.Equal(t, 2, k.srv.Requests(refreshPath))
		for _, old := range []*browser{second, first} {
			require.Equal(t, http.StatusOK, old.do(h, get("/")).StatusCode)
			assert.Equal(t, b.refresh, old.refresh)
			assert.Equal(t, b.session, old.session)
		}
		assert.Equal(t, 2, k.srv.Requests(refreshPath))
	})
}

// Once the successor has been seen in use, a late request is served without
// cookies: its answer must not overwrite newer ones, nor hand a thief the chain.
func TestPresentedSuccessorIsNotHandedOutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		next := new(spy)
		h := k.RequireSession(next)
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		elapse(5 * time.Second)

		res := serve(h, withCookies(get("/"), old.session, old.refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
		assert.Equal(t, "no-store", res.Header.Get("CDN-Cache-Control"))
		seen := next.last()
		assert.Equal(t, sessionCookie+"="+b.session, seen.Header.Get("Cookie"), "the handler sees the session and no refresh token")

		res = serve(k.Handler(), withCookies(post("/v1/auth/refresh", "{}"), old.session, old.refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// Or by another flow than a refresh.
func TestPresentedRefreshTokenInAnotherFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		elapse(time.Second)
		without := &browser{refresh: b.refresh}
		require.Equal(t, http.StatusOK, without.do(k.Handler(), get(mePath)).StatusCode)
		res := old.do(k.RequireSession(new(spy)), get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}

// The same for a call that may mint tokens: a thief of the old token is not handed the
// new one by way of it.
func TestPresentedSuccessorIsNotHandedOutByAMintingCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		k.srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := signIn(k, "eve")
		elapse(past)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(spy))
		thief := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		res := thief.do(k.Handler(), post(selectPath, `{"tenant":"T1"}`))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
		require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
		assert.True(t, k.srv.Honours(b.refresh), "its owner goes on")
	})
}

// A client that keeps no session token, or sends none to a flow, shows by the refresh
// token that it has the answer.
func TestPresentedRefreshTokenIsNotHandedOutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		h := k.RequireSession(new(spy))
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		elapse(10 * time.Second)
		without := &browser{refresh: b.refresh}
		require.Equal(t, http.StatusOK, without.do(h, get("/")).StatusCode)
		res := old.do(h, get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}

// A successor that nobody has presented may never have arrived. It is kept for
// as long as its session lives.
func TestUnpresentedSuccessorIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		h := k.RequireSession(new(spy))
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		elapse(9 * time.Minute)
		assert.Equal(t, http.StatusOK, old.do(h, get("/")).StatusCode)
		assert.Equal(t, b.refresh, old.refresh)
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// When a client that missed the answer is handed it late, its other requests with
// the old token may still be on their way, and the session may end meanwhile.
func TestSuccessorHandedOutLateIsKeptAnotherMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		h := k.RequireSession(new(spy))
		old, lost := b.copied(), b.copied()
		require.Equal(t, http.StatusOK, lost.do(h, get("/")).StatusCode)
		elapse(9*time.Minute + 55*time.Second)
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		elapse(20 * time.Second)
		assert.Equal(t, http.StatusOK, old.do(k.Handler(), get(mePath)).StatusCode)
		assert.Equal(t, http.StatusOK, old.do(h, get("/")).StatusCode)
		assert.Equal(t, 2, k.srv.Requests(refreshPath))
	})
}

// The same when what comes of the successor arrives after the last moment for which it
// was kept. Times in tokens are whole seconds, so its session ends a little earlier.
func TestSuccessorIsSpentAtTheEndOfItsLife(t *testing.T) {
	const life = 10 * time.Minute
	for _, late := range []time.Duration{3 * time.Second, 59 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t, func(c *descopehttp.Config) { c.Leeway = -1 })
			h := k.RequireSession(new(spy))
			old, lost := b.copied(), b.copied()
			k.srv.Fail(refreshPath, descopetest.Fault{Delay: 700 * time.Millisecond})
			require.Equal(t, http.StatusOK, lost.do(h, get("/")).StatusCode)
			elapse(life - 400*time.Millisecond)
			k.srv.Fail(refreshPath, descopetest.Fault{Delay: 4 * time.Second})
			require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
			elapse(late)
			assert.Equal(t, http.StatusOK, old.do(h, get("/")).StatusCode)
			assert.Equal(t, b.refresh, old.refresh)
			assert.Equal(t, 2, k.srv.Requests(refreshPath))
		})
	}
}

// After the window Descope decides, and its first refusal keeps the cookies.
func TestAfterTheWindowDescopeDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		h := k.RequireSession(new(spy))
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		elapse(61 * time.Second)
		res := old.do(h, get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
		assert.Equal(t, 2, k.srv.Requests(refreshPath))
	})
}

// Without rotation the token stays good, and after the window it is refreshed
// again.
func TestUnrotatedTokenIsRefreshedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		h := k.RequireSession(new(spy))
		for i := range 4 {
			elapse(past)
			require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
			require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
			assert.Equal(t, i+1, k.srv.Requests(refreshPath))
		}
	})
}

// Descope's answer is kept before it is verified: a key that is not there yet, a
// key endpoint that is away or a wrong clock delays it, and nothing is spent
// twice.
func TestAnswerIsKeptBeforeItIsVerified(t *testing.T) {
	for name, trouble := range map[string]func(k *kit){
		"key appears late": func(k *kit) {
			k.srv.Configure(func(s *descopetest.Settings) { s.KeyDelay = 8 * time.Second })
			k.srv.RotateKeys()
		},
		"key endpoint away": func(k *kit) {
			k.srv.RotateKeys()
			k.srv.Fail(keysPath, descopetest.Fault{Status: 500, Times: -1})
		},
		"key endpoint slow": func(k *kit) {
			k.srv.RotateKeys()
			k.srv.Fail(keysPath, descopetest.Fault{Delay: 6 * time.Second, Times: -1})
		},
		"clock behind": func(k *kit) {
			k.srv.Configure(func(s *descopetest.Settings) {
				s.EditClaims = func(kind string, claims map[string]any) {
					claims["nbf"] = time.Now().Add(20 * time.Second).Unix()
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, b := newRotating(t)
				elapse(10 * time.Second)
				trouble(k)
				h := k.RequireSession(new(spy))
				old := b.copied()
				res := b.do(h, get("/"))
				requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
				assert.Empty(t, res.Cookies())
				assert.Equal(t, 1, k.srv.Requests(refreshPath))
				k.srv.Reset()
				elapse(30 * time.Second)
				assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
				assert.Equal(t, http.StatusOK, old.do(h, get("/")).StatusCode)
				assert.Zero(t, k.srv.Requests(refreshPath))
				assert.Equal(t, b.refresh, old.refresh)
			})
		})
	}
}

// The session in an answer may expire before its key is to be had. The refresh
// token beside it is good all the same, and the next refresh goes on from there.
func TestAnswerThatExpiresBeforeItIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = 20 * time.Second })
		elapse(10 * time.Second)
		k.srv.RotateKeys()
		k.srv.Fail(keysPath, descopetest.Fault{Status: 500, Times: -1})
		h := k.RequireSession(new(spy))
		requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
		k.srv.Reset()
		elapse(40 * time.Second)
		assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		assert.True(t, k.srv.Honours(b.refresh))
	})
}

// Without rotation nothing was spent for an answer whose key never comes. When its
// session has expired, another one is asked for.
func TestAnswerThatIsNeverVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.KeyDelay = 20*time.Second, time.Hour })
		b := signIn(k, ada)
		elapse(past)
		k.srv.RotateKeys()
		h := k.RequireSession(new(spy))
		requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
		k.srv.Configure(func(s *descopetest.Settings) { s.KeyDelay = 0 })
		k.srv.RotateKeys()
		elapse(15 * time.Second)
		requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, 1, k.srv.Requests(refreshPath), "the session may still be good")
		elapse(10 * time.Second)
		assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		assert.Equal(t, 2, k.srv.Requests(refreshPath))
	})
}

// A key that signs Descope's answer a moment after the set was fetched is worth
// waiting for the next fetch.
func TestKeyRotatedJustAfterAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.RotateKeys()
		elapse(time.Millisecond)
		began := time.Now()
		assert.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		assert.LessOrEqual(t, time.Since(began), time.Second)
		assert.Equal(t, 2, k.srv.Requests(keysPath))
	})
}

// With a clock far ahead every session seems expired. That is no reason to spend
// one refresh token after another.
func TestClockFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Configure(func(s *descopetest.Settings) {
			s.EditClaims = func(kind string, claims map[string]any) {
				if kind == "DS" {
					claims["iat"] = time.Now().Add(-time.Hour).Unix()
					claims["exp"] = time.Now().Add(-50 * time.Minute).Unix()
				}
			}
		})
		h := k.RequireSession(new(spy))
		for range 9 {
			requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
			elapse(time.Minute)
		}
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
		assert.Contains(t, k.logs.String(), "is the clock right")
	})
}

// Descope spends the token, and its answer is lost on the wire. There is no
// blind retry; the cookies stay, and what comes next is Descope's to say: with
// rotation it refuses the spent token, without it all is well.
func TestLostAnswer(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			k.srv.Fail(refreshPath, descopetest.Fault{Drop: true, After: true})
			h := k.RequireSession(new(spy))
			res := b.do(h, get("/"))
			requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.Empty(t, res.Cookies())
			assert.Equal(t, 1, k.srv.Requests(refreshPath))
			res = b.do(h, get("/"))
			assert.Equal(t, 2, k.srv.Requests(refreshPath))
			if !rotate {
				assert.Equal(t, http.StatusOK, res.StatusCode)
				return
			}
			requireProblem(t, res, http.StatusUnauthorized, "session_ended")
			assert.Empty(t, res.Cookies())
		})
	}
}

// The first refusal keeps the cookies, the second one ten seconds later deletes
// them, and Descope is not asked again in between.
func TestRefusalIsConfirmedBeforeCookiesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.LogOut(ada)
		h := k.RequireSession(new(spy))
		for _, wait := range []time.Duration{0, time.Second, 8 * time.Second} {
			elapse(wait)
			res := b.do(h, get("/"))
			requireProblem(t, res, http.StatusUnauthorized, "session_ended")
			assert.Empty(t, res.Cookies())
		}
		elapse(time.Second)
		assert.Empty(t, serve(k.LoadSession(new(spy)), withCookies(get("/"), b.session, b.refresh)).Cookies(), "LoadSession deletes nothing")
		requireProblem(t, b.do(h, get("/")), http.StatusUnauthorized, "session_ended")
		assert.Empty(t, b.session)
		assert.Empty(t, b.refresh)
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
		requireProblem(t, b.do(h, get("/")), http.StatusUnauthorized, "no_session")
	})
}

// A polls with a dead cookie while B signs in; A's refusal arrives last. The
// cookies of the new sign-in are still there.
func TestLateRefusalKeepsANewerSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.LogOut(ada)
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: 3 * time.Second})
		h := k.RequireSession(new(spy))
		polled := make(chan *http.Response)
		stale := b.copied()
		go func() { polled <- serve(h, withCookies(get("/"), stale.session, stale.refresh)) }()
		elapse(time.Second)
		res := b.do(k.Handler(), post("/v1/auth/totp/verify", `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
		require.Equal(t, http.StatusOK, res.StatusCode)
		signedIn := b.copied()
		late := <-polled
		requireProblem(t, late, http.StatusUnauthorized, "session_ended")
		b.keep(late)
		assert.Equal(t, signedIn.refresh, b.refresh)
		assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
	})
}

// Nothing but a known code in Descope's own JSON deletes cookies, however often
// it comes; when it is mended, everybody is in again.
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
				k, b := newRotating(t)
				fault.Times = -1
				k.srv.Fail(refreshPath, fault)
				h := k.RequireSession(new(spy))
				for range 10 {
					res := b.do(h, get("/"))
					assert.Contains(t, []int{401, 503}, res.StatusCode)
					assert.Empty(t, res.Cookies())
					elapse(7 * time.Second)
				}
				assert.NotContains(t, k.logs.String(), "is the clock right", "an operator is not led astray")
				k.srv.Reset()
				assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
			})
		})
	}
}

// Without keys an answer could not be judged, and the refresh token would be spent for
// it.
func TestNoRefreshWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		b := signIn(k, ada)
		elapse(past)
		k.srv.Fail(keysPath, descopetest.Fault{Status: 500, Times: -1})
		h := k.RequireSession(new(spy))
		requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
		requireProblem(t, b.do(k.Handler(), post("/v1/auth/refresh", "{}")), http.StatusBadGateway, "unavailable")
		assert.Zero(t, k.srv.Requests(refreshPath))
		k.srv.Reset()
		elapse(5 * time.Second)
		assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
	})
}

func TestOddRefusalIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Fail(refreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`, Times: -1})
		h := k.RequireSession(new(spy))
		for range 30 {
			b.do(h, get("/"))
			elapse(3 * time.Second)
		}
		assert.Equal(t, 2, strings.Count(k.logs.String(), "level=ERROR"))
	})
}

// A refresh token that was issued a moment ago and comes without a session gets
// the session it came with: a browser that cannot keep a large session cookie
// must not refresh on every request.
func TestFreshRefreshTokenWithoutSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		h := k.RequireSession(new(spy))
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		for range 5 {
			elapse(10 * time.Second)
			res := serve(h, withCookies(get("/"), "", b.refresh))
			require.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, b.session, cookiesOf(res)[sessionCookie].Value)
			assert.NotContains(t, cookiesOf(res), refreshCookie)
		}
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
		elapse(11 * time.Second)
		require.Equal(t, http.StatusOK, serve(h, withCookies(get("/"), "", b.refresh)).StatusCode)
		assert.Equal(t, 2, k.srv.Requests(refreshPath))
	})
}

// A client that asks for a refresh in so many words gets one.
func TestExplicitRefreshIsNotServedFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		for i := range 3 {
			elapse(2 * time.Second)
			before := b.session
			require.Equal(t, http.StatusOK, b.do(k.Handler(), post("/v1/auth/refresh", "{}")).StatusCode)
			assert.NotEqual(t, before, b.session)
			assert.Equal(t, i+1, k.srv.Requests(refreshPath))
		}
	})
}

// A refresh outlives the client that it was begun for, and Wait waits for it.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: 2 * time.Second})
		r := get("/")
		gone, cancel := contextWithTimeout(r, time.Millisecond)
		defer cancel()
		old := b.copied()
		b.do(k.RequireSession(new(spy)), r.WithContext(gone))
		began := time.Now()
		impatient, cancel := contextWithTimeout(r, time.Second)
		defer cancel()
		require.ErrorIs(t, k.Wait(impatient), context.DeadlineExceeded)
		require.NoError(t, k.Wait(t.Context()))
		assert.Equal(t, 2*time.Second, time.Since(began).Round(100*time.Millisecond))
		assert.Equal(t, http.StatusOK, old.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// Mounted refresh and try-refresh share a call under way with the middleware.
func TestHandlersShareTheFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second})
		app := k.RequireSession(new(spy))
		var wg sync.WaitGroup
		for _, do := range []func() *http.Response{
			func() *http.Response { return b.copied().do(app, get("/")) },
			func() *http.Response { return b.copied().do(k.Handler(), post("/v1/auth/refresh", "{}")) },
			func() *http.Response { return b.copied().do(k.Handler(), post("/v1/auth/try-refresh", "{}")) },
			func() *http.Response { return b.copied().do(k.Handler(), get("/v1/auth/me")) },
		} {
			wg.Go(func() { assert.Equal(t, http.StatusOK, do().StatusCode) })
		}
		wg.Wait()
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
		assert.Zero(t, k.srv.Requests("/v1/auth/try-refresh"))
	})
}

// Every other call that carries a refresh token uses the newest.
func TestEveryCallFollowsTheSuccessor(t *testing.T) {
	for name, request := range map[string]func(k *kit) *http.Request{
		"me":      func(*kit) *http.Request { return get("/v1/auth/me") },
		"history": func(*kit) *http.Request { return get("/v1/auth/me/history") },
		"tenants": func(*kit) *http.Request { return post("/v1/auth/me/tenants", `{"dct":true}`) },
		"update":  func(*kit) *http.Request { return post("/v1/auth/totp/update", `{"loginId":"`+ada+`"}`) },
		"select":  func(*kit) *http.Request { return post("/v1/auth/tenant/select", `{"tenant":"T1"}`) },
		"step-up": func(k *kit) *http.Request {
			return post("/v1/auth/totp/verify", `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`","loginOptions":{"stepup":true}}`)
		},
		"refresh": func(*kit) *http.Request { return post("/v1/auth/refresh", "{}") },
	} {
		for _, during := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				k.srv.Configure(rotating)
				k.srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
				k.srv.RotateKeys()
				b := signIn(k, ada)
				if name == "select" {
					b = signIn(k, "eve")
				}
				elapse(past)
				require.NoError(t, k.Ready(t.Context()))
				old := b.copied()
				k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second})
				var wg sync.WaitGroup
				wg.Go(func() { assert.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode) })
				if during {
					elapse(100 * time.Millisecond)
				} else {
					wg.Wait()
				}
				res := old.do(k.Handler(), request(k))
				wg.Wait()
				assert.Equal(t, http.StatusOK, res.StatusCode, "%s, during %v", name, during)
				assert.Equal(t, 1, k.srv.Requests(refreshPath))
			})
		}
	}
}

// What may mint tokens runs alone: two of them would spend one token twice. Whoever
// waited for one looks again before it begins.
func TestMintingCallsRunOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		k.srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}, "T2": {}}})
		b := signIn(k, "eve")
		elapse(past)
		require.NoError(t, k.Ready(t.Context()))
		var at atomic.Int64
		counting := kitFor(t, k.srv, func(c *descopehttp.Config) {
			inner := c.HTTPClient.Transport
			c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPost {
					assert.EqualValues(t, 1, at.Add(1), "another call is under way")
					defer at.Add(-1)
				}
				return inner.RoundTrip(r)
			})}
		})
		require.NoError(t, counting.Ready(t.Context()))
		for _, path := range []string{refreshPath, selectPath} {
			k.srv.Fail(path, descopetest.Fault{Delay: 500 * time.Millisecond, Times: -1})
		}
		var wg sync.WaitGroup
		for _, r := range []*http.Request{
			post(selectPath, `{"tenant":"T1"}`), post(refreshPath, "{}"), post(selectPath, `{"tenant":"T2"}`), post(selectPath, `{"tenant":"T1"}`),
		} {
			wg.Go(func() { assert.Equal(t, http.StatusOK, b.copied().do(counting.Handler(), r).StatusCode) })
		}
		wg.Wait()
		assert.Equal(t, 3, k.srv.Requests(selectPath))
	})
}

// What was spent for an answer that cannot be verified yet is not presented, whatever
// is asked: Descope might end the whole sign-in for it.
func TestUnverifiedSuccessorAndOtherCalls(t *testing.T) {
	for name, request := range map[string]func(k *kit) *http.Request{
		"select": func(*kit) *http.Request { return post(selectPath, `{"tenant":"T1"}`) },
		"step-up": func(k *kit) *http.Request {
			return post(verifyPath, `{"loginId":"eve","code":"`+k.srv.Code("eve")+`","loginOptions":{"stepup":true}}`)
		},
		"me": func(*kit) *http.Request { return get(mePath) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				k.srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
				k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.ReuseRevokesFamily = true, true })
				b := signIn(k, "eve")
				elapse(past)
				require.NoError(t, k.Ready(t.Context()))
				elapse(10 * time.Second)
				k.srv.RotateKeys()
				k.srv.Fail(keysPath, descopetest.Fault{Status: 500, Times: -1})
				h := k.RequireSession(new(spy))
				requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
				requireProblem(t, b.copied().do(k.Handler(), request(k)), http.StatusBadGateway, "unavailable")
				k.srv.Reset()
				elapse(30 * time.Second)
				assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
				assert.True(t, k.srv.Honours(b.refresh))
			})
		})
	}
}

// Tokens have whole seconds. Whoever asks for a refresh again and again gets one a
// second, and does not use up everybody's calls.
func TestExplicitRefreshOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		require.NoError(t, k.Ready(t.Context()))
		for range 100 {
			require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
		}
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
		elapse(time.Second)
		require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
		assert.Equal(t, 2, k.srv.Requests(refreshPath))
	})
}

// More calls at once than successors are followed: what is known to be spent is not
// presented, for which Descope might end the whole sign-in.
func TestManyMintingCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		k.srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := signIn(k, "eve")
		require.NoError(t, k.Ready(t.Context()))
		k.srv.Fail(selectPath, descopetest.Fault{Delay: 50 * time.Millisecond, Times: -1})
		var mu sync.Mutex
		got := make(map[int]int)
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				res := b.copied().do(k.Handler(), post(selectPath, `{"tenant":"T1"}`))
				mu.Lock()
				defer mu.Unlock()
				got[res.StatusCode]++
			})
		}
		wg.Wait()
		assert.Equal(t, map[int]int{http.StatusOK: 16, http.StatusBadGateway: 24}, got)
		assert.Equal(t, 16, k.srv.Requests(selectPath))
	})
}

// A call that Descope refuses, because its token was spent meanwhile, goes on from
// there and does not begin anew.
func TestCallAfterManyRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		b := signIn(k, ada)
		old := b.copied()
		for range 17 {
			elapse(time.Second)
			require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
		}
		requireProblem(t, old.do(k.Handler(), get(mePath)), http.StatusBadGateway, "unavailable")
		assert.Zero(t, k.srv.Requests(mePath))
	})
}

// A step-up is for the request that asked for it, never from memory.
func TestStepUpNeverComesFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		b := signIn(k, ada)
		old := b.copied()
		res := b.do(k.Handler(), post("/v1/auth/totp/verify", `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`","loginOptions":{"stepup":true}}`))
		require.Equal(t, http.StatusOK, res.StatusCode)
		s, err := k.VerifyToken(t.Context(), b.session)
		require.NoError(t, err)
		require.True(t, s.StepUp())

		for _, other := range []*browser{{refresh: old.refresh}, {refresh: b.refresh}} {
			next := new(spy)
			require.Equal(t, http.StatusOK, other.do(k.RequireSession(next), get("/")).StatusCode)
			s, ok := descopehttp.SessionFromContext(next.last().Context())
			require.True(t, ok)
			assert.False(t, s.StepUp())
		}
	})
}

func logout(k *kit, b *browser) *http.Response {
	return b.do(k.Handler(), post("/v1/auth/logout", "{}"))
}

// requireLoggedOut checks that nothing of a sign-in is honoured any more, by the
// kit or by Descope.
func requireLoggedOut(t *testing.T, k *kit, tokens ...string) {
	t.Helper()
	for _, refresh := range tokens {
		assert.False(t, k.srv.Honours(refresh))
		res := serve(k.RequireSession(new(spy)), withCookies(get("/"), "", refresh))
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		for _, c := range res.Cookies() {
			assert.Empty(t, c.Value)
		}
	}
}

func TestLogoutWins(t *testing.T) {
	t.Run("before a refresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			old := b.copied()
			assert.Equal(t, http.StatusOK, logout(k, b).StatusCode)
			assert.Empty(t, b.refresh)
			requireLoggedOut(t, k, old.refresh)
			assert.Zero(t, k.srv.Requests(refreshPath))
		})
	})
	t.Run("during a refresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			var brought string
			k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second})
			old := b.copied()
			var wg sync.WaitGroup
			wg.Go(func() {
				res := serve(k.RequireSession(new(spy)), withCookies(get("/"), old.session, old.refresh))
				assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
				for _, c := range res.Cookies() {
					brought += c.Value
				}
			})
			elapse(500 * time.Millisecond)
			assert.Equal(t, http.StatusOK, logout(k, b).StatusCode)
			wg.Wait()
			assert.Empty(t, brought)
			requireLoggedOut(t, k, old.refresh)
			assert.Equal(t, 2, k.srv.Requests("/v1/auth/logout"), "the flight revokes what it brought")
		})
	})
	t.Run("after a refresh, with the new token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			old := b.copied()
			require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
			renewed := b.copied()
			assert.Equal(t, http.StatusOK, logout(k, b).StatusCode)
			requireLoggedOut(t, k, old.refresh, renewed.refresh)
		})
	})
	t.Run("after a refresh, with the old token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			old := b.copied()
			require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
			renewed := b.copied()
			assert.Equal(t, http.StatusOK, logout(k, old.copied()).StatusCode)
			requireLoggedOut(t, k, old.refresh, renewed.refresh)
		})
	})
	t.Run("twice, and without a session", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			old := b.copied()
			for _, b := range []*browser{b, old, {}} {
				res := logout(k, b)
				assert.Equal(t, http.StatusOK, res.StatusCode)
				assert.Len(t, res.Cookies(), 2)
			}
		})
	})
	t.Run("though the client hangs up", func(t *testing.T) {
		for _, path := range []string{logoutPath, logoutAllPath} {
			synctest.Test(t, func(t *testing.T) {
				k, b := newRotating(t)
				k.srv.Fail(path, descopetest.Fault{Delay: time.Second})
				r := withCookies(post(path, "{}"), b.session, b.refresh)
				ctx, cancel := contextWithTimeout(r, time.Millisecond)
				defer cancel()
				serve(k.Handler(), r.WithContext(ctx))
				requireLoggedOut(t, k, b.refresh)
			})
		}
	})
	t.Run("during a refresh, and Descope does not hear of it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second})
			k.srv.Fail(logoutPath, descopetest.Fault{Status: 503})
			var wg sync.WaitGroup
			wg.Go(func() {
				res := b.copied().do(k.RequireSession(new(spy)), get("/"))
				requireProblem(t, res, http.StatusUnauthorized, "session_ended")
			})
			elapse(500 * time.Millisecond)
			requireProblem(t, logout(k, b), http.StatusBadGateway, "unavailable")
			wg.Wait()
		})
	})
	t.Run("during a refresh, with a token whose key was never held here", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.KeysKept = true, 1 })
			b := signIn(k, ada)
			k.srv.RotateKeys()
			require.NoError(t, k.Ready(t.Context()))
			elapse(past)
			k.srv.Fail(refreshPath, descopetest.Fault{Delay: 150 * time.Millisecond})
			page, click := b.copied(), b.copied()
			var wg sync.WaitGroup
			wg.Go(func() {
				res := page.do(k.RequireSession(new(spy)), get("/"))
				requireProblem(t, res, http.StatusUnauthorized, "session_ended")
				assert.Empty(t, res.Cookies())
			})
			elapse(50 * time.Millisecond)
			assert.Equal(t, http.StatusOK, logout(k, click).StatusCode)
			wg.Wait()
		})
	})
	t.Run("after a call that minted a token, with the one from before", func(t *testing.T) {
		for _, path := range []string{verifyPath, selectPath} {
			for _, rotate := range []bool{false, true} {
				for _, refreshed := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						k := newKit(t)
						k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
						k.srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
						b := signIn(k, "eve")
						require.NoError(t, k.Ready(t.Context()))
						elapse(past)
						page, click, old := b.copied(), b.copied(), b.copied()
						body := map[string]string{
							verifyPath: `{"loginId":"eve","code":"` + k.srv.Code("eve") + `","loginOptions":{"stepup":true}}`,
							selectPath: `{"tenant":"T1"}`,
						}[path]
						require.Equal(t, http.StatusOK, b.do(k.Handler(), post(path, body)).StatusCode)
						if refreshed {
							require.Equal(t, http.StatusOK, page.do(k.RequireSession(new(spy)), get("/")).StatusCode)
						}
						require.Equal(t, http.StatusOK, logout(k, click).StatusCode)
						for name, refresh := range map[string]string{"before": old.refresh, "minted": b.refresh, "renewed": page.refresh} {
							assert.False(t, k.srv.Honours(refresh), "%s, %s, rotation %v, refreshed %v", name, path, rotate, refreshed)
						}
					})
				}
			}
		}
	})
	t.Run("after more refreshes than are followed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			k.srv.Configure(rotating)
			b := signIn(k, ada)
			old := b.copied()
			for range 40 {
				elapse(time.Second)
				require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
			}
			require.Equal(t, http.StatusOK, logout(k, old).StatusCode)
			requireLoggedOut(t, k, b.refresh)
		})
	})
	t.Run("as often as somebody likes, for one call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			b := signIn(k, ada)
			for range 600 {
				require.Equal(t, http.StatusOK, logout(k, b.copied()).StatusCode)
			}
			assert.Equal(t, 1, k.srv.Requests(logoutPath))
		})
	})
	t.Run("until the next sign-in, which may bring the same token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			again := k.srv.SignIn(ada)
			b := &browser{refresh: again.Refresh}
			require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
			k.srv.Fail(logoutPath, descopetest.Fault{Status: 200, Body: "{}"}) // within the same second
			require.Equal(t, http.StatusOK, logout(k, b).StatusCode)
			k.srv.Fail(verifyPath, descopetest.Fault{Status: 200, Body: `{"sessionJwt":"` + again.Session + `","refreshJwt":"` + again.Refresh + `"}`})
			require.Equal(t, http.StatusOK, b.do(k.Handler(), post(verifyPath, `{"loginId":"`+ada+`","code":"123456"}`)).StatusCode)
			assert.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
			require.True(t, k.srv.Honours(b.refresh))
			assert.Equal(t, http.StatusOK, logout(k, b.copied()).StatusCode)
			assert.False(t, k.srv.Honours(b.refresh))
		})
	})
	t.Run("while Descope is away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, b := newRotating(t)
			old := b.copied()
			k.srv.Fail("", descopetest.Fault{Status: 503, Times: -1})
			requireProblem(t, logout(k, b), http.StatusBadGateway, "unavailable")
			assert.Empty(t, b.refresh, "the cookies go all the same")
			k.srv.Reset()
			elapse(time.Minute)
			res := serve(k.RequireSession(new(spy)), withCookies(get("/"), "", old.refresh))
			requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		})
	})
}

// Descope did not hear of a logout. What is kept leads nobody on, not even when the
// logout is forgotten.
func TestLinkOfALogoutLeadsNobodyOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.SessionTTL = true, time.Hour })
		b := signIn(k, ada)
		elapse(time.Hour + 6*time.Second)
		late, lost := b.copied(), b.copied()
		h := k.RequireSession(new(spy))
		require.Equal(t, http.StatusOK, lost.do(h, get("/")).StatusCode)
		k.srv.Fail(logoutPath, descopetest.Fault{Status: 503})
		requireProblem(t, logout(k, b), http.StatusBadGateway, "unavailable")
		elapse(11 * time.Minute)
		res := late.do(h, get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// A successor that nobody has presented is kept for longer than a logout is
// remembered, and serves nobody all the same.
func TestLogoutOutlivesWhatIsKept(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		for _, withNewest := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.SessionTTL = rotate, time.Hour })
				b := signIn(k, ada)
				elapse(time.Hour + 6*time.Second)
				late, lost := b.copied(), b.copied()
				h := k.RequireSession(new(spy))
				require.Equal(t, http.StatusOK, lost.do(h, get("/")).StatusCode)
				if withNewest {
					b.refresh = lost.refresh
				}
				require.Equal(t, http.StatusOK, logout(k, b).StatusCode)
				elapse(11 * time.Minute)
				res := late.do(h, get("/"))
				requireProblem(t, res, http.StatusUnauthorized, "session_ended")
				assert.Empty(t, res.Cookies())
			})
		}
	}
}

func TestLogoutAllDropsWhatIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		other := signIn(k, ada)
		assert.Equal(t, http.StatusOK, other.do(k.Handler(), post("/v1/auth/logoutall", "{}")).StatusCode)
		elapse(time.Second)
		requireLoggedOut(t, k, old.refresh, b.refresh)
	})
}

// A refresh that is under way on one device while another signs out everywhere
// must not bring a session.
func TestLogoutAllDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
		other := signIn(k, ada)
		var wg sync.WaitGroup
		wg.Go(func() {
			res := b.do(k.RequireSession(new(spy)), get("/"))
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		})
		elapse(time.Second)
		assert.Equal(t, http.StatusOK, other.do(k.Handler(), post("/v1/auth/logoutall", "{}")).StatusCode)
		wg.Wait()
	})
}

// While a logout everywhere is under way, somebody signs in and their token is renewed.
// Whatever Descope did first: what was spent is not presented again.
func TestLogoutAllDoesNotForgetWhatWasSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, other := newRotating(t)
		k.srv.Fail(logoutAllPath, descopetest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, other.do(k.Handler(), post(logoutAllPath, "{}")).StatusCode)
		})
		elapse(100 * time.Millisecond)
		b := signIn(k, ada)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
		wg.Wait()
		res := late.do(k.Handler(), post(refreshPath, "{}"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// Without rotation nothing is spent, and Descope can be asked: it may have dealt with
// the logout before the sign-in.
func TestLogoutAllAndANewerSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		other := signIn(k, ada)
		require.NoError(t, k.Ready(t.Context()))
		k.srv.Fail(logoutAllPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, other.do(k.Handler(), post(logoutAllPath, "{}")).StatusCode)
		})
		elapse(time.Second)
		b := signIn(k, ada)
		require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
		wg.Wait()
		elapse(time.Second)
		assert.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
	})
}

// Neither must a sign-in that was under way, whichever of the two Descope dealt
// with first.
func TestLogoutAllDuringASignIn(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"signed in before": {Delay: 2 * time.Second, After: true},
		"signed in after":  {Delay: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				other := signIn(k, ada)
				k.srv.Fail(verifyPath, fault)
				var wg sync.WaitGroup
				wg.Go(func() {
					res := new(browser).do(k.Handler(), post(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
					assert.Empty(t, res.Cookies())
					requireProblem(t, res, http.StatusUnauthorized, "session_ended")
				})
				elapse(time.Second)
				assert.Equal(t, http.StatusOK, other.do(k.Handler(), post(logoutAllPath, "{}")).StatusCode)
				wg.Wait()
				assert.Equal(t, 1, k.srv.Requests(logoutPath), "what the sign-in brought is revoked")
				again := new(browser)
				elapse(30 * time.Second) // to the next code
				again.do(k.Handler(), post(verifyPath, `{"loginId":"`+ada+`","code":"`+k.srv.Code(ada)+`"}`))
				assert.Equal(t, http.StatusOK, again.do(k.RequireSession(new(spy)), get("/")).StatusCode)
			})
		})
	}
}

// While Descope is away, requests fail at once after a few have waited, and one
// call at a time tries whether it is back.
func TestOutageFailsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _ := newRotating(t)
		var users []*browser
		for range 20 {
			users = append(users, signIn(k, ada))
			elapse(time.Second)
		}
		elapse(past)
		require.NoError(t, k.Ready(t.Context()))
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Hour, Times: -1})
		h := k.RequireSession(new(spy))
		began := time.Now()
		for range 5 {
			requireProblem(t, users[0].do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
		}
		assert.Equal(t, 22500*time.Millisecond, time.Since(began))
		calls := k.srv.Requests(refreshPath)
		began = time.Now()
		for _, b := range users {
			res := b.do(h, get("/"))
			requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.NotEmpty(t, res.Header.Get("Retry-After"))
		}
		assert.Zero(t, time.Since(began))
		assert.Equal(t, calls, k.srv.Requests(refreshPath))

		elapse(3 * time.Second)
		var wg sync.WaitGroup
		for _, b := range users {
			wg.Go(func() { requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable") })
		}
		wg.Wait()
		assert.Equal(t, calls+1, k.srv.Requests(refreshPath), "one probe")

		require.NoError(t, k.Wait(t.Context()))
		k.srv.Reset()
		elapse(3 * time.Second)
		for _, b := range users {
			assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		}
	})
}

// What a client can provoke does not count as an outage, and what anybody can
// flood stops nobody's session from being renewed.
func TestFloodOfOneClassStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		k.srv.Fail("/v1/auth/totp/verify", descopetest.Fault{Status: 503, Times: -1})
		for range 10 {
			serve(k.Handler(), post("/v1/auth/totp/verify", `{"loginId":"x","code":"000000"}`))
		}
		assert.LessOrEqual(t, k.srv.Requests("/v1/auth/totp/verify"), 5)
		assert.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)

		k.srv.Reset()
		elapse(time.Minute)
		k.srv.Fail("/v1/auth/totp/verify", descopetest.Fault{Status: 403, Body: "<html>", Times: 20})
		for range 20 {
			serve(k.Handler(), post("/v1/auth/totp/verify", `{"loginId":"x' OR 1=1","code":"000000"}`))
		}
		assert.Equal(t, 20, k.srv.Requests("/v1/auth/totp/verify"))
	})
}

// A session is renewed shortly before it ends. The request that begins the call
// waits, others are served by the session that they have.
func TestRenewingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		b := signIn(k, ada)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(spy))
		elapse(10*time.Minute - 31*time.Second)
		assert.Empty(t, b.do(h, get("/")).Cookies())
		elapse(2 * time.Second)

		k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second})
		old := b.copied()
		var wg sync.WaitGroup
		wg.Go(func() {
			began := time.Now()
			assert.Len(t, b.do(h, get("/")).Cookies(), 2)
			assert.Equal(t, time.Second, time.Since(began))
		})
		elapse(time.Millisecond)
		began := time.Now()
		for range 10 {
			res := old.copied().do(h, get("/"))
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Empty(t, res.Cookies())
		}
		assert.Zero(t, time.Since(began))
		wg.Wait()
		assert.Equal(t, 1, k.srv.Requests(refreshPath))

		// Those who did not get the new cookies find them when the old end.
		elapse(time.Minute)
		assert.Equal(t, http.StatusOK, old.do(h, get("/")).StatusCode)
		assert.Equal(t, b.refresh, old.refresh)
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// Without rotation the same token leads to the session that is about to end.
func TestRenewingAheadOfARenewedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		elapse(past)
		h := k.RequireSession(new(spy))
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		elapse(10*time.Minute - 20*time.Second)
		assert.NotEmpty(t, b.do(h, get("/")).Cookies())
	})
}

// A refresh that a client has asked for is under way: the page does not wait for it.
func TestNotRenewedAheadDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(rotating)
		b := signIn(k, ada)
		require.NoError(t, k.Ready(t.Context()))
		elapse(10*time.Minute - 20*time.Second)
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second})
		page := b.copied()
		var wg sync.WaitGroup
		wg.Go(func() { assert.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode) })
		elapse(time.Millisecond)
		began := time.Now()
		assert.Equal(t, http.StatusOK, page.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		assert.Zero(t, time.Since(began))
		wg.Wait()
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

func TestRenewingAheadThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(spy))
		elapse(10*time.Minute - 20*time.Second)
		k.srv.Fail(refreshPath, descopetest.Fault{Status: 500, Times: -1})
		for range 5 {
			res := b.do(h, get("/"))
			assert.Equal(t, http.StatusOK, res.StatusCode, "the old session still serves")
			assert.Empty(t, res.Cookies())
		}
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

func TestNotRenewedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		plain, stepUp := k.srv.SignIn(ada), k.srv.StepUp(ada)
		require.NoError(t, k.Ready(t.Context()))
		h := k.RequireSession(new(spy))
		elapse(10*time.Minute - 10*time.Second)
		upgrade := withCookies(get("/"), plain.Session, plain.Refresh)
		upgrade.Header.Set("Upgrade", "websocket")
		for name, r := range map[string]*http.Request{
			"bearer":           withBearer(get("/"), plain.Session),
			"upgrade":          upgrade,
			"step-up":          withCookies(get("/"), stepUp.Session, stepUp.Refresh),
			"no refresh token": withCookies(get("/"), plain.Session, ""),
		} {
			res := serve(h, r)
			assert.Equal(t, http.StatusOK, res.StatusCode, name)
			assert.Empty(t, res.Cookies(), name)
		}
		assert.Zero(t, k.srv.Requests(refreshPath))
	})
}

// A session in memory whose key was revoked since is not handed out.
func TestRevokedKeyAndMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t)
		h := k.RequireSession(new(spy))
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		k.srv.RevokeKeys()
		elapse(6 * time.Second)
		require.Equal(t, http.StatusOK, serve(h, withBearer(get("/"), k.srv.SignIn(ada).Session)).StatusCode)
		res := serve(h, withCookies(get("/"), old.session, old.refresh))
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}
