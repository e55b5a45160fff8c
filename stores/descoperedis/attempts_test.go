package descoperedis_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/stores/descoperedis"
)

func TestAttemptStore(t *testing.T) {
	const window = time.Minute
	type fixture struct {
		*descoperedis.AttemptStore
		client *redis.Client
		elapse func(time.Duration)
	}
	// adds checks count and rest of the window; the rest is less than the whole
	// by what the test itself has taken.
	adds := func(t *testing.T, s fixture, delta, want int, most time.Duration) {
		t.Helper()
		count, reset, err := s.Add(t.Context(), key, delta, window)
		require.NoError(t, err)
		require.Equal(t, want, count)
		require.LessOrEqual(t, reset, most)
		require.Equal(t, want > 0, reset > 0)
	}

	tests := map[string]func(*testing.T, fixture){
		"counts up and down": func(t *testing.T, s fixture) {
			adds(t, s, 1, 1, window)
			adds(t, s, 1, 2, window)
			adds(t, s, 5, 7, window)
			adds(t, s, -3, 4, window)
		},
		"zero reads": func(t *testing.T, s fixture) {
			adds(t, s, 0, 0, 0)
			require.Zero(t, s.client.DBSize(t.Context()).Val(), "reading leaves nothing behind")
			adds(t, s, 2, 2, window)
			adds(t, s, 0, 2, window)
		},
		"never below zero": func(t *testing.T, s fixture) {
			adds(t, s, -1, 0, 0)
			adds(t, s, 2, 2, window)
			adds(t, s, -3, 0, 0)
			adds(t, s, 1, 1, window)
		},
		"a count of zero leaves nothing behind": func(t *testing.T, s fixture) {
			adds(t, s, 1, 1, window)
			adds(t, s, -1, 0, 0)
			require.Zero(t, s.client.DBSize(t.Context()).Val())
		},
		"the window begins with the first count": func(t *testing.T, s fixture) {
			_, reset, err := s.Add(t.Context(), key, 1, window)
			require.NoError(t, err)
			require.Equal(t, window, reset)
			count, reset, err := s.Add(t.Context(), key, 1, time.Hour)
			require.NoError(t, err)
			require.Equal(t, 2, count)
			require.LessOrEqual(t, reset, window, "later counts do not prolong it")
		},
		"the window ends": func(t *testing.T, s fixture) {
			_, _, err := s.Add(t.Context(), key, 3, 50*time.Millisecond)
			require.NoError(t, err)
			s.elapse(50 * time.Millisecond)
			eventually(t, "the count ends", func() bool {
				count, _, err := s.Add(t.Context(), key, 0, window)
				return assert.NoError(t, err) && count == 0
			})
			adds(t, s, 1, 1, window)
		},
		"keys count apart": func(t *testing.T, s fixture) {
			adds(t, s, 1, 1, window)
			count, _, err := s.Add(t.Context(), string(binary), 1, window)
			require.NoError(t, err)
			require.Equal(t, 1, count)
			other := descoperedis.NewAttemptStore(s.client, "other:")
			count, _, err = other.Add(t.Context(), key, 1, window)
			require.NoError(t, err)
			require.Equal(t, 1, count)
		},
		"a RefreshStore of the same prefix is not in the way": func(t *testing.T, s fixture) {
			adds(t, s, 1, 1, window)
			_, _, claimed, err := descoperedis.NewRefreshStore(s.client, "").Claim(t.Context(), key, "a", lease)
			require.NoError(t, err)
			require.True(t, claimed)
			adds(t, s, 1, 2, window)
		},
		"a hundred at once are a hundred": func(t *testing.T, s fixture) {
			var mu sync.Mutex
			counts := make(map[int]int)
			atOnce(100, func(int) {
				count, _, err := s.Add(t.Context(), key, 1, window)
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				counts[count]++
			})
			assert.Len(t, counts, 100, "each sees a count of its own, so a limit lets exactly that many through")
			adds(t, s, 0, 100, window)
		},
		"what others left under a key is an error": func(t *testing.T, s fixture) {
			require.NoError(t, s.client.Set(t.Context(), "descopehttp:attempts:"+key, "something else", window).Err())
			_, _, err := s.Add(t.Context(), key, 1, window)
			require.Error(t, err)
			require.False(t, strings.Contains(err.Error(), key))
		},
		"a key without a time does not count for ever": func(t *testing.T, s fixture) {
			require.NoError(t, s.client.Set(t.Context(), "descopehttp:attempts:"+key, 7, 0).Err())
			adds(t, s, 1, 1, window)
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachRedis(t, func(t *testing.T, client *redis.Client, elapse func(time.Duration)) {
				test(t, fixture{descoperedis.NewAttemptStore(client, ""), client, elapse})
			})
		})
	}
}
