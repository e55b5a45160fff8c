package cookie

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/visit"
)

// warnInsecure says that a browser drops Secure cookies that come over plain http (RFC
// 6265bis, section 5.7), where the request shows that they do.
func (p *Policy) warnInsecure(r *http.Request) {
	if p.Secure && cameOverPlainHTTP(r) {
		p.Notices.Tell(r.Context(), notice.CookieDropped, notice.Fields{})
	}
}

// cameOverPlainHTTP goes by Origin, which the browser itself writes, and else by what the
// outermost proxy says.
func cameOverPlainHTTP(r *http.Request) bool {
	if r.TLS != nil {
		return false
	}
	if u, err := url.Parse(r.Header.Get("Origin")); err == nil && u.Host != "" {
		return u.Scheme == "http" && !keepsSecure(u.Hostname())
	}
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(proto), "http") && !keepsSecure(visit.Hostname(r.Host))
}

// keepsSecure reports whether browsers, or most of them, keep Secure cookies of a host that
// they reach over http: *.localhost is loopback to them (RFC 6761, section 6.3).
func keepsSecure(host string) bool {
	host = strings.ToLower(host)
	return visit.IsLoopback(host) || strings.HasSuffix(host, ".localhost")
}
