package pool

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// TestAppsSayNothingAboutAttempts: which service is meant and which attempts are one request is said by the sidecar alone. Otherwise an app that
// passes its own callers' fields on would get the answer of another request, and a repeated request would run twice.
func TestAppsSayNothingAboutAttempts(t *testing.T) {
	for _, c := range []struct {
		pillion  bool
		id, want string
	}{
		{true, "ours", "ours;0"},
		{true, "", ""},
		{false, "", ""},
	} {
		a := Addresser{Pillion: c.pillion}
		req := proxy.Request{Method: "POST", Authority: "x", AttemptID: c.id, Names: proxy.NamesKnown | proxy.NamesOf("pillion-attempt-id") | proxy.NamesOf("Pillion-To"),
			Fields: proxy.Fields{{Name: "pillion-attempt-id", Value: "forged;0"}, {Name: "Pillion-To", Value: "forged"}}}
		err := a.RoundTrip(proxy.RoundTripperFunc(func(req *proxy.Request, _ *proxy.Response) error {
			if got := req.Fields.Get(proxy.AttemptIDField); got != c.want {
				t.Errorf("pillion %v, attempt %q: the peer is told %q, want %q", c.pillion, c.id, got, c.want)
			}
			if got := req.Fields.Get(proxy.ToField); got == "forged" {
				t.Errorf("the peer is told what the app said: %v", req.Fields)
			}
			return nil
		}), &req, new(proxy.Response))
		if err != nil {
			t.Error(err)
		}
	}
}
