package kittest

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Patience bounds every wait for something that must happen.
const Patience = 20 * time.Second

// A Program is one that runs inside of the test: all of it but the process.
type Program struct {
	URL            string // that it says it listens on
	Stdout, Stderr *LogBuffer
	Stop           context.CancelFunc

	exited chan struct{} // closed when code is set
	code   int
}

// Start runs a program until the test ends, and waits until it says that it
// listens. It must end well, and never panic.
func Start(t *testing.T, run func(ctx context.Context, stdout, stderr io.Writer) int) *Program {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	said, saying := io.Pipe()
	p := &Program{Stdout: new(LogBuffer), Stderr: new(LogBuffer), Stop: stop, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.code = run(ctx, io.MultiWriter(p.Stdout, saying), p.Stderr)
		saying.Close()
	}()
	line, err := bufio.NewReader(said).ReadString('\n')
	require.NoError(t, err, "it ended before it listened: %s", p.Stderr)
	go io.Copy(io.Discard, said)
	listening, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	p.URL = listening
	t.Cleanup(func() {
		stop()
		assert.Zero(t, p.WaitExit(t))
		assert.NotContains(t, p.Stderr.String(), "panic")
		if t.Failed() {
			t.Log(p.Stderr)
		}
	})
	return p
}

// WaitExit returns the exit code.
func (p *Program) WaitExit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.code
	case <-time.After(Patience):
		require.Fail(t, "it does not end")
		return -1
	}
}

// Missing skips a test for want of something on this machine. In CI a skipped
// test would hide that nothing was tested, so there it fails.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("DESCOPEHTTP_CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
