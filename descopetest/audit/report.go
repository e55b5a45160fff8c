package audit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Report is what [Routes] has seen. It holds no token and no body, and does not change.
type Report struct{ routes []result }

// A result is what was seen of one route.
type result struct {
	Method   string   `json:"method"`
	Path     string   `json:"path"`
	For      string   `json:"for"`
	Answers  []row    `json:"answers"`
	Findings []string `json:"findings,omitempty"` // what must never be
}

// A row is one outcome, and who had it.
type row struct {
	Status   int      `json:"status"` // 0: the handler panicked
	Location string   `json:"location,omitempty"`
	As       string   `json:"as,omitempty"` // "browser" or "program", where they are answered differently
	Visitors []string `json:"visitors"`
}

// Check returns what must never be, nil if there is nothing, as one error that joins one for
// each finding: somebody got in whom [Route.For] does not name; a handler goes on after a
// refusal; an answer holds the refresh token. A route that refuses who it is for is an error,
// too, because nothing was shown of it then. The texts name routes and visitors, and hold no
// secret.
func (r *Report) Check() error {
	var errs []error
	for _, rt := range r.routes {
		for _, finding := range rt.Findings {
			errs = append(errs, fmt.Errorf("descopetest/audit: %s %s, for %s: %s", rt.Method, rt.Path, rt.For, finding))
		}
	}
	return errors.Join(errs...)
}

// String returns a table of all that was seen, which is the same for the same application. A
// line that begins with "!" is what Check returns.
func (r *Report) String() string {
	var b strings.Builder
	for i, rt := range r.routes {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s %s   for %s\n", rt.Method, rt.Path, rt.For)
		for _, row := range rt.Answers {
			fmt.Fprintf(&b, "  %s\n", row)
		}
		for _, finding := range rt.Findings {
			fmt.Fprintf(&b, "  !    %s\n", finding)
		}
	}
	return b.String()
}

// MarshalJSON returns what String does, as a list of routes. It never fails.
func (r *Report) MarshalJSON() ([]byte, error) { return json.Marshal(r.routes) }

// result tells what was seen of a route.
func (rt *route) result() result {
	rows := rt.rows(func(seen) bool { return true })
	if len(rows) == 1 {
		rows[0].Visitors = []string{"everybody"}
	}
	return result{Method: rt.Method, Path: rt.Path, For: rt.For.String(), Answers: rows, Findings: rt.findings()}
}

// rows has the visitors of what is picked, by outcome.
func (rt *route) rows(pick func(seen) bool) []row {
	var rows []row
	for _, s := range rt.seen {
		if !pick(s) {
			continue
		}
		as := ""
		if rt.differs(s) {
			as = s.form
		}
		i := slices.IndexFunc(rows, func(r row) bool {
			return r.Status == s.status && r.Location == s.location && (r.As == as || s.cookies && r.As == browser)
		})
		if i < 0 {
			i, rows = len(rows), append(rows, row{Status: s.status, Location: s.location, As: as})
		}
		if !slices.Contains(rows[i].Visitors, s.name) {
			rows[i].Visitors = append(rows[i].Visitors, s.name)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Location, b.Location), cmp.Compare(a.As, b.As))
	})
	return rows
}

// differs reports whether the same visitor had another answer on another way.
func (rt *route) differs(s seen) bool {
	return slices.ContainsFunc(rt.seen, func(other seen) bool {
		return other.name == s.name && other.form != s.form && (other.status != s.status || other.location != s.location)
	})
}

// findings are what must never be.
func (rt *route) findings() []string {
	var list []string
	for _, never := range []struct {
		text string
		pick func(seen) bool
	}{
		{"gets in", func(s seen) bool { return !s.may && !rt.refused(s.answer) }},
		{"the handler goes on after a refusal", func(s seen) bool { return rt.refused(s.answer) && rt.goesOn(s.answer) }},
		{"the answer holds the refresh token", func(s seen) bool { return s.leaks }},
	} {
		for _, row := range rt.rows(never.pick) {
			list = append(list, never.text+": "+row.String())
		}
	}
	if !rt.in && !rt.isPublic() {
		list = append(list, "who it is for is refused, so that nothing is shown")
	}
	return list
}

// String returns the row as the table has it.
func (r row) String() string {
	text := strconv.Itoa(r.Status)
	if r.Status == 0 {
		text = "panic"
	}
	text += "  "
	if r.As != "" {
		text += r.As + ": "
	}
	text += strings.Join(r.Visitors, "; ")
	if r.Location != "" {
		text += " -> " + r.Location
	}
	return text
}
