// Example is a web application that signs people in with a code from their
// authenticator app. It shows all of the kit in use: sign-up, sign-in,
// protected pages, sessions that renew themselves, a page that asks for the code
// again, a new authenticator and sign-out.
//
// Without settings it runs against a Descope project in its own memory, so it
// needs no account. With -project, or DESCOPE_PROJECT_ID, it uses Descope.
//
//	go run ./example
//	go run ./example -project P2…
//
// Where to look: this file configures the kit and starts and stops the server,
// pages.go mounts the kit and uses its sessions, payout.go is the page that wants
// a step-up, demo.go is the project in memory. static/app.js is the browser's
// half of the flows.
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

	"github.com/descopehttp/descopehttp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// Exit codes of run.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // the flags or the environment are at fault
)

// run is the program without its process, for tests. It serves until ctx ends
// and then lets requests finish.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	set, err := parseSettings(args, getenv, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(stderr, "example:", err)
		return exitUsage
	}
	site, err := newSite(set, log)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	listener, err := net.ListenTCP("tcp", set.addr)
	if err != nil {
		fmt.Fprintf(stderr, "example: -addr: %v\n", err)
		return exitError
	}
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())
	if err := serve(ctx, listener, site, log); err != nil {
		log.Error("stopped", "error", err)
		return exitError
	}
	return exitOK
}

// settings are what flags and environment say.
type settings struct {
	addr          *net.TCPAddr
	project       string // "" is the demo
	baseURL       string
	managementKey string
	sessionTTL    time.Duration // of the demo
	codeReuse     bool          // in the demo
}

// parseSettings reads the flags, and from the environment what they leave out.
func parseSettings(args []string, getenv func(string) string, stderr io.Writer) (settings, error) {
	set := settings{managementKey: getenv("DESCOPE_AUTH_MANAGEMENT_KEY")}
	fs := flag.NewFlagSet("example", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run reports the error; the usage follows only -h
	addr := fs.String("addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 takes a free one")
	fs.StringVar(&set.project, "project", getenv("DESCOPE_PROJECT_ID"), "`id` of the Descope project; without one, a project in memory (env DESCOPE_PROJECT_ID)")
	fs.StringVar(&set.baseURL, "base-url", getenv("DESCOPE_BASE_URL"), "`URL` of Descope, for a custom domain (env DESCOPE_BASE_URL)")
	fs.DurationVar(&set.sessionTTL, "session-ttl", 10*time.Minute, "life of a session before it is renewed, in the project in memory")
	fs.BoolVar(&set.codeReuse, "code-reuse", false, "take a code more than once, in the project in memory, so that nobody waits for the next between two sign-ins")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stderr, "Usage of example:")
		fs.SetOutput(stderr)
		fs.PrintDefaults()
		fmt.Fprintln(stderr, "The environment variable DESCOPE_AUTH_MANAGEMENT_KEY is sent along with every call to Descope, if set.")
		return settings{}, err
	case err != nil:
		return settings{}, err
	}
	ttlGiven := false
	fs.Visit(func(f *flag.Flag) { ttlGiven = ttlGiven || f.Name == "session-ttl" })
	if err := set.check(fs.Args(), ttlGiven); err != nil {
		return settings{}, err
	}
	var err error
	if set.addr, err = net.ResolveTCPAddr("tcp", *addr); err != nil {
		return settings{}, fmt.Errorf("-addr: %w", err)
	}
	return set, nil
}

// check refuses what would otherwise be ignored without a word.
func (s settings) check(rest []string, ttlGiven bool) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case s.project == "" && s.baseURL != "":
		return errors.New("a base URL needs a project: set -project or DESCOPE_PROJECT_ID")
	case s.project == "" && s.managementKey != "":
		return errors.New("DESCOPE_AUTH_MANAGEMENT_KEY needs a project: set -project or DESCOPE_PROJECT_ID")
	case s.project != "" && s.codeReuse:
		return errors.New("-code-reuse is for the project in memory")
	case s.project != "" && ttlGiven:
		return errors.New("-session-ttl is for the project in memory; for others it is set in Descope's console")
	case s.sessionTTL < minSessionTTL || s.sessionTTL%time.Second != 0:
		return fmt.Errorf("-session-ttl must be whole seconds, %v or more", minSessionTTL)
	}
	return nil
}

// newSite configures the kit.
func newSite(set settings, log *slog.Logger) (*site, error) {
	s := &site{pages: parsePages(), log: log}
	cfg := descopehttp.Config{
		ProjectID:         set.project,
		BaseURL:           set.baseURL,
		AuthManagementKey: descopehttp.NewSecret(set.managementKey),
		// Plain http is for trying this on one machine. On any other address
		// the cookies are Secure: put something that speaks TLS in front.
		Cookies:      descopehttp.Cookies{InsecureHTTP: set.addr.IP.IsLoopback()},
		LoginURL:     "/signin",
		ErrorHandler: s.refuse,
		Logger:       log,
		// A stolen session must not be enough to put another authenticator in
		// the place of its owner's.
		StepUpForUpdate: true,
	}
	if set.project == "" {
		s.demo = newDemo(set.sessionTTL, set.codeReuse)
		s.demo.configure(&cfg)
		log.Warn("demo: users are kept in memory, and anybody is told their codes")
	}
	auth, err := descopehttp.New(cfg)
	if err != nil {
		return nil, err
	}
	s.auth = auth
	return s, nil
}

// shutdownBudget is for the requests under way when the program is told to
// stop, and for what they began.
const shutdownBudget = 10 * time.Second

// serve answers requests until ctx ends.
func serve(ctx context.Context, listener net.Listener, s *site, log *slog.Logger) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second, // a flow may wait 9 s for Descope
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10, // session cookies have up to 4 KiB each
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
	if err != nil {
		server.Close()
	}
	// A renewal may have outlived its request; cut off, it would have spent a
	// refresh token for nothing.
	return errors.Join(err, s.auth.Wait(ctx))
}
