package grpcio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config says where a server is.
type Config struct {
	// Address is host:port, or unix:/path.
	Address string
	// TLS is for connections to it, and nil means none. Without a ServerName it is the host of Address.
	TLS *tls.Config
	// MaxMessage bounds an answer, in bytes; a larger one is an error. If zero, 64 MiB.
	MaxMessage int
	// DialContext makes connections. If nil, a net.Dialer does, with a limit of 5 s; TCP then notices within half a minute that the machine there is gone.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Ping is how long a connection may be silent before the server is asked whether it is there, which it must then answer in as long, at most 3 s. If zero, it is not asked:
	// servers end connections with more PINGs than they allow, which is one in five minutes by grpc-go's default, and one in five seconds by etcd's.
	Ping time.Duration
}

// Client calls one server. All methods are safe for concurrent use.
type Client struct {
	conf   Config
	scheme string
	http   *http.Transport
}

// New returns a Client, which connects at its first call.
func New(c Config) (*Client, error) {
	network, address := "tcp", c.Address
	host, _, err := net.SplitHostPort(address)
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address, host, err = "unix", path, "localhost", nil
	}
	if err != nil {
		return nil, fmt.Errorf("gRPC server %q: %w", c.Address, err)
	}
	if c.MaxMessage <= 0 {
		c.MaxMessage = 64 << 20
	}
	if c.DialContext == nil {
		c.DialContext = (&net.Dialer{
			Timeout:         5 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		}).DialContext
	}
	protocols, scheme := new(http.Protocols), "http"
	if c.TLS == nil {
		protocols.SetUnencryptedHTTP2(true)
	} else {
		protocols.SetHTTP2(true)
		scheme = "https"
		c.TLS = c.TLS.Clone()
		if c.TLS.ServerName == "" {
			c.TLS.ServerName = host
		}
	}
	return &Client{conf: c, scheme: scheme, http: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.DialContext(ctx, network, address) },
		TLSClientConfig:     c.TLS,
		TLSHandshakeTimeout: 5 * time.Second,
		Protocols:           protocols,
		DisableCompression:  true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: c.Ping, PingTimeout: min(c.Ping, 3*time.Second)},
	}}, nil
}

// Close ends connections on which nothing runs; what does run goes on. The Client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Metadata is what a call says beside its messages: names in lower case.
type Metadata map[string]string

// Call sends one message to method, "/package.Service/Method", and returns the one that answers it. The error is an *Error where the
// server, or what is before it, has refused.
func (c *Client) Call(ctx context.Context, method string, message []byte, meta Metadata) ([]byte, error) {
	s, err := c.Stream(ctx, method, meta)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.Send(message); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv knows why
		return nil, err
	}
	s.CloseSend()
	answer, err := s.Recv()
	if errors.Is(err, io.EOF) {
		err = &Error{Code: Internal, Message: "the call ended without an answer"}
	}
	if err != nil {
		return nil, err
	}
	switch _, err = s.Recv(); { // the status comes after the message
	case err == nil:
		return nil, &Error{Code: Internal, Message: "more than one answer"}
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return answer, nil
}

func (c *Client) request(ctx context.Context, method string, meta Metadata, body io.ReadCloser) *http.Request {
	host := c.conf.Address
	if strings.HasPrefix(host, "unix:") {
		host = "localhost"
	}
	h := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"pillion"}}
	for k, v := range meta {
		h.Set(k, v)
	}
	if end, ok := ctx.Deadline(); ok {
		left := max(time.Until(end), time.Millisecond)
		h.Set("Grpc-Timeout", timeout(left))
	}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: c.scheme, Host: host, Path: method}, Host: host, Header: h,
		Proto: "HTTP/2.0", ProtoMajor: 2, Body: body, ContentLength: -1}
	return r.WithContext(ctx)
}

// timeout writes d as the protocol wants it: "at most 8 digits" and a unit.
func timeout(d time.Duration) string {
	const most = 99_999_999
	if ms := d.Milliseconds(); ms <= most {
		return strconv.FormatInt(ms, 10) + "m"
	}
	return strconv.FormatInt(min(int64(d/time.Second), most), 10) + "S"
}
