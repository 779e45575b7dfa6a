package main

import (
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// bucket is what happened in a part of the time.
type bucket struct {
	ended, failed             int
	attempts, retries, wasted int
	latencies                 []float32 // of those that succeeded, in milliseconds; in order once the run is over
}

// step is how long a bucket is.
const step = 500 * time.Millisecond

// result is what one run showed.
type result struct {
	name    string
	buckets []bucket
	load    []int // attempts at each endpoint
}

func newResult(s setting) *result {
	return &result{name: s.name, buckets: make([]bucket, int(s.length/step)+1), load: make([]int, s.endpoints)}
}

func (r *result) at(now task.Instant) *bucket { return &r.buckets[int(now.Sub(start)/step)] }

func (r *result) attempt(now task.Instant, server int) {
	r.at(now).attempts++
	r.load[server]++
}
func (r *result) retry(now task.Instant)  { r.at(now).retries++ }
func (r *result) wasted(now task.Instant) { r.at(now).wasted++ }

func (r *result) ended(now task.Instant, took time.Duration, good bool) {
	b := r.at(now)
	b.ended++
	if !good {
		b.failed++
		return
	}
	b.latencies = append(b.latencies, float32(took.Seconds()*1000))
}

func (r *result) finish() {
	r.buckets = r.buckets[:len(r.buckets)-1] // of which nearly nothing is in the time
	for i := range r.buckets {
		slices.Sort(r.buckets[i].latencies)
	}
}

// between sums up what happened from one time to another, in seconds after the start.
func (r *result) between(from, to float64) bucket {
	var all bucket
	for i := int(from / step.Seconds()); i < int(to/step.Seconds()) && i < len(r.buckets); i++ {
		b := &r.buckets[i]
		all.ended += b.ended
		all.failed += b.failed
		all.attempts += b.attempts
		all.retries += b.retries
		all.wasted += b.wasted
		all.latencies = append(all.latencies, b.latencies...)
	}
	slices.Sort(all.latencies)
	return all
}

// percentile is a latency, in milliseconds, 0 if nothing succeeded.
func (b *bucket) percentile(p float64) float64 {
	if len(b.latencies) == 0 {
		return 0
	}
	return float64(b.latencies[min(len(b.latencies)-1, int(p/100*float64(len(b.latencies))))])
}

// success is the share of requests that succeeded, in percent.
func (b *bucket) success() float64 {
	if b.ended == 0 {
		return 100
	}
	return 100 * (1 - float64(b.failed)/float64(b.ended))
}

// amplified is how many attempts came of a request.
func (b *bucket) amplified() float64 {
	if b.ended == 0 {
		return 0
	}
	return float64(b.attempts) / float64(b.ended)
}

// series returns a figure of each bucket.
func (r *result) series(of func(*bucket) float64) []float64 {
	all := make([]float64, len(r.buckets))
	for i := range r.buckets {
		all[i] = of(&r.buckets[i])
	}
	return all
}

// spread is the most that an endpoint got, over the mean of all.
func (r *result) spread() float64 {
	sum := 0
	for _, n := range r.load {
		sum += n
	}
	if sum == 0 {
		return 0
	}
	return float64(slices.Max(r.load)) * float64(len(r.load)) / float64(sum)
}
