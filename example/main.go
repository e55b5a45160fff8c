// Example is an application with the kit's pages in it. Without DESCOPE_PROJECT_ID its Descope is
// one in memory, and its account page shows what the kit does: that is demo.go.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/pages"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		log.Fatalln("example:", err)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("example", flag.ExitOnError)
	addr, life := flags.String("addr", "127.0.0.1:8080", "`host:port` to listen on"), flags.Duration("session-ttl", 30*time.Second, "life of a session in memory")
	flags.Parse(args)
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	mux, options := http.NewServeMux(), pages.Options{Name: "Example"}
	cfg := descopehttp.Config{ProjectID: os.Getenv("DESCOPE_PROJECT_ID"), BaseURL: os.Getenv("DESCOPE_BASE_URL"), AuthManagementKey: descopehttp.NewSecret(os.Getenv("DESCOPE_AUTH_MANAGEMENT_KEY"))}
	cfg.Cookies.InsecureHTTP = listener.Addr().(*net.TCPAddr).IP.IsLoopback() // elsewhere, TLS has to be in front
	if cfg.ProjectID == "" {
		addDemo(mux, &cfg, &options, *life)
	}
	auth, p, err := pages.New(cfg, options)
	if err != nil {
		return err
	}
	addRoutes(mux, auth, p)
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())
	return serve(ctx, listener, mux, auth)
}

func addRoutes(mux *http.ServeMux, auth *descopehttp.Auth, p *pages.Pages) {
	mux.Handle("/account/", p)
	mux.Handle("/{$}", auth.LoadSession(page("home")))
	mux.Handle("/orders", auth.RequireSession(page("orders")))
	mux.Handle("/admin", auth.Require(descopehttp.Role("admin"))(page("admin")))
	mux.Handle("/payout", auth.Require(descopehttp.StepUpWithin(time.Minute))(page("payout")))
	mux.Handle("/status", auth.Require(descopehttp.Role("admin"))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%+v\n", auth.Status()) })))
}

// serve answers requests until ctx ends, and then lets those under way finish.
func serve(ctx context.Context, listener net.Listener, h http.Handler, auth *descopehttp.Auth) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute} // a flow may wait 10 s for Descope
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 40*time.Second)
	defer cancel()
	// A renewal outlives its request: cut off, it would have spent a token for nothing.
	return errors.Join(server.Shutdown(ctx), auth.Wait(ctx))
}

//go:embed demo page.html
var files embed.FS
var templates = template.Must(template.ParseFS(files, "page.html"))

func page(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := descopehttp.SessionFromContext(r.Context())
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("Cache-Control", "no-store") // it says who is signed in
		templates.ExecuteTemplate(w, name, map[string]any{"Session": session, "Away": errors.Is(descopehttp.SessionError(r.Context()), descopehttp.ErrUnavailable)})
	})
}
