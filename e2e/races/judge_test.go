package races_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

func decodeSegment(s string) []byte {
	raw, _ := base64.RawURLEncoding.DecodeString(s)
	return raw
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
	w.judgeAnswer(v, set)
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

// conclude judges what had to wait for the end. It locks.
func (w *world) conclude() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.concludeByContract()
}

func (w *world) exclude(what string) { w.counts["excluded: "+what]++ }
