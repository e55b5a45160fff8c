package adaptertest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/descopehttp/descopehttp"
)

// An idiom is how a framework uses the kit: what an adapter consists of, in
// net/http's types.
type idiom struct {
	wrap    func(middleware func(http.Handler) http.Handler) func(http.Handler) http.Handler
	session func(*http.Request) (*descopehttp.Session, bool)
	mount   func(mux *http.ServeMux, prefix string, a *descopehttp.Auth)
}

// netHTTP is the idiom that all others are compared with.
func netHTTP() idiom {
	return idiom{
		wrap: func(middleware func(http.Handler) http.Handler) func(http.Handler) http.Handler { return middleware },
		session: func(r *http.Request) (*descopehttp.Session, bool) {
			return descopehttp.SessionFromContext(r.Context())
		},
		mount: func(mux *http.ServeMux, prefix string, a *descopehttp.Auth) {
			mux.Handle(prefix+"/v1/auth/", a.Handler())
		},
	}
}

func buildNetHTTP(s *Site) http.Handler { return netHTTP().build(s) }

// build is the Build of an idiom.
func (d idiom) build(s *Site) http.Handler { return recoverer(d.routes(s, d.protect(s, d.page(s)))) }

func (d idiom) routes(s *Site, page http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(s.Group+s.Page, page)
	for _, m := range s.Mounts {
		prefix := m.Group + strings.TrimSuffix(m.Prefix, "/")
		d.mount(mux, prefix, s.Auth)
		mux.HandleFunc("GET "+prefix+"/login", func(w http.ResponseWriter, r *http.Request) {
			_ = s.Serve(w, r, nil, false, r.PathValue)
		})
	}
	for _, f := range s.Flows {
		mux.Handle(f.Method+" "+f.Path, f.Handler)
	}
	return mux
}

func (d idiom) page(s *Site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, ok := d.session(r)
		if err := s.Serve(w, r, session, ok, r.PathValue); err != nil {
			s.Fail(w, r, err)
		}
	})
}

// protect puts the site's middleware around h.
func (d idiom) protect(s *Site, h http.Handler) http.Handler {
	return chain(Middleware(s,
		func(a *descopehttp.Auth) func(http.Handler) http.Handler { return d.wrap(a.RequireSession) },
		func(a *descopehttp.Auth) func(http.Handler) http.Handler { return d.wrap(a.LoadSession) },
		func(a *descopehttp.Auth, guards ...descopehttp.Guard) func(http.Handler) http.Handler {
			return d.wrap(a.Require(guards...))
		}), h)
}

func chain(middleware []func(http.Handler) http.Handler, h http.Handler) http.Handler {
	for _, m := range slices.Backward(middleware) {
		h = m(h)
	}
	return h
}

// recoverer is what frameworks bring along.
func recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}
