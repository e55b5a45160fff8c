package descope

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// Rule: flows: no redirects, no cookie jar, 10 s.
func TestRestrictedClient(t *testing.T) {
	const limit = 9 * time.Second
	for timeout, want := range map[time.Duration]time.Duration{0: limit, -1: limit, time.Hour: limit, limit: limit, time.Second: time.Second} {
		theirs := &http.Client{Timeout: timeout}
		assert.Equal(t, want, limitOf(theirs))
		for _, client := range []*http.Client{restrictClient(theirs), keyClient(theirs)} {
			assert.Zero(t, client.Timeout, "contexts bound, and calls that spend a token go on for longer")
			assert.NotNil(t, client.CheckRedirect)
		}
	}
	assert.Equal(t, limit, limitOf(nil))
	assert.Zero(t, restrictClient(nil).Timeout)
	inUse := func(c *http.Client) http.RoundTripper {
		return c.Transport.(calmTransport).RoundTripper.(*connections).inUse
	}
	theirs := &http.Client{Transport: new(http.Transport)}
	assert.Same(t, theirs.Transport, inUse(restrictClient(theirs)), "the user's own, with what is in its pool")
	assert.NotSame(t, theirs.Transport, inUse(keyClient(theirs)), "keys have connections of their own")
	assert.NotSame(t, http.DefaultTransport, inUse(restrictClient(nil)), "which others use, too")
	assert.Equal(t, pingAfter, inUse(restrictClient(nil)).(*http.Transport).HTTP2.SendPingTimeout)
}

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

// Rule: answers: against an answer of a proxy in between (HTML, a redirect, a huge body, one
// that never ends): "Cannot tell"; bounded in size and time, no redirects, never repeated.
// Rule: flows: an answer of Descope is bounded.
func TestAnswerSizeLimit(t *testing.T) {
	size := 0
	c := clientOver(answering(func(*http.Request) (string, time.Duration) {
		return `{"keys":[]}` + strings.Repeat(" ", size-len(`{"keys":[]}`)), 0
	}))
	for call, limit := range map[string]int{"flow": 1 << 20, "keys": 1 << 20} {
		for over := range 2 {
			size = limit + over
			var err error
			if call == "keys" {
				_, err = c.Keys(t.Context())
			} else {
				_, err = c.Get(t.Context(), Account, PathMe, nil)
			}
			if over == 0 {
				assert.NoError(t, err, call)
			} else if assert.Error(t, err, call) {
				assert.Equal(t, "Descope's answer is too large", problem.Of(err).Reason)
			}
		}
	}
}

func clientOver(transport http.RoundTripper) *Client {
	return New(Config{ProjectID: "P2abcdefghijklmnopqrstuvwxyz", HTTPClient: &http.Client{Transport: transport}, ManagementKey: func() string { return "" }})
}
