//go:build !race

package guess

import (
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Rule: guessing: against invented login ids and addresses, to have a count forgotten: no count
// makes room for another: there is room for all that the budget lets through, and what never
// got to Descope leaves nothing.
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
		flood(g.a.CallsAtOnce)
		for range 24*60 - 1 {
			flood(60 * g.a.Calls)
			<-time.After(time.Minute)
		}
		flood(60 * g.a.Calls)
		require.False(t, g.guess(r, "victim", wrongCode))
		assert.Equal(t, g.a.CallsAtOnce+24*3600*g.a.Calls+1, g.a.days.size())
		grown := heap() - before
		t.Logf("%d counts, %d bytes each, %d MB in all", g.a.days.size(), grown/uint64(g.a.days.size()), grown>>20)
		assert.Less(t, grown, uint64(150<<20))
		<-time.After(2 * guessDay)
		require.True(t, g.guess(r, "victim", wrongCode))
		assert.Less(t, heap(), before+1<<20, "given back")
	})
}
