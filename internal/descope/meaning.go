package descope

import "strings"

// A Meaning is what a 4xx of Descope says, and so to whom it is told.
type Meaning int

const (
	// Unknown: nobody here knows the code. It may speak of the user, of the project's
	// settings, or of something new.
	Unknown Meaning = iota
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
	// NoProject: Descope knows no such project.
	NoProject
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
	status  int    // 0: any 4xx
	code    string // of Descope; "E06…" is any that begins so, "" is no code, "…" is any code
	meaning Meaning
}

// meanings is all that is known of Descope's error answers; what differs from the rule is
// a row before it. Most statuses are not documented, so they are looked at only
// where the code does not say enough. Sources: the error tables of Descope's clients, and
// docs.descope.com, "Rate Limiting".
var meanings = []row{
	{0, "E130429", RateLimit},
	{429, "", RateLimit},
	{0, "E061103", TooManyAttempts},
	{0, "E061005", TokenInvalid},
	{0, "E064001", TokenRevoked},
	{0, "E061102", WrongCode},
	{0, "E061104", WrongCode},
	{0, "E062108", WrongCode},
	{0, "E062107", UserExists},
	{404, "…", NoProject},
	{429, "…", TooManyAttempts},
	{0, "E0110…", Malformed},
	{0, "E061004", Caller},
	{401, "E06…", TokenRefused},
	{403, "E06…", TokenRefused},
}

func (r row) fits(status int, code string) bool {
	if r.status != 0 && r.status != status {
		return false
	}
	prefix, open := strings.CutSuffix(r.code, "…")
	return code == r.code || open && code != "" && strings.HasPrefix(code, prefix)
}

// Rules are what a user of the kit knows better than the table.
type Rules struct {
	EndsSession func(status int, code string) bool // the refresh token is dead for good
	WrongCode   func(status int, code string) bool // the code or the user is not right
}

func (r Rules) meaningOf(status int, code string) Meaning {
	switch {
	case code == "":
	case r.EndsSession != nil && r.EndsSession(status, code):
		return TokenInvalid
	case r.WrongCode != nil && r.WrongCode(status, code):
		return WrongCode
	}
	return meaningOf(status, code)
}

// meaningOf finds the row. An answer without one is of unknown meaning.
func meaningOf(status int, code string) Meaning {
	for _, r := range meanings {
		if r.fits(status, code) {
			return r.meaning
		}
	}
	return Unknown
}
