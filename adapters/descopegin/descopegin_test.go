package descopegin_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopegin"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// What gin's own middleware sees of a refusal: access logs, metrics, and pages
// for errors that nobody has answered.
func TestOuterMiddlewareSeesTheRefusal(t *testing.T) {
	bare := func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusNotFound) }
	silent := func(http.ResponseWriter, *http.Request, error) {}
	tests := []struct {
		name         string
		errorHandler func(http.ResponseWriter, *http.Request, error)
		protect      func(*descopehttp.Auth) gin.HandlerFunc
		signedIn     bool
		status       int
		body         string
	}{
		{"RequireSession", nil, descopegin.RequireSession, false, http.StatusUnauthorized, `"code":"no_session"`},
		{"Require", nil, refusing, true, http.StatusForbidden, `"code":"forbidden"`},
		{"RequireSession with an ErrorHandler", bare, descopegin.RequireSession, false, http.StatusNotFound, ""},
		{"Require with an ErrorHandler", bare, refusing, true, http.StatusNotFound, ""},
		{"RequireSession with an ErrorHandler that writes nothing", silent, descopegin.RequireSession, false, http.StatusInternalServerError, `"code":"internal"`},
		{"Require with an ErrorHandler that writes nothing", silent, refusing, true, http.StatusInternalServerError, `"code":"internal"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) { c.ErrorHandler = test.errorHandler })
			e := gin.New()
			var aborted, written bool
			var status int
			e.Use(func(c *gin.Context) {
				c.Next()
				aborted, written, status = c.IsAborted(), c.Writer.Written(), c.Writer.Status()
				if !written {
					c.String(http.StatusTeapot, "nobody has answered")
				}
			})
			e.GET("/app", test.protect(k.Auth), func(*gin.Context) { t.Error("the page ran") })
			r := kittest.Get("/app")
			if test.signedIn {
				kittest.WithBearer(r, k.Project.SignIn(kittest.Ada).Session)
			}
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			assert.True(t, aborted)
			assert.True(t, written)
			assert.Equal(t, test.status, status)
			assert.Equal(t, test.status, w.Code)
			if test.body == "" {
				assert.Empty(t, w.Body.String())
			} else {
				assert.Contains(t, w.Body.String(), test.body)
			}
		})
	}
}

// And of a request that was let in: it is not aborted, and says who it was.
func TestOuterMiddlewareSeesTheSession(t *testing.T) {
	k := kittest.New(t)
	e := gin.New()
	var aborted, ok bool
	e.Use(func(c *gin.Context) {
		c.Next()
		aborted = c.IsAborted()
		_, ok = descopegin.Session(c)
	})
	e.GET("/app", descopegin.RequireSession(k.Auth), func(c *gin.Context) { c.Status(http.StatusNoContent) })
	w := httptest.NewRecorder()
	e.ServeHTTP(w, kittest.WithBearer(kittest.Get("/app"), k.Project.SignIn(kittest.Ada).Session))
	assert.Equal(t, http.StatusNoContent, w.Code)
	assert.False(t, aborted)
	assert.True(t, ok)
}

// gin runs the engine's middleware for paths without a route too, and adds its
// own text to a 404 that has no body.
func TestNoRoute(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusNotFound) }
	})
	e := gin.New()
	e.Use(descopegin.RequireSession(k.Auth))
	w := httptest.NewRecorder()
	e.ServeHTTP(w, kittest.Get("/nothing"))
	assert.Equal(t, http.StatusNotFound, w.Code)
	assert.Empty(t, w.Body.String())
}

func refusing(a *descopehttp.Auth) gin.HandlerFunc {
	return descopegin.Require(a, func(*http.Request, *descopehttp.Session) error { return descopehttp.ErrForbidden })
}
