package task

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// reserve is a descriptor kept for the moment when there are no more: it is given up to accept one
// connection and close it, which tells that client at once instead of leaving it in the backlog.
type reserve struct{ f *os.File }

func (r *reserve) open() { r.f, _ = os.Open(os.DevNull) }

func (r *reserve) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// shed accepts and closes one connection and reports whether there was one.
func (r *reserve) shed(ln net.Listener) bool {
	r.close()
	defer r.open()
	d, ok := ln.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return false
	}
	d.SetDeadline(time.Now().Add(time.Millisecond))
	defer d.SetDeadline(time.Time{})
	nc, err := ln.Accept()
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
