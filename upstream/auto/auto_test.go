package auto

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// fakeLink is a Link that says over what it is.
type fakeLink struct {
	t               proxy.Transport
	closed, changed func(pool.Link)
	shut, ended     atomic.Bool
}

func (l *fakeLink) RoundTrip(_ *proxy.Request, resp *proxy.Response) error {
	resp.Reason = string(l.t)
	return nil
}
func (l *fakeLink) AvailableLocked() int { return 1 }
func (l *fakeLink) LeavingLocked() bool  { return l.shut.Load() }
func (l *fakeLink) Shutdown()            { l.shut.Store(true) }
func (l *fakeLink) Close()               { l.ended.Store(true); l.closed(l) }

// way is how one transport behaves.
type way struct {
	t     proxy.Transport
	mu    sync.Mutex
	err   error
	hold  bool // until released
	dials int
	links []*fakeLink
}

func (w *way) set(err error, hold bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err, w.hold = err, hold
}

func (w *way) dial(s task.Shard, _ *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
	w.mu.Lock()
	w.dials++
	for w.hold {
		w.mu.Unlock()
		s.Sleep(time.Millisecond)
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	l := &fakeLink{t: w.t, closed: closed, changed: changed}
	w.links = append(w.links, l)
	return l, nil
}

func (w *way) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials
}

// ways is a Dialer over two ways of a test's making.
type ways struct {
	t         *testing.T
	s         task.Shard
	tcp, quic *way
	m         *Memory
	d         *Dialer
	clock     atomic.Int64 // added to the memory's time
	closed    atomic.Int32
	changed   atomic.Int32
}

var ep = proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:15008"), Identity: "spiffe://t/a", Mesh: true}

// each runs f on every runtime. The head start is so short that a test need not wait, or so long that it would fail.
func each(t *testing.T, start time.Duration, prefer proxy.Transport, f func(w *ways)) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		w := &ways{t: t, s: rt.Shards()[0], tcp: &way{t: proxy.TCP}, quic: &way{t: proxy.QUIC}, m: NewMemory()}
		w.m.now = func() time.Time { return time.Now().Add(time.Duration(w.clock.Load())) }
		w.d = New(Config{TCP: w.tcp.dial, QUIC: w.quic.dial, Prefer: prefer, Memory: w.m, HeadStart: start,
			Network: func(*proxy.Endpoint) string { return "home" }})
		f(w)
		w.tcp.set(errors.New("over"), false)
		w.quic.set(errors.New("over"), false)
	})
}

func (w *ways) dial() (l *Link, err error) {
	w.t.Helper()
	proxytest.Do(w.t, w.s, func() {
		var p pool.Link
		e := ep
		if p, err = w.d.Dial(w.s, &e, func(pool.Link) { w.closed.Add(1) }, func(pool.Link) { w.changed.Add(1) }); err == nil {
			l = p.(*Link)
		}
	})
	return l, err
}

// over is what the next request of l goes over.
func (w *ways) over(l *Link) (t proxy.Transport) {
	w.t.Helper()
	proxytest.Do(w.t, w.s, func() {
		var resp proxy.Response
		_ = l.RoundTrip(nil, &resp)
		t = proxy.Transport(resp.Reason)
	})
	return t
}

func (w *ways) mustDial(want proxy.Transport) *Link {
	w.t.Helper()
	l, err := w.dial()
	if err != nil {
		w.t.Fatal(err)
	}
	if got := w.over(l); got != want {
		w.t.Fatalf("the link goes over %s, want %s", got, want)
	}
	return l
}

func (w *ways) end(l *Link) { proxytest.Do(w.t, w.s, l.Close) }

// state is what is known, as "tcp works, quic fails".
func (w *ways) state() string {
	var all []string
	for _, p := range w.m.Paths() {
		for _, k := range p.Transports {
			all = append(all, fmt.Sprint(k.Transport, " ", k.State))
		}
	}
	return strings.Join(all, ", ")
}

func TestPreferredAlone(t *testing.T) {
	for _, c := range []struct{ prefer, other proxy.Transport }{{proxy.TCP, proxy.QUIC}, {proxy.QUIC, proxy.TCP}} {
		each(t, time.Hour, c.prefer, func(w *ways) {
			w.end(w.mustDial(c.prefer))
			if n := w.tcp.count() + w.quic.count(); n != 1 {
				t.Errorf("%d dials, want only the preferred one", n)
			}
		})
	}
}

// A transport that is slow has a rival after its head start, and loses to it; its own Link is closed when it comes.
func TestSecondWins(t *testing.T) {
	each(t, time.Millisecond, proxy.TCP, func(w *ways) {
		w.tcp.set(nil, true)
		l := w.mustDial(proxy.QUIC)
		w.tcp.set(nil, false)
		proxytest.Eventually(t, "the loser is closed", func() bool {
			w.tcp.mu.Lock()
			defer w.tcp.mu.Unlock()
			return len(w.tcp.links) > 0 && w.tcp.links[0].ended.Load()
		})
		if w.closed.Load() != 0 {
			t.Error("the end of the loser was taken for that of the winner")
		}
		w.end(l)
		if w.closed.Load() != 1 {
			t.Errorf("the end of the winner was told %d times, want once", w.closed.Load())
		}
	})
}

// What fails alone is left out from then on, until its pause is over.
func TestFailingIsLeftOut(t *testing.T) {
	each(t, time.Hour, proxy.TCP, func(w *ways) {
		w.tcp.set(errors.New("blocked"), false)
		l := w.mustDial(proxy.QUIC)
		proxytest.Eventually(t, "that is known", func() bool { return w.state() == "tcp fails, quic works" })
		w.end(l)
		l = w.mustDial(proxy.QUIC)
		w.end(l)
		if n := w.tcp.count(); n != 1 {
			t.Errorf("%d dials over what fails, want 1", n)
		}
		w.tcp.set(nil, false)
		w.clock.Add(int64(maxPause))
		w.end(w.mustDial(proxy.TCP))
		if got, want := w.state(), "tcp works, quic works"; got != want {
			t.Errorf("known: %s, want %s", got, want)
		}
	})
}

// A path that breaks while it is used is not tried first by the next dial.
func TestBrokenPath(t *testing.T) {
	each(t, time.Hour, proxy.QUIC, func(w *ways) {
		l := w.mustDial(proxy.QUIC)
		w.m.Broken(ep.Addr, proxy.QUIC, errors.New("no answer"))
		w.end(l)
		w.end(w.mustDial(proxy.TCP))
		if n := w.quic.count(); n != 1 {
			t.Errorf("%d dials over QUIC, want 1", n)
		}
	})
}

// A Link over what is not preferred goes over when that works again, without a request of its own.
func TestComesBack(t *testing.T) {
	each(t, time.Hour, proxy.TCP, func(w *ways) {
		w.tcp.set(errors.New("blocked"), false)
		l := w.mustDial(proxy.QUIC)
		proxytest.Eventually(t, "that is known", func() bool { return w.state() == "tcp fails, quic works" })
		w.tcp.set(nil, false)
		w.clock.Add(int64(maxPause))
		proxytest.Do(t, w.s, func() { w.s.Go(l.better) }) // the timer's task
		proxytest.Eventually(t, "new requests go over TCP", func() bool { return w.over(l) == proxy.TCP })
		old := w.quic.links[0]
		if !old.shut.Load() || old.ended.Load() {
			t.Error("the old connection must end with its last stream")
		}
		proxytest.Do(t, w.s, func() { old.Close() })
		if w.closed.Load() != 0 || w.changed.Load() != 1 {
			t.Errorf("told of %d ends and %d changes, want 0 and 1", w.closed.Load(), w.changed.Load())
		}
		w.end(l)
		if w.closed.Load() != 1 {
			t.Errorf("the end was told %d times", w.closed.Load())
		}
	})
}

// Where the machine says that nobody listens, nobody waits for a transport that has never worked; but what it learns is kept.
func TestRefusedAtOnce(t *testing.T) {
	each(t, time.Hour, proxy.TCP, func(w *ways) {
		w.tcp.set(fmt.Errorf("dial: %w", syscall.ECONNREFUSED), false)
		w.quic.set(nil, true)
		if _, err := w.dial(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("got %v, want that the connection was refused", err)
		}
		w.quic.set(nil, false)
		proxytest.Eventually(t, "QUIC is known to work", func() bool { return w.state() == "tcp fails, quic works" })
		w.end(w.mustDial(proxy.QUIC))
	})
}

// If both fail nothing is learnt, but it is shown: it is the peer that is not there. A certificate says more than silence.
func TestBothFail(t *testing.T) {
	each(t, time.Hour, proxy.TCP, func(w *ways) {
		w.tcp.set(errors.New("no route"), false)
		w.quic.set(errors.New("no answer"), false)
		if _, err := w.dial(); err == nil || err.Error() != "no route" {
			t.Errorf("got %v, want what TCP met", err)
		}
		if got, want := w.state(), "tcp fails, quic fails"; got != want {
			t.Errorf("shown: %s, want %s", got, want)
		}
		for _, over := range []proxy.Transport{proxy.TCP, proxy.QUIC} {
			if k := (Key{ep.Addr, "home"}); w.m.failing(k, over) {
				t.Errorf("%s is left out for %v, want no pause", over, w.m.pause(k, over))
			}
		}
		w.quic.set(&proxy.Error{Code: proxy.BadIdentity, Detail: "somebody else"}, false)
		if _, err := w.dial(); !badIdentity(err) {
			t.Errorf("got %v, want bad_identity", err)
		}
	})
}

// An Endpoint that names its transport gets no other. How that went is shown, and changes no choice.
func TestFixedTransport(t *testing.T) {
	each(t, time.Hour, proxy.TCP, func(w *ways) {
		e := ep
		e.Transport = proxy.QUIC
		dial := func() {
			proxytest.Do(t, w.s, func() {
				l, err := w.d.Dial(w.s, &e, func(pool.Link) {}, func(pool.Link) {})
				if err == nil && l.(*fakeLink).t != proxy.QUIC {
					t.Errorf("got a link over %s", l.(*fakeLink).t)
				}
			})
		}
		shown := func(want string) {
			t.Helper()
			if got := w.state(); got != want {
				t.Errorf("shown: %s, want %s", got, want)
			}
		}
		w.quic.set(errors.New("no answer"), false)
		dial()
		shown("tcp unknown, quic fails")
		if w.m.failing(Key{ep.Addr, "home"}, proxy.QUIC) {
			t.Error("QUIC is left out where there is a choice")
		}
		w.quic.set(nil, false)
		dial()
		shown("tcp unknown, quic works")
		if w.m.works(Key{ep.Addr, "home"}, proxy.QUIC) {
			t.Error("QUIC has a head start where there is a choice")
		}
		if w.tcp.count() != 0 {
			t.Error("TCP was tried")
		}
	})
}

// Close and Shutdown reach the connection from which the Link has moved away, too.
func TestCloseReachesAll(t *testing.T) {
	each(t, time.Hour, proxy.TCP, func(w *ways) {
		w.tcp.set(errors.New("blocked"), false)
		l := w.mustDial(proxy.QUIC)
		proxytest.Eventually(t, "that is known", func() bool { return w.state() == "tcp fails, quic works" })
		w.tcp.set(nil, false)
		w.clock.Add(int64(maxPause))
		proxytest.Do(t, w.s, l.better)
		proxytest.Do(t, w.s, l.Shutdown)
		old, now := w.quic.links[0], w.tcp.links[0]
		if !now.shut.Load() || now.ended.Load() || old.ended.Load() {
			t.Error("Shutdown must end each connection with its last stream")
		}
		w.end(l)
		if !old.ended.Load() || !now.ended.Load() || w.closed.Load() != 1 {
			t.Errorf("after Close: old ended %v, present ended %v, told %d times", old.ended.Load(), now.ended.Load(), w.closed.Load())
		}
	})
}

func TestMemoryForgets(t *testing.T) {
	m := NewMemory()
	for i := range maxPaths + 10 {
		m.worked(Key{Peer: netip.AddrPortFrom(ep.Addr.Addr(), uint16(i))}, proxy.TCP)
	}
	if n := len(m.Paths()); n != maxPaths {
		t.Errorf("%d paths are kept, want %d", n, maxPaths)
	}
}

func TestPauseGrows(t *testing.T) {
	m := NewMemory()
	var now time.Time
	m.now = func() time.Time { return now }
	k := Key{Peer: ep.Addr}
	for i := range 20 {
		now = now.Add(time.Hour)
		m.failed(k, proxy.QUIC, errors.New("blocked"))
		most := min(firstPause<<min(i, 10), maxPause)
		if p := m.pause(k, proxy.QUIC); p > most || p < most/2 {
			t.Errorf("pause %d is %v, want up to %v", i+1, p, most)
		}
	}
}
