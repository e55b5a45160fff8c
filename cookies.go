package descopehttp

import (
	"log/slog"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp/internal/token"
)

const (
	// Browsers drop a cookie whose name and value are longer together
	// (RFC 6265bis, section 5.6).
	maxCookieSize = 4096
	// Of cookies of one name no more are looked at. A browser sends several when
	// they were set for different paths or domains.
	maxCookieCandidates = 4
)

// Delivery says how session and refresh tokens reach the client.
type Delivery int

const (
	// InCookies keeps both tokens in HttpOnly cookies; scripts see neither.
	// This suits server-rendered pages and single-page applications alike.
	InCookies Delivery = iota

	// SessionInBody answers with the session token in the JSON body, for the
	// client to send as a Bearer token, and keeps the refresh token in an
	// HttpOnly cookie.
	SessionInBody

	// InBody answers with both tokens in the JSON body, for native clients.
	// Cookies are neither read nor written.
	InBody
)

// Cookies says how session cookies are named and scoped. The zero value gives
// __Host-DS and __Host-DSR: Secure, HttpOnly, SameSite=Lax, Path=/ and bound to
// the host, so that no subdomain can plant one (RFC 6265bis, section 4.1.3.2).
type Cookies struct {
	// PlainNames uses DS and DSR, the names that Descope's own clients use.
	PlainNames bool

	// Domain lets subdomains share the session. It implies plain names, and it
	// trusts every subdomain with the session.
	Domain string

	// InsecureHTTP leaves out the Secure attribute, for development over plain
	// http. It implies plain names.
	InsecureHTTP bool

	// SameSite of both cookies. The default is Lax, with which a link from
	// another site arrives signed in. None needs Secure cookies.
	SameSite http.SameSite
}

// A cookiePolicy is the compiled form of Config.Cookies, and the one place that
// reads and writes session cookies.
type cookiePolicy struct {
	session, refresh string // names; session is "" where no session cookie is used
	domain           string
	secure           bool
	sameSite         http.SameSite
	vary             string // what an answer that was judged depends on
	log              *slog.Logger
}

// newCookiePolicy returns the policy, whose names are empty for a delivery that
// uses no cookies.
func newCookiePolicy(c Cookies, delivery Delivery, log *slog.Logger) *cookiePolicy {
	p := &cookiePolicy{
		session:  "__Host-" + token.SessionDRN,
		refresh:  "__Host-" + token.RefreshDRN,
		domain:   c.Domain,
		secure:   !c.InsecureHTTP,
		sameSite: c.SameSite,
		vary:     "Cookie, Authorization",
		log:      log,
	}
	if c.PlainNames || c.Domain != "" || c.InsecureHTTP {
		p.session, p.refresh = token.SessionDRN, token.RefreshDRN
	}
	if p.sameSite == 0 || p.sameSite == http.SameSiteDefaultMode {
		p.sameSite = http.SameSiteLaxMode
	}
	switch delivery {
	case SessionInBody:
		p.session = ""
	case InBody:
		p.session, p.refresh, p.vary = "", "", "Authorization"
	}
	return p
}

// candidates are the values of all cookies of one name, at most a few.
type candidates struct {
	values [maxCookieCandidates]string
	n      int
}

func (c *candidates) add(value string) {
	if value != "" && c.n < len(c.values) {
		c.values[c.n] = value
		c.n++
	}
}

func (c *candidates) all() []string { return c.values[:c.n] }

// cookieValues are the session and refresh cookies of a request.
type cookieValues struct{ session, refresh candidates }

// read returns the values of the request's session and refresh cookies. The
// parser of net/http would make a list of all cookies of the request, and most
// are none of ours; what it checks of a value, the token's own rules check.
func (p *cookiePolicy) read(r *http.Request) (values cookieValues) {
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(textproto.TrimString(pair), "=")
			switch name = textproto.TrimString(name); {
			case name == "":
			case name == p.session:
				values.session.add(unquoteCookie(value))
			case name == p.refresh:
				values.refresh.add(unquoteCookie(value))
			}
		}
	}
	return values
}

// unquoteCookie removes the quotes that some clients put around a value.
func unquoteCookie(value string) string {
	if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
		return value[1 : n-1]
	}
	return value
}

// write sets the cookies of a renewed or new session. Both live until until,
// when the refresh token expires: a session cookie that went with its own token
// would take along the only hint that there is something to refresh. refresh is
// "" if the client's own stays in force.
func (p *cookiePolicy) write(w http.ResponseWriter, session, refresh string, until time.Time) {
	if p.refresh == "" {
		return
	}
	p.forbidCaching(w)
	if p.session != "" {
		p.setOrExpire(w, p.session, session, until)
	}
	if refresh != "" {
		p.setOrExpire(w, p.refresh, refresh, until)
	}
}

// setOrExpire deletes the old cookie where a browser would drop the new one
// without a word.
func (p *cookiePolicy) setOrExpire(w http.ResponseWriter, name, value string, until time.Time) {
	if len(name)+len(value) <= maxCookieSize {
		p.set(w, name, value, until)
		return
	}
	p.log.Error("descopehttp: a token is too large for a cookie, and the session will not last. "+
		"Leave claims out of the project's JWT template, or use another delivery", slog.String("cookie", name))
	p.expire(w, name)
}

// delete removes both cookies, in every form in which this policy or an earlier
// configuration of it may have set them.
func (p *cookiePolicy) delete(w http.ResponseWriter) {
	if p.refresh == "" {
		return
	}
	p.forbidCaching(w)
	for _, name := range []string{p.session, p.refresh} {
		if name != "" {
			p.expire(w, name)
		}
	}
}

func (p *cookiePolicy) expire(w http.ResponseWriter, name string) {
	c := p.cookie(name, "")
	c.MaxAge = -1
	http.SetCookie(w, c)
	if p.domain != "" {
		c.Domain = "" // the host-only one, set before Domain was configured
		http.SetCookie(w, c)
	}
}

func (p *cookiePolicy) set(w http.ResponseWriter, name, value string, until time.Time) {
	c := p.cookie(name, value)
	// Max-Age rather than Expires: it does not depend on the browser's clock.
	if c.MaxAge = int(time.Until(until) / time.Second); c.MaxAge <= 0 {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func (p *cookiePolicy) cookie(name, value string) *http.Cookie {
	return &http.Cookie{
		Name:     name,
		Value:    value,
		Path:     "/",
		Domain:   p.domain,
		Secure:   p.secure,
		HttpOnly: true,
		SameSite: p.sameSite,
	}
}

// mark says that an answer depends on who asks: without Vary a browser shows what it
// keeps of one user to the next, and a proxy to everybody (RFC 9111, section 4.1). What
// a handler sets later wins. The values are kept in m.
func (p *cookiePolicy) mark(h http.Header, m *marks) {
	if vary := h["Vary"]; len(vary) == 0 {
		m[0] = p.vary
		h["Vary"] = m[0:1:1]
	} else if !slices.Contains(vary, p.vary) {
		h["Vary"] = append(vary, p.vary)
	}
	if len(h["Cache-Control"]) == 0 {
		m[1] = "private"
		h["Cache-Control"] = m[1:2:2]
	}
}

// forbidCaching keeps an answer with somebody's cookies out of every cache, whatever a
// handler says of it. A key that is not canonical is out of reach for Set and Del, such
// as those of http.FileServer; on the wire the lines are one field, and of what that says
// the strictest counts (RFC 9111, section 4.2.1; RFC 9110, section 5.3).
func (p *cookiePolicy) forbidCaching(w http.ResponseWriter) {
	h := w.Header()
	h["cache-control"] = []string{"no-store"}
	h.Set("Cache-Control", "no-store")
	h.Set("CDN-Cache-Control", "no-store")
	h.Set("Surrogate-Control", "no-store")
	p.mark(h, new(marks))
}

// replace returns header with the session cookie set to session and no refresh
// cookie, for the handler behind a renewal: it must neither see the expired
// token nor spend the refresh token a second time.
func (p *cookiePolicy) replace(header http.Header, session string) http.Header {
	header = header.Clone()
	var kept []string
	for _, line := range header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			pair = textproto.TrimString(pair)
			name, _, _ := strings.Cut(pair, "=")
			name = textproto.TrimString(name) // as net/http reads it
			if pair != "" && name != p.session && name != p.refresh {
				kept = append(kept, pair)
			}
		}
	}
	if p.session != "" {
		kept = append(kept, p.session+"="+session)
	}
	if header.Del("Cookie"); len(kept) > 0 {
		header.Set("Cookie", strings.Join(kept, "; "))
	}
	return header
}
