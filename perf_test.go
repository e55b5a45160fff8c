//go:build !race

package descopehttp_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// The race detector changes what is allocated, so this file is left out under
// it and runs in a step of its own. Wall time is never asserted: ratios are, as
// medians of paired chunks in one process.

// usual is a session token of the usual size, about 970 bytes.
func usual(h *kittest.Hostile) string {
	return h.With(map[string]any{
		"iss":         "https://api.descope.com/" + h.Project.ProjectID(),
		"tenants":     map[string]any{"T2abcdefghijklmnopqrstuvwxyz": map[string]any{"roles": []string{"owner"}, "permissions": []string{"pay", "read"}}},
		"permissions": []string{"read", "write", "share"},
		"email":       "ada@example.com", "name": "Ada Lovelace",
		"exp": time.Now().Add(time.Hour).Unix(),
	})
}

// passes returns the ways a checked request can come in.
func passes(t *testing.T, h *kittest.Hostile) map[string]*http.Request {
	t.Helper()
	token := usual(h)
	require.InDelta(t, 970, len(token), 100)
	refresh := h.Project.SignIn(kittest.Ada).Refresh
	requests := map[string]*http.Request{
		"bearer":  kittest.WithBearer(kittest.Get("/"), token),
		"cookie":  kittest.WithCookies(kittest.Get("/"), token, ""),
		"cookies": kittest.WithCookies(kittest.Get("/"), token, refresh),
	}
	for name, r := range requests {
		require.Equal(t, http.StatusOK, kittest.Serve(h.RequireSession(new(kittest.Spy)), r).StatusCode, name)
	}
	return requests
}

// floor is the limit of an uncached check: the hash and the signature.
func floor(h *kittest.Hostile, token string) func() {
	i := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil {
		panic(err)
	}
	signed, key := []byte(token[:i]), &h.RSA.PublicKey
	return func() {
		sum := sha256.Sum256(signed)
		if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) != nil {
			panic("signature does not verify")
		}
	}
}

func TestAllocations(t *testing.T) {
	seen := 0
	observer := func(context.Context, descopehttp.Event) { seen++ }
	for _, tt := range []struct {
		name     string
		cached   int
		ways     []string
		observer func(context.Context, descopehttp.Event)
		limit    float64
	}{
		{"cached", 0, []string{"bearer", "cookie", "cookies"}, nil, 3},
		{"cached and observed", 0, []string{"bearer", "cookie", "cookies"}, observer, 3},
		{"uncached", -1, []string{"bearer", "cookie"}, nil, 30},
	} {
		h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions, c.Observer = tt.cached, tt.observer })
		requests := passes(t, h)
		handler := h.RequireSession(kittest.Nothing{})
		for _, way := range tt.ways {
			w := kittest.Nothing{Fields: make(http.Header)}
			r := requests[way]
			allocs := testing.AllocsPerRun(1000, func() {
				clear(w.Fields) // as with every answer, nothing is set yet
				handler.ServeHTTP(w, r)
			})
			t.Logf("%s %s: %v allocations", tt.name, way, allocs)
			assert.LessOrEqual(t, allocs, tt.limit, "%s, %s", tt.name, way)
		}
	}
	assert.Greater(t, seen, 3000)
}

// A session that is about to end and cannot be renewed just now costs no more than another.
func TestAllocationsOfADueSession(t *testing.T) {
	h := kittest.NewHostile(t)
	token := h.With(map[string]any{"iat": time.Now().Add(-10 * time.Minute).Unix(), "exp": time.Now().Add(20 * time.Second).Unix()})
	r := kittest.WithCookies(kittest.Get("/"), token, h.Project.SignIn(kittest.Ada).Refresh)
	h.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 500, Times: -1})
	handler, w := h.RequireSession(kittest.Nothing{}), kittest.Nothing{Fields: make(http.Header)}
	handler.ServeHTTP(w, r)
	require.Equal(t, 1, h.Project.Requests(kittest.RefreshPath), "it is due")
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		clear(w.Fields)
		handler.ServeHTTP(w, r)
	}), 3.0)
}

// ratio returns the median over paired chunks of the time of f to that of g.
func ratio(f, g func(), nf, ng, chunks int) float64 {
	time1 := func(f func(), n int) time.Duration {
		began := time.Now()
		for range n {
			f()
		}
		return time.Since(began) / time.Duration(n)
	}
	ratios := make([]float64, 0, chunks)
	for range chunks {
		ratios = append(ratios, float64(time1(f, nf))/float64(time1(g, ng)))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// A step-up is not renewed, and costs as little in the second half of its life as in the first.
func TestAllocationsOfAStepUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _ := newEarly(t, func(s *descopetest.Settings) { s.StepUpTTL = 10 * time.Minute }, early(descopehttp.EarlyAlways))
		tokens := k.Project.StepUp(kittest.Ada)
		r := kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh)
		kittest.Elapse(6 * time.Minute)
		w := kittest.Nothing{Fields: http.Header{}}
		h := k.RequireSession(kittest.Nothing{})
		allocs := testing.AllocsPerRun(100, func() {
			clear(w.Fields)
			h.ServeHTTP(w, r)
		})
		assert.LessOrEqual(t, allocs, 3.0)
	})
}

func TestRatios(t *testing.T) {
	if os.Getenv("DESCOPEHTTP_RATIOS") == "" {
		t.Skip("ratios are only true on a machine that does nothing else: set DESCOPEHTTP_RATIOS=1 and run this test alone")
	}
	for _, tt := range []struct {
		name   string
		cached int
		ways   []string
		n      int
		limit  float64 // 10 % above what is aimed at
	}{
		{"cached", 0, []string{"bearer", "cookie", "cookies"}, 400, 0.038}, // of which Vary and Cache-Control take 0.006
		{"uncached", -1, []string{"bearer", "cookie"}, 20, 1.265},
	} {
		h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = tt.cached })
		requests := passes(t, h)
		handler := h.RequireSession(kittest.Nothing{})
		for _, way := range tt.ways {
			w := kittest.Nothing{Fields: make(http.Header)}
			r := requests[way]
			token, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.Header.Get("Cookie")+r.Header.Get("Authorization"), "Bearer "), kittest.SessionCookie+"="), ";")
			got := ratio(func() { clear(w.Fields); handler.ServeHTTP(w, r) }, floor(h, token), tt.n, 20, 301)
			t.Logf("%s %s: %.3f of the bare check", tt.name, way, got)
			assert.LessOrEqual(t, got, tt.limit, "%s, %s", tt.name, way)
		}
	}
}

// What a cached session costs, all in: the default bound, full, with the usual
// claims. The race detector's own memory would be counted, too.
func TestMemoryPerCachedSession(t *testing.T) {
	const n = 10_000
	h := kittest.NewHostile(t)
	tokens := manySessions(h, n)
	payload := len(strings.Split(tokens[0], ".")[1])
	require.InDelta(t, 530, payload, 50, "as in an RS256 token of 970 bytes")
	require.NoError(t, h.Ready(t.Context()))

	before := heapInUse()
	for _, token := range tokens {
		_, err := h.VerifyToken(t.Context(), token)
		require.NoError(t, err)
	}
	perSession := float64(heapInUse()-before) / n
	t.Logf("%.0f B per cached session", perSession)
	assert.LessOrEqual(t, perSession, 1400.)
	assert.GreaterOrEqual(t, perSession, 400., "or else they are not there")
	runtime.KeepAlive(h)
	runtime.KeepAlive(tokens)
}

func heapInUse() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
