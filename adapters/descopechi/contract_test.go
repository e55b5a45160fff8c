package descopechi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/adapters/descopechi"
	"github.com/descopehttp/descopehttp/internal/adaptertest"
)

func TestContract(t *testing.T) {
	tests := map[string]func(*adaptertest.Site) http.Handler{
		"r.With": func(s *adaptertest.Site) http.Handler {
			r := chi.NewRouter()
			r.Use(recovery)
			r.With(middleware(s)...).Handle(s.Group+s.Page, page(s))
			return mount(r, s)
		},
		"r.Group": func(s *adaptertest.Site) http.Handler {
			r := chi.NewRouter()
			r.Use(recovery)
			r.Group(func(r chi.Router) {
				r.Use(middleware(s)...)
				r.Handle(s.Group+s.Page, page(s))
			})
			return mount(r, s)
		},
		// These run before the route is known.
		"r.Use": func(s *adaptertest.Site) http.Handler {
			if s.AfterRouting {
				return nil
			}
			r := chi.NewRouter()
			r.Use(recovery)
			r.Use(middleware(s)...)
			r.Handle(s.Group+s.Page, page(s))
			return mount(r, s)
		},
		"r.Route": func(s *adaptertest.Site) http.Handler {
			if s.AfterRouting {
				return nil
			}
			r := chi.NewRouter()
			r.Use(recovery)
			r.Route(s.Group, func(r chi.Router) {
				r.Use(middleware(s)...)
				r.Handle(s.Page, page(s))
			})
			return mount(r, s)
		},
		"r.Mount": func(s *adaptertest.Site) http.Handler {
			if s.AfterRouting {
				return nil
			}
			app := chi.NewRouter()
			app.Use(middleware(s)...)
			app.Handle(s.Page, page(s))
			r := chi.NewRouter()
			r.Use(recovery)
			r.Mount(s.Group, app)
			return mount(r, s)
		},
	}
	for name, build := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, adaptertest.Check(build))
		})
	}
}

// mount adds the flows to r.
func mount(r *chi.Mux, s *adaptertest.Site) http.Handler {
	for _, m := range s.Mounts {
		flows := func(r chi.Router) {
			descopechi.Mount(r, m.Prefix, s.Auth)
			r.Get(strings.TrimSuffix(m.Prefix, "/")+"/login", func(w http.ResponseWriter, r *http.Request) {
				_ = s.Serve(w, r, nil, false, r.PathValue)
			})
		}
		if m.Group == "" {
			flows(r)
		} else {
			r.Route(m.Group, flows)
		}
	}
	for _, f := range s.Flows {
		r.Method(f.Method, f.Path, f.Handler)
	}
	return r
}

func middleware(s *adaptertest.Site) []func(http.Handler) http.Handler {
	return adaptertest.Middleware(s, descopechi.RequireSession, descopechi.LoadSession, descopechi.Require)
}

func page(s *adaptertest.Site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, ok := descopechi.Session(r)
		param := func(name string) string { return chi.URLParam(r, name) }
		if err := s.Serve(w, r, session, ok, param); err != nil {
			s.Fail(w, r, err)
		}
	})
}

// recovery is chi's, with its log entries thrown away.
func recovery(next http.Handler) http.Handler {
	next = chimiddleware.Recoverer(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, chimiddleware.WithLogEntry(r, silent{}))
	})
}

type silent struct{ chimiddleware.LogEntry }

func (silent) Panic(any, []byte) {}
