//go:build !race

package consumers_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
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

// pagesWithCode returns the blocks of the pages for users, by page.
func pagesWithCode(t *testing.T) map[string][]block {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	found := make(map[string][]block)
	for _, page := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		if blocks := blocksOf(readFile(t, filepath.Dir(page), filepath.Base(page))); len(blocks) > 0 {
			found[filepath.Base(page)] = blocks
		}
	}
	return found
}

func only(blocks []block, languages ...string) []block {
	return slices.DeleteFunc(slices.Clone(blocks), func(b block) bool { return !slices.Contains(languages, b.language) })
}

// No block is of a language that nobody runs. Those of html are played in e2e, by
// TestPagesAsPrinted, and what is only text says so.
func TestLanguagesOfBlocks(t *testing.T) {
	found := 0
	for page, blocks := range pagesWithCode(t) {
		for _, b := range blocks {
			assert.Contains(t, []string{"go", "sh", "console", "html", "nginx", "text"}, b.language, page)
			found++
		}
	}
	require.Greater(t, found, 15)
}

// The programs in the pages compile as they are printed, pass the tests that are printed
// after them, and the fragments compile with what they leave out around them.
func TestGoBlocks(t *testing.T) {
	var all strings.Builder
	sources := make(map[string]string) // by file
	for page, blocks := range pagesWithCode(t) {
		if page == "testing.md" {
			continue // its tests are one program: TestProgramOfTesting runs them
		}
		program := ""
		for i, b := range only(blocks, "go") {
			dir := fmt.Sprintf("%s%d", strings.TrimSuffix(page, ".md"), i)
			switch {
			case !strings.HasPrefix(b.code, "package "):
				sources[dir+"/fragment.go"] = wholeOf(t, b.code)
			case strings.Contains(b.code, "\nfunc Test"):
				require.NotEmpty(t, program, "%s: a test without a program before it", page)
				sources[dir+"/program.go"], sources[dir+"/program_test.go"] = program, b.code
			default:
				program = b.code
				sources[dir+"/program.go"] = program
			}
		}
	}
	require.NotEmpty(t, sources)
	for _, source := range sources {
		all.WriteString(source)
	}
	dir := writeConsumer(t, "", "", module, ownModules(t, all.String())...)
	for name, source := range sources {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(source), 0o666))
	}
	runGo(t, dir, offline, "vet", "./...")
	runGo(t, dir, offline, "test", "./...")
}

// ownModules returns the modules of the repository that code imports.
func ownModules(t *testing.T, code string) []string {
	folders := modules(t)
	var found []string
	for _, match := range regexp.MustCompile(`"`+regexp.QuoteMeta(module)+`/?([\w/]*)"`).FindAllStringSubmatch(code, -1) {
		folder := match[1]
		for folder != "" && !slices.Contains(folders, folder) {
			folder, _ = path.Split(folder)
			folder = strings.TrimSuffix(folder, "/")
		}
		if owner := modulePath(folder); !slices.Contains(found, owner) {
			found = append(found, owner)
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

// nginx takes the blocks for it, with around them what they say nothing of.
func TestNginxBlocks(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		kittest.Missing(t, "no nginx: %v", err)
	}
	for page, blocks := range pagesWithCode(t) {
		for _, b := range only(blocks, "nginx") {
			out, err := exec.Command(nginx, append([]string{"-t"}, nginxArgs(t, b.code)...)...).CombinedOutput()
			require.NoError(t, err, "%s: %s", page, bytes.TrimSpace(out))
		}
	}
}

func nginxArgs(t *testing.T, code string) []string {
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
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o666))
	return []string{"-p", dir, "-c", file, "-e", "stderr"}
}
