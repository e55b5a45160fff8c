package renew

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Early says whether sessions are renewed long before they end, so that an outage which is
// shorter than what is left of them goes unseen by whoever is active.
type Early int

const (
	// EarlyWithoutRotation: where Descope has been seen to leave the refresh token as it is.
	// With rotation a successor that was not delivered is in the memory of one process.
	EarlyWithoutRotation Early = iota
	EarlyAlways
	EarlyNever
)

// A session is due when less than this is left of it, or less than that part of its life.
// One that does not say when it began is taken to be as long as any.
const (
	aheadOfEnd  = 30 * time.Second
	aheadOfLife = 10
	unknownLife = 24 * time.Hour
)

// When a session is renewed early, in percent of its life. Sessions that began together are
// spread over a part of it.
const (
	earlyFrom   = 40
	earlySpread = 5
)

const (
	earlyPatience = time.Second      // of the request that begins: it has a session that lasts
	aheadInterval = 10 * time.Second // between two attempts for one line
)

// isEnding reports whether little is left of a session.
func isEnding(c *token.Claims, now time.Time) bool {
	life := unknownLife
	if !c.IssuedAt.IsZero() {
		life = c.Expiry.Sub(c.IssuedAt)
	}
	return c.Expiry.Sub(now) < min(aheadOfEnd, life/aheadOfLife)
}

// isDue reports whether a session must be renewed while it still serves: little is left of
// it, or of the time that Descope gives those who are not active.
func (r *Renewer) isDue(c *token.Claims, now time.Time) bool {
	return isEnding(c, now) || r.idle.isDue(c.IssuedAt, c.Expiry, r.atDescope(now))
}

// EndsSignIn reports whether the sign-in is about to end because Descope takes the user for
// inactive, though the session lives on.
func (r *Renewer) EndsSignIn(c *token.Claims, now time.Time) bool {
	return r.idle.isOver(c.IssuedAt, r.atDescope(now))
}

// isEarly reports whether enough of a session is over that it may be renewed. The
// fingerprint is that of its token.
func isEarly(session token.Fingerprint, c *token.Claims, now time.Time) bool {
	spread := c.Expiry.Sub(c.IssuedAt) * earlySpread / 100
	place := spread / (1 << 16) * time.Duration(binary.BigEndian.Uint16(session[:]))
	return !c.IssuedAt.IsZero() && now.Sub(c.IssuedAt) >= earlyAge(c)+place
}

// earlyAge returns how old a session is when it is renewed early.
func earlyAge(c *token.Claims) time.Duration { return c.Expiry.Sub(c.IssuedAt) * earlyFrom / 100 }

// IsDue reports whether a session should be renewed while it still serves: because it must
// be, or because there is room for it now.
func (r *Renewer) IsDue(session token.Fingerprint, c *token.Claims, now time.Time) bool {
	return r.isDue(c, now) || isEarly(session, c, r.atDescope(now)) && r.mayBeEarly()
}

// noteClock notes by a new session how far the clock here is ahead of Descope's. To such a
// clock each session is old when it comes, and each would be renewed at once.
func (r *Renewer) noteClock(a *arrival) {
	if !a.issued.IsZero() {
		r.clockAhead.Store(int64(max(a.began.Sub(a.issued), 0)))
	}
}

// atDescope returns the time by which the age of a session is told.
func (r *Renewer) atDescope(now time.Time) time.Time {
	return now.Add(-time.Duration(r.clockAhead.Load()))
}

// mayBeEarly reports whether there is room for what could wait.
func (r *Renewer) mayBeEarly() bool {
	wanted := r.early == EarlyAlways || r.early == EarlyWithoutRotation && r.rotates.Load() == staysInForce
	return wanted && r.api.HasRoom(descope.Session)
}

// What the last refresh did to the refresh token.
const (
	unknownRotation = iota
	staysInForce
	isReplaced
)

// noteRefresh notes that Descope has answered a refresh, and how.
func (r *Renewer) noteRefresh(a *arrival) {
	r.refreshed.Store(a.at.UnixNano())
	did := int32(staysInForce)
	if a.rotated() {
		did = isReplaced
	}
	r.rotates.Store(did)
}

// Ahead renews a session that still serves, and returns false if it need not or cannot.
// Only the request that begins the call waits for it, and not long while its session lasts:
// if the answer comes later, a later request gets it, and inTheAir says so.
func (r *Renewer) Ahead(ctx context.Context, t *token.Token, session *token.Claims) (h Handout, ok, inTheAir bool) {
	now := time.Now()
	if !r.isDue(session, now) && !t.Claims.Expiry.After(session.Expiry) {
		return Handout{}, false, false // the next one would end with the refresh token as well
	}
	if !isEnding(session, now) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, earlyPatience)
		defer cancel()
	}
	fl, ok := r.lookAhead(ctx, t, session, now)
	if !ok {
		return Handout{}, false, false
	}
	if fl != nil {
		fl.isOwned.Store(true)
		if fl.wait(ctx) != nil {
			return Handout{}, false, true
		}
		if fl.err != nil {
			return Handout{}, false, false
		}
	}
	h, err := r.refresh(ctx, t, false, fl != nil)
	return h, err == nil, false
}

// lookAhead begins a flight, unless memory has a session already that lasts longer than
// the client's. It returns false where there is neither.
func (r *Renewer) lookAhead(ctx context.Context, t *token.Token, session *token.Claims, now time.Time) (*flight, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.find(t, now)
	if err != nil || p.late() {
		return nil, false
	}
	l := p.line
	if r.serves(l, now) && l.session.session.Claims.Expiry.After(session.Expiry) && !r.isDue(&l.session.session.Claims, now) {
		return nil, true
	}
	if l.newest.Raw != t.Raw || l.unproved != nil || l.flight != nil || now.Sub(l.tried) < aheadInterval || now.Before(l.trouble.until) {
		return nil, false
	}
	if !isEnding(session, now) && !r.mayAsk(l, session, now) {
		return nil, false
	}
	l.tried = now
	return r.launchRenewal(ctx, l, asEarly, session.Expiry.Sub(now)), true
}

// mayAsk reports whether a session that does not end yet may be renewed now. To a clock that
// is ahead each is old when it comes: what was answered here a moment ago is not.
func (r *Renewer) mayAsk(l *line, session *token.Claims, now time.Time) bool {
	if r.isDue(session, now) {
		return r.idle.mayAsk(l.answered(), now)
	}
	return now.Sub(l.answered()) >= earlyAge(session) && r.mayBeEarly()
}
