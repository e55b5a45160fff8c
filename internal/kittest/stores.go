package kittest

import (
	"context"
	"sync"
	"time"
)

// A MemoryStore is a RefreshStore as its contract has it.
type MemoryStore struct {
	// Both are for tests that have no call under way.
	Entries map[string]Entry
	Calls   int

	mu     sync.Mutex
	broken error
}

// An Entry is what a [MemoryStore] holds under a key.
type Entry struct {
	Value []byte
	Until time.Time

	final bool
	owner string // of a lease; Value is nil then
}

// NewMemoryStore returns a store that is empty.
func NewMemoryStore() *MemoryStore { return &MemoryStore{Entries: make(map[string]Entry)} }

// Break has all calls return err from now on, or none if it is nil.
func (s *MemoryStore) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

// Clear makes it forget everything.
func (s *MemoryStore) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.Entries)
}

// Live returns how many keys hold something now.
func (s *MemoryStore) Live() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.Entries {
		if time.Now().Before(e.Until) {
			n++
		}
	}
	return n
}

func (s *MemoryStore) entry(key string) (Entry, error) {
	s.Calls++
	e := s.Entries[key]
	if !time.Now().Before(e.Until) {
		e = Entry{}
	}
	return e, s.broken
}

// Claim implements [descopehttp.RefreshStore].
func (s *MemoryStore) Claim(_ context.Context, key, owner string, lease time.Duration) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.entry(key)
	if err != nil || e.Value != nil {
		return e.Value, false, err
	}
	if e.owner == "" {
		s.Entries[key] = Entry{owner: owner, Until: time.Now().Add(lease)}
		return nil, true, nil
	}
	return nil, e.owner == owner, nil
}

// Put implements [descopehttp.RefreshStore].
func (s *MemoryStore) Put(_ context.Context, key string, value []byte, ttl time.Duration, final bool) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.entry(key)
	if err != nil {
		return nil, err
	}
	if e.final || e.Value != nil && !final {
		return e.Value, nil
	}
	s.Entries[key] = Entry{Value: value, final: final, Until: time.Now().Add(ttl)}
	return value, nil
}

// Release implements [descopehttp.RefreshStore].
func (s *MemoryStore) Release(_ context.Context, key, owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.entry(key)
	if err == nil && e.owner == owner {
		delete(s.Entries, key)
	}
	return err
}
