package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pillion-proxy/pillion/bench/peers"
)

// options are the command line.
type options struct {
	rounds    int
	round     time.Duration
	scenarios string
	peers     string
	pillion   string
	before    string
	layers    bool
	json, svg string
	install   bool
	smoke     bool
	hold      string
	profile   string
	idle      int
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each peer in each scenario")
	flag.DurationVar(&o.round, "round", 3*time.Second, "how long a round lasts, after a warm-up of a tenth of it")
	flag.StringVar(&o.scenarios, "scenarios", "", "which scenarios, as in S1,S3; if empty, all")
	flag.StringVar(&o.peers, "peers", "", "which peers, as in direct,pillion,nginx; if empty, all")
	flag.StringVar(&o.pillion, "pillion", "", "a built pillion; if empty, one is built from this repository")
	flag.StringVar(&o.before, "before", "", "another built pillion, measured beside the first as the peers \"before\" and \"before-quic\"")
	flag.BoolVar(&o.layers, "resilience", false, "measure pillion without and with everything that keeps calls going beside the others, as the peers \"pillion-bare\" and \"pillion-full\"")
	flag.StringVar(&o.json, "json", "bench/compare/compare.json", "where to write everything that was measured; if empty, nowhere")
	flag.StringVar(&o.svg, "svg", "bench/compare/compare.svg", "where to write the plots; if empty, nowhere")
	flag.BoolVar(&o.install, "install", true, "install missing peers with apt-get, if root")
	flag.BoolVar(&o.smoke, "smoke", false, "check that everything works, and that pillion's CPU in S1 is below HAProxy's")
	flag.StringVar(&o.hold, "hold", "", "measure nothing; load this peer with the one scenario of -scenarios until interrupted")
	flag.StringVar(&o.profile, "profile", "", "measure nothing; load pillion with the scenarios, unless given "+profileScenarios+", and write its profile to this file")
	flag.IntVar(&o.idle, "idle", 2000, "idle connections of S6")
	flag.Parse()
	if o.profile != "" {
		o.peers = "pillion"
		if o.scenarios == "" {
			o.scenarios = profileScenarios
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// run does what the command line asks for.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "pillion-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bed, err := peers.NewBed(dir, o.pillion)
	if err != nil {
		return err
	}
	if o.before != "" {
		if err := bed.Use("before", o.before); err != nil {
			return err
		}
	}
	b := &bench{bed: bed, options: o, progress: os.Stderr}
	defer b.apps.stop()
	if err := b.choose(); err != nil {
		return err
	}
	switch {
	case o.smoke:
		return b.smoke(ctx)
	case o.hold != "":
		return b.holdOne(ctx)
	case o.profile != "":
		return b.writeProfile(ctx, o.profile)
	}
	err = b.measure(ctx)
	return errors.Join(err, b.write())
}

// choose finds the scenarios and the peers that are asked for, and their programs.
func (b *bench) choose() error {
	names := split(b.options.scenarios)
	for _, s := range scenarios() {
		if len(names) == 0 || slices.Contains(names, s.ID) {
			b.scenarios = append(b.scenarios, s)
		}
	}
	if len(names) > 0 && len(b.scenarios) != len(names) {
		return fmt.Errorf("-scenarios %s: there are %s", b.options.scenarios, ids(scenarios()))
	}
	names = split(b.options.peers)
	if b.options.hold != "" {
		names = []string{b.options.hold}
	}
	all := peers.All()
	if b.options.before != "" {
		all = append(all, peers.Before(), peers.BeforeQUIC())
	}
	if b.options.layers {
		all = append(all, peers.Resilience()...)
	}
	var chosen, known []string
	for _, p := range all {
		known = append(known, p.Name)
		if len(names) == 0 || slices.Contains(names, p.Name) {
			chosen = append(chosen, p.Name)
			b.peers = append(b.peers, p)
		}
	}
	if len(names) > 0 && len(chosen) != len(names) {
		return fmt.Errorf("-peers %s: there are %s", strings.Join(names, ","), strings.Join(known, ","))
	}
	return nil
}

func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func ids(all []scenario) string {
	var out []string
	for _, s := range all {
		out = append(out, s.ID)
	}
	return strings.Join(out, ",")
}
