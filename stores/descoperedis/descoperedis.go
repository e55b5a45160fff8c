// Package descoperedis lets the replicas of a server share through Redis what
// descopehttp has to remember of sessions: what a spent refresh token became, and
// which ones were logged out.
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	a, err := descopehttp.New(descopehttp.Config{
//		ProjectID:    "P2…",
//		RefreshStore: descoperedis.NewRefreshStore(client, ""),
//	})
//
// Any Redis from version 6 on serves, alone, behind Sentinel or as a Cluster, and
// so does what speaks its protocol and runs its scripts. What a RefreshStore keeps
// ends after ten minutes, but for the note since when there is something to keep;
// what an AttemptStore keeps, after a day, and networks that users signed in from,
// after 90 days. It needs no persistence: after a restart that lost all, guesses are
// counted from 0, and users are strangers in their own network until they sign in
// again. Do not let it evict keys at will: its policy
// should be noeviction, which answers an error when memory is full. A result that
// is evicted early costs its user a second refresh, and with it perhaps the session;
// a count that is evicted is one that can be guessed against anew, and whoever
// invents login ids can bring that about.
//
// Each call is one script on one key. Whoever may write to the keys can make
// sessions renew badly; whoever can only read learns nothing of use, because
// descopehttp seals what it stores.
package descoperedis

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/descopehttp/descopehttp"
)

// defaultPrefix begins every key of a store that was given no other prefix.
const defaultPrefix = "descopehttp:"

// A RefreshStore is a [descopehttp.RefreshStore] in Redis. It is safe for
// concurrent use, and all replicas of a server use the same Redis and prefix.
//
// No method outlasts its context, even if the client was made without
// ContextTimeoutEnabled. A call that was abandoned this way may still be carried
// out, and holds its connection until the client's ReadTimeout; with
// ContextTimeoutEnabled it gives the connection up at once.
//
// Calls that the client repeats because a connection broke do no harm: the second
// one finds what the first one did and says the same.
//
// Errors quote neither keys nor values. [errors.Is] and [errors.As] find the
// cause, whose own text may.
type RefreshStore struct {
	client redis.UniversalClient
	prefix string
}

var _ descopehttp.RefreshStore = (*RefreshStore)(nil)

// NewRefreshStore returns a store that keeps everything under keys that begin
// with prefix, or with "descopehttp:" if prefix is empty. It makes no call. The
// client stays the caller's, who closes it when no request is under way any
// more; it must not be nil.
func NewRefreshStore(client redis.UniversalClient, prefix string) *RefreshStore {
	return &RefreshStore{client: required(client), prefix: prefixOf(prefix) + "refresh:"}
}

func required(client redis.UniversalClient) redis.UniversalClient {
	if client == nil {
		panic("descoperedis: client is nil")
	}
	return client
}

func prefixOf(prefix string) string {
	if prefix == "" {
		return defaultPrefix
	}
	return prefix
}

// What a key holds is told by its first byte. Value and lease share a key, so
// that they are in one slot of a Cluster and change in one step.
const (
	kindLease = "L" // followed by the owner
	kindValue = "V" // followed by the value
	kindFinal = "F" // followed by a value that is never replaced
)

// Numbers that scripts answer with; what is no number is what the key holds.
const (
	answerNo  = int64(0)
	answerYes = int64(1)
)

// ARGV: the lease, its length in milliseconds. An owner that has the lease already
// asks because the first answer was lost, and gets it for the whole time anew.
var claimScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if not held or held == ARGV[1] then
	redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
	return 1
end
if string.sub(held, 1, 1) == 'L' then
	return 0
end
return held
`)

// ARGV: the kind and value, its time in milliseconds.
var putScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
local kind = held and string.sub(held, 1, 1) or 'L'
if kind == 'L' or (kind == 'V' and string.sub(ARGV[1], 1, 1) == 'F') then
	redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
	return 1
end
return held
`)

// ARGV: the lease.
var releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
	redis.call('DEL', KEYS[1])
end
return 1
`)

// Claim implements [descopehttp.RefreshStore]. An owner that holds the lease
// already holds it for the whole of lease again.
func (s *RefreshStore) Claim(ctx context.Context, key, owner string, lease time.Duration) (value []byte, claimed bool, err error) {
	answer, err := run(ctx, s.client, "claim", claimScript, s.prefix+key, kindLease+owner, milliseconds(lease))
	switch {
	case err != nil:
		return nil, false, err
	case answer == answerYes:
		return nil, true, nil
	case answer == answerNo:
		return nil, false, nil
	}
	value, err = valueIn("claim", answer)
	return value, false, err
}

// Put implements [descopehttp.RefreshStore]. A final value that meets another
// final one is not stored; the other is returned and keeps its time.
func (s *RefreshStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration, final bool) (stored []byte, err error) {
	kind := kindValue
	if final {
		kind = kindFinal
	}
	answer, err := run(ctx, s.client, "put", putScript, s.prefix+key, kind+string(value), milliseconds(ttl))
	switch {
	case err != nil:
		return nil, err
	case answer == answerYes:
		return value, nil
	}
	return valueIn("put", answer)
}

// Release implements [descopehttp.RefreshStore].
func (s *RefreshStore) Release(ctx context.Context, key, owner string) error {
	_, err := run(ctx, s.client, "release", releaseScript, s.prefix+key, kindLease+owner)
	return err
}

// valueIn returns the value that a key holds. It is never nil, so that an empty
// value differs from none.
func valueIn(op string, answer any) ([]byte, error) {
	held, _ := answer.(string)
	if !strings.HasPrefix(held, kindValue) && !strings.HasPrefix(held, kindFinal) {
		return nil, &callError{op: op, cause: errUnexpected}
	}
	return []byte(held[1:]), nil
}

// milliseconds rounds up, and to no less than one: Redis refuses a time of 0.
func milliseconds(d time.Duration) int64 {
	return max(1, int64((d+time.Millisecond-1)/time.Millisecond))
}

var (
	errUnexpected = errors.New("unexpected answer")
	errPanic      = errors.New("the client panicked")
)

// run runs a script on one key and returns when it has ended or ctx has.
//
// The call is made in a goroutine of its own, because go-redis reads its answer
// without looking at the context: at its deadline only with ContextTimeoutEnabled,
// at its cancellation never. There are no more such goroutines left behind than
// the client has connections: to wait for one, go-redis does look at the context.
func run(ctx context.Context, client redis.UniversalClient, op string, script *redis.Script, key string, args ...any) (any, error) {
	type result struct {
		answer any
		err    error
	}
	results := make(chan result, 1)
	go func() {
		// A panic in a hook of the client would end the process here, where
		// nobody else can recover.
		defer func() {
			if recover() != nil {
				results <- result{err: errPanic}
			}
		}()
		answer, err := script.Run(ctx, client, []string{key}, args...).Result()
		results <- result{answer, err}
	}()
	select {
	case r := <-results:
		if r.err != nil {
			return nil, &callError{op: op, cause: r.err}
		}
		return r.answer, nil
	case <-ctx.Done():
		return nil, &callError{op: op, cause: ctx.Err()}
	}
}

// A callError is a call that failed. Its text names the cause as far as that is
// certain to quote no key and no value: go-redis quotes what it cannot parse.
type callError struct {
	op    string
	cause error
}

// Error returns what failed and why.
func (e *callError) Error() string { return "descoperedis: " + e.op + ": " + reasonOf(e.cause) }

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.cause }

func reasonOf(err error) string {
	var network *net.OpError
	var reply redis.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "Redis did not answer in time"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, redis.ErrClosed), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted),
		errors.Is(err, errPanic), errors.Is(err, errUnexpected):
		return err.Error()
	case errors.As(err, &network):
		return network.Error() // addresses and what the system says
	case errors.As(err, &reply):
		return "Redis answered " + codeOf(reply)
	}
	return "connection failed"
}

// codeOf returns the first word of an error that Redis answered, such as OOM or
// NOAUTH. The rest is for people and may quote the call.
func codeOf(reply redis.Error) string {
	code, _, _ := strings.Cut(reply.Error(), " ")
	if code == "" || len(code) > 32 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "an error"
	}
	return code
}
