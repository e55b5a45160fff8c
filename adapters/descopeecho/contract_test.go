package descopeecho_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/labstack/echo/v5"
	echomiddleware "github.com/labstack/echo/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/internal/adaptertest"
)

func TestContract(t *testing.T) {
	tests := map[string]func(*echo.Echo, *adaptertest.Site){
		"on a route": func(e *echo.Echo, s *adaptertest.Site) {
			e.Group(path(s.Group)).Any(path(s.Page), page(s), middleware(s)...)
		},
		"on a group": func(e *echo.Echo, s *adaptertest.Site) {
			e.Group(path(s.Group), middleware(s)...).Any(path(s.Page), page(s))
		},
		"on an echo": func(e *echo.Echo, s *adaptertest.Site) {
			e.Use(middleware(s)...)
			e.Group(path(s.Group)).Any(path(s.Page), page(s))
		},
	}
	for name, protect := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, adaptertest.Check(func(s *adaptertest.Site) http.Handler {
				return build(s, protect)
			}))
		})
	}
}

func build(s *adaptertest.Site, protect func(*echo.Echo, *adaptertest.Site)) http.Handler {
	e := echo.New()
	e.Logger = slog.New(slog.DiscardHandler)
	e.HTTPErrorHandler = func(c *echo.Context, err error) { s.Fail(c.Response(), c.Request(), err) }
	e.Use(echomiddleware.Recover())
	for _, m := range s.Mounts {
		login := func(c *echo.Context) error {
			return s.Serve(c.Response(), c.Request(), nil, false, c.Param)
		}
		if m.Group == "" {
			descopeecho.Mount(e, m.Prefix, s.Auth)
			e.GET(strings.TrimSuffix(m.Prefix, "/")+"/login", login)
			continue
		}
		group := e.Group(m.Group)
		descopeecho.Mount(group, m.Prefix, s.Auth)
		group.GET(strings.TrimSuffix(m.Prefix, "/")+"/login", login)
	}
	for _, f := range s.Flows {
		e.Add(f.Method, f.Path, echo.WrapHandler(f.Handler))
	}
	protect(e, s)
	return e
}

func middleware(s *adaptertest.Site) []echo.MiddlewareFunc {
	return adaptertest.Middleware(s, descopeecho.RequireSession, descopeecho.LoadSession, descopeecho.Require)
}

func page(s *adaptertest.Site) echo.HandlerFunc {
	return func(c *echo.Context) error {
		session, ok := descopeecho.Session(c)
		return s.Serve(c.Response(), c.Request(), session, ok, c.Param)
	}
}

// path writes a path of net/http's as echo does.
func path(pattern string) string { return strings.NewReplacer("{", ":", "}", "").Replace(pattern) }
