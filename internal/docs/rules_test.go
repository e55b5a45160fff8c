package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const rulesIntro = `# Rules and the tests that hold them

Made from the ` + "`// Rule:`" + ` lines above the tests by ` + "`go test ./internal/docs -update`" + `. Each rule was checked by taking it
out: the tests beside it then failed. Tests without a folder are those of the root package.
`

// subjects are the sections of the page, in its order. A rule begins with one of them.
var subjects = []struct{ name, title string }{
	{"tokens", "Tokens"},
	{"keys", "Keys"},
	{"cookies", "Requests and cookies"},
	{"flows", "Flows"},
	{"answers", "Descope's answers"},
	{"guessing", "Guessing and floods"},
	{"renewing", "Renewing"},
	{"logout", "Logging out"},
	{"replicas", "Several replicas"},
	{"guards", "Guards and pages"},
}

// A ruledTest is a test and what stands above it.
type ruledTest struct {
	name, folder string
	rules        []string
}

func rulesPage(t *testing.T) string {
	tests := make(map[string][]string) // of a rule
	for _, test := range testsOfTheTree(t) {
		for _, rule := range test.rules {
			tests[rule] = append(tests[rule], test.label())
		}
	}
	var b strings.Builder
	b.WriteString(rulesIntro)
	for _, subject := range subjects {
		fmt.Fprintf(&b, "\n## %s\n\n| Rule | Tests |\n|---|---|\n", subject.title)
		var rows []string
		for rule, names := range tests {
			if text, found := strings.CutPrefix(rule, subject.name+": "); found {
				slices.Sort(names)
				rows = append(rows, fmt.Sprintf("| %s%s | %s |\n", strings.ToUpper(text[:1]), text[1:], strings.Join(names, ", ")))
			}
		}
		assert.NotEmpty(t, rows, "no rule about %s", subject.name)
		slices.Sort(rows)
		b.WriteString(strings.Join(rows, ""))
	}
	return b.String()
}

func (r *ruledTest) label() string {
	if r.folder == "." {
		return r.name
	}
	return r.name + " (" + r.folder + ")"
}

// A rule stands above the test that shows it, as one sentence about a subject.
func TestRulesStandAboveTests(t *testing.T) {
	found := 0
	for _, test := range testsOfTheTree(t) {
		for _, rule := range test.rules {
			subject, _, _ := strings.Cut(rule, ": ")
			known := slices.ContainsFunc(subjects, func(s struct{ name, title string }) bool { return s.name == subject })
			assert.True(t, known, "%s: a rule about %q", test.label(), subject)
			assert.True(t, strings.HasSuffix(rule, "."), "%s: no sentence: %s", test.label(), rule)
			found++
		}
	}
	require.Greater(t, found, 300, "the rules are gone")
}

// No page names a test that is not there.
func TestPagesNameTestsThatAreThere(t *testing.T) {
	declared := make(map[string]bool)
	for _, test := range testsOfTheTree(t) {
		declared[test.name] = true
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	for _, page := range append(pages, filepath.Join(root, "SECURITY.md"), filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`).FindAllString(withoutCode(readFile(t, page)), -1) {
			assert.True(t, declared[name], "%s names %s", filepath.Base(page), name)
		}
	}
}

// withoutCode cuts out the blocks of code, whose tests are those of a reader.
func withoutCode(page string) string {
	return regexp.MustCompile("(?ms)^ *```.*?^ *```$").ReplaceAllString(page, "")
}

// testsOfTheTree returns the tests of all modules. A rule that stands elsewhere than
// above one of them makes the test fail.
func testsOfTheTree(t *testing.T) []*ruledTest {
	t.Helper()
	tree, err := readTree()
	require.NoError(t, err)
	require.Empty(t, tree.stray, "rules without a test below them")
	return tree.tests
}

type tree struct {
	tests []*ruledTest
	stray []string // positions
}

var readTree = sync.OnceValues(func() (*tree, error) {
	var found tree
	files := os.DirFS(root)
	return &found, fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules"):
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		return found.read(name)
	})
})

func (f *tree) read(name string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	above := make(map[*ast.CommentGroup]bool)
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !isTest(fn.Name.Name) {
			continue
		}
		test := &ruledTest{name: fn.Name.Name, folder: path.Dir(name)}
		if fn.Doc != nil {
			above[fn.Doc] = true
			test.rules = rulesIn(fn.Doc)
		}
		f.tests = append(f.tests, test)
	}
	for _, comment := range file.Comments {
		if !above[comment] && len(rulesIn(comment)) > 0 {
			f.stray = append(f.stray, fset.Position(comment.Pos()).String())
		}
	}
	return nil
}

func isTest(name string) bool {
	return regexp.MustCompile(`^(Test|Fuzz)[A-Z]`).MatchString(name)
}

// rulesIn returns the rules of a comment. Each begins a line and goes on to the next, or
// to an empty line.
func rulesIn(comment *ast.CommentGroup) []string {
	var rules []string
	open := false
	for _, line := range comment.List {
		text := strings.TrimSpace(strings.TrimPrefix(line.Text, "//"))
		rule, begins := strings.CutPrefix(text, "Rule: ")
		switch {
		case begins:
			rules, open = append(rules, rule), true
		case text == "":
			open = false
		case open:
			rules[len(rules)-1] += " " + text
		}
	}
	return rules
}
