package descopehttp

import (
	"crypto/sha256"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	defaultCachedSessions = 10_000
	maxCachedSessions     = 10_000_000
)

// A sessionCache keeps the verified half of sessions, so that a token is checked
// in full once and not with every request. Only tokens that have passed every
// rule go in; on a hit, what can have changed since is judged again: the clock,
// and whether the key is still in the key set.
//
// The key of an entry is the SHA-256 of the whole token. The token itself is not
// kept: the cache is no place to steal one from.
type sessionCache struct {
	entries *otter.Cache[[sha256.Size]byte, *verified] // nil: off
	rules   *tokenRules
	keys    *keySet
	seed    maphash.Seed
}

// newSessionCache returns a cache of at most size sessions; -1 switches it off.
func newSessionCache(size int, rules *tokenRules, keys *keySet) *sessionCache {
	c := &sessionCache{rules: rules, keys: keys, seed: maphash.MakeSeed()}
	switch size {
	case -1:
		return c
	case 0:
		size = defaultCachedSessions
	}
	c.entries = otter.Must(&otter.Options[[sha256.Size]byte, *verified]{
		// No expiry: it would start a goroutine that never ends. What has
		// expired is refused on the hit and pushed out by what is used.
		MaximumSize: size,
		// Upkeep on the caller's time, for the same reason.
		Executor: func(upkeep func()) { upkeep() },
	})
	return c
}

// get returns what is known of a session token, if all of it still holds.
func (c *sessionCache) get(raw string, now time.Time) (*verified, bool) {
	if c.entries == nil || len(raw) > maxTokenSize {
		return nil, false
	}
	v, ok := c.entries.GetIfPresent(cacheKey(raw))
	if !ok || !c.keys.trusts(v.key, now) || c.rules.checkTime(&v.claims, now) != nil {
		return nil, false
	}
	return v, true
}

func (c *sessionCache) put(raw string, v *verified) {
	if c.entries != nil {
		c.entries.Set(cacheKey(raw), v)
	}
}

// cacheKey copies the token to the stack: converted, a string of this size would
// be copied to the heap.
func cacheKey(raw string) [sha256.Size]byte {
	var buf [4096]byte
	return sha256.Sum256(append(buf[:0], raw...))
}

// A companion is the refresh cookie that was last judged beside a session and
// found to be the same user's. It is remembered as a keyed 64-bit hash: judging
// it again with every request would cost more than the session, and forgetting
// it costs a check.
type companion struct{ hash atomic.Uint64 }

func (c *sessionCache) fits(v *verified, refresh string) bool {
	return refresh == "" || v.companion.hash.Load() == maphash.String(c.seed, refresh)
}

func (c *sessionCache) noteFits(v *verified, refresh string) {
	v.companion.hash.Store(maphash.String(c.seed, refresh))
}
