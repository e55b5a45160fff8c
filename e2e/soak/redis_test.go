package soak_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	// The client's own log says every dial that fails, and most of them are meant to.
	redis.SetLogger(new(logging.VoidLogger))
	os.Exit(m.Run())
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
func startRedis(t *testing.T) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("DESCOPEHTTP_CI") != "" {
			t.Fatal("redis-server is not installed, and DESCOPEHTTP_CI asks for every test")
		}
		t.Skip("redis-server is not installed")
	}
	s := &redisServer{path: path, dir: t.TempDir()}
	t.Cleanup(s.kill)
	// Between the choice of a port and its use another program may take it.
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		s.addr = l.Addr().String()
		require.NoError(t, l.Close())
		if s.start() {
			return s
		}
		s.kill()
	}
	log, _ := os.ReadFile(s.logFile())
	t.Fatalf("redis-server does not start:\n%s", log)
	return nil
}

func (s *redisServer) logFile() string { return filepath.Join(s.dir, "redis.log") }

// start starts the server, empty, and reports whether it answers.
func (s *redisServer) start() bool {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return false
	}
	s.cmd = exec.Command(s.path, "--bind", "127.0.0.1", "--port", port, "--dir", s.dir,
		"--logfile", s.logFile(), "--save", "", "--appendonly", "no", "--daemonize", "no")
	if s.cmd.Start() != nil {
		s.cmd = nil
		return false
	}
	s.gone = make(chan struct{})
	go func(cmd *exec.Cmd, gone chan struct{}) {
		_ = cmd.Wait()
		close(gone)
	}(s.cmd, s.gone)
	return s.answers()
}

func (s *redisServer) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		// Another server on this port would answer, too; it has another process.
		info, err := client.InfoMap(ctx, "server").Result()
		if err == nil && info["Server"]["process_id"] == strconv.Itoa(s.cmd.Process.Pid) {
			return true
		}
		select {
		case <-s.gone:
			return false
		case <-ctx.Done():
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
