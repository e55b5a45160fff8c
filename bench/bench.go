// Package bench measures what it costs to check a session token of Descope with
// this kit and with other libraries, side by side in one process: time as a
// share of the bare signature check, allocations, requests per second, memory
// per session, and what happens at key rotations, stampedes and outages.
//
//	go run ./bench/cmd/report          # all of it, under 10 minutes
//	go run ./bench/cmd/report -quick   # the same in half a minute, more roughly
//	go test -bench . ./bench           # as Go benchmarks
//
// Times are of one machine at one time. What holds on others are the ratios:
// every chunk of work is paired with a chunk of the bare check next to it.
package bench

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// TokenSize is about the length in bytes of the token that all libraries check:
// RS256 with a 2048-bit key and the claims of a usual Descope session.
const TokenSize = 971

const (
	visitor  = "ada@example.com"
	audience = "shop"

	refreshPath = "/v1/auth/refresh"
	keysPath    = "/v2/keys"

	sessionCookie = "__Host-DS"
	refreshCookie = "__Host-DSR"
)

// A Project is a Descope project that is served on a loopback address, so that
// every library fetches keys in its own way.
type Project struct {
	*descopetest.Server
	Token   string // a session token, good for a day
	Refresh string // the refresh token beside it

	kid  string
	key  *rsa.PrivateKey
	http *httptest.Server
}

// NewProject starts a project. Close it.
func NewProject() (*Project, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	p := &Project{Server: descopetest.NewServer(), key: key}
	// As long as Descope's, and another for every project: clerk keeps keys by
	// kid for the whole process.
	p.kid = fmt.Sprintf("SK2bench%022d", mathrand.Uint64())
	p.AddKey(p.kid, key)
	p.AddUser(descopetest.User{
		LoginID:     visitor,
		Permissions: []string{"read", "write"},
		Tenants:     map[string]descopetest.Tenant{"T2abcdefghijklmnopqrstuvwxyz": {Roles: []string{"owner"}, Permissions: []string{"pay"}}},
	})
	// auth0 and go-oidc insist on an audience, clerk on an issuer that begins so.
	p.Configure(func(s *descopetest.Settings) {
		s.Issuer = "https://clerk.example.com/" + s.ProjectID
		s.EditClaims = func(kind string, claims map[string]any) {
			if kind == "DS" {
				p.addClaims(claims)
			}
		}
	})
	p.Token = p.Sign(nil, p.claims(nil))
	p.Refresh = p.SignIn(visitor).Refresh
	p.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/jwks" { // where clerk looks
			r.URL.Path = p.keysPath()
		}
		p.ServeHTTP(w, r)
	}))
	return p, nil
}

// Close ends the project's listener.
func (p *Project) Close() { p.http.Close() }

// URL is where the project answers, and KeysURL where its key set is.
func (p *Project) URL() string     { return p.http.URL }
func (p *Project) KeysURL() string { return p.http.URL + p.keysPath() }
func (p *Project) keysPath() string {
	return keysPath + "/" + p.ProjectID()
}

// KeyFetches returns how often somebody asked for the key set.
func (p *Project) KeyFetches() int { return p.Requests(keysPath) }

func (p *Project) issuer() string { return "https://clerk.example.com/" + p.ProjectID() }

// PublicKey is for libraries that are given keys and do not fetch them.
func (p *Project) PublicKey() crypto.PublicKey { return p.key.Public() }

// addClaims adds what a project's JWT template might.
func (p *Project) addClaims(claims map[string]any) {
	claims["aud"] = audience
	claims["email"] = visitor
	claims["name"] = "Ada Lovelace"
	claims["plan"] = "team, 25 seats, yearly"
}

func (p *Project) claims(changes map[string]any) map[string]any {
	claims := p.SessionClaims(visitor)
	p.addClaims(claims)
	claims["exp"] = time.Now().Add(24 * time.Hour).Unix()
	maps.Copy(claims, changes)
	return claims
}

// Tampered returns the token with one bit of its signature changed.
func (p *Project) Tampered() string {
	i := len(p.Token) - 100
	other := byte('A')
	if p.Token[i] == other {
		other = 'B'
	}
	return p.Token[:i] + string(other) + p.Token[i+1:]
}

// Auth returns the kit over this project.
func (p *Project) Auth(edits ...func(*descopehttp.Config)) (*descopehttp.Auth, error) {
	cfg := descopehttp.Config{
		ProjectID: p.ProjectID(),
		BaseURL:   p.URL(),
		Audience:  audience,
		Logger:    slog.New(slog.DiscardHandler),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	return descopehttp.New(cfg)
}

// Bearer returns a request that carries the token in its Authorization header.
func Bearer(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// Cookies returns a request that carries the tokens as the kit's cookies.
func Cookies(session, refresh string) *http.Request {
	pairs := []string{"theme=dark", sessionCookie + "=" + session}
	if refresh != "" {
		pairs = append(pairs, refreshCookie+"="+refresh)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", strings.Join(pairs, "; "))
	return r
}

// discard is a ResponseWriter that costs next to nothing.
type discard struct{ header http.Header }

func newDiscard() *discard                         { return &discard{make(http.Header)} }
func (d *discard) Header() http.Header             { return d.header }
func (*discard) Write(p []byte) (int, error)       { return len(p), nil }
func (*discard) WriteString(s string) (int, error) { return len(s), nil }
func (*discard) WriteHeader(int)                   {}

var errNotAdmitted = errors.New("the good token was refused")

// nothing is the handler behind all middleware.
var nothing = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
