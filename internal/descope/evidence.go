package descope

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// evidenceKept is how long an answer speaks for the configuration: it may have changed
// since.
const evidenceKept = 10 * time.Minute

// evidence tells a refusal of one user from one of all. While calls of ours with the same
// configuration are answered, a refusal cannot be about the configuration.
type evidence struct {
	log  *slog.Logger
	line rate.Sometimes // one line a minute

	mu       sync.Mutex
	answered time.Time // when Descope last answered any call
	signedIn time.Time // the same, for a call with a code
	odd      time.Time // the first refusal of such a call that may be about the configuration
}

// note looks at how a call ended.
func (e *evidence) note(class Class, now time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	withCode := class == Anonymous || class == SecondFactor
	if err == nil {
		e.answered = now
		if withCode {
			e.signedIn = now
		}
		return
	}
	var refused *Refusal
	if !errors.As(err, &refused) || refused.IsGuess() || !withCode && refused.Meaning != NoProject {
		return
	}
	if e.odd.IsZero() || now.Sub(e.signedIn) > evidenceKept {
		e.odd = now
	}
	refused.othersPass = e.signedIn.After(e.odd)
	e.tell(refused)
}

// tell has the operator look at the right place.
func (e *evidence) tell(refused *Refusal) {
	if e.log == nil {
		return
	}
	text := "descopehttp: Descope refuses sign-ins for a reason that is not known to be the user's; is TOTP enabled in Descope's console? Config.WrongCode names codes that are the user's"
	switch refused.Meaning {
	case NoProject, NotFound:
		text = "descopehttp: Descope knows no such project; look at Config.ProjectID and Config.BaseURL"
	case Caller:
		text = "descopehttp: Descope refuses who calls it; look at Config.AuthManagementKey and Config.ProjectID"
	}
	e.line.Do(func() {
		e.log.Error(text, slog.Int("status", refused.Status), slog.String("errorCode", refused.Code))
	})
}

// AnsweredSince reports whether Descope has answered any call since then.
func (c *Client) AnsweredSince(t time.Time) bool {
	c.evidence.mu.Lock()
	defer c.evidence.mu.Unlock()
	return c.evidence.answered.After(t)
}
