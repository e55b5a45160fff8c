package descopegin_test

import (
	"net/http"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopegin"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/internal/audittest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func secret(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"secret": 42}) }

var editor = descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "editor")

// withoutAbort is what is written where the adapter is not known: gin goes on to the page.
func withoutAbort(k *kittest.Kit) gin.HandlerFunc {
	return func(c *gin.Context) {
		k.RequireSession(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c.Request = r })).ServeHTTP(c.Writer, c.Request)
	}
}

// Nothing is found of a router whose routes are guarded.
func TestAuditOfGuardedRoutes(t *testing.T) {
	audittest.Guarded(t, func(auth *descopehttp.Auth) http.Handler {
		e := gin.New()
		e.GET("/", descopegin.LoadSession(auth), secret)
		e.Any("/account", descopegin.RequireSession(auth), secret)
		e.Group("/admin", descopegin.Require(auth, descopehttp.Role("admin"))).Any("/users", secret)
		e.Any("/t/:tenant", descopegin.Require(auth, editor), secret)
		e.Any("/payout", descopegin.Require(auth, descopehttp.StepUp()), secret)
		return e
	})
}

// What people get wrong in gin, and what is found of it.
func TestAuditOfMistakes(t *testing.T) {
	tests := map[string]struct {
		mount func(*gin.Engine, *kittest.Kit)
		who   audit.Access
		want  string
	}{
		"no guard": {
			func(e *gin.Engine, _ *kittest.Kit) { e.GET("/x", secret) },
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"Use after the route": {
			func(e *gin.Engine, k *kittest.Kit) {
				e.GET("/x", secret)
				e.Use(descopegin.RequireSession(k.Auth))
			},
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"a route beside the group": {
			func(e *gin.Engine, k *kittest.Kit) {
				e.Group("/", descopegin.RequireSession(k.Auth)).GET("/y", secret)
				e.GET("/x", secret)
			},
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"the middleware of net/http, and no Abort": {
			func(e *gin.Engine, k *kittest.Kit) {
				e.GET("/x", withoutAbort(k), secret)
			},
			audit.SignedIn(), "the handler goes on after a refusal: 401  nobody; ",
		},
		"the same before a page that differs by user": {
			func(e *gin.Engine, k *kittest.Kit) {
				e.GET("/x", withoutAbort(k), func(c *gin.Context) {
					if s, ok := descopegin.Session(c); ok {
						c.String(http.StatusOK, "hello %s", s.Subject())
						return
					}
					c.String(http.StatusOK, "hello")
				})
			},
			audit.SignedIn(), "the handler goes on after a refusal: 401  nobody; ",
		},
		"LoadSession for RequireSession": {
			func(e *gin.Engine, k *kittest.Kit) { e.GET("/x", descopegin.LoadSession(k.Auth), secret) },
			audit.SignedIn(), "gets in: 200  nobody; ",
		},
		"a role on the tenant's list": {
			func(e *gin.Engine, k *kittest.Kit) {
				e.GET("/x", descopegin.RequireSession(k.Auth), func(c *gin.Context) {
					if s, _ := descopegin.Session(c); !s.HasRole(s.Tenant(), "admin") {
						c.AbortWithStatus(http.StatusForbidden)
					}
				}, secret)
			},
			audit.Role("admin"), "gets in: 200  role admin in a tenant only",
		},
		"the refresh token in the answer": {
			func(e *gin.Engine, k *kittest.Kit) {
				e.GET("/x", descopegin.RequireSession(k.Auth), func(c *gin.Context) {
					refresh, _ := c.Cookie(kittest.RefreshCookie)
					c.JSON(http.StatusOK, gin.H{"refresh": refresh})
				})
			},
			audit.SignedIn(), "the answer holds the refresh token: 200  signed in; ",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			audittest.Mistake(t, func(k *kittest.Kit) http.Handler {
				e := gin.New()
				test.mount(e, k)
				return e
			}, test.who, test.want)
		})
	}
}
