package descopehttp

import (
	"context"
	"errors"
	"time"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/token"
)

// logOut logs t and all that came of it out: call tells Descope about the newest
// token. From here on nothing of it is handed out, here or on another replica,
// by memory or by a flight that is still to land.
func (f *refresher) logOut(ctx context.Context, t *token.Token, call func(context.Context, *token.Token) error) error {
	now := time.Now()
	if err := f.admit(t, now); err != nil {
		return err
	}
	f.mu.Lock()
	_, done := f.memory.told.Get(token.HashOf(t.Raw), now)
	newest := f.memory.end(t, now)
	flights := make([]*flight, len(newest))
	for i, t := range newest {
		flights[i] = f.flights[token.HashOf(t.Raw)]
	}
	f.mu.Unlock()
	if done {
		return nil
	}
	storeErrs := make([]error, len(newest))
	for i := range newest {
		newest[i], storeErrs[i] = f.leaveTombstones(t, newest[i])
	}
	told := time.Now()
	var failed error
	for i := range newest {
		if err := f.logOutNewest(ctx, newest[i], flights[i], storeErrs[i], call); err != nil {
			failed = err
		}
	}
	if failed != nil {
		return failed
	}
	f.mu.Lock()
	f.memory.told.Put(token.HashOf(t.Raw), struct{}{}, now, endedWindow)
	f.mu.Unlock()
	f.outwait(ctx, told)
	return nil
}

// logOutNewest ends one token at Descope, and what comes of it meanwhile, here or on
// another replica. fl is the flight that was under way for it, or nil; storeErr says
// that a tombstone for it could not be left.
func (f *refresher) logOutNewest(ctx context.Context, newest *token.Token, fl *flight, storeErr error, call func(context.Context, *token.Token) error) error {
	if fl != nil {
		if err := fl.wait(ctx); err != nil {
			return err
		}
		if fl.revoke != nil {
			return fl.revoke
		}
	}
	err := call(ctx, newest)
	for range maxWalk {
		if f.shared == nil || err == nil || ignoreEnded(err) != nil {
			break
		}
		// Refused because it has ended already, or because another replica spent
		// it before it saw the tombstone; then something came of it.
		refused := newest
		if newest, storeErr = f.leaveTombstones(refused, refused); newest.Raw == refused.Raw {
			break
		}
		err = call(ctx, newest)
	}
	switch {
	case ignoreEnded(err) != nil:
		return err
	case err != nil && (storeErr != nil || f.shared != nil && f.shared.wasAway()):
		return errMaybeSpent
	}
	return nil
}

// admit holds logouts with tokens that cannot be told from invented ones to their
// budget: a logout leaves something behind, and without keys anybody can begin one.
func (f *refresher) admit(t *token.Token, now time.Time) error {
	if f.knows(t, now) {
		return nil
	}
	t.Unverified = t.Unverified || !f.keys.held.Load().usable(now)
	return f.api.Reserve(t)
}

// knows reports whether t is one that Descope has taken or given here, or is being
// asked about.
func (f *refresher) knows(t *token.Token, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, taken := f.memory.links.Get(token.HashOf(t.Raw), now)
	_, given := f.memory.issued.Get(token.HashOf(t.Raw), now)
	return taken || given || f.flights[token.HashOf(t.Raw)] != nil
}

// outwait returns when no other replica can still act on what it read in the store
// before a tombstone was left there. The answer to a logout then means that every
// answer that begins after it has seen the logout.
func (f *refresher) outwait(ctx context.Context, told time.Time) {
	if f.shared == nil {
		return
	}
	select {
	case <-time.After(storeTimeout - time.Since(told)):
	case <-ctx.Done():
	}
}

// leaveTombstones leaves tombstones in the store for t and newest, and for what the
// other replicas know to have come of it. It returns the newest token, and an
// error if one could not be left.
func (f *refresher) leaveTombstones(t, newest *token.Token) (*token.Token, error) {
	if f.shared == nil {
		return newest, nil
	}
	var err error
	if t.Raw != newest.Raw {
		_, err = f.shared.end(t, newest.Raw)
	}
	for range maxWalk {
		r, endErr := f.shared.end(newest, "")
		err = errors.Join(err, endErr)
		if r == nil || r.Refresh == "" || r.Refresh == newest.Raw {
			break
		}
		next, parseErr := f.rules.Parse(r.Refresh, token.RefreshDRN)
		if parseErr != nil || next.Claims.User() != t.Claims.User() {
			break
		}
		newest = next
		f.noteEnded(newest)
	}
	return newest, err
}

// logOutEverywhere logs the user of t out everywhere: call tells Descope with the newest
// token. Only when that has succeeded is anything forgotten, so that it can be
// tried again.
func (f *refresher) logOutEverywhere(ctx context.Context, t *token.Token, call func(context.Context, *token.Token) error) error {
	if err := f.admit(t, time.Now()); err != nil {
		return err
	}
	newest := t
	_, err := f.follow(ctx, t, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		newest = t
		return nil, call(ctx, t)
	})
	if err != nil {
		return err
	}
	_, _ = f.leaveTombstones(t, newest) // Descope has ended all of it
	told := time.Now()
	f.mu.Lock()
	f.memory.end(t, told)
	f.memory.endUser(t.Claims.User(), told)
	f.mu.Unlock()
	f.outwait(ctx, told)
	return nil
}

// endedBy reports whether t was logged out, by what the store holds of it.
func (f *refresher) endedBy(t *token.Token, r *record) bool {
	if r.Ended {
		f.noteEnded(t)
	}
	return r.Ended
}

func (f *refresher) noteEnded(t *token.Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.memory.end(t, time.Now())
}

// lookForTombstone notes a logout of t on another replica.
func (f *refresher) lookForTombstone(ctx context.Context, t *token.Token) {
	if f.shared == nil {
		return
	}
	if r, _ := f.shared.peek(ctx, t); r != nil {
		f.endedBy(t, r)
	}
}

func (f *refresher) revoke(ctx context.Context, refresh string) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	_, err := f.api.Post(ctx, descope.Session, descope.PathLogout, &token.Token{Raw: refresh}, struct{}{})
	return ignoreEnded(err)
}

// ignoreEnded drops the error that says that a session has ended already.
func ignoreEnded(err error) error {
	if descope.EndsSession(err) {
		return nil
	}
	return err
}
