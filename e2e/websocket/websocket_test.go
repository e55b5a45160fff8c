// Package websocket_test holds the kit to two WebSocket libraries that answer a
// handshake differently: coder/websocket sends the headers that were set on the
// ResponseWriter, gorilla/websocket only those that it is given.
package websocket_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// An application echoes messages until its session ends.
type application struct {
	project *descopetest.Server
	server  *httptest.Server
}

// libraries are the two ways to accept a connection.
var libraries = map[string]func(t *testing.T) http.Handler{
	"coder": func(t *testing.T) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := coder.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			ctx, cancel := untilExpiry(r)
			defer cancel()
			for {
				kind, message, err := c.Read(ctx)
				if err != nil {
					return
				}
				if c.Write(ctx, kind, message) != nil {
					return
				}
			}
		})
	},
	"gorilla": func(t *testing.T) http.Handler {
		upgrader := gorilla.Upgrader{}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := upgrader.Upgrade(w, r, http.Header{"Set-Cookie": w.Header()["Set-Cookie"]})
			if err != nil {
				return
			}
			defer c.Close()
			ctx, cancel := untilExpiry(r)
			defer cancel()
			context.AfterFunc(ctx, func() { c.Close() })
			for {
				kind, message, err := c.ReadMessage()
				if err != nil {
					return
				}
				if c.WriteMessage(kind, message) != nil {
					return
				}
			}
		})
	},
}

// untilExpiry ends a connection with its session: nobody judges it again.
func untilExpiry(r *http.Request) (context.Context, context.CancelFunc) {
	s, _ := descopehttp.SessionFromContext(r.Context())
	return context.WithDeadline(context.WithoutCancel(r.Context()), s.Expiry())
}

func newApplication(t *testing.T, ttl time.Duration, wrap func(*descopehttp.Auth) http.Handler) *application {
	t.Helper()
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: kittest.Ada})
	project.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.RotateRefresh = ttl, true })
	k := kittest.For(t, project, func(c *descopehttp.Config) { c.Leeway, c.Cookies.InsecureHTTP = -1, true })
	require.NoError(t, k.Ready(t.Context()))
	server := httptest.NewServer(wrap(k.Auth))
	t.Cleanup(server.Close)
	return &application{project, server}
}

// dial opens a connection with the cookies of a sign-in. The response is that of
// the handshake.
func (a *application) dial(t *testing.T, tokens descopetest.Tokens, header http.Header) (*coder.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	if header == nil {
		header = make(http.Header)
	}
	header.Set("Cookie", "DS="+tokens.Session+"; DSR="+tokens.Refresh)
	return coder.Dial(ctx, "ws"+strings.TrimPrefix(a.server.URL, "http"), &coder.DialOptions{HTTPHeader: header})
}

func echo(t *testing.T, c *coder.Conn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Write(ctx, coder.MessageText, []byte("hello")); err != nil {
		return err
	}
	_, message, err := c.Read(ctx)
	if err == nil {
		assert.Equal(t, "hello", string(message))
	}
	return err
}

func TestValidSessionConnects(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			app := newApplication(t, time.Hour, func(a *descopehttp.Auth) http.Handler { return a.RequireSession(library(t)) })
			c, _, err := app.dial(t, app.project.SignIn(kittest.Ada), nil)
			require.NoError(t, err)
			defer c.CloseNow()
			assert.NoError(t, echo(t, c))
		})
	}
}

// A page of another site can open a WebSocket, and the browser sends the cookies.
//
// Rule: cookies: against a WebSocket that another site's page opens: an upgrade is judged as if
// it were a POST.
func TestForeignPageIsRefused(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			app := newApplication(t, time.Hour, func(a *descopehttp.Auth) http.Handler { return a.RequireSession(library(t)) })
			for _, header := range []http.Header{
				{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
				{"Origin": {"https://evil.example"}},
			} {
				_, res, err := app.dial(t, app.project.SignIn(kittest.Ada), header)
				require.Error(t, err)
				assert.Equal(t, http.StatusForbidden, res.StatusCode)
			}
		})
	}
}

// expired returns tokens whose session has ended and whose refresh token has not.
func expired(app *application) descopetest.Tokens {
	tokens := app.project.SignIn(kittest.Ada)
	tokens.Session = kittest.Expired(app.project, kittest.Ada, "DS")
	return tokens
}

// Without opting in, a handshake does not spend the refresh token: the new
// cookies might be lost.
func TestUpgradeDoesNotRefresh(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			app := newApplication(t, time.Hour, func(a *descopehttp.Auth) http.Handler { return a.RequireSession(library(t)) })
			tokens := expired(app)
			_, res, err := app.dial(t, tokens, nil)
			require.Error(t, err)
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
			assert.Empty(t, res.Cookies())
			assert.Zero(t, app.project.Requests(kittest.RefreshPath))
			assert.True(t, app.project.Honours(tokens.Refresh))
		})
	}
}

// A route that opted in renews, and the new cookies reach the client.
func TestUpgradeRefreshesWhereTheRouteOptsIn(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			app := newApplication(t, time.Hour, func(a *descopehttp.Auth) http.Handler {
				return a.RefreshUpgrades(a.RequireSession(library(t)))
			})
			c, res, err := app.dial(t, expired(app), nil)
			require.NoError(t, err)
			defer c.CloseNow()
			assert.NoError(t, echo(t, c))
			var names []string
			for _, cookie := range res.Cookies() {
				names = append(names, cookie.Name)
				if cookie.Name == "DSR" {
					assert.True(t, app.project.Honours(cookie.Value))
				}
			}
			assert.ElementsMatch(t, []string{"DS", "DSR"}, names)
			assert.Equal(t, 1, app.project.Requests(kittest.RefreshPath))
		})
	}
}

// A connection ends with the session that opened it.
func TestConnectionEndsWithTheSession(t *testing.T) {
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			app := newApplication(t, 3*time.Second, func(a *descopehttp.Auth) http.Handler { return a.RequireSession(library(t)) })
			c, _, err := app.dial(t, app.project.SignIn(kittest.Ada), nil)
			require.NoError(t, err)
			defer c.CloseNow()
			require.NoError(t, echo(t, c))
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			_, _, err = c.Read(ctx)
			require.Error(t, err)
			assert.NoError(t, ctx.Err(), "closed by the server, not by the test's deadline")
		})
	}
}
