package main

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

const (
	ada      = "ada@example.com"
	patience = 20 * time.Second
	life     = 3 * time.Second // of a session
)

// A site has a server whose WriteTimeout is shorter than a session.
type site struct {
	project *descopetest.Server
	url     string
	ctx     context.Context // bounds every wait
}

func start(t *testing.T) *site {
	t.Helper()
	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) { s.SessionTTL = life })
	project.AddUser(descopetest.User{LoginID: ada})
	handler, err := newHandler(descopehttp.Config{
		ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client(),
		Cookies: descopehttp.Cookies{InsecureHTTP: true}, Leeway: -1,
	})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.Config.WriteTimeout = time.Second
	server.Start()
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &site{project: project, url: server.URL, ctx: ctx}
}

func cookies(tokens descopetest.Tokens) string {
	return "DS=" + tokens.Session + "; DSR=" + tokens.Refresh
}

func (s *site) get(t *testing.T, path, cookie string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.url+path, nil)
	require.NoError(t, err)
	r.Header.Set("Cookie", cookie)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func (s *site) dial(header http.Header) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(s.ctx, "ws"+strings.TrimPrefix(s.url, "http")+"/socket", &websocket.DialOptions{HTTPHeader: header})
}

func TestStreamsNeedASession(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, path := range []string{"/session", "/events", "/socket"} {
		assert.Equal(t, http.StatusUnauthorized, s.get(t, path, "").StatusCode, path)
	}
	// A page of another site can open a socket, and the browser sends the cookies.
	_, res, err := s.dial(http.Header{"Cookie": {cookies(s.project.SignIn(ada))}, "Origin": {"https://evil.example"}})
	require.Error(t, err)
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
}

// Events come until the session ends. The browser then asks again, with the same cookies,
// and the middleware renews.
func TestEventsEndWithTheSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	end := time.Now().Add(life).Truncate(time.Second) // a token has whole seconds
	tokens := s.project.SignIn(ada)
	res := s.get(t, "/events", cookies(tokens))
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	events := 0
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") {
			events++
		}
	}
	require.NoError(t, lines.Err(), "ended by the server, and whole")
	assert.False(t, time.Now().Before(end), "the session was not over")
	assert.GreaterOrEqual(t, events, 2)

	again := s.get(t, "/events", cookies(tokens))
	require.Equal(t, http.StatusOK, again.StatusCode)
	assert.NotEmpty(t, again.Cookies(), "a new session")
}

func TestSocketEndsWithTheSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	end := time.Now().Add(life).Truncate(time.Second)
	tokens := s.project.SignIn(ada)
	c, _, err := s.dial(http.Header{"Cookie": {cookies(tokens)}})
	require.NoError(t, err)
	defer c.CloseNow()
	require.NoError(t, c.Write(s.ctx, websocket.MessageText, []byte("hello")))
	_, message, err := c.Read(s.ctx)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(message))

	_, _, err = c.Read(s.ctx)
	assert.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err), "%v", err)
	assert.False(t, time.Now().Before(end), "the session was not over")

	// A handshake renews no session; what the page asks for first does.
	_, res, err := s.dial(http.Header{"Cookie": {cookies(tokens)}})
	require.Error(t, err)
	assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
	asked := s.get(t, "/session", cookies(tokens))
	require.Equal(t, http.StatusOK, asked.StatusCode)
	var fresh []string
	for _, cookie := range asked.Cookies() {
		fresh = append(fresh, cookie.Name+"="+cookie.Value)
	}
	c, _, err = s.dial(http.Header{"Cookie": {strings.Join(fresh, "; ")}})
	require.NoError(t, err)
	c.CloseNow()
}
