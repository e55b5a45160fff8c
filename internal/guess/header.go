package guess

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// FromHeader returns the address that a header names which trusted proxies write. The root
// package documents and exports it.
func FromHeader(name string, trusted []netip.Prefix) func(*http.Request) netip.Addr {
	if len(trusted) == 0 || slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return !p.IsValid() }) {
		panic("descopehttp: ClientIPFromHeader needs the addresses of your proxies")
	}
	if name == "" || strings.EqualFold(name, "Forwarded") {
		panic("descopehttp: ClientIPFromHeader takes a header of addresses, such as X-Forwarded-For")
	}
	trusted = slices.Clone(trusted)
	for i, p := range trusted {
		if p.Addr().Is4In6() && p.Bits() >= 96 { // as addresses are
			trusted[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
	}
	isTrusted := func(addr netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	return func(r *http.Request) netip.Addr {
		addr := parseAddr(r.RemoteAddr)
		entries := strings.Split(strings.Join(r.Header.Values(name), ","), ",")
		// From the right: what stands left of an untrusted hop it has written itself.
		for _, entry := range slices.Backward(entries) {
			if !addr.IsValid() || !isTrusted(addr) {
				break
			}
			addr = parseAddr(strings.TrimSpace(entry))
		}
		return addr
	}
}

// parseAddr reads an address with or without a port or brackets. What does not parse is the
// zero Addr.
func parseAddr(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	addr, _ := netip.ParseAddr(s)
	return addr.Unmap().WithZone("")
}
