package main

import (
	"fmt"
	"io"
	"time"

	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
)

// A report is what one run has measured.
type report struct {
	plan      plan
	machine   bench.Machine
	began     time.Time
	took      time.Duration
	loadAfter string

	results              []bench.Result
	load                 []bench.LoadResult
	sessions, goroutines []bench.Growth
	stampede             bench.StampedeResult
	floods               []bench.FloodResult
	refresh              bench.RefreshUnderFlood
	outages              []bench.OutageResult
}

// quoted are libraries that bench/go.mod does not require. Their ratios come from
// another run.
var quoted = []struct {
	name     string
	short    string // for the plot, if name is too long for it
	ratio    float64
	parallel float64
	allocs   int
}{
	{"appleboy/gin-jwt v3", "", 1.47, 1.52, 127},
	{"labstack/echo-jwt v5", "", 1.60, 1.54, 121},
	{descopesName, "Descope's go-sdk v1.30.0", 2.20, 2.69, 333},
	{"auth0/go-jwt-middleware v3", "", 2.82, 3.48, 441},
}

const (
	reportName        = "REPORT.md"
	contendersHeading = "## Middleware around an empty handler"
	busyRemark        = "**The machine was busy with other work when this was measured.**"

	quotedOn     = "2026-11-23"
	descopesName = "Descope's own Go middleware (descope/go-sdk v1.30.0)"
)

func (r *report) result(name string) bench.Result {
	for _, x := range r.results {
		if x.Name == name {
			return x
		}
	}
	return bench.Result{}
}

// relevant is by the wall clock on a machine that does nothing else, and by CPU
// time on one that does.
func (r *report) relevant(s bench.Spreads) bench.Spread {
	if r.machine.Busy() {
		return s.CPU
	}
	return s.Wall
}

func (r *report) ratio(x bench.Result) float64 { return r.relevant(x.Ratio).Median }

func (r *report) writeTo(w io.Writer) {
	p := paper.To(w)
	p("# What a session check costs")
	p("")
	p("One RS256 session token of %d bytes, an empty handler, all libraries in one process, each chunk of work next to a", bench.TokenSize)
	p("chunk of the bare signature check. **Ratio** is the median of %d such pairs. It is what holds elsewhere; times are", r.plan.compare.Passes)
	p("those of one machine at one time.")
	p("")
	p("%s of %s, %.0f s: %s. Load average %s before and %s after, of which the run itself is a part.",
		r.plan.name, r.began.Format(time.DateOnly), r.took.Seconds(), r.machine, r.machine.Load(), r.loadAfter)
	if r.machine.Busy() {
		p("")
		p("> %s So what the kit promises, and the plot, go by CPU", busyRemark)
		p("> time, which leaves other processes out; by the wall clock the same run says what it says below.")
	}
	r.writeTargets(p)
	r.writeResults(p)
	r.writeLoad(p)
	r.writeScenarios(p)
	r.writeGrowth(p)
	p("")
	p("Made by `go run ./bench/cmd/report`.")
}

// writeResults prints the table of contenders.
func (r *report) writeResults(p paper.Printer) {
	p("")
	p(contendersHeading)
	p("")
	p("| | ratio | quartiles | by CPU time | quartiles | all cores busy | allocations | B | µs on this machine |")
	p("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, x := range r.results {
		p("| %s | **%s** | %s | %s | %s | %s | %.0f | %.0f | %.2f |", x.Name, ratioText(x.Ratio.Wall.Median), quartiles(x.Ratio.Wall),
			ratioText(x.Ratio.CPU.Median), quartiles(x.Ratio.CPU), ratioText(x.Parallel.Median), x.Allocs, x.Bytes, x.Nanoseconds/1000)
	}
	p("")
	p("CPU time counts garbage collection that another core does meanwhile, and leaves other processes out.")
	p("")
	p("Not in this run, because these versions could not be downloaded where it was made, but **measured on %s** with the same token, by ratio only:", quotedOn)
	p("")
	p("| | ratio | ratio, all cores busy | allocations |")
	p("|---|---:|---:|---:|")
	for _, q := range quoted {
		p("| %s | %.2f | %.2f | %d |", q.name, q.ratio, q.parallel, q.allocs)
	}
	p("")
	p("gin-jwt and chi jwtauth are given the key and never fetch one. Adapters are measured with their router around them.")
	p("The other libraries judge less of a token than this kit does, and none renews a session.")
}

func quartiles(s bench.Spread) string { return ratioText(s.Low) + "–" + ratioText(s.High) }

func ratioText(ratio float64) string {
	if ratio < 0.1 {
		return fmt.Sprintf("%.3f", ratio)
	}
	return fmt.Sprintf("%.2f", ratio)
}

func (r *report) writeLoad(p paper.Printer) {
	if len(r.load) == 0 {
		return
	}
	p("")
	p("## Requests per second")
	p("")
	p("%d keep-alive connections over loopback, clients and server on the same cores; medians of %d interleaved pairs with the",
		r.plan.load.Connections, r.plan.load.Pairs)
	p("same server without middleware. The first line compares that server with itself: its spread is the error of the method.")
	p("")
	p("| | share of no auth | quartiles | by CPU time | req/s on this machine |")
	p("|---|---:|---:|---:|---:|")
	for _, x := range r.load {
		p("| %s | **%.0f %%** | %.0f–%.0f %% | %.0f %% | %.0f |", x.Name, 100*x.Share.Wall.Median, 100*x.Share.Wall.Low, 100*x.Share.Wall.High,
			100*x.Share.CPU.Median, x.RPS)
	}
}

func (r *report) writeScenarios(p paper.Printer) {
	p("")
	p("## When things go wrong")
	p("")
	p("**%d requests at once with one expired session**, rotation of refresh tokens on, a refresh takes 100 ms:", r.stampede.Requests)
	p("")
	p("| | refresh calls | answers of 200 |")
	p("|---|---:|---:|")
	p("| descopehttp | %d | %d |", r.stampede.Refreshes, r.stampede.OK)
	p("| %s, measured elsewhere on %s | 200 | 1 |", descopesName, quotedOn)
	p("")
	p("The other libraries do not refresh.")
	if len(r.floods) > 0 {
		p("")
		p("**%d tokens with invented key ids** within %.0f s, while the key rotates after %.0f s:", r.plan.flood.Tokens, r.plan.flood.Duration.Seconds(), r.plan.flood.Duration.Seconds()/6)
		p("")
		p("| | key fetches | rotated key accepted |")
		p("|---|---:|---|")
		for _, f := range r.floods {
			accepted := fmt.Sprintf("not within %.0f s", r.plan.flood.Patience.Seconds())
			if f.AcceptedAfter >= 0 {
				accepted = took(f.AcceptedAfter)
			}
			p("| %s | %d | %s |", kitName(f.Name), f.Fetches, accepted)
		}
	}
	if r.refresh.Callers > 0 {
		p("")
		p("**One refresh** whose call takes 100 ms: %d ms alone, %d ms while %d callers with invented key ids wait for a key endpoint that takes 1 s (medians of %d).",
			r.refresh.Alone.Milliseconds(), r.refresh.Flooded.Milliseconds(), r.refresh.Callers, r.plan.refreshRounds)
	}
	if len(r.outages) > 0 {
		p("")
		p("**Descope away**, and what visitors are answered:")
		p("")
		p("| | away | at first | then |")
		p("|---|---|---|---|")
		for _, o := range r.outages {
			p("| %s | %s | %s | %s |", o.Name, o.Away, answerText(o.First), answerText(o.Second))
		}
	}
}

// kitName leaves out the mode where it does not matter.
func kitName(name string) string {
	if name == bench.UncachedBearer {
		return "descopehttp"
	}
	return name
}

func answerText(a bench.Answer) string { return fmt.Sprintf("%d %s", a.Status, took(a.Took)) }

// took leaves out what is the machine's own business.
func took(d time.Duration) string {
	if d < atOnce {
		return "at once"
	}
	return fmt.Sprintf("after %.1f s", d.Seconds())
}

const atOnce = 100 * time.Millisecond

func (r *report) writeGrowth(p paper.Printer) {
	p("")
	p("## Growth")
	p("")
	p("A cached request, Bearer, sessions presented in random order; ns are CPU time of this machine.")
	p("")
	p("| live sessions | goroutines | ratio | by CPU time | ns | B per session |")
	p("|---:|---:|---:|---:|---:|---:|")
	for _, g := range append(r.sessions, r.goroutines...) {
		p("| %s | %d | %s | %s | %.0f | %s |", paper.Thousands(g.Sessions), g.Goroutines, ratioText(g.Ratio.Wall.Median), ratioText(g.Ratio.CPU.Median), g.Nanoseconds, perSession(g))
	}
}

// perSession is empty where so few sessions say nothing about memory.
func perSession(g bench.Growth) string {
	if g.Sessions < 1000 || g.PerSession == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", g.PerSession)
}
