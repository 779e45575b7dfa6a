package http2

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/proxy/task/tlsconn"
)

// Two links in a row, as in a pair of sidecars, under clients that do everything at random: large and small bodies, trailers,
// cancelling, deadlines, answers closed early or not read. What succeeds is right, and afterwards nothing is left.
func TestChainUnderChaos(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		far := newLink(t, s, Config{Handler: handler(chaosApp), Pillion: true}, Config{Pillion: true})
		near := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			return far.client.RoundTrip(req, resp)
		})}, Config{})
		var good, bad atomic.Int32
		var tasks []<-chan struct{}
		for i := range 24 {
			rnd := mrand.New(mrand.NewPCG(1, uint64(i)))
			tasks = append(tasks, proxytest.Go(s, func() {
				for range 12 {
					if chaosClient(t, s, near.client, rnd) {
						good.Add(1)
					} else {
						bad.Add(1)
					}
				}
			}))
		}
		for _, done := range tasks {
			proxytest.Wait(t, done)
		}
		if good.Load() < 90 || bad.Load() < 30 {
			t.Errorf("%d good, %d bad: the mix is wrong", good.Load(), bad.Load())
		}
		proxytest.Eventually(t, "nothing is left", func() bool {
			a, b := near.stats()
			c, d := far.stats()
			return a.Streams+b.Streams+c.Streams+d.Streams+b.Running+d.Running == 0 && a.Unread+b.Unread+c.Unread+d.Unread == 0
		})
		near.close()
		far.close()
	})
}

// chaosApp echoes what it gets, or answers early, or breaks.
func chaosApp(req *proxy.Request, resp *proxy.Response) error {
	switch req.Path {
	case "/early":
		resp.Status, resp.Length, resp.Body = 413, 5, text("early")
		return nil
	case "/broken":
		resp.Status, resp.Length = 200, proxy.Unknown
		resp.Body = &content{parts: [][]byte{bytes.Repeat([]byte("b"), 30000)}, err: errors.New("app died")}
		return nil
	case "/slow":
		req.Shard.Sleep(3 * time.Millisecond)
	}
	return echo(req, resp)
}

// chaosClient carries out one exchange, and reports whether it went through and was right.
func chaosClient(t *testing.T, s task.Shard, c *Conn, rnd *mrand.Rand) bool {
	size := []int{0, 10, 5000, 20000, 70000, 200000}[rnd.IntN(6)]
	path := []string{"/", "/", "/", "/slow", "/early", "/broken"}[rnd.IntN(6)]
	data := bytes.Repeat([]byte(fmt.Sprintf("%04d", rnd.IntN(10000))), size/4)
	body := &content{parts: [][]byte{bytes.Clone(data[:len(data)/2]), bytes.Clone(data[len(data)/2:])}}
	if len(body.parts[0]) == 0 {
		body.parts = nil
	}
	if rnd.IntN(3) == 0 {
		body.wait = func(int) { s.Sleep(time.Millisecond) }
	}
	if rnd.IntN(4) == 0 {
		body.trailers = proxy.Fields{{Name: "x-sum", Value: "1"}}
	}
	req := post(path, body, proxy.Unknown)
	req.Shard = s
	if len(data) == 0 {
		req.Body, req.Length = nil, 0
	}
	if rnd.IntN(6) == 0 {
		req.Deadline = s.Now().Add(time.Duration(rnd.IntN(5)+1) * time.Millisecond)
	}
	if rnd.IntN(6) == 0 {
		tm := s.After(time.Duration(rnd.IntN(4))*time.Millisecond, func() { req.Cancel.Cancel(errors.New("left")) })
		defer tm.Stop()
	}
	var resp proxy.Response
	if err := c.RoundTrip(req, &resp); err != nil {
		return false
	}
	defer resp.Close()
	if rnd.IntN(8) == 0 {
		return false // unread
	}
	got, err := readAll(resp.Body)
	if err != nil {
		return false
	}
	if resp.Status == 200 && got != string(data) {
		t.Errorf("%s: got %d bytes, want %d", path, len(got), len(data))
	}
	return resp.Status == 200 || got == "early"
}

// The same engine over TLS.
func TestOverTLS(t *testing.T) {
	var _ Transport = (*tlsconn.Conn)(nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
		b.SetDeadline(time.Time{})
		shaken := make(chan error, 1)
		var server *tlsconn.Handshaked
		go func() {
			var err error
			server, err = tlsconn.Server(t.Context(), a, &tls.Config{
				Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13})
			shaken <- err
		}()
		client, err := tlsconn.Client(t.Context(), b, &tls.Config{RootCAs: roots, ServerName: "example.com"})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		l := &link{t: t, s: s, ended: make(chan error, 2)}
		proxytest.Call(t, s, func() {
			sc, err := server.Attach(s)
			if err != nil {
				t.Error(err)
			}
			cc, err := client.Attach(s)
			if err != nil {
				t.Error(err)
			}
			l.server, l.client = NewServer(s, sc, Config{Handler: handler(echo)}), NewClient(s, cc, Config{})
			s.Go(func() { l.ended <- l.server.Serve(nil) })
			s.Go(func() { l.ended <- l.client.Serve(nil) })
		})
		defer l.close()
		l.do(func() {
			want := bytes.Repeat([]byte("0123456789"), 300000)
			var resp proxy.Response
			if err := l.client.RoundTrip(post("/", &content{parts: [][]byte{bytes.Clone(want)}}, proxy.Unknown), &resp); err != nil {
				t.Error(err)
				return
			}
			if got, err := readAll(resp.Body); got != string(want) || err != nil {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			resp.Close()
		})
	})
}
