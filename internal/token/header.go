package token

import (
	"maps"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// header holds what is read of a JOSE header. jwk, jku, x5u and x5c are never
// read: a token does not choose the key it is judged by (RFC 8725, section 3.10). typ is
// not read either: Descope gives session and refresh tokens the same, and drn, which is
// judged, tells them apart (RFC 8725, section 3.12).
type header struct {
	alg, kid string
	segment  string // as it came
	key      *Key   // that verified a token with this header; nil before
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
		err = errCrit
	default:
		return false, nil
	}
	return true, err
}

// decodeHeader judges a header by itself. The key of its kid may be for another
// algorithm; that is judged where the key is.
func decodeHeader(segment string) (*header, error) {
	raw, err := decodeSegment(segment)
	if err != nil {
		return nil, errParts
	}
	h := &header{segment: segment}
	if err := decodeObject(raw, h.read); err != nil {
		return nil, decodeFailure(err, errHeader)
	}
	// An allow-list, so that neither "none" nor an HMAC keyed with a public key
	// can come in (RFC 8725, section 3.1).
	if signingMethod(h.alg) == nil {
		return nil, errAlg
	}
	if h.kid == "" {
		return nil, errKid
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
// has verified, so nobody but Descope fills it. It is read on every check of a token that
// is not cached, so reading takes no lock: the map is replaced as a whole, and seldom.
type headerMemo struct {
	known atomic.Pointer[map[string]*header]
}

// maxKnownHeaders is far more than a project has keys. Beyond it the memo begins anew,
// which costs each header one decoding.
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
func (m *headerMemo) remember(h *header, key *Key) {
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
