package task_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// onLoopConn runs f with a connection of a loop.
func onLoopConn(t *testing.T, f func(s task.Shard, c task.Conn, peer *proxytest.Peer)) {
	t.Helper()
	rt, err := task.New(task.Config{Loops: 1, Logger: proxytest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	stop := proxytest.Start(t, rt)
	s := rt.Shards()[0]
	c, nc := proxytest.Pair(t, s)
	f(s, c, proxytest.NewPeer(t, nc))
	proxytest.Eventually(t, "the connection is closed", func() bool { return rt.Stats().Conns == 0 })
	if n := rt.Stats().Buffers; n != 0 {
		t.Errorf("%d buffers are held", n)
	}
	stop()
}

// filled returns a Buffer that holds p.
func filled(s task.Shard, p string) *task.Buffer {
	b := s.Buffer()
	b.W = copy(b.B, p)
	return b
}

// give has c take a Buffer that holds p, or write it.
func give(t *testing.T, s task.Shard, c task.Conn, p string) (taken bool) {
	t.Helper()
	b := filled(s, p)
	if c.(task.Taker).Take(b) {
		return true
	}
	if _, err := c.Write(b.Unread()); err != nil {
		t.Errorf("Write = %v", err)
	}
	s.Free(b)
	return false
}

func TestTakeKeepsTheOrder(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 8<<20)
	onLoopConn(t, func(s task.Shard, c task.Conn, peer *proxytest.Peer) {
		done := proxytest.Go(s, func() {
			var taken []bool
			taken = append(taken, give(t, s, c, "one "), give(t, s, c, "two "))
			c.Push([]byte("three "))
			taken = append(taken, give(t, s, c, "four "))
			c.Write([]byte("five "))
			taken = append(taken, give(t, s, c, "six "))
			c.Push(big) // more than the kernel takes
			taken = append(taken, give(t, s, c, "seven "))
			c.Write(big)
			taken = append(taken, give(t, s, c, "eight"))
			c.Close()
			if want := []bool{true, true, true, true, true, true}; !slices.Equal(taken, want) {
				t.Errorf("taken: %v, want %v", taken, want)
			}
		})
		got, err := io.ReadAll(peer)
		want := "one two three four five six " + string(big) + "seven " + string(big) + "eight"
		if err != nil || string(got) != want {
			t.Errorf("the peer got %d bytes, %v, want %d in order", len(got), err, len(want))
		}
		proxytest.Wait(t, done)
	})
}

// What was taken goes out although the task does something else for ever, and although nothing else happens.
func TestTakeSendsAtTheEndOfTheTurn(t *testing.T) {
	onLoopConn(t, func(s task.Shard, c task.Conn, peer *proxytest.Peer) {
		done := proxytest.Go(s, func() {
			if !c.(task.Taker).Take(filled(s, "hello")) {
				t.Error("not taken")
			}
			if got, err := readString(c, 10); got != "bye" || err != nil {
				t.Errorf("Read = %q, %v", got, err)
			}
			c.Close()
		})
		peer.Expect("hello")
		peer.Send("bye")
		proxytest.Wait(t, done)
	})
}

func TestTakeRefuses(t *testing.T) {
	onLoopConn(t, func(s task.Shard, c task.Conn, peer *proxytest.Peer) {
		refuses := func(when string, b *task.Buffer) {
			if c.(task.Taker).Take(b) {
				t.Error("taken", when)
				return
			}
			s.Free(b)
		}
		proxytest.Do(t, s, func() {
			large := filled(s, "x")
			large.B = append(large.B, 0)
			refuses("although it is no longer one of the pool's", large)
			c.Push(make([]byte, 32<<20))
			refuses("although the kernel takes no more", filled(s, "x"))
			c.CloseWrite()
			refuses("after CloseWrite", filled(s, "x"))
			c.Reset()
			refuses("after Reset", filled(s, "x"))
		})
	})
}

// Reset discards, and a peer that has gone is told by the next call.
func TestTakeAndReset(t *testing.T) {
	onLoopConn(t, func(s task.Shard, c task.Conn, peer *proxytest.Peer) {
		proxytest.Do(t, s, func() {
			give(t, s, c, "never")
			c.Reset()
		})
		if got, err := io.ReadAll(peer); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer got %q, %v; want a reset", got, err)
		}
	})
	onLoopConn(t, func(s task.Shard, c task.Conn, peer *proxytest.Peer) {
		peer.Abort()
		proxytest.Do(t, s, func() {
			b := filled(s, "x")
			for c.(task.Taker).Take(b) {
				s.Yield()
				b = filled(s, "x")
			}
			s.Free(b)
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write = %v, want ECONNRESET or EPIPE", err)
			}
			c.Close()
		})
	})
}
