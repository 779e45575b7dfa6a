package balance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func aperture(self string, n int) *Aperture {
	return NewAperture(ApertureConfig{Self: self, Min: n, Shards: 2})
}

// Callers that know nothing of each other use all Endpoints about equally.
func TestApertureSpreads(t *testing.T) {
	set := endpoints(100)
	count := make(map[proxy.Endpoint]int)
	const callers, size = 1000, 12
	for i := range callers {
		part := aperture(fmt.Sprintf("web-%d", i), size).Of(set)
		if len(part) != size {
			t.Fatalf("caller %d uses %d endpoints, want %d", i, len(part), size)
		}
		for _, ep := range part {
			count[ep]++
		}
	}
	const mean = callers * size / 100 // with a standard deviation of 10.3
	for i := range set {
		if n := count[set[i]]; n < mean-50 || n > mean+50 {
			t.Errorf("%v is used by %d callers, want about %d", &set[i], n, mean)
		}
	}
}

// The part is the same after a restart, in whatever order discovery says it, and changes by what changed.
func TestApertureIsStable(t *testing.T) {
	set := endpoints(200)
	a := aperture("web-1", 12)
	first := a.Of(set)
	if again := a.Of(set); &again[0] != &first[0] {
		t.Error("the same set gives another slice")
	}
	turned := slices.Clone(set)
	slices.Reverse(turned)
	if got := aperture("web-1", 12).Of(turned); !slices.Equal(got, first) {
		t.Errorf("after a restart: got %v, want %v", got, first)
	}
	for i := range set {
		less := slices.Delete(slices.Clone(set), i, i+1)
		part := a.Of(less)
		kept := 0
		for _, ep := range part {
			if slices.Contains(first, ep) {
				kept++
			}
		}
		want := len(first)
		if slices.Contains(first, set[i]) {
			want--
		}
		if kept != want || len(part) != len(first) {
			t.Fatalf("without %v: %d of %d kept, want %d", &set[i], kept, len(part), want)
		}
	}
}

// A small set is used whole, as it is.
func TestApertureOfFew(t *testing.T) {
	a := aperture("web-1", 12)
	for _, n := range []int{0, 1, 12} {
		set := endpoints(n)
		if got := a.Of(set); !sameSlice(got, set) {
			t.Errorf("of %d: got %d others", n, len(got))
		}
		if a.Began(0, task.Instant(time.Hour)) {
			t.Errorf("of %d: wants to look", n)
		}
	}
	a = NewAperture(ApertureConfig{Self: "x", Shards: 1})
	if got := len(a.Of(endpoints(100))); got != DefaultAperture {
		t.Errorf("by default %d are used, want %d", got, DefaultAperture)
	}
}

// Each priority, and the own zone, has enough for itself.
func TestApertureHasEnoughOfEach(t *testing.T) {
	set := endpoints(300)
	for i := range set {
		set[i].Priority = i % 2
		set[i].Zone = []string{"a", "b", "c"}[i%3]
	}
	a := NewAperture(ApertureConfig{Self: "web-1", Zone: "b", Min: 10, Shards: 1})
	count := make(map[string]int)
	for _, ep := range a.Of(set) {
		count[fmt.Sprint(ep.Priority, ep.Zone == "b")]++
	}
	for _, k := range []string{"0 true", "0 false", "1 true", "1 false"} {
		if count[k] != 10 {
			t.Errorf("priority and whether near %s: %d, want 10", k, count[k])
		}
	}
}

// load keeps n requests in flight on shard 0 for d, and one in ten ends and begins anew in each step.
func (a *Aperture) run(now *task.Instant, n int, d time.Duration, out int) {
	p := &a.parts[0]
	for end := now.Add(d); *now < end; *now = now.Add(100 * time.Millisecond) {
		for p.pending >= max(1, n) {
			a.Ended(0)
		}
		for p.pending < n {
			if a.Began(0, *now) {
				a.Look(0, *now, out)
			}
		}
		if n == 0 { // a request now and then
			if a.Began(0, *now) {
				a.Look(0, *now, out)
			}
			a.Ended(0)
		}
	}
}

func TestApertureGrowsWithLoad(t *testing.T) {
	set := endpoints(1000)
	a := aperture("web-1", 12)
	now := task.Instant(time.Minute)
	before := a.Of(set)
	expect := func(when string, low, high int) []proxy.Endpoint {
		t.Helper()
		part := a.Of(set)
		if len(part) < low || len(part) > high {
			t.Errorf("%s: %d endpoints are used, want %d to %d", when, len(part), low, high)
		}
		return part
	}
	a.run(&now, 20, time.Minute, 0)
	expect("20 in flight", 12, 12)
	a.run(&now, 200, time.Minute, 0)
	grown := expect("200 in flight", 100, 200)
	if !slices.Equal(grown[:12], before) {
		t.Error("who was in use is not any more")
	}
	a.run(&now, 5000, 2*time.Minute, 0)
	expect("5000 in flight", 1000, 1000)
	a.run(&now, 200, 2*time.Minute, 0)
	expect("200 again", 100, 400)
	a.run(&now, 0, 5*time.Minute, 0)
	if part := expect("hardly any", 12, 12); !slices.Equal(part, before) {
		t.Error("others than at first")
	}
	a.run(&now, 0, time.Minute, 5)
	expect("five are out", 17, 17)
	a.run(&now, 0, time.Minute, 0)
	expect("they are back", 12, 12)
}

// A shard that has gone quiet does not hold the aperture open.
// Another least size counts from now on, for the same set; a smaller one once there is little to do.
func TestApertureSet(t *testing.T) {
	set := endpoints(100)
	a := aperture("web-1", 12)
	first := slices.Clone(a.Of(set))
	a.Set(30, "")
	more := a.Of(set)
	if len(more) != 30 || a.Min() != 30 || !slices.Equal(more[:12], first) {
		t.Errorf("%d endpoints are used, want 30, of which 12 are those before", len(more))
	}
	a.Set(100, "")
	if n := len(a.Of(set)); n != 100 {
		t.Errorf("%d endpoints are used, want all", n)
	}
	a.Set(12, "")
	a.Look(0, task.Instant(time.Hour), 0)
	if got := a.Of(set); len(got) != 12 || !slices.Equal(got, first) {
		t.Errorf("%d endpoints are used, want the first 12", len(got))
	}
}

// Whatever value of the label a request asks for, some of those Endpoints are in use.
func TestApertureOfLabels(t *testing.T) {
	set := endpoints(100)
	for i := range set {
		set[i].Labels = fmt.Sprintf("pod=p%d,version=v%d", i, i/90)
	}
	count := func(a *Aperture) (old, new int) {
		for _, ep := range a.Of(set) {
			if v, _ := ep.Label("version"); v == "v0" {
				old++
			} else {
				new++
			}
		}
		return old, new
	}
	a := NewAperture(ApertureConfig{Self: "web-1", Min: 5, Label: "version", Shards: 1})
	if old, new := count(a); old != 5 || new != 5 {
		t.Errorf("%d of v0 and %d of v1 are used, want 5 of each", old, new)
	}
	a.Set(5, "pod")
	if old, new := count(a); old != 90 || new != 10 {
		t.Errorf("%d and %d are used, want all: each has a value of its own", old, new)
	}
}

func TestApertureForgetsAQuietShard(t *testing.T) {
	set := endpoints(1000)
	a := aperture("web-1", 12)
	now := task.Instant(time.Minute)
	a.Of(set)
	a.run(&now, 500, time.Minute, 0)
	if n := len(a.Of(set)); n < 200 {
		t.Fatalf("500 in flight: %d are used", n)
	}
	for range 500 {
		a.Ended(0)
	}
	for range 600 {
		now = now.Add(time.Second)
		if a.Began(1, now) {
			a.Look(1, now, 0)
		}
		a.Ended(1)
	}
	if n := len(a.Of(set)); n > 24 {
		t.Errorf("after ten quiet minutes %d are used", n)
	}
}

func TestApertureDoesNotAllocate(t *testing.T) {
	a := aperture("web-1", 12)
	set := endpoints(1000)
	a.Of(set)
	now := task.Instant(time.Minute)
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Second)
		a.Of(set)
		if a.Began(0, now) {
			a.Look(0, now, 0)
		}
		a.Ended(0)
	}); n != 0 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}
