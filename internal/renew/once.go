package renew

import (
	"context"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/token"
)

const (
	maxTold  = 100_000
	toldKept = 24 * time.Hour
)

// told remembers what an application was told of sign-ins.
type told struct {
	mu    sync.Mutex
	names fading.Map[token.Hash, struct{}]
}

func newTold() told { return told{names: fading.New[token.Hash, struct{}](maxTold)} }

// First reports whether what has that name happened to the sign-in of t for the first time:
// here within a day, and within ten minutes on all replicas that reach the store. Of
// requests at once it is one. A token that only claims to be somebody's is never the first.
func (r *Renewer) First(ctx context.Context, name string, t *token.Token) bool {
	if t.Unverified && !r.api.Accepted(t) {
		return false
	}
	now := time.Now()
	r.mu.Lock()
	if p, spent := r.memory.find(t, now); !spent {
		t = p.newest
	}
	r.mu.Unlock()
	hash := token.HashOf(name + " " + t.Raw)
	r.told.mu.Lock()
	_, known := r.told.names.Get(hash, now)
	r.told.names.Put(hash, struct{}{}, now, toldKept)
	r.told.mu.Unlock()
	return !known && (r.shared == nil || r.shared.isFirst(ctx, name, t))
}

// isFirst is true where the store cannot be asked.
func (s *shared) isFirst(ctx context.Context, name string, t *token.Token) bool {
	own, first := newOwner(), true
	_ = s.ask(ctx, func(ctx context.Context) error {
		held, _, err := s.store.Put(ctx, s.seal.eventKey(name, t), "", []byte(own), sharedKept, false)
		first = err != nil || string(held) == own
		return err
	})
	return first
}
