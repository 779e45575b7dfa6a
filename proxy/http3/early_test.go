//go:build !race

// QUIC itself races, in quic-go 0.65, where a stream is opened in early data while the peer's parameters arrive, so that the
// detector would end this test for what is not ours.

package http3

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// tickets tells of each session that is kept.
type tickets struct {
	tls.ClientSessionCache
	kept chan struct{}
}

func (c tickets) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	select {
	case c.kept <- struct{}{}:
	default:
	}
}

// rejecting returns a network whose server has forgotten the session that the client will send early data with.
func rejecting(t *testing.T) *network {
	cfg := Config{}.QUIC()
	cfg.Allow0RTT = true
	n := newNetwork(t, cfg)
	cache := tickets{tls.NewLRUClientSessionCache(1), make(chan struct{}, 1)}
	n.clientTLS.ClientSessionCache = cache
	_, first := n.connect(Config{}.QUIC())
	proxytest.Wait(t, cache.kept)
	first.CloseWithError(0, "")
	n.listener.Close()

	fresh, _ := certificates(t, ALPN) // with other keys for tickets
	fresh.Certificates = n.serverTLS.Certificates
	var err error
	if n.listener, err = n.server.ListenEarly(fresh, cfg); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *network) dialEarly() *quic.Conn {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	q, err := n.client.DialEarly(ctx, n.listener.Addr(), n.clientTLS, Config{}.QUIC())
	if err != nil {
		n.t.Fatal(err)
	}
	return q
}

// A server that does not take early data, because it has forgotten the session, leaves nothing behind: what was sent is unsent, and
// the connection, which cannot be used any more, is closed.
func TestEarlyDataRejected(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		n := rejecting(t)
		defer n.close()
		q := n.dialEarly()
		c := NewClient(s, q, Config{})
		served := proxytest.Go(s, func() { _ = c.Serve() })
		err := c.RoundTrip(get("/"), new(proxy.Response))
		var e *proxy.Error
		if !errors.As(err, &e) || !e.Unsent || !errors.Is(err, quic.Err0RTTRejected) {
			t.Errorf("got %v, want that it was not sent", err)
		}
		proxytest.Wait(t, served)
		proxytest.Wait(t, q.Context().Done())
	})
}

// It is the same where that is known before a stream is opened, whoever is told first; then another connection can take what has content too,
// and nobody is offered this one again.
func TestEarlyDataRejectedBefore(t *testing.T) {
	for _, order := range []string{"the Conn is made", "the request comes", "Serve has returned"} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			n := rejecting(t)
			defer n.close()
			q := n.dialEarly()
			if order == "the Conn is made" {
				proxytest.Wait(t, q.HandshakeComplete())
			}
			c := NewClient(s, q, Config{})
			proxytest.Wait(t, q.HandshakeComplete())
			if order == "Serve has returned" {
				_ = c.Serve()
			}
			body := text("hello")
			for range 2 {
				err := c.RoundTrip(post("/", body, 5), new(proxy.Response))
				var e *proxy.Error
				if !errors.As(err, &e) || !e.Unsent || !errors.Is(err, quic.Err0RTTRejected) || !errors.Is(err, proxy.ErrNoStream) {
					t.Errorf("before %s: got %v, want that it was not sent", order, err)
				}
				if !c.LeavingLocked() || c.Available() != 0 {
					t.Errorf("before %s: %d streams are still offered", order, c.Available())
				}
			}
			if got, err := readAll(body); got != "hello" || err != nil {
				t.Errorf("before %s: %q, %v is left of the content", order, got, err)
			}
			_ = c.Serve()
			proxytest.Wait(t, q.Context().Done())
		})
	}
}
