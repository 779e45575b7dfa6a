package http2

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// What a sidecar says of its time comes to a pillion, whatever it is, and is no field of the answer; nobody but the sidecar can say it, and
// who is no pillion is not told.
func TestTook(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for _, pillion := range []bool{true, false} {
			n := 0
			l := newLink(t, s, Config{Pillion: true, Handler: handler(func(_ *proxy.Request, resp *proxy.Response) error {
				n++
				resp.Status, resp.Took, resp.AppTook = 204, time.Duration(n%3)*time.Millisecond, time.Duration(n)*time.Microsecond
				resp.Fields.Add("X-Other", "1")
				if n%2 == 0 {
					resp.Fields.Add("pillion-TOOK", "7;7")
				}
				return nil
			})}, Config{Pillion: pillion})
			l.do(func() {
				for i := 1; i <= 200; i++ {
					var resp proxy.Response
					if err := l.client.RoundTrip(get("/"), &resp); err != nil {
						t.Error(err)
						return
					}
					took, app := time.Duration(i%3)*time.Millisecond, time.Duration(i)*time.Microsecond
					if took == 0 || !pillion {
						took, app = 0, 0
					}
					fields := 1
					if !pillion && i%2 == 0 {
						fields = 2 // the app's own, for whom it means nothing
					}
					if i > 1 && (resp.Took != took || resp.AppTook != app || len(resp.Fields) != fields) { // the first may go before the SETTINGS
						t.Errorf("answer %d: took %v, app %v, fields %v; want %v, %v, %d", i, resp.Took, resp.AppTook, resp.Fields, took, app, fields)
					}
					resp.Close()
				}
			})
			l.close()
		}
	})
}
