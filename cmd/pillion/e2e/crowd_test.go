//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// countingWriter counts what is written to it.
type countingWriter struct{ n atomic.Int64 }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return len(p), nil
}

func TestTenThousandIdleConnections(t *testing.T) {
	if *direct {
		return
	}
	const conns = 10_000
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	p.warm(t)
	before := p.baseline()
	var open [conns]net.Conn
	var dialing sync.WaitGroup
	const dialers = 20
	var failed atomic.Int64
	for d := range dialers {
		dialing.Go(func() {
			for i := d; i < conns; i += dialers {
				c, err := net.Dial("tcp", p.local)
				if err != nil {
					failed.Add(1)
					t.Log(err)
					return
				}
				open[i] = c
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				if err := ask(c); err != nil {
					failed.Add(1)
					t.Log(err)
					return
				}
			}
		})
	}
	dialing.Wait()
	if failed.Load() > 0 {
		t.Fatalf("%d of %d dialers failed", failed.Load(), dialers)
	}
	for i, s := range p.both() {
		now := s.holding()
		t.Logf("%s with %d idle connections: %v, %d bytes more for each", s.name, conns, now, (now.rss-before.held[i].rss)/conns)
	}
	now := p.a.holding()
	if each := (now.rss - before.held[0].rss) / conns; each > 8<<10 && !*raceBuilt {
		t.Errorf("A holds %d bytes per idle connection, want at most 8 KiB", each)
	}
	if now.tasks > before.held[0].tasks+8 || now.buffers > before.held[0].buffers+8 {
		t.Errorf("A holds %v for %d idle connections, want neither task nor buffer for any", now, conns)
	}
	// Every one of them still works.
	for i := 0; i < conns; i += 97 {
		if err := ask(open[i]); err != nil {
			t.Fatalf("connection %d after being idle: %v", i, err)
		}
	}
	for _, c := range open {
		_ = c.Close()
	}
	before.restored(t)
}

// ask makes one small exchange on a connection.
func ask(c net.Conn) error {
	if _, err := io.WriteString(c, "GET /id?id=idle HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
		return err
	}
	_, err := readMessage(bufio.NewReaderSize(c, 512))
	return err
}

func TestTenThousandStreamsOpenedAndClosed(t *testing.T) {
	if *direct {
		return
	}
	const streams = 10_000
	app := rawApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := newPair(t, setup{app: app, port: 7000, protocol: "tcp", listen: "tcp"})
	first := dialRaw(t, p.local)
	echo(t, first, "first")
	before := p.baseline()
	var opening sync.WaitGroup
	for range 50 {
		opening.Go(func() {
			for range streams / 50 {
				c, err := net.Dial("tcp", p.local)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				_, _ = io.WriteString(c, "ping")
				if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
					t.Errorf("echo: %v", err)
				}
				_ = c.Close()
			}
		})
	}
	opening.Wait()
	echo(t, first, "last")
	before.restored(t)
	if n := p.link.dials(); n > 8 {
		t.Errorf("%d links for %d streams, want a few: streams are multiplexed", n, streams)
	}
}

// echo sends text and wants it back.
func echo(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("echo of %q = %q, %v", text, got, err)
	}
}

func TestThousandParallelExchanges(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "h2c"} {
		if *direct && version == "h2c" {
			return
		}
		t.Run(version, func(t *testing.T) {
			app := newWebApp(t)
			p := newPair(t, setup{app: app.addr})
			p.warm(t)
			before := p.baseline()
			l := newLoad(t, p.local, version == "h2c")
			l.query = "&wait=300ms"
			for range 5 {
				l.burst(1000)
			}
			answered, failed := settle(t, app, l.all(), 30*time.Second)
			if answered != 5000 || failed != 0 {
				t.Errorf("%d answered and %d failed, want 5000 and 0", answered, failed)
			}
			l.client.CloseIdleConnections()
			before.restored(t)
			if !*direct {
				t.Logf("%d links", p.link.dials())
			}
		})
	}
}

func TestOutOfDescriptorsIsSurvived(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	ca := p.ca
	s := &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: t.TempDir() + "/few.yaml"}
	local := freeAddr(t)
	s.write(t, fmt.Sprintf("service: few\nservices:\n  app: {endpoints: %q, listen: %q}\n", p.b.peer, local), ca.issue(leaf{name: "few"}))
	s.process = start(t, "sidecar few", "sh", "-c", "ulimit -n 120; exec "+workshop.pillion()+" run -c "+s.config)
	t.Cleanup(s.sane)
	s.ready()
	few := &pair{t: t, ca: ca, a: s, b: p.b, local: local}
	few.warm(t)
	before := few.baseline()
	var crowd []net.Conn
	for range 500 {
		c, err := net.Dial("tcp", local)
		if err != nil {
			break // the backlog is full
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		crowd = append(crowd, c)
	}
	used := s.cpu()
	time.Sleep(time.Second)
	if used = s.cpu() - used; used > 500*time.Millisecond {
		t.Errorf("without free descriptors it used %v of processor time in a second, want rest", used)
	}
	for _, c := range crowd {
		_ = c.Close()
	}
	recovers(t, few, 15*time.Second)
	before.restored(t)
}
