package descopehttp

import (
	"net/http"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/notice"
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

	// SessionNames and RefreshNames, if set, are the names of the two cookies, in place of
	// those above; at most four each. The first is written, all are read, and all others
	// are deleted at a sign-in, a renewal and a logout: a new name in front signs nobody
	// out. Where a value under a name with __Host- passes the checks, other names are not
	// looked at. A token whose "drn" claim is one of the names is of that kind, as in
	// projects that name their cookies. No name may be on both lists, and DS and DSR are
	// of their kind alone.
	SessionNames, RefreshNames []string

	// Partitioned gives each site that embeds this one cookies of its own (CHIPS). It needs
	// SameSite None and Secure cookies. Taken away again, it leaves those where they are.
	Partitioned bool
}

// newCookiePolicy returns the policy, whose names are empty for a delivery that
// uses no cookies.
func newCookiePolicy(c Cookies, delivery Delivery, projectID string, notices *notice.Reporter) *cookie.Policy {
	p := cookie.New(cookie.Settings(c), projectID, notices)
	switch delivery {
	case SessionInBody:
		p.Session = nil
	case InBody:
		p.Session, p.Refresh, p.Marker, p.Vary = nil, nil, "", "Authorization"
	}
	return p
}
