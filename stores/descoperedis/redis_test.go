package descoperedis_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/redistest"
)

func TestMain(m *testing.M) {
	// The client's own log says once more what the tests check, for every dial.
	redis.SetLogger(new(logging.VoidLogger))
	os.Exit(m.Run())
}

// patience is how long tests wait for what has to happen. Nothing takes that
// long unless it never happens.
const patience = 10 * time.Second

// eventually waits for an event.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	require.Eventually(t, happened, patience, 2*time.Millisecond, what)
}

// clientOf returns a client that the end of the test closes, as a user would make
// one.
func clientOf(t testing.TB, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// forEachRedis runs a test against a Redis in memory, always, and against a real
// one. elapse lets time pass if that is to be had; else the test has to wait.
func forEachRedis(t *testing.T, test func(t *testing.T, client *redis.Client, elapse func(time.Duration))) {
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		m := miniredis.RunT(t)
		test(t, clientOf(t, m.Addr()), m.FastForward)
	})
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		test(t, clientOf(t, s.Addr), func(time.Duration) {})
	})
}

// silentAddr is where connections are accepted and nothing is ever answered.
func silentAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return l.Addr().String()
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
