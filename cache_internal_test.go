package descopehttp

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
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

	first, err := a.judge.session(t.Context(), raw, clock{now, until})
	require.NoError(t, err)
	again, err := a.judge.session(t.Context(), raw, clock{now.Add(-time.Second), until})
	require.NoError(t, err)
	require.Same(t, first, again, "found in the cache")
	_, err = a.judge.session(t.Context(), raw, clock{now.Add(-time.Second - 1), until})
	assert.EqualError(t, err, "descopehttp: invalid_token: token is not valid yet")
}
