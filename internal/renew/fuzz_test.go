package renew_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/renew"
	"github.com/descopehttp/descopehttp/internal/token"
)

// Whatever the key endpoint answers, each key that is taken over is fit to verify

// with, and is in the document as it was taken.

// fuzzStore is a RefreshStore that answers as it is told.

type fuzzStore struct {
	claim, put, end []byte
	claimed         bool
	err             error
}

func (s *fuzzStore) Load(context.Context, string) (value, end []byte, err error) {
	return s.claim, s.end, s.err
}

func (s *fuzzStore) Claim(context.Context, string, string, time.Duration) (value, end []byte, claimed bool, err error) {
	return s.claim, s.end, s.claimed, s.err
}

func (s *fuzzStore) Put(_ context.Context, _, _ string, value []byte, _ time.Duration, _ bool) (now, end []byte, err error) {
	if s.put != nil {
		return s.put, s.end, s.err
	}
	return value, s.end, s.err
}

func (s *fuzzStore) End(context.Context, string, []byte, time.Duration) (value []byte, err error) {
	return s.claim, s.err
}

func (s *fuzzStore) Release(context.Context, string, string) error { return s.err }

// Whatever a store holds, even sealed with the right key, it signs nobody in as

// somebody else, and nothing that Descope would not have been believed.

// Rule: answers: against a store that somebody else can write to: sealed values, judged like an
// answer of Descope.
// Rule: replicas: values are sealed under a key that the store's key does not tell, for one
// project, bounded.
func FuzzStorePayload(f *testing.F) {
	const project = "P2abcdefghijklmnopqrstuvwxyz"
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f, err)
	sign := func(drn, user string, exp int, more string) string {
		b64 := base64.RawURLEncoding.EncodeToString
		signed := b64([]byte(`{"alg":"ES256","kid":"a"}`)) + "." + b64(fmt.Appendf(nil, `{"iss":%q,"sub":%q,"drn":%q,"exp":%d,"iat":946684800%s}`, project, user, drn, exp, more))
		signature, err := jwt.SigningMethodES256.Sign(signed, private)
		require.NoError(f, err)
		return signed + "." + b64(signature)
	}
	const ahead = 4102444800
	tokens := map[string]string{
		"{{S}}": sign("DS", "U2ada", ahead, ""), "{{R}}": sign("DSR", "U2ada", ahead, ""), "{{Q}}": sign("DSR", "U2ada", ahead, `,"n":2`),
		"{{X}}": sign("DS", "U2bob", ahead, ""), "{{Y}}": sign("DSR", "U2bob", ahead, ""), "{{E}}": sign("DS", "U2ada", 946684801, ""),
	}
	expand := func(s string) string {
		for placeholder, token := range tokens {
			s = strings.ReplaceAll(s, placeholder, token)
		}
		return s
	}
	point, err := private.PublicKey.Bytes()
	require.NoError(f, err)
	keys := fmt.Sprintf(`{"keys":[{"kty":"EC","kid":"a","alg":"ES256","crv":"P-256","x":%q,"y":%q}]}`,
		base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:]))

	for _, record := range []string{
		`{"at":4102444800000,"session":"{{S}}","refresh":"{{Q}}","body":{"sessionJwt":""}}`, `{"at":1,"session":"{{S}}","refresh":""}`, `{"session":"{{X}}","refresh":"{{Y}}"}`, `{"session":"{{S}}","refresh":"{{Y}}"}`,
		`{"session":"{{X}}"}`, `{"session":"{{E}}","refresh":"{{Q}}"}`, `{"session":"{{R}}","refresh":"{{S}}"}`, `{"ended":true}`, `{"ended":true,"session":"{{S}}"}`, `{"session":"{{S}}","hidden":true}`, `{"session":"{{S}}","body":[]}`,
		`{"at":9223372036854775807,"session":"{{S}}"}`, `{"at":-9223372036854775808,"session":"{{S}}"}`, `{"at":4102444800000,"session":"{{S}}","refresh":"{{R}}"}`, `{"session":"{{S}}","refresh":"{{Q}}","minted":true}`, `{"at":"x"}`, `{}`, `[]`, ``, `{"session":"{{S}}","session":"{{X}}"}`, `{"session":"{{S}}","Session":"{{X}}"}`,
	} {
		for how := range byte(32) {
			f.Add(how, record)
		}
	}
	f.Fuzz(func(t *testing.T, how byte, record string) {
		synctest.Test(t, func(t *testing.T) { // a logout waits for the other replicas
			<-time.After(time.Minute) // until {{E}} has expired
			presented := &token.Token{Raw: tokens["{{R}}"]}
			payload := []byte(expand(record))
			if how&1 == 0 {
				payload = renew.Seal(project, presented, payload)
			}
			store := &fuzzStore{claimed: true}
			if how&2 == 0 {
				store.claim = payload // and the lease: nobody waits here for a value that cannot be read
			} else {
				store.put = payload
			}
			if how&16 != 0 {
				store.end = payload
			}
			a, err := descopehttp.New(descopehttp.Config{
				ProjectID: project, RefreshStore: store, Logger: slog.New(slog.DiscardHandler), MaxCachedSessions: -1,
				HTTPClient: &http.Client{Transport: fuzzTransport(func(r *http.Request) string {
					if strings.HasPrefix(r.URL.Path, "/v2/keys/") {
						return keys
					}
					require.NotContains(t, r.Header.Get("Authorization"), tokens["{{Y}}"], "another user's token is used")
					return `{"sessionJwt":"` + tokens["{{S}}"] + `","refreshJwt":"` + tokens["{{Q}}"] + `"}`
				})},
			})
			require.NoError(t, err)
			request := func(method, path string) *http.Request {
				r := httptest.NewRequest(method, path, nil)
				r.Header.Set("Cookie", "__Host-DS="+tokens["{{E}}"]+"; __Host-DSR="+tokens["{{R}}"])
				r.Header.Set("Content-Type", "application/json")
				return r
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			check := func(res *http.Response) {
				require.Contains(t, []int{200, 401, 502, 503, 504}, res.StatusCode)
				for _, c := range res.Cookies() {
					if c.Value != "" {
						require.Contains(t, []string{tokens["{{S}}"], tokens["{{Q}}"], tokens["{{R}}"]}, c.Value)
					}
				}
			}
			for range 2 { // first from the store, then from memory
				w := httptest.NewRecorder()
				a.RequireSession(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					s, ok := descopehttp.SessionFromContext(r.Context())
					require.True(t, ok)
					require.Equal(t, "U2ada", s.Subject())
					require.Equal(t, tokens["{{S}}"], s.Token())
				})).ServeHTTP(w, request(http.MethodGet, "/").WithContext(ctx))
				check(w.Result())
				if how&4 != 0 {
					w = httptest.NewRecorder()
					a.Handler().ServeHTTP(w, request(http.MethodPost, descope.PathRefresh).WithContext(ctx))
					check(w.Result())
				}
				if how&8 != 0 {
					w = httptest.NewRecorder()
					a.Handler().ServeHTTP(w, request(http.MethodPost, descope.PathLogout).WithContext(ctx))
					check(w.Result())
				}
			}
			require.NoError(t, a.Wait(t.Context()))
		})
	})
}

// fuzzTransport answers 200 with a text.

type fuzzTransport func(*http.Request) string

func (f fuzzTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(f(r)))}, nil
}
