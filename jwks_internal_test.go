package descopehttp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/token"
)

// Rule: keys: one fetch in 5 s, one at a time.
func TestOneKeyFetchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches, most, n atomic.Int32
		a := authOver(t, answering(func(*http.Request) (string, time.Duration) {
			fetches.Add(1)
			most.Store(max(most.Load(), n.Add(1)))
			time.AfterFunc(4*time.Second, func() { n.Add(-1) })
			return `{"keys":[]}`, 4 * time.Second
		}))
		first := a.keys.startFetch(time.Now(), fetchIfFloorAllows)
		require.NotNil(t, first)
		for range 8 {
			<-time.After(400 * time.Millisecond)
			assert.Equal(t, first, a.keys.startFetch(time.Now(), fetchPastFloor))
			assert.Equal(t, first, a.keys.startFetch(time.Now(), fetchIfFloorAllows))
		}
		<-first
		synctest.Wait()
		assert.Nil(t, a.keys.startFetch(time.Now(), fetchIfFloorAllows), "the floor, since the beginning")
		require.NotNil(t, a.keys.startFetch(time.Now(), fetchPastFloor))
		require.NoError(t, a.Wait(t.Context()))
		assert.EqualValues(t, 1, most.Load())
		assert.EqualValues(t, 2, fetches.Load())
	})
}

func TestKeyFetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authOver(t, answering(func(*http.Request) (string, time.Duration) { return "", time.Hour }))
		began := time.Now()
		<-a.keys.startFetch(began, fetchIfFloorAllows)
		assert.Equal(t, 5*time.Second, time.Since(began))
	})
}

// Rule: keys: against invented kids, to fill memory: bounded, by hash, for 30 s.
// Rule: keys: kids that nobody knows are forgotten, and bounded.
func TestAbsentKidsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authOver(t, noNetwork{t})
		const limit, memory = 4096, 30 * time.Second
		began := time.Now()
		for i := range limit + 100 {
			require.Equal(t, began, a.keys.noteAbsent(strconv.Itoa(i), began))
			require.LessOrEqual(t, a.keys.absent.Len(), limit)
		}
		<-time.After(memory - 1)
		assert.Equal(t, began, a.keys.noteAbsent("200", time.Now()), "remembered")
		assert.Equal(t, time.Now(), a.keys.noteAbsent("0", time.Now()), "the oldest made room")
		<-time.After(1)
		assert.Equal(t, time.Now(), a.keys.noteAbsent("200", time.Now()), "forgotten")
		<-time.After(memory)
		a.keys.noteAbsent("more", time.Now())
		assert.Equal(t, 1, a.keys.absent.Len())
	})
}

func TestFilterByKid(t *testing.T) {
	// The held kid may name another key by now: that is looked up for those who come after.
	a := authOver(t, answering(func(*http.Request) (string, time.Duration) { return `{"keys":[]}`, 0 }))
	key := func(kid string) *token.Key {
		k := onlyKey(t, `{"alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"`+kid+`"}`)
		return k
	}
	const claims = `{"iss":"P2abcdefghijklmnopqrstuvwxyz","sub":"U2ada","drn":"DSR","exp":4102444800}`
	b64 := base64.RawURLEncoding.EncodeToString
	a.keys.held.Store(&heldKeys{byID: map[string]*token.Key{"held": key("held")}, began: time.Now()})
	a.keys.retired = []*token.Key{key("old"), key("older")}
	for kid, want := range map[string]error{"held": token.ErrSignature, "old": token.ErrSignature, "older": token.ErrSignature, "new": errKeyNotHeld} {
		raw := b64([]byte(`{"alg":"ES256","kid":"`+kid+`"}`)) + "." + b64([]byte(claims)) + "." + b64(make([]byte, 64))
		tok, err := a.judge.rules.Parse(raw, token.RefreshDRN)
		require.NoError(t, err)
		assert.Equal(t, want, a.keys.filter(t.Context(), tok), kid)
	}
}

// Rule: tokens: RS256, ES256 and ES384 are taken, each under keys of its own kind.
func TestEachAlgorithm(t *testing.T) {
	const project = "P2abcdefghijklmnopqrstuvwxyz"
	b64 := base64.RawURLEncoding.EncodeToString
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	jwk := func(kid, alg, curve string, key *ecdsa.PrivateKey) string {
		point, err := key.PublicKey.Bytes()
		require.NoError(t, err)
		half := (len(point) - 1) / 2
		return fmt.Sprintf(`{"kty":"EC","kid":%q,"alg":%q,"crv":%q,"x":%q,"y":%q}`, kid, alg, curve, b64(point[1:1+half]), b64(point[1+half:]))
	}
	document := fmt.Sprintf(`{"keys":[%s,%s,{"kty":"RSA","kid":"RS256","alg":"RS256","n":%q,"e":"AQAB"}]}`,
		jwk("ES256", "ES256", "P-256", p256), jwk("ES384", "ES384", "P-384", p384), b64(key.N.Bytes()))
	a := authOver(t, answering(func(*http.Request) (string, time.Duration) { return document, 0 }))
	methods := map[string]struct {
		method jwt.SigningMethod
		key    any
	}{
		"RS256": {jwt.SigningMethodRS256, key}, "ES256": {jwt.SigningMethodES256, p256}, "ES384": {jwt.SigningMethodES384, p384},
	}
	for alg, m := range methods {
		for kid := range methods {
			signed := b64([]byte(`{"alg":"`+alg+`","kid":"`+kid+`"}`)) + "." + b64(fmt.Appendf(nil, `{"iss":%q,"sub":"U2ada","drn":"DS","exp":4102444800}`, project))
			signature, err := m.method.Sign(signed, m.key)
			require.NoError(t, err)
			_, err = a.VerifyToken(t.Context(), signed+"."+b64(signature))
			if alg == kid {
				assert.NoError(t, err, alg)
			} else {
				assert.ErrorIs(t, err, ErrInvalidToken, "%s under the key for %s", alg, kid)
			}
		}
	}
}

// Rule: keys: against invented kids, to fill memory: bounded, by hash, for 30 s.
// Rule: keys: retired keys refuse bad signatures, bounded.
func TestRetiredKeysAreBounded(t *testing.T) {
	s := newKeySet(nil, new(token.Rules), nil)
	key := onlyKey(t, `{"kid":"a","alg":"ES256","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`)
	require.NotNil(t, key)
	for i := range 3 * maxRetiredKeys {
		old := *key
		old.KID = strconv.Itoa(i)
		s.retire(map[string]*token.Key{old.KID: &old}, nil)
		require.LessOrEqual(t, len(s.retired), maxRetiredKeys)
	}
	assert.Equal(t, strconv.Itoa(3*maxRetiredKeys-1), s.retired[maxRetiredKeys-1].KID, "the newest stay")
}

type answering func(*http.Request) (text string, after time.Duration)

func authOver(t *testing.T, transport http.RoundTripper) *Auth {
	a, err := New(Config{ProjectID: "P2abcdefghijklmnopqrstuvwxyz", HTTPClient: &http.Client{Transport: transport}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return a
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	text, after := a(r)
	select {
	case <-time.After(after):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(text))}, nil
}

type noNetwork struct{ t testing.TB }

func (n noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("a call to %s", r.URL.Path)
	return nil, errors.New("no network")
}

// onlyKey returns the key of a set of one.
func onlyKey(t *testing.T, jwk string) *token.Key {
	t.Helper()
	keys := token.ParseKeySet([]byte(`{"keys":[` + jwk + `]}`))
	require.Len(t, keys, 1)
	for _, key := range keys {
		return key
	}
	return nil
}
