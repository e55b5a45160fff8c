package guess_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// countingStore is an AttemptStore as its contract has it.
type countingStore struct {
	mu     sync.Mutex
	counts map[string]*count
	broken error
	delay  time.Duration
	calls  int
}

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

type count struct {
	n     int
	until time.Time
}

func newCountingStore() *countingStore { return &countingStore{counts: make(map[string]*count)} }

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

// While the store is away, the replica that somebody signed in on knows their
// network.
//
// Rule: guessing: against locking a user out: a network that they signed in from has limits of
// its own, which no stranger can use up.
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
		assert.Equal(t, 1250*time.Millisecond, time.Since(began), "known, three counts, a sign-in")
		kittest.Elapse(time.Minute)
		store.set(nil, 0)
		calls := store.calls
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		assert.Equal(t, 8, store.calls-calls, "and three given back")
	})
}

// panickingAttempts is an AttemptStore that its author has not finished.
type panickingAttempts struct{}

func (panickingAttempts) Add(context.Context, string, int, time.Duration) (int, time.Duration, error) {
	panic("secret of the store")
}

// A store that panics is one that is away.
//
// Rule: renewing: a panic of what was plugged in ends nothing.
func TestAttemptStoreThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = panickingAttempts{} })
		require.NoError(t, k.Ready(t.Context()))
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		assert.Contains(t, k.Logs.String(), "attempt store is not available")
		assert.NotContains(t, k.Logs.String(), "secret")
	})
}
