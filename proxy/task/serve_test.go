package task_test

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// listen serves a fresh loopback listener on rt and closes it at the end of the test.
func listen(t *testing.T, rt task.Runtime, o task.ServeOptions) task.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := rt.Listen(ln, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects to l.
func dial(t *testing.T, l task.Listener) *proxytest.Peer {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return proxytest.NewPeer(t, c)
}

// echoOnce answers with what came in, and is done.
func echoOnce(s task.Shard, c task.Conn, first *task.Buffer) {
	c.Write(first.Unread())
	s.Free(first)
}

func TestServe(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := listen(t, rt, task.ServeOptions{Serve: echoOnce})
		peers := []*proxytest.Peer{dial(t, l), dial(t, l), dial(t, l)}
		for range 10 {
			for _, p := range peers {
				p.Send("hello")
				p.Expect("hello")
			}
		}
		proxytest.Eventually(t, "all idle without task and buffer", func() bool {
			st := rt.Stats()
			return st.Conns == 3 && st.Idle == 3 && st.Tasks == 0 && st.Buffers == 0 && l.Active() == 3
		})
		peers[0].FinishSending()
		peers[0].ExpectEOF()
		peers[1].Abort()
		proxytest.Eventually(t, "two gone", func() bool { return rt.Stats().Conns == 1 && l.Active() == 1 })
		l.CloseIdle()
		peers[2].ExpectEOF()
		proxytest.Eventually(t, "all gone", func() bool { return rt.Stats().Conns == 0 && l.Active() == 0 })
		p := dial(t, l)
		p.ExpectEOF() // becomes idle as soon as it is accepted
		l.Close()
		l.Close()
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
			t.Error("closed listener accepts")
		}
	})
}

func TestServeIdleTimeout(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := listen(t, rt, task.ServeOptions{Serve: echoOnce, Idle: 60 * time.Millisecond})
		p, start := dial(t, l), time.Now()
		p.Send("hello")
		p.Expect("hello")
		p.ExpectEOF()
		if d := time.Since(start); d < 50*time.Millisecond {
			t.Errorf("closed after %v", d)
		}
		dial(t, l).ExpectEOF() // one that never sends
	})
}

func TestServeEager(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := listen(t, rt, task.ServeOptions{Eager: true, Serve: func(s task.Shard, c task.Conn, first *task.Buffer) {
			if first != nil {
				t.Errorf("first = %v, want nil", first)
			}
			c.Write([]byte("hello"))
			got, err := readString(c, 10)
			if got != "you" || err != nil {
				t.Errorf("Read = %q, %v", got, err)
			}
			c.Close()
		}})
		p := dial(t, l)
		p.Expect("hello")
		p.Send("you")
		p.ExpectEOF()
	})
}

func TestServeEagerThenIdle(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := listen(t, rt, task.ServeOptions{Eager: true, Serve: func(s task.Shard, c task.Conn, first *task.Buffer) {
			if first == nil {
				return // nothing to say: idle as ever
			}
			c.Write(first.Unread())
			s.Free(first)
		}})
		p := dial(t, l)
		for _, text := range []string{"hello", "again"} {
			proxytest.Eventually(t, "the connection is idle", func() bool { return rt.Stats().Idle == 1 })
			p.Send(text)
			p.Expect(text)
		}
		// Bytes that come before the eager call has returned are served after it.
		early := dial(t, l)
		early.Send("early")
		early.Expect("early")
		p.Close()
		early.Close()
		proxytest.Eventually(t, "both are gone", func() bool { return l.Active() == 0 })
	})
}

func TestServeMax(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := listen(t, rt, task.ServeOptions{Serve: echoOnce, Max: 2})
		a, b, c := dial(t, l), dial(t, l), dial(t, l)
		for _, p := range []*proxytest.Peer{a, b} {
			p.Send("hello")
			p.Expect("hello")
		}
		c.Send("hello")
		c.ExpectSilence(30 * time.Millisecond)
		if l.Active() != 2 {
			t.Errorf("Active = %d, want 2", l.Active())
		}
		a.Close()
		c.Expect("hello")
	})
}

// TestServePanic expects the connection to be reset and the shard to live on.
func TestServePanic(t *testing.T) {
	proxytest.PanickyRuntimes(t, func(t *testing.T, rt task.Runtime) {
		var deferred atomic.Int32
		l := listen(t, rt, task.ServeOptions{Serve: func(s task.Shard, c task.Conn, first *task.Buffer) {
			defer deferred.Add(1)
			text := string(first.Unread())
			s.Free(first)
			if text == "panic" {
				panic("as asked")
			}
			c.Write([]byte(text))
		}})
		for i := range 3 {
			p := dial(t, l)
			p.Send("panic")
			p.ExpectClosed()
			q := dial(t, l)
			q.Send("hello")
			q.Expect("hello")
			if got := rt.Stats().Panics; got != uint64(i+1) {
				t.Errorf("Panics = %d, want %d", got, i+1)
			}
		}
		proxytest.Eventually(t, "6 deferred calls", func() bool { return deferred.Load() == 6 })
	})
}

// TestListenerBeforeRun listens first and runs later; Run's end closes it.
func TestListenerBeforeRun(t *testing.T) {
	for _, rt := range newRuntimes(t) {
		l := listen(t, rt, task.ServeOptions{Serve: echoOnce})
		p := dial(t, l)
		p.Send("hello")
		stop := proxytest.Start(t, rt)
		p.Expect("hello")
		stop()
		if _, err := io.Copy(io.Discard, p.Conn); err != nil {
			t.Errorf("peer: %v, want the end", err)
		}
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
			t.Error("the listener of an ended runtime accepts")
		}
	}
}

func newRuntimes(t *testing.T) []task.Runtime {
	t.Helper()
	c := task.Config{Loops: 2, Logger: proxytest.Logger(t)}
	best, err := task.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return []task.Runtime{best, task.NewGoroutines(c)}
}

// TestFirstShard: a second runtime of a process counts on where the first has stopped.
func TestFirstShard(t *testing.T) {
	rt := task.NewGoroutines(task.Config{Loops: 2, First: 3})
	for i, s := range rt.Shards() {
		if s.Index() != 3+i {
			t.Errorf("shard %d has index %d, want %d", i, s.Index(), 3+i)
		}
	}
}

// TestForeignStartAndWake: an ordinary goroutine starts a task, and wakes it.
func TestForeignStartAndWake(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		ready, done := make(chan func(), 1), make(chan struct{})
		task.Start(s, func() {
			defer close(done)
			var g task.Gate
			s.Gate(&g)
			ready <- task.Waker(s, &g)
			g.Wait(0)
		})
		wake := <-ready
		wake()
		proxytest.Wait(t, done)
	})
}
