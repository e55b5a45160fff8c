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
	Until time.Time // of Value

	end   []byte
	ends  time.Time
	owner string // of the lease
	held  time.Time
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
		if now := time.Now(); now.Before(e.Until) || now.Before(e.ends) || now.Before(e.held) {
			n++
		}
	}
	return n
}

// change carries one call out.
func (s *MemoryStore) change(key string, do func(e *Entry, now time.Time)) (Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Calls++
	if s.broken != nil {
		return Entry{}, s.broken
	}
	e, now := s.Entries[key], time.Now()
	if !now.Before(e.Until) {
		e.Value = nil
	}
	if !now.Before(e.ends) {
		e.end = nil
	}
	if !now.Before(e.held) {
		e.owner = ""
	}
	do(&e, now)
	s.Entries[key] = e
	return e, nil
}

// Load implements [descopehttp.RefreshStore].
func (s *MemoryStore) Load(_ context.Context, key string) (value, end []byte, err error) {
	e, err := s.change(key, func(*Entry, time.Time) {})
	return e.Value, e.end, err
}

// Claim implements [descopehttp.RefreshStore].
func (s *MemoryStore) Claim(_ context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error) {
	e, err := s.change(key, func(e *Entry, now time.Time) {
		if e.owner == "" || e.owner == owner {
			e.owner, e.held = owner, now.Add(lease)
		}
	})
	return e.Value, e.end, err == nil && e.owner == owner, err
}

// Put implements [descopehttp.RefreshStore].
func (s *MemoryStore) Put(_ context.Context, key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte, err error) {
	e, err := s.change(key, func(e *Entry, now time.Time) {
		if e.Value == nil || over {
			e.Value, e.Until = value, now.Add(ttl)
		}
		if e.owner == owner {
			e.owner = ""
		}
	})
	return e.Value, e.end, err
}

// End implements [descopehttp.RefreshStore].
func (s *MemoryStore) End(_ context.Context, key string, end []byte, ttl time.Duration) (value []byte, err error) {
	e, err := s.change(key, func(e *Entry, now time.Time) {
		if e.end == nil {
			e.end, e.ends = end, now.Add(ttl)
		}
		if until := now.Add(ttl); e.Value != nil && e.Until.Before(until) {
			e.Until = until
		}
	})
	return e.Value, err
}

// Release implements [descopehttp.RefreshStore].
func (s *MemoryStore) Release(_ context.Context, key, owner string) error {
	_, err := s.change(key, func(e *Entry, _ time.Time) {
		if e.owner == owner {
			e.owner = ""
		}
	})
	return err
}
