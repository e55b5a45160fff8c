package cookie

import (
	"net/http"
	"net/textproto"
	"strings"
)

const (
	// MaxCandidates is how many cookies of one name are judged. A browser sends several
	// when they were set for different paths or domains.
	MaxCandidates = 4
	// So many are looked at to find those.
	maxLooked = 16
)

// Candidates are the values of all cookies of one name, at most a few.
type Candidates struct {
	Values [MaxCandidates]string
	N      int
	more   []string // beyond them
}

func (c *Candidates) add(value string) {
	switch {
	case value == "":
	case c.N < MaxCandidates:
		c.Values[c.N] = value
		c.N++
	case len(c.more) < maxLooked-MaxCandidates:
		c.more = append(c.more, value)
	}
}

// All returns those that are to be judged.
func (c *Candidates) All() []string { return c.Values[:c.N] }

// Sift drops what does not fit, if there are more than can be judged: junk that came
// first must not keep the good one out.
func (c *Candidates) Sift(fits func(string) bool) {
	if len(c.more) == 0 {
		return
	}
	all := append(c.All(), c.more...)
	*c = Candidates{}
	for _, value := range all {
		if c.N < MaxCandidates && fits(value) {
			c.add(value)
		}
	}
}

// Values are the session and refresh cookies of a request, and the marker.
type Values struct {
	Session, Refresh Candidates
	Marker           string
}

// Read returns the values of the request's cookies. The parser of net/http would make a
// list of all cookies of the request, and most are none of ours; what it checks of a
// value, the token's own rules check.
func (p *Policy) Read(r *http.Request) (values Values) {
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(textproto.TrimString(pair), "=")
			switch name = textproto.TrimString(name); {
			case name == "":
			case name == p.Session:
				values.Session.add(unquote(value))
			case name == p.Refresh:
				values.Refresh.add(unquote(value))
			case name == p.Marker:
				values.Marker = unquote(value)
			}
		}
	}
	return values
}

// unquote removes the quotes that some clients put around a value.
func unquote(value string) string {
	if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
		return value[1 : n-1]
	}
	return value
}

// Replace returns header with the session cookie set to session and no refresh
// cookie, for the handler behind a renewal: it must neither see the expired
// token nor spend the refresh token a second time.
func (p *Policy) Replace(header http.Header, session string) http.Header {
	header = header.Clone()
	var kept []string
	for _, line := range header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			pair = textproto.TrimString(pair)
			name, _, _ := strings.Cut(pair, "=")
			name = textproto.TrimString(name) // as net/http reads it
			if pair != "" && name != p.Session && name != p.Refresh {
				kept = append(kept, pair)
			}
		}
	}
	if p.Session != "" {
		kept = append(kept, p.Session+"="+session)
	}
	if header.Del("Cookie"); len(kept) > 0 {
		header.Set("Cookie", strings.Join(kept, "; "))
	}
	return header
}
