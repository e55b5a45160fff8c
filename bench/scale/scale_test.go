package scale_test

import (
	"encoding/json"
	"flag"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/scale"
)

// With these TestScenarios plays all in full: bench/cmd/scale runs it so.
var (
	resultsFile = flag.String("scale.results", "", "write what comes of each scenario to this `file`, as a line of JSON")
	mostUsers   = flag.Int("scale.most", 30, "play scenarios with so many `users` at most; 0: with all")
)

func play(t *testing.T, s scale.Scenario) *scale.Result {
	t.Helper()
	began, cpu := time.Now(), bench.CPUTime()
	var r *scale.Result
	synctest.Test(t, func(t *testing.T) {
		var err error
		r, err = s.Play()
		require.NoError(t, err)
	})
	r.Wall, r.CPU = time.Since(began), bench.CPUTime()-cpu
	return r
}

// What must be so in all of them, in full or with few users: that it is about something.
func TestScenarios(t *testing.T) {
	for _, s := range scale.Scenarios(*mostUsers) {
		t.Run(string(s.Group), func(t *testing.T) {
			r := play(t, s)
			assert.Positive(t, scale.Total(r.OK))
			assert.Zero(t, scale.Total(r.Other))
			assert.InDelta(t, bench.TokenSize, r.SessionBytes, 10)
			assert.GreaterOrEqual(t, r.Renewals, s.Users)
			assert.GreaterOrEqual(t, scale.Total(r.Calls), r.Renewals)
			assert.Equal(t, s.Shared, r.Store.Calls() > 0 && r.Store.Bytes > 0)
			assert.Equal(t, s.Weigh, r.HeapBytes > 0)
			if !s.Peer {
				assert.Zero(t, scale.Total(r.Unauthorized))
				assert.Zero(t, r.SignedOut)
			}
			t.Logf("%d users, %v of CPU, %v in all", s.Users, r.CPU.Round(time.Millisecond), r.Wall.Round(time.Millisecond))
			keep(t, r)
		})
	}
}

func keep(t *testing.T, r *scale.Result) {
	if *resultsFile == "" {
		return
	}
	f, err := os.OpenFile(*resultsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, json.NewEncoder(f).Encode(r))
}

// of returns the first scenario of a group, with a hundred users.
func of(t *testing.T, g scale.Group) scale.Scenario {
	t.Helper()
	for _, s := range scale.Scenarios(100) {
		if s.Group == g {
			return s
		}
	}
	require.Fail(t, "no such group", g)
	return scale.Scenario{}
}

func TestRenewalsWithinTheLimitsMeetNo503(t *testing.T) {
	s := of(t, scale.TwoHundred)
	s.Limits.SessionCalls, s.Grant.Calls = 1, 15 // a hundred users, one of them every six seconds
	r := play(t, s)
	assert.Zero(t, scale.Total(r.Unavailable))
	assert.Zero(t, scale.Total(r.TooMany))
	assert.GreaterOrEqual(t, r.Renewals, s.Users)
}

// Users whose sessions end meanwhile are refused, so the outage is one; afterwards they
// come back as fast as the limit allows, once.
func TestAllComeBackAfterAnOutage(t *testing.T) {
	s := of(t, scale.LongOutage)
	s.Limits.SessionCalls, s.Grant.Calls, s.Retry = 2, 26, 0
	r := play(t, s)
	assert.Equal(t, s.Users, r.Refused)
	assert.Zero(t, r.Away)
	assert.Zero(t, r.Again)
	end := s.Outage.At + s.Outage.For
	assert.LessOrEqual(t, r.LastBack-end, 2*time.Duration(s.Users/s.Limits.SessionCalls)*time.Second)
	assert.Zero(t, scale.Between(r.Unavailable, r.LastBack+scale.Step, s.Lasts))
}

// Beyond what is granted Descope says no, and beyond their sessions users see an outage.
func TestGrantAndOutageAreFelt(t *testing.T) {
	s := of(t, scale.Rush)
	s.Grant = scale.Grant{Calls: 10, Per: time.Minute}
	r := play(t, s)
	assert.Positive(t, scale.Total(r.TooMany))
	assert.Positive(t, r.Refused)

	s = of(t, scale.UnseenOutage)
	r = play(t, s)
	assert.Positive(t, scale.Between(r.Calls, s.Outage.At, s.Outage.At+s.Outage.For))
	assert.Zero(t, scale.Total(r.Unavailable), "sessions are renewed early")
	s.Limits.EarlyRenewal = descopehttp.EarlyNever
	r = play(t, s)
	assert.Zero(t, scale.Between(r.Unavailable, 0, s.Outage.At))
	assert.Positive(t, scale.Total(r.Unavailable))
}

// Four requests at once with one expired session are one call, and four without the kit.
func TestPeerRefreshesWithEveryRequest(t *testing.T) {
	kit := of(t, scale.Peers)
	kit.Outage, kit.Limits.EarlyRenewal = scale.Outage{}, descopehttp.EarlyNever
	peer := kit
	peer.Peer = true
	ours, theirs := play(t, kit), play(t, peer)
	assert.InDelta(t, 4, float64(theirs.Renewals)/float64(ours.Renewals), 1)
}

func TestBetween(t *testing.T) {
	series := []int{1, 2, 4, 8}
	assert.Equal(t, 15, scale.Total(series))
	assert.Equal(t, 6, scale.Between(series, scale.Step, 3*scale.Step))
	assert.Equal(t, 8, scale.Between(series, 3*scale.Step, time.Hour))
	assert.Zero(t, scale.Between(series, time.Hour, 2*time.Hour))
}
