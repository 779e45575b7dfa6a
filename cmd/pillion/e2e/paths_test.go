//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// bed is two sidecars in namespaces of their own: A calls, B has a web app and an echo.
type pathBed struct {
	*network
	t *testing.T

	mu   sync.Mutex
	seen map[string]int // how often each path came to the app
}

func newPathBed(t *testing.T, transport string) *pathBed {
	t.Helper()
	if *direct {
		t.Fatal("there is no path without sidecars")
	}
	b := &pathBed{network: newNetwork(t), t: t, seen: make(map[string]int)}
	web, echo := b.listen(b.b, "127.0.0.1:8080"), b.listen(b.b, "127.0.0.1:7")
	srv := &http.Server{Handler: b}
	go func() { _ = srv.Serve(web) }()
	t.Cleanup(func() { srv.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	ca := newAuthority(t)
	b.sidecar(b.b, "B", "service: app\napp: [8080, {port: 7, protocol: tcp}]\noutbound: {listen: none}\ndrain: 1s\n", ca.issue(leaf{name: "app"}))
	b.sidecar(b.a, "A", fmt.Sprintf("service: web\npeer: {listen: none, transport: %s}\ndrain: 1s\nservices:\n  app: {endpoints: %s, listen: 127.0.0.1:8081}\n  echo: {endpoints: %s, identity: app, listen: 127.0.0.1:7, port: 7, protocol: tcp}\n",
		transport, addrB, addrB), ca.issue(leaf{name: "web"}))
	return b
}

// ServeHTTP is the web app: it counts, and answers with what it got.
func (b *pathBed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.seen[r.URL.Path]++
	b.mu.Unlock()
	if wait, err := time.ParseDuration(r.FormValue("wait")); err == nil {
		time.Sleep(wait)
	}
	_ = http.NewResponseController(w).EnableFullDuplex()
	_, _ = io.Copy(w, r.Body)
}

// once fails the test if the app got a request twice.
func (b *pathBed) once() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for path, n := range b.seen {
		if n > 1 {
			b.t.Errorf("the app got %s %d times", path, n)
		}
	}
}

// call posts n bytes and checks the echo.
func (b *pathBed) call(c *http.Client, path string, n int64) error {
	resp, err := c.Post("http://127.0.0.1:8081"+path, "application/octet-stream", content(n))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return checkContent(resp.Body, n)
}

func (b *pathBed) status() (st admin.Status) {
	b.t.Helper()
	resp, err := b.client(b.a, 10*time.Second).Get("http://127.0.0.1:15000/status")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		b.t.Fatal(err)
	}
	return st
}

// over is the transports of A's links, and what is known of the ways to B, as "quic; tcp fails, quic works".
func (b *pathBed) over() string {
	st := b.status()
	var links, ways []string
	for _, l := range st.Links {
		if !l.Draining && !l.Suspect {
			links = append(links, l.Transport)
		}
	}
	for _, p := range st.Paths {
		for _, w := range p.Ways {
			ways = append(ways, w.Transport+" "+w.State)
		}
	}
	return strings.Join(links, " ") + "; " + strings.Join(ways, ", ")
}

// load sends requests until its result is called, which fails the test if one came twice, or if more were lost than those under way.
func (b *pathBed) load(c *http.Client) (finish func()) {
	const clients = 8
	var running sync.WaitGroup
	var mu sync.Mutex
	ok, failed := 0, 0
	stop := make(chan struct{})
	for i := range clients {
		running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				err := b.call(c, fmt.Sprintf("/load/%d/%d?wait=20ms", i, n), 2000)
				mu.Lock()
				if err == nil {
					ok++
				} else {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	return func() {
		b.t.Helper()
		eventually(b.t, 30*time.Second, "many requests to be answered", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return ok >= 20
		})
		close(stop)
		running.Wait()
		b.t.Logf("%d requests answered, %d lost with the path that broke", ok, failed)
		if ok < 20 || failed > clients {
			b.t.Errorf("%d answered, %d failed; want many, and at most those that were under way", ok, failed)
		}
		b.once()
	}
}

// TestPathUDPBlocked: QUIC is used while TCP is blocked; when UDP is blocked instead, requests soon go over TCP, and none goes twice.
func TestPathUDPBlocked(t *testing.T) {
	b := newPathBed(t, "auto")
	c := b.client(b.a, 30*time.Second)
	b.forward("-I", "-p", "tcp", "-j", "DROP")
	if err := b.call(c, "/first", 100_000); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "QUIC to be used, and TCP known to fail", func() bool { return b.over() == "quic; tcp fails, quic works" })
	finish := b.load(c)
	time.Sleep(500 * time.Millisecond)
	b.forward("-I", "-p", "udp", "-j", "DROP")
	b.forward("-D", "-p", "tcp", "-j", "DROP")
	eventually(t, 30*time.Second, "TCP to be used, and QUIC known to fail", func() bool {
		s := b.over()
		return strings.HasPrefix(s, "tcp") && strings.HasSuffix(s, "quic fails")
	})
	if err := b.call(b.client(b.a, 10*time.Second), "/after", 100_000); err != nil {
		t.Errorf("after the change: %v", err)
	}
	finish()
}

// TestPathTCPBlocked: TCP is used; when its packets vanish requests go over QUIC long before the link is dead, and back once TCP works again.
func TestPathTCPBlocked(t *testing.T) {
	b := newPathBed(t, "auto")
	c := b.client(b.a, 60*time.Second)
	if err := b.call(c, "/first", 100_000); err != nil {
		t.Fatal(err)
	}
	if s := b.over(); !strings.HasPrefix(s, "tcp;") {
		t.Fatalf("before: %s; want TCP", s)
	}
	finish := b.load(c)
	time.Sleep(500 * time.Millisecond)
	b.forward("-I", "-p", "tcp", "-j", "DROP")
	start := time.Now()
	// Those that are under way wait until the link is dead. A newcomer is lost with it, too, until the link is doubted.
	n := 0
	eventually(t, 18*time.Second, "a new request to be answered", func() bool {
		n++
		return b.call(b.client(b.a, 2500*time.Millisecond), fmt.Sprint("/new/", n), 100_000) == nil
	})
	t.Logf("the first answer over QUIC came after %v; %s", time.Since(start), b.over())
	eventually(t, 20*time.Second, "TCP to be known to fail", func() bool { return strings.HasSuffix(b.over(), "; tcp fails, quic works") })
	finish()
	b.forward("-D", "-p", "tcp", "-j", "DROP")
	eventually(t, 40*time.Second, "TCP to be used again", func() bool {
		if err := b.call(c, fmt.Sprint("/again/", time.Now().UnixNano()), 1000); err != nil {
			t.Errorf("on the way back: %v", err)
		}
		return b.over() == "tcp; tcp works, quic works"
	})
	b.once()
}

// TestPathMTU: a path that silently loses packets of more than 1280 bytes carries bulk both ways.
func TestPathMTU(t *testing.T) {
	for _, transport := range []string{"quic", "auto"} {
		t.Run(transport, func(t *testing.T) {
			b := newPathBed(t, transport)
			b.forward("-I", "-m", "length", "--length", "1281:65535", "-j", "DROP")
			c := b.client(b.a, 60*time.Second)
			for i := range 3 {
				if err := b.call(c, fmt.Sprint("/", i), 1<<20); err != nil {
					t.Error(err)
				}
			}
			b.once()
		})
	}
}

// TestPathLoss: 5 % of all packets are lost, each way.
func TestPathLoss(t *testing.T) {
	b := newPathBed(t, "quic")
	b.forward("-I", "-m", "statistic", "--mode", "random", "--probability", "0.05", "-j", "DROP")
	c := b.client(b.a, 60*time.Second)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 25 {
				if err := b.call(c, fmt.Sprintf("/%d/%d", i, n), int64(n)*1000); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		if err := b.call(c, "/bulk", 8<<20); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
	b.once()
	if st := b.status(); len(st.Links) == 0 || st.Links[0].Lost == 0 {
		t.Errorf("links %+v; want one that counts lost packets", st.Links)
	}
}

// TestPathAddressChange: A gets another address in the middle of a stream, which goes on.
func TestPathAddressChange(t *testing.T) {
	b := newPathBed(t, "quic")
	conn, err := b.dial(b.a, "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo := func(conn net.Conn, text string) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
			t.Fatalf("got %q, %v; want %q", got, err, text)
		}
	}
	echo(conn, "from the first address")
	b.in(b.a, "ip", "addr", "add", "10.91.1.3/24", "dev", "eth0")
	b.in(b.a, "ip", "addr", "del", addrA+"/24", "dev", "eth0")
	b.in(b.a, "ip", "addr", "replace", "10.91.1.3/24", "dev", "eth0")
	b.in(b.a, "ip", "route", "replace", "default", "via", "10.91.1.1")
	echo(conn, strings.Repeat("from the second address ", 1000))
	if st := b.status(); len(st.Links) != 1 {
		t.Errorf("links %+v; want the one that there was", st.Links)
	}
}

// TestQUICPeerKilledUnderLoad: the machine of a peer that was killed says so, and clients hear of it soon.
func TestQUICPeerKilledUnderLoad(t *testing.T) {
	underLoadOver(t, "quic", failFast, true, func(p *pair) {
		b := p.b
		b.kill()
		time.Sleep(500 * time.Millisecond)
		b.restart()
	})
}

func TestQUICPeerStoppedForAMomentUnderLoad(t *testing.T) {
	underLoadOver(t, "quic", failFast, false, func(p *pair) {
		p.b.signal(syscall.SIGSTOP)
		time.Sleep(time.Second)
		p.b.signal(syscall.SIGCONT)
	})
}
