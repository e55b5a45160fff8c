package bench

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A Result is what one contender costs per request.
type Result struct {
	Contender
	Nanoseconds float64 // of CPU time, median; of this machine only
	Ratio       Spreads // to the bare check, in pairs
	Parallel    Spread  // the same with every core busy, by the wall clock
	Bytes       float64
	Allocs      float64
}

func spreadOf(sample []float64) Spread {
	if len(sample) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(sample))
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+0.5)] }
	return Spread{at(0.5), at(0.25), at(0.75)}
}

func spreadsOf(sample []Cost) Spreads {
	wall, cpu := make([]float64, len(sample)), make([]float64, len(sample))
	for i, c := range sample {
		wall[i], cpu[i] = c.Wall, c.CPU
	}
	return Spreads{spreadOf(wall), spreadOf(cpu)}
}

// Effort is how long Measure takes: about 3·Chunk·Passes per contender.
type Effort struct {
	Passes int           // pairs of chunks; odd
	Chunk  time.Duration // of the contender's work
}

// Measure times contenders against the bare check. Every pass goes through all
// of them, each next to a chunk of the bare check, so that whatever else the
// machine does hits all alike.
func Measure(ctx context.Context, p *Project, contenders []Contender, e Effort) ([]Result, error) {
	check, err := p.bareCheck()
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(contenders))
	runs := make([]func() func(), len(contenders))
	for i, c := range contenders {
		h, err := admitting(ctx, p, c)
		if err != nil {
			return nil, err
		}
		results[i].Contender = c
		// One per goroutine: a request is not for two at once.
		runs[i] = func() func() {
			w, r := newDiscard(), c.Request(p)
			return func() { h.ServeHTTP(w, r) }
		}
		results[i].Allocs, results[i].Bytes = allocations(runs[i]())
	}
	floor := func() func() { return check }
	for _, cores := range []int{1, runtime.GOMAXPROCS(0)} {
		times, ratios := make([][]Cost, len(contenders)), make([][]Cost, len(contenders))
		floorN := chunkSize(check, e.Chunk/2)
		sizes := make([]int, len(contenders))
		for i := range contenders {
			sizes[i] = chunkSize(runs[i](), e.Chunk)
		}
		for pass := range e.Passes {
			for j := range contenders {
				i := (j + pass) % len(contenders)
				bare := perRun(floor, floorN, cores)
				cost := perRun(runs[i], sizes[i], cores)
				times[i], ratios[i] = append(times[i], cost), append(ratios[i], cost.per(bare))
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		for i := range results {
			if cores == 1 {
				results[i].Nanoseconds = spreadsOf(times[i]).CPU.Median
				results[i].Ratio = spreadsOf(ratios[i])
			}
			results[i].Parallel = spreadsOf(ratios[i]).Wall // on one core the same
		}
	}
	return results, nil
}

// admitting returns the contender's handler around one that does nothing, once it
// has let the good token through: what fails fast would look good.
func admitting(ctx context.Context, p *Project, c Contender) (http.Handler, error) {
	h, err := c.Handler(ctx, p, nothing)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if status := answerTo(h, c.Request(p)); status != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d: %w", c.Name, status, errNotAdmitted)
	}
	return h, nil
}

// perRun returns what one run costs while as many goroutines do n each at once:
// on the wall clock as seen by one of them, and of the CPU.
func perRun(f func() func(), n, goroutines int) Cost {
	var cost Cost
	if goroutines == 1 {
		run := f()
		watch := startWatch()
		for range n {
			run()
		}
		cost = watch.read()
	} else {
		var ready, done sync.WaitGroup
		start := make(chan struct{})
		for range goroutines {
			ready.Add(1)
			done.Go(func() {
				run := f()
				ready.Done()
				<-start
				for range n {
					run()
				}
			})
		}
		ready.Wait()
		watch := startWatch()
		close(start)
		done.Wait()
		cost = watch.read()
	}
	return cost.per(Cost{float64(n), float64(n * goroutines)})
}

// chunkSize returns how many runs take about d.
func chunkSize(run func(), d time.Duration) int {
	for n := 1; ; n *= 2 {
		began := time.Now()
		for range n {
			run()
		}
		if took := time.Since(began); took > d/4 {
			return max(1, int(float64(n)*float64(d)/float64(took)))
		}
	}
}

// allocations returns allocations and bytes per run, as package testing counts
// them.
func allocations(run func()) (allocs, bytes float64) {
	const n = 500
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	run()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		run()
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / n), float64((after.TotalAlloc - before.TotalAlloc) / n)
}
