package descopehttp

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The kind and strength of a key are those that its alg asks for, to the bit.
func TestKeyStrength(t *testing.T) {
	rsaKey := func(bits uint, e int) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}
	}
	ec := func(curve elliptic.Curve) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: curve} }
	for _, tt := range []struct {
		key any
		alg string
		ok  bool
	}{
		{rsaKey(2048, 65537), "RS256", true},
		{rsaKey(2047, 65537), "RS256", false},
		{rsaKey(8192, 65537), "RS256", true},
		{rsaKey(8193, 65537), "RS256", false},
		{rsaKey(2048, 3), "RS256", true},
		{rsaKey(2048, 2), "RS256", false},
		{rsaKey(2048, 1), "RS256", false},
		{rsaKey(2048, 65537), "RS512", false},
		{rsaKey(2048, 65537), "PS256", false},
		{rsaKey(2048, 65537), "ES256", false},
		{rsaKey(2048, 65537), "", false},
		{ec(elliptic.P256()), "ES256", true},
		{ec(elliptic.P256()), "ES384", false},
		{ec(elliptic.P256()), "RS256", false},
		{ec(elliptic.P384()), "ES384", true},
		{ec(elliptic.P384()), "ES256", false},
		{ec(elliptic.P521()), "ES512", false},
		{ec(elliptic.P224()), "ES256", false},
		{ed25519.PublicKey(make([]byte, 32)), "EdDSA", false},
		{[]byte("secret"), "HS256", false},
		{[]byte("secret"), "RS256", false},
		{nil, "RS256", false},
	} {
		assert.Equal(t, tt.ok, keyFits(tt.key, tt.alg), "%T for %s", tt.key, tt.alg)
	}
}

// A key is found by its kid, so one without is of no use, and takes no part.
func TestKeyWithoutKid(t *testing.T) {
	const key = `{"alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
	assert.NotNil(t, parseKey([]byte(key+`,"kid":"a"}`)))
	for _, rest := range []string{`}`, `,"kid":""}`, `,"kid":null}`, `,"kid":7}`, `,"KID":"a"}`} {
		assert.Nil(t, parseKey([]byte(key+rest)), rest)
	}
}

// A document that was cut off is none: half a key set would revoke the other half.
func TestCutKeySet(t *testing.T) {
	const key = `{"alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"`
	whole := `{"keys":[` + key + `a"},` + key + `b"}]}`
	assert.Len(t, parseKeySet([]byte(whole)), 2)
	for i := range whole {
		assert.Empty(t, parseKeySet([]byte(whole[:i])), "%d bytes", i)
	}
	assert.Empty(t, parseKeySet([]byte(whole+"{}")))
}
