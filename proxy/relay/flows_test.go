package relay

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// ends are the two far ends of a relay of Flows, as Flows in the test's hands, and the relay's own.
type ends struct {
	a, b   *datagram.Flow
	result *FlowResult
	done   <-chan struct{}
}

func startFlows(t *testing.T, s task.Shard, idle time.Duration) *ends {
	t.Helper()
	pair := func() (near, far *datagram.Flow) {
		ca, nc := proxytest.Pair(t, s)
		nc.SetDeadline(time.Time{})
		proxytest.Call(t, s, func() {
			cb, err := s.Adopt(nc)
			if err != nil {
				t.Error(err)
			}
			near, far = datagram.New(s, ca, nil), datagram.New(s, cb, nil)
		})
		return near, far
	}
	na, fa := pair()
	nb, fb := pair()
	e := &ends{a: fa, b: fb, result: new(FlowResult)}
	e.done = proxytest.Go(s, func() { *e.result = Flows(s, na, nb, idle) })
	return e
}

func send(t *testing.T, s task.Shard, f proxy.Flow, p []byte) {
	t.Helper()
	proxytest.Do(t, s, func() {
		if err := f.Send(p); err != nil {
			t.Error(err)
		}
	})
}

func expect(t *testing.T, s task.Shard, f proxy.Flow, want []byte) {
	t.Helper()
	proxytest.Do(t, s, func() {
		p := make([]byte, proxy.MaxDatagram)
		if n, err := f.Receive(p); err != nil || !bytes.Equal(p[:n], want) {
			t.Errorf("got %d bytes, %v; want %d", n, err, len(want))
		}
	})
}

// finish closes a far end and waits until the relay has closed it too.
func finish(t *testing.T, s task.Shard, f *datagram.Flow) {
	t.Helper()
	proxytest.Do(t, s, func() {
		f.Close()
		for {
			if _, err := f.Receive(make([]byte, proxy.MaxDatagram)); err != nil {
				return
			}
		}
	})
}

func TestFlows(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		e := startFlows(t, s, 0)
		for _, n := range []int{1, 0, 1200, proxy.MaxDatagram} {
			p := bytes.Repeat([]byte{'p'}, n)
			send(t, s, e.a, p)
			expect(t, s, e.b, p)
			send(t, s, e.b, p)
			send(t, s, e.b, p)
			expect(t, s, e.a, p)
			expect(t, s, e.a, p)
		}
		finish(t, s, e.a)
		finish(t, s, e.b)
		proxytest.Wait(t, e.done)
		if r := *e.result; r.AtoB != 4 || r.BtoA != 8 || r.Err != io.EOF || r.Idle {
			t.Errorf("result %+v, want 4 and 8 datagrams and an end in order", r)
		}
	})
}

// Whichever side ends first, and however, the other one hears of it.
func TestFlowsEndTogether(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for _, first := range []func(e *ends) (ends, other *datagram.Flow){
			func(e *ends) (*datagram.Flow, *datagram.Flow) { return e.a, e.b },
			func(e *ends) (*datagram.Flow, *datagram.Flow) { return e.b, e.a },
		} {
			e := startFlows(t, s, 0)
			x, y := first(e)
			proxytest.Do(t, s, func() { x.Close() })
			proxytest.Do(t, s, func() {
				if _, err := y.Receive(make([]byte, 10)); err != io.EOF {
					t.Errorf("the other side got %v, want io.EOF", err)
				}
			})
			finish(t, s, x)
			proxytest.Wait(t, e.done)
		}
	})
}

// Flows on which nothing happens end.
func TestFlowsIdle(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		e := startFlows(t, s, 100*time.Millisecond)
		proxytest.Do(t, s, func() {
			if _, err := e.b.Receive(make([]byte, 10)); err != io.EOF {
				t.Errorf("got %v, want the end", err)
			}
		})
		finish(t, s, e.a)
		proxytest.Wait(t, e.done)
		if !e.result.Idle || e.result.Err != nil {
			t.Errorf("result %+v, want that it was idle", *e.result)
		}
	})
}

// broken is a Flow that takes nothing, and gives what the other direction needs to be woken.
type broken struct {
	proxy.Flow
	err error
}

func (b *broken) Send([]byte) error { return b.err }

// A side that takes no more ends the relay; a datagram that is too long for it does not.
func TestFlowsSendErrors(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for _, err := range []error{errors.New("over"), proxy.ErrDatagramTooLong} {
			ca, pa := proxytest.Pair(t, s)
			cb, pb := proxytest.Pair(t, s)
			var r FlowResult
			done := proxytest.Go(s, func() {
				r = Flows(s, datagram.New(s, ca, nil), &broken{datagram.New(s, cb, nil), err}, 0)
			})
			a := proxytest.NewPeer(t, pa)
			a.Send("\x00\x02\x00x")
			if err == proxy.ErrDatagramTooLong {
				a.Send("\x00\x02\x00y")
				a.FinishSending()
			}
			a.ExpectEOF()
			proxytest.NewPeer(t, pb).ExpectEOF()
			pa.Close()
			pb.Close()
			proxytest.Wait(t, done)
			if err == proxy.ErrDatagramTooLong {
				err = io.EOF
			}
			if r.Err != err {
				t.Errorf("ended with %v, want %v", r.Err, err)
			}
		}
	})
}
