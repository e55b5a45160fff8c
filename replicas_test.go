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
)

// memoryStore is a RefreshStore as its contract has it.
type memoryStore struct {
	mu      sync.Mutex
	entries map[string]storeEntry
	broken  error
	calls   int
}

type storeEntry struct {
	value []byte
	final bool
	owner string // of a lease; value is nil then
	until time.Time
}

func newMemoryStore() *memoryStore { return &memoryStore{entries: make(map[string]storeEntry)} }

func (s *memoryStore) entry(key string) (storeEntry, error) {
	s.calls++
	e := s.entries[key]
	if !time.Now().Before(e.until) {
		e = storeEntry{}
	}
	return e, s.broken
}

func (s *memoryStore) Claim(_ context.Context, key, owner string, lease time.Duration) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.entry(key)
	if err != nil || e.value != nil {
		return e.value, false, err
	}
	if e.owner == "" {
		s.entries[key] = storeEntry{owner: owner, until: time.Now().Add(lease)}
		return nil, true, nil
	}
	return nil, e.owner == owner, nil
}

func (s *memoryStore) Put(_ context.Context, key string, value []byte, ttl time.Duration, final bool) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.entry(key)
	if err != nil {
		return nil, err
	}
	if e.final || e.value != nil && !final {
		return e.value, nil
	}
	s.entries[key] = storeEntry{value: value, final: final, until: time.Now().Add(ttl)}
	return value, nil
}

func (s *memoryStore) Release(_ context.Context, key, owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.entry(key)
	if err == nil && e.owner == owner {
		delete(s.entries, key)
	}
	return err
}

// newReplicas returns n kits over one project and one store, and a browser whose
// session has just expired.
func newReplicas(t *testing.T, n int) ([]*kit, *memoryStore, *browser) {
	store := newMemoryStore()
	share := func(c *descopehttp.Config) { c.RefreshStore = store }
	k, b := newRotating(t, share)
	replicas := []*kit{k}
	for range n - 1 {
		other := kitFor(t, k.srv, share)
		require.NoError(t, other.Ready(t.Context()))
		replicas = append(replicas, other)
	}
	return replicas, store, b
}

func TestReplicasRefreshOnce(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			replicas, _, b := newReplicas(t, 3)
			srv := replicas[0].srv
			srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			srv.Fail(refreshPath, descopetest.Fault{Delay: 100 * time.Millisecond})
			var mu sync.Mutex
			got := make(map[browser]int)
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					mine := b.copied()
					assert.Equal(t, http.StatusOK, mine.do(replicas[i%3].RequireSession(new(spy)), get("/")).StatusCode)
					mu.Lock()
					defer mu.Unlock()
					got[browser{session: mine.session, refresh: mine.refresh}]++
				})
			}
			wg.Wait()
			assert.Len(t, got, 1)
			assert.Equal(t, 1, srv.Requests(refreshPath))
		})
	}
}

// Without rotation a session is shared until it ends: what the store holds of it
// longer would keep replicas from taking turns. This one spends some of its life on
// the way.
func TestReplicasRefreshOnceWhenASharedSessionEnds(t *testing.T) {
	const life = 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		store := newMemoryStore()
		share := func(c *descopehttp.Config) { c.RefreshStore, c.Leeway = store, -1 }
		k := newKit(t, share)
		replicas := []*kit{k, kitFor(t, k.srv, share)}
		k.srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = life })
		b := signIn(k, ada)
		elapse(life)
		for _, r := range replicas {
			require.NoError(t, r.Ready(t.Context()))
		}
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: 4 * time.Second, After: true})
		require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		elapse(life - 3*time.Second)
		k.srv.Fail(refreshPath, descopetest.Fault{Times: -1, Delay: 100 * time.Millisecond})
		var wg sync.WaitGroup
		for _, r := range replicas {
			wg.Go(func() {
				assert.Equal(t, http.StatusOK, b.copied().do(r.RequireSession(new(spy)), get("/")).StatusCode)
			})
		}
		wg.Wait()
		assert.Equal(t, 2, k.srv.Requests(refreshPath), "one a session")
	})
}

func TestLateRequestOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		srv := replicas[0].srv
		first := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		elapse(30 * time.Second)
		late := first.copied()
		require.Equal(t, http.StatusOK, late.do(replicas[1].RequireSession(new(spy)), get("/")).StatusCode)
		assert.Equal(t, b.refresh, late.refresh)
		assert.Equal(t, 1, srv.Requests(refreshPath))
	})
}

// A refresh token that was spent just before it expired, for one that lives
// longer: its late requests must not delete the cookies of that one.
func TestLateRequestWithAnExpiredToken(t *testing.T) {
	for name, at := range map[string]int{"without a store": 0, "on the same replica": 0, "on another": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, _, _ := newReplicas(t, 2)
				if name == "without a store" {
					alone, _ := newRotating(t)
					replicas = []*kit{alone}
				}
				srv := replicas[0].srv
				srv.Configure(func(s *descopetest.Settings) { s.SlideRefreshExpiry, s.RefreshTTL = true, 12*time.Minute })
				b := signIn(replicas[0], ada)
				untouched := signIn(replicas[0], ada)
				elapse(12*time.Minute - 10*time.Second)
				late, spent := b.copied(), b.copied()
				require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
				elapse(30 * time.Second)
				require.Equal(t, http.StatusOK, late.do(replicas[at].RequireSession(new(spy)), get("/")).StatusCode)
				assert.Equal(t, b.refresh, late.refresh)
				assert.Equal(t, 1, srv.Requests(refreshPath))

				res := untouched.do(replicas[at].RequireSession(new(spy)), get("/"))
				requireProblem(t, res, http.StatusUnauthorized, "session_expired")
				assert.Len(t, res.Cookies(), 2, "deleted at once, because nothing came of it")
				assert.Equal(t, 1, srv.Requests(refreshPath))

				elapse(time.Minute)
				for _, k := range replicas {
					requireProblem(t, spent.copied().do(k.RequireSession(new(spy)), get("/")), http.StatusUnauthorized, "session_expired")
				}
			})
		})
	}
}

// Without rotation, what another replica was given is no answer to a client that asks
// for a refresh in so many words.
func TestExplicitRefreshOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		srv := replicas[0].srv
		srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = false })
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		elapse(2 * time.Second)
		before := b.session
		require.Equal(t, http.StatusOK, b.do(replicas[1].Handler(), post("/v1/auth/refresh", "{}")).StatusCode)
		assert.NotEqual(t, before, b.session)
		assert.Equal(t, 2, srv.Requests(refreshPath))
	})
}

// When rotation is switched on, the store may still hold a session from before, for
// which nothing was spent.
func TestRotationIsSwitchedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		k := replicas[0]
		k.srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = false })
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		k.srv.Configure(rotating)
		elapse(2 * time.Second)
		require.Equal(t, http.StatusOK, b.do(k.Handler(), post("/v1/auth/refresh", "{}")).StatusCode)
		assert.True(t, k.srv.Honours(b.refresh))
		require.Equal(t, http.StatusOK, late.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		assert.Equal(t, b.refresh, late.refresh)
	})
}

// newLongReplicas returns replicas whose store has known for more than a minute what
// was spent, and a browser whose session has expired.
func newLongReplicas(t *testing.T) ([]*kit, *memoryStore, *browser) {
	replicas, store, first := newReplicas(t, 2)
	b := signIn(replicas[0], ada)
	require.Equal(t, http.StatusOK, first.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
	elapse(past)
	replicas[0].srv.Reset()
	return replicas, store, b
}

// Another replica's lease ends without a result, and Descope refuses the token: it may
// be spent, and nobody can tell for what.
func TestLeaseEndsWithoutAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newLongReplicas(t)
		replicas[0].srv.Fail(refreshPath, descopetest.Fault{After: true, Delay: 2 * time.Second, Drop: true})
		var wg sync.WaitGroup
		wg.Go(func() { b.copied().do(replicas[0].RequireSession(new(spy)), get("/")) })
		elapse(time.Second)
		res := b.do(replicas[1].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, 2, replicas[0].srv.Requests(refreshPath))
		wg.Wait()
	})
}

// A store that was restarted empty, and answers, does not know what was spent before.
func TestStoreIsRestartedEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newLongReplicas(t)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		clear(store.entries)
		h := replicas[1].RequireSession(new(spy))
		requireProblem(t, late.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
		elapse(time.Minute)
		requireProblem(t, late.do(h, get("/")), http.StatusUnauthorized, "session_ended")
	})
}

// Somebody has written into the store what no replica can read. What was there is not
// known then, and an operator is told.
func TestStoreHoldsRubbish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newLongReplicas(t)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		for key, e := range store.entries {
			if _, err := strconv.Atoi(string(e.value)); err != nil { // not when the store was born
				e.value = []byte("rubbish")
				store.entries[key] = e
			}
		}
		res := late.copied().do(replicas[1].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Contains(t, replicas[1].logs.String(), "unreadable=true")
		requireProblem(t, logout(kitFor(t, replicas[0].srv, func(c *descopehttp.Config) { c.RefreshStore = store }), late), http.StatusBadGateway, "unavailable")
		for _, e := range store.entries {
			if time.Now().Before(e.until) {
				assert.NotEqual(t, "rubbish", string(e.value), "the logout is told all the same")
			}
		}
	})
}

// A page of a session that has ended asks two replicas at once. One of them waits for
// the other, and what it doubts then is this token and no other.
func TestDoubtIsAboutOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newLongReplicas(t)
		srv := replicas[0].srv
		srv.AddUser(descopetest.User{LoginID: "bob"})
		other := signIn(replicas[0], "bob")
		elapse(past)
		srv.LogOut(ada)
		srv.LogOut("bob")
		srv.Fail(refreshPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})
		var wg sync.WaitGroup
		for _, k := range replicas {
			wg.Go(func() { b.copied().do(k.RequireSession(new(spy)), get("/")) })
		}
		wg.Wait()
		for _, k := range replicas {
			requireProblem(t, other.copied().do(k.RequireSession(new(spy)), get("/")), http.StatusUnauthorized, "session_ended")
			elapse(5 * time.Second)
			requireProblem(t, b.copied().do(k.RequireSession(new(spy)), get("/")), http.StatusUnauthorized, "session_ended")
		}
	})
}

// A hangingStore answers until hang is set, and then not before its caller gives up.
type hangingStore struct {
	*memoryStore
	hang atomic.Bool
}

func (s *hangingStore) Claim(ctx context.Context, key, owner string, lease time.Duration) ([]byte, bool, error) {
	if s.hang.Load() {
		<-ctx.Done()
		return nil, false, ctx.Err()
	}
	return s.memoryStore.Claim(ctx, key, owner, lease)
}

func (s *hangingStore) Release(ctx context.Context, key, owner string) error {
	if s.hang.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.memoryStore.Release(ctx, key, owner)
}

// However many successors there are to ask about, a store that hangs holds nobody up
// for longer than the budget.
func TestStoreThatHangsAndTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hangingStore{memoryStore: newMemoryStore()}
		k, b := newRotating(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		old := b.copied()
		for range 12 {
			require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
			elapse(2 * time.Second)
		}
		store.hang.Store(true)
		began := time.Now()
		serve(k.LoadSession(new(spy)), withCookies(get("/"), "", old.refresh))
		assert.LessOrEqual(t, time.Since(began), time.Second)
		began = time.Now()
		assert.Equal(t, http.StatusOK, serve(k.RequireSession(new(spy)), withCookies(get("/"), "", old.refresh)).StatusCode)
		assert.LessOrEqual(t, time.Since(began), time.Second)
	})
}

// A slow one may use up the budget, and not more.
func TestSlowStoreAndTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t, func(c *descopehttp.Config) { c.RefreshStore = patientStore{newMemoryStore()} })
		old := b.copied()
		for range 12 {
			require.Equal(t, http.StatusOK, b.do(k.Handler(), post(refreshPath, "{}")).StatusCode)
			elapse(2 * time.Second)
		}
		began := time.Now()
		serve(k.LoadSession(new(spy)), withCookies(get("/"), "", old.refresh))
		assert.LessOrEqual(t, time.Since(began), loadBudget+100*time.Millisecond)
	})
}

const loadBudget = time.Second

// A call that may mint tokens takes long to verify, and another replica logs out
// meanwhile.
func TestLogoutOnAnotherReplicaDuringTheVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := newReplicas(t, 2)
		srv := replicas[0].srv
		srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := signIn(replicas[0], "eve")
		elapse(10 * time.Second)
		srv.RotateKeys()
		srv.Fail(keysPath, descopetest.Fault{Delay: 3 * time.Second, Times: -1})
		mine := b.copied()
		var wg sync.WaitGroup
		wg.Go(func() {
			res := mine.do(replicas[0].Handler(), post(selectPath, `{"tenant":"T1"}`))
			requireProblem(t, res, http.StatusUnauthorized, "session_ended")
			assert.Empty(t, res.Cookies())
		})
		elapse(time.Second)
		require.Equal(t, http.StatusOK, logout(replicas[1], b).StatusCode)
		wg.Wait()
	})
}

// In the minute after the store was away, Descope's refusal of a logout may mean that
// another replica spent the token.
func TestLogoutJustAfterTheStoreWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newLongReplicas(t)
		store.broken = context.DeadlineExceeded
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		requireProblem(t, late.copied().do(replicas[1].RequireSession(new(spy)), get("/")), http.StatusServiceUnavailable, "unavailable")
		store.broken = nil
		elapse(time.Second)
		requireProblem(t, logout(replicas[1], late), http.StatusBadGateway, "unavailable")
		require.True(t, replicas[0].srv.Honours(b.refresh))
	})
}

// While the store is away, no refusal is final, of a call that may mint tokens neither.
func TestMintingCallWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, _ := newReplicas(t, 2)
		replicas[0].srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := signIn(replicas[0], "eve")
		elapse(past)
		store.broken = context.DeadlineExceeded
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		for _, r := range []*http.Request{
			post(selectPath, `{"tenant":"T1"}`),
			post(verifyPath, `{"loginId":"eve","code":"`+replicas[0].srv.Code("eve")+`","loginOptions":{"stepup":true}}`),
		} {
			requireProblem(t, late.copied().do(replicas[1].Handler(), r), http.StatusBadGateway, "unavailable")
		}
	})
}

// Too much to be shared is what Descope says of the user; the tokens are shared.
func TestLateRequestOfALargeUserOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := newReplicas(t, 2)
		replicas[0].srv.AddUser(descopetest.User{LoginID: "bob", Name: strings.Repeat("b", 70<<10)})
		b := signIn(replicas[0], "bob")
		elapse(past)
		late, flow := b.copied(), b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		assert.Equal(t, http.StatusOK, late.do(replicas[1].RequireSession(new(spy)), get("/")).StatusCode)
		assert.Equal(t, http.StatusOK, flow.do(replicas[1].Handler(), post(refreshPath, "{}")).StatusCode)
		assert.Equal(t, b.refresh, late.refresh)
		assert.Equal(t, b.refresh, flow.refresh)
		assert.Equal(t, 1, replicas[0].srv.Requests(refreshPath))
	})
}

// A refresh lands under a tombstone and cannot revoke what it brought. The logout on
// the other replica, which Descope refuses because of it, goes on from there.
func TestLogoutGoesOnFromWhatAnotherReplicaCannotRevoke(t *testing.T) {
	for _, clicks := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) { testLogoutGoesOn(t, clicks) })
	}
}

func testLogoutGoesOn(t *testing.T, clicks int) {
	replicas, store, b := newLongReplicas(t)
	srv := replicas[0].srv
	brought := make(chan string, 1)
	other := kitFor(t, srv, func(c *descopehttp.Config) {
		c.RefreshStore = store
		inner := c.HTTPClient.Transport
		c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := inner.RoundTrip(r)
			if err == nil && r.URL.Path == refreshPath {
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
	srv.Fail(refreshPath, descopetest.Fault{Delay: 100 * time.Millisecond, After: true})
	for range clicks {
		srv.Fail(logoutPath, descopetest.Fault{Delay: 4 * time.Second})
	}
	srv.Fail(logoutPath, descopetest.Fault{Delay: 8 * time.Second})
	var wg sync.WaitGroup
	wg.Go(func() {
		res := b.copied().do(other.RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
	})
	elapse(50 * time.Millisecond)
	for range clicks {
		wg.Go(func() { assert.Equal(t, http.StatusOK, logout(replicas[0], b.copied()).StatusCode) })
		elapse(time.Millisecond)
	}
	wg.Wait()
	require.NoError(t, other.Wait(t.Context()))
	assert.False(t, srv.Honours(<-brought))
}

// A frozenStore says that another replica is at work, for ever.
type frozenStore struct{ *memoryStore }

func (frozenStore) Claim(context.Context, string, string, time.Duration) ([]byte, bool, error) {
	return nil, false, nil
}

func TestAnotherReplicaDoesNotFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t, func(c *descopehttp.Config) { c.RefreshStore = frozenStore{newMemoryStore()} })
		began := time.Now()
		res := b.do(k.RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, k.Wait(ctx))
		assert.LessOrEqual(t, time.Since(began), 5*time.Second)
		assert.Zero(t, k.srv.Requests(refreshPath))
	})
}

// A call that may mint tokens goes on from what another replica made of the token.
func TestMintingCallOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := newReplicas(t, 2)
		replicas[0].srv.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		b := signIn(replicas[0], "eve")
		elapse(past)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		assert.Equal(t, http.StatusOK, late.do(replicas[1].Handler(), post(selectPath, `{"tenant":"T1"}`)).StatusCode)
		assert.True(t, replicas[0].srv.Honours(late.refresh))
	})
}

// The store loses its data, and the lease with it, so that two replicas spend the same
// token. The one that is refused finds what the other was given.
func TestStoreLosesALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newReplicas(t, 2)
		replicas[0].srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second, Times: 2})
		winner, loser := b.copied(), b.copied()
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, winner.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		})
		elapse(500 * time.Millisecond)
		store.mu.Lock()
		clear(store.entries)
		store.mu.Unlock()
		assert.Equal(t, http.StatusOK, loser.do(replicas[1].RequireSession(new(spy)), get("/")).StatusCode)
		wg.Wait()
		assert.Equal(t, winner.refresh, loser.refresh)
		assert.Equal(t, 2, replicas[0].srv.Requests(refreshPath))
	})
}

// A call that failed leaves nothing for the other replicas to wait for.
func TestFailedRefreshLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		replicas[0].srv.Fail(refreshPath, descopetest.Fault{Status: 503})
		requireProblem(t, b.do(replicas[0].RequireSession(new(spy)), get("/")), http.StatusServiceUnavailable, "unavailable")
		began := time.Now()
		assert.Equal(t, http.StatusOK, b.do(replicas[1].RequireSession(new(spy)), get("/")).StatusCode)
		assert.Zero(t, time.Since(began))
	})
}

// R1 → R2 here, R2 → R3 on the other replica: whoever comes here with R1 gets R3.
func TestChainAcrossReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		srv := replicas[0].srv
		first := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		elapse(time.Second)
		require.Equal(t, http.StatusOK, b.do(replicas[1].Handler(), post("/v1/auth/refresh", "{}")).StatusCode)
		require.Equal(t, 2, srv.Requests(refreshPath))
		require.Equal(t, http.StatusOK, first.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		assert.Equal(t, b.refresh, first.refresh)
		assert.Equal(t, 2, srv.Requests(refreshPath))
	})
}

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
				replicas, _, b := newReplicas(t, 2)
				srv := replicas[0].srv
				srv.Fail(refreshPath, descopetest.Fault{Delay: time.Second})
				old, renewed := b.copied(), b.copied()
				var wg sync.WaitGroup
				wg.Go(func() {
					elapse(tt.refreshAt)
					renewed.do(replicas[1].RequireSession(new(spy)), get("/"))
				})
				wg.Go(func() {
					elapse(tt.logoutAt)
					assert.Equal(t, http.StatusOK, logout(replicas[0], b).StatusCode)
				})
				wg.Wait()
				elapse(5 * time.Second)
				for _, k := range replicas {
					requireLoggedOut(t, k, old.refresh)
					if renewed.refresh != "" {
						requireLoggedOut(t, k, renewed.refresh)
					}
				}
			})
		})
	}
}

// A logout is seen by a refresh on another replica that has nothing to tell the
// others when it lands.
func TestLogoutOnAnotherReplicaDuringARefreshThatIsNotShared(t *testing.T) {
	for name, prepare := range map[string]func(k *kit, b *browser) *browser{
		"the store holds a session already": func(k *kit, b *browser) *browser {
			b.do(k.RequireSession(new(spy)), get("/"))
			return b
		},
		"a session of unknown age": func(k *kit, b *browser) *browser {
			k.srv.Configure(func(s *descopetest.Settings) {
				s.EditClaims = func(_ string, claims map[string]any) { delete(claims, "iat") }
			})
			return b
		},
		"an answer too large for the store": func(k *kit, b *browser) *browser {
			k.srv.AddUser(descopetest.User{LoginID: "bob", Name: strings.Repeat("b", 70<<10)})
			return signIn(k, "bob")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, _, b := newReplicas(t, 2)
				srv := replicas[0].srv
				srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = false })
				b = prepare(replicas[0], b)
				elapse(10 * time.Second)
				srv.Fail(refreshPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
				asking := b.copied()
				var wg sync.WaitGroup
				wg.Go(func() {
					res := asking.do(replicas[0].Handler(), post("/v1/auth/refresh", "{}"))
					requireProblem(t, res, http.StatusUnauthorized, "session_ended")
					assert.Empty(t, res.Cookies())
				})
				elapse(time.Second)
				require.Equal(t, http.StatusOK, logout(replicas[1], b).StatusCode)
				wg.Wait()
			})
		})
	}
}

// Another replica publishes, after the user was logged out everywhere, what Descope
// gave it before.
func TestLogoutAllDuringARefreshOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		other, late := signIn(replicas[0], ada), b.copied()
		replicas[0].srv.Fail(refreshPath, descopetest.Fault{Delay: 2 * time.Second, After: true})
		var wg sync.WaitGroup
		wg.Go(func() { b.do(replicas[1].RequireSession(new(spy)), get("/")) })
		elapse(time.Second)
		require.Equal(t, http.StatusOK, other.do(replicas[0].Handler(), post("/v1/auth/logoutall", "{}")).StatusCode)
		wg.Wait()
		res := late.do(replicas[0].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// A session that is about to end is still good after a logout elsewhere, but it is
// not renewed with what the store holds from before.
func TestLogoutOnAnotherReplicaBeforeRenewingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := newReplicas(t, 2)
		b := signIn(replicas[0], ada)
		elapse(10*time.Minute - 20*time.Second)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		require.NotEqual(t, late.refresh, b.refresh, "renewed ahead")
		require.Equal(t, http.StatusOK, logout(replicas[0], b).StatusCode)
		res := late.do(replicas[1].RequireSession(new(spy)), get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Empty(t, res.Cookies())
	})
}

// The logout comes with the newest token, which this replica has handed out itself.
func TestLogoutOfTheNewestOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		require.Equal(t, http.StatusOK, logout(replicas[1], b).StatusCode)
		res := late.do(replicas[0].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// A logout may come with a token that only another replica knows to have been
// spent, when the store has long forgotten it.
func TestLogoutOnAnotherReplicaWithAForgottenToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		old, late := b.copied(), b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		elapse(2 * time.Minute)
		require.Equal(t, http.StatusOK, logout(replicas[1], old).StatusCode)
		res := late.do(replicas[0].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// Descope refuses the token of a logout, because another replica has spent it, and the
// store cannot be asked for what. Nobody can say then that it is over.
func TestLogoutWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newReplicas(t, 2)
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		store.broken = errors.New("away")
		res := logout(replicas[1], old)
		requireProblem(t, res, http.StatusBadGateway, "unavailable")
		requireDeleted(t, res, sessionCookie, refreshCookie)
		require.True(t, replicas[0].srv.Honours(b.refresh))
	})
}

// What another replica remembers of the token of a logout everywhere serves nobody.
func TestLogoutAllOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.do(replicas[1].Handler(), post(logoutAllPath, "{}")).StatusCode)
		res := late.do(replicas[0].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// Descope does not hear of a logout; another one, on a replica that has only the
// old token, still finds what came of it.
func TestLogoutFollowsATombstone(t *testing.T) {
	for name, at := range map[string]int{"where the token was spent": 0, "where it was not": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, _, b := newReplicas(t, 3)
				srv := replicas[0].srv
				old, again := b.copied(), b.copied()
				require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
				srv.Fail(logoutPath, descopetest.Fault{Status: 503})
				requireProblem(t, logout(replicas[at], old), http.StatusBadGateway, "unavailable")
				require.True(t, srv.Honours(b.refresh))
				require.Equal(t, http.StatusOK, logout(replicas[2], again).StatusCode)
				assert.False(t, srv.Honours(b.refresh))
			})
		})
	}
}

// A refresh on another replica spends the token before it has seen the tombstone.
// The logout is not over before what came of that has ended, too.
func TestLogoutAfterASpendingElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newReplicas(t, 1)
		srv := replicas[0].srv
		flaky := kitFor(t, srv, func(c *descopehttp.Config) { c.RefreshStore = &unreliableStore{store, 1} })
		require.NoError(t, flaky.Ready(t.Context()))
		srv.Fail(logoutPath, descopetest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		old := b.copied()
		wg.Go(func() {
			assert.Equal(t, http.StatusOK, logout(flaky, old).StatusCode)
		})
		elapse(100 * time.Millisecond)
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		wg.Wait()
		assert.False(t, srv.Honours(b.refresh))
	})
}

// An unreliableStore refuses the first few Puts.
type unreliableStore struct {
	*memoryStore
	refuse int
}

func (s *unreliableStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration, final bool) ([]byte, error) {
	if s.refuse > 0 {
		s.refuse--
		return nil, errors.New("connection refused")
	}
	return s.memoryStore.Put(ctx, key, value, ttl, final)
}

// What a second factor brings is not shared, but a logout on another replica ends
// it all the same.
func TestLogoutOnAnotherReplicaDuringAStepUp(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			replicas, _, b := newReplicas(t, 2)
			srv := replicas[0].srv
			srv.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
			srv.Fail(verifyPath, descopetest.Fault{Delay: time.Second, After: true})
			other := b.copied()
			var wg sync.WaitGroup
			wg.Go(func() {
				body := `{"loginId":"` + ada + `","code":"` + srv.Code(ada) + `","loginOptions":{"stepup":true}}`
				res := b.do(replicas[1].Handler(), post(verifyPath, body))
				assert.Empty(t, res.Cookies())
				requireProblem(t, res, http.StatusUnauthorized, "session_ended")
			})
			elapse(100 * time.Millisecond)
			require.Equal(t, http.StatusOK, logout(replicas[0], other).StatusCode)
			wg.Wait()
		})
	}
}

// A busyStore has another owner's lease on every key for a while.
type busyStore struct {
	*memoryStore
	until time.Time
}

func (s *busyStore) Claim(ctx context.Context, key, owner string, lease time.Duration) ([]byte, bool, error) {
	if time.Now().Before(s.until) {
		return nil, false, nil
	}
	return s.memoryStore.Claim(ctx, key, owner, lease)
}

// However long a refresh had to wait for its turn, the call itself has all the time
// that it needs: an answer that nobody waits for would sign the user out.
func TestCallIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &busyStore{memoryStore: newMemoryStore()}
		k, b := newRotating(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		store.until = time.Now().Add(4 * time.Second)
		k.srv.Fail(refreshPath, descopetest.Fault{Delay: 1200 * time.Millisecond, After: true})
		h := k.RequireSession(new(spy))
		began := time.Now()
		requireProblem(t, b.do(h, get("/")), http.StatusServiceUnavailable, "unavailable")
		assert.Equal(t, 5*time.Second, time.Since(began))
		elapse(time.Second)
		assert.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// A successor that nobody has presented is kept no longer than another replica's
// logout is told, however long its session lives.
func TestLogoutOnAnotherReplicaOutlivesWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := newReplicas(t, 2)
		srv := replicas[0].srv
		srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = time.Hour })
		b := signIn(replicas[0], ada)
		elapse(time.Hour + 6*time.Second)
		late, lost := b.copied(), b.copied()
		require.Equal(t, http.StatusOK, lost.do(replicas[1].RequireSession(new(spy)), get("/")).StatusCode)
		require.Equal(t, http.StatusOK, logout(replicas[0], b).StatusCode)
		elapse(11 * time.Minute)
		res := late.do(replicas[1].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
		assert.Empty(t, res.Cookies())
	})
}

// live returns how many keys hold something now.
func (s *memoryStore) live() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if time.Now().Before(e.until) {
			n++
		}
	}
	return n
}

// Whoever invents refresh tokens fills neither the store nor the memory of
// logouts: what is written about a token of an unknown key is within the budget
// for calls to Descope with such tokens, five a second.
func TestInventedTokensLeaveLittleBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemoryStore()
		h := newHostile(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		require.NoError(t, h.Ready(t.Context()))
		b := signIn(h.kit, ada)
		elapse(past)
		h.srv.Fail(logoutPath, descopetest.Fault{Status: 500})
		old := b.copied()
		requireProblem(t, logout(h.kit, b), http.StatusBadGateway, "unavailable")
		require.True(t, h.srv.Honours(old.refresh))
		before := store.live()

		f := newForgers(t, h)
		began := time.Now()
		for range 10 {
			var wg sync.WaitGroup
			send := func(n int, handler http.Handler, request func() *http.Request) {
				for range n {
					_, refresh := f.next()
					wg.Go(func() { serve(handler, withCookies(request(), "", refresh)) })
				}
			}
			// More logouts, all together, than are remembered.
			send(1100, h.Handler(), func() *http.Request { return post(logoutPath, "{}") })
			send(20, h.Handler(), func() *http.Request { return post(refreshPath, "{}") })
			send(20, h.Handler(), func() *http.Request { return get(mePath) })
			send(20, h.RequireSession(new(spy)), func() *http.Request { return get("/") })
			wg.Wait()
			elapse(time.Second)
		}
		seconds := int(time.Since(began) / time.Second)
		assert.LessOrEqual(t, store.calls, 5*5*seconds, "five calls for each that passes")
		assert.LessOrEqual(t, store.live()-before, 5*seconds+1)
		assert.Less(t, seconds, 20)
		res := old.do(h.RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusUnauthorized, "session_ended")
	})
}

// A slowStore carries calls out at once and answers late.
type slowStore struct {
	*memoryStore
	late time.Duration
}

func (s slowStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration, final bool) ([]byte, error) {
	stored, err := s.memoryStore.Put(ctx, key, value, ttl, final)
	elapse(s.late)
	return stored, err
}

// The same while no keys are held, when nobody can be told from an inventor.
func TestInventedTokensWithoutKeysLeaveLittleBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemoryStore()
		h := newHostile(t, func(c *descopehttp.Config) { c.RefreshStore = store })
		h.srv.Fail(keysPath, descopetest.Fault{Status: 503, Times: -1})
		f := newForgers(t, h)
		var wg sync.WaitGroup
		for range 300 {
			_, refresh := f.next()
			wg.Go(func() { serve(h.Handler(), withCookies(post(logoutPath, "{}"), "", refresh)) })
		}
		wg.Wait()
		assert.LessOrEqual(t, store.live(), 10)
		assert.LessOrEqual(t, h.srv.Requests(logoutPath), 10)

		// They come while the first are being fetched.
		h.srv.Reset()
		elapse(10 * time.Second)
		h.srv.Fail(keysPath, descopetest.Fault{Delay: 3 * time.Second})
		for range 300 {
			_, refresh := f.next()
			wg.Go(func() { serve(h.Handler(), withCookies(post(refreshPath, "{}"), "", refresh)) })
		}
		wg.Wait()
		require.NoError(t, h.Wait(t.Context()))
		assert.LessOrEqual(t, h.srv.Requests(refreshPath), 10)
	})
}

// The answer to a logout says that no later answer carries a session, also where
// another replica read the store just before and hears of it just after.
func TestLogoutOutwaitsASlowStore(t *testing.T) {
	for _, path := range []string{logoutPath, logoutAllPath} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replicas, store, b := newReplicas(t, 1)
				srv := replicas[0].srv
				slow := kitFor(t, srv, func(c *descopehttp.Config) {
					c.RefreshStore = slowStore{store, 200 * time.Millisecond}
				})
				require.NoError(t, slow.Ready(t.Context()))
				old := b.copied()
				var answered time.Time
				var wg sync.WaitGroup
				wg.Go(func() {
					require.Equal(t, http.StatusOK, b.do(slow.RequireSession(new(spy)), get("/")).StatusCode)
					answered = time.Now()
				})
				elapse(300 * time.Millisecond) // the first Put is not about the token
				require.Equal(t, 1, srv.Requests(refreshPath))
				assert.Equal(t, http.StatusOK, old.do(replicas[0].Handler(), post(path, "{}")).StatusCode)
				loggedOut := time.Now()
				wg.Wait()
				assert.False(t, answered.After(loggedOut), "%v after the logout", answered.Sub(loggedOut))
				requireLoggedOut(t, replicas[0], b.refresh)
			})
		})
	}
}

// While the store is away each replica goes on alone, and no refusal is final:
// the token may have been spent on another one.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newReplicas(t, 2)
		srv := replicas[0].srv
		store.mu.Lock()
		store.broken = context.DeadlineExceeded
		store.mu.Unlock()
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		for range 3 {
			res := old.do(replicas[1].RequireSession(new(spy)), get("/"))
			requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
			assert.Empty(t, res.Cookies())
			elapse(11 * time.Second)
		}
		assert.Equal(t, 3, srv.Requests(refreshPath)-1)
		assert.Equal(t, 1, strings.Count(replicas[1].logs.String(), "refresh store is not available"), "once a minute")
	})
}

// To look into the store is to ask for the lease. It is given back at once.
func TestLookLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, b := newReplicas(t, 2)
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		require.Equal(t, http.StatusOK, late.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		began := time.Now()
		assert.Equal(t, http.StatusOK, b.do(replicas[1].Handler(), post(refreshPath, "{}")).StatusCode)
		assert.Zero(t, time.Since(began))
	})
}

// A patientStore answers late, unless its caller has gone.
type patientStore struct{ *memoryStore }

func (s patientStore) Claim(ctx context.Context, key, owner string, lease time.Duration) ([]byte, bool, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return s.memoryStore.Claim(ctx, key, owner, lease)
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// A client that hangs up says nothing about the store.
func TestClientHangsUpOnTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t, func(c *descopehttp.Config) { c.RefreshStore = patientStore{newMemoryStore()} })
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(k.RequireSession(new(spy)), get("/")).StatusCode)
		r := get("/")
		ctx, cancel := contextWithTimeout(r, 10*time.Millisecond)
		defer cancel()
		late.do(k.RequireSession(new(spy)), r.WithContext(ctx))
		assert.NotContains(t, k.logs.String(), "not available")
	})
}

// A panickingStore is one that its author has not finished.
type panickingStore struct{ *memoryStore }

func (panickingStore) Claim(context.Context, string, string, time.Duration) ([]byte, bool, error) {
	panic("secret of the store")
}

func (panickingStore) Put(context.Context, string, []byte, time.Duration, bool) ([]byte, error) {
	panic("secret of the store")
}

// A store that panics is one that is away, wherever it is asked.
func TestStoreThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t, func(c *descopehttp.Config) { c.RefreshStore = panickingStore{newMemoryStore()} })
		h := k.RequireSession(new(spy))
		late := b.copied()
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		require.Equal(t, http.StatusOK, late.do(h, get("/")).StatusCode)
		require.Equal(t, http.StatusOK, logout(k, b.copied()).StatusCode)
		assert.False(t, k.srv.Honours(b.refresh))
		assert.Contains(t, k.logs.String(), "panicked=true")
		assert.NotContains(t, k.logs.String(), "secret")
	})
}

// A panickingHandler is a log handler that its author has not finished.
type panickingHandler struct{ slog.Handler }

func (panickingHandler) Handle(context.Context, slog.Record) error { panic("secret of the handler") }

// Refreshes and key fetches run in goroutines of their own, where a panic would end
// the process.
func TestLogHandlerThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t, func(c *descopehttp.Config) {
			c.Logger = slog.New(panickingHandler{slog.NewTextHandler(io.Discard, nil)})
		})
		k.srv.Fail(refreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`}) // an operator has to know
		res := b.do(k.RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		k.srv.Fail(keysPath, descopetest.Fault{Status: 500})
		elapse(2 * time.Hour)
		require.NoError(t, k.Ready(t.Context()))
		serve(k.RequireSession(new(spy)), withCookies(get("/"), k.srv.SignIn(ada).Session, "")) // fetches beside the request
		require.NoError(t, k.Wait(t.Context()))
	})
}

// What a store holds says nothing to whoever reads it, and what somebody writes
// into it opens nothing.
func TestStoreIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, b := newReplicas(t, 2)
		old := b.copied()
		require.Equal(t, http.StatusOK, b.do(replicas[0].RequireSession(new(spy)), get("/")).StatusCode)
		require.NotEmpty(t, store.entries)
		for key, e := range store.entries {
			for _, secret := range []string{old.refresh, old.session, b.refresh, b.session, ada} {
				assert.NotContains(t, key, secret)
				assert.NotContains(t, string(e.value), secret)
			}
			e.value[len(e.value)-1] ^= 1
		}
		// Nobody can read the value now; the lease is taken, so this waits and
		// then cannot tell.
		res := old.do(replicas[1].RequireSession(new(spy)), get("/"))
		requireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		assert.Empty(t, res.Cookies())
	})
}
