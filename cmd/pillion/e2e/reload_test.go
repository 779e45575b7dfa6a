//go:build e2e

package e2e

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// reloads are done while everything runs; each changes something of both sidecars.
const reloads = 30

// TestReloadUnderLoad: HTTP/1, HTTP/2, gRPC, WebSocket, TCP and UDP lose nothing while both sidecars are reloaded again and again, each time with services, ports,
// routes and apps that come and go, and with files that are wrong in between.
func TestReloadUnderLoad(t *testing.T) {
	if *direct {
		return // there is nothing to reload
	}
	overEach(t, testReloadUnderLoad)
}

func testReloadUnderLoad(t *testing.T, transport string) {
	web, echo, ws, udp := newWebApp(t, "http1", "h2c"), rawApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }), rawApp(t, serveUpgrade), udpEchoApp(t)
	grpcApp, grpcClient := startGRPC(t)
	ca := newAuthority(t)
	certA, certB := ca.issue(leaf{name: "web"}), ca.issue(leaf{name: "app"})
	local := map[string]string{}
	for _, name := range []string{"app", "grpc", "ws", "echo", "dgram", "extra"} {
		local[name] = freeAddr(t)
	}
	configB := func(i int) string {
		c := fmt.Sprintf("service: app\nreload: {watch: false}\ndrain: %ds\napp:\n  - {port: 80, to: %q}\n  - {port: 81, to: %q, protocol: h2c}\n  - {port: 82, to: %q, protocol: http}\n"+
			"  - {port: 7, to: %q, protocol: tcp}\n  - {port: 53, to: %q, protocol: udp}\n", 10+i%3, web.addr, grpcApp, ws, echo, udp)
		if i%2 == 1 {
			c += fmt.Sprintf("  - {port: 83, to: %q, allow: [web]}\n", web.addr)
		}
		return c
	}
	b := newSidecar(t, "B", configB(0), certB)
	configA := func(i int) string {
		service := func(name, more string) string {
			return fmt.Sprintf("  %s: {endpoints: %q, identity: app, transport: %s, listen: %q%s}\n", name, b.peer, transport, local[name], more)
		}
		routes := fmt.Sprintf(", timeout: %ds, routes: [{match: {path: /none/%d}, timeout: 1s}, {match: {method: POST}, request_headers: {set: {x-reload: \"%d\"}}, timeout: %ds}]", 60+i, i, i, 50+i)
		c := fmt.Sprintf("service: web\nreload: {watch: false}\ndrain: %ds\nservices:\n", 10+i%2) +
			service("app", ", port: 80"+routes) + service("grpc", ", port: 81, protocol: http") + service("ws", ", port: 82") +
			service("echo", ", port: 7, protocol: tcp") + service("dgram", ", port: 53, protocol: udp")
		if i%2 == 1 {
			c += service("extra", ", port: 7, protocol: tcp") + "  another: dns:another.invalid\n"
		}
		return c
	}
	a := newSidecar(t, "A", configA(0), certA)
	b.ready()
	a.ready()

	h1, h2 := newLoad(t, local["app"], false), newLoad(t, local["app"], true)
	h1.run(8)
	h2.run(8)
	s := &steady{t: t, stop: make(chan struct{})}
	for range 4 {
		s.keep("TCP", dialEcho(local["echo"], ""))
		s.keep("WebSocket", dialEcho(local["ws"], "GET /chat HTTP/1.1\r\nHost: ws\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	}
	s.again("TCP", dialEcho(local["echo"], ""))
	s.datagrams(local["dgram"])
	host, port, _ := net.SplitHostPort(local["grpc"])
	s.running.Go(func() {
		for !s.stopped() {
			out, err := tryTool(t, grpcClient, "-server_host", host, "-server_port", port, "-test_case", "rpc_soak", "-soak_iterations", "200", "-soak_overall_timeout_seconds", "120",
				"-soak_per_iteration_max_acceptable_latency_ms", "60000")
			if err != nil {
				s.lost("gRPC: %v: %s", err, tail(out, 5))
				return
			}
			s.done.Add(1)
		}
	})

	reload := func(i int) {
		for _, x := range []struct {
			of   *sidecar
			text string
			cert files
		}{{a, configA(i), certA}, {b, configB(i), certB}} {
			x.of.write(t, x.text+"nonsense: 1\n", x.cert)
			if out, err := tryTool(t, workshop.pillion(), "reload", "--admin", x.of.admin); err == nil || !strings.Contains(out, "nonsense") {
				t.Errorf("a reload with a mistake: %v: %s", err, out)
			}
			x.of.write(t, x.text, x.cert)
			runTool(t, workshop.pillion(), "reload", "--admin", x.of.admin)
		}
	}
	reload(1)
	extra := dialRaw(t, local["extra"]) // a Stream on a port that comes and goes
	ping(t, extra, 1)
	fds := [2]int{a.fds(), b.fds()}
	for i := 2; i <= reloads; i++ {
		reload(i)
		ping(t, extra, i)
	}
	a.write(t, configA(1), certA)
	a.signal(syscall.SIGHUP)
	eventually(t, 20*time.Second, "a reload by SIGHUP", func() bool { return a.status().Configuration.Generation == reloads+2 })
	ping(t, extra, 0)

	close(s.stop)
	s.running.Wait()
	if t.Failed() {
		t.Logf("A: %s\nB: %s", a.get("/status"), b.get("/status"))
	}
	answered, failed := settle(t, web, append(h1.end(), h2.end()...), patience)
	if failed > 0 || answered < reloads {
		t.Errorf("%d requests failed and %d were answered, want none to fail", failed, answered)
	}
	if n := s.done.Load(); n < reloads {
		t.Errorf("only %d pings, datagrams and gRPC runs in all", n)
	}
	t.Logf("%d pings, datagrams and gRPC runs", s.done.Load())
	eventually(t, 30*time.Second, "no more descriptors than before", func() bool { return a.fds() <= fds[0]+20 && b.fds() <= fds[1]+20 })
	for _, x := range []*sidecar{a, b} {
		if c := x.status().Configuration; c.Failed != reloads || c.Error != "" {
			t.Errorf("%s: %+v, want %d failures, and none now", x.name, c, reloads)
		}
	}
}

// serveUpgrade agrees to an Upgrade and echoes.
func serveUpgrade(c *net.TCPConn) {
	r := bufio.NewReader(c)
	m, err := readMessage(r)
	if err != nil {
		return
	}
	sum := sha1.Sum([]byte(m.field("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 1.3
	_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	_, _ = io.Copy(c, r)
}

// udpEchoApp sends every datagram back.
func udpEchoApp(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		p := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(p)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(p[:n], from)
		}
	})
	t.Cleanup(func() { c.Close(); running.Wait() })
	return c.LocalAddr().String()
}

// steady is traffic that goes on until it is told to stop, and must not lose anything.
type steady struct {
	t       *testing.T
	stop    chan struct{}
	running sync.WaitGroup
	done    atomic.Int64
}

func (s *steady) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func (s *steady) lost(format string, args ...any) { s.t.Errorf("lost: "+format, args...) }

// echoConn is a connection on which lines come back.
type echoConn struct {
	net.Conn
	r *bufio.Reader
}

// dialEcho connects, and sends head first, whose answer it reads.
func dialEcho(addr, head string) func() (*echoConn, error) {
	return func() (*echoConn, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		e := &echoConn{c, bufio.NewReader(c)}
		_ = c.SetDeadline(time.Now().Add(patience))
		if head == "" {
			return e, nil
		}
		if _, err = io.WriteString(c, head); err == nil {
			var m *message
			if m, err = readMessage(e.r); err == nil && m.status() != 101 {
				err = fmt.Errorf("%s", m.start)
			}
		}
		if err != nil {
			c.Close()
		}
		return e, err
	}
}

// ping sends a line and reads it back.
func (e *echoConn) ping(i int) error {
	_ = e.SetDeadline(time.Now().Add(patience))
	want := fmt.Sprintln("line", i)
	if _, err := io.WriteString(e, want); err != nil {
		return err
	}
	got, err := e.r.ReadString('\n')
	if err == nil && got != want {
		err = fmt.Errorf("got %q, want %q", got, want)
	}
	return err
}

// keep holds one connection and pings on it all the time.
func (s *steady) keep(what string, dial func() (*echoConn, error)) {
	s.running.Go(func() {
		c, err := dial()
		if err != nil {
			s.lost("%s: %v", what, err)
			return
		}
		defer c.Close()
		for i := 0; !s.stopped(); i++ {
			if err := c.ping(i); err != nil {
				s.lost("%s after %d pings: %v", what, i, err)
				return
			}
			s.done.Add(1)
			time.Sleep(time.Millisecond)
		}
	})
}

// again makes a new connection for each ping.
func (s *steady) again(what string, dial func() (*echoConn, error)) {
	s.running.Go(func() {
		for i := 0; !s.stopped(); i++ {
			c, err := dial()
			if err == nil {
				err = c.ping(i)
				c.Close()
			}
			if err != nil {
				s.lost("%s, connection %d: %v", what, i, err)
				return
			}
			s.done.Add(1)
			time.Sleep(time.Millisecond)
		}
	})
}

// datagrams sends one after the other from one port, and waits for each to come back.
func (s *steady) datagrams(addr string) {
	s.running.Go(func() {
		c, err := net.Dial("udp", addr)
		if err != nil {
			s.lost("UDP: %v", err)
			return
		}
		defer c.Close()
		p := make([]byte, 100)
		for i := 0; !s.stopped(); i++ {
			want := fmt.Sprint("datagram ", i)
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err = c.Write([]byte(want)); err == nil {
				var n int
				if n, err = c.Read(p); err == nil && string(p[:n]) != want {
					err = fmt.Errorf("got %q, want %q", p[:n], want)
				}
			}
			if err != nil {
				s.lost("UDP: %v", err)
				return
			}
			s.done.Add(1)
			time.Sleep(time.Millisecond)
		}
	})
}

// ping is echoConn.ping on a connection that the test holds.
func ping(t *testing.T, c net.Conn, i int) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	want := fmt.Sprintf("kept %4d\n", i)
	got := make([]byte, len(want))
	_, err := io.WriteString(c, want)
	if err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err != nil || string(got) != want {
		t.Fatalf("ping %d of a Stream whose port has gone: %q, %v", i, got, err)
	}
}

// TestReloadOfMountedFile: a ConfigMap as Kubernetes mounts it, whose link is swapped, is taken over by itself, and explain says so.
func TestReloadOfMountedFile(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	a := newSidecar(t, "A", "service: web\nservices:\n  a: 10.0.0.1\n", ca.issue(leaf{name: "web"}))
	a.ready()
	text, err := os.ReadFile(a.config)
	if err != nil {
		t.Fatal(err)
	}
	next := t.TempDir() + "/next.yaml"
	if err := os.WriteFile(next, []byte(strings.Replace(string(text), "a: 10.0.0.1", "b: {endpoints: 10.0.0.2, timeout: 3s}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(next, a.config+".tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(a.config+".tmp", a.config); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the new configuration", func() bool { return a.status().Configuration.Generation == 2 })
	out := runTool(t, workshop.pillion(), "explain", "GET", "http://b/x", "--admin", a.admin)
	if !strings.Contains(out, "timeout\t3s") || !strings.Contains(out, "10.0.0.2:15008") {
		t.Errorf("explain:\n%s", out)
	}
}
