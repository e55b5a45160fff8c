//go:build !race

package descopeotel_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A session that was checked before costs one allocation more with metrics, if any.
func TestAllocations(t *testing.T) {
	m := newMeter(t)
	k := kittest.New(t, m.config)
	tokens := k.Project.SignIn(kittest.Ada)
	h, w := k.RequireSession(kittest.Nothing{}), kittest.Nothing{Fields: make(http.Header)}
	for way, r := range map[string]*http.Request{
		"bearer":  kittest.WithBearer(kittest.Get("/"), tokens.Session),
		"cookies": kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh),
	} {
		h.ServeHTTP(w, r)
		allocs := testing.AllocsPerRun(1000, func() {
			clear(w.Fields)
			h.ServeHTTP(w, r)
		})
		t.Logf("%s: %v allocations", way, allocs)
		assert.LessOrEqual(t, allocs, 4.0, way)
	}
	assert.Greater(t, m.value("descopehttp.verdict.duration", "descopehttp.cached=true descopehttp.class=request descopehttp.outcome=ok"), 2000.0)
}
