package descopehttp_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A stream of events ends with its session, and goes on after a renewal: over a
// real connection, with sessions of two seconds.
func TestServerSentEventsEndWithTheSession(t *testing.T) {
	t.Parallel() // it waits for a session to end, in real time
	k := kittest.New(t, func(c *descopehttp.Config) { c.Leeway = -1 })
	k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.RotateRefresh = 2*time.Second, true })
	events := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := descopehttp.SessionFromContext(r.Context())
		ctx, cancel := context.WithDeadline(r.Context(), s.Expiry())
		defer cancel()
		fmt.Fprintf(w, "data: %s\n\n", s.Subject())
		_ = http.NewResponseController(w).Flush()
		<-ctx.Done()
	})
	srv := httptest.NewServer(k.RequireSession(events))
	defer srv.Close()

	b := kittest.SignIn(k, kittest.Ada)
	first := b.Session
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		res, err := srv.Client().Do(kittest.WithCookies(r, b.Session, b.Refresh))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		b.Keep(res)
		lines := 0
		for scanner := bufio.NewScanner(res.Body); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), "data: U2") {
				lines++
			}
		}
		require.NoError(t, res.Body.Close())
		assert.Equal(t, 1, lines, "the stream began, and ended by itself")
	}
	assert.NotEqual(t, first, b.Session, "the second connection renewed the session")
	assert.NotZero(t, k.Project.Requests(kittest.RefreshPath))
}
