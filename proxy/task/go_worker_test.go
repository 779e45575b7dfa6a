package task

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// goroutines starts the runtime on goroutines, and returns its first shard and what stops it.
func goroutines(t *testing.T) (*goShard, func()) {
	t.Helper()
	rt := NewGoroutines(Config{Loops: 1})
	stop := running(t, rt)
	shard := rt.Shards()[0].(*goShard)
	until(t, "Run has begun", func() bool {
		shard.workers.mu.Lock()
		defer shard.workers.mu.Unlock()
		return shard.workers.open
	})
	return shard, stop
}

// running runs rt until the test ends, or what it returns is called.
func running(t *testing.T, rt Runtime) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case <-ended:
			case <-time.After(30 * time.Second):
				t.Error("Run does not return")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func (ws *workers) waiting() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.idle)
}

// until waits for ok.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// A task runs on the goroutine of one that has ended; what that one panicked with, or unwound, does not matter to it.
func TestWorkersAreUsedAgain(t *testing.T) {
	s, stop := goroutines(t)
	ids := make(chan uint64, 1)
	s.Go(func() { ids <- goid() })
	first := <-ids
	for i := range 50 {
		until(t, "the worker waits", func() bool { return s.workers.waiting() == 1 })
		s.Go(func() {
			ids <- goid()
			if i == 20 {
				panic("a task's own")
			}
		})
		if got := <-ids; got != first {
			t.Fatalf("task %d runs on another goroutine", i)
		}
	}
	until(t, "the worker waits", func() bool { return s.workers.waiting() == 1 })

	// One that ends itself takes its goroutine along, and the next task gets another.
	s.Go(func() { ids <- goid(); runtime.Goexit() })
	<-ids
	s.Go(func() { ids <- goid() })
	if <-ids == first {
		t.Error("a task runs on a goroutine that has ended")
	}
	stop()
	if n := s.workers.waiting(); n != 0 {
		t.Errorf("%d workers wait after the end", n)
	}
	if s.workers.keep(&worker{}) {
		t.Error("a worker may wait after the end")
	}
}

// After a burst no more than so many goroutines are kept, and no task is lost.
func TestWorkersAreBounded(t *testing.T) {
	s, _ := goroutines(t)
	const n = 10 * maxIdleWorkers
	for range 3 {
		var all, ready sync.WaitGroup
		all.Add(n)
		ready.Add(n)
		for range n {
			s.Go(func() {
				ready.Done()
				ready.Wait() // all at once
				all.Done()
			})
		}
		all.Wait()
		until(t, "the burst is over", func() bool { return s.rt.tasks.Load() == 0 })
		until(t, "those that wait", func() bool { return s.workers.waiting() == maxIdleWorkers })
	}
	buf := make([]byte, 1<<20)
	until(t, "the others have ended", func() bool {
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), ".(*goShard).work(") <= maxIdleWorkers
	})
}
