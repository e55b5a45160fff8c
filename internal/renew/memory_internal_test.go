package renew

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A chain is a line of refresh tokens, as Descope would answer them.
type chain struct {
	t    *testing.T
	m    *memory
	name string
	n    int
}

func (c *chain) token(n int) *token.Token { return &token.Token{Raw: fmt.Sprint(c.name, " R", n)} }

// find shows the n-th token.
func (c *chain) find(n int, now time.Time) *place {
	c.t.Helper()
	p, spent := c.m.find(c.token(n), now)
	require.False(c.t, spent)
	return p
}

// renew spends the newest token; nobody has shown the next one yet.
func (c *chain) renew(now time.Time) {
	c.t.Helper()
	l := c.find(c.n, now).line
	c.m.work(l, now)
	from := l.newest
	c.n++
	next := c.token(c.n)
	a := &arrival{began: now, at: now, from: from, life: 10 * time.Minute, expiry: now.Add(10 * time.Minute),
		answer: &descope.Tokens{Session: fmt.Sprint(c.name, " S", c.n), Refresh: next.Raw, Body: []byte(strings.Repeat("x", 1000))}}
	require.True(c.t, c.m.arrive(l, a, now))
	c.m.prove(l, &renewal{raw: a.answer.Session, inForce: next}, false, now)
}

func newChain(t *testing.T, m *memory, name string) *chain { return &chain{t: t, m: m, name: name} }

// R1, R2 shown, R3 not: the holder of R1 has been overtaken and that of R2 has not.
func TestWhoIsLate(t *testing.T) {
	m, now := newMemory(defaultMaxBytes), time.Now()
	c := newChain(t, &m, "ada")
	c.renew(now)
	assert.False(t, c.find(0, now).late(), "nobody has seen what came of it")
	c.renew(now) // which shows R1
	assert.True(t, c.find(0, now).late())
	assert.False(t, c.find(1, now).late())
	m.shows(token.HashOf("ada S2"), now)
	assert.True(t, c.find(1, now).late(), "the session that came with R2 was shown")
	assert.False(t, c.find(2, now).late())
}

// What nobody has fetched leads on for a day, and for a minute when it has been shown;
// that a token was spent is known for longer.
//
// Rule: renewing: a spent token leads to the newest successor, for a minute.
func TestHowLongATokenLeadsOn(t *testing.T) {
	m, now := newMemory(defaultMaxBytes), time.Now()
	c := newChain(t, &m, "ada")
	c.renew(now)
	now = now.Add(unfetchedKept - time.Second)
	assert.Equal(t, "ada R1", c.find(0, now).newest.Raw)
	c.find(1, now)
	now = now.Add(leadsOn - time.Second)
	assert.Equal(t, "ada R1", c.find(0, now).newest.Raw)
	now = now.Add(time.Second)
	_, spent := m.find(c.token(0), now)
	assert.True(t, spent)
	m.sweep(now)
	assert.True(t, m.isEmpty())
	_, spent = m.find(c.token(0), now)
	assert.True(t, spent, "when the rest is forgotten, too")
	assert.Zero(t, m.bytes)
}

// One user's refreshes push nobody out, however many there are: neither what another has
// not fetched yet, nor a logout.
//
// Rule: renewing: memory is bounded and lets go.
func TestManyRefreshesOfOneUser(t *testing.T) {
	m, now := newMemory(1<<20), time.Now()
	bob, eve := newChain(t, &m, "bob"), newChain(t, &m, "eve")
	bob.renew(now)
	eve.renew(now)
	m.end(eve.find(0, now).signIn, now)
	ada := newChain(t, &m, "ada")
	for i := range 10_050 {
		now = now.Add(time.Second)
		ada.renew(now)
		if i == 500 {
			assert.True(t, eve.find(1, now).ended)
		}
	}
	assert.Equal(t, "bob R1", bob.find(0, now).newest.Raw)
	assert.LessOrEqual(t, m.bytes, 1<<20)
}

// Where there is no room, what has been shown goes before what nobody has fetched, and
// the bound holds.
//
// Rule: renewing: memory is bounded and lets go.
func TestWhatGoesFirst(t *testing.T) {
	m, now := newMemory(1<<20), time.Now()
	var shown, unfetched []*chain
	for i := range 100 {
		c := newChain(t, &m, fmt.Sprint("unfetched", i))
		c.renew(now)
		unfetched = append(unfetched, c)
	}
	for i := range 2000 {
		c := newChain(t, &m, fmt.Sprint("shown", i))
		c.renew(now)
		c.find(1, now)
		shown = append(shown, c)
		require.LessOrEqual(t, m.bytes, 1<<20)
	}
	for _, c := range unfetched {
		assert.Equal(t, 1, c.find(0, now).head().number)
	}
	_, spent := m.find(shown[0].token(0), now)
	assert.True(t, spent, "forgotten, but for that")
	assert.Equal(t, 1, shown[len(shown)-1].find(0, now).head().number)
}

// An answer that leads to a line which went on elsewhere joins it; what is newer than what
// was seen there stays for its holders.
func TestJoin(t *testing.T) {
	m, now := newMemory(defaultMaxBytes), time.Now()
	here := newChain(t, &m, "ada")
	here.n = 1
	here.renew(now) // R1 was presented here, and spent for R2
	late := here.find(1, now).line
	first, _ := m.find(&token.Token{Raw: "ada R0"}, now)
	m.work(first.line, now)
	a := &arrival{began: now, at: now, from: here.token(0), answer: &descope.Tokens{Session: "ada S1", Refresh: "ada R1"}}
	assert.False(t, m.arrive(first.line, a, now), "it leads elsewhere")
	p := here.find(0, now)
	assert.Same(t, late, p.line)
	assert.Equal(t, "ada R2", p.newest.Raw)
	assert.True(t, p.late(), "R1 has been shown")
	assert.False(t, here.find(1, now).late())

	// The same where it was logged out.
	m.end(late.signIn, now)
	other, _ := m.find(&token.Token{Raw: "ada R00"}, now)
	m.work(other.line, now)
	b := &arrival{began: now, at: now, from: &token.Token{Raw: "ada R00"}, answer: &descope.Tokens{Session: "ada S0", Refresh: "ada R0"}}
	assert.False(t, m.arrive(other.line, b, now))
	assert.True(t, other.line.ended)
}

// A logout takes no longer for a user with much behind them.
func BenchmarkEnd(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		m, now := newMemory(defaultMaxBytes), time.Now()
		c := &chain{t: new(testing.T), m: &m, name: "ada"}
		for range 60 {
			c.renew(now)
		}
		s := c.find(0, now).signIn
		b.StartTimer()
		m.end(s, now)
	}
}
