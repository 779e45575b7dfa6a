package http2

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// A connection that has been busy and is idle holds no buffer and none of its caches.
func TestIdleConnectionIsSlim(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l := newLink(t, s, Config{Handler: handler(echo)}, Config{})
		defer l.close()
		l.do(func() {
			for range 5 {
				var resp proxy.Response
				if err := l.client.RoundTrip(post("/", text("x"), 1), &resp); err != nil {
					t.Error(err)
					return
				}
				readAll(resp.Body)
				resp.Close()
			}
		})
		proxytest.Eventually(t, "no buffers", func() bool { return rt.Stats().Buffers == 0 })
		proxytest.Call(t, s, func() {
			s.Lock()
			defer s.Unlock()
			for _, c := range []*Conn{l.client, l.server} {
				c.alive.idleSince -= task.Instant(2 * slimAfter)
				c.slabUsed = false
				c.slim(s.Now().Add(time.Second))
				if c.free != nil || c.enc.memory != nil || c.head.memo.state != nil || c.slab != nil || c.endedIDs != nil {
					t.Error("an idle connection keeps its caches")
				}
			}
		})
		l.do(func() { // and it still works
			var resp proxy.Response
			if err := l.client.RoundTrip(get("/"), &resp); err != nil {
				t.Error(err)
			}
			resp.Close()
		})
	})
}

// One whose streams are open and quiet holds no buffer either.
func TestQuietConnectionIsSlim(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l := newLink(t, s, Config{Handler: stall(make(chan error, 1))}, Config{})
		defer l.close()
		asking := get("/")
		asked := proxytest.Go(s, func() { _ = l.client.RoundTrip(asking, new(proxy.Response)) })
		proxytest.Eventually(t, "the stream is open", func() bool {
			_, server := l.stats()
			return server.Running == 1
		})
		proxytest.Eventually(t, "no buffers", func() bool {
			proxytest.Call(t, s, func() {
				s.Lock()
				defer s.Unlock()
				l.client.slim(s.Now())
				l.server.slim(s.Now())
			})
			return rt.Stats().Buffers == 0
		})
		if c, _ := l.stats(); c.Streams != 1 {
			t.Error("the stream ended first")
		}
		proxytest.Call(t, s, func() { asking.Cancel.Cancel(errors.New("left")) })
		proxytest.Wait(t, asked)
	})
}

// BenchmarkIdle reports what an idle server connection, used once, holds in the heap, without its socket.
func BenchmarkIdle(b *testing.B) {
	eachRuntime(b, func(b *testing.B, s task.Shard) {
		const n = 500
		before := heap()
		links := make([]*link, n)
		for i := range links {
			links[i] = newLink(b, s, Config{Handler: handler(echo)}, Config{})
		}
		time.Sleep(50 * time.Millisecond)
		b.ReportMetric(float64(heap()-before)/(2*n), "B/conn")
		for _, l := range links {
			l.close()
		}
		runtime.KeepAlive(links)
	})
}
