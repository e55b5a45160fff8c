package descopehttp_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// SECURITY.md names the test for each of its claims, and each of them is there.
func TestSecurityNamesTests(t *testing.T) {
	content, err := os.ReadFile("SECURITY.md")
	require.NoError(t, err)
	named := regexp.MustCompile(`\b(Test|Fuzz|Example)[A-Z]\w*`).FindAllString(string(content), -1)
	require.Greater(t, len(named), 100, "the tables are gone")

	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)[A-Z]\w*)\(`)
	var declared []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		for _, match := range declaration.FindAllStringSubmatch(string(source), -1) {
			declared = append(declared, match[1])
		}
		return err
	}))
	for _, name := range named {
		assert.True(t, slices.Contains(declared, name), "SECURITY.md names %s, which is not there", name)
	}
}
