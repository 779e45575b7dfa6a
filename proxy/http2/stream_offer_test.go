package http2

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// What is offered arrives whole and in order, however large, and without a wait.
func TestOffer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l, resp, app := tunnel(t, rt.Shards()[0], connect())
		defer l.close()
		var want bytes.Buffer
		l.do(func() {
			o := resp.Stream.(proxy.Offerer)
			for i, n := range []int{0, 1, 1000, 16 << 10, 65_000, 3} {
				head, body := fmt.Appendf(nil, "<%d:", i), bytes.Repeat([]byte{byte('a' + i)}, n)
				if ok, err := o.Offer(head, body); !ok || err != nil {
					t.Errorf("%d bytes: %v, %v", n, ok, err)
				}
				want.Write(head)
				want.Write(body)
			}
		})
		app.Expect(want.String())
		l.do(func() {
			resp.Stream.CloseWrite()
			if ok, err := resp.Stream.(proxy.Offerer).Offer(nil, []byte("x")); ok || err == nil {
				t.Errorf("after CloseWrite: %v, %v; want an error", ok, err)
			}
			resp.Close()
		})
		app.ExpectClosed()
	})
}

// Where the window has no room, nothing is written, and a smaller piece still goes.
func TestOfferMindsTheWindow(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawServer(t, s, Config{}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1000})
		defer r.close()
		var resp proxy.Response
		opened := proxytest.Go(s, func() {
			if err := r.c.RoundTrip(connect(), &resp); err != nil {
				t.Error(err)
			}
		})
		r.untilHeaders(1)
		r.headers(1, false, ":status", "200")
		proxytest.Wait(t, opened)
		offer := func(n int) (ok bool) {
			proxytest.Do(t, s, func() {
				var err error
				if ok, err = resp.Stream.(proxy.Offerer).Offer([]byte("h"), make([]byte, n-1)); err != nil {
					t.Error(err)
				}
			})
			return ok
		}
		if offer(1001) || !offer(600) || offer(401) || !offer(400) || offer(1) {
			t.Error("a window of 1000 bytes is not kept to the byte")
		}
		r.WriteWindowUpdate(1, 50)
		proxytest.Eventually(t, "the window is wider", func() bool { return offer(50) })
		total := 0
		r.until("all of it", func(f xhttp2.Frame) bool {
			if d, ok := f.(*xhttp2.DataFrame); ok {
				total += len(d.Data())
			}
			return total == 1050
		})
		proxytest.Do(t, s, resp.Close)
	})
}

// A Transport that takes no more makes Offer refuse long before the connection counts as dead.
func TestOfferToOneWhoDoesNotRead(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawServer(t, s, Config{}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1<<31 - 1})
		defer r.close()
		var resp proxy.Response
		opened := proxytest.Go(s, func() {
			if err := r.c.RoundTrip(connect(), &resp); err != nil {
				t.Error(err)
			}
		})
		r.untilHeaders(1)
		r.WriteWindowUpdate(0, 1<<31-1-initialWindow)
		r.headers(1, false, ":status", "200")
		proxytest.Wait(t, opened)
		refused := 0
		for range 2000 {
			proxytest.Do(t, s, func() {
				for range 10 {
					ok, err := resp.Stream.(proxy.Offerer).Offer(nil, make([]byte, 10_000))
					if err != nil {
						t.Error(err)
					}
					if !ok {
						refused++
					}
				}
			})
			if refused > 1000 {
				break
			}
		}
		if refused == 0 {
			t.Error("200 MB were taken")
		}
		proxytest.Do(t, s, resp.Close)
	})
}

func TestOfferAllocatesNothing(t *testing.T) {
	rt, err := task.New(task.Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer proxytest.Start(t, rt)()
	l, resp, app := tunnel(t, rt.Shards()[0], connect())
	defer l.close()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, app)
	}()
	p, o := make([]byte, 1200), resp.Stream.(proxy.Offerer)
	l.do(func() {
		n := proxytest.Allocs(200, func() {
			for range 10 {
				if ok, err := o.Offer(p[:4], p); !ok || err != nil {
					t.Error(ok, err)
				}
			}
			l.s.Yield() // the turn ends: it is sent
		})
		if n != 0 {
			t.Errorf("%v allocations for 10 pieces, want 0", n)
		}
		resp.Close()
	})
	<-drained
}
