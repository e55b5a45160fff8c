package descoperedis_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func requireRefused(t *testing.T, name string, got answer) {
	t.Helper()
	require.Equal(t, http.StatusUnauthorized, got.status, "%s: %s", name, got.body)
	require.Empty(t, got.session, name)
	require.Empty(t, got.refresh, name)
}

// R1→R2 on A, R2→R3 on B; R1 late on C gets R2, which is spent, for a cookie.
func TestLateRequestFollowsTheChain(t *testing.T) {
	f := newReplicas(t, nil, rotation(true))
	second := f.get(f.all[0])
	third := f.getWith(f.all[1], f.session, second.refresh)
	require.Equal(t, http.StatusOK, third.status)
	require.NotEmpty(t, third.refresh)
	require.True(t, f.srv.Honours(third.refresh))
	late := f.get(f.all[2])
	require.Equal(t, http.StatusOK, late.status)
	require.False(t, late.refresh == second.refresh, "a late request is handed a spent token")
	require.True(t, late.refresh == third.refresh || late.refresh == "", "newest, or no cookies at all")
}

// Logout on A after a refresh on B: B's memory goes on handing out.
func TestLogoutReachesTheMemoryOfOthers(t *testing.T) {
	bothRotations(t, func(t *testing.T, rotates bool) {
		for _, with := range []string{"old token", "new token"} {
			t.Run(with, func(t *testing.T) {
				f := newReplicas(t, nil, rotation(rotates))
				now := f.get(f.all[1])
				require.Equal(t, http.StatusOK, now.status)
				token := f.refresh
				if with == "new token" && rotates {
					token = now.refresh
				}
				f.refresh, token = token, f.refresh
				out := f.post(f.all[0], kittest.LogoutPath, "{}")
				f.refresh = token
				require.Equal(t, http.StatusOK, out.status)
				requireRefused(t, "late on B", f.get(f.all[1]))
				requireRefused(t, "late on C", f.get(f.all[2]))
			})
		}
	})
}

func (f *replicas) selectTenant(r *replica) answer {
	return f.post(r, kittest.SelectPath, `{"tenant":"t1"}`)
}

// A call that mints tokens ignores the tombstone, both the one that is there
// already and the one that its publish meets.
func TestLogoutWinsOverMintOnAnotherReplica(t *testing.T) {
	t.Run("logout first, Descope not told yet", func(t *testing.T) {
		f := inTenant(newReplicas(t, nil, rotation(true)))
		f.srv.Fail(kittest.LogoutPath, descopetest.Fault{Status: 500})
		f.post(f.all[0], kittest.LogoutPath, "{}")
		requireRefused(t, "mint on B", f.selectTenant(f.all[1]))
	})
	t.Run("mint in flight", func(t *testing.T) {
		held := newHeldTransport(kittest.SelectPath)
		f := inTenant(newReplicas(t, held.over, rotation(false)))
		flight := make(chan answer, 1)
		go func() { flight <- f.selectTenant(f.all[1]) }()
		await(t, held.spent, "mint")
		require.True(t, f.srv.Honours(held.refresh))
		out := f.post(f.all[0], kittest.LogoutPath, "{}")
		require.Equal(t, http.StatusOK, out.status, out.body)
		close(held.letGo)
		got := receive(t, flight)
		require.Empty(t, got.session, "status %d", got.status)
		require.Empty(t, got.refresh)
		require.False(t, f.srv.Honours(held.refresh))
	})
}

// hookedStore runs before each call of the store.
type hookedStore struct {
	descopehttp.RefreshStore
	beforeEnd func()
	claim     func(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error)
}

func (s *hookedStore) End(ctx context.Context, key string, end []byte, ttl time.Duration) ([]byte, error) {
	if s.beforeEnd != nil {
		s.beforeEnd()
	}
	return s.RefreshStore.End(ctx, key, end, ttl)
}

func (s *hookedStore) Claim(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error) {
	if s.claim != nil {
		return s.claim(ctx, key, owner, lease)
	}
	return s.RefreshStore.Claim(ctx, key, owner, lease)
}

// B publishes between the look and the mark of A's logout.
func TestLogoutRacesAPublish(t *testing.T) {
	held := newHeldTransport(kittest.RefreshPath)
	f := newReplicas(t, held.over, rotation(true))
	flight := make(chan answer, 1)
	go func() { flight <- f.get(f.all[1]) }()
	await(t, held.spent, "refresh")
	got := make(chan answer, 1)
	var once atomic.Bool
	client := f.srv.Client()
	client.Transport = held
	f.all[0] = f.newReplica(t, client, &hookedStore{RefreshStore: patientStore{f.newStore(t)}, beforeEnd: func() {
		if once.CompareAndSwap(false, true) {
			close(held.letGo)
			got <- <-flight
		}
	}})
	out := f.post(f.all[0], kittest.LogoutPath, "{}")
	require.Equal(t, http.StatusOK, out.status)
	b := receive(t, got)
	t.Logf("B answered %d", b.status)
	require.False(t, f.srv.Honours(held.refresh), "logged out, yet the newest token is alive")
}

// Redis loses its data (restart without persistence, failover) while A's
// refresh is in flight; no call of B or C meets an error.
//
// Rule: renewing: against a store that is away, slow, restarted empty or unreadable: each
// replica goes on with its own memory, and no refusal is final meanwhile.
func TestRedisLosesItsDataInAStampede(t *testing.T) {
	held := newHeldTransport(kittest.RefreshPath)
	f := newReplicas(t, held.over, rotation(true))
	run := f.stampede(60)
	await(t, held.spent, "refresh")
	require.NoError(t, clientOf(t, f.redis.Addr).FlushAll(t.Context()).Err())
	eventually(t, "another replica refreshes", func() bool { return f.srv.Requests(kittest.RefreshPath) >= 2 })
	close(held.letGo)
	statuses := map[int]int{}
	for _, a := range run.wait(t) {
		statuses[a.status]++
		require.False(t, a.deletes)
	}
	t.Log(statuses)
	require.Zero(t, statuses[401], "a good user is told that the session is over")
}

// The answer to A's claim comes too late. A goes on alone, publishes nothing
// and leaves its lease behind.
func TestLostAnswerToAClaim(t *testing.T) {
	f := newReplicas(t, nil, rotation(true))
	s := patientStore{f.newStore(t)}
	f.all[0] = f.newReplica(t, f.srv.Client(), &hookedStore{RefreshStore: s, claim: func(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error) {
		_, _, _, _ = s.Claim(ctx, key, owner, lease)
		return nil, nil, false, errors.New("late")
	}})
	require.Equal(t, http.StatusOK, f.get(f.all[0]).status)
	start := time.Now()
	b := f.get(f.all[1])
	t.Logf("B: %d after %v", b.status, time.Since(start))
	require.Equal(t, http.StatusOK, b.status)
}

// With rotation off, a refresh that is asked for in so many words is not answered from
// the store, but once a second.
func TestExplicitRefreshIsNew(t *testing.T) {
	f := newReplicas(t, nil, rotation(false))
	first := f.get(f.all[0])
	require.Equal(t, http.StatusOK, first.status)
	for n := range 2 {
		eventually(t, "another refresh", func() bool {
			return f.post(f.all[0], kittest.RefreshPath, `{}`).status == http.StatusOK && f.srv.Requests(kittest.RefreshPath) == n+2
		})
	}
}

// Sessions shorter than a minute, rotation off: 503 until the record is gone.
func TestShortSessions(t *testing.T) {
	f := newReplicas(t, nil, rotation(false), func(s *descopetest.Settings) { s.SessionTTL = time.Second })
	require.Equal(t, http.StatusOK, f.get(f.all[0]).status)
	var statuses []int
	require.Eventually(t, func() bool {
		a := f.get(f.all[0])
		statuses = append(statuses, a.status)
		return a.status == 200 && f.srv.Requests(kittest.RefreshPath) > 1
	}, 5*time.Second, 200*time.Millisecond, "%v", &statuses)
}

// A value that does not open is as good as none.
func TestUnreadableRecord(t *testing.T) {
	f := newReplicas(t, nil, rotation(true))
	f.all[0] = f.newReplica(t, f.srv.Client(), &hookedStore{RefreshStore: f.newStore(t), claim: func(context.Context, string, string, time.Duration) (value, end []byte, claimed bool, err error) {
		return []byte("garbage"), nil, false, nil
	}})
	start := time.Now()
	a := f.get(f.all[0])
	t.Logf("%d after %v", a.status, time.Since(start))
	require.Equal(t, http.StatusOK, a.status)
}

// The replica that refreshed cannot publish, because Redis is away; it comes
// back, and a request with the old cookies lands elsewhere within the minute.
func TestRedisComesBackWithoutTheResult(t *testing.T) {
	f := newReplicas(t, nil, rotation(true))
	f.redis.Kill()
	require.Equal(t, http.StatusOK, f.get(f.all[0]).status)
	require.Equal(t, http.StatusServiceUnavailable, f.get(f.all[1]).status, "B knows that Redis was away")
	require.True(t, f.redis.Restart(), "redis-server does not start again")
	require.NotEqual(t, http.StatusUnauthorized, f.get(f.all[1]).status, "B, which has seen Redis away a moment ago")
}

// inTenant makes it about a user who is in a tenant.
func inTenant(f *replicas) *replicas {
	f.srv.AddUser(descopetest.User{LoginID: kittest.Bob, Tenants: map[string]descopetest.Tenant{"t1": {}}})
	f.session, f.refresh = kittest.Expired(f.srv, kittest.Bob, "DS"), f.srv.SignIn(kittest.Bob).Refresh
	return f
}
