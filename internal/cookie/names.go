package cookie

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Settings are the root's Cookies, which documents them.
type Settings struct {
	PlainNames                 bool
	Domain                     string
	InsecureHTTP               bool
	SameSite                   http.SameSite
	SessionNames, RefreshNames []string
	Partitioned                bool
}

// A name with this prefix is taken by a browser from the host itself alone, over https, so
// that no neighbour host can plant it (RFC 6265bis, section 4.1.3.2).
const hostPrefix = "__Host-"

func isHosted(name string) bool { return strings.HasPrefix(name, hostPrefix) }

var (
	// The last label starts with a letter, which keeps addresses out.
	domainPattern = regexp.MustCompile(`^\.?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*$`)
	namePattern   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$") // a token (RFC 6265, section 4.1.1)
	// Prefixes that a browser heeds, some in any case.
	securePrefix = regexp.MustCompile(`^(?i:__(host|secure|http)-)`)
)

// Check calls add for each mistake, with the name of the field.
func (s *Settings) Check(add func(field, reason string)) {
	if s.Domain != "" && !domainPattern.MatchString(s.Domain) {
		add("Domain", "must be a domain name of at least two labels")
	}
	if s.SameSite < 0 || s.SameSite > http.SameSiteNoneMode {
		add("SameSite", "must be Lax, Strict or None")
	}
	if s.SameSite == http.SameSiteNoneMode && s.InsecureHTTP {
		add("SameSite", "None needs Secure cookies, which InsecureHTTP switches off")
	}
	if s.Partitioned && (s.SameSite != http.SameSiteNoneMode || s.InsecureHTTP) {
		add("Partitioned", "needs SameSite None and Secure cookies")
	}
	session, refresh := s.names()
	s.checkNames(session, token.RefreshDRN, func(reason string) { add("SessionNames", reason) })
	s.checkNames(refresh, token.SessionDRN, func(reason string) { add("RefreshNames", reason) })
	for _, name := range refresh {
		if slices.ContainsFunc(session, func(other string) bool { return strings.EqualFold(name, other) }) {
			add("RefreshNames", fmt.Sprintf("%q is a session name, too", name))
		}
	}
}

func (s *Settings) checkNames(names []string, ofOtherKind string, add func(string)) {
	if len(names) > MaxCandidates {
		add(fmt.Sprintf("must have at most %d names", MaxCandidates))
	}
	for i, name := range names {
		switch {
		case !namePattern.MatchString(name):
			add(fmt.Sprintf("%q is no cookie name", name))
		case strings.EqualFold(name, MarkerName):
			add(fmt.Sprintf("%q has another use", name))
		case strings.EqualFold(securePrefix.ReplaceAllString(name, ""), ofOtherKind):
			add(fmt.Sprintf("%q is Descope's name of the other token", name))
		case slices.Contains(names[:i], name):
			add(fmt.Sprintf("%q is there twice", name))
		case s.InsecureHTTP && securePrefix.MatchString(name):
			add(fmt.Sprintf("%q needs Secure cookies, which InsecureHTTP switches off", name))
		case s.Domain != "" && strings.HasPrefix(strings.ToLower(name), strings.ToLower(hostPrefix)):
			add(fmt.Sprintf("%q must not have a Domain", name))
		}
	}
}

// names returns the names of both cookies, Descope's own where none are given.
func (s *Settings) names() (session, refresh []string) {
	prefix := hostPrefix
	if s.PlainNames || s.Domain != "" || s.InsecureHTTP {
		prefix = ""
	}
	session, refresh = slices.Clone(s.SessionNames), slices.Clone(s.RefreshNames)
	if len(session) == 0 {
		session = []string{prefix + token.SessionDRN}
	}
	if len(refresh) == 0 {
		refresh = []string{prefix + token.RefreshDRN}
	}
	return session, refresh
}

// New returns the policy of settings that have passed Check.
func New(s Settings, projectID string, notices *notice.Reporter) *Policy {
	p := &Policy{
		ProjectID:   projectID,
		Domain:      s.Domain,
		Secure:      !s.InsecureHTTP,
		SameSite:    s.SameSite,
		Partitioned: s.Partitioned,
		Vary:        "Cookie, Authorization",
		Notices:     notices,
	}
	p.Session, p.Refresh = s.names()
	if p.SameSite == 0 || p.SameSite == http.SameSiteDefaultMode {
		p.SameSite = http.SameSiteLaxMode
	}
	if p.Secure && len(p.plainNames()) > 0 {
		p.Marker = MarkerName
	}
	return p
}
