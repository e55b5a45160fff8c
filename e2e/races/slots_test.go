package races_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

var _ descopehttp.RefreshStore = slotLine{}

// A slottedStore is a RefreshStore in memory, as its contract has it. Replicas use it
// through a line of their own each.
type slottedStore struct {
	mu   sync.Mutex
	keys map[string]*slotted
}

type slotted struct {
	value, end slot
	owner      string
	lease      time.Time // until then
}

type slot struct {
	bytes []byte
	until time.Time
}

func (s slot) get() []byte {
	if !time.Now().Before(s.until) {
		return nil
	}
	return s.bytes
}

func newSlottedStore() *slottedStore { return &slottedStore{keys: make(map[string]*slotted)} }

// at returns what is under key; the lock is held.
func (s *slottedStore) at(key string) *slotted {
	k := s.keys[key]
	if k == nil {
		k = new(slotted)
		s.keys[key] = k
	}
	return k
}

func (s *slottedStore) load(key string) (value, end []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.at(key)
	return k.value.get(), k.end.get()
}

func (s *slottedStore) claim(key, owner string, lease time.Duration) (value, end []byte, claimed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, now := s.at(key), time.Now()
	if !now.Before(k.lease) || k.owner == owner {
		k.owner, k.lease, claimed = owner, now.Add(lease), true
	}
	return k.value.get(), k.end.get(), claimed
}

func (s *slottedStore) put(key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.at(key)
	if k.value.get() == nil || over {
		k.value = slot{value, time.Now().Add(ttl)}
	}
	k.release(owner)
	return k.value.get(), k.end.get()
}

func (s *slottedStore) setEnd(key string, end []byte, ttl time.Duration) (value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, until := s.at(key), time.Now().Add(ttl)
	if k.end.get() == nil {
		k.end = slot{end, until}
	}
	if value = k.value.get(); value != nil && k.value.until.Before(until) {
		k.value.until = until
	}
	return value
}

func (s *slottedStore) release(key, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(key).release(owner)
}

func (k *slotted) release(owner string) {
	if k.owner == owner {
		k.owner, k.lease = "", time.Time{}
	}
}

func (s *slottedStore) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.keys)
}

func (s *slottedStore) line(r *replica) descopehttp.RefreshStore { return slotLine{s, r} }

// A slotLine is the way of one replica to a slottedStore, with the faults of the world.
type slotLine struct {
	store   *slottedStore
	replica *replica
}

func (l slotLine) Load(ctx context.Context, key string) (value, end []byte, err error) {
	err = l.replica.callStore(ctx, "load "+short(key), func() { value, end = l.store.load(key) })
	if err != nil {
		return nil, nil, err
	}
	return value, end, nil
}

func (l slotLine) Claim(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error) {
	err = l.replica.callStore(ctx, "claim "+short(key), func() { value, end, claimed = l.store.claim(key, owner, lease) })
	if err != nil {
		return nil, nil, false, err
	}
	return value, end, claimed, nil
}

func (l slotLine) Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte, err error) {
	err = l.replica.callStore(ctx, "put "+short(key), func() { now, end = l.store.put(key, owner, value, ttl, over) })
	l.replica.world.noteStored(l.replica, key, err)
	if err != nil {
		return nil, nil, err
	}
	return now, end, nil
}

func (l slotLine) End(ctx context.Context, key string, end []byte, ttl time.Duration) (value []byte, err error) {
	err = l.replica.callStore(ctx, "end "+short(key), func() { value = l.store.setEnd(key, end, ttl) })
	if err != nil {
		return nil, err
	}
	return value, nil
}

func (l slotLine) Release(ctx context.Context, key, owner string) error {
	return l.replica.callStore(ctx, "release "+short(key), func() { l.store.release(key, owner) })
}

func short(key string) string { return key[:min(4, len(key))] }

// What the store promises, a step a line: what is done, and value, end and lease as they
// are seen afterwards by somebody else.
func TestSlottedStore(t *testing.T) {
	type seen struct {
		value, end string
		free       bool
	}
	minute := func(s *slottedStore) { elapse(time.Minute) }
	claim := func(owner string) func(*slottedStore) {
		return func(s *slottedStore) { s.claim("k", owner, 10*time.Second) }
	}
	put := func(value string, over bool) func(*slottedStore) {
		return func(s *slottedStore) { s.put("k", "a", []byte(value), 10*time.Minute, over) }
	}
	end := func(end string, ttl time.Duration) func(*slottedStore) {
		return func(s *slottedStore) { s.setEnd("k", []byte(end), ttl) }
	}
	release := func(owner string) func(*slottedStore) { return func(s *slottedStore) { s.release("k", owner) } }
	for name, c := range map[string]struct {
		do   []func(*slottedStore)
		want seen
	}{
		"nothing":                             {nil, seen{"", "", true}},
		"a lease":                             {[]func(*slottedStore){claim("a")}, seen{"", "", false}},
		"a lease is another's":                {[]func(*slottedStore){claim("a"), claim("b"), release("b")}, seen{"", "", false}},
		"a lease is given back":               {[]func(*slottedStore){claim("a"), release("a")}, seen{"", "", true}},
		"a lease ends by itself":              {[]func(*slottedStore){claim("a"), minute}, seen{"", "", true}},
		"a value ends its owner's lease":      {[]func(*slottedStore){claim("a"), put("v", false)}, seen{"v", "", true}},
		"a value ends nobody else's lease":    {[]func(*slottedStore){claim("b"), put("v", false)}, seen{"v", "", false}},
		"a value hides no lease":              {[]func(*slottedStore){put("v", false), claim("b")}, seen{"v", "", false}},
		"a value stays":                       {[]func(*slottedStore){put("v", false), put("w", false)}, seen{"v", "", true}},
		"a value goes when it is put over":    {[]func(*slottedStore){put("v", false), put("w", true)}, seen{"w", "", true}},
		"an end hides no value":               {[]func(*slottedStore){put("v", false), end("e", time.Minute)}, seen{"v", "e", true}},
		"a value is stored beside an end":     {[]func(*slottedStore){end("e", time.Hour), put("v", false)}, seen{"v", "e", true}},
		"an end stays":                        {[]func(*slottedStore){end("e", time.Hour), end("f", time.Hour)}, seen{"", "e", true}},
		"an end ends no lease":                {[]func(*slottedStore){claim("a"), end("e", time.Hour)}, seen{"", "e", false}},
		"an end passes":                       {[]func(*slottedStore){put("v", false), end("e", time.Minute), minute}, seen{"v", "", true}},
		"an end keeps the value as long":      {[]func(*slottedStore){put("v", false), end("e", time.Hour), minute, func(*slottedStore) { elapse(10 * time.Minute) }}, seen{"v", "e", true}},
		"an end makes no value pass sooner":   {[]func(*slottedStore){put("v", false), end("e", time.Second), minute}, seen{"v", "", true}},
		"a value passes":                      {[]func(*slottedStore){put("v", false), func(*slottedStore) { elapse(10 * time.Minute) }}, seen{"", "", true}},
		"a value that has passed is no value": {[]func(*slottedStore){put("v", false), func(*slottedStore) { elapse(10 * time.Minute) }, put("w", false)}, seen{"w", "", true}},
		"wiped":                               {[]func(*slottedStore){put("v", false), end("e", time.Hour), claim("b"), (*slottedStore).wipe}, seen{"", "", true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSlottedStore()
				for _, do := range c.do {
					do(s)
				}
				value, end := s.load("k")
				again, endAgain, free := s.claim("k", "other", time.Second)
				assert.Equal(t, c.want, seen{string(value), string(end), free})
				assert.Equal(t, value, again, "Load and Claim see the same")
				assert.Equal(t, end, endAgain)
			})
		})
	}
}

// A lease may be taken anew by who has it.
func TestSlottedStoreLeaseAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlottedStore()
		for range 5 {
			_, _, mine := s.claim("k", "a", 10*time.Second)
			require.True(t, mine)
			elapse(6 * time.Second)
			_, _, other := s.claim("k", "b", 10*time.Second)
			require.False(t, other)
		}
		elapse(4 * time.Second)
		_, _, other := s.claim("k", "b", 10*time.Second)
		assert.True(t, other)
	})
}

// Each fault of a line says "not available"; what was carried out shows to another.
func TestSlotLineFaults(t *testing.T) {
	ctx := t.Context()
	for name, call := range map[string]func(l slotLine, ctx context.Context) error{
		"load": func(l slotLine, ctx context.Context) error { _, _, err := l.Load(ctx, "k"); return err },
		"claim": func(l slotLine, ctx context.Context) error {
			_, _, _, err := l.Claim(ctx, "k", "a", time.Minute)
			return err
		},
		"put": func(l slotLine, ctx context.Context) error {
			_, _, err := l.Put(ctx, "k", "a", []byte("v"), time.Minute, false)
			return err
		},
		"end": func(l slotLine, ctx context.Context) error {
			_, err := l.End(ctx, "k", []byte("e"), time.Minute)
			return err
		},
		"release": func(l slotLine, ctx context.Context) error { return l.Release(ctx, "k", "a") },
	} {
		for _, fault := range []storeFault{storeRefuses, storeLoses, storeHangs, storeSlow} {
			t.Run(name+" "+fault.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSlottedStore()
					w := &world{srv: descopetest.NewServer(), began: time.Now(), faults: make(map[*replica][]storeFault)}
					l := slotLine{s, &replica{world: w, name: "A"}}
					w.faults[l.replica] = []storeFault{fault}
					ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 250*time.Millisecond)
					defer cancel()
					assert.Equal(t, fault != storeSlow, call(l, ctx) != nil)
					assert.Equal(t, fault != storeSlow, len(l.replica.cutOff) > 0)
					assert.Equal(t, name == "put" && fault != storeSlow, len(l.replica.puts) > 0)
					value, end := s.load("k")
					assert.Equal(t, name == "put" && fault != storeRefuses, value != nil)
					assert.Equal(t, name == "end" && fault != storeRefuses, end != nil)
					assert.NoError(t, call(l, t.Context()), "the next is well")
				})
			})
		}
	}
}
