package proxytest

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// patience bounds every wait of this package. Only a failure takes that long.
const patience = 30 * time.Second

// Runtimes runs f as a subtest on every runtime of the platform, started, with two shards. When f has returned it
// stops the runtime and fails the test if a task panicked, or tasks, connections, buffers or goroutines are left over.
func Runtimes(t *testing.T, f func(t *testing.T, rt task.Runtime)) {
	t.Helper()
	runtimes(t, false, f)
}

// PanickyRuntimes is Runtimes for tests in which tasks panic on purpose.
func PanickyRuntimes(t *testing.T, f func(t *testing.T, rt task.Runtime)) {
	t.Helper()
	runtimes(t, true, f)
}

func runtimes(t *testing.T, panicky bool, f func(t *testing.T, rt task.Runtime)) {
	t.Helper()
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			before := goroutines()
			rt, err := k.make(task.Config{Loops: 2, Logger: Logger(t)})
			if err != nil {
				t.Fatal(err)
			}
			stop := Start(t, rt)
			f(t, rt)
			stop()
			if n := rt.Stats().Panics; n > 0 && !panicky {
				t.Errorf("%d tasks panicked; the log has where", n)
			}
			checkLeft(t, rt, before)
		})
	}
}

type kind struct {
	name string
	make func(task.Config) (task.Runtime, error)
}

func goroutineKind() kind {
	return kind{"goroutines", func(c task.Config) (task.Runtime, error) { return task.NewGoroutines(c), nil }}
}

// Start runs rt until the returned function is called, or the test ends.
func Start(t testing.TB, rt task.Runtime) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run did not return; goroutines:\n%s", stacks())
		}
	}
	t.Cleanup(stop)
	return stop
}

// checkLeft waits for rt and the process to become quiet.
func checkLeft(t *testing.T, rt task.Runtime, before int) {
	t.Helper()
	var left string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if left = whatIsLeft(rt.Stats(), before); left == "" {
			return
		}
	}
	t.Errorf("left over: %s\n%s", left, stacks())
}

func whatIsLeft(st task.Stats, before int) string {
	var left []string
	for _, x := range []struct {
		n    int
		what string
	}{
		{st.Tasks, "tasks"}, {st.Conns, "connections"}, {st.Idle, "idle connections"},
		{st.Buffers, "buffers"}, {goroutines() - before, "goroutines"},
	} {
		if x.n > 0 {
			left = append(left, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	return strings.Join(left, ", ")
}

// Goroutines fails the test at its end if there are more goroutines than now.
func Goroutines(t testing.TB) {
	before := goroutines()
	t.Cleanup(func() {
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if goroutines() <= before {
				return
			}
		}
		t.Errorf("%d goroutines, %d at the start:\n%s", goroutines(), before, stacks())
	})
}

func goroutines() int { return runtime.NumGoroutine() }

func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

// Logger returns a logger that writes to the test's output.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
