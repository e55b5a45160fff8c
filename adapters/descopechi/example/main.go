// Example is the program of the README: flows, pages for whoever is signed in, one for
// administrators and one for whoever has just typed a code, in chi's types.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopechi"
)

func main() {
	auth, err := descopehttp.New(config())
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", newRouter(auth)))
}

func config() descopehttp.Config {
	return descopehttp.Config{
		ProjectID: os.Getenv("DESCOPE_PROJECT_ID"),
		BaseURL:   os.Getenv("DESCOPE_BASE_URL"), // empty: Descope's own
	}
}

func newRouter(auth *descopehttp.Auth) chi.Router {
	r := chi.NewRouter()
	descopechi.Mount(r, "/auth", auth) // sign up, verify, refresh, logout, …

	r.Route("/app", func(r chi.Router) {
		r.Use(descopechi.RequireSession(auth))
		r.Get("/hello", hello)
		r.With(descopechi.Require(auth, descopehttp.Role("admin"))).Get("/admin", hello)
		r.With(descopechi.Require(auth, descopehttp.StepUp())).Post("/launch", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted) // has just proved who they are
		})
	})
	return r
}

func hello(w http.ResponseWriter, r *http.Request) {
	session, _ := descopechi.Session(r)
	fmt.Fprintf(w, "hello %s", session.Subject())
}
