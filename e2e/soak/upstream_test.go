package soak_test

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"maps"
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

	replicaHeader = "X-Replica"
	mePath        = "/v1/auth/me"
)

// An upstream is a project over a bad line. It knows which answers were lost.
type upstream struct {
	*descopetest.Server

	mu     sync.Mutex // guards the rest
	well   bool       // no faults yet, or any more
	outage time.Time  // everything fails until then
	lost   time.Time  // when Redis last lost everything
	spent  map[tokenHash]spending
	shown  map[tokenHash]time.Time // to a replica, and when last
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
	by   string    // the replica
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
		well:   true,
		spent:  make(map[tokenHash]spending),
		shown:  make(map[tokenHash]time.Time),
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

func tokenIn(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Authorization"), ":")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := tokenIn(r)
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
		u.enter(r, token, tokens.RefreshJwt, fault == "lost" || fault == "halved")
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
		u.enter(r, token, "", true)
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

// lose enters that the answer to a call did not reach the replica.
func (u *upstream) lose(r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	id := hashOf(tokenIn(r))
	if s, ok := u.spent[id]; ok && r.URL.Path == refreshPath && s.by == r.Header.Get(replicaHeader) {
		u.calls["answers lost"]++
		u.spent[id] = spending{at: s.at, by: s.by}
	}
}

// ledgerMemory is how long it is remembered what became of a token.
const ledgerMemory = 90 * time.Second

func (u *upstream) enter(r *http.Request, token, next string, gone bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	s := spending{at: now, by: r.Header.Get(replicaHeader)}
	if !gone {
		s.next = hashOf(next)
	} else {
		u.calls["answers lost"]++
	}
	u.spent[hashOf(token)] = s
	if len(u.spent)%256 != 0 {
		return
	}
	maps.DeleteFunc(u.spent, func(_ tokenHash, s spending) bool { return now.Sub(s.at) > ledgerMemory })
	maps.DeleteFunc(u.shown, func(_ tokenHash, at time.Time) bool { return now.Sub(at) > ledgerMemory })
}

// show enters that a browser sends a token.
func (u *upstream) show(token string) {
	if token == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.shown[hashOf(token)] = time.Now()
}

// overtaken reports whether the browser has shown what came of a token. It got two answers
// in the wrong order then, and is to the kit what a thief is.
func (u *upstream) overtaken(token string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s, ok := u.spent[hashOf(token)]; ok; s, ok = u.spent[s.next] {
		if _, shown := u.shown[s.next]; shown {
			return true
		}
	}
	return false
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

// noteStoreLost notes that the replicas' store has lost all that it held.
func (u *upstream) noteStoreLost() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lost = time.Now()
}

// scattered reports whether no replica alone knows what became of a token, and the
// store, which did, has lost it.
func (u *upstream) scattered(token string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	first, ok := u.spent[hashOf(token)]
	if !ok || first.at.After(u.lost) {
		return false
	}
	for s, ok := first, true; ok; s, ok = u.spent[s.next] {
		if s.by != first.by {
			return true
		}
	}
	return false
}

// spoil lets faults begin.
func (u *upstream) spoil() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.well = false
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
