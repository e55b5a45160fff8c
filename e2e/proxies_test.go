package e2e

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/pages"
)

// nginxConfig has the LINES of docs/production.md, the same without some of them, and a cache
// in front of /cached/ that keeps whatever it may.
const nginxConfig = `daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	proxy_cache_path %[1]s/cache keys_zone=c:1m;
	server {
		listen %[2]s;
		LINES
		location /default/ { proxy_pass http://%[3]s/; proxy_set_header Host $http_host; }
		location /portless/ { proxy_pass http://%[3]s/; proxy_set_header Host $host; }
		location /cached/ { proxy_pass http://%[3]s; proxy_cache c; proxy_cache_valid 200 1m; proxy_ignore_headers Set-Cookie; add_header X-Cache $upstream_cache_status; }
	}
}`

// nginxLines are those of docs/production.md: for a whole server, and for a prefix, whose
// location has the lines of the first in it.
func nginxLines(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("testdata", "docs", "production.md"))
	require.NoError(t, err)
	blocks := strings.Split(string(page), "\n```nginx\n")
	require.Len(t, blocks, 3)
	whole, _, _ := strings.Cut(blocks[1], "```\n")
	prefix, _, _ := strings.Cut(blocks[2], "```\n")
	const upstream = "http://127.0.0.1:8080"
	_, inside, found := strings.Cut(whole, "proxy_pass "+upstream+";\n")
	require.True(t, found)
	require.Contains(t, prefix, "proxy_pass "+upstream+"/;")
	prefix = strings.Replace(prefix, "}\n", inside, 1)
	return strings.ReplaceAll(whole+prefix, upstream, "http://%[3]s")
}

// startNginx runs nginx in front of h and returns its address.
func startNginx(t *testing.T, h http.Handler) string {
	t.Helper()
	return startProxy(t, "nginx", h, strings.Replace(nginxConfig, "LINES", nginxLines(t), 1), func(folder, config string) []string {
		args := []string{"-p", folder, "-c", config, "-e", "stderr"}
		if os.Getuid() == 0 {
			args = append(args, "-g", "user root;")
		}
		return args
	})
}

// caddyConfig is what a newcomer to Caddy writes, without certificates.
const caddyConfig = `{
	admin off
	auto_https off
	storage file_system %[1]s
}
http://%[2]s {
	reverse_proxy %[3]s
}
`

func startCaddy(t *testing.T, h http.Handler) string {
	t.Helper()
	return startProxy(t, "caddy", h, caddyConfig, func(_, config string) []string {
		return []string{"run", "--adapter", "caddyfile", "--config", config}
	})
}

// startProxy runs a proxy from Debian's package of that name in front of h. Its
// configuration is told a folder, its own address and that of h.
func startProxy(t *testing.T, name string, h http.Handler, config string, args func(folder, config string) []string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		kittest.Missing(t, "needs %[1]s: install the package %[1]s", name)
	}
	behind := httptest.NewServer(h)
	t.Cleanup(behind.Close)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	folder := t.TempDir()
	require.NoError(t, os.Chmod(folder, 0o777))
	file := filepath.Join(folder, name+".conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, config, folder, addr, behind.Listener.Addr()), 0o644))
	var said kittest.LogBuffer
	cmd := exec.Command(path, args(folder, file)...)
	cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+folder, "XDG_DATA_HOME="+folder)
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	deadline := time.After(patience)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return "http://" + addr
		}
		select {
		case <-deadline:
			require.FailNow(t, name+" does not listen", said.String())
		case <-time.After(interval):
		}
	}
}

func ask(t *testing.T, method, address, body string, header ...string) (*http.Response, string) {
	t.Helper()
	return askBy(t, http.DefaultTransport, method, address, body, header...)
}

func askBy(t *testing.T, way http.RoundTripper, method, address, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Host = cmp.Or(r.Header.Get("Host"), r.Host)
	res, err := way.RoundTrip(r)
	require.NoError(t, err)
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(read)
}

// A cache in front keeps no page of one user for another, nor one that came with cookies, even
// where it is told to overlook those and the handler says that all may see it.
func TestNginxCachesNothingOfAUser(t *testing.T) {
	k := kittest.New(t)
	mux := http.NewServeMux()
	greet := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, ok := descopehttp.SessionFromContext(r.Context()); ok {
			io.WriteString(w, "hello "+s.Subject())
		}
	})
	shared := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		greet(w, r)
	})
	forAll := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Del("Vary")
		io.WriteString(w, "for all")
	})
	files := http.FileServerFS(fstest.MapFS{"cached/static": {Data: []byte("for all"), ModTime: time.Now().Add(-time.Hour)}})
	mux.Handle("/cached/greeting", k.LoadSession(greet))
	mux.Handle("/cached/shared", k.LoadSession(shared))
	mux.Handle("/cached/for-all", k.LoadSession(forAll))
	mux.Handle("/cached/static", files)
	site := startNginx(t, mux)

	// The cache works, or the rest would show nothing.
	ask(t, "GET", site+"/cached/static", "")
	res, _ := ask(t, "GET", site+"/cached/static", "")
	require.Equal(t, "HIT", res.Header.Get("X-Cache"))

	for _, path := range []string{"/cached/greeting", "/cached/shared"} {
		tokens := k.Project.SignIn(kittest.Ada)
		_, page := ask(t, "GET", site+path, "", "Cookie", kittest.RefreshCookie+"="+tokens.Refresh) // renewed
		require.Contains(t, page, "hello U")
		_, page = ask(t, "GET", site+path, "", "Cookie", kittest.SessionCookie+"="+tokens.Session)
		require.Contains(t, page, "hello U")
		for range 2 {
			res, page := ask(t, "GET", site+path, "")
			assert.Empty(t, page, "%s is shown to a stranger (%s)", path, res.Header.Get("X-Cache"))
			assert.Empty(t, res.Cookies())
		}
	}

	// What a handler wants shared is, but for an answer with somebody's cookies.
	tokens := k.Project.SignIn(kittest.Ada)
	for _, from := range []struct{ cookie, cached string }{
		{kittest.RefreshCookie + "=" + tokens.Refresh, "MISS"}, {"", "MISS"}, {"", "HIT"}, {kittest.SessionCookie + "=" + tokens.Session, "HIT"},
	} {
		res, page := ask(t, "GET", site+"/cached/for-all", "", "Cookie", from.cookie)
		assert.Equal(t, "for all", page)
		assert.Equal(t, from.cached, res.Header.Get("X-Cache"))
	}
}

// The lines of docs/production.md: the client's address, a Host with its port, and room for
// the tokens of a sign-in, on their way out and on their way back.
func TestNginxLines(t *testing.T) {
	byHeader := descopehttp.ClientIPFromHeader("X-Forwarded-For", netip.MustParsePrefix("127.0.0.1/32"))
	var seen netip.Addr
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.ClientIP = func(r *http.Request) netip.Addr { seen = byHeader(r); return netip.MustParseAddr("203.0.113.9") }
	})
	k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	// A JWT template may fill a token up to what a cookie holds.
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob, CustomClaims: map[string]any{"more": strings.Repeat("x", 2550)}})
	mux := http.NewServeMux()
	mux.Handle("/v1/auth/", k.Handler())
	mux.Handle("/page", k.RequireSession(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	site := startNginx(t, mux)
	from := func(ip string) http.RoundTripper {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		transport := &http.Transport{DialContext: dialer.DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		return transport
	}
	signIn := func(ip, prefix string, header ...string) *http.Response {
		body := fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Bob, k.Project.Code(kittest.Bob))
		res, _ := askBy(t, from(ip), "POST", site+prefix+kittest.VerifyPath, body, append(header, "Content-Type", "application/json", "X-Forwarded-For", "203.0.113.7")...)
		return res
	}

	res := signIn("127.0.0.2", "", "Origin", site)
	assert.Equal(t, http.StatusOK, res.StatusCode, "Origin and Host are one, port included")
	assert.Equal(t, "127.0.0.2", seen.String(), "what the client itself has written says nothing")
	cookies := kittest.CookiesOf(res)
	require.Len(t, cookies, 2)
	sent := "theme=dark"
	for _, name := range []string{kittest.SessionCookie, kittest.RefreshCookie} {
		require.Greater(t, len(cookies[name].Value), 4000)
		sent += "; " + name + "=" + cookies[name].Value
	}
	res, _ = ask(t, "GET", site+"/page", "", "Cookie", sent)
	assert.Equal(t, http.StatusOK, res.StatusCode)
	require.NotContains(t, k.Logs.String(), "cookie_dropped")
	signIn("127.0.0.1", "", "Host", "shop.example")
	assert.Equal(t, "203.0.113.7", seen.String(), "whoever speaks from where the proxies are is one")
	assert.Contains(t, k.Logs.String(), "cookie_dropped", "it came over http, and not from this machine")

	// Without them a good sign-in is lost, and one of an older browser refused.
	assert.Equal(t, http.StatusBadGateway, signIn("127.0.0.1", "/default").StatusCode)
	assert.Equal(t, http.StatusForbidden, signIn("127.0.0.1", "/portless", "Origin", site).StatusCode)
}

// Nginx cuts a prefix off every path: each address that a browser gets has it all the same.
func TestNginxCutsAPrefix(t *testing.T) {
	b := newBrowser(t)
	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	auth, p := pagesOf(t, project, pages.Options{}, "/shop")
	mux := http.NewServeMux()
	mux.Handle("/account/", p)
	mux.Handle("/orders", auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<p>Orders</p><form method="post"><button>Order</button></form>`)
	})))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "shop window") })
	mux.HandleFunc("/form", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="/shop/account%s"><input type="hidden" name="loginId" value="%s">
			<input type="hidden" name="code" value="%s"><button>In</button></form>`, kittest.VerifyPath, kittest.Ada, project.Code(kittest.Ada))
	})
	mux.HandleFunc("/favicon.ico", http.NotFound)
	project.AddUser(descopetest.User{LoginID: kittest.Ada})
	site := startNginx(t, mux)
	signIn := func() {
		b.fill("Login ID", kittest.Ada)
		b.fill("Code", project.Code(kittest.Ada))
		b.sendForm()
	}

	b.open(site + "/shop/orders?page=2")
	b.at("/shop/account/signin")
	signIn()
	b.at("/shop/orders")
	assert.Equal(t, "?page=2", evaluate[string](b, "location.search"))

	b.setCookies(site, map[string]string{"DS": "", "DSR": ""})
	b.click("Order")
	b.at("/shop/account/signin")
	assert.Equal(t, "?return_to=%2Fshop%2Forders%3Fpage%3D2", evaluate[string](b, "location.search"))

	// A redirect of the router's own.
	b.open(site + "/shop/account")
	b.at("/shop/account/signin")

	// Without a way back.
	b.open(site + "/shop/account/signin")
	signIn()
	b.at("/shop/account/")
	b.click("Sign out")
	b.at("/shop/account/signed-out")
	assert.Equal(t, "/shop/", evaluate[string](b, `[...document.links].find((a) => !a.pathname.includes("/account/")).pathname`), "the way home")
	b.open(site + "/shop/form")
	b.click("In")
	b.at("/shop/")
	b.sees("shop window")
}

// Caddy as it comes: it passes Host on, with its port, and writes X-Forwarded-For itself, so
// that what a client sends in it says nothing.
func TestCaddy(t *testing.T) {
	byHeader := descopehttp.ClientIPFromHeader("X-Forwarded-For", netip.MustParsePrefix("127.0.0.1/32"))
	var seen netip.Addr
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.Cookies.InsecureHTTP = true
		c.ClientIP = func(r *http.Request) netip.Addr { seen = byHeader(r); return seen }
	})
	site := startCaddy(t, k.Handler())
	signIn := fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Ada, k.Project.Code(kittest.Ada))
	res, body := ask(t, "POST", site+kittest.VerifyPath, signIn, "Content-Type", "application/json", "X-Forwarded-For", "203.0.113.7", "Origin", site)
	assert.Equal(t, http.StatusOK, res.StatusCode, "%s", body)
	assert.Len(t, res.Cookies(), 2)
	assert.Equal(t, "127.0.0.1", seen.String())
}
