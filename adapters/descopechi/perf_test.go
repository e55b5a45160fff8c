//go:build !race

package descopechi_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopechi"
	"github.com/descopehttp/descopehttp/descopetest"
)

// A session that has been checked before costs three allocations at the most,
// beside those that chi makes without a middleware.
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
	router, without := chi.NewRouter(), chi.NewRouter()
	page := func(http.ResponseWriter, *http.Request) { calls++ }
	router.With(descopechi.RequireSession(a)).Get("/", page)
	without.Get("/", page)

	bearer, cookie := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRequest(http.MethodGet, "/", nil)
	bearer.Header.Set("Authorization", "Bearer "+token)
	cookie.Header.Set("Cookie", "__Host-DS="+token)
	const runs = 1000
	for way, r := range map[string]*http.Request{"bearer": bearer, "cookie": cookie} {
		w := httptest.NewRecorder()
		calls = 0
		own := testing.AllocsPerRun(runs, func() { without.ServeHTTP(w, r) })
		allocs := testing.AllocsPerRun(runs, func() { router.ServeHTTP(w, r) }) - own
		assert.Equal(t, 2*(runs+1), calls, "%s: all were let in", way)
		t.Logf("%s: %v allocations", way, allocs)
		assert.LessOrEqual(t, allocs, 3., way)
	}
}
