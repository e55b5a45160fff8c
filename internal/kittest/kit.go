// Package kittest is what the tests of several packages share: a kit over a project in
// memory, who sends it requests, and what is to be read of its answers.
package kittest

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// Login ids. Ada is a user of every project that [New] makes.
const (
	Ada = "ada@example.com"
	Bob = "bob@example.com"
)

// ProjectID is that of a project that exists nowhere.
const ProjectID = "P2abcdefghijklmnopqrstuvwxyz"

// Past is when a session has just expired.
const Past = 11 * time.Minute

// LoadBudget is how long LoadSession may keep a request waiting.
const LoadBudget = time.Second

// A Kit is an Auth over a project in memory.
type Kit struct {
	*descopehttp.Auth
	Project *descopetest.Server
	Logs    *LogBuffer
}

// New returns a kit over a project of its own, with [Ada], who is an admin.
func New(t testing.TB, edits ...func(*descopehttp.Config)) *Kit {
	t.Helper()
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: Ada, Name: "Ada", Roles: []string{"admin"}})
	return For(t, project, edits...)
}

// For returns another kit over the same project, as another replica.
func For(t testing.TB, project *descopetest.Server, edits ...func(*descopehttp.Config)) *Kit {
	t.Helper()
	logs := new(LogBuffer)
	cfg := descopehttp.Config{
		ProjectID:  project.ProjectID(),
		BaseURL:    project.URL(),
		HTTPClient: project.Client(),
		Logger:     slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	a, err := descopehttp.New(cfg)
	require.NoError(t, err)
	return &Kit{Auth: a, Project: project, Logs: logs}
}

// Rotating has a project rotate refresh tokens.
func Rotating(s *descopetest.Settings) { s.RotateRefresh = true }

// NewRotating returns a kit over a project that rotates refresh tokens, and a
// browser whose session has just expired.
func NewRotating(t testing.TB, edits ...func(*descopehttp.Config)) (*Kit, *Browser) {
	t.Helper()
	k := New(t, edits...)
	k.Project.Configure(Rotating)
	b := SignIn(k, Ada)
	Elapse(Past)
	require.NoError(t, k.Ready(t.Context()))
	return k, b
}

// NewReplicas returns n kits over one project and one store, and a browser whose
// session has just expired.
func NewReplicas(t testing.TB, n int, edits ...func(*descopehttp.Config)) ([]*Kit, *MemoryStore, *Browser) {
	t.Helper()
	store := NewMemoryStore()
	edits = append(edits, func(c *descopehttp.Config) { c.RefreshStore = store })
	k, b := NewRotating(t, edits...)
	replicas := []*Kit{k}
	for range n - 1 {
		other := For(t, k.Project, edits...)
		require.NoError(t, other.Ready(t.Context()))
		replicas = append(replicas, other)
	}
	return replicas, store, b
}

// Elapse lets fake time pass. Outside of a synctest bubble, where a test would
// wait for real, it panics.
func Elapse(d time.Duration) {
	if time.Now().Year() > 2010 {
		panic("Elapse outside of a bubble, whose clock starts in 2000")
	}
	<-time.After(d)
}

// LogBuffer is an io.Writer that many goroutines may write to while a test reads.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements [io.Writer].
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A Spy is a handler that notes what reached it.
type Spy struct {
	Calls int // to be read when all requests were answered

	mu       sync.Mutex
	requests []*http.Request
}

// ServeHTTP implements [http.Handler].
func (s *Spy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Calls++
	s.requests = append(s.requests, r)
	w.Header().Set("X-Spy", "ran")
	_, _ = io.WriteString(w, "ok")
}

// Last returns the request that reached it last.
func (s *Spy) Last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

// Nothing is a handler and a ResponseWriter that cost nothing.
type Nothing struct{ Fields http.Header }

// ServeHTTP implements [http.Handler].
func (Nothing) ServeHTTP(http.ResponseWriter, *http.Request) {}

// Header implements [http.ResponseWriter].
func (n Nothing) Header() http.Header { return n.Fields }

// Write implements [http.ResponseWriter].
func (Nothing) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements [http.ResponseWriter].
func (Nothing) WriteHeader(int) {}
