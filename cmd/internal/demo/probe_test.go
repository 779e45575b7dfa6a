package demo

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestProbesNotice: what a bad proxy does to traffic is found out by the probe that is there for it.
func TestProbesNotice(t *testing.T) {
	good := appsHere(t)
	tests := []struct {
		fault  string
		spoil  func(t *testing.T, to *Targets)
		notice []string // kinds that must fail; all others must not
	}{
		{"holds HTTP bodies back and forgets trailers", func(t *testing.T, to *Targets) {
			to.Orders = badProxy(t, to.Orders, func(b []byte) []byte { return b })
		}, []string{"http trailers", "http upgrade", "websocket", "sse", "answer cut short", "app closes"}},
		{"changes a byte", func(t *testing.T, to *Targets) {
			to.Orders = badProxy(t, to.Orders, func(b []byte) []byte { b[0] ^= 1; return b })
		}, []string{"http echo", "http chunked", "http trailers", "http upgrade", "websocket", "sse", "slow app", "answer cut short", "app closes"}},
		{"closes a stream as soon as one side has finished", func(t *testing.T, to *Targets) {
			to.Lines = badRelay(t, to.Lines, io.Copy)
		}, []string{"tcp lines"}},
		{"waits for the client to speak first", func(t *testing.T, to *Targets) {
			to.Banner = badRelay(t, to.Banner, nil)
		}, []string{"tcp banner"}},
		{"delays what comes in small pieces", func(t *testing.T, to *Targets) {
			to.Ledger = map[string]Authority{"port": {Addr: badRelay(t, to.Ledger["port"].Addr, nil)}}
		}, []string{"grpc unary", "grpc client stream", "grpc server stream", "grpc bidi"}},
		{"loses the identity of the caller", func(t *testing.T, to *Targets) {
			to.TrustDomain = "example.org"
		}, []string{"http chain", "grpc unary"}},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			t.Parallel()
			to := good
			tt.spoil(t, &to)
			d, err := newDriver(to)
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			failed := failures(d.probes(), tt.notice)
			for _, kind := range tt.notice {
				if failed[kind] == nil {
					t.Errorf("%s did not notice", kind)
				}
				delete(failed, kind)
			}
			for kind, err := range failed {
				t.Errorf("%s failed too: %v", kind, err)
			}
		})
	}
}

// failures runs every probe until it fails, a few times at most, and returns the failures. Those in notice, which may be kept waiting
// for ever, are given 5 s; the others as long as a busy machine may need.
func failures(probes []probe, notice []string) map[string]error {
	failed := make(map[string]error)
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, p := range probes {
		running.Go(func() {
			patience, runs := 30*time.Second, 2
			if slices.Contains(notice, p.kind) {
				patience, runs = 5*time.Second, 20
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for range runs {
				err := p.run(ctx)
				if err == nil {
					continue
				}
				mu.Lock()
				defer mu.Unlock()
				failed[p.kind] = err
				return
			}
		})
	}
	running.Wait()
	return failed
}

// badProxy reads whole answers of the server at base, lets change alter them, and presents whatever it has as complete.
func badProxy(t *testing.T, base string, change func([]byte) []byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, base+r.URL.RequestURI(), bytes.NewReader(body))
		req.Header = r.Header
		req.Header.Del("Upgrade") // it knows nothing of that either
		if r.ContentLength < 0 {
			req.ContentLength = -1
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return // as if it were an empty answer
		}
		defer resp.Body.Close()
		body, _ = io.ReadAll(resp.Body)
		if len(body) > 0 {
			body = change(body)
		}
		for name, values := range resp.Header {
			if name != "Content-Length" || resp.ContentLength == int64(len(body)) {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// badRelay relays connections to addr. With up, client bytes go up through it and its end closes everything; without, the
// server is not heard until the client has finished sending.
func badRelay(t *testing.T, addr string, up func(io.Writer, io.Reader) (int64, error)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go badStream(c, addr, up)
		}
	}()
	return l.Addr().String()
}

func badStream(c net.Conn, addr string, up func(io.Writer, io.Reader) (int64, error)) {
	defer c.Close()
	s, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer s.Close()
	if up == nil {
		_, _ = io.Copy(s, c)
		_, _ = io.Copy(c, s)
		return
	}
	go func() { _, _ = io.Copy(c, s) }()
	_, _ = up(s, c)
}
