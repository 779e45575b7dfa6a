package http1

import (
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// fakeShard runs nothing: it is for code that never has to wait. A call of anything else panics.
type fakeShard struct {
	task.Shard
	free []*task.Buffer
	wide []*task.Buffer // free ones of DatagramSize
	out  int            // buffers taken
}

func (s *fakeShard) Index() int                             { return 0 }
func (s *fakeShard) Now() task.Instant                      { return 1 }
func (s *fakeShard) Lock()                                  {}
func (s *fakeShard) Unlock()                                {}
func (s *fakeShard) Gate(*task.Gate)                        {}
func (s *fakeShard) After(time.Duration, func()) task.Timer { return nil }
func (s *fakeShard) Buffer() *task.Buffer {
	s.out++
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return &task.Buffer{B: make([]byte, task.BufferSize)}
}

func (s *fakeShard) Datagram() *task.Buffer {
	s.out++
	if n := len(s.wide); n > 0 {
		b := s.wide[n-1]
		s.wide = s.wide[:n-1]
		return b
	}
	return &task.Buffer{B: make([]byte, task.DatagramSize)}
}

func (s *fakeShard) Free(b *task.Buffer) {
	s.out--
	b.R, b.W = 0, 0
	switch len(b.B) {
	case task.BufferSize:
		s.free = append(s.free, b)
	case task.DatagramSize:
		s.wide = append(s.wide, b)
	}
}

// fakeConn reads from in, at most step bytes at a time, and then io.EOF. Every Write calls wrote.
type fakeConn struct {
	task.Conn
	in     []byte
	step   int // 0: no bound
	wrote  func(c *fakeConn, p []byte)
	closed bool
}

func (c *fakeConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	if c.step > 0 && len(p) > c.step {
		p = p[:c.step]
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *fakeConn) Write(p []byte) (int, error) {
	if c.wrote != nil {
		c.wrote(c, p)
	}
	return len(p), nil
}

func (c *fakeConn) WaitReadable() error      { return nil }
func (c *fakeConn) CloseWrite() error        { return nil }
func (c *fakeConn) Close() error             { c.closed = true; return nil }
func (c *fakeConn) Reset() error             { c.closed = true; return nil }
func (c *fakeConn) SetDeadline(task.Instant) {}
func (c *fakeConn) OnHangup(func(error))     {}
func (c *fakeConn) Queued() int              { return 0 }
func (c *fakeConn) Push([]byte) error        { return nil }
