package notice_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
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

// The page for operators tells of each line what it means and what to do.
func TestOperationsPageHasEveryLine(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(page), "\n## The log\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| ([A-Za-z]+) \\| `([a-z_]+)` \\| [^|]{10,} \\| [^|]+ \\|$").FindAllStringSubmatch(section, -1) {
		documented = append(documented, m[1]+" "+m[2])
	}
	var known []string
	for _, l := range notice.Lines() {
		known = append(known, l.Level.String()+" "+l.Event)
	}
	require.Greater(t, len(known), 20)
	for i := range documented {
		level, event, _ := strings.Cut(documented[i], " ")
		documented[i] = strings.ToUpper(level) + " " + event
	}
	assert.Equal(t, known, documented)
}

type attempts struct{ err error }

func (s *attempts) Add(_ context.Context, _ string, _ int, window time.Duration) (int, time.Duration, error) {
	return 1, window, s.err
}

// visit is a request for a page, with the cookies of b where there is one.
func visit(k *kittest.Kit, b *kittest.Browser) *http.Response {
	h := k.RequireSession(new(kittest.Spy))
	if b == nil {
		return kittest.Serve(h, kittest.Get("/"))
	}
	return b.Do(h, kittest.Get("/"))
}

// refuseRefresh has a refresh answered in Descope's place.
func refuseRefresh(t *testing.T, status int, code string) *kittest.Kit {
	k, b := kittest.NewRotating(t)
	k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: status, Body: `{"errorCode":"` + code + `"}`})
	visit(k, b)
	return k
}

func refuseSignIn(t *testing.T, status int, code string) *kittest.Kit {
	k := kittest.New(t)
	k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: status, Body: `{"errorCode":"` + code + `"}`})
	kittest.Guess(k, "192.0.2.7", kittest.Ada, "000000")
	return k
}

// outage is half an hour in which a page is asked for every ten seconds, and a minute after it.
func outage(t *testing.T, fault descopetest.Fault, edits ...func(*descopehttp.Config)) *kittest.Kit {
	k, b := kittest.NewRotating(t, edits...)
	fault.Times = -1
	k.Project.Fail(kittest.RefreshPath, fault)
	for range 180 {
		visit(k, b)
		kittest.Elapse(10 * time.Second)
	}
	k.Project.Reset()
	for range 6 {
		visit(k, b)
		kittest.Elapse(10 * time.Second)
	}
	return k
}

func keysFail(t *testing.T, before time.Duration) *kittest.Kit {
	k := kittest.New(t)
	if before > 0 {
		require.NoError(t, k.Ready(t.Context()))
		kittest.Elapse(before)
	}
	k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 503, Times: 1})
	b := kittest.SignIn(k, kittest.Ada)
	visit(k, b)
	require.NoError(t, k.Wait(t.Context()))
	kittest.Elapse(10 * time.Second)
	visit(k, b)
	require.NoError(t, k.Wait(t.Context()))
	return k
}

// signIn signs Ada in with what a page sends.
func signIn(t *testing.T, from string, edits ...func(*descopehttp.Config)) *kittest.Kit {
	k := kittest.New(t, edits...)
	k.Project.Configure(func(s *descopetest.Settings) {
		s.EditClaims = func(_ string, claims map[string]any) { claims["pad"] = strings.Repeat("x", 5000) }
	})
	r := kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Ada, k.Project.Code(kittest.Ada)))
	r.Host = "shop.example"
	r.Header.Set("Origin", from)
	kittest.Serve(k.Handler(), r)
	return k
}

func refreshStore(t *testing.T, during func(*kittest.MemoryStore)) *kittest.Kit {
	replicas, store, b := kittest.NewReplicas(t, 2)
	late := b.Copied()
	visit(replicas[0], b)
	during(store)
	visit(replicas[1], late.Copied())
	store.Break(nil)
	kittest.Elapse(11 * time.Second)
	visit(replicas[1], late)
	return replicas[1]
}

func attemptStore(t *testing.T) *kittest.Kit {
	s := &attempts{errors.New("secret address")}
	k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = s })
	kittest.Guess(k, "192.0.2.7", kittest.Ada, "000000")
	s.err = nil
	kittest.Guess(k, "192.0.2.7", kittest.Ada, "000000")
	return k
}

// provoked has, for each line, what brings it about.
var provoked = map[string]func(*testing.T) *kittest.Kit{
	"refused":       func(t *testing.T) *kittest.Kit { k := kittest.New(t); visit(k, nil); return k },
	"gate_closed":   func(t *testing.T) *kittest.Kit { return outage(t, descopetest.Fault{Drop: true}) },
	"gate_open":     func(t *testing.T) *kittest.Kit { return outage(t, descopetest.Fault{Drop: true}) },
	"gate_paused":   func(t *testing.T) *kittest.Kit { return outage(t, descopetest.Fault{Status: 429}) },
	"keys_stale":    func(t *testing.T) *kittest.Kit { return keysFail(t, 2*time.Hour) },
	"keys_missing":  func(t *testing.T) *kittest.Kit { return keysFail(t, 0) },
	"keys_fresh":    func(t *testing.T) *kittest.Kit { return keysFail(t, 2*time.Hour) },
	"keys_unusable": func(t *testing.T) *kittest.Kit { return withKeys(t, `{"keys":[]}`) },
	"keys_skipped":  func(t *testing.T) *kittest.Kit { return withKeys(t, `{"keys":[{"kty":"oct"}]}`) },

	"refresh_store_away": func(t *testing.T) *kittest.Kit {
		return refreshStore(t, func(s *kittest.MemoryStore) { s.Break(errors.New("secret address")) })
	},
	"refresh_store_back": func(t *testing.T) *kittest.Kit {
		return refreshStore(t, func(s *kittest.MemoryStore) { s.Break(context.DeadlineExceeded) })
	},
	"refresh_store_odd": func(t *testing.T) *kittest.Kit {
		return refreshStore(t, func(s *kittest.MemoryStore) {
			for key, e := range s.Entries {
				if _, err := strconv.Atoi(string(e.Value)); err != nil { // not when the store was born
					e.Value = []byte("rubbish")
					s.Entries[key] = e
				}
			}
		})
	},
	"attempt_store_away": attemptStore,
	"attempt_store_back": attemptStore,

	"unknown_project": func(t *testing.T) *kittest.Kit { return refuseSignIn(t, 404, "E011001") },
	"caller_refused":  func(t *testing.T) *kittest.Kit { return refuseSignIn(t, 401, "E061004") },
	"unknown_code":    func(t *testing.T) *kittest.Kit { return refuseSignIn(t, 400, "E112102") },
	"refresh_refused": func(t *testing.T) *kittest.Kit { return refuseRefresh(t, 400, "E011003") },
	"refresh_doubted": func(t *testing.T) *kittest.Kit { return refuseRefresh(t, 401, "E061004") },
	"odd_token": func(t *testing.T) *kittest.Kit {
		k, b := kittest.NewRotating(t)
		k.Project.Configure(func(s *descopetest.Settings) {
			s.EditClaims = func(_ string, claims map[string]any) { claims["exp"] = time.Now().Add(-time.Hour).Unix() }
		})
		visit(k, b)
		return k
	},
	"other_user": func(t *testing.T) *kittest.Kit {
		k, b := kittest.NewRotating(t)
		k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 200, Body: `{"sessionJwt":"` + k.Project.SignIn(kittest.Bob).Session + `"}`})
		visit(k, b)
		return k
	},

	"cross_origin": func(t *testing.T) *kittest.Kit { return signIn(t, "https://evil.example") },
	"unknown_address": func(t *testing.T) *kittest.Kit {
		return signIn(t, "https://shop.example", func(c *descopehttp.Config) { c.ClientIP = func(*http.Request) netip.Addr { return netip.Addr{} } })
	},
	"cookie_too_large": func(t *testing.T) *kittest.Kit { return signIn(t, "https://shop.example") },
	"cookie_dropped":   func(t *testing.T) *kittest.Kit { return signIn(t, "http://shop.example") },
	"login_page_guarded": func(t *testing.T) *kittest.Kit {
		k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL = "/" })
		r := kittest.Get("/")
		r.Header.Set("Accept", "text/html")
		kittest.Serve(k.RequireSession(new(kittest.Spy)), r)
		return k
	},
	"no_answer": func(t *testing.T) *kittest.Kit {
		k := kittest.New(t, func(c *descopehttp.Config) { c.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} })
		visit(k, nil)
		return k
	},
	"insecure_base_url": func(t *testing.T) *kittest.Kit {
		return kittest.New(t, func(c *descopehttp.Config) { c.BaseURL, c.InsecureBaseURL = "http://descope:8090", true })
	},
	"panicked": func(t *testing.T) *kittest.Kit {
		k, b := kittest.NewRotating(t, func(c *descopehttp.Config) { c.EndsSession = func(int, string) bool { panic("secret of a hook") } })
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004"}`})
		kittest.RequireProblem(t, visit(k, b), http.StatusServiceUnavailable, "unavailable")
		return k
	},
}

func withKeys(t *testing.T, document string) *kittest.Kit {
	k := kittest.NewHostile(t).WithKeySet(t, document)
	require.Error(t, k.Ready(t.Context()))
	return k
}

// Each line of the table is written where it should be, with fields of the known names.
func TestEveryLine(t *testing.T) {
	fields := regexp.MustCompile(`(?:^| )([a-zA-Z]+)=`)
	for _, l := range notice.Lines() {
		provoke := provoked[l.Event]
		if !assert.NotNil(t, provoke, "nothing provokes %s", l.Event) {
			continue
		}
		t.Run(l.Event, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := provoke(t)
				require.NoError(t, k.Wait(t.Context()))
				line := regexp.MustCompile(`(?m)^.* event=` + l.Event + `\b.*$`).FindString(k.Logs.String())
				require.NotEmpty(t, line, k.Logs.String())
				assert.Contains(t, line, "level="+l.Level.String()+" ")
				assert.NotContains(t, k.Logs.String(), "secret")
				for _, m := range fields.FindAllStringSubmatch(regexp.MustCompile(`"(\\.|[^"\\])*"`).ReplaceAllString(line, `""`), -1) {
					assert.Contains(t, []string{"time", "level", "msg", "event", "class", "code", "reason", "count", "lasted", "stack"}, m[1])
				}
			})
		})
	}
}

// Half an hour without Descope is a few lines: one soon, and one when it is over.
func TestOutageInTheLog(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"dead line": {Drop: true}, "gateway": {Status: 503}, "slow": {Delay: time.Minute}, "too many calls": {Status: 429},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				times := new(kittest.CallTimes)
				k := outage(t, fault, times.Config)
				var lines []string
				for line := range strings.Lines(k.Logs.String()) {
					if !strings.Contains(line, "level=DEBUG") {
						lines = append(lines, line)
					}
				}
				t.Log(strings.Join(lines, ""))
				require.GreaterOrEqual(t, len(lines), 2)
				assert.LessOrEqual(t, len(lines), 10)
				assert.Contains(t, lines[len(lines)-1], "event=gate_open class=session")
				stamp, _, _ := strings.Cut(strings.TrimPrefix(lines[0], "time="), " ")
				first, err := time.Parse(time.RFC3339, stamp)
				require.NoError(t, err)
				assert.LessOrEqual(t, first.Sub(times.Calls[kittest.RefreshPath][4]), 30*time.Second, "after the fifth call that failed")
			})
		})
	}
}
