package renew

import (
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on renewing for the sake of those who are active.
const (
	minIdle    = time.Minute      // what Descope tells is taken for no less
	usualIdle  = 10 * time.Minute // the shortest that Descope's console offers, until it tells
	idleKept   = 24 * time.Hour   // that a time was told, if it is not told again
	probeEvery = 10 * time.Second
)

// An idleLimit is how long Descope lets a sign-in go without a refresh, in projects that
// end those of users who are not active: its answers tell it as nextRefreshSeconds. By
// then a session is due though it lives on.
//
// The times are those of a project's settings or a tenant's, so the shortest that was told
// within a day is held to for all. To keep one with each session would be no better: a
// session may have been made on another replica, or before a restart, where this one was
// told nothing. A session that is renewed early costs a call, and one that is renewed late
// the sign-in.
type idleLimit struct {
	limit atomic.Int64 // nanoseconds; 0: Descope has told nothing yet; noLimit

	mu     sync.Mutex // guards all below
	told   time.Time  // when limit was told last
	probed time.Time
}

const noLimit = -1

// tell notes what an answer of Descope says, 0 for none.
func (i *idleLimit) tell(limit time.Duration, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	held, isOld := time.Duration(i.limit.Load()), now.Sub(i.told) >= idleKept
	switch {
	case limit > 0 && (held <= 0 || max(limit, minIdle) <= held || isOld):
		i.limit.Store(int64(max(limit, minIdle)))
		i.told = now
	case limit <= 0 && (held <= 0 || isOld):
		i.limit.Store(noLimit)
	}
}

// isDue reports whether half of the time has passed since Descope made a session: whoever
// sends a request in every half stays signed in. Until Descope has told, a session that
// outlives the usual time is taken to be due by then.
func (i *idleLimit) isDue(issued, expiry, now time.Time) bool {
	limit := time.Duration(i.limit.Load())
	if limit == 0 && expiry.Sub(issued) > usualIdle {
		limit = usualIdle
	}
	return limit > 0 && !issued.IsZero() && now.Sub(issued) >= limit/2
}

// isOver reports whether the time is up, or about to be.
func (i *idleLimit) isOver(issued, now time.Time) bool {
	limit := time.Duration(i.limit.Load())
	return limit > 0 && !issued.IsZero() && now.Sub(issued) > limit-aheadOfEnd
}

// mayAsk reports whether a session that is due may be renewed now, where Descope answered
// for it last at answered, the zero time if that is not known. A clock that is ahead would
// else have it renewed with each request. Where Descope has told nothing yet, one request at
// a time finds out for all.
func (i *idleLimit) mayAsk(answered, now time.Time) bool {
	if limit := time.Duration(i.limit.Load()); limit != 0 {
		return now.Sub(answered) >= limit/2
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if now.Sub(i.probed) < probeEvery {
		return false
	}
	i.probed = now
	return true
}
