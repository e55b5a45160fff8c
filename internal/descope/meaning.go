package descope

import "strings"

// A Meaning is what an answer of Descope says that is no success, and so to whom it is told.
type Meaning int

const (
	// NoVerdict: something on the way answered, or Descope in a way that it does not
	// document. It says nothing about the request.
	NoVerdict Meaning = iota
	// GatewayTrouble: something on the way could not get through to Descope.
	GatewayTrouble
	// Unknown: nobody here knows the code. It may speak of the user, of the project's
	// settings, or of something new.
	Unknown
	// RateLimit: too many calls of ours, whoever they were for. It closes a gate.
	RateLimit
	// TooManyAttempts: too many calls for one user, which is nobody else's trouble.
	TooManyAttempts
	// WrongCode: the code or the user is not the right one.
	WrongCode
	// UserExists: there is such a user already.
	UserExists
	// Malformed: the request itself, whoever it is about.
	Malformed
	// NoProject: Descope knows no such project, or no such call.
	NoProject
	// NotFound: there is no such project, or nobody of whom the call speaks.
	NotFound
	// Caller: project id or management key, but of a call with a refresh token it may
	// be the token as well.
	Caller
	// TokenRefused: something about the refresh token that presented it, in a call that
	// had one, which may be the project's settings.
	TokenRefused
	// TokenInvalid: the refresh token is not a valid one.
	TokenInvalid
	// TokenRevoked: the refresh token was ended by a logout.
	TokenRevoked
)

// A row says what an answer means. The first that fits counts.
type row struct {
	from, to int    // HTTP statuses
	code     string // of Descope; "E06…" is any that begins so, "…" is any code, "" is no code, "*" is either
	meaning  Meaning
}

// meanings is all that is known of Descope's answers that are no success; what differs from
// the rule is a row before it. Most statuses are not documented, so they are looked at only
// where the code does not say enough. What a client can provoke, such as the 403 of a
// firewall or a 500, is no trouble of a gateway: it would let one client stop the calls of
// all. Sources: the error tables of Descope's clients, and docs.descope.com, "Rate Limiting".
var meanings = []row{
	{400, 499, "E130429", RateLimit},
	{429, 429, "", RateLimit},
	{400, 499, "E061103", TooManyAttempts},
	{400, 499, "E061005", TokenInvalid},
	{400, 499, "E064001", TokenRevoked},
	{400, 499, "E061102", WrongCode},
	{400, 499, "E061104", WrongCode},
	{400, 499, "E062108", WrongCode},
	{400, 499, "E062107", UserExists},
	{404, 404, "E0110…", NoProject},
	{404, 404, "…", NotFound},
	{429, 429, "…", TooManyAttempts},
	{400, 499, "E0110…", Malformed},
	{400, 499, "E061004", Caller},
	{401, 401, "E06…", TokenRefused},
	{403, 403, "E06…", TokenRefused},
	{400, 499, "…", Unknown},
	{502, 504, "*", GatewayTrouble},
	{520, 530, "*", GatewayTrouble},
	{100, 999, "*", NoVerdict},
}

func (r row) fits(status int, code string) bool {
	if status < r.from || status > r.to {
		return false
	}
	prefix, open := strings.CutSuffix(r.code, "…")
	return code == r.code || r.code == "*" || open && code != "" && strings.HasPrefix(code, prefix)
}

// Rules are what a user of the kit knows better than the table.
type Rules struct {
	EndsSession func(status int, code string) bool // the refresh token is dead for good
	WrongCode   func(status int, code string) bool // the code or the user is not right
}

func (r Rules) meaningOf(status int, code string) Meaning {
	switch {
	case code == "" || status/100 != 4:
	case r.EndsSession != nil && r.EndsSession(status, code):
		return TokenInvalid
	case r.WrongCode != nil && r.WrongCode(status, code):
		return WrongCode
	}
	return meaningOf(status, code)
}

// meaningOf finds the row.
func meaningOf(status int, code string) Meaning {
	for _, r := range meanings {
		if r.fits(status, code) {
			return r.meaning
		}
	}
	return NoVerdict
}
