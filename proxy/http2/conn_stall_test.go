package http2

import (
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestStalls: what waits for a window, or behind others, is counted by that once the wait is over.
func TestStalls(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		big := make([]byte, 100<<10)
		cfg := Config{Handler: handler(func(_ *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, int64(len(big)), &content{parts: [][]byte{big}}
			return nil
		})}
		for _, x := range []struct {
			name   string
			stream uint32 // its window; that of the connection is 65,535 bytes
			opened uint32 // which of them the peer makes larger
		}{{"stream", 20 << 10, 1}, {"connection", 1 << 20, 0}} {
			r := rawClient(t, rt.Shards()[0], cfg, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: x.stream})
			r.get(1, "/")
			all, got := 0, 0
			r.until("the end", func(f xhttp2.Frame) bool {
				if d, ok := f.(*xhttp2.DataFrame); ok {
					all += len(d.Data())
					if got += len(d.Data()); got == min(int(x.stream), 65535) { // it must wait now
						r.WriteWindowUpdate(x.opened, 1<<20)
					}
				}
				if all == 65535 && x.name == "stream" {
					r.WriteWindowUpdate(0, 1<<20)
				}
				return all == len(big)
			})
			var st Stats
			proxytest.Eventually(t, x.name, func() bool { // the writer goes on a little after the last byte
				proxytest.Call(t, rt.Shards()[0], func() { st = r.c.Stats() })
				return st.Stalls.Stream.Count+st.Stalls.Conn.Count > 0
			})
			if got := st.Stalls; x.name == "connection" && (got.Stream.Count != 0 || got.Conn.Count != 1) || x.name == "stream" && got.Stream.Count != 1 || got.Stream.Time < 0 || got.Conn.Time < 0 {
				t.Errorf("for the window of the %s: %+v", x.name, got)
			}
			r.close()
		}
	})
}

// TestLineStalls: where the network takes no more all streams wait, and that is counted.
func TestLineStalls(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		big := make([]byte, 32<<20)
		r := rawClient(t, s, Config{Handler: handler(func(_ *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, int64(len(big)), &content{parts: [][]byte{big}}
			return nil
		})}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30})
		r.WriteWindowUpdate(0, 1<<30)
		r.get(1, "/") // and nothing is read, until the kernel's buffers are full
		var st Stats
		proxytest.Eventually(t, "the network takes no more", func() bool {
			proxytest.Call(t, s, func() { st = r.c.Stats() })
			return st.Stalls.Line.Count > 0
		})
		all := 0
		r.until("the end", func(f xhttp2.Frame) bool {
			if d, ok := f.(*xhttp2.DataFrame); ok {
				all += len(d.Data())
			}
			return all == len(big)
		})
		proxytest.Call(t, s, func() { st = r.c.Stats() })
		if got := st.Stalls; got.Line.Time <= 0 || got.Stream.Count+got.Conn.Count != 0 {
			t.Errorf("%+v", got)
		}
		r.close()
	})
}
