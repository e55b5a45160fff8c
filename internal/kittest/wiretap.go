package kittest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
)

// A Wiretap stands between a kit and its project: it notes what is sent to
// Descope, and may answer in its place.
type Wiretap struct {
	Answer func(*http.Request) *http.Response // may be nil, and may return nil
	Edit   func(path string, body []byte) []byte

	inner http.RoundTripper
	mu    sync.Mutex
	sent  []SentCall
}

// A SentCall is a request to Descope; those for keys are not noted.
type SentCall struct {
	Method, Path, Authorization, Body string
	Header                            http.Header
}

// Config is an edit of a kit's configuration that lays the wiretap.
func (w *Wiretap) Config(c *descopehttp.Config) {
	w.inner = c.HTTPClient.Transport
	c.HTTPClient = &http.Client{Transport: w}
}

// RoundTrip implements [http.RoundTripper].
func (w *Wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Path, KeysPath) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.mu.Lock()
		w.sent = append(w.sent, SentCall{r.Method, r.URL.Path, r.Header.Get("Authorization"), string(body), r.Header})
		w.mu.Unlock()
	}
	w.mu.Lock()
	answer := w.Answer
	w.mu.Unlock()
	if answer != nil {
		if res := answer(r); res != nil {
			res.Request = r
			return res, nil
		}
	}
	res, err := w.inner.RoundTrip(r)
	if err != nil || w.Edit == nil {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	body = w.Edit(r.URL.Path, body)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return res, nil
}

// AnswerWith has answer take the place of Descope from now on; calls may be under way.
func (w *Wiretap) AnswerWith(answer func(*http.Request) *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Answer = answer
}

// Calls returns what was sent, in order.
func (w *Wiretap) Calls() []SentCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]SentCall(nil), w.sent...)
}

// Paths returns where calls went, in order.
func (w *Wiretap) Paths() []string {
	var paths []string
	for _, c := range w.Calls() {
		paths = append(paths, c.Path)
	}
	return paths
}

// Only returns the one call that was made to path.
func (w *Wiretap) Only(t testing.TB, path string) SentCall {
	t.Helper()
	var found []SentCall
	for _, c := range w.Calls() {
		if c.Path == path {
			found = append(found, c)
		}
	}
	require.Len(t, found, 1, path)
	return found[0]
}

// Forget forgets what was sent so far.
func (w *Wiretap) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = nil
}

// JSONAnswer is an answer of Descope.
func JSONAnswer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(strings.NewReader(body)),
	}
}

// ReadingAnswer is a 200 whose body is read by f.
func ReadingAnswer(f Reader) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(f)}
}

// A RoundTripper is a transport that is a function.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f RoundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A Reader is a body that is a function.
type Reader func([]byte) (int, error)

// Read implements [io.Reader].
func (f Reader) Read(p []byte) (int, error) { return f(p) }
