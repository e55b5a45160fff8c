package main

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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

	for _, file := range []string{"ratios.svg", "ratios-dark.svg"} {
		svg := papertest.ReadSVG(t, filepath.Join(dir, file))
		for _, name := range append([]string{bench.CachedBearer, bench.UncachedBearer, bench.BareCheck}, plotted...) {
			assert.Contains(t, string(svg), ">"+name+"<")
		}
	}
}

const published = "../../results"

// The pictures that the README shows are of the report beside them.
func TestPublishedPlot(t *testing.T) {
	dir := t.TempDir()
	page, err := os.ReadFile(filepath.Join(published, reportName))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, reportName), page, 0o644))
	require.NoError(t, plot(dir))
	for _, file := range []string{"ratios.svg", "ratios-dark.svg"} {
		want, err := os.ReadFile(filepath.Join(published, file))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), "%s is of another report: go run ./bench/cmd/report -plot", file)
	}
}

func publishedChart(t *testing.T) *paper.Bars {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(published, reportName))
	require.NoError(t, err)
	ratios, err := ratiosOf(string(page))
	require.NoError(t, err)
	return chart(ratios)
}

// The kit is first, then what is 1 by definition, then the others, the fastest first.
func TestOrderOfThePlot(t *testing.T) {
	bars := publishedChart(t).Bars
	assert.Equal(t, bench.CachedBearer, bars[0].Label)
	assert.Equal(t, bench.UncachedBearer, bars[1].Label)
	assert.Equal(t, paper.Bar{Label: bench.BareCheck, Value: "1", Length: 1, Kind: paper.Floor}, bars[2])
	for i, bar := range bars {
		assert.Equal(t, i < 2, bar.Kind == paper.Own, bar.Label)
	}
	assert.True(t, slices.IsSortedFunc(bars[3:], func(a, b paper.Bar) int { return cmp.Compare(a.Length, b.Length) }))
	assert.Len(t, bars[3:], len(plotted)+len(quoted))
}

// Whatever font a browser takes, no text is cut off or runs into another.
func TestTextsOfThePlotFit(t *testing.T) {
	c := publishedChart(t)
	ends := make(map[float64]float64) // of a line
	for _, text := range c.Texts() {
		from, to := text.Span()
		assert.GreaterOrEqual(t, from, 0.0, text.Content)
		assert.LessOrEqual(t, to, float64(paper.ChartWidth), text.Content)
		assert.Greater(t, text.Y, text.Size, text.Content)
		assert.Less(t, text.Y+text.Size/3, c.Height(), text.Content)
		assert.GreaterOrEqual(t, from, ends[text.Y], text.Content)
		ends[text.Y] = to
	}
}

// A report of a busy machine goes by CPU time, another by the wall clock.
func TestRatiosOfAReport(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(published, reportName))
	require.NoError(t, err)
	for _, busy := range []bool{true, false} {
		text := strings.ReplaceAll(string(page), busyRemark, "")
		if busy {
			text = busyRemark + "\n" + text
		}
		text = regexp.MustCompile(`(?m)^\| golang-jwt \+ keyfunc \| \*\*.*$`).ReplaceAllString(text, "| golang-jwt + keyfunc | **1.59** | 1–2 | 1.87 | 1–2 | 1.79 | 128 | 7960 | 44.25 |")
		ratios, err := ratiosOf(text)
		require.NoError(t, err)
		assert.Equal(t, map[bool]float64{true: 1.87, false: 1.59}[busy], ratios[bench.GolangJWT])
	}
	_, err = ratiosOf("# Another page")
	assert.ErrorContains(t, err, bench.CachedBearer)
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
