package cookie

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

// MarkerName is the cookie that says whose browser this is, where the others have plain
// names: no neighbour host can plant one of that prefix (RFC 6265bis, section 4.1.3.2).
// It opens nothing. Where the others name more than one user, the one that it names is
// meant.
const MarkerName = "__Host-DSU"

// Mark returns the marker of a user. It tells nobody who that is.
func Mark(projectID, user string) string {
	sum := sha256.Sum256([]byte(projectID + "\x00" + user))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// writeMarker marks the browser at a sign-in, and lets a marker live on with the refresh
// token. A renewal never makes one: its cookie may have been planted.
func (p *Policy) writeMarker(w http.ResponseWriter, r *http.Request, f *Fresh) {
	if p.Marker == "" {
		return
	}
	mark := Mark(p.ProjectID, f.User)
	if f.SignIn || p.Read(r).Marker == mark {
		if p.Partitioned {
			p.expireMarker(w, false)
		}
		http.SetCookie(w, p.marker(mark, maxAge(f.Until)))
	}
}

func (p *Policy) expireMarker(w http.ResponseWriter, partitioned bool) {
	c := p.marker("", -1)
	c.Partitioned = partitioned
	http.SetCookie(w, c)
}

func (p *Policy) marker(value string, maxAge int) *http.Cookie {
	c := p.cookie(p.Marker, value)
	c.Domain, c.MaxAge = "", maxAge
	return c
}
