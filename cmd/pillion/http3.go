package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/bridge"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/devca"
)

// Apps that speak HTTP/3 themselves: those that are called, and those that call.

func appsSpeakHTTP3(cfg *config.Config) bool {
	return cfg.Outbound.HTTP3.On || slices.ContainsFunc(cfg.App, func(a config.App) bool { return a.Protocol == config.AppH3 })
}

// appTLS returns the function that says whom to expect at an app.
func appTLS(a config.AppTLS) func() (*tls.Config, error) {
	return func() (*tls.Config, error) {
		c := &tls.Config{ServerName: a.Name, InsecureSkipVerify: a.Insecure, MinVersion: tls.VersionTLS13}
		if a.Roots == "" || a.Insecure {
			return c, nil
		}
		pem, err := os.ReadFile(a.Roots)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", a.Roots)
		}
		return c, nil
	}
}

// listenHTTP3 binds the socket of outbound.http3.
func listenHTTP3(l config.Listen) (*net.UDPConn, error) {
	addr, err := net.ResolveUDPAddr("udp", l.Address())
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp", addr)
}

// newHTTP3 is the HTTP/3 server for the app, nil where the configuration has none. What comes in over QUIC, on goroutines, crosses to a loop, where
// the way out begins.
func newHTTP3(rt task.Runtime, g goroutines, socks *sockets, u *udp, stack outboundStack, f *flows, now *present, cfg *config.Config, log *slog.Logger) (*http3.Server, error) {
	if socks.http3 == nil {
		return nil, nil
	}
	u.tune(socks.http3)
	cert, err := http3Certificate(cfg, now)
	if err != nil {
		return nil, fmt.Errorf("outbound.http3: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert() }}
	if _, err := cert(); err != nil {
		return nil, fmt.Errorf("outbound.http3: %w", err)
	}
	shards := rt.Shards()
	behave := func(s task.Shard) http3.Config {
		near := shards[s.Index()%len(shards)]
		return http3.Config{
			Handler: bridge.New(s, near, stack), Prepare: claim, Tunnel: relay.Copy, Flows: f.relay, Answer: answer.Fill,
			MaxStreams: maxAppStreams, MaxHead: int(cfg.Limits.Head), Logger: log,
		}
	}
	conns := cfg.Limits.Connections
	if conns == 0 {
		conns = 10_000
	}
	return http3.NewSocket(socks.http3).Listen(conf, http3.Timing{}, g.Shards(), conns, behave)
}

// maxAppStreams bounds the concurrent requests of one connection of the app.
const maxAppStreams = 1000

// claim says where a request comes from.
func claim(req *proxy.Request) { req.Local = true }

// http3Certificate returns the function that gives the certificate of the HTTP/3 server as it is to be now: read again each time, or issued again
// when half of its life is over.
func http3Certificate(cfg *config.Config, now *present) (func() (*tls.Certificate, error), error) {
	o := cfg.Outbound
	if o.HTTP3Cert != "" {
		return func() (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.HTTP3Cert, o.HTTP3Key)
			return &c, err
		}, nil
	}
	ca, _, err := devca.OpenFor(cfg.Identity.DevCA, cfg.Identity.TrustDomain)
	if err != nil {
		return nil, err
	}
	issued := &issuedCert{number: func() int { return now.now.Load().number }}
	issued.issue = func() (cert, key []byte, err error) {
		names := []string{"localhost", "127.0.0.1", "::1"}
		for _, s := range now.now.Load().cfg.Services {
			names = append(names, s.Name)
			if o.DNSSuffix != "" {
				names = append(names, s.Name+"."+o.DNSSuffix)
			}
		}
		return ca.Issue(cfg.ID(), devca.IssueOptions{Hosts: names})
	}
	return issued.get, nil
}

// issuedCert is a certificate that is issued when needed. It is used by ordinary goroutines.
type issuedCert struct {
	issue  func() (cert, key []byte, err error)
	number func() int // of the configuration whose services it is for

	mu    sync.Mutex
	cert  *tls.Certificate
	until time.Time
	of    int // the number that it was issued for
}

func (c *issuedCert) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := c.number()
	if c.cert != nil && c.of == number && time.Now().Before(c.until) {
		return c.cert, nil
	}
	cert, key, err := c.issue()
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	c.cert, c.of, c.until = &pair, number, time.Now().Add(devca.DefaultLifetime/2)
	return c.cert, nil
}

// serveHTTP3 accepts the app's connections over QUIC.
func (s *sidecar) serveHTTP3(ctx context.Context) error {
	if err := s.HTTP3.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serve outbound.http3: %w", err)
	}
	return nil
}
