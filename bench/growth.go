package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp"
)

// A Growth is what a cached request costs at one size.
type Growth struct {
	Sessions   int
	Goroutines int
	// Nanoseconds of CPU time per request, and the ratio to the bare check under
	// the same number of goroutines. Sessions are presented in random order.
	Nanoseconds float64
	Ratio       Spreads
	// PerSession is the heap that one live session takes, all in; 0 where it was
	// not measured.
	PerSession float64
}

// GrowthEffort is how far Grow goes.
type GrowthEffort struct {
	Sessions   []int // ascending
	Goroutines []int
	Passes     int
	Chunk      time.Duration
}

// Grow measures the cache at the given numbers of live sessions, on one
// goroutine, and with the given numbers of goroutines at a tenth of the most
// sessions. All sessions differ and are signed with RS256.
func Grow(ctx context.Context, p *Project, e GrowthEffort) (bySessions, byGoroutines []Growth, err error) {
	most := e.Sessions[len(e.Sessions)-1]
	requests := p.manyRequests(most)
	check, err := p.bareCheck()
	if err != nil {
		return nil, nil, err
	}
	for _, n := range e.Sessions {
		h, perSession, err := p.filled(requests[:n], 2*most)
		if err != nil {
			return nil, nil, err
		}
		g, err := timed(ctx, h, check, requests[:n], 1, e)
		if err != nil {
			return nil, nil, err
		}
		g.PerSession = perSession
		bySessions = append(bySessions, g)
	}
	some := requests[:max(1, most/10)]
	h, _, err := p.filled(some, 2*most)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range e.Goroutines {
		g, err := timed(ctx, h, check, some, n, e)
		if err != nil {
			return nil, nil, err
		}
		byGoroutines = append(byGoroutines, g)
	}
	return bySessions, byGoroutines, nil
}

// manyRequests returns requests of as many sessions. Signing them takes most of
// the time of Grow: 0.7 ms each.
func (p *Project) manyRequests(n int) []*http.Request {
	requests := make([]*http.Request, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				token := p.Sign(nil, p.claims(map[string]any{"sub": fmt.Sprintf("U2%025d", i)}))
				requests[i] = Bearer(token)
			}
		})
	}
	wg.Wait()
	return requests
}

// filled returns a handler that has all these sessions in its cache, and what
// each takes on the heap.
func (p *Project) filled(requests []*http.Request, size int) (http.Handler, float64, error) {
	a, err := p.Auth(func(c *descopehttp.Config) { c.MaxCachedSessions = size })
	if err != nil {
		return nil, 0, err
	}
	admitted := 0
	h := a.RequireSession(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { admitted++ }))
	if err := a.Ready(context.Background()); err != nil {
		return nil, 0, err
	}
	before := heapInUse()
	for _, r := range requests {
		h.ServeHTTP(newDiscard(), r)
	}
	perSession := float64(int64(heapInUse())-int64(before)) / float64(len(requests))
	if admitted != len(requests) {
		return nil, 0, errNotAdmitted
	}
	return a.RequireSession(nothing), perSession, nil
}

func heapInUse() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func timed(ctx context.Context, h http.Handler, check func(), requests []*http.Request, goroutines int, e GrowthEffort) (Growth, error) {
	// Each goroutine has an order of its own. A request may be with two at once:
	// the kit does not write to what it is given.
	run := func() func() {
		w, order := newDiscard(), rand.New(rand.NewPCG(rand.Uint64(), 0))
		return func() { h.ServeHTTP(w, requests[order.IntN(len(requests))]) }
	}
	floor := func() func() { return check }
	n, floorN := chunkSize(run(), e.Chunk), chunkSize(check, e.Chunk/2)
	n, floorN = max(1, n/goroutines), max(1, floorN/goroutines)
	var times, ratios []Cost
	for range e.Passes {
		bare := perRun(floor, floorN, goroutines)
		cost := perRun(run, n, goroutines)
		times, ratios = append(times, cost), append(ratios, cost.per(bare))
		if err := ctx.Err(); err != nil {
			return Growth{}, err
		}
	}
	return Growth{Sessions: len(requests), Goroutines: goroutines, Nanoseconds: spreadsOf(times).CPU.Median, Ratio: spreadsOf(ratios)}, nil
}
