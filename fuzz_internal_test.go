package descopehttp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// Whatever the key endpoint answers, each key that is taken over is fit to verify
// with, and is in the document as it was taken.
func FuzzKeySet(f *testing.F) {
	var vectors []jwsVector
	readVectors(f, "rs256-es256.json", &vectors)
	seen := make(map[string]bool)
	for _, v := range vectors {
		if !seen[string(v.Keys)] {
			seen[string(v.Keys)] = true
			f.Add([]byte(v.Keys))
		}
	}
	var file struct {
		Groups []struct {
			Public  json.RawMessage `json:"public"`
			Private json.RawMessage `json:"private"`
		} `json:"testGroups"`
	}
	readVectors(f, "json_web_key_test.json", &file)
	for _, g := range file.Groups {
		f.Add([]byte(g.Public))
		f.Add([]byte(g.Private))
	}
	for name := range rfc7515 {
		key := strings.Replace(rfc7515[name].key, "{", `{"kid":"a","alg":"`+name[4:]+`",`, 1)
		f.Add([]byte(`{"keys":[` + key + `,` + key + `]}`))
	}
	for _, document := range []string{`{"keys":[]}`, `{"keys":{}}`, `[]`, `null`, ``, `{"keys":[null,7,"x",[],{}]}`, `{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","n":"","e":""}]}`} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		keys := parseKeySet(document)
		require.LessOrEqual(t, len(keys), maxKeys)
		var published struct {
			Keys []map[string]any `json:"keys"`
		}
		if len(keys) > 0 {
			var set struct {
				Keys []json.RawMessage `json:"keys"`
			}
			require.NoError(t, json.Unmarshal(document, &set))
			for _, raw := range set.Keys {
				var key map[string]any
				if json.Unmarshal(raw, &key) == nil {
					published.Keys = append(published.Keys, key)
				}
			}
		}
		for kid, key := range keys {
			require.NotEmpty(t, kid)
			require.Equal(t, kid, key.kid)
			require.True(t, slices.ContainsFunc(published.Keys, func(k map[string]any) bool {
				ops, limited := k["key_ops"].([]any)
				return k["kid"] == kid && k["alg"] == key.alg && (k["use"] == nil || k["use"] == "" || k["use"] == "sig") && (!limited || slices.Contains(ops, any("verify")))
			}), "%s is not published as it was taken", kid)
			switch public := key.key.(type) {
			case *rsa.PublicKey:
				require.Equal(t, "RS256", key.alg)
				require.GreaterOrEqual(t, public.N.BitLen(), 2048)
				require.LessOrEqual(t, public.N.BitLen(), 8192)
				require.GreaterOrEqual(t, public.E, 3)
			case *ecdsa.PublicKey:
				require.Equal(t, map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()}[key.alg], public.Curve)
				_, err := public.ECDH()
				require.NoError(t, err, "not on the curve")
			default:
				t.Fatalf("a %T", public)
			}
			// Judging a signature with it ends, one way or another.
			tok := &token{header: &header{alg: key.alg}, signed: "a.b", signature: make([]byte, 256)}
			require.Error(t, tok.verifySignature(key.key))
		}
	})
}

// fuzzStore is a RefreshStore that answers as it is told.
type fuzzStore struct {
	claim, put []byte
	claimed    bool
	err        error
}

func (s *fuzzStore) Claim(context.Context, string, string, time.Duration) ([]byte, bool, error) {
	return s.claim, s.claimed, s.err
}

func (s *fuzzStore) Put(_ context.Context, _ string, value []byte, _ time.Duration, _ bool) ([]byte, error) {
	if s.put != nil {
		return s.put, s.err
	}
	return value, s.err
}

func (s *fuzzStore) Release(context.Context, string, string) error { return s.err }

// Whatever a store holds, even sealed with the right key, it signs nobody in as
// somebody else, and nothing that Descope would not have been believed.
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
		`{"at":9223372036854775807,"session":"{{S}}"}`, `{"at":-9223372036854775808,"session":"{{S}}"}`, `{"at":4102444800000,"session":"{{S}}","refresh":"{{R}}"}`, `{"at":"x"}`, `{}`, `[]`, ``, `{"session":"{{S}}","session":"{{X}}"}`, `{"session":"{{S}}","Session":"{{X}}"}`,
	} {
		for how := range byte(16) {
			f.Add(how, record)
		}
	}
	f.Fuzz(func(t *testing.T, how byte, record string) {
		synctest.Test(t, func(t *testing.T) { // a logout waits for the other replicas
			<-time.After(time.Minute) // until {{E}} has expired
			presented := &token{raw: tokens["{{R}}"]}
			payload := []byte(expand(record))
			if how&1 == 0 {
				s := sealer{project}
				payload = s.aead(presented).Seal(nil, nil, payload, s.additionalData())
			}
			store := &fuzzStore{claimed: true}
			if how&2 == 0 {
				store.claim = payload // and the lease: nobody waits here for a value that cannot be read
			} else {
				store.put = payload
			}
			a, err := New(Config{
				ProjectID: project, RefreshStore: store, Logger: slog.New(slog.DiscardHandler), MaxCachedSessions: -1,
				HTTPClient: &http.Client{Transport: fuzzTransport(func(r *http.Request) string {
					if strings.HasPrefix(r.URL.Path, pathKeys) {
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
					s, ok := SessionFromContext(r.Context())
					require.True(t, ok)
					require.Equal(t, "U2ada", s.Subject())
					require.Equal(t, tokens["{{S}}"], s.Token())
				})).ServeHTTP(w, request(http.MethodGet, "/").WithContext(ctx))
				check(w.Result())
				if how&4 != 0 {
					w = httptest.NewRecorder()
					a.Handler().ServeHTTP(w, request(http.MethodPost, pathRefresh).WithContext(ctx))
					check(w.Result())
				}
				if how&8 != 0 {
					w = httptest.NewRecorder()
					a.Handler().ServeHTTP(w, request(http.MethodPost, pathLogout).WithContext(ctx))
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
