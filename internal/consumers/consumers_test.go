//go:build !race

// Compiled programs of users run without the race detector, whatever these tests do.

package consumers_test

import (
	"archive/zip"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/descopehttp/descopehttp"
	root   = "../.." // of the repository
)

// offline makes the go command use only what is in the module cache already, and add
// to go.mod and go.sum what the packages need. `go mod tidy` would ask for the tests
// of all dependencies, too, which a workspace does not download.
var offline = []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off"}

// A workspace downloads one version of a module, the newest that any of its modules
// names. A module that names another one cannot be built by itself on a machine that
// has only seen the workspace.
func TestOneBuildList(t *testing.T) {
	versions := make(map[string]map[string][]string) // path → version → folders
	for _, dir := range modules(t) {
		for _, r := range requirements(t, dir) {
			if versions[r.Path] == nil {
				versions[r.Path] = make(map[string][]string)
			}
			versions[r.Path][r.Version] = append(versions[r.Path][r.Version], dir)
		}
	}
	require.NotEmpty(t, versions)
	for path, found := range versions {
		assert.Len(t, found, 1, "%s is named in more than one version", path)
	}
}

// Whoever imports the root has no framework in go.mod or go.sum: the adapters
// are modules of their own.
func TestConsumerOfTheRootHasNoFramework(t *testing.T) {
	dir := writeConsumer(t, `package consumer; import _ "`+module+`"`, "", module, module)
	packages := runGo(t, dir, offline, "list", "-deps", "./...")
	text := packages + readFile(t, dir, "go.mod") + readFile(t, dir, "go.sum")
	require.Contains(t, text, "github.com/golang-jwt/jwt/v5")
	for _, adapter := range adapters(t) {
		assert.NotContains(t, text, frameworkOf(t, adapter))
	}
}

// The program that the README of each adapter begins with, and the test that it shows for
// it, do what it says; TestGoBlocks is for the README of the kit. The other modules of the
// repository stand in for their published selves, so that what was compiled for them serves
// here, too.
func TestProgramsOfTheReadmes(t *testing.T) {
	for _, folder := range adapters(t) {
		t.Run(folder, func(t *testing.T) {
			program, test := programOf(t, folder)
			_, code, _ := strings.Cut(readFile(t, filepath.Join(root, folder, "example"), "main.go"), "package main\n")
			assert.Equal(t, "package main\n"+code, program, "the README prints another program than example/main.go")
			dir := writeConsumer(t, program, test, modulePath(folder), module)
			runGo(t, dir, offline, "vet", ".")
			runGo(t, dir, offline, "test", ".")
		})
	}
}

// The replace lines of the adapters hold in this repository only. A consumer
// follows their require lines, to versions that are not tagged yet: so this
// serves the tree as it would be tagged and looks at what a consumer gets of it.
func TestConsumersOfTheAdapters(t *testing.T) {
	env, list := tagged(t), adapters(t)
	version := versionOf(t, list[0])
	for _, adapter := range list {
		t.Run(adapter, func(t *testing.T) {
			require.Equal(t, version, versionOf(t, adapter), "the adapters require one version of the root")
			program, test := programOf(t, adapter)
			dir := writeConsumer(t, program, test, modulePath(adapter))
			runGo(t, dir, env, "list", "-deps", "-test", "./...")
			for _, pkg := range strings.Fields(runGo(t, dir, env, "list", "-deps", "./...")) {
				assert.NotEqual(t, "testing", pkg)
				assert.NotContains(t, pkg, "testify")
				assert.NotContains(t, []string{module + "/descopetest", module + "/internal/adaptertest"}, pkg)
			}

			sums := readFile(t, dir, "go.mod") + readFile(t, dir, "go.sum")
			assert.Contains(t, sums, module+" "+version)
			for _, other := range list {
				if framework := frameworkOf(t, other); other == adapter {
					assert.Contains(t, sums, framework)
				} else {
					assert.NotContains(t, sums, framework)
				}
			}
		})
	}
}

// Out of another cache of modules everything has to be compiled again.
var compile = flag.Bool("compile", false, "compile the consumers of the modules that are tagged")

// Whoever imports one of the other modules gets it as well, with what it names.
func TestConsumersOfTheOthers(t *testing.T) {
	env := tagged(t)
	for _, dir := range published(t) {
		if path.Dir(dir) == "adapters" {
			continue
		}
		t.Run(dir, func(t *testing.T) {
			consumer := writeConsumer(t, `package consumer; import _ "`+modulePath(dir)+`"`, "", modulePath(dir))
			runGo(t, consumer, env, "list", "-deps", "./...")
			if *compile {
				runGo(t, consumer, env, "build", "./...")
			}
			assert.Contains(t, readFile(t, consumer, "go.sum"), modulePath(dir)+" "+versionOf(t, adapters(t)[0]))
		})
	}
}

// tagged serves the tree as it would be tagged, and returns the environment of a go command
// that gets it from there.
func tagged(t *testing.T) (env []string) {
	t.Helper()
	proxy := t.TempDir()
	for _, dir := range published(t) {
		publish(t, proxy, dir, versionOf(t, adapters(t)[0]))
	}
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	downloaded := filepath.Join(strings.TrimSpace(string(out)), "cache", "download")
	return []string{
		// A cache of its own, because what is served here must not pass for the
		// tagged version later.
		"GOMODCACHE=" + t.TempDir(),
		"GOPROXY=" + fileURL(proxy) + "," + fileURL(downloaded),
		"GOPRIVATE=", "GONOPROXY=none", "GOSUMDB=off",
		"GOFLAGS=-mod=mod -modcacherw",
	}
}

// published returns the folders of the modules that are tagged. Nobody imports what is
// measured, driven or shown.
func published(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(modules(t), func(dir string) bool {
		top, _, _ := strings.Cut(dir, "/")
		return slices.Contains([]string{"bench", "e2e", "example"}, top)
	})
}

// modules returns the folders of the modules in the repository.
func modules(t *testing.T) []string {
	t.Helper()
	var list []string
	tree := os.DirFS(root)
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.Name() == "go.mod":
			list = append(list, path.Dir(name))
		}
		return nil
	}))
	require.Subset(t, list, []string{".", "adapters/descopechi", "bench", "e2e", "stores/descoperedis"})
	return list
}

// adapters returns the folders of the adapters' modules.
func adapters(t *testing.T) []string {
	t.Helper()
	list := slices.DeleteFunc(modules(t), func(dir string) bool { return path.Dir(dir) != "adapters" })
	require.Subset(t, list, []string{"adapters/descopechi", "adapters/descopeecho", "adapters/descopegin"})
	return list
}

func fileURL(path string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String()
}

func modulePath(dir string) string { return path.Join(module, dir) }

type requirement struct {
	Path, Version string
	Indirect      bool
}

// requirements returns what the go.mod in dir requires.
func requirements(t *testing.T, dir string) []requirement {
	t.Helper()
	var mod struct{ Require []requirement }
	require.NoError(t, json.Unmarshal([]byte(runGo(t, filepath.Join(root, dir), nil, "mod", "edit", "-json")), &mod))
	return mod.Require
}

// direct returns what the go.mod in dir requires directly, and in which version.
func direct(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, r := range requirements(t, dir) {
		if !r.Indirect {
			found[r.Path] = r.Version
		}
	}
	return found
}

// versionOf returns the version of the root that an adapter requires, which is
// the one about to be tagged.
func versionOf(t *testing.T, adapter string) string {
	t.Helper()
	version := direct(t, adapter)[module]
	require.NotEmpty(t, version)
	require.NotEqual(t, "v0.0.0", version, "no such version will ever be tagged")
	return version
}

// frameworkOf returns the module that an adapter requires beside the root and
// what the root requires itself.
func frameworkOf(t *testing.T, adapter string) string {
	t.Helper()
	own := direct(t, ".")
	var frameworks []string
	for path := range direct(t, adapter) {
		if _, ok := own[path]; !ok && path != module {
			frameworks = append(frameworks, path)
		}
	}
	require.Len(t, frameworks, 1, "an adapter is for one framework")
	return frameworks[0]
}

// programOf returns the program in the README in dir, and its test.
func programOf(t *testing.T, dir string) (program, test string) {
	t.Helper()
	var files []string
	for _, block := range strings.Split(readFile(t, filepath.Join(root, dir), "README.md"), "\n```go\n")[1:] {
		if strings.HasPrefix(block, "package main\n") {
			code, _, _ := strings.Cut(block, "```\n")
			files = append(files, code)
		}
	}
	require.Len(t, files, 2)
	return files[0], files[1]
}

// writeConsumer returns the folder of a module that requires the one at path. What is
// replaced comes from this repository, and path then does, too.
func writeConsumer(t *testing.T, program, test, path string, replaced ...string) string {
	t.Helper()
	dir := t.TempDir()
	version := versionOf(t, adapters(t)[0])
	mod := "module example.com/consumer\n\ngo 1.26.0\n\nrequire " + path + " " + version + "\n"
	if len(replaced) > 0 && !slices.Contains(replaced, path) {
		replaced = append(replaced, path)
	}
	for _, path := range replaced {
		mod += fmt.Sprintf("require %s %s\n", path, version)
		from, err := filepath.Abs(filepath.Join(root, strings.TrimPrefix(path, module)))
		require.NoError(t, err)
		mod += fmt.Sprintf("replace %s => %q\n", path, from)
	}
	for name, content := range map[string]string{"go.mod": mod, "consumer.go": program, "consumer_test.go": test} {
		if content != "" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666))
		}
	}
	return dir
}

// publish puts the module in dir into a proxy's folder. The layout is that of
// https://go.dev/ref/mod#goproxy-protocol and #zip-files.
func publish(t *testing.T, proxy, dir, version string) {
	t.Helper()
	path := module
	if dir != "." {
		path += "/" + dir
	}
	at := filepath.Join(proxy, filepath.FromSlash(path), "@v")
	require.NoError(t, os.MkdirAll(at, 0o777))
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(at, name), []byte(content), 0o666))
	}
	write("list", version+"\n")
	write(version+".info", `{"Version":"`+version+`"}`)
	write(version+".mod", readFile(t, filepath.Join(root, dir), "go.mod"))

	f, err := os.Create(filepath.Join(at, version+".zip"))
	require.NoError(t, err)
	defer f.Close()
	z := zip.NewWriter(f)
	tree := os.DirFS(filepath.Join(root, dir))
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != ".":
			if _, err := fs.Stat(tree, name+"/go.mod"); err == nil || strings.HasPrefix(name, ".") {
				return fs.SkipDir // a module of its own, or not of the module's
			}
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		w, err := z.Create(path + "@" + version + "/" + name)
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}))
	require.NoError(t, z.Close())
}

// runGo runs the go command of this toolchain in dir, outside of any workspace,
// and returns what it writes.
func runGo(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off", "GOTOOLCHAIN=local"), env...)
	out, err := cmd.CombinedOutput()
	if isMissing(string(out)) {
		require.NoError(t, err, "go %s needs a module that `go test work` does not download: does every go.mod name the version that the others name?\n%s",
			strings.Join(args, " "), out)
	}
	require.NoError(t, err, "go %s:\n%s", strings.Join(args, " "), out)
	return string(out)
}

// isMissing reports whether the go command says that it lacks a module and may not
// look for it elsewhere.
func isMissing(output string) bool {
	return strings.Contains(output, "module lookup disabled by GOPROXY=off") || strings.Contains(output, "reading file://")
}

func readFile(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(content)
}
