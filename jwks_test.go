package descopehttp_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
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

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500})
		assert.ErrorIs(t, k.Ready(t.Context()), descopehttp.ErrUnavailable)
		assert.ErrorIs(t, k.Ready(t.Context()), descopehttp.ErrUnavailable, "the floor holds for failures too")
		assert.Equal(t, 1, k.Project.Requests(kittest.KeysPath))
		kittest.Elapse(5 * time.Second)
		assert.NoError(t, k.Ready(t.Context()))
		assert.NoError(t, k.Ready(t.Context()))
		assert.Equal(t, 2, k.Project.Requests(kittest.KeysPath))
	})
}

// A rotation is seen by the first request that comes when the floor allows a
// fetch again, and not before.
//
// Rule: keys: against invented kids, to keep a real rotation from being seen: the rotated key
// is in use with the next fetch.
// Rule: keys: 401 only after a fetch that began after the `kid` was seen.
func TestRotatedKeyIsAcceptedAfterTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.RotateKeys()
		token := k.Project.SignIn(kittest.Ada).Session
		h := k.RequireSession(new(kittest.Spy))

		kittest.Elapse(4 * time.Second)
		res := kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token))
		kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
		wait, err := strconv.Atoi(res.Header.Get("Retry-After"))
		require.NoError(t, err)
		assert.Equal(t, 1, wait, "the floor allows the next fetch in a second")
		assert.Equal(t, 1, k.Project.Requests(kittest.KeysPath))

		kittest.Elapse(time.Second)
		assert.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)).StatusCode)
		assert.Equal(t, 2, k.Project.Requests(kittest.KeysPath))
	})
}

// A kid is refused only after a fetch that began when it had been seen already.
//
// Rule: keys: 401 only after a fetch that began after the `kid` was seen.
func TestUnknownKeyIsRefusedOnlyAfterAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		require.NoError(t, h.Ready(t.Context()))
		invented := h.Header(`{"alg":"RS256","kid":"SKinvented"}`)
		handler := h.RequireSession(new(kittest.Spy))

		kittest.Elapse(time.Second)
		kittest.RequireProblem(t, kittest.Serve(handler, kittest.WithBearer(kittest.Get("/"), invented)), http.StatusServiceUnavailable, "unavailable")
		kittest.Elapse(4 * time.Second)
		kittest.RequireProblem(t, kittest.Serve(handler, kittest.WithBearer(kittest.Get("/"), invented)), http.StatusUnauthorized, "invalid_token")
		assert.Equal(t, 2, h.Project.Requests(kittest.KeysPath))
		kittest.Elapse(time.Second)
		kittest.RequireProblem(t, kittest.Serve(handler, kittest.WithBearer(kittest.Get("/"), invented)), http.StatusUnauthorized, "invalid_token")
		assert.Equal(t, 2, h.Project.Requests(kittest.KeysPath), "the refusal is remembered")
	})
}

// Rule: keys: against invented kids, to have the key endpoint asked all the time: one fetch in
// 5 s whatever arrives, and one at a time.
// Rule: keys: one fetch in 5 s, one at a time.
func TestInventedKidsDoNotFloodTheKeyEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		require.NoError(t, h.Ready(t.Context()))
		payload := kittest.ClaimsJSON(t, h.Claims(map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
		handler := h.RequireSession(new(kittest.Spy))
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 1000 {
			token := kittest.Segment(fmt.Sprintf(`{"alg":"RS256","kid":"SK%d"}`, i)) + "." + kittest.Segment(payload) + "." + kittest.Segment("forged")
			wg.Go(func() {
				kittest.Elapse(time.Duration(i) * 20 * time.Millisecond) // 20 s of flood
				res := kittest.Serve(handler, kittest.WithBearer(kittest.Get("/"), token))
				assert.Contains(t, []int{401, 503}, res.StatusCode)
			})
		}
		wg.Wait()
		seconds := int(time.Since(began) / time.Second)
		assert.LessOrEqual(t, h.Project.Requests(kittest.KeysPath), 1+seconds/5+1)
	})
}

// Rule: keys: against an empty answer of the key endpoint, to sign everybody out: a set without
// a usable key never replaces a good one.
func TestKeysNotToBeHad(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"500":             {Status: 500},
		"404":             {Status: 404, Body: `{"errorCode":"E011001"}`},
		"dropped":         {Drop: true},
		"silent":          {Delay: time.Minute},
		"not JSON":        {Status: 200, Body: "<html>"},
		"no keys":         {Status: 200, Body: `{"keys":[]}`},
		"no usable key":   {Status: 200, Body: `{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`},
		"too large":       {Status: 200, Body: `{"keys":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`},
		"redirect":        {Status: 302, Header: http.Header{"Location": {"https://evil.example/"}}},
		"cut":             {Truncate: 20},
		"no object":       {Status: 200, Body: `[]`},
		"keys not a list": {Status: 200, Body: `{"keys":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t)
				tokens := k.Project.SignIn(kittest.Ada)
				fault.Times = -1
				k.Project.Fail(kittest.KeysPath, fault)
				next := new(kittest.Spy)
				began := time.Now()
				for way, r := range map[string]*http.Request{
					"bearer":  kittest.WithBearer(kittest.Get("/"), tokens.Session),
					"cookie":  kittest.WithCookies(kittest.Get("/"), tokens.Session, ""),
					"cookies": kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh),
					"refresh": kittest.WithCookies(kittest.Get("/"), "", tokens.Refresh),
				} {
					res := kittest.Serve(k.RequireSession(next), r)
					kittest.RequireProblem(t, res, http.StatusServiceUnavailable, "unavailable")
					assert.NotEmpty(t, res.Header.Get("Retry-After"), way)
					assert.Empty(t, res.Cookies(), way)
				}
				assert.LessOrEqual(t, time.Since(began), 20*time.Second)
				assert.Zero(t, next.Calls)
				assert.Zero(t, k.Project.Requests(kittest.RefreshPath), "no refresh is begun while its answer could not be judged")
				require.NoError(t, k.Wait(t.Context()))
			})
		})
	}
}

// Held keys outlive a key endpoint that is away, for a day.
//
// Rule: keys: against a key that was revoked: trust ends with the fetch that shows it, for
// remembered sessions too; after a day without a fetch nothing is trusted.
// Rule: keys: keys are trusted for a day without a fetch.
func TestKeysSurviveAnOutageForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 72 * time.Hour })
		token := k.Project.SignIn(kittest.Ada).Session
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 500, Times: -1})
		h := k.RequireSession(new(kittest.Spy))

		kittest.Elapse(23 * time.Hour)
		assert.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)).StatusCode)
		kittest.Elapse(2 * time.Hour)
		kittest.RequireProblem(t, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)), http.StatusServiceUnavailable, "unavailable")
		k.Project.Reset()
		kittest.Elapse(5 * time.Second)
		assert.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)).StatusCode)
	})
}

// A set without one usable key, such as an empty one, never replaces a good one.
//
// Rule: keys: against an empty answer of the key endpoint, to sign everybody out: a set without
// a usable key never replaces a good one.
// Rule: keys: a set without a usable key replaces none.
func TestEmptyKeySetReplacesNone(t *testing.T) {
	for _, body := range []string{`{"keys":[]}`, `{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","use":"enc"}]}`, `{}`, `null`, `[]`} {
		synctest.Test(t, func(t *testing.T) {
			k := kittest.New(t)
			k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 72 * time.Hour })
			token := k.Project.SignIn(kittest.Ada).Session
			h := k.RequireSession(new(kittest.Spy))
			require.NoError(t, k.Ready(t.Context()))
			k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 200, Body: body, Times: -1})
			for range 5 {
				kittest.Elapse(70 * time.Minute)
				require.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), token)).StatusCode, body)
				require.NoError(t, k.Wait(t.Context()))
			}
			assert.Equal(t, 6, k.Project.Requests(kittest.KeysPath))
			assert.Contains(t, k.Logs.String(), "no usable key")
		})
	}
}

// Keys older than an hour are fetched beside a request, not in its way.
func TestOldKeysAreRefreshedBesideTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) { s.SessionTTL = 72 * time.Hour })
		token := k.Project.SignIn(kittest.Ada).Session
		require.NoError(t, k.Ready(t.Context()))
		kittest.Elapse(61 * time.Minute)
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Delay: 3 * time.Second})
		began := time.Now()
		assert.Equal(t, http.StatusOK, kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), token)).StatusCode)
		assert.Zero(t, time.Since(began))
		require.NoError(t, k.Wait(t.Context()))
		assert.Equal(t, 2, k.Project.Requests(kittest.KeysPath))
	})
}

// A key that has left the set stops being trusted with the fetch that shows it.
//
// Rule: keys: against a key that was revoked: trust ends with the fetch that shows it, for
// remembered sessions too; after a day without a fetch nothing is trusted.
func TestRevokedKeyIsNoLongerTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		old := k.Project.SignIn(kittest.Ada).Session
		require.NoError(t, k.Ready(t.Context()))
		k.Project.RevokeKeys()
		kittest.Elapse(5 * time.Second)
		h := k.RequireSession(new(kittest.Spy))
		assert.Equal(t, http.StatusOK, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), k.Project.SignIn(kittest.Ada).Session)).StatusCode)
		kittest.Elapse(5 * time.Second)
		kittest.RequireProblem(t, kittest.Serve(h, kittest.WithBearer(kittest.Get("/"), old)), http.StatusUnauthorized, "invalid_token")
	})
}

// A token in Descope's own answer is worth a fetch that the floor would not
// allow yet: the daily rotation must not sign anybody out.
func TestAnswerOfDescopeFetchesPastTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		tokens := k.Project.SignIn(kittest.Ada)
		kittest.Elapse(11 * time.Minute)
		require.NoError(t, k.Ready(t.Context()))
		kittest.Elapse(2 * time.Second)
		k.Project.RotateKeys()
		next := new(kittest.Spy)
		res := kittest.Serve(k.RequireSession(next), kittest.WithCookies(kittest.Get("/"), tokens.Session, tokens.Refresh))
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, 1, next.Calls)
		assert.Equal(t, 2, k.Project.Requests(kittest.KeysPath))
	})
}

// One caller who hangs up takes the keys from nobody else.
func TestKeyFetchOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		token := k.Project.SignIn(kittest.Ada).Session
		k.Project.Fail(kittest.KeysPath, descopetest.Fault{Delay: 2 * time.Second})
		h := k.RequireSession(new(kittest.Spy))
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				r := kittest.WithBearer(kittest.Get("/"), token)
				want := http.StatusOK
				if i == 0 {
					ctx, cancel := context.WithTimeout(r.Context(), time.Second)
					defer cancel()
					r, want = r.WithContext(ctx), http.StatusServiceUnavailable
				} else {
					kittest.Elapse(time.Millisecond)
				}
				assert.Equal(t, want, kittest.Serve(h, r).StatusCode)
			})
		}
		wg.Wait()
		assert.Equal(t, 1, k.Project.Requests(kittest.KeysPath))
	})
}

// Rule: keys: against a key set with a weak or odd key (1,024 bits, exponent 1, off the curve,
// for encryption, two keys under one kid): each key is judged alone and skipped.
// Rule: keys: a key needs a `kid`, and an `alg` that fits its kind, curve and strength.
// Rule: keys: `use` is sig, `key_ops` hold verify.
// Rule: keys: two keys under one `kid`: neither; at most 100 keys are looked at.
func TestKeyPolicy(t *testing.T) {
	h := kittest.NewHostile(t)
	_, ec := kittest.Keys()
	b64 := base64.RawURLEncoding.EncodeToString
	rsaJWK := func(changes map[string]any) map[string]any {
		k := map[string]any{"kty": "RSA", "kid": kittest.RSAKid, "alg": "RS256", "use": "sig", "n": b64(h.RSA.N.Bytes()), "e": "AQAB"}
		for name, value := range changes {
			k[name] = value
			if value == nil {
				delete(k, name)
			}
		}
		return k
	}
	raw, err := ec.PublicKey.Bytes()
	require.NoError(t, err)
	ecJWK := map[string]any{"kty": "EC", "kid": kittest.ECKid, "alg": "ES256", "crv": "P-256", "x": b64(raw[1:33]), "y": b64(raw[33:])}
	set := func(keys ...any) string {
		encoded, err := json.Marshal(map[string]any{"keys": keys})
		require.NoError(t, err)
		return string(encoded)
	}
	good := set(rsaJWK(nil))
	odd := make([]any, 100)
	for i := range odd {
		odd[i] = map[string]any{"kty": "OKP2", "kid": fmt.Sprint(i)}
	}

	for name, tt := range map[string]struct {
		document string
		ok       bool
	}{
		"good":                   {good, true},
		"without use":            {set(rsaJWK(map[string]any{"use": nil})), true},
		"key_ops verify":         {set(rsaJWK(map[string]any{"key_ops": []string{"verify"}})), true},
		"beside odd keys":        {set(7, "x", nil, map[string]any{"kty": "new"}, ecJWK, rsaJWK(nil)), true},
		"beside duplicate names": {strings.Replace(good, `[`, `[{"kty":"RSA","kty":"EC","kid":"a"},`, 1), true},
		"twice the same":         {set(rsaJWK(nil), rsaJWK(nil)), true},
		"x5u is not fetched":     {set(rsaJWK(map[string]any{"x5u": "http://127.0.0.1:1/x"})), true},
		"no alg":                 {set(ecJWK, rsaJWK(map[string]any{"alg": nil})), true},
		"unknown member":         {set(rsaJWK(map[string]any{"new": true})), true},

		"alg of another kind":          {set(ecJWK, rsaJWK(map[string]any{"alg": "ES256"})), false},
		"alg RS512":                    {set(ecJWK, rsaJWK(map[string]any{"alg": "RS512"})), false},
		"use enc":                      {set(ecJWK, rsaJWK(map[string]any{"use": "enc"})), false},
		"key_ops encrypt":              {set(ecJWK, rsaJWK(map[string]any{"key_ops": []string{"encrypt"}})), false},
		"key_ops empty":                {set(ecJWK, rsaJWK(map[string]any{"key_ops": []string{}})), false},
		"exponent 1":                   {set(ecJWK, rsaJWK(map[string]any{"e": "AQ"})), false},
		"1024 bits":                    {set(ecJWK, rsaJWK(map[string]any{"n": b64(h.RSA.N.Bytes()[:128])})), false},
		"no kid":                       {set(ecJWK, rsaJWK(map[string]any{"kid": nil})), false},
		"kid in another case":          {set(ecJWK, rsaJWK(map[string]any{"kid": strings.ToLower(kittest.RSAKid)})), false},
		"two keys, one kid":            {set(ecJWK, rsaJWK(nil), rsaJWK(map[string]any{"n": b64(otherModulus(h.RSA.N.Bytes()))})), false},
		"two keys, one kid, ours last": {set(ecJWK, rsaJWK(map[string]any{"n": b64(otherModulus(h.RSA.N.Bytes()))}), rsaJWK(nil)), false},
		"two keys, one kid, and again": {set(ecJWK, rsaJWK(nil), rsaJWK(map[string]any{"n": b64(otherModulus(h.RSA.N.Bytes()))}), rsaJWK(nil)), false},
		"two algs, one kid":            {set(ecJWK, rsaJWK(nil), map[string]any{"kty": "EC", "kid": kittest.RSAKid, "alg": "ES256", "crv": "P-256", "x": ecJWK["x"], "y": ecJWK["y"]}), false},
		"after a hundred keys":         {set(append(append([]any{ecJWK}, odd...), rsaJWK(nil))...), false},
		"duplicate names, last":        {strings.Replace(set(ecJWK, rsaJWK(nil)), `"use":"sig"`, `"use":"sig","use":"sig"`, 1), false},
		"a name of a wrong type":       {strings.Replace(set(ecJWK, rsaJWK(nil)), `"use":"sig"`, `"use":7`, 1), false},
		"duplicate names":              {strings.Replace(set(rsaJWK(nil), ecJWK), `"alg":"RS256"`, `"alg":"RS256","alg":"RS256"`, 1), false},
	} {
		k := h.WithKeySet(t, tt.document)
		_, err := k.VerifyToken(t.Context(), h.With(nil))
		if tt.ok {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorIs(t, err, descopehttp.ErrInvalidToken, name)
		}
	}
}

// otherModulus returns a modulus of the same length.
func otherModulus(n []byte) []byte {
	other := append([]byte(nil), n...)
	other[40] ^= 1
	return other
}

// Without keys the tokens of an answer cannot be judged, and none is handed on.
func TestFlowsWithoutKeys(t *testing.T) {
	for _, c := range kittest.Flows {
		if !c.Tokens {
			continue
		}
		for name, fault := range map[string]descopetest.Fault{
			"500": {Status: 500, Times: -1}, "silent": {Delay: time.Minute, Times: -1}, "empty set": {Body: `{"keys":[]}`, Times: -1},
		} {
			t.Run(name+", "+c.Path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					defer kittest.Settle()
					k := kittest.NewForFlows(t, new(kittest.Wiretap))
					tokens := k.Project.SignIn(kittest.Bob)
					k.Project.Fail(kittest.KeysPath, fault)
					began := time.Now()
					res := kittest.Serve(k.Handler(), c.Request(k, tokens))
					assert.LessOrEqual(t, time.Since(began), 10*time.Second)
					assert.Contains(t, []int{502, 504}, res.StatusCode)
					kittest.RequireProblem(t, res, res.StatusCode, "unavailable")
					assert.Empty(t, res.Cookies())
					require.NoError(t, k.Wait(t.Context()))
				})
			})
		}
	}
}

// Whether there was a step-up cannot be told without keys, which is no reason to
// ask for another one. Flows that need none do not wait for it.
func TestStepUpForUpdateWithoutKeys(t *testing.T) {
	for name, fault := range map[string]descopetest.Fault{
		"500": {Status: 500, Times: -1}, "silent": {Delay: time.Minute, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer kittest.Settle()
				k := kittest.NewForFlows(t, new(kittest.Wiretap), func(c *descopehttp.Config) { c.StepUpForUpdate = true })
				tokens := k.Project.StepUp(kittest.Bob)
				k.Project.Fail(kittest.KeysPath, fault)
				res := kittest.Serve(k.Handler(), kittest.SignedInPost(tokens, kittest.UpdatePath, `{"loginId":"`+kittest.Bob+`"}`))
				assert.Contains(t, []int{502, 504}, res.StatusCode, "%s", kittest.BodyOf(t, res))

				kittest.Elapse(time.Minute)
				began := time.Now()
				kittest.RequireOK(t, kittest.Serve(k.Handler(), kittest.WithCookies(kittest.Get(kittest.MePath), tokens.Session, tokens.Refresh)))
				assert.Zero(t, time.Since(began))
				require.NoError(t, k.Wait(t.Context()))
			})
		})
	}
}

// The same while keys are fetched, in a goroutine where nobody else recovers. It
// would end the process, so the test has one of its own.
func TestPanicWhileKeysAreFetched(t *testing.T) {
	const variable = "DESCOPEHTTP_TEST_PANIC"
	if os.Getenv(variable) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPanicWhileKeysAreFetched$")
		cmd.Env = append(os.Environ(), variable+"=1")
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "the process has ended")
		assert.NotContains(t, string(out), "marker-of-the-transport")
		return
	}
	for name, answer := range map[string]func(*http.Request) *http.Response{
		"transport": func(*http.Request) *http.Response { panic("marker-of-the-transport") },
		"body": func(*http.Request) *http.Response {
			return kittest.ReadingAnswer(func([]byte) (int, error) { panic("marker-of-the-transport") })
		},
	} {
		tap := &kittest.Wiretap{Answer: answer}
		k := kittest.New(t, tap.Config)
		assert.ErrorIs(t, k.Ready(t.Context()), descopehttp.ErrUnavailable, name)
		assert.NotContains(t, k.Logs.String(), "marker-of-the-transport")
	}
}

// A client that sends tokens of keys that are not held is told to come back a few
// times, because the key may be new. Then it is refused.
//
// Rule: keys: 401 only after a fetch that began after the `kid` was seen.
// Rule: keys: of a client's tokens of unknown keys 8 in 5 s get a 503, the others a 401.
func TestPendingKeysPerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		handler := h.RequireSession(new(kittest.Spy))
		n := 0
		invented := func(network string) int {
			n++
			token := h.Header(fmt.Sprintf(`{"alg":"RS256","kid":"SK%d"}`, n))
			return kittest.Serve(handler, kittest.From(network, kittest.WithBearer(kittest.Get("/"), token))).StatusCode
		}
		require.NoError(t, h.Ready(t.Context()))
		kittest.Elapse(time.Second)
		counts := func(network string) map[int]int {
			statuses := make(map[int]int)
			for range 50 {
				statuses[invented(network)]++
			}
			return statuses
		}
		want := map[int]int{503: 8, 401: 42}
		assert.Equal(t, want, counts("203.0.113.9"))
		assert.Equal(t, want, counts("203.0.113.10"))
		assert.Equal(t, map[int]int{401: 50}, counts("203.0.113.9"))
		kittest.Elapse(5 * time.Second)
		statuses := counts("203.0.113.9")
		assert.LessOrEqual(t, statuses[503], 8)
		assert.Equal(t, 50, statuses[503]+statuses[401])
		assert.Equal(t, 2, h.Project.Requests(kittest.KeysPath))
	})
}

// Another key under the kid of the one before, as a project that was set up anew has it:
// the tokens that do not verify are what shows it.
func TestAnotherKeyUnderTheSameKid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := func() *descopetest.Server {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			require.NoError(t, err)
			p := descopetest.NewServer()
			p.AddUser(descopetest.User{LoginID: kittest.Ada})
			p.AddKey("dev", key)
			return p
		}
		project := start()
		k := kittest.New(t, func(c *descopehttp.Config) {
			c.ProjectID = project.ProjectID()
			c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
				return project.Client().Transport.RoundTrip(r)
			})}
		})
		visit := func() int {
			return kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), project.SignIn(kittest.Ada).Session)).StatusCode
		}
		require.Equal(t, http.StatusOK, visit())
		project = start()
		kittest.Elapse(6 * time.Second)
		assert.Equal(t, http.StatusUnauthorized, visit())
		kittest.Elapse(time.Second)
		assert.Equal(t, http.StatusOK, visit())
		for range 10 { // forged ones cost a fetch in five seconds, as invented kids do
			kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), start().SignIn(kittest.Ada).Session))
		}
		assert.LessOrEqual(t, project.Requests(kittest.KeysPath), 2)
	})
}

// What a key set holds that cannot be used is named in the log, once a minute, with the
// reason and without anything of the key.
func TestSkippedKeysAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		modulus := base64.RawURLEncoding.EncodeToString(h.RSA.N.Bytes())
		good := `{"kty":"RSA","kid":"SKgood","alg":"RS256","use":"sig","e":"AQAB","n":"` + modulus + `"}`
		const secret = "c2VjcmV0LW1hdGVyaWFsLW9mLWEta2V5"
		k := h.WithKeySet(t, `{"keys":[`+good+`,{"kty":"oct","kid":"SKoct","alg":"HS256","k":"`+secret+`"},{"kty":"RSA","kid":"SKenc","alg":"RS256","use":"enc","e":"AQAB","n":"`+modulus+`","d":"`+secret+`"},`+
			`{"kty":"RSA","kid":"SKsmall","alg":"RS256","e":"AQAB","n":"`+secret+`"},{"kty":"RSA","alg":"RS256","e":"AQAB","n":"`+modulus+`"},"junk\nline"]}`)
		require.NoError(t, k.Ready(t.Context()))
		assert.Equal(t, 1, strings.Count(k.Logs.String(), "are skipped"))
		for _, word := range []string{"2: it does not decode", "3: it is not for verifying", "4: its kind, size and alg", "5: it has no kid", "6: it is no JWK"} {
			assert.Contains(t, k.Logs.String(), word)
		}
		assert.NotContains(t, k.Logs.String(), "SK", "what is in a key set came from outside")
		assert.NotContains(t, k.Logs.String(), secret)
		assert.NotContains(t, k.Logs.String(), modulus[:40])
		kittest.Elapse(time.Minute)
		_, err := k.VerifyToken(t.Context(), h.Header(`{"alg":"RS256","kid":"SKother"}`))
		require.Error(t, err)
		assert.Equal(t, 2, strings.Count(k.Logs.String(), "are skipped"), "another fetch")
	})
}

// Keys that are given serve while Descope is away, for a day; what Descope says takes their
// place at once.
func TestGivenKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		document := `{"keys":[{"kty":"RSA","kid":"` + kittest.RSAKid + `","alg":"RS256","use":"sig","e":"AQAB","n":"` + base64.RawURLEncoding.EncodeToString(h.RSA.N.Bytes()) + `"}]}`
		give := func(c *descopehttp.Config) { c.Keys = []byte(document) }
		week := map[string]any{"exp": time.Now().Add(7 * 24 * time.Hour).Unix()}
		token := h.With(week)
		serve := func(k *kittest.Kit, token string) int {
			return kittest.Serve(k.RequireSession(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), token)).StatusCode
		}

		h.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 503, Times: -1})
		assert.Equal(t, http.StatusServiceUnavailable, serve(kittest.For(t, h.Project), token), "without")
		k := kittest.For(t, h.Project, give)
		require.NoError(t, k.Ready(t.Context()))
		assert.Equal(t, http.StatusOK, serve(k, token))
		assert.Equal(t, http.StatusServiceUnavailable, serve(k, h.Header(`{"alg":"RS256","kid":"SKother"}`)), "of a key that may be new they refuse nothing")
		kittest.Elapse(24*time.Hour - time.Second)
		assert.Equal(t, http.StatusOK, serve(k, token), "from the cache as well")
		kittest.Elapse(2 * time.Second)
		assert.Equal(t, http.StatusServiceUnavailable, serve(k, token), "a day is over")

		// Descope is there and does not publish the key any more.
		other := kittest.New(t)
		for _, first := range []func(*kittest.Kit){
			func(k *kittest.Kit) { require.NoError(t, k.Ready(t.Context())) },
			func(k *kittest.Kit) { assert.Equal(t, http.StatusOK, serve(k, token)) },
		} {
			k = kittest.For(t, other.Project, give)
			other.Project.Reset()
			first(k)
			synctest.Wait()
			assert.Equal(t, 1, other.Project.Requests(kittest.KeysPath), "at once, and not after an hour")
			assert.Equal(t, http.StatusUnauthorized, serve(k, token))
		}
	})
}

// A key that was given may be long out of date, also where Descope uses its kid again: it
// refuses nothing.
func TestGivenKeysRefuseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := kittest.NewHostile(t)
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		document := `{"keys":[{"kty":"RSA","kid":"` + kittest.RSAKid + `","alg":"RS256","e":"AQAB","n":"` + base64.RawURLEncoding.EncodeToString(key.N.Bytes()) + `"}]}`
		give := func(c *descopehttp.Config) { c.Keys = []byte(document) }
		bearer := kittest.WithBearer(kittest.Get("/"), h.With(nil))
		cookies := kittest.WithCookies(kittest.Get("/"), h.With(nil), h.With(map[string]any{"drn": "DSR"}))
		for _, r := range []*http.Request{bearer, cookies} {
			k := kittest.For(t, h.Project, give)
			h.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 503})
			h.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 503})
			kittest.RequireProblem(t, kittest.Serve(k.RequireSession(new(kittest.Spy)), r), http.StatusServiceUnavailable, "unavailable")
			synctest.Wait()
			kittest.Elapse(5 * time.Second)
			require.NoError(t, k.Ready(t.Context()))
			synctest.Wait()
			assert.Equal(t, http.StatusOK, kittest.Serve(k.RequireSession(new(kittest.Spy)), r).StatusCode)
			h.Project.Reset()
		}
	})
}
