package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/discovery/grpcio"
)

// newSender makes what Config asks for.
func newSender(cfg Config) (sender, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("collector %q: no address as in http://127.0.0.1:4318", cfg.URL)
	}
	if cfg.GRPC {
		return newGRPC(cfg, u)
	}
	return &overHTTP{cfg: cfg, client: http.Client{
		// No proxy: the one that the environment names may be pillion.
		Transport:     &http.Transport{TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, MaxIdleConns: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// overHTTP is "OTLP/HTTP" with binary protobuf.
type overHTTP struct {
	cfg    Config
	client http.Client
	last   *body
}

// body is a batch that is sent. The transport closes it when it is done with it, which may be after the answer.
type body struct {
	bytes.Reader
	closed atomic.Bool
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}

func (h *overHTTP) idle() bool { return h.last.closed.Load() }

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

func (h *overHTTP) send(ctx context.Context, batch []byte) ([]byte, error) {
	h.last = new(body)
	h.last.Reset(batch)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.cfg.URL, h.last)
	if err != nil {
		return nil, err
	}
	req.ContentLength = int64(len(batch))
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "pillion/"+h.cfg.Version)
	for _, a := range h.cfg.Headers {
		req.Header.Set(a.Key, a.Value)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, &transient{err: err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300 && err != nil:
		return nil, &transient{err: err}
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return answer, nil
	}
	err = fmt.Errorf("post %s: %s%s", h.cfg.URL, resp.Status, said(resp.Header.Get("Content-Type"), answer))
	switch resp.StatusCode { // "Retryable Response Codes"
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &transient{err, retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	return nil, err
}

func (h *overHTTP) close() { h.client.CloseIdleConnections() }

// said is the message of the google.rpc.Status with which a collector refuses.
func said(kind string, answer []byte) string {
	if !strings.HasPrefix(kind, "application/x-protobuf") {
		return ""
	}
	_, text, _ := readStatus(answer)
	if text == "" {
		return ""
	}
	return ": " + text
}

// retryAfter reads seconds or a date, RFC 9110 section 10.2.3.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// overGRPC is "OTLP/gRPC".
type overGRPC struct {
	client *grpcio.Client
	meta   grpcio.Metadata
}

const export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

func newGRPC(cfg Config, u *url.URL) (sender, error) {
	c := grpcio.Config{Address: u.Host, MaxMessage: maxAnswer}
	if u.Port() == "" {
		c.Address = strings.TrimSuffix(u.Host, ":") + ":4317"
	}
	if u.Scheme == "https" {
		c.TLS = tlsOr(cfg.TLS)
	}
	client, err := grpcio.New(c)
	if err != nil {
		return nil, err
	}
	meta := make(grpcio.Metadata, len(cfg.Headers))
	for _, a := range cfg.Headers {
		meta[strings.ToLower(a.Key)] = a.Value
	}
	return &overGRPC{client, meta}, nil
}

func (g *overGRPC) send(ctx context.Context, batch []byte) ([]byte, error) {
	answer, err := g.client.Call(ctx, export, batch, g.meta)
	if err == nil {
		return answer, nil
	}
	var e *grpcio.Error
	if !errors.As(err, &e) {
		return nil, &transient{err: err}
	}
	_, _, pause := readStatus(e.Details)
	switch e.Code { // "Failures": those that are retryable
	case grpcio.Canceled, grpcio.DeadlineExceeded, grpcio.Aborted, grpcio.OutOfRange, grpcio.Unavailable, grpcio.DataLoss:
		return nil, &transient{err, pause}
	case grpcio.ResourceExhausted:
		if pause > 0 { // "only if the server signals that the recovery from resource exhaustion is possible"
			return nil, &transient{err, pause}
		}
	}
	return nil, err
}

func (g *overGRPC) idle() bool { return true } // Call has copied it

func (g *overGRPC) close() { g.client.Close() }
