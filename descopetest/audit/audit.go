package audit

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
)

// A Route is one entry of a router, and who it is for. The zero value is GET / for who is
// signed in.
type Route struct {
	// Method is the method; the default is GET. Path may have a query; the default is /.
	Method, Path string

	// Body is sent along, as ContentType says. The default of ContentType is
	// application/json if there is a Body.
	Body, ContentType string

	// For is who may get in, and nobody else. A route that several may use is listed once
	// for each.
	For Access

	// User is the login id of a user of the project who may get in, where For does not say
	// enough: the owner of a page, or somebody with a role who has to step up. The default is
	// a user who is made here and has what For asks for. With a User, others who have it are
	// tried with every method, and what comes of it is in the table, but is no finding.
	User string
}

// An Access is what somebody needs to get in. It is comparable; the zero value is [SignedIn].
type Access struct {
	kind         kind
	tenant, role string
}

type kind int

const (
	signedIn kind = iota
	anyone
	steppedUp
	role
	tenantRole
)

// SignedIn is everybody with a session.
func SignedIn() Access { return Access{} }

// Anyone is everybody, with a session or without: nothing but what the answers hold is looked at.
func Anyone() Access { return Access{kind: anyone} }

// SteppedUp is who has just proved again who they are.
func SteppedUp() Access { return Access{kind: steppedUp} }

// Role is who has a role in the project as a whole.
func Role(name string) Access { return Access{kind: role, role: name} }

// TenantRole is who has a role in the tenant of that id, which is also the one they work in.
func TenantRole(tenant, name string) Access {
	return Access{kind: tenantRole, tenant: tenant, role: name}
}

// String returns it as reports do, such as "role admin in acme".
func (a Access) String() string {
	switch a.kind {
	case anyone:
		return "anyone"
	case steppedUp:
		return "stepped up"
	case role:
		return "role " + a.role
	case tenantRole:
		return "role " + a.role + " in " + a.tenant
	default:
		return "signed in"
	}
}

// admits reports whether somebody with a good session, who has the access held, may get in.
func (a Access) admits(held Access) bool {
	return a.kind == anyone || a.kind == signedIn || a == held
}

// Routes plays all visitors against each of routes and returns what came of it. h is the
// application's handler, whose Auth has p for its project. It panics on a Route that makes
// no request, and on a User whom p does not know.
//
// It adds users to p, rotates its keys, forgets its faults and counters
// ([descopetest.Server.Reset]) and revokes the refresh tokens of the users it plays with. It
// calls h from this goroutine, but for 200 requests at once for each GET.
func Routes(h http.Handler, p *descopetest.Server, routes ...Route) *Report {
	a := &auditor{handler: h, project: p, stranger: newStranger(p), cookies: cookieNames(p)}
	for _, r := range routes {
		a.add(r)
	}
	for _, rt := range a.routes {
		rt.play(rt.visitors())
		time.Sleep(limitsRefill)
	}
	a.playAway()
	a.playRotated()
	report := new(Report)
	for _, rt := range a.routes {
		report.routes = append(report.routes, rt.result())
	}
	return report
}

// What the kit needs: to have its budget of renewals back after a route, and to fetch keys
// again.
const (
	limitsRefill = 250 * time.Millisecond
	keysAgain    = 6 * time.Second
)

// An auditor is one call of Routes.
type auditor struct {
	handler  http.Handler
	project  *descopetest.Server
	stranger *descopetest.Server // another project
	cookies  [2][]string         // names of session and refresh cookies
	routes   []*route
	people   []Access // whom the routes tell apart
}

// A route is a Route and what is seen of it.
type route struct {
	*auditor
	Route
	access []Access // of all entries with its method and path
	peer   string   // the address that its requests come from
	sentTo []string // where nobody is redirected to
	in     bool     // who it is for got in
	pages  [][]byte // what they were shown
	seen   []seen
}

// add lists a route, and whom it tells apart.
func (a *auditor) add(r Route) {
	r.Method, r.Path = cmp.Or(r.Method, http.MethodGet), cmp.Or(r.Path, "/")
	if r.Body != "" {
		r.ContentType = cmp.Or(r.ContentType, "application/json")
	}
	rt := &route{auditor: a, Route: r, access: []Access{r.For}, peer: peerOf(len(a.routes))}
	for _, other := range a.routes {
		if other.Method == r.Method && other.Path == r.Path {
			other.access = append(other.access, r.For)
			rt.access = append(rt.access, other.For)
		}
	}
	a.routes = append(a.routes, rt)
	people := []Access{SignedIn(), r.For}
	if r.For.role != "" {
		// Roles of the project and of a tenant are two lists, and easily taken one for another.
		people = append(people, Role(r.For.role), TenantRole(elsewhere, r.For.role))
	}
	for _, held := range people {
		if held.kind != anyone && !slices.Contains(a.people, held) {
			a.people = append(a.people, held)
		}
	}
}

// playAway plays what comes while Descope is away. Nobody has a refresh token, so that no
// call to Descope fails that would have to be waited out.
func (a *auditor) playAway() {
	a.project.Fail("", descopetest.Fault{Times: -1, Drop: true})
	unseen := map[string]any{"kid": keyOf(a.stranger.Sign(nil, nil))}
	for _, rt := range a.routes {
		rt.play([]visitor{
			{name: "Descope away", may: true, expected: true, bring: func() credentials {
				return credentials{session: rt.signIn().session}
			}},
			{name: "Descope away, key not seen before", may: true, bring: func() credentials {
				return credentials{session: a.project.Sign(unseen, rt.claims())}
			}},
			{name: "Descope away, forged key", bring: func() credentials {
				return credentials{session: a.stranger.Sign(nil, rt.claims())}
			}},
		})
	}
	a.project.Reset()
}

// playRotated plays what comes with a key that was not in use before.
func (a *auditor) playRotated() {
	if !slices.ContainsFunc(a.routes, (*route).isSafe) {
		return
	}
	a.project.RotateKeys()
	time.Sleep(keysAgain)
	for _, rt := range a.routes {
		rt.play([]visitor{{name: "keys rotated", may: true, expected: true, bring: rt.signIn}})
	}
}

// admits reports whether somebody with a good session may get in.
func (rt *route) admits(held Access) bool {
	return slices.ContainsFunc(rt.access, func(a Access) bool { return a.admits(held) })
}

// isPublic reports whether everybody may get in.
func (rt *route) isPublic() bool { return slices.Contains(rt.access, Anyone()) }

// isSafe reports whether requests change nothing (RFC 9110, section 9.2.1), so that many may
// be sent.
func (rt *route) isSafe() bool { return rt.Method == http.MethodGet || rt.Method == http.MethodHead }

// refused reports whether an answer is that of a guard.
func (rt *route) refused(a answer) bool {
	switch a.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	}
	return a.location != "" && slices.Contains(rt.sentTo, a.location)
}
