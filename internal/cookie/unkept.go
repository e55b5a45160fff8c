package cookie

import (
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/descopehttp/descopehttp/internal/visit"
)

// warnings are about cookies that no browser keeps.
type warnings struct {
	insecure sync.Once
	tooLarge rate.Sometimes
}

func newWarnings() *warnings { return &warnings{tooLarge: rate.Sometimes{Interval: time.Minute}} }

// warnTooLarge says that a token does not fit into a cookie, once a minute.
func (p *Policy) warnTooLarge(name string) {
	p.warnings.tooLarge.Do(func() {
		p.Log.Error("descopehttp: a token is too large for a cookie, and the session will not last. "+
			"Leave claims out of the project's JWT template, or use another delivery", slog.String("cookie", name))
	})
}

// warnInsecure says once that a browser drops Secure cookies that come over plain http
// (RFC 6265bis, section 5.7), where the request shows that they do.
func (p *Policy) warnInsecure(r *http.Request) {
	if p.Secure && cameOverPlainHTTP(r) {
		p.warnings.insecure.Do(func() {
			p.Log.Warn("descopehttp: Secure cookies were set over plain http, and the browser drops them. Use https, or in development Cookies.InsecureHTTP")
		})
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
