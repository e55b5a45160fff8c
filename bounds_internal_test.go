//go:build !race

package descopehttp

import (
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A token over 16 KiB is refused by its length, before anything is made of it.
// Nothing is allocated then, whether it is a session or a refresh token.
func TestOversizeTokensAllocateNothing(t *testing.T) {
	a, err := New(Config{ProjectID: "P2descopetest00000000000000A", HTTPClient: &http.Client{Transport: noNetwork{t}}})
	require.NoError(t, err)
	ctx, now := t.Context(), time.Now()
	until := now.Add(time.Minute)
	for _, size := range []int{maxTokenSize + 1, 64 << 10, 1 << 20} {
		oversize := strings.Repeat("A", size-2) + ".."
		for name, judge := range map[string]func() error{
			"session token":  func() error { _, err := a.judgeSession(ctx, oversize, now, until); return err },
			"session cookie": func() error { _, _, err := a.judgeSessionCookie(ctx, oversize, new(lookup), now, until); return err },
			"refresh token":  func() error { _, err := a.judgeRefresh(ctx, oversize, now); return err },
		} {
			require.Equal(t, errTokenSize, judge(), name)
			assert.Zero(t, testing.AllocsPerRun(100, func() { _ = judge() }), "%s of %d bytes", name, size)
		}
	}
}

// The limit is exact, and a token at it is taken apart.
func TestTokenSizeLimit(t *testing.T) {
	rules := &tokenRules{headers: new(headerMemo)}
	at := strings.Repeat("A", maxTokenSize-2) + ".."
	_, err := rules.parse(at, sessionDRN)
	assert.NotEqual(t, errTokenSize, err)
	_, err = rules.parse(at+"A", sessionDRN)
	assert.Equal(t, errTokenSize, err)
}

// A flood of guesses at the full rate of a class, all day, each for another login
// id: the count of a victim outlasts it, and the memory of it is as documented.
func TestDayOfFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuesser(t)
		r, n := requestFrom(netip.MustParseAddr("203.0.113.9")), 0
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for i := range guessesPerDay {
			require.True(t, g.guess(requestFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})), "victim", wrongCode))
		}
		flood := func(calls int) {
			for range calls {
				n++
				if _, _, ok := g.a.days.add(g.a.key("day", strconv.Itoa(n)), 1, time.Now()); !ok {
					require.FailNow(t, "no room")
				}
			}
		}
		flood(anonymousBurst)
		for range 24*60 - 1 {
			flood(60 * anonymousRate)
			<-time.After(time.Minute)
		}
		flood(60 * anonymousRate)
		require.False(t, g.guess(r, "victim", wrongCode))
		assert.Equal(t, anonymousBurst+24*3600*anonymousRate+1, g.a.days.size())
		grown := heap() - before
		t.Logf("%d counts, %d bytes each, %d MB in all", g.a.days.size(), grown/uint64(g.a.days.size()), grown>>20)
		assert.Less(t, grown, uint64(150<<20))
		<-time.After(2 * guessDay)
		require.True(t, g.guess(r, "victim", wrongCode))
		assert.Less(t, heap(), before+1<<20, "given back")
	})
}
