// Command barequic is one side of the reference pairs for links over QUIC: quic-go and as little else as will do, with mutual TLS. What the client
// sends is bytes (-kind tcp), a stream for each of its connections, or HTTP/1.1 (-kind http), a stream for each of its requests.
// bench/compare starts it.
package main

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/bench/peers/side"
	"github.com/quic-go/quic-go"
)

func main() { side.Main(run) }

func run(o side.Options) error {
	conf, err := o.TLS()
	if err != nil {
		return err
	}
	conf.NextProtos = []string{"bare"}
	// Windows as large as those of pillion's links.
	q := &quic.Config{
		MaxIncomingStreams: 1 << 16, KeepAlivePeriod: 10 * time.Second,
		MaxStreamReceiveWindow: 16 << 20, MaxConnectionReceiveWindow: 64 << 20,
	}
	client, app := tunnel, reach
	if o.Kind == "http" {
		client, app = requests, new(apps).answer
	}
	if o.Near {
		return near(o, conf, q, client)
	}
	return far(o, conf, q, app)
}

// near serves each connection that it accepts with serve.
func near(o side.Options, conf *tls.Config, q *quic.Config, serve func(net.Conn, *link)) error {
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return err
	}
	l := &link{dial: func() (*quic.Conn, error) { return quic.DialAddr(context.Background(), o.Next, conf, q) }}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serve(c, l)
	}
}

// link is the one connection to the far side.
type link struct {
	dial func() (*quic.Conn, error)

	mu   sync.Mutex
	conn *quic.Conn
}

func (l *link) open() (*quic.Stream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.conn.Context().Err() != nil {
		conn, err := l.dial()
		if err != nil {
			return nil, err
		}
		l.conn = conn
	}
	return l.conn.OpenStreamSync(context.Background())
}

// far serves each stream with serve. So that others see when it is ready, it listens for TCP there as well.
func far(o side.Options, conf *tls.Config, q *quic.Config, serve func(st *quic.Stream, next string)) error {
	ready, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return err
	}
	defer ready.Close()
	ln, err := quic.ListenAddr(o.Listen, conf, q)
	if err != nil {
		return err
	}
	for {
		conn, err := ln.Accept(context.Background())
		if err != nil {
			return err
		}
		go accept(conn, func(st *quic.Stream) { serve(st, o.Next) })
	}
}

func accept(conn *quic.Conn, serve func(*quic.Stream)) {
	for {
		st, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go serve(st)
	}
}

// tunnel is the near half of a stream for a connection.
func tunnel(c net.Conn, l *link) {
	st, err := l.open()
	if err == nil {
		_, err = st.Write([]byte{0}) // the far side hears of a stream by its first byte, and it may be the app that speaks first
	}
	if err != nil {
		log.Print(err)
		c.Close()
		return
	}
	join(c, st)
}

// reach is the far half.
func reach(st *quic.Stream, next string) {
	var first [1]byte
	_, err := io.ReadFull(st, first[:])
	var c net.Conn
	if err == nil {
		c, err = net.Dial("tcp", next)
	}
	if err != nil {
		log.Print(err)
		reset(st)
		return
	}
	join(c, st)
}

func reset(st *quic.Stream) {
	st.CancelRead(0)
	st.CancelWrite(0)
}

// join copies both ways until both have ended.
func join(c net.Conn, st *quic.Stream) {
	defer c.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(st, c)
		_ = st.Close()
	})
	both.Go(func() {
		side.Copy(c, st)
		st.CancelRead(0) // if it was the client that left
	})
	both.Wait()
}
