package descope

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/internal/notice"
)

// evidenceKept is how long an answer speaks for the configuration: it may have changed
// since.
const evidenceKept = 10 * time.Minute

// evidence tells a refusal of one user from one of all. While calls of ours with the same
// configuration are answered, a refusal cannot be about the configuration.
type evidence struct {
	notices *notice.Reporter

	mu       sync.Mutex
	answered time.Time // when Descope last answered any call
	signedIn time.Time // the same, for a call with a code
	odd      time.Time // the first refusal of such a call that may be about the configuration
}

// note looks at how a call ended.
func (e *evidence) note(class Class, now time.Time, err error) {
	if refused := e.weigh(class, now, err); refused != nil {
		e.tell(refused)
	}
}

// weigh returns a refusal that may be about the configuration.
func (e *evidence) weigh(class Class, now time.Time, err error) *Refusal {
	e.mu.Lock()
	defer e.mu.Unlock()
	withCode := class == Anonymous || class == SecondFactor
	if err == nil {
		e.answered = now
		if withCode {
			e.signedIn = now
		}
		return nil
	}
	var refused *Refusal
	if !errors.As(err, &refused) || refused.IsGuess() || !withCode && refused.Meaning != NoProject {
		return nil
	}
	if e.odd.IsZero() || now.Sub(e.signedIn) > evidenceKept {
		e.odd = now
	}
	refused.othersPass = e.signedIn.After(e.odd)
	return refused
}

// tell has the operator look at the right place.
func (e *evidence) tell(refused *Refusal) {
	line := notice.UnknownCode
	switch refused.Meaning {
	case NoProject, NotFound:
		line = notice.UnknownProject
	case Caller:
		line = notice.CallerRefused
	}
	e.notices.Tell(context.Background(), line, notice.Fields{Code: refused.Code})
}

// AnsweredSince reports whether Descope has answered any call since then.
func (c *Client) AnsweredSince(t time.Time) bool {
	c.evidence.mu.Lock()
	defer c.evidence.mu.Unlock()
	return c.evidence.answered.After(t)
}
