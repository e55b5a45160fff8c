package descopehttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// The usual set-up: the flows under a prefix, the application behind the
// middleware. Instead of Descope this talks to a project in memory.
func Example() {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ada@example.com", Roles: []string{"admin"}})

	auth, err := descopehttp.New(descopehttp.Config{
		ProjectID:  project.ProjectID(),
		BaseURL:    project.URL(),
		HTTPClient: project.Client(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := descopehttp.SessionFromContext(r.Context())
		fmt.Fprintf(w, "hello, your roles are %v", s.Roles(""))
	})
	mux := http.NewServeMux()
	mux.Handle("/auth/", auth.Handler())
	mux.Handle("/app/", auth.RequireSession(hello))

	r := httptest.NewRequest(http.MethodGet, "/app/", nil)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code)

	// Sign in with the code that an authenticator shows now.
	w = httptest.NewRecorder()
	body := `{"loginId":"ada@example.com","code":"` + project.Code("ada@example.com") + `"}`
	verify := httptest.NewRequest(http.MethodPost, "/auth/v1/auth/totp/verify", strings.NewReader(body))
	verify.Header.Set("Content-Type", "application/json")
	mux.ServeHTTP(w, verify)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}

	w = httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output:
	// 401
	// 200 hello, your roles are [admin]
}

// The usual mistake: LoadSession greets, it does not protect.
func ExampleAuth_LoadSession_incorrect() {
	auth := exampleAuth()
	admin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "all the secrets")
	})
	w := httptest.NewRecorder()
	auth.LoadSession(admin).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/admin", nil))
	fmt.Println("LoadSession:", w.Body)

	w = httptest.NewRecorder()
	auth.Require(descopehttp.Role("admin"))(admin).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/admin", nil))
	fmt.Println("Require:", w.Code)
	// Output:
	// LoadSession: all the secrets
	// Require: 401
}

// A guard of one's own, beside one of the package's.
func ExampleGuard() {
	auth := exampleAuth()
	own := func(r *http.Request, s *descopehttp.Session) error {
		if r.PathValue("user") != s.Subject() {
			return descopehttp.ErrForbidden
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/users/{user}/", auth.Require(descopehttp.AnyOf(descopehttp.Role("admin"), own))(http.NotFoundHandler()))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/users/U2abc/", nil))
	fmt.Println(w.Code)
	// Output: 401
}

// A table test of a handler of one's own: no project, no tokens.
func ExampleNewSession() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, ok := descopehttp.SessionFromContext(r.Context())
		if !ok || !s.HasRole("T1", "owner") {
			http.Error(w, "owners only", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "hello %s", s.Subject())
	})
	for _, claims := range []map[string]any{
		{"sub": "U2ada", "tenants": map[string]any{"T1": map[string]any{"roles": []string{"owner"}}}},
		{"sub": "U2bob", "tenants": map[string]any{"T1": map[string]any{"roles": []string{"guest"}}}},
	} {
		s, err := descopehttp.NewSession(claims)
		if err != nil {
			fmt.Println(err)
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(descopehttp.ContextWithSession(r.Context(), s)))
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 200 hello U2ada
	// 403 owners only
}

// Server-sent events that end with the session. The browser connects again by
// itself; that request renews the session, and the stream goes on.
func ExampleSession_Expiry() {
	auth := exampleAuth()
	events := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := descopehttp.SessionFromContext(r.Context())
		ctx, cancel := context.WithDeadline(r.Context(), s.Expiry())
		defer cancel()
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return // the session has ended, or the client has gone
			case now := <-tick.C:
				fmt.Fprintf(w, "data: %s\n\n", now.Format(time.TimeOnly))
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
	w := httptest.NewRecorder()
	auth.RequireSession(events).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/events", nil))
	fmt.Println(w.Code)
	// Output: 401
}

func exampleAuth() *descopehttp.Auth {
	project := descopetest.NewServer()
	auth, err := descopehttp.New(descopehttp.Config{
		ProjectID:  project.ProjectID(),
		BaseURL:    project.URL(),
		HTTPClient: project.Client(),
	})
	if err != nil {
		panic(err)
	}
	return auth
}
