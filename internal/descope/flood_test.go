//go:build !race

// Floods take long under the race detector and show it nothing that a handful of
// requests does not.

package descope_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Each class of calls has a budget of its own; a flood of one is answered here,
// and the others go on. A call waits for its turn three seconds at most.
//
// Rule: guessing: against a flood of sign-ins, to keep others from renewing: four classes of
// calls with a budget each.
// Rule: guessing: budget of a class, and a turn in three seconds.
func TestClassBudgets(t *testing.T) {
	for name, tt := range map[string]struct {
		path         string
		flood        func(k *kittest.Kit, i int) *http.Response
		rate         int
		status, flow int
	}{
		"anonymous": {kittest.VerifyPath, func(k *kittest.Kit, i int) *http.Response {
			return kittest.Guess(k, fmt.Sprintf("10.0.%d.%d", i/250, i%250), fmt.Sprint("user", i), "000000")
		}, 15, http.StatusTooManyRequests, http.StatusUnauthorized},
		"account": {kittest.MePath, func(k *kittest.Kit, _ int) *http.Response {
			return newcomer(k).Do(k.Handler(), kittest.Get(kittest.MePath))
		}, 10, http.StatusBadGateway, http.StatusOK},
		"session": {kittest.LogoutPath, func(k *kittest.Kit, _ int) *http.Response {
			return newcomer(k).Do(k.Handler(), kittest.Post(kittest.LogoutPath, "{}"))
		}, 45, http.StatusBadGateway, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				k.Project.Configure(func(s *descopetest.Settings) { s.Alg = "ES256" })
				require.NoError(t, k.Ready(t.Context()))
				kittest.Elapse(kittest.Past)
				other := kittest.SignIn(k, kittest.Ada)
				other.Session = ""
				n := 0
				flood := func() {
					var all sync.WaitGroup
					for range 500 {
						n++
						i := n
						all.Go(func() {
							if res := tt.flood(k, i); res.StatusCode != tt.flow {
								assert.Equal(t, tt.status, res.StatusCode)
								assert.NotEmpty(t, res.Header.Get("Retry-After"))
							}
						})
					}
					all.Wait()
				}
				began := time.Now()
				flood()
				assert.Equal(t, 6*tt.rate, k.Project.Requests(tt.path), "at once, and in three seconds")
				assert.Equal(t, 3*time.Second, time.Since(began).Round(100*time.Millisecond))
				kittest.Elapse(time.Second)
				flood()
				assert.InDelta(t, 10*tt.rate, k.Project.Requests(tt.path), 1)

				if name != "session" {
					assert.Equal(t, http.StatusOK, other.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
				}
				if name != "account" {
					assert.Equal(t, http.StatusOK, kittest.SignIn(k, kittest.Ada).Do(k.Handler(), kittest.Get(kittest.MePath)).StatusCode)
				}
				if name != "anonymous" {
					assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
				}
			})
		})
	}
}

// Bursts and steady floods of refresh tokens of unknown keys reach Descope at no
// more than five calls a second.
//
// Rule: keys: against refresh tokens of invented kids, to have Descope asked for each: retired
// keys as a filter, 5 calls a second for the rest once keys are held, and for renewals and
// logouts always; tokens that Descope took before are exempt.
// Rule: keys: refresh tokens of unknown keys: 5 calls a second, known ones exempt.
func TestRefreshCallsForInventedKids(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 50 * time.Millisecond, 190 * time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			tap := new(kittest.CallTimes)
			h := kittest.NewHostile(t, tap.Config)
			require.NoError(t, h.Ready(t.Context()))
			handler := h.RequireSession(new(kittest.Spy))
			f := kittest.NewForgers(t, h)
			kittest.Elapse(time.Minute)
			for range int(5 * time.Second / every) {
				_, refresh := f.Next()
				kittest.Serve(handler, kittest.WithCookies(kittest.Get("/"), "", refresh))
				kittest.Serve(h.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, "{}"), "", refresh))
				kittest.Elapse(every)
			}
			assert.LessOrEqual(t, tap.Most(kittest.RefreshPath, time.Second), 5, "every %v", every)
			assert.Equal(t, 1, tap.Most(kittest.KeysPath, time.Hour), "a refresh token of an unknown key fetches no keys")
		})
	}
}

// A user whose refresh token Descope has accepted before goes on while strangers
// use up the budget, though its key is not held here either.
//
// Rule: keys: against refresh tokens of invented kids, to have Descope asked for each: retired
// keys as a filter, 5 calls a second for the rest once keys are held, and for renewals and
// logouts always; tokens that Descope took before are exempt.
// Rule: keys: refresh tokens of unknown keys: 5 calls a second, known ones exempt.
func TestFloodStopsNobodyWhoIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		h.Project.Configure(func(s *descopetest.Settings) { s.KeysKept, s.KeyEndsRefresh = 1, false })
		b := kittest.SignIn(h.Kit, kittest.Ada)
		h.Project.RotateKeys()
		require.NoError(t, h.Ready(t.Context()))
		kittest.Elapse(kittest.Past)
		handler := h.RequireSession(new(kittest.Spy))
		require.Equal(t, http.StatusOK, b.Do(handler, kittest.Get("/")).StatusCode, "of a key that this replica never held")
		for range 5 {
			kittest.Elapse(kittest.Past)
			kittest.NewForgers(t, h).Thousand(t, handler, time.Millisecond)
			assert.Equal(t, http.StatusOK, b.Do(handler, kittest.Get("/")).StatusCode)
		}
	})
}
