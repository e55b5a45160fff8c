// Package descope is the one place that knows Descope's URL, headers and wire format.
//
// A [Client] makes calls, each of one [Class] with a budget and a gate of its own (see
// gate.go), so that a flood of one kind never delays another. What comes back is an
// [Answer], in which [Answer.Tokens] finds the tokens; a [Refusal], by which Descope
// says something about the request; or a [Failure], which says something about the way
// there. Answers are taken leniently, because a call may have spent a token or a code;
// the tokens in them are for others to judge.
//
// client.go has the paths and the calls, transport.go the base URL and how connections are
// used, answer.go what an answer says, failure.go what went wrong, gate.go and shares.go
// who may call when.
//
// No call is ever repeated in here: a refresh or a sign-in that may have reached
// Descope has spent its token or its code. All texts of errors are fixed.
package descope

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// A Client calls one project at Descope. It is safe for concurrent use.
type Client struct {
	client      *http.Client
	connections *connections // of client
	keyClient   *http.Client // for key sets; its connections are its own
	base        string
	projectID   string
	key         func() string
	names       token.Names
	limit       time.Duration // of a call that spends nothing
	gates       [classes]*gate
	air         chan struct{} // a place for each call that may spend a token
	strangers   *strangerBudget
	rules       Rules
	noKeys      atomic.Pointer[string] // why the last call of Keys brought none
	evidence    evidence
	notices     *notice.Reporter
}

// Config says how to reach Descope.
type Config struct {
	ProjectID     string
	BaseURL       string        // "": that of the project's region
	Insecure      bool          // it may be http, which is warned of
	HTTPClient    *http.Client  // copied; nil: one over a clone of http.DefaultTransport
	ManagementKey func() string // a func, so that nothing prints it
	Names         token.Names   // of tokens and cookies, beside Descope's own
	Limits        Limits
	Rules         Rules
	Notices       *notice.Reporter // nil: nothing is told
}

// New returns a Client. It makes no call.
func New(cfg Config) *Client {
	client := restrictClient(cfg.HTTPClient)
	if cfg.Insecure {
		cfg.Notices.Tell(context.Background(), notice.InsecureBaseURL, notice.Fields{})
	}
	return &Client{
		client:      client,
		connections: client.Transport.(calmTransport).RoundTripper.(*connections),
		keyClient:   keyClient(cfg.HTTPClient),
		base:        cmp.Or(strings.TrimRight(cfg.BaseURL, "/"), regionURL(cfg.ProjectID)),
		projectID:   cfg.ProjectID,
		key:         cfg.ManagementKey,
		names:       cfg.Names,
		limit:       limitOf(cfg.HTTPClient),
		gates:       newGates(cfg.Limits, cfg.Notices),
		air:         make(chan struct{}, maxInTheAir),
		strangers:   newStrangerBudget(),
		rules:       cfg.Rules,
		evidence:    evidence{notices: cfg.Notices},
		notices:     cfg.Notices,
	}
}

// Descope's paths for a signed-in user and for signing in, which are also the paths of our own handlers.
const (
	PathTOTPSignUp   = "/v1/auth/totp/signup"
	PathTOTPVerify   = "/v1/auth/totp/verify"
	PathTOTPUpdate   = "/v1/auth/totp/update"
	PathRefresh      = "/v1/auth/refresh"
	PathTryRefresh   = "/v1/auth/try-refresh"
	PathLogout       = "/v1/auth/logout"
	PathLogoutAll    = "/v1/auth/logoutall"
	PathMe           = "/v1/auth/me"
	PathHistory      = "/v1/auth/me/history"
	PathMyTenants    = "/v1/auth/me/tenants"
	PathSelectTenant = "/v1/auth/tenant/select"
	pathKeys         = "/v2/keys/"
)

const (
	maxAnswerSize = 1 << 20         // bytes of Descope's answer to a flow
	maxKeySetSize = 1 << 20         // bytes
	callLimit     = 9 * time.Second // the longest a call that spends nothing may take
	userAgent     = "descopehttp/" + version
	version       = "0.1.0"
)

// Keys fetches the project's key set (RFC 7517, section 5). It is of no class: whoever
// calls it sees to it that it is seldom. The error is a [*Failure] or a [*Refusal].
func (c *Client) Keys(ctx context.Context) ([]byte, error) {
	began := time.Now()
	body, err := c.fetchKeys(ctx)
	code, outcome := outcomeOf(err)
	c.notices.Event(ctx, notice.Event{Name: notice.KeyFetch, Code: code, Outcome: outcome, Took: time.Since(began)})
	reason := ""
	if err != nil {
		reason = problem.Of(err).Reason
	}
	c.noKeys.Store(&reason)
	return body, err
}

// KeysTrouble returns why the last call of Keys brought none, or "".
func (c *Client) KeysTrouble() string {
	if reason := c.noKeys.Load(); reason != nil {
		return *reason
	}
	return ""
}

func (c *Client) fetchKeys(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	res, err := c.send(ctx, c.keyClient, http.MethodGet, pathKeys+c.projectID, "", nil, maxKeySetSize)
	var refused *Refusal
	if errors.As(err, &refused) && (refused.Meaning == NoProject || refused.Meaning == NotFound) {
		c.evidence.tell(refused)
		return nil, problem.Unavailable.Because("Descope knows no project of this ProjectID")
	}
	if err != nil {
		return nil, err
	}
	return res.body, nil
}

// An Answer is a 2xx of Descope with JSON in it.
type Answer struct {
	Body    jsontext.Value
	cookies []*http.Cookie
	names   *token.Names
}

// Post sends one request to the authentication API. t, if not nil, is the refresh token
// of the user it is about. The error is a [*Refusal] or wraps a [*problem.Failure] that
// says "cannot tell".
func (c *Client) Post(ctx context.Context, class Class, path string, t *token.Token, req any) (*Answer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, problem.Internal.Because("request does not encode")
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	return c.call(ctx, class, http.MethodPost, path, t, body, false)
}

// Spend is like Post, for calls that may spend t. Their answer is the only way to go on,
// so they take as long as ctx lets them; there are 128 of them in the air at most.
func (c *Client) Spend(ctx context.Context, class Class, path string, t *token.Token, req any) (*Answer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, problem.Internal.Because("request does not encode")
	}
	return c.call(ctx, class, http.MethodPost, path, t, body, true)
}

// Get is like Post, for paths that are read.
func (c *Client) Get(ctx context.Context, class Class, path string, t *token.Token) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	return c.call(ctx, class, http.MethodGet, path, t, nil, false)
}

func (c *Client) call(ctx context.Context, class Class, method, path string, t *token.Token, body []byte, spends bool) (*Answer, error) {
	began := time.Now()
	answer, err := c.attempt(ctx, class, method, path, t, body, spends)
	code, outcome := outcomeOf(err)
	c.notices.Event(ctx, notice.Event{Name: notice.Call, Class: class.String(), Code: code, Outcome: outcome, Took: time.Since(began)})
	return answer, err
}

func (c *Client) attempt(ctx context.Context, class Class, method, path string, t *token.Token, body []byte, spends bool) (*Answer, error) {
	if err := c.strangers.enter(t, time.Now()); err != nil {
		return nil, err
	}
	g := c.gates[class]
	if err := g.enter(ctx, callerOf(ctx, t)); err != nil {
		return nil, err
	}
	if spends {
		if err := c.takePlace(ctx); err != nil {
			g.leave(time.Now(), err)
			return nil, err
		}
		defer func() { <-c.air }()
	}
	raw := ""
	if t != nil {
		raw = t.Raw
	}
	late := time.AfterFunc(gateLate, func() {
		g.leave(time.Now(), errLate)
		c.connections.change(time.Now())
	})
	res, err := c.send(ctx, c.client, method, path, raw, body, maxAnswerSize)
	if t == nil {
		err = withoutToken(err)
	}
	if isLate := !late.Stop(); isLate && ReachOf(err) == Reached {
		g.open()
	} else {
		g.leave(time.Now(), err)
	}
	if err != nil {
		c.evidence.note(class, time.Now(), err)
		return nil, err
	}
	content, err := contentOf(path, res.body)
	if err != nil {
		return nil, err
	}
	c.evidence.note(class, time.Now(), nil)
	c.strangers.accept(t, time.Now())
	return &Answer{Body: content, cookies: res.cookies, names: &c.names}, nil
}

func contentOf(path string, body []byte) (jsontext.Value, error) {
	content, ok := asJSON(body)
	switch {
	case ok:
		return content, nil
	case len(body) == 0 && (path == PathLogout || path == PathLogoutAll): // in which nothing is expected
		return jsontext.Value("{}"), nil
	}
	return nil, problem.Unavailable.Because("Descope's answer is not JSON")
}

// takePlace returns when there is a place in the air. It is taken after the turn: those
// who wait for that need none.
func (c *Client) takePlace(ctx context.Context) error {
	select {
	case c.air <- struct{}{}:
		return nil
	case <-time.After(maxTurn):
	case <-ctx.Done():
	}
	return unsent("too many calls wait for Descope's answer", time.Second, nil)
}

// withoutToken is what a refusal means that speaks of a token, of a call without one.
func withoutToken(err error) error {
	var refused *Refusal
	if errors.As(err, &refused) && EndsSession(err) {
		refused.Meaning = Unknown
	}
	return err
}

// Reserve takes the place of the next call with t, and fails if there is none. Whatever
// is to be written about t before that call, in memory or in a store, is within the
// budget for tokens of unknown keys, too.
func (c *Client) Reserve(t *token.Token) error { return c.strangers.reserve(t, time.Now()) }

// HasRoom reports whether a call may be made that need not be made now.
func (c *Client) HasRoom(class Class) bool { return c.gates[class].hasRoom(time.Now()) }

type response struct {
	body    []byte
	cookies []*http.Cookie
}

func (c *Client) send(ctx context.Context, client *http.Client, method, path, token string, body []byte, limit int64) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, problem.Internal.Because("request could not be built")
	}
	req.Header.Set("Authorization", "Bearer "+c.authorization(token))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent) // Descope's edge turns away clients without one
	req.Header.Set("X-Descope-Project-Id", c.projectID)
	// Descope limits plain API calls far more than those of backend SDKs.
	req.Header.Set("X-Descope-Sdk-Name", "descopehttp")
	req.Header.Set("X-Descope-Sdk-Version", version)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, transportFailure(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, transportFailure(err)
	case int64(len(content)) > limit:
		return nil, problem.Unavailable.Because("Descope's answer is too large")
	case resp.StatusCode/100 != 2:
		return nil, c.rules.statusFailure(resp, content)
	}
	return &response{body: content, cookies: resp.Cookies()}, nil
}
