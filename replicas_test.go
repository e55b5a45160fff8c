package descopehttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
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
// Rule: replicas: a lease: one of them calls, the others wait for its result; without rotation
// it is shared while it lives.
func TestReplicasRefreshOnce(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			replicas, _, b := kittest.NewReplicas(t, 3)
			srv := replicas[0].Project
			srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			srv.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 100 * time.Millisecond})
			var mu sync.Mutex
			got := make(map[kittest.Browser]int)
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					mine := b.Copied()
					assert.Equal(t, http.StatusOK, mine.Do(replicas[i%3].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
					mu.Lock()
					defer mu.Unlock()
					got[kittest.Browser{Session: mine.Session, Refresh: mine.Refresh}]++
				})
			}
			wg.Wait()
			assert.Len(t, got, 1)
			assert.Equal(t, 1, srv.Requests(kittest.RefreshPath))
		})
	}
}

// Without rotation a session is shared until it ends: what the store holds of it
// longer would keep replicas from taking turns. This one spends some of its life on
// the way.
//
// Rule: replicas: a lease: one of them calls, the others wait for its result; without rotation
// it is shared while it lives.
func TestReplicasRefreshOnceWhenASharedSessionEnds(t *testing.T) {
	const life = 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		store := kittest.NewMemoryStore()
		share := func(c *descopehttp.Config) { c.RefreshStore, c.Leeway = store, -1 }
		k := kittest.New(t, share)
		replicas := []*kittest.Kit{k, kittest.For(t, k.Project, share)}
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = life })
		b := kittest.SignIn(k, kittest.Ada)
		kittest.Elapse(life)
		for _, r := range replicas {
			require.NoError(t, r.Ready(t.Context()))
		}
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 4 * time.Second, After: true})
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		kittest.Elapse(life - 3*time.Second)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Times: -1, Delay: 100 * time.Millisecond})
		var wg sync.WaitGroup
		for _, r := range replicas {
			wg.Go(func() {
				assert.Equal(t, http.StatusOK, b.Copied().Do(r.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
			})
		}
		wg.Wait()
		assert.Equal(t, 2, k.Project.Requests(kittest.RefreshPath), "one a session")
	})
}

// Rule: renewing: against a request that arrives after its token was spent: a spent token leads
// to its newest successor for a minute, here and on other replicas.
// Rule: replicas: another's result is followed to its end, also by calls that may mint.
func TestLateRequestOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		srv := replicas[0].Project
		first := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		kittest.Elapse(30 * time.Second)
		late := first.Copied()
		require.Equal(t, http.StatusOK, late.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Equal(t, b.Refresh, late.Refresh)
		assert.Equal(t, 1, srv.Requests(kittest.RefreshPath))
	})
}

// A refresh token that was spent just before it expired, for one that lives
// longer: its late requests must not delete the cookies of that one.
//
// Rule: renewing: against a request that arrives after its token was spent: a spent token leads
// to its newest successor for a minute, here and on other replicas.
// Rule: renewing: an expired token that was spent in time still leads on, for a minute.
func TestLateRequestWithAnExpiredToken(t *testing.T) {
	for name, at := range map[string]int{"without a store": 0, "on the same replica": 0, "on another": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, _, _ := kittest.NewReplicas(t, 2)
				if name == "without a store" {
					alone, _ := kittest.NewRotating(t)
					replicas = []*kittest.Kit{alone}
				}
				srv := replicas[0].Project
				srv.Configure(func(s *descopetest.Settings) { s.SlideRefreshExpiry, s.RefreshTTL = true, 12*time.Minute })
				b := kittest.SignIn(replicas[0], kittest.Ada)
				untouched := kittest.SignIn(replicas[0], kittest.Ada)
				kittest.Elapse(12*time.Minute - 10*time.Second)
				late, spent := b.Copied(), b.Copied()
				require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
				kittest.Elapse(30 * time.Second)
				require.Equal(t, http.StatusOK, late.Do(replicas[at].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
				assert.Equal(t, b.Refresh, late.Refresh)
				assert.Equal(t, 1, srv.Requests(kittest.RefreshPath))

				res := untouched.Do(replicas[at].RequireSession(new(kittest.Spy)), kittest.Get("/"))
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_expired")
				assert.Len(t, res.Cookies(), 2, "deleted at once, because nothing came of it")
				assert.Equal(t, 1, srv.Requests(kittest.RefreshPath))

				kittest.Elapse(time.Minute)
				for _, k := range replicas {
					kittest.RequireProblem(t, spent.Copied().Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")), http.StatusUnauthorized, "session_expired")
				}
			})
		})
	}
}

// Without rotation, what another replica was given is no answer to a client that asks
// for a refresh in so many words.
//
// Rule: renewing: whoever asks for a refresh in so many words gets a new one while their token
// is in force, one a second.
func TestExplicitRefreshOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		srv := replicas[0].Project
		srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = false })
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		kittest.Elapse(2 * time.Second)
		before := b.Session
		require.Equal(t, http.StatusOK, b.Do(replicas[1].Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		assert.NotEqual(t, before, b.Session)
		assert.Equal(t, 2, srv.Requests(kittest.RefreshPath))
	})
}

// When rotation is switched on, the store may still hold a session from before, for
// which nothing was spent.
//
// Rule: replicas: a session from before rotation was switched on does not stand for what was
// spent since.
func TestRotationIsSwitchedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		k := replicas[0]
		k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = false })
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		k.Project.Configure(kittest.Rotating)
		kittest.Elapse(2 * time.Second)
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		assert.True(t, k.Project.Honours(b.Refresh))
		require.Equal(t, http.StatusOK, late.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Equal(t, b.Refresh, late.Refresh)
	})
}

// newLongReplicas returns replicas whose store has known for more than a minute what
// was spent, and a browser whose session has expired.
func newLongReplicas(t *testing.T) ([]*kittest.Kit, *kittest.MemoryStore, *kittest.Browser) {
	replicas, store, first := kittest.NewReplicas(t, 2)
	b := kittest.SignIn(replicas[0], kittest.Ada)
	require.Equal(t, http.StatusOK, first.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
	kittest.Elapse(kittest.Past)
	replicas[0].Project.Reset()
	return replicas, store, b
}

// Another replica's lease ends without a result, and Descope refuses the token: it may
// be spent, and nobody can tell for what.
//
// Rule: replicas: no refusal is final while the store is away, was restarted empty, holds what
// cannot be read, or a lease ended without a result; no logout that Descope refuses is done
// while the store is away or holds what cannot be read.
func TestLeaseEndsWithoutAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newLongReplicas(t)
		replicas[0].Project.Fail(kittest.RefreshPath, descopetest.Fault{After: true, Delay: 2 * time.Second, Drop: true})
		var wg sync.WaitGroup
		wg.Go(func() { b.Copied().Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")) })
		kittest.Elapse(time.Second)
		res := b.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, 2, replicas[0].Project.Requests(kittest.RefreshPath))
		wg.Wait()
	})
}

// A store that was restarted empty, and answers, does not know what was spent before.
//
// Rule: replicas: no refusal is final while the store is away, was restarted empty, holds what
// cannot be read, or a lease ended without a result; no logout that Descope refuses is done
// while the store is away or holds what cannot be read.
func TestStoreIsRestartedEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newLongReplicas(t)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		store.Clear()
		h := replicas[1].RequireSession(new(kittest.Spy))
		kittest.RequireProblem(t, late.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		kittest.Elapse(time.Minute)
		kittest.RequireProblem(t, late.Do(h, kittest.Get("/")), http.StatusUnauthorized, "session_ended")
	})
}

// Somebody has written into the store what no replica can read. What was there is not
// known then, and an operator is told.
//
// Rule: replicas: no refusal is final while the store is away, was restarted empty, holds what
// cannot be read, or a lease ended without a result; no logout that Descope refuses is done
// while the store is away or holds what cannot be read.
func TestStoreHoldsRubbish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newLongReplicas(t)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		for key, e := range store.Entries {
			if _, err := strconv.Atoi(string(e.Value)); err != nil { // not when the store was born
				e.Value = []byte("rubbish")
				store.Entries[key] = e
			}
		}
		res := late.Copied().Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Contains(t, replicas[1].Logs.String(), "event=refresh_store_odd")
		again := late.Copied()
		kittest.RequireProblem(t, kittest.Logout(kittest.For(t, replicas[0].Project, func(c *descopehttp.Config) { c.RefreshStore = store }), late), http.StatusBadGateway, "unavailable")
		another := kittest.For(t, replicas[0].Project, func(c *descopehttp.Config) { c.RefreshStore = store })
		res = again.Do(another.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
	})
}

// A page of a session that has ended asks two replicas at once. One of them waits for
// the other, and what it doubts then is this token and no other.
//
// Rule: replicas: a doubt about one token is about no other.
func TestDoubtIsAboutOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newLongReplicas(t)
		srv := replicas[0].Project
		srv.AddUser(descopetest.User{LoginID: "bob"})
		other := kittest.SignIn(replicas[0], "bob")
		kittest.Elapse(kittest.Past)
		srv.LogOut(kittest.Ada)
		srv.LogOut("bob")
		srv.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})
		var wg sync.WaitGroup
		for _, k := range replicas {
			wg.Go(func() { b.Copied().Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")) })
		}
		wg.Wait()
		for _, k := range replicas {
			kittest.RequireProblem(t, other.Copied().Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")), http.StatusUnauthorized, "session_ended")
			kittest.Elapse(10 * time.Second)
			kittest.RequireProblem(t, b.Copied().Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")), http.StatusUnauthorized, "session_ended")
		}
	})
}

// A hangingStore answers until hang is set, and then not before its caller gives up.
type hangingStore struct {
	*kittest.MemoryStore
	hang atomic.Bool
}

func (s *hangingStore) Claim(ctx context.Context, key, owner string, lease time.Duration) ([]byte, []byte, bool, error) {
	if s.hang.Load() {
		<-ctx.Done()
		return nil, nil, false, ctx.Err()
	}
	return s.MemoryStore.Claim(ctx, key, owner, lease)
}

func (s *hangingStore) Load(ctx context.Context, key string) ([]byte, []byte, error) {
	if s.hang.Load() {
		<-ctx.Done()
		return nil, nil, ctx.Err()
	}
	return s.MemoryStore.Load(ctx, key)
}

func (s *hangingStore) Release(ctx context.Context, key, owner string) error {
	if s.hang.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.MemoryStore.Release(ctx, key, owner)
}

// However many successors there are to ask about, a store that hangs holds nobody up
// for longer than the budget.
//
// Rule: replicas: a store that hangs or is slow holds nobody up beyond the budget; a client
// that hangs up says nothing about it.
func TestStoreThatHangsAndTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hangingStore{MemoryStore: kittest.NewMemoryStore()}
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		old := b.Copied()
		for range 12 {
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
			kittest.Elapse(2 * time.Second)
		}
		store.hang.Store(true)
		began := time.Now()
		kittest.Serve(k.LoadSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", old.Refresh))
		assert.LessOrEqual(t, time.Since(began), time.Second)
		began = time.Now()
		assert.Equal(t, http.StatusOK, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", old.Refresh)).StatusCode)
		assert.LessOrEqual(t, time.Since(began), time.Second)
	})
}

// A slow one may use up the budget, and not more.
//
// Rule: replicas: a store that hangs or is slow holds nobody up beyond the budget; a client
// that hangs up says nothing about it.
func TestSlowStoreAndTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.RefreshStore = patientStore{kittest.NewMemoryStore()} })
		old := b.Copied()
		for range 12 {
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
			kittest.Elapse(2 * time.Second)
		}
		began := time.Now()
		kittest.Serve(k.LoadSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", old.Refresh))
		assert.LessOrEqual(t, time.Since(began), kittest.LoadBudget+100*time.Millisecond)
	})
}

// A call that may mint tokens takes long to verify, and another replica logs out
// meanwhile.
//
// Rule: replicas: tombstones are looked for again after a call, shared or not, and after a long
// verification.
func TestLogoutOnAnotherReplicaDuringTheVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := kittest.NewReplicas(t, 2)
		srv := replicas[0].Project
		srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := kittest.SignIn(replicas[0], "eve")
		kittest.Elapse(10 * time.Second)
		srv.RotateKeys()
		srv.Fail(kittest.KeysPath, descopetest.Fault{Delay: 3 * time.Second, Times: -1})
		mine := b.Copied()
		var wg sync.WaitGroup
		wg.Go(func() {
			res := mine.Do(replicas[0].Handler(), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
			assert.Empty(t, res.Cookies())
		})
		kittest.Elapse(time.Second)
		require.Equal(t, http.StatusOK, kittest.Logout(replicas[1], b).StatusCode)
		wg.Wait()
	})
}

// In the minute after the store was away, Descope's refusal of a logout may mean that
// another replica spent the token.
//
// Rule: replicas: no refusal is final while the store is away, was restarted empty, holds what
// cannot be read, or a lease ended without a result; no logout that Descope refuses is done
// while the store is away or holds what cannot be read.
func TestLogoutJustAfterTheStoreWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newLongReplicas(t)
		store.Break(context.DeadlineExceeded)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		kittest.RequireProblem(t, late.Copied().Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		store.Break(nil)
		kittest.Elapse(time.Second)
		kittest.RequireProblem(t, kittest.Logout(replicas[1], late), http.StatusBadGateway, "unavailable")
		require.True(t, replicas[0].Project.Honours(b.Refresh))
	})
}

// While the store is away, no refusal is final, of a call that may mint tokens neither.
//
// Rule: replicas: no refusal is final while the store is away, was restarted empty, holds what
// cannot be read, or a lease ended without a result; no logout that Descope refuses is done
// while the store is away or holds what cannot be read.
func TestMintingCallWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, _ := kittest.NewReplicas(t, 2)
		replicas[0].Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := kittest.SignIn(replicas[0], "eve")
		kittest.Elapse(kittest.Past)
		store.Break(context.DeadlineExceeded)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		for _, r := range []*http.Request{
			kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`),
			kittest.Post(kittest.VerifyPath, `{"loginId":"eve","code":"`+replicas[0].Project.Code("eve")+`","loginOptions":{"stepup":true}}`),
		} {
			kittest.RequireProblem(t, late.Copied().Do(replicas[1].Handler(), r), http.StatusBadGateway, "unavailable")
		}
	})
}

// Too much to be shared is what Descope says of the user; the tokens are shared.
//
// Rule: replicas: what is too large is shared without the rest of Descope's answer.
func TestLateRequestOfALargeUserOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := kittest.NewReplicas(t, 2)
		replicas[0].Project.AddUser(descopetest.User{LoginID: "bob", Name: strings.Repeat("b", 70<<10)})
		b := kittest.SignIn(replicas[0], "bob")
		kittest.Elapse(kittest.Past)
		late, flow := b.Copied(), b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Equal(t, http.StatusOK, late.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Equal(t, http.StatusOK, flow.Do(replicas[1].Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		assert.Equal(t, b.Refresh, late.Refresh)
		assert.Equal(t, b.Refresh, flow.Refresh)
		assert.Equal(t, 1, replicas[0].Project.Requests(kittest.RefreshPath))
	})
}

// A refresh lands under a tombstone and cannot revoke what it brought. The logout on
// the other replica, which Descope refuses because of it, goes on from there.
//
// Rule: replicas: a tombstone names what came of its token, and the next logout follows.
func TestLogoutGoesOnFromWhatAnotherReplicaCannotRevoke(t *testing.T) {
	for _, clicks := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) { testLogoutGoesOn(t, clicks) })
	}
}

func testLogoutGoesOn(t *testing.T, clicks int) {
	replicas, store, b := newLongReplicas(t)
	srv := replicas[0].Project
	brought := make(chan string, 1)
	other := kittest.For(t, srv, func(c *descopehttp.Config) {
		c.RefreshStore = store
		inner := c.HTTPClient.Transport
		c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := inner.RoundTrip(r)
			if err == nil && r.URL.Path == kittest.RefreshPath {
				body, _ := io.ReadAll(res.Body)
				res.Body = io.NopCloser(bytes.NewReader(body))
				_, rest, _ := strings.Cut(string(body), `"refreshJwt":"`)
				refresh, _, _ := strings.Cut(rest, `"`)
				brought <- refresh
			}
			return res, err
		})}
	})
	require.NoError(t, other.Ready(t.Context()))
	srv.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 100 * time.Millisecond, After: true})
	for range clicks {
		srv.Fail(kittest.LogoutPath, descopetest.Fault{Delay: 4 * time.Second})
	}
	srv.Fail(kittest.LogoutPath, descopetest.Fault{Delay: 8 * time.Second})
	var wg sync.WaitGroup
	wg.Go(func() {
		res := b.Copied().Do(other.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
	})
	kittest.Elapse(50 * time.Millisecond)
	for range clicks {
		wg.Go(func() { assert.Equal(t, http.StatusOK, kittest.Logout(replicas[0], b.Copied()).StatusCode) })
		kittest.Elapse(time.Millisecond)
	}
	wg.Wait()
	require.NoError(t, other.Wait(t.Context()))
	assert.False(t, srv.Honours(<-brought))
}

// A frozenStore says that another replica is at work, for ever.
type frozenStore struct{ *kittest.MemoryStore }

func (frozenStore) Claim(context.Context, string, string, time.Duration) ([]byte, []byte, bool, error) {
	return nil, nil, false, nil
}

// Rule: replicas: nobody waits longer for another than a request may take.
func TestAnotherReplicaDoesNotFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.RefreshStore = frozenStore{kittest.NewMemoryStore()} })
		began := time.Now()
		res := b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, k.Wait(ctx))
		assert.LessOrEqual(t, time.Since(began), 5*time.Second)
		assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
	})
}

// A call that may mint tokens goes on from what another replica made of the token.
//
// Rule: replicas: another's result is followed to its end, also by calls that may mint.
func TestMintingCallOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := kittest.NewReplicas(t, 2)
		replicas[0].Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := kittest.SignIn(replicas[0], "eve")
		kittest.Elapse(kittest.Past)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Equal(t, http.StatusOK, late.Do(replicas[1].Handler(), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`)).StatusCode)
		assert.True(t, replicas[0].Project.Honours(late.Refresh))
	})
}

// The store loses its data, and the lease with it, so that two replicas spend the same
// token. The one that is refused finds what the other was given.
//
// Rule: replicas: a refusal looks into the store once more.
func TestStoreLosesALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := kittest.NewReplicas(t, 2)
		replicas[0].Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second, Times: 2})
		winner, loser := b.Copied(), b.Copied()
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, winner.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		})
		kittest.Elapse(500 * time.Millisecond)
		store.Clear()
		assert.Equal(t, http.StatusOK, loser.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		wg.Wait()
		assert.Equal(t, winner.Refresh, loser.Refresh)
		assert.Equal(t, 2, replicas[0].Project.Requests(kittest.RefreshPath))
	})
}

// A call that failed leaves nothing for the other replicas to wait for.
//
// Rule: replicas: a lease is given back when a call failed, and after a look.
func TestFailedRefreshLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		replicas[0].Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 503})
		kittest.RequireProblem(t, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		began := time.Now()
		assert.Equal(t, http.StatusOK, b.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Zero(t, time.Since(began))
	})
}

// R1 → R2 here, R2 → R3 on the other replica: whoever comes here with R1 is served, but is
// late, and R3 is not for them.
//
// Rule: renewing: against a request that arrives after its token was spent: a spent token leads
// to its newest successor for a minute, here and on other replicas.
// Rule: replicas: another's result is followed to its end, also by calls that may mint.
func TestChainAcrossReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		srv := replicas[0].Project
		first := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		kittest.Elapse(time.Second)
		require.Equal(t, http.StatusOK, b.Do(replicas[1].Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		require.Equal(t, 2, srv.Requests(kittest.RefreshPath))
		res := first.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies(), "R2 was in use")
		assert.Equal(t, 2, srv.Requests(kittest.RefreshPath))
	})
}

// Rule: renewing: against a refresh under way that brings back a session that was logged out: a
// logout is remembered under its token, waits for the refresh under way and revokes what that
// brought, here and on other replicas.
// Rule: replicas: tombstones are looked for before anything is handed out, on the whole way.
func TestLogoutOnAnotherReplica(t *testing.T) {
	for name, tt := range map[string]struct {
		refreshAt, logoutAt time.Duration
	}{
		"before": {time.Second, 0},
		"during": {0, 500 * time.Millisecond},
		"after":  {0, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, _, b := kittest.NewReplicas(t, 2)
				srv := replicas[0].Project
				srv.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Second})
				old, renewed := b.Copied(), b.Copied()
				var wg sync.WaitGroup
				wg.Go(func() {
					kittest.Elapse(tt.refreshAt)
					renewed.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/"))
				})
				wg.Go(func() {
					kittest.Elapse(tt.logoutAt)
					assert.Equal(t, http.StatusOK, kittest.Logout(replicas[0], b).StatusCode)
				})
				wg.Wait()
				kittest.Elapse(5 * time.Second)
				for _, k := range replicas {
					kittest.RequireLoggedOut(t, k, old.Refresh)
					if renewed.Refresh != "" {
						kittest.RequireLoggedOut(t, k, renewed.Refresh)
					}
				}
			})
		})
	}
}

// A logout is seen by a refresh on another replica that has nothing to tell the
// others when it lands.
//
// Rule: replicas: tombstones are looked for again after a call, shared or not, and after a long
// verification.
func TestLogoutOnAnotherReplicaDuringARefreshThatIsNotShared(t *testing.T) {
	for name, prepare := range map[string]func(k *kittest.Kit, b *kittest.Browser) *kittest.Browser{
		"the store holds a session already": func(k *kittest.Kit, b *kittest.Browser) *kittest.Browser {
			b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
			return b
		},
		"a session of unknown age": func(k *kittest.Kit, b *kittest.Browser) *kittest.Browser {
			k.Project.Configure(func(s *descopetest.Settings) {
				s.EditClaims = func(_ string, claims map[string]any) { delete(claims, "iat") }
			})
			return b
		},
		"an answer too large for the store": func(k *kittest.Kit, b *kittest.Browser) *kittest.Browser {
			k.Project.AddUser(descopetest.User{LoginID: "bob", Name: strings.Repeat("b", 70<<10)})
			return kittest.SignIn(k, "bob")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, _, b := kittest.NewReplicas(t, 2)
				srv := replicas[0].Project
				srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = false })
				b = prepare(replicas[0], b)
				kittest.Elapse(10 * time.Second)
				srv.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
				asking := b.Copied()
				var wg sync.WaitGroup
				wg.Go(func() {
					res := asking.Do(replicas[0].Handler(), kittest.Post(kittest.RefreshPath, "{}"))
					kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
					assert.Empty(t, res.Cookies())
				})
				kittest.Elapse(time.Second)
				require.Equal(t, http.StatusOK, kittest.Logout(replicas[1], b).StatusCode)
				wg.Wait()
			})
		})
	}
}

// Another replica publishes, after the user was logged out everywhere, what Descope
// gave it before.
//
// Rule: replicas: a result counts as from before a logout everywhere if its call began before.
func TestLogoutAllDuringARefreshOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		other, late := kittest.SignIn(replicas[0], kittest.Ada), b.Copied()
		replicas[0].Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
		var wg sync.WaitGroup
		wg.Go(func() { b.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")) })
		kittest.Elapse(time.Second)
		require.Equal(t, http.StatusOK, other.Do(replicas[0].Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode)
		wg.Wait()
		res := late.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// A session that is about to end is still good after a logout elsewhere, but it is
// not renewed with what the store holds from before.
//
// Rule: replicas: whoever waited for another's result looks again.
func TestLogoutOnAnotherReplicaBeforeRenewingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := kittest.NewReplicas(t, 2)
		b := kittest.SignIn(replicas[0], kittest.Ada)
		kittest.Elapse(10*time.Minute - 20*time.Second)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.NotEqual(t, late.Refresh, b.Refresh, "renewed ahead")
		require.Equal(t, http.StatusOK, kittest.Logout(replicas[0], b).StatusCode)
		res := late.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}

// The logout comes with the newest token, which this replica has handed out itself.
//
// Rule: replicas: tombstones are looked for before anything is handed out, on the whole way.
func TestLogoutOfTheNewestOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(replicas[1], b).StatusCode)
		res := late.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// A logout may come with a token that only another replica knows to have been
// spent, when the store has long forgotten it.
//
// Rule: replicas: tombstones are looked for before anything is handed out, on the whole way.
func TestLogoutOnAnotherReplicaWithAForgottenToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		old, late := b.Copied(), b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		kittest.Elapse(2 * time.Minute)
		require.Equal(t, http.StatusOK, kittest.Logout(replicas[1], old).StatusCode)
		res := late.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// Descope refuses the token of a logout, because another replica has spent it, and the
// store cannot be asked for what. Nobody can say then that it is over.
//
// Rule: replicas: no refusal is final while the store is away, was restarted empty, holds what
// cannot be read, or a lease ended without a result; no logout that Descope refuses is done
// while the store is away or holds what cannot be read.
func TestLogoutWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := kittest.NewReplicas(t, 2)
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		store.Break(errors.New("away"))
		res := kittest.Logout(replicas[1], old)
		kittest.RequireProblem(t, res, http.StatusBadGateway, "unavailable")
		kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
		require.True(t, replicas[0].Project.Honours(b.Refresh))
	})
}

// What another replica remembers of the token of a logout everywhere serves nobody.
//
// Rule: replicas: tombstones are looked for before anything is handed out, on the whole way.
func TestLogoutAllOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.Do(replicas[1].Handler(), kittest.Post(kittest.LogoutAllPath, "{}")).StatusCode)
		res := late.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// Descope does not hear of a logout; another one, on a replica that has only the
// old token, still finds what came of it.
//
// Rule: replicas: a tombstone names what came of its token, and the next logout follows.
func TestLogoutFollowsATombstone(t *testing.T) {
	for name, at := range map[string]int{"where the token was spent": 0, "where it was not": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, _, b := kittest.NewReplicas(t, 3)
				srv := replicas[0].Project
				old, again := b.Copied(), b.Copied()
				require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
				srv.Fail(kittest.LogoutPath, descopetest.Fault{Status: 503})
				kittest.RequireProblem(t, kittest.Logout(replicas[at], old), http.StatusBadGateway, "unavailable")
				require.True(t, srv.Honours(b.Refresh))
				require.Equal(t, http.StatusOK, kittest.Logout(replicas[2], again).StatusCode)
				assert.False(t, srv.Honours(b.Refresh))
			})
		})
	}
}

// A refresh on another replica spends the token before it has seen the tombstone.
// The logout is not over before what came of that has ended, too.
//
// Rule: renewing: against a refresh under way that brings back a session that was logged out: a
// logout is remembered under its token, waits for the refresh under way and revokes what that
// brought, here and on other replicas.
// Rule: replicas: a tombstone names what came of its token, and the next logout follows.
func TestLogoutAfterASpendingElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := kittest.NewReplicas(t, 1)
		srv := replicas[0].Project
		flaky := kittest.For(t, srv, func(c *descopehttp.Config) { c.RefreshStore = &unreliableStore{store, 2} })
		require.NoError(t, flaky.Ready(t.Context()))
		srv.Fail(kittest.LogoutPath, descopetest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		old := b.Copied()
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, kittest.Logout(flaky, old).StatusCode)
		})
		kittest.Elapse(100 * time.Millisecond)
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		wg.Wait()
		assert.False(t, srv.Honours(b.Refresh))
	})
}

// An unreliableStore refuses the first few Puts and Ends.
type unreliableStore struct {
	*kittest.MemoryStore
	refuse int
}

func (s *unreliableStore) End(ctx context.Context, key string, end []byte, ttl time.Duration) ([]byte, error) {
	if s.refuse > 0 {
		s.refuse--
		return nil, errors.New("connection refused")
	}
	return s.MemoryStore.End(ctx, key, end, ttl)
}

func (s *unreliableStore) Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) ([]byte, []byte, error) {
	if s.refuse > 0 {
		s.refuse--
		return nil, nil, errors.New("connection refused")
	}
	return s.MemoryStore.Put(ctx, key, owner, value, ttl, over)
}

// What a second factor brings is not shared, but a logout on another replica ends
// it all the same.
//
// Rule: replicas: tombstones are looked for again after a call, shared or not, and after a long
// verification.
func TestLogoutOnAnotherReplicaDuringAStepUp(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			replicas, _, b := kittest.NewReplicas(t, 2)
			srv := replicas[0].Project
			srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			srv.Fail(kittest.VerifyPath, descopetest.Fault{Delay: time.Second, After: true})
			other := b.Copied()
			var wg sync.WaitGroup
			wg.Go(func() {
				body := `{"loginId":"` + kittest.Ada + `","code":"` + srv.Code(kittest.Ada) + `","loginOptions":{"stepup":true}}`
				res := b.Do(replicas[1].Handler(), kittest.Post(kittest.VerifyPath, body))
				assert.Empty(t, res.Cookies())
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
			})
			kittest.Elapse(100 * time.Millisecond)
			require.Equal(t, http.StatusOK, kittest.Logout(replicas[0], other).StatusCode)
			wg.Wait()
		})
	}
}

// A busyStore has another owner's lease on every key for a while.
type busyStore struct {
	*kittest.MemoryStore
	until time.Time
}

func (s *busyStore) Claim(ctx context.Context, key, owner string, lease time.Duration) ([]byte, []byte, bool, error) {
	if time.Now().Before(s.until) {
		return nil, nil, false, nil
	}
	return s.MemoryStore.Claim(ctx, key, owner, lease)
}

// However long a refresh had to wait for its turn, the call itself has all the time
// that it needs: an answer that nobody waits for would sign the user out.
//
// Rule: renewing: a refresh outlives the request it was begun for; each waiter leaves on its
// own.
// Rule: renewing: a call that spends a token has 30 seconds, whoever waits; keys and store have
// 4.5 before it; 128 such calls are in the air at most.
func TestCallIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &busyStore{MemoryStore: kittest.NewMemoryStore()}
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		store.until = time.Now().Add(4 * time.Second)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 1200 * time.Millisecond, After: true})
		h := k.RequireSession(new(kittest.Spy))
		began := time.Now()
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, 5*time.Second, time.Since(began))
		kittest.Elapse(time.Second)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// What nobody has presented is handed out no longer than another replica's logout is
// told, however long its session lives: Descope is asked then.
//
// Rule: replicas: nothing is kept longer than another replica's logout is told.
func TestLogoutOnAnotherReplicaOutlivesWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := kittest.NewReplicas(t, 2)
		srv := replicas[0].Project
		srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = time.Hour })
		b := kittest.SignIn(replicas[0], kittest.Ada)
		kittest.Elapse(time.Hour + 6*time.Second)
		late, lost := b.Copied(), b.Copied()
		require.Equal(t, http.StatusOK, lost.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(replicas[0], b).StatusCode)
		kittest.Elapse(11 * time.Minute)
		res := late.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
		kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
	})
}

// Whoever invents refresh tokens fills neither the store nor the memory of
// logouts: what is written about a token of an unknown key is within the budget
// for calls to Descope with such tokens, five a second.
//
// Rule: renewing: against invented refresh tokens that fill the store, or push logouts out of
// memory: what is written for a token of an unknown key is within the budget for calls with it,
// before the first keys are held as well.
func TestInventedTokensLeaveLittleBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := kittest.NewMemoryStore()
		h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		require.NoError(t, h.Ready(t.Context()))
		b := kittest.SignIn(h.Kit, kittest.Ada)
		kittest.Elapse(kittest.Past)
		h.Project.Fail(kittest.LogoutPath, descopetest.Fault{Status: 500})
		old := b.Copied()
		kittest.RequireProblem(t, kittest.Logout(h.Kit, b), http.StatusBadGateway, "unavailable")
		require.True(t, h.Project.Honours(old.Refresh))
		before := store.Live()

		f := kittest.NewForgers(t, h)
		began := time.Now()
		for range 10 {
			var wg sync.WaitGroup
			send := func(n int, handler http.Handler, request func() *http.Request) {
				for range n {
					_, refresh := f.Next()
					wg.Go(func() { kittest.Serve(handler, kittest.WithCookies(request(), "", refresh)) })
				}
			}
			// More logouts, all together, than are remembered.
			send(1100, h.Handler(), func() *http.Request { return kittest.Post(kittest.LogoutPath, "{}") })
			send(20, h.Handler(), func() *http.Request { return kittest.Post(kittest.RefreshPath, "{}") })
			send(20, h.Handler(), func() *http.Request { return kittest.Get(kittest.MePath) })
			send(20, h.RequireSession(new(kittest.Spy)), func() *http.Request { return kittest.Get("/") })
			wg.Wait()
			kittest.Elapse(time.Second)
		}
		seconds := int(time.Since(began) / time.Second)
		assert.LessOrEqual(t, store.Calls, 5*5*seconds, "five calls for each that passes")
		assert.LessOrEqual(t, store.Live()-before, 5*seconds+1)
		assert.Less(t, seconds, 20)
		res := old.Do(h.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
	})
}

// A slowStore carries calls out at once and answers late.
type slowStore struct {
	*kittest.MemoryStore
	late time.Duration
}

func (s slowStore) Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) ([]byte, []byte, error) {
	now, end, err := s.MemoryStore.Put(ctx, key, owner, value, ttl, over)
	kittest.Elapse(s.late)
	return now, end, err
}

// The same while no keys are held, when nobody can be told from an inventor.
//
// Rule: renewing: against invented refresh tokens that fill the store, or push logouts out of
// memory: what is written for a token of an unknown key is within the budget for calls with it,
// before the first keys are held as well.
func TestInventedTokensWithoutKeysLeaveLittleBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := kittest.NewMemoryStore()
		h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		h.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 503, Times: -1})
		f := kittest.NewForgers(t, h)
		var wg sync.WaitGroup
		for range 300 {
			_, refresh := f.Next()
			wg.Go(func() {
				kittest.Serve(h.Handler(), kittest.WithCookies(kittest.Post(kittest.LogoutPath, "{}"), "", refresh))
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, store.Live(), 10)
		assert.LessOrEqual(t, h.Project.Requests(kittest.LogoutPath), 10)

		// They come while the first are being fetched.
		h.Project.Reset()
		kittest.Elapse(10 * time.Second)
		h.Project.Fail(kittest.KeysPath, descopetest.Fault{Delay: 3 * time.Second})
		for range 300 {
			_, refresh := f.Next()
			wg.Go(func() {
				kittest.Serve(h.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, "{}"), "", refresh))
			})
		}
		wg.Wait()
		require.NoError(t, h.Wait(t.Context()))
		assert.LessOrEqual(t, h.Project.Requests(kittest.RefreshPath), 10)
	})
}

// The answer to a logout says that no later answer carries a session, also where
// another replica read the store just before and hears of it just after.
//
// Rule: renewing: calls that spend nothing wait for what is under way and follow the successor,
// refused ones too.
// Rule: replicas: a logout is answered when nobody can act any more on what they read before.
func TestLogoutOutwaitsASlowStore(t *testing.T) {
	for _, path := range []string{kittest.LogoutPath, kittest.LogoutAllPath} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, store, b := kittest.NewReplicas(t, 1)
				srv := replicas[0].Project
				slow := kittest.For(t, srv, func(c *descopehttp.Config) {
					c.RefreshStore = slowStore{store, 200 * time.Millisecond}
				})
				require.NoError(t, slow.Ready(t.Context()))
				old := b.Copied()
				var answered time.Time
				var wg sync.WaitGroup
				wg.Go(func() {
					if b.Do(slow.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode == http.StatusOK {
						answered = time.Now()
					}
				})
				kittest.Elapse(300 * time.Millisecond) // the first Put is not about the token
				require.Equal(t, 1, srv.Requests(kittest.RefreshPath))
				assert.Equal(t, http.StatusOK, old.Do(replicas[0].Handler(), kittest.Post(path, "{}")).StatusCode)
				loggedOut := time.Now()
				wg.Wait()
				assert.False(t, answered.After(loggedOut), "%v after the logout", answered.Sub(loggedOut))
				kittest.RequireLoggedOut(t, replicas[0], b.Refresh)
			})
		})
	}
}

// While the store is away each replica goes on alone, and no refusal is final:
// the token may have been spent on another one.
//
// Rule: renewing: against a store that is away, slow, restarted empty or unreadable: each
// replica goes on with its own memory, and no refusal is final meanwhile.
// Rule: replicas: no refusal is final while the store is away, was restarted empty, holds what
// cannot be read, or a lease ended without a result; no logout that Descope refuses is done
// while the store is away or holds what cannot be read.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := kittest.NewReplicas(t, 2)
		srv := replicas[0].Project
		store.Break(context.DeadlineExceeded)
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		for range 3 {
			res := old.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/"))
			kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.Empty(t, res.Cookies())
			kittest.Elapse(11 * time.Second)
		}
		assert.Equal(t, 3, srv.Requests(kittest.RefreshPath)-1)
		assert.Equal(t, 1, strings.Count(replicas[1].Logs.String(), "refresh store is not available"), "once a minute")
	})
}

// To look into the store is to ask for the lease. It is given back at once.
//
// Rule: replicas: a lease is given back when a call failed, and after a look.
func TestLookLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := kittest.NewReplicas(t, 2)
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, late.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		began := time.Now()
		assert.Equal(t, http.StatusOK, b.Do(replicas[1].Handler(), kittest.Post(kittest.RefreshPath, "{}")).StatusCode)
		assert.Zero(t, time.Since(began))
	})
}

// A patientStore answers late, unless its caller has gone.
type patientStore struct{ *kittest.MemoryStore }

func (s patientStore) Claim(ctx context.Context, key, owner string, lease time.Duration) ([]byte, []byte, bool, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return s.MemoryStore.Claim(ctx, key, owner, lease)
	case <-ctx.Done():
		return nil, nil, false, ctx.Err()
	}
}

// A client that hangs up says nothing about the store.
//
// Rule: replicas: a store that hangs or is slow holds nobody up beyond the budget; a client
// that hangs up says nothing about it.
func TestClientHangsUpOnTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.RefreshStore = patientStore{kittest.NewMemoryStore()} })
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		r := kittest.Get("/")
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
		defer cancel()
		late.Do(k.RequireSession(new(kittest.Spy)), r.WithContext(ctx))
		assert.NotContains(t, k.Logs.String(), "not available")
	})
}

// A panickingStore is one that its author has not finished.
type panickingStore struct{ *kittest.MemoryStore }

func (panickingStore) Claim(context.Context, string, string, time.Duration) ([]byte, []byte, bool, error) {
	panic("secret of the store")
}

func (panickingStore) Load(context.Context, string) ([]byte, []byte, error) {
	panic("secret of the store")
}

func (panickingStore) Put(context.Context, string, string, []byte, time.Duration, bool) ([]byte, []byte, error) {
	panic("secret of the store")
}

// A store that panics is one that is away, wherever it is asked.
//
// Rule: renewing: against a store that is away, slow, restarted empty or unreadable: each
// replica goes on with its own memory, and no refusal is final meanwhile.
// Rule: renewing: a panic of what was plugged in ends nothing.
func TestStoreThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.RefreshStore = panickingStore{kittest.NewMemoryStore()} })
		h := k.RequireSession(new(kittest.Spy))
		late := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, late.Do(h, kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(k, b.Copied()).StatusCode)
		assert.False(t, k.Project.Honours(b.Refresh))
		assert.Contains(t, k.Logs.String(), `event=refresh_store_away reason="it panicked"`)
		assert.NotContains(t, k.Logs.String(), "secret")
	})
}

// A panickingHandler is a log handler that its author has not finished.
type panickingHandler struct{ slog.Handler }

func (panickingHandler) Handle(context.Context, slog.Record) error { panic("secret of the handler") }

type panickingJudge struct{ panickingHandler }

func (panickingJudge) Enabled(context.Context, slog.Level) bool { panic("secret of the handler") }

// Refreshes and key fetches run in goroutines of their own, where a panic would end
// the process.
//
// Rule: renewing: a panic of what was plugged in ends nothing.
func TestLogHandlerThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) {
			c.Logger = slog.New(panickingHandler{slog.NewTextHandler(io.Discard, nil)})
		})
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`}) // an operator has to know
		res := b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "refresh_refused")
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500})
		kittest.Elapse(2 * time.Hour)
		require.NoError(t, k.Ready(t.Context()))
		kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session, "")) // fetches beside the request
		require.NoError(t, k.Wait(t.Context()))

		k = kittest.New(t, func(c *descopehttp.Config) { c.Logger = slog.New(panickingJudge{}) })
		kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.Get("/")), http.StatusUnauthorized, "no_session")
		kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.Get(kittest.MePath)), http.StatusUnauthorized, "no_refresh_token")
	})
}

// What a store holds says nothing to whoever reads it, and what somebody writes
// into it opens nothing.
//
// Rule: answers: against a store that somebody else can write to: sealed values, judged like an
// answer of Descope.
// Rule: replicas: values are sealed under a key that the store's key does not tell, for one
// project, bounded.
func TestStoreIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := kittest.NewReplicas(t, 2)
		old := b.Copied()
		require.Equal(t, http.StatusOK, b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.NotEmpty(t, store.Entries)
		for key, e := range store.Entries {
			for _, secret := range []string{old.Refresh, old.Session, b.Refresh, b.Session, kittest.Ada} {
				assert.NotContains(t, key, secret)
				assert.NotContains(t, string(e.Value), secret)
			}
			if len(e.Value) > 0 {
				e.Value[len(e.Value)-1] ^= 1
			}
		}
		// Nobody can read the value now; the lease is taken, so this waits and
		// then cannot tell.
		res := old.Do(replicas[1].RequireSession(new(kittest.Spy)), kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Empty(t, res.Cookies())
	})
}
