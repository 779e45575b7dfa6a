package accesslog

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy/observe"
)

// What says which requests get a line.
type What string

// The values of What.
const (
	Errors  What = "errors"  // answers of pillion's own, 5xx, error statuses of gRPC, ends before the end
	Sampled What = "sampled" // errors, and a share of the others
	All     What = "all"
)

// Format is the form of a line.
type Format string

// The formats.
const (
	Text Format = "text" // key=value
	JSON Format = "json" // an object
)

// Config says what is written, and where.
type Config struct {
	What   What
	Share  float64 // of the others, with Sampled, 0 to 1
	Format Format
	Query  bool // whether paths keep their query
	// Open returns what lines are written to; it is called at the start and by Reopen.
	Open func() (io.WriteCloser, error)
	// Failed is told, once each time, that lines cannot be written. May be nil.
	Failed func(error)
	// Now is the time; if nil, time.Now.
	Now func() time.Time
}

// maxPending bounds the lines that wait to be written, in bytes.
const maxPending = 1 << 20

// Log is the access log. Make it with New; Run writes.
type Log struct {
	cfg    Config
	lost   atomic.Uint64
	lines  atomic.Uint64
	reopen atomic.Bool
	wake   chan struct{}

	mu      sync.Mutex // held to append a line, never to write
	pending []byte
}

var _ observe.Sink = (*Log)(nil)

// New returns a Log.
func New(cfg Config) *Log {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Failed == nil {
		cfg.Failed = func(error) {}
	}
	return &Log{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Begin implements observe.Sink.
func (l *Log) Begin(*observe.Entry) {}

// Head implements observe.Sink.
func (l *Log) Head(*observe.Entry) {}

// Done implements observe.Sink.
func (l *Log) Done(e *observe.Entry) {
	if !l.wanted(e) {
		return
	}
	l.mu.Lock()
	full := len(l.pending) >= maxPending
	if !full {
		l.pending = l.line(l.pending, e)
	}
	l.mu.Unlock()
	if full {
		l.lost.Add(1)
		return
	}
	l.lines.Add(1)
	l.signal()
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // it is told already
	}
}

// Reopen has the next line written to what Config.Open then returns: for files that were moved away.
func (l *Log) Reopen() {
	l.reopen.Store(true)
	l.signal()
}

// Stats are counts since the start.
type Stats struct {
	Lines uint64 // that were taken
	Lost  uint64 // for want of room, or of somewhere to write
}

// Stats returns the counts.
func (l *Log) Stats() Stats { return Stats{Lines: l.lines.Load(), Lost: l.lost.Load()} }

// Run writes until ctx ends and what waits then has been written.
func (l *Log) Run(ctx context.Context) error {
	w, err := l.cfg.Open()
	if err != nil {
		return err
	}
	broken := false
	var spare []byte
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-l.wake:
		}
		if l.reopen.Swap(false) {
			if next, err := l.cfg.Open(); err != nil {
				l.cfg.Failed(err) // the old one goes on
			} else {
				w.Close()
				w, broken = next, false
			}
		}
		l.mu.Lock()
		lines := l.pending
		l.pending = spare[:0]
		l.mu.Unlock()
		if _, err := w.Write(lines); err != nil && len(lines) > 0 {
			l.lost.Add(count(lines))
			if !broken {
				l.cfg.Failed(err)
			}
			broken = true
		} else if len(lines) > 0 {
			broken = false
		}
		spare = lines
		if cap(spare) > maxSpare {
			spare = nil
		}
	}
	return w.Close()
}

// maxSpare is how much memory is kept after a burst, in bytes.
const maxSpare = 64 << 10

func count(lines []byte) (n uint64) {
	for _, c := range lines {
		if c == '\n' {
			n++
		}
	}
	return n
}
