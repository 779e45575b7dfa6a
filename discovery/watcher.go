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

	current atomic.Pointer[snapshot] // nil before the first set

	running sync.WaitGroup // what publishes

	mu       sync.Mutex // guards what follows
	next     []proxy.Endpoint
	pending  bool
	armed    bool        // publish runs, or rests
	timer    *time.Timer // of the rest; nil without
	closed   bool        // nothing more is published
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
	w := &Watcher{conf: c, ready: make(chan struct{})}
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
	if w.Cheap() {
		stop := w.Start()
		<-ctx.Done()
		stop()
		return nil
	}
	defer w.close()
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
	err = w.conf.Resolver.Watch(w.heard(ctx), w.conf.Service, w.update)
	if err == nil {
		err = errors.New("the source ended its watch")
	}
	return err
}

// heard returns a context by which the Resolver tells of failures.
func (w *Watcher) heard(ctx context.Context) context.Context {
	return WithFlaw(WithReport(ctx, w.report), w.flawed)
}

// Cheap reports whether Start does what Run does.
func (w *Watcher) Cheap() bool {
	_, ok := w.conf.Resolver.(Subscriber)
	return ok
}

// Start watches until stop, which returns when everything has ended. It is for a Watcher that is Cheap, in the place of Run, and needs no goroutine while nothing changes.
func (w *Watcher) Start() (stop func()) {
	end := w.conf.Resolver.(Subscriber).Subscribe(w.heard(context.Background()), w.conf.Service, w.update)
	return func() {
		end()
		w.close()
	}
}

// update takes a set from the Resolver.
func (w *Watcher) update(set []proxy.Endpoint) {
	w.report(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next, w.pending = set, true
	w.armLocked()
}

// armLocked has what is pending published: at once, unless that was done less than a Debounce ago.
func (w *Watcher) armLocked() {
	if w.armed || w.closed {
		return
	}
	w.armed = true
	w.running.Go(w.publish)
}

// publish makes the latest set current, and rests.
func (w *Watcher) publish() {
	w.store()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
	case w.conf.Debounce > 0:
		w.running.Add(1)
		w.timer = time.AfterFunc(w.conf.Debounce, w.rested)
	default:
		w.restedLocked()
	}
}

// rested is the end of a Debounce.
func (w *Watcher) rested() {
	defer w.running.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = nil
	w.restedLocked()
}

func (w *Watcher) restedLocked() {
	if w.armed = false; w.pending {
		w.armLocked()
	}
}

// close ends what publishes.
func (w *Watcher) close() {
	w.mu.Lock()
	w.closed = true
	if w.timer != nil && w.timer.Stop() {
		w.running.Done()
	}
	w.mu.Unlock()
	w.running.Wait()
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
