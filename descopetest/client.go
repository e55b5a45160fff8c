package descopetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// baseURL is under a top-level domain that is nobody's (RFC 6761, section 6.2):
// a request that misses the in-memory transport reaches no one.
const baseURL = "https://api.descope.test"

// errDropped is what a client sees of a connection that ends without an answer.
var errDropped = fmt.Errorf("descopetest: connection dropped: %w", io.ErrUnexpectedEOF)

// URL returns the base URL to configure a client with. [Server.Client] takes
// every URL for the project's; this one is valid, and resolves nowhere.
func (s *Server) URL() string { return baseURL }

// Client returns a client whose requests reach the project in memory, whatever
// their host. It uses no socket and no goroutine, so it works inside a
// synctest bubble. A request whose context ends gets the context's error. All
// clients of a Server are alike and may be changed.
func (s *Server) Client() *http.Client {
	// A func value, since fmt looks through pointers in a client it prints.
	return &http.Client{Transport: transport{s.ServeHTTP}}
}

// transport calls the handler in the goroutine of the caller. That never blocks
// longer than the request's context allows: all that waits in the handler is a
// fault's delay, and that ends with it.
type transport struct{ serve http.HandlerFunc }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if req.URL == nil {
		return nil, errors.New("descopetest: request without a URL")
	}
	w := &recorder{header: http.Header{}}
	aborted := w.record(t.serve, serverRequest(req))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if aborted && w.status == 0 {
		return nil, errDropped
	}
	return w.response(req, aborted), nil
}

// serverRequest returns req as a server gets to see it.
func serverRequest(req *http.Request) *http.Request {
	r := req.Clone(req.Context())
	r.URL.Scheme, r.URL.Host = "", ""
	r.RequestURI = r.URL.RequestURI()
	r.RemoteAddr = "192.0.2.1:1234" // RFC 5737, documentation
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if r.Host == "" {
		r.Host = req.URL.Host
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	return r
}

// A recorder is a ResponseWriter into memory.
type recorder struct {
	header http.Header
	status int
	sent   http.Header // as it was when the status was written
	body   bytes.Buffer
}

// record runs h and reports whether it aborted the connection.
func (w *recorder) record(h http.Handler, r *http.Request) (aborted bool) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			aborted = true
		default:
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.sent = w.header.Clone()
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// response returns what was recorded; cut tells that the connection ended
// before the body did.
func (w *recorder) response(req *http.Request, cut bool) *http.Response {
	w.WriteHeader(http.StatusOK)
	res := &http.Response{
		Status:        fmt.Sprintf("%03d %s", w.status, http.StatusText(w.status)),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		ContentLength: int64(w.body.Len()),
		Request:       req,
	}
	body := &body{ctx: req.Context(), data: &w.body, end: io.EOF}
	if cut {
		res.ContentLength = -1
		body.end = io.ErrUnexpectedEOF
	}
	res.Body = body
	return res
}

// A body is read under the context of its request, as one from a socket is.
type body struct {
	ctx    context.Context
	data   *bytes.Buffer
	end    error // after the last byte
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.data.Len() == 0 {
		return 0, b.end
	}
	return b.data.Read(p)
}

func (b *body) Close() error {
	b.closed = true
	return nil
}
