package descopehttp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/descopehttp/descopehttp/internal/notice"
)

// An Event is something that happened; docs/events.md lists the names, and what the other
// fields are for each. A field that says nothing is zero. New names and fields may come
// with any version.
type Event struct {
	Name    string
	Code    string        // of a problem, as in README, or of Descope: why something was refused
	Class   string        // of calls to Descope, or which flow, store and so on
	Outcome string        // how it ended
	Cached  bool          // of a verdict: the token had been checked before
	Took    time.Duration // how long

	// Who it is about, with Config.OnEvent only. Neither prints. Session is nil where there
	// is none any more.
	Session *Session
	User    *User
}

// observerOf has f shown what happens inside.
func observerOf(f func(context.Context, Event)) func(context.Context, notice.Event) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, e notice.Event) {
		f(ctx, Event{Name: e.Name, Code: e.Code, Class: e.Class, Outcome: e.Outcome, Cached: e.Cached, Took: e.Took})
	}
}

// A User is Descope's record of a user. It does not print: login ids are often addresses.
type User struct {
	unprinted
	ID                 string // what [Session.Subject] returns
	LoginIDs           []string
	Name, Email, Phone string
	FirstSeen          bool // the first sign-in of all; set by SignIn only
}

// An application is told of sign-ins and their ends.
type application struct {
	onEvent func(context.Context, Event) // nil: it does not want to know
	notices *notice.Reporter
}

// tell tells of something in the request that caused it. Whoever hangs up has caused it too,
// so the context does not end with the client's.
func (x *application) tell(ctx context.Context, e Event) {
	if x.onEvent == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	defer x.notices.Recover(ctx, "OnEvent")
	x.onEvent(ctx, e)
}

// unprinted keeps what embeds it out of logs: it prints a fixed text, for every verb.
type unprinted struct{}

// Format implements [fmt.Formatter].
func (unprinted) Format(f fmt.State, _ rune) { io.WriteString(f, "[not printed]") }

// LogValue implements [slog.LogValuer].
func (unprinted) LogValue() slog.Value { return slog.StringValue("[not printed]") }
