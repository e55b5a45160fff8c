package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

// asked are the 5xx that the requests themselves ask for. Nothing else answers
// with them.
var asked = []int{555, 599}

var seedFlag = flag.Uint64("seed", 0, "of TestRandomRequests; 0 is a new one")

// Whatever is sent, the emulator answers, and a 5xx only if told to.
func TestRandomRequests(t *testing.T) {
	const requests = 10_000
	seed := cmp.Or(*seedFlag, uint64(time.Now().UnixNano()))
	t.Logf("seed %d; -args -seed makes the same requests again, but for tokens and codes", seed)

	p := startES256(t, "-rotate", "-code-reuse")
	g := newGenerator(seed)
	c := &rawClient{t: t, addr: p.addr}
	defer c.close()
	statuses := map[int]int{}
	for n := range requests {
		request := g.request()
		answer := c.do(request)
		if answer == nil {
			statuses[0]++ // by a fault, or because it was refused before it was read
			continue
		}
		statuses[answer.status]++
		g.learn(answer)
		if answer.status >= 500 && !slices.Contains(asked, answer.status) {
			require.Fail(t, "not asked for", "request %d of seed %d: %q\nanswer: %d %s", n, seed, request, answer.status, answer.body)
		}
	}
	t.Logf("statuses: %v", statuses)
	for _, want := range []int{200, 400, 401, 403, 404, 405, 413} {
		assert.NotZero(t, statuses[want], "the requests never got a %d", want)
	}
	assert.Less(t, statuses[0], requests/20)
	assert.NotContains(t, p.Stderr.String(), "panic")

	p.control(t, http.MethodPost, "reset", "")
	p.signIn(t, ann)
}

// rawClient sends bytes, over one connection for as long as that lasts.
type rawClient struct {
	t    *testing.T
	addr string
	conn net.Conn
	in   *bufio.Reader
}

type rawAnswer struct {
	status int
	body   string
	header http.Header
}

func (c *rawClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// do returns nil if the connection ended without an answer.
func (c *rawClient) do(request []byte) *rawAnswer {
	c.t.Helper()
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		require.NoError(c.t, err)
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	c.conn.SetDeadline(time.Now().Add(kittest.Patience))
	// An error of writing is one of a connection that was closed after an
	// answer, which is still to be read.
	c.conn.Write(request)
	method, _, _ := bytes.Cut(request, []byte(" "))
	res, err := http.ReadResponse(c.in, &http.Request{Method: string(method)})
	for err == nil && res.StatusCode == http.StatusContinue {
		res, err = http.ReadResponse(c.in, &http.Request{Method: string(method)})
	}
	var body []byte
	if err == nil {
		body, err = io.ReadAll(res.Body)
	}
	if err != nil {
		var timeout net.Error
		require.False(c.t, errors.As(err, &timeout) && timeout.Timeout(), "no answer to %q", request)
		c.close()
		return nil
	}
	if res.Close {
		c.close()
	}
	return &rawAnswer{res.StatusCode, string(body), res.Header}
}

// A generator makes requests, many of them almost right: what is wrong
// everywhere never gets past the first check.
type generator struct {
	*rand.Rand
	tokens []string // that were answered
	code   string   // of ann, not long ago
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
}

// learn keeps tokens, to be sent back.
func (g *generator) learn(a *rawAnswer) {
	for part := range strings.SplitSeq(a.body, `"`) {
		if strings.HasPrefix(part, "eyJ") {
			g.tokens = append(g.tokens, part)
		}
	}
	g.tokens = g.tokens[max(0, len(g.tokens)-20):]
	if _, rest, ok := strings.Cut(a.body, `{"code":"`); ok {
		g.code, _, _ = strings.Cut(rest, `"`)
	}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// junk is text of up to n characters, of any kind.
func (g *generator) junk(n int) string {
	alphabet := pick(g, "abcXYZ012", "éß漢🙂\u202e\u0000", "%00%ff%zz", "../\\..;:@#?&=", `"'<>{}[],`, "\x01\x7f\xff\xfe")
	runes := []rune(alphabet)
	text := make([]rune, g.IntN(n+1))
	for i := range text {
		text[i] = runes[g.IntN(len(runes))]
	}
	return string(text)
}

func (g *generator) method() string {
	return pick(g, http.MethodPut, http.MethodDelete, http.MethodHead, http.MethodOptions, http.MethodPatch, http.MethodTrace, "get", "BREW", "X-Y_Z!", http.MethodGet, http.MethodPost)
}

var gets = []string{
	"/v1/auth/me", "/v1/auth/me/history", "/v2/keys/" + project, "/" + project + "/.well-known/jwks.json",
	"/_emulator/requests", "/_emulator/code?loginId=" + ann,
}

var posts = []string{
	"/v1/auth/totp/signup", "/v1/auth/totp/verify", "/v1/auth/totp/update", "/v1/auth/refresh", "/v1/auth/try-refresh",
	"/v1/auth/logout", "/v1/auth/logoutall", "/v1/auth/me/tenants", "/v1/auth/tenant/select", "/v1/auth/validate",
	"/v1/auth/totp/verify", "/_emulator/reset", "/_emulator/rotate-keys", "/_emulator/fail", "/_emulator/users",
}

// odd returns path, spoilt.
func (g *generator) odd(path string) string {
	switch g.IntN(8) {
	case 0:
		path = "/" + path
	case 1:
		path += "/"
	case 2:
		path = path[:g.IntN(len(path))+1]
	case 3:
		path += url.PathEscape(g.junk(20))
	case 4:
		path = "/" + url.PathEscape(g.junk(200))
	case 5:
		path = "http://" + pick(g, "localhost", "attacker.example") + path
	case 6:
		path = "*"
	}
	if g.chance(50) {
		path += "?" + pick(g, "loginId="+url.QueryEscape(g.loginID()), "dcs=t&dcr=f", "loginId", url.QueryEscape(g.junk(50)), "%zz", "a=b;c=d")
	}
	return path
}

func (g *generator) loginID() string {
	switch g.IntN(10) {
	case 0:
		return g.junk(300)
	case 1:
		return strings.Repeat(pick(g, "x", "漢", "%", "\u0000", " "), g.IntN(300))
	case 2, 3:
		return fmt.Sprintf("user%d", g.IntN(1000))
	}
	return pick(g, ann, ann, "bob", "eve")
}

func (g *generator) token() string {
	if len(g.tokens) == 0 || g.chance(10) {
		return pick(g, "a.b.c", "..", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat("x", 5000), g.junk(50))
	}
	token := pick(g, g.tokens...)
	if g.chance(20) {
		at := g.IntN(len(token))
		token = token[:at] + pick(g, "A", ".", "", "=") + token[at+1:]
	}
	return token
}

func (g *generator) headers() []string {
	host := "127.0.0.1"
	if g.chance(5) {
		host = pick(g, "attacker.example", "", "[::1", "localhost:x", "%", "[::1%25lo]:1")
	}
	headers := []string{"Host: " + host}
	add := func(percent int, name string, value func() string) {
		if g.chance(percent) {
			// A line must stay one line; all else may be in it.
			headers = append(headers, name+": "+strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(value()))
		}
	}
	add(90, "Authorization", func() string {
		parts := []string{project}
		if g.chance(60) {
			parts = append(parts, g.token())
		}
		if g.chance(10) {
			parts = append(parts, g.junk(20))
		}
		return pick(g, "Bearer ", "Bearer ", "Bearer ", "bearer ", "Basic ", "") + strings.Join(parts, ":")
	})
	add(60, "Content-Type", func() string { return pick(g, "application/json", "application/json", "text/plain", g.junk(30)) })
	add(10, "Cookie", func() string { return pick(g, "DS=", "DSR=", "DSR=x; DSR=", "") + g.token() })
	add(10, "Origin", func() string { return pick(g, "http://localhost:3000", "https://attacker.example", "null", g.junk(20)) })
	add(5, "Sec-Fetch-Site", func() string { return pick(g, "same-origin", "cross-site", "none", g.junk(10)) })
	add(10, "Access-Control-Request-Method", func() string { return g.method() })
	add(5, "Access-Control-Request-Headers", func() string { return g.junk(50) })
	add(5, "X-Descope-"+pick(g, "Project-Id", "SDK-Name", "Refresh-Cookie-Name"), func() string { return g.junk(50) })
	add(2, "Expect", func() string { return "100-continue" })
	add(2, "Connection", func() string { return pick(g, "close", "keep-alive", "Upgrade") })
	add(2, "Accept-Encoding", func() string { return "gzip" })
	add(1, "X-Long", func() string { return strings.Repeat("x", g.IntN(80<<10)) })
	return headers
}

// value is any JSON value, of bounded depth.
func (g *generator) value(depth int) string {
	if depth <= 0 {
		return pick(g, "null", "true", "0", "-1", "1e400", "9223372036854775808", `""`, "[]", "{}", quote(g.junk(20)))
	}
	switch g.IntN(4) {
	case 0:
		return "[" + g.value(depth-1) + "," + g.value(depth-2) + "]"
	case 1:
		return "{" + quote(g.junk(10)) + ":" + g.value(depth-1) + `,"a":` + g.value(depth-2) + "}"
	}
	return g.value(0)
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (g *generator) body() string {
	switch g.IntN(20) {
	case 0:
		return ""
	case 1:
		return g.junk(500)
	case 2:
		return g.value(6)
	case 3:
		return strings.Repeat("[", g.IntN(20_000))
	case 4:
		return `{"loginId":` + quote(strings.Repeat("x", g.IntN(100<<10))) + `}`
	}
	members := []string{}
	add := func(percent int, name, value string) {
		if g.chance(percent) {
			if g.chance(5) {
				value = g.value(3)
			}
			members = append(members, quote(name)+":"+value)
		}
	}
	if g.chance(15) {
		return g.fault()
	}
	add(90, "loginId", quote(g.loginID()))
	add(80, "code", pick(g, quote(g.code), quote(g.code), quote(g.code), quote(g.junk(10)), fmt.Sprintf("%q", fmt.Sprintf("%06d", g.IntN(1e6)))))
	add(20, "loginOptions", `{"stepup":`+pick(g, "true", "false")+`,"mfa":`+pick(g, "true", "false")+`,"customClaims":{"a":`+g.value(4)+`}}`)
	add(20, "user", `{"name":`+quote(g.junk(100))+`,"email":`+quote(g.junk(20))+`}`)
	add(10, "tenant", quote(pick(g, "acme", g.junk(10))))
	add(10, "tenants", `{"acme":{"name":"Acme","roles":["admin"]}}`)
	add(10, "roles", `["admin",`+quote(g.junk(20))+`]`)
	add(10, "customClaims", `{"a":`+g.value(4)+`,"exp":1,"sub":[]}`)
	add(10, "dct", "true")
	add(10, "ids", `["acme"]`)
	add(10, "revoke", "true")
	add(5, "logoutType", `["x"]`)
	return "{" + strings.Join(members, ",") + "}"
}

// fault is one that ends on its own: a test of thousands of requests cannot
// wait, and must get past faults again.
func (g *generator) fault() string {
	status := pick(g, append(asked, 0, 0, 200, 204, 302, 401, 429, 42, -1)...)
	path := ""
	if g.chance(90) {
		path = pick(g, append(gets, posts...)...)
	}
	return fmt.Sprintf(`{"path":%s,"status":%d,"times":%d,"delayMs":%d,"body":%s,"drop":%t}`,
		quote(path), status, g.IntN(3), g.IntN(2), quote(g.junk(20)), g.chance(10))
}

// request is one as bytes. Its framing is right: net/http's own answers to what
// is not HTTP are not the subject.
func (g *generator) request() []byte {
	method, path := http.MethodPost, pick(g, posts...)
	if g.chance(30) {
		method, path = http.MethodGet, pick(g, gets...)
	}
	if g.chance(10) {
		method = g.method()
	}
	if g.chance(20) {
		path = g.odd(path)
	}
	headers := g.headers()
	var body []byte
	if method != http.MethodGet && method != http.MethodHead || g.chance(10) {
		body = []byte(g.body())
	}
	if g.chance(10) && len(body) > 0 {
		headers = append(headers, "Transfer-Encoding: chunked")
		var chunked bytes.Buffer
		for piece := range slices.Chunk(body, 1+g.IntN(len(body))) {
			fmt.Fprintf(&chunked, "%x\r\n%s\r\n", len(piece), piece)
		}
		chunked.WriteString("0\r\n\r\n")
		body = chunked.Bytes()
	} else {
		headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	head := method + " " + path + " HTTP/1.1\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	return append([]byte(head), body...)
}
