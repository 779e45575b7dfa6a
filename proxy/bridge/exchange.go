package bridge

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

var (
	errDone  = errors.New("the exchange is over")
	errPanic = &proxy.Error{Code: proxy.Internal, Detail: "the link's side of the exchange ended by a bug"}
)

// maxInforms bounds the 1xx answers that wait for the near side; more are dropped.
const maxInforms = 32

// exchange is one Exchange, Stream or Flow that crosses. Near methods are called by tasks and callbacks of the near shard, far ones by those of the far
// shard. It is not used again.
type exchange struct {
	// Static once the far half has begun.
	b    *Bridge
	body proxy.Body // near: of the request; nil if it has none
	up   *pipe      // to the far side: the request's body, or a Stream; nil if there is neither
	req  proxy.Request
	// begun carries out what is left of req; nil if nothing has been done yet.
	begun proxy.RoundTripper

	gate    task.Gate // where RoundTrip waits
	wake    func()
	watched *proxy.Cancel // near: where the exchange is registered
	cancel  proxy.Cancel  // of req

	// Owned by the far half.
	resp proxy.Response

	// Written by the far half before settled.
	head      proxy.Response
	down      *pipe // the answer's body, or a Stream
	flow      *flow // nil if there is none
	farStream proxy.Stream
	farFlow   proxy.Flow

	mu      sync.Mutex // never held over a wait or a call
	settled bool       // there is a head, or err
	err     error
	informs []informed
	ended   error // the near half has ended: by cancellation, or because it is done
	left    int   // halves that have not ended
}

// informed is a 1xx answer on its way.
type informed struct {
	status int
	fields proxy.Fields
}

func newExchange(b *Bridge, req *proxy.Request) *exchange {
	x := &exchange{b: b, watched: req.Cancel, left: 2}
	b.near.Gate(&x.gate)
	x.wake = task.Waker(b.near, &x.gate)
	x.copyRequest(req)
	return x
}

// await waits for the answer's head, near.
func (x *exchange) await(req *proxy.Request) error {
	x.mu.Lock()
	for {
		switch {
		case len(x.informs) > 0:
			i := x.informs[0]
			x.informs = x.informs[1:]
			x.mu.Unlock()
			req.Inform(i.status, i.fields)
			x.mu.Lock()
			continue
		case x.ended != nil:
			err := x.ended
			x.mu.Unlock()
			x.halfDone()
			return err
		case x.settled:
			err := x.err
			x.mu.Unlock()
			if err != nil {
				x.halfDone()
			}
			return err
		}
		x.mu.Unlock()
		x.gate.Wait(0)
		x.mu.Lock()
	}
}

// fillResponse hands the head to the caller, near.
func (x *exchange) fillResponse(resp *proxy.Response) {
	h := &x.head
	resp.Status, resp.Reason, resp.Version, resp.Length, resp.Code = h.Status, h.Reason, h.Version, h.Length, h.Code
	resp.Fields = append(resp.Fields[:0], h.Fields...)
	switch {
	case x.farStream != nil:
		resp.Stream = &stream{x: x}
	case x.down != nil:
		resp.Body = x.down
	}
	if x.flow != nil {
		resp.Flow = x.flow
	}
	resp.OnClose(x)
}

// CloseResponse is the end of the near half: what still runs on the far side is reset.
func (x *exchange) CloseResponse(*proxy.Response) {
	x.unwatch()
	x.end(task.ErrClosed)
	x.halfDone()
}

// Canceled implements proxy.Canceled: the client has left.
func (x *exchange) Canceled(err error) {
	var e *proxy.Error
	if !errors.As(err, &e) {
		err = &proxy.Error{Code: proxy.ClientGone, Detail: "the client left", Err: err}
	}
	x.end(err)
}

// abort is the end of a near half whose task was unwound.
func (x *exchange) abort(err error) {
	x.end(err)
	x.halfDone()
}

func (x *exchange) unwatch() {
	if x.watched != nil {
		x.watched.Unwatch(x)
	}
}

// end ends the exchange from the near side, and the far half if it still runs.
func (x *exchange) end(err error) {
	x.mu.Lock()
	if x.ended != nil {
		x.mu.Unlock()
		return
	}
	x.ended = err
	settled, stream, flow := x.settled, x.farStream, x.farFlow
	x.mu.Unlock()
	over := settled && x.endPipes(err)
	x.gate.Wake()
	if over {
		return
	}
	x.b.far.Post(func() {
		x.cancel.Cancel(err)
		if stream != nil {
			stream.Reset()
		}
		if flow != nil {
			flow.Close()
		}
	})
}

// endPipes breaks what still runs near, and reports whether nothing did. The head was there.
func (x *exchange) endPipes(err error) (over bool) {
	over = true
	if x.flow != nil {
		over = x.flow.end(err)
	}
	if x.down != nil {
		over = x.down.drained() && over
		x.down.leave(err)
	}
	if x.up != nil && (x.farStream == nil || !x.up.finished()) {
		over = over && x.up.finished()
		x.up.finish(err, nil)
	}
	return over
}

// halfDone counts the two halves out.
func (x *exchange) halfDone() {
	x.mu.Lock()
	x.left--
	last := x.left == 0
	x.mu.Unlock()
	if last {
		x.b.running.Add(-1)
	}
}

// wanted is called by the far side when it first waits for more of the request's body.
func (x *exchange) wanted() { task.Start(x.b.near, x.pump) }

// pump is the near task that sends a body which was not there at once.
func (x *exchange) pump() {
	err := error(task.ErrClosed)
	defer func() { x.endUp(err) }()
	err = x.up.fill(x.body)
}

// inform is the far request's Inform.
func (x *exchange) inform(status int, fields proxy.Fields) {
	fields = cloneFields(fields)
	x.mu.Lock()
	if len(x.informs) < maxInforms {
		x.informs = append(x.informs, informed{status, fields})
	}
	x.mu.Unlock()
	x.wake()
}

// settle lets the near side have the answer, or err. It reports false if nobody wants it any more.
func (x *exchange) settle(err error) bool {
	x.mu.Lock()
	wanted := x.ended == nil
	if x.settled {
		x.mu.Unlock()
		return wanted
	}
	x.settled, x.err = true, err
	if wanted && err == nil {
		x.farStream, x.farFlow = x.resp.Stream, x.resp.Flow
	}
	x.mu.Unlock()
	x.wake()
	return wanted
}

// serve is the far half.
func (x *exchange) serve() {
	whole := false
	defer func() {
		if !whole { // a bug, or the task is being unwound
			x.broke(errPanic)
		}
		x.halfDone()
	}()
	x.exchange()
	whole = true
}

// broke ends whatever the near side may still wait for.
func (x *exchange) broke(err error) {
	x.mu.Lock()
	settled := x.settled
	x.mu.Unlock()
	if !settled {
		x.settle(err)
	}
	if x.down != nil {
		x.down.finish(err, nil)
	}
	if x.up != nil {
		x.up.leave(err)
	}
	if x.flow != nil {
		x.flow.broke(err)
	}
	x.resp.Close()
}

func (x *exchange) exchange() {
	to := x.begun
	if to == nil {
		to = x.b.to
	}
	if err := to.RoundTrip(&x.req, &x.resp); err != nil {
		x.settle(err)
		return
	}
	defer x.resp.Close()
	x.copyHead()
	if x.resp.Stream != nil || x.resp.Flow != nil {
		x.relay()
		return
	}
	if x.resp.Body != nil {
		x.download()
	} else {
		x.settle(nil)
	}
	if x.up != nil { // the answer is complete: what is still to come of the request is not wanted
		x.up.leave(errDone)
	}
}

// together is how long the head of an answer with little content may wait for that, so that the near side is woken once.
const together = time.Millisecond

// download moves the answer's body. What is there already goes with the head.
func (x *exchange) download() {
	body := x.resp.Body
	x.down = newPipe(&x.b.chunks, x.b.far, x.b.near)
	err := error(nil)
	for err == nil && body.Buffered() != 0 {
		if x.down.size >= maxPipe/2 {
			break
		}
		err = x.down.step(body)
	}
	if n := x.resp.Length; err == nil && n > 0 && n <= task.BufferSize {
		t := x.b.far.After(together, func() { x.settle(nil) })
		err = x.down.fill(body)
		t.Stop()
	}
	x.endDown(err)
	if !x.settle(nil) {
		x.down.leave(errDone)
		return
	}
	if err == nil {
		x.endDown(x.down.fill(body))
	}
}

// endDown ends the answer's body with err, if that is not nil.
func (x *exchange) endDown(err error) {
	if err == nil {
		return
	}
	var trailers proxy.Fields
	if err == io.EOF {
		trailers = slices.Clip(cloneFields(x.resp.Body.Trailers()))
	}
	x.down.finish(err, trailers)
}
