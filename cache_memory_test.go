//go:build !race

package descopehttp_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

// What a cached session costs, all in: the default bound, full, with the usual
// claims. The race detector's own memory would be counted, too.
func TestMemoryPerCachedSession(t *testing.T) {
	const n = 10_000
	h := kittest.NewHostile(t)
	tokens := manySessions(h, n)
	payload := len(strings.Split(tokens[0], ".")[1])
	require.InDelta(t, 530, payload, 50, "as in an RS256 token of 970 bytes")
	require.NoError(t, h.Ready(t.Context()))

	before := heapInUse()
	for _, token := range tokens {
		_, err := h.VerifyToken(t.Context(), token)
		require.NoError(t, err)
	}
	perSession := float64(heapInUse()-before) / n
	t.Logf("%.0f B per cached session", perSession)
	assert.LessOrEqual(t, perSession, 1400.)
	assert.GreaterOrEqual(t, perSession, 400., "or else they are not there")
	runtime.KeepAlive(h)
	runtime.KeepAlive(tokens)
}

func heapInUse() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
