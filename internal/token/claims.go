package token

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Claims holds the claims that are asked for again and again. The others are
// decoded from the payload when somebody asks, so that an odd JWT template closes
// a guard and does not sign a project out. Times are kept as time.Time and not as they
// came: they are compared with the clock on every request.
type Claims struct {
	Subject                     string
	Expiry, NotBefore, IssuedAt time.Time // the zero time without

	// dsub: the user where the template overrides sub. Absent, it is sub; of another type
	// than a string it counts as absent, because it decides no more than whose this is.
	userID string
}

// scope is where a token comes from and what it is for. It never changes, so it
// is judged once and not kept.
type scope struct {
	issuedHere  bool   // iss is this project
	drn         string // session or refresh token
	tokenType   string // of OAuth tokens, which have no drn
	hasAudience bool
	forAudience bool // the audience is among aud
	bound       bool // cnf is there, whatever it holds
}

// readClaim reads the value of the claim with that name, if it is one that
// decides about the token. A value of a wrong type refuses the token: a reader that is
// lax about the type of exp or aud, and one that is not, see two different tokens.
func (rules *Rules) readClaim(t *Token, name []byte, dec *jsontext.Decoder) (known bool, err error) {
	switch string(name) {
	case "iss":
		t.scope.issuedHere, err = rules.readIssuer(dec)
	case "drn":
		t.scope.drn, err = readString(dec)
	case "token_type":
		t.scope.tokenType, err = readOptionalString(dec)
	case "aud":
		t.scope.hasAudience = true
		t.scope.forAudience, err = rules.readAudience(dec)
	case "cnf":
		// Bound to a key of the client's (RFC 7800, RFC 9449), null included: such a
		// token must come with a proof, which nobody here asks for, so whoever stole it
		// would pass.
		t.scope.bound = true
		err = dec.SkipValue()
	default:
		return t.Claims.read(name, dec)
	}
	return true, err
}

// ReadClaims reads claims that nobody has signed, for tests of users. It asks only that
// they are one JSON object, and that those in Claims are of their types.
func ReadClaims(payload jsontext.Value) (Verified, error) {
	v := Verified{Payload: payload}
	err := decodeObject(payload, v.Claims.read)
	return v, err
}

// read reads what both kinds of token have. rexp is known here although nobody reads it,
// because it is in every token of Descope and a name in another case must not pass for it.
func (c *Claims) read(name []byte, dec *jsontext.Decoder) (known bool, err error) {
	switch string(name) {
	case "sub":
		c.Subject, err = readString(dec)
	case "dsub":
		c.userID, err = readOptionalString(dec)
	case "exp":
		// 0 is refused by its own rule: to some readers it means "never".
		if c.Expiry, err = readDate(dec); err == nil && (c.Expiry.Unix() <= 0 || c.Expiry.Unix() > maxNumericDate) {
			err = errExpiry
		}
	case "nbf":
		c.NotBefore, err = readDate(dec)
	case "iat":
		c.IssuedAt, err = readDate(dec)
	case "rexp": // decoded when asked for
		err = dec.SkipValue()
	default:
		return false, nil
	}
	return true, err
}

// User returns who the token is about. A project's template may put something
// else into sub; Descope then keeps the user's id in dsub.
func (c *Claims) User() string {
	if c.userID != "" {
		return c.userID
	}
	return c.Subject
}

// decodeClaims keeps the payload as it came, for what is read of it later: it has been
// found to be one object with unique names, so every reader sees the same.
func (rules *Rules) decodeClaims(t *Token, segment string) error {
	raw, err := decodeSegment(segment)
	if err != nil {
		return errParts
	}
	if err := decodeObject(raw, func(name []byte, dec *jsontext.Decoder) (bool, error) { return rules.readClaim(t, name, dec) }); err != nil {
		return decodeFailure(err, errClaims)
	}
	t.payload = raw
	return nil
}

// readIssuer reports whether iss is a form that Descope gives it. The last that
// was is remembered, because a project's tokens share one.
func (rules *Rules) readIssuer(dec *jsontext.Decoder) (issuedHere bool, err error) {
	v, err := dec.ReadValue()
	if err != nil {
		return false, err
	}
	text, err := unquote(v)
	if err != nil {
		return false, err
	}
	if last := rules.issuer.Load(); last != nil && *last == string(text) {
		return true, nil
	}
	issuer := string(text)
	if !namesProject(issuer, rules.ProjectID) {
		return false, nil
	}
	rules.issuer.Store(&issuer)
	return true, nil
}

// namesProject accepts the forms that Descope gives iss: the project id, or a URL
// on any of its hosts with the id as the last path segment or the one before,
// where a tenant's or an application's id follows. The host proves nothing; the
// signature by the project's key does.
func namesProject(issuer, projectID string) bool {
	if issuer == projectID {
		return true
	}
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return false
	}
	segments := strings.Split(u.Path, "/")
	n := len(segments)
	return segments[n-1] == projectID || n >= 2 && segments[n-2] == projectID
}

// readDate reads a NumericDate (RFC 7519, section 2), which may have a fraction.
// It saturates: a date too far off to be represented stays far off.
func readDate(dec *jsontext.Decoder) (time.Time, error) {
	v, err := dec.ReadValue()
	if err != nil {
		return time.Time{}, err
	}
	if v.Kind() != '0' {
		return time.Time{}, errType
	}
	if seconds, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return time.Unix(min(max(seconds, -1), maxNumericDate+1), 0), nil
	}
	seconds, _ := strconv.ParseFloat(string(v), 64) // ±Inf out of range
	return time.Unix(int64(min(max(seconds, -1), maxNumericDate+1)), 0), nil
}

// readAudience reports whether the audience is among aud, which is a string or
// a list of strings.
func (rules *Rules) readAudience(dec *jsontext.Decoder) (found bool, err error) {
	v, err := dec.ReadValue()
	if err != nil {
		return false, err
	}
	if v.Kind() == '"' {
		s, err := unquote(v)
		return string(s) == rules.Audience, err
	}
	var list []string
	if v.Kind() != '[' || json.Unmarshal(v, &list) != nil {
		return false, errType
	}
	return slices.Contains(list, rules.Audience), nil
}
