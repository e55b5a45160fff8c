package descope

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// Rule: guessing: a client cannot bring an outage about, nor hide one.
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
	switch prefix, open := strings.CutSuffix(code, "…"); {
	case open && prefix == "":
		return "E112102"
	case open:
		return prefix + "E069999"[len(prefix):]
	case code == "*":
		return ""
	}
	return code
}

// CodesOfMeanings returns a code for each row of the table.
func CodesOfMeanings() (codes []string) {
	for _, r := range meanings {
		if code := exampleOf(r.code); strings.HasPrefix(code, "E") && !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

var meaningNames = map[Meaning]string{
	NoVerdict: "NoVerdict", GatewayTrouble: "GatewayTrouble", Unknown: "Unknown", RateLimit: "RateLimit", TooManyAttempts: "TooManyAttempts",
	WrongCode: "WrongCode", UserExists: "UserExists", Malformed: "Malformed", NoProject: "NoProject", NotFound: "NotFound", Caller: "Caller",
	TokenRefused: "TokenRefused", TokenInvalid: "TokenInvalid", TokenRevoked: "TokenRevoked",
}

// MeaningName returns what an answer means, by name.
func MeaningName(status int, body string) string {
	return meaningNames[meaningOf(status, errorCode([]byte(body)))]
}

// MeaningNames returns names with those of all meanings behind them, in the order of the table.
func MeaningNames(names ...string) []string {
	for _, r := range meanings {
		if !slices.Contains(names, meaningNames[r.meaning]) {
			names = append(names, meaningNames[r.meaning])
		}
	}
	return names
}

// No row hides another one.
func TestMeanings(t *testing.T) {
	for i, r := range meanings {
		code, reached := exampleOf(r.code), 0
		for status := r.from; status <= r.to; status++ {
			if !slices.ContainsFunc(meanings[:i], func(r row) bool { return r.fits(status, code) }) {
				assert.Equal(t, r.meaning, meaningOf(status, code), "%d %s", status, code)
				reached++
			}
		}
		assert.NotZero(t, reached, "row %d", i)
	}
}

func TestRetryAfterOfDescope(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "-3": 0, "soon": 0, "1.5": 0,
		"1": time.Second, "299": 299 * time.Second, "301": maxRetryAfter, "9223372036": maxRetryAfter, "99999999999999999999": 0,
	} {
		assert.Equal(t, want, retryAfter(http.Header{"Retry-After": {header}}), header)
	}
}

type timeoutError struct{ timeout bool }

func (e timeoutError) Error() string { return "secret-in-an-error" }
func (e timeoutError) Timeout() bool { return e.timeout }

// Rule: guessing: a client cannot bring an outage about, nor hide one.
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
