package http3

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// raw is one end of a connection whose other end the test writes byte by byte.
type raw struct {
	t     *testing.T
	net   *network
	q     *quic.Conn // the test's
	conn  *Conn
	ended chan error
}

// rawPeer makes a Conn, and the test's end of its connection. No control stream is opened.
func rawPeer(t *testing.T, s task.Shard, server bool, cfg Config) *raw {
	t.Helper()
	r := &raw{t: t, net: newNetwork(t, Config{}.QUIC()), ended: make(chan error, 1)}
	a, b := r.net.connect(Config{}.QUIC())
	if server {
		r.q, r.conn = b, NewServer(s, a, cfg)
	} else {
		r.q, r.conn = a, NewClient(s, b, cfg)
	}
	s.Go(func() { r.ended <- r.conn.Serve() })
	return r
}

func (r *raw) close() {
	r.conn.Close()
	<-r.ended
	r.q.CloseWithError(0, "")
	r.net.close()
}

// uni opens a unidirectional stream and writes b to it.
func (r *raw) uni(b ...byte) *quic.SendStream {
	r.t.Helper()
	st, err := r.q.OpenUniStream()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := st.Write(b); err != nil {
		r.t.Fatal(err)
	}
	return st
}

// settings opens the control stream with an empty SETTINGS, and then b.
func (r *raw) settings(b ...byte) *quic.SendStream {
	return r.uni(append([]byte{streamControl, frameSettings, 0}, b...)...)
}

// request opens a stream with b.
func (r *raw) request(b ...byte) *quic.Stream {
	r.t.Helper()
	st, err := r.q.OpenStream()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := st.Write(b); err != nil {
		r.t.Fatal(err)
	}
	st.SetReadDeadline(time.Now().Add(patience))
	return st
}

// accept takes the stream of a request.
func (r *raw) accept() *quic.Stream {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := r.q.AcceptStream(ctx)
	if err != nil {
		r.t.Error(err)
		return nil
	}
	st.SetReadDeadline(time.Now().Add(patience))
	return st
}

// expectEnd expects the connection to be closed with code.
func (r *raw) expectEnd(what string, code ErrCode) {
	r.t.Helper()
	select {
	case <-r.q.Context().Done():
	case <-time.After(patience):
		r.t.Fatalf("%s: the connection goes on", what)
	}
	var app *quic.ApplicationError
	if err := context.Cause(r.q.Context()); !errors.As(err, &app) || ErrCode(app.ErrorCode) != code {
		r.t.Errorf("%s: got %v, want %v", what, err, code)
	}
	var broken *ConnError
	if err := <-r.ended; !errors.As(err, &broken) || broken.Code != code || broken.Peer {
		r.t.Errorf("%s: Serve returned %v, want %v", what, err, code)
	}
	r.ended <- nil
}

// expectReset expects the stream to be reset with code.
func expectReset(t *testing.T, what string, st *quic.Stream, code ErrCode) {
	t.Helper()
	_, err := io.Copy(io.Discard, st)
	var reset *quic.StreamError
	if !errors.As(err, &reset) || !reset.Remote || ErrCode(reset.ErrorCode) != code {
		t.Errorf("%s: got %v, want %v", what, err, code)
	}
}

// headers is a HEADERS frame of "name: value" lines.
func headers(lines ...string) []byte {
	w := fieldWriter{b: []byte(sectionPrefix)}
	for _, l := range lines {
		at := strings.Index(l[1:], ":") + 1
		w.Field(l[:at], strings.TrimPrefix(l[at+1:], " "))
	}
	return append(appendFrameHeader(nil, frameHeaders, int64(len(w.b))), w.b...)
}

func data(s string) []byte { return append(appendFrameHeader(nil, frameData, int64(len(s))), s...) }

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

var (
	getHead  = headers(":method: GET", ":scheme: https", ":authority: a", ":path: /")
	postHead = headers(":method: POST", ":scheme: https", ":authority: a", ":path: /")
)

// TestConnectionErrorsOfClients: what ends the connection of a server.
func TestConnectionErrorsOfClients(t *testing.T) {
	big := quicvarint.Append(quicvarint.Append(nil, frameSettings), maxSettingsLen+1)
	many := []byte{streamControl}
	many = appendFrameHeader(many, frameSettings, 4*129)
	for i := range uint64(129) {
		many = quicvarint.AppendWithLen(quicvarint.AppendWithLen(many, 0x100+i, 2), 0, 2)
	}
	for _, c := range []struct {
		what string
		code ErrCode
		do   func(r *raw)
	}{
		{"no SETTINGS first", ErrMissingSettings, func(r *raw) { r.uni(streamControl, frameGoAway, 1, 0) }},
		{"unknown frame before SETTINGS", ErrMissingSettings, func(r *raw) { r.uni(streamControl, 0x21, 0) }},
		{"SETTINGS twice", ErrFrameUnexpected, func(r *raw) { r.settings(frameSettings, 0) }},
		{"SETTINGS too long", ErrExcessiveLoad, func(r *raw) { r.uni(append([]byte{streamControl}, big...)...) }},
		{"too many settings", ErrExcessiveLoad, func(r *raw) { r.uni(many...) }},
		{"a setting twice", ErrSettings, func(r *raw) { r.uni(streamControl, frameSettings, 4, 0x21, 1, 0x21, 1) }},
		{"a setting of HTTP/2", ErrSettings, func(r *raw) { r.uni(streamControl, frameSettings, 2, 0x2, 0) }},
		{"a flag of 2", ErrSettings, func(r *raw) { r.uni(streamControl, frameSettings, 2, 0x8, 2) }},
		{"datagrams neither 0 nor 1", ErrSettings, func(r *raw) { r.uni(streamControl, frameSettings, 2, 0x33, 2) }},
		{"half a setting", ErrFrame, func(r *raw) { r.uni(streamControl, frameSettings, 1, 0x21) }},
		{"a setting cut short", ErrFrame, func(r *raw) { r.uni(streamControl, frameSettings, 2, 0x21, 0x40) }},
		{"two control streams", ErrStreamCreation, func(r *raw) { r.settings(); r.uni(streamControl) }},
		{"two encoder streams", ErrStreamCreation, func(r *raw) { r.uni(streamQPACKEncoder); r.uni(streamQPACKEncoder) }},
		{"two decoder streams", ErrStreamCreation, func(r *raw) { r.uni(streamQPACKDecoder); r.uni(streamQPACKDecoder) }},
		{"a push stream", ErrStreamCreation, func(r *raw) { r.uni(streamPush, 0) }},
		{"control stream closed", ErrClosedCriticalStream, func(r *raw) { r.settings().Close() }},
		{"control stream reset", ErrClosedCriticalStream, func(r *raw) {
			st := r.settings()
			proxytest.Eventually(r.t, "the SETTINGS are seen", func() bool { return r.conn.Stats().Ready })
			st.CancelWrite(0x10c)
		}},
		{"control stream closed in a frame", ErrClosedCriticalStream, func(r *raw) { r.settings(0x21, 5, 0).Close() }},
		{"encoder stream closed", ErrClosedCriticalStream, func(r *raw) { r.uni(streamQPACKEncoder).Close() }},
		{"decoder stream closed", ErrClosedCriticalStream, func(r *raw) { r.uni(streamQPACKDecoder, 0x41).Close() }},
		{"DATA on control", ErrFrameUnexpected, func(r *raw) { r.settings(frameData, 0) }},
		{"HEADERS on control", ErrFrameUnexpected, func(r *raw) { r.settings(frameHeaders, 0) }},
		{"PUSH_PROMISE on control", ErrFrameUnexpected, func(r *raw) { r.settings(framePushPromise, 1, 0) }},
		{"PING of HTTP/2 on control", ErrFrameUnexpected, func(r *raw) { r.settings(0x6, 0) }},
		{"GOAWAY that grows", ErrID, func(r *raw) { r.settings(frameGoAway, 1, 4, frameGoAway, 1, 8) }},
		{"GOAWAY without an id", ErrFrame, func(r *raw) { r.settings(frameGoAway, 0) }},
		{"GOAWAY with more", ErrFrame, func(r *raw) { r.settings(frameGoAway, 2, 4, 0) }},
		{"GOAWAY with an id cut short", ErrFrame, func(r *raw) { r.settings(frameGoAway, 1, 0x40) }},
		{"GOAWAY of nine bytes", ErrFrame, func(r *raw) { r.settings(frameGoAway, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0) }},
		{"MAX_PUSH_ID that shrinks", ErrID, func(r *raw) { r.settings(frameMaxPushID, 1, 9, frameMaxPushID, 1, 8) }},
		{"CANCEL_PUSH", ErrID, func(r *raw) { r.settings(frameCancelPush, 1, 0) }},
		{"an insert into the table", ErrEncoderStream, func(r *raw) { r.uni(streamQPACKEncoder, 0xc0, 1, 'x') }},
		{"capacity for the table", ErrEncoderStream, func(r *raw) { r.uni(streamQPACKEncoder, 0x21) }},
		{"acknowledgment of nothing", ErrDecoderStream, func(r *raw) { r.uni(streamQPACKDecoder, 0x80) }},
		{"increment of nothing", ErrDecoderStream, func(r *raw) { r.uni(streamQPACKDecoder, 0x01) }},
		{"cancellation that never ends", ErrDecoderStream, func(r *raw) {
			r.uni(streamQPACKDecoder, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		}},
		{"DATA first", ErrFrameUnexpected, func(r *raw) { r.request(data("x")...) }},
		{"SETTINGS on a request", ErrFrameUnexpected, func(r *raw) { r.request(frameSettings, 0) }},
		{"GOAWAY on a request", ErrFrameUnexpected, func(r *raw) { r.request(frameGoAway, 1, 0) }},
		{"MAX_PUSH_ID on a request", ErrFrameUnexpected, func(r *raw) { r.request(frameMaxPushID, 1, 0) }},
		{"CANCEL_PUSH on a request", ErrFrameUnexpected, func(r *raw) { r.request(frameCancelPush, 1, 0) }},
		{"PUSH_PROMISE to a server", ErrFrameUnexpected, func(r *raw) { r.request(framePushPromise, 1, 0) }},
		{"PRIORITY of HTTP/2 on a request", ErrFrameUnexpected, func(r *raw) { r.request(0x2, 0) }},
		{"SETTINGS after a head", ErrFrameUnexpected, func(r *raw) { r.request(join(postHead, []byte{frameSettings, 0})...) }},
		{"DATA after trailers", ErrFrameUnexpected, func(r *raw) { r.request(join(postHead, headers("a: b"), data("x"))...) }},
		{"HEADERS after trailers", ErrFrameUnexpected, func(r *raw) { r.request(join(postHead, headers("a: b"), headers("a: b"))...) }},
		{"HEADERS in a tunnel", ErrFrameUnexpected, func(r *raw) {
			r.request(join(headers(":method: CONNECT", ":authority: a:1"), data("x"), headers("a: b"))...)
		}},
		{"a frame header cut short", ErrFrame, func(r *raw) { r.request(0x1, 0x40).Close() }},
		{"a head cut short", ErrFrame, func(r *raw) { r.request(getHead[:9]...).Close() }},
		{"content cut short", ErrFrame, func(r *raw) { r.request(join(postHead, data("xyz")[:4])...).Close() }},
		{"an unknown frame cut short", ErrFrame, func(r *raw) { r.request(0x21, 5, 0).Close() }},
		{"the dynamic table", ErrDecompression, func(r *raw) { r.request(frameHeaders, 3, 0, 0, 0x80) }},
		{"an insert count", ErrDecompression, func(r *raw) { r.request(frameHeaders, 3, 2, 0, 0xd1) }},
		{"no line of the static table", ErrDecompression, func(r *raw) { r.request(frameHeaders, 4, 0, 0, 0xff, 0x30) }},
		{"an empty section", ErrDecompression, func(r *raw) { r.request(frameHeaders, 0) }},
		{"a line cut short", ErrDecompression, func(r *raw) { r.request(frameHeaders, 4, 0, 0, 0x23, 'a') }},
		{"bad Huffman code", ErrDecompression, func(r *raw) { r.request(frameHeaders, 6, 0, 0, 0x50, 0x82, 0xff, 0xff) }},
		{"a malformed datagram", ErrDatagram, func(r *raw) {
			r.request(headers(":method: CONNECT", ":protocol: connect-udp", ":scheme: https", ":authority: a", ":path: /")...)
			r.q.SendDatagram([]byte{0xc0})
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			goroutines(t, func(t *testing.T, s task.Shard) {
				up, far := proxytest.Pair(t, s)
				go io.Copy(io.Discard, far)
				defer up.Close()
				r := rawPeer(t, s, true, Config{Tunnel: relay.Copy, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
					if req.IsConnect() {
						resp.Status, resp.Stream = 200, up
						return nil
					}
					if req.Upgrade != "" {
						w := &waiter{left: make(chan error, 1)}
						req.Cancel.Watch(w)
						return <-w.left
					}
					return echo(req, resp)
				})})
				defer r.close()
				c.do(r)
				r.expectEnd(c.what, c.code)
			})
		})
	}
}

// TestConnectionErrorsOfServers: what ends the connection of a client.
func TestConnectionErrorsOfServers(t *testing.T) {
	for _, c := range []struct {
		what string
		code ErrCode
		do   func(r *raw)
	}{
		{"a bidirectional stream", ErrStreamCreation, func(r *raw) { r.request(0) }},
		{"a push", ErrID, func(r *raw) { r.uni(streamPush, 0) }},
		{"MAX_PUSH_ID", ErrFrameUnexpected, func(r *raw) { r.settings(frameMaxPushID, 1, 0) }},
		{"GOAWAY with no request's id", ErrID, func(r *raw) { r.settings(frameGoAway, 1, 3) }},
		{"PUSH_PROMISE", ErrID, func(r *raw) { r.accept().Write([]byte{framePushPromise, 3, 0, 0, 0}) }},
		{"DATA first", ErrFrameUnexpected, func(r *raw) { r.accept().Write(data("x")) }},
		{"GOAWAY on a request", ErrFrameUnexpected, func(r *raw) { r.accept().Write([]byte{frameGoAway, 1, 0}) }},
		{"the dynamic table", ErrDecompression, func(r *raw) { r.accept().Write([]byte{frameHeaders, 3, 0, 0, 0x80}) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			goroutines(t, func(t *testing.T, s task.Shard) {
				r := rawPeer(t, s, false, Config{})
				defer r.close()
				done := proxytest.Go(s, func() {
					if err := r.conn.RoundTrip(get("/"), new(proxy.Response)); err == nil {
						t.Error("no error")
					}
				})
				c.do(r)
				r.expectEnd(c.what, c.code)
				proxytest.Wait(t, done)
			})
		})
	}
}

// TestStreamErrorsOfClients: what ends a request, and only that.
func TestStreamErrorsOfClients(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, true, Config{Handler: handler(echo)})
		defer r.close()
		r.settings()
		one := func(lines ...string) []byte {
			return headers(append([]string{":method: POST", ":scheme: https", ":authority: a", ":path: /"}, lines...)...)
		}
		for _, c := range []struct {
			what string
			code ErrCode
			b    []byte
		}{
			{"nothing", ErrRequestIncomplete, nil},
			{"an unknown frame and nothing", ErrRequestIncomplete, []byte{0x21, 1, 0}},
			{"no method", ErrMessage, headers(":scheme: https", ":authority: a", ":path: /")},
			{"no path", ErrMessage, headers(":method: GET", ":scheme: https", ":authority: a")},
			{"a status", ErrMessage, headers(":method: GET", ":scheme: https", ":authority: a", ":path: /", ":status: 200")},
			{"an unknown pseudo-header field", ErrMessage, headers(":method: GET", ":scheme: https", ":authority: a", ":path: /", ":reason: x")},
			{"a pseudo-header field twice", ErrMessage, headers(":method: GET", ":method: GET", ":scheme: https", ":authority: a", ":path: /")},
			{"a pseudo-header field after another", ErrMessage, headers(":method: GET", ":scheme: https", ":authority: a", "b: c", ":path: /")},
			{"upper case", ErrMessage, one("Upper: x")},
			{"Connection", ErrMessage, one("connection: close")},
			{"Transfer-Encoding", ErrMessage, one("transfer-encoding: chunked")},
			{"TE", ErrMessage, one("te: gzip")},
			{"another Host", ErrMessage, one("host: b")},
			{"a line break", ErrMessage, one("a: b\r\nc: d")},
			{"CONNECT with a path", ErrMessage, headers(":method: CONNECT", ":authority: a:1", ":path: /")},
			{"two lengths", ErrMessage, one("content-length: 1", "content-length: 2")},
			{"a length that is none", ErrMessage, one("content-length: +1")},
			{"less content", ErrMessage, join(one("content-length: 5"), data("abc"))},
			{"no content", ErrMessage, one("content-length: 5")},
			{"more content", ErrMessage, join(one("content-length: 2"), data("abc"))},
			{"a pseudo-header field in trailers", ErrMessage, join(one(), data("abc"), headers(":path: /"))},
			{"trailers too large", ErrExcessiveLoad, join(one(), appendFrameHeader(nil, frameHeaders, 1<<20), make([]byte, 100))},
		} {
			st := r.request(c.b...)
			st.Close()
			expectReset(t, c.what, st, c.code)
		}
		st := r.request(getHead...)
		st.Close()
		if b, err := io.ReadAll(st); err != nil || len(b) == 0 {
			t.Errorf("a request after all that: %q, %v", b, err)
		}
		proxytest.Eventually(t, "nothing is left", func() bool { st := r.conn.Stats(); return st.Streams == 0 && st.Running == 0 })
	})
}

// TestStreamErrorsOfServers: what ends an answer, and only that.
func TestStreamErrorsOfServers(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, false, Config{})
		defer r.close()
		r.settings()
		for _, c := range []struct {
			what string
			code ErrCode // what the server is told
			want proxy.Code
			b    []byte
		}{
			{"nothing", ErrMessage, proxy.PeerReset, nil},
			{"only a 1xx", ErrMessage, proxy.PeerReset, headers(":status: 103")},
			{"no status", ErrMessage, proxy.PeerReset, headers("a: b")},
			{"101", ErrMessage, proxy.PeerReset, headers(":status: 101")},
			{"a path", ErrMessage, proxy.PeerReset, headers(":status: 200", ":path: /")},
			{"upper case", ErrMessage, proxy.PeerReset, headers(":status: 200", "Upper: x")},
			{"less content", ErrMessage, proxy.PeerReset, join(headers(":status: 200", "content-length: 5"), data("abc"))},
			{"more content", ErrMessage, proxy.PeerReset, join(headers(":status: 200", "content-length: 2"), data("abc"))},
			{"content of a 204", ErrMessage, proxy.PeerReset, join(headers(":status: 204"), data("abc"))},
			{"a head too large", ErrRequestCancelled, proxy.AppBadAnswer, join(appendFrameHeader(nil, frameHeaders, 1<<20), make([]byte, 100))},
			{"endless 1xx", ErrExcessiveLoad, proxy.PeerReset, []byte(strings.Repeat(string(headers(":status: 103")), maxInforms+1))},
		} {
			done := proxytest.Go(s, func() {
				resp := new(proxy.Response)
				err := r.conn.RoundTrip(get("/"), resp)
				if err == nil {
					_, err = readAll(resp.Body)
					if resp.Status == 204 {
						err = &proxy.Error{Code: c.want} // there is no content to read
					}
					resp.Close()
				}
				var e *proxy.Error
				if !errors.As(err, &e) || e.Code != c.want || e.Unsent {
					t.Errorf("%s: got %v, want %v", c.what, err, c.want)
				}
			})
			st := r.accept()
			st.Write(c.b)
			if !strings.Contains(c.what, "too large") {
				st.Close()
			}
			proxytest.Wait(t, done)
		}
	})
}

// RFC 9114 section 4.1.1: what a server rejects was never sent; what it cancels may have been.
func TestServerResets(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, false, Config{})
		defer r.close()
		for _, c := range []struct {
			code   ErrCode
			want   proxy.Code
			unsent bool
		}{
			{ErrRequestRejected, proxy.Refused, true},
			{ErrRequestCancelled, proxy.PeerReset, false},
			{ErrInternal, proxy.PeerReset, false},
		} {
			done := proxytest.Go(s, func() {
				err := r.conn.RoundTrip(post("/", text("hello"), 5), new(proxy.Response))
				var e *proxy.Error
				if !errors.As(err, &e) || e.Code != c.want || e.Unsent != c.unsent {
					t.Errorf("%v: got %v, want %v", c.code, err, c.want)
				}
			})
			st := r.accept()
			st.CancelRead(quic.StreamErrorCode(c.code))
			st.CancelWrite(quic.StreamErrorCode(c.code))
			proxytest.Wait(t, done)
		}
	})
}

// RFC 9114 section 9: "Implementations MUST ignore unknown or unsupported values in all extensible protocol elements".
func TestGrease(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, true, Config{Handler: handler(echo)})
		defer r.close()
		grease := quicvarint.Append(nil, 0x1f*1000+0x21)
		unknown := append(append([]byte{}, grease...), 5, 1, 2, 3, 4, 5)
		setting := append(append([]byte{}, grease...), 7)
		control := append([]byte{streamControl, frameSettings, byte(len(setting))}, setting...)
		r.uni(append(control, unknown...)...)
		r.uni(append(append([]byte{}, grease...), "whatever"...)...)
		r.uni(streamQPACKEncoder, 0x20)
		r.uni(streamQPACKDecoder, 0x44, 0x7f, 0x80, 0x01)
		r.uni().Close()
		st := r.request(join(unknown, postHead, unknown, data("hel"), unknown, data("lo"), unknown, headers("a: b"), unknown)...)
		st.Close()
		b, err := io.ReadAll(st)
		if err != nil || !strings.HasSuffix(string(b), "hello") {
			t.Errorf("got %q, %v", b, err)
		}
		proxytest.Eventually(t, "the SETTINGS are seen", func() bool { return r.conn.Stats().Ready })
	})
}

// RFC 9204 section 4.5: literals with Huffman code, and a Base that is not zero, which quic-go's encoder and ours never write.
func TestHuffman(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, true, Config{Handler: handler(echo)})
		defer r.close()
		// :path as Huffman code of "/a", from RFC 7541 appendix B: '/' 011000, 'a' 00011, padded with 1.
		b := []byte{frameHeaders, 0, 0, 5, 0xc0 | 17, 0xc0 | 23, 0x51, 0x82, 0x60, 0xff, 0x50, 1, 'x'}
		b[8], b[9] = 0b01100000, 0b01111111
		b[1] = byte(len(b) - 2)
		st := r.request(b...)
		st.Close()
		got, err := io.ReadAll(st)
		if err != nil || !strings.Contains(string(got), "/a") {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestHeadTooLarge: 431, and the connection lives.
func TestHeadTooLarge(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(echo), MaxHead: 2000}, Config{})
		defer l.close()
		if err := l.client.WaitReady(s.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		req := get("/")
		req.Fields.Add("X-Long", strings.Repeat("x", 2000))
		var e *proxy.Error
		if err := l.client.RoundTrip(req, new(proxy.Response)); !errors.As(err, &e) || e.Code != proxy.HeadTooLarge || !e.Unsent {
			t.Errorf("got %v, want that it is too large", err)
		}
		l.client.mu.Lock()
		l.client.peerMaxHead = 1 << 20 // a client that does not know
		l.client.mu.Unlock()
		for _, n := range []int{1950, 2000, 100000} {
			req := get("/")
			req.Fields.Add("X-Long", strings.Repeat("x", n))
			resp := l.do(req)
			if resp.Status != 431 {
				t.Errorf("%d bytes: got %d, want 431", n, resp.Status)
			}
			resp.Close()
		}
		resp := l.do(get("/"))
		if resp.Status != 200 {
			t.Errorf("then: %d", resp.Status)
		}
		resp.Close()
		l.quiet()
	})
}

// A request that does not come is given up.
func TestHeadTimeout(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, true, Config{Handler: handler(echo), HeadTimeout: 10 * time.Millisecond})
		defer r.close()
		expectReset(t, "half a head", r.request(getHead[:5]...), ErrRequestCancelled)
		proxytest.Eventually(t, "nothing is left", func() bool { return r.conn.Stats().Running == 0 })
	})
}

// TestFloods: what costs a peer little and us much is bounded.
func TestFloods(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(r *raw)
	}{
		{"unknown frames", func(r *raw) {
			st := r.request(getHead[:0]...)
			for {
				if _, err := st.Write([]byte(strings.Repeat("\x21\x00", 500))); err != nil {
					return
				}
			}
		}},
		{"unknown frames on the control stream", func(r *raw) {
			st := r.settings()
			for {
				if _, err := st.Write([]byte(strings.Repeat("\x21\x00", 500))); err != nil {
					return
				}
			}
		}},
		{"a large unknown frame", func(r *raw) { r.request(appendFrameHeader(nil, 0x21, 1<<40)...) }},
		{"empty DATA", func(r *raw) {
			st := r.request(postHead...)
			for {
				if _, err := st.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}},
		{"resets", func(r *raw) {
			for {
				st, err := r.q.OpenStreamSync(r.q.Context())
				if err != nil {
					return
				}
				st.Write(getHead)
				st.CancelWrite(quic.StreamErrorCode(ErrRequestCancelled))
				st.CancelRead(quic.StreamErrorCode(ErrRequestCancelled))
			}
		}},
		{"malformed requests", func(r *raw) {
			for {
				st, err := r.q.OpenStreamSync(r.q.Context())
				if err != nil {
					return
				}
				st.Write(headers("a: b"))
				st.Close()
				io.Copy(io.Discard, st)
			}
		}},
		{"unidirectional streams", func(r *raw) {
			for {
				st, err := r.q.OpenUniStreamSync(r.q.Context())
				if err != nil {
					return
				}
				st.Write([]byte{0x21})
				st.Close()
			}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			goroutines(t, func(t *testing.T, s task.Shard) {
				r := rawPeer(t, s, true, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
					w := &waiter{left: make(chan error, 1)}
					if _, err := req.Cancel.Watch(w); err != nil {
						return err
					}
					if req.Body == nil {
						return <-w.left
					}
					return echo(req, resp)
				})})
				defer r.close()
				c.do(r)
				r.expectEnd(c.what, ErrExcessiveLoad)
			})
		})
	}
}

// RFC 9297 section 2: a datagram for a request that knows none ends that.
func TestDatagramForAnExchange(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		arrived := make(chan struct{}, 2)
		r := rawPeer(t, s, true, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			w := &waiter{left: make(chan error, 1)}
			if _, err := req.Cancel.Watch(w); err != nil {
				return err
			}
			arrived <- struct{}{}
			return <-w.left
		})})
		defer r.close()
		r.uni(streamControl, frameSettings, 2, settingDatagram, 1)
		r.request(headers(":method: CONNECT", ":protocol: connect-udp", ":scheme: https", ":authority: a", ":path: /")...)
		st := r.request(postHead...)
		<-arrived
		<-arrived
		r.q.SendDatagram([]byte{1, 0, 'x'}) // stream 4
		expectReset(t, "a datagram", st, ErrDatagram)
	})
}

func TestStaticTable(t *testing.T) {
	for i, e := range staticTable {
		got, whole := staticIndex(e.name, e.value)
		if got != i || !whole {
			t.Errorf("%s: %s is at %d, %v; want %d", e.name, e.value, got, whole, i)
		}
		if got, whole := staticIndex(e.name, "no such value"); got < 0 || whole || staticTable[got].name != e.name {
			t.Errorf("%s is at %d, %v", e.name, got, whole)
		}
	}
	if got, whole := staticIndex("Content-Type", "text/plain"); got != -1 || whole {
		t.Errorf("another case is at %d", got)
	}
}

func TestFieldsComeBack(t *testing.T) {
	b := new(encoder).append(nil, true, func(e *head.Encoder) {
		e.Request(&proxy.Request{Method: "PATCH", Scheme: "https", Path: "/" + strings.Repeat("p", 300), Authority: "a", Length: 17, Fields: proxy.Fields{
			{Name: "Authorization", Value: "secret"}, {Name: "cookie", Value: ""}, {Name: strings.Repeat("n", 200), Value: strings.Repeat("v", 70000)},
		}})
	})
	var got []string
	if err := decodeSection(string(b[headersHeader:]), func(name, value string) bool { got = append(got, name+"="+value); return true }); err != nil {
		t.Fatal(err)
	}
	want := []string{":method=PATCH", ":scheme=https", ":path=/" + strings.Repeat("p", 300), ":authority=a", "Authorization=secret", "cookie=",
		strings.Repeat("n", 200) + "=" + strings.Repeat("v", 70000), "content-length=17"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %.300q", got)
	}
}
