package descopehttp

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/tasks"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on fetching and keeping keys. The floor is what keeps whoever invents kids from
// having the set fetched for each; it is also how long a key that Descope has just begun
// to use may be unknown here, so it is short.
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
	// errUnknownKey is a refusal: Descope has published no such key.
	errUnknownKey = problem.InvalidToken.Because(unknownKeyReason)
	// errKeyNotHeld says that nobody asked Descope, because the answer did not matter
	// enough.
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
//
// Keys are read without a lock, as one pointer to a set that is never written to: that
// is on the path of every request. All that changes is behind mu, which is held for
// moments and never while anything is waited for.
type keySet struct {
	*jwkset.MemoryJWKSet
	find    keyfunc.Keyfunc
	rules   *token.Rules // remember the headers of tokens that have verified
	api     *descope.Client
	notices *notice.Reporter
	state   *notice.State // of fetching
	tasks   tasks.Group

	held atomic.Pointer[heldKeys] // nil until the first successful fetch

	mu      sync.Mutex                               // guards all below
	began   time.Time                                // when the last fetch began
	fetch   chan struct{}                            // of the fetch under way, closed when it ends; nil if there is none
	retired []*token.Key                             // that have left the set, the oldest first
	absent  fading.Map[[sha256.Size]byte, time.Time] // hash of an unknown kid → when it was first missed
}

// heldKeys is one key set as Descope published it; it is never written to.
//
// It counts from when the fetch began and not from when it ended: a key may have been
// published or taken away while the answer was on its way, and what is said of a moment
// must have been true then.
type heldKeys struct {
	byID  map[string]*token.Key
	began time.Time // when the fetch that brought it began
	given bool      // by Config.Keys, until Descope has answered
}

// usable reports whether the keys may still be trusted. Keys that could not be
// fetched again for a day are not: their revocation would have gone unseen.
func (h *heldKeys) usable(now time.Time) bool {
	return h != nil && now.Sub(h.began) <= keyMaxStale
}

// isOld reports whether a fetch should begin beside the request.
func (h *heldKeys) isOld(now time.Time) bool { return h.given || now.Sub(h.began) > keyRefreshAfter }

// give has the set begin with these keys. They are those of no fetch, and refuse nothing.
func (s *keySet) give(keys map[string]*token.Key) {
	if len(keys) > 0 {
		s.held.Store(&heldKeys{byID: keys, began: time.Now().Round(0), given: true})
	}
}

// newKeySet returns a set that holds nothing yet. The first request fetches it, or Ready.
func newKeySet(api *descope.Client, rules *token.Rules, notices *notice.Reporter) *keySet {
	s := &keySet{
		rules:        rules,
		MemoryJWKSet: jwkset.NewMemoryStorage(),
		api:          api,
		notices:      notices,
		state:        notices.State("", notice.KeysFresh),
		absent:       fading.New[[sha256.Size]byte, time.Time](maxAbsentKeys),
	}
	find, err := keyfunc.New(keyfunc.Options{Storage: s})
	if err != nil {
		panic(err) // only without a Storage
	}
	s.find = find
	return s
}

// A fetchPolicy says what may be done about a key that is not held.
type fetchPolicy int

const (
	fetchIfFloorAllows fetchPolicy = iota
	fetchNever                     // the answer does not matter enough
	fetchPastFloor                 // the kid comes from Descope itself
)

// fetchPolicyKey is for KeyRead alone: keyfunc stands between it and lookUp, and passes
// on nothing but the context.
type fetchPolicyKey struct{}

// A clock is when a request is judged, and until when it may wait for keys. One moment
// for all of a request: a token must not be valid for one check and expired for the next.
type clock struct{ now, until time.Time }

func clockFor(budget time.Duration) clock {
	now := time.Now()
	return clock{now, now.Add(budget)}
}

// trusts reports whether key may still be trusted: it was not revoked by the last
// fetch, and that was not too long ago. Keys are compared by pointer and not by kid: a kid
// that names another material now has been revoked as well. It is asked for every request
// with a session that was checked before, so it takes no lock while the keys are fresh.
func (s *keySet) trusts(key *token.Key, now time.Time) bool {
	held := s.held.Load()
	return held.usable(now) && held.byID[key.KID] == key && !held.isOld(now) ||
		s.trustsStale(held, key, now)
}

// trustsStale is trusts where the keys are more than an hour old: they are good for a day,
// but a fetch begins beside the request, so that a revoked key goes within the hour and
// nobody waits for it.
func (s *keySet) trustsStale(held *heldKeys, key *token.Key, now time.Time) bool {
	if !held.usable(now) || held.byID[key.KID] != key {
		return false
	}
	s.startFetch(now, fetchIfFloorAllows)
	return true
}

// verify returns the key that t was signed with. One that has verified a token with the same
// header is asked first, if it is trusted still, which spares most the way through keyfunc.
func (s *keySet) verify(ctx context.Context, t *token.Token, c clock, fetch fetchPolicy) (*token.Key, error) {
	key := t.KnownKey()
	if key == nil || !s.trusts(key, c.now) {
		var err error
		if key, err = s.lookUp(ctx, t, c.until, fetch); err != nil {
			return nil, err
		}
	}
	err := t.Verify(key)
	if err == nil {
		s.rules.Remember(t, key)
		return key, nil
	}
	s.startFetch(c.now, fetchIfFloorAllows) // for those who come after: another key may have this kid now
	if s.held.Load().given {
		err = errKeyNotHeld // it may be long out of date, and refuses nothing
	}
	return nil, err
}

// lookUp has keyfunc find the key and compare its algorithm with the token's, until a
// deadline at the most: the wait for a fetch is the only thing that takes time in here.
func (s *keySet) lookUp(ctx context.Context, t *token.Token, until time.Time, fetch fetchPolicy) (*token.Key, error) {
	ctx, cancel := context.WithDeadline(context.WithValue(ctx, fetchPolicyKey{}, fetch), until)
	defer cancel()
	public, err := s.find.KeyfuncCtx(ctx)(&jwt.Token{Header: map[string]any{"alg": t.Alg(), jwkset.HeaderKID: t.KID()}})
	var f *problem.Failure
	switch {
	case errors.As(err, &f):
		return nil, f // keyfunc's own text quotes the token
	case err != nil:
		return nil, token.ErrKeyAlg
	}
	// keyfunc has the public half only. A fetch may have ended in between, and what it
	// took away must not come back by way of a request that was under way.
	key := s.held.Load().byID[t.KID()]
	if key == nil || key.Public != public {
		return nil, s.unavailable("key set changed", errKeyPending)
	}
	return key, nil
}

// KeyRead implements the one method of [jwkset.Storage] that keyfunc calls. It
// returns a held key at once. For another it may fetch the set, at most once in
// five seconds, and says that the key is unknown only when a fetch that began
// after the kid was first seen did not bring it: before that, nobody can tell.
func (s *keySet) KeyRead(ctx context.Context, kid string) (jwkset.JWK, error) {
	policy, _ := ctx.Value(fetchPolicyKey{}).(fetchPolicy)
	now := time.Now()
	held := s.held.Load()
	// A key that is held is enough, however many fetches fail beside it: an outage of
	// Descope must not sign anybody out.
	if held.usable(now) {
		if key, ok := held.byID[kid]; ok {
			if held.isOld(now) {
				s.startFetch(now, fetchIfFloorAllows)
			}
			return key.JWK, nil
		}
	}
	if policy == fetchNever {
		return jwkset.JWK{}, errKeyNotHeld
	}

	// Only a fetch that began after this moment proves that there is no such key.
	firstSeen := s.noteAbsent(kid, now)
	if err := s.await(ctx, s.startFetch(now, policy)); err != nil {
		return jwkset.JWK{}, err
	}
	held = s.held.Load()
	if policy == fetchPastFloor && held != nil && held.byID[kid] == nil && held.began.Before(firstSeen) {
		// The last fetch, or what was under way, may have begun before the key was
		// published: the answer is worth waiting for one that begins now.
		if err := s.awaitFloor(ctx, keyUrgentFloor); err != nil {
			return jwkset.JWK{}, err
		}
		if err := s.await(ctx, s.startFetch(time.Now(), policy)); err != nil {
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
	if held.given || held.began.Before(firstSeen) {
		// The floor held the fetch up. A user whose token is signed with a key of just
		// now must not be turned away: "come back" is said to the inventor of kids, too.
		return jwkset.JWK{}, s.unavailable("key is not known yet", errKeyPending)
	}
	return jwkset.JWK{}, errUnknownKey
}

// ready returns nil if keys are held, fetching them if none are.
func (s *keySet) ready(ctx context.Context) error {
	now := time.Now()
	if held := s.held.Load(); held.usable(now) {
		if held.given {
			s.startFetch(now, fetchIfFloorAllows)
		}
		return nil
	}
	if err := s.await(ctx, s.startFetch(now, fetchIfFloorAllows)); err != nil {
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

// unavailable is "cannot tell", until the floor allows the next fetch: sooner than that a
// client would come back for nothing.
func (s *keySet) unavailable(reason string, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := max(time.Until(s.began.Add(keyFetchFloor)), pendingKeyRetry)
	return &problem.Failure{Problem: problem.Unavailable, Reason: cmp.Or(s.api.KeysTrouble(), reason), RetryAfter: wait, Cause: cause}
}

// startFetch starts a fetch if none is under way and the floor allows one. It returns
// the channel that is closed when the fetch under way ends, or nil. Everybody waits for
// the same one, whatever they ask for: a set has all keys in it.
func (s *keySet) startFetch(now time.Time, policy fetchPolicy) <-chan struct{} {
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
		s.tasks.Start(func() {
			defer func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.fetch = nil
				close(done)
			}()
			defer s.notices.Recover(context.Background(), "keys") // nobody else can, and the keys stay as they are
			s.replace(now)
		})
	}
	return s.fetch
}

// awaitFloor returns when so much time has passed since the last fetch began. Another
// caller may begin the next one at that moment; startFetch returns that one then.
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

// await returns when a fetch has ended, well or not; what it brought is in held. Each
// waiter leaves on its own context, and the fetch goes on for the others.
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
// never replaces a good one: it is what a proxy's error page, a half-written document or
// the wrong URL looks like, and to believe it would sign everybody out.
func (s *keySet) replace(began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), keyFetchTimeout)
	defer cancel()
	body, err := s.api.Keys(ctx)
	if err != nil {
		line := notice.KeysMissing
		if s.held.Load().usable(time.Now()) {
			line = notice.KeysStale
		}
		s.state.On(line, notice.Fields{Reason: problem.Of(err).Reason})
		return
	}
	keys, skipped := token.ReadKeySet(body)
	if len(skipped) > 0 {
		s.notices.Tell(ctx, notice.KeysSkipped, notice.Fields{Reason: strings.Join(skipped, "; ")})
	}
	if len(keys) == 0 {
		s.state.On(notice.KeysUnusable, notice.Fields{})
		return
	}
	// One fetch at a time, so nobody else stores in between. What stays in the set keeps
	// its pointer, so that cached sessions go on; all others end with this store.
	if old := s.held.Load(); old != nil {
		s.retire(old.byID, keys)
	}
	// By the wall clock: the other one stands still while a machine is suspended.
	s.held.Store(&heldKeys{byID: keys, began: began.Round(0)})
	s.state.Off()
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
// It returns errKeyNotHeld if its key is neither: only Descope can tell then. It keeps
// forged tokens from costing a call to Descope; it lets nobody in.
func (s *keySet) filter(ctx context.Context, t *token.Token) error {
	now := time.Now()
	if !s.held.Load().usable(now) {
		s.startFetch(now, fetchIfFloorAllows) // for those who come after
	}
	_, err := s.verify(ctx, t, clock{now, now.Add(keyFetchTimeout)}, fetchNever)
	if err == nil {
		return nil
	}
	// Also when the kid is held: its old material, replaced since, may be the
	// one that signed this. Keys rotate daily and refresh tokens live for weeks.
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

// noteAbsent returns when kid was first missed, which is now if it was not missed within
// the last half minute: long enough for a fetch after the floor, and short enough that a
// kid is judged anew when Descope publishes it later. Kids are remembered by hash, because
// whoever sends them chooses their length. One that was pushed out is "cannot tell" again,
// never a refusal.
func (s *keySet) noteAbsent(kid string, now time.Time) time.Time {
	id := sha256.Sum256([]byte(kid))
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.absent.Get(id, now)
	if !ok {
		seen = now
		s.absent.Put(id, now, now, absentKeyMemory)
	}
	return seen
}
