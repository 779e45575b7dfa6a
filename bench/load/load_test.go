package load

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// networks are both, wherever the tests run.
var networks = map[string]func(*worker) (network, error){"platform": newNetwork, "goroutines": newGoroutines}

// runUntil runs a closed loop until there are at least n answers, however slow the machine is.
func runUntil(t *testing.T, n uint64, c Config) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var before uint64
	began, ticks := false, 0
	c.OnBegin = func() { began = true }
	c.OnProgress = func(answers uint64) {
		switch {
		case !began:
			return
		case ticks == 0:
			before = answers // of the time before the window as well
		case answers >= before+n:
			cancel()
		}
		ticks++
	}
	c.Duration = time.Minute
	res, err := Run(ctx, c)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	if res.Requests+res.Errors < n {
		t.Fatalf("%s: only %d requests and %d errors %v after %v", c.Protocol, res.Requests, res.Errors, res.Failures, res.Elapsed)
	}
	return res
}

func TestUDP(t *testing.T) {
	s, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, from, err := s.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = s.WriteTo(b[:n], from)
		}
	}()
	defer func() { s.Close(); <-done }()
	for name, network := range networks {
		for _, c := range []Config{{Protocol: UDPEcho, Conns: 4, Size: 9000}, {Protocol: UDPFlows, Conns: 4}} {
			c.Addr, c.network = s.LocalAddr().String(), network
			if res := runUntil(t, 20, c); res.Errors > 0 {
				t.Errorf("%s, %s: %d errors %v", name, c.Protocol, res.Errors, res.Failures)
			}
		}
	}
}

// TestUnix: requests and bytes over a Unix socket, and what is said where nobody listens or where there can be no datagrams.
func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var host atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host.Store(r.Host)
		_, _ = w.Write([]byte("hello"))
	}))
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	defer s.Close()
	for name, network := range networks {
		for _, c := range []Config{{Protocol: HTTP1, Conns: 4}, {Protocol: NewConn, Conns: 4}} {
			c.Addr, c.network = "unix:"+path, network
			if res := runUntil(t, 20, c); res.Errors > 0 {
				t.Errorf("%s, %s: %d errors %v", name, c.Protocol, res.Errors, res.Failures)
			}
		}
		if got := host.Load(); got != "localhost" {
			t.Errorf("%s: Host %q, want localhost", name, got)
		}
		for addr, want := range map[string]string{"unix:" + path + "-nobody": "no such file or directory", "unix:": "want a path"} {
			_, err := Run(t.Context(), Config{Addr: addr, Duration: time.Second, network: network})
			if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: %v, want %q", name, addr, err, want)
			}
		}
	}
	if err := (&Config{Protocol: UDPEcho, Addr: "unix:" + path, Duration: time.Second}).Check(); err == nil {
		t.Error("datagrams to a Unix socket are not refused")
	}
}

// The timer's descriptor may be higher than those of all connections.
func TestManyDescriptors(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	var low []*os.File
	for range 200 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		low = append(low, f)
	}
	var once sync.Once
	network := func(w *worker) (network, error) {
		n, err := newNetwork(w) // its timer is beyond the 200, which the connections then get
		once.Do(func() {
			for _, f := range low {
				f.Close()
			}
		})
		return n, err
	}
	res, err := Run(t.Context(), Config{Protocol: HTTP1, Conns: 2, Rate: 100, Addr: s.Listener.Addr().String(), Duration: 100 * time.Millisecond, Grace: 10 * time.Second, network: network})
	if err != nil || res.Errors > 0 {
		t.Errorf("%v, %+v", err, res)
	}
}

func TestHTTP1(t *testing.T) {
	body := strings.Repeat("x", 1024)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
	defer s.Close()
	for name, network := range networks {
		for _, c := range []Config{
			{Protocol: HTTP1, Conns: 4},
			{Protocol: HTTP1, Conns: 4, Rate: 500, Threads: 2},
			{Protocol: NewConn, Conns: 4},
			{Protocol: NewConn, Conns: 4, Rate: 200},
		} {
			c.Addr, c.network = s.Listener.Addr().String(), network
			var res *Result
			if c.Rate == 0 {
				res = runUntil(t, 20, c)
			} else {
				var err error
				c.Duration, c.Warmup, c.Grace = 200*time.Millisecond, 20*time.Millisecond, 10*time.Second
				if res, err = Run(context.Background(), c); err != nil {
					t.Fatalf("%s, %s at %v/s: %v", name, c.Protocol, c.Rate, err)
				}
			}
			if res.Errors > 0 || res.Unfinished > 0 {
				t.Errorf("%s, %s at %v/s: %d errors %v, %d unfinished", name, c.Protocol, c.Rate, res.Errors, res.Failures, res.Unfinished)
			}
			if want := c.Rate / 5; c.Rate > 0 && math.Abs(float64(res.Requests)-want) > float64(max(c.Threads, 1)) {
				t.Errorf("%s, %s at %v/s: %d requests were due in 200ms, want %v", name, c.Protocol, c.Rate, res.Requests, want)
			}
			if got := uint64(res.Latency.Count()); got != res.Requests {
				t.Errorf("%s, %s at %v/s: %d latencies of %d requests", name, c.Protocol, c.Rate, got, res.Requests)
			}
		}
	}
}
