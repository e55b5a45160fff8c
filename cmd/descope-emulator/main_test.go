package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

const (
	ann     = "ann@example.com"
	project = "P2descopetest00000000000000A" // descopetest's own

)

// object is a JSON object as a client sees it.
type object = map[string]any

// program is the emulator, running.
type program struct {
	*kittest.Program
	addr string
}

// start runs the emulator on a free port, with ann.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	args = append([]string{"-addr", "127.0.0.1:0", "-user", ann + ",reader,editor"}, args...)
	p := kittest.Start(t, func(ctx context.Context, stdout, stderr io.Writer) int { return run(ctx, args, stdout, stderr) })
	return &program{p, strings.TrimPrefix(p.URL, "http://")}
}

// startES256 is start with keys that cost nothing.
func startES256(t *testing.T, args ...string) *program {
	t.Helper()
	return start(t, append([]string{"-alg", "ES256"}, args...)...)
}

type reply struct {
	*http.Response
	raw  string
	body object // nil if raw is no object
}

// send makes a request. Headers come in pairs; "Host" sets the host.
func send(t *testing.T, method, url, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	r := reply{Response: res, raw: string(raw)}
	_ = json.Unmarshal(raw, &r.body)
	return r
}

// call makes a call of the project as Descope's clients do.
func (p *program) call(t *testing.T, method, path, token, body string) reply {
	t.Helper()
	bearer := "Bearer " + project
	if token != "" {
		bearer += ":" + token
	}
	return send(t, method, p.URL+path, body, "Authorization", bearer, "Content-Type", "application/json")
}

func (p *program) post(t *testing.T, path, token, body string) reply {
	t.Helper()
	return p.call(t, http.MethodPost, path, token, body)
}

// control drives the emulator, and requires it to say that it did.
func (p *program) control(t *testing.T, method, name, body string) object {
	t.Helper()
	r := send(t, method, p.URL+"/_emulator/"+name, body)
	require.Equal(t, http.StatusOK, r.StatusCode, r.raw)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.NotNil(t, r.body, r.raw)
	return r.body
}

func (p *program) codeOf(t *testing.T, loginID string) string {
	t.Helper()
	return p.control(t, http.MethodGet, "code?loginId="+loginID, "")["code"].(string)
}

// signIn signs in with the code that the emulator tells.
func (p *program) signIn(t *testing.T, loginID string) reply {
	t.Helper()
	r := p.post(t, kittest.VerifyPath, "", `{"loginId":"`+loginID+`","code":"`+p.codeOf(t, loginID)+`"}`)
	require.Equal(t, http.StatusOK, r.StatusCode, r.raw)
	return r
}

func TestAnnouncement(t *testing.T) {
	p := startES256(t)
	assert.Equal(t, "listening on "+p.URL+"\n"+
		"DESCOPE_PROJECT_ID="+project+"\n"+
		"DESCOPE_BASE_URL="+p.URL+"\n"+
		"DESCOPE_PROJECT_ID="+project+" DESCOPE_BASE_URL="+p.URL+" go run ./example\n", p.Stdout.String())
	assert.Contains(t, p.Stderr.String(), "for development only")
	assert.NotContains(t, p.Stderr.String(), "beyond loopback")
	r := send(t, http.MethodGet, p.URL+"/v2/keys/"+project, "")
	assert.Equal(t, http.StatusOK, r.StatusCode)

	p.signIn(t, ann)
	assert.Equal(t, 4, strings.Count(p.Stdout.String(), "\n"), "nothing follows")
}

func TestFlags(t *testing.T) {
	t.Run("defaults", func(t *testing.T) {
		p := start(t)
		in := p.signIn(t, ann)
		assert.Equal(t, false, in.body["firstSeen"], "the user was there already")
		assert.Empty(t, in.Cookies())
		header, session := kittest.Parts(t, in.body["sessionJwt"])
		assert.Equal(t, "RS256", header["alg"])
		assert.Equal(t, 600.0, session["exp"].(float64)-session["iat"].(float64))
		assert.Equal(t, []any{"reader", "editor"}, session["roles"])
		_, refresh := kittest.Parts(t, in.body["refreshJwt"])
		assert.Equal(t, 4*7*86400.0, refresh["exp"].(float64)-refresh["iat"].(float64))
		renewed := p.post(t, kittest.RefreshPath, in.body["refreshJwt"].(string), "")
		assert.Equal(t, http.StatusOK, renewed.StatusCode)
		assert.Empty(t, renewed.body["refreshJwt"])
	})
	t.Run("others", func(t *testing.T) {
		const id = "P2euc1abcdefghijklmnopqrstuvwxyz"
		p := startES256(t, "-project", id, "-session-ttl", "3m", "-refresh-ttl", "1h", "-rotate", "-token-response", "cookies", "-user", "bob")
		assert.Contains(t, p.Stdout.String(), "DESCOPE_PROJECT_ID="+id+"\n")
		body := `{"loginId":"bob","code":"` + p.codeOf(t, "bob") + `"}`
		in := send(t, http.MethodPost, p.URL+kittest.VerifyPath, body, "Authorization", "Bearer "+id)
		require.Equal(t, http.StatusOK, in.StatusCode, in.raw)
		assert.Empty(t, in.body["sessionJwt"])
		assert.Empty(t, in.body["refreshJwt"])
		tokens := map[string]string{}
		for _, c := range in.Cookies() {
			tokens[c.Name] = c.Value
		}
		header, session := kittest.Parts(t, tokens["DS"])
		assert.Equal(t, "ES256", header["alg"])
		assert.Equal(t, 180.0, session["exp"].(float64)-session["iat"].(float64))
		assert.NotContains(t, session, "roles")
		_, refresh := kittest.Parts(t, tokens["DSR"])
		assert.Equal(t, 3600.0, refresh["exp"].(float64)-refresh["iat"].(float64))

		again := func() reply {
			return send(t, http.MethodPost, p.URL+kittest.RefreshPath, "", "Authorization", "Bearer "+id, "Cookie", "DSR="+tokens["DSR"])
		}
		assert.Len(t, again().Cookies(), 2)
		assert.Equal(t, http.StatusUnauthorized, again().StatusCode, "rotation spends")
	})
}

func TestUsage(t *testing.T) {
	long := strings.Repeat("x", 257)
	tests := map[string]struct {
		args []string
		want string
	}{
		"unknown flag":         {[]string{"-nope"}, "-nope"},
		"argument":             {[]string{"now"}, `"now"`},
		"every address":        {[]string{"-addr", ":8090"}, "-insecure-listen"},
		"unspecified":          {[]string{"-addr", "0.0.0.0:8090"}, "-insecure-listen"},
		"unspecified, IPv6":    {[]string{"-addr", "[::]:8090"}, "-insecure-listen"},
		"foreign address":      {[]string{"-addr", "192.0.2.1:8090"}, "-insecure-listen"},
		"mapped address":       {[]string{"-addr", "[::ffff:192.0.2.1]:8090"}, "-insecure-listen"},
		"no port":              {[]string{"-addr", "127.0.0.1"}, "-addr"},
		"impossible port":      {[]string{"-addr", "127.0.0.1:99999"}, "-addr"},
		"project":              {[]string{"-project", "demo"}, "ProjectID"},
		"no duration":          {[]string{"-session-ttl", "soon"}, "-session-ttl"},
		"short session":        {[]string{"-session-ttl", "1s"}, "-session-ttl"},
		"negative session":     {[]string{"-session-ttl", "-1m"}, "-session-ttl"},
		"fraction of a second": {[]string{"-session-ttl", "2500ms"}, "-session-ttl"},
		"session outlives":     {[]string{"-session-ttl", "2h", "-refresh-ttl", "1h"}, "-refresh-ttl"},
		"refresh fraction":     {[]string{"-refresh-ttl", "3600500ms"}, "-refresh-ttl"},
		"token response":       {[]string{"-token-response", "header"}, "-token-response"},
		"step-up fraction":     {[]string{"-step-up-ttl", "2500ms"}, "-step-up-ttl"},
		"inactivity":           {[]string{"-inactivity", "-1s"}, "-inactivity"},
		"attempts":             {[]string{"-max-attempts", "-1"}, "MaxAttempts"},
		"host with a port":     {[]string{"-host", "descope:8090"}, "-host"},
		"alg":                  {[]string{"-alg", "HS256"}, "HS256"},
		"key without kid":      {[]string{"-key", "key.pem"}, "-kid"},
		"kid without key":      {[]string{"-kid", "k"}, "-key"},
		"no such key":          {[]string{"-key", "nowhere.pem", "-kid", "k"}, "nowhere.pem"},
		"user without loginId": {[]string{"-user", ""}, "-user"},
		"empty role":           {[]string{"-user", "ann,"}, "-user"},
		"role without user":    {[]string{"-user", ",admin"}, "-user"},
		"user twice":           {[]string{"-user", "ann,reader", "-user", "ann"}, `"ann"`},
		"long loginId":         {[]string{"-user", long}, "257"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append([]string{"-addr", "127.0.0.1:0"}, test.args...)
			assert.Equal(t, exitUsage, run(t.Context(), args, &stdout, &stderr))
			assert.Empty(t, stdout.String())
			assert.Contains(t, stderr.String(), test.want)
			assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
		})
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitOK, run(t.Context(), []string{"-h"}, &stdout, &stderr))
	assert.Empty(t, stdout.String())
	for _, want := range []string{
		"for development only", "-addr", "-project", "-session-ttl", "-refresh-ttl", "-rotate", "-token-response",
		"-alg", "-key", "-kid", "-user", "-insecure-listen", "-host", "-code-reuse", "-max-attempts", "-inactivity", "-step-up-ttl",
		"/_emulator/requests", "/_emulator/reset", "/_emulator/rotate-keys", "/_emulator/fail", "/_emulator/code", "/_emulator/users",
	} {
		assert.Contains(t, stderr.String(), want)
	}
}

func TestInsecureListen(t *testing.T) {
	p := startES256(t, "-addr", "0.0.0.0:0", "-insecure-listen")
	host, _, err := net.SplitHostPort(p.addr)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", host, "an address that can be called")
	assert.Contains(t, p.Stderr.String(), "beyond loopback")
	p.signIn(t, ann)
}

// Another container knows it by a name, which it may drive it by as well.
func TestHost(t *testing.T) {
	p := startES256(t, "-addr", "0.0.0.0:0", "-insecure-listen", "-host", "descope")
	_, port, err := net.SplitHostPort(p.addr)
	require.NoError(t, err)
	assert.Contains(t, p.Stdout.String(), "listening on "+p.URL+"\n")
	assert.Contains(t, p.Stdout.String(), "DESCOPE_BASE_URL=http://descope:"+port+"\n")
	for host, want := range map[string]int{"descope:" + port: 200, "Descope": 200, "descope.example": 403, "": 200} {
		assert.Equal(t, want, send(t, http.MethodGet, p.URL+"/_emulator/requests", "", "Host", host).StatusCode, host)
	}
	assert.Equal(t, http.StatusForbidden, send(t, http.MethodGet, startES256(t).URL+"/_emulator/requests", "", "Host", "descope").StatusCode)
}

func TestFlagsForFrontEnds(t *testing.T) {
	p := startES256(t)
	code := p.codeOf(t, ann)
	body := `{"loginId":"` + ann + `","code":"` + code + `"}`
	require.Equal(t, http.StatusOK, p.post(t, kittest.VerifyPath, "", body).StatusCode)
	assert.Equal(t, http.StatusUnauthorized, p.post(t, kittest.VerifyPath, "", body).StatusCode, "each code works once")

	p = startES256(t, "-code-reuse", "-max-attempts", "2", "-step-up-ttl", "30s", "-inactivity", "12m")
	body = `{"loginId":"` + ann + `","code":"` + p.codeOf(t, ann) + `"`
	in := p.post(t, kittest.VerifyPath, "", body+`}`)
	require.Equal(t, http.StatusOK, in.StatusCode)
	assert.Equal(t, 720.0, in.body["nextRefreshSeconds"])
	up := p.post(t, kittest.VerifyPath, in.body["refreshJwt"].(string), body+`,"loginOptions":{"stepup":true}}`)
	require.Equal(t, http.StatusOK, up.StatusCode)
	_, session := kittest.Parts(t, up.body["sessionJwt"])
	assert.Equal(t, 30.0, session["exp"].(float64)-session["iat"].(float64))
	for _, want := range []string{"E061102", "E061102", "E061103"} {
		assert.Equal(t, want, p.post(t, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"x"}`).body["errorCode"])
	}
}

func TestLoopbackInAllItsForms(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "127.9.9.9:0", "localhost:0", "[::1]:0", "[::ffff:127.0.0.1]:0"} {
		_, err := parseSettings([]string{"-addr", addr}, io.Discard)
		assert.NoError(t, err, addr)
	}
}

func TestAddressInUse(t *testing.T) {
	p := startES256(t)
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitError, run(t.Context(), []string{"-addr", p.addr}, &stdout, &stderr))
	assert.Empty(t, stdout.String())
	assert.Contains(t, stderr.String(), "descope-emulator: -addr: ")
	assert.Contains(t, stderr.String(), "in use")
}

// A request under way when the program is told to stop is still answered.
func TestShutdown(t *testing.T) {
	p := startES256(t)
	p.control(t, http.MethodPost, "fail", `{"path":"`+kittest.SignUpPath+`","delayMs":500}`)
	answered := make(chan int, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodPost, p.URL+kittest.SignUpPath, strings.NewReader(`{"loginId":"bob"}`))
		req.Header.Set("Authorization", "Bearer "+project)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		res.Body.Close()
		answered <- res.StatusCode
	}()
	p.waitRequest(t, kittest.SignUpPath)
	p.Stop()
	assert.Equal(t, http.StatusOK, <-answered)
	assert.Equal(t, exitOK, p.WaitExit(t))
}

// One that would take too long is cut off, and that is no failure.
func TestShutdownCutsDelaysOff(t *testing.T) {
	t.Parallel()
	p := startES256(t)
	p.control(t, http.MethodPost, "fail", `{"path":"`+kittest.SignUpPath+`","delayMs":60000}`)
	go func() {
		if res, err := http.Post(p.URL+kittest.SignUpPath, "application/json", nil); err == nil {
			res.Body.Close()
		}
	}()
	p.waitRequest(t, kittest.SignUpPath)
	p.Stop()
	assert.Equal(t, exitOK, p.WaitExit(t))
}

// waitRequest waits until a request to path has arrived.
func (p *program) waitRequest(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return p.control(t, http.MethodGet, "requests", "")[path] != nil
	}, kittest.Patience, 5*time.Millisecond)
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	name := t.TempDir() + "/key.pem"
	require.NoError(t, os.WriteFile(name, content, 0o600))
	return name
}
