//go:build !race

package descopechi_test

import (
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopechi"
	"github.com/descopehttp/descopehttp/internal/adaptertest"
)

// A session that has been checked before costs three allocations at the most,
// beside those that chi makes without a middleware.
// The race detector changes what is allocated.
func TestAllocations(t *testing.T) {
	adaptertest.Allocations(t, 3, func(a *descopehttp.Auth, page func()) (app, bare http.Handler) {
		router, without := chi.NewRouter(), chi.NewRouter()
		handler := func(http.ResponseWriter, *http.Request) { page() }
		router.With(descopechi.RequireSession(a)).Get("/", handler)
		without.Get("/", handler)
		return router, without
	})
}
