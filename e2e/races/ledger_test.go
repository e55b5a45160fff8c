package races_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// What the ledger holds for the contract.

// A line is what one refresh token became. A second factor begins another of the same
// sign-in. Descope's detection of reuse ends a line.
type line struct {
	signIn   *signIn
	killed   time.Time
	troubles map[*replica]*trouble
}

func (si *signIn) newLine() *line {
	l := &line{signIn: si, troubles: make(map[*replica]*trouble)}
	si.lines = append(si.lines, l)
	return l
}

// A trouble is what went wrong with the refreshes of a line, in a row.
type trouble struct {
	token *refreshToken // that the last was about
	times int
	last  time.Time
}

// A fate is what became of a refresh token.
type fate struct {
	line *line
	from *edge   // nil for a sign-in
	kids []*edge // what came of it, as far as a replica received it

	spent time.Time // Descope gave another for it, whoever knows
	lost  bool      // and the answer reached nobody

	dead time.Time // last presented to Descope when that did not honour it

	mentioned time.Time // a client had it, or the session that came with it
	shown     map[*replica][]shown
	served    map[*replica]time.Time // first, with it or with a session that came with it
	refusals  []refusal
	revoked   int // logouts with it that failed
}

// A shown is when a client first showed a token to a replica that could judge it.
type shown struct{ arrived, answered time.Time }

type refusal struct {
	at      time.Time
	replica *replica
	code    string
	path    string
}

// An edge is a call of a replica that brought one token for another.
type edge struct {
	from, to  *refreshToken
	by        *replica
	began, at time.Time
	minted    bool // the old one may be in force yet
	second    bool // it begins a line, as a second factor does
	refreshed bool // by a refresh, which is remembered a minute after what it brought was shown
	shown     bool // a client had shown the old one
}

// A failedPut is a value that a replica could not store.
type failedPut struct {
	key    string
	at     time.Time
	mended time.Time // when it could
}

// A standing is what the contract asks about a visit.
type standing struct {
	token      *refreshToken
	lateFor    *refreshToken // something newer that its replica knows to have been seen, as it arrived
	calls      int           // to Descope about a token, begun for it
	refreshed  int           // refreshes for it that brought something
	refused    *refusal      // the last, in a call begun for it
	everywhere time.Time     // Descope logged its user out everywhere
}

// A logout is one that was answered.
type logout struct {
	visit      *visit
	everywhere bool
	done       bool                   // 200
	covers     map[*refreshToken]bool // what it has to end
	lines      map[*line]bool         // whose newest is among them
	untold     bool                   // the store could not be told
}

type visitKey struct{}

// next returns the refresh tokens that came of t in its line.
func (t *refreshToken) after() (later []*refreshToken) {
	todo := []*refreshToken{t}
	for len(todo) > 0 {
		for _, e := range todo[0].kids {
			if !e.second && !slices.Contains(later, e.to) && e.to != t {
				later = append(later, e.to)
				todo = append(todo, e.to)
			}
		}
		todo = todo[1:]
	}
	return later
}

// mayEnd reports whether a call spends a token or may.
func (c *call) spends() bool {
	return c.token != nil && (c.path == refreshPath || c.path == selectPath || c.path == verifyPath)
}

// branches reports whether what a call brings begins a line: by a second factor, or where
// two replicas made something of a token that stayed in force.
func (c *call) branches() bool {
	return c.path == verifyPath || slices.ContainsFunc(c.token.kids, func(e *edge) bool { return e.minted && !e.second && e.by != c.replica })
}

// noteSpent enters what Descope made of the token, whoever learns of it.
func (w *world) noteSpent(c *call, honoured bool, answer []byte) {
	t := c.token
	var tokens struct{ RefreshJwt, ErrorCode string }
	_ = json.Unmarshal(answer, &tokens)
	fresh := tokens.RefreshJwt != "" && tokens.RefreshJwt != t.raw
	if c.spends() && !honoured && t.spent.IsZero() && (fresh || c.honoured) && !w.endedBefore(t.signIn, c.presented) {
		t.spent, t.lost = c.presented, !fresh
	}
	refusedLater := slices.ContainsFunc(t.refusals, func(r refusal) bool { return r.at.After(t.spent) })
	again := t.spent == c.presented && (t.dead.After(t.spent) || refusedLater)
	ends := tokens.ErrorCode == "E061005" || tokens.ErrorCode == "E064001" || !c.honoured || again
	if w.setup.Reuse && ends && t.line.killed.IsZero() && !t.spent.IsZero() {
		t.line.killed = c.presented
		w.note("    Descope ends the line of %s, because it was spent", t.name)
	}
}

func (w *world) endedBefore(si *signIn, at time.Time) bool {
	return !si.ending.IsZero() && si.ending.Before(at)
}

// noteArrival enters that a replica has the answer to a call.
func (w *world) noteArrival(c *call, inForce *refreshToken) {
	if c.token == nil {
		return
	}
	clear(c.token.line.troubles)
	if c.visit != nil && c.path == refreshPath {
		c.visit.refreshed++
	}
	if inForce == c.token || inForce.from != nil {
		return
	}
	e := &edge{
		from: c.token, to: inForce, by: c.replica, began: c.began, at: time.Now(),
		second: c.branches(), refreshed: c.path == refreshPath,
		shown:  c.visit != nil && c.visit.token == c.token || w.hasShown(c.replica, c.token, time.Now()),
		minted: c.path != refreshPath && c.token.spent.IsZero(),
	}
	c.token.kids = append(c.token.kids, e)
	c.token.lost = false
	inForce.from = e
}

// noteLanded enters how a call ended, seen from the replica.
func (w *world) noteLanded(c *call, res *http.Response, answer []byte, cut, err error) {
	w.air = slices.DeleteFunc(w.air, func(other *call) bool { return other == c })
	if c.token == nil || !c.replica.crash.IsZero() {
		return
	}
	if c.spends() && c.ctx.Err() != nil && time.Since(c.began) < airTime {
		w.violate(ruleAir, "%v gives up %s of %s after %v", c.replica, c.path, c.token.name, time.Since(c.began))
	}
	var said struct{ ErrorCode string }
	if err == nil && cut == nil {
		_ = json.Unmarshal(answer, &said)
	}
	ends := said.ErrorCode == "E061005" || said.ErrorCode == "E064001"
	failed := err != nil || cut != nil || res.StatusCode >= 300
	if ends {
		w.noteRefused(c, said.ErrorCode)
	}
	if c.path == logoutPath && failed && !ends {
		c.token.revoked++
	}
	if c.path != refreshPath || c.ctx.Err() != nil || ends || err == nil && res.StatusCode == http.StatusTooManyRequests {
		return
	}
	if failed {
		tr := c.token.line.troubles[c.replica]
		if tr == nil {
			tr = new(trouble)
			c.token.line.troubles[c.replica] = tr
		}
		if time.Since(tr.last) > window {
			tr.times = 0 // which is remembered no longer
		}
		tr.times++
		tr.token = c.token
		tr.last = time.Now()
	}
}

func (w *world) noteRefused(c *call, code string) {
	r := refusal{time.Now(), c.replica, code, c.path}
	c.token.refusals = append(c.token.refusals, r)
	if c.visit != nil {
		c.visit.refused = &r
	}
}

// noteShown enters what a request presents as it arrives.
func (w *world) noteShown(v *visit, t *refreshToken) {
	v.token = t
	for _, later := range t.after() {
		if w.hasSeen(v.replica, later, v.arrived) && w.leadsTo(t, later, v.replica, v.arrived) {
			v.lateFor = later
		}
	}
	w.mention(t)
	if s := w.sessions[v.sent.session]; s != nil {
		w.mention(s.token)
	}
}

func (w *world) mention(t *refreshToken) {
	if t.mentioned.IsZero() {
		t.mentioned = time.Now()
	}
}

// noteSeen enters that a replica could judge what a request presented.
func (w *world) noteSeen(v *visit) {
	see := func(t *refreshToken) {
		if t == nil {
			return
		}
		if t.shown == nil {
			t.shown = make(map[*replica][]shown)
		}
		t.shown[v.replica] = append(t.shown[v.replica], shown{v.arrived, time.Now()})
	}
	if v.answer.status >= 500 || v.Kind == askSignIn && v.Mount == bare { // which looks at no cookie
		return
	}
	if _, raw := v.sessionIn(); w.sessions[raw] != nil && raw == v.sent.session {
		if w.sessions[raw].known[v.replica] {
			see(w.sessions[raw].token) // and the refresh token may not have been looked at
		}
		return
	}
	see(v.token)
}

// noteServed enters that a replica has handed t out, or a session that came with it.
func (t *refreshToken) noteServed(r *replica) {
	if t.served == nil {
		t.served = make(map[*replica]time.Time)
	}
	if t.served[r].IsZero() {
		t.served[r] = time.Now()
	}
}

// hasSeen reports whether a replica has to know at a time that a client has shown t: it
// was shown there, where t was known, or on another that spent it then and could tell.
func (w *world) hasSeen(r *replica, t *refreshToken, at time.Time) bool {
	for _, e := range t.kids {
		if e.shown && !e.second && w.isTold(e, r, at) && !r.failing(at.Add(-storeRest), at) {
			return true
		}
	}
	return w.hasShown(r, t, at)
}

// hasShown is hasSeen, as far as a replica can tell alone. What it neither spent nor
// brought it remembers while its session lives.
func (w *world) hasShown(r *replica, t *refreshToken, at time.Time) bool {
	known := t.served[r]
	forgets := true
	if t.from != nil && t.from.by == r {
		known, forgets = t.from.at, false
	}
	for _, e := range t.kids {
		if e.by == r && (known.IsZero() || e.at.Before(known)) {
			known, forgets = e.at, false
		}
	}
	if known.IsZero() || forgets && at.Sub(known) >= w.setup.SessionTTL {
		return false
	}
	return slices.ContainsFunc(t.shown[r], func(s shown) bool { return !s.arrived.Before(known) && s.answered.Before(at) })
}

// mayBeLate reports whether anybody has had something newer than t.
func (t *refreshToken) mayBeLate() bool {
	return slices.ContainsFunc(t.after(), func(later *refreshToken) bool { return !later.mentioned.IsZero() })
}

// connected reports whether a replica has to know that two tokens are of one sign-in.
func (w *world) connected(a, b *refreshToken, r *replica) bool {
	up := func(t *refreshToken) []*refreshToken {
		way := []*refreshToken{t}
		for t.from != nil && w.isTold(t.from, r, time.Now()) {
			t = t.from.from
			way = append(way, t)
		}
		return way
	}
	theirs := up(b)
	return slices.ContainsFunc(up(a), func(t *refreshToken) bool { return slices.Contains(theirs, t) })
}

// leadsTo reports whether a replica has to know that later came of t.
func (w *world) leadsTo(t, later *refreshToken, r *replica, at time.Time) bool {
	for later != t && later.from != nil && w.isTold(later.from, r, at) {
		later = later.from.from
	}
	return later == t
}

// isTold reports whether a replica has to find an edge in the store.
func (w *world) isTold(e *edge, r *replica, at time.Time) bool { return w.untoldWhy(e, r, at) == "" }

// untoldWhy says why a replica may not know of an edge.
func (w *world) untoldWhy(e *edge, r *replica, at time.Time) string {
	switch age := at.Sub(e.at); {
	case e.by == r:
		return ""
	case w.store == nil:
		return "another process, and no store"
	case e.second:
		return "second factors are not shared"
	case age < tellTime:
		return "just being told"
	case age > storeLife:
		return "links live ten minutes in the store"
	case w.wipedSince(e.at):
		return "the store was emptied"
	case !e.by.crash.IsZero() && e.by.crash.Sub(e.at) < tellTime:
		return "what a killed process had in the air"
	case slices.ContainsFunc(e.from.kids, func(other *edge) bool { return other.by != e.by && !other.second && other.at.Before(e.at) }):
		return "another replica's link was there before it"
	}
	for _, f := range e.by.puts {
		since := f.at.Sub(e.at)
		if 0 <= since && since < 3*time.Second && (f.mended.IsZero() || f.mended.After(at)) {
			return "its publish failed"
		}
	}
	return ""
}

const (
	airTime   = 30*time.Second - 50*time.Millisecond // of a call that spends
	storeRest = 1300 * time.Millisecond              // a store that failed is not asked again at once
	storeLife = 10*time.Minute - 10*time.Second      // with what there is to tell
	tellTime  = 300 * time.Millisecond

	storeTimeout = 260 * time.Millisecond // when a call that hangs has failed
	loadBudget   = time.Second            // LoadSession does not make a page wait longer
	doubtTime    = 60 * time.Second
)

func (w *world) wipedSince(t time.Time) bool {
	return slices.ContainsFunc(w.wipes, func(at time.Time) bool { return !at.Before(t) })
}

// failing reports whether a call of r to the store failed in a time.
func (r *replica) failing(since, until time.Time) bool {
	return slices.ContainsFunc(r.cutOff, func(at time.Time) bool { return !at.Before(since) && !at.After(until) })
}

// noteStored enters how storing a value ended. It locks.
func (w *world) noteStored(r *replica, key string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if err != nil {
		r.puts = append(r.puts, &failedPut{key: key, at: now})
		return
	}
	for _, f := range r.puts {
		if f.key == key && f.mended.IsZero() {
			f.mended = now
		}
	}
}
