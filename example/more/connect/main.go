// Connect is a service of connectrpc.com/connect behind the middleware: a refusal reaches
// its clients as the code that they know, and a procedure reads the session. It speaks
// Connect, gRPC and gRPC-Web. The messages are types that protobuf brings along, so that
// there is no generated code to read.
//
//	DESCOPE_PROJECT_ID=P2… go run ./connect
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/descopehttp/descopehttp"
)

const (
	greeting = "/shop.v1.Shop/Hello"
	closing  = "/shop.v1.Shop/Close"
)

func main() {
	handler, err := newHandler(descopehttp.Config{
		ProjectID: os.Getenv("DESCOPE_PROJECT_ID"),
		BaseURL:   os.Getenv("DESCOPE_BASE_URL"), // empty: Descope's own
	})
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Addr: "127.0.0.1:8080", Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // gRPC, where nothing in front speaks TLS
	log.Fatal(server.ListenAndServe())
}

// newHandler guards each procedure by its path, as any other route. A refusal is an answer
// of HTTP: clients take 401 for Unauthenticated, 403 for PermissionDenied and 503 for
// Unavailable, which is never "signed out".
func newHandler(cfg descopehttp.Config) (http.Handler, error) {
	auth, err := descopehttp.New(cfg)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", auth.Handler())
	mux.Handle(greeting, auth.RequireSession(connect.NewUnaryHandler(greeting, hello)))
	mux.Handle(closing, auth.Require(descopehttp.Role("admin"))(connect.NewUnaryHandler(closing, closeShop)))
	return mux, nil
}

func hello(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[wrapperspb.StringValue], error) {
	session, _ := descopehttp.SessionFromContext(ctx) // RequireSession saw to it
	return connect.NewResponse(wrapperspb.String("hello " + session.Subject())), nil
}

func closeShop(context.Context, *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
	return connect.NewResponse(&emptypb.Empty{}), nil
}
