package http2

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// gotRequest opens a stream for the request in c.head. The lock is held.
func (c *Conn) gotRequest(b block) error {
	c.lastPeer = b.id
	c.limits.reward()
	d := &c.head
	switch {
	case b.id > c.lastAccepted, c.streams.len() >= c.cfg.MaxStreams, c.running >= runningFactor*c.cfg.MaxStreams:
		return c.refuse(b, ErrRefusedStream, "streams beyond the limit")
	case b.selfish:
		return c.refuse(b, ErrProtocol, "streams that depend on themselves")
	case d.TooLarge:
		return c.refuseHead(b)
	}
	bad := d.Request()
	if bad == "" && b.endStream && d.Length > 0 {
		bad = "content-length without content"
	}
	if bad != "" {
		c.log("malformed request", "stream", b.id, "reason", bad)
		return c.refuse(b, ErrProtocol, "malformed requests")
	}
	st := c.newStream(b.id)
	c.streams.put(st)
	st.headDone = true
	c.fillRequest(st, b.endStream)
	st.inEnd = b.endStream
	c.running++
	c.s.Go(st.run)
	return nil
}

// refuse resets a stream that never becomes one.
func (c *Conn) refuse(b block, code ErrCode, what string) error {
	c.ready()
	c.out = appendRST(c.out, b.id, code)
	c.kick()
	if b.endStream {
		c.endedIDs.add(b.id)
	} else {
		c.resetIDs.add(b.id)
	}
	return c.chargeReset(what)
}

// refuseHead answers 431 where the head is larger than Config.MaxHead.
func (c *Conn) refuseHead(b block) error {
	c.ready()
	at := c.beginBlock(b.id, flagEndStream)
	c.enc.status(431)
	c.endBlock(at)
	if b.endStream {
		c.endedIDs.add(b.id)
		return c.chargeReset("heads that are too large")
	}
	return c.refuse(b, ErrNo, "heads that are too large")
}

// fillRequest makes st.req of what is in c.head.
func (c *Conn) fillRequest(st *stream, ended bool) {
	d, r := &c.head, &st.req
	d.own(&st.parent)
	spare := r.Fields[:0] // the rest of it is empty, see recycle
	r.Method, r.Scheme, r.Authority, r.Path, r.Upgrade = d.Method, d.Scheme, d.Authority, d.Path, d.Protocol
	r.Version, r.Fields, r.Names, r.Expect = proxy.HTTP2, d.Fields, d.Names|proxy.NamesKnown, d.Expect
	r.Inform, r.Shard, r.Cancel, r.Client = st.inform, c.s, &st.cancel, c.client
	d.Fields = spare
	if d.Method == "CONNECT" {
		st.tunnel, st.noReuse = true, true
		if r.Upgrade != "" {
			r.Method = "GET"
		}
		return
	}
	st.inLength = d.Length
	if ended || d.Length == 0 {
		r.Expect = false
		return
	}
	st.expecting = d.Expect
	r.Length = d.Length
	r.Body = &requestBody{c: c, st: st, gen: st.gen}
}

// serve is the task of a server's stream.
func (st *stream) serve() {
	defer st.leave()
	c := st.c
	if c.cfg.Prepare != nil {
		c.cfg.Prepare(&st.req)
	}
	if err := c.cfg.Handler.RoundTrip(&st.req, &st.resp); err != nil {
		c.answer(&st.req, &st.resp, err)
	}
	if st.resp.Stream != nil && (c.cfg.Tunnel == nil || !st.tunnel) {
		st.resp.Close()
		c.answer(&st.req, &st.resp, &proxy.Error{Code: proxy.Unsupported, Detail: "no streams here"})
	}
	if st.resp.Stream != nil {
		st.relay()
		return
	}
	st.respond()
}

// leave ends what serve has left open, after a panic too, and gives the stream back.
func (st *stream) leave() {
	st.resp.Close()
	c := st.c
	c.s.Lock()
	st.left = true
	if !st.over {
		if st.outEnd {
			// RFC 9113 section 8.1: "the server MAY request that the client abort transmission of a request without error by
			// sending a RST_STREAM with an error code of NO_ERROR after sending a complete response".
			c.end(st, task.ErrClosed, ErrNo, tell)
			st.noReuse = st.tunnel
		} else {
			c.end(st, task.ErrClosed, ErrInternal, tell)
		}
	}
	c.running--
	c.dropUnread(st)
	c.recycle(st)
	c.unlock()
}

// answer fills resp for an exchange that failed.
func (c *Conn) answer(req *proxy.Request, resp *proxy.Response, err error) {
	if c.cfg.Answer != nil {
		c.cfg.Answer(req, resp, err)
		return
	}
	resp.Status = proxy.Internal.Status()
	var e *proxy.Error
	if errors.As(err, &e) {
		resp.Status = e.Code.Status()
	}
}

// respond sends head and content of st.resp.
func (st *stream) respond() {
	c, resp := st.c, &st.resp
	// RFC 9110 section 6.4.1: these have no content, whatever Handler says.
	none := st.req.Method == "HEAD" || resp.Status == 204 || resp.Status == 304
	if resp.Body == nil || none {
		c.sendHead(st, resp, flagEndStream)
		return
	}
	if c.sendHead(st, resp, 0) != nil {
		return
	}
	if err := c.copyBody(st, resp.Body, resp.Length, 0); err != nil {
		c.s.Lock()
		c.end(st, err, ErrInternal, tell)
		c.unlock()
	}
}

// relay answers that the Stream is there, and hands both ends over.
func (st *stream) relay() {
	c := st.c
	if c.sendHead(st, &st.resp, 0) != nil {
		return
	}
	t := &tunnelStream{st: st, reset: ErrConnect}
	c.cfg.Tunnel(c.s, t, st.resp.Stream)
	t.Close()
}

// sendHead sends the final head.
func (c *Conn) sendHead(st *stream, resp *proxy.Response, flags uint8) error {
	c.s.Lock()
	defer c.unlock()
	if err := c.room(st, 0); err != nil {
		return err
	}
	st.headSent = true
	status := resp.Status
	if st.tunnel && resp.Stream != nil && status == 101 {
		status = 200
	}
	if status < 200 || status > 999 {
		status = proxy.Internal.Status()
	}
	if !c.pillion && head.IsDeclined(&st.req, resp, status) {
		status = proxy.Unsupported.Status() // only a pillion can be told that 200 is no agreement
	}
	at := c.beginBlock(st.id, flags)
	c.encodeResponse(&st.req, resp, status)
	c.endBlock(at)
	if flags != 0 {
		c.sentEnd(st)
	}
	return nil
}

// sendInform is Request.Inform: it passes a 1xx answer on.
func (st *stream) sendInform(status int, fields proxy.Fields) {
	c := st.c
	c.s.Lock()
	defer c.unlock()
	if st.over || st.headSent || status < 100 || status > 199 || status == 101 {
		return
	}
	if status == 100 {
		st.expecting = false
	}
	c.encodeInform(st, status, fields)
}

func (c *Conn) encodeInform(st *stream, status int, fields proxy.Fields) {
	c.ready()
	at := c.beginBlock(st.id, 0)
	c.enc.status(status)
	c.encodeFields(fields, -1, nil)
	c.endBlock(at)
}

// sayContinue sends the 100 that the client waits for, once its body is wanted. The lock is held.
func (c *Conn) sayContinue(st *stream) {
	st.expecting = false
	if !st.headSent && !st.over && !st.inEnd {
		c.encodeInform(st, 100, nil)
	}
}

// requestBody is a request's content. It outlives its Exchange in the hands of a task that sends it on, and therefore knows
// which use of the stream it belongs to.
type requestBody struct {
	c    *Conn
	st   *stream
	gen  uint64
	took atomic.Int64
}

// Read waits for content.
func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.c.read(b.st, p, 0, b.gen)
	b.took.Add(int64(n))
	return n, err
}

// Count is how much has been read; see proxy.Counter.
func (b *requestBody) Count() int64 { return b.took.Load() }

// WaitReadable waits until Read would not wait.
func (b *requestBody) WaitReadable() error { return b.c.waitReadable(b.st, 0, b.gen) }

// Buffered is what has arrived, -1 at the end.
func (b *requestBody) Buffered() int {
	b.c.s.Lock()
	defer b.c.s.Unlock()
	if b.st.gen != b.gen {
		return 0
	}
	return b.st.available()
}

// Trailers are there after io.EOF.
func (b *requestBody) Trailers() proxy.Fields {
	b.c.s.Lock()
	defer b.c.s.Unlock()
	if b.st.gen != b.gen {
		return nil
	}
	return b.st.trailers
}

// Close discards what is unread and what is still to come. Whoever waits for it is told that, and not that the content is complete.
func (b *requestBody) Close() error {
	b.c.s.Lock()
	if st := b.st; st.gen == b.gen && (st.buffered > 0 || !st.inEnd) {
		st.discard = true
		b.c.dropChunks(st)
		b.c.topUp()
		st.recvGate.Wake()
	}
	b.c.unlock()
	return nil
}

var errShort error = &proxy.Error{Code: proxy.AppBadAnswer, Detail: "content does not have the length that was announced"}

// copyBody sends body as DATA and trailers, and ends the stream's half.
func (c *Conn) copyBody(st *stream, body proxy.Body, length int64, deadline task.Instant) error {
	w, _ := body.(proxy.Waiter)
	var total int64
	for {
		if w != nil && body.Buffered() == 0 {
			if err := w.WaitReadable(); err != nil {
				return err
			}
		}
		done, err := c.copyPiece(st, body, length, &total, deadline)
		if err != nil || done {
			return err
		}
	}
}

// copyPiece sends one piece, and reports whether it was the last one.
func (c *Conn) copyPiece(st *stream, body proxy.Body, length int64, total *int64, deadline task.Instant) (bool, error) {
	buf := c.s.Buffer()
	defer c.s.Free(buf)
	b := buf.B
	n, err := body.Read(b[:len(b)-1])
	if n > 0 && err == nil && body.Buffered() < 0 {
		_, err = body.Read(b[n : n+1]) // the end, without a wait
	}
	*total += int64(n)
	if err != nil && err != io.EOF {
		return false, err
	}
	if length != proxy.Unknown && (*total > length || err == io.EOF && *total < length) {
		return false, errShort
	}
	if err == nil {
		_, err = c.send(st, b[:n], false, deadline)
		return false, err
	}
	trailers := body.Trailers()
	if _, err = c.send(st, b[:n], len(trailers) == 0, deadline); err != nil {
		return false, err
	}
	if len(trailers) > 0 {
		return true, c.sendTrailers(st, trailers, deadline)
	}
	return true, nil
}

// sendTrailers ends the stream's half with a HEADERS frame.
func (c *Conn) sendTrailers(st *stream, fields proxy.Fields, deadline task.Instant) error {
	c.s.Lock()
	defer c.unlock()
	if err := c.room(st, deadline); err != nil {
		return err
	}
	at := c.beginBlock(st.id, flagEndStream)
	c.encodeFields(fields, -1, nil)
	c.endBlock(at)
	c.sentEnd(st)
	return nil
}
