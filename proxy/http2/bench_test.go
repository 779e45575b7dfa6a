package http2

import (
	"io"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// fixed is content that can be read again.
type fixed struct {
	p []byte
	i int
}

func (b *fixed) Read(p []byte) (int, error) {
	if b.i == len(b.p) {
		return 0, io.EOF
	}
	n := copy(p, b.p[b.i:])
	b.i += n
	return n, nil
}

func (b *fixed) Buffered() int {
	if b.i == len(b.p) {
		return -1
	}
	return len(b.p) - b.i
}
func (b *fixed) Trailers() proxy.Fields { return nil }
func (b *fixed) Close() error           { return nil }

// pingPong returns a function that carries out one exchange with an answer of 1 KiB over l.
func pingPong(t testing.TB, l **link, s task.Shard, fields ...proxy.Field) func() {
	answer := make([]byte, 1024)
	server := &fixed{p: answer}
	h := handler(func(req *proxy.Request, resp *proxy.Response) error {
		resp.Status, resp.Length = 200, int64(len(answer))
		resp.Fields = append(resp.Fields, proxy.Field{Name: "Content-Type", Value: "text/plain"}, proxy.Field{Name: "Server", Value: "app"})
		server.i = 0
		resp.Body = server
		return nil
	})
	*l = newLink(t, s, Config{Handler: h}, Config{})
	client := (*l).client
	cancel := new(proxy.Cancel)
	var resp proxy.Response
	p := make([]byte, 4096)
	req := proxy.Request{Method: "GET", Scheme: "http", Authority: "orders:8080", Path: "/orders/17", Cancel: cancel, Shard: s,
		Fields: append(proxy.Fields{{Name: "Accept", Value: "*/*"}, {Name: "User-Agent", Value: "bench"}, {Name: "X-Kind", Value: "steady"}}, fields...)}
	return func() {
		if err := client.RoundTrip(&req, &resp); err != nil {
			t.Error(err)
			return
		}
		for {
			n, err := resp.Body.Read(p)
			if err == io.EOF {
				break
			}
			if err != nil || n == 0 {
				t.Error(err)
				break
			}
		}
		resp.Close()
	}
}

func BenchmarkExchange(b *testing.B) {
	eachRuntime(b, func(b *testing.B, s task.Shard) {
		var l *link
		one := pingPong(b, &l, s)
		defer l.close()
		l.do(func() {
			for range 10 {
				one()
			}
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
	})
}

// BenchmarkPlain is the baseline: the same number of bytes to and fro without HTTP/2.
func BenchmarkPlain(b *testing.B) {
	eachRuntime(b, func(b *testing.B, s task.Shard) {
		x, y := plainPair(b, s)
		done := proxytest.Go(s, func() {
			p := make([]byte, 2048)
			for {
				if _, err := y.Read(p); err != nil {
					return
				}
				if err := y.Push(p[:1060]); err != nil {
					return
				}
			}
		})
		proxytest.Do(b, s, func() {
			p := make([]byte, 2048)
			b.ReportAllocs()
			for b.Loop() {
				x.Push(p[:40])
				for n := 0; n < 1060; {
					m, err := x.Read(p)
					if err != nil {
						b.Error(err)
						return
					}
					n += m
				}
			}
			x.Close()
		})
		proxytest.Wait(b, done)
	})
}

// BenchmarkParallel has 64 exchanges at a time on one connection.
func BenchmarkParallel(b *testing.B) {
	eachRuntime(b, func(b *testing.B, s task.Shard) {
		answer := make([]byte, 1024)
		l := newLink(b, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, 1024, &fixed{p: answer}
			return nil
		})}, Config{})
		defer l.close()
		b.ReportAllocs()
		left := b.N
		var tasks []<-chan struct{}
		for range 64 {
			tasks = append(tasks, proxytest.Go(s, func() {
				req := get("/orders/17")
				var resp proxy.Response
				p := make([]byte, 4096)
				for {
					s.Lock()
					left--
					over := left < 0
					s.Unlock()
					if over {
						return
					}
					if err := l.client.RoundTrip(req, &resp); err != nil {
						b.Error(err)
						return
					}
					for {
						if _, err := resp.Body.Read(p); err != nil {
							break
						}
					}
					resp.Close()
				}
			}))
		}
		for _, done := range tasks {
			<-done
		}
	})
}

// BenchmarkBulk sends answers of 1 MiB.
func BenchmarkBulk(b *testing.B) {
	eachRuntime(b, func(b *testing.B, s task.Shard) {
		const size = 1 << 20
		answer := make([]byte, size)
		l := newLink(b, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, size, &fixed{p: answer}
			return nil
		})}, Config{})
		defer l.close()
		l.do(func() {
			req := get("/")
			var resp proxy.Response
			p := make([]byte, 16<<10)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.client.RoundTrip(req, &resp); err != nil {
					b.Error(err)
					return
				}
				for {
					if _, err := resp.Body.Read(p); err != nil {
						break
					}
				}
				resp.Close()
			}
		})
	})
}

func plainPair(b *testing.B, s task.Shard) (x, y task.Conn) {
	nx, ny := proxytest.NetPair(b, "tcp", "127.0.0.1:0")
	proxytest.Call(b, s, func() { x, y = adopt(b, s, nx), adopt(b, s, ny) })
	return x, y
}

func eachRuntime(b *testing.B, f func(b *testing.B, s task.Shard)) {
	for name, make := range map[string]func(task.Config) (task.Runtime, error){
		"loops":      task.New,
		"goroutines": func(c task.Config) (task.Runtime, error) { return task.NewGoroutines(c), nil },
	} {
		b.Run(name, func(b *testing.B) {
			rt, err := make(task.Config{Loops: 1})
			if err != nil {
				b.Fatal(err)
			}
			stop := proxytest.Start(b, rt)
			f(b, rt.Shards()[0])
			stop()
		})
	}
}
