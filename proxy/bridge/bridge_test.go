package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// both runs f with a near shard of each runtime and a far shard on goroutines. Nothing may be left on either.
func both(t *testing.T, f func(t *testing.T, near, far task.Shard)) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		other := task.NewGoroutines(task.Config{Loops: 1, First: 2, Logger: proxytest.Logger(t)})
		stop := proxytest.Start(t, other)
		defer stop()
		f(t, rt.Shards()[0], other.Shards()[0])
		proxytest.Eventually(t, "the far tasks have ended", func() bool { st := other.Stats(); return st.Tasks == 0 && st.Buffers == 0 })
	})
}

// content is a Body of fixed pieces, then a trailer, or an error.
type content struct {
	pieces []string
	err    error // instead of io.EOF
	hold   chan struct{}
	closed atomic.Bool
}

func (c *content) Read(p []byte) (int, error) {
	if len(c.pieces) == 0 {
		if c.hold != nil {
			<-c.hold
		}
		if c.err != nil {
			return 0, c.err
		}
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; c.pieces[0] == "" {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (c *content) Buffered() int {
	switch {
	case len(c.pieces) > 0:
		return len(c.pieces[0])
	case c.err == nil && c.hold == nil:
		return -1
	}
	return 0
}

func (c *content) Trailers() proxy.Fields { return proxy.Fields{{Name: "X-Trailer", Value: "t"}} }
func (c *content) Close() error           { c.closed.Store(true); return nil }

// closer notes Response.Close.
type closer struct {
	n atomic.Int32
	f func()
}

func (c *closer) CloseResponse(*proxy.Response) {
	c.n.Add(1)
	if c.f != nil {
		c.f()
	}
}

func request(s task.Shard) *proxy.Request {
	return &proxy.Request{Method: "POST", Scheme: "http", Authority: "a", Path: "/", Shard: s, Cancel: new(proxy.Cancel),
		Fields: proxy.Fields{{Name: "X-One", Value: "1"}}}
}

// scribbled is a string over memory that the test overwrites.
func scribbled(s string) (string, []byte) {
	b := []byte(s)
	return unsafe.String(&b[0], len(b)), b
}

func TestHeadsAreCopies(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		value, memory := scribbled("/path")
		answer, memory2 := scribbled("answer")
		seen := make(chan string, 2)
		again := make(chan struct{})
		var scribbles atomic.Int32
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			<-again
			if req.Shard != far {
				t.Errorf("the request is on shard %d, want the far one", req.Shard.Index())
			}
			seen <- req.Path + " " + req.Fields.Get("X-Value")
			resp.Status, resp.Reason = 201, answer
			resp.Fields.Add("X-Answer", answer)
			resp.OnClose(&closer{f: func() { copy(memory2, "######"); scribbles.Add(1) }})
			return nil
		}))
		proxytest.Do(t, near, func() {
			req := request(near)
			req.Path = value
			req.Fields.Add("X-Value", value)
			near.Go(func() { // it may be gone as soon as its client is
				req.Cancel.Cancel(errors.New("gone"))
			})
			var resp proxy.Response
			if err := b.RoundTrip(req, &resp); err == nil {
				t.Error("a cancelled request was answered")
			}
			copy(memory, "#####")
		})
		close(again)
		if got := <-seen; got != "/path /path" {
			t.Errorf("the far side saw %q after the near one had ended", got)
		}
		proxytest.Eventually(t, "the far half is over", func() bool { return b.Running() == 0 })
		copy(memory2, "answer")
		proxytest.Do(t, near, func() {
			var resp proxy.Response
			if err := b.RoundTrip(request(near), &resp); err != nil {
				t.Error(err)
				return
			}
			proxytest.Eventually(t, "the far half is over", func() bool { return scribbles.Load() == 2 })
			if resp.Reason == "######" || resp.Status != 201 {
				t.Errorf("got %d %q", resp.Status, resp.Reason)
			}
			resp.Close()
		})
	})
}

func TestBodiesCrossWithTrailers(t *testing.T) {
	for _, size := range []int{1, 1000, 5 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			both(t, func(t *testing.T, near, far task.Shard) {
				sent := strings.Repeat("0123456789abcde", size/15+1)[:size]
				b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
					got, err := io.ReadAll(req.Body)
					if err != nil || string(got) != sent || req.Body.Trailers().Get("x-trailer") != "t" {
						t.Errorf("request: %d bytes, %v, trailers %v; want %d", len(got), err, req.Body.Trailers(), size)
					}
					resp.Status, resp.Length, resp.Body = 200, proxy.Unknown, &content{pieces: []string{string(got)}}
					return nil
				}))
				proxytest.Do(t, near, func() {
					req := request(near)
					req.Length, req.Body = proxy.Unknown, &content{pieces: []string{sent}}
					var resp proxy.Response
					if err := b.RoundTrip(req, &resp); err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					if err != nil || string(got) != sent || resp.Body.Trailers().Get("x-trailer") != "t" || resp.Body.Buffered() != -1 {
						t.Errorf("answer: %d bytes, %v, trailers %v", len(got), err, resp.Body.Trailers())
					}
					resp.Close()
				})
				proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
			})
		})
	}
}

func TestInformsCross(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			req.Inform(103, proxy.Fields{{Name: "Link", Value: "x"}})
			resp.Status = 200
			return nil
		}))
		proxytest.Do(t, near, func() {
			req := request(near)
			informed := ""
			req.Inform = func(status int, f proxy.Fields) { informed = fmt.Sprint(status, f) }
			var resp proxy.Response
			if err := b.RoundTrip(req, &resp); err != nil || informed != "103 [{Link x}]" {
				t.Errorf("got %v, informed %q", err, informed)
			}
			resp.Close()
		})
	})
}

// TestNoStreamLeavesTheBodyWhole: who answers ErrNoStream has read nothing, so that another Link can take the request.
func TestNoStreamLeavesTheBodyWhole(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		b := New(near, far, proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return proxy.ErrNoStream }))
		proxytest.Do(t, near, func() {
			req := request(near)
			req.Body = &content{pieces: []string{"hello ", "world"}}
			for range 3 {
				var resp proxy.Response
				if err := b.RoundTrip(req, &resp); err != proxy.ErrNoStream {
					t.Errorf("got %v", err)
				}
			}
			if got, err := io.ReadAll(req.Body); string(got) != "hello world" || err != nil {
				t.Errorf("the body is %q, %v", got, err)
			}
		})
	})
}

func TestCancelReachesTheFarSide(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		left := errors.New("left")
		entered, told := make(chan struct{}), make(chan error, 1)
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			w := &waiter{}
			far.Gate(&w.gate)
			if _, err := req.Cancel.Watch(w); err != nil {
				t.Error(err)
			}
			close(entered)
			w.gate.Wait(0)
			told <- req.Cancel.Err()
			return req.Cancel.Err()
		}))
		req := request(near)
		done := proxytest.Go(near, func() {
			var resp proxy.Response
			if err := b.RoundTrip(req, &resp); !errors.Is(err, left) {
				t.Errorf("got %v, want %v", err, left)
			}
		})
		<-entered
		proxytest.Do(t, near, func() { req.Cancel.Cancel(left) })
		proxytest.Wait(t, done)
		if err := <-told; !errors.Is(err, left) {
			t.Errorf("the far side was told %v", err)
		}
	})
}

type waiter struct{ gate task.Gate }

func (w *waiter) Canceled(error) { w.gate.Wake() }

// TestCloseEndsTheFarBody: who closes a Response in the middle of its body ends the far half, which is then closed.
func TestCloseEndsTheFarBody(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		closed := &closer{}
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			body := &content{pieces: []string{"some"}, hold: make(chan struct{}), err: task.ErrClosed}
			_, _ = req.Cancel.Watch(canceled(func(error) { close(body.hold) }))
			resp.Status, resp.Length, resp.Body = 200, proxy.Unknown, body
			resp.OnClose(closed)
			return nil
		}))
		proxytest.Do(t, near, func() {
			var resp proxy.Response
			if err := b.RoundTrip(request(near), &resp); err != nil {
				t.Error(err)
				return
			}
			if n, err := resp.Body.Read(make([]byte, 10)); n != 4 || err != nil {
				t.Errorf("got %d, %v", n, err)
			}
			resp.Close()
		})
		proxytest.Eventually(t, "the far half is closed", func() bool { return closed.n.Load() == 1 && b.Running() == 0 })
	})
}

type canceledFunc struct{ f func(error) }

func canceled(f func(error)) *canceledFunc { return &canceledFunc{f} }
func (c *canceledFunc) Canceled(err error) { c.f(err) }
func (c *canceledFunc) String() string     { return "canceled" }

func TestABrokenBodyIsNoEnd(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		broke := errors.New("broke")
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			_, err := io.ReadAll(req.Body)
			if !errors.Is(err, broke) {
				t.Errorf("request: %v, want %v", err, broke)
			}
			resp.Status, resp.Length, resp.Body = 200, proxy.Unknown, &content{pieces: []string{"x"}, err: broke}
			return nil
		}))
		proxytest.Do(t, near, func() {
			req := request(near)
			req.Body = &content{pieces: []string{"y"}, err: broke}
			var resp proxy.Response
			if err := b.RoundTrip(req, &resp); err != nil {
				t.Error(err)
				return
			}
			if _, err := io.ReadAll(resp.Body); !errors.Is(err, broke) {
				t.Errorf("answer: %v, want %v", err, broke)
			}
			resp.Body.Close()
			if err := resp.Body.(proxy.Truncater).Truncated(); !errors.Is(err, broke) {
				t.Errorf("truncated: %v, want %v", err, broke)
			}
			resp.Close()
		})
	})
}

// TestPanicsEndTheExchange: a bug on the far side is an error on the near one.
func TestPanicsEndTheExchange(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		b := New(near, far, proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { panic("a bug, as tested") }))
		proxytest.Do(t, near, func() {
			var resp proxy.Response
			if err := b.RoundTrip(request(near), &resp); err == nil {
				t.Error("no error")
			}
		})
		proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
	})
}

// tunnel makes a Bridge to one end of a TCP connection, and returns the other end.
func tunnel(t *testing.T, near, far task.Shard) (*Bridge, *proxytest.Peer) {
	c, other := proxytest.Pair(t, far)
	b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		resp.Status, resp.Stream = 200, c
		resp.OnClose(&closer{f: func() { c.Reset() }})
		return nil
	}))
	return b, proxytest.NewPeer(t, other)
}

func open(t *testing.T, b *Bridge, near task.Shard) *proxy.Response {
	resp := new(proxy.Response)
	proxytest.Do(t, near, func() {
		req := request(near)
		req.Method = "CONNECT"
		if err := b.RoundTrip(req, resp); err != nil {
			t.Error(err)
		}
	})
	return resp
}

func TestStreamHalfCloses(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		b, peer := tunnel(t, near, far)
		resp := open(t, b, near)
		big := strings.Repeat("0123456789", 300_000)
		done := proxytest.Go(near, func() {
			if n, err := resp.Stream.Write([]byte(big)); n != len(big) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			if err := resp.Stream.CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(resp.Stream)
			if err != nil || string(got) != "bye" {
				t.Errorf("got %q, %v", got, err)
			}
			resp.Stream.Close()
			resp.Close()
		})
		got, err := io.ReadAll(peer)
		if err != nil || string(got) != big {
			t.Errorf("the peer got %d bytes, %v; want %d", len(got), err, len(big))
		}
		peer.Send("bye")
		peer.FinishSending()
		proxytest.Wait(t, done)
		proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
	})
}

func TestStreamResets(t *testing.T) {
	for _, who := range []string{"near resets", "near closes", "near leaves", "far"} {
		t.Run(who, func(t *testing.T) {
			both(t, func(t *testing.T, near, far task.Shard) {
				b, peer := tunnel(t, near, far)
				resp := open(t, b, near)
				begun := make(chan struct{})
				reading := proxytest.Go(near, func() {
					p := make([]byte, 100)
					if n, err := resp.Stream.Read(p); string(p[:n]) != "hello" || err != nil {
						t.Errorf("got %q, %v", p[:n], err)
					}
					s := resp.Stream
					close(begun)
					if n, err := s.Read(p); err == nil || err == io.EOF {
						t.Errorf("got %d, %v; want an error that is no end", n, err)
					}
					if _, err := s.Write(bytes.Repeat(p, 10_000)); err == nil {
						t.Error("wrote to a broken stream")
					}
				})
				peer.Send("hello")
				<-begun
				switch who {
				case "far":
					peer.Abort()
				case "near resets":
					proxytest.Do(t, near, func() { resp.Stream.Reset() })
				case "near closes":
					proxytest.Do(t, near, func() { resp.Stream.Close() })
				case "near leaves":
					proxytest.Do(t, near, func() { resp.Close() })
				}
				if who != "far" {
					if _, err := io.ReadAll(peer); err == nil {
						t.Error("the peer saw an end, want a reset")
					}
				}
				proxytest.Wait(t, reading)
				proxytest.Do(t, near, func() { resp.Close() })
				proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
			})
		})
	}
}

// loopback is a Flow that returns what it is sent.
type loopback struct {
	s    task.Shard
	gate task.Gate
	mu   sync.Mutex
	list []string
	over bool
}

func (l *loopback) Send(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, string(p))
	l.gate.Wake()
	return nil
}

func (l *loopback) Receive(p []byte) (int, error) {
	for {
		l.mu.Lock()
		if len(l.list) > 0 {
			n := copy(p, l.list[0])
			l.list = l.list[1:]
			l.mu.Unlock()
			return n, nil
		}
		over := l.over
		l.mu.Unlock()
		if over {
			return 0, io.EOF
		}
		l.gate.Wait(0)
	}
}

func (l *loopback) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.gate.Wake()
	return nil
}

func TestFlowsCross(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			l := &loopback{s: far}
			far.Gate(&l.gate)
			resp.Status, resp.Flow = 200, l
			return nil
		}))
		proxytest.Do(t, near, func() {
			var resp proxy.Response
			if err := b.RoundTrip(request(near), &resp); err != nil {
				t.Error(err)
				return
			}
			p := make([]byte, 100)
			for i := range 1000 {
				sent := fmt.Sprint("datagram ", i)
				if i == 0 {
					sent = "" // a datagram, too
				}
				if err := resp.Flow.Send([]byte(sent)); err != nil {
					t.Fatal(err)
				}
				if n, err := resp.Flow.Receive(p); string(p[:n]) != sent || err != nil {
					t.Fatalf("got %q, %v; want %q", p[:n], err, sent)
				}
			}
			if err := resp.Flow.Send(make([]byte, proxy.MaxDatagram+1)); err != proxy.ErrDatagramTooLong {
				t.Errorf("too long: %v", err)
			}
			resp.Flow.Close()
			if _, err := resp.Flow.Receive(p); err == nil {
				t.Error("a closed Flow received")
			}
			if err := resp.Flow.Send(p); err == nil {
				t.Error("a closed Flow sent")
			}
			resp.Close()
		})
		proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
	})
}

// TestFullQueueDrops: nothing waits for a reader of datagrams.
func TestFullQueueDrops(t *testing.T) {
	var q queue
	n := 0
	for range maxDatagrams + 10 {
		if ok, err := q.put([]byte("x")); ok && err == nil {
			n++
		}
	}
	if n != maxDatagrams {
		t.Errorf("%d were taken, want %d", n, maxDatagrams)
	}
}

// TestMany crosses in parallel, with clients that leave at every moment.
func TestMany(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			got, err := io.ReadAll(req.Body)
			if err != nil {
				return err
			}
			resp.Status, resp.Length, resp.Body = 200, int64(len(got)), &content{pieces: []string{string(got)}}
			return nil
		}))
		var all []<-chan struct{}
		for i := range 200 {
			all = append(all, proxytest.Go(near, func() {
				req := request(near)
				sent := strings.Repeat("x", i*997+1)
				req.Body = &content{pieces: []string{sent}}
				if i%3 == 0 {
					near.Go(func() { req.Cancel.Cancel(context.Canceled) })
				}
				var resp proxy.Response
				if err := b.RoundTrip(req, &resp); err != nil {
					if i%3 != 0 {
						t.Errorf("%d: %v", i, err)
					}
					return
				}
				if got, err := io.ReadAll(resp.Body); (err != nil || string(got) != sent) && i%3 != 0 {
					t.Errorf("%d: %d bytes, %v", i, len(got), err)
				}
				resp.Close()
			}))
		}
		for _, c := range all {
			proxytest.Wait(t, c)
		}
		proxytest.Eventually(t, "all are over", func() bool { return b.Running() == 0 })
	})
}

// TestStopInTheMiddle: a runtime that stops unwinds the near half, and the far one ends.
func TestStopInTheMiddle(t *testing.T) {
	proxytest.Goroutines(t)
	rt, err := task.New(task.Config{Loops: 1, Logger: proxytest.Logger(t), Grace: 1})
	if err != nil {
		t.Fatal(err)
	}
	stop := proxytest.Start(t, rt)
	other := task.NewGoroutines(task.Config{Loops: 1, First: 1, Logger: proxytest.Logger(t)})
	stopOther := proxytest.Start(t, other)
	near, far := rt.Shards()[0], other.Shards()[0]
	entered := make(chan struct{})
	b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		w := &waiter{}
		far.Gate(&w.gate)
		_, _ = req.Cancel.Watch(w)
		close(entered)
		w.gate.Wait(0)
		return task.ErrClosed
	}))
	proxytest.Go(near, func() {
		var resp proxy.Response
		_ = b.RoundTrip(request(near), &resp)
	})
	<-entered
	stop()
	proxytest.Eventually(t, "the far half has ended", func() bool { return b.Running() == 0 })
	stopOther()
}
