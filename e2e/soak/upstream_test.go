package soak_test

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
)

const (
	refreshPath = "/v1/auth/refresh"
	logoutPath  = "/v1/auth/logout"
	verifyPath  = "/v1/auth/totp/verify"
	mePath      = "/v1/auth/me"
)

// An upstream is a project over a bad line. It knows which answers were lost.
type upstream struct {
	*descopetest.Server

	mu     sync.Mutex // guards the rest
	well   bool       // no faults any more
	outage time.Time  // everything fails until then
	spent  map[tokenHash]spending
	calls  map[string]int
}

// A token is kept as its hash, so that the ledger takes little of the heap that
// is measured.
type tokenHash [16]byte

func hashOf(token string) tokenHash {
	sum := sha256.Sum256([]byte(token))
	return tokenHash(sum[:16])
}

// A spending is what became of a refresh token.
type spending struct {
	at   time.Time
	next tokenHash // zero if the answer was lost
}

// How many of a thousand calls go wrong, and how.
const (
	unavailable = 12
	slow        = 20
	dropped     = 5
	lost        = 4
	halved      = 2
	busy        = 2
	blocked     = 3
)

func newUpstream() *upstream {
	u := &upstream{
		Server: descopetest.NewServer(),
		spent:  make(map[tokenHash]spending),
		calls:  make(map[string]int),
	}
	u.Configure(func(s *descopetest.Settings) {
		s.Alg = "ES256" // two tokens are never the same
		s.SessionTTL = sessionTTL
		s.RotateRefresh = true
		s.AllowCodeReuse = true
	})
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := ""
	if parts := strings.Split(r.Header.Get("Authorization"), ":"); len(parts) > 1 {
		token = parts[1]
	}
	fault := u.fault(r.URL.Path)
	switch fault {
	case "unavailable":
		http.Error(w, "<html>", []int{500, 502, 503}[rand.IntN(3)])
		return
	case "busy":
		w.Header().Set("Retry-After", "1")
		http.Error(w, `{"errorCode":"E130429"}`, http.StatusTooManyRequests)
		return
	case "blocked":
		http.Error(w, "<html>", http.StatusForbidden)
		return
	case "dropped":
		panic(http.ErrAbortHandler)
	case "slow":
		if !wait(r, time.Duration(20+rand.IntN(600))*time.Millisecond) {
			panic(http.ErrAbortHandler)
		}
	}
	u.carryOut(w, r, token, fault)
}

// carryOut has the project answer, and enters what became of the token.
func (u *upstream) carryOut(w http.ResponseWriter, r *http.Request, token, fault string) {
	honoured := r.URL.Path == refreshPath && u.Honours(token)
	a := httptest.NewRecorder()
	u.Server.ServeHTTP(a, r)
	body := a.Body.Bytes()
	var tokens struct{ RefreshJwt string }
	_ = json.Unmarshal(body, &tokens)
	rotated := honoured && a.Code == http.StatusOK && tokens.RefreshJwt != ""
	if rotated {
		u.enter(token, tokens.RefreshJwt, fault == "lost" || fault == "halved")
	}
	if fault == "lost" {
		panic(http.ErrAbortHandler)
	}
	for name, values := range a.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Code)
	if fault == "halved" {
		body = body[:len(body)/2]
	}
	_, err := w.Write(body)
	if fault == "halved" {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	if rotated && (err != nil || r.Context().Err() != nil) {
		u.enter(token, "", true)
	}
}

func (u *upstream) fault(path string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls[path]++
	if u.well {
		return ""
	}
	if time.Now().Before(u.outage) {
		return "unavailable"
	}
	n := rand.IntN(1000)
	for _, f := range []struct {
		name string
		of   int
	}{
		{"unavailable", unavailable}, {"slow", slow}, {"dropped", dropped}, {"lost", lost},
		{"halved", halved}, {"busy", busy}, {"blocked", blocked},
	} {
		if n < f.of {
			u.calls["fault: "+f.name]++
			return f.name
		}
		n -= f.of
	}
	return ""
}

// ledgerMemory is how long it is remembered what became of a token.
const ledgerMemory = 90 * time.Second

func (u *upstream) enter(token, next string, gone bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	s := spending{at: now}
	if !gone {
		s.next = hashOf(next)
	} else {
		u.calls["answers lost"]++
	}
	u.spent[hashOf(token)] = s
	if len(u.spent)%256 != 0 {
		return
	}
	for t, s := range u.spent {
		if now.Sub(s.at) > ledgerMemory {
			delete(u.spent, t)
		}
	}
}

// verdict says what a refresh token is worth: it is good if Descope honours it,
// or honours what it was spent for less than a minute ago.
func (u *upstream) verdict(token string) (good bool, why string) {
	if token == "" {
		return false, "no token"
	}
	if u.Honours(token) {
		return true, "honoured"
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	s, ok := u.spent[hashOf(token)]
	switch {
	case !ok:
		return false, "ended"
	case now.Sub(s.at) >= successorWindow:
		return false, "spent more than a minute ago"
	}
	for ok {
		if s.next == (tokenHash{}) {
			return false, "spent, and the answer lost"
		}
		s, ok = u.spent[s.next]
	}
	return true, "just renewed"
}

// heal ends all faults.
func (u *upstream) heal() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.well, u.outage = true, time.Time{}
}

// breakDown lets everything fail for a while.
func (u *upstream) breakDown(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.well {
		u.outage = time.Now().Add(d)
	}
}

// wait returns after d, false if the client has gone by then. What was sent has
// to be read first: only then does net/http notice.
func wait(r *http.Request, d time.Duration) bool {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
