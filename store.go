package descopehttp

import (
	"context"
	"time"
)

// A RefreshStore lets replicas share what became of refresh tokens. A key has three
// slots that do not hide or end each other: a value, an end (the mark of a logout) and a
// lease. Each method is one atomic step on one key; a repeat of it, because its answer was
// lost, does no harm. Keys are hashes and values are sealed by the caller, of at most
// 65 KiB; a store understands neither. Any error means "not available": the caller goes
// on alone, and so it does when a method panics. No method outlasts its context, which
// the kit gives 250 ms. Leases are for ten seconds, values and ends for ten minutes at
// most, one value for 30 days. A RefreshStore must be safe for concurrent use.
type RefreshStore interface {
	// Load returns the value and the end under key, nil where there is none. It changes
	// nothing.
	Load(ctx context.Context, key string) (value, end []byte, err error)

	// Claim returns what Load does, and takes the lease for owner if it is free, or
	// owner's, then for the whole time anew. claimed tells whether owner has it now.
	Claim(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error)

	// Put stores value until ttl has passed, and ends owner's lease. A value that is
	// there stays, unless over is true. It returns the value and the end that are there
	// now.
	Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte, err error)

	// End sets the end until ttl has passed, unless one is set, keeps any value for at
	// least as long, and returns the value.
	End(ctx context.Context, key string, end []byte, ttl time.Duration) (value []byte, err error)

	// Release ends owner's lease, if it holds it.
	Release(ctx context.Context, key, owner string) error
}

// An AttemptStore counts, so that replicas share their limits on guessing. Add
// changes the count of key by delta (0 reads it) and returns the count and the
// rest of its window, which begins with the first count and lasts for window. A
// count never falls below 0, and one that is 0 has no window: the next begins a
// new one. A store must not drop counts to make room. Keys are hashes. Any error
// means "not available": the caller counts in its own memory. Add must not outlast
// its context and must be safe for concurrent use.
type AttemptStore interface {
	Add(ctx context.Context, key string, delta int, window time.Duration) (count int, reset time.Duration, err error)
}
