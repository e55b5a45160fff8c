package cookie

import (
	"net/http"
	"net/url"

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

// cameOverPlainHTTP goes by Origin, which the browser itself writes, and else by what a proxy
// says. Of loopback addresses browsers keep Secure cookies, or most do.
func cameOverPlainHTTP(r *http.Request) bool {
	if r.TLS != nil {
		return false
	}
	if u, err := url.Parse(r.Header.Get("Origin")); err == nil && u.Host != "" {
		return u.Scheme == "http" && !visit.IsLoopback(u.Hostname())
	}
	return r.Header.Get("X-Forwarded-Proto") == "http" && !visit.IsLoopback(visit.Hostname(r.Host))
}
