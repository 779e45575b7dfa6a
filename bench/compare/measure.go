package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/bench/peers"
)

// bench is one run of the command.
type bench struct {
	bed       *peers.Bed
	options   options
	apps      apps
	scenarios []scenario
	peers     []peers.Peer
	report    report
	progress  io.Writer
}

const (
	settle      = time.Second // before memory is read, at most
	firstWarmup = time.Second // before the first round, at most
)

// measure runs all scenarios. Whatever could be measured is in the report, even if it returns an error.
func (b *bench) measure(ctx context.Context) error {
	b.report.begin(b)
	if b.options.install {
		if err := install(ctx, b.peers, b.progress); err != nil {
			b.report.Notes = append(b.report.Notes, err.Error())
			fmt.Fprintln(b.progress, err)
		}
	}
	b.report.describe(b)
	for i := range b.scenarios {
		if err := b.measureScenario(ctx, &b.scenarios[i]); err != nil {
			return err
		}
	}
	return nil
}

// measureScenario runs the rounds of one scenario. Errors of a peer go to the report; only the end of ctx is one of its own.
func (b *bench) measureScenario(ctx context.Context, s *scenario) error {
	rep := b.report.add(s, b.peers)
	if s.load == nil {
		return b.measureMemory(ctx, s, rep)
	}
	conf, err := s.load(b)
	if err != nil {
		rep.Why = err.Error()
		return nil
	}
	pairs := b.start(s, rep)
	defer stopAll(pairs)
	for i := range b.options.rounds {
		order := slices.Clone(pairs)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, pair := range order {
			res := rep.result(pair.Peer.Name)
			if i == 0 { // links are made, heaps grow
				if err := pair.WarmUp(ctx, conf, min(b.options.round/2, firstWarmup)); err != nil {
					res.fail(fmt.Errorf("warm-up: %w", err))
				}
			}
			read, err := pair.Load(ctx, conf, b.options.round)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				res.fail(fmt.Errorf("round %d: %w", i+1, err))
				res.Rounds = append(res.Rounds, nil)
				continue
			}
			if note := read.Load.Bottleneck(); note != "" {
				res.note(note)
			}
			res.Rounds = append(res.Rounds, s.figures(read))
			fmt.Fprintf(b.progress, "%-5s round %d/%d  %-11s  %s\n", s.ID, i+1, b.options.rounds, pair.Peer.Name, describe(s, res.Rounds[i]))
		}
	}
	rep.finish()
	return nil
}

// start starts the pairs of all peers that can carry the scenario.
func (b *bench) start(s *scenario, rep *scenarioReport) []*peers.Pair {
	var pairs []*peers.Pair
	for _, p := range b.peers {
		res := rep.result(p.Name)
		if why := p.Cannot[s.kind]; why != "" {
			res.Why = why
			continue
		}
		if len(s.only) > 0 && !slices.Contains(s.only, p.Name) {
			res.Why = "left out, as it would say no more than in S1"
			continue
		}
		addr, err := b.apps.addr(s.app)
		if err == nil {
			var pair *peers.Pair
			if pair, err = b.bed.Start(p, s.kind, addr); err == nil {
				pairs = append(pairs, pair)
				continue
			}
		}
		res.fail(err)
		fmt.Fprintf(b.progress, "%-5s %s: %v\n", s.ID, p.Name, err)
	}
	return pairs
}

func stopAll(pairs []*peers.Pair) {
	for _, p := range pairs {
		p.Stop()
	}
}

// describe is a round in a few words.
func describe(s *scenario, figures map[string]float64) string {
	var out string
	for _, m := range s.metrics {
		if v, ok := figures[m.Key]; ok {
			out += fmt.Sprintf("%s %s  ", m.Name, value(v, m.Unit))
		}
	}
	return out
}
