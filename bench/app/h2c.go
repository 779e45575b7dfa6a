package app

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// NewH2C answers every request over HTTP/2 with prior knowledge with size bytes, at most 16 KiB. It relies on clients that
// open their windows as they read, and throws request bodies away.
func NewH2C(size int) (*Server, error) {
	a := &h2cAnswer{head: fieldBlock(":status", "200", "server", "bench", "content-type", "text/plain", "content-length", strconv.Itoa(size))}
	if size > 0 {
		a.body = chunk()[:size]
	}
	return newServer(func(c net.Conn) { serveH2C(c, a) })
}

// NewGRPC answers every unary call, whatever its name, with a message of size bytes, less than 16 KiB.
func NewGRPC(size int) (*Server, error) {
	a := &h2cAnswer{head: fieldBlock(":status", "200", "content-type", "application/grpc"), trailers: fieldBlock("grpc-status", "0")}
	a.body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(size)), chunk()[:size]...) // not compressed, length, message
	return newServer(func(c net.Conn) { serveH2C(c, a) })
}

// h2cAnswer is the answer to whatever is asked.
type h2cAnswer struct {
	head, trailers []byte // field blocks; trailers may be nil
	body           []byte // may be nil
}

// h2cStreams is how many streams a client may open at a time.
const h2cStreams = 1000

// The frames and flags that matter here: https://www.rfc-editor.org/rfc/rfc9113#section-6.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameSettings     = 0x4
	framePing         = 0x6
	frameWindowUpdate = 0x8

	flagAck        = 0x1 // of settings and pings
	flagEndStream  = 0x1 // of data and headers
	flagEndHeaders = 0x4

	settingMaxStreams = 0x3

	frameHead   = 9        // bytes
	maxFrame    = 16 << 10 // bytes of a payload, as long as nobody asks for more
	prefaceSize = 24       // bytes that come before a client's first frame
)

// h2cConn is one connection. The codec of pillion is not used: the app must not share its mistakes.
type h2cConn struct {
	r   *bufio.Reader
	w   *bufio.Writer
	a   *h2cAnswer
	buf []byte // of a frame's head
}

func serveH2C(nc net.Conn, a *h2cAnswer) {
	c := &h2cConn{r: bufio.NewReaderSize(nc, 64<<10), w: bufio.NewWriterSize(nc, 64<<10), a: a}
	if _, err := c.r.Discard(prefaceSize); err != nil {
		return
	}
	c.write(frameSettings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, settingMaxStreams}, h2cStreams))
	for {
		// One write for all the requests of one read.
		if c.r.Buffered() < frameHead && c.w.Flush() != nil || c.frame() != nil {
			return
		}
	}
}

// frame reads one frame and deals with it. Fields need no decoding: whatever is asked, the answer is the same.
func (c *h2cConn) frame() error {
	head, err := c.r.Peek(frameHead)
	if err != nil {
		return err
	}
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	kind, flags, id := head[3], head[4], binary.BigEndian.Uint32(head[5:])&(1<<31-1)
	if size > maxFrame {
		return fmt.Errorf("a frame of %d bytes, want at most %d", size, maxFrame)
	}
	all, err := c.r.Peek(frameHead + size)
	if err != nil {
		return err
	}
	switch payload := all[frameHead:]; {
	case kind == frameSettings && flags&flagAck == 0:
		c.write(frameSettings, flagAck, 0, nil)
	case kind == framePing && flags&flagAck == 0:
		c.write(framePing, flagAck, 0, payload)
	case kind == frameHeaders && flags&flagEndStream != 0:
		c.answer(id)
	case kind == frameData:
		c.taken(id, size, flags&flagEndStream != 0)
	}
	_, err = c.r.Discard(frameHead + size)
	return err
}

// taken opens the windows again that a DATA frame has used, and answers if it was the last one.
func (c *h2cConn) taken(id uint32, size int, last bool) {
	opened := binary.BigEndian.AppendUint32(nil, uint32(size))
	if size > 0 {
		c.write(frameWindowUpdate, 0, 0, opened)
	}
	switch {
	case last:
		c.answer(id)
	case size > 0:
		c.write(frameWindowUpdate, 0, id, opened)
	}
}

func (c *h2cConn) answer(id uint32) {
	endIf := func(last bool) byte {
		if last {
			return flagEndStream
		}
		return 0
	}
	a := c.a
	c.write(frameHeaders, flagEndHeaders|endIf(a.body == nil && a.trailers == nil), id, a.head)
	if a.body != nil {
		c.write(frameData, endIf(a.trailers == nil), id, a.body)
	}
	if a.trailers != nil {
		c.write(frameHeaders, flagEndHeaders|flagEndStream, id, a.trailers)
	}
}

// write appends a frame to what is to be written. An error stays, and Flush tells it.
func (c *h2cConn) write(kind, flags byte, id uint32, payload []byte) {
	n := len(payload)
	c.buf = append(c.buf[:0], byte(n>>16), byte(n>>8), byte(n), kind, flags)
	c.buf = binary.BigEndian.AppendUint32(c.buf, id)
	_, _ = c.w.Write(c.buf)
	_, _ = c.w.Write(payload)
}

// fieldBlock encodes names and values; it leaves no trace in the dynamic table.
func fieldBlock(fields ...string) []byte {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: fields[i] != ":status"}) // a bytes.Buffer takes everything
	}
	return block.Bytes()
}
