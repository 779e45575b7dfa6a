package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// maxLevelTime bounds for how long a level can differ from the configured one: whoever wants it for longer writes it there.
const maxLevelTime = 24 * time.Hour

// levels is the log's level, which may differ from the configured one for a while.
type levels struct {
	to *slog.LevelVar // nil where nobody can change it

	mu         sync.Mutex // guards what follows
	configured slog.Level
	until      time.Time // zero: the configured one is in force
	timer      *time.Timer
}

// configure is told what the configuration says. What differs for a while goes on.
func (l *levels) configure(to slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.configured = to
	if l.to != nil && l.until.IsZero() {
		l.to.Set(to)
	}
}

// set puts another level into force for d.
func (l *levels) set(name string, d time.Duration) error {
	var level slog.Level
	switch {
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, name):
		return fmt.Errorf("level: %q is none of debug, info, warn, error", name)
	case d > maxLevelTime:
		return fmt.Errorf("for: %v is more than %v; write log.level into the configuration", d, maxLevelTime)
	case l.to == nil:
		return errors.New("the level of this sidecar's log cannot be changed")
	}
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
	until := time.Now().Add(d)
	l.until = until
	l.to.Set(level)
	l.timer = time.AfterFunc(d, func() { l.over(until) })
	return nil
}

// over puts the configured level into force again, unless another has been set since.
func (l *levels) over(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until.Equal(until) {
		l.endLocked()
	}
}

// close ends what differs.
func (l *levels) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
}

func (l *levels) endLocked() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer, l.until = nil, time.Time{}
		l.to.Set(l.configured)
	}
}

// setLogLevel is for the operator.
func (s *sidecar) setLogLevel(name string, d time.Duration) error {
	if err := s.levels.set(name, d); err != nil {
		return err
	}
	s.Log.Info("log level changed", "level", name, "for", d)
	return nil
}

func (l *levels) status() admin.LogLevel {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := admin.LogLevel{Level: strings.ToLower(l.configured.String()), Configured: strings.ToLower(l.configured.String())}
	if !l.until.IsZero() {
		st.Level, st.Left = strings.ToLower(l.to.Level().String()), max(0, time.Until(l.until)).Seconds()
	}
	return st
}
