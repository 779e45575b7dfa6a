package udp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// far is a stack whose every Flow echoes, and the Flows that it has opened. Guarded by the shard's lock.
type far struct {
	s      task.Shard
	refuse error
	hold   *task.Gate // if not nil, opening waits here
	flows  []*echo
}

func (f *far) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if f.hold != nil {
		w := &woken{f.hold, nil}
		if _, err := req.Cancel.Watch(w); err != nil {
			return err
		}
		f.hold.Wait(0)
		req.Cancel.Unwatch(w)
		if err := req.Cancel.Err(); err != nil {
			return err
		}
	}
	f.s.Lock()
	defer f.s.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	e := &echo{s: f.s, client: req.Client.String()}
	f.s.Gate(&e.gate)
	f.flows = append(f.flows, e)
	resp.Status, resp.Flow = 101, e
	return nil
}

type woken struct {
	gate *task.Gate
	err  error
}

func (w *woken) Canceled(err error) { w.gate.Wake() }

// echo is a Flow that gives back what it is sent, with its client before it.
type echo struct {
	s      task.Shard
	client string
	gate   task.Gate

	// Guarded by the shard's lock.
	queue  []string
	raw    []string // to be given as they are
	ended  error
	closed bool
}

func (e *echo) Send(p []byte) error {
	e.s.Lock()
	defer e.s.Unlock()
	if e.ended != nil {
		return e.ended
	}
	e.queue = append(e.queue, string(p))
	e.gate.Wake()
	return nil
}

func (e *echo) Receive(p []byte) (int, error) {
	for {
		e.s.Lock()
		if len(e.queue) > 0 {
			n := copy(p, e.client+" "+e.queue[0])
			e.queue = e.queue[1:]
			e.s.Unlock()
			return n, nil
		}
		if len(e.raw) > 0 {
			n := copy(p, e.raw[0])
			e.raw = e.raw[1:]
			e.s.Unlock()
			return n, nil
		}
		err := e.ended
		e.s.Unlock()
		if err != nil {
			return 0, err
		}
		e.gate.Wait(0)
	}
}

func (e *echo) Close() error { e.end(task.ErrClosed, true); return nil }

func (e *echo) end(err error, closed bool) {
	e.s.Lock()
	if e.ended == nil {
		e.ended = err
	}
	e.closed = e.closed || closed
	e.s.Unlock()
	e.gate.Wake()
}

// flow is the i-th that was opened.
func (f *far) flow(i int) *echo {
	f.s.Lock()
	defer f.s.Unlock()
	return f.flows[i]
}

func (e *echo) isClosed() bool {
	e.s.Lock()
	defer e.s.Unlock()
	return e.closed
}

// serve listens on a port of the far side's shard.
func serve(t *testing.T, s task.Shard, f *far, p Port) (*Listener, *proxy.FlowStats) {
	t.Helper()
	nc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Conn, p.Stats, p.Name = nc.(*net.UDPConn), new(proxy.FlowStats), t.Name()
	if p.Service.Name == "" {
		p.Service = proxy.Service{Name: "echo", Port: 7}
	}
	l := Listen(s, Config{Handler: f, Logger: slog.New(slog.DiscardHandler)}, p)
	t.Cleanup(l.Close)
	return l, p.Stats
}

func client(t *testing.T, l *Listener) *proxytest.Peer {
	t.Helper()
	c, err := net.Dial("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return proxytest.NewPeer(t, c)
}

// expect reads one datagram, which must be the client's own.
func expect(t *testing.T, c *proxytest.Peer, want string) {
	t.Helper()
	b := make([]byte, 1000)
	n, err := c.Read(b)
	if want = c.LocalAddr().String() + " " + want; err != nil || string(b[:n]) != want {
		t.Fatalf("got %q, %v; want %q", b[:n], err, want)
	}
}

func quiet(t *testing.T, l *Listener) {
	t.Helper()
	l.Close()
	proxytest.Eventually(t, "every flow has ended", func() bool { return l.Active() == 0 })
}

func TestAnswersGoToTheirOwnClient(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0]}
		l, stats := serve(t, f.s, f, Port{})
		a, b := client(t, l), client(t, l)
		for i := range 5 {
			a.Send(fmt.Sprint("a", i))
			b.Send(fmt.Sprint("b", i))
			expect(t, a, fmt.Sprint("a", i))
			expect(t, b, fmt.Sprint("b", i))
		}
		if c := stats.Counts(); c.Open != 2 || c.Opened != 2 || c.Requests != 10 || c.Answers != 10 || c.Dropped != nil {
			t.Errorf("counted %+v", c)
		}
		quiet(t, l)
		proxytest.Call(t, f.s, func() {
			if !f.flow(0).isClosed() || !f.flow(1).isClosed() {
				t.Error("a flow was not closed")
			}
		})
	})
}

// What comes while a Flow is being opened waits for it, up to a bound, and arrives in order.
func TestDatagramsWaitForTheirFlow(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0], hold: new(task.Gate)}
		f.s.Gate(f.hold)
		l, stats := serve(t, f.s, f, Port{})
		c := client(t, l)
		for i := range maxWaiting + 10 {
			c.Send(fmt.Sprint(i))
		}
		proxytest.Eventually(t, "all are there", func() bool { return stats.Counts().Requests == maxWaiting+10 })
		proxytest.Call(t, f.s, f.hold.Wake)
		for i := range maxWaiting {
			expect(t, c, fmt.Sprint(i))
		}
		if c := stats.Counts(); c.Dropped["unopened"] != 10 || c.Opened != 1 {
			t.Errorf("counted %+v; want one flow, and 10 that there was no room for", c)
		}
		quiet(t, l)
	})
}

// Close does not wait for a Flow that is being opened.
func TestCloseCancelsWhatIsBeingOpened(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0], hold: new(task.Gate)}
		f.s.Gate(f.hold)
		l, stats := serve(t, f.s, f, Port{})
		client(t, l).Send("x")
		proxytest.Eventually(t, "it is being opened", func() bool { return stats.Counts().Open == 1 })
		quiet(t, l)
		if n := stats.Counts().Dropped["unopened"]; n != 1 {
			t.Errorf("%d lost, want 1", n)
		}
	})
}

// A table that is full makes room by ending the Flow that has been idle for longest.
func TestFullTable(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0]}
		l, stats := serve(t, f.s, f, Port{MaxFlows: 3})
		var all []*proxytest.Peer
		for i := range 3 {
			all = append(all, client(t, l))
			all[i].Send("1")
			expect(t, all[i], "1")
		}
		all[0].Send("2") // now the second is the oldest
		expect(t, all[0], "2")
		another := client(t, l)
		another.Send("3")
		expect(t, another, "3")
		proxytest.Eventually(t, "the oldest has ended", func() bool { c := stats.Counts(); return c.Open == 3 && c.Evicted == 1 })
		proxytest.Call(t, f.s, func() {
			for i, want := range []bool{false, true, false, false} {
				if got := f.flow(i).isClosed(); got != want {
					t.Errorf("flow %d closed: %v, want %v", i, got, want)
				}
			}
		})
		all[1].Send("4") // and may come back
		expect(t, all[1], "4")
		quiet(t, l)
	})
}

func TestIdleFlowsEnd(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0]}
		l, stats := serve(t, f.s, f, Port{Idle: time.Hour})
		proxytest.Call(t, f.s, func() {
			l.s.Lock()
			l.tick = time.Millisecond
			l.s.Unlock()
		})
		for range 10 {
			c := client(t, l)
			c.Send("x")
			expect(t, c, "x")
		}
		proxytest.Call(t, f.s, func() { // only now: on a busy machine an answer may take longer
			l.s.Lock()
			defer l.s.Unlock()
			l.table.live.idle, l.table.done.idle = 20*time.Millisecond, 20*time.Millisecond
		})
		proxytest.Eventually(t, "they have ended", func() bool { return l.Active() == 0 })
		proxytest.Call(t, f.s, func() {
			l.s.Lock()
			defer l.s.Unlock()
			if len(l.table.flows) != 0 || l.timer != nil || l.table.live.head != nil || l.table.done.head != nil || l.queued != 0 {
				t.Errorf("something is left: %+v", l.table)
			}
		})
		if c := stats.Counts(); c.Open != 0 || c.Opened != 10 || c.Evicted != 0 {
			t.Errorf("counted %+v", c)
		}
	})
}

// A Flow that the other side has ended, or broken, is followed by another, and loses nothing but what was on its way.
func TestFlowThatEndsIsReplaced(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0]}
		l, stats := serve(t, f.s, f, Port{})
		c := client(t, l)
		for i, err := range []error{io.EOF, errors.New("broken")} {
			c.Send("x")
			expect(t, c, "x")
			proxytest.Call(t, f.s, func() { f.flow(i).end(err, false) })
		}
		c.Send("y")
		expect(t, c, "y")
		if n := stats.Counts().Opened; n != 3 {
			t.Errorf("%d flows, want 3", n)
		}
		quiet(t, l)
	})
}

func TestRefusedFlows(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0], refuse: errors.New("no")}
		l, stats := serve(t, f.s, f, Port{})
		c := client(t, l)
		c.Send("x")
		proxytest.Eventually(t, "it is counted", func() bool { return stats.Counts().Dropped["unopened"] == 1 && l.Active() == 0 })
		proxytest.Call(t, f.s, func() {
			f.s.Lock()
			f.refuse = nil
			f.s.Unlock()
		})
		c.Send("y")
		expect(t, c, "y")
		quiet(t, l)
	})
}

// message is a DNS header, with a question.
func message(flags byte, questions, answers byte) []byte {
	return append([]byte{1, 2, flags, 0, 0, questions, 0, answers, 0, 0, 0, 0}, "question"...)
}

func TestTalk(t *testing.T) {
	query, response := message(1, 1, 0), message(0x81, 1, 2)
	for _, c := range []struct {
		name string
		run  func(t *talk)
		want bool
	}{
		{"nothing", func(*talk) {}, false},
		{"a question", func(t *talk) { t.request(query) }, false},
		{"a question and its answer", func(t *talk) { t.request(query); t.answer(response) }, true},
		{"two questions and an answer", func(t *talk) { t.request(query); t.request(query); t.answer(response) }, false},
		{"two and two", func(t *talk) { t.request(query); t.request(query); t.answer(response); t.answer(response) }, true},
		{"something else", func(t *talk) { t.request([]byte("hello, world!")); t.answer([]byte("hello")) }, false},
		{"an answer that is none", func(t *talk) { t.request(query); t.answer(query) }, false},
		{"something else later", func(t *talk) { t.request(query); t.answer(response); t.request([]byte{0}); t.answer(response) }, false},
		{"a short one", func(t *talk) { t.request(query[:12]); t.answer(response) }, false},
	} {
		var k talk
		c.run(&k)
		if k.done() != c.want {
			t.Errorf("%s: done %v, want %v", c.name, k.done(), c.want)
		}
	}
}

// FuzzTalk: nothing that a client or an app sends is out of bounds.
func FuzzTalk(f *testing.F) {
	f.Fuzz(func(t *testing.T, ask, answer []byte) {
		var k talk
		k.request(ask)
		k.answer(answer)
		if k.done() && (len(ask) <= dnsHeader || len(answer) < dnsHeader) {
			t.Errorf("%q and %q are no DNS", ask, answer)
		}
	})
}

func TestRefusalIsInTheWordsOfWhoRefused(t *testing.T) {
	resp := &proxy.Response{Status: 403, Fields: proxy.Fields{{Name: "Pillion-Error", Value: "denied"}}}
	if got := refusal(resp).Error(); !strings.Contains(got, "403 denied") {
		t.Errorf("got %q", got)
	}
}
