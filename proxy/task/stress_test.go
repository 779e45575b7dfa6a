package task_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestStress runs clients of many tempers against an echo: short and long bursts, pipelined and not, half-closed, reset.
func TestStress(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := listen(t, rt, task.ServeOptions{Serve: echoRelay})
		var clients sync.WaitGroup
		for i := range 24 {
			clients.Go(func() { stressClient(t, l.Addr().String(), uint64(i)) })
		}
		clients.Wait()
		proxytest.Eventually(t, "no connections", func() bool {
			st := rt.Stats()
			return st.Conns == 0 && st.Tasks == 0 && st.Buffers == 0
		})
	})
}

// echoRelay echoes until nothing more is there to read at once, through Write and Push in turn.
func echoRelay(s task.Shard, c task.Conn, first *task.Buffer) {
	b, push := first, false
	for {
		var err error
		n := b.W
		if push {
			err = c.Push(b.Unread())
		} else {
			_, err = c.Write(b.Unread())
		}
		push = !push
		s.Free(b)
		if err != nil {
			c.Close()
			return
		}
		if n < 100 {
			return // back to idle
		}
		if c.WaitReadable() != nil {
			c.Close()
			return
		}
		b = s.Buffer()
		if b.W, err = c.Read(b.B); err != nil {
			s.Free(b)
			c.Close()
			return
		}
	}
}

func stressClient(t *testing.T, address string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range 8 {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		for range 1 + r.IntN(20) {
			want := bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(1<<r.IntN(18)))
			sent := make(chan error, 1)
			go func() {
				_, err := nc.Write(want)
				sent <- err
			}()
			got := make([]byte, len(want))
			if n, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v, want %d", n, err, len(want))
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		switch r.IntN(3) {
		case 0:
			nc.(*net.TCPConn).SetLinger(0)
		case 1:
			nc.(*net.TCPConn).CloseWrite()
			if n, err := nc.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("Read = %d, %v, want EOF", n, err)
			}
		}
		nc.Close()
	}
}
