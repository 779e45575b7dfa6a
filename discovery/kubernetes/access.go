package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// credentials are whom to ask, and as whom. What is in files is read when it is needed: tokens and certificates change.
type credentials struct {
	address           string
	name              string // to expect in the server's certificate; "" is the host of address
	roots             []byte // PEM
	rootsFile         string
	insecure          bool
	token, tokenFile  string
	cert, key         []byte // PEM
	certFile, keyFile string
}

// client is an HTTP client, and the authorities that it was made with.
type client struct {
	http  *http.Client
	roots []byte
}

const (
	dialTime   = 5 * time.Second  // for a connection, and for its TLS handshake
	answerTime = 15 * time.Second // from a request to the head of its answer
	pingTime   = 10 * time.Second // of silence, before a PING; and from that to its answer
)

// do sends a GET for path.
func (c *Cluster) do(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	cl, err := c.connect()
	if err != nil {
		return nil, err
	}
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	token := c.auth.token
	if c.auth.tokenFile != "" {
		b, err := os.ReadFile(c.auth.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "pillion")
	resp, err := cl.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // it names the URL, with its long query
			err = ue.Err
		}
		return nil, err
	}
	return resp, nil
}

// connect returns a client that believes the authorities as they are now.
func (c *Cluster) connect() (*http.Client, error) {
	roots := c.auth.roots
	if c.auth.rootsFile != "" && c.base.Scheme == "https" {
		var err error
		if roots, err = os.ReadFile(c.auth.rootsFile); err != nil {
			return nil, fmt.Errorf("roots: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && bytes.Equal(c.client.roots, roots) {
		return c.client.http, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.auth.name, InsecureSkipVerify: c.auth.insecure, GetClientCertificate: c.certificate}
	if len(roots) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("roots: no certificate in %s", c.auth.rootsFile)
		}
	}
	if c.client != nil {
		c.client.http.CloseIdleConnections()
	}
	c.client = &client{roots: roots, http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:       conf,
			DialContext:           (&net.Dialer{Timeout: dialTime}).DialContext,
			TLSHandshakeTimeout:   dialTime,
			ResponseHeaderTimeout: answerTime,
			ForceAttemptHTTP2:     true,
			HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingTime, PingTimeout: pingTime},
			IdleConnTimeout:       time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token is for one server
	}}
	return c.client.http, nil
}

// certificate is for a server that asks who we are.
func (c *Cluster) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, key := c.auth.cert, c.auth.key
	var err error
	if c.auth.certFile != "" {
		if cert, err = os.ReadFile(c.auth.certFile); err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
	}
	if c.auth.keyFile != "" {
		if key, err = os.ReadFile(c.auth.keyFile); err != nil {
			return nil, fmt.Errorf("client key: %w", err)
		}
	}
	if len(cert) == 0 {
		return new(tls.Certificate), nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	return &pair, err
}
