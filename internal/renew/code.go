package renew

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/internal/fading"
	"github.com/descopehttp/descopehttp/internal/token"
)

const maxCodes = 10_000 // that are remembered

// codes remembers of session tokens when the code was typed that brought them. No claim
// says so: each renewal has a new "iat", and "amr" stays.
type codes struct {
	mu    sync.Mutex
	typed fading.Map[token.Hash, time.Time]
}

func newCodes() codes { return codes{typed: fading.New[token.Hash, time.Time](maxCodes)} }

func (c *codes) put(session string, typed, now time.Time, keep time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.typed.Put(token.HashOf(session), typed, now, keep)
}

func (c *codes) get(session string, now time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.typed.Get(token.HashOf(session), now)
}

// NoteCode remembers that a session token is the answer to a code, for as long as it lives
// here, and for ten minutes at most in the store. It is to be called before anybody has the
// token.
func (r *Renewer) NoteCode(ctx context.Context, session string, claims *token.Claims, typed time.Time) {
	now := time.Now()
	life := claims.Expiry.Sub(now)
	if life <= 0 {
		return
	}
	r.codes.put(session, typed, now, life)
	if r.shared != nil {
		r.shared.noteCode(ctx, session, typed, min(life, sharedKept))
	}
}

// CodeTyped returns when the code was typed that a session token is the answer to, here or on
// another replica: the zero time for a renewal, which is the answer to none.
func (r *Renewer) CodeTyped(ctx context.Context, session string, issued time.Time, within time.Duration) (typed time.Time, known bool) {
	now := time.Now()
	typed, known = r.codes.get(session, now)
	if !known && r.shared != nil && now.Sub(issued) <= within+time.Minute { // clocks differ
		typed, known = r.shared.codeTyped(ctx, session)
	}
	return typed, known
}

// ForgetCode has a session token be the answer to no code any more: its user has signed out.
func (r *Renewer) ForgetCode(ctx context.Context, session string) {
	r.codes.put(session, time.Time{}, time.Now(), toldKept)
	if r.shared != nil {
		r.shared.noteCode(ctx, session, time.Time{}, sharedKept)
	}
}

func (s *shared) noteCode(ctx context.Context, session string, typed time.Time, keep time.Duration) {
	sealed := s.seal.sealBytes(session, []byte(strconv.FormatInt(typed.UnixMilli(), 10)))
	_ = s.ask(ctx, func(ctx context.Context) error {
		_, _, err := s.store.Put(ctx, s.seal.codeKey(session), "", sealed, keep, true)
		return err
	})
}

func (s *shared) codeTyped(ctx context.Context, session string) (typed time.Time, ok bool) {
	_ = s.ask(ctx, func(ctx context.Context) error {
		sealed, _, err := s.store.Load(ctx, s.seal.codeKey(session))
		if err != nil || sealed == nil {
			return err
		}
		plain, err := s.seal.openBytes(session, sealed)
		if err != nil {
			return err
		}
		at, err := strconv.ParseInt(string(plain), 10, 64)
		typed, ok = time.UnixMilli(at), err == nil
		return err
	})
	return typed, ok
}
