package descopehttp

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/renew"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on a flow's request.
const (
	flowBudget  = 9 * time.Second // of a whole flow, all its calls to Descope together
	maxBodySize = 64 << 10        // bytes
)

// A flow is one request to a flow.
type flow struct {
	ctx    context.Context
	cancel context.CancelFunc
	w      http.ResponseWriter
	r      *http.Request
	caller caller
}

// A caller is who sent the request of a flow, as far as that can be told here.
type caller struct {
	refresh  *token.Token // nil: err says why
	inHeader bool         // it came in the Authorization header
	stepUp   bool         // the session cookie is valid and shows a step-up
	err      error
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

// callerOf finds the refresh token of who calls, in the header or else in the cookies.
func (a *Auth) callerOf(f *flow, bearer string) caller {
	c := clockFor(authenticateBudget)
	if bearer != "" {
		t, err := a.judge.refresh(f.ctx, bearer, c.now)
		if err != nil {
			return caller{err: problem.InvalidRefreshToken.Because(problem.Of(err).Reason)}
		}
		return caller{refresh: t, inHeader: true}
	}
	// Behind a middleware that has just renewed the session, the cookies are gone from the
	// request, and those in the answer may never arrive: it is the token from before that
	// leads on to all of it.
	if s := sessionContextOf(f.r.Context()); s != nil && s.owner == a && s.renewedWith != nil {
		return caller{refresh: s.renewedWith, stepUp: s.session.StepUp()}
	}
	// The session cookie is judged for whether it names another user, and for a
	// step-up; beyond the first keys, none are fetched for that.
	values := a.cookies.Read(f.r)
	cookies := a.judge.present(&values, c.now)
	judged := a.judge.cookies(f.ctx, &cookies, c, fetchNever)
	switch {
	case judged.conflict:
		a.deleteCookies(f.w, f.r)
		return caller{err: problem.ConflictingCookies.Because("cookies of more than one user")}
	case judged.refresh == nil && judged.refreshExpired:
		a.deleteCookies(f.w, f.r)
		return caller{err: token.ErrExpired}
	case judged.refresh == nil:
		return caller{err: problem.NoRefreshToken.Because("no refresh token")}
	}
	stepUp := judged.session != nil && (&Session{shared: judged.session}).StepUp()
	return caller{refresh: judged.refresh, stepUp: stepUp}
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

// pass answers with what Descope answered.
func (f *flow) pass(answer *descope.Answer, err error) error {
	if err == nil {
		f.write(answer.Body)
	}
	return err
}

// writeNewKey answers with a key and its QR code. Both are secrets.
func (f *flow) writeNewKey(answer *descope.Answer, err error) error {
	if err == nil {
		err = answer.CheckNewKey()
	}
	return f.pass(answer, err)
}

// done answers that something has been done.
func (f *flow) done(err error) error {
	if err == nil {
		f.write([]byte("{}"))
	}
	return err
}

func (f *flow) write(body jsontext.Value) {
	problem.WriteJSON(f.w, http.StatusOK, "application/json", body)
}

func (a *Auth) signUpFlow(f *flow) error {
	var req descope.SignUpRequest
	if err := f.decode(&req); err != nil {
		return err
	}
	req.LoginID = descope.CleanLoginID(req.LoginID)
	if err := req.Check(); err != nil {
		return err
	}
	done, err := a.attempts.SignUp(f.r)
	if err != nil {
		return err
	}
	ctx := descope.WithNetwork(f.ctx, a.attempts.Network(f.r))
	answer, err := a.api.Post(ctx, descope.Anonymous, descope.PathTOTPSignUp, nil, &req)
	done(f.ctx, err)
	return f.writeNewKey(answer, err)
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

func (a *Auth) verifyFlow(f *flow) error {
	var in struct {
		LoginID string        `json:"loginId"`
		Code    string        `json:"code"`
		Options clientOptions `json:"loginOptions"`
	}
	if err := f.decode(&in); err != nil {
		return err
	}
	in.LoginID, in.Code = descope.CleanLoginID(in.LoginID), descope.CleanCode(in.Code)
	if err := descope.CheckLoginID(in.LoginID); err != nil {
		return err
	}
	if err := descope.CheckCode(in.Code); err != nil {
		return err
	}
	req := descope.VerifyRequest{LoginID: in.LoginID, Code: in.Code}
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
	h, err := a.verifyCode(descope.WithNetwork(ctx, a.attempts.Network(f.r)), &req, presented)
	done(ctx, err)
	if err != nil {
		return verifyFailure(err, presented)
	}
	return a.writeTokens(f, h, true)
}

// verifyCode has Descope verify a code, for a sign-in or, with a refresh token,
// to add to the session.
func (a *Auth) verifyCode(ctx context.Context, req *descope.VerifyRequest, presented *token.Token) (renew.Handout, error) {
	if presented != nil {
		return a.renewer.Mint(ctx, presented, true, func(ctx context.Context, newest *token.Token) (*descope.Answer, error) {
			return a.api.Spend(ctx, descope.SecondFactor, descope.PathTOTPVerify, newest, req)
		})
	}
	return a.renewer.SignIn(ctx, func(ctx context.Context) (*descope.Answer, error) {
		return a.api.Post(ctx, descope.Anonymous, descope.PathTOTPVerify, nil, req)
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
	bearer, err := a.api.RefreshBearer(f.r.Header)
	if err != nil {
		return nil, err
	}
	f.caller = a.callerOf(f, bearer)
	return f.caller.refresh, f.caller.err
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
	if !errors.As(err, &refused) || refused.Meaning == descope.Malformed || refused.Meaning == descope.TooManyAttempts || !refused.IsGuess() {
		return err // flowFailure knows these
	}
	return &problem.Failure{Problem: problem.InvalidCode, Reason: "Descope refused the sign-in with " + refused.Code, Cause: err}
}

func (a *Auth) updateFlow(f *flow) error {
	var req descope.UpdateRequest
	if err := f.decode(&req); err != nil {
		return err
	}
	req.LoginID = descope.CleanLoginID(req.LoginID)
	if err := descope.CheckLoginID(req.LoginID); err != nil {
		return err
	}
	if a.stepUpUpdate && !f.caller.stepUp {
		return problem.StepUp.Because("update without a step-up")
	}
	// Whether Descope itself compares the login id with the token is not documented; a
	// new key for somebody else would be a way into their account.
	own, err := a.ownLoginID(f, req.LoginID)
	if err != nil {
		return err
	}
	req.LoginID = own
	answer, err := a.renewer.Follow(f.ctx, f.caller.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Post(ctx, descope.Account, descope.PathTOTPUpdate, t, &req)
	})
	return f.writeNewKey(answer, err)
}

// ownLoginID returns the login id of the signed-in user that loginID names, as
// Descope spells it.
func (a *Auth) ownLoginID(f *flow, loginID string) (string, error) {
	answer, err := a.renewer.Follow(f.ctx, f.caller.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Get(ctx, descope.Account, descope.PathMe, t)
	})
	if err != nil {
		return "", err
	}
	loginIDs, err := answer.LoginIDs()
	if err != nil {
		return "", err
	}
	for _, own := range loginIDs {
		if strings.EqualFold(own, loginID) {
			return own, nil
		}
	}
	return "", problem.ForeignLoginID.Because("loginId is not the user's")
}

func (a *Auth) refreshFlow(f *flow) error {
	h, err := a.renewer.Refresh(f.ctx, f.caller.refresh, true)
	if err != nil {
		if problem.Of(err).DeleteCookies {
			a.deleteCookies(f.w, f.r)
		}
		return err
	}
	return a.writeTokens(f, h, false)
}

// tryRefreshFlow is refreshFlow for a client that does not know whether it has a
// session; for it, having none is not an error.
func (a *Auth) tryRefreshFlow(f *flow) error {
	if f.caller.refresh == nil {
		return f.done(nil)
	}
	err := a.refreshFlow(f)
	if err != nil && problem.Of(err).Problem == problem.SessionEnded {
		return f.done(nil)
	}
	return err
}

// logoutFlow deletes the cookies whatever happens: this browser is done with the
// session, even if Descope cannot be told.
func (a *Auth) logoutFlow(f *flow) error {
	a.deleteCookies(f.w, f.r)
	if f.caller.refresh == nil {
		return f.done(nil)
	}
	ctx, cancel := f.detached()
	defer cancel()
	return f.done(a.renewer.LogOut(ctx, f.caller.refresh))
}

// logoutAllFlow keeps the cookies while it cannot tell: without them the user could
// not try again to end the sessions on other devices.
func (a *Auth) logoutAllFlow(f *flow) error {
	ctx, cancel := f.detached()
	defer cancel()
	err := f.caller.err
	if f.caller.refresh != nil {
		err = a.renewer.LogOutEverywhere(ctx, f.caller.refresh)
	}
	if err == nil || errors.Is(err, ErrNoSession) || errors.Is(err, ErrSessionEnded) && problem.Of(err).Problem != problem.OddRefusal && err != renew.ErrSpent {
		a.deleteCookies(f.w, f.r)
	}
	return f.done(err)
}

func (a *Auth) meFlow(f *flow) error { return a.passOn(f, descope.PathMe) }

func (a *Auth) historyFlow(f *flow) error { return a.passOn(f, descope.PathHistory) }

// passOn answers with what Descope knows about the signed-in user.
func (a *Auth) passOn(f *flow, path string) error {
	answer, err := a.renewer.Follow(f.ctx, f.caller.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Get(ctx, descope.Account, path, t)
	})
	return f.pass(answer, err)
}

func (a *Auth) tenantsFlow(f *flow) error {
	var req descope.TenantsRequest
	if err := f.decode(&req); err != nil {
		return err
	}
	if req.DCT && len(req.IDs) > 0 {
		return &problem.Failure{Problem: problem.InvalidField, Field: "ids", Reason: "dct and ids exclude each other"}
	}
	answer, err := a.renewer.Follow(f.ctx, f.caller.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Post(ctx, descope.Account, descope.PathMyTenants, t, &req)
	})
	return f.pass(answer, err)
}

func (a *Auth) selectTenantFlow(f *flow) error {
	var req descope.SelectTenantRequest
	if err := f.decode(&req); err != nil {
		return err
	}
	if req.Tenant == "" {
		return &problem.Failure{Problem: problem.MissingField, Field: "tenant"}
	}
	h, err := a.renewer.Mint(f.ctx, f.caller.refresh, false, func(ctx context.Context, newest *token.Token) (*descope.Answer, error) {
		return a.api.Spend(ctx, descope.Account, descope.PathSelectTenant, newest, &req)
	})
	if err != nil {
		return err
	}
	return a.writeTokens(f, h, false)
}

// writeTokens delivers tokens the way Config.Tokens says. Whatever goes into a
// cookie is emptied in the body, where scripts could read it.
func (a *Auth) writeTokens(f *flow, h renew.Handout, signIn bool) error {
	session, refresh := "", ""
	switch a.delivery {
	case SessionInBody:
		session = h.Token
	case InBody:
		session, refresh = h.Token, h.Refresh
	}
	body, err := descope.WithTokens(h.Body, session, refresh)
	if err != nil {
		return err
	}
	if !h.Late {
		fresh := cookie.Fresh{Session: h.Token, Refresh: h.Refresh, Until: h.Until, User: h.Session.Claims.User(), SignIn: signIn}
		if f.caller.refresh != nil {
			fresh.Held = f.caller.refresh.Raw
		}
		if signIn {
			fresh.Scopes = a.formerScopes(f.r)
		}
		a.cookies.Write(f.w, f.r, &fresh)
	}
	f.write(body)
	return nil
}
