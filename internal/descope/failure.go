package descope

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/problem"
)

// A Refusal is a 4xx of Descope's own: JSON with an error code. It says
// something about the request. Any other answer says something about the way to
// Descope and is "cannot tell".
type Refusal struct {
	Status  int
	Code    string // E and digits, so that it may be logged
	Meaning Meaning

	othersPass bool // sign-ins of others were answered meanwhile
}

// Error names the code.
func (e *Refusal) Error() string { return "descopehttp: Descope answered " + e.Code }

// IsGuess reports whether a sign-in was refused for what was typed, or for the session that
// it adds to.
func (e *Refusal) IsGuess() bool {
	switch e.Meaning {
	case WrongCode, TooManyAttempts, UserExists, Malformed, TokenInvalid, TokenRevoked:
		return true
	}
	return false
}

// Counts reports whether it uses up a guess. What is not known to speak of the user is no
// guess, unless others sign in meanwhile: then it is this user's, and a code that nobody
// here knows may be Descope's word for a wrong one.
func (e *Refusal) Counts() bool { return e.IsGuess() || e.othersPass }

// IsLogout reports whether the token was refused because it was ended by a logout.
func (e *Refusal) IsLogout() bool { return e != nil && e.Meaning == TokenRevoked }

// MeaningOf returns what Descope said with err, NoVerdict if it said nothing.
func MeaningOf(err error) Meaning {
	var refused *Refusal
	if errors.As(err, &refused) {
		return refused.Meaning
	}
	return NoVerdict
}

// EndsSession reports whether err is a refusal that is known to mean that the refresh
// token will never work again.
func EndsSession(err error) bool {
	m := MeaningOf(err)
	return m == TokenInvalid || m == TokenRevoked
}

// MayEndSession reports whether err, of a refresh, is a refusal that is about the refresh
// token, its user, or who calls, and that does not say which. Whether other calls are
// answered tells the two apart.
func MayEndSession(err error) bool {
	switch MeaningOf(err) {
	case NoVerdict, TokenInvalid, TokenRevoked, Malformed, NoProject:
		return false
	}
	return true
}

// RefusesCaller reports whether err is a refusal of who calls, which is one user or all.
func RefusesCaller(err error) bool {
	m := MeaningOf(err)
	return m == Caller || m == TokenRefused
}

// IsOver reports whether err, of a logout, says that there is nothing left to end: the
// token or its user is refused, and not who calls.
func (c *Client) IsOver(err error) bool {
	switch MeaningOf(err) {
	case TokenInvalid, TokenRevoked, TokenRefused, WrongCode:
		return true
	case Caller, NotFound:
		return c.AnsweredSince(time.Now().Add(-time.Minute))
	}
	return false
}

// A Failure is a call that brought no answer of Descope's own. It wraps what a client
// is told, which is "cannot tell".
type Failure struct {
	*problem.Failure
	Reach Reach
}

// Unwrap returns what a client is told.
func (f *Failure) Unwrap() error { return f.Failure }

// Reach says how far a call got.
type Reach int

const (
	Reached   Reach = iota // something answered
	Unreached              // nothing did, or a gateway that could not get through
	HungUp                 // who asked did not wait, which says nothing about Descope
	Unsent                 // the call was never made
)

// ReachOf returns how far the call got that ended with err.
func ReachOf(err error) Reach {
	var f *Failure
	if errors.As(err, &f) {
		return f.Reach
	}
	return Reached
}

// outcomeOf says in a word how a call ended, and with which code of Descope's.
func outcomeOf(err error) (code, outcome string) {
	var refused *Refusal
	switch reach := ReachOf(err); {
	case err == nil:
		return "", notice.OK
	case errors.As(err, &refused):
		return refused.Code, notice.RefusedSo
	case reach == Unsent:
		return "", "held_back"
	case reach == HungUp:
		return "", "hung_up"
	case reach == Unreached:
		return "", "unreached"
	case errors.Is(err, ErrLimit):
		return "", notice.Limited
	}
	return "", notice.Unknown
}

// ErrLimit is wrapped where there were too many calls, by Descope's account or by ours.
var ErrLimit = errors.New("descopehttp: rate limit")

// ErrShare is wrapped where one user, or one network, made too many calls.
var ErrShare = errors.New("descopehttp: more than a fair share")

// unsent is a call that was not made, for a reason that passes.
func unsent(reason string, wait time.Duration, cause error) error {
	return &Failure{&problem.Failure{Problem: problem.Unavailable, Reason: reason, RetryAfter: wait, Cause: cause}, Unsent}
}

// transportFailure names what went wrong in fixed words. The error itself may
// quote anything that a transport put into it.
func transportFailure(err error) error {
	f := &Failure{problem.Unavailable.Because("connection to Descope failed"), Unreached}
	var timeout interface{ Timeout() bool }
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		f.Reason, f.Timeout = "Descope did not answer in time", true
	case errors.Is(err, errTransportPanic):
		f.Reason = "the HTTP transport panicked"
	case errors.Is(err, context.Canceled):
		f.Reason, f.Reach = "the call to Descope was cancelled", HungUp
	case errors.As(err, &dns):
		f.Reason = "Descope's host name was not resolved"
	case errors.As(err, &cert):
		f.Reason = "Descope's certificate was not trusted"
	}
	return f
}

var errorCodePattern = regexp.MustCompile(`^E[0-9]{4,9}$`)

// statusFailure tells an answer that is about the request from one that is about the way.
func (r Rules) statusFailure(resp *http.Response, content []byte) error {
	status := resp.StatusCode
	f := &Failure{problem.Unavailable.Because("Descope answered " + strconv.Itoa(status)), Reached}
	f.RetryAfter = retryAfter(resp.Header)
	code := errorCode(content)
	switch meaning := r.meaningOf(status, code); meaning {
	case NoVerdict:
	case GatewayTrouble:
		f.Reach = Unreached
	case RateLimit:
		f.Reason, f.Cause = "Descope asks for fewer calls (429)", ErrLimit
	default:
		return &Refusal{Status: status, Code: code, Meaning: meaning}
	}
	return f
}

// errorCode returns Descope's code in an answer, or "": then it is not Descope's own.
func errorCode(content []byte) string {
	var body struct {
		ErrorCode string `json:"errorCode"`
	}
	lenient := json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if json.Unmarshal(content, &body, lenient) != nil || !errorCodePattern.MatchString(body.ErrorCode) {
		return ""
	}
	return body.ErrorCode
}

const maxRetryAfter = 5 * time.Minute

// retryAfter reads Retry-After in seconds, the form that Descope sends; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
}
