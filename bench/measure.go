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
	Nanoseconds float64 // median; of this machine only
	Ratio       Spread  // to the bare check, in pairs
	Parallel    Spread  // the same with every core busy
	Bytes       float64
	Allocs      float64
}

// A Spread is the median of a sample and its quartiles.
type Spread struct{ Median, Low, High float64 }

func spreadOf(sample []float64) Spread {
	if len(sample) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(sample))
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+0.5)] }
	return Spread{at(0.5), at(0.25), at(0.75)}
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
	times := make([][]float64, len(contenders))
	for _, cores := range []int{1, runtime.GOMAXPROCS(0)} {
		ratios := make([][]float64, len(contenders))
		floorN := chunkSize(check, e.Chunk/2)
		sizes := make([]int, len(contenders))
		for i := range contenders {
			sizes[i] = chunkSize(runs[i](), e.Chunk)
		}
		for pass := range e.Passes {
			for j := range contenders {
				i := (j + pass) % len(contenders)
				floorTime := perRun(floor, floorN, cores)
				time := perRun(runs[i], sizes[i], cores)
				ratios[i] = append(ratios[i], time/floorTime)
				if cores == 1 {
					times[i] = append(times[i], time)
				}
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		for i := range results {
			if cores == 1 {
				results[i].Ratio = spreadOf(ratios[i])
			}
			results[i].Parallel = spreadOf(ratios[i]) // on one core the same
		}
	}
	for i := range results {
		results[i].Nanoseconds = spreadOf(times[i]).Median
	}
	return results, nil
}

// admitting returns the contender's handler once it has let the good token
// through: what fails fast would look good.
func admitting(ctx context.Context, p *Project, c Contender) (http.Handler, error) {
	ran := false
	h, err := c.Handler(ctx, p, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true }))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	h.ServeHTTP(newDiscard(), c.Request(p))
	if !ran {
		return nil, fmt.Errorf("%s: %w", c.Name, errNotAdmitted)
	}
	return h, nil
}

// perRun returns the nanoseconds of one run, on as many cores at once.
func perRun(f func() func(), n, cores int) float64 {
	if cores == 1 {
		run := f()
		began := time.Now()
		for range n {
			run()
		}
		return float64(time.Since(began)) / float64(n)
	}
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for range cores {
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
	began := time.Now()
	close(start)
	done.Wait()
	return float64(time.Since(began)) / float64(n)
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
