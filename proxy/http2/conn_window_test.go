package http2

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// warped is a Shard whose time the test sets.
type warped struct {
	task.Shard
	now atomic.Int64
}

func (w *warped) Now() task.Instant       { return task.Instant(w.now.Load()) }
func (w *warped) advance(d time.Duration) { w.now.Add(int64(d)) }

// uploader is a scripted client with one upload, whose connection has measured a round trip of 20 ms.
type uploader struct {
	*raw
	s      *warped
	window int64 // of stream 1: what may still be sent
	conn   int64 // of the connection

	// Guarded by the shard's lock.

	allowed int // bytes that the handler may still read
	gate    task.Gate
}

const trip = 20 * time.Millisecond

func newUploader(t *testing.T, s task.Shard, cfg Config) *uploader {
	t.Helper()
	u := &uploader{s: &warped{Shard: s}, window: int64(cfg.StreamWindow), conn: initialWindow}
	s.Gate(&u.gate)
	u.s.now.Store(int64(s.Now()))
	cfg.DeadAfter = -1
	cfg.Handler = handler(func(req *proxy.Request, resp *proxy.Response) error {
		p := make([]byte, 16<<10)
		for {
			n, err := req.Body.Read(p[:u.permitted(len(p))])
			if err == io.EOF {
				resp.Status = 200
				return nil
			}
			if err != nil {
				return err
			}
			u.allow(-n)
		}
	})
	u.raw = rawClient(t, u.s, cfg)
	u.s.advance(trip)
	u.until("SETTINGS", func(f xhttp2.Frame) bool { return u.note(f) && f.Header().Type == xhttp2.FrameSettings })
	u.post(1, "/")
	return u
}

// permitted waits until the handler may read.
func (u *uploader) permitted(most int) int {
	u.s.Lock()
	for u.allowed <= 0 {
		u.s.Unlock()
		u.gate.Wait(0) // does not return where the runtime stops
		u.s.Lock()
	}
	most = min(most, u.allowed)
	u.s.Unlock()
	return most
}

// allow lets the handler read n bytes more.
func (u *uploader) allow(n int) {
	u.s.Lock()
	u.allowed += n
	u.s.Unlock()
	u.gate.Wake()
}

// permit is allow, from outside.
func (u *uploader) permit(n int) {
	u.t.Helper()
	proxytest.Call(u.t, u.s, func() { u.allow(n) })
}

// all is more than any test sends.
const all = 1 << 30

// note keeps account of the windows.
func (u *uploader) note(f xhttp2.Frame) bool {
	if w, ok := f.(*xhttp2.WindowUpdateFrame); ok && w.StreamID == 0 {
		u.conn += int64(w.Increment)
	} else if ok {
		u.window += int64(w.Increment)
	}
	return true
}

// send sends n bytes within the windows.
func (u *uploader) send(n int64) {
	u.t.Helper()
	for n > 0 {
		piece := make([]byte, min(n, 8<<10))
		n -= int64(len(piece))
		if u.window -= int64(len(piece)); u.window < 0 {
			u.t.Fatal("the stream window is used up")
		}
		for u.conn -= int64(len(piece)); u.conn < 0; {
			u.until("connection window", u.note)
		}
		u.WriteData(1, false, piece)
	}
}

// granted waits for stream window.
func (u *uploader) granted() {
	u.t.Helper()
	u.until("WINDOW_UPDATE", func(f xhttp2.Frame) bool {
		if p, ok := f.(*xhttp2.PingFrame); ok && !p.IsAck() {
			u.s.advance(trip)
			u.WritePing(true, p.Data)
		}
		return u.note(f) && f.Header().Type == xhttp2.FrameWindowUpdate && f.Header().StreamID == 1
	})
}

// held is what the connection has and may still get.
func (u *uploader) held() (n int64) {
	proxytest.Call(u.t, u.s, func() {
		u.s.Lock()
		defer u.s.Unlock()
		n = u.c.unread + u.c.recvWin
	})
	return n
}

const base = 64 << 10

// A stream of which half a window is read within each round trip gets a larger one, up to its bound.
func TestStreamWindowGrows(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		u := newUploader(t, rt.Shards()[0], Config{StreamWindow: base, ConnWindow: 16 * base})
		u.permit(all)
		most := u.window
		for range 40 {
			u.send(max(base/2, u.window/2))
			u.s.advance(trip / 4)
			u.granted()
			most = max(most, u.window)
		}
		if most != 16*base {
			t.Errorf("the stream's window was %d at most, want %d", most, 16*base)
		}
		u.WriteData(1, true, nil)
		u.untilHeaders(1)
		u.close()
	})
}

// What a reader needs longer for than a round trip, or does not keep up with, leaves the window as it is.
func TestWindowStaysForSlowReaders(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause time.Duration
		ahead int64 // what the peer has sent and the reader has not read when window is returned
	}{
		{"slower than the window", 2 * trip, 0},
		{"slower than the peer", trip / 4, base / 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				u := newUploader(t, rt.Shards()[0], Config{StreamWindow: base, ConnWindow: 16 * base})
				u.send(c.ahead)
				for range 50 {
					u.send(base / 2)
					u.WritePing(false, [8]byte{1}) // what was sent has arrived once this is answered
					u.until("PING", func(f xhttp2.Frame) bool { return u.note(f) && f.Header().Type == xhttp2.FramePing })
					u.s.advance(c.pause)
					u.permit(base / 2)
					u.granted()
					if u.window > base-c.ahead {
						t.Fatalf("the window has grown: %d may be sent beyond %d", u.window, c.ahead)
					}
				}
				u.permit(all)
				u.WriteData(1, true, nil)
				u.untilHeaders(1)
				u.close()
			})
		})
	}
}

// A peer that answers PING late, so that every window seems to bound it, and then many readers that stall: what
// is held stays below MaxHeld.
func TestGrowthIsBounded(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const most = 4 * 4 * base
		u := newUploader(t, rt.Shards()[0], Config{StreamWindow: base, ConnWindow: 4 * base, MaxStreamWindow: 1 << 30, MaxHeld: most})
		u.permit(all)
		for range 60 {
			u.send(max(base/2, u.window/2))
			u.granted()
		}
		if u.window <= 2*base {
			t.Errorf("the window is %d, want it grown", u.window)
		}
		proxytest.Call(t, u.s, func() {
			u.s.Lock()
			u.allowed = 0
			u.s.Unlock()
		})
		u.send(min(u.window, u.conn))
		if held := u.held(); held > most {
			t.Errorf("%d bytes held or granted, want at most %d", held, most)
		}
		u.close()
	})
}

// stalling is a server whose uploads to /stall are not read before the gate opens.
type stalling struct {
	s    task.Shard
	open bool
	gate []*task.Gate
}

func (h *stalling) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if req.Path == "/stall" {
		g := new(task.Gate)
		h.s.Gate(g)
		h.s.Lock()
		h.gate = append(h.gate, g)
		for !h.open {
			h.s.Unlock()
			g.Wait(0)
			h.s.Lock()
		}
		h.s.Unlock()
	}
	var n int
	p := make([]byte, 16<<10)
	for {
		m, err := req.Body.Read(p)
		n += m
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	resp.Status = 200
	return nil
}

func (h *stalling) release() {
	h.s.Lock()
	h.open = true
	gates := h.gate
	h.s.Unlock()
	for _, g := range gates {
		g.Wake()
	}
}

// However many streams stall, a lively one goes on, and what is held stays bounded; the stalled ones then end well.
func TestManyStalledStreams(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const streams, each = 1000, 128 << 10
		const window = 64 << 10
		s := rt.Shards()[0]
		h := &stalling{s: s}
		cfg := Config{Handler: h, MaxStreams: streams + 10, StreamWindow: window, ConnWindow: 4 << 20}
		l := newLink(t, s, cfg, Config{MaxStreams: streams + 10})
		defer l.close()
		data := bytes.Repeat([]byte("x"), 8<<20)
		l.do(func() { l.upload("/", data[:100]) })
		ended := make(chan error, streams)
		proxytest.Call(t, s, func() {
			for range streams {
				s.Go(func() { ended <- l.upload("/stall", data[:each]) })
			}
		})
		proxytest.Eventually(t, "every stream is open", func() bool {
			c, _ := l.stats()
			return c.Streams == streams
		})
		for range 3 {
			l.do(func() {
				if err := l.upload("/", data); err != nil {
					t.Error(err)
				}
			})
			if _, server := l.stats(); server.Unread > 3*4<<20 {
				t.Errorf("%d bytes unread, want at most %d", server.Unread, 3*4<<20)
			}
		}
		proxytest.Call(t, s, func() {
			s.Lock()
			defer s.Unlock()
			if held := l.server.unread + l.server.recvWin; held > int64(l.server.cfg.MaxHeld) {
				t.Errorf("%d bytes held or granted, want at most %d", held, l.server.cfg.MaxHeld)
			}
			if l.server.win.level != 2 {
				t.Errorf("level of windows %d, want 2", l.server.win.level)
			}
		})
		proxytest.Call(t, s, h.release)
		for range streams {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
		proxytest.Call(t, s, func() { l.server.tick() })
		proxytest.Eventually(t, "the windows are as before", func() bool {
			ok := false
			proxytest.Call(t, s, func() {
				s.Lock()
				defer s.Unlock()
				ok = l.client.peerWindow == window && l.server.win.extra == 0 && l.server.win.initial == window
			})
			return ok
		})
	})
}

// upload sends data and waits for the answer.
func (l *link) upload(path string, data []byte) error {
	var resp proxy.Response
	if err := l.client.RoundTrip(post(path, &content{parts: [][]byte{data}}, int64(len(data))), &resp); err != nil {
		return err
	}
	resp.Close()
	return nil
}

// Over a path with a delay a bulk upload gets a window that the delay does not bound.
func TestWindowGrowsOverDelay(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		near, far := delayed(t, 100*time.Millisecond) // long beside what a busy machine adds
		l := &link{t: t, s: s, ended: make(chan error, 2)}
		proxytest.Call(t, s, func() {
			l.server = NewServer(s, adopt(t, s, far), Config{Handler: &stalling{s: s}, StreamWindow: base, ConnWindow: 64 * base})
			l.client = NewClient(s, adopt(t, s, near), Config{})
			s.Go(func() { l.ended <- l.server.Serve(nil) })
			s.Go(func() { l.ended <- l.client.Serve(nil) })
		})
		defer l.close()
		data := make([]byte, 16*base)
		proxytest.Eventually(t, "the window has grown", func() bool {
			l.do(func() {
				if err := l.upload("/", data); err != nil {
					t.Error(err)
				}
			})
			grown := int64(0)
			proxytest.Call(t, s, func() {
				s.Lock()
				defer s.Unlock()
				grown = l.server.win.learned
			})
			return grown >= 2*base
		})
	})
}

// delayed is a connection whose bytes take d each way.
func delayed(t *testing.T, d time.Duration) (near, far net.Conn) {
	t.Helper()
	near, a := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
	far, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
	go carry(a, b, d)
	go carry(b, a, d)
	return near, far
}

// carry takes from's bytes to to, each piece d after it came.
func carry(from, to net.Conn, d time.Duration) {
	type piece struct {
		p   []byte
		due time.Time
	}
	pieces := make(chan piece, 1<<12)
	go func() {
		defer to.Close()
		for x := range pieces {
			time.Sleep(time.Until(x.due))
			to.Write(x.p)
		}
	}()
	defer close(pieces)
	for {
		p := make([]byte, 64<<10)
		n, err := from.Read(p)
		if err != nil {
			return
		}
		pieces <- piece{p[:n], time.Now().Add(d)}
	}
}
