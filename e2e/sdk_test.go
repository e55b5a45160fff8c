package e2e

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A mount is an application that has the kit under /auth/ and whose page uses
// Descope's browser SDK on it.
type mount struct {
	*tab
	url     string
	project *descopetest.Server
}

func startMount(t *testing.T, delivery descopehttp.Delivery, configure func(*descopetest.Settings)) *mount {
	t.Helper()
	b := newBrowser(t)
	packages := webPackages(t)

	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) {
		s.RotateRefresh = true
		s.AllowCodeReuse = true
		if configure != nil {
			configure(s)
		}
	})
	auth, err := descopehttp.New(descopehttp.Config{
		ProjectID:  project.ProjectID(),
		BaseURL:    project.URL(),
		HTTPClient: project.Client(),
		Tokens:     delivery,
		Logger:     slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/auth/", http.StripPrefix("/auth", auth.Handler()))
	mux.Handle("/whoami", auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := descopehttp.SessionFromContext(r.Context())
		fmt.Fprint(w, session.Subject())
	})))
	mux.Handle("/", http.FileServer(http.Dir(filepath.Dir(packages))))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	m := &mount{b, server.URL, project}
	m.open(m.url + "/sdk.html?project=" + project.ProjectID())
	m.sees("signed out")
	return m
}

// reload loads the page anew and waits until the SDK has settled.
func (m *mount) reload() string {
	m.t.Helper()
	m.open(m.url + "/sdk.html?project=" + m.project.ProjectID())
	return until[string](m.tab, `document.querySelector("#state")?.textContent.replace("starting", "")`)
}

// An outcome is what a call of the SDK resolves to.
type outcome struct {
	OK    bool
	Code  int
	Error struct{ ErrorCode string }
	Data  struct {
		Key        string
		SessionJWT string
		RefreshJWT string
		LoginIDs   []string
		User       struct{ LoginIDs []string }
	}
}

// call calls the SDK.
func (m *mount) call(format string, args ...any) outcome {
	m.t.Helper()
	return evaluate[outcome](m.tab, `sdk.`+format+`.then((r) => ({ OK: r.ok, Code: r.code, Error: { ErrorCode: r.error?.errorCode ?? "" }, Data: {
		Key: r.data?.key ?? "", SessionJWT: r.data?.sessionJwt ?? "", RefreshJWT: r.data?.refreshJwt ?? "",
		LoginIDs: r.data?.loginIds ?? [], User: { LoginIDs: r.data?.user?.loginIds ?? [] } } }))`, args...)
}

func (m *mount) whoami() int {
	m.t.Helper()
	return evaluate[int](m.tab, `fetch("/whoami", { headers: sdk.getSessionToken() ? { Authorization: "Bearer " + sdk.getSessionToken() } : {} }).then((r) => r.status)`)
}

func (m *mount) authenticated() bool {
	m.t.Helper()
	return evaluate[bool](m.tab, `told.authenticated === true`)
}

func (m *mount) signUp(loginID string) {
	m.t.Helper()
	key := m.call(`totp.signUp(%s, { name: "Grace Hopper" })`, loginID)
	require.True(m.t, key.OK, key)
	require.NotEmpty(m.t, key.Data.Key)
	verified := m.call(`totp.verify(%s, %s)`, loginID, m.project.Code(loginID))
	require.True(m.t, verified.OK, verified)
	require.Equal(m.t, []string{loginID}, verified.Data.User.LoginIDs)
}

const grace = "grace@example.com"

// A delivery is what a page sees of the tokens that its SDK has been given.
type delivery struct {
	how              descopehttp.Delivery
	session, refresh bool     // a script sees them
	cookies          []string // the browser holds them
}

// changes is how often onSessionTokenChange is called for each new session.
func (d delivery) changes() int {
	if d.session {
		return 1
	}
	return 0
}

// signIn signs grace up and in, with a wrong code first.
func (m *mount) signIn(d delivery) {
	m.t.Helper()
	require.True(m.t, m.call(`totp.signUp(%s)`, grace).OK)
	wrong := m.call(`totp.verify(%s, %s)`, grace, wrongCode(m.project.Code(grace)))
	assert.False(m.t, wrong.OK)
	assert.Equal(m.t, "E061102", wrong.Error.ErrorCode)
	assert.False(m.t, m.authenticated())
	assert.Equal(m.t, http.StatusUnauthorized, m.whoami())

	m.signUp(grace)
	assert.True(m.t, m.authenticated())
	assert.Equal(m.t, grace, evaluate[string](m.tab, `told.user`))
	assert.Equal(m.t, http.StatusOK, m.whoami())
	held := m.cookies()
	require.Len(m.t, held, len(d.cookies))
	for _, name := range d.cookies {
		require.Contains(m.t, held, name)
		assert.True(m.t, held[name].HTTPOnly && held[name].Secure, name)
		assert.Equal(m.t, "Lax", held[name].SameSite.String(), name)
	}
	assert.Equal(m.t, d.session, evaluate[string](m.tab, `sdk.getSessionToken() ?? ""`) != "")
	assert.Equal(m.t, d.refresh, evaluate[string](m.tab, `sdk.getRefreshToken() ?? ""`) != "")
	assert.Equal(m.t, d.changes(), evaluate[int](m.tab, `told.sessionTokens.length`), "onSessionTokenChange")

	me := m.call(`me()`)
	require.True(m.t, me.OK, me)
	assert.Equal(m.t, []string{grace}, me.Data.LoginIDs)
}

// renew refreshes at the page's own request, and then loads it anew.
func (m *mount) renew(d delivery) {
	m.t.Helper()
	refreshed := m.call(`refresh()`)
	require.True(m.t, refreshed.OK, refreshed)
	assert.Equal(m.t, 1, m.project.Requests(kittest.RefreshPath))
	assert.Equal(m.t, d.session, refreshed.Data.SessionJWT != "")
	assert.Equal(m.t, d.refresh, refreshed.Data.RefreshJWT != "")
	assert.Equal(m.t, 2*d.changes(), evaluate[int](m.tab, `told.sessionTokens.length`), "onSessionTokenChange")
	assert.Equal(m.t, http.StatusOK, m.whoami())

	assert.Equal(m.t, "signed in", m.reload())
	assert.Equal(m.t, http.StatusOK, m.whoami())
	require.True(m.t, m.call(`me()`).OK)
}

// outage has Descope fail for a while, and come back.
func (m *mount) outage(d delivery) {
	m.t.Helper()
	m.project.Fail("", descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
	refreshes, mes := m.answered("/auth"+kittest.RefreshPath), m.answered("/auth"+kittest.MePath)
	assert.False(m.t, m.call(`refresh()`).OK)
	assert.False(m.t, m.call(`me()`).OK)
	assert.Equal(m.t, []int{refreshes + 1, mes + 1}, []int{m.answered("/auth" + kittest.RefreshPath), m.answered("/auth" + kittest.MePath)},
		"the SDK was made to wait and ask again")
	assert.True(m.t, m.authenticated(), "an outage signs nobody out")
	assert.Equal(m.t, http.StatusOK, m.whoami())
	assert.Equal(m.t, d.refresh, evaluate[string](m.tab, `sdk.getRefreshToken() ?? ""`) != "")
	m.reload()
	m.project.Reset()
	// The kit asks Descope about this user again after a second, or two.
	require.Eventually(m.t, func() bool { return m.reload() == "signed in" }, patience, time.Second)
	assert.Len(m.t, m.cookies(), len(d.cookies))
}

func (m *mount) signOut(d delivery) {
	m.t.Helper()
	out := m.call(`logout()`)
	require.True(m.t, out.OK, out)
	assert.False(m.t, m.authenticated())
	if d.session {
		assert.True(m.t, evaluate[bool](m.tab, `told.sessionTokens.at(-1) === null`), "onSessionTokenChange")
	}
	assert.Empty(m.t, m.cookies())
	assert.Empty(m.t, evaluate[string](m.tab, `(sdk.getSessionToken() ?? "") + (sdk.getRefreshToken() ?? "")`))
	assert.Equal(m.t, http.StatusUnauthorized, m.whoami())
	assert.Equal(m.t, "signed out", m.reload())
	assert.False(m.t, m.call(`refresh()`).OK)
}

// Descope's browser SDK on a mount of the kit, unmodified, whichever way the
// tokens are delivered.
func TestBrowserSDK(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]delivery{
		"InCookies":     {descopehttp.InCookies, false, false, []string{"__Host-DS", "__Host-DSR"}},
		"SessionInBody": {descopehttp.SessionInBody, true, false, []string{"__Host-DSR"}},
		"InBody":        {descopehttp.InBody, true, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startMount(t, d.how, nil)
			m.signIn(d)
			m.renew(d)
			m.outage(d)
			m.signOut(d)
		})
	}
}

// The pages that README and docs show as HTML work as they stand there.
func TestPagesAsPrinted(t *testing.T) {
	t.Parallel()
	pages := htmlBlocks(t)
	folder, err := webFolder()
	require.NoError(t, err)
	m := startMount(t, descopehttp.InCookies, nil)
	m.project.AddUser(descopetest.User{LoginID: kittest.Ada})
	for i, page := range pages {
		name := fmt.Sprintf("printed-%d.html", i)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("<!DOCTYPE html>"+page), 0o644))
		m.playPrinted(m.url + "/" + name)
	}
}

// htmlBlocks returns the blocks of HTML in README and docs.
func htmlBlocks(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "docs", "*.md"))
	require.NoError(t, err)
	var blocks []string
	for _, file := range append(files, filepath.Join("testdata", "README.md")) {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, rest := range strings.Split(string(content), "\n```html\n")[1:] {
			block, _, found := strings.Cut(rest, "\n```\n")
			require.True(t, found)
			blocks = append(blocks, block)
		}
	}
	require.NotEmpty(t, blocks)
	return blocks
}

// playPrinted signs in and out on a page with a form for it.
func (m *mount) playPrinted(url string) {
	m.t.Helper()
	m.open(url)
	m.sees("signed out")
	m.fill("Login ID", kittest.Ada)
	m.fill("Code", wrongCode(m.project.Code(kittest.Ada)))
	m.enter()
	m.sees("The code is not valid for this user.")
	m.fill("Code", m.project.Code(kittest.Ada))
	m.click("Sign in")
	m.sees("hello " + kittest.Ada)
	assert.Len(m.t, m.cookies(), 2)
	m.open(url)
	m.sees("hello " + kittest.Ada)
	m.click("Sign out")
	m.sees("signed out")
	assert.Empty(m.t, m.cookies())
	m.open(url)
	m.sees("signed out")
}

// The SDK renews a session by itself, 20 s before its end, and only one that
// lives for more than 40 s.
func TestBrowserSDKRenewsByItself(t *testing.T) {
	t.Parallel()
	m := startMount(t, descopehttp.SessionInBody, func(s *descopetest.Settings) { s.SessionTTL = 43 * time.Second })
	m.signUp("grace@example.com")
	first := evaluate[string](m.tab, `sdk.getSessionToken()`)
	next := until[string](m.tab, `told.sessionTokens.length > 1 && sdk.getSessionToken()`)
	assert.NotEqual(t, first, next)
	assert.Equal(t, 1, m.project.Requests(kittest.RefreshPath))
	assert.Equal(t, 3, strings.Count(next, ".")+1)
	assert.Equal(t, http.StatusOK, m.whoami())
}
