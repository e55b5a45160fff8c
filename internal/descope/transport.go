package descope

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/internal/calm"
	"github.com/descopehttp/descopehttp/internal/visit"
)

// Bounds on connections. A NAT or a load balancer may drop one without a word; calls on
// it wait for ever then.
const (
	pingAfter      = 3 * time.Second  // without a frame, while a call waits
	pingPatience   = 2 * time.Second  // with a ping's answer
	idlePatience   = 50 * time.Second // shorter than that of any NAT
	changeInterval = 5 * time.Second  // between two changes of connections
)

// keyClient returns the client for key sets. Keys get connections of their own: a slow
// key endpoint must not occupy the connection that refreshes need, nor a dead line take
// the keys along.
func keyClient(c *http.Client) *http.Client {
	own := clientOf(c)
	own.Transport = cloneOf(own.Transport)
	return restrictClient(&own)
}

// cloneOf returns a transport with connections of its own, or t where that cannot be had:
// one that wraps another may have a method for it.
func cloneOf(t http.RoundTripper) http.RoundTripper {
	switch t := t.(type) {
	case *http.Transport:
		return t.Clone()
	case interface{ Clone() http.RoundTripper }:
		return t.Clone()
	}
	return t
}

// clientOf returns a copy of c whose transport is set. The default one is a clone of
// http.DefaultTransport that notices dead lines by HTTP/2 pings.
func clientOf(c *http.Client) http.Client {
	var own http.Client
	if c != nil {
		own = *c
	}
	if own.Transport != nil {
		return own
	}
	own.Transport = http.DefaultTransport
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.IdleConnTimeout = idlePatience
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingPatience}
		own.Transport = t
	}
	return own
}

// restrictClient returns a copy of c as New promises it: no Jar, which would send one
// user's cookies with another's call; no redirects, which would carry tokens to another
// host; no Timeout, which would hang up on calls that have spent a token.
func restrictClient(c *http.Client) *http.Client {
	restricted := clientOf(c)
	restricted.Transport = calmTransport{&connections{inUse: restricted.Transport}}
	restricted.Jar = nil
	restricted.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	restricted.Timeout = 0
	return &restricted
}

// Connections are a transport that can be changed for one with others while calls are in
// the air. A call that has spent a token is not hung up on, so its connection never
// becomes idle, and all calls after it would wait on the same one.
type connections struct {
	mu      sync.Mutex
	inUse   http.RoundTripper
	changed time.Time
}

// RoundTrip implements [http.RoundTripper].
func (c *connections) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	inUse := c.inUse
	c.mu.Unlock()
	return inUse.RoundTrip(r)
}

// change has later calls use other connections. Where a transport cannot be cloned, those
// that are idle are closed.
func (c *connections) change(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changed.IsZero() && now.Sub(c.changed) < changeInterval {
		return
	}
	c.changed = now
	old := c.inUse
	c.inUse = cloneOf(old)
	if idle, ok := old.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

// limitOf returns how long a call that spends nothing may take.
func limitOf(c *http.Client) time.Duration {
	if c == nil || c.Timeout <= 0 {
		return callLimit
	}
	return min(c.Timeout, callLimit)
}

// A calmTransport turns a panic of the user's transport, which goes on working
// while the body of its answer is read, into an error. Calls are made in
// goroutines where nobody else recovers, so it would end the process.
type calmTransport struct{ http.RoundTripper }

var errTransportPanic = errors.New("descopehttp: the HTTP transport panicked")

// RoundTrip implements [http.RoundTripper].
func (t calmTransport) RoundTrip(r *http.Request) (res *http.Response, err error) {
	defer calm.Recover(&err, errTransportPanic)
	res, err = t.RoundTripper.RoundTrip(r)
	if res != nil && res.Body != nil {
		res.Body = calmBody{res.Body}
	}
	return res, err
}

type calmBody struct{ io.ReadCloser }

// Read implements [io.Reader].
func (b calmBody) Read(p []byte) (n int, err error) {
	defer calm.Recover(&err, errTransportPanic)
	return b.ReadCloser.Read(p)
}

// Close implements [io.Closer].
func (b calmBody) Close() (err error) {
	defer calm.Recover(&err, errTransportPanic)
	return b.ReadCloser.Close()
}

// regionURL follows Descope's clients: ids of 32 characters and more carry the
// region of the project after the leading P.
func regionURL(projectID string) string {
	if len(projectID) < 32 {
		return "https://api.descope.com"
	}
	return "https://api." + projectID[1:5] + ".descope.com"
}

// CheckBaseURL says what is wrong with a base URL, "" if nothing is. An insecure one may be
// of http.
func CheckBaseURL(s string, insecure bool) (reason string) {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return "must be an absolute URL"
	case u.User != nil || strings.ContainsAny(s, "?#"):
		return "must have no user, query or fragment"
	case u.Scheme != "https" && (u.Scheme != "http" || !insecure && !visit.IsLoopback(u.Hostname())):
		return "must be https, or http to a loopback address"
	}
	return ""
}
