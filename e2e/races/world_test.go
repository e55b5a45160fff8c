package races_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

const (
	refreshPath    = "/v1/auth/refresh"
	tryRefreshPath = "/v1/auth/try-refresh"
	verifyPath     = "/v1/auth/totp/verify"
	logoutPath     = "/v1/auth/logout"
	logoutAllPath  = "/v1/auth/logoutall"
	mePath         = "/v1/auth/me"
	updatePath     = "/v1/auth/totp/update"
	selectPath     = "/v1/auth/tenant/select"

	sessionCookie = "__Host-DS"
	refreshCookie = "__Host-DSR"

	window        = 60 * time.Second // a spent token still leads to its successor
	confirmation  = 10 * time.Second // between two refusals, before cookies go
	storeLatency  = 2 * time.Millisecond
	maxTraceLines = 4000

	callsAboutTokens = "calls to Descope about tokens"
)

// A setup is what a world is like.
type setup struct {
	Rotate     bool
	Slide      bool // a rotated refresh token lives anew
	Echo       bool // without rotation, the old refresh token is answered again
	SessionTTL time.Duration
	RefreshTTL time.Duration
	Leeway     time.Duration
	Replicas   int
	Shared     bool            // the replicas share a store
	Browsers   []int           // the user of each
	Wire       []time.Duration // how long calls to Descope take, in turn

	StoreErrors *rand.Rand // draws which calls to the store fail; nil for none

	Reuse bool   // Descope ends a line when a spent token of it is presented
	Spent string // Descope's code for a spent token; "": its own choice

	StepUpSpends bool             // the token that it is asked for with
	Select       descopetest.Fate // of the token that it is asked for with
}

// A world is a project, replicas of a server and browsers, and a ledger of all
// tokens, by which every answer is judged.
type world struct {
	setup setup
	srv   *descopetest.Server
	store sharedMemory // nil if the replicas share none
	began time.Time
	tasks sync.WaitGroup // requests on their way

	mu       sync.Mutex // guards all below
	replicas []*replica
	retired  []*replica // were restarted
	browsers []*browser
	users    []*user
	turns    int // calls to Descope and to the store
	faults   map[*replica][]storeFault

	signIns   []*signIn
	refreshes map[string]*refreshToken
	sessions  map[string]*sessionToken

	calm       bool // nothing has gone wrong yet
	doubts     []doubt
	refused    []refusedVisit
	violations []violation
	handed     map[*user][]cookies // all that anybody was ever given
	air        []*call             // under way to Descope, but for keys
	wipes      []time.Time
	trace      []string
	counts     map[string]int
}

// A violation is an invariant that did not hold.
type violation struct {
	rule string // the same for all of a kind
	text string
}

type user struct {
	loginID string
	subject string
	ended   time.Time // all sign-ins of then, the last time
}

// A signIn is what begins with a verified code and ends with a logout. Guarded
// by world.mu, like all of the ledger.
type signIn struct {
	id      int
	user    *user
	began   time.Time
	tokens  []*refreshToken
	ending  time.Time // a logout of it arrived, or an administrator ended it
	lines   []*line   // of its refresh tokens; the first is the sign-in's own
	logouts []*logout
}

type refreshToken struct {
	raw     string
	name    string
	signIn  *signIn
	expires time.Time

	fate // what the contract asks about
}

type sessionToken struct {
	name   string
	signIn *signIn
	token  *refreshToken     // that was in force when it came
	known  map[*replica]bool // who brought it, or gave it away
}

// A browser keeps the two cookies. All tabs of it share them.
type browser struct {
	index int
	user  *user

	jar cookies // guarded by world.mu
}

type cookies struct{ session, refresh string }

// A replica is a server process. One that was restarted is another replica.
type replica struct {
	world *world
	name  string
	auth  *descopehttp.Auth
	page  http.Handler
	flows [mounts]http.Handler

	// Guarded by world.mu.
	crash  time.Time
	cutOff []time.Time // a call to the store failed
	puts   []*failedPut
}

func (r *replica) String() string { return r.name }

func (r *replica) crashed() bool {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	return !r.crash.IsZero()
}

func newWorld(s setup) *world {
	w := &world{
		setup:     s,
		srv:       descopetest.NewServer(),
		began:     time.Now(),
		faults:    make(map[*replica][]storeFault),
		refreshes: make(map[string]*refreshToken),
		sessions:  make(map[string]*sessionToken),
		calm:      true,
		counts:    make(map[string]int),
		handed:    make(map[*user][]cookies),
	}
	w.srv.Configure(func(t *descopetest.Settings) {
		t.Alg = "ES256" // cheap, and two tokens are never the same
		t.RotateRefresh, t.SlideRefreshExpiry, t.EchoRefresh = s.Rotate, s.Slide, s.Echo
		t.SessionTTL, t.RefreshTTL = s.SessionTTL, s.RefreshTTL
		t.AllowCodeReuse = true
		t.ReuseRevokesFamily = s.Reuse
		t.SelectFate = s.Select
		if s.StepUpSpends {
			t.StepUpFate = descopetest.TokenSpent
		}
		if s.Spent != "" {
			t.SpentRefresh.Code = s.Spent
		}
	})
	if s.Shared {
		w.store = newSlottedStore()
	}
	for i, n := range s.Browsers {
		for len(w.users) <= n {
			u := &user{loginID: fmt.Sprintf("user%d@example.com", len(w.users))}
			w.srv.AddUser(descopetest.User{LoginID: u.loginID, Tenants: map[string]descopetest.Tenant{tenant: {}}})
			u.subject, _ = w.srv.SessionClaims(u.loginID)["sub"].(string)
			w.users = append(w.users, u)
		}
		b := &browser{index: i, user: w.users[n]}
		tokens := w.srv.SignIn(b.user.loginID)
		si := w.newSignIn(b.user)
		t := w.enter(si, si.lines[0], tokens.Refresh)
		w.enterSession(t, tokens.Session)
		b.jar = cookies{tokens.Session, tokens.Refresh}
		w.handed[b.user] = append(w.handed[b.user], b.jar)
		w.browsers = append(w.browsers, b)
	}
	for i := range s.Replicas {
		w.replicas = append(w.replicas, w.newReplica(string(rune('A'+i))))
	}
	return w
}

func (w *world) newReplica(name string) *replica {
	r := &replica{world: w, name: name}
	cfg := descopehttp.Config{
		ProjectID:  w.srv.ProjectID(),
		BaseURL:    w.srv.URL(),
		HTTPClient: &http.Client{Transport: wire{r, w.srv.Client().Transport}},
		Leeway:     w.setup.Leeway,
		Logger:     slog.New(slog.DiscardHandler),
	}
	if w.store != nil {
		cfg.RefreshStore = w.store.line(r)
	}
	var err error
	if r.auth, err = descopehttp.New(cfg); err != nil {
		panic(err)
	}
	r.page = r.auth.RequireSession(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		s, ok := descopehttp.SessionFromContext(req.Context())
		if !ok {
			panic("a page without a session")
		}
		_, _ = io.WriteString(rw, s.Subject()+" "+s.Token())
	}))
	flows := r.auth.Handler()
	r.flows = [mounts]http.Handler{bare: flows, inLoad: r.auth.LoadSession(flows), inRequire: r.auth.RequireSession(flows)}
	return r
}

// restart puts another process in the place of a replica. A graceful one ends
// the requests that it has; after a crash they are never answered.
func (w *world) restart(i int, crash bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.replicas[i]
	w.replicas[i] = w.newReplica(old.name + "'")
	w.retired = append(w.retired, old)
	if crash {
		old.crash = time.Now()
		w.calm = false
	}
	w.note("%v restarts as %v, crash %v", old, w.replicas[i], crash)
}

// logf adds a line to what happened.
func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(format, args...)
}

// note is logf for who holds the lock, like all that follow unless they say
// otherwise.
func (w *world) note(format string, args ...any) {
	if len(w.trace) < maxTraceLines {
		w.trace = append(w.trace, fmt.Sprintf("%12v  ", time.Since(w.began))+fmt.Sprintf(format, args...))
	}
}

func (w *world) violate(rule, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("VIOLATION of %s: %s", rule, text)
	w.counts["violated: "+rule]++
	if !strings.Contains(rule, *only) {
		return
	}
	w.violations = append(w.violations, violation{rule, text})
}

func (w *world) newSignIn(u *user) *signIn {
	si := &signIn{id: len(w.signIns) + 1, user: u, began: time.Now()}
	si.newLine()
	w.signIns = append(w.signIns, si)
	return si
}

// isIn reports whether Descope honours a token of a sign-in, as far as replicas have them.
func (w *world) isIn(si *signIn) bool {
	return slices.ContainsFunc(si.tokens, func(t *refreshToken) bool { return w.srv.Honours(t.raw) })
}

func (w *world) enter(si *signIn, l *line, raw string) *refreshToken {
	if t := w.refreshes[raw]; t != nil {
		return t
	}
	t := &refreshToken{
		raw:     raw,
		name:    fmt.Sprintf("R%d.%d", si.id, len(si.tokens)+1),
		signIn:  si,
		expires: timeIn(raw, "exp"),
	}
	t.line = l
	si.tokens = append(si.tokens, t)
	w.refreshes[raw] = t
	return t
}

func (w *world) enterSession(t *refreshToken, raw string) {
	if w.sessions[raw] == nil {
		w.sessions[raw] = &sessionToken{fmt.Sprintf("S%d@%d", t.signIn.id, len(w.sessions)+1), t.signIn, t, make(map[*replica]bool)}
	}
}

func (w *world) nameOf(raw string) string {
	switch {
	case raw == "":
		return "-"
	case w.refreshes[raw] != nil:
		return w.refreshes[raw].name
	case w.sessions[raw] != nil:
		return w.sessions[raw].name
	}
	return "?"
}

// nextStoreFault takes the fault that meets the next call of r to the store. It
// locks.
func (w *world) nextStoreFault(r *replica) (f storeFault, ok bool, takes time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	takes = storeLatency + w.moment()
	if draw := w.setup.StoreErrors; draw != nil && len(w.faults[r]) == 0 && draw.IntN(100) < 3 {
		w.faults[r] = []storeFault{[...]storeFault{storeRefuses, storeLoses}[draw.IntN(2)]}
	}
	queued := w.faults[r]
	if len(queued) == 0 {
		return 0, false, takes
	}
	w.faults[r] = queued[1:]
	if queued[0] != storeSlow {
		r.cutOff = append(r.cutOff, time.Now())
	}
	w.calm = false
	return queued[0], true, takes
}

// A wire is the way of one replica to Descope. It carries calls in the time that
// the setup says, and enters in the ledger what comes back.
type wire struct {
	replica *replica
	next    http.RoundTripper
}

var errGone = errors.New("the process is gone")

func (l wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w, r := l.replica.world, l.replica
	if r.crashed() {
		return nil, errGone
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	c := w.beginCall(r, req)
	res, answer, cut, err := l.carry(req, c)
	return w.endCall(c, body, res, answer, cut, err)
}

// carry takes the call to Descope and the answer back. cut is how the body ends.
func (l wire) carry(req *http.Request, c *call) (res *http.Response, answer []byte, cut, err error) {
	ctx := req.Context()
	if !travel(ctx, c.takes/2) {
		return nil, nil, nil, ctx.Err()
	}
	l.replica.world.notePresented(c)
	res, err = l.next.RoundTrip(req)
	if err == nil {
		answer, cut = io.ReadAll(res.Body)
	}
	l.replica.world.noteCarried(c, answer)
	if !travel(ctx, c.takes-c.takes/2) {
		return nil, nil, nil, ctx.Err()
	}
	return res, answer, cut, err
}

// moment returns a short time that differs from call to call. What happens at
// the very same time happens in an order that nobody can repeat.
func (w *world) moment() time.Duration {
	w.turns++
	return time.Duration(w.turns) * 2 * time.Microsecond
}

// A call is one of a replica to Descope.
type call struct {
	path  string
	token *refreshToken // nil if it has none
	takes time.Duration

	ctx     context.Context
	replica *replica
	visit   *visit // that began it, nil if that cannot be told
	began   time.Time

	presented time.Time // at Descope, or soon after
	honoured  bool      // the token was then
}

func (w *world) beginCall(r *replica, req *http.Request) *call {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &call{path: req.URL.Path, takes: w.setup.Wire[w.turns%len(w.setup.Wire)] + w.moment(), ctx: req.Context(), replica: r, began: time.Now()}
	c.visit, _ = c.ctx.Value(visitKey{}).(*visit)
	if strings.HasPrefix(c.path, "/v2/keys") {
		c.path = "keys"
	}
	if parts := strings.Split(req.Header.Get("Authorization"), ":"); len(parts) > 1 {
		c.token = w.refreshes[parts[1]]
	}
	name := "-"
	if c.token != nil {
		name = c.token.name
	}
	w.note("    %v → Descope: %s %s, takes %v", r, c.path, name, c.takes)
	if c.token != nil {
		w.counts[callsAboutTokens]++
	}
	w.judgeCall(c)
	return c
}

// notePresented enters that a call is about to reach Descope. It locks.
func (w *world) notePresented(c *call) {
	if c.token == nil {
		return
	}
	c.honoured = w.srv.Honours(c.token.raw)
	w.mu.Lock()
	defer w.mu.Unlock()
	c.presented = time.Now()
	if !c.honoured {
		c.token.dead = c.presented
	}
}

// noteCarried enters that Descope has dealt with a call. It locks.
func (w *world) noteCarried(c *call, answer []byte) {
	if c.token == nil {
		return
	}
	honoured := w.srv.Honours(c.token.raw)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("    Descope: %s %s, honoured now: %v", c.path, c.token.name, honoured)
	w.noteSpent(c, honoured, answer)
	if c.path == logoutAllPath && c.honoured && !honoured {
		w.noteEverywhere(c)
	}
}

// noteEverywhere enters that Descope logged a user out everywhere, whoever hears of it.
func (w *world) noteEverywhere(c *call) {
	if c.visit != nil {
		c.visit.everywhere = c.presented
	}
	w.endUser(c.token.signIn.user, c.presented)
}

// endUser enters that Descope ended all sign-ins of a user. What is on its way yet is
// entered when it comes.
func (w *world) endUser(u *user, at time.Time) {
	u.ended = at
	for _, si := range w.signIns {
		if si.user == u && si.ending.IsZero() && !w.isIn(si) {
			si.ending = at
		}
	}
}

// endCall enters what came back, and passes it on.
func (w *world) endCall(c *call, sent []byte, res *http.Response, answer []byte, cut, err error) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := c.replica
	w.noteLanded(c, res, answer, cut, err)
	if !r.crash.IsZero() {
		return nil, errGone
	}
	if err != nil {
		w.note("    %v ← Descope: %s: no answer", r, c.path)
		return nil, err
	}
	w.note("    %v ← Descope: %s %d%s", r, c.path, res.StatusCode, map[bool]string{true: ", cut"}[cut != nil])
	if cut == nil {
		w.receive(c, sent, res.StatusCode, answer)
	}
	var end io.Reader = http.NoBody
	if cut != nil {
		end = errReader{cut}
	}
	res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(answer), end))
	return res, nil
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// receive enters the tokens in an answer of Descope.
func (w *world) receive(c *call, sent []byte, status int, answer []byte) {
	if status != http.StatusOK {
		return
	}
	var tokens struct{ SessionJwt, RefreshJwt string }
	if json.Unmarshal(answer, &tokens) != nil || tokens.SessionJwt == "" {
		return
	}
	inForce := w.inForce(c, sent, tokens.RefreshJwt)
	if inForce == nil {
		return
	}
	w.enterSession(inForce, tokens.SessionJwt)
	w.sessions[tokens.SessionJwt].known[c.replica] = true
	w.note("    %v has %s and %s", c.replica, w.nameOf(tokens.SessionJwt), inForce.name)
	w.noteArrival(c, inForce)
}

// inForce returns the refresh token in force after an answer, nil for one that has
// nothing to do with a sign-in.
func (w *world) inForce(c *call, sent []byte, refresh string) *refreshToken {
	switch {
	case c.token != nil && refresh == "":
		return c.token
	case c.token != nil && w.refreshes[refresh] == nil && c.branches():
		return w.enter(c.token.signIn, c.token.signIn.newLine(), refresh)
	case c.token != nil:
		return w.enter(c.token.signIn, c.token.line, refresh)
	case c.path != verifyPath:
		return nil
	}
	var in struct{ LoginID string }
	_ = json.Unmarshal(sent, &in)
	for _, u := range w.users {
		if u.loginID == in.LoginID {
			si := w.newSignIn(u)
			if !w.srv.Honours(refresh) && u.ended.After(c.began) {
				si.ending = u.ended
			}
			return w.enter(si, si.lines[0], refresh)
		}
	}
	return nil
}

// timeIn returns a time claim of a token.
func timeIn(token, claim string) time.Time {
	claims := make(map[string]any)
	_ = json.Unmarshal(decodeSegment(strings.Split(token, ".")[1]), &claims)
	seconds, _ := claims[claim].(float64)
	return time.Unix(int64(seconds), 0)
}

// kind is what a request asks for.
type kind int

const (
	askPage kind = iota
	askMe
	askRefresh
	askTryRefresh
	askLogout
	askLogoutAll
	askSignIn
	askStepUp
	askMFA
	askSelect
	askUpdate
)

func (k kind) String() string {
	return [...]string{"page", "me", "refresh", "try-refresh", "logout", "logoutall", "sign-in",
		"step-up", "mfa", "tenant/select", "update"}[k]
}

// An ask is one request of a tab.
type ask struct {
	Kind    kind
	Browser int
	Replica int
	In, Out time.Duration // on the way to the server and back
	HangUp  time.Duration // the tab is closed so long after the request has arrived; 0 never
	Lost    bool          // the answer never arrives
	Mount   mount         // of the flow
	Old     int           // not the cookies of now, but the refresh token of so many handouts ago; nobody keeps the answer
}

func (a ask) String() string {
	s := fmt.Sprintf("%v of browser %d to %c, in %v, out %v", a.Kind, a.Browser, 'A'+a.Replica, a.In, a.Out)
	if a.HangUp > 0 {
		s += fmt.Sprintf(", hangs up after %v", a.HangUp)
	}
	if a.Lost {
		s += ", answer lost"
	}
	if a.Mount != bare {
		s += ", " + a.Mount.String()
	}
	if a.Old > 0 {
		s += fmt.Sprintf(", with a copy of %d handouts ago", a.Old)
	}
	return s
}

// A visit is an ask under way.
type visit struct {
	ask
	id       int
	browser  *browser
	replica  *replica
	sent     cookies
	arrived  time.Time
	answer   *answer
	standing // what the contract asks about
}

func (v *visit) String() string { return fmt.Sprintf("#%d (%v)", v.id, v.Kind) }

// send begins a request with the cookies of now. It locks.
func (w *world) send(a ask) *visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts["requests"]++
	v := &visit{ask: a, id: w.counts["requests"], browser: w.browsers[a.Browser%len(w.browsers)], answer: newAnswer()}
	v.Replica %= len(w.replicas)
	v.sent = v.browser.jar
	if given := w.handed[v.browser.user]; a.Old > 0 {
		v.sent = cookies{refresh: given[len(given)-1-(a.Old-1)%len(given)].refresh}
	}
	if a.HangUp > 0 || a.Lost {
		w.calm = false
	}
	w.note("%v begins with %s, %s: %v", v, w.nameOf(v.sent.session), w.nameOf(v.sent.refresh), v.ask)
	w.tasks.Go(func() {
		elapse(v.In + time.Duration(v.id)*7*time.Microsecond)
		w.serve(v)
	})
	return v
}

// serve is the arrival of a request and its answer.
func (w *world) serve(v *visit) {
	r := w.request(v)
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), visitKey{}, v))
	defer cancel()
	w.arrive(v)
	if v.HangUp > 0 {
		timer := time.AfterFunc(v.HangUp, cancel)
		defer timer.Stop()
	}
	if v.Kind == askPage {
		v.replica.page.ServeHTTP(v.answer, r.WithContext(ctx))
	} else {
		v.replica.flows[v.Mount].ServeHTTP(v.answer, r.WithContext(ctx))
	}
	if v.replica.crashed() {
		w.abandon(v)
		return
	}
	w.judge(v)
	if ctx.Err() != nil || v.Lost || v.Old > 0 {
		w.logf("%v: the answer is lost", v)
		return
	}
	elapse(v.Out)
	w.keep(v)
}

// abandon enters that a process is gone with a request. A logout may have got as far as
// the store. It locks.
func (w *world) abandon(v *visit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%v is never answered: %v has crashed", v, v.replica)
	if v.Kind == askLogout && v.token != nil && v.token.signIn.ending.IsZero() {
		v.token.signIn.ending = v.arrived
	}
}

func (w *world) request(v *visit) *http.Request {
	method, path, body := http.MethodPost, "", "{}"
	switch v.Kind {
	case askPage:
		method, path, body = http.MethodGet, "/", ""
	case askMe:
		method, path, body = http.MethodGet, mePath, ""
	case askRefresh:
		path = refreshPath
	case askTryRefresh:
		path = tryRefreshPath
	case askLogout:
		path = logoutPath
	case askLogoutAll:
		path = logoutAllPath
	case askSignIn, askStepUp, askMFA:
		path = verifyPath
		options := map[kind]string{askSignIn: "", askStepUp: `"stepup":true`, askMFA: `"mfa":true`}[v.Kind]
		body = fmt.Sprintf(`{"loginId":%q,"code":%q,"loginOptions":{%s}}`, v.browser.user.loginID, w.srv.Code(v.browser.user.loginID), options)
	case askSelect:
		path, body = selectPath, fmt.Sprintf(`{"tenant":%q}`, tenant)
	case askUpdate:
		path, body = updatePath, fmt.Sprintf(`{"loginId":%q}`, v.browser.user.loginID)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	var pairs []string
	if v.sent.session != "" {
		pairs = append(pairs, sessionCookie+"="+v.sent.session)
	}
	if v.sent.refresh != "" {
		pairs = append(pairs, refreshCookie+"="+v.sent.refresh)
	}
	if len(pairs) > 0 {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	return r
}

// arrive enters that a request is at the server. It locks.
func (w *world) arrive(v *visit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v.arrived = time.Now()
	v.replica = w.replicas[v.Replica]
	w.note("%v arrives at %v", v, v.replica)
	t := w.refreshes[v.sent.refresh]
	if t == nil {
		return
	}
	w.noteShown(v, t)
	if v.Kind == askLogout && v.Mount == bare && t.signIn.ending.IsZero() {
		t.signIn.ending = v.arrived
	}
}

// keep sets the cookies of an answer that has arrived. It locks.
func (w *world) keep(v *visit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	jar := &v.browser.jar
	set, refreshed := v.answer.cookies()
	if set.session != nil {
		jar.session = *set.session
	}
	if set.refresh != nil {
		jar.refresh = *set.refresh
	}
	if refreshed {
		w.note("%v sets the cookies to %s, %s", v, w.nameOf(jar.session), w.nameOf(jar.refresh))
	}
}

// An answer is a ResponseWriter that knows when it was begun.
type answer struct {
	header http.Header
	status int
	sent   http.Header
	body   bytes.Buffer
	begun  time.Time
}

func newAnswer() *answer { return &answer{header: make(http.Header)} }

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status, a.sent, a.begun = status, a.header.Clone(), time.Now()
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// changes are the cookies that an answer sets: nil is left alone, "" is deleted.
type changes struct{ session, refresh *string }

func (a *answer) cookies() (set changes, any bool) {
	for _, c := range (&http.Response{Header: a.sent}).Cookies() {
		any = true
		value := c.Value
		if c.MaxAge < 0 {
			value = ""
		}
		switch c.Name {
		case sessionCookie:
			set.session = &value
		case refreshCookie:
			set.refresh = &value
		}
	}
	return set, any
}
