package token_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// vectorsBySet returns the published signatures that concern RS256 and ES256, by
// the key set document that they are to be judged by.
func vectorsBySet(t testing.TB) map[string][]string {
	t.Helper()
	content, err := os.ReadFile("testdata/wycheproof/rs256-es256.json")
	require.NoError(t, err)
	var vectors []struct {
		Keys json.RawMessage `json:"jwks"`
		JWS  string          `json:"jws"`
	}
	require.NoError(t, json.Unmarshal(content, &vectors))
	require.Len(t, vectors, 276)
	sets := make(map[string][]string)
	for _, v := range vectors {
		sets[string(v.Keys)] = append(sets[string(v.Keys)], v.JWS)
	}
	return sets
}

// None of the published signatures, the good ones included, is a session: their
// payloads are no claims. They are refused before a key is asked for.
//
// Rule: tokens: against a verdict that depends on the way a token came: one judgement for
// Bearer, cookie, VerifyToken and flows.
func TestPublishedSignaturesAreNoSessions(t *testing.T) {
	h := kittest.NewHostile(t)
	seen := 0
	for document, signatures := range vectorsBySet(t) {
		judge := &kittest.Hostile{Kit: h.WithKeySet(t, document), T: t}
		for _, jws := range signatures {
			seen++
			for way, err := range judge.Verdicts(jws) {
				if way == "VerifyToken" {
					assert.ErrorIs(t, err, descopehttp.ErrInvalidToken, jws)
				} else if !strings.ContainsAny(jws, " \r\n\",;\\") || way == "bearer" {
					assert.EqualError(t, err, "status 401", "%s: %s", way, jws)
				}
			}
			next := new(kittest.Spy)
			res := kittest.Serve(judge.RequireSession(next), kittest.WithCookies(kittest.Get("/"), "", jws))
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, "as a refresh token: %s", jws)
			assert.Zero(t, next.Calls)
		}
	}
	assert.Equal(t, 276, seen)
	assert.Zero(t, h.Project.Requests(kittest.RefreshPath))
}
