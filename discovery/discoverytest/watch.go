package discoverytest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// Watch runs a Watcher of r, which publishes each set at once, until the test ends, or stop.
func Watch(t testing.TB, r discovery.Resolver) (w *discovery.Watcher, stop func()) {
	t.Helper()
	w, err := discovery.New(discovery.Config{Resolver: r, Service: proxy.Service{Name: "orders"}, Debounce: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return w, stop
}

// Show writes a set with all that is known of it but its labels.
func Show(set []proxy.Endpoint) string {
	var all []string
	for i := range set {
		e := &set[i]
		s := e.String()
		if e.Mesh {
			s += " " + string(e.Identity)
		}
		if e.Transport != "" {
			s += " " + string(e.Transport)
		}
		if e.Zone != "" {
			s += " in " + e.Zone
		}
		if e.Weight > 1 {
			s += fmt.Sprintf(" weight %d", e.Weight)
		}
		if e.Priority > 0 {
			s += fmt.Sprintf(" priority %d", e.Priority)
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

// Eventually waits until ok. Its limit is generous: machines that test are busy.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Expect waits until Show of the set is want.
func Expect(t testing.TB, w *discovery.Watcher, when, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = Show(w.Endpoints()); got == want && w.Ready() {
			return
		}
	}
	t.Fatalf("%s: endpoints %s, want %s; %v", when, got, want, w.Status().Err)
}

// ExpectError waits until the source tells an error that contains text; "" is none.
func ExpectError(t testing.TB, w *discovery.Watcher, when, text string) {
	t.Helper()
	Eventually(t, when+": error "+text, func() bool {
		err := w.Status().Err
		return text == "" && err == nil || text != "" && err != nil && strings.Contains(err.Error(), text)
	})
}

// NeverEmpty fails the test if the set is empty at any time until stop.
func NeverEmpty(t testing.TB, w *discovery.Watcher) (stop func()) {
	t.Helper()
	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
			if len(w.Endpoints()) == 0 {
				t.Error("the set is empty")
				return
			}
		}
	}()
	return func() { close(over); <-watched }
}
