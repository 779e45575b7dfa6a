package http3

import (
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func TestExchange(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(echo)}, Config{})
		defer l.close()
		for _, length := range []int{0, 1, 500, 511, 512, 513, 5000, 20000, 1 << 20} {
			for _, known := range []bool{true, false} {
				sent := strings.Repeat("x", length)
				req := post("/p", text(sent), int64(length))
				if !known {
					req.Length = proxy.Unknown
				}
				if length == 0 {
					req = get("/p")
				}
				var resp proxy.Response
				if err := l.client.RoundTrip(req, &resp); err != nil {
					t.Fatalf("%d bytes: %v", length, err)
				}
				got, err := readAll(resp.Body)
				if resp.Status != 200 || err != nil || got != sent || resp.Length != int64(length) {
					t.Errorf("%d bytes: got %d, %d bytes of %d, %v", length, resp.Status, len(got), resp.Length, err)
				}
				if g := resp.Fields.Get("got"); g != "/p" {
					t.Errorf("got path %q", g)
				}
				resp.Close()
			}
		}
	})
}
