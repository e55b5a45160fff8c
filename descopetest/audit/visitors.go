package audit

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
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
	cookies  bool // comes as a browser only
	foreign  bool // comes from a page of another site
	crowd    int  // so many at once; 0 is one
	bring    func() credentials
}

// credentials are what a visitor presents.
type credentials struct{ session, refresh, planted string }

// visitors are all who come while nothing is wrong at Descope, nobody first: where they are
// sent tells what a refusal is.
func (rt *route) visitors() []visitor {
	list := []visitor{{name: "nobody", owner: rt.For.kind == anyone, bring: func() credentials { return credentials{} }}}
	if rt.For.kind != anyone {
		list = append(list, visitor{name: rt.For.String(), owner: true, may: true, expected: true, bring: rt.signIn})
	}
	for _, held := range rt.people {
		if held == rt.For && rt.User == "" {
			continue // that is the owner
		}
		list = append(list, visitor{
			name: rt.nameOf(held), may: rt.admits(held), expected: rt.admits(held) && rt.User == "",
			bring: func() credentials { return rt.tokens(held, rt.loginOf(held)) },
		})
	}
	return slices.Concat(list, rt.intruders(), rt.guests())
}

// nameOf names somebody by what tells them from who the route is for.
func (rt *route) nameOf(held Access) string {
	switch {
	case held == rt.For:
		return held.String() + ", another user"
	case held.tenant == elsewhere && rt.For.tenant != "":
		return "role " + held.role + " in another tenant"
	case held.tenant == elsewhere:
		return "role " + held.role + " in a tenant only"
	case held == SignedIn() && rt.For.role != "":
		return "no role"
	case held == SignedIn() && rt.For.kind == steppedUp:
		return "not stepped up"
	}
	return held.String()
}

// intruders never get in.
func (rt *route) intruders() []visitor {
	list := []visitor{
		{name: "refresh token as session", bring: func() credentials { return credentials{session: rt.signIn().refresh} }},
		{name: "other project", bring: func() credentials {
			claims := rt.claims()
			claims["iss"] = rt.stranger.ProjectID()
			return credentials{session: rt.stranger.Sign(nil, claims)}
		}},
		{name: "forged key", bring: func() credentials {
			kid := map[string]any{"kid": keyOf(rt.signIn().session)}
			return credentials{session: rt.stranger.Sign(kid, rt.claims())}
		}},
		{name: "expired", bring: func() credentials { return credentials{session: rt.expired()} }},
		{name: "signed out elsewhere, session over", cookies: true, bring: func() credentials {
			return credentials{session: rt.expired(), refresh: rt.signOut().refresh}
		}},
	}
	if !rt.isSafe() {
		list = append(list, visitor{name: "other site's " + rt.Method, cookies: true, foreign: true, bring: rt.signIn})
	}
	return list
}

// guests are who the route is for, on other ways.
func (rt *route) guests() []visitor {
	renewable := func() credentials { return credentials{session: rt.expired(), refresh: rt.signIn().refresh} }
	renewed := rt.For
	if renewed.kind == steppedUp {
		renewed = SignedIn() // a step-up does not outlive its session
	}
	may := rt.admits(renewed)
	list := []visitor{
		{name: "expired, with refresh", may: may, expected: may, cookies: true, bring: renewable},
		{name: "signed out elsewhere, session not over", may: true, expected: true, bring: rt.signOut},
		{name: "planted cookies", may: true, expected: true, cookies: true, bring: func() credentials {
			c := rt.signIn()
			c.planted = rt.tokens(SignedIn(), rt.loginOf(Role(planted))).session
			return c
		}},
	}
	if rt.Method == http.MethodGet {
		list = append(list, visitor{name: "200 at once", may: may, expected: may, cookies: true, crowd: 200, bring: renewable})
	}
	return list
}

// owner returns the login id of somebody whom the route is for.
func (rt *route) owner() string {
	if rt.User != "" {
		return rt.User
	}
	return rt.loginOf(rt.For)
}

// signIn signs in who the route is for.
func (rt *route) signIn() credentials { return rt.tokens(rt.For, rt.owner()) }

// signOut does, too, and has the project end it.
func (rt *route) signOut() credentials {
	c := rt.signIn()
	rt.project.LogOut(rt.owner())
	return c
}

// claims are those of a session of who the route is for.
func (rt *route) claims() map[string]any {
	claims := rt.project.SessionClaims(rt.owner())
	if rt.For.kind == steppedUp {
		claims["su"] = true
	}
	return claims
}

// expired returns a session that was over a minute ago.
func (rt *route) expired() string {
	claims := rt.claims()
	claims["iat"] = time.Now().Add(-11 * time.Minute).Unix()
	claims["exp"] = time.Now().Add(-time.Minute).Unix()
	return rt.project.Sign(nil, claims)
}

// tokens signs somebody in, and steps them up where that is what they hold.
func (a *auditor) tokens(held Access, login string) credentials {
	signIn := a.project.SignIn
	if held.kind == steppedUp {
		signIn = a.project.StepUp
	}
	t := signIn(login)
	return credentials{session: t.Session, refresh: t.Refresh}
}

// loginOf returns the login id of a user who holds an access, whom it makes.
func (a *auditor) loginOf(held Access) string {
	u := descopetest.User{LoginID: "audit: " + held.String()}
	switch held.kind {
	case role:
		u.Roles = []string{held.role}
	case tenantRole:
		u.Tenant = held.tenant
		u.Tenants = map[string]descopetest.Tenant{held.tenant: {Roles: []string{held.role}}}
	}
	if !a.project.HasUser(u.LoginID) {
		a.project.AddUser(u)
	}
	return u.LoginID
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
