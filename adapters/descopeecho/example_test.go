package descopeecho_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/labstack/echo/v5"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/descopetest"
)

// An application with a page for everybody who is signed in and one for
// captains, and a user who signs in with a code.
func Example() {
	// In production: descopehttp.New(descopehttp.Config{ProjectID: "P2…"}).
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ann@example.com", Roles: []string{"pilot"}})
	a, err := descopehttp.New(descopehttp.Config{
		ProjectID:  project.ProjectID(),
		BaseURL:    project.URL(),
		HTTPClient: project.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}

	hello := func(c *echo.Context) error {
		session, _ := descopeecho.Session(c)
		return c.String(http.StatusOK, fmt.Sprintf("hello, you are %v", session.Roles("")))
	}
	router := echo.New()
	descopeecho.Mount(router, "/auth", a)
	router.GET("/app", hello, descopeecho.RequireSession(a))
	router.GET("/bridge", hello, descopeecho.Require(a, descopehttp.Role("captain")))

	// A browser: it keeps the cookies that it is given.
	var cookies []*http.Cookie
	call := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		cookies = append(cookies, w.Result().Cookies()...)
		return w
	}

	fmt.Println(call("GET", "/app", "").Code)
	code := project.Code("ann@example.com") // from the authenticator app
	fmt.Println(call("POST", "/auth/v1/auth/totp/verify", `{"loginId":"ann@example.com","code":"`+code+`"}`).Code)
	fmt.Println(call("GET", "/app", "").Body)
	fmt.Println(call("GET", "/bridge", "").Code)

	// Output:
	// 401
	// 200
	// hello, you are [pilot]
	// 403
}

// A handler is tested without the middleware, with any session that the test
// makes up.
func ExampleSession() {
	router := echo.New()
	router.GET("/app", func(c *echo.Context) error {
		session, _ := descopeecho.Session(c)
		return c.String(http.StatusOK, "hello "+session.Subject())
	})

	session, err := descopehttp.NewSession(map[string]any{"sub": "ann"})
	if err != nil {
		log.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/app", nil)
	r = r.WithContext(descopehttp.ContextWithSession(r.Context(), session))
	w := httptest.NewRecorder()
	router.ServeHTTP(w, r)

	fmt.Println(w.Body)
	// Output: hello ann
}
