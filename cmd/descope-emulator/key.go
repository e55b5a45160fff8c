package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// Bounds on -key. The sizes are those that the kit accepts.
const (
	maxKeyFile = 64 << 10 // bytes
	minRSABits = 2048
	maxRSABits = 8192
)

// readKeyFile returns the private key in a PEM file and the algorithm that it
// signs with.
func readKeyFile(name string) (crypto.Signer, string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, "", err
	}
	// openssl puts the name of a curve into a block before the key.
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		parse, ok := keyParsers[block.Type]
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, "", errors.New("the key is encrypted; decrypt it first")
		case !ok:
			continue
		}
		// The errors of x509 say what is wrong with the form, not what is in it.
		key, err := parse(block.Bytes)
		if err != nil {
			return nil, "", err
		}
		return signer(key)
	}
	return nil, "", errors.New("no PEM private key in the file")
}

var keyParsers = map[string]func([]byte) (any, error){
	"PRIVATE KEY":     x509.ParsePKCS8PrivateKey,
	"RSA PRIVATE KEY": func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
	"EC PRIVATE KEY":  func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
}

// signer returns key if it is one that a Descope project could have.
func signer(key any) (crypto.Signer, string, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, "", fmt.Errorf("an RSA key of %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
		}
		return key, "RS256", nil
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return key, "ES256", nil
		}
	}
	return nil, "", errors.New("neither an RSA key nor one of EC P-256")
}
