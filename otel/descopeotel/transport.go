package descopeotel

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Transport returns a transport for Config.HTTPClient that makes a span of each call to
// Descope (OpenTelemetry, "Semantic conventions for HTTP spans"): a child of the span of the
// request that caused it, also where the call outlives the request. Key sets are fetched for
// all, and their spans have no parent. base makes the calls; nil is what the kit has by
// default. No header and no body is in a span, and none is added to the call: Descope is not
// told of traces. It is safe for concurrent use.
func Transport(base http.RoundTripper, p trace.TracerProvider) http.RoundTripper {
	if base == nil {
		base = defaultTransport()
	}
	return &transport{base: base, tracer: p.Tracer(scope, trace.WithInstrumentationVersion(version))}
}

// defaultTransport notices a line that is dead, as the kit's own does.
func defaultTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.IdleConnTimeout = 50 * time.Second
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 3 * time.Second, PingTimeout: 2 * time.Second}
	return t
}

type transport struct {
	base   http.RoundTripper
	tracer trace.Tracer
}

// Clone returns a transport with connections of its own, by which the kit leaves those that
// hang. Where base cannot be cloned it is the same.
func (t *transport) Clone() http.RoundTripper {
	base, ok := t.base.(*http.Transport)
	if !ok {
		return t
	}
	return &transport{base: base.Clone(), tracer: t.tracer}
}

// CloseIdleConnections does what base can do of it.
func (t *transport) CloseIdleConnections() {
	if idle, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	path := template(r.URL.Path)
	ctx, span := t.tracer.Start(r.Context(), r.Method+" "+path, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", r.Method),
		attribute.String("url.template", path),
		attribute.String("url.full", r.URL.Scheme+"://"+r.URL.Host+path),
		attribute.String("server.address", r.URL.Hostname()),
		attribute.Int("server.port", port(r)),
	))
	res, err := t.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		fail(span, errorType(err))
		span.End()
		return res, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
	if res.StatusCode >= 400 {
		fail(span, strconv.Itoa(res.StatusCode))
	}
	if res.Body == nil {
		span.End()
		return res, nil
	}
	res.Body = &body{ReadCloser: res.Body, span: span}
	return res, nil
}

// template is the path without the project's id.
func template(path string) string {
	if before, _, ok := strings.Cut(path, "/v2/keys/"); ok {
		return before + "/v2/keys/{project_id}"
	}
	return path
}

func port(r *http.Request) int {
	if n, err := strconv.Atoi(r.URL.Port()); err == nil {
		return n
	}
	if r.URL.Scheme == "http" {
		return 80
	}
	return 443
}

func fail(span trace.Span, errorType string) {
	span.SetAttributes(attribute.String("error.type", errorType))
	span.SetStatus(codes.Error, "") // the error's text may quote what was sent
}

func errorType(err error) string {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	return otherError
}

// A body ends the span when the answer has been read, or is not to be.
type body struct {
	io.ReadCloser
	span trace.Span
	once sync.Once
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end(nil)
	return err
}

func (b *body) end(err error) {
	b.once.Do(func() {
		if err != nil && err != io.EOF {
			fail(b.span, errorType(err))
		}
		b.span.End()
	})
}
