package descopehttp

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
)

// A route is one flow: what it takes and what serves it.
type route struct {
	method string
	class  descope.Class
	caller need
	// endsClients: Descope's browser clients take any 4xx answer for the end of the
	// session and forget their tokens, so a 4xx must mean just that.
	endsClients bool
	mayStepUp   bool // Config may ask for a step-up
	serve       func(*Auth, *flow) error
}

// need says what a flow has to know about who calls.
type need int

const (
	anybody       need = iota
	signedIn           // a refresh token, or 401
	maybeSignedIn      // the flow itself decides what to do without
)

// routes is keyed by Descope's own paths, so that Descope's clients work on the
// mount as they are.
var routes = map[string]*route{
	descope.PathTOTPSignUp:   {method: http.MethodPost, class: descope.Anonymous, caller: anybody, serve: (*Auth).signUpFlow},
	descope.PathTOTPVerify:   {method: http.MethodPost, class: descope.Anonymous, caller: anybody, serve: (*Auth).verifyFlow},
	descope.PathTOTPUpdate:   {method: http.MethodPost, class: descope.Account, caller: signedIn, mayStepUp: true, serve: (*Auth).updateFlow},
	descope.PathRefresh:      {method: http.MethodPost, class: descope.Session, caller: signedIn, endsClients: true, serve: (*Auth).refreshFlow},
	descope.PathTryRefresh:   {method: http.MethodPost, class: descope.Session, caller: maybeSignedIn, endsClients: true, serve: (*Auth).tryRefreshFlow},
	descope.PathLogout:       {method: http.MethodPost, class: descope.Session, caller: maybeSignedIn, serve: (*Auth).logoutFlow},
	descope.PathLogoutAll:    {method: http.MethodPost, class: descope.Session, caller: maybeSignedIn, serve: (*Auth).logoutAllFlow},
	descope.PathMe:           {method: http.MethodGet, class: descope.Account, caller: signedIn, endsClients: true, serve: (*Auth).meFlow},
	descope.PathHistory:      {method: http.MethodGet, class: descope.Account, caller: signedIn, endsClients: true, serve: (*Auth).historyFlow},
	descope.PathMyTenants:    {method: http.MethodPost, class: descope.Account, caller: signedIn, endsClients: true, serve: (*Auth).tenantsFlow},
	descope.PathSelectTenant: {method: http.MethodPost, class: descope.Account, caller: signedIn, serve: (*Auth).selectTenantFlow},
}

// Handler returns a handler for all flows, at Descope's own paths: POST
// /v1/auth/totp/signup, /v1/auth/totp/verify, /v1/auth/totp/update,
// /v1/auth/refresh, /v1/auth/try-refresh, /v1/auth/logout, /v1/auth/logoutall,
// /v1/auth/me/tenants and /v1/auth/tenant/select; GET /v1/auth/me and
// /v1/auth/me/history. It looks at the path from its last /v1/auth/ on and so
// works under any prefix, stripped or not. Descope's clients work on it with
// their base URL set to the mount.
//
// Every answer is JSON and must not be cached. Errors are problem documents
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

// TOTPSignUp starts a sign-up: {"loginId", "user"?} is answered with the key,
// its provisioning URL and a QR code as base64 PNG. It is the handler of one
// flow, for those who choose their own path; like the others below it answers
// as [Auth.Handler] says.
func (a *Auth) TOTPSignUp(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathTOTPSignUp], w, r)
}

// TOTPVerify signs in, or finishes a sign-up or an update: {"loginId", "code",
// "loginOptions"?}. With loginOptions.stepup or mfa it needs the refresh token
// of the same user. A wrong code and an unknown user get the same 401.
func (a *Auth) TOTPVerify(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathTOTPVerify], w, r)
}

// TOTPUpdate gives the signed-in user a new key: {"loginId"} is answered like a
// sign-up. The old key works until a code of the new one is verified. A loginId
// that is not the user's is a 403.
func (a *Auth) TOTPUpdate(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathTOTPUpdate], w, r)
}

// Refresh renews the session of the refresh token in the Authorization header or the
// cookie, and answers with the new tokens as Config.Tokens delivers them. A 401 means
// that the session is over; while Descope cannot be asked it is a 502 or 504, and
// nothing has changed.
func (a *Auth) Refresh(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathRefresh], w, r)
}

// Logout ends the session. The cookies are deleted whatever Descope says, and
// without a session it is a 200 as well. If Descope cannot be told it is a 502 or 504:
// the refresh token is refused for ten minutes, here and on all replicas that share a
// RefreshStore. A session token that was issued before stays valid until it expires; it
// is only gone from this browser.
func (a *Auth) Logout(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathLogout], w, r)
}

// LogoutAll ends all sessions of the user, on all devices. Unlike Logout it is a
// 401 without a session, because nothing has been ended then, and it keeps the
// cookies while Descope is away, so that it can be tried again.
func (a *Auth) LogoutAll(w http.ResponseWriter, r *http.Request) {
	a.serve(routes[descope.PathLogoutAll], w, r)
}

// Me answers with Descope's record of the signed-in user. A 401 means that the session
// is over, a 502 or 504 that Descope cannot be asked.
func (a *Auth) Me(w http.ResponseWriter, r *http.Request) { a.serve(routes[descope.PathMe], w, r) }

// serve runs a flow. Nothing is written before the flow has ended, so an error
// or a panic always finds the answer still open.
func (a *Auth) serve(rt *route, w http.ResponseWriter, r *http.Request) {
	defer a.recoverFlow(w, r)
	a.cookies.Mark(w.Header(), new(cookie.Marks))
	flow := &flow{w: w, r: r}
	flow.restart()
	defer func() { flow.cancel() }()
	if err := a.perform(rt, flow); err != nil {
		f := flowFailure(rt, err)
		a.log.LogAttrs(r.Context(), slog.LevelDebug, "descopehttp: flow refused", slog.String("reason", f.Error()))
		problem.WriteFlow(w, f)
	}
}

func (a *Auth) recoverFlow(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	// The stack names functions, not values; the panic's own text might quote
	// the request.
	a.log.LogAttrs(r.Context(), slog.LevelError, "descopehttp: a flow panicked", slog.String("stack", string(debug.Stack())))
	problem.WriteFlow(w, problem.Internal.Because("panic"))
}

// perform judges the request before the flow is served: what is wrong with it whoever
// calls, and then who calls.
func (a *Auth) perform(rt *route, f *flow) error {
	if f.r.Method != rt.method {
		return &problem.Failure{Problem: problem.Method, Allow: rt.method}
	}
	// Sign-in too: signing somebody in as somebody else is an attack as well. Without
	// cookies nobody is signed in by an answer, and apps send any origin or "null".
	if a.delivery != InBody {
		if err := a.checkOrigin(f.r); err != nil {
			return err
		}
	}
	bearer, err := a.api.RefreshBearer(f.r.Header)
	if err != nil {
		return err
	}
	switch {
	case rt.mayStepUp && a.stepUpUpdate:
		// Without keys no session shows a step-up.
		if err := a.keys.readyBy(f.ctx, time.Now().Add(authenticateBudget)); err != nil {
			return err
		}
	case rt.class == descope.Session:
		// Without keys a user cannot be told from one who invents refresh tokens.
		_ = a.keys.readyBy(f.ctx, time.Now().Add(loadBudget))
	}
	if rt.caller != anybody {
		f.caller = a.callerOf(f, bearer)
	}
	if rt.caller == signedIn && f.caller.refresh == nil {
		return f.caller.err
	}
	return rt.serve(a, f)
}

// flowFailure turns the error of a flow into what its client is told.
func flowFailure(rt *route, err error) *problem.Failure {
	var refused *descope.Refusal
	if !errors.As(err, &refused) {
		f := problem.Of(err)
		if rt.class == descope.Anonymous && errors.Is(err, descope.ErrLimit) || !rt.endsClients && errors.Is(err, descope.ErrShare) {
			return &problem.Failure{Problem: problem.TooManyRequests, Reason: f.Reason, RetryAfter: f.RetryAfter}
		}
		return f
	}
	var own *problem.Failure
	if errors.As(err, &own) {
		return own
	}
	switch {
	case rt.class != descope.Anonymous && descope.EndsSession(err):
		return &problem.Failure{Problem: problem.SessionEnded, Reason: "Descope refused the refresh token", Cause: err}
	case rt.endsClients, rt.class != descope.Anonymous && descope.RefusesCaller(err):
		return &problem.Failure{Problem: problem.OddRefusal, Reason: "Descope refused the call", Cause: err}
	case refused.Meaning == descope.UserExists:
		return &problem.Failure{Problem: problem.UserExists, Cause: err}
	case refused.Meaning == descope.TooManyAttempts:
		return &problem.Failure{Problem: problem.TooManyRequests, Reason: "Descope has locked this user for a while", Cause: err}
	case refused.Meaning == descope.NoProject, rt.class == descope.Anonymous && !refused.IsGuess():
		return &problem.Failure{Problem: problem.Unavailable, Reason: "Descope refused the call with " + refused.Code + ", which is not about the user", Cause: err}
	}
	return &problem.Failure{Problem: problem.Refused, Reason: "Descope refused the call with " + refused.Code, Cause: err}
}
