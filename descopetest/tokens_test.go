package descopetest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

func TestRotation(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		t.Run(alg, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newProject(func(t *descopetest.Settings) { t.Alg, t.RotateRefresh = alg, true })
				first := s.SignIn(ann).Refresh
				end := kittest.ClaimsOf(t, first)["exp"]
				seen := map[string]bool{first: true}
				token := first
				for range 4 { // within one second and after it
					out := ok(t, s, kittest.RefreshPath, token, "")
					next := out["refreshJwt"].(string)
					assert.False(t, seen[next])
					seen[next] = true
					assert.False(t, s.Honours(token))
					assert.True(t, s.Honours(next))
					refused(t, s, kittest.RefreshPath, token, "", 401, "E064001")
					assert.Equal(t, end, kittest.ClaimsOf(t, next)["exp"])
					assert.Equal(t, end, out["cookieExpiration"])
					token = next
					kittest.Elapse(300 * time.Millisecond)
				}

				kittest.Elapse(time.Hour)
				s.Configure(func(t *descopetest.Settings) {
					t.SlideRefreshExpiry = true
					t.SpentRefresh = descopetest.Failure{Status: 403, Code: "E000002", Description: "spent"}
				})
				next := ok(t, s, kittest.RefreshPath, token, "")["refreshJwt"].(string)
				assert.Equal(t, float64(time.Now().Add(4*7*24*time.Hour).Unix()), kittest.ClaimsOf(t, next)["exp"])
				refused(t, s, kittest.RefreshPath, token, "", 403, "E000002")
				assert.True(t, s.Honours(next))

				other := s.SignIn(ann).Refresh
				s.Configure(func(t *descopetest.Settings) { t.ReuseRevokesFamily = true })
				assert.False(t, s.Honours(first)) // asking is not using
				assert.True(t, s.Honours(next))
				refused(t, s, kittest.RefreshPath, first, "", 403, "E000002")
				assert.False(t, s.Honours(next))
				assert.True(t, s.Honours(other))
			})
		})
	}
}

// Whatever call a spent refresh token is presented in, it has been used again.
func TestReuseInAnyCall(t *testing.T) {
	for path, body := range map[string]string{
		kittest.RefreshPath: "", kittest.TryRefreshPath: "", kittest.LogoutPath: "", kittest.LogoutAllPath: "", kittest.MePath: "", kittest.HistoryPath: "", kittest.TenantsPath: "{}",
		kittest.UpdatePath: `{"loginId":"` + ann + `"}`, kittest.SelectPath: `{"tenant":"T1"}`, kittest.VerifyPath: "",
	} {
		for _, on := range []bool{false, true} {
			s := newProject(func(t *descopetest.Settings) {
				t.RotateRefresh, t.ReuseRevokesFamily, t.AllowCodeReuse = true, on, true
			})
			spent := s.SignIn(ann).Refresh
			second := ok(t, s, kittest.VerifyPath, spent, verifyBody(s, ann, `{"stepup":true}`))["refreshJwt"].(string)
			next := ok(t, s, kittest.RefreshPath, spent, "")["refreshJwt"].(string)
			if path == kittest.VerifyPath {
				body = verifyBody(s, ann, `{"mfa":true}`)
			}
			method := http.MethodPost
			if path == kittest.MePath || path == kittest.HistoryPath {
				method = http.MethodGet
			}
			r := send(t, s, method, path, spent, body)
			assert.Equal(t, path == kittest.TryRefreshPath, r.StatusCode == http.StatusOK, path)
			assert.Equal(t, !on, s.Honours(next), path)
			assert.True(t, s.Honours(second), path)
		}
	}
}

func TestNoRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.Alg = "RS256" })
		in := s.SignIn(ann)
		a, b := ok(t, s, kittest.RefreshPath, in.Refresh, ""), ok(t, s, kittest.RefreshPath, in.Refresh, "")
		assert.Equal(t, "", a["refreshJwt"])
		assert.Equal(t, a["sessionJwt"], b["sessionJwt"]) // RS256, one second, equal claims
		assert.Equal(t, in.Session, a["sessionJwt"])
		assert.NotEqual(t, in.Refresh, s.SignIn(ann).Refresh)
		s.Configure(func(t *descopetest.Settings) { t.EchoRefresh = true })
		assert.Equal(t, in.Refresh, ok(t, s, kittest.RefreshPath, in.Refresh, "")["refreshJwt"])
	})
}

func TestRefreshTokenOfOnlyOneWins(t *testing.T) {
	s := newProject(func(t *descopetest.Settings) { t.RotateRefresh = true })
	token := s.SignIn(ann).Refresh
	var wg sync.WaitGroup
	statuses := make([]int, 20)
	for i := range statuses {
		wg.Go(func() { statuses[i] = post(t, s, kittest.RefreshPath, token, "").StatusCode })
	}
	wg.Wait()
	won := 0
	for _, status := range statuses {
		if status == http.StatusOK {
			won++
		}
	}
	assert.Equal(t, 1, won)
}

func TestRefusedRefreshTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject()
		in := s.SignIn(ann)
		claims := kittest.ClaimsOf(t, in.Refresh)
		claims["jti"] = "other"
		for why, token := range map[string]string{
			"none":        "",
			"session":     in.Session,
			"foreign":     newProject().SignIn(ann).Refresh,
			"not issued":  s.Sign(nil, claims),
			"tampered":    in.Refresh[:len(in.Refresh)-6] + "AAAAAA",
			"unsigned":    in.Refresh[:strings.LastIndexByte(in.Refresh, '.')+1],
			"second form": in.Refresh + "=",
			"garbage":     "..",
		} {
			t.Log(why)
			assert.False(t, s.Honours(token))
			refused(t, s, kittest.RefreshPath, token, "", 401, "E061005")
			assert.Equal(t, object{}, ok(t, s, kittest.TryRefreshPath, token, ""))
		}
		out := ok(t, s, kittest.TryRefreshPath, in.Refresh, "")
		assert.ElementsMatch(t, []string{"sessionJwt", "cookiePath", "cookieMaxAge", "cookieExpiration", "sessionExpiration"}, names(out))

		kittest.Elapse(4*7*24*time.Hour - time.Second)
		ok(t, s, kittest.RefreshPath, in.Refresh, "")
		kittest.Elapse(time.Second)
		assert.False(t, s.Honours(in.Refresh))
		refused(t, s, kittest.RefreshPath, in.Refresh, "", 401, "E061005")

		dead := s.SignIn(ann).Refresh
		s.LogOut(ann)
		assert.Equal(t, object{}, ok(t, s, kittest.TryRefreshPath, dead, "{}"))
	})
}

func TestExpiredFromTheStart(t *testing.T) {
	s := newProject(func(t *descopetest.Settings) { t.SessionTTL = -time.Minute })
	in := s.SignIn(ann)
	refused(t, s, kittest.ValidatePath, in.Session, "", 401, "E061005")
	assert.True(t, s.Honours(in.Refresh))
	s.Configure(func(t *descopetest.Settings) { t.RefreshTTL = 0 })
	assert.False(t, s.Honours(s.SignIn(ann).Refresh))
}

func TestAuthorization(t *testing.T) {
	s := newProject()
	token := s.SignIn(ann).Refresh
	id := s.ProjectID()
	status := func(authorization string) int {
		req, err := http.NewRequest(http.MethodPost, s.URL()+kittest.RefreshPath, nil)
		require.NoError(t, err)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		r := do(t, s, req)
		if r.StatusCode != http.StatusOK {
			assert.Contains(t, []any{"E061004", "E061005"}, r.body["errorCode"])
			return map[any]int{"E061004": 4, "E061005": 5}[r.body["errorCode"]]
		}
		return 200
	}
	for _, c := range []struct {
		key, authorization string
		want               int // 200, or the last digit of the refusal's code
	}{
		{"", "", 4},
		{"", "Bearer", 4},
		{"", "Basic " + id + ":" + token, 4},
		{"", "Bearer P2aaaaaaaaaaaaaaaaaaaaaaaaaaa:" + token, 4},
		{"", "Bearer " + token, 4},
		{"", "Bearer " + id, 5},
		{"", "Bearer " + id + ":somekey", 5},
		{"", "Bearer " + id + ":" + token, 200},
		{"", "bearer " + id + ":" + token, 200},
		{"", "Bearer " + id + ":" + token + ":somekey", 200},
		{"", "Bearer " + id + ":" + token + ":somekey:more", 4},
		{"key", "Bearer " + id, 4},
		{"key", "Bearer " + id + ":" + token, 4},
		{"key", "Bearer " + id + ":" + token + ":other", 4},
		{"key", "Bearer " + id + ":key", 5},
		{"key", "Bearer " + id + ":" + token + ":key", 200},
	} {
		s.Configure(func(t *descopetest.Settings) { t.AuthManagementKey = c.key })
		assert.Equalf(t, c.want, status(c.authorization), "key %q, %q", c.key, strings.Replace(c.authorization, token, "<token>", 1))
	}
	r := send(t, s, http.MethodGet, "/v2/keys/"+id, "", "")
	assert.Equal(t, http.StatusOK, r.StatusCode) // keys are public
}

func TestTokensInCookies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.TokensInCookies, t.RotateRefresh = true, true })
		r := post(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))
		require.Equal(t, http.StatusOK, r.StatusCode)
		assert.Equal(t, "", r.body["sessionJwt"])
		assert.Equal(t, "", r.body["refreshJwt"])
		assert.Equal(t, "DS", r.body["claims"].(object)["drn"])
		assert.Equal(t, float64(time.Now().Add(10*time.Minute).Unix()), r.body["sessionExpiration"])
		ds, dsr := cookie(t, r, "DS"), cookie(t, r, "DSR")
		assert.Equal(t, 600, ds.MaxAge)
		assert.Equal(t, 2419200, dsr.MaxAge)
		assert.Equal(t, r.body["claims"], any(kittest.ClaimsOf(t, ds.Value)))

		withCookie := func(value string) response {
			req, err := http.NewRequest(http.MethodPost, s.URL()+kittest.RefreshPath, nil)
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+s.ProjectID())
			req.AddCookie(&http.Cookie{Name: "DSR", Value: value})
			return do(t, s, req)
		}
		r = withCookie(dsr.Value)
		require.Equal(t, http.StatusOK, r.StatusCode)
		next := cookie(t, r, "DSR").Value
		assert.NotEqual(t, dsr.Value, next)
		requireRefusal(t, withCookie(dsr.Value), 401, "E064001")

		t.Log("a server sends the token in the header in this mode, too")
		r = post(t, s, kittest.RefreshPath, next, "")
		require.Equal(t, http.StatusOK, r.StatusCode)
		next = cookie(t, r, "DSR").Value

		s.Configure(func(t *descopetest.Settings) { t.RotateRefresh = false })
		r = post(t, s, kittest.TryRefreshPath, next, "")
		assert.NotContains(t, r.body, "refreshJwt")
		assert.Equal(t, "DS", r.body["claims"].(object)["drn"])
		cookie(t, r, "DS")
		assert.Len(t, r.Cookies(), 1)

		r = post(t, s, kittest.LogoutPath, next, "{}")
		require.Equal(t, http.StatusOK, r.StatusCode)
		assert.Equal(t, -1, cookie(t, r, "DS").MaxAge)
		assert.Equal(t, -1, cookie(t, r, "DSR").MaxAge)

		s.Configure(func(t *descopetest.Settings) { t.TokensInCookies = false })
		requireRefusal(t, withCookie(s.SignIn(ann).Refresh), 401, "E061005")
	})
}

// Names may be others; the claim that tells the kinds apart follows them, or does not.
func TestCookieNames(t *testing.T) {
	for _, inDRN := range []bool{false, true} {
		s := newProject(func(t *descopetest.Settings) {
			t.TokensInCookies, t.NameInDRN = true, inDRN
			t.SessionCookieName, t.RefreshCookieName, t.CookieDomain = "APP", "APPR", "example.com"
		})
		r := post(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))
		require.Equal(t, http.StatusOK, r.StatusCode)
		session, refresh := cookie(t, r, "APP"), cookie(t, r, "APPR")
		assert.Equal(t, "example.com", session.Domain)
		assert.Empty(t, refresh.Domain)
		assert.Equal(t, "APPR", r.body["cookieName"])
		assert.Equal(t, "APP", r.body["sessionCookieName"])
		assert.Equal(t, "example.com", r.body["sessionCookieDomain"])
		want := map[bool][]any{false: {"DS", "DSR"}, true: {"APP", "APPR"}}[inDRN]
		assert.Equal(t, want, []any{kittest.ClaimsOf(t, session.Value)["drn"], kittest.ClaimsOf(t, refresh.Value)["drn"]})
		ok(t, s, kittest.ValidatePath, session.Value, "")
		ok(t, s, kittest.RefreshPath, refresh.Value, "")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+kittest.RefreshPath, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+s.ProjectID())
		req.AddCookie(refresh)
		assert.Equal(t, http.StatusOK, do(t, s, req).StatusCode)
	}
	assert.Panics(t, func() { newProject(func(t *descopetest.Settings) { t.SessionCookieName = "DSR" }) })
}

func TestInactivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.InactivityTimeout = 12 * time.Minute })
		token := s.SignIn(ann).Refresh
		for range 3 {
			kittest.Elapse(12 * time.Minute)
			assert.Equal(t, 720.0, ok(t, s, kittest.RefreshPath, token, "")["nextRefreshSeconds"])
		}
		kittest.Elapse(6 * time.Minute)
		require.Equal(t, http.StatusOK, send(t, s, http.MethodGet, kittest.MePath, token, "").StatusCode) // which is no refresh
		kittest.Elapse(6*time.Minute + time.Second)
		assert.False(t, s.Honours(token))
		refused(t, s, kittest.RefreshPath, token, "", 401, "E061005")
		s.Configure(func(t *descopetest.Settings) { t.InactivityTimeout = 0 })
		assert.Equal(t, 0.0, ok(t, s, kittest.RefreshPath, token, "")["nextRefreshSeconds"])
	})
}

// A session ends with its sign-in at the latest.
func TestSessionExpiryIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.RefreshTTL = 15 * time.Minute })
		token := s.SignIn(ann).Refresh
		end := float64(time.Now().Unix()) + 900
		kittest.Elapse(12 * time.Minute)
		answer := ok(t, s, kittest.RefreshPath, token, "")
		assert.Equal(t, end, answer["sessionExpiration"])
		assert.Equal(t, end, kittest.ClaimsOf(t, answer["sessionJwt"].(string))["exp"])
		s.Configure(func(t *descopetest.Settings) { t.CapSessionExpiry = false })
		assert.Equal(t, end+420, ok(t, s, kittest.RefreshPath, token, "")["sessionExpiration"])
	})
}

// Without an id two sign-ins within a second have one refresh token.
func TestOmitRefreshID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.OmitRefreshID, t.Alg, t.RotateRefresh = true, "RS256", true })
		one, two := s.SignIn(ann), s.SignIn(ann)
		assert.Equal(t, one, two)
		assert.Equal(t, one.Refresh, ok(t, s, kittest.RefreshPath, one.Refresh, "")["refreshJwt"], "it was spent for itself")
		kittest.Elapse(time.Second)
		next := ok(t, s, kittest.RefreshPath, one.Refresh, "")["refreshJwt"].(string)
		assert.NotEqual(t, one.Refresh, next)
		assert.NotContains(t, kittest.ClaimsOf(t, next), "jti")
		assert.False(t, s.Honours(two.Refresh))
	})
}

// cookie returns the only cookie of that name, and requires what Descope sets.
func cookie(t *testing.T, r response, name string) *http.Cookie {
	t.Helper()
	var found []*http.Cookie
	for _, c := range r.Cookies() {
		if c.Name == name {
			found = append(found, c)
		}
	}
	require.Len(t, found, 1)
	assert.True(t, found[0].HttpOnly)
	assert.True(t, found[0].Secure)
	assert.Equal(t, "/", found[0].Path)
	assert.Equal(t, http.SameSiteNoneMode, found[0].SameSite)
	return found[0]
}

func TestEditClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) {
			t.EditClaims = func(kind string, claims map[string]any) {
				claims["kind"] = kind
				claims["aud"] = []string{"me"}
				delete(claims, "jti")
				if kind == "DSR" {
					claims["exp"] = time.Now().Add(time.Minute).Unix()
				}
			}
		})
		in := s.SignIn(ann)
		assert.Equal(t, "DS", kittest.ClaimsOf(t, in.Session)["kind"])
		assert.Equal(t, "DSR", kittest.ClaimsOf(t, in.Refresh)["kind"])
		assert.Equal(t, "DS", s.SessionClaims(ann)["kind"])
		assert.Equal(t, time.Now().Add(time.Minute).UTC().Format(time.RFC3339), kittest.ClaimsOf(t, in.Session)["rexp"])

		t.Log("equal refresh tokens are one")
		again := s.SignIn(ann)
		assert.Equal(t, kittest.ClaimsOf(t, in.Refresh), kittest.ClaimsOf(t, again.Refresh))
		assert.True(t, s.Honours(again.Refresh))

		kittest.Elapse(time.Minute)
		assert.False(t, s.Honours(again.Refresh))
	})
}

// A hook that uses the project must not wait for itself.
func TestEditClaimsMayCallTheServer(t *testing.T) {
	s := newProject()
	s.Configure(func(t *descopetest.Settings) {
		t.EditClaims = func(_ string, claims map[string]any) { claims["code"] = s.Code(ann) }
	})
	in := s.SignIn(ann)
	assert.Len(t, kittest.ClaimsOf(t, in.Session)["code"], 6)
	ok(t, s, kittest.RefreshPath, in.Refresh, "")
	assert.Len(t, s.SessionClaims(ann)["code"], 6)
}

// The claims of one token are nobody else's.
func TestClaimsAreCopies(t *testing.T) {
	s := newProject()
	claims := map[string]any{"deep": map[string]any{"list": []any{"x"}}}
	roles := []string{"r"}
	s.AddUser(descopetest.User{LoginID: "bob", Roles: roles, CustomClaims: claims})
	claims["deep"].(map[string]any)["list"].([]any)[0] = "changed"
	roles[0] = "changed"
	s.Configure(func(set *descopetest.Settings) {
		set.EditClaims = func(_ string, c map[string]any) {
			assert.Equal(t, "x", c["deep"].(map[string]any)["list"].([]any)[0])
			assert.Equal(t, "r", c["roles"].([]string)[0])
			c["deep"].(map[string]any)["list"].([]any)[0] = "edited"
			c["roles"].([]string)[0] = "edited"
		}
	})
	s.SignIn("bob")
	s.SignIn("bob")
}

func TestSessionClaimsAreThoseOfSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.Alg, t.Issuer = "RS256", "https://api.descope.com/x" })
		assert.Equal(t, s.SignIn(ann).Session, s.Sign(nil, s.SessionClaims(ann)))
		assert.Equal(t, "https://api.descope.com/x", s.SessionClaims(ann)["iss"])
	})
}

// A test can name the user of a path before anybody has signed in.
func TestIDOfOnesOwn(t *testing.T) {
	s := newProject()
	s.AddUser(descopetest.User{LoginID: "bob", ID: "U2bob"})
	in := s.SignIn("bob")
	assert.Equal(t, "U2bob", kittest.ClaimsOf(t, in.Session)["sub"])
	assert.Equal(t, "U2bob", kittest.ClaimsOf(t, in.Refresh)["sub"])
	assert.NotEqual(t, "U2bob", s.SessionClaims(ann)["sub"])
}

func TestSignHeaders(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		s := newProject(func(t *descopetest.Settings) { t.Alg = alg })
		claims := map[string]any{"a": 1}

		header, _ := kittest.Parts(t, s.Sign(map[string]any{"kid": nil, "typ": "x", "crit": []string{"b64"}}, claims))
		assert.Equal(t, object{"alg": alg, "typ": "x", "crit": []any{"b64"}}, header)

		none := s.Sign(map[string]any{"alg": "none"}, claims)
		assert.True(t, strings.HasSuffix(none, "."))

		var public any
		for _, k := range keySet(t, s) {
			public = publicKey(t, k)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		require.NoError(t, err)
		confused := s.Sign(map[string]any{"alg": "HS256"}, claims)
		dot := strings.LastIndexByte(confused, '.')
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		mac.Write([]byte(confused[:dot]))
		assert.Equal(t, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), confused[dot+1:])

		honest := map[string][]string{"RS256": {"RS256", "RS512", "PS256"}, "ES256": {"ES256"}}[alg]
		for _, name := range []string{"RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "rs256"} {
			token := s.Sign(map[string]any{"alg": name}, claims)
			header, _ := kittest.Parts(t, token)
			assert.Equal(t, name, header["alg"])
			_, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return public, nil })
			if slices.Contains(honest, name) {
				assert.NoError(t, err, name)
			} else {
				assert.Error(t, err, name)
			}
		}
		assert.Panics(t, func() { s.Sign(nil, map[string]any{"f": func() {}}) })
	}
}

// publicKey decodes a key of the set as a client does.
func publicKey(t *testing.T, k object) any {
	t.Helper()
	octets := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(k[name].(string))
		require.NoError(t, err)
		return b
	}
	number := func(name string) *big.Int { return new(big.Int).SetBytes(octets(name)) }
	if k["kty"] == "RSA" {
		return &rsa.PublicKey{N: number("n"), E: int(number("e").Int64())}
	}
	point := append([]byte{4}, append(octets("x"), octets("y")...)...) // uncompressed
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	require.NoError(t, err)
	return key
}

func requireSigned(t *testing.T, s *descopetest.Server, token string) {
	t.Helper()
	_, err := jwt.Parse(token, func(token *jwt.Token) (any, error) {
		k, ok := keySet(t, s)[token.Header["kid"].(string)]
		if !ok {
			return nil, fmt.Errorf("unknown key")
		}
		return publicKey(t, k), nil
	})
	require.NoError(t, err)
}

func TestKeySet(t *testing.T) {
	for alg, members := range map[string][]string{
		"RS256": {"alg", "e", "kid", "kty", "n", "use"},
		"ES256": {"alg", "crv", "kid", "kty", "use", "x", "y"},
	} {
		s := newProject(func(t *descopetest.Settings) { t.Alg = alg })
		for _, k := range keySet(t, s) {
			assert.ElementsMatch(t, members, names(k))
			assert.Equal(t, alg, k["alg"])
			assert.Equal(t, "sig", k["use"])
		}
		in := s.SignIn(ann)
		requireSigned(t, s, in.Session)
		requireSigned(t, s, in.Refresh)

		a := send(t, s, http.MethodGet, "/v2/keys/"+s.ProjectID(), "", "")
		b := send(t, s, http.MethodGet, "/"+s.ProjectID()+"/.well-known/jwks.json", "", "")
		assert.Equal(t, a.raw, b.raw)
		for _, path := range []string{"/v2/keys", "/v2/keys/", "/v2/keys/P2other", "/P2other/.well-known/jwks.json", "/.well-known/jwks.json"} {
			requireRefusal(t, send(t, s, http.MethodGet, path, "", ""), 404, "E011001")
		}
	}
}

func TestKeyRotationAndRevocation(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		s := newProject(func(t *descopetest.Settings) { t.Alg, t.KeysKept = alg, 3 })
		old := s.SignIn(ann)
		s.RotateKeys()
		next := s.SignIn(ann)
		assert.Len(t, keySet(t, s), 2)
		requireSigned(t, s, old.Session)
		requireSigned(t, s, next.Session)
		ok(t, s, kittest.ValidatePath, old.Session, "")

		s.RotateKeys()
		s.RotateKeys()
		keys := keySet(t, s)
		assert.Len(t, keys, 3)
		material := map[any]bool{}
		for _, k := range keys {
			material[fmt.Sprint(k["n"], k["x"])] = true
		}
		assert.Len(t, material, 3)
		refused(t, s, kittest.ValidatePath, old.Session, "", 401, "E061005")
		refused(t, s, kittest.RefreshPath, old.Refresh, "", 401, "E061005")
		assert.True(t, s.Honours(next.Refresh))
		s.Configure(func(t *descopetest.Settings) { t.KeyEndsRefresh = false })
		assert.True(t, s.Honours(old.Refresh)) // it lives longer than its key
		requireSigned(t, s, ok(t, s, kittest.RefreshPath, old.Refresh, "")["sessionJwt"].(string))

		s.RevokeKeys()
		assert.Len(t, keySet(t, s), 1)
		refused(t, s, kittest.RefreshPath, old.Refresh, "", 401, "E061005")
		refused(t, s, kittest.RefreshPath, next.Refresh, "", 401, "E061005")
		refused(t, s, kittest.ValidatePath, next.Session, "", 401, "E061005")
		requireSigned(t, s, s.SignIn(ann).Session)
	}
}

func TestKeyDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.KeyDelay, t.KeysKept = time.Minute, 1 })
		in := s.SignIn(ann)
		requireSigned(t, s, in.Session) // the first key is there at once
		s.RotateKeys()
		in = s.SignIn(ann)
		header, _ := kittest.Parts(t, in.Session)
		assert.NotContains(t, keySet(t, s), header["kid"])
		assert.Len(t, keySet(t, s), 1) // the old one stays as long as it is the only one
		ok(t, s, kittest.RefreshPath, in.Refresh, "")
		kittest.Elapse(time.Minute)
		assert.Len(t, keySet(t, s), 1)
		requireSigned(t, s, in.Session)
	})
}

func TestAlgMayChange(t *testing.T) {
	s := newProject()
	old := s.SignIn(ann)
	s.Configure(func(t *descopetest.Settings) { t.Alg = "RS256" })
	next := s.SignIn(ann)
	header, _ := kittest.Parts(t, next.Session)
	assert.Equal(t, "RS256", header["alg"])
	requireSigned(t, s, old.Session)
	requireSigned(t, s, next.Session)
}

func TestAddKey(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)

	s := newProject()
	for alg, add := range map[string]func(kid string){
		"RS256": func(kid string) { s.AddKey(kid, weak) },
		"ES384": func(kid string) { s.AddKey(kid, p384) },
		"ES512": func(kid string) { s.AddKey(kid, p521) },
		"EdDSA": func(kid string) { s.AddKey(kid, edwards) },
	} {
		add("kid-" + alg)
		in := s.SignIn(ann)
		header, _ := kittest.Parts(t, in.Session)
		assert.Equal(t, "kid-"+alg, header["kid"])
		assert.Equal(t, alg, header["alg"])
		assert.Equal(t, alg, keySet(t, s)["kid-"+alg]["alg"])
		ok(t, s, kittest.ValidatePath, in.Session, "")
		ok(t, s, kittest.RefreshPath, in.Refresh, "")
	}
	assert.Panics(t, func() { s.AddKey("", weak) })
	assert.Panics(t, func() { s.AddKey("x", p224) })
	assert.Panics(t, func() { s.AddKey("x", nil) })
	assert.Panics(t, func() { s.AddKey("x", (*rsa.PrivateKey)(nil)) })

	s = descopetest.NewServer()
	s.AddKey("only", p384)
	s.Configure(func(t *descopetest.Settings) { t.ProjectID = "P2xxxxxxxxxxxxxxxxxxxxxxxxxxx" })
	assert.Len(t, keySet(t, s), 1)
}

func TestServersShareNoKeys(t *testing.T) {
	a, b := descopetest.NewServer(), descopetest.NewServer()
	seen := map[any]bool{}
	for _, s := range []*descopetest.Server{a, b} {
		s.RotateKeys()
		for _, k := range keySet(t, s) {
			assert.False(t, seen[k["n"]] || seen[k["kid"]])
			seen[k["n"]], seen[k["kid"]] = true, true
		}
	}
	assert.Len(t, seen, 8)
}

func TestMaxTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newProject(func(t *descopetest.Settings) { t.MaxTokens, t.RotateRefresh = 3, true })
		dead := s.SignIn(ann).Refresh
		ok(t, s, kittest.LogoutPath, dead, "")
		a, _, c := s.SignIn(ann).Refresh, s.SignIn(ann).Refresh, s.SignIn(ann).Refresh
		refused(t, s, kittest.RefreshPath, dead, "", 401, "E061005") // forgotten
		assert.True(t, s.Honours(a))

		r := post(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))
		requireRefusal(t, r, 429, "E130429")
		assert.NotEmpty(t, r.Header.Get("Retry-After"))
		assert.Panics(t, func() { s.SignIn(ann) })

		t.Log("a rotation takes the place of what it spends")
		next := ok(t, s, kittest.RefreshPath, a, "")["refreshJwt"].(string)
		assert.True(t, s.Honours(next))

		t.Log("the refused sign-in has used no code up")
		ok(t, s, kittest.LogoutPath, c, "")
		ok(t, s, kittest.VerifyPath, "", verifyBody(s, ann, ""))

		s.Configure(func(t *descopetest.Settings) { t.RotateRefresh = false })
		kittest.Elapse(4 * 7 * 24 * time.Hour)
		s.SignIn(ann)
	})
}

func TestMaxUsers(t *testing.T) {
	s := newProject(func(t *descopetest.Settings) { t.MaxUsers = 2 })
	ok(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`)
	refused(t, s, kittest.SignUpPath, "", `{"loginId":"eve"}`, 429, "E130429")
	assert.False(t, s.HasUser("eve"))
	ok(t, s, kittest.SignUpPath, "", `{"loginId":"bob"}`)
	assert.Panics(t, func() { s.AddUser(descopetest.User{LoginID: "eve"}) })
}

func TestTokensAreNotPrinted(t *testing.T) {
	s := newProject(func(t *descopetest.Settings) { t.AuthManagementKey = "K-secret" })
	in := s.SignIn(ann)
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "tokens", in, "pointer", &in)
	}
	out := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb+verb+verb, in, &in, struct{ T descopetest.Tokens }{in})
		out += fmt.Sprintf(verb+verb, s, s.Client())
	}
	out += fmt.Sprintf("%v %+v %#v", struct{ s *descopetest.Server }{s}, struct{ s *descopetest.Server }{s}, struct{ s *descopetest.Server }{s})
	for _, secret := range []string{in.Session, in.Refresh, fmt.Sprintf("%x", in.Session), "K-secret", ann} {
		assert.NotContains(t, out, secret)
	}
	_, err := json.Marshal(in)
	assert.NoError(t, err)
}
