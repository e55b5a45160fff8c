package descopetest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
)

const ann = "ann@example.com"

// object is a JSON object as a client sees it.
type object = map[string]any

// newProject returns a project of ES256, whose keys cost nothing, with ann.
func newProject(settings ...func(*descopetest.Settings)) *descopetest.Server {
	s := descopetest.NewServer()
	s.Configure(func(t *descopetest.Settings) {
		t.Alg = "ES256"
		for _, set := range settings {
			set(t)
		}
	})
	s.AddUser(descopetest.User{LoginID: ann})
	return s
}

// response is an answer, read to its end.
type response struct {
	*http.Response
	raw  []byte
	body object // nil if raw is no object
}

// send makes a call as Descope's clients do: token is what follows the project
// id in the Authorization header.
func send(t *testing.T, s *descopetest.Server, method, path, token, body string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	require.NoError(t, err)
	bearer := "Bearer " + s.ProjectID()
	if token != "" {
		bearer += ":" + token
	}
	req.Header.Set("Authorization", bearer)
	return do(t, s, req)
}

func do(t *testing.T, s *descopetest.Server, req *http.Request) response {
	t.Helper()
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	r := response{Response: res, raw: raw}
	_ = json.Unmarshal(raw, &r.body)
	return r
}

func post(t *testing.T, s *descopetest.Server, path, token, body string) response {
	t.Helper()
	return send(t, s, http.MethodPost, path, token, body)
}

// ok is post, and requires the call to be carried out.
func ok(t *testing.T, s *descopetest.Server, path, token, body string) object {
	t.Helper()
	r := post(t, s, path, token, body)
	require.Equal(t, http.StatusOK, r.StatusCode, string(r.raw))
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	return r.body
}

// refused is post, and requires it to be refused in the way given.
func refused(t *testing.T, s *descopetest.Server, path, token, body string, status int, code string) {
	t.Helper()
	requireRefusal(t, post(t, s, path, token, body), status, code)
}

func requireRefusal(t *testing.T, r response, status int, code string) {
	t.Helper()
	require.Equal(t, status, r.StatusCode, string(r.raw))
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.Equal(t, code, r.body["errorCode"])
	require.NotEmpty(t, r.body["errorDescription"])
	require.NotEmpty(t, r.body["errorMessage"])
	require.Equal(t, r.body["errorMessage"], r.body["message"])
}

func verifyBody(s *descopetest.Server, loginID, options string) string {
	if options == "" {
		options = "{}"
	}
	return `{"loginId":"` + loginID + `","code":"` + s.Code(loginID) + `","loginOptions":` + options + `}`
}

// keySet returns the project's keys by kid.
func keySet(t *testing.T, s *descopetest.Server) map[string]object {
	t.Helper()
	r := send(t, s, http.MethodGet, "/v2/keys/"+s.ProjectID(), "", "")
	require.Equal(t, http.StatusOK, r.StatusCode)
	keys := map[string]object{}
	for _, k := range r.body["keys"].([]any) {
		keys[k.(object)["kid"].(string)] = k.(object)
	}
	require.Len(t, r.body["keys"], len(keys))
	return keys
}
