package descopehttp

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on fetching and keeping keys.
const (
	keyFetchFloor    = 5 * time.Second  // between the beginnings of two fetches, whatever arrives
	keyUrgentFloor   = time.Second      // the same, for a token in Descope's own answer
	keyFetchTimeout  = 5 * time.Second  // of one fetch
	keyRefreshAfter  = time.Hour        // older keys are fetched anew beside a request
	keyMaxStale      = 24 * time.Hour   // keys serve this long without a successful fetch
	absentKeyMemory  = 30 * time.Second // an unknown kid is remembered this long
	maxAbsentKeys    = 4096             // unknown kids remembered at a time
	maxRetiredKeys   = 100              // remembered after they left the set
	pendingKeyRetry  = time.Second
	unknownKeyReason = "key is not in the key set"
)

var (
	errUnknownKey = problem.InvalidToken.Because(unknownKeyReason)
	errKeyNotHeld = problem.Unavailable.Because("key is not held")
	// errKeyPending marks "cannot tell" for a kid that may be invented.
	errKeyPending  = errors.New("descopehttp: key may be published yet")
	errKeysTimeout = &problem.Failure{Problem: problem.Unavailable, Reason: "keys did not come in time", Timeout: true, RetryAfter: keyFetchFloor}
)

// A keySet holds the project's public keys. keyfunc asks it for them through
// KeyRead; of jwkset.Storage that is the only method it calls, so the others are
// those of an empty set.
//
// The key lookup of jwkset's own HTTP client is not used: one token with an
// invented kid would keep it from seeing a real rotation for minutes, and it
// cannot tell an unknown key from an outage.
type keySet struct {
	*jwkset.MemoryJWKSet
	find  keyfunc.Keyfunc
	rules *token.Rules // remember the headers of tokens that have verified
	api   *descope.Client
	log   *slog.Logger
	tasks tasks

	held atomic.Pointer[heldKeys] // nil until the first successful fetch

	mu      sync.Mutex // guards all below
	began   time.Time  // when the last fetch began
	fetch   chan struct{}
	retired []*token.Key
	absent  map[[sha256.Size]byte]time.Time // hash of an unknown kid → when it was first seen
}

// heldKeys is one key set as Descope published it; it is never written to.
type heldKeys struct {
	byID  map[string]*token.Key
	began time.Time // when the fetch that brought it began
}

// usable reports whether the keys may still be trusted. Keys that could not be
// fetched again for a day are not: their revocation would have gone unseen.
func (h *heldKeys) usable(now time.Time) bool {
	return h != nil && now.Sub(h.began) <= keyMaxStale
}

func newKeySet(api *descope.Client, rules *token.Rules, log *slog.Logger) *keySet {
	s := &keySet{
		rules:        rules,
		MemoryJWKSet: jwkset.NewMemoryStorage(),
		api:          api,
		log:          log,
		absent:       make(map[[sha256.Size]byte]time.Time),
	}
	find, err := keyfunc.New(keyfunc.Options{Storage: s})
	if err != nil {
		panic(err) // only without a Storage
	}
	s.find = find
	return s
}

// A fetchPolicy says what may be done about a key that is not held. It travels
// in the context, because keyfunc stands between the caller and KeyRead.
type fetchPolicy int

const (
	fetchIfFloorAllows fetchPolicy = iota
	fetchNever                     // the answer does not matter enough
	fetchPastFloor                 // the kid comes from Descope itself
)

type fetchPolicyKey struct{}

func withFetchPolicy(ctx context.Context, p fetchPolicy) context.Context {
	return context.WithValue(ctx, fetchPolicyKey{}, p)
}

// trusts reports whether key may still be trusted: it was not revoked by the last
// fetch, and that was not too long ago.
func (s *keySet) trusts(key *token.Key, now time.Time) bool {
	held := s.held.Load()
	return held.usable(now) && held.byID[key.KID] == key && now.Sub(held.began) <= keyRefreshAfter ||
		s.trustsStale(held, key, now)
}

// trustsStale starts a fetch beside the request; see KeyRead.
func (s *keySet) trustsStale(held *heldKeys, key *token.Key, now time.Time) bool {
	if !held.usable(now) || held.byID[key.KID] != key {
		return false
	}
	s.begin(now, fetchIfFloorAllows)
	return true
}

// verify checks the signature of t with the key of its kid and returns the key.
// It waits for a fetch until a deadline at the most.
func (s *keySet) verify(ctx context.Context, t *token.Token, now, until time.Time) (*token.Key, error) {
	key := t.KnownKey()
	if key == nil || !s.trusts(key, now) {
		var err error
		if key, err = s.lookUp(ctx, t, until); err != nil {
			return nil, err
		}
	}
	if err := t.Verify(key); err != nil {
		return nil, err
	}
	s.rules.Remember(t, key)
	return key, nil
}

// lookUp has keyfunc find the key and compare its algorithm with the token's.
func (s *keySet) lookUp(ctx context.Context, t *token.Token, until time.Time) (*token.Key, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	key, err := s.find.KeyfuncCtx(ctx)(&jwt.Token{Header: map[string]any{"alg": t.Alg(), jwkset.HeaderKID: t.KID()}})
	var f *problem.Failure
	switch {
	case errors.As(err, &f):
		return nil, f // keyfunc's own text quotes the token
	case err != nil:
		return nil, token.ErrKeyAlg
	}
	held := s.held.Load().byID[t.KID()]
	if held == nil || held.Public != key {
		return nil, s.unavailable("key set changed", errKeyPending)
	}
	return held, nil
}

// KeyRead implements the one method of [jwkset.Storage] that keyfunc calls. It
// returns a held key at once. For another it may fetch the set, at most once in
// five seconds, and says that the key is unknown only when a fetch that began
// after the kid was first seen did not bring it: before that, nobody can tell.
func (s *keySet) KeyRead(ctx context.Context, kid string) (jwkset.JWK, error) {
	policy, _ := ctx.Value(fetchPolicyKey{}).(fetchPolicy)
	now := time.Now()
	held := s.held.Load()
	if held.usable(now) {
		if key, ok := held.byID[kid]; ok {
			if now.Sub(held.began) > keyRefreshAfter {
				s.begin(now, fetchIfFloorAllows)
			}
			return key.JWK, nil
		}
	}
	if policy == fetchNever {
		return jwkset.JWK{}, errKeyNotHeld
	}

	firstSeen := s.noteAbsent(kid, now)
	if err := s.await(ctx, s.begin(now, policy)); err != nil {
		return jwkset.JWK{}, err
	}
	held = s.held.Load()
	if policy == fetchPastFloor && held != nil && held.byID[kid] == nil && held.began.Before(firstSeen) {
		// The last fetch, or what was under way, may have begun before the key was
		// published: the answer is worth waiting for one that begins now.
		if err := s.awaitFloor(ctx, keyUrgentFloor); err != nil {
			return jwkset.JWK{}, err
		}
		if err := s.await(ctx, s.begin(time.Now(), policy)); err != nil {
			return jwkset.JWK{}, err
		}
		held = s.held.Load()
	}
	if !held.usable(now) {
		return jwkset.JWK{}, s.unavailable("no keys could be fetched", nil)
	}
	if key, ok := held.byID[kid]; ok {
		return key.JWK, nil
	}
	if held.began.Before(firstSeen) {
		return jwkset.JWK{}, s.unavailable("key is not known yet", errKeyPending)
	}
	return jwkset.JWK{}, errUnknownKey
}

// ready returns nil if keys are held, fetching them if none are.
func (s *keySet) ready(ctx context.Context) error {
	now := time.Now()
	if s.held.Load().usable(now) {
		return nil
	}
	if err := s.await(ctx, s.begin(now, fetchIfFloorAllows)); err != nil {
		return err
	}
	if !s.held.Load().usable(now) {
		return s.unavailable("no keys could be fetched", nil)
	}
	return nil
}

// readyBy is ready with a deadline.
func (s *keySet) readyBy(ctx context.Context, until time.Time) error {
	if s.held.Load().usable(time.Now()) {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return s.ready(ctx)
}

// unavailable is "cannot tell", until the floor allows the next fetch.
func (s *keySet) unavailable(reason string, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := max(time.Until(s.began.Add(keyFetchFloor)), pendingKeyRetry)
	return &problem.Failure{Problem: problem.Unavailable, Reason: reason, RetryAfter: wait, Cause: cause}
}

// begin starts a fetch if none is under way and the floor allows one. It returns
// the channel that is closed when the fetch under way ends, or nil.
func (s *keySet) begin(now time.Time, policy fetchPolicy) <-chan struct{} {
	floor := keyFetchFloor
	if policy == fetchPastFloor {
		floor = keyUrgentFloor
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetch == nil && (s.began.IsZero() || now.Sub(s.began) >= floor) {
		done := make(chan struct{})
		s.fetch, s.began = done, now
		// In a goroutine of its own and on a context of its own: one caller who
		// hangs up must not take the keys from all others.
		s.tasks.start(func() {
			defer func() {
				_ = recover() // of a log handler, say; nobody else can, and the keys stay as they are
				s.mu.Lock()
				defer s.mu.Unlock()
				s.fetch = nil
				close(done)
			}()
			s.replace(now)
		})
	}
	return s.fetch
}

// awaitFloor returns when so much time has passed since the last fetch began.
func (s *keySet) awaitFloor(ctx context.Context, floor time.Duration) error {
	s.mu.Lock()
	wait := time.Until(s.began.Add(floor))
	s.mu.Unlock()
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return errKeysTimeout
	}
}

func (s *keySet) await(ctx context.Context, fetch <-chan struct{}) error {
	if fetch == nil {
		return nil
	}
	select {
	case <-fetch:
		return nil
	case <-ctx.Done():
		return errKeysTimeout
	}
}

// replace fetches the key set and takes it over. A set without one usable key
// never replaces a good one.
func (s *keySet) replace(began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), keyFetchTimeout)
	defer cancel()
	body, err := s.api.Keys(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "descopehttp: key set could not be fetched", slog.String("reason", problem.Of(err).Reason))
		return
	}
	keys := token.ParseKeySet(body)
	if len(keys) == 0 {
		s.log.LogAttrs(ctx, slog.LevelError, "descopehttp: key set has no usable key; the last good one stays in use")
		return
	}
	// One fetch at a time, so nobody else stores in between.
	if old := s.held.Load(); old != nil {
		s.retire(old.byID, keys)
	}
	s.held.Store(&heldKeys{byID: keys, began: began})
}

// retire carries over the keys that stay and remembers those that have left the
// set. They open nothing; refresh tokens, which outlive the keys that signed
// them, are checked against them before they are passed on to Descope.
func (s *keySet) retire(old, current map[string]*token.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kid, key := range old {
		if stays := current[kid]; stays != nil && stays.Same(key) {
			current[kid] = key
		} else {
			s.retired = append(s.retired, key)
		}
	}
	if n := len(s.retired) - maxRetiredKeys; n > 0 {
		s.retired = slices.Delete(s.retired, 0, n)
	}
}

// filter checks a token against held and retired keys and waits for no others.
// It returns errKeyNotHeld if its key is neither: only Descope can tell then.
func (s *keySet) filter(ctx context.Context, t *token.Token) error {
	now := time.Now()
	if !s.held.Load().usable(now) {
		s.begin(now, fetchIfFloorAllows) // for those who come after
	}
	_, err := s.verify(withFetchPolicy(ctx, fetchNever), t, now, now.Add(authenticateBudget))
	if err == nil {
		return nil
	}
	// Also when the kid is held: its old material, replaced since, may be the
	// one that signed this.
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.retired {
		if key.KID != t.KID() {
			continue
		}
		if t.Verify(key) == nil {
			return nil
		}
		err = token.ErrSignature
	}
	return err
}

// noteAbsent returns when kid was first missed. Kids are remembered by hash,
// because whoever sends them chooses their length.
func (s *keySet) noteAbsent(kid string, now time.Time) time.Time {
	id := sha256.Sum256([]byte(kid))
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen, ok := s.absent[id]; ok && now.Sub(seen) < absentKeyMemory {
		return seen
	}
	if len(s.absent) >= maxAbsentKeys {
		maps.DeleteFunc(s.absent, func(_ [sha256.Size]byte, seen time.Time) bool {
			return now.Sub(seen) >= absentKeyMemory
		})
	}
	// Full all the same, a kid is not remembered: it is "cannot tell" until a
	// fetch begins with it, never a refusal.
	if len(s.absent) < maxAbsentKeys {
		s.absent[id] = now
	}
	return now
}
