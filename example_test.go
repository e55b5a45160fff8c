package descopehttp_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// Only administrators, and only those who have just typed a code.
func ExampleAuth_Require() {
	auth, project := exampleProject(descopehttp.Config{})
	project.AddUser(descopetest.User{LoginID: "grace@example.com", Roles: []string{"admin"}})
	mux := http.NewServeMux()
	mux.Handle("/admin/", auth.Require(descopehttp.Role("admin"))(sayHello))
	mux.Handle("POST /admin/keys", auth.Require(descopehttp.Role("admin"), descopehttp.StepUp())(sayHello))
	for _, tt := range []struct{ method, path, token string }{
		{"GET", "/admin/", ""},
		{"GET", "/admin/", project.SignIn("ada@example.com").Session},
		{"GET", "/admin/", project.SignIn("grace@example.com").Session},
		{"POST", "/admin/keys", project.SignIn("grace@example.com").Session},
		{"POST", "/admin/keys", project.StepUp("grace@example.com").Session},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(tt.method, tt.path, w.Code)
	}
	// Output:
	// GET /admin/ 401
	// GET /admin/ 403
	// GET /admin/ 200
	// POST /admin/keys 401
	// POST /admin/keys 200
}

// The tenant is part of the path, and a role in one opens no other.
func ExampleTenantRole() {
	auth, project := exampleProject(descopehttp.Config{})
	project.AddUser(descopetest.User{LoginID: "grace@example.com", Tenants: map[string]descopetest.Tenant{"acme": {Roles: []string{"owner"}}}})
	tenant := func(r *http.Request) string { return r.PathValue("tenant") }
	mux := http.NewServeMux()
	mux.Handle("/tenants/{tenant}/", auth.Require(descopehttp.TenantRole(tenant, "owner"))(sayHello))
	for _, path := range []string{"/tenants/acme/", "/tenants/other/"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Authorization", "Bearer "+project.SignIn("grace@example.com").Session)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(path, w.Code)
	}
	// Output:
	// /tenants/acme/ 200
	// /tenants/other/ 403
}

// A middleware of one's own, here for a framework with handlers of another kind.
func ExampleAuth_Authenticate() {
	auth, project := exampleProject(descopehttp.Config{})
	protect := func(handler func(w http.ResponseWriter, r *http.Request, user string) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			session, err := auth.Authenticate(w, r) // before anything is written: it may set cookies
			if err == nil {
				err = handler(w, r, session.Subject())
			}
			if err != nil {
				auth.WriteError(w, r, err)
			}
		}
	}
	hello := protect(func(w http.ResponseWriter, _ *http.Request, user string) error {
		_, err := fmt.Fprintln(w, "hello", len(user) > 0)
		return err
	})
	w := httptest.NewRecorder()
	hello(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Code)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+project.SignIn("ada@example.com").Session)
	w = httptest.NewRecorder()
	hello(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output:
	// 401
	// 200 hello true
}

// A session token that is the first message on a connection.
func ExampleAuth_VerifyToken() {
	auth, project := exampleProject(descopehttp.Config{})
	for _, message := range []string{project.SignIn("ada@example.com").Session, "let me in"} {
		session, err := auth.VerifyToken(context.Background(), message)
		switch {
		case errors.Is(err, descopehttp.ErrUnavailable):
			fmt.Println("cannot tell, try again")
		case err != nil:
			fmt.Println("refused")
		default:
			fmt.Println("ends within", time.Until(session.Expiry()).Round(time.Minute))
		}
	}
	// Output:
	// ends within 10m0s
	// refused
}

// A sign-in page that sends people back to where they were going. Whatever else a link may
// carry, it is a path of this server.
func ExampleReturnTo() {
	auth, _ := exampleProject(descopehttp.Config{LoginURL: "/signin"})
	mux := http.NewServeMux()
	mux.Handle("/orders", auth.RequireSession(sayHello))
	mux.HandleFunc("/signin", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "then to", descopehttp.ReturnTo(r))
	})
	r := httptest.NewRequest("GET", "/orders?page=2", nil)
	r.Header.Set("Accept", "text/html") // as a browser that shows a page
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code)

	for _, link := range []string{w.Header().Get("Location"), "/signin?return_to=//evil.example"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", link, nil))
		fmt.Print(w.Body)
	}
	// Output:
	// 303
	// then to /orders?page=2
	// then to /
}

// Refusals as pages; all else, such as the redirect to the sign-in page, is left to
// WriteError.
func ExampleConfig_errorHandler() {
	var auth *descopehttp.Auth
	refuse := func(w http.ResponseWriter, r *http.Request, err error) {
		if !errors.Is(err, descopehttp.ErrForbidden) {
			auth.WriteError(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "<h1>Not for you</h1>")
	}
	auth, project := exampleProject(descopehttp.Config{ErrorHandler: refuse})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+project.SignIn("ada@example.com").Session)
	w := httptest.NewRecorder()
	auth.Require(descopehttp.Role("admin"))(sayHello).ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 403 <h1>Not for you</h1>
}

// The host of a sign-in becomes a claim of its session, and one host is closed.
func ExampleConfig_loginOptions() {
	options := func(r *http.Request, loginID string, options map[string]any) error {
		if r.Host == "closed.example.com" {
			return errors.New("no sign-ins here") // a 403; the text is for the log
		}
		options["customClaims"] = map[string]any{"host": r.Host}
		return nil
	}
	auth, project := exampleProject(descopehttp.Config{LoginOptions: options})
	for _, host := range []string{"acme.example.com", "closed.example.com"} {
		r := httptest.NewRequest("POST", "/signin", nil)
		r.Host = host
		_, _, err := auth.SignIn(httptest.NewRecorder(), r, descopehttp.SignIn{LoginID: "ada@example.com", Code: project.Code("ada@example.com")})
		fmt.Println(host, err == nil, errors.Is(err, descopehttp.ErrForbidden))
	}
	// Output:
	// acme.example.com true false
	// closed.example.com false true
}

// Counting what is refused, and why. Nothing in an event is about who.
func ExampleConfig_observer() {
	refused := make(map[string]int)
	var mu sync.Mutex
	auth, project := exampleProject(descopehttp.Config{Observer: func(_ context.Context, e descopehttp.Event) {
		if e.Name == "verdict" && e.Outcome == "refused" {
			mu.Lock()
			defer mu.Unlock()
			refused[e.Code]++
		}
	}})
	app := auth.RequireSession(sayHello)
	for _, token := range []string{"", "", "let me in", project.SignIn("ada@example.com").Session} {
		r := httptest.NewRequest("GET", "/", nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		app.ServeHTTP(httptest.NewRecorder(), r)
	}
	fmt.Println(refused)
	// Output: map[foreign_project:1 no_session:2]
}

// A record of each new user, made before the browser has its answer.
func ExampleConfig_onEvent() {
	auth, project := exampleProject(descopehttp.Config{OnEvent: func(_ context.Context, e descopehttp.Event) {
		if e.Name == "signed_in" && e.User.FirstSeen {
			fmt.Println("a record for", e.User.LoginIDs[0])
		}
	}})
	r := httptest.NewRequest("POST", "/signup", nil)
	if _, err := auth.SignUp(httptest.NewRecorder(), r, descopehttp.SignUp{LoginID: "grace@example.com"}); err != nil {
		fmt.Println(err)
	}
	in := descopehttp.SignIn{LoginID: "grace@example.com", Code: project.Code("grace@example.com")}
	if _, _, err := auth.SignIn(httptest.NewRecorder(), r, in); err != nil {
		fmt.Println(err)
	}
	// Output: a record for grace@example.com
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
	auth, _ := exampleProject(descopehttp.Config{})
	return auth
}

// exampleProject returns an Auth over a project in memory, with a user.
func exampleProject(cfg descopehttp.Config) (*descopehttp.Auth, *descopetest.Server) {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ada@example.com"})
	cfg.ProjectID, cfg.BaseURL, cfg.HTTPClient = project.ProjectID(), project.URL(), project.Client()
	auth, err := descopehttp.New(cfg)
	if err != nil {
		panic(err)
	}
	return auth, project
}

var sayHello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })

// A front end on another port is another origin: its requests need a CORS middleware around
// the flows and the protected routes, outermost, so that preflights, which carry no cookies,
// pass before the session is asked for; and TrustedOrigins for what changes something.
func Example_frontEndOnAnotherPort() {
	const frontEnd = "http://localhost:5173"
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ada@example.com"})
	auth, err := descopehttp.New(descopehttp.Config{
		ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client(),
		TrustedOrigins: []string{frontEnd},
		Cookies:        descopehttp.Cookies{InsecureHTTP: true}, // development only
	})
	if err != nil {
		panic(err)
	}
	cors := func(next http.Handler) http.Handler { // or a library's
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Vary", "Origin")
			if r.Header.Get("Origin") != frontEnd {
				next.ServeHTTP(w, r)
				return
			}
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", frontEnd) // never "*" with credentials
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Expose-Headers", "Retry-After") // or the page cannot read it
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
				h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization")
				w.WriteHeader(http.StatusNoContent)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", auth.Handler())
	mux.Handle("/api/", auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })))
	server := httptest.NewServer(cors(mux))
	defer server.Close()

	tokens := project.SignIn("ada@example.com")
	ask := func(method, path, origin string, preflight bool) {
		r, _ := http.NewRequest(method, server.URL+path, nil)
		r.Header.Set("Origin", origin)
		if preflight {
			r.Header.Set("Access-Control-Request-Method", "POST")
		} else {
			r.Header.Set("Cookie", "DS="+tokens.Session)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(err)
		}
		res.Body.Close()
		fmt.Println(method, path, origin, res.StatusCode, res.Header["Access-Control-Allow-Origin"], res.Header["Vary"])
	}
	ask("OPTIONS", "/auth/v1/auth/totp/verify", frontEnd, true)
	ask("OPTIONS", "/api/orders", frontEnd, true)
	ask("POST", "/api/orders", frontEnd, false)
	ask("POST", "/api/orders", "http://localhost:9999", false)
	// Output:
	// OPTIONS /auth/v1/auth/totp/verify http://localhost:5173 204 [http://localhost:5173] [Origin]
	// OPTIONS /api/orders http://localhost:5173 204 [http://localhost:5173] [Origin]
	// POST /api/orders http://localhost:5173 200 [http://localhost:5173] [Origin Cookie, Authorization]
	// POST /api/orders http://localhost:9999 403 [] [Origin Cookie, Authorization]
}

// A sign-up page: the key is shown on the answer to the form, because nobody is told it a
// second time.
func ExampleAuth_SignUp() {
	auth := exampleAuth()
	http.HandleFunc("POST /signup", func(w http.ResponseWriter, r *http.Request) {
		key, err := auth.SignUp(w, r, descopehttp.SignUp{LoginID: r.PostFormValue("email")})
		if err != nil {
			showError(w, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintf(w, `<img alt="QR code" src="data:image/png;base64,%s">`, base64.StdEncoding.EncodeToString(key.QR))
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/signup", strings.NewReader("email=grace@example.com"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	http.DefaultServeMux.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body.String()[:49])
	// Output: 200 <img alt="QR code" src="data:image/png;base64,iVB
}

// showError tells what is wrong, in a page.
func showError(w http.ResponseWriter, err error) {
	var p *descopehttp.Problem
	if !errors.As(err, &p) {
		http.Error(w, "Something went wrong.", http.StatusInternalServerError)
		return
	}
	http.Error(w, p.Detail, p.Status)
}

// A sign-in page of one's own. A wrong code and an unknown user look alike.
func ExampleAuth_SignIn() {
	auth := exampleAuth()
	signIn := func(w http.ResponseWriter, r *http.Request) {
		_, user, err := auth.SignIn(w, r, descopehttp.SignIn{LoginID: r.PostFormValue("email"), Code: r.PostFormValue("code")})
		if err != nil {
			showError(w, err)
			return
		}
		if user.FirstSeen {
			fmt.Println("a record for", user.ID)
		}
		http.Redirect(w, r, descopehttp.ReturnTo(r), http.StatusSeeOther)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/signin", strings.NewReader("email=nobody@example.com&code=123456"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	signIn(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output: 401 The code is not valid for this user.
}

// A page that replaces the authenticator, behind a guard that wants a fresh code.
func ExampleAuth_NewKey() {
	auth := exampleAuth()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := auth.NewKey(w, r, "") // the user's first login id
		if err != nil {
			showError(w, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, key.Key)
	})
	w := httptest.NewRecorder()
	auth.Require(descopehttp.StepUpWithin(5*time.Minute))(page).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/new-phone", nil))
	fmt.Println(w.Code) // nobody is signed in
	// Output: 401
}

// A sign-out link that is a form: a link of another site could end the session else.
func ExampleAuth_SignOut() {
	auth := exampleAuth()
	signOut := func(w http.ResponseWriter, r *http.Request) {
		if err := auth.SignOut(w, r); err != nil {
			// The browser is done with the session, but Descope could not be told.
			fmt.Println(errors.Is(err, descopehttp.ErrUnavailable))
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
	w := httptest.NewRecorder()
	signOut(w, httptest.NewRequest(http.MethodPost, "/signout", nil))
	fmt.Println(w.Code, w.Header().Get("Location"))
	// Output: 303 /
}

func ExampleAuth_SignOutEverywhere() {
	auth := exampleAuth()
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/signout-everywhere", nil)
	err := auth.SignOutEverywhere(w, r)
	fmt.Println(errors.Is(err, descopehttp.ErrNoSession)) // nothing has been ended
	// Output: true
}

func ExampleAuth_User() {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ada@example.com", Name: "Ada Lovelace"})
	auth, err := descopehttp.New(descopehttp.Config{ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client()})
	if err != nil {
		panic(err)
	}
	hello := auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := auth.User(w, r)
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		fmt.Fprintln(w, "hello", user.Name)
	}))
	tokens := project.SignIn("ada@example.com")
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-DS", Value: tokens.Session})
	r.AddCookie(&http.Cookie{Name: "__Host-DSR", Value: tokens.Refresh})
	hello.ServeHTTP(w, r)
	fmt.Print(w.Body)
	// Output: hello Ada Lovelace
}

// A page that moves money asks for a code, unless one has just been typed.
func ExampleStepUpWithin() {
	auth := exampleAuth()
	pay := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "paid") })
	http.Handle("POST /pay", auth.Require(descopehttp.StepUpWithin(5*time.Minute))(pay))
	w := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/pay", nil))
	fmt.Println(w.Code)
	// Output: 401
}

// What a status page shows, or whoever is woken at night. A probe asks [Auth.Ready] instead.
func ExampleAuth_Status() {
	project := descopetest.NewServer()
	auth, err := descopehttp.New(descopehttp.Config{ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client()})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := auth.Ready(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	s := auth.Status()
	fmt.Println("keys:", s.Keys, "younger than an hour:", s.KeysAge < time.Hour)
	for _, g := range s.Gates {
		fmt.Printf("%s: %s, %.0f calls a second, %.0f %% used\n", g.Class, g.State, g.Limit, 100*g.Used)
	}
	fmt.Println("in the air:", s.RefreshesInTheAir, "of", s.MaxRefreshesInTheAir)
	fmt.Println("stores:", s.RefreshStore, s.AttemptStore)
	fmt.Println("cached sessions:", s.CachedSessions, "of", s.MaxCachedSessions)
	// Output:
	// keys: 1 younger than an hour: true
	// session: open, 45 calls a second, 0 % used
	// account: open, 10 calls a second, 0 % used
	// second_factor: open, 5 calls a second, 0 % used
	// sign_in: open, 15 calls a second, 0 % used
	// in the air: 0 of 128
	// stores: none none
	// cached sessions: 0 of 10000
}
