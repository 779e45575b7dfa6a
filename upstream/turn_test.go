package upstream

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// ending is a Stream to a service that ends its direction when the client has ended its own.
type ending struct {
	s    task.Shard
	gate task.Gate

	mu     sync.Mutex
	ended  int
	writes int
}

func (c *ending) Read([]byte) (int, error) {
	for {
		c.mu.Lock()
		over := c.ended > 0
		c.mu.Unlock()
		if over {
			return 0, io.EOF
		}
		c.gate.Wait(c.s.Now().Add(time.Minute))
	}
}
func (c *ending) WaitReadable() error { return nil }
func (c *ending) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	return len(p), nil
}
func (c *ending) CloseWrite() error {
	c.mu.Lock()
	c.ended++
	c.mu.Unlock()
	c.gate.Wake()
	return nil
}
func (c *ending) Close() error { return nil }
func (c *ending) Reset() error { return nil }

// A Stream that is old and quiet ends in order, and what its client still does harms nothing.
func TestStreamAge(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c := &ending{s: s}
		s.Gate(&c.gate)
		a := &apps{answer: func(_ *proxy.Request, resp *proxy.Response) { resp.Stream = c }}
		u, s := startService(rt, Service{StreamAge: 10 * time.Millisecond}, set(1), a)
		proxytest.Do(t, s, func() {
			var resp proxy.Response
			req := &proxy.Request{Method: "CONNECT", Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel)}
			if err := u.RoundTrip(req, &resp); err != nil {
				t.Error(err)
				return
			}
			st := resp.Stream
			if _, ok := st.(proxy.Waiter); !ok {
				t.Error("a Stream that was a Waiter is none any more")
			}
			if n, err := st.Write([]byte("x")); n != 1 || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
			if n := u.Health(s, "s")[0].Streams; n != 1 {
				t.Errorf("%d streams are open, want 1", n)
			}
			if _, err := st.Read(make([]byte, 1)); err != io.EOF { // waits for the age
				t.Errorf("read: %v, want the service's end", err)
			}
			if err := st.CloseWrite(); err != nil {
				t.Errorf("close: %v", err)
			}
			if _, err := st.Write([]byte("x")); err == nil {
				t.Error("a write after the end is taken")
			}
			resp.Close()
			if n := u.Health(s, "s")[0].Streams; n != 0 {
				t.Errorf("%d streams are open, want none", n)
			}
			if n := u.Stats(s, "s").Turned; n != 1 {
				t.Errorf("%d counted", n)
			}
		})
		if c.ended != 1 || c.writes != 1 {
			t.Errorf("the service saw %d ends and %d writes", c.ended, c.writes)
		}
	})
}

// A Stream that is over before its age is left alone, and so are those of a service without one.
func TestStreamAgeOfTheDead(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, age := range []time.Duration{0, time.Hour} {
			c := &ending{}
			a := &apps{answer: func(_ *proxy.Request, resp *proxy.Response) { resp.Stream = c }}
			u, s := startService(rt, Service{StreamAge: age}, set(1), a)
			proxytest.Do(t, s, func() {
				var resp proxy.Response
				req := &proxy.Request{Method: "CONNECT", Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel)}
				if err := u.RoundTrip(req, &resp); err != nil {
					t.Error(err)
				}
				if _, bare := resp.Stream.(*ending); bare != (age == 0) {
					t.Errorf("age %v: the stream is %T", age, resp.Stream)
				}
				resp.Close()
				if n := u.Stats(s, "s").Turned; n != 0 || c.ended != 0 {
					t.Errorf("age %v: %d counted, %d ends", age, n, c.ended)
				}
			})
		}
	})
}
