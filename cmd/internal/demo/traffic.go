package demo

import (
	"context"
	"errors"
	"sync"
	"time"
)

// traffic runs every probe, each at its pace, until ctx ends; each runs at least once to its end, unless hard ends first.
// Probes that run when ctx ends finish. It returns after all have ended.
func traffic(ctx, hard context.Context, probes []probe, t *tally) {
	var running sync.WaitGroup
	for i, p := range probes {
		running.Go(func() { repeat(ctx, hard, p, func(d time.Duration, err error) { t.add(i, d, err) }) })
	}
	running.Wait()
}

// repeat runs one probe again and again and reports each run.
func repeat(ctx, hard context.Context, p probe, report func(time.Duration, error)) {
	pause := time.NewTicker(p.every)
	defer pause.Stop()
	for {
		start := time.Now()
		once, cancel := context.WithTimeoutCause(hard, probeTimeout, errTooSlow)
		err := p.run(once)
		if err != nil && errors.Is(context.Cause(once), errTooSlow) {
			err = errors.Join(errTooSlow, err)
		}
		cancel()
		if hard.Err() != nil {
			return // interrupted: says nothing about the answer
		}
		report(time.Since(start), err)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		if ctx.Err() != nil { // asked once more: both may have been true
			return
		}
	}
}

var errTooSlow = errors.New("not done after 10s")
