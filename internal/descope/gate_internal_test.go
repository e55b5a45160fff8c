package descope

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Rule: guessing: a 429 pauses, a minute at most.
// Rule: guessing: outages close the gate; one call tries.
func TestGateTriesOneCall(t *testing.T) {
	now := time.Now()
	g := newGates(Limits{}, nil)[Session]
	outage := &Failure{problem.Unavailable.Because(""), Unreached}
	enter := func() error { _, err := g.admit(now, ""); return err }
	for range gateFailures - 1 {
		require.NoError(t, enter())
		g.leave(now, outage)
	}
	require.NoError(t, enter())
	g.leave(now, &Failure{problem.Unavailable.Because(""), Reached}) // an odd answer, but an answer
	for range gateFailures {
		require.NoError(t, enter())
		g.leave(now, outage)
	}
	err := enter()
	assert.Equal(t, gatePause, problem.Of(err).RetryAfter)
	assert.Equal(t, Unsent, ReachOf(err))
	now = now.Add(gatePause)
	require.NoError(t, enter(), "one may try")
	err = enter()
	assert.Equal(t, Unsent, ReachOf(err))
	assert.Equal(t, time.Second, problem.Of(err).RetryAfter)
	g.leave(now, outage)
	require.Error(t, enter(), "it failed")
	now = now.Add(gatePause)
	require.NoError(t, enter())
	g.leave(now, &Refusal{Code: "E061005", Meaning: TokenInvalid})
	for range 10 {
		require.NoError(t, enter(), "a refusal is an answer")
	}
	g.leave(now, nil)

	g.leave(now, unsent("", time.Hour, ErrLimit))
	assert.Equal(t, maxGatePause, problem.Of(enter()).RetryAfter)
	now = now.Add(maxGatePause)
	require.NoError(t, enter())
}

func TestStrangersOnlyAreRemembered(t *testing.T) {
	b, now := newStrangerBudget(), time.Now()
	verified, stranger := &token.Token{Raw: "a"}, &token.Token{Raw: "b", Unverified: true}
	for _, tok := range []*token.Token{nil, verified, stranger} {
		require.NoError(t, b.enter(tok, now))
		b.accept(tok, now)
	}
	assert.Equal(t, 1, b.accepted.Len())
	for range 100 {
		assert.NoError(t, b.enter(stranger, now), "exempt")
		assert.NoError(t, b.enter(verified, now))
		assert.NoError(t, b.enter(nil, now))
	}
	another := &token.Token{Raw: "c", Unverified: true}
	require.Error(t, b.enter(another, now))
	require.NoError(t, b.enter(another, now.Add(time.Second/unverifiedRate)))
	require.Error(t, b.enter(another, now.Add(time.Second/unverifiedRate)))
	now = now.Add(acceptedMemory)
	require.NoError(t, b.enter(stranger, now))
	require.Error(t, b.enter(stranger, now), "forgotten")
}

// A 429 halves the rate, and answers bring it back: near to what was too much within
// minutes, and past it little by little.
//
// Rule: guessing: what Descope grants is learned from its 429s.
func TestLearnedRate(t *testing.T) {
	now := time.Now()
	g := newGates(Limits{Session: 100}, nil)[Session]
	g.leave(now, unsent("", time.Second, ErrLimit))
	assert.EqualValues(t, 50, g.budget.Limit())
	assert.Equal(t, 100, g.budget.Burst(), "of two seconds")
	assert.Less(t, g.budget.TokensAt(now), 1.0)
	after := func(d time.Duration) float64 {
		for until := now.Add(d); now.Before(until); now = now.Add(time.Second) {
			g.leave(now, nil)
		}
		return float64(g.budget.Limit())
	}
	assert.InDelta(t, 70, after(35*time.Second), 2, "half way to 90")
	assert.InDelta(t, 90, after(4*time.Minute), 2)
	assert.Less(t, after(5*time.Minute), 96.0)
	assert.EqualValues(t, 100, after(30*time.Minute), "as configured, and no more")
	assert.Equal(t, 300, g.budget.Burst())
}

// A share is for one user; what is not used comes back, and full ones are forgotten.
//
// Rule: guessing: shares of a class, by the user of a verified token or by network.
func TestShares(t *testing.T) {
	s, now := newShares(Session), time.Now()
	assert.Zero(t, s.take("", now))
	for range 30 {
		assert.Zero(t, s.take("ada", now))
	}
	assert.InDelta(t, time.Second, s.take("ada", now), float64(time.Millisecond))
	assert.Zero(t, s.take("bob", now))
	assert.Zero(t, s.take("ada", now.Add(time.Second)))
	assert.Positive(t, s.take("ada", now.Add(time.Second)))
	assert.Equal(t, 2, s.held.Len())
	s.take("cid", now.Add(time.Hour))
	assert.Equal(t, 1, s.held.Len())
}
