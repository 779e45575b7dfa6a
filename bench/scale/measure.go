package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/bench/app"
	"github.com/pillion-proxy/pillion/bench/peers"
)

// point is one value of a series, measured. Figures of rounds are medians.
type point struct {
	Series  string  `json:"series"`
	Title   string  `json:"title"`
	Value   int     `json:"value"`
	Error   string  `json:"error,omitempty"`
	Start   float64 `json:"start_ms"`    // until the client's side accepted
	Idle    float64 `json:"idle_mib"`    // RSS of the pair before the first request
	CPU     float64 `json:"cpu_us"`      // per request, of the pair
	P50     float64 `json:"p50_us"`      // as the client sees it
	P99     float64 `json:"p99_us"`      // as the client sees it; 0 if there were too few requests
	PerS    float64 `json:"per_s"`       // requests per second
	PerByte float64 `json:"cpu_ns_byte"` // CPU per byte that the client received
	Loaded  float64 `json:"loaded_mib"`  // RSS of the pair after the last round
}

// apps are the two apps behind the pairs.
type apps struct {
	small *smallApp
	bulk  *app.Server
}

const answerSize = 1 << 10 // bytes, of the small app

// measure runs the values of all series, each with a fresh pair.
func measure(ctx context.Context, o options, chosen []series) ([]point, error) {
	dir, err := os.MkdirTemp("", "pillion-scale-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bed, err := peers.NewBed(dir, o.pillion)
	if err != nil {
		return nil, err
	}
	var a apps
	if a.small, err = startSmall(); err != nil {
		return nil, err
	}
	defer a.small.close()
	if a.bulk, err = app.NewBulk(); err != nil {
		return nil, err
	}
	defer a.bulk.Close()
	var points []point
	for _, s := range chosen {
		for _, n := range s.values {
			p := point{Series: s.Name, Title: s.Title, Value: n}
			if err := p.measure(ctx, o, bed, a, s.setting(n)); err != nil {
				p.Error = err.Error()
			}
			if ctx.Err() != nil {
				return points, context.Cause(ctx)
			}
			fmt.Fprintf(os.Stderr, "%s %d: CPU per request %.1f µs %s\n", s.Name, n, p.CPU, p.Error)
			points = append(points, p)
		}
	}
	return points, nil
}

// measure starts a pair, loads it, and takes the medians of the rounds.
func (p *point) measure(ctx context.Context, o options, bed *peers.Bed, a apps, set setting) error {
	addr := a.small.addr
	if set.bulk {
		addr = a.bulk.Addr
	}
	bed.Shape = set.shape
	pair, err := bed.Start(pillion(), peers.HTTP, addr.String())
	if err != nil {
		return err
	}
	defer pair.Stop()
	p.Start = pair.Started.Seconds() * 1e3
	idle, err := pair.Memory()
	if err != nil {
		return err
	}
	p.Idle = mib(idle.RSS)
	if err := pair.WarmUp(ctx, set.load, max(set.warm, time.Second)); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	var rounds [5][]float64
	for range o.rounds {
		r, err := pair.Load(ctx, set.load, o.round)
		if err != nil {
			return err
		}
		p50, _ := r.Load.Latency.Quantile(0.5)
		p99, _ := r.Load.Latency.Quantile(0.99)
		for i, v := range []float64{
			micros(r.Used.CPU) / float64(max(r.Load.Answered, 1)), micros(p50), micros(p99), r.Load.Throughput(),
			float64(r.Used.CPU) / float64(max(r.Load.Bytes, 1)),
		} {
			rounds[i] = append(rounds[i], v)
		}
	}
	for i, figure := range []*float64{&p.CPU, &p.P50, &p.P99, &p.PerS, &p.PerByte} {
		*figure = median(rounds[i])
	}
	loaded, err := pair.Memory()
	p.Loaded = mib(loaded.RSS)
	return err
}

// pillion is the only peer here.
func pillion() peers.Peer {
	all := peers.All()
	return all[slices.IndexFunc(all, func(p peers.Peer) bool { return p.Name == "pillion" })]
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median is 0 of nothing.
func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
