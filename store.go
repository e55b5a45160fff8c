package descopehttp

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/time/rate"
)

// A RefreshStore lets replicas share what a spent refresh token became. Keys are
// hashes, values are sealed by the caller; a store understands neither. Any error
// means "not available": the caller goes on alone. No method outlasts its
// context. It must be safe for concurrent use.
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

// Bounds on the use of a store.
const (
	storeTimeout   = 250 * time.Millisecond // of one call; a slower store counts as away
	storeLease     = 10 * time.Second       // not renewed
	storeLeaseLeft = 6 * time.Second        // without as much no call to Descope is begun
	storePoll      = 25 * time.Millisecond  // between looks at another's lease, doubling
	maxStorePoll   = 200 * time.Millisecond
	maxSealedSize  = 64 << 10 // bytes
)

// sealVersion is part of every key and seal: replicas of different versions do
// not read each other, which costs a refresh and confuses nobody.
const sealVersion = "descopehttp refresh 1"

// A record is what replicas tell each other about one refresh token: what it
// became, or that it was logged out.
type record struct {
	Ended   bool           `json:"ended,omitzero"`
	At      int64          `json:"at,omitzero"` // when the token was spent, Unix milliseconds
	Session string         `json:"session,omitzero"`
	Refresh string         `json:"refresh,omitzero"`
	Body    jsontext.Value `json:"body,omitzero"`
	Hidden  bool           `json:"hidden,omitzero"`
}

// A sealer encrypts records under a key that only the holder of the old refresh
// token can derive, so that whoever reads the store reads nothing.
type sealer struct{ projectID string }

// key returns the store's key for a refresh token. It is derived under another
// label than the sealing key and says nothing about it (RFC 5869, section 3.2).
func (s sealer) key(t *token) string {
	return hex.EncodeToString(s.derive(t, "key"))
}

func (s sealer) derive(t *token, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(t.raw), nil, sealVersion+" "+purpose+" "+s.projectID, 32)
	if err != nil {
		panic(err) // only for lengths over 8,160 bytes
	}
	return key
}

func (s sealer) aead(t *token) cipher.AEAD {
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
func (s sealer) seal(t *token, r *record) []byte {
	plain, err := json.Marshal(r)
	if err != nil || len(plain) > maxSealedSize {
		return nil
	}
	return s.aead(t).Seal(nil, nil, plain, s.additionalData())
}

// open decrypts a record. What fails is as good as nothing: the store may hold
// anything.
func (s sealer) open(t *token, sealed []byte) (*record, bool) {
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
	return &record{At: l.at.UnixMilli(), Session: l.answer.session, Refresh: l.answer.refresh, Body: l.answer.body, Hidden: l.hidden}
}

// sharedMemory is a RefreshStore in use. A nil one stands for a single replica.
// Whatever goes wrong with the store, this replica goes on with its own memory.
type sharedMemory struct {
	store RefreshStore
	seal  sealer
	log   *slog.Logger
	warn  rate.Sometimes
}

// A claim is the right to spend a token, or what another replica made of it.
type claim struct {
	record *record // what became of the token already
	away   bool    // the store did not answer: others may be at work

	shared *sharedMemory // nil without a lease
	token  *token
	key    string
	owner  string
}

// claim waits until no other replica is at work on t. The error is "cannot tell".
func (s *sharedMemory) claim(ctx context.Context, t *token) (claim, error) {
	if s == nil {
		return claim{}, nil
	}
	c := claim{shared: s, token: t, key: s.seal.key(t), owner: rand.Text()}
	for wait := storePoll; ; wait = min(2*wait, maxStorePoll) {
		asked := time.Now()
		value, claimed, err := s.tryClaim(ctx, c.key, c.owner)
		if err != nil {
			s.complain(ctx, err)
			return claim{away: true}, nil
		}
		if r, ok := s.seal.open(t, value); ok {
			return claim{record: r}, nil
		}
		if claimed && storeLease-time.Since(asked) >= storeLeaseLeft {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return claim{}, &failure{problem: problemUnavailable, reason: "another replica did not finish in time", timeout: true}
		case <-time.After(wait):
		}
	}
}

func (s *sharedMemory) tryClaim(ctx context.Context, key, owner string) ([]byte, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.store.Claim(ctx, key, owner, storeLease)
}

// publish shares what became of the token and ends the lease. It returns the
// record that counts if that is another's, such as a logout's, and nil otherwise.
func (c *claim) publish(r *record) *record {
	if c.shared == nil {
		return nil
	}
	return c.shared.put(c.token, c.key, r, successorWindow, false)
}

// release lets other replicas try. Should it fail, the lease ends by itself.
func (c *claim) release() {
	if c.shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	_ = c.shared.store.Release(ctx, c.key, c.owner)
}

// put stores a record and returns the one that is there instead, if it is
// another.
func (s *sharedMemory) put(t *token, key string, r *record, ttl time.Duration, final bool) *record {
	sealed := s.seal.seal(t, r)
	if sealed == nil {
		return nil
	}
	// Not on the caller's context: what was spent is told, whatever time is left.
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	stored, err := s.store.Put(ctx, key, sealed, ttl, final)
	if err != nil {
		s.complain(ctx, err)
		return nil
	}
	if bytes.Equal(stored, sealed) {
		return nil
	}
	other, ok := s.seal.open(t, stored)
	if !ok {
		return nil
	}
	return other
}

// peek returns what another replica made of t, or nil.
func (s *sharedMemory) peek(ctx context.Context, t *token) *record {
	c := claim{shared: s, token: t, key: s.seal.key(t), owner: rand.Text()}
	value, claimed, err := s.tryClaim(ctx, c.key, c.owner)
	if err != nil {
		s.complain(ctx, err)
		return nil
	}
	if claimed {
		c.release()
	}
	r, _ := s.seal.open(t, value)
	return r
}

// end leaves a tombstone under t and returns what had become of it before.
func (s *sharedMemory) end(ctx context.Context, t *token) *record {
	before := s.peek(ctx, t)
	s.put(t, s.seal.key(t), &record{Ended: true}, endedWindow, true)
	return before
}

func (s *sharedMemory) complain(ctx context.Context, err error) {
	s.warn.Do(func() {
		s.log.LogAttrs(ctx, slog.LevelError, "descopehttp: the refresh store is not available; this replica goes on with its own memory",
			slog.Bool("timeout", errors.Is(err, context.DeadlineExceeded)))
	})
}
