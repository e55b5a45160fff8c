package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func TestRequestsAndReset(t *testing.T) {
	p := startES256(t)
	assert.Empty(t, p.control(t, http.MethodGet, "requests", ""))
	p.post(t, kittest.RefreshPath, "", "")
	p.post(t, kittest.RefreshPath, "", "")
	p.post(t, "/nowhere", "", "")
	send(t, http.MethodGet, p.URL+"/v2/keys/"+project, "")
	counts := object{kittest.RefreshPath: 2.0, "other": 1.0, "/v2/keys": 1.0}
	assert.Equal(t, counts, p.control(t, http.MethodGet, "requests", ""), "and none of the emulator's own")

	p.control(t, http.MethodPost, "fail", `{"path":"","status":500,"times":-1}`)
	p.control(t, http.MethodPost, "reset", "")
	assert.Empty(t, p.control(t, http.MethodGet, "requests", ""))
	p.signIn(t, ann) // the fault is gone, the user is not
	p.control(t, http.MethodPost, "reset", "{}")
}

func TestCode(t *testing.T) {
	p := startES256(t, "-code-reuse")
	answer := p.control(t, http.MethodGet, "code?loginId="+ann, "")
	assert.Regexp(t, `^[0-9]{6}$`, answer["code"])
	left := answer["secondsLeft"].(float64)
	assert.True(t, 0 < left && left <= 30, left)

	for range 2 { // tests need not wait for the next
		p.signIn(t, ann)
	}
	for _, query := range []string{"", "?loginId=", "?loginId=nobody", "?loginid=" + ann, "?loginId=%zz"} {
		r := send(t, http.MethodGet, p.URL+"/_emulator/code"+query, "")
		assert.Equal(t, http.StatusNotFound, r.StatusCode, query)
		assert.NotEmpty(t, r.body["error"])
	}

	t.Log("after a sign-up it is the code of the new key")
	p.post(t, kittest.SignUpPath, "", `{"loginId":"bob"}`)
	assert.Equal(t, true, p.signIn(t, "bob").body["firstSeen"])
}

func TestUsers(t *testing.T) {
	p := startES256(t)
	p.control(t, http.MethodPost, "users", `{"loginId":"bob","name":"Bob","email":"b@example.com","phone":"+15550100",
		"roles":["admin"],"permissions":["write"],"tenants":{"acme":{"name":"Acme","roles":["owner"],"permissions":["all"]}},
		"tenant":"acme","customClaims":{"plan":"pro"}}`)
	in := p.signIn(t, "bob")
	_, claims := kittest.Parts(t, in.body["sessionJwt"])
	assert.Equal(t, []any{"admin"}, claims["roles"])
	assert.Equal(t, []any{"write"}, claims["permissions"])
	assert.Equal(t, object{"acme": object{"roles": []any{"owner"}, "permissions": []any{"all"}}}, claims["tenants"])
	assert.Equal(t, "acme", claims["dct"])
	assert.Equal(t, "pro", claims["plan"])
	user := in.body["user"].(object)
	assert.Equal(t, []any{"Bob", "b@example.com", "+15550100", true}, []any{user["name"], user["email"], user["phone"], user["TOTP"]})

	for body, want := range map[string]string{
		`{"loginId":"bob"}`: "exists",
		`{}`:                "LoginID",
		``:                  "LoginID",
		`{"loginId":"` + strings.Repeat("x", 257) + `"}`: "257",
		`{"loginId":"eve"`:                    "decode",
		`{"loginId":"eve","tenant":"acme"}`:   "acme",
		`{"loginId":"eve","role":["admin"]}`:  "role",
		`{"loginId":"eve","Roles":["admin"]}`: "Roles",
		`{"loginId":"eve","loginId":"eva"}`:   "loginId",
		`{"loginId":["eve"]}`:                 "loginId",
		`{"loginId":"eve"}{}`:                 "decode",
		`["eve"]`:                             "object",
		`null`:                                "object",
		`loginId=eve`:                         "object",
	} {
		r := send(t, http.MethodPost, p.URL+"/_emulator/users", body)
		assert.Equal(t, http.StatusBadRequest, r.StatusCode, body)
		assert.Contains(t, r.body["error"], want, body)
	}
}

func TestRotateKeys(t *testing.T) {
	p := startES256(t, "-code-reuse")
	keys := func() int {
		return len(send(t, http.MethodGet, p.URL+"/v2/keys/"+project, "").body["keys"].([]any))
	}
	token := p.signIn(t, ann).body["refreshJwt"].(string)
	p.control(t, http.MethodPost, "rotate-keys", "")
	p.control(t, http.MethodPost, "rotate-keys", `{"revoke":false}`)
	assert.Equal(t, 3, keys())
	assert.Equal(t, http.StatusOK, p.post(t, kittest.RefreshPath, token, "").StatusCode)
	p.control(t, http.MethodPost, "rotate-keys", `{"revoke":true}`)
	assert.Equal(t, 1, keys())
	assert.Equal(t, http.StatusUnauthorized, p.post(t, kittest.RefreshPath, token, "").StatusCode)
	p.signIn(t, ann)
}

func TestFail(t *testing.T) {
	p := startES256(t)
	me := func() reply { return p.call(t, http.MethodGet, kittest.MePath, "", "") }
	fail := func(body string) { p.control(t, http.MethodPost, "fail", body) }

	fail(`{"path":"/v1/auth/me","status":503,"times":2,"body":"<html>"}`)
	for range 2 {
		r := me()
		assert.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
		assert.Equal(t, "<html>", r.raw)
	}
	assert.Equal(t, http.StatusUnauthorized, me().StatusCode)

	fail(`{"path":"","body":"{\"a\":1}"}`)
	assert.Equal(t, object{"a": 1.0}, me().body)

	fail(`{"path":"/v1/auth/me","drop":true}`)
	// Over a connection of its own: the client would repeat a GET on an old one.
	conn, err := net.Dial("tcp", p.addr)
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/auth/me HTTP/1.1\r\nHost: x\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(kittest.Patience))
	n, err := conn.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.Error(t, err)

	fail(`{"path":"/v1/auth/me","delayMs":200}`)
	began := time.Now()
	assert.Equal(t, http.StatusUnauthorized, me().StatusCode)
	assert.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)

	for body, want := range map[string]string{
		`{}`: "nothing",
		``:   "nothing",
		`{"path":"/v1/auth/refesh","status":500}`: "/v1/auth/refesh",
		`{"path":"/_emulator/code","status":500}`: "/_emulator/code",
		`{"status":42}`:                   "42",
		`{"status":1000}`:                 "1000",
		`{"status":5e2}`:                  "status",
		`{"status":"500"}`:                "status",
		`{"status":500,"after":true}`:     "after",
		`{"status":500,"delayms":1}`:      "delayms",
		`{"delayMs":-1}`:                  "delayMs",
		`{"delayMs":60001}`:               "delayMs",
		`{"delayMs":9223372036854775807}`: "delayMs",
		`{"times":2}`:                     "nothing",
	} {
		r := send(t, http.MethodPost, p.URL+"/_emulator/fail", body)
		assert.Equal(t, http.StatusBadRequest, r.StatusCode, body)
		assert.Contains(t, r.body["error"], want, body)
	}
	assert.Equal(t, http.StatusUnauthorized, me().StatusCode, "none of them was queued")

	for range 1000 {
		fail(`{"path":"/v1/auth/me","status":500}`)
	}
	r := send(t, http.MethodPost, p.URL+"/_emulator/fail", `{"path":"/v1/auth/me","status":500}`)
	assert.Equal(t, http.StatusBadRequest, r.StatusCode)
	assert.Contains(t, r.body["error"], "1000")
}

// Code and users of a project that anybody can drive are anybody's: a page of
// another site must get at none of it, nor one that has made its name lead here.
func TestControlIsForThisMachineAndItsOwnPages(t *testing.T) {
	p := startES256(t)
	_, port, err := net.SplitHostPort(p.addr)
	require.NoError(t, err)
	requests := []struct{ method, name, body string }{
		{http.MethodGet, "requests", ""},
		{http.MethodGet, "code?loginId=" + ann, ""},
		{http.MethodPost, "reset", ""},
		{http.MethodPost, "rotate-keys", ""},
		{http.MethodPost, "fail", `{"path":"/v1/auth/me","status":200,"body":"{}"}`},
		{http.MethodPost, "users", `{"loginId":"%s"}`},
	}
	n := 0
	status := func(t *testing.T, headers ...string) int {
		t.Helper()
		seen := map[int]bool{}
		for _, r := range requests {
			n++
			body := strings.Replace(r.body, "%s", fmt.Sprintf("user%d", n), 1)
			a := send(t, r.method, p.URL+"/_emulator/"+r.name, body, headers...)
			seen[a.StatusCode] = true
			if a.StatusCode != http.StatusOK {
				assert.NotEmpty(t, a.body["error"])
				assert.NotContains(t, a.raw, "code\"")
			}
			assert.Empty(t, a.Header.Get("Access-Control-Allow-Origin"))
			assert.Equal(t, "same-origin", a.Header.Get("Cross-Origin-Resource-Policy"))
			assert.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"))
			assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		}
		require.Len(t, seen, 1, "%v", seen)
		for s := range seen {
			return s
		}
		return 0
	}
	for name, headers := range welcomeHeaders(p.URL, port) {
		t.Run(name, func(t *testing.T) { assert.Equal(t, http.StatusOK, status(t, headers...)) })
	}
	for name, headers := range foreignHeaders(port) {
		t.Run(name, func(t *testing.T) { assert.Equal(t, http.StatusForbidden, status(t, headers...)) })
	}
}

// welcomeHeaders are those of programs on this machine and of the emulator's own pages.
func welcomeHeaders(url, port string) map[string][]string {
	return map[string][]string{
		"a program":                    {},
		"localhost":                    {"Host", "localhost:" + port},
		"localhost in capitals":        {"Host", "LocalHost:" + port},
		"without a port":               {"Host", "localhost"},
		"another loopback address":     {"Host", "127.1.2.3:" + port},
		"IPv6":                         {"Host", "[::1]:" + port},
		"IPv6 without a port":          {"Host", "[::1]"},
		"a page of the emulator":       {"Origin", url, "Sec-Fetch-Site", "same-origin"},
		"one of an old browser":        {"Origin", url},
		"typed into the address bar":   {"Sec-Fetch-Site", "none"},
		"a fetch without a site (old)": {"Sec-Fetch-Mode", "cors"},
	}
}

// foreignHeaders are those of pages of other sites, and of names that lead here.
func foreignHeaders(port string) map[string][]string {
	return map[string][]string{
		"rebound name":                     {"Host", "attacker.example"},
		"rebound name and port":            {"Host", "attacker.example:" + port},
		"rebound name, same origin":        {"Host", "attacker.example:" + port, "Origin", "http://attacker.example:" + port, "Sec-Fetch-Site", "same-origin"},
		"name that begins like an address": {"Host", "127.0.0.1.attacker.example:" + port},
		"name that begins like localhost":  {"Host", "localhost.attacker.example"},
		"name below localhost":             {"Host", "attacker.localhost"},
		"address of somebody else":         {"Host", "192.0.2.1:" + port},
		"unspecified address":              {"Host", "0.0.0.0:" + port},
		"number":                           {"Host", "2130706433:" + port},
		"short address":                    {"Host", "127.1:" + port},
		"page of another site":             {"Origin", "https://attacker.example", "Sec-Fetch-Site", "cross-site"},
		"one of an old browser":            {"Origin", "https://attacker.example"},
		"image on another site":            {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"},
		"page of another port":             {"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"},
		"one of an old browser, port":      {"Origin", "http://127.0.0.1:1"},
		"sandboxed page":                   {"Origin", "null"},
		"site nobody knows":                {"Sec-Fetch-Site", "unheard-of"},
	}
}

func TestControlAllowsNoForeignPreflight(t *testing.T) {
	p := startES256(t)
	r := send(t, http.MethodOptions, p.URL+"/_emulator/fail", "", "Origin", "http://127.0.0.1:1", "Access-Control-Request-Method", "POST")
	assert.Equal(t, http.StatusForbidden, r.StatusCode)
	assert.Empty(t, r.Header.Get("Access-Control-Allow-Origin"))
}

func TestControlNeedsAHost(t *testing.T) {
	p := startES256(t)
	conn, err := net.Dial("tcp", p.addr)
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /_emulator/requests HTTP/1.0\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(kittest.Patience))
	answer := make([]byte, len("HTTP/1.0 403"))
	_, err = conn.Read(answer)
	require.NoError(t, err)
	assert.Equal(t, "HTTP/1.0 403", string(answer))
}

// Beyond loopback, the address that a request came in on is a Host, too: a name
// server cannot have led a page there under another name.
func TestControlOnTheListeningAddress(t *testing.T) {
	handler := newHandler(newTestProject(), "")
	for host, want := range map[string]int{
		"192.0.2.7:8090":        http.StatusOK,
		"[::ffff:192.0.2.7]":    http.StatusOK,
		"127.0.0.1:8090":        http.StatusOK,
		"192.0.2.8:8090":        http.StatusForbidden,
		"emulator.example:8090": http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodGet, "/_emulator/requests", nil)
		r.Host = host
		ctx := contextWithLocalAddr(r.Context(), &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8090})
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(ctx))
		assert.Equal(t, want, w.Code, host)
	}
}

func TestControlPathsAndMethods(t *testing.T) {
	p := startES256(t)
	for _, name := range []string{"", "nope", "code/", "Code", "../v1/auth/me", "reset/../code"} {
		r := send(t, http.MethodGet, p.URL+"/_emulator/"+name, "")
		assert.Equal(t, http.StatusNotFound, r.StatusCode, name)
		assert.NotEmpty(t, r.body["error"], name)
	}
	for name, allow := range map[string]string{"requests": "GET", "code": "GET", "reset": "POST", "rotate-keys": "POST", "fail": "POST", "users": "POST"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead, http.MethodOptions} {
			if method == allow {
				continue
			}
			r := send(t, method, p.URL+"/_emulator/"+name, "")
			assert.Equal(t, http.StatusMethodNotAllowed, r.StatusCode, "%s %s", method, name)
			assert.Equal(t, allow, r.Header.Get("Allow"))
		}
	}
	for _, name := range []string{"reset", "rotate-keys", "fail", "users"} {
		r := send(t, http.MethodPost, p.URL+"/_emulator/"+name, `{"body":"`+strings.Repeat("x", maxControlBody)+`"}`)
		assert.Equal(t, http.StatusRequestEntityTooLarge, r.StatusCode, name)
		r = send(t, http.MethodPost, p.URL+"/_emulator/"+name, `{"unheard":"of"}`)
		assert.Equal(t, http.StatusBadRequest, r.StatusCode, name)
		assert.Contains(t, r.body["error"], "unheard")
	}
	full := `{"path":"/v1/auth/me","body":"` + strings.Repeat("x", maxControlBody-100) + `"}`
	p.control(t, http.MethodPost, "fail", full)
}

// Pages that this machine serves may call the project from another port, with
// cookies, as Descope's browser clients do.
func TestCrossOriginCalls(t *testing.T) {
	p := startES256(t)
	for origin, allowed := range map[string]bool{
		"http://localhost:3000":             true,
		"https://localhost":                 true,
		"http://127.0.0.1:5173":             true,
		"http://[::1]:8080":                 true,
		"https://attacker.example":          false,
		"http://localhost.attacker.example": false,
		"http://attacker.example@localhost": false,
		"http://localhost/":                 false,
		"null":                              false,
		"file://localhost":                  false,
		"http://%zz":                        false,
	} {
		preflight := send(t, http.MethodOptions, p.URL+kittest.VerifyPath, "", "Origin", origin, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,content-type,x-descope-sdk-name")
		call := send(t, http.MethodPost, p.URL+kittest.VerifyPath, "{}", "Origin", origin, "Authorization", "Bearer "+project)
		assert.Equal(t, http.StatusBadRequest, call.StatusCode)
		assert.Equal(t, "E011002", call.body["errorCode"])
		assert.Contains(t, call.Header.Values("Vary"), "Origin")
		if !allowed {
			assert.Equal(t, http.StatusMethodNotAllowed, preflight.StatusCode, origin)
			assert.Empty(t, preflight.Header.Get("Access-Control-Allow-Origin"), origin)
			assert.Empty(t, call.Header.Get("Access-Control-Allow-Origin"), origin)
			continue
		}
		assert.Equal(t, http.StatusNoContent, preflight.StatusCode, origin)
		assert.Equal(t, "authorization,content-type,x-descope-sdk-name", preflight.Header.Get("Access-Control-Allow-Headers"))
		for _, r := range []reply{preflight, call} {
			assert.Equal(t, origin, r.Header.Get("Access-Control-Allow-Origin"))
			assert.Equal(t, "true", r.Header.Get("Access-Control-Allow-Credentials"))
			assert.Equal(t, "Retry-After", r.Header.Get("Access-Control-Expose-Headers"))
		}
	}
}

func TestBodiesOfCallsAreBounded(t *testing.T) {
	p := startES256(t)
	long := `{"loginId":"bob","user":{"name":"` + strings.Repeat("x", maxProjectBody) + `"}}`
	r := p.post(t, kittest.SignUpPath, "", long)
	assert.Equal(t, http.StatusRequestEntityTooLarge, r.StatusCode)
	assert.Equal(t, "E011003", r.body["errorCode"])
	assert.Contains(t, r.body["errorMessage"], "8 KiB")

	req := httptest.NewRequest(http.MethodPost, kittest.SignUpPath, strings.NewReader(long))
	req.ContentLength = -1 // as it comes in chunks
	req.Header.Set("Authorization", "Bearer "+project)
	w := httptest.NewRecorder()
	newHandler(newTestProject(), "").ServeHTTP(w, req)
	assert.Equal(t, http.StatusBadRequest, w.Code)
}

// Memory is bounded, and whoever meets the bound is told which one.
func TestBounds(t *testing.T) {
	set, err := parseSettings([]string{"-alg", "ES256", "-user", ann}, t.Output())
	require.NoError(t, err)
	p, err := set.newProject()
	require.NoError(t, err)
	p.Configure(func(s *descopetest.Settings) {
		assert.Equal(t, []int{10_000, 10_000}, []int{s.MaxUsers, s.MaxTokens})
		s.MaxUsers, s.MaxTokens = 100, 200 // filling those takes long
	})
	handler := newHandler(p, "")
	post := func(path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+project)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	for n := range 99 {
		w := post("/_emulator/users", fmt.Sprintf(`{"loginId":"user%d"}`, n))
		require.Equal(t, http.StatusOK, w.Code, w.Body)
	}
	w := post("/_emulator/users", `{"loginId":"bob"}`)
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Contains(t, w.Body.String(), "100 users")
	w = post(kittest.SignUpPath, `{"loginId":"bob"}`)
	assert.Equal(t, http.StatusTooManyRequests, w.Code)
	assert.Contains(t, w.Body.String(), "100 users")

	for range 200 {
		p.SignIn(ann)
	}
	body := fmt.Sprintf(`{"loginId":%q,"code":%q}`, ann, p.Code(ann))
	w = post(kittest.VerifyPath, body)
	assert.Equal(t, http.StatusTooManyRequests, w.Code)
	assert.Contains(t, w.Body.String(), "200 live refresh tokens")
	p.LogOut(ann)
	assert.Equal(t, http.StatusOK, post(kittest.VerifyPath, body).Code, "dead ones make room")
}

// JSON of many empty lists takes twelve times its size once it is decoded. What
// is kept of each user and each token must not.
func TestWhatIsKeptIsBounded(t *testing.T) {
	lists := func(bytes int) string { return "[" + strings.Repeat("[],", bytes/3) + "[]]" }
	p := newTestProject()
	p.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	p.AddUser(descopetest.User{LoginID: ann})
	handler := newHandler(p, "")
	post := func(path, body string) int {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+project)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	const n = 200
	before := heap()
	for range n {
		require.Equal(t, http.StatusOK, post(kittest.VerifyPath, fmt.Sprintf(
			`{"loginId":%q,"code":%q,"loginOptions":{"customClaims":{"a":%s}}}`, ann, p.Code(ann), lists(maxProjectBody-200))))
	}
	tokens := heap()
	for i := range n {
		require.Equal(t, http.StatusOK, post("/_emulator/users", fmt.Sprintf(
			`{"loginId":"user%d","customClaims":{"a":%s}}`, i, lists(maxUserBody-100))))
	}
	users := heap()
	runtime.KeepAlive(handler)
	t.Logf("a token takes %d bytes, a user %d", (tokens-before)/n, (users-tokens)/n)
	assert.Less(t, (tokens-before)/n, 20<<10)
	assert.Less(t, (users-tokens)/n, 64<<10)
	assert.Equal(t, http.StatusRequestEntityTooLarge, post("/_emulator/users",
		`{"loginId":"bob","customClaims":{"a":`+lists(maxUserBody)+`}}`))
}

func newTestProject() *descopetest.Server {
	p := descopetest.NewServer()
	p.Configure(func(s *descopetest.Settings) { s.Alg = "ES256" })
	return p
}

func contextWithLocalAddr(ctx context.Context, addr net.Addr) context.Context {
	return context.WithValue(ctx, http.LocalAddrContextKey, addr)
}
