package audit

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
)

// A tenant and a role that no route is for.
const (
	elsewhere = "audit-elsewhere"
	planted   = "audit-planted"
)

// A visitor is somebody who asks for a route.
type visitor struct {
	name     string
	owner    bool // the route is for them
	may      bool // get in; else it is a finding
	expected bool // to get in: where that may change something, only the owner does, once
	browser  bool // comes with cookies only
	crowd    int  // so many at once; 0 is one
	bring    func() credentials
	change   func(*http.Request)
}

// credentials are what a visitor presents.
type credentials struct{ session, refresh, planted string }

// visitors are all who come while nothing is wrong at Descope, nobody first: where they are
// sent tells what a refusal is.
func (a *auditor) visitors(rt *route) []visitor {
	list := []visitor{{name: "nobody", owner: rt.For.kind == anyone, bring: func() credentials { return credentials{} }}}
	if rt.For.kind != anyone {
		list = append(list, visitor{name: rt.For.String(), owner: true, may: true, bring: a.signIn(rt)})
	}
	for _, held := range a.people {
		if held == rt.For && rt.User == "" {
			continue
		}
		list = append(list, visitor{
			name: rt.nameOf(held), may: rt.admits(held), expected: rt.User == "",
			bring: func() credentials { return a.tokens(held, a.loginOf(held)) },
		})
	}
	list = append(list, a.intruders(rt)...)
	list = append(list, a.guests(rt)...)
	for i := range list {
		list[i].may = list[i].may || rt.isPublic()
		list[i].expected = (list[i].expected || rt.isPublic()) && list[i].may
	}
	return list
}

// nameOf names somebody by what tells them from who the route is for.
func (rt *route) nameOf(held Access) string {
	name := held.String()
	switch {
	case held.tenant == elsewhere && rt.For.tenant != "":
		name = "role " + held.role + " in another tenant"
	case held.tenant == elsewhere:
		name = "role " + held.role + " in a tenant only"
	case held == SignedIn() && rt.For.role != "":
		name = "no role"
	case held == SignedIn() && rt.For.kind == steppedUp:
		name = "not stepped up"
	}
	if held == rt.For {
		name += ", another user"
	}
	return name
}

// intruders never get in.
func (a *auditor) intruders(rt *route) []visitor {
	session := func(change func(claims map[string]any) string) func() credentials {
		return func() credentials { return credentials{session: change(a.claims(rt))} }
	}
	list := []visitor{
		{name: "refresh token as session", bring: func() credentials {
			return credentials{session: a.signIn(rt)().refresh}
		}},
		{name: "other project", bring: session(func(claims map[string]any) string {
			claims["iss"] = a.stranger.ProjectID()
			return a.stranger.Sign(nil, claims)
		})},
		{name: "forged key", bring: session(func(claims map[string]any) string {
			return a.stranger.Sign(map[string]any{"kid": keyOf(a.project.Sign(nil, claims))}, claims)
		})},
		{name: "expired", bring: session(a.expired)},
		{name: "signed out elsewhere, session over", browser: true, bring: func() credentials {
			refresh := a.signIn(rt)().refresh
			a.project.LogOut(a.owner(rt))
			return credentials{session: a.expired(a.claims(rt)), refresh: refresh}
		}},
	}
	if !rt.isSafe() {
		list = append(list, visitor{name: "other site's " + rt.Method, browser: true, bring: a.signIn(rt), change: func(r *http.Request) {
			r.Header.Set("Origin", "https://other.example")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}})
	}
	return list
}

// guests are who the route is for, on other ways.
func (a *auditor) guests(rt *route) []visitor {
	renewable := func() credentials {
		return credentials{session: a.expired(a.claims(rt)), refresh: a.signIn(rt)().refresh}
	}
	renewed := rt.For
	if renewed.kind == steppedUp {
		renewed = SignedIn() // a step-up does not outlive its session
	}
	list := []visitor{
		{name: "expired, with refresh", may: rt.admits(renewed), browser: true, bring: renewable},
		{name: "planted cookies", may: true, browser: true, bring: func() credentials {
			c := a.signIn(rt)()
			c.planted = a.tokens(SignedIn(), a.loginOf(Role(planted))).session
			return c
		}},
		{name: "signed out elsewhere, session not over", may: true, bring: func() credentials {
			c := a.signIn(rt)()
			a.project.LogOut(a.owner(rt))
			return c
		}},
	}
	if rt.Method == http.MethodGet {
		list = append(list,
			visitor{name: "200 at once", may: true, crowd: 200, bring: a.signIn(rt)},
			visitor{name: "200 at once, expired, with refresh", may: rt.admits(renewed), browser: true, crowd: 200, bring: renewable})
	}
	for i := range list {
		list[i].expected = true
	}
	return list
}

// playAway plays what comes while Descope is away, and what comes after, with a key that was
// not in use before.
func (a *auditor) playAway() {
	before := make([]credentials, len(a.routes))
	for i, rt := range a.routes {
		before[i] = a.signIn(rt)()
	}
	a.project.RotateKeys()
	a.project.Fail("", descopetest.Fault{Times: -1, Drop: true})
	for i, rt := range a.routes {
		list := []visitor{
			{name: "Descope away", may: true, expected: true, bring: func() credentials { return before[i] }},
			{name: "Descope away, key not seen before", may: true, expected: rt.isPublic(), bring: a.signIn(rt)},
			{name: "Descope away, forged key", may: rt.isPublic(), expected: rt.isPublic(), bring: func() credentials {
				return credentials{session: a.stranger.Sign(nil, a.claims(rt))}
			}},
		}
		a.play(rt, list)
	}
	a.project.Reset()
	time.Sleep(keysAgain)
	for _, rt := range a.routes {
		a.play(rt, []visitor{{name: "keys rotated", may: true, expected: true, bring: a.signIn(rt)}})
	}
}

// owner returns the login id of somebody whom the route is for.
func (a *auditor) owner(rt *route) string {
	if rt.User != "" {
		return rt.User
	}
	return a.loginOf(rt.For)
}

// signIn signs in who the route is for.
func (a *auditor) signIn(rt *route) func() credentials {
	return func() credentials { return a.tokens(rt.For, a.owner(rt)) }
}

// tokens signs somebody in, and steps them up where that is what they hold.
func (a *auditor) tokens(held Access, login string) credentials {
	t := a.project.SignIn(login)
	if held.kind == steppedUp {
		t = a.project.StepUp(login)
	}
	return credentials{session: t.Session, refresh: t.Refresh}
}

// claims are those of a session of who the route is for.
func (a *auditor) claims(rt *route) map[string]any {
	claims := a.project.SessionClaims(a.owner(rt))
	if rt.For.kind == steppedUp {
		claims["su"] = true
	}
	return claims
}

// expired returns a session that was over a minute ago.
func (a *auditor) expired(claims map[string]any) string {
	claims["iat"] = time.Now().Add(-11 * time.Minute).Unix()
	claims["exp"] = time.Now().Add(-time.Minute).Unix()
	return a.project.Sign(nil, claims)
}

// loginOf returns the login id of a user who holds an access, whom it makes.
func (a *auditor) loginOf(held Access) string {
	login := "audit: " + held.String()
	if a.project.HasUser(login) {
		return login
	}
	u := descopetest.User{LoginID: login}
	switch held.kind {
	case role:
		u.Roles = []string{held.role}
	case tenantRole:
		u.Tenant = held.tenant
		u.Tenants = map[string]descopetest.Tenant{held.tenant: {Roles: []string{held.role}}}
	}
	a.project.AddUser(u)
	return login
}

// newStranger returns another project, whose keys are of the same algorithm.
func newStranger(p *descopetest.Server) *descopetest.Server {
	var alg string
	p.Configure(func(s *descopetest.Settings) { alg = s.Alg })
	stranger := descopetest.NewServer()
	stranger.Configure(func(s *descopetest.Settings) { s.Alg, s.ProjectID = alg, "P2audit0000000000000000000000" })
	return stranger
}

// keyOf returns the kid of a token.
func keyOf(token string) string {
	header, _, _ := strings.Cut(token, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(header)
	var h struct {
		Kid string `json:"kid"`
	}
	_ = json.Unmarshal(raw, &h) // the project has made it
	return h.Kid
}
