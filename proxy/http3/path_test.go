package http3

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestWhatTheWayCarries: the size of packets is known once both ends have said that they take datagrams, and a write that waits for the peer's window is counted.
func TestWhatTheWayCarries(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		const window = 32 << 10
		release := make(chan struct{})
		l := newLink(t, s, Config{ConnWindow: window, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			<-release
			_, err := readAll(req.Body)
			resp.Status = 200
			return err
		})}, Config{})
		defer l.close()
		for _, c := range []*Conn{l.client, l.server} {
			proxytest.Eventually(t, "the size of packets is known", func() bool {
				n := c.Stats().MTU
				return n >= 1200+udpHeader+ipv4Header && n <= 1500
			})
		}
		stalled := proxytest.Go(s, func() {
			var resp proxy.Response
			if err := l.client.RoundTrip(post("/", &parts{parts: [][]byte{make([]byte, 10*window)}}, proxy.Unknown), &resp); err != nil {
				t.Error(err)
				return
			}
			resp.Close()
		})
		proxytest.Eventually(t, "the connection's window is used up", func() bool { return l.client.Stats().Out > window })
		time.Sleep(5 * stallAfter) // what the wait is to be at least
		close(release)
		proxytest.Wait(t, stalled)
		if got := l.client.Stats().Stalls; got.Count < 1 || got.Time < stallAfter {
			t.Errorf("the client's stalls are %+v, want a wait of a millisecond or more", got)
		}
		l.quiet()
	})
}
