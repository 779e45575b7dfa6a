// Command barequic is one side of the reference pair for links over QUIC: quic-go and nothing else, a stream for each connection of the client's,
// with mutual TLS. It understands nothing of what it carries. bench/compare starts it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

type options struct {
	near             bool
	listen, next     string
	cert, key, roots string
}

func main() {
	var o options
	side := flag.String("side", "near", "near the client, or far from it")
	flag.StringVar(&o.listen, "listen", "", "where to accept")
	flag.StringVar(&o.next, "next", "", "where to connect")
	flag.StringVar(&o.cert, "cert", "", "certificate, PEM")
	flag.StringVar(&o.key, "key", "", "its key, PEM")
	flag.StringVar(&o.roots, "roots", "", "the authority's certificate, PEM")
	flag.Parse()
	o.near = *side == "near"
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "barequic:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	conf, err := o.tls()
	if err != nil {
		return err
	}
	// Windows as large as those of pillion's links.
	q := &quic.Config{
		MaxIncomingStreams: 1 << 16, KeepAlivePeriod: 10 * time.Second,
		MaxStreamReceiveWindow: 16 << 20, MaxConnectionReceiveWindow: 64 << 20,
	}
	if o.near {
		return near(o, conf, q)
	}
	return far(o, conf, q)
}

// tls is the configuration of both roles.
func (o options) tls() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(o.roots)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + o.roots)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ServerName: "app", RootCAs: roots,
		ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"bare"},
	}, nil
}

// near opens a stream for each connection that it accepts.
func near(o options, conf *tls.Config, q *quic.Config) error {
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	l := &link{dial: func() (*quic.Conn, error) { return quic.DialAddr(context.Background(), o.next, conf, q) }}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			st, err := l.open()
			if err != nil {
				log.Print(err)
				c.Close()
				return
			}
			join(c, st)
		}()
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
	st, err := l.conn.OpenStreamSync(context.Background())
	if err != nil {
		return nil, err
	}
	_, err = st.Write([]byte{0}) // the far side hears of a stream by its first byte, and it may be the app that speaks first
	return st, err
}

// far connects to the app for each stream. So that others see when it is ready, it listens for TCP there as well.
func far(o options, conf *tls.Config, q *quic.Config) error {
	ready, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	defer ready.Close()
	ln, err := quic.ListenAddr(o.listen, conf, q)
	if err != nil {
		return err
	}
	for {
		conn, err := ln.Accept(context.Background())
		if err != nil {
			return err
		}
		go serve(conn, o.next)
	}
}

func serve(conn *quic.Conn, next string) {
	for {
		st, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go func() {
			var first [1]byte
			_, err := io.ReadFull(st, first[:])
			var c net.Conn
			if err == nil {
				c, err = net.Dial("tcp", next)
			}
			if err != nil {
				log.Print(err)
				st.CancelRead(0)
				st.CancelWrite(0)
				return
			}
			join(c, st)
		}()
	}
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
		_, _ = io.Copy(c, st)
		st.CancelRead(0) // if it was the client that left
		_ = c.(*net.TCPConn).CloseWrite()
	})
	both.Wait()
}
