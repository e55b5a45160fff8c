// Package redistest runs a real Redis for tests. It needs no Redis client, so that the
// module that it is in requires none.
package redistest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long a start may take.
const patience = 10 * time.Second

// A Server is a redis-server on a port of its own, without persistence. It is not safe
// for concurrent use.
type Server struct {
	Addr string

	path string
	dir  string
	cmd  *exec.Cmd // nil while it is down
	gone chan struct{}
}

// Start starts a server that the end of the test stops. Without one on this machine
// the test is skipped, but never where everything has to be tested.
func Start(t testing.TB) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("DESCOPEHTTP_CI") != "" {
			t.Fatal("redis-server is not installed, and DESCOPEHTTP_CI asks for every test")
		}
		t.Skip("redis-server is not installed")
	}
	s := &Server{path: path, dir: t.TempDir()}
	t.Cleanup(s.Kill)
	// Between the choice of a port and its use another program may take it.
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Addr = l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if s.Restart() {
			return s
		}
	}
	log, _ := os.ReadFile(s.logFile())
	t.Fatalf("redis-server does not start:\n%s", log)
	return nil
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "redis.log") }

// Restart starts the server anew, empty, and reports whether it answers.
func (s *Server) Restart() bool {
	s.Kill()
	_, port, err := net.SplitHostPort(s.Addr)
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

	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.answers() {
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

// answers reports whether this very process does: another server may have the port.
func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Addr, patience)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(patience)) != nil {
		return false
	}
	if _, err := conn.Write([]byte("INFO server\r\n")); err != nil {
		return false
	}
	want := fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)
	var got strings.Builder
	buf := make([]byte, 4096)
	for got.Len() < 1<<16 && !strings.Contains(got.String(), want) {
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if err != nil || strings.Contains(got.String(), "\r\nrun_id:") {
			break // run_id comes after process_id
		}
	}
	return strings.Contains(got.String(), want)
}

// Running reports whether the server was started and not killed since.
func (s *Server) Running() bool { return s.cmd != nil }

// Kill ends the server at once, and with it all that it held.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.gone
	s.cmd = nil
}
