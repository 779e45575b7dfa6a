package http1

import (
	"errors"
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// exchange is one request and its answer on a server's connection, and what outlives it there until the connection is idle.
type exchange struct {
	// Static after construction.
	srv      *Server
	s        task.Shard
	memory   *Memory // the shard's; nil beyond maxShards
	informer func(status int, fields proxy.Fields)
	hangups  [4]func(error) // see watch
	next     *exchange      // on a shelf

	// Owned by the task that serves.
	c       task.Conn
	in      source
	out     writer
	head    []byte // the memory of req's strings
	parsed  head
	req     proxy.Request
	resp    proxy.Response
	cancel  proxy.Cancel
	inline  content   // the request's content, if it had wholly arrived with the head
	body    *content  // inline or another; nil if there is none
	last    bool      // the connection does not go on after this answer
	unread  bool      // bytes may come that nobody will look at
	wentOn  bool      // 100 (Continue) was sent
	quiet   bool      // the connection is closed or idle
	inlined bool      // inline was used since the exchange was taken from its shelf
	started func()    // sets the deadline of a head
	gate    task.Gate // woken when a reader leaves an abandoned content

	// Guarded by the shard's lock.
	serial  uint32 // counts the watches
	state   answerState
	pushing bool // somebody pushes a 1xx
	half    halfClosed
	gone    error // why the client was given up
}

// answerState says what of an answer was sent: nothing, 100 (Continue), the final head.
type answerState uint8

const (
	unanswered answerState = iota
	continued
	answered
)

// errGone is the reason that a Cancel carries when the client has left.
var errGone = &proxy.Error{Code: proxy.ClientGone, Detail: "the client left before its answer was complete"}

func newExchange(srv *Server, s task.Shard) *exchange {
	x := &exchange{srv: srv, s: s, memory: srv.memory(s)}
	s.Gate(&x.gate)
	x.informer = x.inform
	x.started = x.headStarted
	x.cancel.On(s)
	for i := range x.hangups {
		x.hangups[i] = func(err error) { x.hangup(uint32(i), err) }
	}
	return x
}

// open begins the service of c.
func (x *exchange) open(c task.Conn, first *task.Buffer) {
	x.c = c
	x.in = source{s: x.s, c: c, buf: first}
	x.in.release()
	x.out = writer{s: x.s, c: c}
	x.quiet = false
}

// leave ends the service. If it was ended by a panic the connection is in an unknown state and x too.
func (x *exchange) leave() {
	if !x.quiet {
		x.c.Reset()
		x.unwatch()
		if !x.closeBody() {
			x.in.drop()
		}
		x.out.free()
		x.cancel.Cancel(errGone)
		x.resp.Close()
		return
	}
	x.in.drop()
	x.out.free()
	x.c, x.in, x.out = nil, source{}, writer{}
	x.srv.put(x)
}

// serveOne reads one request and answers it. It reports whether the connection can take another.
func (x *exchange) serveOne() bool {
	x.begin()
	end, wrong := recallRequest(x.in.unread(), x.srv.cfg.MaxHead, &x.req, &x.parsed, x.memory)
	if end > 0 {
		x.in.use(end)
		x.in.release()
	} else {
		head, err := x.in.readHead(x.srv.cfg.MaxHead, true, x.started)
		if err != nil {
			x.headFailed(err)
			return false
		}
		x.c.SetDeadline(0)
		if cap(x.head) < len(head) {
			x.head = make([]byte, 0, max(len(head), firstHead))
		}
		x.head = append(x.head[:0], head...)
		x.in.use(len(head))
		x.in.release()
		wrong = parseRequest(x.head, &x.req, &x.parsed, x.memory)
	}
	if wrong != nil {
		x.refuse(wrong)
		return false
	}
	x.last = !x.parsed.persistent(x.req.Version)
	x.openBody()
	if x.req.Upgrade != "" || x.req.Method == "CONNECT" {
		x.last = true // what follows such a head belongs to nobody if the answer is no
	}
	if p := x.srv.cfg.Prepare; p != nil {
		p(&x.req, x.c)
	}
	x.c.OnHangup(x.hangups[x.serial&3]) // as watch does; serial is this task's
	if err := x.srv.cfg.Handler.RoundTrip(&x.req, &x.resp); err != nil {
		return x.failed(err)
	}
	return x.answer()
}

// begin makes x ready for the next request.
func (x *exchange) begin() {
	fields := x.req.Fields[:0]
	x.req = proxy.Request{} // cleared in place, which is cheaper than a copy
	x.req.Fields, x.req.Shard, x.req.Cancel, x.req.Inform = fields, x.s, &x.cancel, x.informer
	x.cancel.Reset()
	x.body = nil
	x.last, x.unread, x.wentOn = false, false, false
	x.s.Lock()
	x.state, x.gone, x.pushing = unanswered, nil, false
	x.s.Unlock()
}

func (x *exchange) headStarted() {
	if t := x.srv.cfg.HeadTimeout; t > 0 {
		x.c.SetDeadline(x.s.Now().Add(t))
	}
}

// headFailed ends a connection whose next head did not come or is none.
func (x *exchange) headFailed(err error) {
	var b *badMessage
	switch {
	case errors.As(err, &b):
		x.refuse(b)
	case errors.Is(err, task.ErrDeadline) && x.in.buffered() > 0:
		x.c.SetDeadline(0)
		x.refuse(&badMessage{408, "the head of the request did not arrive in time"})
	case err == io.EOF:
		x.c.Close()
	default:
		x.c.Reset()
	}
}

// refuse answers what is no request. Nothing of it is forwarded, and nothing more of its connection is read as one.
func (x *exchange) refuse(b *badMessage) {
	x.last, x.unread = true, true
	x.req.Length, x.req.Upgrade = 0, ""
	x.fill(b.asError())
	x.resp.Status, x.resp.Reason = b.status, ""
	x.in.drop()
	x.answer()
}

// failed answers a request whose handler returned err.
func (x *exchange) failed(err error) bool {
	if x.left() != nil {
		return x.abort()
	}
	if x.body != nil && !x.closeBody() && x.body.dec.state != done {
		x.last, x.unread = true, true
	}
	x.fill(err)
	return x.answer()
}

// fill makes pillion's own answer.
func (x *exchange) fill(err error) {
	x.resp = proxy.Response{Fields: x.resp.Fields[:0]}
	if x.srv.cfg.Answer != nil {
		x.srv.cfg.Answer(&x.req, &x.resp, err)
	} else {
		plainAnswer(&x.resp, err)
	}
}

// left returns why the client was given up, or nil.
func (x *exchange) left() error {
	x.s.Lock()
	defer x.s.Unlock()
	return x.gone
}

// watch has the connection watched while the handler waits elsewhere. Each watch has a callback of its own among four: on
// goroutines one that was removed may still come, and must not be taken for that of the next exchange.
func (x *exchange) watch() {
	x.s.Lock()
	f := x.hangups[x.serial&3]
	x.s.Unlock()
	x.c.OnHangup(f)
}

// unwatch ends the watch.
func (x *exchange) unwatch() {
	x.c.OnHangup(nil)
	x.s.Lock()
	x.serial++
	x.endHalfClosed()
	x.s.Unlock()
}

// hangup is the callback of a watch. err is nil if bytes came: the next request, which can wait.
func (x *exchange) hangup(which uint32, err error) {
	if err == nil {
		return
	}
	if err == io.EOF && x.srv.cfg.HalfClosed < 0 {
		return
	}
	x.s.Lock()
	if x.serial&3 != which {
		x.s.Unlock()
		return
	}
	serial := x.serial
	if err == io.EOF {
		x.beginHalfClosed(serial)
		x.s.Unlock()
		return
	}
	x.s.Unlock()
	x.giveUp(serial)
}

// giveUp cancels the exchange that is still the one watched with serial.
func (x *exchange) giveUp(serial uint32) {
	x.s.Lock()
	if x.serial != serial {
		x.s.Unlock()
		return
	}
	x.gone = errGone
	x.s.Unlock()
	x.cancel.Cancel(errGone)
}
