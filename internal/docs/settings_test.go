package docs_test

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/format"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const settingsIntro = `# Settings

Made from the comments in the source by ` + "`go test ./internal/docs -update`" + `. Zero values are the safe choice.
`

// settingsPage has a section for each type that a Config is made of, every field in it.
func settingsPage(t *testing.T) string {
	fset := token.NewFileSet()
	var files []*ast.File
	sources, err := filepath.Glob(filepath.Join(root, "*.go"))
	require.NoError(t, err)
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, source, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(fset, files, "github.com/descopehttp/descopehttp")
	require.NoError(t, err)
	s := &settings{t: t, fset: fset, pkg: pkg}
	s.b.WriteString(settingsIntro)
	for _, name := range []string{"Config", "Cookies", "Delivery", "Limits", "EarlyRenewal"} {
		s.section(name)
	}
	return s.b.String()
}

type settings struct {
	t    *testing.T
	fset *token.FileSet
	pkg  *doc.Package
	b    strings.Builder
}

func (s *settings) section(name string) {
	for _, found := range s.pkg.Types {
		if found.Name != name {
			continue
		}
		fmt.Fprintf(&s.b, "\n## %s\n\n%s", name, s.markdown(found.Doc))
		if fields, ok := found.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType); ok {
			for _, field := range fields.Fields.List {
				s.field(field)
			}
		}
		for _, group := range found.Consts {
			for _, spec := range group.Decl.Specs {
				s.constant(spec.(*ast.ValueSpec))
			}
		}
		return
	}
	require.Fail(s.t, "no such type", name)
}

func (s *settings) field(field *ast.Field) {
	var names []string
	for _, name := range field.Names {
		names = append(names, name.Name)
	}
	text := field.Doc.Text()
	require.NotEmpty(s.t, text, "%v has no comment", names)
	var typed strings.Builder
	require.NoError(s.t, format.Node(&typed, s.fset, field.Type))
	fmt.Fprintf(&s.b, "\n### %s\n\n`%s`\n\n%s", strings.Join(names, ", "), typed.String(), s.markdown(text))
}

func (s *settings) constant(spec *ast.ValueSpec) {
	text := spec.Doc.Text()
	if text == "" {
		text = spec.Comment.Text()
	}
	require.NotEmpty(s.t, text, "%v has no comment", spec.Names)
	said := strings.TrimPrefix(strings.TrimSpace(text), spec.Names[0].Name+" ")
	fmt.Fprintf(&s.b, "\n- `%s` %s", spec.Names[0].Name, strings.ReplaceAll(strings.TrimSpace(string(s.markdown(said))), "\n", "\n  "))
	s.b.WriteString("\n")
}

// markdown turns a comment into Markdown, its links into those of pkg.go.dev.
func (s *settings) markdown(text string) []byte {
	printer := s.pkg.Printer()
	printer.DocLinkBaseURL = "https://pkg.go.dev"
	printer.DocLinkURL = func(link *comment.DocLink) string {
		if link.ImportPath == "" {
			link.ImportPath = s.pkg.ImportPath
		}
		return link.DefaultURL(printer.DocLinkBaseURL)
	}
	return printer.Markdown(s.pkg.Parser().Parse(text))
}
