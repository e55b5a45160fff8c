package renew

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"

	"github.com/go-json-experiment/json"

	"github.com/descopehttp/descopehttp/internal/token"
)

// sealVersion is part of every key and seal: replicas of different versions do
// not read each other, which costs a refresh and confuses nobody.
const sealVersion = "descopehttp refresh 2"

// A sealer encrypts records under a key that only the holder of the old refresh
// token can derive, so that whoever reads the store reads nothing.
type sealer struct{ projectID string }

// key returns the store's key for a refresh token. It is derived under another
// label than the sealing key and says nothing about it (RFC 5869, section 3.2).
func (s sealer) key(t *token.Token) string { return hex.EncodeToString(s.derive(t.Raw, "key")) }

// codeKey returns the store's key for a session token that came of a code.
func (s sealer) codeKey(session string) string {
	return hex.EncodeToString(s.derive(session, "code key"))
}

// eventKey returns the store's key for something that was told of a sign-in.
func (s sealer) eventKey(name string, t *token.Token) string {
	return hex.EncodeToString(s.derive(t.Raw, "event "+name))
}

// birthKey returns the key under which a store holds since when it has been filled.
func (s sealer) birthKey() string { return hex.EncodeToString(s.derive("", "birth")) }

func (s sealer) derive(secret, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, sealVersion+" "+purpose+" "+s.projectID, 32)
	if err != nil {
		panic(err) // only for lengths over 8,160 bytes
	}
	return key
}

func (s sealer) aead(secret string) cipher.AEAD {
	block, err := aes.NewCipher(s.derive(secret, "seal"))
	if err != nil {
		panic(err) // only for other key lengths
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for other block sizes
	}
	return aead
}

// seal returns the encrypted record. It fails for one that is too large to be shared.
func (s sealer) seal(t *token.Token, v *record) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil || len(plain) > maxSealedSize {
		return nil, errTooLarge
	}
	return s.sealBytes(t.Raw, plain), nil
}

// sealBytes encrypts under a key that only the holder of secret can derive.
func (s sealer) sealBytes(secret string, plain []byte) []byte {
	return s.aead(secret).Seal(nil, nil, plain, s.additionalData())
}

// openBytes decrypts what sealBytes has made of it.
func (s sealer) openBytes(secret string, sealed []byte) ([]byte, error) {
	if len(sealed) > maxSealedSize+1024 {
		return nil, errUnreadable
	}
	plain, err := s.aead(secret).Open(nil, nil, sealed, s.additionalData())
	if err != nil {
		return nil, errUnreadable
	}
	return plain, nil
}

// open decrypts a record, nil for none. The store may hold anything: what fails says no
// more than that the store is not to be relied on.
func (s sealer) open(t *token.Token, sealed []byte) (*record, error) {
	if sealed == nil {
		return nil, nil
	}
	plain, err := s.openBytes(t.Raw, sealed)
	if err != nil {
		return nil, err
	}
	var v record
	if json.Unmarshal(plain, &v) != nil || v.Session == "" {
		return nil, errUnreadable
	}
	return &v, nil
}

func (s sealer) additionalData() []byte { return []byte(sealVersion + " " + s.projectID) }
