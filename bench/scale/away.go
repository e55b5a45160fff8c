package scale

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

const refreshPath = "/v1/auth/refresh"

// newProject returns a Descope with so many users.
func newProject(s *Scenario) *descopetest.Server {
	p := descopetest.NewServer()
	p.Configure(func(t *descopetest.Settings) {
		t.Alg = "ES256"
		t.SessionTTL = Session
		t.RotateRefresh = s.Rotation
		t.MaxUsers, t.MaxTokens = s.Users, 3*s.Users+1000
	})
	for i := range s.Users {
		p.AddUser(descopetest.User{
			LoginID:      loginID(i),
			Permissions:  []string{"read", "write"},
			Tenants:      map[string]descopetest.Tenant{"T2abcdefghijklmnopqrstuvwxyz": {Roles: []string{"owner"}, Permissions: []string{"pay"}}},
			CustomClaims: map[string]any{"plan": plan},
		})
	}
	return p
}

// plan makes tokens as long as those that bench measures, whose signatures are longer.
var plan = "team, 25 seats, yearly" + strings.Repeat(".", 280)

func loginID(i int) string { return fmt.Sprintf("user%d@example.com", i) }

// An address is a way to Descope: all who call from it have one grant.
type address struct {
	site *site

	mu     sync.Mutex
	used   int
	fresh  time.Time // when used begins anew
	closed time.Time // nothing is granted until then
}

// RoundTrip implements [http.RoundTripper].
func (a *address) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(latency):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	s := a.site
	isRefresh := r.URL.Path == refreshPath
	if isRefresh {
		s.tally.add(&s.tally.calls, 1)
	}
	if s.Outage.includes(s.now()) {
		return reply(r, http.StatusServiceUnavailable, 0), nil
	}
	if wait := a.take(time.Now()); isRefresh && wait > 0 {
		s.tally.add(&s.tally.tooMany, 1)
		return reply(r, http.StatusTooManyRequests, wait), nil
	}
	res, err := s.project.Client().Transport.RoundTrip(r)
	if isRefresh && err == nil && res.StatusCode == http.StatusOK {
		s.renewals.Add(1)
	}
	return res, err
}

// take takes one call of the grant, or returns how long there is none.
func (a *address) take(now time.Time) time.Duration {
	g := a.site.Grant
	if g.Calls == 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Before(a.closed) {
		return a.closed.Sub(now)
	}
	if !now.Before(a.fresh) {
		a.used, a.fresh = 0, now.Add(g.Per)
	}
	if a.used++; a.used <= g.Calls {
		return 0
	}
	a.closed = a.fresh
	if g.Pause > 0 {
		a.closed, a.fresh = now.Add(g.Pause), now.Add(g.Pause)
	}
	return a.closed.Sub(now)
}

// reply is an answer without tokens: of the edge, or that there were too many calls.
func reply(r *http.Request, status int, wait time.Duration) *http.Response {
	body, header := "", http.Header{}
	if status == http.StatusTooManyRequests {
		body = `{"errorCode":"E130429","errorDescription":"Rate limit exceeded"}`
		header.Set("Content-Type", "application/json")
		header.Set("Retry-After", fmt.Sprint(int((wait+time.Second-1)/time.Second)))
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}
}

// StoreUse is what the replicas have asked of their store.
type StoreUse struct {
	Load, Claim, Put, End, Release int
	In, Out                        int // bytes: keys and values
	Entries, Bytes                 int // held at once at most, without what has expired
}

// Calls returns how many there were.
func (u StoreUse) Calls() int { return u.Load + u.Claim + u.Put + u.End + u.Release }

// A store is a RefreshStore that answers after a while, and counts.
type store struct {
	*kittest.MemoryStore
	tally *tally

	mu  sync.Mutex
	use StoreUse
}

// note counts a call and lets it take its time.
func (s *store) note(calls *int, in, out int) {
	s.mu.Lock()
	*calls++
	s.use.In += in
	s.use.Out += out
	s.mu.Unlock()
	s.tally.add(&s.tally.storeCalls, 1)
	s.tally.add(&s.tally.storeBytes, in+out)
	time.Sleep(storeLag)
}

// Load implements [descopehttp.RefreshStore].
func (s *store) Load(ctx context.Context, key string) (value, end []byte, err error) {
	value, end, err = s.MemoryStore.Load(ctx, key)
	s.note(&s.use.Load, len(key), len(value)+len(end))
	return value, end, err
}

// Claim implements [descopehttp.RefreshStore].
func (s *store) Claim(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error) {
	value, end, claimed, err = s.MemoryStore.Claim(ctx, key, owner, lease)
	s.note(&s.use.Claim, len(key)+len(owner), len(value)+len(end))
	return value, end, claimed, err
}

// Put implements [descopehttp.RefreshStore].
func (s *store) Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte, err error) {
	now, end, err = s.MemoryStore.Put(ctx, key, owner, value, ttl, over)
	s.note(&s.use.Put, len(key)+len(owner)+len(value), len(now)+len(end))
	return now, end, err
}

// End implements [descopehttp.RefreshStore].
func (s *store) End(ctx context.Context, key string, end []byte, ttl time.Duration) (value []byte, err error) {
	value, err = s.MemoryStore.End(ctx, key, end, ttl)
	s.note(&s.use.End, len(key)+len(end), len(value))
	return value, err
}

// Release implements [descopehttp.RefreshStore].
func (s *store) Release(ctx context.Context, key, owner string) error {
	err := s.MemoryStore.Release(ctx, key, owner)
	s.note(&s.use.Release, len(key)+len(owner), 0)
	return err
}

// weigh notes what is held now. No call is under way in it. It drops what is known of
// tokens that were spent long ago; another one may have its lease held just now.
func (s *store) weigh(rotation bool) {
	held, bytes := 0, 0
	for key, e := range s.Entries {
		if !time.Now().Before(e.Until) {
			if rotation && e.Value != nil {
				delete(s.Entries, key)
			}
			continue
		}
		held++
		bytes += len(key) + len(e.Value)
	}
	s.use.Entries, s.use.Bytes = max(s.use.Entries, held), max(s.use.Bytes, bytes)
}

func newStore(t *tally) *store { return &store{MemoryStore: kittest.NewMemoryStore(), tally: t} }
