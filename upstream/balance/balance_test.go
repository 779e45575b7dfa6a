package balance

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// start is when the tests begin.
const start = task.Instant(time.Hour)

func endpoints(n int) []proxy.Endpoint {
	set := make([]proxy.Endpoint, n)
	for i := range set {
		set[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 15008)
	}
	return set
}

// balancer returns one whose chances are the same each time.
func balancer(c Config, set []proxy.Endpoint) *Balancer {
	c.Seed = 1
	b := New(c, health.New(health.Config{}))
	b.Update(set, set, start)
	return b
}

// shares picks n times, each answered at once unless pending, and returns how often each Endpoint was picked, in the order of the set.
func shares(b *Balancer, p Pick, n int) []int {
	count := make([]int, b.Len())
	for range n {
		st := b.Pick(&p)
		if st == nil {
			continue
		}
		count[slices.Index(b.states, st)]++
		st.Done(p.Stream)
	}
	return count
}

func within(t *testing.T, what string, got, want int, tolerance float64) {
	t.Helper()
	if d := float64(got - want); d > tolerance*float64(want) || -d > tolerance*float64(want) {
		t.Errorf("%s: got %d, want %d, give or take %.0f %%", what, got, want, 100*tolerance)
	}
}

func policies() map[string]Policy {
	return map[string]Policy{"peak ewma": PeakEWMA, "least request": LeastRequest, "round robin": RoundRobin, "ring hash": RingHash, "maglev": Maglev}
}

// Every policy: load that stays is spread.
func TestSpreadsByLoad(t *testing.T) {
	for name, policy := range policies() {
		b := balancer(Config{Policy: policy}, endpoints(10))
		for range 1000 {
			b.Pick(&Pick{Now: start})
		}
		b.Each(func(st *State) { within(t, name+": "+st.Endpoint.String(), st.Pending(), 100, 0.2) })
	}
}

// Every policy: a part in proportion to the weight, with load and without.
func TestWeights(t *testing.T) {
	for name, policy := range policies() {
		for _, weights := range [][]int{{90, 9, 1}, {3, 1}, {5, 5, 10}} {
			set, sum := endpoints(len(weights)), 0
			for i, w := range weights {
				set[i].Weight = w
				sum += w
			}
			b := balancer(Config{Policy: policy, Bound: -1}, set)
			const picks = 20_000
			count := make([]int, len(set))
			for i := range uint64(picks) {
				p := Pick{Now: start, Keyed: true, Key: stir(i)}
				st := b.Pick(&p)
				count[slices.Index(b.states, st)]++
				st.Done(false)
			}
			for i, w := range weights {
				if policy == RingHash && w == 1 {
					continue // of a few points on the ring
				}
				within(t, fmt.Sprintf("%s: weight %d of %v", name, w, weights), count[i], picks*w/sum, 0.3)
			}
			for range 100 * sum {
				b.Pick(&Pick{Now: start})
			}
			for i, w := range weights {
				within(t, fmt.Sprintf("%s: weight %d of %v, with load", name, w, weights), b.states[i].Pending(), 100*w, 0.35)
			}
		}
	}
}

// An answer is waited for before an Endpoint gets a second request.
func TestFindsOutOneAtATime(t *testing.T) {
	b := balancer(Config{}, endpoints(2))
	b.states[0].Answered(start, time.Millisecond, false)
	first, second := b.Pick(&Pick{Now: start}), b.Pick(&Pick{Now: start})
	if first != b.states[1] || second != b.states[0] {
		t.Errorf("picked %v and %v, want the unknown one once", first.Endpoint, second.Endpoint)
	}
}

// Who is slow gets less, in proportion to how slow; who was slow is found out again.
func TestPeakEWMA(t *testing.T) {
	b := balancer(Config{}, endpoints(10))
	now := start
	b.Each(func(st *State) { st.Answered(now, 10*time.Millisecond, false) })
	slow := b.states[3]
	slow.Answered(now, time.Second, false)
	if got := slow.Latency(now); got != time.Second {
		t.Errorf("after a peak: %v, want all of it at once", got)
	}
	if n := shares(b, Pick{Now: now}, 1000)[3]; n != 0 {
		t.Errorf("the slow one got %d of 1000", n)
	}
	now = now.Add(5 * time.Second)
	slow.Answered(now, 10*time.Millisecond, false)
	if got := slow.Latency(now); got < 300*time.Millisecond || got > 700*time.Millisecond {
		t.Errorf("half the decay later: %v, want about 600 ms", got)
	}
	for range 60 {
		now = now.Add(time.Second)
		b.Each(func(st *State) { st.Answered(now, 10*time.Millisecond, false) })
	}
	if got := slow.Latency(now); got > 15*time.Millisecond {
		t.Errorf("after a minute: %v, want about 10 ms", got)
	}
}

// To fail fast attracts nothing.
func TestFailurePenalty(t *testing.T) {
	for name, policy := range map[string]Policy{"peak ewma": PeakEWMA, "least request": LeastRequest} {
		b := balancer(Config{Policy: policy}, endpoints(10))
		for range 100 {
			for i, st := range b.states {
				st.Answered(start, 50*time.Millisecond, false)
				if i == 0 {
					st.Answered(start, time.Millisecond, true)
				}
				st.Ended(start, i == 0)
			}
		}
		if n := shares(b, Pick{Now: start}, 1000)[0]; n != 0 {
			t.Errorf("%s: the one that fails got %d of 1000", name, n)
		}
		bad := b.states[0]
		if f := bad.Failing(start); f < 0.9 {
			t.Errorf("%s: failing %.2f, want nearly 1", name, f)
		}
		if f := bad.Failing(start.Add(time.Minute)); f > 0.1 {
			t.Errorf("%s: failing %.2f after a minute, want hardly anything", name, f)
		}
	}
}

func TestPassesOverTheLost(t *testing.T) {
	for name, policy := range policies() {
		b := balancer(Config{Policy: policy}, endpoints(3))
		bad := b.states[1]
		bad.Health.Lost(start, "refused")
		for key := range uint64(300) {
			st := b.Pick(&Pick{Now: start, Keyed: true, Key: stir(key)})
			if st == bad {
				t.Fatalf("%s: picked an endpoint that is lost", name)
			}
			st.Done(false)
		}
		later := start.Add(time.Second)
		tries := 0
		for key := range uint64(300) {
			st := b.Pick(&Pick{Now: later, Keyed: true, Key: stir(key)})
			if st == bad {
				tries++
			}
			st.Done(false)
		}
		if tries != 1 {
			t.Errorf("%s: after its pause %d requests tried it, want one", name, tries)
		}
		bad.Health.Reached(later)
		if n := shares(b, Pick{Now: later.Add(time.Millisecond)}, 300)[1]; n == 0 {
			t.Errorf("%s: the endpoint is back and gets nothing", name)
		}
		b.Each(func(st *State) { st.Health.Lost(later, "refused") })
		if b.Pick(&Pick{Now: later.Add(2 * time.Millisecond)}) == nil {
			t.Errorf("%s: all are lost: got none, want any", name)
		}
		if b.Stats().Last == 0 {
			t.Errorf("%s: stats %+v, want a last resort counted", name, b.Stats())
		}
	}
}

func TestTriedAreLeftOut(t *testing.T) {
	for name, policy := range policies() {
		b := balancer(Config{Policy: policy}, endpoints(3))
		var tried []*State
		for range 3 {
			st := b.Pick(&Pick{Now: start, Tried: tried, Keyed: true, Key: 7})
			if st == nil || slices.Contains(tried, st) {
				t.Fatalf("%s: got %v after %d tries", name, st, len(tried))
			}
			tried = append(tried, st)
		}
		if st := b.Pick(&Pick{Now: start, Tried: tried}); st != nil {
			t.Errorf("%s: got %v, want none left", name, st.Endpoint)
		}
		// Those to avoid are better than none, and than one that is lost.
		set := endpoints(3)
		avoid := []*proxy.Endpoint{&set[0], &set[1]}
		if st := b.Pick(&Pick{Now: start, Avoid: avoid}); st != b.states[2] {
			t.Errorf("%s: got %v, want the one that is not to be avoided", name, st.Endpoint)
		}
		b.states[2].Health.Lost(start, "refused")
		if st := b.Pick(&Pick{Now: start, Avoid: avoid}); st == nil || st == b.states[2] {
			t.Errorf("%s: got %v, want one to be avoided rather than a lost one", name, st)
		}
	}
}

func TestUpdateKeepsState(t *testing.T) {
	b := balancer(Config{}, endpoints(3))
	st := b.Pick(&Pick{Now: start})
	other := append(endpoints(3), proxy.Endpoint{Unix: "/x"})
	for i := range other {
		other[i].Weight = 5 // it is the same one still
	}
	b.Update(other, other, start)
	if b.Len() != 4 {
		t.Fatalf("len %d, want 4", b.Len())
	}
	found := false
	b.Each(func(s *State) { found = found || s == st && s.Pending() == 1 && s.Endpoint.Weight == 5 })
	if !found {
		t.Error("the pending request was forgotten")
	}
	b.Update(nil, nil, start)
	if b.Pick(&Pick{Now: start}) != nil {
		t.Error("an empty set gave an endpoint")
	}
	st.Done(false)
}

// A higher priority is for when none of the lower can be reached, or all were tried.
func TestPriority(t *testing.T) {
	set := endpoints(4)
	set[0].Priority, set[1].Priority, set[2].Priority, set[3].Priority = 20, 10, 10, 30
	b := balancer(Config{}, set)
	now := start
	picks := func(tried ...*State) map[int]bool {
		seen := make(map[int]bool)
		for range 200 {
			st := b.Pick(&Pick{Now: now, Tried: tried})
			if st == nil {
				return nil
			}
			st.Done(false)
			seen[st.Endpoint.Priority] = true
		}
		return seen
	}
	expect := func(when string, want int, got map[int]bool) {
		t.Helper()
		if len(got) != 1 || !got[want] {
			t.Errorf("%s: picked of priorities %v, want %d alone", when, got, want)
		}
	}
	lose := func(i int) { b.states[i].Health.Lost(now, "refused") }
	expect("at first", 10, picks())
	lose(1)
	expect("one of two failed", 10, picks())
	expect("one failed, the other was tried", 20, picks(b.states[2]))
	lose(2)
	expect("both failed", 20, picks())
	lose(0)
	expect("only the last is left", 30, picks())
	lose(3)
	expect("all failed", 10, picks())
	expect("all failed, and those of the lowest were tried", 20, picks(b.states[1], b.states[2]))
	b.states[1].Health.Reached(now)
	expect("one is back", 10, picks())
	if got := picks(b.states...); got != nil {
		t.Errorf("all were tried: picked of %v", got)
	}
}

// Where most that can be reached are only said to be bad, all of these are used, or the next priority if there is one.
func TestPanic(t *testing.T) {
	set := endpoints(10)
	b := balancer(Config{}, set)
	for i := range 6 {
		b.states[i].Health.Checked(start, "503")
	}
	b.states[0].Health.Lost(start, "refused")
	now := start.Add(time.Second)
	count := shares(b, Pick{Now: now}, 1000)
	for i, n := range count {
		if (n == 0) != (i == 0) {
			t.Errorf("endpoint %d got %d, want all used but the lost one: %v", i, n, count)
		}
	}
	if b.Stats().Panics == 0 {
		t.Errorf("stats %+v, want panics counted", b.Stats())
	}
	set = slices.Clone(set)
	for i := range 2 {
		set[8+i].Priority = 1
	}
	b.Update(set, set, now)
	count = shares(b, Pick{Now: now}, 1000)
	if count[8]+count[9] != 1000 {
		t.Errorf("with a second priority that is well: %v, want all there", count)
	}
}

// New Streams go where few are open, whatever Exchanges there are.
func TestStreams(t *testing.T) {
	for name, policy := range policies() {
		b := balancer(Config{Policy: policy}, endpoints(10))
		for range 50 {
			b.Pick(&Pick{Now: start})
		}
		for range 100 {
			b.Pick(&Pick{Now: start, Stream: true})
		}
		b.Each(func(st *State) { within(t, name+": "+st.Endpoint.String(), st.Streams(), 10, 0.3) })
		st := b.states[0]
		st.Done(true)
		if st.Streams()+1 < 7 || st.Pending() == 0 {
			t.Errorf("%s: %d streams, %d pending", name, st.Streams(), st.Pending())
		}
	}
}

func TestSlowStart(t *testing.T) {
	for name, policy := range map[string]Policy{"least request": LeastRequest, "round robin": RoundRobin} {
		set := endpoints(10)
		b := balancer(Config{Policy: policy, SlowStart: 10 * time.Second}, set)
		within(t, name+": from the start", shares(b, Pick{Now: start}, 10_000)[0], 1000, 0.15)
		more := append(slices.Clone(set), endpoints(11)[10])
		b.Update(more, more, start)
		for _, c := range []struct {
			after time.Duration
			want  int // of 11,000
		}{{0, 100}, {time.Second, 100}, {5 * time.Second, 500}, {10 * time.Second, 1000}, {time.Hour, 1000}} {
			within(t, fmt.Sprintf("%s: after %v", name, c.after), shares(b, Pick{Now: start.Add(c.after)}, 11_000)[10], c.want, 0.25)
		}
	}
}

func TestZones(t *testing.T) {
	set := endpoints(12)
	for i := range set {
		set[i].Zone = []string{"a", "b", "c"}[i%3]
	}
	for name, policy := range map[string]Policy{"peak ewma": PeakEWMA, "least request": LeastRequest, "round robin": RoundRobin} {
		b := balancer(Config{Policy: policy, Zone: "a"}, set)
		near := func(now task.Instant) (n int) {
			for i, c := range shares(b, Pick{Now: now}, 10_000) {
				if set[i].Zone == "a" {
					n += c
				}
			}
			return n
		}
		within(t, name+": all are well", near(start), 10_000, 0)
		b.states[0].Health.Checked(start, "503")
		within(t, name+": three of four", near(start.Add(time.Second)), 10_000, 0)
		b.states[3].Health.Checked(start.Add(time.Second), "503")
		// Two of four are 5/7 of the 70 % that would do; of the others' picks 2 in 10 are near by chance.
		within(t, name+": half", near(start.Add(2*time.Second)), 10_000*54/70, 0.05)
		b.states[6].Health.Checked(start.Add(2*time.Second), "503")
		b.states[9].Health.Checked(start.Add(2*time.Second), "503")
		within(t, name+": none", near(start.Add(3*time.Second)), 0, 0)
		if b.Stats().Far == 0 {
			t.Errorf("%s: stats %+v, want picks elsewhere counted", name, b.Stats())
		}
	}
}

// Who has much more to do than those elsewhere gets no more.
func TestZonesSpillOver(t *testing.T) {
	set := endpoints(10)
	set[0].Zone, set[1].Zone = "a", "a"
	b := balancer(Config{Zone: "a", Spill: 5}, set)
	b.Each(func(st *State) { st.Answered(start, time.Millisecond, false) })
	for range 500 {
		b.Pick(&Pick{Now: start})
	}
	for i, st := range b.states {
		switch n := st.Pending(); {
		case i < 2 && (n < 90 || n > 200):
			t.Errorf("near: %d pending, want more than 5 times what others have, and not all", n)
		case i >= 2 && (n < 12 || n > 40):
			t.Errorf("far: %d pending, want the rest", n)
		}
	}
}

func TestSubsets(t *testing.T) {
	set := endpoints(10)
	for i := range set {
		set[i].Labels = proxy.Labels(map[string]string{"version": "v" + strconv.Itoa(i%3), "stage": "x"})
	}
	b := balancer(Config{Label: "version"}, set)
	only := func(subset string, want ...int) {
		t.Helper()
		for i, n := range shares(b, Pick{Now: start, Subset: subset}, 500) {
			if (n > 0) != (want == nil || slices.Contains(want, i)) {
				t.Errorf("subset %q: endpoint %d got %d", subset, i, n)
			}
		}
	}
	only("v0", 0, 3, 6, 9)
	only("v2", 2, 5, 8)
	only("")
	only("unheard of")
	for _, i := range []int{2, 5, 8} {
		b.states[i].Health.Lost(start, "refused")
	}
	b.Configure(Config{Label: "version", Strict: true})
	if st := b.Pick(&Pick{Now: start, Subset: "unheard of"}); st != nil {
		t.Errorf("strict: got %v", st.Endpoint)
	}
	if st := b.Pick(&Pick{Now: start, Subset: "v2"}); st == nil || st.Endpoint.Labels != set[2].Labels {
		t.Errorf("all of the subset are lost: got %v, want one of them all the same", st)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for name, policy := range policies() {
		set := endpoints(100)
		for i := range set {
			set[i].Zone = "ab"[i%2 : i%2+1]
		}
		b := balancer(Config{Policy: policy, Zone: "a", SlowStart: time.Second}, set)
		now := start
		n := testing.AllocsPerRun(1000, func() {
			now++
			b.Update(set, set, now)
			p := Pick{Now: now, Keyed: true, Key: stir(uint64(now))}
			st := b.Pick(&p)
			st.Answered(now, 1000, false)
			st.Ended(now, false)
			st.Done(false)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations per pick, want 0", name, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for name, policy := range policies() {
		for _, n := range []int{1, 10, 100, 5000} {
			b.Run(name+"/"+strconv.Itoa(n), func(b *testing.B) {
				set := endpoints(n)
				bal := balancer(Config{Policy: policy, SlowStart: 10 * time.Second}, set)
				if build := bal.Prepare(); build != nil {
					bal.Install(build())
				}
				now := start
				b.ReportAllocs()
				for b.Loop() {
					now += 1000
					bal.Update(set, set, now)
					p := Pick{Now: now, Keyed: true, Key: stir(uint64(now))}
					st := bal.Pick(&p)
					st.Answered(now, time.Duration(50_000+now%1000), false)
					st.Ended(now, false)
					st.Done(false)
				}
			})
		}
	}
}
