package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
)

const linesLimit = 40

// A browser comes for the page, is sent to sign in, and is led back to it.
func TestSignIn(t *testing.T) {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ada@example.com"})
	descope := httptest.NewServer(project)
	defer descope.Close()
	t.Setenv("DESCOPE_PROJECT_ID", project.ProjectID())
	t.Setenv("DESCOPE_BASE_URL", descope.URL)
	h, err := app()
	require.NoError(t, err)
	site := httptest.NewServer(h)
	defer site.Close()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := http.Client{Jar: jar}
	read := func(res *http.Response, err error) (*http.Response, string) {
		t.Helper()
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res, string(body)
	}

	open, err := http.NewRequest(http.MethodGet, site.URL+"/some/page", nil)
	require.NoError(t, err)
	open.Header.Set("Accept", "text/html")
	asked, page := read(client.Do(open))
	require.Equal(t, "/account/signin", asked.Request.URL.Path)
	assert.Contains(t, page, "<h1>Sign in</h1>")
	form := url.Values{"loginId": {"ada@example.com"}, "code": {project.Code("ada@example.com")}}
	came, page := read(client.PostForm(asked.Request.URL.String(), form))
	assert.Equal(t, "/some/page", came.Request.URL.Path)
	assert.Contains(t, page, "hello U")

	_, page = read(http.Get(site.URL + "/some/page"))
	assert.NotContains(t, page, "hello")
}

// Without a project it says what is missing.
func TestWithoutProject(t *testing.T) {
	t.Setenv("DESCOPE_PROJECT_ID", "")
	_, err := app()
	assert.ErrorContains(t, err, "ProjectID")
}

func TestLines(t *testing.T) {
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	assert.LessOrEqual(t, strings.Count(string(source), "\n"), linesLimit)
}
