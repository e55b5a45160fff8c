package renew

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/token"
)

// Whoever reads the store has its keys and values, and can open none with them.
//
// Rule: replicas: values are sealed under a key that the store's key does not tell, for one
// project, bounded.
func TestStoreKeyOpensNothing(t *testing.T) {
	s := sealer{"P2abcdefghijklmnopqrstuvwxyz"}
	spent := &token.Token{Raw: "a refresh token"}
	sealed, err := s.seal(spent, &record{Session: "a session token"})
	require.NoError(t, err)
	r, err := s.open(spent, sealed)
	require.NoError(t, err)
	require.Equal(t, "a session token", r.Session)

	key, err := hex.DecodeString(s.key(spent))
	require.NoError(t, err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	require.NoError(t, err)
	_, err = aead.Open(nil, nil, sealed, s.additionalData())
	assert.Error(t, err)

	_, err = s.open(&token.Token{Raw: "another"}, sealed)
	assert.Error(t, err)
	_, err = sealer{"P2zbcdefghijklmnopqrstuvwxyz"}.open(spent, sealed)
	assert.Error(t, err, "another project's")
}

// What is too large is neither written nor opened.
//
// Rule: replicas: values are sealed under a key that the store's key does not tell, for one
// project, bounded.
func TestSealedSize(t *testing.T) {
	s := sealer{"P2abcdefghijklmnopqrstuvwxyz"}
	spent := &token.Token{Raw: "a refresh token"}
	_, err := s.seal(spent, &record{Session: string(make([]byte, maxSealedSize))})
	assert.Error(t, err)
	padded := append([]byte("{}"), bytes.Repeat([]byte(" "), maxSealedSize+1024)...)
	large := s.sealBytes(spent.Raw, padded)
	_, err = s.open(spent, large)
	assert.Error(t, err)
}
