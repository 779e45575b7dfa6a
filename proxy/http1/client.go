package http1

import (
	"errors"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// ClientConfig says how a ClientConn behaves. The zero value is usable. OnIdle and OnClose must not wait; they are
// called on the connection's shard without its lock.
type ClientConfig struct {
	// OnIdle is called each time an exchange has ended and the connection can carry another.
	OnIdle func(*ClientConn)
	// OnClose is called once, when the connection can be used no more: closed or about to be.
	OnClose func(*ClientConn)
	// MaxHead is the size of the largest head of an answer, in bytes. If zero, 64 KiB.
	MaxHead int
	// AnswerTimeout bounds the wait for the head of the answer. If zero, none but the request's own Deadline.
	AnswerTimeout time.Duration
	// ContinueTimeout is how long the content of a request that expects 100 (Continue) is held back for an app that does not
	// answer. If zero, 1 s.
	ContinueTimeout time.Duration
	// Memory is shared by the connections of the shard to one app. If nil, there is none.
	Memory *Memory
}

// lateSend is how long a request's content may go on being sent after its answer is complete, before the connection is given up for it.
const lateSend = 100 * time.Millisecond

// ClientConn is the client's role on one connection. It carries one Exchange at a time, and belongs to its shard.
type ClientConn struct {
	// Static after construction.
	s      task.Shard
	c      task.Conn
	cfg    ClientConfig
	idler  func(error)
	sender func()

	// Owned by the task of the exchange: from RoundTrip until the Response is closed.
	in      source
	out     writer // owned by the task that sends while sending
	head    []byte // the memory of the answer's strings
	parsed  head
	dec     decoder // of the answer's content
	answer  answerBody
	stream  clientStream
	keep    bool   // the answer allows another exchange
	used    bool   // an exchange was completed before this one
	arrived bool   // a byte of the answer has arrived
	stale   bool   // see Stale
	mute    bool   // see Mute
	key     string // the Sec-WebSocket-Key that we have made, or ""

	// Owned by the task that sends while sending; set before it starts.
	body proxy.Body
	how  framing
	left int64

	gate task.Gate // the sender waits there for leave to send

	// Guarded by the shard's lock.
	state   clientState
	cancel  *proxy.Cancel // of the exchange; nil between two
	sending sendState
	leave   leaveState
	cut     error // why the content of the request ended early
}

// The states of a ClientConn.
//
//	idle --RoundTrip--> busy --(answer and request complete)--> idle
//	busy --(answer complete, request not)--> finishing --> idle or closed
//	any --(failure, cancellation, end of the connection)--> closed
type clientState uint8

const (
	idle clientState = iota
	busy
	finishing
	closed
)

// sendState says what became of the content of the request.
type sendState uint8

const (
	allSent  sendState = iota // or there was none
	underway                  // the sender runs
	notSent                   // it was not or not wholly sent: the connection cannot go on
)

// leaveState says whether the content of a request that expects 100 (Continue) may be sent.
type leaveState uint8

const (
	granted leaveState = iota
	awaited
	denied
)

// NewClientConn returns a ClientConn for c, a new connection of s, which it takes over.
func NewClientConn(s task.Shard, c task.Conn, cfg ClientConfig) *ClientConn {
	if cfg.MaxHead <= 0 {
		cfg.MaxHead = 64 << 10
	}
	if cfg.ContinueTimeout <= 0 {
		cfg.ContinueTimeout = time.Second
	}
	cc := &ClientConn{s: s, c: c, cfg: cfg}
	cc.in = source{s: s, c: c}
	cc.out = writer{s: s, c: c, hand: true}
	cc.answer.cc, cc.stream.cc = cc, cc
	cc.idler, cc.sender = cc.idleEnded, cc.send
	s.Gate(&cc.gate)
	c.OnHangup(cc.idler)
	return cc
}

// Conn returns the connection, for its addresses.
func (cc *ClientConn) Conn() task.Conn { return cc.c }

// Stale reports, after RoundTrip has failed, that the connection had carried an exchange before and ended without a byte of
// answer: most likely the app had closed it as idle. A request that is idempotent and has no content may then be sent
// again on a new connection (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
func (cc *ClientConn) Stale() bool { return cc.stale }

// Mute reports, after RoundTrip has failed, that the connection was new and ended without a byte of answer: it may be
// that the app does not speak HTTP/1.1.
func (cc *ClientConn) Mute() bool { return cc.mute }

// Close closes the connection. An exchange on it is cut short.
func (cc *ClientConn) Close() error {
	cc.shut(closeConn)
	return nil
}

// RoundTrip carries out one exchange; see proxy.RoundTripper. The Stream or Body of resp is used, and resp closed, on the connection's
// shard. After an error the connection is closed, unless nothing was sent.
func (cc *ClientConn) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if !cc.buildHead(req) {
		cc.out.free()
		cc.release()
		return &proxy.Error{Code: proxy.BadRequest, Detail: "the request cannot be said in HTTP/1.1", Unsent: true}
	}
	if req.Body == nil && req.Length > 0 {
		cc.out.free()
		cc.release()
		return &proxy.Error{Code: proxy.Internal, Detail: "a request with a length and no content", Unsent: true}
	}
	if err := cc.start(req); err != nil {
		cc.out.free()
		return err
	}
	cc.c.SetDeadline(cc.answerDeadline(req))
	unsent, err := cc.sendHead(req)
	if err == nil || !unsent {
		// The wait for the answer is here and not where it is read: each call that returns after a wait, on another task's heels, is one that the
		// processor has not foreseen.
		ready := cc.c.WaitReadable()
		err = cc.readAnswer(req, resp, err, ready)
	}
	if err != nil {
		return cc.fail(resp, err, unsent)
	}
	resp.OnClose(cc)
	return nil
}

// release tells the pool that the connection, which nobody has used, is idle.
func (cc *ClientConn) release() {
	if cc.cfg.OnIdle != nil && cc.Idle() {
		cc.cfg.OnIdle(cc)
	}
}

// Idle reports whether RoundTrip may be called.
func (cc *ClientConn) Idle() bool {
	cc.s.Lock()
	state := cc.state
	cc.s.Unlock()
	return state == idle
}

// start begins an exchange.
func (cc *ClientConn) start(req *proxy.Request) error {
	cc.stale, cc.mute = false, false
	cc.s.Lock()
	was := cc.state
	if was == idle {
		cc.state, cc.cancel, cc.cut = busy, req.Cancel, nil
		cc.sending, cc.leave = allSent, granted
	}
	cc.s.Unlock()
	if was != idle {
		cc.stale = cc.used
		return &proxy.Error{Code: proxy.AppClosed, Detail: "the app closed the connection before the request was sent", Unsent: true}
	}
	cc.keep, cc.arrived = false, false
	cc.c.OnHangup(nil)
	if req.Cancel == nil {
		return nil
	}
	if _, err := req.Cancel.Watch(cc); err != nil {
		cc.end()
		cc.rest()
		return &proxy.Error{Code: proxy.ClientGone, Detail: "cancelled before the request was sent", Unsent: true, Err: err}
	}
	return nil
}

func (cc *ClientConn) answerDeadline(req *proxy.Request) task.Instant {
	d := req.Deadline
	if t := cc.cfg.AnswerTimeout; t > 0 {
		if by := cc.s.Now().Add(t); d == 0 || by < d {
			d = by
		}
	}
	return d
}

// end takes the exchange off its Cancel.
func (cc *ClientConn) end() {
	cc.s.Lock()
	c := cc.cancel
	cc.cancel = nil
	cc.s.Unlock()
	if c != nil {
		c.Unwatch(cc)
	}
}

// rest makes the connection idle.
func (cc *ClientConn) rest() {
	cc.in.drop()
	cc.c.SetDeadline(0)
	cc.s.Lock()
	open := cc.state != closed
	if open {
		cc.state = idle
	}
	cc.s.Unlock()
	if !open {
		return
	}
	cc.c.OnHangup(cc.idler)
	if cc.cfg.OnIdle != nil {
		cc.cfg.OnIdle(cc)
	}
}

// shut closes the connection with how, once.
func (cc *ClientConn) shut(how func(task.Conn) error) {
	cc.s.Lock()
	was := cc.state
	cc.state = closed
	if cc.leave == awaited {
		cc.leave = denied
		cc.gate.Wake()
	}
	cc.s.Unlock()
	if was == closed {
		return
	}
	how(cc.c)
	if cc.cfg.OnClose != nil {
		cc.cfg.OnClose(cc)
	}
}

// idleEnded is the callback of an idle connection: the app has closed it, or says something that nobody asked for.
func (cc *ClientConn) idleEnded(error) {
	if cc.Idle() {
		cc.shut(closeConn)
	}
}

// Canceled resets the connection of the exchange that was cancelled; see proxy.Canceled.
func (cc *ClientConn) Canceled(error) {
	cc.s.Lock()
	c := cc.cancel
	cc.s.Unlock()
	if c != nil && c.Err() != nil {
		cc.shut(resetConn)
	}
}

// CloseResponse ends the exchange; see proxy.ResponseCloser. The connection goes on if request and answer are complete.
func (cc *ClientConn) CloseResponse(resp *proxy.Response) {
	complete := cc.dec.state == done
	goesOn := resp.Stream == nil && cc.keep && complete && cc.in.buffered() == 0
	cc.s.Lock()
	cancel, sending := cc.cancel, cc.sending
	cc.cancel = nil
	if goesOn && sending == underway && cc.state == busy {
		cc.state = finishing
		cc.s.After(lateSend, cc.giveUpSending)
	}
	cc.s.Unlock()
	if cancel != nil {
		cancel.Unwatch(cc)
	}
	switch {
	case resp.Stream != nil || !goesOn && !complete:
		cc.in.drop()
		cc.shut(resetConn) // unless it was closed before
	case !goesOn:
		cc.in.drop()
		cc.shut(closeConn)
	case sending == allSent:
		cc.used = true
		cc.rest()
	case sending == notSent:
		cc.shut(closeConn)
	}
}

// giveUpSending ends a connection that is still sending a request that was answered.
func (cc *ClientConn) giveUpSending() {
	cc.s.Lock()
	late := cc.state == finishing
	cc.s.Unlock()
	if late {
		cc.shut(resetConn)
	}
}

// fail ends an exchange that has no answer, and says why.
func (cc *ClientConn) fail(resp *proxy.Response, err error, unsent bool) error {
	named := cc.explain(err)
	silent := !cc.arrived && named.Code == proxy.AppClosed
	cc.stale, cc.mute = cc.used && silent, !cc.used && silent
	named.Unsent = unsent
	cc.end()
	cc.in.drop()
	cc.shut(resetConn)
	*resp = proxy.Response{Fields: resp.Fields[:0]}
	return named
}

// explain names a failure of the exchange.
func (cc *ClientConn) explain(err error) *proxy.Error {
	cc.s.Lock()
	cancel, cut := cc.cancel, cc.cut
	cc.s.Unlock()
	var b *badMessage
	var named *proxy.Error
	switch {
	case cancel != nil && cancel.Err() != nil:
		return &proxy.Error{Code: proxy.ClientGone, Detail: "the exchange was cancelled", Err: cancel.Err()}
	case errors.As(cut, &named):
		return &proxy.Error{Code: named.Code, Detail: named.Detail, Err: named.Err}
	case cut != nil:
		return &proxy.Error{Code: proxy.ClientGone, Detail: "the content of the request was cut short", Err: cut}
	case errors.As(err, &b):
		return &proxy.Error{Code: proxy.AppBadAnswer, Detail: "the app's answer is not acceptable HTTP: " + b.reason}
	case errors.Is(err, ErrHTTP2):
		return &proxy.Error{Code: proxy.AppBadAnswer, Detail: "it answered HTTP/1.1 with HTTP/2; its protocol is h2c", Err: err}
	case errors.Is(err, task.ErrDeadline):
		return &proxy.Error{Code: proxy.Timeout, Detail: "the app did not answer in time", Err: err}
	case cc.arrived:
		return &proxy.Error{Code: proxy.AppClosed, Detail: "the app broke off its answer", Err: err}
	}
	return &proxy.Error{Code: proxy.AppClosed, Detail: "the app closed the connection before it answered", Err: err}
}
