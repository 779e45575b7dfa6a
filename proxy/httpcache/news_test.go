package httpcache

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/inbound"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// mesh is the sidecar of an app, which keeps its answers, and two that call it, which keep them too.
type mesh struct {
	t    *testing.T
	o    *origin
	app  *Cache
	side atomic.Pointer[proxy.RoundTripper] // the app's sidecar, as links reach it
	a, b *bed
	cut  atomic.Bool // no question reaches the app's sidecar
}

func newMesh(t *testing.T, s task.Shard, answer func(o *origin, req *proxy.Request, resp *proxy.Response) error) *mesh {
	m := &mesh{t: t, o: &origin{answer: answer}}
	m.restart()
	m.a, m.b = m.caller(s), m.caller(s)
	return m
}

// restart puts a sidecar that knows nothing in the place of the app's.
func (m *mesh) restart() {
	m.app = New(Config{})
	layer := m.app.Layers(LayerConfig{Name: "pillion-app", App: "app:80", Services: map[string][]Settings{"app:80": {{Always: true}}}})["app:80"]
	m.runs(inbound.App{Port: 80, Cache: layer, News: m.app.News("app:80"), To: m.o})
}

func (m *mesh) runs(app inbound.App) {
	rt := inbound.New(inbound.Config{Name: "shop", Apps: []inbound.App{app}})
	m.side.Store(&rt)
}

// RoundTrip comes over a link.
func (m *mesh) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	return (*m.side.Load()).RoundTrip(req, resp)
}

// caller is a calling sidecar.
func (m *mesh) caller(s task.Shard) *bed {
	link := pool.Addresser{Shard: s, Pillion: true}
	ep := &proxy.Endpoint{Identity: "spiffe://x/shop", Mesh: true}
	next := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		req.Endpoint = ep
		return link.RoundTrip(m, req, resp)
	})
	b := newBed(m.t, s, Config{Ask: func(_ *proxy.Endpoint, req *proxy.Request, resp *proxy.Response) error {
		if m.cut.Load() {
			return &proxy.Error{Code: proxy.ConnectFailed, Unsent: true}
		}
		return link.RoundTrip(m, req, resp)
	}}, Settings{Always: true}, nil)
	b.s = s
	b.rt = b.c.Layers(LayerConfig{Services: map[string][]Settings{"shop": {{Always: true}}}})["shop"](next)
	b.o = m.o
	return b
}

// end stops all that waits.
func (m *mesh) end() {
	m.app.StopTelling()
	m.a.c.StopListening()
	m.b.c.StopListening()
	m.wait("nobody listens any more", func() bool { return m.hearing(m.a)+m.hearing(m.b) == 0 })
}

func (m *mesh) hearing(b *bed) int { return b.c.site("shop").hearing() }

// wait waits in a task.
func (m *mesh) wait(what string, ok func() bool) {
	m.t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		m.a.s.Sleep(4e6)
	}
	m.t.Errorf("waited in vain: %s", what)
}

func counting(o *origin, req *proxy.Request, resp *proxy.Response) error {
	say(resp, 200, number(o.count()), "Cache-Control: public, max-age=1000", "Surrogate-Key: tag-"+strings.TrimPrefix(req.Path, "/"))
	return nil
}

// A change that one caller makes is told to the other, which keeps the answer too, under whatever name it calls the service.
func TestChangesAreTold(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		m := newMesh(t, s, counting)
		defer m.end()
		m.a.want("a asks", m.a.do("GET", "/x"), 200, "1", 1)
		m.b.want("b is given the same", m.b.do("GET", "/x"), 200, "1", 1)
		m.b.want("and another thing", m.b.do("GET", "/y"), 200, "2", 2)
		other := &proxy.Request{Method: "GET", Scheme: "http", Authority: "10.0.0.1:99", Path: "/x", Shard: s, Cancel: new(proxy.Cancel), Service: proxy.Service{Name: "shop"}}
		m.b.want("by another name", m.b.send(other), 200, "3", 3)
		m.wait("both listen", func() bool { return m.app.site("app:80").board.Load().peers() == 2 })
		m.a.want("a changes it", m.a.do("POST", "/x"), 200, "4", 4)
		m.wait("b has heard", func() bool { return m.b.c.Stats().Services[0].Heard == 1 })
		m.b.want("b asks again", m.b.do("GET", "/x"), 200, "5", 5)
		m.b.want("by the other name too", m.b.send(other), 200, "6", 6)
		m.b.want("the other thing is as it was", m.b.do("GET", "/y"), 200, "2", 6)
		if n := m.b.c.Stats().Services[0].Hits; n == 0 {
			t.Error("b has kept nothing")
		}
	})
}

// What an operator has the app's sidecar forget is forgotten by the callers too.
func TestPurgesAreTold(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		m := newMesh(t, s, counting)
		defer m.end()
		heard := func(n uint64) func() bool { return func() bool { return m.a.c.Stats().Services[0].Heard >= n } }
		m.a.do("GET", "/x")
		m.a.want("hit", m.a.do("GET", "/x"), 200, "1", 1)
		m.wait("a listens", func() bool { return m.app.site("app:80").board.Load().peers() == 1 })
		m.app.PurgeURL("", "shop/x")
		m.wait("the URL", heard(1))
		m.a.want("purged by URL", m.a.do("GET", "/x"), 200, "2", 2)
		m.app.PurgeTag("tag-x")
		m.wait("the tag", heard(2))
		m.a.want("purged by tag", m.a.do("GET", "/x"), 200, "3", 3)
		m.app.PurgeAll()
		m.wait("all", heard(3))
		m.a.want("purged with all", m.a.do("GET", "/x"), 200, "4", 4)
	})
}

// A caller that could not be reached learns of what has changed when it is back; of a sidecar that has started anew it forgets everything.
func TestNewsAfterAnAbsence(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		m := newMesh(t, s, counting)
		defer m.end()
		m.b.do("GET", "/x")
		m.b.do("GET", "/y")
		m.wait("b listens", func() bool { return m.app.site("app:80").board.Load().peers() == 1 })
		m.cut.Store(true)
		m.a.do("POST", "/x") // the question that waits is answered; the next fails
		m.wait("b has heard", func() bool { return m.b.c.Stats().Services[0].Heard == 1 })
		m.b.want("b asks again", m.b.do("GET", "/x"), 200, "4", 4)
		m.a.do("POST", "/x")
		m.b.want("b has heard nothing, and it is fresh", m.b.do("GET", "/x"), 200, "4", 5)
		m.cut.Store(false)
		m.wait("b has heard", func() bool { return m.b.c.Stats().Services[0].Heard == 2 })
		m.b.want("b asks again", m.b.do("GET", "/x"), 200, "6", 6)
		m.b.want("the rest is as it was", m.b.do("GET", "/y"), 200, "2", 6)
		m.cut.Store(true)
		m.app.StopTelling()
		m.restart()
		m.cut.Store(false)
		m.wait("b has been told to forget everything", func() bool { return m.b.c.Stats().Services[0].Heard == 3 })
		m.b.want("b asks again", m.b.do("GET", "/y"), 200, "7", 7)
	})
}

// What was asked for before a change, and comes after it has been told, is not kept.
func TestChangeWhileAnAnswerIsUnderWay(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		var hold atomic.Bool
		var held atomic.Int32
		m := newMesh(t, s, func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			n := o.count()
			if req.Method == "GET" && hold.Load() {
				held.Add(1)
				for hold.Load() {
					req.Shard.Sleep(4e6)
				}
			}
			say(resp, 200, number(n), "Cache-Control: public, max-age=1000")
			return nil
		})
		defer m.end()
		m.b.do("GET", "/first")
		m.wait("b listens", func() bool { return m.app.site("app:80").board.Load().peers() == 1 })
		hold.Store(true)
		var slow got
		done := proxytest.Go(s, func() { slow = m.b.do("GET", "/x") })
		m.wait("b's request is at the app", func() bool { return held.Load() == 1 })
		m.a.do("POST", "/x")
		m.wait("b has heard", func() bool { return m.b.c.Stats().Services[0].Heard == 1 })
		hold.Store(false)
		m.wait("b's request has ended", func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
		m.b.want("b gets what it was asked for", slow, 200, "2", 3)
		m.b.want("but it is not kept", m.b.do("GET", "/x"), 200, "4", 4)
	})
}

// Positions, and what is told of those that are not known.
func TestBoard(t *testing.T) {
	b := newBoard()
	start := *b.position.Load()
	for i := range maxNotices {
		b.publish("path "+digestOf(number(i)).text(), nil)
	}
	if got, now, err := b.since(start, nil); err != nil || strings.Count(got, "\n") > maxNotices || now != b.epoch+"."+number(maxNotices) {
		t.Errorf("%d lines, at %s, %v", strings.Count(got, "\n"), now, err)
	}
	last := *b.position.Load()
	if got, now, err := b.since(last, nil); got != "" || now != last || err != nil {
		t.Errorf("nothing new: %q, %s, %v", got, now, err)
	}
	for range 2 * maxNotices {
		b.publish(noticeAll, nil)
	}
	for _, position := range []string{start, last, "", "x", ".", "y.1", b.epoch + ".x", b.epoch + ".-1", b.epoch + ".99999999"} {
		if got, _, err := b.since(position, nil); got != "all\n" || err != nil {
			t.Errorf("since %q: %q, %v", position, got, err)
		}
	}
	now := *b.position.Load()
	b.renew()
	if got, _, _ := b.since(now, nil); got != "all\n" {
		t.Errorf("after renewal: %q", got)
	}
	b.close()
	if _, _, err := b.since(*b.position.Load(), nil); err == nil {
		t.Error("a closed board answers")
	}
}

// What is not understood means everything, and is no harm otherwise.
func TestHeed(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		for _, notices := range []string{"all\n", "what?\n", "path \n", "path 00\n", "tag zz\n", "path " + strings.Repeat("z", 32) + "\n"} {
			m := newMesh(t, s, counting)
			m.a.do("GET", "/x")
			l := &listener{c: m.a.c, at: m.a.c.site("shop"), shard: s}
			l.heed(notices)
			m.a.do("GET", "/x")
			if n := m.a.c.Stats().Services[0].Hits; n != 0 {
				t.Errorf("%q: a hit", notices)
			}
			m.end()
		}
	})
}

// Places and their bound.
func TestPlaces(t *testing.T) {
	p := newPlaces()
	p.add("shop a /x", 10)
	p.add("shop b /x", 10)
	if keys := p.change(digestOf("/x"), 20); len(keys) != 2 {
		t.Errorf("keys %q", keys)
	}
	if p.add("shop a /x", 20) || !p.add("shop a /x", 21) {
		t.Error("what was asked for before the change, and after")
	}
	p.drop("shop a /x", func() bool { return true })
	p.drop("shop b /x", func() bool { return false })
	if keys := p.change(digestOf("/x"), 22); len(keys) != 1 {
		t.Errorf("keys %q", keys)
	}
	for i := range 2 * maxChanged {
		p.change(digestOf(number(i)), 100)
	}
	if len(p.changed) > maxChanged || len(p.all) > maxChanged+1 {
		t.Errorf("%d changes, %d places", len(p.changed), len(p.all))
	}
	if p.add("shop a /z", 99) {
		t.Error("it is not known that this has not changed")
	}
}

// An app's sidecar that keeps nothing says so, and its callers ask no more.
func TestNoNews(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		m := newMesh(t, s, counting)
		defer m.end()
		m.a.do("GET", "/x")
		m.wait("a listens", func() bool { return m.app.site("app:80").board.Load().peers() == 1 })
		m.runs(inbound.App{Port: 80, To: m.o})
		m.app.Quit("app:80") // everything is forgotten once
		m.wait("a has heard, and asks no more", func() bool { return m.a.c.Stats().Services[0].Heard == 1 && m.hearing(m.a) == 0 })
		m.a.want("nothing is left", m.a.do("GET", "/x"), 200, "2", 2)
		if n := m.o.count(); n != 2 {
			t.Errorf("the app was asked %d times: a question for news has come to it", n)
		}
	})
}
