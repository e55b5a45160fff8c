package problem

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// DefaultRetryAfter is what a client that has to wait is told where nothing better
// is known.
const DefaultRetryAfter = 5 * time.Second

// Write answers for the middleware.
func Write(w http.ResponseWriter, f *Failure) { writeDocument(w, f, f.Status) }

// WriteFlow answers for a flow. Descope's browser clients forget their
// tokens on any 4xx of a session call, and hold their callers for ten seconds
// on a 503; "cannot tell" is therefore a 502 or a 504 there.
func WriteFlow(w http.ResponseWriter, f *Failure) {
	status := cmp.Or(f.flow, f.Status)
	if f.Timeout {
		status = http.StatusGatewayTimeout
	}
	writeDocument(w, f, status)
}

// A document is the body of every answer that is an error.
type document struct {
	Type   string `json:"type"` // RFC 9457, section 3.1.1
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Field  string `json:"field,omitzero"`

	ErrorCode        string `json:"errorCode"`
	ErrorDescription string `json:"errorDescription"`
	ErrorMessage     string `json:"errorMessage"`
}

func writeDocument(w http.ResponseWriter, f *Failure, status int) {
	h := w.Header()
	if status == http.StatusUnauthorized {
		challenge := "Bearer"
		if f.challenge != "" {
			challenge += " " + f.challenge
		}
		if f.MaxAge > 0 { // RFC 9470, section 3
			challenge += ", max_age=" + strconv.Itoa(int(f.MaxAge/time.Second))
		}
		h.Set("WWW-Authenticate", challenge)
	}
	AnnounceRetry(h, f)
	if f.Allow != "" {
		h.Set("Allow", f.Allow)
	}
	body, err := json.Marshal(&document{
		Type:             "about:blank",
		Title:            http.StatusText(status),
		Status:           status,
		Detail:           f.Detail(),
		Code:             f.Code,
		Field:            f.Field,
		ErrorCode:        f.errorCode,
		ErrorDescription: http.StatusText(status),
		ErrorMessage:     f.Detail(),
	})
	if err != nil {
		panic(err) // fixed strings always encode
	}
	WriteJSON(w, status, "application/problem+json", body)
}

// AnnounceRetry sets Retry-After where waiting helps.
func AnnounceRetry(h http.Header, f *Failure) {
	if wait := f.Wait(); wait > 0 {
		h.Set("Retry-After", retryAfterSeconds(wait))
	}
}

// WriteJSON answers with JSON, as every answer of the kit does. None may be kept
// by a browser or a proxy: it is about one user, or about now.
func WriteJSON(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body) // an error here means that the client has gone
}

// retryAfterSeconds rounds up: a client that came back a moment early would only
// be sent away again.
func retryAfterSeconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}
