package load

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sim is a network with a target in it, in the time of synctest: nothing takes time but what the target is told to take.
type sim struct {
	w      *worker
	events []simEvent
	served int
	from   time.Time
	answer string
	late   time.Duration // by which every wait is longer than asked

	// serve says when the answer to request i, which arrives at this time since the beginning, is there; a negative answer is none, and cut is the end of the connection.
	serve func(i int, at time.Duration) (after time.Duration)
	// refuse says whether a connection is refused.
	refuse func(at time.Duration) bool
}

type simEvent struct {
	at   time.Time
	c    *conn
	life uint64
	do   func(*conn)
}

const cut = time.Duration(math.MinInt64)

// simulate runs c against a target. It must be called in a bubble.
func simulate(t *testing.T, ctx context.Context, c Config, s *sim) *Result {
	t.Helper()
	s.from = time.Now()
	if s.answer == "" {
		s.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	}
	c.Addr = "192.0.2.1:80"
	c.network = func(w *worker) (network, error) { s.w = w; return s, nil }
	res, err := Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (s *sim) since() time.Duration { return time.Since(s.from) }

func (s *sim) later(d time.Duration, c *conn, do func(*conn)) {
	ev := simEvent{time.Now().Add(d), c, c.life, do}
	i, _ := slices.BinarySearchFunc(s.events, ev, func(a, b simEvent) int {
		if a.at.After(b.at) {
			return 1
		}
		return -1
	})
	s.events = slices.Insert(s.events, i, ev)
}

func (s *sim) dial(c *conn) error {
	if s.refuse != nil && s.refuse(s.since()) {
		return errors.New("connection refused")
	}
	s.later(0, c, (*conn).connected)
	return nil
}

func (s *sim) write(c *conn, p []byte) (int, error) {
	for range strings.Count(string(p), "\r\n\r\n") {
		after := s.serve(s.served, s.since())
		s.served++
		switch {
		case after == cut:
			s.later(0, c, func(c *conn) { c.lost(s.w.r.now(), errCut) })
		case after >= 0:
			s.later(after, c, func(c *conn) { c.received([]byte(s.answer)) })
		}
	}
	return len(p), nil
}

func (s *sim) close(*conn) {}
func (s *sim) shut()       {}

func (s *sim) wait(d time.Duration) error {
	if len(s.events) > 0 {
		d = min(d, time.Until(s.events[0].at))
	}
	if d > 0 {
		time.Sleep(d + s.late)
	}
	for len(s.events) > 0 && !s.events[0].at.After(time.Now()) {
		ev := s.events[0]
		s.events = s.events[1:]
		if ev.c.life == ev.life {
			ev.do(ev.c)
		}
		s.w.flush()
	}
	return nil
}

// near compares latencies: the histogram keeps three digits.
func near(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= 0.002*float64(want)+float64(time.Microsecond)
}

func wantQuantiles(t *testing.T, l *Latency, want map[float64]time.Duration) {
	t.Helper()
	for q, d := range want {
		if got, ok := l.Quantile(q); !ok || !near(got, d) {
			t.Errorf("quantile %v = %v, %v, want %v", q, got, ok, d)
		}
	}
}

// Known latencies come out as they are, in a closed loop.
func TestQuantilesAreThoseOfTheTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{serve: func(i int, _ time.Duration) time.Duration {
			switch n := i % 100; {
			case n < 90:
				return time.Millisecond
			case n < 99:
				return 5 * time.Millisecond
			default:
				return 20 * time.Millisecond
			}
		}}
		res := simulate(t, t.Context(), Config{Duration: 10 * time.Second, Warmup: time.Second}, s)
		wantQuantiles(t, res.Latency, map[float64]time.Duration{0.5: time.Millisecond, 0.89: time.Millisecond, 0.95: 5 * time.Millisecond, 0.985: 5 * time.Millisecond})
		if got := res.Latency.Max(); got != 20*time.Millisecond {
			t.Errorf("max = %v, want 20ms", got)
		}
		// A hundred requests take 155 ms; the warm-up's are not among them.
		if want := 10.0 / 0.155 * 100; math.Abs(float64(res.Requests)-want) > 100 || res.Window != 10*time.Second {
			t.Errorf("%d requests in %v, want %.0f in 10s", res.Requests, res.Window, want)
		}
		if got := res.Bottleneck(); got != "" {
			t.Errorf("bottleneck: %s", got)
		}
	})
}

// The schedule of an open loop does not wait for a target that stalls: every request that fell due meanwhile shows its whole delay.
func TestStallShowsInTheTail(t *testing.T) {
	const rate, conns = 1000, 4
	stallFrom, stallTo := 3*time.Second, 4*time.Second
	service := func(at time.Duration) time.Duration {
		if at >= stallFrom && at < stallTo {
			return stallTo + time.Millisecond - at
		}
		return time.Millisecond
	}
	// The truth: each request takes the first place that is free from its due time on.
	var truth []time.Duration
	var free [conns]time.Duration
	for i := range 10 * rate {
		due := time.Millisecond + time.Duration(i)*time.Second/rate // schedules begin after a millisecond
		first := slices.Index(free[:], slices.Min(free[:]))
		start := max(due, free[first])
		free[first] = start + service(start)
		truth = append(truth, free[first]-due)
	}
	slices.Sort(truth)
	synctest.Test(t, func(t *testing.T) {
		s := &sim{serve: func(_ int, at time.Duration) time.Duration { return service(at) }}
		res := simulate(t, t.Context(), Config{Conns: conns, Rate: rate, Duration: 10 * time.Second}, s)
		if n := int64(len(truth)); res.Latency.Count() < n-1 || res.Latency.Count() > n {
			t.Errorf("%d latencies, want %d", res.Latency.Count(), n)
		}
		for _, q := range []float64{0.5, 0.9, 0.95, 0.99} {
			want := truth[int(q*float64(len(truth)))]
			if got, ok := res.Latency.Quantile(q); !ok || math.Abs(float64(got-want)) > 0.01*float64(want)+float64(2*time.Millisecond) {
				t.Errorf("quantile %v = %v, %v, want %v", q, got, ok, want)
			}
		}
		if p99, _ := res.Latency.Quantile(0.99); p99 < 800*time.Millisecond {
			t.Errorf("p99 = %v: the stall of a second that a tenth of all requests saw is hidden", p99)
		}
		worst := time.Duration(0)
		for _, p := range res.Series {
			worst = max(worst, p.Max)
		}
		if worst < 990*time.Millisecond {
			t.Errorf("the worst interval of the series has %v, want the stall in it", worst)
		}
	})
}

// What never is answered counts as unfinished, sent or not, and its age is a latency.
func TestUnansweredRequestsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{serve: func(_ int, at time.Duration) time.Duration {
			if at > 5*time.Second {
				return -1
			}
			return time.Millisecond
		}}
		res := simulate(t, t.Context(), Config{Conns: 2, Rate: 100, Duration: 10 * time.Second, Grace: time.Second}, s)
		if all := res.Requests + res.Unfinished; all < 999 || all > 1000 || res.Unfinished < 499 || res.Unfinished > 501 {
			t.Errorf("%d answered, %d unfinished, want 500 of 1000", res.Requests, res.Unfinished)
		}
		if got := res.Latency.Max(); got < 5990*time.Millisecond || got > 6010*time.Millisecond {
			t.Errorf("max = %v, want the age of the first that was not answered, 6s", got)
		}
	})
}

// Answers that come after the window belong to the meters' readings, as what they cost does, but not to the throughput.
func TestLateAnswersCountForTheMeters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{serve: func(_ int, at time.Duration) time.Duration { return max(0, 5500*time.Millisecond-at) }}
		res := simulate(t, t.Context(), Config{Conns: 1000, Rate: 100, Duration: 5 * time.Second}, s)
		if res.Requests < 499 || res.Requests > 500 || res.Answered != res.Requests || res.WindowAnswers != 0 || res.Throughput() != 0 || res.Elapsed < 5490*time.Millisecond {
			t.Errorf("got %+v, want 500 requests, all answered after the window", res)
		}
	})
}

// Connections that break lose their requests, are made anew, and those that are refused are not stormed.
func TestBrokenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		s := &sim{
			serve: func(i int, _ time.Duration) time.Duration {
				if i%10 == 9 {
					return cut
				}
				return time.Millisecond
			},
			refuse: func(at time.Duration) bool {
				dials++
				return at > 8*time.Second
			},
		}
		res := simulate(t, t.Context(), Config{Rate: 100, Duration: 10 * time.Second}, s)
		if got := res.Failures[errCut.Error()]; got != res.Errors || got < 79 || got > 81 {
			t.Errorf("%d errors, %v, want 80 of connections that were cut", res.Errors, res.Failures)
		}
		if res.Unfinished < 185 || res.Unfinished > 200 { // the last connection lasts up to 100 ms longer
			t.Errorf("%d unfinished, want the 200 for which there was no connection", res.Unfinished)
		}
		if most := 82 + 4*20; dials > most { // one for each cut, then twenty a second
			t.Errorf("%d connections tried, want at most %d", dials, most)
		}
	})
}

// An answer that is no success is an error and no latency.
func TestFailedAnswersAreNoLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{serve: func(int, time.Duration) time.Duration { return time.Millisecond }, answer: "HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n"}
		res := simulate(t, t.Context(), Config{Rate: 10, Duration: 10 * time.Second}, s)
		if res.Requests != 0 || res.Errors < 99 || res.Failures["answered 503"] != res.Errors || res.Latency.Count() != 0 || res.Answered < 99 {
			t.Errorf("got %+v, want 100 errors and no latency", res)
		}
	})
}

// A generator that is slow itself says so.
func TestOwnLagIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{serve: func(int, time.Duration) time.Duration { return 100 * time.Microsecond }, late: 50 * time.Millisecond}
		res := simulate(t, t.Context(), Config{Rate: 100, Conns: 20, Duration: 10 * time.Second}, s)
		if late, ok := res.Late.Quantile(0.5); !ok || late < 10*time.Millisecond || late > 70*time.Millisecond {
			t.Errorf("median lag = %v, %v, want about half of the 50ms to 70ms between looks", late, ok)
		}
		if got := res.Bottleneck(); !strings.Contains(got, "lagged behind its schedule") {
			t.Errorf("Bottleneck() = %q, want a word about the lag", got)
		}
	})
}

// Interrupted, it returns what there is until then; interrupted before there is anything, an error.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &sim{serve: func(int, time.Duration) time.Duration { return time.Millisecond }}
		res := simulate(t, ctx, Config{Rate: 100, Duration: time.Hour}, s)
		if !res.Interrupted || res.Requests < 498 || res.Requests > 500 || res.Window > 5*time.Second || res.Unfinished+res.Errors > 0 {
			t.Errorf("got %+v, want 500 requests in 5s", res)
		}
		s = &sim{serve: s.serve}
		c := Config{Addr: "192.0.2.1:80", Duration: time.Second, Warmup: time.Hour, network: func(w *worker) (network, error) { s.w = w; return s, nil }}
		if res, err := Run(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %+v, %v, want the context's error", res, err)
		}
	})
}

func TestMetersAreReadAtTheEndsOfTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begin, end time.Time
		c := Config{Rate: 100, Duration: 10 * time.Second, Warmup: 2 * time.Second, OnBegin: func() {
			time.Sleep(3 * time.Second) // a slow meter
			begin = time.Now()
		}, OnEnd: func() { end = time.Now() }}
		res := simulate(t, t.Context(), c, &sim{serve: func(int, time.Duration) time.Duration { return time.Millisecond }})
		if got := end.Sub(begin); got < 10*time.Second || got > 10*time.Second+20*time.Millisecond || res.Elapsed != got || res.Window != 10*time.Second || res.Answered < 999 || res.Answered > 1001 || res.Requests < 999 || res.Requests > 1001 {
			t.Errorf("window of %v, %v told, %d answers, %d requests; want 10s and 1000 of each", got, res.Elapsed, res.Answered, res.Requests)
		}
	})
}
