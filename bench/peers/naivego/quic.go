package main

import (
	"crypto/tls"
	"net/http"
	"time"

	"github.com/pillion-proxy/pillion/bench/peers/side"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// config has windows as large as those of pillion's links.
func config() *quic.Config {
	return &quic.Config{
		MaxIncomingStreams: 1000, KeepAlivePeriod: 10 * time.Second,
		MaxStreamReceiveWindow: 16 << 20, MaxConnectionReceiveWindow: 64 << 20,
	}
}

func overQUIC(conf *tls.Config) http.RoundTripper {
	return &http3.Transport{TLSClientConfig: conf, QUICConfig: config(), DisableCompression: true}
}

func serveQUIC(o side.Options, conf *tls.Config, handler http.Handler) error {
	server := http3.Server{Addr: o.Listen, TLSConfig: http3.ConfigureTLSConfig(conf), QUICConfig: config(), Handler: handler}
	return server.ListenAndServe()
}
