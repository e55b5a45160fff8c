package descopehttp

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A fading map keeps to its limit whatever is put in, and forgets in time.
func TestFadingIsBounded(t *testing.T) {
	now := time.Now()
	f := newFading[string, int](100)
	for i := range 1000 {
		f.put(fmt.Sprint(i%150), i, now, time.Duration(i%7)*time.Second)
		require.LessOrEqual(t, len(f.entries), 100)
		require.Equal(t, len(f.entries), f.order.Len())
	}
	f.put("a", 1, now, time.Second)
	_, ok := f.get("a", now.Add(time.Second-1))
	assert.True(t, ok)
	_, ok = f.get("a", now.Add(time.Second))
	assert.False(t, ok)
}

// What has arrived is dropped when its minute is over, however long its session lives.
func TestDeadLinksAreDropped(t *testing.T) {
	m, now := newMemory(), time.Now()
	linkOf := func(name string, at time.Time) *link {
		return &link{at: at, life: 24 * time.Hour, presented: true, from: &token{raw: "from " + name},
			answer: &tokenAnswer{session: "session " + name, refresh: "refresh " + name}}
	}
	for i := range 100 {
		m.remember(linkOf(strconv.Itoa(i), now))
	}
	require.Len(t, m.links.entries, 100)
	m.remember(linkOf("next", now.Add(successorWindow)))
	assert.Len(t, m.links.entries, 1)
	assert.Len(t, m.issued.entries, 1)
	assert.Len(t, m.sessions.entries, 1)
}

// A logout is remembered of a token that this replica knows nothing else of yet.
func TestWalkEndsAtALogout(t *testing.T) {
	m, now := newMemory(), time.Now()
	old, next := &token{raw: "old"}, &token{raw: "new"}
	m.end(next, now)
	m.remember(&link{at: now, from: old, answer: &tokenAnswer{session: "session", refresh: "new"}, renewal: &renewal{inForce: next}})
	p := m.walk(old, now)
	assert.Same(t, next, p.newest)
	assert.ErrorIs(t, p.err(), errLoggedOut)
}

// Should what Descope says ever lead in a circle, a logout comes to an end.
func TestLogoutInACircle(t *testing.T) {
	m, now := newMemory(), time.Now()
	one, two := &token{raw: "one"}, &token{raw: "two"}
	m.remember(&link{at: now, from: one, answer: &tokenAnswer{session: "a", refresh: "two"}, renewal: &renewal{inForce: two}})
	m.remember(&link{at: now, from: two, answer: &tokenAnswer{session: "b", refresh: "one"}, renewal: &renewal{inForce: one}})
	assert.Len(t, m.end(one, now), 1)
	assert.True(t, m.hasEnded(one, now))
	assert.True(t, m.hasEnded(two, now))
}

// Keys that rotate for years leave no more than a bounded number behind.
func TestRetiredKeysAreBounded(t *testing.T) {
	s := newKeySet(nil, new(headerMemo), slog.New(slog.DiscardHandler))
	key := parseKey([]byte(`{"kid":"a","alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`))
	require.NotNil(t, key)
	for i := range 3 * maxRetiredKeys {
		old := *key
		old.kid = strconv.Itoa(i)
		s.retire(map[string]*heldKey{old.kid: &old}, nil)
		require.LessOrEqual(t, len(s.retired), maxRetiredKeys)
	}
	assert.Equal(t, strconv.Itoa(3*maxRetiredKeys-1), s.retired[maxRetiredKeys-1].kid, "the newest stay")
}
