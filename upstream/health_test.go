package upstream

import "testing"

// TestMerge: shards have seen different things at different times.
func TestMerge(t *testing.T) {
	untried, answered := Health{}, Health{Answered: true}
	failed, paused := Health{Why: "refused"}, Health{Why: "refused", Paused: true}
	for _, c := range []struct {
		name string
		a, b Health
		want bool
	}{
		{"nobody has called", untried, untried, true},
		{"one has", untried, answered, true},
		{"one has failed", untried, failed, false},
		{"one failed long ago, another was answered", failed, answered, true},
		{"one failed just now", paused, answered, false},
	} {
		for _, x := range [][2]Health{{c.a, c.b}, {c.b, c.a}} {
			h := x[0]
			if h.Merge(x[1]); h.Healthy() != c.want || !c.want && h.Why == "" {
				t.Errorf("%s: healthy %v, %q", c.name, h.Healthy(), h.Why)
			}
		}
	}
}
