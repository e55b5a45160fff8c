package descopehttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/internal/notice"
)

// An observed is an Observer that notes what it sees.
type observed struct {
	mu     sync.Mutex
	events []descopehttp.Event
}

func (o *observed) config(c *descopehttp.Config) { c.Observer = o.observe }

func (o *observed) observe(ctx context.Context, e descopehttp.Event) {
	if ctx == nil {
		panic("no context")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// take returns the events of that name since the last call, in words.
func (o *observed) take(names ...string) (words []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		if !slices.Contains(names, e.Name) {
			continue
		}
		word := strings.Join(strings.Fields(strings.Join([]string{e.Name, e.Class, e.Outcome, e.Code}, " ")), " ")
		if e.Cached {
			word += " cached"
		}
		words = append(words, word)
	}
	o.events = nil
	return words
}

func TestEventsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/events.md")
	require.NoError(t, err)
	section, _, _ := strings.Cut(string(text), "\n## ")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[a-z_`,() A-Z']+) \\|").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented = append(documented, name[1])
		}
	}
	assert.ElementsMatch(t, notice.Observed(), documented)

	_, section, _ = strings.Cut(string(text), "\n## Sign-ins and their ends\n")
	documented = nil
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, row[1])
	}
	assert.Equal(t, notice.Told(), documented)
}

func TestObservedVerdicts(t *testing.T) {
	o := new(observed)
	h := kittest.NewHostile(t, o.config, func(c *descopehttp.Config) { c.LoginURL = "" })
	token := h.With(nil)
	page := h.RequireSession(h.RequireSession(new(kittest.Spy)))
	kittest.Serve(page, kittest.WithBearer(kittest.Get("/"), token))
	kittest.Serve(page, kittest.WithBearer(kittest.Get("/"), token))
	kittest.Serve(page, kittest.WithCookies(kittest.Get("/"), token, ""))
	kittest.Serve(page, kittest.Get("/"))
	kittest.Serve(h.LoadSession(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), h.With(map[string]any{"exp": 1})))
	kittest.Serve(h.Require(descopehttp.Role("none"))(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), token))
	_, err := h.VerifyToken(t.Context(), token)
	require.NoError(t, err)
	_, err = h.VerifyToken(t.Context(), "x.y.z")
	require.Error(t, err)
	assert.Equal(t, []string{
		"verdict request ok", "verdict request ok cached", "verdict request ok cached", "verdict request refused no_session",
		"verdict request refused session_expired", "verdict request ok cached", "guard refused missing_role", "verdict token ok cached", "verdict token refused invalid_token",
	}, o.take("verdict", "guard"))
}

func TestObservedRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(observed)
		k, b := kittest.NewRotating(t, o.config)
		page := k.RequireSession(new(kittest.Spy))
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 100 * time.Millisecond})
		old := b.Copied()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { b.Do(page, kittest.Get("/")) })
		}
		all.Wait()
		assert.ElementsMatch(t, []string{"refresh renewed", "refresh joined", "refresh joined"}, o.take("refresh"))

		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, old.Copied().Do(page, kittest.Get("/")).StatusCode)
		assert.Equal(t, []string{"refresh late"}, o.take("refresh"))

		kittest.Elapse(5 * time.Second)
		b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, ``))
		assert.Equal(t, []string{"refresh explicit", "flow refresh ok"}, o.take("refresh", "flow"))

		kittest.Elapse(kittest.Past)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 500})
		b.Do(page, kittest.Get("/"))
		assert.Equal(t, []string{"refresh unknown unavailable", "verdict request unknown unavailable"}, o.take("refresh", "verdict"))
		kittest.Elapse(time.Minute)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E064001"}`})
		b.Do(page, kittest.Get("/"))
		assert.Equal(t, []string{"call session refused E064001", "refresh refused session_ended"}, o.take("refresh", "call"))
	})
}

// What is renewed early is observed when its answer has come, though the request did not wait.
func TestObservedEarlyRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(observed)
		k, b := newEarly(t, kittest.Rotating, early(descopehttp.EarlyAlways), o.config)
		kittest.Elapse(5 * time.Minute)
		o.take()
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Delay: 3 * time.Second})
		page := k.RequireSession(new(kittest.Spy))
		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		assert.Empty(t, o.take("refresh"))
		require.NoError(t, k.Wait(t.Context()))
		o.mu.Lock()
		last := o.events[len(o.events)-1]
		o.mu.Unlock()
		assert.Equal(t, "early", last.Outcome)
		assert.Equal(t, 3*time.Second, last.Took)
		kittest.Elapse(2 * time.Second)
		o.take()
		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		assert.Equal(t, []string{"refresh joined"}, o.take("refresh"))
	})
}

func TestObservedFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(observed)
		k := kittest.New(t, o.config, func(c *descopehttp.Config) {
			c.LoginOptions = func(_ *http.Request, loginID string, _ map[string]any) error {
				if loginID == "panic" {
					panic("secret of a hook")
				}
				return nil
			}
		})
		k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
		b := new(kittest.Browser)
		post := func(path, format string, args ...any) {
			b.Do(k.Handler(), kittest.Post(path, fmt.Sprintf(format, args...)))
		}
		code := k.Project.Code(kittest.Ada)
		post(kittest.SignUpPath, `{"loginId":"new"}`)
		for range 10 {
			post(kittest.VerifyPath, `{"loginId":%q,"code":%q}`, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		post(kittest.VerifyPath, `{"loginId":%q,"code":%q}`, kittest.Ada, code)
		assert.Equal(t, []string{"flow sign_up ok", "flow sign_in refused invalid_code", "flow sign_in limited too_many_requests"}, slices.Compact(o.take("flow")))
		kittest.Elapse(10 * time.Minute)
		code = k.Project.Code(kittest.Ada)
		post(kittest.VerifyPath, `{"loginId":%q,"code":%q}`, kittest.Ada, code)
		post(kittest.VerifyPath, `{"loginId":%q,"code":%q,"loginOptions":{"stepup":true}}`, kittest.Ada, code)
		post(kittest.UpdatePath, `{"loginId":%q}`, kittest.Ada)
		post(kittest.VerifyPath, `{"loginId":"panic","code":"123456"}`)
		b.Do(k.Handler(), kittest.Get(kittest.MePath))
		b.Do(k.Handler(), kittest.Get(kittest.HistoryPath))
		post(kittest.TenantsPath, `{}`)
		post(kittest.SelectPath, `{"tenant":"none"}`)
		post(kittest.TryRefreshPath, ``)
		post(kittest.LogoutAllPath, ``)
		b = kittest.SignIn(k, kittest.Ada)
		post(kittest.LogoutPath, ``)
		assert.Equal(t, []string{"flow sign_in ok", "flow step_up ok", "flow new_key ok", "flow sign_in unknown internal", "panicked flow", "flow user ok", "flow user ok",
			"flow tenants ok", "flow select_tenant refused refused", "flow refresh ok", "flow sign_out_everywhere ok", "flow sign_out ok"}, o.take("flow", "panicked"))
	})
}

func TestObservedStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, store := new(observed), kittest.NewMemoryStore()
		k, b := kittest.NewRotating(t, o.config, func(c *descopehttp.Config) { c.RefreshStore, c.AttemptStore = store, brokenAttempts{} })
		page := k.RequireSession(new(kittest.Spy))
		assert.Equal(t, []string{"key_fetch ok"}, o.take("key_fetch"))
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, Times: -1})
		for range 20 {
			b.Do(page, kittest.Get("/"))
			kittest.Elapse(10 * time.Second)
		}
		k.Project.Reset()
		b.Do(page, kittest.Get("/"))
		kittest.Elapse(time.Minute)
		b.Do(page, kittest.Get("/"))
		o.mu.Lock()
		lasted := o.events[slices.IndexFunc(o.events, func(e descopehttp.Event) bool { return e.Name == "gate_open" })].Took
		o.mu.Unlock()
		assert.Greater(t, lasted, 2*time.Minute)
		states := o.take("gate_closed", "gate_open", "call")
		assert.Equal(t, []string{"call session unreached", "gate_closed session", "call session unreached", "gate_open session", "call session ok"}, slices.Compact(states))

		store.Break(errors.New("away"))
		kittest.Elapse(kittest.Past)
		b.Do(page, kittest.Get("/"))
		kittest.Guess(k, "192.0.2.7", kittest.Ada, "000000")
		events := o.take("store", "refresh_store_away", "attempt_store_away")
		for _, want := range []string{"store refresh failed", "store refresh skipped", "refresh_store_away", "store attempt failed", "attempt_store_away"} {
			assert.Contains(t, events, want)
		}
		store.Break(nil)
		kittest.Elapse(kittest.Past)
		b.Do(page, kittest.Get("/"))
		events = o.take("store", "refresh_store_back")
		assert.Contains(t, events, "store refresh ok")
		assert.Contains(t, events, "refresh_store_back")

		kittest.Elapse(2 * time.Hour)
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 503})
		b.Do(page, kittest.Get("/"))
		require.NoError(t, k.Wait(t.Context()))
		assert.Equal(t, []string{"key_fetch unreached", "keys_stale"}, o.take("key_fetch", "keys_stale"))
	})
}

// An Observer that panics is told of, and stops nothing.
func TestObserverThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) {
			c.Observer = func(context.Context, descopehttp.Event) { panic("secret of the observer") }
		})
		page := k.RequireSession(new(kittest.Spy))
		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
		require.NoError(t, k.Wait(t.Context()))
		assert.Equal(t, 1, strings.Count(k.Logs.String(), "event=panicked class=Observer"))
		assert.NotContains(t, k.Logs.String(), "secret")
	})
}

// One that asks the Auth itself is not waited for by it.
func TestObserverMayAskTheAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k *kittest.Kit
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) {
			c.Observer = func(context.Context, descopehttp.Event) {
				if k != nil {
					k.Status()
				}
			}
		})
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, Times: 7})
		page := k.RequireSession(new(kittest.Spy))
		for range 20 {
			b.Do(page, kittest.Get("/"))
			kittest.Elapse(10 * time.Second)
		}
		require.Equal(t, http.StatusOK, kittest.Logout(k, b).StatusCode)
	})
}
