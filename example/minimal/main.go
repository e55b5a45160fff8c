// Minimal is the shortest application with sign-in pages: those, and one page for whoever is
// signed in. DESCOPE_PROJECT_ID names the project, and DESCOPE_BASE_URL, if it is set, where it is.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/pages"
)

func main() {
	h, err := app()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", h))
}

func app() (http.Handler, error) {
	auth, p, err := pages.New(descopehttp.Config{
		ProjectID: os.Getenv("DESCOPE_PROJECT_ID"),
		BaseURL:   os.Getenv("DESCOPE_BASE_URL"),
		Cookies:   descopehttp.Cookies{InsecureHTTP: true}, // on one's own machine
	}, pages.Options{Name: "Minimal"})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/account/", p)
	mux.Handle("/", auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := descopehttp.SessionFromContext(r.Context())
		fmt.Fprintf(w, "hello %s", session.Subject())
	})))
	return mux, nil
}
