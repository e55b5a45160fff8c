package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
)

// A Fingerprint stands for a token within one process, which need not keep the token for it.
// Equal tokens have equal ones.
type Fingerprint [16]byte

// A Fingerprinter takes fingerprints, in a third to a fifth of the time of a SHA-256. It is
// safe for concurrent use.
//
// A fingerprint is a GMAC of the token (NIST SP 800-38D): a polynomial in a secret of the
// process, under a mask. The nonce is always the same, so it authenticates nothing, but
// nobody ever sees one. Tokens with equal fingerprints cannot be found without the secret:
// two have equal ones with a probability of at most 1,025 in 2^128, the length of the
// longest in blocks (GHASH as a universal hash; McGrew and Viega, 2004). With ten million
// sessions remembered and a billion tokens tried a second, that is once in 10^12 years.
// That one was not recognised tells next to nothing of the secret.
//
// Where Go enforces FIPS 140-3, which has no such use of GCM, it is half of an HMAC.
type Fingerprinter struct {
	mac     cipher.AEAD // nil where an HMAC has to do
	secret  [32]byte
	scratch sync.Pool
}

// printing is the room that one takes: what is passed to an interface would be
// allocated each time.
type printing struct {
	token []byte
	nonce [12]byte
	fp    Fingerprint
}

// NewFingerprinter returns a Fingerprinter with a secret of its own.
func NewFingerprinter() *Fingerprinter {
	p := &Fingerprinter{scratch: sync.Pool{New: func() any { return new(printing) }}}
	_, _ = rand.Read(p.secret[:]) // it never fails
	if fips140.Enforced() {
		return p
	}
	block, err := aes.NewCipher(p.secret[:])
	if err == nil {
		p.mac, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic("descopehttp: AES-GCM: " + err.Error()) // its key and sizes are constants
	}
	return p
}

// Of returns the fingerprint of a token.
func (p *Fingerprinter) Of(token string) Fingerprint {
	x := p.scratch.Get().(*printing)
	x.token = append(x.token[:0], token...)
	defer func() {
		clear(x.token) // a token is not to lie about
		p.scratch.Put(x)
	}()
	if p.mac != nil {
		p.mac.Seal(x.fp[:0], x.nonce[:], nil, x.token)
		return x.fp
	}
	mac := hmac.New(sha256.New, p.secret[:])
	mac.Write(x.token)
	return Fingerprint(mac.Sum(nil)[:len(Fingerprint{})])
}
