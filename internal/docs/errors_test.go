package docs_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const errorsIntro = `# Errors

Made from [internal/problem](../internal/problem/table.go) by ` + "`go test ./internal/docs -update`" + `.

Every error is JSON: a problem document (RFC 9457) with a stable ` + "`code`" + `, and Descope's ` + "`errorCode`" + ` beside it. In Go,
` + "`errors.As`" + ` finds a ` + "`*descopehttp.Problem`" + ` with the same status and code. The middleware can answer otherwise
(` + "`Config.ErrorHandler`, `Config.LoginURL`" + `); the flows always answer JSON, but that a form is sent back to its page with
` + "`error=<code>`" + ` in the query.

Where two statuses are named, the first is the middleware's and the second the flows', whose clients drop their session at
a 4xx and hang at a 503. A flow that cannot tell in time answers 504.

| status | ` + "`code`" + ` | what happened | what the client should do |
|---|---|---|---|
`

const errorsEnd = `
## Users see 503

The kit cannot tell whether they are signed in, and keeps their cookies. [operations.md](operations.md#users-see-503) says
where to look.

## When cookies are deleted

Only when they can never work again: on logout, when the refresh token itself has expired, when Descope says that it was
logged out, or has refused it twice ten seconds apart, and when the cookies name two users.
`

// errorsPage has a line for each entry of the table.
func errorsPage(t *testing.T) string {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "internal", "problem", "table.go"), nil, parser.ParseComments)
	require.NoError(t, err)
	var rows []string
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			rows = append(rows, errorRow(t, spec.(*ast.ValueSpec)))
		}
	}
	require.Greater(t, len(rows), 20)
	slices.SortStableFunc(rows, func(a, b string) int { return cmp.Compare(a[:len("| 400")], b[:len("| 400")]) })
	return errorsIntro + strings.Join(rows, "") + errorsEnd
}

func errorRow(t *testing.T, spec *ast.ValueSpec) string {
	t.Helper()
	happened, client, found := strings.Cut(strings.TrimSpace(spec.Doc.Text()), "\nClient: ")
	require.True(t, found, "%s does not say what a client should do", spec.Names[0])
	fields := make(map[string]string)
	for _, element := range spec.Values[0].(*ast.UnaryExpr).X.(*ast.CompositeLit).Elts {
		pair := element.(*ast.KeyValueExpr)
		if value, ok := pair.Value.(*ast.BasicLit); ok {
			fields[pair.Key.(*ast.Ident).Name] = value.Value
		}
	}
	code, err := strconv.Unquote(fields["Code"])
	require.NoError(t, err)
	status := fields["Status"]
	if flow := fields["flow"]; flow != "" {
		status += ", " + flow
	}
	oneLine := strings.NewReplacer("\n", " ")
	return fmt.Sprintf("| %s | `%s` | %s | %s |\n", status, code, oneLine.Replace(strings.TrimSuffix(happened, ".")), oneLine.Replace(strings.TrimSuffix(client, ".")))
}
