package adaptertest

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// Program tests the program of an adapter's README as its environment sets it up, over
// sockets: a user signs in with a code and finds open what is theirs.
func Program(t *testing.T, config func() descopehttp.Config, newRouter func(*descopehttp.Auth) http.Handler) {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ann@example.com", Roles: []string{"admin"}})
	project.AddUser(descopetest.User{LoginID: "bob@example.com"})
	project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true }) // nobody waits for the next
	descope := httptest.NewServer(project)
	defer descope.Close()
	t.Setenv("DESCOPE_PROJECT_ID", project.ProjectID())
	t.Setenv("DESCOPE_BASE_URL", descope.URL)
	auth, err := descopehttp.New(config())
	require.NoError(t, err)
	program := httptest.NewTLSServer(newRouter(auth)) // a client keeps Secure cookies
	defer program.Close()

	for name, tt := range map[string]struct {
		loginID      string // empty: nobody signs in
		hello, admin int
	}{
		"nobody":   {"", http.StatusUnauthorized, http.StatusUnauthorized},
		"an admin": {"ann@example.com", http.StatusOK, http.StatusOK},
		"no admin": {"bob@example.com", http.StatusOK, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			client := *program.Client()
			client.Jar, _ = cookiejar.New(nil) // never an error
			call := func(method, path, body string) (int, string) {
				r, err := http.NewRequest(method, program.URL+path, strings.NewReader(body))
				require.NoError(t, err)
				r.Header.Set("Content-Type", "application/json")
				res, err := client.Do(r)
				require.NoError(t, err)
				defer res.Body.Close()
				answer, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				return res.StatusCode, string(answer)
			}
			verify := func(options string) {
				status, answer := call("POST", "/auth/v1/auth/totp/verify",
					`{"loginId":"`+tt.loginID+`","code":"`+project.Code(tt.loginID)+`","loginOptions":`+options+`}`)
				require.Equal(t, http.StatusOK, status, answer)
			}
			if tt.loginID != "" {
				verify(`{}`)
			}
			status, answer := call("GET", "/app/hello", "")
			assert.Equal(t, tt.hello, status, answer)
			status, answer = call("GET", "/app/admin", "")
			assert.Equal(t, tt.admin, status, answer)
			status, answer = call("POST", "/app/launch", "")
			assert.Equal(t, http.StatusUnauthorized, status, answer)
			if tt.loginID != "" {
				verify(`{"stepup":true}`)
				status, answer = call("POST", "/app/launch", "")
				assert.Equal(t, http.StatusAccepted, status, answer)
			}
		})
	}
}
