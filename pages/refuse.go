package pages

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp"
)

// Refuse answers a request that the middleware does not let through: it is for
// Config.ErrorHandler, and is there already where New found none. People get a page for
// a 403 and a 503; the rest, and whoever does not ask for HTML, gets what
// [descopehttp.Auth.WriteError] answers. No page costs a call to Descope: on a 403 it says that
// somebody is signed in, and the account, which it leads to, says who.
func (p *Pages) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Add("Vary", "Accept")
	forbidden := errors.Is(err, descopehttp.ErrForbidden) || errors.Is(err, descopehttp.ErrCrossOrigin)
	if !wantsPage(r) || !forbidden && !errors.Is(err, descopehttp.ErrUnavailable) {
		p.auth.WriteError(w, r, err)
		return
	}
	p.protect(w.Header())
	v := p.visit(w, r)
	v.foreign()
	v.take(r)
	if forbidden {
		v.refused(problemOf(err))
		return
	}
	v.away(problemOf(err))
}

// wantsPage reports whether a browser is about to show the answer. What it fetches ahead it
// may show later, when the page would no longer be true.
func wantsPage(r *http.Request) bool {
	h := r.Header
	ahead := strings.Contains(h.Get("Sec-Purpose"), "prefetch") || h.Get("Purpose") == "prefetch"
	// Web views write the name of their app into X-Requested-With; no script can say "navigate".
	script := h.Get("HX-Request") != "" || h.Get("X-Requested-With") != "" && h.Get("Sec-Fetch-Mode") != "navigate"
	return strings.Contains(h.Get("Accept"), "text/html") && !ahead && !script
}

// refused says what somebody may not do. Who that is, is not asked: anybody can have as many of
// these pages as they like, and each would be a call.
func (v *visit) refused(p *descopehttp.Problem) {
	v.view.Problem, v.view.LoginID = p, "" // what a form has sent may be another site's word
	v.view.Notice = cmp.Or(v.p.texts["error."+p.Code], v.p.texts["error.forbidden"])
	v.show(p.Status, "refused")
}

// away says that nothing can be told now. Whoever was signed in still is.
func (v *visit) away(p *descopehttp.Problem) {
	v.view.Away, v.view.Problem = v.view.Session == nil, p
	v.view.Wait = seconds(cmp.Or(p.RetryAfter, 5*time.Second))
	v.w.Header().Set("Retry-After", strconv.Itoa(int(v.view.Wait/time.Second)))
	v.show(p.Status, "away")
}
