//go:build e2e

package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// link is the wire between A and B: it forwards TCP, and can be cut, frozen and restored.
type link struct {
	t    *testing.T
	ln   net.Listener
	to   string
	pump sync.WaitGroup

	mu     sync.Mutex
	ready  *sync.Cond // signals a change of the fields below
	conns  map[*net.TCPConn]bool
	dialed int // connections so far
	state  linkState
}

// linkState says what happens to bytes.
//
//	open ⇄ frozen   freeze, restore
//	open ⇄ cut      cut, restore
type linkState int

const (
	open   linkState = iota
	frozen           // bytes wait, and so do new connections, as behind a router that lost power
	cut              // everything is reset, as by a firewall that forgot us
	closed           // the test is over
)

// newLink forwards a free port of loopback to an address.
func newLink(t *testing.T, to string) *link {
	t.Helper()
	ln, err := net.Listen("tcp", freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	l := &link{t: t, ln: ln, to: to, conns: map[*net.TCPConn]bool{}}
	l.ready = sync.NewCond(&l.mu)
	l.pump.Add(1)
	go l.accept()
	t.Cleanup(l.close)
	return l
}

// addr is where A connects.
func (l *link) addr() string { return l.ln.Addr().String() }

// freeze stops every byte without telling anybody.
func (l *link) freeze() { l.set(frozen) }

// cut resets every connection, and new ones.
func (l *link) cut() { l.set(cut) }

// restore lets everything pass again; what froze flows on.
func (l *link) restore() { l.set(open) }

// close ends the link.
func (l *link) close() {
	l.set(closed)
	_ = l.ln.Close()
	l.pump.Wait()
}

// set changes the state.
func (l *link) set(s linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	if s == cut || s == closed {
		for c := range l.conns {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	}
	l.ready.Broadcast()
}

// dials is the number of connections so far.
func (l *link) dials() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dialed
}

// accept takes connections until close.
func (l *link) accept() {
	defer l.pump.Done()
	for {
		c, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.pump.Add(1)
		go l.forward(c.(*net.TCPConn))
	}
}

// forward serves one connection.
func (l *link) forward(near *net.TCPConn) {
	defer l.pump.Done()
	if !l.keep(near) {
		return
	}
	defer l.drop(near)
	if !l.wait() {
		return
	}
	c, err := net.Dial("tcp", l.to)
	if err != nil {
		_ = near.SetLinger(0)
		return
	}
	far := c.(*net.TCPConn)
	if !l.keep(far) {
		return
	}
	defer l.drop(far)
	l.mu.Lock()
	l.dialed++
	l.mu.Unlock()
	back := make(chan struct{})
	go func() {
		defer close(back)
		l.copy(near, far)
	}()
	l.copy(far, near)
	<-back
}

// keep remembers a connection, unless the link is cut: then it is reset.
func (l *link) keep(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == cut || l.state == closed {
		_ = c.SetLinger(0)
		_ = c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

// drop closes and forgets a connection.
func (l *link) drop(c *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = c.Close()
	delete(l.conns, c)
}

// wait returns true once bytes may pass, and false if the link is cut.
func (l *link) wait() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == frozen {
		l.ready.Wait()
	}
	return l.state == open
}

// copy moves bytes one way; an end is passed on as an end, a break as a reset of both ways.
func (l *link) copy(dst, src *net.TCPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if !l.wait() {
			return
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				_ = src.SetLinger(0)
				_ = src.Close()
				return
			}
		}
		if err != nil && err.Error() == "EOF" {
			_ = dst.CloseWrite()
			return
		}
		if err != nil {
			_ = dst.SetLinger(0)
			_ = dst.Close()
			return
		}
	}
}

func TestLinkItself(t *testing.T) {
	app := rawApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	l := newLink(t, app)
	c := dialRaw(t, l.addr())
	echo(t, c, "open")
	l.freeze()
	_, _ = io.WriteString(c, "frozen")
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 6)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("through a frozen link = %d bytes, %v, want silence", n, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	l.restore()
	got := make([]byte, 6)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "frozen" {
		t.Fatalf("after restore = %q, %v, want what froze", got, err)
	}
	l.cut()
	if _, err := c.Read(got); !isReset(err) {
		t.Fatalf("through a cut link = %v, want a reset", err)
	}
	l.restore()
	echo(t, dialRaw(t, l.addr()), "again")
}
