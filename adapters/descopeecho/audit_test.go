package descopeecho_test

import (
	"net/http"
	"testing"

	"github.com/labstack/echo/v5"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/internal/audittest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func secret(c *echo.Context) error { return c.JSON(http.StatusOK, map[string]int{"secret": 42}) }

var editor = descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "editor")

// Nothing is found of a router whose routes are guarded.
func TestAuditOfGuardedRoutes(t *testing.T) {
	audittest.Guarded(t, func(auth *descopehttp.Auth) http.Handler {
		e := echo.New()
		e.GET("/", secret, descopeecho.LoadSession(auth))
		e.Any("/account", secret, descopeecho.RequireSession(auth))
		e.Group("/admin", descopeecho.Require(auth, descopehttp.Role("admin"))).Any("/users", secret)
		e.Any("/t/:tenant", secret, descopeecho.Require(auth, editor))
		e.Any("/payout", secret, descopeecho.Require(auth, descopehttp.StepUp()))
		return e
	})
}

// What people get wrong in echo, and what is found of it.
func TestAuditOfMistakes(t *testing.T) {
	tests := map[string]struct {
		mount func(*echo.Echo, *kittest.Kit)
		who   audit.Access
		want  string
	}{
		"no guard": {
			func(e *echo.Echo, _ *kittest.Kit) { e.GET("/x", secret) },
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"a route beside the group": {
			func(e *echo.Echo, k *kittest.Kit) {
				e.Group("/g", descopeecho.RequireSession(k.Auth)).GET("/y", secret)
				e.GET("/x", secret)
			},
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"the refusal written, and no return": {
			func(e *echo.Echo, k *kittest.Kit) {
				e.GET("/x", func(c *echo.Context) error {
					if _, err := k.Authenticate(c.Response(), c.Request()); err != nil {
						k.WriteError(c.Response(), c.Request(), err)
					}
					return secret(c)
				})
			},
			audit.SignedIn(), "the handler goes on after a refusal: 401  nobody; ",
		},
		"LoadSession for RequireSession": {
			func(e *echo.Echo, k *kittest.Kit) { e.GET("/x", secret, descopeecho.LoadSession(k.Auth)) },
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"a role on the tenant's list": {
			func(e *echo.Echo, k *kittest.Kit) {
				e.GET("/x", func(c *echo.Context) error {
					if s, _ := descopeecho.Session(c); !s.HasRole(s.Tenant(), "admin") {
						return echo.ErrForbidden
					}
					return secret(c)
				}, descopeecho.RequireSession(k.Auth))
			},
			audit.Role("admin"), "gets in: 200  role admin in a tenant only",
		},
		"the refresh token in the answer": {
			func(e *echo.Echo, k *kittest.Kit) {
				e.GET("/x", func(c *echo.Context) error {
					refresh, err := c.Cookie(kittest.RefreshCookie)
					if err != nil {
						return secret(c)
					}
					return c.JSON(http.StatusOK, refresh)
				}, descopeecho.RequireSession(k.Auth))
			},
			audit.SignedIn(), "the answer holds the refresh token: 200  signed in; ",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			audittest.Mistake(t, func(k *kittest.Kit) http.Handler {
				e := echo.New()
				test.mount(e, k)
				return e
			}, test.who, test.want)
		})
	}
}
