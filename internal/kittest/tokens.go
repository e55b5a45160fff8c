package kittest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// Kids of the keys of a [Hostile] project, and the usual header under one of them.
const (
	RSAKid = "SKtestrsa"
	ECKid  = "SKtestec"

	RS256Header = `{"alg":"RS256","kid":"` + RSAKid + `","typ":"JWT"}`
)

// Keys returns the keys that tests sign with, the same ones throughout a process.
var Keys = sync.OnceValues(func() (*rsa.PrivateKey, *ecdsa.PrivateKey) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return r, e
})

// Segment encodes a part of a token.
func Segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// SignRaw signs header and payload as they are, however odd, with RS256 or ES256
// as the key says.
func SignRaw(t testing.TB, key crypto.Signer, header, payload string) string {
	t.Helper()
	method := jwt.SigningMethod(jwt.SigningMethodRS256)
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		method = jwt.SigningMethodES256
	}
	return SignSegments(t, method, key, Segment(header)+"."+Segment(payload))
}

// SignSegments adds a signature to the first two parts of a token.
func SignSegments(t testing.TB, method jwt.SigningMethod, key any, signed string) string {
	t.Helper()
	signature, err := method.Sign(signed, key)
	require.NoError(t, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// ClaimsJSON encodes claims and then applies edits, pairs of old and new text,
// to reach what an encoder would not write.
func ClaimsJSON(t testing.TB, claims map[string]any, edits ...string) string {
	t.Helper()
	encoded, err := json.Marshal(claims)
	require.NoError(t, err)
	s := string(encoded)
	for i := 0; i < len(edits); i += 2 {
		require.Contains(t, s, edits[i])
		s = strings.Replace(s, edits[i], edits[i+1], 1)
	}
	return s
}

// Parts returns header and claims of a token, unverified.
func Parts(t testing.TB, token any) (header, claims map[string]any) {
	t.Helper()
	text, _ := token.(string)
	parts := strings.Split(text, ".")
	require.Len(t, parts, 3, "not a token: %q", token)
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, into))
	}
	return header, claims
}

// ClaimsOf returns the claims of a token, unverified.
func ClaimsOf(t testing.TB, token any) map[string]any {
	t.Helper()
	_, claims := Parts(t, token)
	return claims
}

// SubjectOf returns whose a session token is.
func SubjectOf(t testing.TB, k *Kit, session string) string {
	t.Helper()
	s, err := k.VerifyToken(t.Context(), session)
	require.NoError(t, err)
	return s.Subject()
}

// Expired returns a user's token of that drn that ended a minute ago.
func Expired(project *descopetest.Server, loginID, drn string) string {
	claims := project.SessionClaims(loginID)
	claims["drn"] = drn
	claims["iat"] = time.Now().Add(-11 * time.Minute).Unix()
	claims["exp"] = time.Now().Add(-time.Minute).Unix()
	return project.Sign(nil, claims)
}

// OtherSpelling changes the unused bits at the end of the signature, which a
// lenient decoder does not look at.
func OtherSpelling(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

// Hostile is a project whose keys the tests hold too, so that a token can be
// wrong in one thing only and signed all the same.
type Hostile struct {
	*Kit
	T   testing.TB
	RSA *rsa.PrivateKey
	DRN string // of the tokens that it makes, where it is not a session's
}

// NewHostile returns a hostile project with two keys, [RSAKid] and [ECKid].
func NewHostile(t testing.TB, edits ...func(*descopehttp.Config)) *Hostile {
	t.Helper()
	k := New(t, edits...)
	r, e := Keys()
	k.Project.AddKey(ECKid, e)
	k.Project.AddKey(RSAKid, r)
	return &Hostile{Kit: k, T: t, RSA: r}
}

// Claims returns a good session token's claims with changes; nil removes one.
func (h *Hostile) Claims(changes map[string]any) map[string]any {
	c := h.Project.SessionClaims(Ada)
	if h.DRN != "" {
		c["drn"] = h.DRN
	}
	for name, value := range changes {
		c[name] = value
		if value == nil {
			delete(c, name)
		}
	}
	return c
}

// With returns a well-signed token with changed claims.
func (h *Hostile) With(changes map[string]any, edits ...string) string {
	return SignRaw(h.T, h.RSA, RS256Header, ClaimsJSON(h.T, h.Claims(changes), edits...))
}

// Header returns a well-signed token with that header.
func (h *Hostile) Header(header string) string {
	return SignRaw(h.T, h.RSA, header, ClaimsJSON(h.T, h.Claims(nil)))
}

// Verdicts presents a session token in every way there is and returns what came
// of each.
func (h *Hostile) Verdicts(token string) map[string]error {
	verdicts := make(map[string]error)
	note := func(way string, r *http.Request) {
		next := new(Spy)
		res := Serve(h.RequireSession(next), r)
		if (next.Calls == 1) != (res.StatusCode == http.StatusOK) {
			h.T.Fatalf("%s: status %d, handler ran %d times", way, res.StatusCode, next.Calls)
		}
		if res.StatusCode != http.StatusOK {
			verdicts[way] = fmt.Errorf("status %d", res.StatusCode)
			return
		}
		verdicts[way] = nil
	}
	note("bearer", WithBearer(Get("/"), token))
	note("cookie", WithCookies(Get("/"), token, ""))
	_, verdicts["VerifyToken"] = h.VerifyToken(h.T.Context(), token)
	return verdicts
}

// WithKeySet returns a kit over the same project that reads a key set document in
// place of the project's.
func (h *Hostile) WithKeySet(t testing.TB, document string) *Kit {
	t.Helper()
	return For(t, h.Project, func(c *descopehttp.Config) {
		inner := c.HTTPClient.Transport
		c.HTTPClient = &http.Client{Transport: RoundTripper(func(r *http.Request) (*http.Response, error) {
			if !strings.HasPrefix(r.URL.Path, KeysPath) {
				return inner.RoundTrip(r)
			}
			return &http.Response{StatusCode: http.StatusOK, Request: r, Body: io.NopCloser(strings.NewReader(document))}, nil
		})}
	})
}

// Forgers make tokens of invented kids, well formed and with claims that are
// good, but signed by nobody.
type Forgers struct {
	mu               sync.Mutex
	n                int
	session, refresh string // payloads
}

// NewForgers returns forgers of a project's tokens.
func NewForgers(t testing.TB, h *Hostile) *Forgers {
	t.Helper()
	day := time.Now().Add(24 * time.Hour).Unix()
	return &Forgers{
		session: Segment(ClaimsJSON(t, h.Claims(map[string]any{"exp": day}))),
		refresh: Segment(ClaimsJSON(t, h.Claims(map[string]any{"exp": day, "drn": "DSR"}))),
	}
}

// Next returns two tokens of another kid.
func (f *Forgers) Next() (session, refresh string) {
	f.mu.Lock()
	f.n++
	header := Segment(fmt.Sprintf(`{"alg":"RS256","kid":"SKinvented%d"}`, f.n))
	f.mu.Unlock()
	return header + "." + f.session + "." + Segment("forged"), header + "." + f.refresh + "." + Segment("forged")
}

// Thousand sends a thousand invented kids, a hundred at once, each as a Bearer
// token, as a session cookie and as a refresh cookie.
func (f *Forgers) Thousand(t testing.TB, h http.Handler, pause time.Duration) {
	t.Helper()
	for range 10 {
		var wg sync.WaitGroup
		for i := range 100 {
			session, refresh := f.Next()
			network := fmt.Sprintf("203.0.113.%d", i%8+1)
			for _, r := range []*http.Request{
				WithBearer(Get("/"), session),
				WithCookies(Get("/"), session, ""),
				WithCookies(Get("/"), "", refresh),
				WithCookies(Get("/"), session, refresh),
			} {
				wg.Go(func() {
					res := Serve(h, From(network, r))
					assert.Contains(t, []int{401, 503}, res.StatusCode)
					assert.Empty(t, res.Cookies())
				})
			}
		}
		wg.Wait()
		Elapse(pause)
	}
}
