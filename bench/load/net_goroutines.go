package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// goroutines is the network of systems without epoll: two goroutines for each connection, whose events go to the worker through a channel.
type goroutines struct {
	w       *worker
	events  chan goEvent
	over    context.Context // ends with the network
	finish  context.CancelFunc
	running sync.WaitGroup
	timer   *time.Timer
}

// goSock is a connection's share of it.
type goSock struct {
	over   context.Context // ends when the connection is closed
	finish context.CancelFunc
	writes chan []byte
	resume chan struct{} // the reader may use its buffer again
	out    []byte        // owned by the writer while busy
	busy   bool          // owned by the worker
}

// goEvent is one thing that has happened.
type goEvent struct {
	c    *conn
	g    *goSock
	conn net.Conn // not nil: it stands
	data []byte   // read
	sent bool     // written
	err  error
}

func newGoroutines(w *worker) (network, error) {
	over, finish := context.WithCancel(context.Background())
	return &goroutines{w: w, events: make(chan goEvent), over: over, finish: finish, timer: time.NewTimer(0)}, nil
}

func (n *goroutines) shut() {
	n.finish()
	n.running.Wait()
	n.timer.Stop()
}

// tell hands an event to the worker, and reports whether anybody cares for more.
func (n *goroutines) tell(ev goEvent) bool {
	select {
	case n.events <- ev:
		return true
	case <-ev.g.over.Done():
		return false
	}
}

func (n *goroutines) dial(c *conn) error {
	g := &goSock{writes: make(chan []byte, 1), resume: make(chan struct{}, 1)}
	g.over, g.finish = context.WithCancel(n.over)
	c.sock.g = g
	n.running.Go(func() { n.serve(c, g) })
	return nil
}

// serve connects and reads, until the connection is closed.
func (n *goroutines) serve(c *conn, g *goSock) {
	network, addr := n.w.r.addr.dial(n.w.r.cfg.datagrams())
	nc, err := new(net.Dialer).DialContext(g.over, network, addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		n.tell(goEvent{c: c, g: g, err: fmt.Errorf("connect to %v: %w", n.w.r.addr, err)})
		return
	}
	defer nc.Close()
	defer context.AfterFunc(g.over, func() { nc.Close() })()
	if !n.tell(goEvent{c: c, g: g, conn: nc}) {
		return
	}
	n.running.Go(func() { n.send(c, g, nc) })
	buf := make([]byte, readSize)
	for {
		k, err := nc.Read(buf)
		if k > 0 {
			if !n.tell(goEvent{c: c, g: g, data: buf[:k]}) {
				return
			}
			select {
			case <-g.resume:
			case <-g.over.Done():
				return
			}
		}
		if err == io.EOF {
			err = errCut
		}
		if err != nil {
			n.tell(goEvent{c: c, g: g, err: err})
			return
		}
	}
}

// send writes what it is given, one piece after the other.
func (n *goroutines) send(c *conn, g *goSock, nc net.Conn) {
	for {
		select {
		case p := <-g.writes:
			if _, err := nc.Write(p); err != nil || !n.tell(goEvent{c: c, g: g, sent: true}) {
				return // the reader tells of the error
			}
		case <-g.over.Done():
			return
		}
	}
}

func (n *goroutines) write(c *conn, p []byte) (int, error) {
	g := c.sock.g
	if g.busy {
		return 0, nil
	}
	g.busy = true
	g.out = append(g.out[:0], p...)
	g.writes <- g.out
	return len(p), nil
}

func (n *goroutines) close(c *conn) {
	if g := c.sock.g; g != nil {
		g.finish()
		c.sock.g = nil
	}
}

func (n *goroutines) wait(d time.Duration) error {
	n.timer.Reset(d)
	select {
	case ev := <-n.events:
		n.handle(ev)
	case <-n.timer.C:
		return nil
	}
	for range 256 {
		select {
		case ev := <-n.events:
			n.handle(ev)
		default:
			return nil
		}
	}
	return nil
}

func (n *goroutines) handle(ev goEvent) {
	c := ev.c
	if c.sock.g != ev.g {
		return // of a former life
	}
	switch {
	case ev.err != nil:
		c.lost(n.w.r.now(), ev.err)
	case ev.conn != nil:
		c.connected()
	case ev.sent:
		ev.g.busy = false
		c.writable()
	default:
		c.received(ev.data)
		ev.g.resume <- struct{}{}
	}
	n.w.flush()
}
