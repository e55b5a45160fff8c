package renew

import (
	"context"
	"errors"
	"time"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// alone waits until nobody is at work on the line of t, and until what was answered to its
// newest token is verified. It returns with the lock held, or an error.
func (r *Renewer) alone(ctx context.Context, t *token.Token) (*place, error) {
	for range maxTurns {
		r.mu.Lock()
		p, err := r.find(t, time.Now())
		if err != nil {
			r.mu.Unlock()
			return nil, err
		}
		l, fl, proving := p.line, p.flight, false
		switch {
		case fl == nil && l.unproved == nil:
			return p, nil
		case fl == nil:
			proving = true
			fl = r.launchProof(ctx, l)
		}
		r.mu.Unlock()
		if err := fl.wait(ctx); err != nil {
			return nil, err
		}
		if proving && fl.err != nil {
			return nil, fl.err
		}
	}
	return nil, errManyTokens
}

// Follow makes a call that spends nothing, with the newest token of t's line. A refresh
// that began after the call may reach Descope before it, here or on another replica: if
// Descope refuses the token and something came of it, the call is made again with that.
func (r *Renewer) Follow(ctx context.Context, t *token.Token, call func(context.Context, *token.Token) (*descope.Answer, error)) (*descope.Answer, error) {
	confirmed := false
	for range maxTurns {
		p, err := r.alone(ctx, t)
		if err != nil {
			return nil, err
		}
		l, newest, late := p.line, p.newest, p.late()
		r.mu.Unlock()
		if current, err := r.isCurrent(ctx, t, l); err != nil {
			return nil, err
		} else if !current {
			continue
		}
		l, ok := r.beginAsking(l, newest)
		if !ok {
			continue
		}
		answer, err := call(ctx, newest)
		r.endAsking(l)
		if !descope.EndsSession(err) {
			return answer, err
		}
		if r.learn(ctx, l, newest) || r.hasMoved(l, newest) {
			continue
		}
		// Only a refresh tells whether it is over: it waits for a replica that is at work on
		// the token, and it asks twice.
		if confirmed || late { // for whom nothing is spent
			return nil, &problem.Failure{Problem: problem.OddRefusal, Reason: "Descope refused a token that may be good", RetryAfter: refusalConfirms, Cause: err}
		}
		if err := r.confirm(ctx, l, newest); err != nil {
			return nil, err
		}
		confirmed = true
	}
	return nil, errManyTokens
}

// confirm refreshes newest, which another call was refused with, unless something has come
// of it meanwhile.
func (r *Renewer) confirm(ctx context.Context, l *line, newest *token.Token) error {
	r.mu.Lock()
	l = r.memory.lineOf(newest, l, time.Now())
	fl := l.flight
	switch {
	case fl != nil:
	case l.ended || l.unproved != nil || l.newest.Raw != newest.Raw:
		r.mu.Unlock()
		return nil
	case time.Now().Before(l.trouble.until):
		defer r.mu.Unlock()
		return l.trouble.err
	default:
		fl = r.launchRenewal(ctx, l, asRenewed, unfetchedKept)
	}
	r.mu.Unlock()
	if err := fl.wait(ctx); err != nil {
		return err
	}
	return fl.err
}

// beginAsking notes that a call which spends nothing begins with a token, unless that has
// moved: whoever spends it waits for the call, because Descope may end a sign-in when a
// token comes in that was just spent.
func (r *Renewer) beginAsking(l *line, t *token.Token) (*line, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l = r.memory.lineOf(t, l, time.Now())
	if l.hasMoved(t) {
		return nil, false
	}
	r.memory.work(l, time.Now())
	l.askers++
	return l, true
}

func (r *Renewer) endAsking(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.askers--; l.askers > 0 {
		return
	}
	if l.quiet != nil {
		close(l.quiet)
		l.quiet = nil
	}
	r.forgetIdle(l)
}

// awaitQuiet returns when no call is in the air that asks with the newest token. While
// somebody waits here, a flight is under way, and no other call begins.
func (r *Renewer) awaitQuiet(ctx context.Context, l *line) error {
	r.mu.Lock()
	if l.askers == 0 {
		r.mu.Unlock()
		return nil
	}
	quiet := make(chan struct{})
	l.quiet = quiet
	r.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return errTimeout
	}
}

// hasMoved reports whether a token is not newest any more, is being spent, or has ended.
func (r *Renewer) hasMoved(l *line, t *token.Token) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.memory.lineOf(t, l, time.Now()).hasMoved(t)
}

func (l *line) hasMoved(t *token.Token) bool {
	return l.ended || l.newest.Raw != t.Raw || l.unproved != nil || l.flight != nil
}

// ErrOvertaken is wrapped where a call that may bring other tokens was not made, because
// a newer refresh token than the client's has been seen in use.
var ErrOvertaken = errors.New("descopehttp: overtaken")

// Mint makes a call with the newest token of t's line that may bring other tokens for it,
// such as a step-up: alone, because it may spend the token. A second factor proves who
// asks, so nobody is late with one; what it brings begins a line of its own, which is for
// who gave it: whoever else holds the token from before would be led to it.
func (r *Renewer) Mint(ctx context.Context, t *token.Token, secondFactor bool, call func(context.Context, *token.Token) (*descope.Answer, error)) (Handout, error) {
	for range maxTurns {
		p, err := r.alone(ctx, t)
		if err != nil {
			return Handout{}, err
		}
		if p.late() && !secondFactor {
			r.mu.Unlock()
			return Handout{}, &problem.Failure{Problem: problem.StaleToken, Reason: "a newer refresh token is in use", Cause: ErrOvertaken}
		}
		if p.alive() >= maxAlive {
			r.mu.Unlock()
			return Handout{}, errManyTokens
		}
		m := &mint{line: p.line, token: p.newest, secondFactor: secondFactor, call: call, err: errTimeout}
		fl := r.launch(ctx, p.line, func(ctx context.Context, fl *flight) error {
			m.err = problem.Unavailable.Because("a panic ended the call")
			m.err = r.mint(ctx, fl, m)
			return nil // the others look again
		})
		r.mu.Unlock()
		if err := fl.wait(ctx); err != nil {
			return Handout{}, err
		}
		if m.err != errSpentElsewhere {
			if m.err != nil {
				return Handout{}, m.err
			}
			return handoutOf(m.result, t, false), nil
		}
	}
	return Handout{}, errManyTokens
}

// A mint is a call that may bring other tokens, and what came of it. That is for who made
// it; nobody else is given it.
type mint struct {
	line         *line
	token        *token.Token
	secondFactor bool
	call         func(context.Context, *token.Token) (*descope.Answer, error)
	result       *renewal
	err          error
}

// errSpentElsewhere ends a mint that found the token spent by another replica.
var errSpentElsewhere = errors.New("descopehttp: token was spent on another replica")

func (r *Renewer) mint(ctx context.Context, fl *flight, m *mint) error {
	c, err := r.prepare(ctx, m.line, m.token, unfetchedKept)
	if err != nil {
		return err
	}
	if c == nil {
		return errSpentElsewhere
	}
	a, err := r.spend(ctx, c, m.token, func(ctx context.Context) (*descope.Answer, error) { return m.call(ctx, c.judged) })
	if err != nil {
		c.release()
		switch {
		case !descope.EndsSession(err):
			return err
		case r.learn(ctx, m.line, m.token):
			return errSpentElsewhere
		case r.mayBeSpent(ctx, c):
			return errMaybeSpent
		}
		return err
	}
	a.minted = true
	if a.rotated() && !m.secondFactor {
		r.publish(ctx, c, m.line, a)
	} else {
		if a.rotated() {
			r.mu.Lock()
			r.memory.branch(m.line, a, time.Now())
			r.mu.Unlock()
		}
		c.release()
	}
	x, err := r.verify(ctx, a, m.token)
	r.learn(ctx, m.line, m.token) // another replica may have logged out meanwhile
	return r.conclude(ctx, fl, m.line, a, func(now time.Time) error {
		switch {
		case err != nil:
			return err
		case m.line.unproved == a:
			r.prove(m.line, x, now)
		}
		m.result = x
		return nil
	})
}

// SignIn makes a call that signs somebody in, and hands out and remembers what it brings
// once its tokens have passed the checks. If the user was logged out everywhere
// meanwhile, nobody can tell which of the two Descope dealt with first: nothing is handed
// out then.
func (r *Renewer) SignIn(ctx context.Context, call func(context.Context) (*descope.Answer, error)) (Handout, error) {
	began := time.Now()
	answer, err := call(ctx)
	if err != nil {
		return Handout{}, err
	}
	tokens, err := answer.Tokens()
	if err != nil {
		return Handout{}, err
	}
	a := r.received(began, nil, tokens)
	x, err := r.verify(ctx, a, nil)
	if err != nil {
		return Handout{}, err
	}
	now := time.Now()
	r.mu.Lock()
	cut := r.memory.wasCut(x.session.Claims.User(), began, now)
	if !cut {
		r.memory.signedIn(a, x, now)
		r.sweepLater()
	}
	r.mu.Unlock()
	if cut {
		_ = r.revoke(context.WithoutCancel(ctx), nil, debt{Token: x.inForce})
		return Handout{}, errLoggedOut
	}
	return handoutOf(x, nil, false), nil
}
