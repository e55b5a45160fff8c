// Package descopechi puts the middleware and the flows of descopehttp into a chi
// router. chi speaks net/http, so the kit works with it as it is, and all that is
// added is that the files of uploads are removed. The package exists so that the names are those of
// the other adapters, so that the flows are mounted where they belong, and so
// that its tests hold chi to the contract that the others keep.
//
//	descopechi.Mount(r, "/auth", a)
//	r.With(descopechi.RequireSession(a)).Get("/app", app)
//
// A single flow at a path of one's own needs no adapter:
// r.Post("/enter", a.ServeVerify).
package descopechi

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/descopehttp/descopehttp"
)

// RequireSession is [descopehttp.Auth.RequireSession]: the next handler runs only
// for requests with a valid session, and finds it with [Session]. It serves as
// r.Use and r.With.
func RequireSession(a *descopehttp.Auth) func(http.Handler) http.Handler {
	return cleaning(a.RequireSession)
}

// LoadSession is [descopehttp.Auth.LoadSession]: the next handler runs with a
// session if the request has one. It protects nothing.
func LoadSession(a *descopehttp.Auth) func(http.Handler) http.Handler {
	return cleaning(a.LoadSession)
}

// Require is [descopehttp.Auth.Require]: [RequireSession] that also asks every
// guard. Guards find chi's path parameters with r.PathValue. r.Use runs before
// its router has looked for the route, when there are only those of the routers
// outside: for the others use r.With or r.Group.
func Require(a *descopehttp.Auth, guards ...descopehttp.Guard) func(http.Handler) http.Handler {
	return cleaning(a.Require(guards...))
}

// cleaning removes the temporary files of an upload that a handler inside has read. net/http
// does so by the request that it has made, and chi hands on a copy.
func cleaning(middleware func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		h := middleware(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.MultipartForm == nil {
				defer func() {
					if r.MultipartForm != nil {
						r.MultipartForm.RemoveAll()
					}
				}()
			}
			h.ServeHTTP(w, r)
		})
	}
}

// Session returns the session of a request, and whether there is one. Behind
// RequireSession and Require there always is.
func Session(r *http.Request) (*descopehttp.Session, bool) {
	return descopehttp.SessionFromContext(r.Context())
}

// Mount serves the flows of [descopehttp.Auth.Handler] under prefix: all that
// begins with prefix/v1/auth/, for all methods that chi knows. What else is under
// prefix stays the application's.
func Mount(router chi.Router, prefix string, a *descopehttp.Auth) {
	router.Handle(strings.TrimSuffix(prefix, "/")+"/v1/auth/*", a.Handler())
}
