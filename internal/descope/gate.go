package descope

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// Bounds on calls to Descope while it is in trouble.
const (
	gateFailures = 5               // failures in a row that close a gate
	gatePause    = 2 * time.Second // until one call may try again
	maxGatePause = time.Minute     // that a Retry-After of Descope is honoured
	gateLate     = 5 * time.Second // a call that takes longer counts as a failure until its answer comes
)

// Budgets of calls to Descope a second, and at once. All users of the kit share
// one address there, and Descope allows a backend 1,000 calls in 10 s.
const (
	sessionRate, sessionBurst = 100, 500
	accountRate, accountBurst = 50, 250
	// Exported, because they bound how many guesses there can be.
	AnonymousRate, AnonymousBurst = 20, 100
)

// A Class groups calls to Descope that share a gate: a flood of one never
// delays another.
type Class int

const (
	Session   Class = iota // renewing and ending sessions
	Account                // what a signed-in user asks and changes
	Anonymous              // what anybody can ask

	classes // how many there are
)

// A gate lets calls of one class through to Descope. When several in a row could
// not reach it, the gate closes for a moment, so that requests fail at once
// instead of queueing up behind a timeout; then one call tries.
type gate struct {
	budget *rate.Limiter

	mu       sync.Mutex
	failures int
	until    time.Time // closed until then
	probing  bool      // one call is trying
}

func newGates() [classes]*gate {
	return [classes]*gate{
		Session:   {budget: rate.NewLimiter(sessionRate, sessionBurst)},
		Account:   {budget: rate.NewLimiter(accountRate, accountBurst)},
		Anonymous: {budget: rate.NewLimiter(AnonymousRate, AnonymousBurst)},
	}
}

// enter returns nil if a call may be made; leave must follow it.
func (g *gate) enter(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.until.Sub(now); wait > 0 {
		return unsent("Descope could not be reached a moment ago", wait, ErrLimit)
	}
	if g.probing {
		return unsent("Descope is being tried again", time.Second, nil)
	}
	if !g.budget.AllowN(now, 1) {
		return unsent("too many calls to Descope", time.Second, ErrLimit)
	}
	g.probing = g.failures >= gateFailures
	return nil
}

// errLate is a call that is still in the air.
var errLate = &Failure{problem.Unavailable.Because("Descope takes long to answer"), Unreached}

// open notes an answer that came late: Descope is there again, for all at once.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures, g.until = 0, time.Time{}
}

// leave notes how the call ended.
func (g *gate) leave(now time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	switch reach := ReachOf(err); {
	case errors.Is(err, ErrLimit):
		g.until = now.Add(min(problem.Of(err).RetryAfter, maxGatePause))
	case reach == Unreached:
		if g.failures++; g.failures >= gateFailures {
			g.until = now.Add(gatePause)
		}
	case reach == Reached:
		g.failures = 0
	}
}
