package adaptertest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// methods are those that every page is asked with.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
	http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

const (
	page        = "/app/acme/pages/one"
	foreignPage = "/app/other/pages/one" // where ann is not an owner
	escapedPage = "/app/ac%6De/pages/o%6Ee"
)

func contract() []clause {
	return slices.Concat(pageClauses(), flowClauses(), insideClauses(), connectionClauses())
}

// required and optional are the usual middleware of a page.
var (
	required = []layer{{kind: layerRequireSession}}
	optional = []layer{{kind: layerLoadSession}}
)

func guarded(guards ...descopehttp.Guard) []layer {
	return []layer{{kind: layerRequire, guards: guards}}
}

// A want is what any application must answer, net/http included.
type want struct {
	status  int
	code    string // of a problem document that is all of the body; "" for other answers
	ran     int32
	cookies string
	header  []string // names that must be there
}

var (
	served  = want{status: 200, ran: 1, header: dependent}
	renewed = want{status: 200, ran: 1, cookies: set, header: uncached}

	// dependent are those that say that an answer depends on who asks.
	dependent = []string{"Vary", "Cache-Control"}

	// uncached are the headers without which a proxy might keep an answer with
	// somebody's cookies.
	uncached = []string{"Cdn-Cache-Control", "Surrogate-Control", "Vary"}
)

func refused(status int, code string) want {
	return want{status: status, code: code, header: dependent}
}

func (w want) with(cookies string) want {
	w.cookies = cookies
	return w
}

// A visit asks a page, with every method.
type visit struct {
	path    string // default: page
	present func(*descopetest.Server) []string
	want    want
	failed  int32 // how often the framework's error handler runs

	// What is different for some methods, if anything.
	differs []string
	instead want
}

var (
	mutating = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	acting   = append([]string{http.MethodOptions}, mutating...) // all but GET and HEAD
)

func (t visit) run(v *visitor) error {
	if t.path == "" {
		t.path = page
	}
	for _, method := range methods {
		q := request{method: method, path: t.path, header: t.present(v.project)}
		if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
			q.body = "a body"
		}
		a, err := v.ask(q)
		if err != nil {
			return err
		}
		w := t.want
		if slices.Contains(t.differs, method) {
			w = t.instead
		}
		if err := w.check(q, a); err != nil {
			return err
		}
		if a.failed != t.failed {
			return fmt.Errorf("%s: the framework's error handler ran %d times, want %d", method, a.failed, t.failed)
		}
	}
	return nil
}

func (w want) check(q request, a *answer) error {
	switch {
	case a.ran != w.ran:
		return fmt.Errorf("%s: the page ran %d times, want %d", q.method, a.ran, w.ran)
	case a.status != w.status:
		return fmt.Errorf("%s is answered %d %q, want %d", q.method, a.status, a.body, w.status)
	case a.cookies() != w.cookies:
		return fmt.Errorf("%s: cookies were [%s], want [%s]", q.method, a.cookies(), w.cookies)
	}
	for _, name := range w.header {
		if a.header.Get(name) == "" {
			return fmt.Errorf("%s is answered without %s", q.method, name)
		}
	}
	if w.code != "" {
		return a.problem(q, w.status, w.code)
	}
	return nil
}

// pageClauses are about a page and what stands before it.
func pageClauses() []clause {
	return slices.Concat(requiredClauses(), optionalClauses(), guardClauses(), nestedClauses(), loginClauses(), bodyClauses(), answerClauses(), errorHandlerClauses(), panics())
}

var unavailable = refused(503, "unavailable")

// requiredClauses are about a page that needs a session.
func requiredClauses() []clause {
	return []clause{
		{name: "no credentials", rule: "a refusal is the problem document and nothing else, and the page does not run",
			layers: required, visit: visit{present: nothing, want: refused(401, "no_session")}.run},
		{name: "good bearer token", rule: "the page runs once and finds the session",
			layers: required, visit: visit{present: bearer, want: served}.run},
		{name: "good cookies", rule: "the page runs once and finds the session",
			layers: required, visit: visit{present: cookiesOf(ann), want: served}.run},
		{name: "expired session", rule: "it is renewed once, the new cookies are part of the answer, and the page sees the new session and no refresh token",
			layers: required, visit: visit{present: renewable, want: renewed}.run},
		{name: "expired refresh token", rule: "cookies that can never work again are deleted",
			layers: required, visit: visit{present: outlived, want: refused(401, "session_expired").with(deleted)}.run},
		{name: "first refusal by Descope", rule: "the cookies are kept: newer ones may be on their way",
			layers: required, visit: visit{present: refusedOnce, want: refused(401, "refresh_refused")}.run},
		{name: "logged out elsewhere", rule: "Descope says so once",
			layers: required, visit: visit{present: revoked, want: refused(401, "session_ended").with(deleted)}.run},
		{name: "cookies of two users", rule: "none of the two is let in",
			layers: required, visit: visit{present: twoUsers, want: refused(401, "conflicting_cookies").with(deleted)}.run},
		{name: "from another site", rule: "a cookie is no credential for what another site sends",
			layers: required, visit: visit{present: crossSite, want: served, differs: mutating, instead: refused(403, "cross_origin")}.run},
		{name: "Descope away", rule: "nobody is signed out by an outage",
			layers: required, visit: visit{present: unreachable, want: unavailable}.run},
	}
}

// optionalClauses are about a page that can do without one.
func optionalClauses() []clause {
	return []clause{
		{name: "optional session, nobody", rule: "the page runs without a session and can tell why",
			layers: optional, visit: visit{present: nothing, want: served}.run},
		{name: "optional session, somebody", rule: "the page finds the session",
			layers: optional, visit: visit{present: cookiesOf(ann), want: served}.run},
		{name: "optional session, expired", rule: "it is renewed as a required one is",
			layers: optional, visit: visit{present: renewable, want: renewed}.run},
		{name: "optional session, Descope away", rule: "reading goes on without a session; what might act on the absence of a user does not",
			layers: optional, visit: visit{present: unreachable, want: served, differs: acting, instead: unavailable}.run},
	}
}

// guardClauses are about a page that not everybody may see who has one.
func guardClauses() []clause {
	tenantOwner := descopehttp.TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "owner")
	pageOne := func(r *http.Request, _ *descopehttp.Session) error {
		if r.PathValue("name") != "one" {
			return descopehttp.ErrForbidden
		}
		return nil
	}
	return []clause{
		{name: "guard agrees", rule: "a guard that agrees changes nothing",
			layers: guarded(descopehttp.Role("admin")), visit: visit{present: cookiesOf(ann), want: served}.run},
		{name: "guard refuses", rule: "one guard that refuses is enough",
			layers: guarded(descopehttp.Role("admin"), descopehttp.Permission("launch")),
			visit:  visit{present: cookiesOf(ann), want: refused(403, "missing_permission")}.run},
		{name: "guard without a session", rule: "Require authenticates by itself",
			layers: guarded(descopehttp.Role("admin")), visit: visit{present: nothing, want: refused(401, "no_session")}.run},
		{name: "guard refuses a renewed session", rule: "the renewal has spent the refresh token: its cookies are part of the refusal",
			layers: guarded(descopehttp.Role("captain")), visit: visit{present: renewable, want: refused(403, "missing_role").with(set)}.run},
		{name: "step-up asked for", rule: "a client learns that it can help itself",
			layers: guarded(descopehttp.StepUp()), visit: visit{present: cookiesOf(ann), want: refused(401, "step_up_required")}.run},
		{name: "step-up done", rule: "and then is let in",
			layers: guarded(descopehttp.StepUp()), visit: visit{present: steppedUp, want: served}.run},
		{name: "guard on the path, agrees", rule: "a guard that reads r.PathValue sees what the page sees as its parameters",
			layers: guarded(tenantOwner, pageOne), afterRouting: true, visit: visit{present: cookiesOf(ann), want: served}.run},
		{name: "guard on the path, refuses", rule: "a guard that reads r.PathValue sees what the page sees as its parameters",
			layers: guarded(tenantOwner), afterRouting: true,
			visit: visit{path: foreignPage, present: cookiesOf(ann), want: refused(403, "missing_role")}.run},
		{name: "escaped path", rule: "whatever a framework unescapes: what a guard reads with r.PathValue is what the page gets as its parameter",
			layers: required, visit: withEveryMethod(askEscaped)},
	}
}

// nestedClauses are about more than one middleware before a page.
func nestedClauses() []clause {
	return []clause{
		{name: "nested", rule: "the inner middleware takes over what the outer one has found: one renewal, and the page runs once",
			layers: slices.Concat(optional, required, guarded(descopehttp.Role("admin"))),
			visit:  visit{present: renewable, want: renewed}.run},
		{name: "nested, inner refuses", rule: "an outer middleware that lets pass opens nothing",
			layers: slices.Concat(optional, required), visit: visit{present: nothing, want: refused(401, "no_session")}.run},
		{name: "nested, outer refuses", rule: "no inner middleware runs any more, and nothing is written twice",
			layers: slices.Concat(required, guarded(descopehttp.StepUp())),
			visit:  visit{present: nothing, want: refused(401, "no_session")}.run},
	}
}

// loginClauses are about browsers that are sent to the login page.
func loginClauses() []clause {
	return []clause{
		{name: "to the login page", rule: "a browser is sent to Config.LoginURL as net/http would send it",
			layers: required,
			config: func(c *descopehttp.Config) { c.LoginURL = "/signin" },
			visit: visit{
				present: func(*descopetest.Server) []string { return []string{"Sec-Fetch-Mode: navigate"} },
				want:    want{status: 303, header: []string{"Location"}},
				differs: acting,
				instead: refused(401, "no_session"),
			}.run},
		{name: "to the login page, under a prefix", rule: "the way back is what the browser has asked for, whoever cuts prefixes off",
			layers: required,
			config: func(c *descopehttp.Config) { c.LoginURL, c.PathPrefix = "/shop/signin", "/shop" },
			around: func(_ *descopehttp.Auth, h http.Handler) http.Handler { return http.StripPrefix("/inner", h) },
			visit: func(v *visitor) error {
				q := request{method: http.MethodGet, path: "/inner" + page + "?q=1", header: []string{"Sec-Fetch-Mode: navigate"}}
				a, err := v.ask(q)
				const location = "/shop/signin?return_to=%2Fshop%2Finner%2Fapp%2Facme%2Fpages%2Fone%3Fq%3D1"
				if err == nil && a.header.Get("Location") != location {
					err = fmt.Errorf("sent to %q, want %q", a.header.Get("Location"), location)
				}
				return err
			}},
		{name: "a form after the session", rule: "its sender is led to the login page and back to the page with the form",
			layers: required,
			config: func(c *descopehttp.Config) { c.LoginURL = "/signin" },
			visit: func(v *visitor) error {
				q := request{method: http.MethodPost, path: page, body: "a=1", header: []string{"Sec-Fetch-Mode: navigate",
					"Content-Type: application/x-www-form-urlencoded", "Referer: http://app.example/form?q=1"}}
				a, err := v.ask(q)
				if location := "/signin?return_to=%2Fform%3Fq%3D1"; err == nil && a.header.Get("Location") != location {
					err = fmt.Errorf("sent to %q, want %q", a.header.Get("Location"), location)
				}
				return err
			}},
	}
}

// bodyClauses are about what a page reads of its request.
func bodyClauses() []clause {
	return []clause{
		{name: "upload", rule: "the file that an upload went to is gone with its request, whichever copy of the request the page has read it from",
			layers: slices.Concat(optional, required), around: (*descopehttp.Auth).RefreshUpgrades, serve: readUpload, visit: upload(http.StatusOK)},
		{name: "upload, and a panic", rule: "the file of an upload is gone also when its page panics",
			layers: required, visit: upload(http.StatusInternalServerError),
			serve: func(v *visitor, w http.ResponseWriter, r *http.Request, in inner) error {
				if err := readUpload(v, httptest.NewRecorder(), r, in); err != nil {
					return err
				}
				panic(errPanic)
			}},
		{name: "form", rule: "a page reads a form and its path as it would without the kit",
			layers: required, serve: readForm, visit: sendForm},
	}
}

// answerClauses are about what a page answers.
func answerClauses() []clause {
	return []clause{
		{name: "what others vary by", rule: "Vary is added to, and what the page sets of its own wins",
			layers: slices.Concat(optional, required),
			around: func(_ *descopehttp.Auth, h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Vary", "Accept-Encoding")
					h.ServeHTTP(w, r)
				})
			},
			serve: func(_ *visitor, w http.ResponseWriter, _ *http.Request, _ inner) error {
				w.Header().Set("Cache-Control", "max-age=1")
				return nil
			},
			visit: func(v *visitor) error {
				a, err := v.ask(request{method: http.MethodGet, path: page, header: cookiesOf(ann)(v.project)})
				if err == nil && (!slices.Equal(a.header["Vary"], []string{"Accept-Encoding", "Cookie, Authorization"}) || !slices.Equal(a.header["Cache-Control"], []string{"max-age=1"})) {
					err = fmt.Errorf("the answer varies by %q, and its Cache-Control is %q", a.header["Vary"], a.header["Cache-Control"])
				}
				return err
			}},
		{name: "error of the page", rule: "the framework's error handler runs, and runs once",
			layers: required,
			serve:  func(*visitor, http.ResponseWriter, *http.Request, inner) error { return errInner },
			visit:  visit{present: cookiesOf(ann), want: want{status: http.StatusTeapot, ran: 1}, failed: 1}.run},
		{name: "file server's 404", rule: "http.FileServer drops Cache-Control from its errors; an answer with cookies is still for nobody else",
			layers: required,
			serve: func(_ *visitor, w http.ResponseWriter, r *http.Request, _ inner) error {
				http.FileServerFS(fstest.MapFS{}).ServeHTTP(w, r)
				return nil
			},
			visit: visit{present: renewable, want: want{status: 404, ran: 1, cookies: set, header: uncached}}.run},
	}
}

// readUpload has no memory to spare: the file goes to the disk.
func readUpload(v *visitor, w http.ResponseWriter, r *http.Request, _ inner) error {
	if err := r.ParseMultipartForm(1); err != nil {
		return err
	}
	file, err := r.MultipartForm.File["photo"][0].Open()
	if err != nil {
		return err
	}
	defer file.Close()
	onDisk, ok := file.(*os.File)
	if !ok {
		return errors.New("the upload is not on the disk")
	}
	v.uploaded <- onDisk.Name()
	_, err = io.Copy(w, file)
	return err
}

// upload sends a file that is answered with the status, and looks for what is left of it.
func upload(status int) func(*visitor) error {
	const boundary, size = "a-boundary", 11 << 20
	return func(v *visitor) error {
		q := request{method: http.MethodPost, path: page, header: append(cookiesOf(ann)(v.project), "Content-Type: multipart/form-data; boundary="+boundary),
			body: "--" + boundary + "\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"photo.jpg\"\r\n\r\n" +
				strings.Repeat("x", size) + "\r\n--" + boundary + "--\r\n"}
		a, err := v.send(q) // eleven megabytes are not written down
		switch {
		case err != nil:
			return err
		case a.status != status || status == http.StatusOK && len(a.body) != size:
			return fmt.Errorf("an upload is answered %d with %d bytes", a.status, len(a.body))
		}
		name, err := wait(v.uploaded, "the page has read no upload")
		if err != nil {
			return err
		}
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			os.Remove(name)
			return fmt.Errorf("the file of an upload is left behind: %v", err)
		}
		return nil
	}
}

func readForm(_ *visitor, w http.ResponseWriter, r *http.Request, in inner) error {
	_, err := fmt.Fprintf(w, "%s %s %s %s\n", r.FormValue("a"), r.PostFormValue("b"), r.FormValue("c"), in.param("name"))
	return err
}

func sendForm(v *visitor) error {
	q := request{method: http.MethodPost, path: page + "?c=from%20the%20query", body: "a=1&b=two%20words",
		header: append(cookiesOf(ann)(v.project), "Content-Type: application/x-www-form-urlencoded")}
	a, err := v.ask(q)
	if want := "1 two words from the query one\n"; err == nil && string(a.body) != want {
		err = fmt.Errorf("a form is read as %q, want %q", a.body, want)
	}
	return err
}

func errorHandlerClauses() (clauses []clause) {
	for _, handler := range errorHandlers {
		clauses = append(clauses, clause{name: "Config.ErrorHandler that " + handler.does,
			rule:   "whatever an ErrorHandler does or forgets, the page does not run after it and nothing is added",
			layers: required,
			config: func(c *descopehttp.Config) { c.ErrorHandler = handler.serve },
			visit:  visit{present: nothing, want: want{status: handler.status}}.run})
	}
	return clauses
}

var errorHandlers = []struct {
	does   string
	status int
	serve  func(http.ResponseWriter, *http.Request, error)
}{
	{"writes a page", http.StatusForbidden, func(w http.ResponseWriter, _ *http.Request, _ error) {
		http.Error(w, "not for you", http.StatusForbidden)
	}},
	{"writes a status only", http.StatusNotFound, func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusNotFound)
	}},
	{"writes nothing", http.StatusInternalServerError, func(http.ResponseWriter, *http.Request, error) {}},
}

// askEscaped compares nothing with net/http: what a parameter is, and whether
// there is a page, is the framework's to say.
func askEscaped(v *visitor, method string) error {
	a, err := v.send(request{method: method, path: escapedPage, header: cookiesOf(ann)(v.project)})
	if err == nil && a.ran > 0 && a.status != 200 {
		err = fmt.Errorf("answered %d %s", a.status, a.body)
	}
	return err
}

// panics are for the framework's own recovery. Where it turns a panic into an
// error, its error handler runs; so that is not counted here.
func panics() []clause {
	const rule = "a panic reaches the framework's recovery, and opens nothing on its way"
	visit := func(present func(*descopetest.Server) []string, w want) func(*visitor) error {
		return withEveryMethod(func(v *visitor, method string) error {
			q := request{method: method, path: page, header: present(v.project)}
			a, err := v.ask(q)
			if err != nil {
				return err
			}
			return w.check(q, a)
		})
	}
	return []clause{
		{name: "panic of the page", rule: rule, layers: required,
			serve: func(*visitor, http.ResponseWriter, *http.Request, inner) error { panic(errPanic) },
			visit: visit(renewable, want{status: 500, ran: 1, cookies: set})},
		{name: "panic of a guard", rule: rule,
			layers: guarded(func(*http.Request, *descopehttp.Session) error { panic(errPanic) }),
			visit:  visit(cookiesOf(ann), want{status: 500})},
		{name: "panic of Config.ErrorHandler", rule: rule, layers: required,
			config: func(c *descopehttp.Config) {
				c.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(errPanic) }
			},
			visit: visit(nothing, want{status: 500})},
	}
}

// flowClauses are about the flows, mounted and single. The page's session is
// optional, so that its middleware may as well stand before the flows.
func flowClauses() []clause {
	var clauses []clause
	for _, m := range []Mount{{"", "/auth"}, {"/api", "/account/"}, {"", ""}} {
		where := m.Group + strings.TrimSuffix(m.Prefix, "/")
		clauses = append(clauses, clause{
			name:   fmt.Sprintf("flows under %q of group %q", m.Prefix, m.Group),
			rule:   "sign-up, verify, update and logout work wherever they are mounted",
			layers: optional,
			mounts: []Mount{m},
			visit: func(v *visitor) error {
				return v.walk(func(flow string) string { return where + "/v1/auth/" + flow })
			},
		}, clause{
			name:   fmt.Sprintf("no flow under %q of group %q", m.Prefix, m.Group),
			rule:   "inside the mount the kit answers 404 and 405 itself and nothing redirects; beside it the prefix is the application's",
			mounts: []Mount{m},
			visit:  func(v *visitor) error { return v.stray(where) },
		})
	}
	return append(clauses, clause{
		name:   "single flows",
		rule:   "the handler of one flow works in the framework's own wrapper, at a path of the application's choice",
		layers: optional,
		flows:  singleFlows,
		visit: func(v *visitor) error {
			return v.walk(func(flow string) string {
				i := slices.IndexFunc(singleFlows, func(f singleFlow) bool { return f.name == flow })
				return singleFlows[i].path
			})
		},
	})
}

// A singleFlow is one of the kit's handlers of one flow.
type singleFlow struct {
	name         string
	method, path string
	serve        func(*descopehttp.Auth, http.ResponseWriter, *http.Request)
}

var singleFlows = []singleFlow{
	{"totp/signup", http.MethodPost, "/join", (*descopehttp.Auth).ServeSignUp},
	{"totp/verify", http.MethodPost, "/enter", (*descopehttp.Auth).ServeVerify},
	{"totp/update", http.MethodPost, "/new/key", (*descopehttp.Auth).ServeUpdate},
	{"me", http.MethodGet, "/who", (*descopehttp.Auth).ServeMe},
	{"refresh", http.MethodPost, "/again", (*descopehttp.Auth).ServeRefresh},
	{"logout", http.MethodPost, "/leave", (*descopehttp.Auth).ServeLogout},
	{"logoutall", http.MethodPost, "/leave/everywhere", (*descopehttp.Auth).ServeLogoutAll},
}

// walk is the life of a user; at returns the path of a flow.
func (v *visitor) walk(at func(flow string) string) error {
	v.login = "walker-" + rand.Text() // of one length, and nobody else's
	cookies := ""
	post := func(flow, body string, wantCookies string) error {
		path := at(flow)
		q := request{method: http.MethodPost, path: path, header: []string{"Content-Type: application/json"}, body: body}
		if cookies != "" {
			q.header = append(q.header, cookies)
		}
		a, err := v.ask(q)
		switch {
		case err != nil:
			return err
		case a.status != 200:
			return fmt.Errorf("POST %s is answered %d %s", path, a.status, a.body)
		case a.cookies() != wantCookies:
			return fmt.Errorf("POST %s: cookies were [%s], want [%s]", path, a.cookies(), wantCookies)
		case wantCookies == set:
			cookies = a.values()
		}
		return nil
	}
	get := func(path string, status int) error {
		a, err := v.ask(request{method: http.MethodGet, path: path, header: []string{cookies}})
		if err == nil && a.status != status {
			err = fmt.Errorf("GET %s is answered %d, want %d", path, a.status, status)
		}
		return err
	}
	who := `{"loginId":"` + v.login + `"`
	verify := func() error {
		return post("totp/verify", who+`,"code":"`+v.project.Code(v.login)+`"}`, set)
	}
	for _, step := range []func() error{
		func() error { return post("totp/signup", who+`,"user":{"name":"Walker"}}`, kept) },
		verify,
		func() error { return get(page, 200) },
		func() error { return get(at("me"), 200) },
		func() error { return post("refresh", "{}", set) },
		func() error { return post("totp/update", who+"}", kept) },
		verify,
		func() error { return get(page, 200) },
		func() error { return post("logout", "{}", deleted) },
		func() error { return get(at("me"), 401) },
		func() error { // as from another device: a code is good for one sign-in
			t := v.project.SignIn(v.login)
			cookies = cookieHeader(t.Session, t.Refresh)
			return post("logoutall", "{}", deleted)
		},
		func() error { return get(at("me"), 401) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// stray asks for what is not there.
func (v *visitor) stray(prefix string) error {
	for _, there := range []struct{ path, method string }{
		{"/", ""}, {"/nothing", ""}, {"/nothing/here", ""}, {"/totp", ""}, {"/totp/signup/", ""}, {"/ME", ""},
		{"/totp/signup", http.MethodPost}, {"/me", http.MethodGet},
	} {
		for _, method := range methods {
			if method == there.method {
				continue
			}
			q := request{method: method, path: prefix + "/v1/auth" + there.path}
			a, err := v.ask(q)
			if err != nil {
				return err
			}
			status, code := 404, "not_found"
			if there.method != "" {
				status, code = 405, "method_not_allowed"
			}
			if err := a.problem(q, status, code); err != nil {
				return err
			}
			if allow := a.header.Get("Allow"); allow != there.method {
				return fmt.Errorf("%s %s: Allow is %q, want %q", method, q.path, allow, there.method)
			}
		}
	}
	a, err := v.ask(request{method: http.MethodGet, path: prefix + "/login"})
	switch {
	case err != nil:
		return err
	case a.status != 200 || a.ran != 1:
		return fmt.Errorf("the application's own page under the prefix is answered %d", a.status)
	}
	// Not compared: the framework's 404 is its own.
	a, err = v.send(request{method: http.MethodGet, path: prefix + "/nothing/here"})
	switch {
	case err != nil:
		return err
	case a.header.Get("Content-Type") == "application/problem+json":
		return errors.New("the kit answers for the application's pages under the prefix")
	}
	return nil
}

// connectionClauses are about what a handler can do with its connection, which
// is lost where a ResponseWriter is wrapped or a context replaced.
func connectionClauses() []clause {
	return []clause{
		{name: "20 at once", rule: "20 requests with one expired session are one refresh, and all are served",
			layers: required, visit: withEveryMethod(crowd)},
		{name: "streaming", rule: "with http.ResponseController an answer begins before its request has ended, and goes on as it does",
			layers: required, serve: echo, visit: withEveryMethod(converse)},
		{name: "hijack", rule: "http.ResponseController can hand out the connection, as WebSockets need it",
			layers: required, serve: hijack, visit: withEveryMethod(shakeHands(cookiesOf(ann), kept))},
		{name: "upgrade with an expired session", rule: "a handshake renews nothing: whether its answer would carry the cookies is unknown",
			layers: required, serve: hijack, visit: visit{present: upgrading(renewable), want: refused(401, "session_expired")}.run},
		{name: "upgrade inside RefreshUpgrades", rule: "put around the whole router, it reaches the middleware inside, and the page finds the new cookies on its writer",
			layers: required, serve: hijack, around: (*descopehttp.Auth).RefreshUpgrades,
			visit: withEveryMethod(shakeHands(renewable, set))},
		{name: "hang-up", rule: "when the client has gone, the context of the request ends",
			layers: required, serve: awaitEnd, visit: withEveryMethod(hangUp)},
	}
}

func withEveryMethod(visit func(v *visitor, method string) error) func(*visitor) error {
	return func(v *visitor) error {
		for _, method := range methods {
			if err := visit(v, method); err != nil {
				return fmt.Errorf("%s: %w", method, err)
			}
		}
		return nil
	}
}

// crowd holds the refresh until all requests are under way.
func crowd(v *visitor, method string) error {
	const n = 20
	all := make(chan struct{})
	v.gate.set(func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, kittest.RefreshPath) {
			select {
			case <-all:
			case <-r.Context().Done():
			}
		}
	})
	ran, refreshes := v.site.ran.Load(), v.project.Requests(kittest.RefreshPath)
	q := request{method: method, path: page, header: renewable(v.project)}
	type outcome struct {
		*answer
		error
	}
	outcomes := make(chan outcome, n)
	for range n {
		go func() {
			a, err := v.send(q)
			outcomes <- outcome{a, err}
		}()
	}
	for range n {
		if _, err := wait(v.arrived, "not all requests arrived"); err != nil {
			return err
		}
	}
	close(all)
	for i := range n {
		o := <-outcomes
		if o.error != nil {
			return o.error
		}
		if o.status != 200 || o.cookies() != set {
			return fmt.Errorf("one is answered %d with cookies [%s]", o.status, o.cookies())
		}
		if i == n-1 {
			o.ran = v.site.ran.Load() - ran
			v.note(q, o.answer)
		}
	}
	if ran := v.site.ran.Load() - ran; ran != n {
		return fmt.Errorf("the page ran %d times for %d requests", ran, n)
	}
	if refreshes := v.project.Requests(kittest.RefreshPath) - refreshes; refreshes != 1 {
		return fmt.Errorf("%d refreshes", refreshes)
	}
	return nil
}

// echo answers each line of the request before it reads the next.
func echo(_ *visitor, w http.ResponseWriter, r *http.Request, _ inner) error {
	control := http.NewResponseController(w)
	if err := control.EnableFullDuplex(); err != nil {
		return err
	}
	lines := bufio.NewReader(r.Body)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		io.WriteString(w, line)
		if err := control.Flush(); err != nil {
			return err
		}
	}
}

// converse sends a line, waits for its echo and sends the next. The answer to
// HEAD has no body: there it waits for the end of the header.
func converse(v *visitor, method string) error {
	q := request{method: method, path: page, header: append(cookiesOf(ann)(v.project), "Transfer-Encoding: chunked")}
	ran := v.site.ran.Load()
	conn, err := v.dial(q)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	var raw bytes.Buffer
	answer := bufio.NewReader(io.TeeReader(conn, &raw))
	for i, text := range []string{"first\n", "second\n"} {
		if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(text), text); err != nil {
			return err
		}
		until := text
		if method == http.MethodHead {
			until = "\r\n"
		}
		for line := ""; line != until && (i == 0 || method != http.MethodHead); {
			if line, err = answer.ReadString('\n'); err != nil {
				return fmt.Errorf("%q was not answered by itself: %w", text, err)
			}
		}
	}
	if _, err := io.WriteString(conn, "0\r\n\r\n"); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, answer); err != nil {
		return err
	}
	a, err := parse(method, raw.Bytes())
	if err == nil {
		a.ran = v.site.ran.Load() - ran
		v.note(q, a)
	}
	return err
}

func hijack(_ *visitor, w http.ResponseWriter, _ *http.Request, _ inner) error {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
	for _, cookie := range w.Header()["Set-Cookie"] {
		io.WriteString(rw, "Set-Cookie: "+cookie+"\r\n")
	}
	io.WriteString(rw, "\r\nhello")
	return rw.Flush()
}

func shakeHands(present func(*descopetest.Server) []string, cookies string) func(*visitor, string) error {
	return func(v *visitor, method string) error {
		a, err := v.ask(request{method: method, path: page, header: upgrading(present)(v.project)})
		switch {
		case err != nil:
			return err
		case a.status != 101 || !bytes.HasSuffix(a.raw, []byte("hello")):
			return fmt.Errorf("answered %d %q", a.status, a.raw)
		case a.cookies() != cookies:
			return fmt.Errorf("cookies were [%s], want [%s]", a.cookies(), cookies)
		}
		return nil
	}
}

func upgrading(present func(*descopetest.Server) []string) func(*descopetest.Server) []string {
	return func(p *descopetest.Server) []string {
		return append(present(p), "Connection: Upgrade", "Upgrade: websocket")
	}
}

func awaitEnd(v *visitor, _ http.ResponseWriter, r *http.Request, _ inner) error {
	v.started <- struct{}{}
	_, err := wait(r.Context().Done(), "the context did not end")
	v.ended <- err
	return nil
}

func hangUp(v *visitor, method string) error {
	conn, err := v.dial(request{method: method, path: page, header: cookiesOf(ann)(v.project)})
	if err != nil {
		return err
	}
	_, err = wait(v.started, "the page did not run")
	conn.Close()
	if err != nil {
		return err
	}
	return <-v.ended
}
