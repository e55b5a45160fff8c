package descopehttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/time/rate"
)

// Bounds on calls to Descope while it is in trouble.
const (
	gateFailures = 5               // failures in a row that close a gate
	gatePause    = 2 * time.Second // until one call may try again
	maxGatePause = time.Minute     // that a Retry-After of Descope is honoured
)

// Budgets of calls to Descope a second, and at once. All users of the kit share
// one address there, and Descope allows a backend 1,000 calls in 10 s.
const (
	sessionRate, sessionBurst       = 100, 500
	accountRate, accountBurst       = 50, 250
	anonymousRate, anonymousBurst   = 20, 100
	unverifiedRate, unverifiedBurst = 5, 1 // with refresh tokens whose key was never held
	maxAcceptedTokens               = 100_000
	acceptedMemory                  = 24 * time.Hour
)

// Bounds on guessing. A code of six digits with the usual drift is right for 3 of
// 1,000,000 guesses.
const (
	guessesPerNetwork = 10 // in guessWindow, for one login id from one network
	guessWindow       = 10 * time.Minute
	// For one login id, from all networks together that it has not signed in from,
	// and from each that it has.
	guessesPerDay     = 50
	guessDay          = 24 * time.Hour
	knownNetwork      = 90 * 24 * time.Hour // a network is known for this long after a sign-in
	signUpsPerNetwork = 10                  // in guessWindow, from one network
	pendingPerNetwork = 8                   // 503s in pendingWindow for tokens of unknown keys
	pendingWindow     = keyFetchFloor
)

// Bounds on what is kept in memory of counts. None makes room for another one,
// neither the oldest nor the lowest: whoever invents login ids could then have the
// count of a real one forgotten, and guess on. There is room for all instead.
//
// An attempt that never got to Descope is given back, and a count of 0 is not
// kept. What stays has spent a call of the anonymous class, so there are at most
// anonymousBurst + anonymousRate a second of them within a window: 12,100 in
// guessWindow and 1,728,100 in guessDay. At about 70 bytes each, a flood at the
// full rate all day takes 130 MB, and gives them back a day later. To this come
// the requests under way, counted and not yet given back. Should they fill the
// rest, a login id that has no count yet is refused until some have ended.
const (
	countsUnderWay = 100_000
	maxGuesses     = countsUnderWay + anonymousBurst + anonymousRate*int(guessWindow/time.Second)
	maxDays        = countsUnderWay + anonymousBurst + anonymousRate*int(guessDay/time.Second)
	maxSignUps     = maxGuesses
	maxPending     = 10_000
	// Of these the oldest makes room. They limit nothing: where one is forgotten,
	// the user is a stranger until the next sign-in.
	maxKnownNetworks = 100_000
	countAges        = 24 // steps of a window in which counts that have ended are dropped
)

// A class groups calls to Descope that share a gate: a flood of one never
// delays another.
type class int

const (
	classSession   class = iota // renewing and ending sessions
	classAccount                // what a signed-in user asks and changes
	classAnonymous              // what anybody can ask

	classes // how many there are
)

// A gate lets calls of one class through to Descope. When several in a row could
// not reach it, the gate closes for a moment, so that requests fail at once
// instead of queueing up behind a timeout; then one call tries.
type gate struct {
	budget *rate.Limiter

	mu       sync.Mutex
	failures int
	until    time.Time // closed until then
	probing  bool      // one call is trying
}

func newGates() [classes]*gate {
	return [classes]*gate{
		classSession:   {budget: rate.NewLimiter(sessionRate, sessionBurst)},
		classAccount:   {budget: rate.NewLimiter(accountRate, accountBurst)},
		classAnonymous: {budget: rate.NewLimiter(anonymousRate, anonymousBurst)},
	}
}

// errUpstreamLimit marks the "cannot tell" of too many calls, by Descope's
// account or by ours.
var errUpstreamLimit = errors.New("descopehttp: rate limit")

// enter returns nil if a call may be made; leave must follow it.
func (g *gate) enter(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.until.Sub(now); wait > 0 {
		return &failure{problem: problemUnavailable, reason: "Descope could not be reached a moment ago", retryAfter: wait, unsent: true, cause: errUpstreamLimit}
	}
	if g.probing {
		return &failure{problem: problemUnavailable, reason: "Descope is being tried again", retryAfter: time.Second, unsent: true}
	}
	if !g.budget.AllowN(now, 1) {
		return &failure{problem: problemUnavailable, reason: "too many calls to Descope", retryAfter: time.Second, unsent: true, cause: errUpstreamLimit}
	}
	g.probing = g.failures >= gateFailures
	return nil
}

// leave notes how the call ended.
func (g *gate) leave(now time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	var f *failure
	switch {
	case errors.As(err, &f) && errors.Is(err, errUpstreamLimit):
		g.until = now.Add(min(f.retryAfter, maxGatePause))
	case f != nil && f.unreachable:
		if g.failures++; g.failures >= gateFailures {
			g.until = now.Add(gatePause)
		}
	case f != nil && f.hungUp: // says nothing about Descope
	default:
		g.failures = 0
	}
}

// A stranger budget bounds calls with refresh tokens that could not be checked
// here, because their key was never held: whoever invents kids could otherwise
// have every one of them asked at Descope. Tokens that Descope has accepted
// before are exempt, so that a flood stops nobody who is signed in.
type strangerBudget struct {
	limit *rate.Limiter

	mu       sync.Mutex
	accepted fading[tokenHash, struct{}]
	reserved fading[tokenHash, struct{}]
}

func newStrangerBudget() *strangerBudget {
	return &strangerBudget{
		limit:    rate.NewLimiter(unverifiedRate, unverifiedBurst),
		accepted: newFading[tokenHash, struct{}](maxAcceptedTokens),
		reserved: newFading[tokenHash, struct{}](maxAcceptedTokens),
	}
}

// reserve takes the place of the next call with t. Whatever is to be written about
// t before that call, in memory or in a store, is within the budget, too.
func (b *strangerBudget) reserve(t *token, now time.Time) error {
	if err := b.enter(t, now); err != nil || t == nil || !t.unverified {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved.put(hashOf(t.raw), struct{}{}, now, upstreamLimit)
	return nil
}

func (b *strangerBudget) enter(t *token, now time.Time) error {
	if t == nil || !t.unverified {
		return nil
	}
	b.mu.Lock()
	_, known := b.accepted.get(hashOf(t.raw), now)
	if !known {
		_, known = b.reserved.get(hashOf(t.raw), now)
		b.reserved.drop(hashOf(t.raw))
	}
	b.mu.Unlock()
	if !known && !b.limit.AllowN(now, 1) {
		return &failure{problem: problemUnavailable, reason: "too many refresh tokens of unknown keys", retryAfter: time.Second}
	}
	return nil
}

func (b *strangerBudget) accept(t *token, now time.Time) {
	if t == nil || !t.unverified {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted.put(hashOf(t.raw), struct{}{}, now, acceptedMemory)
}

// An AttemptStore counts, so that replicas share their limits on guessing. Add
// changes the count of key by delta (0 reads it) and returns the count and the
// rest of its window, which begins with the first count and lasts for window. A
// count never falls below 0, and one that is 0 has no window: the next begins a
// new one. A store must not drop counts to make room. Keys are hashes. Any error
// means "not available": the caller counts in its own memory. Add must not outlast
// its context and must be safe for concurrent use.
type AttemptStore interface {
	Add(ctx context.Context, key string, delta int, window time.Duration) (count int, reset time.Duration, err error)
}

// attempts limits how often codes can be guessed and sign-ups begun.
type attempts struct {
	projectID string
	clientIP  func(*http.Request) netip.Addr
	store     AttemptStore // nil: memory only
	log       *slog.Logger
	warn      rate.Sometimes

	// What memory counts; with a store, while that is away.
	guesses, days, signUps, pendings counters

	mu    sync.Mutex
	known fading[countKey, struct{}] // networks that a login id has signed in from
}

func newAttempts(cfg *Config, log *slog.Logger) *attempts {
	a := &attempts{
		projectID: cfg.ProjectID,
		clientIP:  cfg.ClientIP,
		store:     cfg.AttemptStore,
		log:       log,
		warn:      rate.Sometimes{Interval: time.Minute},
		guesses:   newCounters(maxGuesses, guessWindow),
		days:      newCounters(maxDays, guessDay),
		signUps:   newCounters(maxSignUps, guessWindow),
		pendings:  newCounters(maxPending, pendingWindow),
		known:     newFading[countKey, struct{}](maxKnownNetworks),
	}
	if a.clientIP == nil {
		a.clientIP = remoteAddr
	}
	return a
}

// guess counts a guess at the code of loginID. It returns what to call with the
// outcome: the guess stays counted if Descope said no to it, or if the code was
// right for somebody else. The answer is the same whether or not there is such a
// user.
//
// Two limits hold, for ten minutes and for a day. The one of the day is shared by
// all networks that the login id never signed in from; one that it did sign in
// from has its own, so that no stranger can lock the user out.
func (a *attempts) guess(r *http.Request, loginID string) (done func(context.Context, error), err error) {
	id := foldLoginID(loginID)
	network := networkOf(a.clientIP(r))
	here := a.key("known", id, network)
	day := a.key("day", id)
	if a.isKnown(r.Context(), here) {
		day = a.key("day", id, network)
	}
	taken, err := a.take(r.Context(),
		limit{&a.guesses, a.key("guess", id, network), guessesPerNetwork},
		limit{&a.days, day, guessesPerDay})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, outcome error) {
		if outcome == nil {
			a.noteKnown(ctx, here)
		}
		var refused *upstreamRefusal
		if !errors.As(outcome, &refused) && failureOf(outcome).problem != problemOtherUser {
			a.giveBack(ctx, taken)
		}
	}, nil
}

// signUp counts a sign-up from the client's network. It returns what to call with
// the outcome: a call that was not made is given back.
func (a *attempts) signUp(r *http.Request) (done func(context.Context, error), err error) {
	taken, err := a.take(r.Context(), limit{&a.signUps, a.key("signup", networkOf(a.clientIP(r))), signUpsPerNetwork})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, outcome error) {
		if failureOf(outcome).unsent {
			a.giveBack(ctx, taken)
		}
	}, nil
}

// pending counts a token of an unknown key and reports whether its client may
// be told to come back: a flood of invented kids is answered 401. One from so many
// networks that there is no room to count them is not, as the key may be new.
func (a *attempts) pending(r *http.Request) bool {
	count, _, _ := a.pendings.add(a.key("pending", networkOf(a.clientIP(r))), 1, time.Now())
	return count <= pendingPerNetwork
}

// isKnown reports whether the login id has signed in from the network.
func (a *attempts) isKnown(ctx context.Context, key countKey) bool {
	if a.store != nil {
		if count, _, err := a.addShared(ctx, key, 0, knownNetwork); err == nil {
			return count > 0
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.known.get(key, time.Now())
	return ok
}

// noteKnown notes a sign-in, in memory too: there it helps while the store is away.
func (a *attempts) noteKnown(ctx context.Context, key countKey) {
	a.mu.Lock()
	a.known.put(key, struct{}{}, time.Now(), knownNetwork)
	a.mu.Unlock()
	if a.store == nil {
		return
	}
	count, reset, err := a.addShared(ctx, key, 1, knownNetwork)
	if err == nil && reset < knownNetwork/2 {
		// A window does not move, so a new one has to begin.
		a.addShared(ctx, key, -count, knownNetwork)
		a.addShared(ctx, key, 1, knownNetwork)
	}
}

// A limit is how many attempts of one key there may be in a window.
type limit struct {
	memory *counters // which has the window
	key    countKey
	max    int
}

// taken is one attempt that was counted against a limit.
type taken struct {
	limit
	shared bool      // by the store, not in memory
	until  time.Time // the window ends
}

// take counts one attempt against all limits, or none if one is reached. It
// counts before the attempt is made: a thousand at once must not all pass.
func (a *attempts) take(ctx context.Context, limits ...limit) ([]taken, error) {
	var all []taken
	for _, l := range limits {
		count, t, ok := a.count(ctx, l)
		if !ok {
			a.giveBack(ctx, all)
			return nil, &failure{problem: problemTooManyRequests, reason: "too many attempts under way", retryAfter: time.Second}
		}
		all = append(all, t)
		if count > l.max {
			a.giveBack(ctx, all)
			return nil, &failure{problem: problemTooManyRequests, reason: "too many attempts", retryAfter: max(time.Until(t.until), time.Second)}
		}
	}
	return all, nil
}

// count counts in the store, or in memory if there is none or it is away. It is
// not ok if memory is full.
func (a *attempts) count(ctx context.Context, l limit) (count int, t taken, ok bool) {
	now := time.Now()
	if a.store != nil {
		if count, reset, err := a.addShared(ctx, l.key, 1, l.memory.window); err == nil {
			return count, taken{l, true, now.Add(reset)}, true
		}
	}
	count, until, ok := l.memory.add(l.key, 1, now)
	return count, taken{l, false, until}, ok
}

// giveBack undoes counts where they were made: what memory has counted while the
// store was away must not come off the store's count. Nor must what was counted in
// a window that has ended come off the next one.
func (a *attempts) giveBack(ctx context.Context, all []taken) {
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

// addShared counts in the store. An error has been logged.
func (a *attempts) addShared(ctx context.Context, key countKey, delta int, window time.Duration) (count int, reset time.Duration, err error) {
	// Not on the client's context: hanging up must not give a guess back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	func() {
		defer calm(&err, errStorePanic)
		count, reset, err = a.store.Add(ctx, hex.EncodeToString(key[:]), delta, window)
	}()
	if err != nil {
		a.warn.Do(func() {
			a.log.LogAttrs(ctx, slog.LevelError, "descopehttp: the attempt store is not available; this replica counts by itself",
				slog.Bool("timeout", errors.Is(err, context.DeadlineExceeded)))
		})
	}
	return count, reset, err
}

// A countKey says what is counted. It is a hash: login ids are nobody else's
// business, and may be of any length. Half of it is enough, as only an equal one
// of two that are given would do harm, and there may be many of them in memory.
type countKey [sha256.Size / 2]byte

func (a *attempts) key(parts ...string) countKey {
	sum := sha256.Sum256([]byte(a.projectID + "\x00" + strings.Join(parts, "\x00")))
	return countKey(sum[:])
}

// foldLoginID makes the spellings of one login id equal, for counting only: what
// Descope would take for the same user must not have counts of its own.
func foldLoginID(id string) string {
	return strings.ToLower(norm.NFKC.String(strings.TrimSpace(id)))
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

// counters are counts in memory, each for a window from its first on. What has
// ended is dropped by the thousand, without a look at each: a map is dropped when
// the last that began in it must have ended.
type counters struct {
	limit  int
	window time.Duration

	mu   sync.Mutex
	ages [countAges + 1]map[countKey]counter // by when they began, the youngest first
	aged time.Time                           // when the youngest map was made
}

type counter struct {
	until int64 // Unix nanoseconds; there may be many of these
	count int32
}

func newCounters(limit int, window time.Duration) counters {
	return counters{limit: limit, window: window}
}

// add changes a count and returns it and the end of its window. It is not ok, and
// the count 0, if there is no room for a new one.
func (c *counters) add(key countKey, delta int32, now time.Time) (count int, until time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age(now)
	in, e := c.find(key)
	if e.until <= now.UnixNano() {
		if c.size() >= c.limit {
			return 0, now, false
		}
		in, e = c.ages[0], counter{until: now.Add(c.window).UnixNano()}
	}
	if e.count += delta; e.count > 0 {
		in[key] = e
	} else {
		delete(in, key)
	}
	return int(max(e.count, 0)), time.Unix(0, e.until), true
}

func (c *counters) find(key countKey) (in map[countKey]counter, e counter) {
	for _, in = range c.ages {
		if e, ok := in[key]; ok {
			return in, e
		}
	}
	return nil, counter{}
}

func (c *counters) age(now time.Time) {
	if now.Sub(c.aged) > 2*c.window {
		clear(c.ages[:])
		c.ages[0], c.aged = make(map[countKey]counter), now
	}
	for step := c.window / countAges; now.Sub(c.aged) >= step; c.aged = c.aged.Add(step) {
		copy(c.ages[1:], c.ages[:])
		c.ages[0] = make(map[countKey]counter)
	}
}

func (c *counters) size() (n int) {
	for _, m := range c.ages {
		n += len(m)
	}
	return n
}
