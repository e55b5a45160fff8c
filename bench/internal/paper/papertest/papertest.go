// Package papertest checks what paper writes.
package papertest

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// ReadSVG returns what a file holds, which must be XML.
func ReadSVG(t testing.TB, file string) []byte {
	t.Helper()
	svg, err := os.ReadFile(file)
	require.NoError(t, err)
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			return svg
		} else {
			require.NoError(t, err)
		}
	}
}
