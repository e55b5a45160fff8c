package e2e

import (
	"bufio"
	"context"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A site is the example, running as a process of its own.
type site struct {
	url     string
	project *descopetest.Server // the Descope it talks to; nil in the demo
}

// startDemo runs the example with a project in its own memory, as its first command does.
func startDemo(t *testing.T) *site {
	t.Helper()
	return &site{url: runExample(t)}
}

// startSite runs the example against a project that the test can change and make
// fail.
func startSite(t *testing.T, configure func(*descopetest.Settings)) *site {
	t.Helper()
	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) {
		s.RotateRefresh = true
		s.Alg = "ES256"         // keys that take no time to make
		s.AllowCodeReuse = true // else each code would have to be waited for
		if configure != nil {
			configure(s)
		}
	})
	project.AddUser(descopetest.User{LoginID: kittest.Ada, Name: "Ada Lovelace"})
	server := httptest.NewServer(project)
	t.Cleanup(server.Close)
	url := runExample(t, "DESCOPE_PROJECT_ID="+project.ProjectID(), "DESCOPE_BASE_URL="+server.URL)
	return &site{url: url, project: project}
}

// shortFirst makes the first session of a project end after life, and no other:
// however slow the machine, it has to be renewed exactly once.
func shortFirst(life time.Duration) func(*descopetest.Settings) {
	var sessions atomic.Int32
	return func(s *descopetest.Settings) {
		s.EditClaims = func(kind string, claims map[string]any) {
			if kind == "DS" && sessions.Add(1) == 1 {
				claims["exp"] = time.Now().Add(life).Unix()
			}
		}
	}
}

// signIn signs ada in, as she would.
func (s *site) signIn(b *tab) {
	b.t.Helper()
	b.open(s.url + "/account/signin")
	b.fill("Login ID", kittest.Ada)
	b.fill("Code", s.project.Code(kittest.Ada)) // the sixth digit sends it
	b.at("/account/")
	b.sees("Ada Lovelace")
}

// runExample starts the program on a free port, in an environment of its own, and returns the
// address that it prints.
func runExample(t *testing.T, env ...string) string {
	t.Helper()
	needBrowser(t) // nothing is built where there is none
	path, err := exampleProgram()
	require.NoError(t, err)

	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "-addr", "127.0.0.1:0")
	cmd.Env = append([]string{}, env...) // no project from outside
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	said, saying := io.Pipe()
	var logged kittest.LogBuffer
	cmd.Stdout, cmd.Stderr = saying, &logged
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		saying.Close()
	}()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, ignoreKilled(ctx, <-exited), "it did not end well")
		if t.Failed() {
			t.Log(logged.String())
		}
	})

	late := time.AfterFunc(patience, func() { saying.CloseWithError(context.DeadlineExceeded) })
	defer late.Stop()
	line, err := bufio.NewReader(said).ReadString('\n')
	require.NoError(t, err, "it does not listen: %s", logged.String())
	go io.Copy(io.Discard, said)
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	return url
}

// ignoreKilled drops what Wait says of a program that was asked to end and did.
func ignoreKilled(ctx context.Context, err error) error {
	if err == ctx.Err() {
		return nil
	}
	return err
}
