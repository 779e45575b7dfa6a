package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// file is what lines are written to. It is safe for concurrent use.
type file struct {
	mu     sync.Mutex
	b      bytes.Buffer
	err    error
	stuck  chan struct{} // a Write waits for it to be closed, if not nil
	closed bool
}

func (f *file) Write(p []byte) (int, error) {
	if f.stuck != nil {
		<-f.stuck
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	return f.b.Write(p)
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *file) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.b.String()
}

func open(f *file) func() (io.WriteCloser, error) {
	return func() (io.WriteCloser, error) { return f, nil }
}

// app answers with the status that the path says.
func app(req *proxy.Request, resp *proxy.Response) error {
	req.Service, req.Rule = proxy.Service{Name: "billing", Port: 80}, 2
	req.Endpoint = &proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.7:15008")}
	fmt.Sscanf(req.Path, "/%d", &resp.Status)
	if resp.Status == 503 {
		resp.Code = "no_endpoints"
	}
	return nil
}

// write sends requests past a Log, and returns once that has ended.
func write(t *testing.T, cfg Config, reqs ...proxy.Request) *Log {
	l := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		if len(rt.Shards()) == 0 {
			return
		}
		s := rt.Shards()[0]
		stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{l}})(observe.Attempts(proxy.RoundTripperFunc(app)))
		proxytest.Do(t, s, func() {
			for _, req := range reqs {
				req.Shard, req.Cancel = s, new(proxy.Cancel)
				var resp proxy.Response
				if err := stack.RoundTrip(&req, &resp); err != nil {
					t.Error(err)
				}
				resp.Close()
			}
		})
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return l
}

func fixed() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 5e6, time.UTC) }

func TestLines(t *testing.T) {
	req := proxy.Request{Method: "GET", Path: "/200?q=1&access_token=abc&code=9", Authority: "bill ing", Version: proxy.HTTP2, ID: "a\"b\x01é", Client: netip.MustParseAddrPort("10.0.0.1:5"),
		Peer: &proxy.Peer{Identity: "spiffe://x/web"}}
	var f file
	write(t, Config{What: All, Format: Text, Query: true, Open: open(&f), Now: fixed}, req)
	line, _, _ := strings.Cut(f.String(), "\n")
	line, _, _ = strings.Cut(line, " head_ms=")
	want := `time=2026-11-21T10:00:00.005Z direction=outbound shape=exchange id="a\"b\u0001é" client=10.0.0.1:5 caller=spiffe://x/web service=billing port=80 route=2 ` +
		`method=GET authority="bill ing" path="/200?q=1&access_token=***&code=***" protocol=HTTP/2 endpoint=10.0.0.7:15008 attempts=1 status=200 end=complete bytes_in=0 bytes_out=0`
	if line != want {
		t.Errorf("\ngot  %s\nwant %s", line, want)
	}
	f = file{}
	write(t, Config{What: All, Format: JSON, Open: open(&f), Now: fixed}, req)
	for line := range strings.Lines(f.String()) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if got["id"] != "a\"b\x01é" || got["status"] != 200.0 || got["path"] != "/200" || got["duration_ms"] == nil {
			t.Error(line)
		}
	}
}

func TestWhat(t *testing.T) {
	var reqs []proxy.Request
	for range 1000 {
		reqs = append(reqs, proxy.Request{Method: "GET", Path: "/200"})
	}
	reqs = append(reqs, proxy.Request{Method: "GET", Path: "/404"}, proxy.Request{Method: "GET", Path: "/500"}, proxy.Request{Method: "GET", Path: "/503"})
	for _, c := range []struct {
		what        What
		share       float64
		least, most int // per runtime
	}{{All, 0, 1003, 1003}, {Errors, 0, 2, 2}, {Sampled, 0, 2, 2}, {Sampled, 1, 1003, 1003}, {Sampled, 0.5, 300, 700}} {
		var f file
		l := write(t, Config{What: c.what, Share: c.share, Format: Text, Open: open(&f)}, reqs...)
		runtimes := strings.Count(f.String(), "code=no_endpoints")
		if n := strings.Count(f.String(), "\n"); runtimes == 0 || n < c.least*runtimes || n > c.most*runtimes || l.Stats() != (Stats{Lines: uint64(n)}) {
			t.Errorf("%s %v: %d lines, %+v", c.what, c.share, n, l.Stats())
		}
	}
}

// TestStuck: who cannot write loses lines, keeps a bounded number, and holds up nobody.
func TestStuck(t *testing.T) {
	f := &file{stuck: make(chan struct{})}
	path := "/200" + strings.Repeat("x", 1000)
	var reqs []proxy.Request
	for range 3000 {
		reqs = append(reqs, proxy.Request{Method: "GET", Path: path})
	}
	l := New(Config{What: All, Format: Text, Open: open(f)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{l}})(proxy.RoundTripperFunc(app))
		proxytest.Do(t, s, func() {
			for _, req := range reqs {
				req.Shard, req.Cancel = s, new(proxy.Cancel)
				var resp proxy.Response
				if err := stack.RoundTrip(&req, &resp); err != nil {
					t.Error(err)
				}
				resp.Close()
			}
		})
	})
	close(f.stuck)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	st := l.Stats()
	if n := uint64(strings.Count(f.String(), "\n")); n != st.Lines || st.Lost == 0 || f.b.Len() > 3*maxPending {
		t.Errorf("%d lines in %d bytes; %+v", n, f.b.Len(), st)
	}
}

func TestReopen(t *testing.T) {
	var first, second file
	files := []*file{&first, &second}
	l := New(Config{What: All, Format: Text, Open: func() (io.WriteCloser, error) {
		f := files[0]
		files = files[1:]
		return f, nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.mu.Lock()
	l.pending = append(l.pending, "one\n"...)
	l.mu.Unlock()
	l.signal()
	proxytest.Eventually(t, "the first line", func() bool { return first.String() == "one\n" })
	l.Reopen()
	proxytest.Eventually(t, "the first file is closed", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.closed
	})
	l.mu.Lock()
	l.pending = append(l.pending, "two\n"...)
	l.mu.Unlock()
	cancel()
	if err := <-done; err != nil || second.String() != "two\n" || !second.closed {
		t.Errorf("%v, %q", err, second.String())
	}
}

// TestFullDisk: lines that cannot be written are counted, and the failure is told once.
func TestFullDisk(t *testing.T) {
	f := &file{err: errors.New("no space left")}
	told := 0
	var reqs []proxy.Request
	for range 10 {
		reqs = append(reqs, proxy.Request{Method: "GET", Path: "/200"})
	}
	l := write(t, Config{What: All, Format: Text, Open: open(f), Failed: func(error) { told++ }}, reqs...)
	if st := l.Stats(); st.Lost != st.Lines || st.Lost == 0 || told != 1 {
		t.Errorf("%+v, told %d times", st, told)
	}
}

func BenchmarkLine(b *testing.B) {
	l := New(Config{Format: JSON})
	e := &observe.Entry{Facts: observe.Facts{GRPC: -1, Request: &proxy.Request{Method: "GET", Path: "/orders/1", Authority: "orders", Service: proxy.Service{Name: "orders"}}}}
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = l.line(line[:0], e)
	}
}
