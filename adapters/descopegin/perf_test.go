//go:build !race

package descopegin_test

import (
	"net/http"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopegin"
	"github.com/descopehttp/descopehttp/internal/adaptertest"
)

// A session that has been checked before costs six allocations at the most, gin's
// own included.
// The race detector changes what is allocated.
func TestAllocations(t *testing.T) {
	adaptertest.Allocations(t, 6, func(a *descopehttp.Auth, page func()) (app, bare http.Handler) {
		router := gin.New()
		router.GET("/", descopegin.RequireSession(a), func(*gin.Context) { page() })
		return router, nil
	})
}
