package descopetest

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A Fault is how calls go wrong. Its fields combine: a delay, then a lost,
// replaced or cut answer.
type Fault struct {
	// Times is how many requests it hits: 0 is one, less than 0 is all until
	// [Server.Reset].
	Times int

	// Status, Header and Body are answered instead of the project's own answer.
	// Status 0 with a Body is 200. Status 0 without a Body leaves the answer as
	// it is, with Header on top.
	Status int
	Header http.Header
	Body   string

	// Delay is how long the call takes. It ends early with the request's
	// context, and the call is then not answered at all.
	Delay time.Duration

	// Drop ends the connection without an answer.
	Drop bool

	// After carries the call out before anything else happens: its tokens are
	// issued and spent, and only the answer is late, lost or replaced. Without
	// it, a call whose answer is dropped or replaced, or whose delay ends with
	// the request's context, never happened.
	After bool

	// Truncate, if more than 0, ends the connection after that many bytes of the
	// answer's body.
	Truncate int
}

// maxFaults bounds the faults that wait for requests. A test that queues more has
// forgotten to call Reset.
const maxFaults = 1000

// queued is a Fault that waits for its requests. Guarded by Server.mu.
type queued struct {
	Fault
	path string
	left int // less than 0: no end
}

// Fail makes requests to path go wrong. A request is hit by the first fault
// queued for its path that is not used up. path is one the project serves,
// "/v2/keys" for both paths of the key set, or "" for any. It panics on other
// paths, on a fault that does nothing, and when 1,000 are queued already.
func (s *Server) Fail(path string, f Fault) {
	name := pathArgument("Fail", path)
	switch {
	case f.Delay < 0 || f.Truncate < 0:
		panic("descopetest: Fail with a negative Delay or Truncate")
	case f.Status != 0 && (f.Status < 200 || f.Status > 999):
		panic(fmt.Sprintf("descopetest: Fail with status %d", f.Status))
	case f.Status == 0 && f.Body == "" && len(f.Header) == 0 && f.Delay == 0 && !f.Drop && f.Truncate == 0:
		panic("descopetest: Fail with a Fault that does nothing")
	}
	q := &queued{Fault: f, path: name, left: f.Times}
	q.Header = f.Header.Clone()
	if f.Times == 0 {
		q.left = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) >= maxFaults {
		panic(fmt.Sprintf("descopetest: Fail with %d faults queued", len(s.faults)))
	}
	s.faults = append(s.faults, q)
}

// Reset sets the counters to zero and forgets the faults that are queued.
// Users, tokens, keys and settings stay, and so do requests on their way.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.counts)
	s.faults = nil
}

// arrive counts a request and takes the fault that hits it, if any.
func (s *Server) arrive(name string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	s.counts[name]++
	for i, q := range s.faults {
		if q.path != "" && q.path != name {
			continue
		}
		if q.left > 0 {
			q.left--
		}
		if q.left == 0 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		}
		return &q.Fault
	}
	return nil
}

// serve answers a request that f hits; call carries it out.
func (f *Fault) serve(w http.ResponseWriter, r *http.Request, call func() answer) {
	var a answer
	if f.After {
		a = call()
	}
	if !wait(r.Context(), f.Delay) || f.Drop {
		panic(http.ErrAbortHandler) // net/http ends the connection, and so does Client
	}
	switch {
	case f.Status != 0 || f.Body != "":
		a = f.answer()
	case !f.After:
		a = call()
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	for name, values := range f.Header {
		a.header[http.CanonicalHeaderKey(name)] = values
	}
	if f.Truncate == 0 {
		a.writeTo(w)
		return
	}
	a.body = a.body[:min(f.Truncate, len(a.body))]
	a.writeTo(w)
	http.NewResponseController(w).Flush() // else net/http drops the part, too
	panic(http.ErrAbortHandler)
}

// answer is what f answers instead of the project.
func (f *Fault) answer() answer {
	a := answer{f.Status, http.Header{}, []byte(f.Body)}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if jsontext.Value(f.Body).IsValid() {
		a.header.Set("Content-Type", "application/json")
	} else if f.Body != "" {
		a.header.Set("Content-Type", "text/html; charset=utf-8")
	}
	return a
}

// wait returns after d, false if ctx has ended by then.
func wait(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}
