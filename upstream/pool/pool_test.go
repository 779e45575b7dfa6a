package pool

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// fakeLink has a fixed number of streams.
type fakeLink struct {
	free   atomic.Int32
	closed func(Link)
	shut   atomic.Bool
}

func (l *fakeLink) RoundTrip(*proxy.Request, *proxy.Response) error { return nil }
func (l *fakeLink) AvailableLocked() int                            { return int(l.free.Load()) }
func (l *fakeLink) Shutdown()                                       { l.free.Store(0); l.shut.Store(true) }
func (l *fakeLink) Close()                                          { l.free.Store(0); l.closed(l) }

// dialer makes fakeLinks after a pause, or fails.
type dialer struct {
	mu    sync.Mutex
	dials int
	err   error
	pause time.Duration
	made  []*fakeLink
	room  int32
}

func (d *dialer) dial(s task.Shard, ep *proxy.Endpoint, closed, changed func(Link)) (Link, error) {
	s.Sleep(d.pause)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials++
	if d.err != nil {
		return nil, d.err
	}
	l := &fakeLink{closed: closed}
	l.free.Store(d.room)
	d.made = append(d.made, l)
	return l, nil
}

func (d *dialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials
}

func newPool(s task.Shard, d *dialer) *Pool {
	if d.room == 0 {
		d.room = 1 << 20
	}
	return New(Config{Shard: s, Dial: d.dial})
}

func request(s task.Shard) *proxy.Request { return &proxy.Request{Shard: s, Cancel: new(proxy.Cancel)} }

var endpoint = proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:15008"), Identity: "spiffe://t/a", Mesh: true}

func TestOneDialForManyRequests(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{pause: 20 * time.Millisecond}
		p := newPool(s, d)
		var got atomic.Int32
		var done []<-chan struct{}
		for range 100 {
			done = append(done, proxytest.Go(s, func() {
				if l, err := p.Get(&endpoint, request(s)); err == nil && l != nil {
					got.Add(1)
				}
			}))
		}
		for _, c := range done {
			proxytest.Wait(t, c)
		}
		if got.Load() != 100 || d.count() != 1 {
			t.Errorf("%d of 100 requests got a link, with %d dials; want 100 with 1", got.Load(), d.count())
		}
		other := endpoint
		other.Identity = "spiffe://t/b"
		proxytest.Do(t, s, func() { _, _ = p.Get(&other, request(s)) })
		if d.count() != 2 {
			t.Errorf("another identity at the same address shared the link")
		}
	})
}

func TestFailureReachesEveryWaiterThenBacksOff(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{pause: 10 * time.Millisecond, err: errors.New("no route")}
		p := newPool(s, d)
		var failed atomic.Int32
		var done []<-chan struct{}
		for range 10 {
			done = append(done, proxytest.Go(s, func() {
				_, err := p.Get(&endpoint, request(s))
				var e *proxy.Error
				if errors.As(err, &e) && e.Code == proxy.ConnectFailed && e.Unsent && strings.Contains(err.Error(), "no route") {
					failed.Add(1)
				}
			}))
		}
		for _, c := range done {
			proxytest.Wait(t, c)
		}
		if failed.Load() != 10 || d.count() != 1 {
			t.Errorf("%d of 10 got the error of %d dials, want 10 and 1", failed.Load(), d.count())
		}
		// Within the backoff nobody dials; after it somebody does, and recovery is complete.
		proxytest.Do(t, s, func() {
			if _, err := p.Get(&endpoint, request(s)); err == nil {
				t.Error("a link came from nowhere")
			}
		})
		if d.count() != 1 {
			t.Errorf("%d dials within the backoff, want none more", d.count())
		}
		d.mu.Lock()
		d.err = nil
		d.mu.Unlock()
		proxytest.Do(t, s, func() {
			s.Sleep(firstBackoff + 10*time.Millisecond)
			if _, err := p.Get(&endpoint, request(s)); err != nil {
				t.Errorf("after the backoff: %v", err)
			}
		})
	})
}

func TestCancelAndDeadlineEndTheWait(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{pause: 300 * time.Millisecond}
		p := newPool(s, d)
		code := func(err error) proxy.Code {
			var e *proxy.Error
			errors.As(err, &e)
			return e.Code
		}
		gone := request(s)
		c1 := proxytest.Go(s, func() {
			if _, err := p.Get(&endpoint, gone); code(err) != proxy.ClientGone {
				t.Errorf("cancelled: got %v", err)
			}
		})
		late := request(s)
		late.Deadline = s.Now().Add(30 * time.Millisecond)
		c2 := proxytest.Go(s, func() {
			if _, err := p.Get(&endpoint, late); code(err) != proxy.Timeout {
				t.Errorf("late: got %v", err)
			}
		})
		proxytest.Do(t, s, func() { s.Sleep(20 * time.Millisecond) })
		proxytest.Call(t, s, func() { gone.Cancel.Cancel(errors.New("client left")) })
		proxytest.Wait(t, c1)
		proxytest.Wait(t, c2)
		if d.count() != 0 {
			t.Error("the waits lasted as long as the dial")
		}
	})
}

func TestFullLinkGetsASibling(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{room: 1}
		p := newPool(s, d)
		proxytest.Do(t, s, func() {
			for i := range 4 {
				l, err := p.Get(&endpoint, request(s))
				if err != nil {
					t.Errorf("link %d: %v", i, err)
					return
				}
				l.(*fakeLink).free.Store(0)
			}
			req := request(s)
			req.Deadline = s.Now().Add(20 * time.Millisecond)
			if _, err := p.Get(&endpoint, req); err == nil {
				t.Error("a fifth link was made, want at most 4")
			}
		})
		// A stream that ends lets a waiter in, and a link that ends lets a new one be made.
		waiting := proxytest.Go(s, func() {
			if _, err := p.Get(&endpoint, request(s)); err != nil {
				t.Errorf("waiter: %v", err)
			}
		})
		proxytest.Do(t, s, func() { s.Sleep(10 * time.Millisecond) })
		proxytest.Call(t, s, func() { d.made[0].Close() })
		proxytest.Wait(t, waiting)
		if d.count() != 5 {
			t.Errorf("%d dials, want 5", d.count())
		}
	})
}

func TestShutdown(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{}
		p := newPool(s, d)
		proxytest.Do(t, s, func() {
			if _, err := p.Get(&endpoint, request(s)); err != nil {
				t.Error(err)
			}
			n := 0
			p.Each(func(*proxy.Endpoint, Link) { n++ })
			p.Shutdown()
			_, err := p.Get(&endpoint, request(s))
			var e *proxy.Error
			if !errors.As(err, &e) || e.Code != proxy.Draining || n != 1 {
				t.Errorf("got %v and %d links, want draining and 1", err, n)
			}
		})
		if !d.made[0].shut.Load() {
			t.Error("the link was not told")
		}
	})
}
