package http1

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// HTTP/1 and HTTP/2 open a WebSocket differently. RFC 8441 section 5: "Implementations using this extended CONNECT to bootstrap WebSockets do not do the processing of
// the Sec-WebSocket-Key and Sec-WebSocket-Accept header fields of [RFC6455] as that functionality has been superseded by the
// :protocol pseudo-header field." Where both ends are HTTP/1 the fields pass through, whatever lies between; where one is
// not, the HTTP/1 end gets here what it has to see.

const (
	wsKey    = "Sec-WebSocket-Key"
	wsAccept = "Sec-WebSocket-Accept"
)

func isWebSocket(upgrade string) bool { return strings.EqualFold(upgrade, "websocket") }

// lacksKey reports whether req opens a WebSocket for a client that does not speak HTTP/1.
func lacksKey(req *proxy.Request) bool {
	return isWebSocket(req.Upgrade) && !req.Fields.Has(wsKey)
}

// newKey returns a Sec-WebSocket-Key: RFC 6455 section 4.1: "a randomly selected 16-byte value that has been base64-encoded".
func newKey() string {
	var nonce [16]byte
	rand.Read(nonce[:])
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// acceptKey is the Sec-WebSocket-Accept for key, RFC 6455 section 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// completeAgreement gives a client of HTTP/1 the field by which it knows a server of WebSockets, if that server had none to give.
func completeAgreement(req *proxy.Request, resp *proxy.Response) {
	if !isWebSocket(req.Upgrade) || resp.Fields.Has(wsAccept) {
		return
	}
	if key := req.Fields.Get(wsKey); key != "" {
		resp.Fields.Add(wsAccept, acceptKey(key))
	}
}

// takeAgreement checks the answer to a key of newKey, which its client has not asked about.
func takeAgreement(key string, resp *proxy.Response) *badMessage {
	if resp.Fields.Get(wsAccept) != acceptKey(key) {
		return bad("101 (Switching Protocols) with a wrong Sec-WebSocket-Accept")
	}
	resp.Fields.Del(wsAccept)
	return nil
}
