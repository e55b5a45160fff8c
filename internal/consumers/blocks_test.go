//go:build !race

package consumers_test

import (
	"bytes"
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A block is code in a page.
type block struct{ language, code string }

var blockPattern = regexp.MustCompile("(?ms)^( *)```(\\w*)\n(.*?)^ *```$")

func blocksOf(page string) []block {
	var blocks []block
	for _, match := range blockPattern.FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, block{match[2], regexp.MustCompile("(?m)^"+match[1]).ReplaceAllString(match[3], "")})
	}
	return blocks
}

// Every block of code in the pages for users is run as it is printed there: programs with
// their tests, fragments as far as the compiler goes, commands against the example, the
// emulator and a server of their own. Those of html are played in e2e, by TestPagesAsPrinted.
func TestBlocksOfThePages(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	found := 0
	for _, page := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		blocks := blocksOf(readFile(t, filepath.Dir(page), filepath.Base(page)))
		found += len(blocks)
		if len(blocks) == 0 {
			continue
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			for _, b := range blocks {
				assert.Contains(t, []string{"go", "sh", "console", "html", "nginx", "text"}, b.language, "nobody runs this block")
			}
			runGoBlocks(t, only(blocks, "go"))
			runCommands(t, only(blocks, "sh", "console"))
			for _, b := range only(blocks, "nginx") {
				t.Run("nginx", func(t *testing.T) { checkNginx(t, b.code) })
			}
		})
	}
	require.Greater(t, found, 15)
}

func only(blocks []block, languages ...string) []block {
	return slices.DeleteFunc(slices.Clone(blocks), func(b block) bool { return !slices.Contains(languages, b.language) })
}

// runGoBlocks tests the programs, each with the test that comes after it, and compiles the
// rest.
func runGoBlocks(t *testing.T, blocks []block) {
	program := ""
	for _, b := range blocks {
		switch {
		case !strings.HasPrefix(b.code, "package "):
			t.Run("fragment", func(t *testing.T) { testProgram(t, wholeOf(t, b.code), "") })
		case strings.Contains(b.code, "\nfunc Test"):
			require.NotEmpty(t, program, "a test without a program before it")
			t.Run("test", func(t *testing.T) { testProgram(t, program, b.code) })
		default:
			program = b.code
			t.Run("program", func(t *testing.T) { testProgram(t, program, "") })
		}
	}
}

func testProgram(t *testing.T, program, test string) {
	dir := writeConsumer(t, program, test, module, ownModules(t, program+test)...)
	runGo(t, dir, offline, "vet", ".")
	runGo(t, dir, offline, "test", ".")
}

// ownModules returns the modules of the repository that code imports.
func ownModules(t *testing.T, code string) []string {
	var found []string
	for _, match := range regexp.MustCompile(`"(`+regexp.QuoteMeta(module)+`[\w/]*)"`).FindAllStringSubmatch(code, -1) {
		longest := module
		for _, folder := range modules(t) {
			if path := modulePath(folder); (match[1]+"/") == path+"/" || strings.HasPrefix(match[1], path+"/") {
				longest = cmp.Or(map[bool]string{true: path}[len(path) > len(longest)], longest)
			}
		}
		if !slices.Contains(found, longest) {
			found = append(found, longest)
		}
	}
	return found
}

// packages are what fragments may name.
var packages = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "log": "log", "netip": "net/netip",
	"os": "os", "slog": "log/slog", "time": "time",
	"descopehttp": module, "descopetest": module + "/descopetest", "audit": module + "/descopetest/audit", "pages": module + "/pages",
	"descopegin": module + "/adapters/descopegin", "descopeecho": module + "/adapters/descopeecho", "descopechi": module + "/adapters/descopechi",
	"descoperedis": module + "/stores/descoperedis",
	"gin":          "github.com/gin-gonic/gin", "echo": "github.com/labstack/echo/v5", "chi": "github.com/go-chi/chi/v5",
}

// wholeOf makes a program of a fragment: what it uses without a word are parameters, and
// what it declares is used.
func wholeOf(t *testing.T, fragment string) string {
	t.Helper()
	const parameters = "w http.ResponseWriter, r *http.Request, mux *http.ServeMux, auth *descopehttp.Auth, config descopehttp.Config, home, orders, admin, payout http.Handler"
	source := func(imports, uses string) string {
		return "package main\n" + imports + "\nfunc main() {}\n\nfunc fragment(" + parameters + ") {\n" + fragment + uses + "}\n\nvar _ = fragment\n"
	}
	file, err := parser.ParseFile(token.NewFileSet(), "", source("", ""), 0)
	require.NoError(t, err, fragment)
	named := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && packages[x.Name] != "" {
				named[x.Name] = true
			}
		}
		return true
	})
	imports, uses := "", ""
	for _, name := range slices.Sorted(maps.Keys(named)) {
		imports += "import " + name + " \"" + packages[name] + "\"\n"
	}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == "fragment" {
			for _, name := range declaredIn(fn.Body) {
				uses += "_ = " + name + "\n"
			}
		}
	}
	return source(imports, uses)
}

func declaredIn(body *ast.BlockStmt) []string {
	var names []string
	for _, statement := range body.List {
		if assign, ok := statement.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
			for _, left := range assign.Lhs {
				if name := left.(*ast.Ident).Name; name != "_" {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// checkNginx has nginx read a block, around which there is what it says nothing of.
func checkNginx(t *testing.T, code string) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		kittest.Missing(t, "no nginx: %v", err)
	}
	if !strings.Contains(code, "server {") {
		code = "server {\nlisten 127.0.0.1:8080;\n" + code + "}\n"
	}
	dir := t.TempDir()
	config := strings.ReplaceAll(`pid DIR/pid; error_log stderr;
events {}
http {
access_log off;
client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
`, "DIR", dir) + code + "}\n"
	path := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o666))
	out, err := exec.Command(nginx, "-t", "-p", dir, "-c", path, "-e", "stderr").CombinedOutput()
	require.NoError(t, err, "%s", bytes.TrimSpace(out))
}
