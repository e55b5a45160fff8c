package cookie

import (
	"net/http"
	"strings"

	"github.com/descopehttp/descopehttp/internal/visit"
)

// Bounds on deletions for other scopes.
const (
	maxScopes     = 5
	maxScopesSize = 4 << 10 // bytes of header
	maxHost       = 253     // RFC 1035, section 2.3.4, as text; anybody can send a longer one
)

// Scopes returns the domains for which a cookie that the browser sends to host may have been
// set, but for the policy's own: the host itself and its parents, the widest first. A
// cookie does not tell for which it was. Public suffixes may be among them; browsers
// ignore those by themselves (RFC 6265bis, section 5.7). Names with __Host- have no
// domain.
func (p *Policy) Scopes(host string) (domains []string) {
	if len(p.plainNames()) == 0 {
		return nil
	}
	host = strings.ToLower(visit.Hostname(host))
	if len(host) > maxHost || !isName(host) {
		return nil
	}
	labels := strings.Split(host, ".")
	for i := len(labels) - 2; i >= 0 && len(domains) < maxScopes; i-- {
		domain := strings.Join(labels[i:], ".")
		// Of a host with an underscore, or the like, net/http would set one without a domain.
		c := http.Cookie{Name: "x", Domain: domain}
		if c.Valid() == nil && domain != strings.ToLower(strings.TrimPrefix(p.Domain, ".")) {
			domains = append(domains, domain)
		}
	}
	return domains
}

// isName reports whether host is a name of labels, and no address.
func isName(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" || last[0] < 'a' || last[0] > 'z' {
		return false // an address, whatever the notation, ends in a digit
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || strings.ContainsFunc(label, isOdd) {
			return false
		}
	}
	return true
}

func isOdd(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// expireScopes deletes the host-only cookies and those for the domains. It comes before
// new ones are set: a browser obeys the lines in their order.
func (p *Policy) expireScopes(w http.ResponseWriter, domains []string) {
	if len(domains) == 0 {
		return
	}
	size := 0
	for _, domain := range append([]string{""}, domains...) {
		if domain == "" && p.Domain == "" {
			continue // the scope of the policy
		}
		for _, name := range p.plainNames() {
			c := p.cookie(name, "")
			c.Domain, c.MaxAge = domain, -1
			for _, c.Partitioned = range p.forms() {
				if size += len(c.String()); size > maxScopesSize {
					return
				}
				http.SetCookie(w, c)
			}
		}
	}
}
