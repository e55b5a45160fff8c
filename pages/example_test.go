package pages_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/pages"
)

func ExampleNew() {
	project := descopetest.NewServer() // a project in memory; with Descope, the id is enough

	auth, p, err := pages.New(descopehttp.Config{
		ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client(),
	}, pages.Options{
		Name:  "Shop",
		CSS:   ".pages { --accent: #0a7d5a }",
		Texts: map[string]string{"signup.title": "Open an account"},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/account/", p)
	mux.Handle("/orders", auth.RequireSession(http.NotFoundHandler()))

	r := httptest.NewRequest(http.MethodGet, "/orders", nil)
	r.Header.Set("Accept", "text/html")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Location"))
	// Output: 303 /account/signin?return_to=%2Forders
}
