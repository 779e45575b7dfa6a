package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pillion-proxy/pillion/bench/peers"
)

const (
	smokeRound = 400 * time.Millisecond // enough to see that a peer works
	smokeIdle  = 200
	ratioRound = 2 * time.Second
	ratioTimes = 5 // rounds that decide; as many again on a busy machine
)

// smoke runs every peer in every scenario once, and compares pillion with HAProxy in S1 for longer.
func (b *bench) smoke(ctx context.Context) error {
	progress := b.progress
	b.progress = io.Discard
	b.options.rounds, b.options.round, b.options.idle = 1, smokeRound, smokeIdle
	b.options.json, b.options.svg = "", "" // the figures of so short rounds are worth nothing
	if err := b.measure(ctx); err != nil {
		return err
	}
	if err := b.write(); err != nil {
		return err
	}
	var errs []error
	for _, p := range b.report.Peers {
		if p.Missing != "" {
			errs = append(errs, fmt.Errorf("%s: %s", p.Name, p.Missing))
		}
	}
	for _, s := range b.report.Scenarios {
		for _, res := range s.Results {
			for _, why := range res.Failed {
				errs = append(errs, fmt.Errorf("%s: %s: %s", s.ID, res.Peer, why))
			}
		}
	}
	b.progress = progress
	return errors.Join(append(errs, b.ratioHolds(ctx))...)
}

// ratioHolds says whether pillion spends less CPU per request than HAProxy in S1. A busy machine gets a second chance.
func (b *bench) ratioHolds(ctx context.Context) error {
	s1, again := scenarios()[0], *b
	again.peers, again.report = nil, report{}
	for _, p := range peers.All() {
		if p.Name == "pillion" || p.Name == "haproxy-h2" {
			again.peers = append(again.peers, p)
		}
	}
	again.options.round = ratioRound
	again.options.rounds = ratioTimes
	var got float64
	for range 2 {
		if err := again.measureScenario(ctx, &s1); err != nil {
			return err
		}
		last := again.report.Scenarios[len(again.report.Scenarios)-1]
		mine, theirs := last.result("pillion"), last.result("haproxy-h2")
		if len(mine.Failed)+len(theirs.Failed) > 0 {
			return fmt.Errorf("S1: pillion %q, haproxy-h2 %q", mine.Failed, theirs.Failed)
		}
		got = ratio(mine, theirs, "cpu_us")
		fmt.Fprintf(b.progress, "S1: pillion spends %.2f times the CPU of HAProxy per request\n", got)
		if got < 1 {
			return nil
		}
	}
	return fmt.Errorf("S1: pillion spends %.2f times the CPU of HAProxy per request, want below 1", got)
}
