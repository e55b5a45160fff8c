//go:build !race

package descopehttp

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/token"
)

// What a flood leaves in memory is bounded: every map has a limit, and what is

// under way ends.

func TestFloodLeavesNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := descopetest.NewServer()
		srv.AddUser(descopetest.User{LoginID: "ada"})
		a, err := New(Config{ProjectID: srv.ProjectID(), BaseURL: srv.URL(), HTTPClient: srv.Client(), Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, a.Ready(t.Context()))
		claims := srv.SessionClaims("ada")
		encode := func(v any) string {
			encoded, err := json.Marshal(v)
			require.NoError(t, err)
			return base64.RawURLEncoding.EncodeToString(encoded)
		}
		session := encode(claims)
		claims["drn"] = token.RefreshDRN
		refresh := encode(claims)
		handler := a.RequireSession(http.NotFoundHandler())
		for i := range maxEnded + 500 {
			header := encode(map[string]string{"alg": "RS256", "kid": "SKinvented" + strconv.Itoa(i)})
			send := func(h http.Handler, method, path, name, value string) {
				r := httptest.NewRequest(method, path, nil)
				r.Header.Set(name, value)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
			if i < maxAbsentKeys+500 {
				send(handler, http.MethodGet, "/", "Authorization", "Bearer "+header+"."+session+".AAAA")
			}
			if i%10 == 0 {
				send(handler, http.MethodGet, "/", "Cookie", "__Host-DSR="+header+"."+refresh+".AAAA")
			}
			send(a.Handler(), http.MethodPost, descope.PathLogout, "Cookie", "__Host-DSR="+header+"."+refresh+".AAAA")
		}
		require.NoError(t, a.Wait(t.Context()))

		m := &a.refresher.memory
		for name, size := range map[string][2]int{
			"absent kids":     {len(a.keys.absent), maxAbsentKeys},
			"retired keys":    {len(a.keys.retired), maxRetiredKeys},
			"flights":         {len(a.refresher.flights), 0},
			"running":         {a.refresher.tasks.running + a.keys.tasks.running, 0},
			"links":           {m.links.Len(), maxLinks},
			"issued":          {m.issued.Len(), maxLinks},
			"unseen sessions": {m.sessions.Len(), maxLinks},
			"refused":         {m.refused.Len(), maxRefusals},
			"ended":           {m.ended.Len(), maxEnded},
			"cut":             {m.cut.Len(), maxEnded},
			"tried":           {m.tried.Len(), maxLinks},
		} {
			assert.LessOrEqual(t, size[0], size[1], name)
		}
	})
}

// A flood of guesses at the full rate of a class, all day, each for another login

// id: the count of a victim outlasts it, and the memory of it is as documented.
