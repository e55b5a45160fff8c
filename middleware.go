// Package descopehttp signs people in with Descope from an existing net/http
// server. It carries Descope's TOTP flows as handlers, checks the session token
// of every request against the project's keys, and renews expired sessions
// with the refresh token without the page noticing.
//
//	auth, err := descopehttp.New(descopehttp.Config{ProjectID: "P2…"})
//	mux.Handle("/auth/", auth.Handler())
//	mux.Handle("/app/", auth.RequireSession(app))
//
// # Routes
//
// [Auth.RequireSession] lets signed-in users pass, [Auth.Require] those whom every [Guard]
// agrees to, such as [Role] or [StepUpWithin]. [Auth.LoadSession] lets all pass and protects
// nothing. Handlers read [SessionFromContext]. Each middleware judges by itself, over
// [Auth.Authenticate], so the wrong order can close a route but never open one.
//
// # Signing in
//
// Pages and clients post to the flows of [Auth.Handler], at Descope's own paths; pages in Go
// call [Auth.SignUp], [Auth.SignIn], [Auth.NewKey] and [Auth.SignOut], and package pages has
// them ready. Config.Tokens says whether tokens travel in cookies or in the body.
//
// # Errors
//
// An outage is never "not signed in": it is [ErrUnavailable], 503, with the cookies kept. A
// [Problem] says what to tell a client. Config.LoginURL and Config.ErrorHandler make pages of
// refusals.
//
// # In production
//
// Behind a proxy set Config.ClientIP, with several replicas Config.RefreshStore and
// Config.AttemptStore. [Auth.Ready] is for a readiness probe, [Auth.Wait] for the shutdown.
// Config.Observer and Config.OnEvent are shown what happens, [Auth.Status] what is held now.
//
// # Tests
//
// [NewSession] makes sessions up for handlers. Package descopetest is a Descope project in
// memory, and its package audit tells who gets in where.
//
// # Inside
//
// This package is the face: what users name, and the path of a request, which begins in
// middleware.go. Each subject below it has a package of its own under internal.
// docs/design.md tells the life of a request and of a refresh token.
package descopehttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/guess"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/renew"
	"github.com/descopehttp/descopehttp/internal/token"
	"github.com/descopehttp/descopehttp/internal/visit"
)

// An Auth signs people in with one Descope project and judges their requests.
// Make one with [New]. It is safe for concurrent use, keeps no goroutine while
// idle and needs no closing; after the server's Shutdown, [Auth.Wait] waits for
// refreshes that have outlived their requests.
type Auth struct {
	projectID    string
	delivery     Delivery
	loginOptions func(*http.Request, string, map[string]any) error
	stepUpUpdate bool
	notices      *notice.Reporter
	refusals     refusals
	csrf         *http.CrossOriginProtection
	cookies      *cookie.Policy
	api          *descope.Client
	keys         *keySet
	judge        *judge
	renewer      *renew.Renewer
	attempts     *guess.Attempts
	application  application
}

// Format prints a text without a secret, for every verb.
func (a *Auth) Format(f fmt.State, _ rune) { io.WriteString(f, "descopehttp.Auth("+a.projectID+")") }

// Budgets of one request in the middleware.
const (
	authenticateBudget = 5 * time.Second
	loadBudget         = time.Second
)

// RequireSession returns a handler that calls next only for requests with a
// valid session, which next finds with [SessionFromContext]. An expired session
// is renewed first, and its new cookies are set before next runs. All other
// requests are answered by Config.ErrorHandler or [Auth.WriteError].
//
// The answer says that it depends on who asks: Vary names Cookie and Authorization, and
// Cache-Control is private, before next runs. What next sets of its own wins, unless
// cookies go along. The ResponseWriter is passed on as it is, never wrapped.
func (a *Auth) RequireSession(next http.Handler) http.Handler {
	return a.protect(next, nil)
}

// Require returns a middleware like [Auth.RequireSession] that also asks every
// guard; all must agree. It authenticates by itself, so that used alone, nested
// or in the wrong order it can only close a route, never open one. Inside
// another middleware of the same Auth it uses the session found there. It panics if a guard
// is nil.
func (a *Auth) Require(guards ...Guard) func(next http.Handler) http.Handler {
	mustNotBeNil(guards)
	return func(next http.Handler) http.Handler { return a.protect(next, guards) }
}

func (a *Auth) protect(next http.Handler, guards []Guard) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := a.authenticate(w, r, sessionRequired)
		if err == nil {
			var session *Session
			outer := r
			r, session = v.admit(a, w, r)
			defer visit.GiveBack(outer, r)
			if err = checkGuards(r, session, guards); err != nil {
				a.notices.Event(r.Context(), notice.Event{Name: notice.Guard}.Ended(err))
			}
		}
		if err != nil {
			a.cookies.Mark(w.Header(), new(cookie.Marks))
			a.refusals.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// LoadSession returns a handler that always calls next, with a session if the
// request has one. Pages that greet a visitor by name want it; it protects
// nothing. It deletes no cookies in use. While Descope is away, GET and HEAD go on
// without a session and [SessionError] says so; other methods, which might act
// on the absence of a user, are answered 503.
func (a *Auth) LoadSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outer := r
		v, err := a.authenticate(w, r, sessionOptional)
		switch {
		case err == nil:
			r, _ = v.admit(a, w, outer)
		case problem.Of(err).Problem == problem.Unavailable && r.Method != http.MethodGet && r.Method != http.MethodHead:
			a.cookies.Mark(w.Header(), new(cookie.Marks))
			a.refusals.refuse(w, r, err)
			return
		default:
			c := &sessionContext{Context: r.Context(), owner: a, err: err}
			a.cookies.Mark(w.Header(), &c.marks)
			r = r.WithContext(c)
		}
		defer visit.GiveBack(outer, r)
		next.ServeHTTP(w, r)
	})
}

// Authenticate decides who a request belongs to. It may set cookies on w, which
// must not have been written to: those of a renewed session, or the deletion of
// cookies that can never work again. It writes no answer. RequireSession and Require are a few
// lines around it.
//
// The error wraps one of [ErrNoSession], [ErrInvalidToken], [ErrSessionExpired],
// [ErrSessionEnded], [ErrCrossOrigin] and [ErrUnavailable]; WriteError answers
// it. It takes at most five seconds, and half a second more for each refresh cookie
// where a store hangs.
func (a *Auth) Authenticate(w http.ResponseWriter, r *http.Request) (*Session, error) {
	v, err := a.authenticate(w, r, sessionRequired)
	if v.nested == nil {
		a.cookies.Mark(w.Header(), new(cookie.Marks))
	}
	if err != nil {
		return nil, err
	}
	return v.session(), nil
}

// VerifyToken judges a session token that came another way than in a request's
// header or cookie, such as the first message on a WebSocket. It never renews.
// The error wraps [ErrInvalidToken], [ErrSessionExpired] or [ErrUnavailable].
func (a *Auth) VerifyToken(ctx context.Context, sessionToken string) (*Session, error) {
	c := clockFor(authenticateBudget)
	v, cached, err := a.judge.session(ctx, sessionToken, c)
	a.observeVerdict(ctx, "token", cached, c, err)
	if err != nil {
		return nil, err
	}
	return &Session{shared: v, token: &sessionToken}, nil
}

// WriteError answers a request that Authenticate refused with err, the way the
// middleware does by default: a problem document (RFC 9457) that carries
// Descope's error fields too, not to be cached, with WWW-Authenticate on a 401
// and Retry-After on a 503. It is for a Config.ErrorHandler that answers some
// requests differently. An err that is not of this package is a 500 without its
// text.
//
// With Config.LoginURL, a browser that navigates to a page is sent there instead
// of being answered 401.
func (a *Auth) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	a.refusals.answer(w, r, err)
}

// A policy is what a middleware does while and after it judges.
type policy struct {
	budget       time.Duration // for store, keys and the call to Descope together
	deletesUnfit bool          // cookies that can never work again
}

var (
	sessionRequired = policy{budget: authenticateBudget, deletesUnfit: true}
	sessionOptional = policy{budget: loadBudget} // the page can do without
)

// A verdict is a session and how it came about.
type verdict struct {
	shared *verified
	raw    string   // the session token
	nested *Session // an outer middleware found it; the request carries it already
	cached bool     // nothing had to be checked but what the cache says

	// renewedWith is the refresh token that brought it, nil if it is the request's own. The
	// next handler does not see that token any more, but a flow has need of it.
	renewedWith *token.Token
}

func (v verdict) session() *Session {
	if v.nested != nil {
		return v.nested
	}
	raw := v.raw // the rest of v stays off the heap
	return &Session{shared: v.shared, token: &raw}
}

// authenticate judges a request, and has the verdict observed.
func (a *Auth) authenticate(w http.ResponseWriter, r *http.Request, p policy) (verdict, error) {
	c := clockFor(p.budget)
	v, err := a.decide(w, r, c, p)
	if v.nested == nil {
		a.observeVerdict(r.Context(), "request", v.cached, c, err)
	}
	return v, err
}

func (a *Auth) observeVerdict(ctx context.Context, of string, cached bool, c clock, err error) {
	if !a.notices.Observes() {
		return
	}
	a.notices.Event(ctx, notice.Event{Name: notice.Verdict, Class: of, Cached: cached, Took: time.Since(c.now)}.Ended(err))
}

// decide is the main path. Its order matters: what is decided early is
// cheap and changes nothing, and a credential that is presented is judged, never
// passed over in favour of another.
func (a *Auth) decide(w http.ResponseWriter, r *http.Request, c clock, p policy) (verdict, error) {
	bearer, err := descope.SessionBearer(r.Header, a.projectID)
	if err != nil {
		return verdict{}, err
	}
	if s := a.outerSession(r, bearer, c.now); s != nil {
		return verdict{nested: s}, nil
	}
	if bearer != "" {
		// Cookies are not looked at: a script that sends a token means that
		// user, and a browser adds no header on behalf of another site.
		v, cached, err := a.judge.bearer(r, bearer, c)
		return verdict{shared: v, raw: bearer, cached: cached}, err
	}
	if a.delivery == InBody {
		return verdict{}, problem.NoSession.Because("no bearer token")
	}
	if err := a.checkOrigin(r, r.Method); err != nil {
		return verdict{}, err
	}
	values := a.cookies.Read(r)
	cookies := a.judge.present(&values, c.now)
	if v := a.judge.usual(&cookies, c.now); v != nil {
		return verdict{shared: v, raw: cookies.Session.Values[0], cached: true}, nil
	}
	return a.authenticateCookies(w, r, &cookies, c, p)
}

// outerSession returns the session that an outer middleware of this Auth has found, if it
// is valid now and the request has no other credential: what a client presents is judged,
// whoever it was for a moment ago.
func (a *Auth) outerSession(r *http.Request, bearer string, now time.Time) *Session {
	c := sessionContextOf(r.Context())
	if c == nil || c.owner != a || c.err != nil || a.judge.rules.CheckTime(&c.session.shared.Claims, now) != nil {
		return nil
	}
	if bearer != "" {
		if bearer != c.session.Token() {
			return nil
		}
		return &c.session
	}
	values := a.cookies.Read(r)
	if values.Session.N == 0 || slices.Contains(values.Session.All(), c.session.Token()) {
		return &c.session
	}
	return nil
}

// admit returns the request as the next handler sees it, and its session.
func (v verdict) admit(a *Auth, w http.ResponseWriter, r *http.Request) (*http.Request, *Session) {
	if v.nested != nil {
		return r, v.nested
	}
	raw := v.raw
	c := &sessionContext{Context: r.Context(), owner: a, session: Session{shared: v.shared, token: &raw}, renewedWith: v.renewedWith}
	a.cookies.Mark(w.Header(), &c.marks)
	r = r.WithContext(c)
	if v.renewedWith != nil {
		r.Header = a.cookies.Replace(r.Header, v.raw)
	}
	return r, &c.session
}

// codeTyped implements owner.
func (a *Auth) codeTyped(ctx context.Context, s *Session, within time.Duration) bool {
	typed, known := a.renewer.CodeTyped(ctx, s.Token(), s.IssuedAt(), within)
	if !known && s.StepUp() {
		typed, known = s.IssuedAt(), true // it was made elsewhere
	}
	return known && time.Since(typed) <= within && time.Until(typed) <= time.Minute
}

// checkOrigin refuses what another site sends with this user's cookies, as if it came by
// method. A WebSocket handshake is a GET that another site can send, and what it opens is
// not safe: it is judged like a POST.
func (a *Auth) checkOrigin(r *http.Request, method string) error {
	if visit.IsUpgrade(r) {
		method = http.MethodPost
	}
	if method != r.Method {
		judged := *r
		judged.Method = method
		r = &judged
	}
	if a.csrf.Check(r) != nil {
		a.notices.Tell(r.Context(), notice.CrossOrigin, notice.Fields{})
		return problem.CrossOrigin.Because("cross-origin request; an origin that may send it belongs in Config.TrustedOrigins")
	}
	return nil
}

// RefreshUpgrades lets the middleware inside next renew an expired session on a
// WebSocket handshake or another upgrade. It is off without this, because the
// answer to a handshake is written by another library, and new cookies that it
// leaves out are lost, with rotation the session with them.
//
// Use it where the library sends the writer's headers, as coder/websocket does,
// or pass them on: gorilla/websocket sends only those that it is given,
//
//	upgrader.Upgrade(w, r, http.Header{"Set-Cookie": w.Header()["Set-Cookie"]})
func (a *Auth) RefreshUpgrades(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := visit.MarkUpgrades(r)
		defer visit.GiveBack(r, inner)
		next.ServeHTTP(w, inner)
	})
}

// authenticateCookies judges the cookies of a request and renews the session if
// it has expired, is gone or cannot be used, and there is a refresh token.
func (a *Auth) authenticateCookies(w http.ResponseWriter, r *http.Request, cookies *presented, c clock, p policy) (verdict, error) {
	if cookies.Refresh.N > 0 {
		_ = a.keys.readyBy(r.Context(), c.until) // without keys nothing could be told
	}
	judged := a.judge.cookies(r.Context(), cookies, c, fetchIfFloorAllows)
	switch {
	case judged.conflict:
		a.deleteUnfit(w, r, p)
		return verdict{}, problem.ConflictingCookies.Because("cookies of more than one user")
	case judged.session != nil:
		return a.renewAhead(w, r, &judged, c), nil
	case judged.refresh == nil:
		if judged.refreshExpired {
			a.deleteUnfit(w, r, p) // nothing can renew these
		}
		return verdict{}, judged.err
	case visit.CannotRenew(r):
		return verdict{}, problem.SessionExpired.Because("an upgrade request does not refresh")
	}
	ctx, cancel := context.WithDeadline(r.Context(), c.until)
	defer cancel()
	h, err := a.renewer.Refresh(ctx, judged.refresh, false)
	if err != nil {
		a.application.tellRefused(r, judged.refresh, err)
		if problem.Of(err).DeleteCookies {
			a.deleteUnfit(w, r, p)
		}
		return verdict{}, err
	}
	return a.take(w, r, h, judged.refresh), nil
}

func (a *Auth) deleteUnfit(w http.ResponseWriter, r *http.Request, p policy) {
	if p.deletesUnfit {
		a.deleteCookies(w, r)
	}
}

// deleteCookies removes the cookies in every form in which this configuration or an
// earlier one may have set them. Those of a wider scope may be a neighbour's: they go only
// where a token of this project was presented.
func (a *Auth) deleteCookies(w http.ResponseWriter, r *http.Request) {
	a.cookies.Delete(w, a.formerScopes(r))
}

// formerScopes returns the domains for which cookies are to be deleted besides.
func (a *Auth) formerScopes(r *http.Request) []string {
	values := a.cookies.Read(r)
	if !a.judge.isOurs(&values) {
		return nil
	}
	return a.cookies.Scopes(r.Host)
}

// take sets the cookies of a renewed session, unless newer ones are in use.
func (a *Auth) take(w http.ResponseWriter, r *http.Request, h renew.Handout, presented *token.Token) verdict {
	if h.Late {
		a.cookies.ForbidCaching(w)
	} else {
		a.cookies.Write(w, r, &cookie.Fresh{Session: h.Token, Refresh: h.Refresh, Held: presented.Raw, Until: h.Until, User: h.Session.Claims.User()})
	}
	return verdict{shared: &verified{Verified: h.Session}, raw: h.Token, renewedWith: presented}
}

// renewAhead renews a session that is due, so that its end, or that of its sign-in, meets no
// request. What carries no cookies is left alone; a step-up, too, until its sign-in would end.
func (a *Auth) renewAhead(w http.ResponseWriter, r *http.Request, judged *judgedCookies, c clock) verdict {
	current := verdict{shared: judged.session, raw: judged.token}
	if judged.refresh == nil || visit.IsUpgrade(r) || !a.judge.isDue(a.judge.cache.prints.Of(judged.token), judged.session, c.now) {
		return current
	}
	if current.session().StepUp() && !a.renewer.EndsSignIn(&judged.session.Claims, c.now) {
		judged.session.tried.Store(c.now.UnixNano()) // or each request would come this long way
		return current
	}
	ctx, cancel := context.WithDeadline(r.Context(), c.until)
	defer cancel()
	h, ok, inTheAir := a.renewer.Ahead(ctx, judged.refresh, &judged.session.Claims)
	if !ok {
		judged.session.awaited.CompareAndSwap(false, inTheAir)
		judged.session.tried.Store(c.now.UnixNano())
		return current
	}
	return a.take(w, r, h, judged.refresh)
}
