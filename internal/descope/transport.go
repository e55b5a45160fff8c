package descope

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/descopehttp/descopehttp/internal/calm"
)

// keyClient returns the client for key sets. Where a transport limits connections
// to a host, keys get a transport of their own: a slow key endpoint must not
// occupy the connection that refreshes need.
func keyClient(c *http.Client) *http.Client {
	if c == nil {
		return restrictClient(nil)
	}
	own := *c
	if t, ok := c.Transport.(*http.Transport); ok && t.MaxConnsPerHost > 0 {
		own.Transport = t.Clone()
	}
	return restrictClient(&own)
}

// restrictClient returns a copy of c as New promises it: no Jar, which would send one
// user's cookies with another's call; no redirects, which would carry tokens to another
// host; no Timeout, which would hang up on calls that have spent a token.
func restrictClient(c *http.Client) *http.Client {
	var restricted http.Client
	if c != nil {
		restricted = *c
	}
	restricted.Transport = calmTransport{cmp.Or(restricted.Transport, http.DefaultTransport)}
	restricted.Jar = nil
	restricted.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	restricted.Timeout = 0
	return &restricted
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
