package deadline

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Waits is the layer that bounds how long a connection may take, and how long the content of an answer may pause. Zero is no bound of this layer.
// Streams and Flows may pause.
func Waits(connect, pause time.Duration) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			req.ConnectTimeout = connect
			if pause == 0 || req.IsConnect() || req.Upgrade != "" {
				return next.RoundTrip(req, resp)
			}
			return watch(next, req, resp, pause)
		})
	}
}

// watch carries out an Exchange with a Cancel of its own, so that the answer can be ended from here.
func watch(next proxy.RoundTripper, req *proxy.Request, resp *proxy.Response, pause time.Duration) error {
	w := &watched{s: req.Shard, client: req.Cancel, pause: pause}
	before, gone := req.Cancel.Watch(w)
	if gone != nil {
		return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left before the request was sent", Unsent: true, Err: gone}
	}
	w.s.Lock()
	w.before = before
	w.s.Unlock()
	req.Cancel = &w.cancel
	err := next.RoundTrip(req, resp)
	req.Cancel = w.client
	if err != nil || resp.Body == nil {
		w.release()
		return err
	}
	w.Body = resp.Body
	w.waiter, _ = resp.Body.(proxy.Waiter)
	w.inner = resp.Closer()
	resp.Body = w
	resp.OnClose(w)
	return nil
}

// watched is the content of an answer that may not pause for long.
type watched struct {
	proxy.Body
	waiter proxy.Waiter
	s      task.Shard
	client *proxy.Cancel
	cancel proxy.Cancel
	inner  proxy.ResponseCloser
	pause  time.Duration

	// Guarded by the shard's lock.
	before proxy.Canceled // who was registered with client
	since  task.Instant   // somebody has waited since; 0: nobody waits
	timer  bool           // check will be called
}

// Canceled implements proxy.Canceled: the client has left.
func (w *watched) Canceled(err error) {
	w.cancel.Cancel(err)
	w.s.Lock()
	before := w.before
	w.s.Unlock()
	if before != nil {
		before.Canceled(err)
	}
}

// CloseResponse implements proxy.ResponseCloser.
func (w *watched) CloseResponse(resp *proxy.Response) {
	w.release()
	if w.inner != nil {
		w.inner.CloseResponse(resp)
	}
}

func (w *watched) release() {
	w.s.Lock()
	before := w.before
	w.s.Unlock()
	if before != nil {
		_, _ = w.client.Watch(before)
	} else {
		w.client.Unwatch(w)
	}
}

// Read implements proxy.Body.
func (w *watched) Read(p []byte) (int, error) {
	w.begin()
	defer w.end()
	return w.Body.Read(p)
}

// WaitReadable implements proxy.Waiter.
func (w *watched) WaitReadable() error {
	if w.waiter == nil {
		return nil
	}
	w.begin()
	defer w.end()
	return w.waiter.WaitReadable()
}

func (w *watched) begin() {
	w.s.Lock()
	defer w.s.Unlock()
	w.since = w.s.Now()
	if !w.timer {
		w.timer = true
		w.s.After(w.pause, w.check)
	}
}

func (w *watched) end() {
	w.s.Lock()
	w.since = 0
	w.s.Unlock()
}

// check is a callback.
func (w *watched) check() {
	w.s.Lock()
	w.timer = false
	waited := w.s.Now().Sub(w.since)
	late := w.since != 0 && waited >= w.pause
	if w.since != 0 && !late {
		w.timer = true
		w.s.After(w.pause-waited, w.check)
	}
	w.s.Unlock()
	if late {
		w.cancel.Cancel(&proxy.Error{Code: proxy.Timeout, Detail: "the answer paused for longer than " + w.pause.String()})
	}
}
