package adaptertest

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
)

func TestNetHTTP(t *testing.T) {
	t.Parallel()
	require.NoError(t, Check(buildNetHTTP))
}

// The middleware may also stand before the router, where no route is known yet.
func TestNetHTTPBeforeRouting(t *testing.T) {
	t.Parallel()
	require.NoError(t, Check(func(s *Site) http.Handler {
		if s.AfterRouting {
			return nil
		}
		d := netHTTP()
		return recoverer(d.protect(s, d.routes(s, d.page(s))))
	}))
}

// A brokenAdapter makes a mistake that an adapter could make, or has made somewhere.
// Without it, it would be net/http's idiom.
type brokenAdapter struct {
	name     string
	breaking func(*idiom)
	clause   string // the one that tells the author most
	caught   string
}

func TestBrokenAdapters(t *testing.T) {
	for _, test := range slices.Concat(brokenRefusals, brokenRequests, brokenAnswers, brokenMounts) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := netHTTP()
			test.breaking(&d)
			requireCaught(t, d.build, test.clause, test.caught)
		})
	}
}

// brokenRefusals let something through, or say no in words of their own.
var brokenRefusals = []brokenAdapter{
	{"forgets to abort", func(d *idiom) {
		d.wrap = serving(func(m middleware, next http.Handler, w http.ResponseWriter, r *http.Request) {
			m(http.HandlerFunc(func(_ http.ResponseWriter, admitted *http.Request) { r = admitted })).ServeHTTP(w, r)
			next.ServeHTTP(w, r)
		})
	}, "no credentials", "GET: the page ran 1 times, want 0"},
	{"has a refusal of its own", func(d *idiom) {
		d.wrap = serving(func(m middleware, next http.Handler, w http.ResponseWriter, r *http.Request) {
			admitted := false
			m(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				admitted = true
				next.ServeHTTP(w, r)
			})).ServeHTTP(w, r)
			if !admitted {
				http.Error(w, `{"error":"unauthorized"}`, http.StatusUnauthorized)
			}
		})
	}, "Config.ErrorHandler that writes a status only", "the adapter: "},
	{"recovers by itself", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, _, r *http.Request) {
			defer func() { _ = recover() }()
			next.ServeHTTP(w, r)
		})
	}, "panic of the page", "GET is answered 200 \"\", want 500"},
	{"opens up in a panic", func(d *idiom) {
		d.wrap = serving(func(m middleware, next http.Handler, w http.ResponseWriter, r *http.Request) {
			defer func() {
				if p := recover(); p == errPanic {
					next.ServeHTTP(w, r)
					panic(p)
				}
			}()
			m(next).ServeHTTP(w, r)
		})
	}, "panic of Config.ErrorHandler", "GET: the page ran 1 times, want 0"},
}

// brokenRequests hand the page another request than the middleware did.
var brokenRequests = []brokenAdapter{
	{"loses the context", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, outer, _ *http.Request) {
			next.ServeHTTP(w, outer)
		})
	}, "good cookies", "net/http:    Content-Length: "},
	{"loses the new cookies of the request", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, outer, r *http.Request) {
			next.ServeHTTP(w, outer.WithContext(r.Context()))
		})
	}, "expired session", "GET /app/acme/pages/one"},
	{"runs next twice", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, _, r *http.Request) {
			next.ServeHTTP(w, r)
			next.ServeHTTP(w, r)
		})
	}, "good cookies", "GET: the page ran 2 times, want 1"},
	{"hands on a copy", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, _, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(r.Context()))
		})
	}, "upload", "the file of an upload is left behind"},
	{"detaches the context", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, _, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
		})
	}, "hang-up", "GET: the context did not end"},
	{"begins a context", func(d *idiom) {
		d.wrap = serving(func(m middleware, next http.Handler, w http.ResponseWriter, r *http.Request) {
			m(next).ServeHTTP(w, r.WithContext(context.Background()))
		})
	}, "upgrade inside RefreshUpgrades", "GET: answered 401"},
	{"takes the session from elsewhere", func(d *idiom) {
		d.session = func(r *http.Request) (*descopehttp.Session, bool) {
			s, err := descopehttp.NewSession(map[string]any{"sub": "somebody"})
			return s, err == nil
		}
	}, "good cookies", "the adapter's Session is not the session of the request's context"},
	{"knows no path values", func(d *idiom) {
		d.wrap = serving(func(m middleware, next http.Handler, w http.ResponseWriter, r *http.Request) {
			name := r.PathValue("name")
			r.SetPathValue("name", "")
			m(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.SetPathValue("name", name)
				next.ServeHTTP(w, r)
			})).ServeHTTP(w, r)
		})
	}, "guard on the path, agrees", "GET: the page ran 0 times, want 1"},
}

// brokenAnswers come between the middleware, or the page, and the client.
var brokenAnswers = []brokenAdapter{
	{"swallows cookies", func(d *idiom) {
		d.wrap = serving(func(m middleware, next http.Handler, w http.ResponseWriter, r *http.Request) {
			m(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, r) })).
				ServeHTTP(&detached{ResponseWriter: w, header: http.Header{}}, r)
		})
	}, "expired session", "GET: cookies were [], want [set __Host-DS, set __Host-DSR]"},
	{"wraps the ResponseWriter", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, _, r *http.Request) {
			next.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
		})
	}, "hijack", "GET: answered 501"},
	{"buffers answers", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, _, r *http.Request) {
			rec := httptest.NewRecorder()
			maps.Copy(rec.Header(), w.Header())
			next.ServeHTTP(rec, r)
			maps.Copy(w.Header(), rec.Header())
			w.WriteHeader(rec.Code)
			rec.Body.WriteTo(w)
		})
	}, "streaming", `GET: "first\n" was not answered by itself`},
	{"adds a header", func(d *idiom) {
		d.wrap = around(func(next http.Handler, w http.ResponseWriter, _, r *http.Request) {
			w.Header().Set("X-Adapter", "1")
			next.ServeHTTP(w, r)
		})
	}, "good cookies", "the adapter: X-Adapter: 1"},
}

// brokenMounts put the flows where they are not, or leave some out.
var brokenMounts = []brokenAdapter{
	{"mounts more than the flows", func(d *idiom) {
		d.mount = func(mux *http.ServeMux, prefix string, a *descopehttp.Auth) { mux.Handle(prefix+"/", a.Handler()) }
	}, `no flow under "/auth" of group ""`, "the kit answers for the application's pages under the prefix"},
	{"mounts for POST only", func(d *idiom) {
		d.mount = func(mux *http.ServeMux, prefix string, a *descopehttp.Auth) {
			mux.Handle("POST "+prefix+"/v1/auth/", a.Handler())
		}
	}, `flows under "/auth" of group ""`, "GET /auth/v1/auth/me is answered 405, want 200"},
	{"mounts under cleaned paths", func(d *idiom) {
		d.mount = func(mux *http.ServeMux, prefix string, a *descopehttp.Auth) {
			mux.HandleFunc(prefix+"/v1/auth/", func(w http.ResponseWriter, r *http.Request) {
				if p := r.URL.Path; p[len(p)-1] == '/' {
					http.Redirect(w, r, p[:len(p)-1], http.StatusTemporaryRedirect)
					return
				}
				a.Handler().ServeHTTP(w, r)
			})
		}
	}, `no flow under "/auth" of group ""`, "GET /auth/v1/auth/ is answered 307, want 404 not_found"},
}

// Constructors that are swapped or drop an argument have the right types.
func TestSwappedConstructors(t *testing.T) {
	type constructors struct {
		requireSession, loadSession func(*descopehttp.Auth) func(http.Handler) http.Handler
		require                     func(*descopehttp.Auth, ...descopehttp.Guard) func(http.Handler) http.Handler
	}
	required := func(a *descopehttp.Auth) func(http.Handler) http.Handler { return a.RequireSession }
	optional := func(a *descopehttp.Auth) func(http.Handler) http.Handler { return a.LoadSession }
	guarded := func(a *descopehttp.Auth, guards ...descopehttp.Guard) func(http.Handler) http.Handler {
		return a.Require(guards...)
	}
	tests := []struct {
		name   string
		broken constructors
		clause string
		caught string
	}{
		{"RequireSession lets everybody pass", constructors{optional, optional, guarded}, "no credentials", "GET: the page ran 1 times, want 0"},
		{"LoadSession asks for a session", constructors{required, required, guarded}, "optional session, nobody", "GET: the page ran 0 times, want 1"},
		{"Require asks no guard", constructors{required, optional, func(a *descopehttp.Auth, _ ...descopehttp.Guard) func(http.Handler) http.Handler {
			return a.RequireSession
		}}, "guard refuses", "GET: the page ran 1 times, want 0"},
		{"Require asks the first guard only", constructors{required, optional, func(a *descopehttp.Auth, guards ...descopehttp.Guard) func(http.Handler) http.Handler {
			return a.Require(guards[:1]...)
		}}, "guard refuses", "GET: the page ran 1 times, want 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			requireCaught(t, func(s *Site) http.Handler {
				d := netHTTP()
				layers := Middleware(s, test.broken.requireSession, test.broken.loadSession, test.broken.require)
				return recoverer(d.routes(s, chain(layers, d.page(s))))
			}, test.clause, test.caught)
		})
	}
}

// requireCaught checks that a clause of the contract is broken, for the reason
// given.
func requireCaught(t *testing.T, build Build, name, reason string) {
	t.Helper()
	for _, c := range contract() {
		if c.name == name {
			err := check([]clause{c}, build)
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), name+": "))
			assert.Contains(t, err.Error(), reason)
			assert.NotContains(t, err.Error(), "net/http itself")
			return
		}
	}
	t.Fatalf("there is no clause %q", name)
}

// Check reports every clause that is broken, not only the first.
func TestCheckReportsAll(t *testing.T) {
	t.Parallel()
	d := netHTTP()
	d.wrap = around(func(next http.Handler, w http.ResponseWriter, outer, _ *http.Request) { next.ServeHTTP(w, outer) })
	err := Check(d.build)
	require.Error(t, err)
	for _, clause := range []string{"good bearer token: ", "good cookies: ", "expired session: "} {
		assert.Contains(t, err.Error(), clause)
	}
	assert.NotContains(t, err.Error(), "no credentials: ")
}

// A site that is not built must not pass for one that answers well.
func TestNothingBuilt(t *testing.T) {
	err := Check(func(*Site) http.Handler { return nil })
	require.Error(t, err)
	assert.Contains(t, err.Error(), "no credentials: nothing was built")
}

type middleware = func(http.Handler) http.Handler

// serving is an idiom whose mistake is in what it makes of a request: m is the
// middleware, and next what stands behind it.
func serving(serve func(m middleware, next http.Handler, w http.ResponseWriter, r *http.Request)) func(middleware) middleware {
	return func(m middleware) middleware {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(m, next, w, r) })
		}
	}
}

// around is an idiom whose mistake is in how it goes on. outer is the request
// as it was before the middleware, r as the middleware passes it on.
func around(goOn func(next http.Handler, w http.ResponseWriter, outer, r *http.Request)) func(middleware) middleware {
	return serving(func(m middleware, next http.Handler, w http.ResponseWriter, outer *http.Request) {
		m(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { goOn(next, w, outer, r) })).ServeHTTP(w, outer)
	})
}

// detached is a ResponseWriter with a header of its own.
type detached struct {
	http.ResponseWriter
	header http.Header
}

func (w *detached) Header() http.Header { return w.header }
