package main

import (
	"flag"
	"log/slog"
	"net/http"
	"os"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/pages"
)

var update = flag.Bool("update", false, "write testdata/audit.txt anew")

// Who gets in where. A route that was opened by accident is a difference to the file.
func TestAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		project, mux := descopetest.NewServer(), http.NewServeMux()
		auth, p, err := pages.New(descopehttp.Config{
			ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client(),
			Cookies: descopehttp.Cookies{InsecureHTTP: true}, Logger: slog.New(slog.DiscardHandler),
		}, pages.Options{})
		require.NoError(t, err)
		addRoutes(mux, auth, p)
		report := audit.Routes(mux, project,
			audit.Route{Path: "/", For: audit.Anyone()},
			audit.Route{Path: "/account/signup", For: audit.Anyone()},
			audit.Route{Path: "/account/signin", For: audit.Anyone()},
			audit.Route{Path: "/account/app.js", For: audit.Anyone()},
			audit.Route{Path: "/account/"},
			audit.Route{Path: "/account/authenticator", For: audit.SteppedUp()},
			audit.Route{Path: "/orders"},
			audit.Route{Path: "/admin", For: audit.Role("admin")},
			audit.Route{Path: "/payout", For: audit.SteppedUp()},
			audit.Route{Path: "/status", For: audit.Role("admin")},
		)
		require.NoError(t, report.Check())
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile("testdata/audit.txt", []byte(report.String()), 0o644))
		}
		want, err := os.ReadFile("testdata/audit.txt")
		require.NoError(t, err)
		assert.Equal(t, string(want), report.String(), "go test ./example -run TestAudit -update writes it anew")
	})
}
