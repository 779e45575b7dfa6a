package health

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const start = task.Instant(time.Hour)

func set(n int) []proxy.Endpoint {
	all := make([]proxy.Endpoint, n)
	for i := range all {
		all[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
	}
	return all
}

func service(c Config, n int) (*Service, []*Endpoint) {
	s := New(c)
	return s, s.Update(set(n), start)
}

func after(d time.Duration) task.Instant { return start.Add(d) }

// out lists who cannot be picked.
func out(all []*Endpoint, now task.Instant) []int {
	var list []int
	for i, e := range all {
		if e.Out() > now {
			list = append(list, i)
		}
	}
	return list
}

func wantOut(t *testing.T, when string, all []*Endpoint, now task.Instant, want ...int) {
	t.Helper()
	if got := out(all, now); !slices.Equal(got, want) {
		t.Errorf("%s: out are %v, want %v", when, got, want)
	}
}

func TestLost(t *testing.T) {
	_, all := service(Config{}, 3)
	e := all[1]
	if !e.Usable(start) || !e.Lost(start, "refused") || e.Lost(start, "refused") {
		t.Error("want the first failure told apart from the second")
	}
	wantOut(t, "lost twice", all, start, 1)
	if st := e.State(start); !st.Lost || st.Why != "refused" || st.Again != after(2*firstPause) {
		t.Errorf("state %+v", st)
	}
	now := after(2 * firstPause)
	if !e.Usable(now) {
		t.Error("after its pause nobody may try")
	}
	if e.Usable(now) || e.Usable(now.Add(trial-1)) {
		t.Error("a second one may try while the first does")
	}
	if !e.Usable(now.Add(trial)) {
		t.Error("the first one does not come back, and nobody else may try")
	}
	for range 40 {
		e.Lost(now, "refused")
	}
	if got := e.Out(); got != now.Add(lastPause) {
		t.Errorf("after many failures out for %v, want %v", got.Sub(now), lastPause)
	}
	e.Reached(now)
	if !e.Usable(now) || e.State(now).Why != "" || e.Since() != now {
		t.Errorf("reached: %+v, since %v", e.State(now), e.Since())
	}
	if !e.Lost(now, "refused") || e.Out() != now.Add(firstPause) {
		t.Error("an answer does not make the next pause the first")
	}
}

func TestProbe(t *testing.T) {
	s, all := service(Config{}, maxProbes+2)
	e := all[0]
	if e.Probe() {
		t.Error("probes one that is not lost")
	}
	e.Lost(start, "refused")
	if !e.Probe() || e.Probe() {
		t.Error("want one probe, not two")
	}
	if late := after(time.Hour); e.Usable(late) {
		t.Error("while it is probed a request tries")
	}
	e.EndProbe(start)
	if !e.Usable(start) {
		t.Error("the probe has ended, and nobody may try")
	}
	for i, x := range all[1:] {
		x.Lost(start, "refused")
		if got := x.Probe(); got != (i < maxProbes) {
			t.Fatalf("probe %d: %v", i, got)
		}
	}
	all[1].Reached(start)
	if !all[1].Usable(start) {
		t.Error("reached by its probe, and out")
	}
	all[1].EndProbe(start)
	if !all[maxProbes+1].Probe() {
		t.Error("an ended probe makes no room")
	}
	s.Update(set(1), start)
	if s.Known(all[1]) || !s.Known(all[0]) {
		t.Error("known is who is in the set")
	}
}

func TestConsecutive(t *testing.T) {
	s, all := service(Config{Share: 0.1}, 10)
	fail := func(e *Endpoint, n int, now task.Instant) {
		for range n {
			e.Report(now, Bad, time.Millisecond)
		}
	}
	fail(all[0], 4, start)
	all[0].Report(start, Good, time.Millisecond)
	fail(all[0], 4, start)
	all[0].Report(start, Unknown, time.Millisecond)
	wantOut(t, "never five in a row", all, start)
	fail(all[0], 1, start)
	wantOut(t, "five in a row", all, start, 0)
	if st := all[0].State(start); !st.Ejected || st.Again != after(30*time.Second) || st.Why == "" || st.Ejections != 1 {
		t.Errorf("state %+v", st)
	}
	// One of ten may be out.
	fail(all[1], 20, start)
	wantOut(t, "a second one", all, start, 0)
	if st := s.Stats(); st.Ejected != 1 || st.Spared == 0 {
		t.Errorf("stats %+v", st)
	}
	now := after(30 * time.Second)
	if !all[0].Usable(now) || all[0].Since() != now {
		t.Error("it is not back after 30 s")
	}
	fail(all[1], 5, now)
	wantOut(t, "there is room again", all, now, 1)
	now = now.Add(time.Hour)
	for i := range 20 {
		fail(all[0], 5, now)
		if want := min(5*time.Minute, time.Duration(i+2)*30*time.Second); all[0].Out() != now.Add(want) {
			t.Fatalf("ejection %d: for %v, want %v", i+2, all[0].Out().Sub(now), want)
		}
		now = all[0].Out()
		all[0].Usable(now)
	}
	// With the defaults it is three of ten.
	_, all = service(Config{}, 10)
	for i := range 4 {
		fail(all[i], 5, start)
	}
	wantOut(t, "the ceiling", all, start, 0, 1, 2)
	_, one := service(Config{}, 1)
	fail(one[0], 100, start)
	wantOut(t, "the only one", one, start)
	_, all = service(Config{}, 10)
	all[0].Report(start, Cut, time.Millisecond)
	all[0].Report(start, Cut, time.Millisecond)
	wantOut(t, "two cut answers", all, start)
	all[0].Report(start, Bad, time.Millisecond)
	wantOut(t, "and a failure", all, start, 0)
	_, all = service(Config{Consecutive: -1}, 10)
	fail(all[0], 100, start)
	wantOut(t, "switched off", all, start)
	_, all = service(Config{Share: -1}, 10)
	fail(all[0], 100, start)
	wantOut(t, "no share", all, start)
	_, all = service(Config{Share: 0.5}, 10)
	for _, e := range all {
		fail(e, 5, start)
	}
	wantOut(t, "half", all, start, 0, 1, 2, 3, 4)
}

// report tells of n requests, of which every k-th fails.
func report(e *Endpoint, now task.Instant, n, k int, latency time.Duration) {
	for i := range n {
		o := Good
		if k > 0 && i%k == k-1 {
			o = Bad
		}
		e.Report(now, o, latency)
	}
}

func TestSuccessRate(t *testing.T) {
	for _, c := range []struct {
		name        string
		requests, k int // of endpoint 3; the others fail every 50th
		n           int // endpoints
		want        []int
	}{
		{"a third fails", 300, 3, 10, []int{3}},
		{"like the others", 300, 50, 10, nil},
		{"more, and not enough to matter", 300, 20, 10, nil},
		{"too few requests", 90, 3, 10, nil},
		{"too few endpoints", 300, 3, 4, nil},
	} {
		_, all := service(Config{}, c.n)
		all[0].Report(start, Good, 0) // the interval begins
		for i, e := range all {
			n, k := 300, 50
			if i == 3 {
				n, k = c.requests, c.k
			}
			report(e, after(time.Second), n, k, time.Millisecond)
		}
		wantOut(t, c.name+", within the interval", all, after(time.Second))
		now := after(10 * time.Second)
		all[0].Report(now, Good, 0)
		wantOut(t, c.name, all, now, c.want...)
		// Good intervals make the next ejection shorter.
		if c.want == nil {
			continue
		}
		now = all[3].Out()
		all[3].Usable(now)
		report(all[3], now, 300, 0, time.Millisecond)
		all[0].Report(now, Good, 0)
		if n := all[3].State(now).Ejections; n != 0 {
			t.Errorf("after a good interval %d ejections count", n)
		}
	}
}

func TestLatency(t *testing.T) {
	for _, c := range []struct {
		name    string
		factor  float64
		latency time.Duration
		want    []int
	}{
		{"ten times", 5, 100 * time.Millisecond, []int{3}},
		{"three times", 5, 30 * time.Millisecond, nil},
		{"not asked for", 0, time.Second, nil},
	} {
		_, all := service(Config{Latency: c.factor}, 10)
		all[0].Report(start, Good, 10*time.Millisecond)
		for i, e := range all {
			latency := 10 * time.Millisecond
			if i == 3 {
				latency = c.latency
			}
			report(e, after(time.Second), 200, 0, latency)
		}
		now := after(10 * time.Second)
		all[0].Report(now, Good, 0)
		wantOut(t, c.name, all, now, c.want...)
	}
}

func TestChecks(t *testing.T) {
	s, all := service(Config{}, 3)
	e := all[0]
	e.Checked(start, "")
	wantOut(t, "well from the start", all, start)
	for range 2 {
		e.Checked(start, "503")
	}
	e.Checked(start, "")
	for range 2 {
		e.Checked(start, "503")
	}
	wantOut(t, "never three in a row", all, start)
	e.Checked(start, "503")
	wantOut(t, "three in a row", all, after(time.Hour), 0)
	if st := e.State(start); !st.Sick || st.Why != "503" || st.Again != 0 {
		t.Errorf("state %+v", st)
	}
	e.Checked(start, "")
	wantOut(t, "one success", all, start, 0)
	e.Checked(start, "")
	wantOut(t, "two", all, start)
	if e.Since() != start || e.State(start).Why != "" {
		t.Errorf("state %+v since %v", e.State(start), e.Since())
	}
	all[1].Checked(start, "refused")
	wantOut(t, "the first says enough", all, start, 1)
	if st := s.Stats(); st.Checks != 10 || st.FailedChecks != 6 {
		t.Errorf("stats %+v", st)
	}
}

func TestUpdate(t *testing.T) {
	s, all := service(Config{}, 3)
	all[1].Lost(start, "refused")
	before := s.Version()
	bigger := set(4)
	bigger[1].Weight = 7
	now := s.Update(bigger, after(time.Second))
	if now[1] != all[1] || s.Version() == before {
		t.Error("a new weight makes another endpoint, or no new version")
	}
	if now[0].Since() != 0 || now[3].Since() != after(time.Second) {
		t.Errorf("joined at %v and %v", now[0].Since(), now[3].Since())
	}
	if again := s.Update(bigger, after(time.Minute)); &again[0] != &now[0] {
		t.Error("the same set is read twice")
	}
	if s.Update(nil, start); s.Update(set(3), start)[1] != all[1] {
		t.Error("a shard that is late makes others of them")
	}
	s.Update(nil, start)
	if s.Update(set(1), start); s.Update(set(3), start)[1].Out() != 0 {
		t.Error("who left long ago is remembered")
	}
}

// TestTogether: all shards at once, for the race detector.
func TestTogether(t *testing.T) {
	s, all := service(Config{Interval: time.Millisecond}, 50)
	var wg sync.WaitGroup
	for shard := range 4 {
		wg.Go(func() {
			for i := range 3000 {
				now := after(time.Duration(i) * 100 * time.Microsecond)
				e := all[(i*7+shard)%len(all)]
				switch {
				case i%11 == 0:
					e.Lost(now, "refused")
					if i%2 == 0 && e.Probe() {
						e.EndProbe(now)
					}
				case i%13 == 0:
					e.Checked(now, fmt.Sprint(i%2))
				case e.Usable(now):
					e.Reached(now)
					e.Report(now, Outcome(1+i%5/4), time.Millisecond)
				}
				if i%500 == 0 {
					s.Update(set(50), now)
				}
				e.State(now)
				e.Reachable(now)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Lost == 0 || st.Checks == 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestUsableDoesNotAllocate(t *testing.T) {
	_, all := service(Config{}, 3)
	now := start
	n := testing.AllocsPerRun(1000, func() {
		now++
		all[0].Usable(now)
		all[0].Reached(now)
		all[0].Report(now, Good, 1000)
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
