package descopetest

import (
	"fmt"
	"net/http"
	"strings"
)

// A route is one call of the project.
type route struct {
	method string
	serve  func(*Server, *call) answer
}

// A call is a request that has passed the checks common to all.
type call struct {
	request *http.Request
	body    []byte
	token   string // the refresh or session token sent along, "" if none
}

// Names of requests that have no path of their own.
const (
	keysPath   = "/v2/keys"
	otherPaths = "other"

	wellKnownKeys = "/.well-known/jwks.json"
)

var routes = map[string]route{
	"/v1/auth/totp/signup":   {http.MethodPost, (*Server).signUp},
	"/v1/auth/totp/verify":   {http.MethodPost, (*Server).verify},
	"/v1/auth/totp/update":   {http.MethodPost, (*Server).update},
	"/v1/auth/refresh":       {http.MethodPost, (*Server).refresh},
	"/v1/auth/try-refresh":   {http.MethodPost, (*Server).tryRefresh},
	"/v1/auth/logout":        {http.MethodPost, (*Server).logout},
	"/v1/auth/logoutall":     {http.MethodPost, (*Server).logoutAll},
	"/v1/auth/me":            {http.MethodGet, (*Server).me},
	"/v1/auth/me/history":    {http.MethodGet, (*Server).history},
	"/v1/auth/me/tenants":    {http.MethodPost, (*Server).myTenants},
	"/v1/auth/tenant/select": {http.MethodPost, (*Server).selectTenant},
	"/v1/auth/validate":      {http.MethodPost, (*Server).validate},
}

// endpoint returns the name under which a request is routed, counted and made
// to fail. There are few, whatever the paths.
func endpoint(path string) string {
	path = normalise(path)
	if _, ok := routes[path]; ok {
		return path
	}
	if path == keysPath || strings.HasPrefix(path, keysPath+"/") || strings.HasSuffix(path, wellKnownKeys) {
		return keysPath
	}
	return otherPaths
}

// normalise takes away the second slash that Descope's Go client sends after a
// base URL that ends in one.
func normalise(path string) string {
	return "/" + strings.TrimLeft(path, "/")
}

// pathArgument returns the endpoint that a test means, "" for any.
func pathArgument(caller, path string) string {
	if path == "" || path == otherPaths {
		return path
	}
	name := endpoint(path)
	if name == otherPaths {
		panic(fmt.Sprintf("descopetest: %s of %q, which the project does not serve", caller, path))
	}
	return name
}

// handle carries out a request.
func (s *Server) handle(r *http.Request, name string, body []byte) answer {
	if name == keysPath {
		return s.serveKeys(r)
	}
	route, ok := routes[name]
	if !ok {
		return notFound.because("there is no such call").answer()
	}
	if r.Method != route.method {
		return notAllowed(route.method)
	}
	token, bad := s.authorize(r)
	if bad != nil {
		return bad.answer()
	}
	return route.serve(s, &call{r, body, token})
}

func (s *Server) serveKeys(r *http.Request) answer {
	if r.Method != http.MethodGet {
		return notAllowed(http.MethodGet)
	}
	project := strings.TrimPrefix(normalise(r.URL.Path), "/")
	if rest, ok := strings.CutPrefix(project, strings.TrimPrefix(keysPath, "/")+"/"); ok {
		project = rest
	} else {
		project = strings.TrimSuffix(project, wellKnownKeys)
	}
	s.mu.Lock()
	if project != s.settings.ProjectID {
		s.mu.Unlock()
		return notFound.because("there is no such project").answer()
	}
	set := s.keySet()
	s.mu.Unlock()
	return reply(http.StatusOK, struct {
		Keys []jwk `json:"keys"`
	}{set})
}

func notAllowed(method string) answer {
	a := wrongMethod.because("").answer()
	a.header.Set("Allow", method)
	return a
}

// authorize reads "Bearer <projectId>[:<token>][:<management key>]" and
// returns the token. Of two parts the second is a token if it has two dots.
func (s *Server) authorize(r *http.Request) (string, *refusal) {
	s.mu.Lock()
	want := s.settings
	s.mu.Unlock()
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	parts := strings.SplitN(credentials, ":", 4)
	if !strings.EqualFold(scheme, "Bearer") || len(parts) > 3 || parts[0] != want.ProjectID {
		return "", want.Unauthorized.because("")
	}
	parts = parts[1:]
	if want.AuthManagementKey != "" {
		if len(parts) == 0 || parts[len(parts)-1] != want.AuthManagementKey {
			return "", want.Unauthorized.because("")
		}
		parts = parts[:len(parts)-1]
	}
	if len(parts) > 0 && (len(parts) == 2 || strings.Count(parts[0], ".") == 2) {
		return parts[0], nil
	}
	if want.TokensInCookies {
		if c, err := r.Cookie(want.cookieName(refreshKind)); err == nil {
			return c.Value, nil
		}
	}
	return "", nil
}
