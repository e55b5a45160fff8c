// Package sdk_test drives the emulator and the kit with Descope's own JavaScript
// clients. The tests themselves are in JavaScript, beside this file; here is what
// starts the programs that they talk to.
package sdk_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"

	// A change of these is a change of the test.
	_ "github.com/descopehttp/descopehttp"
	_ "github.com/descopehttp/descopehttp/descopetest"
)

const (
	projectID = "P2descopetest00000000000000A"
	keyID     = "SKofthesdktests"
)

// patience bounds every wait for something that must happen.
const patience = 5 * time.Minute

func TestSDKs(t *testing.T) {
	s := newSuite(t)
	t.Run("outages", func(t *testing.T) { // the longest, so the first
		t.Parallel()
		s.run(t, setup{"ES256", true, "body"}, "outage.test.js")
	})
	for _, alg := range []string{"RS256", "ES256"} {
		for _, rotate := range []bool{false, true} {
			for _, tokens := range []string{"body", "cookies"} {
				t.Run(fmt.Sprintf("%s,rotate=%t,%s", alg, rotate, tokens), func(t *testing.T) {
					t.Parallel()
					s.run(t, setup{alg, rotate, tokens}, "core.test.js", "node.test.js", "wire.test.js")
				})
			}
		}
	}
}

// A setup is how Descope, that is, the emulator behaves.
type setup struct {
	alg    string
	rotate bool
	tokens string // where it puts them
}

// A suite is what all runs share.
type suite struct {
	node     string
	scripts  string            // folder, with the packages installed
	programs map[string]string // that were built, by name
}

func newSuite(t *testing.T) *suite {
	node := requireNode(t)
	s := &suite{node: node, scripts: t.TempDir(), programs: map[string]string{}}
	install(t, s.scripts)
	bin := t.TempDir()
	for name, folder := range map[string]string{
		"emulator":  filepath.Join("testdata", "emulator"),
		"example":   filepath.Join("testdata", "example"),
		"kitserver": "kitserver",
	} {
		readSources(t, folder)
		dir, err := filepath.EvalSymlinks(folder)
		require.NoError(t, err)
		program := filepath.Join(bin, name+exeSuffix())
		// In the folder itself, which belongs to one module or another.
		build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
		build.Dir = dir
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		s.programs[name] = program
	}
	return s
}

// readSources reads a program's sources. The go command keeps the result of a
// test until something changes that it has seen the test read, and it sees only
// what is inside this module: hence the links in testdata.
func readSources(t *testing.T, folder string) {
	t.Helper()
	sources := os.DirFS(folder)
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			_, err = fs.ReadFile(sources, path)
		}
		return err
	})
	require.NoError(t, err)
}

func exeSuffix() string {
	if filepath.Separator == '\\' {
		return ".exe"
	}
	return ""
}

var nodeVersion = regexp.MustCompile(`^v(\d+)\.`)

// requireNode returns the path of a Node.js that has a test runner.
func requireNode(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		kittest.Missing(t, "Descope's JavaScript clients need Node.js, which is not installed: %v", err)
	}
	if _, err := exec.LookPath("npm"); err != nil {
		kittest.Missing(t, "Descope's JavaScript clients come with npm, which is not installed: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), node, "--version").Output()
	if err != nil {
		kittest.Missing(t, "node --version: %v", err)
	}
	match := nodeVersion.FindSubmatch(out)
	require.NotNil(t, match, "%s", out)
	if major, _ := strconv.Atoi(string(match[1])); major < 20 {
		kittest.Missing(t, "Node.js 20 or newer is needed, this is %s", out)
	}
	return node
}

// install puts the scripts into dir, and beside them the packages that
// package-lock.json names. Those are installed once, into the user's cache.
func install(t *testing.T, dir string) {
	t.Helper()
	scripts, err := filepath.Glob("*.js")
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	copyFiles(t, dir, append(scripts, "package.json")...)
	lock, err := os.ReadFile("package-lock.json")
	require.NoError(t, err)
	manifest, err := os.ReadFile("package.json")
	require.NoError(t, err)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	cache = filepath.Join(cache, "descopehttp")
	require.NoError(t, os.MkdirAll(cache, 0o755))
	installed := filepath.Join(cache, fmt.Sprintf("e2e-sdk-%x", sha256.Sum256(append(lock, manifest...))))
	if _, err := os.Stat(installed); errors.Is(err, fs.ErrNotExist) {
		// In a folder of its own first: another run may be at it, too.
		fresh, err := os.MkdirTemp(cache, "e2e-sdk-new-")
		require.NoError(t, err)
		defer os.RemoveAll(fresh)
		copyFiles(t, fresh, "package.json", "package-lock.json", ".npmrc")
		npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
		npm.Dir = fresh
		if out, err := npm.CombinedOutput(); err != nil {
			kittest.Missing(t, "npm ci: %v\n%s", err, out)
		}
		if err := os.Rename(fresh, installed); err != nil {
			require.DirExists(t, installed, "%v", err) // the other run was faster
		}
	}
	require.NoError(t, os.Symlink(filepath.Join(installed, "node_modules"), filepath.Join(dir, "node_modules")))
}

func copyFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
}

// run starts an emulator and the example, and lets Node.js run the tests of some
// files against them.
func (s *suite) run(t *testing.T, set setup, files ...string) {
	keyFile := newKeyFile(t, set.alg)
	emulator := s.start(t, "emulator", nil,
		"-addr", "127.0.0.1:0", "-code-reuse",
		"-project", projectID,
		"-rotate="+strconv.FormatBool(set.rotate),
		"-token-response", set.tokens,
		"-key", keyFile, "-kid", keyID)
	example := s.start(t, "example", []string{"DESCOPE_PROJECT_ID=" + projectID, "DESCOPE_BASE_URL=" + emulator}, "-addr", "127.0.0.1:0")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	node := exec.CommandContext(ctx, s.node, append([]string{"--test", "--test-reporter=spec"}, files...)...)
	node.Dir = s.scripts
	node.Env = append(os.Environ(),
		"PROJECT_ID="+projectID,
		"EMULATOR="+emulator,
		"EXAMPLE="+example,
		"KITSERVER="+s.programs["kitserver"],
		"KEY_FILE="+keyFile,
		"KID="+keyID,
		"ALG="+set.alg,
		"ROTATE="+strconv.FormatBool(set.rotate),
		"TOKENS="+set.tokens,
	)
	node.WaitDelay = time.Second // programs that it leaves behind have its output open
	out, err := node.CombinedOutput()
	if at := bytes.Index(out, []byte("failing tests:")); at >= 0 {
		out = out[at:] // those that passed are told before
	}
	require.NoError(t, err, "%s", out)
	passed := regexp.MustCompile(`(?m)^\S+ pass (\d+)$`).FindSubmatch(out)
	require.NotNil(t, passed, "%s", out)
	require.NotEqual(t, "0", string(passed[1]), "no test has run: %s", out)
	t.Logf("%s passed in %s", passed[1], strings.Join(files, ", "))
}

// start runs a program until the test ends, with env beside the test's own environment, and
// returns the URL that it says it listens on.
func (s *suite) start(t *testing.T, name string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(s.programs[name], args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	hung := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan(), "%s says nothing", name)
	url, ok := strings.CutPrefix(lines.Text(), "listening on ")
	t.Cleanup(func() {
		stop(cmd)
		for lines.Scan() {
		}
		err := cmd.Wait()
		assert.True(t, hung.Stop(), "%s had to be killed", name)
		assert.NoError(t, err, "%s did not end well", name)
		assert.NotContains(t, stderr.String(), "panic", name)
		if t.Failed() {
			t.Logf("%s: %s", name, stderr.String())
		}
	})
	require.True(t, ok, "%s says %q", name, lines.Text())
	return url
}

// stop asks a program to end; where that cannot be asked, it is killed.
func stop(cmd *exec.Cmd) {
	if cmd.Process.Signal(os.Interrupt) != nil {
		cmd.Process.Kill()
	}
}

// newKeyFile returns a file with a new private key.
func newKeyFile(t *testing.T, alg string) string {
	t.Helper()
	var key crypto.Signer
	var errRSA, errEC error
	if alg == "RS256" {
		key, errRSA = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, errEC = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	require.NoError(t, cmp.Or(errRSA, errEC))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return name
}
