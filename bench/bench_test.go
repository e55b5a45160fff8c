package bench_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/bench"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where keyfunc reports failed fetches
	os.Exit(m.Run())
}

func newProject(t testing.TB) *bench.Project {
	t.Helper()
	p, err := bench.NewProject()
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func TestTokenIsOfTheUsualSize(t *testing.T) {
	assert.InDelta(t, bench.TokenSize, len(newProject(t).Token), 10)
}

// A benchmark of something that lets everybody in, or nobody, proves nothing.
func TestContendersAdmitTheRightToken(t *testing.T) {
	p := newProject(t)
	for _, c := range bench.Contenders() {
		calls := 0
		h, err := c.Handler(t.Context(), p, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }))
		require.NoError(t, err, c.Name)
		answer := func(r *http.Request) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for i := range 3 {
			assert.Equal(t, http.StatusOK, answer(c.Request(p)), c.Name)
			assert.Equal(t, i+1, calls, c.Name)
		}
		if !c.Guarded {
			continue
		}
		for name, token := range map[string]string{"tampered": p.Tampered(), "none": "", "cut": p.Token[:len(p.Token)-4]} {
			r := c.Request(p)
			for field, values := range r.Header {
				// With its refresh token the kit would renew a broken session.
				r.Header[field] = []string{strings.NewReplacer(p.Token, token, p.Refresh, "").Replace(values[0])}
			}
			assert.GreaterOrEqual(t, answer(r), 400, "%s, %s", c.Name, name)
			assert.Equal(t, 3, calls, "%s, %s", c.Name, name)
		}
	}
}

func TestMeasure(t *testing.T) {
	p := newProject(t)
	results, err := bench.Measure(t.Context(), p, bench.Contenders(), bench.Effort{Passes: 1, Chunk: 100 * time.Microsecond})
	require.NoError(t, err)
	require.Len(t, results, len(bench.Contenders()))
	for _, r := range results {
		assert.Positive(t, r.Nanoseconds, r.Name)
		assert.Positive(t, r.Ratio.Wall.Median, r.Name)
		assert.Positive(t, r.Parallel.Median, r.Name)
	}
}

func TestLoad(t *testing.T) {
	results, err := bench.Load(t.Context(), newProject(t), bench.Named(bench.CachedBearer, bench.GolangJWT),
		bench.LoadEffort{Connections: 4, Pairs: 1, Duration: 20 * time.Millisecond})
	require.NoError(t, err)
	require.Len(t, results, 3)
	for _, r := range results {
		assert.Positive(t, r.RPS, r.Name)
		assert.Positive(t, r.Share.Wall.Median, r.Name)
	}
}

func TestGrow(t *testing.T) {
	sessions, goroutines, err := bench.Grow(t.Context(), newProject(t),
		bench.GrowthEffort{Sessions: []int{1, 50}, Goroutines: []int{1, 8}, Passes: 1, Chunk: 100 * time.Microsecond})
	require.NoError(t, err)
	require.Len(t, sessions, 2)
	require.Len(t, goroutines, 2)
	for _, g := range append(sessions, goroutines...) {
		assert.Positive(t, g.Nanoseconds)
		assert.Positive(t, g.Ratio.Wall.Median)
	}
}

// Counts do not depend on the machine, so they are asserted.
func TestStampede(t *testing.T) {
	got, err := bench.Stampede(t.Context(), 200)
	require.NoError(t, err)
	assert.Equal(t, bench.StampedeResult{Requests: 200, Refreshes: 1, OK: 200}, got)
}

func TestFlood(t *testing.T) {
	results, err := bench.Flood(t.Context(), bench.Named(bench.UncachedBearer, bench.GolangJWT, bench.GoOIDC, bench.Clerk, bench.Auth0, bench.JWX),
		bench.FloodEffort{Tokens: 50, Duration: 300 * time.Millisecond, Patience: 100 * time.Millisecond})
	require.NoError(t, err)
	for _, r := range results {
		assert.Equal(t, 50, r.Sent, r.Name)
		if r.Name == bench.UncachedBearer {
			assert.Zero(t, r.Fetches, "the floor of five seconds")
		}
	}
}

// BenchmarkMiddleware and BenchmarkParallel are the report's figures as Go
// benchmarks, for profiles and benchstat.

func BenchmarkMiddleware(b *testing.B) {
	each(b, func(b *testing.B, h http.Handler, request func() *http.Request) {
		w, r := discard{make(http.Header)}, request()
		for b.Loop() {
			h.ServeHTTP(w, r)
		}
	})
}

func BenchmarkParallel(b *testing.B) {
	each(b, func(b *testing.B, h http.Handler, request func() *http.Request) {
		b.RunParallel(func(pb *testing.PB) {
			w, r := discard{make(http.Header)}, request()
			for pb.Next() {
				h.ServeHTTP(w, r)
			}
		})
	})
}

func each(b *testing.B, f func(*testing.B, http.Handler, func() *http.Request)) {
	p := newProject(b)
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, c := range bench.Contenders() {
		b.Run(c.Name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			h, err := c.Handler(ctx, p, nothing)
			require.NoError(b, err)
			h.ServeHTTP(discard{make(http.Header)}, c.Request(p))
			b.ReportAllocs()
			f(b, h, func() *http.Request { return c.Request(p) })
		})
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (discard) WriteHeader(int)             {}
