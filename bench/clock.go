package bench

import "time"

// A Cost is time in two ways: by the clock on the wall, and of the CPU. The
// first is what a user waits for, and true only on a machine that does nothing
// else. The second leaves other processes out and counts garbage collection
// that another core does meanwhile.
type Cost struct{ Wall, CPU float64 }

// per divides both.
func (c Cost) per(d Cost) Cost { return Cost{c.Wall / d.Wall, c.CPU / d.CPU} }

// A Spread is the median of a sample and its quartiles.
type Spread struct{ Median, Low, High float64 }

// Spreads are those of both kinds of time.
type Spreads struct{ Wall, CPU Spread }

type stopwatch struct {
	wall time.Time
	cpu  time.Duration
}

func startWatch() stopwatch { return stopwatch{time.Now(), cpuTime()} }

// read returns nanoseconds.
func (s stopwatch) read() Cost {
	return Cost{float64(time.Since(s.wall)), float64(cpuTime() - s.cpu)}
}

// CPUTime returns the CPU time that the process has used, garbage collection included.
func CPUTime() time.Duration { return cpuTime() }
