// Package guess limits how often codes may be guessed and sign-ups begun.
//
// [Attempts.Guess] counts a guess before it is made and returns what to call with its
// outcome; [Attempts.SignUp] does so for sign-ups. Counts are kept in a [Store] where
// replicas share one, and otherwise, or while that is away, in memory (counters.go).
//
// What holds here and must go on to: it is the same for users that exist and for those
// that do not; no stranger can use up what a user has from a network that they have
// signed in from; nothing is forgotten to make room.
package guess

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/descopehttp/descopehttp/internal/calm"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
)

// Bounds on guessing, where Config names no others. A code of six digits with the usual
// drift is right for 3 of 1,000,000 guesses.
const (
	guessesPerLogin = 10 // in guessWindow, for one login id from one network
	guessWindow     = 10 * time.Minute
	// For one login id, from all networks together that it has not signed in from,
	// and from each that it has.
	guessesPerDay     = 50
	guessDay          = 24 * time.Hour
	knownNetwork      = 90 * 24 * time.Hour // a network is known for this long after a sign-in
	wrongPerNetwork   = 100                 // in guessWindow, from one network, for all login ids
	signUpsPerNetwork = 60                  // in guessWindow, from one network: a class room, and who tries twice
	pendingPerNetwork = 8                   // 503s in pendingWindow for tokens of unknown keys
	pendingWindow     = 5 * time.Second     // between two fetches of keys
)

// Bounds on what is kept in memory of counts. None makes room for another one,
// neither the oldest nor the lowest: whoever invents login ids could then have the
// count of a real one forgotten, and guess on. There is room for all instead.
//
// An attempt that never got to Descope is given back, and a count of 0 is not
// kept. What stays has spent a call of the anonymous class, so there are at most
// Calls a second and CallsAtOnce of them within a window: with the default limits 9,045 in
// guessWindow and 1,296,045 in guessDay. At about 70 bytes each, a flood at the
// full rate all day takes 100 MB, and gives them back a day later. To this come
// the requests under way, counted and not yet given back. Should they fill the
// rest, a login id that has no count yet is refused until some have ended.
const (
	countsUnderWay = 100_000
	maxPending     = 10_000
	// Of these the oldest makes room. They limit nothing: where one is forgotten,
	// the user is a stranger until the next sign-in.
	maxKnownNetworks = 100_000
)

// countsIn returns how many counts there may be in a window.
func (l *Limits) countsIn(window time.Duration) int {
	return countsUnderWay + l.CallsAtOnce + l.Calls*int(window/time.Second)
}

// A Store counts for all replicas. The root package documents and exports it.
type Store interface {
	Add(ctx context.Context, key string, delta int, window time.Duration) (count int, reset time.Duration, err error)
}

// Config says what to count by.
type Config struct {
	ProjectID string
	ClientIP  func(*http.Request) netip.Addr // nil: the address of the connection
	Store     Store                          // nil: memory only
	Notices   *notice.Reporter
	Limits
}

// Limits bound guesses and sign-ups; 0 is the default of each.
type Limits struct {
	PerLogin   int // guesses at the codes of one login id from one network, in ten minutes
	PerDay     int // guesses at the codes of one login id
	PerNetwork int // wrong guesses from one network, in ten minutes
	SignUps    int // sign-ups from one network, in ten minutes

	// Calls to Descope that anybody can make, a second and at once, bound how many counts
	// there can be. They have no default.
	Calls, CallsAtOnce int
}

// Attempts limits how often codes can be guessed and sign-ups begun. It is safe for
// concurrent use.
type Attempts struct {
	Config
	store *notice.State

	// What memory counts; with a store, while that is away.
	guesses, days, wrong, signUps, pendings counters

	mu    sync.Mutex
	known fading.Map[countKey, struct{}] // networks that a login id has signed in from
}

// New returns Attempts that has counted nothing yet.
func New(cfg Config) *Attempts {
	if cfg.ClientIP == nil {
		cfg.ClientIP = remoteAddr
	}
	return &Attempts{
		Config:   cfg,
		store:    cfg.Notices.State("", notice.AttemptStoreBack),
		guesses:  newCounters(cfg.countsIn(guessWindow), guessWindow),
		days:     newCounters(cfg.countsIn(guessDay), guessDay),
		wrong:    newCounters(cfg.countsIn(guessWindow), guessWindow),
		signUps:  newCounters(cfg.countsIn(guessWindow), guessWindow),
		pendings: newCounters(maxPending, pendingWindow),
		known:    fading.New[countKey, struct{}](maxKnownNetworks),
	}
}

// Guess counts a guess at the code of loginID. It returns what to call with the
// outcome: the guess stays counted if Descope said no to it, or if the code was
// right for somebody else. The answer is the same whether or not there is such a
// user.
//
// Two limits hold for a login id, for ten minutes and for a day. The one of the day is
// shared by all networks that the login id never signed in from; one that it did sign in
// from has its own, so that no stranger can lock the user out. A third holds for a
// network, whatever login ids are tried from there.
func (a *Attempts) Guess(r *http.Request, loginID string) (done func(context.Context, error), err error) {
	id := foldLoginID(loginID)
	network := a.Network(r)
	here := a.key("known", id, network)
	day := a.key("day", id)
	if a.isKnown(r.Context(), here) {
		day = a.key("day", id, network)
	}
	taken, err := a.take(r.Context(),
		quota{&a.guesses, a.key("guess", id, network), cmp.Or(a.PerLogin, guessesPerLogin)},
		quota{&a.days, day, cmp.Or(a.PerDay, guessesPerDay)},
		quota{&a.wrong, a.key("wrong", network), cmp.Or(a.PerNetwork, wrongPerNetwork)})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, outcome error) {
		if outcome == nil {
			a.noteKnown(ctx, here)
		}
		var refused *descope.Refusal
		if (!errors.As(outcome, &refused) || !refused.Counts()) && problem.Of(outcome).Problem != problem.OtherUser {
			a.giveBack(ctx, taken)
		}
	}, nil
}

// SignUp counts a sign-up from the client's network. It returns what to call with
// the outcome: a call that was not made is given back, and one that Descope refused for a
// reason that is not the client's.
func (a *Attempts) SignUp(r *http.Request) (done func(context.Context, error), err error) {
	taken, err := a.take(r.Context(), quota{&a.signUps, a.key("signup", a.Network(r)), cmp.Or(a.SignUps, signUpsPerNetwork)})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, outcome error) {
		var refused *descope.Refusal
		if descope.ReachOf(outcome) == descope.Unsent || errors.As(outcome, &refused) && !refused.Counts() {
			a.giveBack(ctx, taken)
		}
	}, nil
}

// Pending counts a token of an unknown key and reports whether its client may
// be told to come back: a flood of invented kids is answered 401. One from so many
// networks that there is no room to count them is not, as the key may be new.
func (a *Attempts) Pending(r *http.Request) bool {
	count, _, _ := a.pendings.add(a.key("pending", a.Network(r)), 1, time.Now())
	return count <= pendingPerNetwork
}

// isKnown reports whether the login id has signed in from the network.
func (a *Attempts) isKnown(ctx context.Context, key countKey) bool {
	if a.Store != nil {
		if count, _, err := a.addShared(ctx, key, 0, knownNetwork); err == nil {
			return count > 0
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.known.Get(key, time.Now())
	return ok
}

// noteKnown notes a sign-in, in memory too: there it helps while the store is away.
func (a *Attempts) noteKnown(ctx context.Context, key countKey) {
	a.mu.Lock()
	a.known.Put(key, struct{}{}, time.Now(), knownNetwork)
	a.mu.Unlock()
	if a.Store == nil {
		return
	}
	count, reset, err := a.addShared(ctx, key, 1, knownNetwork)
	if err == nil && reset < knownNetwork/2 {
		// A window does not move, so a new one has to begin.
		a.addShared(ctx, key, -count, knownNetwork)
		a.addShared(ctx, key, 1, knownNetwork)
	}
}

// A quota is how many attempts of one key there may be in a window.
type quota struct {
	memory *counters // which has the window
	key    countKey
	max    int
}

// taken is one attempt that was counted against a quota.
type taken struct {
	quota
	shared bool      // by the store, not in memory
	until  time.Time // the window ends
}

// take counts one attempt against all quotas, or none if one is used up. It
// counts before the attempt is made: a thousand at once must not all pass.
func (a *Attempts) take(ctx context.Context, quotas ...quota) ([]taken, error) {
	var all []taken
	for _, q := range quotas {
		count, t, ok := a.count(ctx, q)
		if !ok {
			a.giveBack(ctx, all)
			return nil, &problem.Failure{Problem: problem.TooManyRequests, Reason: "too many attempts under way", RetryAfter: time.Second}
		}
		all = append(all, t)
		if count > q.max {
			a.giveBack(ctx, all)
			return nil, &problem.Failure{Problem: problem.TooManyRequests, Reason: "too many attempts", RetryAfter: max(time.Until(t.until), time.Second)}
		}
	}
	return all, nil
}

// count counts in the store, or in memory if there is none or it is away. It is
// not ok if memory is full.
func (a *Attempts) count(ctx context.Context, q quota) (count int, t taken, ok bool) {
	now := time.Now()
	if a.Store != nil {
		if count, reset, err := a.addShared(ctx, q.key, 1, q.memory.window); err == nil {
			return count, taken{q, true, now.Add(reset)}, true
		}
	}
	count, until, ok := q.memory.add(q.key, 1, now)
	return count, taken{q, false, until}, ok
}

// giveBack undoes counts where they were made: what memory has counted while the
// store was away must not come off the store's count. Nor must what was counted in
// a window that has ended come off the next one.
func (a *Attempts) giveBack(ctx context.Context, all []taken) {
	for _, t := range all {
		switch now := time.Now(); {
		case !now.Before(t.until):
		case t.shared:
			a.addShared(ctx, t.key, -1, t.memory.window)
		default:
			t.memory.add(t.key, -1, now)
		}
	}
}

// storeTimeout is what one call of a store may take; a slower one counts as away.
const storeTimeout = 250 * time.Millisecond

var errPanic = errors.New("descopehttp: the attempt store panicked")

// addShared counts in the store. An error has been logged.
func (a *Attempts) addShared(ctx context.Context, key countKey, delta int, window time.Duration) (count int, reset time.Duration, err error) {
	began := time.Now()
	// Not on the client's context: hanging up must not give a guess back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	func() {
		defer calm.Recover(&err, errPanic)
		count, reset, err = a.Store.Add(ctx, hex.EncodeToString(key[:]), delta, window)
	}()
	a.Notices.StoreCall(ctx, "attempt", began, err)
	if err != nil {
		a.store.On(notice.AttemptStoreAway, notice.Fields{Reason: calm.Why(err, errPanic)})
	} else {
		a.store.Off()
	}
	return count, reset, err
}

// StoreTrouble returns the trouble that the store is in, "" for none, and whether there is
// one.
func (a *Attempts) StoreTrouble() (trouble string, ok bool) {
	return a.store.Trouble(), a.Store != nil
}

// A countKey says what is counted. It is a hash: login ids are nobody else's
// business, and may be of any length. Half of it is enough, as only an equal one
// of two that are given would do harm, and there may be many of them in memory.
type countKey [sha256.Size / 2]byte

func (a *Attempts) key(parts ...string) countKey {
	sum := sha256.Sum256([]byte(a.ProjectID + "\x00" + strings.Join(parts, "\x00")))
	return countKey(sum[:])
}

// foldLoginID makes the spellings of one login id equal, for counting only: what
// Descope would take for the same user must not have counts of its own. What stands around
// an id is cut off before.
func foldLoginID(id string) string {
	return strings.ToLower(norm.NFKC.String(id))
}

// Network returns what stands for the client of a request. All whose address cannot be told
// share one limit, which an operator should know.
func (a *Attempts) Network(r *http.Request) string {
	addr := a.ClientIP(r)
	if !addr.IsValid() {
		a.Notices.Tell(r.Context(), notice.UnknownAddress, notice.Fields{})
	}
	return networkOf(addr)
}

// networkOf returns what stands for one client: an IPv4 address, or the /64 that
// an IPv6 site has to itself (RFC 6177).
func networkOf(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	network, _ := addr.Prefix(bits) // all that have no address are one
	return network.String()
}

// remoteAddr is the default of Config.ClientIP.
func remoteAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr()
}
