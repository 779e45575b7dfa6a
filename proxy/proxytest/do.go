package proxytest

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Do runs f in a task of s and waits for it. It fails the test, with all stacks, if f takes too long. Call it from
// the test's goroutine.
func Do(t testing.TB, s task.Shard, f func()) {
	t.Helper()
	wait(t, Go(s, f))
}

// Go runs f in a task of s. The channel is closed when f has ended, be it by a panic.
func Go(s task.Shard, f func()) <-chan struct{} {
	done := make(chan struct{})
	run := func() {
		defer close(done)
		f()
	}
	s.Post(func() { s.Go(run) })
	return done
}

// Call runs f as a callback of s and waits for it.
func Call(t testing.TB, s task.Shard, f func()) {
	t.Helper()
	done := make(chan struct{})
	s.Post(func() {
		defer close(done)
		f()
	})
	wait(t, done)
}

// Wait waits for done, and fails the test with all stacks if that takes too long.
func Wait(t testing.TB, done <-chan struct{}) {
	t.Helper()
	wait(t, done)
}

func wait(t testing.TB, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("no end within %v; goroutines:\n%s", patience, stacks())
	}
}

// Eventually polls ok until it is true, and fails the test otherwise.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s; goroutines:\n%s", patience, what, stacks())
}
