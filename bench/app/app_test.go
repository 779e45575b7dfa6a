package app

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/bench/load"
)

// dial connects for at most five seconds.
func dial(t *testing.T, addr netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSmallAnswersHoweverARequestIsCut(t *testing.T) {
	s, err := NewSmall(1024)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, s.Addr)
	r := bufio.NewReader(c)
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for cut := 1; cut < len(request); cut++ {
		fmt.Fprint(c, request[:cut])
		time.Sleep(100 * time.Microsecond) // most often two reads there; either way is right
		fmt.Fprint(c, request[cut:])
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request cut after %d bytes: %v", cut, err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != 1024 || err != nil {
			t.Fatalf("request cut after %d bytes: body of %d bytes, %v, want 1024", cut, n, err)
		}
	}
}

func TestSmallCloseEndsConnections(t *testing.T) {
	s, err := NewSmall(0)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Addr)
	fmt.Fprint(c, "GET / HTTP/1.1\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("Read after Close = %d bytes, want an end", n)
	}
	if _, err := net.DialTimeout("tcp", s.Addr.String(), time.Second); err == nil {
		t.Error("Close left the listener open")
	}
}

func TestBulkAnswersAsManyBytesAsAskedFor(t *testing.T) {
	s, err := NewBulk()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, s.Addr)
	r := bufio.NewReader(c)
	for _, size := range []int64{0, 1, 16 << 10, 16<<10 + 1, 3 << 20} {
		fmt.Fprintf(c, "POST /%d HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", size)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("size %d: body of %d bytes, %v", size, n, err)
		}
	}
}

func TestH2CAnswers(t *testing.T) {
	const size = 1024
	s, err := NewH2C(size)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for i := range 200 { // more than a window's worth
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://%v/", s.Addr), strings.NewReader(strings.Repeat("y", i*100)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || n != size || err != nil {
			t.Fatalf("request %d: %s, body of %d bytes, %v, want 200 and %d", i, resp.Status, n, err, size)
		}
	}
}

func TestEchoAndSource(t *testing.T) {
	e, err := NewEcho()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c := dial(t, e.Addr)
	fmt.Fprint(c, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("echo = %q, %v, want hello", got, err)
	}
	src, err := NewSource()
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	got = make([]byte, 1<<20)
	if _, err := io.ReadFull(dial(t, src.Addr), got); err != nil || bytes.Count(got, []byte("x")) != len(got) {
		t.Errorf("source: %v, want a MiB of x", err)
	}
}

// TestWebSocketCarriesLoad: the load generator and the app agree on WebSockets, and an app that opens none is found out.
func TestWebSocketCarriesLoad(t *testing.T) {
	s, err := NewWebSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int{1, 125, 126, 1 << 16} {
		var r *load.Result
		for _, d := range []time.Duration{50 * time.Millisecond, 2 * time.Second, 10 * time.Second} { // a busy machine may not answer at once
			if r, err = load.Run(t.Context(), load.Config{Protocol: load.WebSocket, Addr: s.Addr.String(), Conns: 3, Size: size, Duration: d}); err != nil {
				t.Fatal(err)
			}
			if r.Answered > 0 {
				break
			}
		}
		if r.Answered == 0 || r.Errors > 0 {
			t.Errorf("frames with %d bytes: %d answers, %d errors, want some and none", size, r.Answered, r.Errors)
		}
	}
	plain, err := NewEcho()
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := load.Run(t.Context(), load.Config{Protocol: load.WebSocket, Addr: plain.Addr.String(), Duration: time.Second}); err == nil {
		t.Error("an app that opens no WebSockets is taken for one that does")
	}
	c := dial(t, s.Addr)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a request for no WebSocket: %v, %v, want 426", resp, err)
	}
}
