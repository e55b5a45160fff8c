//go:build !unix

package bench

import "time"

var began = time.Now()

// cpuTime falls back to the time that has passed.
func cpuTime() time.Duration { return time.Since(began) }
