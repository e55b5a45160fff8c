package main

import (
	"net/http"
	"testing"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/adaptertest"
)

func TestProgram(t *testing.T) {
	adaptertest.Program(t, config, func(auth *descopehttp.Auth) http.Handler { return newRouter(auth) })
}
