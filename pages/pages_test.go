package pages_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/pages"
)

const (
	ada   = kittest.Ada
	grace = "grace@example.com"
)

// A site is an application with the pages mounted, over a project in memory.
type site struct {
	*httptest.Server
	auth    *descopehttp.Auth
	pages   *pages.Pages
	project *descopetest.Server
	mux     *http.ServeMux
	logs    *kittest.LogBuffer
}

// edits change what a site is made of.
type edits struct {
	config  func(*descopehttp.Config)
	options pages.Options
	mount   func(*site) // default: the one line
}

func newSite(t *testing.T, e edits) *site {
	t.Helper()
	s := &site{project: descopetest.NewServer(), mux: http.NewServeMux(), logs: new(kittest.LogBuffer)}
	s.project.Configure(func(set *descopetest.Settings) {
		set.AllowCodeReuse = true // else each code would have to be waited for
		set.Alg = "ES256"
	})
	s.project.AddUser(descopetest.User{LoginID: ada, Name: "Ada Lovelace"})
	cfg := s.config()
	if e.config != nil {
		e.config(&cfg)
	}
	var err error
	s.auth, s.pages, err = pages.New(cfg, e.options)
	require.NoError(t, err)
	if e.mount == nil {
		e.mount = func(s *site) { s.mux.Handle("/account/", s.pages) }
	}
	e.mount(s)
	s.Server = httptest.NewServer(s.mux)
	t.Cleanup(s.Close)
	return s
}

func (s *site) config() descopehttp.Config {
	return descopehttp.Config{
		ProjectID:  s.project.ProjectID(),
		BaseURL:    s.project.URL(),
		HTTPClient: s.project.Client(),
		Cookies:    descopehttp.Cookies{InsecureHTTP: true},
		Logger:     slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// A browser keeps cookies, has no script, and says where it comes from.
type browser struct {
	t    *testing.T
	at   *url.URL // the address of the page that it shows
	http http.Client
}

func newBrowser(t *testing.T, s *site) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	at, err := url.Parse(s.URL)
	require.NoError(t, err)
	return &browser{t: t, at: at, http: http.Client{
		Jar: jar, Timeout: kittest.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A shown page is an answer and its text.
type shown struct {
	*http.Response
	body string
}

func (b *browser) send(method, address string, form url.Values, header ...string) *shown {
	b.t.Helper()
	u, err := b.at.Parse(address)
	require.NoError(b.t, err)
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, u.String(), body)
	require.NoError(b.t, err)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Referer", b.at.String())
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := b.http.Do(r)
	require.NoError(b.t, err)
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	if res.StatusCode/100 != 3 {
		b.at = u
	}
	return &shown{res, string(content)}
}

func (b *browser) open(address string) *shown {
	b.t.Helper()
	return b.send(http.MethodGet, address, nil)
}

// follow opens an address and goes where it leads.
func (b *browser) follow(page *shown) *shown {
	b.t.Helper()
	for range 5 {
		if page.StatusCode != http.StatusSeeOther {
			return page
		}
		page = b.open(page.Request.URL.ResolveReference(location(b.t, page)).String())
	}
	require.Fail(b.t, "redirects without end")
	return nil
}

func location(t *testing.T, page *shown) *url.URL {
	t.Helper()
	require.Equal(t, http.StatusSeeOther, page.StatusCode, main(page))
	u, err := url.Parse(page.Header.Get("Location"))
	require.NoError(t, err)
	return u
}

var (
	forms  = regexp.MustCompile(`(?s)<form[^>]*>.*?</form>`)
	inputs = regexp.MustCompile(`(?s)<input\b[^>]*>`)
	attrs  = regexp.MustCompile(`\b([a-zA-Z-]+)="([^"]*)"`)
)

// submit fills in the last form of the page that has fields, and sends it to the address
// of the page.
func (b *browser) submit(page *shown, fields url.Values, header ...string) *shown {
	b.t.Helper()
	return b.send(http.MethodPost, b.at.String(), b.filled(page, fields), header...)
}

func (b *browser) filled(page *shown, fields url.Values) url.Values {
	b.t.Helper()
	all := forms.FindAllString(page.body, -1)
	require.NotEmpty(b.t, all, page.body)
	sent := url.Values{}
	for _, input := range inputs.FindAllString(all[len(all)-1], -1) {
		has := map[string]string{}
		for _, a := range attrs.FindAllStringSubmatch(input, -1) {
			has[a[1]] = unescape(a[2])
		}
		sent.Set(has["name"], has["value"])
	}
	for name, values := range fields {
		require.True(b.t, sent.Has(name), "the form has no field %s", name)
		sent[name] = values
	}
	return sent
}

var unescape = strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">").Replace

func (b *browser) cookie(name string) string {
	for _, c := range b.http.Jar.Cookies(b.at) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// hold gives the browser other tokens, "" for none.
func (b *browser) hold(session, refresh string) {
	for name, value := range map[string]string{"DS": session, "DSR": refresh} {
		c := &http.Cookie{Name: name, Value: value, Path: "/"}
		if value == "" {
			c.MaxAge = -1
		}
		b.http.Jar.SetCookies(b.at, []*http.Cookie{c})
	}
}

func (b *browser) signIn(s *site, loginID string) *shown {
	b.t.Helper()
	page := b.submit(b.open("/account/signin"), url.Values{"loginId": {loginID}, "code": {s.project.Code(loginID)}})
	page = b.follow(page)
	require.Equal(b.t, http.StatusOK, page.StatusCode)
	return page
}

// says checks that a page has a text or a piece of markup in it, and omits that it has not.
// A page is long: it is not part of the report.
func says(t *testing.T, page *shown, text string, why ...any) {
	t.Helper()
	if !strings.Contains(page.body, text) {
		assert.Fail(t, "the page does not say it", "%s on %s: %v\n%s", text, page.Request.URL, why, main(page))
	}
}

func omits(t *testing.T, page *shown, text string, why ...any) {
	t.Helper()
	if strings.Contains(page.body, text) {
		assert.Fail(t, "the page says it", "%s on %s: %v", text, page.Request.URL, why)
	}
}

var tags = regexp.MustCompile(`(?s)<[^>]*>|\s+`)

func main(page *shown) string {
	_, text, _ := strings.Cut(page.body, "<main")
	return tags.ReplaceAllString(text, " ")
}
