//go:build unix

package e2e

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

const rootModule = "github.com/descopehttp/descopehttp"

// firstProgram returns the program that the README begins with, and how it is run there.
func firstProgram(t *testing.T) (program, shell string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("testdata", "README.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "\n```go\npackage main\n")
	require.True(t, found)
	program, rest, _ = strings.Cut(rest, "```\n")
	_, rest, found = strings.Cut(rest, "```sh\n")
	require.True(t, found)
	shell, _, _ = strings.Cut(rest, "```\n")
	return "package main\n" + program, shell
}

// The first program of the README is short, and whoever copies it as it stands there
// has a sign-up page.
func TestFirstProgram(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	program, shell := firstProgram(t)
	assert.LessOrEqual(t, strings.Count(program, "\n"), 25)

	// The last published version is another than this tree, which stands in for it.
	folder := filepath.Join(t.TempDir(), "shop")
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o644))
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	run := func(name string, args ...string) { t.Helper(); require.NoError(t, command(folder, name, args...)) }
	var steps []string
	for line := range strings.Lines(shell) {
		line, _, _ = strings.Cut(line, " #")
		steps = append(steps, strings.TrimSpace(line))
	}
	require.Equal(t, []string{
		"go mod init shop && go mod tidy",
		"go run " + rootModule + "/cmd/descope-emulator@latest &",
		"DESCOPE_PROJECT_ID=P2descopetest00000000000000A DESCOPE_BASE_URL=http://127.0.0.1:8090 go run .",
	}, steps)
	run("go", "mod", "init", "shop")
	run("go", "mod", "edit", "-replace", rootModule+"="+root)
	run("go", "mod", "tidy")

	start(t, folder, nil, "go", "run", rootModule+"/cmd/descope-emulator").until("DESCOPE_BASE_URL=http://127.0.0.1:8090\n")
	start(t, folder, []string{"DESCOPE_PROJECT_ID=P2descopetest00000000000000A", "DESCOPE_BASE_URL=http://127.0.0.1:8090"}, "go", "run", ".")
	const address = "127.0.0.1:8080"
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, patience, interval)

	b := newBrowser(t)
	b.open("http://" + address)
	b.at("/account/signin")
	b.click("Sign up")
	b.fill("Login ID", "grace@example.com")
	b.enter()
	b.sees("Scan the QR code")
	key := strings.ReplaceAll(evaluate[string](b, `document.getElementById("key").textContent`), " ", "")
	code, err := totp.GenerateCode(key, time.Now())
	require.NoError(t, err)
	b.fill("Code", code)
	b.at("/")
	b.sees("main.go") // the program's own folder, which only users see
}

// A process is a program that was started for a test.
type process struct {
	t    *testing.T
	said *bufio.Reader
}

// start runs a program until the test ends.
func start(t *testing.T, folder string, env []string, name string, args ...string) *process {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod", "GOWORK=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run does not pass a signal on
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = patience
	said, saying := io.Pipe()
	var logged kittest.LogBuffer
	cmd.Stdout, cmd.Stderr = saying, &logged
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait(); saying.Close() }()
	t.Cleanup(func() {
		stop()
		<-exited
		if t.Failed() {
			t.Log(logged.String())
		}
	})
	return &process{t, bufio.NewReader(said)}
}

// until waits for a line.
func (p *process) until(line string) {
	p.t.Helper()
	found := make(chan error, 1)
	go func() {
		for {
			said, err := p.said.ReadString('\n')
			if err != nil || said == line {
				found <- err
				break
			}
		}
		io.Copy(io.Discard, p.said)
	}()
	select {
	case err := <-found:
		require.NoError(p.t, err)
	case <-time.After(patience):
		require.Fail(p.t, "it does not say", line)
	}
}
