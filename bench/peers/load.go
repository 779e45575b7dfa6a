package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/bench/meter"
)

// Reading is what was seen in one window of load.
type Reading struct {
	Load *load.Result
	Used meter.Usage // by the pair, from the beginning of the window to its end
}

const (
	grace    = time.Second            // for the last answers of a window
	hung     = 30 * time.Second       // beyond its length, until a window counts as hung
	shortest = 100 * time.Millisecond // of a warm-up
)

// ErrSilent is a window in which nothing came back.
var ErrSilent = errors.New("not one answer")

// Load puts a load on the pair for d, after a warm-up of a tenth of it, and reads the pair's meters at both ends. Requests that fail are an error.
func (p *Pair) Load(ctx context.Context, conf load.Config, d time.Duration) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, d+hung)
	defer cancel()
	var from, to meter.Usage
	var errs [2]error
	conf.Addr = p.Addr
	conf.Duration, conf.Warmup = d, max(d/10, shortest)
	if conf.Grace == 0 {
		conf.Grace = grace
	}
	conf.OnBegin = func() { from, errs[0] = p.Usage() }
	conf.OnEnd = func() { to, errs[1] = p.Usage() }
	res, err := load.Run(ctx, conf)
	if err := errors.Join(err, errs[0], errs[1]); err != nil {
		return Reading{}, err
	}
	switch {
	case res.Interrupted:
		return Reading{}, fmt.Errorf("no end after %v", d+hung)
	case res.Errors > 0:
		return Reading{}, fmt.Errorf("%d of %d requests failed: %v", res.Errors, res.Errors+res.Requests, res.Failures)
	case res.Answered == 0 && res.Bytes == 0:
		return Reading{}, ErrSilent
	}
	return Reading{Load: res, Used: to.Since(from)}, nil
}

// WarmUp loads a new pair for d, and longer until it answers. Some make all their connections to the other side at the first load: on a busy
// machine that can take seconds.
func (p *Pair) WarmUp(ctx context.Context, conf load.Config, d time.Duration) error {
	for range 6 {
		if _, err := p.Load(ctx, conf, d); !errors.Is(err, ErrSilent) {
			return err
		}
		d *= 2
	}
	return ErrSilent
}
