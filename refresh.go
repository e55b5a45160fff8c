package descopehttp

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on renewing.
const (
	// Keys and store are given this time before the call to Descope, and the call
	// is given it anew: one that began with little time left would spend the token for
	// an answer that nobody waits for. It is shorter than the budget of a request, so
	// that who waits learns how it ended.
	refreshTimeout  = 4500 * time.Millisecond
	aheadInterval   = 10 * time.Second // between two attempts for one token
	maxSessionLife  = 24 * time.Hour   // for which an answer that nobody took is kept
	maxRefreshTurns = 32               // looks at memory in one request
)

// A refresher renews sessions: one call to Descope per refresh token at a time,
// however many requests wait for it, and its result for those who come late.
// With rotation, a second call would present a token that the first has spent,
// and sign its user out.
//
// Every call that carries a refresh token goes through it, because each has to
// use the newest token and some spend it.
type refresher struct {
	api    *descope.Client
	keys   *keySet
	rules  *token.Rules
	shared *sharedMemory // nil without a RefreshStore
	log    *slog.Logger
	tasks  tasks

	unpresented atomic.Int64 // memory.sessions.Len(), to be read without the lock

	mu      sync.Mutex // guards the rest
	memory  memory
	flights map[token.Hash]*flight

	// One line a minute each.
	oddRefusals rate.Sometimes
	oddTokens   rate.Sometimes
}

// A flight is a call to Descope about one refresh token, under way.
type flight struct {
	done   chan struct{} // closed when the fields below are set
	open   bool          // whoever waits may have the result; else they look again
	result *renewal
	err    error
	revoke error // a logout ended the flight, but what it brought could not be revoked
}

// A renewal is a verified answer of Descope with tokens in it.
type renewal struct {
	session *Session
	inForce *token.Token // the refresh token to use from now on
	answer  *descope.Tokens
}

// A handout is what one client gets of a renewal.
type handout struct {
	*renewal
	refresh string    // a refresh token that is new to this client, or ""
	until   time.Time // when the refresh token in force expires
	// late: the client's successor has been seen in use already. The session is
	// for this request only: cookies that are set now would arrive after newer
	// ones, or hand a thief of the old token the new one.
	late bool
}

func newRefresher(projectID string, api *descope.Client, keys *keySet, rules *token.Rules, store RefreshStore, log *slog.Logger) *refresher {
	f := &refresher{
		api:         api,
		keys:        keys,
		rules:       rules,
		log:         log,
		memory:      newMemory(),
		flights:     make(map[token.Hash]*flight),
		oddRefusals: rate.Sometimes{Interval: time.Minute},
		oddTokens:   rate.Sometimes{Interval: time.Minute},
	}
	if store != nil {
		f.shared = &sharedMemory{store: calmStore{store}, seal: sealer{projectID}, log: log, warn: rate.Sometimes{Interval: time.Minute}}
	}
	return f
}

var (
	errLoggedOut      = problem.SessionEnded.Because("the session was logged out")
	errRefreshTimeout = &problem.Failure{Problem: problem.Unavailable, Reason: "refresh did not end in time", Timeout: true}
	errManySuccessors = problem.Unavailable.Because("refresh token changes too fast")
	errMaybeSpent     = problem.Unavailable.Because("Descope refused the refresh token, which another replica may have spent")
)

// refresh renews the session of a refresh token that has passed the local
// checks. A spent token leads to its newest successor; only for that one, and
// only if its session cannot serve, is Descope called. explicit is for clients
// that ask for a refresh in so many words: a token that is still in force is
// refreshed for them even if its session is fresh.
//
// The error is a *problem.Failure: the session ended, or "cannot tell".
func (f *refresher) refresh(ctx context.Context, t *token.Token, explicit bool) (handout, error) {
	for range maxRefreshTurns {
		turn, err := f.look(ctx, t, explicit)
		if err != nil {
			return handout{}, err
		}
		if turn.flight == nil {
			current, err := f.isCurrent(ctx, t, turn)
			if err != nil {
				return handout{}, err
			}
			if current {
				return turn.handout(turn.renewal, t), nil
			}
			continue
		}
		if err := turn.flight.wait(ctx); err != nil {
			return handout{}, err
		}
		if turn.flight.open {
			if turn.flight.err != nil {
				return handout{}, turn.flight.err
			}
			return turn.handout(turn.flight.result, t), nil
		}
	}
	return handout{}, errManySuccessors
}

// A turn is one look at what is known about a refresh token.
type turn struct {
	link   *link        // what serves, or led to newest; may be nil
	newest *token.Token // the newest successor
	late   bool         // t was spent, and the session that came of it has been presented
	flight *flight      // to be waited for; nil if link serves
	// renewal is link's, if that serves: what changes of a link changes under the lock.
	renewal *renewal
}

func (t turn) handout(r *renewal, presented *token.Token) handout {
	h := handout{renewal: r, until: r.inForce.Claims.Expiry, late: t.late}
	if !h.late && r.inForce.Raw != presented.Raw {
		h.refresh = r.inForce.Raw
	}
	return h
}

// look decides in one step, under the lock, whether memory serves, a flight is
// under way or one has to begin. A flight writes to memory before it ends, so no
// request falls in between.
func (f *refresher) look(ctx context.Context, t *token.Token, explicit bool) (turn, error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.memory.walk(t, now)
	if err := p.err(); err != nil {
		return turn{}, err
	}
	newest, last := p.newest, p.last
	tn := turn{link: last, newest: newest, late: p.late}
	if came := f.memory.cameWith(t, now); last == nil && !explicit {
		tn.link = came
	}
	// Descope's times are whole seconds: within one it would give the same again.
	asksAnew := explicit && newest == t && (last == nil || now.Sub(last.at) >= time.Second)
	if f.serves(tn.link, now) && !asksAnew {
		if !tn.late {
			tn.link.handed = now
		}
		tn.renewal = tn.link.renewal
		return tn, nil
	}
	if f.memory.isRefused(newest, now) {
		return turn{}, f.noteRefusal(newest, now)
	}
	if tn.flight = f.flights[token.HashOf(newest.Raw)]; tn.flight == nil {
		var pending *link
		// Without rotation nothing was spent, and an expired session is no
		// reason to wait.
		if last != nil && last.renewal == nil && (last.rotated() || now.Before(last.expiry)) {
			pending = last
		}
		tn.flight = f.launch(ctx, newest, true, func(ctx context.Context, fl *flight) (*renewal, error) {
			return f.renew(ctx, fl, newest, pending, explicit)
		})
	}
	return tn, nil
}

// WasSpent reports whether a refresh token that has expired was spent before that,
// within the last minute. A request that was under way meanwhile belongs to the
// holder of the successor, whose cookies must not be deleted for it.
func (f *refresher) WasSpent(ctx context.Context, t *token.Token, now time.Time) bool {
	if now.Sub(t.Claims.Expiry) >= successorWindow || t.Unverified {
		return false
	}
	f.mu.Lock()
	p := f.memory.walk(t, now)
	f.mu.Unlock()
	if p.newest != t || p.spent {
		return true
	}
	if f.shared == nil {
		return false
	}
	r, _ := f.shared.peek(ctx, t)
	return r != nil && !r.Ended && f.remember(f.linkOf(t, r)).rotated()
}

func (f *refresher) serves(l *link, now time.Time) bool {
	return l != nil && l.renewal != nil && !l.revoked && !l.ended && f.rules.CheckTime(&l.renewal.session.shared.Claims, now) == nil
}

// isCurrent reports whether what memory holds may be handed out: whether the key
// of its session is still trusted, and whether no other replica has spent the
// newest token, or logged out any on the way there. If not, memory has been
// brought up to date.
func (f *refresher) isCurrent(ctx context.Context, t *token.Token, tn turn) (bool, error) {
	if !f.keys.trusts(tn.renewal.session.shared.Key, time.Now()) {
		f.mu.Lock()
		defer f.mu.Unlock()
		tn.link.revoked = true
		return false, nil
	}
	if f.shared == nil {
		return true, nil
	}
	f.mu.Lock()
	trail := f.memory.trail(t, tn.newest, time.Now())
	f.mu.Unlock()
	for _, t := range append(trail, tn.newest) {
		r, err := f.shared.peek(ctx, t)
		switch {
		case ctx.Err() != nil:
			return false, errRefreshTimeout
		case err != nil:
			return true, nil // the store is away, and was asked long enough
		case r != nil && f.endedBy(t, r):
			return false, errLoggedOut
		case r == nil || t != tn.newest:
			continue
		case tn.link.from != nil && tn.link.from.Raw == t.Raw:
			continue // without rotation this is the link itself
		}
		f.remember(f.linkOf(t, r))
		return false, nil
	}
	return true, nil
}

// launch starts a flight; the lock is held. It outlives ctx: if this client hangs
// up, the others still need the result.
func (f *refresher) launch(ctx context.Context, t *token.Token, open bool, run func(context.Context, *flight) (*renewal, error)) *flight {
	id := token.HashOf(t.Raw)
	fl := &flight{done: make(chan struct{}), open: open}
	f.flights[id] = fl
	detached := context.WithoutCancel(ctx)
	f.tasks.start(func() {
		ctx, cancel := context.WithTimeout(detached, 2*refreshTimeout)
		defer cancel()
		defer func() {
			// A panic of what the user plugged in, such as a log handler, would end
			// the process here, where nobody else can recover.
			if recover() != nil {
				fl.result, fl.err = nil, problem.Unavailable.Because("a panic ended the refresh")
			}
			f.mu.Lock()
			delete(f.flights, id)
			f.mu.Unlock()
			close(fl.done)
		}()
		fl.result, fl.err = run(ctx, fl)
	})
	return fl
}

func (fl *flight) wait(ctx context.Context) error {
	select {
	case <-fl.done:
		return nil
	case <-ctx.Done():
		return errRefreshTimeout
	}
}

// renew spends t, or verifies the answer that it was spent for already.
func (f *refresher) renew(ctx context.Context, fl *flight, t *token.Token, pending *link, explicit bool) (*renewal, error) {
	l := pending
	if l == nil {
		claim, err := f.prepare(ctx, t, explicit)
		if err != nil {
			return nil, err
		}
		if l = claim.found; l != nil {
			// Another replica's. It may have gone on from there, so whoever
			// waits looks again, with this in memory.
			fl.open = false
		} else if l, err = f.spend(ctx, t, claim); err != nil {
			return nil, err
		}
	}
	r, err := f.conclude(ctx, fl, t, l)
	if err == nil && (pending != nil || f.shared != nil && time.Since(l.at) > storeTimeout) {
		// Much may have happened since the answer came, here and on other
		// replicas: whoever waits looks again.
		fl.open = false
	}
	return r, err
}

// prepare does what has to be done before t is presented to Descope in a call that
// may spend it.
func (f *refresher) prepare(ctx context.Context, t *token.Token, explicit bool) (lease, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	// Without keys the answer could not be judged, and the token would be spent.
	if err := f.keys.ready(ctx); err != nil {
		return lease{}, err
	}
	// It may have been judged when there were none.
	judged := *t
	switch err := f.keys.filter(ctx, t); err {
	case nil:
		judged.Unverified = false
	case errKeyNotHeld:
		judged.Unverified = true
	default:
		return lease{}, err
	}
	if err := f.api.Reserve(&judged); err != nil {
		return lease{}, err
	}
	return f.claim(ctx, t, explicit)
}

// claim takes the lease on t, or finds what another replica made of it. Without
// rotation a token is never spent: there a session is found only if it can serve
// and the client did not ask for a new one.
func (f *refresher) claim(ctx context.Context, t *token.Token, explicit bool) (lease, error) {
	c, err := f.shared.claim(ctx, t)
	if err != nil || c.record == nil {
		return c, err
	}
	if f.endedBy(t, c.record) {
		return c, errLoggedOut
	}
	l := f.linkOf(t, c.record)
	if l.rotated() || !explicit && time.Now().Before(l.expiry) {
		c.found = f.remember(l)
	}
	return c, nil
}

// spend presents t to Descope and remembers the answer before anything else can
// fail.
func (f *refresher) spend(ctx context.Context, t *token.Token, c lease) (*link, error) {
	began := time.Now()
	calling, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	a, err := f.api.Post(calling, descope.Session, descope.PathRefresh, t, struct{}{})
	if err != nil {
		c.release()
		return f.afterRefusal(ctx, t, c, err)
	}
	tokens, err := a.Tokens()
	if err == nil && tokens.Session == "" {
		err = problem.Unavailable.Because("Descope's answer has no session token")
	}
	if err != nil {
		c.release()
		return nil, err
	}
	return f.publish(t, c, f.newLink(began, time.Now(), t, tokens)), nil
}

// publish remembers an answer and tells the other replicas. It returns what
// counts: the answer of another that was faster, if there is one.
func (f *refresher) publish(t *token.Token, c lease, l *link) *link {
	f.remember(l)
	switch stored := c.tell(recordOf(l), l); {
	case stored == nil:
	case stored.Ended:
		f.noteEnded(t)
		if l.rotated() {
			// For whoever logged out, should it not be possible to revoke this here.
			_, _ = f.shared.end(t, l.answer.Refresh)
		}
	case l.rotated():
		// One that did not rotate is from before; what is spent now is ours.
		if other := f.linkOf(t, stored); other.rotated() {
			l = f.remember(other)
		}
	}
	return l
}

// afterRefusal looks once more whether another replica has spent t: a store that lost
// its data, and the lease with it, lets two of them call.
func (f *refresher) afterRefusal(ctx context.Context, t *token.Token, c lease, err error) (*link, error) {
	if f.shared != nil && descope.EndsSession(err) {
		if r, _ := f.shared.peek(ctx, t); r != nil && !r.Ended {
			if l := f.linkOf(t, r); l.rotated() {
				return f.remember(l), nil
			}
		}
	}
	return nil, f.judgeRefusal(ctx, t, c, err)
}

// conclude verifies a link's answer, and hands out nothing if a logout came in
// between: what the flight brought is revoked instead.
func (f *refresher) conclude(ctx context.Context, fl *flight, t *token.Token, l *link) (*renewal, error) {
	r, err := f.accept(ctx, l.answer, t, l.at)
	now := time.Now()
	f.mu.Lock()
	ended := f.memory.hasEnded(t, now) || f.memory.wasCut(t.Claims.User(), l.began, now)
	switch {
	case ended:
		l.renewal = r
		f.memory.end(t, now)
	case err == nil:
		l.renewal = r
	case problem.Of(err).Problem == problem.OtherUser:
		f.memory.forget(l) // it will never be this user's
	}
	f.mu.Unlock()
	if !ended {
		return r, err
	}
	if l.rotated() {
		fl.revoke = f.revoke(context.WithoutCancel(ctx), l.answer.Refresh)
	}
	return nil, errLoggedOut
}

func (f *refresher) remember(l *link) *link {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.memory.remember(l)
	f.unpresented.Store(int64(f.memory.sessions.Len()))
	return l
}

// rememberPrivately remembers what a second factor brought for a logout, and for
// nobody else.
func (f *refresher) rememberPrivately(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.memory.private.Put(token.HashOf(l.from.Raw), l, l.at, max(l.life, endedWindow))
}

// linkOf returns the link that another replica tells of.
func (f *refresher) linkOf(from *token.Token, r *record) *link {
	began, at := time.UnixMilli(r.Began), time.UnixMilli(r.At)
	if now := time.Now(); at.After(now) {
		at = now // its clock is ahead of ours
	}
	return f.newLink(began, at, from, &descope.Tokens{Session: r.Session, Refresh: r.Refresh, Body: r.Body})
}

// newLink returns the link from a token, nil for a sign-in, to Descope's answer, from
// when the call for it began and when it came. How long its session lives is a
// difference of two of Descope's times, which does not depend on the clock of this
// machine.
func (f *refresher) newLink(began, at time.Time, from *token.Token, a *descope.Tokens) *link {
	l := &link{began: began, at: at, from: from, answer: a}
	if t, err := f.rules.Parse(a.Session, token.SessionDRN); err == nil {
		l.expiry = t.Claims.Expiry
		if !t.Claims.IssuedAt.IsZero() {
			l.life = min(t.Claims.Expiry.Sub(t.Claims.IssuedAt), maxSessionLife)
		}
		if f.shared != nil {
			// Beyond that no store tells of a logout on another replica.
			l.life = min(l.life, endedWindow)
		}
	}
	return l
}

// judgeRefusal turns what Descope said against a refresh token into a failure. Only
// codes known to mean it end a session; a changed management key, say, must not
// sign everybody out, so an operator is told. While the store is away, another
// replica may have spent the token, and nothing is final.
func (f *refresher) judgeRefusal(ctx context.Context, t *token.Token, c lease, err error) error {
	var refused *descope.Refusal
	if !errors.As(err, &refused) {
		return err
	}
	if descope.EndsSession(err) {
		if c.mayBeSpent() {
			return errMaybeSpent
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.noteRefusal(t, time.Now())
	}
	f.oddRefusals.Do(func() {
		f.log.LogAttrs(ctx, slog.LevelError, "descopehttp: Descope refuses refreshes for a reason that is not about the session; cookies are kept",
			slog.Int("status", refused.Status), slog.String("errorCode", refused.Code))
	})
	return &problem.Failure{Problem: problem.OddRefusal, Reason: "Descope refused the refresh for another reason", Cause: err}
}

// noteRefusal notes a refusal for good; the lock is held.
func (f *refresher) noteRefusal(t *token.Token, now time.Time) error {
	return &problem.Failure{
		Problem:       problem.SessionEnded,
		Reason:        "Descope refused the refresh token",
		DeleteCookies: f.memory.refuse(t, now),
	}
}

// current returns where t leads and the flight that is under way for the newest
// token, nil if there is none; the lock is held.
func (f *refresher) current(t *token.Token) (trace, *flight, error) {
	now := time.Now()
	f.memory.cameWith(t, now) // whoever has it has the answer that it came with
	p := f.memory.walk(t, now)
	return p, f.flights[token.HashOf(p.newest.Raw)], p.err()
}

// newest returns the newest successor of t for a call that spends nothing, after
// waiting for what is under way.
func (f *refresher) newest(ctx context.Context, t *token.Token) (*token.Token, error) {
	for range maxRefreshTurns {
		f.mu.Lock()
		p, fl, err := f.current(t)
		f.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case fl == nil && p.spent:
			if _, err := f.refresh(ctx, t, false); err != nil {
				return nil, err
			}
			continue
		case fl == nil:
			return p.newest, nil
		}
		if err := fl.wait(ctx); err != nil {
			return nil, err
		}
	}
	return nil, errManySuccessors
}

// follow makes a call that spends nothing, with the newest successor of t. A
// refresh that began after the call may reach Descope before it, here or on
// another replica: if Descope refuses the token and something came of it, the
// call is made again with that.
func (f *refresher) follow(ctx context.Context, t *token.Token, call func(context.Context, *token.Token) (*descope.Answer, error)) (*descope.Answer, error) {
	for range maxRefreshTurns {
		newest, err := f.newest(ctx, t)
		if err != nil {
			return nil, err
		}
		a, err := call(ctx, newest)
		if !descope.EndsSession(err) {
			return a, err
		}
		goesOn, lookErr := f.goesOn(ctx, newest)
		switch {
		case lookErr != nil:
			return nil, lookErr
		case !goesOn:
			return nil, err
		}
	}
	return nil, errManySuccessors
}

// goesOn reports whether a token that Descope refuses was spent for another, or
// is being spent. What only the store knew is in memory then.
func (f *refresher) goesOn(ctx context.Context, t *token.Token) (bool, error) {
	f.mu.Lock()
	p := f.memory.walk(t, time.Now())
	busy := f.flights[token.HashOf(t.Raw)] != nil
	f.mu.Unlock()
	switch {
	case busy || p.newest != t:
		return true, nil
	case p.spent:
		_, err := f.refresh(ctx, t, false)
		return err == nil, err
	}
	c, err := f.claim(ctx, t, true)
	switch {
	case err != nil:
		return false, err
	case c.found != nil:
		_, err := f.conclude(ctx, new(flight), t, c.found)
		return err == nil, err
	}
	c.release()
	if c.mayBeSpent() {
		return false, errMaybeSpent
	}
	return false, nil
}

// mint makes a call with the newest successor of t that may bring other tokens
// for it, such as a step-up: alone, because it may spend the token. The tokens of
// a second factor are for who gave it; they are not remembered, because whoever
// else holds the token from before, such as a thief, would be led to them. Only a
// logout is.
func (f *refresher) mint(ctx context.Context, t *token.Token, secondFactor bool, call func(context.Context, *token.Token) (*descope.Answer, error)) (handout, error) {
	for range maxRefreshTurns {
		var mine *flight
		f.mu.Lock()
		p, fl, err := f.current(t)
		if err == nil && fl == nil && p.spent {
			f.mu.Unlock()
			if _, err := f.refresh(ctx, t, false); err != nil {
				return handout{}, err
			}
			continue
		}
		if err == nil && fl == nil {
			mine = f.launch(ctx, p.newest, false, func(ctx context.Context, fl *flight) (*renewal, error) {
				return f.mintAlone(ctx, fl, p.newest, secondFactor, call)
			})
			fl = mine
		}
		f.mu.Unlock()
		if err != nil {
			return handout{}, err
		}
		if err := fl.wait(ctx); err != nil {
			return handout{}, err
		}
		if fl != mine {
			continue
		}
		if fl.err == errSpentElsewhere {
			continue
		}
		if fl.err != nil {
			return handout{}, fl.err
		}
		// Whoever gives a second factor is no thief.
		return turn{late: p.late && !secondFactor}.handout(fl.result, t), nil
	}
	return handout{}, errManySuccessors
}

// errSpentElsewhere ends a flight that found the token spent by another replica.
var errSpentElsewhere = errors.New("descopehttp: token was spent on another replica")

func (f *refresher) mintAlone(ctx context.Context, fl *flight, t *token.Token, secondFactor bool, call func(context.Context, *token.Token) (*descope.Answer, error)) (*renewal, error) {
	c, err := f.prepare(ctx, t, true)
	if err != nil {
		return nil, err
	}
	if c.found != nil {
		if _, err := f.conclude(ctx, fl, t, c.found); err != nil {
			return nil, err
		}
		return nil, errSpentElsewhere
	}
	began := time.Now()
	calling, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	a, err := call(calling, t)
	if err != nil {
		c.release()
		if descope.EndsSession(err) && c.mayBeSpent() {
			err = errMaybeSpent
		}
		return nil, err
	}
	tokens, err := a.Tokens()
	if err != nil {
		c.release()
		return nil, err
	}
	l := f.newLink(began, time.Now(), t, tokens)
	l.minted = true
	if l.rotated() && !secondFactor {
		l = f.publish(t, c, l)
	} else {
		if l.rotated() {
			f.rememberPrivately(l)
		}
		c.release()
		f.lookForTombstone(ctx, t)
	}
	r, err := f.conclude(ctx, fl, t, l)
	if err == nil && f.shared != nil && time.Since(l.at) > storeTimeout {
		// It took long to verify, and another replica may have logged out.
		f.lookForTombstone(ctx, t)
		return f.conclude(ctx, fl, t, l)
	}
	return r, err
}

// signIn makes a call that signs somebody in, and hands out and remembers what it
// brings once its tokens have passed the checks. If the user was logged out
// everywhere meanwhile, nobody can tell which of the two Descope dealt with
// first: nothing is handed out then.
func (f *refresher) signIn(ctx context.Context, call func(context.Context) (*descope.Answer, error)) (handout, error) {
	began := time.Now()
	a, err := call(ctx)
	if err != nil {
		return handout{}, err
	}
	tokens, err := a.Tokens()
	if err != nil {
		return handout{}, err
	}
	r, err := f.accept(ctx, tokens, nil, time.Now())
	if err != nil {
		return handout{}, err
	}
	l := f.newLink(began, time.Now(), nil, tokens)
	l.renewal = r
	now := time.Now()
	f.mu.Lock()
	cut := f.memory.wasCut(r.inForce.Claims.User(), began, now)
	if !cut {
		f.memory.signedIn(r.inForce)
	}
	f.mu.Unlock()
	if cut {
		_ = f.revoke(context.WithoutCancel(ctx), tokens.Refresh)
		return handout{}, errLoggedOut
	}
	f.remember(l)
	return handout{renewal: r, refresh: tokens.Refresh, until: r.inForce.Claims.Expiry}, nil
}

// Presented notes that a client has shown a session token. It costs nothing
// while every renewed session has been seen.
func (f *refresher) Presented(session string, now time.Time) {
	if f.unpresented.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.memory.notePresented(session, now)
	f.unpresented.Store(int64(f.memory.sessions.Len()))
}

// ahead renews a session that is about to end, and returns false if it need not
// or cannot: the old one still serves. Only the request that begins the call
// waits for it.
func (f *refresher) ahead(ctx context.Context, t *token.Token) (handout, bool) {
	now := time.Now()
	f.mu.Lock()
	p := f.memory.walk(t, now)
	_, tried := f.memory.tried.Get(token.HashOf(t.Raw), now)
	if tried || p.err() != nil || p.leadsOn(now) || f.flights[token.HashOf(t.Raw)] != nil || f.memory.isRefused(t, now) {
		f.mu.Unlock()
		return handout{}, false
	}
	f.memory.tried.Put(token.HashOf(t.Raw), struct{}{}, now, aheadInterval)
	fl := f.launch(ctx, t, true, func(ctx context.Context, fl *flight) (*renewal, error) {
		return f.renew(ctx, fl, t, nil, false)
	})
	f.mu.Unlock()
	if fl.wait(ctx) != nil || fl.err != nil {
		return handout{}, false
	}
	if !fl.open {
		h, err := f.refresh(ctx, t, false)
		return h, err == nil
	}
	return turn{}.handout(fl.result, t), true
}

// accept verifies an answer of Descope before any of it is handed on. presented
// is the refresh token that it answers, or nil for a sign-in: the answer must be
// about the same user. at is when the answer came: a session that has expired while
// its key was not to be had opens nothing any more, but it still tells that the
// refresh token beside it is the user's.
func (f *refresher) accept(ctx context.Context, a *descope.Tokens, presented *token.Token, at time.Time) (*renewal, error) {
	session, key, err := f.judgeToken(ctx, a.Session, token.SessionDRN, at)
	if err != nil {
		return nil, err
	}
	inForce := presented
	if a.Refresh != "" && (presented == nil || a.Refresh != presented.Raw) {
		if inForce, _, err = f.judgeToken(ctx, a.Refresh, token.RefreshDRN, at); err != nil {
			return nil, err
		}
		inForce.DropPayload()
	}
	if inForce == nil {
		return nil, problem.Unavailable.Because("Descope's answer has no refresh token")
	}
	if user := session.Claims.User(); user != inForce.Claims.User() || presented != nil && user != presented.Claims.User() {
		f.log.LogAttrs(ctx, slog.LevelError, "descopehttp: Descope answered a refresh token with the session of another user; refused")
		return nil, problem.OtherUser.Because("the answer is about another user")
	}
	return &renewal{session: newSession(session, key), inForce: inForce, answer: a}, nil
}

// judgeToken judges a token in Descope's own answer, which came at at, by all the
// rules. What fails them is "cannot tell", not a refusal: the client did nothing
// wrong.
func (f *refresher) judgeToken(ctx context.Context, raw, drn string, at time.Time) (*token.Token, *token.Key, error) {
	now := time.Now()
	var key *token.Key
	t, err := f.rules.Parse(raw, drn)
	if err == nil {
		if err = f.rules.CheckTime(&t.Claims, now); err == token.ErrExpired {
			err = f.rules.CheckTime(&t.Claims, at)
		}
	}
	if err == nil {
		key, err = f.keys.verify(ctx, t, clock{now, now.Add(authenticateBudget)}, fetchPastFloor)
	}
	switch {
	case err == nil:
		return t, key, nil
	case errors.Is(err, ErrUnavailable):
		return nil, nil, err
	}
	f.oddTokens.Do(func() {
		f.log.LogAttrs(ctx, slog.LevelError, "descopehttp: a token in Descope's answer does not pass the checks; is the clock right, and are Audience and the JWT template in line?",
			slog.String("kind", drn), slog.String("reason", problem.Of(err).Reason))
	})
	return nil, nil, problem.Unavailable.Because("a token in Descope's answer does not pass the checks")
}
