package descopetest

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"image/png"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

// Codes as Descope's authenticators make them: RFC 6238 with HMAC-SHA-1,
// 6 digits and steps of 30 s from the epoch.
const (
	stepSeconds = 30
	codeDigits  = 6
	secretBytes = 20 // 160 bits, as RFC 4226, section 4 recommends
	issuerLabel = "Descope"
	imagePixels = 256
)

// An authenticator is one shared secret and the steps whose code was accepted.
// It is guarded by Server.mu.
type authenticator struct {
	secret string         // base32 without padding
	used   map[int64]bool // steps, those still within the drift
}

func newAuthenticator() *authenticator {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	return &authenticator{
		secret: base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret),
		used:   map[int64]bool{},
	}
}

// match looks for a step within drift of now whose code this is. replayed
// tells that the only such steps were used before.
func (a *authenticator) match(code string, now time.Time, drift int) (step int64, ok, replayed bool) {
	present := stepAt(now)
	for d := -int64(drift); d <= int64(drift); d++ {
		at := present + d
		if subtle.ConstantTimeCompare([]byte(codeOf(a.secret, at)), []byte(code)) == 0 {
			continue
		}
		if !a.used[at] {
			return at, true, false
		}
		step, replayed = at, true
	}
	return step, false, replayed
}

// use records that the code of step was accepted, and forgets steps that no
// code can belong to any more.
func (a *authenticator) use(step int64, now time.Time, drift int) {
	a.used[step] = true
	for old := range a.used {
		if old < stepAt(now)-int64(drift) {
			delete(a.used, old)
		}
	}
}

func stepAt(t time.Time) int64 {
	return t.Unix() / stepSeconds
}

func codeOf(secret string, step int64) string {
	code, err := hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{
		Digits:    codeDigits,
		Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		panic("descopetest: computing a code: " + err.Error())
	}
	return code
}

// A keyAnswer is what the application shows to the person once.
type keyAnswer struct {
	ProvisioningURL string `json:"provisioningURL"`
	Image           string `json:"image"`
	Key             string `json:"key"`
}

// newKeyAnswer shows secret in the three forms an authenticator app can take.
func newKeyAnswer(loginID, secret string) keyAnswer {
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		panic("descopetest: decoding a secret: " + err.Error())
	}
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer:      issuerLabel,
		AccountName: loginID,
		Period:      stepSeconds,
		Secret:      raw,
		Digits:      codeDigits,
		Algorithm:   otp.AlgorithmSHA1,
	})
	if err != nil {
		panic("descopetest: making a provisioning URL: " + err.Error())
	}
	return keyAnswer{
		ProvisioningURL: key.String(),
		Image:           qrImage(key),
		Key:             secret,
	}
}

// qrImage returns a PNG in bare base64, without "data:", as Descope sends it.
func qrImage(key *otp.Key) string {
	img, err := key.Image(imagePixels, imagePixels)
	if err != nil {
		panic(fmt.Sprintf("descopetest: drawing a QR code: %v", err))
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(fmt.Sprintf("descopetest: encoding a QR code: %v", err))
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
