package main

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/descopehttp/descopehttp/descopetest"
)

// maxProjectBody bounds what a client sends to the project, in bytes. It is
// several times what Descope's clients send; what they say about a user or a
// session is kept as long as that is.
const maxProjectBody = 8 << 10

// newHandler returns the project and, beside it, what drives it. host is a name that others
// know it by, "" for none.
func newHandler(project *descopetest.Server, host string) http.Handler {
	control := newControl(project, host)
	calls := allowLocalPages(limitBody(project))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, controlPrefix); ok {
			control.serve(w, r, name)
			return
		}
		calls.ServeHTTP(w, r)
	})
}

func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxProjectBody {
			writeJSON(w, http.StatusRequestEntityTooLarge, map[string]string{
				"errorCode":        "E011003",
				"errorDescription": "Request is invalid",
				"errorMessage":     "the emulator takes bodies of up to 8 KiB",
				"message":          "the emulator takes bodies of up to 8 KiB",
			})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxProjectBody) // for those of unknown length
		next.ServeHTTP(w, r)
	})
}

// allowLocalPages lets pages that this machine serves call the project across
// origins, with cookies, as Descope lets the pages of its customers (Fetch
// Standard, section 3.2). Other pages have no business with it.
func allowLocalPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if !isLocalPage(origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Add("Vary", "Access-Control-Request-Headers")
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			// Descope's clients send many headers of their own, new ones with
			// every version.
			h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLocalPage(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Scheme+"://"+u.Host == origin && isLoopback(u.Hostname())
}

// isLoopback reports whether host is this machine whatever a name server says.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
