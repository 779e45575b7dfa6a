package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestQuantileIsWithinAFewPercent(t *testing.T) {
	var h histogram
	for i := range 10_000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.99: 9900 * time.Microsecond} {
		if got := h.quantile(q); got > want || float64(got) < 0.96*float64(want) {
			t.Errorf("quantile(%v) of 1 µs to 10 ms = %v, want %v", q, got, want)
		}
	}
}

func TestFeedFindsTheEndOfAnAnswerHoweverItIsCut(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\ncontent-LENGTH: 10\r\nX: y\r\n\r\n0123456789"
	for cut := 1; cut < len(answer); cut++ {
		c := &loadConn{inTop: true}
		first, err := c.feed([]byte(answer[:cut]))
		if err != nil || first {
			t.Fatalf("feed(%q) = %v, %v, want false", answer[:cut], first, err)
		}
		if whole, err := c.feed([]byte(answer[cut:])); err != nil || !whole {
			t.Fatalf("feed(%q) after %d bytes = %v, %v, want true", answer[cut:], cut, whole, err)
		}
	}
}

func TestFeedRefusesWhatIsNoWhole200(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxx",
	} {
		if _, err := (&loadConn{inTop: true}).feed([]byte(answer)); err == nil {
			t.Errorf("feed(%q) = nil error, want one", answer)
		}
	}
}

func TestLoadAndAppUnderstandEachOther(t *testing.T) {
	a, err := newApp(1024)
	if err != nil {
		t.Fatal(err)
	}
	go a.run()
	l := &load{addr: a.addr, conns: 4, request: request(a.addr)}
	res, err := l.run(300 * time.Millisecond)
	if err != nil || res.requests < 1 || res.latency.count != res.requests {
		t.Fatalf("run = %+v requests, %v, want at least one", res.requests, err)
	}
}

func TestReportComparesRoundByRound(t *testing.T) {
	rep := &report{Connections: 64, AnswerBytes: 1024, Results: []*result{{Name: "pillion"}, {Name: "haproxy"}}}
	for _, x := range [][2]float64{{10, 20}, {30, 40}, {8, 10}} {
		rep.named("pillion").add(round{CPUPerRequest: x[0]})
		rep.named("haproxy").add(round{CPUPerRequest: x[1]})
	}
	rep.compare()
	var out strings.Builder
	if err := rep.print(&out); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("CPU per request: %.2f", 0.75); !strings.Contains(out.String(), want) {
		t.Errorf("report is\n%s\nwant %q in it", &out, want)
	}
}
