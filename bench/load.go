package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// A LoadResult is the throughput of a server with one middleware as a share of
// that of the same server without.
type LoadResult struct {
	Name  string
	RPS   float64 // median; of this machine only
	Share Spreads // by the clock, and by the CPU time of client and server
}

// LoadEffort bounds a load test: 2·Pairs·Duration for each contender.
type LoadEffort struct {
	Connections int
	Pairs       int
	Duration    time.Duration
}

// Load runs a server per contender on a loopback address and keeps it busy over
// keep-alive connections, in pairs with a server without middleware, the pairs
// of all contenders interleaved. Clients and servers share the cores, so the
// clients do as little as they can. The first result is that of a second server
// without middleware: its spread is what the measurement itself is good for.
func Load(ctx context.Context, p *Project, contenders []Contender, e LoadEffort) ([]LoadResult, error) {
	plain := Contender{Name: NoAuth, handler: func(_ context.Context, _ *Project, next http.Handler) (http.Handler, error) { return next, nil }}
	contenders = append([]Contender{plain}, contenders...)
	reference, err := startLoaded(ctx, p, plain)
	if err != nil {
		return nil, err
	}
	defer reference.close()
	servers := make([]*loaded, len(contenders))
	for i, c := range contenders {
		if servers[i], err = startLoaded(ctx, p, c); err != nil {
			return nil, err
		}
		defer servers[i].close()
	}

	results := make([]LoadResult, len(contenders))
	rates, shares := make([][]float64, len(contenders)), make([][]Cost, len(contenders))
	for pair := range e.Pairs {
		for j := range contenders {
			i := (j + pair) % len(contenders)
			order := []*loaded{reference, servers[i]}
			if pair%2 == 1 {
				order[0], order[1] = order[1], order[0]
			}
			cost := make(map[*loaded]Cost, 2)
			for _, s := range order {
				if cost[s], err = s.run(ctx, e); err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
			}
			rates[i] = append(rates[i], float64(time.Second)/cost[servers[i]].Wall)
			shares[i] = append(shares[i], cost[reference].per(cost[servers[i]]))
		}
	}
	for i, c := range contenders {
		results[i] = LoadResult{Name: c.Name, RPS: spreadOf(rates[i]).Median, Share: spreadsOf(shares[i])}
	}
	return results, nil
}

// loaded is a server under load.
type loaded struct {
	name    string
	server  *http.Server
	addr    string
	request []byte
}

func startLoaded(ctx context.Context, p *Project, c Contender) (*loaded, error) {
	h, err := c.Handler(ctx, p, nothing)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := c.Request(p)
	request, err := httputil.DumpRequest(r, false)
	if err != nil {
		return nil, err
	}
	s := &loaded{name: c.Name, server: &http.Server{Handler: h}, addr: l.Addr().String(), request: request}
	go s.server.Serve(l)
	return s, nil
}

func (s *loaded) close() { s.server.Close() }

// run returns what a request costs over e.Connections connections that are kept
// busy.
func (s *loaded) run(ctx context.Context, e LoadEffort) (Cost, error) {
	var (
		served      atomic.Int64
		failed      atomic.Pointer[error]
		ready, done sync.WaitGroup
		start       = make(chan struct{})
		stop        atomic.Bool
	)
	fail := func(err error) {
		failed.CompareAndSwap(nil, &err)
		stop.Store(true)
	}
	for range e.Connections {
		ready.Add(1)
		done.Go(func() {
			c, err := s.dial(ctx, e.Duration)
			ready.Done()
			if err != nil {
				fail(err)
				return
			}
			defer c.conn.Close()
			<-start
			n := 0
			for !stop.Load() {
				if err := c.do(); err != nil {
					fail(err)
					return
				}
				n++
			}
			served.Add(int64(n))
		})
	}
	ready.Wait()
	watch := startWatch()
	close(start)
	select {
	case <-time.After(e.Duration):
	case <-ctx.Done():
	}
	stop.Store(true)
	done.Wait()
	cost := watch.read()
	if err := failed.Load(); err != nil {
		return Cost{}, *err
	}
	n := float64(max(1, served.Load()))
	return cost.per(Cost{n, n}), ctx.Err()
}

// client is one keep-alive connection. All answers to it are of one length, so it
// parses the first and compares the status of the others.
type client struct {
	conn    net.Conn
	request []byte
	answer  []byte
}

var statusOK = []byte("HTTP/1.1 200 ")

func (s *loaded) dial(ctx context.Context, d time.Duration) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(d + 30*time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(s.request); err != nil {
		return nil, err
	}
	counted := &countingReader{r: conn}
	buffered := bufio.NewReader(counted)
	res, err := http.ReadResponse(buffered, nil)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK || buffered.Buffered() > 0 {
		return nil, fmt.Errorf("status %d: %w", res.StatusCode, errNotAdmitted)
	}
	return &client{conn: conn, request: s.request, answer: make([]byte, counted.n)}, nil
}

func (c *client) do() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.conn, c.answer); err != nil {
		return err
	}
	if !bytes.HasPrefix(c.answer, statusOK) {
		return errors.New("an answer that is not 200")
	}
	return nil
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
