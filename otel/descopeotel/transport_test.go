package descopeotel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/otel/descopeotel"
)

type tracer struct {
	*tracetest.SpanRecorder
	*sdktrace.TracerProvider
}

func newTracer() tracer {
	recorder := tracetest.NewSpanRecorder()
	return tracer{recorder, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))}
}

func (x tracer) config(c *descopehttp.Config) {
	c.HTTPClient = &http.Client{Transport: descopeotel.Transport(c.HTTPClient.Transport, x)}
}

// take returns the spans that have ended since the last call, in words.
func (x tracer) take() (spans []string) {
	for _, s := range x.Ended() {
		words := []string{s.Name(), s.SpanKind().String()}
		for _, kv := range s.Attributes() {
			words = append(words, string(kv.Key)+"="+kv.Value.String())
		}
		spans = append(spans, strings.Join(words, " "))
	}
	x.Reset()
	return spans
}

// traced is a request with a span.
func traced(x tracer, r *http.Request) (*http.Request, trace.Span) {
	ctx, span := x.Tracer("test").Start(r.Context(), "request")
	return r.WithContext(ctx), span
}

// A call to Descope is a child of the request that caused it, also where it outlives it.
func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTracer()
		k, b := kittest.NewRotating(t, x.config)
		keys := x.Ended()[0]
		assert.False(t, keys.Parent().IsValid(), "for all")
		server := strings.TrimPrefix(k.Project.URL(), "http://")
		server, _, _ = strings.Cut(strings.TrimPrefix(server, "https://"), ":")
		assert.Contains(t, x.take()[0], "GET /v2/keys/{project_id} client http.request.method=GET url.template=/v2/keys/{project_id}")

		r, span := traced(x, kittest.Get("/"))
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), r).StatusCode)
		require.NoError(t, k.Wait(t.Context()))
		ended := x.Ended()
		require.Len(t, ended, 1)
		assert.Equal(t, span.SpanContext().SpanID(), ended[0].Parent().SpanID())
		assert.Equal(t, codes.Unset, ended[0].Status().Code)
		text := x.take()[0]
		for _, want := range []string{"POST /v1/auth/refresh client", "server.address=" + server, "http.response.status_code=200"} {
			assert.Contains(t, text, want)
		}

		kittest.Elapse(kittest.Past)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Status: 503})
		b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		assert.Equal(t, codes.Error, x.Ended()[0].Status().Code)
		assert.Contains(t, x.take()[0], "http.response.status_code=503 error.type=503")
		kittest.Elapse(kittest.Past)
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true})
		b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/"))
		assert.Equal(t, codes.Error, x.Ended()[0].Status().Code)
		assert.Contains(t, x.take()[0], "error.type=_OTHER")
	})
}

// Whatever a span holds is printed here, while secrets pass by.
func TestNoSecretInASpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTracer()
		k := kittest.New(t, x.config, func(c *descopehttp.Config) { c.AuthManagementKey = descopehttp.NewSecret("K2topsecret") })
		k.Project.Configure(func(s *descopetest.Settings) { s.RotateRefresh, s.AuthManagementKey = true, "K2topsecret" })
		b, code := new(kittest.Browser), k.Project.Code(kittest.Ada)
		secrets := []string{kittest.Ada, code, "K2topsecret", "eyJ", k.Project.ProjectID(), "U2", "Bearer"}
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Ada, code))).StatusCode)
		secrets = append(secrets, b.Session, b.Refresh)
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.UpdatePath, fmt.Sprintf(`{"loginId":%q}`, kittest.Ada))).StatusCode)
		kittest.Elapse(kittest.Past)
		require.Equal(t, http.StatusOK, b.Do(k.RequireSession(new(kittest.Spy)), kittest.Get("/")).StatusCode)
		k.Project.Fail(kittest.LogoutPath, descopetest.Fault{Status: 401, Body: `{"errorCode":"E061004","errorDescription":"` + kittest.Ada + `"}`})
		kittest.Logout(k, b)
		ended := x.Ended()
		require.Greater(t, len(ended), 4)
		for _, s := range ended {
			text := fmt.Sprintf("%s %v %v %v %v", s.Name(), s.Attributes(), s.Events(), s.Links(), s.Status())
			for _, secret := range secrets {
				assert.NotContains(t, text, secret)
			}
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The transport adds nothing to a call and takes nothing from its answer.
func TestTransportIsTransparent(t *testing.T) {
	x := newTracer()
	var header http.Header
	client := &http.Client{Transport: descopeotel.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		header = r.Header
		return &http.Response{StatusCode: 200, Header: http.Header{"A": {"b"}}, Body: io.NopCloser(strings.NewReader("body"))}, nil
	}), x)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.descope.com/v1/auth/me?secret=1", nil)
	require.NoError(t, err)
	res, err := client.Do(r)
	require.NoError(t, err)
	assert.Empty(t, x.Ended(), "the answer has not been read")
	content, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "body", string(content))
	assert.Len(t, x.Ended(), 1)
	require.NoError(t, res.Body.Close())
	assert.Len(t, x.Ended(), 1, "once")
	assert.Empty(t, header)
	assert.Equal(t, []string{"GET /v1/auth/me client http.request.method=GET url.template=/v1/auth/me url.full=https://api.descope.com/v1/auth/me server.address=api.descope.com server.port=443 http.response.status_code=200"}, x.take())

	client.Transport = descopeotel.Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded }), x)
	_, err = client.Do(r)
	assert.True(t, errors.Is(err, context.DeadlineExceeded))
	assert.Contains(t, x.take()[0], "error.type=timeout")
}

// The kit leaves connections that hang, through this transport as well.
func TestTransportIsCloned(t *testing.T) {
	type cloner interface{ Clone() http.RoundTripper }
	own, ok := descopeotel.Transport(nil, newTracer()).(cloner)
	require.True(t, ok)
	assert.NotSame(t, own, own.Clone())
	own.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	other := descopeotel.Transport(roundTripper(nil), newTracer()).(cloner)
	assert.Equal(t, other, other.Clone())
}
