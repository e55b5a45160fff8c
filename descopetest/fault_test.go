package descopetest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// refreshRequest makes the request of a refresh, to base or to the project's URL.
func refreshRequest(t *testing.T, ctx context.Context, s *descopetest.Server, base, token string) *http.Request {
	t.Helper()
	if base == "" {
		base = s.URL()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+kittest.RefreshPath, strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+s.ProjectID()+":"+token)
	return req
}

func rotating() *descopetest.Server {
	return newProject(func(t *descopetest.Settings) { t.RotateRefresh = true })
}

func TestFaultAnswers(t *testing.T) {
	s := rotating()
	token := s.SignIn(ann).Refresh

	s.Fail(kittest.RefreshPath, descopetest.Fault{Status: 503, Body: "<html>away</html>", Header: http.Header{"retry-after": {"7"}}, Times: 2})
	for range 2 {
		r := post(t, s, kittest.RefreshPath, token, "")
		assert.Equal(t, 503, r.StatusCode)
		assert.Equal(t, "<html>away</html>", string(r.raw))
		assert.Equal(t, "7", r.Header.Get("Retry-After"))
		assert.Equal(t, "text/html; charset=utf-8", r.Header.Get("Content-Type"))
	}
	assert.True(t, s.Honours(token)) // the call was not carried out
	token = ok(t, s, kittest.RefreshPath, token, "")["refreshJwt"].(string)

	s.Fail(kittest.RefreshPath, descopetest.Fault{Body: `{}`})
	r := post(t, s, kittest.RefreshPath, token, "")
	assert.Equal(t, 200, r.StatusCode)
	assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
	assert.Equal(t, "{}", string(r.raw))
	assert.True(t, s.Honours(token))

	s.Fail(kittest.RefreshPath, descopetest.Fault{Status: 502, After: true})
	r = post(t, s, kittest.RefreshPath, token, "")
	assert.Equal(t, 502, r.StatusCode)
	assert.Empty(t, r.raw)
	assert.False(t, s.Honours(token)) // it was

	s.Fail(kittest.RefreshPath, descopetest.Fault{Header: http.Header{"X-Extra": {"1"}}})
	r = post(t, s, kittest.RefreshPath, s.SignIn(ann).Refresh, "")
	assert.Equal(t, "1", r.Header.Get("X-Extra"))
	assert.NotEmpty(t, r.body["sessionJwt"])
}

func TestFaultQueue(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	s.Fail(kittest.RefreshPath, descopetest.Fault{Status: 500})
	s.Fail(kittest.RefreshPath, descopetest.Fault{Status: 501})
	s.Fail(kittest.KeysPath, descopetest.Fault{Status: 502, Times: 2})
	s.Fail("", descopetest.Fault{Status: 503, Times: -1})

	status := func(method, path string) int { return send(t, s, method, path, token, "").StatusCode }
	assert.Equal(t, 503, status(http.MethodGet, kittest.MePath))
	assert.Equal(t, 500, status(http.MethodPost, "/"+kittest.RefreshPath))
	assert.Equal(t, 501, status(http.MethodPost, kittest.RefreshPath))
	assert.Equal(t, 503, status(http.MethodPost, kittest.RefreshPath))
	assert.Equal(t, 502, status(http.MethodGet, "/v2/keys/"+s.ProjectID()))
	assert.Equal(t, 502, status(http.MethodGet, "/"+s.ProjectID()+"/.well-known/jwks.json"))
	for range 10 {
		assert.Equal(t, 503, status(http.MethodGet, "/v2/keys/"+s.ProjectID()))
	}
	assert.Equal(t, 503, status(http.MethodGet, "/nowhere"))
	s.Reset()
	assert.Equal(t, 200, status(http.MethodPost, kittest.RefreshPath))
}

func TestFaultsAreBounded(t *testing.T) {
	s := newProject()
	fail := func() { s.Fail(kittest.RefreshPath, descopetest.Fault{Status: 500}) }
	for range 1000 {
		fail()
	}
	assert.Panics(t, fail)
	post(t, s, kittest.RefreshPath, "", "") // uses one up
	fail()
	assert.Panics(t, fail)
	s.Reset()
	fail()
}

func TestFaultDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rotating()
		token := s.SignIn(ann).Refresh
		s.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 3 * time.Second})
		start := time.Now()
		token = ok(t, s, kittest.RefreshPath, token, "")["refreshJwt"].(string)
		assert.Equal(t, 3*time.Second, time.Since(start))

		t.Log("no lock is held meanwhile")
		s.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 3 * time.Second})
		start = time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { token = ok(t, s, kittest.RefreshPath, token, "")["refreshJwt"].(string) })
		synctest.Wait()
		ok(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`)
		s.SignIn(ann)
		assert.Equal(t, time.Duration(0), time.Since(start))
		wg.Wait()

		t.Log("the end of the context ends it, and the call never happened")
		for _, after := range []bool{false, true} {
			s.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Hour, After: after})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start = time.Now()
			_, err := s.Client().Do(refreshRequest(t, ctx, s, "", token))
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, time.Second, time.Since(start))
			assert.Equal(t, !after, s.Honours(token)) // with After it did
		}

		t.Log("a client's own timeout does, too")
		s.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Hour})
		client := s.Client()
		client.Timeout = 2 * time.Second
		start = time.Now()
		_, err := client.Do(refreshRequest(t, t.Context(), s, "", token))
		require.Error(t, err)
		assert.True(t, err.(interface{ Timeout() bool }).Timeout())
		assert.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestFaultDrop(t *testing.T) {
	s := rotating()
	token := s.SignIn(ann).Refresh
	for _, after := range []bool{false, true} {
		s.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, After: after})
		_, err := s.Client().Do(refreshRequest(t, t.Context(), s, "", token))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, !after, s.Honours(token))
	}
	assert.Equal(t, 2, s.Requests(kittest.RefreshPath))
}

func TestFaultTruncate(t *testing.T) {
	s := rotating()
	token := s.SignIn(ann).Refresh
	for _, c := range []struct {
		fault descopetest.Fault
		want  int
		spent bool
	}{
		{descopetest.Fault{Truncate: 10, Body: `{"sessionJwt":"x"}`}, 10, false},
		{descopetest.Fault{Truncate: 100, Body: `{}`}, 2, false},
		{descopetest.Fault{Truncate: 20}, 20, true},
	} {
		s.Fail(kittest.RefreshPath, c.fault)
		res, err := s.Client().Do(refreshRequest(t, t.Context(), s, "", token))
		require.NoError(t, err)
		assert.Equal(t, 200, res.StatusCode)
		got, err := io.ReadAll(res.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Len(t, got, c.want)
		assert.Equal(t, !c.spent, s.Honours(token))
	}
}

// Over a socket the same faults look the same.
func TestFaultsOverASocket(t *testing.T) {
	s := rotating()
	server := httptest.NewServer(s)
	defer server.Close()
	token := s.SignIn(ann).Refresh

	s.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true})
	_, err := server.Client().Do(refreshRequest(t, t.Context(), s, server.URL, token))
	require.Error(t, err)

	s.Fail(kittest.RefreshPath, descopetest.Fault{Truncate: 10})
	res, err := server.Client().Do(refreshRequest(t, t.Context(), s, server.URL, token))
	require.NoError(t, err)
	got, err := io.ReadAll(res.Body)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Len(t, got, 10)
	require.NoError(t, res.Body.Close())

	token = s.SignIn(ann).Refresh
	s.Fail(kittest.RefreshPath, descopetest.Fault{Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := server.Client().Do(refreshRequest(t, ctx, s, server.URL, token))
		result <- err
	}()
	require.Eventually(t, func() bool { return s.Requests(kittest.RefreshPath) == 3 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	assert.True(t, s.Honours(token))

	res, err = server.Client().Do(refreshRequest(t, t.Context(), s, server.URL+"/", token))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, 200, res.StatusCode)
}

func TestClientHonoursTheContext(t *testing.T) {
	s := rotating()
	token := s.SignIn(ann).Refresh
	ctx, cancel := context.WithCancel(t.Context())

	res, err := s.Client().Do(refreshRequest(t, ctx, s, "", token))
	require.NoError(t, err)
	_, err = res.Body.Read(make([]byte, 1))
	require.NoError(t, err)
	cancel()
	_, err = res.Body.Read(make([]byte, 1))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, res.Body.Close())
	_, err = res.Body.Read(make([]byte, 1))
	require.ErrorIs(t, err, http.ErrBodyReadAfterClose)

	before := s.Requests(kittest.RefreshPath)
	_, err = s.Client().Do(refreshRequest(t, ctx, s, "", token))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, before, s.Requests(kittest.RefreshPath))
}

func TestClientReachesTheProjectUnderAnyHost(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	for _, base := range []string{"https://api.descope.com", "http://127.0.0.1:1", s.URL()} {
		res, err := s.Client().Do(refreshRequest(t, t.Context(), s, base, token))
		require.NoError(t, err)
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, "200 OK", res.Status)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		assert.EqualValues(t, len(body), res.ContentLength)
		require.NoError(t, res.Body.Close())
	}
}

func TestClientClosesTheRequestBody(t *testing.T) {
	s := newProject()
	closed := false
	body := closer{strings.NewReader("{}"), func() { closed = true }}
	req, err := http.NewRequest(http.MethodPost, s.URL()+kittest.RefreshPath, body)
	require.NoError(t, err)
	_, err = s.Client().Do(req)
	require.NoError(t, err)
	assert.True(t, closed)
}

type closer struct {
	io.Reader
	close func()
}

func (c closer) Close() error { c.close(); return nil }

func TestUnreadableBody(t *testing.T) {
	s := newProject()
	req, err := http.NewRequest(http.MethodPost, s.URL()+kittest.RefreshPath, io.MultiReader(strings.NewReader("{"), broken{}))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+s.ProjectID())
	requireRefusal(t, do(t, s, req), 400, "E011001")
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

// A hook's panic is the test's own: it goes to the test, and leaves no lock.
func TestPanicOfAHook(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	s.Configure(func(t *descopetest.Settings) {
		t.EditClaims = func(string, map[string]any) { panic("hook") }
	})
	assert.PanicsWithValue(t, "hook", func() { s.Client().Do(refreshRequest(t, t.Context(), s, "", token)) })
	assert.True(t, s.Honours(token))
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	s := newProject()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				in := s.SignIn(ann)
				switch i {
				case 0:
					s.RotateKeys()
				case 1:
					s.Configure(func(t *descopetest.Settings) { t.RotateRefresh = !t.RotateRefresh })
				case 2:
					s.LogOut(ann)
				case 3:
					s.Fail(kittest.RefreshPath, descopetest.Fault{Status: 500})
				case 4:
					s.Reset()
				case 5:
					s.RevokeKeys()
				default:
					post(t, s, kittest.VerifyPath, in.Refresh, verifyBody(s, ann, `{"mfa":true}`))
					send(t, s, http.MethodGet, "/v2/keys/"+s.ProjectID(), "", "")
				}
				post(t, s, kittest.RefreshPath, in.Refresh, "")
				post(t, s, kittest.LogoutPath, in.Refresh, "")
				s.RequestCounts()
			}
		})
	}
	wg.Wait()
}
