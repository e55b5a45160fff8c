package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Rule: keys: against a key set with a weak or odd key (1,024 bits, exponent 1, off the curve,
// for encryption, two keys under one kid): each key is judged alone and skipped.
// Rule: keys: a key needs a `kid`, and an `alg` that fits its kind, curve and strength.
// Rule: keys: RSA at most 8,192 bits, exponent at least 3.
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

// Rule: keys: a key needs a `kid`, and an `alg` that fits its kind, curve and strength.
func TestKeyWithoutKid(t *testing.T) {
	const key = `{"alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
	_, reason := parseKey([]byte(key + `,"kid":"a"}`))
	assert.Empty(t, reason)
	for _, rest := range []string{`}`, `,"kid":""}`, `,"kid":null}`, `,"kid":7}`, `,"KID":"a"}`} {
		_, reason := parseKey([]byte(key + rest))
		assert.NotEmpty(t, reason, rest)
	}
}

func TestCutKeySet(t *testing.T) {
	const key = `{"alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"`
	whole := `{"keys":[` + key + `a"},` + key + `b"}]}`
	assert.Len(t, ParseKeySet([]byte(whole)), 2)
	for i := range whole {
		assert.Empty(t, ParseKeySet([]byte(whole[:i])), "%d bytes", i)
	}
	assert.Empty(t, ParseKeySet([]byte(whole+"{}")))
}

// Rule: keys: against a key set with a weak or odd key (1,024 bits, exponent 1, off the curve,
// for encryption, two keys under one kid): each key is judged alone and skipped.
func FuzzKeySet(f *testing.F) {
	var vectors []jwsVector
	readVectors(f, "rs256-es256.json", &vectors)
	seen := make(map[string]bool)
	for _, v := range vectors {
		if !seen[string(v.Keys)] {
			seen[string(v.Keys)] = true
			f.Add([]byte(v.Keys))
		}
	}
	var file struct {
		Groups []struct {
			Public  json.RawMessage `json:"public"`
			Private json.RawMessage `json:"private"`
		} `json:"testGroups"`
	}
	readVectors(f, "json_web_key_test.json", &file)
	for _, g := range file.Groups {
		f.Add([]byte(g.Public))
		f.Add([]byte(g.Private))
	}
	for name := range rfc7515 {
		key := strings.Replace(rfc7515[name].key, "{", `{"kid":"a","alg":"`+name[4:]+`",`, 1)
		f.Add([]byte(`{"keys":[` + key + `,` + key + `]}`))
	}
	for _, document := range []string{`{"keys":[]}`, `{"keys":{}}`, `[]`, `null`, ``, `{"keys":[null,7,"x",[],{}]}`, `{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","n":"","e":""}]}`} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		keys := ParseKeySet(document)
		require.LessOrEqual(t, len(keys), maxKeys)
		var published struct {
			Keys []map[string]any `json:"keys"`
		}
		if len(keys) > 0 {
			var set struct {
				Keys []json.RawMessage `json:"keys"`
			}
			require.NoError(t, json.Unmarshal(document, &set))
			for _, raw := range set.Keys {
				var key map[string]any
				if json.Unmarshal(raw, &key) == nil {
					published.Keys = append(published.Keys, key)
				}
			}
		}
		for kid, key := range keys {
			require.NotEmpty(t, kid)
			require.Equal(t, kid, key.KID)
			require.True(t, slices.ContainsFunc(published.Keys, func(k map[string]any) bool {
				ops, limited := k["key_ops"].([]any)
				return k["kid"] == kid && k["alg"] == key.Alg && (k["use"] == nil || k["use"] == "" || k["use"] == "sig") && (!limited || slices.Contains(ops, any("verify")))
			}), "%s is not published as it was taken", kid)
			switch public := key.Public.(type) {
			case *rsa.PublicKey:
				require.Equal(t, "RS256", key.Alg)
				require.GreaterOrEqual(t, public.N.BitLen(), 2048)
				require.LessOrEqual(t, public.N.BitLen(), 8192)
				require.GreaterOrEqual(t, public.E, 3)
			case *ecdsa.PublicKey:
				require.Equal(t, map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()}[key.Alg], public.Curve)
				_, err := public.ECDH()
				require.NoError(t, err, "not on the curve")
			default:
				t.Fatalf("a %T", public)
			}
			// Judging a signature with it ends, one way or another.
			tok := &Token{header: &header{alg: key.Alg}, signed: "a.b", signature: make([]byte, 256)}
			require.Error(t, tok.Verify(key))
		}
	})
}
