package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// machine is what the absolute figures of a report belong to.
type machine struct {
	cpu, goVersion, system string
	cores                  int
	load                   string
}

func thisMachine() machine {
	return machine{
		cpu:       cpuModel(),
		goVersion: runtime.Version(),
		system:    runtime.GOOS + "/" + runtime.GOARCH,
		cores:     runtime.GOMAXPROCS(0),
		load:      loadAverage(),
	}
}

// cpuModel and loadAverage are known on Linux only.

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// loadAverage is that of the last minute, or "unknown".
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if first, _, ok := strings.Cut(string(text), " "); ok {
		return first
	}
	return "unknown"
}

func (m machine) busy() bool {
	var load float64
	_, err := fmt.Sscan(m.load, &load)
	return err == nil && load > 0.5
}
