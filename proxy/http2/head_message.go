package http2

import (
	"slices"
	"strconv"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
)

// beginBlock begins a HEADERS frame in the buffer and returns its place. The lock is held until endBlock.
func (c *Conn) beginBlock(id uint32, flags uint8) int {
	c.ready()
	c.headsOut++
	at := len(c.out)
	c.out = appendFrameHeader(c.out, 0, frameHeaders, flags|flagEndHeaders, id)
	c.enc.begin()
	return at
}

// endBlock completes the frame, in CONTINUATION frames if it became too long for one.
func (c *Conn) endBlock(at int) {
	c.kick()
	n := len(c.out) - at - frameHeaderLen
	if n <= c.maxFrame {
		putFrameLength(c.out[at:], n)
		return
	}
	// The pieces move apart in place, the last one first, so that a header fits before each.
	h := parseFrameHeader(c.out[at:])
	first := at + frameHeaderLen
	more := (n - 1) / c.maxFrame // frames after the first
	c.out = slices.Grow(c.out, more*frameHeaderLen)[:len(c.out)+more*frameHeaderLen]
	for i := more; i > 0; i-- {
		from, to := first+i*c.maxFrame, first+i*(c.maxFrame+frameHeaderLen)
		size := min(n-i*c.maxFrame, c.maxFrame)
		copy(c.out[to:to+size], c.out[from:from+size])
		flags := uint8(0)
		if i == more {
			flags = flagEndHeaders
		}
		appendFrameHeader(c.out[:to-frameHeaderLen], size, frameContinuation, flags, h.id)
	}
	appendFrameHeader(c.out[:at], c.maxFrame, frameHeaders, h.flags&^flagEndHeaders, h.id)
}

func (c *Conn) encodeRequest(req *proxy.Request) {
	e := &c.enc
	method := req.Method
	if req.Upgrade != "" {
		method = "CONNECT"
	}
	e.method(method)
	if !req.IsConnect() {
		e.scheme(req.Scheme)
		e.path(req.Path)
	}
	if req.Authority != "" {
		e.field(":authority", req.Authority)
	}
	if req.Upgrade != "" {
		e.field(":protocol", req.Upgrade)
	}
	length := int64(-1)
	if req.Upgrade == "" && (req.Length > 0 || req.Length == 0 && head.WantsLength(req.Method)) {
		length = req.Length
	}
	if req.Expect && !req.Fields.Has("expect") {
		e.field("expect", "100-continue")
	}
	c.encodeFields(req.Fields, length, req)
}

func (c *Conn) encodeResponse(req *proxy.Request, resp *proxy.Response, status int) {
	c.enc.status(status)
	if c.pillion && resp.Reason != "" && head.ValidValue(resp.Reason) {
		c.enc.field(":reason", resp.Reason)
	}
	if c.pillion && head.IsDeclined(req, resp, status) {
		c.enc.field(":declined", "1")
	}
	none := status == 204 || resp.Stream != nil || resp.Length == 0 && resp.Fields.Has("grpc-status")
	length := int64(-1)
	if !none && !(resp.Length == 0 && status == 304) {
		length = resp.Length
	}
	c.encodeFields(resp.Fields, length, nil)
	if c.pillion && resp.Took > 0 {
		c.enc.took(resp.Took, resp.AppTook)
	}
}

func (c *Conn) encodeLength(name string, n int64) {
	e := &c.enc
	e.number = strconv.AppendInt(e.number[:0], n, 10)
	e.field(name, unsafe.String(unsafe.SliceData(e.number), len(e.number)))
}

// encodeFields writes regular fields: as they are to a pillion, in lower case and without Host to others. A length that is not negative is
// said once, in the place and case that it has in fields. req is nil but for requests.
func (c *Conn) encodeFields(fields proxy.Fields, length int64, req *proxy.Request) {
	e, b := &c.enc, c.out // in a register: what is known takes a byte each
	for i := range fields {
		f := &fields[i]
		if p := e.known(f); p != nil && c.allows(p, f, length, req) {
			if p.kind == pairLength {
				length = -1
			}
			b = e.again(b, p)
			continue
		}
		c.out = b
		length = c.encodeField(f, length, req)
		b = c.out
	}
	c.out = b
	if length >= 0 {
		c.encodeLength("content-length", length)
	}
}

// allows reports whether f, which is p, is to be written as it is.
func (c *Conn) allows(p *hotPair, f *proxy.Field, length int64, req *proxy.Request) bool {
	switch p.kind {
	case pairPlain:
		return true
	case pairHost:
		return c.pillion && req != nil && f.Value == req.Authority
	case pairLength:
		return p.length == length
	}
	return false
}

// encodeField is the long way of encodeFields. It returns the length that is still to be said.
func (c *Conn) encodeField(f *proxy.Field, length int64, req *proxy.Request) int64 {
	name := f.Name
	if name == traceparent { // no rule is about it
		c.enc.field(name, f.Value)
		return length
	}
	if !c.pillion {
		name = c.enc.lower.Lower(name)
	}
	switch {
	case c.pillion && req == nil && proxy.SameName(name, proxy.TookField): // nobody but a sidecar says that
	case head.IsContentLength(name):
		if length >= 0 {
			c.encodeLength(name, length)
		}
		return -1
	case !head.LeftOut(f, req, c.pillion):
		c.enc.field(name, f.Value)
	}
	return length
}

// unregulated reports whether a pair with this name is written whatever the message is: encodeFields and head.LeftOut have no rule for it.
func unregulated(name string) bool {
	if name == "" || name[0] == ':' || head.ConnectionSpecific(name) {
		return false
	}
	for _, ruled := range [...]string{"te", "host", "expect", "content-length", "sec-websocket-key", "sec-websocket-accept", proxy.TookField} {
		if proxy.SameName(name, ruled) {
			return false
		}
	}
	return true
}
