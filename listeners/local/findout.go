package local

import (
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy/detect"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	// trustTimeout is how long a client may be silent at a service that spoke HTTP so far, before its app is asked whether it has become one
	// that speaks first.
	trustTimeout = 100 * time.Millisecond
	// patience is how long such an app is then given to speak. After that its connection is given back, and the client's is idle: of a service that does
	// speak HTTP, clients that connect and say nothing would hold many.
	patience = 30 * time.Second
	// silentTimeout is how long a client of an unreachable service may be silent before it is reset.
	silentTimeout = time.Second
)

// expectHTTP serves a connection to a service that was seen to speak HTTP. No Stream is opened if the client does as well.
func (p *port) expectHTTP(s task.Shard, c task.Conn) {
	c.SetDeadline(s.Now().Add(trustTimeout))
	err := c.WaitReadable()
	c.SetDeadline(0)
	if err == task.ErrDeadline {
		p.findOut(s, c, nil, p.server.patience)
		return
	}
	first := s.Buffer()
	if err == nil {
		first.W, err = c.Read(first.B)
	}
	if err != nil {
		s.Free(first)
		c.Close()
		return
	}
	p.serveFound(s, c, first)
}

// serveFound serves a connection that is taken for one that speaks HTTP: it has done so before, or the service did. Its bytes have the last word.
func (p *port) serveFound(s task.Shard, c task.Conn, first *task.Buffer) {
	v, sure := detect.Sniff(first.Unread())
	switch {
	case v == detect.HTTP2:
		p.serveHTTP2(s, c, first)
	case v == detect.HTTP1, !sure && first.Unread()[0] == '\r': // an empty line before a request means nothing
		p.http1.Serve(s, c, first)
	default:
		p.findOut(s, c, first, 0)
	}
}

// findOut serves a connection of which it is not known what it speaks, without making anybody wait: the Stream is opened at once, as a
// protocol needs in which the server speaks first. What a client says that may yet become HTTP is passed on at once, too: half a request line
// makes no app do anything. If it does become HTTP, the Stream is given up and the request is served. first, if not nil, holds what the client has said already.
// With a limit, c becomes idle if nobody has spoken by then.
func (p *port) findOut(s task.Shard, c task.Conn, first *task.Buffer, limit time.Duration) {
	o := p.begin(s, c, first)
	if limit > 0 {
		o.limit = s.Now().Add(limit)
	}
	defer o.unwound()
	switch o.decide() {
	case asHTTP1:
		o.giveUp()
		p.http1.Serve(s, c, o.takeFirst())
	case asHTTP2:
		o.giveUp()
		p.serveHTTP2(s, c, o.takeFirst())
	case asNothing:
		o.giveUp()
		p.refuse(s, c, o.takeFirst(), detect.Other)
	case asBytes:
		o.finish()
		o.relayed = true
		p.relay(s, c, o.unsent(), &o.resp, o.err)
	case nobody:
		o.giveUp()
	case over:
		o.giveUp()
		c.Close()
	case broken:
		o.giveUp()
		c.Reset()
	}
}

// begin begins to open a Stream.
func (p *port) begin(s task.Shard, c task.Conn, first *task.Buffer) *opening {
	o := &opening{s: s, c: c, port: p, first: first, req: p.connect(s, c), handler: p.server.cfg.Handler}
	s.Gate(&o.gate)
	s.Gate(&o.done)
	s.Go(o.run)
	return o
}

type decision int

const (
	undecided decision = iota
	asHTTP1
	asHTTP2
	asBytes
	nobody    // has spoken in time
	asNothing // which the service does not understand
	over      // Shutdown was called before anybody spoke
	broken    // the client has left
)

// decide waits until it is clear how to go on.
func (o *opening) decide() decision {
	silent := o.port.server.open[o.s.Index()].silent
	o.s.Lock()
	silent[o] = struct{}{}
	o.stop = o.port.server.closing.Load()
	o.s.Unlock()
	defer func() {
		o.s.Lock()
		delete(silent, o)
		o.s.Unlock()
		o.c.OnHangup(nil)
	}()

	d := o.judge()
	o.c.OnHangup(o.clientEvent)
	for d == undecided {
		switch o.wait() {
		case clientSpoke:
			d = o.listen()
		case streamOpen:
			d = o.passOn()
		case serverSpoke:
			o.noteServer()
			d = asBytes
		case streamFailed:
			d = o.unreachable()
		case timeUp:
			d = nobody
			if o.failed { // which resets the client
				d = asBytes
			}
		case stopping:
			d = over
		}
	}
	return d
}

// listen reads what the client says.
func (o *opening) listen() decision {
	if !o.failed {
		o.limit = 0
	}
	if o.first == nil {
		o.first = o.s.Buffer()
	}
	if len(o.first.Room()) == 0 {
		return asBytes
	}
	n, err := o.c.Read(o.first.Room())
	o.first.W += n
	switch {
	case n > 0:
	case err == io.EOF: // it may wait for an answer to what it has said, or to nothing
		return asBytes
	case err != nil:
		return broken
	}
	d := o.judge()
	if d == undecided {
		o.c.OnHangup(o.clientEvent)
	}
	return d
}

// judge looks at what the client has said so far.
func (o *opening) judge() decision {
	if o.first == nil {
		return undecided
	}
	switch v, sure := detect.Sniff(o.first.Unread()); {
	case !sure:
		return undecided
	case v == detect.HTTP1:
		return asHTTP1
	case v == detect.HTTP2:
		return asHTTP2
	case detect.BadPreface(o.first.Unread()) && o.port.server.memory.recall(o.port.Service) == detect.HTTP2:
		return asNothing
	default:
		o.answered = func() { o.port.note(v) } // by the app, which shows that the client was not lost
		return asBytes
	}
}

// passOn sends what is in doubt, so that an app which answers to it need not wait for the rest.
func (o *opening) passOn() decision {
	n, err := o.resp.Stream.Write(o.first.B[o.sent:o.first.W])
	o.sent += n
	if err != nil {
		return asBytes // the relay meets the same error
	}
	return undecided
}

// noteServer remembers that the app spoke before its client. Its end is no word, an app that closes silent connections may well speak
// HTTP, and neither is what an HTTP server says to such.
func (o *opening) noteServer() {
	o.s.Lock()
	said := o.said != nil
	v := o.saidIs
	o.s.Unlock()
	if said && o.first == nil && v != detect.HTTP1 && v != detect.HTTP2 {
		o.port.note(detect.ServerFirst)
	}
}

// unreachable waits a little for the client of a service without an app: an HTTP client deserves an answer that explains it.
func (o *opening) unreachable() decision {
	if o.port.server.memory.recall(o.port.Service) == detect.ServerFirst {
		return asBytes // which resets the client
	}
	o.failed, o.limit = true, o.s.Now().Add(silentTimeout)
	return undecided
}
