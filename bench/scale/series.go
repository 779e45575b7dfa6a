package main

import (
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/bench/peers"
)

// series is one quantity that changes while everything else stays.
type series struct {
	Name   string
	Title  string
	values []int
	// setting says what a value means.
	setting func(n int) setting
}

// setting is one point of a series.
type setting struct {
	shape peers.Shape
	load  load.Config
	bulk  bool          // behind it is the app whose answers have the size that the path asks for
	warm  time.Duration // of load before the first round; zero is a second
}

// usual is the load of the series that are not about load.
func usual() load.Config { return load.Config{Protocol: load.HTTP1, Conns: 64} }

// all returns the series.
func all() []series {
	return []series{
		{
			Name: "connections", Title: "keep-alive connections of the client, closed loop, 1 KiB answers", values: []int{1, 64, 1000, 10_000},
			setting: func(n int) setting {
				return setting{load: load.Config{Protocol: load.HTTP1, Conns: n}, warm: 3 * time.Second}
			},
		},
		{
			Name: "services", Title: "services in the configuration, one of them asked on 64 connections", values: []int{1, 1000, 10_000},
			setting: func(n int) setting { return setting{load: usual(), shape: peers.Shape{Services: n - 1}} },
		},
		{
			Name: "endpoints", Title: "endpoints of the service, all of them the same sidecar, on 64 connections", values: []int{1, 100, 5000},
			setting: func(n int) setting {
				return setting{load: usual(), shape: peers.Shape{Endpoints: n}, warm: 5 * time.Second}
			},
		},
		{
			Name: "links", Title: "Links in use, on 64 connections", values: []int{1, 10, 200},
			setting: func(n int) setting {
				return setting{load: usual(), shape: peers.Shape{Endpoints: n, Aperture: n}, warm: 2 * time.Second}
			},
		},
		{
			Name: "head", Title: "bytes of the request's path, on 64 connections", values: []int{10, 1000, 8000, 32_000},
			setting: func(n int) setting {
				conf := usual()
				conf.Path = fmt.Sprintf("/%0*d", n-1, 0)
				return setting{load: conf}
			},
		},
		{
			Name: "body", Title: "bytes of the answer, on 16 connections", values: []int{0, 1 << 10, 16 << 10, 128 << 10, 1 << 20},
			setting: func(n int) setting {
				return setting{bulk: true, load: load.Config{Protocol: load.HTTP1, Conns: 16, Path: fmt.Sprintf("/%d", n)}}
			},
		},
	}
}
