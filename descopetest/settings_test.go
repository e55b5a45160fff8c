package descopetest_test

import (
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func TestSettingsThatNoProjectCanHave(t *testing.T) {
	for name, set := range map[string]func(*descopetest.Settings){
		"ProjectID":   func(t *descopetest.Settings) { t.ProjectID = "x" },
		"Alg":         func(t *descopetest.Settings) { t.Alg = "HS256" },
		"KeysKept":    func(t *descopetest.Settings) { t.KeysKept = 0 },
		"Fate":        func(t *descopetest.Settings) { t.SelectFate = 3 },
		"Inactivity":  func(t *descopetest.Settings) { t.InactivityTimeout = -1 },
		"KeyDelay":    func(t *descopetest.Settings) { t.KeyDelay = -1 },
		"Drift":       func(t *descopetest.Settings) { t.Drift = -1 },
		"MaxAttempts": func(t *descopetest.Settings) { t.MaxAttempts = -1 },
		"MaxUsers":    func(t *descopetest.Settings) { t.MaxUsers = 0 },
		"MaxTokens":   func(t *descopetest.Settings) { t.MaxTokens = 0 },
		"WrongCode":   func(t *descopetest.Settings) { t.WrongCode.Status = 200 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newProject()
			assert.Panics(t, func() { s.Configure(set) })
			s.SignIn(ann) // neither locked nor changed
		})
	}
}

func TestProjectIDIsFinalOnceUsed(t *testing.T) {
	other := func(t *descopetest.Settings) { t.ProjectID = "P2yyyyyyyyyyyyyyyyyyyyyyyyyyy" }
	assert.Regexp(t, `^P[A-Za-z0-9]{27,35}$`, descopetest.NewServer().ProjectID())

	s := newProject(other)
	assert.Equal(t, "P2yyyyyyyyyyyyyyyyyyyyyyyyyyy", s.ProjectID())
	assert.Equal(t, s.ProjectID(), kittest.ClaimsOf(t, s.SignIn(ann).Session)["iss"])
	assert.Panics(t, func() { s.Configure(func(t *descopetest.Settings) { t.ProjectID = "P2zzzzzzzzzzzzzzzzzzzzzzzzzzz" }) })

	s = newProject()
	keySet(t, s)
	assert.Panics(t, func() { s.Configure(other) })
}

func TestMisuse(t *testing.T) {
	s := newProject()
	ok(t, s, kittest.SignUpPath, "", `{"loginId":"pending"}`)
	for name, misuse := range map[string]func(){
		"no login id":    func() { s.AddUser(descopetest.User{}) },
		"long login id":  func() { s.AddUser(descopetest.User{LoginID: strings.Repeat("x", 257)}) },
		"known login id": func() { s.AddUser(descopetest.User{LoginID: ann}) },
		"known id": func() {
			s.AddUser(descopetest.User{LoginID: "x", ID: "U2x"})
			s.AddUser(descopetest.User{LoginID: "y", ID: "U2x"})
		},
		"foreign tenant":  func() { s.AddUser(descopetest.User{LoginID: "x", Tenant: "T1"}) },
		"code":            func() { s.Code("nobody") },
		"sign in":         func() { s.SignIn("nobody") },
		"sign in pending": func() { s.SignIn("pending") },
		"step up":         func() { s.StepUp("nobody") },
		"claims":          func() { s.SessionClaims("nobody") },
		"log out":         func() { s.LogOut("nobody") },
		"path":            func() { s.Requests("/v1/auth/totp") },
		"fault path":      func() { s.Fail("/v1/auth/refesh", descopetest.Fault{Status: 500}) },
		"no fault":        func() { s.Fail("", descopetest.Fault{Times: 3, After: true}) },
		"fault status":    func() { s.Fail("", descopetest.Fault{Status: 42}) },
		"fault delay":     func() { s.Fail("", descopetest.Fault{Delay: -1}) },
	} {
		t.Run(name, func(t *testing.T) {
			assert.Panics(t, misuse)
			s.HasUser(ann) // no lock is left behind
		})
	}
}

func TestPathsAndMethods(t *testing.T) {
	s := newProject()
	for _, path := range []string{"/", "/v1/auth/otp/verify", "/v1/auth/refresh/", "/v1/auth/logoutprevious", "/v2/keyring"} {
		requireRefusal(t, post(t, s, path, "", ""), 404, "E011001")
	}
	for _, path := range []string{kittest.SignUpPath, kittest.VerifyPath, kittest.UpdatePath, kittest.RefreshPath, kittest.TryRefreshPath, kittest.LogoutPath, kittest.LogoutAllPath, kittest.TenantsPath, kittest.SelectPath, kittest.ValidatePath} {
		r := send(t, s, http.MethodGet, path, "", "")
		requireRefusal(t, r, 405, "E011001")
		assert.Equal(t, "POST", r.Header.Get("Allow"))
	}
	for _, path := range []string{kittest.MePath, kittest.HistoryPath, "/v2/keys/" + s.ProjectID()} {
		r := post(t, s, path, "", "")
		requireRefusal(t, r, 405, "E011001")
		assert.Equal(t, "GET", r.Header.Get("Allow"))
	}
	ok(t, s, "/"+kittest.RefreshPath, s.SignIn(ann).Refresh, "")
}

func TestRequestCounts(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	post(t, s, kittest.RefreshPath, token, "")
	post(t, s, "//v1/auth/refresh", "", "")
	send(t, s, http.MethodGet, "/v2/keys/"+s.ProjectID(), "", "")
	send(t, s, http.MethodGet, "/"+s.ProjectID()+"/.well-known/jwks.json", "", "")
	for _, path := range []string{"/a", "/b", "/c"} {
		post(t, s, path, "", "")
	}
	assert.Equal(t, map[string]int{kittest.RefreshPath: 2, "/v2/keys": 2, "other": 3}, s.RequestCounts())
	assert.Equal(t, 2, s.Requests(kittest.RefreshPath))
	assert.Equal(t, 2, s.Requests("//v1/auth/refresh"))
	assert.Equal(t, 2, s.Requests("/v2/keys/"+s.ProjectID()))
	assert.Equal(t, 3, s.Requests("other"))
	assert.Equal(t, 7, s.Requests(""))
	s.Reset()
	assert.Empty(t, s.RequestCounts())
	assert.Equal(t, 0, s.Requests(""))
}

// The package ends up in the tests of others, and in a command of ours.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range f.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			assert.NotRegexp(t, `^testing$|^testing/|stretchr/testify|descopehttp/descopehttp$`, path)
		}
	}
}
