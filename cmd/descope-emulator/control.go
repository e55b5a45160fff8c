package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/descopetest"
)

const controlPrefix = "/_emulator/"

// Bounds on a request that drives the emulator.
const (
	maxControlBody = 64 << 10 // bytes
	maxUserBody    = 4 << 10  // of a user, who is kept
	maxDelay       = time.Minute
)

// A control is what tests in any language drive the project through.
type control struct {
	project *descopetest.Server
	host    string // by which others may drive it, too
	origin  *http.CrossOriginProtection
	routes  map[string]controlRoute
}

type controlRoute struct {
	method string
	serve  func(*http.Request) (any, error)
}

func newControl(project *descopetest.Server, host string) *control {
	c := &control{project: project, host: host, origin: http.NewCrossOriginProtection()}
	c.routes = map[string]controlRoute{
		"requests":    {http.MethodGet, c.requests},
		"reset":       {http.MethodPost, c.reset},
		"rotate-keys": {http.MethodPost, c.rotateKeys},
		"fail":        {http.MethodPost, c.fail},
		"code":        {http.MethodGet, c.code},
		"users":       {http.MethodPost, c.users},
	}
	return c
}

// A controlError is an answer other than 200.
type controlError struct {
	status int
	text   string
}

func (e *controlError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &controlError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// serve answers a request for a path of the given name.
func (c *control) serve(w http.ResponseWriter, r *http.Request, name string) {
	result, err := c.do(w.Header(), r, name)
	if err == nil {
		writeJSON(w, http.StatusOK, result)
		return
	}
	status := http.StatusBadRequest
	var refused *controlError
	if errors.As(err, &refused) {
		status = refused.status
	}
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

func (c *control) do(header http.Header, r *http.Request, name string) (any, error) {
	if err := c.checkSender(r); err != nil {
		return nil, err
	}
	route, ok := c.routes[name]
	if !ok {
		return nil, &controlError{http.StatusNotFound, "there is no such path"}
	}
	if r.Method != route.method {
		header.Set("Allow", route.method)
		return nil, &controlError{http.StatusMethodNotAllowed, "this path takes " + route.method}
	}
	return route.serve(r)
}

// checkSender refuses what a page of another site may have sent. Such a page
// either says so in Origin or Sec-Fetch-Site, or it has made its own name lead
// here (DNS rebinding) and says that in Host.
func (c *control) checkSender(r *http.Request) error {
	if !c.isOwnHost(r) {
		return &controlError{http.StatusForbidden, "Host must be a loopback address, the one that is listened on, or that of -host"}
	}
	// The check lets every GET pass. Codes must not be read by others either.
	post := *r
	post.Method = http.MethodPost
	if c.origin.Check(&post) != nil {
		return &controlError{http.StatusForbidden, "pages of another origin may not drive the emulator"}
	}
	return nil
}

func (c *control) isOwnHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if isLoopback(host) || c.host != "" && strings.EqualFold(host, c.host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return err == nil && ok && ip.Unmap() == local.AddrPort().Addr().Unmap()
}

// nothing is the answer to what has been done.
type nothing struct{}

func (c *control) requests(*http.Request) (any, error) {
	return c.project.RequestCounts(), nil
}

func (c *control) reset(r *http.Request) (any, error) {
	if err := decode(r, &nothing{}, maxControlBody); err != nil {
		return nil, err
	}
	c.project.Reset()
	return nothing{}, nil
}

func (c *control) rotateKeys(r *http.Request) (any, error) {
	var in struct {
		Revoke bool `json:"revoke"`
	}
	if err := decode(r, &in, maxControlBody); err != nil {
		return nil, err
	}
	if in.Revoke {
		c.project.RevokeKeys()
	} else {
		c.project.RotateKeys()
	}
	return nothing{}, nil
}

func (c *control) fail(r *http.Request) (any, error) {
	var in struct {
		Path    string `json:"path"`
		Status  int    `json:"status"`
		Times   int    `json:"times"`
		DelayMS int64  `json:"delayMs"`
		Body    string `json:"body"`
		Drop    bool   `json:"drop"`
	}
	if err := decode(r, &in, maxControlBody); err != nil {
		return nil, err
	}
	if in.DelayMS < 0 || in.DelayMS > maxDelay.Milliseconds() {
		return nil, badRequest("delayMs must be between 0 and %d", maxDelay.Milliseconds())
	}
	return nothing{}, misuse(func() {
		c.project.Fail(in.Path, descopetest.Fault{
			Status: in.Status,
			Times:  in.Times,
			Delay:  time.Duration(in.DelayMS) * time.Millisecond,
			Body:   in.Body,
			Drop:   in.Drop,
		})
	})
}

func (c *control) code(r *http.Request) (any, error) {
	loginID := r.URL.Query().Get("loginId")
	if !c.project.HasUser(loginID) {
		return nil, &controlError{http.StatusNotFound, "there is no user with this loginId"}
	}
	const step = 30 // seconds; RFC 6238, section 4.1
	return struct {
		Code        string `json:"code"`
		SecondsLeft int64  `json:"secondsLeft"` // until another code takes its place
	}{c.project.Code(loginID), step - time.Now().Unix()%step}, nil
}

type tenant struct {
	Name        string   `json:"name"`
	Roles       []string `json:"roles"`
	Permissions []string `json:"permissions"`
}

func (c *control) users(r *http.Request) (any, error) {
	var in struct {
		LoginID      string            `json:"loginId"`
		Name         string            `json:"name"`
		Email        string            `json:"email"`
		Phone        string            `json:"phone"`
		Roles        []string          `json:"roles"`
		Permissions  []string          `json:"permissions"`
		Tenants      map[string]tenant `json:"tenants"`
		Tenant       string            `json:"tenant"`
		CustomClaims map[string]any    `json:"customClaims"`
	}
	if err := decode(r, &in, maxUserBody); err != nil {
		return nil, err
	}
	user := descopetest.User{
		LoginID: in.LoginID, Name: in.Name, Email: in.Email, Phone: in.Phone,
		Roles: in.Roles, Permissions: in.Permissions,
		Tenants: make(map[string]descopetest.Tenant, len(in.Tenants)), Tenant: in.Tenant,
		CustomClaims: in.CustomClaims,
	}
	for id, t := range in.Tenants {
		user.Tenants[id] = descopetest.Tenant(t)
	}
	return nothing{}, misuse(func() { c.project.AddUser(user) })
}

// decode reads the body of a request, one JSON object of up to limit bytes or
// nothing at all. A name that v does not have is more likely a slip than a wish
// to have it ignored.
func decode(r *http.Request, v any, limit int64) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return badRequest("the body could not be read")
	case int64(len(body)) > limit:
		return &controlError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d KiB", limit>>10)}
	case len(bytes.TrimSpace(body)) == 0:
		return nil
	case jsontext.Value(body).Kind() != '{':
		return badRequest("the body is not a JSON object")
	}
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		return badRequest("the body does not decode: %v", err)
	}
	return nil
}

// writeJSON answers with v. No page may embed it, and no cache may keep it.
func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	body, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // strings, numbers and maps of them always encode
	}
	w.WriteHeader(status)
	w.Write(body) // an error here means that the client has gone
}
