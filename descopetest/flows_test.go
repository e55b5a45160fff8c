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

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func TestSignUpVerifyAndUse(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		t.Run(alg, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newProject(func(t *descopetest.Settings) { t.Alg = alg })
				const bob = "bob@example.com"

				key := ok(t, s, kittest.SignUpPath, "", `{"loginId":"`+bob+`","user":{"name":"Bob","email":"b@example.com","givenName":"Robert"}}`)
				assert.ElementsMatch(t, []string{"provisioningURL", "image", "key"}, names(key))
				assert.True(t, s.HasUser(bob))
				code, err := totp.GenerateCode(key["key"].(string), time.Now())
				require.NoError(t, err)
				assert.Equal(t, s.Code(bob), code)

				in := ok(t, s, kittest.VerifyPath, "", verifyBody(s, bob, ""))
				assert.Equal(t, true, in["firstSeen"])
				header, session := kittest.Parts(t, in["sessionJwt"])
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
				dsr := kittest.ClaimsOf(t, in["refreshJwt"])
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
				kittest.Elapse(30 * time.Second)
				again := ok(t, s, kittest.VerifyPath, "", verifyBody(s, bob, ""))
				assert.Equal(t, false, again["firstSeen"])

				got := send(t, s, http.MethodGet, kittest.MePath, in["refreshJwt"].(string), "").body
				assert.Equal(t, in["user"], any(got))
				assert.Equal(t, []any{bob}, got["loginIds"])
				assert.Equal(t, session["sub"], got["userId"])
				assert.Equal(t, "Bob", got["name"])
				assert.Equal(t, "Robert", got["givenName"])

				claims := ok(t, s, kittest.ValidatePath, in["sessionJwt"].(string), "{}")
				assert.Equal(t, "2000-01-01T00:10:00Z", claims["exp"])
				assert.Equal(t, "2000-01-01T00:00:00Z", claims["iat"])
				claims["exp"], claims["iat"] = session["exp"], session["iat"]
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
		key := ok(t, s, kittest.SignUpPath, "", string(body))

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
		first := ok(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`)
		oldCode := s.Code("bob")
		second := ok(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`)
		assert.NotEqual(t, first["key"], second["key"])
		if s.Code("bob") != oldCode { // one in a million
			refused(t, s, kittest.VerifyPath, "", `{"loginId":"bob","code":"`+oldCode+`"}`, 401, "E061102")
		}
		ok(t, s, kittest.VerifyPath, "", verifyBody(s, "bob", ""))
		refused(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`, 400, "E062107")
		refused(t, s, kittest.SignUpPath, "", `{"loginId":"`+ann+`"}`, 400, "E062107")
	})
}

func TestUpdateKeepsTheOldKeyUntilTheNewOneIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		key := ok(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`)["key"].(string)
		oldCode := func() string {
			code, err := totp.GenerateCode(key, time.Now())
			require.NoError(t, err)
			return code
		}
		in := ok(t, s, kittest.VerifyPath, "", verifyBody(s, "bob", ""))
		token := in["refreshJwt"].(string)

		refused(t, s, kittest.UpdatePath, "", `{"loginId":"bob"}`, 401, "E061005")
		refused(t, s, kittest.UpdatePath, in["sessionJwt"].(string), `{"loginId":"bob"}`, 401, "E061005")
		next := ok(t, s, kittest.UpdatePath, token, `{"loginId":"bob"}`)
		assert.NotEqual(t, key, next["key"])

		kittest.Elapse(time.Minute)
		ok(t, s, kittest.VerifyPath, "", `{"loginId":"bob","code":"`+oldCode()+`"}`)
		out := ok(t, s, kittest.VerifyPath, "", verifyBody(s, "bob", ""))
		assert.Equal(t, false, out["firstSeen"])
		kittest.Elapse(time.Minute)
		refused(t, s, kittest.VerifyPath, "", `{"loginId":"bob","code":"`+oldCode()+`"}`, 401, "E061102")
		ok(t, s, kittest.VerifyPath, "", verifyBody(s, "bob", ""))
	})
}

func TestUpdateOfAnotherUser(t *testing.T) { synctest.Test(t, updateOfAnotherUser) }

func updateOfAnotherUser(t *testing.T) {
	s := newProject()
	s.AddUser(descopetest.User{LoginID: "bob"})
	token := s.SignIn(ann).Refresh
	key := ok(t, s, kittest.UpdatePath, token, `{"loginId":"bob"}`)["key"].(string)
	code, err := totp.GenerateCode(key, time.Now())
	require.NoError(t, err)
	assert.Equal(t, code, s.Code("bob"))
	refused(t, s, kittest.UpdatePath, token, `{"loginId":"nobody"}`, 400, "E062108")

	s.Configure(func(t *descopetest.Settings) { t.UpdateChecksLoginID = true })
	refused(t, s, kittest.UpdatePath, token, `{"loginId":"bob"}`, 401, "E061004")
	refused(t, s, kittest.UpdatePath, token, `{"loginId":"nobody"}`, 401, "E061004")
	ok(t, s, kittest.UpdatePath, token, `{"loginId":"`+ann+`"}`)
}

func TestCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		code := s.Code(ann)
		body := `{"loginId":"` + ann + `","code":"` + code + `"}`

		t.Log("a code is good once")
		ok(t, s, kittest.VerifyPath, "", body)
		refused(t, s, kittest.VerifyPath, "", body, 401, "E061102")

		t.Log("a step early and a step late it is good, two steps are too many")
		kittest.Elapse(10 * time.Minute)
		late := s.Code(ann)
		kittest.Elapse(30 * time.Second)
		ok(t, s, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"`+late+`"}`)
		tooLate := s.Code(ann)
		kittest.Elapse(60 * time.Second)
		refused(t, s, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"`+tooLate+`"}`, 401, "E061102")

		s.Configure(func(t *descopetest.Settings) {
			t.Drift = 2
			t.AllowCodeReuse = true
			t.ReplayedCode = descopetest.Failure{Status: 418, Code: "E000001", Description: "replay"}
		})
		for range 3 {
			ok(t, s, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"`+tooLate+`"}`)
		}
		s.Configure(func(t *descopetest.Settings) { t.AllowCodeReuse = false })
		refused(t, s, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"`+tooLate+`"}`, 418, "E000001")

		s.Configure(func(t *descopetest.Settings) { t.Drift = 0 })
		kittest.Elapse(time.Hour)
		late = s.Code(ann)
		kittest.Elapse(30 * time.Second)
		refused(t, s, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"`+late+`"}`, 401, "E061102")
		ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))

		refused(t, s, kittest.VerifyPath, "", `{"loginId":"nobody","code":"123456"}`, 400, "E062108")
		for _, odd := range []string{"12345", "1234567", "abcdef", " " + s.Code(ann), "１２３４５６"} {
			refused(t, s, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"`+odd+`"}`, 401, "E061102")
		}
	})
}

func TestMaxAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.MaxAttempts = 3 })
		bad := `{"loginId":"` + ann + `","code":"x"}`
		refused(t, s, kittest.VerifyPath, "", bad, 401, "E061102")
		refused(t, s, kittest.VerifyPath, "", bad, 401, "E061102")
		ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))
		for range 3 {
			refused(t, s, kittest.VerifyPath, "", bad, 401, "E061102")
		}
		kittest.Elapse(time.Minute)
		r := post(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))
		requireRefusal(t, r, 401, "E061103")
		assert.Empty(t, r.Header.Get("Retry-After"))
		s.Configure(func(t *descopetest.Settings) { t.TooManyAttempts.Status = 429 })
		r = post(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))
		requireRefusal(t, r, 429, "E061103")
		assert.NotEmpty(t, r.Header.Get("Retry-After"))
		s.Configure(func(t *descopetest.Settings) { t.MaxAttempts = 10 })
		ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))
	})
}

func TestTOTPDisabled(t *testing.T) {
	s := newProject(func(t *descopetest.Settings) { t.TOTPDisabled = true })
	token := s.SignIn(ann).Refresh
	refused(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`, 403, "E061001")
	refused(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""), 403, "E061001")
	refused(t, s, kittest.VerifyPath, "", `{"loginId":"nobody","code":"1"}`, 403, "E061001")
	refused(t, s, kittest.UpdatePath, token, `{"loginId":"`+ann+`"}`, 403, "E061001")
	ok(t, s, kittest.RefreshPath, token, "")
	assert.False(t, s.HasUser("bob"))
}

// Whatever is asked about one user is refused, and about no other.
func TestRefuse(t *testing.T) {
	s := newProject()
	s.AddUser(descopetest.User{LoginID: "bob", Tenants: map[string]descopetest.Tenant{"T1": {}}})
	token, other := s.SignIn("bob").Refresh, s.SignIn(ann).Refresh
	s.Refuse("bob", descopetest.Failure{Status: 409, Code: "E069999", Description: "locked"})
	assert.False(t, s.Honours(token))
	refused(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`, 409, "E069999")
	refused(t, s, kittest.VerifyPath, "", verifyBody(s, "bob", ""), 409, "E069999")
	for _, path := range []string{kittest.RefreshPath, kittest.LogoutPath, kittest.LogoutAllPath, kittest.TenantsPath} {
		refused(t, s, path, token, "", 409, "E069999")
	}
	refused(t, s, kittest.UpdatePath, token, `{"loginId":"bob"}`, 409, "E069999")
	refused(t, s, kittest.SelectPath, token, `{"tenant":"T1"}`, 409, "E069999")
	requireRefusal(t, send(t, s, http.MethodGet, kittest.MePath, token, ""), 409, "E069999")
	requireRefusal(t, send(t, s, http.MethodGet, kittest.HistoryPath, token, ""), 409, "E069999")
	assert.Empty(t, ok(t, s, kittest.TryRefreshPath, token, ""))
	ok(t, s, kittest.RefreshPath, other, "")
	s.Refuse("bob", descopetest.Failure{})
	ok(t, s, kittest.RefreshPath, token, "")
	assert.Panics(t, func() { s.Refuse("bob", descopetest.Failure{Status: 200}) })
	assert.Panics(t, func() { s.Refuse("nobody", descopetest.Failure{}) })
}

// What a token is spent for that something else was asked for with.
func TestFates(t *testing.T) {
	for name, tt := range map[string]struct {
		rotate bool
		fate   descopetest.Fate
		lives  bool
	}{
		"rotates, off": {false, descopetest.TokenRotates, true},
		"rotates, on":  {true, descopetest.TokenRotates, false},
		"kept":         {true, descopetest.TokenKept, true},
		"spent":        {false, descopetest.TokenSpent, false},
	} {
		s := newProject(func(t *descopetest.Settings) {
			t.RotateRefresh, t.StepUpFate, t.SelectFate, t.AllowCodeReuse = tt.rotate, tt.fate, tt.fate, true
		})
		s.AddUser(descopetest.User{LoginID: "bob", Tenants: map[string]descopetest.Tenant{"T1": {}}})
		for _, path := range []string{kittest.VerifyPath, kittest.SelectPath} {
			token := s.SignIn("bob").Refresh
			body := `{"tenant":"T1"}`
			if path == kittest.VerifyPath {
				body = verifyBody(s, "bob", `{"stepup":true}`)
			}
			answer := ok(t, s, path, token, body)
			assert.Equal(t, tt.lives, s.Honours(token), "%s, %s", name, path)
			assert.True(t, s.Honours(answer["refreshJwt"].(string)), "%s, %s", name, path)
		}
	}
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
			refused(t, s, kittest.VerifyPath, "", verifyBody(s, ann, option), 401, "E061005")
			refused(t, s, kittest.VerifyPath, s.SignIn("bob").Refresh, verifyBody(s, ann, option), 401, "E061005")
			refused(t, s, kittest.VerifyPath, "a.b.c", verifyBody(s, ann, option), 401, "E061005")
		}

		up := ok(t, s, kittest.VerifyPath, token, verifyBody(s, ann, `{"stepup":true}`))
		claims := kittest.ClaimsOf(t, up["sessionJwt"])
		assert.Equal(t, true, claims["su"])
		assert.Equal(t, []any{"pwd"}, claims["amr"])
		assert.Equal(t, float64(time.Now().Add(3*time.Minute).Unix()), claims["exp"])
		assert.Equal(t, claims["exp"], up["sessionExpiration"])
		assert.NotContains(t, kittest.ClaimsOf(t, up["refreshJwt"]), "su")

		t.Log("a refresh ends the step-up, not the factors")
		after := ok(t, s, kittest.RefreshPath, up["refreshJwt"].(string), "")
		assert.NotContains(t, kittest.ClaimsOf(t, after["sessionJwt"]), "su")
		assert.Equal(t, []any{"pwd"}, kittest.ClaimsOf(t, after["sessionJwt"])["amr"])

		kittest.Elapse(30 * time.Second)
		mfa := ok(t, s, kittest.VerifyPath, token, verifyBody(s, ann, `{"mfa":true}`))
		assert.Equal(t, []any{"pwd", "totp", "mfa"}, kittest.ClaimsOf(t, mfa["sessionJwt"])["amr"])
		after = ok(t, s, kittest.RefreshPath, mfa["refreshJwt"].(string), "")
		assert.Equal(t, []any{"pwd", "totp", "mfa"}, kittest.ClaimsOf(t, after["sessionJwt"])["amr"])

		direct := kittest.ClaimsOf(t, s.StepUp(ann).Session)
		assert.Equal(t, true, direct["su"])
		assert.Equal(t, float64(time.Now().Add(3*time.Minute).Unix()), direct["exp"])
	})
}

func TestLoginOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		other := s.SignIn(ann).Refresh
		in := ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann,
			`{"customClaims":{"a":{"b":[1]}},"locale":"de","templateOptions":{"x":"y"},"unknown":7}`))
		nsec := object{"a": object{"b": []any{1.0}}}
		assert.Equal(t, nsec, kittest.ClaimsOf(t, in["sessionJwt"])["nsec"])
		after := ok(t, s, kittest.RefreshPath, in["refreshJwt"].(string), "{}")
		assert.Equal(t, nsec, kittest.ClaimsOf(t, after["sessionJwt"])["nsec"])

		kittest.Elapse(time.Minute)
		in = ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann, `{"revokeOtherSessions":true}`))
		assert.False(t, s.Honours(other))
		assert.True(t, s.Honours(in["refreshJwt"].(string)))
		refused(t, s, kittest.RefreshPath, other, "", 401, "E064001")

		kittest.Elapse(time.Minute)
		ok(t, s, kittest.VerifyPath, "", `{"loginId":"`+ann+`","code":"`+s.Code(ann)+`","loginOptions":null}`)
	})
}

// Browsers send the refresh token they have with every call.
func TestDeadRefreshTokenDoesNotStopASignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		dead := s.SignIn(ann).Refresh
		s.LogOut(ann)
		for _, token := range []string{dead, "x.y.z", "x"} {
			ok(t, s, kittest.SignUpPath, token, `{"loginId":"bob"}`)
			ok(t, s, kittest.VerifyPath, token, verifyBody(s, ann, ""))
			kittest.Elapse(time.Minute)
		}
	})
}

func TestRefreshBodies(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	for _, body := range []string{"", "  ", "{}", `{"externalToken":"x"}`, `{"fpData":{"a":1}}`, `null`} {
		out := ok(t, s, kittest.RefreshPath+"?dcs=t&dcr=f", token, body)
		assert.Equal(t, "", out["refreshJwt"])
		assert.Equal(t, "DS", kittest.ClaimsOf(t, out["sessionJwt"])["drn"])
		assert.Equal(t, []any{ann}, out["user"].(object)["loginIds"])
	}
}

func TestSessionAnswerNamesEverything(t *testing.T) {
	s := newProject()
	out := ok(t, s, kittest.RefreshPath, s.SignIn(ann).Refresh, "")
	for name, want := range map[string]any{
		"sessionJwt": out["sessionJwt"], "refreshJwt": "", "cookieDomain": "", "cookiePath": "/",
		"cookieMaxAge": out["cookieMaxAge"], "cookieExpiration": out["cookieExpiration"],
		"sessionExpiration": kittest.ClaimsOf(t, out["sessionJwt"])["exp"], "claims": object{},
		"externalToken": "", "tenantSSOID": "", "trustedDeviceJwt": "", "nextRefreshSeconds": 0.0,
		"cookieName": "", "sessionCookieName": "", "sessionCookieDomain": "",
		"user": out["user"], "firstSeen": false, "idpResponse": nil, "unsavedSSO": false,
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
	r := send(t, s, http.MethodGet, kittest.MePath, s.SignIn("bob").Refresh, "")
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
				claims := kittest.ClaimsOf(t, token)
				assert.Equal(t, []any{"top"}, claims["roles"])
				assert.Equal(t, []any{"all"}, claims["permissions"])
				assert.Equal(t, object{"T1": object{"roles": []any{"r"}, "permissions": []any{"p"}}, "T2": object{}}, claims["tenants"])
				assert.Equal(t, "T1", claims["dct"])
				assert.Equal(t, "gold", claims["plan"])
				assert.NotEqual(t, "nobody", claims["sub"])
			}

			one := object{"id": "T1", "name": "One", "customAttributes": object{}}
			two := object{"id": "T2", "name": "Two", "customAttributes": object{}}
			assert.Equal(t, object{"tenants": []any{one}}, ok(t, s, kittest.TenantsPath, in.Refresh, `{"dct":true}`))
			assert.Equal(t, object{"tenants": []any{two}}, ok(t, s, kittest.TenantsPath, in.Refresh, `{"ids":["T2","T9"]}`))
			assert.Equal(t, object{"tenants": []any{one, two}}, ok(t, s, kittest.TenantsPath, in.Refresh, `{"dct":false,"ids":[]}`))
			refused(t, s, kittest.TenantsPath, in.Refresh, `{"dct":true,"ids":["T2"]}`, 400, "E011004")

			refused(t, s, kittest.SelectPath, in.Refresh, `{}`, 400, "E011002")
			refused(t, s, kittest.SelectPath, in.Refresh, `{"tenant":"T9"}`, 400, "E011004")
			out := ok(t, s, kittest.SelectPath, in.Refresh, `{"tenant":"T2"}`)
			assert.Equal(t, "T2", kittest.ClaimsOf(t, out["sessionJwt"])["dct"])
			next := out["refreshJwt"].(string)
			assert.Equal(t, "T2", kittest.ClaimsOf(t, next)["dct"])
			assert.Equal(t, !rotate, s.Honours(in.Refresh))
			assert.Equal(t, "T2", kittest.ClaimsOf(t, ok(t, s, kittest.RefreshPath, next, "")["sessionJwt"])["dct"])
		})
	}
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		var token string
		for range 12 {
			token = ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))["refreshJwt"].(string)
			kittest.Elapse(time.Minute)
		}
		r := send(t, s, http.MethodGet, kittest.HistoryPath, token, "")
		var list []object
		require.NoError(t, json.Unmarshal(r.raw, &list))
		require.Len(t, list, 10)
		assert.Equal(t, object{
			"userId": kittest.ClaimsOf(t, token)["sub"], "loginTime": float64(time.Now().Add(-time.Minute).Unix()),
			"city": "", "country": "", "ip": "192.0.2.1", "selectedTenant": "",
		}, list[0])

		s.AddUser(descopetest.User{LoginID: "bob"})
		r = send(t, s, http.MethodGet, kittest.HistoryPath, s.SignIn("bob").Refresh, "")
		require.NoError(t, json.Unmarshal(r.raw, &list))
		assert.Len(t, list, 1)
	})
}

func TestLogout(t *testing.T) {
	s := newProject()
	s.AddUser(descopetest.User{LoginID: "bob"})
	a, b, c, bob := s.SignIn(ann).Refresh, s.SignIn(ann).Refresh, s.SignIn(ann), s.SignIn("bob").Refresh

	out := ok(t, s, kittest.LogoutPath, a, "")
	assert.Equal(t, "", out["sessionJwt"])
	assert.Equal(t, "", out["refreshJwt"])
	assert.Equal(t, "/", out["cookiePath"])
	assert.False(t, s.Honours(a))
	assert.True(t, s.Honours(b))
	refused(t, s, kittest.LogoutPath, a, "", 401, "E064001")
	for _, path := range []string{kittest.RefreshPath, kittest.LogoutAllPath, kittest.TenantsPath, kittest.UpdatePath} {
		refused(t, s, path, a, `{"loginId":"x"}`, 401, "E064001")
	}
	for _, path := range []string{kittest.MePath, kittest.HistoryPath} {
		requireRefusal(t, send(t, s, http.MethodGet, path, a, ""), 401, "E064001")
	}

	ok(t, s, kittest.LogoutAllPath, b, `{"logoutType":["x"]}`)
	assert.False(t, s.Honours(b))
	assert.False(t, s.Honours(c.Refresh))
	assert.True(t, s.Honours(bob))
	ok(t, s, kittest.ValidatePath, c.Session, "") // until it expires

	s.LogOut("bob")
	assert.False(t, s.Honours(bob))
	assert.True(t, s.Honours(s.SignIn("bob").Refresh))
}

func TestValidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		in := s.SignIn(ann)
		ok(t, s, kittest.ValidatePath, in.Session, "")
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
			refused(t, s, kittest.ValidatePath, token, "", 401, "E061005")
		}
		ok(t, s, kittest.ValidatePath, s.Sign(nil, s.SessionClaims(ann)), "{}")
		kittest.Elapse(10 * time.Minute)
		refused(t, s, kittest.ValidatePath, in.Session, "", 401, "E061005")
	})
}

func TestBadBodies(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	deep := strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000)
	for _, c := range []struct{ path, body, code string }{
		{kittest.SignUpPath, ``, "E011002"},
		{kittest.SignUpPath, `{}`, "E011002"},
		{kittest.SignUpPath, `{"loginId":""}`, "E011002"},
		{kittest.SignUpPath, `{"LoginID":"bob"}`, "E011002"},
		{kittest.SignUpPath, `{"loginId":7}`, "E011003"},
		{kittest.SignUpPath, `{"loginId":"bob","user":[]}`, "E011003"},
		{kittest.SignUpPath, `{"loginId":"bob","loginId":"eve"}`, "E011003"},
		{kittest.SignUpPath, `{"loginId":"` + strings.Repeat("x", 257) + `"}`, "E011003"},
		{kittest.SignUpPath, `{"loginId":"` + "\xff" + `"}`, "E011003"},
		{kittest.SignUpPath, `{"loginId":"bob"} {}`, "E011003"},
		{kittest.SignUpPath, `{"loginId":"bob"`, "E011003"},
		{kittest.SignUpPath, `[]`, "E011003"},
		{kittest.SignUpPath, `<html>`, "E011003"},
		{kittest.SignUpPath, `{"loginId":"bob","pad":"` + strings.Repeat("x", 64<<10) + `"}`, "E011003"},
		{kittest.UpdatePath, ``, "E011002"},
		{kittest.UpdatePath, `{"loginId":{}}`, "E011003"},
		{kittest.VerifyPath, `{"loginId":"` + ann + `"}`, "E011002"},
		{kittest.VerifyPath, `{"loginId":"` + ann + `","code":123456}`, "E011003"},
		{kittest.VerifyPath, `{"loginId":"` + ann + `","code":"1","loginOptions":{"stepup":"yes"}}`, "E011003"},
		{kittest.VerifyPath, `{"loginId":"` + ann + `","code":"1","loginOptions":{"customClaims":{"a":` + deep + `}}}`, "E011003"},
		{kittest.RefreshPath, `x`, "E011003"},
		{kittest.RefreshPath, `{"externalToken":1}`, "E011003"},
		{kittest.TryRefreshPath, `[`, "E011003"},
		{kittest.LogoutPath, `7`, "E011003"},
		{kittest.LogoutAllPath, `{"logoutType":"all"}`, "E011003"},
		{kittest.TenantsPath, `{"dct":"yes"}`, "E011003"},
		{kittest.SelectPath, `{"tenant":[]}`, "E011003"},
		{kittest.ValidatePath, `[]`, "E011003"},
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
	in := ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann, `{"customClaims":{"a":`+deep+`}}`))
	ok(t, s, kittest.RefreshPath, in["refreshJwt"].(string), "")
	ok(t, s, kittest.ValidatePath, in["sessionJwt"].(string), "")
}
