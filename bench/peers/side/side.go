// Package side is what the reference pairs have in common, each of which is one command that bench/compare starts twice: the command line of one
// side, its TLS, and how bytes are copied.
package side

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// Options are the command line of one side.
type Options struct {
	Near         bool   // beside the client; the other is beside the app
	Kind         string // what the client sends: http, h2c or tcp
	Over         string // what is between the sides: tcp or quic
	Listen, Next string // where to accept, and where to connect, host:port

	cert, key, roots string
}

// Main runs one side as the process's command line says, and ends the process if that fails.
func Main(run func(Options) error) {
	var o Options
	side := flag.String("side", "near", "near the client, or far from it")
	flag.StringVar(&o.Kind, "kind", "http", "http, h2c or tcp")
	flag.StringVar(&o.Over, "over", "tcp", "tcp or quic")
	flag.StringVar(&o.Listen, "listen", "", "where to accept")
	flag.StringVar(&o.Next, "next", "", "where to connect")
	flag.StringVar(&o.cert, "cert", "", "certificate, PEM")
	flag.StringVar(&o.key, "key", "", "its key, PEM")
	flag.StringVar(&o.roots, "roots", "", "the authority's certificate, PEM")
	flag.Parse()
	o.Near = *side == "near"
	if err := run(o); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(1)
	}
}

// TLS is the configuration of both roles: TLS 1.3, and both prove who they are.
func (o Options) TLS() (*tls.Config, error) {
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
		ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

// Copy copies until from ends, and passes the end on, if to has a way to say it.
func Copy(to io.Writer, from io.Reader) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
