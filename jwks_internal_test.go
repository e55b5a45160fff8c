package descopehttp

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// All three algorithms are taken, each with keys of its own kind only.
func TestEachAlgorithm(t *testing.T) {
	const project = "P2abcdefghijklmnopqrstuvwxyz"
	b64 := base64.RawURLEncoding.EncodeToString
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	jwk := func(kid, alg, curve string, key *ecdsa.PrivateKey) string {
		point, err := key.PublicKey.Bytes()
		require.NoError(t, err)
		half := (len(point) - 1) / 2
		return fmt.Sprintf(`{"kty":"EC","kid":%q,"alg":%q,"crv":%q,"x":%q,"y":%q}`, kid, alg, curve, b64(point[1:1+half]), b64(point[1+half:]))
	}
	document := fmt.Sprintf(`{"keys":[%s,%s,{"kty":"RSA","kid":"RS256","alg":"RS256","n":%q,"e":"AQAB"}]}`,
		jwk("ES256", "ES256", "P-256", p256), jwk("ES384", "ES384", "P-384", p384), b64(key.N.Bytes()))
	a := authOver(t, answering(func(*http.Request) (string, time.Duration) { return document, 0 }))
	methods := map[string]struct {
		method jwt.SigningMethod
		key    any
	}{
		"RS256": {jwt.SigningMethodRS256, key}, "ES256": {jwt.SigningMethodES256, p256}, "ES384": {jwt.SigningMethodES384, p384},
	}
	for alg, m := range methods {
		for kid := range methods {
			signed := b64([]byte(`{"alg":"`+alg+`","kid":"`+kid+`"}`)) + "." + b64(fmt.Appendf(nil, `{"iss":%q,"sub":"U2ada","drn":"DS","exp":4102444800}`, project))
			signature, err := m.method.Sign(signed, m.key)
			require.NoError(t, err)
			_, err = a.VerifyToken(t.Context(), signed+"."+b64(signature))
			if alg == kid {
				assert.NoError(t, err, alg)
			} else {
				assert.ErrorIs(t, err, ErrInvalidToken, "%s under the key for %s", alg, kid)
			}
		}
	}
}
