package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/bench/peers"
)

// holdOne loads one pair until ctx ends, so that it can be looked at from outside.
func (b *bench) holdOne(ctx context.Context) error {
	if len(b.scenarios) != 1 || len(b.peers) != 1 || b.scenarios[0].load == nil {
		return errors.New("-hold needs one scenario with a load, as in -scenarios S1")
	}
	s := &b.scenarios[0]
	pair, conf, err := b.profiled(s)
	if err != nil {
		return err
	}
	defer pair.Stop()
	fmt.Fprintf(b.progress, "%s, processes %v (the app's side first)\n", pair.Peer.Name, pair.Pids())
	for _, admin := range pair.Admin {
		fmt.Fprintf(b.progress, "go tool pprof -seconds 10 http://%s/debug/pprof/profile\n", admin)
	}
	for ctx.Err() == nil {
		read, err := pair.Load(ctx, conf, b.options.round)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(b.progress, "%s answers/s %.0f  MiB/s %.0f\n", describe(s, s.figures(read)), read.Load.Throughput(), float64(read.Load.Bytes)/(1<<20)/read.Load.Elapsed.Seconds())
	}
	return nil
}

// profiled starts a pair of the one peer that there is for s, whose profiles can be had, and says what it is loaded with.
func (b *bench) profiled(s *scenario) (*peers.Pair, load.Config, error) {
	conf, err := s.load(b)
	if err != nil {
		return nil, load.Config{}, err
	}
	addr, err := b.apps.addr(s.app)
	if err != nil {
		return nil, load.Config{}, err
	}
	b.bed.Profile = true
	pair, err := b.bed.Start(b.peers[0], s.kind, addr)
	return pair, conf, err
}
