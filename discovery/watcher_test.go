package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// resolverFunc is a Resolver made of a function.
type resolverFunc func(ctx context.Context, update func([]proxy.Endpoint)) error

func (f resolverFunc) Watch(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) error {
	return f(ctx, update)
}

// set returns Endpoints at 10.0.0.n.
func set(ns ...byte) []proxy.Endpoint {
	all := []proxy.Endpoint{}
	for _, n := range ns {
		all = append(all, proxy.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 80)})
	}
	return all
}

func names(set []proxy.Endpoint) string {
	var all []string
	for i := range set {
		all = append(all, set[i].String())
	}
	return strings.Join(all, " ")
}

// start runs a Watcher in the bubble; the returned function ends it.
func start(t *testing.T, c Config) (*Watcher, func()) {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return w, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
}

func TestWatcherFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sets := make(chan []proxy.Endpoint)
		var calls []string
		w, stop := start(t, Config{
			Resolver: resolverFunc(func(ctx context.Context, update func([]proxy.Endpoint)) error {
				for {
					select {
					case s := <-sets:
						update(s)
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}),
			Changed: func(s []proxy.Endpoint) { calls = append(calls, names(s)) },
		})
		synctest.Wait()
		if w.Ready() || w.Endpoints() != nil {
			t.Errorf("before the first set: ready %v, endpoints %v", w.Ready(), w.Endpoints())
		}
		sets <- set(1)
		<-w.Readied()
		synctest.Wait()
		if got := names(w.Endpoints()); got != "10.0.0.1:80" || !w.Ready() {
			t.Errorf("after the first set: ready %v, endpoints %s", w.Ready(), got)
		}
		// Many sets within one Debounce become one change, and one that leads back to where it was becomes none.
		for n := byte(2); n < 50; n++ {
			sets <- set(1, n)
		}
		time.Sleep(150 * time.Millisecond)
		sets <- set(1)
		sets <- set(1, 49)
		time.Sleep(time.Second)
		sets <- set()
		time.Sleep(time.Second)
		stop()
		want := []string{"10.0.0.1:80", "10.0.0.1:80 10.0.0.49:80", ""}
		if fmt.Sprint(calls) != fmt.Sprint(want) {
			t.Errorf("Changed was called with %q, want %q", calls, want)
		}
		if st := w.Status(); !st.Ready || len(st.Endpoints) != 0 || st.Err != nil || st.Restarts != 0 {
			t.Errorf("Status = %+v; want ready with no endpoints", st)
		}
	})
}

func TestWatcherSurvives(t *testing.T) {
	for name, c := range map[string]struct {
		fail func() error
		want string
	}{
		"error": {func() error { return errors.New("no route") }, "no route"},
		"panic": {func() error { panic("oops") }, "the source panicked: oops"},
		"end":   {func() error { return nil }, "the source ended its watch"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var starts []time.Time
				w, stop := start(t, Config{Resolver: resolverFunc(func(ctx context.Context, update func([]proxy.Endpoint)) error {
					starts = append(starts, time.Now())
					switch len(starts) {
					case 1:
						update(set(1))
						return c.fail()
					case 8:
						update(set(1, 2))
						<-ctx.Done()
						return ctx.Err()
					}
					return c.fail()
				})})
				time.Sleep(5 * time.Second)
				st := w.Status()
				if names(st.Endpoints) != "10.0.0.1:80" || st.Err == nil || !strings.Contains(st.Err.Error(), c.want) || st.ErrAt.IsZero() || st.Restarts < 2 {
					t.Errorf("Status while it fails = %+v; want the last good set and %q", st, c.want)
				}
				time.Sleep(5 * time.Minute)
				stop()
				st = w.Status()
				if names(st.Endpoints) != "10.0.0.1:80 10.0.0.2:80" || st.Err != nil {
					t.Errorf("Status after it works = %+v; want the new set and no error", st)
				}
				for i := 2; i < len(starts); i++ {
					if now, before := starts[i].Sub(starts[i-1]), starts[i-1].Sub(starts[i-2]); now < before || now > 40*time.Second {
						t.Errorf("pause %d is %v after %v; want it to grow, up to about 30 s", i, now, before)
					}
				}
			})
		})
	}
}

func TestWatcherKeepsReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := make(chan error)
		w, stop := start(t, Config{Resolver: resolverFunc(func(ctx context.Context, update func([]proxy.Endpoint)) error {
			update(set(1))
			for {
				select {
				case err := <-errs:
					Report(ctx, err)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})})
		defer stop()
		began := time.Now()
		errs <- errors.New("first")
		time.Sleep(time.Second)
		errs <- errors.New("second")
		synctest.Wait()
		if st := w.Status(); st.Err == nil || st.Err.Error() != "second" || !st.ErrAt.Equal(began) || names(st.Endpoints) != "10.0.0.1:80" {
			t.Errorf("Status = %+v; want the second error since %v, and the endpoints", st, began)
		}
		errs <- nil
		synctest.Wait()
		if st := w.Status(); st.Err != nil || !st.ErrAt.IsZero() {
			t.Errorf("Status = %+v; want no error", st)
		}
	})
}

func TestReportWithoutListener(t *testing.T) {
	Report(t.Context(), errors.New("nobody hears this")) // must not panic
}

func TestNewRefusesNoResolver(t *testing.T) {
	if _, err := New(Config{Service: proxy.Service{Name: "orders"}}); err == nil || !strings.Contains(err.Error(), "orders") {
		t.Errorf("New without a Resolver = %v; want an error that names the service", err)
	}
}
