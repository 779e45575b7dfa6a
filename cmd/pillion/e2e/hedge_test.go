//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Where an endpoint takes much longer than the service's p95, another is asked after that time: a call is answered as if nothing were wrong, the app that is slow sees its
// caller leave, and what is not idempotent is asked for once.
func TestHedging(t *testing.T) {
	if *direct {
		return
	}
	f := newFlock(t, 3, ", hedge: {percentile: 95%, budget: 50%}, balance: {policy: round_robin}, timeout: 15s")
	c := &http.Client{Timeout: 30 * time.Second}
	defer c.CloseIdleConnections()
	for i := range 600 { // so that the p95 is known on every loop
		f.one(c, fmt.Sprint("warm", i), true)
	}
	for _, r := range f.since(time.Time{}) {
		if r.why != "" {
			t.Fatalf("before anything is slow: %s", r.why)
		}
	}
	slow := f.apps[0]
	slow.hangs.Store(true)
	sent, won := 0, ""
	eventually(t, 30*time.Second, "the slow app is asked, and sees its caller leave", func() bool {
		id := f.ask(t, c)
		if sent++; strings.Contains(f.a.get("/why?id="+id), `"the second endpoint answered first"`) {
			won = id
		}
		return won != "" && slow.left.Load() > 0
	})
	slow.hangs.Store(false)
	h := f.a.status().Services[0].Hedges
	if h == nil || h.Won == 0 || int(h.Total) > 20+(600+sent)/2 {
		t.Errorf("hedges: %+v, want some that won, and no more than the budget", h)
	}
	metrics := f.a.get("/metrics")
	for _, want := range []string{`pillion_hedges_total{service="app"} `, `pillion_hedges_won_total{service="app"} `} {
		if !strings.Contains(metrics, want) || strings.Contains(metrics, want+"0\n") {
			t.Errorf("/metrics has no %s, or 0", want)
		}
	}

	// The same with POST: the slow one is waited for.
	before := f.a.status().Services[0].Hedges.Total
	for _, a := range f.apps {
		a.slow.Store(int64(200 * time.Millisecond))
	}
	for i := range 5 {
		f.one(c, fmt.Sprint("post", i), false)
	}
	for id, n := range f.ran {
		if n != 1 {
			t.Errorf("POST %s ran %d times", id, n)
		}
	}
	if after := f.a.status().Services[0].Hedges.Total; after != before {
		t.Errorf("%d requests of POST were sent twice", after-before)
	}
}

// ask sends a request that must succeed, long before the slow app is done with it, and returns its id.
func (f *flock) ask(t *testing.T, c *http.Client) string {
	req, err := http.NewRequest("GET", "http://"+f.local+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Pillion-Why", "1")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || string(text) != "well done" {
		t.Errorf("got %s, %q, %v", resp.Status, text, err)
	}
	return resp.Header.Get("Pillion-Request-Id")
}
