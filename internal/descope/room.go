package descope

import (
	"time"

	"golang.org/x/time/rate"
)

// A room is what calls that could wait may have of a budget. All calls take of it, as long
// as there is any.
//
// What is done early brings calls forward, and a budget that is used to its end leaves none
// for those that cannot wait when their time comes again: a fifth is left. And nobody knows
// what Descope grants the kit. Until more calls than it grants anybody have been answered
// within a minute, all of them with what is done early stay well below that.
type room struct {
	limit *rate.Limiter

	proved bool
	began  time.Time // of the minute in which calls are counted
	calls  int
}

const (
	roomOfBudget = 0.8
	grantedAny   = 100 // calls in a minute (docs.descope.com, "Rate Limiting")
	unprovedRoom = 1   // call a second
)

func newRoom() room { return room{limit: rate.NewLimiter(unprovedRoom, secondsAtOnce*unprovedRoom)} }

// note counts a call that was answered, of a class that may make own a second.
func (r *room) note(now time.Time, own rate.Limit) {
	if r.proved {
		return
	}
	if now.Sub(r.began) > time.Minute {
		r.began, r.calls = now, 0
	}
	if r.calls++; r.calls <= grantedAny {
		return
	}
	r.proved = true
	r.limit.SetLimitAt(now, roomOfBudget*own)
	r.limit.SetBurstAt(now, max(int(secondsAtOnce*roomOfBudget*own), 1))
}
