package descopechi_test

import (
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopechi"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// chi learns the path parameters router by router. A guard that is asked too
// early finds none, and closes.
func TestWhereGuardsFindParameters(t *testing.T) {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{
		LoginID: kittest.Ada,
		Tenants: map[string]descopetest.Tenant{"acme": {Roles: []string{"owner"}}},
	})
	k := kittest.For(t, project)
	owner := descopechi.Require(k.Auth, descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "owner"))
	page := func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }

	tests := []struct {
		name   string
		routes func(chi.Router)
		status int
	}{
		{"r.With", func(r chi.Router) { r.With(owner).Get("/{tenant}/bridge", page) }, http.StatusNoContent},
		{"r.Group", func(r chi.Router) {
			r.Group(func(r chi.Router) {
				r.Use(owner)
				r.Get("/{tenant}/bridge", page)
			})
		}, http.StatusNoContent},
		{"r.Use, parameter of the router outside", func(r chi.Router) {
			r.Route("/{tenant}", func(r chi.Router) {
				r.Use(owner)
				r.Get("/bridge", page)
			})
		}, http.StatusNoContent},
		{"r.Use, parameter of the same router", func(r chi.Router) {
			r.Use(owner)
			r.Get("/{tenant}/bridge", page)
		}, http.StatusForbidden},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			router := chi.NewRouter()
			test.routes(router)
			for path, status := range map[string]int{"/acme/bridge": test.status, "/other/bridge": http.StatusForbidden} {
				res := kittest.Serve(router, kittest.WithBearer(kittest.Get(path), project.SignIn(kittest.Ada).Session))
				assert.Equal(t, status, res.StatusCode, path)
			}
		})
	}
}
