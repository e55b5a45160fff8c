package races_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// judgeCall holds a call to Descope, as it begins, to what the contract says of calls.
func (w *world) judgeCall(c *call) {
	if c.token == nil {
		return
	}
	if c.path == refreshPath {
		w.counts["refreshes upstream"]++
	}
	if c.visit == nil {
		w.counts["calls that no request can be told to have begun"]++
	} else {
		c.visit.calls++
	}
	w.judgeSpent(c)
	w.judgeQuiet(c)
	defer func() { w.air = append(w.air, c) }()
	if !c.spends() {
		return
	}
	w.judgeAlone(c)
	if c.visit != nil {
		if late := c.visit.lateFor; late != nil && !w.couldNotAsk(c.visit) && c.path != verifyPath && c.token.signIn.ending.IsZero() {
			rule := ruleLate
			if c.visit.token.spent.IsZero() {
				rule = ruleLeft
			}
			w.violate(rule, "%v presented %s after %s was seen, and %s of %s is called", c.visit, c.visit.token.name, late.name, c.path, c.token.name)
		}
		if c.visit.Mount != bare && c.visit.Kind != askSelect && c.visit.Kind != askPage && c.path == refreshPath && c.visit.refreshed > 0 && c.visit.refused == nil && c.token.signIn.ending.IsZero() && !c.visit.replica.failing(c.visit.arrived.Add(-storeRest), time.Now()) {
			w.violate(ruleInside, "%v refreshes again", c.visit)
		}
	}
	if c.path == refreshPath {
		w.judgePause(c)
	}
}

// judgeSpent: Descope is not asked about a token that the replica or the store knows to
// be spent.
func (w *world) judgeSpent(c *call) {
	t := c.token
	if t.spent.IsZero() || !t.signIn.ending.IsZero() || !t.line.killed.IsZero() || c.path == logoutPath {
		return // a logout is to end the sign-in, and what was left behind goes with it
	}
	// The store was asked after the request arrived, and it may have waited since.
	asked := time.Now().Add(-10 * time.Second)
	if c.visit != nil {
		asked = c.visit.arrived
	}
	why := "nobody was told"
	for _, e := range t.kids {
		switch {
		case e.second:
			continue
		case e.by != c.replica && e.at.After(asked):
			why = "just being told"
			continue
		}
		if why = w.untoldWhy(e, c.replica, asked); why == "" && e.by != c.replica && c.replica.failing(asked.Add(-storeRest), time.Now()) {
			why = "the store could not be asked"
		}
		if why == "" {
			w.violate(ruleSpent, "%v asks %s about %s, which %v spent %v ago", c.replica, c.path, t.name, e.by, time.Since(e.at))
			return
		}
	}
	w.exclude("rule 7a: a spent token is asked about: " + why)
}

// judgeQuiet: a replica asks nothing else about a token that it is spending: what comes to
// Descope after that is about a spent token.
func (w *world) judgeQuiet(c *call) {
	for _, other := range w.air {
		if other.token == c.token && other.replica == c.replica && other.spends() != c.spends() && other.path != logoutPath && c.path != logoutPath {
			w.violate(ruleQuiet, "%v calls %s of %s while it calls %s", c.replica, c.path, c.token.name, other.path)
			return
		}
	}
}

// judgeAlone: one spending call at a time a line, over all replicas that reach the
// store, and one minting call at a time of what a replica knows to be one sign-in.
func (w *world) judgeAlone(c *call) {
	if !c.token.spent.IsZero() {
		return // which rule 7a is about
	}
	mints := c.path != refreshPath
	for _, other := range w.air {
		sameLine := other.token.line == c.token.line
		switch {
		case !other.spends():
			continue
		case !other.replica.crash.IsZero(), other.token.signIn != c.token.signIn:
			continue
		case !other.token.spent.IsZero() && other.token.spent.Before(other.began):
			continue
		case !sameLine && !(mints && other.path != refreshPath && other.replica == c.replica):
			continue
		case other.token != c.token && !(w.connected(other.token, c.token, c.replica) && w.connected(other.token, c.token, other.replica)),
			other.token != c.token && !slices.Contains(other.token.after(), c.token) && !slices.Contains(c.token.after(), other.token):
			w.exclude("rule 5: two spending calls at a time: nobody could tell that it is one sign-in")
			continue
		case c.token.cameMeanwhile(other):
			w.exclude("rule 5: two spending calls at a time: another replica had spent the token, too")
			continue
		case other.token != c.token && !c.token.signIn.ending.IsZero() && time.Since(c.token.signIn.ending) > storeLife:
			w.exclude("rule 5: two spending calls at a time: a logout is remembered for ten minutes")
			continue
		case other.replica == c.replica && (other.token == c.token || w.store == nil):
		case w.store == nil, w.storeFailed(other, c), w.wipedSince(other.began.Add(-storeTimeout)): // its claim was made before it
			w.exclude("rule 5: two spending calls at a time: the store did not answer, or was emptied")
			continue
		}
		w.violate(ruleOne, "%v calls %s of %s while %v calls %s of %s", c.replica, c.path, c.token.name, other.replica, other.path, other.token.name)
		return
	}
}

// cameMeanwhile reports whether another replica brought t for the token of a call that
// was under way then.
func (t *refreshToken) cameMeanwhile(c *call) bool {
	brought := false
	for ; t != c.token && t.from != nil; t = t.from.from {
		brought = t.from.by != c.replica && t.from.at.After(c.began)
	}
	return t == c.token && brought
}

// storeFailed reports whether one of two calls was begun, or its lease taken anew, by a
// replica that could not reach the store.
func (w *world) storeFailed(a, b *call) bool {
	return a.replica.failing(a.began.Add(-5*time.Second), time.Now()) || b.replica.failing(b.began.Add(-5*time.Second), time.Now())
}

// judgePause: after trouble with the refresh of a line it is asked again no sooner than
// after a second, two, four, up to 30.
func (w *world) judgePause(c *call) {
	tr := c.token.line.troubles[c.replica]
	if tr == nil || tr.token != c.token || !c.token.signIn.ending.IsZero() {
		return
	}
	pause := min(time.Second<<min(tr.times-1, 5), 30*time.Second)
	if since := time.Since(tr.last); since < pause-10*time.Millisecond {
		w.violate(rulePause, "%v refreshes %s again %v after the %d. failure in a row", c.replica, c.token.name, since, tr.times)
	}
}

// A doubt is an answer that is wrong if the token was good, which is judged when all is
// over.
type doubt struct {
	visit   *visit
	at      time.Time
	jar     *refreshToken // in the browser by then
	deletes bool          // cookies
	rule    string        // "": a refusal
}

// judgeAnswer holds an answer to the contract.
func (w *world) judgeAnswer(v *visit, set changes) {
	status := v.answer.status
	w.noteSeen(v)
	w.judgeWhole(v, set)
	w.judgeOlder(v, set)
	w.judgeWaiting(v)
	if v.Kind == askLogout || v.Kind == askLogoutAll {
		w.noteLogoutAnswered(v)
	}
	w.noteHanded(v, set)
	if v.token == nil || v.Kind == askSignIn {
		return
	}
	w.judgeLateStatus(v)
	refuses := status == http.StatusUnauthorized && v.code() != "invalid_code" || v.Kind == askTryRefresh && status == http.StatusOK && v.said() == "{}"
	d := doubt{visit: v, at: time.Now(), jar: w.refreshes[v.browser.jar.refresh]}
	if refuses && v.Kind != askLogout {
		w.doubts = append(w.doubts, d)
	}
	if deletesCookies(set) && v.Kind != askLogout && !(v.Kind == askLogoutAll && status == http.StatusOK) {
		d.deletes = true
		w.doubts = append(w.doubts, d)
	}
	waits := v.Mount == inLoad && v.answer.begun.Sub(v.arrived) >= loadBudget
	if status >= 500 && w.calm && !v.token.mayBeLate() && !waits {
		w.doubts = append(w.doubts, doubt{visit: v, at: d.at, rule: ruleCalm})
	}
	if r := v.refused; r != nil && r.code == "E061005" {
		w.refused = append(w.refused, refusedVisit{visit: v, at: d.at, refuses: refuses, deletes: deletesCookies(set)})
	}
}

func deletesCookies(set changes) bool { return set.refresh != nil && *set.refresh == "" }

func (v *visit) said() string { return strings.TrimSpace(v.answer.body.String()) }

func (v *visit) code() string {
	var problem struct{ Code string }
	_ = json.Unmarshal(v.answer.body.Bytes(), &problem)
	return problem.Code
}

// noteHanded enters what an answer gives away.
func (w *world) noteHanded(v *visit, set changes) {
	given := v.sent
	if set.session != nil {
		given.session = *set.session
	}
	if set.refresh != nil {
		given.refresh = *set.refresh
	}
	for _, raw := range []string{given.session, given.refresh} {
		if s := w.sessions[raw]; s != nil && raw != v.sent.session {
			s.known[v.replica] = true
			s.token.noteServed(v.replica)
		}
		if t := w.refreshes[raw]; t != nil && raw != v.sent.refresh {
			t.noteServed(v.replica)
		}
	}
	if _, raw := v.sessionIn(); w.sessions[raw] != nil && raw != v.sent.session {
		w.sessions[raw].known[v.replica] = true
		w.sessions[raw].token.noteServed(v.replica)
	}
	if given != v.sent && given.refresh != "" {
		w.handed[v.browser.user] = append(w.handed[v.browser.user], given)
	}
}

// judgeOlder: a holder gets tokens only if nothing newer than his own has been seen.
func (w *world) judgeOlder(v *visit, set changes) {
	second := (v.Kind == askStepUp || v.Kind == askMFA) && v.answer.status == http.StatusOK
	given := set.session != nil && *set.session != "" || set.refresh != nil && *set.refresh != ""
	if v.lateFor == nil || w.couldNotAsk(v) || second || v.Kind == askSignIn || !given {
		return
	}
	rule := ruleOlder
	if v.token.spent.IsZero() {
		rule = ruleLeft
	}
	w.violate(rule, "%v, with %s, gets tokens though %s was seen", v, v.token.name, v.lateFor.name)
}

// couldNotAsk reports whether the store was needed to tell that a holder is late, and did
// not answer.
func (w *world) couldNotAsk(v *visit) bool {
	needed := !w.hasShown(v.replica, v.lateFor, v.arrived)
	for t := v.lateFor; t != v.token; t = t.from.from {
		needed = needed || t.from.by != v.replica
	}
	return needed && v.replica.failing(v.arrived.Add(-storeRest), time.Now())
}

// judgeLateStatus: a late holder for whom memory has nothing is told so, each in the way
// that harms its client least.
func (w *world) judgeLateStatus(v *visit) {
	if v.lateFor == nil || v.Mount != bare || w.ended(v.token, v.arrived) != "" || v.HangUp > 0 || w.couldNotAsk(v) || v.token.spent.IsZero() {
		return
	}
	want, ok := map[kind]int{
		askPage:       http.StatusServiceUnavailable,
		askRefresh:    http.StatusBadGateway,
		askTryRefresh: http.StatusBadGateway,
		askSelect:     http.StatusConflict,
	}[v.Kind]
	got := v.answer.status
	switch {
	case !ok, got >= 500 && v.calls == 0, got == want, got == http.StatusUnauthorized, got == http.StatusOK && v.Kind != askSelect:
		return // 401: its window has passed, or it was logged out
	}
	w.violate(ruleLateSays, "%v, with %s after %s was seen, is answered %d", v, v.token.name, v.lateFor.name, got)
}

// judgeWaiting: who waits for a call to Descope leaves after the budget of a request.
func (w *world) judgeWaiting(v *visit) {
	var budget time.Duration
	switch v.Kind {
	case askPage:
		budget = 6 * time.Second
	case askMe, askRefresh, askTryRefresh, askSelect:
		budget = 10 * time.Second
	}
	if took := v.answer.begun.Sub(v.arrived); v.Mount == bare && budget > 0 && took > budget {
		w.violate(ruleBudget, "%v is answered after %v", v, took)
	}
}

// A refusedVisit is a visit for which a token was presented that Descope refused. A
// logout elsewhere may have been a better reason.
type refusedVisit struct {
	visit            *visit
	at               time.Time
	refuses, deletes bool // the user, cookies
}

// judgeRefusal holds an answer that Descope's refusal led to, to what may come of a first
// one, and of one in doubt.
func (w *world) judgeRefusal(a refusedVisit) {
	v, r := a.visit, a.visit.refused
	if w.ended(v.token, a.at) != "" {
		return
	}
	if a.refuses || a.deletes {
		young := r.at.Sub(w.began) < doubtTime || slices.ContainsFunc(w.wipes, func(at time.Time) bool { return at.Before(r.at) && r.at.Sub(at) < doubtTime })
		if w.store != nil && (v.replica.failing(r.at.Add(-doubtTime), r.at.Add(-storeTimeout)) || young) {
			w.violate(ruleDoubt, "%v is answered %d by a refusal while the store was away or young", v, v.answer.status)
		}
	}
	for _, t := range v.token.signIn.tokens {
		for _, earlier := range t.refusals {
			if earlier.replica == v.replica && r.at.Sub(earlier.at) >= confirmation {
				return
			}
		}
	}
	flows := v.Kind == askMe || v.Kind == askRefresh || v.Kind == askTryRefresh
	if !flows || v.Mount == inRequire {
		return
	}
	if retry := v.answer.header.Get("Retry-After"); a.refuses || v.answer.status == http.StatusBadGateway && retry == "" {
		w.violate(ruleFirst, "%v is answered %d, Retry-After %q", v, v.answer.status, retry)
	}
}

// concludeByContract judges what had to wait for the end.
func (w *world) concludeByContract() {
	for _, d := range w.doubts {
		w.resolveDoubt(d)
	}
	for _, a := range w.refused {
		w.judgeRefusal(a)
	}
	w.judgeQuestions()
	for _, si := range w.signIns {
		for _, t := range si.tokens {
			if w.srv.Honours(t.raw) {
				w.judgeHonoured(t)
			}
		}
	}
}

// judgeQuestions: a refused token is asked about again after 10 s.
func (w *world) judgeQuestions() {
	for _, t := range w.refreshes {
		last := make(map[*replica]time.Time)
		for _, r := range t.refusals {
			if r.path != refreshPath || r.code != "E061005" {
				continue
			}
			if before, ok := last[r.replica]; ok && r.at.Sub(before) < confirmation-10*time.Millisecond {
				w.violate(ruleApart, "%v asks about %s again %v after it was refused", r.replica, t.name, r.at.Sub(before))
			}
			last[r.replica] = r.at
		}
	}
}

// resolveDoubt decides whether a user was wronged.
func (w *world) resolveDoubt(d doubt) {
	v := d.visit
	why := w.excuse(v.token, v.replica, d.at)
	switch {
	case d.rule != "":
		if why == "" {
			w.violate(d.rule, "%v is answered %d, and %s is good", v, v.answer.status, v.token.name)
		}
	case d.deletes:
		w.judgeDeletion(d, why)
	case why != "":
		w.exclude("rule 7b: refused: " + why)
	case v.Mount != bare && (v.code() == "no_refresh_token" || v.Kind == askTryRefresh):
		w.violate(ruleInside, "%v is refused with %s, though %s is good", v, v.said(), v.token.name)
	case len(v.token.kids) > 0:
		w.violate(ruleKept, "%v is refused, though what %s was spent for is good", v, v.token.name)
	default:
		w.violate(ruleSignOut, "%v is refused, though %s is good", v, v.token.name)
	}
}

// judgeDeletion: cookies go when Descope has refused the token twice, or once and for a
// logout; those of a token that was spent never.
func (w *world) judgeDeletion(d doubt, why string) {
	v, t := d.visit, d.visit.token
	if ending := t.signIn.ending; !ending.IsZero() && !ending.After(d.at) || !d.at.Before(t.expires.Add(-time.Second)) {
		w.exclude("rule 7b: cookies deleted: logged out or expired")
		return
	}
	refused := func(x *refreshToken) bool {
		var first time.Time
		for _, r := range x.refusals {
			switch {
			case r.replica != v.replica || r.at.After(d.at):
			case r.code == "E064001", !first.IsZero() && r.at.Sub(first) >= confirmation-10*time.Millisecond:
				return true
			case first.IsZero():
				first = r.at
			}
		}
		return false
	}
	if slices.ContainsFunc(t.after(), refused) {
		w.exclude("rule 7b: cookies deleted: what the token became was refused")
		return
	}
	known := slices.ContainsFunc(t.kids, func(e *edge) bool {
		return !e.second && !e.minted && w.isTold(e, v.replica, v.arrived) && e.at.Before(v.arrived)
	})
	if known && t.line.killed.IsZero() {
		w.violate(ruleKeep, "the cookies of %v are deleted for %s, which is known to be spent", v, t.name)
		return
	}
	if why == "" {
		w.violate(ruleSignOut, "the cookies of %v are deleted, though %s is good", v, t.name)
		return
	}
	if refused(t) {
		w.exclude("rule 7b: cookies deleted: " + why)
		return
	}
	w.violate(ruleTwice, "the cookies of %v are deleted, and %s was not refused twice", v, t.name)
}

// excuse says why a token may be refused by a replica, "" if it is good: Descope honours
// it, or something that came of it which the replica has to know and nobody has shown,
// or not long ago.
func (w *world) excuse(t *refreshToken, r *replica, at time.Time) string {
	if why := w.ended(t, at); why != "" {
		return why
	}
	for _, later := range t.after() {
		if m := later.mentioned; !m.IsZero() && at.Sub(m) >= window-time.Second {
			return "rule 7a: spent, and what came of it was shown a minute ago"
		}
	}
	return w.leads(t, r, at, 0)
}

func (w *world) ended(t *refreshToken, at time.Time) string {
	switch {
	case !t.signIn.ending.IsZero() && !t.signIn.ending.After(at):
		return "logged out"
	case !t.line.killed.IsZero() && !t.line.killed.After(at):
		return "Descope found it used again"
	case !at.Before(t.expires.Add(-time.Second)):
		return "expired"
	}
	return ""
}

// leads says why a token may be taken to lead to nothing that is good.
func (w *world) leads(t *refreshToken, r *replica, at time.Time, depth int) string {
	// Who has gone on from there knew of it, for longer perhaps than the store tells.
	wentOn := func(e *edge) bool {
		return slices.ContainsFunc(e.to.kids, func(next *edge) bool { return next.by == r })
	}
	goesOn := func(e *edge) bool { return e.minted && !e.second && (w.isTold(e, r, at) || wentOn(e)) }
	if w.wasHonoured(t, at) && !slices.ContainsFunc(t.kids, goesOn) {
		return ""
	}
	why := "spent, and the answer lost on its way"
	for _, e := range t.kids {
		switch {
		case e.second || depth > len(t.signIn.tokens):
			continue
		case w.setup.Spent == "E064001" && e.by != r && e.at.After(at):
			why = "rule 7b: E064001 is final, and was said of a token that was just spent elsewhere"
			continue
		case e.by != r && e.at.After(at) && e.by.failing(e.began.Add(-5*time.Second), e.at):
			why = "another replica was spending it, and could not take the lease"
			continue
		}
		if why = w.untoldWhy(e, r, at); why == "" || wentOn(e) || e.at.After(at) {
			why = w.leads(e.to, r, at, depth+1)
		}
		if why == "" {
			return ""
		}
	}
	return why
}

// wasHonoured reports whether Descope would have taken a token at a time, if nothing had
// ended it by then.
func (w *world) wasHonoured(t *refreshToken, at time.Time) bool {
	switch {
	case !t.spent.IsZero():
		return t.spent.After(at)
	case w.srv.Honours(t.raw):
		return true
	}
	return !t.signIn.ending.IsZero() || !t.line.killed.IsZero() || !t.expires.After(time.Now()) // later
}

// everybodyIsIn sees that all is well again when all is well. It locks.
func (w *world) everybodyIsIn() {
	for i := range w.browsers {
		for r := range w.replicas {
			elapse(time.Second) // where keys have been rotated, strangers may ask a few times a second
			v := w.send(ask{Kind: askPage, Browser: i, Replica: r})
			w.tasks.Wait()
			w.mu.Lock()
			if v.token != nil && v.answer.status >= 500 && !v.token.mayBeLate() && time.Until(v.token.expires) > window {
				w.doubts = append(w.doubts, doubt{visit: v, at: time.Now(), rule: ruleWell})
			}
			w.mu.Unlock()
		}
	}
}
