// Package renew renews sessions and ends them.
//
// # The life of a refresh token
//
// Somebody signs in and gets R1, with a session that lives for ten minutes. Ten minutes
// later a browser opens six pages at once, each with R1 and a session that has expired.
// The first request begins a flight: with R1 it asks Descope, which spends R1 and answers
// with R2. The other five wait for the same flight. The answer is kept before it is
// verified, and is verified before anybody gets it; then all six get R2.
//
// A seventh request, sent with R1 a moment before, comes late. R1 is spent, but it leads
// on to the line that R2 is now the newest of, so the request is served from memory. A
// browser that never got the answer comes back with R1 hours later: nobody has shown R2
// until then, so it is kept, and handed out. As soon as R2 is shown, R1 leads on for one
// more minute, and whoever holds R1 is late: the session is for this request only, and R2
// is not for them, because they may be a thief, with R2 long in the owner's browser. After
// that minute R1 is known to be spent: it is answered from memory, and Descope, which may
// end a sign-in when a spent token is shown, is not asked about it again.
//
// With a code the user adds to the session, and Descope answers with another line of
// tokens, S1. Both lines are one sign-in, and so is what selecting a tenant left in force:
// a logout with any of its tokens ends all of it. It is marked as ended first, so that
// nothing in the air is handed out; then Descope is told.
//
// Replicas share what they know by token, see shared.go: a claim on R1 lets one of them at
// a time ask Descope, and under R1 they find R2, or that it was logged out.
//
// # Who decides what
//
// signin.go has the model and memory.go its transitions, without I/O and under one lock.
// This file looks at them and decides who gets what. ahead.go renews what still serves, and
// idle.go knows when those who are active have to be seen. flight.go makes the calls that
// renew, and says what a refusal of one means; call.go makes those that others ask for with
// the newest token, and has a refresh confirm what they were refused. logout.go ends
// sign-ins, code.go knows which sessions are answers to a code, shared.go and seal.go are
// the store.
package renew

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/tasks"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Keys are the project's, as far as renewing needs them.
type Keys interface {
	// Ready returns nil once keys are held.
	Ready(ctx context.Context) error
	// Filter returns an error for a token whose signature is known to be bad, and sets
	// t.Unverified where that cannot be told.
	Filter(ctx context.Context, t *token.Token) error
	// VerifyAnswer returns the key of a token in Descope's own answer, whose key may
	// have been published a moment ago.
	VerifyAnswer(ctx context.Context, t *token.Token) (*token.Key, error)
	// Trusts reports whether a key has not been revoked.
	Trusts(key *token.Key, now time.Time) bool
}

// Config says what a Renewer works with.
type Config struct {
	ProjectID string
	API       *descope.Client
	Keys      Keys
	Rules     *token.Rules
	Store     Store // nil for a single replica
	MaxBytes  int   // remembered; 0: 64 MiB
	Early     Early
	// Shown reports whether a client has presented a session token here. nil if that is
	// not known.
	Shown   func(session string) bool
	Notices *notice.Reporter
}

// A Renewer renews sessions and ends them. It is safe for concurrent use.
type Renewer struct {
	api     *descope.Client
	keys    Keys
	rules   *token.Rules
	shared  *shared // nil without a Store
	shown   func(session string) bool
	notices *notice.Reporter
	flying  tasks.Group
	idle    idleLimit // how long Descope waits for a refresh
	codes   codes
	told    told

	unshown    atomic.Int64 // len(memory.unshown), to be read without the lock
	early      Early
	rotates    atomic.Int32 // whether the last refresh brought another refresh token
	refreshed  atomic.Int64 // when that was answered, Unix nanoseconds
	clockAhead atomic.Int64 // of Descope's, nanoseconds

	mu       sync.Mutex // guards memory and all that it leads to
	memory   memory
	sweeping bool // a timer is set
}

const (
	defaultMaxBytes = 64 << 20
	sweepInterval   = time.Minute
	maxTurns        = 64 // looks at memory in one request
)

// New returns a Renewer that remembers nothing yet.
func New(cfg Config) *Renewer {
	most := cfg.MaxBytes
	if most == 0 {
		most = defaultMaxBytes
	}
	return &Renewer{
		api:     cfg.API,
		keys:    cfg.Keys,
		rules:   cfg.Rules,
		shared:  newShared(cfg),
		shown:   cfg.Shown,
		notices: cfg.Notices,
		early:   cfg.Early,
		memory:  newMemory(most),
		codes:   newCodes(),
		told:    newTold(),
	}
}

// Wait returns when no call is in the air, or with the context's error.
func (r *Renewer) Wait(ctx context.Context) error { return r.flying.Wait(ctx) }

// Remembered returns how many bytes are remembered, of how many.
func (r *Renewer) Remembered() (bytes, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.memory.bytes, r.memory.most
}

// StoreTrouble returns the trouble that the store is in, "" for none, and whether there is
// one.
func (r *Renewer) StoreTrouble() (trouble string, ok bool) {
	if r.shared == nil {
		return "", false
	}
	return r.shared.state.Trouble(), true
}

// A Handout is what one client gets.
type Handout struct {
	Session token.Verified
	Token   string         // the session token
	Refresh string         // a refresh token that is new to this client, or ""
	Until   time.Time      // when the refresh token in force expires
	Body    jsontext.Value // Descope's answer, with both tokens empty
	// Late: something newer than the client's token has been seen in use. The session is
	// for this request only: cookies that are set now would arrive after newer ones.
	Late bool
}

func handoutOf(x *renewal, presented *token.Token, late bool) Handout {
	h := Handout{Session: x.session, Token: x.raw, Until: x.inForce.Claims.Expiry, Body: x.body, Late: late}
	if !late && (presented == nil || x.inForce.Raw != presented.Raw) {
		h.Refresh = x.inForce.Raw
	}
	return h
}

var (
	errLoggedOut = problem.SessionEnded.Because("the session was logged out")
	// ErrSpent is about a refresh token that somebody has used long ago. Its cookies are
	// kept, because the browser's own may be newer.
	ErrSpent      = problem.SessionEnded.Because("the refresh token was spent, and what came of it has been in use for more than a minute")
	errOvertaken  = problem.Unavailable.Because("a newer refresh token is in use, and there is no session for an older one")
	errManyTokens = problem.Unavailable.Because("refresh token changes too fast")
	errTimeout    = &problem.Failure{Problem: problem.Unavailable, Reason: "refresh did not end in time", Timeout: true}
	errMaybeSpent = problem.Unavailable.Because("Descope refused the refresh token, which another replica may have spent")
)

// Refresh renews the session of a refresh token that has passed the local checks.
// explicit is for clients that ask for a refresh in so many words: a token that is still
// in force is refreshed for them even if its session is fresh.
//
// The error is a [*problem.Failure]: the session has ended, or "cannot tell".
func (r *Renewer) Refresh(ctx context.Context, t *token.Token, explicit bool) (Handout, error) {
	return r.refresh(ctx, t, explicit, false)
}

// refresh is Refresh; flown says that a flight was begun for this request already.
func (r *Renewer) refresh(ctx context.Context, t *token.Token, explicit, flown bool) (Handout, error) {
	asked := time.Now()
	for range maxTurns {
		l, fl, h, err := r.look(ctx, t, explicit, asked)
		switch {
		case err != nil:
			return Handout{}, err
		case fl != nil:
			flown = fl.isOwned.CompareAndSwap(false, true) || flown
			if err := fl.wait(ctx); err != nil {
				return Handout{}, err
			}
			if fl.err != nil {
				return Handout{}, fl.err
			}
			continue
		}
		current, err := r.isCurrent(ctx, t, l)
		if err != nil {
			return h, err
		}
		if current {
			if h.Late {
				r.observe(ctx, asLate, asked, nil)
			} else if !flown {
				r.observe(ctx, asJoined, asked, nil)
			}
			return h, nil
		}
	}
	return Handout{}, errManyTokens
}

// What refreshes are, as they are observed: the first three ask Descope, the others are
// served with what that brought.
const (
	asRenewed  = "renewed"
	asEarly    = "early"
	asExplicit = "explicit"
	asJoined   = "joined"
	asLate     = "late"
)

// observe tells of a refresh, or of a request that was served with the answer to one.
func (r *Renewer) observe(ctx context.Context, how string, began time.Time, err error) {
	e := notice.Event{Name: notice.Refresh, Took: time.Since(began)}.Ended(err)
	if err == nil {
		e.Outcome = how
	}
	r.notices.Event(ctx, e)
}

// look decides in one step, under the lock, whether memory serves, a flight is under way,
// or one has to begin. A flight writes to memory before it ends, so no request falls in
// between.
func (r *Renewer) look(ctx context.Context, t *token.Token, explicit bool, asked time.Time) (*line, *flight, Handout, error) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.find(t, now)
	if err != nil {
		return nil, nil, Handout{}, err
	}
	l, late := p.line, p.late()
	isNewest := l.newest.Raw == t.Raw
	// Descope's times are whole seconds: within one it would give the same again.
	isAnswered := l.last != nil && l.last.from != nil && l.last.from.Raw == t.Raw && asked.Sub(l.session.proved) < time.Second
	asksAnew := explicit && isNewest && !late && !isAnswered
	if r.serves(l, now) && !asksAnew {
		if !late {
			r.memory.hand(p, now)
		}
		return l, nil, handoutOf(l.session, t, late), nil
	}
	switch {
	case late && l.unproved == nil:
		return nil, nil, Handout{}, errOvertaken
	case l.flight != nil:
		return nil, l.flight, Handout{}, nil
	case late: // to verify what is here costs no call about a token
		return nil, r.launchProof(ctx, l), Handout{}, nil
	case !l.spentUnproved() && now.Before(l.trouble.until):
		return nil, nil, Handout{}, l.trouble.err
	case l.alive() >= maxAlive:
		return nil, nil, Handout{}, errManyTokens
	}
	why, left := asRenewed, time.Duration(0)
	if explicit {
		why, left = asExplicit, unfetchedKept
	}
	return nil, r.launchRenewal(ctx, l, why, left), Handout{}, nil
}

// find is memory's, with what may not lead anywhere as an error.
func (r *Renewer) find(t *token.Token, now time.Time) (*place, error) {
	p, spent := r.memory.find(t, now)
	r.countUnshown()
	switch {
	case spent:
		return nil, ErrSpent
	case p.ended:
		return nil, errLoggedOut
	}
	return p, nil
}

// sweepLater gives back what is of no use any more, also if nobody asks for anything. The
// lock is held. Nothing runs while nothing is remembered.
func (r *Renewer) sweepLater() {
	if r.sweeping || r.memory.isEmpty() {
		return
	}
	r.sweeping = true
	time.AfterFunc(sweepInterval, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.memory.sweep(time.Now())
		r.countUnshown()
		r.sweeping = false
		r.sweepLater()
	})
}

func (r *Renewer) countUnshown() { r.unshown.Store(int64(len(r.memory.unshown))) }

// serves reports whether the session that came last may be handed out. Where replicas
// share a store it is not when the store has forgotten what happened since it came, such
// as a logout: Descope is asked then.
func (r *Renewer) serves(l *line, now time.Time) bool {
	return l.session != nil && l.unproved == nil &&
		r.rules.CheckTime(&l.session.session.Claims, now) == nil &&
		r.keys.Trusts(l.session.session.Key, now) &&
		!r.memory.wasCut(l.user, l.last.began, now) &&
		(r.shared == nil || now.Sub(l.last.at) < sharedKept)
}

// isCurrent reports whether what memory holds may be handed out, or used: whether no other replica
// has spent the newest token, or logged out. If not, memory has been brought up to date.
func (r *Renewer) isCurrent(ctx context.Context, t *token.Token, l *line) (bool, error) {
	if r.shared == nil {
		return true, nil
	}
	news, err := r.check(ctx, t, l)
	switch {
	case err != nil:
		return false, err
	case ctx.Err() != nil:
		return false, errTimeout
	}
	return !news, nil
}

// Presented notes that a client has shown a session token. It costs nothing while every
// renewed session has been seen.
func (r *Renewer) Presented(session string, now time.Time) {
	if r.unshown.Load() == 0 {
		return
	}
	hash := token.HashOf(session)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.shows(hash, now)
	r.countUnshown()
}

// WasSpent reports whether a refresh token that has expired was spent before that, not
// long ago. A request that was under way meanwhile belongs to the holder of the
// successor, whose cookies must not be deleted for it.
func (r *Renewer) WasSpent(ctx context.Context, t *token.Token, now time.Time) bool {
	if now.Sub(t.Claims.Expiry) >= leadsOn || t.Unverified {
		return false
	}
	r.mu.Lock()
	p, spent := r.memory.find(t, now)
	known := !spent && !p.ended && (p.newest.Raw != t.Raw || p.spentUnproved())
	r.mu.Unlock()
	if known || spent || r.shared == nil {
		return known
	}
	v, _, err := r.shared.load(ctx, t)
	if err != nil || v == nil {
		return false
	}
	a := r.arrivalOf(t, v)
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, err := r.find(t, now); err == nil && a.rotated() && p.newest.Raw == t.Raw && p.unproved == nil {
		r.memory.arrive(p.line, a, now)
	}
	return a.rotated()
}
