package http2

import (
	"io"
	"net"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// memoryEnd is one end of a connection in memory: a Transport without system calls.
type memoryEnd struct {
	peer *memoryEnd
	in   []byte // pushed by peer and unread
	gate task.Gate
	over bool
}

func memoryPair(s task.Shard) (a, b *memoryEnd) {
	a, b = new(memoryEnd), new(memoryEnd)
	a.peer, b.peer = b, a
	s.Gate(&a.gate)
	s.Gate(&b.gate)
	return a, b
}

func (e *memoryEnd) Read(p []byte) (int, error) {
	for len(e.in) == 0 {
		if e.over {
			return 0, io.EOF
		}
		e.gate.Wait(0)
	}
	n := copy(p, e.in)
	e.in = e.in[:copy(e.in, e.in[n:])]
	return n, nil
}

func (e *memoryEnd) Push(p []byte) error {
	e.peer.in = append(e.peer.in, p...)
	e.peer.gate.Wake()
	return nil
}

func (e *memoryEnd) Close() error {
	e.over, e.peer.over = true, true
	e.gate.Wake()
	e.peer.gate.Wake()
	return nil
}

func (e *memoryEnd) Queued() int              { return 0 }
func (e *memoryEnd) OnDrain(func())           {}
func (e *memoryEnd) Reset() error             { return e.Close() }
func (e *memoryEnd) SetDeadline(task.Instant) {}
func (e *memoryEnd) LocalAddr() net.Addr      { return &net.TCPAddr{} }
func (e *memoryEnd) RemoteAddr() net.Addr     { return &net.TCPAddr{} }

// BenchmarkMemory is what both ends of a link cost in user space: 26 exchanges at a time, as between two sidecars under load, without a system call.
func BenchmarkMemory(b *testing.B) {
	rt, err := task.New(task.Config{Loops: 1})
	if err != nil {
		b.Fatal(err)
	}
	stop := proxytest.Start(b, rt)
	defer stop()
	s := rt.Shards()[0]
	b.ReportAllocs()
	proxytest.Do(b, s, func() {
		x, y := memoryPair(s)
		bodies := make(chan *fixed, 64)
		answer := make([]byte, 1024)
		server := NewServer(s, x, Config{Pillion: true, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			var body *fixed
			select {
			case body = <-bodies:
			default:
				body = &fixed{p: answer}
			}
			body.i = 0
			resp.Status, resp.Reason, resp.Length, resp.Body, resp.Took, resp.AppTook = 200, "OK", 1024, body, 123456, 65432
			resp.Fields = append(resp.Fields, proxy.Field{Name: "Server", Value: "bench"}, proxy.Field{Name: "Content-Type", Value: "text/plain"},
				proxy.Field{Name: "Content-Length", Value: "1024"})
			bodies <- body
			return nil
		})})
		client := NewClient(s, y, Config{Pillion: true})
		s.Go(func() { _ = server.Serve(nil) })
		s.Go(func() { _ = client.Serve(nil) })
		if err := client.WaitReady(0); err != nil {
			b.Error(err)
		}
		left, running := b.N, 26
		var all task.Gate
		s.Gate(&all)
		b.ResetTimer()
		for range running {
			s.Go(func() {
				memoryExchanges(b, s, client, &left)
				if running--; running == 0 {
					all.Wake()
				}
			})
		}
		all.Wait(0)
		b.StopTimer()
		client.Close()
		server.Close()
	})
}

func memoryExchanges(b *testing.B, s task.Shard, client *Conn, left *int) {
	req := proxy.Request{Method: "GET", Scheme: "http", Authority: "127.0.0.1:15001", Path: "/", Cancel: new(proxy.Cancel), Shard: s, Fields: proxy.Fields{
		{Name: "Host", Value: "127.0.0.1:15001"}, {Name: "User-Agent", Value: "pillion-bench"}, {Name: "Accept", Value: "*/*"}, {Name: "Pillion-To", Value: "app"}}}
	var resp proxy.Response
	p := make([]byte, 4096)
	for ; *left > 0; *left-- {
		if err := client.RoundTrip(&req, &resp); err != nil {
			b.Error(err)
			return
		}
		for resp.Body.Buffered() >= 0 {
			if _, err := resp.Body.Read(p); err != nil {
				break
			}
		}
		resp.Close()
	}
}
