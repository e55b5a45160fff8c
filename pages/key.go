package pages

import (
	"bytes"
	"encoding/base64"
	"html/template"
	"image/png"
	"net/url"
	"strings"

	"github.com/descopehttp/descopehttp"
)

// Bounds on what a form carries of a key.
const (
	maxKeyURL = 1 << 10  // bytes
	maxQR     = 32 << 10 // bytes of PNG
	maxPixels = 4096     // on each side
)

// newKey makes what is shown of a key that Descope has just made.
func newKey(k *descopehttp.NewKey) *Key {
	key := keyOf(k.ProvisioningURL, k.QR)
	if key == nil {
		key = &Key{Image: imageOf(k.QR), Text: inGroups(k.Key)} // what there is, without a form to carry it
	}
	return key
}

// postedKey makes it of the hidden fields of the page that was shown before. What a form
// carries is judged as if it came from anywhere.
func postedKey(address, qr string) *Key {
	picture, err := base64.StdEncoding.Strict().DecodeString(qr)
	if err != nil {
		return nil
	}
	return keyOf(address, picture)
}

// keyOf returns nil for what is no key, or too large for a form.
func keyOf(address string, picture []byte) *Key {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxKeyURL || u.Scheme != "otpauth" || u.Host != "totp" || u.Path == "" || u.Query().Get("secret") == "" {
		return nil
	}
	image := imageOf(picture)
	if image == "" {
		return nil
	}
	return &Key{
		URL:   template.URL(address),
		Image: image,
		PNG:   base64.StdEncoding.EncodeToString(picture),
		Text:  inGroups(u.Query().Get("secret")),
	}
}

// imageOf returns a picture as part of a page, "" if it is none.
func imageOf(picture []byte) template.URL {
	c, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil || len(picture) > maxQR || max(c.Width, c.Height) > maxPixels {
		return ""
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(picture))
}

func inGroups(key string) string {
	var b strings.Builder
	for i, r := range key {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}
