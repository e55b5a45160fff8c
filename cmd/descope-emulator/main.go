// Descope-emulator is a Descope project in memory, behind a port: for front-end
// work, for tests in any language and for CI. It is for development only.
//
//	go run github.com/descopehttp/descopehttp/cmd/descope-emulator
//
// It prints "listening on http://…" when it answers, and the settings that point
// the kit and the example at it. Package descopetest says what it can do; tests
// drive it through the paths under /_emulator/ that -h lists.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes of run.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // the flags are at fault
)

// run is the program without its process, for tests. It serves until ctx ends
// and then lets requests finish.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	set, err := parseSettings(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	var project *descopetest.Server
	if err == nil {
		project, err = set.newProject()
	}
	if err != nil {
		fmt.Fprintln(stderr, "descope-emulator:", err)
		return exitUsage
	}
	listener, err := net.ListenTCP("tcp", set.addr)
	if err != nil {
		fmt.Fprintf(stderr, "descope-emulator: -addr: %v\n", err)
		return exitError
	}
	log.Warn("for development only: users are kept in memory, and anybody is told their codes")
	if !set.addr.IP.IsLoopback() {
		log.Warn("listening beyond loopback: whoever reaches this address can sign in as anybody")
	}
	announce(stdout, project.ProjectID(), set.host, listener.Addr().(*net.TCPAddr))
	if err := serve(ctx, listener, newHandler(project, set.host), log); err != nil {
		log.Error("stopped", "error", err)
		return exitError
	}
	return exitOK
}

// announce says that requests are answered from now on, and with which settings.
// Programs read the first line.
func announce(stdout io.Writer, projectID, host string, addr *net.TCPAddr) {
	if addr.IP.IsUnspecified() { // every address, this one included
		addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: addr.Port}
	}
	url := "http://" + addr.String()
	base := url
	if host != "" {
		base = fmt.Sprintf("http://%s:%d", host, addr.Port)
	}
	fmt.Fprintf(stdout, "listening on %[2]s\n"+
		"DESCOPE_PROJECT_ID=%[1]s\n"+
		"DESCOPE_BASE_URL=%[3]s\n"+
		"DESCOPE_PROJECT_ID=%[1]s DESCOPE_BASE_URL=%[2]s go run ./example\n", projectID, url, base)
}

// shutdownBudget is for the requests under way when the program is told to stop.
// One that a fault still delays is cut off after it.
const shutdownBudget = 3 * time.Second

// serve answers requests until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      maxDelay + 15*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10, // tokens, in cookies and in the Authorization header
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownBudget)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	return err
}
