package descope

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/token"
)

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

func (b *strangerBudget) accept(t *token.Token, now time.Time) {
	if t == nil || !t.Unverified {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted.Put(token.HashOf(t.Raw), struct{}{}, now, acceptedMemory)
}
