package pages

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/descopehttp/descopehttp"
)

// signInPage is where Config.LoginURL leads. Whoever is signed in goes on, unless they come
// for a step-up.
func (v *visit) signInPage() {
	acr := v.acr()
	switch {
	case acr != "" && v.view.Away:
		v.away(problemOf(descopehttp.SessionError(v.r.Context())))
	case acr != "" && v.view.Session != nil:
		v.confirmPage()
	case v.view.Session != nil:
		v.goOn("")
	default:
		v.notice("ended")
		v.view.Focus = "loginId"
		v.show(http.StatusOK, "signin")
	}
}

// acr returns what a guard has asked for beyond a session.
func (v *visit) acr() string {
	acr := v.r.URL.Query().Get("acr_values")
	if acr != "stepup" && acr != "mfa" {
		return ""
	}
	return acr
}

// confirmPage asks always, also who has just stepped up: a guard that was not content with
// that would only send them back here.
func (v *visit) confirmPage() {
	v.view.Focus = "code"
	if isOver(v.loadUser()) { // the login id is for password managers; the page works without
		v.view.Error, v.view.Focus = v.p.texts["account.ended"], "error"
	}
	if now := time.Now(); step(now) == step(v.view.Session.IssuedAt()) {
		v.view.NextCode = untilNextCode(now)
	}
	v.show(http.StatusOK, "confirm")
}

const stepSeconds = 30 // between two codes (RFC 6238, section 5.2)

func step(t time.Time) int64 { return t.Unix() / stepSeconds }

func untilNextCode(now time.Time) time.Duration {
	return time.Duration(stepSeconds-now.Unix()%stepSeconds) * time.Second
}

// signIn takes the form of the sign-in page, or of the one that asks once more: there the
// user is known, and no login id is sent.
func (v *visit) signIn() {
	if !v.parse("signin") {
		return
	}
	if acr := v.acr(); acr != "" && !v.r.PostForm.Has("loginId") {
		v.confirm(acr)
		return
	}
	typed := v.r.PostForm.Get("loginId")
	v.view.LoginID = strings.TrimSpace(typed)
	_, _, err := v.p.auth.SignIn(v.w, v.r, descopehttp.SignIn{LoginID: typed, Code: v.r.PostForm.Get("code")})
	switch {
	case err == nil:
		v.goOn("")
	case !v.instead(err):
		p := problemOf(err)
		if p.Code == "invalid_code" {
			v.noteLoginID(typed)
		}
		v.fail("signin", p)
	}
}

// noteLoginID says what there is to know of a login id: only Descope knows whether capitals
// matter.
func (v *visit) noteLoginID(typed string) {
	if hasCapitals(typed) {
		v.view.Notes = append(v.view.Notes, v.p.texts["error.capitals"])
	}
	if strings.TrimSpace(typed) != typed {
		v.view.Notes = append(v.view.Notes, v.p.texts["error.spaces"])
	}
}

func hasCapitals(s string) bool { return strings.ContainsFunc(s, unicode.IsUpper) }

// confirm takes a code that adds to the session.
func (v *visit) confirm(acr string) {
	s, _, err := v.p.auth.SignIn(v.w, v.r, descopehttp.SignIn{Code: v.r.PostForm.Get("code"), StepUp: acr == "stepup", MFA: acr == "mfa"})
	switch {
	case err == nil && acr == "mfa" && !slices.Contains(s.AuthMethods(), "mfa"):
		// The guard would send them back here for ever.
		v.view.Session = s
		v.show(http.StatusForbidden, "factor")
	case err == nil:
		v.goOn("")
	case !v.instead(err):
		v.view.LoginID = v.r.PostForm.Get("username")
		if v.view.Session, _ = v.p.auth.Authenticate(v.w, v.r); v.view.Session == nil {
			v.view.Away = true
		}
		p := problemOf(err)
		if p.Code == "invalid_code" {
			// Descope says the same of a code that was used as of a wrong one.
			v.view.NextCode = untilNextCode(time.Now())
		}
		v.fail("confirm", p)
	}
}

func (v *visit) signUpPage() {
	v.view.Focus = "loginId"
	v.show(http.StatusOK, "signup")
}

// signUp takes both forms of a sign-up: the login id, and the code that finishes it.
func (v *visit) signUp() {
	if !v.parse("signup") {
		return
	}
	if v.r.PostForm.Has("code") {
		v.finish("")
		return
	}
	typed := v.r.PostForm.Get("loginId")
	v.view.LoginID, v.view.FullName = strings.TrimSpace(typed), strings.TrimSpace(v.r.PostForm.Get("name"))
	key, err := v.p.auth.SignUp(v.w, v.r, descopehttp.SignUp{LoginID: typed, Name: v.view.FullName})
	switch {
	case err == nil:
		v.showKey(newKey(key))
	case !v.instead(err):
		v.fail("signup", problemOf(err))
	}
}

// showKey shows a new key. The answer is the only one that has it: there is no address that
// shows it again.
func (v *visit) showKey(key *Key) {
	v.view.Key, v.view.Focus = key, "code"
	v.view.Capitals = v.view.Session == nil && hasCapitals(v.view.LoginID)
	v.show(http.StatusOK, "key")
}

// finish takes the first code of a new key. A wrong one shows the key again.
func (v *visit) finish(notice string) {
	loginID := strings.TrimSpace(v.r.PostForm.Get("loginId"))
	_, _, err := v.p.auth.SignIn(v.w, v.r, descopehttp.SignIn{LoginID: loginID, Code: v.r.PostForm.Get("code")})
	switch {
	case err == nil:
		v.goOn(notice)
	case !v.instead(err):
		v.keyAgain(loginID, err)
	}
}

// authenticatorPage is behind a step-up, as what it leads to.
func (v *visit) authenticatorPage() {
	if !v.authenticate() {
		return
	}
	if !v.view.Session.StepUp() {
		v.to("signin", url.Values{"acr_values": {"stepup"}, "return_to": {v.asked()}})
		return
	}
	v.show(http.StatusOK, "authenticator")
}

// authenticator takes both forms of a replacement: the wish for a key, and its first code.
func (v *visit) authenticator() {
	if !v.parse("authenticator") {
		return
	}
	session, err := v.p.auth.Authenticate(v.w, v.r)
	if err != nil && v.instead(err) {
		return
	}
	v.view.Session = session // for who is told; the flows judge for themselves
	if v.r.PostForm.Has("code") {
		if v.isOwn() {
			v.finish("replaced")
		}
		return
	}
	key, err := v.p.auth.NewKey(v.w, v.r, "")
	switch {
	case err == nil:
		_ = v.loadUser()
		v.showKey(newKey(key))
	case !v.instead(err):
		v.fail("authenticator", problemOf(err))
	}
}

// isOwn reports whether the form is about who is signed in. If not it answers: the code of a
// key signs in, so that somebody else's would turn one user into the other.
func (v *visit) isOwn() bool {
	loginID := strings.TrimSpace(v.r.PostForm.Get("loginId"))
	err := v.loadUser()
	switch {
	case err == nil && slices.Contains(v.view.User.LoginIDs, loginID):
		return true
	case err == nil:
		v.refused(&descopehttp.Problem{Status: http.StatusForbidden, Code: "foreign_login_id"})
	case !v.instead(err):
		v.keyAgain(loginID, err)
	}
	return false
}

// keyAgain shows a key once more, of what the form has carried, because Descope shows it once.
func (v *visit) keyAgain(loginID string, err error) {
	v.view.LoginID = loginID
	v.view.Key = postedKey(v.r.PostForm.Get("url"), v.r.PostForm.Get("qr"))
	v.fail("key", problemOf(err))
}
