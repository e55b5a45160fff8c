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
			fmt.Fprintf(&b, "  %s\n", outcome(row.Status, strings.Join(row.Visitors, "; "), row.Location))
		}
		for _, finding := range rt.Findings {
			fmt.Fprintf(&b, "  !    %s\n", finding)
		}
	}
	return b.String()
}

// MarshalJSON returns what String does, as a list of routes. It never fails.
func (r *Report) MarshalJSON() ([]byte, error) { return json.Marshal(r.routes) }

// report tells what was seen of a route.
func (rt *route) report() result {
	return result{Method: rt.Method, Path: rt.Path, For: rt.For.String(), Answers: rt.rows(), Findings: rt.findings()}
}

// rows has the visitors by outcome. How they asked is told where it made a difference.
func (rt *route) rows() []row {
	var rows []row
	for _, s := range rt.seen {
		name := s.name
		if rt.differs(s) {
			name += " (" + s.form + ")"
		}
		i := slices.IndexFunc(rows, func(r row) bool { return r.Status == s.status && r.Location == s.location })
		if i < 0 {
			i, rows = len(rows), append(rows, row{Status: s.status, Location: s.location})
		}
		if !slices.Contains(rows[i].Visitors, name) {
			rows[i].Visitors = append(rows[i].Visitors, name)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Location, b.Location))
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
	note := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	for _, s := range rt.seen {
		in, how := !rt.refused(s.answer), outcome(s.status, s.name, s.location)
		switch {
		case in && !s.may:
			note("gets in: %s", how)
		case !in && rt.goesOn(s.answer):
			note("the handler goes on after a refusal: %s", how)
		}
		if s.leaks {
			note("the answer holds the refresh token: %s", how)
		}
	}
	if !rt.in && !rt.isPublic() {
		note("who it is for is refused, so that nothing is shown")
	}
	return list
}

// outcome is a status, who had it, and where it leads to.
func outcome(status int, who, location string) string {
	text := strconv.Itoa(status)
	if status == 0 {
		text = "panic"
	}
	text += "  " + who
	if location != "" {
		text += " -> " + location
	}
	return text
}
