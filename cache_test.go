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
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Each rule of the cache has a test here that fails without it. A token is
// known to be cached because it was found, see isHit, and not because it should
// be: a test of a rule for hits proves nothing on a miss.

// isHit presents a token twice and reports whether the second time it was found:
// what was verified is then the same in memory. Holding on to the first Session
// keeps its address from being used again.
func isHit(t testing.TB, k *kittest.Kit, token string) bool {
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
		k := kittest.New(t, func(c *descopehttp.Config) { c.MaxCachedSessions = size })
		assert.Equal(t, want, isHit(t, k, k.Project.SignIn(kittest.Ada).Session), "MaxCachedSessions %d", size)
	}
}

// ways are requests with one token, in every way the middleware takes it.
func ways(token, refresh string) map[string]*http.Request {
	requests := map[string]*http.Request{
		"bearer": kittest.WithBearer(kittest.Get("/"), token),
		"cookie": kittest.WithCookies(kittest.Get("/"), token, ""),
	}
	if refresh != "" {
		requests["cookies"] = kittest.WithCookies(kittest.Get("/"), token, refresh)
	}
	return requests
}

// exp is judged on every hit.
//
// Rule: tokens: a remembered session: clock and key are judged again.
func TestCachedSessionExpires(t *testing.T) {
	for _, leeway := range []time.Duration{-1, 0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) { c.Leeway = leeway })
			token := k.Project.SignIn(kittest.Ada).Session
			next := new(kittest.Spy)
			h := k.RequireSession(next)
			require.True(t, isHit(t, k, token))

			last := 10*time.Minute - time.Second + map[time.Duration]time.Duration{-1: 0, 0: 5 * time.Second, time.Minute: time.Minute}[leeway]
			kittest.Elapse(last)
			for way, r := range ways(token, "") {
				assert.Equal(t, http.StatusOK, kittest.Serve(h, r).StatusCode, "%s, leeway %v", way, leeway)
			}
			require.True(t, isHit(t, k, token))
			kittest.Elapse(time.Second)
			calls := next.Calls
			for way, r := range ways(token, "") {
				kittest.RequireProblem(t, kittest.Serve(h, r), http.StatusUnauthorized, "session_expired")
				assert.Equal(t, calls, next.Calls, way)
			}
			_, err := k.VerifyToken(t.Context(), token)
			assert.ErrorIs(t, err, descopehttp.ErrSessionExpired)
		})
	}
}

// A session that is found is renewed ahead of its end like any other.
func TestCachedSessionIsRenewedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		h := k.RequireSession(new(kittest.Spy))
		first := b.Session
		for range 3 {
			require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		}
		require.Equal(t, first, b.Session)
		kittest.Elapse(10*time.Minute - 10*time.Second)
		require.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		assert.NotEqual(t, first, b.Session)
		assert.Equal(t, 1, k.Project.Requests(kittest.RefreshPath))
	})
}

// cacheThenFetch caches a session, changes the key set and has it fetched on
// behalf of the token that change returns.
func cacheThenFetch(t *testing.T, change func(h *kittest.Hostile) string) (h *kittest.Hostile, cached string) {
	t.Helper()
	h = kittest.NewHostile(t)
	h.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 24 * time.Hour })
	cached = h.With(nil)
	require.True(t, isHit(t, h.Kit, cached))
	needsFetch := change(h)
	kittest.Elapse(5 * time.Second)
	_, err := h.VerifyToken(t.Context(), needsFetch)
	require.NoError(t, err)
	require.Equal(t, 2, h.Project.Requests(kittest.KeysPath))
	kittest.Elapse(5 * time.Second) // the floor, after which a key that is gone is "unknown"
	return h, cached
}

func requireRefused(t *testing.T, h *kittest.Hostile, token string) {
	t.Helper()
	for way, err := range h.Verdicts(token) {
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
//
// Rule: keys: against a key that was revoked: trust ends with the fetch that shows it, for
// remembered sessions too; after a day without a fetch nothing is trusted.
// Rule: tokens: a remembered session: clock and key are judged again.
// Rule: keys: a key that left the set is not trusted.
func TestCachedSessionEndsWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cached := cacheThenFetch(t, func(h *kittest.Hostile) string {
			h.Project.RevokeKeys()
			return h.Project.SignIn(kittest.Ada).Session
		})
		requireRefused(t, h, cached)
	})
}

// Another key under the same kid is another key.
//
// Rule: keys: against a key that was revoked: trust ends with the fetch that shows it, for
// remembered sessions too; after a day without a fetch nothing is trusted.
// Rule: keys: a key that left the set is not trusted.
func TestCachedSessionEndsWhenItsKidGetsAnotherKey(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, ec := kittest.Keys()
	for name, key := range map[string]crypto.Signer{"RSA": other, "EC": ec} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, cached := cacheThenFetch(t, func(h *kittest.Hostile) string {
					h.Project.RevokeKeys()
					token := h.Project.SignIn(kittest.Ada).Session
					h.Project.AddKey(kittest.RSAKid, key)
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
		h, cached := cacheThenFetch(t, func(h *kittest.Hostile) string {
			var err error
			before, err = h.VerifyToken(t.Context(), h.With(nil))
			require.NoError(t, err)
			h.Project.RotateKeys()
			return h.Project.SignIn(kittest.Ada).Session
		})
		after, err := h.VerifyToken(t.Context(), cached)
		require.NoError(t, err)
		assert.True(t, sharesMemory(before, after))
	})
}

// Keys that could not be fetched for a day are not trusted, cached sessions or
// not: nobody would have seen a revocation.
//
// Rule: keys: against a key that was revoked: trust ends with the fetch that shows it, for
// remembered sessions too; after a day without a fetch nothing is trusted.
// Rule: keys: keys are trusted for a day without a fetch.
func TestCachedSessionNeedsKeysThatAreNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 72 * time.Hour })
		token := k.Project.SignIn(kittest.Ada).Session
		require.True(t, isHit(t, k, token))
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(24 * time.Hour)
		require.True(t, isHit(t, k, token))
		kittest.Elapse(time.Second)
		for _, r := range ways(token, "") {
			kittest.RequireProblem(t, kittest.Serve(h, r), http.StatusServiceUnavailable, "unavailable")
		}
	})
}

// Where every request is a hit, hits alone have to see a revocation: they start
// the fetch of keys that are an hour old.
func TestHitsKeepTheKeysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 72 * time.Hour })
		token := k.Project.SignIn(kittest.Ada).Session
		require.True(t, isHit(t, k, token))
		k.Project.RevokeKeys()
		h := k.RequireSession(new(kittest.Spy))
		kittest.Elapse(time.Hour)
		require.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)).StatusCode)
		require.Equal(t, 1, k.Project.Requests(kittest.KeysPath))
		kittest.Elapse(time.Second)
		require.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)).StatusCode, "the fetch is not in its way")
		require.NoError(t, k.Wait(t.Context()))
		require.Equal(t, 2, k.Project.Requests(kittest.KeysPath))
		kittest.Elapse(5 * time.Second)
		kittest.RequireProblem(t, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)), http.StatusUnauthorized, "invalid_token")
	})
}

// The entry stands for the whole token. What differs in a byte is another token,
// and what was refused is not in the cache the next time.
func TestOnlyVerifiedTokensAreCached(t *testing.T) {
	h := kittest.NewHostile(t)
	good := h.With(nil)
	require.True(t, isHit(t, h.Kit, good))
	parts := strings.Split(good, ".")
	forged := []byte(good)
	forged[len(good)-100] ^= 1 // another letter of the alphabet, or none
	for name, token := range map[string]string{
		"another signature":     string(forged),
		"signature of another":  parts[0] + "." + parts[1] + "." + strings.Split(h.With(map[string]any{"x": 1}), ".")[2],
		"another payload":       parts[0] + "." + strings.Split(h.With(map[string]any{"x": 1}), ".")[1] + "." + parts[2],
		"without its signature": parts[0] + "." + parts[1] + ".",
		"another spelling":      kittest.OtherSpelling(good),
		"cut":                   good[:len(good)-1],
		"longer":                good + "A",
		"over 4 KiB":            good + strings.Repeat("A", 4096),
		"of no user":            h.With(map[string]any{"sub": nil}),
		"of another project":    h.With(map[string]any{"iss": "P2othertherprojectabcdefghij"}),
		"bound to a key":        h.With(map[string]any{"cnf": map[string]any{"jkt": "x"}}),
		"refresh token":         h.Project.SignIn(kittest.Ada).Refresh,
	} {
		for range 3 {
			for way, err := range h.Verdicts(token) {
				assert.Error(t, err, "%s, %s", name, way)
			}
		}
		assert.True(t, isHit(t, h.Kit, good), name)
	}

	refresh := h.Project.SignIn(kittest.Ada).Refresh
	for range 3 {
		kittest.Serve(h.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), good, refresh))
		for way, err := range h.Verdicts(refresh) {
			assert.Error(t, err, "refresh token beside a session, %s", way)
		}
	}
}

// What judges a request, and not a token, judges it on a hit as well.
func TestPoliciesApplyOnHits(t *testing.T) {
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: "bob@example.com"})
	adas, bobs := k.Project.SignIn(kittest.Ada), k.Project.SignIn("bob@example.com")
	session := adas.Session

	crossOrigin := func(r *http.Request) *http.Request {
		r.Method = http.MethodPost
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		return r
	}
	upgrade := func(r *http.Request) *http.Request {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Connection", "keep-alive, Upgrade")
		r.Header.Set("Upgrade", "websocket")
		return r
	}
	twice := func(r *http.Request) *http.Request {
		r.Header.Add("Authorization", "Bearer "+session)
		return r
	}
	both := kittest.WithCookies(kittest.Get("/"), session, adas.Refresh)
	both.Header.Set("Cookie", both.Header.Get("Cookie")+"; "+kittest.SessionCookie+"="+bobs.Session)
	plantedRefresh := kittest.WithCookies(kittest.Get("/"), session, adas.Refresh)
	plantedRefresh.Header.Set("Cookie", plantedRefresh.Header.Get("Cookie")+"; "+kittest.RefreshCookie+"="+bobs.Refresh)

	role := func(name string) http.Handler { return k.Require(descopehttp.Role(name))(new(kittest.Spy)) }
	anybody := k.RequireSession(new(kittest.Spy))
	for _, tt := range []struct {
		name   string
		h      http.Handler
		r      *http.Request
		status int
		code   string
	}{
		{"from another site", anybody, crossOrigin(kittest.WithCookies(kittest.Get("/"), session, "")), 403, "cross_origin"},
		{"from another site, both cookies", anybody, crossOrigin(kittest.WithCookies(kittest.Get("/"), session, adas.Refresh)), 403, "cross_origin"},
		{"WebSocket from another site", anybody, upgrade(kittest.WithCookies(kittest.Get("/"), session, "")), 403, "cross_origin"},
		{"role not held, bearer", role("owner"), kittest.WithBearer(kittest.Get("/"), session), 403, "missing_role"},
		{"role not held, cookies", role("owner"), kittest.WithCookies(kittest.Get("/"), session, adas.Refresh), 403, "missing_role"},
		{"no step-up", k.Require(descopehttp.StepUp())(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), session), 401, "step_up_required"},
		{"refresh cookie of another user", anybody, kittest.WithCookies(kittest.Get("/"), session, bobs.Refresh), 401, "conflicting_cookies"},
		{"second refresh cookie, of another user", anybody, plantedRefresh, 401, "conflicting_cookies"},
		{"second session cookie, of another user", anybody, both, 401, "conflicting_cookies"},
		{"two Authorization headers", anybody, twice(kittest.WithBearer(kittest.Get("/"), session)), 401, "invalid_token"},
	} {
		// Both users are cached, and the pairs of cookies that belong together.
		for _, tokens := range []descopetest.Tokens{adas, bobs} {
			for way, r := range ways(tokens.Session, tokens.Refresh) {
				require.Equal(t, http.StatusOK, kittest.Serve(anybody, r).StatusCode, way)
			}
			require.True(t, isHit(t, k, tokens.Session))
		}
		require.Equal(t, http.StatusOK, kittest.Serve(role("admin"), kittest.WithBearer(kittest.Get("/"), session)).StatusCode)
		for range 2 {
			kittest.RequireProblem(t, kittest.Serve(tt.h, tt.r.Clone(t.Context())), tt.status, tt.code)
		}
	}
}

// Two Auths over one project may differ in their rules: nothing that one has
// verified counts for the other.
func TestCachesAreNotShared(t *testing.T) {
	h := kittest.NewHostile(t)
	strict := kittest.For(t, h.Project, func(c *descopehttp.Config) { c.Audience = "shop" })
	token := h.With(nil)
	require.True(t, isHit(t, h.Kit, token))
	_, err := strict.VerifyToken(t.Context(), token)
	assert.ErrorIs(t, err, descopehttp.ErrInvalidToken)
}

// manySessions returns different session tokens of the usual claims. They are
// signed with ES256, which takes a twentieth of the time.
func manySessions(h *kittest.Hostile, n int) []string {
	_, ec := kittest.Keys()
	payload := kittest.ClaimsJSON(h.T, h.Claims(map[string]any{
		"sub":         "U2 of nobody",
		"tenants":     map[string]any{"T2abcdefghijklmnopqrstuvwxyz": map[string]any{"roles": []string{"owner"}, "permissions": []string{"pay", "read"}}},
		"permissions": []string{"read", "write", "share"},
		"email":       "ada@example.com", "name": "Ada Lovelace",
		"exp": time.Now().Add(time.Hour).Unix(),
	}))
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = kittest.SignRaw(h.T, ec, `{"alg":"ES256","kid":"`+kittest.ECKid+`"}`, strings.Replace(payload, "U2 of nobody", fmt.Sprintf("U2%025d", i), 1))
	}
	return tokens
}

// However many sessions come, no more are kept than Config says, and those that
// are in use stay.
func TestCacheIsBounded(t *testing.T) {
	const bound = 100
	h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = bound })
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

// Nothing runs on behalf of the cache once the requests are over: a bubble ends only when
// all goroutines that were started in it have.
func TestCacheLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = 10 })
		next := h.RequireSession(new(kittest.Spy))
		var wg sync.WaitGroup
		for _, token := range manySessions(h, 200) {
			wg.Go(func() {
				assert.Equal(t, http.StatusOK, kittest.Serve(next, kittest.WithBearer(kittest.Get("/"), token)).StatusCode)
				assert.Equal(t, http.StatusOK, kittest.Serve(next, kittest.WithCookies(kittest.Get("/"), token, "")).StatusCode)
			})
		}
		wg.Wait()
		synctest.Wait()
		kittest.Elapse(2 * time.Hour)
		synctest.Wait()
	})
}

// Keys come and go while sessions are looked up, put in and pushed out. It is
// for the race detector, and at the end no session of a revoked key is left.
func TestCacheUnderRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = 32 })
		tokens := manySessions(h, 64)
		next := h.RequireSession(new(kittest.Spy))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 64 {
					kittest.Elapse(time.Duration(i+1) * 10 * time.Millisecond)
					token := tokens[(i*7+j)%len(tokens)]
					for _, r := range ways(token, "") {
						assert.Contains(t, []int{200, 401, 503}, kittest.Serve(next, r).StatusCode)
					}
				}
			})
		}
		wg.Go(func() {
			kittest.Elapse(2 * time.Second)
			h.Project.RevokeKeys()
			kittest.Elapse(4 * time.Second)
			_, err := h.VerifyToken(t.Context(), h.Project.SignIn(kittest.Ada).Session)
			assert.NoError(t, err)
		})
		wg.Wait()
		kittest.Elapse(10 * time.Second)
		for _, token := range tokens {
			kittest.RequireProblem(t, kittest.Serve(next, kittest.WithBearer(kittest.Get("/"), token)), http.StatusUnauthorized, "invalid_token")
		}
	})
}

// What is kept of a session is no credential: no part of the token's signature
// is left in the memory of the process once its request is over.
//
// Rule: tokens: against reading tokens out of memory or logs: the cache keeps hashes; no token,
// code, key or QR code is logged or printed.
func TestCacheKeepsNoToken(t *testing.T) {
	h := kittest.NewHostile(t)
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
		for way, token := range map[string]string{"bearer": h.With(nil), "cookie": h.With(map[string]any{"x": 1}), "both": h.With(map[string]any{"x": 2})} {
			signature := token[strings.LastIndexByte(token, '.')+1:]
			look([]byte(signature[100:140]))
			raw, _ := base64.RawURLEncoding.DecodeString(signature)
			look(raw[100:130])
			for range 3 {
				r := kittest.WithBearer(kittest.Get("/"), token)
				switch way {
				case "cookie":
					r = kittest.WithCookies(kittest.Get("/"), token, "")
				case "both":
					r = kittest.WithCookies(kittest.Get("/"), token, h.Project.SignIn(kittest.Ada).Refresh)
				}
				if res := kittest.Serve(handler, r); res.StatusCode != http.StatusOK {
					t.Errorf("%s: status %d", way, res.StatusCode)
				}
			}
			for _, r := range ways(token, "") {
				kittest.Serve(handler, r)
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
