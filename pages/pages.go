// Package pages is sign-up, sign-in, step-up, account and what belongs to them as one
// handler, for a site that wants to start with pages and not with flows:
//
//	auth, p, err := pages.New(descopehttp.Config{ProjectID: "P2…"}, pages.Options{Name: "Shop"})
//	mux.Handle("/account/", p)
//	mux.Handle("/orders/", auth.RequireSession(orders))
//
// The pages work without a script and by keyboard, in light, dark and forced colours, wide,
// narrow and in print. With the script that comes along, the sixth digit sends a code,
// waiting counts down, and what was typed into a form of the application is there again
// after a sign-in. They were tested in Chromium only, and with axe-core, but with no screen
// reader.
//
// There are four steps of making them one's own, each enough by itself: custom properties in
// Options.CSS; layout.html in Options.Templates, which puts all pages into one's own shell;
// a file with the name of one page, such as signin.html; and the flows in Go, [descopehttp.Auth]'s
// SignUp, SignIn and so on, which these pages call, too.
//
// # Addresses
//
// Under Options.Prefix: "" is the account, signin, signup, authenticator (a new one in place
// of the present one), signed-out; signout and signout-everywhere take a POST; app.js,
// style.css and icon.svg; v1/auth/… is [descopehttp.Auth.Handler]. Links and redirects
// between them are relative, so the handler works under any prefix, stripped or not.
// Options.Prefix has to name it as browsers do all the same: for Config.LoginURL, and for
// refusals, which are shown at the application's own addresses.
//
// # Forms of the application
//
// A page of the application may load app.js, too. It then keeps the fields of a form with
// the attribute data-keep when that is sent, and puts them back if a sign-in came between;
// never codes, passwords, files or hidden fields. The attribute's value is compared: with the
// user's id in it, nobody else gets them.
//
//	<form method="post" data-keep="{{.Session.Subject}}">
package pages

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/descopehttp/descopehttp"
)

// Options say how the pages look and what they say. The zero value is complete.
type Options struct {
	// Prefix is the path under which the pages are mounted, as browsers see it, but without
	// what Config.PathPrefix names. The default is "/account/"; it must begin and end with a slash.
	Prefix string

	// Name is what the application is called, in the bar and in titles. The default is none.
	Name string

	// Logo is the address of a picture beside the name: a path of this server, or an https
	// URL. The default is a lock.
	Logo string

	// Home is the address of the application's own first page. The default is "/", behind
	// what Config.PathPrefix names.
	Home string

	// CSS is added to the style sheet. Custom properties are enough for most:
	//
	//	.pages { --accent: #0a7d5a; --radius: 4px }
	//
	// The colours of dark mode are set in @media (prefers-color-scheme: dark).
	CSS string

	// Texts replace what the pages say, each by the name that it has in texts.go: other words,
	// or another language, with "lang" and "dir" for the page itself. A name that is
	// not there is an error of New. They are texts, not HTML.
	Texts map[string]string

	// Templates replace templates, each by a file of the same name at the top level, in the
	// syntax of html/template. layout.html is the shell: it calls the templates "head", in
	// the head, and "main", inside of an element of the class "pages". The others, such
	// as signin.html, define "main". Files of other names ending in .html add definitions: of
	// "account-more" and the like, which are empty and for just that, or of the parts in
	// parts.html. They see a [View] and have the functions text, which returns a text by its
	// name, and fill, which puts a duration into one.
	Templates fs.FS

	// LostPhone is the address of a page of the application for those who have lost their
	// phone: a path of this server, or an https URL. Without it the pages say whom to ask.
	LostPhone string
}

// Pages are the pages of one Auth. It is safe for concurrent use.
type Pages struct {
	auth       *descopehttp.Auth
	flows      http.Handler
	log        *slog.Logger
	options    Options
	pathPrefix string // Config's
	texts      map[string]string
	templates  map[string]*template.Template
	assets     assets
	policy     string // Content-Security-Policy
}

// New returns an Auth for cfg and the pages around it. Where cfg leaves LoginURL and
// ErrorHandler empty they become the pages'. StepUpForUpdate is switched on: a session
// alone must not be enough to bind another authenticator to the account.
//
// The pages need cookies: Tokens must be InCookies. The error has every mistake in cfg, as
// [descopehttp.New] reports it, and in o. Each template is executed with samples of
// what it may see, so a mistake in one is an error here and not of a request.
func New(cfg descopehttp.Config, o Options) (*descopehttp.Auth, *Pages, error) {
	o.Prefix, o.Home = cmp.Or(o.Prefix, "/account/"), cmp.Or(o.Home, cfg.PathPrefix+"/")
	p := &Pages{
		log:        cmp.Or(cfg.Logger, slog.Default()),
		options:    o,
		pathPrefix: cfg.PathPrefix,
		policy:     policyFor(o.Logo),
		assets:     newAssets(o.CSS),
	}
	errs := []error{o.check()}
	if cfg.Tokens != descopehttp.InCookies {
		errs = append(errs, errors.New("pages: Config.Tokens must be InCookies"))
	}
	errs = append(errs, p.replaceTexts(o.Texts))
	if cfg.LoginURL == "" {
		cfg.LoginURL = cfg.PathPrefix + o.Prefix + "signin"
	}
	if cfg.ErrorHandler == nil {
		cfg.ErrorHandler = p.Refuse
	}
	cfg.StepUpForUpdate = cfg.Tokens == descopehttp.InCookies
	auth, err := descopehttp.New(cfg)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	if err := p.parse(o.Templates); err != nil {
		return nil, nil, err
	}
	p.auth, p.flows = auth, auth.Handler()
	return auth, p, nil
}

func (o *Options) check() error {
	var errs []error
	if !strings.HasPrefix(o.Prefix, "/") || !strings.HasSuffix(o.Prefix, "/") || strings.HasPrefix(o.Prefix, "//") || strings.ContainsAny(o.Prefix, "?#\\") {
		errs = append(errs, errors.New("pages: Options.Prefix must be a path such as /account/, with a slash at both ends"))
	}
	for _, address := range []struct{ name, value string }{{"Logo", o.Logo}, {"Home", o.Home}, {"LostPhone", o.LostPhone}} {
		if !isAddress(address.value) {
			errs = append(errs, fmt.Errorf("pages: Options.%s must be a path of this server, or an https URL", address.name))
		}
	}
	return errors.Join(errs...)
}

// isAddress reports whether s is "", a path, or an https URL. It is the developer's word, not
// a stranger's: what matters is that a mistake is found.
func isAddress(s string) bool {
	u, err := url.Parse(s)
	return s == "" || err == nil && (u.Scheme == "https" && u.Host != "" || u.Scheme == "" && u.Host == "" && strings.HasPrefix(s, "/"))
}

// A route is what serves one address. Without a post it takes none.
type route struct{ get, post func(*visit) }

// allow returns the methods that the address takes, as in the header of that name.
func (rt *route) allow() string {
	if rt.post == nil {
		return "GET, HEAD"
	}
	return "GET, HEAD, POST"
}

var routes = map[string]*route{
	"":                   {get: (*visit).account},
	"signin":             {get: loaded((*visit).signInPage), post: (*visit).signIn},
	"signup":             {get: loaded((*visit).signUpPage), post: (*visit).signUp},
	"authenticator":      {get: (*visit).authenticatorPage, post: (*visit).authenticator},
	"signed-out":         {get: loaded((*visit).signedOutPage)},
	"signout":            {get: (*visit).toAccount, post: (*visit).signOut},
	"signout-everywhere": {get: (*visit).toAccount, post: (*visit).signOutEverywhere},
}

// ServeHTTP serves the pages, their script and looks, and the flows of
// [descopehttp.Auth.Handler], for clients that show no pages.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/v1/auth/") {
		p.flows.ServeHTTP(w, r)
		return
	}
	p.protect(w.Header())
	name := p.name(r.URL.Path)
	if p.assets.serve(w, r, name) {
		return
	}
	v := p.visit(w, r)
	rt := routes[name]
	switch {
	case rt == nil:
		v.foreign()
		loaded(func(v *visit) { v.show(http.StatusNotFound, "notfound") })(v)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		rt.get(v)
	case r.Method == http.MethodPost && rt.post != nil:
		rt.post(v)
	default:
		w.Header().Set("Allow", rt.allow())
		v.show(http.StatusMethodNotAllowed, "notfound")
	}
}

// name returns what comes after the prefix, or after what routers have left of it.
func (p *Pages) name(path string) string {
	for prefix := p.options.Prefix; prefix != ""; {
		if name, ok := strings.CutPrefix(path, prefix); ok {
			return name
		}
		_, rest, ok := strings.Cut(prefix[1:], "/")
		if !ok {
			break
		}
		prefix = "/" + rest
	}
	return path
}

// protect sets what every answer should carry, unless a handler around the pages has a word
// of its own on it.
func (p *Pages) protect(h http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy": p.policy,
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "DENY", // for browsers that do not know frame-ancestors
		// Not no-referrer: the origin of a form would be null, and on plain http nothing else
		// tells where it was sent from.
		"Referrer-Policy":            "same-origin",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Permissions-Policy":         "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	} {
		if h.Get(name) == "" {
			h.Set(name, value)
		}
	}
}

// policyFor allows scripts and styles from files only, so that injected markup can do
// nothing.
func policyFor(logo string) string {
	images := "'self' data:" // the QR code is part of the page
	if u, err := url.Parse(logo); err == nil && u.Host != "" {
		images += " " + u.Scheme + "://" + u.Host
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src " + images +
		"; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
}
