package descopehttp

import (
	"log/slog"
	"net/http"
	"net/url"

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

// refusals answers requests that the middleware does not let through.
type refusals struct {
	loginURL *url.URL // nil without
	handler  func(http.ResponseWriter, *http.Request, error)
	log      *slog.Logger
}

// answer is the default.
func (x *refusals) answer(w http.ResponseWriter, r *http.Request, err error) {
	f := problem.Of(err)
	if x.loginURL != nil && f.Status == http.StatusUnauthorized && isNavigation(r) {
		redirectToLogin(w, r, f, *x.loginURL)
		return
	}
	problem.Write(w, f)
}

// refuse has Config.ErrorHandler answer, if there is one.
func (x *refusals) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if x.log.Enabled(r.Context(), slog.LevelDebug) {
		x.log.LogAttrs(r.Context(), slog.LevelDebug, "descopehttp: request refused", slog.String("reason", problem.Of(err).Error()))
	}
	if x.handler == nil {
		x.answer(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	problem.AnnounceRetry(w.Header(), problem.Of(err))
	x.handler(w, r, err)
}
