package descopeecho_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/descopetest"
)

// echo.WrapMiddleware would put two Responses more around the answer: what outer
// middleware registers on its Response would not run, and what it reads there
// would not be the answer.
func TestOneResponse(t *testing.T) {
	project, a := newAuth(t)
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
	}, descopeecho.LoadSession(a), descopeecho.RequireSession(a))
	e.GET("/app", func(c *echo.Context) (err error) {
		inner, err = echo.UnwrapResponse(c.Response())
		require.NoError(t, err)
		return c.String(http.StatusAccepted, "hello")
	})
	r := httptest.NewRequest(http.MethodGet, "/app", nil)
	r.Header.Set("Authorization", "Bearer "+project.SignIn(ann).Session)
	e.ServeHTTP(httptest.NewRecorder(), r)
	assert.Same(t, outer, inner)
	assert.Equal(t, 1, hooks)
	assert.Equal(t, http.StatusAccepted, outer.Status)
	assert.EqualValues(t, len("hello"), outer.Size)
}

// What echo's own middleware sees of a refusal: an answer, and no error.
func TestOuterMiddlewareSeesTheRefusal(t *testing.T) {
	_, a := newAuth(t)
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
	}, descopeecho.RequireSession(a))
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/app", nil))
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnauthorized, status)
}

const ann = "ann@example.com"

func newAuth(t *testing.T) (*descopetest.Server, *descopehttp.Auth) {
	t.Helper()
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: ann})
	a, err := descopehttp.New(descopehttp.Config{ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client()})
	require.NoError(t, err)
	return project, a
}
