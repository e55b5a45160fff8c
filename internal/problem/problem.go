// Package problem is the one place where an error becomes an answer.
//
// Whatever goes wrong is a [Failure] of one [Problem] of the table in table.go, which
// has its status, its code and its text for the client. [Of] finds it in any error;
// [Write] answers with it in the middleware and [WriteFlow] in the flows, whose
// clients read some statuses in a way of their own.
//
// A new way to fail is a line in the table, with a fixed text: nothing that a client
// or Descope sent may reach an answer or a log line by way of an error.
package problem

import (
	"cmp"
	"errors"
	"time"
)

// What callers tell apart. The root package documents and exports them.
var (
	ErrNoSession      = errors.New("descopehttp: no session")
	ErrInvalidToken   = errors.New("descopehttp: invalid token")
	ErrSessionExpired = errors.New("descopehttp: session expired")
	ErrSessionEnded   = errors.New("descopehttp: session ended")
	ErrCrossOrigin    = errors.New("descopehttp: cross-origin request")
	ErrForbidden      = errors.New("descopehttp: forbidden")
	ErrStepUpRequired = errors.New("descopehttp: step-up required")
	ErrUnavailable    = errors.New("descopehttp: cannot tell")
)

// A Failure is a problem that happened: the half for the client points into the
// table, the other half is for the log and never leaves the server. Its texts are
// fixed: no part of a request is ever in one.
type Failure struct {
	*Problem
	Reason     string        // for the log
	Field      string        // the field of a 400, one of our own names
	Allow      string        // Allow of a 405
	Cause      error         // for errors.Is and the log; nil if there is none
	RetryAfter time.Duration // 0: the default, where waiting helps

	MaxAge        time.Duration // how long ago a code may have been typed; 0 for no matter
	Timeout       bool          // "cannot tell", because it took too long
	DeleteCookies bool          // they can never work again
}

// Because returns a Failure with a reason for the log.
func (p *Problem) Because(reason string) *Failure { return &Failure{Problem: p, Reason: reason} }

// Error returns a fixed text: no part of a request is in it.
func (f *Failure) Error() string {
	text := "descopehttp: " + f.Code
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	return text
}

// Detail says to a client what happened.
func (f *Failure) Detail() string {
	if f.Field == "" {
		return f.detail
	}
	return f.detail[:len(f.detail)-1] + ": " + f.Field + "."
}

// Wait returns after how long a client may try again, 0 where waiting does not help.
func (f *Failure) Wait() time.Duration {
	if f.is == ErrUnavailable || f.RetryAfter > 0 {
		return cmp.Or(f.RetryAfter, DefaultRetryAfter)
	}
	return 0
}

// AsPublic, which the root package sets, fills target if it is a pointer to the root's own
// form of a Failure. That is declared there, where users read it.
var AsPublic func(f *Failure, target any) bool

// As lets [errors.As] find the root package's Problem.
func (f *Failure) As(target any) bool { return AsPublic != nil && AsPublic(f, target) }

// Unwrap lets [errors.Is] find what the problem is an example of, and its cause.
func (f *Failure) Unwrap() []error {
	var errs []error
	for _, err := range []error{f.is, f.Cause} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Of returns what err means to a client. What is none of our errors is a
// bare 500, its text left for the log.
func Of(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Problem: Internal, Reason: "unexpected error", Cause: err}
}
