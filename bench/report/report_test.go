package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/bench/load"
)

var update = flag.Bool("update", false, "write what the tests get into the golden files")

// measured is a round with n requests of this latency, all the same.
func measured(n int, d time.Duration) Round {
	r := &load.Result{Latency: load.NewLatency(), Late: load.NewLatency(), Failures: map[string]uint64{}, Elapsed: 2 * time.Second, Window: 2 * time.Second, CPUShare: 0.25}
	for range n {
		r.Latency.Record(d)
	}
	r.Requests, r.Answered, r.Bytes = uint64(n), uint64(n), uint64(n)*1024
	r.WindowAnswers, r.WindowBytes = r.Answered, r.Bytes
	r.Series = []load.Point{{Length: 2 * time.Second, Answers: uint64(n), P50: d, Max: d, Bytes: uint64(n) * 1024}}
	return Round{Result: r, CPU: -1}
}

// example is a report of five rounds: 100 µs directly, and 20 to 24 µs more through the proxy.
func example() *Report {
	var direct, via []Round
	for i := range 5 {
		direct = append(direct, measured(2000, 100*time.Microsecond))
		v := measured(2000, time.Duration(120+i)*time.Microsecond)
		v.CPU, v.Memory = 20*time.Millisecond, 30<<20
		via = append(via, v)
	}
	via[4].Result.Errors, via[4].Result.Failures["answered 503 <script>"] = 3, 3
	return Make(Report{
		Pillion: "v1.2.3", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Machine: "plan9/mips, 2 processors",
		Load:   Load{Protocol: "http1", Rate: 1000, Connections: 8, Streams: 1, Size: 1024, Seconds: 2, Rounds: 5},
		Direct: Side{Target: "http://127.0.0.1:8080/"}, Via: Side{Target: "http://127.0.0.1:15001/"},
	}, direct, via)
}

func TestDifferenceIsThatOfTheRounds(t *testing.T) {
	r := example()
	d := r.find("p50")
	if d == nil || d.Rounds != 5 || d.Low == nil {
		t.Fatalf("difference of p50 = %+v, want one of five rounds with an interval", d)
	}
	if math.Abs(d.Mean-22) > 0.5 || *d.Low > 22 || *d.High < 22 || *d.Low < 15 || *d.High > 30 {
		t.Errorf("difference of p50 = %v [%v, %v], want 22 µs in a narrow interval", d.Mean, *d.Low, *d.High)
	}
	if r.find("p99.9") != nil {
		t.Error("the difference of p99.9 is told with 2,000 requests a round")
	}
	if r.Direct.All.Latency.P999 == nil {
		t.Error("p99.9 of 10,000 requests is not told")
	}
	if got := *r.Via.All.CPUPerRequest; got != 10 {
		t.Errorf("CPU per request = %v µs, want 10", got)
	}
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{"3 of 10,003 requests failed through the proxy", "The difference of p99.9 is not told: it needs 10,000"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes are\n%s\nwant %q among them", notes, want)
		}
	}
}

func TestPercentilesWithTooFewSamplesAreRefused(t *testing.T) {
	r := Make(Report{Load: Load{Protocol: "tcp", Rounds: 1}}, []Round{measured(50, time.Millisecond)}, []Round{measured(50, time.Millisecond)})
	for _, row := range r.Rows() {
		want := row.Name == "p90" || row.Name == "p99" || row.Name == "p99.9"
		if got := row.Direct == "-"; got != want {
			t.Errorf("row %+v: refused %v, want %v", row, got, want)
		}
	}
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{"p90 is not told: it needs 100 requests on each side, and there are 50", "An interval needs 3 rounds; there are 1."} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes are\n%s\nwant %q among them", notes, want)
		}
	}
}

func TestNothingMeasured(t *testing.T) {
	for _, protocol := range []string{"http1", "tcp-bulk"} {
		r := Make(Report{Load: Load{Protocol: protocol}}, nil, nil)
		if !strings.HasPrefix(r.Summary, "Nothing can be said") || len(r.Rows()) == 0 {
			t.Errorf("%s: summary %q, rows %v", protocol, r.Summary, r.Rows())
		}
		if err := HTML(&bytes.Buffer{}, r); err != nil {
			t.Error(err)
		}
	}
}

func TestInterval(t *testing.T) {
	for _, test := range []struct {
		xs          []float64
		mean, reach float64
		ok          bool
	}{
		{nil, 0, 0, false},
		{[]float64{1, 3}, 2, 0, false},
		{[]float64{1, 2, 3}, 2, 4.303 / math.Sqrt(3), true}, // nothing is trimmed
		// One of five goes at either end: the winsorized values are 2 2 3 4 4, and their deviation 1.
		{[]float64{1, 2, 3, 4, 1e6}, 3, 4.303 / (0.6 * math.Sqrt(5)), true},
		{[]float64{7, 7, 7, 7}, 7, 0, true},
	} {
		mean, reach, ok := interval(test.xs)
		if math.Abs(mean-test.mean) > 1e-9 || math.Abs(reach-test.reach) > 1e-9 || ok != test.ok {
			t.Errorf("interval(%v) = %v, %v, %v, want %v, %v, %v", test.xs, mean, reach, ok, test.mean, test.reach, test.ok)
		}
	}
}

// TestJSON: programs read it, so its keys stay.
func TestJSON(t *testing.T) {
	got, err := json.MarshalIndent(example(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/report.json"
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(want)) != string(got) {
		t.Errorf("the JSON is another than in %s; got\n%s", golden, got)
	}
}

func TestHTMLIsSelfContained(t *testing.T) {
	var out strings.Builder
	if err := HTML(&out, example()); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Contains(text, "{{") {
		t.Error("a mark is left")
	}
	for _, reference := range []string{`\ssrc\s*=`, `\shref\s*=`, `url\(`, `@import`, `<link`, `<iframe`, `fetch\(`, `XMLHttpRequest`, `import\(`} {
		if found := regexp.MustCompile(reference).FindString(text); found != "" {
			t.Errorf("the file refers to something outside: %q", found)
		}
	}
	if !strings.Contains(text, "default-src 'none'") {
		t.Error("browsers are not told to load nothing")
	}
	if strings.Contains(text, "503 <script>") {
		t.Error("what a target said reaches the page as it is")
	}
	for _, want := range []string{"prefers-color-scheme: dark", "+22", "http://127.0.0.1:15001/", "p99.9"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the file", want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.012345: "0.012", 1.2345: "1.23", 12.345: "12.3", 123.45: "123", 99.96: "100", 1234567.8: "1,234,568"} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %s, want %s", x, got, want)
		}
	}
	for x, want := range map[float64]string{-0.5: "−0.50 µs", 999.6: "+1.00 ms", 12: "+12.0 µs", 0: "0 µs", -2.5e6: "−2.50 s"} {
		if got := signed(x, "us"); got != want {
			t.Errorf("signed(%v) = %s, want %s", x, got, want)
		}
	}
}
