//go:build e2e

package e2e

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEventsArriveOneByOne(t *testing.T) {
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	resp, err := http.Get("http://" + p.local + "/sse")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for i := range 20 {
		want := fmt.Sprintf("data: event %d", i)
		app.events <- want[6:]
		line, err := r.ReadString('\n') // the next event is only sent after this one is here
		if err != nil || strings.TrimSpace(line) != want {
			t.Fatalf("event %d = %q, %v, want %q", i, line, err, want)
		}
		_, _ = r.ReadString('\n')
	}
	close(app.events)
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("after the last event = %q, %v, want an orderly end", rest, err)
	}
}

func TestWebSocketUpgrade(t *testing.T) {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
	app := rawApp(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		m, err := readMessage(r)
		if err != nil {
			return
		}
		if m.field("Sec-WebSocket-Protocol") != "chat, superchat" || !strings.EqualFold(m.field("Upgrade"), "websocket") ||
			!strings.Contains(strings.ToLower(m.field("Connection")), "upgrade") {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		sum := sha1.Sum([]byte(m.field("Sec-WebSocket-Key") + guid))
		_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"+
			"server speaks first", base64.StdEncoding.EncodeToString(sum[:]))
		_, _ = io.Copy(c, r) // frames go back as they come
	})
	p := newPair(t, setup{app: app})
	c := dialRaw(t, p.local)
	_, err := io.WriteString(c, "GET /chat?room=1 HTTP/1.1\r\nHost: app\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, superchat\r\n"+
		"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	m, err := readMessage(r)
	if err != nil {
		t.Fatal(err)
	}
	if m.status() != 101 || !strings.EqualFold(m.field("Upgrade"), "websocket") {
		t.Fatalf("answer = %q %q, want 101 and Upgrade: websocket", m.start, m.fields)
	}
	for name, want := range map[string]string{
		"Sec-WebSocket-Accept":     "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
		"Sec-WebSocket-Protocol":   "superchat",
		"Sec-WebSocket-Extensions": "permessage-deflate",
	} {
		if got := m.field(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	first := make([]byte, len("server speaks first"))
	if _, err := io.ReadFull(r, first); err != nil || string(first) != "server speaks first" {
		t.Fatalf("first bytes = %q, %v", first, err)
	}
	for i := range 50 {
		want := fmt.Sprintf("\x82\x7e frame %d %s", i, strings.Repeat("z", i*100))
		if _, err := io.WriteString(c, want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("frame %d came back as %q, %v", i, shorten(got), err)
		}
	}
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("after the end = %q, %v, want an orderly end", rest, err)
	}
}

func TestRefusedUpgradeStaysHTTP(t *testing.T) {
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	for i, upgrade := range []string{"websocket", "h2c", "websocket"} {
		c := dialRaw(t, p.local)
		r := bufio.NewReader(c)
		extra := "Connection: Upgrade\r\nUpgrade: " + upgrade + "\r\n"
		if upgrade == "h2c" {
			extra = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
		}
		if _, err := io.WriteString(c, "GET /id?id=x HTTP/1.1\r\nHost: app\r\n"+extra+"\r\n"); err != nil {
			t.Fatal(err)
		}
		m, err := readMessage(r)
		if err != nil || m.status() != 200 || string(m.body) != "x" {
			t.Fatalf("request %d, with Upgrade: %s: %+v, %v, want an ordinary 200", i, upgrade, m, err)
		}
	}
}

// streamWays are the ways of opening a stream of bytes to the app.
func streamWays(t *testing.T, app string) map[string]func(*testing.T) *net.TCPConn {
	p := newPair(t, setup{app: app, port: 7000, protocol: "tcp", listen: "tcp"})
	ways := map[string]func(*testing.T) *net.TCPConn{
		"port": func(t *testing.T) *net.TCPConn { return dialRaw(t, p.local) },
	}
	if !*direct {
		auto := newPair(t, setup{app: app, port: 7000})
		ways["port, auto"] = func(t *testing.T) *net.TCPConn { return dialRaw(t, auto.local) }
		ways["CONNECT"] = func(t *testing.T) *net.TCPConn { return connectRaw(t, p.a.outbound, "app:7000") }
	}
	return ways
}

// connectRaw opens a stream through an HTTP proxy.
func connectRaw(t *testing.T, proxy, target string) *net.TCPConn {
	t.Helper()
	c := dialRaw(t, proxy)
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		t.Fatal(err)
	}
	// One byte at a time: what follows the head belongs to the stream.
	var head []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b[0]) {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("answer to CONNECT after %q: %v", head, err)
		}
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 200") {
		t.Fatalf("answer to CONNECT = %q, want 200", head)
	}
	return c
}

func TestServerSpeaksFirst(t *testing.T) {
	app := rawApp(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
		_, _ = io.Copy(c, c)
	})
	for name, open := range streamWays(t, app) {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			began := time.Now()
			banner, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || banner != "220 mail.example ESMTP\r\n" {
				t.Fatalf("banner = %q, %v", banner, err)
			}
			t.Logf("banner after %v", time.Since(began))
		})
	}
}

func TestHalfCloseEachWay(t *testing.T) {
	const size = 4 << 20
	results := make(chan error, 10)
	// The client ends first: the app still answers. The first byte says which test this is.
	app := rawApp(t, func(c *net.TCPConn) {
		kind := make([]byte, 1)
		if _, err := io.ReadFull(c, kind); err != nil {
			return
		}
		switch kind[0] {
		case 'c': // client ends first
			err := checkContent(c, size)
			results <- err
			_, _ = io.Copy(c, content(size))
		case 's': // server ends first
			_, _ = io.Copy(c, content(size))
			_ = c.CloseWrite()
			results <- checkContent(c, size)
		}
	})
	for name, open := range streamWays(t, app) {
		t.Run(name+", client first", func(t *testing.T) {
			c := open(t)
			_, _ = io.WriteString(c, "c")
			_, _ = io.Copy(c, content(size))
			_ = c.CloseWrite()
			if err := <-results; err != nil {
				t.Errorf("at the app: %v", err)
			}
			if err := checkContent(c, size); err != nil {
				t.Errorf("at the client, after its own end: %v", err)
			}
		})
		t.Run(name+", server first", func(t *testing.T) {
			c := open(t)
			_, _ = io.WriteString(c, "s")
			if err := checkContent(c, size); err != nil {
				t.Errorf("at the client: %v", err)
			}
			_, _ = io.Copy(c, content(size))
			_ = c.CloseWrite()
			if err := <-results; err != nil {
				t.Errorf("at the app, after its own end: %v", err)
			}
		})
	}
}

func TestResetEachWay(t *testing.T) {
	broken := make(chan error, 10)
	app := rawApp(t, func(c *net.TCPConn) {
		kind := make([]byte, 1)
		if _, err := io.ReadFull(c, kind); err != nil {
			return
		}
		_, _ = io.WriteString(c, "here")
		if kind[0] == 's' { // the server resets
			time.Sleep(50 * time.Millisecond) // so that "here" is on its way before
			_ = c.SetLinger(0)
			return
		}
		_, err := io.Copy(io.Discard, c)
		broken <- err
	})
	for name, open := range streamWays(t, app) {
		t.Run(name+", by the client", func(t *testing.T) {
			c := open(t)
			_, _ = io.WriteString(c, "c")
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			_ = c.SetLinger(0)
			_ = c.Close()
			select {
			case err := <-broken:
				if !isReset(err) {
					t.Errorf("at the app = %v, want a reset", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("the app has seen nothing after ten seconds")
			}
		})
		t.Run(name+", by the server", func(t *testing.T) {
			c := open(t)
			_, _ = io.WriteString(c, "s")
			got, err := io.ReadAll(c)
			if string(got) != "here" && len(got) != 0 { // a reset may overtake data
				t.Errorf("got %q", got)
			}
			if !isReset(err) || errors.Is(err, io.EOF) {
				t.Errorf("at the client = %q, %v, want a reset", got, err)
			}
		})
	}
}
