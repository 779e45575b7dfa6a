package direct

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// heldApp holds each request until it is let go, and counts its connections.
type heldApp struct {
	*httptest.Server
	here      chan struct{}
	letGo     chan struct{}
	now, most atomic.Int32 // connections
}

func newHeldApp() *heldApp {
	a := &heldApp{here: make(chan struct{}, 100), letGo: make(chan struct{}, 100)}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.here <- struct{}{}
		select {
		case <-a.letGo:
		case <-r.Context().Done():
		}
	}))
	a.Config.Protocols = new(http.Protocols)
	a.Config.Protocols.SetHTTP1(true)
	a.Config.Protocols.SetUnencryptedHTTP2(true)
	a.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			a.most.Store(max(a.most.Load(), a.now.Add(1)))
		case http.StateClosed, http.StateHijacked:
			a.now.Add(-1)
		}
	}
	a.Start()
	return a
}

// ask sends a request, whose error comes when it has ended.
func ask(s task.Shard, to proxy.RoundTripper, req *proxy.Request) <-chan error {
	ended := make(chan error, 1)
	req.Shard, req.Cancel = s, new(proxy.Cancel)
	proxytest.Go(s, func() {
		var resp proxy.Response
		err := to.RoundTrip(req, &resp)
		if err == nil {
			resp.Close()
		}
		ended <- err
	})
	return ended
}

func wantFull(t *testing.T, what string, err error) {
	t.Helper()
	var e *proxy.Error
	if !errors.As(err, &e) || e.Code != proxy.Overloaded || !e.Unsent || e.Fields.Get("Retry-After") == "" {
		t.Errorf("%s: got %v, want overloaded, unsent, with Retry-After", what, err)
	}
}

func wantEnd(t *testing.T, what string, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: no end", what)
	}
}

func TestPlacesBoundConnections(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		app := newHeldApp()
		defer app.Close()
		p := NewPlaces("the app")
		p.Set(PlaceSettings{Most: 2, Pending: 2, Wait: time.Minute})
		d := New(Config{Shards: rt.Shards()})
		to := d.To(endpoint(app.Listener.Addr().String()), Options{Protocol: HTTP, Places: p})
		shard := func(i int) task.Shard { return rt.Shards()[i%len(rt.Shards())] }
		var ended []<-chan error
		for i := range 4 {
			ended = append(ended, ask(shard(i), to, plain()))
			proxytest.Eventually(t, "the request runs or waits", func() bool { st := p.Stats(); return st.Open+st.Waiting == i+1 })
		}
		wantFull(t, "with two that wait", <-ask(shard(0), to, plain()))
		if got := p.Stats(); got != (PlaceStats{Open: 2, Most: 2, Waiting: 2, Refused: 1}) {
			t.Errorf("got %+v", got)
		}
		if n := app.most.Load(); n > 2 {
			t.Errorf("%d connections at a time, want 2 at most", n)
		}
		for range 4 {
			app.letGo <- struct{}{}
		}
		for i, e := range ended {
			wantEnd(t, "request "+string(rune('0'+i)), e)
		}
		for i := range rt.Shards() {
			proxytest.Call(t, shard(i), func() { d.Shutdown(shard(i)) })
		}
		proxytest.Eventually(t, "no connection is left, nor counted", func() bool { return rt.Stats().Conns == 0 && p.Stats().Open == 0 })
	})
}

// An idle connection makes room for one to another address of the same service, and for a Stream, which counts until its end.
func TestPlacesOfIdleConnections(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		one, two := newHeldApp(), newHeldApp()
		defer one.Close()
		defer two.Close()
		p := NewPlaces("orders")
		d := New(Config{Shards: rt.Shards(), Places: func(string) *Places { return p }})
		p.Set(PlaceSettings{Most: 1, Pending: 1, Wait: time.Minute})
		s := rt.Shards()[0]
		to := func(a *heldApp) proxy.RoundTripper {
			ep := endpoint(a.Listener.Addr().String())
			return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				req.Endpoint = &ep
				return d.RoundTrip(req, resp)
			})
		}
		last := rt.Shards()[len(rt.Shards())-1]
		one.letGo <- struct{}{}
		wantEnd(t, "the first", ask(last, to(one), plain()))
		two.letGo <- struct{}{}
		wantEnd(t, "another address", ask(s, to(two), plain()))
		proxytest.Eventually(t, "the idle connection is closed", func() bool { return one.now.Load() == 0 && p.Stats().Open == 1 })

		var resp proxy.Response
		proxytest.Do(t, s, func() {
			req := &proxy.Request{Method: "CONNECT", Authority: "x:1", Shard: s, Cancel: new(proxy.Cancel)}
			if err := to(one).RoundTrip(req, &resp); err != nil {
				t.Error(err)
			}
		})
		p.Set(PlaceSettings{Most: 1})
		wantFull(t, "beside a stream", <-ask(s, to(two), plain()))
		proxytest.Do(t, s, func() { resp.Close() })
		if n := p.Stats().Open; n != 0 {
			t.Errorf("after the stream %d are counted", n)
		}
	})
}

func TestPlacesWait(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		app := newHeldApp()
		defer app.Close()
		p := NewPlaces("the app")
		p.Set(PlaceSettings{Most: 1, Pending: 5, Wait: time.Minute})
		d := New(Config{Shards: rt.Shards()})
		to := d.To(endpoint(app.Listener.Addr().String()), Options{Protocol: HTTP, Places: p})
		s := rt.Shards()[0]
		first := ask(s, to, plain())
		<-app.here
		left := plain()
		gone := ask(s, to, left)
		proxytest.Eventually(t, "it waits", func() bool { return p.Stats().Waiting == 1 })
		proxytest.Call(t, s, func() { left.Cancel.Cancel(errors.New("gone")) })
		var e *proxy.Error
		if err := <-gone; !errors.As(err, &e) || e.Code != proxy.ClientGone {
			t.Errorf("a client that leaves: got %v", err)
		}
		late := plain()
		late.Deadline = s.Now().Add(20 * time.Millisecond)
		wantFull(t, "no time", <-ask(s, to, late))
		second := ask(s, to, plain())
		proxytest.Eventually(t, "it waits", func() bool { return p.Stats().Waiting == 1 })
		p.Set(PlaceSettings{}) // no bound any more
		<-app.here
		app.letGo <- struct{}{}
		app.letGo <- struct{}{}
		wantEnd(t, "the first", first)
		wantEnd(t, "the second", second)
		if st := p.Stats(); st.Open != 2 || st.Waiting != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

// Connections over which many requests go count as one each, and are not refused because others are idle.
func TestPlacesOfHTTP2(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		app := newHeldApp()
		defer app.Close()
		p := NewPlaces("the app")
		p.Set(PlaceSettings{Most: 1, Pending: 1, Wait: time.Minute})
		d := New(Config{Shards: rt.Shards()})
		ep := endpoint(app.Listener.Addr().String())
		s := rt.Shards()[0]
		app.letGo <- struct{}{}
		wantEnd(t, "over HTTP/1", ask(s, d.To(ep, Options{Protocol: HTTP, Places: p}), plain()))
		h2 := d.To(ep, Options{Protocol: H2C, Places: p})
		var ended []<-chan error
		for range 3 {
			ended = append(ended, ask(s, h2, plain()))
		}
		for range 4 {
			<-app.here
		}
		if st := p.Stats(); st.Open != 1 {
			t.Errorf("got %+v", st)
		}
		for range ended {
			app.letGo <- struct{}{}
		}
		for _, e := range ended {
			wantEnd(t, "over HTTP/2", e)
		}
		proxytest.Call(t, s, func() { d.Shutdown(s) })
		proxytest.Eventually(t, "nothing is counted", func() bool { return p.Stats().Open == 0 })
	})
}
