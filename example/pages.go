package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp"
)

//go:embed templates static
var files embed.FS

// A site is the application: pages around one Auth.
type site struct {
	auth  *descopehttp.Auth
	demo  *demo // nil with a project of Descope's
	pages map[string]*template.Template
	log   *slog.Logger

	payouts payouts
}

// handler is the route table. The kit's own routes are one line, and each page
// says what it wants of the session: LoadSession greets, RequireSession protects,
// Require asks for more.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/auth/", s.auth.Handler())

	mux.Handle("GET /{$}", s.auth.LoadSession(s.page("home", "Home")))
	mux.Handle("GET /signup", s.auth.LoadSession(s.page("signup", "Sign up")))
	mux.Handle("GET /signin", s.auth.LoadSession(http.HandlerFunc(s.signIn)))
	mux.Handle("GET /account", s.auth.RequireSession(s.page("account", "Your account")))
	mux.Handle("GET /api/session", s.auth.RequireSession(http.HandlerFunc(s.sessionFacts)))

	// These want a code that was typed a moment ago, not only a session.
	stepUp := s.auth.Require(descopehttp.StepUp())
	mux.Handle("GET /payout", stepUp(http.HandlerFunc(s.payoutPage)))
	mux.Handle("POST /payout", stepUp(http.HandlerFunc(s.changePayout)))
	mux.Handle("GET /authenticator", stepUp(s.page("authenticator", "Replace your authenticator")))

	mux.Handle("GET /static/", staticFiles())
	if s.demo != nil {
		mux.HandleFunc("GET /demo/code", s.demo.code)
	}
	mux.HandleFunc("/", s.notFound)
	return withSecurityHeaders(mux)
}

// withSecurityHeaders sets what every answer should carry. The policy allows
// scripts and styles from files only, so that injected markup can do nothing.
func withSecurityHeaders(next http.Handler) http.Handler {
	policy := strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self' data:", // the QR code arrives as base64
		"connect-src 'self'",
		"form-action 'self'",
		"base-uri 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
	}, "; ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		next.ServeHTTP(w, r)
	})
}

// A view is what the templates see.
type view struct {
	Page    string
	Title   string
	Session *descopehttp.Session // nil without; its methods are there for templates to call
	Away    bool                 // whether there is a session cannot be told now
	Notice  string
	Now     time.Time // the server's clock, which the script counts by

	StepUp   bool   // the sign-in page asks somebody who is signed in for a new code
	ReturnTo string // the page to go on with after it
	Payout   string // where the payout page says that money goes

	Demo     bool
	DemoUser string
}

func (s *site) view(r *http.Request, page, title string) view {
	v := view{Page: page, Title: title, Now: time.Now(), Demo: s.demo != nil, DemoUser: demoUser}
	v.Session, _ = descopehttp.SessionFromContext(r.Context())
	// Behind LoadSession, a visitor without a session may still be signed in.
	v.Away = errors.Is(descopehttp.SessionError(r.Context()), descopehttp.ErrUnavailable)
	return v
}

// page returns a handler for a page that needs nothing but its view.
func (s *site) page(name, title string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.render(w, http.StatusOK, s.view(r, name, title))
	})
}

// signIn is where Config.LoginURL leads. It sends on whoever is signed in
// already, unless the page they came from wants a step-up.
func (s *site) signIn(w http.ResponseWriter, r *http.Request) {
	v := s.view(r, "signin", "Sign in")
	// ReturnTo is a path of this site, whatever the link says.
	if v.ReturnTo = descopehttp.ReturnTo(r); v.ReturnTo == "/" {
		v.ReturnTo = "/account"
	}
	if v.Session != nil {
		if r.URL.Query().Get("acr_values") != "stepup" || v.Session.StepUp() {
			redirect(w, r, v.ReturnTo)
			return
		}
		v.StepUp, v.Title = true, "Confirm that it is you"
	}
	v.Notice = notices[r.URL.Query().Get("reason")]
	// The cookies of a session that was ended arrive here once more.
	if errors.Is(descopehttp.SessionError(r.Context()), descopehttp.ErrSessionEnded) {
		v.Notice = "You have been signed out: the session was ended elsewhere. Sign in again to go on."
	}
	s.render(w, http.StatusOK, v)
}

// sessionFacts is what the account page asks for to see whether the session
// goes on. Asking renews a session that has expired.
func (s *site) sessionFacts(w http.ResponseWriter, r *http.Request) {
	session, _ := descopehttp.SessionFromContext(r.Context()) // RequireSession saw to it
	roles := session.Roles(session.Tenant())
	if roles == nil {
		roles = []string{} // null is no list to a script
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, struct {
		Subject string   `json:"subject"`
		Tenant  string   `json:"tenant"`
		Roles   []string `json:"roles"` // in the tenant; without one, in the project
		Expiry  string   `json:"expiry"`
		StepUp  bool     `json:"stepUp"`
	}{session.Subject(), session.Tenant(), roles, session.Expiry().UTC().Format(time.RFC3339), session.StepUp()})
}

// notices are what the sign-in page says to whom static/app.js has signed out.
var notices = map[string]string{
	"out":        "You are signed out.",
	"everywhere": "You are signed out here and on all other devices. A page that is open elsewhere may still work for some minutes.",
}

// refuse is the kit's Config.ErrorHandler. All it changes is that people get a
// page while Descope is away: their cookies are still there, so nobody is sent
// to sign in.
func (s *site) refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Add("Vary", "Accept")
	if !errors.Is(err, descopehttp.ErrUnavailable) || !wantsPage(r) {
		s.auth.WriteError(w, r, err)
		return
	}
	v := s.view(r, "away", "One moment")
	v.Away = true
	s.render(w, http.StatusServiceUnavailable, v)
}

// wantsPage reports whether a browser is opening a page, as opposed to a script
// or a program asking for data.
func wantsPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}

// redirect sends a browser to another page of this site. No cache keeps that:
// the answer depends on who asks.
func redirect(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, path, http.StatusSeeOther)
}

func (s *site) notFound(w http.ResponseWriter, r *http.Request) {
	s.render(w, http.StatusNotFound, s.view(r, "notfound", "Page not found"))
}

// render writes a page. It is written to memory first: an error in a template
// is then a 500, not half a page. No page is kept by a cache, because each says
// who is signed in.
func (s *site) render(w http.ResponseWriter, status int, v view) {
	var page bytes.Buffer
	if err := s.pages[v.Page].ExecuteTemplate(&page, "layout", v); err != nil {
		s.log.Error("rendering a page", "page", v.Page, "error", err)
		http.Error(w, "Something went wrong on the server.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	page.WriteTo(w) // an error here means that the client has gone
}

// parsePages makes one template of each page with the layout around it. It
// panics on a mistake in one: they are part of the program.
func parsePages() map[string]*template.Template {
	layout := template.Must(template.ParseFS(files, "templates/layout.html", "templates/parts.html"))
	pages := make(map[string]*template.Template)
	for _, name := range []string{"home", "signup", "signin", "account", "payout", "authenticator", "away", "notfound"} {
		page := template.Must(layout.Clone())
		pages[name] = template.Must(page.ParseFS(files, "templates/"+name+".html"))
	}
	return pages
}

// staticFiles serves the style sheet, the script and the icon. Embedded files
// have no time of change, so an ETag tells browsers whether theirs is current.
func staticFiles() http.Handler {
	etags := make(map[string]string)
	err := fs.WalkDir(files, "static", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(path)
		etags["/"+path] = fmt.Sprintf(`"%x"`, sha256.Sum256(content))
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		etag, ok := etags[r.URL.Path]
		if !ok {
			http.NotFound(w, r) // FileServerFS would list the folder
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Cache-Control", "no-cache") // keep it, but ask
		server.ServeHTTP(w, r)
	})
}
