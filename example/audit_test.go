package main

import (
	"flag"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest/audit"
)

var update = flag.Bool("update", false, "write testdata/audit.txt anew")

// Who gets in where. A route that was opened by accident is a difference to the file.
func TestAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newSite(settings{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, sessionTTL: 10 * time.Minute}, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		report := audit.Routes(s.handler(), s.demo.project,
			audit.Route{Path: "/", For: audit.Anyone()},
			audit.Route{Path: "/signup", For: audit.Anyone()},
			audit.Route{Path: "/signin", For: audit.Anyone()},
			audit.Route{Path: "/static/app.js", For: audit.Anyone()},
			audit.Route{Path: "/account"},
			audit.Route{Path: "/api/session"},
			audit.Route{Path: "/payout", For: audit.SteppedUp()},
			audit.Route{Method: "POST", Path: "/payout", Body: `{"account":"DE02"}`, For: audit.SteppedUp()},
			audit.Route{Path: "/authenticator", For: audit.SteppedUp()},
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
