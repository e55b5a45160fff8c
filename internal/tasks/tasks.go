// Package tasks counts goroutines that outlive the request that began them.
package tasks

import (
	"context"
	"sync"
)

// A Group is a number of goroutines. Unlike a
// sync.WaitGroup it can be waited for on a context, and while more begin. The
// zero value is ready to use.
type Group struct {
	mu      sync.Mutex
	running int
	idle    chan struct{} // closed when running falls to 0; nil if nobody waits
}

// Start runs f in a goroutine.
func (t *Group) Start(f func()) {
	t.mu.Lock()
	t.running++
	t.mu.Unlock()
	go func() {
		defer t.end()
		f()
	}()
}

func (t *Group) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.running == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// Wait returns nil when no task is running, or else the context's error.
func (t *Group) Wait(ctx context.Context) error {
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
