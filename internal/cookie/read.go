package cookie

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

const (
	// MaxCandidates is how many cookies of one name are judged. A browser sends several
	// when they were set for different paths or domains.
	MaxCandidates = 4
	// So many are looked at to find those.
	maxLooked = 16
	// MaxRank is the highest rank of a candidate.
	MaxRank = 2
)

// Candidates are the values of all cookies of one kind, at most a few: those of names that
// nobody else can plant before all others, so that none of these keeps one of those out.
type Candidates struct {
	Values [MaxCandidates]string
	N      int
	hosted int      // so many of them have such a name
	more   []string // beyond them
}

func (c *Candidates) add(value string, hosted bool) {
	switch {
	case value == "":
		return
	case !hosted || c.hosted == MaxCandidates:
		c.append(value)
		return
	}
	last := c.Values[MaxCandidates-1]
	copy(c.Values[c.hosted+1:], c.Values[c.hosted:])
	c.Values[c.hosted] = value
	c.hosted++
	if c.N < MaxCandidates {
		c.N++
	} else {
		c.append(last)
	}
}

func (c *Candidates) append(value string) {
	if c.N < MaxCandidates {
		c.Values[c.N] = value
		c.N++
	} else if len(c.more) < maxLooked-MaxCandidates {
		c.more = append(c.more, value)
	}
}

// All returns those that are to be judged.
func (c *Candidates) All() []string { return c.Values[:c.N] }

// IsHosted reports whether the i-th has a name that no neighbour host can plant.
func (c *Candidates) IsHosted(i int) bool { return i < c.hosted }

// Has reports whether there are some of such names, or of others.
func (c *Candidates) Has(hosted bool) bool {
	return hosted && c.hosted > 0 || !hosted && c.N > c.hosted
}

// Sift drops what has no rank, and what has a lower one than others, if there are more than
// can be judged: what a neighbour host has put before the good one must not keep that out. It
// returns those with a rank that are left out all the same.
func (c *Candidates) Sift(rank func(string) int) (unjudged []string) {
	if len(c.more) == 0 {
		return nil
	}
	all, hosted := append(c.All(), c.more...), c.hosted
	var ranks [maxLooked]int
	for i, value := range all {
		if ranks[i] = rank(value); ranks[i] > 0 && i < hosted {
			ranks[i] = MaxRank
		}
	}
	*c = Candidates{}
	for wanted := MaxRank; wanted > 0; wanted-- {
		for i, value := range all {
			switch {
			case ranks[i] != wanted:
			case c.N < MaxCandidates:
				c.add(value, i < hosted)
			default:
				unjudged = append(unjudged, value)
			}
		}
	}
	return unjudged
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
			case slices.Contains(p.Session, name):
				values.Session.add(unquote(value), isHosted(name))
			case slices.Contains(p.Refresh, name):
				values.Refresh.add(unquote(value), isHosted(name))
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
			if pair != "" && !slices.Contains(p.Session, name) && !slices.Contains(p.Refresh, name) {
				kept = append(kept, pair)
			}
		}
	}
	if len(p.Session) > 0 {
		kept = append(kept, p.Session[0]+"="+session)
	}
	if header.Del("Cookie"); len(kept) > 0 {
		header.Set("Cookie", strings.Join(kept, "; "))
	}
	return header
}
