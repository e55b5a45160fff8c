//go:build !race

package descopehttp

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
)

// What a flood leaves in memory is bounded: every map has a limit, and what is
// under way ends.
func TestFloodLeavesNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := descopetest.NewServer()
		srv.AddUser(descopetest.User{LoginID: "ada"})
		a, err := New(Config{ProjectID: srv.ProjectID(), BaseURL: srv.URL(), HTTPClient: srv.Client(), Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, a.Ready(t.Context()))
		claims := srv.SessionClaims("ada")
		encode := func(v any) string {
			encoded, err := json.Marshal(v)
			require.NoError(t, err)
			return base64.RawURLEncoding.EncodeToString(encoded)
		}
		session := encode(claims)
		claims["drn"] = refreshDRN
		refresh := encode(claims)
		handler := a.RequireSession(http.NotFoundHandler())
		for i := range maxEnded + 500 {
			header := encode(map[string]string{"alg": "RS256", "kid": "SKinvented" + strconv.Itoa(i)})
			send := func(h http.Handler, method, path, name, value string) {
				r := httptest.NewRequest(method, path, nil)
				r.Header.Set(name, value)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
			if i < maxAbsentKeys+500 {
				send(handler, http.MethodGet, "/", "Authorization", "Bearer "+header+"."+session+".AAAA")
			}
			if i%10 == 0 {
				send(handler, http.MethodGet, "/", "Cookie", "__Host-DSR="+header+"."+refresh+".AAAA")
			}
			send(a.Handler(), http.MethodPost, pathLogout, "Cookie", "__Host-DSR="+header+"."+refresh+".AAAA")
		}
		require.NoError(t, a.Wait(t.Context()))

		m := &a.refresher.memory
		for name, size := range map[string][2]int{
			"absent kids":     {len(a.keys.absent), maxAbsentKeys},
			"retired keys":    {len(a.keys.retired), maxRetiredKeys},
			"flights":         {len(a.refresher.flights), 0},
			"running":         {a.refresher.tasks.running + a.keys.tasks.running, 0},
			"links":           {len(m.links.entries), maxLinks},
			"issued":          {len(m.issued.entries), maxLinks},
			"unseen sessions": {len(m.sessions.entries), maxLinks},
			"refused":         {len(m.refused.entries), maxRefusals},
			"ended":           {len(m.ended.entries), maxEnded},
			"cut":             {len(m.cut.entries), maxEnded},
			"tried":           {len(m.tried.entries), maxLinks},
			"accepted":        {len(a.api.strangers.accepted.entries), maxAcceptedTokens},
			"guesses":         {a.attempts.guesses.size() + a.attempts.days.size(), 0},
			"pending":         {a.attempts.pendings.size(), maxPending},
			"known networks":  {len(a.attempts.known.entries), maxKnownNetworks},
			"ended, in order": {m.ended.order.Len(), maxEnded},
		} {
			assert.LessOrEqual(t, size[0], size[1], name)
		}
	})
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
