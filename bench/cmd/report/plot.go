package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
)

// plotted are the contenders of the plot beside the kit and what all are measured by: one
// line for each library.
var plotted = []string{bench.GolangJWT, "gin-jwt 2.10.3", "echo-jwt 4.4.0", bench.GoOIDC, bench.JWX, bench.Auth0, bench.JWTAuth, bench.Clerk}

// plot draws the ratios of the report in dir beside it: the picture and the page cannot
// differ, and a new look needs no new run.
func plot(dir string) error {
	page, err := os.ReadFile(filepath.Join(dir, reportName))
	if err != nil {
		return err
	}
	ratios, err := ratiosOf(string(page))
	if err != nil {
		return err
	}
	return chart(ratios).Save(dir, "ratios")
}

// ratiosOf reads the table of contenders: the ratios that the report goes by, by name.
func ratiosOf(page string) (map[string]float64, error) {
	column := 1
	if strings.Contains(page, busyRemark) {
		column = 3
	}
	ratios := make(map[string]float64)
	_, table, _ := strings.Cut(page, contendersHeading)
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "## ") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := strings.TrimSpace(cells[0])
		if len(bench.Named(name)) != 1 || len(cells) <= column {
			continue
		}
		ratio, err := strconv.ParseFloat(strings.Trim(cells[column], " *"), 64)
		if err != nil {
			return nil, fmt.Errorf("the ratio of %s: %w", name, err)
		}
		ratios[name] = ratio
	}
	for _, name := range append([]string{bench.CachedBearer, bench.UncachedBearer}, plotted...) {
		if _, ok := ratios[name]; !ok {
			return nil, fmt.Errorf("no ratio of %s in the report", name)
		}
	}
	return ratios, nil
}

// chart has the kit first, then what all are measured by, then the others.
func chart(ratios map[string]float64) *paper.Bars {
	of := func(name string, kind paper.Kind) paper.Bar {
		return paper.Bar{Label: name, Value: ratioText(ratios[name]), Length: ratios[name], Kind: kind}
	}
	var others []paper.Bar
	for _, name := range plotted {
		others = append(others, of(name, paper.Other))
	}
	for _, q := range quoted {
		others = append(others, paper.Bar{Label: cmp.Or(q.short, q.name) + " *", Value: ratioText(q.ratio), Length: q.ratio, Kind: paper.Quoted})
	}
	slices.SortStableFunc(others, func(a, b paper.Bar) int { return cmp.Compare(a.Length, b.Length) })
	return &paper.Bars{
		Title: "Time to check a session, shorter is better",
		Note:  "1 is the bare signature check · * measured elsewhere on " + quotedOn + ", not in this run",
		Mark:  1,
		Bars: append([]paper.Bar{
			of(bench.CachedBearer, paper.Own),
			of(bench.UncachedBearer, paper.Own),
			// One by definition. What it measures beside itself is the error of the method, and in the report.
			{Label: bench.BareCheck, Value: "1", Length: 1, Kind: paper.Floor},
		}, others...),
	}
}
