// Command naivego is one side of the reference pairs: what one writes in an afternoon with the standard library,
// httputil.ReverseProxy over net/http with HTTP/2 between the sides, io.Copy for TCP; or, over QUIC, the same with HTTP/3 of quic-go's own
// package between. bench/compare starts it.
package main

import (
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/bench/peers/side"
)

func main() { side.Main(run) }

func run(o side.Options) error {
	conf, err := o.TLS()
	if err != nil {
		return err
	}
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return err
	}
	if o.Kind == "tcp" {
		return serveTCP(ln, o, conf)
	}
	return serveHTTP(ln, o, conf)
}

// serveHTTP is a ReverseProxy behind a Server.
func serveHTTP(ln net.Listener, o side.Options, conf *tls.Config) error {
	transport := &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 2 * time.Minute, DisableCompression: true}
	target := &url.URL{Scheme: "http", Host: o.Next}
	server := &http.Server{ErrorLog: log.New(os.Stderr, "", 0)}
	var next http.RoundTripper = transport
	switch {
	case o.Near && o.Over == "quic":
		target.Scheme, next = "https", overQUIC(conf)
	case o.Near:
		target.Scheme, transport.TLSClientConfig, transport.ForceAttemptHTTP2 = "https", conf, true
	case o.Kind == "h2c":
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	server.Handler = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport: next,
	}
	switch {
	case o.Near:
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		return server.Serve(ln)
	case o.Over == "quic":
		return serveQUIC(o, conf, server.Handler) // ln stays open: by it others see that this side is ready
	}
	server.TLSConfig = conf
	return server.ServeTLS(ln, "", "")
}

// serveTCP copies bytes, a TLS connection for each connection.
func serveTCP(ln net.Listener, o side.Options, conf *tls.Config) error {
	dial := func() (net.Conn, error) { return net.Dial("tcp", o.Next) }
	if o.Near {
		dial = func() (net.Conn, error) { return tls.Dial("tcp", o.Next, conf) }
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
	both.Go(func() { side.Copy(next, c) })
	both.Go(func() { side.Copy(c, next) })
	both.Wait()
}
