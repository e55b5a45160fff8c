package descopehttp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A sign-up without a key is no sign-up: the page would show an empty QR code.
func TestAnswerWithoutAKey(t *testing.T) {
	for _, body := range []string{`{}`, `[]`, `{"key":"","image":"","provisioningURL":""}`} {
		for _, c := range kittest.Flows {
			if c.Path != kittest.SignUpPath && c.Path != kittest.UpdatePath {
				continue
			}
			k := kittest.NewForFlows(t, new(kittest.Wiretap))
			tokens := k.Project.SignIn(kittest.Bob)
			k.Project.Fail(c.Path, descopetest.Fault{Body: body})
			res := kittest.Serve(k.Handler(), c.Request(k, tokens))
			assert.Equal(t, http.StatusBadGateway, res.StatusCode, "%s: %s", c.Path, body)
		}
	}
}

// Whoever tries login ids must not learn from the answers which of them exist.
//
// Rule: guessing: against learning who is a user: a wrong code and an unknown user get the same
// answer, at the limit too.
// Rule: flows: a wrong code and an unknown user look alike.
func TestWrongCodeAndUnknownUserLookAlike(t *testing.T) {
	k := kittest.New(t)
	k.Project.Configure(func(s *descopetest.Settings) {
		s.WrongCode = descopetest.Failure{Status: 400, Code: "E061102", Description: "a"}
		s.ReplayedCode = descopetest.Failure{Status: 401, Code: "E061104", Description: "b"}
		s.UnknownUser = descopetest.Failure{Status: 404, Code: "E062108", Description: "c"}
	})
	code := k.Project.Code(kittest.Ada)
	kittest.RequireOK(t, kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+code+`"}`)))
	kittest.RequireOK(t, kittest.Serve(k.Handler(), kittest.Post(kittest.SignUpPath, `{"loginId":"pending@example.com"}`)))

	first := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"unknown@example.com","code":"000000"}`))
	want := string(kittest.BodyOf(t, first))
	kittest.RequireProblem(t, first, http.StatusUnauthorized, "invalid_code")
	for name, body := range map[string]string{
		"wrong code":            `{"loginId":"` + kittest.Ada + `","code":"` + kittest.OtherCode(code) + `"}`,
		"replayed code":         `{"loginId":"` + kittest.Ada + `","code":"` + code + `"}`,
		"code of another shape": `{"loginId":"` + kittest.Ada + `","code":"12345678"}`,
		"pending user":          `{"loginId":"pending@example.com","code":"` + kittest.OtherCode(k.Project.Code("pending@example.com")) + `"}`,
	} {
		res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, body))
		assert.Equal(t, first.StatusCode, res.StatusCode, name)
		assert.Equal(t, want, string(kittest.BodyOf(t, res)), name)
		assert.Equal(t, first.Header, res.Header, name)
	}
}

// Descope's browser client sends the refresh token it has stored with every
// call. For signing in it does not matter, so a dead one must not be in the way.
//
// Rule: flows: a refresh token is sent along with a sign-in for `stepup` and `mfa` only.
func TestStaleRefreshTokenDoesNotHinderSigningIn(t *testing.T) {
	tap := new(kittest.Wiretap)
	h := kittest.NewHostile(t, tap.Config)
	h.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	revoked := h.Project.SignIn(kittest.Bob).Refresh
	h.Project.LogOut(kittest.Bob)
	project := h.Project.ProjectID()
	clients := 0
	for name, token := range map[string]string{
		"somebody else's, revoked": revoked,
		"expired":                  h.With(map[string]any{"drn": "DSR", "exp": time.Now().Add(-time.Hour).Unix()}),
		"garbage":                  "a.b.c",
		"a session token":          h.Project.SignIn(kittest.Ada).Session,
	} {
		for way, prepare := range map[string]func(*http.Request) *http.Request{
			"header":           func(r *http.Request) *http.Request { return kittest.InHeader(r, project, token) },
			"header, with key": func(r *http.Request) *http.Request { return kittest.InHeader(r, project, token, "K2key") },
			"cookie":           func(r *http.Request) *http.Request { return kittest.WithCookies(r, "x", token) },
		} {
			for i, options := range []string{``, `,"loginOptions":{"stepup":false,"mfa":false}`} {
				about := fmt.Sprintf("%s, %s, %q", name, way, options)
				tap.Forget()
				clients++
				prepare := func(r *http.Request) *http.Request {
					r.RemoteAddr = fmt.Sprintf("10.0.0.%d:1234", clients) // sign-ups from one are limited
					return prepare(r)
				}
				loginID := strings.ReplaceAll(fmt.Sprintf("%s-%s-%d@example.com", name, way, i), " ", "")
				res := kittest.Serve(h.Handler(), prepare(kittest.Post(kittest.SignUpPath, `{"loginId":"`+loginID+`"}`)))
				kittest.RequireOK(t, res)
				assert.Empty(t, res.Cookies(), about)
				assert.Equal(t, "Bearer "+project, tap.Only(t, kittest.SignUpPath).Authorization, about)

				res = kittest.Serve(h.Handler(), prepare(kittest.Post(kittest.VerifyPath, `{"loginId":"`+loginID+`","code":"`+h.Project.Code(loginID)+`"`+options+`}`)))
				kittest.RequireOK(t, res)
				assert.Equal(t, "Bearer "+project, tap.Only(t, kittest.VerifyPath).Authorization, about)
			}
		}
	}
}

// Rule: cookies: against a client that chooses its own claims, tenant or application: an
// allow-list of login options.
func TestLoginOptions(t *testing.T) {
	const all = `{"stepup":false,"mfa":false,"locale":"de","templateOptions":{"a":"b"},"revokeOtherSessions":true,` +
		`"customClaims":{"admin":true},"ssoAppId":"app","tenantId":"T2","templateId":"t","pkceChallenge":"p",` +
		`"revokeOtherSessionsTypes":["x"],"jwt":"j","selectedTenant":"T2"}`
	for name, tt := range map[string]struct {
		hook    func(*http.Request, string, map[string]any) error
		options string // what reaches Descope
		nsec    any
	}{
		"none": {nil, `{"locale":"de","templateOptions":{"a":"b"},"revokeOtherSessions":true}`, nil},
		"adds": {func(r *http.Request, loginID string, options map[string]any) error {
			options["customClaims"] = map[string]any{"plan": r.Header.Get("X-Plan"), "who": loginID}
			options["tenantId"], options["ssoAppId"] = "T2ours", "ours"
			return nil
		}, `{"locale":"de","templateOptions":{"a":"b"},"revokeOtherSessions":true,
			"customClaims":{"plan":"gold","who":"` + kittest.Ada + `"},"tenantId":"T2ours","ssoAppId":"ours"}`,
			map[string]any{"plan": "gold", "who": kittest.Ada}},
		"removes": {func(_ *http.Request, _ string, options map[string]any) error {
			clear(options)
			return nil
		}, ``, nil},
	} {
		tap := new(kittest.Wiretap)
		k := kittest.New(t, tap.Config, func(c *descopehttp.Config) { c.LoginOptions = tt.hook })
		code := k.Project.Code(kittest.Ada)
		r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+code+`","loginOptions":`+all+`}`)
		r.Header.Set("X-Plan", "gold")
		res := kittest.Serve(k.Handler(), r)
		kittest.RequireOK(t, res)
		want := `{"loginId":"` + kittest.Ada + `","code":"` + code + `"}`
		if tt.options != "" {
			want = want[:len(want)-1] + `,"loginOptions":` + tt.options + `}`
		}
		assert.JSONEq(t, want, tap.Only(t, kittest.VerifyPath).Body, name)
		assert.Equal(t, tt.nsec, kittest.ClaimsOf(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value)["nsec"], name)
	}
}

func TestLoginOptionsCanAskForAStepUp(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config, func(c *descopehttp.Config) {
		c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
			options["stepup"] = true
			return nil
		}
	})
	body := `{"loginId":"` + kittest.Ada + `","code":"` + k.Project.Code(kittest.Ada) + `"}`
	kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, body)), http.StatusUnauthorized, "no_refresh_token")
	assert.Empty(t, tap.Paths())
	tokens := k.Project.SignIn(kittest.Ada)
	res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), tokens.Session, tokens.Refresh))
	kittest.RequireOK(t, res)
	assert.Equal(t, true, kittest.ClaimsOf(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value)["su"])
}

func TestLoginOptionsRefuses(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config, func(c *descopehttp.Config) {
		c.LoginOptions = func(*http.Request, string, map[string]any) error {
			return errors.New("blocked because of secret-reason")
		}
	})
	res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
	assert.NotContains(t, string(kittest.BodyOf(t, res)), "secret-reason")
	kittest.RequireProblem(t, res, http.StatusForbidden, "forbidden")
	assert.Empty(t, tap.Paths())
}

// Options that do not encode are a mistake on this side, not the client's.
func TestLoginOptionsThatDoNotEncode(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config, func(c *descopehttp.Config) {
		c.LoginOptions = func(_ *http.Request, _ string, options map[string]any) error {
			options["customClaims"] = make(chan int)
			return nil
		}
	})
	res := kittest.Serve(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`"}`))
	kittest.RequireProblem(t, res, http.StatusInternalServerError, "internal")
	assert.Empty(t, tap.Paths())
}

// Rule: flows: `stepup` and `mfa` need a refresh token.
func TestSecondFactor(t *testing.T) {
	for _, tt := range []struct {
		name, options string
		stepUp        bool
		amr           []any
	}{
		{"stepup", `{"stepup":true}`, true, []any{"totp"}},
		{"mfa", `{"mfa":true}`, false, []any{"totp", "mfa"}},
		{"both", `{"mfa":true,"stepup":true}`, true, []any{"totp", "mfa"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tap := new(kittest.Wiretap)
				k := kittest.New(t, tap.Config)
				project, tokens := k.Project.ProjectID(), k.Project.SignIn(kittest.Ada)
				request := func() *http.Request {
					return kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`","loginOptions":`+tt.options+`}`)
				}
				kittest.RequireProblem(t, kittest.Serve(k.Handler(), request()), http.StatusUnauthorized, "no_refresh_token")
				kittest.RequireProblem(t, kittest.Serve(k.Handler(), kittest.InHeader(request(), project, tokens.Session)),
					http.StatusUnauthorized, "invalid_refresh_token")
				assert.Empty(t, tap.Paths(), "no code is spent")

				for way, prepare := range map[string]func(*http.Request) *http.Request{
					"cookie": func(r *http.Request) *http.Request { return kittest.WithCookies(r, tokens.Session, tokens.Refresh) },
					"header": func(r *http.Request) *http.Request { return kittest.InHeader(r, project, tokens.Refresh) },
				} {
					kittest.Elapse(codeStep)
					tokens = k.Project.SignIn(kittest.Ada)
					tap.Forget()
					res := kittest.Serve(k.Handler(), prepare(request()))
					kittest.RequireOK(t, res)
					claims := kittest.ClaimsOf(t, kittest.CookiesOf(res)[kittest.SessionCookie].Value)
					assert.Equal(t, tt.stepUp, claims["su"] == true, way)
					assert.Equal(t, tt.amr, claims["amr"], way)
					assert.Equal(t, "Bearer "+project+":"+tokens.Refresh, tap.Only(t, kittest.VerifyPath).Authorization, way)
				}
			})
		})
	}
}

// A step-up in a session that was ended elsewhere is no wrong code.
func TestSecondFactorOfAnEndedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		k.Project.LogOut(kittest.Ada)
		res := b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"`+k.Project.Code(kittest.Ada)+`","loginOptions":{"stepup":true}}`))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "session_ended")
	})
}

// A step-up with somebody else's code would add their proof to this session.
// Descope refuses that, as far as anybody knows; here it does not.
//
// Rule: guessing: against guessing by way of a step-up or a second factor: counted alike; the
// token presented must be the same user's.
func TestSecondFactorOfAnotherUser(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config)
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	adas, bobs := k.Project.SignIn(kittest.Ada), k.Project.SignIn(kittest.Bob)
	for _, tt := range []struct{ name, session, refresh, options string }{
		{"both are another's, stepup", bobs.Session, bobs.Refresh, `{"stepup":true}`},
		{"both are another's, mfa", bobs.Session, bobs.Refresh, `{"mfa":true}`},
		{"session is another's, no new refresh token", bobs.Session, "", `{"stepup":true}`},
		{"refresh token is another's", adas.Session, bobs.Refresh, `{"stepup":true}`},
		{"of two users, plain sign-in", adas.Session, bobs.Refresh, `{}`},
	} {
		tap.AnswerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != kittest.VerifyPath {
				return nil
			}
			return kittest.JSONAnswer(http.StatusOK, `{"sessionJwt":"`+tt.session+`","refreshJwt":"`+tt.refresh+`"}`)
		})
		body := `{"loginId":"` + kittest.Bob + `","code":"123456","loginOptions":` + tt.options + `}`
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), adas.Session, adas.Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "other_user")
		assert.Empty(t, res.Cookies(), tt.name)
	}
}

// That refusal is about one step-up. It must not cost the session that it was
// tried with.
func TestRefusedSecondFactorLeavesTheSessionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap := new(kittest.Wiretap)
		k := kittest.New(t, tap.Config)
		k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
		adas := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(kittest.Past)
		bobs := k.Project.SignIn(kittest.Bob)
		tap.AnswerWith(func(r *http.Request) *http.Response {
			if r.URL.Path != kittest.VerifyPath {
				return nil
			}
			return kittest.JSONAnswer(http.StatusOK, `{"sessionJwt":"`+bobs.Session+`","refreshJwt":"`+bobs.Refresh+`"}`)
		})
		body := `{"loginId":"` + kittest.Bob + `","code":"123456","loginOptions":{"stepup":true}}`
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), "", adas.Refresh))
		kittest.RequireProblem(t, res, http.StatusUnauthorized, "other_user")

		next := new(kittest.Spy)
		res = kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), adas.Session, adas.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode, "%s", kittest.BodyOf(t, res))
		assert.Equal(t, 1, next.Calls)
	})
}

// A second factor belongs to the tokens that it brought. Whoever else holds the
// refresh token from before, such as a thief, must not get it by being late.
//
// Rule: renewing: the tokens of a second factor are not remembered for others.
func TestSecondFactorIsNotLentToTheTokenBefore(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		for _, presented := range []bool{false, true} {
			t.Run(fmt.Sprintf("rotate=%v, presented=%v", rotate, presented), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := kittest.New(t)
					k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh = rotate })
					before := k.Project.SignIn(kittest.Ada)
					body := `{"loginId":"` + kittest.Ada + `","code":"` + k.Project.Code(kittest.Ada) + `","loginOptions":{"mfa":true}}`
					res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath, body), before.Session, before.Refresh))
					kittest.RequireOK(t, res)
					cookies := kittest.CookiesOf(res)
					require.Equal(t, []any{"totp", "mfa"}, kittest.ClaimsOf(t, cookies[kittest.SessionCookie].Value)["amr"])
					if presented {
						next := new(kittest.Spy)
						kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), cookies[kittest.SessionCookie].Value, cookies[kittest.RefreshCookie].Value))
						require.Equal(t, 1, next.Calls)
					}

					kittest.Elapse(time.Second)
					next := new(kittest.Spy)
					for _, h := range []http.Handler{k.RequireSession(next), k.Handler()} {
						res := kittest.Serve(h, kittest.WithCookies(kittest.Post(kittest.RefreshPath, ``), "", before.Refresh))
						for _, c := range res.Cookies() {
							if c.Value != "" {
								assert.NotContains(t, kittest.ClaimsOf(t, c.Value)["amr"], "mfa", c.Name)
							}
						}
					}
					if next.Calls > 0 {
						s, _ := descopehttp.SessionFromContext(next.Last().Context())
						assert.NotContains(t, s.AuthMethods(), "mfa", "a page behind the MFA guard would open")
					}
				})
			})
		}
	}
}

// Rule: flows: update takes a login id of the token's user.
func TestUpdateGivesANewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		v := newApp(k, descopehttp.InCookies, "/auth", true).visit(t)
		oldKey := v.signUp("new@example.com")
		verify := func(key string) *http.Response {
			kittest.Elapse(codeStep) // a code works once
			return v.flow(http.MethodPost, kittest.VerifyPath, `{"loginId":"new@example.com","code":"`+codeFor(t, key)+`"}`)
		}

		answer := kittest.RequireOK(t, v.flow(http.MethodPost, kittest.UpdatePath, `{"loginId":"new@example.com"}`))
		newKey, _ := answer["key"].(string)
		require.NotEmpty(t, newKey)
		assert.NotEqual(t, oldKey, newKey)
		assert.NotEmpty(t, answer["image"])
		assert.NotEmpty(t, answer["provisioningURL"])

		v.take(verify(oldKey), true)
		v.take(verify(newKey), true)
		kittest.RequireProblem(t, verify(oldKey), http.StatusUnauthorized, "invalid_code")
		v.take(verify(newKey), true)
	})
}

// A new key for somebody else would be a way into their account, and whether
// Descope compares is not documented; this project does not.
//
// Rule: guessing: against a key for somebody else's account by way of update: the login id must
// be among those of the presented token's user; a step-up with `StepUpForUpdate`.
// Rule: flows: update refuses anybody else's login id.
func TestUpdateOfSomebodyElse(t *testing.T) {
	tap := new(kittest.Wiretap)
	k := kittest.New(t, tap.Config)
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob})
	tokens := k.Project.SignIn(kittest.Ada)
	for _, loginID := range []string{kittest.Bob, kittest.Ada + "x", "unknown@example.com", kittest.Ada + "," + kittest.Bob} {
		res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.UpdatePath, `{"loginId":"`+loginID+`"}`), tokens.Session, tokens.Refresh))
		kittest.RequireProblem(t, res, http.StatusForbidden, "foreign_login_id")
	}
	assert.NotContains(t, tap.Paths(), kittest.UpdatePath)

	// What is sent is spelled as Descope spells it.
	res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.UpdatePath, `{"loginId":"ADA@example.com"}`), tokens.Session, tokens.Refresh))
	kittest.RequireOK(t, res)
	assert.Equal(t, `{"loginId":"`+kittest.Ada+`"}`, tap.Only(t, kittest.UpdatePath).Body)
}

// A record without login ids says nothing about whose they are: that is
// "cannot tell", not a refusal.
func TestUpdateWithoutLoginIDs(t *testing.T) {
	for _, body := range []string{`{}`, `{"errorCode":"E061005"}`, `{"loginIds":null}`} {
		tap := new(kittest.Wiretap)
		k := kittest.NewForFlows(t, tap)
		tokens := k.Project.SignIn(kittest.Bob)
		k.Project.Fail(kittest.MePath, descopetest.Fault{Body: body})
		res := kittest.Serve(k.Handler(), kittest.SignedInPost(tokens, kittest.UpdatePath, `{"loginId":"`+kittest.Bob+`"}`))
		assert.Equal(t, http.StatusBadGateway, res.StatusCode, body)
		assert.NotContains(t, tap.Paths(), kittest.UpdatePath)
	}
}

// typist posts to the flows over real HTTP.
func typist(t *testing.T, k *kittest.Kit) func(path string, body map[string]string, header ...string) int {
	srv := httptest.NewServer(k.Handler())
	t.Cleanup(srv.Close)
	return func(path string, body map[string]string, header ...string) int {
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		r, err := http.NewRequest(http.MethodPost, srv.URL+path, bytes.NewReader(encoded))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		for _, value := range header {
			r.Header.Set("Authorization", value)
		}
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		res.Body.Close()
		return res.StatusCode
	}
}

// Codes and login ids come as fingers and phones type them, over real HTTP.
func TestAsFingersType(t *testing.T) {
	k := kittest.New(t)
	k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	post := typist(t, k)
	shifted := func(code string, zero rune) string {
		return strings.Map(func(r rune) rune { return zero + r - '0' }, code)
	}
	for name, typed := range map[string]func(string) string{
		"grouped":              func(c string) string { return c[:3] + " " + c[3:] },
		"no-break space":       func(c string) string { return c[:3] + "\u00a0" + c[3:] },
		"narrow space":         func(c string) string { return c[:3] + "\u202f" + c[3:] },
		"hyphen":               func(c string) string { return c[:3] + "-" + c[3:] },
		"dash":                 func(c string) string { return c[:3] + "\u2013" + c[3:] },
		"line break":           func(c string) string { return c + "\r\n" },
		"full width":           func(c string) string { return shifted(c, '\uff10') },
		"Arabic-Indic":         func(c string) string { return shifted(c, '\u0660') },
		"Devanagari":           func(c string) string { return shifted(c, '\u0966') },
		"mathematical, double": func(c string) string { return shifted(c, '\U0001d7d8') },
		"marks":                func(c string) string { return "\u200e\u2068" + c[:3] + "\u200b\ufe0f" + c[3:] + "\u2069\ufeff" },
	} {
		code := typed(k.Project.Code(kittest.Ada))
		assert.Equal(t, http.StatusOK, post(kittest.VerifyPath, map[string]string{"loginId": kittest.Ada, "code": code}), name)
	}
	for _, code := range []string{"12a456", "your code: 123456", "123456 (30 s)", "123456\n654321", "\u2460\u2461\u2462\u2463\u2464\u2465", "\u00b2\u00b3\u00b2\u00b3\u00b2\u00b3", "1.2345", "------"} {
		assert.Equal(t, http.StatusBadRequest, post(kittest.VerifyPath, map[string]string{"loginId": kittest.Ada, "code": code}), code)
	}

	tokens := k.Project.SignIn(kittest.Ada)
	for _, id := range []string{kittest.Ada + " ", "\t" + kittest.Ada, "\u200b" + kittest.Ada + "\u00a0", kittest.Ada + "\ufeff", "\u2068" + kittest.Ada + "\u2069\r\n"} {
		assert.Equal(t, http.StatusOK, post(kittest.VerifyPath, map[string]string{"loginId": id, "code": k.Project.Code(kittest.Ada)}), "%q", id)
		assert.Equal(t, http.StatusOK, post(kittest.UpdatePath, map[string]string{"loginId": id}, "Bearer "+k.Project.ProjectID()+":"+tokens.Refresh), "%q", id)
	}
	require.Equal(t, http.StatusOK, post(kittest.SignUpPath, map[string]string{"loginId": " new@example.com\u200b"}))
	assert.True(t, k.Project.HasUser("new@example.com"))
	for _, id := range []string{"", " ", "\u200b\u2060"} {
		assert.Equal(t, http.StatusBadRequest, post(kittest.VerifyPath, map[string]string{"loginId": id, "code": "123456"}), "%q", id)
	}

	// Spellings of one login id share one limit.
	last := 0
	for i := range 11 {
		last = post(kittest.VerifyPath, map[string]string{"loginId": strings.Repeat("\u200b", i) + "nobody@example.com" + strings.Repeat("\u00a0", i), "code": "000000"})
	}
	assert.Equal(t, http.StatusTooManyRequests, last)
}

// Every script has its digits in a row, from 0 to 9. Whatever dash, space or mark stands
// between them, nobody has typed it.
func TestEveryDigitAndDash(t *testing.T) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Limits.SignInCalls, c.Limits.GuessesPerDay = 1000, 1000 })
	k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	post := typist(t, k)
	var digits []rune
	for r := rune(0); r <= unicode.MaxRune; r++ {
		switch {
		case unicode.Is(unicode.Nd, r):
			digits = append(digits, r)
		case unicode.In(r, unicode.Dash, unicode.White_Space, unicode.Variation_Selector) && r < 0xE0000 || unicode.Is(unicode.Cf, r) && r < 0xE0000:
			c := k.Project.Code(kittest.Ada)
			code := string(r) + c[:3] + string(r) + c[3:] + string(r)
			assert.Equal(t, http.StatusOK, post(kittest.VerifyPath, map[string]string{"loginId": kittest.Ada, "code": code}), "%U", r)
		}
	}
	require.Greater(t, len(digits), 600)
	for i := 0; i < len(digits); i += 10 {
		code := strings.Map(func(r rune) rune { return digits[i+int(r-'0')] }, k.Project.Code(kittest.Ada))
		assert.Equal(t, http.StatusOK, post(kittest.VerifyPath, map[string]string{"loginId": kittest.Ada, "code": code}), "%U", digits[i])
	}
}

// A login id is the same whatever stands around it, in each flow, in Go as in JSON and forms.
func TestLoginIDsAreOneInEachFlow(t *testing.T) {
	for name, around := range map[string][2]string{
		"no-break spaces": {"\u00a0", "\u00a0\u202f"}, "zero-width spaces": {"\u200b", "\u200b\u2060"}, "byte order mark": {"\ufeff", "\ufeff"},
		"direction": {"\u2068", "\u2069\u200f"}, "fillers": {"\u3164", "\u034f"}, "line break": {"\t", "\r\n"}, "ideographic space": {"\u3000", "\u3000"},
	} {
		t.Run(name, func(t *testing.T) {
			k := kittest.New(t, func(c *descopehttp.Config) { c.Limits.GuessesPerLogin = 1 })
			k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
			h := http.NewServeMux()
			h.Handle("/auth/", k.Handler())
			answer := func(w http.ResponseWriter, err error) {
				if err != nil {
					http.Error(w, err.Error(), http.StatusTeapot)
				}
			}
			h.HandleFunc("/go/signup", func(w http.ResponseWriter, r *http.Request) {
				_, err := k.SignUp(w, r, descopehttp.SignUp{LoginID: r.FormValue("loginId")})
				answer(w, err)
			})
			h.HandleFunc("/go/signin", func(w http.ResponseWriter, r *http.Request) {
				_, _, err := k.SignIn(w, r, descopehttp.SignIn{LoginID: r.FormValue("loginId"), Code: r.FormValue("code")})
				answer(w, err)
			})
			h.HandleFunc("/go/newkey", func(w http.ResponseWriter, r *http.Request) {
				_, err := k.NewKey(w, r, r.FormValue("loginId"))
				answer(w, err)
			})
			srv := httptest.NewServer(h)
			defer srv.Close()
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			send := func(path, id, code string, isForm bool) *http.Response {
				form := url.Values{"loginId": {around[0] + id + around[1]}, "code": {code}}
				body, kind := form.Encode(), "application/x-www-form-urlencoded"
				if !isForm {
					encoded, err := json.Marshal(map[string]string{"loginId": form.Get("loginId"), "code": code})
					require.NoError(t, err)
					body, kind = string(encoded), "application/json"
				}
				r, err := http.NewRequest(http.MethodPost, srv.URL+path, strings.NewReader(body))
				require.NoError(t, err)
				r.Header.Set("Content-Type", kind)
				r.Header.Set("Authorization", "Bearer "+k.Project.ProjectID()+":"+k.Project.SignIn(kittest.Ada).Refresh)
				res, err := client.Do(r)
				require.NoError(t, err)
				res.Body.Close()
				return res
			}
			code := k.Project.Code(kittest.Ada)
			assert.Equal(t, http.StatusOK, send("/go/signin", kittest.Ada, code, true).StatusCode)
			assert.Equal(t, http.StatusOK, send("/go/newkey", kittest.Ada, "", true).StatusCode)
			assert.Equal(t, http.StatusOK, send("/auth"+kittest.UpdatePath, kittest.Ada, "", false).StatusCode)
			assert.Equal(t, http.StatusOK, send("/auth"+kittest.VerifyPath, kittest.Ada, code, false).StatusCode)
			res := send("/auth"+kittest.VerifyPath, kittest.Ada, code, true)
			assert.Equal(t, http.StatusSeeOther, res.StatusCode)
			assert.Equal(t, "/", res.Header.Get("Location"))
			assert.Equal(t, http.StatusOK, send("/go/signup", "grace@example.com", "", true).StatusCode)
			assert.Equal(t, http.StatusOK, send("/auth"+kittest.SignUpPath, kittest.Bob, "", false).StatusCode)
			assert.True(t, k.Project.HasUser("grace@example.com"))
			assert.True(t, k.Project.HasUser(kittest.Bob))

			// One limit, however it is written.
			wrong := kittest.OtherCode(code)
			assert.Equal(t, http.StatusUnauthorized, kittest.Guess(k, "127.0.0.1", kittest.Ada, wrong).StatusCode)
			assert.Equal(t, http.StatusTooManyRequests, send("/auth"+kittest.VerifyPath, kittest.Ada, code, false).StatusCode)
			assert.Equal(t, http.StatusTeapot, send("/go/signin", kittest.Ada, code, true).StatusCode)
		})
	}
}
