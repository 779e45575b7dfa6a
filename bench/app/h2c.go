package app

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// NewH2C answers every request over HTTP/2 with prior knowledge with size bytes, at most 16 KiB. It relies on clients that
// open their windows as they read, and throws request bodies away.
func NewH2C(size int) (*Server, error) {
	a := &h2cAnswer{head: fieldBlock(":status", "200", "server", "bench", "content-type", "text/plain", "content-length", strconv.Itoa(size))}
	if size > 0 {
		a.body = chunk[:size]
	}
	return newServer(func(c net.Conn) { serveH2C(c, a) })
}

// NewGRPC answers every unary call, whatever its name, with a message of size bytes, less than 16 KiB.
func NewGRPC(size int) (*Server, error) {
	a := &h2cAnswer{head: fieldBlock(":status", "200", "content-type", "application/grpc"), trailers: fieldBlock("grpc-status", "0")}
	a.body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(size)), chunk[:size]...) // not compressed, length, message
	return newServer(func(c net.Conn) { serveH2C(c, a) })
}

// h2cAnswer is the answer to whatever is asked.
type h2cAnswer struct {
	head, trailers []byte // field blocks; trailers may be nil
	body           []byte // may be nil
}

// h2cStreams is how many streams a client may open at a time.
const h2cStreams = 1000

func serveH2C(c net.Conn, a *h2cAnswer) {
	r := bufio.NewReaderSize(c, 64<<10)
	if _, err := io.CopyN(io.Discard, r, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	w := bufio.NewWriterSize(c, 64<<10)
	fr := http2.NewFramer(w, r)
	fr.SetReuseFrames()
	if fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: h2cStreams}) != nil {
		return
	}
	for {
		// One write for all the requests of one read.
		if r.Buffered() < 9 && w.Flush() != nil {
			return
		}
		f, err := fr.ReadFrame()
		if err != nil || answerH2C(fr, f, a) != nil {
			return
		}
	}
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

// answerH2C deals with one frame. Fields need no decoding: whatever is asked, the answer is the same.
func answerH2C(fr *http2.Framer, f http2.Frame, a *h2cAnswer) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return fr.WritePing(true, f.Data)
		}
	case *http2.HeadersFrame:
		if f.StreamEnded() {
			return writeH2C(fr, f.StreamID, a)
		}
	case *http2.DataFrame:
		if n := uint32(f.Length); n > 0 {
			if err := fr.WriteWindowUpdate(0, n); err != nil {
				return err
			}
		}
		if f.StreamEnded() {
			return writeH2C(fr, f.StreamID, a)
		}
		if f.Length > 0 {
			return fr.WriteWindowUpdate(f.StreamID, f.Length)
		}
	}
	return nil
}

func writeH2C(fr *http2.Framer, id uint32, a *h2cAnswer) error {
	err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.head, EndHeaders: true, EndStream: a.body == nil})
	if err == nil && a.body != nil {
		err = fr.WriteData(id, a.trailers == nil, a.body)
	}
	if err == nil && a.trailers != nil {
		err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.trailers, EndHeaders: true, EndStream: true})
	}
	return err
}
