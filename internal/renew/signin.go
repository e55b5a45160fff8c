package renew

import (
	"container/list"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A signIn is one sign-in of one user, as far as this replica knows: what a logout ends.
// It is guarded by the Renewer's lock, like all of it.
type signIn struct {
	user  string
	lines []*line // the first, and one for each second factor
	// left are tokens that are in force perhaps: what another tenant was selected with.
	// They serve nobody and are for a logout, the newest last.
	left        []*token.Token
	mintedUntil time.Time // what minting brought and left is remembered until then

	ended bool   // logged out: nothing of it is handed out
	owed  []debt // what Descope has to hear of yet, once it has ended; in this order

	// Of memory's own: its list, and its weight in it.
	in      *list.List
	element *list.Element
	bytes   int
}

// A debt is a token that Descope has to be told of. If nothing more can have come of it, a
// refusal is as good as an answer.
type debt struct {
	*token.Token
	isOver bool
}

// A line is a chain of refresh tokens, each of which was spent for the next.
type line struct {
	*signIn
	newest *token.Token // Descope is asked with this
	number int          // of newest: tokens are counted from the first that is known here
	seen   int          // the highest number that a client has shown; it never falls
	places []*place     // of tokens that lead here, the oldest first, newest's among them

	last    *arrival // that brought session
	session *renewal // came last; nil if none can serve
	// unproved is the answer to newest, kept before it is verified. If it rotated,
	// newest is spent, and nothing but verifying may be done.
	unproved *arrival

	checked time.Time     // as of when the store knew nothing newer
	untold  []*arrival    // the store has not heard of; the oldest first
	flight  *flight       // at work on newest; nil if nobody is
	askers  int           // calls in the air that ask something with newest and spend nothing
	quiet   chan struct{} // closed when there are none left; nil if nobody waits for that
	tried   time.Time     // when it was last renewed ahead of need
	trouble trouble
}

// A place is where a refresh token leads, for as long as it leads on.
type place struct {
	*line
	hash   token.Hash
	number int
	until  time.Time
	// session came with the token, the last of them, and nobody has shown it; the zero
	// value for none.
	session token.Hash
}

// late reports whether something newer than the token has been seen. Its holder is
// somebody who has been overtaken, or a thief.
func (p *place) late() bool { return p.number < p.seen }

// isSpent reports whether the token is known to have been spent for another.
func (p *place) isSpent() bool {
	return p.number < p.line.number || p.number == p.line.number && p.spentUnproved()
}

// An arrival is what Descope answered; it is never changed.
type arrival struct {
	began, at time.Time    // the token was spent no earlier, and no later
	from      *token.Token // nil for a sign-in
	answer    *descope.Tokens
	minted    bool          // by another call than a refresh: from is in force perhaps
	told      bool          // another replica made the call
	shown     bool          // a client has shown from, rather than only what led to it
	life      time.Duration // of the session in it, 0 if that cannot be told
	expiry    time.Time     // of that session
	issued    time.Time     // the same, the zero time if it does not say
}

// rotated reports whether the answer brought another refresh token.
func (a *arrival) rotated() bool {
	return a.answer.Refresh != "" && (a.from == nil || a.answer.Refresh != a.from.Raw)
}

// successor returns the refresh token in the answer, unverified.
func (a *arrival) successor() *token.Token {
	return &token.Token{Raw: a.answer.Refresh, Claims: a.from.Claims}
}

// A renewal is an arrival that was verified.
type renewal struct {
	session token.Verified
	raw     string       // the session token
	inForce *token.Token // the refresh token to use from now on
	body    jsontext.Value
	proved  time.Time // here
}

// spentUnproved reports whether newest must not be presented to Descope again.
func (l *line) spentUnproved() bool { return l.unproved != nil && l.unproved.rotated() }

// inForce returns the newest token, verified or not: what a logout has to tell of.
func (l *line) inForce() *token.Token {
	if l.spentUnproved() {
		return l.unproved.successor()
	}
	return l.newest
}

// head returns the place of the newest token that leads here.
func (l *line) head() *place { return l.places[len(l.places)-1] }

// answered returns when Descope answered for the line last, the zero time if that is not
// known.
func (l *line) answered() time.Time {
	if l.last == nil {
		return time.Time{}
	}
	return l.last.at
}

// isKnown reports whether something is remembered that would be missed.
func (l *line) isKnown() bool {
	return l.last != nil || l.unproved != nil || l.trouble.err != nil || !l.mintedUntil.IsZero() || len(l.untold) > 0
}

// isUnfetched reports whether the newest token here has never been shown.
func (l *line) isUnfetched() bool { return l.head().number > l.seen }

// alive counts the tokens that lead to any line of the sign-in.
func (s *signIn) alive() (n int) {
	for _, l := range s.lines {
		n += len(l.places)
	}
	return n
}

// weight is about how many bytes the sign-in takes.
func (s *signIn) weight() int {
	const overhead, perPlace = 600, 200
	n := overhead + len(s.user)
	for _, t := range s.left {
		n += perPlace + len(t.Raw)
	}
	for _, l := range s.lines {
		n += overhead + perPlace*len(l.places) + len(l.newest.Raw)
		for _, a := range append([]*arrival{l.last, l.unproved}, l.untold...) {
			if a != nil {
				n += len(a.answer.Session) + len(a.answer.Refresh) + len(a.answer.Body)
			}
		}
	}
	return n
}

// until returns when nothing of the sign-in is of use any more.
func (s *signIn) until() time.Time {
	until := s.mintedUntil
	for _, l := range s.lines {
		for _, p := range l.places {
			until = later(until, p.until)
		}
		until = later(until, l.trouble.until)
	}
	return until
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// A trouble is what Descope said to a refresh of a line, if it was not an answer. It is
// told from here for a while: a page that polls must not ask Descope each time, and one
// user's trouble is nobody else's.
type trouble struct {
	err     error
	refused time.Time     // since when Descope has refused newest for good; the zero time if it has not
	wait    time.Duration // until Descope is asked again, doubling
	until   time.Time     // the same as a time
}

// Bounds on trouble.
const (
	refusalConfirms = 10 * time.Second // a second refusal this much later deletes cookies
	refusalWindow   = time.Minute      // a confirmed refusal is told from here
	refusalKept     = 10 * time.Minute // for who comes back as late with the second question
	minTroubleWait  = time.Second
	maxTroubleWait  = 30 * time.Second
	oddRefusalGives = time.Minute // how long a refusal that may be about the configuration waits for evidence
	maxTroubleAsked = time.Minute // that a Retry-After of Descope is honoured
)

// refuse notes that Descope refused newest for good, and returns whether that is
// confirmed: cookies are deleted only then. A deletion cannot say "only if it is still
// this token", and the first refusal may have crossed a new sign-in in another tab, or
// have been a fault of Descope's own.
func (x *trouble) refuse(now time.Time, final bool) (confirmed bool) {
	if x.refused.IsZero() {
		x.refused = now
	}
	if final || now.Sub(x.refused) >= refusalConfirms {
		x.until = now.Add(refusalWindow)
		return true
	}
	x.until = x.refused.Add(refusalConfirms)
	return false
}

// doubt notes a refusal of newest that is about its sign-in or about all of them. It
// returns whether that is the sign-in's own by now, for good, and whether flows are told
// so without anybody knowing.
func (x *trouble) doubt(now time.Time, answered func(since time.Time) bool) (confirmed, givenUp bool) {
	if x.refused.IsZero() {
		x.refused = now
	}
	waited := now.Sub(x.refused)
	switch {
	case waited >= refusalConfirms && answered(x.refused):
		x.until = now.Add(refusalWindow)
		return true, true
	case waited < refusalConfirms:
		x.until = x.refused.Add(refusalConfirms)
	default:
		x.delay(now, 0)
		if waited < oddRefusalGives {
			x.until = earlier(x.until, x.refused.Add(oddRefusalGives))
		}
	}
	return false, waited >= oddRefusalGives
}

// delay notes an answer that was none.
func (x *trouble) delay(now time.Time, asked time.Duration) {
	x.wait = min(max(2*x.wait, minTroubleWait), maxTroubleWait)
	x.until = now.Add(max(x.wait, min(asked, maxTroubleAsked)))
}
