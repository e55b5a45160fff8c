package kittest

import (
	"net/http"
	"testing"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// A Flow is a good request to one flow.
type Flow struct {
	Path     string
	Upstream string // the call that decides about the answer
	Request  func(*Kit, descopetest.Tokens) *http.Request
	Tokens   bool // its answer carries tokens
}

// Anonymous reports whether anybody can call the flow. Only there a limit of
// Descope's is the client's to know.
func (c Flow) Anonymous() bool {
	return c.Upstream == SignUpPath || c.Upstream == VerifyPath
}

// Flows are all of them, as a user of [NewForFlows] calls them.
var Flows = []Flow{
	{SignUpPath, SignUpPath, func(*Kit, descopetest.Tokens) *http.Request {
		return Post(SignUpPath, `{"loginId":"new@example.com"}`)
	}, false},
	{VerifyPath, VerifyPath, func(k *Kit, _ descopetest.Tokens) *http.Request {
		return Post(VerifyPath, `{"loginId":"`+Bob+`","code":"`+k.Project.Code(Bob)+`"}`)
	}, true},
	{"step-up", VerifyPath, func(k *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, VerifyPath, `{"loginId":"`+Bob+`","code":"`+k.Project.Code(Bob)+`","loginOptions":{"stepup":true}}`)
	}, true},
	{UpdatePath, UpdatePath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, UpdatePath, `{"loginId":"`+Bob+`"}`)
	}, false},
	{"whose update", MePath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, UpdatePath, `{"loginId":"`+Bob+`"}`)
	}, false},
	{RefreshPath, RefreshPath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, RefreshPath, ``)
	}, true},
	{TryRefreshPath, RefreshPath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, TryRefreshPath, ``)
	}, true},
	{LogoutPath, LogoutPath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, LogoutPath, `{}`)
	}, false},
	{LogoutAllPath, LogoutAllPath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, LogoutAllPath, `{}`)
	}, false},
	{MePath, MePath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return WithCookies(Get(MePath), t.Session, t.Refresh)
	}, false},
	{HistoryPath, HistoryPath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return WithCookies(Get(HistoryPath), t.Session, t.Refresh)
	}, false},
	{TenantsPath, TenantsPath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, TenantsPath, `{}`)
	}, false},
	{SelectPath, SelectPath, func(_ *Kit, t descopetest.Tokens) *http.Request {
		return SignedInPost(t, SelectPath, `{"tenant":"T2"}`)
	}, true},
}

// NewForFlows returns a kit with a user who has a tenant to select. There are
// hundreds of them, so the project has keys that are quick to make and to use.
func NewForFlows(t testing.TB, tap *Wiretap, edits ...func(*descopehttp.Config)) *Kit {
	t.Helper()
	k := New(t, append([]func(*descopehttp.Config){tap.Config}, edits...)...)
	k.Project.Configure(func(s *descopetest.Settings) { s.Alg = "ES256" })
	k.Project.AddUser(descopetest.User{LoginID: Bob, Tenants: map[string]descopetest.Tenant{"T2": {}}})
	return k
}

// Settle ends a bubble, of a test that has failed too: what is bounded in time
// ends, and what is not makes synctest panic.
func Settle() { Elapse(time.Minute) }
