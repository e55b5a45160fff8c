// Package descopeecho puts the middleware and the flows of descopehttp into an
// echo router. It adds echo's types and nothing else: statuses, bodies, headers
// and cookies are those that net/http gets.
//
//	descopeecho.Mount(e, "/auth", a)
//	e.GET("/app", app, descopeecho.RequireSession(a))
//
// A single flow at a path of one's own needs no adapter:
// e.POST("/enter", echo.WrapHandler(http.HandlerFunc(a.ServeVerify))).
package descopeecho

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v5"

	"github.com/descopehttp/descopehttp"
)

// RequireSession is [descopehttp.Auth.RequireSession] for echo: the next handler
// runs only for requests with a valid session, and finds it with [Session]. All
// other requests have been answered when it returns, so that echo's
// HTTPErrorHandler does not see them. It serves as e.Use, on a group and on a
// route.
func RequireSession(a *descopehttp.Auth) echo.MiddlewareFunc { return adapt(a.RequireSession) }

// LoadSession is [descopehttp.Auth.LoadSession] for echo: the next handler runs
// with a session if the request has one. It protects nothing.
func LoadSession(a *descopehttp.Auth) echo.MiddlewareFunc { return adapt(a.LoadSession) }

// Require is [descopehttp.Auth.Require] for echo: [RequireSession] that also asks
// every guard. Guards find echo's path parameters with r.PathValue.
func Require(a *descopehttp.Auth, guards ...descopehttp.Guard) echo.MiddlewareFunc {
	return adapt(a.Require(guards...))
}

// Session returns the session of a request, and whether there is one. Behind
// RequireSession and Require there always is.
func Session(c *echo.Context) (*descopehttp.Session, bool) {
	return descopehttp.SessionFromContext(c.Request().Context())
}

// A Router is what flows are mounted on: an [echo.Echo] or an [echo.Group].
type Router interface {
	Any(path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) echo.RouteInfo
}

// Mount serves the flows of [descopehttp.Auth.Handler] under prefix: all that
// begins with prefix/v1/auth/, for all methods. What else is under prefix stays
// the application's.
func Mount(router Router, prefix string, a *descopehttp.Auth) {
	router.Any(strings.TrimSuffix(prefix, "/")+"/v1/auth/*", echo.WrapHandler(a.Handler()))
}

// adapt is not echo.WrapMiddleware, which puts a new Response around the last one
// for every middleware: what an outer one has registered or reads there is lost.
func adapt(middleware func(http.Handler) http.Handler) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) (err error) {
			for _, p := range c.PathValues() {
				c.Request().SetPathValue(p.Name, p.Value)
			}
			middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				c.SetRequest(r)
				err = next(c)
			})).ServeHTTP(c.Response(), c.Request())
			return err
		}
	}
}
