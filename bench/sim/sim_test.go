package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestScenarios runs every scenario with fewer endpoints. What must come of each is written there.
func TestScenarios(t *testing.T) {
	for _, sc := range scenarios(100) {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			results := make(map[string]*result)
			for _, s := range sc.settings {
				results[s.name] = newWorld(s).run()
			}
			if len(sc.verdicts) == 0 {
				t.Error("nothing must come of it")
			}
			for _, v := range sc.verdicts {
				if got, ok := v.check(results); !ok {
					t.Errorf("%s: not so: %.4g", v.says, got)
				}
			}
		})
	}
}

// TestSameSeedSameFigures: what is random follows from the seed.
func TestSameSeedSameFigures(t *testing.T) {
	for _, sc := range scenarios(50)[:3] {
		s := sc.settings[0]
		s.rate /= 2
		a, b := newWorld(s).run(), newWorld(s).run()
		s.seed++
		other := newWorld(s).run()
		x, y, z := a.between(0, over), b.between(0, over), other.between(0, over)
		if x.ended != y.ended || x.attempts != y.attempts || x.percentile(99) != y.percentile(99) {
			t.Errorf("%s: %d and %d requests, p99 %v and %v", sc.name, x.ended, y.ended, x.percentile(99), y.percentile(99))
		}
		if x.ended == z.ended && x.percentile(99) == z.percentile(99) {
			t.Errorf("%s: another seed changes nothing", sc.name)
		}
	}
}

// TestRun: the command draws what it ran, and knows what there is.
func TestRun(t *testing.T) {
	svg := filepath.Join(t.TempDir(), "sim.svg")
	var out strings.Builder
	if err := run(&out, []string{"overload"}, 10, svg); err != nil {
		t.Fatal(err, out.String())
	}
	drawn, err := os.ReadFile(svg)
	if err != nil || strings.Count(string(drawn), "<polyline") != 4 || !strings.Contains(out.String(), "Gradient2") {
		t.Errorf("%v; drew %d lines, want 4; said %s", err, strings.Count(string(drawn), "<polyline"), out.String())
	}
	if err := run(io.Discard, []string{"nothing"}, 10, ""); err == nil || !strings.Contains(err.Error(), "there are slow,dead") {
		t.Errorf("an unknown scenario: %v", err)
	}
}
