// Spa is the server of a single-page application that a development server serves on
// another port, and that page. To a browser another port is another origin: the server
// says with CORS that the page may read its answers, and names it to the kit in
// TrustedOrigins, which lets it send cookies along. The page uses fetch and sees no token.
//
//	DESCOPE_PROJECT_ID=P2… go run ./spa
package main

import (
	_ "embed"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/rs/cors"

	"github.com/descopehttp/descopehttp"
)

// localhost and 127.0.0.1 are two sites, and cookies of one do not reach the other: the
// page calls the host that it came from.
var pageOrigins = []string{"http://127.0.0.1:5173", "http://localhost:5173"}

//go:embed index.html
var page []byte

func main() {
	api, err := newAPI(descopehttp.Config{
		ProjectID: os.Getenv("DESCOPE_PROJECT_ID"),
		BaseURL:   os.Getenv("DESCOPE_BASE_URL"), // empty: Descope's own
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(server("127.0.0.1:5173", http.HandlerFunc(servePage)).ListenAndServe()) }()
	log.Print("open http://127.0.0.1:5173")
	log.Fatal(server("127.0.0.1:8080", api).ListenAndServe())
}

func server(addr string, h http.Handler) *http.Server {
	return &http.Server{Addr: addr, Handler: h, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second}
}

// newAPI has CORS outermost: a preflight carries no cookies, so it must pass before a
// session is asked for, and a page can only read a refusal that CORS has seen.
func newAPI(cfg descopehttp.Config) (http.Handler, error) {
	cfg.TrustedOrigins = pageOrigins
	cfg.Cookies.InsecureHTTP = true // development: both ports are plain http
	auth, err := descopehttp.New(cfg)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", auth.Handler())
	mux.Handle("GET /api/hello", auth.RequireSession(http.HandlerFunc(hello)))
	mux.Handle("POST /api/orders", auth.Require(descopehttp.StepUp())(http.HandlerFunc(order)))
	return cors.New(cors.Options{
		AllowedOrigins:   pageOrigins, // never "*": the requests have cookies
		AllowCredentials: true,
		AllowedMethods:   []string{http.MethodGet, http.MethodPost},
		AllowedHeaders:   []string{"Content-Type"},
		ExposedHeaders:   []string{"Retry-After"}, // or the page cannot read it
	}).Handler(mux), nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	session, _ := descopehttp.SessionFromContext(r.Context()) // RequireSession saw to it
	writeJSON(w, http.StatusOK, map[string]string{"subject": session.Subject()})
}

func order(w http.ResponseWriter, r *http.Request) {
	var in struct{ Item string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&in); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"code": "malformed_body"})
		return
	}
	writeJSON(w, http.StatusCreated, map[string]string{"ordered": in.Item})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // an error here means that the client has gone
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(page)
}
