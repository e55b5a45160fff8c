package races_test

import (
	"context"
	"errors"
	"time"

	"github.com/descopehttp/descopehttp"
)

// A sharedMemory is what the replicas of a world share.
type sharedMemory interface {
	line(r *replica) descopehttp.RefreshStore
	wipe()
}

// A storeFault is how a call of one replica to the store goes wrong.
type storeFault int

const (
	storeRefuses storeFault = iota // not carried out
	storeLoses                     // carried out, the answer lost
	storeHangs                     // carried out, the answer too late
	storeSlow                      // the answer takes long, but not too long
)

func (f storeFault) String() string {
	return [...]string{"refuses", "loses the answer", "hangs", "is slow"}[f]
}

var errNoStore = errors.New("connection refused")

// callStore carries a call to the store out, or not, after the time that it takes.
func (r *replica) callStore(ctx context.Context, what string, carryOut func()) error {
	w := r.world
	if r.crashed() || ctx.Err() != nil {
		return errNoStore
	}
	fault, faulty, takes := w.nextStoreFault(r)
	if faulty {
		w.logf("%v: store %v: %s", r, fault, what)
	}
	if faulty && fault == storeRefuses {
		return errNoStore
	}
	half := takes / 2
	if !travel(ctx, half) || r.crashed() {
		return errNoStore
	}
	carryOut()
	switch {
	case !faulty:
	case fault == storeLoses:
		return errNoStore
	case fault == storeHangs:
		<-ctx.Done()
		return ctx.Err()
	case fault == storeSlow:
		half += 120 * time.Millisecond
	}
	if !travel(ctx, half) || r.crashed() {
		return errNoStore
	}
	return nil
}

// travel returns after d, false if ctx has ended by then.
func travel(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// elapse lets fake time pass.
func elapse(d time.Duration) { travel(context.Background(), d) }
