package descopehttp

import (
	"context"
	"time"
)

// A Status is what an [Auth] holds at one moment, for a status page or for whoever is woken
// at night. Nothing in it is a secret or about a user.
type Status struct {
	// Keys are the public keys that sessions are judged by, 0 if there are none that may
	// still be trusted, or none were fetched yet: the first request fetches them then, and is
	// answered 503 if it cannot.
	Keys int
	// KeysAge is how long ago Descope was asked for them: an hour at most, unless fetches
	// fail, and then they serve for a day. For Config.Keys it is since New.
	KeysAge time.Duration
	// KeysTrouble is what docs/operations.md calls the trouble of the last fetch, such as "keys_stale".
	KeysTrouble string

	// Gates are those of the classes of calls to Descope: session, account, second_factor
	// and sign_in.
	Gates []GateStatus
	// RefreshesInTheAir wait for Descope's answer, of MaxRefreshesInTheAir that may; what
	// else may spend a token is among them.
	RefreshesInTheAir, MaxRefreshesInTheAir int

	// RefreshStore and AttemptStore are "ok", "away", or "none".
	RefreshStore, AttemptStore string

	CachedSessions, MaxCachedSessions   int // about how many, and Config's bound; 0 if it is off
	RememberedBytes, MaxRememberedBytes int // of sessions that were renewed, and Config's bound
}

// A GateStatus says whether calls of one class are made.
type GateStatus struct {
	Class string // as in Limits: "session", "account", "second_factor", "sign_in"
	// State is "open"; "closed", because five calls in a row did not reach Descope; or
	// "paused", because it has asked for fewer.
	State string
	Retry time.Duration // until a call is made again; 0 if one may be made now
	Limit float64       // calls a second: that of Config.Limits, or less where Descope grants less
	Used  float64       // of what may come at once, from 0 to 1: at 1 calls wait, and then fail
}

// Status returns what a holds now. It calls nobody and waits for nothing. Each Auth has a
// state of its own: ask every replica. Whether to send requests here is told by
// [Auth.Ready], which a gate that is closed or a store that is away has no part in, because
// most requests need neither.
func (a *Auth) Status() Status {
	now := time.Now()
	s := Status{
		KeysTrouble:  a.keys.state.Trouble(),
		RefreshStore: storeStatus(a.renewer.StoreTrouble()),
		AttemptStore: storeStatus(a.attempts.StoreTrouble()),
	}
	if held := a.keys.held.Load(); held.usable(now) {
		s.Keys, s.KeysAge = len(held.byID), now.Sub(held.began)
	}
	for _, g := range a.api.Gates(now) {
		s.Gates = append(s.Gates, GateStatus(g))
	}
	s.RefreshesInTheAir, s.MaxRefreshesInTheAir = a.api.InTheAir()
	s.CachedSessions, s.MaxCachedSessions = a.judge.cache.size()
	s.RememberedBytes, s.MaxRememberedBytes = a.renewer.Remembered()
	return s
}

func storeStatus(trouble string, isUsed bool) string {
	switch {
	case !isUsed:
		return "none"
	case trouble != "":
		return "away"
	}
	return "ok"
}

// Ready returns nil once the project's keys are held. If none are, it fetches
// them, for five seconds at the most; the error then wraps [ErrUnavailable]. It
// suits a readiness probe.
func (a *Auth) Ready(ctx context.Context) error { return a.keys.ready(ctx) }

// Wait returns when no refresh or key fetch is under way any more, or with the
// context's error. Call it after the server's Shutdown, so that a refresh that
// has spent a token can still be completed.
func (a *Auth) Wait(ctx context.Context) error {
	if err := a.renewer.Wait(ctx); err != nil {
		return err
	}
	return a.keys.tasks.Wait(ctx)
}
