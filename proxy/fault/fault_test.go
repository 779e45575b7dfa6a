package fault

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

type text struct{ rest string }

func (b *text) Read(p []byte) (int, error) {
	if b.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
func (b *text) Buffered() int          { return len(b.rest) }
func (b *text) Trailers() proxy.Fields { return nil }
func (b *text) Close() error           { return nil }

func TestFaults(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			calls := 0
			st := new(State)
			stack := st.Layer([]Settings{
				{},
				{Abort: 418, AbortShare: 1},
				{Abort: 503, AbortShare: 0.5},
				{Delay: 30 * time.Millisecond, DelayShare: 1, Abort: 503, AbortShare: 0},
				{Throttle: 2000, ThrottleShare: 1},
				{Abort: 500, AbortShare: 1, Header: "X-Test"},
			})(proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
				calls++
				resp.Body = &text{string(make([]byte, 200))}
				return nil
			}))
			send := func(rule int, fields ...proxy.Field) (status int, took time.Duration) {
				began := s.Now()
				var resp proxy.Response
				err := stack.RoundTrip(&proxy.Request{Shard: s, Cancel: new(proxy.Cancel), Rule: rule, Fields: fields}, &resp)
				var e *proxy.Error
				if errors.As(err, &e) {
					return e.Status, 0
				}
				n := 0
				for {
					m, err := resp.Body.Read(make([]byte, 1000))
					if n += m; err != nil {
						break
					}
				}
				if n != 200 {
					t.Errorf("rule %d: %d bytes came", rule, n)
				}
				return 0, s.Now().Sub(began)
			}
			for _, rule := range []int{0, 9, 5} {
				if status, _ := send(rule); status != 0 {
					t.Errorf("rule %d: %d where nothing was asked for", rule, status)
				}
			}
			if status, _ := send(1); status != 418 {
				t.Errorf("got %d, want 418", status)
			}
			half := 0
			for range 400 {
				if status, _ := send(2); status == 503 {
					half++
				}
			}
			if half < 120 || half > 280 {
				t.Errorf("%d of 400 ended, want about half", half)
			}
			if _, took := send(3); took < 30*time.Millisecond {
				t.Errorf("it took %v, want a delay of 30 ms", took)
			}
			if _, took := send(4); took < 50*time.Millisecond {
				t.Errorf("200 bytes at 2000 per second took %v", took)
			}
			if status, _ := send(5, proxy.Field{Name: "x-test", Value: "1"}); status != 500 {
				t.Errorf("with the header: %d, want 500", status)
			}
			if got := st.Stats(); got.Delayed != 1 || got.Throttled != 1 || got.Aborted != uint64(half)+2 {
				t.Errorf("counted %+v", got)
			}
		})
	})
}
