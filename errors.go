package descopehttp

import (
	"net/http"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// Errors of [Auth.Authenticate], [Auth.VerifyToken] and [Auth.Ready], and of
// the answers that [SessionError] and Config.ErrorHandler are told about. Match
// them with [errors.Is]. Their texts are fixed: no token, and nothing that a
// client sent, is ever part of an error.
var (
	// ErrNoSession: the request carries no credential. 401.
	ErrNoSession = problem.ErrNoSession
	// ErrInvalidToken: the token presented is not a session token of this
	// project, or the cookies are those of more than one user. 401.
	ErrInvalidToken = problem.ErrInvalidToken
	// ErrSessionExpired: the session token has expired, and there is no refresh
	// token that could renew it. 401.
	ErrSessionExpired = problem.ErrSessionExpired
	// ErrSessionEnded: the session was logged out, or Descope refused to renew it
	// or renewed it as somebody else's. 401.
	ErrSessionEnded = problem.ErrSessionEnded
	// ErrCrossOrigin: another site sent the request with this user's cookies.
	// 403.
	ErrCrossOrigin = problem.ErrCrossOrigin
	// ErrForbidden: a guard refused the session. 403.
	ErrForbidden = problem.ErrForbidden
	// ErrStepUpRequired: the user has to prove again who they are, or with
	// another factor. 401, and the session goes on.
	ErrStepUpRequired = problem.ErrStepUpRequired
	// ErrUnavailable: whether there is a session cannot be told now, because
	// Descope did not answer or its keys are not to be had. The cookies are
	// kept. 503 from the middleware, 502 or 504 from the flows, and 429 where a
	// limit says when to try again.
	ErrUnavailable = problem.ErrUnavailable
)

// WriteError answers a request that Authenticate refused with err, the way the
// middleware does by default: a problem document (RFC 9457) that carries
// Descope's error fields too, not to be cached, with WWW-Authenticate on a 401
// and Retry-After on a 503. It is for a Config.ErrorHandler that answers some
// requests differently. An err that is not of this package is a 500 without its
// text.
//
// With Config.LoginURL, a browser that navigates to a page is sent there instead
// of being answered 401.
func (a *Auth) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	f := problem.Of(err)
	if a.loginURL != nil && f.Status == http.StatusUnauthorized && isNavigation(r) {
		a.redirectToLogin(w, r, f)
		return
	}
	problem.Write(w, f)
}
