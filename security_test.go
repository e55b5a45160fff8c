package descopehttp_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

const managementKey = "K2topsecretmanagementkey"

// Marks of what others wrote: a client, and whoever answers in Descope's place.
// Neither may reach a log or an error, because a decoder that quotes the one or
// the other quotes tokens as well.
const (
	clientMark   = "xyzzy"
	upstreamMark = "plugh"
)

// A watch collects secrets as they pass by, and the texts in which none may be.
type watch struct {
	logs kittest.LogBuffer // what was logged, by whatever logger

	mu      sync.Mutex
	secrets map[string]string // secret → what it is
	codes   map[string]bool
	texts   map[string]bool // problem documents and errors
}

func newWatch() *watch {
	return &watch{secrets: map[string]string{managementKey: "management key"}, codes: map[string]bool{}, texts: map[string]bool{}}
}

// hide notes a secret; of a token also the parts that somebody might quote alone.
func (w *watch) hide(what, secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if secret == "" {
		return
	}
	note := func(what, secret string) {
		if _, noted := w.secrets[secret]; !noted {
			w.secrets[secret] = what
		}
	}
	note(what, secret)
	if parts := strings.Split(secret, "."); len(parts) == 3 {
		for i, part := range parts[1:] {
			if len(part) >= 24 {
				note(fmt.Sprintf("part %d of %s", i+1, what), part[:24])
			}
		}
	}
	if len(secret) > 64 {
		note("end of "+what, secret[len(secret)-32:])
	}
}

func (w *watch) hideCode(code string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.codes[code] = true
	return code
}

// say notes a text that somebody may read.
func (w *watch) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts[fmt.Sprintf(format, args...)] = true
}

// sayError notes all forms of an error and of those that it wraps.
func (w *watch) sayError(err error) {
	if err == nil {
		return
	}
	w.say("%s\n%v\n%+v\n%#v\n%q", err, err, err, err, err)
	encoded, _ := json.Marshal(err)
	w.say("%s", encoded)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		w.sayError(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			w.sayError(err)
		}
	}
}

var (
	tokenShape = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}`)
	codeShape  = regexp.MustCompile(`\b[0-9]{6}\b`) // elsewhere, six digits in a row are part of something longer
	timeShape  = regexp.MustCompile(`(time=|"time":")[^ "]+`)
)

// requireSilence checks that no secret is in any text.
func (w *watch) requireSilence(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.logs.String()) {
		w.texts[timeShape.ReplaceAllString(line, "")] = true
	}
	seen := make(map[string]bool)
	for _, what := range w.secrets {
		seen[what] = true
	}
	for _, what := range []string{"session token", "refresh token", "key", "QR image", "provisioning URL", "cookie " + kittest.SessionCookie,
		"cookie " + kittest.RefreshCookie, "a token sent to Descope"} {
		require.True(t, seen[what], "%s: there is nothing to look for", what)
	}
	require.NotEmpty(t, w.codes)
	require.Greater(t, len(w.texts), 100, "there is nothing to look at")
	for text := range w.texts {
		var found []string
		for secret, what := range w.secrets {
			if strings.Contains(text, secret) {
				found = append(found, what)
			}
		}
		for _, word := range codeShape.FindAllString(text, -1) {
			if w.codes[word] {
				found = append(found, "code")
			}
		}
		for _, mark := range []string{clientMark, upstreamMark, "otpauth:", "K2theirs"} {
			if strings.Contains(text, mark) {
				found = append(found, mark)
			}
		}
		if tokenShape.MatchString(text) {
			found = append(found, "something like a token")
		}
		assert.Empty(t, found, "%.500s", text)
	}
}

// config makes a kit log to the watch, under its eyes for whatever it says.
func (w *watch) config(handler func(io.Writer, *slog.HandlerOptions) slog.Handler) func(*descopehttp.Config) {
	return func(c *descopehttp.Config) {
		c.Logger = slog.New(handler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
		c.AuthManagementKey = descopehttp.NewSecret(managementKey)
		c.Observer = func(ctx context.Context, e descopehttp.Event) {
			e.Took = 0 // six digits of it may be somebody's code
			w.say("%v\n%+v\n%#v\n%s", e, e, e, slog.AnyValue(e))
		}
		c.OnEvent = func(ctx context.Context, e descopehttp.Event) {
			e.Took = 0
			w.say("%v\n%+v\n%#v\n%s %+v", e, e, e, slog.AnyValue(e), struct{ E *descopehttp.Event }{&e})
			slog.Info("an application's own line", "event", e, "user", e.User, "nobody", (*descopehttp.Session)(nil))
		}
		inner := c.HTTPClient.Transport
		c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
			for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ":") {
				if strings.Contains(part, ".") {
					w.hide("a token sent to Descope", part)
				}
			}
			return inner.RoundTrip(r)
		})}
	}
}

// serve passes a request on and notes what it hides and what it says.
func (w *watch) serve(t testing.TB, h http.Handler, r *http.Request) *http.Response {
	t.Helper()
	for _, c := range r.Cookies() {
		if len(c.Value) > 24 {
			w.hide("a cookie sent", c.Value)
		}
	}
	res := kittest.Serve(h, r)
	for _, c := range res.Cookies() {
		w.hide("cookie "+c.Name, c.Value)
	}
	body := kittest.BodyOf(t, res)
	if res.StatusCode >= 400 {
		w.say("%d %s", res.StatusCode, body)
		header := res.Header.Clone()
		header.Del("Set-Cookie")
		w.say("%v", header)
		return res
	}
	var answer struct{ SessionJWT, RefreshJWT, Key, Image, ProvisioningURL string }
	if json.Unmarshal(body, &answer) == nil {
		w.hide("session token", answer.SessionJWT)
		w.hide("refresh token", answer.RefreshJWT)
		w.hide("key", answer.Key)
		w.hide("QR image", answer.Image)
		w.hide("provisioning URL", answer.ProvisioningURL)
	}
	return res
}

func handlersOfSlog() map[string]func(io.Writer, *slog.HandlerOptions) slog.Handler {
	return map[string]func(io.Writer, *slog.HandlerOptions) slog.Handler{
		"text": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) },
		"JSON": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) },
	}
}

// hostileTokens are session tokens with the client's mark wherever a decoder or
// a library might quote it from.
func hostileTokens(h *kittest.Hostile) []string {
	claims := func(changes map[string]any, edits ...string) string { return h.With(changes, edits...) }
	payload := kittest.ClaimsJSON(h.T, h.Claims(nil))
	raw := func(payload string) string { return kittest.SignRaw(h.T, h.RSA, kittest.RS256Header, payload) }
	tokens := []string{
		clientMark, clientMark + "." + clientMark + "." + clientMark, "!" + clientMark + "..",
		h.Header(`{"alg":"RS256","kid":"SK` + clientMark + `"}`),
		h.Header(`{"alg":"` + clientMark + `","kid":"` + kittest.RSAKid + `"}`),
		h.Header(`{"alg":"ES256","kid":"` + kittest.RSAKid + `","x":"` + clientMark + `"}`),
		h.Header(`{"alg":"RS256","kid":["` + clientMark + `"]}`),
		h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","crit":["` + clientMark + `"]}`),
		h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","` + clientMark + `":1,"` + clientMark + `":2}`),
		h.Header(`{"alg":"RS256","kid":"` + kittest.RSAKid + `","` + clientMark),
		h.Header(clientMark),
		raw(clientMark), raw(`"` + clientMark + `"`), raw(payload + clientMark), raw(payload[:len(payload)-1] + `,"` + clientMark + "\xff\":1}"),
		raw(`{"` + clientMark + `":1,"` + clientMark + `":2}`), raw(`{"a":{"` + clientMark + `":1,"` + clientMark + `":2}}`),
		claims(map[string]any{"Sub": clientMark}), claims(map[string]any{"exp": clientMark}), claims(map[string]any{"sub": []string{clientMark}}),
		claims(map[string]any{"sub": ""}), claims(map[string]any{"iss": "https://" + clientMark + "/x"}), claims(map[string]any{"iss": "%" + clientMark}),
		claims(map[string]any{"aud": map[string]any{clientMark: 1}}), claims(map[string]any{"drn": clientMark}),
		claims(map[string]any{"cnf": map[string]any{"jkt": clientMark}}), claims(map[string]any{"nbf": clientMark}),
		claims(map[string]any{"exp": 0}, `"exp":0`, `"exp":1`+clientMark), claims(map[string]any{"rexp": clientMark, "sub": 7}),
		claims(map[string]any{"x": clientMark}) + "AAAA", claims(map[string]any{"x": clientMark, "exp": 1}),
		claims(map[string]any{"x": strings.Repeat(clientMark, 4000)}),
	}
	for _, token := range tokens[:len(tokens):len(tokens)] {
		// The same as refresh tokens.
		if parts := strings.Split(token, "."); len(parts) == 3 {
			tokens = append(tokens, parts[0]+"."+kittest.Segment(strings.Replace(payload, `"DS"`, `"DSR"`, 1))+"."+parts[2])
		}
	}
	return tokens
}

// Everything that can be logged is, at the level at which most is said, while
// all flows run, well and badly.
//
// Rule: tokens: against reading tokens out of memory or logs: the cache keeps hashes; no token,
// code, key or QR code is logged or printed.
func TestNothingSecretIsLogged(t *testing.T) {
	for name, handler := range handlersOfSlog() {
		t.Run(name, func(t *testing.T) {
			w := newWatch()
			standard := slog.Default()
			slog.SetDefault(slog.New(handler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
			t.Cleanup(func() { slog.SetDefault(standard) })

			for _, delivery := range []descopehttp.Delivery{descopehttp.InCookies, descopehttp.SessionInBody, descopehttp.InBody} {
				for _, rotate := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { watchGoodFlows(t, w, handler, delivery, rotate) })
				}
			}
			watchHostileTokens(t, w, handler)
			watchBadInput(t, w, handler)
			for _, c := range kittest.Flows {
				synctest.Test(t, func(t *testing.T) { watchFaults(t, w, handler, c) })
			}
			w.requireSilence(t)
		})
	}
}

func watchGoodFlows(t *testing.T, w *watch, handler func(io.Writer, *slog.HandlerOptions) slog.Handler, delivery descopehttp.Delivery, rotate bool) {
	k := kittest.New(t, func(c *descopehttp.Config) { c.Tokens = delivery }, w.config(handler))
	k.Project.AddUser(descopetest.User{LoginID: kittest.Bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
	k.Project.Configure(func(s *descopetest.Settings) {
		s.RotateRefresh, s.AuthManagementKey = rotate, managementKey
		s.EditClaims = func(_ string, claims map[string]any) { claims["padding"] = strings.Repeat("p", 100) }
	})
	project := k.Project.ProjectID()
	code := func(loginID string) string { return w.hideCode(k.Project.Code(loginID)) }
	flow := func(refresh, path, body string) *http.Response {
		r := kittest.Post(path, body)
		if body == "GET" {
			r = kittest.Get(path)
		}
		return w.serve(t, k.Handler(), kittest.InHeader(r, project, refresh, "K2theirs"))
	}
	loginID := clientMark + "@example.com"
	flow("", kittest.SignUpPath, `{"loginId":"`+loginID+`","user":{"name":"`+clientMark+`"}}`)
	flow("", kittest.VerifyPath, `{"loginId":"`+loginID+`","code":"`+code(loginID)+`"}`)
	flow("", kittest.VerifyPath, `{"loginId":"`+loginID+`","code":"`+w.hideCode(kittest.OtherCode(code(loginID)))+`"}`)

	tokens := k.Project.SignIn(kittest.Bob)
	w.hide("session token", tokens.Session)
	w.hide("refresh token", tokens.Refresh)
	flow(tokens.Refresh, kittest.UpdatePath, `{"loginId":"`+kittest.Bob+`"}`)
	flow(tokens.Refresh, kittest.UpdatePath, `{"loginId":"`+clientMark+`"}`)
	flow(tokens.Refresh, kittest.VerifyPath, `{"loginId":"`+kittest.Bob+`","code":"`+code(kittest.Bob)+`","loginOptions":{"stepup":true}}`)
	for path, body := range map[string]string{
		kittest.MePath: "GET", kittest.HistoryPath: "GET", kittest.TenantsPath: `{}`, kittest.SelectPath: `{"tenant":"T2"}`, kittest.TryRefreshPath: ``, kittest.RefreshPath: ``,
	} {
		flow(tokens.Refresh, path, body)
	}
	page := k.RequireSession(k.LoadSession(new(kittest.Spy)))
	for range 2 {
		w.serve(t, page, kittest.WithBearer(kittest.Get("/"), tokens.Session))
		w.serve(t, page, kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
		kittest.Elapse(kittest.Past)
	}
	w.serve(t, page, kittest.WithCookies(kittest.Get("/"), tokens.Session, k.Project.SignIn(kittest.Ada).Refresh))
	flow(tokens.Refresh, kittest.LogoutPath, `{}`)
	flow(tokens.Refresh, kittest.RefreshPath, `{}`)
	flow(k.Project.SignIn(kittest.Bob).Refresh, kittest.LogoutAllPath, `{}`)
	require.NoError(t, k.Wait(t.Context()))
}

func watchHostileTokens(t *testing.T, w *watch, handler func(io.Writer, *slog.HandlerOptions) slog.Handler) {
	var errs []error
	h := kittest.NewHostile(t, w.config(handler), func(c *descopehttp.Config) {
		c.Audience = "shop"
		inner := c.HTTPClient.Transport
		c.HTTPClient.Transport = kittest.RoundTripper(func(r *http.Request) (*http.Response, error) { return inner.RoundTrip(r) })
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			errs = append(errs, err)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	for _, token := range hostileTokens(h) {
		for _, r := range []*http.Request{
			kittest.WithBearer(kittest.Get("/"+clientMark), token), kittest.WithCookies(kittest.Get("/"), token, ""), kittest.WithCookies(kittest.Get("/"), "", token),
			kittest.WithCookies(kittest.Get("/"), token, token), kittest.WithBearer(kittest.Get("/"), clientMark+token),
		} {
			w.serve(t, h.RequireSession(new(kittest.Spy)), r)
			next := new(kittest.Spy)
			w.serve(t, h.LoadSession(next), r)
			if next.Calls > 0 {
				errs = append(errs, descopehttp.SessionError(next.Last().Context()))
			}
		}
		_, err := h.VerifyToken(t.Context(), token)
		errs = append(errs, err)
		for _, path := range []string{kittest.RefreshPath, kittest.TryRefreshPath, kittest.LogoutPath} {
			w.serve(t, h.Handler(), kittest.InHeader(kittest.Post(path, ``), h.Project.ProjectID(), token, "K2theirs"))
			w.serve(t, h.Handler(), kittest.WithCookies(kittest.Post(path, ``), token, token))
		}
		step := `{"loginId":"` + clientMark + `","code":"123456","loginOptions":{"stepup":true}}`
		w.serve(t, h.Handler(), kittest.InHeader(kittest.Post(kittest.VerifyPath, step), h.Project.ProjectID(), token))
	}
	for _, err := range errs {
		w.sayError(err)
	}
	require.NoError(t, h.Wait(t.Context()))
}

func watchBadInput(t *testing.T, w *watch, handler func(io.Writer, *slog.HandlerOptions) slog.Handler) {
	k := kittest.New(t, w.config(handler), func(c *descopehttp.Config) {
		c.LoginOptions = func(r *http.Request, loginID string, _ map[string]any) error {
			switch r.Header.Get("X-Then") {
			case "panic":
				panic("login options of " + loginID)
			case "refuse":
				return fmt.Errorf("login options: %w", descopehttp.ErrForbidden)
			}
			return nil
		}
	})
	tokens := k.Project.SignIn(kittest.Ada)
	for _, body := range []string{
		clientMark, `{"` + clientMark + `":1,"` + clientMark + `":2}`, `{"loginId":"` + clientMark, `{"loginId":["` + clientMark + `"]}`,
		`{"loginId":"` + clientMark + `\n","code":"1"}`, `{"loginId":"` + clientMark + `","code":"` + clientMark + `"}`,
		`{"loginId":"` + clientMark + `","code":"123456","loginOptions":{"stepup":"` + clientMark + `"}}`,
		`{"loginId":"` + strings.Repeat(clientMark, 100) + `","code":"123456"}`, `{"tenant":{"` + clientMark + `":1}}`, `{"ids":"` + clientMark + `"}`,
	} {
		for _, path := range []string{kittest.SignUpPath, kittest.VerifyPath, kittest.UpdatePath, kittest.TenantsPath, kittest.SelectPath, "/v1/auth/" + clientMark} {
			r := kittest.SignedInPost(tokens, path, body)
			w.serve(t, k.Handler(), r)
			r = kittest.SignedInPost(tokens, path, body)
			r.Header.Set("Content-Type", clientMark+"/"+clientMark)
			w.serve(t, k.Handler(), r)
			r = kittest.SignedInPost(tokens, path, body)
			r.Header.Set("Origin", "https://"+clientMark+".example")
			w.serve(t, k.Handler(), r)
			r = kittest.SignedInPost(tokens, path, body)
			r.Method = clientMark
			w.serve(t, k.Handler(), r)
		}
	}
	for _, then := range []string{"panic", "refuse"} {
		r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+clientMark+`","code":"`+w.hideCode("739105")+`"}`)
		r.Header.Set("X-Then", then)
		r.Header.Set("Authorization", "Bearer "+k.Project.ProjectID()+":"+tokens.Refresh)
		assert.GreaterOrEqual(t, w.serve(t, k.Handler(), r).StatusCode, 400)
	}
}

// watchFaults lets Descope, or whatever answers in its place, say things with a
// mark in all possible places.
func watchFaults(t *testing.T, w *watch, handler func(io.Writer, *slog.HandlerOptions) slog.Handler, c kittest.Flow) {
	marked := func(status int, body string) func(*http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) {
			res := kittest.JSONAnswer(status, body)
			res.Header.Set("Retry-After", upstreamMark)
			res.Header.Set("Location", "https://"+upstreamMark+".example/")
			res.Header["Set-Cookie"] = []string{"DS=" + upstreamMark, "DSR=" + upstreamMark, upstreamMark}
			res.Request = r
			return res, nil
		}
	}
	var h *kittest.Hostile
	forged := func() string {
		return kittest.SignRaw(t, h.RSA, `{"alg":"RS256","kid":"SK`+upstreamMark+`"}`, kittest.ClaimsJSON(t, h.Claims(map[string]any{"x": upstreamMark})))
	}
	echo := func(r *http.Request) (*http.Response, error) { // as a debugging proxy would
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		quoted, err := json.Marshal(r.Header.Get("Authorization") + string(body))
		if err != nil {
			return nil, err
		}
		return marked(400, `{"errorCode":"E011003","errorDescription":`+string(quoted)+`}`)(r)
	}
	for _, answer := range []func(*http.Request) (*http.Response, error){
		marked(200, upstreamMark), marked(200, `{"sessionJwt":"`+upstreamMark+`","refreshJwt":"`+upstreamMark+`"}`),
		marked(200, `{"`+upstreamMark+`":1,"`+upstreamMark+`":2}`), marked(200, `{"sessionJwt":{"`+upstreamMark+`":1}}`),
		marked(302, upstreamMark), marked(400, `{"errorCode":"E011003","errorDescription":"`+upstreamMark+`","errorMessage":"`+upstreamMark+`"}`),
		marked(401, `{"errorCode":"E061005","errorDescription":"`+upstreamMark+`"}`), marked(401, `{"errorCode":"`+upstreamMark+`"}`),
		marked(401, `{"errorCode":"E0610041`+upstreamMark+`"}`), marked(403, "<html>"+upstreamMark), marked(429, upstreamMark), marked(500, upstreamMark),
		func(r *http.Request) (*http.Response, error) {
			return nil, errors.New("dial " + upstreamMark + " with " + r.Header.Get("Authorization"))
		},
		func(r *http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Post", URL: "https://" + upstreamMark, Err: context.DeadlineExceeded}
		},
		func(r *http.Request) (*http.Response, error) {
			panic(upstreamMark + r.Header.Get("Authorization"))
		},
		func(r *http.Request) (*http.Response, error) {
			return marked(200, `{"sessionJwt":"`+forged()+`","refreshJwt":"`+forged()+`"}`)(r)
		},
		echo,
	} {
		h = kittest.NewHostile(t, func(cfg *descopehttp.Config) {
			inner := cfg.HTTPClient.Transport
			cfg.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == c.Upstream {
					return answer(r)
				}
				return inner.RoundTrip(r)
			})}
		}, w.config(handler))
		h.Project.AddUser(descopetest.User{LoginID: kittest.Bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
		h.Project.Configure(func(s *descopetest.Settings) { s.AuthManagementKey = managementKey })
		tokens := h.Project.SignIn(kittest.Bob)
		w.hideCode(h.Project.Code(kittest.Bob))
		w.serve(t, h.Handler(), c.Request(h.Kit, tokens))
		if c.Upstream == kittest.RefreshPath {
			kittest.Elapse(kittest.Past)
			w.serve(t, h.RequireSession(new(kittest.Spy)), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
			_, err := h.Authenticate(nopWriter{}, kittest.WithCookies(kittest.Get("/"), "", tokens.Refresh))
			w.sayError(err)
		}
		require.NoError(t, h.Wait(t.Context()))
	}
	for _, document := range []string{
		upstreamMark, `{"keys":["` + upstreamMark + `"]}`, `{"keys":[{"kty":"` + upstreamMark + `","kid":"` + upstreamMark + `"}]}`,
		`{"keys":[{"kty":"RSA","kid":"` + upstreamMark + `","alg":"RS256","n":"` + upstreamMark + `","e":"AQAB"}]}`, `{"` + upstreamMark + `":1}`,
	} {
		k := kittest.New(t, func(cfg *descopehttp.Config) {
			cfg.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) { return marked(200, document)(r) })}
		}, w.config(handler))
		w.sayError(k.Ready(t.Context()))
	}
	kittest.Elapse(time.Minute)
}

// nopWriter is a ResponseWriter that nobody reads.
type nopWriter struct{}

func (nopWriter) Header() http.Header         { return http.Header{} }
func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) WriteHeader(int)             {}

// A value of this package may be printed by mistake, alone or within something of
// the user's, where fmt finds it by reflection and calls no methods.
//
// Rule: tokens: against reading tokens out of memory or logs: the cache keeps hashes; no token,
// code, key or QR code is logged or printed.
func TestNothingSecretIsPrinted(t *testing.T) {
	cfg := descopehttp.Config{ProjectID: kittest.ProjectID, AuthManagementKey: descopehttp.NewSecret(managementKey)}
	k := kittest.New(t, func(c *descopehttp.Config) { c.AuthManagementKey = cfg.AuthManagementKey })
	k.Project.Configure(func(s *descopetest.Settings) { s.AuthManagementKey, s.RotateRefresh = managementKey, true })
	tokens := k.Project.SignIn(kittest.Ada)
	secrets := []string{tokens.Session, tokens.Refresh, managementKey}

	// Something to remember: a renewal, a refusal and a session in use.
	res := kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Post(kittest.RefreshPath, ``), "", tokens.Refresh))
	kittest.RequireOK(t, res)
	for _, c := range res.Cookies() {
		secrets = append(secrets, c.Value)
	}
	next := new(kittest.Spy)
	kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
	require.Equal(t, 1, next.Calls)
	ctx := next.Last().Context()
	s, ok := descopehttp.SessionFromContext(ctx)
	require.True(t, ok)
	require.Equal(t, tokens.Session, s.Token(), "there is something to hide")
	loaded := new(kittest.Spy)
	kittest.Serve(k.LoadSession(loaded), kittest.WithBearer(kittest.Get("/"), tokens.Session+"x"))
	refused := loaded.Last().Context()
	_, invalid := k.VerifyToken(t.Context(), tokens.Refresh)
	require.Error(t, invalid)
	_, mistake := descopehttp.New(descopehttp.Config{AuthManagementKey: descopehttp.NewSecret(managementKey + ":")})
	require.Error(t, mistake)
	made, err := descopehttp.NewSession(map[string]any{"sub": "U"})
	require.NoError(t, err)

	full := holder{s, s, *s, *s, cfg.AuthManagementKey, cfg.AuthManagementKey, &cfg.AuthManagementKey, k.Auth, k.Auth, cfg, ctx, invalid, invalid, *s}

	for name, v := range map[string]any{
		"Auth": k.Auth, "Config": cfg, "*Config": &cfg,
		"*Session": s, "Session": *s, "**Session": &s, "[]Session": []descopehttp.Session{*s}, "[]*Session": []*descopehttp.Session{s},
		"map of Session": map[string]descopehttp.Session{"a": *s}, "made Session": made,
		"Secret": cfg.AuthManagementKey, "*Secret": &cfg.AuthManagementKey, "[]Secret": []descopehttp.Secret{cfg.AuthManagementKey},
		"map of Secret": map[descopehttp.Delivery]descopehttp.Secret{0: cfg.AuthManagementKey},
		"holder":        full, "*holder": &full, "[]holder": []holder{full}, "embedding": embedding{s, "x"}, "embeddingSecret": embeddingSecret{cfg.AuthManagementKey, "x"},
		"context": ctx, "context above": context.WithValue(ctx, contextKey{}, 1), "context with session": descopehttp.ContextWithSession(t.Context(), s),
		"cancelled context": withCancelled(ctx), "refused context": refused,
		"error": invalid, "joined errors": errors.Join(invalid, descopehttp.SessionError(refused)), "wrapped error": fmt.Errorf("x: %w", invalid),
		"config errors": mistake, "handler": k.Handler(), "middleware": k.RequireSession(next), "Guard": descopehttp.Role("x"),
	} {
		for how, text := range textsOf(v) {
			shown := tokenShape.MatchString(text)
			for _, secret := range secrets {
				encoded := hex.EncodeToString([]byte(secret))
				shown = shown || strings.Contains(text, secret) || strings.Contains(strings.ToLower(text), encoded)
			}
			assert.False(t, shown, "%s by %s: %.300s", name, how, text)
		}
	}
}

// A holder has secrets in all its fields, as values of users do.
type holder struct {
	S       *descopehttp.Session
	s       *descopehttp.Session
	Value   descopehttp.Session
	value   descopehttp.Session
	Secret  descopehttp.Secret
	secret  descopehttp.Secret
	pointer *descopehttp.Secret
	Auth    *descopehttp.Auth
	auth    *descopehttp.Auth
	config  descopehttp.Config
	ctx     context.Context
	Err     error
	err     error
	any     any
}

// An embedding prints as what it embeds.
type embedding struct {
	*descopehttp.Session
	Name string
}

type embeddingSecret struct {
	descopehttp.Secret
	Name string
}

// textsOf prints a value in every way that there is.
func textsOf(v any) map[string]string {
	texts := make(map[string]string) // by how they came about
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10v"} {
		texts[verb] = fmt.Sprintf(verb, v)
	}
	texts["Sprint"] = fmt.Sprint("a", v)
	encoded, _ := json.Marshal(v)
	texts["JSON"] = string(encoded)
	encoded, _ = xml.Marshal(v)
	texts["XML"] = string(encoded)
	for format, handler := range handlersOfSlog() {
		var logs kittest.LogBuffer
		log := slog.New(handler(&logs, nil))
		log.Info("x", "v", v, "group", slog.GroupValue(slog.Any("v", v)))
		log.With("v", v).WithGroup("g").Info(fmt.Sprint(v), "list", []any{v})
		texts["slog, "+format] = logs.String()
	}
	return texts
}

type contextKey struct{}

func withCancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("over"))
	return ctx
}
