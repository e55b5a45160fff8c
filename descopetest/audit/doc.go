// Package audit plays against an application's own router who gets in where: nobody, who is
// signed in, who has each role, who has stepped up, and those who should never get in, such
// as with a forged token. It needs no socket and no project of Descope's:
//
//	report := audit.Routes(router, project,
//		audit.Route{Path: "/", For: audit.Anyone()},
//		audit.Route{Path: "/account"},
//		audit.Route{Method: "POST", Path: "/admin/users", Body: `{}`, For: audit.Role("admin")},
//	)
//	if err := report.Check(); err != nil {
//		t.Error(err)
//	}
//
// project is the [descopetest.Server] that the router's Auth is configured with. [Report.Check]
// returns what must never be. [Report.String] is a table of all that was seen; compared with a
// file, it makes every route that opens or closes a difference that somebody has to look at:
//
//	POST /admin/users   for role admin
//	  200  role admin
//	  401  nobody; refresh token as session; other project; forged key; expired; signed out elsewhere, session over
//	  403  no role; role admin in a tenant only; other site's POST
//	  503  Descope away, key not seen before; Descope away, forged key
//
// # What counts as refused
//
// A status of 401, 403, 429 or 503, and a redirect to where nobody is sent. Everything else
// has got in: a 404 and a 500 come from behind the guards, and so does a panic, which the
// table shows as a row of its own.
//
// # How it plays
//
// Each visitor comes twice: as a browser, with cookies, and as a program, with a Bearer token.
// Where the two are answered differently, the table tells them apart. With any method but GET
// and HEAD, what is expected to succeed is done once; those who should be refused come all the
// same, and do what the route does if they are not.
//
// It waits with [time.Sleep] for limits to fill up again: nothing inside a synctest bubble, a
// quarter of a second a route and some seconds more outside. Goroutines that wait on real
// sockets, such as those of a database's client, must be started outside of the bubble.
//
// # What it does not see
//
// It knows of a route what [Route.For] says, and does not find one that is not listed. The
// kit's own flows are none to list: a refresh token is what they take. What a
// handler does behind a refusal shows in the answer's body alone: one that goes on and writes
// nothing goes unseen, and so may a page that differs by user behind a refusal that is not JSON.
// Of cookies it knows the kit's default names and those of the project's settings
// ([descopetest.Settings.SessionCookieName]). A route that asks for a token of its own against
// forgery, as a hidden field of a form, refuses everybody.
package audit
