package descope

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A cable forwards connections until it is cut: from then on what passes over those that
// there are gets lost, and nobody is told. New ones are well.
type cable struct {
	net.Listener
	to string

	mu   sync.Mutex
	cuts []*atomic.Bool
}

func newCable(t *testing.T, to string) *cable {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	c := &cable{Listener: l, to: to}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.join(conn)
		}
	}()
	return c
}

func (c *cable) join(near net.Conn) {
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		near.Close()
		return
	}
	isCut := new(atomic.Bool)
	c.mu.Lock()
	c.cuts = append(c.cuts, isCut)
	c.mu.Unlock()
	forward := func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if !isCut.Load() {
				_, _ = to.Write(buffer[:n])
			}
		}
	}
	go forward(near, far)
	forward(far, near)
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, isCut := range c.cuts {
		isCut.Store(true)
	}
}

// A connection that died without a word costs the calls that are on it, and none after
// them: with the default transport, by its pings, and with one of the user's own.
//
// Rule: guessing: a dead connection is left.
func TestDeadConnection(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{}`)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.CloseClientConnections)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	for name, transport := range map[string]*http.Transport{
		"default": clientOf(nil).Transport.(*http.Transport),
		"own":     http.DefaultTransport.(*http.Transport).Clone(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := newCable(t, srv.Listener.Addr().String())
			transport.TLSClientConfig = &tls.Config{RootCAs: roots}
			c := New(Config{
				ProjectID: "P2example", BaseURL: "https://" + line.Addr().String(),
				HTTPClient: &http.Client{Transport: transport}, ManagementKey: func() string { return "" },
			})
			call := func() error {
				_, err := c.Spend(t.Context(), Session, PathRefresh, nil, struct{}{})
				return err
			}
			require.NoError(t, call())
			line.cut()
			lost := make(chan error, 1)
			go func() { lost <- call() }()
			began := time.Now()
			require.Eventually(t, func() bool {
				done := make(chan error, 1)
				go func() { done <- call() }()
				select {
				case err := <-done:
					return err == nil
				case <-time.After(time.Second):
					return false
				}
			}, 15*time.Second, 10*time.Millisecond)
			assert.Less(t, time.Since(began), 8*time.Second)
			if name == "default" {
				assert.Error(t, <-lost, "and at once: nothing of it comes any more")
			}
		})
	}
}

// A wrapper is a transport of a user's around another.
type wrapper struct{ *http.Transport }

func (w wrapper) Clone() http.RoundTripper { return wrapper{w.Transport.Clone()} }

// Connections can be left by way of a transport that wraps another, too, and keys have some
// of their own.
func TestWrappedTransportIsCloned(t *testing.T) {
	own := wrapper{new(http.Transport)}
	c := &connections{inUse: own}
	c.change(time.Now())
	assert.NotSame(t, own.Transport, c.inUse.(wrapper).Transport)
	keys := keyClient(&http.Client{Transport: own}).Transport.(calmTransport).RoundTripper.(*connections)
	assert.NotSame(t, own.Transport, keys.inUse.(wrapper).Transport)
}
