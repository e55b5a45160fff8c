package descopehttp

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Browsers drop a cookie whose name and value are longer than 4,096 bytes
// together; at the limit they keep it.
func TestCookieSizeLimit(t *testing.T) {
	for _, c := range []Cookies{{}, {PlainNames: true}} {
		p := newCookiePolicy(c, InCookies, slog.New(slog.DiscardHandler))
		for size, set := range map[int]bool{maxCookieSize - 1: true, maxCookieSize: true, maxCookieSize + 1: false} {
			w := httptest.NewRecorder()
			p.write(w, strings.Repeat("x", size-len(p.session)), "refresh", time.Now().Add(time.Hour))
			cookies := w.Result().Cookies()
			require.Len(t, cookies, 2)
			assert.Equal(t, p.session, cookies[0].Name)
			assert.Equal(t, set, cookies[0].MaxAge > 0, size)
			assert.Positive(t, cookies[1].MaxAge)
		}
	}
}

// A cookie that would have ended already is deleted: with a Max-Age of 0 it would be
// written without one, and last as long as the browser.
func TestCookieThatHasEnded(t *testing.T) {
	p := newCookiePolicy(Cookies{}, InCookies, slog.New(slog.DiscardHandler))
	for _, left := range []time.Duration{-time.Hour, 0, time.Millisecond} {
		w := httptest.NewRecorder()
		p.write(w, "a", "b", time.Now().Add(left))
		for _, c := range w.Result().Cookies() {
			assert.Equal(t, -1, c.MaxAge, "%s, %v left", c.Name, left)
		}
	}
}
