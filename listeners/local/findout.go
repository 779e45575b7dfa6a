package local

import (
	"errors"
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/detect"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// How long bytes that could still become HTTP are held back, and how long a client of an unreachable service may stay silent.
const (
	doubtTimeout  = 500 * time.Millisecond
	silentTimeout = time.Second
)

// findOut serves the first connection to a service of which nothing is known, without making anybody wait: the Stream is opened at once, as a
// protocol needs in which the server speaks first; if the client speaks first and speaks HTTP, the Stream is given up and the request is served.
func (p *port) findOut(s task.Shard, c task.Conn) {
	o := &opening{s: s, req: p.connect(s, c), handler: p.server.cfg.Handler}
	s.Gate(&o.gate)
	s.Gate(&o.done)
	c.OnHangup(o.clientEvent)
	s.Go(o.run)
	who := p.whoSpeaks(s, o)
	c.OnHangup(nil)

	switch who {
	case clientSpoke:
		p.clientFirst(s, c, o)
		return
	case stopping:
		o.giveUp()
		c.Close()
		return
	case serverSpoke:
		// Its end is no word: an app that closes silent connections may well speak HTTP.
		o.spoken = func() { p.note(detect.ServerFirst) }
	}
	o.finish(c)
	p.relay(s, c, nil, &o.resp, o.err)
}

// whoSpeaks waits for the first thing that happens, Shutdown included.
func (p *port) whoSpeaks(s task.Shard, o *opening) event {
	silent := p.server.open[s.Index()].silent
	s.Lock()
	silent[o] = struct{}{}
	o.stop = p.server.closing.Load()
	s.Unlock()
	defer func() {
		s.Lock()
		delete(silent, o)
		s.Unlock()
	}()
	who := o.wait(0)
	if who == streamFailed { // an HTTP client deserves an answer that explains it
		who = o.wait(s.Now().Add(silentTimeout))
	}
	return who
}

// clientFirst goes on with a client that has said something, or has left.
func (p *port) clientFirst(s task.Shard, c task.Conn, o *opening) {
	first := s.Buffer()
	v, err := p.firstBytes(s, c, first)
	switch {
	case err == nil && v == detect.HTTP1:
		o.giveUp()
		p.http1.Serve(s, c, first)
		return
	case err == nil && v == detect.HTTP2:
		o.giveUp()
		p.serveHTTP2(s, c, first)
		return
	case err == nil && p.server.memory.recall(p.Service) == detect.Unknown:
		p.note(v)
	case err != nil && err != io.EOF && !errors.Is(err, task.ErrDeadline):
		s.Free(first)
		o.giveUp()
		c.Reset()
		return
	}
	o.finish(c)
	p.relay(s, c, first, &o.resp, o.err)
}

// firstBytes reads what a client that spoke first said. Bytes that could still become HTTP are waited for a little, and no
// verdict is remembered from them.
func (p *port) firstBytes(s task.Shard, c task.Conn, first *task.Buffer) (detect.Verdict, error) {
	c.SetDeadline(s.Now().Add(doubtTimeout))
	defer c.SetDeadline(0)
	for len(first.Room()) > 0 {
		n, err := c.Read(first.Room())
		first.W += n
		if err != nil {
			return detect.Unknown, err
		}
		if v, ok := detect.Sniff(first.Unread()); ok {
			return v, nil
		}
	}
	return detect.Other, nil
}

type event int

const (
	nothing      event = iota
	clientSpoke        // bytes, or the end
	serverSpoke        // bytes, or the end
	streamFailed       // no Stream could be opened
	stopping           // Shutdown was called before anybody spoke
)

// opening is the attempt to open a Stream while nobody has spoken. Its state is guarded by the shard's lock.
type opening struct {
	s       task.Shard
	gate    task.Gate // something has happened
	done    task.Gate // run has ended
	req     *proxy.Request
	handler proxy.RoundTripper

	resp           proxy.Response
	err            error
	client, server bool
	opened, ended  bool
	givenUp        bool
	stop           bool

	spoken func() // if not nil, called before the server's first bytes are passed on; owned by the relay's task
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

// run opens the Stream and waits for the server's first byte.
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
		if w.WaitReadable() == nil {
			o.s.Lock()
			o.server = true
			o.s.Unlock()
		}
	}
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

// wait returns the first thing that has happened.
func (o *opening) wait(deadline task.Instant) event {
	for {
		o.s.Lock()
		e := nothing
		switch {
		case o.client:
			e = clientSpoke
		case o.opened && (o.err != nil || o.resp.Stream == nil) && deadline == 0:
			e = streamFailed
		case o.server || o.ended && o.opened && o.err == nil && o.resp.Stream != nil:
			e = serverSpoke
		case o.stop:
			e = stopping
		}
		o.s.Unlock()
		if e != nothing {
			return e
		}
		if !o.gate.Wait(deadline) {
			return streamFailed
		}
	}
}

var errNotNeeded = errors.New("the client speaks HTTP: no stream is needed")

// giveUp ends the attempt without waiting for it.
func (o *opening) giveUp() {
	o.s.Lock()
	o.givenUp = true
	ended, stream := o.ended, o.resp.Stream
	o.s.Unlock()
	o.req.Cancel.Cancel(errNotNeeded)
	switch {
	case ended && o.err == nil:
		o.resp.Close()
	case stream != nil:
		_ = stream.Reset() // wakes run, which closes the Response
	}
}

// finish waits until the Stream is open or has failed.
func (o *opening) finish(c task.Conn) {
	c.OnHangup(o.clientBroke)
	defer c.OnHangup(nil)
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

// awaited is a Stream on which run may still be waiting for the server's first byte: only one task may wait at a time, so the
// first Read waits for run instead.
type awaited struct {
	proxy.Stream
	o *opening
}

func (a *awaited) Read(p []byte) (int, error) {
	a.await()
	n, err := a.Stream.Read(p)
	if n > 0 && a.o.spoken != nil {
		a.o.spoken()
		a.o.spoken = nil
	}
	return n, err
}

// WaitReadable implements proxy.Waiter.
func (a *awaited) WaitReadable() error {
	a.await()
	if w, ok := a.Stream.(proxy.Waiter); ok {
		return w.WaitReadable()
	}
	return nil
}

func (a *awaited) await() {
	for {
		a.o.s.Lock()
		ended := a.o.ended
		a.o.s.Unlock()
		if ended {
			return
		}
		a.o.done.Wait(0)
	}
}
