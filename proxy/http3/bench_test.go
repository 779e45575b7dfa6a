package http3

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// The goal is no more than 1.3 times BenchmarkQUIC on the same work.

const bulk = 8 << 20 // bytes

// zeros is a body of n bytes of nothing.
type zeros struct{ n int }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.n)
	z.n -= n
	return n, nil
}

func (z *zeros) Buffered() int {
	if z.n == 0 {
		return -1
	}
	return z.n
}
func (z *zeros) Trailers() proxy.Fields { return nil }
func (z *zeros) Close() error           { return nil }

var sizes = []int{0, 1000, bulk}

func BenchmarkHTTP3(b *testing.B) {
	for _, size := range sizes {
		for _, clients := range []int{1, 64} {
			if size == bulk && clients > 1 {
				continue
			}
			b.Run(fmt.Sprintf("size=%d/clients=%d", size, clients), func(b *testing.B) {
				rt := task.NewGoroutines(task.Config{Loops: 1, Logger: proxytest.Logger(b)})
				defer proxytest.Start(b, rt)()
				l := newLink(b, rt.Shards()[0], Config{Pillion: true, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
					resp.Status, resp.Length = 200, int64(size)
					resp.Fields = append(resp.Fields, proxy.Field{Name: "Content-Type", Value: "text/plain"}, proxy.Field{Name: "Server", Value: "x"})
					if size > 0 {
						resp.Body = &zeros{size}
					}
					return nil
				})}, Config{Pillion: true})
				defer l.close()
				if err := l.client.WaitReady(0); err != nil {
					b.Fatal(err)
				}
				each(b, size, clients, func() error {
					req, resp := get("/some/path"), new(proxy.Response)
					req.Fields = proxy.Fields{{Name: "User-Agent", Value: "bench"}, {Name: "Accept", Value: "*/*"}}
					if err := l.client.RoundTrip(req, resp); err != nil {
						return err
					}
					defer resp.Close()
					if resp.Body == nil {
						return nil
					}
					buf := make([]byte, 16<<10)
					for {
						if _, err := resp.Body.Read(buf); err == io.EOF {
							return nil
						} else if err != nil {
							return err
						}
					}
				})
			})
		}
	}
}

// each calls f by so many clients at once, until the benchmark has enough.
func each(b *testing.B, size, clients int, f func() error) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.SetParallelism(clients) // per processor; that is all the same for both
	if clients == 1 {
		for b.Loop() {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkQUIC is the baseline: the same bytes over streams of quic-go, without HTTP.
func BenchmarkQUIC(b *testing.B) {
	for _, size := range sizes {
		for _, clients := range []int{1, 64} {
			if size == bulk && clients > 1 {
				continue
			}
			b.Run(fmt.Sprintf("size=%d/clients=%d", size, clients), func(b *testing.B) {
				n := newNetwork(b, Config{}.QUIC())
				defer n.close()
				server, client := n.connect(Config{}.QUIC())
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						st, err := server.AcceptStream(context.Background())
						if err != nil {
							return
						}
						go answer(st, size)
					}
				}()
				request := make([]byte, 60)
				each(b, size, clients, func() error {
					st, err := client.OpenStreamSync(context.Background())
					if err != nil {
						return err
					}
					st.Write(request)
					st.Close()
					buf := make([]byte, 16<<10)
					for {
						if _, err := st.Read(buf); err == io.EOF {
							return nil
						} else if err != nil {
							return err
						}
					}
				})
				client.CloseWithError(0, "")
				server.CloseWithError(0, "")
				<-done
			})
		}
	}
}

func answer(st *quic.Stream, size int) {
	defer st.ReleaseStreamCredit()
	io.Copy(io.Discard, st)
	buf := make([]byte, 16<<10)
	n, _ := st.Write(buf[:min(60+size, len(buf))])
	for left := 60 + size - n; left > 0; left -= n {
		if n, _ = st.Write(buf[:min(left, len(buf))]); n == 0 {
			return
		}
	}
	st.Close()
}
