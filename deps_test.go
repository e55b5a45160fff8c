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

const module = "github.com/descopehttp/descopehttp"

// arrows says which package may import which other of this module, and which modules
// of others. What is not in here may not be imported, and a package that is not in here
// may not exist.
var arrows = map[string]struct{ own, others string }{
	"internal/calm":    {},
	"internal/cookie":  {own: "notice visit token"},
	"internal/fading":  {},
	"internal/notice":  {own: "problem"},
	"internal/problem": {others: "go-json-experiment/json"},
	"internal/token":   {own: "problem", others: "go-json-experiment/json golang-jwt/jwt/v5 MicahParks/jwkset"},
	"internal/descope": {own: "notice problem token fading calm visit", others: "go-json-experiment/json golang.org/x/time"},
	"internal/guess":   {own: "notice problem descope fading calm", others: "golang.org/x/text"},
	"internal/tasks":   {},
	"internal/visit":   {},
	"internal/renew":   {own: "notice problem token descope fading calm tasks", others: "go-json-experiment/json"},

	"": {
		own:    "notice problem token cookie visit descope guess renew fading tasks",
		others: "go-json-experiment/json golang-jwt/jwt/v5 MicahParks/jwkset MicahParks/keyfunc/v3 maypok86/otter/v2",
	},

	// Beside the kit. descopetest ends up in the test binaries of users, and through the
	// emulator in a program.
	"descopetest":          {others: "pquerna/otp golang-jwt/jwt/v5 go-json-experiment/json"},
	"descopetest/audit":    {own: "descopetest"},
	"cmd/descope-emulator": {own: "descopetest", others: "go-json-experiment/json"},

	// Over the kit, as an application is.
	"pages":           {own: "descopehttp"},
	"example":         {own: "descopehttp pages descopetest"},
	"example/minimal": {own: "descopehttp pages"},

	// For tests alone.
	"internal/adaptertest": {own: "descopehttp descopetest kittest", others: "stretchr/testify"},
	"internal/audittest":   {own: "descopehttp descopetest/audit kittest", others: "stretchr/testify"},
	"internal/kittest":     {own: "descopehttp descopetest", others: "stretchr/testify golang-jwt/jwt/v5"},
	"internal/redistest":   {},
	"internal/consumers":   {},
	"internal/docs":        {},
}

// Dependencies point one way, downwards.
func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	require.NoError(t, err)
	seen := 0
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		pkg = strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
		may, ok := arrows[pkg]
		if !assert.True(t, ok, "%q is not among the packages that there may be", pkg) {
			continue
		}
		seen++
		for imported := range strings.FieldsSeq(imports) {
			assert.True(t, mayImport(imported, strings.Fields(may.own), strings.Fields(may.others)), "%q imports %s", pkg, imported)
		}
	}
	assert.Equal(t, len(arrows), seen, "a package is gone")
}

func mayImport(imported string, own, others []string) bool {
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	if imported == module {
		return slices.Contains(own, "descopehttp")
	}
	if rest, ok := strings.CutPrefix(imported, module+"/"); ok {
		return slices.Contains(own, strings.TrimPrefix(rest, "internal/"))
	}
	return slices.ContainsFunc(others, func(other string) bool {
		path := strings.TrimPrefix(imported, "github.com/")
		return path == other || strings.HasPrefix(path, other+"/")
	})
}

// What every user pays for holds nothing that is for tests.
func TestNothingForTests(t *testing.T) {
	for _, pkg := range []string{module, module + "/descopetest", module + "/descopetest/audit"} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		require.NoError(t, err)
		deps := strings.Fields(string(out))
		require.Contains(t, deps, pkg)
		assert.NotContains(t, deps, "testing")
		for _, dep := range deps {
			assert.NotContains(t, dep, "testify")
		}
	}
}

// order has the files of the root, the lowest first: what a file uses stands to its left.
// Whoever reads middleware.go from top to bottom never has to climb.
var order = strings.Fields("login errors session events cookies store jwks cache credentials guards middleware caller flows handlers limits status config")

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
	for _, name := range order {
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
		if used.Pkg() != pkg {
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
