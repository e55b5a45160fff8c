package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// A Machine is what the absolute figures of a report belong to.
type Machine struct {
	cpu, goVersion, system string
	cores                  int
	load                   string // when it was asked
}

// ThisMachine returns the one that this runs on.
func ThisMachine() Machine {
	return Machine{
		cpu:       cpuModel(),
		goVersion: runtime.Version(),
		system:    runtime.GOOS + "/" + runtime.GOARCH,
		cores:     runtime.GOMAXPROCS(0),
		load:      LoadAverage(),
	}
}

// String names it, without its load.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s, %s", m.cpu, m.cores, m.system, m.goVersion)
}

// Load returns the load average when the machine was asked.
func (m Machine) Load() string { return m.load }

// The model of the CPU and the load average are known on Linux only.

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// LoadAverage returns that of the last minute, or "unknown".
func LoadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if first, _, ok := strings.Cut(string(text), " "); ok {
		return first
	}
	return "unknown"
}

// Busy reports whether it did other work when it was asked.
func (m Machine) Busy() bool {
	var load float64
	_, err := fmt.Sscan(m.load, &load)
	return err == nil && load > 0.5
}
