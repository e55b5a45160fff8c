package renew

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Budgets of a flight. Who waits leaves long before: a call that has spent a token is
// never hung up on, because its answer is the only way to go on.
const (
	prepareBudget = 4500 * time.Millisecond // keys, and the claim in the store
	spendBudget   = 30 * time.Second        // a call that spends a token
	proveBudget   = 5 * time.Second         // the answer's keys

	patience = 10 * time.Second // with a flight, from its beginning on: then who asks is told at once
)

// A flight is work on a line, under way.
type flight struct {
	began   time.Time
	how     string        // it came to a refresh, "" if it did not; for its own goroutine
	isOwned atomic.Bool   // somebody who waits is who it is for; all others have joined
	done    chan struct{} // closed when the fields below are set
	err     error         // for all who wait; without one they look again
	revoke  error         // a logout ended the flight, but what it brought could not be revoked
}

// launch begins a flight; the lock is held. It outlives ctx: if this client hangs up, the
// others still need the result.
func (r *Renewer) launch(ctx context.Context, l *line, run func(context.Context, *flight) error) *flight {
	fl := &flight{began: time.Now(), done: make(chan struct{})}
	l.flight = fl
	r.memory.work(l, time.Now())
	r.sweepLater()
	detached := context.WithoutCancel(ctx)
	r.flying.Start(func() {
		ctx, cancel := context.WithTimeout(detached, prepareBudget+spendBudget+proveBudget)
		defer cancel()
		defer r.land(ctx, l, fl)
		fl.err = run(ctx, fl)
	})
	return fl
}

// launchRenewal begins a flight that refreshes, for a reason that is observed.
func (r *Renewer) launchRenewal(ctx context.Context, l *line, why string, left time.Duration) *flight {
	return r.launch(ctx, l, func(ctx context.Context, fl *flight) error {
		fl.how = why
		return r.renew(ctx, fl, l, left)
	})
}

// launchProof begins a flight that verifies what is kept, which costs no call about a token.
func (r *Renewer) launchProof(ctx context.Context, l *line) *flight {
	return r.launch(ctx, l, func(ctx context.Context, fl *flight) error { return r.proveIfAny(ctx, fl, l) })
}

// land ends a flight, also one that panicked: what users plugged in, such as a log
// handler, would end the process here, where nobody else can recover.
func (r *Renewer) land(ctx context.Context, l *line, fl *flight) {
	if recover() != nil {
		fl.err = problem.Unavailable.Because("a panic ended the refresh")
		r.notices.Panicked(ctx, "refresh")
	}
	if fl.how != "" {
		r.observe(ctx, fl.how, fl.began, fl.err)
	}
	r.mu.Lock()
	l.flight = nil
	r.forgetIdle(l)
	r.mu.Unlock()
	close(fl.done)
}

// forgetIdle forgets a sign-in that was remembered only while something was in the air; the
// lock is held.
func (r *Renewer) forgetIdle(l *line) {
	if !l.ended && !l.isKnown() && !l.inTheAir() {
		r.memory.forget(l.signIn)
	}
}

// wait returns when the flight has landed, or errTimeout.
func (fl *flight) wait(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, fl.began.Add(patience))
	defer cancel()
	select {
	case <-fl.done:
		return nil
	case <-ctx.Done():
		return errTimeout
	}
}

// renew spends newest, or verifies the answer that it was spent for already. What another
// replica has made of it serves as well, if its session lasts for left at least.
func (r *Renewer) renew(ctx context.Context, fl *flight, l *line, left time.Duration) error {
	r.mu.Lock()
	if a := l.unproved; a != nil && !a.rotated() && !time.Now().Before(a.expiry) {
		l.unproved = nil // nothing was spent, and an expired session is no reason to wait
	}
	t, pending := l.newest, l.unproved != nil
	r.mu.Unlock()
	if pending {
		fl.how = ""
		return r.proveIfAny(ctx, fl, l)
	}
	c, err := r.prepare(ctx, l, t, left)
	if err != nil {
		return err
	}
	if c == nil {
		fl.how = asJoined
		return r.proveIfAny(ctx, fl, l)
	}
	a, err := r.spend(ctx, c, t, func(ctx context.Context) (*descope.Answer, error) {
		return r.api.Spend(ctx, descope.Session, descope.PathRefresh, c.judged, struct{}{})
	})
	if err != nil {
		return r.judgeFailure(ctx, c, l, t, err)
	}
	r.noteRefresh(a)
	r.publish(ctx, c, l, a)
	return r.proveIfAny(ctx, fl, l)
}

// prepare does what has to be done before t is presented to Descope in a call that may
// spend it. It returns no claim where another replica has been faster: what came of t
// is in memory then.
func (r *Renewer) prepare(ctx context.Context, l *line, t *token.Token, left time.Duration) (*claim, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareBudget)
	defer cancel()
	// Without keys the answer could not be judged, and the token would be spent.
	if err := r.keys.Ready(ctx); err != nil {
		return nil, err
	}
	judged := *t // it may have been judged when there were none
	if err := r.keys.Filter(ctx, &judged); err != nil {
		return nil, err
	}
	if err := r.api.Reserve(&judged); err != nil {
		return nil, err
	}
	if err := r.awaitQuiet(ctx, l); err != nil {
		return nil, err
	}
	c, err := r.claim(ctx, l, t, left)
	if c != nil {
		c.judged = &judged
	}
	return c, err
}

// claim takes the lease on t, or learns what another replica made of it. Only what
// rotated is a reason not to spend t; a session beside a token that is still in force
// serves whom it is good enough for.
func (r *Renewer) claim(ctx context.Context, l *line, t *token.Token, left time.Duration) (*claim, error) {
	if r.shared == nil {
		return &claim{}, nil
	}
	owner, waited := newOwner(), false
	for wait := storePoll; ; wait = min(2*wait, maxStorePoll) {
		c, v, ended, err := r.shared.claim(ctx, t, owner)
		switch {
		case err != nil: // doubt has been noted; this replica goes on alone
			c.held = false
			return c, nil
		case ended:
			c.release()
			r.noteEnded(l)
			return nil, errLoggedOut
		}
		if a := r.arrivalOf(t, v); a != nil && (a.rotated() || r.lasts(a, left)) {
			c.release()
			r.mu.Lock()
			r.memory.takeOver(l, a, time.Now())
			r.mu.Unlock()
			return nil, nil
		}
		if c.held {
			c.over, c.orphan = v != nil, waited
			return c, nil
		}
		waited = true
		select {
		case <-ctx.Done():
			return nil, &problem.Failure{Problem: problem.Unavailable, Reason: "another replica did not finish in time", Timeout: true}
		case <-time.After(wait):
		}
	}
}

// lasts reports whether the session in an answer of another replica is good enough for who
// needs so much of it.
func (r *Renewer) lasts(a *arrival, left time.Duration) bool {
	return time.Until(a.expiry) > left && !r.idle.isDue(a.issued, a.expiry, r.atDescope(time.Now()))
}

// spend presents t to Descope, alone: with the lease for as long as it takes.
func (r *Renewer) spend(ctx context.Context, c *claim, t *token.Token, call func(context.Context) (*descope.Answer, error)) (*arrival, error) {
	stop := c.renewEvery(leaseRenewal)
	defer stop()
	calling, cancel := context.WithTimeout(ctx, spendBudget)
	defer cancel()
	began := time.Now()
	answer, err := call(calling)
	if err != nil {
		return nil, err
	}
	tokens, err := answer.Tokens()
	if err == nil && tokens.Session == "" {
		err = problem.Unavailable.Because("Descope's answer has no session token")
	}
	if err != nil {
		return nil, err
	}
	return r.received(began, t, tokens), nil
}

// publish remembers an answer and then tells the other replicas. What counts is the answer
// of another that was faster, if there is one.
func (r *Renewer) publish(ctx context.Context, c *claim, l *line, a *arrival) {
	now := time.Now()
	r.mu.Lock()
	a.shown = l.seen >= l.number
	r.memory.arrive(l, a, now)
	r.mu.Unlock()
	if r.shared == nil {
		return
	}
	v, ended, err := c.put(ctx, a)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		l.untold = append(l.untold, a)
	case ended:
		r.memory.end(l.signIn, now)
	case v == nil:
		l.checked = now
	default:
		if other := r.arrivalOf(a.from, v); other.rotated() && l.unproved == a {
			if a.minted {
				r.memory.part(l, a, now)
			}
			r.memory.arrive(l, other, now)
		}
	}
}

// proveIfAny verifies what was answered to newest, if that has not been done, and hands
// out nothing if a logout came in between: what came is revoked instead.
func (r *Renewer) proveIfAny(ctx context.Context, fl *flight, l *line) error {
	r.mu.Lock()
	a, t := l.unproved, l.newest
	r.mu.Unlock()
	if a == nil {
		return nil
	}
	x, err := r.verify(ctx, a, t)
	return r.conclude(ctx, fl, l, a, func(now time.Time) error {
		switch {
		case err == nil && l.unproved == a:
			r.prove(l, x, now)
		case err != nil && problem.Of(err).Problem == problem.OtherUser:
			l.unproved = nil // it will never be this user's
			r.memory.forget(l.signIn)
		}
		return err
	})
}

// prove is memory's. A client may have presented the session already: one that another
// replica gave it, before this one heard of that.
func (r *Renewer) prove(l *line, x *renewal, now time.Time) {
	r.memory.prove(l, x, l.unproved.told && r.shown != nil && r.shown(x.raw), now)
	r.countUnshown()
}

// conclude has keep decide under the lock what becomes of an arrival, unless its sign-in
// has ended meanwhile.
func (r *Renewer) conclude(ctx context.Context, fl *flight, l *line, a *arrival, keep func(time.Time) error) error {
	now := time.Now()
	r.mu.Lock()
	ended := l.ended || r.memory.wasCut(l.user, a.began, now)
	if !ended {
		defer r.mu.Unlock()
		return keep(now)
	}
	r.memory.end(l.signIn, now)
	if a.rotated() {
		r.memory.endAlso(l.signIn, debt{Token: a.successor()}, now) // until Descope has heard of it
	}
	r.mu.Unlock()
	if a.rotated() {
		// Who waits for the flight hears of the logout, and has not all day.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), landedBudget)
		defer cancel()
		fl.revoke = r.revoke(ctx, l.signIn, debt{Token: a.successor()})
	}
	return errLoggedOut
}

// arrivalOf returns the answer that another replica tells of, nil for none.
func (r *Renewer) arrivalOf(from *token.Token, v *record) *arrival {
	if v == nil {
		return nil
	}
	began, at := time.UnixMilli(v.Began), time.UnixMilli(v.At)
	if now := time.Now(); at.After(now) {
		at = now // its clock is ahead of ours
	}
	idle := time.Duration(v.Idle) * time.Second
	if idle > 0 { // none may also mean that a replica of an older version wrote this
		r.idle.tell(idle, time.Now())
	}
	a := r.newArrival(began, at, from, &descope.Tokens{Session: v.Session, Refresh: v.Refresh, Idle: idle, Body: []byte("{}")})
	a.minted, a.shown, a.told = v.Minted, v.Shown, true
	return a
}

// received returns the answer to a call of this replica that began at began and has just
// ended. It also tells how long Descope waits for a refresh, and what time it is there.
func (r *Renewer) received(began time.Time, from *token.Token, answer *descope.Tokens) *arrival {
	now := time.Now()
	a := r.newArrival(began, now, from, answer)
	r.idle.tell(answer.Idle, now)
	r.noteClock(a)
	return a
}

// newArrival returns Descope's answer to a token, nil for a sign-in. How long its session
// lives is a difference of two of Descope's times, which does not depend on the clock of
// this machine.
func (r *Renewer) newArrival(began, at time.Time, from *token.Token, answer *descope.Tokens) *arrival {
	// By the wall clock: the other one stands still while a machine is suspended.
	a := &arrival{began: began.Round(0), at: at.Round(0), from: from, answer: answer}
	if t, err := r.rules.Parse(answer.Session, token.SessionDRN); err == nil {
		a.expiry, a.issued = t.Claims.Expiry, t.Claims.IssuedAt
		if !t.Claims.IssuedAt.IsZero() {
			a.life = min(t.Claims.Expiry.Sub(t.Claims.IssuedAt), unfetchedKept)
		}
	}
	return a
}

// verify judges an answer of Descope before any of it is handed on. presented is the
// refresh token that it answers, nil for a sign-in: the answer must be about the same
// user. A session that has expired while its key was not to be had opens nothing any
// more, but it still tells that the refresh token beside it is the user's.
func (r *Renewer) verify(ctx context.Context, a *arrival, presented *token.Token) (*renewal, error) {
	ctx, cancel := context.WithTimeout(ctx, proveBudget)
	defer cancel()
	session, key, err := r.verifyToken(ctx, a.answer.Session, token.SessionDRN, a.began)
	if err != nil {
		return nil, err
	}
	inForce := presented
	if a.rotated() {
		if inForce, _, err = r.verifyToken(ctx, a.answer.Refresh, token.RefreshDRN, a.began); err != nil {
			return nil, err
		}
		inForce.DropPayload()
	}
	if inForce == nil {
		return nil, problem.Unavailable.Because("Descope's answer has no refresh token")
	}
	if user := session.Claims.User(); user != inForce.Claims.User() || presented != nil && user != presented.Claims.User() {
		r.notices.Tell(ctx, notice.OtherUser, notice.Fields{})
		return nil, problem.OtherUser.Because("the answer is about another user")
	}
	if v := session.Verified(key); presented != nil && v.StepUp() {
		r.NoteCode(ctx, session.Raw, &session.Claims, time.Time{}) // NoteCode of a verify comes later
	}
	return &renewal{session: session.Verified(key), raw: session.Raw, inForce: inForce, body: a.answer.Body}, nil
}

// verifyToken judges a token in Descope's own answer, to a call that began at began, by all
// the rules. It may have expired on its way, or while it could not be verified.
// What fails them is "cannot tell", not a refusal: the client did nothing wrong.
func (r *Renewer) verifyToken(ctx context.Context, raw, drn string, began time.Time) (*token.Token, *token.Key, error) {
	var key *token.Key
	t, err := r.rules.Parse(raw, drn)
	if err == nil {
		if err = r.rules.CheckTime(&t.Claims, time.Now()); err == token.ErrExpired && t.Claims.Expiry.After(began) {
			err = nil
		}
	}
	if err == nil {
		key, err = r.keys.VerifyAnswer(ctx, t)
	}
	switch {
	case err == nil:
		return t, key, nil
	case errors.Is(err, problem.ErrUnavailable):
		return nil, nil, err
	}
	r.notices.Tell(ctx, notice.OddToken, notice.Fields{Reason: problem.Of(err).Reason})
	return nil, nil, problem.Unavailable.Because("a token in Descope's answer does not pass the checks")
}

// judgeFailure says what it means that a refresh brought no answer, and notes it for the
// line. Only codes known to mean it end a session; a changed management key, say, must
// not sign everybody out, so an operator is told. While there is doubt, another replica
// may have spent the token, and nothing is final.
func (r *Renewer) judgeFailure(ctx context.Context, c *claim, l *line, t *token.Token, err error) error {
	c.release()
	if r.learn(ctx, l, t) {
		return nil // another replica's: a store that lost the lease lets two of them call
	}
	mayBeSpent := (descope.MayEndSession(err) || descope.EndsSession(err)) && r.mayBeSpent(ctx, c)
	var refused *descope.Refusal
	_ = errors.As(err, &refused)
	line, err := r.weigh(l, mayBeSpent, refused, err)
	if line != nil {
		r.notices.Tell(ctx, line, notice.Fields{Code: refused.Code})
	}
	return err
}

// weigh notes a failure for a line, and returns what an operator is told and what it comes to.
func (r *Renewer) weigh(l *line, mayBeSpent bool, refused *descope.Refusal, err error) (told *notice.Line, _ error) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case mayBeSpent:
		err = errMaybeSpent
		l.trouble.until = now.Add(refusalConfirms)
	case descope.EndsSession(err):
		err = l.refuse(now, refused)
	case descope.MayEndSession(err):
		told, err = r.doubt(l, now, refused)
	case refused != nil:
		told = notice.RefreshRefused
		err = &problem.Failure{Problem: problem.OddRefusal, Reason: "Descope refused the refresh for another reason", Cause: err}
		l.trouble.delay(now, 0)
	case isOfThisToken(err):
		l.trouble.delay(now, problem.Of(err).RetryAfter)
	default:
		return nil, err // a full budget, a closed gate: everybody's trouble, and told there
	}
	l.trouble.err = err
	r.memory.troubled(l, now)
	return told, err
}

// mayBeSpent reports whether another replica may have spent a token that Descope refused,
// without this one being able to know.
func (r *Renewer) mayBeSpent(ctx context.Context, c *claim) bool {
	r.shared.greet(ctx)
	return c.orphan || r.shared.isDoubtful(time.Now())
}

// refuse notes a refusal for good of newest.
func (l *line) refuse(now time.Time, refused *descope.Refusal) error {
	confirmed := l.trouble.refuse(now, refused.IsLogout())
	p := problem.OddRefusal
	if confirmed {
		p = problem.SessionEnded
	}
	return &problem.Failure{Problem: p, Reason: "Descope refused the refresh token", RetryAfter: max(l.trouble.until.Sub(now), time.Second), DeleteCookies: confirmed}
}

// doubt notes a refusal of newest that may be about the configuration. Other calls that
// are answered show that it is not; without any an operator has to look, and the browser,
// which can do no more, is told after a while that it is over.
func (r *Renewer) doubt(l *line, now time.Time, refused *descope.Refusal) (told *notice.Line, _ error) {
	answered, passes := r.api.AnsweredSince, refused.Meaning == descope.TooManyAttempts
	switch {
	case passes:
		// Descope locks a user for a while after wrong codes, which anybody can try.
		answered = func(time.Time) bool { return false }
	case !descope.RefusesCaller(refused):
		// It is not about who calls, so only another refresh shows that it is not about all.
		answered = func(t time.Time) bool { return r.refreshed.Load() > t.UnixNano() }
	}
	confirmed, givenUp := l.trouble.doubt(now, answered)
	if !confirmed && !passes {
		told = notice.RefreshDoubted
	}
	p := problem.OddRefusal
	if givenUp {
		p = problem.SessionEnded
	}
	return told, &problem.Failure{Problem: p, Reason: "Descope refused the refresh token with " + refused.Code, RetryAfter: max(l.trouble.until.Sub(now), time.Second), DeleteCookies: confirmed, Cause: refused}
}

// isOfThisToken reports whether a failure was an answer to this very call, so that
// another user's may well get a better one.
func isOfThisToken(err error) bool {
	return descope.ReachOf(err) == descope.Reached && !errors.Is(err, descope.ErrLimit) && errors.Is(err, problem.ErrUnavailable) ||
		descope.ReachOf(err) == descope.Unreached && !problem.Of(err).Timeout
}
