//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hbone is a peer that is no pillion: Go's own HTTP/2 client with a certificate of the mesh, and classic CONNECT, which is the
// form of Istio's HBONE (a tunnel per connection, many on one link).
type hbone struct {
	client *http.Transport
	dials  atomic.Int64
}

// newHBONE is a client of a peer port.
func newHBONE(t *testing.T, peer string, cert files) *hbone {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	h := &hbone{}
	config := cert.tls(t)
	h.client = &http.Transport{
		Protocols: &protocols,
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			h.dials.Add(1)
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, peer)
		},
	}
	t.Cleanup(h.client.CloseIdleConnections)
	return h
}

// connect opens a tunnel; what is written to the returned writer reaches the app.
func (h *hbone) connect(t *testing.T, target string) (*http.Response, *io.PipeWriter) {
	t.Helper()
	r, w := io.Pipe()
	req := &http.Request{
		Method: http.MethodConnect,
		Host:   target,
		URL:    &url.URL{Scheme: "https", Host: "peer"},
		Header: http.Header{"Baggage": {"k8s.namespace.name=shop"}, "Forwarded": {"for=10.0.0.9:41234"}},
		Body:   r,
	}
	resp, err := h.client.RoundTrip(req.WithContext(t.Context()))
	if err != nil {
		t.Fatalf("CONNECT %s: %v", target, err)
	}
	t.Cleanup(func() {
		_ = w.CloseWithError(errors.New("the test is over"))
		_ = resp.Body.Close()
	})
	return resp, w
}

func TestHBONEPeer(t *testing.T) {
	if *direct {
		return
	}
	const size = 8 << 20
	app := rawApp(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
	})
	p := newPair(t, setup{app: app, port: 7000, protocol: "tcp"})
	h := newHBONE(t, p.b.peer, p.ca.issue(leaf{name: "ztunnel"}))

	resp, w := h.connect(t, "app:7000")
	if resp.StatusCode != 200 {
		t.Fatalf("CONNECT app:7000 = %s, want 200", resp.Status)
	}
	go func() {
		_, _ = io.Copy(w, content(size))
		_ = w.Close()
	}()
	if err := checkContent(resp.Body, size); err != nil {
		t.Errorf("8 MiB there and back: %v", err)
	}

	// A stalled tunnel does not slow its siblings: nobody reads this one.
	stalled, ws := h.connect(t, "app:7000")
	if stalled.StatusCode != 200 {
		t.Fatalf("CONNECT app:7000 = %s, want 200", stalled.Status)
	}
	go func() { _, _ = io.Copy(ws, content(64<<20)) }()
	time.Sleep(200 * time.Millisecond) // until its windows are full
	for range 5 {
		resp, w := h.connect(t, "app:7000")
		go func() {
			_, _ = w.Write([]byte("ping"))
			_ = w.Close()
		}()
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, []byte("ping")) {
			t.Fatalf("beside a stalled tunnel = %q, %v, want ping", got, err)
		}
	}

	if n := h.dials.Load(); n != 1 {
		t.Errorf("%d connections for all tunnels, want one", n)
	}
	if resp, _ := h.connect(t, "app:7001"); resp.StatusCode < 400 {
		t.Errorf("CONNECT to a port that is no app entry = %s, want a refusal", resp.Status)
	}
}

func TestHBONEPeerMayCallExchanges(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	h := newHBONE(t, p.b.peer, p.ca.issue(leaf{name: "other"}))
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://app:8080/echo", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != "hello" {
		t.Errorf("POST = %s %q, %v, want 200 hello", resp.Status, body, err)
	}
}
