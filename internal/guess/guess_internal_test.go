package guess

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
)

// A guesser makes guesses at the codes of one attempts after the other.
type guesser struct {
	t testing.TB
	a *Attempts
}

func newGuesser(t testing.TB) guesser {
	return guesser{t, New(Config{ProjectID: "P2descopetest00000000000000A", Limits: Limits{Calls: 15, CallsAtOnce: 45}})}
}

func requestFrom(addr netip.Addr) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.RemoteAddr = netip.AddrPortFrom(addr, 4711).String()
	return r
}

// guess makes one, and reports whether it was let through.
func (g guesser) guess(r *http.Request, loginID string, outcome error) bool {
	done, err := g.a.Guess(r, loginID)
	if err == nil {
		done(g.t.Context(), outcome)
	}
	return err == nil
}

// What Descope said to a wrong code, and what the gate says to most of a flood.
var (
	wrongCode = &descope.Refusal{Status: http.StatusUnauthorized, Code: "E061102", Meaning: descope.WrongCode}
	gateShut  = &descope.Failure{Failure: problem.Unavailable.Because(""), Reach: descope.Unsent}
)

// Whatever a stranger sends for other login ids and from other networks, the count
// of a victim stays: what never gets to Descope leaves nothing, and for the rest
// there is room.
//
// Rule: guessing: against invented login ids and addresses, to have a count forgotten: no count
// makes room for another: there is room for all that the budget lets through, and what never
// got to Descope leaves nothing.
// Rule: guessing: a count of 0 is not kept.
func TestNoFloodForgetsACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuesser(t)
		victim, own, n := "victim", requestFrom(netip.MustParseAddr("192.0.2.7")), 0
		invent := func() (*http.Request, string) {
			n++
			addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 15: 1})
			return requestFrom(addr), "invented" + strconv.Itoa(n)
		}
		require.True(t, g.guess(own, victim, nil), "a sign-in, so that this network is known")
		stranger := requestFrom(netip.MustParseAddr("203.0.113.9"))
		for range guessesPerLogin {
			require.True(t, g.guess(stranger, victim, wrongCode))
		}
		for range guessesPerDay - guessesPerLogin {
			r, _ := invent()
			require.True(t, g.guess(r, victim, wrongCode))
		}
		require.False(t, g.guess(stranger, victim, wrongCode))

		for range 60_000 { // refused here
			r, id := invent()
			require.True(t, g.guess(r, id, gateShut))
		}
		for range g.a.CallsAtOnce + g.a.Calls*60 { // as many as get to Descope in a minute
			r, id := invent()
			require.True(t, g.guess(r, id, wrongCode))
		}
		var underWay []func(context.Context, error)
		for range 5_000 { // at once
			done, err := g.a.Guess(invent())
			require.NoError(t, err)
			underWay = append(underWay, done)
		}
		r, _ := invent()
		assert.False(t, g.guess(r, victim, wrongCode), "the fifty of the day")
		assert.False(t, g.guess(stranger, victim, wrongCode), "the ten of this network")
		assert.True(t, g.guess(own, victim, wrongCode), "the user is not locked out")
		for _, done := range underWay {
			done(t.Context(), gateShut)
		}
		<-time.After(guessWindow)
		r, _ = invent()
		assert.False(t, g.guess(r, victim, wrongCode), "the day is not over")
	})
}

// When memory is full all the same, new counts are refused, and none is dropped.
//
// Rule: guessing: against invented login ids and addresses, to have a count forgotten: no count
// makes room for another: there is room for all that the budget lets through, and what never
// got to Descope leaves nothing.
// Rule: guessing: a refused guess does not count.
// Rule: guessing: full memory refuses, and forgets nothing.
func TestFullCountersRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuesser(t)
		g.a.guesses.most, g.a.pendings.most, g.a.PerNetwork = 100, 100, 1000
		r := requestFrom(netip.MustParseAddr("203.0.113.9"))
		require.True(t, g.guess(r, "victim", wrongCode))
		for i := range 99 {
			require.True(t, g.guess(r, strconv.Itoa(i), wrongCode))
		}
		_, err := g.a.Guess(r, "new")
		require.Error(t, err)
		assert.Equal(t, problem.TooManyRequests, problem.Of(err).Problem)
		for range guessesPerLogin - 1 {
			assert.True(t, g.guess(r, "victim", wrongCode))
		}
		assert.False(t, g.guess(r, "victim", wrongCode))
		assert.Equal(t, 100, g.a.days.size(), "nothing is left of what was refused")
		<-time.After(guessWindow + guessWindow/countAges)
		assert.True(t, g.guess(r, "new", wrongCode), "what has ended makes room")

		// One that the day has no room for costs its network nothing.
		g.a.days.most = 0
		for range 2 * guessesPerLogin {
			_, err = g.a.Guess(r, "another")
			require.Error(t, err)
		}
		g.a.days.most = g.a.countsIn(guessDay)
		for range guessesPerLogin {
			assert.True(t, g.guess(r, "another", wrongCode))
		}
		assert.False(t, g.guess(r, "another", wrongCode))

		// A key that is new may be ours, so nobody is refused for want of room.
		for i := range 200 {
			assert.True(t, g.a.Pending(requestFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))))
		}
	})
}

// A count lasts for its window and not longer, whenever in it it is looked at, and
// what has ended takes no memory.
//
// Rule: guessing: a count of 0 is not kept.
func TestCountersEndWithTheirWindow(t *testing.T) {
	for step := range 50 {
		synctest.Test(t, func(t *testing.T) {
			c := newCounters(10, time.Hour)
			key := countKey{1}
			<-time.After(time.Duration(step) * 97 * time.Second)
			c.add(countKey{2}, 1, time.Now())
			<-time.After(time.Duration(step) * 71 * time.Second)
			began := time.Now()
			_, until, ok := c.add(key, 1, began)
			require.True(t, ok)
			require.WithinDuration(t, began.Add(time.Hour), until, 0)
			<-time.After(time.Duration(step) * time.Minute)
			n, until, _ := c.add(key, 1, time.Now())
			assert.Equal(t, 2, n)
			assert.WithinDuration(t, began.Add(time.Hour), until, 0, "no later count moves it")
			<-time.After(time.Until(until) - 1)
			n, _, _ = c.add(key, 0, time.Now())
			assert.Equal(t, 2, n)
			<-time.After(1)
			n, _, _ = c.add(key, 0, time.Now())
			assert.Zero(t, n)
			<-time.After(time.Duration(step/10+1) * time.Hour)
			c.add(countKey{3}, 1, time.Now())
			assert.LessOrEqual(t, c.size(), 2)
			if step >= 20 {
				assert.Equal(t, 1, c.size(), "after a long time at once")
			}
			n, _, _ = c.add(key, -1, time.Now())
			assert.Zero(t, n)
			n, _, _ = c.add(countKey{3}, -5, time.Now())
			assert.Zero(t, n)
			assert.Zero(t, c.size())
		})
	}
}
