package bridge

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// starter is a RoundTripper that begins.
type starter struct {
	begin func(req *proxy.Request) (proxy.RoundTripper, error)
	whole atomic.Int32 // calls of RoundTrip
}

func (s *starter) Begin(req *proxy.Request) (proxy.RoundTripper, error) { return s.begin(req) }

func (s *starter) RoundTrip(_ *proxy.Request, resp *proxy.Response) error {
	s.whole.Add(1)
	resp.Status = 202
	return nil
}

// TestBeginner: a request without content is begun near, and ends far; others are for RoundTrip.
func TestBeginner(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		refused := errors.New("refused")
		var given *proxy.Request
		st := &starter{}
		st.begin = func(req *proxy.Request) (proxy.RoundTripper, error) {
			given = req
			switch req.Path {
			case "/refused":
				return nil, refused
			case "/whole":
				return nil, nil
			}
			return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				if req != given || req.Shard != far {
					t.Error("the rest got another request")
				}
				resp.Status = 201
				return nil
			}), nil
		}
		b := New(near, far, st)
		for _, c := range []struct {
			path   string
			body   proxy.Body
			status int
			err    error
		}{
			{"/begun", nil, 201, nil},
			{"/whole", nil, 202, nil},
			{"/content", &content{pieces: []string{"x"}}, 202, nil},
			{"/refused", nil, 0, refused},
		} {
			proxytest.Do(t, near, func() {
				req := request(near)
				req.Path, req.Body = c.path, c.body
				var resp proxy.Response
				if err := b.RoundTrip(req, &resp); err != c.err || resp.Status != c.status {
					t.Errorf("%s: got %d, %v, want %d, %v", c.path, resp.Status, err, c.status, c.err)
				}
				if c.err != nil {
					if before, _ := req.Cancel.Watch(nil); before != nil {
						t.Error("who was refused is still registered")
					}
				}
				resp.Close()
			})
		}
		if n := st.whole.Load(); n != 2 {
			t.Errorf("RoundTrip was called %d times, want twice", n)
		}
		proxytest.Eventually(t, "the exchanges are over", func() bool { return b.Running() == 0 })
	})
}

// TestClientLeavesWhatIsBegun: the request that was begun is cancelled, though its far half may not have started.
func TestClientLeavesWhatIsBegun(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		left := errors.New("left")
		var cause error
		told := make(chan struct{})
		st := &starter{}
		req := request(near)
		st.begin = func(begun *proxy.Request) (proxy.RoundTripper, error) {
			if _, err := begun.Cancel.Watch(canceled(func(err error) { cause = err; close(told) })); err != nil {
				t.Error(err)
			}
			near.Go(func() { req.Cancel.Cancel(left) })
			return proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error {
				<-told
				return cause
			}), nil
		}
		b := New(near, far, st)
		proxytest.Do(t, near, func() {
			var resp proxy.Response
			if err := b.RoundTrip(req, &resp); !errors.Is(err, left) {
				t.Errorf("got %v, want %v", err, left)
			}
		})
		if <-told; !errors.Is(cause, left) {
			t.Errorf("the request was cancelled with %v, want %v", cause, left)
		}
		proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
	})
}
