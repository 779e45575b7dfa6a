package proxytest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Peer is the test's end of a connection, driven step by step. Every step fails the test with what came instead.
type Peer struct {
	net.Conn
	t testing.TB
}

// NewPeer drives c.
func NewPeer(t testing.TB, c net.Conn) *Peer { return &Peer{Conn: c, t: t} }

// Send writes s.
func (p *Peer) Send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.t.Fatalf("send %q: %v", short(s), err)
	}
}

// Expect reads exactly len(want) bytes and compares them.
func (p *Peer) Expect(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.Conn, got)
	if err != nil || string(got) != want {
		p.t.Fatalf("received %q, %v, want %q", short(string(got[:n])), err, short(want))
	}
}

// ExpectUntil reads up to and including the first delim, and returns it all.
func (p *Peer) ExpectUntil(delim string) string {
	p.t.Helper()
	var got []byte
	var one [1]byte
	for !bytes.HasSuffix(got, []byte(delim)) {
		if _, err := p.Conn.Read(one[:]); err != nil {
			p.t.Fatalf("received %q, %v, want one that ends with %q", short(string(got)), err, delim)
		}
		got = append(got, one[0])
	}
	return string(got)
}

// ExpectEOF expects the far end to have closed its side in order.
func (p *Peer) ExpectEOF() {
	p.t.Helper()
	rest, err := io.ReadAll(p.Conn)
	if err != nil || len(rest) > 0 {
		p.t.Fatalf("received %q, %v, want the end", short(string(rest)), err)
	}
}

// ExpectClosed expects the end, in order or by a reset, discarding what comes before it.
func (p *Peer) ExpectClosed() {
	p.t.Helper()
	var ne net.Error
	if _, err := io.Copy(io.Discard, p.Conn); errors.As(err, &ne) && ne.Timeout() {
		p.t.Fatalf("connection still open: %v", err)
	}
}

// ExpectSilence expects nothing to come for d.
func (p *Peer) ExpectSilence(d time.Duration) {
	p.t.Helper()
	p.Conn.SetReadDeadline(time.Now().Add(d))
	defer p.Conn.SetReadDeadline(time.Now().Add(patience))
	var one [64]byte
	n, err := p.Conn.Read(one[:])
	var ne net.Error
	if n > 0 || !errors.As(err, &ne) || !ne.Timeout() {
		p.t.Fatalf("received %q, %v, want silence", one[:n], err)
	}
}

// FinishSending closes the sending side.
func (p *Peer) FinishSending() {
	p.t.Helper()
	if err := p.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.t.Fatalf("close write: %v", err)
	}
}

// Abort resets the connection.
func (p *Peer) Abort() {
	p.t.Helper()
	if c, ok := p.Conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	p.Conn.Close()
}

func short(s string) string {
	if len(s) > 400 {
		return s[:200] + strings.Repeat(".", 3) + s[len(s)-200:]
	}
	return s
}
