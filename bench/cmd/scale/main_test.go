package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
	"github.com/descopehttp/descopehttp/bench/internal/paper/papertest"
	"github.com/descopehttp/descopehttp/bench/scale"
)

// resultOf is of a scenario in which one call was made and one page was served.
func resultOf(s scale.Scenario) *scale.Result {
	r := &scale.Result{Scenario: s, Renewals: 1}
	steps := int(s.Lasts / scale.Step)
	for _, series := range []*[]int{&r.OK, &r.Unavailable, &r.Unauthorized, &r.Other, &r.Calls, &r.TooMany, &r.StoreCalls, &r.StoreBytes} {
		*series = make([]int, steps)
	}
	r.OK[0], r.Calls[0] = 1, 1
	return r
}

// Each scenario is in the report, and so are the plots.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "results.json")
	var text bytes.Buffer
	for _, s := range scale.Scenarios(0) {
		require.NoError(t, json.NewEncoder(&text).Encode(resultOf(s)))
	}
	require.NoError(t, os.WriteFile(file, text.Bytes(), 0o600))
	results, err := read(file)
	require.NoError(t, err)
	require.Len(t, results, len(scale.Scenarios(0)))

	r := report{on: time.Now(), results: results}
	var out bytes.Buffer
	require.NoError(t, r.write(&out, dir))
	written, err := os.ReadFile(filepath.Join(dir, "SCALE.md"))
	require.NoError(t, err)
	assert.Equal(t, out.String(), string(written))
	rows := bytes.Count(written, []byte("\n| ")) + bytes.Count(written, []byte("\n|---"))
	assert.Greater(t, rows, len(results))

	for _, name := range []string{"scale-outage.svg", "scale-rush.svg"} {
		papertest.ReadSVG(t, filepath.Join(dir, name))
	}
}

func TestPromises(t *testing.T) {
	long, unseen := scale.Scenario{}, scale.Scenario{}
	for _, s := range scale.Scenarios(0) {
		switch s.Group {
		case scale.LongOutage:
			long = s
		case scale.UnseenOutage:
			unseen = s
			unseen.Limits.EarlyRenewal = descopehttp.EarlyWithoutRotation
		}
	}
	back, seen := resultOf(long), resultOf(unseen)
	back.LastBack = end(back) + 150*time.Second
	seen.Refused = 7
	other := *seen
	other.Limits.EarlyRenewal = descopehttp.EarlyNever
	var text bytes.Buffer
	(&report{results: []*scale.Result{back, seen, &other}}).writeTo(&text)
	assert.Contains(t, text.String(), "the time that Descope's limit allows | 2.5 min | met |")
	assert.Contains(t, text.String(), "0 answers of 503 after that, within two lives of a session | 0 | met |")
	assert.Contains(t, text.String(), "0 of them see a 503 | 7 | missed |")
	assert.Contains(t, text.String(), "with `EarlyNever`, to compare | 7 | |")

	text.Reset()
	back.LastBack += 51 * time.Second
	back.Unavailable[len(back.Unavailable)-1] = 3
	(&report{results: []*scale.Result{back}}).writeTo(&text)
	assert.Contains(t, text.String(), "the time that Descope's limit allows | 3.4 min | missed |")
	assert.Contains(t, text.String(), "within two lives of a session | 3 | missed |")
}

// The plan in the docs is what the formulas beside it say.
func TestPlanInTheDocs(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "scale.md"))
	require.NoError(t, err)
	for users := 1_000; users <= 10_000_000; users *= 10 {
		assert.Contains(t, string(docs), planFor(users).row())
	}
	for _, reckoned := range []int{reckonedMemory, reckonedHeld, reckonedStoreBytes} {
		assert.Contains(t, string(docs), paper.Thousands(reckoned)+" B")
	}
}

func TestTexts(t *testing.T) {
	assert.Equal(t, "119 s", clock(119*time.Second))
	assert.Equal(t, "2.5 min", clock(150*time.Second))
	assert.Equal(t, "1,000,001", paper.Thousands(1_000_001))
}
