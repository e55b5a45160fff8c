package descopehttp

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// bearerToken returns the session token in the Authorization header, or "" if
// cookies are to be looked at: there is no such header, it is of another scheme,
// or it names the project, which is what Descope's own clients send with every
// call and which is no session.
func (a *Auth) bearerToken(h http.Header) (string, error) {
	value, ok, err := bearerValue(h)
	if !ok {
		return "", err
	}
	if first, _, _ := strings.Cut(value, ":"); first == a.projectID {
		return "", nil
	}
	if strings.Count(value, ".") != 2 {
		return "", problem.ForeignProject.Because("bearer value is neither a token nor this project")
	}
	return value, nil
}

// bearerValue returns what follows "Bearer " (RFC 6750, section 2.1; the scheme
// is case-insensitive, RFC 9110, section 11.1). Two Authorization headers are
// refused, because two readers could each take another one.
func bearerValue(h http.Header) (value string, ok bool, err error) {
	lines := h["Authorization"]
	switch len(lines) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", false, problem.InvalidToken.Because("more than one Authorization header")
	}
	scheme, value := lines[0], ""
	if i := strings.IndexAny(scheme, " \t"); i >= 0 {
		scheme, value = scheme[:i], scheme[i:]
	}
	if strings.EqualFold(scheme, "DPoP") {
		// RFC 9449. To look at cookies instead would judge somebody else.
		return "", false, problem.InvalidToken.Because("DPoP is not supported")
	}
	return strings.Trim(value, " \t"), strings.EqualFold(scheme, "Bearer"), nil
}

func (a *Auth) judgeBearer(r *http.Request, raw string, now, until time.Time) (*verified, error) {
	v, err := a.judgeSession(r.Context(), raw, now, until)
	if errors.Is(err, errKeyPending) && !a.attempts.Pending(r) {
		return nil, errUnknownKey
	}
	return v, err
}

// judgeSession judges a session token by all the rules, those first that need no
// network, unless it has passed them before. It waits for keys until a deadline
// at the most.
func (a *Auth) judgeSession(ctx context.Context, raw string, now, until time.Time) (*verified, error) {
	known := a.cache.lookUp(raw, now)
	if known.session != nil {
		return known.session, nil
	}
	t, err := a.rules.Parse(raw, token.SessionDRN)
	if err != nil {
		return nil, err
	}
	if err := a.rules.CheckTime(&t.Claims, now); err != nil {
		return nil, err
	}
	return a.verifySession(ctx, t, known.hash, now, until)
}

// verifySession checks the signature of a session token that has passed all
// other rules, and remembers it under its hash.
func (a *Auth) verifySession(ctx context.Context, t *token.Token, hash token.Hash, now, until time.Time) (*verified, error) {
	key, err := a.keys.verify(ctx, t, now, until)
	if err != nil {
		return nil, err
	}
	// Seen here for the first time, so this is also where a renewed session is
	// presented for the first time.
	a.refresher.notePresented(t.Raw, now)
	v := &verified{Verified: t.Verified(key)}
	a.cache.put(hash, v)
	return v, nil
}

var errNoSessionCookie = problem.NoSession.Because("no session cookie")

// judgedCookies is what the cookies of a request amount to.
type judgedCookies struct {
	session        *verified    // valid, or nil
	token          string       // of session
	refresh        *token.Token // worth sending to Descope, or nil
	refreshExpired bool         // there was a refresh token, but its time has passed
	conflict       bool         // they name more than one user
	err            error        // why there is no session, for when refresh is nil too
}

// judgeCookies judges every candidate and ignores those that fail: a cookie that
// somebody planted, or that a neighbouring application left, must not lock the
// owner of the others out. Those that remain must all name one user, or else a
// planted one could turn this user into another.
func (a *Auth) judgeCookies(ctx context.Context, values *cookieValues, now, until time.Time) judgedCookies {
	c := judgedCookies{err: errNoSessionCookie}
	var users userSet
	sessionCtx := ctx
	if values.refresh.n > 0 {
		// A refresh is nearer than a key that may not exist.
		sessionCtx = withFetchPolicy(ctx, fetchNever)
	}
	known := a.knownSessions(values, now)
	for i, raw := range values.session.all() {
		v, user, err := a.judgeSessionCookie(sessionCtx, raw, &known[i], now, until)
		users.add(user)
		switch {
		case err == nil:
			if c.session == nil || c.session.Claims.Expiry.Before(v.Claims.Expiry) {
				c.session, c.token = v, raw
			}
		case problem.Of(c.err).Problem != problem.Unavailable:
			c.err = err // "cannot tell" outweighs a refusal
		}
	}
	refreshes := a.judgeRefreshCookies(ctx, values, now, &c)
	for _, t := range refreshes {
		if !t.Unverified {
			users.add(t.Claims.User())
		}
	}
	verified := users.user
	for _, t := range refreshes {
		// What could not be verified does not speak against what could.
		if verified != "" && t.Claims.User() != verified {
			continue
		}
		users.add(t.Claims.User())
		if c.refresh == nil || isBetter(t, c.refresh) {
			c.refresh = t
		}
	}
	if c.refreshExpired && values.session.n == 0 {
		c.err = token.ErrExpired
	}
	c.conflict = users.conflict
	if !c.conflict && c.session != nil && c.refresh != nil {
		a.cache.noteFits(c.session, c.refresh.Raw)
	}
	return c
}

// judgeRefreshCookies returns the refresh cookies that pass the local checks.
func (a *Auth) judgeRefreshCookies(ctx context.Context, values *cookieValues, now time.Time, c *judgedCookies) []*token.Token {
	var passed []*token.Token
	for _, raw := range values.refresh.all() {
		t, err := a.judgeRefresh(ctx, raw, now)
		if err == nil {
			passed = append(passed, t)
		}
		c.refreshExpired = c.refreshExpired || err == token.ErrExpired
	}
	return passed
}

// isBetter prefers what was verified, and then what is newer.
func isBetter(t, other *token.Token) bool {
	if t.Unverified != other.Unverified {
		return other.Unverified
	}
	return other.Claims.IssuedAt.Before(t.Claims.IssuedAt)
}

// userSet notes whether more than one user was added.
type userSet struct {
	user     string
	conflict bool
}

func (s *userSet) add(user string) {
	if user == "" {
		return
	}
	s.conflict = s.conflict || s.user != "" && s.user != user
	s.user = user
}

// knownSessions looks the session cookies up in the cache, once for a request.
func (a *Auth) knownSessions(values *cookieValues, now time.Time) *[maxCookieCandidates]lookup {
	if !values.lookedUp {
		values.lookedUp = true
		for i, raw := range values.session.all() {
			values.known[i] = a.cache.lookUp(raw, now)
		}
	}
	return &values.known
}

// judgeSessionCookie judges one session cookie. For an expired one it returns
// the user beside the error if its signature verifies: it no longer opens
// anything, yet says whose browser this is.
func (a *Auth) judgeSessionCookie(ctx context.Context, raw string, known *lookup, now, until time.Time) (v *verified, user string, err error) {
	if known.session != nil {
		return known.session, known.session.Claims.User(), nil
	}
	t, err := a.rules.Parse(raw, token.SessionDRN)
	if err != nil {
		return nil, "", err
	}
	if err := a.rules.CheckTime(&t.Claims, now); err != nil {
		if a.keys.filter(ctx, t) != nil {
			return nil, "", err
		}
		return nil, t.Claims.User(), err
	}
	if v, err = a.verifySession(ctx, t, known.hash, now, until); err != nil {
		return nil, "", err
	}
	return v, v.Claims.User(), nil
}

// judgeRefresh judges a refresh token by all that can be told here. Its key may
// have left the key set long ago, so a key that is not held is no reason against
// it: whether the token is still good is Descope's to say.
func (a *Auth) judgeRefresh(ctx context.Context, raw string, now time.Time) (*token.Token, error) {
	if len(raw) > token.MaxSize {
		return nil, token.ErrSize
	}
	// A copy, because the refresher may keep it, and as a part of the Cookie
	// header it would keep the whole of that.
	t, err := a.rules.Parse(strings.Clone(raw), token.RefreshDRN)
	if err != nil {
		return nil, err
	}
	t.DropPayload() // nobody asks for other claims of a refresh token
	switch err := a.keys.filter(ctx, t); err {
	case nil:
	case errKeyNotHeld:
		// With no keys at all, right after the start, nobody is a stranger.
		t.Unverified = a.keys.held.Load().usable(now)
	default:
		return nil, err
	}
	err = a.rules.CheckTime(&t.Claims, now)
	if err == token.ErrExpired && a.refresher.wasSpent(ctx, t, now) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}
