package descopehttp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// Bounds on what a token may be.
const (
	maxTokenSize   = 16 << 10     // bytes; Descope's own stay below 4 KiB
	maxNumericDate = 253402300799 // 9999-12-31T23:59:59Z, the last that RFC 3339 can write
)

// The values of "drn" that tell Descope's tokens apart.
const (
	sessionDRN = "DS"
	refreshDRN = "DSR"
)

// What makes a token invalid. The texts are for logs and never quote the token.
// They are values, so that refusing a hostile token allocates nothing.
var (
	errTokenSize      = problemInvalidToken.because("token is larger than 16 KiB")
	errTokenParts     = problemInvalidToken.because("token is not three parts of base64url")
	errTokenHeader    = problemInvalidToken.because("header is not one JSON object with unique names")
	errTokenAlg       = problemInvalidToken.because("alg is not one of RS256, ES256 and ES384")
	errTokenKid       = problemInvalidToken.because("kid is not a non-empty string")
	errTokenCrit      = problemInvalidToken.because("header has crit")
	errTokenClaims    = problemInvalidToken.because("claims are not one JSON object with unique names")
	errTokenName      = problemInvalidToken.because("a name differs from a registered one only by case")
	errTokenType      = problemInvalidToken.because("a claim has the wrong type")
	errTokenExpiry    = problemInvalidToken.because("exp is missing or out of range")
	errTokenIssuer    = problemInvalidToken.because("iss is not this project")
	errTokenSubject   = problemInvalidToken.because("sub is missing or empty")
	errTokenKind      = problemInvalidToken.because("drn is another kind of token's")
	errTokenAudience  = problemInvalidToken.because("aud does not hold the audience")
	errTokenBound     = problemInvalidToken.because("token is bound to a key (cnf), which a plain bearer cannot prove")
	errTokenNotYet    = problemInvalidToken.because("token is not valid yet")
	errTokenSignature = problemInvalidToken.because("signature does not verify")
	errTokenKeyAlg    = problemInvalidToken.because("alg is not the key's")
	errTokenExpired   = problemSessionExpired.because("token has expired")
)

// tokenRules are the parts of Config that decide about tokens.
type tokenRules struct {
	projectID   string
	audience    string
	acceptOAuth bool
	leeway      time.Duration
	headers     *headerMemo
}

// A token is a compact JWS (RFC 7515, section 7.1) that parse took apart. Until
// keySet.verify has passed it, it is nothing but a client's claim.
type token struct {
	raw       string
	signed    string // header and payload, what the signature covers
	signature []byte
	header    *header
	payload   jsontext.Value
	claims    claims

	// unverified: a refresh token whose key was never held here, so that only
	// Descope can tell whether it is genuine.
	unverified bool
}

// parse checks all of a token that needs neither a key nor the clock, the cheap
// before the expensive. drn says whether a session token or a refresh token is
// expected: one must never pass for the other.
//
// golang-jwt's parser is not used for this: it skips line breaks, takes "crit"
// and duplicate names, accepts exp as a string, and asks for the key before it
// has looked at the claims.
func (rules *tokenRules) parse(raw, drn string) (*token, error) {
	if len(raw) > maxTokenSize {
		return nil, errTokenSize
	}
	header, payload, signature, ok := splitToken(raw)
	if !ok {
		return nil, errTokenParts
	}
	t := &token{raw: raw, signed: raw[:len(raw)-len(signature)-1]}
	var err error
	if t.header, err = rules.headers.decode(header); err != nil {
		return nil, err
	}
	if err := t.decodeClaims(payload); err != nil {
		return nil, err
	}
	if err := rules.checkClaims(&t.claims, drn); err != nil {
		return nil, err
	}
	if t.signature, err = decodeSegment(signature); err != nil {
		return nil, errTokenParts
	}
	return t, nil
}

// splitToken takes a token apart. Line breaks are refused here: Go's base64
// decoders skip CR and LF even in strict mode, so that one token would have many
// spellings. All else outside of the alphabet they refuse themselves.
func splitToken(raw string) (header, payload, signature string, ok bool) {
	if strings.IndexByte(raw, '\r') >= 0 || strings.IndexByte(raw, '\n') >= 0 {
		return "", "", "", false
	}
	header, rest, _ := strings.Cut(raw, ".")
	payload, signature, ok = strings.Cut(rest, ".")
	return header, payload, signature, ok
}

// Strict: with non-zero trailing bits, too, one token would have two spellings.
var decodeSegment = base64.RawURLEncoding.Strict().DecodeString

func decodeHeader(segment string) (*header, error) {
	raw, err := decodeSegment(segment)
	if err != nil {
		return nil, errTokenParts
	}
	h := &header{segment: segment}
	if err := json.Unmarshal(raw, h); err != nil {
		return nil, decodeFailure(err, errTokenHeader)
	}
	// An allow-list, so that neither "none" nor an HMAC keyed with a public key
	// can come in (RFC 8725, section 3.1).
	if signingMethod(h.alg) == nil {
		return nil, errTokenAlg
	}
	if h.kid == "" {
		return nil, errTokenKid
	}
	return h, nil
}

// signingMethod returns golang-jwt's method for an algorithm that is allowed.
func signingMethod(alg string) jwt.SigningMethod {
	switch alg {
	case "RS256":
		return jwt.SigningMethodRS256
	case "ES256":
		return jwt.SigningMethodES256
	case "ES384":
		return jwt.SigningMethodES384
	}
	return nil
}

// A headerMemo remembers decoded headers by their text, because a project's
// tokens share one for each key. A header goes in only after a signature over it
// has verified, so nobody but Descope fills it.
type headerMemo struct {
	known atomic.Pointer[map[string]*header]
}

const maxKnownHeaders = 32

func (m *headerMemo) decode(segment string) (*header, error) {
	if known := m.known.Load(); known != nil {
		if h := (*known)[segment]; h != nil {
			return h, nil
		}
	}
	return decodeHeader(segment)
}

// remember adds a header of a token that has verified with key. Two that race
// may lose one of their headers, which costs a decoding.
func (m *headerMemo) remember(h *header, key *heldKey) {
	if h.key == key {
		return
	}
	next := make(map[string]*header)
	if known := m.known.Load(); known != nil && len(*known) < maxKnownHeaders {
		maps.Copy(next, *known)
	}
	// A copy, because h's strings may share the memory of a whole request.
	segment := strings.Clone(h.segment)
	next[segment] = &header{segment: segment, alg: h.alg, kid: h.kid, key: key}
	m.known.Store(&next)
}

func (t *token) decodeClaims(segment string) error {
	raw, err := decodeSegment(segment)
	if err != nil {
		return errTokenParts
	}
	if err := json.Unmarshal(raw, &t.claims); err != nil {
		return decodeFailure(err, errTokenClaims)
	}
	t.payload = raw
	return nil
}

// decodeFailure returns our own failure if the decoder passes one on, and
// otherwise the given one: the decoder's texts quote the token.
func decodeFailure(err error, other *failure) error {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return other
}

// header holds what is read of a JOSE header. jwk, jku, x5u and x5c are never
// read: a token does not choose the key it is judged by (RFC 8725, section 3.10).
type header struct {
	alg, kid string
	segment  string   // as it came
	key      *heldKey // that verified a token with this header; nil before
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (h *header) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return readMembers(dec, headerNames, func(name string, value jsontext.Value) (err error) {
		switch name {
		case "alg":
			h.alg, err = stringValue(value)
		case "kid":
			h.kid, err = stringValue(value)
		case "crit":
			// No extension is understood here, so every list is refused
			// (RFC 7515, section 4.1.11).
			return errTokenCrit
		}
		return err
	})
}

var headerNames = newNames("alg", "kid", "crit")

// claims holds the claims that decide about a token. The others are decoded
// from the payload when somebody asks, so that an odd JWT template closes a
// guard and does not sign a project out.
type claims struct {
	issuer, subject, drn string
	userID               string // dsub: the user where the template overrides sub
	tokenType            string
	audience             []string
	hasAudience          bool
	bound                bool // cnf is there, whatever it holds
	expiry               time.Time
	notBefore, issuedAt  time.Time
	refreshExpiry        time.Time // rexp
}

var claimNames = newNames("iss", "sub", "drn", "dsub", "token_type", "aud", "cnf", "exp", "nbf", "iat", "rexp")

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (c *claims) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return readMembers(dec, claimNames, c.set)
}

func (c *claims) set(name string, value jsontext.Value) (err error) {
	switch name {
	case "iss":
		c.issuer, err = stringValue(value)
	case "sub":
		c.subject, err = stringValue(value)
	case "drn":
		c.drn, err = stringValue(value)
	case "dsub":
		c.userID, _ = stringValue(value)
	case "token_type":
		c.tokenType, _ = stringValue(value)
	case "aud":
		c.hasAudience = true
		c.audience, err = audienceValue(value)
	case "cnf":
		c.bound = true
	case "exp":
		if c.expiry, err = dateValue(value); err == nil && (c.expiry.Unix() <= 0 || c.expiry.Unix() > maxNumericDate) {
			err = errTokenExpiry
		}
	case "nbf":
		c.notBefore, err = dateValue(value)
	case "iat":
		c.issuedAt, err = dateValue(value)
	case "rexp":
		if s, err := stringValue(value); err == nil {
			c.refreshExpiry, _ = time.Parse(time.RFC3339, s)
		}
	}
	return err
}

// user returns who the token is about. A project's template may put something
// else into sub; Descope then keeps the user's id in dsub.
func (c *claims) user() string {
	if c.userID != "" {
		return c.userID
	}
	return c.subject
}

func (rules *tokenRules) checkClaims(c *claims, drn string) error {
	switch {
	case c.expiry.IsZero():
		return errTokenExpiry
	case !rules.issuedHere(c.issuer):
		return errTokenIssuer
	case c.subject == "":
		return errTokenSubject
	case c.bound:
		return errTokenBound
	case c.drn != drn && !rules.isOAuthAccess(c, drn):
		return errTokenKind
	case !rules.audienceFits(c, drn):
		return errTokenAudience
	}
	return nil
}

// issuedHere accepts the forms that Descope gives iss: the project id, or a URL
// on any of its hosts with the id as the last path segment or the one before,
// where a tenant's or an application's id follows. The host proves nothing; the
// signature by the project's key does.
func (rules *tokenRules) issuedHere(issuer string) bool {
	if issuer == rules.projectID {
		return true
	}
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return false
	}
	segments := strings.Split(u.Path, "/")
	n := len(segments)
	return segments[n-1] == rules.projectID || n >= 2 && segments[n-2] == rules.projectID
}

func (rules *tokenRules) isOAuthAccess(c *claims, drn string) bool {
	return rules.acceptOAuth && drn == sessionDRN && c.drn == "" && c.tokenType == "access_token"
}

// audienceFits holds session tokens to the configured audience. A refresh token
// goes to nobody but Descope and often has no audience; where it has one, it
// must be ours as well.
func (rules *tokenRules) audienceFits(c *claims, drn string) bool {
	if rules.audience == "" || drn == refreshDRN && !c.hasAudience {
		return true
	}
	for _, audience := range c.audience {
		if audience == rules.audience {
			return true
		}
	}
	return false
}

// checkTime judges exp and nbf, the only claims whose verdict changes while the
// token stays the same. iat is not compared with the clock: RFC 7519 gives it no
// such meaning.
func (rules *tokenRules) checkTime(c *claims, now time.Time) error {
	if !now.Before(c.expiry.Add(rules.leeway)) {
		return errTokenExpired
	}
	if now.Add(rules.leeway).Before(c.notBefore) {
		return errTokenNotYet
	}
	return nil
}

// verifySignature checks the signature with a key that keyfunc found.
func (t *token) verifySignature(key any) error {
	if err := signingMethod(t.header.alg).Verify(t.signed, t.signature, key); err != nil {
		return errTokenSignature
	}
	return nil
}

// readMembers reads one JSON object and calls set for each member with a name
// among names. The decoder refuses duplicate names and invalid UTF-8; a name
// that equals one of names but for its case is refused here, because another
// reader of the same token might take it for that one.
func readMembers(dec *jsontext.Decoder, names names, set func(name string, value jsontext.Value) error) error {
	return eachMember(dec, func(quoted jsontext.Value) error {
		name, err := matchName(quoted, names)
		if err != nil {
			return err
		}
		if name == "" {
			return dec.SkipValue()
		}
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		return set(name, value)
	})
}

// eachMember reads one JSON object. visit is given the quoted name of each
// member, valid until it reads on, and must read the member's value.
func eachMember(dec *jsontext.Decoder, visit func(quoted jsontext.Value) error) error {
	if start, err := dec.ReadToken(); err != nil || start.Kind() != '{' {
		return errNotObject
	}
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := visit(quoted); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

var errNotObject = errors.New("not a JSON object")

// names are the registered names of an object.
type names []registeredName

type registeredName struct {
	name  string
	bytes []byte
}

func newNames(list ...string) names {
	var n names
	for _, name := range list {
		n = append(n, registeredName{name, []byte(name)})
	}
	return n
}

// matchName returns the one of names that the quoted name spells, or "".
func matchName(quoted jsontext.Value, names names) (string, error) {
	unquoted, err := unquote(quoted)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if string(unquoted) == n.name {
			return n.name, nil
		}
	}
	for _, n := range names {
		// Of other length only if it has letters beyond ASCII, such as a long s.
		if (len(unquoted) == len(n.name) || !isASCII(unquoted)) && bytes.EqualFold(unquoted, n.bytes) {
			return "", errTokenName
		}
	}
	return "", nil
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// unquote returns the text of a JSON string, without a copy where nothing in it
// is escaped.
func unquote(v jsontext.Value) ([]byte, error) {
	if v.Kind() != '"' {
		return nil, errTokenType
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	s, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return nil, errTokenType
	}
	return s, nil
}

func stringValue(v jsontext.Value) (string, error) {
	s, err := unquote(v)
	return string(s), err
}

// dateValue reads a NumericDate (RFC 7519, section 2), which may have a
// fraction. It saturates: a date too far off to be represented stays far off.
func dateValue(v jsontext.Value) (time.Time, error) {
	if v.Kind() != '0' {
		return time.Time{}, errTokenType
	}
	seconds, _ := strconv.ParseFloat(string(v), 64) // ±Inf out of range
	return time.Unix(int64(min(max(seconds, -1), maxNumericDate+1)), 0), nil
}

func audienceValue(v jsontext.Value) ([]string, error) {
	if v.Kind() == '"' {
		s, err := stringValue(v)
		return []string{s}, err
	}
	var list []string
	if v.Kind() != '[' || json.Unmarshal(v, &list) != nil {
		return nil, errTokenType
	}
	return list, nil
}
