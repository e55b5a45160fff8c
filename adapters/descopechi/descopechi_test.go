package descopechi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopechi"
	"github.com/descopehttp/descopehttp/descopetest"
)

// chi learns the path parameters router by router. A guard that is asked too
// early finds none, and closes.
func TestWhereGuardsFindParameters(t *testing.T) {
	const ann = "ann@example.com"
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{
		LoginID: ann,
		Tenants: map[string]descopetest.Tenant{"acme": {Roles: []string{"owner"}}},
	})
	a, err := descopehttp.New(descopehttp.Config{ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client()})
	require.NoError(t, err)
	owner := descopechi.Require(a, descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "owner"))
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
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Header.Set("Authorization", "Bearer "+project.SignIn(ann).Session)
				w := httptest.NewRecorder()
				router.ServeHTTP(w, r)
				assert.Equal(t, status, w.Code, path)
			}
		})
	}
}
