package load

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// networks are both, wherever the tests run.
var networks = map[string]func(*worker) (network, error){"platform": newNetwork, "goroutines": newGoroutines}

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
			c.Addr, c.Duration, c.Warmup, c.network = s.Listener.Addr().String(), 200*time.Millisecond, 20*time.Millisecond, network
			res, err := Run(context.Background(), c)
			if err != nil {
				t.Fatalf("%s, %s at %v/s: %v", name, c.Protocol, c.Rate, err)
			}
			if res.Errors > 0 || res.Unfinished > 0 || res.Requests == 0 {
				t.Errorf("%s, %s at %v/s: %d requests, %d errors %v, %d unfinished, want some and none", name, c.Protocol, c.Rate, res.Requests, res.Errors, res.Failures, res.Unfinished)
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
