package balance

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func endpoints(n int) []proxy.Endpoint {
	set := make([]proxy.Endpoint, n)
	for i := range set {
		set[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 15008)
	}
	return set
}

func TestSpreadsByLoad(t *testing.T) {
	var b Balancer
	b.Update(endpoints(10))
	for range 1000 {
		b.Pick(1, nil)
	}
	b.Each(func(st *State) {
		if st.Pending() < 80 || st.Pending() > 120 {
			t.Errorf("%v has %d of 1000 pending requests, want about 100", st.Endpoint, st.Pending())
		}
	})
}

func TestWeights(t *testing.T) {
	var b Balancer
	set := endpoints(2)
	set[0].Weight = 3
	b.Update(set)
	for range 400 {
		b.Pick(1, nil)
	}
	if heavy := b.states[0].Pending(); heavy < 280 || heavy > 320 {
		t.Errorf("weight 3 of 4 got %d of 400", heavy)
	}
}

func TestPassesOverTheFailed(t *testing.T) {
	var b Balancer
	b.Update(endpoints(3))
	now := task.Instant(1)
	bad := b.states[1]
	bad.Failed(now, "refused")
	for range 100 {
		if st := b.Pick(now, nil); st == bad {
			t.Fatal("picked an endpoint that just failed")
		}
	}
	for range 100 {
		b.Pick(now.Add(firstPause), nil)
	}
	if bad.Pending() == 0 {
		t.Error("after its pause the endpoint is never tried again")
	}
	// All paused: better a paused one than none.
	b.Each(func(st *State) { st.Failed(now, "refused") })
	if b.Pick(now, nil) == nil {
		t.Error("all paused: got none")
	}
	for range 40 {
		bad.Failed(now, "refused")
	}
	if bad.paused(now.Add(lastPause)) {
		t.Errorf("paused for more than %v", lastPause)
	}
	bad.Answered()
	if !bad.Healthy(now) {
		t.Error("an answer does not heal")
	}
}

func TestTriedAreLeftOut(t *testing.T) {
	var b Balancer
	b.Update(endpoints(3))
	var tried []*State
	for range 3 {
		st := b.Pick(1, tried)
		if st == nil || contains(tried, st) {
			t.Fatalf("got %v after %d tries", st, len(tried))
		}
		tried = append(tried, st)
	}
	if st := b.Pick(1, tried); st != nil {
		t.Errorf("got %v, want none left", st.Endpoint)
	}
}

func TestUpdateKeepsState(t *testing.T) {
	var b Balancer
	b.Update(endpoints(3))
	st := b.Pick(1, nil)
	b.Update(append(endpoints(3), proxy.Endpoint{Unix: "/x"}))
	if b.Len() != 4 {
		t.Fatalf("len %d, want 4", b.Len())
	}
	found := false
	b.Each(func(s *State) { found = found || s == st && s.Pending() == 1 })
	if !found {
		t.Error("the pending request was forgotten")
	}
	b.Update(nil)
	if b.Pick(1, nil) != nil {
		t.Error("an empty set gave an endpoint")
	}
	st.Done()
}

func TestPickDoesNotAllocate(t *testing.T) {
	var b Balancer
	set := endpoints(100)
	b.Update(set)
	if n := testing.AllocsPerRun(1000, func() { b.Update(set); b.Pick(1, nil).Done() }); n != 0 {
		t.Errorf("%v allocations per pick, want 0", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 100, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var bal Balancer
			bal.Update(endpoints(n))
			b.ReportAllocs()
			for b.Loop() {
				bal.Pick(1, nil).Done()
			}
		})
	}
}

// Weights count without load, too: two draws of what is likely, not of everybody alike.
func TestWeightsWithoutLoad(t *testing.T) {
	var b Balancer
	set := endpoints(3)
	set[0].Weight, set[1].Weight, set[2].Weight = 90, 9, 1
	b.Update(set)
	count := make(map[*State]int)
	const picks = 10_000
	for range picks {
		st := b.Pick(1, nil)
		st.Done()
		count[st]++
	}
	for i, want := range []int{9000, 900, 100} {
		if got := count[b.states[i]]; got < want*8/10 || got > want*12/10 {
			t.Errorf("weight %d got %d of %d", set[i].Weight, got, picks)
		}
	}
}

// A higher priority is for when all of the lower have failed a moment ago, or were tried.
func TestPriority(t *testing.T) {
	var b Balancer
	set := endpoints(4)
	set[0].Priority, set[1].Priority, set[2].Priority, set[3].Priority = 20, 10, 10, 30
	b.Update(set)
	now := task.Instant(1)
	picks := func(tried ...*State) map[int]bool {
		seen := make(map[int]bool)
		for range 200 {
			st := b.Pick(now, tried)
			if st == nil {
				return nil
			}
			st.Done()
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
	expect("at first", 10, picks())
	b.states[1].Failed(now, "refused")
	expect("one of two failed", 10, picks())
	expect("one failed, the other was tried", 20, picks(b.states[2]))
	b.states[2].Failed(now, "refused")
	expect("both failed", 20, picks())
	b.states[0].Failed(now, "refused")
	expect("only the last is left", 30, picks())
	b.states[3].Failed(now, "refused")
	expect("all failed", 10, picks())
	expect("all failed, and those of the lowest were tried", 20, picks(b.states[1], b.states[2]))
	b.states[1].Answered()
	expect("one is back", 10, picks())
	if got := picks(b.states...); got != nil {
		t.Errorf("all were tried: picked of %v", got)
	}
}
