package adaptertest

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// insideClauses put each flow behind each middleware of the same Auth, in every state that
// a session may be in: what the middleware has renewed is what the flow goes on with.
func insideClauses() []clause {
	var clauses []clause
	for _, outer := range []struct {
		name   string
		layers []layer
	}{
		{"LoadSession", optional},
		{"RequireSession", required},
		{"Require", guarded(descopehttp.Role("admin"))},
	} {
		for _, rotates := range []bool{true, false} {
			clauses = append(clauses, clause{
				name:   fmt.Sprintf("flows inside %s, rotation %v", outer.name, rotates),
				rule:   "a flow behind a middleware of the same Auth uses what that has renewed",
				layers: outer.layers,
				serve:  serveFlow,
				visit:  func(v *visitor) error { return v.flowsInside(rotates) },
			})
		}
	}
	return clauses
}

// An insideFlow is a flow that needs somebody who is signed in.
type insideFlow struct {
	name, method, path string
	body               func(*descopetest.Server) string // nil for {}
	ends               bool                             // the sign-in
	tokens             bool                             // it hands out tokens
	honest             bool                             // it refreshes because it was asked to
}

var insideFlows = []insideFlow{
	{name: "logout", method: http.MethodPost, path: "/v1/auth/logout", ends: true},
	{name: "logoutall", method: http.MethodPost, path: "/v1/auth/logoutall", ends: true},
	{name: "refresh", method: http.MethodPost, path: kittest.RefreshPath, tokens: true, honest: true},
	{name: "try-refresh", method: http.MethodPost, path: kittest.TryRefreshPath, tokens: true, honest: true},
	{name: "me", method: http.MethodGet, path: kittest.MePath},
	{name: "step-up", method: http.MethodPost, path: kittest.VerifyPath, tokens: true, body: func(p *descopetest.Server) string {
		return `{"loginId":"` + ann + `","code":"` + p.Code(ann) + `","loginOptions":{"stepup":true}}`
	}},
	{name: "select", method: http.MethodPost, path: "/v1/auth/tenant/select", tokens: true, body: func(*descopetest.Server) string {
		return `{"tenant":"acme"}`
	}},
	{name: "update", method: http.MethodPost, path: kittest.UpdatePath, body: func(*descopetest.Server) string {
		return `{"loginId":"` + ann + `"}`
	}},
}

// insideStates are what a signed-in browser may present.
var insideStates = []struct {
	name    string
	renews  bool // the middleware renews before the flow is served
	present func(*descopetest.Server) descopetest.Tokens
}{
	{"valid", false, func(p *descopetest.Server) descopetest.Tokens { return p.SignIn(ann) }},
	{"due", true, func(p *descopetest.Server) descopetest.Tokens { return aged(p, 20*time.Second) }},
	{"expired", true, func(p *descopetest.Server) descopetest.Tokens { return aged(p, -time.Minute) }},
	{"stepped up", false, func(p *descopetest.Server) descopetest.Tokens { return p.StepUp(ann) }},
}

// aged returns a sign-in of ten minutes before its session's end.
func aged(p *descopetest.Server, left time.Duration) descopetest.Tokens {
	t := p.SignIn(ann)
	claims := p.SessionClaims(ann)
	claims["exp"] = time.Now().Add(left).Unix()
	claims["iat"] = time.Now().Add(left - 10*time.Minute).Unix()
	t.Session = p.Sign(nil, claims)
	return t
}

// serveFlow is a page that is one of the flows, by its name.
func serveFlow(v *visitor, w http.ResponseWriter, r *http.Request, in inner) error {
	for _, f := range insideFlows {
		if f.name == in.param("name") {
			inside := r.Clone(r.Context())
			inside.URL.Path, inside.URL.RawPath = f.path, ""
			v.site.Auth.Handler().ServeHTTP(w, inside)
			return nil
		}
	}
	return errors.New("no such flow")
}

func (v *visitor) flowsInside(rotates bool) error {
	var was descopetest.Settings
	v.project.Configure(func(t *descopetest.Settings) {
		was = *t
		t.RotateRefresh, t.AllowCodeReuse = rotates, true
	})
	defer v.project.Configure(func(t *descopetest.Settings) { *t = was })
	for _, f := range insideFlows {
		for _, state := range insideStates {
			if err := v.flowInside(f, state.present(v.project), state.renews, rotates); err != nil {
				return fmt.Errorf("%s with a session that is %s: %w", f.name, state.name, err)
			}
		}
	}
	return nil
}

func (v *visitor) flowInside(f insideFlow, t descopetest.Tokens, renews, rotates bool) error {
	body := "{}"
	if f.body != nil {
		body = f.body(v.project)
	}
	if f.method == http.MethodGet {
		body = ""
	}
	q := request{
		method: f.method, path: "/app/acme/pages/" + f.name,
		header: []string{"Content-Type: application/json", cookieHeader(t.Session, t.Refresh)}, body: body,
	}
	before := v.project.Requests(kittest.RefreshPath)
	a, err := v.ask(q)
	if err != nil {
		return err
	}
	refreshes := v.project.Requests(kittest.RefreshPath) - before
	jar, given := t.Refresh, []string{t.Refresh}
	sessions := 0
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		switch {
		case c.Name == kittest.SessionCookie && c.MaxAge >= 0:
			sessions++
		case c.Name == kittest.RefreshCookie && c.MaxAge < 0:
			jar = ""
		case c.Name == kittest.RefreshCookie:
			jar, given = c.Value, append(given, c.Value)
		}
	}
	wantRefreshes := 0
	if renews || f.honest {
		wantRefreshes = 1
	}
	switch {
	case a.status != http.StatusOK:
		return fmt.Errorf("answered %d %s", a.status, a.body)
	case refreshes != wantRefreshes:
		return fmt.Errorf("%d refreshes at Descope, want %d", refreshes, wantRefreshes)
	case f.tokens && sessions == 0 || renews && !f.ends && sessions == 0:
		return errors.New("no session cookie is set")
	case f.ends && jar != "":
		return errors.New("the refresh cookie is kept")
	case !f.ends && !v.project.Honours(jar):
		return errors.New("the refresh token that the browser has then is dead")
	}
	for _, token := range given {
		if f.ends && v.project.Honours(token) {
			return errors.New("a refresh token is in force after a logout")
		}
	}
	return nil
}
