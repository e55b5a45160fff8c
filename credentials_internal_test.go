package descopehttp

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/token"
)

// nbf is judged on every hit, too: a clock that was ahead when a session was
// cached may have been set right since.
func TestCachedSessionIsNotValidBeforeItsTime(t *testing.T) {
	srv := descopetest.NewServer()
	srv.AddUser(descopetest.User{LoginID: "ada@example.com"})
	a, err := New(Config{ProjectID: srv.ProjectID(), BaseURL: srv.URL(), HTTPClient: srv.Client(), Leeway: time.Second, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	now := time.Now().Truncate(time.Second)
	until := now.Add(time.Minute)
	claims := srv.SessionClaims("ada@example.com")
	claims["nbf"] = now.Unix()
	raw := srv.Sign(nil, claims)

	first, _, err := a.judge.session(t.Context(), raw, clock{now, until})
	require.NoError(t, err)
	again, _, err := a.judge.session(t.Context(), raw, clock{now.Add(-time.Second), until})
	require.NoError(t, err)
	require.Same(t, first, again, "found in the cache")
	_, _, err = a.judge.session(t.Context(), raw, clock{now.Add(-time.Second - 1), until})
	assert.EqualError(t, err, "descopehttp: invalid_token: token is not valid yet")
}

// A token over 16 KiB is refused by its length, before anything is made of it.
// Nothing is allocated then, whether it is a session or a refresh token.
//
// Rule: tokens: against a token made to be expensive (16 KiB of nesting, members, escapes):
// refused over 16 KiB before anything is allocated; at most 1 MiB and 5,000 objects at 16 KiB.
// Rule: tokens: 16 KiB at most, before anything is decoded.
func TestOversizeTokensAllocateNothing(t *testing.T) {
	a, err := New(Config{ProjectID: "P2descopetest00000000000000A", HTTPClient: &http.Client{Transport: noNetwork{t}}})
	require.NoError(t, err)
	ctx, now := t.Context(), time.Now()
	until := now.Add(time.Minute)
	for _, size := range []int{token.MaxSize + 1, 64 << 10, 1 << 20} {
		oversize := strings.Repeat("A", size-2) + ".."
		for name, judge := range map[string]func() error{
			"session token": func() error { _, _, err := a.judge.session(ctx, oversize, clock{now, until}); return err },
			"session cookie": func() error {
				return a.judge.sessionCookie(ctx, oversize, new(lookup), clock{now, until}, fetchNever).err
			},
			"refresh token": func() error { _, err := a.judge.refresh(ctx, oversize, now); return err },
		} {
			require.Equal(t, token.ErrSize, judge(), name)
			assert.Zero(t, testing.AllocsPerRun(100, func() { _ = judge() }), "%s of %d bytes", name, size)
		}
	}
}

// Browsers drop a cookie whose name and value are longer than 4,096 bytes
// together; at the limit they keep it.
//
// Rule: cookies: a token over 4,096 bytes is not set.
func TestCookieSizeLimit(t *testing.T) {
	for _, c := range []Cookies{{}, {PlainNames: true}} {
		p := newCookiePolicy(c, InCookies, "P", nil)
		for size, set := range map[int]bool{4095: true, 4096: true, 4097: false} {
			w := httptest.NewRecorder()
			p.Write(w, new(http.Request), &cookie.Fresh{Session: strings.Repeat("x", size-len(p.Session[0])), Refresh: "refresh", Until: time.Now().Add(time.Hour)})
			cookies := w.Result().Cookies()
			require.Len(t, cookies, 2)
			assert.Equal(t, p.Session[0], cookies[0].Name)
			assert.Equal(t, set, cookies[0].MaxAge > 0, size)
			assert.Positive(t, cookies[1].MaxAge)
		}
	}
}

// A cookie that would have ended already is deleted: with a Max-Age of 0 it would be
// written without one, and last as long as the browser.
func TestCookieThatHasEnded(t *testing.T) {
	p := newCookiePolicy(Cookies{}, InCookies, "P", nil)
	for _, left := range []time.Duration{-time.Hour, 0, time.Millisecond} {
		w := httptest.NewRecorder()
		p.Write(w, new(http.Request), &cookie.Fresh{Session: "a", Refresh: "b", Until: time.Now().Add(left)})
		for _, c := range w.Result().Cookies() {
			assert.Equal(t, -1, c.MaxAge, "%s, %v left", c.Name, left)
		}
	}
}
