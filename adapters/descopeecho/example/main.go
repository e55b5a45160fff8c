// Example is the program of the README: flows, pages for whoever is signed in, one for
// administrators and one for whoever has just typed a code, in echo's types.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/labstack/echo/v5"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopeecho"
)

func main() {
	auth, err := descopehttp.New(config())
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", newRouter(auth)))
}

func config() descopehttp.Config {
	return descopehttp.Config{
		ProjectID: os.Getenv("DESCOPE_PROJECT_ID"),
		BaseURL:   os.Getenv("DESCOPE_BASE_URL"), // empty: Descope's own
	}
}

func newRouter(auth *descopehttp.Auth) *echo.Echo {
	e := echo.New()
	descopeecho.Mount(e, "/auth", auth) // sign up, verify, refresh, logout, …

	app := e.Group("/app", descopeecho.RequireSession(auth))
	app.GET("/hello", hello)
	app.GET("/admin", hello, descopeecho.Require(auth, descopehttp.Role("admin")))
	app.POST("/launch", func(c *echo.Context) error {
		return c.NoContent(http.StatusAccepted) // has just proved who they are
	}, descopeecho.Require(auth, descopehttp.StepUp()))
	return e
}

func hello(c *echo.Context) error {
	session, _ := descopeecho.Session(c)
	return c.String(http.StatusOK, "hello "+session.Subject())
}
