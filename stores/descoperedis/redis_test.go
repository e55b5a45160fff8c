package descoperedis_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"
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

// redisServer is a real Redis on a port of its own, without persistence.
type redisServer struct {
	addr string
	path string
	dir  string
	cmd  *exec.Cmd // nil while it is down
	gone chan struct{}
}

// startRedis starts a Redis that the end of the test stops. Without one on this
// machine the test is skipped, but never where everything has to be tested.
func startRedis(t testing.TB) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("DESCOPEHTTP_CI") != "" {
			t.Fatal("redis-server is not installed, and DESCOPEHTTP_CI asks for every test")
		}
		t.Skip("redis-server is not installed; without it only miniredis is tested")
	}
	s := &redisServer{path: path, dir: t.TempDir()}
	t.Cleanup(s.kill)
	// Between the choice of a port and its use another program may take it.
	for range 5 {
		s.addr = freeAddr(t)
		if s.start(t) {
			return s
		}
	}
	log, _ := os.ReadFile(s.logFile())
	t.Fatalf("redis-server does not start:\n%s", log)
	return nil
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (s *redisServer) logFile() string { return filepath.Join(s.dir, "redis.log") }

// start starts the server, empty, and reports whether it answers.
func (s *redisServer) start(t testing.TB) bool {
	t.Helper()
	_, port, err := net.SplitHostPort(s.addr)
	require.NoError(t, err)
	s.cmd = exec.Command(s.path, "--bind", "127.0.0.1", "--port", port, "--dir", s.dir,
		"--logfile", s.logFile(), "--save", "", "--appendonly", "no", "--daemonize", "no")
	require.NoError(t, s.cmd.Start())
	s.gone = make(chan struct{})
	go func(cmd *exec.Cmd, gone chan struct{}) {
		_ = cmd.Wait()
		close(gone)
	}(s.cmd, s.gone)

	client := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		// Another server on this port would answer, too; it has another process.
		info, err := client.InfoMap(t.Context(), "server").Result()
		if err == nil && info["Server"]["process_id"] == strconv.Itoa(s.cmd.Process.Pid) {
			return true
		}
		select {
		case <-s.gone:
			return false
		case <-deadline:
			return false
		case <-tick.C:
		}
	}
}

// kill ends the server at once, and with it all that it held.
func (s *redisServer) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.gone
	s.cmd = nil
}

func (s *redisServer) restart(t testing.TB) {
	t.Helper()
	s.kill()
	require.True(t, s.start(t), "redis-server does not start again")
}

// client returns a client that the end of the test closes, as a user would make
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
		s := startRedis(t)
		test(t, clientOf(t, s.addr), func(time.Duration) {})
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
