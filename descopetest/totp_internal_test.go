package descopetest

import (
	"encoding/base32"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// The SHA-1 column of RFC 6238, appendix B, has 8 digits; a code of 6 digits is
// the end of it (RFC 4226, section 5.3: the number modulo 10^digits).
func TestCodesAreThoseOfRFC6238(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	for at, want := range map[int64]string{
		59:          "94287082",
		1111111109:  "07081804",
		1111111111:  "14050471",
		1234567890:  "89005924",
		2000000000:  "69279037",
		20000000000: "65353130",
	} {
		got := codeOf(secret, stepAt(time.Unix(at, 0)))
		assert.Len(t, got, 6)
		assert.Truef(t, strings.HasSuffix(want, got), "time %d: %s is not the end of %s", at, got, want)
	}
}

func TestUsedStepsAreForgottenWhenTheyCannotComeBack(t *testing.T) {
	a := newAuthenticator()
	now := time.Unix(1_700_000_000, 0)
	for range 1000 {
		step, ok, _ := a.match(codeOf(a.secret, stepAt(now)), now, 1)
		assert.True(t, ok)
		a.use(step, now, 1)
		now = now.Add(stepSeconds * time.Second)
	}
	assert.LessOrEqual(t, len(a.used), 3)
}

// Keys of servers that are gone serve the next ones; those in use never do.
func TestRSAPool(t *testing.T) {
	var p rsaPool
	a, b := p.take(), p.take()
	assert.NotEqual(t, a.N, b.N)
	p.give(a)
	assert.Same(t, a, p.take())
	assert.NotSame(t, a, p.take())
}
