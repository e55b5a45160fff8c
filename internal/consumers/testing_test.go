//go:build !race

package consumers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The program and the tests of docs/testing.md do what it says, and the table is as printed.
func TestProgramOfTesting(t *testing.T) {
	page := readFile(t, filepath.Join(root, "docs"), "testing.md")
	dir := writeConsumer(t, "", "", module, module)
	blocks := strings.Split(page, "\n```go\n")[1:]
	require.Len(t, blocks, 4)
	for i, block := range blocks {
		name := "main.go"
		if i > 0 {
			name = fmt.Sprintf("block%d_test.go", i)
		}
		code, _, _ := strings.Cut(block, "```\n")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(code), 0o666))
	}
	runGo(t, dir, offline, "vet", ".")
	runGo(t, dir, offline, "test", "-update", ".")
	runGo(t, dir, offline, "test", "-count=1", ".")
	_, table, _ := strings.Cut(page, "\n```text\n")
	table, _, _ = strings.Cut(table, "```\n")
	assert.Contains(t, readFile(t, dir, "testdata/routes.txt"), table)
}
