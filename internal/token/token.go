// Package token judges tokens of a project by what is in them.
//
// [Rules.Parse] takes a token apart and checks all that needs neither a key nor the
// clock; [Rules.CheckTime] checks what changes while the token stays the same;
// [Token.Verify] checks the signature with a [Key], which [ParseKeySet] made of a key
// set. What has passed all three is a [Verified]. The package knows neither where a
// token came from nor where keys do, and keeps nothing but the headers of tokens that
// have verified. header.go, claims.go and json.go have the rules of their part of a token,
// key.go those of keys, errors.go a reason for each.
//
// Every rule here closes something. One may be made stricter; to make one laxer is to
// change who gets in. A token is hostile until its signature has verified, so all of
// this is done in bounded time and memory, and no error quotes any of it.
package token

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds on what a token may be.
const (
	// MaxSize is how many bytes of a token are looked at; Descope's own stay below
	// 4 KiB, and a header of all cookies below 1 MiB.
	MaxSize        = 16 << 10
	maxNumericDate = 253402300799 // 9999-12-31T23:59:59Z, the last that RFC 3339 can write
)

// The values of "drn" that tell Descope's session tokens and refresh tokens apart.
const (
	SessionDRN = "DS"
	RefreshDRN = "DSR"
)

// Names are other values of "drn" that tell the two apart: in a project that names its
// cookies, tokens go by those names. No name may be on both lists, and neither SessionDRN
// nor RefreshDRN may be on the other's.
type Names struct{ Session, Refresh []string }

// Kind returns SessionDRN, RefreshDRN or "" for a "drn".
func (n *Names) Kind(drn string) string {
	switch {
	case drn == SessionDRN, drn == RefreshDRN:
		return drn
	case slices.Contains(n.Session, drn):
		return SessionDRN
	case slices.Contains(n.Refresh, drn):
		return RefreshDRN
	}
	return ""
}

// Rules decide about the tokens of one project. They are safe for concurrent use, and
// must not be copied or changed once in use.
type Rules struct {
	ProjectID   string
	Audience    string        // "": not asked for
	AcceptOAuth bool          // access tokens of applications count as session tokens
	Leeway      time.Duration // that the clock of this machine may be off
	Names       Names

	headers headerMemo
	issuer  atomic.Pointer[string] // the last that passed: a project's tokens share one
}

// A Token is a compact JWS (RFC 7515, section 7.1) that was taken apart. Until Verify
// has passed it, it is nothing but a client's claim.
type Token struct {
	Raw    string // the whole of it; a credential
	Claims Claims // what it says; to be believed when Verify has passed it

	// Unverified: a refresh token whose key was never held here, so that only
	// Descope can tell whether it is genuine.
	Unverified bool

	signed    string // header and payload, what the signature covers
	signature []byte
	header    *header
	payload   jsontext.Value
	scope     scope
}

// Verified is what lasts of a session token that has passed all checks: what it says
// and the key that signed it, without the token itself.
type Verified struct {
	Claims  Claims
	Payload jsontext.Value // all claims, as one JSON object
	Key     *Key
}

// Parse checks all of a token that needs neither a key nor the clock, the cheap
// before the expensive. drn, SessionDRN or RefreshDRN, says whether a session token or a refresh token is
// expected: one must never pass for the other.
//
// golang-jwt's parser is not used for this: it skips line breaks, takes "crit"
// and duplicate names, accepts exp as a string, and asks for the key before it
// has looked at the claims.
func (rules *Rules) Parse(raw, drn string) (*Token, error) {
	// Small enough to be inlined: a token that the caller does not keep then
	// stays off the heap.
	return rules.parseInto(new(Token), raw, drn)
}

func (rules *Rules) parseInto(t *Token, raw, drn string) (*Token, error) {
	if len(raw) > MaxSize {
		return nil, ErrSize
	}
	header, payload, signature, ok := splitToken(raw)
	if !ok {
		return nil, errParts
	}
	t.Raw, t.signed = raw, raw[:len(raw)-len(signature)-1]
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
	// Last, because it allocates and is worth nothing before a key is found.
	if t.signature, err = decodeSegment(signature); err != nil {
		return nil, errParts
	}
	return t, nil
}

// Alg returns the algorithm that the header names, one of those allowed.
func (t *Token) Alg() string { return t.header.alg }

// KID returns the id of the key that the header names. Whoever made the token chose it.
func (t *Token) KID() string { return t.header.kid }

// KnownKey returns the key that has verified a token with the same header, or nil. The
// key may have left the key set since.
func (t *Token) KnownKey() *Key { return t.header.key }

// Verify checks the signature with a key. The error is ErrSignature or, where the key
// is for another algorithm than the header names, ErrKeyAlg (RFC 8725, section 3.1).
func (t *Token) Verify(key *Key) error {
	if key.Alg != t.header.alg {
		return ErrKeyAlg
	}
	if err := signingMethod(t.header.alg).Verify(t.signed, t.signature, key.Public); err != nil {
		return ErrSignature
	}
	return nil
}

// Remember notes that t has verified with key, so that the next token with the same
// header is decoded faster.
func (rules *Rules) Remember(t *Token, key *Key) { rules.headers.remember(t.header, key) }

// Verified returns what lasts of t, which Verify must have passed with key.
func (t *Token) Verified(key *Key) Verified {
	return Verified{Claims: t.Claims, Payload: t.payload, Key: key}
}

// DropPayload forgets all claims but those in t.Claims, for tokens that are kept.
func (t *Token) DropPayload() { t.payload = nil }

// A Hash stands for a token in memory: what is kept longer than a request is
// not kept under the token itself.
type Hash [sha256.Size]byte

// HashOf returns the SHA-256 of a token. It hashes by way of the stack: converted, a string of this size would be copied
// to the heap.
func HashOf(token string) (hash Hash) {
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

// checkClaims judges claims that were read, in the order of what an operator would look
// for first. Whether the token has expired is not among it: that is for CheckTime.
func (rules *Rules) checkClaims(t *Token, drn string) error {
	switch {
	case t.Claims.Expiry.IsZero():
		return errExpiry
	case !t.scope.issuedHere:
		return errIssuer
	case t.Claims.Subject == "":
		return errSubject
	case t.scope.bound:
		return errBound
	case rules.Names.Kind(t.scope.drn) != drn && !rules.isOAuthAccess(&t.scope, drn):
		return errKind
	case !rules.audienceFits(&t.scope, drn):
		return errAudience
	}
	return nil
}

// isOAuthAccess tells an access token for an application from an ID token, which has no
// drn either and is for the client alone (RFC 9068; OpenID Connect Core, section 2).
func (rules *Rules) isOAuthAccess(s *scope, drn string) bool {
	return rules.AcceptOAuth && drn == SessionDRN && s.drn == "" && s.tokenType == "access_token"
}

// audienceFits holds session tokens to the configured audience. A refresh token
// goes to nobody but Descope and often has no audience; where it has one, it
// must be ours as well.
func (rules *Rules) audienceFits(s *scope, drn string) bool {
	return rules.Audience == "" || s.forAudience || drn == RefreshDRN && !s.hasAudience
}

// CheckTime returns nil, ErrExpired or the error of a token that is not valid yet. It
// judges exp and nbf, the only claims whose verdict changes while the
// token stays the same. iat is not compared with the clock: RFC 7519 gives it no
// such meaning.
func (rules *Rules) CheckTime(c *Claims, now time.Time) error {
	if !now.Before(c.Expiry.Add(rules.Leeway)) {
		return ErrExpired
	}
	if now.Add(rules.Leeway).Before(c.NotBefore) {
		return errNotYet
	}
	return nil
}

// LeewayOf returns the leeway that a setting stands for: 0 is the default, -1 none.
func LeewayOf(d time.Duration) time.Duration {
	const usual = 5 * time.Second
	switch d {
	case 0:
		return usual
	case -1:
		return 0
	}
	return d
}
