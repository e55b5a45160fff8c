//go:build !race

package descopeecho_test

import (
	"net/http"
	"testing"

	"github.com/labstack/echo/v5"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/internal/adaptertest"
)

// A session that has been checked before costs six allocations at the most,
// echo's own included.
// The race detector changes what is allocated.
func TestAllocations(t *testing.T) {
	adaptertest.Allocations(t, 6, func(a *descopehttp.Auth, page func()) (app, bare http.Handler) {
		router := echo.New()
		router.GET("/", func(*echo.Context) error { page(); return nil }, descopeecho.RequireSession(a))
		return router, nil
	})
}
