package descopehttp

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// A Guard decides whether a session is enough for a request. It returns nil, or
// an error: one that wraps an error of this package is answered as such, any
// other is a 403 whose text the client does not see. A Guard must be safe for
// concurrent use.
//
// One's own is a function:
//
//	func owner(r *http.Request, s *descopehttp.Session) error {
//		if r.PathValue("user") != s.Subject() {
//			return descopehttp.ErrForbidden
//		}
//		return nil
//	}
type Guard func(*http.Request, *Session) error

// Role returns a Guard that asks for a role in the project as a whole. A role in
// a tenant does not count, even in the tenant that the user is working in: the
// admin of one tenant is not an admin of all. It answers 403 missing_role.
func Role(role string) Guard {
	return func(_ *http.Request, s *Session) error {
		return hold(s.HasRole("", role), problem.MissingRole)
	}
}

// Permission returns a Guard that asks for a permission in the project as a
// whole, as [Role] does for roles. It answers 403 missing_permission.
func Permission(permission string) Guard {
	return func(_ *http.Request, s *Session) error {
		return hold(s.HasPermission("", permission), problem.MissingPermission)
	}
}

// TenantRole returns a Guard that asks for a role in the tenant with the id that
// tenant returns for the request; often that is part of the path:
//
//	TenantRole(func(r *http.Request) string { return r.PathValue("tenant") }, "admin")
//
// An empty id is refused: it never stands for the project. It answers 403
// missing_role.
func TenantRole(tenant func(*http.Request) string, role string) Guard {
	return func(r *http.Request, s *Session) error {
		id := tenant(r)
		return hold(id != "" && s.HasRole(id, role), problem.MissingRole)
	}
}

// TenantPermission returns a Guard that asks for a permission in a tenant, as
// [TenantRole] does for roles. It answers 403 missing_permission.
func TenantPermission(tenant func(*http.Request) string, permission string) Guard {
	return func(r *http.Request, s *Session) error {
		id := tenant(r)
		return hold(id != "" && s.HasPermission(id, permission), problem.MissingPermission)
	}
}

// StepUp returns a Guard that asks for a step-up: a user who has just proved
// again who they are, with loginOptions.stepup. It answers 401 step_up_required
// with the challenge of RFC 9470, so that a client knows to ask for a code.
func StepUp() Guard {
	return func(_ *http.Request, s *Session) error { return hold(s.StepUp(), problem.StepUp) }
}

// StepUpWithin returns a Guard that asks for a code typed at most d ago: in a step-up, or in
// the sign-in or other verify through this Auth that brought the very session token of the
// request. A renewal ends that, whatever its "iat" says, and so does a sign-out; replicas
// know of each other's for ten minutes with a Config.RefreshStore, and ask again without
// one. It answers 401 step_up_required with the challenge of RFC 9470, d as its max_age. It
// panics unless d is a second or more.
func StepUpWithin(d time.Duration) Guard {
	if d < time.Second {
		panic("descopehttp: StepUpWithin needs a second or more")
	}
	return func(r *http.Request, s *Session) error {
		if c := sessionContextOf(r.Context()); c != nil && c.owner != nil {
			if c.owner.codeTyped(r.Context(), s, d) {
				return nil
			}
		} else if s.StepUp() && time.Since(s.IssuedAt()) <= d { // nobody knows more of it
			return nil
		}
		return &problem.Failure{Problem: problem.StepUp, MaxAge: d}
	}
}

// MFA returns a Guard that asks for a user who signed in with more than one
// factor: "mfa" among the "amr" of the session. It answers 401 mfa_required with
// the challenge of RFC 9470.
func MFA() Guard {
	return func(_ *http.Request, s *Session) error {
		return hold(slices.Contains(s.AuthMethods(), "mfa"), problem.MFA)
	}
}

// AnyOf returns a Guard that is content when one of guards is. Otherwise it
// returns the error of the first; without guards it refuses everybody. It panics if one
// is nil.
func AnyOf(guards ...Guard) Guard {
	mustNotBeNil(guards)
	return func(r *http.Request, s *Session) error {
		first := ErrForbidden
		for i, guard := range guards {
			err := guard(r, s)
			if err == nil {
				return nil
			}
			if i == 0 {
				first = err
			}
		}
		return first
	}
}

// mustNotBeNil finds a mistake when routes are made, not at the first request.
func mustNotBeNil(guards []Guard) {
	if slices.ContainsFunc(guards, func(g Guard) bool { return g == nil }) {
		panic("descopehttp: a guard is nil")
	}
}

func hold(held bool, otherwise *problem.Problem) error {
	if held {
		return nil
	}
	return otherwise.Because("")
}

func checkGuards(r *http.Request, s *Session, guards []Guard) error {
	for _, guard := range guards {
		if err := guard(r, s); err != nil {
			return guardFailure(err)
		}
	}
	return nil
}

// guardFailure turns the error of a guard into a failure. What a guard of the
// user's own says is for the log.
func guardFailure(err error) *problem.Failure {
	var f *problem.Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, ErrStepUpRequired):
		return &problem.Failure{Problem: problem.StepUp, Cause: err}
	}
	return &problem.Failure{Problem: problem.Forbidden, Reason: "a guard refused the session", Cause: err}
}
