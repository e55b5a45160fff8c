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
	guessesPerDay     = 50 // for one login id, from networks that it has not signed in from
	guessDay          = 24 * time.Hour
	knownNetwork      = 90 * 24 * time.Hour // a network is known for this long after a sign-in
	signUpsPerNetwork = 10                  // in guessWindow, from one network
	pendingPerNetwork = 8                   // 503s in pendingWindow for tokens of unknown keys
	pendingWindow     = keyFetchFloor
	maxCounters       = 100_000
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
		return &failure{problem: problemUnavailable, reason: "Descope could not be reached a moment ago", retryAfter: wait, cause: errUpstreamLimit}
	}
	if g.failures >= gateFailures && g.probing {
		return &failure{problem: problemUnavailable, reason: "Descope is being tried again", retryAfter: time.Second}
	}
	if !g.budget.AllowN(now, 1) {
		return &failure{problem: problemUnavailable, reason: "too many calls to Descope", retryAfter: time.Second, cause: errUpstreamLimit}
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
// count never falls below 0. Keys are hashes. Any error means "not available":
// the caller counts in its own memory. Add must not outlast its context and must
// be safe for concurrent use.
type AttemptStore interface {
	Add(ctx context.Context, key string, delta int, window time.Duration) (count int, reset time.Duration, err error)
}

// attempts limits how often codes can be guessed and sign-ups begun.
type attempts struct {
	projectID string
	clientIP  func(*http.Request) netip.Addr
	store     AttemptStore // nil: memory only
	memory    counters
	log       *slog.Logger
	warn      rate.Sometimes
}

// guess counts a guess at the code of loginID. It returns what to call with the
// outcome: a right code and "cannot tell" give the guess back. The answer is the
// same whether or not there is such a user.
//
// Two limits hold: for one login id from one network, and for one login id from
// all networks that it never signed in from. A network that it did sign in from
// has its own count only, so that no stranger can lock the user out.
func (a *attempts) guess(r *http.Request, loginID string) (done func(context.Context, error), err error) {
	id := foldLoginID(loginID)
	network := networkOf(a.clientIP(r))
	limits := []limit{{a.key("guess", id, network), guessesPerNetwork, guessWindow}}
	known := a.key("known", id, network)
	if count, _ := a.add(r.Context(), known, 0, knownNetwork); count == 0 {
		limits = append(limits, limit{a.key("day", id), guessesPerDay, guessDay})
	}
	if err := a.take(r.Context(), limits); err != nil {
		return nil, err
	}
	return func(ctx context.Context, outcome error) {
		if outcome == nil {
			a.add(ctx, known, 1, knownNetwork)
		}
		if outcome == nil || errors.Is(outcome, ErrUnavailable) {
			a.giveBack(ctx, limits)
		}
	}, nil
}

// signUp counts a sign-up from the client's network.
func (a *attempts) signUp(r *http.Request) error {
	return a.take(r.Context(), []limit{{a.key("signup", networkOf(a.clientIP(r))), signUpsPerNetwork, guessWindow}})
}

// pending counts a token of an unknown key and reports whether its client may
// be told to come back: a flood of invented kids is answered 401.
func (a *attempts) pending(r *http.Request) bool {
	count, _, _ := a.memory.Add(r.Context(), a.key("pending", networkOf(a.clientIP(r))), 1, pendingWindow)
	return count <= pendingPerNetwork
}

type limit struct {
	key    string
	max    int
	window time.Duration
}

// take counts one attempt against all limits, or none if one is reached. It
// counts before the attempt is made: a thousand at once must not all pass.
func (a *attempts) take(ctx context.Context, limits []limit) error {
	for i, l := range limits {
		count, reset := a.add(ctx, l.key, 1, l.window)
		if count <= l.max {
			continue
		}
		a.giveBack(ctx, limits[:i+1])
		return &failure{problem: problemTooManyRequests, reason: "too many attempts", retryAfter: reset}
	}
	return nil
}

func (a *attempts) giveBack(ctx context.Context, limits []limit) {
	for _, l := range limits {
		a.add(ctx, l.key, -1, l.window)
	}
}

// add counts in the store, or in memory if there is none or it is away.
func (a *attempts) add(ctx context.Context, key string, delta int, window time.Duration) (count int, reset time.Duration) {
	if a.store != nil {
		// Not on the client's context: hanging up must not give a guess back.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		count, reset, err := a.store.Add(ctx, key, delta, window)
		if err == nil {
			return count, reset
		}
		a.warn.Do(func() {
			a.log.LogAttrs(ctx, slog.LevelError, "descopehttp: the attempt store is not available; this replica counts by itself",
				slog.Bool("timeout", errors.Is(err, context.DeadlineExceeded)))
		})
	}
	count, reset, _ = a.memory.Add(ctx, key, delta, window)
	return count, reset
}

// key returns the store's key for a count. It is a hash: login ids are nobody
// else's business, and may be of any length.
func (a *attempts) key(parts ...string) string {
	sum := sha256.Sum256([]byte(a.projectID + "\x00" + strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
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
	network, err := addr.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return network.String()
}

// remoteAddr is the default of Config.ClientIP.
func remoteAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr()
}

// counters is an AttemptStore in memory.
type counters struct {
	mu      sync.Mutex
	entries fading[string, *counter]
}

type counter struct {
	count int
	until time.Time
}

func newCounters() counters {
	return counters{entries: newFading[string, *counter](maxCounters)}
}

// Add implements [AttemptStore].
func (c *counters) Add(_ context.Context, key string, delta int, window time.Duration) (int, time.Duration, error) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries.get(key, now)
	if !ok {
		if delta <= 0 {
			return 0, 0, nil
		}
		e = &counter{until: now.Add(window)}
		c.entries.put(key, e, now, window)
	}
	e.count = max(e.count+delta, 0)
	return e.count, e.until.Sub(now), nil
}
