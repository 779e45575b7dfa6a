package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	engine "github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/bench/meter"
	benchreport "github.com/pillion-proxy/pillion/bench/report"
)

// benchCommand measures what a proxy costs.
func benchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench [flags]",
		Short: "Measure what a proxy costs: latency, throughput, processor time, memory",
		Long: `Sends the same load to an app directly and through a proxy, in rounds that alternate, and prints the difference with its confidence interval.

Without --direct and --via it measures a pair of pillion sidecars and a small app that it starts for the purpose, on loopback and with throw-away
certificates. With both it measures any proxy, and contacts nobody but the two.

With --rate the load is an open loop: requests fall due by a schedule that never waits for answers, and latencies count from then. This shows what users
see. With --concurrency it is a closed loop: so many requests are always under way. This shows what is possible at most. Ctrl-C ends it with what has been
measured so far.

Protocols: http1, h2c (HTTP/2 without TLS), grpc (a unary call), tcp (bytes there and as many back), udp (the same as one datagram), udp-flows (udp
from a new port each time), websocket (frames there and back), new-conn (http1 with a connection for each request), http-bulk and tcp-bulk (long downloads; tcp-bulk reads what the app sends, without end).`,
		Example: `  pillion bench
  pillion bench --protocol grpc --concurrency 64 --report grpc.html
  pillion bench --direct http://127.0.0.1:8080/ --via http://127.0.0.1:15001/ --host orders --rate 500 --pid 4711`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := f.plan(cmd.Flags().Changed)
			if err != nil {
				return &usageError{err}
			}
			return bench(cmd, &f, plan)
		},
	}
	f.add(c)
	return c
}

// bench measures and tells.
func bench(cmd *cobra.Command, f *benchFlags, p *benchPlan) error {
	page, err := openReport(f.report) // before the work, which would be in vain
	if err != nil {
		return err
	}
	defer page.abandon()
	r, err := measureBench(cmd.Context(), p, newBenchProgress(cmd.ErrOrStderr(), p))
	if err != nil {
		return err
	}
	if f.out.json() {
		err = printJSON(cmd.OutOrStdout(), r)
	} else {
		printBench(newPrinter(cmd.OutOrStdout()), r)
	}
	if err := errors.Join(err, page.write(r)); err != nil {
		return err
	}
	return benchFailed(r)
}

// benchFailed says whether there was anything to measure.
func benchFailed(r *benchreport.Report) error {
	for _, s := range []struct {
		name, flag string
		side       *benchreport.Side
	}{{"directly", "--direct", &r.Direct}, {"through the proxy", "--via", &r.Via}} {
		all := s.side.All
		if all.Requests > 0 || r.Load.Protocol == string(engine.TCPBulk) && all.MiBPerSecond > 0 {
			continue
		}
		why := "no answer came in time"
		most := uint64(0)
		for reason, n := range all.Failures {
			if n > most {
				why, most = reason, n
			}
		}
		return fmt.Errorf("no request succeeded %s (%s): %s; try the address of %s with another client first", s.name, s.side.Target, why, s.flag)
	}
	return nil
}

// measureBench runs the rounds, and what they need.
func measureBench(ctx context.Context, p *benchPlan, progress *benchProgress) (*benchreport.Report, error) {
	defer progress.end()
	if p.own {
		progress.say("starting two sidecars and an app")
		pair, err := startBenchPair(ctx, p)
		if err != nil {
			return nil, err
		}
		defer pair.close()
		p.pids = pair.pids()
	}
	b := &benchRun{plan: p, progress: progress}
	if _, err := meter.UsageOf(p.pids...); err != nil && p.own { // on other systems than Linux
		p.pids, b.notes = nil, []string{fmt.Sprintf("Processor time and memory are not told: %v.", err)}
	}
	interrupted, err := b.rounds(ctx)
	if err != nil {
		return nil, err
	}
	v := version()
	return benchreport.Make(benchreport.Report{
		Pillion: v.Version, Time: time.Now().UTC(), Machine: benchMachine(), Load: p.describe(), Interrupted: interrupted,
		Direct: benchreport.Side{Target: p.direct.name}, Via: benchreport.Side{Target: p.via.name}, Notes: b.notes,
	}, b.direct, b.via), nil
}

// printBench writes the outcome for people.
func printBench(p *printer, r *benchreport.Report) {
	if p.tables {
		fmt.Fprintf(p.w, "%s\n%s → %s\n\n%s\n", r.Title(), r.Direct.Target, r.Via.Target, p.paint(bold, r.Summary))
	}
	rows := r.Rows()
	cells := make([][]cell, len(rows))
	for i, row := range rows {
		cells[i] = []cell{plain(row.Name), plain(row.Direct), plain(row.Via), plain(row.Difference), plain(row.Interval)}
	}
	headings := benchreport.Headings()
	if p.tables {
		alignRight(headings, cells)
	}
	p.table("figure", headings, cells)
	if p.tables {
		fmt.Fprintln(p.w)
	}
	for _, note := range r.Notes {
		if p.tables {
			fmt.Fprintf(p.w, "%s %s\n", p.paint(yellow, "note:"), visible(note))
		} else {
			fmt.Fprintf(p.w, "note\t%s\n", visible(note))
		}
	}
}

// alignRight pads all columns but the first on the left: they are numbers.
func alignRight(headings []string, rows [][]cell) {
	for column := 1; column < len(headings); column++ {
		width := len([]rune(headings[column]))
		for _, row := range rows {
			width = max(width, len([]rune(row[column].text)))
		}
		headings[column] = fmt.Sprintf("%*s", width, headings[column])
		for _, row := range rows {
			row[column].text = fmt.Sprintf("%*s", width, row[column].text)
		}
	}
}

// benchPage is the file of --report. The zero value is none.
type benchPage struct {
	path string
	file *os.File // beside it, until it is whole
}

// openReport makes sure that path can be written.
func openReport(path string) (*benchPage, error) {
	if path == "" {
		return &benchPage{}, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".pillion-bench-*")
	if err != nil {
		return nil, &usageError{fmt.Errorf("--report %s cannot be written: %w", path, err)}
	}
	return &benchPage{path, f}, nil
}

// write writes the report, in one piece.
func (p *benchPage) write(r *benchreport.Report) error {
	if p.file == nil {
		return nil
	}
	err := benchreport.HTML(p.file, r)
	err = errors.Join(err, p.file.Chmod(0o644), p.file.Close())
	if err == nil {
		err = os.Rename(p.file.Name(), p.path)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	p.file = nil
	return nil
}

// abandon removes what was not finished.
func (p *benchPage) abandon() {
	if p.file != nil {
		p.file.Close()
		os.Remove(p.file.Name())
	}
}
