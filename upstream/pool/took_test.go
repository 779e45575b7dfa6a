package pool

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// TestTook: what the peer's sidecar says of its time is noted and taken off, where the peer is a pillion; it counts what was said last.
func TestTook(t *testing.T) {
	for _, c := range []struct {
		pillion   bool
		fields    proxy.Fields
		took, app time.Duration
		left      int
	}{
		{true, proxy.Fields{{Name: "a", Value: "b"}, {Name: "pillion-took", Value: "900;400"}}, 900 * time.Microsecond, 400 * time.Microsecond, 1},
		{true, proxy.Fields{{Name: "Pillion-Took", Value: "1;1"}, {Name: "a"}, {Name: "pillion-took", Value: "900;400"}}, 900 * time.Microsecond, 400 * time.Microsecond, 1},
		{true, proxy.Fields{{Name: "pillion-took", Value: "a lot"}}, 0, 0, 0},
		{true, proxy.Fields{{Name: "pillion-took", Value: "4;5"}}, 0, 0, 0},
		{true, proxy.Fields{{Name: "pillion-took", Value: "-4;5"}}, 0, 0, 0},
		{true, nil, 0, 0, 0},
		{false, proxy.Fields{{Name: "pillion-took", Value: "900;400"}}, 0, 0, 1},
	} {
		a := Addresser{Pillion: c.pillion}
		req, resp := proxy.Request{Method: "GET", Authority: "x"}, proxy.Response{}
		err := a.RoundTrip(proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
			resp.Fields = append(resp.Fields, c.fields...)
			return nil
		}), &req, &resp)
		if err != nil || resp.Took != c.took || resp.AppTook != c.app || len(resp.Fields) != c.left {
			t.Errorf("%v: took %v and %v, left %v, %v", c.fields, resp.Took, resp.AppTook, resp.Fields, err)
		}
	}
}

// TestOnlyPillionsAreAsked: a question to a sidecar itself is not sent where it would reach an app.
func TestOnlyPillionsAreAsked(t *testing.T) {
	for _, pillion := range []bool{true, false} {
		sent := ""
		a := Addresser{Pillion: pillion}
		err := a.RoundTrip(proxy.RoundTripperFunc(func(req *proxy.Request, _ *proxy.Response) error {
			sent = req.Fields.Get(proxy.ToField)
			return nil
		}), &proxy.Request{Method: "GET", Service: proxy.Service{Name: proxy.SidecarName}}, new(proxy.Response))
		if pillion && (err != nil || sent != proxy.SidecarName) || !pillion && (err == nil || sent != "") {
			t.Errorf("to a pillion (%v): %v, sent for %q", pillion, err, sent)
		}
	}
}
