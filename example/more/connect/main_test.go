package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

var protocols = map[string][]connect.ClientOption{
	"Connect":  nil,
	"gRPC":     {connect.WithGRPC()},
	"gRPC-Web": {connect.WithGRPCWeb()},
}

// A shop is the service and the Descope project behind it.
type shop struct {
	project *descopetest.Server
	server  *httptest.Server
}

func start(t *testing.T) *shop {
	t.Helper()
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ada@example.com", Roles: []string{"admin"}})
	project.AddUser(descopetest.User{LoginID: "bob@example.com"})
	handler, err := newHandler(descopehttp.Config{ProjectID: project.ProjectID(), BaseURL: project.URL(), HTTPClient: project.Client()})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return &shop{project: project, server: server}
}

func call[Answer any](s *shop, procedure string, header http.Header, options []connect.ClientOption) (*connect.Response[Answer], error) {
	client := connect.NewClient[emptypb.Empty, Answer](s.server.Client(), s.server.URL+procedure, options...)
	r := connect.NewRequest(&emptypb.Empty{})
	for name, values := range header {
		r.Header()[name] = values
	}
	return client.CallUnary(context.Background(), r)
}

func bearer(tokens descopetest.Tokens) http.Header {
	return http.Header{"Authorization": {"Bearer " + tokens.Session}}
}

func TestProceduresReadTheSession(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			answer, err := call[wrapperspb.StringValue](s, greeting, bearer(s.project.SignIn("bob@example.com")), options)
			require.NoError(t, err)
			assert.Contains(t, answer.Msg.Value, "hello U")

			_, err = call[emptypb.Empty](s, closing, bearer(s.project.SignIn("ada@example.com")), options)
			require.NoError(t, err, "an admin")
		})
	}
}

func TestRefusalsAreCodes(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			_, err := call[wrapperspb.StringValue](s, greeting, nil, options)
			assert.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err), "nobody: %v", err)
			_, err = call[emptypb.Empty](s, closing, bearer(s.project.SignIn("bob@example.com")), options)
			assert.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "no admin: %v", err)
		})
	}
}

// withoutSession returns the cookies of a browser whose session is over.
func withoutSession(s *shop) http.Header {
	return http.Header{"Cookie": {"__Host-DSR=" + s.project.SignIn("bob@example.com").Refresh}}
}

func TestSessionIsRenewedOnTheWay(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			answer, err := call[wrapperspb.StringValue](s, greeting, withoutSession(s), options)
			require.NoError(t, err)
			assert.NotEmpty(t, answer.Header().Values("Set-Cookie"))
		})
	}
}

// While Descope is away nobody is told that they are signed out.
func TestOutageIsUnavailable(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.project.Fail("/v1/auth/refresh", descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
			_, err := call[wrapperspb.StringValue](s, greeting, withoutSession(s), options)
			assert.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
		})
	}
}
