package descopehttp

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Bounds on a flow's request.
const (
	flowBudget  = 9 * time.Second // of a whole flow, all its calls to Descope together
	maxBodySize = 64 << 10        // bytes
)

// terms are what a flow asks of its requests.
type terms struct {
	name   string // as it is observed
	method string
	class  descope.Class
	caller need
	// endsClients: Descope's browser clients take any 4xx answer for the end of the
	// session and forget their tokens, so a 4xx must mean just that.
	endsClients bool
	mayStepUp   bool // Config may ask for a step-up
}

// need says what a flow has to know about who calls.
type need int

const (
	anybody       need = iota
	signedIn           // a refresh token, or 401
	maybeSignedIn      // the flow itself decides what to do without
)

var (
	signUpTerms     = &terms{name: "sign_up", method: http.MethodPost, class: descope.Anonymous, caller: anybody}
	verifyTerms     = &terms{name: "sign_in", method: http.MethodPost, class: descope.Anonymous, caller: anybody}
	updateTerms     = &terms{name: "new_key", method: http.MethodPost, class: descope.Account, caller: signedIn, mayStepUp: true}
	refreshTerms    = &terms{name: "refresh", method: http.MethodPost, class: descope.Session, caller: signedIn, endsClients: true}
	tryRefreshTerms = &terms{name: "refresh", method: http.MethodPost, class: descope.Session, caller: maybeSignedIn, endsClients: true}
	logoutTerms     = &terms{name: "sign_out", method: http.MethodPost, class: descope.Session, caller: maybeSignedIn}
	meTerms         = &terms{name: "user", method: http.MethodGet, class: descope.Account, caller: signedIn, endsClients: true}
	tenantsTerms    = &terms{name: "tenants", method: http.MethodPost, class: descope.Account, caller: signedIn, endsClients: true}
	selectTerms     = &terms{name: "select_tenant", method: http.MethodPost, class: descope.Account, caller: signedIn}
)

// A flow is one request to a flow.
type flow struct {
	name   string // as it is observed
	ctx    context.Context
	cancel context.CancelFunc
	w      http.ResponseWriter
	r      *http.Request
	caller caller

	form    url.Values // what a form has sent
	formErr error      // why that cannot be told
}

// A caller is who sent the request of a flow, as far as that can be told here.
type caller struct {
	refresh *token.Token // nil: err says why
	stepUp  bool         // the session cookie is valid and shows a step-up
	session string       // the session token, if the cookie is valid
	err     error
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

// run does a flow, once it is clear that its request may be served and who calls. The
// error is what a client may be told.
func run[T any](a *Auth, t *terms, w http.ResponseWriter, r *http.Request, do func(*flow) (T, error)) (result T, err error) {
	a.cookies.Mark(w.Header(), new(cookie.Marks))
	began, ended := time.Now(), error(problem.Internal.Because("panic"))
	f := &flow{name: t.name, w: w, r: r}
	f.restart()
	defer func() {
		f.cancel()
		a.notices.Event(r.Context(), notice.Event{Name: notice.Flow, Class: f.name, Took: time.Since(began)}.Ended(ended))
	}()
	if err = a.admitFlow(t, f); err == nil {
		result, err = do(f)
	}
	if err != nil {
		a.application.tellRefused(r, f.caller.refresh, err)
		failure := flowFailure(t, err)
		a.notices.Refused(r.Context(), "flow", failure)
		ended = failure
		return result, failure
	}
	ended = nil
	return result, nil
}

// admitFlow judges the request before its flow begins.
func (a *Auth) admitFlow(t *terms, f *flow) error {
	// Sign-in too: signing somebody in as somebody else is an attack as well. Without
	// cookies nobody is signed in by an answer, and apps send any origin or "null".
	// What changes something is judged as a POST, whatever it was called from.
	if a.delivery != InBody {
		if err := a.checkOrigin(f.r, t.method); err != nil {
			return err
		}
	}
	bearer, err := a.api.RefreshBearer(f.r.Header)
	if err != nil {
		return err
	}
	switch {
	case t.mayStepUp && a.stepUpUpdate:
		// Without keys no session shows a step-up.
		if err := a.keys.readyBy(f.ctx, time.Now().Add(authenticateBudget)); err != nil {
			return err
		}
	case t.class == descope.Session:
		// Without keys a user cannot be told from one who invents refresh tokens.
		_ = a.keys.readyBy(f.ctx, time.Now().Add(loadBudget))
	}
	if t.caller != anybody {
		f.caller = a.callerOf(f, bearer)
	}
	if t.caller == signedIn && f.caller.refresh == nil {
		return f.caller.err
	}
	return nil
}

// callerOf finds the refresh token of who calls, in the header or else in the cookies.
func (a *Auth) callerOf(f *flow, bearer string) caller {
	c := clockFor(authenticateBudget)
	if bearer != "" {
		t, err := a.judge.refresh(f.ctx, bearer, c.now)
		if err != nil {
			return caller{err: problem.InvalidRefreshToken.Because(problem.Of(err).Reason)}
		}
		return caller{refresh: t}
	}
	// Behind a middleware that has just renewed the session, the cookies are gone from the
	// request, and those in the answer may never arrive: it is the token from before that
	// leads on to all of it.
	if s := sessionContextOf(f.r.Context()); s != nil && s.owner == a && s.renewedWith != nil {
		return caller{refresh: s.renewedWith, stepUp: s.session.StepUp(), session: s.session.Token()}
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
	who := caller{refresh: judged.refresh}
	if judged.session != nil {
		who.stepUp, who.session = (&Session{shared: judged.session}).StepUp(), judged.token
	}
	return who
}

// flowFailure turns the error of a flow into what its client is told.
func flowFailure(t *terms, err error) *problem.Failure {
	var refused *descope.Refusal
	if !errors.As(err, &refused) {
		f := problem.Of(err)
		if t.class == descope.Anonymous && errors.Is(err, descope.ErrLimit) || !t.endsClients && errors.Is(err, descope.ErrShare) {
			return &problem.Failure{Problem: problem.TooManyRequests, Reason: f.Reason, RetryAfter: f.RetryAfter}
		}
		return f
	}
	var own *problem.Failure
	if errors.As(err, &own) {
		return own
	}
	switch {
	case t.class != descope.Anonymous && descope.EndsSession(err):
		return &problem.Failure{Problem: problem.SessionEnded, Reason: "Descope refused the refresh token", Cause: err}
	case t.endsClients, t.class != descope.Anonymous && descope.RefusesCaller(err):
		return &problem.Failure{Problem: problem.OddRefusal, Reason: "Descope refused the call", Cause: err}
	case refused.Meaning == descope.UserExists:
		return &problem.Failure{Problem: problem.UserExists, Cause: err}
	case refused.Meaning == descope.TooManyAttempts:
		return &problem.Failure{Problem: problem.TooManyRequests, Reason: "Descope has locked this user for a while", Cause: err}
	case refused.Meaning == descope.NoProject, t.class == descope.Anonymous && !refused.IsGuess():
		return &problem.Failure{Problem: problem.Unavailable, Reason: "Descope refused the call with " + refused.Code + ", which is not about the user", Cause: err}
	}
	return &problem.Failure{Problem: problem.Refused, Reason: "Descope refused the call with " + refused.Code, Cause: err}
}
