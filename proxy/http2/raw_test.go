package http2

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is a peer that the test scripts frame by frame.
type raw struct {
	*xhttp2.Framer
	t     testing.TB
	nc    net.Conn
	buf   bytes.Buffer
	enc   *hpack.Encoder
	ended chan error // Serve's result
	c     *Conn      // the other end
}

func newRaw(t testing.TB, nc net.Conn) *raw {
	r := &raw{Framer: xhttp2.NewFramer(nc, nc), t: t, nc: nc, ended: make(chan error, 1)}
	r.AllowIllegalWrites = true
	r.SetMaxReadFrameSize(1 << 20)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.enc = hpack.NewEncoder(&r.buf)
	return r
}

// rawClient is a scripted client before a server Conn. The preface and the client's SETTINGS are sent.
func rawClient(t testing.TB, s task.Shard, cfg Config, settings ...xhttp2.Setting) *raw {
	t.Helper()
	tc, nc := proxytest.Pair(t, s)
	r := newRaw(t, nc)
	proxytest.Call(t, s, func() {
		r.c = NewServer(s, tc, cfg)
		s.Go(func() { r.ended <- r.c.Serve(nil) })
	})
	io.WriteString(nc, preface)
	r.WriteSettings(settings...)
	return r
}

// rawServer is a scripted server behind a client Conn.
func rawServer(t testing.TB, s task.Shard, cfg Config, settings ...xhttp2.Setting) *raw {
	t.Helper()
	tc, nc := proxytest.Pair(t, s)
	r := newRaw(t, nc)
	proxytest.Call(t, s, func() {
		r.c = NewClient(s, tc, cfg)
		s.Go(func() { r.ended <- r.c.Serve(nil) })
	})
	got := make([]byte, len(preface))
	if _, err := io.ReadFull(nc, got); err != nil || string(got) != preface {
		t.Fatalf("preface = %q, %v", got, err)
	}
	r.WriteSettings(settings...)
	return r
}

// close closes the script's end and waits for Serve.
func (r *raw) close() {
	r.t.Helper()
	r.nc.Close()
	r.wait()
}

func (r *raw) wait() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(30 * time.Second):
		r.t.Fatal("Serve does not return")
		return nil
	}
}

// block encodes fields, given as name, value, ...
func (r *raw) block(fields ...string) []byte {
	r.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		r.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(r.buf.Bytes())
}

// headers sends a header block in one frame.
func (r *raw) headers(id uint32, end bool, fields ...string) error {
	return r.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(fields...), EndStream: end, EndHeaders: true})
}

// get opens a stream with a GET, or leaves it open for content with a POST.
func (r *raw) get(id uint32, path string) error {
	return r.headers(id, true, ":method", "GET", ":scheme", "http", ":authority", "orders", ":path", path)
}

func (r *raw) post(id uint32, path string, more ...string) error {
	return r.headers(id, false, append([]string{":method", "POST", ":scheme", "http", ":authority", "orders", ":path", path}, more...)...)
}

// until reads frames until ok says that one is the wanted one, acknowledging SETTINGS.
func (r *raw) until(what string, ok func(f xhttp2.Frame) bool) xhttp2.Frame {
	r.t.Helper()
	for {
		f, err := r.ReadFrame()
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", what, err)
			return nil
		}
		if s, yes := f.(*xhttp2.SettingsFrame); yes && !s.IsAck() {
			r.WriteSettingsAck()
		}
		if ok(f) {
			return f
		}
	}
}

func (r *raw) untilReset(id uint32) xhttp2.ErrCode {
	r.t.Helper()
	return r.until("RST_STREAM", func(f xhttp2.Frame) bool {
		return f.Header().Type == xhttp2.FrameRSTStream && f.Header().StreamID == id
	}).(*xhttp2.RSTStreamFrame).ErrCode
}

func (r *raw) untilGoAway() *xhttp2.GoAwayFrame {
	r.t.Helper()
	return r.until("GOAWAY", func(f xhttp2.Frame) bool { return f.Header().Type == xhttp2.FrameGoAway }).(*xhttp2.GoAwayFrame)
}

func (r *raw) untilHeaders(id uint32) *xhttp2.MetaHeadersFrame {
	r.t.Helper()
	return r.until("HEADERS", func(f xhttp2.Frame) bool {
		return f.Header().Type == xhttp2.FrameHeaders && (id == 0 || f.Header().StreamID == id)
	}).(*xhttp2.MetaHeadersFrame)
}

// content reads DATA of a stream until END_STREAM.
func (r *raw) content(id uint32) string {
	r.t.Helper()
	var b []byte
	r.until("END_STREAM", func(f xhttp2.Frame) bool {
		if f.Header().StreamID != id {
			return false
		}
		if d, ok := f.(*xhttp2.DataFrame); ok {
			b = append(b, d.Data()...)
		}
		return f.Header().Flags.Has(xhttp2.FlagDataEndStream) && (f.Header().Type == xhttp2.FrameData || f.Header().Type == xhttp2.FrameHeaders)
	})
	return string(b)
}
