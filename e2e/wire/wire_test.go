// Package wire_test holds the answers of descopetest, and those of the kit, to a schema of
// what Descope answers: testdata/answers.json, which is JSON Schema 2020-12.
package wire_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// schemas checks bodies against the definition of that name.
type schemas struct{ compiler *jsonschema.Compiler }

func newSchemas() *schemas { return &schemas{jsonschema.NewCompiler()} }

func (s *schemas) check(t *testing.T, name, about string, body []byte) {
	t.Helper()
	schema, err := s.compiler.Compile("testdata/answers.json#/$defs/" + name)
	require.NoError(t, err)
	content, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if assert.NoError(t, err, "%s: %s", about, body) {
		assert.NoError(t, schema.Validate(content), "%s: %s", about, body)
	}
}

// answers are what each call is answered with, once it is carried out.
var answers = map[string]string{
	kittest.SignUpPath: "NewKey", kittest.UpdatePath: "NewKey", kittest.VerifyPath: "JWT", kittest.RefreshPath: "JWT",
	kittest.TryRefreshPath: "OptionalJWT", kittest.SelectPath: "JWT", kittest.LogoutPath: "JWT", kittest.LogoutAllPath: "JWT",
	kittest.MePath: "User", kittest.HistoryPath: "History", kittest.TenantsPath: "Tenants", kittest.ValidatePath: "Claims",
}

// order has those last that end a sign-in.
var order = []string{
	kittest.SignUpPath, kittest.VerifyPath, "step-up", kittest.UpdatePath, kittest.MePath, kittest.HistoryPath, kittest.TenantsPath,
	kittest.ValidatePath, kittest.TryRefreshPath, kittest.RefreshPath, kittest.SelectPath, kittest.LogoutPath, kittest.LogoutAllPath,
}

var projects = map[string]func(*descopetest.Settings){
	"as it is": func(*descopetest.Settings) {},
	"ES256":    func(s *descopetest.Settings) { s.Alg = "ES256" },
	"rotating": func(s *descopetest.Settings) { s.RotateRefresh, s.InactivityTimeout = true, kittest.Past },
	"echoing":  func(s *descopetest.Settings) { s.EchoRefresh = true },
	"cookies":  func(s *descopetest.Settings) { s.TokensInCookies = true },
	"names": func(s *descopetest.Settings) {
		s.SessionCookieName, s.RefreshCookieName, s.CookieDomain, s.NameInDRN = "APP", "APPR", "example.com", true
	},
}

func newProject(set func(*descopetest.Settings)) *descopetest.Server {
	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	project.Configure(set)
	project.AddUser(descopetest.User{LoginID: kittest.Bob, Name: "Bob", Roles: []string{"admin"}, Tenants: map[string]descopetest.Tenant{"T2": {Name: "Two"}}})
	project.AddUser(descopetest.User{LoginID: "bare"})
	return project
}

// request is a call as Descope's clients make it.
func request(project *descopetest.Server, path, loginID string, tokens descopetest.Tokens) *http.Request {
	method, token, body := http.MethodPost, tokens.Refresh, "{}"
	code := fmt.Sprintf(`"loginId":%q,"code":%q`, loginID, project.Code(loginID))
	switch path {
	case kittest.SignUpPath:
		body = `{"loginId":"new` + loginID + `"}`
	case kittest.VerifyPath:
		body = "{" + code + "}"
	case "step-up":
		path, body = kittest.VerifyPath, "{"+code+`,"loginOptions":{"stepup":true,"customClaims":{"a":1}}}`
	case kittest.UpdatePath:
		body = fmt.Sprintf(`{"loginId":%q}`, loginID)
	case kittest.SelectPath:
		body = `{"tenant":"T2"}`
	case kittest.MePath, kittest.HistoryPath:
		method = http.MethodGet
	case kittest.ValidatePath:
		token = tokens.Session
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return kittest.InHeader(r, project.ProjectID(), token)
}

// Every answer of every call, granted and refused, has the form that Descope's have.
func TestDescopetest(t *testing.T) {
	s := newSchemas()
	for name, set := range projects {
		for _, loginID := range []string{kittest.Bob, "bare"} {
			project := newProject(set)
			for _, path := range order {
				about := name + ", " + loginID + ", " + path
				r := request(project, path, loginID, project.SignIn(loginID))
				res := kittest.Serve(project, r)
				want := answers[r.URL.Path]
				if path == kittest.SelectPath && loginID == "bare" {
					want = "Error"
				}
				require.Equal(t, want == "Error", res.StatusCode != http.StatusOK, "%s: %s", about, kittest.BodyOf(t, res))
				s.check(t, want, about, kittest.BodyOf(t, res))

				refused := kittest.Serve(project, request(project, path, loginID, descopetest.Tokens{Session: "a.b.c", Refresh: "a.b.c"}))
				switch {
				case path == kittest.TryRefreshPath:
					s.check(t, "Empty", about, kittest.BodyOf(t, refused))
				case refused.StatusCode != http.StatusOK:
					s.check(t, "Error", about, kittest.BodyOf(t, refused))
				}
			}
			for _, path := range []string{"/v2/keys/" + project.ProjectID(), "/" + project.ProjectID() + "/.well-known/jwks.json"} {
				s.check(t, "Keys", name+", "+path, kittest.BodyOf(t, kittest.Serve(project, kittest.Get(path))))
			}
			s.check(t, "Error", name, kittest.BodyOf(t, kittest.Serve(project, kittest.Get("/v2/keys/P2other"))))
		}
	}
}

// So have those of the kit, but for logouts, which say no more than that they were done, and
// for refusals, which are problem documents besides.
func TestKit(t *testing.T) {
	s := newSchemas()
	for name, set := range projects {
		for _, delivery := range []descopehttp.Delivery{descopehttp.InCookies, descopehttp.SessionInBody, descopehttp.InBody} {
			k := kittest.For(t, newProject(set), func(c *descopehttp.Config) {
				c.Tokens = delivery
				if name == "names" {
					c.Cookies.SessionNames, c.Cookies.RefreshNames = []string{"APP"}, []string{"APPR"}
				}
			})
			for _, path := range order {
				if path == kittest.ValidatePath {
					continue
				}
				about := fmt.Sprintf("%s, %v, %s", name, delivery, path)
				r := request(k.Project, path, kittest.Bob, k.Project.SignIn(kittest.Bob))
				res := kittest.Serve(k.Handler(), r)
				want := answers[r.URL.Path]
				switch path {
				case kittest.LogoutPath, kittest.LogoutAllPath:
					want = "Empty"
				case kittest.TryRefreshPath:
					want = "JWT"
				}
				require.Equal(t, http.StatusOK, res.StatusCode, "%s: %s", about, kittest.BodyOf(t, res))
				s.check(t, want, about, kittest.BodyOf(t, res))
				if refused := kittest.Serve(k.Handler(), request(k.Project, path, kittest.Bob, descopetest.Tokens{Refresh: "a.b.c"})); refused.StatusCode != http.StatusOK {
					s.check(t, "Problem", about, kittest.BodyOf(t, refused))
				}
			}
		}
	}
}
