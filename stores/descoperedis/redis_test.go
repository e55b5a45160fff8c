package descoperedis_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
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

// startCluster returns a client of a real Cluster of one node, which refuses what one
// of many nodes does: keys of one script in several slots. The end of the test ends it.
// Where there is no redis-server, the same holds as for redistest.Start.
func startCluster(t testing.TB) *redis.ClusterClient {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		require.Empty(t, os.Getenv("DESCOPEHTTP_CI"), "redis-server is not installed, and DESCOPEHTTP_CI asks for every test")
		t.Skip("redis-server is not installed")
	}
	// Between the choice of a port and its use another program may take it, and not
	// every port has the one beside it that nodes of a Cluster talk over.
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		require.NoError(t, l.Close())
		if port+10_000 < 1<<16 && startNode(t, path, port) {
			client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{fmt.Sprint("127.0.0.1:", port)}})
			t.Cleanup(func() { _ = client.Close() })
			eventually(t, "the Cluster takes commands", func() bool { return client.Set(t.Context(), "any", 1, time.Second).Err() == nil })
			return client
		}
	}
	t.Fatal("redis-server does not start as a Cluster")
	return nil
}

// startNode starts a node that has all slots, and reports whether it did.
func startNode(t testing.TB, path string, port int) bool {
	t.Helper()
	node := exec.Command(path, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", t.TempDir(),
		"--save", "", "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1")
	require.NoError(t, node.Start())
	gone := make(chan struct{})
	go func() {
		_ = node.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		_ = node.Process.Kill()
		<-gone
	})
	client := clientOf(t, fmt.Sprint("127.0.0.1:", port))
	for {
		info, _ := client.Info(t.Context(), "server").Result()
		if strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", node.Process.Pid)) {
			return client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err() == nil
		}
		select {
		case <-gone:
			return false
		case <-t.Context().Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
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
