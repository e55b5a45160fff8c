package descopehttp

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/renew"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A SignUp begins an account. Only LoginID is required. It does not print, nor encode as JSON.
type SignUp struct {
	secret
	LoginID            string // at most 256 bytes; blanks around it are cut off
	Name, Email, Phone string // at most 256 bytes each
}

// A SignIn is somebody who has typed a code. It does not print, nor encode as JSON.
type SignIn struct {
	secret
	LoginID string // with StepUp or MFA it may be empty: the signed-in user's
	Code    string // 4 to 10 digits of any script; blanks and hyphens are cut out

	StepUp              bool   // add a step-up to the session of the request
	MFA                 bool   // add a second factor to it
	RevokeOtherSessions bool   // end the user's sessions elsewhere
	Locale              string // such as "en", for what Descope sends
}

// A NewKey is what an authenticator app has to get, once: Descope tells it to nobody a
// second time. It is a secret and does not print, nor encode as JSON.
type NewKey struct {
	secret
	ProvisioningURL string // otpauth://totp/…, with the key in it
	Key             string // in base32, to type
	QR              []byte // a PNG of ProvisioningURL; nil if Descope sent none
}

// SignUp starts a sign-up and returns the key to show; a code of it, given to SignIn,
// finishes it. Like all flows it judges r as a POST of a handler of [Auth.Handler] would
// be: the refresh token of who calls is the cookie's, or that of the Authorization header,
// alone or in Descope's form, where a session token is refused. It may set header fields and
// cookies on w, writes no answer, and is safe for concurrent use. The error holds a
// [*Problem], which says what to tell the user.
func (a *Auth) SignUp(w http.ResponseWriter, r *http.Request, in SignUp) (*NewKey, error) {
	return run(a, signUpTerms, w, r, func(f *flow) (*NewKey, error) {
		req := &descope.SignUpRequest{LoginID: in.LoginID}
		req.User.Name, req.User.Email, req.User.Phone = in.Name, in.Email, in.Phone
		answer, err := a.signUp(f, req)
		return a.newKeyOf(f, answer, err)
	})
}

// SignIn verifies a code and sets the cookies. With StepUp or MFA it adds to the session of
// r, whose user it must be. The problem of a wrong code and of an unknown user is the
// same, invalid_code. With InBody there is nothing to deliver a refresh token in, and it
// is an error: mount ServeVerify there.
func (a *Auth) SignIn(w http.ResponseWriter, r *http.Request, in SignIn) (*Session, *User, error) {
	if a.delivery == InBody {
		return nil, nil, problem.Internal.Because("SignIn sets cookies, and Config.Tokens is InBody")
	}
	var user *User
	session, err := run(a, verifyTerms, w, r, func(f *flow) (*Session, error) {
		h, err := a.signIn(f, &signIn{
			LoginID: in.LoginID, Code: in.Code,
			Options: clientOptions{StepUp: in.StepUp, MFA: in.MFA, RevokeOtherSessions: in.RevokeOtherSessions, Locale: in.Locale},
		})
		if err != nil {
			return nil, err
		}
		if _, err := a.deliver(f, h, true); err != nil {
			return nil, err
		}
		var session *Session
		session, user = whoSignedIn(&h)
		return session, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return session, user, nil
}

// NewKey gives the signed-in user a new key; the old one works until a code of the new one
// is verified. loginID must be one of the user's, "" for the first. With
// Config.StepUpForUpdate the problem may be step_up_required.
func (a *Auth) NewKey(w http.ResponseWriter, r *http.Request, loginID string) (*NewKey, error) {
	return run(a, updateTerms, w, r, func(f *flow) (*NewKey, error) {
		answer, err := a.newKey(f, loginID)
		return a.newKeyOf(f, answer, err)
	})
}

// SignOut ends the session of r. The cookies are deleted whatever it returns, unless another
// site has sent r; without a session it returns nil. While Descope cannot be told, the error
// wraps [ErrUnavailable], and the refresh token is refused as [Auth.ServeLogout] says.
func (a *Auth) SignOut(w http.ResponseWriter, r *http.Request) error {
	reached := false
	_, err := run(a, logoutTerms, w, r, func(f *flow) (jsontext.Value, error) {
		reached = true
		return a.signOut(f)
	})
	if !reached && !errors.Is(err, ErrCrossOrigin) {
		a.deleteCookies(w, r) // such as for a header that is none of a refresh token
	}
	return err
}

// SignOutEverywhere ends all sessions of the user of r, on all devices. The cookies are kept
// while the error wraps [ErrUnavailable], so that it can be tried again. Without a session
// it wraps [ErrNoSession], because nothing has been ended then.
func (a *Auth) SignOutEverywhere(w http.ResponseWriter, r *http.Request) error {
	_, err := run(a, logoutTerms, w, r, a.signOutEverywhere)
	return err
}

// User asks Descope who is signed in. Where the session itself says enough,
// [SessionFromContext] costs nothing.
func (a *Auth) User(w http.ResponseWriter, r *http.Request) (*User, error) {
	return run(a, meTerms, w, r, func(f *flow) (*User, error) {
		known, err := a.me(f)
		if err != nil {
			return nil, err
		}
		return userOf(known), nil
	})
}

// newKeyOf reads the key of an answer, which no cache may keep with the page that shows it.
func (a *Auth) newKeyOf(f *flow, answer *descope.Answer, err error) (*NewKey, error) {
	if err != nil {
		return nil, err
	}
	a.cookies.ForbidCaching(f.w)
	key := answer.NewKey()
	return &NewKey{ProvisioningURL: key.ProvisioningURL, Key: key.Key, QR: key.Image}, nil
}

func userOf(u *descope.User) *User {
	return &User{ID: u.ID, LoginIDs: u.LoginIDs, Name: u.Name, Email: u.Email, Phone: u.Phone}
}

func (a *Auth) signUp(f *flow, req *descope.SignUpRequest) (*descope.Answer, error) {
	req.LoginID = descope.CleanLoginID(req.LoginID)
	if err := req.Check(); err != nil {
		return nil, err
	}
	done, err := a.attempts.SignUp(f.r)
	if err != nil {
		return nil, err
	}
	ctx := descope.WithNetwork(f.ctx, a.attempts.Network(f.r))
	answer, err := a.api.Post(ctx, descope.Anonymous, descope.PathTOTPSignUp, nil, req)
	done(f.ctx, err)
	if answer, err = withKey(answer, err); err == nil {
		a.application.tell(f.r.Context(), Event{Name: notice.SignedUp, Outcome: notice.OK,
			User: &User{LoginIDs: []string{req.LoginID}, Name: req.User.Name, Email: req.User.Email, Phone: req.User.Phone}})
	}
	return answer, err
}

// withKey sees to it that an answer that is to have a key has one.
func withKey(answer *descope.Answer, err error) (*descope.Answer, error) {
	if err == nil {
		err = answer.CheckNewKey()
	}
	return answer, err
}

// A signIn is what a client sends to sign in.
type signIn struct {
	LoginID string        `json:"loginId"`
	Code    string        `json:"code"`
	Options clientOptions `json:"loginOptions"`
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

func (a *Auth) signIn(f *flow, in *signIn) (h renew.Handout, err error) {
	req := descope.VerifyRequest{LoginID: descope.CleanLoginID(in.LoginID), Code: descope.CleanCode(in.Code)}
	if req.LoginID == "" && (in.Options.StepUp || in.Options.MFA) {
		if req.LoginID, err = a.callersLoginID(f); err != nil {
			return h, err
		}
	}
	if err := descope.CheckLoginID(req.LoginID); err != nil {
		return h, err
	}
	if err := descope.CheckCode(req.Code); err != nil {
		return h, err
	}
	if req.Options, err = a.optionsOf(f, req.LoginID, &in.Options); err != nil {
		return h, err
	}
	presented, err := a.secondFactorOf(f, req.Options)
	if err != nil {
		return h, err
	}
	if presented != nil {
		f.name = "step_up"
	}
	done, err := a.attempts.Guess(f.r, req.LoginID)
	if err != nil {
		return h, err
	}
	typed := time.Now()
	ctx, cancel := f.detached() // whoever hangs up has still made a guess
	defer cancel()
	h, err = a.verifyCode(descope.WithNetwork(ctx, a.attempts.Network(f.r)), &req, presented)
	done(ctx, err)
	if err != nil {
		return h, verifyFailure(err, presented)
	}
	a.renewer.NoteCode(ctx, h.Token, &h.Session.Claims, typed)
	a.tellSignedIn(f, &h, presented != nil)
	return h, nil
}

func (a *Auth) tellSignedIn(f *flow, h *renew.Handout, again bool) {
	if a.application.onEvent == nil {
		return
	}
	e := Event{Name: notice.SignedIn, Outcome: notice.OK}
	if again {
		e.Name = notice.SteppedUp
	}
	e.Session, e.User = whoSignedIn(h)
	a.application.tell(f.r.Context(), e)
}

// whoSignedIn returns who has signed in, as an application sees it.
func whoSignedIn(h *renew.Handout) (*Session, *User) {
	known, firstSeen := descope.SignedInUser(h.Body)
	user := userOf(&known)
	user.ID, user.FirstSeen = h.Session.Claims.User(), firstSeen
	raw := h.Token
	return &Session{shared: &verified{Verified: h.Session}, token: &raw}, user
}

// callersLoginID is for a second code: who types it has signed in before.
func (a *Auth) callersLoginID(f *flow) (string, error) {
	if err := a.findCaller(f); err != nil {
		return "", err
	}
	return a.ownLoginID(f, "")
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
	err := a.findCaller(f)
	return f.caller.refresh, err
}

// findCaller is for a flow that does not need one in each case; once is enough.
func (a *Auth) findCaller(f *flow) error {
	if f.caller.refresh != nil {
		return nil
	}
	bearer, err := a.api.RefreshBearer(f.r.Header)
	if err != nil {
		return err
	}
	f.caller = a.callerOf(f, bearer)
	return f.caller.err
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

func (a *Auth) newKey(f *flow, loginID string) (*descope.Answer, error) {
	if a.stepUpUpdate && !f.caller.stepUp {
		return nil, problem.StepUp.Because("update without a step-up")
	}
	// Whether Descope itself compares the login id with the token is not documented; a
	// new key for somebody else would be a way into their account.
	own, err := a.ownLoginID(f, descope.CleanLoginID(loginID))
	if err != nil {
		return nil, err
	}
	req := &descope.UpdateRequest{LoginID: own}
	return withKey(a.renewer.Follow(f.ctx, f.caller.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Post(ctx, descope.Account, descope.PathTOTPUpdate, t, req)
	}))
}

// ownLoginID returns the login id of the signed-in user that loginID names, as
// Descope spells it; the first for "".
func (a *Auth) ownLoginID(f *flow, loginID string) (string, error) {
	user, err := a.me(f)
	if err != nil {
		return "", err
	}
	for _, own := range user.LoginIDs {
		if loginID == "" || strings.EqualFold(own, loginID) {
			return own, nil
		}
	}
	return "", problem.ForeignLoginID.Because("loginId is not the user's")
}

func (a *Auth) me(f *flow) (*descope.User, error) {
	answer, err := a.askAbout(f, descope.PathMe)
	if err != nil {
		return nil, err
	}
	return answer.User()
}

// askAbout asks what Descope knows about the signed-in user.
func (a *Auth) askAbout(f *flow, path string) (*descope.Answer, error) {
	return a.renewer.Follow(f.ctx, f.caller.refresh, func(ctx context.Context, t *token.Token) (*descope.Answer, error) {
		return a.api.Get(ctx, descope.Account, path, t)
	})
}

// nothing is the answer of a flow that has done what it was asked for.
var nothing = jsontext.Value("{}")

// signOut deletes the cookies whatever happens: this browser is done with the
// session, even if Descope cannot be told.
func (a *Auth) signOut(f *flow) (jsontext.Value, error) {
	a.deleteCookies(f.w, f.r)
	if f.caller.refresh == nil {
		return nothing, nil
	}
	ctx, cancel := f.detached()
	defer cancel()
	if f.caller.session != "" {
		a.renewer.ForgetCode(ctx, f.caller.session)
	}
	event := notice.SignedOut
	if !a.renewer.LeadsOn(f.caller.refresh) {
		event = notice.TokenReused // of an old copy; the sign-in itself may go on
	}
	err := a.renewer.LogOut(ctx, f.caller.refresh)
	if err != nil {
		err = flowFailure(logoutTerms, err)
	}
	a.application.tellFirst(f.r, event, f.caller.refresh, err)
	return nothing, err
}

// signOutEverywhere keeps the cookies while it cannot tell: without them the user could
// not try again to end the sessions on other devices.
func (a *Auth) signOutEverywhere(f *flow) (jsontext.Value, error) {
	f.name = "sign_out_everywhere"
	ctx, cancel := f.detached()
	defer cancel()
	err := f.caller.err
	if f.caller.refresh != nil {
		err = a.renewer.LogOutEverywhere(ctx, f.caller.refresh)
	}
	if err == nil {
		a.application.tellFirst(f.r, notice.SignedOutEverywhere, f.caller.refresh, nil)
	}
	if err == nil || errors.Is(err, ErrNoSession) || errors.Is(err, ErrSessionEnded) && problem.Of(err).Problem != problem.OddRefusal && err != renew.ErrSpent {
		a.deleteCookies(f.w, f.r)
	}
	return nothing, err
}

// deliver sets the cookies of tokens and returns Descope's answer, as Config.Tokens says.
// Whatever goes into a cookie is emptied in the body, where scripts could read it.
func (a *Auth) deliver(f *flow, h renew.Handout, signIn bool) (jsontext.Value, error) {
	a.cookies.ForbidCaching(f.w) // of a late session and of tokens in the body, too
	session, refresh := "", ""
	switch a.delivery {
	case SessionInBody:
		session = h.Token
	case InBody:
		session, refresh = h.Token, h.Refresh
	}
	body, err := descope.WithTokens(h.Body, session, refresh)
	if err != nil || h.Late {
		return body, err
	}
	fresh := cookie.Fresh{Session: h.Token, Refresh: h.Refresh, Until: h.Until, User: h.Session.Claims.User(), SignIn: signIn}
	if f.caller.refresh != nil {
		fresh.Held = f.caller.refresh.Raw
	}
	if signIn {
		fresh.Scopes = a.formerScopes(f.r)
	}
	a.cookies.Write(f.w, f.r, &fresh)
	return body, nil
}
