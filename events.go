package descopehttp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/renew"
	"github.com/descopehttp/descopehttp/internal/token"
)

// An Event is something that happened; docs/events.md lists the names, and what the other
// fields are for each. A field that says nothing is zero. New names and fields may come
// with any version.
type Event struct {
	Name    string
	Code    string        // of a problem, as in docs/errors.md, or of Descope: why something was refused
	Class   string        // of calls to Descope, or which flow, store and so on
	Outcome string        // how it ended
	Cached  bool          // of a verdict: the token had been checked before
	Took    time.Duration // how long

	// Who it is about, with Config.OnEvent only. Neither prints. Session is nil where there
	// is none any more.
	Session *Session
	User    *User
}

// LogValue gives a log line what happened, and not to whom: for that log Session.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", e.Name), slog.String("code", e.Code), slog.String("class", e.Class),
		slog.String("outcome", e.Outcome), slog.Bool("cached", e.Cached), slog.Duration("took", e.Took))
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
	renewer *renew.Renewer
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

// tellFirst tells of something that has happened to the sign-in of t, if nobody has; once
// more where it ends well after it could not be told.
func (x *application) tellFirst(r *http.Request, name string, t *token.Token, err error) {
	ended := notice.Event{}.Ended(err)
	if x.onEvent == nil || t == nil || !x.renewer.First(r.Context(), name+" "+ended.Outcome, t) {
		return
	}
	x.tell(r.Context(), Event{Name: name, Outcome: ended.Outcome, Code: ended.Code, User: &User{ID: t.Claims.User()}})
}

// tellRefused tells of a refresh token that turned out to be of no use any more.
func (x *application) tellRefused(r *http.Request, t *token.Token, err error) {
	switch f := problem.Of(err); {
	case f == renew.ErrSpent:
		x.tellFirst(r, notice.TokenReused, t, nil)
	case f.DeleteCookies:
		x.tellFirst(r, notice.SessionRefused, t, err)
	}
}

// unprinted keeps what embeds it out of logs: it prints a fixed text, for every verb.
type unprinted struct{}

// Format implements [fmt.Formatter].
func (unprinted) Format(f fmt.State, _ rune) { io.WriteString(f, "[not printed]") }

// LogValue implements [slog.LogValuer].
func (unprinted) LogValue() slog.Value { return slog.StringValue("[not printed]") }

// secret is unprinted, and nothing of it gets into JSON either.
type secret struct{ unprinted }

// MarshalText implements [encoding.TextMarshaler].
func (secret) MarshalText() ([]byte, error) { return []byte("[not printed]"), nil }
