package descopehttp

import (
	"errors"
	"sync"
	"time"
)

// Bounds on calls to Descope while it is in trouble.
const (
	gateFailures = 5               // failures in a row that close a gate
	gatePause    = 2 * time.Second // until one call may try again
	maxGatePause = time.Minute     // that a Retry-After of Descope is honoured
)

// A gate lets calls of one class through to Descope. When several in a row could
// not reach it, the gate closes for a moment, so that requests fail at once
// instead of queueing up behind a timeout; then one call tries. Classes have
// gates of their own: what anybody can flood must not stop sessions from being
// renewed.
type gate struct {
	mu       sync.Mutex
	failures int
	until    time.Time // closed until then
	probing  bool      // one call is trying
}

// enter returns nil if a call may be made; leave must follow it.
func (g *gate) enter(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.until.Sub(now); wait > 0 {
		return &failure{problem: problemUnavailable, reason: "Descope could not be reached a moment ago", retryAfter: wait, cause: errGateClosed}
	}
	if g.failures >= gateFailures {
		if g.probing {
			return &failure{problem: problemUnavailable, reason: "Descope is being tried again", retryAfter: time.Second, cause: errGateClosed}
		}
		g.probing = true
	}
	return nil
}

// errGateClosed marks a call that was not made.
var errGateClosed = errors.New("descopehttp: call not made")

// leave notes how the call ended.
func (g *gate) leave(now time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	var f *failure
	switch {
	case errors.As(err, &f) && errors.Is(err, errUpstreamLimit):
		g.until = now.Add(min(f.retryAfter, maxGatePause))
	case f != nil && f.unreachable:
		if g.failures++; g.failures >= gateFailures {
			g.until = now.Add(gatePause)
		}
	default:
		g.failures = 0
	}
}
