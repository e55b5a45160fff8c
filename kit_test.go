package descopehttp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// A kit is an Auth over a project in memory.
type kit struct {
	*descopehttp.Auth
	srv  *descopetest.Server
	logs *logBuffer
}

const ada = "ada@example.com"

func newKit(t testing.TB, edits ...func(*descopehttp.Config)) *kit {
	t.Helper()
	srv := descopetest.NewServer()
	srv.AddUser(descopetest.User{LoginID: ada, Name: "Ada", Roles: []string{"admin"}})
	return kitFor(t, srv, edits...)
}

// kitFor returns another kit over the same project, as another replica.
func kitFor(t testing.TB, srv *descopetest.Server, edits ...func(*descopehttp.Config)) *kit {
	t.Helper()
	logs := new(logBuffer)
	cfg := descopehttp.Config{
		ProjectID:  srv.ProjectID(),
		BaseURL:    srv.URL(),
		HTTPClient: srv.Client(),
		Logger:     slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	a, err := descopehttp.New(cfg)
	require.NoError(t, err)
	return &kit{Auth: a, srv: srv, logs: logs}
}

// logBuffer is an io.Writer for loggers that many goroutines use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A spy is a handler that notes what reached it.
type spy struct {
	mu       sync.Mutex
	calls    int
	requests []*http.Request
}

func (s *spy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.requests = append(s.requests, r)
	w.Header().Set("X-Spy", "ran")
	_, _ = io.WriteString(w, "ok")
}

func (s *spy) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

// Names of the cookies under the default policy.
const (
	sessionCookie = "__Host-DS"
	refreshCookie = "__Host-DSR"
)

func get(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }

func withBearer(r *http.Request, token string) *http.Request {
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// withCookies adds session and refresh cookies, each where it is not empty. The
// header is written by hand, because AddCookie drops what a hostile client does
// not.
func withCookies(r *http.Request, session, refresh string) *http.Request {
	var pairs []string
	if session != "" {
		pairs = append(pairs, sessionCookie+"="+session)
	}
	if refresh != "" {
		pairs = append(pairs, refreshCookie+"="+refresh)
	}
	if len(pairs) > 0 {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	return r
}

func serve(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// A problem is what tests read of a problem document.
type problem struct {
	Type, Title, Detail, Code, Field          string
	Status                                    int
	ErrorCode, ErrorDescription, ErrorMessage string
}

// requireProblem checks that the answer is a problem document with that status
// and code and nothing else in it.
func requireProblem(t testing.TB, res *http.Response, status int, code string) problem {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, status, res.StatusCode, "%s", body)
	require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	var p problem
	require.NoError(t, json.Unmarshal(body, &p), "%s", body)
	require.Equal(t, code, p.Code, "%s", body)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.ErrorCode, "Descope's clients need one")
	return p
}

// cookiesOf returns the cookies that an answer sets, by name; deleted ones have
// MaxAge -1.
func cookiesOf(res *http.Response) map[string]*http.Cookie {
	cookies := make(map[string]*http.Cookie)
	for _, c := range res.Cookies() {
		cookies[c.Name] = c
	}
	return cookies
}

var testKeys = sync.OnceValues(func() (*rsa.PrivateKey, *ecdsa.PrivateKey) {
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

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signRaw signs header and payload as they are, however odd, with RS256 or ES256
// as the key says.
func signRaw(t testing.TB, key crypto.Signer, header, payload string) string {
	t.Helper()
	method := jwt.SigningMethod(jwt.SigningMethodRS256)
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		method = jwt.SigningMethodES256
	}
	return signSegments(t, method, key, segment(header)+"."+segment(payload))
}

func signSegments(t testing.TB, method jwt.SigningMethod, key any, signed string) string {
	t.Helper()
	signature, err := method.Sign(signed, key)
	require.NoError(t, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// claimsJSON encodes claims and then applies edits, pairs of old and new text,
// to reach what an encoder would not write.
func claimsJSON(t testing.TB, claims map[string]any, edits ...string) string {
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

func contextWithTimeout(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), d)
}

// elapse lets fake time pass. Outside of a synctest bubble, where a test would
// wait for real, it panics.
func elapse(d time.Duration) {
	if time.Now().Year() > 2010 {
		panic("elapse outside of a bubble, whose clock starts in 2000")
	}
	<-time.After(d)
}

func urlQuery(s string) string { return url.QueryEscape(s) }

// staysOnOrigin resolves a redirect the way browsers do: backslashes are slashes,
// and control characters are dropped first.
func staysOnOrigin(location string) bool {
	cleaned := strings.Map(func(r rune) rune {
		switch {
		case r == '\\':
			return '/'
		case r < ' ' || r == 0x7f:
			return -1
		}
		return r
	}, location)
	base := &url.URL{Scheme: "https", Host: "own.example", Path: "/signin"}
	u, err := base.Parse(cleaned)
	return err == nil && u.Scheme == "https" && u.Host == "own.example"
}
