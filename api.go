package descopehttp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// api is the one place that knows Descope's URL, headers and wire types. Every
// error it returns is a *failure whose text is fixed.
//
// It never repeats a call: a refresh or a sign-in that may have reached Descope
// has spent its token or its code.
type api struct {
	client    *http.Client
	keyClient *http.Client // for key sets; its connections are its own
	base      string
	projectID string
	key       Secret
	gates     [classes]*gate
	strangers *strangerBudget
}

// Descope's paths, which are also the paths of our own handlers.
const (
	pathTOTPSignUp   = "/v1/auth/totp/signup"
	pathTOTPVerify   = "/v1/auth/totp/verify"
	pathTOTPUpdate   = "/v1/auth/totp/update"
	pathRefresh      = "/v1/auth/refresh"
	pathTryRefresh   = "/v1/auth/try-refresh"
	pathLogout       = "/v1/auth/logout"
	pathLogoutAll    = "/v1/auth/logoutall"
	pathMe           = "/v1/auth/me"
	pathHistory      = "/v1/auth/me/history"
	pathMyTenants    = "/v1/auth/me/tenants"
	pathSelectTenant = "/v1/auth/tenant/select"
	pathKeys         = "/v2/keys/"
)

const (
	maxAnswerSize = 1 << 20 // bytes of Descope's answer to a flow
	userAgent     = "descopehttp/" + version
	version       = "0.1.0"
)

// Error codes of Descope that decide something here.
const (
	codeInvalidToken = "E061005" // the refresh token is not a valid one
	codeTokenRevoked = "E064001" // the refresh token was ended by a logout
	codeUserExists   = "E062107"
	codeBadRequest   = "E0110" // prefix: the request itself is malformed
)

// An upstreamRefusal is a 4xx of Descope's own: JSON with an error code. It says
// something about the request. Any other answer says something about the way to
// Descope and is "cannot tell".
type upstreamRefusal struct {
	status int
	code   string
}

func (e *upstreamRefusal) Error() string { return "descopehttp: Descope answered " + e.code }

// endsSession reports whether the code is known to mean that the refresh token
// will never work again.
func (e *upstreamRefusal) endsSession() bool {
	return e.code == codeInvalidToken || e.code == codeTokenRevoked
}

func endsSession(err error) bool {
	var refused *upstreamRefusal
	return errors.As(err, &refused) && refused.endsSession()
}

// keys fetches the project's key set.
func (c *api) keys(ctx context.Context) ([]byte, error) {
	res, err := c.send(ctx, c.keyClient, http.MethodGet, pathKeys+c.projectID, "", nil, maxKeySetSize)
	if err != nil {
		return nil, err
	}
	return res.body, nil
}

// An answer is a 200 of Descope with JSON in it.
type answer struct {
	body    jsontext.Value
	cookies []*http.Cookie
}

// call makes one call of the authentication API. token, if not nil, is the
// refresh token of the user it is about; body is JSON or nil.
func (c *api) call(ctx context.Context, class class, method, path string, token *token, body []byte) (*answer, error) {
	if err := c.strangers.enter(token, time.Now()); err != nil {
		return nil, err
	}
	g := c.gates[class]
	if err := g.enter(time.Now()); err != nil {
		return nil, err
	}
	raw := ""
	if token != nil {
		raw = token.raw
	}
	res, err := c.send(ctx, c.client, method, path, raw, body, maxAnswerSize)
	g.leave(time.Now(), err)
	if err != nil {
		return nil, err
	}
	if kind := jsontext.Value(res.body).Kind(); kind != '{' && kind != '[' || !jsontext.Value(res.body).IsValid() {
		return nil, problemUnavailable.because("Descope's answer is not JSON")
	}
	c.strangers.accept(token, time.Now())
	return &answer{body: res.body, cookies: res.cookies}, nil
}

type response struct {
	body    []byte
	cookies []*http.Cookie
}

func (c *api) send(ctx context.Context, client *http.Client, method, path, token string, body []byte, limit int64) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, problemInternal.because("request could not be built")
	}
	req.Header.Set("Authorization", "Bearer "+c.authorization(token))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent) // Descope's edge turns away clients without one
	req.Header.Set("X-Descope-Project-Id", c.projectID)
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
		return nil, problemUnavailable.because("Descope's answer is too large")
	case resp.StatusCode != http.StatusOK:
		return nil, statusFailure(resp, content)
	}
	return &response{body: content, cookies: resp.Cookies()}, nil
}

// authorization joins project id, token and management key the way Descope's
// clients do: parts that are absent leave no gap.
func (c *api) authorization(token string) string {
	parts := []string{c.projectID}
	for _, part := range []string{token, c.key.value()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ":")
}

// A calmTransport turns a panic of the user's transport, which goes on working
// while the body of its answer is read, into an error. Calls are made in
// goroutines where nobody else recovers, so it would end the process.
type calmTransport struct{ http.RoundTripper }

var errTransportPanic = errors.New("descopehttp: the HTTP transport panicked")

// RoundTrip implements [http.RoundTripper].
func (t calmTransport) RoundTrip(r *http.Request) (res *http.Response, err error) {
	defer calm(&err, errTransportPanic)
	res, err = t.RoundTripper.RoundTrip(r)
	if res != nil && res.Body != nil {
		res.Body = calmBody{res.Body}
	}
	return res, err
}

type calmBody struct{ io.ReadCloser }

// Read implements [io.Reader].
func (b calmBody) Read(p []byte) (n int, err error) {
	defer calm(&err, errTransportPanic)
	return b.ReadCloser.Read(p)
}

// Close implements [io.Closer].
func (b calmBody) Close() (err error) {
	defer calm(&err, errTransportPanic)
	return b.ReadCloser.Close()
}

func calm(err *error, instead error) {
	if recover() != nil {
		*err = instead
	}
}

// transportFailure names what went wrong in fixed words. The error itself may
// quote anything that a transport put into it.
func transportFailure(err error) *failure {
	f := &failure{problem: problemUnavailable, reason: "connection to Descope failed", unreachable: true}
	var timeout interface{ Timeout() bool }
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		f.reason, f.timeout = "Descope did not answer in time", true
	case errors.Is(err, errTransportPanic):
		f.reason = "the HTTP transport panicked"
	case errors.Is(err, context.Canceled):
		f.reason, f.unreachable, f.hungUp = "the call to Descope was cancelled", false, true
	case errors.As(err, &dns):
		f.reason = "Descope's host name was not resolved"
	case errors.As(err, &cert):
		f.reason = "Descope's certificate was not trusted"
	}
	return f
}

var errorCodePattern = regexp.MustCompile(`^E[0-9]{4,9}$`)

func statusFailure(resp *http.Response, content []byte) error {
	status := resp.StatusCode
	if status == http.StatusTooManyRequests {
		return &failure{problem: problemUnavailable, reason: "Descope asks for fewer calls (429)",
			retryAfter: retryAfter(resp.Header), cause: errUpstreamLimit}
	}
	var body struct {
		ErrorCode string `json:"errorCode"`
	}
	lenient := json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if status/100 == 4 && json.Unmarshal(content, &body, lenient) == nil && errorCodePattern.MatchString(body.ErrorCode) {
		return &upstreamRefusal{status: status, code: body.ErrorCode}
	}
	return &failure{
		problem:     problemUnavailable,
		reason:      "Descope answered " + strconv.Itoa(status),
		retryAfter:  retryAfter(resp.Header),
		unreachable: isGatewayTrouble(status),
	}
}

// isGatewayTrouble tells an outage from an answer to one odd request. What a
// client can provoke, such as the 403 of a firewall or a 500, must not count:
// it would let one client stop the calls of all.
func isGatewayTrouble(status int) bool {
	return 502 <= status && status <= 504 || 520 <= status && status <= 530
}

const (
	defaultRetryAfter = 5 * time.Second
	maxRetryAfter     = 5 * time.Minute
)

// retryAfter reads Retry-After in seconds, the form that Descope sends.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds <= 0 {
		return defaultRetryAfter
	}
	return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
}

// checkNewKey checks that an answer to a sign-up or an update has a key in it.
func checkNewKey(a *answer) error {
	var body struct {
		Key string `json:"key"`
	}
	if json.Unmarshal(a.body, &body) != nil || body.Key == "" {
		return problemUnavailable.because("Descope's answer has no key")
	}
	return nil
}

// tokenAnswer is an answer that signs somebody in: sign-in, refresh, or another
// tenant selected. Only the two tokens are understood; all other members are
// passed on as they came.
type tokenAnswer struct {
	session, refresh string
	body             jsontext.Value // with both tokens empty
}

// tokensOf finds the tokens in an answer: in the body, or, in projects that
// deliver them as cookies, in Set-Cookie under the names that the body announces.
func tokensOf(a *answer) (*tokenAnswer, error) {
	var body struct {
		SessionJWT        string `json:"sessionJwt"`
		RefreshJWT        string `json:"refreshJwt"`
		CookieName        string `json:"cookieName"`
		SessionCookieName string `json:"sessionCookieName"`
	}
	if json.Unmarshal(a.body, &body) != nil {
		return nil, problemUnavailable.because("Descope's answer has an unexpected form")
	}
	rest, err := withTokens(a.body, "", "") // answers are remembered, and tokens are large
	if err != nil {
		return nil, err
	}
	t := &tokenAnswer{session: body.SessionJWT, refresh: body.RefreshJWT, body: rest}
	for _, c := range a.cookies {
		switch c.Name {
		case cmp.Or(body.SessionCookieName, sessionDRN):
			t.session = cmp.Or(t.session, c.Value)
		case cmp.Or(body.CookieName, refreshDRN):
			t.refresh = cmp.Or(t.refresh, c.Value)
		}
	}
	return t, nil
}

// withTokens returns the JSON object body with its two tokens replaced, every
// other member and their order kept.
func withTokens(body jsontext.Value, session, refresh string) (jsontext.Value, error) {
	var members orderedObject
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, problemUnavailable.because("Descope's answer has an unexpected form")
	}
	members.set("sessionJwt", session)
	members.set("refreshJwt", refresh)
	return json.Marshal(&members)
}

// orderedObject is a JSON object as a list of members.
type orderedObject []member

type member struct {
	name  string
	value jsontext.Value
}

func (o *orderedObject) set(name, value string) {
	quoted, _ := jsontext.AppendQuote(nil, value)
	for i := range *o {
		if (*o)[i].name == name {
			(*o)[i].value = quoted
			return
		}
	}
	*o = append(*o, member{name, quoted})
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (o *orderedObject) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return eachMember(dec, func(quoted jsontext.Value) error {
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return err
		}
		value, err := dec.ReadValue()
		*o = append(*o, member{string(name), value.Clone()})
		return err
	})
}

// MarshalJSONTo implements [json.MarshalerTo].
func (o *orderedObject) MarshalJSONTo(enc *jsontext.Encoder) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, m := range *o {
		if err := enc.WriteToken(jsontext.String(m.name)); err != nil {
			return err
		}
		if err := enc.WriteValue(m.value); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}
