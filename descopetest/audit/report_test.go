package audit_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// A router whose routes are all guarded, and who its routes are for.
func guarded(k *kittest.Kit) http.Handler {
	inAcme := descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "editor")
	own := func(r *http.Request, s *descopehttp.Session) error {
		if r.PathValue("user") != s.Subject() {
			return descopehttp.ErrForbidden
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/{$}", k.LoadSession(page))
	mux.Handle("/account", k.RequireSession(page))
	mux.Handle("/admin/users", k.Require(descopehttp.Role("admin"))(page))
	mux.Handle("/news", k.Require(descopehttp.AnyOf(descopehttp.Role("admin"), descopehttp.Role("writer")))(page))
	mux.Handle("/t/{tenant}", k.Require(inAcme)(page))
	mux.Handle("/payout", k.Require(descopehttp.StepUp())(page))
	mux.Handle("/u/{user}/notes", k.Require(own)(page))
	return mux
}

var guardedRoutes = []audit.Route{
	{For: audit.Anyone()},
	{Path: "/account?tab=1"},
	{Method: "HEAD", Path: "/account"},
	{Method: "POST", Path: "/account", Body: "name=ada", ContentType: form},
	{Path: "/admin/users", For: audit.Role("admin")},
	{Method: "POST", Path: "/admin/users", Body: "{}", For: audit.Role("admin")},
	{Path: "/news", For: audit.Role("admin")},
	{Path: "/news", For: audit.Role("writer")},
	{Method: "DELETE", Path: "/t/acme", For: audit.TenantRole("acme", "editor")},
	{Path: "/t/acme", For: audit.TenantRole("acme", "editor")},
	{Path: "/payout", For: audit.SteppedUp()},
	{Method: "POST", Path: "/payout", For: audit.SteppedUp()},
	{Path: "/u/U2bob/notes", User: kittest.Bob},
	{Method: "PUT", Path: "/u/U2bob/notes", User: kittest.Bob},
}

func newGuarded(t *testing.T, edits ...func(*descopehttp.Config)) *kittest.Kit {
	k := kittest.New(t, edits...)
	k.Project.Configure(func(s *descopetest.Settings) { s.Alg = "ES256" }) // there are thousands of tokens
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob, ID: "U2bob"})
	return k
}

// However the kit is configured, nothing is found where all is guarded.
func TestGuarded(t *testing.T) {
	refuse := func(w http.ResponseWriter, r *http.Request, _ error) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<p>Not for you.</p>")
	}
	redirect := func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.Header().Set("Location", "https://app.example") // with no path
		w.WriteHeader(http.StatusSeeOther)
	}
	configs := map[string]func(*descopehttp.Config){
		"as it is":        func(*descopehttp.Config) {},
		"rotation":        func(*descopehttp.Config) {},
		"a login page":    func(c *descopehttp.Config) { c.LoginURL = "/signin" },
		"plain names":     func(c *descopehttp.Config) { c.Cookies.PlainNames = true },
		"session in body": func(c *descopehttp.Config) { c.Tokens = descopehttp.SessionInBody },
		"in body":         func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody },
		"no cache":        func(c *descopehttp.Config) { c.MaxCachedSessions = -1 },
		"own refusals":    func(c *descopehttp.Config) { c.ErrorHandler = refuse },
		"own redirects":   func(c *descopehttp.Config) { c.ErrorHandler = redirect },
		"own cookie names": func(c *descopehttp.Config) {
			c.Cookies.SessionNames, c.Cookies.RefreshNames = []string{"s"}, []string{"r"}
		},
	}
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newGuarded(t, config)
				k.Project.Configure(func(s *descopetest.Settings) {
					s.RotateRefresh = name == "rotation"
					s.SessionCookieName, s.RefreshCookieName = "s", "r"
				})
				report := audit.Routes(guarded(k), k.Project, guardedRoutes...)
				assert.NoError(t, report.Check())
				// Else its cookies were under names that the kit does not read.
				assert.Equal(t, name == "in body", strings.Contains(report.String(), "program: signed in"), "%s", report)
			})
		})
	}
}

// The report is the same for the same application, a second time over one project too.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newGuarded(t, func(c *descopehttp.Config) { c.LoginURL = "/signin" })
		mux := http.NewServeMux()
		mux.Handle("/", guarded(k))
		mux.Handle("/open", page)
		mux.Handle("/broken", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken") }))
		routes := append(guardedRoutes, audit.Route{Path: "/open"}, audit.Route{Path: "/broken", For: audit.Anyone()})
		first, second := audit.Routes(mux, k.Project, routes...), audit.Routes(mux, k.Project, routes...)
		assert.Equal(t, first.String(), second.String())

		document, err := json.MarshalIndent(first, "", "\t")
		require.NoError(t, err)
		golden(t, "report.txt", first.String())
		golden(t, "report.json", string(document)+"\n")
		assert.NotContains(t, fmt.Sprintf("%+v %#v %v", first, first, first.Check()), "eyJ", "no token is kept")
	})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "go test -update writes it anew")
}

// What has changed nothing may be asked as often as one likes; everything else succeeds once.
func TestOneSuccess(t *testing.T) {
	for method, want := range map[string]int{"POST": 1, "PUT": 1, "PATCH": 1, "DELETE": 1} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			next := new(kittest.Spy)
			require.NoError(t, audit.Routes(k.RequireSession(next), k.Project, audit.Route{Method: method, Body: "{}"}).Check())
			assert.Equal(t, want, next.Calls, method)

			next = new(kittest.Spy)
			require.NoError(t, audit.Routes(next, k.Project, audit.Route{Method: method, For: audit.Anyone()}).Check())
			assert.Equal(t, want, next.Calls, method)
		})
	}
}

// No refresh is left over from an audit, and no fault.
func TestProjectAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		audit.Routes(k.RequireSession(page), k.Project, audit.Route{})
		res := kittest.SignIn(k, kittest.Ada).Do(k.RequireSession(page), kittest.Get("/"))
		assert.Equal(t, http.StatusOK, res.StatusCode)
	})
}
