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

// docs/errors.md is made of what stands above each, and of their order.
var (
	// The request carries no credential.
	// Client: sign in.
	NoSession = &Problem{is: ErrNoSession, Status: 401, Code: "no_session", errorCode: "E061004",
		detail: "Sign in to use this."}
	// The token is not a session token of this project.
	// Client: sign in.
	InvalidToken = &Problem{is: ErrInvalidToken, Status: 401, Code: "invalid_token", errorCode: "E061005",
		detail: "The token is not a valid session token of this project.", challenge: challengeInvalidToken}
	// The session has expired, and there is nothing that could renew it.
	// Client: sign in; native clients: refresh.
	SessionExpired = &Problem{is: ErrSessionExpired, Status: 401, Code: "session_expired", errorCode: "E061005",
		detail: "The session has expired.", challenge: challengeInvalidToken}
	// Descope ended the session: it was signed out elsewhere, say.
	// Client: sign in.
	SessionEnded = &Problem{is: ErrSessionEnded, Status: 401, Code: "session_ended", errorCode: "E061005",
		detail: "The session has ended. Sign in again.", challenge: challengeInvalidToken}
	// The cookies are those of more than one user, and were deleted.
	// Client: sign in.
	ConflictingCookies = &Problem{is: ErrInvalidToken, Status: 401, Code: "conflicting_cookies", errorCode: "E061005",
		detail: "The cookies of this request belong to more than one user. Sign in again.", challenge: challengeInvalidToken}
	// The Authorization header holds neither a token nor this project's id.
	// Client: mend the client.
	ForeignProject = &Problem{is: ErrInvalidToken, Status: 401, Code: "foreign_project", errorCode: "E061004",
		detail: "The Authorization header does not name this project.", challenge: challengeInvalidToken}
	// The flow needs a signed-in user, and no refresh token came along.
	// Client: sign in.
	NoRefreshToken = &Problem{is: ErrNoSession, Status: 401, Code: "no_refresh_token", errorCode: "E061004",
		detail: "This needs the refresh token of a signed-in user."}
	// The refresh token is not one of this project.
	// Client: sign in.
	InvalidRefreshToken = &Problem{is: ErrInvalidToken, Status: 401, Code: "invalid_refresh_token", errorCode: "E061005",
		detail: "The refresh token is not a valid one of this project.", challenge: challengeInvalidToken}
	// The page of Config.LoginURL is behind the middleware itself.
	// Client: none; take the page out of the middleware.
	LoginPage = &Problem{is: ErrNoSession, Status: 401, Code: "login_page_protected", errorCode: "E061004",
		detail: "The sign-in page of this site asks for a session itself. That is a mistake in the server's set-up."}
	// The code is wrong, or there is no such user: they look alike.
	// Client: ask again.
	InvalidCode = &Problem{Status: 401, Code: "invalid_code", errorCode: "E061102",
		detail: "The code is not valid for this user."}
	// A page of another origin sent the request with this user's cookies.
	// Client: none; an origin of yours belongs in Config.TrustedOrigins.
	CrossOrigin = &Problem{is: ErrCrossOrigin, Status: 403, Code: "cross_origin", errorCode: "E061004",
		detail: "This request may only be sent by pages of the same origin."}
	// A guard of your own, or Config.LoginOptions, refused.
	// Client: none.
	Forbidden = &Problem{is: ErrForbidden, Status: 403, Code: "forbidden", errorCode: "E061004",
		detail: "The session does not allow this."}
	// The guard Role or TenantRole refused.
	// Client: none.
	MissingRole = &Problem{is: ErrForbidden, Status: 403, Code: "missing_role", errorCode: "E061004",
		detail: "This needs a role that the user does not have."}
	// The guard Permission or TenantPermission refused.
	// Client: none.
	MissingPermission = &Problem{is: ErrForbidden, Status: 403, Code: "missing_permission", errorCode: "E061004",
		detail: "This needs a permission that the user does not have."}
	// The session goes on, but this needs a new code (RFC 9470).
	// Client: ask for a code, and verify with the option stepup.
	StepUp = &Problem{is: ErrStepUpRequired, Status: 401, Code: "step_up_required", errorCode: "E061004",
		detail: "Confirm with a new code that it is you.", challenge: challengeStepUp}
	// The session goes on, but this needs a second factor (RFC 9470).
	// Client: ask for a code, and verify with the option mfa.
	MFA = &Problem{is: ErrStepUpRequired, Status: 401, Code: "mfa_required", errorCode: "E061004",
		detail: "This needs a second factor.", challenge: challengeMFA}
	// Update of somebody else's authenticator.
	// Client: none.
	ForeignLoginID = &Problem{is: ErrForbidden, Status: 403, Code: "foreign_login_id", errorCode: "E061004",
		detail: "The loginId is not one of the signed-in user."}
	// Descope refused the refresh for the first time, or for a reason that the kit does not know.
	// Client: keep the tokens, and try again after Retry-After.
	OddRefusal = &Problem{is: ErrSessionEnded, Status: 401, flow: 502, Code: "refresh_refused", errorCode: "E061004",
		detail: "The session could not be renewed.", challenge: challengeInvalidToken}
	// A newer refresh token of this sign-in is in use.
	// Client: load the page again.
	StaleToken = &Problem{is: ErrUnavailable, Status: 409, Code: "stale_token", errorCode: "E061004",
		detail: "A newer token of this session is in use. Try again with that."}
	// Descope renewed the session as somebody else's.
	// Client: sign in.
	OtherUser = &Problem{is: ErrSessionEnded, Status: 401, Code: "other_user", errorCode: "E061005",
		detail: "The tokens belong to more than one user. Sign in again.", challenge: challengeInvalidToken}
	// Cannot tell: Descope, its keys or the way there are away. The cookies are kept.
	// Client: wait for Retry-After, and stay signed in.
	Unavailable = &Problem{is: ErrUnavailable, Status: 503, flow: 502, Code: "unavailable", errorCode: "unavailable",
		detail: "The sign-in service cannot be reached now. Nothing has changed; try again shortly."}
	// Too many codes, sign-ups or calls of one user.
	// Client: wait for Retry-After.
	TooManyRequests = &Problem{is: ErrUnavailable, Status: 429, Code: "too_many_requests", errorCode: "E130429",
		detail: "Too many requests. Try again later."}

	// The body was not sent as application/json.
	// Client: correct it.
	MediaType = &Problem{Status: 415, Code: "unsupported_media_type", errorCode: "E011001",
		detail: "The body must be sent as application/json."}
	// The body is larger than 64 KiB.
	// Client: correct it.
	BodyTooLarge = &Problem{Status: 413, Code: "body_too_large", errorCode: "E011001",
		detail: "The body is larger than 64 KiB."}
	// The body is not one JSON object of the expected types, or has a name twice.
	// Client: correct it.
	MalformedBody = &Problem{Status: 400, Code: "malformed_body", errorCode: "E011001",
		detail: "The body is not one JSON object with the expected types."}
	// The field that "field" names is missing.
	// Client: correct it.
	MissingField = &Problem{Status: 400, Code: "missing_field", errorCode: "E011002",
		detail: "A required field is missing."}
	// The field that "field" names has a value that is not allowed.
	// Client: correct it.
	InvalidField = &Problem{Status: 400, Code: "invalid_field", errorCode: "E011003",
		detail: "A field has a value that is not allowed."}
	// Descope refused the request for what is in it.
	// Client: correct it.
	Refused = &Problem{Status: 400, Code: "refused", errorCode: "E011003",
		detail: "Descope refused the request."}
	// Sign-up of a login id that there is already.
	// Client: sign in.
	UserExists = &Problem{Status: 400, Code: "user_exists", errorCode: "E062107",
		detail: "A user with this loginId exists already."}
	// There is no flow at this path.
	// Client: correct it.
	NotFound = &Problem{Status: 404, Code: "not_found", errorCode: "E011001",
		detail: "There is nothing at this path."}
	// The flow takes another method; Allow names it.
	// Client: correct it.
	Method = &Problem{Status: 405, Code: "method_not_allowed", errorCode: "E011001",
		detail: "This path does not take this method."}
	// An error of your own, from a guard or given to WriteError, or a panic.
	// Client: report it.
	Internal = &Problem{Status: 500, Code: "internal", errorCode: "internal",
		detail: "Something went wrong on the server."}
)
