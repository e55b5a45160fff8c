package notice

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func newReporter() (*Reporter, func() []string) {
	buf := new(bytes.Buffer)
	h := slog.NewTextHandler(buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.MessageKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})
	return New(slog.New(h), nil), func() []string {
		lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
		buf.Reset()
		return lines
	}
}

// What comes often is written once a minute, with how often it came.
func TestOncePerMinuteAndKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lines := newReporter()
		for range 90 {
			r.Tell(t.Context(), CrossOrigin, Fields{})
			<-time.After(time.Second)
		}
		r.Tell(t.Context(), UnknownCode, Fields{Code: "E1"})
		r.Tell(t.Context(), OddToken, Fields{Class: "a", Reason: "b"})
		r.Tell(t.Context(), OddToken, Fields{Class: "c"})
		assert.Equal(t, []string{"event=cross_origin count=1", "event=cross_origin count=60", "event=unknown_code code=E1 count=1",
			"event=odd_token class=a reason=b count=1", "event=odd_token class=c count=1"}, lines())
	})
}

// A state is told when it begins and when it is over, however often it is seen.
func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lines := newReporter()
		s := r.State("session", GateOpen)
		s.Off()
		assert.Empty(t, s.Trouble())
		for range 60 {
			s.On(GateClosed, Fields{Reason: "away"})
			s.Count()
			<-time.After(30 * time.Second)
		}
		assert.Equal(t, "gate_closed", s.Trouble())
		s.Off()
		s.Off()
		assert.Equal(t, []string{"event=gate_closed class=session reason=away", "event=gate_open class=session count=120 lasted=30m0s"}, lines())
	})
}

// One that flaps is told twice a minute at most, and the last line is the truth.
func TestStateThatFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, lines := newReporter()
		s := r.State("", KeysFresh)
		for range 100 {
			s.On(KeysStale, Fields{})
			<-time.After(time.Second)
			s.Off()
			<-time.After(time.Second)
		}
		written := lines()
		assert.Len(t, written, 8)
		s.On(KeysMissing, Fields{})
		<-time.After(time.Second)
		s.Off() // held back
		<-time.After(time.Minute)
		s.Off()
		assert.Equal(t, []string{"event=keys_missing", "event=keys_fresh count=1 lasted=1s"}, lines())
		s.On(KeysStale, Fields{})
		s.On(KeysMissing, Fields{})
		assert.Equal(t, []string{"event=keys_stale", "event=keys_missing"}, lines(), "what gets worse is news")
	})
}

func TestNilReporter(t *testing.T) {
	var r *Reporter
	r.Tell(t.Context(), CrossOrigin, Fields{})
	s := r.State("", KeysFresh)
	s.On(KeysStale, Fields{})
	s.Count()
	s.Off()
	assert.Empty(t, s.Trouble())
}

// A handler that asks something of the kit while a line is written must not wait for ever.
func TestNoLockWhileALineIsWritten(t *testing.T) {
	var s *State
	var r *Reporter
	asked := 0
	r = New(slog.New(handlerFunc(func() {
		asked++
		s.Trouble()
		s.Count()
		r.Tell(context.Background(), CrossOrigin, Fields{})
		panic("a handler that its author has not finished")
	})), nil)
	s = r.State("", KeysFresh)
	s.On(KeysStale, Fields{})
	s.Off()
	assert.Equal(t, 3, asked)
}

type handlerFunc func()

func (f handlerFunc) Enabled(context.Context, slog.Level) bool  { return true }
func (f handlerFunc) Handle(context.Context, slog.Record) error { f(); return nil }
func (f handlerFunc) WithAttrs([]slog.Attr) slog.Handler        { return f }
func (f handlerFunc) WithGroup(string) slog.Handler             { return f }
