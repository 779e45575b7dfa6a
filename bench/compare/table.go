package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
)

// write prints the table, and writes the files that are asked for.
func (b *bench) write() error {
	r := &b.report
	r.Goals = r.goals()
	if path := b.options.json; path != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if path := b.options.svg; path != "" {
		if err := os.WriteFile(path, []byte(plot(r)), 0o644); err != nil {
			return err
		}
	}
	return r.print(os.Stdout)
}

// print writes the report for people.
func (r *report) print(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s, %d CPUs (%s), Linux %s, %s; medians of %d rounds of %gs, load of others at the start %s\n",
		r.Date.Format("2006-01-02 15:04 MST"), r.Machine.CPUs, r.Machine.CPU, r.Machine.Kernel, r.Machine.Go, r.Rounds, r.Round, r.Machine.Load)
	for _, note := range r.Notes {
		fmt.Fprintln(&out, note)
	}
	for _, p := range r.Peers {
		state := p.Version
		if p.Missing != "" {
			state = "MISSING: " + p.Missing
		}
		if state != "" {
			state = " (" + state + ")"
		}
		fmt.Fprintf(&out, "  %-12s %s%s\n", p.Name, p.About, state)
	}
	for _, s := range r.Scenarios {
		s.print(&out)
	}
	printGoals(&out, r.goals())
	_, err := io.WriteString(w, out.String())
	return err
}

// print writes one scenario: a line for each peer, a column for each metric, with the ratio to the best peer where there is a goal.
func (s *scenarioReport) print(out *strings.Builder) {
	fmt.Fprintf(out, "\n%s  %s\n", s.ID, s.Title)
	if s.Why != "" {
		fmt.Fprintln(out, "  not run:", s.Why)
		return
	}
	tw := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "  peer\t")
	for _, m := range s.Metrics {
		fmt.Fprint(tw, m.Name, "\t")
		if m.Ratio > 0 {
			fmt.Fprint(tw, "to best\t")
		}
	}
	fmt.Fprintln(tw)
	for _, res := range s.Results {
		if len(res.Median) > 0 {
			s.printResult(tw, res)
		}
	}
	_ = tw.Flush() // a strings.Builder takes everything
	for _, res := range s.Results {
		switch {
		case res.Why != "":
			fmt.Fprintf(out, "  %s: not possible: %s\n", res.Peer, res.Why)
		case len(res.Failed) > 0:
			fmt.Fprintf(out, "  %s: FAILED %d times: %s\n", res.Peer, len(res.Failed), res.Failed[0])
		}
		for _, note := range res.Notes {
			fmt.Fprintf(out, "  %s: %s\n", res.Peer, note)
		}
	}
}

func (s *scenarioReport) printResult(tw io.Writer, res *result) {
	fmt.Fprintf(tw, "  %s\t", res.Peer)
	for _, m := range s.Metrics {
		v, ok := res.Median[m.Key]
		switch {
		case !ok, res.Peer == "direct" && v == 0:
			fmt.Fprint(tw, "-\t")
		default:
			fmt.Fprint(tw, value(v, m.Unit), "\t")
		}
		if m.Ratio > 0 {
			best := s.best(m)
			if best == nil || !ok || v == 0 {
				fmt.Fprint(tw, "\t")
			} else {
				fmt.Fprintf(tw, "%.2f\t", ratio(res, best, m.Key))
			}
		}
	}
	fmt.Fprintln(tw)
}

// printGoals writes what was wanted and what came of it.
func printGoals(out *strings.Builder, all []goal) {
	if len(all) == 0 {
		return
	}
	fmt.Fprint(out, "\nGoals\n")
	tw := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, g := range all {
		met := "NOT MET"
		if g.Met {
			met = "met"
		}
		if g.Best == "" {
			fmt.Fprintf(tw, "  %s\t%s\t%s\twant at most %s\t%s\n", g.Scenario, g.Metric, value(g.Pillion, g.Unit), value(g.Want, g.Unit), met)
			continue
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%.2f of %s (%s)\twant at most %.2f\t%s\n",
			g.Scenario, g.Metric, value(g.Pillion, g.Unit), g.Ratio, g.Best, value(g.BestHas, g.Unit), g.Want, met)
	}
	_ = tw.Flush() // a strings.Builder takes everything
}

// value is a number with three significant digits, and its unit.
func value(v float64, unit string) string {
	digits := 0
	if a := math.Abs(v); a < 100 && a > 0 {
		digits = min(2-int(math.Floor(math.Log10(a))), 3)
		digits = min(digits, 2)
	}
	return strings.TrimSpace(fmt.Sprintf("%.*f %s", digits, v, unit))
}
