package descopehttp

import (
	"hash/maphash"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/descopehttp/descopehttp/internal/token"
)

const (
	defaultCachedSessions = 10_000
	maxCachedSessions     = 10_000_000
)

// A sessionCache keeps the verified half of sessions, so that a token is checked in full once
// and not with every request. Only tokens that have passed every rule go in; on a hit, what can
// have changed since is judged again: the clock, and whether the key is still in the key set.
//
// The key of an entry is a fingerprint of the whole token. The token itself is not kept: the
// cache is no place to steal one from.
type sessionCache struct {
	entries *otter.Cache[token.Fingerprint, *verified] // nil: off
	prints  *token.Fingerprinter
	rules   *token.Rules
	keys    *keySet
	seed    maphash.Seed
}

// newSessionCache returns a cache of at most size sessions; -1 switches it off.
func newSessionCache(size int, rules *token.Rules, keys *keySet) *sessionCache {
	c := &sessionCache{prints: token.NewFingerprinter(), rules: rules, keys: keys, seed: maphash.MakeSeed()}
	switch size {
	case -1:
		return c
	case 0:
		size = defaultCachedSessions
	}
	c.entries = otter.Must(&otter.Options[token.Fingerprint, *verified]{
		// No expiry: it would start a goroutine that never ends. What has
		// expired is refused on the hit and pushed out by what is used.
		MaximumSize: size,
		// Upkeep on the caller's time, so that a request leaves no goroutine behind. The bound
		// holds when nothing is under way: of several callers each may be one entry ahead.
		Executor: func(upkeep func()) { upkeep() },
	})
	return c
}

// A lookup is what the cache knows of a session token.
type lookup struct {
	fp      token.Fingerprint // for put
	session *verified         // nil unless all of it still holds
}

func (c *sessionCache) lookUp(raw string, now time.Time) lookup {
	if c.entries == nil || len(raw) > token.MaxSize {
		return lookup{}
	}
	l := lookup{fp: c.prints.Of(raw)}
	v, ok := c.entries.GetIfPresent(l.fp)
	if ok && c.keys.trusts(v.Key, now) && c.rules.CheckTime(&v.Claims, now) == nil {
		l.session = v
	}
	return l
}

// put keeps the session of a token that has passed all checks, under the fingerprint
// that looking it up returned.
func (c *sessionCache) put(fp token.Fingerprint, v *verified) {
	if c.entries != nil {
		c.entries.Set(fp, v)
	}
}

// holds reports whether a session token was presented here and has passed all checks.
func (c *sessionCache) holds(session string) bool {
	if c.entries == nil {
		return false
	}
	_, ok := c.entries.GetIfPresent(c.prints.Of(session))
	return ok
}

// size returns about how many sessions are held, of how many.
func (c *sessionCache) size() (held, most int) {
	if c.entries == nil {
		return 0, 0
	}
	return c.entries.EstimatedSize(), int(c.entries.GetMaximum())
}

func (c *sessionCache) fits(v *verified, refresh string) bool {
	return refresh == "" || v.companion.hash.Load() == maphash.String(c.seed, refresh)
}

func (c *sessionCache) noteFits(v *verified, refresh string) {
	v.companion.hash.Store(maphash.String(c.seed, refresh))
}
