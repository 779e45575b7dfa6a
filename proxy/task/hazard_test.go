package task_test

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestPanicInTask ends the task only.
func TestPanicInTask(t *testing.T) {
	proxytest.PanickyRuntimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		deferred := false
		<-proxytest.Go(s, func() {
			defer func() { deferred = true }()
			panic("as asked")
		})
		if !deferred {
			t.Error("deferred function not called")
		}
		proxytest.Call(t, s, func() {})
		proxytest.Do(t, s, func() { s.Sleep(time.Millisecond) })
		s.Post(func() { panic("as asked") })
		proxytest.Do(t, s, func() {})
		if got := rt.Stats().Panics; got != 2 {
			t.Errorf("Panics = %d, want 2", got)
		}
	})
}

// TestGoexit ends the task, or callback, and on a loop the loop's goroutine, which is replaced.
func TestGoexit(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l := listen(t, rt, task.ServeOptions{Serve: func(s task.Shard, c task.Conn, first *task.Buffer) {
			defer s.Free(first)
			if string(first.Unread()) == "goexit" {
				runtime.Goexit()
			}
			c.Write(first.Unread())
		}})
		waiting := proxytest.Go(s, func() { s.Sleep(50 * time.Millisecond) })
		for range 5 {
			<-proxytest.Go(s, func() { runtime.Goexit() })
			p := dial(t, l)
			p.Send("goexit")
			p.ExpectClosed()
			s.Post(runtime.Goexit)
			q := dial(t, l)
			q.Send("hello")
			q.Expect("hello")
		}
		proxytest.Wait(t, waiting)
	})
}

func TestGateDeadline(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var g task.Gate
		proxytest.Do(t, s, func() {
			s.Gate(&g)
			start := s.Now()
			if g.Wait(start.Add(20 * time.Millisecond)) {
				t.Error("Wait = true without Wake")
			}
			if d := task.Now().Sub(start); d < 20*time.Millisecond {
				t.Errorf("Wait returned after %v", d)
			}
			g.Wake()
			g.Wake()
			if !g.Wait(0) {
				t.Error("Wait = false after Wake")
			}
			if g.Wait(s.Now().Add(time.Millisecond)) {
				t.Error("a Wake is kept twice")
			}
			g.Wake()
			s.Gate(&g)
			if g.Wait(s.Now().Add(time.Millisecond)) {
				t.Error("a Wake outlives the preparation")
			}
		})
		woken := proxytest.Go(s, func() {
			if !g.Wait(s.Now().Add(time.Hour)) {
				t.Error("Wait = false")
			}
		})
		time.Sleep(10 * time.Millisecond)
		s.Post(g.Wake)
		proxytest.Wait(t, woken)
	})
}

// TestUnpreparedGate and waits outside a task say what is wrong.
func TestGateMisuse(t *testing.T) {
	message := func(f func()) (r any) {
		defer func() { r = recover() }()
		f()
		return nil
	}
	var g task.Gate
	if got, _ := message(func() { g.Wait(0) }).(string); !strings.Contains(got, "Shard.Gate") {
		t.Errorf("Wait on an unprepared gate: %q", got)
	}
	if got, _ := message(g.Wake).(string); !strings.Contains(got, "Shard.Gate") {
		t.Errorf("Wake of an unprepared gate: %q", got)
	}
}

// TestPostFromMany posts from many goroutines: each function runs once, those of one goroutine in order.
func TestPostFromMany(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const posters, each = 16, 500
		s := rt.Shards()[1]
		var last [posters]int
		var posting sync.WaitGroup
		var ran atomic.Int32
		for i := range posters {
			posting.Go(func() {
				for j := range each {
					s.Post(func() {
						if last[i] != j {
							t.Errorf("poster %d: call %d came after %d", i, j, last[i])
						}
						last[i] = j + 1
						ran.Add(1)
					})
					if j%50 == 0 {
						time.Sleep(time.Millisecond) // let the loop fall asleep
					}
				}
			})
		}
		posting.Wait()
		proxytest.Call(t, s, func() {})
		if got := ran.Load(); got != posters*each {
			t.Errorf("%d calls, want %d", got, posters*each)
		}
	})
}

// TestBatch counts calls: on a loop exactly one for each turn with Kicks, on goroutines as few as can be.
func TestBatch(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		calls := 0
		ran := make(chan struct{}, 100)
		b := s.Batch(func() {
			s.Lock()
			calls++
			s.Unlock()
			ran <- struct{}{}
		})
		for i := range 5 {
			proxytest.Do(t, s, func() {
				s.Lock()
				for range 100 {
					b.Kick()
				}
				before := calls
				s.Unlock()
				if onLoop(t) && before > i {
					t.Errorf("%d calls before the end of the turn, want %d", before, i)
				}
			})
			<-ran
		}
		proxytest.Call(t, s, func() {
			s.Lock()
			defer s.Unlock()
			if calls < 5 || onLoop(t) && calls > 5 {
				t.Errorf("%d calls after 5 turns with Kicks, want 5", calls)
			}
		})
	})
}

func TestAfter(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var fired sync.WaitGroup
		proxytest.Call(t, s, func() {
			start := s.Now()
			for _, d := range []time.Duration{60 * time.Millisecond, 0, 20 * time.Millisecond, 300 * time.Millisecond} {
				fired.Add(1)
				s.After(d, func() {
					if got := task.Now().Sub(start); got < d {
						t.Errorf("%v passed in %v", d, got)
					}
					fired.Done()
				})
			}
			stopped := s.After(30*time.Millisecond, func() { t.Error("a stopped timer has fired") })
			s.After(300*time.Hour, func() { t.Error("fired 300 hours early") })
			stopped.Stop()
			stopped.Stop()
		})
		done := make(chan struct{})
		go func() { fired.Wait(); close(done) }()
		proxytest.Wait(t, done)
	})
}

// TestOffload lets others run meanwhile, and passes a panic on.
func TestOffload(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		hold := make(chan struct{})
		offloaded := proxytest.Go(s, func() {
			x := 0
			s.Offload(func() { <-hold; x = 1 })
			if x != 1 {
				t.Error("Offload returned before f")
			}
		})
		proxytest.Do(t, s, func() { s.Sleep(time.Millisecond) })
		close(hold)
		proxytest.Wait(t, offloaded)
		proxytest.Do(t, s, func() {
			defer func() {
				if r := recover(); r != "as asked" {
					t.Errorf("recovered %v", r)
				}
			}()
			s.Offload(func() { panic("as asked") })
		})
	})
}

func onLoop(t *testing.T) bool { return strings.Contains(t.Name(), "/loops") }
