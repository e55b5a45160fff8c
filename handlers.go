package descopehttp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
	"github.com/descopehttp/descopehttp/internal/visit"
)

// A route is one flow as a handler.
type route struct {
	*terms
	forms bool // a form may post here, and is sent on to a page
	serve func(*Auth, *flow) (jsontext.Value, error)
}

// routes is keyed by Descope's own paths, so that Descope's clients work on the
// mount as they are.
var routes = map[string]*route{
	descope.PathTOTPSignUp:   {terms: signUpTerms, serve: (*Auth).signUpFlow},
	descope.PathTOTPVerify:   {terms: verifyTerms, serve: (*Auth).verifyFlow, forms: true},
	descope.PathTOTPUpdate:   {terms: updateTerms, serve: (*Auth).updateFlow},
	descope.PathRefresh:      {terms: refreshTerms, serve: (*Auth).refreshFlow},
	descope.PathTryRefresh:   {terms: tryRefreshTerms, serve: (*Auth).tryRefreshFlow},
	descope.PathLogout:       {terms: logoutTerms, serve: (*Auth).signOut, forms: true},
	descope.PathLogoutAll:    {terms: logoutTerms, serve: (*Auth).signOutEverywhere, forms: true},
	descope.PathMe:           {terms: meTerms, serve: (*Auth).meFlow},
	descope.PathHistory:      {terms: meTerms, serve: (*Auth).historyFlow},
	descope.PathMyTenants:    {terms: tenantsTerms, serve: (*Auth).tenantsFlow},
	descope.PathSelectTenant: {terms: selectTerms, serve: (*Auth).selectTenantFlow},
}

// Handler returns a handler for all flows, at Descope's own paths: POST
// /v1/auth/totp/signup, /v1/auth/totp/verify, /v1/auth/totp/update,
// /v1/auth/refresh, /v1/auth/try-refresh, /v1/auth/logout, /v1/auth/logoutall,
// /v1/auth/me/tenants and /v1/auth/tenant/select; GET /v1/auth/me and
// /v1/auth/me/history. It looks at the path from its last /v1/auth/ on and so
// works under any prefix, stripped or not. Descope's clients work on it with
// their base URL set to the mount.
//
// A form, application/x-www-form-urlencoded, may post to verify (loginId, code, stepup, mfa,
// revokeOtherSessions, locale), logout and logoutall: success is a 303 to its return_to, a
// path of this server, failure a 303 back to its page with error=<code> in the query. What
// answers with a key takes JSON only, as everything does where tokens go InBody.
//
// Every other answer is JSON and must not be cached. Errors are problem documents
// (RFC 9457) that also carry Descope's error fields. Cross-origin requests are
// refused but for Config.TrustedOrigins. CORS headers are left to a middleware
// around it.
func (a *Auth) Handler() http.Handler {
	// No ServeMux: its 404s, 405s and redirects are not JSON, and the redirects
	// would lose the prefix.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rt := routes[flowPath(r.URL.Path)]; rt != nil {
			a.serve(rt, w, r)
			return
		}
		problem.WriteFlow(w, problem.NotFound.Because("no such path"))
	})
}

// flowPath cuts the mount's prefix off.
func flowPath(path string) string {
	return path[max(0, strings.LastIndex(path, "/v1/auth/")):]
}

// ServeSignUp starts a sign-up: {"loginId", "user"?} is answered with the key,
// its provisioning URL and a QR code as base64 PNG. It is the handler of one
// flow, for those who choose their own path; like the others below it answers
// as [Auth.Handler] says.
func (a *Auth) ServeSignUp(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathTOTPSignUp], w, r)
}

// ServeVerify signs in, or finishes a sign-up or an update: {"loginId", "code",
// "loginOptions"?}. With loginOptions.stepup or mfa it needs the refresh token
// of the same user. A wrong code and an unknown user get the same 401.
func (a *Auth) ServeVerify(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathTOTPVerify], w, r)
}

// ServeUpdate gives the signed-in user a new key: {"loginId"} is answered like a
// sign-up. The old key works until a code of the new one is verified. A loginId
// that is not the user's is a 403.
func (a *Auth) ServeUpdate(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathTOTPUpdate], w, r)
}

// ServeRefresh renews the session of the refresh token in the Authorization header or the
// cookie, and answers with the new tokens as Config.Tokens delivers them. A 401 means
// that the session is over; while Descope cannot be asked it is a 502 or 504, and
// nothing has changed.
func (a *Auth) ServeRefresh(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathRefresh], w, r)
}

// ServeLogout ends the session. The cookies are deleted whatever Descope says, and
// without a session it is a 200 as well. If Descope cannot be told it is a 502 or 504:
// the refresh token is refused for ten minutes, here and on all replicas that share a
// RefreshStore. A session token that was issued before stays valid until it expires; it
// is only gone from this browser.
func (a *Auth) ServeLogout(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathLogout], w, r)
}

// ServeLogoutAll ends all sessions of the user, on all devices. Unlike ServeLogout it is a
// 401 without a session, because nothing has been ended then, and it keeps the
// cookies while Descope is away, so that it can be tried again.
func (a *Auth) ServeLogoutAll(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathLogoutAll], w, r)
}

// ServeMe answers with Descope's record of the signed-in user. A 401 means that the session
// is over, a 502 or 504 that Descope cannot be asked.
func (a *Auth) ServeMe(w http.ResponseWriter, r *http.Request) { a.serve(routes[descope.PathMe], w, r) }

// serve runs a flow. Nothing is written before the flow has ended, so an error
// or a panic always finds the answer still open.
func (a *Auth) serve(rt *route, w http.ResponseWriter, r *http.Request) {
	isForm := rt.forms && r.Method == rt.method && a.delivery != InBody && visit.IsEncodedForm(r.Header)
	var sent url.Values
	answer := func(body jsontext.Value, err error) {
		switch {
		case isForm:
			a.sendBack(w, r, sent, err)
		case err != nil:
			problem.WriteFlow(w, problem.Of(err))
		default:
			problem.WriteJSON(w, http.StatusOK, "application/json", body)
		}
	}
	defer func() {
		if p := recover(); p != nil {
			answer(nil, a.panicked(r, p))
		}
	}()
	if r.Method != rt.method {
		answer(nil, &problem.Failure{Problem: problem.Method, Allow: rt.method})
		return
	}
	answer(run(a, rt.terms, w, r, func(f *flow) (jsontext.Value, error) {
		if isForm {
			f.readForm()
			sent = f.form
		}
		return rt.serve(a, f)
	}))
}

// panicked returns what the client is told of a panic.
func (a *Auth) panicked(r *http.Request, p any) error {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	a.notices.Panicked(r.Context(), "flow")
	return problem.Internal.Because("panic")
}

// sendBack answers a form (RFC 9110, section 15.4.4): its page gets the code of what went
// wrong, never a text, which any link could put there.
func (a *Auth) sendBack(w http.ResponseWriter, r *http.Request, sent url.Values, err error) {
	h := w.Header()
	home := a.refusals.pathPrefix + "/"
	to := visit.LocalOr(sent.Get(visit.ReturnTo), visit.WayBack(r, home))
	if err != nil {
		f := problem.Of(err)
		problem.AnnounceRetry(h, f)
		page := visit.Shown(r)
		if page == "" && a.refusals.loginURL != nil {
			page = a.refusals.loginURL.String()
		}
		to = visit.WithError(cmp.Or(page, home), f.Code)
	}
	h.Set("Location", to)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// read returns the request's body.
func (f *flow) read() ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(f.w, f.r.Body, maxBodySize))
	// How long a client took to send it is not taken from Descope's time, whose end
	// would count as an outage.
	f.restart()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, problem.BodyTooLarge.Because("body too large")
	case err != nil:
		return nil, problem.MalformedBody.Because("body could not be read")
	}
	return body, nil
}

// decode reads the request's body, one JSON object, into v. Names that v does
// not have are ignored; Descope's clients send more than is needed here.
func (f *flow) decode(v any) error {
	mediaType, _, err := mime.ParseMediaType(f.r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return problem.MediaType.Because("wrong content type")
	}
	body, err := f.read()
	switch {
	case err != nil:
		return err
	case jsontext.Value(body).Kind() != '{' || json.Unmarshal(body, v) != nil:
		return problem.MalformedBody.Because("body does not decode")
	}
	return nil
}

// readForm reads what a form has sent. A name that is there twice could be one user to us
// and another to whoever looks again.
func (f *flow) readForm() {
	body, err := f.read()
	if err != nil {
		f.formErr = err
		return
	}
	f.form, err = url.ParseQuery(string(body))
	for _, values := range f.form {
		if len(values) > 1 {
			err = errors.New("a field twice")
		}
	}
	if err != nil {
		f.formErr = problem.MalformedBody.Because("form does not decode")
	}
}

// decodeSignIn reads a sign-in, of a client or of a form.
func (f *flow) decodeSignIn(in *signIn) error {
	if f.form == nil && f.formErr == nil {
		return f.decode(in)
	}
	isSet := func(name string) bool { v := f.form.Get(name); return v != "" && v != "false" }
	*in = signIn{LoginID: f.form.Get("loginId"), Code: f.form.Get("code"), Options: clientOptions{
		StepUp: isSet("stepup"), MFA: isSet("mfa"), RevokeOtherSessions: isSet("revokeOtherSessions"), Locale: f.form.Get("locale"),
	}}
	return f.formErr
}

// bodyOf passes on what Descope answered.
func bodyOf(answer *descope.Answer, err error) (jsontext.Value, error) {
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

func (a *Auth) signUpFlow(f *flow) (jsontext.Value, error) {
	var req descope.SignUpRequest
	if err := f.decode(&req); err != nil {
		return nil, err
	}
	return bodyOf(a.signUp(f, &req))
}

func (a *Auth) verifyFlow(f *flow) (jsontext.Value, error) {
	var in signIn
	if err := f.decodeSignIn(&in); err != nil {
		return nil, err
	}
	h, err := a.signIn(f, &in)
	if err != nil {
		return nil, err
	}
	return a.deliver(f, h, true)
}

func (a *Auth) updateFlow(f *flow) (jsontext.Value, error) {
	var req descope.UpdateRequest
	if err := f.decode(&req); err != nil {
		return nil, err
	}
	req.LoginID = descope.CleanLoginID(req.LoginID)
	if err := descope.CheckLoginID(req.LoginID); err != nil {
		return nil, err
	}
	return bodyOf(a.newKey(f, req.LoginID))
}

func (a *Auth) refreshFlow(f *flow) (jsontext.Value, error) {
	h, err := a.renewer.Refresh(f.ctx, f.caller.refresh, true)
	if err != nil {
		if problem.Of(err).DeleteCookies {
			a.deleteCookies(f.w, f.r)
		}
		return nil, err
	}
	return a.deliver(f, h, false)
}

// tryRefreshFlow is refreshFlow for a client that does not know whether it has a
// session; for it, having none is not an error.
func (a *Auth) tryRefreshFlow(f *flow) (jsontext.Value, error) {
	if f.caller.refresh == nil {
		return nothing, nil
	}
	body, err := a.refreshFlow(f)
	if err != nil && problem.Of(err).Problem == problem.SessionEnded {
		return nothing, nil
	}
	return body, err
}

func (a *Auth) meFlow(f *flow) (jsontext.Value, error) { return bodyOf(a.askAbout(f, descope.PathMe)) }

func (a *Auth) historyFlow(f *flow) (jsontext.Value, error) {
	return bodyOf(a.askAbout(f, descope.PathHistory))
}

func (a *Auth) tenantsFlow(f *flow) (jsontext.Value, error) {
	var req descope.TenantsRequest
	if err := f.decode(&req); err != nil {
		return nil, err
	}
	if req.DCT && len(req.IDs) > 0 {
		return nil, &problem.Failure{Problem: problem.InvalidField, Field: "ids", Reason: "dct and ids exclude each other"}
	}
	return bodyOf(a.renewer.Follow(f.ctx, f.caller.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Post(ctx, descope.Account, descope.PathMyTenants, t, &req)
	}))
}

func (a *Auth) selectTenantFlow(f *flow) (jsontext.Value, error) {
	var req descope.SelectTenantRequest
	if err := f.decode(&req); err != nil {
		return nil, err
	}
	if req.Tenant == "" {
		return nil, &problem.Failure{Problem: problem.MissingField, Field: "tenant"}
	}
	h, err := a.renewer.Mint(f.ctx, f.caller.refresh, false, func(ctx context.Context, newest *token.Token) (*descope.Answer, error) {
		return a.api.Spend(ctx, descope.Account, descope.PathSelectTenant, newest, &req)
	})
	if err != nil {
		return nil, err
	}
	return a.deliver(f, h, false)
}
