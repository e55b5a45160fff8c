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
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest/audit"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// stepUpTTL is how long a session lives at the most, stepped up or not.
const stepUpTTL = 601 * time.Second

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
			[]string{"gets in: 200  " + everybody + "; Descope away, forged key"},
		},
		"no guard on a POST": {
			audit.Route{Method: "POST", Path: "/x"},
			func(*kittest.Kit) http.Handler { return page },
			[]string{"gets in: 200  " + everybody + "; other site's POST; Descope away, forged key"},
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
			[]string{"gets in: 200  " + everybody + "; Descope away, forged key"},
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
			goesOn,
		},
		"the same behind a refusal of one's own": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := k.VerifyToken(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); err != nil {
						w.WriteHeader(http.StatusUnauthorized)
						io.WriteString(w, "<p>Not for you.</p>\n")
					}
					page(w, r)
				})
			},
			[]string{
				"the handler goes on after a refusal: 401  " + everybody + "; expired, with refresh; planted cookies; 200 at once; Descope away, key not seen before; Descope away, forged key",
				"the handler goes on after a refusal: 401  browser: signed in; signed out elsewhere, session not over; Descope away; keys rotated",
			},
		},
		"a status, and no return": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch _, err := k.Authenticate(w, r); {
					case errors.Is(err, descopehttp.ErrUnavailable):
						w.WriteHeader(http.StatusServiceUnavailable)
					case err != nil:
						w.WriteHeader(http.StatusUnauthorized)
					}
					page(w, r)
				})
			},
			goesOn,
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
			goesOn,
		},
		"LoadSession for RequireSession": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler { return k.LoadSession(page) },
			[]string{"gets in: 200  " + everybody + "; Descope away, forged key"},
		},
		"LoadSession, and a page that has none": {
			audit.Route{Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return k.LoadSession(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					s, _ := descopehttp.SessionFromContext(r.Context())
					s.Subject()
				}))
			},
			[]string{"gets in: panic  " + everybody + "; Descope away, forged key"},
		},
		"RequireSession where a role is asked for": {
			admin,
			func(k *kittest.Kit) http.Handler { return k.RequireSession(page) },
			[]string{"gets in: 200  no role; role admin in a tenant only"},
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
			[]string{"gets in: 200  not stepped up; expired, with refresh; 200 at once"},
		},
		"a step-up that is taken for the time of issue": {
			stepUp,
			func(k *kittest.Kit) http.Handler {
				return k.Require(func(_ *http.Request, s *descopehttp.Session) error {
					if !s.IssuedAt().After(s.Expiry().Add(-stepUpTTL)) {
						return descopehttp.ErrStepUpRequired
					}
					return nil
				})(page)
			},
			[]string{"gets in: 200  not stepped up; expired, with refresh; 200 at once"},
		},
		"claims that nobody has verified": {
			audit.Route{Path: "/x"},
			func(*kittest.Kit) http.Handler { return http.HandlerFunc(gullible) },
			[]string{"gets in: 200  refresh token as session; other project; forged key; expired; signed out elsewhere, session over; Descope away, forged key"},
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
			[]string{"the answer holds the refresh token: 200  signed in; signed out elsewhere, session not over; planted cookies"},
		},
		"the refresh token in a header, on a page for anyone": {
			audit.Route{Path: "/x", For: audit.Anyone()},
			func(*kittest.Kit) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Echo", refreshOf(r)) })
			},
			[]string{"the answer holds the refresh token: 200  signed in; signed out elsewhere, session over; expired, with refresh; " +
				"signed out elsewhere, session not over; planted cookies; 200 at once; keys rotated"},
		},
		"the refresh token in a cookie for scripts": {
			audit.Route{Method: "POST", Path: "/x"},
			func(k *kittest.Kit) http.Handler {
				return k.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.SetCookie(w, &http.Cookie{Name: kittest.RefreshCookie, Value: refreshOf(r)})
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
				head, _, _ := strings.Cut(report.String(), "\n")
				head = strings.Replace(head, "   for", ", for", 1)
				var want []string
				for _, finding := range test.want {
					want = append(want, "descopetest/audit: "+head+": "+finding)
				}
				assert.EqualError(t, report.Check(), strings.Join(want, "\n"))
			})
		})
	}
}

// Who gets in where nobody asks, beside those who may.
const everybody = "nobody; refresh token as session; other project; forged key; expired; signed out elsewhere, session over"

var goesOn = []string{
	"the handler goes on after a refusal: 401  " + everybody,
	"the handler goes on after a refusal: 503  Descope away, key not seen before; Descope away, forged key",
}

func subject(s *descopehttp.Session) string {
	if s == nil {
		return ""
	}
	return s.Subject()
}

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
