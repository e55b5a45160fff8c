package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
	"github.com/descopehttp/descopehttp/bench/internal/paper/papertest"
)

// The figures of so short a run mean nothing; that they are all there does.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), plan{
		name:    "test run",
		compare: bench.Effort{Passes: 1, Chunk: 50 * time.Microsecond},
		load:    bench.LoadEffort{Connections: 2, Pairs: 1, Duration: 5 * time.Millisecond},
		growth:  bench.GrowthEffort{Sessions: []int{1, 20}, Goroutines: []int{2}, Passes: 1, Chunk: 50 * time.Microsecond},
	}, dir, &out, io.Discard))

	text, err := os.ReadFile(filepath.Join(dir, "REPORT.md"))
	require.NoError(t, err)
	assert.Equal(t, out.String(), string(text))
	for _, c := range bench.Contenders() {
		assert.Contains(t, out.String(), "| "+c.Name+" |")
	}
	assert.Contains(t, out.String(), "measured elsewhere on 2026-11-23")

	svg := papertest.ReadSVG(t, filepath.Join(dir, "ratios.svg"))
	for _, name := range plotted {
		require.Len(t, bench.Named(name), 1, name)
		assert.Contains(t, string(svg), name)
	}
}

func TestTargets(t *testing.T) {
	r := report{results: []bench.Result{
		{Contender: bench.Contender{Name: bench.UncachedBearer}, Ratio: bench.Spreads{Wall: bench.Spread{Median: 1.265}}, Allocs: 30},
		{Contender: bench.Contender{Name: bench.CachedBearer}, Ratio: bench.Spreads{Wall: bench.Spread{Median: 0.033}}, Allocs: 3},
	}}
	verdicts := make(map[string]string)
	for _, x := range r.targets() {
		verdicts[x.what] = x.verdict
	}
	assert.Equal(t, "missed by 10 %", verdicts[bench.UncachedBearer+": ratio ≤ 1.15"])
	assert.Equal(t, "met", verdicts[bench.UncachedBearer+": allocations ≤ 30"])
	assert.Equal(t, "missed by 50 %", verdicts[bench.CachedBearer+": ratio ≤ 0.022"])
	assert.Equal(t, "met", verdicts[bench.CachedBearer+": allocations ≤ 3"])
	assert.Equal(t, "not measured", verdicts["memory per cached session ≤ 1,400 B"])
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 100_000: "100,000", 1_000_001: "1,000,001"} {
		assert.Equal(t, want, paper.Thousands(n))
	}
}
