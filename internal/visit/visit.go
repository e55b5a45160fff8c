// Package visit tells what kind of request somebody sends: who shows the answer, whether it
// is the start of another protocol, which address a browser has asked for, and of which
// host. GiveBack is for who serves a copy of it.
package visit

import (
	"context"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// IsUpgrade reports whether the answer will be written by another library, to a client that
// goes on in another protocol: a WebSocket handshake (RFC 6455, section 4.1), or CONNECT.
// Upgrade: h2c and the like are offers that net/http does not take up, and some proxies
// write them into every request.
func IsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodConnect || len(r.Header["Upgrade"]) > 0 && hasToken(r.Header["Connection"], "upgrade") && hasToken(r.Header["Upgrade"], "websocket")
}

// hasToken looks for a token in lists separated by commas (RFC 9110, section 5.6.1).
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// IsPageView reports whether a browser is about to show the answer as a page: that of a
// link, or of a form that was sent. Downloads, prefetches and scripts could do nothing with
// a login page.
func IsPageView(r *http.Request) bool {
	switch h := r.Header; {
	case IsUpgrade(r) || IsHTMX(r) || isPrefetch(h):
		return false
	case r.Method == http.MethodPost:
		if !isForm(h) {
			return false
		}
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate" && r.Header.Get("Sec-Fetch-Dest") != "empty"
	}
	if r.Header.Get("X-Requested-With") != "" {
		return false // no earlier: web views write the name of their app into every request
	}
	// Older browsers: a navigation asks for HTML before anything else.
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	first, _, _ = strings.Cut(first, ";")
	return strings.TrimSpace(first) == "text/html"
}

func isPrefetch(h http.Header) bool {
	return strings.Contains(h.Get("Sec-Purpose"), "prefetch") || h.Get("Purpose") == "prefetch"
}

// IsEncodedForm reports whether the body is that of a plain form, without files.
func IsEncodedForm(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && mediaType == "application/x-www-form-urlencoded"
}

// isForm reports whether the body is of a type that a form without a script has
// (WHATWG HTML, section 4.10.22.6).
func isForm(h http.Header) bool {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return slices.Contains([]string{"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}, strings.ToLower(strings.TrimSpace(mediaType)))
}

// IsHTMX reports whether htmx has sent the request: it shows the answer as a part of a page
// and goes elsewhere if HX-Redirect says so.
func IsHTMX(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

// IsPart reports whether the answer will be a part of the page that the user looks at. htmx
// also asks for whole pages, where it takes links over.
func IsPart(r *http.Request) bool { return IsHTMX(r) && r.Header.Get("HX-Boosted") != "true" }

// Asked returns the path with its query that the browser has asked for, as far as the request
// shows it: net/http keeps it where routers cut prefixes off. prefix is what a proxy has
// cut off before. It is "" for what is no path.
func Asked(r *http.Request, prefix string) string {
	asked := r.RequestURI
	if u, err := url.Parse(asked); err == nil && u.Host != "" && u.Scheme != "" {
		asked = u.RequestURI() // absolute-form (RFC 9112, section 3.2.2)
	}
	if asked == "" { // a request that was made by hand
		asked = r.URL.RequestURI()
	}
	if !strings.HasPrefix(asked, "/") {
		return ""
	}
	return prefix + asked
}

// Shown returns the path of the page that the user looks at, where the answer to r is not to
// be a page of its own: the Referer's of a form, and what htmx says. It is "" if that is none of
// this server's.
func Shown(r *http.Request) string {
	address := r.Header.Get("Referer")
	if IsHTMX(r) {
		address = r.Header.Get("HX-Current-URL")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Host != r.Host {
		return ""
	}
	return LocalOr(u.RequestURI(), "") // whose path may begin with two slashes
}

// maxPath bounds a path that is handed around in a query, in bytes.
const maxPath = 2048

// IsLocalPath reports whether every browser reads s as a path of the same
// origin. Browsers take a backslash for a slash, but for the query, and drop tabs and line
// breaks before they look (WHATWG URL, section 4.4).
func IsLocalPath(s string) bool {
	if len(s) > maxPath || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") {
		return false
	}
	path, _, _ := strings.Cut(s, "?")
	if strings.Contains(path, `\`) {
		return false
	}
	u, err := url.Parse(s) // which refuses control characters
	return err == nil && !strings.HasPrefix(u.Path, "//") && !strings.Contains(u.Path, `\`)
}

// IsLoopback reports whether host names this machine, whose traffic nobody else sees.
func IsLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// Hostname returns the host of a Host header, without its port and brackets.
func Hostname(host string) string {
	return (&url.URL{Host: host}).Hostname()
}

// GiveBack hands what was read of a request's body, and the pattern that it matched, to
// whoever holds the request from before: net/http removes the files of an upload by it, and
// loggers name the route. The rest stays inside.
func GiveBack(outer, inner *http.Request) {
	if inner.Form != nil || inner.MultipartForm != nil { // else nothing was read
		outer.Form, outer.PostForm, outer.MultipartForm = inner.Form, inner.PostForm, inner.MultipartForm
	}
	if inner.Pattern != outer.Pattern {
		outer.Pattern = inner.Pattern
	}
}

// ReturnTo is the name of the way back, in a query and in a form.
const ReturnTo = "return_to"

// LoginAddress is where a browser is sent to sign in, and to find its way back. acr is what
// else is asked of the user, "" for nothing.
func LoginAddress(login *url.URL, back, acr string) string {
	address := *login
	q := address.Query()
	if IsLocalPath(back) {
		q.Set(ReturnTo, back)
	}
	if acr != "" {
		q.Set("acr_values", acr)
	}
	address.RawQuery = q.Encode()
	return address.String()
}

// IsAt reports whether an address of this server, under the name of host, is that of the
// login page, however routers and browsers write it.
func IsAt(login *url.URL, address, host string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host != "" || path.Clean("/"+u.Path) != path.Clean("/"+login.Path) {
		return false
	}
	port := map[string]string{"https": ":443", "http": ":80"}[login.Scheme]
	return login.Host == "" || strings.EqualFold(strings.TrimSuffix(login.Host, port), strings.TrimSuffix(host, port))
}

// GoesRound reports whether a redirect to the login page, from the address that was asked for,
// would have no end. Written in another way it may be a page of its own, and anybody can ask
// for it so: there it takes a redirect that has led to it before.
func GoesRound(login *url.URL, asked, host string) bool {
	if !IsAt(login, asked, host) {
		return false
	}
	exact, _, _ := strings.Cut(asked, "?")
	return exact == login.EscapedPath() || WayBackOf(asked) != ""
}

// WayBackOf reads the way back from the address of the login page, "" if there is none.
func WayBackOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Query().Get(ReturnTo)
}

// WayBack reads it from the request for the login page; home is where none on this server leads.
func WayBack(r *http.Request, home string) string {
	return LocalOr(r.URL.Query().Get(ReturnTo), home)
}

// LocalOr returns path if it is one of this server, or else otherwise.
func LocalOr(path, otherwise string) string {
	if IsLocalPath(path) {
		return path
	}
	return otherwise
}

// WithError returns the address of a page that is told the code of an error.
func WithError(page, code string) string {
	u, err := url.Parse(page)
	if err != nil {
		u = &url.URL{Path: "/"}
	}
	q := u.Query()
	q.Set("error", code)
	u.RawQuery = q.Encode()
	return u.String()
}

type refreshUpgradesKey struct{}

// MarkUpgrades lets an upgrade renew a session, where the request is one.
func MarkUpgrades(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), refreshUpgradesKey{}, true))
}

// CannotRenew reports whether the answer to a request may be written by another library,
// which leaves out new cookies, and nobody has said that it does not.
func CannotRenew(r *http.Request) bool {
	return IsUpgrade(r) && r.Context().Value(refreshUpgradesKey{}) == nil
}

// TrustOrigins returns the protection against requests of other sites, and the places of the
// origins that are none.
func TrustOrigins(origins []string) (p *http.CrossOriginProtection, wrong []int) {
	p = http.NewCrossOriginProtection()
	for i, origin := range origins {
		if p.AddTrustedOrigin(origin) != nil {
			wrong = append(wrong, i)
		}
	}
	return p, wrong
}

// ParseLoginURL parses where browsers are sent to sign in, nil for "": a path of this server,
// an https URL, or http to a loopback address.
func ParseLoginURL(s string) (u *url.URL, ok bool) {
	if s == "" {
		return nil, true
	}
	u, err := url.Parse(s)
	secure := err == nil && (u.Scheme == "https" && u.Hostname() != "" || u.Scheme == "http" && IsLoopback(u.Hostname()))
	if err != nil || u.Fragment != "" || !IsLocalPath(s) && (!secure || u.User != nil) {
		return nil, false
	}
	return u, true
}
