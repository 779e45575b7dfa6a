package task_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func waitForEver(s task.Shard) {
	var g task.Gate
	s.Gate(&g)
	g.Wait(0)
}

// TestShutdown ends every kind of wait: those on connections and Sleep at once, those at gates after the grace.
func TestShutdown(t *testing.T) {
	for _, make := range []func(task.Config) (task.Runtime, error){
		task.New,
		func(c task.Config) (task.Runtime, error) { return task.NewGoroutines(c), nil },
	} {
		proxytest.Goroutines(t)
		log := &logBuffer{}
		rt, err := make(task.Config{Loops: 2, Grace: 300 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		stop := proxytest.Start(t, rt)
		s := rt.Shards()[1]
		c, _ := proxytest.Pair(t, s)
		reading := proxytest.Go(s, func() {
			if _, err := c.Read([]byte{0}); err != task.ErrClosed {
				t.Errorf("Read = %v, want ErrClosed", err)
			}
		})
		sleeping := proxytest.Go(s, func() {
			s.Sleep(time.Hour)
			t.Error("Sleep returned")
		})
		deferred := false
		waiting := proxytest.Go(s, func() {
			defer func() { deferred = true }()
			waitForEver(s)
			t.Error("Wait returned")
		})
		graceful := proxytest.Go(s, func() {
			var g task.Gate
			s.Gate(&g)
			g.Wait(s.Now().Add(150 * time.Millisecond)) // within the grace
		})
		time.Sleep(20 * time.Millisecond)
		stop()
		for _, done := range []<-chan struct{}{reading, sleeping, waiting, graceful} {
			proxytest.Wait(t, done)
		}
		if !deferred {
			t.Error("deferred function of an unwound task not called")
		}
		if got := log.take(); strings.Count(got, "task unwound") != 1 || !strings.Contains(got, "waitForEver") {
			t.Errorf("log names not waitForEver once:\n%s", got)
		}
		if st := rt.Stats(); st.Tasks != 0 || st.Conns != 0 || st.Panics != 0 {
			t.Errorf("Stats = %+v", st)
		}
		s.Post(func() { t.Error("Post after the end runs") })
		if err := rt.Run(context.Background()); err == nil {
			t.Error("Run runs twice")
		}
	}
}
