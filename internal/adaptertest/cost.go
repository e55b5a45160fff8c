package adaptertest

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Allocations checks that to let in a session that has been checked before costs at
// most so many allocations, beside those of bare: build returns an application whose
// page at "/" is behind RequireSession and does nothing but call page, and, if the
// framework's own cost is not to count, the same application without the middleware.
//
// The race detector changes what is allocated.
func Allocations(t *testing.T, most float64, build func(a *descopehttp.Auth, page func()) (app, bare http.Handler)) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Logger = slog.New(slog.DiscardHandler) })
	token := k.Project.SignIn(kittest.Ada).Session
	calls := 0
	app, bare := build(k.Auth, func() { calls++ })

	const runs = 1000
	for way, r := range map[string]*http.Request{
		"bearer": kittest.WithBearer(kittest.Get("/"), token),
		"cookie": kittest.WithCookies(kittest.Get("/"), token, ""),
	} {
		cost := func(h http.Handler) float64 {
			w := kittest.Nothing{Fields: make(http.Header)}
			calls = 0
			n := testing.AllocsPerRun(runs, func() { h.ServeHTTP(w, r) })
			assert.Equal(t, runs+1, calls, "%s: all were let in", way)
			return n
		}
		allocs := cost(app)
		if bare != nil {
			allocs -= cost(bare)
		}
		t.Logf("%s: %v allocations", way, allocs)
		assert.LessOrEqual(t, allocs, most, way)
	}
}
