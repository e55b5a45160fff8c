// Package audittest has the audits that the adapters share: each has a router of its own kind.
package audittest

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Guarded checks that nothing is found of a router whose routes are guarded: / by LoadSession,
// /account by RequireSession, /admin/users for admins, /t/:tenant for editors of the tenant,
// and /payout by StepUp.
func Guarded(t *testing.T, newRouter func(*descopehttp.Auth) http.Handler) {
	for _, loginURL := range []string{"", "/signin"} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = loginURL })
			report := audit.Routes(newRouter(k.Auth), k.Project,
				audit.Route{For: audit.Anyone()},
				audit.Route{Path: "/account"},
				audit.Route{Method: "POST", Path: "/account", Body: "name=ada", ContentType: "application/x-www-form-urlencoded"},
				audit.Route{Path: "/admin/users", For: audit.Role("admin")},
				audit.Route{Method: "DELETE", Path: "/admin/users", For: audit.Role("admin")},
				audit.Route{Path: "/t/acme", For: audit.TenantRole("acme", "editor")},
				audit.Route{Path: "/payout", For: audit.SteppedUp()},
				audit.Route{Method: "POST", Path: "/payout", Body: "{}", For: audit.SteppedUp()},
			)
			assert.NoError(t, report.Check(), "%s", report)
		})
	}
}

// Mistake checks that the audit finds what it is to find of a router with a mistake at /x.
func Mistake(t *testing.T, newRouter func(*kittest.Kit) http.Handler, who audit.Access, want string) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		report := audit.Routes(newRouter(k), k.Project, audit.Route{Path: "/x", For: who})
		assert.ErrorContains(t, report.Check(), "descopetest/audit: GET /x, for "+who.String()+": "+want)
	})
}
