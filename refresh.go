package descopehttp

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// refreshTimeout bounds one refresh, from the first look at the keys to the
// verified answer.
const refreshTimeout = 5 * time.Second

// A refresher renews sessions: one call to Descope per refresh token at a time,
// however many requests wait for it. With rotation, a second call would present
// a token that the first has spent.
type refresher struct {
	api   *api
	keys  *keySet
	rules *tokenRules
	log   *slog.Logger
	tasks tasks

	mu      sync.Mutex
	flights map[tokenHash]*flight

	oddRefusals rate.Sometimes
}

// tokenHash stands for a token in memory: what is kept longer than a request is
// not kept under the token itself.
type tokenHash [sha256.Size]byte

func hashOf(token string) tokenHash { return sha256.Sum256([]byte(token)) }

// A flight is one call to Descope that several requests may wait for.
type flight struct {
	done   chan struct{} // closed when result and err are set
	result *renewal
	err    error
}

// A renewal is a verified answer of Descope with tokens in it.
type renewal struct {
	session *Session
	refresh string    // the new refresh token, or "" if the old one stays in force
	until   time.Time // when the refresh token in force expires
	answer  *tokenAnswer
}

func newRefresher(a *Auth) *refresher {
	return &refresher{
		api:         a.api,
		keys:        a.keys,
		rules:       &a.rules,
		log:         a.log,
		flights:     make(map[tokenHash]*flight),
		oddRefusals: rate.Sometimes{Interval: time.Minute},
	}
}

// refresh renews the session of a refresh token that has passed the local
// checks. It waits for a call under way for the same token, or begins one. The
// call outlives ctx: if this client hangs up, the others still need the result.
//
// The error is a *failure: the session ended, or "cannot tell".
func (f *refresher) refresh(ctx context.Context, t *token) (*renewal, error) {
	fl := f.join(ctx, t)
	select {
	case <-fl.done:
		return fl.result, fl.err
	case <-ctx.Done():
		return nil, &failure{problem: problemUnavailable, reason: "refresh did not end in time", timeout: true, retryAfter: defaultRetryAfter}
	}
}

func (f *refresher) join(ctx context.Context, t *token) *flight {
	id := hashOf(t.raw)
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.flights[id]; fl != nil {
		return fl
	}
	fl := &flight{done: make(chan struct{})}
	f.flights[id] = fl
	detached := context.WithoutCancel(ctx)
	f.tasks.start(func() {
		ctx, cancel := context.WithTimeout(detached, refreshTimeout)
		defer cancel()
		fl.result, fl.err = f.fly(ctx, t)
		f.mu.Lock()
		delete(f.flights, id)
		f.mu.Unlock()
		close(fl.done)
	})
	return fl
}

// fly makes the call. A panic in what the user plugged in, a transport or a log
// handler, must not end the process from a goroutine where nobody can recover.
func (f *refresher) fly(ctx context.Context, t *token) (r *renewal, err error) {
	defer func() {
		if recover() != nil {
			r, err = nil, problemUnavailable.because("a panic ended the refresh")
		}
	}()
	// Without keys the answer could not be judged, and the token would be spent.
	if err := f.keys.ready(ctx); err != nil {
		return nil, err
	}
	a, err := f.api.call(ctx, http.MethodPost, pathRefresh, t.raw, []byte("{}"))
	if err != nil {
		return nil, f.refusal(ctx, err)
	}
	tokens, err := tokensOf(a)
	if err != nil {
		return nil, err
	}
	return f.accept(ctx, tokens, t)
}

// refusal turns what Descope said against a refresh token into a failure. Only
// codes known to mean it end a session; a changed management key, say, must not
// sign everybody out, so an operator is told.
func (f *refresher) refusal(ctx context.Context, err error) error {
	var refused *upstreamRefusal
	if !errors.As(err, &refused) {
		return err
	}
	if refused.endsSession() {
		return &failure{problem: problemSessionEnded, reason: "Descope refused the refresh token", cause: err}
	}
	f.oddRefusals.Do(func() {
		f.log.LogAttrs(ctx, slog.LevelError, "descopehttp: Descope refuses refreshes for a reason that is not about the session; cookies are kept",
			slog.Int("status", refused.status), slog.String("errorCode", refused.code))
	})
	return &failure{problem: problemOddRefusal, reason: "Descope refused the refresh for another reason", cause: err}
}

// accept verifies an answer of Descope before any of it is handed on. presented
// is the refresh token that it answers, or nil for a sign-in: the answer must be
// about the same user.
func (f *refresher) accept(ctx context.Context, a *tokenAnswer, presented *token) (*renewal, error) {
	ctx = withFetchPolicy(ctx, fetchPastFloor)
	session, err := f.verify(ctx, a.session, sessionDRN)
	if err != nil {
		return nil, err
	}
	inForce := presented
	rotated := a.refresh != "" && (presented == nil || a.refresh != presented.raw)
	if rotated {
		if inForce, err = f.verify(ctx, a.refresh, refreshDRN); err != nil {
			return nil, err
		}
	}
	if inForce == nil {
		return nil, problemUnavailable.because("Descope's answer has no refresh token")
	}
	if user := session.claims.user(); user != inForce.claims.user() || presented != nil && user != presented.claims.user() {
		f.log.LogAttrs(ctx, slog.LevelError, "descopehttp: Descope answered a refresh token with the session of another user; refused")
		return nil, problemOtherUser.because("the answer is about another user")
	}
	r := &renewal{session: session.session(), until: inForce.claims.expiry, answer: a}
	if rotated {
		r.refresh = a.refresh
	}
	return r, nil
}

// verify judges a token in Descope's own answer by all the rules. What fails
// them is "cannot tell", not a refusal: the client did nothing wrong.
func (f *refresher) verify(ctx context.Context, raw, drn string) (*token, error) {
	t, err := f.rules.parse(raw, drn)
	if err == nil {
		err = f.rules.checkTime(&t.claims, time.Now())
	}
	if err == nil {
		err = f.keys.verify(ctx, t)
	}
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, ErrUnavailable):
		return nil, err
	}
	f.log.LogAttrs(ctx, slog.LevelError, "descopehttp: a token in Descope's answer does not pass the checks; is the clock right, and are Audience and the JWT template in line?",
		slog.String("kind", drn), slog.String("reason", failureOf(err).reason))
	return nil, problemUnavailable.because("a token in Descope's answer does not pass the checks")
}
