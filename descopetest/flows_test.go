package descopetest_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	signup       = "/v1/auth/totp/signup"
	verify       = "/v1/auth/totp/verify"
	update       = "/v1/auth/totp/update"
	refresh      = "/v1/auth/refresh"
	tryRefresh   = "/v1/auth/try-refresh"
	logout       = "/v1/auth/logout"
	logoutAll    = "/v1/auth/logoutall"
	me           = "/v1/auth/me"
	history      = "/v1/auth/me/history"
	myTenants    = "/v1/auth/me/tenants"
	selectTenant = "/v1/auth/tenant/select"
	validate     = "/v1/auth/validate"
)

// elapse lets fake time pass. Outside of a synctest bubble, where a test would
// wait for real, it panics.
func elapse(d time.Duration) {
	if time.Now().Year() > 2010 {
		panic("elapse outside of a bubble, whose clock starts in 2000")
	}
	<-time.After(d)
}

func TestSignUpVerifyAndUse(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		t.Run(alg, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newProject(func(t *descopetest.Settings) { t.Alg = alg })
				const bob = "bob@example.com"

				key := ok(t, s, signup, "", `{"loginId":"`+bob+`","user":{"name":"Bob","email":"b@example.com","givenName":"Robert"}}`)
				assert.ElementsMatch(t, []string{"provisioningURL", "image", "key"}, names(key))
				assert.True(t, s.HasUser(bob))
				code, err := totp.GenerateCode(key["key"].(string), time.Now())
				require.NoError(t, err)
				assert.Equal(t, s.Code(bob), code)

				in := ok(t, s, verify, "", verifyBody(s, bob, ""))
				assert.Equal(t, true, in["firstSeen"])
				header, session := parts(t, in["sessionJwt"])
				assert.Equal(t, alg, header["alg"])
				assert.Equal(t, "JWT", header["typ"])
				assert.Regexp(t, `^SK[0-9A-Za-z]{27}$`, header["kid"])
				assert.Regexp(t, `^U[0-9A-Za-z]{27}$`, session["sub"])
				now := float64(time.Now().Unix())
				assert.Equal(t, object{
					"amr":  []any{"totp"},
					"drn":  "DS",
					"exp":  now + 600,
					"iat":  now,
					"iss":  s.ProjectID(),
					"sub":  session["sub"],
					"rexp": time.Now().Add(4 * 7 * 24 * time.Hour).UTC().Format(time.RFC3339),
				}, session)
				dsr := claimsOf(t, in["refreshJwt"])
				assert.NotEmpty(t, dsr["jti"])
				delete(dsr, "jti")
				assert.Equal(t, object{
					"amr": []any{"totp"},
					"drn": "DSR",
					"dv":  1.0,
					"exp": now + 2419200,
					"iat": now,
					"iss": s.ProjectID(),
					"sub": session["sub"],
				}, dsr)

				// A sign-in later is not the first.
				elapse(30 * time.Second)
				again := ok(t, s, verify, "", verifyBody(s, bob, ""))
				assert.Equal(t, false, again["firstSeen"])

				got := send(t, s, http.MethodGet, me, in["refreshJwt"].(string), "").body
				assert.Equal(t, in["user"], any(got))
				assert.Equal(t, []any{bob}, got["loginIds"])
				assert.Equal(t, session["sub"], got["userId"])
				assert.Equal(t, "Bob", got["name"])
				assert.Equal(t, "Robert", got["givenName"])

				claims := ok(t, s, validate, in["sessionJwt"].(string), "{}")
				assert.Equal(t, session, claims)
			})
		})
	}
}

func names(o object) []string {
	var list []string
	for name := range o {
		list = append(list, name)
	}
	return list
}

func TestKeyAnswer(t *testing.T) {
	s := newProject()
	for _, loginID := range []string{"bob", "a b?c=d&e/f:g#h%", "ünï@example.com", strings.Repeat("€", 85)} {
		body, err := json.Marshal(object{"loginId": loginID})
		require.NoError(t, err)
		key := ok(t, s, signup, "", string(body))

		secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(key["key"].(string))
		require.NoError(t, err)
		assert.Len(t, secret, 20)

		u, err := url.Parse(key["provisioningURL"].(string))
		require.NoError(t, err)
		assert.Equal(t, "otpauth", u.Scheme)
		assert.Equal(t, "totp", u.Host)
		assert.Equal(t, "/Descope:"+loginID, u.Path)
		assert.Equal(t, key["key"], u.Query().Get("secret"))
		assert.Equal(t, "SHA1", u.Query().Get("algorithm"))
		assert.Equal(t, "6", u.Query().Get("digits"))
		assert.Equal(t, "30", u.Query().Get("period"))

		image, err := base64.StdEncoding.DecodeString(key["image"].(string))
		require.NoError(t, err)
		picture, err := png.Decode(bytes.NewReader(image))
		require.NoError(t, err)
		assert.Equal(t, 256, picture.Bounds().Dx())
		assert.Equal(t, 256, picture.Bounds().Dy())
	}
}

func TestSignUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		first := ok(t, s, signup, "", `{"loginId":"bob"}`)
		oldCode := s.Code("bob")
		second := ok(t, s, signup, "", `{"loginId":"bob"}`)
		assert.NotEqual(t, first["key"], second["key"])
		if s.Code("bob") != oldCode { // one in a million
			refused(t, s, verify, "", `{"loginId":"bob","code":"`+oldCode+`"}`, 401, "E061102")
		}
		ok(t, s, verify, "", verifyBody(s, "bob", ""))
		refused(t, s, signup, "", `{"loginId":"bob"}`, 400, "E062107")
		refused(t, s, signup, "", `{"loginId":"`+ann+`"}`, 400, "E062107")
	})
}

func TestUpdateKeepsTheOldKeyUntilTheNewOneIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		key := ok(t, s, signup, "", `{"loginId":"bob"}`)["key"].(string)
		oldCode := func() string {
			code, err := totp.GenerateCode(key, time.Now())
			require.NoError(t, err)
			return code
		}
		in := ok(t, s, verify, "", verifyBody(s, "bob", ""))
		token := in["refreshJwt"].(string)

		refused(t, s, update, "", `{"loginId":"bob"}`, 401, "E061005")
		refused(t, s, update, in["sessionJwt"].(string), `{"loginId":"bob"}`, 401, "E061005")
		next := ok(t, s, update, token, `{"loginId":"bob"}`)
		assert.NotEqual(t, key, next["key"])

		elapse(time.Minute)
		ok(t, s, verify, "", `{"loginId":"bob","code":"`+oldCode()+`"}`)
		out := ok(t, s, verify, "", verifyBody(s, "bob", ""))
		assert.Equal(t, false, out["firstSeen"])
		elapse(time.Minute)
		refused(t, s, verify, "", `{"loginId":"bob","code":"`+oldCode()+`"}`, 401, "E061102")
		ok(t, s, verify, "", verifyBody(s, "bob", ""))
	})
}

func TestUpdateOfAnotherUser(t *testing.T) { synctest.Test(t, updateOfAnotherUser) }

func updateOfAnotherUser(t *testing.T) {
	s := newProject()
	s.AddUser(descopetest.User{LoginID: "bob"})
	token := s.SignIn(ann).Refresh
	key := ok(t, s, update, token, `{"loginId":"bob"}`)["key"].(string)
	code, err := totp.GenerateCode(key, time.Now())
	require.NoError(t, err)
	assert.Equal(t, code, s.Code("bob"))
	refused(t, s, update, token, `{"loginId":"nobody"}`, 400, "E062108")

	s.Configure(func(t *descopetest.Settings) { t.UpdateChecksLoginID = true })
	refused(t, s, update, token, `{"loginId":"bob"}`, 401, "E061004")
	refused(t, s, update, token, `{"loginId":"nobody"}`, 401, "E061004")
	ok(t, s, update, token, `{"loginId":"`+ann+`"}`)
}

func TestCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		code := s.Code(ann)
		body := `{"loginId":"` + ann + `","code":"` + code + `"}`

		t.Log("a code is good once")
		ok(t, s, verify, "", body)
		refused(t, s, verify, "", body, 401, "E061102")

		t.Log("a step early and a step late it is good, two steps are too many")
		elapse(10 * time.Minute)
		late := s.Code(ann)
		elapse(30 * time.Second)
		ok(t, s, verify, "", `{"loginId":"`+ann+`","code":"`+late+`"}`)
		tooLate := s.Code(ann)
		elapse(60 * time.Second)
		refused(t, s, verify, "", `{"loginId":"`+ann+`","code":"`+tooLate+`"}`, 401, "E061102")

		s.Configure(func(t *descopetest.Settings) {
			t.Drift = 2
			t.AllowCodeReuse = true
			t.ReplayedCode = descopetest.Failure{Status: 418, Code: "E000001", Description: "replay"}
		})
		for range 3 {
			ok(t, s, verify, "", `{"loginId":"`+ann+`","code":"`+tooLate+`"}`)
		}
		s.Configure(func(t *descopetest.Settings) { t.AllowCodeReuse = false })
		refused(t, s, verify, "", `{"loginId":"`+ann+`","code":"`+tooLate+`"}`, 418, "E000001")

		s.Configure(func(t *descopetest.Settings) { t.Drift = 0 })
		elapse(time.Hour)
		late = s.Code(ann)
		elapse(30 * time.Second)
		refused(t, s, verify, "", `{"loginId":"`+ann+`","code":"`+late+`"}`, 401, "E061102")
		ok(t, s, verify, "", verifyBody(s, ann, ""))

		refused(t, s, verify, "", `{"loginId":"nobody","code":"123456"}`, 400, "E062108")
		for _, odd := range []string{"12345", "1234567", "abcdef", " " + s.Code(ann), "１２３４５６"} {
			refused(t, s, verify, "", `{"loginId":"`+ann+`","code":"`+odd+`"}`, 401, "E061102")
		}
	})
}

func TestMaxAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.MaxAttempts = 3 })
		bad := `{"loginId":"` + ann + `","code":"x"}`
		refused(t, s, verify, "", bad, 401, "E061102")
		refused(t, s, verify, "", bad, 401, "E061102")
		ok(t, s, verify, "", verifyBody(s, ann, ""))
		for range 3 {
			refused(t, s, verify, "", bad, 401, "E061102")
		}
		elapse(time.Minute)
		r := post(t, s, verify, "", verifyBody(s, ann, ""))
		requireRefusal(t, r, 429, "E061103")
		assert.NotEmpty(t, r.Header.Get("Retry-After"))
		s.Configure(func(t *descopetest.Settings) { t.MaxAttempts = 10 })
		ok(t, s, verify, "", verifyBody(s, ann, ""))
	})
}

func TestStepUpAndMFA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.StepUpTTL = 3 * time.Minute })
		s.AddUser(descopetest.User{LoginID: "bob"})
		s.Configure(func(t *descopetest.Settings) {
			t.EditClaims = func(_ string, claims map[string]any) { claims["amr"] = []string{"pwd"} }
		})
		token := s.SignIn(ann).Refresh
		s.Configure(func(t *descopetest.Settings) { t.EditClaims = nil })

		t.Log("neither goes without the user's own live refresh token, and a try uses no code up")
		for _, option := range []string{`{"stepup":true}`, `{"mfa":true}`} {
			refused(t, s, verify, "", verifyBody(s, ann, option), 401, "E061005")
			refused(t, s, verify, s.SignIn("bob").Refresh, verifyBody(s, ann, option), 401, "E061005")
			refused(t, s, verify, "a.b.c", verifyBody(s, ann, option), 401, "E061005")
		}

		up := ok(t, s, verify, token, verifyBody(s, ann, `{"stepup":true}`))
		claims := claimsOf(t, up["sessionJwt"])
		assert.Equal(t, true, claims["su"])
		assert.Equal(t, []any{"pwd"}, claims["amr"])
		assert.Equal(t, float64(time.Now().Add(3*time.Minute).Unix()), claims["exp"])
		assert.Equal(t, claims["exp"], up["sessionExpiration"])
		assert.NotContains(t, claimsOf(t, up["refreshJwt"]), "su")

		t.Log("a refresh ends the step-up, not the factors")
		after := ok(t, s, refresh, up["refreshJwt"].(string), "")
		assert.NotContains(t, claimsOf(t, after["sessionJwt"]), "su")
		assert.Equal(t, []any{"pwd"}, claimsOf(t, after["sessionJwt"])["amr"])

		elapse(30 * time.Second)
		mfa := ok(t, s, verify, token, verifyBody(s, ann, `{"mfa":true}`))
		assert.Equal(t, []any{"pwd", "totp", "mfa"}, claimsOf(t, mfa["sessionJwt"])["amr"])
		after = ok(t, s, refresh, mfa["refreshJwt"].(string), "")
		assert.Equal(t, []any{"pwd", "totp", "mfa"}, claimsOf(t, after["sessionJwt"])["amr"])

		direct := claimsOf(t, s.StepUp(ann).Session)
		assert.Equal(t, true, direct["su"])
		assert.Equal(t, float64(time.Now().Add(3*time.Minute).Unix()), direct["exp"])
	})
}

func TestLoginOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		other := s.SignIn(ann).Refresh
		in := ok(t, s, verify, "", verifyBody(s, ann,
			`{"customClaims":{"a":{"b":[1]}},"locale":"de","templateOptions":{"x":"y"},"unknown":7}`))
		nsec := object{"a": object{"b": []any{1.0}}}
		assert.Equal(t, nsec, claimsOf(t, in["sessionJwt"])["nsec"])
		after := ok(t, s, refresh, in["refreshJwt"].(string), "{}")
		assert.Equal(t, nsec, claimsOf(t, after["sessionJwt"])["nsec"])

		elapse(time.Minute)
		in = ok(t, s, verify, "", verifyBody(s, ann, `{"revokeOtherSessions":true}`))
		assert.False(t, s.Honours(other))
		assert.True(t, s.Honours(in["refreshJwt"].(string)))
		refused(t, s, refresh, other, "", 401, "E064001")

		elapse(time.Minute)
		ok(t, s, verify, "", `{"loginId":"`+ann+`","code":"`+s.Code(ann)+`","loginOptions":null}`)
	})
}

// Browsers send the refresh token they have with every call.
func TestDeadRefreshTokenDoesNotStopASignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		dead := s.SignIn(ann).Refresh
		s.LogOut(ann)
		for _, token := range []string{dead, "x.y.z", "x"} {
			ok(t, s, signup, token, `{"loginId":"bob"}`)
			ok(t, s, verify, token, verifyBody(s, ann, ""))
			elapse(time.Minute)
		}
	})
}

func TestRefreshBodies(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	for _, body := range []string{"", "  ", "{}", `{"externalToken":"x"}`, `{"fpData":{"a":1}}`, `null`} {
		out := ok(t, s, refresh+"?dcs=t&dcr=f", token, body)
		assert.Equal(t, "", out["refreshJwt"])
		assert.Equal(t, "DS", claimsOf(t, out["sessionJwt"])["drn"])
		assert.Equal(t, []any{ann}, out["user"].(object)["loginIds"])
	}
}

func TestSessionAnswerNamesEverything(t *testing.T) {
	s := newProject()
	out := ok(t, s, refresh, s.SignIn(ann).Refresh, "")
	for name, want := range map[string]any{
		"sessionJwt": out["sessionJwt"], "refreshJwt": "", "cookieDomain": "", "cookiePath": "/",
		"cookieMaxAge": out["cookieMaxAge"], "cookieExpiration": out["cookieExpiration"],
		"sessionExpiration": claimsOf(t, out["sessionJwt"])["exp"], "claims": object{},
		"externalToken": "", "tenantSSOID": "", "trustedDeviceJwt": "", "nextRefreshSeconds": 0.0,
		"cookieName": "", "sessionCookieName": "", "sessionCookieDomain": "",
		"user": out["user"], "firstSeen": false, "idpResponse": nil, "unsavedSSO": nil,
	} {
		assert.Contains(t, out, name)
		assert.Equal(t, want, out[name], name)
	}
	assert.Greater(t, out["cookieExpiration"], float64(time.Now().Unix()))
}

func TestUserAnswerNamesEverything(t *testing.T) {
	s := newProject()
	s.AddUser(descopetest.User{
		LoginID: "bob", Name: "Bob", Email: "b@example.com", Phone: "+1", Roles: []string{"admin"},
		Tenants: map[string]descopetest.Tenant{"T2": {Name: "Two"}, "T1": {Name: "One", Roles: []string{"r"}, Permissions: []string{"p"}}},
	})
	r := send(t, s, http.MethodGet, me, s.SignIn("bob").Refresh, "")
	assert.ElementsMatch(t, []string{
		"loginIds", "userId", "name", "email", "phone", "verifiedEmail", "verifiedPhone", "roleNames", "userTenants",
		"status", "externalIds", "picture", "test", "customAttributes", "createdTime", "TOTP", "SAML", "OAuth",
		"webauthn", "password", "ssoAppIds", "givenName", "middleName", "familyName", "editable", "SCIM", "push",
		"permissions", "OIDC", "consentExpiration", "recoveryEmail", "verifiedRecoveryEmail", "recoveryPhone",
		"verifiedRecoveryPhone", "modifiedTime",
	}, names(r.body))
	assert.Equal(t, true, r.body["TOTP"])
	assert.Equal(t, []any{"admin"}, r.body["roleNames"])
	assert.Equal(t, []any{}, r.body["permissions"])
	assert.Equal(t, object{}, r.body["OAuth"])
	assert.Equal(t, []any{
		object{"tenantId": "T1", "tenantName": "One", "roleNames": []any{"r"}, "permissions": []any{"p"}},
		object{"tenantId": "T2", "tenantName": "Two", "roleNames": []any{}, "permissions": []any{}},
	}, r.body["userTenants"])
}

func TestTenants(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		t.Run(fmt.Sprint("rotate=", rotate), func(t *testing.T) {
			s := newProject(func(t *descopetest.Settings) { t.RotateRefresh = rotate })
			s.AddUser(descopetest.User{
				LoginID: "bob", Roles: []string{"top"}, Permissions: []string{"all"}, Tenant: "T1",
				Tenants:      map[string]descopetest.Tenant{"T1": {Name: "One", Roles: []string{"r"}, Permissions: []string{"p"}}, "T2": {Name: "Two"}},
				CustomClaims: map[string]any{"plan": "gold", "sub": "nobody", "deep": map[string]any{"a": []any{1}}},
			})
			in := s.SignIn("bob")
			for _, token := range []string{in.Session, in.Refresh} {
				claims := claimsOf(t, token)
				assert.Equal(t, []any{"top"}, claims["roles"])
				assert.Equal(t, []any{"all"}, claims["permissions"])
				assert.Equal(t, object{"T1": object{"roles": []any{"r"}, "permissions": []any{"p"}}, "T2": object{}}, claims["tenants"])
				assert.Equal(t, "T1", claims["dct"])
				assert.Equal(t, "gold", claims["plan"])
				assert.NotEqual(t, "nobody", claims["sub"])
			}

			one := object{"id": "T1", "name": "One", "customAttributes": object{}}
			two := object{"id": "T2", "name": "Two", "customAttributes": object{}}
			assert.Equal(t, object{"tenants": []any{one}}, ok(t, s, myTenants, in.Refresh, `{"dct":true}`))
			assert.Equal(t, object{"tenants": []any{two}}, ok(t, s, myTenants, in.Refresh, `{"ids":["T2","T9"]}`))
			assert.Equal(t, object{"tenants": []any{one, two}}, ok(t, s, myTenants, in.Refresh, `{"dct":false,"ids":[]}`))
			refused(t, s, myTenants, in.Refresh, `{"dct":true,"ids":["T2"]}`, 400, "E011004")

			refused(t, s, selectTenant, in.Refresh, `{}`, 400, "E011002")
			refused(t, s, selectTenant, in.Refresh, `{"tenant":"T9"}`, 400, "E011004")
			out := ok(t, s, selectTenant, in.Refresh, `{"tenant":"T2"}`)
			assert.Equal(t, "T2", claimsOf(t, out["sessionJwt"])["dct"])
			next := out["refreshJwt"].(string)
			assert.Equal(t, "T2", claimsOf(t, next)["dct"])
			assert.Equal(t, !rotate, s.Honours(in.Refresh))
			assert.Equal(t, "T2", claimsOf(t, ok(t, s, refresh, next, "")["sessionJwt"])["dct"])
		})
	}
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		var token string
		for range 12 {
			token = ok(t, s, verify, "", verifyBody(s, ann, ""))["refreshJwt"].(string)
			elapse(time.Minute)
		}
		r := send(t, s, http.MethodGet, history, token, "")
		var list []object
		require.NoError(t, json.Unmarshal(r.raw, &list))
		require.Len(t, list, 10)
		assert.Equal(t, object{
			"userId": claimsOf(t, token)["sub"], "loginTime": float64(time.Now().Add(-time.Minute).Unix()),
			"city": "", "country": "", "ip": "192.0.2.1", "selectedTenant": "",
		}, list[0])

		s.AddUser(descopetest.User{LoginID: "bob"})
		r = send(t, s, http.MethodGet, history, s.SignIn("bob").Refresh, "")
		require.NoError(t, json.Unmarshal(r.raw, &list))
		assert.Len(t, list, 1)
	})
}

func TestLogout(t *testing.T) {
	s := newProject()
	s.AddUser(descopetest.User{LoginID: "bob"})
	a, b, c, bob := s.SignIn(ann).Refresh, s.SignIn(ann).Refresh, s.SignIn(ann), s.SignIn("bob").Refresh

	out := ok(t, s, logout, a, "")
	assert.Equal(t, "", out["sessionJwt"])
	assert.Equal(t, "", out["refreshJwt"])
	assert.Equal(t, "/", out["cookiePath"])
	assert.False(t, s.Honours(a))
	assert.True(t, s.Honours(b))
	refused(t, s, logout, a, "", 401, "E064001")
	for _, path := range []string{refresh, logoutAll, myTenants, update} {
		refused(t, s, path, a, `{"loginId":"x"}`, 401, "E064001")
	}
	for _, path := range []string{me, history} {
		requireRefusal(t, send(t, s, http.MethodGet, path, a, ""), 401, "E064001")
	}

	ok(t, s, logoutAll, b, `{"logoutType":["x"]}`)
	assert.False(t, s.Honours(b))
	assert.False(t, s.Honours(c.Refresh))
	assert.True(t, s.Honours(bob))
	ok(t, s, validate, c.Session, "") // until it expires

	s.LogOut("bob")
	assert.False(t, s.Honours(bob))
	assert.True(t, s.Honours(s.SignIn("bob").Refresh))
}

func TestValidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		in := s.SignIn(ann)
		ok(t, s, validate, in.Session, "")
		for why, token := range map[string]string{
			"none":       "",
			"refresh":    in.Refresh,
			"foreign":    newProject().SignIn(ann).Session,
			"no drn":     s.Sign(nil, map[string]any{"exp": time.Now().Unix() + 60}),
			"other kid":  s.Sign(map[string]any{"kid": "SKother"}, s.SessionClaims(ann)),
			"none alg":   s.Sign(map[string]any{"alg": "none"}, s.SessionClaims(ann)),
			"tampered":   in.Session[:len(in.Session)-4] + "AAAA",
			"not base64": strings.Replace(in.Session, ".", ".!", 1),
		} {
			t.Log(why)
			refused(t, s, validate, token, "", 401, "E061005")
		}
		ok(t, s, validate, s.Sign(nil, s.SessionClaims(ann)), "{}")
		elapse(10 * time.Minute)
		refused(t, s, validate, in.Session, "", 401, "E061005")
	})
}

func TestBadBodies(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	deep := strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000)
	for _, c := range []struct{ path, body, code string }{
		{signup, ``, "E011002"},
		{signup, `{}`, "E011002"},
		{signup, `{"loginId":""}`, "E011002"},
		{signup, `{"LoginID":"bob"}`, "E011002"},
		{signup, `{"loginId":7}`, "E011003"},
		{signup, `{"loginId":"bob","user":[]}`, "E011003"},
		{signup, `{"loginId":"bob","loginId":"eve"}`, "E011003"},
		{signup, `{"loginId":"` + strings.Repeat("x", 257) + `"}`, "E011003"},
		{signup, `{"loginId":"` + "\xff" + `"}`, "E011003"},
		{signup, `{"loginId":"bob"} {}`, "E011003"},
		{signup, `{"loginId":"bob"`, "E011003"},
		{signup, `[]`, "E011003"},
		{signup, `<html>`, "E011003"},
		{signup, `{"loginId":"bob","pad":"` + strings.Repeat("x", 64<<10) + `"}`, "E011003"},
		{update, ``, "E011002"},
		{update, `{"loginId":{}}`, "E011003"},
		{verify, `{"loginId":"` + ann + `"}`, "E011002"},
		{verify, `{"loginId":"` + ann + `","code":123456}`, "E011003"},
		{verify, `{"loginId":"` + ann + `","code":"1","loginOptions":{"stepup":"yes"}}`, "E011003"},
		{verify, `{"loginId":"` + ann + `","code":"1","loginOptions":{"customClaims":{"a":` + deep + `}}}`, "E011003"},
		{refresh, `x`, "E011003"},
		{refresh, `{"externalToken":1}`, "E011003"},
		{tryRefresh, `[`, "E011003"},
		{logout, `7`, "E011003"},
		{logoutAll, `{"logoutType":"all"}`, "E011003"},
		{myTenants, `{"dct":"yes"}`, "E011003"},
		{selectTenant, `{"tenant":[]}`, "E011003"},
		{validate, `[]`, "E011003"},
	} {
		t.Run(c.path+" "+c.body[:min(40, len(c.body))], func(t *testing.T) {
			refused(t, s, c.path, token, c.body, 400, c.code)
		})
	}
	assert.False(t, s.HasUser("bob"))
	assert.True(t, s.Honours(token))
}

func TestDeepCustomClaimsAreCarried(t *testing.T) {
	s := newProject()
	deep := strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000)
	in := ok(t, s, verify, "", verifyBody(s, ann, `{"customClaims":{"a":`+deep+`}}`))
	ok(t, s, refresh, in["refreshJwt"].(string), "")
	ok(t, s, validate, in["sessionJwt"].(string), "")
}
