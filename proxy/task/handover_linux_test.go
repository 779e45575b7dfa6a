package task

import "testing"

// Whoever has given goroutines something to do says so to the loop, which then lets them go before it sleeps, once. On goroutines it means nothing.
func TestHandOver(t *testing.T) {
	loops, err := New(Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range []Runtime{loops, NewGoroutines(Config{Loops: 1})} {
		running(t, rt)
		s := rt.Shards()[0]
		work := make(chan func(), 1) // a slot, so that the task does not wait
		done := make(chan int, 1)
		go func() {
			for f := range work {
				f()
			}
		}()
		for i := range 200 {
			s.Post(func() {
				s.Go(func() {
					var g Gate
					s.Gate(&g)
					work <- Waker(s, &g)
					HandOver(s)
					g.Wait(0)
					done <- i
				})
			})
			if got := <-done; got != i {
				t.Fatalf("task %d ends, want %d", got, i)
			}
		}
		close(work)
		if l, ok := s.(*loop); ok {
			until(t, "the loop has let them go", func() bool { return !l.handed.Load() })
		}
	}
}
