package descope

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp/internal/problem"
)

func TestWhatAStatusMeans(t *testing.T) {
	for _, tt := range []struct {
		status      int
		body        string
		code        string // of a refusal
		unreachable bool
	}{
		{400, `{"errorCode":"E011003"}`, "E011003", false},
		{401, `{"errorCode":"E061005","errorCode":"E061005"}`, "E061005", false},
		{499, `{"errorCode":"E061005"}`, "E061005", false},
		{401, `{"errorCode":"E0610"}`, "E0610", false},
		{401, `{"errorCode":"E061005123"}`, "E061005123", false},
		{401, `{"errorCode":"E0610051234"}`, "", false},
		{401, `{"errorCode":"E061"}`, "", false},
		{401, `{"errorCode":"e061005"}`, "", false},
		{401, `{"errorCode":"E061005 "}`, "", false},
		{401, `{"errorCode":7}`, "", false},
		{401, `{"ErrorCode":"E061005"}`, "", false},
		{401, `E061005`, "", false},
		{401, ``, "", false},
		{403, `<html>`, "", false},
		{200 + 100, `{"errorCode":"E061005"}`, "", false},
		{500, `{"errorCode":"E061005"}`, "", false},
		{501, ``, "", false},
		{502, `{"errorCode":"E061005"}`, "", true},
		{503, ``, "", true},
		{504, ``, "", true},
		{505, ``, "", false},
		{519, ``, "", false},
		{520, ``, "", true},
		{530, ``, "", true},
		{531, ``, "", false},
	} {
		err := Rules{}.statusFailure(&http.Response{StatusCode: tt.status, Header: http.Header{}}, []byte(tt.body))
		var refused *Refusal
		if tt.code != "" {
			if assert.ErrorAs(t, err, &refused, "%d %s", tt.status, tt.body) {
				assert.Equal(t, tt.code, refused.Code)
				assert.Equal(t, tt.status, refused.Status)
			}
			continue
		}
		assert.False(t, errors.As(err, &refused), "%d %s", tt.status, tt.body)
		f := problem.Of(err)
		assert.Equal(t, problem.Unavailable, f.Problem)
		assert.Equal(t, tt.unreachable, ReachOf(err) == Unreached, tt.status)
		assert.Contains(t, f.Error(), strconv.Itoa(tt.status))
		assert.NotErrorIs(t, err, ErrLimit)
	}
	for _, body := range []string{``, `<html>`, `{}`, `{"errorCode":"E130429"}`} {
		err := Rules{}.statusFailure(&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"7"}}}, []byte(body))
		assert.ErrorIs(t, err, ErrLimit, body)
		assert.Equal(t, 7*time.Second, problem.Of(err).RetryAfter)
	}
	err := Rules{}.statusFailure(&http.Response{StatusCode: 429, Header: http.Header{}}, []byte(`{"errorCode":"E061005"}`))
	assert.NotErrorIs(t, err, ErrLimit, "about this token, and nobody else's trouble")
	assert.True(t, EndsSession(err))
}

// exampleOf returns a code that fits a row's.
func exampleOf(code string) string {
	prefix, open := strings.CutSuffix(code, "…")
	if open {
		return prefix + "E069999"[len(prefix):]
	}
	return code
}

// Every row of the table is reached, at every status that it speaks of.
func TestMeanings(t *testing.T) {
	for i, r := range meanings {
		code := exampleOf(r.code)
		for _, status := range []int{400, 401, 403, 404, 409, 429} {
			if r.status == 0 && status != 404 && status != 429 || r.status == status {
				assert.Equal(t, r.meaning, meaningOf(status, code), "row %d, %d %s", i, status, code)
			}
		}
	}
	assert.Equal(t, Unknown, meaningOf(400, "E069999"))
	assert.Equal(t, Unknown, meaningOf(403, "E112102"))
	assert.Equal(t, Unknown, meaningOf(401, ""))
}

func TestRetryAfterOfDescope(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": problem.DefaultRetryAfter, "0": problem.DefaultRetryAfter, "-3": problem.DefaultRetryAfter, "soon": problem.DefaultRetryAfter, "1.5": problem.DefaultRetryAfter,
		"1": time.Second, "299": 299 * time.Second, "301": maxRetryAfter, "9223372036": maxRetryAfter, "99999999999999999999": problem.DefaultRetryAfter,
	} {
		assert.Equal(t, want, retryAfter(http.Header{"Retry-After": {header}}), header)
	}
}

type timeoutError struct{ timeout bool }

func (e timeoutError) Error() string { return "secret-in-an-error" }
func (e timeoutError) Timeout() bool { return e.timeout }

func TestWhatATransportErrorMeans(t *testing.T) {
	for _, tt := range []struct {
		err                  error
		reason               string
		timeout, unreachable bool
	}{
		{errors.New("secret-in-an-error"), "connection to Descope failed", false, true},
		{timeoutError{true}, "Descope did not answer in time", true, true},
		{timeoutError{false}, "connection to Descope failed", false, true},
		{os.ErrDeadlineExceeded, "Descope did not answer in time", true, true},
		{context.DeadlineExceeded, "Descope did not answer in time", true, true},
		{fmt.Errorf("secret-in-an-error %w", context.Canceled), "the call to Descope was cancelled", false, false},
		{&net.DNSError{Name: "secret-in-an-error"}, "Descope's host name was not resolved", false, true},
		{&tls.CertificateVerificationError{Err: errors.New("secret-in-an-error")}, "Descope's certificate was not trusted", false, true},
		{errTransportPanic, "the HTTP transport panicked", false, true},
	} {
		err := transportFailure(fmt.Errorf("secret-in-an-error: %w", tt.err))
		f := problem.Of(err)
		assert.Equal(t, problem.Unavailable, f.Problem)
		assert.Equal(t, tt.reason, f.Reason)
		assert.Equal(t, tt.timeout, f.Timeout, tt.reason)
		assert.Equal(t, tt.unreachable, ReachOf(err) == Unreached, tt.reason)
		assert.NotContains(t, fmt.Sprintf("%v %+v", err, err.Error()), "secret")
	}
}
