package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// minSessionTTL is the shortest session of the demo. Tokens carry whole
// seconds, so that one of a second's life could be born expired.
const minSessionTTL = 2 * time.Second

// demoUser exists from the start, to try a sign-in without a sign-up.
const demoUser = "ada@example.com"

// A demo is a Descope project in memory. It plays the authenticator app as
// well: it tells anybody the code of any user. Nothing of it belongs into an
// application of yours.
type demo struct {
	project *descopetest.Server
}

func newDemo(sessionTTL time.Duration, codeReuse bool) *demo {
	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) {
		s.SessionTTL = sessionTTL
		// Short enough to see the payout page ask again.
		s.StepUpTTL = time.Minute
		// The stricter setting: every renewal replaces the refresh token too.
		s.RotateRefresh = true
		// Each code works once, and whoever signs out and in again has to wait for the next.
		s.AllowCodeReuse = codeReuse
	})
	project.AddUser(descopetest.User{
		LoginID: demoUser,
		Name:    "Ada Lovelace",
		Roles:   []string{"reader"},
		Tenants: map[string]descopetest.Tenant{"acme": {Name: "Acme", Roles: []string{"admin", "editor"}}},
		Tenant:  "acme",
	})
	return &demo{project: project}
}

// configure points the kit at the project in memory.
func (d *demo) configure(cfg *descopehttp.Config) {
	cfg.ProjectID = d.project.ProjectID()
	cfg.BaseURL = d.project.URL()
	cfg.HTTPClient = d.project.Client()
	// Both sides read one clock. Without leeway a session ends on the second,
	// and its renewal can be watched.
	cfg.Leeway = -1
}

// A demoCode is what an authenticator app shows.
type demoCode struct {
	Code        string `json:"code"`
	SecondsLeft int64  `json:"secondsLeft"` // until another code takes its place
}

// code tells the code that is valid now for the user in ?loginId=.
func (d *demo) code(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	loginID := r.URL.Query().Get("loginId")
	if !d.project.HasUser(loginID) {
		http.Error(w, "no such user", http.StatusNotFound)
		return
	}
	const step = 30 // seconds; RFC 6238, section 4.1
	writeJSON(w, demoCode{
		Code:        d.project.Code(loginID),
		SecondsLeft: step - time.Now().Unix()%step,
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // an error here means that the client has gone
}
