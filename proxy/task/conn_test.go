package task_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// onPairs runs f on every runtime, over TCP and over a Unix socket.
func onPairs(t *testing.T, f func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer)) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		t.Run("tcp", func(t *testing.T) {
			c, nc := proxytest.Pair(t, s)
			f(t, s, c, proxytest.NewPeer(t, nc))
		})
		t.Run("unix", func(t *testing.T) {
			c, nc := proxytest.UnixPair(t, s)
			f(t, s, c, proxytest.NewPeer(t, nc))
		})
	})
}

// readString reads up to n bytes.
func readString(c task.Conn, n int) (string, error) {
	b := make([]byte, n)
	n, err := c.Read(b)
	return string(b[:n]), err
}

func TestReadWrite(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		done := proxytest.Go(s, func() {
			for {
				got, err := readString(c, 100)
				if err != nil {
					if err != io.EOF {
						t.Errorf("Read = %v, want EOF", err)
					}
					c.Close()
					return
				}
				if n, err := c.Write([]byte(got)); n != len(got) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
			}
		})
		for range 20 {
			peer.Send("hello")
			peer.Expect("hello")
		}
		peer.FinishSending()
		peer.ExpectEOF()
		proxytest.Wait(t, done)
	})
}

// TestHalfClose sends 2 MiB up, FIN, and 2 MiB down.
func TestHalfClose(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		want := bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16)
		done := proxytest.Go(s, func() {
			var got []byte
			b := make([]byte, 32<<10)
			for {
				n, err := c.Read(b)
				got = append(got, b[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Errorf("Read = %v", err)
					return
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, want %d", len(got), len(want))
			}
			if n, err := c.Write(want); n != len(want) || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Errorf("CloseWrite = %v", err)
			}
			if _, err := c.Write(want); err != syscall.EPIPE {
				t.Errorf("Write after CloseWrite = %v, want EPIPE", err)
			}
			c.Close()
		})
		go func() {
			peer.Write(want)
			peer.FinishSending()
		}()
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("peer got %d bytes, %v, want %d", len(got), err, len(want))
		}
		proxytest.Wait(t, done)
	})
}

// TestCloseWriteThenRead closes our side first and goes on reading.
func TestCloseWriteThenRead(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		big := bytes.Repeat([]byte("x"), 2<<20)
		done := proxytest.Go(s, func() {
			if err := c.Push(big); err != nil {
				t.Errorf("Push = %v", err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Errorf("CloseWrite = %v", err)
			}
			if got, err := readString(c, 10); got != "answer" || err != nil {
				t.Errorf("Read = %q, %v", got, err)
			}
			c.Close()
		})
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, big) {
			t.Errorf("peer got %d bytes, %v, want %d", len(got), err, len(big))
		}
		peer.Send("answer")
		proxytest.Wait(t, done)
	})
}

func TestResetByPeer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, nc := proxytest.Pair(t, s)
		done := proxytest.Go(s, func() {
			for range 2 { // the second time it is remembered
				if _, err := readString(c, 10); err != syscall.ECONNRESET {
					t.Errorf("Read = %v, want ECONNRESET", err)
				}
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Write = %v, want EPIPE or ECONNRESET", err)
			}
			c.Close()
		})
		time.Sleep(10 * time.Millisecond)
		proxytest.NewPeer(t, nc).Abort()
		proxytest.Wait(t, done)
	})
}

// TestResetSeenByWriter has the sender meet the reset first: the reader must still not see a mere end.
func TestResetSeenByWriter(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, nc := proxytest.Pair(t, s)
		proxytest.NewPeer(t, nc).Abort()
		proxytest.Do(t, s, func() {
			s.Sleep(20 * time.Millisecond)
			for i := 0; i < 10; i++ {
				if _, err := c.Write([]byte("x")); err != nil {
					break
				}
			}
			if _, err := readString(c, 10); err != syscall.ECONNRESET {
				t.Errorf("Read = %v, want ECONNRESET", err)
			}
			c.Close()
		})
	})
}

func TestReset(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, nc := proxytest.Pair(t, s)
		proxytest.Do(t, s, func() {
			c.Push(make([]byte, 8<<20))
			c.Reset()
			c.Reset()
			if _, err := readString(c, 1); err != task.ErrClosed {
				t.Errorf("Read after Reset = %v, want ErrClosed", err)
			}
			if err := c.Push([]byte("x")); err != task.ErrClosed {
				t.Errorf("Push after Reset = %v, want ErrClosed", err)
			}
		})
		if _, err := io.Copy(io.Discard, nc); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer: %v, want ECONNRESET", err)
		}
	})
}

func TestCloseWakesWaiters(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		reader := proxytest.Go(s, func() {
			if _, err := readString(c, 1); err != task.ErrClosed {
				t.Errorf("Read = %v, want ErrClosed", err)
			}
		})
		writer := proxytest.Go(s, func() {
			if _, err := c.Write(make([]byte, 32<<20)); err != task.ErrClosed {
				t.Errorf("Write = %v, want ErrClosed", err)
			}
		})
		peer.Expect("\x00") // the Write has begun
		time.Sleep(20 * time.Millisecond)
		proxytest.Call(t, s, func() {
			c.Close()
			c.Close()
		})
		proxytest.Wait(t, reader)
		proxytest.Wait(t, writer)
		// The Write was cut short: the peer must not take what it got for the whole.
		if _, err := io.Copy(io.Discard, peer.Conn); peer.LocalAddr().Network() == "tcp" && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer: %v, want ECONNRESET", err)
		}
	})
}

// TestCloseSendsQueue pushes more than the kernel takes and closes.
func TestCloseSendsQueue(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		want := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
		proxytest.Call(t, s, func() {
			for b := want; len(b) > 0; b = b[1<<16:] {
				if err := c.Push(b[:1<<16]); err != nil {
					t.Errorf("Push = %v", err)
				}
			}
			if c.Queued() == 0 {
				t.Error("Queued = 0")
			}
			c.Close()
			if err := c.Push(want); err != task.ErrClosed {
				t.Errorf("Push after Close = %v, want ErrClosed", err)
			}
		})
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("peer got %d bytes, %v, want %d", len(got), err, len(want))
		}
	})
}

// TestResetWhileQueued has the peer read a part of what was pushed and reset: the queue is dropped, OnDrain says so, and every
// later send fails.
func TestResetWhileQueued(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, nc := proxytest.Pair(t, s)
		pushed := make(chan struct{})
		done := proxytest.Go(s, func() {
			var g task.Gate
			s.Gate(&g)
			c.OnDrain(g.Wake)
			if err := c.Push(make([]byte, 32<<20)); err != nil {
				t.Errorf("Push = %v", err)
			}
			close(pushed)
			if !g.Wait(s.Now().Add(5 * time.Second)) {
				t.Error("OnDrain not called")
			}
			if c.Queued() != 0 {
				t.Errorf("Queued = %d", c.Queued())
			}
			if err := c.Push([]byte("x")); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Push = %v, want ECONNRESET or EPIPE", err)
			}
			if _, err := readString(c, 1); err != syscall.ECONNRESET {
				t.Errorf("Read = %v, want ECONNRESET", err)
			}
			c.Close()
		})
		<-pushed
		io.ReadFull(nc, make([]byte, 1<<20))
		proxytest.NewPeer(t, nc).Abort()
		proxytest.Wait(t, done)
	})
}

// TestLinger closes with a queue that the peer never reads: after Config.Linger it is given up.
func TestLinger(t *testing.T) {
	c := task.Config{Loops: 1, Linger: 50 * time.Millisecond, Logger: proxytest.Logger(t)}
	best, err := task.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range []task.Runtime{best, task.NewGoroutines(c)} {
		stop := proxytest.Start(t, rt)
		s := rt.Shards()[0]
		c, nc := proxytest.Pair(t, s)
		proxytest.Call(t, s, func() {
			c.Push(make([]byte, 16<<20))
			c.Close()
		})
		proxytest.Eventually(t, "the connection is given up", func() bool { return rt.Stats().Conns == 0 })
		if _, err := io.Copy(io.Discard, nc); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("peer: %v, want ECONNRESET", err)
		}
		stop()
	}
}

func TestPushWriteOrder(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		a := bytes.Repeat([]byte("a"), 16<<20)
		b := bytes.Repeat([]byte("b"), 4<<20)
		d := bytes.Repeat([]byte("d"), 1000)
		pushed := make(chan struct{})
		done := proxytest.Go(s, func() {
			drained := 0
			c.OnDrain(func() {
				s.Lock()
				drained++
				s.Unlock()
			})
			if err := c.Push(a); err != nil {
				t.Errorf("Push = %v", err)
			}
			close(pushed)
			if n, err := c.Write(b); n != len(b) || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			if c.Queued() != 0 {
				t.Errorf("Queued after Write = %d", c.Queued())
			}
			if err := c.Push(d); err != nil {
				t.Errorf("Push = %v", err)
			}
			s.Sleep(20 * time.Millisecond)
			s.Lock()
			if drained == 0 {
				t.Error("OnDrain not called")
			}
			s.Unlock()
			c.Close()
		})
		<-pushed
		got, err := io.ReadAll(peer)
		want := append(append(append([]byte(nil), a...), b...), d...)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("peer got %d bytes, %v, want %d in order", len(got), err, len(want))
		}
		proxytest.Wait(t, done)
	})
}

func TestDeadlines(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		proxytest.Do(t, s, func() {
			start := s.Now()
			c.SetDeadline(start.Add(30 * time.Millisecond))
			if _, err := readString(c, 1); !errors.Is(err, os.ErrDeadlineExceeded) || err != task.ErrDeadline {
				t.Errorf("Read = %v, want ErrDeadline", err)
			}
			if d := task.Now().Sub(start); d < 30*time.Millisecond {
				t.Errorf("Read returned after %v", d)
			}
			if err := c.WaitReadable(); err != task.ErrDeadline {
				t.Errorf("WaitReadable = %v, want ErrDeadline", err)
			}
			big := make([]byte, 32<<20)
			s.Yield()
			c.SetDeadline(s.Now().Add(30 * time.Millisecond))
			if n, err := c.Write(big); err != task.ErrDeadline || n == 0 {
				t.Errorf("Write = %d, %v, want some, ErrDeadline", n, err)
			}
			c.SetDeadline(0)
			peer.Send("x")
			if got, err := readString(c, 1); got != "x" || err != nil {
				t.Errorf("Read = %q, %v", got, err)
			}
			c.Reset()
		})
	})
}

// TestDeadlineMoves changes the deadline of a wait that is under way, both ways.
func TestDeadlineMoves(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		// read reads in a task, with a deadline, and returns what comes of it.
		read := func(deadline task.Instant) func() (string, error) {
			var got string
			var err error
			began := make(chan struct{})
			done := proxytest.Go(s, func() {
				c.SetDeadline(deadline)
				close(began)
				got, err = readString(c, 1)
			})
			proxytest.Wait(t, began)
			time.Sleep(5 * time.Millisecond) // it reads by now, as a rule
			return func() (string, error) {
				proxytest.Wait(t, done)
				return got, err
			}
		}
		sooner := read(task.Now().Add(time.Hour))
		proxytest.Call(t, s, func() { c.SetDeadline(s.Now().Add(20 * time.Millisecond)) })
		if got, err := sooner(); err != task.ErrDeadline {
			t.Errorf("Read = %q, %v, want ErrDeadline", got, err)
		}
		for wait := 20 * time.Millisecond; ; wait *= 2 {
			first := task.Now().Add(wait)
			later := read(first)
			var moved task.Instant
			proxytest.Call(t, s, func() {
				c.SetDeadline(s.Now().Add(time.Hour))
				moved = task.Now()
			})
			time.Sleep(first.Sub(task.Now()) + 10*time.Millisecond)
			peer.Send("x")
			got, err := later()
			if moved >= first && err == task.ErrDeadline {
				proxytest.Do(t, s, func() { readString(c, 1) })
				continue // the machine was too busy to move it in time
			}
			if got != "x" || err != nil {
				t.Errorf("Read = %q, %v, want the byte that came after the first deadline", got, err)
			}
			break
		}
		proxytest.Call(t, s, func() { c.Close() })
	})
}

func TestOnHangup(t *testing.T) {
	tests := []struct {
		name string
		do   func(*proxytest.Peer)
		want error
		then string
	}{
		{"end", (*proxytest.Peer).FinishSending, io.EOF, ""},
		{"bytes", func(p *proxytest.Peer) { p.Send("x") }, nil, "x"},
		{"reset", (*proxytest.Peer).Abort, syscall.ECONNRESET, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				s := rt.Shards()[0]
				c, nc := proxytest.Pair(t, s)
				done := proxytest.Go(s, func() {
					if got, err := readString(c, 10); got != "hello" || err != nil {
						t.Errorf("Read = %q, %v", got, err)
					}
					var g task.Gate
					s.Gate(&g)
					calls, err := 0, errors.New("none")
					c.OnHangup(func(e error) {
						s.Lock()
						calls++
						err = e
						s.Unlock()
						g.Wake()
					})
					if !g.Wait(s.Now().Add(5 * time.Second)) {
						t.Error("OnHangup not called")
					}
					s.Sleep(10 * time.Millisecond)
					s.Lock()
					if calls != 1 || err != test.want {
						t.Errorf("%d calls, the last with %v, want 1 with %v", calls, err, test.want)
					}
					s.Unlock()
					if got, err := readString(c, 10); got != test.then || err != test.want {
						t.Errorf("Read = %q, %v, want %q, %v", got, err, test.then, test.want)
					}
					c.Close()
				})
				peer := proxytest.NewPeer(t, nc)
				peer.Send("hello")
				time.Sleep(20 * time.Millisecond)
				test.do(peer)
				proxytest.Wait(t, done)
			})
		})
	}
}

// TestOnHangupWhileReading must not fire for what a Read takes, nor once removed. On goroutines a moment passes between
// WaitReadable and Read, in which nobody reads.
func TestOnHangupWhileReading(t *testing.T) {
	onPairs(t, func(t *testing.T, s task.Shard, c task.Conn, peer *proxytest.Peer) {
		for _, wait := range []func() error{nil, c.WaitReadable} {
			if wait != nil && !onLoop(t) {
				continue
			}
			begun := make(chan struct{})
			done := proxytest.Go(s, func() {
				close(begun)
				if wait != nil {
					wait()
				}
				if got, err := readString(c, 10); got != "hello" || err != nil {
					t.Errorf("Read = %q, %v", got, err)
				}
				c.OnHangup(nil)
			})
			<-begun
			time.Sleep(30 * time.Millisecond)
			proxytest.Call(t, s, func() {
				c.OnHangup(func(err error) { t.Errorf("OnHangup called with %v", err) })
			})
			peer.Send("hello")
			proxytest.Wait(t, done)
		}
		peer.Send("unread")
		proxytest.Do(t, s, func() {
			s.Sleep(20 * time.Millisecond)
			c.Close()
		})
	})
}

func TestDial(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			ln, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			proxytest.Do(t, s, func() {
				c, err := s.Dial("tcp", ln.Addr().String(), s.Now().Add(time.Second))
				if err != nil {
					t.Error(err)
					return
				}
				if c.RemoteAddr().String() != ln.Addr().String() {
					t.Errorf("RemoteAddr = %v, want %v", c.RemoteAddr(), ln.Addr())
				}
				if task.AddrPort(c.LocalAddr()).Port() == 0 {
					t.Errorf("LocalAddr = %v", c.LocalAddr())
				}
				if _, err := c.Write([]byte("hello")); err != nil {
					t.Error(err)
				}
				c.Close()
			})
			nc, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(nc); string(got) != "hello" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			nc.Close()
			ln.Close()
			proxytest.Do(t, s, func() {
				if _, err := s.Dial("tcp", ln.Addr().String(), 0); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("Dial = %v, want ECONNREFUSED", err)
				}
			})
		}
		proxytest.Do(t, s, func() {
			if _, err := s.Dial("tcp", "localhost:80", 0); err == nil {
				t.Error("Dial of a name succeeded")
			}
			if _, err := s.Dial("unix", "/nonexistent/socket", 0); !errors.Is(err, syscall.ENOENT) {
				t.Errorf("Dial = %v, want ENOENT", err)
			}
		})
	})
}
