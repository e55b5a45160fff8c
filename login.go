package descopehttp

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/descopehttp/descopehttp/internal/problem"
)

const (
	returnToParam = "return_to"
	maxReturnTo   = 2048 // bytes
)

// ReturnTo returns the way back that the middleware added to Config.LoginURL:
// the path, with its query, of the page that asked for a session. It is always a
// path of this server. Whatever else a link to the login page may carry, such as
// "//evil.example", comes back as "/": a login page that sends people where a
// link says lends its name to any site.
func ReturnTo(r *http.Request) string {
	if back := r.URL.Query().Get(returnToParam); isLocalPath(back) {
		return back
	}
	return "/"
}

// isLocalPath reports whether every browser reads s as a path of the same
// origin. Browsers take a backslash for a slash, and drop tabs and line breaks
// before they look (WHATWG URL, section 4.4).
func isLocalPath(s string) bool {
	if len(s) > maxReturnTo || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") {
		return false
	}
	if strings.Contains(s, `\`) {
		return false
	}
	u, err := url.Parse(s) // which refuses control characters
	return err == nil && !strings.HasPrefix(u.Path, "//") && !strings.Contains(u.Path, `\`)
}

// isNavigation reports whether a browser is about to show the answer as a page.
// A script's request is answered with a problem document: it could do nothing
// with the login page.
func isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || isUpgrade(r) {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	// Older browsers: a navigation asks for HTML before anything else.
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	return strings.TrimSpace(first) == "text/html"
}

// isUpgrade reports whether the answer will be written by another library, to a client that
// goes on in another protocol.
func isUpgrade(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 || r.Method == http.MethodConnect
}

// redirectToLogin answers 303 (RFC 9110, section 15.4.4).
func redirectToLogin(w http.ResponseWriter, r *http.Request, f *problem.Failure, login url.URL) {
	q := login.Query()
	if back := r.URL.RequestURI(); isLocalPath(back) {
		q.Set(returnToParam, back)
	}
	switch f.Problem {
	case problem.StepUp:
		q.Set("acr_values", "stepup")
	case problem.MFA:
		q.Set("acr_values", "mfa")
	}
	login.RawQuery = q.Encode()
	h := w.Header()
	h.Set("Location", login.String())
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "Sec-Fetch-Mode, Accept")
	w.WriteHeader(http.StatusSeeOther)
}
