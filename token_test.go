package descopehttp_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rsa"
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
)

// hostile is a project whose keys the tests hold too, so that a token can be
// wrong in one thing only and signed all the same.
type hostile struct {
	*kit
	t   testing.TB
	rsa *rsa.PrivateKey
	drn string // of the tokens that it makes, where it is not a session's
}

const (
	rsaKid = "SKtestrsa"
	ecKid  = "SKtestec"
)

func newHostile(t testing.TB, edits ...func(*descopehttp.Config)) *hostile {
	k := newKit(t, edits...)
	r, e := testKeys()
	k.srv.AddKey(ecKid, e)
	k.srv.AddKey(rsaKid, r)
	return &hostile{kit: k, t: t, rsa: r}
}

const rs256Header = `{"alg":"RS256","kid":"` + rsaKid + `","typ":"JWT"}`

// claims returns a good session token's claims with changes; nil removes one.
func (h *hostile) claims(changes map[string]any) map[string]any {
	c := h.srv.SessionClaims(ada)
	if h.drn != "" {
		c["drn"] = h.drn
	}
	for name, value := range changes {
		c[name] = value
		if value == nil {
			delete(c, name)
		}
	}
	return c
}

// with returns a well-signed token with changed claims.
func (h *hostile) with(changes map[string]any, edits ...string) string {
	return signRaw(h.t, h.rsa, rs256Header, claimsJSON(h.t, h.claims(changes), edits...))
}

// header returns a well-signed token with that header.
func (h *hostile) header(header string) string {
	return signRaw(h.t, h.rsa, header, claimsJSON(h.t, h.claims(nil)))
}

// verdicts presents a session token in every way there is and returns what came
// of each.
func (h *hostile) verdicts(token string) map[string]error {
	verdicts := make(map[string]error)
	note := func(way string, r *http.Request) {
		next := new(spy)
		res := serve(h.RequireSession(next), r)
		if (next.calls == 1) != (res.StatusCode == http.StatusOK) {
			h.t.Fatalf("%s: status %d, handler ran %d times", way, res.StatusCode, next.calls)
		}
		if res.StatusCode != http.StatusOK {
			verdicts[way] = fmt.Errorf("status %d", res.StatusCode)
			return
		}
		verdicts[way] = nil
	}
	note("bearer", withBearer(get("/"), token))
	note("cookie", withCookies(get("/"), token, ""))
	_, verdicts["VerifyToken"] = h.VerifyToken(h.t.Context(), token)
	return verdicts
}

func TestGoodTokensPass(t *testing.T) {
	h := newHostile(t)
	project := h.srv.ProjectID()
	_, ec := testKeys()
	tokens := map[string]string{
		"as Descope signs it":         h.srv.SignIn(ada).Session,
		"RS256":                       h.with(nil),
		"ES256":                       signRaw(t, ec, `{"alg":"ES256","kid":"`+ecKid+`"}`, claimsJSON(t, h.claims(nil))),
		"issuer is a URL":             h.with(map[string]any{"iss": "https://api.descope.com/" + project}),
		"issuer of an app":            h.with(map[string]any{"iss": "https://api.descope.com/v1/apps/" + project}),
		"issuer of a tenant":          h.with(map[string]any{"iss": "https://auth.example.com/v1/apps/" + project + "/T2x"}),
		"fraction of a second":        h.with(map[string]any{"exp": float64(time.Now().Unix()) + 60.5}),
		"last second of 9999":         h.with(map[string]any{"exp": 253402300799}),
		"iat in the future":           h.with(map[string]any{"iat": time.Now().Add(time.Hour).Unix()}),
		"nbf within the leeway":       h.with(map[string]any{"nbf": time.Now().Add(3 * time.Second).Unix()}),
		"expired within the leeway":   h.with(map[string]any{"exp": time.Now().Add(-3 * time.Second).Unix()}),
		"roles of a wrong type":       h.with(map[string]any{"roles": 7, "tenants": "x", "amr": false}),
		"embedded key is ignored":     h.header(`{"alg":"RS256","kid":"` + rsaKid + `","jku":"https://evil.example","x5u":"https://evil.example","jwk":{"kty":"RSA"}}`),
		"escaped name in the header":  h.header(`{"\u0061lg":"RS256","kid":"` + rsaKid + `"}`),
		"unknown claims in any case":  h.with(map[string]any{"Role": 1, "ROLE": 2}),
		"audience when none is asked": h.with(map[string]any{"aud": []string{"a", "b"}}),
	}
	for name, token := range tokens {
		for way, err := range h.verdicts(token) {
			assert.NoError(t, err, "%s, %s", name, way)
		}
	}
}

// wrongTokens returns tokens that are wrong in one thing each.
func wrongTokens(t *testing.T, h *hostile) map[string]string {
	good := h.with(nil)
	parts := strings.Split(good, ".")
	_, ec := testKeys()
	publicDER, err := x509.MarshalPKIXPublicKey(h.rsa.Public())
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
	hs256 := func(key []byte) string {
		return signSegments(t, jwt.SigningMethodHS256, key, segment(`{"alg":"HS256","kid":"`+rsaKid+`"}`)+"."+parts[1])
	}
	deep := strings.Repeat("[", 11_000) + strings.Repeat("]", 11_000)

	tokens := map[string]string{
		"no drn":               h.with(map[string]any{"drn": nil}),
		"no drn, access token": h.with(map[string]any{"drn": nil, "token_type": "access_token"}),
		"drn in lower case":    h.with(map[string]any{"drn": strings.ToLower(h.claims(nil)["drn"].(string))}),
		"drn of a wrong type":  h.with(map[string]any{"drn": []any{h.claims(nil)["drn"]}}),

		"issuer of another project":  h.with(map[string]any{"iss": "P2othertherprojectabcdefghij"}),
		"issuer with the id early":   h.with(map[string]any{"iss": "https://evil.example/" + h.srv.ProjectID() + "/x/y"}),
		"issuer with the id in host": h.with(map[string]any{"iss": "https://" + h.srv.ProjectID()}),
		"issuer with the id in query": h.with(map[string]any{
			"iss": "https://evil.example/a/b?/" + h.srv.ProjectID()}),
		"issuer without a host":    h.with(map[string]any{"iss": "/" + h.srv.ProjectID()}),
		"issuer of another scheme": h.with(map[string]any{"iss": "ftp://x/" + h.srv.ProjectID()}),
		"no issuer":                h.with(map[string]any{"iss": nil}),
		"issuer of a wrong type":   h.with(map[string]any{"iss": []string{h.srv.ProjectID()}}),

		"no exp":           h.with(map[string]any{"exp": nil}),
		"exp 0":            h.with(map[string]any{"exp": 0}),
		"exp negative":     h.with(map[string]any{"exp": -1}),
		"exp null":         h.with(map[string]any{"exp": 0}, `"exp":0`, `"exp":null`),
		"exp a string":     h.with(map[string]any{"exp": fmt.Sprint(time.Now().Add(time.Hour).Unix())}),
		"exp a bool":       h.with(map[string]any{"exp": true}),
		"exp after 9999":   h.with(map[string]any{"exp": 253402300800}),
		"exp 1e400":        h.with(map[string]any{"exp": 0}, `"exp":0`, `"exp":1e400`),
		"expired":          h.with(map[string]any{"exp": time.Now().Add(-6 * time.Second).Unix()}),
		"EXP beside exp":   h.with(map[string]any{"EXP": 1}),
		"EXP alone":        h.with(map[string]any{"exp": nil, "EXP": time.Now().Add(time.Hour).Unix()}),
		"Sub beside sub":   h.with(map[string]any{"Sub": "U2somebodyelse"}),
		"long s in iss":    h.with(map[string]any{"iſs": "x"}),
		"nbf to come":      h.with(map[string]any{"nbf": time.Now().Add(time.Minute).Unix()}),
		"nbf 1e400":        h.with(map[string]any{"nbf": 0}, `"nbf":0`, `"nbf":1e400`),
		"nbf a string":     h.with(map[string]any{"nbf": "0"}),
		"iat a string":     h.with(map[string]any{"iat": "0"}),
		"no sub":           h.with(map[string]any{"sub": nil}),
		"empty sub":        h.with(map[string]any{"sub": ""}),
		"sub a number":     h.with(map[string]any{"sub": 7}),
		"aud a number":     h.with(map[string]any{"aud": 7}),
		"aud mixed":        h.with(map[string]any{"aud": []any{"a", 7}}),
		"bound to a key":   h.with(map[string]any{"cnf": map[string]any{"jkt": "x"}}),
		"cnf null":         h.with(map[string]any{"cnf": 0}, `"cnf":0`, `"cnf":null`),
		"duplicate claim":  h.with(map[string]any{"sub": "U2a"}, `"sub":"U2a"`, `"sub":"U2a","sub":"U2b"`),
		"duplicate nested": h.with(map[string]any{"tenants": 0}, `"tenants":0`, `"tenants":{"a":{},"a":{}}`),
		"duplicate escaped": h.with(map[string]any{"sub": "U2a"}, `"sub":"U2a"`,
			`"sub":"U2a","\u0073ub":"U2b"`),
		"invalid UTF-8":         h.with(map[string]any{"x": "y"}, `"x":"y"`, "\"x\":\"\xff\""),
		"lone surrogate":        h.with(map[string]any{"x": "y"}, `"x":"y"`, `"x":"\ud800"`),
		"trailing data":         signRaw(t, h.rsa, rs256Header, claimsJSON(t, h.claims(nil))+"{}"),
		"claims an array":       signRaw(t, h.rsa, rs256Header, "["+claimsJSON(t, h.claims(nil))+"]"),
		"claims null":           signRaw(t, h.rsa, rs256Header, "null"),
		"claims empty":          signRaw(t, h.rsa, rs256Header, ""),
		"claims too deep":       h.with(map[string]any{"x": 0}, `"x":0`, `"x":`+deep),
		"header an array":       h.header("[" + rs256Header + "]"),
		"header with a comment": h.header(rs256Header + "//"),

		"alg none":                  segment(`{"alg":"none","kid":"`+rsaKid+`"}`) + "." + parts[1] + ".",
		"alg None with signature":   h.header(`{"alg":"None","kid":"` + rsaKid + `"}`),
		"alg missing":               h.header(`{"kid":"` + rsaKid + `"}`),
		"alg a number":              h.header(`{"alg":256,"kid":"` + rsaKid + `"}`),
		"alg twice":                 h.header(`{"alg":"RS256","alg":"RS256","kid":"` + rsaKid + `"}`),
		"ALG beside alg":            h.header(`{"alg":"RS256","ALG":"none","kid":"` + rsaKid + `"}`),
		"RS512 under an RS256 key":  signSegments(t, jwt.SigningMethodRS512, h.rsa, segment(`{"alg":"RS512","kid":"`+rsaKid+`"}`)+"."+parts[1]),
		"PS256 under an RS256 key":  signSegments(t, jwt.SigningMethodPS256, h.rsa, segment(`{"alg":"PS256","kid":"`+rsaKid+`"}`)+"."+parts[1]),
		"HS256, public key as PEM":  hs256(publicPEM),
		"HS256, public key as DER":  hs256(publicDER),
		"HS256, modulus":            hs256(h.rsa.N.Bytes()),
		"HS256, empty key":          hs256(nil),
		"RS256 token, ES256 key":    h.header(`{"alg":"RS256","kid":"` + ecKid + `"}`),
		"ES256 header, RS256 key":   signRaw(t, ec, `{"alg":"ES256","kid":"`+rsaKid+`"}`, claimsJSON(t, h.claims(nil))),
		"ES256 signature of zeros":  segment(`{"alg":"ES256","kid":"`+ecKid+`"}`) + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"ES256 signature of order":  segment(`{"alg":"ES256","kid":"`+ecKid+`"}`) + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(bytes.Repeat(elliptic.P256().Params().N.Bytes(), 2)),
		"no kid":                    h.header(`{"alg":"RS256"}`),
		"empty kid":                 h.header(`{"alg":"RS256","kid":""}`),
		"kid a number":              h.header(`{"alg":"RS256","kid":1}`),
		"unknown crit":              h.header(`{"alg":"RS256","kid":"` + rsaKid + `","crit":["exp"],"exp":1}`),
		"crit b64":                  h.header(`{"alg":"RS256","kid":"` + rsaKid + `","crit":["b64"],"b64":false}`),
		"crit empty":                h.header(`{"alg":"RS256","kid":"` + rsaKid + `","crit":[]}`),
		"crit null":                 h.header(`{"alg":"RS256","kid":"` + rsaKid + `","crit":null}`),
		"embedded jwk, foreign key": embeddedJWK(t, parts[1]),

		"payload of another token": parts[0] + "." + strings.Split(h.with(map[string]any{"x": 1}), ".")[1] + "." + parts[2],
		"signature cut":            good[:len(good)-4],
		"signature empty":          parts[0] + "." + parts[1] + ".",
		"signature as other bits":  otherSpelling(good),
		"padding":                  good + "==",
		"two parts":                parts[0] + "." + parts[1],
		"four parts":               good + "." + parts[2],
		"five parts":               good + "." + parts[2] + "." + parts[2],
		"JSON serialization":       `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"standard base64":          strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+/",
		"empty":                    "",
		"dots":                     "..",
		"over 16 KiB":              h.with(map[string]any{"x": strings.Repeat("x", 13<<10)}),
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

func TestHostileTokensAreRefused(t *testing.T) {
	h := newHostile(t)
	tokens := wrongTokens(t, h)
	tokens["refresh token as session"] = h.srv.SignIn(ada).Refresh
	tokens["refresh token's drn"] = h.with(map[string]any{"drn": "DSR"})
	for name, token := range tokens {
		for way, err := range h.verdicts(token) {
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
func TestHostileRefreshTokensAreRefused(t *testing.T) {
	h := newHostile(t)
	h.drn = "DSR"
	tokens := wrongTokens(t, h)
	tokens["session token as refresh"] = h.srv.SignIn(ada).Session
	tokens["session token's drn"] = h.with(map[string]any{"drn": "DS"})
	present := func(token string) map[string]*http.Response {
		return map[string]*http.Response{
			"cookie, middleware": serve(h.RequireSession(new(spy)), withCookies(get("/"), "", token)),
			"cookie, flow":       serve(h.Handler(), withCookies(post(refreshPath, "{}"), "", token)),
			"bearer, flow":       serve(h.Handler(), withBearer(post(refreshPath, "{}"), h.srv.ProjectID()+":"+token)),
			"cookie, second factor": serve(h.Handler(), withCookies(post(guessPath,
				`{"loginId":"ada@example.com","code":"000000","loginOptions":{"mfa":true}}`), "", token)),
		}
	}
	for name, token := range tokens {
		for way, res := range present(token) {
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, "%s, %s", name, way)
		}
	}
	assert.Zero(t, h.srv.Requests(refreshPath)+h.srv.Requests(guessPath))
	present(h.with(nil))
	assert.NotZero(t, h.srv.Requests(refreshPath), "the way is open to a good one")
}

// embeddedJWK is signed by a key that the token itself brings along.
func embeddedJWK(t *testing.T, payload string) string {
	t.Helper()
	_, ec := testKeys()
	raw, err := ec.PublicKey.Bytes()
	require.NoError(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	header := fmt.Sprintf(`{"alg":"ES256","kid":"%s","jwk":{"kty":"EC","crv":"P-256","x":"%s","y":"%s"}}`,
		rsaKid, b64(raw[1:33]), b64(raw[33:]))
	return signSegments(t, jwt.SigningMethodES256, ec, segment(header)+"."+payload)
}

// otherSpelling changes the unused bits at the end of the signature, which a
// lenient decoder does not look at.
func otherSpelling(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

func TestAudience(t *testing.T) {
	h := newHostile(t, func(c *descopehttp.Config) { c.Audience = "shop" })
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
		for way, err := range h.verdicts(h.with(map[string]any{"aud": tt.aud})) {
			assert.Equal(t, tt.ok, err == nil, "%s, %s: %v", tt.name, way, err)
		}
	}
}

func TestAcceptOAuth(t *testing.T) {
	h := newHostile(t, func(c *descopehttp.Config) { c.Audience, c.AcceptOAuth = "shop", true })
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
		for way, err := range h.verdicts(h.with(changes)) {
			assert.Equal(t, tt.ok, err == nil, "%s, %s: %v", tt.name, way, err)
		}
	}
}

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
		h := newHostile(t, func(c *descopehttp.Config) { c.Leeway = tt.leeway })
		_, err := h.VerifyToken(t.Context(), h.with(map[string]any{"exp": time.Now().Add(-tt.ago).Unix()}))
		assert.Equal(t, tt.ok, err == nil, "leeway %v, expired %v ago: %v", tt.leeway, tt.ago, err)
		if !tt.ok {
			assert.ErrorIs(t, err, descopehttp.ErrSessionExpired)
		}
	}
}

// A template may put something else into sub; the user is dsub then.
func TestSubjectOverriddenByTemplate(t *testing.T) {
	h := newHostile(t)
	s, err := h.VerifyToken(t.Context(), h.with(map[string]any{"sub": "employee-7", "dsub": "U2real"}))
	require.NoError(t, err)
	assert.Equal(t, "U2real", s.Subject())
}
