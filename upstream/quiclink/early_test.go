//go:build !race

// QUIC itself races, in quic-go 0.65, where a stream is opened in early data while the peer's parameters arrive, so
// that the detector would end this test for what is not ours.

package quiclink

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/listeners/peer"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// TestEarlyData: with a session of before a safe request goes with the first packet, which the app is told; others wait. An app that
// says 425 gets the request again after the handshake, unless the client spoke of early data itself.
func TestEarlyData(t *testing.T) {
	over(t, func(q *peer.QUIC) { q.EarlyData = true }, func(b *bed) {
		var tooEarly atomic.Int32
		b.handler = func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status = 204
			if req.Fields.Has(http3.EarlyDataField) {
				resp.Status = 425
				tooEarly.Add(1)
			}
			return nil
		}
		id := b.ids("web")
		d, _ := b.dialer(Config{EarlyData: true})
		d.cfg.TLS = id.ClientConfig
		ep := b.endpoint(b.addr, "api")
		again := func() *pool.Pool { return pool.New(pool.Config{Shard: b.near, Dial: d.Dial}) }
		p := again()
		if status, err := b.call(p, ep, b.request("/first")); status != 204 || err != nil {
			t.Fatalf("got %d, %v", status, err)
		}
		proxytest.Eventually(t, "a session is kept", func() bool { return d.sessions.get(ep).state != nil })
		proxytest.Do(t, b.near, p.Shutdown)

		used := false
		for range 20 { // whether the handshake or the request is quicker, nobody can say
			p = again()
			if status, err := b.call(p, ep, b.request("/early")); status != 204 || err != nil {
				t.Fatalf("got %d, %v", status, err)
			}
			l := b.link(p)
			proxytest.Eventually(t, "the handshake is complete", l.shaken)
			used = used || l.q.ConnectionState().Used0RTT
			post := b.request("/post")
			post.Method = "POST"
			if status, err := b.call(p, ep, post); status != 204 || err != nil {
				t.Fatalf("got %d, %v", status, err)
			}
			if fields, _ := b.seen.Load("/post"); strings.Contains(fields.(string), http3.EarlyDataField) {
				t.Errorf("a POST went in early data: %q", fields)
			}
			own := b.request("/own")
			own.Fields.Add(http3.EarlyDataField, "1")
			if status, err := b.call(p, ep, own); status != 425 || err != nil {
				t.Fatalf("a client that says Early-Data itself: got %d, %v; want 425", status, err)
			}
			tooEarly.Add(-1)
			proxytest.Eventually(t, "a session is kept", func() bool { return d.sessions.get(ep).state != nil })
			proxytest.Do(t, b.near, p.Shutdown)
		}
		if !used || tooEarly.Load() == 0 {
			t.Errorf("early data was used: %v; the app said 425 %d times", used, tooEarly.Load())
		}
		b.end(d, p)
	})
}
