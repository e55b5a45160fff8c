package descopehttp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A listener is an OnEvent that notes what it is told.
type listener struct {
	mu     sync.Mutex
	events []descopehttp.Event
}

func (l *listener) config(c *descopehttp.Config) { c.OnEvent = l.onEvent }

func (l *listener) onEvent(ctx context.Context, e descopehttp.Event) {
	if ctx.Err() != nil {
		panic("the context has ended")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// take returns what was told since the last call.
func (l *listener) take() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		names = append(names, e.Name)
	}
	l.events = nil
	return names
}

func (l *listener) last() descopehttp.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[len(l.events)-1]
}

// An application hears of a sign-up, of the first sign-in, of those after it, and of a
// step-up, each before the answer, with who it is.
func TestOnEventOfSignIns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		k := kittest.New(t, l.config)
		k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
		const id = "grace@example.com"
		b := new(kittest.Browser)
		post := func(path, body string) *http.Response { return b.Do(k.Handler(), kittest.Post(path, body)) }
		verify := func(options string) *http.Response {
			return post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q,"loginOptions":%s}`, id, k.Project.Code(id), options))
		}
		require.Equal(t, http.StatusOK, post(kittest.SignUpPath, `{"loginId":"`+id+`","user":{"name":"Grace"}}`).StatusCode)
		e := l.last()
		assert.Equal(t, "signed_up", e.Name)
		assert.Equal(t, []string{id}, e.User.LoginIDs)
		assert.Equal(t, "Grace", e.User.Name)
		assert.Empty(t, e.User.ID)
		assert.Nil(t, e.Session)

		require.Equal(t, http.StatusOK, verify(`{}`).StatusCode)
		e = l.last()
		assert.Equal(t, "signed_in", e.Name)
		assert.Equal(t, kittest.SubjectOf(t, k, b.Session), e.User.ID)
		assert.Equal(t, e.User.ID, e.Session.Subject())
		assert.Equal(t, b.Session, e.Session.Token())
		assert.Equal(t, []string{id}, e.User.LoginIDs)
		assert.True(t, e.User.FirstSeen)
		assert.Equal(t, "ok", e.Outcome)

		require.Equal(t, http.StatusOK, verify(`{}`).StatusCode)
		assert.False(t, l.last().User.FirstSeen)
		require.Equal(t, http.StatusOK, verify(`{"stepup":true}`).StatusCode)
		assert.True(t, l.last().Session.StepUp())
		assert.Equal(t, []string{"signed_up", "signed_in", "signed_in", "stepped_up"}, l.take())

		_, _, err := k.SignIn(httptest.NewRecorder(), kittest.Post("/signin", ""), descopehttp.SignIn{LoginID: id, Code: k.Project.Code(id)})
		require.NoError(t, err)
		assert.Equal(t, []string{"signed_in"}, l.take())
		post(kittest.VerifyPath, `{"loginId":"`+id+`","code":"`+kittest.OtherCode(k.Project.Code(id))+`"}`)
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		assert.Empty(t, l.take(), "neither of a wrong code nor of a page")
	})
}

// Who hangs up has signed in nevertheless, and the application's record can still be made.
func TestOnEventOutlivesTheClient(t *testing.T) {
	l := new(listener)
	k := kittest.New(t, l.config)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Ada, k.Project.Code(kittest.Ada))).WithContext(ctx))
	assert.Equal(t, []string{"signed_in"}, l.take())
}

func TestOnEventOfSignOuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		k := kittest.New(t, l.config)
		id := k.Project.SignIn(kittest.Ada)
		subject := kittest.SubjectOf(t, k, id.Session)
		b := kittest.SignIn(k, kittest.Ada)
		again := b.Copied()
		require.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(k, again).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(k, new(kittest.Browser)).StatusCode)
		assert.Equal(t, subject, l.last().User.ID)
		assert.Equal(t, []string{"signed_out"}, l.take(), "once")

		b = kittest.SignIn(k, kittest.Ada)
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.LogoutAllPath, ``)).StatusCode)
		assert.Equal(t, []string{"signed_out_everywhere"}, l.take())

		kittest.Elapse(time.Second)
		b = kittest.SignIn(k, kittest.Ada)
		k.Project.Fail(kittest.LogoutPath, descopetest.Fault{Status: 503})
		require.Equal(t, http.StatusBadGateway, kittest.Logout(k, b).StatusCode)
		assert.Equal(t, []string{"unknown", "unavailable"}, []string{l.last().Outcome, l.last().Code})
		assert.Equal(t, []string{"signed_out"}, l.take())
	})
}

// What Descope could not be told, or refused, is told as the client is; and when a repeat has
// brought it there, that is told too.
func TestOnEventOfASignOutAtTheSecondTry(t *testing.T) {
	for code, fault := range map[string]descopetest.Fault{
		"unavailable":     {Status: 503},
		"refresh_refused": {Status: 401, Body: `{"errorCode":"E061004"}`},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := new(listener)
			k := kittest.New(t, l.config)
			b := kittest.SignIn(k, kittest.Ada)
			again := b.Copied()
			k.Project.Fail(kittest.LogoutPath, fault)
			kittest.RequireProblem(t, kittest.Logout(k, b), http.StatusBadGateway, code)
			assert.Equal(t, code, l.last().Code)
			assert.Equal(t, []string{"signed_out"}, l.take())
			require.Equal(t, http.StatusOK, kittest.Logout(k, again.Copied()).StatusCode)
			assert.Equal(t, "ok", l.last().Outcome)
			assert.Equal(t, []string{"signed_out"}, l.take())
			require.Equal(t, http.StatusOK, kittest.Logout(k, again).StatusCode)
			assert.Empty(t, l.take())
		})
	}
}

// A sign-out with an old copy of a profile ends nothing of the sign-in that goes on, so it
// is none.
func TestOnEventOfASignOutWithASpentToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		k, b := kittest.NewRotating(t, l.config)
		old := b.Copied()
		page := k.RequireSession(new(kittest.Spy))
		for range 2 {
			require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
			kittest.Elapse(time.Second)
		}
		kittest.Elapse(3 * kittest.Past) // the sign-in is forgotten here, but that old is spent is not
		require.Equal(t, http.StatusOK, kittest.Logout(k, old).StatusCode)
		require.True(t, k.Project.Honours(b.Refresh))
		assert.Equal(t, []string{"token_reused"}, l.take())
		require.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
		assert.Equal(t, []string{"signed_out"}, l.take())
		assert.False(t, k.Project.Honours(b.Refresh))
	})
}

// Descope's refusal is told when it is for good, by one of the requests that met it, on one
// of the replicas that share a store.
func TestOnEventOfRefusals(t *testing.T) {
	for _, stores := range []int{1, 0} {
		synctest.Test(t, func(t *testing.T) {
			l := new(listener)
			replicas, store, b := kittest.NewReplicas(t, 2, l.config)
			if stores == 0 {
				store.Break(errors.New("away"))
			}
			for _, k := range replicas {
				k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E064001"}`, Times: -1})
			}
			others := []*kittest.Browser{b.Copied(), b.Copied(), b.Copied()}
			for range 8 {
				var all sync.WaitGroup
				for i, other := range others {
					all.Go(func() { other.Do(replicas[i%2].RequireSession(new(kittest.Spy)), kittest.Get("/")) })
				}
				all.Wait()
				kittest.Elapse(20 * time.Second)
			}
			if stores == 0 {
				assert.Empty(t, l.take(), "nothing is final while another replica may know better")
				return
			}
			assert.Equal(t, []string{"refused", "session_ended"}, []string{l.last().Outcome, l.last().Code})
			assert.Equal(t, []string{"session_refused"}, l.take())
		})
	}
}

// A spent token that comes back after its window is told once, whoever tries how often.
func TestOnEventOfReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		k, b := kittest.NewRotating(t, l.config)
		thief := b.Copied()
		page := k.RequireSession(new(kittest.Spy))
		for range 3 {
			require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
			kittest.Elapse(time.Minute)
		}
		for range 3 {
			kittest.RequireProblem(t, thief.Copied().Do(page, kittest.Get("/")), http.StatusUnauthorized, "session_ended")
		}
		assert.Equal(t, kittest.SubjectOf(t, k, b.Session), l.last().User.ID)
		assert.Equal(t, []string{"token_reused"}, l.take())
	})
}

// Nothing is said of a user whom somebody has only claimed to be.
func TestOnEventIsNotOfInventedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(listener)
		h := kittest.NewHostile(t, l.config)
		require.NoError(t, h.Ready(t.Context()))
		_, refresh := kittest.NewForgers(t, h).Next()
		b := &kittest.Browser{Refresh: refresh}
		h.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061005"}`, Times: -1})
		for range 3 {
			b.Copied().Do(h.RequireSession(new(kittest.Spy)), kittest.Get("/"))
			kittest.Elapse(11 * time.Second)
		}
		kittest.Logout(h.Kit, b.Copied())
		assert.Positive(t, h.Project.Requests(kittest.RefreshPath))
		assert.Empty(t, l.take())
	})
}

// A panic is logged and stops nothing, and neither Session nor User prints.
func TestOnEventThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch()
		k := kittest.New(t, func(c *descopehttp.Config) {
			c.OnEvent = func(_ context.Context, e descopehttp.Event) {
				w.say("%v\n%+v\n%#v\n%s", e, e, e, slog.AnyValue(e))
				panic(e.User.LoginIDs)
			}
		})
		b := new(kittest.Browser)
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Ada, k.Project.Code(kittest.Ada)))).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
		assert.Contains(t, k.Logs.String(), "event=panicked class=OnEvent")
		require.Len(t, w.texts, 2)
		w.say("%s", k.Logs)
		for text := range w.texts {
			for _, secret := range []string{b.Session, b.Refresh, "eyJ", kittest.Ada, "U2"} {
				if secret != "" {
					assert.NotContains(t, text, secret)
				}
			}
		}
	})
}
