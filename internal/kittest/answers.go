package kittest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A Problem is what tests read of a problem document.
type Problem struct {
	Type, Title, Detail, Code, Field          string
	Status                                    int
	ErrorCode, ErrorDescription, ErrorMessage string
}

// RequireProblem checks that the answer is a problem document with that status
// and code and nothing else in it.
func RequireProblem(t testing.TB, res *http.Response, status int, code string) Problem {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, status, res.StatusCode, "%s", body)
	require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	var p Problem
	require.NoError(t, json.Unmarshal(body, &p), "%s", body)
	require.Equal(t, code, p.Code, "%s", body)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.ErrorCode, "Descope's clients need one")
	return p
}

// RequireOK checks that a flow has answered 200 with a JSON object that nobody
// may keep, and returns it.
func RequireOK(t testing.TB, res *http.Response) map[string]any {
	t.Helper()
	body := BodyOf(t, res)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", body)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	var object map[string]any
	require.NoError(t, json.Unmarshal(body, &object), "%s", body)
	return object
}

// BodyOf returns the body, which can be read again afterwards.
func BodyOf(t testing.TB, res *http.Response) []byte {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	res.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// CookiesOf returns the cookies that an answer sets, by name; deleted ones have
// MaxAge -1.
func CookiesOf(res *http.Response) map[string]*http.Cookie {
	cookies := make(map[string]*http.Cookie)
	for _, c := range res.Cookies() {
		cookies[c.Name] = c
	}
	return cookies
}

// RequireDeleted checks that the answer deletes the cookies of these names.
func RequireDeleted(t testing.TB, res *http.Response, names ...string) {
	t.Helper()
	cookies := CookiesOf(res)
	for _, name := range names {
		require.Contains(t, cookies, name)
		assert.Negative(t, cookies[name].MaxAge, name)
		assert.Empty(t, cookies[name].Value, name)
		assert.Equal(t, "/", cookies[name].Path, "else it deletes another one")
		assert.True(t, cookies[name].Secure, "without it a browser ignores the deletion of a __Host- cookie")
	}
}

// RequireLimited checks that the answer is a 429 that says when to come back,
// and returns when.
func RequireLimited(t testing.TB, res *http.Response) time.Duration {
	t.Helper()
	RequireProblem(t, res, http.StatusTooManyRequests, "too_many_requests")
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
	require.Empty(t, res.Cookies())
	return time.Duration(seconds) * time.Second
}
