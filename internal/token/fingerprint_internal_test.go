package token

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFingerprints(t *testing.T) {
	hmac := NewFingerprinter()
	hmac.mac = nil
	for name, p := range map[string]*Fingerprinter{"GMAC": NewFingerprinter(), "where FIPS 140-3 is enforced": hmac} {
		t.Run(name, func(t *testing.T) {
			long := strings.Repeat("a", MaxSize)
			seen := make(map[Fingerprint]string)
			for _, token := range []string{"", "a", "a\x00", "aa", "b", strings.Repeat("a", 16), strings.Repeat("a", 17), long[1:], long, "b" + long[1:], long[1:] + "b"} {
				fp := p.Of(token)
				assert.Equal(t, fp, p.Of(token))
				assert.NotContains(t, seen, fp, "%q and %q", token, seen[fp])
				seen[fp] = token
			}
			assert.NotEqual(t, p.Of("a"), NewFingerprinter().Of("a"), "each has a secret of its own")
			x := p.scratch.Get().(*printing)
			assert.NotContains(t, string(x.token[:cap(x.token)]), "a", "nothing of a token lies about")
		})
	}
}
