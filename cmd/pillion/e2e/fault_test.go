//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failFast bounds how long a client waits for the news that its request is lost, where the loss is plain to see.
const failFast = 10 * time.Second

// detectDead bounds it where nothing is to be seen but silence: a link is dead after 20 s.
const detectDead = 40 * time.Second

// recovers waits until 50 requests in a row are answered.
func recovers(t *testing.T, p *pair, within time.Duration) {
	t.Helper()
	began := time.Now()
	row := 0
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, within, "50 answers in a row after the fault", func() bool {
		resp, err := c.Get("http://" + p.local + "/id?id=recovery")
		if err == nil {
			resp.Body.Close()
		}
		if row++; err != nil || resp.StatusCode != 200 {
			row = 0
		}
		return row >= 50
	})
	t.Logf("recovered within %v", time.Since(began))
}

// underLoad runs a fault while clients are at work, and settles the books afterwards.
func underLoad(t *testing.T, bound time.Duration, wantFailures bool, fault func(p *pair)) {
	underLoadOver(t, "", bound, wantFailures, fault)
}

// underLoadOver is underLoad with links over a transport of the test's choice.
func underLoadOver(t *testing.T, over string, bound time.Duration, wantFailures bool, fault func(p *pair)) {
	for _, version := range []string{"HTTP/1.1", "h2c"} {
		t.Run(version, func(t *testing.T) {
			app := newWebApp(t)
			p := newPair(t, setup{app: app.addr, transport: over})
			p.warm(t)
			before := p.baseline()
			l := newLoad(t, p.local, version == "h2c")
			l.query = "&wait=5ms"
			l.run(32)
			time.Sleep(500 * time.Millisecond)
			fault(p)
			recovers(t, p, 15*time.Second)
			time.Sleep(300 * time.Millisecond)
			outcomes := l.end()
			answered, failed := settle(t, app, outcomes, bound)
			if answered < 100 {
				t.Errorf("%d requests answered, want at least 100", answered)
			}
			if wantFailures && failed == 0 {
				t.Error("no request failed: the fault did not bite, and the test shows nothing")
			}
			if !wantFailures && failed > 0 {
				t.Errorf("%d requests failed, want none", failed)
			}
			l.client.CloseIdleConnections()
			before.restored(t)
		})
	}
}

func TestPeerKilledUnderLoad(t *testing.T) {
	if *direct {
		return
	}
	underLoad(t, failFast, true, func(p *pair) {
		b := p.b
		b.kill()
		time.Sleep(500 * time.Millisecond)
		b.restart()
	})
}

func TestPeerStoppedForAMomentUnderLoad(t *testing.T) {
	if *direct {
		return
	}
	underLoad(t, failFast, false, func(p *pair) {
		p.b.signal(syscall.SIGSTOP)
		time.Sleep(3 * time.Second)
		p.b.signal(syscall.SIGCONT)
	})
}

func TestPeerStoppedForGood(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	p.warm(t)
	l := newLoad(t, p.local, false)
	l.run(16)
	time.Sleep(300 * time.Millisecond)
	p.b.signal(syscall.SIGSTOP)
	eventually(t, detectDead, "every client told that its request is lost", func() bool {
		lost := 0
		for _, o := range l.all() {
			if !o.whole {
				lost++
			}
		}
		return lost >= 16
	})
	p.b.signal(syscall.SIGCONT)
	recovers(t, p, 15*time.Second)
	settle(t, app, l.end(), detectDead)
}

// Of two endpoints one stands still: once it is doubted every request goes to the other, without waiting for it, and back when it goes on.
func TestOneOfTwoPeersStandsStill(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	var ends [2]*sidecar
	for i := range ends {
		name, addr := fmt.Sprint("b", i), freeAddr(t)
		namedApp(t, name, addr)
		ends[i] = newSidecar(t, name, fmt.Sprintf("service: app\napp: [{port: 8080, to: %q}]\n", addr), ca.issue(leaf{name: "app"}))
		ends[i].ready()
	}
	local := freeAddr(t)
	a := newSidecar(t, "A", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: [%q, %q], listen: %q}\n", ends[0].peer, ends[1].peer, local), ca.issue(leaf{name: "web"}))
	a.ready()
	bothAnswer := func(when string) {
		t.Helper()
		seen := make(map[string]bool)
		eventually(t, 20*time.Second, when+": answers of both", func() bool {
			seen[answering(local)] = true
			return seen["b0"] && seen["b1"]
		})
	}
	bothAnswer("at first")
	ends[0].signal(syscall.SIGSTOP)
	defer ends[0].signal(syscall.SIGCONT)
	c := &http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(ctx context.Context) string {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+local+"/", nil)
		if err != nil {
			return err.Error()
		}
		resp, err := c.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	eventually(t, 20*time.Second, "a link without answer", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_ = ask(ctx) // some must go to the one that stands still
		for _, l := range a.status().Links {
			if l.Suspect {
				return true
			}
		}
		return false
	})
	for range 200 {
		if got := ask(t.Context()); got != "b1" {
			t.Fatalf("%s answers, want b1", got)
		}
	}
	ends[0].signal(syscall.SIGCONT)
	bothAnswer("in the end")
}

func TestLinkCutAndRestoredUnderLoad(t *testing.T) {
	if *direct {
		return
	}
	underLoad(t, failFast, true, func(p *pair) {
		p.link.cut()
		time.Sleep(700 * time.Millisecond)
		p.link.restore()
	})
}

func TestLinkFrozenForAMomentUnderLoad(t *testing.T) {
	if *direct {
		return
	}
	underLoad(t, failFast, false, func(p *pair) {
		p.link.freeze()
		time.Sleep(2 * time.Second)
		p.link.restore()
	})
}

func TestLinkFrozenForGood(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	p.warm(t)
	l := newLoad(t, p.local, true)
	l.run(16)
	time.Sleep(300 * time.Millisecond)
	p.link.freeze()
	eventually(t, detectDead, "every client told that its request is lost", func() bool {
		lost := 0
		for _, o := range l.all() {
			if !o.whole {
				lost++
			}
		}
		return lost >= 16
	})
	p.link.restore()
	recovers(t, p, 15*time.Second)
	settle(t, app, l.end(), detectDead)
}

func TestAppGoneAndBack(t *testing.T) {
	if *direct {
		return
	}
	addr := freeAddr(t)
	p := newPair(t, setup{app: addr})
	m := exchangeRaw(t, p.local, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
	if m.status() != 503 || m.field("Pillion-Error") != "app_unreachable" {
		t.Errorf("without an app = %q %q, want 503 app_unreachable", m.start, m.field("Pillion-Error"))
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = http.Serve(ln, http.NotFoundHandler()) }()
	defer ln.Close()
	if m := exchangeRaw(t, p.local, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); m.status() != 404 {
		t.Errorf("with an app again = %q, want its 404", m.start)
	}
}

func TestAnswerCutShortIsNeverComplete(t *testing.T) {
	curl := installed(t, "curl", "curl")
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	for _, w := range ways(p) {
		if strings.Contains(w.name, "1.0") {
			continue // without a length, HTTP/1.0 cannot tell
		}
		for _, framing := range []string{"", "&chunked=1"} {
			for _, n := range []int{1, 1000, 500_000} {
				argv := append(append([]string{curl, "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"}, w.args...),
					fmt.Sprintf("%s/cut?n=%d%s", w.base, n, framing))
				out, err := tryTool(t, argv...)
				if err == nil && !strings.HasPrefix(out, "502") {
					t.Errorf("%s, cut after %d bytes %s: curl took %q for a complete answer", w.name, n, framing, out)
				}
				if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 28 {
					t.Errorf("%s, cut after %d bytes %s: curl timed out: %s", w.name, n, framing, out)
				}
			}
		}
	}
}

func TestBadAnswersBecome502(t *testing.T) {
	if *direct {
		return
	}
	for name, answer := range map[string]string{
		"nothing":            "",
		"half a head":        "HTTP/1.1 200 OK\r\nContent-Le",
		"not HTTP":           "SSH-2.0-OpenSSH_9.2\r\n",
		"both framings":      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"folded field":       "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"space before colon": "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			app := rawApp(t, func(c *net.TCPConn) {
				_, _ = io.ReadAtLeast(c, make([]byte, 4096), 1)
				_, _ = io.WriteString(c, answer)
			})
			p := newPair(t, setup{app: app, protocol: "http"})
			m := exchangeRaw(t, p.local, "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n")
			if code := m.field("Pillion-Error"); m.status() != 502 || code == "" {
				t.Errorf("answer = %q %q %q, want 502 with a code", m.start, code, m.body)
			}
		})
	}
}

func TestSmugglingIsRefused(t *testing.T) {
	if *direct {
		return
	}
	reached := make(chan string, 100)
	app := rawApp(t, func(c *net.TCPConn) {
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		reached <- string(b[:n])
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	p := newPair(t, setup{app: app, listen: "http"})
	for name, request := range map[string]string{
		"both framings":      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
		"length with plus":   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
		"bad chunk size":     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n",
		"unknown coding":     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"folded field":       "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
		"space before colon": "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
		"no Host":            "GET / HTTP/1.1\r\n\r\n",
		"two Hosts":          "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"NUL":                "GET / HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n\r\n",
		"bare CR":            "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
		"overlong field":     "GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, p.local)
			_, _ = io.WriteString(c, request)
			answer, _ := io.ReadAll(c) // to the end: the connection is closed
			want := []byte("HTTP/1.1 400 ")
			if name == "overlong field" {
				want = []byte("HTTP/1.1 431 ")
			}
			if name == "unknown coding" && bytes.HasPrefix(answer, []byte("HTTP/1.1 501 ")) {
				want = []byte("HTTP/1.1 501 ")
			}
			if !bytes.HasPrefix(answer, want) {
				t.Errorf("answer = %q, want %q", shorten(answer), want)
			}
			if n := bytes.Count(answer, []byte("HTTP/1.1 ")); n > 1 {
				t.Errorf("%d answers to one bad request: %q", n, shorten(answer))
			}
		})
	}
	// A bad chunk is only seen once the head has gone on; what follows the bad chunk must not.
	for len(reached) > 0 {
		if got := <-reached; !strings.Contains(got, "chunked") {
			t.Errorf("the app got %q, want nothing of a refused request", got)
		}
	}
}

func TestClientLeavesAndTheAppSeesIt(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "h2c"} {
		if *direct && version == "h2c" {
			return
		}
		t.Run(version, func(t *testing.T) {
			app := newWebApp(t)
			p := newPair(t, setup{app: app.addr})
			l := newLoad(t, p.local, version == "h2c")
			for range 5 {
				resp, err := l.client.Get("http://" + p.local + "/hang")
				if err != nil {
					t.Fatal(err)
				}
				<-app.seen
				left := time.Now()
				resp.Body.Close()
				select {
				case at := <-app.left:
					took := at.Sub(left)
					t.Logf("the app saw it after %v", took)
					if took > 2*time.Second { // 200 ms on a machine with nothing else to do
						t.Errorf("the app saw it after %v, want 200ms", took)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("the app has not seen it after ten seconds")
				}
			}
		})
	}
}

func TestSlowReaderSlowsTheWriter(t *testing.T) {
	kinds := map[string]string{
		"HTTP/1.1": "GET /bytes?n=1073741824 HTTP/1.1\r\nHost: app\r\n\r\n",
		"TCP":      "any",
	}
	for name, request := range kinds {
		t.Run(name, func(t *testing.T) {
			var sent countingWriter
			app := rawApp(t, func(c *net.TCPConn) {
				_, _ = io.ReadAtLeast(c, make([]byte, 4096), 1)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
				_, _ = io.Copy(io.MultiWriter(c, &sent), content(1<<30))
			})
			s := setup{app: app}
			if name == "TCP" {
				s.protocol, s.listen = "tcp", "tcp"
			}
			p := newPair(t, s)
			memory := p.watchMemory()
			const readers = 20
			for range readers {
				c := dialRaw(t, p.local)
				_ = c.SetReadBuffer(64 << 10)
				_, _ = io.WriteString(c, request)
			}
			last := int64(-1)
			eventually(t, 20*time.Second, "the app's writes to stand still", func() bool {
				time.Sleep(500 * time.Millisecond)
				now := sent.n.Load()
				defer func() { last = now }()
				return now > 0 && now == last
			})
			t.Logf("%d readers that do not read: the app got rid of %d KiB each", readers, sent.n.Load()/readers>>10)
			// Sockets' buffers are several MiB on both sides; windows are 1 MiB.
			if got := sent.n.Load() / readers; got > 24<<20 {
				t.Errorf("the app could send %d MiB to a client that does not read, want at most 24", got>>20)
			}
			memory.end(t, 96<<20)
		})
	}
}

func TestAppThatClosesIdleConnections(t *testing.T) {
	if *direct {
		return
	}
	// The app keeps an unused connection for 100 ms, far less than B would.
	app := rawApp(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := readMessage(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	p := newPair(t, setup{app: app, protocol: "http", listen: "http"})
	c := dialRaw(t, p.local)
	r := bufio.NewReader(c)
	for i := range 40 {
		// Well after the close, a POST must find a new connection; near it, a GET may be repeated.
		request, pause := "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhi", 150*time.Millisecond
		if i%2 == 1 {
			request, pause = "GET / HTTP/1.1\r\nHost: app\r\n\r\n", 100*time.Millisecond
		}
		time.Sleep(pause)
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		if m, err := readMessage(r); err != nil || m.status() != 200 {
			t.Fatalf("answer %d to %.4q after %v = %+v, %v, want 200", i, request, pause, m, err)
		}
	}
}

func TestAppThatClosesSilentConnectionsStillSpeaksHTTP(t *testing.T) {
	if *direct {
		return
	}
	app := rawApp(t, func(c *net.TCPConn) {
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		m, err := readMessage(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nCaller: %s\r\nContent-Length: 0\r\n\r\n", m.field("X-Pillion-Identity"))
	})
	p := newPair(t, setup{app: app})
	silent := dialRaw(t, p.local)
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("a silent connection that the app closes = %v, want its end", err)
	}
	m := exchangeRaw(t, p.local, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
	if got := m.field("Caller"); m.status() != 200 || got != "spiffe://e2e.test/web" {
		t.Errorf("afterwards = %q, Caller %q, want 200 and an Exchange, in which the app is told the caller", m.start, got)
	}
}

func TestSlowAppSlowsTheUpload(t *testing.T) {
	for _, name := range []string{"HTTP/1.1", "h2c", "TCP"} {
		if *direct && name == "h2c" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			defer close(over)
			app := rawApp(t, func(c *net.TCPConn) {
				_, _ = io.ReadFull(c, make([]byte, 10))
				<-over // and reads no more
			})
			s := setup{app: app}
			if name == "TCP" {
				s.protocol, s.listen = "tcp", "tcp"
			}
			p := newPair(t, s)
			memory := p.watchMemory()
			var sent countingWriter
			const clients = 10
			l := newLoad(t, p.local, name == "h2c")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for range clients {
				if name == "TCP" {
					c := dialRaw(t, p.local)
					go func() { _, _ = io.Copy(io.MultiWriter(c, &sent), content(1<<30)) }()
					continue
				}
				req, err := http.NewRequestWithContext(ctx, "POST", l.base+"/", io.TeeReader(content(1<<30), &sent))
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					if resp, err := l.client.Do(req); err == nil {
						resp.Body.Close()
					}
				}()
			}
			last := int64(-1)
			eventually(t, 20*time.Second, "the clients' writes to stand still", func() bool {
				time.Sleep(500 * time.Millisecond)
				now := sent.n.Load()
				defer func() { last = now }()
				return now > 0 && now == last
			})
			t.Logf("%d clients of an app that does not read: each got rid of %d KiB", clients, sent.n.Load()/clients>>10)
			if got := sent.n.Load() / clients; got > 24<<20 {
				t.Errorf("a client could send %d MiB to an app that does not read, want at most 24", got>>20)
			}
			memory.end(t, 96<<20)
		})
	}
}
