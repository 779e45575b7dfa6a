package hedge

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// service answers at once, unless a request is to hang until it is cancelled.
type service struct {
	s        task.Shard
	hang     bool // the next request
	fail     int  // the status of those that do not hang; 0 is 200
	calls    int
	open     int
	canceled int
	tried    int
}

type hanging struct {
	gate task.Gate
	err  error
}

func (h *hanging) Canceled(err error) { h.err = err; h.gate.Wake() }

func (v *service) CloseResponse(*proxy.Response) {
	v.s.Lock()
	v.open--
	v.s.Unlock()
}

func (v *service) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	v.s.Lock()
	v.calls++
	n := v.calls
	hang := v.hang
	v.hang = false
	v.tried = len(req.Tried)
	v.s.Unlock()
	req.Endpoint = &proxy.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 1)}
	if req.Chosen != nil {
		req.Chosen.Store(req.Endpoint)
	}
	if hang {
		h := new(hanging)
		v.s.Gate(&h.gate)
		if _, err := req.Cancel.Watch(h); err != nil {
			return err
		}
		h.gate.Wait(0)
		v.s.Lock()
		v.canceled++
		v.s.Unlock()
		return &proxy.Error{Code: proxy.ClientGone, Err: req.Cancel.Err()}
	}
	resp.Status = 200
	if v.fail != 0 {
		resp.Status = v.fail
	}
	resp.Fields.Add("n", fmt.Sprint(n))
	resp.OnClose(v)
	v.s.Lock()
	v.open++
	v.s.Unlock()
	return nil
}

func get(s task.Shard) *proxy.Request {
	return &proxy.Request{Method: "GET", Shard: s, Cancel: new(proxy.Cancel), Fields: proxy.Fields{{Name: "A", Value: "b"}}}
}

var usual = []Settings{{Percentile: 0.95, Least: 5 * time.Millisecond, Budget: 0.1}}

// warm makes st know the latencies of v.
func warm(t *testing.T, stack proxy.RoundTripper, v *service) {
	for range least {
		var resp proxy.Response
		if err := stack.RoundTrip(get(v.s), &resp); err != nil {
			t.Error(err)
			return
		}
		resp.Close()
	}
}

func TestSlowEndpointIsGoneRound(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		v := &service{s: s}
		st := NewState(2)
		stack := st.Layer(usual)(v)
		proxytest.Do(t, s, func() {
			warm(t, stack, v)
			v.hang = true
			req := get(s)
			client := req.Cancel
			var resp proxy.Response
			if err := stack.RoundTrip(req, &resp); err != nil || resp.Status != 200 || resp.Fields.Get("n") != "102" {
				t.Errorf("got %d %v, %v, want the second attempt's answer", resp.Status, resp.Fields, err)
				return
			}
			if v.tried != 1 || v.canceled != 1 || req.Cancel != client || req.Endpoint == nil {
				t.Errorf("the second attempt avoided %d endpoints, %d were cancelled", v.tried, v.canceled)
			}
			resp.Close()
			if before, err := client.Watch(nil); before != nil || err != nil {
				t.Errorf("left registered: %v, %v", before, err)
			}
		})
		if got := st.Stats(); got != (Stats{Hedges: 1, Wins: 1}) || v.open != 0 {
			t.Errorf("got %+v, %d answers open", got, v.open)
		}
	})
}

func TestBudgetAndFailures(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		v := &service{s: s}
		st := NewState(2)
		stack := st.Layer([]Settings{{Percentile: 0.95, Budget: 0.011}})(v)
		proxytest.Do(t, s, func() {
			warm(t, stack, v) // one token and a bit
			v.hang, v.fail = true, 503
			failed := proxytest.Go(s, func() {
				var resp proxy.Response
				req := get(s)
				s.After(200*time.Millisecond, func() { req.Cancel.Cancel(errors.New("gone")) })
				if err := stack.RoundTrip(req, &resp); err == nil {
					t.Errorf("got %d, want the first attempt to be waited for when the second fails", resp.Status)
				}
			})
			for !closed(failed) {
				s.Sleep(5 * time.Millisecond)
			}
			v.fail, v.hang = 0, true
			req := get(s)
			s.Go(func() {
				for st.Stats().OverBudget == 0 {
					s.Sleep(5 * time.Millisecond)
				}
				req.Cancel.Cancel(errors.New("gone"))
			})
			var resp proxy.Response
			if err := stack.RoundTrip(req, &resp); err == nil {
				t.Error("there was a second attempt without budget")
			}
		})
		proxytest.Eventually(t, "all ended", func() bool {
			open := 1
			proxytest.Call(t, s, func() { s.Lock(); open = v.open; s.Unlock() })
			return open == 0
		})
		if got := st.Stats(); got != (Stats{Hedges: 1, OverBudget: 1}) {
			t.Errorf("got %+v, want one attempt and no win", got)
		}
	})
}

// TestPanicEndsTheSecondAttempt: a bug below costs the second attempt, and the first, that has failed, does not wait for it.
func TestPanicEndsTheSecondAttempt(t *testing.T) {
	proxytest.PanickyRuntimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		st, v := NewState(len(rt.Shards())), &service{s: s}
		second := make(chan struct{})
		var gate task.Gate
		s.Gate(&gate)
		stack := st.Layer(usual)(proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			switch {
			case req.Method != "HEAD":
				return v.RoundTrip(req, resp)
			case len(req.Tried) > 0:
				gate.Wake()
				close(second)
				panic("a bug")
			}
			req.Chosen.Store(new(proxy.Endpoint))
			gate.Wait(0)
			return &proxy.Error{Code: proxy.PeerReset}
		}))
		proxytest.Do(t, s, func() {
			warm(t, stack, v)
			req := get(s)
			req.Method = "HEAD"
			if err := stack.RoundTrip(req, new(proxy.Response)); err == nil {
				t.Error("there is an answer")
			}
			if !closed(second) {
				t.Error("there was no second attempt")
			}
		})
	})
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestOthersPass(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			v := &service{s: s}
			stack := NewState(2).Layer(append(usual, Settings{}))(v)
			for _, req := range []*proxy.Request{{Method: "POST"}, {Method: "GET", Upgrade: "websocket"}, {Method: "GET", Rule: 1}} {
				var resp proxy.Response
				req.Shard, req.Cancel = s, new(proxy.Cancel)
				if err := stack.RoundTrip(req, &resp); err != nil || resp.Closer() != proxy.ResponseCloser(v) {
					t.Errorf("%+v did not pass as it is", req)
				}
				resp.Close()
			}
		})
	})
}

func TestPercentile(t *testing.T) {
	var l latency
	for i := range 1000 {
		l.add(time.Duration(i)*time.Millisecond, 0.95)
	}
	if l.known < 800*time.Millisecond || l.known > 1100*time.Millisecond {
		t.Errorf("p95 of 0 to 999 ms is %v", l.known)
	}
	for range 20_000 {
		l.add(time.Millisecond, 0.95)
	}
	if l.known > 2*time.Millisecond {
		t.Errorf("p95 is still %v, long after all became fast", l.known)
	}
	for _, d := range []time.Duration{0, 1, time.Microsecond, 3 * time.Microsecond, 77 * time.Millisecond, time.Hour, 1 << 62} {
		if i := bucket(d); d < time.Hour && upper(i) <= d {
			t.Errorf("%v is in bucket %d, below %v", d, i, upper(i))
		}
	}
}
