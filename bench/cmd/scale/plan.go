package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/descopehttp/descopehttp/bench/internal/paper"
	"github.com/descopehttp/descopehttp/bench/scale"
)

// What docs/scale.md reckons with for each active user, rounded up from what is measured.
const (
	reckonedMemory     = 8_000 // bytes of a replica
	reckonedCPU        = 2.5   // ms of a replica in ten minutes
	reckonedHeld       = 3_000 // bytes in the store
	reckonedStoreCalls = 5     // for each renewal
	reckonedStoreBytes = 7_000 // for each renewal
)

// A plan is what a site needs, by the formulas that docs/scale.md has beside it.
type plan struct {
	users                       int
	renewals                    float64 // a second
	sessionCalls, ask           int
	addresses, replicas, memory int
	held, storeCalls, storeMB   float64
}

func planFor(users int) plan {
	p := plan{users: users, renewals: float64(users) / (scale.Session.Seconds() - 30)}
	p.sessionCalls = max(45, int(math.Ceil(1.5*p.renewals)))
	p.ask = int(math.Ceil(13 * 5 * float64(p.sessionCalls) / 3))
	p.addresses = (p.ask + scale.Backend.Calls - 1) / scale.Backend.Calls
	p.replicas = max(2, (users+249_999)/250_000)
	p.memory = min(users, 250_000) * reckonedMemory
	p.held = float64(users) * reckonedHeld
	p.storeCalls = p.renewals * reckonedStoreCalls
	p.storeMB = p.renewals * reckonedStoreBytes / 1e6
	return p
}

// row is the plan as docs/scale.md has it.
func (p plan) row() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %d | %d | %s | %s | %s | %s |", paper.Thousands(p.users), paper.Thousands(int(math.Ceil(p.renewals))), paper.Thousands(p.sessionCalls),
		paper.Thousands(p.ask), p.addresses, p.replicas, size(float64(p.memory)), size(p.held), paper.Thousands(int(math.Ceil(p.storeCalls))), amount(p.storeMB))
}

func size(bytes float64) string {
	if bytes < 1e9 {
		return fmt.Sprintf("%.0f MB", bytes/1e6)
	}
	return fmt.Sprintf("%.1f GB", bytes/1e9)
}

func amount(mb float64) string {
	if mb < 10 {
		return fmt.Sprintf("%.2g MB", mb)
	}
	return fmt.Sprintf("%.0f MB", mb)
}

// writeReckoned compares what docs/scale.md reckons with and what was measured.
func (r *report) writeReckoned(p paper.Printer) {
	most := func(list []*scale.Result, of func(*scale.Result) float64) (n float64) {
		for _, x := range list {
			n = max(n, of(x))
		}
		return n
	}
	hours := slices.Concat(r.of(scale.Sizes), r.of(scale.TwoHundred))
	replicas := r.of(scale.Replicas)
	p("")
	p("## What docs/scale.md reckons with")
	p("")
	p("For each active user, and the most of what was measured above:")
	p("")
	p("| | reckoned | measured | |")
	p("|---|---:|---:|---|")
	for _, x := range []struct {
		what     string
		reckoned float64
		measured float64
		format   string
	}{
		{"memory of a replica", reckonedMemory, most(hours, func(x *scale.Result) float64 { return float64(x.HeapBytes) / float64(x.Users) }), "%.0f B"},
		{"CPU time in ten minutes", reckonedCPU, most(hours, func(x *scale.Result) float64 { return milliseconds(x.CPU) / float64(x.Users) }), "%.2f ms"},
		{"held in the store", reckonedHeld, most(replicas, func(x *scale.Result) float64 { return float64(x.Store.Bytes) / float64(x.Users) }), "%.0f B"},
		{"calls of the store for a renewal", reckonedStoreCalls, most(replicas, func(x *scale.Result) float64 { return float64(x.Store.Calls()) / float64(x.Renewals) }), "%.2f"},
		{"bytes to and from the store for a renewal", reckonedStoreBytes, most(replicas, func(x *scale.Result) float64 { return float64(x.Store.In+x.Store.Out) / float64(x.Renewals) }), "%.0f"},
	} {
		p("| %s | "+x.format+" | "+x.format+" | %s |", x.what, x.reckoned, x.measured, paper.Verdict(x.measured <= x.reckoned))
	}
}
