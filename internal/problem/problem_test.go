package problem_test

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
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

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// problemCase provokes one problem document. Its name is that of the golden file.
type problemCase struct {
	name, code string
	provoke    func(t *testing.T) *http.Response
}

var problemCases = []problemCase{
	{"no_session", "no_session", pageProblem(func(*kittest.Hostile) *http.Request { return kittest.Get("/") })},
	{"invalid_token", "invalid_token", pageProblem(func(*kittest.Hostile) *http.Request { return kittest.WithBearer(kittest.Get("/"), "a.b.c") })},
	{"session_expired", "session_expired", pageProblem(func(h *kittest.Hostile) *http.Request {
		return kittest.WithBearer(kittest.Get("/"), h.With(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}))
	})},
	{"session_ended", "session_ended", refreshProblem(descopetest.Fault{Status: 401, Body: `{"errorCode":"E064001"}`})},
	{"conflicting_cookies", "conflicting_cookies", pageProblem(func(h *kittest.Hostile) *http.Request {
		return kittest.WithCookies(kittest.Get("/"), h.Project.SignIn(kittest.Ada).Session, h.Project.SignIn(kittest.Bob).Refresh)
	})},
	{"foreign_project", "foreign_project", pageProblem(func(*kittest.Hostile) *http.Request { return kittest.WithBearer(kittest.Get("/"), "P2other") })},
	{"no_refresh_token", "no_refresh_token", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Get(kittest.MePath) })},
	{"invalid_refresh_token", "invalid_refresh_token", flowProblem(func(k *kittest.Kit) *http.Request {
		return kittest.InHeader(kittest.Get(kittest.MePath), k.Project.ProjectID(), "a.b.c")
	})},
	{"invalid_code", "invalid_code", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.VerifyPath, `{"loginId":"unknown","code":"000000"}`)
	})},
	{"cross_origin", "cross_origin", flowProblem(func(*kittest.Kit) *http.Request {
		r := kittest.Post(kittest.LogoutPath, `{}`)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		return r
	})},
	{"forbidden", "forbidden", guardProblem(func(*http.Request, *descopehttp.Session) error { return errors.New("secret reason") })},
	{"missing_role", "missing_role", guardProblem(descopehttp.Role("secret role"))},
	{"missing_permission", "missing_permission", guardProblem(descopehttp.Permission("secret permission"))},
	{"step_up_required", "step_up_required", guardProblem(descopehttp.StepUp())},
	{"mfa_required", "mfa_required", guardProblem(descopehttp.MFA())},
	{"login_page_protected", "login_page_protected", func(t *testing.T) *http.Response {
		k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = "/signin" })
		r := kittest.Get("/signin")
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		return kittest.Serve(k.RequireSession(new(kittest.Spy)), r)
	}},
	{"foreign_login_id", "foreign_login_id", flowProblem(func(k *kittest.Kit) *http.Request {
		return kittest.SignedInPost(k.Project.SignIn(kittest.Bob), kittest.UpdatePath, `{"loginId":"`+kittest.Ada+`"}`)
	})},
	{"refresh_refused", "refresh_refused", refreshProblem(descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})},
	{"refresh_refused_in_a_flow", "refresh_refused", upstreamProblem(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})},
	{"stale_token", "stale_token", func(t *testing.T) *http.Response {
		k := kittest.NewForFlows(t, new(kittest.Wiretap))
		k.Project.Configure(kittest.Rotating)
		b := kittest.SignIn(k, kittest.Bob)
		old := b.Copied()
		for range 2 { // the second shows what the first has brought
			require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, `{}`)).StatusCode)
		}
		return old.Do(k.Handler(), kittest.Post(kittest.SelectPath, `{"tenant":"T1"}`))
	}},
	{"other_user", "other_user", func(t *testing.T) *http.Response {
		tap := new(kittest.Wiretap)
		k := kittest.NewForFlows(t, tap)
		adas, bobs := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Bob)
		tap.AnswerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != kittest.RefreshPath {
				return nil
			}
			return kittest.JSONAnswer(http.StatusOK, `{"sessionJwt":"`+adas.Session+`","refreshJwt":""}`)
		})
		return kittest.Serve(k.Handler(), kittest.SignedInPost(bobs, kittest.RefreshPath, ``))
	}},
	{"unavailable", "unavailable", refreshProblem(descopetest.Fault{Status: 500})},
	{"unavailable_in_a_flow", "unavailable", upstreamProblem(kittest.RefreshPath, descopetest.Fault{Status: 500})},
	{"unavailable_in_time", "unavailable", func(t *testing.T) (res *http.Response) {
		synctest.Test(t, func(t *testing.T) {
			res = upstreamProblem(kittest.MePath, descopetest.Fault{Delay: time.Minute})(t)
		})
		return res
	}},
	{"too_many_requests", "too_many_requests", upstreamProblem(kittest.VerifyPath, descopetest.Fault{Status: 429})},
	{"unsupported_media_type", "unsupported_media_type", flowProblem(func(*kittest.Kit) *http.Request {
		return httptest.NewRequest(http.MethodPost, kittest.SignUpPath, strings.NewReader(`{}`))
	})},
	{"body_too_large", "body_too_large", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.SignUpPath, `{"x":"`+strings.Repeat("x", 64<<10)+`"}`)
	})},
	{"malformed_body", "malformed_body", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Post(kittest.SignUpPath, `{`) })},
	{"missing_field", "missing_field", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Post(kittest.SignUpPath, `{}`) })},
	{"invalid_field", "invalid_field", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.VerifyPath, `{"loginId":"a","code":"<b>"}`)
	})},
	{"refused", "refused", upstreamProblem(kittest.SelectPath, descopetest.Fault{Status: 400, Body: `{"errorCode":"E011004","errorDescription":"x"}`})},
	{"user_exists", "user_exists", flowProblem(func(*kittest.Kit) *http.Request {
		return kittest.Post(kittest.SignUpPath, `{"loginId":"`+kittest.Bob+`"}`)
	})},
	{"not_found", "not_found", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Get("/v1/auth/<script>") })},
	{"method_not_allowed", "method_not_allowed", flowProblem(func(*kittest.Kit) *http.Request { return kittest.Get(kittest.SignUpPath) })},
	{"internal", "internal", func(t *testing.T) *http.Response {
		k := kittest.New(t)
		w := httptest.NewRecorder()
		k.WriteError(w, kittest.Get("/"), errors.New("secret reason"))
		return w.Result()
	}},
}

func flowProblem(r func(*kittest.Kit) *http.Request) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := kittest.NewForFlows(t, new(kittest.Wiretap))
		return kittest.Serve(k.Handler(), r(k))
	}
}

func pageProblem(prepare func(*kittest.Hostile) *http.Request) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		h := kittest.NewHostile(t)
		h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
		return kittest.Serve(h.RequireSession(new(kittest.Spy)), prepare(h))
	}
}

func upstreamProblem(path string, f descopetest.Fault) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := kittest.NewForFlows(t, new(kittest.Wiretap))
		tokens := k.Project.SignIn(kittest.Bob)
		k.Project.Fail(path, f)
		for _, c := range kittest.Flows {
			if c.Path == path {
				return kittest.Serve(k.Handler(), c.Request(k, tokens))
			}
		}
		panic("no such flow")
	}
}

func refreshProblem(f descopetest.Fault) func(*testing.T) *http.Response {
	return pageProblem(func(h *kittest.Hostile) *http.Request {
		h.Project.Fail(kittest.RefreshPath, f)
		return kittest.WithCookies(kittest.Get("/"), "", h.Project.SignIn(kittest.Ada).Refresh)
	})
}

func guardProblem(guard descopehttp.Guard) func(*testing.T) *http.Response {
	return func(t *testing.T) *http.Response {
		k := kittest.New(t)
		return kittest.Serve(k.Require(guard)(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session))
	}
}

// Clients read these documents, so their bytes are part of the interface.
func TestProblemDocuments(t *testing.T) {
	for _, c := range problemCases {
		t.Run(c.name, func(t *testing.T) {
			res := c.provoke(t)
			body := kittest.BodyOf(t, res)
			kittest.RequireProblem(t, res, res.StatusCode, c.code)
			path := filepath.Join("testdata", c.name+".json")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, append(body, '\n'), 0o644))
			}
			golden, err := os.ReadFile(path)
			require.NoError(t, err, "run go test -run TestProblemDocuments -update ./internal/problem")
			assert.Equal(t, string(golden), string(body)+"\n")
		})
	}
}

// Every problem that the table knows has its document, and no document is left
// over.
func TestProblemDocumentsAreComplete(t *testing.T) {
	source, err := os.ReadFile("table.go")
	require.NoError(t, err)
	covered, files := make(map[string]bool), make(map[string]bool)
	for _, c := range problemCases {
		covered[c.code] = true
		files[c.name+".json"] = true
	}
	codes := regexp.MustCompile(`\bCode: "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	require.Greater(t, len(codes), 20)
	for _, code := range codes {
		assert.True(t, covered[code[1]], "no golden document for %s", code[1])
	}
	entries, err := os.ReadDir("testdata")
	require.NoError(t, err)
	for _, e := range entries {
		assert.True(t, files[e.Name()], "%s belongs to no case", e.Name())
	}
}
