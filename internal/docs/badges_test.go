package docs_test

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The badges are files, for which nobody has to be asked, and say what is so.
func TestBadges(t *testing.T) {
	first := func(file, pattern string) string {
		t.Helper()
		match := regexp.MustCompile(pattern).FindStringSubmatch(readFile(t, filepath.Join(root, file)))
		require.NotNil(t, match, file)
		return match[1]
	}
	readme := readFile(t, filepath.Join(root, "README.md"))
	for name, text := range map[string]string{
		"go":      "Go: " + first("go.mod", `(?m)^go (\d+\.\d+)`) + "+",
		"license": "license: " + first("LICENSE", `^(MIT) License`),
		"version": "version: " + first("CHANGELOG.md", `(?m)^## (\d+\.\d+\.\d+)`),
	} {
		assert.Contains(t, readFile(t, filepath.Join(root, "docs", "badges", name+".svg")), "<title>"+text+"</title>")
		assert.Contains(t, readme, "!["+text+"](docs/badges/"+name+".svg)")
	}
}
