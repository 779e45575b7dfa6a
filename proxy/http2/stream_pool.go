package http2

import "github.com/pillion-proxy/pillion/proxy"

// maxFree bounds the stream objects that a connection keeps for the next exchanges.
const maxFree = 256

// newStream returns a stream object, used before or new. The lock is held.
func (c *Conn) newStream(id uint32) *stream {
	var st *stream
	if n := len(c.free); n > 0 {
		st = c.free[n-1]
		c.free[n-1] = nil
		c.free = c.free[:n-1]
	} else {
		st = &stream{c: c}
		c.s.Gate(&st.recvGate)
		c.s.Gate(&st.sendGate)
		st.run, st.pump, st.inform = st.serve, st.upload, st.sendInform
		st.cancel.On(c.s)
	}
	st.id = id
	st.sendWin = c.peerWindow
	c.startWindow(st)
	st.inLength = proxy.Unknown
	if id != 0 {
		c.opened++
	}
	return st
}

// recycle makes st ready for another use, unless somebody could still hold it or wait on it. The lock is held.
func (c *Conn) recycle(st *stream) {
	c.endWindow(st)
	if st.noReuse || st.pumping || st.waiting > 0 || len(c.free) >= maxFree {
		st.gen++
		return
	}
	clear(st.trailers)
	clear(st.fields)
	if c.server {
		clear(st.req.Fields)
		st.req = proxy.Request{Fields: st.req.Fields[:0]}
		st.cancel.Reset()
	}
	gen, chunks, trailers, fields := st.gen+1, st.chunks[:0], st.trailers[:0], st.fields[:0]
	st.use = use{} // cleared in place, which is cheaper than a copy
	st.gen, st.chunks, st.trailers, st.fields = gen, chunks, trailers, fields
	c.free = append(c.free, st)
}
