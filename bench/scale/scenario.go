// Package scale plays sites of thousands of users in fake time: the kit's real code over
// a Descope in memory, which answers after a while, grants each address so many calls and
// can go away.
//
//	go run ./bench/cmd/scale         # all of it, under 15 minutes; writes bench/results
//	go test ./bench/scale            # the same scenarios with few users
//
// A [Scenario] says what a site is like and what happens to it; Play must run in a
// testing/synctest bubble. Tokens are signed with ES256, so that signing is not what
// takes the time. site.go has the site with its replicas and users, away.go what is on
// the other side of the network: Descope, and the store that the replicas share.
package scale

import (
	"time"

	"github.com/descopehttp/descopehttp"
)

// A Scenario is a site and what happens to it.
type Scenario struct {
	Group  Group
	Users  int
	Every  time.Duration // between two pages of a user, give or take a tenth
	Retry  time.Duration // the same for one who sees a 503; 0: Every
	AtOnce int           // requests of a page
	Come   time.Duration // the users come one after the other within it
	Slept  bool          // they signed in yesterday: their sessions have expired
	Lasts  time.Duration

	Replicas  int
	Addresses int  // that the replicas call from, in turn
	Sticky    bool // each user has one replica; else they take turns, request by request
	Shared    bool // replicas share a store
	Limits    descopehttp.Limits
	Peer      bool // a middleware that refreshes with every request, in place of the kit
	Weigh     bool // measure memory

	Rotation bool
	Grant    Grant
	Outage   Outage
}

// A Grant is what Descope lets one address do. The zero value is all.
type Grant struct {
	Calls int
	Per   time.Duration
	Pause time.Duration // after too many; 0: until Per is over
}

// What Descope documents ("Rate limits"): for backends, and for plain API calls.
var (
	Backend = Grant{Calls: 1000, Per: 10 * time.Second}
	Plain   = Grant{Calls: 100, Per: time.Minute, Pause: time.Minute}
)

// Second returns how many calls a second that is.
func (g Grant) Second() float64 { return float64(g.Calls) / g.Per.Seconds() }

// An Outage is when Descope's edge answers 503.
type Outage struct{ At, For time.Duration }

func (o Outage) includes(at time.Duration) bool { return o.At <= at && at < o.At+o.For }

const (
	// Session is how long a session lives.
	Session = 10 * time.Minute
	// Step is the time that one entry of a Result's series is about.
	Step = 10 * time.Second

	tick     = 100 * time.Millisecond
	latency  = 80 * time.Millisecond     // of a call to Descope
	storeLag = 500 * time.Microsecond    // of a call to the store
	night    = 9 * time.Hour             // since the users signed in who have slept
	slow     = time.Second               // what an answer that takes longer is
	longIdle = 25 * time.Hour            // until the kit has forgotten all that it ever forgets
	entries  = int(4 * time.Hour / Step) // of a series at most
)

// A Result is what came of it.
type Result struct {
	Scenario

	// Series, an entry for each Step: answers to users by status, and calls to Descope,
	// of which some were too many.
	OK, Unavailable, Unauthorized, Other []int
	Calls, TooMany                       []int
	StoreCalls, StoreBytes               []int

	SessionBytes int // of a session token

	Renewals  int           // calls that Descope answered with a session
	Slow      int           // answers that took more than a second
	Refused   int           // users who were refused something, at least once
	SignedOut int           // times that cookies were deleted
	Longest   time.Duration // from a user's first refusal to the next page that was served
	// LastBack is when the last of the users who had been refused was served again; Again
	// are those of them who were refused after that, Away those who were not served again.
	LastBack    time.Duration
	Again, Away int

	Store     StoreUse
	HeapBytes int // of the kit, at the end

	Wall, CPU time.Duration // that playing it took
}

// Total returns the sum of a series.
func Total(series []int) (n int) {
	for _, v := range series {
		n += v
	}
	return n
}

// Between returns the sum of what was counted from one time on until another.
func Between(series []int, from, to time.Duration) int {
	last := min(int(to/Step), len(series))
	return Total(series[min(int(from/Step), last):last])
}
