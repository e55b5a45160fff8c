package audit_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

const form = "application/x-www-form-urlencoded"

// page answers everybody who reaches it.
var page = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"secret":42}`) })

// The mistakes that people make with routes, one each, and what is found of it.
func TestMistakes(t *testing.T) {
	admin := audit.Route{Path: "/x", For: audit.Role("admin")}
	stepUp := audit.Route{Path: "/x", For: audit.SteppedUp()}
	tests := map[string]struct {
		route audit.Route
		make  func(*kittest.Kit) http.Handler
		want  []string
	}{
		"no guard": {
			audit.Route{Path: "/x"},
			func(*kittest.Kit) http.Handler { return page },
			everybody(200),
		},
		"no guard on a POST": {
			audit.Route{Method: "POST", Path: "/x"},
			func(*kittest.Kit) http.Handler { return page },
			slicesInsert(everybody(200), 6, "gets in: 200  other site's POST"),
		},
		"no guard, and a page elsewhere for each request": {
			audit.Route{Method: "POST", Path: "/x", ContentType: form},
			func(*kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/done", http.StatusSeeOther) })
			},
			[]string{"who it is for is refused, so that nothing is shown"},
		},
		"a group's guard that another pattern misses": {
			audit.Route{Path: "/api/export"},
			func(k *kittest.Kit) http.Handler {
				mux := http.NewServeMux()
				mux.Handle("/api/", k.RequireSession(page))
				mux.Handle("/api/export", page)
				return mux
			},
			everybody(200),
		},
		"a handler that goes on after a refusal": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := k.Authenticate(w, r); err != nil {
						k.WriteError(w, r, err)
					}
					page(w, r)
				})
			},
			[]string{
				"the handler goes on after a refusal: 401  nobody",
				"the handler goes on after a refusal: 401  refresh token as session",
				"the handler goes on after a refusal: 401  other project",
				"the handler goes on after a refusal: 401  forged key",
				"the handler goes on after a refusal: 401  expired",
				"the handler goes on after a refusal: 401  signed out elsewhere, session over",
				"the handler goes on after a refusal: 503  Descope away, key not seen before",
				"the handler goes on after a refusal: 503  Descope away, forged key",
			},
		},
		"a page that differs by user and goes on": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := k.Authenticate(w, r)
					if err != nil {
						k.WriteError(w, r, err)
					}
					io.WriteString(w, "hello "+subject(s))
				})
			},
			[]string{"the handler goes on after a refusal: 401  nobody"},
		},
		"LoadSession for RequireSession": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler { return k.LoadSession(page) },
			everybody(200),
		},
		"LoadSession, and a page that has none": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return k.LoadSession(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					s, _ := descopehttp.SessionFromContext(r.Context())
					s.Subject()
				}))
			},
			[]string{"gets in: panic  nobody"},
		},
		"RequireSession where a role is asked for": {
			admin,
			func(k *kittest.Kit) http.Handler { return k.RequireSession(page) },
			[]string{"gets in: 200  no role", "gets in: 200  role admin in a tenant only"},
		},
		"a role on the tenant's list": {
			admin,
			func(k *kittest.Kit) http.Handler {
				return k.Require(func(_ *http.Request, s *descopehttp.Session) error {
					if !s.HasRole(s.Tenant(), "admin") {
						return descopehttp.ErrForbidden
					}
					return nil
				})(page)
			},
			[]string{"gets in: 200  role admin in a tenant only"},
		},
		"a tenant's role on the project's list": {
			audit.Route{Path: "/x", For: audit.TenantRole("acme", "admin")},
			func(k *kittest.Kit) http.Handler { return k.Require(descopehttp.Role("admin"))(page) },
			[]string{"gets in: 200  role admin", "who it is for is refused, so that nothing is shown"},
		},
		"a role in whatever tenant": {
			audit.Route{Path: "/x", For: audit.TenantRole("acme", "admin")},
			func(k *kittest.Kit) http.Handler {
				return k.Require(func(_ *http.Request, s *descopehttp.Session) error {
					if s.Tenant() == "" || !s.HasRole(s.Tenant(), "admin") {
						return descopehttp.ErrForbidden
					}
					return nil
				})(page)
			},
			[]string{"gets in: 200  role admin in another tenant"},
		},
		"RequireSession where a step-up is asked for": {
			stepUp,
			func(k *kittest.Kit) http.Handler { return k.RequireSession(page) },
			[]string{"gets in: 200  not stepped up", "gets in: 200  expired, with refresh", "gets in: 200  200 at once, expired, with refresh"},
		},
		"a step-up that is taken for the time of issue": {
			stepUp,
			func(k *kittest.Kit) http.Handler {
				return k.Require(func(_ *http.Request, s *descopehttp.Session) error {
					if !s.IssuedAt().After(s.Expiry().Add(-descopeStepUp)) {
						return descopehttp.ErrStepUpRequired
					}
					return nil
				})(page)
			},
			[]string{"gets in: 200  not stepped up", "gets in: 200  expired, with refresh", "gets in: 200  200 at once, expired, with refresh"},
		},
		"claims that nobody has verified": {
			audit.Route{Path: "/x"},
			func(*kittest.Kit) http.Handler { return http.HandlerFunc(gullible) },
			[]string{
				"gets in: 200  refresh token as session", "gets in: 200  other project", "gets in: 200  forged key", "gets in: 200  expired",
				"gets in: 200  signed out elsewhere, session over", "gets in: 200  Descope away, forged key",
			},
		},
		"a cookie of one's own reading": {
			audit.Route{Method: "POST", Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c, err := r.Cookie(kittest.SessionCookie)
					if err == nil {
						_, err = k.VerifyToken(r.Context(), c.Value)
					}
					if err != nil {
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					page(w, r)
				})
			},
			[]string{"gets in: 200  other site's POST"},
		},
		"open while Descope is away": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := k.Authenticate(w, r); err != nil && !errors.Is(err, descopehttp.ErrUnavailable) {
						k.WriteError(w, r, err)
						return
					}
					page(w, r)
				})
			},
			[]string{"gets in: 200  Descope away, forged key"},
		},
		"the refresh token in the body": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return k.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, `{"refresh":"`+refreshOf(r)+`"}`)
				}))
			},
			[]string{"the answer holds the refresh token: 200  signed in"},
		},
		"the refresh token in a header, on a page for anyone": {
			audit.Route{Path: "/x", For: audit.Anyone()},
			func(*kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Echo", refreshOf(r)) })
			},
			[]string{"the answer holds the refresh token: 200  signed in"},
		},
		"the refresh token in a cookie for scripts": {
			audit.Route{Method: "POST", Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return k.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.SetCookie(w, &http.Cookie{Name: "token", Value: refreshOf(r)})
				}))
			},
			[]string{"the answer holds the refresh token: 200  signed in"},
		},
		"a guard that nobody passes": {
			admin,
			func(k *kittest.Kit) http.Handler { return k.Require(descopehttp.Role("Admin"))(page) },
			[]string{"who it is for is refused, so that nothing is shown"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				report := audit.Routes(test.make(k), k.Project, test.route)
				err := report.Check()
				require.Error(t, err)
				got := strings.Split(err.Error(), "\n")
				t.Logf("%q", got)
				for _, want := range test.want {
					assert.Contains(t, got, "descopetest/audit: "+want)
				}
				_ = descopetest.NewServer
			})
		})
	}
}
func slicesInsert(s []string, i int, v string) []string { return append(s, v) }
func everybody(n int) []string { return nil }
func subject(s *descopehttp.Session) string {
	if s == nil {
		return ""
	}
	return s.Subject()
}

const descopeStepUp = 601e9

func refreshOf(r *http.Request) string {
	c, err := r.Cookie(kittest.RefreshCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// gullible takes a token's word for it.
func gullible(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if c, err := r.Cookie(kittest.SessionCookie); err == nil {
		token = c.Value
	}
	var claims struct{ Sub string }
	if parts := strings.Split(token, "."); len(parts) == 3 {
		raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(raw, &claims)
	}
	if claims.Sub == "" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	page(w, r)
}
