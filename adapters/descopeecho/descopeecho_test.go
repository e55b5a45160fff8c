package descopeecho_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/labstack/echo/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// echo.WrapMiddleware would put two Responses more around the answer: what outer
// middleware registers on its Response would not run, and what it reads there
// would not be the answer.
func TestOneResponse(t *testing.T) {
	k := kittest.New(t)
	e := echo.New()
	hooks := 0
	var outer, inner *echo.Response
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) (err error) {
			outer, err = echo.UnwrapResponse(c.Response())
			require.NoError(t, err)
			outer.Before(func() { hooks++ })
			return next(c)
		}
	}, descopeecho.LoadSession(k.Auth), descopeecho.RequireSession(k.Auth))
	e.GET("/app", func(c *echo.Context) (err error) {
		inner, err = echo.UnwrapResponse(c.Response())
		require.NoError(t, err)
		return c.String(http.StatusAccepted, "hello")
	})
	kittest.Serve(e, kittest.WithBearer(kittest.Get("/app"), k.Project.SignIn(kittest.Ada).Session))
	assert.Same(t, outer, inner)
	assert.Equal(t, 1, hooks)
	assert.Equal(t, http.StatusAccepted, outer.Status)
	assert.EqualValues(t, len("hello"), outer.Size)
}

// What echo's own middleware sees of a refusal: an answer, and no error.
func TestOuterMiddlewareSeesTheRefusal(t *testing.T) {
	k := kittest.New(t)
	e := echo.New()
	e.HTTPErrorHandler = func(*echo.Context, error) { t.Error("the error handler ran") }
	var status int
	err := errors.New("not run")
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			err = next(c)
			_, status = echo.ResolveResponseStatus(c.Response(), err)
			return err
		}
	})
	e.GET("/app", func(*echo.Context) error {
		t.Error("the page ran")
		return nil
	}, descopeecho.RequireSession(k.Auth))
	kittest.Serve(e, kittest.Get("/app"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnauthorized, status)
}
