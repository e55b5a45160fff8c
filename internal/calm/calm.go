// Package calm keeps what users plug in, such as a transport or a store, from ending
// the process: it is called in goroutines where nobody but the kit could recover.
package calm

import (
	"context"
	"errors"
)

// Recover turns a panic into an error. Defer it with the address of the result:
//
//	defer calm.Recover(&err, errStorePanic)
//
// What the panic said is dropped, because it may quote a request.
func Recover(err *error, instead error) {
	if recover() != nil {
		*err = instead
	}
}

// Why says in fixed words how a plugged-in part failed, of which panicked is a panic.
func Why(err, panicked error) string {
	switch {
	case errors.Is(err, panicked):
		return "it panicked"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return "it failed"
}
