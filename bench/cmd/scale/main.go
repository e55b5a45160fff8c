// Command scale plays sites of thousands of users over the kit in fake time, and writes
// SCALE.md and its plots. Run it from the root of the repository:
//
//	go run ./bench/cmd/scale          # under 15 minutes on two cores; writes bench/results
//	go run ./bench/cmd/scale -quick   # with a few users each, in seconds; prints only
//
// Fake time is that of testing/synctest, which needs a test: the scenarios are played by
// go test ./bench/scale, and this prints what came of them. No socket is opened.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
	"github.com/descopehttp/descopehttp/bench/scale"
)

func main() {
	quick := flag.Bool("quick", false, "play with a few users, whose figures mean nothing; write no files unless -out is given")
	out := flag.String("out", "", "`directory` to write to (default bench/results)")
	results := flag.String("results", "", "`file` to keep what came of the scenarios in; one that is there is printed, and nothing is played")
	flag.Parse()
	if *out == "" && !*quick {
		*out = filepath.Join("bench", "results")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *quick, *results, *out); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, quick bool, file, dir string) error {
	r := report{machine: bench.ThisMachine(), on: time.Now()}
	if file == "" {
		scratch, err := os.MkdirTemp("", "scale")
		if err != nil {
			return err
		}
		defer os.RemoveAll(scratch)
		file = filepath.Join(scratch, "results.json")
	}
	info, err := os.Stat(file)
	if err != nil {
		if err := play(ctx, quick, file); err != nil {
			return err
		}
	} else {
		r.on = info.ModTime()
	}
	if r.results, err = read(file); err != nil {
		return err
	}
	return r.write(os.Stdout, dir)
}

// play has go test play the scenarios.
func play(ctx context.Context, quick bool, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	args := []string{"test", "-count=1", "-timeout=3h", "-run=^TestScenarios$", "-v", "github.com/descopehttp/descopehttp/bench/scale", "-args", "-scale.results=" + file}
	if !quick {
		args = append(args, "-scale.most=0")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr // its progress; the report is for stdout
	return cmd.Run()
}

// read returns what came of the scenarios, one a line.
func read(file string) (list []*scale.Result, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		x := new(scale.Result)
		switch err := d.Decode(x); err {
		case nil:
			list = append(list, x)
		case io.EOF:
			return list, nil
		default:
			return nil, err
		}
	}
}

// A report is what one run has brought.
type report struct {
	machine bench.Machine
	on      time.Time
	results []*scale.Result
}

// write prints the report and, unless dir is empty, writes it and the plots there.
func (r *report) write(stdout io.Writer, dir string) error {
	if err := paper.Publish(stdout, dir, "SCALE.md", r.writeTo); err != nil || dir == "" {
		return err
	}
	return r.draw(dir)
}

// of returns the results of a group.
func (r *report) of(g scale.Group) (list []*scale.Result) {
	for _, x := range r.results {
		if x.Group == g {
			list = append(list, x)
		}
	}
	return list
}
