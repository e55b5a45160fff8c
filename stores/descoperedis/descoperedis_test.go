package descoperedis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/redistest"
	"github.com/descopehttp/descopehttp/stores/descoperedis"
)

func Example() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "127.0.0.1:6379",
		ContextTimeoutEnabled: true, // give a connection up when the kit does
	})
	defer client.Close()

	a, err := descopehttp.New(descopehttp.Config{
		ProjectID:    "P2exampleexampleexampleexamp",
		RefreshStore: descoperedis.NewRefreshStore(client, ""),
	})
	fmt.Println(a, err)
	// Output: descopehttp.Auth(P2exampleexampleexampleexamp) <nil>
}

const (
	key   = "0123abcd"
	lease = time.Minute
	ttl   = time.Minute
)

// binary is what a sealed value looks like, and then some.
var binary = []byte("\x00\r\n$-1\r\n\xff\xfeLVF\x00")

// TestRefreshStore holds the store to the contract of descopehttp.RefreshStore.
func TestRefreshStore(t *testing.T) {
	type fixture struct {
		*descoperedis.RefreshStore
		client *redis.Client
		elapse func(time.Duration)
	}
	claims := func(t *testing.T, s fixture, owner string, want bool) {
		t.Helper()
		value, claimed, err := s.Claim(t.Context(), key, owner, lease)
		require.NoError(t, err)
		require.Nil(t, value)
		require.Equal(t, want, claimed)
	}
	finds := func(t *testing.T, s fixture, owner string, want []byte) {
		t.Helper()
		value, claimed, err := s.Claim(t.Context(), key, owner, lease)
		require.NoError(t, err)
		require.False(t, claimed, "a value is there: nobody has to work any more")
		require.NotNil(t, value)
		require.Equal(t, want, value)
	}
	puts := func(t *testing.T, s fixture, value string, final bool, want string) {
		t.Helper()
		stored, err := s.Put(t.Context(), key, []byte(value), ttl, final)
		require.NoError(t, err)
		require.Equal(t, []byte(want), stored)
	}
	expires := func(t *testing.T, s fixture, owner string) {
		t.Helper()
		eventually(t, "the key expires", func() bool {
			_, claimed, err := s.Claim(t.Context(), key, owner, lease)
			return assert.NoError(t, err) && claimed
		})
	}

	tests := map[string]func(*testing.T, fixture){
		"a lease is one owner's": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			claims(t, s, "b", false)
			claims(t, s, "c", false)
		},
		"an owner may ask again, and has the whole lease anew": func(t *testing.T, s fixture) {
			_, claimed, err := s.Claim(t.Context(), key, "a", 5*time.Second)
			require.NoError(t, err)
			require.True(t, claimed)
			claims(t, s, "a", true)
			assert.Greater(t, timeLeft(t, s.client), lease/2)
			claims(t, s, "b", false)
		},
		"asking does not prolong another's lease": func(t *testing.T, s fixture) {
			_, _, err := s.Claim(t.Context(), key, "a", 5*time.Second)
			require.NoError(t, err)
			claims(t, s, "b", false)
			assert.LessOrEqual(t, timeLeft(t, s.client), 5*time.Second)
		},
		"a lease ends by itself": func(t *testing.T, s fixture) {
			_, claimed, err := s.Claim(t.Context(), key, "a", 50*time.Millisecond)
			require.NoError(t, err)
			require.True(t, claimed)
			s.elapse(50 * time.Millisecond)
			expires(t, s, "b")
		},
		"a time too short for Redis is not refused": func(t *testing.T, s fixture) {
			_, claimed, err := s.Claim(t.Context(), key, "a", time.Microsecond)
			require.NoError(t, err)
			require.True(t, claimed)
			s.elapse(time.Millisecond)
			expires(t, s, "b")
		},
		"released by its owner, a lease is free": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			require.NoError(t, s.Release(t.Context(), key, "a"))
			claims(t, s, "b", true)
		},
		"released by a stranger, it is not": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			for _, stranger := range []string{"b", "", "A", "a ", "aa"} {
				require.NoError(t, s.Release(t.Context(), key, stranger))
			}
			claims(t, s, "b", false)
		},
		"release where there is nothing": func(t *testing.T, s fixture) {
			require.NoError(t, s.Release(t.Context(), key, "a"))
			claims(t, s, "b", true)
		},
		"release leaves values alone": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			puts(t, s, "one", false, "one")
			require.NoError(t, s.Release(t.Context(), key, "a"))
			finds(t, s, "b", []byte("one"))
		},
		"a value ends the lease, whoever put it": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			puts(t, s, "one", false, "one")
			finds(t, s, "a", []byte("one"))
			finds(t, s, "b", []byte("one"))
		},
		"a value needs no lease": func(t *testing.T, s fixture) {
			puts(t, s, "one", false, "one")
			finds(t, s, "a", []byte("one"))
		},
		"the first value stays": func(t *testing.T, s fixture) {
			puts(t, s, "one", false, "one")
			puts(t, s, "two", false, "one")
			finds(t, s, "a", []byte("one"))
		},
		"a final value replaces another": func(t *testing.T, s fixture) {
			puts(t, s, "one", false, "one")
			puts(t, s, "end", true, "end")
			finds(t, s, "a", []byte("end"))
		},
		"a final value ends a lease": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			puts(t, s, "end", true, "end")
			finds(t, s, "b", []byte("end"))
			puts(t, s, "one", false, "end")
		},
		"a final value is replaced by none": func(t *testing.T, s fixture) {
			puts(t, s, "end", true, "end")
			puts(t, s, "one", false, "end")
			puts(t, s, "other end", true, "end")
			require.NoError(t, s.Release(t.Context(), key, "a"))
			finds(t, s, "a", []byte("end"))
		},
		"a value ends by itself": func(t *testing.T, s fixture) {
			for _, final := range []bool{false, true} {
				_, err := s.Put(t.Context(), key, []byte("one"), 50*time.Millisecond, final)
				require.NoError(t, err)
				s.elapse(50 * time.Millisecond)
				expires(t, s, "a")
				require.NoError(t, s.Release(t.Context(), key, "a"))
			}
		},
		"a value has its own time, not the lease's": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			_, err := s.Put(t.Context(), key, []byte("one"), time.Hour, false)
			require.NoError(t, err)
			assert.Greater(t, timeLeft(t, s.client), 59*time.Minute)
			finds(t, s, "b", []byte("one"))
			puts(t, s, "two", false, "one")
			assert.Greater(t, timeLeft(t, s.client), 59*time.Minute, "neither a look nor a value that is not stored changes it")
			puts(t, s, "end", true, "end")
			assert.LessOrEqual(t, timeLeft(t, s.client), ttl)
			_, err = s.Put(t.Context(), key, []byte("late end"), time.Hour, true)
			require.NoError(t, err)
			assert.LessOrEqual(t, timeLeft(t, s.client), ttl)
		},
		"bytes come back as they went in": func(t *testing.T, s fixture) {
			for _, value := range [][]byte{binary, {}, {0}, []byte("L"), []byte("La"), bytes.Repeat(binary, 4<<10)} {
				for _, final := range []bool{false, true} {
					stored, err := s.Put(t.Context(), key, value, ttl, final)
					require.NoError(t, err)
					require.True(t, bytes.Equal(value, stored))
					found, claimed, err := s.Claim(t.Context(), key, "a", lease)
					require.NoError(t, err)
					require.False(t, claimed)
					require.NotNil(t, found, "an empty value is a value")
					require.True(t, bytes.Equal(value, found))
				}
				require.NoError(t, s.client.FlushAll(t.Context()).Err())
			}
		},
		"owners and keys of any bytes": func(t *testing.T, s fixture) {
			odd := "{" + string(binary) + "}"
			_, claimed, err := s.Claim(t.Context(), odd, odd, lease)
			require.NoError(t, err)
			require.True(t, claimed)
			_, claimed, err = s.Claim(t.Context(), odd, "b", lease)
			require.NoError(t, err)
			require.False(t, claimed)
			claims(t, s, "b", true)
			require.NoError(t, s.Release(t.Context(), odd, odd))
			_, claimed, err = s.Claim(t.Context(), odd, "b", lease)
			require.NoError(t, err)
			require.True(t, claimed)
		},
		"of a hundred at once one has the lease": func(t *testing.T, s fixture) {
			var won atomic.Int32
			atOnce(100, func(i int) {
				value, claimed, err := s.Claim(t.Context(), key, fmt.Sprint("owner ", i), lease)
				assert.NoError(t, err)
				assert.Nil(t, value)
				if claimed {
					won.Add(1)
				}
			})
			assert.EqualValues(t, 1, won.Load())
		},
		"of a hundred values at once one stays, and all learn which": func(t *testing.T, s fixture) {
			var stored sync.Map
			atOnce(100, func(i int) {
				value, err := s.Put(t.Context(), key, fmt.Append(nil, "value ", i), ttl, false)
				assert.NoError(t, err)
				stored.Store(string(value), true)
			})
			var all []string
			stored.Range(func(value, _ any) bool { all = append(all, value.(string)); return true })
			require.Len(t, all, 1)
			finds(t, s, "a", []byte(all[0]))
		},
		"everything is under the prefix": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			mine := descoperedis.NewRefreshStore(s.client, "mine/")
			_, claimed, err := mine.Claim(t.Context(), key, "b", lease)
			require.NoError(t, err)
			require.True(t, claimed, "another prefix is another store")
			keys, err := s.client.Keys(t.Context(), "*").Result()
			require.NoError(t, err)
			require.ElementsMatch(t, []string{"descopehttp:refresh:" + key, "mine/refresh:" + key}, keys)
		},
		"a Redis that forgot its scripts is told again": func(t *testing.T, s fixture) {
			claims(t, s, "a", true)
			require.NoError(t, s.client.ScriptFlush(t.Context()).Err())
			claims(t, s, "b", false)
			puts(t, s, "one", false, "one")
			require.NoError(t, s.client.ScriptFlush(t.Context()).Err())
			require.NoError(t, s.Release(t.Context(), key, "a"))
		},
		"what others left under a key is an error": func(t *testing.T, s fixture) {
			require.NoError(t, s.client.Set(t.Context(), redisKey, "something else", 0).Err())
			_, _, err := s.Claim(t.Context(), key, "a", lease)
			require.EqualError(t, err, "descoperedis: claim: unexpected answer")
			_, err = s.Put(t.Context(), key, []byte("one"), ttl, true)
			require.EqualError(t, err, "descoperedis: put: unexpected answer")
			require.NoError(t, s.client.Del(t.Context(), redisKey).Err())
			require.NoError(t, s.client.SAdd(t.Context(), redisKey, "one").Err())
			_, _, err = s.Claim(t.Context(), key, "a", lease)
			require.Error(t, err)
			require.NotContains(t, err.Error(), key)
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachRedis(t, func(t *testing.T, client *redis.Client, elapse func(time.Duration)) {
				test(t, fixture{descoperedis.NewRefreshStore(client, ""), client, elapse})
			})
		})
	}
}

// redisKey is where the store keeps key.
const redisKey = "descopehttp:refresh:" + key

func timeLeft(t *testing.T, client *redis.Client) time.Duration {
	t.Helper()
	left, err := client.PTTL(t.Context(), redisKey).Result()
	require.NoError(t, err)
	require.Positive(t, left, "everything in the store expires")
	return left
}

// atOnce runs f n times at once.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// calls are all calls there are, to be made in trouble.
func calls(client redis.UniversalClient) map[string]func(context.Context) error {
	refreshes := descoperedis.NewRefreshStore(client, "")
	attempts := descoperedis.NewAttemptStore(client, "")
	return map[string]func(context.Context) error{
		"claim": func(ctx context.Context) error {
			_, _, err := refreshes.Claim(ctx, key, "owner", lease)
			return err
		},
		"put": func(ctx context.Context) error {
			_, err := refreshes.Put(ctx, key, []byte("value"), ttl, false)
			return err
		},
		"release": func(ctx context.Context) error {
			return refreshes.Release(ctx, key, "owner")
		},
		"add": func(ctx context.Context) error {
			_, _, err := attempts.Add(ctx, key, 1, ttl)
			return err
		},
	}
}

func TestNoCallOutlastsItsContext(t *testing.T) {
	t.Parallel()
	addr := silentAddr(t)
	for name, enabled := range map[string]bool{"ContextTimeoutEnabled": true, "default client": false} {
		for op, call := range calls(newSilentClient(t, addr, enabled)) {
			t.Run(name+"/"+op, func(t *testing.T) {
				t.Parallel()
				start := time.Now()
				err := call(within(t, 100*time.Millisecond))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Less(t, time.Since(start), 2*time.Second, "the client's own timeout is 5 s")
				assert.EqualError(t, err, "descoperedis: "+op+": Redis did not answer in time")

				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(50*time.Millisecond, cancel)
				err = call(ctx)
				require.ErrorIs(t, err, context.Canceled)
				assert.Less(t, time.Since(start), 4*time.Second)

				require.ErrorIs(t, call(ctx), context.Canceled, "a context that has ended already")
			})
		}
	}
}

func newSilentClient(t *testing.T, addr string, contextTimeout bool) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: contextTimeout})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// A connection that has served and then hangs is another path through the client
// than one that never answered.
func TestRedisThatHangs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	client := clientOf(t, s.Addr)
	admin := clientOf(t, s.Addr)
	for _, call := range calls(client) {
		require.NoError(t, call(within(t, patience)))
	}
	require.NoError(t, admin.Do(t.Context(), "CLIENT", "PAUSE", "60000", "ALL").Err())
	for op, call := range calls(client) {
		start := time.Now()
		require.ErrorIs(t, call(within(t, 100*time.Millisecond)), context.DeadlineExceeded, op)
		assert.Less(t, time.Since(start), 2*time.Second, op)
	}
}

// What is left behind of calls that were abandoned is bounded by the client's
// connections while Redis hangs, and goes when its ReadTimeout has passed.
func TestAbandonedCallsAreBounded(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: silentAddr(t), PoolSize: 3, ReadTimeout: time.Second})
	defer client.Close()
	store := descoperedis.NewRefreshStore(client, "")
	atOnce(100, func(i int) {
		_, _, err := store.Claim(within(t, 50*time.Millisecond), key, "owner", lease)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
	eventually(t, "those that waited for a connection leave", func() bool { return abandoned(t) <= 3 })
	eventually(t, "the others leave", func() bool { return abandoned(t) == 0 })
}

// abandoned counts the goroutines that are in a call of the package's own.
func abandoned(t *testing.T) int {
	t.Helper()
	var stacks bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&stacks, 2))
	return strings.Count(stacks.String(), "\ngithub.com/descopehttp/descopehttp/stores/descoperedis.run.func1(")
}

func TestRedisThatIsGone(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	client := clientOf(t, s.Addr)
	for op, call := range calls(client) {
		require.NoError(t, call(within(t, patience)), op)
	}
	s.Kill()
	t.Run("calls", func(t *testing.T) {
		for op, call := range calls(client) {
			t.Run(op, func(t *testing.T) {
				t.Parallel()
				err := call(within(t, patience))
				require.Error(t, err)
				require.NotErrorIs(t, err, context.DeadlineExceeded, "the client gives up before")
				var network net.Error
				require.ErrorAs(t, err, &network)
				assert.Contains(t, err.Error(), "refused", "an operator has to see what it is")
				assert.NotContains(t, err.Error(), key)
			})
		}
	})
	require.True(t, s.Restart(), "redis-server does not start again")
	for op, call := range calls(client) {
		require.NoError(t, call(within(t, patience)), op)
	}
}

func TestClosedClient(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	require.NoError(t, client.Close())
	for op, call := range calls(client) {
		require.EqualError(t, call(t.Context()), "descoperedis: "+op+": redis: client is closed")
	}
}

// hook is a user's hook into the client.
type hook func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h(ctx, cmd, next) }
}

// A panic in the store's goroutine would end the process.
func TestHookThatPanics(t *testing.T) {
	t.Parallel()
	client := clientOf(t, miniredis.RunT(t).Addr())
	client.AddHook(hook(func(context.Context, redis.Cmder, redis.ProcessHook) error { panic(key) }))
	for op, call := range calls(client) {
		require.EqualError(t, call(t.Context()), "descoperedis: "+op+": the client panicked")
	}
}

// What Redis or the client quotes of a call stays out of the error's text.
func TestErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cause error
		text  string
	}{
		"reply with a code":     {reply("OOM command not allowed, key '0123abcd'"), "Redis answered OOM"},
		"reply without a code":  {reply("0123abcd is no key of yours"), "Redis answered an error"},
		"reply that is the key": {reply("0123abcd"), "Redis answered an error"},
		"what does not parse":   {errors.New(`redis: can't parse "0123abcd"`), "connection failed"},
		"wrapped reply":         {fmt.Errorf("hook saw 0123abcd: %w", reply("NOAUTH Authentication required.")), "Redis answered NOAUTH"},
		"wrapped deadline":      {fmt.Errorf("0123abcd: %w", context.DeadlineExceeded), "Redis did not answer in time"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := clientOf(t, miniredis.RunT(t).Addr())
			client.AddHook(hook(func(_ context.Context, cmd redis.Cmder, _ redis.ProcessHook) error {
				cmd.SetErr(test.cause)
				return test.cause
			}))
			for op, call := range calls(client) {
				err := call(t.Context())
				require.EqualError(t, err, "descoperedis: "+op+": "+test.text)
				require.NotContains(t, fmt.Sprintf("%+v", err), key)
				require.ErrorIs(t, err, test.cause)
			}
		})
	}
}

// reply is an error that Redis answers.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// The client repeats a call whose connection broke before the answer came.
func TestRepeatedCallsDoNoHarm(t *testing.T) {
	t.Parallel()
	forEachRedis(t, func(t *testing.T, client *redis.Client, _ func(time.Duration)) {
		client.AddHook(hook(func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			_ = next(ctx, cmd)
			return next(ctx, cmd)
		}))
		store := descoperedis.NewRefreshStore(client, "")
		_, claimed, err := store.Claim(t.Context(), key, "a", lease)
		require.NoError(t, err)
		require.True(t, claimed)
		require.NoError(t, store.Release(t.Context(), key, "a"))
		for _, final := range []bool{false, true} {
			value := fmt.Append(nil, "value ", final)
			stored, err := store.Put(t.Context(), key, value, ttl, final)
			require.NoError(t, err)
			require.Equal(t, value, stored)
		}
	})
}

func TestNoClient(t *testing.T) {
	require.PanicsWithValue(t, "descoperedis: client is nil", func() { descoperedis.NewRefreshStore(nil, "") })
	require.PanicsWithValue(t, "descoperedis: client is nil", func() { descoperedis.NewAttemptStore(nil, "") })
}
