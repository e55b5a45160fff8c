package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
)

// A target is one thing the kit promises, and what came of it in this run.
type target struct {
	what     string
	measured string
	verdict  string // "met", or by how much it was missed
}

func atMost(what string, value, limit float64, format string) target {
	t := target{what: what, measured: fmt.Sprintf(format, value), verdict: "met"}
	switch {
	case math.IsNaN(value):
		t.measured, t.verdict = "—", "not measured"
	case value > limit:
		t.verdict = fmt.Sprintf("missed by %.0f %%", 100*(value/limit-1))
	}
	return t
}

func (r *report) targets() []target {
	var list []target
	for _, name := range []string{bench.UncachedBearer, bench.UncachedCookie} {
		x := r.result(name)
		list = append(list,
			atMost(name+": ratio ≤ 1.15", r.ratio(x), 1.15, "%.3f"),
			atMost(name+": allocations ≤ 30", x.Allocs, 30, "%.0f"))
	}
	first := r.result(bench.FirstBearer)
	list = append(list, atMost(first.Name+", put into the cache as well: ratio ≤ 1.15", r.ratio(first), 1.15, "%.3f"))
	for _, name := range []string{bench.CachedBearer, bench.CachedCookie, bench.CachedCookies} {
		x := r.result(name)
		list = append(list,
			atMost(name+": ratio ≤ 0.022", r.ratio(x), 0.022, "%.4f"),
			atMost(name+": allocations ≤ 3", x.Allocs, 3, "%.0f"))
	}
	for _, g := range r.sessions {
		if g.Sessions == 100_000 {
			list = append(list, atMost("cached, 100,000 live sessions: ratio ≤ 0.07", r.relevant(g.Ratio).Median, 0.07, "%.3f"))
		}
	}
	// chi's router allocates by itself, with or without a middleware.
	chi, router := r.result(bench.CachedChi), r.result(bench.PlainChi)
	list = append(list,
		atMost(chi.Name+", without the router's own share: ratio ≤ 0.022", r.ratio(chi)-r.ratio(router), 0.022, "%.4f"),
		atMost(chi.Name+", without the router's own share: allocations ≤ 3", chi.Allocs-router.Allocs, 3, "%.0f"))
	for _, name := range []string{bench.CachedGin, bench.CachedEcho} {
		list = append(list, atMost(name+": allocations ≤ 6", r.result(name).Allocs, 6, "%.0f"))
	}
	for _, q := range quoted {
		if q.name == descopesName {
			list = append(list, target{
				what:     "cached, times as fast as " + q.name + " (its ratio of 2.20 measured elsewhere): > 100",
				measured: fmt.Sprintf("%.0f", q.ratio/r.ratio(r.result(bench.CachedBearer))),
				verdict:  paper.Verdict(q.ratio/r.ratio(r.result(bench.CachedBearer)) > 100),
			})
		}
	}
	for _, x := range r.load {
		if x.Name == bench.CachedBearer || x.Name == bench.CachedCookie {
			list = append(list, target{
				what:     fmt.Sprintf("%s: throughput ≥ 92 %% of no auth (reported, never asserted)", x.Name),
				measured: fmt.Sprintf("%.0f %%", 100*r.relevant(x.Share).Median),
				verdict:  paper.Verdict(r.relevant(x.Share).Median >= 0.92),
			})
		}
	}
	list = append(list, r.countTargets()...)
	return list
}

// countTargets are those that do not depend on the machine.
func (r *report) countTargets() []target {
	most := math.NaN()
	for _, g := range r.sessions {
		if g.Sessions >= 1000 && !(g.PerSession <= most) {
			most = g.PerSession
		}
	}
	list := []target{
		atMost("memory per cached session ≤ 1,400 B", most, 1400, "%.0f B"),
		{
			what:     "200 at once on one expired session: 1 refresh call, 200 answers of 200",
			measured: fmt.Sprintf("%d call, %d of %d", r.stampede.Refreshes, r.stampede.OK, r.stampede.Requests),
			verdict:  paper.Verdict(r.stampede.Refreshes == 1 && r.stampede.OK == r.stampede.Requests),
		},
	}
	if i := slices.IndexFunc(r.floods, func(f bench.FloodResult) bool { return f.Name == bench.UncachedBearer }); i >= 0 {
		f := r.floods[i]
		list = append(list,
			target{
				what:     "1,000 invented kids while keys rotate: ≤ 1 fetch per 5 s",
				measured: fmt.Sprintf("%d in %.1f s", f.Fetches, f.Took.Seconds()),
				verdict:  paper.Verdict(f.Fetches <= 1+int(f.Took/(5*time.Second))),
			},
			target{
				what:     "the rotated key accepted within 5 s",
				measured: fmt.Sprintf("after %.1f s", f.AcceptedAfter.Seconds()),
				verdict:  paper.Verdict(f.AcceptedAfter >= 0 && f.AcceptedAfter <= 5*time.Second+pollInterval),
			})
	}
	if r.refresh.Callers > 0 {
		list = append(list, atMost("refresh beside 1,000 invented kids: ≤ 2 times its time alone", float64(r.refresh.Flooded)/float64(r.refresh.Alone), 2, "%.2f"))
	}
	for _, o := range r.outages {
		if o.Name == "descopehttp" && o.Away != "keys answer 503 from the start" {
			list = append(list, target{
				what:     o.Away + ", expired session: 503 within 5 s, then at once",
				measured: answerText(o.First) + ", then " + answerText(o.Second),
				verdict:  paper.Verdict(o.First.Status == 503 && o.First.Took <= 5*time.Second && o.Second.Status == 503 && o.Second.Took < atOnce),
			})
		}
	}
	return list
}

// pollInterval is about how late the flood notices that a key is accepted.
const pollInterval = 100 * time.Millisecond

func (r *report) writeTargets(p paper.Printer) {
	p("")
	p("## What the kit promises")
	p("")
	p("| | measured | |")
	p("|---|---:|---|")
	for _, t := range r.targets() {
		p("| %s | %s | %s |", t.what, t.measured, t.verdict)
	}
}
