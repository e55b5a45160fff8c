package kittest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"github.com/descopehttp/descopehttp/descopetest"
)

// Names of the cookies under the default policy.
const (
	SessionCookie = "__Host-DS"
	RefreshCookie = "__Host-DSR"
)

// Get returns a request for a page.
func Get(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }

// Post returns what a script sends to a flow.
func Post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// SignedInPost is [Post] with the cookies of a sign-in.
func SignedInPost(tokens descopetest.Tokens, path, body string) *http.Request {
	return WithCookies(Post(path, body), tokens.Session, tokens.Refresh)
}

// WithBearer adds a Bearer token.
func WithBearer(r *http.Request, token string) *http.Request {
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// InHeader adds the Authorization header of Descope's own clients.
func InHeader(r *http.Request, parts ...string) *http.Request {
	return WithBearer(r, strings.Join(parts, ":"))
}

// WithCookies adds session and refresh cookies, each where it is not empty. The
// header is written by hand, because AddCookie drops what a hostile client does
// not.
func WithCookies(r *http.Request, session, refresh string) *http.Request {
	var pairs []string
	if session != "" {
		pairs = append(pairs, SessionCookie+"="+session)
	}
	if refresh != "" {
		pairs = append(pairs, RefreshCookie+"="+refresh)
	}
	if len(pairs) > 0 {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	return r
}

// From sets the address of the connection that a request comes over.
func From(network string, r *http.Request) *http.Request {
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(network), 4711).String()
	return r
}

// Serve returns a handler's answer.
func Serve(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// Guess is a sign-in with a code from a network.
func Guess(k *Kit, network, loginID, code string) *http.Response {
	body, err := json.Marshal(map[string]string{"loginId": loginID, "code": code})
	if err != nil {
		panic(err)
	}
	return Serve(k.Handler(), From(network, Post(VerifyPath, string(body))))
}

// OtherCode returns a code that is wrong in this step and, all but certainly, in
// the two beside it.
func OtherCode(code string) string {
	return strings.Map(func(r rune) rune { return '0' + (r-'0'+5)%10 }, code)
}

// WrongCode returns a code that is not the one of now.
func WrongCode(k *Kit, loginID string) string {
	if k.Project.HasUser(loginID) && k.Project.Code(loginID) == "000000" {
		return "111111"
	}
	return "000000"
}
