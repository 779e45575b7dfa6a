package direct

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func TestPatience(t *testing.T) {
	const most = 10 * time.Second
	at := func(d time.Duration) task.Instant { return task.Instant(d) }
	var p patience
	for i := range 5 { // a restart
		p.closed(time.Duration(i)*time.Second, at(time.Minute))
	}
	if got := p.keep(most, at(time.Minute)); got != most {
		t.Errorf("after a restart of the app connections are kept for %v, want %v", got, most)
	}
	p.closed(2050*time.Millisecond, at(2*time.Minute))
	p.closed(2*time.Second, at(3*time.Minute))
	if got := p.keep(most, at(3*time.Minute)); got < 1500*time.Millisecond || got >= 2*time.Second {
		t.Errorf("an app that closes after 2 s: kept for %v", got)
	}
	if got := p.keep(time.Second, at(3*time.Minute)); got != time.Second {
		t.Errorf("the configuration's 1 s became %v", got)
	}
	if got := p.keep(most, at(2*time.Hour)); got != most {
		t.Errorf("hours later kept for %v, want the first time again", got)
	}
}

// An app that closes idle connections soon: after a while they are given up before.
func TestIdleTimeoutIsLearnt(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
		app.Config.IdleTimeout = 200 * time.Millisecond
		app.Start()
		defer app.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		ep := endpoint(app.Listener.Addr().String())
		to := d.To(ep, Options{Idle: time.Minute})
		health := func() (h Health) {
			proxytest.Do(t, s, func() { h = d.Health(s, ep) })
			return h
		}
		proxytest.Eventually(t, "the idle timeout is learnt", func() bool {
			if status, _, err := get(t, s, to, plain()); status != 200 {
				t.Errorf("got %d, %v", status, err)
			}
			proxytest.Eventually(t, "the app closes", func() bool { return health().Idle == 0 })
			return health().Keep < time.Minute
		})
		if keep := health().Keep; keep < 40*time.Millisecond {
			t.Errorf("connections are kept for %v, want nearly what the app keeps them", keep)
		}
	})
}
