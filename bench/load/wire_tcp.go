package load

import "fmt"

// echo sends bytes and waits for as many.
type echo struct {
	request []byte
	due     instant
	busy    bool
	left    int
}

func newEcho(c *Config) *echo {
	e := &echo{request: make([]byte, c.Size)}
	for i := range e.request {
		e.request[i] = 'a' + byte(i%26)
	}
	return e
}

func (e *echo) open(*conn) bool { return true }
func (e *echo) places() int     { return 1 }

func (e *echo) send(c *conn, due instant) {
	e.due, e.busy, e.left = due, true, len(e.request)
	c.out = append(c.out, e.request...)
}

func (e *echo) feed(c *conn, p []byte, now instant) error {
	if !e.busy || len(p) > e.left {
		return fmt.Errorf("%d bytes came that are no echo", len(p))
	}
	if e.left -= len(p); e.left == 0 {
		e.busy = false
		c.answer(e.due, now, nil)
	}
	return nil
}

func (e *echo) end(c *conn, now instant, cause error) {
	if e.busy {
		e.busy = false
		c.failed(e.due, now, cause)
	}
}

func (e *echo) unfinished(f func(instant)) {
	if e.busy {
		f(e.due)
	}
}

// bulk only reads.
type bulk struct{}

func (*bulk) open(*conn) bool                   { return true }
func (*bulk) places() int                       { return 0 }
func (*bulk) send(*conn, instant)               {}
func (*bulk) feed(*conn, []byte, instant) error { return nil }
func (*bulk) end(*conn, instant, error)         {}
func (*bulk) unfinished(func(instant))          {}
