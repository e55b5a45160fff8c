package descopehttp

import (
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/guess"
)

// Limits are numbers that a site can outgrow. Zero is the default of each. They hold for
// one Auth: Descope counts by address, so divide what it grants by the replicas behind one.
type Limits struct {
	// SessionCalls are calls to Descope a second that renew or end sessions. Three
	// seconds' calls may come at once, here and below, and a call waits three seconds at
	// most for its turn. The default is 45: a session of ten minutes for each of 27,000
	// users. The defaults of the four stay under what Descope grants a backend together,
	// 1,000 calls in ten seconds (Descope, "Rate limits").
	SessionCalls int
	// AccountCalls are those about a signed-in user. The default is 10.
	AccountCalls int
	// SecondFactorCalls are those with a code of a signed-in user. The default is 5.
	SecondFactorCalls int
	// SignInCalls are sign-ins and sign-ups. The default is 15.
	SignInCalls int

	// GuessesPerLogin are codes tried for one login ID from one network in ten minutes:
	// an IPv4 address or an IPv6 /64. The default is 10. A right one does not count.
	GuessesPerLogin int
	// GuessesPerDay are those for one login ID from all networks that it has never
	// signed in from, and from each that it has. The default is 50.
	GuessesPerDay int
	// GuessesPerNetwork are wrong codes from one network in ten minutes, whatever the
	// login IDs. The default is 100.
	GuessesPerNetwork int
	// SignUpsPerNetwork are sign-ups from one network in ten minutes. The default is 60.
	SignUpsPerNetwork int

	// EarlyRenewal is no number. The default is EarlyWithoutRotation.
	EarlyRenewal EarlyRenewal
}

// EarlyRenewal says when a session is renewed once 40 to 45 percent of its life are over,
// by a request that has cookies for it, so that an outage of Descope for half of a
// session's life goes unseen by whoever is active. It takes up to two and a half times as
// many calls, but no more than four fifths of Limits.SessionCalls with all that is due; and
// one a second until Descope has answered a hundred within a minute, which is more than it
// grants anybody, and none for a day once it has asked for fewer.
//
// With rotation, the new refresh token is in the memory of this process alone until the
// answer has reached the browser: what kills the process then signs somebody out.
type EarlyRenewal int

const (
	EarlyWithoutRotation EarlyRenewal = iota // where Descope has been seen not to rotate refresh tokens
	EarlyAlways                              // with rotation as well
	EarlyNever                               // only shortly before the end
)

func (l *Limits) calls() descope.Limits {
	return descope.Limits{descope.Session: l.SessionCalls, descope.Account: l.AccountCalls, descope.SecondFactor: l.SecondFactorCalls, descope.Anonymous: l.SignInCalls}
}

func (l *Limits) guesses() guess.Limits {
	signIns, atOnce := l.calls().Of(descope.Anonymous)
	return guess.Limits{
		PerLogin: l.GuessesPerLogin, PerDay: l.GuessesPerDay, PerNetwork: l.GuessesPerNetwork, SignUps: l.SignUpsPerNetwork,
		Calls: signIns, CallsAtOnce: atOnce,
	}
}
