package kittest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// StrictObject decodes one JSON object and nothing else: unique names, valid
// UTF-8, no half of a surrogate pair.
func StrictObject(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) || loneSurrogate.MatchString(escapePairs.ReplaceAllString(string(raw), "")) {
		return nil, errors.New("not strict JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	value, err := strictValue(dec)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("no object")
	}
	return object, nil
}

var (
	// What is left of \u escapes after these are dropped is half a pair.
	escapePairs   = regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	loneSurrogate = regexp.MustCompile(`\\u[dD][89a-fA-F][0-9a-fA-F]{2}`)
)

func strictValue(dec *json.Decoder) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := make(map[string]any)
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			if _, twice := object[name.(string)]; twice {
				return nil, fmt.Errorf("%q twice", name)
			}
			if object[name.(string)], err = strictValue(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			value, err := strictValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = dec.Token()
		return list, err
	}
	return token, nil
}

// ThreeParts is what a compact JWS looks like.
var ThreeParts = regexp.MustCompile(`^([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)$`)

// StrictSession judges a session token by the published rules once more, with
// other means than the package has.
func StrictSession(token string, now time.Time) error {
	parts := ThreeParts.FindStringSubmatch(token)
	if len(token) > 16384 || parts == nil {
		return errors.New("not a compact JWS")
	}
	var decoded [3][]byte
	for i, part := range parts[1:] {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return err
		}
	}
	header, err := StrictObject(decoded[0])
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	claims, err := StrictObject(decoded[1])
	if err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	for name := range header {
		if inAnotherCase(name, "alg", "kid", "crit") {
			return errors.New("header name in another case")
		}
	}
	for name := range claims {
		if inAnotherCase(name, "iss", "sub", "drn", "dsub", "token_type", "aud", "cnf", "exp", "nbf", "iat", "rexp") {
			return errors.New("claim name in another case")
		}
	}
	if _, critical := header["crit"]; critical {
		return errors.New("crit")
	}
	if err := strictSignature(header, parts[1]+"."+parts[2], decoded[2]); err != nil {
		return err
	}
	return strictClaims(claims, now)
}

func inAnotherCase(name string, registered ...string) bool {
	return slices.ContainsFunc(registered, func(r string) bool { return name != r && strings.EqualFold(name, r) })
}

func strictSignature(header map[string]any, signed string, signature []byte) error {
	r, e := Keys()
	sum := sha256.Sum256([]byte(signed))
	switch {
	case header["alg"] == "RS256" && header["kid"] == RSAKid:
		return rsa.VerifyPKCS1v15(&r.PublicKey, crypto.SHA256, sum[:], signature)
	case header["alg"] == "ES256" && header["kid"] == ECKid && len(signature) == 64:
		if ecdsa.Verify(&e.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			return nil
		}
	}
	return errors.New("signature")
}

func strictClaims(claims map[string]any, now time.Time) error {
	seconds := float64(now.Unix())
	date := func(name string) (value float64, there bool, err error) {
		raw, there := claims[name]
		if !there {
			return 0, false, nil
		}
		number, ok := raw.(json.Number)
		if !ok {
			return 0, true, fmt.Errorf("%s is no number", name)
		}
		value, _ = strconv.ParseFloat(string(number), 64)
		return math.Trunc(value), true, nil
	}
	exp, there, err := date("exp")
	if err != nil || !there || !(exp > 0) || exp > 253402300799 || seconds >= exp+5 {
		return errors.New("exp")
	}
	if nbf, _, err := date("nbf"); err != nil || nbf > seconds+5 {
		return errors.New("nbf")
	}
	if _, _, err := date("iat"); err != nil {
		return err
	}
	if sub, ok := claims["sub"].(string); !ok || sub == "" {
		return errors.New("sub")
	}
	if claims["drn"] != "DS" {
		return errors.New("drn")
	}
	if _, bound := claims["cnf"]; bound {
		return errors.New("cnf")
	}
	if iss, _ := claims["iss"].(string); !strictIssuer(iss) {
		return errors.New("iss")
	}
	switch aud := claims["aud"].(type) {
	case nil:
		if _, there := claims["aud"]; there {
			return errors.New("aud is null")
		}
	case string:
	case []any:
		for _, one := range aud {
			if _, ok := one.(string); !ok {
				return errors.New("aud")
			}
		}
	default:
		return errors.New("aud")
	}
	return nil
}

func strictIssuer(iss string) bool {
	if iss == ProjectID {
		return true
	}
	u, err := url.Parse(iss)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return false
	}
	segments := strings.Split(u.Path, "/")
	return slices.Contains(segments[max(0, len(segments)-2):], ProjectID)
}
