package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/descopehttp/descopehttp"
)

// payouts stands for a database: the account that each user is paid to. It is
// what a thief of a session would like to change, so it wants a step-up.
type payouts struct {
	mu       sync.Mutex
	accounts map[string]string // by the subject of the session
}

func (p *payouts) of(subject string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accounts[subject]
}

func (p *payouts) set(subject, account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accounts == nil {
		p.accounts = make(map[string]string)
	}
	p.accounts[subject] = account
}

// payoutPage runs behind a guard that asks for a step-up. Without one the kit
// sends the browser to Config.LoginURL, and that page sends it back here.
func (s *site) payoutPage(w http.ResponseWriter, r *http.Request) {
	v := s.view(r, "payout", "Your payout account")
	v.Payout = s.payouts.of(v.Session.Subject())
	s.render(w, http.StatusOK, v)
}

const maxPayoutBody = 4 << 10 // bytes

var accountPattern = regexp.MustCompile(`^[A-Z0-9]{4,34}$`)

// changePayout is behind the same guard. The page may have been open for longer
// than a step-up lasts; the kit's answer to its script is then 401
// step_up_required, and the script asks for a code and tries again.
func (s *site) changePayout(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Account string `json:"account"`
	}
	w.Header().Set("Cache-Control", "no-store")
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPayoutBody)).Decode(&in)
	account := strings.ToUpper(strings.ReplaceAll(in.Account, " ", ""))
	if err != nil || !accountPattern.MatchString(account) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]any{"status": http.StatusBadRequest, "code": "invalid_field", "field": "account"})
		return
	}
	session, _ := descopehttp.SessionFromContext(r.Context()) // the guard saw to it
	s.payouts.set(session.Subject(), account)
	writeJSON(w, map[string]string{"account": account})
}
