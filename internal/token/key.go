package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds on keys.
const (
	maxKeys        = 100 // looked at of one key set
	maxNamedKeys   = 10  // of those that are skipped
	minRSABits     = 2048
	maxRSABits     = 8192 // larger ones are slow to verify with
	minRSAExponent = 3
)

// A Key stands for one key material under one kid. It is never changed, and whoever
// keeps keys sees to it that the same material stays the same Key, so that pointers
// can be compared.
type Key struct {
	KID    string
	Alg    string // the only one that it is for (RFC 8725, section 3.1)
	Public any    // *rsa.PublicKey or *ecdsa.PublicKey
	JWK    jwkset.JWK
}

// ParseKeySet decodes a JWK Set (RFC 7517, section 5) key by key. What it cannot
// use, it skips: one odd key must not take the others along, as it would with
// jwkset's own decoder.
func ParseKeySet(body []byte) map[string]*Key {
	keys, _ := ReadKeySet(body)
	return keys
}

// ReadKeySet is ParseKeySet, and says of the keys that it skips which they are and why, for
// an operator: of a few, counted from 1, and nothing of what is in them.
func ReadKeySet(body []byte) (keys map[string]*Key, skipped []string) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	// A key with duplicate names is refused alone, below: which of the two counts is
	// nobody's to guess, but it says nothing about its neighbours.
	lenient := json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if json.Unmarshal(body, &set, lenient) != nil {
		return nil, nil
	}
	skip := func(i int, reason string) {
		if len(skipped) < maxNamedKeys {
			skipped = append(skipped, fmt.Sprintf("%d: %s", i+1, reason))
		}
	}
	keys = make(map[string]*Key)
	ambiguous := make(map[string]bool) // kids of two different keys: neither can be chosen
	// Bounded, because each is decoded: a project has two or three.
	for i, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		key, reason := parseKey(raw)
		if reason != "" {
			skip(i, reason)
			continue
		}
		if other := keys[key.KID]; other != nil && !other.Same(key) {
			ambiguous[key.KID] = true
			skip(i, "another key has the same kid")
		}
		keys[key.KID] = key
	}
	if len(set.Keys) > maxKeys {
		skip(maxKeys, "there are too many keys")
	}
	maps.DeleteFunc(keys, func(kid string, _ *Key) bool { return ambiguous[kid] })
	return keys, skipped
}

// onlyAlg is by kty and crv.
var onlyAlg = map[string]string{"RSA": "RS256", "ECP-256": "ES256", "ECP-384": "ES384"}

// parseKey decodes one JWK that is meant for verifying signatures. Of one that cannot be used
// it returns the reason alone. use and key_ops are heeded where they are there (RFC 7517,
// sections 4.2 and 4.3). Without alg a key is for the one algorithm that its kind and size
// allow: a key that is good for several would let the token choose.
// Only the members named here reach jwkset: given an x5u, it would fetch that URL.
func parseKey(raw jsontext.Value) (key *Key, reason string) {
	var k struct {
		KTY    string   `json:"kty"`
		KID    string   `json:"kid"`
		ALG    string   `json:"alg"`
		USE    string   `json:"use"`
		KeyOps []string `json:"key_ops"`
		N      string   `json:"n"`
		E      string   `json:"e"`
		CRV    string   `json:"crv"`
		X      string   `json:"x"`
		Y      string   `json:"y"`
	}
	switch {
	case json.Unmarshal(raw, &k) != nil:
		return nil, "it is no JWK"
	case k.KID == "":
		return nil, "it has no kid"
	}
	if k.USE != "" && k.USE != "sig" || k.KeyOps != nil && !slices.Contains(k.KeyOps, "verify") {
		return nil, "it is not for verifying signatures"
	}
	if k.ALG == "" {
		k.ALG = onlyAlg[k.KTY+k.CRV]
	}
	jwk, err := jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{
		KTY: jwkset.KTY(k.KTY), KID: k.KID, ALG: jwkset.ALG(k.ALG),
		N: k.N, E: k.E, CRV: jwkset.CRV(k.CRV), X: k.X, Y: k.Y,
	}, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil { // its text may quote the key
		return nil, "it does not decode, or is of an unknown kind"
	}
	if !keyFits(jwk.Key(), k.ALG) {
		return nil, "its kind, size and alg are none of RS256 from 2048 bits, ES256 and ES384"
	}
	return &Key{KID: k.KID, Alg: k.ALG, Public: jwk.Key(), JWK: jwk}, ""
}

// keyFits reports whether the key is of the kind and strength that alg asks for
// (RFC 7518, sections 3.3 and 3.4).
func keyFits(key any, alg string) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		// Of RSA only PKCS #1 v1.5 with SHA-256, which is what Descope signs with. A small
		// exponent makes forgeries of sloppy verifiers; 1 makes them of all.
		return alg == "RS256" && minRSABits <= bits && bits <= maxRSABits && key.E >= minRSAExponent
	case *ecdsa.PublicKey:
		// That the point is on the curve was checked when the JWK was decoded.
		bits := key.Curve.Params().BitSize
		return alg == "ES256" && bits == 256 || alg == "ES384" && bits == 384
	}
	return false
}

// Same reports whether both are one key material for one algorithm.
func (k *Key) Same(other *Key) bool {
	key, ok := k.Public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(other.Public) && k.Alg == other.Alg
}
