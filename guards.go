package descopehttp

import "errors"

// guardFailure turns the error of a guard into a failure. What a guard of the
// user's own says is for the log.
func guardFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{problem: problemForbidden, reason: "a guard refused the session", cause: err}
}
