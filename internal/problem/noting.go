package problem

import (
	"bufio"
	"net"
	"net/http"
)

// A Noting is a ResponseWriter that notes whether there was an answer.
type Noting struct {
	http.ResponseWriter
	Answered bool
}

// WriteHeader implements [http.ResponseWriter]. 1xx are no answer yet.
func (n *Noting) WriteHeader(status int) {
	n.Answered = n.Answered || status >= http.StatusOK || status == http.StatusSwitchingProtocols
	n.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (n *Noting) Write(b []byte) (int, error) {
	n.Answered = true
	return n.ResponseWriter.Write(b)
}

// Flush implements [http.Flusher].
func (n *Noting) Flush() {
	n.Answered = true
	_ = http.NewResponseController(n.ResponseWriter).Flush()
}

// Hijack implements [http.Hijacker].
func (n *Noting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	n.Answered = true
	return http.NewResponseController(n.ResponseWriter).Hijack()
}

// Unwrap is for [http.ResponseController].
func (n *Noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }
