package races_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func decodeSegment(s string) []byte {
	raw, _ := base64.RawURLEncoding.DecodeString(s)
	return raw
}

// A suspicion is an answer that is wrong if the user was good. That is judged
// when all is over, because a token may have been spent by a call whose answer
// was still on its way.
type suspicion struct {
	visit   *visit
	what    string
	at      time.Time
	sent    state // of the refresh token of the request
	jar     state // of the one in the browser by then
	deletes bool  // cookies, rather than refuses
	calm    bool  // it was "cannot tell", for no reason
}

// A state is a refresh token at a moment.
type state struct {
	token    *refreshToken
	newest   *refreshToken
	honoured bool // newest was
}

func (w *world) stateOf(raw string) state {
	t := w.refreshes[raw]
	if t == nil {
		return state{}
	}
	s := state{token: t, newest: t.newest()}
	s.honoured = w.srv.Honours(s.newest.raw)
	return s
}

// judge holds an answer to the invariants. It locks.
func (w *world) judge(v *visit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := v.answer
	w.counts[fmt.Sprintf("answers %d", a.status)]++
	set, _ := a.cookies()
	w.note("%v is answered %d %s", v, a.status, w.summaryOf(a))
	w.judgeOwner(v, set)
	if byContract() {
		w.judgeAnswer(v, set)
		return
	}
	w.judgeLogout(v, set)
	if v.Kind == askLogout || v.Kind == askLogoutAll {
		w.noteLogout(v)
	}
	deletes := set.refresh != nil && *set.refresh == ""
	nothing := v.Kind == askTryRefresh && a.status == http.StatusOK && strings.TrimSpace(a.body.String()) == "{}"
	s := suspicion{visit: v, at: time.Now(), sent: w.stateOf(v.sent.refresh), jar: w.stateOf(v.browser.jar.refresh)}
	if (a.status == http.StatusUnauthorized || nothing) && v.Kind != askSignIn && v.Kind != askLogout {
		s.what = "answered 401"
		w.suspicions = append(w.suspicions, s)
	}
	if deletes && v.Kind != askLogout && !(v.Kind == askLogoutAll && a.status == http.StatusOK) {
		s.what, s.deletes = "cookies deleted", true
		w.suspicions = append(w.suspicions, s)
	}
	if a.status >= 500 && w.calm {
		s.what, s.calm = "refused, and nothing has gone wrong", true
		w.suspicions = append(w.suspicions, s)
	}
}

func (w *world) summaryOf(a *answer) string {
	var s strings.Builder
	var problem struct{ Code string }
	if json.Unmarshal(a.body.Bytes(), &problem) == nil && problem.Code != "" {
		s.WriteString(problem.Code)
	}
	for _, c := range (&http.Response{Header: a.sent}).Cookies() {
		if c.MaxAge < 0 {
			s.WriteString(" deletes " + c.Name)
		} else {
			s.WriteString(" sets " + w.nameOf(c.Value))
		}
	}
	return s.String()
}

// sessionIn returns the session that a page was served with, "" for none.
func (v *visit) sessionIn() (subject, token string) {
	if v.Kind != askPage || v.answer.status != http.StatusOK {
		return "", ""
	}
	subject, token, _ = strings.Cut(v.answer.body.String(), " ")
	return subject, token
}

// judgeOwner: what a request gets is of the user whose cookies it has.
func (w *world) judgeOwner(v *visit, set changes) {
	if subject, token := v.sessionIn(); subject != "" {
		si := w.sessions[token]
		if subject != v.browser.user.subject || si == nil || si.signIn.user != v.browser.user {
			w.violate(ruleOwner, "%v is served with the session of %s", v, subject)
		}
	}
	if v.Kind == askMe && v.answer.status == http.StatusOK {
		var me struct{ UserID string }
		if json.Unmarshal(v.answer.body.Bytes(), &me) != nil || me.UserID != "" && me.UserID != v.browser.user.subject {
			w.violate(ruleOwner, "%v is told about %s", v, me.UserID)
		}
	}
	sent := w.refreshes[v.sent.refresh]
	check := func(what string, si *signIn) {
		if si == nil || si.user != v.browser.user || v.Kind != askSignIn && (sent == nil || si != sent.signIn) {
			w.violate(ruleOwner, "%v is given a %s that is not of its sign-in", v, what)
		}
	}
	if set.session != nil && *set.session != "" {
		if s := w.sessions[*set.session]; s != nil {
			check("session", s.signIn)
		} else {
			check("session", nil)
		}
	}
	if set.refresh != nil && *set.refresh != "" {
		if t := w.refreshes[*set.refresh]; t != nil {
			check("refresh token", t.signIn)
		} else {
			check("refresh token", nil)
		}
	}
}

// judgeLogout: no answer that begins after a logout was answered carries a
// session of that sign-in. A session token that the request had already is its
// own until it expires.
func (w *world) judgeLogout(v *visit, set changes) {
	var carried []string
	if set.session != nil && *set.session != "" {
		carried = append(carried, *set.session)
	}
	if _, token := v.sessionIn(); token != "" && token != v.sent.session {
		carried = append(carried, token)
	}
	for _, raw := range carried {
		s := w.sessions[raw]
		if s == nil || s.signIn.ended.IsZero() || !s.signIn.ended.Before(v.answer.begun) {
			continue
		}
		if s.signIn.forgotten {
			w.exclude("a session after a logout with a token that was spent more than a minute before")
			continue
		}
		if !w.knows(v.replica, s.signIn) {
			w.exclude("a session after a logout that another replica took: " + map[bool]string{true: "everywhere", false: "store away"}[s.signIn.wholly])
			continue
		}
		w.violate("nothing after logout", "%v, begun %v after the logout, carries %s", v, v.answer.begun.Sub(s.signIn.ended), s.name)
	}
}

// knows reports whether a replica has to know of a logout: it took it itself, or
// it shares a store that has always answered. The store knows tokens and no
// users: of a logout everywhere it tells only the token that came with it.
func (w *world) knows(r *replica, si *signIn) bool {
	return r == si.endedBy && !si.untold || w.store != nil && !w.storeTroubled && !si.wholly
}

func (w *world) noteLogout(v *visit) {
	t := w.refreshes[v.sent.refresh]
	if t == nil {
		return
	}
	for _, si := range w.signIns {
		own := si == t.signIn
		if !own && (v.Kind == askLogout || si.user != t.signIn.user || !si.began.Before(v.arrived)) {
			continue
		}
		switch {
		case v.answer.status == http.StatusOK:
			if si.ended.IsZero() {
				si.ended, si.endedBy, si.wholly = v.answer.begun, v.replica, !own
				si.forgotten = t.next != nil && v.arrived.Sub(t.nextAt) >= window-time.Second
				si.untold = w.storeTroubled && t.spentElsewhere(v.replica)
			}
		case v.Kind == askLogout:
			continue
		case w.srv.Honours(si.tokens[len(si.tokens)-1].raw):
			continue // it did not get through
		}
		if si.ending.IsZero() {
			si.ending = v.arrived
		}
	}
}

// conclude judges what had to wait for the end. It locks.
func (w *world) conclude() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if byContract() {
		w.concludeByContract()
		return
	}
	for _, s := range w.suspicions {
		w.resolve(s)
	}
	for _, si := range w.signIns {
		if si.ended.IsZero() {
			continue
		}
		for _, t := range si.tokens {
			if w.srv.Honours(t.raw) {
				w.judgeSurvivor(si, t)
			}
		}
	}
}

// judgeSurvivor: no refresh token of a sign-in that was logged out is honoured.
func (w *world) judgeSurvivor(si *signIn, t *refreshToken) {
	switch {
	case si.forgotten:
		w.exclude("survived a logout: with a token that was spent more than a minute ago")
	case w.store != nil && w.storeTroubled:
		w.exclude("survived a logout: store away")
	case w.hasCrashed:
		w.exclude("survived a logout: crash")
	case w.store == nil && len(w.retired) > 0:
		w.exclude("survived a logout: restart without a store")
	default:
		w.violate("nothing honoured after logout", "%s is honoured, though its sign-in was logged out", t.name)
	}
}

func (w *world) exclude(what string) { w.counts["excluded: "+what]++ }

// resolve decides whether a user was wronged.
func (w *world) resolve(s suspicion) {
	sentGood, sentWhy := w.wasGood(s.sent, s.at)
	jarGood, jarWhy := w.wasGood(s.jar, s.at)
	same := s.sent.token != nil && s.jar.token != nil && s.sent.token.signIn == s.jar.token.signIn
	switch {
	case s.calm && !sentGood:
	case s.calm:
		w.violate("calm", "%v was %s: %d", s.visit, s.what, s.visit.answer.status)
	case s.deletes && jarGood && !same && w.mayCross(s):
		w.exclude("a newer sign-in met the deletion of an older one's cookies")
	case !sentGood && w.tooLate(s):
		w.exclude(s.what + ": a minute too late")
	case w.untold(s):
		w.exclude(s.what + ": renewed by a replica that could not tell the others")
	case s.deletes && jarGood, sentGood && !s.deletes, jarGood && same:
		w.violate("nobody is signed out", "%v was %s; its own token %s: %s; the browser's %s: %s",
			s.visit, s.what, tokenName(s.sent.token), sentWhy, tokenName(s.jar.token), jarWhy)
	case !same:
		w.exclude(s.what + ", another sign-in: " + sentWhy)
	default:
		w.exclude(s.what + ": " + jarWhy)
	}
}

func tokenName(t *refreshToken) string {
	if t == nil {
		return "-"
	}
	return t.name
}

// tooLate reports whether Descope alone can tell what the request's token is
// worth: it was spent more than a minute ago, and either the browser has had a
// successor for as long, so that the request was under way for a minute, or only
// another replica still knows, or knows that the browser has it. A successor that nobody has presented is kept for
// as long as its session lives, but the store keeps it for a minute.
func (w *world) tooLate(s suspicion) bool {
	t := s.sent.token
	if t == nil || t.next == nil || s.at.Sub(t.nextAt) < window-time.Second {
		return false
	}
	if t.nextBy != s.visit.replica {
		return true
	}
	for x := t.next; x != nil; x = x.next {
		held := !x.arrived.IsZero() && !x.arrived.After(s.at) && s.at.Sub(x.arrived) < window-time.Second
		if held && x.arrivedBy == s.visit.replica {
			return false
		}
	}
	return true
}

// untold reports whether what became of the request's token was known to another
// replica only, because the store could not be reached from there when it was spent,
// before the call to Descope or after it.
func (w *world) untold(s suspicion) bool {
	for x := s.sent.token; x != nil && x.next != nil; x = x.next {
		if x.nextBy == s.visit.replica {
			continue
		}
		for _, at := range x.nextBy.cutOff {
			if since := x.nextAt.Sub(at); -time.Second < since && since < 10*time.Second {
				return true
			}
		}
	}
	return false
}

// mayCross reports whether a deletion that is meant for one sign-in may meet a
// newer one: the older token was refused for good twice, or has expired.
func (w *world) mayCross(s suspicion) bool {
	if s.visit.Kind == askLogoutAll {
		return true // like a logout, it is about the browser
	}
	t := s.sent.token
	if t == nil {
		return false
	}
	for x := t; x != nil; x = x.next {
		if !x.refused.IsZero() && s.at.Sub(x.refused) >= confirmation {
			return true
		}
	}
	return !s.at.Before(t.expires)
}

// wasGood reports whether a refresh token was good: Descope honoured it, or what
// it was spent for less than a minute before. why says why not.
func (w *world) wasGood(s state, at time.Time) (good bool, why string) {
	t := s.token
	switch {
	case t == nil:
		return false, "none"
	case !t.signIn.ending.IsZero() && !t.signIn.ending.After(at):
		return false, "logged out"
	case !at.Before(t.expires.Add(-time.Second)):
		return false, "expired"
	case t.next != nil && at.Sub(t.nextAt) >= window-time.Second:
		if !t.next.arrived.IsZero() {
			return false, "spent more than a minute ago; a late answer brought it back"
		}
		return false, "spent more than a minute ago; the answer never arrived"
	}
	for x := t; x.next != nil; x = x.next {
		if by := x.nextBy; !by.crash.IsZero() && (w.storeTroubled || by.crash.Sub(x.nextAt) < 2*time.Second) {
			return false, "lost in a crash"
		}
	}
	switch {
	case s.honoured:
		return true, "good"
	case s.newest.next != nil:
		return true, "good, and just being renewed"
	}
	return false, "spent, and the answer lost"
}
