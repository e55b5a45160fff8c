// Package adaptertest is the contract between the kit and its adapters: what a
// framework's users get is what net/http's users get. [Check] builds the same
// small application twice, with net/http and with the adapter, puts the same
// requests to both over sockets, and compares every byte of the answers and how
// often the handlers ran. Like [testing/slogtest], it returns what differs.
//
// Both applications sign in with one project in memory, each through an Auth of
// its own. What cannot be the same in two answers, see normalizer, is given a
// name before they are compared.
package adaptertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// A Site is an application that an adapter's test builds in the idiom of its
// framework. From the outside in, it consists of
//
//   - the framework's own recovery from panics, which answers a bare 500;
//   - what the framework does with a handler's error, which is to call Fail;
//   - one page at Page in the group Group, for all methods. It is behind the
//     adapter's middleware, [Middleware], and calls Serve with what the adapter's
//     Session returned and with the framework's own way to a path parameter;
//   - the flows mounted as each of Mounts says, and beside them a page for GET at
//     "/login" under the same prefix, which calls Serve without a session;
//   - each of Flows, in the framework's own wrapper for handlers.
//
// Paths are in the syntax of net/http.
type Site struct {
	Auth *descopehttp.Auth

	Group  string // with the parameter {tenant}
	Page   string // with the parameter {name}
	Mounts []Mount
	Flows  []Flow

	// AfterRouting says that a guard reads the path parameters, with PathValue. A
	// test whose middleware runs before the framework has found the route
	// builds nothing then.
	AfterRouting bool

	layers []layer
	serve  func(http.ResponseWriter, *http.Request, inner) error

	ran    atomic.Int32 // calls of Serve
	failed atomic.Int32 // calls of Fail
}

// A Mount is a place for the flows: under Prefix, in the group Group if that is
// not "".
type Mount struct{ Group, Prefix string }

// A Flow is a single one, at a path of the application's choice.
type Flow struct {
	Method, Path string
	Handler      http.HandlerFunc
}

// A Build returns the site as a framework's handler.
type Build func(*Site) http.Handler

// A layer is one middleware of the page.
type layer struct {
	kind   layerKind
	guards []descopehttp.Guard
}

type layerKind int

const (
	layerRequireSession layerKind = iota
	layerLoadSession
	layerRequire
)

// Middleware returns the middleware of the page, outermost first, made by an
// adapter's constructors. Their types are part of the contract.
func Middleware[M any](s *Site,
	newRequireSession, newLoadSession func(*descopehttp.Auth) M,
	newRequire func(*descopehttp.Auth, ...descopehttp.Guard) M,
) []M {
	var list []M
	for _, l := range s.layers {
		switch l.kind {
		case layerRequireSession:
			list = append(list, newRequireSession(s.Auth))
		case layerLoadSession:
			list = append(list, newLoadSession(s.Auth))
		case layerRequire:
			list = append(list, newRequire(s.Auth, l.guards...))
		}
	}
	return list
}

// inner is what the page's handler is told through the framework's types.
type inner struct {
	session *descopehttp.Session
	ok      bool
	param   func(name string) string
}

// Serve is the page. Its error is one for the framework to handle.
func (s *Site) Serve(w http.ResponseWriter, r *http.Request, session *descopehttp.Session, ok bool, param func(name string) string) error {
	s.ran.Add(1)
	return s.serve(w, r, inner{session, ok, param})
}

// What reaches the frameworks' handling of errors and panics.
var (
	errInner = errors.New("adaptertest: an error of the inner handler")
	errPanic = errors.New("adaptertest: a panic of the inner handler")
)

// Fail answers for a handler that returned err or, in frameworks that turn
// panics into errors, panicked.
func (s *Site) Fail(w http.ResponseWriter, r *http.Request, err error) {
	s.failed.Add(1)
	switch {
	case errors.Is(err, errPanic):
		w.WriteHeader(http.StatusInternalServerError)
	case errors.Is(err, errInner):
		http.Error(w, "the inner handler failed", http.StatusTeapot)
	default:
		http.Error(w, err.Error(), http.StatusNotImplemented)
	}
}

// Check returns nil if what build returns answers as net/http does, or else what
// differs, joined by [errors.Join]. It opens sockets and takes a second or two;
// where an answer does not come, it gives up after [patience].
func Check(build Build) error { return check(contract(), build) }

func check(clauses []clause, build Build) error {
	project := newProject()
	var errs []error
	for _, c := range clauses {
		if err := c.check(project, build); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w\n\t(%s)", c.name, err, c.rule))
		}
	}
	return errors.Join(errs...)
}

// A clause is one rule of the contract.
type clause struct {
	name string
	rule string // why, for whoever reads that it was broken

	layers       []layer
	afterRouting bool
	mounts       []Mount
	flows        []singleFlow
	config       func(*descopehttp.Config)
	around       func(*descopehttp.Auth, http.Handler) http.Handler              // the whole application
	serve        func(*visitor, http.ResponseWriter, *http.Request, inner) error // default: describe

	// visit puts requests to one application. It returns what no application may
	// do, however much alike the two are.
	visit func(*visitor) error
}

func (c *clause) check(project *descopetest.Server, build Build) error {
	expected, err := c.visitSite(project, buildNetHTTP)
	if err != nil {
		return fmt.Errorf("net/http itself: %w", err)
	}
	got, err := c.visitSite(project, build)
	switch {
	case errors.Is(err, errNotBuilt) && c.afterRouting:
		return nil
	case err != nil:
		return err
	}
	return diff(expected, got)
}

var errNotBuilt = errors.New("nothing was built")

// visitSite returns what passed between the visitor and one application.
func (c *clause) visitSite(project *descopetest.Server, build Build) (transcript string, err error) {
	project.Reset()
	gate := &gate{base: project.Client().Transport}
	cfg := descopehttp.Config{
		ProjectID:  project.ProjectID(),
		BaseURL:    project.URL(),
		HTTPClient: &http.Client{Transport: gate},
		Logger:     slog.New(slog.DiscardHandler),
	}
	if c.config != nil {
		c.config(&cfg)
	}
	auth, err := descopehttp.New(cfg)
	if err != nil {
		return "", err
	}
	s := &Site{
		Auth:         auth,
		Group:        "/app/{tenant}",
		Page:         "/pages/{name}",
		Mounts:       c.mounts,
		AfterRouting: c.afterRouting,
		layers:       c.layers,
	}
	v := newVisitor(s, project, gate)
	s.serve = describe
	if c.serve != nil {
		s.serve = func(w http.ResponseWriter, r *http.Request, in inner) error { return c.serve(v, w, r, in) }
	}
	for _, f := range c.flows {
		s.Flows = append(s.Flows, Flow{f.method, f.path, func(w http.ResponseWriter, r *http.Request) { f.serve(auth, w, r) }})
	}
	h := build(s)
	if h == nil {
		return "", errNotBuilt
	}
	if c.around != nil {
		h = c.around(auth, h)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.arrived <- struct{}{}
		h.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	defer srv.Close()
	v.addr = srv.Listener.Addr().String()
	err = c.visit(v)
	return v.transcript.String(), err
}

// describe is the usual page: it tells what reached it.
func describe(w http.ResponseWriter, r *http.Request, in inner) error {
	session, ok := descopehttp.SessionFromContext(r.Context())
	if session != in.session || ok != in.ok {
		return errors.New("the adapter's Session is not the session of the request's context")
	}
	tenant, name := in.param("tenant"), in.param("name")
	if t, n := r.PathValue("tenant"), r.PathValue("name"); t != tenant || n != name {
		return fmt.Errorf("guards are asked about %q and %q, the page is %q and %q", t, n, tenant, name)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	w.Header().Set("X-Page", name)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s tenant=%s name=%s\n", r.Method, r.URL.Path, tenant, name)
	switch {
	case ok:
		fmt.Fprintf(&b, "user %s, token %s\n", session.Subject(), session.Token())
	default:
		fmt.Fprintf(&b, "nobody: %v\n", descopehttp.SessionError(r.Context()))
	}
	fmt.Fprintf(&b, "cookies %s\nbody %q\n", strings.Join(r.Header["Cookie"], " | "), body)
	_, err = w.Write(b.Bytes())
	return err
}

// diff returns the first line in which two transcripts differ.
func diff(expected, got string) error {
	if expected == got {
		return nil
	}
	want, have := strings.Split(expected, "\n"), strings.Split(got, "\n")
	request := ""
	for i := range max(len(want), len(have)) {
		w, h := lineAt(want, i), lineAt(have, i)
		if w != h {
			return fmt.Errorf("%s\n\tnet/http:    %s\n\tthe adapter: %s", request, w, h)
		}
		if strings.HasPrefix(w, "> ") {
			request = w[len("> "):]
		}
	}
	return nil
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing more)"
}
