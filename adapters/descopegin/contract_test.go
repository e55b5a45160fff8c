package descopegin_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/adapters/descopegin"
	"github.com/descopehttp/descopehttp/internal/adaptertest"
)

func init() { gin.SetMode(gin.TestMode) }

func TestContract(t *testing.T) {
	everySwitch := func(e *gin.Engine) {
		e.RedirectFixedPath = true
		e.HandleMethodNotAllowed = true
		e.RemoveExtraSlash = true
		e.UseRawPath = true
		e.ContextWithFallback = true
	}
	tests := map[string]struct {
		protect func(*gin.Engine, *adaptertest.Site)
		set     gin.OptionFunc
	}{
		"on a route":   {onRoute, func(*gin.Engine) {}},
		"on a group":   {onGroup, func(*gin.Engine) {}},
		"on an engine": {onEngine, func(*gin.Engine) {}},
		"every switch": {onEngine, everySwitch},
		"escaped path": {onGroup, func(e *gin.Engine) { e.UseEscapedPath = true }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, adaptertest.Check(func(s *adaptertest.Site) http.Handler {
				return build(s, gin.New(test.set), test.protect)
			}))
		})
	}
}

func build(s *adaptertest.Site, e *gin.Engine, protect func(*gin.Engine, *adaptertest.Site)) http.Handler {
	// It does not abort, which gin leaves to whoever writes a recovery.
	e.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) {
		c.Status(http.StatusInternalServerError)
	}))
	e.Use(func(c *gin.Context) {
		c.Next()
		for _, err := range c.Errors {
			s.Fail(c.Writer, c.Request, err)
		}
	})
	protect(e, s)
	for _, m := range s.Mounts {
		group := e.Group(m.Group)
		descopegin.Mount(group, m.Prefix, s.Auth)
		group.GET(m.Prefix+"/login", func(c *gin.Context) {
			_ = s.Serve(c.Writer, c.Request, nil, false, c.Param)
		})
	}
	for _, f := range s.Flows {
		e.Handle(f.Method, f.Path, gin.WrapF(f.Handler))
	}
	return e
}

func onRoute(e *gin.Engine, s *adaptertest.Site) {
	e.Group(path(s.Group)).Any(path(s.Page), append(middleware(s), page(s))...)
}

func onGroup(e *gin.Engine, s *adaptertest.Site) {
	e.Group(path(s.Group), middleware(s)...).Any(path(s.Page), page(s))
}

func onEngine(e *gin.Engine, s *adaptertest.Site) {
	e.Use(middleware(s)...)
	e.Group(path(s.Group)).Any(path(s.Page), page(s))
}

func middleware(s *adaptertest.Site) []gin.HandlerFunc {
	return adaptertest.Middleware(s, descopegin.RequireSession, descopegin.LoadSession, descopegin.Require)
}

func page(s *adaptertest.Site) gin.HandlerFunc {
	return func(c *gin.Context) {
		session, ok := descopegin.Session(c)
		if err := s.Serve(c.Writer, c.Request, session, ok, c.Param); err != nil {
			_ = c.Error(err)
		}
	}
}

// path writes a path of net/http's as gin does.
func path(pattern string) string { return strings.NewReplacer("{", ":", "}", "").Replace(pattern) }
