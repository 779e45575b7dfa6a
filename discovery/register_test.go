package discovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// book is a Registry that says what it was told.
type book struct {
	mu    sync.Mutex // guards what follows
	unfit error
	lines []string
	err   error
	began time.Time
}

func (b *book) Enter(_ context.Context, r *Registration, unfit error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprint(time.Since(b.began), " ", r.ID, " ", unfit))
	return b.err
}

func (b *book) Leave(ctx context.Context, r *Registration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprint(time.Since(b.began), " leave ", r.ID, " ", ctx.Err()))
	return b.err
}

func (b *book) set(err, unfit error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.unfit = err, unfit
}

func (b *book) fit(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unfit
}

func TestRegistrar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &book{began: time.Now(), err: errors.New("no route"), unfit: errors.New("not yet")}
		r := NewRegistrar(RegistrarConfig{Registry: b, Registration: Registration{ID: "i1", TTL: 15 * time.Second}, Fit: b.fit})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if st := r.Status(); st.Entered || st.Err == nil || st.Unfit == nil {
			t.Errorf("status %+v while the registry is away", st)
		}
		b.set(nil, b.unfit)
		time.Sleep(1500 * time.Millisecond) // it is tried each second
		b.set(nil, nil)
		time.Sleep(8 * time.Second) // and renewed three times in a TTL
		if st := r.Status(); !st.Entered || st.Err != nil || st.Unfit != nil || time.Since(st.Renewed) > 5*time.Second {
			t.Errorf("status %+v", st)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		want := "0s i1 not yet|1s i1 not yet|2s i1 <nil>|7s i1 <nil>|9.5s leave i1 <nil>"
		if got := strings.Join(b.lines, "|"); got != want {
			t.Errorf("the registry was told %s, want %s", got, want)
		}
		if r.Status().Entered {
			t.Error("it is entered still")
		}
	})
}
