package descopehttp_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/descopehttp/descopehttp"

// dependencies returns the packages that end up in the binary of whoever imports
// pkg.
func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", pkg).Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, pkg)
	return deps
}

// The root package is what every user pays for.
func TestRootDependencies(t *testing.T) {
	allowed := []string{
		module,
		"github.com/golang-jwt/jwt/v5",
		"github.com/MicahParks/",
		"github.com/go-json-experiment/json",
		"github.com/maypok86/otter/v2",
		"golang.org/x/",
	}
	for _, dep := range dependencies(t, module) {
		first, _, _ := strings.Cut(dep, "/")
		if !strings.Contains(first, ".") {
			assert.NotEqual(t, "testing", dep)
			continue // the standard library
		}
		assert.True(t, hasAnyPrefix(dep, allowed), "%s is not a dependency of the root package", dep)
		assert.False(t, strings.HasPrefix(dep, module+"/"), "the root imports %s; dependencies point the other way", dep)
	}
}

// What descopetest imports ends up in the test binaries of users, and through
// the emulator in a program.
func TestDescopetestDependencies(t *testing.T) {
	for _, dep := range dependencies(t, module+"/descopetest") {
		assert.NotEqual(t, module, dep, "descopetest must not import what it tests")
		assert.NotEqual(t, "testing", dep)
		assert.NotContains(t, dep, "testify")
	}
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
