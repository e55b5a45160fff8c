package races_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp"
)

// A sharedStore is a RefreshStore in memory, as its contract has it. Replicas
// use it through a line of their own each.
type sharedStore struct {
	mu      sync.Mutex
	entries map[string]storeEntry
}

type storeEntry struct {
	value []byte
	final bool
	owner string // of a lease; value is nil then
	until time.Time
}

func newSharedStore() *sharedStore { return &sharedStore{entries: make(map[string]storeEntry)} }

// entry returns what is under key now; the lock is held.
func (s *sharedStore) entry(key string) storeEntry {
	e := s.entries[key]
	if !time.Now().Before(e.until) {
		return storeEntry{}
	}
	return e
}

func (s *sharedStore) claim(key, owner string, lease time.Duration) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(key)
	if e.value != nil {
		return e.value, false
	}
	if e.owner != "" && e.owner != owner {
		return nil, false
	}
	s.entries[key] = storeEntry{owner: owner, until: time.Now().Add(lease)}
	return nil, true
}

func (s *sharedStore) put(key string, value []byte, ttl time.Duration, final bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entry(key); e.final || e.value != nil && !final {
		return e.value
	}
	s.entries[key] = storeEntry{value: value, final: final, until: time.Now().Add(ttl)}
	return value
}

func (s *sharedStore) release(key, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry(key).owner == owner {
		delete(s.entries, key)
	}
}

// wipe forgets everything, as a Redis without persistence does when it is
// restarted.
func (s *sharedStore) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.entries)
}

// A storeFault is how a call of one replica to the store goes wrong.
type storeFault int

const (
	storeRefuses storeFault = iota // not carried out
	storeLoses                     // carried out, the answer lost
	storeHangs                     // carried out, the answer too late
	storeSlow                      // the answer takes long, but not too long
)

func (f storeFault) String() string {
	return [...]string{"refuses", "loses the answer", "hangs", "is slow"}[f]
}

// A storeLine is the way of one replica to the store.
type storeLine struct {
	store   *sharedStore
	replica *replica
}

var _ descopehttp.RefreshStore = storeLine{}

var errNoStore = errors.New("connection refused")

// call carries a call out, or not, after the time that it takes.
func (l storeLine) call(ctx context.Context, what string, carryOut func()) error {
	w := l.replica.world
	if l.replica.crashed() || ctx.Err() != nil {
		return errNoStore
	}
	fault, faulty, takes := w.nextStoreFault(l.replica)
	if faulty {
		w.logf("%v: store %v: %s", l.replica, fault, what)
	}
	if faulty && fault == storeRefuses {
		return errNoStore
	}
	half := takes / 2
	if !travel(ctx, half) || l.replica.crashed() {
		return errNoStore
	}
	carryOut()
	switch {
	case !faulty:
	case fault == storeLoses:
		return errNoStore
	case fault == storeHangs:
		<-ctx.Done()
		return ctx.Err()
	case fault == storeSlow:
		half += 120 * time.Millisecond
	}
	if !travel(ctx, half) || l.replica.crashed() {
		return errNoStore
	}
	return nil
}

func (l storeLine) Claim(ctx context.Context, key, owner string, lease time.Duration) (value []byte, claimed bool, err error) {
	err = l.call(ctx, "claim "+key[:4], func() { value, claimed = l.store.claim(key, owner, lease) })
	if err != nil {
		return nil, false, err
	}
	return value, claimed, nil
}

func (l storeLine) Put(ctx context.Context, key string, value []byte, ttl time.Duration, final bool) (stored []byte, err error) {
	if err := l.call(ctx, "put "+key[:4], func() { stored = l.store.put(key, value, ttl, final) }); err != nil {
		return nil, err
	}
	return stored, nil
}

func (l storeLine) Release(ctx context.Context, key, owner string) error {
	return l.call(ctx, "release "+key[:4], func() { l.store.release(key, owner) })
}

// travel returns after d, false if ctx has ended by then.
func travel(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// elapse lets fake time pass.
func elapse(d time.Duration) { travel(context.Background(), d) }
