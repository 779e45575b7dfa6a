package quiclink

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/listeners/peer"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestWhatWaitsForAnAnswer: looks at a connection, 250 ms apart, and whether something has waited for long at the last.
func TestWhatWaitsForAnAnswer(t *testing.T) {
	type counts struct {
		sent, received uint64
		rtt            time.Duration
	}
	for _, c := range []struct {
		name  string
		looks []counts
		want  bool
	}{
		{"nothing happens", []counts{{5, 5, 10}, {5, 5, 10}, {5, 5, 10}}, false},
		{"an acknowledgement goes out after a look", []counts{{5, 5, 10}, {6, 5, 10}, {6, 5, 10}, {6, 5, 10}}, false},
		{"every packet of the peer is acknowledged", []counts{{5, 5, 10}, {7, 7, 10}, {10, 9, 10}, {11, 11, 10}}, false},
		{"what was sent is answered", []counts{{5, 5, 10}, {15, 5, 10}, {16, 9, 20}}, false},
		{"what was sent is repeated", []counts{{5, 5, 10}, {11, 5, 10}, {13, 5, 10}, {13, 5, 10}, {15, 5, 10}}, true},
		{"the peer is heard, but does not hear", []counts{{5, 5, 10}, {11, 5, 10}, {13, 6, 10}, {14, 7, 10}, {17, 8, 10}}, true},
		{"another path begins", []counts{{5, 5, 10}, {11, 5, 10}, {15, 5, 0}, {19, 7, 0}}, true},
		{"another path answers", []counts{{5, 5, 10}, {11, 5, 10}, {15, 5, 0}, {19, 7, 30}}, false},
		{"it was sent once, and acknowledged without a sample", []counts{{5, 5, 10}, {11, 5, 10}, {11, 9, 10}, {11, 9, 10}, {11, 9, 10}, {11, 9, 10}, {11, 9, 10}, {11, 9, 10}, {11, 9, 10}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p path
			for i, n := range c.looks {
				st := quic.ConnectionStats{PacketsSent: n.sent, PacketsReceived: n.received, LatestRTT: n.rtt, MeanDeviation: n.rtt / 2}
				if i == 0 {
					p.last = st
				}
				p.note(st, task.Instant(i+1)*task.Instant(250*time.Millisecond), 250*time.Millisecond)
			}
			if p.waiting != c.want {
				t.Errorf("waiting is %t, want %t", p.waiting, c.want)
			}
		})
	}
}

// TestOneWay: a peer that does not hear us is as good as dead, even if we hear it.
func TestOneWay(t *testing.T) {
	over(t, func(q *peer.QUIC) { q.PingIdle = 20 * time.Millisecond }, func(b *bed) {
		b.echo()
		r := newRelay(t, b.addr)
		var told atomic.Int32
		d, p := b.dialer(Config{
			SuspectAfter: 200 * time.Millisecond, DeadAfter: time.Second, PingIdle: 50 * time.Millisecond,
			Suspect: func(*proxy.Endpoint, error) { told.Add(1) },
		})
		resp := b.stream(p, b.endpoint(r.addr, "api"))
		r.blockUp.Store(true)
		told.Store(0) // a busy machine may have been slow to answer
		done := proxytest.Go(b.near, func() {
			_, _ = resp.Stream.Write([]byte("lost"))
			if _, err := resp.Stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("got %v, want an error that is no end", err)
			}
			resp.Close()
		})
		proxytest.Wait(t, done)
		if n := told.Load(); n > 1 {
			t.Errorf("the path was suspected %d times: it counted as good in between", n)
		}
		b.end(d, p)
		r.close()
	})
}
