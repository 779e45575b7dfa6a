package bridge

import (
	"io"
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// endless is a Body that has always more, in pieces of whatever size is asked for, or of piece bytes.
type endless struct {
	piece int
	read  atomic.Int64
	over  atomic.Bool
}

func (e *endless) Read(p []byte) (int, error) {
	if e.over.Load() {
		return 0, io.EOF
	}
	n := len(p)
	if e.piece > 0 {
		n = min(n, e.piece)
	}
	e.read.Add(int64(n))
	return n, nil
}

func (e *endless) Buffered() int          { return max(e.piece, 1) }
func (e *endless) Trailers() proxy.Fields { return nil }
func (e *endless) Close() error           { return nil }

// writerWaits reports whether the writer of p waits for room.
func writerWaits(p *pipe) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writer.waiting
}

// TestSlowReadersHoldWritersBack: what nobody reads is not fetched, whichever side it comes from and in whatever pieces; once somebody reads, it goes on.
func TestSlowReadersHoldWritersBack(t *testing.T) {
	const most = maxPipe + 2*task.BufferSize
	for name, piece := range map[string]int{"large pieces": 0, "small pieces": 113} {
		t.Run(name+" of an answer", func(t *testing.T) {
			both(t, func(t *testing.T, near, far task.Shard) {
				body := &endless{piece: piece}
				b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
					resp.Status, resp.Length, resp.Body = 200, proxy.Unknown, body
					return nil
				}))
				var resp proxy.Response
				proxytest.Do(t, near, func() {
					if err := b.RoundTrip(request(near), &resp); err != nil {
						t.Fatal(err)
					}
				})
				down := resp.Body.(*pipe)
				proxytest.Eventually(t, "the far side waits", func() bool { return writerWaits(down) })
				if n := body.read.Load(); n > most {
					t.Errorf("%d bytes were fetched that nobody reads; want %d at most", n, most)
				}
				proxytest.Do(t, near, func() {
					if _, err := io.CopyN(io.Discard, resp.Body, 3*most); err != nil {
						t.Error(err)
					}
				})
				proxytest.Eventually(t, "the far side waits again", func() bool { return writerWaits(down) })
				if n := body.read.Load(); n > 4*most {
					t.Errorf("%d bytes were fetched, of which %d were read; want %d more at most", n, 3*most, most)
				}
				proxytest.Do(t, near, func() { resp.Close() })
				proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
			})
		})
		t.Run(name+" of a request", func(t *testing.T) {
			both(t, func(t *testing.T, near, far task.Shard) {
				body := &endless{piece: piece}
				b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
					if _, err := io.CopyN(io.Discard, req.Body, most); err != nil { // it has been asked for
						t.Error(err)
					}
					proxytest.Eventually(t, "the near side waits", func() bool { return writerWaits(req.Body.(*pipe)) })
					if n := body.read.Load(); n > 2*most {
						t.Errorf("%d bytes were fetched, of which %d were read; want %d more at most", n, most, most)
					}
					body.over.Store(true)
					if _, err := io.Copy(io.Discard, req.Body); err != nil {
						t.Error(err)
					}
					resp.Status = 204
					return nil
				}))
				proxytest.Do(t, near, func() {
					req := request(near)
					req.Length, req.Body = proxy.Unknown, body
					var resp proxy.Response
					if err := b.RoundTrip(req, &resp); err != nil || resp.Status != 204 {
						t.Errorf("got %d, %v", resp.Status, err)
					}
					resp.Close()
				})
				proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
			})
		})
	}
}

// TestAnswerBeforeTheRequestIsRead: an answer that is complete ends a request of which nobody wants the rest, and whoever sent that is let go.
func TestAnswerBeforeTheRequestIsRead(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		body := &endless{}
		b := New(near, far, proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			if _, err := io.CopyN(io.Discard, req.Body, 2*task.BufferSize); err != nil { // more than comes with the head
				t.Error(err)
			}
			proxytest.Eventually(t, "the near side waits", func() bool { return writerWaits(req.Body.(*pipe)) })
			resp.Status, resp.Length, resp.Body = 413, 3, &content{pieces: []string{"no."}}
			return nil
		}))
		proxytest.Do(t, near, func() {
			req := request(near)
			req.Length, req.Body = proxy.Unknown, body
			var resp proxy.Response
			if err := b.RoundTrip(req, &resp); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(resp.Body); resp.Status != 413 || string(got) != "no." || err != nil {
				t.Errorf("got %d %q, %v", resp.Status, got, err)
			}
			resp.Close()
		})
		proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
	})
}
