package e2e

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/pages"
)

// A part of a page that htmx asks for when the session is over brings the whole browser to
// the sign-in page, and from there back to the page that it is a part of. No sign-in page and
// no JSON is put into the page.
func TestHTMX(t *testing.T) {
	for _, version := range []string{"htmx.org", "htmx2"} {
		t.Run(version, func(t *testing.T) {
			b := newBrowser(t)
			script := http.FileServer(http.Dir(filepath.Join(webPackages(t), version, "dist")))
			project := descopetest.NewServer()
			project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
			project.AddUser(descopetest.User{LoginID: kittest.Ada})
			site := serveHTMX(t, project, script)
			signIn := func() {
				b.fill("Login ID", kittest.Ada)
				b.fill("Code", project.Code(kittest.Ada))
				b.sendForm()
				b.at("/list")
			}

			b.open(site + "/list?sort=name")
			signIn()
			b.click("More")
			b.sees("more rows")
			for button, back := range map[string]string{"More": "/list?sort=name", "Add": "/list?sort=name", "Whole page": "/list?sort=age", "Send": "/list?sort=name"} {
				b.open(site + "/list?sort=name")
				b.sees("rows by name")
				b.setCookies(site, map[string]string{"DS": "", "DSR": ""})
				b.click(button)
				b.at("/account/signin")
				signIn()
				assert.Equal(t, back, evaluate[string](b, "location.pathname + location.search"), button)
			}
			b.click("Pay")
			b.at("/account/signin")
			assert.Equal(t, "stepup", evaluate[string](b, `new URLSearchParams(location.search).get("acr_values")`))
		})
	}
}

func serveHTMX(t *testing.T, project *descopetest.Server, script http.Handler) string {
	t.Helper()
	auth, p := pagesOf(t, project, pages.Options{}, "")
	mux := http.NewServeMux()
	mux.Handle("/account/", p)
	mux.Handle("/script/", http.StripPrefix("/script", script))
	mux.Handle("/list", auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><title>List</title><script src="/script/htmx.min.js"></script>
			<div id="rows">rows by %s</div>
			<button hx-get="/list/more" hx-target="#rows">More</button>
			<form hx-post="/list/more" hx-target="#rows"><button>Add</button></form>
			<button hx-post="/pay" hx-target="#rows">Pay</button>
			<a hx-boost="true" href="/list?sort=age">Whole page</a>
			<form hx-boost="true" method="post" action="/list?sort=size"><button>Send</button></form>`, html.EscapeString(r.FormValue("sort")))
	})))
	mux.Handle("/list/more", auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "more rows")
	})))
	mux.Handle("/pay", auth.Require(descopehttp.StepUp())(new(kittest.Spy)))
	mux.HandleFunc("/favicon.ico", http.NotFound)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}
