package descopehttp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func tenant(id string) func(*http.Request) string {
	return func(*http.Request) string { return id }
}

// claimGuards are the guards that read claims, all for tenant T1.
var claimGuards = map[string]descopehttp.Guard{
	"role":             descopehttp.Role("admin"),
	"permission":       descopehttp.Permission("write"),
	"tenantRole":       descopehttp.TenantRole(tenant("T1"), "admin"),
	"tenantPermission": descopehttp.TenantPermission(tenant("T1"), "write"),
	"noTenant":         descopehttp.TenantRole(tenant(""), "admin"),
	"stepUp":           descopehttp.StepUp(),
	"mfa":              descopehttp.MFA(),
	"anyOf":            descopehttp.AnyOf(descopehttp.Role("admin"), descopehttp.StepUp()),
	"anyOfNone":        descopehttp.AnyOf(),
}

// claimRefusals are what each of them says no with.
var claimRefusals = map[string]struct {
	status int
	code   string
}{
	"role": {403, "missing_role"}, "permission": {403, "missing_permission"},
	"tenantRole": {403, "missing_role"}, "tenantPermission": {403, "missing_permission"}, "noTenant": {403, "missing_role"},
	"stepUp": {401, "step_up_required"}, "mfa": {401, "mfa_required"},
	"anyOf": {403, "missing_role"}, "anyOfNone": {403, "forbidden"},
}

// guardedClaims are claims of a session and the guards that they open.
var guardedClaims = []struct {
	name   string
	claims string
	open   []string
}{
	{"nothing", `{}`, nil},
	{"project roles", `{"roles":["user","admin"]}`, []string{"role", "anyOf"}},
	{"project permissions", `{"permissions":["write"]}`, []string{"permission"}},
	{"empty lists", `{"roles":[],"permissions":[],"tenants":{}}`, nil},
	{"tenant roles", `{"tenants":{"T1":{"roles":["admin"]}}}`, []string{"tenantRole"}},
	{"tenant permissions", `{"tenants":{"T1":{"permissions":["write"]}}}`, []string{"tenantPermission"}},
	{"tenant without lists", `{"tenants":{"T1":{}}}`, nil},
	{"another tenant", `{"tenants":{"T2":{"roles":["admin"],"permissions":["write"]}}}`, nil},
	{"tenant in another case", `{"tenants":{"t1":{"roles":["admin"]}}}`, nil},
	{"tenant of no name", `{"tenants":{"":{"roles":["admin"]}}}`, nil},
	{"project and tenants", `{"roles":["admin"],"tenants":{"T1":{}}}`, []string{"role", "anyOf"}},
	{"current tenant, no tenants", `{"dct":"T1","roles":["admin"],"permissions":["write"]}`, []string{"tenantRole", "tenantPermission"}},
	{"another current tenant, no tenants", `{"dct":"T2","roles":["admin"],"permissions":["write"]}`, nil},
	{"current tenant and tenants", `{"dct":"T1","tenants":{"T1":{"roles":["admin"]}},"permissions":["write"]}`, []string{"tenantRole", "permission"}},
	{"current tenant, tenants of a wrong type", `{"dct":"T1","tenants":7,"roles":["admin"]}`, []string{"tenantRole"}},
	{"current tenant, tenants null", `{"dct":"T1","tenants":null,"roles":["admin"]}`, []string{"tenantRole"}},
	{"current tenant, tenants a list", `{"dct":"T1","tenants":["T1"],"roles":["admin"]}`, []string{"tenantRole"}},
	{"current tenant empty", `{"dct":"","roles":["admin"]}`, []string{"role", "anyOf"}},
	{"current tenant of a wrong type", `{"dct":7,"roles":["admin"]}`, nil},
	{"current tenant a list", `{"dct":["T1"],"roles":["admin"]}`, nil},
	{"current tenant null", `{"dct":null,"roles":["admin"]}`, []string{"role", "anyOf"}},
	{"roles a string", `{"roles":"admin"}`, nil},
	{"roles an object", `{"roles":{"admin":true}}`, nil},
	{"roles mixed", `{"roles":["admin",7]}`, nil},
	{"roles null", `{"roles":null}`, nil},
	{"role in another case", `{"roles":["Admin"]}`, nil},
	{"Roles in another case", `{"Roles":["admin"]}`, nil},
	{"tenants a list", `{"tenants":["T1"]}`, nil},
	{"tenant a list", `{"tenants":{"T1":["admin"]}}`, nil},
	{"tenant roles a string", `{"tenants":{"T1":{"roles":"admin","permissions":"write"}}}`, nil},
	{"step-up", `{"su":true}`, []string{"stepUp", "anyOf"}},
	{"step-up false", `{"su":false}`, nil},
	{"step-up a string", `{"su":"true"}`, nil},
	{"step-up a number", `{"su":1}`, nil},
	{"mfa", `{"amr":["pwd","totp","mfa"]}`, []string{"mfa"}},
	{"two factors by name only", `{"amr":["pwd","totp"]}`, nil},
	{"amr a string", `{"amr":"mfa"}`, nil},
	{"claims of the caller", `{"nsec":{"roles":["admin"],"permissions":["write"],"su":true,"amr":["mfa"],"tenants":{"T1":{"roles":["admin"]}}}}`, nil},
}

// Every guard against every place where Descope can put a claim, and against
// claims that are missing, empty, another tenant's or of a wrong type. A guard
// that closes answers 403 or asks for more; it never signs out.
//
// Rule: cookies: against the admin of one tenant as the admin of all: lists of a tenant are
// never read as the project's, whatever type the claims are of.
func TestGuardsByClaims(t *testing.T) {
	for _, tt := range guardedClaims {
		t.Run(tt.name, func(t *testing.T) {
			h := kittest.NewHostile(t)
			changes := map[string]any{"roles": nil, "permissions": nil, "tenants": nil, "dct": nil, "amr": nil}
			require.NoError(t, json.Unmarshal([]byte(tt.claims), &changes))
			token := kittest.SignRaw(t, h.RSA, kittest.RS256Header, claimsWithNulls(t, h.Claims(nil), changes, tt.claims))
			for name, guard := range claimGuards {
				next := new(kittest.Spy)
				res := kittest.Serve(h.Require(guard)(next), kittest.WithCookies(kittest.Get("/"), token, ""))
				assert.Empty(t, res.Cookies(), "a guard never signs out")
				opens := false
				for _, open := range tt.open {
					opens = opens || open == name
				}
				if opens {
					assert.Equal(t, http.StatusOK, res.StatusCode, name)
					continue
				}
				p := kittest.RequireProblem(t, res, claimRefusals[name].status, claimRefusals[name].code)
				assert.Zero(t, next.Calls, name)
				for _, value := range []string{"admin", "write", "T1"} {
					assert.NotContains(t, p.Detail, value, "what was missing is told by kind, not by value")
				}
			}
			assert.Equal(t, http.StatusOK, kittest.Serve(h.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), token, "")).StatusCode)
		})
	}
}

// claimsWithNulls merges changes into claims: null stays null where the text says
// so, and removes a default otherwise.
func claimsWithNulls(t *testing.T, claims, changes map[string]any, text string) string {
	t.Helper()
	given := make(map[string]json.RawMessage)
	require.NoError(t, json.Unmarshal([]byte(text), &given))
	for name := range changes {
		delete(claims, name)
	}
	for name, raw := range given {
		claims[name] = raw
	}
	return kittest.ClaimsJSON(t, claims)
}

func TestStepUpChallenge(t *testing.T) {
	k := kittest.New(t)
	token := k.Project.SignIn(kittest.Ada).Session
	for guard, want := range map[string]string{"stepup": "stepup", "mfa": "mfa"} {
		g := descopehttp.StepUp()
		if guard == "mfa" {
			g = descopehttp.MFA()
		}
		res := kittest.Serve(k.Require(g)(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), token))
		assert.Equal(t, `Bearer error="insufficient_user_authentication", acr_values="`+want+`"`, res.Header.Get("WWW-Authenticate"))
	}
	own := func(*http.Request, *descopehttp.Session) error {
		return fmt.Errorf("own reason: %w", descopehttp.ErrStepUpRequired)
	}
	kittest.RequireProblem(t, kittest.Serve(k.Require(own)(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), token)), http.StatusUnauthorized, "step_up_required")
}

// Rule: guards: an empty tenant is none.
func TestTenantFromThePath(t *testing.T) {
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: "eve", Tenants: map[string]descopetest.Tenant{"T1": {Roles: []string{"admin"}}}})
	b := kittest.SignIn(k, "eve")
	mux := http.NewServeMux()
	guard := descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "admin")
	mux.Handle("/t/{tenant}/", k.Require(guard)(new(kittest.Spy)))
	mux.Handle("/none/", k.Require(guard)(new(kittest.Spy)))
	assert.Equal(t, http.StatusOK, b.Do(mux, kittest.Get("/t/T1/x")).StatusCode)
	kittest.RequireProblem(t, b.Do(mux, kittest.Get("/t/T2/x")), http.StatusForbidden, "missing_role")
	kittest.RequireProblem(t, b.Do(mux, kittest.Get("/none/")), http.StatusForbidden, "missing_role")

	// What somebody may in the project as a whole says nothing of a tenant, and the
	// lack of one is not the project.
	k.Project.AddUser(descopetest.User{LoginID: "root", Roles: []string{"admin"}, Permissions: []string{"write"}})
	b = kittest.SignIn(k, "root")
	for path, id := range map[string]string{"/": "", "/T1": "T1"} {
		tenant := func(*http.Request) string { return id }
		role := k.Require(descopehttp.TenantRole(tenant, "admin"))(new(kittest.Spy))
		kittest.RequireProblem(t, b.Do(role, kittest.Get(path)), http.StatusForbidden, "missing_role")
		permission := k.Require(descopehttp.TenantPermission(tenant, "write"))(new(kittest.Spy))
		kittest.RequireProblem(t, b.Do(permission, kittest.Get(path)), http.StatusForbidden, "missing_permission")
	}
	assert.Equal(t, http.StatusOK, b.Do(k.Require(descopehttp.Role("admin"), descopehttp.Permission("write"))(new(kittest.Spy)), kittest.Get("/")).StatusCode)
}

// No order of middleware serves a guarded route to someone who lacks the role.
//
// Rule: cookies: against middleware in the wrong order, nested, or with somebody else's
// context: every middleware authenticates by itself.
// Rule: guards: every guard must agree.
func TestNoCompositionOpensAGuardedRoute(t *testing.T) {
	k := kittest.New(t)
	k.Project.AddUser(descopetest.User{LoginID: "guest"})
	other := kittest.For(t, k.Project)
	admin, guest := k.Project.SignIn(kittest.Ada).Session, k.Project.SignIn("guest").Session
	made, err := descopehttp.NewSession(map[string]any{"sub": "x", "roles": []string{"admin"}})
	require.NoError(t, err)
	plant := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(descopehttp.ContextWithSession(r.Context(), made)))
		})
	}
	layers := []func(http.Handler) http.Handler{
		k.LoadSession, k.RequireSession, k.Require(), plant, k.RefreshUpgrades,
		other.LoadSession, other.RequireSession, other.Require(descopehttp.AnyOf(descopehttp.Role("admin"), func(*http.Request, *descopehttp.Session) error { return nil })),
	}
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	for i := range 500 {
		next := new(kittest.Spy)
		h := http.Handler(next)
		guardAt := random.IntN(6)
		for at := range 6 {
			if at == guardAt {
				h = k.Require(descopehttp.Role("admin"))(h)
			}
			h = layers[random.IntN(len(layers))](h)
		}
		for _, r := range []*http.Request{kittest.Get("/"), kittest.WithCookies(kittest.Get("/"), guest, ""), kittest.WithBearer(kittest.Get("/"), guest), kittest.WithBearer(kittest.Get("/"), "x.y.z")} {
			res := kittest.Serve(h, r)
			require.Zero(t, next.Calls, "composition %d of seed %d", i, seed)
			require.Contains(t, []int{401, 403}, res.StatusCode)
		}
		require.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithCookies(kittest.Get("/"), admin, "")).StatusCode)
		require.Equal(t, 1, next.Calls)
	}
}

// A step-up opens the guard, and when it has ended an ordinary renewal closes it
// again.
func TestStepUpFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.StepUpTTL = 3 * time.Minute })
		b := kittest.SignIn(k, kittest.Ada)
		h := k.Require(descopehttp.StepUp())(new(kittest.Spy))
		kittest.RequireProblem(t, b.Do(h, kittest.Get("/")), http.StatusUnauthorized, "step_up_required")
		verify := func() *http.Request {
			return kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`","loginOptions":{"stepup":true}}`)
		}
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), verify()).StatusCode)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
		kittest.Elapse(4 * time.Minute)
		res := b.Do(h, kittest.Get("/"))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "step_up_required")
		assert.Contains(t, kittest.CookiesOf(res), kittest.SessionCookie, "the session itself was renewed")
		assert.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), verify()).StatusCode)
		assert.Equal(t, http.StatusOK, b.Do(h, kittest.Get("/")).StatusCode)
	})
}

// Rule: guessing: against a key for somebody else's account by way of update: the login id must
// be among those of the presented token's user; a step-up with `StepUpForUpdate`.
// Rule: flows: update with StepUpForUpdate: a step-up.
func TestStepUpForUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		update := func() *http.Request { return kittest.Post(kittest.UpdatePath, `{"loginId":"`+kittest.Ada+`"}`) }
		k := kittest.New(t, func(c *descopehttp.Config) { c.StepUpForUpdate = true })
		b := kittest.SignIn(k, kittest.Ada)
		kittest.RequireProblem(t, b.Do(k.Handler(), update()), http.StatusUnauthorized, "step_up_required")
		assert.Zero(t, k.Project.Requests(kittest.UpdatePath))

		// A refresh token alone, in the header, shows no step-up either.
		r := update()
		r.Header.Set("Authorization", "Bearer "+k.Project.ProjectID()+":"+b.Refresh)
		kittest.RequireProblem(t, kittest.Serve(k.Handler(), r), http.StatusUnauthorized, "step_up_required")

		tokens := k.Project.StepUp(kittest.Ada)
		stepped := &kittest.Browser{Session: tokens.Session, Refresh: tokens.Refresh}
		assert.Equal(t, http.StatusOK, stepped.Do(k.Handler(), update()).StatusCode)
		kittest.Elapse(kittest.Past)
		kittest.RequireProblem(t, stepped.Do(k.Handler(), update()), http.StatusUnauthorized, "step_up_required")
	})
	_, err := descopehttp.New(descopehttp.Config{ProjectID: kittest.ProjectID, StepUpForUpdate: true, Tokens: descopehttp.InBody})
	assert.ErrorContains(t, err, "StepUpForUpdate")
}

func TestSessionAccessors(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	s, err := descopehttp.NewSession(map[string]any{
		"sub": "U2ada", "iss": kittest.ProjectID, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"rexp": now.Add(24 * time.Hour).Format(time.RFC3339), "amr": []string{"totp"}, "dct": "T1",
		"roles": []string{"admin"}, "tenants": map[string]any{"T1": map[string]any{"roles": []string{"owner"}, "permissions": []string{"pay"}}},
		"plan": "gold", "seats": 7,
	})
	require.NoError(t, err)
	assert.Equal(t, "U2ada", s.Subject())
	assert.Equal(t, kittest.ProjectID, s.Issuer())
	assert.Equal(t, "T1", s.Tenant())
	assert.Equal(t, now.Unix(), s.IssuedAt().Unix())
	assert.Equal(t, now.Add(time.Hour).Unix(), s.Expiry().Unix())
	assert.Equal(t, now.Add(24*time.Hour).Unix(), s.RefreshExpiry().Unix())
	assert.InDelta(t, time.Hour, s.TimeLeft(), float64(2*time.Second))
	assert.Equal(t, []string{"totp"}, s.AuthMethods())
	assert.False(t, s.StepUp())
	assert.Equal(t, []string{"admin"}, s.Roles(""))
	assert.Equal(t, []string{"owner"}, s.Roles("T1"))
	assert.Equal(t, []string{"pay"}, s.Permissions("T1"))
	assert.True(t, s.HasRole("T1", "owner"))
	assert.False(t, s.HasRole("T2", "owner"))
	assert.True(t, s.HasPermission("T1", "pay"))
	assert.Empty(t, s.Token())

	s.Roles("")[0] = "changed"
	assert.Equal(t, []string{"admin"}, s.Roles(""), "slices are copies")

	var own struct {
		Plan string `json:"plan"`
	}
	require.NoError(t, s.Claims(&own))
	assert.Equal(t, "gold", own.Plan)
	assert.Error(t, s.Claims(&struct {
		Plan int `json:"plan"`
	}{}))
	for _, claims := range []any{7, []string{"x"}, nil, func() {}, map[string]any{"exp": "soon"}} {
		_, err := descopehttp.NewSession(claims)
		assert.Error(t, err)
	}
}

// Rule: cookies: against a login page that sends people to another site: only a path of this
// server is a way back.
// Rule: guards: the way back is a path of this server.
func TestReturnTo(t *testing.T) {
	for _, back := range []string{"/", "/app", "/app/?q=1&r=//x", "/a%20b", "/app?u=https://x.example", `/a?b=\c`, "/app/..%2f", "/" + strings.Repeat("a", 2047)} {
		r := kittest.Get("/signin")
		r.URL.RawQuery = "return_to=" + url.QueryEscape(back)
		assert.Equal(t, back, descopehttp.ReturnTo(r))
	}
	evil := []string{
		"", "app", "//evil.example", "///evil.example", "////evil.example", `/\evil.example`, `\/evil.example`, `\\evil.example`,
		`/\/evil.example`, `/\\evil.example`, "https:evil.example", "https:/evil.example", "https://evil.example", "http://evil.example",
		"HTTPS://evil.example", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "mailto:x@y",
		"/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "\t//evil.example", "\n//evil.example", " //evil.example",
		"/\x00/evil.example", "\x00/", "/\x7f", "/a\x0b", "/%09/evil.example\t", "//evil.example/%2f..", "//user@evil.example", "//evil.example:443",
		`/a\b`, "/%5c%5cevil.example", "/%2f/evil.example", `/a/../\evil.example`, "/a/../%5cevil.example", "/%2F%2Fevil.example", "/%zz", ".//evil.example", "../", "?//evil.example", "#//evil.example",
		"/app\r\nSet-Cookie: a=b", "//[::1]/", "//0x7f000001", "/" + string(make([]byte, 3000)), "/" + strings.Repeat("a", 2048), "file:///etc/passwd", "ftp://x", "@evil.example", ":evil",
	}
	require.GreaterOrEqual(t, len(evil), 40)
	for _, back := range evil {
		r := kittest.Get("/signin")
		r.URL.RawQuery = "return_to=" + url.QueryEscape(back)
		got := descopehttp.ReturnTo(r)
		assert.True(t, staysOnOrigin(got), "%q became %q", back, got)
		assert.Equal(t, "/", got, "%q", back)
	}
}

// Rule: cookies: against a login page that sends people to another site: only a path of this
// server is a way back.
func TestLoginURL(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = "/signin?lang=en" })
	next := new(kittest.Spy)
	navigate := func(method, target string) *http.Request {
		r := httptest.NewRequest(method, "http://example.com/", nil)
		r.RequestURI = target
		r.URL.Path, r.URL.RawQuery = "", ""
		r.URL.Opaque = target
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		return r
	}
	res := kittest.Serve(k.RequireSession(next), navigate(http.MethodGet, "/app?x=1&y=2"))
	assert.Equal(t, http.StatusSeeOther, res.StatusCode)
	assert.Equal(t, "/signin?lang=en&return_to=%2Fapp%3Fx%3D1%26y%3D2", res.Header.Get("Location"))
	assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	for _, target := range []string{"//evil.example/x", `/\evil.example`, "/\t/evil"} {
		res := kittest.Serve(k.RequireSession(next), navigate(http.MethodGet, target))
		assert.Equal(t, "/signin?lang=en", res.Header.Get("Location"), target)
	}

	// A step-up is asked for on the same page.
	r := kittest.WithCookies(navigate(http.MethodGet, "/pay"), k.Project.SignIn(kittest.Ada).Session, "")
	res = kittest.Serve(k.Require(descopehttp.StepUp())(next), r)
	assert.Equal(t, "/signin?acr_values=stepup&lang=en&return_to=%2Fpay", res.Header.Get("Location"))
	res = kittest.Serve(k.Require(descopehttp.MFA())(next), r)
	assert.Equal(t, "/signin?acr_values=mfa&lang=en&return_to=%2Fpay", res.Header.Get("Location"))
	assert.Contains(t, res.Header.Values("Vary"), "Sec-Fetch-Mode, Accept")
	assert.Equal(t, http.StatusSeeOther, kittest.Serve(k.RequireSession(next), navigate(http.MethodHead, "/app")).StatusCode)
	kittest.RequireProblem(t, kittest.Serve(kittest.For(t, k.Project).RequireSession(next), navigate(http.MethodGet, "/app")), http.StatusUnauthorized, "no_session")

	// What is no navigation gets the problem document.
	for name, edit := range map[string]func(*http.Request){
		"fetch":          func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "cors") },
		"fetch for HTML": func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "cors"); r.Header.Set("Accept", "text/html") },
		"JSON":           func(r *http.Request) { r.Header.Set("Accept", "application/json, text/html") },
		"anything":       func(r *http.Request) { r.Header.Set("Accept", "*/*") },
		"POST":           func(r *http.Request) { r.Method = http.MethodPost; r.Header.Set("Accept", "text/html") },
		"upgrade": func(r *http.Request) {
			r.Header.Set("Connection", "upgrade")
			r.Header.Set("Upgrade", "websocket")
			r.Header.Set("Accept", "text/html")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := kittest.Get("/app")
			edit(r)
			kittest.RequireProblem(t, kittest.Serve(k.RequireSession(next), r), http.StatusUnauthorized, "no_session")
		})
	}
	r = kittest.Get("/app")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	assert.Equal(t, http.StatusSeeOther, kittest.Serve(k.RequireSession(next), r).StatusCode, "an older browser")

	// An outage is not a sign-out.
	k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
	other := kittest.For(t, k.Project, func(c *descopehttp.Config) { c.LoginURL = "/signin" })
	r = kittest.WithCookies(navigate(http.MethodGet, "/app"), k.Project.SignIn(kittest.Ada).Session, "")
	kittest.RequireProblem(t, kittest.Serve(other.RequireSession(next), r), http.StatusServiceUnavailable, "unavailable")
	assert.Zero(t, next.Calls)

	for _, login := range []string{"http://localhost/signin", "http://localhost:5173", "http://127.0.0.1:8080/signin", "http://[::1]/", "https://login.example"} {
		_, err := descopehttp.New(descopehttp.Config{ProjectID: kittest.ProjectID, LoginURL: login})
		assert.NoError(t, err, login)
	}
	for _, login := range []string{"signin", "//evil.example", "http://x.example/", "http://localhost.evil.example/", "http://127.0.0.1.evil.example/", "http://10.0.0.1/", "http:///signin", "javascript:x", "https://u:p@x.example/", "http://u:p@localhost/", "/x#y"} {
		_, err := descopehttp.New(descopehttp.Config{ProjectID: kittest.ProjectID, LoginURL: login})
		assert.ErrorContains(t, err, "LoginURL", login)
	}
}

// staysOnOrigin resolves a redirect the way browsers do: backslashes are slashes,
// and control characters are dropped first.
func staysOnOrigin(location string) bool {
	cleaned := strings.Map(func(r rune) rune {
		switch {
		case r == '\\':
			return '/'
		case r < ' ' || r == 0x7f:
			return -1
		}
		return r
	}, location)
	base := &url.URL{Scheme: "https", Host: "own.example", Path: "/signin"}
	u, err := base.Parse(cleaned)
	return err == nil && u.Scheme == "https" && u.Host == "own.example"
}

// onWire sends a request over real HTTP, without following where the answer leads.
func onWire(t *testing.T, h http.Handler, method, target string, header ...string) *http.Response {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, err := http.NewRequest(method, srv.URL, nil)
	require.NoError(t, err)
	r.URL.Opaque = target // as it is, unescaped
	r.Host = "app.example"
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res
}

// return_to is what the browser has asked for, whatever routers and proxies have cut off.
func TestReturnToIsTheBrowsersAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		login, prefix, target, want string
	}{
		"a prefix that the router cuts off": {"/signin", "", "/app/orders?id=7", "/signin?return_to=%2Fapp%2Forders%3Fid%3D7"},
		"and one that a proxy cuts off":     {"/shop/signin", "/shop", "/app/orders", "/shop/signin?return_to=%2Fshop%2Fapp%2Forders"},
		"a query with odd parts":            {"/signin", "", "/app/search?q=hello&&x=%26&y", "/signin?return_to=%2Fapp%2Fsearch%3Fq%3Dhello%26%26x%3D%2526%26y"},
		"escaped":                           {"/signin", "", "/app/a%2Fb%20c", "/signin?return_to=%2Fapp%2Fa%252Fb%2520c"},
		"a backslash in the query":          {"/signin", "", `/app/x?q=a\b`, `/signin?return_to=%2Fapp%2Fx%3Fq%3Da%5Cb`},
		"a backslash in the path":           {"/signin", "", `/app/\evil.example`, "/signin"},
		"absolute":                          {"/signin", "", "http://app.example/app/x", "/signin?return_to=%2Fapp%2Fx"},
		"another host's login page":         {"http://127.0.0.1:9/app/x", "", "/app/x", "http://127.0.0.1:9/app/x?return_to=%2Fapp%2Fx"},
	} {
		t.Run(name, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL, c.PathPrefix = tt.login, tt.prefix })
			mux := http.NewServeMux()
			mux.Handle("/app/", http.StripPrefix("/app", k.RequireSession(new(kittest.Spy))))
			res := onWire(t, mux, http.MethodGet, tt.target, "Sec-Fetch-Mode", "navigate", "X-Forwarded-Prefix", "/evil")
			assert.Equal(t, http.StatusSeeOther, res.StatusCode)
			assert.Equal(t, tt.want, res.Header.Get("Location"))
		})
	}
	r := kittest.Get("/orders?id=7")
	r.RequestURI = "" // made by hand
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = "/signin" })
	assert.Equal(t, "/signin?return_to=%2Forders%3Fid%3D7", kittest.Serve(k.RequireSession(new(kittest.Spy)), r).Header.Get("Location"))
	r = kittest.Get(`/signin?return_to=%2Fapp%2Fx%3Fq%3Da%5Cb`)
	assert.Equal(t, `/app/x?q=a\b`, descopehttp.ReturnTo(r))
	for _, prefix := range []string{"shop", "//shop", "/shop/", "/", "/shop?x", `/\shop`} {
		_, err := descopehttp.New(descopehttp.Config{ProjectID: kittest.ProjectID, PathPrefix: prefix})
		assert.ErrorContains(t, err, "PathPrefix", prefix)
	}
}

// A login page that asks for a session itself is not a redirect to itself for ever.
func TestLoginPageBehindTheMiddleware(t *testing.T) {
	for _, tt := range []struct{ login, asked string }{
		{"/signin", "/signin"},
		{"/signin?lang=en", "/signin"},
		{"https://app.example/signin", "/signin"},
		{"https://App.Example/signin", "/signin"},
		{"https://app.example", "/"},
		{"https://app.example:443/signin", "/signin"}, // of which browsers leave the port out
		{"/signin", "/signin/"},                       // where a router has led
		{"/signin/", "/signin"},
		{"/einlaß", "/einla%C3%9F"}, // as browsers write it
		{"/sign%20in", "/sign%20in"},
		{"/shop/signin", "http://app.example/signin"},
	} {
		t.Run(tt.login+" "+tt.asked, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) {
				c.LoginURL = tt.login
				if strings.HasPrefix(tt.login, "/shop") {
					c.PathPrefix = "/shop"
				}
			})
			for range 3 {
				res := onWire(t, k.RequireSession(new(kittest.Spy)), http.MethodGet, tt.asked+"?return_to=%2F", "Sec-Fetch-Mode", "navigate")
				p := kittest.RequireProblem(t, res, http.StatusUnauthorized, "login_page_protected")
				assert.Contains(t, p.ErrorMessage, "mistake")
				assert.Empty(t, res.Header.Get("Location"))
			}
			assert.Equal(t, 1, strings.Count(k.Logs.String(), "Config.LoginURL"), "once")
		})
	}
}

// What is written like the address of the login page need not be that page: it leads there, and
// nobody is told of a mistake that is none.
func TestNeighboursOfTheLoginPage(t *testing.T) {
	for asked, want := range map[string]string{
		"/signin/":         "/signin?return_to=%2Fsignin%2F",
		"/app/..%2fsignin": "/signin?return_to=%2Fapp%2F..%252fsignin",
		"//signin":         "/signin",
		"//other/signin":   "/signin",
	} {
		k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = "/signin" })
		res := onWire(t, k.RequireSession(new(kittest.Spy)), http.MethodGet, "http://app.example"+asked, "Sec-Fetch-Mode", "navigate")
		assert.Equal(t, http.StatusSeeOther, res.StatusCode, asked)
		assert.Equal(t, want, res.Header.Get("Location"), asked)
		assert.NotContains(t, k.Logs.String(), "level=ERROR", asked)
	}
}

// What a browser is about to show as a page goes to the login page, and nothing else.
func TestWhatIsAPageView(t *testing.T) {
	const (
		nowhere = "" // a problem document
		home    = "/signin"
		form    = "application/x-www-form-urlencoded"
	)
	k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = "/signin" })
	h := k.RequireSession(new(kittest.Spy))
	for name, tt := range map[string]struct {
		method string
		header []string
		want   string
	}{
		"link":                         {"GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, "/signin?return_to=%2Fcomments"},
		"frame":                        {"GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, "/signin?return_to=%2Fcomments"},
		"form":                         {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", form, "Referer", "https://app.example/posts/7?page=2#new"}, "/signin?return_to=%2Fposts%2F7%3Fpage%3D2"},
		"form with a file":             {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", "multipart/form-data; boundary=x", "Referer", "http://app.example/posts"}, "/signin?return_to=%2Fposts"},
		"form, older browser":          {"POST", []string{"Accept", "text/html, */*", "Content-Type", form + "; charset=utf-8"}, home},
		"form of another site":         {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", form, "Referer", "https://evil.example/posts"}, home},
		"form of the login page":       {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", form, "Referer", "https://app.example/signin?return_to=%2Forders%3Fid%3D7"}, "/signin?return_to=%2Forders%3Fid%3D7"},
		"form of it, from nowhere":     {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", form, "Referer", "https://app.example/signin"}, home},
		"form, no referer":             {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", form, "Referer", ""}, home},
		"form, odd referer":            {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", form, "Referer", `https://app.example//evil.example`}, home},
		"form that is none":            {"POST", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", "application/json"}, nowhere},
		"PUT":                          {"PUT", []string{"Sec-Fetch-Mode", "navigate", "Content-Type", form}, nowhere},
		"download":                     {"GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "empty"}, nowhere},
		"prefetch":                     {"GET", []string{"Sec-Fetch-Mode", "navigate", "Sec-Purpose", "prefetch;prerender"}, nowhere},
		"prefetch, older browser":      {"GET", []string{"Accept", "text/html", "Purpose", "prefetch"}, nowhere},
		"web view of an app":           {"GET", []string{"Sec-Fetch-Mode", "navigate", "X-Requested-With", "org.example.app"}, "/signin?return_to=%2Fcomments"},
		"script":                       {"GET", []string{"Accept", "text/html, */*", "X-Requested-With", "XMLHttpRequest"}, nowhere},
		"fetch":                        {"POST", []string{"Sec-Fetch-Mode", "cors", "Content-Type", form, "Accept", "text/html"}, nowhere},
		"an offer of another protocol": {"GET", []string{"Sec-Fetch-Mode", "navigate", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c"}, "/signin?return_to=%2Fcomments"},
	} {
		t.Run(name, func(t *testing.T) {
			res := onWire(t, h, tt.method, "/comments", tt.header...)
			assert.Equal(t, tt.want, res.Header.Get("Location"))
			if tt.want == nowhere {
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_session")
				return
			}
			assert.Equal(t, http.StatusSeeOther, res.StatusCode)
			assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
		})
	}

	res := onWire(t, h, http.MethodPost, "/part", "HX-Request", "true", "HX-Current-URL", "https://app.example/list?page=2", "Sec-Fetch-Mode", "cors")
	assert.Equal(t, "/signin?return_to=%2Flist%3Fpage%3D2", res.Header.Get("HX-Redirect"))
	kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_session")
	res = onWire(t, h, http.MethodGet, "/list?page=3", "HX-Request", "true", "HX-Boosted", "true", "HX-Current-URL", "https://app.example/list?page=2")
	assert.Equal(t, "/signin?return_to=%2Flist%3Fpage%3D3", res.Header.Get("HX-Redirect"), "a whole page")
	res = onWire(t, h, http.MethodPost, "/part", "HX-Request", "true", "Accept", "text/html", "Content-Type", form, "HX-Current-URL", "https://app.example/list", "Referer", "https://app.example/other")
	assert.Equal(t, "/signin?return_to=%2Flist", res.Header.Get("HX-Redirect"), "an older browser")
	kittest.RequireProblem(t, res, http.StatusUnauthorized, "no_session")
	for current, want := range map[string]string{
		"https://evil.example/list":                 "/signin",
		"https://app.example/signin?return_to=%2Fa": "/signin?return_to=%2Fa",
		"": "/signin",
	} {
		res = onWire(t, h, http.MethodDelete, "/part", "HX-Request", "true", "HX-Current-URL", current, "Sec-Fetch-Mode", "cors")
		assert.Equal(t, want, res.Header.Get("HX-Redirect"), current)
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
	}
}

// An offer of another protocol is no upgrade, and some proxies write one into every
// request: the session is renewed as ever. A WebSocket handshake renews nothing.
func TestOffersAreNoUpgrades(t *testing.T) {
	for name, tt := range map[string]struct {
		header []string
		status int
	}{
		"h2c":                      {[]string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c"}, http.StatusOK},
		"TLS":                      {[]string{"Connection", "upgrade", "Upgrade", "TLS/1.3, HTTP/1.1"}, http.StatusOK},
		"empty":                    {[]string{"Connection", "upgrade", "Upgrade", ""}, http.StatusOK},
		"a proxy that always does": {[]string{"Connection", "close", "Upgrade", "websocket"}, http.StatusOK},
		"WebSocket":                {[]string{"Connection", "keep-alive, Upgrade", "Upgrade", "WebSocket"}, http.StatusUnauthorized},
		"capitals and lines":       {[]string{"Connection", "KEEP-ALIVE", "Connection", "x,UPGRADE", "Upgrade", "h2c", "Upgrade", "WEBSOCKET"}, http.StatusUnauthorized},
		"a part of the word":       {[]string{"Connection", "Upgrade", "Upgrade", "websocket-of-mine"}, http.StatusOK},
		"WebSocket or something":   {[]string{"Connection", "Upgrade", "Upgrade", "h2c, websocket"}, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			k := kittest.New(t)
			header := append(tt.header, "Cookie", kittest.RefreshCookie+"="+k.Project.SignIn(kittest.Ada).Refresh, "Sec-Fetch-Site", "same-origin")
			assert.Equal(t, tt.status, onWire(t, k.RequireSession(new(kittest.Spy)), http.MethodGet, "/", header...).StatusCode)
		})
	}
	k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = "/signin" })
	res := onWire(t, k.RequireSession(new(kittest.Spy)), http.MethodConnect, "app.example:443", "Accept", "text/html",
		"Cookie", kittest.RefreshCookie+"="+k.Project.SignIn(kittest.Ada).Refresh, "Sec-Fetch-Site", "same-origin")
	kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_expired")
	assert.Zero(t, k.Project.Requests(kittest.RefreshPath))
}

// A guard that is nil is found when routes are made.
func TestNilGuardPanics(t *testing.T) {
	k := kittest.New(t)
	assert.Panics(t, func() { k.Require(nil) })
	assert.Panics(t, func() { k.Require(descopehttp.StepUp(), nil) })
	assert.Panics(t, func() { descopehttp.AnyOf(descopehttp.StepUp(), nil) })
	assert.NotPanics(t, func() { k.Require() })
}

// An ErrorHandler that writes nothing does not open the route with an empty 200. What it can
// do with its writer is what any handler can.
func TestErrorHandlerThatWritesNothing(t *testing.T) {
	control := func(w http.ResponseWriter) *http.ResponseController { return http.NewResponseController(w) }
	for name, tt := range map[string]struct {
		handle func(http.ResponseWriter)
		status int
		body   string
	}{
		"nothing":       {func(http.ResponseWriter) {}, 500, "internal"},
		"a header":      {func(w http.ResponseWriter) { w.Header().Set("X-A", "1") }, 500, "internal"},
		"an early hint": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints) }, 500, "internal"},
		"a status":      {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }, 418, ""},
		"a body":        {func(w http.ResponseWriter) { io.WriteString(w, "no") }, 200, "no"},
		"a flush":       {func(w http.ResponseWriter) { assert.NoError(t, control(w).Flush()) }, 200, ""},
		"a deadline": {func(w http.ResponseWriter) {
			assert.NoError(t, control(w).SetWriteDeadline(time.Now().Add(time.Minute)))
			w.WriteHeader(418)
		}, 418, ""},
		"a connection of its own": {func(w http.ResponseWriter) {
			conn, _, err := control(w).Hijack()
			if assert.NoError(t, err) {
				io.WriteString(conn, "HTTP/1.1 418 Hijacked\r\nContent-Length: 2\r\n\r\nno")
				conn.Close()
			}
		}, 418, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) {
				c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { tt.handle(w) }
			})
			next := new(kittest.Spy)
			res := onWire(t, k.RequireSession(next), http.MethodGet, "/")
			assert.Equal(t, tt.status, res.StatusCode)
			assert.Contains(t, string(kittest.BodyOf(t, res)), tt.body)
			assert.Equal(t, tt.status == 500, strings.Contains(k.Logs.String(), "ErrorHandler has written no answer"))
			assert.Zero(t, next.Calls)
		})
	}
}

// Whatever is refused, a guard's 403 of a page view included, is for ErrorHandler.
func TestErrorHandlerAnswersEachRefusal(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.LoginURL = "/signin"
		c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
			var p *descopehttp.Problem
			if errors.As(err, &p) {
				w.Header().Set("X-Refused", p.Code)
			}
			w.WriteHeader(http.StatusTeapot)
		}
	})
	tokens := k.Project.SignIn(kittest.Ada)
	next := new(kittest.Spy)
	own := func(*http.Request, *descopehttp.Session) error { return errors.New("mine") }
	for name, tt := range map[string]struct {
		h            http.Handler
		method, code string
	}{
		"nobody":        {k.RequireSession(next), http.MethodGet, "no_session"},
		"role":          {k.Require(descopehttp.Role("captain"))(next), http.MethodGet, "missing_role"},
		"guard":         {k.Require(own)(next), http.MethodGet, "forbidden"},
		"nested guard":  {k.RequireSession(k.Require(own)(next)), http.MethodGet, "forbidden"},
		"step-up":       {k.Require(descopehttp.StepUp())(next), http.MethodGet, "step_up_required"},
		"cross-origin":  {k.RequireSession(next), http.MethodPost, "cross_origin"},
		"away":          {k.RequireSession(next), http.MethodGet, "unavailable"},
		"away, anybody": {k.LoadSession(next), http.MethodDelete, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			header := []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Cookie", kittest.SessionCookie + "=" + tokens.Session}
			switch tt.code {
			case "no_session":
				header = header[:4]
			case "cross_origin":
				header[3] = "cross-site"
			case "unavailable":
				k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true})
				header[5] = kittest.RefreshCookie + "=" + k.Project.SignIn(kittest.Ada).Refresh
			}
			res := onWire(t, tt.h, tt.method, "/", header...)
			assert.Equal(t, http.StatusTeapot, res.StatusCode)
			assert.Equal(t, tt.code, res.Header.Get("X-Refused"))
			assert.Empty(t, res.Header.Get("Location"))
			assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
		})
	}
	assert.Zero(t, next.Calls)
}

// The next handler gets the server's own writer, in every middleware: what else that can do,
// such as take a file from the kernel, is not lost.
func TestNextGetsTheWriterItself(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} })
	for name, middleware := range map[string]func(http.Handler) http.Handler{
		"RequireSession": k.RequireSession, "Require": k.Require(), "LoadSession": k.LoadSession, "RefreshUpgrades": k.RefreshUpgrades,
		"nested": func(h http.Handler) http.Handler { return k.LoadSession(k.Require()(h)) },
	} {
		for _, cookie := range []string{kittest.SessionCookie + "=" + k.Project.SignIn(kittest.Ada).Session, kittest.RefreshCookie + "=" + k.Project.SignIn(kittest.Ada).Refresh} {
			var outer, inner http.ResponseWriter
			h := middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { inner = w }))
			res := onWire(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				outer = w
				h.ServeHTTP(w, r)
			}), http.MethodGet, "/", "Cookie", cookie)
			require.Equal(t, http.StatusOK, res.StatusCode, name)
			assert.Same(t, outer, inner, name)
		}
	}
}
