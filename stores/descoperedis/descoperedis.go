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
// so does what speaks its protocol and runs its scripts. What a RefreshStore keeps of
// sessions ends after ten minutes at most, with about 3 KB for each user who was
// active in them; beside it is one note since when there is something to keep. What an
// AttemptStore keeps ends after a day, and networks that users signed in from after 90
// days. Nothing is kept without an end. It needs no persistence: after a restart that
// lost all, guesses are counted from 0, and users are strangers in their own network
// until they sign in again. Do not let it evict keys at will: its policy should be
// noeviction, which answers an error when memory is full. A result that is evicted
// early costs its user a second refresh, and with it perhaps the session; a count that
// is evicted is one that can be guessed against anew, and whoever invents login ids
// can bring that about.
//
// Each call is one script: of a RefreshStore on the three slots of one key, a value,
// an end and a lease, which a Cluster keeps together; of an AttemptStore on one key.
// Whoever may write to the keys can make sessions renew badly; whoever can only read
// learns nothing of use, because descopehttp seals what it stores.
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

// A RefreshStore keeps in Redis what became of refresh tokens, under keys that are
// hashes. A key has three slots: a value, an end (the mark of a logout) and a lease.
// They do not hide or end each other, except that Put ends its owner's lease, and each
// has a time of its own. It is safe for concurrent use, and all replicas of a server
// use the same Redis and prefix.
//
// No method outlasts its context, even if the client was made without
// ContextTimeoutEnabled. A call that was abandoned this way may still be carried
// out, and holds its connection until the client's ReadTimeout; with
// ContextTimeoutEnabled it gives the connection up at once.
//
// Calls that are repeated because an answer was lost, by the client or by the caller,
// do no harm: the second one finds what the first one did and says the same.
//
// Errors quote neither keys nor values. [errors.Is] and [errors.As] find the
// cause, whose own text may.
type RefreshStore struct {
	client redis.UniversalClient
	prefix string
}

var _ descopehttp.RefreshStore = (*RefreshStore)(nil)

// NewRefreshStore returns a store that keeps everything under keys that begin
// with prefix, or with "descopehttp:" if prefix is empty. It makes no call. For a
// Cluster the prefix must not contain "{}", which takes the three slots of a key apart.
// The client stays the caller's, who closes it when no request is under way any
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

// names returns where the three slots of key are: value, end, lease. The braces make
// a Redis Cluster hash the key alone, so that one script may touch all three.
func (s *RefreshStore) names(key string) []string {
	tagged := s.prefix + "{" + key + "}:"
	return []string{tagged + "value", tagged + "end", tagged + "lease"}
}

// KEYS of each script: value, end and lease of one key. Each answers {value, end,
// flag}, with false, which arrives as nil, for a slot that is empty.
//
// They read everything before they write anything, and write what a full Redis may
// refuse before what it never does: a script that fails has changed nothing.

// A script although MGET would do: a client may be told to send what only reads to a
// replica, which may not have the last logout yet. It sends no script there.
var loadScript = redis.NewScript(`
return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), 0}
`)

// ARGV: the owner, the lease's length in milliseconds. An owner that has the lease
// already may ask because the first answer was lost, or to keep it.
var claimScript = redis.NewScript(`
local value, ended, holder = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3])
local claimed = 0
if not holder or holder == ARGV[1] then
	redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
	claimed = 1
end
return {value, ended, claimed}
`)

// ARGV: the owner, the value, its time in milliseconds, 1 if it may replace another.
// A value that was stored is not sent back.
var putScript = redis.NewScript(`
local value, ended, holder = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3])
local stored = 0
if not value or ARGV[4] == '1' then
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
	value, stored = false, 1
end
if holder == ARGV[1] then
	redis.call('DEL', KEYS[3])
end
return {value, ended, stored}
`)

// ARGV: the end, its time in milliseconds. PEXPIRE does nothing where nothing is.
var endScript = redis.NewScript(`
local value, ended = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not ended then
	redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
for slot = 1, 2 do
	if redis.call('PTTL', KEYS[slot]) < tonumber(ARGV[2]) then
		redis.call('PEXPIRE', KEYS[slot], ARGV[2])
	end
end
return {value, false, 0}
`)

// ARGV: the owner.
var releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[3]) == ARGV[1] then
	redis.call('DEL', KEYS[3])
end
return {false, false, 0}
`)

// Load returns value and end of key, each nil where there is none. It changes
// nothing.
func (s *RefreshStore) Load(ctx context.Context, key string) (value, end []byte, err error) {
	a, err := s.call(ctx, "load", loadScript, key)
	return a.value, a.end, err
}

// Claim returns what Load does, and takes the lease on key for owner if nobody has
// it. An owner that has it already has it for the whole of lease again. Claimed
// tells whether owner has it now: with a value or an end beside it just as without.
func (s *RefreshStore) Claim(ctx context.Context, key, owner string, lease time.Duration) (value, end []byte, claimed bool, err error) {
	a, err := s.call(ctx, "claim", claimScript, key, owner, milliseconds(lease))
	return a.value, a.end, a.flag, err
}

// Put stores value until ttl has passed and ends the lease if it is owner's. A value
// that is there already stays, with its time, unless over is true. Now is the value
// that is there now, end the end beside it, which hinders nothing.
//
// The same Put once more says the same. One with over replaces once more, and so also
// what another owner stored between the two.
func (s *RefreshStore) Put(ctx context.Context, key, owner string, value []byte, ttl time.Duration, over bool) (now, end []byte, err error) {
	// As a string it is a copy: a call that was abandoned may still read it when
	// the caller has it back.
	a, err := s.call(ctx, "put", putScript, key, owner, string(value), milliseconds(ttl), over)
	if a.flag {
		a.value = append([]byte{}, value...)
	}
	return a.value, a.end, err
}

// End stores end, unless there is one, and returns the value beside it, nil if there
// is none. Whatever is there then, value and end, stays for at least ttl: as long as
// a logout is remembered, so is what it has to be told to. It leaves the lease alone.
func (s *RefreshStore) End(ctx context.Context, key string, end []byte, ttl time.Duration) (value []byte, err error) {
	a, err := s.call(ctx, "end", endScript, key, string(end), milliseconds(ttl))
	return a.value, err
}

// Release ends the lease on key if it is owner's, and nothing else.
func (s *RefreshStore) Release(ctx context.Context, key, owner string) error {
	_, err := s.call(ctx, "release", releaseScript, key, owner)
	return err
}

// An answer is what each script of a RefreshStore returns.
type answer struct {
	value, end []byte // nil if there is none; empty is a value
	flag       bool
}

// call runs a script on the three slots of key. With an error the answer is empty.
func (s *RefreshStore) call(ctx context.Context, op string, script *redis.Script, key string, args ...any) (answer, error) {
	reply, err := runKeys(ctx, s.client, op, script, s.names(key), args...)
	if err != nil {
		return answer{}, err
	}
	var a answer
	var isValue, isEnd, isFlag bool
	if parts, _ := reply.([]any); len(parts) == 3 {
		var flag int64
		a.value, isValue = bytesOf(parts[0])
		a.end, isEnd = bytesOf(parts[1])
		flag, isFlag = parts[2].(int64)
		a.flag = flag == 1
	}
	if !isValue || !isEnd || !isFlag {
		return answer{}, &callError{op: op, cause: errUnexpected}
	}
	return a, nil
}

// bytesOf returns what is in a slot: nil if nothing is, else never nil.
func bytesOf(part any) (b []byte, ok bool) {
	if part == nil {
		return nil, true
	}
	held, ok := part.(string)
	return []byte(held), ok
}

// milliseconds rounds up, and to no less than one: Redis refuses a time of 0.
func milliseconds(d time.Duration) int64 {
	return max(1, int64((d+time.Millisecond-1)/time.Millisecond))
}

var (
	errUnexpected = errors.New("unexpected answer")
	errPanic      = errors.New("the client panicked")
)

// run is runKeys for a script on one key.
func run(ctx context.Context, client redis.UniversalClient, op string, script *redis.Script, key string, args ...any) (any, error) {
	return runKeys(ctx, client, op, script, []string{key}, args...)
}

// runKeys runs a script and returns when it has ended or ctx has.
//
// The call is made in a goroutine of its own, because go-redis reads its answer
// without looking at the context: at its deadline only with ContextTimeoutEnabled,
// at its cancellation never. There are no more such goroutines left behind than
// the client has connections: to wait for one, go-redis does look at the context.
func runKeys(ctx context.Context, client redis.UniversalClient, op string, script *redis.Script, keys []string, args ...any) (any, error) {
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
		answer, err := script.Run(ctx, client, keys, args...).Result()
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
