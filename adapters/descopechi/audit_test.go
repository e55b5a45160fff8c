package descopechi_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopechi"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/internal/audittest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

var secret = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"secret":42}`) })

var editor = descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "editor")

// Nothing is found of a router whose routes are guarded.
func TestAuditOfGuardedRoutes(t *testing.T) {
	audittest.Guarded(t, func(auth *descopehttp.Auth) http.Handler {
		e := chi.NewRouter()
		e.With(descopechi.LoadSession(auth)).Handle("/", secret)
		e.Group(func(e chi.Router) {
			e.Use(descopechi.RequireSession(auth))
			e.Handle("/account", secret)
		})
		e.Route("/admin", func(e chi.Router) {
			e.Use(descopechi.Require(auth, descopehttp.Role("admin")))
			e.Handle("/users", secret)
		})
		e.With(descopechi.Require(auth, editor)).Handle("/t/{tenant}", secret)
		e.With(descopechi.Require(auth, descopehttp.StepUp())).Handle("/payout", secret)
		return e
	})
}

// What people get wrong in chi, and what is found of it.
func TestAuditOfMistakes(t *testing.T) {
	tests := map[string]struct {
		mount func(chi.Router, *kittest.Kit)
		who   audit.Access
		want  string
	}{
		"no guard": {
			func(e chi.Router, _ *kittest.Kit) { e.Handle("/x", secret) },
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"With, and its router dropped": {
			func(e chi.Router, k *kittest.Kit) {
				_ = e.With(descopechi.RequireSession(k.Auth))
				e.Handle("/x", secret)
			},
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"a route beside the group": {
			func(e chi.Router, k *kittest.Kit) {
				e.Group(func(inner chi.Router) {
					inner.Use(descopechi.RequireSession(k.Auth))
					inner.Handle("/y", secret)
				})
				e.Handle("/x", secret)
			},
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"the refusal written, and no return": {
			func(e chi.Router, k *kittest.Kit) {
				e.Get("/x", func(w http.ResponseWriter, r *http.Request) {
					if _, err := k.Authenticate(w, r); err != nil {
						k.WriteError(w, r, err)
					}
					secret(w, r)
				})
			},
			audit.SignedIn(), "the handler goes on after a refusal: 401  nobody; ",
		},
		"LoadSession for RequireSession": {
			func(e chi.Router, k *kittest.Kit) { e.With(descopechi.LoadSession(k.Auth)).Handle("/x", secret) },
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"a role on the tenant's list": {
			func(e chi.Router, k *kittest.Kit) {
				e.With(descopechi.RequireSession(k.Auth)).Get("/x", func(w http.ResponseWriter, r *http.Request) {
					if s, _ := descopechi.Session(r); !s.HasRole(s.Tenant(), "admin") {
						w.WriteHeader(http.StatusForbidden)
						return
					}
					secret(w, r)
				})
			},
			audit.Role("admin"), "gets in: 200  role admin in a tenant only",
		},
		"the refresh token in the answer": {
			func(e chi.Router, k *kittest.Kit) {
				e.With(descopechi.RequireSession(k.Auth)).Get("/x", func(w http.ResponseWriter, r *http.Request) {
					if c, err := r.Cookie(kittest.RefreshCookie); err == nil {
						io.WriteString(w, c.Value)
					}
				})
			},
			audit.SignedIn(), "the answer holds the refresh token: 200  signed in; ",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			audittest.Mistake(t, func(k *kittest.Kit) http.Handler {
				e := chi.NewRouter()
				test.mount(e, k)
				return e
			}, test.who, test.want)
		})
	}
}
