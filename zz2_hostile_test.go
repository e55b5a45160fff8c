package descopehttp_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// I: TestLogoutGoesOnFromWhatAnotherReplicaCannotRevoke, with a logout that is clicked twice.
func TestZZTwoClicksOfALogoutThatAnotherReplicaCannotRevoke(t *testing.T) {
	for _, clicks := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
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
			wg.Go(func() { b.copied().do(other.RequireSession(new(spy)), get("/")) })
			elapse(50 * time.Millisecond)
			for range clicks {
				c := b.copied()
				wg.Go(func() { assert.Equal(t, http.StatusOK, logout(replicas[0], c).StatusCode) })
				elapse(time.Millisecond)
			}
			wg.Wait()
			require.NoError(t, other.Wait(t.Context()))
			assert.False(t, srv.Honours(<-brought), "clicks: %d", clicks)
		})
	}
}

// L: the owner of R2 has shown it to another flow than refresh; then a thief comes with R1.
func TestZZPresentedRefreshTokenInAnotherFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := newRotating(t, func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody })
		with := func(r *http.Request, refresh string) *http.Request {
			r.Header.Set("Authorization", "Bearer "+k.srv.ProjectID()+":"+refresh)
			return r
		}
		refreshOf := func(res *http.Response) string {
			var body struct{ RefreshJWT string }
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
			return body.RefreshJWT
		}
		r2 := refreshOf(serve(k.Handler(), with(post(refreshPath, "{}"), b.refresh)))
		require.NotEmpty(t, r2)
		elapse(time.Second)
		require.Equal(t, http.StatusOK, serve(k.Handler(), with(get(mePath), r2)).StatusCode)
		elapse(time.Second)
		assert.Empty(t, refreshOf(serve(k.Handler(), with(post(refreshPath, "{}"), b.refresh))), "the thief is handed R2")
	})
}
