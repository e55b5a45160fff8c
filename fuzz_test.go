package descopehttp_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// The tokens that fuzz targets put in place of their placeholders are signed anew
// in each process, so a corpus holds none and stays good.
const (
	fuzzAda, fuzzBob = "U2ada", "U2bob"
	farAhead         = 4102444800 // 2100-01-01
)

// fuzzTokens are tokens of a project whose key set fuzzKeySet is, by placeholder.
type fuzzTokens map[string]string

func (f fuzzTokens) expand(s string) string {
	for placeholder, token := range f {
		s = strings.ReplaceAll(s, placeholder, token)
	}
	return s
}

func newFuzzTokens() fuzzTokens {
	token := func(drn, user string, exp int64, more string) string {
		return fuzzSign("ES256", `{"alg":"ES256","kid":"`+kittest.ECKid+`"}`,
			fmt.Sprintf(`{"iss":%q,"sub":%q,"drn":%q,"exp":%d,"iat":946684800%s}`, kittest.ProjectID, user, drn, exp, more))
	}
	return fuzzTokens{
		"{{S}}": token("DS", fuzzAda, farAhead, ""), "{{R}}": token("DSR", fuzzAda, farAhead, ""),
		"{{T}}": token("DS", fuzzAda, farAhead, `,"n":2`), "{{Q}}": token("DSR", fuzzAda, farAhead, `,"n":2`),
		"{{X}}": token("DS", fuzzBob, farAhead, ""), "{{Y}}": token("DSR", fuzzBob, farAhead, ""),
		"{{E}}": token("DS", fuzzAda, 946684801, ""), "{{F}}": token("DSR", fuzzAda, 946684801, ""),
		"{{U}}": kittest.Segment(`{"alg":"ES256","kid":"SKunknown"}`) + "." + kittest.Segment(fmt.Sprintf(`{"iss":%q,"sub":"U2ada","drn":"DSR","exp":%d}`, kittest.ProjectID, farAhead)) + "." + kittest.Segment("forged"),
		"{{P}}": kittest.ProjectID,
	}
}

// fuzzSign signs header and payload as they are.
func fuzzSign(alg, header, payload string) string {
	r, e := kittest.Keys()
	method, key := jwt.SigningMethod(jwt.SigningMethodRS256), any(r)
	if alg == "ES256" {
		method, key = jwt.SigningMethodES256, e
	}
	signed := kittest.Segment(header) + "." + kittest.Segment(payload)
	signature, err := method.Sign(signed, key)
	if err != nil {
		panic(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// fuzzKeySet is the key set document of the keys that fuzzSign uses.
func fuzzKeySet() string {
	r, e := kittest.Keys()
	point, err := e.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":%q,"alg":"RS256","use":"sig","n":%q,"e":"AQAB"},{"kty":"EC","kid":%q,"alg":"ES256","use":"sig","crv":"P-256","x":%q,"y":%q}]}`,
		kittest.RSAKid, b64(r.N.Bytes()), kittest.ECKid, b64(point[1:33]), b64(point[33:]))
}

// fuzzAuth returns an Auth over a Descope that answers as it is told, but for its
// keys.
func fuzzAuth(t testing.TB, answer func(r *http.Request, body []byte) (status int, header http.Header, content string), edits ...func(*descopehttp.Config)) *descopehttp.Auth {
	t.Helper()
	keys := fuzzKeySet()
	cfg := descopehttp.Config{
		ProjectID: kittest.ProjectID,
		Logger:    slog.New(slog.DiscardHandler),
		HTTPClient: &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
			res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r}
			content := keys
			if !strings.HasPrefix(r.URL.Path, kittest.KeysPath) {
				var body []byte
				if r.Body != nil {
					var err error
					if body, err = io.ReadAll(r.Body); err != nil {
						return nil, err
					}
				}
				res.StatusCode, res.Header, content = answer(r, body)
			}
			res.Body = io.NopCloser(strings.NewReader(content))
			return res, nil
		})},
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	a, err := descopehttp.New(cfg)
	require.NoError(t, err)
	return a
}

func noAnswer(*http.Request, []byte) (int, http.Header, string) {
	return http.StatusServiceUnavailable, http.Header{}, ""
}

// strictObject decodes one JSON object and nothing else: unique names, valid
// UTF-8, no half of a surrogate pair.
func strictObject(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) || loneSurrogate.MatchString(escapePairs.ReplaceAllString(string(raw), "")) {
		return nil, errors.New("not strict JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	value, err := strictValue(dec)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("no object")
	}
	return object, nil
}

var (
	// What is left of \u escapes after these are dropped is half a pair.
	escapePairs   = regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	loneSurrogate = regexp.MustCompile(`\\u[dD][89a-fA-F][0-9a-fA-F]{2}`)
)

func strictValue(dec *json.Decoder) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := make(map[string]any)
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			if _, twice := object[name.(string)]; twice {
				return nil, fmt.Errorf("%q twice", name)
			}
			if object[name.(string)], err = strictValue(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			value, err := strictValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = dec.Token()
		return list, err
	}
	return token, nil
}

var threeParts = regexp.MustCompile(`^([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)$`)

// strictSession judges a session token by the published rules once more, with
// other means than the package has.
func strictSession(token string, now time.Time) error {
	parts := threeParts.FindStringSubmatch(token)
	if len(token) > 16384 || parts == nil {
		return errors.New("not a compact JWS")
	}
	var decoded [3][]byte
	for i, part := range parts[1:] {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return err
		}
	}
	header, err := strictObject(decoded[0])
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	claims, err := strictObject(decoded[1])
	if err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	for name := range header {
		if inAnotherCase(name, "alg", "kid", "crit") {
			return errors.New("header name in another case")
		}
	}
	for name := range claims {
		if inAnotherCase(name, "iss", "sub", "drn", "dsub", "token_type", "aud", "cnf", "exp", "nbf", "iat", "rexp") {
			return errors.New("claim name in another case")
		}
	}
	if _, critical := header["crit"]; critical {
		return errors.New("crit")
	}
	if err := strictSignature(header, parts[1]+"."+parts[2], decoded[2]); err != nil {
		return err
	}
	return strictClaims(claims, now)
}

func inAnotherCase(name string, registered ...string) bool {
	return slices.ContainsFunc(registered, func(r string) bool { return name != r && strings.EqualFold(name, r) })
}

func strictSignature(header map[string]any, signed string, signature []byte) error {
	r, e := kittest.Keys()
	sum := sha256.Sum256([]byte(signed))
	switch {
	case header["alg"] == "RS256" && header["kid"] == kittest.RSAKid:
		return rsa.VerifyPKCS1v15(&r.PublicKey, crypto.SHA256, sum[:], signature)
	case header["alg"] == "ES256" && header["kid"] == kittest.ECKid && len(signature) == 64:
		if ecdsa.Verify(&e.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			return nil
		}
	}
	return errors.New("signature")
}

func strictClaims(claims map[string]any, now time.Time) error {
	seconds := float64(now.Unix())
	date := func(name string) (value float64, there bool, err error) {
		raw, there := claims[name]
		if !there {
			return 0, false, nil
		}
		number, ok := raw.(json.Number)
		if !ok {
			return 0, true, fmt.Errorf("%s is no number", name)
		}
		value, _ = strconv.ParseFloat(string(number), 64)
		return math.Trunc(value), true, nil
	}
	exp, there, err := date("exp")
	if err != nil || !there || !(exp > 0) || exp > 253402300799 || seconds >= exp+5 {
		return errors.New("exp")
	}
	if nbf, _, err := date("nbf"); err != nil || nbf > seconds+5 {
		return errors.New("nbf")
	}
	if _, _, err := date("iat"); err != nil {
		return err
	}
	if sub, ok := claims["sub"].(string); !ok || sub == "" {
		return errors.New("sub")
	}
	if claims["drn"] != "DS" {
		return errors.New("drn")
	}
	if _, bound := claims["cnf"]; bound {
		return errors.New("cnf")
	}
	if iss, _ := claims["iss"].(string); !strictIssuer(iss) {
		return errors.New("iss")
	}
	switch aud := claims["aud"].(type) {
	case nil:
		if _, there := claims["aud"]; there {
			return errors.New("aud is null")
		}
	case string:
	case []any:
		for _, one := range aud {
			if _, ok := one.(string); !ok {
				return errors.New("aud")
			}
		}
	default:
		return errors.New("aud")
	}
	return nil
}

func strictIssuer(iss string) bool {
	if iss == kittest.ProjectID {
		return true
	}
	u, err := url.Parse(iss)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return false
	}
	segments := strings.Split(u.Path, "/")
	return slices.Contains(segments[max(0, len(segments)-2):], kittest.ProjectID)
}

// Whatever a token is, it is judged without a panic, the same way wherever it
// comes from, and one that is accepted stands up to a second, independent check.
func FuzzToken(f *testing.F) {
	const es256, rs256 = `{"alg":"ES256","kid":"` + kittest.ECKid + `"}`, `{"alg":"RS256","kid":"` + kittest.RSAKid + `","typ":"JWT"}`
	good := fmt.Sprintf(`{"iss":%q,"sub":"U2ada","drn":"DS","exp":%d}`, kittest.ProjectID, farAhead)
	f.Add(byte(0), es256, good)
	f.Add(byte(1), rs256, good)
	for _, header := range []string{
		`{"alg":"ES256","kid":"` + kittest.ECKid + `","crit":["exp"]}`, `{"alg":"ES256","ALG":"none","kid":"` + kittest.ECKid + `"}`, `{"alg":"none","kid":"` + kittest.ECKid + `"}`,
		`{"alg":"ES256","alg":"ES256","kid":"` + kittest.ECKid + `"}`, `{"\u0061lg":"ES256","kid":"` + kittest.ECKid + `"}`, `{"alg":"ES256"}`, `{"alg":"ES256","kid":7}`,
		`{"alg":"ES256","kid":"` + kittest.ECKid + `","jwk":{"kty":"EC"}}`, `[` + es256 + `]`, es256 + " ", es256 + "//", `{"alg":"RS256","kid":"` + kittest.ECKid + `"}`,
	} {
		f.Add(byte(0), header, good)
	}
	for _, edit := range [][2]string{
		{`"drn":"DS"`, `"drn":"DSR"`}, {`"exp":`, `"exp":0,"x":`}, {`"exp":`, `"EXP":1,"exp":`}, {`"exp":4102444800`, `"exp":"4102444800"`}, {`"exp":4102444800`, `"exp":4.1024448e9`},
		{`4102444800`, `253402300799.5`}, {`4102444800`, `1e400`}, {`4102444800`, `-1`}, {`"sub":"U2ada"`, `"sub":"U2ada","sub":"U2bob"`}, {`"sub":"U2ada"`, `"sub":"U2ada","\u0073ub":"U2bob"`},
		{`"sub":"U2ada"`, `"sub":7`}, {`"sub":"U2ada"`, `"sub":""`}, {`"sub"`, `"cnf":null,"sub"`}, {`"sub"`, `"i\u017fs":1,"sub"`}, {`"sub"`, `"aud":["a",7],"sub"`}, {`"sub"`, `"aud":"a","sub"`},
		{`"sub"`, `"nbf":1e400,"sub"`}, {`"sub"`, `"iat":"1","sub"`}, {`"sub"`, `"x":"\ud800","sub"`}, {`"sub"`, `"x":"\ud83d\ude00","sub"`}, {`"sub"`, "\"x\":\"\xff\",\"sub\""}, {`"sub"`, `"x":{"a":1,"a":2},"sub"`},
		{`"sub"`, `"x":[[[[{}]]]],"sub"`}, {`"` + kittest.ProjectID + `"`, `"https://api.descope.com/v1/apps/` + kittest.ProjectID + `/T2"`}, {`"` + kittest.ProjectID + `"`, `"https://x/` + kittest.ProjectID + `/a/b"`}, {`"` + kittest.ProjectID + `"`, `"//x/` + kittest.ProjectID + `"`},
	} {
		f.Add(byte(0), es256, strings.Replace(good, edit[0], edit[1], 1))
	}
	for _, raw := range []string{
		"{{S}}", "{{R}}", "{{E}}", "{{S}}.", ".{{S}}", "{{S}}=", "{{S}}\n", " {{S}}", "{{S}}.{{S}}", "a.b.c", "..", "", "{{U}}", "{{S}}A", `"{{S}}"`, strings.Repeat("A", 17000) + "..",
	} {
		f.Add(byte(2), raw, "")
	}
	for _, signatures := range vectorsBySet(f) {
		for _, jws := range signatures[:min(len(signatures), 20)] {
			f.Add(byte(2), jws, "")
		}
	}
	tokens := newFuzzTokens()
	a := fuzzAuth(f, noAnswer)
	require.NoError(f, a.Ready(f.Context()))

	f.Fuzz(func(t *testing.T, how byte, first, second string) {
		var token string
		switch how % 3 {
		case 0:
			token = fuzzSign("ES256", first, second)
		case 1:
			token = fuzzSign("RS256", first, second)
		default:
			token = tokens.expand(first)
		}
		s, err := a.VerifyToken(t.Context(), token)
		if err == nil {
			require.NoError(t, strictSession(token, time.Now()))
			require.Equal(t, token, s.Token())
			require.NotEmpty(t, s.Subject())
			s.Roles("")
			s.Permissions("T1")
			s.AuthMethods()
		}
		if !threeParts.MatchString(token) {
			require.Error(t, err)
			return
		}
		next := new(kittest.Spy)
		bearer := kittest.Serve(a.RequireSession(next), kittest.WithBearer(kittest.Get("/"), token))
		cookie := kittest.Serve(a.RequireSession(next), kittest.WithCookies(kittest.Get("/"), token, ""))
		again, err2 := a.VerifyToken(t.Context(), token)
		if err == nil {
			require.NoError(t, err2)
			require.Equal(t, s.Subject(), again.Subject())
			require.Equal(t, 200, bearer.StatusCode)
			require.Equal(t, 200, cookie.StatusCode)
			require.Equal(t, 2, next.Calls)
		} else {
			require.Error(t, err2)
			require.Contains(t, []int{401, 503}, bearer.StatusCode)
			require.Contains(t, []int{401, 503}, cookie.StatusCode)
			require.Zero(t, next.Calls)
		}
	})
}

// Whatever is sent to a flow, what reaches Descope is one plain JSON object with
// the members that are allowed, and is about whom the request is about in the
// eyes of every reader.
func FuzzRequestBody(f *testing.F) {
	paths := []string{kittest.VerifyPath, kittest.SignUpPath, "/v1/auth/totp/update", kittest.RefreshPath, "/v1/auth/logout", "/v1/auth/me/tenants", "/v1/auth/tenant/select"}
	for i, body := range []string{
		`{"loginId":"ada@example.com","code":"123456"}`, `{"loginId":"ada@example.com","code":"123456","loginOptions":{"stepup":true,"customClaims":{"a":1},"tenantId":"T"}}`,
		`{"loginId":"ada@example.com","loginId":"bob","code":"123456"}`, `{"loginId":"ada@example.com","LoginId":"bob","code":"123456"}`, `{"loginid":"bob","code":"1"}`, `{"loginId":7}`, `{"loginId":" "}`,
		`{"loginId":"ada@example.com","user":{"name":"Ada","email":"a","loginId":"bob","tenantId":"T"},"ssoAppId":"x"}`, `{"loginId":"ADA@example.com"}`, `{"tenant":"T1"}`, `{"dct":true,"ids":["a"]}`, `{"ids":["a","b"]}`,
		`{}`, `[]`, `null`, ``, `{`, `{"loginId":"\ud800","code":"123456"}`, "{\"loginId\":\"\xff\",\"code\":\"123456\"}", `{"loginId":"a","code":"１２３４５６"}`, `{"loginId":"a\u0000","code":"123456"}`,
		`{"loginId":"ada@example.com","code":"123456","loginOptions":{"templateOptions":{"a":"b"},"locale":"de","revokeOtherSessions":true,"mfa":false}}`, `{"loginId":"ada@example.com","code":"123456"} {}`,
		`{"loginId":"` + strings.Repeat("x", 257) + `","code":"123456"}`, `{"x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`,
	} {
		for path := range paths {
			f.Add(byte(path), i%3 == 0, body)
		}
	}
	allowed := map[string][]string{
		paths[0]: {"loginId", "code", "loginOptions"}, paths[1]: {"loginId", "user"}, paths[2]: {"loginId"},
		paths[3]: {}, paths[4]: {}, paths[5]: {"dct", "ids"}, paths[6]: {"tenant"},
	}
	options := []string{"stepup", "mfa", "locale", "templateOptions", "revokeOtherSessions"}
	tokens := newFuzzTokens()

	f.Fuzz(func(t *testing.T, which byte, signedIn bool, body string) {
		path := paths[int(which)%len(paths)]
		sent := make(map[string][]byte)
		a := fuzzAuth(t, func(r *http.Request, body []byte) (int, http.Header, string) {
			sent[r.URL.Path] = body
			switch r.URL.Path {
			case "/v1/auth/me":
				return 200, http.Header{}, `{"loginIds":["ada@example.com"]}`
			case kittest.VerifyPath:
				return 401, http.Header{}, `{"errorCode":"E061102"}`
			}
			return 200, http.Header{}, `{"key":"k","tenants":[]}`
		}, func(c *descopehttp.Config) { c.MaxCachedSessions = -1 })
		r := kittest.Post(path, body)
		if signedIn {
			kittest.WithCookies(r, "", tokens["{{R}}"])
		}
		res := kittest.Serve(a.Handler(), r)
		require.NotEqual(t, 500, res.StatusCode)
		require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
		content, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.True(t, json.Valid(content), "%q", content)

		forwarded, ok := sent[path]
		if !ok {
			return
		}
		out, err := strictObject(forwarded)
		require.NoError(t, err)
		require.LessOrEqual(t, len(forwarded), 128<<10)
		for name := range out {
			require.Contains(t, allowed[path], name)
		}
		if path == kittest.RefreshPath || path == kittest.LogoutPath {
			return // without a body, or with any
		}
		in, err := strictObject([]byte(body))
		require.NoError(t, err, "ambiguous, and sent on")
		if id, there := out["loginId"]; there {
			if path == paths[2] {
				require.Equal(t, "ada@example.com", id)
				require.True(t, strings.EqualFold(in["loginId"].(string), id.(string)))
			} else {
				require.Equal(t, in["loginId"], id)
			}
			require.LessOrEqual(t, len(id.(string)), 256)
		}
		if code, there := out["code"]; there {
			require.Equal(t, in["code"], code)
			require.Regexp(t, `^[0-9]{4,10}$`, code)
		}
		if chosen, there := out["loginOptions"]; there {
			for name := range chosen.(map[string]any) {
				require.Contains(t, options, name)
			}
		}
		if path == paths[6] {
			require.Equal(t, in["tenant"], out["tenant"])
		}
	})
}

// Whatever Descope answers, nobody is signed in with tokens that do not pass the
// checks or are another user's, nothing of the answer's header gets through, and
// no script sees a token that belongs into a cookie.
func FuzzDescopeAnswer(f *testing.F) {
	paths := []string{"", kittest.RefreshPath, "/v1/auth/try-refresh", kittest.VerifyPath, "/v1/auth/me", "/v1/auth/tenant/select", kittest.SignUpPath, "/v1/auth/logout"}
	for i, body := range []string{
		`{"sessionJwt":"{{S}}","refreshJwt":""}`, `{"sessionJwt":"{{S}}","refreshJwt":"{{Q}}","user":{"TOTP":true},"sessionExpiration":1}`, `{"sessionJwt":"{{X}}","refreshJwt":"{{Y}}"}`,
		`{"sessionJwt":"{{S}}","refreshJwt":"{{Y}}"}`, `{"sessionJwt":"{{R}}","refreshJwt":"{{S}}"}`, `{"sessionJwt":"{{E}}"}`, `{"sessionJwt":"","refreshJwt":"{{Q}}"}`, `{"sessionJwt":"{{S}}","refreshJwt":"{{F}}"}`,
		`{"sessionJwt":"{{S}}","sessionJwt":"{{X}}"}`, `{"sessionJwt":"{{S}}","SessionJwt":"{{X}}","refreshJwt":"{{R}}"}`, `{"sessionJwt":"{{S}}x"}`, `{"sessionJwt":7}`, `{"errorCode":"E061005"}`, `{"errorCode":"E064001"}`, `{"errorCode":"E061004"}`,
		`{"errorCode":"E130429"}`, `{"errorCode":"E061102"}`, `{"errorCode":"E011003"}`, `{"errorCode":"E062107"}`, `{"errorCode":7}`, `{}`, `[]`, `null`, ``, `<html>`, `{"sessionJwt":`, "{\"sessionJwt\":\"{{S}}\",\"x\":\"\xff\"}",
		`{"sessionJwt":"{{S}}","refreshJwt":"{{U}}"}`, `{"cookieName":"DSX","sessionCookieName":"DSY","sessionJwt":""}`, `{"x":"{{S}}"}`,
	} {
		for path := range paths {
			status := []uint16{200, 401, 400, 429, 500, 503, 204, 302}[i%8]
			f.Add(byte(path), status, body, "", "")
			f.Add(byte(path), uint16(200), body, "", "")
		}
	}
	f.Add(byte(1), uint16(200), `{}`, "DS={{S}}; Path=/; Domain=evil.example", "DSR={{Q}}; HttpOnly")
	f.Add(byte(0), uint16(200), `{"cookieName":"DSR"}`, "DS={{X}}", "DSR={{R}}; Max-Age=0")
	f.Add(byte(3), uint16(200), `{"cookieName":"a","sessionCookieName":"b"}`, "b={{X}}", "a={{Y}}")
	f.Add(byte(0), uint16(429), `{"errorCode":"E130429"}`, "Retry-After: 7", "")
	f.Add(byte(3), uint16(429), `{"errorCode":"E061103"}`, "Retry-After: 99999999999999999999", "Retry-After: -5")
	tokens := newFuzzTokens()
	users := map[string]string{
		tokens["{{S}}"]: fuzzAda, tokens["{{T}}"]: fuzzAda, tokens["{{R}}"]: fuzzAda, tokens["{{Q}}"]: fuzzAda, tokens["{{X}}"]: fuzzBob, tokens["{{Y}}"]: fuzzBob,
	}

	f.Fuzz(func(t *testing.T, which byte, status uint16, body, header1, header2 string) {
		path := paths[int(which)%len(paths)]
		header := http.Header{"X-Upstream": {"secret"}, "Content-Type": {"application/json"}}
		for _, line := range []string{header1, header2} {
			if name, value, ok := strings.Cut(line, ": "); ok && name == "Retry-After" {
				header.Add(name, value)
			} else if line != "" {
				header.Add("Set-Cookie", tokens.expand(line))
			}
		}
		a := fuzzAuth(t, func(*http.Request, []byte) (int, http.Header, string) {
			return 200 + int(status)%400, header, tokens.expand(body)
		})
		next := new(kittest.Spy)
		var res *http.Response
		switch path {
		case "":
			res = kittest.Serve(a.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens["{{E}}"], tokens["{{R}}"]))
		case "/v1/auth/me":
			res = kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Get(path), "", tokens["{{R}}"]))
		case kittest.VerifyPath, kittest.SignUpPath:
			res = kittest.Serve(a.Handler(), kittest.Post(path, `{"loginId":"ada@example.com","code":"123456"}`))
		case "/v1/auth/tenant/select":
			res = kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Post(path, `{"tenant":"T1"}`), "", tokens["{{R}}"]))
		default:
			res = kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Post(path, `{}`), "", tokens["{{R}}"]))
		}
		require.NoError(t, a.Wait(t.Context()))

		require.Contains(t, []int{200, 400, 401, 429, 502, 503, 504}, res.StatusCode)
		require.Empty(t, res.Header.Get("X-Upstream"))
		for name := range res.Header {
			require.Contains(t, []string{"Cache-Control", "Cdn-Cache-Control", "Surrogate-Control", "Vary", "Content-Type", "Content-Length", "X-Content-Type-Options", "Www-Authenticate", "Retry-After", "Set-Cookie", "X-Spy"}, name)
		}
		if after := res.Header.Get("Retry-After"); after != "" {
			seconds, err := strconv.Atoi(after)
			require.NoError(t, err)
			require.Positive(t, seconds)
			require.LessOrEqual(t, seconds, 600)
		}
		cookies := kittest.CookiesOf(res)
		for name, c := range cookies {
			require.Contains(t, []string{kittest.SessionCookie, kittest.RefreshCookie}, name)
			require.Empty(t, c.Domain)
			if c.Value != "" {
				require.Equal(t, 200, res.StatusCode)
				require.Contains(t, users, c.Value)
				if path != kittest.VerifyPath {
					require.Equal(t, fuzzAda, users[c.Value])
				}
			}
		}
		if s, r := cookies[kittest.SessionCookie], cookies[kittest.RefreshCookie]; s != nil && r != nil {
			require.Equal(t, users[s.Value], users[r.Value])
		}
		if next.Calls > 0 {
			require.Equal(t, "", path)
			s, ok := descopehttp.SessionFromContext(next.Last().Context())
			require.True(t, ok)
			require.Equal(t, fuzzAda, s.Subject())
			require.NoError(t, strictSession(s.Token(), time.Now()))
			return
		}
		content, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.True(t, json.Valid(content), "%q", content)
		if res.StatusCode == 200 && len(cookies) > 0 {
			var seen map[string]any // by their exact names, as scripts read them
			require.NoError(t, json.Unmarshal(content, &seen))
			require.Empty(t, seen["sessionJwt"])
			require.Empty(t, seen["refreshJwt"])
		}
	})
}

// ordinaryCookies is a Cookie header as browsers write it.
var ordinaryCookies = regexp.MustCompile(`^[A-Za-z0-9_-]+=[!#-+\--:<-~]*(; [A-Za-z0-9_-]+=[!#-+\--:<-~]*)*$`)

// Whatever the two headers hold, the session is that of a token in them: of the
// Bearer token if there is one, and of cookies only if all that count name one
// user.
func FuzzHeaders(f *testing.F) {
	for _, cookie := range []string{
		"", "__Host-DS={{S}}", "__Host-DS={{S}}; __Host-DSR={{R}}", "__Host-DSR={{R}}", "__Host-DS={{E}}; __Host-DSR={{R}}", "__Host-DS={{S}}; __Host-DS={{X}}", "__Host-DS={{S}}; __Host-DSR={{Y}}", "__Host-DS={{E}}; __Host-DSR={{Y}}",
		"DS={{S}}", "__host-ds={{S}}", "__Host-DS =\"{{S}}\"", "__Host-DS=\"{{S}}\"", "a=b;__Host-DSR={{R}};;=;", "__Host-DS={{R}}; __Host-DSR={{S}}", "__Host-DSR={{U}}", "__Host-DSR={{U}}; __Host-DSR={{R}}",
		"__Host-DS=x; __Host-DS=x; __Host-DS=x; __Host-DS=x; __Host-DS={{S}}", "__Host-DS={{S}}\x00", "__Host-DS", "__Host-DS=", "__Host-DS={{F}}; __Host-DSR={{F}}", "__Host-DSR={{R}}, __Host-DSR={{Y}}", "__Host-DS={{T}}; __Host-DS={{S}}",
	} {
		for _, authorization := range []string{"", "Bearer {{S}}", "Bearer {{X}}", "bearer  {{S}} ", "Bearer {{R}}", "Bearer {{P}}", "Bearer {{P}}:{{R}}", "Bearer {{P}}:{{Y}}:key", "Basic x", "Bearer", "Bearer x", "Bearer {{S}},{{X}}", "DPoP {{S}}", "Bearer\t{{S}}", "{{S}}"} {
			f.Add(cookie, authorization, "", false)
		}
		f.Add(cookie, "Bearer {{S}}", "Bearer {{X}}", true)
	}
	tokens := newFuzzTokens()
	users := map[string]string{"{{S}}": fuzzAda, "{{T}}": fuzzAda, "{{R}}": fuzzAda, "{{Q}}": fuzzAda, "{{E}}": fuzzAda, "{{X}}": fuzzBob, "{{Y}}": fuzzBob}

	f.Fuzz(func(t *testing.T, cookie, authorization, second string, two bool) {
		a := fuzzAuth(t, func(r *http.Request, _ []byte) (int, http.Header, string) {
			switch r.Header.Get("Authorization") {
			case "Bearer " + kittest.ProjectID + ":" + tokens["{{R}}"]:
				return 200, http.Header{}, `{"sessionJwt":"` + tokens["{{T}}"] + `","refreshJwt":"` + tokens["{{Q}}"] + `"}`
			case "Bearer " + kittest.ProjectID + ":" + tokens["{{Y}}"]:
				return 200, http.Header{}, `{"sessionJwt":"` + tokens["{{X}}"] + `","refreshJwt":""}`
			}
			return 401, http.Header{}, `{"errorCode":"E061005"}`
		})
		require.NoError(t, a.Ready(t.Context()))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if cookie != "" {
			r.Header["Cookie"] = []string{tokens.expand(cookie)}
		}
		if authorization != "" {
			r.Header["Authorization"] = []string{tokens.expand(authorization)}
		}
		if two {
			r.Header["Authorization"] = append(r.Header["Authorization"], tokens.expand(second))
		}
		header := r.Header.Clone()
		next := new(kittest.Spy)
		res := kittest.Serve(a.RequireSession(next), r)
		require.NoError(t, a.Wait(t.Context()))
		require.Equal(t, header, r.Header, "the request is left as it came")
		require.Contains(t, []int{200, 401, 503}, res.StatusCode)
		require.Equal(t, res.StatusCode == 200, next.Calls == 1)
		if res.StatusCode != 200 {
			for _, c := range res.Cookies() {
				require.Empty(t, c.Value)
			}
			return
		}
		s, ok := descopehttp.SessionFromContext(next.Last().Context())
		require.True(t, ok)
		require.NoError(t, strictSession(s.Token(), time.Now()))

		lines := header["Authorization"]
		require.LessOrEqual(t, len(lines), 1)
		scheme, value, _ := strings.Cut(strings.ReplaceAll(strings.Join(lines, ""), "\t", " "), " ")
		value = strings.Trim(value, " ")
		if strings.EqualFold(scheme, "Bearer") && !strings.HasPrefix(value+":", kittest.ProjectID+":") {
			require.Equal(t, value, s.Token())
			require.Empty(t, res.Cookies())
			return
		}
		require.False(t, strings.EqualFold(scheme, "DPoP"))
		named := make(map[string]bool)
		for placeholder, user := range users {
			if strings.Contains(tokens.expand(cookie), tokens[placeholder]) {
				named[user] = true
			}
		}
		require.Contains(t, slices.Collect(maps.Keys(named)), s.Subject(), "nobody's cookie")
		if !ordinaryCookies.MatchString(header.Get("Cookie")) {
			return
		}
		// Of an ordinary header every reader makes the same.
		counted := make(map[string]bool)
		for name, good := range map[string][]string{kittest.SessionCookie: {"{{S}}", "{{T}}", "{{E}}", "{{X}}"}, kittest.RefreshCookie: {"{{R}}", "{{Q}}", "{{Y}}"}} {
			n := 0
			for _, c := range r.CookiesNamed(name) {
				if c.Value == "" || n == 4 {
					continue
				}
				n++
				for _, placeholder := range good {
					if c.Value == tokens[placeholder] {
						counted[users[placeholder]] = true
					}
				}
			}
		}
		require.Equal(t, map[string]bool{s.Subject(): true}, counted)
		seen := next.Last()
		if len(res.Cookies()) > 0 {
			require.Empty(t, seen.CookiesNamed(kittest.RefreshCookie))
			require.Len(t, seen.CookiesNamed(kittest.SessionCookie), 1)
		}
	})
}
