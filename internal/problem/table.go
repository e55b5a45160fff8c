package problem

// A Problem is one way in which a request can fail, as the client sees it. Problems
// are compared by pointer, and there are none but those of the table.
type Problem struct {
	is     error // what errors.Is finds, if anything
	Status int
	flow   int    // status as the flows answer, where it differs
	Code   string // "code" of the problem document
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
	NoSession = &Problem{is: ErrNoSession, Status: 401, Code: "no_session", errorCode: "E061004",
		detail: "Sign in to use this."}
	InvalidToken = &Problem{is: ErrInvalidToken, Status: 401, Code: "invalid_token", errorCode: "E061005",
		detail: "The token is not a valid session token of this project.", challenge: challengeInvalidToken}
	SessionExpired = &Problem{is: ErrSessionExpired, Status: 401, Code: "session_expired", errorCode: "E061005",
		detail: "The session has expired.", challenge: challengeInvalidToken}
	SessionEnded = &Problem{is: ErrSessionEnded, Status: 401, Code: "session_ended", errorCode: "E061005",
		detail: "The session has ended. Sign in again.", challenge: challengeInvalidToken}
	ConflictingCookies = &Problem{is: ErrInvalidToken, Status: 401, Code: "conflicting_cookies", errorCode: "E061005",
		detail: "The cookies of this request belong to more than one user. Sign in again.", challenge: challengeInvalidToken}
	ForeignProject = &Problem{is: ErrInvalidToken, Status: 401, Code: "foreign_project", errorCode: "E061004",
		detail: "The Authorization header does not name this project.", challenge: challengeInvalidToken}
	NoRefreshToken = &Problem{is: ErrNoSession, Status: 401, Code: "no_refresh_token", errorCode: "E061004",
		detail: "This needs the refresh token of a signed-in user."}
	InvalidRefreshToken = &Problem{is: ErrInvalidToken, Status: 401, Code: "invalid_refresh_token", errorCode: "E061005",
		detail: "The refresh token is not a valid one of this project.", challenge: challengeInvalidToken}
	LoginPage = &Problem{is: ErrNoSession, Status: 401, Code: "login_page_protected", errorCode: "E061004",
		detail: "The sign-in page of this site asks for a session itself. That is a mistake in the server's set-up."}
	InvalidCode = &Problem{Status: 401, Code: "invalid_code", errorCode: "E061102",
		detail: "The code is not valid for this user."}
	CrossOrigin = &Problem{is: ErrCrossOrigin, Status: 403, Code: "cross_origin", errorCode: "E061004",
		detail: "This request may only be sent by pages of the same origin."}
	Forbidden = &Problem{is: ErrForbidden, Status: 403, Code: "forbidden", errorCode: "E061004",
		detail: "The session does not allow this."}
	MissingRole = &Problem{is: ErrForbidden, Status: 403, Code: "missing_role", errorCode: "E061004",
		detail: "This needs a role that the user does not have."}
	MissingPermission = &Problem{is: ErrForbidden, Status: 403, Code: "missing_permission", errorCode: "E061004",
		detail: "This needs a permission that the user does not have."}
	StepUp = &Problem{is: ErrStepUpRequired, Status: 401, Code: "step_up_required", errorCode: "E061004",
		detail: "Confirm with a new code that it is you.", challenge: challengeStepUp}
	MFA = &Problem{is: ErrStepUpRequired, Status: 401, Code: "mfa_required", errorCode: "E061004",
		detail: "This needs a second factor.", challenge: challengeMFA}
	ForeignLoginID = &Problem{is: ErrForbidden, Status: 403, Code: "foreign_login_id", errorCode: "E061004",
		detail: "The loginId is not one of the signed-in user."}
	OddRefusal = &Problem{is: ErrSessionEnded, Status: 401, flow: 502, Code: "refresh_refused", errorCode: "E061004",
		detail: "The session could not be renewed.", challenge: challengeInvalidToken}
	StaleToken = &Problem{is: ErrUnavailable, Status: 409, Code: "stale_token", errorCode: "E061004",
		detail: "A newer token of this session is in use. Try again with that."}
	OtherUser = &Problem{is: ErrSessionEnded, Status: 401, Code: "other_user", errorCode: "E061005",
		detail: "The tokens belong to more than one user. Sign in again.", challenge: challengeInvalidToken}
	Unavailable = &Problem{is: ErrUnavailable, Status: 503, flow: 502, Code: "unavailable", errorCode: "unavailable",
		detail: "The sign-in service cannot be reached now. Nothing has changed; try again shortly."}
	TooManyRequests = &Problem{is: ErrUnavailable, Status: 429, Code: "too_many_requests", errorCode: "E130429",
		detail: "Too many requests. Try again later."}

	MediaType = &Problem{Status: 415, Code: "unsupported_media_type", errorCode: "E011001",
		detail: "The body must be sent as application/json."}
	BodyTooLarge = &Problem{Status: 413, Code: "body_too_large", errorCode: "E011001",
		detail: "The body is larger than 64 KiB."}
	MalformedBody = &Problem{Status: 400, Code: "malformed_body", errorCode: "E011001",
		detail: "The body is not one JSON object with the expected types."}
	MissingField = &Problem{Status: 400, Code: "missing_field", errorCode: "E011002",
		detail: "A required field is missing."}
	InvalidField = &Problem{Status: 400, Code: "invalid_field", errorCode: "E011003",
		detail: "A field has a value that is not allowed."}
	Refused = &Problem{Status: 400, Code: "refused", errorCode: "E011003",
		detail: "Descope refused the request."}
	UserExists = &Problem{Status: 400, Code: "user_exists", errorCode: "E062107",
		detail: "A user with this loginId exists already."}
	NotFound = &Problem{Status: 404, Code: "not_found", errorCode: "E011001",
		detail: "There is nothing at this path."}
	Method = &Problem{Status: 405, Code: "method_not_allowed", errorCode: "E011001",
		detail: "This path does not take this method."}
	Internal = &Problem{Status: 500, Code: "internal", errorCode: "internal",
		detail: "Something went wrong on the server."}
)
