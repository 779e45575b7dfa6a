package consul

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Config says where Consul is.
type Config struct {
	// Address is http://host:port, https://host:port or unix:/path. If empty, http://127.0.0.1:8500.
	Address string
	// Token is sent with every request; TokenFile is read for it, each time, if Token is empty.
	Token, TokenFile string
	// Datacenter is the one that is asked where a Query names none. If empty, the agent's own.
	Datacenter string
	// TLS is for https. If nil, the roots of the system count.
	TLS *tls.Config
	// Wait is how long the server may wait for a change; and an answer that is lost is missed after it and five seconds. If zero, 10 s.
	Wait time.Duration
	// Slots is how many queries wait at a time; with more services than that, they take turns. If zero, 150, below the 200
	// connections that Consul allows a client by default.
	Slots int
}

// Client asks one agent or server. All methods are safe for concurrent use.
type Client struct {
	conf  Config
	base  string
	http  *http.Client
	slots chan struct{}
	users atomic.Int64 // the number of Watches
}

// New returns a Client. It does not connect.
func New(c Config) (*Client, error) {
	if c.Address == "" {
		c.Address = "http://127.0.0.1:8500"
	}
	if c.Wait <= 0 {
		c.Wait = 10 * time.Second
	}
	if c.Slots <= 0 {
		c.Slots = 150
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	dial, base := dialer.DialContext, strings.TrimRight(c.Address, "/")
	if path, ok := strings.CutPrefix(c.Address, "unix:"); ok {
		base = "http://localhost"
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("consul: %q is no address; write one like http://127.0.0.1:8500", c.Address)
	}
	cl := &Client{conf: c, base: base, slots: make(chan struct{}, c.Slots)}
	cl.http = &http.Client{
		Transport: &http.Transport{DialContext: dial, TLSClientConfig: c.TLS.Clone(), TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: c.Slots, IdleConnTimeout: 90 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return cl, nil
}

// Close ends the connections on which nothing runs.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// StatusError is an answer other than 200.
type StatusError struct {
	Status int
	Text   string
}

// Error says what the server has said.
func (e *StatusError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.Status, e.Text) }

// maxAnswer bounds an answer: tens of thousands of instances.
const maxAnswer = 64 << 20 // bytes

// do sends one request and reads the whole answer. body is sent as JSON, unless it is nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body any) (http.Header, []byte, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		content = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path+"?"+query.Encode(), content)
	if err != nil {
		return nil, nil, err
	}
	token, err := c.token()
	if err != nil {
		return nil, nil, err
	}
	if token != "" {
		r.Header.Set("X-Consul-Token", token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("consul at %s: %w", c.conf.Address, cause(err))
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		err = fmt.Errorf("consul at %s: read the answer: %w", c.conf.Address, err)
	case len(data) > maxAnswer:
		err = fmt.Errorf("consul at %s: the answer is larger than %d MiB", c.conf.Address, maxAnswer>>20)
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("consul at %s: %w", c.conf.Address, &StatusError{resp.StatusCode, clip(string(data))})
	}
	return resp.Header, data, err
}

// cause leaves out the method and the URL, which net/http repeats.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func (c *Client) token() (string, error) {
	if c.conf.Token != "" || c.conf.TokenFile == "" {
		return c.conf.Token, nil
	}
	data, err := os.ReadFile(c.conf.TokenFile)
	if err != nil {
		return "", fmt.Errorf("consul's token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// clip bounds text of the server in a message.
func clip(s string) string {
	const most = 200 // bytes
	s = strings.TrimSpace(s)
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
