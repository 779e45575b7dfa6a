package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	engine "github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/bench/meter"
	benchreport "github.com/pillion-proxy/pillion/bench/report"
)

// benchRun measures the two ways in turn.
type benchRun struct {
	plan        *benchPlan
	progress    *benchProgress
	direct, via []benchreport.Round
	notes       []string
}

// rounds runs them all. If ctx ends, it returns with those that were measured, which are cut to pairs, and says so; it is an error if there are none.
func (b *benchRun) rounds(ctx context.Context) (interrupted bool, err error) {
	for i := range b.plan.rounds {
		order := []bool{false, true} // via?
		if i%2 == 1 {
			order = []bool{true, false} // whatever comes second has no advantage
		}
		for _, via := range order {
			if err := b.measure(ctx, i, via); err != nil {
				if ctx.Err() == nil {
					return false, err
				}
				return true, b.cut()
			}
		}
		if ctx.Err() != nil {
			return i+1 < b.plan.rounds, b.cut()
		}
	}
	return false, nil
}

// cut leaves only rounds in which both ways were measured.
func (b *benchRun) cut() error {
	n := min(len(b.direct), len(b.via))
	if n == 0 {
		return errors.New("interrupted before both ways were measured once; there is nothing to tell")
	}
	b.direct, b.via = b.direct[:n], b.via[:n]
	return nil
}

// measure measures one way once. A measurement that is cut short by ctx counts if most of it was done.
func (b *benchRun) measure(ctx context.Context, round int, via bool) error {
	c, target, name := b.plan.load, b.plan.direct, "direct"
	if via {
		target, name = b.plan.via, "via"
	}
	c.Addr, c.Host, c.Path, c.Proxy = target.addr, target.host, target.path, target.proxy
	m := &benchMeter{}
	if via {
		m.pids = b.plan.pids
	}
	c.OnBegin, c.OnEnd = m.begin, m.end
	began := time.Now()
	c.OnProgress = func(answers uint64) { b.progress.show(round, name, time.Since(began), answers) }
	res, err := engine.Run(ctx, c)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", name, target.name, err)
	}
	if res.Interrupted && res.Window < c.Duration/2 {
		return context.Cause(ctx)
	}
	if err := m.err; err != nil {
		return fmt.Errorf("read the accounts of the proxies (%s): %w; give a --pid that lives and may be read", pidList(m.pids), err)
	}
	r := benchreport.Round{Result: res, CPU: m.used(), Memory: m.memory}
	if via {
		b.via = append(b.via, r)
	} else {
		b.direct = append(b.direct, r)
	}
	b.progress.done()
	return nil
}

// benchMeter reads the proxies' accounts at the ends of a measurement.
type benchMeter struct {
	pids     []int
	from, to meter.Usage
	memory   int64
	err      error
}

func (m *benchMeter) begin() {
	if len(m.pids) > 0 {
		m.from, m.err = meter.UsageOf(m.pids...)
	}
}

func (m *benchMeter) end() {
	if len(m.pids) == 0 || m.err != nil {
		return
	}
	if m.to, m.err = meter.UsageOf(m.pids...); m.err != nil {
		return
	}
	var memory meter.Memory
	memory, m.err = meter.MemoryOf(m.pids...)
	m.memory = memory.RSS
}

// used is the processor time in between; negative if nobody looked.
func (m *benchMeter) used() time.Duration {
	if len(m.pids) == 0 {
		return -1
	}
	return m.to.Since(m.from).CPU
}

func pidList(pids []int) string { return strings.Trim(fmt.Sprint(pids), "[]") }

// benchMachine says where it was measured.
func benchMachine() string {
	machine := fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		machine += ", Linux " + strings.TrimSpace(string(release))
	}
	return machine
}
