// Package descopegin puts the middleware and the flows of descopehttp into a gin
// router. It adds gin's types and nothing else: statuses, bodies, headers and
// cookies are those that net/http gets.
//
//	descopegin.Mount(router, "/auth", a)
//	router.GET("/app", descopegin.RequireSession(a), app)
//
// A single flow at a path of one's own needs no adapter:
// router.POST("/enter", gin.WrapF(a.ServeVerify)).
package descopegin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/descopehttp/descopehttp"
)

// RequireSession is [descopehttp.Auth.RequireSession] for gin: handlers after it
// run only for requests with a valid session, and find it with [Session]. For
// all other requests the chain is aborted, also when Config.ErrorHandler writes
// nothing.
func RequireSession(a *descopehttp.Auth) gin.HandlerFunc { return adapt(a.RequireSession) }

// LoadSession is [descopehttp.Auth.LoadSession] for gin: handlers after it run
// with a session if the request has one. It protects nothing.
func LoadSession(a *descopehttp.Auth) gin.HandlerFunc { return adapt(a.LoadSession) }

// Require is [descopehttp.Auth.Require] for gin: [RequireSession] that also asks
// every guard. Guards find gin's path parameters with r.PathValue.
func Require(a *descopehttp.Auth, guards ...descopehttp.Guard) gin.HandlerFunc {
	return adapt(a.Require(guards...))
}

// Session returns the session of a request, and whether there is one. After
// RequireSession and Require there always is.
func Session(c *gin.Context) (*descopehttp.Session, bool) {
	return descopehttp.SessionFromContext(c.Request.Context())
}

// Mount serves the flows of [descopehttp.Auth.Handler] under prefix: all that
// begins with prefix/v1/auth/, for the methods of gin's Any. What else is under
// prefix stays the application's.
func Mount(router gin.IRoutes, prefix string, a *descopehttp.Auth) {
	router.Any(prefix+"/v1/auth/*path", gin.WrapH(a.Handler()))
}

func adapt(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		admitted := false
		// Deferred, because a panic of a guard may meet a recovery that does not
		// abort, and gin would then go on to the page.
		defer func() {
			if !admitted {
				c.Abort()
			}
		}()
		for _, p := range c.Params {
			c.Request.SetPathValue(p.Key, p.Value)
		}
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			admitted = true
			c.Request = r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
		if !admitted {
			// gin holds a status back until there is a body. The refusal stands.
			c.Writer.WriteHeaderNow()
		}
	}
}
