package descopehttp

import (
	"context"
	"sync"
)

// tasks counts goroutines that outlive the request that began them. Unlike a
// sync.WaitGroup it can be waited for on a context, and while more begin. The
// zero value is ready to use.
type tasks struct {
	mu      sync.Mutex
	running int
	idle    chan struct{} // closed when running falls to 0; nil if nobody waits
}

// start runs f in a goroutine.
func (t *tasks) start(f func()) {
	t.mu.Lock()
	t.running++
	t.mu.Unlock()
	go func() {
		defer t.end()
		f()
	}()
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.running == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// wait returns nil when no task is running, or else the context's error.
func (t *tasks) wait(ctx context.Context) error {
	t.mu.Lock()
	if t.running == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
