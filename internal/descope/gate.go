package descope

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
)

// Bounds on calls to Descope while it is in trouble.
const (
	gateFailures = 5               // failures in a row that close a gate
	gatePause    = 2 * time.Second // until one call may try again
	maxGatePause = time.Minute     // that a Retry-After of Descope is honoured
	gateLate     = 5 * time.Second // a call that takes longer counts as a failure until its answer comes
)

// A Class groups calls to Descope that share a budget and a gate: a flood of one never
// delays another.
type Class int

const (
	Session      Class = iota // renewing and ending sessions
	Account                   // what a signed-in user asks and changes
	SecondFactor              // a code of a signed-in user
	Anonymous                 // what anybody can ask

	classes // how many there are
)

var classNames = [classes]string{Session: "session", Account: "account", SecondFactor: "second_factor", Anonymous: "sign_in"}

// String returns the name of the class, as operators know it.
func (c Class) String() string { return classNames[c] }

// Limits are calls a second of each class; 0 is the default. All users of the kit share
// one address at Descope, which allows a backend 1,000 calls in 10 s. The defaults
// together stay below that, with all that may come at once.
type Limits [classes]int

var defaultLimits = Limits{Session: 45, Account: 10, SecondFactor: 5, Anonymous: 15}

// secondsAtOnce is how many seconds' calls may come at once.
const secondsAtOnce = 3

// Of returns the calls of a class: a second, and at once.
func (l Limits) Of(class Class) (rate, burst int) {
	rate = cmp.Or(l[class], defaultLimits[class])
	return rate, rate * secondsAtOnce
}

// A call waits for its turn as long as this; more of them than can be made in that time
// are sent away.
const (
	maxTurn        = 3 * time.Second
	maxInTheAir    = 128              // calls that may spend a token
	refusalsWindow = 30 * time.Second // in which calls that were sent away are counted, to say when to come back
	maxComeBack    = time.Minute
)

// A gate lets calls of one class through to Descope. When several in a row could
// not reach it, the gate closes for a moment, so that requests fail at once
// instead of queueing up behind a timeout; then one call tries.
type gate struct {
	class  Class
	budget *rate.Limiter
	room   room // for calls that could wait
	shares *shares
	own    rate.Limit // of budget, unless Descope has asked for less
	burst  int
	state  *notice.State

	mu       sync.Mutex
	failures int
	until    time.Time // closed until then
	probing  bool      // one call is trying
	refused  int       // calls that were sent away, since then
	since    time.Time
	limited  rate.Limit // at which Descope asked for less; 0 if it never has
	learned  time.Time  // when budget was set last
}

func newGates(limits Limits, notices *notice.Reporter) (gates [classes]*gate) {
	for class := range classes {
		calls, burst := limits.Of(class)
		gates[class] = &gate{
			class:  class,
			budget: rate.NewLimiter(rate.Limit(calls), burst), own: rate.Limit(calls), burst: burst,
			room:   newRoom(),
			shares: newShares(class),
			state:  notices.State(class.String(), notice.GateOpen),
		}
	}
	return gates
}

// enter returns when a call of somebody, "" for nobody in particular, may be made; leave
// must follow it then.
func (g *gate) enter(ctx context.Context, who string) error {
	wait, err := g.admit(time.Now(), who)
	if err != nil || wait <= 0 {
		return err
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		err := unsent("no turn in time", time.Second, nil)
		g.leave(time.Now(), err)
		return err
	}
}

// admit returns after what time a call may be made.
func (g *gate) admit(now time.Time, who string) (time.Duration, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.until.Sub(now); wait > 0 {
		g.state.Count()
		return 0, unsent("Descope could not be reached a moment ago", wait, ErrLimit)
	}
	if g.probing {
		g.state.Count()
		return 0, unsent("Descope is being tried again", time.Second, nil)
	}
	// Whoever has had their share waits for the others once half of all is gone.
	if wait := g.shares.take(who, now); wait > 0 && !isHalfFull(g.budget, now) {
		return 0, unsent("too many calls for one user", wait, ErrShare)
	}
	turn := g.budget.ReserveN(now, 1)
	wait := turn.DelayFrom(now)
	if !turn.OK() || wait > maxTurn {
		turn.CancelAt(now)
		return 0, unsent("too many calls to Descope", g.comeBack(now), ErrLimit)
	}
	g.room.limit.AllowN(now, 1)
	g.probing = g.failures >= gateFailures
	return wait, nil
}

// hasRoom reports whether a call may be made that could wait.
func (g *gate) hasRoom(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures < gateFailures && !now.Before(g.until) && g.room.isOpen(now)
}

func isHalfFull(l *rate.Limiter, now time.Time) bool { return l.TokensAt(now) >= float64(l.Burst())/2 }

// comeBack returns when one more call that was sent away has a chance, with others that
// were: not all at once.
func (g *gate) comeBack(now time.Time) time.Duration {
	if now.Sub(g.since) > refusalsWindow {
		g.refused, g.since = 0, now
	}
	g.refused++
	wait := time.Duration(float64(g.refused) / float64(g.budget.Limit()) * float64(time.Second))
	wait = min(max(wait, time.Second), maxComeBack)
	return wait/2 + rand.N(wait)
}

// errLate is a call that is still in the air.
var errLate = &Failure{problem.Unavailable.Because("Descope takes long to answer"), Unreached}

// open notes an answer that came late: Descope is there again, for all at once.
func (g *gate) open() {
	g.mu.Lock()
	g.failures, g.until = 0, time.Time{}
	g.mu.Unlock()
	g.state.Off()
}

// leave notes how the call ended, and tells of it without the lock.
func (g *gate) leave(now time.Time, err error) {
	closed := g.note(now, err)
	switch reach := ReachOf(err); {
	case errors.Is(err, ErrLimit):
		g.state.On(notice.GatePaused, notice.Fields{Reason: problem.Of(err).Reason, Lasted: closed})
	case closed > 0:
		g.state.On(notice.GateClosed, notice.Fields{Reason: problem.Of(err).Reason})
	case reach == Reached:
		g.state.Off()
	}
}

// note notes how a call ended, and returns for how long it has closed the gate.
func (g *gate) note(now time.Time, err error) (closed time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	switch reach := ReachOf(err); {
	case errors.Is(err, ErrLimit):
		closed = min(cmp.Or(problem.Of(err).RetryAfter, problem.DefaultRetryAfter), maxGatePause)
		g.until = now.Add(closed)
		g.slowDown(now)
	case reach == Unreached:
		if g.failures++; g.failures >= gateFailures {
			closed = gatePause
			g.until = now.Add(closed)
		}
	case reach == Reached:
		g.failures = 0
		g.room.note(now, g.own)
		g.speedUp(now)
	}
	return closed
}

// slowDown halves the rate: Descope grants less than it was taken to. There is no shared
// state; each replica finds its own.
func (g *gate) slowDown(now time.Time) {
	g.limited, g.room.asked = g.budget.Limit(), now
	g.setRate(now, max(g.limited/2, 1))
	g.budget.AllowN(now, int(g.budget.TokensAt(now)))
}

// speedUp comes near to nine tenths of what was too much, by 2 % of the way a second, and
// then feels its way on, by 1 % a minute.
func (g *gate) speedUp(now time.Time) {
	if g.limited == 0 {
		return
	}
	calls, most := float64(g.budget.Limit()), 0.9*float64(g.limited)
	passed := now.Sub(g.learned)
	if calls < most {
		calls += (most - calls) * (1 - math.Pow(0.98, passed.Seconds()))
		if calls > 0.99*most {
			calls = most
		}
	} else {
		calls *= math.Pow(1.01, passed.Minutes())
	}
	g.setRate(now, rate.Limit(calls))
}

func (g *gate) setRate(now time.Time, calls rate.Limit) {
	const secondsAtOnce = 2 // of a rate that was found out
	g.learned = now
	if calls >= g.own {
		g.limited = 0
		g.budget.SetLimitAt(now, g.own)
		g.budget.SetBurstAt(now, g.burst)
		return
	}
	g.budget.SetLimitAt(now, calls)
	g.budget.SetBurstAt(now, max(int(secondsAtOnce*calls), 1))
}

// A GateStatus is what a gate does now. The root package documents and exports it.
type GateStatus struct {
	Class string
	State string
	Retry time.Duration
	Limit float64
	Used  float64
}

func (g *gate) status(now time.Time) GateStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := GateStatus{Class: g.class.String(), State: "open", Limit: float64(g.budget.Limit())}
	switch {
	case g.failures >= gateFailures:
		s.State = "closed"
	case now.Before(g.until):
		s.State = "paused"
	}
	s.Retry = max(g.until.Sub(now), 0)
	s.Used = min(max(1-g.budget.TokensAt(now)/float64(g.budget.Burst()), 0), 1)
	return s
}

// Gates returns what each gate does now, in the order of the classes.
func (c *Client) Gates(now time.Time) []GateStatus {
	all := make([]GateStatus, 0, classes)
	for _, g := range c.gates {
		all = append(all, g.status(now))
	}
	return all
}

// InTheAir returns how many calls that may spend a token wait for their answer, and how many
// may.
func (c *Client) InTheAir() (calls, most int) { return len(c.air), cap(c.air) }
