package descopehttp

import (
	"net/http"
	"net/url"

	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/visit"
)

// ReturnTo returns the way back that the middleware added to Config.LoginURL: the path, with
// its query, of the page that asked for a session, or of the page with the form that was
// sent. It is always a path of this server. Whatever else a link to the login page may carry,
// such as "//evil.example", comes back as "/": a login page that sends people where a link
// says lends its name to any site. Behind a proxy that cuts off a prefix, "/" is what says that
// there is no way back.
func ReturnTo(r *http.Request) string {
	return visit.WayBack(r, "/")
}

// acrValues tell the login page that a session is not enough.
var acrValues = map[*problem.Problem]string{problem.StepUp: "stepup", problem.MFA: "mfa"}

// sendToLogin answers a page view with 303 (RFC 9110, section 15.4.4), and htmx with what it
// takes for one. It answers nothing, and returns the failure to answer with, where
// neither would help.
func (x *refusals) sendToLogin(w http.ResponseWriter, r *http.Request, f *problem.Failure) *problem.Failure {
	isPage := visit.IsPageView(r)
	if x.loginURL == nil || f.Status != http.StatusUnauthorized || !isPage && !visit.IsHTMX(r) {
		return f
	}
	asked := visit.Asked(r, x.pathPrefix)
	if visit.GoesRound(x.loginURL, asked, r.Host) {
		x.notices.Tell(r.Context(), notice.LoginPageGuarded, notice.Fields{})
		return problem.LoginPage.Because("the login page asks for a session")
	}
	back := asked
	if r.Method != http.MethodGet && r.Method != http.MethodHead || visit.IsPart(r) {
		back = visit.Shown(r)
		if visit.IsAt(x.loginURL, back, r.Host) {
			back = visit.WayBackOf(back)
		}
	}
	address := visit.LoginAddress(x.loginURL, back, acrValues[f.Problem])
	h := w.Header()
	h.Add("Vary", "Sec-Fetch-Mode, Accept")
	if !isPage {
		h.Set("HX-Redirect", address)
		return f
	}
	h.Set("Location", address)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// refusals answers requests that the middleware does not let through.
type refusals struct {
	loginURL   *url.URL // nil without
	pathPrefix string
	handler    func(http.ResponseWriter, *http.Request, error)
	notices    *notice.Reporter
}

// answer is the default.
func (x *refusals) answer(w http.ResponseWriter, r *http.Request, err error) {
	if f := x.sendToLogin(w, r, problem.Of(err)); f != nil {
		problem.Write(w, f)
	}
}

// refuse has Config.ErrorHandler answer, if there is one.
func (x *refusals) refuse(w http.ResponseWriter, r *http.Request, err error) {
	x.notices.Refused(r.Context(), "request", problem.Of(err))
	if x.handler == nil {
		x.answer(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	problem.AnnounceRetry(w.Header(), problem.Of(err))
	n := &problem.Noting{ResponseWriter: w}
	if x.handler(n, r, err); !n.Answered {
		x.notices.Tell(r.Context(), notice.NoAnswer, notice.Fields{})
		problem.Write(w, problem.Internal.Because("no answer of the ErrorHandler"))
	}
}
