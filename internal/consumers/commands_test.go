//go:build !race

package consumers_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A shell runs the commands of one page, in one folder, where the example and the emulator
// listen on the ports of their own, and own.example is a server for native clients.
type shell struct {
	t        *testing.T
	dir      string
	env      []string
	curlrc   string
	emulator string // where it listens in truth
}

// The commands in the pages do what is printed there.
func TestCommandBlocks(t *testing.T) {
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			kittest.Missing(t, "no %s: %v", program, err)
		}
	}
	tools := buildTools(t)
	for page, blocks := range pagesWithCode(t) {
		if blocks = only(blocks, "sh", "console"); len(blocks) > 0 {
			t.Run(page, func(t *testing.T) { newShell(t, tools).play(blocks) })
		}
	}
}

// buildTools returns a folder with the programs that the pages start, and a go command.
func buildTools(t *testing.T) string {
	t.Helper()
	tools := t.TempDir()
	build := exec.Command("go", "build", "-o", tools+"/", "./example", "./cmd/descope-emulator")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(filepath.Join(tools, "go"), []byte(goOfThePages), 0o777))
	return tools
}

func newShell(t *testing.T, tools string) *shell {
	t.Helper()
	s := &shell{t: t, dir: t.TempDir()}
	tree, err := filepath.Abs(root)
	require.NoError(t, err)
	real, err := exec.LookPath("go")
	require.NoError(t, err)
	s.env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "TREE="+tree, "MODULE="+module, "TOOLS="+tools, "GO="+real,
		"PROJECT_ID="+kittest.ProjectID, "MANAGEMENT_KEY=key")
	for _, name := range []string{"GOCACHE", "GOPATH", "GOMODCACHE"} { // which depend on HOME
		out, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		s.env = append(s.env, name+"="+strings.TrimSpace(string(out)))
	}
	s.startOwn()
	s.emulator = s.start(nil, filepath.Join(tools, "descope-emulator"), "-code-reuse", "-project", kittest.ProjectID, "-user", "ada@example.com,admin")
	s.connect("127.0.0.1:8090", s.emulator)
	s.connect("127.0.0.1:8080", s.start([]string{"DESCOPE_PROJECT_ID=" + kittest.ProjectID, "DESCOPE_BASE_URL=http://" + s.emulator}, filepath.Join(tools, "example")))
	out, err := s.run(s.withCode(`curl -c jar -H 'Content-Type: application/json' -d '{"loginId":"ada@example.com","code":"000000"}' `+
		`http://127.0.0.1:8080/account/v1/auth/totp/verify`), "fail-with-body")
	require.NoError(t, err, "%s", out)
	return s
}

// play runs blocks, one after the other. A call that fails is a failure in a script, and in
// a console what is printed says.
func (s *shell) play(blocks []block) {
	for _, b := range blocks {
		if b.language == "sh" {
			out, err := s.run("set -e\n"+b.code, "fail-with-body")
			require.NoError(s.t, err, "%s\n%s", b.code, out)
			continue
		}
		for command, printed := range commandsOf(b.code) {
			out, err := s.run(s.withCode(command), "")
			require.NoError(s.t, err, "%s\n%s", command, out)
			assertLike(s.t, command, printed, out)
		}
	}
}

// goOfThePages is the go command for what pages print. Programs that serve are stopped once
// they do, tests are built and their flags read, and what is not published yet is in the
// tree.
const goOfThePages = `#!/bin/bash
cd "$TREE"
case "$1 $2" in
"get $MODULE"*)
	module=${2%@*}
	exec test -f "./${module#"$MODULE"}/go.mod";;
"run ./"* | "run $MODULE/"*)
	program=${2%@*}
	exec 3< <(exec "$TOOLS/$(basename "$program")" "${@:3}" -addr 127.0.0.1:0 2>/dev/null)
	pid=$!
	IFS= read -r line <&3
	kill "$pid"
	[[ $line == "listening on "* ]];;
"mod "* | "run .")
	;; # the first program of the README is run by TestFirstProgram of e2e
"test work")
	exec "$GO" list work >/dev/null;;
"test "*)
	exec "$GO" test -run '^$' "${@:2}";;
*)
	exec "$GO" "$@";;
esac
`

// startOwn starts a server for native clients, which answers for Descope's management API
// too. The tokens of a sign-in there are in the environment.
func (s *shell) startOwn() {
	s.t.Helper()
	k := kittest.New(s.t, func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody })
	mux := http.NewServeMux()
	mux.Handle("/auth/", k.Handler())
	mux.Handle("/app/", k.RequireSession(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	mux.HandleFunc("POST /v1/mgmt/", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		if json.NewDecoder(r.Body).Decode(&body) != nil || body["loginId"] == "" || r.Header.Get("Authorization") != "Bearer "+kittest.ProjectID+":key" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	server := httptest.NewTLSServer(mux)
	s.t.Cleanup(server.Close)
	for _, host := range []string{"own.example:443", "api.descope.com:443"} {
		s.connect(host, strings.TrimPrefix(server.URL, "https://"))
	}
	tokens := k.Project.SignIn(kittest.Ada)
	s.env = append(s.env, "SESSION="+tokens.Session, "REFRESH="+tokens.Refresh)
}

// connect has curl find a host elsewhere.
func (s *shell) connect(host, address string) {
	s.curlrc += fmt.Sprintf("connect-to = \"%s:%s\"\n", host, address)
}

// start runs a program until the test ends, and returns where it listens.
func (s *shell) start(env []string, program string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(program, append(args, "-addr", "127.0.0.1:0")...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(s.t, err)
	address, found := strings.CutPrefix(strings.TrimSpace(line), "listening on http://")
	require.True(s.t, found, line)
	return address
}

func (s *shell) run(script, curlOption string) (string, error) {
	s.t.Helper()
	home := s.t.TempDir()
	require.NoError(s.t, os.WriteFile(filepath.Join(home, ".curlrc"), []byte("insecure\n"+s.curlrc+curlOption+"\n"), 0o666))
	cmd := exec.CommandContext(s.t.Context(), "bash", "-c", script)
	cmd.Dir, cmd.Env = s.dir, append(s.env, "HOME="+home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var (
	codePattern    = regexp.MustCompile(`"code":"\d{6}"`)
	loginIDPattern = regexp.MustCompile(`"loginId":"([^"]+)"`)
)

// withCode puts the code of now into a command that has one, as a reader would.
func (s *shell) withCode(command string) string {
	s.t.Helper()
	login := loginIDPattern.FindStringSubmatch(command)
	if login == nil || !codePattern.MatchString(command) {
		return command
	}
	res, err := http.Get("http://" + s.emulator + "/_emulator/code?loginId=" + login[1])
	require.NoError(s.t, err)
	defer res.Body.Close()
	var shown struct{ Code string }
	content, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, json.Unmarshal(content, &shown), "%s", content)
	return codePattern.ReplaceAllString(command, `"code":"`+shown.Code+`"`)
}

// commandsOf yields what is typed in a console, and what is printed after it.
func commandsOf(code string) func(yield func(command, printed string) bool) {
	return func(yield func(string, string) bool) {
		for _, part := range strings.Split("\n"+code, "\n$ ")[1:] {
			command, printed := "", part
			for {
				line, rest, _ := strings.Cut(printed, "\n")
				command, printed = command+line+"\n", rest
				if !strings.HasSuffix(line, `\`) {
					break
				}
			}
			if !yield(command, printed) {
				return
			}
		}
	}
}

// assertLike compares what a page prints with what a command has written: the first word,
// or, of JSON, the names that are printed and the values that are the same every time.
func assertLike(t *testing.T, command, printed, written string) {
	t.Helper()
	for line := range strings.Lines(printed) {
		if !strings.HasPrefix(line, "{") {
			first, _, _ := strings.Cut(line, " ")
			assert.Contains(t, written, strings.TrimSpace(first), command)
			continue
		}
		for _, member := range regexp.MustCompile(`"(\w+)":(true|false|""|\[\]|\d{3}\b)?`).FindAllString(line, -1) {
			assert.Contains(t, written, member, command)
		}
	}
}
