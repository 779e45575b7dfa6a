package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pillion-proxy/pillion/tls/devca"
)

// frames are what a WebSocket may carry, RFC 6455 section 5: pillion looks at none of it.
var frames = []string{
	"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",             // a masked text
	"\x01\x83\x01\x02\x03\x04IgO", "\x00\x81\x01\x02\x03\x04m", // one in fragments,
	"\x89\x80\x00\x00\x00\x00",                             // a ping between them,
	"\x80\x81\x01\x02\x03\x04p",                            // and its end
	"\xc1\x87\x00\x00\x00\x00\xf2\x48\xcd\xc9\xc9\x07\x00", // compressed: RSV1
	"\x8a\x84\xff\xff\xff\xff\x8f\x90\x91\x98",             // a pong that nobody asked for
	"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00abcd",         // a long binary begins
	strings.Repeat("\x00\xff\x01\xfe", 1<<14),              // and goes on
	"\xb3\x82\x01\x02\x03\x04xx",                           // what no extension has defined
	"\x88\x8b\x00\x00\x00\x00\x0f\xa1" + "goodbye..",       // a close with code 4001
}

const (
	key    = "dGhlIHNhbXBsZSBub25jZQ=="     // of RFC 6455 section 1.3,
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // and its answer
)

func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// webSocketApp speaks HTTP/1.1, agrees to WebSockets, and sends back what comes.
func webSocketApp(t *testing.T) (addr string, seen func() http.Header) {
	t.Helper()
	var mu sync.Mutex
	var last http.Header
	addr = listenEach(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		mu.Lock()
		last = req.Header
		mu.Unlock()
		raw, err := base64.StdEncoding.DecodeString(req.Header.Get("Sec-Websocket-Key"))
		if err != nil || len(raw) != 16 || req.Header.Get("Upgrade") != "websocket" || req.Method != "GET" {
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"+
			"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", acceptFor(req.Header.Get("Sec-Websocket-Key")))
		_, _ = io.Copy(c, r)
	})
	return addr, func() http.Header {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

// listenEach serves each connection with f until the test ends.
func listenEach(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); running.Wait() })
	return ln.Addr().String()
}

// webSocketPair is a pair before an app with these keys; it returns A's port, and B's for peers.
func webSocketPair(t *testing.T, app, more, ca string) (port, peer, adminA, adminB string) {
	t.Helper()
	free := freeAddrs(t, 4)
	port, peer, adminA, adminB = free[0], free[1], free[2], free[3]
	startSidecar(t, fmt.Sprintf("service: chat\napp: {port: 80, to: %s%s}\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 1s\n",
		app, more, peer, adminB, ca))
	startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 1s\n"+
		"services: {chat: {endpoints: %s, listen: %s}}\n", adminA, ca, peer, port))
	return port, peer, adminA, adminB
}

const open1 = "GET /chat?room=1 HTTP/1.1\r\nHost: chat\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"

// openWebSocket opens one over HTTP/1.1 and checks the agreement.
func openWebSocket(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.WriteString(c, open1); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	if resp.StatusCode != 101 || h.Get("Sec-Websocket-Accept") != accept || h.Get("Upgrade") != "websocket" || !strings.EqualFold(h.Get("Connection"), "upgrade") {
		t.Fatalf("answer %s %v, want 101 with %s", resp.Status, h, accept)
	}
	return c, r
}

// exchangeFrames sends every frame, and expects the same bytes back.
func exchangeFrames(t *testing.T, w io.Writer, r io.Reader) {
	t.Helper()
	want := []byte(strings.Join(frames, ""))
	sent := make(chan error, 1)
	go func() {
		for _, f := range frames {
			if _, err := io.WriteString(w, f); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of frames came back as %d others, %v", len(want), n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestWebSocketIsUntouched: HTTP/1.1 at both apps: key, accept, subprotocol and extensions are the apps', and so is every byte behind them. One that is idle
// holds no buffer and ends when either side wants.
func TestWebSocketIsUntouched(t *testing.T) {
	app, seen := webSocketApp(t)
	port, _, adminA, adminB := webSocketPair(t, app, "", filepath.Join(t.TempDir(), "ca"))
	c, r := openWebSocket(t, port)
	if h := seen(); h.Get("Sec-Websocket-Key") != key || h.Get("Sec-Websocket-Protocol") != "chat" || h.Get("Sec-Websocket-Extensions") != "permessage-deflate" {
		t.Errorf("the app got %v, want the client's own fields", h)
	}
	exchangeFrames(t, c, r)
	idle := make([]net.Conn, 20)
	for i := range idle {
		idle[i], _ = openWebSocket(t, port)
	}
	for _, admin := range []string{adminA, adminB} {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if n := statusOf(t, admin).Runtime.Buffers; n == 0 {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("%d buffers are held for WebSockets that are idle", n)
			}
		}
	}
	exchangeFrames(t, c, r)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("after the end %q, %v, want the app's end", rest, err)
	}
}

// h2Conn speaks HTTP/2 frame by frame.
type h2Conn struct {
	*http2.Framer
	out   bytes.Buffer
	block *hpack.Encoder
}

func newH2Conn(c net.Conn) *h2Conn {
	h := &h2Conn{Framer: http2.NewFramer(c, c)}
	h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.block = hpack.NewEncoder(&h.out)
	return h
}

// headers sends a block of names and values.
func (h *h2Conn) headers(stream uint32, fields ...string) error {
	h.out.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := h.block.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			return err
		}
	}
	return h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.out.Bytes(), EndHeaders: true})
}

// next returns the next frame that means something to a test, and does what the others want done.
func (h *h2Conn) next() (http2.Frame, error) {
	for {
		f, err := h.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = h.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = h.WritePing(true, f.Data)
			}
		case *http2.WindowUpdateFrame:
		default:
			return f, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func fieldsOf(f *http2.MetaHeadersFrame) map[string]string {
	all := make(map[string]string)
	for _, x := range f.Fields {
		all[x.Name] = x.Value
	}
	return all
}

// TestWebSocketToHTTP2App: a client of HTTP/1.1, and an app that takes WebSockets over HTTP/2 without TLS alone. The app knows nothing of a key; the
// client gets the accept that belongs to its own.
func TestWebSocketToHTTP2App(t *testing.T) {
	asked := make(chan map[string]string, 1)
	app := listenEach(t, func(c net.Conn) {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(c, preface); err != nil {
			return
		}
		h := newH2Conn(c)
		_ = h.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		_ = h.WriteWindowUpdate(0, 1<<20)
		for {
			f, err := h.next()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				asked <- fieldsOf(f)
				_ = h.headers(f.StreamID, ":status", "200", "sec-websocket-protocol", "chat")
			case *http2.DataFrame:
				if err := h.WriteData(f.StreamID, f.StreamEnded(), f.Data()); err != nil {
					return
				}
			}
		}
	})
	port, _, _, _ := webSocketPair(t, app, ", protocol: h2c", filepath.Join(t.TempDir(), "ca"))
	c, r := openWebSocket(t, port)
	got := <-asked
	if _, has := got["sec-websocket-key"]; has || got[":method"] != "CONNECT" || got[":protocol"] != "websocket" || got[":path"] != "/chat?room=1" ||
		got["sec-websocket-version"] != "13" || got["sec-websocket-extensions"] != "permessage-deflate" {
		t.Errorf("the app got %v, want an extended CONNECT without a key", got)
	}
	exchangeFrames(t, c, r)
}

// TestWebSocketOfForeignPeer: a peer that is no pillion opens one as RFC 8441 has it, and the app beside B speaks HTTP/1.1: it gets a key, and 101 becomes 200.
func TestWebSocketOfForeignPeer(t *testing.T) {
	app, seen := webSocketApp(t)
	dir := filepath.Join(t.TempDir(), "ca")
	_, peer, _, _ := webSocketPair(t, app, "", dir)
	ca, _, err := devca.OpenFor(dir, "pillion.local")
	if err != nil {
		t.Fatal(err)
	}
	cert, certKey, err := ca.Issue("spiffe://pillion.local/foreign", devca.IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, certKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", peer, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	h := newH2Conn(c)
	_ = h.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	_ = h.WriteWindowUpdate(0, 1<<20)
	if err := h.headers(1, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "chat", ":path", "/chat",
		"sec-websocket-version", "13", "sec-websocket-protocol", "chat"); err != nil {
		t.Fatal(err)
	}
	f, err := h.next()
	if err != nil {
		t.Fatal(err)
	}
	answer, ok := f.(*http2.MetaHeadersFrame)
	if !ok {
		t.Fatalf("got %v, want the answer", f)
	}
	got := fieldsOf(answer)
	if _, has := got["sec-websocket-accept"]; has || got[":status"] != "200" || got["sec-websocket-protocol"] != "chat" {
		t.Errorf("answer %v, want 200 without an accept", got)
	}
	if h := seen(); h.Get("Sec-Websocket-Version") != "13" || h.Get("X-Pillion-Identity") != "spiffe://pillion.local/foreign" {
		t.Errorf("the app got %v", h)
	}
	for _, x := range frames[:7] {
		if err := h.WriteData(1, false, []byte(x)); err != nil {
			t.Fatal(err)
		}
		back := ""
		for len(back) < len(x) {
			f, err := h.next()
			if err != nil {
				t.Fatalf("%q came back as %q, %v", x, back, err)
			}
			d, ok := f.(*http2.DataFrame)
			if !ok {
				t.Fatalf("got %v, want DATA", f)
			}
			back += string(d.Data())
		}
		if back != x {
			t.Errorf("%q came back as %q", x, back)
		}
	}
}
