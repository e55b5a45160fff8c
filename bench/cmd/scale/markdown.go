package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
	"github.com/descopehttp/descopehttp/bench/scale"
)

func (r *report) writeTo(w io.Writer) {
	p := paper.To(w)
	var wall, cpu time.Duration
	for _, x := range r.results {
		wall, cpu = wall+x.Wall, cpu+x.CPU
	}
	p("# What a site of thousands meets")
	p("")
	p("The kit's real code in fake time, over a Descope in memory that answers a refresh after 80 ms and a store that answers")
	p("after 0.5 ms. Sessions live for ten minutes, tokens are ES256 and of about %d bytes. Users ask for a page every so often,", bench.TokenSize)
	p("give or take a tenth, and do not obey Retry-After. All figures are counts but for times of the CPU, and those are mostly the")
	p("checks and signatures of ES256, Descope's own included. [docs/scale.md](../../docs/scale.md) says what follows from them.")
	p("")
	p("Run of %s, %.0f s of CPU time and %.0f s by the clock: %s. Load average %s.", r.on.Format(time.DateOnly), cpu.Seconds(), wall.Seconds(), r.machine, r.machine.Load())
	if r.machine.Busy() {
		p("**The machine was busy with other work**, so what counts is the time of the CPU.")
	}
	r.writePromises(p, cpu)
	r.writeSizes(p)
	r.writeRush(p)
	r.writeOutages(p)
	r.writeReplicas(p)
	r.writePeers(p)
	r.writeReckoned(p)
	p("")
	p("Made by `go run ./bench/cmd/scale`.")
}

func (r *report) writePromises(p paper.Printer, cpu time.Duration) {
	p("")
	p("## What the kit promises")
	p("")
	p("| | measured | |")
	p("|---|---:|---|")
	for _, x := range r.of(scale.TwoHundred) {
		refused := scale.Total(x.Unavailable)
		// In the first ten minutes they sign in, in the next ten they renew.
		most := scale.Between(x.Calls, scale.Session, 2*scale.Session)
		p("| %s users, %.0f renewals a second for ten minutes, one replica, `SessionCalls: %d`: 0 answers of 503 | %s | %s |",
			paper.Thousands(x.Users), float64(most)/scale.Session.Seconds(), x.Limits.SessionCalls, paper.Thousands(refused), paper.Verdict(refused == 0))
	}
	for _, x := range r.of(scale.LongOutage) {
		allowed := seconds(float64(x.Users) / x.Grant.Second())
		took := x.LastBack - end(x)
		late := scale.Between(x.Unavailable, x.LastBack+scale.Step, x.Lasts)
		p("| %s users, an outage of %s, `SessionCalls: %d`: the last is back within 2 × %s, the time that Descope's limit allows | %s | %s |",
			paper.Thousands(x.Users), minutes(x.Outage.For), x.Limits.SessionCalls, clock(allowed), clock(took), paper.Verdict(x.Away == 0 && took <= 2*allowed))
		p("| … without a second wave: 0 answers of 503 after that, within two lives of a session | %d | %s |", late, paper.Verdict(late == 0))
	}
	for _, x := range r.of(scale.UnseenOutage) {
		if x.Limits.EarlyRenewal == descopehttp.EarlyNever {
			p("| … with `EarlyNever`, to compare | %s | |", paper.Thousands(x.Refused))
			continue
		}
		p("| %s users who ask every %.0f s, an outage of %s: 0 of them see a 503 | %s | %s |",
			paper.Thousands(x.Users), x.Every.Seconds(), minutes(x.Outage.For), paper.Thousands(x.Refused), paper.Verdict(x.Refused == 0))
	}
	p("| the run takes less than 15 minutes, of one core | %.1f min | %s |", cpu.Minutes(), paper.Verdict(cpu < 15*time.Minute))
	p("")
	p("![Answers and calls around an outage of 30 minutes](scale-outage.svg)")
}

func (r *report) writeSizes(p paper.Printer) {
	p("")
	p("## An ordinary hour")
	p("")
	p("One replica, users who sign in within ten minutes and renew within the next; none of it meets a limit. Memory is")
	p("what the kit gives back when it is done, and holds for each user a session in force and one that has expired.")
	p("")
	p("| users | rotation | renewals | calls to Descope for each | 503 | memory a user | CPU time a user |")
	p("|---:|---|---:|---:|---:|---:|---:|")
	list := append(r.of(scale.Sizes), r.of(scale.TwoHundred)...)
	for _, x := range list {
		p("| %s | %s | %s | %.3f | %d | %s B | %.2f ms |", paper.Thousands(x.Users), onOff(x.Rotation), paper.Thousands(x.Renewals),
			float64(scale.Total(x.Calls))/float64(x.Renewals), scale.Total(x.Unavailable), paper.Thousands(x.HeapBytes/x.Users), milliseconds(x.CPU)/float64(x.Users))
	}
	list = slices.DeleteFunc(list, func(x *scale.Result) bool { return x.Rotation })
	if len(list) < 2 {
		return
	}
	few, many := list[len(list)-2], list[len(list)-1]
	users := float64(max(many.Users-few.Users, 1))
	bytes, cpu := float64(many.HeapBytes-few.HeapBytes)/users, milliseconds(many.CPU-few.CPU)/users
	p("")
	p("From %s to %s users the slope is **%s B** and %.2f ms of CPU time a user. Along it:", paper.Thousands(few.Users), paper.Thousands(many.Users), paper.Thousands(int(bytes)), cpu)
	p("")
	p("| users | memory of all replicas |")
	p("|---:|---:|")
	for _, n := range []int{100_000, 1_000_000, 10_000_000} {
		p("| %s | %.1f GB |", paper.Thousands(n), (float64(many.HeapBytes)+bytes*float64(n-many.Users))/1e9)
	}
}

// A limitsText says what is granted and what the kit asks for.
func limitsText(x *scale.Result) string {
	calls := cmp.Or(setting(x.Limits.SessionCalls), "default")
	if x.Limits.EarlyRenewal == descopehttp.EarlyNever {
		calls += ", `EarlyNever`"
	}
	return fmt.Sprintf("%s in %.0f s | %s", paper.Thousands(x.Grant.Calls), x.Grant.Per.Seconds(), calls)
}

func setting(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func (r *report) writeRush(p paper.Printer) {
	p("")
	p("## The morning rush")
	p("")
	p("All come within two minutes with sessions of yesterday, to one replica, and ask every 30 s.")
	p("")
	p("| users | Descope grants | SessionCalls | rotation | calls in 10 s at most | too many | refused users | 503 | longest until served | all are in after |")
	p("|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|")
	for _, x := range r.of(scale.Rush) {
		p("| %s | %s | %s | %d | %d | %s | %s | %s | %s |", paper.Thousands(x.Users), limitsText(x), onOff(x.Rotation), slices.Max(x.Calls),
			scale.Total(x.TooMany), paper.Thousands(x.Refused), paper.Thousands(scale.Total(x.Unavailable)), clock(x.Longest), back(x, 0))
	}
	p("")
	p("![Calls to Descope on a morning](scale-rush.svg)")
}

func (r *report) writeOutages(p paper.Printer) {
	p("")
	p("## Outages")
	p("")
	p("One replica; the users have been there for half an hour, and Descope's edge then answers 503 for a while.")
	p("")
	p("| users | every | outage | Descope grants | SessionCalls | rotation | refused users | 503 after it | the last is back after | the grant alone takes | refused again | signed out |")
	p("|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|")
	list := slices.Concat(r.of(scale.Outages), r.of(scale.LongOutage), r.of(scale.UnseenOutage))
	for _, x := range list {
		p("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %d | %d |", paper.Thousands(x.Users), pace(x), minutes(x.Outage.For), limitsText(x), onOff(x.Rotation),
			paper.Thousands(x.Refused), paper.Thousands(scale.Between(x.Unavailable, end(x), x.Lasts)), back(x, end(x)),
			clock(seconds(float64(x.Refused)/x.Grant.Second())), x.Again, x.SignedOut)
	}
	for _, x := range r.of(scale.LongOutage) {
		users := float64(x.Users)
		p("")
		p("Around the outage of %s a user of the %s took %.1f ms of CPU time, for %.1f renewals and %.1f answers of 503.", minutes(x.Outage.For), paper.Thousands(x.Users),
			milliseconds(x.CPU)/users, float64(x.Renewals)/users, float64(scale.Total(x.Unavailable))/users)
	}
}

// pace says how often a user asks.
func pace(x *scale.Result) string {
	if x.Retry == 0 {
		return fmt.Sprintf("%.0f s", x.Every.Seconds())
	}
	return fmt.Sprintf("%.0f s, refused %.0f s", x.Every.Seconds(), x.Retry.Seconds())
}

// end returns when the outage is over.
func end(x *scale.Result) time.Duration { return x.Outage.At + x.Outage.For }

// back says when the last was served again.
func back(x *scale.Result, since time.Duration) string {
	switch {
	case x.Away > 0:
		return fmt.Sprintf("%s were not", paper.Thousands(x.Away))
	case x.Refused == 0:
		return "—"
	}
	return clock(max(x.LastBack-since, 0))
}

func (r *report) writeReplicas(p paper.Printer) {
	p("")
	p("## Replicas over one store")
	p("")
	p("All behind one address, and each request goes to another replica. Calls and bytes of the store are of keys and values,")
	p("both ways, over requests that renew and those that do not.")
	p("")
	p("| replicas | store | rotation | users | calls to Descope for each renewal | 503 | calls of the store for each renewal | bytes | held at most, a user | calls of the store a second, at most |")
	p("|---:|---|---|---:|---:|---:|---:|---:|---:|---:|")
	for _, x := range r.of(scale.Replicas) {
		n := float64(x.Renewals)
		p("| %d | %s | %s | %s | %.3f | %d | %.2f | %s | %s B | %.1f |", x.Replicas, yesNo(x.Shared), onOff(x.Rotation), paper.Thousands(x.Users),
			float64(scale.Total(x.Calls))/n, scale.Total(x.Unavailable), float64(x.Store.Calls())/n, paper.Thousands(int(float64(x.Store.In+x.Store.Out)/n)),
			paper.Thousands(x.Store.Bytes/x.Users), float64(slices.Max(x.StoreCalls))/scale.Step.Seconds())
	}
}

func (r *report) writePeers(p paper.Printer) {
	p("")
	p("## Beside a middleware that refreshes with every request")
	p("")
	p("As middlewares are usually written: no request waits for another's refresh, and what fails is a 401. Each page makes four")
	p("requests at once; Descope is away for five minutes.")
	p("")
	p("| | rotation | users | calls to Descope | sessions renewed | answers of 401 without the outage | in it | of 503 | refused users |")
	p("|---|---|---:|---:|---:|---:|---:|---:|---:|")
	for _, x := range r.of(scale.Peers) {
		name := "descopehttp"
		if x.Peer {
			name = "a refresh with every request"
		}
		during := scale.Between(x.Unauthorized, x.Outage.At, end(x))
		p("| %s | %s | %s | %s | %s | %s | %s | %s | %s |", name, onOff(x.Rotation), paper.Thousands(x.Users), paper.Thousands(scale.Total(x.Calls)), paper.Thousands(x.Renewals),
			paper.Thousands(scale.Total(x.Unauthorized)-during), paper.Thousands(during), paper.Thousands(scale.Total(x.Unavailable)), paper.Thousands(x.Refused))
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "none"
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func minutes(d time.Duration) string { return fmt.Sprintf("%.0f min", d.Minutes()) }

// clock leaves out what is too fine.
func clock(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f min", d.Minutes())
}
