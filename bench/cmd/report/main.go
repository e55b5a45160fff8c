// Command report measures this kit beside other libraries and writes REPORT.md
// and the plot that the README shows. Run it from the root of the repository, on
// a machine that does nothing else:
//
//	go run ./bench/cmd/report          # under 10 minutes; writes bench/results
//	go run ./bench/cmd/report -quick   # half a minute; prints only
//	go run ./bench/cmd/report -plot    # measures nothing; draws the plot of the report anew
//
// All traffic stays on loopback addresses.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
)

func main() {
	quick := flag.Bool("quick", false, "take half a minute, with more noise; write no files unless -out is given")
	plotOnly := flag.Bool("plot", false, "draw the plot of the report that is there, and measure nothing")
	out := flag.String("out", "", "`directory` to write to (default bench/results)")
	flag.Parse()
	plan := full
	if *quick {
		plan = quickly
	}
	if *out == "" && !*quick {
		*out = filepath.Join("bench", "results")
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where keyfunc reports failed fetches
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	measure := func() error { return run(ctx, plan, *out, os.Stdout, os.Stderr) }
	if *plotOnly {
		measure = func() error { return plot(*out) }
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// A plan is how much is measured. Parts that are zero are left out.
type plan struct {
	name          string
	compare       bench.Effort
	load          bench.LoadEffort
	growth        bench.GrowthEffort
	flood         bench.FloodEffort
	refreshRounds int
	outages       bool
}

var full = plan{
	name:    "full run",
	compare: bench.Effort{Passes: 301, Chunk: 4 * time.Millisecond},
	load:    bench.LoadEffort{Connections: 64, Pairs: 15, Duration: 400 * time.Millisecond},
	growth: bench.GrowthEffort{
		Sessions:   []int{1, 10, 100, 1_000, 10_000, 100_000},
		Goroutines: []int{1, 2, 4, 8, 16, 32, 64},
		Passes:     101, Chunk: 4 * time.Millisecond,
	},
	flood:         bench.FloodEffort{Tokens: 1000, Duration: 6 * time.Second, Patience: 8 * time.Second},
	refreshRounds: 5,
	outages:       true,
}

var quickly = plan{
	name:    "quick run",
	compare: bench.Effort{Passes: 31, Chunk: time.Millisecond},
	load:    bench.LoadEffort{Connections: 64, Pairs: 3, Duration: 100 * time.Millisecond},
	growth: bench.GrowthEffort{
		Sessions:   []int{1, 10, 100, 1_000},
		Goroutines: []int{1, 8, 64},
		Passes:     11, Chunk: time.Millisecond,
	},
	flood:         bench.FloodEffort{Tokens: 1000, Duration: 6 * time.Second, Patience: 8 * time.Second},
	refreshRounds: 1,
	outages:       true,
}

// underLoad are the contenders of the load test, floodable those that fetch keys.
var (
	underLoad = []string{bench.OneValue, bench.CachedBearer, bench.CachedCookie, bench.UncachedBearer, bench.GolangJWT, bench.GoOIDC, bench.Auth0, bench.Clerk}
	floodable = []string{bench.UncachedBearer, bench.GolangJWT, bench.GoOIDC, bench.JWX, bench.Auth0, bench.Clerk}
	keyless   = []string{bench.GolangJWT, bench.GoOIDC, bench.Auth0, bench.Clerk}
)

// run measures what the plan asks for, prints the report and, unless dir is
// empty, writes it there.
func run(ctx context.Context, pl plan, dir string, stdout, progress io.Writer) error {
	r := report{plan: pl, machine: bench.ThisMachine(), began: time.Now()}
	step := func(name string) { fmt.Fprintf(progress, "%6s  %s\n", time.Since(r.began).Round(time.Second), name) }
	p, err := bench.NewProject()
	if err != nil {
		return err
	}
	defer p.Close()

	// Timing first and on its own; what waits more than it works comes last.
	step("middleware")
	if r.results, err = bench.Measure(ctx, p, bench.Contenders(), pl.compare); err != nil {
		return err
	}
	if pl.load.Pairs > 0 {
		step("load")
		if r.load, err = bench.Load(ctx, p, bench.Named(underLoad...), pl.load); err != nil {
			return err
		}
	}
	step("growth")
	if r.sessions, r.goroutines, err = bench.Grow(ctx, p, pl.growth); err != nil {
		return err
	}
	step("stampede")
	if r.stampede, err = bench.Stampede(ctx, 200); err != nil {
		return err
	}
	if pl.refreshRounds > 0 {
		step("refresh under flood")
		if r.refresh, err = bench.MeasureRefreshUnderFlood(ctx, 1000, pl.refreshRounds); err != nil {
			return err
		}
	}
	if pl.flood.Tokens > 0 {
		step("kid flood")
		if r.floods, err = bench.Flood(ctx, bench.Named(floodable...), pl.flood); err != nil {
			return err
		}
	}
	if pl.outages {
		step("outages")
		if r.outages, err = bench.Outage(ctx, bench.Named(keyless...)); err != nil {
			return err
		}
	}
	r.took = time.Since(r.began)
	r.loadAfter = bench.LoadAverage()
	step("done")

	if err := paper.Publish(stdout, dir, reportName, r.writeTo); err != nil || dir == "" {
		return err
	}
	return plot(dir)
}
