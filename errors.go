package descopehttp

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Errors of [Auth.Authenticate], [Auth.VerifyToken] and [Auth.Ready], and of
// the answers that [SessionError] and Config.ErrorHandler are told about. Match
// them with [errors.Is]. Their texts are fixed: no token, and nothing that a
// client sent, is ever part of an error.
var (
	// ErrNoSession: the request carries no credential. 401.
	ErrNoSession = errors.New("descopehttp: no session")
	// ErrInvalidToken: the token presented is not a session token of this
	// project, or the cookies are those of more than one user. 401.
	ErrInvalidToken = errors.New("descopehttp: invalid token")
	// ErrSessionExpired: the session token has expired, and there is no refresh
	// token that could renew it. 401.
	ErrSessionExpired = errors.New("descopehttp: session expired")
	// ErrSessionEnded: the session was logged out, or Descope refused to renew it
	// or renewed it as somebody else's. 401.
	ErrSessionEnded = errors.New("descopehttp: session ended")
	// ErrCrossOrigin: another site sent the request with this user's cookies.
	// 403.
	ErrCrossOrigin = errors.New("descopehttp: cross-origin request")
	// ErrForbidden: a guard refused the session. 403.
	ErrForbidden = errors.New("descopehttp: forbidden")
	// ErrStepUpRequired: the user has to prove again who they are, or with
	// another factor. 401, and the session goes on.
	ErrStepUpRequired = errors.New("descopehttp: step-up required")
	// ErrUnavailable: whether there is a session cannot be told now, because
	// Descope did not answer or its keys are not to be had. The cookies are
	// kept. 503 from the middleware, 502 or 504 from the flows, and 429 where a
	// limit says when to try again.
	ErrUnavailable = errors.New("descopehttp: cannot tell")
)

// A problem is one way in which a request can fail, as the client sees it. The
// table below is the only place that gives an error a status and a text.
type problem struct {
	is     error // what errors.Is finds, if anything
	status int
	flow   int    // status as the flows answer, where it differs
	code   string // "code" of the problem document
	detail string

	// Descope's clients read errorCode, and take a body without one for no
	// answer of Descope. Where Descope has a code of the same meaning it is
	// used; elsewhere the problem's own code serves.
	errorCode string

	// challenge is the auth-param part of WWW-Authenticate (RFC 6750, section
	// 3); every 401 carries the header (RFC 9110, section 15.5.2).
	challenge string
}

const (
	challengeInvalidToken = `error="invalid_token"`
	// RFC 9470, section 3.
	challengeStepUp = `error="insufficient_user_authentication", acr_values="stepup"`
	challengeMFA    = `error="insufficient_user_authentication", acr_values="mfa"`
)

var (
	problemNoSession = &problem{is: ErrNoSession, status: 401, code: "no_session", errorCode: "E061004",
		detail: "Sign in to use this."}
	problemInvalidToken = &problem{is: ErrInvalidToken, status: 401, code: "invalid_token", errorCode: "E061005",
		detail: "The token is not a valid session token of this project.", challenge: challengeInvalidToken}
	problemSessionExpired = &problem{is: ErrSessionExpired, status: 401, code: "session_expired", errorCode: "E061005",
		detail: "The session has expired.", challenge: challengeInvalidToken}
	problemSessionEnded = &problem{is: ErrSessionEnded, status: 401, code: "session_ended", errorCode: "E061005",
		detail: "The session has ended. Sign in again.", challenge: challengeInvalidToken}
	problemConflictingCookies = &problem{is: ErrInvalidToken, status: 401, code: "conflicting_cookies", errorCode: "E061005",
		detail: "The cookies of this request belong to more than one user. Sign in again.", challenge: challengeInvalidToken}
	problemForeignProject = &problem{is: ErrInvalidToken, status: 401, code: "foreign_project", errorCode: "E061004",
		detail: "The Authorization header does not name this project.", challenge: challengeInvalidToken}
	problemNoRefreshToken = &problem{is: ErrNoSession, status: 401, code: "no_refresh_token", errorCode: "E061004",
		detail: "This needs the refresh token of a signed-in user."}
	problemInvalidRefreshToken = &problem{is: ErrInvalidToken, status: 401, code: "invalid_refresh_token", errorCode: "E061005",
		detail: "The refresh token is not a valid one of this project.", challenge: challengeInvalidToken}
	problemInvalidCode = &problem{status: 401, code: "invalid_code", errorCode: "E061102",
		detail: "The code is not valid for this user."}
	problemCrossOrigin = &problem{is: ErrCrossOrigin, status: 403, code: "cross_origin", errorCode: "E061004",
		detail: "This request may only be sent by pages of the same origin."}
	problemForbidden = &problem{is: ErrForbidden, status: 403, code: "forbidden", errorCode: "E061004",
		detail: "The session does not allow this."}
	problemMissingRole = &problem{is: ErrForbidden, status: 403, code: "missing_role", errorCode: "E061004",
		detail: "This needs a role that the user does not have."}
	problemMissingPermission = &problem{is: ErrForbidden, status: 403, code: "missing_permission", errorCode: "E061004",
		detail: "This needs a permission that the user does not have."}
	problemStepUp = &problem{is: ErrStepUpRequired, status: 401, code: "step_up_required", errorCode: "E061004",
		detail: "Confirm with a new code that it is you.", challenge: challengeStepUp}
	problemMFA = &problem{is: ErrStepUpRequired, status: 401, code: "mfa_required", errorCode: "E061004",
		detail: "This needs a second factor.", challenge: challengeMFA}
	problemForeignLoginID = &problem{is: ErrForbidden, status: 403, code: "foreign_login_id", errorCode: "E061004",
		detail: "The loginId is not one of the signed-in user."}
	problemOddRefusal = &problem{is: ErrSessionEnded, status: 401, flow: 502, code: "refresh_refused", errorCode: "E061004",
		detail: "The session could not be renewed.", challenge: challengeInvalidToken}
	problemOtherUser = &problem{is: ErrSessionEnded, status: 401, code: "other_user", errorCode: "E061005",
		detail: "The tokens belong to more than one user. Sign in again.", challenge: challengeInvalidToken}
	problemUnavailable = &problem{is: ErrUnavailable, status: 503, flow: 502, code: "unavailable", errorCode: "unavailable",
		detail: "The sign-in service cannot be reached now. Nothing has changed; try again shortly."}
	problemTooManyRequests = &problem{is: ErrUnavailable, status: 429, code: "too_many_requests", errorCode: "E130429",
		detail: "Too many requests. Try again later."}

	problemMediaType = &problem{status: 415, code: "unsupported_media_type", errorCode: "E011001",
		detail: "The body must be sent as application/json."}
	problemBodyTooLarge = &problem{status: 413, code: "body_too_large", errorCode: "E011001",
		detail: "The body is larger than 64 KiB."}
	problemMalformedBody = &problem{status: 400, code: "malformed_body", errorCode: "E011001",
		detail: "The body is not one JSON object with the expected types."}
	problemMissingField = &problem{status: 400, code: "missing_field", errorCode: "E011002",
		detail: "A required field is missing."}
	problemInvalidField = &problem{status: 400, code: "invalid_field", errorCode: "E011003",
		detail: "A field has a value that is not allowed."}
	problemRefused = &problem{status: 400, code: "refused", errorCode: "E011003",
		detail: "Descope refused the request."}
	problemUserExists = &problem{status: 400, code: "user_exists", errorCode: "E062107",
		detail: "A user with this loginId exists already."}
	problemNotFound = &problem{status: 404, code: "not_found", errorCode: "E011001",
		detail: "There is nothing at this path."}
	problemMethod = &problem{status: 405, code: "method_not_allowed", errorCode: "E011001",
		detail: "This path does not take this method."}
	problemInternal = &problem{status: 500, code: "internal", errorCode: "internal",
		detail: "Something went wrong on the server."}
)

// A failure is a problem that happened: the half for the client points into the
// table, the other half is for the log and never leaves the server.
type failure struct {
	*problem
	reason     string // fixed text for the log
	field      string // the field of a 400, one of our own names
	allow      string // Allow of a 405
	cause      error
	retryAfter time.Duration

	timeout       bool // "cannot tell", because it took too long
	unreachable   bool // "cannot tell", because Descope was not reached
	hungUp        bool // "cannot tell", because the client did not wait
	unsent        bool // "cannot tell", because Descope was not called
	deleteCookies bool // they can never work again
}

func (p *problem) because(reason string) *failure { return &failure{problem: p, reason: reason} }

// Error returns a fixed text: no part of a request is in it.
func (f *failure) Error() string {
	text := "descopehttp: " + f.code
	if f.reason != "" {
		text += ": " + f.reason
	}
	return text
}

func (f *failure) Unwrap() []error {
	var errs []error
	for _, err := range []error{f.is, f.cause} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// failureOf returns what err means to a client. What is none of our errors is a
// bare 500, its text left for the log.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{problem: problemInternal, reason: "unexpected error", cause: err}
}

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
	f := failureOf(err)
	if a.loginURL != nil && f.status == http.StatusUnauthorized && isNavigation(r) {
		a.redirectToLogin(w, r, f)
		return
	}
	writeProblem(w, f, f.status)
}

// writeFlowError answers for a flow. Descope's browser clients forget their
// tokens on any 4xx of a session call, and hold their callers for ten seconds
// on a 503; "cannot tell" is therefore a 502 or a 504 there.
func writeFlowError(w http.ResponseWriter, f *failure) {
	status := cmp.Or(f.flow, f.status)
	if f.timeout {
		status = http.StatusGatewayTimeout
	}
	writeProblem(w, f, status)
}

// A problemDocument is the body of every answer that is an error.
type problemDocument struct {
	Type   string `json:"type"` // RFC 9457, section 3.1.1
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Field  string `json:"field,omitzero"`

	ErrorCode        string `json:"errorCode"`
	ErrorDescription string `json:"errorDescription"`
	ErrorMessage     string `json:"errorMessage"`
}

func writeProblem(w http.ResponseWriter, f *failure, status int) {
	h := w.Header()
	if status == http.StatusUnauthorized {
		challenge := "Bearer"
		if f.challenge != "" {
			challenge += " " + f.challenge
		}
		h.Set("WWW-Authenticate", challenge)
	}
	announceRetry(h, f)
	if f.allow != "" {
		h.Set("Allow", f.allow)
	}
	detail := f.detail
	if f.field != "" {
		detail = f.detail[:len(f.detail)-1] + ": " + f.field + "."
	}
	body, err := json.Marshal(&problemDocument{
		Type:             "about:blank",
		Title:            http.StatusText(status),
		Status:           status,
		Detail:           detail,
		Code:             f.code,
		Field:            f.field,
		ErrorCode:        f.errorCode,
		ErrorDescription: http.StatusText(status),
		ErrorMessage:     detail,
	})
	if err != nil {
		panic(err) // fixed strings always encode
	}
	writeJSON(w, status, "application/problem+json", body)
}

// announceRetry sets Retry-After where waiting helps.
func announceRetry(h http.Header, f *failure) {
	if f.is == ErrUnavailable {
		h.Set("Retry-After", retryAfterSeconds(cmp.Or(f.retryAfter, defaultRetryAfter)))
	}
}

// writeJSON writes the body of every answer of this package. None may be kept
// by a browser or a proxy: it is about one user, or about now.
func writeJSON(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body) // an error here means that the client has gone
}

// retryAfterSeconds rounds up: a client that came back a moment early would only
// be sent away again.
func retryAfterSeconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}
