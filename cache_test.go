package descopehttp_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// Each rule of the cache has a test here that fails without it. A token is
// known to be cached because it was found, see isHit, and not because it should
// be: a test of a rule for hits proves nothing on a miss.

// isHit presents a token twice and reports whether the second time it was found:
// what was verified is then the same in memory. Holding on to the first Session
// keeps its address from being used again.
func isHit(t testing.TB, k *kit, token string) bool {
	t.Helper()
	first, err := k.VerifyToken(t.Context(), token)
	require.NoError(t, err)
	second, err := k.VerifyToken(t.Context(), token)
	require.NoError(t, err)
	return sharesMemory(first, second)
}

func sharesMemory(a, b *descopehttp.Session) bool {
	shared := func(s *descopehttp.Session) uintptr { return reflect.ValueOf(s).Elem().FieldByName("shared").Pointer() }
	same := shared(a) == shared(b)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	return same
}

func TestValidSessionIsCheckedInFullOnce(t *testing.T) {
	for size, want := range map[int]bool{0: true, 1: true, -1: false} {
		k := newKit(t, func(c *descopehttp.Config) { c.MaxCachedSessions = size })
		assert.Equal(t, want, isHit(t, k, k.srv.SignIn(ada).Session), "MaxCachedSessions %d", size)
	}
}

// ways are requests with one token, in every way the middleware takes it.
func ways(token, refresh string) map[string]*http.Request {
	requests := map[string]*http.Request{
		"bearer": withBearer(get("/"), token),
		"cookie": withCookies(get("/"), token, ""),
	}
	if refresh != "" {
		requests["cookies"] = withCookies(get("/"), token, refresh)
	}
	return requests
}

// exp is judged on every hit.
func TestCachedSessionExpires(t *testing.T) {
	for _, leeway := range []time.Duration{-1, 0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t, func(c *descopehttp.Config) { c.Leeway = leeway })
			token := k.srv.SignIn(ada).Session
			next := new(spy)
			h := k.RequireSession(next)
			require.True(t, isHit(t, k, token))

			last := 10*time.Minute - time.Second + map[time.Duration]time.Duration{-1: 0, 0: 5 * time.Second, time.Minute: time.Minute}[leeway]
			elapse(last)
			for way, r := range ways(token, "") {
				assert.Equal(t, http.StatusOK, serve(h, r).StatusCode, "%s, leeway %v", way, leeway)
			}
			require.True(t, isHit(t, k, token))
			elapse(time.Second)
			calls := next.calls
			for way, r := range ways(token, "") {
				requireProblem(t, serve(h, r), http.StatusUnauthorized, "session_expired")
				assert.Equal(t, calls, next.calls, way)
			}
			_, err := k.VerifyToken(t.Context(), token)
			assert.ErrorIs(t, err, descopehttp.ErrSessionExpired)
		})
	}
}

// A session that is found is renewed ahead of its end like any other.
func TestCachedSessionIsRenewedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		b := signIn(k, ada)
		h := k.RequireSession(new(spy))
		first := b.session
		for range 3 {
			require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		}
		require.Equal(t, first, b.session)
		elapse(10*time.Minute - 10*time.Second)
		require.Equal(t, http.StatusOK, b.do(h, get("/")).StatusCode)
		assert.NotEqual(t, first, b.session)
		assert.Equal(t, 1, k.srv.Requests(refreshPath))
	})
}

// cacheThenFetch caches a session, changes the key set and has it fetched on
// behalf of the token that change returns.
func cacheThenFetch(t *testing.T, change func(h *hostile) string) (h *hostile, cached string) {
	t.Helper()
	h = newHostile(t)
	h.srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = 24 * time.Hour })
	cached = h.with(nil)
	require.True(t, isHit(t, h.kit, cached))
	needsFetch := change(h)
	elapse(5 * time.Second)
	_, err := h.VerifyToken(t.Context(), needsFetch)
	require.NoError(t, err)
	require.Equal(t, 2, h.srv.Requests(keysPath))
	elapse(5 * time.Second) // the floor, after which a key that is gone is "unknown"
	return h, cached
}

func requireRefused(t *testing.T, h *hostile, token string) {
	t.Helper()
	for way, err := range h.verdicts(token) {
		assert.Error(t, err, way)
		if way == "VerifyToken" {
			assert.ErrorIs(t, err, descopehttp.ErrInvalidToken)
		} else {
			assert.EqualError(t, err, "status 401", way)
		}
	}
}

// Rotation with revoke: the key is gone with the fetch that shows it, and what it
// signed with it.
func TestCachedSessionEndsWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cached := cacheThenFetch(t, func(h *hostile) string {
			h.srv.RevokeKeys()
			return h.srv.SignIn(ada).Session
		})
		requireRefused(t, h, cached)
	})
}

// Another key under the same kid is another key.
func TestCachedSessionEndsWhenItsKidGetsAnotherKey(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, ec := testKeys()
	for name, key := range map[string]crypto.Signer{"RSA": other, "EC": ec} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, cached := cacheThenFetch(t, func(h *hostile) string {
					h.srv.RevokeKeys()
					token := h.srv.SignIn(ada).Session
					h.srv.AddKey(rsaKid, key)
					return token
				})
				requireRefused(t, h, cached)
			})
		})
	}
}

// A fetch that brings the same key again drops nothing.
func TestCachedSessionSurvivesAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var before *descopehttp.Session
		h, cached := cacheThenFetch(t, func(h *hostile) string {
			var err error
			before, err = h.VerifyToken(t.Context(), h.with(nil))
			require.NoError(t, err)
			h.srv.RotateKeys()
			return h.srv.SignIn(ada).Session
		})
		after, err := h.VerifyToken(t.Context(), cached)
		require.NoError(t, err)
		assert.True(t, sharesMemory(before, after))
	})
}

// Keys that could not be fetched for a day are not trusted, cached sessions or
// not: nobody would have seen a revocation.
func TestCachedSessionNeedsKeysThatAreNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = 72 * time.Hour })
		token := k.srv.SignIn(ada).Session
		require.True(t, isHit(t, k, token))
		k.srv.Fail(keysPath, descopetest.Fault{Status: 500, Times: -1})
		h := k.RequireSession(new(spy))
		elapse(24 * time.Hour)
		require.True(t, isHit(t, k, token))
		elapse(time.Second)
		for _, r := range ways(token, "") {
			requireProblem(t, serve(h, r), http.StatusServiceUnavailable, "unavailable")
		}
	})
}

// Where every request is a hit, hits alone have to see a revocation: they start
// the fetch of keys that are an hour old.
func TestHitsKeepTheKeysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.srv.Configure(func(s *descopetest.Settings) { s.SessionTTL = 72 * time.Hour })
		token := k.srv.SignIn(ada).Session
		require.True(t, isHit(t, k, token))
		k.srv.RevokeKeys()
		h := k.RequireSession(new(spy))
		elapse(time.Hour)
		require.Equal(t, http.StatusOK, serve(h, withBearer(get("/"), token)).StatusCode)
		require.Equal(t, 1, k.srv.Requests(keysPath))
		elapse(time.Second)
		require.Equal(t, http.StatusOK, serve(h, withBearer(get("/"), token)).StatusCode, "the fetch is not in its way")
		require.NoError(t, k.Wait(t.Context()))
		require.Equal(t, 2, k.srv.Requests(keysPath))
		elapse(5 * time.Second)
		requireProblem(t, serve(h, withBearer(get("/"), token)), http.StatusUnauthorized, "invalid_token")
	})
}

// The entry stands for the whole token. What differs in a byte is another token,
// and what was refused is not in the cache the next time.
func TestOnlyVerifiedTokensAreCached(t *testing.T) {
	h := newHostile(t)
	good := h.with(nil)
	require.True(t, isHit(t, h.kit, good))
	parts := strings.Split(good, ".")
	forged := []byte(good)
	forged[len(good)-100] ^= 1 // another letter of the alphabet, or none
	for name, token := range map[string]string{
		"another signature":     string(forged),
		"signature of another":  parts[0] + "." + parts[1] + "." + strings.Split(h.with(map[string]any{"x": 1}), ".")[2],
		"another payload":       parts[0] + "." + strings.Split(h.with(map[string]any{"x": 1}), ".")[1] + "." + parts[2],
		"without its signature": parts[0] + "." + parts[1] + ".",
		"another spelling":      otherSpelling(good),
		"cut":                   good[:len(good)-1],
		"longer":                good + "A",
		"over 4 KiB":            good + strings.Repeat("A", 4096),
		"of no user":            h.with(map[string]any{"sub": nil}),
		"of another project":    h.with(map[string]any{"iss": "P2othertherprojectabcdefghij"}),
		"bound to a key":        h.with(map[string]any{"cnf": map[string]any{"jkt": "x"}}),
		"refresh token":         h.srv.SignIn(ada).Refresh,
	} {
		for range 3 {
			for way, err := range h.verdicts(token) {
				assert.Error(t, err, "%s, %s", name, way)
			}
		}
		assert.True(t, isHit(t, h.kit, good), name)
	}

	refresh := h.srv.SignIn(ada).Refresh
	for range 3 {
		serve(h.RequireSession(new(spy)), withCookies(get("/"), good, refresh))
		for way, err := range h.verdicts(refresh) {
			assert.Error(t, err, "refresh token beside a session, %s", way)
		}
	}
}

// What judges a request, and not a token, judges it on a hit as well.
func TestPoliciesApplyOnHits(t *testing.T) {
	k := newKit(t)
	k.srv.AddUser(descopetest.User{LoginID: "bob@example.com"})
	adas, bobs := k.srv.SignIn(ada), k.srv.SignIn("bob@example.com")
	session := adas.Session

	crossOrigin := func(r *http.Request) *http.Request {
		r.Method = http.MethodPost
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		return r
	}
	upgrade := func(r *http.Request) *http.Request {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Upgrade", "websocket")
		return r
	}
	twice := func(r *http.Request) *http.Request {
		r.Header.Add("Authorization", "Bearer "+session)
		return r
	}
	both := withCookies(get("/"), session, adas.Refresh)
	both.Header.Set("Cookie", both.Header.Get("Cookie")+"; "+sessionCookie+"="+bobs.Session)
	plantedRefresh := withCookies(get("/"), session, adas.Refresh)
	plantedRefresh.Header.Set("Cookie", plantedRefresh.Header.Get("Cookie")+"; "+refreshCookie+"="+bobs.Refresh)

	role := func(name string) http.Handler { return k.Require(descopehttp.Role(name))(new(spy)) }
	anybody := k.RequireSession(new(spy))
	for _, tt := range []struct {
		name   string
		h      http.Handler
		r      *http.Request
		status int
		code   string
	}{
		{"from another site", anybody, crossOrigin(withCookies(get("/"), session, "")), 403, "cross_origin"},
		{"from another site, both cookies", anybody, crossOrigin(withCookies(get("/"), session, adas.Refresh)), 403, "cross_origin"},
		{"WebSocket from another site", anybody, upgrade(withCookies(get("/"), session, "")), 403, "cross_origin"},
		{"role not held, bearer", role("owner"), withBearer(get("/"), session), 403, "missing_role"},
		{"role not held, cookies", role("owner"), withCookies(get("/"), session, adas.Refresh), 403, "missing_role"},
		{"no step-up", k.Require(descopehttp.StepUp())(new(spy)), withBearer(get("/"), session), 401, "step_up_required"},
		{"refresh cookie of another user", anybody, withCookies(get("/"), session, bobs.Refresh), 401, "conflicting_cookies"},
		{"second refresh cookie, of another user", anybody, plantedRefresh, 401, "conflicting_cookies"},
		{"second session cookie, of another user", anybody, both, 401, "conflicting_cookies"},
		{"two Authorization headers", anybody, twice(withBearer(get("/"), session)), 401, "invalid_token"},
	} {
		// Both users are cached, and the pairs of cookies that belong together.
		for _, tokens := range []descopetest.Tokens{adas, bobs} {
			for way, r := range ways(tokens.Session, tokens.Refresh) {
				require.Equal(t, http.StatusOK, serve(anybody, r).StatusCode, way)
			}
			require.True(t, isHit(t, k, tokens.Session))
		}
		require.Equal(t, http.StatusOK, serve(role("admin"), withBearer(get("/"), session)).StatusCode)
		for range 2 {
			requireProblem(t, serve(tt.h, tt.r.Clone(t.Context())), tt.status, tt.code)
		}
	}
}

// Two Auths over one project may differ in their rules: nothing that one has
// verified counts for the other.
func TestCachesAreNotShared(t *testing.T) {
	h := newHostile(t)
	strict := kitFor(t, h.srv, func(c *descopehttp.Config) { c.Audience = "shop" })
	token := h.with(nil)
	require.True(t, isHit(t, h.kit, token))
	_, err := strict.VerifyToken(t.Context(), token)
	assert.ErrorIs(t, err, descopehttp.ErrInvalidToken)
}

// manySessions returns different session tokens of the usual claims. They are
// signed with ES256, which takes a twentieth of the time.
func manySessions(h *hostile, n int) []string {
	_, ec := testKeys()
	payload := claimsJSON(h.t, h.claims(map[string]any{
		"sub":         "U2 of nobody",
		"tenants":     map[string]any{"T2abcdefghijklmnopqrstuvwxyz": map[string]any{"roles": []string{"owner"}, "permissions": []string{"pay", "read"}}},
		"permissions": []string{"read", "write", "share"},
		"email":       "ada@example.com", "name": "Ada Lovelace",
		"exp": time.Now().Add(time.Hour).Unix(),
	}))
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = signRaw(h.t, ec, `{"alg":"ES256","kid":"`+ecKid+`"}`, strings.Replace(payload, "U2 of nobody", fmt.Sprintf("U2%025d", i), 1))
	}
	return tokens
}

// However many sessions come, no more are kept than Config says, and those that
// are in use stay.
func TestCacheIsBounded(t *testing.T) {
	const bound = 100
	h := newHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = bound })
	tokens := manySessions(h, 10*bound)
	// hits presents tokens again. A miss puts its token in again, and has had its
	// turn then: no more hits are counted than sessions were there at first.
	firsts := make([]*descopehttp.Session, len(tokens))
	hits := func(tokens []string) (n int) {
		for i, token := range tokens {
			s, err := h.VerifyToken(t.Context(), token)
			require.NoError(t, err)
			if firsts[i] != nil && sharesMemory(firsts[i], s) {
				n++
			}
			firsts[i] = s
		}
		return n
	}
	require.Zero(t, hits(tokens))
	assert.LessOrEqual(t, hits(tokens), bound)
	inUse := tokens[:bound/2]
	for range 10 {
		hits(inUse)
	}
	assert.GreaterOrEqual(t, hits(inUse), len(inUse)*8/10, "admission is by chance in part")
}

// Nothing runs on behalf of the cache once the requests are over: the bubble
// would not end, and the goroutines are counted besides.
func TestCacheLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		h := newHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = 10 })
		next := h.RequireSession(new(spy))
		var wg sync.WaitGroup
		for _, token := range manySessions(h, 200) {
			wg.Go(func() {
				assert.Equal(t, http.StatusOK, serve(next, withBearer(get("/"), token)).StatusCode)
				assert.Equal(t, http.StatusOK, serve(next, withCookies(get("/"), token, "")).StatusCode)
			})
		}
		wg.Wait()
		synctest.Wait()
		assert.LessOrEqual(t, runtime.NumGoroutine(), before) // others' may have ended
		elapse(2 * time.Hour)
		synctest.Wait()
		assert.LessOrEqual(t, runtime.NumGoroutine(), before) // others' may have ended
	})
}

// Keys come and go while sessions are looked up, put in and pushed out. It is
// for the race detector, and at the end no session of a revoked key is left.
func TestCacheUnderRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = 32 })
		tokens := manySessions(h, 64)
		next := h.RequireSession(new(spy))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 64 {
					elapse(time.Duration(i+1) * 10 * time.Millisecond)
					token := tokens[(i*7+j)%len(tokens)]
					for _, r := range ways(token, "") {
						assert.Contains(t, []int{200, 401, 503}, serve(next, r).StatusCode)
					}
				}
			})
		}
		wg.Go(func() {
			elapse(2 * time.Second)
			h.srv.RevokeKeys()
			elapse(4 * time.Second)
			_, err := h.VerifyToken(t.Context(), h.srv.SignIn(ada).Session)
			assert.NoError(t, err)
		})
		wg.Wait()
		elapse(10 * time.Second)
		for _, token := range tokens {
			requireProblem(t, serve(next, withBearer(get("/"), token)), http.StatusUnauthorized, "invalid_token")
		}
	})
}

// What is kept of a session is no credential: no part of the token's signature
// is left in the memory of the process once its request is over.
func TestCacheKeepsNoToken(t *testing.T) {
	h := newHostile(t)
	next := nothingKept{}
	handler := h.RequireSession(next)
	// What is looked for must not be found in this test's own memory, so it is
	// turned around in there.
	var needles [][]byte
	look := func(b []byte) {
		b = bytes.Clone(b)
		slices.Reverse(b)
		needles = append(needles, b)
	}
	done := make(chan struct{})
	go func() { // on a stack that is gone afterwards
		defer close(done)
		for way, token := range map[string]string{"bearer": h.with(nil), "cookie": h.with(map[string]any{"x": 1}), "both": h.with(map[string]any{"x": 2})} {
			signature := token[strings.LastIndexByte(token, '.')+1:]
			look([]byte(signature[100:140]))
			raw, _ := base64.RawURLEncoding.DecodeString(signature)
			look(raw[100:130])
			for range 3 {
				r := withBearer(get("/"), token)
				switch way {
				case "cookie":
					r = withCookies(get("/"), token, "")
				case "both":
					r = withCookies(get("/"), token, h.srv.SignIn(ada).Refresh)
				}
				if res := serve(handler, r); res.StatusCode != http.StatusOK {
					t.Errorf("%s: status %d", way, res.StatusCode)
				}
			}
			for _, r := range ways(token, "") {
				serve(handler, r)
			}
		}
	}()
	<-done
	control := []byte(fmt.Sprintf("kept on purpose %d", os.Getpid()))

	heap := memory(t)
	assert.True(t, bytes.Contains(heap, control), "the dump shows what is kept")
	require.Len(t, needles, 6)
	for i, needle := range needles {
		slices.Reverse(needle)
		assert.False(t, bytes.Contains(heap, needle), "part %d of a token is still in memory", i)
	}
	runtime.KeepAlive(control)
	runtime.KeepAlive(h)
}

// nothingKept is a handler that keeps no request.
type nothingKept struct{}

func (nothingKept) ServeHTTP(http.ResponseWriter, *http.Request) {}

// memory returns all that lives on the heap now.
func memory(t *testing.T) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "heap"))
	require.NoError(t, err)
	defer f.Close()
	for range 3 { // the second empties pools, the third frees what was in them
		runtime.GC()
	}
	debug.WriteHeapDump(f.Fd())
	dump, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	return dump
}
