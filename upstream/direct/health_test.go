package direct

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func TestHealth(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		app := httptest.NewServer(http.NotFoundHandler())
		defer app.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		ep := endpoint(app.Listener.Addr().String())
		look := func() (h Health) {
			proxytest.Do(t, s, func() { h = d.Health(s, ep) })
			return h
		}
		if h := look(); h != (Health{}) {
			t.Errorf("before a call: %+v", h)
		}
		if status, _, err := get(t, s, d.To(ep, Options{}), plain()); status != 404 || err != nil {
			t.Fatalf("got %d, %v", status, err)
		}
		if h := look(); h.At == 0 || h.Why != "" || h.Idle != 1 {
			t.Errorf("after a call: %+v; want one idle connection", h)
		}
		app.Close()
		proxytest.Eventually(t, "the app's end is noticed", func() bool { return look().Idle == 0 })
		if _, _, err := get(t, s, d.To(ep, Options{}), plain()); err == nil {
			t.Fatal("an app that is gone answers")
		}
		if h := look(); !strings.Contains(h.Why, "refused") {
			t.Errorf("after the app is gone: %+v; want why", h)
		}
	})
}
