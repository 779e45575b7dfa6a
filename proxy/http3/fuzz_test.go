package http3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// FuzzSection: a section that decodes is, encoded again, the same; and nothing panics.
func FuzzSection(f *testing.F) {
	f.Add(getHead[2:])
	f.Add([]byte{0, 0, 0xd1, 0xd7, 0x50, 1, 'x', 0x51, 0x82, 0x60, 0x7f, 0x23, 'a', 'b', 'c', 3, '1', '2', '3'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var fields proxy.Fields
		err := decodeSection(string(b), func(name, value string) bool {
			fields.Add(name, value)
			return len(fields) < 1000
		})
		if err != nil {
			return
		}
		w := fieldWriter{b: []byte(sectionPrefix)}
		var d head.Decoder
		d.Begin(1 << 16)
		for _, x := range fields {
			w.Field(x.Name, x.Value)
			d.Add(x.Name, x.Value)
		}
		d.Request()
		d.Response()
		d.Trailers()
		i := 0
		if err := decodeSection(string(w.b), func(name, value string) bool {
			if name != fields[i].Name || value != fields[i].Value {
				t.Errorf("line %d: got %q: %q, want %q: %q", i, name, value, fields[i].Name, fields[i].Value)
			}
			i++
			return true
		}); err != nil || i != len(fields) {
			t.Errorf("again: %v, %d lines of %d", err, i, len(fields))
		}
	})
}

// FuzzSettings: every outcome is settings, or an error of the connection.
func FuzzSettings(f *testing.F) {
	f.Add([]byte{settingMaxFieldSection, 0x40, 0xff, settingConnectProtocol, 1, settingDatagram, 1, 0x80, 0, 0xf1, 0xc0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := parseSettings(b)
		var broken *ConnError
		if err != nil && !errors.As(err, &broken) {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzCapsules: the same capsules come out, in whatever pieces they go in.
func FuzzCapsules(f *testing.F) {
	f.Add([]byte{0, 4, 0, 'a', 'b', 'c', 0x29, 2, 1, 2, 0, 1, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		parse := func(size int) string {
			var out strings.Builder
			p := capsuleParser{deliver: func(v []byte) { out.Write(v); out.WriteByte('|') }, drop: func(d proxy.Drop) { out.WriteString(d.String()) }}
			for rest := b; len(rest) > 0; {
				n := min(size, len(rest))
				p.feed(rest[:n])
				rest = rest[n:]
			}
			return out.String()
		}
		if got, want := parse(max(1, int(size))), parse(len(b)+1); got != want {
			t.Errorf("in pieces of %d: %q, whole: %q", size, got, want)
		}
	})
}

// FuzzFrameHeader: what reader.header reads from its buffer is what was written.
func FuzzFrameHeader(f *testing.F) {
	f.Add(uint64(0), uint64(5), true)
	f.Add(uint64(1<<40), uint64(1<<61), false)
	f.Fuzz(func(t *testing.T, typ, length uint64, ahead bool) {
		typ, length = typ>>2, length>>2
		b := appendFrameHeader(nil, typ, int64(length))
		r := reader{eof: true, buf: make([]byte, readAhead)}
		r.w = copy(r.buf[:], b)
		gotType, gotLength, err := r.header(readAhead)
		if err != nil || gotType != typ || gotLength != length || r.r != r.w {
			t.Errorf("got %d, %d, %v; want %d, %d", gotType, gotLength, err, typ, length)
		}
		r = reader{eof: true, buf: make([]byte, readAhead)}
		r.w = copy(r.buf[:], b[:len(b)-1])
		if _, _, err := r.header(readAhead); err != errTruncated {
			t.Errorf("cut short: %v", err)
		}
		if !bytes.HasPrefix(b, r.part[:r.n]) {
			t.Error("what was read is not kept")
		}
	})
}

// TestBufferedLooksBehindTheHeader: content whose frame header was read ahead but not taken yet is there, and only that.
func TestBufferedLooksBehindTheHeader(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		want  int
	}{
		"nothing":          {"", 0},
		"half a header":    {"\x00", 0},
		"a header":         {"\x00\x05", 0},
		"a part":           {"\x00\x05abc", 3},
		"all":              {"\x00\x03abc", 3},
		"and the next":     {"\x00\x03abc\x00\x02de", 3},
		"an empty one":     {"\x00\x00abc", 0},
		"trailers":         {"\x01\x03abc", 0},
		"half a long type": {"\x40", 0},
	} {
		r := reader{buf: make([]byte, readAhead)}
		r.w = copy(r.buf[:], c.bytes)
		if got := r.buffered(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	r := reader{left: 2, buf: make([]byte, readAhead)}
	r.w = copy(r.buf[:], "abc")
	if got := r.buffered(); got != 2 {
		t.Errorf("within a frame: %d, want 2", got)
	}
}

// FuzzRequest: whatever a client sends on a request's stream, that stream ends, or the connection does with an error of ours; nothing panics, and no handler is left.
func FuzzRequest(f *testing.F) {
	f.Add(getHead, false)
	f.Add(join(postHead, data("abc"), headers("a: b")), true)
	f.Add(join(headers(":method: CONNECT", ":authority: a:1"), data("abc")), true)
	f.Add(join(headers(":method: CONNECT", ":protocol: connect-udp", ":scheme: https", ":authority: a", ":path: /"), data("\x00\x02\x00a")), true)
	f.Add(join(headers(":method: PUT", ":scheme: https", ":authority: a", ":path: /", "content-length: 5", "expect: 100-continue"), data("abc")), false)
	rt := task.NewGoroutines(task.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	proxytest.Start(f, rt)
	s := rt.Shards()[0]
	cfg := Config{
		Flows: flows, HeadTimeout: 50 * time.Millisecond,
		Tunnel: func(s task.Shard, client, upstream proxy.Stream) {
			io.Copy(io.Discard, client)
			relay.Copy(s, client, upstream)
		},
		Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Upgrade == proxy.ConnectUDP {
				q := newQueue()
				q.Close()
				resp.Status, resp.Flow = 101, q
				return nil
			}
			return echo(req, resp)
		}),
	}
	n := newNetwork(f, cfg.QUIC())
	f.Cleanup(n.close)
	var server *Conn
	var client *quic.Conn
	f.Cleanup(func() {
		if server != nil {
			server.Close()
		}
	})
	f.Fuzz(func(t *testing.T, b []byte, reset bool) {
		if client == nil || client.Context().Err() != nil {
			n.t = t
			var q *quic.Conn
			q, client = n.connect(cfg.QUIC())
			server = NewServer(s, q, cfg)
			c := server
			s.Go(func() { c.Serve() })
		}
		ctx, cancel := context.WithTimeout(client.Context(), patience)
		defer cancel()
		st, err := client.OpenStreamSync(ctx)
		if err != nil {
			return // the last one has ended the connection
		}
		st.SetDeadline(time.Now().Add(patience))
		st.Write(b)
		if reset {
			st.CancelWrite(quic.StreamErrorCode(ErrRequestCancelled))
		} else {
			st.Close()
		}
		var late interface{ Timeout() bool }
		if _, err := io.Copy(io.Discard, st); errors.As(err, &late) && late.Timeout() && client.Context().Err() == nil {
			t.Errorf("no end: %v", err)
		}
		c := server
		proxytest.Eventually(t, "no handler is left", func() bool { return c.Stats().Running == 0 })
		if rt.Stats().Panics > 0 {
			t.Error("a panic")
		}
	})
}
