package http2

import (
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// attack sends something that costs the sender little, for the i-th time.
type attack func(r *raw, i uint32)

// Each attack ends with ENHANCE_YOUR_CALM (or its stated code) within a bounded number of steps, while exchanges on another
// connection of the same shard go on and memory stays flat.
func TestAttacks(t *testing.T) {
	attacks := []struct {
		name  string
		steps uint32 // an honest peer stays below a tenth of it
		setup attack
		step  attack
	}{
		{"rapid reset", 20000, nil, func(r *raw, i uint32) {
			r.get(2*i+1, "/hang")
			r.WriteRSTStream(2*i+1, xhttp2.ErrCodeCancel)
		}},
		{"made you reset by window", 20000, nil, func(r *raw, i uint32) {
			r.post(2*i+1, "/hang")
			r.WriteWindowUpdate(2*i+1, 1<<31-1)
		}},
		{"made you reset by zero window", 20000, nil, func(r *raw, i uint32) {
			r.post(2*i+1, "/hang")
			r.WriteRawFrame(xhttp2.FrameWindowUpdate, 0, 2*i+1, []byte{0, 0, 0, 0})
		}},
		{"made you reset by data after the end", 20000, nil, func(r *raw, i uint32) {
			r.get(2*i+1, "/hang")
			r.WriteData(2*i+1, false, []byte("x"))
		}},
		{"made you reset by priority", 20000, nil, func(r *raw, i uint32) {
			r.post(2*i+1, "/hang")
			r.WritePriority(2*i+1, xhttp2.PriorityParam{StreamDep: 2*i + 1})
			r.WriteRSTStream(2*i+1, xhttp2.ErrCodeCancel)
		}},
		{"malformed requests", 20000, nil, func(r *raw, i uint32) { r.get(2*i+1, "bad") }},
		{"streams over the limit", 20000, nil, func(r *raw, i uint32) { r.get(2*i+1, "/hang") }},
		{"continuation", 200, func(r *raw, i uint32) {
			r.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":method", "GET")})
		}, func(r *raw, i uint32) { r.WriteContinuation(1, false, nil) }},
		{"continuation with fields", 200, func(r *raw, i uint32) {
			r.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":method", "GET")})
		}, func(r *raw, i uint32) { r.WriteContinuation(1, false, r.block("x", strings.Repeat("y", 3000))) }},
		{"ping", 20000, nil, func(r *raw, i uint32) { r.WritePing(false, [8]byte{1}) }},
		{"settings", 20000, nil, func(r *raw, i uint32) { r.WriteSettings() }},
		{"settings with streams", 20000, func(r *raw, i uint32) {
			for id := uint32(1); id < 100; id += 2 {
				r.get(id, "/hang")
			}
		}, func(r *raw, i uint32) {
			r.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: i % 1000})
		}},
		{"table size", 20000, nil, func(r *raw, i uint32) {
			r.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: i % 2 * 4096})
		}},
		{"many settings", 20, nil, func(r *raw, i uint32) {
			r.WriteSettings(make([]xhttp2.Setting, 1000)...)
		}},
		{"priority", 20000, nil, func(r *raw, i uint32) { r.WritePriority(2*i+1, xhttp2.PriorityParam{StreamDep: 0}) }},
		{"empty data", 20000, func(r *raw, i uint32) { r.post(1, "/hang") }, func(r *raw, i uint32) { r.WriteData(1, false, nil) }},
		{"unknown frames", 20000, nil, func(r *raw, i uint32) { r.WriteRawFrame(0x77, 0, 0, []byte("x")) }},
		{"window update", 40000, nil, func(r *raw, i uint32) { r.WriteWindowUpdate(0, 1) }},
		{"goaway", 20000, func(r *raw, i uint32) { r.post(1, "/hang") }, func(r *raw, i uint32) { r.WriteGoAway(0, xhttp2.ErrCodeNo, nil) }},
		{"heads that are too large", 20000, nil, func(r *raw, i uint32) {
			r.get(2*i+1, "/"+strings.Repeat("x", 5000))
		}},
		{"references to a large entry", 20000, nil, func(r *raw, i uint32) {
			r.headers(2*i+1, true, bomb()...) // 100 bytes on the wire each, 90 kB when decoded
		}},
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) { play(t, rt, a.steps, a.setup, a.step) })
		})
	}
}

func bomb() []string {
	fields := []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}
	for range 30 {
		fields = append(fields, "x", strings.Repeat("y", 3000))
	}
	return fields
}

func play(t *testing.T, rt task.Runtime, steps uint32, setup, step attack) {
	s := rt.Shards()[0]
	const maxStreams = 50
	mostRunning := 0
	var r *raw
	cfg := Config{MaxStreams: maxStreams, MaxHead: 4 << 10, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
		if req.Path == "/hang" {
			s.Lock()
			mostRunning = max(mostRunning, r.c.running)
			s.Unlock()
			return stall(make(chan error, 1))(req, resp)
		}
		resp.Status = 204
		return nil
	})}
	honest := newLink(t, s, Config{Handler: handler(echo)}, Config{})
	defer honest.close()
	r = rawClient(t, s, cfg)
	before := heap()
	calm := make(chan xhttp2.ErrCode, 1)
	go readCalm(r, calm)

	var stop atomic.Bool
	good := 0
	others := proxytest.Go(s, func() {
		for good < 5 || !stop.Load() {
			var resp proxy.Response
			if err := honest.client.RoundTrip(post("/", text("x"), 1), &resp); err != nil {
				t.Errorf("honest exchange: %v", err)
				return
			}
			resp.Close()
			good++
			s.Sleep(time.Millisecond)
		}
	})
	if setup != nil {
		setup(r, 0)
	}
	var code xhttp2.ErrCode
	ended := false
	for i := uint32(0); i < steps && !ended; i++ {
		step(r, i)
		select {
		case code = <-calm:
			ended = true
		default:
		}
	}
	if !ended {
		select {
		case code = <-calm:
		case <-time.After(30 * time.Second):
			t.Errorf("no GOAWAY after %d steps", steps)
		}
	}
	if code != xhttp2.ErrCodeEnhanceYourCalm {
		t.Errorf("GOAWAY with %v, want ENHANCE_YOUR_CALM", code)
	}
	stop.Store(true)
	proxytest.Wait(t, others)
	r.nc.Close()
	var broken *ConnError
	if err := r.wait(); !errors.As(err, &broken) || broken.Code != ErrEnhanceYourCalm {
		t.Errorf("Serve = %v, want ENHANCE_YOUR_CALM", err)
	}
	proxytest.Call(t, s, func() { // handlers may still begin
		s.Lock()
		defer s.Unlock()
		if mostRunning > runningFactor*maxStreams {
			t.Errorf("%d handlers at once, want at most %d", mostRunning, runningFactor*maxStreams)
		}
	})
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}

// readCalm reads until the connection ends and reports the last GOAWAY.
func readCalm(r *raw, calm chan<- xhttp2.ErrCode) {
	r.ReadMetaHeaders = nil
	for {
		f, err := r.ReadFrame()
		if err != nil {
			calm <- xhttp2.ErrCodeNo
			return
		}
		if g, ok := f.(*xhttp2.GoAwayFrame); ok {
			calm <- g.ErrCode
			return
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A peer that provokes answers and reads none of them: what waits for it is bounded too.
func TestUnreadAnswers(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		r := rawClient(t, rt.Shards()[0], Config{Handler: handler(echo)})
		before := heap()
		for i := range uint32(100000) {
			if r.WritePing(false, [8]byte{}) != nil || r.WriteSettings() != nil {
				break
			}
			if i == 99999 {
				t.Error("the connection still stands")
			}
		}
		r.wait()
		if grown := int64(heap()) - int64(before); grown > 8<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
	})
}

// Streams that open no window hold one piece of their content each, and their siblings go on.
func TestZeroWindowReaders(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawClient(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, proxy.Unknown, &endless{}
			if req.Path == "/small" {
				resp.Length, resp.Body = 5, text("hello")
			}
			return nil
		})}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
		defer r.close()
		for id := uint32(1); id < 401; id += 2 {
			r.get(id, "/")
		}
		r.untilHeaders(399)
		r.get(401, "/small")
		r.WriteWindowUpdate(401, 100)
		if got := r.content(401); got != "hello" {
			t.Errorf("sibling got %q", got)
		}
		if n := rt.Stats().Buffers; n > 200+10 {
			t.Errorf("%d buffers held for 200 streams", n)
		}
	})
}

// A sender that goes beyond a window is stopped: the stream's, then the connection's.
func TestWindowsAreEnforced(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		cfg := Config{StreamWindow: initialWindow, ConnWindow: 2 * initialWindow, Handler: stall(make(chan error, 10))}
		r := rawClient(t, s, cfg)
		r.post(1, "/")
		piece := make([]byte, 16384)
		for range 5 {
			r.WriteData(1, false, piece)
		}
		if got := r.untilReset(1); got != xhttp2.ErrCodeFlowControl {
			t.Errorf("stream window: %v", got)
		}
		// What is unread counts twice at most: no credit is returned beyond that.
		for id := uint32(3); id < 20; id += 2 {
			r.post(id, "/")
			for range 3 {
				r.WriteData(id, false, piece)
			}
		}
		if f := r.untilGoAway(); f.ErrCode != xhttp2.ErrCodeFlowControl {
			t.Errorf("connection window: %v", f)
		}
		r.close()
	})
}
