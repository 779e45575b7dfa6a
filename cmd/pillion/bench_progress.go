package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// benchProgress is the bar of a bench: one line that is written anew, on a terminal; elsewhere nothing.
type benchProgress struct {
	w        io.Writer // nil if it is no terminal
	plan     *benchPlan
	measured int // measurements that are done
	length   time.Duration
}

func newBenchProgress(w io.Writer, p *benchPlan) *benchProgress {
	b := &benchProgress{plan: p, length: p.load.Warmup + p.load.Duration}
	if isTerminal(w) {
		b.w = w
	}
	return b
}

const (
	barWidth  = 24 // characters
	clearLine = "\r\x1b[K"
)

// say shows a line until the next one.
func (b *benchProgress) say(text string) {
	if b.w != nil {
		fmt.Fprint(b.w, clearLine+text)
	}
}

// show says how far the measurement of one way is.
func (b *benchProgress) show(round int, name string, spent time.Duration, answers uint64) {
	b.say(b.line(round, name, min(spent, b.length), answers))
}

// line is what show shows.
func (b *benchProgress) line(round int, name string, spent time.Duration, answers uint64) string {
	total := time.Duration(2*b.plan.rounds) * b.length
	done := time.Duration(b.measured)*b.length + spent
	full := int(barWidth * done / max(total, 1))
	rate := 0.0
	if spent > 0 {
		rate = float64(answers) / spent.Seconds()
	}
	return fmt.Sprintf("[%s%s] round %d of %d, %-6s  %.0f requests/s  %v left", strings.Repeat("█", full), strings.Repeat("░", max(0, barWidth-full)),
		round+1, b.plan.rounds, name, rate, (total - done).Round(time.Second))
}

// done is told after each measurement.
func (b *benchProgress) done() { b.measured++ }

// end takes the line away.
func (b *benchProgress) end() { b.say("") }
