package local

import (
	"errors"
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/detect"
	"github.com/pillion-proxy/pillion/proxy/task"
)

type event int

const (
	nothing      event = iota
	clientSpoke        // bytes, or the end
	streamOpen         // and there are bytes for it
	serverSpoke        // bytes, or the end
	streamFailed       // no Stream could be opened
	timeUp             // the limit has passed
	stopping           // Shutdown was called
)

// opening is the attempt to open a Stream while it is not known what the connection speaks.
type opening struct {
	// Static after construction.
	s       task.Shard
	c       task.Conn
	port    *port
	req     *proxy.Request
	handler proxy.RoundTripper
	gate    task.Gate // something has happened
	done    task.Gate // run has ended

	// Owned by the task of findOut, and then by the relay's.
	first    *task.Buffer // what the client has said; may be nil
	sent     int          // of first, to the Stream
	limit    task.Instant // until when somebody must have spoken; 0 for ever
	failed   bool         // no Stream could be opened, and it is waited for the client alone
	relayed  bool         // the relay has the Stream
	answered func()       // if not nil, called before the first bytes of the server's answer are passed on

	// Guarded by the shard's lock.
	resp    proxy.Response
	err     error
	said    *task.Buffer   // the server's first bytes
	saidIs  detect.Verdict // what they are
	saidErr error          // what came instead of them
	client  bool
	server  bool
	opened  bool
	ended   bool
	givenUp bool // nobody wants the Stream
	closed  bool // nobody wants what the server said
	stop    bool
}

// clientEvent is a callback.
func (o *opening) clientEvent(err error) {
	o.clientBroke(err)
	o.s.Lock()
	o.client = true
	o.s.Unlock()
	o.gate.Wake()
}

// clientBroke is a callback: nobody needs the Stream of a client that has reset its connection. One that has only finished sending may wait for
// an answer.
func (o *opening) clientBroke(err error) {
	if err != nil && err != io.EOF {
		o.req.Cancel.Cancel(err)
	}
}

// run opens the Stream and hears what the server says first.
func (o *opening) run() {
	defer o.end()
	var resp proxy.Response
	err := o.handler.RoundTrip(o.req, &resp)
	o.s.Lock()
	o.resp, o.err, o.opened = resp, err, true
	givenUp := o.givenUp
	o.s.Unlock()
	o.gate.Wake()
	if w, ok := resp.Stream.(proxy.Waiter); ok && err == nil && !givenUp {
		o.hear(resp.Stream, w)
	}
}

// hear reads the server's first bytes, once there are some. An HTTP/2 server may say its SETTINGS at once, and yet the client speaks first
// (RFC 9113 section 3.4): that is no event, but more or the end after it is.
func (o *opening) hear(st proxy.Stream, w proxy.Waiter) {
	if w.WaitReadable() != nil {
		return
	}
	b := o.s.Buffer()
	kept := false
	defer func() {
		if !kept {
			o.s.Free(b)
		}
	}()
	n, err := st.Read(b.B)
	b.W = n
	v, _ := detect.SniffServer(b.Unread())
	o.s.Lock()
	if n > 0 && !o.closed {
		o.said, o.saidIs, kept = b, v, true
	}
	o.saidErr = err
	h2 := v == detect.HTTP2 && err == nil
	o.server = !h2
	o.s.Unlock()
	if !h2 {
		return
	}
	o.done.Wake()
	o.port.note(detect.HTTP2)
	_ = w.WaitReadable()
	o.s.Lock()
	o.server = true
	o.s.Unlock()
}

var errBug = errors.New("the attempt was cut short by a bug")

// end is the end of run, by a panic too.
func (o *opening) end() {
	o.s.Lock()
	if !o.opened {
		o.opened, o.err = true, errBug
	}
	o.ended = true
	unwanted := o.givenUp && o.err == nil
	o.s.Unlock()
	o.gate.Wake()
	o.done.Wake()
	if unwanted {
		o.resp.Close() // resets the Stream
	}
}

// wait returns the first thing that has happened. What the client says goes before what the server does.
func (o *opening) wait() event {
	for {
		o.s.Lock()
		e := o.happenedLocked()
		o.s.Unlock()
		if e != nothing {
			return e
		}
		if !o.gate.Wait(o.limit) {
			return timeUp
		}
	}
}

func (o *opening) happenedLocked() event {
	hasStream := o.opened && o.err == nil && o.resp.Stream != nil
	switch {
	case o.client:
		o.client = false
		return clientSpoke
	case o.opened && !hasStream && !o.failed:
		return streamFailed
	case hasStream && o.first != nil && o.sent < o.first.W:
		return streamOpen
	case o.server || o.ended && hasStream:
		return serverSpoke
	case o.stop:
		return stopping
	}
	return nothing
}

// giveUp ends the attempt without waiting for it.
func (o *opening) giveUp() {
	o.s.Lock()
	o.givenUp = true
	ended, stream := o.ended, o.resp.Stream
	o.s.Unlock()
	o.forget()
	o.req.Cancel.Cancel(proxy.ErrWithdrawn) // the client speaks HTTP
	switch {
	case ended && o.err == nil:
		o.resp.Close()
	case stream != nil:
		_ = stream.Reset() // wakes run, which closes the Response
	}
}

// forget drops what the server has said.
func (o *opening) forget() {
	o.s.Lock()
	defer o.s.Unlock()
	o.closed = true
	if o.said != nil {
		o.s.Free(o.said)
		o.said = nil
	}
}

// takeFirst hands over what the client has said.
func (o *opening) takeFirst() *task.Buffer {
	b := o.first
	o.first = nil
	return b
}

// unsent hands over what the client has said and the Stream has not got; nil if there is nothing.
func (o *opening) unsent() *task.Buffer {
	b := o.takeFirst()
	if b == nil {
		return nil
	}
	if b.R = o.sent; b.R == b.W {
		o.s.Free(b)
		return nil
	}
	return b
}

// unwound drops what nobody has taken over, also when the runtime has ended the task.
func (o *opening) unwound() {
	if b := o.takeFirst(); b != nil {
		o.s.Free(b)
	}
	if !o.relayed { // else the relay has closed the Stream
		o.forget()
	}
}

// finish waits until the Stream is open or has failed.
func (o *opening) finish() {
	o.c.OnHangup(o.clientBroke)
	defer o.c.OnHangup(nil)
	for {
		o.s.Lock()
		opened := o.opened
		if opened && o.resp.Stream != nil {
			o.resp.Stream = &awaited{o.resp.Stream, o}
		}
		o.s.Unlock()
		if opened {
			return
		}
		o.gate.Wait(0)
	}
}

// awaited is a Stream of which run may have read the first bytes, or may still be waiting for them: only one task may wait at a time, so
// the first Read waits for run instead.
type awaited struct {
	proxy.Stream
	o *opening
}

func (a *awaited) Read(p []byte) (int, error) {
	n, err := a.said(p)
	if n == 0 && err == nil {
		a.await()
		if n, err = a.said(p); n == 0 && err == nil {
			n, err = a.Stream.Read(p)
		}
	}
	if n > 0 && a.o.answered != nil {
		a.o.answered()
		a.o.answered = nil
	}
	return n, err
}

// said reads what run has read.
func (a *awaited) said(p []byte) (int, error) {
	o := a.o
	o.s.Lock()
	defer o.s.Unlock()
	if o.said == nil {
		return 0, o.saidErr
	}
	n := copy(p, o.said.Unread())
	o.said.R += n
	if o.said.R == o.said.W {
		o.s.Free(o.said)
		o.said = nil
	}
	return n, nil
}

// WaitReadable implements proxy.Waiter.
func (a *awaited) WaitReadable() error {
	a.await()
	a.o.s.Lock()
	said := a.o.said != nil || a.o.saidErr != nil
	a.o.s.Unlock()
	if w, ok := a.Stream.(proxy.Waiter); ok && !said {
		return w.WaitReadable()
	}
	return nil
}

// Close implements proxy.Stream.
func (a *awaited) Close() error {
	a.o.forget()
	return a.Stream.Close()
}

// Reset implements proxy.Stream.
func (a *awaited) Reset() error {
	a.o.forget()
	return a.Stream.Reset()
}

// await waits until run has read something, or has ended.
func (a *awaited) await() {
	for {
		a.o.s.Lock()
		enough := a.o.ended || a.o.said != nil
		a.o.s.Unlock()
		if enough {
			return
		}
		a.o.done.Wait(0)
	}
}
