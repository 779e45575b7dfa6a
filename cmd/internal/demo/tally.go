package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// maxTimes is how many latencies of one second are kept for its status line; more are counted, not kept.
const maxTimes = 4096

// tally counts the runs of every probe. It is safe for concurrent use.
type tally struct {
	mu     sync.Mutex
	kinds  []*kindCount // in the order of the probes
	recent []time.Duration
}

// kindCount is what is known of one kind.
type kindCount struct {
	kind, group string
	ok, failed  int
	last        error         // the last failure
	worst       time.Duration // of those that were right
	total       time.Duration // of those that were right
}

func newTally(probes []probe) *tally {
	t := &tally{}
	for _, p := range probes {
		t.kinds = append(t.kinds, &kindCount{kind: p.kind, group: p.group})
	}
	return t
}

// add records that probe i took d and ended with err.
func (t *tally) add(i int, d time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.kinds[i]
	if err != nil {
		k.failed++
		k.last = err
		return
	}
	k.ok++
	k.total += d
	k.worst = max(k.worst, d)
	if k.group == "http" && len(t.recent) < maxTimes {
		t.recent = append(t.recent, d)
	}
}

// line returns one status line and starts the next second: counts from the start, latencies of HTTP since the last line.
func (t *tally) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	ok, failed := 0, 0
	for _, g := range groups {
		n := 0
		for _, k := range t.kinds {
			if k.group == g {
				n += k.ok + k.failed
				ok, failed = ok+k.ok, failed+k.failed
			}
		}
		fmt.Fprintf(&b, "%s %-5d ", g, n)
	}
	fmt.Fprintf(&b, "ok %-6d failed %-3d", ok, failed)
	slices.Sort(t.recent)
	fmt.Fprintf(&b, " p50 %-7s p99 %-7s", short(quantile(t.recent, 0.50)), short(quantile(t.recent, 0.99)))
	t.recent = t.recent[:0]
	return b.String()
}

// wrong returns an error that names each kind whose answers were not all right.
func (t *tally) wrong() error {
	return t.list("not every answer was right", func(k *kindCount) string {
		if k.failed == 0 {
			return ""
		}
		return fmt.Sprintf("%s: %d of %d went wrong, the last with: %v", k.kind, k.failed, k.ok+k.failed, k.last)
	})
}

// missing returns an error that names each kind that never ran to its end.
func (t *tally) missing() error {
	return t.list("not every kind of traffic flowed", func(k *kindCount) string {
		if k.ok+k.failed > 0 {
			return ""
		}
		return k.kind + ": never ran to its end"
	})
}

// list returns an error with what and one line for each kind of which say has something to say, nil if there is none.
func (t *tally) list(what string, say func(*kindCount) string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, k := range t.kinds {
		if line := say(k); line != "" {
			lines = append(lines, line)
		}
	}
	if lines == nil {
		return nil
	}
	return fmt.Errorf("%s:\n  %s", what, strings.Join(lines, "\n  "))
}

// table writes what became of each kind.
func (t *tally) table(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "TRAFFIC\tOK\tFAILED\tMEAN\tWORST")
	for _, k := range t.kinds {
		mean := time.Duration(0)
		if k.ok > 0 {
			mean = k.total / time.Duration(k.ok)
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\n", k.kind, k.ok, k.failed, short(mean), short(k.worst))
	}
	_ = tw.Flush()
}

// quantile returns the q-th of sorted, 0 if it is empty.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// short writes d with about three digits.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2fms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0fms", d.Seconds()*1e3)
	default:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
}
