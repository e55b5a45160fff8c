package renew

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on a logout.
const (
	revokeBudget    = 9 * time.Second // all that is told to Descope
	revokedAtOnce   = 4
	maxRevoked      = 20
	landingPatience = 5 * time.Second // for a call that is in the air
	followBudget    = 2 * time.Second // links of the store
	landedBudget    = 4 * time.Second // to tell Descope of what a flight brought
)

// LogOut logs t's sign-in out: all of its lines, and what minting left in force. From the
// first step on nothing of it is handed out, here or on a replica that reaches the store,
// by memory or by a flight that is still to land. Then Descope is told, the newest first.
// If that fails the marks stay, and a repeat asks for what was not told yet.
func (r *Renewer) LogOut(ctx context.Context, t *token.Token) error {
	now := time.Now()
	if err := r.admit(t, now); err != nil {
		return err
	}
	s := r.endSignIn(t, now)
	r.markInStore(ctx, t, s)
	told := time.Now()
	if err := r.awaitLanding(ctx, r.inTheAir(s)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeBudget)
	defer cancel()
	if err := r.revokeAll(ctx, s); err != nil {
		return err
	}
	r.outwait(told)
	return nil
}

// LeadsOn reports whether a logout with t ends a sign-in that is known: of a token that is
// known to be spent and nothing more it ends none.
func (r *Renewer) LeadsOn(t *token.Token) bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	_, spent := r.memory.find(t, now)
	return !spent || r.memory.whose(token.HashOf(t.Raw), now) != nil
}

// admit holds logouts with tokens that cannot be told from invented ones to their budget:
// a logout leaves something behind, and without keys anybody can begin one.
func (r *Renewer) admit(t *token.Token, now time.Time) error {
	r.mu.Lock()
	p, spent := r.memory.find(t, now)
	known := spent || p.ended || p.isKnown() || p.flight != nil
	r.mu.Unlock()
	if known {
		return nil
	}
	judged := *t
	if err := r.keys.Filter(context.Background(), &judged); err != nil {
		return err
	}
	return r.api.Reserve(&judged)
}

// endSignIn marks the sign-in of t as ended and returns it. Of a token that is known to be
// spent and nothing more it ends the token: that Descope may take it for used again, and
// end the sign-in, is what was asked for.
func (r *Renewer) endSignIn(t *token.Token, now time.Time) (s *signIn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, spent := r.memory.find(t, now)
	if !spent {
		s = p.signIn
	} else if s = r.memory.whose(token.HashOf(t.Raw), now); s == nil {
		l := r.memory.begin(t)
		r.memory.placeOf(l, token.HashOf(t.Raw), 0, now)
		s = l.signIn
	}
	r.memory.end(s, now)
	return s
}

func (r *Renewer) inTheAir(s *signIn) (flights []*flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range s.lines {
		if l.flight != nil {
			flights = append(flights, l.flight)
		}
	}
	return flights
}

// markInStore marks t and the newest tokens as logged out for the other replicas, and
// follows what those know to have come of them.
func (r *Renewer) markInStore(ctx context.Context, t *token.Token, s *signIn) {
	if r.shared == nil {
		return
	}
	seen := make(map[string]bool)
	for until, x := time.Now().Add(followBudget), t; x != nil && time.Now().Before(until); x = r.unmarked(s, seen) {
		seen[x.Raw] = true
		_, _ = r.markOne(ctx, x, s) // it is in doubt then
	}
}

// unmarked returns a token that Descope has to hear of and that is not among the seen ones,
// nil if there is none.
func (r *Renewer) unmarked(s *signIn, seen map[string]bool) *token.Token {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range s.owed {
		if !seen[d.Raw] {
			return d.Token
		}
	}
	return nil
}

// markOne marks x, and returns what another replica says to have come of it: that is to be
// told of then, and x no more.
func (r *Renewer) markOne(ctx context.Context, x *token.Token, s *signIn) (next *token.Token, err error) {
	v, err := r.shared.end(ctx, x)
	if err != nil || v == nil || v.Refresh == "" {
		return nil, err
	}
	next, err = r.rules.Parse(v.Refresh, token.RefreshDRN)
	if err != nil || next.Claims.User() != x.Claims.User() {
		return nil, nil
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.absorb(s, next, now)
	s.settle(x)
	if v.Minted { // in force perhaps; else it was spent for the next
		r.memory.endAlso(s, debt{x, true}, now)
	}
	r.memory.endAlso(s, debt{Token: next}, now)
	return next, nil
}

// awaitLanding waits for calls that are in the air. What they bring is handed to nobody
// and revoked where they land.
func (r *Renewer) awaitLanding(ctx context.Context, flights []*flight) error {
	ctx, cancel := context.WithTimeout(ctx, landingPatience)
	defer cancel()
	for _, fl := range flights {
		if err := fl.wait(ctx); err != nil {
			return err
		}
		if fl.revoke != nil {
			return fl.revoke
		}
	}
	return nil
}

// revokeAll tells Descope of all that it has not heard of yet, a few at a time. What a
// replica spent before it saw the mark comes to light meanwhile, and is told as well.
func (r *Renewer) revokeAll(ctx context.Context, s *signIn) error {
	for told := 0; told < maxRevoked; {
		r.mu.Lock()
		owed := slices.Clone(s.owed[:min(len(s.owed), maxRevoked-told)])
		r.mu.Unlock()
		if len(owed) == 0 {
			return nil
		}
		told += len(owed)
		var all sync.WaitGroup
		errs := make([]error, len(owed))
		places := make(chan struct{}, revokedAtOnce)
		for i, d := range owed {
			places <- struct{}{}
			all.Go(func() {
				defer func() { <-places }()
				errs[i] = r.revoke(ctx, s, d)
			})
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// revoke tells Descope that a token has ended. That it has ended already is as good,
// unless another replica may have spent it.
func (r *Renewer) revoke(ctx context.Context, s *signIn, d debt) error {
	ctx, cancel := context.WithTimeout(ctx, revokeBudget)
	defer cancel()
	_, err := r.api.Post(ctx, descope.Session, descope.PathLogout, d.Token, struct{}{})
	if r.api.IsOver(err) {
		err = nil
		if r.shared != nil && s != nil && !d.isOver {
			if next, storeErr := r.markOne(ctx, d.Token, s); next == nil && (storeErr != nil || r.shared.wasAway(time.Now())) {
				err = errMaybeSpent
			}
		}
	}
	if err == nil && s != nil {
		r.mu.Lock()
		s.settle(d.Token)
		r.mu.Unlock()
	}
	return err
}

// settle notes that Descope has nothing to hear of t any more.
func (s *signIn) settle(t *token.Token) {
	s.owed = slices.DeleteFunc(s.owed, func(d debt) bool { return d.Raw == t.Raw })
}

// outwait returns when no other replica can still act on what it read in the store before
// the marks were there. The answer to a logout then means that every answer that begins
// after it has seen the logout.
func (r *Renewer) outwait(told time.Time) {
	if r.shared != nil {
		<-time.After(storeTimeout - time.Since(told))
	}
}

// LogOutEverywhere ends all sessions of t's user: call tells Descope with the newest
// token. Only when that has succeeded is anything ended here, so that it can be tried
// again.
func (r *Renewer) LogOutEverywhere(ctx context.Context, t *token.Token) error {
	if err := r.admit(t, time.Now()); err != nil {
		return err
	}
	_, err := r.Follow(ctx, t, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return r.api.Post(ctx, descope.Session, descope.PathLogoutAll, t, struct{}{})
	})
	if err != nil {
		return err
	}
	now := time.Now()
	s := r.endSignIn(t, now)
	r.mu.Lock()
	r.memory.cut.Put(t.Claims.User(), now, now, cutKept)
	r.mu.Unlock()
	r.markInStore(ctx, t, s)
	r.mu.Lock()
	s.owed = nil // Descope has ended all of it
	r.mu.Unlock()
	r.outwait(now)
	return nil
}
