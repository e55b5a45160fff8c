package descoperedis_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/stores/descoperedis"
)

// binary is what a sealed value looks like, and then some.
var binary = []byte("\x00\r\n$-1\r\n\xff\xfeLVF\x00")

// none stands for an empty slot, which is another thing than a slot with nothing in it.
const none = "(none)"

func slot(text string) []byte {
	if text == none {
		return nil
	}
	return []byte(text)
}

// A contractStore is a store under test. Its methods make a call and say what has to
// come of it.
type contractStore struct {
	*descoperedis.RefreshStore
	client redis.UniversalClient // another than the store's
	elapse func(time.Duration)   // lets time pass if that is to be had; else the test has to wait
}

func (s contractStore) holds(t *testing.T, value, end string) {
	t.Helper()
	gotValue, gotEnd, err := s.Load(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, slot(value), gotValue)
	require.Equal(t, slot(end), gotEnd)
}

func (s contractStore) claims(t *testing.T, owner string, claimed bool, value, end string) {
	t.Helper()
	s.claimsFor(t, lease, owner, claimed, value, end)
}

func (s contractStore) claimsFor(t *testing.T, lease time.Duration, owner string, claimed bool, value, end string) {
	t.Helper()
	gotValue, gotEnd, got, err := s.Claim(t.Context(), key, owner, lease)
	require.NoError(t, err)
	require.Equal(t, claimed, got)
	require.Equal(t, slot(value), gotValue)
	require.Equal(t, slot(end), gotEnd)
}

func (s contractStore) puts(t *testing.T, owner, value string, over bool, now, end string) {
	t.Helper()
	s.putsFor(t, ttl, owner, value, over, now, end)
}

func (s contractStore) putsFor(t *testing.T, ttl time.Duration, owner, value string, over bool, now, end string) {
	t.Helper()
	gotNow, gotEnd, err := s.Put(t.Context(), key, owner, []byte(value), ttl, over)
	require.NoError(t, err)
	require.Equal(t, slot(now), gotNow)
	require.Equal(t, slot(end), gotEnd)
}

func (s contractStore) ends(t *testing.T, end, value string) {
	t.Helper()
	s.endsFor(t, ttl, end, value)
}

func (s contractStore) endsFor(t *testing.T, ttl time.Duration, end, value string) {
	t.Helper()
	got, err := s.End(t.Context(), key, []byte(end), ttl)
	require.NoError(t, err)
	require.Equal(t, slot(value), got)
}

func (s contractStore) releases(t *testing.T, owner string) {
	t.Helper()
	require.NoError(t, s.Release(t.Context(), key, owner))
}

// nameOf returns where the store keeps a slot of key.
func nameOf(slot string) string { return "descopehttp:refresh:{" + key + "}:" + slot }

// lasts checks what is left of a slot's time: want, less what the test has taken.
func (s contractStore) lasts(t *testing.T, slot string, want time.Duration) {
	t.Helper()
	left, err := s.client.PTTL(t.Context(), nameOf(slot)).Result()
	require.NoError(t, err)
	require.LessOrEqual(t, left, want, slot)
	require.Greater(t, left, want-patience, slot)
}

// becomes waits for a slot to be empty or not.
func (s contractStore) becomes(t *testing.T, value, end string) {
	t.Helper()
	eventually(t, "what is there ends", func() bool {
		gotValue, gotEnd, err := s.Load(t.Context(), key)
		return assert.NoError(t, err) && assert.ObjectsAreEqual(slot(value), gotValue) && assert.ObjectsAreEqual(slot(end), gotEnd)
	})
}

// becomesFree waits for the end of a lease and takes it.
func (s contractStore) becomesFree(t *testing.T, owner string) {
	t.Helper()
	eventually(t, "the lease ends", func() bool {
		_, _, claimed, err := s.Claim(t.Context(), key, owner, lease)
		return assert.NoError(t, err) && claimed
	})
}

// brief is a time that tests wait out.
const brief = 50 * time.Millisecond

type contract map[string]func(*testing.T, contractStore)

var loadContract = contract{
	"nothing is there": func(t *testing.T, s contractStore) {
		s.holds(t, none, none)
		require.Zero(t, s.client.DBSize(t.Context()).Val(), "looking leaves nothing behind")
	},
	"value and end are apart": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", false, "one", none)
		s.holds(t, "one", none)
		s.ends(t, "end", "one")
		s.holds(t, "one", "end")
	},
	"an end alone": func(t *testing.T, s contractStore) {
		s.ends(t, "end", none)
		s.holds(t, none, "end")
	},
	"a lease is not seen, taken or prolonged": func(t *testing.T, s contractStore) {
		s.holds(t, none, none)
		s.claimsFor(t, 20*time.Second, "a", true, none, none)
		s.holds(t, none, none)
		s.lasts(t, "lease", 20*time.Second)
		s.claims(t, "b", false, none, none)
	},
	"looking prolongs nothing": func(t *testing.T, s contractStore) {
		s.putsFor(t, 20*time.Second, "a", "one", false, "one", none)
		s.endsFor(t, 20*time.Second, "end", "one")
		s.holds(t, "one", "end")
		s.claims(t, "a", true, "one", "end")
		s.lasts(t, "value", 20*time.Second)
		s.lasts(t, "end", 20*time.Second)
	},
}

var claimContract = contract{
	"a lease is one owner's": func(t *testing.T, s contractStore) {
		s.claims(t, "a", true, none, none)
		for _, other := range []string{"b", "", "A", "a ", "aa"} {
			s.claims(t, other, false, none, none)
		}
		s.lasts(t, "lease", lease)
	},
	"its owner has it anew, for the whole time": func(t *testing.T, s contractStore) {
		s.claimsFor(t, 5*time.Second, "a", true, none, none)
		s.claims(t, "a", true, none, none)
		s.lasts(t, "lease", lease)
		s.claims(t, "b", false, none, none)
	},
	"asking does not prolong another's": func(t *testing.T, s contractStore) {
		s.claimsFor(t, 20*time.Second, "a", true, none, none)
		s.claims(t, "b", false, none, none)
		s.lasts(t, "lease", 20*time.Second)
	},
	"it ends by itself": func(t *testing.T, s contractStore) {
		s.claimsFor(t, brief, "a", true, none, none)
		s.elapse(brief)
		s.becomesFree(t, "b")
		s.claims(t, "a", false, none, none)
	},
	"beside a value": func(t *testing.T, s contractStore) {
		s.puts(t, "x", "one", false, "one", none)
		s.claims(t, "a", true, "one", none)
		s.claims(t, "b", false, "one", none)
		s.claims(t, "a", true, "one", none)
		s.holds(t, "one", none)
	},
	"beside an end": func(t *testing.T, s contractStore) {
		s.ends(t, "end", none)
		s.claims(t, "a", true, none, "end")
		s.claims(t, "b", false, none, "end")
		s.holds(t, none, "end")
	},
	"beside both, each with its own time": func(t *testing.T, s contractStore) {
		s.putsFor(t, 2*time.Hour, "x", "one", false, "one", none)
		s.endsFor(t, time.Hour, "end", "one")
		s.claims(t, "a", true, "one", "end")
		s.claims(t, "b", false, "one", "end")
		s.lasts(t, "value", 2*time.Hour)
		s.lasts(t, "end", time.Hour)
		s.lasts(t, "lease", lease)
	},
	"its end leaves value and end": func(t *testing.T, s contractStore) {
		s.puts(t, "x", "one", false, "one", none)
		s.ends(t, "end", "one")
		s.claimsFor(t, brief, "a", true, "one", "end")
		s.elapse(brief)
		s.becomesFree(t, "b")
		s.holds(t, "one", "end")
	},
}

var putContract = contract{
	"a value needs no lease": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", false, "one", none)
		s.holds(t, "one", none)
		s.lasts(t, "value", ttl)
		s.claims(t, "b", true, "one", none)
	},
	"the first stays, with its time": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", false, "one", none)
		s.putsFor(t, time.Hour, "b", "two", false, "one", none)
		s.holds(t, "one", none)
		s.lasts(t, "value", ttl)
	},
	"over another, with a new time": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", false, "one", none)
		s.putsFor(t, time.Hour, "b", "two", true, "two", none)
		s.holds(t, "two", none)
		s.lasts(t, "value", time.Hour)
		s.puts(t, "c", "three", true, "three", none)
		s.lasts(t, "value", ttl)
	},
	"over nothing": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", true, "one", none)
		s.holds(t, "one", none)
		s.lasts(t, "value", ttl)
	},
	"it ends the owner's lease": func(t *testing.T, s contractStore) {
		for i, over := range []bool{false, true} {
			value := fmt.Sprint("value ", over)
			s.claims(t, "a", true, []string{none, "value false"}[i], none)
			s.puts(t, "a", value, over, value, none)
			s.claims(t, "b", true, value, none)
			s.releases(t, "b")
		}
	},
	"also if another's value stays": func(t *testing.T, s contractStore) {
		s.puts(t, "x", "one", false, "one", none)
		s.claims(t, "a", true, "one", none)
		s.puts(t, "a", "two", false, "one", none)
		s.claims(t, "b", true, "one", none)
	},
	"it leaves another's lease alone": func(t *testing.T, s contractStore) {
		s.claims(t, "a", true, none, none)
		s.puts(t, "b", "one", false, "one", none)
		s.puts(t, "", "two", true, "two", none)
		s.lasts(t, "lease", lease)
		s.claims(t, "b", false, "two", none)
		s.claims(t, "a", true, "two", none)
	},
	"an end is told and stays, and hinders nothing": func(t *testing.T, s contractStore) {
		s.claims(t, "a", true, none, none)
		s.ends(t, "end", none)
		s.putsFor(t, time.Hour, "a", "one", false, "one", "end")
		s.puts(t, "b", "two", false, "one", "end")
		s.lasts(t, "value", time.Hour)
		s.lasts(t, "end", ttl)
		s.puts(t, "b", "two", true, "two", "end")
		s.holds(t, "two", "end")
		s.lasts(t, "end", ttl)
		s.claims(t, "b", true, "two", "end")
	},
	"once more after a lost answer, it says the same": func(t *testing.T, s contractStore) {
		s.claims(t, "a", true, none, none)
		s.puts(t, "a", "one", false, "one", none)
		s.claims(t, "b", true, "one", none)
		s.putsFor(t, time.Hour, "a", "one", false, "one", none)
		s.lasts(t, "value", ttl)
		s.claims(t, "c", false, "one", none) // b's lease stays
		s.puts(t, "b", "two", true, "two", none)
		s.puts(t, "b", "two", true, "two", none)
		s.puts(t, "a", "one", false, "two", none)
		s.holds(t, "two", none)
	},
	"a value ends by itself, and alone": func(t *testing.T, s contractStore) {
		s.putsFor(t, brief, "x", "one", false, "one", none)
		s.claims(t, "a", true, "one", none)
		s.elapse(brief)
		s.becomes(t, none, none)
		s.claims(t, "b", false, none, none)
		s.puts(t, "x", "two", false, "two", none)
	},
	"an empty value is a value": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "", false, "", none)
		s.holds(t, "", none)
		s.claims(t, "a", true, "", none)
		s.puts(t, "b", "one", false, "", none)
		s.ends(t, "end", "")
		s.puts(t, "b", "one", true, "one", "end")
		now, _, err := s.Put(t.Context(), key, "b", nil, ttl, true)
		require.NoError(t, err)
		require.NotNil(t, now, "what is stored is there")
		s.holds(t, "", "end")
	},
	"what is returned is the store's own": func(t *testing.T, s contractStore) {
		value := []byte("one")
		now, _, err := s.Put(t.Context(), key, "a", value, ttl, false)
		require.NoError(t, err)
		value[0] = 'X'
		require.Equal(t, "one", string(now))
		s.holds(t, "one", none)
	},
}

var endContract = contract{
	"it is set and ends nothing": func(t *testing.T, s contractStore) {
		s.claims(t, "a", true, none, none)
		s.ends(t, "end", none)
		s.holds(t, none, "end")
		s.lasts(t, "end", ttl)
		s.lasts(t, "lease", lease)
		s.claims(t, "b", false, none, "end")
		s.claims(t, "a", true, none, "end")
	},
	"the first stays": func(t *testing.T, s contractStore) {
		s.ends(t, "end", none)
		s.ends(t, "another", none)
		s.holds(t, none, "end")
	},
	"for as long as the last one asked": func(t *testing.T, s contractStore) {
		s.endsFor(t, 30*time.Second, "end", none)
		s.ends(t, "another", none)
		s.lasts(t, "end", ttl)
		s.endsFor(t, 30*time.Second, "another", none)
		s.lasts(t, "end", ttl)
	},
	"beside a value and a lease": func(t *testing.T, s contractStore) {
		s.puts(t, "x", "one", false, "one", none)
		s.claims(t, "a", true, "one", none)
		s.ends(t, "end", "one")
		s.ends(t, "end", "one")
		s.holds(t, "one", "end")
		s.claims(t, "b", false, "one", "end")
		s.lasts(t, "lease", lease)
	},
	"a value stays as long": func(t *testing.T, s contractStore) {
		s.putsFor(t, 30*time.Second, "x", "one", false, "one", none)
		s.ends(t, "end", "one")
		s.lasts(t, "value", ttl)
		s.lasts(t, "end", ttl)
	},
	"a value stays as long as a second one asks": func(t *testing.T, s contractStore) {
		s.endsFor(t, 20*time.Second, "end", none)
		s.putsFor(t, 20*time.Second, "x", "one", false, "one", "end")
		s.ends(t, "end", "one")
		s.lasts(t, "value", ttl)
	},
	"a value that stays longer does so": func(t *testing.T, s contractStore) {
		s.putsFor(t, time.Hour, "x", "one", false, "one", none)
		s.ends(t, "end", "one")
		s.lasts(t, "value", time.Hour)
		s.lasts(t, "end", ttl)
	},
	"an empty end is an end": func(t *testing.T, s contractStore) {
		s.ends(t, "", none)
		s.holds(t, none, "")
		s.ends(t, "end", none)
		s.claims(t, "a", true, none, "")
		s.puts(t, "a", "one", false, "one", "")
	},
	"it ends by itself": func(t *testing.T, s contractStore) {
		s.endsFor(t, brief, "end", none)
		s.puts(t, "x", "one", false, "one", "end")
		s.claims(t, "a", true, "one", "end")
		s.elapse(brief)
		s.becomes(t, "one", none)
		s.claims(t, "b", false, "one", none)
		s.ends(t, "another", "one")
		s.holds(t, "one", "another")
	},
}

var releaseContract = contract{
	"by its owner, a lease is free": func(t *testing.T, s contractStore) {
		s.claims(t, "a", true, none, none)
		s.releases(t, "a")
		s.releases(t, "a")
		s.claims(t, "b", true, none, none)
		s.releases(t, "a")
		s.claims(t, "a", false, none, none)
	},
	"by a stranger, it is not": func(t *testing.T, s contractStore) {
		s.claims(t, "a", true, none, none)
		for _, stranger := range []string{"b", "", "A", "a ", "aa"} {
			s.releases(t, stranger)
		}
		s.lasts(t, "lease", lease)
		s.claims(t, "b", false, none, none)
	},
	"where nothing is": func(t *testing.T, s contractStore) {
		s.releases(t, "a")
		s.releases(t, "")
		require.Zero(t, s.client.DBSize(t.Context()).Val())
	},
	"value and end stay": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", false, "one", none)
		s.ends(t, "end", "one")
		s.claims(t, "a", true, "one", "end")
		s.releases(t, "a")
		s.holds(t, "one", "end")
		s.lasts(t, "value", ttl)
		s.lasts(t, "end", ttl)
		s.claims(t, "b", true, "one", "end")
	},
	"a value that says what its owner is called": func(t *testing.T, s contractStore) {
		s.puts(t, "x", "a", false, "a", none)
		s.ends(t, "a", "a")
		s.releases(t, "a")
		s.puts(t, "a", "b", false, "a", "a")
		s.holds(t, "a", "a")
	},
}

var generalContract = contract{
	"times too short for Redis are not refused": func(t *testing.T, s contractStore) {
		for _, short := range []time.Duration{time.Microsecond, 0, -time.Hour} {
			for _, call := range refreshCalls(s.RefreshStore, short, key) {
				require.NoError(t, call(t.Context()))
			}
			s.elapse(time.Millisecond)
			s.becomesFree(t, "b")
			s.becomes(t, none, none)
			s.releases(t, "b")
		}
	},
	"bytes come back as they went in": func(t *testing.T, s contractStore) {
		for _, b := range [][]byte{binary, {}, {0}, []byte("0"), []byte("1"), bytes.Repeat(binary, 4<<10)} {
			s.puts(t, "a", string(b), true, string(b), none)
			s.puts(t, "a", "one", false, string(b), none)
			s.ends(t, string(b), string(b))
			s.holds(t, string(b), string(b))
			s.claims(t, "a", true, string(b), string(b))
			require.NoError(t, s.client.FlushAll(t.Context()).Err())
		}
	},
	"owners of any bytes": func(t *testing.T, s contractStore) {
		s.claims(t, string(binary), true, none, none)
		s.claims(t, "b", false, none, none)
		s.puts(t, string(binary), "one", false, "one", none)
		s.claims(t, "", true, "one", none)
		s.claims(t, "b", false, "one", none)
		s.releases(t, "")
		s.claims(t, "b", true, "one", none)
	},
	"keys are apart": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", false, "one", none)
		s.ends(t, "end", "one")
		s.claims(t, "a", true, "one", "end")
		for _, other := range []string{key + "0", "{" + key + "}", key + "}:value", "{}" + string(binary), ""} {
			if _, isCluster := s.client.(*redis.ClusterClient); isCluster && other != key+"0" {
				continue // those are no hashes; a Cluster would take them apart
			}
			value, end, claimed, err := s.Claim(t.Context(), other, "b", lease)
			require.NoError(t, err)
			require.Nil(t, value)
			require.Nil(t, end)
			require.True(t, claimed)
		}
	},
	"of a hundred at once one has the lease": func(t *testing.T, s contractStore) {
		var won atomic.Int32
		atOnce(100, func(i int) {
			_, _, claimed, err := s.Claim(t.Context(), key, fmt.Sprint("owner ", i), lease)
			assert.NoError(t, err)
			if claimed {
				won.Add(1)
			}
		})
		assert.EqualValues(t, 1, won.Load())
	},
	"of a hundred values at once one stays, and all learn which": func(t *testing.T, s contractStore) {
		var stored sync.Map
		atOnce(100, func(i int) {
			now, _, err := s.Put(t.Context(), key, "a", fmt.Append(nil, "value ", i), ttl, false)
			assert.NoError(t, err)
			stored.Store(string(now), true)
		})
		all := maps.Collect(stored.Range)
		require.Len(t, all, 1)
		for value := range all {
			s.holds(t, value.(string), none)
		}
	},
	"of a logout and a publish at once one at least learns of the other": func(t *testing.T, s contractStore) {
		for range 50 {
			var end, value []byte
			atOnce(2, func(i int) {
				var err error
				if i == 0 {
					_, end, err = s.Put(t.Context(), key, "a", []byte("one"), ttl, false)
				} else {
					value, err = s.End(t.Context(), key, []byte("end"), ttl)
				}
				assert.NoError(t, err)
			})
			require.True(t, end != nil || value != nil)
			s.holds(t, "one", "end")
			require.NoError(t, s.client.FlushAll(t.Context()).Err())
		}
	},
	"everything is under the prefix": func(t *testing.T, s contractStore) {
		s.puts(t, "a", "one", false, "one", none)
		s.ends(t, "end", "one")
		s.claims(t, "a", true, "one", "end")
		keys, err := s.client.Keys(t.Context(), "*").Result()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{nameOf("value"), nameOf("end"), nameOf("lease")}, keys)

		mine := descoperedis.NewRefreshStore(s.client, "mine/")
		value, _, claimed, err := mine.Claim(t.Context(), key, "b", lease)
		require.NoError(t, err)
		require.Nil(t, value)
		require.True(t, claimed, "another prefix is another store")
		require.EqualValues(t, 1, s.client.Exists(t.Context(), "mine/refresh:{"+key+"}:lease").Val())
	},
	"a Redis that forgot its scripts is told again": func(t *testing.T, s contractStore) {
		for range 2 {
			s.holds(t, none, none)
			s.claims(t, "a", true, none, none)
			s.releases(t, "a")
			s.ends(t, "end", none)
			s.puts(t, "a", "one", false, "one", "end")
			require.NoError(t, s.client.FlushAll(t.Context()).Err())
			require.NoError(t, s.client.ScriptFlush(t.Context()).Err())
		}
	},
	"what others left in a slot is an error, and nothing is done by halves": func(t *testing.T, s contractStore) {
		reads := map[string]string{
			"load": "value end", "claim": "value end lease", "put": "value end lease", "end": "value end", "release": "lease",
		}
		for _, foreign := range []string{"value", "end", "lease"} {
			for op, call := range refreshCalls(s.RefreshStore, lease, key) {
				require.NoError(t, s.client.FlushAll(t.Context()).Err())
				require.NoError(t, s.client.SAdd(t.Context(), nameOf(foreign), "one").Err())
				err := call(t.Context())
				if !strings.Contains(reads[op], foreign) {
					require.NoError(t, err, "%s with a foreign %s", op, foreign)
					continue
				}
				require.Error(t, err, "%s with a foreign %s", op, foreign)
				require.Regexp(t, "^descoperedis: "+op+": Redis answered (WRONGTYPE|ERR)$", err.Error())
				require.EqualValues(t, 1, s.client.DBSize(t.Context()).Val(), "%s with a foreign %s", op, foreign)
			}
		}
		require.NoError(t, s.client.FlushAll(t.Context()).Err())
	},
}

// parts are the whole contract.
var parts = map[string]contract{
	"load": loadContract, "claim": claimContract, "put": putContract, "end": endContract,
	"release": releaseContract, "general": generalContract,
}

// TestContract holds the store to what its methods say.
func TestContract(t *testing.T) {
	for part, tests := range parts {
		for name, test := range tests {
			t.Run(part+"/"+name, func(t *testing.T) {
				t.Parallel()
				forEachRedis(t, func(t *testing.T, client *redis.Client, elapse func(time.Duration)) {
					keeps(t, test, client, client, elapse)
				})
			})
		}
	}
}

// All of it holds too when the first answer to each command is lost and the command is
// sent once more, as clients do when a connection breaks.
func TestContractWithLostAnswers(t *testing.T) {
	for part, tests := range parts {
		for name, test := range tests {
			t.Run(part+"/"+name, func(t *testing.T) {
				t.Parallel()
				forEachRedis(t, func(t *testing.T, client *redis.Client, elapse func(time.Duration)) {
					forgetful := clientOf(t, client.Options().Addr)
					forgetful.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
						_ = next(ctx, cmd)
						return next(ctx, cmd)
					}))
					keeps(t, test, forgetful, client, elapse)
				})
			})
		}
	}
}

// A Cluster refuses scripts whose keys are not in one of its slots.
func TestContractInACluster(t *testing.T) {
	client := startCluster(t)
	for part, tests := range parts {
		for name, test := range tests {
			t.Run(part+"/"+name, func(t *testing.T) {
				require.NoError(t, client.FlushAll(t.Context()).Err())
				keeps(t, test, client, client, func(time.Duration) {})
			})
		}
	}
}

// What a key holds lies where its hash alone says, by the rule of Redis: CRC16 of what
// is in the braces.
func TestSlotsOfOneKeyAreTogether(t *testing.T) {
	client := startCluster(t)
	for i := range 50 {
		key := fmt.Sprintf("%064x", i)
		require.NoError(t, client.FlushAll(t.Context()).Err())
		for op, call := range refreshCalls(descoperedis.NewRefreshStore(client, fmt.Sprint("prefix ", i)), lease, key) {
			if op != "release" {
				require.NoError(t, call(t.Context()), op)
			}
		}
		names, err := client.Keys(t.Context(), "*").Result()
		require.NoError(t, err)
		require.Len(t, names, 3)
		for _, name := range names {
			slot, err := client.ClusterKeySlot(t.Context(), name).Result()
			require.NoError(t, err)
			require.EqualValues(t, crc16(key)%16384, slot, name)
		}
	}
}

// crc16 is the checksum that a Cluster puts keys in slots by (XMODEM).
func crc16(s string) (sum uint16) {
	for _, b := range []byte(s) {
		sum ^= uint16(b) << 8
		for range 8 {
			carry := sum&0x8000 != 0
			sum <<= 1
			if carry {
				sum ^= 0x1021
			}
		}
	}
	return sum
}

// Redis counts in milliseconds and refuses a time of 0.
func TestTimesAreRoundedUp(t *testing.T) {
	t.Parallel()
	client := clientOf(t, miniredis.RunT(t).Addr())
	store := descoperedis.NewRefreshStore(client, "")
	for d, want := range map[time.Duration]time.Duration{
		-time.Hour: time.Millisecond, 0: time.Millisecond, 1: time.Millisecond, time.Millisecond: time.Millisecond,
		time.Millisecond + 1: 2 * time.Millisecond, time.Minute + 1: time.Minute + time.Millisecond, time.Minute: time.Minute,
	} {
		require.NoError(t, client.FlushAll(t.Context()).Err())
		_, _, err := store.Put(t.Context(), key, "a", []byte("one"), d, false)
		require.NoError(t, err)
		_, err = store.End(t.Context(), key, []byte("end"), d)
		require.NoError(t, err)
		_, _, _, err = store.Claim(t.Context(), key, "a", d)
		require.NoError(t, err)
		for _, slot := range []string{"value", "end", "lease"} {
			require.Equal(t, want, client.PTTL(t.Context(), nameOf(slot)).Val(), "%s of %v", slot, d)
		}
	}
}

// keeps runs a test of the contract, after which all that is left has a time.
func keeps(t *testing.T, test func(*testing.T, contractStore), client, other redis.UniversalClient, elapse func(time.Duration)) {
	t.Helper()
	test(t, contractStore{descoperedis.NewRefreshStore(client, ""), other, elapse})
	keys, err := other.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		// -2 is a key that has ended meanwhile, -1 one that never does.
		require.NotEqual(t, time.Duration(-1), other.PTTL(t.Context(), key).Val(), "%s never ends", key)
	}
}
