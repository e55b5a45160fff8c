package scale

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// A peer is a middleware as they are usually written: each request whose session has
// expired refreshes it for itself, and what fails is a 401. It does not even check the
// signature.
type peer struct {
	client        *http.Client
	base, project string
}

// ServeHTTP implements [http.Handler].
func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s, err := r.Cookie("__Host-DS"); err == nil && !hasExpired(s.Value) {
		return
	}
	refresh, err := r.Cookie("__Host-DSR")
	if err != nil || !p.refresh(w, r, refresh.Value) {
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func (p *peer) refresh(w http.ResponseWriter, r *http.Request, refresh string) bool {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, p.base+refreshPath, strings.NewReader("{}"))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+p.project+":"+refresh)
	req.Header.Set("Content-Type", "application/json")
	res, err := p.client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var tokens struct {
		Session string `json:"sessionJwt"`
		Refresh string `json:"refreshJwt"`
	}
	if res.StatusCode != http.StatusOK || json.NewDecoder(res.Body).Decode(&tokens) != nil {
		return false
	}
	http.SetCookie(w, &http.Cookie{Name: "__Host-DS", Value: tokens.Session})
	if tokens.Refresh != "" {
		http.SetCookie(w, &http.Cookie{Name: "__Host-DSR", Value: tokens.Refresh})
	}
	return true
}

func hasExpired(session string) bool {
	var claims struct {
		Exp int64 `json:"exp"`
	}
	parts := strings.Split(session, ".")
	if len(parts) != 3 {
		return true
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return err != nil || json.Unmarshal(payload, &claims) != nil || time.Now().Unix() >= claims.Exp
}
