// Package descopetest is a Descope project in memory, for the tests of code
// that talks to Descope and for trying such code without an account.
//
// A [Server] answers the calls of Descope's TOTP flow and of the sessions that
// follow from it: /v1/auth/totp/signup, verify and update, /v1/auth/refresh,
// try-refresh, logout, logoutall, me, me/history, me/tenants, tenant/select and
// validate, and the key set under /v2/keys/{project} and
// /{project}/.well-known/jwks.json. Its codes, QR images, tokens and keys are
// real ones. It is an [http.Handler], and [Server.Client] reaches it without a
// socket, so that tests can run inside a testing/synctest bubble:
//
//	project := descopetest.NewServer()
//	project.AddUser(descopetest.User{LoginID: "ann@example.com"})
//	// Configure the code under test with project.ProjectID(), project.URL()
//	// and project.Client().
//	code := project.Code("ann@example.com")
//
// What may be changed: lifetimes, rotation, cookies, keys and the answer to
// every kind of refusal ([Server.Configure]); the claims of all tokens
// ([Settings.EditClaims]) or of one ([Server.Sign]); the keys
// ([Server.RotateKeys], [Server.RevokeKeys], [Server.AddKey]); and how requests
// go wrong ([Server.Fail]). [Settings] says which of its defaults Descope
// documents and which are guesses.
//
// As in [net/http/httptest], methods panic when a test misuses them.
//
// A Server keeps all in memory and anybody may sign up. It is no place for
// real people.
package descopetest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
)

// A Server is one Descope project. Make it with [NewServer]. Its methods may be
// called by several goroutines at once, and from inside a synctest bubble; of
// the time it knows only what the clock says when it is asked.
type Server struct {
	mu       sync.Mutex // guards all below; never held while a fault delays or a token is signed
	settings Settings
	used     bool               // ProjectID is final
	keys     []*signingKey      // the key set, oldest first; the last one signs
	users    map[string]*user   // by login id
	grants   map[grantID]*grant // refresh tokens, by what was signed
	held     int                // refresh tokens, those included that are being signed
	lines    int64
	faults   []*queued
	counts   map[string]int
}

type grantID = [sha256.Size]byte

// NewServer returns a project without users. It opens no socket, starts no
// goroutine and reads no clock; there is nothing to close.
func NewServer() *Server {
	return &Server{
		settings: defaultSettings(),
		users:    map[string]*user{},
		grants:   map[grantID]*grant{},
		counts:   map[string]int{},
	}
}

// Configure lets f change the settings. They hold from its return on, for what
// is asked and issued then; tokens keep what they were issued with. f must not
// call methods of s. Configure panics on settings that no project can have, and
// on a change of the ProjectID after the first request or token.
func (s *Server) Configure(f func(*Settings)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.settings
	f(&next)
	next.check()
	if s.used && next.ProjectID != s.settings.ProjectID {
		panic("descopetest: ProjectID changed after first use")
	}
	rekey := next.Alg != s.settings.Alg && len(s.keys) > 0
	s.settings = next
	if rekey {
		s.pushKey(s.newKey())
	}
	s.trimKeys()
}

// ProjectID returns the id of the project.
func (s *Server) ProjectID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings.ProjectID
}

// Requests returns how many requests to path were seen since [Server.Reset],
// whatever became of them. path is as in [Server.Fail].
func (s *Server) Requests(path string) int {
	name := pathArgument("Requests", path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "" {
		return s.counts[name]
	}
	total := 0
	for _, n := range s.counts {
		total += n
	}
	return total
}

// RequestCounts returns, for every path that was asked for, what
// [Server.Requests] returns. Requests for keys count as "/v2/keys", those for
// paths that the project does not serve as "other".
func (s *Server) RequestCounts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// ServeHTTP answers as Descope does, or as a queued [Fault] says.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := endpoint(r.URL.Path)
	fault := s.arrive(name)
	// Read before a fault may wait: net/http notices that a client has gone
	// only once the body is read.
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	call := func() answer {
		if err != nil {
			return badRequest.because("the body could not be read").answer()
		}
		return s.handle(r, name, body)
	}
	if fault != nil {
		fault.serve(w, r, call)
		return
	}
	call().writeTo(w)
}

// Format writes a fixed text for every verb: a project holds secrets.
func (s *Server) Format(f fmt.State, _ rune) { io.WriteString(f, "descopetest.Server") }
