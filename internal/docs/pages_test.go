package docs_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.." // of the repository

var update = flag.Bool("update", false, "write the pages under docs/ that are made from the source")

// The pages that are made from the source say what it says.
func TestPagesAreCurrent(t *testing.T) {
	for name, page := range map[string]func(*testing.T) string{
		"errors.md": errorsPage, "settings.md": settingsPage, "rules.md": rulesPage,
	} {
		t.Run(name, func(t *testing.T) {
			path, made := filepath.Join(root, "docs", name), page(t)
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(made), 0o666))
			}
			assert.True(t, made == readFile(t, path), "%s is not current: run go test ./internal/docs -update", name)
		})
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}
