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
	free    atomic.Int32
	leaving atomic.Bool
	silent  atomic.Bool
	closed  func(Link)
	changed func(Link)
	shut    atomic.Bool
	answer  func(*proxy.Request) error
}

func (l *fakeLink) RoundTrip(req *proxy.Request, _ *proxy.Response) error {
	if l.answer == nil {
		return nil
	}
	return l.answer(req)
}
func (l *fakeLink) AvailableLocked() int {
	if l.silent.Load() {
		return 0
	}
	return int(l.free.Load())
}
func (l *fakeLink) LeavingLocked() bool  { return l.leaving.Load() }
func (l *fakeLink) DoubtfulLocked() bool { return l.silent.Load() }
func (l *fakeLink) Shutdown()            { l.leave(); l.shut.Store(true) }
func (l *fakeLink) Close()               { l.leave(); l.closed(l) }

func (l *fakeLink) leave() {
	l.free.Store(0)
	l.leaving.Store(true)
}

// dialer makes fakeLinks after a pause, or fails.
type dialer struct {
	mu    sync.Mutex
	dials int
	err   error
	pause time.Duration
	made  []*fakeLink
	room  int32
	setUp func(n int, l *fakeLink) // of the n-th link
}

func (d *dialer) dial(s task.Shard, ep *proxy.Endpoint, closed, changed func(Link)) (Link, error) {
	s.Sleep(d.pause)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials++
	if d.err != nil {
		return nil, d.err
	}
	l := &fakeLink{closed: closed, changed: changed}
	l.free.Store(d.room)
	d.made = append(d.made, l)
	if d.setUp != nil {
		d.setUp(len(d.made), l)
	}
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
		until := func(at task.Instant) { // so that a slow machine is not too late
			s.Lock()
			p.peer(&endpoint).until = at
			s.Unlock()
		}
		proxytest.Do(t, s, func() {
			until(s.Now().Add(time.Hour))
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
			until(s.Now())
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

func TestLinksThatLeaveMakeRoom(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{}
		p := newPool(s, d)
		proxytest.Do(t, s, func() {
			for i := range 12 { // more than MaxLinks: each has a long stream when its peer says GOAWAY
				l, err := p.Get(&endpoint, request(s))
				if err != nil {
					t.Errorf("link %d: %v", i, err)
					return
				}
				l.(*fakeLink).leave()
				l.(*fakeLink).changed(l)
			}
		})
	})
}

func TestLinkThatEndsAtOnceIsAFailure(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{setUp: func(_ int, l *fakeLink) { s.Post(l.Close) }}
		dial := func(s task.Shard, ep *proxy.Endpoint, closed, changed func(Link)) (Link, error) {
			l, err := d.dial(s, ep, closed, changed)
			s.Sleep(10 * time.Millisecond) // the end comes before the dial is over
			return l, err
		}
		p := New(Config{Shard: s, Dial: dial})
		proxytest.Do(t, s, func() {
			for range 3 { // once might have been a peer that stops
				var e *proxy.Error
				if _, err := p.Get(&endpoint, request(s)); !errors.As(err, &e) || e.Code != proxy.ConnectFailed || !e.Unsent {
					t.Errorf("got %v, want connect_failed", err)
				}
			}
			p.Each(func(_ *proxy.Endpoint, l Link) { t.Error("an ended link is kept") })
		})
		if d.count() != 2 {
			t.Errorf("%d dials, want two and then a backoff", d.count())
		}
	})
}

// A Link that is going away as soon as it is made, as of a peer that stops, is followed by another.
func TestLinkThatLeavesAtOnceIsReplaced(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{setUp: func(n int, l *fakeLink) {
			if n == 1 {
				l.leave()
			}
		}}
		p := newPool(s, d)
		proxytest.Do(t, s, func() {
			if l, err := p.Get(&endpoint, request(s)); err != nil || l != Link(d.made[1]) {
				t.Errorf("got %v, %v, want the second link", l, err)
			}
		})
	})
}

// watcher is who was registered with a Cancel before.
type watcher struct{ told atomic.Int32 }

func (w *watcher) Canceled(error) { w.told.Add(1) }

// A wait for a Link leaves the Cancel as it was, and passes its event on meanwhile.
func TestWaitKeepsTheWatcher(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		p := newPool(s, &dialer{pause: 20 * time.Millisecond})
		var before watcher
		proxytest.Do(t, s, func() {
			req := request(s)
			_, _ = req.Cancel.Watch(&before)
			_, _ = p.Get(&endpoint, req)
			req.Cancel.Cancel(errors.New("left"))
		})
		if before.told.Load() != 1 {
			t.Errorf("after the wait: told %d times, want once", before.told.Load())
		}
		p = newPool(s, &dialer{pause: time.Hour}) // the end of the runtime ends this dial
		req := request(s)
		_, _ = req.Cancel.Watch(&before)
		waiting := proxytest.Go(s, func() { _, _ = p.Get(&endpoint, req) })
		proxytest.Eventually(t, "the request waits", func() bool {
			n := 0
			proxytest.Call(t, s, func() {
				s.Lock()
				defer s.Unlock()
				n = len(p.peer(&endpoint).waiters)
			})
			return n == 1
		})
		proxytest.Call(t, s, func() { req.Cancel.Cancel(errors.New("left")) })
		proxytest.Wait(t, waiting)
		if before.told.Load() != 2 {
			t.Errorf("during the wait: told %d times, want once more", before.told.Load())
		}
	})
}

// A refused certificate is asked about less often than a peer that is down.
func TestBackoffFollowsTheFailure(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for _, c := range []struct {
			code        proxy.Code
			least, most time.Duration
		}{{proxy.ConnectFailed, time.Second / 2, time.Second}, {proxy.BadIdentity, 5 * time.Second / 2, 5 * time.Second}} {
			proxytest.Do(t, s, func() {
				pr := newPool(s, &dialer{}).peer(&endpoint)
				before := s.Now()
				for range 20 {
					pr.failed(&proxy.Error{Code: c.code})
				}
				if d := pr.until.Sub(before); d < c.least || d > c.most+s.Now().Sub(before) {
					t.Errorf("%s: the pause is %v, want %v to %v", c.code, d, c.least, c.most)
				}
			})
		}
	})
}

// A request that was woken for a stream and leaves instead must not take the stream's news with it.
func TestWokenButGone(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{room: 1}
		p := New(Config{Shard: s, Dial: d.dial, MaxLinks: 1})
		proxytest.Do(t, s, func() { _, _ = p.Get(&endpoint, request(s)) })
		d.made[0].free.Store(0)
		gone := request(s)
		first := proxytest.Go(s, func() { _, _ = p.Get(&endpoint, gone) })
		proxytest.Do(t, s, func() { s.Sleep(5 * time.Millisecond) })
		second := proxytest.Go(s, func() {
			if _, err := p.Get(&endpoint, request(s)); err != nil {
				t.Errorf("the second waiter: %v", err)
			}
		})
		proxytest.Do(t, s, func() { s.Sleep(5 * time.Millisecond) })
		proxytest.Call(t, s, func() {
			d.made[0].free.Store(1)
			d.made[0].changed(d.made[0])
			gone.Cancel.Cancel(errors.New("left"))
		})
		proxytest.Wait(t, first)
		proxytest.Wait(t, second)
	})
}

// Streams that become free one by one, with a word only about the first.
func TestNobodyIsForgotten(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{room: 1}
		p := New(Config{Shard: s, Dial: d.dial, MaxLinks: 1, Timeout: 5 * time.Second})
		proxytest.Do(t, s, func() { _, _ = p.Get(&endpoint, request(s)) })
		l := d.made[0]
		l.free.Store(0)
		var done []<-chan struct{}
		for range 5 {
			done = append(done, proxytest.Go(s, func() {
				if _, err := p.Get(&endpoint, request(s)); err != nil {
					t.Error(err)
				}
			}))
		}
		proxytest.Do(t, s, func() { s.Sleep(10 * time.Millisecond) })
		proxytest.Call(t, s, func() {
			l.free.Store(1)
			l.changed(l)
			l.free.Store(5)
		})
		for _, c := range done {
			proxytest.Wait(t, c)
		}
	})
}

func TestFullLinkIsReplacedAndRefusalsRepeated(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		goneAway := error(&proxy.Error{Code: proxy.Refused, Unsent: true})
		for _, c := range []struct {
			what string
			err  error
			body proxy.Body
			want error
			dial int
		}{
			{"full after all, with a body", proxy.ErrNoStream, noBody{}, nil, 2},
			{"over for another reason, with a body", &proxy.Error{Code: proxy.Refused, Unsent: true, Err: proxy.ErrNoStream}, noBody{}, nil, 2},
			{"going away", goneAway, nil, nil, 2},
			{"going away, with a body that may have been read", goneAway, noBody{}, goneAway, 1},
		} {
			d := &dialer{setUp: func(n int, l *fakeLink) {
				if n == 1 {
					l.answer = func(*proxy.Request) error {
						l.leave()
						return c.err
					}
				}
			}}
			p := newPool(s, d)
			proxytest.Do(t, s, func() {
				req := request(s)
				req.Body = c.body
				if err := p.RoundTrip(&endpoint, req, new(proxy.Response)); err != c.want || d.count() != c.dial {
					t.Errorf("%s: got %v after %d dials, want %v after %d", c.what, err, d.count(), c.want, c.dial)
				}
			})
		}
		// A peer that refuses everything is not asked for ever.
		asked := 0
		d := &dialer{setUp: func(_ int, l *fakeLink) { l.answer = func(*proxy.Request) error { asked++; return goneAway } }}
		p := newPool(s, d)
		proxytest.Do(t, s, func() {
			if err := p.RoundTrip(&endpoint, request(s), new(proxy.Response)); err != goneAway || asked != 1+maxRefused {
				t.Errorf("got %v after %d refusals", err, asked)
			}
		})
	})
}

type noBody struct{ proxy.Body }

func TestGetAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		p := newPool(s, &dialer{})
		proxytest.Do(t, s, func() {
			req, resp := request(s), new(proxy.Response)
			_ = p.RoundTrip(&endpoint, req, resp)
			if n := proxytest.Allocs(100, func() { _ = p.RoundTrip(&endpoint, req, resp) }); n != 0 {
				t.Errorf("%v allocations for a request on an open link, want 0", n)
			}
		})
	})
}

// A Link that does not answer is no reason not to dial, however many there are; and who can go elsewhere hears of it.
func TestSilentLinks(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := &dialer{}
		p := New(Config{Shard: s, Dial: d.dial, MaxLinks: 1})
		d.room = 1
		silent := func() (is bool) {
			proxytest.Do(t, s, func() { is = p.Silent(&endpoint) })
			return is
		}
		if silent() {
			t.Error("a peer without links is called silent")
		}
		proxytest.Do(t, s, func() { _, _ = p.Get(&endpoint, request(s)) })
		d.made[0].free.Store(0)
		if silent() {
			t.Error("a full link is called silent")
		}
		d.made[0].silent.Store(true)
		if !silent() {
			t.Error("a link that does not answer is not called silent")
		}
		proxytest.Eventually(t, "another link is made", func() bool { return !silent() })
		var l Link
		var err error
		proxytest.Do(t, s, func() { l, err = p.Get(&endpoint, request(s)) })
		if err != nil || l != d.made[1] {
			t.Errorf("got %v, %v; want the second link", l, err)
		}
	})
}

// RFC 9113 section 8.3.1: an http request needs an authority. A peer that is no pillion gets the service's name where the app said none.
func TestAuthorityForOthers(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for _, c := range []struct {
			said    string
			pillion bool
			want    string
		}{{"", false, "db:5432"}, {"db", false, "db"}, {"", true, ""}} {
			a := &Addresser{Shard: s, Pillion: c.pillion}
			req := request(s)
			req.Method, req.Service, req.Authority = "GET", proxy.Service{Name: "db", Port: 5432}, c.said
			proxytest.Do(t, s, func() {
				_ = a.RoundTrip(proxy.RoundTripperFunc(func(req *proxy.Request, _ *proxy.Response) error {
					if req.Authority != c.want {
						t.Errorf("%q to a pillion %v: authority %q, want %q", c.said, c.pillion, req.Authority, c.want)
					}
					return nil
				}), req, new(proxy.Response))
			})
			if req.Authority != c.said {
				t.Errorf("the request is left with authority %q, want %q", req.Authority, c.said)
			}
		}
	})
}
