package http2

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// RFC 8441 section 5: key and accept stay with HTTP/1, unless both ends of the Link are pillions; subprotocols and extensions do not.
func TestWebSocketFieldsOnTheWire(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		req := get("/chat")
		req.Upgrade = "websocket"
		req.Fields = proxy.Fields{{Name: "Sec-WebSocket-Key", Value: "dGhlIHNhbXBsZSBub25jZQ=="}, {Name: "Sec-WebSocket-Version", Value: "13"}, {Name: "Sec-WebSocket-Protocol", Value: "chat"}}
		r := rawServer(t, s, Config{}, xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1})
		proxytest.Do(t, s, func() {
			if err := r.c.WaitReady(0); err != nil {
				t.Error(err)
			}
		})
		var resp proxy.Response
		done := proxytest.Go(s, func() {
			if err := r.c.RoundTrip(req, &resp); err != nil {
				t.Error(err)
			}
		})
		got := r.untilHeaders(0)
		fields := make(map[string]string)
		for _, f := range got.Fields {
			fields[f.Name] = f.Value
		}
		if _, key := fields["sec-websocket-key"]; key || fields[":protocol"] != "websocket" || fields[":method"] != "CONNECT" ||
			fields[":path"] != "/chat" || fields["sec-websocket-version"] != "13" || fields["sec-websocket-protocol"] != "chat" {
			t.Errorf("the app got %v, want an extended CONNECT without a key", fields)
		}
		r.headers(got.StreamID, false, ":status", "200", "sec-websocket-protocol", "chat")
		proxytest.Wait(t, done)
		if resp.Status != 101 || resp.Stream == nil || resp.Fields.Get("Sec-WebSocket-Protocol") != "chat" {
			t.Errorf("answer %d, stream %v, fields %v, want 101 with a stream", resp.Status, resp.Stream, resp.Fields)
		}
		proxytest.Call(t, s, func() { resp.Close() })
		r.close()

		up, _ := proxytest.Pair(t, s)
		r = rawClient(t, s, Config{
			Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
				resp.Status, resp.Stream = 101, up
				resp.Fields = append(resp.Fields, proxy.Field{Name: "Sec-WebSocket-Accept", Value: "x"}, proxy.Field{Name: "Sec-WebSocket-Extensions", Value: "permessage-deflate"})
				return nil
			}),
			Tunnel: func(_ task.Shard, client, upstream proxy.Stream) { client.Close(); upstream.Close() },
		})
		r.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/x")
		answer := r.untilHeaders(1)
		extensions := ""
		for _, f := range answer.Fields {
			switch f.Name {
			case "sec-websocket-accept":
				t.Error("the client was sent Sec-WebSocket-Accept")
			case "sec-websocket-extensions":
				extensions = f.Value
			}
		}
		if answer.PseudoValue("status") != "200" || extensions != "permessage-deflate" {
			t.Errorf("the client got %v, want 200 with the extensions", answer.Fields)
		}
		r.close()
	})
}
