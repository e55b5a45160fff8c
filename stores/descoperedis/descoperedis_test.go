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
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/redistest"
	"github.com/descopehttp/descopehttp/stores/descoperedis"
)

const (
	key   = "0123abcd"
	lease = time.Minute
	ttl   = 10 * time.Minute
)

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

// refreshCalls are the calls of a RefreshStore.
func refreshCalls(s *descoperedis.RefreshStore, d time.Duration, key string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"load": func(ctx context.Context) error {
			_, _, err := s.Load(ctx, key)
			return err
		},
		"claim": func(ctx context.Context) error {
			_, _, _, err := s.Claim(ctx, key, "owner", d)
			return err
		},
		"put": func(ctx context.Context) error {
			_, _, err := s.Put(ctx, key, "other", []byte("value"), d, false)
			return err
		},
		"end": func(ctx context.Context) error {
			_, err := s.End(ctx, key, []byte("end"), d)
			return err
		},
		"release": func(ctx context.Context) error {
			return s.Release(ctx, key, "owner")
		},
	}
}

// calls are all calls there are, to be made in trouble.
func calls(client redis.UniversalClient) map[string]func(context.Context) error {
	all := refreshCalls(descoperedis.NewRefreshStore(client, ""), ttl, key)
	attempts := descoperedis.NewAttemptStore(client, "")
	all["add"] = func(ctx context.Context) error {
		_, _, err := attempts.Add(ctx, key, 1, ttl)
		return err
	}
	return all
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
		_, _, _, err := store.Claim(within(t, 50*time.Millisecond), key, "owner", lease)
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
	return strings.Count(stacks.String(), "\ngithub.com/descopehttp/descopehttp/stores/descoperedis.runKeys.func1(")
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
	// After many failures the client looks only once a second.
	for op, call := range calls(client) {
		eventually(t, op, func() bool { return call(within(t, patience)) == nil })
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

// Whoever has left a call may use its bytes again, although the call is still there.
func TestAbandonedCallsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	client := clientOf(t, miniredis.RunT(t).Addr())
	reused, sent := make(chan struct{}), make(chan error, 2)
	client.AddHook(hook(func(_ context.Context, cmd redis.Cmder, _ redis.ProcessHook) error {
		<-reused
		if strings.Contains(fmt.Sprintf("%s", cmd.Args()), "XXXX") {
			sent <- fmt.Errorf("%s sends what is not its own any more", cmd.Name())
		} else {
			sent <- nil
		}
		return redis.ErrClosed // which is not tried again
	}))
	store := descoperedis.NewRefreshStore(client, "")
	value := []byte("sealed")
	_, _, err := store.Put(within(t, 10*time.Millisecond), key, "a", value, ttl, false)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = store.End(within(t, 10*time.Millisecond), key, value, ttl)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	copy(value, "XXXXXX")
	close(reused)
	require.NoError(t, <-sent)
	require.NoError(t, <-sent)
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

// Redis that has no room left refuses what needs room. It does nothing by halves and
// goes on to tell what it has, logouts above all.
func TestRedisThatIsFull(t *testing.T) {
	t.Parallel()
	client := clientOf(t, redistest.Start(t).Addr)
	s := contractStore{RefreshStore: descoperedis.NewRefreshStore(client, ""), client: client}
	s.puts(t, "x", "one", false, "one", none)
	s.claims(t, "a", true, "one", none)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())

	_, _, err := s.Put(t.Context(), key, "a", []byte("two"), ttl, true)
	require.EqualError(t, err, "descoperedis: put: Redis answered OOM")
	_, err = s.End(t.Context(), key, []byte("end"), ttl)
	require.EqualError(t, err, "descoperedis: end: Redis answered OOM")
	_, _, _, err = s.Claim(t.Context(), key, "a", lease)
	require.EqualError(t, err, "descoperedis: claim: Redis answered OOM")
	s.holds(t, "one", none)
	s.claims(t, "b", false, "one", none)
	require.NoError(t, s.Release(t.Context(), key, "a"))
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	s.claims(t, "b", true, "one", none)
}

// What answers in place of Redis may answer anything.
func TestAnswersThatNoScriptGives(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]any{
		"nothing":          nil,
		"a text":           "0123abcd",
		"too few":          []any{"0123abcd", nil},
		"too many":         []any{nil, nil, int64(0), int64(0)},
		"a number as text": []any{nil, nil, "1"},
		"numbers":          []any{int64(1), nil, int64(0)},
		"a list as end":    []any{nil, []any{}, int64(0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := clientOf(t, miniredis.RunT(t).Addr())
			client.AddHook(hook(func(_ context.Context, cmd redis.Cmder, _ redis.ProcessHook) error {
				cmd.(*redis.Cmd).SetVal(reply)
				return nil
			}))
			for op, call := range calls(client) {
				require.EqualError(t, call(t.Context()), "descoperedis: "+op+": unexpected answer")
			}
		})
	}
}

func TestNoClient(t *testing.T) {
	require.PanicsWithValue(t, "descoperedis: client is nil", func() { descoperedis.NewRefreshStore(nil, "") })
	require.PanicsWithValue(t, "descoperedis: client is nil", func() { descoperedis.NewAttemptStore(nil, "") })
}
