package descopehttp

import (
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
