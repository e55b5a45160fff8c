package descopehttp

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
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
	issuer      atomic.Pointer[string] // the last that passed: a project's tokens share one
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
	scope     scope

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
	// Small enough to be inlined: a token that the caller does not keep then
	// stays off the heap.
	return rules.parseInto(new(token), raw, drn)
}

func (rules *tokenRules) parseInto(t *token, raw, drn string) (*token, error) {
	if len(raw) > maxTokenSize {
		return nil, errTokenSize
	}
	header, payload, signature, ok := splitToken(raw)
	if !ok {
		return nil, errTokenParts
	}
	t.raw, t.signed = raw, raw[:len(raw)-len(signature)-1]
	var err error
	if t.header, err = rules.headers.decode(header); err != nil {
		return nil, err
	}
	if err := rules.decodeClaims(t, payload); err != nil {
		return nil, err
	}
	if err := rules.checkClaims(t, drn); err != nil {
		return nil, err
	}
	if t.signature, err = decodeSegment(signature); err != nil {
		return nil, errTokenParts
	}
	return t, nil
}

// tokenHash stands for a token in memory: what is kept longer than a request is
// not kept under the token itself.
type tokenHash [sha256.Size]byte

// hashOf hashes by way of the stack: converted, a string of this size would be copied
// to the heap.
func hashOf(token string) (hash tokenHash) {
	var buf [512]byte
	digest := sha256.New()
	for len(token) > 0 {
		n := copy(buf[:], token)
		digest.Write(buf[:n])
		token = token[n:]
	}
	digest.Sum(hash[:0])
	return hash
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
	if err := decodeObject(raw, h.read); err != nil {
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

func (rules *tokenRules) decodeClaims(t *token, segment string) error {
	raw, err := decodeSegment(segment)
	if err != nil {
		return errTokenParts
	}
	if err := decodeObject(raw, func(name []byte, dec *jsontext.Decoder) (bool, error) { return rules.readClaim(t, name, dec) }); err != nil {
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

func (h *header) read(name []byte, dec *jsontext.Decoder) (known bool, err error) {
	switch string(name) {
	case "alg":
		h.alg, err = readString(dec)
	case "kid":
		h.kid, err = readString(dec)
	case "crit":
		// No extension is understood here, so every list is refused (RFC 7515,
		// section 4.1.11).
		err = errTokenCrit
	default:
		return false, nil
	}
	return true, err
}

// claims holds the claims that are asked for again and again. The others are
// decoded from the payload when somebody asks, so that an odd JWT template closes
// a guard and does not sign a project out.
type claims struct {
	subject                     string
	userID                      string // dsub: the user where the template overrides sub
	expiry, notBefore, issuedAt time.Time
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
// decides about the token.
func (rules *tokenRules) readClaim(t *token, name []byte, dec *jsontext.Decoder) (known bool, err error) {
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
		t.scope.bound = true
		err = dec.SkipValue()
	default:
		return t.claims.read(name, dec)
	}
	return true, err
}

func (c *claims) read(name []byte, dec *jsontext.Decoder) (known bool, err error) {
	switch string(name) {
	case "sub":
		c.subject, err = readString(dec)
	case "dsub":
		c.userID, err = readOptionalString(dec)
	case "exp":
		if c.expiry, err = readDate(dec); err == nil && (c.expiry.Unix() <= 0 || c.expiry.Unix() > maxNumericDate) {
			err = errTokenExpiry
		}
	case "nbf":
		c.notBefore, err = readDate(dec)
	case "iat":
		c.issuedAt, err = readDate(dec)
	case "rexp": // decoded when asked for
		err = dec.SkipValue()
	default:
		return false, nil
	}
	return true, err
}

// user returns who the token is about. A project's template may put something
// else into sub; Descope then keeps the user's id in dsub.
func (c *claims) user() string {
	if c.userID != "" {
		return c.userID
	}
	return c.subject
}

func (rules *tokenRules) checkClaims(t *token, drn string) error {
	switch {
	case t.claims.expiry.IsZero():
		return errTokenExpiry
	case !t.scope.issuedHere:
		return errTokenIssuer
	case t.claims.subject == "":
		return errTokenSubject
	case t.scope.bound:
		return errTokenBound
	case t.scope.drn != drn && !rules.isOAuthAccess(&t.scope, drn):
		return errTokenKind
	case !rules.audienceFits(&t.scope, drn):
		return errTokenAudience
	}
	return nil
}

// readIssuer reports whether iss is a form that Descope gives it. The last that
// was is remembered, because a project's tokens share one.
func (rules *tokenRules) readIssuer(dec *jsontext.Decoder) (issuedHere bool, err error) {
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
	if !namesProject(issuer, rules.projectID) {
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

func (rules *tokenRules) isOAuthAccess(s *scope, drn string) bool {
	return rules.acceptOAuth && drn == sessionDRN && s.drn == "" && s.tokenType == "access_token"
}

// audienceFits holds session tokens to the configured audience. A refresh token
// goes to nobody but Descope and often has no audience; where it has one, it
// must be ours as well.
func (rules *tokenRules) audienceFits(s *scope, drn string) bool {
	return rules.audience == "" || s.forAudience || drn == refreshDRN && !s.hasAudience
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

// decodeObject reads one JSON object with nothing after it; see readMembers. It
// is a json.Unmarshal that lets what is decoded into stay off the heap.
func decodeObject(raw []byte, read memberReader) error {
	d := decoders.Get().(*objectDecoder)
	defer decoders.Put(d)
	d.input = *bytes.NewBuffer(raw)
	d.Reset(&d.input)
	err := readMembers(&d.Decoder, read)
	if err == nil {
		if _, end := d.ReadToken(); end != io.EOF {
			err = errNotObject
		}
	}
	d.input = bytes.Buffer{}
	d.Reset(&d.input) // lets go of raw
	return err
}

type objectDecoder struct {
	jsontext.Decoder
	input bytes.Buffer
}

var decoders = sync.Pool{New: func() any { return new(objectDecoder) }}

// A memberReader reads the value of a member if it knows its name.
type memberReader = func(name []byte, dec *jsontext.Decoder) (known bool, err error)

// readMembers reads one JSON object and has read take the values of the members
// it knows by name; the others are skipped. The decoder refuses duplicate names
// and invalid UTF-8. A name that read would know in lower case is refused here,
// because another reader of the same token might take it for that one.
func readMembers(dec *jsontext.Decoder, read memberReader) error {
	return eachMember(dec, func(quoted jsontext.Value) error {
		name, err := unquote(quoted)
		if err != nil {
			return err
		}
		if known, err := read(name, dec); known || err != nil {
			return err
		}
		if !isLower(name) {
			if known, _ := read(bytes.Map(foldRune, name), dec); known {
				return errTokenName
			}
		}
		return dec.SkipValue()
	})
}

// isLower reports whether name is its own fold: ASCII without capital letters,
// as all registered names are.
func isLower(name []byte) bool {
	for _, c := range name {
		if c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// foldRune returns the lower-case ASCII letter that [strings.EqualFold] takes for
// r, which need not be ASCII itself (a long s, the Kelvin sign), or else r.
func foldRune(r rune) rune {
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if 'a' <= f && f <= 'z' {
			return f
		}
	}
	return r
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

func readString(dec *jsontext.Decoder) (string, error) {
	v, err := dec.ReadValue()
	if err != nil {
		return "", err
	}
	return stringValue(v)
}

// readOptionalString takes a value of another type for none.
func readOptionalString(dec *jsontext.Decoder) (string, error) {
	if dec.PeekKind() != '"' {
		return "", dec.SkipValue()
	}
	return readString(dec)
}

// readDate reads a NumericDate (RFC 7519, section 2), which may have a fraction.
// It saturates: a date too far off to be represented stays far off.
func readDate(dec *jsontext.Decoder) (time.Time, error) {
	v, err := dec.ReadValue()
	if err != nil {
		return time.Time{}, err
	}
	if v.Kind() != '0' {
		return time.Time{}, errTokenType
	}
	if seconds, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return time.Unix(min(max(seconds, -1), maxNumericDate+1), 0), nil
	}
	seconds, _ := strconv.ParseFloat(string(v), 64) // ±Inf out of range
	return time.Unix(int64(min(max(seconds, -1), maxNumericDate+1)), 0), nil
}

// readAudience reports whether the audience is among aud, which is a string or
// a list of strings.
func (rules *tokenRules) readAudience(dec *jsontext.Decoder) (found bool, err error) {
	v, err := dec.ReadValue()
	if err != nil {
		return false, err
	}
	if v.Kind() == '"' {
		s, err := unquote(v)
		return string(s) == rules.audience, err
	}
	var list []string
	if v.Kind() != '[' || json.Unmarshal(v, &list) != nil {
		return false, errTokenType
	}
	return slices.Contains(list, rules.audience), nil
}
