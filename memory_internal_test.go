package descopehttp

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A fading map keeps to its limit whatever is put in, and forgets in time.

// What has arrived is dropped when its minute is over, however long its session lives.

func TestDeadLinksAreDropped(t *testing.T) {
	m, now := newMemory(), time.Now()
	linkOf := func(name string, at time.Time) *link {
		return &link{at: at, life: 24 * time.Hour, presented: true, from: &token.Token{Raw: "from " + name},
			answer: &descope.Tokens{Session: "session " + name, Refresh: "refresh " + name}}
	}
	for i := range 100 {
		m.remember(linkOf(strconv.Itoa(i), now))
	}
	require.Equal(t, 100, m.links.Len())
	m.remember(linkOf("next", now.Add(successorWindow)))
	assert.Equal(t, 1, m.links.Len())
	assert.Equal(t, 1, m.issued.Len())
	assert.Equal(t, 1, m.sessions.Len())
}

// A logout is remembered of a token that this replica knows nothing else of yet.

func TestWalkEndsAtALogout(t *testing.T) {
	m, now := newMemory(), time.Now()
	old, next := &token.Token{Raw: "old"}, &token.Token{Raw: "new"}
	m.end(next, now)
	m.remember(&link{at: now, from: old, answer: &descope.Tokens{Session: "session", Refresh: "new"}, renewal: &renewal{inForce: next}})
	p := m.walk(old, now)
	assert.Same(t, next, p.newest)
	assert.ErrorIs(t, p.err(), errLoggedOut)
}

// Should what Descope says ever lead in a circle, a logout comes to an end.

func TestLogoutInACircle(t *testing.T) {
	m, now := newMemory(), time.Now()
	one, two := &token.Token{Raw: "one"}, &token.Token{Raw: "two"}
	m.remember(&link{at: now, from: one, answer: &descope.Tokens{Session: "a", Refresh: "two"}, renewal: &renewal{inForce: two}})
	m.remember(&link{at: now, from: two, answer: &descope.Tokens{Session: "b", Refresh: "one"}, renewal: &renewal{inForce: one}})
	assert.Len(t, m.end(one, now), 1)
	assert.True(t, m.hasEnded(one, now))
	assert.True(t, m.hasEnded(two, now))
}

// Keys that rotate for years leave no more than a bounded number behind.
