package descopetest

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// defaultProjectID is what [NewServer] starts with: well formed, and nobody's.
const defaultProjectID = "P2descopetest00000000000000A"

var projectIDPattern = regexp.MustCompile(`^P[A-Za-z0-9]{27,35}$`)

// Settings are the switches of a [Server]. [NewServer] fills in the defaults
// named below; [Server.Configure] changes them. A zero in a field is that
// value, not the default.
//
// Where a field says "documented", Descope's documentation or its public
// clients say what the default does. Where it says "unknown", they do not: the
// default is a guess, and code that depends on it should be tested both ways.
type Settings struct {
	// ProjectID is the project's id. Default: a constant. It may be changed
	// only before the first request and the first token. Documented.
	ProjectID string

	// SessionTTL is the life of a session token, in whole seconds. Default:
	// 10 minutes, documented. Zero or less makes session tokens that have
	// already expired, for tests that cannot use fake time.
	SessionTTL time.Duration

	// RefreshTTL is the life of a refresh token. Default: 4 weeks, documented.
	// Zero or less makes refresh tokens that have already expired.
	RefreshTTL time.Duration

	// CapSessionExpiry has a session token live no longer than the refresh token beside
	// it: a very short session means that the end of the sign-in is near. Default: on,
	// documented.
	CapSessionExpiry bool

	// StepUpTTL is the life of a session token that came from a step-up.
	// Default: 10 minutes, documented.
	StepUpTTL time.Duration

	// RotateRefresh gives out a new refresh token with every refresh and tenant
	// selection; the one presented is dead at once. Default: off. Documented,
	// but for a grace period, of which nothing is said: here there is none.
	RotateRefresh bool

	// SlideRefreshExpiry lets a rotated refresh token live for RefreshTTL anew.
	// Default: off, it keeps the end of life of the one it replaces. Unknown.
	SlideRefreshExpiry bool

	// StepUpFate and SelectFate say what becomes of the refresh token that a step-up or a
	// second factor, and a tenant selection, is asked for with. Defaults: TokenKept and
	// TokenRotates. Unknown.
	StepUpFate, SelectFate Fate

	// InactivityTimeout, if more than 0, is how long a refresh token may go without a
	// refresh, in whole seconds: then it is answered IdleRefresh. Answers say so in
	// nextRefreshSeconds. Default: 0, off. That it exists is documented; that
	// nextRefreshSeconds is all of it, and that nothing but a refresh counts, is not.
	InactivityTimeout time.Duration

	// OmitRefreshID leaves the claim "jti" out of refresh tokens, as in those that were
	// seen: two sign-ins of one user within a second then have one refresh token, and
	// the end of one is the end of the other. Default: off, because with fake time whole
	// tests happen within one second.
	OmitRefreshID bool

	// EchoRefresh makes a refresh without rotation answer with the refresh token
	// that was presented. Default: off, the answer's refreshJwt is "". Unknown;
	// Descope's clients cope with either.
	EchoRefresh bool

	// ReuseRevokesFamily makes the use of a spent refresh token revoke every
	// token of its line: all that descend from the same sign-in, for which a second
	// factor counts as one. Any call uses the token that comes with it, also one that
	// spends nothing, and a logout. Default: off. Unknown; the documentation says that
	// it can happen.
	ReuseRevokesFamily bool

	// TokensInCookies sends the tokens as the cookies DS and DSR. The body then
	// holds "" for both and the claims of the session, and the refresh token is
	// taken from DSR if the Authorization header has none. Default: off.
	// Documented, but for the life of DS: here it ends with the session token.
	TokensInCookies bool

	// SessionCookieName and RefreshCookieName, if set, replace DS and DSR as names of the
	// cookies, and answers announce them. Descope sets them in a flow's end action.
	// Defaults: "". Documented.
	SessionCookieName, RefreshCookieName string

	// NameInDRN makes the claim "drn" of new tokens the name of their cookie. Default: off,
	// it is "DS" and "DSR" whatever the cookies are called. Unknown.
	NameInDRN bool

	// CookieSameSite and CookieDomain are attributes of the cookies that carry tokens. The
	// Domain is that of the session's cookie only, and is announced. Defaults: None, as
	// seen on the wire, and "": the one seen, api.descope.com, is of no use elsewhere.
	CookieSameSite http.SameSite
	CookieDomain   string

	// Alg is the algorithm of the project's own keys, RS256 or ES256. Default:
	// RS256, as seen in published tokens. A change makes a new key.
	Alg string

	// Issuer is the "iss" of new tokens. Default: "", the project id. Descope
	// also uses URLs that end in the project id. Documented.
	Issuer string

	// KeysKept is how many keys the key set holds at most; the oldest leaves
	// first. Default: 13, the documented 12 rotations after which a token is
	// rejected.
	KeysKept int

	// KeyEndsRefresh ends a refresh token when the key that signed it has left the key
	// set, although with daily rotations that is long before it expires. Default: on:
	// after 12 rotations, the documentation says, users have to sign in again.
	KeyEndsRefresh bool

	// KeyDelay is how long a key that replaces another signs before it appears
	// in the key set. Default: 0. Unknown.
	KeyDelay time.Duration

	// AuthManagementKey, if set, must be the last part of the Authorization
	// header of every call but those for keys, as in projects in which public
	// access is disabled. Default: "". Documented.
	AuthManagementKey string

	// Drift is how many time steps of 30 s before and after the present one a
	// code may belong to. Default: 1, as RFC 6238, section 5.2 recommends.
	// Unknown.
	Drift int

	// AllowCodeReuse accepts a code more than once within its time. Default:
	// off, as RFC 6238, section 5.2 demands. Unknown.
	AllowCodeReuse bool

	// TOTPDisabled refuses sign-ups, sign-ins and updates with DisabledTOTP, as in a
	// project whose console has authenticator apps switched off. Default: off.
	TOTPDisabled bool

	// MaxAttempts is how many wrong codes in a row lock a user: from then on the
	// answer is TooManyAttempts, to right codes as well, until MaxAttempts is
	// raised. Default: 0, no limit. That there is one is documented, its size
	// and the length of the lock are unknown.
	MaxAttempts int

	// UpdateChecksLoginID makes /v1/auth/totp/update refuse a loginId that is
	// not the refresh token's user. Default: off, the user of that loginId gets
	// the new key: the worst that Descope could do. Unknown.
	UpdateChecksLoginID bool

	// The answers to calls that are refused. The codes are documented; which of
	// them TOTP uses, and most of the statuses, are unknown.

	WrongCode       Failure // default 401 E061102
	ReplayedCode    Failure // default 401 E061102; a code that was accepted before
	TooManyAttempts Failure // default 401 E061103; see MaxAttempts. It may be a 429, too
	DisabledTOTP    Failure // default 403 E061001, a code that is made up; see TOTPDisabled
	UnknownUser     Failure // default 400 E062108
	ExistingUser    Failure // default 400 E062107; a sign-up of a verified user
	InvalidToken    Failure // default 401 E061005; expired, foreign, garbled, or of the wrong kind
	RevokedRefresh  Failure // default 401 E064001; logged out
	SpentRefresh    Failure // default 401 E064001; replaced by rotation
	IdleRefresh     Failure // default 401 E061005; see InactivityTimeout
	Unauthorized    Failure // default 401 E061004; wrong project id or management key

	// EditClaims, if set, has the last word on the claims of every token before
	// it is signed, like a JWT template. kind is "DS" for session tokens and
	// "DSR" for refresh tokens. Changes of "exp" and "amr" of a refresh token
	// hold for the project, too. Default: nil. It may be called by several
	// goroutines at once, and may call methods of the Server.
	EditClaims func(kind string, claims map[string]any)

	// MaxUsers bounds the users, those included that have not verified a code.
	// Default: 10,000. Beyond it a sign-up is answered 429 E130429.
	MaxUsers int

	// MaxTokens bounds the refresh tokens that are remembered. Default: 100,000.
	// At the bound those that are expired, spent or revoked are forgotten, and
	// are from then on answered InvalidToken; if none is, calls that would issue
	// one are answered 429 E130429.
	MaxTokens int
}

// A Fate is what becomes of a refresh token that a call was made with which answers another.
type Fate int

const (
	TokenRotates Fate = iota // it is spent if the project rotates refresh tokens
	TokenKept                // it stays in force
	TokenSpent               // it is spent
)

// A Failure is what the project answers to one kind of refused call.
type Failure struct {
	Status      int    // HTTP status, 400 to 599
	Code        string // Descope's errorCode, such as "E061102"
	Description string // errorDescription, and the message if there is no better one
}

func defaultSettings() Settings {
	return Settings{
		ProjectID:  defaultProjectID,
		SessionTTL: 10 * time.Minute,
		RefreshTTL: 4 * 7 * 24 * time.Hour,
		StepUpTTL:  10 * time.Minute,
		Alg:        "RS256",
		KeysKept:   13,
		Drift:      1,

		CapSessionExpiry: true,
		StepUpFate:       TokenKept,
		KeyEndsRefresh:   true,
		CookieSameSite:   http.SameSiteNoneMode,

		WrongCode:       Failure{http.StatusUnauthorized, "E061102", "Invalid code"},
		ReplayedCode:    Failure{http.StatusUnauthorized, "E061102", "Invalid code"},
		TooManyAttempts: Failure{http.StatusUnauthorized, "E061103", "Too many attempts"},
		DisabledTOTP:    Failure{http.StatusForbidden, "E061001", "Authentication method is disabled"},
		UnknownUser:     Failure{http.StatusBadRequest, "E062108", "User not found"},
		ExistingUser:    Failure{http.StatusBadRequest, "E062107", "User already exists"},
		InvalidToken:    Failure{http.StatusUnauthorized, "E061005", "Invalid token"},
		RevokedRefresh:  Failure{http.StatusUnauthorized, "E064001", "Token revoked"},
		SpentRefresh:    Failure{http.StatusUnauthorized, "E064001", "Token revoked"},
		IdleRefresh:     Failure{http.StatusUnauthorized, "E061005", "Invalid token"},
		Unauthorized:    Failure{http.StatusUnauthorized, "E061004", "Unauthorized request"},

		MaxUsers:  10_000,
		MaxTokens: 100_000,
	}
}

// Refusals that no setting changes.
var (
	badRequest      = Failure{http.StatusBadRequest, "E011001", "Bad request"}
	missingArgument = Failure{http.StatusBadRequest, "E011002", "Missing arguments"}
	invalidRequest  = Failure{http.StatusBadRequest, "E011003", "Request is invalid"}
	invalidArgument = Failure{http.StatusBadRequest, "E011004", "Invalid arguments"}
	notFound        = Failure{http.StatusNotFound, "E011001", "Not found"}
	wrongMethod     = Failure{http.StatusMethodNotAllowed, "E011001", "Method not allowed"}
	projectFull     = Failure{http.StatusTooManyRequests, "E130429", "The test project is full"}
)

// check panics on settings that no project can have.
func (t *Settings) check() {
	switch {
	case !projectIDPattern.MatchString(t.ProjectID):
		panic(fmt.Sprintf("descopetest: ProjectID %q does not match %s", t.ProjectID, projectIDPattern))
	case t.Alg != "RS256" && t.Alg != "ES256":
		panic(fmt.Sprintf("descopetest: Alg %q is neither RS256 nor ES256", t.Alg))
	case t.KeysKept < 1:
		panic("descopetest: KeysKept is less than 1")
	case t.KeyDelay < 0:
		panic("descopetest: KeyDelay is negative")
	case t.Drift < 0:
		panic("descopetest: Drift is negative")
	case t.InactivityTimeout < 0:
		panic("descopetest: InactivityTimeout is negative")
	case t.StepUpFate < TokenRotates || t.StepUpFate > TokenSpent || t.SelectFate < TokenRotates || t.SelectFate > TokenSpent:
		panic("descopetest: StepUpFate or SelectFate is none of the three")
	case t.cookieName(sessionKind) == t.cookieName(refreshKind):
		panic("descopetest: session and refresh cookie have one name")
	case t.MaxAttempts < 0:
		panic("descopetest: MaxAttempts is negative")
	case t.MaxUsers < 1 || t.MaxTokens < 1:
		panic("descopetest: MaxUsers or MaxTokens is less than 1")
	}
	for _, f := range []Failure{
		t.WrongCode, t.ReplayedCode, t.TooManyAttempts, t.UnknownUser, t.ExistingUser,
		t.InvalidToken, t.RevokedRefresh, t.SpentRefresh, t.Unauthorized, t.IdleRefresh, t.DisabledTOTP,
	} {
		f.check()
	}
}

func (f Failure) check() {
	if f.Status < 400 || f.Status > 599 {
		panic(fmt.Sprintf("descopetest: Failure with status %d", f.Status))
	}
}

// cookieName is the name of the cookie for tokens of a kind.
func (t *Settings) cookieName(kind string) string {
	if kind == sessionKind {
		return cmp.Or(t.SessionCookieName, kind)
	}
	return cmp.Or(t.RefreshCookieName, kind)
}

// drn is the claim of that name in tokens of a kind.
func (t *Settings) drn(kind string) string {
	if t.NameInDRN {
		return t.cookieName(kind)
	}
	return kind
}
