package http3

import (
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/quic-go/quic-go"
)

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

// errRejected is what a request gets that comes once the peer has not taken early data, so that QUIC opens no stream any more. It is
// proxy.ErrNoStream too: another connection can take the request.
var errRejected error = &proxy.Error{Code: proxy.Refused, Detail: notTaken, Unsent: true, Err: rejected{}}

const notTaken = "the peer did not take what was sent before the handshake was complete"

type rejected struct{}

// Error says what QUIC does.
func (rejected) Error() string { return quic.Err0RTTRejected.Error() }

// Is reports what a rejection is.
func (rejected) Is(err error) bool { return err == quic.Err0RTTRejected || err == proxy.ErrNoStream }

// noStream is why no stream can be opened. mu is held.
func (c *Conn) noStream() error {
	if c.failed && errors.Is(c.err, quic.Err0RTTRejected) {
		return errRejected
	}
	return proxy.ErrNoStream
}
