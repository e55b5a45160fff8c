package descopehttp

import (
	"time"

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

// A Problem is what a client is told of an error. [errors.As] finds one in every error that
// a request can cause:
//
//	var p *descopehttp.Problem
//	if errors.As(err, &p) { … }
//
// Nothing in it is secret, or was sent by a client.
type Problem struct {
	Status     int           // as the middleware answers
	Code       string        // such as "invalid_code"; docs/errors.md lists them
	Detail     string        // a sentence in English
	Field      string        // the field that is missing or odd, or ""
	RetryAfter time.Duration // 0 where waiting does not help
}

// Error returns the code, with a prefix.
func (p *Problem) Error() string { return "descopehttp: " + p.Code }

func init() {
	problem.AsPublic = func(f *problem.Failure, target any) bool {
		p, ok := target.(**Problem)
		if ok {
			*p = &Problem{Status: f.Status, Code: f.Code, Detail: f.Detail(), Field: f.Field, RetryAfter: f.Wait()}
		}
		return ok
	}
}
