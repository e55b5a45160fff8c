package kittest

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp"
)

// A CallTimes notes when the kit called which path of Descope.
type CallTimes struct {
	Calls map[string][]time.Time // by path; to be read when none is under way

	inner http.RoundTripper
	mu    sync.Mutex
}

// Config is an edit of a kit's configuration that has its calls noted.
func (w *CallTimes) Config(c *descopehttp.Config) {
	w.inner, w.Calls = c.HTTPClient.Transport, make(map[string][]time.Time)
	c.HTTPClient = &http.Client{Transport: w}
}

// RoundTrip implements [http.RoundTripper].
func (w *CallTimes) RoundTrip(r *http.Request) (*http.Response, error) {
	path := r.URL.Path
	if strings.HasPrefix(path, KeysPath) {
		path = KeysPath
	}
	w.mu.Lock()
	w.Calls[path] = append(w.Calls[path], time.Now())
	w.mu.Unlock()
	return w.inner.RoundTrip(r)
}

// Reset forgets what was called so far.
func (w *CallTimes) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Calls = make(map[string][]time.Time)
}

// Most returns the most calls to path within any window of that length.
func (w *CallTimes) Most(path string, window time.Duration) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls, most := w.Calls[path], 0
	for i, first := range calls {
		n := 0
		for _, at := range calls[i:] {
			if at.Sub(first) < window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}
