package descopehttp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/time/rate"

	"github.com/descopehttp/descopehttp/internal/calm"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A RefreshStore lets replicas share what a spent refresh token became. Keys are
// hashes, values are sealed by the caller; a store understands neither. Any error
// means "not available": the caller goes on alone, and so it does when a method
// panics. No method outlasts its context, which the kit gives 250 ms. Leases are for
// ten seconds, values for a minute or ten, one for 30 days; they are of at most 65 KiB.
// It must be safe for concurrent use.
type RefreshStore interface {
	// Claim returns the value under key, or else tries to take the lease on key
	// for owner; claimed tells whether owner holds it now. No value and claimed
	// false means that another owner is at work; the caller asks again.
	Claim(ctx context.Context, key, owner string, lease time.Duration) (value []byte, claimed bool, err error)

	// Put stores value until ttl has passed and ends any lease. A value that is
	// there already stays and is returned, unless final is true: a final value
	// replaces any other and is replaced by none.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration, final bool) (stored []byte, err error)

	// Release ends owner's lease, if it holds it.
	Release(ctx context.Context, key, owner string) error
}

// A calmStore turns a panic of the user's store into an error, which is a store that
// is away.
type calmStore struct{ RefreshStore }

var errStorePanic = errors.New("descopehttp: the store panicked")

// Claim implements [RefreshStore].
func (s calmStore) Claim(ctx context.Context, key, owner string, lease time.Duration) (value []byte, claimed bool, err error) {
	defer calm.Recover(&err, errStorePanic)
	return s.RefreshStore.Claim(ctx, key, owner, lease)
}

// Put implements [RefreshStore].
func (s calmStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration, final bool) (stored []byte, err error) {
	defer calm.Recover(&err, errStorePanic)
	return s.RefreshStore.Put(ctx, key, value, ttl, final)
}

// Release implements [RefreshStore].
func (s calmStore) Release(ctx context.Context, key, owner string) (err error) {
	defer calm.Recover(&err, errStorePanic)
	return s.RefreshStore.Release(ctx, key, owner)
}

// Bounds on the use of a store.
const (
	storeTimeout  = 250 * time.Millisecond // of one call; a slower store counts as away
	storeLease    = 10 * time.Second       // longer than all that is done under it, and not renewed
	storePoll     = 25 * time.Millisecond  // between looks at another's lease, doubling
	maxStorePoll  = 200 * time.Millisecond
	maxSealedSize = 64 << 10 // bytes
)

// sealVersion is part of every key and seal: replicas of different versions do
// not read each other, which costs a refresh and confuses nobody.
const sealVersion = "descopehttp refresh 1"

// A record is what replicas tell each other about one refresh token: what it
// became, or that it was logged out.
type record struct {
	Ended   bool           `json:"ended,omitzero"`
	Began   int64          `json:"began,omitzero"` // the token was spent no earlier, Unix milliseconds
	At      int64          `json:"at,omitzero"`    // and no later
	Session string         `json:"session,omitzero"`
	Refresh string         `json:"refresh,omitzero"`
	Body    jsontext.Value `json:"body,omitzero"`
}

// A sealer encrypts records under a key that only the holder of the old refresh
// token can derive, so that whoever reads the store reads nothing.
type sealer struct{ projectID string }

// key returns the store's key for a refresh token. It is derived under another
// label than the sealing key and says nothing about it (RFC 5869, section 3.2).
func (s sealer) key(t *token.Token) string {
	return hex.EncodeToString(s.derive(t, "key"))
}

func (s sealer) derive(t *token.Token, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(t.Raw), nil, sealVersion+" "+purpose+" "+s.projectID, 32)
	if err != nil {
		panic(err) // only for lengths over 8,160 bytes
	}
	return key
}

func (s sealer) aead(t *token.Token) cipher.AEAD {
	block, err := aes.NewCipher(s.derive(t, "seal"))
	if err != nil {
		panic(err) // only for other key lengths
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for other block sizes
	}
	return aead
}

// seal returns the encrypted record, or nil if it is too large to be shared.
func (s sealer) seal(t *token.Token, r *record) []byte {
	plain, err := json.Marshal(r)
	if err != nil || len(plain) > maxSealedSize {
		return nil
	}
	return s.aead(t).Seal(nil, nil, plain, s.additionalData())
}

// open decrypts a record. What fails is as good as nothing: the store may hold
// anything.
func (s sealer) open(t *token.Token, sealed []byte) (*record, bool) {
	if len(sealed) > maxSealedSize+1024 {
		return nil, false
	}
	plain, err := s.aead(t).Open(nil, nil, sealed, s.additionalData())
	if err != nil {
		return nil, false
	}
	var r record
	if json.Unmarshal(plain, &r) != nil {
		return nil, false
	}
	return &r, true
}

func (s sealer) additionalData() []byte { return []byte(sealVersion + " " + s.projectID) }

func recordOf(l *link) *record {
	return &record{Began: l.began.UnixMilli(), At: l.at.UnixMilli(), Session: l.answer.Session, Refresh: l.answer.Refresh, Body: l.answer.Body}
}

// sharedMemory is a RefreshStore in use. A nil one stands for a single replica.
// Whatever goes wrong with the store, this replica goes on with its own memory.
type sharedMemory struct {
	store RefreshStore
	seal  sealer
	log   *slog.Logger
	warn  rate.Sometimes

	trouble atomic.Int64 // when something was last wrong with the store, Unix nanoseconds
	greeted atomic.Bool  // the store's birth was noted
}

// A lease is the right to spend a token, or what another replica made of it.
type lease struct {
	record *record // what became of the token already; there is no lease then
	found  *link   // the same, where it can serve

	shared *sharedMemory // nil without a store
	token  *token.Token
	key    string
	owner  string
	orphan bool // another's lease ended without a result; it may have spent the token
}

// claim waits until no other replica is at work on t. The error is "cannot tell".
// If the store does not answer, or holds what cannot be read, the claim goes
// through without a lease.
func (s *sharedMemory) claim(ctx context.Context, t *token.Token) (lease, error) {
	if s == nil {
		return lease{}, nil
	}
	c := lease{shared: s, token: t, key: s.seal.key(t), owner: rand.Text()}
	if s.greeted.CompareAndSwap(false, true) {
		s.isSettled()
	}
	waited := false
	for wait := storePoll; ; wait = min(2*wait, maxStorePoll) {
		value, claimed, err := s.tryClaim(ctx, c.key, c.owner)
		if err != nil {
			s.complain(ctx, err)
			return c, nil
		}
		if value != nil {
			r, ok := s.seal.open(t, value)
			if !ok {
				s.complain(ctx, errUnreadable)
				return c, nil
			}
			c.record = r
			return c, nil
		}
		if claimed {
			c.orphan = waited
			return c, nil
		}
		waited = true
		select {
		case <-ctx.Done():
			return lease{}, &problem.Failure{Problem: problem.Unavailable, Reason: "another replica did not finish in time", Timeout: true}
		case <-time.After(wait):
		}
	}
}

// birthTTL is how long a store's birth is remembered in it.
const birthTTL = 30 * 24 * time.Hour

// isSettled reports whether the store knows what was spent in the last minute. One
// that was restarted empty does not, and nobody may have noticed: so each store
// holds since when it does.
func (s *sharedMemory) isSettled() bool {
	key, err := hkdf.Key(sha256.New, []byte(s.seal.projectID), nil, sealVersion+" birth", 32)
	if err != nil {
		panic(err) // only for lengths over 8,160 bytes
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	stored, err := s.store.Put(ctx, hex.EncodeToString(key), []byte(now), birthTTL, false)
	if err != nil {
		s.complain(ctx, err)
		return false
	}
	born, err := strconv.ParseInt(string(stored), 10, 64)
	return err == nil && time.Since(time.UnixMilli(born)) >= successorWindow
}

var (
	errUnreadable = errors.New("descopehttp: value of the store cannot be read")
	errTooLarge   = errors.New("descopehttp: value is too large for the store")
)

func (s *sharedMemory) tryClaim(ctx context.Context, key, owner string) ([]byte, bool, error) {
	// Not on the caller's context: a client that hangs up says nothing about the
	// store, and a lease that was taken for it would stay.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return s.store.Claim(ctx, key, owner, storeLease)
}

// tell shares what became of the token and ends the lease. It returns the
// record that counts if that is another's, such as a logout's, and nil otherwise.
// A session whose token stays in force is shared only while it lives: beyond that it
// would serve nobody and leave no room for a lease.
func (c *lease) tell(r *record, l *link) *record {
	if c.shared == nil {
		return nil
	}
	ttl := successorWindow
	if !l.rotated() {
		ttl = min(ttl, time.Until(l.expiry)-storeTimeout)
	}
	if ttl > 0 {
		other, err := c.shared.put(c.token, c.key, r, ttl, false)
		if err == errTooLarge { // what Descope says of the user; the tokens are what counts
			r.Body = jsontext.Value("{}")
			other, err = c.shared.put(c.token, c.key, r, ttl, false)
		}
		if err != errTooLarge {
			return other
		}
	}
	// There is nothing to tell the others, but they may have told of a logout.
	c.release()
	other, _ := c.shared.peek(context.Background(), c.token)
	return other
}

// mayBeSpent reports whether another replica may have spent the token without this
// one being able to know. Descope's refusal says nothing then.
func (c *lease) mayBeSpent() bool { return c.orphan || c.shared.inTrouble() }

// release lets other replicas try. Should it fail, the lease ends by itself.
func (c *lease) release() {
	if c.shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	_ = c.shared.store.Release(ctx, c.key, c.owner)
}

// put stores a record and returns the one that is there instead, if it is
// another.
func (s *sharedMemory) put(t *token.Token, key string, r *record, ttl time.Duration, final bool) (other *record, err error) {
	sealed := s.seal.seal(t, r)
	if sealed == nil {
		return nil, errTooLarge
	}
	// Not on the caller's context: what was spent is told, whatever time is left.
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	stored, err := s.store.Put(ctx, key, sealed, ttl, final)
	if err != nil {
		s.complain(ctx, err)
		return nil, err
	}
	if bytes.Equal(stored, sealed) {
		return nil, nil
	}
	other, ok := s.seal.open(t, stored)
	if !ok {
		s.complain(ctx, errUnreadable)
		return nil, errUnreadable
	}
	return other, nil
}

// peek returns what another replica made of t, or nil. To look is to ask for the
// lease, which is given back. An error means that the store is away.
func (s *sharedMemory) peek(ctx context.Context, t *token.Token) (*record, error) {
	c := lease{shared: s, token: t, key: s.seal.key(t), owner: rand.Text()}
	value, claimed, err := s.tryClaim(ctx, c.key, c.owner)
	if err != nil {
		s.complain(ctx, err)
	}
	if err != nil || claimed {
		c.release()
	}
	r, _ := s.seal.open(t, value)
	return r, err
}

// end leaves a tombstone under t and returns what had become of it before. The
// first Put is not final, so that it either finds what another replica has
// published or is found by one that is about to. A tombstone names the successor,
// "" if none is known, so that another logout can follow should Descope not hear
// of this one.
func (s *sharedMemory) end(t *token.Token, successor string) (before *record, err error) {
	key, tombstone := s.seal.key(t), &record{Ended: true, Refresh: successor}
	before, err = s.put(t, key, tombstone, endedWindow, false)
	if err == errUnreadable || before != nil && !(before.Ended && cmp.Or(successor, before.Refresh) == before.Refresh) {
		if before != nil {
			tombstone.Refresh = cmp.Or(successor, before.Refresh)
		}
		_, err = s.put(t, key, tombstone, endedWindow, true)
	}
	return before, err
}

// inTrouble reports whether the store was not to be relied on lately. Another
// replica may then have spent a token without this one knowing, and a refusal
// says nothing.
func (s *sharedMemory) inTrouble() bool {
	return s != nil && (s.wasAway() || !s.isSettled())
}

// wasAway reports whether something was wrong with the store within the last minute.
func (s *sharedMemory) wasAway() bool {
	at := s.trouble.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < successorWindow
}

func (s *sharedMemory) noteTrouble() { s.trouble.Store(time.Now().UnixNano()) }

func (s *sharedMemory) complain(ctx context.Context, err error) {
	s.noteTrouble()
	s.warn.Do(func() {
		s.log.LogAttrs(ctx, slog.LevelError, "descopehttp: the refresh store is not available; this replica goes on with its own memory",
			slog.Bool("timeout", errors.Is(err, context.DeadlineExceeded)), slog.Bool("unreadable", err == errUnreadable),
			slog.Bool("panicked", err == errStorePanic))
	})
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
