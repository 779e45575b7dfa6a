package answer

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// RFC 8941 section 3.3.3: a String is of ASCII, with a backslash before quotes and backslashes.
func TestProxyStatus(t *testing.T) {
	var resp proxy.Response
	Fill(&proxy.Request{Method: "GET", Upgrade: proxy.ConnectUDP, ID: "7"}, &resp, &proxy.Error{Code: proxy.UnknownService, Detail: "no service \"é\\\""})
	if got, want := resp.Fields.Get("Proxy-Status"), `pillion; error=destination_not_found; details="no service \"?\\\""`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	resp = proxy.Response{}
	Fill(&proxy.Request{Method: "GET"}, &resp, &proxy.Error{Code: proxy.UnknownService})
	if resp.Fields.Has("Proxy-Status") {
		t.Error("an Exchange is answered with Proxy-Status")
	}
}
