package descoperedis

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// An AttemptStore counts in Redis, in windows of time: wrong codes, say. It is
// safe for concurrent use, and all replicas of a server use the same Redis and
// prefix. What is said of contexts and errors at [RefreshStore] holds here.
//
// A call whose connection breaks before it was answered may be repeated by the
// client and then counts twice. A client with MaxRetries set to -1 does not.
type AttemptStore struct {
	client redis.UniversalClient
	prefix string
}

// NewAttemptStore returns a store that keeps everything under keys that begin
// with prefix, or with "descopehttp:" if prefix is empty. It makes no call. The
// prefix may be that of a [RefreshStore]. The client stays the caller's, who
// closes it when no request is under way any more; it must not be nil.
func NewAttemptStore(client redis.UniversalClient, prefix string) *AttemptStore {
	return &AttemptStore{client: required(client), prefix: prefixOf(prefix) + "attempts:"}
}

// ARGV: what to add, the window in milliseconds. Answers count and rest. A key
// without a time, which only somebody else can have written, counts as none.
var addScript = redis.NewScript(`
local rest = redis.call('PTTL', KEYS[1])
if rest < 0 then
	if tonumber(ARGV[1]) <= 0 then
		return {0, 0}
	end
	redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
	return {tonumber(ARGV[1]), tonumber(ARGV[2])}
end
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
if count <= 0 then
	redis.call('DEL', KEYS[1])
	return {0, 0}
end
return {count, rest}
`)

// Add changes the count of key by delta and returns it, and how much is left of
// its window. A delta of 0 only reads. The window begins with the first count and
// is not prolonged by later ones; with it the count ends. A count never falls
// below 0, and one that is 0 has no window: reset is then 0, and the next count
// begins a new one.
func (s *AttemptStore) Add(ctx context.Context, key string, delta int, window time.Duration) (count int, reset time.Duration, err error) {
	answer, err := run(ctx, s.client, "add", addScript, s.prefix+key, delta, milliseconds(window))
	if err != nil {
		return 0, 0, err
	}
	if pair, ok := answer.([]any); ok && len(pair) == 2 {
		n, isNumber := pair[0].(int64)
		rest, isTime := pair[1].(int64)
		if isNumber && isTime {
			return int(n), time.Duration(rest) * time.Millisecond, nil
		}
	}
	return 0, 0, &callError{op: "add", cause: errUnexpected}
}
