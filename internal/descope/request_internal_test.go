package descope

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestControlCharacters(t *testing.T) {
	for _, id := range []string{"a\x00", "a\x1f", "a\x7f", "\ta", "a\nb"} {
		assert.Error(t, CheckLoginID(id), "%q", id)
	}
	assert.NoError(t, CheckLoginID("ada b\u00e9@example.com"))
}
