package http3

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// queue is a Flow that returns what it is sent, and counts.
type queue struct {
	stats  *proxy.FlowStats
	c      chan []byte
	closed chan struct{}
}

func newQueue() *queue {
	return &queue{stats: new(proxy.FlowStats), c: make(chan []byte, 1000), closed: make(chan struct{})}
}

func (q *queue) FlowStats() *proxy.FlowStats { return q.stats }

func (q *queue) Receive(p []byte) (int, error) {
	select {
	case b := <-q.c:
		return copy(p, b), nil
	case <-q.closed:
		return 0, io.EOF
	}
}

func (q *queue) Send(p []byte) error {
	q.c <- slices.Clone(p)
	return nil
}

func (q *queue) Close() error {
	select {
	case <-q.closed:
	default:
		close(q.closed)
	}
	return nil
}

// flows passes datagrams both ways until both have ended.
func flows(s task.Shard, a, b proxy.Flow) {
	pass := func(to, from proxy.Flow) {
		p := make([]byte, proxy.MaxDatagram)
		for {
			n, err := from.Receive(p)
			if err != nil {
				to.Close()
				return
			}
			if to.Send(p[:n]) != nil {
				from.Close()
			}
		}
	}
	done := make(chan struct{})
	s.Go(func() { defer close(done); pass(a, b) })
	pass(b, a)
	<-done
}

// flowLink is a link with a Flow through it to app.
func flowLink(t *testing.T, s task.Shard, app *queue, change func(server, client *quic.Config)) (*link, *proxy.Response) {
	t.Helper()
	server := Config{Flows: flows, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
		resp.Status, resp.Flow = 101, app
		return nil
	})}
	l := &link{t: t, s: s, ended: make(chan error, 2)}
	qs, qc := server.QUIC(), Config{}.QUIC()
	change(qs, qc)
	l.net = newNetwork(t, qs)
	a, b := l.net.connect(qc)
	l.server, l.client = NewServer(s, a, server), NewClient(s, b, Config{FlowStats: new(proxy.FlowStats)})
	s.Go(func() { l.ended <- l.server.Serve() })
	s.Go(func() { l.ended <- l.client.Serve() })
	req := upgrade(proxy.ConnectUDP)
	req.Path = "/.well-known/masque/udp/orders/53/"
	resp := l.do(req)
	if resp.Flow == nil || resp.Stream != nil || resp.Status != 101 {
		t.Fatalf("no Flow: %+v", resp)
	}
	return l, resp
}

// exchangeDatagram sends p until it comes back: datagrams may be lost, and then what was sent before comes back twice.
func exchangeDatagram(t *testing.T, s task.Shard, f proxy.Flow, p []byte) {
	if err := f.Send(p); err != nil {
		t.Error(err)
	}
	again := time.AfterFunc(3*time.Second, func() { f.Send(p) })
	defer again.Stop()
	got := make([]byte, proxy.MaxDatagram)
	for {
		n, err := f.Receive(got)
		if bytes.Equal(got[:n], p) && err == nil {
			return
		}
		if err != nil || n > len(p) {
			t.Errorf("got %d bytes, %v, want %d", n, err, len(p))
			return
		}
	}
}

func TestFlow(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(server, client *quic.Config)
	}{
		{"datagrams", func(_, _ *quic.Config) {}},
		{"the client has none", func(_, client *quic.Config) { client.EnableDatagrams = false }},
		{"the server has none", func(server, _ *quic.Config) { server.EnableDatagrams = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			goroutines(t, func(t *testing.T, s task.Shard) {
				app := newQueue()
				l, resp := flowLink(t, s, app, c.change)
				defer l.close()
				done := proxytest.Go(s, func() {
					for _, size := range []int{0, 1, 100, 1100, 1200, 1500, 20000, proxy.MaxDatagram} {
						exchangeDatagram(t, s, resp.Flow, bytes.Repeat([]byte{byte(size)}, size))
					}
				})
				proxytest.Wait(t, done)
				if err := resp.Flow.Send(make([]byte, proxy.MaxDatagram+1)); err != proxy.ErrDatagramTooLong {
					t.Errorf("too long: got %v", err)
				}
				resp.Flow.Close()
				resp.Flow.Close()
				if err := resp.Flow.Send(nil); err == nil {
					t.Error("sent after Close")
				}
				if _, err := resp.Flow.Receive(make([]byte, 10)); err != task.ErrClosed {
					t.Errorf("after Close: %v", err)
				}
				resp.Close()
				l.quiet()
				if d := app.stats.Counts().Dropped; len(d) > 0 {
					t.Errorf("dropped %v", d)
				}
			})
		})
	}
}

// The app's end of a Flow is the client's, in order; and the client's breaking is the app's.
func TestFlowEnds(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		app := newQueue()
		l, resp := flowLink(t, s, app, func(_, _ *quic.Config) {})
		defer l.close()
		app.Close()
		if err := resp.Flow.(proxy.Waiter).WaitReadable(); err != nil {
			t.Error(err)
		}
		if _, err := resp.Flow.Receive(nil); err != io.EOF {
			t.Errorf("got %v, want io.EOF", err)
		}
		resp.Flow.Close()
		resp.Close()
		l.quiet()
	})
	goroutines(t, func(t *testing.T, s task.Shard) {
		app := newQueue()
		l, resp := flowLink(t, s, app, func(_, _ *quic.Config) {})
		defer l.close()
		f := resp.Flow
		resp.Close()
		if _, err := f.Receive(nil); err == nil || err == io.EOF {
			t.Errorf("got %v, want that it broke", err)
		}
		<-app.closed
		l.quiet()
	})
}

// What does not fit the queues is dropped and counted, and waits for nobody.
func TestFlowDrops(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l, resp := flowLink(t, s, newQueue(), func(_, _ *quic.Config) {})
		defer l.close()
		for range 100 * maxOutbox { // nobody receives what comes back
			if err := resp.Flow.Send(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		proxytest.Eventually(t, "drops are counted", func() bool { return l.client.cfg.FlowStats.Counts().Dropped["no_room"] > 0 })
		f := resp.Flow.(*flow)
		f.mu.Lock()
		if len(f.received) > maxReceived || f.size > maxReceivedBytes {
			t.Errorf("%d datagrams of %d bytes are kept", len(f.received), f.size)
		}
		f.mu.Unlock()
		resp.Close()
		l.quiet()
	})
}

// RFC 9297 section 3.2: capsules of unknown types are passed over, in whatever pieces they come.
func TestCapsules(t *testing.T) {
	var b []byte
	capsule := func(typ uint64, value string) {
		b = append(appendFrameHeader(b, typ, int64(len(value))), value...)
	}
	capsule(0, "\x00one")
	capsule(0x29, "unknown")
	capsule(1<<40, "")
	capsule(0, "\x00")
	capsule(0, "\x04a context of the client")
	capsule(0, "")
	capsule(0, "\x00"+string(make([]byte, proxy.MaxDatagram+8)))
	capsule(0, "\x00two")
	want := []string{"\x00one", "\x00", "\x04a context of the client", "", "\x00two"}
	for _, size := range []int{1, 2, 3, 1000, len(b)} {
		var got []string
		drops := 0
		p := capsuleParser{deliver: func(v []byte) { got = append(got, string(v)) }, drop: func(proxy.Drop) { drops++ }}
		for piece := range slices.Chunk(b, size) {
			p.feed(piece)
		}
		if !slices.Equal(got, want) || drops != 1 || !p.atBoundary() {
			t.Errorf("in pieces of %d: got %q, %d drops", size, got, drops)
		}
		p.feed([]byte{0})
		if p.atBoundary() {
			t.Error("half a capsule is a whole one")
		}
	}
}
