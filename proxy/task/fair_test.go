package task_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestFairness has one connection that never pauses, in and out: the other still gets its turns.
func TestFairness(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		greedy, flood := proxytest.Pair(t, s)
		polite, nc := proxytest.Pair(t, s)
		peer := proxytest.NewPeer(t, nc)
		go func() {
			b := make([]byte, 256<<10)
			for {
				if _, err := flood.Write(b); err != nil {
					return
				}
			}
		}()
		go io.Copy(io.Discard, flood)
		over := make(chan struct{})
		up := proxytest.Go(s, func() {
			b := make([]byte, 512) // small, so that there is always more to read
			for {
				if _, err := greedy.Read(b); err != nil {
					return
				}
			}
		})
		down := proxytest.Go(s, func() {
			b := make([]byte, 512)
			for {
				if _, err := greedy.Write(b); err != nil {
					return
				}
			}
		})
		go func() {
			defer close(over)
			for range 200 {
				peer.Send("x")
				peer.Expect("x")
			}
		}()
		echo := proxytest.Go(s, func() {
			for range 200 {
				got, err := readString(polite, 1)
				if err != nil {
					t.Errorf("Read = %v", err)
					return
				}
				polite.Write([]byte(got))
			}
		})
		proxytest.Wait(t, echo)
		proxytest.Wait(t, over)
		proxytest.Call(t, s, func() { greedy.Reset() })
		proxytest.Wait(t, up)
		proxytest.Wait(t, down)
		flood.Close()
	})
}

// TestYield lets tasks alternate.
func TestYield(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		stop := false
		spinning := proxytest.Go(s, func() {
			for {
				s.Lock()
				end := stop
				s.Unlock()
				if end {
					return
				}
				s.Yield()
			}
		})
		proxytest.Do(t, s, func() {
			s.Sleep(20 * time.Millisecond)
			s.Lock()
			stop = true
			s.Unlock()
		})
		proxytest.Wait(t, spinning)
	})
}

func TestServeKindsOfListener(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		dir, err := os.MkdirTemp("", "serve")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		for _, a := range []struct{ network, address string }{
			{"tcp", "127.0.0.1:0"}, {"tcp", "[::1]:0"}, {"tcp", "[::]:0"}, {"unix", filepath.Join(dir, "s")},
		} {
			ln, err := net.Listen(a.network, a.address)
			if err != nil {
				t.Fatal(err)
			}
			remote := make(chan string, 1)
			l, err := rt.Listen(ln, task.ServeOptions{Serve: func(s task.Shard, c task.Conn, first *task.Buffer) {
				remote <- c.RemoteAddr().String() + " " + c.LocalAddr().String()
				echoOnce(s, c, first)
			}})
			if err != nil {
				t.Fatal(err)
			}
			nc, err := net.Dial(a.network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			nc.SetDeadline(time.Now().Add(5 * time.Second))
			p := proxytest.NewPeer(t, nc)
			p.Send("hello")
			p.Expect("hello")
			want := nc.LocalAddr().String() + " " + nc.RemoteAddr().String()
			if got := <-remote; a.network == "tcp" && got != want {
				t.Errorf("%v: addresses %q, want %q", a, got, want)
			}
			nc.Close()
			l.Close()
			if c, err := net.Dial(a.network, l.Addr().String()); err == nil {
				c.Close()
				t.Errorf("%v: closed listener accepts", a)
			}
		}
	})
}
