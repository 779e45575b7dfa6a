// Command naivego is one side of the reference pair: what one writes in an afternoon with the standard library,
// httputil.ReverseProxy over net/http with HTTP/2 between the sides, io.Copy for TCP. bench/compare starts it.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

type options struct {
	near             bool
	kind             string
	listen, next     string
	cert, key, roots string
}

func main() {
	var o options
	side := flag.String("side", "near", "near the client, or far from it")
	flag.StringVar(&o.kind, "kind", "http", "http, h2c or tcp")
	flag.StringVar(&o.listen, "listen", "", "where to accept")
	flag.StringVar(&o.next, "next", "", "where to connect")
	flag.StringVar(&o.cert, "cert", "", "certificate, PEM")
	flag.StringVar(&o.key, "key", "", "its key, PEM")
	flag.StringVar(&o.roots, "roots", "", "the authority's certificate, PEM")
	flag.Parse()
	o.near = *side == "near"
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "naivego:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	conf, err := o.tls()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	if o.kind == "tcp" {
		return serveTCP(ln, o, conf)
	}
	return serveHTTP(ln, o, conf)
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
		ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}, nil
}

// serveHTTP is a ReverseProxy behind a Server.
func serveHTTP(ln net.Listener, o options, conf *tls.Config) error {
	transport := &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 2 * time.Minute, DisableCompression: true}
	target := &url.URL{Scheme: "http", Host: o.next}
	server := &http.Server{ErrorLog: log.New(os.Stderr, "", 0)}
	switch {
	case o.near:
		target.Scheme, transport.TLSClientConfig, transport.ForceAttemptHTTP2 = "https", conf, true
	case o.kind == "h2c":
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	server.Handler = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport: transport,
	}
	if !o.near {
		server.TLSConfig = conf
		return server.ServeTLS(ln, "", "")
	}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.Serve(ln)
}

// serveTCP copies bytes, a TLS connection for each connection.
func serveTCP(ln net.Listener, o options, conf *tls.Config) error {
	dial := func() (net.Conn, error) { return net.Dial("tcp", o.next) }
	if o.near {
		dial = func() (net.Conn, error) { return tls.Dial("tcp", o.next, conf) }
	} else {
		ln = tls.NewListener(ln, conf)
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go tunnel(c, dial)
	}
}

// tunnel copies both ways until both have ended.
func tunnel(c net.Conn, dial func() (net.Conn, error)) {
	defer c.Close()
	next, err := dial()
	if err != nil {
		log.Print(err)
		return
	}
	defer next.Close()
	var both sync.WaitGroup
	both.Go(func() { copyAndClose(next, c) })
	both.Go(func() { copyAndClose(c, next) })
	both.Wait()
}

// copyAndClose passes the end of the bytes on.
func copyAndClose(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
