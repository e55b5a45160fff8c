// Package notice is the one place where the kit speaks to an operator.
//
// table.go has every line that there is. A line is written when something changes, and of
// one kind at most one a minute: in an outage a log is to be read. What comes more often is a
// [State], which is told when it begins and when it is over, or is counted until the next
// line. The fields have fixed names: event, class, code, reason, count, lasted and stack.
// None of them is anything that a client or Descope has sent, but for Descope's own error
// codes.
package notice

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// interval is what is between two lines of one kind at least.
const interval = time.Minute

// Fields are what a line says beside its text; what is zero is left out.
type Fields struct {
	Class  string        // of calls to Descope, or what else the line is about
	Code   string        // Descope's
	Reason string        // one of our own texts
	Count  int           // how often, since the last line of the kind or since the state began
	Lasted time.Duration // how long a state lasted
	Stack  string        // names of functions
}

// A Reporter writes lines. It is safe for concurrent use; a nil one tells nothing. No lock is
// held while a line is written.
type Reporter struct {
	log     *slog.Logger
	observe func(context.Context, Event) // nil: nobody

	mu    sync.Mutex
	kinds map[kind]*told
}

// A kind of line is told by its event and its class, of which there are a few.
type kind struct {
	line  *Line
	class string
}

type told struct {
	last  time.Time // line
	since int       // how many have not been written since then
}

// New returns a Reporter that writes to log, and shows events to observe unless that is nil.
func New(log *slog.Logger, observe func(context.Context, Event)) *Reporter {
	return &Reporter{log: log, observe: observe, kinds: make(map[kind]*told)}
}

// Tell writes a line, unless one of its kind was written within the last minute. Then it is
// counted, and the next line has the count. It is an event each time.
func (r *Reporter) Tell(ctx context.Context, line *Line, f Fields) {
	if r == nil {
		return
	}
	r.tell(ctx, line, f)
	r.Event(ctx, Event{Name: line.Event, Class: f.Class, Code: f.Code})
}

func (r *Reporter) tell(ctx context.Context, line *Line, f Fields) {
	if n, ok := r.take(line, f.Class, true); ok {
		f.Count = n
		r.write(ctx, line, f)
	}
}

// Panicked tells of a panic that was just recovered: in what, and which functions were under
// way. Its own text might quote a request.
func (r *Reporter) Panicked(ctx context.Context, what string) {
	r.Tell(ctx, Panicked, Fields{Class: what, Stack: stack()})
}

// Recover is to be deferred: it ends a panic, and tells of it.
func (r *Reporter) Recover(ctx context.Context, what string) {
	if recover() != nil {
		r.Panicked(ctx, what)
	}
}

func stack() string { return string(debug.Stack()) }

// Refused tells why a request was refused, each time: at Debug, for who looks for just that.
func (r *Reporter) Refused(ctx context.Context, what string, err error) {
	if r == nil {
		return
	}
	defer func() { _ = recover() }() // of Enabled
	if r.log.Enabled(ctx, Refused.Level) {
		r.write(ctx, Refused, Fields{Class: what, Reason: err.Error()})
	}
}

// take reports whether a line may be written now, and for how many it stands.
func (r *Reporter) take(line *Line, class string, counts bool) (n int, ok bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.kinds[kind{line, class}]
	if t == nil {
		t = new(told)
		r.kinds[kind{line, class}] = t
	}
	if counts {
		t.since++
	}
	if !t.last.IsZero() && now.Sub(t.last) < interval {
		return 0, false
	}
	n, t.since, t.last = t.since, 0, now
	return n, true
}

// write writes a line. A handler that panics loses it, and nothing else.
func (r *Reporter) write(ctx context.Context, line *Line, f Fields) {
	defer func() { _ = recover() }()
	attrs := append(make([]slog.Attr, 0, 7), slog.String("event", line.Event))
	for _, a := range []slog.Attr{slog.String("class", f.Class), slog.String("code", f.Code), slog.String("reason", f.Reason)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if f.Count > 0 {
		attrs = append(attrs, slog.Int("count", f.Count))
	}
	if f.Lasted > 0 {
		attrs = append(attrs, slog.Duration("lasted", f.Lasted))
	}
	if f.Stack != "" {
		attrs = append(attrs, slog.String("stack", f.Stack))
	}
	r.log.LogAttrs(ctx, line.Level, "descopehttp: "+line.text, attrs...)
}

// A State is something that can be in trouble. It is told what is the case as often as that
// is seen, and writes a line where it is news: a line that the minute held back is written
// when the same is seen again. A nil one tells nothing.
type State struct {
	reporter *Reporter
	class    string
	over     *Line

	mu    sync.Mutex
	is    *Line // the trouble it is in, nil for none
	told  *Line // the one that the log speaks of
	since time.Time
	count int

	lasted time.Duration // the last trouble
}

// State returns a state without trouble, whose end over tells of.
func (r *Reporter) State(class string, over *Line) *State {
	if r == nil {
		return nil
	}
	return &State{reporter: r, class: class, over: over}
}

// On says that there is this trouble, and counts it.
func (s *State) On(trouble *Line, f Fields) {
	if s == nil {
		return
	}
	s.mu.Lock()
	isNew := s.is != trouble
	if s.is == nil {
		s.since, s.count = time.Now(), 0
	}
	s.is = trouble
	s.count++
	ok := false
	if s.told != trouble {
		if _, ok = s.reporter.take(trouble, s.class, false); ok {
			s.told = trouble
		}
	}
	s.mu.Unlock()
	if ok {
		f.Class = s.class
		s.reporter.write(context.Background(), trouble, f)
	}
	if isNew {
		s.reporter.Event(context.Background(), Event{Name: trouble.Event, Class: s.class})
	}
}

// Count counts one more that the trouble has cost.
func (s *State) Count() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
}

// Off says that there is no trouble, or none any more.
func (s *State) Off() {
	if s == nil {
		return
	}
	s.mu.Lock()
	isNew := s.is != nil
	if isNew {
		s.is, s.lasted = nil, time.Since(s.since)
	}
	f := Fields{Class: s.class, Count: s.count, Lasted: s.lasted}
	ok := false
	if s.told != nil {
		if _, ok = s.reporter.take(s.over, s.class, false); ok {
			s.told = nil
		}
	}
	s.mu.Unlock()
	if ok {
		s.reporter.write(context.Background(), s.over, f)
	}
	if isNew {
		s.reporter.Event(context.Background(), Event{Name: s.over.Event, Class: s.class, Took: f.Lasted})
	}
}

// Trouble returns the event that the state is in, "" for none.
func (s *State) Trouble() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.is == nil {
		return ""
	}
	return s.is.Event
}
