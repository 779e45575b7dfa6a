package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	names := flag.String("scenarios", "", "which scenarios, as in slow,dead; if empty, all")
	n := flag.Int("endpoints", 2000, "how many endpoints, where it is a service of many")
	svg := flag.String("svg", "bench/sim/sim.svg", "where to write the plots; if empty, nowhere")
	flag.Parse()
	if err := run(os.Stdout, strings.FieldsFunc(*names, func(r rune) bool { return r == ',' }), *n, *svg); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// run carries out scenarios, says what came of them, and draws it. It is an error if something is not as it must be.
func run(out io.Writer, names []string, n int, svg string) error {
	var known []string
	var chosen []scenario
	for _, sc := range scenarios(n) {
		known = append(known, sc.name)
		if len(names) == 0 || slices.Contains(names, sc.name) {
			chosen = append(chosen, sc)
		}
	}
	if len(names) > 0 && len(chosen) != len(names) {
		return fmt.Errorf("-scenarios %s: there are %s", strings.Join(names, ","), strings.Join(known, ","))
	}
	var drawn []drawing
	wrong := 0
	for _, sc := range chosen {
		fmt.Fprintf(out, "\n%s: %s\n", sc.name, sc.title)
		results := make(map[string]*result)
		var order []*result
		for _, s := range sc.settings {
			r := newWorld(s).run()
			results[s.name] = r
			order = append(order, r)
			all := r.between(0, over)
			fmt.Fprintf(out, "  %-40s %8d requests, %7.3f %% succeed, p50 %6.1f ms, p99 %7.1f ms, %.3f attempts per request, the busiest endpoint has %.2f times the mean\n",
				s.name, all.ended, all.success(), all.percentile(50), all.percentile(99), all.amplified(), r.spread())
		}
		for _, v := range sc.verdicts {
			got, ok := v.check(results)
			mark := "yes"
			if !ok {
				mark = "NO"
				wrong++
			}
			fmt.Fprintf(out, "  %s: %s (%.4g)\n", mark, v.says, got)
		}
		drawn = append(drawn, drawing{sc, order})
	}
	if svg != "" {
		if err := os.WriteFile(svg, []byte(plot(drawn)), 0o644); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d things are not as they must be", wrong)
	}
	return nil
}
