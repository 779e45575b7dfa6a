package datagram

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// capsule is what Send writes for p.
func capsule(p []byte) []byte {
	b := appendVarint([]byte{typeDatagram}, uint64(len(p)+1))
	return append(append(b, contextUDP), p...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// start makes a Flow on a connection whose other end is the test's.
func start(t *testing.T, rt task.Runtime) (*Flow, task.Shard, *proxytest.Peer, *proxy.FlowStats) {
	s := rt.Shards()[0]
	c, peer := proxytest.Pair(t, s)
	stats := new(proxy.FlowStats)
	return New(s, c, stats), s, proxytest.NewPeer(t, peer), stats
}

// receive is Receive in a task.
func receive(t *testing.T, s task.Shard, f proxy.Flow) (got []byte, err error) {
	t.Helper()
	proxytest.Do(t, s, func() {
		p := make([]byte, proxy.MaxDatagram)
		var n int
		n, err = f.Receive(p)
		got = p[:n]
	})
	return got, err
}

func expect(t *testing.T, s task.Shard, f proxy.Flow, want string) {
	t.Helper()
	got, err := receive(t, s, f)
	if err != nil || string(got) != want {
		t.Fatalf("received %d bytes %.40q, %v; want %d bytes %.40q", len(got), got, err, len(want), want)
	}
}

func TestCapsulesBothWays(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f, s, peer, _ := start(t, rt)
		large := bytes.Repeat([]byte("x"), proxy.MaxDatagram)
		for _, p := range [][]byte{[]byte("hello"), {}, large, []byte("bye")} {
			proxytest.Do(t, s, func() {
				if err := f.Send(p); err != nil {
					t.Error(err)
				}
			})
			peer.Expect(string(capsule(p)))
			peer.Send(string(capsule(p)))
			expect(t, s, f, string(p))
		}
		proxytest.Do(t, s, func() { f.Close() })
		peer.ExpectEOF() // in order
		peer.Close()
		if _, err := receive(t, s, f); err != task.ErrClosed {
			t.Errorf("after Close: %v, want that it is closed", err)
		}
	})
}

// RFC 9297 section 3.2: "A receiver MUST silently drop any capsule of unknown type"; and unknown contexts likewise.
func TestSkipsWhatItDoesNotKnow(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f, s, peer, stats := start(t, rt)
		unknown := append(appendVarint(appendVarint(nil, 0x2575_4f00), 100_000), bytes.Repeat([]byte("u"), 100_000)...)
		context := join([]byte{0}, appendVarint(nil, 7), []byte{4}, []byte("client"))
		none := []byte{0, 0} // not even a context
		tooLong := join([]byte{0}, appendVarint(nil, 70_001), []byte{0}, bytes.Repeat([]byte("l"), 70_000))
		oneTooLong := capsule(bytes.Repeat([]byte("m"), proxy.MaxDatagram+1))
		wide := join([]byte{0xc0, 0, 0, 0, 0, 0, 0, 0}, []byte{0x80, 0, 0, 8}, []byte{0x40, 0}, []byte("padded")) // integers need not be short
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = peer.Write(join(unknown, capsule([]byte("a")), context, none, tooLong, oneTooLong, wide, capsule([]byte("b"))))
		}()
		for _, want := range []string{"a", "padded", "b"} {
			expect(t, s, f, want)
		}
		<-sent
		if got := stats.Counts().Dropped; got["foreign"] != 2 || got["too_long"] != 2 {
			t.Errorf("dropped %v, want 2 foreign and 2 that are too long", got)
		}
		peer.Close()
		if _, err := receive(t, s, f); err != io.EOF {
			t.Errorf("at the end: %v, want io.EOF", err)
		}
	})
}

func TestEndWithinACapsule(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, p := range [][]byte{{0}, {0, 5, 0, 'x'}, capsule(bytes.Repeat([]byte("x"), 40_000))[:30_000], {0x17, 40, 'x'}} {
			f, s, peer, _ := start(t, rt)
			go func() {
				_, _ = peer.Write(p)
				peer.Close()
			}()
			if n, err := receive(t, s, f); err != io.ErrUnexpectedEOF {
				t.Errorf("%d bytes, then the end: %d bytes, %v; want that it ended unexpectedly", len(p), len(n), err)
			}
		}
	})
}

func TestSendRefusesTooLong(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f, s, peer, stats := start(t, rt)
		proxytest.Do(t, s, func() {
			if err := f.Send(make([]byte, proxy.MaxDatagram+1)); err != proxy.ErrDatagramTooLong {
				t.Errorf("got %v, want %v", err, proxy.ErrDatagramTooLong)
			}
			if err := f.Send([]byte("next")); err != nil { // the Flow goes on
				t.Error(err)
			}
		})
		peer.Expect(string(capsule([]byte("next"))))
		if n := stats.Counts().Dropped["too_long"]; n != 1 {
			t.Errorf("%d counted as too long, want 1", n)
		}
		proxytest.Do(t, s, func() { f.Close() })
		peer.Close()
		receive(t, s, f)
	})
}

// A reader that does not read costs datagrams and no memory, and nobody waits.
func TestSendDropsWhereThereIsNoRoom(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, plain := range []bool{false, true} {
			s := rt.Shards()[0]
			c, peer := proxytest.Pair(t, s)
			stats := new(proxy.FlowStats)
			var st proxy.Stream = c
			if plain {
				st = struct{ proxy.Stream }{c} // that can neither push nor offer
			}
			f := New(s, st, stats)
			proxytest.Do(t, s, func() {
				p := bytes.Repeat([]byte("x"), 10_000)
				for range 10_000 {
					if err := f.Send(p); err != nil {
						t.Error(err)
						return
					}
				}
			})
			if n := stats.Counts().Dropped["no_room"]; n == 0 {
				t.Error("100 MB were sent to nobody and nothing was dropped")
			}
			go io.Copy(io.Discard, peer)
			proxytest.Do(t, s, func() { f.Close() })
			peer.Close()
			receive(t, s, f)
		}
	})
}

// A Stream that can only wait is written by a task, in order, to the end.
func TestPlainStream(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := proxytest.Pair(t, s)
		f := New(s, struct{ proxy.Stream }{c}, nil)
		var want []byte
		proxytest.Do(t, s, func() {
			for i := range 100 {
				p := bytes.Repeat([]byte{byte(i)}, i)
				want = append(want, capsule(p)...)
				if err := f.Send(p); err != nil {
					t.Error(err)
				}
			}
			f.Close()
			if err := f.Send(nil); err == nil {
				t.Error("sent after Close")
			}
		})
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v; want %d and the end", len(got), err, len(want))
		}
		peer.Close()
		receive(t, s, f)
	})
}

// Close wakes who receives, once the other side has ended, and what has come meanwhile is no more given out.
func TestCloseWakesReceive(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f, s, peer, _ := start(t, rt)
		var err error
		done := proxytest.Go(s, func() {
			if err = f.WaitReadable(); err == nil {
				_, err = f.Receive(make([]byte, 10))
			}
		})
		proxytest.Do(t, s, func() { f.Close() })
		peer.ExpectEOF()
		peer.Send(string(capsule([]byte("late"))))
		peer.Close()
		proxytest.Wait(t, done)
		if err != task.ErrClosed {
			t.Errorf("got %v, want that it is closed", err)
		}
	})
}

func TestReceiveAllocatesNothing(t *testing.T) {
	st := &script{}
	rt := task.NewGoroutines(task.Config{Loops: 1})
	f := New(rt.Shards()[0], st, nil)
	p, c := make([]byte, 2000), capsule(make([]byte, 1200))
	n := proxytest.Allocs(100, func() {
		st.in, st.step = c, len(c)
		if n, err := f.Receive(p); n != 1200 || err != nil {
			t.Error(n, err)
		}
		if err := f.Send(p[:1200]); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a datagram each way, want 0", n)
	}
}

// script is a Stream that gives in, in pieces of step bytes, and takes anything.
type script struct {
	in   []byte
	step int
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(max(s.step, 1), len(s.in))])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Offer(head, body []byte) (bool, error) { return true, nil }
func (s *script) Write(p []byte) (int, error)           { return len(p), nil }
func (s *script) CloseWrite() error                     { return nil }
func (s *script) Close() error                          { return nil }
func (s *script) Reset() error                          { return nil }

// reference decodes a whole stream in the simplest way.
func reference(in []byte, most int) (all [][]byte, err error) {
	for len(in) > 0 {
		typ, n := varint(in)
		length, m := varint(in[n:])
		if n == 0 || m == 0 || uint64(len(in)-n-m) < length {
			// What is cut short is an error, unless it was not wanted anyway: that too.
			return all, io.ErrUnexpectedEOF
		}
		value := in[n+m : n+m+int(length)]
		in = in[n+m+int(length):]
		context, k := varint(value)
		if typ != typeDatagram || k == 0 || context != contextUDP || len(value)-k > most || uint64(len(value)) > maxValue {
			continue
		}
		all = append(all, value[k:])
	}
	return all, io.EOF
}

// FuzzReceive compares a Flow, whose Stream comes in pieces of any size, with the reference.
func FuzzReceive(f *testing.F) {
	rt := task.NewGoroutines(task.Config{Loops: 1})
	f.Fuzz(func(t *testing.T, in []byte, step, room uint16) {
		flow := New(rt.Shards()[0], &script{in: bytes.Clone(in), step: int(step)}, nil)
		want, wantErr := reference(in, int(room))
		p := make([]byte, room)
		for i := 0; ; i++ {
			n, err := flow.Receive(p)
			if err != nil {
				if i != len(want) || !errors.Is(err, wantErr) {
					t.Fatalf("%d datagrams, then %v; want %d, then %v", i, err, len(want), wantErr)
				}
				break
			}
			if i >= len(want) || !bytes.Equal(p[:n], want[i]) {
				t.Fatalf("datagram %d is %q; want %d of them, %q", i, p[:n], len(want), want)
			}
		}
		if b := rt.Stats().Buffers; b != 0 {
			t.Fatalf("%d buffers left", b)
		}
	})
}

func TestVarint(t *testing.T) {
	// RFC 9000 appendix A.1.
	for want, b := range map[uint64][]byte{
		151_288_809_941_952_652: {0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c},
		494_878_333:             {0x9d, 0x7f, 0x3e, 0x7d},
		15_293:                  {0x7b, 0xbd},
		37:                      {0x25},
	} {
		if got := appendVarint(nil, want); !bytes.Equal(got, b) {
			t.Errorf("appendVarint(%d) = %x, want %x", want, got, b)
		}
		if v, n := varint(append(b, 1)); v != want || n != len(b) {
			t.Errorf("varint(%x) = %d, %d; want %d", b, v, n, want)
		}
		for i := range b {
			if _, n := varint(b[:i]); n != 0 {
				t.Errorf("varint(%x) is complete", b[:i])
			}
		}
	}
}
