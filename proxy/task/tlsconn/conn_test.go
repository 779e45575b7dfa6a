package tlsconn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

var _ interface {
	Read(p []byte) (int, error)
	WaitReadable() error
	Push(p []byte) error
	Queued() int
	OnDrain(f func())
	OnHangup(f func(err error))
	CloseWrite() error
	Close() error
	Reset() error
	SetDeadline(t task.Instant)
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
} = (*Conn)(nil)

// filler is a reproducible stream of bytes.
func filler(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// drained makes wait return once c has nothing queued. Prepare it on the shard.
type drained struct {
	c    *Conn
	gate task.Gate
}

func newDrained(s task.Shard, c *Conn) *drained {
	d := &drained{c: c}
	s.Gate(&d.gate)
	c.OnDrain(d.gate.Wake)
	return d
}

func (d *drained) wait() {
	for d.c.Queued() > 0 {
		d.gate.Wait(0)
	}
}

func TestBothWays(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const total = 64 << 20
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		up, down, received := sha256.New(), sha256.New(), sha256.New()

		reading := proxytest.Go(s, func() {
			rng := rand.New(rand.NewPCG(1, 2))
			p := make([]byte, 100<<10)
			for {
				n, err := c.Read(p[:1+rng.IntN(len(p))])
				up.Write(p[:n])
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
		writing := proxytest.Go(s, func() {
			rng := rand.New(rand.NewPCG(3, 4))
			src := filler(2)
			d := newDrained(s, c)
			p := make([]byte, 200<<10)
			for left := total; left > 0; {
				n := min(left, 1+rng.IntN(len(p)))
				io.ReadFull(src, p[:n])
				down.Write(p[:n])
				if err := c.Push(p[:n]); err != nil {
					t.Errorf("push: %v", err)
					return
				}
				left -= n
				d.wait()
			}
			if err := c.CloseWrite(); err != nil {
				t.Errorf("close write: %v", err)
			}
		})
		sent := sha256.New()
		peerWrote := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.MultiWriter(peer, sent), filler(1), total)
			peerWrote <- errors.Join(err, peer.CloseWrite())
		}()
		n, err := io.Copy(received, peer)
		if err != nil || n != total {
			t.Errorf("the peer received %d bytes, %v; want %d", n, err, total)
		}
		if err := <-peerWrote; err != nil {
			t.Errorf("the peer's writes: %v", err)
		}
		proxytest.Wait(t, reading)
		proxytest.Wait(t, writing)
		if !bytes.Equal(up.Sum(nil), sent.Sum(nil)) {
			t.Error("what was read is not what the peer sent")
		}
		if !bytes.Equal(down.Sum(nil), received.Sum(nil)) {
			t.Error("what the peer received is not what was pushed")
		}
	})
}

func TestEcho(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		echo := proxytest.Go(s, func() {
			var buf [4 << 10]byte
			for {
				if err := c.WaitReadable(); err != nil {
					t.Errorf("wait readable: %v", err)
					return
				}
				n, err := c.Read(buf[:])
				if err != nil {
					if err != io.EOF {
						t.Errorf("read: %v", err)
					}
					return
				}
				if err := c.Push(buf[:n]); err != nil {
					t.Errorf("push: %v", err)
				}
			}
		})
		rng := rand.New(rand.NewPCG(5, 6))
		src := filler(3)
		for range 300 {
			sent := make([]byte, 1+rng.IntN(40<<10))
			io.ReadFull(src, sent)
			go peer.Write(sent)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("echo of %d bytes: %v, equal %v", len(sent), err, bytes.Equal(got, sent))
			}
		}
		peer.CloseWrite()
		proxytest.Wait(t, echo)
	})
}

// A client may send right behind its Finished, so that tls.Conn has the bytes before Attach.
func TestBytesOfTheHandshake(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		client, server := configs(t)
		a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
		peer := tls.Client(corked(b), client)
		go func() {
			peer.Handshake()
			peer.Write([]byte("early "))
			peer.Write([]byte("bird"))
			uncork(peer)
		}()
		c := attach(t, s, a, server)
		proxytest.Do(t, s, func() {
			var got []byte
			var p [3]byte
			for len(got) < len("early bird") {
				n, err := c.Read(p[:])
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				got = append(got, p[:n]...)
			}
			if string(got) != "early bird" {
				t.Errorf("read %q, want %q", got, "early bird")
			}
		})
	})
}

// cork holds back the second flight of a TLS client until it is uncorked.
type cork struct {
	net.Conn
	writes int
	held   []byte
}

func corked(c net.Conn) net.Conn { return &cork{Conn: c} }

func (c *cork) Write(p []byte) (int, error) {
	if c.writes++; c.writes == 1 {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func uncork(peer *tls.Conn) {
	c := peer.NetConn().(*cork)
	c.Conn.Write(c.held)
}

// One large Read takes every whole record that has arrived.
func TestLargeRead(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		client, server := configs(t)
		a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
		held := &cork{Conn: b}
		peer := tls.Client(held, client)
		done := make(chan error, 1)
		go func() { done <- peer.Handshake(); uncork(peer) }()
		c := attach(t, s, a, server)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"one ", "two ", "three"} {
			peer.Write([]byte(text))
		}
		held.Conn.Write(held.held[len(held.held)-3*22-len("one two three"):])
		proxytest.Do(t, s, func() {
			var p [100]byte
			n, err := c.Read(p[:])
			if string(p[:n]) != "one two three" || err != nil {
				t.Errorf("Read = %q, %v; want all three records", p[:n], err)
			}
		})
	})
}

func TestCloseNotifyIsEOF(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		peer.Write([]byte("last words"))
		peer.Close()
		proxytest.Do(t, s, func() {
			p := make([]byte, 100)
			n, err := c.Read(p)
			if string(p[:n]) != "last words" || err != nil {
				t.Errorf("Read = %q, %v; want the last words", p[:n], err)
			}
			for range 2 {
				if err := c.WaitReadable(); err != nil {
					t.Errorf("WaitReadable at the end = %v, want nil", err)
				}
				if n, err := c.Read(p); n != 0 || err != io.EOF {
					t.Errorf("Read at the end = %d, %v; want io.EOF", n, err)
				}
			}
		})
	})
}

func TestTruncation(t *testing.T) {
	for name, cut := range map[string]func(raw *net.TCPConn){
		"between records": func(raw *net.TCPConn) { raw.CloseWrite() },
		"in a header":     func(raw *net.TCPConn) { raw.Write([]byte{23, 3}); raw.CloseWrite() },
		"in a record":     func(raw *net.TCPConn) { raw.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3}); raw.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				s := rt.Shards()[0]
				c, peer := pair(t, s)
				peer.Write([]byte("half"))
				cut(peer.NetConn().(*net.TCPConn))
				proxytest.Do(t, s, func() {
					p := make([]byte, 100)
					if n, err := c.Read(p); string(p[:n]) != "half" || err != nil {
						t.Errorf("Read = %q, %v; want what had come", p[:n], err)
					}
					for range 2 {
						if n, err := c.Read(p); n != 0 || err != io.ErrUnexpectedEOF {
							t.Errorf("Read = %d, %v; want io.ErrUnexpectedEOF", n, err)
						}
					}
				})
			})
		})
	}
}

func TestResetIsAnError(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		reading := proxytest.Go(s, func() {
			if n, err := c.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
				t.Errorf("Read of a reset connection = %d, %v; want the reset", n, err)
			}
		})
		raw := peer.NetConn().(*net.TCPConn)
		raw.SetLinger(0)
		raw.Close()
		proxytest.Wait(t, reading)

		c, peer = pair(t, s)
		proxytest.Call(t, s, func() { c.Reset(); c.Reset() })
		if n, err := peer.Read(make([]byte, 10)); err == nil || err == io.EOF {
			t.Errorf("the peer of a reset connection reads %d, %v; want an error", n, err)
		}
		proxytest.Do(t, s, func() {
			if _, err := c.Read(make([]byte, 10)); err != task.ErrClosed {
				t.Errorf("Read after Reset = %v, want ErrClosed", err)
			}
			if err := c.Push([]byte("x")); err != task.ErrClosed {
				t.Errorf("Push after Reset = %v, want ErrClosed", err)
			}
		})
	})
}

func TestClose(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		reading := proxytest.Go(s, func() {
			if _, err := c.Read(make([]byte, 10)); err != task.ErrClosed {
				t.Errorf("Read = %v, want ErrClosed", err)
			}
		})
		proxytest.Call(t, s, func() {
			c.Push([]byte("bye"))
			c.Close()
			c.Close()
		})
		proxytest.Wait(t, reading)
		if got, err := io.ReadAll(peer); string(got) != "bye" || err != nil {
			t.Errorf("the peer reads %q, %v; want %q and close_notify", got, err, "bye")
		}
		if err := c.Push(nil); err != nil {
			t.Errorf("Push of nothing = %v", err)
		}
	})
}

// What is pushed before CloseWrite arrives, and the other direction stays open.
func TestCloseWrite(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		big := bytes.Repeat([]byte("abcdefgh"), 1<<19) // 4 MiB, so that some of it is queued
		proxytest.Call(t, s, func() {
			c.Push(big)
			if err := c.CloseWrite(); err != nil {
				t.Errorf("CloseWrite = %v", err)
			}
			if err := c.Push([]byte("x")); err == nil {
				t.Error("Push after CloseWrite succeeded")
			}
		})
		if got, err := io.ReadAll(peer); !bytes.Equal(got, big) || err != nil {
			t.Errorf("the peer reads %d bytes, %v; want %d", len(got), err, len(big))
		}
		peer.Write([]byte("still here"))
		proxytest.Do(t, s, func() {
			p := make([]byte, 100)
			if n, err := c.Read(p); string(p[:n]) != "still here" || err != nil {
				t.Errorf("Read after CloseWrite = %q, %v", p[:n], err)
			}
		})
	})
}

// A deadline that passes, even in the middle of a record, spoils nothing.
func TestDeadline(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		client, server := configs(t)
		a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
		slow := &cork{Conn: b}
		peer := tls.Client(slow, client)
		done := make(chan error, 1)
		go func() {
			err := peer.Handshake()
			uncork(peer)
			slow.held = nil
			done <- err
		}()
		c := attach(t, s, a, server)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		proxytest.Do(t, s, func() {
			p := make([]byte, 10)
			c.SetDeadline(s.Now().Add(20 * time.Millisecond))
			if n, err := c.Read(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read = %d, %v; want the deadline", n, err)
			}
			if err := c.WaitReadable(); !errors.Is(err, task.ErrDeadline) {
				t.Errorf("WaitReadable = %v; want the deadline", err)
			}
		})
		peer.Write([]byte("hello"))
		slow.Conn.Write(slow.held[:7])
		proxytest.Do(t, s, func() {
			c.SetDeadline(s.Now().Add(50 * time.Millisecond))
			if err := c.WaitReadable(); !errors.Is(err, task.ErrDeadline) {
				t.Errorf("WaitReadable in the middle of a record = %v; want the deadline", err)
			}
		})
		slow.Conn.Write(slow.held[7:])
		proxytest.Do(t, s, func() {
			c.SetDeadline(0)
			p := make([]byte, 10)
			if n, err := c.Read(p); string(p[:n]) != "hello" || err != nil {
				t.Errorf("Read = %q, %v; want hello", p[:n], err)
			}
		})
	})
}

// A forged record ends the connection with an error, and the peer gets the alert.
func TestForgedRecord(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		peer.NetConn().Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
		proxytest.Do(t, s, func() {
			if n, err := c.Read(make([]byte, 10)); n != 0 || err == nil || !strings.Contains(err.Error(), "bad record MAC") {
				t.Errorf("Read = %d, %v; want bad record MAC", n, err)
			}
			if err := c.Push([]byte("x")); err == nil {
				t.Error("Push after a fatal alert succeeded")
			}
		})
		if _, err := peer.Read(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
			t.Errorf("the peer reads %v; want the alert", err)
		}
	})
}

func TestTickets(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		client, server := configs(t)
		server.SessionTicketsDisabled = false
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
		peer := tls.Server(b, server)
		go func() {
			peer.Handshake()
			peer.Write([]byte("after the ticket"))
		}()
		h, err := Client(t.Context(), a, client)
		if err != nil {
			t.Fatal(err)
		}
		proxytest.Do(t, s, func() {
			c, err := h.Attach(s)
			if err != nil {
				t.Errorf("attach: %v", err)
				return
			}
			defer c.Close()
			p := make([]byte, 100)
			if n, err := c.Read(p); string(p[:n]) != "after the ticket" || err != nil {
				t.Errorf("Read = %q, %v", p[:n], err)
			}
			if _, err := h.Attach(s); err == nil {
				t.Error("a second Attach succeeded")
			}
		})
		if err := h.Close(); err != nil {
			t.Errorf("Close of what was attached = %v", err)
		}
		if _, ok := client.ClientSessionCache.Get("example.com"); !ok {
			t.Error("the ticket did not reach the session cache")
		}
	})
}

// A refused client learns why from its first Read, although it had sent something already.
func TestRefusalArrives(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		client, server := configs(t)
		refusal := errors.New("not today")
		server.VerifyConnection = func(tls.ConnectionState) error { return refusal }
		for range 20 {
			a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
			done := make(chan error, 1)
			go func() {
				_, err := Server(context.Background(), b, server)
				done <- err
			}()
			h, err := Client(t.Context(), a, client)
			if err != nil {
				t.Fatal(err)
			}
			proxytest.Do(t, s, func() {
				c, err := h.Attach(s)
				if err != nil {
					t.Errorf("attach: %v", err)
					return
				}
				c.Push(make([]byte, 1000))
				if _, err := c.Read(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "bad certificate") {
					t.Errorf("Read = %v; want the alert", err)
				}
				c.Close()
			})
			if err := <-done; err != refusal {
				t.Errorf("Server = %v, want %v", err, refusal)
			}
		}
	})
}

func TestHandshakeEndsWithItsContext(t *testing.T) {
	proxytest.Goroutines(t)
	client, server := configs(t)
	for name, f := range map[string]func(ctx context.Context, c net.Conn) error{
		"client": func(ctx context.Context, c net.Conn) error { _, err := Client(ctx, c, client); return err },
		"server": func(ctx context.Context, c net.Conn) error { _, err := Server(ctx, c, server); return err },
	} {
		a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := f(ctx, a); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a silent peer: %v; want the context's error", name, err)
		}
		cancel()
		b.Close()
	}
}

func TestOutIsGivenBack(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		go discard(peer.NetConn())
		proxytest.Do(t, s, func() {
			c.Push(make([]byte, 1<<20))
			if got := cap(c.wire.out); got < 64<<10 || got > 256<<10 {
				t.Errorf("cap(out) = %d after 1 MiB, want a little over 64 KiB", got)
			}
			for range lessMost + 1 {
				c.Push([]byte("small"))
			}
			if got := cap(c.wire.out); got > smallOut {
				t.Errorf("cap(out) = %d after many small sends, want at most %d", got, smallOut)
			}
		})
	})
}

func discard(c net.Conn) {
	p := make([]byte, 64<<10)
	for {
		if _, err := c.Read(p); err != nil {
			return
		}
	}
}

func TestFrames(t *testing.T) {
	stream := []byte{23, 3, 3, 0, 2, 1, 2, 23, 3, 3, 0, 0, 22, 3, 3, 1, 0}
	stream = append(stream, make([]byte, 256)...)
	for step := 1; step <= len(stream); step++ {
		var f frames
		for rest := stream; len(rest) > 0; {
			n := min(step, len(rest))
			f.add(rest[:n])
			rest = rest[n:]
		}
		if f.whole != 3 || f.have != 0 || f.skip != 0 {
			t.Fatalf("in steps of %d: %+v; want three whole records", step, f)
		}
	}
}

// FuzzFrames checks that the count of records does not depend on how the stream is cut.
func FuzzFrames(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		var whole, pieces frames
		whole.add(stream)
		for rest := stream; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			pieces.add(rest[:n])
			rest = rest[n:]
		}
		if whole != pieces || whole.whole > len(stream)/recordHeader {
			t.Errorf("%x: %+v at once, %+v in pieces of %d", stream, whole, pieces, int(step)+1)
		}
	})
}
