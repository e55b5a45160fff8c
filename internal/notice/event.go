package notice

import (
	"context"
	"errors"
	"time"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// Names of what is observed beside the lines of the table.
const (
	Verdict  = "verdict"
	Guard    = "guard"
	Refresh  = "refresh"
	Flow     = "flow"
	Call     = "call"
	KeyFetch = "key_fetch"
	Store    = "store"
)

// Observed returns the names of all events that are observed. Each line but that of a
// request is one.
func Observed() []string {
	names := []string{Verdict, Guard, Refresh, Flow, Call, KeyFetch, Store}
	for _, l := range lines {
		if l != Refused {
			names = append(names, l.Event)
		}
	}
	return names
}

// Names of what an application is told of sign-ins and their ends.
const (
	SignedIn            = "signed_in"
	SignedUp            = "signed_up"
	SteppedUp           = "stepped_up"
	SignedOut           = "signed_out"
	SignedOutEverywhere = "signed_out_everywhere"
	SessionRefused      = "session_refused"
	TokenReused         = "token_reused"
)

// Told returns the names of all of these.
func Told() []string {
	return []string{SignedIn, SignedUp, SteppedUp, SignedOut, SignedOutEverywhere, SessionRefused, TokenReused}
}

// Outcomes that events share.
const (
	OK        = "ok"
	RefusedSo = "refused" // for a reason that a client is told
	Limited   = "limited" // there were too many
	Unknown   = "unknown" // nobody can tell
	Failed    = "failed"
)

// An Event is something that happened. The root package documents and exports it.
type Event struct {
	Name, Code, Class, Outcome string
	Cached                     bool
	Took                       time.Duration
}

// Ended returns e with how it ended, as a client is told.
func (e Event) Ended(err error) Event {
	if err == nil {
		e.Outcome = OK
		return e
	}
	f := problem.Of(err)
	e.Code = f.Code
	switch {
	case f.Problem == problem.TooManyRequests:
		e.Outcome = Limited
	case f.Problem == problem.Internal || errors.Is(f, problem.ErrUnavailable):
		e.Outcome = Unknown
	default:
		e.Outcome = RefusedSo
	}
	return e
}

// Observes reports whether somebody wants to see events.
func (r *Reporter) Observes() bool { return r != nil && r.observe != nil }

// Event shows an event to who wants to see it. A panic of theirs is told, and stops nothing.
func (r *Reporter) Event(ctx context.Context, e Event) {
	if !r.Observes() {
		return
	}
	defer func() {
		if recover() != nil {
			r.tell(ctx, Panicked, Fields{Class: "Observer", Stack: stack()})
		}
	}()
	r.observe(ctx, e)
}

// StoreCall shows a call of a store.
func (r *Reporter) StoreCall(ctx context.Context, which string, began time.Time, err error) {
	outcome := OK
	if err != nil {
		outcome = Failed
	}
	r.Event(ctx, Event{Name: Store, Class: which, Outcome: outcome, Took: time.Since(began)})
}
