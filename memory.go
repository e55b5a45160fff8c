package descopehttp

import (
	"time"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on what is remembered of refresh tokens.
const (
	successorWindow = 60 * time.Second // a spent token still leads to its successor
	maxWalk         = 16               // successors followed from one token
	refusalWindow   = 60 * time.Second // a refusal is remembered
	refusalConfirms = 10 * time.Second // a second refusal this much later deletes cookies
	endedWindow     = 10 * time.Minute // a logout is remembered
	maxLinks        = 10_000
	maxRefusals     = 10_000
	maxEnded        = 100_000 // more than Descope could be told of in that time
)

// memory remembers what became of refresh tokens, for those who come late: a
// request that was under way while another spent its token, a client that never
// got the answer. It is guarded by the refresher's lock.
type memory struct {
	links    fading.Map[token.Hash, *link] // by the refresh token that was presented
	issued   fading.Map[token.Hash, *link] // by the refresh token that the answer brought
	sessions fading.Map[token.Hash, *link] // by the session token that nobody has presented yet
	private  fading.Map[token.Hash, *link] // that led to a second factor: for a logout only

	refused fading.Map[token.Hash, time.Time] // when Descope first refused a token
	ended   fading.Map[token.Hash, struct{}]  // tokens that were logged out
	told    fading.Map[token.Hash, struct{}]  // those of them whose logout is done
	cut     fading.Map[string, time.Time]     // when a user was logged out everywhere
	tried   fading.Map[token.Hash, struct{}]  // tokens that were lately renewed ahead of need
}

func newMemory() memory {
	return memory{
		links:    fading.New[token.Hash, *link](maxLinks),
		issued:   fading.New[token.Hash, *link](maxLinks),
		sessions: fading.New[token.Hash, *link](maxLinks),
		private:  fading.New[token.Hash, *link](maxLinks),
		refused:  fading.New[token.Hash, time.Time](maxRefusals),
		ended:    fading.New[token.Hash, struct{}](maxEnded),
		told:     fading.New[token.Hash, struct{}](maxEnded),
		cut:      fading.New[string, time.Time](maxEnded),
		tried:    fading.New[token.Hash, struct{}](maxLinks),
	}
}

// A link leads from a refresh token to Descope's answer to it.
type link struct {
	began   time.Time    // when the call was made: the token was spent no earlier
	at      time.Time    // when the answer came: the token was spent no later
	from    *token.Token // nil for a sign-in
	answer  *descope.Tokens
	life    time.Duration // of the session in the answer, 0 if that cannot be told
	expiry  time.Time     // of that session
	renewal *renewal      // the answer verified, or nil: its key may not be there yet

	presented bool      // a client has shown the session, so the answer has arrived
	revoked   bool      // the key of the session was
	used      time.Time // when the successor was first seen in use
	handed    time.Time // when a late request was last served with it
	ended     bool      // a logout came: only another one may follow it
	minted    bool      // by another call than a refresh: the old token may be in force yet
}

// alive reports whether the link may still be followed: for a minute after the
// token was spent, and while nobody has presented the successor for as long as
// its session lives, because the client may never have got it. When the successor
// reaches a client, by its own account or because it was handed out again, requests
// that set out with the old token may be on their way for another minute.
func (l *link) alive(now time.Time) bool {
	age := now.Sub(l.at)
	return age < successorWindow || !l.presented && age < l.life ||
		now.Sub(l.used) < successorWindow || now.Sub(l.handed) < successorWindow
}

func (l *link) use(now time.Time) {
	if l.used.IsZero() {
		l.used = now
	}
}

// rotated reports whether the answer brought another refresh token.
func (l *link) rotated() bool {
	return l.answer.Refresh != "" && (l.from == nil || l.answer.Refresh != l.from.Raw)
}

// remember keeps an answer before it is verified. What is spent is spent: should
// verification fail for now, the next request tries it again on the same answer.
func (m *memory) remember(l *link) {
	if l.from != nil {
		if before, ok := m.issued.Get(token.HashOf(l.from.Raw), l.at); ok {
			before.use(l.at) // which keeps it for another minute
		}
	}
	for _, links := range []*fading.Map[token.Hash, *link]{&m.links, &m.issued, &m.sessions} {
		links.Trim(func(old *link) bool { return !old.alive(l.at) })
	}
	// A call that begins while the link is alive may end later, and is followed by
	// another minute.
	keep := max(successorWindow, l.life) + 2*refreshTimeout + successorWindow
	if l.from != nil {
		m.links.Put(token.HashOf(l.from.Raw), l, l.at, keep)
	}
	if l.rotated() {
		m.issued.Put(token.HashOf(l.answer.Refresh), l, l.at, keep)
	}
	m.sessions.Put(token.HashOf(l.answer.Session), l, l.at, keep)
}

// forget drops what remember kept.
func (m *memory) forget(l *link) {
	if l.from != nil {
		m.links.Drop(token.HashOf(l.from.Raw))
	}
	m.issued.Drop(token.HashOf(l.answer.Refresh))
	m.sessions.Drop(token.HashOf(l.answer.Session))
}

// A trace is where a refresh token leads. What it says of links is of the moment that
// it was walked: they change under the lock.
type trace struct {
	newest  *token.Token
	last    *link // that led to newest, nil if nothing is known
	ended   bool  // a logout came on the way
	endless bool  // there are more successors than are followed
	// spent: newest was, for an answer that has not been verified yet. It must not be
	// presented again.
	spent bool
	// late: the token was spent, and the session that came of it has been seen in use.
	late bool
}

// err says why nothing may come of the newest token.
func (p trace) err() error {
	switch {
	case p.ended:
		return errLoggedOut
	case p.endless: // what is known to be spent is not presented
		return errManySuccessors
	}
	return nil
}

// leadsOn reports whether something came of the token that is not about to end; the
// lock is held.
func (p trace) leadsOn(now time.Time) bool {
	return p.last != nil && (p.last.renewal == nil || p.last.rotated() || !isDue(&p.last.renewal.session.shared.Claims, now))
}

// walk follows a refresh token to the newest one that came of it.
func (m *memory) walk(t *token.Token, now time.Time) trace {
	p := trace{newest: t, ended: m.hasEnded(t, now), endless: true}
	for range maxWalk {
		l, ok := m.links.Get(token.HashOf(p.newest.Raw), now)
		if !ok || !l.alive(now) {
			p.endless = false
			break
		}
		p.last = l
		p.ended = p.ended || l.ended
		if l.renewal == nil || !l.rotated() {
			p.endless = false
			p.spent = l.renewal == nil && l.rotated()
			break
		}
		p.newest = l.renewal.inForce
		p.ended = p.ended || m.hasEnded(p.newest, now)
	}
	p.late = p.newest != t && p.last.presented
	return p
}

// trail returns the spent tokens that lead from t to newest.
func (m *memory) trail(t, newest *token.Token, now time.Time) []*token.Token {
	var spent []*token.Token
	for len(spent) < maxWalk && t.Raw != newest.Raw {
		l, ok := m.links.Get(token.HashOf(t.Raw), now)
		if !ok || l.renewal == nil {
			break
		}
		spent = append(spent, t)
		t = l.renewal.inForce
	}
	return spent
}

// cameWith returns the link whose answer brought t, if that was within the last
// minute: its session is as new as one that Descope would give for t now.
func (m *memory) cameWith(t *token.Token, now time.Time) *link {
	l, ok := m.issued.Get(token.HashOf(t.Raw), now)
	if !ok {
		return nil
	}
	l.presented = true
	l.use(now)
	if now.Sub(l.at) >= successorWindow {
		return nil
	}
	return l
}

// notePresented notes that a client has the session token.
func (m *memory) notePresented(session string, now time.Time) {
	id := token.HashOf(session)
	if l, ok := m.sessions.Get(id, now); ok {
		l.presented = true
		l.use(now)
		m.sessions.Drop(id)
	}
}

// end notes a logout under t and all that came of it, and returns what is to be ended
// at Descope: the newest token, and what second factors brought on the way. The links
// stay, to be followed by another logout should Descope not hear of this one, but they
// serve nobody any more, not even when the logout is forgotten.
func (m *memory) end(t *token.Token, now time.Time) (newest []*token.Token) {
	todo := []*token.Token{t}
	for range maxLinks { // also should links ever lead in a circle
		if len(todo) == 0 {
			break
		}
		t := todo[0]
		id := token.HashOf(t.Raw)
		todo = todo[1:]
		m.ended.Put(id, struct{}{}, now, endedWindow)
		if l, ok := m.issued.Get(id, now); ok {
			l.ended = true
			m.issued.Drop(id)
		}
		if l, ok := m.private.Get(id, now); ok {
			m.private.Drop(id)
			todo = append(todo, l.successor())
		}
		l, ok := m.links.Get(id, now)
		if ok {
			l.ended = true
		}
		if ok && l.rotated() {
			todo = append(todo, l.successor())
		}
		if !ok || !l.rotated() || l.minted {
			newest = append(newest, t)
		}
	}
	return append(newest, todo...)
}

// successor returns the refresh token that the answer brought, verified or not.
func (l *link) successor() *token.Token {
	if l.renewal != nil {
		return l.renewal.inForce
	}
	return &token.Token{Raw: l.answer.Refresh, Claims: l.from.Claims}
}

// endUser notes that a user was logged out everywhere: what is remembered of them
// serves nobody any more, and what is under way for them hands out nothing. The links
// stay, so that what was spent is not presented again.
func (m *memory) endUser(user string, now time.Time) {
	m.cut.Put(user, now, now, endedWindow)
	m.links.DropFunc(func(l *link) bool { // nothing was spent, so Descope can be asked
		return !l.rotated() && l.from.Claims.User() == user
	})
	for _, links := range []*fading.Map[token.Hash, *link]{&m.links, &m.issued} {
		links.Each(func(l *link) {
			if l.renewal != nil && l.renewal.inForce.Claims.User() == user || l.from != nil && l.from.Claims.User() == user {
				l.ended = true
			}
		})
	}
}

// signedIn notes a sign-in with t. Descope's tokens are the same for the same second: it
// may be the very token that was logged out a moment ago.
func (m *memory) signedIn(t *token.Token) {
	id := token.HashOf(t.Raw)
	m.ended.Drop(id)
	m.told.Drop(id)
	m.links.Drop(id)
}

// hasEnded reports whether t was logged out.
func (m *memory) hasEnded(t *token.Token, now time.Time) bool {
	_, ok := m.ended.Get(token.HashOf(t.Raw), now)
	return ok
}

// wasCut reports whether the user was logged out everywhere at or after since.
func (m *memory) wasCut(user string, since, now time.Time) bool {
	at, ok := m.cut.Get(user, now)
	return ok && !at.Before(since)
}

// refuse notes that Descope refused t for good, and returns whether that is
// confirmed: cookies are deleted only then. A deletion cannot say "only if it is
// still this token", and the first refusal may have crossed a new sign-in in
// another tab.
func (m *memory) refuse(t *token.Token, now time.Time) (confirmed bool) {
	id := token.HashOf(t.Raw)
	first, ok := m.refused.Get(id, now)
	if !ok {
		m.refused.Put(id, now, now, refusalWindow)
		return false
	}
	return now.Sub(first) >= refusalConfirms
}

// isRefused returns whether t was refused within the last minute.
func (m *memory) isRefused(t *token.Token, now time.Time) bool {
	_, ok := m.refused.Get(token.HashOf(t.Raw), now)
	return ok
}
