package tlsconn

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Each benchmark has one end in the shape under test and a plain tls.Conn as its peer.

const bulk = 64 << 10 // bytes per operation

// runtimeFor is the platform's own runtime.
func runtimeFor(b *testing.B) task.Shard {
	rt, err := task.New(task.Config{Loops: 1, Logger: proxytest.Logger(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(proxytest.Start(b, rt))
	return rt.Shards()[0]
}

func BenchmarkRead(b *testing.B) {
	b.Run("shard", func(b *testing.B) {
		s := runtimeFor(b)
		c, peer := pair(b, s)
		go pour(peer)
		b.SetBytes(bulk)
		b.ReportAllocs()
		proxytest.Do(b, s, func() { readBulk(b, c.Read) })
	})
	b.Run("plain", func(b *testing.B) {
		c, peer := plainPair(b)
		go pour(peer)
		b.SetBytes(bulk)
		b.ReportAllocs()
		readBulk(b, c.Read)
	})
}

func BenchmarkPush(b *testing.B) {
	b.Run("shard", func(b *testing.B) {
		s := runtimeFor(b)
		c, peer := pair(b, s)
		go io.Copy(io.Discard, peer)
		b.SetBytes(bulk)
		b.ReportAllocs()
		proxytest.Do(b, s, func() {
			d := newDrained(s, c)
			p := make([]byte, bulk)
			for b.Loop() {
				c.Push(p)
				d.wait()
			}
		})
	})
	b.Run("plain", func(b *testing.B) {
		c, peer := plainPair(b)
		go io.Copy(io.Discard, peer)
		b.SetBytes(bulk)
		b.ReportAllocs()
		p := make([]byte, bulk)
		for b.Loop() {
			c.Write(p)
		}
	})
}

func BenchmarkPingPong(b *testing.B) {
	b.Run("shard", func(b *testing.B) {
		s := runtimeFor(b)
		c, peer := pair(b, s)
		go echo(peer)
		b.ReportAllocs()
		proxytest.Do(b, s, func() { pingPong(b, c.Push, c.Read) })
	})
	b.Run("plain", func(b *testing.B) {
		c, peer := plainPair(b)
		go echo(peer)
		b.ReportAllocs()
		pingPong(b, func(p []byte) error { _, err := c.Write(p); return err }, c.Read)
	})
}

func readBulk(b *testing.B, read func([]byte) (int, error)) {
	p := make([]byte, bulk)
	for b.Loop() {
		for left := bulk; left > 0; {
			n, err := read(p[:left])
			if err != nil {
				b.Errorf("read: %v", err)
				return
			}
			left -= n
		}
	}
}

func pingPong(b *testing.B, push func([]byte) error, read func([]byte) (int, error)) {
	p := make([]byte, 200)
	for b.Loop() {
		if err := push(p); err != nil {
			b.Errorf("push: %v", err)
			return
		}
		if _, err := read(p); err != nil {
			b.Errorf("read: %v", err)
			return
		}
	}
}

func pour(c net.Conn) {
	p := make([]byte, bulk)
	for {
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

func echo(c net.Conn) {
	p := make([]byte, 1<<10)
	for {
		n, err := c.Read(p)
		if err != nil {
			return
		}
		c.Write(p[:n])
	}
}

func plainPair(b *testing.B) (net.Conn, net.Conn) {
	client, server := configs(b)
	x, y := proxytest.NetPair(b, "tcp", "127.0.0.1:0")
	peer, c := tls.Client(y, client), tls.Server(x, server)
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	if err := c.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { x.Close() })
	return c, peer
}
