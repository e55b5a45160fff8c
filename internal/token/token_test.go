package token_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Rule: tokens: against a key that the token brings along (`jwk`, `jku`, `x5u`, `x5c`): they
// are never read; the key comes from the project's key set by `kid`.
func TestGoodTokensPass(t *testing.T) {
	h := kittest.NewHostile(t)
	project := h.Project.ProjectID()
	_, ec := kittest.Keys()
	tokens := map[string]string{
		"as Descope signs it":         h.Project.SignIn(kittest.Ada).Session,
		"RS256":                       h.With(nil),
		"ES256":                       kittest.SignRaw(t, ec, `{"alg":"ES256","kid":"`+kittest.ECKid+`"}`, kittest.ClaimsJSON(t, h.Claims(nil))),
		"issuer is a URL":             h.With(map[string]any{"iss": "https://api.descope.com/" + project}),
		"issuer of an app":            h.With(map[string]any{"iss": "https://api.descope.com/v1/apps/" + project}),
		"issuer of a tenant":          h.With(map[string]any{"iss": "https://auth.example.com/v1/apps/" + project + "/T2x"}),
		"fraction of a second":        h.With(map[string]any{"exp": float64(time.Now().Unix()) + 60.5}),
		"last second of 9999":         h.With(map[string]any{"exp": 253402300799}),
		"iat in the future":           h.With(map[string]any{"iat": time.Now().Add(time.Hour).Unix()}),
		"nbf within the leeway":       h.With(map[string]any{"nbf": time.Now().Add(3 * time.Second).Unix()}),
		"expired within the leeway":   h.With(map[string]any{"exp": time.Now().Add(-3 * time.Second).Unix()}),
		"roles of a wrong type":       h.With(map[string]any{"roles": 7, "tenants": "x", "amr": false}),
		"embedded key is ignored":     h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","jku":"https://evil.example","x5u":"https://evil.example","jwk":{"kty":"RSA"}}`),
		"escaped name in the header":  h.Header(`{"\u0061lg":"RS256","kid":"` + kittest.RSAKid + `"}`),
		"unknown claims in any case":  h.With(map[string]any{"Role": 1, "ROLE": 2}),
		"audience when none is asked": h.With(map[string]any{"aud": []string{"a", "b"}}),
	}
	for name, token := range tokens {
		for way, err := range h.Verdicts(token) {
			assert.NoError(t, err, "%s, %s", name, way)
		}
	}
}

// wrongTokens returns tokens that are wrong in one thing each.
func wrongTokens(t *testing.T, h *kittest.Hostile) map[string]string {
	tokens := make(map[string]string)
	for _, wrong := range []map[string]string{foreignTokens(h), wrongClaims(h), wrongPayloads(t, h), wrongHeaders(h), wrongSignatures(t, h), wrongShapes(h)} {
		for name, token := range wrong {
			require.NotContains(t, tokens, name)
			tokens[name] = token
		}
	}
	return tokens
}

// foreignTokens are of another kind or of another project.
func foreignTokens(h *kittest.Hostile) map[string]string {
	return map[string]string{
		"no drn":               h.With(map[string]any{"drn": nil}),
		"no drn, access token": h.With(map[string]any{"drn": nil, "token_type": "access_token"}),
		"drn in lower case":    h.With(map[string]any{"drn": strings.ToLower(h.Claims(nil)["drn"].(string))}),
		"drn of a wrong type":  h.With(map[string]any{"drn": []any{h.Claims(nil)["drn"]}}),

		"issuer of another project":  h.With(map[string]any{"iss": "P2othertherprojectabcdefghij"}),
		"issuer with the id early":   h.With(map[string]any{"iss": "https://evil.example/" + h.Project.ProjectID() + "/x/y"}),
		"issuer with the id in host": h.With(map[string]any{"iss": "https://" + h.Project.ProjectID()}),
		"issuer with the id in query": h.With(map[string]any{
			"iss": "https://evil.example/a/b?/" + h.Project.ProjectID()}),
		"issuer without a host":    h.With(map[string]any{"iss": "/" + h.Project.ProjectID()}),
		"issuer of another scheme": h.With(map[string]any{"iss": "ftp://x/" + h.Project.ProjectID()}),
		"no issuer":                h.With(map[string]any{"iss": nil}),
		"issuer of a wrong type":   h.With(map[string]any{"iss": []string{h.Project.ProjectID()}}),
	}
}

// wrongClaims have a claim that no token of Descope has.
func wrongClaims(h *kittest.Hostile) map[string]string {
	return map[string]string{
		"no exp":         h.With(map[string]any{"exp": nil}),
		"exp 0":          h.With(map[string]any{"exp": 0}),
		"exp negative":   h.With(map[string]any{"exp": -1}),
		"exp null":       h.With(map[string]any{"exp": 0}, `"exp":0`, `"exp":null`),
		"exp a string":   h.With(map[string]any{"exp": fmt.Sprint(time.Now().Add(time.Hour).Unix())}),
		"exp a bool":     h.With(map[string]any{"exp": true}),
		"exp after 9999": h.With(map[string]any{"exp": 253402300800}),
		"exp 1e400":      h.With(map[string]any{"exp": 0}, `"exp":0`, `"exp":1e400`),
		"expired":        h.With(map[string]any{"exp": time.Now().Add(-6 * time.Second).Unix()}),
		"EXP beside exp": h.With(map[string]any{"EXP": 1}),
		"EXP alone":      h.With(map[string]any{"exp": nil, "EXP": time.Now().Add(time.Hour).Unix()}),
		"Sub beside sub": h.With(map[string]any{"Sub": "U2somebodyelse"}),
		"long s in iss":  h.With(map[string]any{"iſs": "x"}),
		"nbf to come":    h.With(map[string]any{"nbf": time.Now().Add(time.Minute).Unix()}),
		"nbf 1e400":      h.With(map[string]any{"nbf": 0}, `"nbf":0`, `"nbf":1e400`),
		"nbf a string":   h.With(map[string]any{"nbf": "0"}),
		"iat a string":   h.With(map[string]any{"iat": "0"}),
		"no sub":         h.With(map[string]any{"sub": nil}),
		"empty sub":      h.With(map[string]any{"sub": ""}),
		"sub a number":   h.With(map[string]any{"sub": 7}),
		"aud a number":   h.With(map[string]any{"aud": 7}),
		"aud mixed":      h.With(map[string]any{"aud": []any{"a", 7}}),
		"bound to a key": h.With(map[string]any{"cnf": map[string]any{"jkt": "x"}}),
		"cnf null":       h.With(map[string]any{"cnf": 0}, `"cnf":0`, `"cnf":null`),
	}
}

// wrongPayloads are no plain JSON object, or one that two readers read differently.
func wrongPayloads(t *testing.T, h *kittest.Hostile) map[string]string {
	deep := strings.Repeat("[", 11_000) + strings.Repeat("]", 11_000)
	return map[string]string{
		"duplicate claim":  h.With(map[string]any{"sub": "U2a"}, `"sub":"U2a"`, `"sub":"U2a","sub":"U2b"`),
		"duplicate nested": h.With(map[string]any{"tenants": 0}, `"tenants":0`, `"tenants":{"a":{},"a":{}}`),
		"duplicate escaped": h.With(map[string]any{"sub": "U2a"}, `"sub":"U2a"`,
			`"sub":"U2a","\u0073ub":"U2b"`),
		"invalid UTF-8":   h.With(map[string]any{"x": "y"}, `"x":"y"`, "\"x\":\"\xff\""),
		"lone surrogate":  h.With(map[string]any{"x": "y"}, `"x":"y"`, `"x":"\ud800"`),
		"trailing data":   kittest.SignRaw(t, h.RSA, kittest.RS256Header, kittest.ClaimsJSON(t, h.Claims(nil))+"{}"),
		"claims an array": kittest.SignRaw(t, h.RSA, kittest.RS256Header, "["+kittest.ClaimsJSON(t, h.Claims(nil))+"]"),
		"claims null":     kittest.SignRaw(t, h.RSA, kittest.RS256Header, "null"),
		"claims empty":    kittest.SignRaw(t, h.RSA, kittest.RS256Header, ""),
		"claims too deep": h.With(map[string]any{"x": 0}, `"x":0`, `"x":`+deep),
	}
}

// wrongHeaders are signed well, but say of it what must not be said.
func wrongHeaders(h *kittest.Hostile) map[string]string {
	return map[string]string{
		"header an array":         h.Header("[" + kittest.RS256Header + "]"),
		"header with a comment":   h.Header(kittest.RS256Header + "//"),
		"alg None with signature": h.Header(`{"alg":"None","kid":"` + kittest.RSAKid + `"}`),
		"alg missing":             h.Header(`{"kid":"` + kittest.RSAKid + `"}`),
		"alg a number":            h.Header(`{"alg":256,"kid":"` + kittest.RSAKid + `"}`),
		"alg twice":               h.Header(`{"alg":"RS256","alg":"RS256","kid":"` + kittest.RSAKid + `"}`),
		"ALG beside alg":          h.Header(`{"alg":"RS256","ALG":"none","kid":"` + kittest.RSAKid + `"}`),
		"no kid":                  h.Header(`{"alg":"RS256"}`),
		"empty kid":               h.Header(`{"alg":"RS256","kid":""}`),
		"kid a number":            h.Header(`{"alg":"RS256","kid":1}`),
		"unknown crit":            h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","crit":["exp"],"exp":1}`),
		"crit b64":                h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","crit":["b64"],"b64":false}`),
		"crit empty":              h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","crit":[]}`),
		"crit null":               h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","crit":null}`),
	}
}

// wrongSignatures are by nobody, or by a key or an algorithm that is not the project's.
func wrongSignatures(t *testing.T, h *kittest.Hostile) map[string]string {
	parts := strings.Split(h.With(nil), ".")
	_, ec := kittest.Keys()
	publicDER, err := x509.MarshalPKIXPublicKey(h.RSA.Public())
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
	hs256 := func(key []byte) string {
		return kittest.SignSegments(t, jwt.SigningMethodHS256, key, kittest.Segment(`{"alg":"HS256","kid":"`+kittest.RSAKid+`"}`)+"."+parts[1])
	}
	return map[string]string{
		"alg none":                  kittest.Segment(`{"alg":"none","kid":"`+kittest.RSAKid+`"}`) + "." + parts[1] + ".",
		"RS512 under an RS256 key":  kittest.SignSegments(t, jwt.SigningMethodRS512, h.RSA, kittest.Segment(`{"alg":"RS512","kid":"`+kittest.RSAKid+`"}`)+"."+parts[1]),
		"PS256 under an RS256 key":  kittest.SignSegments(t, jwt.SigningMethodPS256, h.RSA, kittest.Segment(`{"alg":"PS256","kid":"`+kittest.RSAKid+`"}`)+"."+parts[1]),
		"HS256, public key as PEM":  hs256(publicPEM),
		"HS256, public key as DER":  hs256(publicDER),
		"HS256, modulus":            hs256(h.RSA.N.Bytes()),
		"HS256, empty key":          hs256(nil),
		"RS256 token, ES256 key":    h.Header(`{"alg":"RS256","kid":"` + kittest.ECKid + `"}`),
		"ES256 header, RS256 key":   kittest.SignRaw(t, ec, `{"alg":"ES256","kid":"`+kittest.RSAKid+`"}`, kittest.ClaimsJSON(t, h.Claims(nil))),
		"ES256 signature of zeros":  kittest.Segment(`{"alg":"ES256","kid":"`+kittest.ECKid+`"}`) + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"ES256 signature of order":  kittest.Segment(`{"alg":"ES256","kid":"`+kittest.ECKid+`"}`) + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(bytes.Repeat(elliptic.P256().Params().N.Bytes(), 2)),
		"embedded jwk, foreign key": embeddedJWK(t, parts[1]),
	}
}

// wrongShapes are a good token that is cut, put together anew or spelled otherwise.
func wrongShapes(h *kittest.Hostile) map[string]string {
	good := h.With(nil)
	parts := strings.Split(good, ".")
	tokens := map[string]string{
		"payload of another token": parts[0] + "." + strings.Split(h.With(map[string]any{"x": 1}), ".")[1] + "." + parts[2],
		"signature cut":            good[:len(good)-4],
		"signature empty":          parts[0] + "." + parts[1] + ".",
		"signature as other bits":  kittest.OtherSpelling(good),
		"padding":                  good + "==",
		"two parts":                parts[0] + "." + parts[1],
		"four parts":               good + "." + parts[2],
		"five parts":               good + "." + parts[2] + "." + parts[2],
		"JSON serialization":       `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"standard base64":          strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+/",
		"empty":                    "",
		"dots":                     "..",
		"over 16 KiB":              h.With(map[string]any{"x": strings.Repeat("x", 13<<10)}),
	}
	for i, name := range []string{"header", "payload", "signature"} {
		for char, text := range map[string]string{"CR": "\r", "LF": "\n", "space": " ", "tab": "\t", "NUL": "\x00"} {
			broken := strings.Split(good, ".")
			broken[i] = broken[i][:8] + text + broken[i][8:]
			tokens[char+" inside the "+name] = strings.Join(broken, ".")
		}
	}
	return tokens
}

// Rule: tokens: against a token signed by nobody (`none`, an HMAC keyed with the public key,
// ECDSA signatures of zeros, padding forgeries): an allow-list of three algorithms, each bound
// to the kind of key; Go's own `crypto`.
// Rule: tokens: against a key that the token brings along (`jwk`, `jku`, `x5u`, `x5c`): they
// are never read; the key comes from the project's key set by `kid`.
// Rule: tokens: against a refresh token, an ID token or an access token presented as a session:
// `drn` must be the session's; OAuth tokens only with `AcceptOAuth` and `Audience`.
// Rule: tokens: against a token of another project, or one that names the project somewhere
// else in `iss`: `iss` is the project's id, or a URL that ends in it.
// Rule: tokens: against a verdict that depends on the way a token came: one judgement for
// Bearer, cookie, VerifyToken and flows.
// Rule: tokens: three parts; no line breaks; no name that differs from a registered one by
// case; no `crit`; `exp` is required, a number, over 0, up to the year 9999; `nbf` and `iat`
// are numbers; `iss` is the project; `iss` as a URL: http or https, a host, the id last or
// second to last; `sub` is a non-empty string; no `cnf`.
// Rule: tokens: `exp` has not passed, `nbf` has, with the leeway.
// Rule: tokens: `drn` is that of the kind of token expected.
// Rule: tokens: OAuth tokens: only with AcceptOAuth, as sessions, without `drn`, `token_type`
// access_token.
// Rule: tokens: the signature verifies.
// Rule: tokens: `alg` is the key's.
func TestHostileTokensAreRefused(t *testing.T) {
	h := kittest.NewHostile(t)
	tokens := wrongTokens(t, h)
	tokens["refresh token as session"] = h.Project.SignIn(kittest.Ada).Refresh
	tokens["refresh token's drn"] = h.With(map[string]any{"drn": "DSR"})
	for name, token := range tokens {
		for way, err := range h.Verdicts(token) {
			assert.Error(t, err, "%s, %s", name, way)
			if way == "VerifyToken" && name != "expired" {
				assert.ErrorIs(t, err, descopehttp.ErrInvalidToken, name)
			} else if way != "VerifyToken" {
				assert.EqualError(t, err, "status 401", "%s, %s", name, way)
			}
		}
	}
}

// Refresh tokens are judged by the same rules, before Descope hears of them and
// wherever they come from.
//
// Rule: tokens: against a session token presented as a refresh token: `drn` must be the refresh
// token's, before Descope hears of it.
// Rule: tokens: `drn` is that of the kind of token expected.
func TestHostileRefreshTokensAreRefused(t *testing.T) {
	h := kittest.NewHostile(t)
	h.DRN = "DSR"
	tokens := wrongTokens(t, h)
	tokens["session token as refresh"] = h.Project.SignIn(kittest.Ada).Session
	tokens["session token's drn"] = h.With(map[string]any{"drn": "DS"})
	present := func(token string) map[string]*http.Response {
		return map[string]*http.Response{
			"cookie, middleware": kittest.Serve(h.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), "", token)),
			"cookie, flow":       kittest.Serve(h.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, "{}"), "", token)),
			"bearer, flow":       kittest.Serve(h.Handler(), kittest.WithBearer(kittest.Post(kittest.RefreshPath, "{}"), h.Project.ProjectID()+":"+token)),
			"cookie, second factor": kittest.Serve(h.Handler(), kittest.WithCookies(kittest.Post(kittest.VerifyPath,
				`{"loginId":"ada@example.com","code":"000000","loginOptions":{"mfa":true}}`), "", token)),
		}
	}
	for name, token := range tokens {
		for way, res := range present(token) {
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, "%s, %s", name, way)
		}
	}
	assert.Zero(t, h.Project.Requests(kittest.RefreshPath)+h.Project.Requests(kittest.VerifyPath))
	present(h.With(nil))
	assert.NotZero(t, h.Project.Requests(kittest.RefreshPath), "the way is open to a good one")
}

// embeddedJWK is signed by a key that the token itself brings along.
func embeddedJWK(t *testing.T, payload string) string {
	t.Helper()
	_, ec := kittest.Keys()
	raw, err := ec.PublicKey.Bytes()
	require.NoError(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	header := fmt.Sprintf(`{"alg":"ES256","kid":"%s","jwk":{"kty":"EC","crv":"P-256","x":"%s","y":"%s"}}`,
		kittest.RSAKid, b64(raw[1:33]), b64(raw[33:]))
	return kittest.SignSegments(t, jwt.SigningMethodES256, ec, kittest.Segment(header)+"."+payload)
}

// Rule: tokens: against a refresh token, an ID token or an access token presented as a session:
// `drn` must be the session's; OAuth tokens only with `AcceptOAuth` and `Audience`.
// Rule: tokens: `aud` holds the audience; of refresh tokens where they have one.
func TestAudience(t *testing.T) {
	h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.Audience = "shop" })
	for _, tt := range []struct {
		name string
		aud  any
		ok   bool
	}{
		{"the audience", "shop", true},
		{"among others", []string{"other", "shop"}, true},
		{"missing", nil, false},
		{"another", "other", false},
		{"in another case", "Shop", false},
		{"empty list", []string{}, false},
	} {
		for way, err := range h.Verdicts(h.With(map[string]any{"aud": tt.aud})) {
			assert.Equal(t, tt.ok, err == nil, "%s, %s: %v", tt.name, way, err)
		}
	}
}

// Rule: tokens: against a refresh token, an ID token or an access token presented as a session:
// `drn` must be the session's; OAuth tokens only with `AcceptOAuth` and `Audience`.
// Rule: tokens: OAuth tokens: only with AcceptOAuth, as sessions, without `drn`, `token_type`
// access_token.
func TestAcceptOAuth(t *testing.T) {
	h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.Audience, c.AcceptOAuth = "shop", true })
	access := map[string]any{"aud": "shop", "drn": nil, "token_type": "access_token"}
	for _, tt := range []struct {
		name    string
		changes map[string]any
		ok      bool
	}{
		{"access token", nil, true},
		{"id token", map[string]any{"token_type": "id_token"}, false},
		{"no type", map[string]any{"token_type": nil}, false},
		{"another audience", map[string]any{"aud": "other"}, false},
		{"refresh token", map[string]any{"drn": "DSR"}, false},
	} {
		changes := maps.Clone(access)
		maps.Copy(changes, tt.changes)
		for way, err := range h.Verdicts(h.With(changes)) {
			assert.Equal(t, tt.ok, err == nil, "%s, %s: %v", tt.name, way, err)
		}
	}
}

// Rule: tokens: `exp` has not passed, `nbf` has, with the leeway.
func TestLeeway(t *testing.T) {
	for _, tt := range []struct {
		leeway time.Duration
		ago    time.Duration
		ok     bool
	}{
		{0, 3 * time.Second, true},
		{0, 7 * time.Second, false},
		{-1, 2 * time.Second, false},
		{time.Minute, 50 * time.Second, true},
		{time.Minute, 70 * time.Second, false},
	} {
		h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.Leeway = tt.leeway })
		_, err := h.VerifyToken(t.Context(), h.With(map[string]any{"exp": time.Now().Add(-tt.ago).Unix()}))
		assert.Equal(t, tt.ok, err == nil, "leeway %v, expired %v ago: %v", tt.leeway, tt.ago, err)
		if !tt.ok {
			assert.ErrorIs(t, err, descopehttp.ErrSessionExpired)
		}
	}
}

// A template may put something else into sub; the user is dsub then.
//
// Rule: tokens: the user is `dsub` where it is there.
func TestSubjectOverriddenByTemplate(t *testing.T) {
	h := kittest.NewHostile(t)
	s, err := h.VerifyToken(t.Context(), h.With(map[string]any{"sub": "employee-7", "dsub": "U2real"}))
	require.NoError(t, err)
	assert.Equal(t, "U2real", s.Subject())
}
