package descoperedis_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/internal/redistest"
	"github.com/descopehttp/descopehttp/stores/descoperedis"
)

// These tests run the real kit as three replicas over one real Redis. Descope is
// in memory.

// replicas are servers with one project and one Redis. They share nothing else:
// each has a client of its own, as each process has.
type replicas struct {
	srv     *descopetest.Server
	redis   *redistest.Server
	all     []*replica
	session string // of ada, expired
	refresh string // of ada, in force
}

type replica struct {
	*kittest.Kit
	app http.Handler       // behind RequireSession; answers with the session's token
	log *kittest.LogBuffer // of what an operator would read
}

// newReplicas starts three replicas. The edits change the project before anybody
// signs in; transport, if not nil, is put before it.
func newReplicas(t *testing.T, transport func(http.RoundTripper) http.RoundTripper, edits ...func(*descopetest.Settings)) *replicas {
	t.Helper()
	f := &replicas{srv: descopetest.NewServer(), redis: redistest.Start(t)}
	for _, edit := range edits {
		f.srv.Configure(edit)
	}
	f.srv.AddUser(descopetest.User{LoginID: kittest.Ada})
	f.session, f.refresh = kittest.Expired(f.srv, kittest.Ada, "DS"), f.srv.SignIn(kittest.Ada).Refresh

	client := f.srv.Client()
	if transport != nil {
		client.Transport = transport(client.Transport)
	}
	for range 3 {
		f.all = append(f.all, f.newReplica(t, client, patientStore{f.newStore(t)}))
	}
	return f
}

// newStore returns a store with a client of its own.
func (f *replicas) newStore(t *testing.T) *descoperedis.RefreshStore {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: f.redis.Addr, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	return descoperedis.NewRefreshStore(client, "")
}

// A patientStore does not give up when the kit would: on a busy machine a Redis
// that is well may take longer than the kit allows, and what is to be tested is
// what happens when it does not.
type patientStore struct{ descopehttp.RefreshStore }

func patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

func (s patientStore) Load(ctx context.Context, key string) (value, end []byte, err error) {
	ctx, cancel := patiently(ctx)
	defer cancel()
	return s.RefreshStore.Load(ctx, key)
}

func (s patientStore) Claim(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error) {
	ctx, cancel := patiently(ctx)
	defer cancel()
	return s.RefreshStore.Claim(ctx, key, owner, lease)
}

func (s patientStore) Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte, err error) {
	ctx, cancel := patiently(ctx)
	defer cancel()
	return s.RefreshStore.Put(ctx, key, owner, value, ttl, over)
}

func (s patientStore) End(ctx context.Context, key string, end []byte, ttl time.Duration) (value []byte, err error) {
	ctx, cancel := patiently(ctx)
	defer cancel()
	return s.RefreshStore.End(ctx, key, end, ttl)
}

func (s patientStore) Release(ctx context.Context, key, owner string) error {
	ctx, cancel := patiently(ctx)
	defer cancel()
	return s.RefreshStore.Release(ctx, key, owner)
}

// newReplica returns one more replica, which holds the keys already.
func (f *replicas) newReplica(t *testing.T, client *http.Client, store descopehttp.RefreshStore) *replica {
	t.Helper()
	r := &replica{log: new(kittest.LogBuffer)}
	r.Kit = kittest.For(t, f.srv, func(c *descopehttp.Config) {
		c.HTTPClient, c.Leeway, c.RefreshStore = client, -1, store
		c.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	})
	r.app = r.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s, _ := descopehttp.SessionFromContext(req.Context())
		_, _ = io.WriteString(w, s.Token())
	}))
	require.NoError(t, r.Ready(t.Context()))
	t.Cleanup(func() { _ = r.Wait(context.Background()) })
	return r
}

// rotation switches the rotation of refresh tokens.
func rotation(on bool) func(*descopetest.Settings) {
	return func(s *descopetest.Settings) { s.RotateRefresh = on }
}

// An answer is what a browser gets.
type answer struct {
	status  int
	body    string
	session string // the new cookie, if any
	refresh string // likewise
	deletes bool   // a cookie is deleted
	header  http.Header
}

// get asks a replica for a page, with the cookies of before everything.
func (f *replicas) get(r *replica) answer { return f.getWith(r, f.session, f.refresh) }

func (f *replicas) getWith(r *replica, session, refresh string) answer {
	return ask(r.app, kittest.Get("/app/"), session, refresh)
}

// post calls a flow, with the same cookies.
func (f *replicas) post(r *replica, path, body string) answer {
	return ask(r.Handler(), kittest.Post(path, body), f.session, f.refresh)
}

func ask(h http.Handler, req *http.Request, session, refresh string) answer {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, kittest.WithCookies(req, session, refresh))
	a := answer{status: w.Code, body: w.Body.String(), header: w.Header()}
	for _, c := range w.Result().Cookies() {
		switch {
		case c.MaxAge < 0:
			a.deletes = true
		case c.Name == kittest.SessionCookie:
			a.session = c.Value
		case c.Name == kittest.RefreshCookie:
			a.refresh = c.Value
		}
	}
	return a
}

// A stampede is many requests of one browser at once, spread over the replicas.
type stampede struct {
	answers  []answer
	answered atomic.Int32
	done     chan struct{}
}

func (f *replicas) stampede(n int) *stampede {
	s := &stampede{answers: make([]answer, n), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		atOnce(n, func(i int) {
			s.answers[i] = f.get(f.all[i%len(f.all)])
			s.answered.Add(1)
		})
	}()
	return s
}

// wait returns all answers. It waits longer than any request may take.
func (s *stampede) wait(t *testing.T) []answer {
	t.Helper()
	await(t, s.done, "the end of all requests")
	return s.answers
}

func await(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatal("waited in vain for " + what)
	}
}

// requireSame checks that all answers are good and set the same cookies.
func requireSame(t *testing.T, answers []answer, rotates bool) answer {
	t.Helper()
	first := answers[0]
	require.NotEmpty(t, first.session)
	require.Equal(t, rotates, first.refresh != "")
	for _, a := range answers {
		require.Equal(t, http.StatusOK, a.status, a.body)
		require.True(t, a.session == first.session && a.refresh == first.refresh, "cookies differ")
		require.True(t, a.body == first.session, "the handler sees another session")
		require.False(t, a.deletes)
	}
	return first
}

func bothRotations(t *testing.T, test func(t *testing.T, rotates bool)) {
	for name, rotates := range map[string]bool{"rotation on": true, "rotation off": false} {
		t.Run(name, func(t *testing.T) { test(t, rotates) })
	}
}

// Rule: renewing: against parallel requests that spend a rotating refresh token twice, which
// signs the losers out: one call for each token at a time, for whoever waits, on one replica or
// on all that share a `RefreshStore`.
func TestStampedeOverReplicasRefreshesOnce(t *testing.T) {
	bothRotations(t, func(t *testing.T, rotates bool) {
		f := newReplicas(t, nil, rotation(rotates))
		f.srv.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})

		now := requireSame(t, f.stampede(200).wait(t), rotates)
		require.Equal(t, 1, f.srv.Requests(kittest.RefreshPath))
		require.Equal(t, !rotates, f.srv.Honours(f.refresh))
		if rotates {
			require.True(t, f.srv.Honours(now.refresh))
		}

		t.Log("what came of it is good on every replica, and costs nothing")
		for _, r := range f.all {
			a := f.getWith(r, now.session, f.refresh)
			require.Equal(t, http.StatusOK, a.status)
			require.Empty(t, a.session)
			require.Empty(t, r.log.String(), "there is nothing to say about it")
		}
		require.Equal(t, 1, f.srv.Requests(kittest.RefreshPath))
	})
}

// A request that was under way while another spent its token arrives where nothing
// is known of it.
func TestLateRequestOnAnotherReplica(t *testing.T) {
	bothRotations(t, func(t *testing.T, rotates bool) {
		f := newReplicas(t, nil, rotation(rotates))
		first := f.get(f.all[0])
		require.Equal(t, http.StatusOK, first.status)

		answers := []answer{first}
		for _, r := range f.all[1:] {
			answers = append(answers, f.get(r))
		}
		requireSame(t, answers, rotates)
		require.Equal(t, 1, f.srv.Requests(kittest.RefreshPath))
	})
}

// Flows join in: a client that asks for a refresh with a token that another replica
// has spent gets what became of it.
func TestLateRefreshFlowOnAnotherReplica(t *testing.T) {
	f := newReplicas(t, nil, rotation(true))
	first := f.get(f.all[0])
	require.Equal(t, http.StatusOK, first.status)
	late := f.post(f.all[1], kittest.RefreshPath, "{}")
	require.Equal(t, http.StatusOK, late.status, late.body)
	require.True(t, late.session == first.session && late.refresh == first.refresh, "cookies differ")
	require.Equal(t, 1, f.srv.Requests(kittest.RefreshPath))
}

// noStore is a store that must not be asked.
type noStore struct {
	descopehttp.RefreshStore
	t *testing.T
}

func (s noStore) Claim(context.Context, string, string, time.Duration) (value, end []byte, claimed bool, err error) {
	assert.Fail(s.t, "the store was asked")
	return nil, nil, false, errors.New("no store")
}

// A session that is valid costs no call to Redis.
func TestValidSessionAsksNoStore(t *testing.T) {
	f := newReplicas(t, nil)
	r := f.newReplica(t, f.srv.Client(), noStore{t: t})
	tokens := f.srv.SignIn(kittest.Ada)
	a := f.getWith(r, tokens.Session, tokens.Refresh)
	require.Equal(t, http.StatusOK, a.status)
	require.Empty(t, a.session)
}

// A heldTransport carries calls out at once, so that tokens are spent, and keeps
// the first answer of one path until it is told to let go.
type heldTransport struct {
	next    http.RoundTripper
	path    string
	once    sync.Once
	spent   chan struct{} // closed when Descope has carried the first one out
	letGo   chan struct{}
	refresh string // the refresh token in that answer; to be read after spent
}

func newHeldTransport(path string) *heldTransport {
	return &heldTransport{path: path, spent: make(chan struct{}), letGo: make(chan struct{})}
}

func (h *heldTransport) over(next http.RoundTripper) http.RoundTripper {
	h.next = next
	return h
}

func (h *heldTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := h.next.RoundTrip(req)
	if err != nil || req.URL.Path != h.path {
		return res, err
	}
	first := false
	h.once.Do(func() { first = true })
	if !first {
		return res, nil
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	var tokens struct{ RefreshJwt string }
	if err := json.Unmarshal(body, &tokens); err != nil {
		return nil, err
	}
	h.refresh = tokens.RefreshJwt
	close(h.spent)
	select {
	case <-h.letGo:
		return res, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// Rule: renewing: against a refresh under way that brings back a session that was logged out: a
// logout is remembered under its token, waits for the refresh under way and revokes what that
// brought, here and on other replicas.
func TestLogoutWinsOverARefreshOnAnotherReplica(t *testing.T) {
	bothRotations(t, func(t *testing.T, rotates bool) {
		held := newHeldTransport(kittest.RefreshPath)
		f := newReplicas(t, held.over, rotation(rotates))
		a, b, c := f.all[0], f.all[1], f.all[2]

		flight := make(chan answer, 1)
		go func() { flight <- f.get(b) }()
		await(t, held.spent, "the refresh of replica B")
		require.Equal(t, rotates, held.refresh != "" && f.srv.Honours(held.refresh))
		waiting := make(chan answer, 1)
		go func() { waiting <- f.get(c) }()

		out := f.post(a, kittest.LogoutPath, "{}")
		require.Equal(t, http.StatusOK, out.status, out.body)
		require.True(t, out.deletes)
		close(held.letGo)

		refused := func(name string, got answer) {
			require.Equal(t, http.StatusUnauthorized, got.status, "%s: %s", name, got.body)
			require.Empty(t, got.session, name)
			require.Empty(t, got.refresh, name)
		}
		refused("the flight", receive(t, flight))
		refused("who waited for it", receive(t, waiting))
		for _, r := range f.all {
			refused("who comes later", f.get(r))
		}
		require.False(t, f.srv.Honours(f.refresh))
		if rotates {
			require.False(t, f.srv.Honours(held.refresh), "what the flight brought is revoked")
		}
	})
}

func receive(t *testing.T, answers <-chan answer) answer {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(patience):
		t.Fatal("a request hangs")
		return answer{}
	}
}

// Redis goes while one replica refreshes and the others wait for it, and comes
// back empty before the refresh has ended.
//
// Rule: renewing: against a store that is away, slow, restarted empty or unreadable: each
// replica goes on with its own memory, and no refusal is final meanwhile.
func TestRedisIsKilledInAStampede(t *testing.T) {
	bothRotations(t, func(t *testing.T, rotates bool) {
		held := newHeldTransport(kittest.RefreshPath)
		f := newReplicas(t, held.over, rotation(rotates))
		run := f.stampede(200)
		await(t, held.spent, "the first refresh")

		f.redis.Kill()
		eventually(t, "the two other replicas go on alone", func() bool { return run.answered.Load() >= 200-67 })
		require.True(t, f.redis.Restart(), "redis-server does not start again")
		close(held.letGo)

		good := 0
		for _, a := range run.wait(t) {
			require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, a.status, "nobody is signed out: %s", a.body)
			require.False(t, a.deletes)
			if a.status == http.StatusOK {
				good++
				require.NotEmpty(t, a.session)
				continue
			}
			require.NotEmpty(t, a.header.Get("Retry-After"))
			require.Empty(t, a.session)
			require.Empty(t, a.refresh)
		}
		require.Positive(t, good, "the replica that refreshed serves its requests")
		if !rotates {
			require.Equal(t, 200, good, "without rotation the others refresh as well")
		}

		said := 0
		for _, r := range f.all {
			if strings.Contains(r.log.String(), "refresh store is not available") {
				said++
			}
		}
		require.GreaterOrEqual(t, said, 2, "who meets the outage says so in the log")

		t.Log("the old cookies are refused nowhere")
		for _, r := range f.all {
			a := f.get(r)
			require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, a.status, a.body)
		}
		if rotates {
			require.True(t, f.srv.Honours(held.refresh))
		}
	})
}

// Without Redis each replica is a server of its own.
//
// Rule: renewing: against a store that is away, slow, restarted empty or unreadable: each
// replica goes on with its own memory, and no refusal is final meanwhile.
func TestRedisIsAway(t *testing.T) {
	away := map[string]func(*testing.T, *redistest.Server){
		"gone": func(_ *testing.T, s *redistest.Server) { s.Kill() },
		"hanging": func(t *testing.T, s *redistest.Server) {
			require.NoError(t, clientOf(t, s.Addr).Do(t.Context(), "CLIENT", "PAUSE", "60000", "ALL").Err())
		},
	}
	for name, leave := range away {
		t.Run(name, func(t *testing.T) {
			bothRotations(t, func(t *testing.T, rotates bool) {
				f := newReplicas(t, nil, rotation(rotates))
				a, b := f.newReplica(t, f.srv.Client(), f.newStore(t)), f.newReplica(t, f.srv.Client(), f.newStore(t))
				leave(t, f.redis)

				requireSame(t, []answer{f.get(a), f.get(a), f.get(a)}, rotates)
				require.Equal(t, 1, f.srv.Requests(kittest.RefreshPath))
				require.Contains(t, a.log.String(), "refresh store is not available")

				other := f.get(b)
				require.False(t, other.deletes)
				if rotates {
					require.Equal(t, http.StatusServiceUnavailable, other.status, "it cannot tell, and does not sign out")
				} else {
					require.Equal(t, http.StatusOK, other.status)
				}
			})
		})
	}
}

// Redis is no place for tokens: whoever reads all of it learns none.
func TestRedisHoldsNoToken(t *testing.T) {
	held := newHeldTransport(kittest.RefreshPath)
	f := newReplicas(t, held.over, rotation(true))
	admin := clientOf(t, f.redis.Addr)

	run := f.stampede(20)
	await(t, held.spent, "the refresh")
	during := dump(t, admin)
	require.Contains(t, during, "descopehttp:refresh:", "there is a lease")
	close(held.letGo)
	now := requireSame(t, run.wait(t), true)
	after := dump(t, admin)
	require.Contains(t, after, "descopehttp:refresh:", "there is a value")
	f.post(f.all[1], kittest.LogoutPath, "{}")
	ended := dump(t, admin)

	secrets := map[string]string{"login id": kittest.Ada, "user": subject(t, f.srv)}
	for name, token := range map[string]string{
		"old session": f.session, "old refresh token": f.refresh,
		"new session": now.session, "new refresh token": now.refresh,
	} {
		parts := strings.Split(token, ".")
		for i, part := range parts[1:] { // the header is the same for all, and of no use
			name := fmt.Sprintf("part %d of the %s", i+1, name)
			raw, err := base64.RawURLEncoding.DecodeString(part)
			require.NoError(t, err)
			secrets[name] = part
			secrets[name+", decoded"] = string(raw)
		}
	}
	for name, secret := range secrets {
		for form, text := range formsOf(secret) {
			for when, content := range map[string]string{"during": during, "after": after, "ended": ended} {
				require.False(t, strings.Contains(content, text), "%s, %s, %s", when, name, form)
			}
		}
	}
}

// dump returns all that a Redis holds, as it is and as Redis would write it to a
// file.
func dump(t *testing.T, client *redis.Client) string {
	t.Helper()
	var all strings.Builder
	keys := client.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		value, err := client.Get(t.Context(), keys.Val()).Result()
		require.NoError(t, err)
		file, err := client.Dump(t.Context(), keys.Val()).Result()
		require.NoError(t, err)
		left, err := client.PTTL(t.Context(), keys.Val()).Result()
		require.NoError(t, err)
		assert.Positive(t, left, "everything ends by itself")
		assert.LessOrEqual(t, left, 30*24*time.Hour)
		all.WriteString(keys.Val() + "\n" + value + "\n" + file + "\n")
	}
	require.NoError(t, keys.Err())
	return all.String()
}

// formsOf returns what a secret would look like, wherever in an encoded text it
// begins.
func formsOf(secret string) map[string]string {
	hexed := hex.EncodeToString([]byte(secret))
	forms := map[string]string{"raw": secret, "hex": hexed, "HEX": strings.ToUpper(hexed)}
	for i := range 3 {
		// The groups of three bytes that lie wholly in the secret.
		whole := secret[i:]
		whole = whole[:len(whole)/3*3]
		name := string(rune('0' + i))
		forms["base64 at "+name] = base64.StdEncoding.EncodeToString([]byte(whole))
		forms["base64url at "+name] = base64.URLEncoding.EncodeToString([]byte(whole))
	}
	return forms
}

func subject(t *testing.T, srv *descopetest.Server) string {
	t.Helper()
	sub, ok := srv.SessionClaims(kittest.Ada)["sub"].(string)
	require.True(t, ok)
	return sub
}
