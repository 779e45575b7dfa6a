package discoverytest

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// Follower is who uses a source: it has the set that a balancer would have.
type Follower struct {
	*discovery.Watcher

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	empties int           // sets without an Endpoint that came after one with some
	filled  bool
	sets    int
}

// Follow watches r until the test ends.
func Follow(t testing.TB, r discovery.Resolver) *Follower {
	t.Helper()
	f := &Follower{changed: make(chan struct{})}
	var log *slog.Logger
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	w, err := discovery.New(discovery.Config{Resolver: r, Service: proxy.Service{Name: "orders"}, Changed: f.note, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	f.Watcher = w
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return f
}

func (f *Follower) note(set []proxy.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets++
	if len(set) == 0 && f.filled {
		f.empties++
	}
	f.filled = f.filled || len(set) > 0
	close(f.changed)
	f.changed = make(chan struct{})
}

// Addresses are those of the present set, in order, joined by spaces.
func (f *Follower) Addresses() string {
	var all []string
	for _, e := range f.Endpoints() {
		all = append(all, e.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Await waits until the set has exactly these addresses, and returns how long that took. Its limit is generous: machines that test are busy.
func (f *Follower) Await(t testing.TB, addresses ...string) time.Duration {
	t.Helper()
	const limit = time.Minute
	want := strings.Join(slices.Sorted(slices.Values(addresses)), " ")
	began, over := time.Now(), time.After(limit)
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if f.Ready() && f.Addresses() == want {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-over:
			t.Fatalf("after %v the set is %q, want %q; status %+v", limit, f.Addresses(), want, f.Status())
		}
	}
}

// AwaitError waits until the source says that it fails, with a text that holds want.
func (f *Follower) AwaitError(t testing.TB, want string) {
	t.Helper()
	const limit = time.Minute
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := f.Status().Err
		if err != nil && strings.Contains(err.Error(), want) {
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("after %v the source's error is %v, want %q", limit, err, want)
		}
	}
}

// Empties is how often the set became empty.
func (f *Follower) Empties() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.empties
}

// Sets is how often the set has changed.
func (f *Follower) Sets() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sets
}
