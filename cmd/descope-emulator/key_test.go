package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

func encode(t *testing.T, blockType string, der []byte, err error) []byte {
	t.Helper()
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encode(t, "PRIVATE KEY", der, err)
}

func sec1(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	return encode(t, "EC PRIVATE KEY", der, err)
}

func newRSA(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return key
}

func newEC(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

// A token that a test signs with its own key is one that the project vouches
// for, and the project signs with that key as well.
func TestKey(t *testing.T) {
	rsaKey, ecKey := newRSA(t, 2048), newEC(t, elliptic.P256())
	parameters := encode(t, "EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}, nil)
	tests := map[string]struct {
		file   []byte
		key    crypto.Signer
		method jwt.SigningMethod
		args   []string
	}{
		"RSA PKCS#1":       {encode(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil), rsaKey, jwt.SigningMethodRS256, nil},
		"RSA PKCS#8":       {pkcs8(t, rsaKey), rsaKey, jwt.SigningMethodRS256, []string{"-alg", "RS256"}},
		"EC SEC 1":         {sec1(t, ecKey), ecKey, jwt.SigningMethodES256, nil},
		"EC PKCS#8":        {pkcs8(t, ecKey), ecKey, jwt.SigningMethodES256, []string{"-alg", "ES256"}},
		"after parameters": {append(parameters, sec1(t, ecKey)...), ecKey, jwt.SigningMethodES256, nil},
		"after a text":     {append([]byte("my key\n"), pkcs8(t, ecKey)...), ecKey, jwt.SigningMethodES256, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := start(t, append([]string{"-code-reuse", "-key", writeFile(t, test.file), "-kid", "mine"}, test.args...)...)
			in := p.signIn(t, ann)
			header, claims := kittest.Parts(t, in.body["sessionJwt"])
			assert.Equal(t, "mine", header["kid"])
			assert.Equal(t, test.method.Alg(), header["alg"])

			token := jwt.NewWithClaims(test.method, jwt.MapClaims(claims))
			token.Header["kid"] = "mine"
			token.Claims.(jwt.MapClaims)["roles"] = []string{"of my choice"}
			signed, err := token.SignedString(test.key)
			require.NoError(t, err)
			r := p.post(t, "/v1/auth/validate", signed, "{}")
			assert.Equal(t, http.StatusOK, r.StatusCode, r.raw)
			assert.Equal(t, []any{"of my choice"}, r.body["roles"])

			p.control(t, http.MethodPost, "rotate-keys", "")
			header, _ = kittest.Parts(t, p.signIn(t, ann).body["sessionJwt"])
			assert.Equal(t, test.method.Alg(), header["alg"], "the keys that follow are of the same kind")
			assert.NotEqual(t, "mine", header["kid"])
		})
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(ed.Public())
	require.NoError(t, err)
	ec := newEC(t, elliptic.P256())
	small := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(newRSA(t, 1024))})
	tests := map[string]struct {
		file []byte
		args []string
		want string
	}{
		"nothing":      {nil, nil, "no PEM private key"},
		"no PEM":       {[]byte("hello"), nil, "no PEM private key"},
		"public key":   {encode(t, "PUBLIC KEY", public, nil), nil, "no PEM private key"},
		"P-384":        {pkcs8(t, newEC(t, elliptic.P384())), nil, "neither"},
		"Ed25519":      {pkcs8(t, ed), nil, "neither"},
		"short RSA":    {small, nil, "1024 bits"},
		"garbage":      {encode(t, "PRIVATE KEY", []byte("garbage"), nil), nil, "-key: "},
		"wrong form":   {bytes.Replace(sec1(t, ec), []byte("EC PRIVATE"), []byte("RSA PRIVATE"), 2), nil, "-key: "},
		"encrypted":    {encode(t, "ENCRYPTED PRIVATE KEY", []byte{1}, nil), nil, "encrypted"},
		"encrypted, 1": {[]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), nil, "encrypted"},
		"other alg":    {pkcs8(t, ec), []string{"-alg", "RS256"}, "-alg"},
		"far too long": {append(bytes.Repeat([]byte("x"), maxKeyFile), pkcs8(t, ec)...), nil, "no PEM private key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append([]string{"-addr", "127.0.0.1:0", "-key", writeFile(t, test.file), "-kid", "mine"}, test.args...)
			assert.Equal(t, exitUsage, run(t.Context(), args, &stdout, &stderr))
			assert.Empty(t, stdout.String())
			assert.Contains(t, stderr.String(), test.want)
		})
	}
	t.Run("folder", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, exitUsage, run(t.Context(), []string{"-key", t.TempDir(), "-kid", "mine"}, &stdout, &stderr))
	})
}
