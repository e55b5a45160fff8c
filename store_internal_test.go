package descopehttp

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
func TestStoreKeyOpensNothing(t *testing.T) {
	s := sealer{"P2abcdefghijklmnopqrstuvwxyz"}
	spent := &token.Token{Raw: "a refresh token"}
	sealed := s.seal(spent, &record{Session: "a session token"})
	r, ok := s.open(spent, sealed)
	require.True(t, ok)
	require.Equal(t, "a session token", r.Session)

	key, err := hex.DecodeString(s.key(spent))
	require.NoError(t, err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	require.NoError(t, err)
	_, err = aead.Open(nil, nil, sealed, s.additionalData())
	assert.Error(t, err)

	_, ok = s.open(&token.Token{Raw: "another"}, sealed)
	assert.False(t, ok)
	_, ok = sealer{"P2zbcdefghijklmnopqrstuvwxyz"}.open(spent, sealed)
	assert.False(t, ok, "another project's")
}

// What is too large is neither written nor opened.
func TestSealedSize(t *testing.T) {
	s := sealer{"P2abcdefghijklmnopqrstuvwxyz"}
	spent := &token.Token{Raw: "a refresh token"}
	assert.Nil(t, s.seal(spent, &record{Session: string(make([]byte, maxSealedSize))}))
	padded := append([]byte("{}"), bytes.Repeat([]byte(" "), maxSealedSize+1024)...)
	large := s.aead(spent).Seal(nil, nil, padded, s.additionalData())
	_, ok := s.open(spent, large)
	assert.False(t, ok)
}
