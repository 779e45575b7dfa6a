package http3

import "github.com/pillion-proxy/pillion/proxy"

// EarlyDataField says that a request was, or may have been, sent before the handshake was complete. RFC 8470 section 5.1.
const EarlyDataField = "Early-Data"

// Replayable reports whether it does no harm if an attacker makes req run more than once, so that it may go in early data. RFC 8470 section
// 2.1: requests with safe methods (RFC 9110 section 9.2.1); here also only without content.
func Replayable(req *proxy.Request) bool {
	if req.Body != nil || req.Upgrade != "" {
		return false
	}
	switch req.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}
