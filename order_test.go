package descopehttp_test

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// order has the files of the root, the lowest first: what a file uses stands to its left.
// Whoever reads middleware.go from top to bottom never has to climb.
var order = strings.Fields("login errors session cookies jwks cache credentials guards middleware flows handlers config")

// exempt are the files that renew and end sessions, which depend on each other.
var exempt = strings.Fields("refresh memory store logout tasks")

func TestOrderOfFiles(t *testing.T) {
	fset, names := token.NewFileSet(), make(map[string]bool)
	var files []*ast.File
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files, names[strings.TrimSuffix(name, ".go")] = append(files, file), true
	}
	for _, name := range slices.Concat(order, exempt) {
		require.True(t, names[name], "%s.go is gone", name)
		delete(names, name)
	}
	require.Empty(t, names, "files without a place in the order")

	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	pkg, err := (&types.Config{Importer: importer.ForCompiler(fset, "gc", exportData(t))}).Check(module, fset, files, info)
	require.NoError(t, err)
	fileOf := func(pos token.Pos) string { return strings.TrimSuffix(fset.Position(pos).Filename, ".go") }
	for ident, used := range info.Uses {
		from, to := fileOf(ident.Pos()), fileOf(used.Pos())
		if used.Pkg() != pkg || slices.Contains(exempt, from) || slices.Contains(exempt, to) {
			continue
		}
		assert.LessOrEqual(t, slices.Index(order, to), slices.Index(order, from), "%s uses %s of %s.go", fset.Position(ident.Pos()), ident.Name, to)
	}
}

// exportData returns a look-up of what the compiler has written of dependencies.
func exportData(t *testing.T) importer.Lookup {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".").Output()
	require.NoError(t, err)
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
}
