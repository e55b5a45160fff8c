// Streams is server-sent events and a WebSocket behind the middleware. A stream is judged
// once, when it begins, and can go on for days: so each ends with the session that began
// it, and the page begins another. The middleware then renews the session, or refuses:
// that somebody has signed out elsewhere shows at the end of the session, minutes later.
//
//	DESCOPE_PROJECT_ID=P2… go run ./streams
package main

import (
	"context"
	_ "embed"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/coder/websocket"

	"github.com/descopehttp/descopehttp"
)

//go:embed index.html
var page []byte

func main() {
	handler, err := newHandler(descopehttp.Config{
		ProjectID: os.Getenv("DESCOPE_PROJECT_ID"),
		BaseURL:   os.Getenv("DESCOPE_BASE_URL"),           // empty: Descope's own
		Cookies:   descopehttp.Cookies{InsecureHTTP: true}, // development: plain http
	})
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Addr: "127.0.0.1:8080", Handler: handler, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second}
	log.Print("open http://", server.Addr)
	log.Fatal(server.ListenAndServe())
}

func newHandler(cfg descopehttp.Config) (http.Handler, error) {
	auth, err := descopehttp.New(cfg)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", auth.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
	// Asked for first: a handshake renews no session, and no script is told why it was refused.
	mux.Handle("GET /session", auth.RequireSession(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	mux.Handle("GET /events", auth.RequireSession(http.HandlerFunc(events)))
	mux.Handle("GET /socket", auth.RequireSession(http.HandlerFunc(socket)))
	return mux, nil
}

// untilEnd returns a context that ends with the session of r.
func untilEnd(ctx context.Context, r *http.Request) (context.Context, context.CancelFunc) {
	session, _ := descopehttp.SessionFromContext(r.Context())
	return context.WithDeadline(ctx, session.Expiry())
}

func events(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := untilEnd(r.Context(), r)
	defer cancel()
	end, _ := ctx.Deadline()
	out := http.NewResponseController(w)
	out.SetWriteDeadline(end.Add(time.Minute)) // in place of the server's WriteTimeout
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1000\n\n") // ms, until the browser begins another
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := time.Now(); ; {
		fmt.Fprintf(w, "data: %s\n\n", now.Format(time.TimeOnly))
		if out.Flush() != nil {
			return
		}
		select {
		case now = <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func socket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil) // pages of other origins were refused before
	if err != nil {
		return // Accept has answered
	}
	defer c.CloseNow()
	open := context.WithoutCancel(r.Context()) // r's context does not follow a socket
	ctx, cancel := untilEnd(open, r)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close(websocket.StatusPolicyViolation, "the session ended") })()
	for {
		kind, message, err := c.Read(open)
		if err != nil || c.Write(ctx, kind, message) != nil {
			return
		}
	}
}
