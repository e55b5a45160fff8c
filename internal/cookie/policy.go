// Package cookie reads and writes the session cookies, and is the one that does.
//
// A [Policy] says how they are named and scoped, and names.go what names may be. Under
// plain names a browser may hold several of one name, from an earlier configuration or from
// a neighbour host: scope.go knows where they can stand, and marker.go whose browser it is.
package cookie

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/descopehttp/descopehttp/internal/notice"
)

// Browsers drop a cookie whose name and value are longer together
// (RFC 6265bis, section 5.6).
const maxSize = 4096

// A Policy is the compiled form of the root's Config.Cookies.
type Policy struct {
	ProjectID string
	// Names: the first is written, all are read, and none but the first outlives a sign-in,
	// a renewal or a logout, so that a rename signs nobody out. Session is empty where no
	// session cookie is used, and both where no cookies are.
	Session, Refresh []string
	Marker           string // its name, or ""
	Domain           string
	Secure           bool
	SameSite         http.SameSite
	Partitioned      bool
	Vary             string // what an answer that was judged depends on
	Notices          *notice.Reporter
}

// A Fresh is what is written of a renewed or new session.
type Fresh struct {
	Session, Refresh string // tokens; Refresh is "" if Held stays in force
	// Held is the refresh token that the client has shown. It is set anew where the client
	// has it somewhere else than in the cookie that is to stay.
	Held string
	// Until is when the refresh token expires. Both cookies live as long: a session cookie
	// that went with its own token would take along the only hint that there is something
	// to refresh.
	Until  time.Time
	User   string
	SignIn bool     // the user has just proved who they are
	Scopes []string // domains for which other cookies are deleted first
}

// Write sets the cookies of a renewed or new session, in the answer to r.
func (p *Policy) Write(w http.ResponseWriter, r *http.Request, f *Fresh) {
	if len(p.Refresh) == 0 {
		return
	}
	p.warnInsecure(r)
	p.ForbidCaching(w)
	p.expireScopes(w, f.Scopes)
	p.expireFormer(w)
	if len(p.Session) > 0 {
		p.setOrExpire(w, p.Session[0], f.Session, f.Until)
	}
	refresh := f.Refresh
	if refresh == "" && !p.holds(r, f.Held) {
		refresh = f.Held
	}
	if refresh != "" {
		p.setOrExpire(w, p.Refresh[0], refresh, f.Until)
		p.writeMarker(w, r, f)
	}
}

// holds reports whether a refresh token came in the cookie that is to stay. A partitioned
// one cannot be told from the one that was set before.
func (p *Policy) holds(r *http.Request, refresh string) bool {
	only := Policy{Refresh: p.Refresh[:1]}
	values := only.Read(r)
	return !p.Partitioned && slices.Contains(values.Refresh.All(), refresh)
}

// setOrExpire deletes the old cookie where a browser would drop the new one
// without a word.
func (p *Policy) setOrExpire(w http.ResponseWriter, name, value string, until time.Time) {
	if len(name)+len(value) <= maxSize {
		p.set(w, name, value, until)
		return
	}
	p.Notices.Tell(context.Background(), notice.CookieTooLarge, notice.Fields{Reason: name})
	p.expire(w, name)
}

// Delete removes the cookies, and those for the domains in scopes too.
func (p *Policy) Delete(w http.ResponseWriter, scopes []string) {
	if len(p.Refresh) == 0 {
		return
	}
	p.ForbidCaching(w)
	p.expireScopes(w, scopes)
	for _, name := range p.names() {
		p.expire(w, name)
	}
	if p.Marker == "" {
		return
	}
	for _, partitioned := range p.forms() {
		p.expireMarker(w, partitioned)
	}
}

func (p *Policy) names() []string { return slices.Concat(p.Session, p.Refresh) }

// plainNames are those for which a neighbour host may set a cookie.
func (p *Policy) plainNames() []string { return slices.DeleteFunc(p.names(), isHosted) }

// expireFormer deletes what is not to be beside the cookies that are written: those of
// other names, and those from before they were partitioned.
func (p *Policy) expireFormer(w http.ResponseWriter) {
	for _, names := range [][]string{p.Session, p.Refresh} {
		for i, name := range names {
			if i > 0 {
				p.expire(w, name)
			} else if p.Partitioned {
				p.expireForm(w, name, false)
			}
		}
	}
}

// forms are those in which a cookie may be there, Partitioned or not: to a browser the one
// from before it was partitioned is another, and each goes by a deletion of its form.
func (p *Policy) forms() []bool {
	if p.Partitioned {
		return []bool{false, true}
	}
	return []bool{false}
}

func (p *Policy) expire(w http.ResponseWriter, name string) {
	for _, partitioned := range p.forms() {
		p.expireForm(w, name, partitioned)
	}
}

func (p *Policy) expireForm(w http.ResponseWriter, name string, partitioned bool) {
	c := p.cookie(name, "")
	c.MaxAge, c.Partitioned = -1, partitioned
	http.SetCookie(w, c)
	if p.Domain != "" {
		c.Domain = "" // the host-only one, set before Domain was configured
		http.SetCookie(w, c)
	}
}

func (p *Policy) set(w http.ResponseWriter, name, value string, until time.Time) {
	c := p.cookie(name, value)
	c.MaxAge = maxAge(until)
	http.SetCookie(w, c)
}

// maxAge is used rather than Expires: it does not depend on the browser's clock.
func maxAge(until time.Time) int {
	if seconds := int(time.Until(until) / time.Second); seconds > 0 {
		return seconds
	}
	return -1
}

func (p *Policy) cookie(name, value string) *http.Cookie {
	return &http.Cookie{
		Name:        name,
		Value:       value,
		Path:        "/",
		Domain:      p.Domain,
		Secure:      p.Secure,
		HttpOnly:    true,
		SameSite:    p.SameSite,
		Partitioned: p.Partitioned,
	}
}

// Marks are the values of two header fields of an answer, to be kept where there is an
// allocation already.
type Marks [2]string

// Mark says that an answer depends on who asks: without Vary a browser shows what it
// keeps of one user to the next, and a proxy to everybody (RFC 9111, section 4.1). What
// a handler sets later wins.
func (p *Policy) Mark(h http.Header, m *Marks) {
	if vary := h["Vary"]; len(vary) == 0 {
		m[0] = p.Vary
		h["Vary"] = m[0:1:1]
	} else if !slices.Contains(vary, p.Vary) {
		h["Vary"] = append(vary, p.Vary)
	}
	if len(h["Cache-Control"]) == 0 {
		m[1] = "private"
		h["Cache-Control"] = m[1:2:2]
	}
}

// ForbidCaching keeps an answer with somebody's cookies out of every cache, whatever a
// handler says of it. A key that is not canonical is out of reach for Set and Del, such
// as those of http.FileServer; on the wire the lines are one field, and of what that says
// the strictest counts (RFC 9111, section 4.2.1; RFC 9110, section 5.3). What is said to
// CDNs takes precedence with them (RFC 9213, section 2.2).
func (p *Policy) ForbidCaching(w http.ResponseWriter) {
	h := w.Header()
	for _, name := range [...]string{"cache-control", "cdn-cache-control", "surrogate-control"} {
		h[name] = []string{"no-store"}
		h.Set(name, "no-store") // for whoever asks before it sets its own
	}
}
