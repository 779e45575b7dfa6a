package relay

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// start relays between the two far ends of the connections that it returns.
func start(t *testing.T, rt task.Runtime) (a, b *proxytest.Peer, result *Result, done <-chan struct{}) {
	t.Helper()
	s := rt.Shards()[0]
	ca, pa := proxytest.Pair(t, s)
	cb, pb := proxytest.Pair(t, s)
	result = new(Result)
	done = proxytest.Go(s, func() { *result = Count(s, ca, cb) })
	return proxytest.NewPeer(t, pa), proxytest.NewPeer(t, pb), result, done
}

func TestCopiesBothWays(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a, b, result, done := start(t, rt)
		b.Send("banner") // the server may speak first
		a.Expect("banner")
		a.Send("hello")
		b.Expect("hello")
		a.FinishSending()
		b.ExpectEOF()
		b.Send("still here") // half-close: the other direction goes on
		a.Expect("still here")
		b.FinishSending()
		a.ExpectEOF()
		proxytest.Wait(t, done)
		if result.Err() != nil || result.AtoB.Bytes != 5 || result.BtoA.Bytes != 16 {
			t.Errorf("result %+v, want 5 and 16 bytes without error", *result)
		}
	})
}

func TestKeepsReset(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a, b, result, done := start(t, rt)
		a.Send("x")
		b.Expect("x")
		a.Abort()
		if n, err := b.Conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %d, %v at the other side of a reset, want a reset", n, err)
		}
		proxytest.Wait(t, done)
		if result.Err() == nil {
			t.Error("a reset relay has no error")
		}
	})
}

// A reset of the side that has finished sending reaches the other one too.
func TestKeepsResetAfterHalfClose(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a, b, _, done := start(t, rt)
		a.FinishSending()
		b.ExpectEOF()
		b.Abort()
		if n, err := a.Conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %d, %v at the other side of a reset, want a reset", n, err)
		}
		proxytest.Wait(t, done)
	})
}

// A reader that does not read stops the writer.
func TestBackPressure(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a, b, _, done := start(t, rt)
		total := 0
		chunk := strings.Repeat("x", 1<<20)
		for {
			a.Conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			n, err := io.WriteString(a.Conn, chunk)
			total += n
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if total > 256<<20 {
				t.Fatal("256 MiB went into a relay that nobody reads from")
			}
		}
		a.FinishSending()
		if n, err := io.Copy(io.Discard, b.Conn); err != nil || int(n) != total {
			t.Errorf("received %d bytes, %v, want %d", n, err, total)
		}
		b.FinishSending()
		a.ExpectEOF()
		proxytest.Wait(t, done)
	})
}

// A direction that waits holds no buffer.
func TestIdleHoldsNoBuffer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a, b, _, done := start(t, rt)
		a.Send("x")
		b.Expect("x")
		proxytest.Eventually(t, "no buffer is held", func() bool { return rt.Stats().Buffers == 0 })
		a.FinishSending()
		b.FinishSending()
		proxytest.Wait(t, done)
	})
}

// script is a Stream that is ready to read in pieces of these sizes, and notes how much it was asked for.
type script struct {
	proxy.Stream
	sizes []int
	asked []int
}

func (s *script) Read(p []byte) (int, error) {
	s.asked = append(s.asked, len(p))
	if len(s.sizes) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), s.sizes[0])
	s.sizes = s.sizes[1:]
	return n, nil
}

// Bytes that come in bulk are read in larger pieces, for as long as they do.
func TestBulk(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		const large, small = task.DatagramSize, task.BufferSize
		src := &script{sizes: []int{100, small, large, small, small - 1, 1, large}}
		want := []int{small, small, large, large, large, small, small, large}
		proxytest.Do(t, s, func() {
			if _, err := (&relay{s: s}).move(sink{}, src); err != nil {
				t.Error(err)
			}
		})
		if !slices.Equal(src.asked, want) {
			t.Errorf("reads of %v bytes, want %v", src.asked, want)
		}
	})
}

// sink takes everything.
type sink struct{ proxy.Stream }

func (sink) Write(p []byte) (int, error) { return len(p), nil }
