package descopehttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// calling returns a handler that makes one call of a flow and answers 204 where it sets no
// error: a page of somebody's own.
func calling(err *error, call func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if *err = call(w, r); *err == nil {
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

func requireTold(t *testing.T, err error, status int, code string) *descopehttp.Problem {
	t.Helper()
	var p *descopehttp.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, code, p.Code)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Detail)
	require.Equal(t, "descopehttp: "+code, p.Error())
	return p
}

func codeOfKey(t *testing.T, key string) string {
	t.Helper()
	code, err := totp.GenerateCode(key, time.Now())
	require.NoError(t, err)
	return code
}

// The whole life of an account, without a request to a handler of the kit.
func TestFlowsInGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.New(t), new(kittest.Browser)
		do := func(call func(w http.ResponseWriter, r *http.Request) error) *http.Response {
			t.Helper()
			var err error
			res := b.Do(calling(&err, call), kittest.Post("/", ""))
			require.NoError(t, err)
			require.Equal(t, http.StatusNoContent, res.StatusCode, "the answer is the caller's")
			return res
		}
		var key *descopehttp.NewKey
		begun := do(func(w http.ResponseWriter, r *http.Request) (err error) {
			key, err = k.SignUp(w, r, descopehttp.SignUp{LoginID: " " + kittest.Bob, Name: "Bob", Email: kittest.Bob, Phone: "+441"})
			return err
		})
		assert.True(t, strings.HasPrefix(key.ProvisioningURL, "otpauth://totp/"), key.ProvisioningURL)
		assert.Equal(t, "no-store", begun.Header.Get("Cache-Control"), "no cache keeps a key")
		_, err := png.Decode(bytes.NewReader(key.QR))
		require.NoError(t, err)

		var s *descopehttp.Session
		var u *descopehttp.User
		signIn := func(in descopehttp.SignIn) *http.Response {
			t.Helper()
			return do(func(w http.ResponseWriter, r *http.Request) (err error) {
				s, u, err = k.SignIn(w, r, in)
				return err
			})
		}
		signIn(descopehttp.SignIn{LoginID: kittest.Bob, Code: codeOfKey(t, key.Key)})
		assert.Equal(t, b.Session, s.Token())
		assert.Equal(t, s.Subject(), u.ID)
		assert.Equal(t, []string{kittest.Bob}, u.LoginIDs)
		assert.True(t, u.FirstSeen)

		do(func(w http.ResponseWriter, r *http.Request) (err error) { u, err = k.User(w, r); return err })
		assert.Equal(t, descopehttp.User{ID: s.Subject(), LoginIDs: []string{kittest.Bob}, Name: "Bob", Email: kittest.Bob, Phone: "+441"}, *u)

		kittest.Elapse(time.Minute)
		signIn(descopehttp.SignIn{Code: k.Project.Code(kittest.Bob), StepUp: true})
		assert.True(t, s.StepUp(), "without a login id it is the signed-in user's")
		assert.False(t, u.FirstSeen)

		do(func(w http.ResponseWriter, r *http.Request) (err error) { key, err = k.NewKey(w, r, ""); return err })
		kittest.Elapse(time.Minute)
		signIn(descopehttp.SignIn{LoginID: kittest.Bob, Code: codeOfKey(t, key.Key)})

		other := kittest.SignIn(k, kittest.Bob)
		do(func(w http.ResponseWriter, r *http.Request) error { return k.SignOut(w, r) })
		assert.Empty(t, b.Refresh)
		assert.True(t, k.Project.Honours(other.Refresh))
		b = kittest.SignIn(k, kittest.Bob)
		do(func(w http.ResponseWriter, r *http.Request) error { return k.SignOutEverywhere(w, r) })
		kittest.RequireLoggedOut(t, k, other.Refresh)
	})
}

// What a page has to say of an error, it finds in it.
func TestFlowsInGoTellWhatIsWrong(t *testing.T) {
	k := kittest.NewForFlows(t, new(kittest.Wiretap))
	ask := func(r *http.Request, call func(w http.ResponseWriter, r *http.Request) error) (*http.Response, error) {
		var err error
		res := kittest.Serve(calling(&err, call), r)
		return res, err
	}
	signIn := func(in descopehttp.SignIn) func(w http.ResponseWriter, r *http.Request) error {
		return func(w http.ResponseWriter, r *http.Request) error {
			s, u, err := k.SignIn(w, r, in)
			assert.Nil(t, s)
			assert.Nil(t, u)
			return err
		}
	}
	post := kittest.Post("/", "")
	_, err := ask(post, signIn(descopehttp.SignIn{LoginID: kittest.Ada, Code: kittest.WrongCode(k, kittest.Ada)}))
	wrong := requireTold(t, err, http.StatusUnauthorized, "invalid_code")
	_, err = ask(post, signIn(descopehttp.SignIn{LoginID: "nobody@example.com", Code: "000000"}))
	assert.Equal(t, wrong, requireTold(t, err, http.StatusUnauthorized, "invalid_code"))

	_, err = ask(post, signIn(descopehttp.SignIn{Code: "000000"}))
	assert.Equal(t, "loginId", requireTold(t, err, http.StatusBadRequest, "missing_field").Field)
	_, err = ask(post, signIn(descopehttp.SignIn{Code: "000000", StepUp: true}))
	requireTold(t, err, http.StatusUnauthorized, "no_refresh_token")
	require.ErrorIs(t, err, descopehttp.ErrNoSession)

	_, err = ask(post, func(w http.ResponseWriter, r *http.Request) error {
		_, err := k.SignUp(w, r, descopehttp.SignUp{LoginID: kittest.Ada})
		return err
	})
	requireTold(t, err, http.StatusBadRequest, "user_exists")

	tokens := k.Project.SignIn(kittest.Ada)
	_, err = ask(kittest.SignedInPost(tokens, "/", ""), func(w http.ResponseWriter, r *http.Request) error {
		_, err := k.NewKey(w, r, kittest.Bob)
		return err
	})
	requireTold(t, err, http.StatusForbidden, "foreign_login_id")

	k.Project.Fail("/v1/auth/me", descopetest.Fault{Status: http.StatusInternalServerError})
	_, err = ask(kittest.SignedInPost(tokens, "/", ""), func(w http.ResponseWriter, r *http.Request) error {
		_, err := k.User(w, r)
		return err
	})
	require.ErrorIs(t, err, descopehttp.ErrUnavailable)
	assert.Positive(t, requireTold(t, err, http.StatusServiceUnavailable, "unavailable").RetryAfter)
	_, err = ask(post, func(w http.ResponseWriter, r *http.Request) error { return k.SignOutEverywhere(w, r) })
	require.ErrorIs(t, err, descopehttp.ErrNoSession)
}

// A link of another site ends nobody's session, whatever the method of the page that it
// leads to.
func TestFlowsInGoOfAnotherSite(t *testing.T) {
	k := kittest.New(t)
	tokens := k.Project.SignIn(kittest.Ada)
	r := kittest.WithCookies(kittest.Get("/logout"), tokens.Session, tokens.Refresh)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	var err error
	res := kittest.Serve(calling(&err, k.SignOut), r)
	requireTold(t, err, http.StatusForbidden, "cross_origin")
	assert.Empty(t, res.Cookies())
	assert.True(t, k.Project.Honours(tokens.Refresh))

	res = kittest.Serve(calling(&err, func(w http.ResponseWriter, r *http.Request) error { _, err := k.User(w, r); return err }), r)
	assert.NoError(t, err, "reading is safe")
	assert.Equal(t, http.StatusNoContent, res.StatusCode)
}

// A header that is none of a refresh token stops a sign-out, but not the browser from being
// done with the session.
func TestSignOutInGoDeletesTheCookies(t *testing.T) {
	k := kittest.New(t)
	tokens := k.Project.SignIn(kittest.Ada)
	var err error
	res := kittest.Serve(calling(&err, k.SignOut), kittest.WithBearer(kittest.SignedInPost(tokens, "/", ""), tokens.Session))
	requireTold(t, err, http.StatusUnauthorized, "foreign_project")
	kittest.RequireDeleted(t, res, kittest.SessionCookie, kittest.RefreshCookie)
}

func TestSignInHasNothingToDeliverIn(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody })
	w := httptest.NewRecorder()
	_, _, err := k.SignIn(w, kittest.Post("/", ""), descopehttp.SignIn{LoginID: kittest.Ada, Code: k.Project.Code(kittest.Ada)})
	require.ErrorContains(t, err, "InBody")
	assert.Empty(t, w.Result().Cookies())
}

// Every error of the package has what a client is told.
func TestProblemIsInEveryError(t *testing.T) {
	var handed error
	k := kittest.New(t, func(c *descopehttp.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
			handed = err
			w.WriteHeader(http.StatusTeapot)
		}
	})
	kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
	requireTold(t, handed, http.StatusUnauthorized, "no_session")

	tokens := k.Project.SignIn(kittest.Ada)
	kittest.Serve(k.Require(descopehttp.Role("none"))(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), tokens.Session, ""))
	requireTold(t, handed, http.StatusForbidden, "missing_role")
	kittest.Serve(k.Require(func(*http.Request, *descopehttp.Session) error { return errors.New("secret") })(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), tokens.Session, ""))
	requireTold(t, handed, http.StatusForbidden, "forbidden")

	_, err := k.VerifyToken(t.Context(), "a.b.c")
	requireTold(t, err, http.StatusUnauthorized, "invalid_token")
	_, err = k.Authenticate(httptest.NewRecorder(), kittest.Get("/"))
	requireTold(t, err, http.StatusUnauthorized, "no_session")
	spy := new(kittest.Spy)
	kittest.Serve(k.LoadSession(spy), kittest.Get("/"))
	requireTold(t, descopehttp.SessionError(spy.Last().Context()), http.StatusUnauthorized, "no_session")
	k = kittest.New(t)
	k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: http.StatusInternalServerError})
	requireTold(t, k.Ready(t.Context()), http.StatusServiceUnavailable, "unavailable")

	var p *descopehttp.Problem
	assert.False(t, errors.As(errors.New("another"), &p))
}

// Rule: flows: what a user types, and a key, is in no log line.
func TestFlowsPrintNothing(t *testing.T) {
	const secret = "secret-of-a-user"
	for _, v := range []any{
		descopehttp.SignUp{LoginID: secret, Name: secret, Email: secret, Phone: secret},
		descopehttp.SignIn{LoginID: secret, Code: secret, Locale: secret},
		descopehttp.NewKey{ProvisioningURL: secret, Key: secret, QR: []byte(secret)},
		descopehttp.User{ID: secret, LoginIDs: []string{secret}, Name: secret, Email: secret, Phone: secret},
	} {
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		if _, isUser := v.(descopehttp.User); !isUser { // which an API may answer with
			require.NoError(t, json.NewEncoder(&log).Encode([]any{v, &v, struct{ V any }{v}}))
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", struct{ V any }{v})
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&log, verb, v)
			fmt.Fprintf(&log, verb, struct{ V any }{v})
		}
		assert.NotContains(t, log.String(), secret, "%T", v)
		assert.NotContains(t, log.String(), fmt.Sprintf("%x", secret), "%T", v)
	}
}

// posted is what a form without a script sends.
func posted(path string, fields ...string) *http.Request {
	values := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		values.Add(fields[i], fields[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Referer", "http://"+r.Host+"/enter?return_to=%2Fx&error=old")
	return r
}

func requireSent(t *testing.T, res *http.Response, to string) {
	t.Helper()
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
	require.Equal(t, to, res.Header.Get("Location"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Empty(t, kittest.BodyOf(t, res))
}

func TestFormsSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, b := kittest.New(t), new(kittest.Browser)
		send := func(fields ...string) *http.Response { return b.Do(k.Handler(), posted(kittest.VerifyPath, fields...)) }
		requireSent(t, send("loginId", kittest.Ada, "code", kittest.WrongCode(k, kittest.Ada), "return_to", "/orders"), "/enter?error=invalid_code&return_to=%2Fx")
		require.Empty(t, b.Refresh)
		requireSent(t, send("loginId", kittest.Ada, "code", k.Project.Code(kittest.Ada), "return_to", "/orders?n=1"), "/orders?n=1")
		require.NotEmpty(t, b.Session)
		require.NotEmpty(t, b.Refresh)

		kittest.Elapse(time.Minute)
		requireSent(t, send("code", k.Project.Code(kittest.Ada), "stepup", "true", "return_to", "//evil.example"), "/")
		s, err := k.VerifyToken(t.Context(), b.Session)
		require.NoError(t, err)
		assert.True(t, s.StepUp())
		requireSent(t, b.Do(k.Handler(), posted(kittest.LogoutPath, "return_to", "/bye")), "/bye")
		assert.Empty(t, b.Refresh)
		requireSent(t, b.Do(k.Handler(), posted(kittest.LogoutAllPath)), "/enter?error=no_refresh_token&return_to=%2Fx")

		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: http.StatusTooManyRequests})
		res := send("loginId", kittest.Ada, "code", "000000")
		requireSent(t, res, "/enter?error=too_many_requests&return_to=%2Fx")
		assert.NotEmpty(t, res.Header.Get("Retry-After"))
	})
}

// A form is sent back to its own page, or else to the one that LoginURL names, and to no
// other site.
func TestFormsGoBack(t *testing.T) {
	for _, tt := range []struct{ name, referer, login, prefix, want string }{
		{"its page", "http://example.com/a?b=c", "/signin", "", "/a?b=c&error=missing_field"},
		{"another site", "http://evil.example/a", "/signin", "", "/signin?error=missing_field"},
		{"an address that is read as another site", "http://example.com//evil.example/x", "/signin", "", "/signin?error=missing_field"},
		{"none", "", "/signin", "", "/signin?error=missing_field"},
		{"none at all", "", "", "", "/?error=missing_field"},
		{"none behind a proxy that cuts a prefix off", "", "", "/shop", "/shop/?error=missing_field"},
		{"no address", "::", "", "", "/?error=missing_field"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) { c.LoginURL, c.PathPrefix = tt.login, tt.prefix })
			r := posted(kittest.VerifyPath)
			r.Header.Set("Referer", tt.referer)
			requireSent(t, kittest.Serve(k.Handler(), r), tt.want)
		})
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	k := kittest.New(t)
	code := k.Project.Code(kittest.Ada)
	res := kittest.Serve(k.Handler(), posted(kittest.VerifyPath, "loginId", kittest.Ada, "loginId", kittest.Bob, "code", code))
	requireSent(t, res, "/enter?error=malformed_body&return_to=%2Fx")
	for _, id := range []string{"ada\xff", "\xed\xa0\x80", "ada\x00"} {
		res = kittest.Serve(k.Handler(), posted(kittest.VerifyPath, "loginId", id, "code", code))
		requireSent(t, res, "/enter?error=invalid_field&return_to=%2Fx")
	}
	for _, in := range []descopehttp.SignUp{{LoginID: "grace\xff"}, {LoginID: "grace", Name: "Grace\xff"}} {
		var p *descopehttp.Problem
		_, err := k.SignUp(httptest.NewRecorder(), posted("/join"), in)
		require.ErrorAs(t, err, &p)
		assert.Equal(t, "invalid_field", p.Code)
	}
	res = kittest.Serve(k.Handler(), posted(kittest.VerifyPath, "loginId", strings.Repeat("x", 64<<10)))
	requireSent(t, res, "/enter?error=body_too_large&return_to=%2Fx")
	r := posted(kittest.VerifyPath, "loginId", kittest.Ada, "code", code)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	res = kittest.Serve(k.Handler(), r)
	requireSent(t, res, "/enter?error=cross_origin&return_to=%2Fx")
	assert.Empty(t, res.Cookies())
	r = posted(kittest.VerifyPath)
	r.Body = io.NopCloser(kittest.Reader(func([]byte) (int, error) { panic("secret") }))
	requireSent(t, kittest.Serve(k.Handler(), r), "/enter?error=internal&return_to=%2Fx")

	// A key is for a script to show, or for a page of one's own.
	kittest.RequireProblem(t, kittest.Serve(k.Handler(), posted(kittest.SignUpPath, "loginId", kittest.Bob)), http.StatusUnsupportedMediaType, "unsupported_media_type")
	tokens := k.Project.SignIn(kittest.Ada)
	kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.WithCookies(posted(kittest.UpdatePath, "loginId", kittest.Ada), tokens.Session, tokens.Refresh)), http.StatusUnsupportedMediaType, "unsupported_media_type")

	// Nothing would reach the browser.
	k = kittest.New(t, func(c *descopehttp.Config) { c.Tokens = descopehttp.InBody })
	kittest.RequireProblem(t, kittest.Serve(k.Handler(), posted(kittest.VerifyPath, "loginId", kittest.Ada, "code", k.Project.Code(kittest.Ada))), http.StatusUnsupportedMediaType, "unsupported_media_type")
}

// payer is a browser with a page that wants a code typed within five minutes.
type payer struct {
	t *testing.T
	k *kittest.Kit
	b *kittest.Browser
}

const typedWithin = 5 * time.Minute

func (v payer) signIn() {
	v.t.Helper()
	body, err := json.Marshal(map[string]string{"loginId": kittest.Ada, "code": v.k.Project.Code(kittest.Ada)})
	require.NoError(v.t, err)
	kittest.RequireOK(v.t, v.b.Do(v.k.Handler(), kittest.Post(kittest.VerifyPath, string(body))))
}

func (v payer) open(k *kittest.Kit) *http.Response {
	return v.b.Do(k.Require(descopehttp.StepUpWithin(typedWithin))(new(kittest.Spy)), kittest.Get("/"))
}

// Rule: guards: StepUpWithin believes a code that was typed, and no "iat" of a renewal.
func TestStepUpWithin(t *testing.T) {
	for name, rotates := range map[string]bool{"with rotation": true, "without rotation": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotates })
				v := payer{t, k, new(kittest.Browser)}
				v.signIn()
				require.Equal(t, http.StatusOK, v.open(k).StatusCode, "the code was typed a moment ago")
				kittest.Elapse(typedWithin - 2*time.Second)
				require.Equal(t, http.StatusOK, v.open(k).StatusCode)
				kittest.Elapse(3 * time.Second)
				res := v.open(k)
				kittest.RequireProblem(t, res, http.StatusUnauthorized, "step_up_required")
				assert.Equal(t, `Bearer error="insufficient_user_authentication", acr_values="stepup", max_age=300`, res.Header.Get("WWW-Authenticate"))

				kittest.Elapse(time.Minute)
				body, err := json.Marshal(map[string]any{"loginId": kittest.Ada, "code": k.Project.Code(kittest.Ada), "loginOptions": map[string]bool{"stepup": true}})
				require.NoError(t, err)
				kittest.RequireOK(t, v.b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, string(body))))
				require.Equal(t, http.StatusOK, v.open(k).StatusCode)

				// One that was renewed a moment ago, by the middleware and by the flow.
				kittest.Elapse(kittest.Past)
				require.Equal(t, http.StatusUnauthorized, v.open(k).StatusCode)
				s, err := k.VerifyToken(t.Context(), v.b.Session)
				require.NoError(t, err)
				require.Less(t, time.Since(s.IssuedAt()), time.Minute, "it was renewed")
				kittest.RequireOK(t, v.b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")))
				require.Equal(t, http.StatusUnauthorized, v.open(k).StatusCode)
			})
		})
	}
}

// Rule: guards: StepUpWithin is not open for ever where Descope keeps the claim of a step-up in renewals.
func TestStepUpWithinOfARenewalWithTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) {
			s.EditClaims = func(kind string, claims map[string]any) {
				if kind == "DS" {
					claims["su"] = true
				}
			}
		})
		p := payer{t, k, new(kittest.Browser)}
		p.signIn()
		require.Equal(t, http.StatusOK, p.open(k).StatusCode)
		kittest.Elapse(kittest.Past)
		require.Equal(t, http.StatusUnauthorized, p.open(k).StatusCode, "renewed, with su and a new iat")
		kittest.RequireOK(t, p.b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, "{}")))
		require.Equal(t, http.StatusUnauthorized, p.open(k).StatusCode)
	})
}

// Rule: guards: a sign-out ends what StepUpWithin knows, although the session token lives on.
func TestStepUpWithinAfterASignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, _, _ := kittest.NewReplicas(t, 2)
		p := payer{t, replicas[0], new(kittest.Browser)}
		p.signIn()
		old := payer{t, replicas[0], p.b.Copied()}
		require.Equal(t, http.StatusOK, old.open(replicas[0]).StatusCode)
		require.Equal(t, http.StatusOK, kittest.Logout(replicas[0], p.b).StatusCode)
		require.Equal(t, http.StatusOK, old.b.Do(replicas[0].RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode, "it is valid still")
		require.Equal(t, http.StatusUnauthorized, old.open(replicas[0]).StatusCode)
		require.Equal(t, http.StatusUnauthorized, old.open(replicas[1]).StatusCode)
	})
}

// A step-up that was made elsewhere, such as by Descope's own pages, counts by its age.
func TestStepUpWithinOfASessionFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		tokens := k.Project.StepUp(kittest.Ada)
		v := payer{t, k, &kittest.Browser{Session: tokens.Session}}
		require.Equal(t, http.StatusOK, v.open(k).StatusCode)
		kittest.Elapse(typedWithin + time.Second)
		require.Equal(t, http.StatusUnauthorized, v.open(k).StatusCode, "it is valid still, but old")
		v.b.Session = k.Project.SignIn(kittest.Ada).Session
		require.Equal(t, http.StatusUnauthorized, v.open(k).StatusCode, "no code was typed here")
	})
}

func TestStepUpWithinOnReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		replicas, store, _ := kittest.NewReplicas(t, 2)
		v := payer{t, replicas[0], new(kittest.Browser)}
		v.signIn()
		require.Equal(t, http.StatusOK, v.open(replicas[1]).StatusCode)
		for _, e := range store.Entries {
			assert.NotContains(t, string(e.Value), v.b.Session[:20])
		}
		store.Break(errors.New("away"))
		kittest.Elapse(2 * time.Second)
		require.Equal(t, http.StatusUnauthorized, v.open(replicas[1]).StatusCode, "asks again: it cannot tell")
		require.Equal(t, http.StatusOK, v.open(replicas[0]).StatusCode, "this one knows")

		alone := kittest.For(t, replicas[0].Project)
		require.Equal(t, http.StatusUnauthorized, v.open(alone).StatusCode)
	})
}

func TestStepUpWithinWithoutAnAuth(t *testing.T) {
	assert.Panics(t, func() { descopehttp.StepUpWithin(0) })
	s, err := descopehttp.NewSession(map[string]any{"sub": "U", "iat": time.Now().Unix(), "amr": []string{"totp"}})
	require.NoError(t, err)
	r := kittest.Get("/").WithContext(descopehttp.ContextWithSession(context.Background(), s))
	requireTold(t, descopehttp.StepUpWithin(time.Minute)(r, s), http.StatusUnauthorized, "step_up_required")
	requireTold(t, descopehttp.StepUpWithin(time.Minute)(kittest.Get("/"), s), http.StatusUnauthorized, "step_up_required")
}
