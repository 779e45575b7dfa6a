package task

import (
	"bytes"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// watchdog looks at the turn numbers of the loops: one that is odd, and the same for too long, is a task or a
// callback that holds its loop. It sleeps while all loops do, and looks but now and then while no turn takes long: each look wakes a thread.
type watchdog struct {
	rt     *loopRuntime
	stalls atomic.Uint64
	dozing atomic.Bool
	long   atomic.Bool   // a turn has taken longer than StallAfter
	wakec  chan struct{} // one slot

	// Owned by run.
	alert  time.Time // until then it looks often
	logged time.Time // the last report with a stack
	unsaid int       // stalls since then

	mu         sync.Mutex
	goroutines map[uint64]*loop // loops and coroutines by goroutine id
}

func (w *watchdog) init(rt *loopRuntime) {
	w.rt, w.wakec, w.goroutines = rt, make(chan struct{}, 1), make(map[uint64]*loop)
}

func (w *watchdog) add(id uint64, l *loop) {
	w.mu.Lock()
	w.goroutines[id] = l
	w.mu.Unlock()
}

func (w *watchdog) remove(id uint64) {
	w.mu.Lock()
	delete(w.goroutines, id)
	w.mu.Unlock()
}

// rouse is called by a loop that has slept.
func (w *watchdog) rouse() {
	if w.dozing.Load() && w.dozing.CompareAndSwap(true, false) {
		select {
		case w.wakec <- struct{}{}:
		default:
		}
	}
}

// took is told by a loop how long a turn took.
func (w *watchdog) took(d time.Duration) {
	if d >= w.rt.cfg.StallAfter && w.rt.cfg.StallAfter > 0 && !w.long.Load() {
		w.long.Store(true)
	}
}

// start runs the watchdog until the returned function is called.
func (w *watchdog) start() (end func()) {
	if w.rt.cfg.StallAfter < 0 {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go w.run(stop, stopped)
	return func() {
		close(stop)
		<-stopped
	}
}

// turnSeen is the turn number of a loop, and since when it has been the same.
type turnSeen struct {
	no       uint64
	since    time.Time
	reported bool
}

const (
	restAfter = 10                     // looks at sleeping loops that send the watchdog to sleep
	calmEvery = 250 * time.Millisecond // between two looks while no turn takes long
	alertFor  = 2 * time.Second        // after a long turn, the next one is looked out for
)

func (w *watchdog) run(stop, stopped chan struct{}) {
	defer close(stopped)
	after := max(w.rt.cfg.StallAfter, time.Millisecond)
	pause := after
	timer := time.NewTimer(pause)
	defer timer.Stop()
	seen := make([]turnSeen, len(w.rt.all))
	last := time.Now()
	for quiet := 0; ; {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		now := time.Now()
		if now.Sub(last) > pause+after { // not only the loops stood still: the machine is overloaded, or throttles us
			clear(seen)
		}
		last = now
		quiet++
		for i, l := range w.rt.all {
			if w.look(l, &seen[i], now) {
				quiet = 0
			}
		}
		if quiet >= restAfter {
			if !w.doze(stop) {
				return
			}
			quiet, last = 0, time.Now()
		}
		pause = w.pause(seen, now, after)
		timer.Reset(pause)
	}
}

// doze waits for a loop that has slept and works again. It returns false at the end.
func (w *watchdog) doze(stop chan struct{}) bool {
	w.dozing.Store(true)
	select {
	case <-stop:
		return false
	case <-w.wakec:
		return true
	}
}

// pause is how long the watchdog sleeps until its next look: not for long if something runs that may be a stall.
func (w *watchdog) pause(seen []turnSeen, now time.Time, after time.Duration) time.Duration {
	if w.long.Swap(false) {
		w.alert = now.Add(alertFor)
	}
	if now.Before(w.alert) {
		return after
	}
	for _, s := range seen {
		if s.no&1 == 1 && !s.reported {
			return after
		}
	}
	return max(after, calmEvery)
}

// look reports whether l has done something since the last look, or stalls.
func (w *watchdog) look(l *loop, seen *turnSeen, now time.Time) bool {
	no := l.turnNo.Load()
	if no != seen.no {
		*seen = turnSeen{no: no, since: now}
		return true
	}
	if no&1 == 0 {
		return false
	}
	if d := now.Sub(seen.since); d >= w.rt.cfg.StallAfter && !seen.reported {
		seen.reported = true
		w.stalls.Add(1)
		if now.Sub(w.logged) < reportEvery {
			w.unsaid++
			return true
		}
		w.report(l, d)
		w.logged, w.unsaid = now, 0
	}
	return true
}

// A report stops the world to read the stacks, so it is not made often, and not of many goroutines.
const (
	reportEvery     = 5 * time.Second
	maxReportStacks = 2000 // goroutines
)

// report names the goroutine that holds l: the only one of l that is not switched out. If that is in none of our users'
// functions the machine has taken the processor from the loop itself.
func (w *watchdog) report(l *loop, d time.Duration) {
	log := w.rt.cfg.Logger.With("loop", l.index, "for at least", d, "more since the last report", w.unsaid)
	if n := runtime.NumGoroutine(); n > maxReportStacks {
		log.Warn("task holds its loop", "goroutines", n)
		return
	}
	for _, g := range allStacks() {
		id, state := goroutineHeader(g)
		w.mu.Lock()
		ours := w.goroutines[id] == l
		w.mu.Unlock()
		if !ours || strings.HasPrefix(state, "coroutine") {
			continue
		}
		if in := holder(g); in != "unknown" {
			log.Warn("task holds its loop", "state", state, "in", in, "stack", g)
			return
		}
	}
	log.Debug("loop stood still outside tasks")
}

// maxStacks bounds the dump that a report reads, in bytes.
const maxStacks = 8 << 20

// allStacks returns the stack of every goroutine, as text.
func allStacks() []string {
	b := make([]byte, 64<<10)
	for {
		n := runtime.Stack(b, true)
		if n < len(b) || len(b) >= maxStacks {
			return strings.Split(string(b[:n]), "\n\n")
		}
		b = make([]byte, 4*len(b))
	}
}

// goroutineHeader parses "goroutine 7 [chan receive, 2 minutes]:".
func goroutineHeader(g string) (id uint64, state string) {
	rest, ok := strings.CutPrefix(g, "goroutine ")
	if !ok {
		return 0, ""
	}
	digits, rest, _ := strings.Cut(rest, " ")
	id, _ = strconv.ParseUint(digits, 10, 64)
	if i, j := strings.IndexByte(rest, '['), strings.IndexByte(rest, ']'); i >= 0 && j > i {
		state = rest[i+1 : j]
	}
	return id, state
}

// holder returns the first function of the stack g that is neither the runtime's nor the standard library's.
func holder(g string) string {
	for line := range strings.Lines(g) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "goroutine ") || strings.HasPrefix(line, "created by") {
			continue
		}
		if i := strings.LastIndexByte(line, '('); i > 0 {
			line = line[:i]
		}
		path, _, inModule := strings.Cut(line, "/")
		if inModule && strings.Contains(path, ".") && !ownFrame(line) && !strings.HasPrefix(line, "golang.org/x/sys/") {
			return line
		}
	}
	return "unknown"
}

// goid returns the id of the calling goroutine. It is slow: once per coroutine.
func goid() uint64 {
	var b [64]byte
	g := b[:runtime.Stack(b[:], false)]
	id, _ := goroutineHeader(string(bytes.TrimSpace(g)))
	return id
}
