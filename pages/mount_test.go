package pages_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/pages"
)

const maxWeight = 40_000 // bytes of a page and all that it loads, but for the QR code

// What every page has, and has not.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded})
	b := newBrowser(t, s)
	all := map[string]*shown{
		"signin":    b.open("/account/signin"),
		"signup":    b.open("/account/signup"),
		"signedout": b.open("/account/signed-out"),
		"notfound":  b.open("/account/no/such/page"),
		"failed":    b.submit(b.open("/account/signin"), url.Values{"loginId": {ada}, "code": {"000000"}}),
		"key":       b.submit(b.open("/account/signup"), url.Values{"loginId": {grace}}),
		"account":   b.signIn(s, ada),
		"refused":   b.open("/admin"),
		"confirm":   b.follow(b.open("/account/authenticator")),
	}
	b.submit(all["confirm"], url.Values{"code": {s.project.Code(ada)}})
	all["authenticator"] = b.open("/account/authenticator")
	assets := len(b.open("/account/app.js").body) + len(b.open("/account/style.css").body) + len(b.open("/account/icon.svg").body)
	titles := map[string]string{}
	for name, page := range all {
		h := page.Header
		assert.Equal(t, "no-store", h.Get("Cache-Control"), name)
		assert.Equal(t, "text/html; charset=utf-8", h.Get("Content-Type"), name)
		assert.Equal(t, "same-origin", h.Get("Referrer-Policy"), name)
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), name)
		csp := h.Get("Content-Security-Policy")
		assert.Contains(t, csp, "default-src 'none'", name)
		assert.Contains(t, csp, "frame-ancestors 'none'", name)
		assert.NotContains(t, csp, "unsafe", name)
		for _, inline := range []string{"<style", "style=", "<script>", " onclick", " onload"} {
			omits(t, page, inline, name)
		}
		assert.NotRegexp(t, `<script [^>]*>[^<]`, page.body, name)
		assert.Equal(t, 1, strings.Count(page.body, "<h1>"), name)
		assert.NotContains(t, page.body, "ZgotmplZ", name)
		title := regexp.MustCompile(`<title>(.*)</title>`).FindStringSubmatch(page.body)
		require.NotNil(t, title, name)
		if other, ok := titles[title[1]]; ok {
			assert.Fail(t, "two pages with one title", "%s, %s", name, other)
		}
		titles[title[1]] = name
		qr := regexp.MustCompile(`(data:image/png;base64,|name="qr" value=")[^"]*`).ReplaceAllString(page.body, "")
		headers := 900 // of the four answers
		assert.LessOrEqual(t, len(qr)+assets+4*headers, maxWeight, name)
	}
	for name, page := range all {
		signedIn := name == "account" || name == "refused" || name == "confirm" || name == "authenticator"
		assert.Equal(t, signedIn, strings.Contains(page.body, ">Sign out<"), name)
	}
	says(t, all["refused"], `href="/account/"`)
	says(t, all["refused"], `src="/account/app.js`)
	says(t, all["refused"], `<a class="button quiet" href="/account/">Your account</a>`)
	says(t, all["notfound"], `href="/account/style.css`)
	omits(t, all["signin"], `"/account/`, "links are relative")
}

// One line mounts all, under any prefix, stripped or not.
func TestMounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options pages.Options
		config  func(*descopehttp.Config)
		mount   func(*site)
		at      string
	}{
		"default":  {mount: func(s *site) { s.mux.Handle("/account/", s.pages) }, at: "/account/"},
		"stripped": {mount: func(s *site) { s.mux.Handle("/account/", http.StripPrefix("/account", s.pages)) }, at: "/account/"},
		"elsewhere": {options: pages.Options{Prefix: "/who/are/you/"},
			mount: func(s *site) { s.mux.Handle("/who/are/you/", s.pages) }, at: "/who/are/you/"},
		"behind a proxy that cuts": {config: func(c *descopehttp.Config) { c.PathPrefix = "/shop" },
			mount: func(s *site) {
				inner := http.NewServeMux()
				inner.Handle("/account/", s.pages)
				s.mux.Handle("/shop/", cutting("/shop", inner))
			}, at: "/shop/account/"},
		"outer router": {options: pages.Options{Prefix: "/a/b/"},
			mount: func(s *site) {
				inner := http.NewServeMux()
				inner.Handle("/b/", s.pages)
				s.mux.Handle("/a/", http.StripPrefix("/a", inner))
			}, at: "/a/b/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, edits{options: c.options, config: c.config, mount: c.mount})
			b := newBrowser(t, s)
			page := b.follow(b.open(c.at))
			require.Equal(t, http.StatusOK, page.StatusCode)
			assert.Equal(t, c.at+"signin", page.Request.URL.Path)
			page = b.submit(page, url.Values{"loginId": {ada}, "code": {s.project.Code(ada)}})
			page = b.follow(page)
			assert.Equal(t, c.at, page.Request.URL.Path)
			says(t, page, "Ada Lovelace")
			page = b.open(c.at + "authenticator")
			assert.Equal(t, c.at+"authenticator", location(t, page).Query().Get("return_to"))
			page = b.follow(page)
			assert.Equal(t, c.at+"signin", page.Request.URL.Path)
			page = b.follow(b.submit(page, url.Values{"code": {s.project.Code(ada)}}))
			assert.Equal(t, c.at+"authenticator", page.Request.URL.Path)
			for _, address := range regexp.MustCompile(`(?:href|src)="(\./(?:style\.css|app\.js|icon\.svg)[^"]*)"`).FindAllStringSubmatch(page.body, -1) {
				file := b.open(unescape(address[1]))
				assert.Equal(t, http.StatusOK, file.StatusCode, address[1])
				b.at = page.Request.URL
			}
			lost := b.open(c.at + "no/such")
			assert.Equal(t, http.StatusNotFound, lost.StatusCode)
			says(t, lost, `href="`+c.at+`style.css`)

			res := b.send(http.MethodPost, c.at+"v1/auth/totp/verify", nil, "Content-Type", "application/json")
			assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"), "the flows are there, too")
		})
	}
}

// cutting cuts a prefix like a proxy: nothing of the request shows it.
func cutting(prefix string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cut := r.Clone(r.Context())
		cut.URL.Path, cut.RequestURI = strings.TrimPrefix(r.URL.Path, prefix), strings.TrimPrefix(r.RequestURI, prefix)
		next.ServeHTTP(w, cut)
	})
}

// Refusals at the application's own addresses are pages for people, and documents for others.
func TestRefuse(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded})
	b := newBrowser(t, s)
	page := b.open("/orders")
	assert.Equal(t, "/account/signin?return_to=%2Forders", location(t, page).String())
	b.signIn(s, ada)

	asked := s.project.RequestCounts()[kittest.MePath]
	page = b.open("/admin")
	require.Equal(t, http.StatusForbidden, page.StatusCode)
	says(t, page, "a role that you do not have")
	says(t, page, ">Sign out<", "it knows that somebody is signed in")
	assert.Equal(t, asked, s.project.RequestCounts()[kittest.MePath], "who does not matter: a refusal costs no call")
	assert.Contains(t, page.Header.Values("Vary"), "Accept")
	res := b.send(http.MethodGet, "/admin", nil, "Accept", "application/json")
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
	var problem struct{ Code string }
	require.NoError(t, json.Unmarshal([]byte(res.body), &problem))
	assert.Equal(t, "missing_role", problem.Code)
	for header, value := range map[string]string{
		"HX-Request": "true", "X-Requested-With": "XMLHttpRequest", "Sec-Purpose": "prefetch;prerender", "Purpose": "prefetch",
	} {
		res := b.send(http.MethodGet, "/admin", nil, header, value, "Sec-Fetch-Mode", "cors")
		assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"), header)
	}
	for _, header := range [][]string{
		{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c"}, {"Upgrade", "websocket"}, // proxies offer what they like
		{"Sec-Fetch-Mode", "navigate", "X-Requested-With", "org.example.app"},
	} {
		page := b.send(http.MethodGet, "/admin", nil, header...)
		says(t, page, "a role that you do not have")
	}
	page = b.send(http.MethodPost, "/orders", url.Values{}, "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusForbidden, page.StatusCode)
	says(t, page, "Nothing was done.")

	b.hold("", s.project.SignIn(ada).Refresh)
	s.project.Fail("", descopetest.Fault{Drop: true, Times: -1})
	for _, address := range []string{"/orders", "/account/", "/account/authenticator", "/account/signin?acr_values=stepup"} {
		page = b.open(address)
		require.Equal(t, http.StatusServiceUnavailable, page.StatusCode, address)
		says(t, page, "You are still signed in", address)
		says(t, page, `data-then="reload"`, address)
		assert.NotEmpty(t, page.Header.Get("Retry-After"), address)
		omits(t, page, ">Sign in<", address)
	}
	page = b.send(http.MethodPost, "/orders", url.Values{})
	require.Equal(t, http.StatusServiceUnavailable, page.StatusCode)
	says(t, page, "What you sent was not taken.")
	omits(t, page, `data-then="reload"`)
	page = b.open("/account/signin")
	require.Equal(t, http.StatusOK, page.StatusCode)
	says(t, page, "If you were signed in, you still are.")
	assert.NotEmpty(t, b.cookie("DSR"))
}

func TestAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{})
	s.project.AddUser(descopetest.User{LoginID: "bob", Email: "bob@example.com", Tenant: "T1", Tenants: map[string]descopetest.Tenant{"T1": {Roles: []string{"editor"}}}})
	b := newBrowser(t, s)
	page := b.signIn(s, "bob")
	for _, text := range []string{"<bdi>bob</bdi></h1>", "bob@example.com", "T1", "editor", "totp", "Recent sign-ins", "192.0.2.1"} {
		says(t, page, text)
	}
	for range 6 {
		s.project.SignIn("bob")
	}
	assert.Equal(t, 5, strings.Count(b.open("/account/").body, "<li><span><time"))

	s.project.Fail(kittest.HistoryPath, descopetest.Fault{Status: http.StatusInternalServerError, Times: -1})
	page = b.open("/account/")
	says(t, page, "<bdi>bob</bdi></h1>")
	omits(t, page, "Recent sign-ins")
	s.project.Fail(kittest.MePath, descopetest.Fault{Status: http.StatusInternalServerError, Times: -1})
	page = b.open("/account/")
	require.Equal(t, http.StatusOK, page.StatusCode)
	says(t, page, "Your details cannot be loaded just now.")
	says(t, page, "Sign out everywhere")
}

func TestLostPhone(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{"": "Ask the people who run this site", "/help/phone": `href="/help/phone"`} {
		s := newSite(t, edits{options: pages.Options{LostPhone: url}})
		b := newBrowser(t, s)
		says(t, b.open("/account/signin"), want)
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	const css = ".pages { --accent: rebeccapurple }"
	s := newSite(t, edits{options: pages.Options{CSS: css, Logo: "https://cdn.example/logo.png", Name: "Shop <b>"}})
	b := newBrowser(t, s)
	page := b.open("/account/signin")
	says(t, page, "<bdi>Shop &lt;b&gt;</bdi>")
	says(t, page, `src="https://cdn.example/logo.png"`)
	assert.Contains(t, page.Header.Get("Content-Security-Policy"), "img-src 'self' data: https://cdn.example;")
	address := regexp.MustCompile(`href="(\./style\.css\?v=[0-9a-f]+)"`).FindStringSubmatch(page.body)
	require.NotNil(t, address)
	style := b.open(address[1])
	assert.True(t, strings.HasSuffix(style.body, css))
	assert.Contains(t, style.Header.Get("Cache-Control"), "immutable")
	assert.Equal(t, "text/css; charset=utf-8", style.Header.Get("Content-Type"))
	old := b.open("/account/style.css?v=other")
	assert.Equal(t, "no-cache", old.Header.Get("Cache-Control"))
	again := b.send(http.MethodGet, "/account/style.css", nil, "If-None-Match", old.Header.Get("ETag"))
	assert.Equal(t, http.StatusNotModified, again.StatusCode)
	tags := map[string]bool{}
	other := newBrowser(t, newSite(t, edits{}))
	for _, name := range []string{"style.css", "app.js", "icon.svg"} {
		tags[b.open("/account/"+name).Header.Get("ETag")] = true
		changed := name == "style.css"
		again := other.send(http.MethodGet, "/account/"+name, nil, "If-None-Match", b.open("/account/"+name).Header.Get("ETag"))
		assert.Equal(t, changed, again.StatusCode == http.StatusOK, "%s: its tag is that of its own content", name)
	}
	assert.Len(t, tags, 3)
}

// An application's own words, shell and pages.
func TestOwnTextsAndTemplates(t *testing.T) {
	t.Parallel()
	own := fstest.MapFS{
		"layout.html": {Data: []byte(`<!DOCTYPE html><title>{{.Title}}</title>{{template "head" .}}<body>my shell<div class="pages">{{template "main" .}}</div>`)},
		"signin.html": {Data: []byte(`{{define "main"}}my sign-in{{end}}`)},
		"more.html":   {Data: []byte(`{{define "account-more"}}more of {{with .User}}{{.Name}}{{end}}{{end}}`)},
		"notes.txt":   {Data: []byte(`{{broken`)},
	}
	s := newSite(t, edits{options: pages.Options{Templates: own, Texts: map[string]string{"signup.title": "Konto <anlegen>", "lang": "de"}}})
	b := newBrowser(t, s)
	page := b.open("/account/signin")
	says(t, page, "my shell")
	says(t, page, "my sign-in")
	page = b.open("/account/signup")
	says(t, page, "<h1>Konto &lt;anlegen&gt;</h1>")
	says(t, page, "my shell")
	b.send(http.MethodPost, "/account/signin", url.Values{"loginId": {ada}, "code": {s.project.Code(ada)}})
	says(t, b.open("/account/"), "more of Ada Lovelace")
}

// A mistake is an error at start.
func TestNewErrors(t *testing.T) {
	t.Parallel()
	file := func(name, content string) pages.Options {
		return pages.Options{Templates: fstest.MapFS{name: {Data: []byte(content)}}}
	}
	for name, c := range map[string]struct {
		options pages.Options
		config  func(*descopehttp.Config)
		says    string
	}{
		"prefix":             {options: pages.Options{Prefix: "account"}, says: "Options.Prefix"},
		"prefix of a host":   {options: pages.Options{Prefix: "//evil.example/"}, says: "Options.Prefix"},
		"logo":               {options: pages.Options{Logo: "javascript:alert(1)"}, says: "Options.Logo"},
		"home":               {options: pages.Options{Home: "home"}, says: "Options.Home"},
		"lost phone":         {options: pages.Options{LostPhone: "http://plain.example"}, says: "Options.LostPhone"},
		"unknown text":       {options: pages.Options{Texts: map[string]string{"signin.tilte": "x", "b": "y"}}, says: `of the name "b", "signin.tilte"`},
		"config":             {config: func(c *descopehttp.Config) { c.ProjectID = "" }, says: "Config.ProjectID"},
		"no cookies":         {config: func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody }, says: "Config.Tokens"},
		"syntax":             {options: file("signin.html", "{{define"), says: "signin.html"},
		"unknown field":      {options: file("signin.html", `{{define "main"}}{{.Nope}}{{end}}`), says: "Nope"},
		"unknown template":   {options: file("layout.html", `{{template "mian" .}}`), says: "mian"},
		"text not there":     {options: file("signup.html", `{{define "main"}}{{if .Error}}{{text "nope"}}{{end}}{{end}}`), says: `"nope"`},
		"misspelt file":      {options: file("sigin.html", "hello"), says: "sigin.html"},
		"main of no page":    {options: file("sigin.html", `{{define "main"}}hello{{end}}`), says: `"main" is defined in a file`},
		"no files":           {options: pages.Options{Templates: fstest.MapFS{}}, says: "no file ends in .html"},
		"broken definition":  {options: file("extra.html", `{{define "account-more"}}{{.Session.Nope}}{{end}}`), says: "Nope"},
		"unsafe combination": {options: file("signin.html", `{{define "main"}}<a href='{{if .Error}}x{{end}}{{end}}`), says: `on the page "signin"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := descopehttp.Config{ProjectID: kittest.ProjectID}
			if c.config != nil {
				c.config(&cfg)
			}
			_, _, err := pages.New(cfg, c.options)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.says)
		})
	}
	_, _, err := pages.New(descopehttp.Config{}, pages.Options{Prefix: "x", Texts: map[string]string{"x": ""}})
	for _, all := range []string{"Config.ProjectID", "Options.Prefix", "Options.Texts"} {
		assert.ErrorContains(t, err, all)
	}
	var one *descopehttp.ConfigError
	assert.ErrorAs(t, err, &one)
}

// What the application has chosen stays.
func TestConfigIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, edits{mount: guarded, config: func(c *descopehttp.Config) {
		c.LoginURL = "/welcome"
		c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusTeapot) }
	}})
	b := newBrowser(t, s)
	assert.Equal(t, http.StatusTeapot, b.open("/orders").StatusCode)
	b.signIn(s, ada)
	res := b.send(http.MethodPost, "/account/v1/auth/totp/update", nil, "Content-Type", "application/json")
	assert.Equal(t, http.StatusBadRequest, res.StatusCode)
	r, err := http.NewRequest(http.MethodPost, s.URL+"/account/v1/auth/totp/update", strings.NewReader(`{"loginId":"`+ada+`"}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	answer, err := b.http.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	assert.Equal(t, http.StatusUnauthorized, answer.StatusCode, "a session alone gives no new key, by no way")
}

// Every text is used by a page or a handler, and so is every one that they name there.
func TestTextsAreUsed(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	for _, pattern := range []string{"templates/*.html", "*.go"} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range names {
			if name == "texts.go" || strings.HasSuffix(name, "_test.go") {
				continue
			}
			content, err := os.ReadFile(name)
			require.NoError(t, err)
			sources.Write(content)
		}
	}
	list, err := os.ReadFile("texts.go")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^\t"([^"]+)":`).FindAllSubmatch(list, -1)
	require.Greater(t, len(found), 100)
	for _, text := range found {
		name := string(text[1])
		if strings.HasPrefix(name, "error.") || strings.HasPrefix(name, "notice.") {
			continue // they are put together
		}
		assert.Contains(t, sources.String(), `"`+name+`"`, "nobody says it")
	}
}
