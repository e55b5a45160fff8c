package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/descopehttp/descopehttp/descopetest"
)

// host is where the application is: over https, or browsers would keep no cookies.
const host = "https://app.example"

// The two ways to ask.
const (
	browser = "browser" // with cookies
	program = "program" // with a Bearer token
)

// A seen is a visit and what is noted of its answer; no token is kept.
type seen struct {
	visitor
	form string
	answer
}

// An answer is what there is to tell of one.
type answer struct {
	status   int    // 0: the handler panicked
	location string // of a redirect
	body     []byte
	leaks    bool // it holds the refresh token
}

// play has visitors ask for a route. Nobody comes first.
func (rt *route) play(visitors []visitor) {
	for _, v := range visitors {
		v.may = v.may || rt.isPublic()
		v.expected = v.expected || rt.isPublic()
		if v.expected && !v.owner && !rt.isSafe() {
			continue
		}
		in := false
		for _, form := range []string{browser, program} {
			once := in && v.owner && !rt.isSafe()
			if once || v.cookies && form != browser {
				break
			}
			for _, answer := range rt.ask(v, form) {
				in = rt.note(seen{v, form, answer})
			}
		}
	}
}

// note keeps what is seen, and reports whether the visitor got in.
func (rt *route) note(s seen) bool {
	if s.name == "nobody" && s.location != "" && !rt.isPublic() {
		rt.sentTo = append(rt.sentTo, s.location)
	}
	rt.seen = append(rt.seen, s)
	if rt.refused(s.answer) {
		return false
	}
	if s.owner {
		rt.in = true
		if page := bytes.TrimSpace(s.body); len(page) > len("{}") { // what is shorter says nothing
			rt.pages = append(rt.pages, page)
		}
	}
	return true
}

// ask sends a visitor's request, or those of a crowd at once, and returns the answers.
func (rt *route) ask(v visitor, form string) []answer {
	c, answers := v.bring(), make([]answer, max(v.crowd, 1))
	if v.crowd == 0 {
		answers[0] = rt.serve(rt.request(v, form, c), c)
		return answers
	}
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = rt.serve(rt.request(v, form, c), c) })
	}
	wg.Wait()
	return answers
}

// request is what a browser sends, or a program.
func (rt *route) request(v visitor, form string, c credentials) *http.Request {
	r := httptest.NewRequest(rt.Method, host+rt.Path, strings.NewReader(rt.Body))
	r.RemoteAddr = rt.peer
	fields := map[string]string{"Accept": "*/*", "Content-Type": rt.ContentType}
	if form == program {
		if c.session != "" {
			fields["Authorization"] = "Bearer " + c.session
		}
	} else {
		fields["Cookie"] = rt.cookieLine(c)
		fields["Sec-Fetch-Site"], fields["Sec-Fetch-Mode"], fields["Sec-Fetch-Dest"] = "same-origin", "cors", "empty"
		if isNavigation(rt) {
			fields["Accept"], fields["Sec-Fetch-Mode"], fields["Sec-Fetch-Dest"] = "text/html,*/*;q=0.8", "navigate", "document"
		}
		if !rt.isSafe() {
			fields["Origin"] = host
		}
	}
	if v.foreign {
		fields["Origin"], fields["Sec-Fetch-Site"] = "https://other.example", "cross-site"
	}
	for name, value := range fields {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r
}

// isNavigation reports whether a browser would show the answer as a page. A form without a
// script sends no JSON.
func isNavigation(rt *route) bool {
	form := strings.HasPrefix(rt.ContentType, "application/x-www-form-urlencoded") || strings.HasPrefix(rt.ContentType, "multipart/form-data")
	return rt.isSafe() || rt.Method == http.MethodPost && form
}

// cookieLine has the tokens under every name that they may have, and what is planted last, as
// a neighbour host would: it cannot use a name that begins with __Host-.
func (a *auditor) cookieLine(c credentials) string {
	var pairs []string
	for i, value := range []string{c.session, c.refresh} {
		for _, name := range a.cookies[i] {
			if value != "" {
				pairs = append(pairs, name+"="+value)
			}
		}
	}
	if c.planted != "" {
		pairs = append(pairs, a.cookies[0][0]+"="+c.planted)
	}
	return strings.Join(pairs, "; ")
}

// cookieNames returns the names of session and refresh cookies: the plain ones first.
func cookieNames(p *descopetest.Server) (names [2][]string) {
	names = [2][]string{{"DS", "__Host-DS"}, {"DSR", "__Host-DSR"}}
	p.Configure(func(s *descopetest.Settings) {
		for i, name := range []string{s.SessionCookieName, s.RefreshCookieName} {
			if name != "" && !slices.Contains(names[i], name) {
				names[i] = append(names[i], name)
			}
		}
	})
	return names
}

// serve lets the application answer. A panic is an answer, too: what recovers there belongs
// to the server, and is not under test.
func (a *auditor) serve(r *http.Request, c credentials) (got answer) {
	defer func() {
		if recover() != nil {
			got = answer{}
		}
	}()
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, r)
	res := w.Result()
	res.Request = r // what a relative Location is resolved by
	got = answer{status: res.StatusCode, body: w.Body.Bytes()}
	if location, err := res.Location(); err == nil && res.StatusCode/100 == 3 {
		got.location = strings.TrimPrefix(location.Host+cmp.Or(location.Path, "/"), r.Host) // the query has the way back
	}
	got.leaks = leaks(res, got.body, c.refresh)
	return got
}

// leaks reports whether an answer shows a refresh token to scripts, who do not see HttpOnly
// cookies.
func leaks(res *http.Response, body []byte, refresh string) bool {
	shown := []string{string(body)}
	for name, lines := range res.Header {
		if name != "Set-Cookie" {
			shown = append(shown, lines...)
		}
	}
	for _, cookie := range res.Cookies() {
		if !cookie.HttpOnly {
			shown = append(shown, cookie.Value)
		}
	}
	return refresh != "" && slices.ContainsFunc(shown, func(s string) bool { return strings.Contains(s, refresh) })
}

// goesOn reports whether a refusal ends in a page: the one that the owner is shown, or something
// behind a JSON document that is whole.
func (rt *route) goesOn(a answer) bool {
	body := bytes.TrimSpace(a.body)
	if slices.ContainsFunc(rt.pages, func(page []byte) bool { return bytes.HasSuffix(body, page) }) {
		return true
	}
	var document map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	return d.Decode(&document) == nil && d.InputOffset() < int64(len(body))
}

// peerOf returns an address for a route's requests, in a network of its own: limits by address
// count for each route alone (RFC 3849, documentation).
func peerOf(i int) string { return fmt.Sprintf("[2001:db8:%x:%x::1]:1234", i>>16, i&0xffff) }
