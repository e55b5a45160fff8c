package descopetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A signingKey is one key of a project. It is not changed after it was made.
type signingKey struct {
	id      string
	private crypto.Signer
	method  jwt.SigningMethod
	public  time.Time       // when it appears in the key set; zero: from the start
	pooled  runtime.Cleanup // puts an RSA key back into the pool once the Server is gone
}

// A jwk is a public key as in RFC 7517. Members of other key types are left
// out: clients take an empty "crv" of an RSA key for a fault.
type jwk struct {
	Alg string `json:"alg"`
	Crv string `json:"crv,omitzero"`
	E   string `json:"e,omitzero"`
	Kid string `json:"kid"`
	Kty string `json:"kty"`
	N   string `json:"n,omitzero"`
	Use string `json:"use"`
	X   string `json:"x,omitzero"`
	Y   string `json:"y,omitzero"`
}

// AddKey makes key one that the project vouches for under kid, and signs with
// from now on, until another is added or the keys are rotated. It is meant for
// keys that the project would not choose: short ones, or two under one kid.
// RSA keys sign RS256, ECDSA keys ES256, ES384 or ES512, and Ed25519 keys
// EdDSA. It panics on an empty kid and on any other key.
func (s *Server) AddKey(kid string, key crypto.Signer) {
	if kid == "" {
		panic("descopetest: AddKey without a kid")
	}
	method := methodFor(key)
	if method == nil {
		panic(fmt.Sprintf("descopetest: AddKey cannot sign with a %T", key))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushKey(&signingKey{id: kid, private: key, method: method})
}

// RotateKeys makes a new key and signs with it from now on. The old keys stay
// in the key set, as after "Rotate" in Descope's console; see
// [Settings.KeysKept] and [Settings.KeyDelay].
func (s *Server) RotateKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.currentKey() // so that there is a key to rotate out
	s.pushKey(s.newKey())
}

// RevokeKeys makes a new key and takes all others out of the key set, as
// "Rotate and revoke" in Descope's console: no token signed before is good any
// more, and refresh tokens are answered [Settings.InvalidToken].
func (s *Server) RevokeKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.currentKey()
	s.pushKey(s.newKey())
	s.dropKeys(len(s.keys) - 1)
	for _, u := range s.users {
		for g := range u.grants {
			g.state = grantVoid
		}
	}
}

// currentKey returns the key that signs. The first is made when it is needed,
// so that a project that is set to ES256 never pays for an RSA key.
// The caller holds s.mu.
func (s *Server) currentKey() *signingKey {
	if len(s.keys) == 0 {
		s.pushKey(s.newKey())
	}
	return s.keys[len(s.keys)-1]
}

// pushKey adds a key to the set. The caller holds s.mu.
func (s *Server) pushKey(k *signingKey) {
	if len(s.keys) > 0 && s.settings.KeyDelay > 0 {
		k.public = time.Now().Add(s.settings.KeyDelay)
	}
	s.keys = append(s.keys, k)
	s.trimKeys()
}

// trimKeys drops the oldest keys beyond KeysKept. A key that is not in the set
// yet displaces none. The caller holds s.mu.
func (s *Server) trimKeys() {
	listed := 0
	for _, k := range s.keys {
		if k.listed() {
			listed++
		}
	}
	// Keys appear in the order in which they were made, or all at once.
	s.dropKeys(max(0, listed-s.settings.KeysKept))
}

// dropKeys takes the n oldest keys out of the set. They do not serve another
// project: a project may live for as long as its keys rotate, and would hold them
// all until then. The caller holds s.mu.
func (s *Server) dropKeys(n int) {
	for _, k := range s.keys[:n] {
		k.pooled.Stop()
	}
	s.keys = slices.Delete(s.keys, 0, n)
}

// newKey makes a key of the project's algorithm. The caller holds s.mu.
func (s *Server) newKey() *signingKey {
	k := &signingKey{id: "SK" + randomID()}
	switch s.settings.Alg {
	case "ES256":
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic("descopetest: making a key: " + err.Error())
		}
		k.private = private
	default:
		private := rsaKeys.take()
		// The key serves another project once this one is gone.
		k.pooled = runtime.AddCleanup(s, rsaKeys.give, private)
		k.private = private
	}
	k.method = methodFor(k.private)
	return k
}

// keySet returns the keys that anybody may see now. The caller holds s.mu.
func (s *Server) keySet() []jwk {
	s.currentKey()
	s.trimKeys()
	set := make([]jwk, 0, len(s.keys))
	for _, k := range s.keys {
		if k.listed() {
			set = append(set, k.jwk())
		}
	}
	return set
}

// listed reports whether the key is in the key set by now.
func (k *signingKey) listed() bool {
	return k.public.IsZero() || !time.Now().Before(k.public)
}

// methodFor returns how key signs, nil if it cannot.
func methodFor(key crypto.Signer) jwt.SigningMethod {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key != nil {
			return jwt.SigningMethodRS256
		}
	case *ecdsa.PrivateKey:
		if key == nil {
			return nil
		}
		switch key.Curve {
		case elliptic.P256():
			return jwt.SigningMethodES256
		case elliptic.P384():
			return jwt.SigningMethodES384
		case elliptic.P521():
			return jwt.SigningMethodES512
		}
	case ed25519.PrivateKey:
		if len(key) == ed25519.PrivateKeySize {
			return jwt.SigningMethodEdDSA
		}
	}
	return nil
}

func (k *signingKey) jwk() jwk {
	j := jwk{Alg: k.method.Alg(), Kid: k.id, Use: "sig"}
	switch p := k.private.Public().(type) {
	case *rsa.PublicKey:
		j.Kty = "RSA"
		j.N = base64url(p.N.Bytes())
		j.E = base64url(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			panic("descopetest: key outside its curve: " + err.Error())
		}
		size := (len(point) - 1) / 2 // RFC 7518, section 6.2.1: full octets of the curve
		j.Kty, j.Crv = "EC", p.Params().Name
		j.X, j.Y = base64url(point[1:1+size]), base64url(point[1+size:])
	case ed25519.PublicKey:
		j.Kty, j.Crv, j.X = "OKP", "Ed25519", base64url(p)
	}
	return j
}

// verify reports whether sig is this key's signature of input.
func (k *signingKey) verify(input string, sig []byte) bool {
	return k.method.Verify(input, sig, k.private.Public()) == nil
}

// pem returns the public key as a client might have it in a file.
func (k *signingKey) pem() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic("descopetest: encoding a key: " + err.Error())
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// rsaKeys are the RSA keys of the process. Making one takes tens of
// milliseconds, too much for each of a thousand tests; giving one to two
// projects at a time would let a foreign token pass where it must be refused.
// So a key belongs to one project at a time, and to the next when the
// project's Server has been collected.
var rsaKeys rsaPool

// An rsaPool holds keys that no project has now. It is a mutex and a slice
// because anything to wait on would belong to the synctest bubble it was made
// in.
type rsaPool struct {
	mu   sync.Mutex // guards free; never held while a key is made
	free []*rsa.PrivateKey
}

func (p *rsaPool) take() *rsa.PrivateKey {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		key := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return key
	}
	p.mu.Unlock()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("descopetest: making a key: " + err.Error())
	}
	return key
}

func (p *rsaPool) give(key *rsa.PrivateKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, key)
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// randomID returns the 27 characters that follow the letters of an id.
func randomID() string {
	id := make([]byte, 27)
	rand.Read(id)
	id[0] = '2' // ids of these years begin so
	for i := 1; i < len(id); i++ {
		id[i] = base62[int(id[i])%len(base62)]
	}
	return string(id)
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
