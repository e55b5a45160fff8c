package renew

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/descopehttp/descopehttp/internal/calm"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A Store lets replicas share what became of refresh tokens. The root package documents
// and exports it.
type Store interface {
	Load(ctx context.Context, key string) (value, end []byte, err error)
	Claim(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error)
	Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte, err error)
	End(ctx context.Context, key string, end []byte, ttl time.Duration) (value []byte, err error)
	Release(ctx context.Context, key, owner string) error
}

// Bounds on the use of a store.
const (
	storeTimeout  = 250 * time.Millisecond // of one call; a slower store counts as away
	storeRest     = time.Second            // without a question, after one that failed
	storeLease    = 10 * time.Second
	leaseRenewal  = 3 * time.Second
	storePoll     = 25 * time.Millisecond // between looks at another's lease, doubling
	maxStorePoll  = 500 * time.Millisecond
	maxSealedSize = 64 << 10 // bytes

	sharedKept = 10 * time.Minute // what became of a token

	doubtKept = time.Minute         // a refusal says nothing for so long
	birthKept = 30 * 24 * time.Hour // since when a store has been filled
)

// A record is what replicas tell each other about one refresh token: what it became.
// That it was logged out is told by the end beside it.
type record struct {
	Began   int64  `json:"began"` // the token was spent no earlier, Unix milliseconds
	At      int64  `json:"at"`    // and no later
	Session string `json:"session"`
	Refresh string `json:"refresh,omitzero"` // that came of it, if it is another
	Minted  bool   `json:"minted,omitzero"`  // the token is in force perhaps
	Shown   bool   `json:"shown,omitzero"`   // a client has shown the token
	Idle    int64  `json:"idle,omitzero"`    // seconds until a refresh has to come, as Descope told
}

// shared is a Store in use. A nil one stands for a single replica. Whatever goes wrong
// with the store, this replica goes on with its own memory, in doubt.
type shared struct {
	store   Store
	seal    sealer
	notices *notice.Reporter
	state   *notice.State

	doubtful atomic.Int64 // until then another replica may know better, Unix nanoseconds
	away     atomic.Int64 // until then, because the store did not answer
	resting  atomic.Int64 // until then the store is not asked
	greeted  atomic.Bool  // since when it has been filled is known
}

func newShared(cfg Config) *shared {
	if cfg.Store == nil {
		return nil
	}
	return &shared{store: cfg.Store, seal: sealer{cfg.ProjectID}, notices: cfg.Notices, state: cfg.Notices.State("", notice.RefreshStoreBack)}
}

// isDoubtful reports whether a refusal of Descope says nothing, because another replica
// may have spent the token without this one being able to know.
func (s *shared) isDoubtful(now time.Time) bool {
	return s != nil && now.UnixNano() < s.doubtful.Load()
}

// wasAway reports whether the store did not answer within the last minute.
func (s *shared) wasAway(now time.Time) bool { return s != nil && now.UnixNano() < s.away.Load() }

// doubt begins a minute of doubt.
func (s *shared) doubt() { s.doubtful.Store(time.Now().Add(doubtKept).UnixNano()) }

// fail begins a minute of doubt because the store did not answer.
func (s *shared) fail() {
	s.doubt()
	s.away.Store(s.doubtful.Load())
}

var (
	errPanicked   = errors.New("descopehttp: the store panicked")
	errUnreadable = errors.New("descopehttp: value of the store cannot be read")
	errResting    = errors.New("descopehttp: the store did not answer a moment ago")
	errTooLarge   = errors.New("descopehttp: value is too large for the store")
)

// ask makes one call. It is not on the caller's context: a client that hangs up says
// nothing about the store, and what was spent is told, whatever time is left.
func (s *shared) ask(ctx context.Context, call func(context.Context) error) (err error) {
	if now := time.Now().UnixNano(); now < s.resting.Load() {
		s.fail()
		s.notices.Event(ctx, notice.Event{Name: notice.Store, Class: "refresh", Outcome: "skipped"})
		return errResting
	}
	if s.greeted.CompareAndSwap(false, true) {
		s.greet(ctx)
	}
	return s.try(ctx, call)
}

func (s *shared) try(ctx context.Context, call func(context.Context) error) (err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	func() {
		defer calm.Recover(&err, errPanicked)
		err = call(ctx)
	}()
	s.notices.StoreCall(ctx, "refresh", began, err)
	if err == nil {
		s.state.Off()
		return nil
	}
	s.fail()
	s.resting.Store(time.Now().Add(storeRest).UnixNano())
	if err == errUnreadable {
		s.notices.Tell(ctx, notice.RefreshStoreOdd, notice.Fields{})
	} else {
		s.state.On(notice.RefreshStoreAway, notice.Fields{Reason: calm.Why(err, errPanicked)})
	}
	return err
}

// greet notes in the store since when it has been filled, or reads it. One that was
// emptied does not know what was spent a minute ago, and nobody may have noticed: it is
// greeted first of all, and again before a refusal is believed.
func (s *shared) greet(ctx context.Context) {
	if s == nil {
		return
	}
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	_ = s.try(ctx, func(ctx context.Context) error {
		held, _, err := s.store.Put(ctx, s.seal.birthKey(), "", []byte(now), birthKept, false)
		if born, parseErr := strconv.ParseInt(string(held), 10, 64); err == nil && (parseErr != nil || time.Since(time.UnixMilli(born)) < doubtKept) {
			s.doubt()
		}
		return err
	})
}

// load returns what another replica has said of t.
func (s *shared) load(ctx context.Context, t *token.Token) (v *record, ended bool, err error) {
	err = s.ask(ctx, func(ctx context.Context) error {
		value, end, err := s.store.Load(ctx, s.seal.key(t))
		if ended = end != nil; err == nil && !ended {
			v, err = s.seal.open(t, value)
		}
		return err
	})
	return v, ended, err
}

// end marks t as logged out, and returns what had become of it.
func (s *shared) end(ctx context.Context, t *token.Token) (v *record, err error) {
	err = s.ask(ctx, func(ctx context.Context) error {
		value, err := s.store.End(ctx, s.seal.key(t), []byte("ended"), endedKept)
		if err == nil {
			v, err = s.seal.open(t, value)
		}
		return err
	})
	return v, err
}

// A claim is the right to spend a token. Without a store the zero value is one.
type claim struct {
	shared *shared
	token  *token.Token
	owner  string
	held   bool // the lease is this claim's
	orphan bool // another's lease ended without a result, so it may have spent the token
	over   bool // a session is stored, which an answer takes the place of

	judged *token.Token // the same as token, with what the keys of now say of it
}

// claim takes the lease on t if it is free, and returns what is known of t in any case.
func (s *shared) claim(ctx context.Context, t *token.Token, owner string) (c *claim, v *record, ended bool, err error) {
	c = &claim{shared: s, token: t, owner: owner}
	err = s.ask(ctx, func(ctx context.Context) error {
		value, end, held, err := s.store.Claim(ctx, s.seal.key(t), c.owner, storeLease)
		if c.held, ended = held, end != nil; err == nil && !ended {
			v, err = s.seal.open(t, value)
		}
		return err
	})
	return c, v, ended, err
}

// renewEvery keeps the lease for as long as a call takes, until stop is called.
func (c *claim) renewEvery(d time.Duration) (stop func()) {
	if !c.held {
		return func() {}
	}
	ended := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _, _, _ = c.shared.claim(context.Background(), c.token, c.owner) // anew
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended); <-done }
}

// put tells the other replicas of an answer and ends the lease. It returns what is there
// in its place, if that is another's, and whether the token was logged out.
func (c *claim) put(ctx context.Context, a *arrival) (v *record, ended bool, err error) {
	if !c.over || !a.rotated() {
		return c.shared.put(ctx, c.owner, a, c.over)
	}
	// A link takes the place of the session, but no other link's. That is two steps, and
	// the lease ends after them.
	defer c.release()
	return c.shared.put(ctx, "", a, false)
}

func (s *shared) put(ctx context.Context, owner string, a *arrival, over bool) (v *record, ended bool, err error) {
	ttl := sharedKept
	if !a.rotated() {
		ttl = min(ttl, time.Until(a.expiry)) // beyond its life it would serve nobody
	}
	sealed, err := s.seal.seal(a.from, recordOf(a))
	if err != nil || ttl <= 0 {
		_ = s.release(ctx, a.from, owner)
		return nil, false, nil // there is nothing to tell
	}
	if over && !a.rotated() {
		// A session takes the place of a session, but not of what the token was spent for.
		if v, ended, err = s.load(ctx, a.from); err != nil || ended || v != nil && v.Refresh != "" {
			_ = s.release(ctx, a.from, owner)
			return v, ended, err
		}
		v = nil
	}
	// Also where the store did not answer a moment ago: what was spent has to be told.
	err = s.try(ctx, func(ctx context.Context) error {
		now, end, err := s.store.Put(ctx, s.seal.key(a.from), owner, sealed, ttl, over)
		if err == nil && string(now) != string(sealed) {
			v, err = s.seal.open(a.from, now)
		}
		ended = end != nil
		return err
	})
	if err == nil && v != nil && a.rotated() && v.Refresh == "" && !over {
		// A session that was stored late, which nobody needs any more.
		return s.put(ctx, owner, a, true)
	}
	return v, ended, err
}

func recordOf(a *arrival) *record {
	v := &record{Began: a.began.UnixMilli(), At: a.at.UnixMilli(), Session: a.answer.Session, Minted: a.minted, Shown: a.shown, Idle: int64(a.answer.Idle / time.Second)}
	if a.rotated() {
		v.Refresh = a.answer.Refresh
	}
	return v
}

// release lets other replicas try. Should it fail, the lease ends by itself.
func (c *claim) release() {
	if c != nil && c.held {
		_ = c.shared.release(context.Background(), c.token, c.owner)
		c.held = false
	}
}

func (s *shared) release(ctx context.Context, t *token.Token, owner string) error {
	return s.ask(ctx, func(ctx context.Context) error { return s.store.Release(ctx, s.seal.key(t), owner) })
}

// newOwner names a claim, so that no two are one.
func newOwner() string { return rand.Text() }

// check reads what other replicas have said of t and of the newest token that it leads
// to, before memory serves. It reports whether there was news, which is in memory then.
func (r *Renewer) check(ctx context.Context, t *token.Token, l *line) (news bool, err error) {
	began := time.Now()
	r.mu.Lock()
	newest, fresh, untold := l.newest, began.Sub(l.checked) < storeTimeout, l.untold
	l.untold = nil
	r.mu.Unlock()
	r.tell(ctx, l, untold)
	if fresh && newest.Raw == t.Raw {
		return false, nil
	}
	type answer struct {
		v     *record
		ended bool
		err   error
	}
	ofNewest := make(chan answer, 1)
	go func() {
		v, ended, err := r.shared.load(ctx, newest)
		ofNewest <- answer{v, ended, err}
	}()
	var ofOwn answer
	if newest.Raw != t.Raw {
		_, ofOwn.ended, ofOwn.err = r.shared.load(ctx, t)
	}
	a := <-ofNewest
	if a.ended || ofOwn.ended {
		r.noteEnded(l)
		return true, errLoggedOut
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if link := r.arrivalOf(newest, a.v); link != nil && link.rotated() && !l.ended {
		r.memory.takeOver(l, link, time.Now())
		return true, nil
	}
	if a.err == nil && ofOwn.err == nil { // else it is served from memory, in doubt
		l.checked = later(l.checked, began)
	}
	return l.newest.Raw != newest.Raw || l.spentUnproved() || l.ended, nil
}

// tell repeats what the store has not heard of.
func (r *Renewer) tell(ctx context.Context, l *line, untold []*arrival) {
	for i, a := range untold {
		if time.Since(a.at) >= sharedKept {
			continue
		}
		_, ended, err := r.shared.put(ctx, "", a, false)
		if err != nil {
			r.mu.Lock()
			l.untold = append(l.untold, untold[i:]...)
			r.mu.Unlock()
			return
		}
		if ended {
			r.noteEnded(l)
		}
	}
}

// learn reads whether another replica has spent t or logged it out, and reports whether
// there was news.
func (r *Renewer) learn(ctx context.Context, l *line, t *token.Token) bool {
	if r.shared == nil {
		return false
	}
	v, ended, err := r.shared.load(ctx, t)
	if ended {
		r.noteEnded(l)
		return true
	}
	a := r.arrivalOf(t, v)
	if err != nil || a == nil || !a.rotated() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.takeOver(l, a, time.Now())
	return true
}

func (r *Renewer) noteEnded(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.end(l.signIn, time.Now())
}
