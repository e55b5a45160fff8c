package kittest

import (
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A Browser keeps the two cookies the way a browser does.
type Browser struct {
	Session, Refresh string

	mu sync.Mutex
}

// SignIn returns a browser that has just signed in.
func SignIn(k *Kit, loginID string) *Browser {
	tokens := k.Project.SignIn(loginID)
	return &Browser{Session: tokens.Session, Refresh: tokens.Refresh}
}

// Do sends a request with the cookies as they are now and keeps what the answer
// sets.
func (b *Browser) Do(h http.Handler, r *http.Request) *http.Response {
	b.mu.Lock()
	session, refresh := b.Session, b.Refresh
	b.mu.Unlock()
	res := Serve(h, WithCookies(r, session, refresh))
	b.Keep(res)
	return res
}

// Keep keeps what an answer sets.
func (b *Browser) Keep(res *http.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, c := range CookiesOf(res) {
		value := c.Value
		if c.MaxAge < 0 {
			value = ""
		}
		switch name {
		case SessionCookie:
			b.Session = value
		case RefreshCookie:
			b.Refresh = value
		}
	}
}

// Copied returns a browser that does not see what this one keeps from now on: a
// request of it that is already under way.
func (b *Browser) Copied() *Browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Browser{Session: b.Session, Refresh: b.Refresh}
}

// Logout signs a browser out.
func Logout(k *Kit, b *Browser) *http.Response {
	return b.Do(k.Handler(), Post(LogoutPath, "{}"))
}

// RequireLoggedOut checks that nothing of a sign-in is honoured any more, by the
// kit or by Descope.
func RequireLoggedOut(t testing.TB, k *Kit, tokens ...string) {
	t.Helper()
	for _, refresh := range tokens {
		assert.False(t, k.Project.Honours(refresh))
		res := Serve(k.RequireSession(new(Spy)), WithCookies(Get("/"), "", refresh))
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		for _, c := range res.Cookies() {
			assert.Empty(t, c.Value)
		}
	}
}
