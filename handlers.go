package descopehttp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on a flow's request.
const (
	flowBudget     = 9 * time.Second // of a whole flow, all its calls to Descope together
	maxBodySize    = 64 << 10        // bytes
	maxLoginIDSize = 256             // bytes
	minCodeLength  = 4               // digits; Descope's TOTP codes have 6
	maxCodeLength  = 10
)

// A route is one flow: what it takes and what serves it.
type route struct {
	method string
	class  descope.Class
	needs  credential
	// verdict: Descope's browser clients take any 4xx answer for the end of the
	// session and forget their tokens, so a 4xx must mean just that.
	verdict bool
	stepUp  bool // Config may ask for a step-up
	serve   func(*Auth, *flow) error
}

// credential says what a flow needs to know about who calls.
type credential int

const (
	anybody       credential = iota
	signedIn                 // a refresh token, or 401
	maybeSignedIn            // the flow itself decides what to do without
)

// routes is keyed by Descope's own paths, so that Descope's clients work on the
// mount as they are.
var routes = map[string]*route{
	descope.PathTOTPSignUp:   {http.MethodPost, descope.Anonymous, anybody, false, false, (*Auth).signUp},
	descope.PathTOTPVerify:   {http.MethodPost, descope.Anonymous, anybody, false, false, (*Auth).verify},
	descope.PathTOTPUpdate:   {http.MethodPost, descope.Account, signedIn, false, true, (*Auth).update},
	descope.PathRefresh:      {http.MethodPost, descope.Session, signedIn, true, false, (*Auth).refresh},
	descope.PathTryRefresh:   {http.MethodPost, descope.Session, maybeSignedIn, true, false, (*Auth).tryRefresh},
	descope.PathLogout:       {http.MethodPost, descope.Session, maybeSignedIn, false, false, (*Auth).logout},
	descope.PathLogoutAll:    {http.MethodPost, descope.Session, maybeSignedIn, false, false, (*Auth).logoutAll},
	descope.PathMe:           {http.MethodGet, descope.Account, signedIn, true, false, (*Auth).me},
	descope.PathHistory:      {http.MethodGet, descope.Account, signedIn, true, false, (*Auth).history},
	descope.PathMyTenants:    {http.MethodPost, descope.Account, signedIn, true, false, (*Auth).myTenants},
	descope.PathSelectTenant: {http.MethodPost, descope.Account, signedIn, false, false, (*Auth).selectTenant},
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

// A flow is one request to a flow.
type flow struct {
	ctx       context.Context
	cancel    context.CancelFunc
	w         http.ResponseWriter
	r         *http.Request
	refresh   *token.Token // of whoever calls; nil without
	stepUp    bool         // the session cookie is valid and shows a step-up
	inHeader  bool         // it came in the Authorization header
	noRefresh error        // why refresh is nil
}

// serve runs a flow. Nothing is written before the flow has ended, so an error
// or a panic always finds the answer still open.
func (a *Auth) serve(rt *route, w http.ResponseWriter, r *http.Request) {
	defer a.recoverFlow(w, r)
	flow := &flow{w: w, r: r}
	flow.restart()
	defer func() { flow.cancel() }()
	if err := a.begin(rt, flow); err != nil {
		f := flowFailure(rt, err)
		a.log.LogAttrs(r.Context(), slog.LevelDebug, "descopehttp: flow refused", slog.String("reason", f.Error()))
		problem.WriteFlow(w, f)
	}
}

// restart begins the budget of the flow anew.
func (f *flow) restart() {
	if f.cancel != nil {
		f.cancel()
	}
	f.ctx, f.cancel = context.WithTimeout(f.r.Context(), flowBudget)
}

// detached returns a context that does not end with the client's, for what has to
// be done even if nobody waits for the answer.
func (f *flow) detached() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(f.ctx), flowBudget)
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

func (a *Auth) begin(rt *route, f *flow) error {
	if f.r.Method != rt.method {
		return &problem.Failure{Problem: problem.Method, Allow: rt.method}
	}
	// Sign-in too: signing somebody in as somebody else is an attack as well.
	if err := a.checkOrigin(f.r); err != nil {
		return err
	}
	value, err := a.flowBearer(f.r.Header)
	if err != nil {
		return err
	}
	switch {
	case rt.stepUp && a.stepUpUpdate:
		// Without keys no session shows a step-up.
		if err := a.keys.readyBy(f.ctx, time.Now().Add(authenticateBudget)); err != nil {
			return err
		}
	case rt.class == descope.Session:
		// Without keys a user cannot be told from one who invents refresh tokens.
		_ = a.keys.readyBy(f.ctx, time.Now().Add(loadBudget))
	}
	if rt.needs != anybody {
		f.noRefresh = a.findRefresh(f, value)
	}
	if rt.needs == signedIn && f.refresh == nil {
		return f.noRefresh
	}
	return rt.serve(a, f)
}

// flowBearer returns the refresh token in the Authorization header, or "". Here
// the header is that of Descope's clients, "Bearer <projectId>[:<refreshJwt>]
// [:<key>]", never a session token. A management key is dropped; ours is added
// when Descope is called.
func (a *Auth) flowBearer(h http.Header) (string, error) {
	value, ok, err := bearerValue(h)
	if !ok {
		return "", err
	}
	parts := strings.Split(value, ":")
	if parts[0] != a.projectID || len(parts) > 3 {
		return "", problem.ForeignProject.Because("bearer value does not name this project")
	}
	if len(parts) > 1 && strings.Count(parts[1], ".") == 2 {
		return parts[1], nil
	}
	return "", nil
}

// findRefresh sets f.refresh from the header or else from the cookies, or says
// why it cannot.
func (a *Auth) findRefresh(f *flow, bearer string) error {
	now := time.Now()
	if bearer != "" {
		t, err := a.judgeRefresh(f.ctx, bearer, now)
		if err != nil {
			return problem.InvalidRefreshToken.Because(problem.Of(err).Reason)
		}
		f.refresh, f.inHeader = t, true
		return nil
	}
	// The session cookie is judged for whether it names another user, and for a
	// step-up; beyond the first keys, none are fetched for that.
	values := a.cookies.read(f.r)
	c := a.judgeCookies(withFetchPolicy(f.ctx, fetchNever), &values, now, now.Add(authenticateBudget))
	switch {
	case c.conflict:
		a.cookies.delete(f.w)
		return problem.ConflictingCookies.Because("cookies of more than one user")
	case c.refreshExpired && c.refresh == nil:
		a.cookies.delete(f.w)
		return token.ErrExpired
	case c.refresh == nil:
		return problem.NoRefreshToken.Because("no refresh token")
	}
	f.refresh = c.refresh
	f.stepUp = c.session != nil && (&Session{shared: c.session}).StepUp()
	return nil
}

// flowFailure turns the error of a flow into what its client is told.
func flowFailure(rt *route, err error) *problem.Failure {
	var refused *descope.Refusal
	if !errors.As(err, &refused) {
		f := problem.Of(err)
		if rt.class == descope.Anonymous && errors.Is(err, descope.ErrLimit) {
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
	case rt.verdict:
		return &problem.Failure{Problem: problem.OddRefusal, Reason: "Descope refused the call", Cause: err}
	case refused.UserExists():
		return &problem.Failure{Problem: problem.UserExists, Cause: err}
	}
	return &problem.Failure{Problem: problem.Refused, Reason: "Descope refused the call with " + refused.Code, Cause: err}
}

// signUpRequest is what goes to Descope of a sign-up; anything else that a client
// sends stays here.
type signUpRequest struct {
	LoginID string     `json:"loginId"`
	User    signUpUser `json:"user,omitzero"`
}

type signUpUser struct {
	Name       string `json:"name,omitzero"`
	Email      string `json:"email,omitzero"`
	Phone      string `json:"phone,omitzero"`
	GivenName  string `json:"givenName,omitzero"`
	MiddleName string `json:"middleName,omitzero"`
	FamilyName string `json:"familyName,omitzero"`
}

func (a *Auth) signUp(f *flow) error {
	var req signUpRequest
	if err := f.decode(&req); err != nil {
		return err
	}
	if err := checkLoginID(req.LoginID); err != nil {
		return err
	}
	done, err := a.attempts.SignUp(f.r)
	if err != nil {
		return err
	}
	answer, err := a.post(f.ctx, descope.Anonymous, descope.PathTOTPSignUp, nil, &req)
	done(f.ctx, err)
	if err != nil {
		return err
	}
	return writeNewKey(f, answer)
}

// writeNewKey answers with a key and its QR code. Both are secrets.
func writeNewKey(f *flow, answer *descope.Answer) error {
	if err := answer.CheckNewKey(); err != nil {
		return err
	}
	writeFlowJSON(f.w, answer.Body)
	return nil
}

type verifyRequest struct {
	LoginID string         `json:"loginId"`
	Code    string         `json:"code"`
	Options map[string]any `json:"loginOptions,omitempty"`
}

// clientOptions are the login options that a client may choose. The others, such
// as customClaims, say something about the session that a server vouches for.
type clientOptions struct {
	StepUp              bool              `json:"stepup,omitzero"`
	MFA                 bool              `json:"mfa,omitzero"`
	Locale              string            `json:"locale,omitzero"`
	TemplateOptions     map[string]string `json:"templateOptions,omitempty"`
	RevokeOtherSessions bool              `json:"revokeOtherSessions,omitzero"`
}

func (a *Auth) verify(f *flow) error {
	var in struct {
		LoginID string        `json:"loginId"`
		Code    string        `json:"code"`
		Options clientOptions `json:"loginOptions"`
	}
	if err := f.decode(&in); err != nil {
		return err
	}
	if err := checkLoginID(in.LoginID); err != nil {
		return err
	}
	if err := checkCode(in.Code); err != nil {
		return err
	}
	req := verifyRequest{LoginID: in.LoginID, Code: in.Code}
	var err error
	if req.Options, err = a.optionsOf(f, in.LoginID, &in.Options); err != nil {
		return err
	}
	presented, err := a.secondFactorOf(f, req.Options)
	if err != nil {
		return err
	}
	done, err := a.attempts.Guess(f.r, in.LoginID)
	if err != nil {
		return err
	}
	ctx, cancel := f.detached() // whoever hangs up has still made a guess
	defer cancel()
	h, err := a.verifyCode(ctx, &req, presented)
	done(ctx, err)
	if err != nil {
		return verifyFailure(err, presented)
	}
	return a.writeTokens(f, h)
}

// verifyCode has Descope verify a code, for a sign-in or, with a refresh token,
// to add to the session.
func (a *Auth) verifyCode(ctx context.Context, req *verifyRequest, presented *token.Token) (handout, error) {
	if presented != nil {
		return a.refresher.mint(ctx, presented, true, func(ctx context.Context, newest *token.Token) (*descope.Answer, error) {
			return a.post(ctx, descope.Anonymous, descope.PathTOTPVerify, newest, req)
		})
	}
	return a.refresher.signIn(ctx, func(ctx context.Context) (*descope.Answer, error) {
		return a.post(ctx, descope.Anonymous, descope.PathTOTPVerify, nil, req)
	})
}

// optionsOf returns the client's options as Config.LoginOptions leaves them.
func (a *Auth) optionsOf(f *flow, loginID string, in *clientOptions) (map[string]any, error) {
	options := make(map[string]any)
	encoded, err := json.Marshal(in)
	if err == nil {
		err = json.Unmarshal(encoded, &options)
	}
	if err != nil {
		return nil, problem.MalformedBody.Because("login options do not encode")
	}
	if a.loginOptions == nil {
		return options, nil
	}
	if err := a.loginOptions(f.r, loginID, options); err != nil {
		return nil, &problem.Failure{Problem: problem.Forbidden, Reason: "LoginOptions refused the sign-in", Cause: err}
	}
	return options, nil
}

// secondFactorOf returns the refresh token that a step-up or a second factor
// adds to. Without them none is sent: Descope's browser client sends the one it
// has stored with every call, and a dead one must not make a sign-in fail.
func (a *Auth) secondFactorOf(f *flow, options map[string]any) (*token.Token, error) {
	if options["stepup"] != true && options["mfa"] != true {
		return nil, nil
	}
	value, err := a.flowBearer(f.r.Header)
	if err != nil {
		return nil, err
	}
	if err := a.findRefresh(f, value); err != nil {
		return nil, err
	}
	return f.refresh, nil
}

// verifyFailure makes a wrong code and an unknown user look alike, whatever codes
// Descope has for them. Only a request that is malformed in Descope's eyes is
// told apart, because no guess at a user or a code can change that, and one whose own
// session has ended.
func verifyFailure(err error, presented *token.Token) error {
	if presented != nil && descope.EndsSession(err) {
		return &problem.Failure{Problem: problem.SessionEnded, Reason: "Descope refused the refresh token", Cause: err}
	}
	var refused *descope.Refusal
	if errors.As(err, &refused) && !refused.Malformed() {
		return &problem.Failure{Problem: problem.InvalidCode, Reason: "Descope refused the sign-in with " + refused.Code, Cause: err}
	}
	return err
}

func (a *Auth) update(f *flow) error {
	var req struct {
		LoginID string `json:"loginId"`
	}
	if err := f.decode(&req); err != nil {
		return err
	}
	if err := checkLoginID(req.LoginID); err != nil {
		return err
	}
	if a.stepUpUpdate && !f.stepUp {
		return problem.StepUp.Because("update without a step-up")
	}
	answer, err := a.refresher.follow(f.ctx, f.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		// Whether Descope itself compares the login id with the token is not
		// documented; a new key for somebody else would be a way into their account.
		own, err := a.ownLoginID(ctx, t, req.LoginID)
		if err != nil {
			return nil, err
		}
		req.LoginID = own
		return a.post(ctx, descope.Account, descope.PathTOTPUpdate, t, &req)
	})
	if err != nil {
		return err
	}
	return writeNewKey(f, answer)
}

// ownLoginID returns the login id of the signed-in user that loginID names, as
// Descope spells it.
func (a *Auth) ownLoginID(ctx context.Context, t *token.Token, loginID string) (string, error) {
	answer, err := a.api.Call(ctx, descope.Account, http.MethodGet, descope.PathMe, t, nil)
	if err != nil {
		return "", err
	}
	var user struct {
		LoginIDs []string `json:"loginIds"`
	}
	if json.Unmarshal(answer.Body, &user) != nil || user.LoginIDs == nil {
		return "", problem.Unavailable.Because("Descope's answer has an unexpected form")
	}
	for _, own := range user.LoginIDs {
		if strings.EqualFold(own, loginID) {
			return own, nil
		}
	}
	return "", problem.ForeignLoginID.Because("loginId is not the user's")
}

func (a *Auth) refresh(f *flow) error {
	h, err := a.refresher.refresh(f.ctx, f.refresh, true)
	if err != nil {
		if problem.Of(err).DeleteCookies {
			a.cookies.delete(f.w)
		}
		return err
	}
	return a.writeTokens(f, h)
}

// tryRefresh is refresh for a client that does not know whether it has a
// session; for it, having none is not an error.
func (a *Auth) tryRefresh(f *flow) error {
	if f.refresh == nil {
		return writeEmpty(f)
	}
	err := a.refresh(f)
	if err != nil && problem.Of(err).Problem == problem.SessionEnded {
		return writeEmpty(f)
	}
	return err
}

// logout deletes the cookies whatever happens: this browser is done with the
// session, even if Descope cannot be told.
func (a *Auth) logout(f *flow) error {
	a.cookies.delete(f.w)
	if f.refresh == nil {
		return writeEmpty(f)
	}
	ctx, cancel := f.detached()
	defer cancel()
	err := a.refresher.logOut(ctx, f.refresh, func(ctx context.Context, newest *token.Token) error {
		_, err := a.post(ctx, descope.Session, descope.PathLogout, newest, struct{}{})
		return err
	})
	if err != nil {
		return err
	}
	return writeEmpty(f)
}

// logoutAll keeps the cookies while it cannot tell: without them the user could
// not try again to end the sessions on other devices.
func (a *Auth) logoutAll(f *flow) error {
	ctx, cancel := f.detached()
	defer cancel()
	err := f.noRefresh
	if f.refresh != nil {
		err = a.refresher.logOutEverywhere(ctx, f.refresh, func(ctx context.Context, newest *token.Token) error {
			_, err := a.post(ctx, descope.Session, descope.PathLogoutAll, newest, struct{}{})
			return err
		})
	}
	if err == nil || errors.Is(err, ErrNoSession) || errors.Is(err, ErrSessionEnded) || descope.EndsSession(err) {
		a.cookies.delete(f.w)
	}
	if err != nil {
		return err
	}
	return writeEmpty(f)
}

func (a *Auth) me(f *flow) error { return a.passOn(f, descope.PathMe) }

func (a *Auth) history(f *flow) error { return a.passOn(f, descope.PathHistory) }

// passOn answers with what Descope knows about the signed-in user.
func (a *Auth) passOn(f *flow, path string) error {
	answer, err := a.refresher.follow(f.ctx, f.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Call(ctx, descope.Account, http.MethodGet, path, t, nil)
	})
	if err != nil {
		return err
	}
	writeFlowJSON(f.w, answer.Body)
	return nil
}

func (a *Auth) myTenants(f *flow) error {
	var req struct {
		DCT bool     `json:"dct,omitzero"`
		IDs []string `json:"ids,omitempty"`
	}
	if err := f.decode(&req); err != nil {
		return err
	}
	if req.DCT && len(req.IDs) > 0 {
		return &problem.Failure{Problem: problem.InvalidField, Field: "ids", Reason: "dct and ids exclude each other"}
	}
	answer, err := a.refresher.follow(f.ctx, f.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.post(ctx, descope.Account, descope.PathMyTenants, t, &req)
	})
	if err != nil {
		return err
	}
	writeFlowJSON(f.w, answer.Body)
	return nil
}

func (a *Auth) selectTenant(f *flow) error {
	var req struct {
		Tenant string `json:"tenant"`
	}
	if err := f.decode(&req); err != nil {
		return err
	}
	if req.Tenant == "" {
		return &problem.Failure{Problem: problem.MissingField, Field: "tenant"}
	}
	h, err := a.refresher.mint(f.ctx, f.refresh, false, func(ctx context.Context, newest *token.Token) (*descope.Answer, error) {
		return a.post(ctx, descope.Account, descope.PathSelectTenant, newest, &req)
	})
	if err != nil {
		return err
	}
	return a.writeTokens(f, h)
}

// post sends req to Descope, with the refresh token t if there is one. What is
// sent was decoded and is encoded anew: a client's own bytes, with a name twice
// say, could be judged as one user and taken by Descope as another.
func (a *Auth) post(ctx context.Context, class descope.Class, path string, t *token.Token, req any) (*descope.Answer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, problem.Internal.Because("request does not encode")
	}
	return a.api.Call(ctx, class, http.MethodPost, path, t, body)
}

// writeTokens delivers tokens the way Config.Tokens says. Whatever goes into a
// cookie is emptied in the body, where scripts could read it.
func (a *Auth) writeTokens(f *flow, h handout) error {
	session, refresh := "", ""
	switch a.delivery {
	case SessionInBody:
		session = h.session.Token()
	case InBody:
		session, refresh = h.session.Token(), h.refresh
	}
	body, err := descope.WithTokens(h.answer.Body, session, refresh)
	if err != nil {
		return err
	}
	if !h.late {
		cookie := h.refresh
		if cookie == "" && f.inHeader {
			cookie = f.refresh.Raw // this client has no refresh cookie yet
		}
		a.cookies.write(f.w, h.session.Token(), cookie, h.until)
	}
	writeFlowJSON(f.w, body)
	return nil
}

func writeEmpty(f *flow) error {
	writeFlowJSON(f.w, []byte("{}"))
	return nil
}

func writeFlowJSON(w http.ResponseWriter, body jsontext.Value) {
	problem.WriteJSON(w, http.StatusOK, "application/json", body)
}

// decode reads the request's body, one JSON object, into v. Names that v does
// not have are ignored; Descope's clients send more than is needed here.
func (f *flow) decode(v any) error {
	mediaType, _, err := mime.ParseMediaType(f.r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return problem.MediaType.Because("wrong content type")
	}
	body, err := io.ReadAll(http.MaxBytesReader(f.w, f.r.Body, maxBodySize))
	// How long a client took to send it is not taken from Descope's time, whose end
	// would count as an outage.
	f.restart()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return problem.BodyTooLarge.Because("body too large")
	case err != nil:
		return problem.MalformedBody.Because("body could not be read")
	case jsontext.Value(body).Kind() != '{' || json.Unmarshal(body, v) != nil:
		return problem.MalformedBody.Because("body does not decode")
	}
	return nil
}

func checkLoginID(id string) error {
	switch {
	case strings.TrimSpace(id) == "":
		return &problem.Failure{Problem: problem.MissingField, Field: "loginId"}
	case len(id) > maxLoginIDSize || strings.ContainsFunc(id, isControl):
		return &problem.Failure{Problem: problem.InvalidField, Field: "loginId"}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func checkCode(code string) error {
	switch {
	case code == "":
		return &problem.Failure{Problem: problem.MissingField, Field: "code"}
	case len(code) < minCodeLength || len(code) > maxCodeLength || strings.ContainsFunc(code, isNoDigit):
		return &problem.Failure{Problem: problem.InvalidField, Field: "code"}
	}
	return nil
}

func isNoDigit(r rune) bool { return r < '0' || r > '9' }
