// Kitserver mounts the kit for the tests beside it: at /auth, with tokens
// delivered the way a flag says, and one protected path. The example does the
// same and more, but always with cookies.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/descopehttp/descopehttp"
)

var deliveries = map[string]descopehttp.Delivery{
	"cookies":         descopehttp.InCookies,
	"session-in-body": descopehttp.SessionInBody,
	"body":            descopehttp.InBody,
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("kitserver: ")
	project := flag.String("project", "", "`id` of the project")
	baseURL := flag.String("base-url", "", "`URL` of Descope")
	tokens := flag.String("tokens", "cookies", "how tokens are delivered, `cookies|session-in-body|body`")
	flag.Parse()
	delivery, ok := deliveries[*tokens]
	if !ok {
		log.Fatalf("-tokens %q", *tokens)
	}
	auth, err := descopehttp.New(descopehttp.Config{
		ProjectID: *project,
		BaseURL:   *baseURL,
		Tokens:    delivery,
		Cookies:   descopehttp.Cookies{InsecureHTTP: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", auth.Handler())
	mux.Handle("GET /session", auth.RequireSession(http.HandlerFunc(session)))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() { // whoever started it has gone, one way or another
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// session tells whose session the request has.
func session(w http.ResponseWriter, r *http.Request) {
	s, _ := descopehttp.SessionFromContext(r.Context()) // RequireSession saw to it
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"subject": s.Subject()})
}
