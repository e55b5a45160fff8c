// Example is the program of the README: flows, pages for whoever is signed in, one for
// administrators and one for whoever has just typed a code, in gin's types.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopegin"
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

func newRouter(auth *descopehttp.Auth) *gin.Engine {
	router := gin.New()
	descopegin.Mount(router, "/auth", auth) // sign up, verify, refresh, logout, …

	app := router.Group("/app", descopegin.RequireSession(auth))
	app.GET("/hello", hello)
	app.GET("/admin", descopegin.Require(auth, descopehttp.Role("admin")), hello)
	app.POST("/launch", descopegin.Require(auth, descopehttp.StepUp()), func(c *gin.Context) {
		c.Status(http.StatusAccepted) // has just proved who they are
	})
	return router
}

func hello(c *gin.Context) {
	session, _ := descopegin.Session(c)
	c.String(http.StatusOK, "hello %s", session.Subject())
}
