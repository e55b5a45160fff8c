package descopehttp

import (
	"log/slog"
	"net/http"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/token"
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

// newCookiePolicy returns the policy, whose names are empty for a delivery that
// uses no cookies.
func newCookiePolicy(c Cookies, delivery Delivery, projectID string, log *slog.Logger) *cookie.Policy {
	p := cookie.New(cookie.Policy{
		ProjectID: projectID,
		Session:   "__Host-" + token.SessionDRN,
		Refresh:   "__Host-" + token.RefreshDRN,
		Domain:    c.Domain,
		Secure:    !c.InsecureHTTP,
		SameSite:  c.SameSite,
		Vary:      "Cookie, Authorization",
		Log:       log,
	})
	if c.PlainNames || c.Domain != "" || c.InsecureHTTP {
		p.Session, p.Refresh = token.SessionDRN, token.RefreshDRN
		if p.Secure {
			p.Marker = cookie.MarkerName
		}
	}
	if p.SameSite == 0 || p.SameSite == http.SameSiteDefaultMode {
		p.SameSite = http.SameSiteLaxMode
	}
	switch delivery {
	case SessionInBody:
		p.Session = ""
	case InBody:
		p.Session, p.Refresh, p.Marker, p.Vary = "", "", "", "Authorization"
	}
	return p
}
