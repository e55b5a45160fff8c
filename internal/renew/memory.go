package renew

import (
	"container/list"
	"slices"
	"time"
	"weak"

	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on what is remembered.
const (
	leadsOn       = time.Minute      // a token leads on when its successor has been seen, or it was handed out
	unfetchedKept = 24 * time.Hour   // what nobody has fetched, and what minting left in force
	endedKept     = 10 * time.Minute // a logout
	cutKept       = unfetchedKept    // a logout everywhere: as long as anything from before it
	spentKept     = 24 * time.Hour   // that a token was spent
	atWork        = time.Minute      // a token that nothing is known of, while a call with it is in the air

	maxAlive = 64 // tokens that lead to one sign-in
	maxEnded = 100_000
	maxSpent = 100_000
)

// memory remembers what became of refresh tokens, for those who come late: a request
// that was under way while another spent its token, a client that never got the answer.
// All of it is guarded by the Renewer's lock, and each event takes time in proportion to
// the tokens of one sign-in.
type memory struct {
	places  map[token.Hash]*place
	unshown map[token.Hash]*place // by the session token that came with it, until that is shown
	ended   fading.Map[token.Hash, *signIn]
	spent   fading.Map[token.Hash, weak.Pointer[signIn]] // tokens that do not lead on any more, and whose they were
	cut     fading.Map[string, time.Time]                // when a user was logged out everywhere

	// Sign-ins by what is lost with them, the one that was changed longest ago first:
	// shown ones, of which every client has what it needs, and those with something
	// that nobody has fetched yet, or that only a logout from here can end.
	shown, kept *list.List
	bytes, most int
}

func newMemory(most int) memory {
	return memory{
		places:  make(map[token.Hash]*place),
		unshown: make(map[token.Hash]*place),
		ended:   fading.New[token.Hash, *signIn](maxEnded),
		spent:   fading.New[token.Hash, weak.Pointer[signIn]](maxSpent),
		cut:     fading.New[string, time.Time](maxEnded),
		shown:   list.New(),
		kept:    list.New(),
		most:    most,
	}
}

// find returns where t leads. Of a token that nothing is known of it is a place of its
// own, which is remembered when something happens to it. A client that shows a token has
// it, and all that came with it.
func (m *memory) find(t *token.Token, now time.Time) (p *place, spent bool) {
	hash := token.HashOf(t.Raw)
	if s, ok := m.ended.Get(hash, now); ok {
		return &place{line: s.lines[0], hash: hash}, false
	}
	p = m.places[hash]
	if p != nil && now.Before(p.until) {
		if p.newest.Raw == t.Raw {
			p.newest = t // judged just now
		}
		m.see(p, now)
		return p, false
	}
	if _, spent := m.spent.Get(hash, now); spent || p != nil && p.isSpent() {
		return nil, true
	}
	return m.placeOf(m.begin(t), hash, 0, time.Time{}), false
}

// whose returns the sign-in that a spent token was part of, nil if it is forgotten.
func (m *memory) whose(spent token.Hash, now time.Time) *signIn {
	if p := m.places[spent]; p != nil {
		return p.signIn
	}
	w, _ := m.spent.Get(spent, now)
	if s := w.Value(); s != nil && s.element != nil {
		return s
	}
	return nil
}

func (m *memory) begin(t *token.Token) *line {
	l := &line{signIn: &signIn{user: t.Claims.User()}, newest: t}
	l.signIn.lines = []*line{l}
	return l
}

// lineOf returns the line that is remembered for t, or else l: somebody may have begun one
// since l was found, or ended it.
func (m *memory) lineOf(t *token.Token, l *line, now time.Time) *line {
	hash := token.HashOf(t.Raw)
	if s, ok := m.ended.Get(hash, now); ok {
		return s.lines[0]
	}
	if p := m.places[hash]; p != nil {
		return p.line
	}
	return l
}

// placeOf returns a new place of a line; it is not in the index yet.
func (m *memory) placeOf(l *line, hash token.Hash, number int, until time.Time) *place {
	p := &place{line: l, hash: hash, number: number, until: until}
	l.places = append(l.places, p)
	return p
}

// see notes that a client has shown p's token, or what came with it. All before it lead
// on for a minute and no longer: their holders have been overtaken.
func (m *memory) see(p *place, now time.Time) {
	l := p.line
	if p.number <= l.seen {
		return
	}
	before, end := l.seen, now.Add(leadsOn)
	l.seen = p.number
	for _, shown := range l.places {
		switch {
		case shown.number < before:
			shown.until = earlier(shown.until, end)
		case shown.number < p.number || shown == p && !p.isSpent():
			shown.until = end // else it leads to what nobody has fetched yet
		}
	}
	m.keep(l.signIn, now)
}

// shows notes that a client has shown a session token.
func (m *memory) shows(session token.Hash, now time.Time) {
	if p := m.unshown[session]; p != nil {
		delete(m.unshown, session)
		m.see(p, now)
	}
}

// hand notes that the holder of p's token was given what came last, and may have
// requests under way that set out before.
func (m *memory) hand(p *place, now time.Time) {
	p.until = later(p.until, now.Add(leadsOn))
}

// troubled keeps what Descope said to newest. The first of two refusals waits for who comes
// back late, and would never be told otherwise that it is over.
func (m *memory) troubled(l *line, now time.Time) {
	kept := leadsOn
	if !l.trouble.refused.IsZero() {
		kept = refusalKept
	}
	l.head().until = later(l.head().until, now.Add(kept))
	m.keep(l.signIn, now)
}

// work keeps a line while a call is in the air, so that others find it.
func (m *memory) work(l *line, now time.Time) {
	l.head().until = later(l.head().until, now.Add(atWork))
	m.keep(l.signIn, now)
}

// arrive notes Descope's answer to newest before it is verified: what is spent is spent.
// It returns false if the answer leads elsewhere, or if the sign-in has ended.
func (m *memory) arrive(l *line, a *arrival, now time.Time) bool {
	if l.ended {
		l.unproved = a
		return false
	}
	l.trouble = trouble{}
	l.checked = time.Time{}
	if i := slices.IndexFunc(l.places, func(p *place) bool { return p.number == l.number }); a.shown && i >= 0 {
		m.see(l.places[i], now)
	}
	if a.rotated() {
		hash := token.HashOf(a.answer.Refresh)
		if _, spent := m.spent.Get(hash, now); spent && a.told {
			// What it was spent for was spent in turn, and what came of that has been in
			// use for more than a minute.
			l.unproved = a
			m.drop(l.signIn, now)
			l.unproved = nil
			return false
		}
		if m.join(l, hash, now) {
			return false
		}
		if a.minted {
			m.leave(l.signIn, l.newest, now)
		}
		until := a.at.Add(unfetchedKept)
		l.head().until = until
		m.placeOf(l, hash, l.number+1, until)
	} else {
		l.head().until = later(l.head().until, a.at.Add(max(a.life, leadsOn)))
	}
	l.unproved = a
	m.keep(l.signIn, now)
	return true
}

// takeOver notes what another replica made of a token, unless it is newest no more or this
// one knows what became of it.
func (m *memory) takeOver(l *line, a *arrival, now time.Time) {
	if l.newest.Raw == a.from.Raw && !l.spentUnproved() {
		m.arrive(l, a, now)
	}
}

// leave notes a token that is in force perhaps, though another has taken its place.
func (m *memory) leave(s *signIn, t *token.Token, now time.Time) {
	const maxLeft = 16
	s.left = slices.DeleteFunc(s.left, func(other *token.Token) bool { return other.Raw == t.Raw })
	if s.left = append(s.left, t); len(s.left) > maxLeft {
		s.left = s.left[1:]
	}
	s.mintedUntil = now.Add(unfetchedKept)
}

// join has l lead to where the token in an answer leads already: to a line that went on
// on another replica, whose token was presented here first, or to a logout.
func (m *memory) join(l *line, successor token.Hash, now time.Time) bool {
	if _, ok := m.ended.Get(successor, now); ok {
		m.end(l.signIn, now)
		return true
	}
	p := m.places[successor]
	if p == nil || p.line == l || p.user != l.user || !now.Before(p.until) {
		return false
	}
	// The token that was spent for the successor is the one before it; what is known to
	// have been seen stays seen.
	shift := p.number - 1 - l.number
	for _, before := range l.places {
		before.line, before.number = p.line, before.number+shift
		before.until = later(before.until, now.Add(leadsOn))
	}
	joined, places := p.line, l.places
	l.places = nil
	m.forget(l.signIn)
	joined.places = append(places, joined.places...)
	joined.seen = max(joined.seen, l.seen+shift)
	for _, other := range l.lines {
		if other != l {
			other.signIn = joined.signIn
			joined.lines = append(joined.lines, other)
		}
	}
	joined.left = append(l.left, joined.left...)
	joined.mintedUntil = later(joined.mintedUntil, l.mintedUntil)
	m.keep(joined.signIn, now)
	return true
}

// prove takes over what was verified of the answer to newest. shown says whether a client
// has presented the session in it already, which another replica gave it.
func (m *memory) prove(l *line, r *renewal, shown bool, now time.Time) {
	a := l.unproved
	// Within a second Descope gives the same session again, which says nothing then.
	isNew := l.session == nil || l.session.raw != r.raw
	r.proved = now
	l.unproved, l.last, l.session, l.trouble = nil, a, r, trouble{}
	if a.rotated() {
		l.newest, l.number = r.inForce, l.number+1
	}
	switch {
	case shown && isNew:
		m.see(l.head(), now)
	case isNew:
		p := l.head()
		m.hide(p)
		p.session = token.HashOf(r.raw)
		m.unshown[p.session] = p
	}
	m.keep(l.signIn, now)
}

// hide drops what came with p's token from the index of what is to be shown.
func (m *memory) hide(p *place) {
	if m.unshown[p.session] == p {
		delete(m.unshown, p.session)
	}
}

// branch begins the line of a second factor. Its tokens are for who gave that, and lead
// here so that a logout with one ends all.
func (m *memory) branch(l *line, a *arrival, now time.Time) *line {
	b := &line{signIn: l.signIn, newest: a.successor()}
	l.lines = append(l.lines, b)
	m.placeOf(b, token.HashOf(a.answer.Refresh), 0, now)
	l.mintedUntil = now.Add(unfetchedKept)
	m.keep(l.signIn, now)
	return b
}

// part gives an answer that minting brought a line of its own, because another replica's
// is newest's: both tokens are in force, each with a client of its own.
func (m *memory) part(l *line, a *arrival, now time.Time) {
	hash := token.HashOf(a.answer.Refresh)
	l.places = slices.DeleteFunc(l.places, func(p *place) bool { return p.hash == hash })
	l.unproved = nil
	m.branch(l, a, now)
}

// signedIn notes a sign-in. Descope's tokens are the same for the same second: it may
// be the very token that was logged out a moment ago.
func (m *memory) signedIn(a *arrival, r *renewal, now time.Time) {
	hash := token.HashOf(r.inForce.Raw)
	m.ended.Drop(hash)
	m.spent.Drop(hash)
	if p := m.places[hash]; p != nil {
		m.forget(p.signIn)
	}
	l := m.begin(r.inForce)
	m.placeOf(l, hash, 0, a.at.Add(leadsOn))
	l.last, l.session = a, r
	m.keep(l.signIn, now)
}

// end notes a logout of all lines, or another one of them: it serves nobody any more, and
// its tokens lead to it, so that a repeat can go on should Descope not hear of this one.
func (m *memory) end(s *signIn, now time.Time) {
	if !s.ended {
		m.forget(s)
		s.ended = true
		s.owe(s.lines, s.left)
		s.left = nil
	}
	m.lead(s, now)
}

// absorb ends the sign-in that a token leads to as well, which turned out to be one with s.
func (m *memory) absorb(s *signIn, t *token.Token, now time.Time) {
	p := m.places[token.HashOf(t.Raw)]
	if p == nil || p.signIn == s || p.ended {
		return
	}
	other := p.signIn
	m.forget(other)
	s.mintedUntil = later(s.mintedUntil, other.mintedUntil)
	s.owe(other.lines, other.left)
	for _, l := range other.lines {
		l.signIn = s
	}
	s.lines = append(s.lines, other.lines...)
	m.lead(s, now)
}

// owe notes what Descope has to hear of, the newest first.
func (s *signIn) owe(lines []*line, left []*token.Token) {
	for _, l := range slices.Backward(lines) {
		l.session, l.last, l.trouble = nil, nil, trouble{}
		s.owed = append(s.owed, debt{Token: l.inForce()})
	}
	for _, t := range slices.Backward(left) {
		s.owed = append(s.owed, debt{t, true})
	}
}

// lead has all tokens of a sign-in that has ended lead there: for ten minutes, or as long
// as what minting left is remembered, because another replica that was told of the logout
// may not know of that.
func (m *memory) lead(s *signIn, now time.Time) {
	keep := max(endedKept, s.mintedUntil.Sub(now))
	for _, l := range s.lines {
		for _, p := range l.places {
			m.ended.Put(p.hash, s, now, keep)
		}
	}
	for _, d := range s.owed {
		m.ended.Put(token.HashOf(d.Raw), s, now, keep)
	}
}

// endAlso has one more token lead to a logout, and be told of.
func (m *memory) endAlso(s *signIn, d debt, now time.Time) {
	s.settle(d.Token)
	s.owed = append([]debt{d}, s.owed...)
	m.lead(s, now)
}

// wasCut reports whether the user was logged out everywhere when the call for a had
// begun. Nobody can tell which of the two Descope dealt with first.
func (m *memory) wasCut(user string, began, now time.Time) bool {
	at, ok := m.cut.Get(user, now)
	return ok && !at.Before(began)
}

// keep remembers a sign-in that was changed: in the indexes, and in the list of what is
// lost with it. Then it makes room.
func (m *memory) keep(s *signIn, now time.Time) {
	if s.ended {
		return
	}
	m.sweep(now)
	m.unlist(s)
	s.in = m.shown
	for _, l := range s.lines {
		l.head().until = later(l.head().until, s.mintedUntil)
		m.prune(l, now)
		for _, p := range l.places {
			m.places[p.hash] = p
		}
		if l.isUnfetched() || now.Before(s.mintedUntil) {
			s.in = m.kept
		}
	}
	s.element, s.bytes = s.in.PushBack(s), s.weight()
	m.bytes += s.bytes
	m.evict(s)
}

// prune drops what does not lead on any more; that it was spent is remembered.
func (m *memory) prune(l *line, now time.Time) {
	alive := l.places[:0]
	for i, p := range l.places {
		if i == len(l.places)-1 || now.Before(p.until) {
			alive = append(alive, p)
			continue
		}
		delete(m.places, p.hash)
		m.hide(p)
		if p.isSpent() {
			m.spent.Put(p.hash, weak.Make(p.signIn), now, spentKept)
		}
	}
	l.places = alive
}

func (m *memory) unlist(s *signIn) {
	if s.element != nil {
		s.in.Remove(s.element)
		m.bytes -= s.bytes
		s.element = nil
	}
}

// forget drops a sign-in, but not that its tokens were spent.
func (m *memory) forget(s *signIn) {
	m.unlist(s)
	for _, l := range s.lines {
		for _, p := range l.places {
			m.hide(p)
			if m.places[p.hash] == p {
				delete(m.places, p.hash)
			}
		}
	}
}

// drop forgets a sign-in for want of room or of use.
func (m *memory) drop(s *signIn, now time.Time) {
	m.forget(s)
	for _, l := range s.lines {
		for _, p := range l.places {
			if p.isSpent() {
				m.spent.Put(p.hash, weak.Make(p.signIn), now, spentKept)
			}
		}
	}
}

// sweep drops what is of no use any more. Each list is in the order of its changes, and
// lives about as long after one as the others in it.
func (m *memory) sweep(now time.Time) {
	for _, l := range []*list.List{m.shown, m.kept} {
		for e := l.Front(); e != nil; e = l.Front() {
			s := e.Value.(*signIn)
			if now.Before(s.until()) {
				break
			}
			m.drop(s, now)
		}
	}
	if m.isEmpty() {
		// A map does not shrink by itself.
		m.places, m.unshown = make(map[token.Hash]*place), make(map[token.Hash]*place)
	}
}

func (m *memory) isEmpty() bool { return len(m.places) == 0 && len(m.unshown) == 0 }

// evict makes room, but not of what was changed last: what has been shown goes first,
// and what nobody has fetched last of all.
func (m *memory) evict(last *signIn) {
	for _, l := range []*list.List{m.shown, m.kept} {
		for e := l.Front(); e != nil && m.bytes > m.most; {
			s := e.Value.(*signIn)
			e = e.Next()
			if s != last && !s.inTheAir() {
				m.drop(s, time.Now())
			}
		}
	}
}

func (s *signIn) inTheAir() bool {
	return slices.ContainsFunc(s.lines, func(l *line) bool { return l.flight != nil || l.askers > 0 })
}
