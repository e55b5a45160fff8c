package descopehttp_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// forgers makes tokens of invented kids, well formed and with claims that are
// good, but signed by nobody.
type forgers struct {
	mu               sync.Mutex
	n                int
	session, refresh string // payloads
}

func newForgers(t testing.TB, h *hostile) *forgers {
	day := time.Now().Add(24 * time.Hour).Unix()
	return &forgers{
		session: segment(claimsJSON(t, h.claims(map[string]any{"exp": day}))),
		refresh: segment(claimsJSON(t, h.claims(map[string]any{"exp": day, "drn": "DSR"}))),
	}
}

func (f *forgers) next() (session, refresh string) {
	f.mu.Lock()
	f.n++
	header := segment(fmt.Sprintf(`{"alg":"RS256","kid":"SKinvented%d"}`, f.n))
	f.mu.Unlock()
	return header + "." + f.session + "." + segment("forged"), header + "." + f.refresh + "." + segment("forged")
}

// thousand sends a thousand invented kids, a hundred at once, each as a Bearer
// token, as a session cookie and as a refresh cookie.
func (f *forgers) thousand(t testing.TB, h http.Handler, pause time.Duration) {
	for range 10 {
		var wg sync.WaitGroup
		for i := range 100 {
			session, refresh := f.next()
			network := fmt.Sprintf("203.0.113.%d", i%8+1)
			for _, r := range []*http.Request{
				withBearer(get("/"), session),
				withCookies(get("/"), session, ""),
				withCookies(get("/"), "", refresh),
				withCookies(get("/"), session, refresh),
			} {
				wg.Go(func() {
					res := serve(h, from(network, r))
					assert.Contains(t, []int{401, 503}, res.StatusCode)
					assert.Empty(t, res.Cookies())
				})
			}
		}
		wg.Wait()
		elapse(pause)
	}
}
