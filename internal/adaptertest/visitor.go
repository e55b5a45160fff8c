package adaptertest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// patience is how long an event is waited for that an honest adapter brings
// about at once. A client waits for twice as long, to see what comes of it.
const patience = 10 * time.Second

// ann is an admin of the project, and owner of its tenant acme. Bob is neither.
const ann = "ann@example.com"

func newProject() *descopetest.Server {
	project := descopetest.NewServer()
	project.Configure(func(t *descopetest.Settings) {
		t.RotateRefresh = true
		t.Alg = "ES256" // a contract takes two thousand signatures
	})
	project.AddUser(descopetest.User{
		LoginID: ann,
		Roles:   []string{"admin"},
		Tenants: map[string]descopetest.Tenant{"acme": {Roles: []string{"owner"}}},
	})
	project.AddUser(descopetest.User{LoginID: kittest.Bob})
	return project
}

// A gate is the way to the project; hold may delay who passes.
type gate struct {
	base http.RoundTripper
	mu   sync.Mutex
	hold func(*http.Request)
}

func (g *gate) set(hold func(*http.Request)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = hold
}

// RoundTrip implements [http.RoundTripper].
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	hold := g.hold
	g.mu.Unlock()
	if hold != nil {
		hold(r)
	}
	return g.base.RoundTrip(r)
}

// A visitor puts requests to one application and writes down what is answered.
type visitor struct {
	site    *Site
	project *descopetest.Server
	gate    *gate
	addr    string

	transcript strings.Builder
	login      string // of the user who signs up, if any

	// Events. The channels have room for more than an honest adapter sends, so
	// that a handler that runs too often does not hang.
	arrived  chan struct{} // a request reached the application
	started  chan struct{} // the page runs
	uploaded chan string   // the file that the page has read an upload from
	ended    chan error    // the page saw its context end, or did not
}

func newVisitor(s *Site, project *descopetest.Server, gate *gate) *visitor {
	return &visitor{
		site: s, project: project, gate: gate,
		arrived:  make(chan struct{}, 1000),
		started:  make(chan struct{}, 10),
		uploaded: make(chan string, 10),
		ended:    make(chan error, 10),
	}
}

// A request is written as it is, so that what reaches both applications is equal.
type request struct {
	method, path string
	header       []string // lines
	body         string
}

func (q request) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n", q.method, q.path)
	for _, line := range q.header {
		b.WriteString(line + "\r\n")
	}
	if q.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.body))
	}
	b.WriteString("\r\n" + q.body)
	return b.Bytes()
}

// An answer is all that came back on one connection.
type answer struct {
	raw    []byte
	status int
	header http.Header
	body   []byte
	ran    int32 // how often the page ran for it
	failed int32 // how often the framework's error handler did
}

// dial sends a request on a connection of its own.
func (v *visitor) dial(q request) (net.Conn, error) {
	conn, err := net.Dial("tcp", v.addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(2 * patience))
	if _, err := conn.Write(q.bytes()); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// send puts one request and returns the answer.
func (v *visitor) send(q request) (*answer, error) {
	ran, failed := v.site.ran.Load(), v.site.failed.Load()
	conn, err := v.dial(q)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The server closes the connection when all handlers have returned, so the
	// counts are final then.
	raw, err := io.ReadAll(conn)
	if err != nil {
		return nil, fmt.Errorf("%s %s: no whole answer: %w", q.method, q.path, err)
	}
	a, err := parse(q.method, raw)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", q.method, q.path, err)
	}
	a.ran, a.failed = v.site.ran.Load()-ran, v.site.failed.Load()-failed
	return a, nil
}

// ask is send, and writes the answer down.
func (v *visitor) ask(q request) (*answer, error) {
	a, err := v.send(q)
	if err == nil {
		v.note(q, a)
	}
	return a, err
}

func (v *visitor) note(q request, a *answer) {
	n := normalizer{login: v.login}
	fmt.Fprintf(&v.transcript, "> %s %s\n%s\n(the page ran %d times)\n", q.method, q.path, n.normalize(a), a.ran)
}

func parse(method string, raw []byte) (*answer, error) {
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: method})
	if err != nil {
		return nil, fmt.Errorf("not an answer: %w", err)
	}
	defer res.Body.Close()
	a := &answer{raw: raw, status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(res.Body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return a, nil
}

// cookies tells what the answer does to the session cookies.
func (a *answer) cookies() string {
	var did []string
	for _, line := range a.header["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		switch {
		case err != nil:
			did = append(did, "garbled")
		case c.MaxAge < 0:
			did = append(did, "deleted "+c.Name)
		default:
			did = append(did, "set "+c.Name)
		}
	}
	slices.Sort(did)
	return strings.Join(did, ", ")
}

// What cookies returns.
const (
	kept    = ""
	set     = "set " + kittest.SessionCookie + ", set " + kittest.RefreshCookie
	deleted = "deleted " + kittest.SessionCookie + ", deleted " + kittest.RefreshCookie
)

// values returns the cookies that the answer sets as a request header.
func (a *answer) values() string {
	var pairs []string
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return "Cookie: " + strings.Join(pairs, "; ")
}

// problem checks that the answer is a problem document with that status and
// code, and nothing else.
func (a *answer) problem(q request, status int, code string) error {
	if a.status != status {
		return fmt.Errorf("%s %s is answered %d, want %d %s", q.method, q.path, a.status, status, code)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		return fmt.Errorf("%s %s is answered with Content-Type %q, want a problem document", q.method, q.path, ct)
	}
	if q.method == http.MethodHead {
		return nil
	}
	var document struct {
		Status int
		Code   string
	}
	if err := json.Unmarshal(a.body, &document); err != nil {
		return fmt.Errorf("%s %s: the body is not one problem document and nothing else: %q", q.method, q.path, a.body)
	}
	if document.Status != status || document.Code != code {
		return fmt.Errorf("%s %s is answered with the problem %d %s, want %d %s", q.method, q.path, document.Status, document.Code, status, code)
	}
	return nil
}

// A normalizer gives names to what cannot be the same in two answers:
//
//   - the Date header is left out;
//   - tokens, anywhere, are <DS> and <DSR>: each application has its own;
//   - how long a cookie lives, unless it is deleted, and how long to wait are
//     <seconds>, and points in time are <time>: the two are asked one after the
//     other;
//   - ids of users are <user>, the login id of who signs up is <login>, and what
//     a sign-up answers is <secret>, for each application signs up a user of its
//     own. A Content-Length that counts such secrets must be right, and is
//     <length>.
type normalizer struct{ login string }

var (
	jwtPattern     = regexp.MustCompile(`eyJ[\w-]+\.([\w-]+)\.[\w-]+`)
	lifePattern    = regexp.MustCompile(`(Max-Age=|Retry-After: |"cookieMaxAge":)[1-9]\d*`)
	timePattern    = regexp.MustCompile(`\b1\d{9}\b`)
	userPattern    = regexp.MustCompile(`\bU2\w{26}\b`)
	secretPattern  = regexp.MustCompile(`"(key|image|provisioningURL)":"[^"]+"`)
	datePattern    = regexp.MustCompile(`(?m)^Date: .*\r\n`)
	lengthPattern  = regexp.MustCompile(`(?m)^Content-Length: (\d+)\r$`)
	lengthOfSecret = "Content-Length: <length>\r"
)

func (n normalizer) normalize(a *answer) string {
	head, body, _ := strings.Cut(string(a.raw), "\r\n\r\n")
	head = datePattern.ReplaceAllString(head+"\r\n", "")
	if secretPattern.MatchString(body) {
		head = lengthPattern.ReplaceAllStringFunc(head, func(line string) string {
			if lengthPattern.FindStringSubmatch(line)[1] == strconv.Itoa(len(body)) {
				return lengthOfSecret
			}
			return line
		})
		body = secretPattern.ReplaceAllString(body, `"$1":"<secret>"`)
	}
	text := head + "\r\n" + body
	text = jwtPattern.ReplaceAllStringFunc(text, nameOfToken)
	text = lifePattern.ReplaceAllString(text, "$1<seconds>")
	text = timePattern.ReplaceAllString(text, "<time>")
	text = userPattern.ReplaceAllString(text, "<user>")
	if n.login != "" {
		text = strings.ReplaceAll(text, n.login, "<login>")
	}
	return text
}

func nameOfToken(token string) string {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var claims struct{ DRN string }
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return token
	}
	return "<" + claims.DRN + ">"
}

// Credentials, each made anew for every request. They are header lines.

func nothing(*descopetest.Server) []string { return nil }

func bearer(p *descopetest.Server) []string {
	return []string{"Authorization: Bearer " + p.SignIn(ann).Session}
}

func cookiesOf(loginID string) func(*descopetest.Server) []string {
	return func(p *descopetest.Server) []string {
		t := p.SignIn(loginID)
		return []string{cookieHeader(t.Session, t.Refresh)}
	}
}

func steppedUp(p *descopetest.Server) []string {
	t := p.StepUp(ann)
	return []string{cookieHeader(t.Session, t.Refresh)}
}

// renewable is an expired session and a refresh token that renews it.
func renewable(p *descopetest.Server) []string {
	return []string{cookieHeader(kittest.Expired(p, ann, "DS"), p.SignIn(ann).Refresh)}
}

// outlived is an expired session whose refresh token has expired, too.
func outlived(p *descopetest.Server) []string {
	return []string{cookieHeader(kittest.Expired(p, ann, "DS"), kittest.Expired(p, ann, "DSR"))}
}

// refusedOnce is renewable, but for one refusal of the refresh token.
func refusedOnce(p *descopetest.Server) []string {
	header := renewable(p)
	p.Fail(kittest.RefreshPath, descopetest.Fault{Status: http.StatusUnauthorized, Body: `{"errorCode":"E061005"}`})
	return header
}

// revoked is an expired session whose refresh token the project has revoked.
func revoked(p *descopetest.Server) []string {
	header := renewable(p)
	p.LogOut(ann)
	return header
}

func twoUsers(p *descopetest.Server) []string {
	return []string{cookieHeader(p.SignIn(ann).Session, p.SignIn(kittest.Bob).Refresh)}
}

// unreachable is renewable, but for the project, which does not answer.
func unreachable(p *descopetest.Server) []string {
	header := renewable(p)
	p.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true})
	return header
}

func crossSite(p *descopetest.Server) []string {
	return append(cookiesOf(ann)(p), "Sec-Fetch-Site: cross-site")
}

func cookieHeader(session, refresh string) string {
	return "Cookie: " + kittest.SessionCookie + "=" + session + "; " + kittest.RefreshCookie + "=" + refresh
}

// wait returns an error if nothing comes on c.
func wait[T any](c <-chan T, what string) (T, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case v := <-c:
		return v, nil
	case <-timeout.C:
		var zero T
		return zero, errors.New(what)
	}
}
