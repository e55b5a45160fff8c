//go:build !race

// Floods take long under the race detector and show it nothing that a handful of
// requests does not.

package descopehttp_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// While somebody sends invented kids and keys rotate, Descope hears of it at a
// rate that does not depend on the flood, the rotated key is in use within the
// floor, and nothing piles up.
//
// Rule: keys: against invented kids, to have the key endpoint asked all the time: one fetch in
// 5 s whatever arrives, and one at a time.
// Rule: keys: against invented kids, to keep a real rotation from being seen: the rotated key
// is in use with the next fetch.
// Rule: keys: one fetch in 5 s, one at a time.
func TestFloodOfInventedKids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := new(kittest.CallTimes)
		h := kittest.NewHostile(t, tap.Config)
		require.NoError(t, h.Ready(t.Context()))
		handler := h.RequireSession(new(kittest.Spy))
		f := kittest.NewForgers(t, h)
		f.Thousand(t, handler, time.Second)
		goroutines := runtime.NumGoroutine()
		tap.Reset()
		began := time.Now()

		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 3 {
				f.Thousand(t, handler, 700*time.Millisecond)
			}
		}()
		for range 5 {
			kittest.Elapse(3700 * time.Millisecond)
			h.Project.RotateKeys()
			rotated, token := time.Now(), h.Project.SignIn(kittest.Ada).Session
			r := func() *http.Request { return kittest.From("192.0.2.7", kittest.WithBearer(kittest.Get("/"), token)) }
			for kittest.Serve(handler, r()).StatusCode != http.StatusOK {
				kittest.Elapse(700 * time.Millisecond)
				require.LessOrEqual(t, time.Since(rotated), 6*time.Second)
			}
			assert.LessOrEqual(t, time.Since(rotated), 5*time.Second+700*time.Millisecond, "one look after the floor")
		}
		<-done
		require.NoError(t, h.Wait(t.Context()))
		assert.Equal(t, 1, tap.Most(kittest.KeysPath, 5*time.Second), "key fetches in any 5 s")
		seconds := int(time.Since(began)/time.Second) + 1
		assert.LessOrEqual(t, len(tap.Calls[kittest.RefreshPath]), 5*seconds, "refresh calls in all")
		assert.LessOrEqual(t, tap.Most(kittest.RefreshPath, time.Second), 5, "refresh calls in any second")
		synctest.Wait()
		assert.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "goroutines left")
	})
}

// A key endpoint that is slow, and asked for invented kids all the time, slows
// neither those whose key is known nor a refresh. A refresh whose answer is signed
// by a key of just now has to wait for that key; it takes no more than twice its
// time alone.
//
// Rule: keys: against a slow key endpoint, to hold up everybody: requests whose key is known do
// not wait; keys have their own connections.
func TestSlowKeyEndpoint(t *testing.T) {
	for name, tt := range map[string]struct {
		fault   descopetest.Fault
		rotate  bool
		session string // of the request, where it is not the expired one
		alone   time.Duration
	}{
		"known key":                            {descopetest.Fault{Delay: time.Second, Times: -1}, false, "", 0},
		"known key, answered late":             {descopetest.Fault{Delay: time.Second, After: true, Times: -1}, false, "", 0},
		"known key, silent":                    {descopetest.Fault{Delay: time.Minute, Times: -1}, false, "", 0},
		"known key, away":                      {descopetest.Fault{Status: 503, Times: -1}, false, "", 0},
		"new key":                              {descopetest.Fault{Delay: time.Second, Times: -1}, true, "", time.Second},
		"new key, answered late":               {descopetest.Fault{Delay: time.Second, After: true, Times: -1}, true, "", time.Second},
		"known key, session of an unknown one": {descopetest.Fault{Delay: time.Second, After: true, Times: -1}, false, "unknown", time.Second},
		"silent, session of an unknown key":    {descopetest.Fault{Delay: time.Minute, Times: -1}, false, "unknown", 2 * time.Second},
	} {
		for _, offset := range []time.Duration{10 * time.Millisecond, 500 * time.Millisecond, 990 * time.Millisecond, 1500 * time.Millisecond, 4 * time.Second} {
			t.Run(fmt.Sprint(name, ", ", offset), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := kittest.NewHostile(t)
					b := kittest.SignIn(h.Kit, kittest.Ada)
					fresh := h.With(map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()})
					kittest.Elapse(kittest.Past)
					require.NoError(t, h.Ready(t.Context()))
					kittest.Elapse(5 * time.Second)
					handler := h.RequireSession(new(kittest.Spy))
					f := kittest.NewForgers(t, h)
					h.Project.Fail(kittest.KeysPath, tt.fault)

					stop, done := make(chan struct{}), make(chan struct{})
					go func() {
						defer close(done)
						var wg sync.WaitGroup
						for {
							session, refresh := f.Next()
							wg.Go(func() { kittest.Serve(handler, kittest.WithBearer(kittest.Get("/"), session)) })
							wg.Go(func() { kittest.Serve(handler, kittest.WithCookies(kittest.Get("/"), session, "")) })
							wg.Go(func() { kittest.Serve(handler, kittest.WithCookies(kittest.Get("/"), "", refresh)) })
							select {
							case <-stop:
								wg.Wait()
								return
							case <-time.After(5 * time.Millisecond):
							}
						}
					}()
					kittest.Elapse(offset)

					began := time.Now()
					assert.Equal(t, http.StatusOK, kittest.Serve(handler, kittest.WithBearer(kittest.Get("/"), fresh)).StatusCode)
					assert.Equal(t, http.StatusOK, kittest.Serve(handler, kittest.WithCookies(kittest.Get("/"), fresh, "")).StatusCode)
					assert.Zero(t, time.Since(began), "a request whose key is known")

					if tt.rotate {
						h.Project.RotateKeys()
					}
					if tt.session != "" {
						b.Session, _ = f.Next()
					}
					began = time.Now()
					res := b.Do(handler, kittest.Get("/"))
					assert.Equal(t, http.StatusOK, res.StatusCode, "a legitimate refresh")
					assert.LessOrEqual(t, time.Since(began), 2*tt.alone)
					close(stop)
					<-done
					require.NoError(t, h.Wait(t.Context()))
				})
			})
		}
	}
}

// The same over real connections, where a user's transport allows one connection
// to a host at a time: the key endpoint must not occupy it.
//
// Rule: keys: against a slow key endpoint, to hold up everybody: requests whose key is known do
// not wait; keys have their own connections.
// Rule: keys: keys have connections of their own.
func TestSlowKeyEndpointOverOneConnection(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel() // each waits for the floor, in real time
			k := kittest.New(t)
			k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = -time.Minute })
			b := kittest.SignIn(k, kittest.Ada)
			k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 10 * time.Minute })
			release, asked := make(chan struct{}), make(chan struct{}, 100)
			slow := false
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if slow && strings.HasPrefix(r.URL.Path, kittest.KeysPath) {
					asked <- struct{}{}
					<-release
				}
				k.Project.ServeHTTP(w, r)
			}))
			server.EnableHTTP2 = proto == "HTTP/2"
			server.StartTLS()
			t.Cleanup(server.Close)
			t.Cleanup(func() { close(release) })
			transport := &http.Transport{
				MaxConnsPerHost:   1,
				TLSClientConfig:   &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs},
				ForceAttemptHTTP2: server.EnableHTTP2,
				DialContext:       (&net.Dialer{Timeout: time.Second}).DialContext,
			}
			t.Cleanup(transport.CloseIdleConnections)
			a := kittest.For(t, k.Project, func(c *descopehttp.Config) {
				c.BaseURL, c.HTTPClient = server.URL, &http.Client{Transport: transport}
			})
			require.NoError(t, a.Ready(t.Context()))
			slow = true
			// The floor: wait until an invented kid is allowed to start a fetch.
			h := &kittest.Hostile{Kit: a, T: t}
			invented := kittest.Segment(`{"alg":"RS256","kid":"SKinvented"}`) + "." + kittest.Segment(kittest.ClaimsJSON(t, h.Claims(nil))) + "." + kittest.Segment("x")
			deadline := time.After(15 * time.Second)
			var wg sync.WaitGroup
			t.Cleanup(wg.Wait)
			for fetching := false; !fetching; {
				wg.Go(func() {
					kittest.Serve(a.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), invented, ""))
				})
				select {
				case <-asked:
					fetching = true
				case <-time.After(100 * time.Millisecond):
				case <-deadline:
					require.FailNow(t, "no key fetch began")
				}
			}
			began := time.Now()
			res := b.Do(a.RequireSession(new(kittest.Spy)), kittest.Get("/"))
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Less(t, time.Since(began), time.Second)
		})
	}
}

// BenchmarkRenewalsBesideLogouts tells how long one of 100 renewals a second takes, at the
// median, alone and while a thousand logouts a second are repeated of a sign-in that was
// refreshed a thousand times. Nothing that one user does may hold up the others.
func BenchmarkRenewalsBesideLogouts(b *testing.B) {
	for name, logouts := range map[string]int{"alone": 0, "beside": 1000} {
		b.Run(name, func(b *testing.B) {
			k := kittest.New(b)
			k.Project.Configure(kittest.Rotating)
			browser := kittest.SignIn(k, kittest.Ada)
			page, flows := k.RequireSession(new(kittest.Spy)), k.Handler()
			for range 1000 {
				browser.Session = ""
				require.Equal(b, http.StatusOK, browser.Do(page, kittest.Get("/")).StatusCode)
			}
			ended := descopetest.Tokens{Refresh: browser.Refresh}
			require.Equal(b, http.StatusOK, kittest.Serve(flows, kittest.SignedInPost(ended, kittest.LogoutPath, `{}`)).StatusCode)
			stop := make(chan struct{})
			var all sync.WaitGroup
			if logouts > 0 {
				all.Go(func() {
					tick := time.NewTicker(time.Second / time.Duration(logouts))
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							kittest.Serve(flows, kittest.SignedInPost(ended, kittest.LogoutPath, `{}`))
						}
					}
				})
			}
			var took []time.Duration
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for b.Loop() {
				<-tick.C
				r := kittest.WithCookies(kittest.Get("/"), "", k.Project.SignIn(kittest.Ada).Refresh)
				began := time.Now()
				require.Equal(b, http.StatusOK, kittest.Serve(page, r).StatusCode)
				took = append(took, time.Since(began))
			}
			close(stop)
			all.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
			b.ReportMetric(0, "ns/op") // the pace
		})
	}
}
