package descope

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Shares are what one user may have of a class, or one network where nobody is signed in.
// A full one is forgotten.
type shares struct {
	rate  rate.Limit // a second
	burst int        // at once
	held  fading.Map[string, *rate.Limiter]
}

const maxShares = 100_000

// newShares returns the shares of a class: sessions of many devices and tabs, what a page
// asks about its user, a few attempts at a code, an
// office that signs in at nine.
func newShares(class Class) *shares {
	s := map[Class]shares{
		Session:      {rate: 1, burst: 30},
		Account:      {rate: 2, burst: 20},
		SecondFactor: {rate: 0.1, burst: 10},
		Anonymous:    {rate: 1, burst: 60},
	}[class]
	s.held = fading.New[string, *rate.Limiter](maxShares)
	return &s
}

// take takes one call of a share, and returns when there is one again if there is none.
func (s *shares) take(who string, now time.Time) (wait time.Duration) {
	if who == "" {
		return 0
	}
	share, ok := s.held.Get(who, now)
	if !ok {
		share = rate.NewLimiter(s.rate, s.burst)
	}
	if !share.AllowN(now, 1) {
		wait = time.Duration((1 - share.TokensAt(now)) / float64(s.rate) * float64(time.Second))
	}
	untilFull := time.Duration(float64(s.burst) / float64(s.rate) * float64(time.Second))
	s.held.Put(who, share, now, untilFull)
	return max(wait, 0)
}

type networkKey struct{}

// WithNetwork says where a client is that nobody is signed in at: what it calls counts
// for its network.
func WithNetwork(ctx context.Context, network string) context.Context {
	return context.WithValue(ctx, networkKey{}, network)
}

// callerOf returns whose share a call is of: that of the user of a verified token. Who
// holds tokens that could not be verified has a share for each. A login ID that was sent
// says nothing, because a stranger could use up a user's share with it.
func callerOf(ctx context.Context, t *token.Token) string {
	switch {
	case t == nil:
		network, _ := ctx.Value(networkKey{}).(string)
		return network
	case t.Unverified:
		hash := token.HashOf(t.Raw)
		return "token " + string(hash[:])
	}
	return "user " + t.Claims.User()
}

// Bounds on calls with refresh tokens whose key was never held here.
const (
	unverifiedRate, unverifiedBurst = 5, 1
	maxAcceptedTokens               = 100_000
	acceptedMemory                  = 24 * time.Hour
)

// A stranger budget bounds calls with refresh tokens that could not be checked
// here, because their key was never held: whoever invents kids could otherwise
// have every one of them asked at Descope. Tokens that Descope has accepted
// before are exempt, so that a flood stops nobody who is signed in.
type strangerBudget struct {
	limit *rate.Limiter

	mu       sync.Mutex
	accepted fading.Map[token.Hash, struct{}]
	reserved fading.Map[token.Hash, struct{}]
}

func newStrangerBudget() *strangerBudget {
	return &strangerBudget{
		limit:    rate.NewLimiter(unverifiedRate, unverifiedBurst),
		accepted: fading.New[token.Hash, struct{}](maxAcceptedTokens),
		reserved: fading.New[token.Hash, struct{}](maxAcceptedTokens),
	}
}

// reserve takes the place of the next call with t. Whatever is to be written about
// t before that call, in memory or in a store, is within the budget, too.
func (b *strangerBudget) reserve(t *token.Token, now time.Time) error {
	if err := b.enter(t, now); err != nil || t == nil || !t.Unverified {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved.Put(token.HashOf(t.Raw), struct{}{}, now, callLimit)
	return nil
}

func (b *strangerBudget) enter(t *token.Token, now time.Time) error {
	if t == nil || !t.Unverified {
		return nil
	}
	b.mu.Lock()
	_, known := b.accepted.Get(token.HashOf(t.Raw), now)
	if !known {
		_, known = b.reserved.Get(token.HashOf(t.Raw), now)
		b.reserved.Drop(token.HashOf(t.Raw))
	}
	b.mu.Unlock()
	if !known && !b.limit.AllowN(now, 1) {
		return unsent("too many refresh tokens of unknown keys", time.Second, nil)
	}
	return nil
}

// Accepted reports whether Descope has answered a call with t.
func (c *Client) Accepted(t *token.Token) bool {
	c.strangers.mu.Lock()
	defer c.strangers.mu.Unlock()
	_, ok := c.strangers.accepted.Get(token.HashOf(t.Raw), time.Now())
	return ok
}

func (b *strangerBudget) accept(t *token.Token, now time.Time) {
	if t == nil || !t.Unverified {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted.Put(token.HashOf(t.Raw), struct{}{}, now, acceptedMemory)
}
