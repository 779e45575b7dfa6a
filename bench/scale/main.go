package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	rounds    int
	round     time.Duration
	series    string
	pillion   string
	json, svg string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each value")
	flag.DurationVar(&o.round, "round", 2*time.Second, "how long a round lasts")
	flag.StringVar(&o.series, "series", "", "which series, as in connections,links; if empty, all")
	flag.StringVar(&o.pillion, "pillion", "", "a built pillion; if empty, one is built from this repository")
	flag.StringVar(&o.json, "json", "bench/scale/scale.json", "where to write everything that was measured; if empty, nowhere")
	flag.StringVar(&o.svg, "svg", "bench/scale/scale.svg", "where to write the plots; if empty, nowhere")
	serve := flag.Bool("app", false, "be the app behind the pairs, until standard input ends: scale itself runs this")
	flag.Parse()
	raiseLimit()
	if *serve {
		if err := serveSmall(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "scale: app:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// run measures what is asked for, and writes what could be measured even if something failed.
func run(ctx context.Context, o options) error {
	chosen, err := choose(o.series)
	if err != nil {
		return err
	}
	points, err := measure(ctx, o, chosen)
	return errors.Join(err, write(o, points))
}

// choose finds series by their names.
func choose(list string) ([]series, error) {
	var names []string
	if list != "" {
		names = strings.Split(list, ",")
	}
	var chosen []series
	var known []string
	for _, s := range all() {
		known = append(known, s.Name)
		if len(names) == 0 || slices.Contains(names, s.Name) {
			chosen = append(chosen, s)
		}
	}
	if len(names) > 0 && len(chosen) != len(names) {
		return nil, fmt.Errorf("-series %s: there are %s", list, strings.Join(known, ","))
	}
	return chosen, nil
}

// write prints the tables, and writes the files that are asked for.
func write(o options, points []point) error {
	if o.json != "" {
		data, err := json.MarshalIndent(points, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.svg != "" {
		if err := os.WriteFile(o.svg, []byte(plot(points)), 0o644); err != nil {
			return err
		}
	}
	return table(os.Stdout, points)
}
