package races_test

import (
	"net/http"
	"slices"
	"time"
)

// Rule 2: a logout is whole.

// noteLogoutAnswered enters what a logout promises.
func (w *world) noteLogoutAnswered(v *visit) {
	t, status := v.token, v.answer.status
	switch status {
	case http.StatusOK, http.StatusBadGateway, http.StatusGatewayTimeout:
	default:
		return // the flow was not reached
	}
	if t == nil {
		return
	}
	l := &logout{visit: v, everywhere: v.Kind == askLogoutAll, done: status == http.StatusOK}
	for _, si := range w.signIns {
		switch {
		case si == t.signIn && (v.Kind == askLogout || l.done), si != t.signIn && l.everywhere && l.done && si.user == t.signIn.user && si.began.Before(v.everywhere),
			l.everywhere && si.user == t.signIn.user && !w.isIn(si):
			if si.ending.IsZero() || v.arrived.Before(si.ending) {
				si.ending = v.arrived
			}
			si.logouts = append(si.logouts, l)
		}
	}
	if !v.arrived.Before(t.expires.Add(-time.Second)) {
		w.exclude("rule 2: the token that logged out had expired")
		return
	}
	l.untold = w.store != nil && (v.replica.failing(v.arrived.Add(-storeRest), v.answer.begun) || w.wipedSince(v.arrived))
	l.covers = w.covered(t, v.replica, v.arrived, !l.untold)
	l.lines = make(map[*line]bool)
	for x := range l.covers {
		l.lines[x.line] = true
	}
	for x := range l.covers {
		for _, e := range x.kids {
			if !e.second && !l.covers[e.to] {
				delete(l.lines, x.line) // what came of it is elsewhere
			}
		}
	}
}

// covered returns what a logout with t on a replica has to end: what this replica knows
// of the sign-in by its own calls, for a day or until what came of a refresh was shown,
// and what the store leads to from there.
func (w *world) covered(t *refreshToken, r *replica, at time.Time, stored bool) map[*refreshToken]bool {
	covers := map[*refreshToken]bool{t: true}
	own := func(e *edge) bool {
		kept := 24 * time.Hour
		if e.refreshed && !e.to.mentioned.IsZero() {
			kept = window - time.Second
		}
		if si := t.signIn; e.refreshed && !si.ending.IsZero() && at.Sub(si.ending) > storeLife {
			kept = 0 // a logout is remembered ten minutes, and all else goes with it
		}
		return e.by == r && at.Sub(e.at) < kept
	}
	for todo := []*refreshToken{t}; len(todo) > 0; todo = todo[1:] {
		add := func(x *refreshToken) {
			if !covers[x] {
				covers[x] = true
				todo = append(todo, x)
			}
		}
		x := todo[0]
		for _, e := range x.kids {
			if own(e) || e.by != r && stored && w.isTold(e, r, at) {
				add(e.to)
			}
		}
		if x.from != nil && own(x.from) {
			add(x.from.from)
		}
	}
	return covers
}

// judgeWhole: no answer that begins after a logout was answered carries a session of
// that sign-in. A session that the request had already is its own until it expires.
func (w *world) judgeWhole(v *visit, set changes) {
	var carried []string
	if set.session != nil && *set.session != "" {
		carried = append(carried, *set.session)
	}
	if _, raw := v.sessionIn(); raw != "" && raw != v.sent.session && !slices.Contains(carried, raw) {
		carried = append(carried, raw)
	}
	for _, raw := range carried {
		if s := w.sessions[raw]; s != nil && !(v.Kind == askSignIn && v.arrived.Before(s.signIn.began)) {
			w.judgeCarried(v, s)
		}
	}
}

func (w *world) judgeCarried(v *visit, s *sessionToken) {
	for _, l := range s.signIn.logouts {
		if !l.visit.answer.begun.Before(v.answer.begun) {
			continue
		}
		rule := ruleWhole
		if l.visit.Mount != bare && l.visit.renewed() {
			rule = ruleInside
		}
		switch why := w.unaware(v, s, l); {
		case why == "" && !l.done:
			w.violate(ruleMarks, "%v carries %s, though %v has marked the logout", v, s.name, l.visit)
			return
		case why == "":
			w.violate(rule, "%v, begun %v after %v, carries %s", v, v.answer.begun.Sub(l.visit.answer.begun), l.visit, s.name)
			return
		default:
			w.exclude("rule 2: a session after a logout: " + why)
		}
	}
}

// isBefore reports whether something that the logout ends led to t.
func (l *logout) isBefore(t *refreshToken) bool {
	for ; t.from != nil; t = t.from.from {
		if l.covers[t.from.from] {
			return true
		}
	}
	return false
}

// renewed reports whether a middleware has renewed the session on the way to a flow.
func (v *visit) renewed() bool {
	for _, c := range (&http.Response{Header: v.answer.sent}).Cookies() {
		if c.Name == sessionCookie && c.MaxAge >= 0 {
			return true
		}
	}
	return false
}

// unaware says why who serves a session may not know of a logout, "" if it has to.
func (w *world) unaware(v *visit, s *sessionToken, l *logout) string {
	r := v.replica
	switch {
	case v.Mount != bare && v.arrived.Before(l.visit.answer.begun):
		return "a middleware had set it, and its handler took longer than the logout"
	case l.everywhere && l.done && r == l.visit.replica:
		return ""
	case l.covers == nil:
		return "the token that logged out had expired"
	case l.everywhere && s.signIn != l.visit.token.signIn:
		return "everywhere, on another replica"
	case l.everywhere && !l.done:
		return "everywhere, and it failed"
	case !l.done && l.visit.calls == 0:
		return "it was not admitted, or Descope not to be reached"
	case !l.done && v.answer.begun.Sub(l.visit.answer.begun) > storeLife:
		return "it failed, and a mark is kept ten minutes"
	case r != l.visit.replica && !l.done:
		return "it failed, on another replica"
	case !l.done && w.store != nil && (l.untold || w.wipedSince(l.visit.arrived)) && l.wentOn(s.token):
		return "it failed, and the store had no mark when another replica went on"
	case !l.covers[s.token] && !(l.lines[s.token.line] && l.isBefore(s.token)):
		return "what is older or elsewhere"
	case r == l.visit.replica:
		return ""
	case w.store == nil:
		return "another process, and no store"
	case l.untold:
		return "the store could not be told"
	case r.failing(v.arrived.Add(-storeRest), v.answer.begun):
		return "the store could not be asked"
	case slices.ContainsFunc(r.puts, func(f *failedPut) bool { return f.mended.IsZero() }):
		return "the last publish failed"
	case w.wipedSince(l.visit.answer.begun.Add(-storeLife)):
		return "the store was emptied"
	}
	return ""
}

// wentOn reports whether another replica had a part in what came of the tokens that a
// logout covers.
func (l *logout) wentOn(t *refreshToken) bool {
	for x := t; x.from != nil && !l.covers[x]; x = x.from.from {
		if x.from.by != l.visit.replica {
			return true
		}
	}
	return false
}

// judgeHonoured: Descope honours no refresh token of a sign-in that was logged out, as
// far as the logout has to know it.
func (w *world) judgeHonoured(t *refreshToken) {
	for _, l := range t.signIn.logouts {
		if !l.done || l.covers == nil || l.everywhere && t.signIn != l.visit.token.signIn {
			continue
		}
		rule := ruleRevoked
		if l.visit.Mount != bare && l.visit.renewed() {
			rule = ruleInside
		}
		why := w.survives(t, l)
		if why == "" {
			w.violate(rule, "%s is honoured after %v with %s", t.name, l.visit, l.visit.token.name)
			return
		}
		w.exclude("rule 2: honoured after a logout: " + why)
	}
}

// survives says why a token may outlive a logout.
func (w *world) survives(t *refreshToken, l *logout) string {
	switch x := t; {
	case l.covers[t]:
		return ""
	case t.from == nil || t.from.second && t.from.by != l.visit.replica:
		return "what is older or elsewhere"
	default:
		for ; x.from != nil && !l.covers[x]; x = x.from.from {
			if e := x.from; e.second && e.by != l.visit.replica || e.at.Before(l.visit.arrived) {
				return "what is older or elsewhere"
			}
		}
		if !l.covers[x] || t.from.began.After(l.visit.answer.begun) && !l.lines[t.line] {
			return "what is older or elsewhere"
		}
	}
	e := t.from
	switch {
	case e.at.Before(l.visit.arrived): // and was not found to be covered
		return "what is older or elsewhere"
	case t.revoked > 0:
		return "it landed later, and to revoke it failed"
	case e.by != l.visit.replica && (l.untold || e.by.failing(e.began.Add(-5*time.Second), e.at.Add(3*time.Second))):
		return "the store could not be told, or asked"
	case e.by != l.visit.replica && w.wipedSince(l.visit.arrived):
		return "the store was emptied"
	case !e.by.crash.IsZero() && e.by.crash.Sub(e.at) < 5*time.Second:
		return "what a killed process had in the air"
	}
	return ""
}
