package descopehttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What Descope's answer says by its status and body: a refusal only in JSON of a
// 4xx with a code of Descope's form, an outage only where a client cannot bring it
// about.
func TestWhatAStatusMeans(t *testing.T) {
	for _, tt := range []struct {
		status      int
		body        string
		code        string // of a refusal
		unreachable bool
	}{
		{400, `{"errorCode":"E011003"}`, "E011003", false},
		{401, `{"errorCode":"E061005","errorCode":"E061005"}`, "E061005", false},
		{499, `{"errorCode":"E061005"}`, "E061005", false},
		{401, `{"errorCode":"E0610"}`, "E0610", false},
		{401, `{"errorCode":"E061005123"}`, "E061005123", false},
		{401, `{"errorCode":"E0610051234"}`, "", false},
		{401, `{"errorCode":"E061"}`, "", false},
		{401, `{"errorCode":"e061005"}`, "", false},
		{401, `{"errorCode":"E061005 "}`, "", false},
		{401, `{"errorCode":7}`, "", false},
		{401, `{"ErrorCode":"E061005"}`, "", false},
		{401, `E061005`, "", false},
		{401, ``, "", false},
		{403, `<html>`, "", false},
		{200 + 100, `{"errorCode":"E061005"}`, "", false},
		{500, `{"errorCode":"E061005"}`, "", false},
		{501, ``, "", false},
		{502, `{"errorCode":"E061005"}`, "", true},
		{503, ``, "", true},
		{504, ``, "", true},
		{505, ``, "", false},
		{519, ``, "", false},
		{520, ``, "", true},
		{530, ``, "", true},
		{531, ``, "", false},
	} {
		err := statusFailure(&http.Response{StatusCode: tt.status, Header: http.Header{}}, []byte(tt.body))
		var refused *upstreamRefusal
		if tt.code != "" {
			if assert.ErrorAs(t, err, &refused, "%d %s", tt.status, tt.body) {
				assert.Equal(t, tt.code, refused.code)
				assert.Equal(t, tt.status, refused.status)
			}
			continue
		}
		assert.False(t, errors.As(err, &refused), "%d %s", tt.status, tt.body)
		f := failureOf(err)
		assert.Equal(t, problemUnavailable, f.problem)
		assert.Equal(t, tt.unreachable, f.unreachable, tt.status)
		assert.Contains(t, f.Error(), strconv.Itoa(tt.status))
		assert.NotErrorIs(t, err, errUpstreamLimit)
	}
	err := statusFailure(&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"7"}}}, []byte(`{"errorCode":"E061005"}`))
	assert.ErrorIs(t, err, errUpstreamLimit, "never a refusal, whatever the body says")
	assert.Equal(t, 7*time.Second, failureOf(err).retryAfter)
}

// Retry-After has a default and a limit.
func TestRetryAfterOfDescope(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": defaultRetryAfter, "0": defaultRetryAfter, "-3": defaultRetryAfter, "soon": defaultRetryAfter, "1.5": defaultRetryAfter,
		"1": time.Second, "299": 299 * time.Second, "301": maxRetryAfter, "9223372036": maxRetryAfter, "99999999999999999999": defaultRetryAfter,
	} {
		assert.Equal(t, want, retryAfter(http.Header{"Retry-After": {header}}), header)
	}
}

type timeoutError struct{ timeout bool }

func (e timeoutError) Error() string { return "secret-in-an-error" }
func (e timeoutError) Timeout() bool { return e.timeout }

// Each way in which a call can fail has its own words, and none of the error's.
// What the client brought about by hanging up is no outage.
func TestWhatATransportErrorMeans(t *testing.T) {
	for _, tt := range []struct {
		err                  error
		reason               string
		timeout, unreachable bool
	}{
		{errors.New("secret-in-an-error"), "connection to Descope failed", false, true},
		{timeoutError{true}, "Descope did not answer in time", true, true},
		{timeoutError{false}, "connection to Descope failed", false, true},
		{os.ErrDeadlineExceeded, "Descope did not answer in time", true, true},
		{context.DeadlineExceeded, "Descope did not answer in time", true, true},
		{fmt.Errorf("secret-in-an-error %w", context.Canceled), "the call to Descope was cancelled", false, false},
		{&net.DNSError{Name: "secret-in-an-error"}, "Descope's host name was not resolved", false, true},
		{&tls.CertificateVerificationError{Err: errors.New("secret-in-an-error")}, "Descope's certificate was not trusted", false, true},
		{errTransportPanic, "the HTTP transport panicked", false, true},
	} {
		f := transportFailure(fmt.Errorf("secret-in-an-error: %w", tt.err))
		assert.Equal(t, problemUnavailable, f.problem)
		assert.Equal(t, tt.reason, f.reason)
		assert.Equal(t, tt.timeout, f.timeout, tt.reason)
		assert.Equal(t, tt.unreachable, f.unreachable, tt.reason)
		assert.NotContains(t, fmt.Sprintf("%v %+v", f, f.Error()), "secret")
	}
}

// A gate that outages have closed lets one call try again, and opens with its
// success; a call that fails for another reason is no outage.
func TestGateTriesOneCall(t *testing.T) {
	now := time.Now()
	g := newGates()[classSession]
	outage := &failure{problem: problemUnavailable, unreachable: true}
	enter := func() error { return g.enter(now) }
	for range gateFailures - 1 {
		require.NoError(t, enter())
		g.leave(now, outage)
	}
	require.NoError(t, enter())
	g.leave(now, &failure{problem: problemUnavailable}) // an odd answer, but an answer
	for range gateFailures {
		require.NoError(t, enter())
		g.leave(now, outage)
	}
	f := failureOf(enter())
	assert.Equal(t, gatePause, f.retryAfter)
	assert.True(t, f.unsent)
	now = now.Add(gatePause)
	require.NoError(t, enter(), "one may try")
	f = failureOf(enter())
	assert.True(t, f.unsent)
	assert.Equal(t, time.Second, f.retryAfter)
	g.leave(now, outage)
	require.Error(t, enter(), "it failed")
	now = now.Add(gatePause)
	require.NoError(t, enter())
	g.leave(now, &upstreamRefusal{code: codeInvalidToken})
	for range 10 {
		require.NoError(t, enter(), "a refusal is an answer")
	}
	g.leave(now, nil)

	g.leave(now, &failure{problem: problemUnavailable, cause: errUpstreamLimit, retryAfter: time.Hour})
	assert.Equal(t, maxGatePause, failureOf(enter()).retryAfter)
	now = now.Add(maxGatePause)
	require.NoError(t, enter())
}

// The client that is configured is copied, without what must not be used, and bounded
// in time.
func TestRestrictedClient(t *testing.T) {
	const limit = 10 * time.Second
	for timeout, want := range map[time.Duration]time.Duration{0: limit, -1: limit, time.Hour: limit, limit: limit, time.Second: time.Second} {
		for _, client := range []*http.Client{restrictClient(&http.Client{Timeout: timeout}), keyClient(&http.Client{Timeout: timeout})} {
			assert.Equal(t, want, client.Timeout)
			assert.NotNil(t, client.CheckRedirect)
		}
	}
	assert.Equal(t, limit, restrictClient(nil).Timeout)
	assert.Equal(t, limit, keyClient(nil).Timeout)
	transport := &http.Transport{MaxConnsPerHost: 1}
	assert.NotSame(t, transport, keyClient(&http.Client{Transport: transport}).Transport.(calmTransport).RoundTripper, "a budget of connections of its own")
	transport = &http.Transport{}
	assert.Same(t, transport, keyClient(&http.Client{Transport: transport}).Transport.(calmTransport).RoundTripper, "without a limit there is nothing to share out")
}

// answering is a transport that answers each call with a text, after a while.
type answering func(*http.Request) (text string, after time.Duration)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	text, after := a(r)
	select {
	case <-time.After(after):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(text))}, nil
}

func authOver(t *testing.T, transport http.RoundTripper) *Auth {
	a, err := New(Config{ProjectID: "P2abcdefghijklmnopqrstuvwxyz", HTTPClient: &http.Client{Transport: transport}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return a
}

// An answer may be as large as the limit and not a byte larger.
func TestAnswerSizeLimit(t *testing.T) {
	size := 0
	a := authOver(t, answering(func(*http.Request) (string, time.Duration) {
		return `{"keys":[]}` + strings.Repeat(" ", size-len(`{"keys":[]}`)), 0
	}))
	for call, limit := range map[string]int{"flow": 1 << 20, "keys": 1 << 20} {
		for over := range 2 {
			size = limit + over
			var err error
			if call == "keys" {
				_, err = a.api.keys(t.Context())
			} else {
				_, err = a.api.call(t.Context(), classAccount, http.MethodGet, pathMe, nil, nil)
			}
			if over == 0 {
				assert.NoError(t, err, call)
			} else if assert.Error(t, err, call) {
				assert.Equal(t, "Descope's answer is too large", failureOf(err).reason)
			}
		}
	}
}

// One fetch of keys at a time, even for a token of Descope's own answer, which the
// floor does not hold up.
func TestOneKeyFetchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches, most, n atomic.Int32
		a := authOver(t, answering(func(*http.Request) (string, time.Duration) {
			fetches.Add(1)
			most.Store(max(most.Load(), n.Add(1)))
			time.AfterFunc(4*time.Second, func() { n.Add(-1) })
			return `{"keys":[]}`, 4 * time.Second
		}))
		first := a.keys.begin(time.Now(), fetchIfFloorAllows)
		require.NotNil(t, first)
		for range 8 {
			<-time.After(400 * time.Millisecond)
			assert.Equal(t, first, a.keys.begin(time.Now(), fetchPastFloor))
			assert.Equal(t, first, a.keys.begin(time.Now(), fetchIfFloorAllows))
		}
		<-first
		synctest.Wait()
		assert.Nil(t, a.keys.begin(time.Now(), fetchIfFloorAllows), "the floor, since the beginning")
		require.NotNil(t, a.keys.begin(time.Now(), fetchPastFloor))
		require.NoError(t, a.Wait(t.Context()))
		assert.EqualValues(t, 1, most.Load())
		assert.EqualValues(t, 2, fetches.Load())
	})
}

// A fetch of keys ends after five seconds, whatever the endpoint does.
func TestKeyFetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authOver(t, answering(func(*http.Request) (string, time.Duration) { return "", time.Hour }))
		began := time.Now()
		<-a.keys.begin(began, fetchIfFloorAllows)
		assert.Equal(t, 5*time.Second, time.Since(began))
	})
}

// Kids that nobody knows are remembered to a bound, and the old ones make room when
// their time is up.
func TestAbsentKidsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authOver(t, noNetwork{t})
		const limit, memory = 4096, 30 * time.Second
		began := time.Now()
		for i := range limit + 100 {
			require.Equal(t, began, a.keys.noteAbsent(strconv.Itoa(i), began))
			require.LessOrEqual(t, len(a.keys.absent), limit)
		}
		<-time.After(memory - 1)
		assert.Equal(t, began, a.keys.noteAbsent("0", time.Now()), "remembered")
		assert.Equal(t, time.Now(), a.keys.noteAbsent("more", time.Now()), "full")
		<-time.After(1)
		assert.Equal(t, time.Now(), a.keys.noteAbsent("0", time.Now()), "forgotten")
		assert.Len(t, a.keys.absent, 1)
		a.keys.noteAbsent("more", time.Now())
		assert.Len(t, a.keys.absent, 2)
	})
}

// What is held and what is retired of keys judges tokens of its own kid only: a kid
// that was never held is for Descope to judge.
func TestFilterByKid(t *testing.T) {
	a := authOver(t, noNetwork{t})
	key := func(kid string) *heldKey {
		k := parseKey([]byte(`{"alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"` + kid + `"}`))
		require.NotNil(t, k)
		return k
	}
	a.keys.held.Store(&heldKeys{byID: map[string]*heldKey{"held": key("held")}, began: time.Now()})
	a.keys.retired = []*heldKey{key("old"), key("older")}
	for kid, want := range map[string]error{"held": errTokenSignature, "old": errTokenSignature, "older": errTokenSignature, "new": errKeyNotHeld} {
		tok := &token{header: &header{alg: "ES256", kid: kid}, signed: "a.b", signature: make([]byte, 64)}
		assert.Equal(t, want, a.keys.filter(t.Context(), tok), kid)
	}
}

func TestControlCharacters(t *testing.T) {
	for _, id := range []string{"a\x00", "a\x1f", "a\x7f", "\ta", "a\nb"} {
		assert.Error(t, checkLoginID(id), "%q", id)
	}
	assert.NoError(t, checkLoginID("ada b\u00e9@example.com"))
}
