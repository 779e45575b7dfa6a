package app

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// NewH2C answers every request over HTTP/2 with prior knowledge with size bytes, at most 16 KiB. It relies on clients that
// open their windows as they read, and throws request bodies away.
func NewH2C(size int) (*Server, error) {
	return newServer(func(c net.Conn) { serveH2C(c, size) })
}

// h2cStreams is how many streams a client may open at a time.
const h2cStreams = 1000

func serveH2C(c net.Conn, size int) {
	r := bufio.NewReaderSize(c, 64<<10)
	if _, err := io.CopyN(io.Discard, r, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	w := bufio.NewWriterSize(c, 64<<10)
	fr := http2.NewFramer(w, r)
	fr.SetReuseFrames()
	head := answerHead(size)
	if fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: h2cStreams}) != nil {
		return
	}
	for {
		// One write for all the requests of one read.
		if r.Buffered() < 9 && w.Flush() != nil {
			return
		}
		f, err := fr.ReadFrame()
		if err != nil || answerH2C(fr, f, head, size) != nil {
			return
		}
	}
}

// answerHead is the field block of every answer; it leaves no trace in the dynamic table.
func answerHead(size int) []byte {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{
		{Name: ":status", Value: "200"},
		{Name: "server", Value: "bench", Sensitive: true},
		{Name: "content-type", Value: "text/plain", Sensitive: true},
		{Name: "content-length", Value: strconv.Itoa(size), Sensitive: true},
	} {
		_ = enc.WriteField(f) // a bytes.Buffer takes everything
	}
	return block.Bytes()
}

// answerH2C deals with one frame. Fields need no decoding: whatever is asked, the answer is the same.
func answerH2C(fr *http2.Framer, f http2.Frame, head []byte, size int) error {
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
			return writeH2C(fr, f.StreamID, head, size)
		}
	case *http2.DataFrame:
		if n := uint32(f.Length); n > 0 {
			if err := fr.WriteWindowUpdate(0, n); err != nil {
				return err
			}
		}
		if f.StreamEnded() {
			return writeH2C(fr, f.StreamID, head, size)
		}
		if f.Length > 0 {
			return fr.WriteWindowUpdate(f.StreamID, f.Length)
		}
	}
	return nil
}

func writeH2C(fr *http2.Framer, id uint32, head []byte, size int) error {
	err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true, EndStream: size == 0})
	if err == nil && size > 0 {
		err = fr.WriteData(id, true, chunk[:size])
	}
	return err
}
