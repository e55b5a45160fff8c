//go:build !race

package descopeecho_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/descopetest"
)

// A session that has been checked before costs six allocations at the most,
// echo's own included.
// The race detector changes what is allocated.
func TestAllocations(t *testing.T) {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ada@example.com"})
	a, err := descopehttp.New(descopehttp.Config{
		ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client(), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	token := project.SignIn("ada@example.com").Session
	calls := 0
	router := echo.New()
	router.GET("/", func(*echo.Context) error { calls++; return nil }, descopeecho.RequireSession(a))

	bearer, cookie := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRequest(http.MethodGet, "/", nil)
	bearer.Header.Set("Authorization", "Bearer "+token)
	cookie.Header.Set("Cookie", "__Host-DS="+token)
	const runs = 1000
	for way, r := range map[string]*http.Request{"bearer": bearer, "cookie": cookie} {
		w := httptest.NewRecorder()
		calls = 0
		allocs := testing.AllocsPerRun(runs, func() { router.ServeHTTP(w, r) })
		assert.Equal(t, runs+1, calls, "%s: all were let in", way)
		t.Logf("%s: %v allocations", way, allocs)
		assert.LessOrEqual(t, allocs, 6., way)
	}
}
