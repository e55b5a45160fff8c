package races_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Replicas learn what became of a token in any order. What one learns of R1 may lead to
// R2, which it knows already by itself: as logged out, or as spent for R3. From then on
// the two are one sign-in here. Nothing else that is tested notices if they are not.

// A joinStep is one request of a client that has only this refresh token, or something
// that happens to the store.
type joinStep struct {
	do      string // "page", "refresh", "select", "logout" or "step-up"; or of the store "wipe", "refuse" (A) or "heal"
	replica int
	token   string // presented
	gets    string // the name of the refresh token that it is given, "": nobody looks
}

const (
	onA = iota
	onB
	onC
)

// A joinCase is what happened, and then a request that is judged, at A.
type joinCase struct {
	name    string
	keep    bool // Descope does not rotate
	before  []joinStep
	ask     joinStep
	status  int
	session string   // the refresh token whose session it is served with
	cookies bool     // it is given tokens
	calls   int      // to Descope about tokens
	dead    []string // refresh tokens that Descope does not honour afterwards
}

var (
	// R1 becomes R2 at B, which A has not been told.
	elsewhere = joinStep{"refresh", onB, "R1", "R2"}
	further   = joinStep{"refresh", onA, "R2", "R3"}
	lateAtA   = joinStep{"page", onA, "R1", ""}
	wipe      = joinStep{do: "wipe"}
	refuse    = joinStep{do: "refuse"}
	heal      = joinStep{do: "heal"}
)

var joinCases = []joinCase{
	{name: "the successor was logged out here", before: []joinStep{elsewhere, {"logout", onA, "R2", ""}},
		ask: lateAtA, status: 401, dead: []string{"R2"}},
	{name: "and the store was not told", before: []joinStep{elsewhere, refuse, {"logout", onA, "R2", ""}, heal},
		ask: lateAtA, status: 401, dead: []string{"R2"}},
	{name: "the successor's successor was logged out here", before: []joinStep{elsewhere, {"refresh", onB, "R2", "R3"}, {"logout", onA, "R3", ""}},
		ask: lateAtA, status: 401, dead: []string{"R3"}},
	{name: "and the store was not told of that", before: []joinStep{elsewhere, {"refresh", onB, "R2", "R3"}, refuse, {"logout", onA, "R3", ""}, heal},
		ask: lateAtA, status: 401, dead: []string{"R3"}},
	{name: "what became of it here was logged out here", before: []joinStep{elsewhere, further, {"logout", onA, "R3", ""}},
		ask: lateAtA, status: 401, dead: []string{"R3"}},
	{name: "and the store was told nothing", before: []joinStep{elsewhere, refuse, further, {"logout", onA, "R3", ""}, heal},
		ask: lateAtA, status: 401, dead: []string{"R3"}},
	{name: "a tenant was selected elsewhere, then a logout here", before: []joinStep{{"select", onB, "R1", "R2"}, {"logout", onA, "R2", ""}},
		ask: lateAtA, status: 401, dead: []string{"R2"}},
	{name: "the same without rotation", keep: true, before: []joinStep{{"select", onB, "R1", "R2"}, {"logout", onA, "R2", ""}},
		ask: lateAtA, status: 401, dead: []string{"R2"}},
	{name: "a logout with the first token after the sign-ins are one", before: []joinStep{elsewhere, {"logout", onA, "R2", ""}, lateAtA, wipe},
		ask: lateAtA, status: 401},

	{name: "the successor went on here", before: []joinStep{elsewhere, further},
		ask: lateAtA, status: 200, session: "R3"},
	{name: "and the store has lost it since", before: []joinStep{elsewhere, further, lateAtA, wipe},
		ask: lateAtA, status: 200, session: "R3"},
	{name: "the successor went on on a third", before: []joinStep{elsewhere, {"refresh", onC, "R2", "R3"}},
		ask: lateAtA, status: 200, session: "R3"},
	{name: "after a tenant was selected elsewhere", before: []joinStep{{"select", onB, "R1", "R2"}, further},
		ask: lateAtA, status: 200, session: "R3"},
	{name: "without rotation", keep: true, before: []joinStep{{"select", onB, "R1", "R2"}, {"refresh", onA, "R2", "R2"}},
		ask: lateAtA, status: 200, session: "R2"},
	{name: "the first was renewed here, too, without rotation", keep: true,
		before: []joinStep{{"refresh", onA, "R1", "R1"}, {"select", onB, "R1", "R2"}, {"refresh", onA, "R2", "R2"}},
		ask:    lateAtA, status: 200, session: "R2"},
	{name: "nobody has shown the successor", before: []joinStep{elsewhere},
		ask: lateAtA, status: 200, session: "R2", cookies: true},

	{name: "a logout with the first token", before: []joinStep{elsewhere, further},
		ask: joinStep{"logout", onA, "R1", ""}, status: 200, calls: 1, dead: []string{"R3"}},
	{name: "a logout with the first token when the store has lost it", before: []joinStep{elsewhere, further, lateAtA, wipe},
		ask: joinStep{"logout", onA, "R1", ""}, status: 200, calls: 1, dead: []string{"R3"}},
	{name: "a logout with the last one", before: []joinStep{elsewhere, further, lateAtA, wipe, {"logout", onA, "R3", ""}},
		ask: lateAtA, status: 401, dead: []string{"R3"}},
	{name: "a logout with the first one, of the last after a tenant was selected elsewhere", keep: true,
		before: []joinStep{{"select", onB, "R1", "R2"}, {"refresh", onA, "R2", "R2"}},
		ask:    joinStep{"logout", onA, "R1", ""}, status: 200, calls: 2, dead: []string{"R1", "R2"}},
	{name: "a second factor of what went on is ended with it", before: []joinStep{elsewhere, further, {"step-up", onA, "R3", "R4"}, lateAtA, wipe},
		ask: joinStep{"logout", onA, "R1", ""}, status: 200, calls: 2, dead: []string{"R3", "R4"}},
	{name: "a second factor that was given here before", before: []joinStep{{"step-up", onA, "R1", "R4"}, elsewhere, further, lateAtA},
		ask: joinStep{"logout", onA, "R4", ""}, status: 200, calls: 2, dead: []string{"R3", "R4"}},
}

func TestJoin(t *testing.T) {
	for _, c := range joinCases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t) })
		})
	}
}

func (c *joinCase) run(t *testing.T) {
	w := newWorld(setup{
		Rotate: !c.keep, SessionTTL: 10 * time.Minute, RefreshTTL: 28 * 24 * time.Hour,
		Replicas: 3, Shared: true, Browsers: []int{0}, Wire: []time.Duration{5 * time.Millisecond},
	})
	named := map[string]string{"R1": w.browsers[0].jar.refresh}
	defer func() {
		if t.Failed() {
			t.Log(strings.Join(w.trace, "\n"))
		}
	}()
	for r := range w.replicas { // with a token of its own, so that all have the keys
		require.NoError(t, w.replicas[r].auth.Ready(t.Context()))
	}
	elapse(2 * time.Minute) // the store is young no longer
	for _, s := range c.before {
		w.step(t, s, named)
	}
	w.mu.Lock()
	calls := w.counts[callsAboutTokens]
	w.mu.Unlock()

	v := w.step(t, c.ask, named)
	set, _ := v.answer.cookies()
	require.Equal(t, c.status, v.answer.status, "%s", v.said())
	if _, raw := v.sessionIn(); c.session != "" {
		require.NotNil(t, w.sessions[raw])
		assert.Equal(t, named[c.session], w.sessions[raw].token.raw, "the session is that of %s", c.session)
	}
	if c.ask.do == "page" {
		assert.Equal(t, c.cookies, set.session != nil || set.refresh != nil, "is given tokens")
	}
	assert.Equal(t, c.calls, w.counts[callsAboutTokens]-calls, "calls to Descope")
	for _, name := range c.dead {
		assert.False(t, w.srv.Honours(named[name]), name)
	}
	w.settle()
	assert.Empty(t, w.violations)
}

// step lets one thing happen and waits for what comes of it.
func (w *world) step(t *testing.T, s joinStep, named map[string]string) *visit {
	elapse(2 * time.Second)
	switch s.do {
	case "wipe":
		wipeStore{}.do(w)
		return nil
	case "refuse":
		storeTrouble{onA, storeRefuses, 100}.do(w)
		return nil
	case "heal":
		clear(w.faults)
		return nil
	}
	kinds := map[string]kind{"page": askPage, "refresh": askRefresh, "select": askSelect, "logout": askLogout, "step-up": askStepUp}
	w.browsers[0].jar = cookies{refresh: named[s.token]}
	v := w.send(ask{Kind: kinds[s.do], Replica: s.replica})
	w.tasks.Wait()
	if s.gets == "" {
		return v
	}
	require.Equal(t, http.StatusOK, v.answer.status, "%v: %s", s, v.said())
	got := w.browsers[0].jar.refresh
	if was, ok := named[s.gets]; ok {
		require.Equal(t, w.nameOf(was), w.nameOf(got))
	}
	named[s.gets] = got
	return v
}
