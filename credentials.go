package descopehttp

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/guess"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A judge finds out which credential a request presents and what it is worth. It
// renews nothing and writes nothing; what follows from its findings is decided in
// middleware.go and handlers.go.
type judge struct {
	rules    *token.Rules
	keys     *keySet
	cache    *sessionCache
	attempts *guess.Attempts
	renewals renewals
}

// renewals is what renewing has to do with the tokens that are presented.
type renewals interface {
	// WasSpent reports whether a refresh token that has expired was spent before that,
	// not long ago.
	WasSpent(ctx context.Context, t *token.Token, now time.Time) bool
	// Presented notes that a client has a session token.
	Presented(session string, now time.Time)
	// IsDue reports whether a session should be renewed while it still serves.
	IsDue(session token.Fingerprint, c *token.Claims, now time.Time) bool
}

// bearer judges a session token from the Authorization header.
func (j *judge) bearer(r *http.Request, raw string, c clock) (v *verified, cached bool, err error) {
	v, cached, err = j.session(r.Context(), raw, c)
	if errors.Is(err, errKeyPending) && !j.attempts.Pending(r) {
		return nil, false, errUnknownKey
	}
	return v, cached, err
}

// session judges a session token by all the rules, those first that need no
// network, unless it has passed them before: then it is cached.
func (j *judge) session(ctx context.Context, raw string, c clock) (v *verified, cached bool, err error) {
	known := j.cache.lookUp(raw, c.now)
	if known.session != nil {
		return known.session, true, nil
	}
	t, err := j.rules.Parse(raw, token.SessionDRN)
	if err != nil {
		return nil, false, err
	}
	if err := j.rules.CheckTime(&t.Claims, c.now); err != nil {
		return nil, false, err
	}
	v, err = j.verify(ctx, t, known.fp, c, fetchIfFloorAllows)
	return v, false, err
}

// verify checks the signature of a session token that has passed all other rules, and
// remembers it under its fingerprint.
func (j *judge) verify(ctx context.Context, t *token.Token, fp token.Fingerprint, c clock, fetch fetchPolicy) (*verified, error) {
	key, err := j.keys.verify(ctx, t, c, fetch)
	if err != nil {
		return nil, err
	}
	v := &verified{Verified: t.Verified(key)}
	j.cache.put(fp, v)
	// Seen here for the first time, so this is also where a renewed session is
	// presented for the first time. One that another replica renewed may be in the cache
	// before this one hears of it, see sessionCache.holds.
	j.renewals.Presented(t.Raw, c.now)
	return v, nil
}

// refresh judges a refresh token by all that can be told here. Its key may
// have left the key set long ago, so a key that is not held is no reason against
// it: whether the token is still good is Descope's to say.
func (j *judge) refresh(ctx context.Context, raw string, now time.Time) (*token.Token, error) {
	if len(raw) > token.MaxSize {
		return nil, token.ErrSize
	}
	// A copy, because renewing may keep it, and as a part of the Cookie
	// header it would keep the whole of that.
	t, err := j.rules.Parse(strings.Clone(raw), token.RefreshDRN)
	if err != nil {
		return nil, err
	}
	t.DropPayload() // nobody asks for other claims of a refresh token
	switch err := j.keys.filter(ctx, t); err {
	case nil:
	case errKeyNotHeld:
		// With no keys of Descope's own, right after the start, nobody is a stranger.
		held := j.keys.held.Load()
		t.Unverified = held.usable(now) && !held.given
	default:
		return nil, err
	}
	err = j.rules.CheckTime(&t.Claims, now)
	if err == token.ErrExpired && j.renewals.WasSpent(ctx, t, now) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

var errNoSessionCookie = problem.NoSession.Because("no session cookie")

// presented is what a request presents in cookies, and what the cache knows of the
// sessions among it.
type presented struct {
	cookie.Values
	known    [cookie.MaxCandidates]lookup
	unjudged []string // users of those that are too many
}

func (j *judge) present(values *cookie.Values, now time.Time) (p presented) {
	p.Values = *values
	p.unjudged = j.usersOf(p.unjudged, p.Session.Sift(j.rank(token.SessionDRN, p.Marker)), token.SessionDRN)
	p.unjudged = j.usersOf(p.unjudged, p.Refresh.Sift(j.rank(token.RefreshDRN, p.Marker)), token.RefreshDRN)
	for i, raw := range p.Session.All() {
		p.known[i] = j.cache.lookUp(raw, now)
	}
	return p
}

// rank returns what tells tokens of this project from junk, and of those the ones whose user the
// marker names from others, without a signature.
func (j *judge) rank(drn, marker string) func(string) int {
	return func(raw string) int {
		t, err := j.rules.Parse(raw, drn)
		switch {
		case err != nil:
			return 0
		case marker != "" && cookie.Mark(j.rules.ProjectID, t.Claims.User()) == marker:
			return cookie.MaxRank
		}
		return 1
	}
}

// usersOf appends the users that tokens of this project name, without a look at their signatures.
func (j *judge) usersOf(users, tokens []string, drn string) []string {
	for _, raw := range tokens {
		if t, err := j.rules.Parse(raw, drn); err == nil {
			users = append(users, t.Claims.User())
		}
	}
	return users
}

// isOurs reports whether there is a cookie of this project.
func (j *judge) isOurs(v *cookie.Values) bool {
	v.Session.Sift(j.rank(token.SessionDRN, ""))
	v.Refresh.Sift(j.rank(token.RefreshDRN, ""))
	return len(j.usersOf(nil, v.Session.All(), token.SessionDRN)) > 0 || len(j.usersOf(nil, v.Refresh.All(), token.RefreshDRN)) > 0
}

// usual is the short way for the usual request: one session cookie that has been judged
// before, beside at most one refresh cookie that was found to be the same user's.
// Everything else goes the long way.
func (j *judge) usual(p *presented, now time.Time) *verified {
	if p.Session.N != 1 || p.Refresh.N > 1 {
		return nil
	}
	v, refresh := p.known[0].session, p.Refresh.Values[0]
	if v == nil || !j.cache.fits(v, refresh) || refresh != "" && j.isDue(p.known[0].fp, v, now) {
		return nil
	}
	return v
}

// isDue reports whether a session should be renewed while it still serves, unless that was
// tried a moment ago.
func (j *judge) isDue(fp token.Fingerprint, v *verified, now time.Time) bool {
	return now.UnixNano()-v.tried.Load() >= int64(2*time.Second) && (v.awaited.Load() || j.renewals.IsDue(fp, &v.Claims, now))
}

// judgedCookies is what the cookies of a request amount to.
type judgedCookies struct {
	session        *verified    // valid, or nil
	token          string       // of session
	refresh        *token.Token // worth sending to Descope, or nil
	refreshExpired bool         // there was a refresh token, but its time has passed
	conflict       bool         // they name more than one user
	err            error        // why there is no session, for when refresh is nil too
}

// cookies judges every candidate and ignores those that fail: a cookie that
// somebody planted, or that a neighbouring application left, must not lock the
// owner of the others out. Those that remain must all name one user, or else a
// planted one could turn this user into another; unless a marker, which nobody can
// plant, says which of them is meant.
func (j *judge) cookies(ctx context.Context, p *presented, c clock, fetch fetchPolicy) judgedCookies {
	f := j.eachCookie(ctx, p, c, fetch)
	user, conflict := f.owner()
	if marked := f.marked(j.rules.ProjectID, p.Marker); marked != "" {
		user, conflict = marked, false
	}
	judged := f.choose(user)
	judged.conflict = conflict
	if !conflict && judged.session != nil && judged.refresh != nil {
		j.cache.noteFits(judged.session, judged.refresh.Raw)
	}
	return judged
}

// findings are what each cookie of a request is worth by itself.
type findings struct {
	sessions       [cookie.MaxCandidates]finding
	refreshes      []*token.Token // that pass the local checks
	refreshExpired bool
	unjudged       []string // users whom others name that may be planted
}

// A finding is about one session cookie. An expired one has a user if its signature
// verifies: it no longer opens anything, yet says whose browser this is.
type finding struct {
	raw     string
	session *verified // nil unless valid
	user    string
	err     error
}

// eachCookie judges each cookie by itself: those first that no neighbour host can plant,
// and others only where none of these opens anything, or might.
func (j *judge) eachCookie(ctx context.Context, p *presented, c clock, fetch fetchPolicy) (f findings) {
	j.someCookies(ctx, p, c, fetch, true, &f)
	if !f.pass() {
		j.someCookies(ctx, p, c, fetch, false, &f)
		f.unjudged = p.unjudged
	}
	return f
}

func (j *judge) someCookies(ctx context.Context, p *presented, c clock, fetch fetchPolicy, hosted bool, f *findings) {
	if p.Refresh.Has(hosted) {
		fetch = fetchNever // a refresh is nearer than a key that may not exist
	}
	for i, raw := range p.Session.All() {
		if p.Session.IsHosted(i) == hosted {
			f.sessions[i] = j.sessionCookie(ctx, raw, &p.known[i], c, fetch)
		}
	}
	for i, raw := range p.Refresh.All() {
		if p.Refresh.IsHosted(i) != hosted {
			continue
		}
		t, err := j.refresh(ctx, raw, c.now)
		if err == nil {
			f.refreshes = append(f.refreshes, t)
		}
		f.refreshExpired = f.refreshExpired || err == token.ErrExpired
	}
}

// pass reports whether there is something among them that opens or renews a session, or of
// which that cannot be told.
func (f *findings) pass() bool {
	return len(f.refreshes) > 0 || slices.ContainsFunc(f.sessions[:], func(s finding) bool {
		return s.session != nil || s.err != nil && problem.Of(s.err).Problem == problem.Unavailable
	})
}

func (j *judge) sessionCookie(ctx context.Context, raw string, known *lookup, c clock, fetch fetchPolicy) finding {
	if known.session != nil {
		return finding{raw: raw, session: known.session, user: known.session.Claims.User()}
	}
	t, err := j.rules.Parse(raw, token.SessionDRN)
	if err != nil {
		return finding{err: err}
	}
	if err := j.rules.CheckTime(&t.Claims, c.now); err != nil {
		if j.keys.filter(ctx, t) != nil {
			return finding{err: err}
		}
		return finding{user: t.Claims.User(), err: err}
	}
	v, err := j.verify(ctx, t, known.fp, c, fetch)
	if err != nil {
		return finding{err: err}
	}
	return finding{raw: raw, session: v, user: v.Claims.User()}
}

// owner returns the user whom all cookies name, and whether they name more than one.
func (f *findings) owner() (user string, conflict bool) {
	add := func(name string) {
		if name != "" {
			conflict = conflict || user != "" && user != name
			user = name
		}
	}
	for i := range f.sessions {
		add(f.sessions[i].user)
	}
	for _, t := range f.refreshes {
		if !t.Unverified {
			add(t.Claims.User())
		}
	}
	if user == "" { // else what could not be verified does not speak against what could
		for _, t := range f.refreshes {
			add(t.Claims.User())
		}
	}
	if user != "" { // so many that one user's hide another's are as good as both
		for _, name := range f.unjudged {
			add(name)
		}
	}
	return user, conflict
}

// marked returns which of the users that the cookies name the marker names, or "".
func (f *findings) marked(projectID, marker string) string {
	if marker == "" {
		return ""
	}
	for i := range f.sessions {
		if user := f.sessions[i].user; user != "" && cookie.Mark(projectID, user) == marker {
			return user
		}
	}
	for _, t := range f.refreshes {
		if user := t.Claims.User(); cookie.Mark(projectID, user) == marker {
			return user
		}
	}
	return ""
}

// choose returns the session that lasts longest and the best refresh token of the user.
func (f *findings) choose(user string) judgedCookies {
	best := judgedCookies{refreshExpired: f.refreshExpired, err: errNoSessionCookie}
	if f.refreshExpired {
		best.err = token.ErrExpired
	}
	for i := range f.sessions {
		switch s := &f.sessions[i]; {
		case s.session != nil:
			if s.user == user && (best.session == nil || best.session.Claims.Expiry.Before(s.session.Claims.Expiry)) {
				best.session, best.token = s.session, s.raw
			}
		case s.err != nil && problem.Of(best.err).Problem != problem.Unavailable:
			best.err = s.err // "cannot tell" outweighs a refusal
		}
	}
	for _, t := range f.refreshes {
		if t.Claims.User() == user && (best.refresh == nil || isBetter(t, best.refresh)) {
			best.refresh = t
		}
	}
	return best
}

// isBetter prefers what was verified, and then what is newer.
func isBetter(t, other *token.Token) bool {
	if t.Unverified != other.Unverified {
		return other.Unverified
	}
	return other.Claims.IssuedAt.Before(t.Claims.IssuedAt)
}
