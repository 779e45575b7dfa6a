package task_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// newLoops runs one loop that logs into the returned buffer.
func newLoops(t *testing.T, c task.Config) (task.Runtime, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	if c.Loops == 0 {
		c.Loops = 1
	}
	c.Logger = slog.New(slog.NewTextHandler(log, nil))
	rt, err := task.New(c)
	if err != nil {
		t.Fatal(err)
	}
	proxytest.Start(t, rt)
	return rt, log
}

func blockOnChannel(release chan struct{}) { <-release }

func blockOnMutex(release chan struct{}) {
	var mu sync.Mutex
	mu.Lock()
	go func() {
		<-release
		mu.Unlock()
	}()
	mu.Lock()
}

func blockOnSleep(release chan struct{}) {
	for {
		select {
		case <-release:
			return
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

func blockBySpinning(release chan struct{}) {
	for len(release) == 0 {
	}
	<-release
}

// TestWatchdog blocks a loop in every way, in tasks and in a callback: each is counted once, logged with its
// function, and not a lasting harm.
func TestWatchdog(t *testing.T) {
	for i, test := range []struct {
		function string
		f        func(chan struct{})
		state    string
	}{
		{"blockOnChannel", blockOnChannel, "chan receive"},
		{"blockOnMutex", blockOnMutex, "sync.Mutex.Lock"},
		{"blockOnSleep", blockOnSleep, ""},
		{"blockBySpinning", blockBySpinning, ""},
		{"blockOnChannel", nil, "chan receive"}, // as a callback
	} {
		rt, log := newLoops(t, task.Config{StallAfter: 10 * time.Millisecond})
		s := rt.Shards()[0]
		before := rt.Stats().Stalls
		release := make(chan struct{}, 1)
		if test.f != nil {
			proxytest.Go(s, func() { test.f(release) })
		} else {
			s.Post(func() { blockOnChannel(release) })
		}
		proxytest.Eventually(t, "a stall is counted", func() bool { return rt.Stats().Stalls > before })
		var got string
		proxytest.Eventually(t, "the stall is logged", func() bool {
			got += log.take()
			return strings.Contains(got, "task holds its loop")
		})
		release <- struct{}{}
		if !strings.Contains(got, test.function) || !strings.Contains(got, test.state) {
			t.Errorf("%d: log names neither %s nor %q:\n%s", i, test.function, test.state, got)
		}
		proxytest.Do(t, s, func() { s.Sleep(time.Millisecond) })
	}
}

// TestLockMisuse expects a loop to notice what would deadlock on goroutines.
func TestLockMisuse(t *testing.T) {
	rt, log := newLoops(t, task.Config{})
	s := rt.Shards()[0]
	var g task.Gate
	for _, test := range []struct {
		name string
		f    func()
		want string
	}{
		{"reentrant", func() { s.Lock(); s.Lock() }, "not reentrant"},
		{"unlock", func() { s.Unlock() }, "Unlock without Lock"},
		{"wait", func() { s.Lock(); g.Wait(0) }, "lock held"},
		{"sleep", func() { s.Lock(); s.Sleep(1) }, "lock held"},
	} {
		proxytest.Call(t, s, func() { s.Gate(&g) })
		<-proxytest.Go(s, test.f)
		proxytest.Eventually(t, test.want, func() bool { return strings.Contains(log.take(), test.want) })
		//lint:ignore SA2001 that it can be had is the test
		proxytest.Do(t, s, func() { s.Lock(); s.Unlock() })
	}
	s.Post(func() { g.Wait(0) })
	proxytest.Eventually(t, "a wait in a callback is refused", func() bool {
		return strings.Contains(log.take(), "Gate.Wait outside a task")
	})
}
