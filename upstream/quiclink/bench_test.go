package quiclink

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/tlstest"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// BenchmarkExchange is a request and an answer of 1 KiB from a task of a loop: over a Link, and, as the baseline, over a stream of bare
// QUIC between two goroutines; one at a time, and from 64 clients at once. Both ends are in this process; cpu-µs/op is their processor time.
func BenchmarkExchange(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("link/clients=%d", clients), func(b *testing.B) { benchmarkLink(b, clients) })
		b.Run(fmt.Sprintf("bare/clients=%d", clients), func(b *testing.B) { benchmarkBare(b, clients) })
	}
}

// cpu is the processor time of this process.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, before time.Duration) {
	b.ReportMetric(float64(cpu(b)-before)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
}

const answerSize = 1 << 10

// kilobyte is a Body.
type kilobyte struct{ left int }

func (k *kilobyte) Read(p []byte) (int, error) {
	if k.left == 0 {
		return 0, io.EOF
	}
	n := min(k.left, len(p))
	k.left -= n
	return n, nil
}

func (k *kilobyte) Buffered() int {
	if k.left == 0 {
		return -1
	}
	return k.left
}
func (k *kilobyte) Trailers() proxy.Fields { return nil }
func (k *kilobyte) Close() error           { return nil }

func loopback(b *testing.B) *net.UDPConn {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func benchmarkLink(b *testing.B, clients int) {
	rt, err := task.New(task.Config{Loops: 1, Logger: proxytest.Logger(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer proxytest.Start(b, rt)()
	other := task.NewGoroutines(task.Config{Loops: 1, First: 1, Logger: proxytest.Logger(b)})
	defer proxytest.Start(b, other)()
	near, far := rt.Shards()[0], other.Shards()[0]
	ids := tlstest.Identities(b)
	api, web := ids("api"), ids("web")
	cfg := http3.Config{Pillion: true, Handler: proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
		resp.Status, resp.Length, resp.Body = 200, answerSize, &kilobyte{answerSize}
		return nil
	})}
	conn := loopback(b)
	tr := &quic.Transport{Conn: conn}
	defer tr.Close()
	ln, err := tr.Listen(h3TLS(api.ServerConfig()), cfg.QUIC())
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		q, err := ln.Accept(context.Background())
		if err == nil {
			_ = http3.NewServer(far, q, cfg).Serve()
		}
	}()
	d := New(Config{TLS: web.ClientConfig, HTTP3: http3.Config{Pillion: true}, Far: func(task.Shard) task.Shard { return far },
		Socket: func() (*net.UDPConn, error) { return loopback(b), nil }})
	p := pool.New(pool.Config{Shard: near, Dial: d.Dial})
	ep := &proxy.Endpoint{Addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Identity: api.Self(), Mesh: true}
	exchange := func(buf []byte) {
		req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "api", Path: "/", Shard: near, Cancel: new(proxy.Cancel),
			Service: proxy.Service{Name: "api"}}
		var resp proxy.Response
		if err := p.RoundTrip(ep, req, &resp); err != nil {
			b.Error(err)
			return
		}
		defer resp.Close()
		for {
			if _, err := resp.Body.Read(buf); err == io.EOF {
				return
			} else if err != nil {
				b.Error(err)
				return
			}
		}
	}
	proxytest.Do(b, near, func() { exchange(make([]byte, 2*answerSize)) })
	before := cpu(b)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var done []<-chan struct{}
	for range clients {
		done = append(done, proxytest.Go(near, func() {
			buf := make([]byte, 2*answerSize)
			for left.Add(-1) >= 0 {
				exchange(buf)
			}
		}))
	}
	for _, c := range done {
		<-c
	}
	report(b, before)
	proxytest.Do(b, near, p.Shutdown)
	d.Close()
	<-served
}

func h3TLS(c *tls.Config) *tls.Config {
	c.NextProtos = []string{http3.ALPN}
	return c
}

func benchmarkBare(b *testing.B, clients int) {
	ids := tlstest.Identities(b)
	api, web := ids("api"), ids("web")
	conn := loopback(b)
	tr := &quic.Transport{Conn: conn}
	defer tr.Close()
	ln, err := tr.Listen(h3TLS(api.ServerConfig()), nil)
	if err != nil {
		b.Fatal(err)
	}
	go serveBare(ln)
	client := &quic.Transport{Conn: loopback(b)}
	defer client.Close()
	q, err := client.Dial(b.Context(), conn.LocalAddr(), h3TLS(web.ClientConfig(api.Self())), nil)
	if err != nil {
		b.Fatal(err)
	}
	request := make([]byte, 64)
	exchange := func(buf []byte) error {
		st, err := q.OpenStreamSync(context.Background())
		if err != nil {
			return err
		}
		if _, err := st.Write(request); err != nil {
			return err
		}
		st.Close()
		for {
			if _, err := st.Read(buf); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	before := cpu(b)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			buf := make([]byte, 2*answerSize)
			for left.Add(-1) >= 0 {
				if err := exchange(buf); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	report(b, before)
	q.CloseWithError(0, "")
}

// serveBare answers every stream of one connection with 1 KiB.
func serveBare(ln *quic.Listener) {
	q, err := ln.Accept(context.Background())
	if err != nil {
		return
	}
	answer := make([]byte, answerSize)
	for {
		st, err := q.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(io.Discard, st)
			_, _ = st.Write(answer)
			st.Close()
		}()
	}
}
