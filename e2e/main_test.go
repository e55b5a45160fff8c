// Package e2e drives the example, and Descope's own browser SDK on a mount of
// the kit, in a real browser over real HTTP. It needs a Chromium (the package
// chromium of Debian, or the path of one in CHROMIUM) and npm; where either is
// missing its tests skip, unless DESCOPEHTTP_CI is set: then they fail.
//
//	go test . -run Pages -screenshots DIR
//
// writes a picture of every page, in both colour schemes, wide and narrow. Those
// in docs/screenshots are two of them.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

var screenshots = flag.String("screenshots", "", "`folder` to write a picture of every page to")

// workFolder holds what the tests build; TestMain removes it.
var workFolder string

func TestMain(m *testing.M) {
	// What takes time here is waiting for sessions to end, not computing.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if workFolder, err = os.MkdirTemp("", "descopehttp-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(workFolder)
	defer closeBrowser()
	return m.Run()
}

// exampleProgram builds the example once, from the root of the repository.
//
// The go command keeps the result of a test until something changes that it has
// seen the test read. It cannot see into another program, so the sources are
// read here, through a link that is inside this module.
var exampleProgram = sync.OnceValues(func() (string, error) {
	sources := os.DirFS(filepath.Join("testdata", "example"))
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		_, err = fs.ReadFile(sources, path)
		return err
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(workFolder, "example")
	return path, command("..", "go", "build", "-o", path, "./example")
})

// webFolder installs the packages of web/ once, in a copy, so that nothing is
// written to the repository.
var webFolder = sync.OnceValues(func() (string, error) {
	folder := filepath.Join(workFolder, "web")
	if err := os.CopyFS(folder, os.DirFS("web")); err != nil {
		return "", err
	}
	return folder, command(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
})

// webPackages returns the folder with the npm packages of web/ in it.
func webPackages(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		kittest.Missing(t, "needs npm, which is not in PATH")
	}
	folder, err := webFolder()
	if err != nil {
		kittest.Missing(t, "needs the npm packages of e2e/web: %v", err)
	}
	return filepath.Join(folder, "node_modules")
}

func command(folder, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, output.String())
	}
	return nil
}
