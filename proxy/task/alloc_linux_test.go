package task_test

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestLoopAllocs pins that the steady state allocates nothing: serving an idle connection, reading, writing,
// parking with a deadline, resuming.
func TestLoopAllocs(t *testing.T) {
	rt, err := task.New(task.Config{Loops: 1, Logger: proxytest.Logger(t), StallAfter: -1})
	if err != nil {
		t.Fatal(err)
	}
	proxytest.Start(t, rt)
	serve := listen(t, rt, task.ServeOptions{Serve: echoOnce, Idle: time.Minute})
	converse := listen(t, rt, task.ServeOptions{Eager: true, Serve: func(s task.Shard, c task.Conn, _ *task.Buffer) {
		var g task.Gate
		s.Gate(&g)
		b := s.Buffer()
		defer s.Free(b)
		for {
			c.SetDeadline(s.Now().Add(time.Minute))
			n, err := c.Read(b.B)
			if err != nil {
				c.Close()
				return
			}
			c.OnHangup(nil)
			g.Wake()
			g.Wait(s.Now().Add(time.Second))
			c.Write(b.B[:n/2])
			c.Push(b.B[n/2 : n])
			s.Yield()
		}
	}})
	for _, test := range []struct {
		name string
		l    task.Listener
	}{{"serve", serve}, {"converse", converse}} {
		p := dial(t, test.l)
		out, in := []byte("hello"), make([]byte, 5)
		exchange := func() {
			p.Conn.Write(out)
			for n := 0; n < len(in); {
				m, err := p.Conn.Read(in[n:])
				if err != nil {
					t.Error(err)
					return
				}
				n += m
			}
		}
		for range 100 {
			exchange()
		}
		if n := testing.AllocsPerRun(1000, exchange); n != 0 {
			t.Errorf("%s: %v allocations per exchange, want 0", test.name, n)
		}
		p.Close()
	}
}
