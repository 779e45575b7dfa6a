package deadline

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        time.Duration
		ok          bool
	}{
		{"grpc-timeout", "100m", 100 * time.Millisecond, true},
		{"Grpc-Timeout", "2S", 2 * time.Second, true},
		{"grpc-timeout", "1H", time.Hour, true},
		{"grpc-timeout", "5M", 5 * time.Minute, true},
		{"grpc-timeout", "99999999n", 99999999, true},
		{"grpc-timeout", "0u", 0, true},
		{"grpc-timeout", "99999999H", 0, false},
		{"grpc-timeout", "123456789m", 0, false},
		{"grpc-timeout", "-1m", 0, false},
		{"grpc-timeout", "1x", 0, false},
		{"grpc-timeout", "m", 0, false},
		{"x-request-timeout-ms", "1500", 1500 * time.Millisecond, true},
		{"X-Request-Timeout-Ms", "0", 0, true},
		{"X-Request-Timeout-Ms", "-5", 0, false},
		{"X-Request-Timeout-Ms", "1.5", 0, false},
		{"X-Request-Timeout-Ms", "99999999999999999999", 0, false},
		{"X-Envoy-Expected-Rq-Timeout-Ms", "20", 20 * time.Millisecond, true},
		{"X-Other-Field-With-L", "20", 0, false},
	} {
		if got, ok := parse(&proxy.Field{Name: c.name, Value: c.value}); got != c.want || ok != c.ok {
			t.Errorf("%s: %s is %v, %v, want %v, %v", c.name, c.value, got, ok, c.want, c.ok)
		}
	}
}

func TestRemainderIsSentOn(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			var seen proxy.Fields
			app := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				seen = append(seen[:0], req.Fields...)
				return nil
			})
			slow := func(next proxy.RoundTripper) proxy.RoundTripper {
				return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
					s.Sleep(20 * time.Millisecond)
					return next.RoundTrip(req, resp)
				})
			}
			stack := Read(slow(Send(app)))
			for _, c := range []struct{ name, value, left string }{
				{"grpc-timeout", "1000S", "m"}, {"X-Request-Timeout-Ms", "60000", ""}, {"x-envoy-expected-rq-timeout-ms", "60000", ""},
			} {
				req := &proxy.Request{Shard: s, Fields: proxy.Fields{{Name: c.name, Value: c.value}}}
				if err := stack.RoundTrip(req, new(proxy.Response)); err != nil {
					t.Error(err)
					continue
				}
				before, _ := parse(&proxy.Field{Name: c.name, Value: c.value})
				if d, ok := parse(&seen[0]); len(seen) != 1 || !ok || d > before-20*time.Millisecond || d < before-30*time.Second {
					t.Errorf("%s: %s became %v, want a little less", c.name, c.value, seen)
				}
			}
			req := &proxy.Request{Shard: s, Deadline: s.Now().Add(time.Minute)}
			if err := stack.RoundTrip(req, new(proxy.Response)); err != nil || seen.Get(Field) == "" {
				t.Errorf("got %v and %v, want a timeout of the configuration to be told", seen, err)
			} else if n, _ := strconv.Atoi(seen.Get(Field)); n < 10_000 || n > 60_000 {
				t.Errorf("it is told as %d ms", n)
			}
			if err := stack.RoundTrip(&proxy.Request{Shard: s}, new(proxy.Response)); err != nil || len(seen) != 0 {
				t.Errorf("got %v, %v, want nothing said where there is no deadline", seen, err)
			}
		})
	})
}

func TestNoTimeLeftIsRefusedAtOnce(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			app := proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error {
				t.Error("the request was sent on")
				return nil
			})
			late := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				s.Sleep(10 * time.Millisecond)
				return Send(app).RoundTrip(req, resp)
			})
			for _, req := range []*proxy.Request{
				{Shard: s, Fields: proxy.Fields{{Name: "X-Request-Timeout-Ms", Value: "0"}}},
				{Shard: s, Fields: proxy.Fields{{Name: "grpc-timeout", Value: "1u"}}},
			} {
				err := Read(late).RoundTrip(req, new(proxy.Response))
				var e *proxy.Error
				if !errors.As(err, &e) || e.Code != proxy.Timeout || !e.Unsent {
					t.Errorf("%v: got %v, want timeout, unsent", req.Fields, err)
				}
			}
		})
	})
}

// TestTimeOfAllAttempts: what runs once for several attempts is told the deadline of all of them.
func TestTimeOfAllAttempts(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			stack := Send(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return nil }))
			attempt := s.Now().Add(time.Minute)
			req := &proxy.Request{Shard: s, Deadline: attempt, AttemptID: "a"}
			if err := stack.RoundTrip(req, nil); err != nil || len(req.Fields) != 0 {
				t.Errorf("%v, %v: want nothing said where all have no deadline", req.Fields, err)
			}
			req.AllBy = attempt.Add(10 * time.Hour)
			if err := stack.RoundTrip(req, nil); err != nil {
				t.Error(err)
			}
			if left, ok := parseMillis(req.Fields.Get(Field)); !ok || left < 10*time.Hour {
				t.Errorf("%v: want more than 10 h", req.Fields)
			}
		})
	})
}

func TestNoDeadlineAllocatesNothing(t *testing.T) {
	stack := Read(Send(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return nil })))
	req := &proxy.Request{Fields: proxy.Fields{{Name: "Accept", Value: "*/*"}, {Name: "Host", Value: "a"}}}
	if n := proxytest.Allocs(100, func() { _ = stack.RoundTrip(req, nil) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// pausing is an answer whose content begins and then pauses, until somebody ends it.
type pausing struct {
	s      task.Shard
	gate   task.Gate
	left   int
	err    error
	cancel *proxy.Cancel
	closed int
}

func (b *pausing) Canceled(err error) { b.err = err; b.gate.Wake() }
func (b *pausing) Read(p []byte) (int, error) {
	if b.left > 0 {
		b.left--
		b.s.Sleep(5 * time.Millisecond)
		return copy(p, "piece"), nil
	}
	for b.cancel.Err() == nil {
		b.gate.Wait(0)
	}
	return 0, b.cancel.Err()
}
func (b *pausing) Buffered() int                 { return 0 }
func (b *pausing) Trailers() proxy.Fields        { return nil }
func (b *pausing) Close() error                  { return nil }
func (b *pausing) CloseResponse(*proxy.Response) { b.closed++ }

func TestPause(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			b := &pausing{s: s, left: 5}
			s.Gate(&b.gate)
			stack := Waits(time.Second, 400*time.Millisecond)(proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				if req.ConnectTimeout != time.Second {
					t.Errorf("a connection may take %v", req.ConnectTimeout)
				}
				b.cancel = req.Cancel
				if _, err := req.Cancel.Watch(b); err != nil {
					return err
				}
				resp.Body = b
				resp.OnClose(b)
				return nil
			}))
			req := &proxy.Request{Shard: s, Cancel: new(proxy.Cancel)}
			client := req.Cancel
			var resp proxy.Response
			if err := stack.RoundTrip(req, &resp); err != nil || req.Cancel != client {
				t.Error(err)
				return
			}
			pieces, p := 0, make([]byte, 10)
			for {
				if _, err := resp.Body.Read(p); err != nil {
					var e *proxy.Error
					if !errors.As(err, &e) || e.Code != proxy.Timeout {
						t.Errorf("it ended with %v, want timeout", err)
					}
					break
				}
				pieces++
			}
			if pieces != 5 {
				t.Errorf("%d pieces came, want all 5", pieces)
			}
			resp.Close()
			if w, err := client.Watch(nil); b.closed != 1 || w != nil || err != nil || client.Err() != nil {
				t.Errorf("closed %d times; left registered: %v, %v", b.closed, w, err)
			}
		})
	})
}
