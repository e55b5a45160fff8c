package descope

import (
	"time"

	"golang.org/x/time/rate"
)

// A room is what calls that could wait may have of a budget. All calls take of it, as long
// as there is any.
//
// What is done early brings calls forward, and a budget that is used to its end leaves none
// for those that cannot wait when their time comes again: a fifth is left, and it takes the
// life of a usual session until all that is due has been seen once. And nobody knows what
// Descope grants the kit: until more calls than it grants anybody have been answered within
// a minute, all of them with what is done early stay well below that.
type room struct {
	limit *rate.Limiter

	proved time.Time // when the grant was; the zero time if it has not been
	began  time.Time // of the minute in which calls are counted
	calls  int
	grown  time.Time // when limit was set last
	asked  time.Time // when Descope asked for fewer calls last
}

const (
	roomOfBudget = 0.8
	roomGrows    = 10 * time.Minute // until it is as large as that
	grantedAny   = 100              // calls in a minute (docs.descope.com, "Rate Limiting")
	unprovedRoom = 1                // call a second
	// Where calls were too many there is no room for so long: to feel the way up again is for
	// those that cannot wait, because each time that Descope asks for fewer these are refused.
	noRoomAfterLimit = 24 * time.Hour
)

func newRoom() room { return room{limit: rate.NewLimiter(unprovedRoom, secondsAtOnce*unprovedRoom)} }

// isOpen reports whether a call that could wait may be made.
func (r *room) isOpen(now time.Time) bool {
	return (r.asked.IsZero() || now.Sub(r.asked) >= noRoomAfterLimit) && isHalfFull(r.limit, now)
}

// note counts a call that was answered, of a class that may make own a second.
func (r *room) note(now time.Time, own rate.Limit) {
	if !r.proved.IsZero() {
		r.grow(now, own)
		return
	}
	if now.Sub(r.began) > time.Minute {
		r.began, r.calls = now, 0
	}
	if r.calls++; r.calls > grantedAny {
		r.proved = now
	}
}

func (r *room) grow(now time.Time, own rate.Limit) {
	if now.Sub(r.grown) < time.Second {
		return
	}
	r.grown = now
	grown := min(float64(now.Sub(r.proved))/float64(roomGrows), 1)
	calls := max(roomOfBudget*own*rate.Limit(grown), min(unprovedRoom, own))
	r.limit.SetLimitAt(now, calls)
	r.limit.SetBurstAt(now, int(secondsAtOnce*calls)+1)
}
