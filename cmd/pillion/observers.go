package main

import (
	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/flight"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/tap"
)

// observers are told of every request. They outlive reloads.
type observers struct {
	shards  shards
	metrics *metrics.Metrics
	flight  *flight.Recorder
	tap     *tap.Tap
}

func newObservers(all shards, cfg *config.Config) *observers {
	return &observers{shards: all, metrics: metrics.New(all, 0), flight: flight.New(all, 0), tap: tap.New(cfg.Admin.TapBodies)}
}

// layer follows the requests of one direction.
func (o *observers) layer(d observe.Direction) proxy.Layer {
	return observe.Layer(observe.Config{Direction: d, Shards: o.shards, Sinks: []observe.Sink{o.metrics, o.flight, o.tap}})
}
