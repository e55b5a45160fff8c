package races_test

import (
	"flag"
	"time"

	"pgregory.net/rapid"

	"github.com/descopehttp/descopehttp/descopetest"
)

// The contract of renewing has twelve rules. Those that can be told from outside are
// checks here, by number, with the actions that are needed to break them. What a rule
// allows is counted as "excluded: rule …".
//
// Not judged here: rule 9, what is evicted first, for which there is too little memory
// in use, and rule 10, how long a lock is held. Of rule 8 the pauses are judged and not
// that others go on. Of rule 2 a logout everywhere is judged by what is handed out.

// only narrows what fails to the rules whose name it is part of, such as "rule 7a".
var only = flag.String("only", "", "judge by the rules with this in their name")

// The names of the rules in violations.
const (
	ruleOwner    = "rule 1: nobody else's"
	ruleWhole    = "rule 2: a logout is whole: nothing handed out later"
	ruleMarks    = "rule 2: a logout is whole: the marks of one that failed stay"
	ruleRevoked  = "rule 2: a logout is whole: nothing honoured later"
	ruleOlder    = "rule 3: no newer token for an older holder"
	ruleLate     = "rule 4: a late holder costs no call"
	ruleLeft     = "rules 3 and 4: a holder of what minting left in force is late, too"
	ruleLateSays = "rule 4: a late holder is told so"
	ruleOne      = "rule 5: one spending call at a time"
	ruleQuiet    = "rule 5: nothing is asked about a token that is being spent"
	ruleAir      = "rule 6: a spending call lives 30 s"
	ruleKept     = "rule 6: an answer that spent a token is kept and delivered"
	ruleBudget   = "rule 6: who waits leaves after its own budget"
	ruleSpent    = "rule 7a: Descope is not asked about a spent token"
	ruleKeep     = "rule 7a: a spent token deletes no cookies"
	ruleSignOut  = "rule 7b: nobody is signed out who is not refused"
	ruleTwice    = "rule 7b: cookies go after two refusals, 10 s apart"
	ruleApart    = "rule 7b: the second question comes 10 s after the first"
	ruleFirst    = "rule 7b: the first refusal is a 502 in flows"
	rulePause    = "rule 8: trouble at Descope is waited out"
	ruleInside   = "rule 11: flows live inside the middleware"
	ruleDoubt    = "rule 12: no refusal is final in doubt"
	ruleCalm     = "calm"
	ruleWell     = "everybody is in again"
)

// tenant is one that all users are members of.
const tenant = "T1"

// A mount is where the flows are: by themselves, or behind a middleware of the same Auth.
type mount int

const (
	bare mount = iota
	inLoad
	inRequire

	mounts // how many there are
)

func (m mount) String() string {
	return [...]string{"bare", "inside LoadSession", "inside RequireSession"}[m]
}

// steal puts cookies that somebody of the same user once had into a browser: a thief's,
// or one that was restored from an older jar.
type steal struct {
	From, To int // browsers
	Back     int // handouts ago
}

func (s steal) do(w *world) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to := w.browsers[s.From%len(w.browsers)], w.browsers[s.To%len(w.browsers)]
	if from.user != to.user {
		return
	}
	given := w.handed[from.user]
	to.jar = given[len(given)-1-s.Back%len(given)]
	w.note("browser %d has a copy: %s, %s", to.index, w.nameOf(to.jar.session), w.nameOf(to.jar.refresh))
}

// actions are what the contract is about: also what the checks of before do not
// bear. Logouts are rare, because little can go wrong after one.
func actions(s setup) []rapidAction {
	steals := rapid.Custom(func(t *rapid.T) action {
		return steal{
			From: rapid.IntRange(0, len(s.Browsers)-1).Draw(t, "from"),
			To:   rapid.IntRange(0, len(s.Browsers)-1).Draw(t, "to"),
			Back: rapid.IntRange(0, 5).Draw(t, "back"),
		}
	})
	seldom := rapid.Custom(func(t *rapid.T) action {
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			return endAll{0}
		case 1:
			return rotateKeys{rapid.SampledFrom([]time.Duration{0, 2 * sec, 8 * sec}).Draw(t, "delay")}
		}
		return switchRotation{rapid.Bool().Draw(t, "on")}
	})
	kinds := []rapidAction{faults(), slowAnswers(), slowAnswers(), seldom, steals, bursts(s), bursts(s)}
	if s.Shared {
		kinds = append(kinds, storeTroubles(s), restarts(s))
	}
	for range 14 {
		kinds = append(kinds, asks(s))
	}
	return kinds
}

func asks(s setup) rapidAction {
	kinds := []kind{askPage, askPage, askPage, askPage, askPage, askPage, askMe, askMe, askRefresh, askRefresh, askRefresh, askTryRefresh,
		askSignIn, askSignIn, askSignIn, askStepUp, askMFA, askSelect, askSelect, askUpdate, askLogout, askLogout, askLogoutAll}
	one := rapid.Custom(func(t *rapid.T) ask {
		return ask{
			Kind:    rapid.SampledFrom(kinds).Draw(t, "kind"),
			Browser: rapid.IntRange(0, len(s.Browsers)-1).Draw(t, "browser"),
			Replica: rapid.IntRange(0, s.Replicas-1).Draw(t, "replica"),
			In:      rapid.SampledFrom([]time.Duration{0, 0, 0, 2 * ms, 400 * ms, 6 * sec}).Draw(t, "in"),
			Out:     rapid.SampledFrom([]time.Duration{0, 0, 0, 50 * ms, 2 * sec}).Draw(t, "out"),
			HangUp:  rapid.SampledFrom([]time.Duration{0, 0, 0, 0, 0, 40 * ms, 3 * sec, 8 * sec}).Draw(t, "hang up"),
			Lost:    rapid.SampledFrom([]bool{false, false, false, false, true}).Draw(t, "lost"),
			Mount:   rapid.SampledFrom([]mount{bare, bare, bare, inLoad, inRequire}).Draw(t, "mount"),
			Old:     rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 2, 3, 5}).Draw(t, "old"),
		}
	})
	return rapid.Map(rapid.SliceOfN(one, 1, 4), func(a []ask) action { return askFor(a) })
}

// bursts are requests of one browser that reach all replicas at once.
func bursts(s setup) rapidAction {
	return rapid.Custom(func(t *rapid.T) action {
		one := ask{
			Kind:    rapid.SampledFrom([]kind{askRefresh, askRefresh, askPage, askSelect, askMe, askStepUp}).Draw(t, "kind"),
			Browser: rapid.IntRange(0, len(s.Browsers)-1).Draw(t, "browser"),
			Old:     rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "old"),
			In:      rapid.SampledFrom([]time.Duration{0, 10 * ms}).Draw(t, "in"),
		}
		var all askFor
		for i := range max(2, s.Replicas) {
			one.Replica = i % s.Replicas
			all = append(all, one)
		}
		return all
	})
}

// slowAnswers are those of a Descope that does answer, in the end.
func slowAnswers() rapidAction {
	return rapid.Custom(func(t *rapid.T) action {
		return upstreamFault{
			Path: rapid.SampledFrom([]string{refreshPath, refreshPath, selectPath, verifyPath, mePath, logoutPath}).Draw(t, "path"),
			Fault: descopetest.Fault{
				Delay: rapid.SampledFrom([]time.Duration{5 * sec, 7 * sec, 12 * sec, 18 * sec, 25 * sec}).Draw(t, "delay"),
				After: rapid.Bool().Draw(t, "spent first"),
				Times: rapid.IntRange(1, 3).Draw(t, "times"),
			},
		}
	})
}
