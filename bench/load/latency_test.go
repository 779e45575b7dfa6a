package load

import (
	"strings"
	"testing"
	"time"
)

func TestQuantileNeedsSamples(t *testing.T) {
	for q, needed := range map[float64]int64{0.5: 20, 0.9: 100, 0.99: 1000, 0.999: 10_000, 0: 10, 1: 1} {
		if got := Needed(q); got != needed {
			t.Errorf("Needed(%v) = %d, want %d", q, got, needed)
		}
		l := NewLatency()
		for i := range needed {
			if _, ok := l.Quantile(q); ok {
				t.Fatalf("quantile %v is told of %d samples, want %d", q, i, needed)
			}
			l.Record(time.Duration(i+1) * time.Millisecond)
		}
		got, ok := l.Quantile(q)
		want := time.Duration(max(1, q*float64(needed))) * time.Millisecond
		if !ok || !near(got, want) {
			t.Errorf("quantile %v of 1ms to %dms = %v, %v, want %v", q, needed, got, ok, want)
		}
	}
}

func TestLatencyKeepsThreeDigitsAndTheMaximum(t *testing.T) {
	a, b := NewLatency(), NewLatency()
	a.Record(12345 * time.Microsecond)
	b.Record(time.Hour) // more than fits
	b.Record(-1)
	a.Merge(b)
	if a.Count() != 3 || a.Max() != time.Hour {
		t.Errorf("count %d, max %v, want 3 and 1h", a.Count(), a.Max())
	}
	if got := a.value(0.5); !near(got, 12345*time.Microsecond) {
		t.Errorf("median = %v, want 12.345ms", got)
	}
	curve := a.Curve(10)
	if len(curve) != 0 {
		t.Errorf("a curve of three samples: %v", curve)
	}
	for range 1000 {
		a.Record(time.Millisecond)
	}
	if curve = a.Curve(10); len(curve) != 21 || curve[20].Q < 0.98999 || curve[20].Q > 0.99001 || !near(curve[20].At, time.Millisecond) {
		t.Errorf("a curve of 1003 samples: %d points, want 21 up to 0.99", len(curve))
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{999: "999ns", 123456: "123µs", 86901 * time.Microsecond: "86.9ms", 0: "0s"} {
		if got := brief(d).String(); got != want {
			t.Errorf("brief(%d) = %s, want %s", d, got, want)
		}
	}
}

func TestConfigRefusesWhatCannotBe(t *testing.T) {
	for want, c := range map[string]Config{
		"is none of":               {Protocol: "gopher"},
		"connections":              {Conns: -1},
		"2 streams are not":        {Streams: 2},
		"tcp-bulk has no requests": {Protocol: TCPBulk, Rate: 1},
		"want a positive one":      {Rate: -1},
		"must be positive":         {Duration: -1},
		"at most 1048576 for tcp":  {Protocol: TCPEcho, Size: 2 << 20},
	} {
		if c.Duration == 0 {
			c.Duration = time.Second
		}
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check(%+v) = %v, want %q in it", c, err, want)
		}
	}
}
