package descopehttp_test

import (
	"archive/zip"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever imports the root has no framework in go.mod or go.sum: the adapters
// are modules of their own.
func TestConsumerOfTheRootHasNoFramework(t *testing.T) {
	root, err := os.Getwd()
	require.NoError(t, err)
	dir := writeConsumer(t, `package consumer; import _ "`+module+`"`,
		module, versionOf(t, "adapters/descopegin"), "replace "+module+" => "+root)
	env := []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off"}
	runGo(t, dir, env, "mod", "tidy")

	sums := readFile(t, dir, "go.mod") + readFile(t, dir, "go.sum")
	packages := runGo(t, dir, env, "list", "-deps", "./...")
	for _, text := range []string{sums, packages} {
		require.Contains(t, text, "github.com/golang-jwt/jwt/v5")
		for _, adapter := range adapters(t) {
			assert.NotContains(t, text, frameworkOf(t, adapter))
		}
	}
}

// The program that the README begins with, and the test that it shows for it, do what
// it says.
func TestProgramOfTheReadme(t *testing.T) {
	root, err := os.Getwd()
	require.NoError(t, err)
	program, test := programOf(t, ".")
	dir := writeConsumer(t, program, module, versionOf(t, "adapters/descopegin"), "replace "+module+" => "+root)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "consumer_test.go"), []byte(test), 0o666))
	env := []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off"}
	runGo(t, dir, env, "mod", "tidy")
	runGo(t, dir, env, "vet", ".")
	runGo(t, dir, env, "test", ".")
}

// The replace lines of the adapters hold in this repository only. A consumer
// follows their require lines, to versions that are not tagged yet: so this
// serves the tree as it would be tagged, builds the program of each README and
// runs the test beside it.
func TestConsumersOfTheAdapters(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks and compiles the frameworks")
	}
	t.Parallel()
	proxy, cache := t.TempDir(), t.TempDir()
	list := adapters(t)
	version := versionOf(t, list[0])
	for _, dir := range append([]string{"."}, list...) {
		publish(t, proxy, dir, version)
	}
	var known struct{ GOMODCACHE, GOPROXY string }
	out, err := exec.Command("go", "env", "-json", "GOMODCACHE", "GOPROXY").Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &known))
	downloaded := filepath.Join(known.GOMODCACHE, "cache", "download")
	env := []string{
		// A cache of its own, because what is built here must not pass for the
		// tagged version later.
		"GOMODCACHE=" + cache,
		"GOPROXY=file://" + filepath.ToSlash(proxy) + ",file://" + filepath.ToSlash(downloaded) + "," + known.GOPROXY,
		"GOPRIVATE=", "GONOPROXY=none", "GOSUMDB=off",
		// Without paths in it, the frameworks are compiled once and not every time.
		"GOFLAGS=-mod=mod -modcacherw -trimpath",
	}
	for _, adapter := range list {
		t.Run(adapter, func(t *testing.T) {
			require.Equal(t, version, versionOf(t, adapter), "the adapters require one version of the root")
			program, test := programOf(t, adapter)
			dir := writeConsumer(t, program, module+"/"+adapter, version, "")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "consumer_test.go"), []byte(test), 0o666))
			runGo(t, dir, env, "test", ".")
			packages := strings.Fields(runGo(t, dir, env, "list", "-deps", "./..."))
			for _, pkg := range packages {
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

// adapters returns the folders of the adapters' modules.
func adapters(t *testing.T) []string {
	t.Helper()
	mods, err := filepath.Glob("adapters/*/go.mod")
	require.NoError(t, err)
	var list []string
	for _, mod := range mods {
		list = append(list, filepath.ToSlash(filepath.Dir(mod)))
	}
	require.Subset(t, list, []string{"adapters/descopechi", "adapters/descopeecho", "adapters/descopegin"})
	return list
}

// requirements returns what the go.mod in dir requires directly, and in which
// version.
func requirements(t *testing.T, dir string) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "mod", "edit", "-json", filepath.Join(dir, "go.mod")).Output()
	require.NoError(t, err)
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
	}
	require.NoError(t, json.Unmarshal(out, &mod))
	direct := make(map[string]string)
	for _, r := range mod.Require {
		if !r.Indirect {
			direct[r.Path] = r.Version
		}
	}
	return direct
}

// versionOf returns the version of the root that an adapter requires, which is
// the one about to be tagged.
func versionOf(t *testing.T, adapter string) string {
	t.Helper()
	version := requirements(t, adapter)[module]
	require.NotEmpty(t, version)
	require.NotEqual(t, "v0.0.0", version, "no such version will ever be tagged")
	return version
}

// frameworkOf returns the module that an adapter requires beside the root and
// what the root requires itself.
func frameworkOf(t *testing.T, adapter string) string {
	t.Helper()
	own := requirements(t, ".")
	var frameworks []string
	for path := range requirements(t, adapter) {
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
	for _, block := range strings.Split(readFile(t, dir, "README.md"), "\n```go\n")[1:] {
		if strings.HasPrefix(block, "package main\n") {
			code, _, _ := strings.Cut(block, "```\n")
			files = append(files, code)
		}
	}
	require.Len(t, files, 2)
	return files[0], files[1]
}

// writeConsumer returns the folder of a module that requires one other.
func writeConsumer(t *testing.T, source, path, version, replace string) string {
	t.Helper()
	dir := t.TempDir()
	mod := "module example.com/consumer\n\ngo 1.26.0\n\nrequire " + path + " " + version + "\n\n" + replace + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "consumer.go"), []byte(source), 0o666))
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
	write(version+".mod", readFile(t, dir, "go.mod"))

	f, err := os.Create(filepath.Join(at, version+".zip"))
	require.NoError(t, err)
	defer f.Close()
	z := zip.NewWriter(f)
	tree := os.DirFS(dir)
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
	require.NoError(t, err, "go %s:\n%s", strings.Join(args, " "), out)
	return string(out)
}

func readFile(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(content)
}
