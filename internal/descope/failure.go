package descope

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// Error codes of Descope that decide something here.
const (
	codeInvalidToken = "E061005" // the refresh token is not a valid one
	codeTokenRevoked = "E064001" // the refresh token was ended by a logout
	codeUserExists   = "E062107"
	codeBadRequest   = "E0110" // prefix: the request itself is malformed
)

// A Refusal is a 4xx of Descope's own: JSON with an error code. It says
// something about the request. Any other answer says something about the way to
// Descope and is "cannot tell".
type Refusal struct {
	Status int
	Code   string // E and digits, so that it may be logged
}

// Error names the code.
func (e *Refusal) Error() string { return "descopehttp: Descope answered " + e.Code }

// UserExists reports whether a sign-up was refused because there is such a user.
func (e *Refusal) UserExists() bool { return e.Code == codeUserExists }

// Malformed reports whether Descope could make nothing of the request, whoever it is
// about.
func (e *Refusal) Malformed() bool { return strings.HasPrefix(e.Code, codeBadRequest) }

// IsLogout reports whether the token was refused because it was ended by a logout.
func (e *Refusal) IsLogout() bool { return e != nil && e.Code == codeTokenRevoked }

// EndsSession reports whether err is a refusal that is known to mean that the refresh
// token will never work again.
func EndsSession(err error) bool {
	var refused *Refusal
	return errors.As(err, &refused) && (refused.Code == codeInvalidToken || refused.Code == codeTokenRevoked)
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

// statusFailure tells an answer other than a 200 that is about the request from one
// that is about the way.
func statusFailure(resp *http.Response, content []byte) error {
	status := resp.StatusCode
	f := &Failure{problem.Unavailable.Because("Descope answered " + strconv.Itoa(status)), Reached}
	f.RetryAfter = retryAfter(resp.Header)
	if status == http.StatusTooManyRequests {
		f.Reason, f.Cause = "Descope asks for fewer calls (429)", ErrLimit
		return f
	}
	var body struct {
		ErrorCode string `json:"errorCode"`
	}
	lenient := json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if status/100 == 4 && json.Unmarshal(content, &body, lenient) == nil && errorCodePattern.MatchString(body.ErrorCode) {
		return &Refusal{Status: status, Code: body.ErrorCode}
	}
	if isGatewayTrouble(status) {
		f.Reach = Unreached
	}
	return f
}

// isGatewayTrouble tells an outage from an answer to one odd request. What a
// client can provoke, such as the 403 of a firewall or a 500, must not count:
// it would let one client stop the calls of all.
func isGatewayTrouble(status int) bool {
	return 502 <= status && status <= 504 || 520 <= status && status <= 530
}

const maxRetryAfter = 5 * time.Minute

// retryAfter reads Retry-After in seconds, the form that Descope sends.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds <= 0 {
		return problem.DefaultRetryAfter
	}
	return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
}
