package descopehttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A brokenAttempts is an AttemptStore that is away.
type brokenAttempts struct{}

func (brokenAttempts) Add(context.Context, string, int, time.Duration) (int, time.Duration, error) {
	return 0, 0, errors.New("away")
}

// The status tells what is the case, and calls nobody for it.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times, store := new(kittest.CallTimes), kittest.NewMemoryStore()
		k := kittest.New(t, times.Config, func(c *descopehttp.Config) {
			c.RefreshStore, c.AttemptStore, c.MaxRememberedBytes = store, brokenAttempts{}, 1<<20
		})
		s := k.Status()
		assert.Zero(t, s.Keys)
		assert.Equal(t, []string{"ok", "ok"}, []string{s.RefreshStore, s.AttemptStore}, "nobody has seen anything else")
		assert.Empty(t, times.Calls)
		assert.Zero(t, store.Calls)

		kittest.Guess(k, "192.0.2.7", kittest.Ada, "000000")
		b := kittest.SignIn(k, kittest.Ada)
		page := k.RequireSession(new(kittest.Spy))
		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		kittest.Elapse(kittest.Past)
		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		s = k.Status()
		assert.Equal(t, 1, s.Keys)
		assert.Equal(t, kittest.Past, s.KeysAge)
		assert.Equal(t, []string{"ok", "away"}, []string{s.RefreshStore, s.AttemptStore})
		assert.Equal(t, 1, s.CachedSessions)
		assert.Positive(t, s.RememberedBytes)
		assert.Equal(t, 1<<20, s.MaxRememberedBytes)
		assert.InDelta(t, 1./135, s.Gates[0].Used, 0.001, "one of three seconds' calls")

		kittest.Elapse(2 * time.Hour)
		store.Break(errors.New("away"))
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Drop: true, Times: -1})
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, Times: -1})
		for range 5 {
			b.Do(page, kittest.Get("/"))
			kittest.Elapse(30 * time.Second)
		}
		b.Do(page, kittest.Get("/"))
		s = k.Status()
		assert.Equal(t, 1, s.Keys, "they serve for a day")
		assert.Equal(t, "keys_stale", s.KeysTrouble)
		assert.Equal(t, descopehttp.GateStatus{Class: "session", State: "closed", Retry: 2 * time.Second, Limit: 45, Used: s.Gates[0].Used}, s.Gates[0])
		assert.Equal(t, "open", s.Gates[1].State)
		assert.Equal(t, "away", s.RefreshStore)

		k.Project.Reset()
		k.Project.Fail(kittest.MePath, descopetest.Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}})
		kittest.Elapse(30 * time.Second)
		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		b.Do(k.Handler(), kittest.Get(kittest.MePath))
		s = k.Status()
		assert.Equal(t, "open", s.Gates[0].State)
		assert.Equal(t, descopehttp.GateStatus{Class: "account", State: "paused", Retry: 7 * time.Second, Limit: 5, Used: 1}, s.Gates[1])

		kittest.Elapse(25 * time.Hour)
		assert.Zero(t, k.Status().Keys, "and no longer")
		text := fmt.Sprintf("%v %+v %#v", s, s, s)
		for _, secret := range []string{kittest.Ada, b.Session, b.Refresh, "eyJ", k.Project.ProjectID()} {
			assert.NotContains(t, text, secret)
		}
		require.NoError(t, k.Wait(t.Context()))
	})
}

func TestStatusWithoutACache(t *testing.T) {
	s := kittest.New(t, func(c *descopehttp.Config) { c.MaxCachedSessions = -1 }).Status()
	assert.Equal(t, []int{0, 0}, []int{s.CachedSessions, s.MaxCachedSessions})
}
