package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Config says what a Watcher watches.
type Config struct {
	Resolver Resolver
	Service  proxy.Service
	// Changed is called with each new set, one call at a time, on a goroutine of the Watcher; may be nil. It should not
	// block for long: the sets that come meanwhile are merged into the latest.
	Changed func([]proxy.Endpoint)
	// Debounce is the least time between two calls of Changed. If zero, 100 ms; if negative, none.
	Debounce time.Duration
	// Backoff is the pause after the first failure of the Resolver; it doubles up to sixty times that. If zero, 500 ms.
	Backoff time.Duration
	// Logger hears of changes and failures. If nil, nothing is logged.
	Logger *slog.Logger
}

// Watcher keeps a Resolver running for one Service, through its errors and panics, and holds the last good set. All
// methods are safe for concurrent use.
type Watcher struct {
	// Static after construction.
	conf  Config
	fixed bool          // there is one set, which was current from the start
	ready chan struct{} // closed at the first set
	kick  chan struct{} // one slot: next is set

	current atomic.Pointer[snapshot] // nil before the first set

	mu       sync.Mutex // guards what follows
	next     []proxy.Endpoint
	pending  bool
	err      error
	errAt    time.Time
	flaw     error
	restarts int
}

type snapshot struct {
	endpoints []proxy.Endpoint
	at        time.Time
}

// New returns a Watcher that Run starts.
func New(c Config) (*Watcher, error) {
	if c.Resolver == nil {
		return nil, fmt.Errorf("discover %v: no resolver", c.Service)
	}
	if c.Debounce == 0 {
		c.Debounce = 100 * time.Millisecond
	}
	if c.Backoff <= 0 {
		c.Backoff = 500 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{conf: c, ready: make(chan struct{}), kick: make(chan struct{}, 1)}
	if f, ok := c.Resolver.(Fixed); ok {
		w.fixed = true
		w.current.Store(&snapshot{endpoints: f.Endpoints(), at: time.Now()})
		close(w.ready)
	}
	return w, nil
}

// Fixed reports whether there is nothing to watch: Run then only waits for its context.
func (w *Watcher) Fixed() bool { return w.fixed }

// Endpoints is the last good set; nil before the first. It never waits.
func (w *Watcher) Endpoints() []proxy.Endpoint {
	if s := w.current.Load(); s != nil {
		return s.endpoints
	}
	return nil
}

// Ready reports whether there was a first answer, be it empty.
func (w *Watcher) Ready() bool { return w.current.Load() != nil }

// Readied is closed at the first answer.
func (w *Watcher) Readied() <-chan struct{} { return w.ready }

// Status is what `pillion status` shows of a Watcher.
type Status struct {
	Service   proxy.Service
	Ready     bool
	Endpoints []proxy.Endpoint
	Changed   time.Time // when Endpoints came; zero before
	// Err is why the source cannot tell at present, nil if it can; ErrAt is when that began. Endpoints are then the last good ones.
	Err      error
	ErrAt    time.Time
	Flaw     error // what is wrong with a part of the source, while the rest is followed
	Restarts int   // how often the source had to be started again
}

// Status is a snapshot.
func (w *Watcher) Status() Status {
	st := Status{Service: w.conf.Service}
	if s := w.current.Load(); s != nil {
		st.Ready, st.Endpoints, st.Changed = true, s.endpoints, s.at
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	st.Err, st.ErrAt, st.Flaw, st.Restarts = w.err, w.errAt, w.flaw, w.restarts
	return st
}

// Run watches until ctx ends, and returns nil once everything it started has ended too. Call it once.
func (w *Watcher) Run(ctx context.Context) error {
	if w.fixed {
		if w.conf.Changed != nil {
			w.conf.Changed(w.Endpoints())
		}
		<-ctx.Done()
		return nil
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		w.publish(ctx)
	}()
	defer func() { <-published }()
	const calm = time.Minute // a source that ran this long starts again without delay
	pause := w.conf.Backoff
	for {
		began := time.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > calm {
			pause = w.conf.Backoff
		}
		w.restarted(err)
		if !Sleep(ctx, pause+rand.N(pause/4+1)) {
			return nil
		}
		pause = min(2*pause, 60*w.conf.Backoff)
	}
}

// watch runs the Resolver once and makes an error of its panic.
func (w *Watcher) watch(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			w.conf.Logger.Error("panic in discovery", "service", w.conf.Service.String(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("the source panicked: %v", p)
		}
	}()
	err = w.conf.Resolver.Watch(WithFlaw(WithReport(ctx, w.report), w.flawed), w.conf.Service, w.update)
	if err == nil {
		err = errors.New("the source ended its watch")
	}
	return err
}

// update takes a set from the Resolver.
func (w *Watcher) update(set []proxy.Endpoint) {
	w.report(nil)
	w.mu.Lock()
	w.next, w.pending = set, true
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// publish makes the latest set current, the first at once, then one per Debounce.
func (w *Watcher) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		}
		w.store()
		if w.conf.Debounce > 0 && !Sleep(ctx, w.conf.Debounce) {
			return
		}
	}
}

func (w *Watcher) store() {
	w.mu.Lock()
	set, pending := w.next, w.pending
	w.next, w.pending = nil, false
	w.mu.Unlock()
	before := w.current.Load()
	if !pending || before != nil && slices.Equal(before.endpoints, set) {
		return
	}
	w.current.Store(&snapshot{endpoints: set, at: time.Now()})
	if before == nil {
		close(w.ready)
	}
	level := slog.LevelInfo
	if len(set) == 0 {
		level = slog.LevelWarn
	}
	w.conf.Logger.Log(context.Background(), level, "endpoints changed", "service", w.conf.Service.String(), "endpoints", len(set))
	if w.conf.Changed != nil {
		w.conf.Changed(set)
	}
}

// report keeps err for Status and logs it, once as long as it stays the same.
func (w *Watcher) report(err error) {
	w.mu.Lock()
	before := w.err
	w.err = err
	switch {
	case err == nil:
		w.errAt = time.Time{}
	case before == nil:
		w.errAt = time.Now()
	}
	w.mu.Unlock()
	switch {
	case err == nil && before != nil:
		w.conf.Logger.Info("discovery works again", "service", w.conf.Service.String())
	case err != nil && (before == nil || before.Error() != err.Error()):
		w.conf.Logger.Warn("discovery fails, endpoints stay as they are", "service", w.conf.Service.String(), "endpoints", len(w.Endpoints()), "err", err)
	}
}

// flawed keeps err for Status and logs it, once as long as it stays the same.
func (w *Watcher) flawed(err error) {
	w.mu.Lock()
	before := w.flaw
	w.flaw = err
	w.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		w.conf.Logger.Warn("discovery cannot use all that it finds", "service", w.conf.Service.String(), "err", err)
	}
}

func (w *Watcher) restarted(err error) {
	w.mu.Lock()
	w.restarts++
	w.mu.Unlock()
	w.report(err)
}

// Sleep reports whether d passed before ctx ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
